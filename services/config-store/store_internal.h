/* What store.c and store_shared.c know of each other. */
#ifndef CFG_STORE_INTERNAL_H
#define CFG_STORE_INTERNAL_H

#include "copy.h"
#include "store.h"

enum { CFG_QUEUE_MAX = 256, CFG_HOOKS_MAX = 8 };

struct cfg_queued { /* a transaction that was applied and waits for the commit */
    cfg_store_done_fn *fn;
    void *user;
    uint64_t number;
};

struct cfg_hook {
    cfg_store_change_fn *change;
    cfg_store_commit_fn *end;
    void *user;
};

struct cfg_store {
    struct atl_loop *loop;
    const struct cfg_engine_driver *driver;
    void *engine;
    struct cfg_tree tree;
    struct cfg_ring ring;
    struct cfg_batch batch;
    struct cfg_done done;
    struct cfg_queued queue[CFG_QUEUE_MAX];
    size_t queue_count;
    struct cfg_engine_request requests[CFG_QUEUE_MAX]; /* of the queue */
    size_t request_count;
    uint64_t committed;
    struct atl_timer *flush_timer;
    struct cfg_hook hooks[CFG_HOOKS_MAX];
    size_t hook_count;
    /* an engine that others write too; NULL: it is ours alone */
    const struct cfg_shared_driver *shared;
    void *shared_engine;
    struct cfg_turns *turns;
    struct cfg_copy *copy; /* of a cluster's tree on this node; NULL: none is kept */
    struct atl_timer *copy_timer;
    atl_ns copied; /* when the copy that was loaded was the cluster's tree, on the monotonic clock */
    struct cfg_pending *pending; /* transactions that are decided elsewhere */
    size_t pending_count;
    struct cfg_tree fresh; /* a listing on its way */
    bool listing;
    bool no_quorum; /* of members, whatever the engine says */
    bool loaded;    /* the engine has shown its tree */
};

struct cfg_pending;

/* The batch is in the tree for good: those who follow it hear of it. */
void cfg_store_tell(struct cfg_store *store);

/* store_shared.c */
ATL_MUST_CHECK enum atl_code cfg_shared_open(struct cfg_store *store, const struct cfg_store_options *options,
                                             struct atl_error *err);
void cfg_shared_close(struct cfg_store *store);
void cfg_shared_txn(struct cfg_store *store, const struct cfg_txn *txn, const uint8_t *request_id,
                    cfg_store_done_fn *fn, void *user);

#endif
