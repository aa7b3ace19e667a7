/*
 * Moves a tree into etcd: loaded under a fresh root, read back and compared, then made the current one by one
 * key. Until that last step the tree that was current stays as it was, and the move may be begun again from
 * the start, however it ended.
 */
#ifndef CFG_ETCD_MOVE_H
#define CFG_ETCD_MOVE_H

#include "drivers/shared.h"

enum cfg_move_step {
    CFG_MOVE_CLEANED, /* what an earlier attempt left is gone */
    CFG_MOVE_LOADING, /* after each part */
    CFG_MOVE_LOADED,
    CFG_MOVE_VERIFIED,
    CFG_MOVE_SWITCHED,
    CFG_MOVE_STEPS,
};

struct cfg_move_options {
    const struct cfg_shared_options *to;
    const struct cfg_engine_driver *driver; /* where the tree is; it is only read */
    void *engine;
    bool replace;   /* a tree that is in etcd already gives way (restore); else that is an error */
    atl_ns timeout; /* of all; 0: ten minutes */
    /* Told after each step; false ends the move there, as a crash would. May be NULL. */
    bool (*step)(enum cfg_move_step step, void *user);
    void *user;
};

/*
 * Blocks, running the loop of options->to. A move that was done already, and only not heard of, is found and
 * succeeds (unless replace).
 *
 * ret_epoch  out: of the tree in etcd
 * Errors: ATL_E_EXISTS etcd holds another tree; ATL_E_CONFLICT somebody else moves one, too; ATL_E_IO what
 * was read back differs; ATL_E_UNAVAILABLE etcd; ATL_E_CANCELLED step() said so; those of the source.
 */
ATL_MUST_CHECK enum atl_code cfg_etcd_move(const struct cfg_move_options *options, uint64_t *ret_epoch,
                                           struct atl_error *err);

#endif
