/* Moving guests so that nodes carry alike. */
#ifndef CRM_CORE_BALANCE_H
#define CRM_CORE_BALANCE_H

#include "core/crm_part.h"

/* One move a round at most, or advice, as the settings say. */
void crm_balance(struct crm_round *round);

#endif
