/* Decisions about allocations; see plan.h. */
#include "core/plan.h"

#include <stdio.h>
#include <string.h>

enum { CLOUDINIT_SIZE = 4 << 20 };

static bool ending_of(const char *name, enum sto_format *ret_format)
{
    static const enum sto_format formats[] = {STO_RAW, STO_QCOW2, STO_VMDK, STO_SUBVOL};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < ATL_COUNT(formats); i++) {
        if (strcmp(dot + 1, sto_format_to_text(formats[i])) == 0) {
            *ret_format = formats[i];
            return true;
        }
    }
    return false;
}

static enum atl_code choose_format(const struct sto_storage *storage, const struct sto_wish *wish,
                                   enum sto_format *ret_format, struct atl_error *err)
{
    enum sto_format named;
    bool has_ending = wish->name != NULL && ending_of(wish->name, &named);
    enum sto_format format = storage->default_format;
    if (wish->purpose != STO_FOR_IMAGES)
        format = STO_RAW;
    if (has_ending)
        format = named;
    if (wish->format != NULL && !sto_format_from_text(wish->format, &format))
        return atl_fail(err, ATL_E_INVALID, "format", "'%s' is no format of a volume", wish->format);
    if (has_ending && format != named)
        return atl_fail(err, ATL_E_INVALID, "format", "format '%s' does not match the name '%s'",
                        wish->format, wish->name);
    if ((storage->type->formats & 1U << format) == 0)
        return atl_fail(err, ATL_E_INVALID, "format", "storage '%s' cannot make volumes of format '%s'",
                        storage->id, sto_format_to_text(format));
    if (format == STO_SUBVOL && wish->purpose != STO_FOR_ROOTDIR)
        return atl_fail(err, ATL_E_INVALID, "format",
                        "format 'subvol' is for the root folders of containers only");
    if (wish->purpose == STO_FOR_ROOTDIR && format != STO_SUBVOL && format != STO_RAW)
        return atl_fail(err, ATL_E_INVALID, "format",
                        "a container's volume is of format 'raw' or 'subvol', not '%s'",
                        sto_format_to_text(format));
    *ret_format = format;
    return ATL_OK;
}

static enum atl_code check_name(const char *name, uint32_t vmid, enum sto_format format,
                                struct atl_error *err)
{
    char prefix[32];
    (void)snprintf(prefix, sizeof prefix, "%s-%u-", format == STO_SUBVOL ? "subvol" : "vm", vmid);
    size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) != 0 ||
        !((name[length] >= '0' && name[length] <= '9') || (name[length] >= 'A' && name[length] <= 'z')))
        return atl_fail(err, ATL_E_INVALID, "filename", "illegal name '%s' - should be '%s*'", name, prefix);
    return ATL_OK;
}

static enum atl_code plan_size(const struct sto_wish *wish, enum sto_format format, uint64_t *ret_size,
                               struct atl_error *err)
{
    uint64_t size = wish->size_bytes;
    if (wish->purpose == STO_FOR_CLOUDINIT && size == 0)
        size = CLOUDINIT_SIZE;
    if (size > STO_SIZE_MAX)
        return atl_fail(err, ATL_E_INVALID, "size", "%" PRIu64 " bytes are more than a volume can have",
                        size);
    if (size == 0 && format != STO_SUBVOL)
        return atl_fail(err, ATL_E_INVALID, "size", "a volume of format '%s' needs a size",
                        sto_format_to_text(format));
    *ret_size = sto_size_round(size);
    return ATL_OK;
}

enum atl_code sto_plan_alloc(const struct sto_storage *storage, const struct sto_wish *wish,
                             struct sto_plan *ret_plan, struct atl_error *err)
{
    atl_assert(storage->type != NULL);
    atl_assert(wish->vmid >= STO_VMID_MIN);
    struct sto_plan plan = {0};
    enum sto_format format = STO_RAW;
    enum atl_code code = choose_format(storage, wish, &format, err);
    if (code == ATL_OK)
        code = plan_size(wish, format, &plan.size_bytes, err);
    if (code != ATL_OK)
        return code;
    char file[STO_FILE_MAX];
    const char *ending = sto_format_to_text(format);
    enum sto_format named;
    if (wish->purpose == STO_FOR_CLOUDINIT)
        (void)snprintf(file, sizeof file, "vm-%u-cloudinit.%s", wish->vmid, ending);
    else if (wish->name == NULL)
        plan.next_free = true;
    else if (strlen(wish->name) + strlen(ending) + 2 > sizeof file)
        return atl_fail(err, ATL_E_INVALID, "filename", "name is longer than %d bytes", STO_FILE_MAX - 10);
    else if (ending_of(wish->name, &named))
        (void)atl_copy(file, sizeof file, wish->name);
    else
        (void)snprintf(file, sizeof file, "%s.%s", wish->name, ending);
    plan.volume = (struct sto_volume){.content = STO_IMAGES, .format = format, .vmid = wish->vmid};
    if (!plan.next_free) {
        code = check_name(file, wish->vmid, format, err);
        if (code != ATL_OK)
            return code;
        if (!sto_volume_of_file(STO_IMAGES, wish->vmid, file, &plan.volume))
            return atl_fail(err, ATL_E_INVALID, "filename", "'%s' is no name of a volume", wish->name);
    }
    (void)atl_copy(plan.volume.storage, sizeof plan.volume.storage, storage->id);
    *ret_plan = plan;
    return ATL_OK;
}

