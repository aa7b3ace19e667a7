/* A virtual machine's file as data. */
#include "core/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/qemu/v1/qemu.atl.h"
#include "core/domxml.h"

static Atoll__Qemu__V1__File *file_empty(struct atl_arena *arena)
{
    Atoll__Qemu__V1__File *file = atl_arena_new(arena, Atoll__Qemu__V1__File);
    atoll__qemu__v1__file__init(file);
    return file;
}

static void file_complete(Atoll__Qemu__V1__File *file, struct atl_arena *arena)
{
    if (file->config == NULL) {
        file->config = atl_arena_new(arena, Atoll__Qemu__V1__Config);
        atoll__qemu__v1__config__init(file->config);
    }
    if (file->state == NULL) {
        file->state = atl_arena_new(arena, Atoll__Qemu__V1__State);
        atoll__qemu__v1__state__init(file->state);
    }
}

void cmp_file_new(struct atl_arena *arena, struct cmp_file *ret_file)
{
    struct cmp_file file = {.arena = arena, .count = 1, .pending_delete = ""};
    file.sections = atl_arena_new(arena, struct atl_section);
    file.main = file_empty(arena);
    file_complete(file.main, arena);
    file.pending = file_empty(arena);
    file_complete(file.pending, arena);
    file.sections[0] = (struct atl_section){.name = "", .message = &file.main->base};
    *ret_file = file;
}

enum atl_code cmp_file_read(const char *text, size_t size, struct atl_arena *arena, struct cmp_file *ret_file,
                            struct atl_error *err)
{
    struct cmp_file file;
    cmp_file_new(arena, &file);
    struct atl_section *sections = NULL;
    size_t count = 0;
    enum atl_code code = atl_guest_decode(&atl_msg_qemu_v1_File, text, size, arena, &sections, &count, NULL);
    if (code != ATL_OK)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the configuration of the guest cannot be read");
    if (count > 0) {
        file.sections = sections;
        file.count = count;
        file.main = (Atoll__Qemu__V1__File *)sections[0].message;
        file_complete(file.main, arena);
    }
    for (size_t i = 1; i < count; i++) {
        if (strcmp(sections[i].name, "PENDING") != 0)
            continue;
        file.pending = (Atoll__Qemu__V1__File *)sections[i].message;
        file_complete(file.pending, arena);
        const char *list = atl_section_take(&sections[i], "delete");
        file.pending_delete = list != NULL ? list : "";
    }
    *ret_file = file;
    return ATL_OK;
}

/* What waits, with lines of newer versions; no message: nothing does. */
static struct atl_section waiting(const struct cmp_file *file)
{
    struct atl_section section = {.name = NULL};
    size_t settings = 0;
    for (size_t i = 1; i < file->count; i++)
        if (strcmp(file->sections[i].name, "PENDING") == 0)
            section = file->sections[i];
    (void)cmp_settings(file->pending->config, file->arena, &settings);
    if (file->pending_delete[0] != '\0')
        atl_section_add(&section, "delete", file->pending_delete, file->arena);
    section.name = "PENDING";
    section.message = settings > 0 || section.unknown_count > 0 ? &file->pending->base : NULL;
    return section;
}

void cmp_file_write(const struct cmp_file *file, struct atl_buf *out)
{
    struct atl_section *sections = atl_arena_array(file->arena, struct atl_section, file->count + 1);
    const struct atl_section waits = waiting(file);
    size_t count = 0;
    sections[count++] = file->sections[0];
    if (waits.message != NULL)
        sections[count++] = waits;
    for (size_t i = 1; i < file->count; i++)
        if (strcmp(file->sections[i].name, "PENDING") != 0)
            sections[count++] = file->sections[i];
    atl_guest_encode(&atl_msg_qemu_v1_File, sections, count, out);
}

/* --- single settings --------------------------------------------------------------------------------------
 */

struct cmp_setting *cmp_settings(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena,
                                 size_t *ret_count)
{
    struct atl_param *params = NULL;
    size_t count = 0;
    atl_params_encode(&atl_msg_qemu_v1_Config, &config->base, arena, &params, &count);
    struct cmp_setting *list = atl_arena_array(arena, struct cmp_setting, count + 1);
    for (size_t i = 0; i < count; i++)
        list[i] = (struct cmp_setting){.name = params[i].name, .value = params[i].value};
    *ret_count = count;
    return list;
}

enum atl_code cmp_setting_put(Atoll__Qemu__V1__Config *config, const char *name, const char *value,
                              struct atl_arena *arena, struct atl_error *err)
{
    const struct atl_param param = {.name = name, .value = value};
    ProtobufCMessage *one = NULL;
    struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
    enum atl_code code = atl_params_decode(&atl_msg_qemu_v1_Config, &param, 1, arena, &one, errors);
    if (code != ATL_OK)
        return atl_fail(err, code, name, "%s", errors->count > 0 ? errors->items[0].text : "cannot be read");
    atl_message_merge(&atl_msg_qemu_v1_Config, &config->base, one, arena);
    return ATL_OK;
}

