/*
 * The shell around the tree: transactions go in, one commit of the engine carries all that came in a round of
 * the loop, then those who asked are answered and those who watch are told. Nobody reads what is not on disk.
 */
#ifndef CFG_STORE_H
#define CFG_STORE_H

#include "core/done.h"
#include "core/ring.h"
#include "core/tree.h"
#include "drivers/engine.h"
#include "drivers/shared.h"
#include "io/bus.h"
#include "io/loop.h"
#include "turns.h"

struct cfg_store;

struct cfg_store_options {
    struct atl_loop *loop;
    const struct cfg_engine_driver *driver;
    struct cfg_engine_options engine;
    /* An engine that other nodes write too, instead of `driver`; NULL: none. */
    const struct cfg_shared_driver *shared;
    struct cfg_shared_options shared_options; /* a copy of the tree is kept in engine.state_dir, if given */
    atl_ns start_timeout;                     /* until it has shown its tree; 0: 30 s */
    atl_ns copy_timeout;                      /* then the copy is served, if there is one; 0: 3 s */
};

struct cfg_store_result {
    enum atl_code code;
    struct atl_error error;
    uint64_t number; /* revision behind it */
    bool repeated;   /* the request id had been done before */
    /* With ATL_E_CONFLICT: the first file the transaction touches that another node changed; borrowed.
     * NULL: a compare of the caller's own does not hold. */
    const char *changed;
};
typedef void cfg_store_done_fn(const struct cfg_store_result *result, void *user);

/* Opens the engine and loads the tree; a shared engine's answers are waited for, in the loop.
 * When it does not show one, the copy of the last one is served, until it does.
 * Errors: ATL_E_IO, ATL_E_LIMIT in use by another process; ATL_E_UNAVAILABLE no tree in time. */
ATL_MUST_CHECK enum atl_code cfg_store_open(const struct cfg_store_options *options,
                                            struct cfg_store **ret_store, struct atl_error *err);
/* Writes what is queued; answers that are still out are not given. */
void cfg_store_close(struct cfg_store **store);

/*
 * Does a transaction. fn is called exactly once: at once with an error, or after the commit.
 * request_id: CFG_DONE_ID_SIZE bytes, or NULL.
 */
void cfg_store_txn(struct cfg_store *store, const struct cfg_txn *txn, const uint8_t *request_id,
                   cfg_store_done_fn *fn, void *user);

/* The tree with nothing in it that is not on disk; writes what is queued first. Borrowed for the call. */
const struct cfg_tree *cfg_store_tree(struct cfg_store *store);
/* Waits until what is queued is decided and answered: for the start, before the loop runs. */
void cfg_store_settle(struct cfg_store *store);
/*
 * Calls fn when the tree shows all that was decided, by whichever node, before this call: at once with an
 * engine of our own. Errors: ATL_E_UNAVAILABLE no quorum.
 */
void cfg_store_confirm(struct cfg_store *store, cfg_shared_confirm_fn *fn, void *user);
/* How old the tree may be: 0 with an engine of our own. ret_writable: will changes be taken? */
atl_ns cfg_store_age(const struct cfg_store *store, bool *ret_writable);
/* Will nothing newer come for now? There is no quorum, and the engine has not confirmed the tree for three
 * seconds: one of them alone may be a service that starts again, and who needs a newer tree waits for it. */
bool cfg_store_frozen(const struct cfg_store *store);
/* How the store is, for /cluster/status. */
struct cfg_store_health {
    bool writable;
    /* Milliseconds since the tree was last known to be the cluster's, when that is not now: a few seconds are
     * now. 0: it is. */
    uint64_t age_ms;
    bool copied;                     /* what is read is this node's copy from before its start */
    struct cfg_shared_health engine; /* all zero with an engine of our own */
};
void cfg_store_health(const struct cfg_store *store, struct cfg_store_health *ret_health);
/* Where etcd's members are now: ADDRESS:PORT, with commas between. Does nothing with an engine of our own.
 * Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cfg_store_set_members(struct cfg_store *store, const char *endpoints,
                                                   struct atl_error *err);
/* The key of priv/ in that file is another now. Does nothing with an engine of our own.
 * Errors: ATL_E_IO, ATL_E_INVALID the file. */
ATL_MUST_CHECK enum atl_code cfg_store_rekey(struct cfg_store *store, const char *path,
                                             struct atl_error *err);
/* In which changes of user.cfg take turns; NULL: an engine of our own needs none. */
struct cfg_turns *cfg_store_turns(const struct cfg_store *store);
/* What the membership says: without a quorum changes are refused at once. Only for an engine that others
 * write too. */
void cfg_store_set_quorum(struct cfg_store *store, bool quorate);
/* The tree with what is queued: to prepare the next transaction on, never to answer from. */
const struct cfg_tree *cfg_store_ahead(const struct cfg_store *store);
const struct cfg_ring *cfg_store_ring(const struct cfg_store *store);
struct atl_revision cfg_store_revision(const struct cfg_store *store);

/* Called after each commit: once per change (in order, file NULL: gone), then once at the end. At most 8
 * each. */
typedef void cfg_store_change_fn(const char *path, const struct cfg_file *file, void *user);
typedef void cfg_store_commit_fn(void *user);
void cfg_store_on_commit(struct cfg_store *store, cfg_store_change_fn *change, cfg_store_commit_fn *end,
                         void *user);

#endif
