/* The local agent's decisions: holds the node's lock, feeds the watchdog, has the manager's orders carried
 * out. */
#ifndef LRM_LRM_H
#define LRM_LRM_H

#include "atoll/ha/v1/state.pb-c.h"
#include "pure/arena.h"

/*
 * One look at everything, and what to do now. It remembers nothing: whoever loses a plan asks again.
 *
 * view   borrowed; the plan points into it. Its tree is one revision of the whole (see LrmView).
 * arena  the plan and all it points to live there
 *
 * What the shell owes it, in this order:
 *   plan->feed_until_ms  handed to the multiplexer, which looks at the clock last
 *   plan->arm, disarm    told to the multiplexer; its answer is `armed` of a later view
 *   plan->lock_txn       sent, and nothing else about the lock until its answer is known or given up
 *   plan->job            given to compute-agent, and seen as busy from then on
 *   plan->report_txn     sent; one at a time
 *
 * Equal views give equal bytes. Cost: linear in the services of the node. Never fails.
 */
Atoll__Ha__V1__LrmPlan *lrm_round(const Atoll__Ha__V1__LrmView *view, struct atl_arena *arena);

#endif
