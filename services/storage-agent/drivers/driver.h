/*
 * What a kind of storage can do. One const table per kind; a new kind is a new file and a line in
 * sto_drivers.c.
 *
 * All functions block and run in threads of the pool, several at once also for one storage; they keep no
 * state of their own. `storage` is borrowed and was found usable (sto_storage_usable()).
 */
#ifndef STO_DRIVERS_DRIVER_H
#define STO_DRIVERS_DRIVER_H

#include "core/image.h"
#include "core/plan.h"

void sto_close_fd(int *fd); /* sets it to -1; -1 is fine */
#define STO_CLOSE_AT_EXIT ATL_CLEANUP(sto_close_fd)

/* Looks into an open file; the format says how. Errors: ATL_E_INVALID, ATL_E_IO. */
ATL_MUST_CHECK enum atl_code sto_read_image(int fd, enum sto_format format, struct sto_image *ret_image,
                                            struct atl_error *err);

struct sto_fill {
    uint64_t total_bytes;
    uint64_t used_bytes;
    uint64_t avail_bytes;
};

struct sto_info {
    uint64_t size_bytes; /* as a guest sees it; 0 for a subvol */
    uint64_t used_bytes; /* on the disk */
    int64_t ctime;       /* wall clock, seconds */
    bool protected;
    char notes[1024]; /* of backups; else empty */
};

/* A volume being made: its name is taken, its bytes are not visible under it before the commit. */
struct sto_slot {
    struct sto_volume volume;
    char folder[STO_PATH_MAX];       /* below the storage's path */
    char temporary[STO_ID_MAX + 64]; /* file name in that folder */
    int fd;                          /* the bytes, open for reading and writing; of a subvol its folder */
    bool reserved;                   /* the name is taken on the disk */
};

/* Return false to end the list. info is NULL when the volume could not be looked into. */
typedef bool sto_list_fn(const struct sto_volume *volume, const struct sto_info *info, void *user);

struct sto_fs_options {
    const char *filesystem; /* "ext4", or NULL: none */
    uint32_t root_id;
};

struct sto_driver {
    const char *type;
    /* Makes folders that are missing, if the storage says so. Errors: ATL_E_STATE "storage 'x' is not active:
     * ..." */
    enum atl_code (*activate)(const struct sto_storage *storage, struct atl_error *err);
    enum atl_code (*fill)(const struct sto_storage *storage, struct sto_fill *ret_fill,
                          struct atl_error *err);
    /* vmid 0: of any owner; content STO_CONTENTS: of any kind. */
    enum atl_code (*list)(const struct sto_storage *storage, enum sto_content content, uint32_t vmid,
                          sto_list_fn *fn, void *user, struct atl_error *err);
    /* Errors: ATL_E_ABSENT. */
    enum atl_code (*look)(const struct sto_storage *storage, const struct sto_volume *volume,
                          struct sto_info *ret_info, struct atl_error *err);
    /* The volume's bytes for reading (of a subvol: its folder), as a descriptor that the caller closes.
     * Errors: ATL_E_ABSENT. */
    enum atl_code (*open)(const struct sto_storage *storage, const struct sto_volume *volume, int *ret_fd,
                          struct atl_error *err);
    /* Makes an empty volume whole. ret_volume is named. Errors: ATL_E_EXISTS, ATL_E_LIMIT no space, ATL_E_IO.
     */
    enum atl_code (*alloc)(const struct sto_storage *storage, const struct sto_plan *plan,
                           const struct sto_fs_options *fs, struct sto_volume *ret_volume,
                           struct atl_error *err);
    /* Takes the plan's name and opens a temporary file (for a subvol: folder) for its bytes. */
    enum atl_code (*reserve)(const struct sto_storage *storage, const struct sto_plan *plan,
                             struct sto_slot *ret_slot, struct atl_error *err);
    /* Opens a temporary file for bytes whose name is not known yet. */
    enum atl_code (*receive)(const struct sto_storage *storage, struct sto_slot *ret_slot,
                             struct atl_error *err);
    /* Opens a received file again, in a task's worker, and locks it so that sweep() leaves it alone.
     * Errors: ATL_E_ABSENT it is gone. */
    enum atl_code (*resume)(const struct sto_storage *storage, struct sto_slot *slot, struct atl_error *err);
    /* Makes the slot's bytes durable and visible as slot->volume; closes it. Of a received file the volume is
     * set before, and one of that name is replaced. Failed: the slot still needs drop(). */
    enum atl_code (*commit)(const struct sto_storage *storage, struct sto_slot *slot, struct atl_error *err);
    /* Leaves nothing of the slot behind; closes it. */
    void (*drop)(const struct sto_storage *storage, struct sto_slot *slot);
    /* Gone already: success. Errors: ATL_E_STATE it is protected. */
    enum atl_code (*remove)(const struct sto_storage *storage, const struct sto_volume *volume,
                            bool *ret_was_there, struct atl_error *err);
    enum atl_code (*grow)(const struct sto_storage *storage, const struct sto_volume *volume,
                          uint64_t size_bytes, uint64_t *ret_size, struct atl_error *err);
    /* NULL: unchanged. */
    enum atl_code (*mark)(const struct sto_storage *storage, const struct sto_volume *volume,
                          const char *notes, const bool *protected, struct atl_error *err);
    /* Removes what slots of this node left when the agent was killed. */
    void (*sweep)(const struct sto_storage *storage);
};

/* NULL: none for that type. */
const struct sto_driver *sto_driver_find(const char *type);

/* The driver for a storage. Errors: ATL_E_UNIMPLEMENTED. */
ATL_MUST_CHECK enum atl_code sto_driver_need(const struct sto_storage *storage,
                                             const struct sto_driver **ret_driver, struct atl_error *err);

/* Name of this node, part of the names of temporary files; set once at the start. */
void sto_driver_set_node(const char *node);
const char *sto_driver_node(void);

extern const struct sto_driver sto_driver_dir;

#endif
