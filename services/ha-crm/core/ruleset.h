/* The rules that can be kept, as placing guests needs them. */
#ifndef CRM_CORE_RULESET_H
#define CRM_CORE_RULESET_H

#include "core/crm_part.h"

/* Also where each resource is to be counted from now on (crm_aim()). */
void crm_ruleset_look(struct crm_round *round);

#endif
