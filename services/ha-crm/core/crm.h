/* The manager's decisions: which resource runs where, which node is fenced, who recovers what. */
#ifndef CRM_CORE_CRM_H
#define CRM_CORE_CRM_H

#include "atoll/ha/v1/state.pb-c.h"
#include "pure/arena.h"

/*
 * One look at everything, and what to do now. It remembers nothing: whoever loses a plan asks again.
 *
 * view   borrowed; the plan points into it. Its tree is one revision of the whole.
 * arena  the plan and all it points to live there
 *
 * What ha-lrm owes it: it lets its node's lock go only when no guest of a resource runs on the node that is
 * not frozen, ignored or in error; it answers an order (Service.command) only while it holds the lock.
 *
 * A lock is taken over, with as many of the node's guests as fit, in one transaction that compares lock and
 * beat; what did not fit follows in the next round, which compares the lock that is ours then.
 *
 * Equal views give equal bytes. Cost: nodes x (guests that must be placed) + guests. Never fails.
 */
Atoll__Ha__V1__ManagerPlan *crm_round(const Atoll__Ha__V1__ManagerView *view, struct atl_arena *arena);

#endif
