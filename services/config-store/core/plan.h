/*
 * What a transaction of the tree means for an engine that other nodes write too: which files must be as we
 * know them, and what is there afterwards. A file comes once, however often the transaction touched it.
 */
#ifndef CFG_PLAN_H
#define CFG_PLAN_H

#include "core/tree.h"
#include "pure/arena.h"

struct cfg_plan_compare {
    const char *path;
    uint64_t number; /* of its last change; 0: it must not be there */
};

struct cfg_plan_change {
    const char *path;
    const uint8_t *bytes; /* NULL: it is gone */
    size_t size;
};

struct cfg_plan_guest {
    uint32_t vmid;
    const char *path; /* NULL: the guest is gone */
    bool fresh;       /* nobody may have taken the id meanwhile */
};

struct cfg_plan {
    uint64_t epoch;
    struct cfg_plan_compare *compares;
    size_t compare_count;
    struct cfg_plan_change *changes;
    size_t change_count;
    struct cfg_plan_guest *guests;
    size_t guest_count;
    const char **no_files; /* folders of new files: no file may have these paths */
    size_t no_file_count;
    const char **no_folders; /* new files: nothing may stand below these paths */
    size_t no_folder_count;
    bool only_state; /* touches files below .state/ alone, or only removes: goes on when space is scarce */
};

/*
 * Plans a transaction on the tree, which is as before afterwards.
 *
 * arena     holds the plan, and copies of all it points to
 * ret_plan  out, on success only; without changes when the transaction has none
 * Errors: those of cfg_tree_apply().
 */
ATL_MUST_CHECK enum atl_code cfg_plan_make(struct cfg_tree *tree, const struct cfg_txn *txn,
                                           struct atl_arena *arena, struct cfg_plan *ret_plan,
                                           struct atl_error *err);

/* A deep copy of a transaction, for one that has to wait. */
void cfg_txn_copy(const struct cfg_txn *txn, struct atl_arena *arena, struct cfg_txn *ret_txn);

#endif
