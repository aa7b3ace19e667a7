/* The disks and drives of a virtual machine, over all its buses. */
#include "core/drive.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const bus_names[CMP_BUSES] = {"ide", "sata", "scsi", "virtio"};

const char *cmp_bus_to_text(enum cmp_bus bus)
{
    atl_assert(bus < CMP_BUSES);
    return bus_names[bus];
}

static void drive_add(struct cmp_drive *list, size_t *count, enum cmp_bus bus, uint32_t index,
                      Atoll__Qemu__V1__Drive *drive)
{
    if (drive == NULL)
        return;
    struct cmp_drive *item = &list[(*count)++];
    item->bus = bus;
    item->index = index;
    item->drive = drive;
    (void)snprintf(item->name, sizeof item->name, "%s%u", bus_names[bus], (unsigned int)(index % 1000));
}

static int drive_order(const void *a, const void *b)
{
    const struct cmp_drive *left = a;
    const struct cmp_drive *right = b;
    if (left->bus != right->bus)
        return left->bus < right->bus ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

struct cmp_drive *cmp_drives(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena,
                             size_t *ret_count)
{
    atl_assert(config != NULL);
    size_t room = config->n_ide + config->n_sata + config->n_scsi + config->n_virtio;
    struct cmp_drive *list = atl_arena_array(arena, struct cmp_drive, room + 1);
    size_t count = 0;
    for (size_t i = 0; i < config->n_ide; i++)
        drive_add(list, &count, CMP_IDE, config->ide[i]->index, config->ide[i]->value);
    for (size_t i = 0; i < config->n_sata; i++)
        drive_add(list, &count, CMP_SATA, config->sata[i]->index, config->sata[i]->value);
    for (size_t i = 0; i < config->n_scsi; i++)
        drive_add(list, &count, CMP_SCSI, config->scsi[i]->index, config->scsi[i]->value);
    for (size_t i = 0; i < config->n_virtio; i++)
        drive_add(list, &count, CMP_VIRTIO, config->virtio[i]->index, config->virtio[i]->value);
    qsort(list, count, sizeof *list, drive_order);
    *ret_count = count;
    return list;
}

bool cmp_drive_name(const char *name, enum cmp_bus *ret_bus, uint32_t *ret_index)
{
    for (unsigned int bus = 0; bus < CMP_BUSES; bus++) {
        size_t length = strlen(bus_names[bus]);
        if (strncmp(name, bus_names[bus], length) != 0 || !isdigit((unsigned char)name[length]))
            continue;
        char *end = NULL;
        unsigned long index = strtoul(name + length, &end, 10);
        if (*end != '\0' || index > 30)
            return false;
        *ret_bus = (enum cmp_bus)bus;
        *ret_index = (uint32_t)index;
        return true;
    }
    return false;
}

Atoll__Qemu__V1__Drive *cmp_drive_find(const Atoll__Qemu__V1__Config *config, const char *name)
{
    enum cmp_bus bus = CMP_IDE;
    uint32_t index = 0;
    if (!cmp_drive_name(name, &bus, &index))
        return NULL;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    size_t count = 0;
    const struct cmp_drive *list = cmp_drives(config, &arena, &count);
    for (size_t i = 0; i < count; i++)
        if (list[i].bus == bus && list[i].index == index)
            return list[i].drive;
    return NULL;
}

bool cmp_drive_is_cdrom(const Atoll__Qemu__V1__Drive *drive)
{
    return drive->media != NULL && strcmp(drive->media, "cdrom") == 0;
}

bool cmp_drive_is_cloudinit(const Atoll__Qemu__V1__Drive *drive)
{
    if (drive->file == NULL)
        return false;
    const char *name = strchr(drive->file, ':');
    if (name == NULL)
        return false;
    if (strcmp(name + 1, "cloudinit") == 0)
        return true;
    const char *base = strrchr(name + 1, '/');
    base = base != NULL ? base + 1 : name + 1;
    if (strncmp(base, "vm-", 3) != 0)
        return false;
    size_t digits = strspn(base + 3, "0123456789");
    const char *rest = base + 3 + digits;
    if (digits == 0 || strncmp(rest, "-cloudinit", 10) != 0)
        return false;
    return rest[10] == '\0' || rest[10] == '.';
}

bool cmp_volume_storage(const char *volid, char *storage, size_t size)
{
    const char *colon = volid != NULL ? strchr(volid, ':') : NULL;
    if (colon == NULL || colon == volid || volid[0] == '/' || (size_t)(colon - volid) >= size)
        return false;
    memcpy(storage, volid, (size_t)(colon - volid));
    storage[colon - volid] = '\0';
    return true;
}

bool cmp_drive_has_volume(const Atoll__Qemu__V1__Drive *drive)
{
    char storage[101];
    return cmp_volume_storage(drive->file, storage, sizeof storage);
}

bool cmp_drive_is_new(const Atoll__Qemu__V1__Drive *drive, struct cmp_new_volume *ret_volume)
{
    struct cmp_new_volume volume = {.import_from = drive->import_from};
    if (!cmp_volume_storage(drive->file, volume.storage, sizeof volume.storage))
        return false;
    const char *rest = strchr(drive->file, ':') + 1;
    if (strcmp(rest, "cloudinit") == 0) {
        volume.cloudinit = true;
        *ret_volume = volume;
        return true;
    }
    if (rest[0] == '\0' || rest[strspn(rest, "0123456789.")] != '\0')
        return false;
    char *end = NULL;
    double gib = strtod(rest, &end);
    if (*end != '\0' || !(gib >= 0) || gib > 1048576.0 * 1024)
        return false;
    /* Whole blocks of 4 KiB: engines open images with O_DIRECT. */
    volume.size_bytes = ((uint64_t)(gib * 1073741824.0) + 4095) & ~UINT64_C(4095);
    *ret_volume = volume;
    return true;
}

static int unit_shift(char unit)
{
    switch (unit) {
    case 'K':
    case 'k':
        return 10;
    case 'M':
    case 'm':
        return 20;
    case 'G':
    case 'g':
        return 30;
    case 'T':
    case 't':
        return 40;
    default:
        return -1;
    }
}

enum atl_code cmp_size_parse(const char *text, const char *field, uint64_t *ret_bytes, struct atl_error *err)
{
    size_t whole = strspn(text, "0123456789");
    size_t used = whole;
    if (whole > 0 && text[whole] == '.')
        used += 1 + strspn(text + whole + 1, "0123456789");
    int shift = text[used] == '\0' ? 0 : unit_shift(text[used]);
    bool rest = shift > 0 ? text[used + 1] != '\0' : text[used] != '\0';
    if (whole == 0 || whole > 18 || shift < 0 || rest)
        return atl_fail(err, ATL_E_INVALID, field, "'%s' is not a size; write it as 32G or 512M", text);
    double value = strtod(text, NULL) * (double)(UINT64_C(1) << shift);
    if (!(value >= 0) || value > 1152921504606846976.0)
        return atl_fail(err, ATL_E_RANGE, field, "size '%s' is larger than 1 EiB", text);
    if (used == whole) /* exact where a double would round */
        *ret_bytes = (uint64_t)strtoull(text, NULL, 10) << shift;
    else
        *ret_bytes = (uint64_t)value;
    return ATL_OK;
}

void cmp_size_format(uint64_t bytes, char *text, size_t size)
{
    static const char units[] = {'\0', 'K', 'M', 'G', 'T'};
    unsigned int unit = 0;
    while (unit < 4 && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    if (unit == 0)
        (void)snprintf(text, size, "%" PRIu64, bytes);
    else
        (void)snprintf(text, size, "%" PRIu64 "%c", bytes, units[unit]);
}
