/* What has to move with a virtual machine: its volumes, its devices, its bridges. */
#include "core/migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct list {
    struct atl_arena *arena;
    struct cmp_move_volume *items;
    size_t count;
    size_t room;
};

static bool listed(const struct list *list, const char *volid)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].volid, volid) == 0)
            return true;
    return false;
}

static struct cmp_move_volume *add(struct list *list, const char *name, const char *volid)
{
    char storage[101];
    if (volid == NULL || strcmp(volid, "none") == 0 || strcmp(volid, "cdrom") == 0 || listed(list, volid))
        return NULL;
    list->items = atl_arena_grow(list->arena, list->items, list->count, &list->room, sizeof *list->items);
    struct cmp_move_volume *volume = &list->items[list->count++];
    *volume = (struct cmp_move_volume){.name = atl_arena_strdup(list->arena, name), .volid = volid};
    volume->is_path = !cmp_volume_storage(volid, storage, sizeof storage);
    volume->storage = volume->is_path ? NULL : atl_arena_strdup(list->arena, storage);
    return volume;
}

static void add_size(struct cmp_move_volume *volume, const char *size)
{
    uint64_t bytes = 0;
    if (volume != NULL && size != NULL && cmp_size_parse(size, "size", &bytes, NULL) == ATL_OK)
        volume->said_size = bytes;
}

static void add_config(struct list *list, const Atoll__Qemu__V1__Config *config, bool pending)
{
    size_t count = 0;
    size_t before = list->count;
    const struct cmp_drive *drives = cmp_drives(config, list->arena, &count);
    for (size_t i = 0; i < count; i++) {
        const Atoll__Qemu__V1__Drive *drive = drives[i].drive;
        struct cmp_move_volume *volume = add(list, drives[i].name, drive->file);
        if (volume == NULL)
            continue;
        volume->cdrom = cmp_drive_is_cdrom(drive);
        volume->cloudinit = cmp_drive_is_cloudinit(drive);
        volume->said_shared = drive->has_shared && drive->shared;
        add_size(volume, drive->size);
    }
    if (config->efidisk0 != NULL)
        add_size(add(list, "efidisk0", config->efidisk0->file), config->efidisk0->size);
    if (config->tpmstate0 != NULL)
        add_size(add(list, "tpmstate0", config->tpmstate0->file), config->tpmstate0->size);
    for (size_t i = 0; i < config->n_unused; i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "unused%" PRIu32, config->unused[i]->index);
        const Atoll__Qemu__V1__Unused *value = config->unused[i]->value;
        struct cmp_move_volume *volume = add(list, name, value != NULL ? value->file : NULL);
        if (volume != NULL)
            volume->unused = true;
    }
    for (size_t i = before; i < list->count; i++)
        list->items[i].pending = pending;
}

struct cmp_move_volume *cmp_move_volumes(const struct cmp_file *file, struct atl_arena *arena,
                                         size_t *ret_count)
{
    struct list list = {.arena = arena};
    add_config(&list, file->main->config, false);
    add_config(&list, file->pending->config, true);
    *ret_count = list.count;
    return list.items;
}

static void rename_one(struct atl_arena *arena, char **place, const char *volid, const char *to)
{
    if (*place != NULL && strcmp(*place, volid) == 0)
        *place = atl_arena_strdup(arena, to);
}

void cmp_move_rename(struct cmp_file *file, const char *volid, const char *to)
{
    for (size_t i = 0; i < file->count; i++) {
        Atoll__Qemu__V1__Config *config = ((Atoll__Qemu__V1__File *)file->sections[i].message)->config;
        size_t count = 0;
        const struct cmp_drive *drives = config != NULL ? cmp_drives(config, file->arena, &count) : NULL;
        if (config == NULL)
            continue;
        for (size_t k = 0; k < count; k++)
            rename_one(file->arena, &drives[k].drive->file, volid, to);
        for (size_t k = 0; k < config->n_unused; k++)
            if (config->unused[k]->value != NULL)
                rename_one(file->arena, &config->unused[k]->value->file, volid, to);
        if (config->efidisk0 != NULL)
            rename_one(file->arena, &config->efidisk0->file, volid, to);
        if (config->tpmstate0 != NULL)
            rename_one(file->arena, &config->tpmstate0->file, volid, to);
    }
}

/* --- names ------------------------------------------------------------------------------------------------
 */

struct names {
    struct atl_arena *arena;
    const char **items;
    size_t count;
    size_t room;
};

static void names_put(struct names *names, const char *text)
{
    names->items =
        atl_arena_grow(names->arena, names->items, names->count, &names->room, sizeof *names->items);
    names->items[names->count++] = text;
}

