/* Volume ids; see volume.h. */
#include "core/volume.h"

#include <stdio.h>
#include <string.h>

#include "pure/utf8.h"

static const char *const content_texts[STO_CONTENTS] = {
    [STO_IMAGES] = "images", [STO_ROOTDIR] = "rootdir",   [STO_VZTMPL] = "vztmpl", [STO_ISO] = "iso",
    [STO_BACKUP] = "backup", [STO_SNIPPETS] = "snippets", [STO_IMPORT] = "import", [STO_NO_CONTENT] = "none",
};

static const char *const format_texts[STO_FORMATS] = {
    [STO_RAW] = "raw",       [STO_QCOW2] = "qcow2",     [STO_VMDK] = "vmdk", [STO_SUBVOL] = "subvol",
    [STO_ISO_IMAGE] = "iso", [STO_TGZ] = "tgz",         [STO_TXZ] = "txz",   [STO_TZST] = "tzst",
    [STO_TBZ2] = "tbz2",     [STO_TAR] = "tar",         [STO_VMA] = "vma",   [STO_OVA] = "ova",
    [STO_OVF] = "ovf",       [STO_SNIPPET] = "snippet",
};

/* Which endings a content takes, and what they mean. The longest match stands first. */
static const struct ending {
    const char *text;
    enum sto_content content;
    enum sto_format format;
} endings[] = {
    {".raw", STO_IMAGES, STO_RAW},      {".qcow2", STO_IMAGES, STO_QCOW2},
    {".vmdk", STO_IMAGES, STO_VMDK},    {".subvol", STO_IMAGES, STO_SUBVOL},
    {".iso", STO_ISO, STO_ISO_IMAGE},   {".img", STO_ISO, STO_ISO_IMAGE},
    {".tar.gz", STO_VZTMPL, STO_TGZ},   {".tgz", STO_VZTMPL, STO_TGZ},
    {".tar.xz", STO_VZTMPL, STO_TXZ},   {".tar.zst", STO_VZTMPL, STO_TZST},
    {".tar.bz2", STO_VZTMPL, STO_TBZ2}, {".tar", STO_VZTMPL, STO_TAR},
    {".qcow2", STO_IMPORT, STO_QCOW2},  {".raw", STO_IMPORT, STO_RAW},
    {".img", STO_IMPORT, STO_RAW},      {".vmdk", STO_IMPORT, STO_VMDK},
    {".ova", STO_IMPORT, STO_OVA},      {".ovf", STO_IMPORT, STO_OVF},
    {".tar.gz", STO_BACKUP, STO_TGZ},   {".tgz", STO_BACKUP, STO_TGZ},
    {".tar.zst", STO_BACKUP, STO_TZST}, {".tar", STO_BACKUP, STO_TAR},
    {".vma.zst", STO_BACKUP, STO_VMA},  {".vma.gz", STO_BACKUP, STO_VMA},
    {".vma", STO_BACKUP, STO_VMA},      {"", STO_SNIPPETS, STO_SNIPPET},
};

const char *sto_content_to_text(enum sto_content content)
{
    atl_assert(content < STO_CONTENTS);
    return content_texts[content];
}

bool sto_content_from_text(const char *text, size_t length, enum sto_content *ret_content)
{
    for (size_t i = 0; i < STO_CONTENTS; i++) {
        if (strlen(content_texts[i]) == length && memcmp(content_texts[i], text, length) == 0) {
            *ret_content = (enum sto_content)i;
            return true;
        }
    }
    return false;
}

const char *sto_format_to_text(enum sto_format format)
{
    atl_assert(format < STO_FORMATS);
    return format_texts[format];
}

bool sto_format_from_text(const char *text, enum sto_format *ret_format)
{
    for (size_t i = 0; i < STO_FORMATS; i++) {
        if (strcmp(format_texts[i], text) == 0) {
            *ret_format = (enum sto_format)i;
            return true;
        }
    }
    return false;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool storage_id_ok(const char *text, size_t length)
{
    if (length < 2 || length >= STO_ID_MAX || !is_letter(text[0]))
        return false;
    for (size_t i = 1; i < length; i++) {
        if (!is_letter(text[i]) && !is_digit(text[i]) && strchr("-_.", text[i]) == NULL)
            return false;
    }
    return is_letter(text[length - 1]) || is_digit(text[length - 1]);
}

static bool file_ok(const char *text, size_t length)
{
    if (length == 0 || length >= STO_FILE_MAX || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f || c == '/' || c == ',' || c == ';' || c == '\\')
            return false;
    }
    return atl_utf8_valid(text, length);
}

