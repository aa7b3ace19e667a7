/* The values of rootfs and mp[n]: what they mean, sizes, names of volumes, paths, MAC addresses. Pure. */
#ifndef CMP_LXC_VOLUME_H
#define CMP_LXC_VOLUME_H

#include "pure/arena.h"
#include "pure/error.h"

enum cmp_lxc_volume_kind {
    CMP_LXC_VOLUME_NEW, /* "local:8": a new volume of 8 GiB; "local:0": a folder without a limit */
    CMP_LXC_VOLUME_OLD, /* "local:101/vm-101-disk-0.raw", "lvm:vm-101-disk-0" */
    CMP_LXC_HOST_PATH,  /* "/srv/data" */
    CMP_LXC_VOLUME_BAD,
};

enum cmp_lxc_volume_kind cmp_lxc_volume_kind(const char *volume);

/*
 * "STORE:SIZE" -> store and size in bytes, rounded up to MiB. SIZE is in GiB and may have a fraction.
 * Errors: ATL_E_INVALID, field names the parameter.
 */
ATL_MUST_CHECK enum atl_code cmp_lxc_volume_new(const char *volume, const char *field,
                                                struct atl_arena *arena, const char **ret_store,
                                                uint64_t *ret_bytes, struct atl_error *err);

/* The store of a volume id ("local"), or NULL. */
const char *cmp_lxc_volume_store(const char *volume, struct atl_arena *arena);

/* Does the volume belong to that guest by its name (vm-101-..., subvol-101-..., base-101-...)? */
bool cmp_lxc_volume_owned(const char *volume, uint32_t vmid);

/* "8G", "512M", "100" (bytes) -> bytes; 0 when it is no size. */
uint64_t cmp_lxc_size_bytes(const char *text);
/* The shortest exact form: "8G", "512M", "1000K". */
char *cmp_lxc_size_text(uint64_t bytes, struct atl_arena *arena);

/*
 * The size a resize asks for: "+2G" on top of now, "10G" as it is; GiB when there is no unit is not meant,
 * bytes are. Errors: ATL_E_INVALID on "size" when it is no size or smaller than now.
 */
ATL_MUST_CHECK enum atl_code cmp_lxc_resize_bytes(const char *text, uint64_t now_bytes, uint64_t *ret_bytes,
                                                  struct atl_error *err);

/* Absolute, no empty, "." or ".." parts, no control bytes, no end slash (but "/" itself), at most 1024 bytes.
 */
bool cmp_lxc_path_is_clean(const char *path);

enum { CMP_MAC_TEXT = 18 };
/* "BC:24:11:xx:xx:xx" (or behind another prefix of up to three bytes, "02:11:22") from random bytes. */
void cmp_mac_text(const char *prefix, const uint8_t random[6], char ret_mac[CMP_MAC_TEXT]);

#endif
