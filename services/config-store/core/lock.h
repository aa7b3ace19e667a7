/* Locks in the tree: the file .state/lock/NAME says who holds it and until when. Decides; the shell applies.
 */
#ifndef CFG_LOCK_H
#define CFG_LOCK_H

#include "core/tree.h"
#include "pure/arena.h"

enum { CFG_LOCK_NAME_MAX = 96, CFG_LOCK_OWNER_MAX = 120 };
#define CFG_LOCK_FOLDER ".state/lock/"

enum cfg_lock_verdict {
    CFG_LOCK_TAKE,    /* do the operation: it is (or stays) the caller's */
    CFG_LOCK_WAIT,    /* somebody else holds it until ret->expires_ms */
    CFG_LOCK_DROP,    /* do the operation: it is given back */
    CFG_LOCK_NOTHING, /* it is not the caller's: nothing to do */
};

struct cfg_lock_plan {
    enum cfg_lock_verdict verdict;
    int64_t expires_ms; /* CFG_LOCK_WAIT */
    struct cfg_op op;   /* CFG_LOCK_TAKE, CFG_LOCK_DROP; lives in the arena */
};

/* Letters, digits, '.', '_', '-'; 1 to 96 bytes. Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cfg_lock_check(const char *name, const char *owner, struct atl_error *err);

/* now_ms: wall clock. A lock that is over, or the owner's own, is taken. */
struct cfg_lock_plan cfg_lock_take(const struct cfg_tree *tree, const char *name, const char *owner,
                                   uint32_t ttl_ms, int64_t now_ms, struct atl_arena *arena);
/* Only the holder extends: CFG_LOCK_NOTHING when somebody else has taken it, or it is gone. */
struct cfg_lock_plan cfg_lock_renew(const struct cfg_tree *tree, const char *name, const char *owner,
                                    uint32_t ttl_ms, int64_t now_ms, struct atl_arena *arena);
struct cfg_lock_plan cfg_lock_release(const struct cfg_tree *tree, const char *name, const char *owner,
                                      struct atl_arena *arena);

#endif
