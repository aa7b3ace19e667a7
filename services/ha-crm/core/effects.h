/* What the move of one resource means for others, by the rules of resource affinity. Pure. */
#ifndef CRM_CORE_EFFECTS_H
#define CRM_CORE_EFFECTS_H

#include "atoll/ha/v1/ha.pb-c.h"
#include "pure/arena.h"

/* The node where a resource's guest is; NULL: there is none. */
typedef const char *crm_where_fn(const char *sid, void *user);

/* Fills comigrated_resources (those that positive rules keep with it, and those with them) and
 * blocking_resources (those on that node that negative rules keep apart from any of these), by name. */
void crm_effects(Atoll__Ha__V1__Rule *const *rules, size_t count, crm_where_fn *where, void *user,
                 struct atl_arena *arena, Atoll__Ha__V1__MoveReply *reply);

#endif
