/*
 * Locks in the tree, with an owner and an end: whoever changes a guest holds "guest-ID" meanwhile.
 *
 * A lock is the file .state/lock/NAME. A transaction that compares its revision (atl_txn_compare(txn,
 * lock->path, lock->revision)) is done only while the lock is still held. A holder that dies loses it after
 * the ttl.
 */
#ifndef ATL_IO_TREELOCK_H
#define ATL_IO_TREELOCK_H

#include "io/bus.h"

struct atl_treelock {
    char name[128];
    char owner[128];
    char path[160];
    uint32_t ttl_ms;
    struct atl_revision revision; /* changes with every renewal */
    bool held;
};

/*
 * Waits for the lock up to `wait`, and takes it for ttl_ms (1 s to 1 h). For programs that may block (task
 * workers, tools). owner: "compute-agent@pve1/PID"; what is unique to this holder is added.
 * Errors: ATL_E_CONFLICT "can't lock file '/var/lock/...' - got timeout" as clients know it (for guest-ID),
 * else "can't lock NAME - got timeout".
 */
ATL_MUST_CHECK enum atl_code atl_treelock_wait(struct atl_bus *bus, const char *name, const char *owner,
                                               uint32_t ttl_ms, atl_ns wait, struct atl_treelock *ret_lock,
                                               struct atl_error *err);
ATL_MUST_CHECK enum atl_code atl_treelock_renew_wait(struct atl_bus *bus, struct atl_treelock *lock,
                                                     struct atl_error *err);
void atl_treelock_release_wait(struct atl_bus *bus,
                               struct atl_treelock *lock); /* not held: nothing happens */

/* For services with a loop: fn is called once, with held or with the error. The lock is borrowed until then.
 */
typedef void atl_treelock_fn(struct atl_treelock *lock, const struct atl_error *err, void *user);
void atl_treelock_take(struct atl_bus *bus, const char *name, uint32_t ttl_ms, atl_ns wait,
                       struct atl_treelock *lock, atl_treelock_fn *fn, void *user);
void atl_treelock_release(struct atl_bus *bus, struct atl_treelock *lock);

#endif
