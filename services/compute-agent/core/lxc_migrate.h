/* Moving a container to another node: its volumes, what happens to each, and what speaks against it. Pure. */
#ifndef CMP_CORE_LXC_MIGRATE_H
#define CMP_CORE_LXC_MIGRATE_H

#include "core/lxc_doc.h"

/* A volume or folder of the host that the file names. Texts live in the file's arena. */
struct cmp_lxc_move {
    const char *name;  /* "rootfs", "mp0", "unused1" */
    const char *volid; /* "local:101/vm-101-disk-0.raw", or a path of the host */
    bool said_shared;  /* `shared=1`: the operator vouches for it */
    /* what the storage-agent tells of a volume */
    bool shared;
    const char *format; /* NULL: nothing was asked */
    uint64_t size_bytes;
    uint64_t used_bytes;
    /* the plan */
    const char *storage; /* NULL: a path */
    bool copy;
    const char *to_storage;
    /* what came of it */
    const char *to_volid; /* NULL: as before */
};

/* All of them, each once: of what holds now, of changes that wait, of snapshots. */
struct cmp_lxc_move *cmp_lxc_moves(const struct cmp_lxc_doc *doc, size_t *ret_count);

/* Does any volume have to be asked for at the storage-agent? Not a path of the host. */
bool cmp_lxc_move_is_volume(const struct cmp_lxc_move *move);

/* Decides what is copied, and where to. Needs nothing of the target. */
void cmp_lxc_move_plan(uint32_t vmid, const char *map, struct cmp_lxc_move *moves, size_t count,
                       struct atl_arena *arena, struct atl_errors *errors);

/* What is known of a storage of the target, with the content `rootdir`. */
struct cmp_lxc_move_storage {
    const char *storage;
    bool usable;
    const char *reason;         /* when it is not */
    const char *const *formats; /* NULL-terminated */
    uint64_t avail_bytes;       /* 0: unknown */
};
struct cmp_lxc_move_target {
    const char *const *missing_bridges;
    size_t missing_count;
    bool running;      /* a guest of that id runs there */
    bool other_engine; /* it runs containers otherwise than we do */
    const struct cmp_lxc_move_storage *storages;
    size_t storage_count;
};
/* Everything that would make it fail, each fault with its device or parameter. */
void cmp_lxc_move_check(const struct cmp_lxc_doc *doc, const struct cmp_lxc_move *moves, size_t count,
                        const struct cmp_lxc_move_target *target, struct atl_errors *errors);

/* Bridges its interfaces are on, each once; NULL-terminated. */
const char **cmp_lxc_move_bridges(const struct cmp_lxc_doc *doc);

/* Writes the new volume ids wherever the file names the old ones, and takes the lock off: the file as the
 * target's. */
void cmp_lxc_move_rewrite(struct cmp_lxc_doc *doc, const struct cmp_lxc_move *moves, size_t count);

#endif
