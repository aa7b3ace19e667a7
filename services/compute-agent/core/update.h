/*
 * Changing a configuration: what is set, taken away and reverted, what of it takes effect at once, what is to
 * be done to a running guest, and what waits in [PENDING] for the next start.
 */
#ifndef CMP_CORE_UPDATE_H
#define CMP_CORE_UPDATE_H

#include "core/config.h"

struct cmp_change {
    const Atoll__Qemu__V1__Config *set; /* may be NULL; new volumes are made already */
    const char *remove;                 /* "net1,scsi2", or NULL */
    const char *revert;                 /* names whose pending change is dropped, or NULL */
    const char *cold;                   /* names that are not to be tried on the running guest, or NULL */
    bool running;
    bool force; /* volumes of removed disks are freed instead of kept as unused */
};

enum cmp_hot_kind {
    CMP_HOT_DISK_ADD,
    CMP_HOT_DISK_REMOVE,
    CMP_HOT_MEDIUM, /* another medium in a CD drive */
    CMP_HOT_NET_ADD,
    CMP_HOT_NET_REMOVE,
    CMP_HOT_NET_CHANGE, /* link, bridge, rate: the device stays */
    CMP_HOT_CPU_LIMITS,
    CMP_HOT_KINDS,
};

enum { CMP_HOT_MAX = 96 };

/* What the shell does after (or for hot: before) the new file is written. */
struct cmp_update_plan {
    struct {
        enum cmp_hot_kind kind;
        const char *name; /* "scsi1"; for CPU_LIMITS "cpulimit" or "cpuunits" */
    } hot[CMP_HOT_MAX];
    size_t hot_count;
    const char **freed; /* volumes to remove once the file no longer names them */
    size_t freed_count;
    size_t freed_room;
};

const char *cmp_hot_to_text(enum cmp_hot_kind kind);

/*
 * Changes the file in place.
 *
 * Errors: ATL_E_INVALID a name that is no setting (field delete or revert), or errors of the result filled in
 * `errors`; ATL_E_STATE the guest is protected and a disk would go.
 */
ATL_MUST_CHECK enum atl_code cmp_update(struct cmp_file *file, const struct cmp_change *change,
                                        struct cmp_update_plan *plan, struct atl_errors *errors,
                                        struct atl_error *err);

/* Takes over what is pending, as a start does. */
void cmp_pending_apply(struct cmp_file *file, struct cmp_update_plan *plan);
bool cmp_pending_any(const struct cmp_file *file);

/* Keeps a volume that no drive names any more as the next free unused[n]; one that is there already stays. */
void cmp_unused_add(Atoll__Qemu__V1__Config *config, const char *volid, struct atl_arena *arena);

#endif
