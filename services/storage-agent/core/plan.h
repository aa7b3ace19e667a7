/* What an allocation makes: name, format, rounded size, and where it goes below the storage's folder. */
#ifndef STO_CORE_PLAN_H
#define STO_CORE_PLAN_H

#include "core/config.h"

#define STO_SIZE_MAX ((uint64_t)1 << 50) /* 1 PiB: more than any file system here takes */
enum { STO_DISKS_MAX = 16384 };          /* disk numbers of one guest */

enum sto_purpose { STO_FOR_IMAGES, STO_FOR_ROOTDIR, STO_FOR_CLOUDINIT };

struct sto_wish {
    uint32_t vmid;
    enum sto_purpose purpose;
    const char *format; /* NULL: the storage's own, or that of the name's ending */
    const char *name;   /* "vm-100-disk-7.qcow2" or without ending; NULL: the next free one */
    uint64_t size_bytes;
};

struct sto_plan {
    struct sto_volume volume; /* storage filled in; file empty when the name is still to be found */
    uint64_t size_bytes;
    bool next_free; /* take the lowest free disk number */
};

/*
 * Decides; does not look at the disk. Errors, all with the parameter's name: ATL_E_INVALID name is not of
 * this guest ("illegal name 'x' - should be 'vm-100-*'"), format the storage cannot make, size 0 or too
 * large.
 */
ATL_MUST_CHECK enum atl_code sto_plan_alloc(const struct sto_storage *storage, const struct sto_wish *wish,
                                            struct sto_plan *ret_plan, struct atl_error *err);

/* Names the plan's volume as disk number `disk`. */
void sto_plan_name(struct sto_plan *plan, uint32_t disk);

/* Which disk numbers of a guest are taken, by the names of its files. */
struct sto_disks {
    uint8_t taken[STO_DISKS_MAX / 8];
};
void sto_disks_note(struct sto_disks *disks, uint32_t vmid, const char *file);
/* The lowest number that is free, from `from` on. Errors: ATL_E_LIMIT. */
ATL_MUST_CHECK enum atl_code sto_disks_next(const struct sto_disks *disks, uint32_t from, uint32_t *ret_disk,
                                            struct atl_error *err);

/* "1024" (KiB), "512M", "32G". Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code sto_size_parse(const char *text, uint64_t *ret_bytes, struct atl_error *err);

/* Rounds up to what the format can hold: 512 bytes. */
uint64_t sto_size_round(uint64_t size_bytes);

/* Folder of a volume below the storage's path: "images/100", "template/iso". NULL: it has none. */
const char *sto_volume_folder(const struct sto_storage *storage, const struct sto_volume *volume,
                              struct atl_arena *arena);
/* Absolute path of a volume, or NULL. */
const char *sto_volume_path(const struct sto_storage *storage, const struct sto_volume *volume,
                            struct atl_arena *arena);

/* What a volume is for a caller who asks for that content: a raw disk may be a VM's or a container's. */
enum sto_content sto_volume_shown_as(const struct sto_volume *volume, bool owner_is_container);

/* Whether a guest configuration mentions that volume id as a value's first part ("scsi0: ID,size=..."),
 * also in snapshots and unused entries. */
bool sto_config_mentions(const char *text, size_t length, const char *volid);

#endif