static void names_add(struct names *names, const char *prefix, uint32_t index)
{
    names_put(names, atl_arena_format(names->arena, "%s%" PRIu32, prefix, index));
}

static const char **names_end(struct names *names)
{
    names_put(names, NULL);
    return names->items;
}

const char **cmp_move_devices(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena)
{
    struct names names = {.arena = arena};
    for (size_t i = 0; i < config->n_hostpci; i++)
        if (config->hostpci[i]->value != NULL && config->hostpci[i]->value->mapping == NULL)
            names_add(&names, "hostpci", config->hostpci[i]->index);
    for (size_t i = 0; i < config->n_usb; i++) {
        const Atoll__Qemu__V1__Usb *usb = config->usb[i]->value;
        if (usb != NULL && usb->mapping == NULL && (usb->host == NULL || strcmp(usb->host, "spice") != 0))
            names_add(&names, "usb", config->usb[i]->index);
    }
    for (size_t i = 0; i < config->n_serial; i++)
        if (config->serial[i]->value != NULL && strcmp(config->serial[i]->value, "socket") != 0)
            names_add(&names, "serial", config->serial[i]->index);
    for (size_t i = 0; i < config->n_parallel; i++)
        names_add(&names, "parallel", config->parallel[i]->index);
    for (size_t i = 0; i < config->n_virtiofs; i++)
        names_add(&names, "virtiofs", config->virtiofs[i]->index);
    if (config->ivshmem != NULL)
        names_put(&names, "ivshmem");
    return names_end(&names);
}

const char **cmp_move_mapped(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena)
{
    struct names names = {.arena = arena};
    for (size_t i = 0; i < config->n_hostpci; i++)
        if (config->hostpci[i]->value != NULL && config->hostpci[i]->value->mapping != NULL)
            names_add(&names, "hostpci", config->hostpci[i]->index);
    for (size_t i = 0; i < config->n_usb; i++)
        if (config->usb[i]->value != NULL && config->usb[i]->value->mapping != NULL)
            names_add(&names, "usb", config->usb[i]->index);
    return names_end(&names);
}

const char **cmp_move_bridges(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena)
{
    struct names names = {.arena = arena};
    for (size_t i = 0; i < config->n_net; i++) {
        const Atoll__Qemu__V1__Net *net = config->net[i]->value;
        bool there = net == NULL || net->bridge == NULL;
        for (size_t k = 0; !there && k < names.count; k++)
            there = strcmp(names.items[k], net->bridge) == 0;
        if (!there)
            names_put(&names, net->bridge);
    }
    return names_end(&names);
}

const char *cmp_move_to_text(enum cmp_move move)
{
    static const char *const texts[] = {[CMP_MOVE_NONE] = "shared",
                                        [CMP_MOVE_COPY] = "copied",
                                        [CMP_MOVE_MIRROR] = "mirrored",
                                        [CMP_MOVE_REMAKE] = "made anew"};
    return texts[move];
}

/* --- pace -------------------------------------------------------------------------------------------------
 */

uint32_t cmp_move_downtime(uint32_t base_ms, uint64_t rounds)
{
    enum { PATIENCE = 8, MOST_MS = 2000 };
    uint64_t limit = base_ms;
    for (uint64_t i = PATIENCE; i < rounds && limit < MOST_MS; i += 2)
        limit *= 2;
    if (base_ms >= MOST_MS)
        return base_ms;
    return (uint32_t)(limit < MOST_MS ? limit : MOST_MS);
}

/* "bwlimit: clone=100,migration=2048" -> 2048; 0: none is said. */
static uint64_t datacenter_limit(const char *text)
{
    for (const char *line = text; line != NULL && *line != '\0';) {
        size_t length = strcspn(line, "\n");
        if (strncmp(line, "bwlimit:", 8) == 0) {
            uint64_t common = 0;
            for (const char *at = line + 8; at < line + length; at += strcspn(at, ",\n")) {
                at += strspn(at, ", ");
                if (strncmp(at, "migration=", 10) == 0)
                    return strtoull(at + 10, NULL, 10);
                if (strncmp(at, "default=", 8) == 0)
                    common = strtoull(at + 8, NULL, 10);
            }
            return common;
        }
        line += length;
        line += *line == '\n';
    }
    return 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

uint64_t cmp_move_limit(bool given, uint64_t limit_kib_s, int64_t speed_mb_s, const char *datacenter)
{
    uint64_t limit = (given ? limit_kib_s : datacenter_limit(datacenter)) * 1024;
    return least(limit, speed_mb_s > 0 ? (uint64_t)speed_mb_s << 20 : 0);
}
