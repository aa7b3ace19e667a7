/*
 * The tree in memory: path -> bytes, with revisions; transactions that are done whole or not at all.
 *
 * The tree decides (compares, limits, guest ids) and applies at once; what it applied is noted in a batch, so
 * that the shell can write it to the engine, and take it back if the engine fails. Files are immutable: a
 * change makes a new one. Nothing here reads a clock or a disk.
 */
#ifndef CFG_TREE_H
#define CFG_TREE_H

#include "core/path.h"

enum {
    CFG_FILE_BYTES_MAX = 1 << 20,
    CFG_TXN_OPS_MAX = 100,
    CFG_TXN_COMPARES_MAX = 100,
    CFG_TXN_BYTES_MAX = 1 << 20,
    CFG_FILES_MAX = 1000000,
};
#define CFG_TREE_BYTES_MAX ((uint64_t)512 << 20)

struct cfg_file {
    char *path;
    uint8_t *bytes; /* a NUL that is not counted stands behind them */
    size_t size;
    uint64_t number; /* revision of the last change, within the tree's epoch */
};

struct cfg_guest { /* one guest id of the tree */
    uint32_t vmid;
    const struct cfg_file *file;
};

struct cfg_tree {
    struct cfg_file **files; /* sorted by path */
    size_t count;
    size_t room;
    struct cfg_guest *guests; /* sorted by id */
    size_t guest_count;
    size_t guest_room;
    uint64_t bytes; /* paths and contents */
    uint64_t bytes_max;
    uint64_t epoch;
    uint64_t number;
};

/* One change that was applied; the batch owns whichever file the tree does not hold. */
struct cfg_change {
    struct cfg_file *old; /* NULL: it was not there */
    struct cfg_file *new; /* NULL: it is gone */
    uint64_t number;      /* revision that made it */
};

struct cfg_batch {
    struct cfg_change *changes;
    size_t count;
    size_t room;
};

enum cfg_compare_kind { CFG_AT_REVISION, CFG_ABSENT, CFG_EXISTS };
struct cfg_compare {
    enum cfg_compare_kind kind;
    const char *path;
    uint64_t epoch;
    uint64_t number;
};

enum cfg_op_kind { CFG_PUT, CFG_DELETE, CFG_RENAME };
struct cfg_op {
    enum cfg_op_kind kind;
    const char *path;
    const char *to;       /* CFG_RENAME */
    const uint8_t *bytes; /* CFG_PUT; copied */
    size_t size;
};

struct cfg_txn {
    const struct cfg_compare *compares;
    size_t compare_count;
    const struct cfg_op *ops;
    size_t op_count;
};

/* All zero but bytes_max is a valid empty tree; init sets that. */
void cfg_tree_init(struct cfg_tree *tree, uint64_t epoch);
void cfg_tree_done(struct cfg_tree *tree);

/* A file as it comes from the engine at start; duplicate guest ids and bad paths are refused.
 * Errors: ATL_E_INVALID, ATL_E_EXISTS, ATL_E_LIMIT. */
ATL_MUST_CHECK enum atl_code cfg_tree_load(struct cfg_tree *tree, const char *path, const void *bytes,
                                           size_t size, uint64_t number, struct atl_error *err);

/*
 * A change that was decided elsewhere: nothing is checked, the batch gets it.
 *
 * bytes   NULL: the file is gone, if it was there
 * number  revision of the file
 * at      revision of the change, for those who follow the tree; not below that of the change before
 */
struct cfg_fed {
    const char *path;
    const void *bytes;
    size_t size;
    uint64_t number;
    uint64_t at;
};
void cfg_tree_feed(struct cfg_tree *tree, const struct cfg_fed *fed, struct cfg_batch *batch);

const struct cfg_file *cfg_tree_get(const struct cfg_tree *tree, const char *path);
/* Index of the first file whose path is not before `path`. */
size_t cfg_tree_seek(const struct cfg_tree *tree, const char *path);

/*
 * Does a transaction: all of it, or nothing. A transaction with operations raises tree->number by one.
 * batch: what was changed is appended.
 * Errors: ATL_E_CONFLICT a compare does not hold; ATL_E_EXISTS guest id or target in use; ATL_E_ABSENT
 * nothing to delete or rename; ATL_E_INVALID path; ATL_E_LIMIT sizes.
 */
ATL_MUST_CHECK enum atl_code cfg_tree_apply(struct cfg_tree *tree, const struct cfg_txn *txn,
                                            struct cfg_batch *batch, struct atl_error *err);

/* The batch is on disk: what it replaced is freed, it is empty afterwards. */
void cfg_batch_keep(struct cfg_batch *batch);
/* The engine failed: takes back all changes, newest first; the revision is `number` again. */
void cfg_batch_undo(struct cfg_batch *batch, struct cfg_tree *tree, uint64_t number);
void cfg_batch_done(struct cfg_batch *batch); /* empty batches only */

/* The guest's file, or NULL. */
const struct cfg_file *cfg_tree_guest(const struct cfg_tree *tree, uint32_t vmid);
/* The lowest free guest id from `low` to `high`, or 0. */
uint32_t cfg_tree_next_id(const struct cfg_tree *tree, uint32_t low, uint32_t high);

#endif