bool sto_file_name_ok(const char *file)
{
    return file_ok(file, strnlen(file, STO_FILE_MAX));
}

static bool ends_with(const char *text, size_t length, const char *ending)
{
    size_t size = strlen(ending);
    return length > size && strncasecmp(text + length - size, ending, size) == 0;
}

static bool find_format(enum sto_content content, const char *file, enum sto_format *ret_format)
{
    size_t length = strlen(file);
    for (size_t i = 0; i < ATL_COUNT(endings); i++) {
        if (endings[i].content == content && ends_with(file, length, endings[i].text)) {
            *ret_format = endings[i].format;
            return true;
        }
    }
    return false;
}

/* A decimal guest id without sign or leading zero; returns the bytes it takes, 0: there is none. */
static size_t parse_vmid(const char *text, uint32_t *ret_vmid)
{
    uint64_t value = 0;
    size_t used = 0;
    for (; used < 10 && is_digit(text[used]); used++)
        value = value * 10 + (uint64_t)(text[used] - '0');
    if (text[0] == '0' || value < STO_VMID_MIN || value > STO_VMID_MAX)
        return 0;
    *ret_vmid = (uint32_t)value;
    return used;
}

/* Disks: letters, digits and _.+- only, since these names go into guest configurations. */
static bool disk_file_ok(const char *file)
{
    if (!is_letter(file[0]) && !is_digit(file[0]))
        return false;
    for (const char *at = file; *at != '\0'; at++) {
        if (!is_letter(*at) && !is_digit(*at) && strchr("-_.+", *at) == NULL)
            return false;
    }
    return true;
}

static uint32_t backup_owner(const char *file)
{
    static const char *const kinds[] = {"vzdump-qemu-", "vzdump-lxc-"};
    for (size_t i = 0; i < ATL_COUNT(kinds); i++) {
        size_t length = strlen(kinds[i]);
        uint32_t vmid = 0;
        if (strncmp(file, kinds[i], length) == 0 && parse_vmid(file + length, &vmid) > 0)
            return vmid;
    }
    return 0;
}

bool sto_volume_of_file(enum sto_content content, uint32_t vmid, const char *file,
                        struct sto_volume *ret_volume)
{
    struct sto_volume volume = {.content = content, .vmid = vmid};
    if (!sto_file_name_ok(file) || !find_format(content, file, &volume.format))
        return false;
    (void)atl_copy(volume.file, sizeof volume.file, file); /* fits: sto_file_name_ok */
    if (content == STO_IMAGES) {
        if (!disk_file_ok(file) || vmid < STO_VMID_MIN || vmid > STO_VMID_MAX)
            return false;
        volume.base = strncmp(file, "base-", 5) == 0;
        if (volume.format == STO_SUBVOL)
            volume.content = STO_ROOTDIR;
        (void)snprintf(volume.name, sizeof volume.name, "%u/%s", vmid, file);
    } else {
        if (content == STO_BACKUP)
            volume.vmid = backup_owner(file);
        (void)snprintf(volume.name, sizeof volume.name, "%s/%s", sto_content_to_text(content), file);
    }
    *ret_volume = volume;
    return true;
}

