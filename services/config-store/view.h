/* The status view: what agents push, and the rows that /cluster/resources and its like show. */
#ifndef CFG_VIEW_H
#define CFG_VIEW_H

#include "cfg.h"
#include "core/status.h"

struct cfg_view *cfg_view_new(struct cfg *cfg);
void cfg_view_free(struct cfg_view **view);
struct cfg_status *cfg_view_status(struct cfg_view *view);

#endif
