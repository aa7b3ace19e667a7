/*
 * A copy in memory of chosen parts of the tree, kept up to date through config-store's Watch; and
 * transactions.
 *
 * What every service reads its configuration from: reads are local and never wait. When config-store is away,
 * the last copy stays and the mirror goes on trying. All functions belong to the loop's thread.
 */
#ifndef ATL_IO_MIRROR_H
#define ATL_IO_MIRROR_H

#include "atoll/store/v1/store.pb-c.h"
#include "io/bus.h"
#include "pure/arena.h"

struct atl_mirror;

struct atl_file {
    const char *path;
    const char *bytes; /* terminated by a NUL that is not counted */
    size_t size;
    struct atl_revision revision; /* of its last change: what atl_txn_compare() wants */
};

/* file: as it is now, or NULL when it is gone; borrowed for the call. */
typedef void atl_mirror_file_fn(const char *path, const struct atl_file *file, void *user);
typedef void atl_mirror_batch_fn(void *user);

/*
 * Starts to copy what is below the prefixes ("nodes/pve1/", "user.cfg"; NULL-terminated, copied; at most 16).
 * Returns at once: until atl_mirror_ready() the copy is empty. Never NULL.
 */
struct atl_mirror *atl_mirror_open(struct atl_bus *bus, const char *const *prefixes);
void atl_mirror_close(struct atl_mirror **mirror);

bool atl_mirror_ready(const struct atl_mirror *mirror);
struct atl_revision atl_mirror_revision(const struct atl_mirror *mirror);
/* config-store has no quorum: nothing newer comes to it, nor to us. */
bool atl_mirror_frozen(const struct atl_mirror *mirror);

/* Borrowed until the next round of the loop; NULL if there is none. */
const struct atl_file *atl_mirror_get(const struct atl_mirror *mirror, const char *path);
/* Calls fn for each file below the prefix, in the order of the paths. */
void atl_mirror_each(const struct atl_mirror *mirror, const char *prefix, atl_mirror_file_fn *fn, void *user);

/* Calls fn for every file that appears, changes or goes, from now on (after a lost connection: only for those
 * that differ). At most 16. */
void atl_mirror_on_change(struct atl_mirror *mirror, const char *prefix, atl_mirror_file_fn *fn, void *user);
/* Calls fn once after each batch of changes, and when the first copy is complete. At most 16. */
void atl_mirror_on_batch(struct atl_mirror *mirror, atl_mirror_batch_fn *fn, void *user);

/* --- transactions
 * ------------------------------------------------------------------------------------------- */

enum { ATL_TXN_OPERATIONS = 100, ATL_TXN_COMPARES = 100 };

/*
 * A transaction being put together. Embedded; begin with atl_txn_init(). Texts and bytes are copied.
 * When it is sent again after a lost connection it carries the same request id, and config-store does it
 * once.
 */
struct atl_txn {
    struct atl_arena arena;
    Atoll__Store__V1__TxnRequest request;
    Atoll__Store__V1__Compare *compares[ATL_TXN_COMPARES];
    Atoll__Store__V1__Operation *operations[ATL_TXN_OPERATIONS];
    bool overflow; /* too many parts: sending fails with ATL_E_LIMIT */
};

#define ATL_TXN_AT_EXIT ATL_CLEANUP(atl_txn_done)
void atl_txn_init(struct atl_txn *txn);
void atl_txn_done(struct atl_txn *txn);

/* The file's last change is that revision (atl_file.revision): nobody changed it since it was read. */
void atl_txn_compare(struct atl_txn *txn, const char *path, struct atl_revision revision);
void atl_txn_absent(struct atl_txn *txn, const char *path);
void atl_txn_exists(struct atl_txn *txn, const char *path);
void atl_txn_put(struct atl_txn *txn, const char *path, const void *bytes, size_t size);
/* The file of a new guest, which joins that pool; NULL: none. Fails with ATL_E_ABSENT without the pool. */
void atl_txn_put_guest(struct atl_txn *txn, const char *path, const void *bytes, size_t size,
                       const char *pool);
void atl_txn_delete(struct atl_txn *txn, const char *path);
void atl_txn_rename(struct atl_txn *txn, const char *path, const char *to);

struct atl_txn_result {
    enum atl_code code; /* ATL_E_CONFLICT: a compare did not hold; ATL_E_EXISTS: guest id in use ... */
    struct atl_error error;
    struct atl_revision revision; /* of the tree after it */
};
typedef void atl_txn_fn(const struct atl_txn_result *result, void *user);

/* Sends; the transaction may be thrown away at once. deadline from now, 0: 30 s. fn is called exactly once.
 */
void atl_txn_send(struct atl_bus *bus, const struct atl_txn *txn, atl_ns deadline, atl_txn_fn *fn,
                  void *user);
/* The same for programs without a loop of their own (task workers, tools). */
ATL_MUST_CHECK enum atl_code atl_txn_send_wait(struct atl_bus *bus, const struct atl_txn *txn,
                                               atl_ns deadline, struct atl_revision *ret_revision,
                                               struct atl_error *err);

/* Reads one file past any copy, for programs without a loop of their own; bytes live in the arena.
 * Errors: ATL_E_ABSENT. */
ATL_MUST_CHECK enum atl_code atl_store_get_wait(struct atl_bus *bus, const char *path,
                                                struct atl_arena *arena, struct atl_file *ret_file,
                                                struct atl_error *err);

#endif