/* "100/vm-100-disk-0.raw", with what is below a linked clone in front of it. */
static bool parse_disk(const char *name, struct sto_volume *ret_volume)
{
    uint32_t vmid = 0;
    size_t used = parse_vmid(name, &vmid);
    if (used == 0 || name[used] != '/')
        return false;
    const char *file = name + used + 1;
    const char *slash = strchr(file, '/');
    if (slash == NULL)
        return sto_volume_of_file(STO_IMAGES, vmid, file, ret_volume);
    struct sto_volume below;
    struct sto_volume clone;
    char first[STO_NAME_MAX] = "";
    size_t length = (size_t)(slash - name);
    if (length >= sizeof first || strchr(slash + 1, '/') != strrchr(slash + 1, '/'))
        return false;
    memcpy(first, name, length);
    first[length] = '\0';
    if (!parse_disk(first, &below) || !below.base || !parse_disk(slash + 1, &clone) || clone.base)
        return false;
    if (!atl_copy(clone.name, sizeof clone.name, name))
        return false;
    (void)atl_copy(clone.parent, sizeof clone.parent, first);
    *ret_volume = clone;
    return true;
}

static bool parse_name(const char *name, struct sto_volume *ret_volume)
{
    static const enum sto_content foldered[] = {STO_ISO, STO_VZTMPL, STO_SNIPPETS, STO_IMPORT, STO_BACKUP};
    for (size_t i = 0; i < ATL_COUNT(foldered); i++) {
        const char *folder = sto_content_to_text(foldered[i]);
        size_t length = strlen(folder);
        if (strncmp(name, folder, length) == 0 && name[length] == '/')
            return sto_volume_of_file(foldered[i], 0, name + length + 1, ret_volume);
    }
    return parse_disk(name, ret_volume);
}

enum atl_code sto_volume_parse_name(const char *name, const char *field, struct sto_volume *ret_volume,
                                    struct atl_error *err)
{
    if (strnlen(name, STO_NAME_MAX) >= STO_NAME_MAX)
        return atl_fail(err, ATL_E_INVALID, field, "volume name is longer than %d bytes", STO_NAME_MAX - 1);
    if (!parse_name(name, ret_volume))
        return atl_fail(err, ATL_E_INVALID, field,
                        "'%s' is no volume name, give one as 100/vm-100-disk-0.qcow2 or iso/FILE.iso", name);
    return ATL_OK;
}

enum atl_code sto_volume_parse(const char *text, const char *field, struct sto_volume *ret_volume,
                               struct atl_error *err)
{
    const char *colon = strchr(text, ':');
    if (colon == NULL || !storage_id_ok(text, (size_t)(colon - text)))
        return atl_fail(err, ATL_E_INVALID, field, "unable to parse volume ID '%s', give one as STORAGE:NAME",
                        text);
    struct sto_volume volume;
    enum atl_code code = sto_volume_parse_name(colon + 1, field, &volume, err);
    if (code != ATL_OK)
        return code;
    memcpy(volume.storage, text, (size_t)(colon - text));
    volume.storage[colon - text] = '\0';
    *ret_volume = volume;
    return ATL_OK;
}

const char *sto_volume_to_text(const struct sto_volume *volume, struct atl_arena *arena)
{
    return atl_arena_format(arena, "%s:%s", volume->storage, volume->name);
}

enum atl_code sto_upload_name(enum sto_content content, const char *filename, struct sto_volume *ret_volume,
                              struct atl_error *err)
{
    size_t length = strnlen(filename, STO_FILE_MAX);
    if (length == 0 || length >= STO_FILE_MAX)
        return atl_fail(err, ATL_E_INVALID, "filename", "file name must have 1 to %d bytes",
                        STO_FILE_MAX - 1);
    if (strpbrk(filename, "/\\") != NULL)
        return atl_fail(err, ATL_E_INVALID, "filename", "file name '%s' must not name a folder", filename);
    char clean[STO_FILE_MAX] = "";
    for (size_t i = 0; i <= length; i++) {
        char c = filename[i];
        clean[i] = (c == '\0' || is_letter(c) || is_digit(c) || strchr("-_.", c) != NULL) ? c : '_';
    }
    if (!file_ok(clean, length))
        return atl_fail(err, ATL_E_INVALID, "filename", "file name '%s' must not begin with '.' or '-'",
                        filename);
    if (!sto_volume_of_file(content, 0, clean, ret_volume))
        return atl_fail(err, ATL_E_INVALID, "filename",
                        "wrong file extension: '%s' is nothing that '%s' takes", filename,
                        sto_content_to_text(content));
    return ATL_OK;
}
