/*
 * Guests under high availability change only while their node holds its lock: what a transaction of an agent
 * must compare beside what it says itself. So a node that has lost its lock, and does not know it yet,
 * changes nothing any more. Pure.
 */
#ifndef CFG_HA_GUARD_H
#define CFG_HA_GUARD_H

#include "core/tree.h"
#include "pure/arena.h"

struct cfg_ha_guarded {
    struct cfg_compare *compares; /* those of the transaction, and ours behind them; in the arena */
    size_t count;
};

/*
 * For each guest's file that the transaction writes, takes away or moves, if the guest is a resource that is
 * not ignored: the locks of its node, and of the node where it goes, must stay as they are.
 *
 * Errors: ATL_E_STATE the manager holds one of them and recovers the guests; a guest that may run is to move
 * to a node that holds no lock or whose watchdog does not run. ATL_E_LIMIT too many compares.
 */
ATL_MUST_CHECK enum atl_code cfg_ha_guard(const struct cfg_tree *tree, const struct cfg_txn *txn,
                                          struct atl_arena *arena, struct cfg_ha_guarded *ret_guarded,
                                          struct atl_error *err);

#endif
