/* The status view: what agents push, and the rows that /cluster/resources and its like show. */
#ifndef CFG_VIEW_H
#define CFG_VIEW_H

#include "cfg.h"
#include "core/status.h"

struct cfg_view *cfg_view_new(struct cfg *cfg);
void cfg_view_free(struct cfg_view **view);
/* Another node is there, or is not, as the cluster's membership says. */
void cfg_view_member(struct cfg_view *view, const char *node, bool online);
struct cfg_status *cfg_view_status(struct cfg_view *view);

#endif
