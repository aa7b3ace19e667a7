/*
 * Moving a virtual machine to another node: what has to move, what speaks against it, and the domain as the
 * target has to start it. Pure (docs/decisions/0011).
 */
#ifndef CMP_CORE_MIGRATE_H
#define CMP_CORE_MIGRATE_H

#include "core/config.h"

/* What happens to a volume. */
enum cmp_move {
    CMP_MOVE_NONE,   /* both nodes see it */
    CMP_MOVE_COPY,   /* is sent while nobody uses it */
    CMP_MOVE_MIRROR, /* is mirrored while the guest writes */
    CMP_MOVE_REMAKE, /* made anew from the configuration: cloud-init */
};
const char *cmp_move_to_text(enum cmp_move move);

/* A volume that the guest's file names. Texts are borrowed from the file or live in the arena. */
struct cmp_move_volume {
    const char *name;  /* "scsi0", "unused1", "efidisk0" */
    const char *volid; /* "local:100/vm-100-disk-0.qcow2"; or a path of the host */
    const char *storage;
    bool cdrom;
    bool cloudinit;
    bool unused;
    bool pending;       /* only the configuration of the next start names it */
    bool is_path;       /* a file or device of the host, of no storage */
    bool said_shared;   /* `shared=1` at the drive: the operator vouches for it */
    uint64_t said_size; /* bytes, by the file; 0: unknown */
    /* what the storage-agent of the source tells */
    bool shared;
    const char *path;
    const char *format; /* "raw", "qcow2" */
    uint64_t size_bytes;
    uint64_t used_bytes; /* on its disk; 0: unknown */
    /* the plan */
    enum cmp_move move;
    const char *to_storage;
};

/* All volumes and host files, each once, in the order of the drives. The array lives in the arena. */
struct cmp_move_volume *cmp_move_volumes(const struct cmp_file *file, struct atl_arena *arena,
                                         size_t *ret_count);

/* Writes another volume id wherever the file names this one. */
void cmp_move_rename(struct cmp_file *file, const char *volid, const char *to);

/* Devices of the host the guest uses ("hostpci0", "usb1"), and mapped ones; NULL-terminated. */
const char **cmp_move_devices(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena);
const char **cmp_move_mapped(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena);
/* Bridges its interfaces are on, each once; NULL-terminated. */
const char **cmp_move_bridges(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena);

/* What is known of a storage of the target. */
struct cmp_move_storage {
    const char *storage;
    const char *content;
    bool usable;
    const char *reason;         /* when it is not */
    const char *const *formats; /* NULL-terminated */
    uint64_t avail_bytes;       /* 0: unknown */
};

struct cmp_move_node {
    const char *accel;     /* "kvm", "tcg" */
    const char *processor; /* of the machine, or NULL */
    const char *qemu_version;
};

struct cmp_move_input {
    uint32_t vmid;
    const struct cmp_file *file;
    bool running;
    bool online;
    bool force;
    bool with_local_disks;
    const char *storages; /* `targetstorage`, or NULL */
    struct cmp_move_volume *volumes;
    size_t volume_count;
    struct cmp_move_node source;
    /* what the target tells */
    struct cmp_move_node target;
    const char *const *missing_bridges; /* NULL-terminated */
    const struct cmp_move_storage *target_storages;
    size_t target_storage_count;
    bool runs_there;
    bool no_quorum;
};

/* Decides what happens to each volume and where it goes (move, to_storage). Faults in `targetstorage` and
 * volumes that cannot move go into errors. Needs nothing of the target. */
void cmp_move_plan(struct cmp_move_input *input, struct atl_arena *arena, struct atl_errors *errors);

/* Everything that would make it fail, after cmp_move_plan(): each fault names its parameter or device. */
void cmp_move_check(const struct cmp_move_input *input, struct atl_errors *errors);

/* --- the running guest ------------------------------------------------------------------------------------
 */

/* A text of the domain that is another one at the target; `from` a whole value, or (prefix) its beginning. */
struct cmp_move_text {
    const char *from;
    const char *to;
    bool prefix;
};

/* The domain of the source as one that waits for its state at the target. Values of attributes and elements
 * are replaced as said. Errors: ATL_E_INTERNAL it is no domain. */
ATL_MUST_CHECK enum atl_code cmp_move_xml(const char *xml, const struct cmp_move_text *texts, size_t count,
                                          struct atl_arena *arena, struct atl_buf *out,
                                          struct atl_error *err);

/* How long the guest may stand still, in ms, after so many rounds over its memory: more when it writes faster
 * than the link carries. base: what its configuration says. */
uint32_t cmp_move_downtime(uint32_t base_ms, uint64_t rounds);

/* The bandwidth in bytes/s: the least of the request's, the guest's (`migrate_speed`, MB/s) and the data
 * center's limit (`bwlimit: migration=KiB`, text of datacenter.cfg or NULL); 0: no limit. A request's 0 lifts
 * the data center's. */
uint64_t cmp_move_limit(bool given, uint64_t limit_kib_s, int64_t speed_mb_s, const char *datacenter);

#endif
