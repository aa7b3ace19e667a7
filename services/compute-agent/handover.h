/*
 * The moment in which a guest that stands still becomes another node's: one transaction renames its file, if
 * nobody has changed it since it was read with the lock "migrate". The tree decides alone: whoever does not
 * know how that ended asks it, and puts an end to it by writing the file anew, after which an older hand-over
 * cannot come through any more.
 */
#ifndef CMP_HANDOVER_H
#define CMP_HANDOVER_H

#include "io/mirror.h"
#include "io/task.h"
#include "pure/buf.h"

struct cmp_handover {
    struct atl_task *task;
    struct atl_arena *arena;
    char source[200]; /* "nodes/n1/lxc/101.conf" */
    char target[200];
    /* Has the file the lock "migrate"? */
    bool (*locked)(const struct atl_file *file, struct atl_arena *arena);
};

enum cmp_side {
    CMP_SIDE_SOURCE,  /* the guest is the source's for good; the lock is on, for whoever puts things in order
                       */
    CMP_SIDE_SETTLED, /* the same, and the lock is off: it was put in order, or is gone altogether */
    CMP_SIDE_TARGET,
};

/* folder: "lxc", "qemu-server". */
void cmp_handover_init(struct cmp_handover *handover, const char *folder, const char *source,
                       const char *target, uint32_t vmid);

/* The file at the source as the tree has it now, past any copy; the bytes live in the arena. Errors: it is
 * not known (no quorum, nobody answers). */
ATL_MUST_CHECK enum atl_code cmp_handover_read(const struct cmp_handover *handover, bool *ret_found,
                                               struct atl_file *ret_file, struct atl_error *err);

/* Renames the file, which had that revision, and gives it that text. Errors: ATL_E_CONFLICT somebody changed
 * it; any other: ask cmp_handover_settle(), it may have been done all the same. */
ATL_MUST_CHECK enum atl_code cmp_handover_commit(const struct cmp_handover *handover,
                                                 struct atl_revision revision, const struct atl_buf *text,
                                                 struct atl_error *err);

/* Whose is it? Ends what may still be under way, and goes on asking until the tree has told (no quorum: that
 * may take long, which is told in the log); then it is final. */
enum cmp_side cmp_handover_settle(const struct cmp_handover *handover);

#endif