const char *cmp_setting_get(const Atoll__Qemu__V1__Config *config, const char *name, struct atl_arena *arena)
{
    return atl_message_text(&atl_msg_qemu_v1_Config, &config->base, name, arena);
}

bool cmp_setting_given(const Atoll__Qemu__V1__Config *config, const char *name)
{
    return atl_message_given(&atl_msg_qemu_v1_Config, &config->base, name);
}

void cmp_setting_clear(Atoll__Qemu__V1__Config *config, const char *name)
{
    (void)atl_message_clear(&atl_msg_qemu_v1_Config, &config->base, name); /* not given: nothing to do */
}

Atoll__Qemu__V1__Config *cmp_config_next(const struct cmp_file *file, struct atl_arena *arena)
{
    Atoll__Qemu__V1__Config *next = atl_arena_new(arena, Atoll__Qemu__V1__Config);
    atoll__qemu__v1__config__init(next);
    atl_message_merge(&atl_msg_qemu_v1_Config, &next->base, &file->main->config->base, arena);
    for (const char *at = file->pending_delete; *at != '\0';) {
        size_t length = strcspn(at, ",; ");
        if (length > 0)
            cmp_setting_clear(next, atl_arena_strndup(arena, at, length));
        at += length;
        at += strspn(at, ",; ");
    }
    atl_message_merge(&atl_msg_qemu_v1_Config, &next->base, &file->pending->config->base, arena);
    return next;
}

/* --- lists of names ---------------------------------------------------------------------------------------
 */

bool cmp_list_has(const char *list, const char *name)
{
    size_t wanted = strlen(name);
    for (const char *at = list; *at != '\0';) {
        size_t length = strcspn(at, ",; ");
        if (length == wanted && strncmp(at, name, length) == 0)
            return true;
        at += length;
        at += strspn(at, ",; ");
    }
    return false;
}

const char *cmp_list_add(const char *list, const char *name, struct atl_arena *arena)
{
    if (cmp_list_has(list, name))
        return list;
    return list[0] == '\0' ? atl_arena_strdup(arena, name) : atl_arena_format(arena, "%s,%s", list, name);
}

const char *cmp_list_drop(const char *list, const char *name, struct atl_arena *arena)
{
    if (!cmp_list_has(list, name))
        return list;
    const char *result = "";
    for (const char *at = list; *at != '\0';) {
        size_t length = strcspn(at, ",; ");
        const char *word = atl_arena_strndup(arena, at, length);
        if (length > 0 && strcmp(word, name) != 0)
            result = cmp_list_add(result, word, arena);
        at += length;
        at += strspn(at, ",; ");
    }
    return result;
}

/* --- volumes ----------------------------------------------------------------------------------------------
 */

const Atoll__Qemu__V1__Drive *cmp_main_disk(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena)
{
    const char *names[CMP_BOOT_MAX];
    size_t count = cmp_boot_order(config, arena, names);
    for (size_t i = 0; i < count; i++) {
        const Atoll__Qemu__V1__Drive *drive = cmp_drive_find(config, names[i]);
        if (drive != NULL && !cmp_drive_is_cdrom(drive))
            return drive;
    }
    const struct cmp_drive *drives = cmp_drives(config, arena, &count);
    for (size_t i = 0; i < count; i++)
        if (!cmp_drive_is_cdrom(drives[i].drive))
            return drives[i].drive;
    return NULL;
}

static int text_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static size_t config_volumes(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena,
                             const char **list)
{
    size_t used = 0;
    size_t count = 0;
    struct cmp_new_volume fresh;
    const struct cmp_drive *drives = cmp_drives(config, arena, &count);
    for (size_t i = 0; i < count; i++)
        if (cmp_drive_has_volume(drives[i].drive) && !cmp_drive_is_new(drives[i].drive, &fresh))
            list[used++] = drives[i].drive->file;
    for (size_t i = 0; i < config->n_unused; i++)
        if (config->unused[i]->value != NULL && config->unused[i]->value->file != NULL)
            list[used++] = config->unused[i]->value->file;
    return used;
}

static size_t config_volume_room(const Atoll__Qemu__V1__Config *config)
{
    return config->n_ide + config->n_sata + config->n_scsi + config->n_virtio + config->n_unused;
}

const char **cmp_volumes_of(const struct cmp_file *file, struct atl_arena *arena, size_t *ret_count)
{
    const Atoll__Qemu__V1__Config *config = file->main->config;
    const Atoll__Qemu__V1__Config *pending = file->pending->config;
    size_t room = config_volume_room(config) + config_volume_room(pending);
    const char **list = atl_arena_array(arena, const char *, room + 1);
    size_t count = config_volumes(config, arena, list);
    count += config_volumes(pending, arena, list + count);
    qsort(list, count, sizeof *list, text_order);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || strcmp(list[kept - 1], list[i]) != 0)
            list[kept++] = list[i];
    *ret_count = kept;
    return list;
}
