/* The disks and drives of a virtual machine, over all its buses. */
#ifndef CMP_CORE_DRIVE_H
#define CMP_CORE_DRIVE_H

#include "atoll/qemu/v1/qemu.pb-c.h"
#include "pure/arena.h"
#include "pure/error.h"

enum cmp_bus { CMP_IDE, CMP_SATA, CMP_SCSI, CMP_VIRTIO, CMP_BUSES };

/* As in parameters: "ide", "sata", "scsi", "virtio". */
const char *cmp_bus_to_text(enum cmp_bus bus);

struct cmp_drive {
    enum cmp_bus bus;
    uint32_t index;
    char name[12];                 /* "scsi0" */
    Atoll__Qemu__V1__Drive *drive; /* borrowed from the configuration */
};

/* All drives, in the order ide, sata, scsi, virtio, each by index. The array lives in the arena. */
struct cmp_drive *cmp_drives(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena,
                             size_t *ret_count);

/* The drive of that name ("scsi0"), or NULL. */
Atoll__Qemu__V1__Drive *cmp_drive_find(const Atoll__Qemu__V1__Config *config, const char *name);

/* "scsi12" -> bus and index; false when the name is no drive's. */
bool cmp_drive_name(const char *name, enum cmp_bus *ret_bus, uint32_t *ret_index);

bool cmp_drive_is_cdrom(const Atoll__Qemu__V1__Drive *drive);
/* The drive that holds cloud-init's data: "STORE:cloudinit" before it is made, "...vm-100-cloudinit" after.
 */
bool cmp_drive_is_cloudinit(const Atoll__Qemu__V1__Drive *drive);
/* Does it name a volume of a storage ("STORE:NAME")? Not "none", "cdrom" or a path. */
bool cmp_drive_has_volume(const Atoll__Qemu__V1__Drive *drive);

/*
 * A volume that is still to be made: "STORE:SIZE" (GiB), "STORE:0,import-from=X", "STORE:cloudinit".
 * storage is written into the given array.
 */
struct cmp_new_volume {
    char storage[101];
    uint64_t size_bytes; /* 0: import or cloudinit */
    bool cloudinit;
    const char *import_from; /* borrowed, or NULL */
};
bool cmp_drive_is_new(const Atoll__Qemu__V1__Drive *drive, struct cmp_new_volume *ret_volume);

/* The storage of a volume id, cut off at the colon; false when the text is no volume id. */
bool cmp_volume_storage(const char *volid, char *storage, size_t size);

/*
 * "32G", "512M", "1.5T", "1024" (bytes) -> bytes. Errors: ATL_E_INVALID naming field; ATL_E_RANGE past 1 EiB.
 */
ATL_MUST_CHECK enum atl_code cmp_size_parse(const char *text, const char *field, uint64_t *ret_bytes,
                                            struct atl_error *err);
/* The shortest exact text ("32G", "528K", "1000"); 24 bytes are enough. */
void cmp_size_format(uint64_t bytes, char *text, size_t size);

#endif