void sto_plan_name(struct sto_plan *plan, uint32_t disk)
{
    atl_assert(plan->next_free);
    char storage[STO_ID_MAX];
    (void)atl_copy(storage, sizeof storage, plan->volume.storage);
    char file[STO_FILE_MAX];
    (void)snprintf(file, sizeof file, "%s-%u-disk-%u.%s", plan->volume.format == STO_SUBVOL ? "subvol" : "vm",
                   plan->volume.vmid, disk, sto_format_to_text(plan->volume.format));
    bool named = sto_volume_of_file(STO_IMAGES, plan->volume.vmid, file, &plan->volume);
    atl_assert(named);
    (void)atl_copy(plan->volume.storage, sizeof plan->volume.storage, storage);
}

void sto_disks_note(struct sto_disks *disks, uint32_t vmid, const char *file)
{
    static const char *const kinds[] = {"vm", "base", "subvol"};
    for (size_t i = 0; i < ATL_COUNT(kinds); i++) {
        char prefix[48];
        int length = snprintf(prefix, sizeof prefix, "%s-%u-disk-", kinds[i], vmid);
        if (strncmp(file, prefix, (size_t)length) != 0)
            continue;
        uint32_t disk = 0;
        const char *at = file + length;
        for (; *at >= '0' && *at <= '9' && disk < STO_DISKS_MAX; at++)
            disk = disk * 10 + (uint32_t)(*at - '0');
        if (at != file + length && (*at == '.' || *at == '\0') && disk < STO_DISKS_MAX)
            disks->taken[disk / 8] |= (uint8_t)(1U << disk % 8);
        return;
    }
}

enum atl_code sto_disks_next(const struct sto_disks *disks, uint32_t from, uint32_t *ret_disk,
                             struct atl_error *err)
{
    for (uint32_t disk = from; disk < STO_DISKS_MAX; disk++) {
        if ((disks->taken[disk / 8] & 1U << disk % 8) == 0) {
            *ret_disk = disk;
            return ATL_OK;
        }
    }
    return atl_fail(err, ATL_E_LIMIT, "filename",
                    "the guest has %d volumes on this storage, no number is left", STO_DISKS_MAX);
}

enum atl_code sto_size_parse(const char *text, uint64_t *ret_bytes, struct atl_error *err)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (value > STO_SIZE_MAX)
            break;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    uint64_t unit = 1024;
    if (*at == 'M')
        unit = (uint64_t)1 << 20;
    if (*at == 'G')
        unit = (uint64_t)1 << 30;
    bool has_unit = *at == 'M' || *at == 'G';
    if (at == text || at[has_unit ? 1 : 0] != '\0')
        return atl_fail(err, ATL_E_INVALID, "size",
                        "'%s' is no size, give KiB as a number, or a number with M or G", text);
    if (value > STO_SIZE_MAX / unit)
        return atl_fail(err, ATL_E_INVALID, "size", "'%s' is more than a volume can have", text);
    *ret_bytes = value * unit;
    return ATL_OK;
}

uint64_t sto_size_round(uint64_t size_bytes)
{
    return (size_bytes + 511) / 512 * 512;
}

const char *sto_volume_folder(const struct sto_storage *storage, const struct sto_volume *volume,
                              struct atl_arena *arena)
{
    enum sto_content content = volume->content == STO_ROOTDIR ? STO_IMAGES : volume->content;
    const char *dir = storage->dirs[content];
    if (dir == NULL || content != STO_IMAGES)
        return dir;
    return atl_arena_format(arena, "%s/%u", dir, volume->vmid);
}

const char *sto_volume_path(const struct sto_storage *storage, const struct sto_volume *volume,
                            struct atl_arena *arena)
{
    const char *folder = sto_volume_folder(storage, volume, arena);
    if (folder == NULL || storage->path == NULL)
        return NULL;
    return atl_arena_format(arena, "%s/%s/%s", storage->path, folder, volume->file);
}

enum sto_content sto_volume_shown_as(const struct sto_volume *volume, bool owner_is_container)
{
    bool folder = volume->content == STO_IMAGES && owner_is_container && volume->format == STO_RAW;
    return folder ? STO_ROOTDIR : volume->content;
}

static bool ends_value(char c)
{
    return c == ',' || c == '\n' || c == '\r' || c == ' ' || c == '\0';
}

bool sto_config_mentions(const char *text, size_t length, const char *volid)
{
    size_t size = strlen(volid);
    const char *end = text + length;
    for (const char *at = text; at < end;) {
        const char *found = memmem(at, (size_t)(end - at), volid, size);
        if (found == NULL)
            return false;
        const char *behind = found + size;
        bool starts = found > text && (found[-1] == ' ' || found[-1] == '=' || found[-1] == ':');
        if (starts && (behind == end || ends_value(*behind)))
            return true;
        at = found + 1;
    }
    return false;
}
