/* The values of rootfs and mp[n]: what they mean, sizes, names of volumes, paths, MAC addresses. */
#include "core/lxc_volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum cmp_lxc_volume_kind cmp_lxc_volume_kind(const char *volume)
{
    if (volume[0] == '/')
        return CMP_LXC_HOST_PATH;
    const char *colon = strchr(volume, ':');
    if (colon == NULL || colon == volume || colon[1] == '\0')
        return CMP_LXC_VOLUME_BAD;
    const char *rest = colon + 1;
    size_t digits = strspn(rest, "0123456789");
    if (digits > 0 &&
        (rest[digits] == '\0' || (rest[digits] == '.' && rest[digits + 1] != '\0' &&
                                  rest[digits + 1 + strspn(rest + digits + 1, "0123456789")] == '\0')))
        return CMP_LXC_VOLUME_NEW;
    return CMP_LXC_VOLUME_OLD;
}

enum atl_code cmp_lxc_volume_new(const char *volume, const char *field, struct atl_arena *arena,
                                 const char **ret_store, uint64_t *ret_bytes, struct atl_error *err)
{
    if (cmp_lxc_volume_kind(volume) != CMP_LXC_VOLUME_NEW)
        return atl_fail(err, ATL_E_INVALID, field, "'%s' is not STORAGE:SIZE with the size in GiB", volume);
    const char *colon = strchr(volume, ':');
    double gib = strtod(colon + 1, NULL);
    if (gib > 131072)
        return atl_fail(err, ATL_E_INVALID, field, "%s GiB is more than 131072 GiB", colon + 1);
    uint64_t mib = (uint64_t)(gib * 1024);
    if ((double)mib < gib * 1024)
        mib++;
    *ret_store = atl_arena_strndup(arena, volume, (size_t)(colon - volume));
    *ret_bytes = mib << 20;
    return ATL_OK;
}

const char *cmp_lxc_volume_store(const char *volume, struct atl_arena *arena)
{
    const char *colon = strchr(volume, ':');
    if (volume[0] == '/' || colon == NULL || colon == volume)
        return NULL;
    return atl_arena_strndup(arena, volume, (size_t)(colon - volume));
}

bool cmp_lxc_volume_owned(const char *volume, uint32_t vmid)
{
    static const char *const kinds[] = {"vm", "subvol", "base", "basevol"};
    const char *colon = strchr(volume, ':');
    if (colon == NULL)
        return false;
    const char *slash = strrchr(colon, '/');
    const char *name = slash != NULL ? slash + 1 : colon + 1;
    for (size_t i = 0; i < ATL_COUNT(kinds); i++) {
        char head[40];
        int length = snprintf(head, sizeof head, "%s-%" PRIu32 "-", kinds[i], vmid);
        if (strncmp(name, head, (size_t)length) == 0)
            return true;
    }
    return false;
}

static unsigned int unit_shift(char unit)
{
    switch (unit) {
    case 'K':
        return 10;
    case 'M':
        return 20;
    case 'G':
        return 30;
    case 'T':
        return 40;
    default:
        return 0;
    }
}

uint64_t cmp_lxc_size_bytes(const char *text)
{
    char *end = NULL;
    if (text == NULL || text[0] < '0' || text[0] > '9' || strspn(text, "0123456789.KMGT") != strlen(text))
        return 0;
    double value = strtod(text, &end);
    unsigned int shift = unit_shift(*end);
    if ((*end != '\0' && (shift == 0 || end[1] != '\0')) || value > 1e15)
        return 0;
    double bytes = value * (double)(UINT64_C(1) << shift);
    return bytes < 9e18 ? (uint64_t)bytes : 0;
}

char *cmp_lxc_size_text(uint64_t bytes, struct atl_arena *arena)
{
    static const char units[] = "TGMK";
    for (unsigned int i = 0; bytes > 0 && i < 4; i++) {
        unsigned int shift = 40 - 10 * i;
        if ((bytes & ((UINT64_C(1) << shift) - 1)) == 0)
            return atl_arena_format(arena, "%" PRIu64 "%c", bytes >> shift, units[i]);
    }
    return atl_arena_format(arena, "%" PRIu64, bytes);
}

enum atl_code cmp_lxc_resize_bytes(const char *text, uint64_t now_bytes, uint64_t *ret_bytes,
                                   struct atl_error *err)
{
    bool more = text[0] == '+';
    uint64_t bytes = cmp_lxc_size_bytes(text + (more ? 1 : 0));
    if (bytes == 0)
        return atl_fail(err, ATL_E_INVALID, "size", "'%s' is not a size, as 10G or +2G", text);
    if (more)
        bytes += now_bytes;
    if (bytes < now_bytes)
        return atl_fail(err, ATL_E_INVALID, "size", "unable to shrink disk size");
    if (bytes > UINT64_C(131072) << 30)
        return atl_fail(err, ATL_E_INVALID, "size", "'%s' is more than 131072 GiB", text);
    *ret_bytes = (bytes + 0xfffff) & ~UINT64_C(0xfffff); /* whole MiB */
    return ATL_OK;
}

bool cmp_lxc_path_is_clean(const char *path)
{
    size_t length = strlen(path);
    if (path[0] != '/' || length > 1024)
        return false;
    if (length == 1)
        return true;
    for (const char *at = path; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return false;
    for (const char *at = path; *at == '/';) {
        size_t part = strcspn(at + 1, "/");
        if (part == 0 || (part == 1 && at[1] == '.') || (part == 2 && at[1] == '.' && at[2] == '.'))
            return false;
        at += 1 + part;
    }
    return true;
}

void cmp_mac_text(const char *prefix, const uint8_t random[6], char ret_mac[CMP_MAC_TEXT])
{
    uint8_t bytes[6];
    memcpy(bytes, random, sizeof bytes);
    unsigned int head[3] = {0xBC, 0x24, 0x11};
    int given = 3;
    if (prefix != NULL) {
        int got = sscanf(prefix, "%2x:%2x:%2x", &head[0], &head[1], &head[2]);
        given = got > 0 ? got : 3;
    }
    for (int i = 0; i < given; i++)
        bytes[i] = (uint8_t)head[i];
    bytes[0] &= 0xFE; /* never a group address */
    (void)snprintf(ret_mac, CMP_MAC_TEXT, "%02X:%02X:%02X:%02X:%02X:%02X", bytes[0], bytes[1], bytes[2],
                   bytes[3], bytes[4], bytes[5]);
}
