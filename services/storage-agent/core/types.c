/* The storage types, and changes to storage.cfg that obey them; see config.h. */
#include "core/types.h"

#include <string.h>

#include "atoll/storage/v1/storage.atl.h"
#include "pure/utf8.h"

#define BIT(x) (1U << (x))

enum {
    ALL_FILES = BIT(STO_VZTMPL) | BIT(STO_ISO) | BIT(STO_BACKUP) | BIT(STO_SNIPPETS) | BIT(STO_IMPORT),
    DISKS = BIT(STO_IMAGES) | BIT(STO_ROOTDIR),
    FILE_FORMATS = BIT(STO_RAW) | BIT(STO_QCOW2) | BIT(STO_VMDK) | BIT(STO_SUBVOL),
};

static const char *const dir_keys[] = {
    "path",
    "content-dirs",
    "nodes",
    "shared",
    "disable",
    "content",
    "prune-backups",
    "format",
    "mkdir",
    "max-protected-backups",
    "bwlimit",
    "preallocation",
    "create-base-path",
    "create-subdirs",
    "is_mountpoint",
    NULL,
};
static const char *const dir_fixed[] = {"path", NULL};

static const struct sto_type types[] = {
    {"dir", ALL_FILES | DISKS | BIT(STO_NO_CONTENT), DISKS, FILE_FORMATS, STO_RAW, false, dir_keys,
     dir_fixed},
    {"btrfs", ALL_FILES | DISKS | BIT(STO_NO_CONTENT), DISKS, BIT(STO_RAW) | BIT(STO_SUBVOL), STO_RAW, false,
     NULL, NULL},
    {"nfs", ALL_FILES | DISKS, BIT(STO_IMAGES), FILE_FORMATS, STO_RAW, true, NULL, NULL},
    {"cifs", ALL_FILES | DISKS, BIT(STO_IMAGES), FILE_FORMATS, STO_RAW, true, NULL, NULL},
    {"cephfs", ALL_FILES & ~BIT(STO_IMPORT), BIT(STO_BACKUP), 0, STO_RAW, true, NULL, NULL},
    {"lvm", DISKS, DISKS, BIT(STO_RAW), STO_RAW, false, NULL, NULL},
    {"lvmthin", DISKS, DISKS, BIT(STO_RAW), STO_RAW, false, NULL, NULL},
    {"zfspool", DISKS, DISKS, BIT(STO_RAW) | BIT(STO_SUBVOL), STO_RAW, false, NULL, NULL},
    {"zfs", BIT(STO_IMAGES), BIT(STO_IMAGES), BIT(STO_RAW), STO_RAW, true, NULL, NULL},
    {"rbd", DISKS, BIT(STO_IMAGES), BIT(STO_RAW), STO_RAW, true, NULL, NULL},
    {"iscsi", BIT(STO_IMAGES) | BIT(STO_NO_CONTENT), BIT(STO_IMAGES), 0, STO_RAW, true, NULL, NULL},
    {"iscsidirect", BIT(STO_IMAGES), BIT(STO_IMAGES), 0, STO_RAW, true, NULL, NULL},
    {"pbs", BIT(STO_BACKUP) | BIT(STO_NO_CONTENT), BIT(STO_BACKUP), 0, STO_RAW, true, NULL, NULL},
    {"esxi", BIT(STO_IMPORT), BIT(STO_IMPORT), 0, STO_RAW, true, NULL, NULL},
};

const struct sto_type *sto_type_find(const char *name)
{
    for (size_t i = 0; i < ATL_COUNT(types); i++) {
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    }
    return NULL;
}

bool sto_path_ok(const char *path)
{
    return path[0] == '/' && strlen(path) < STO_PATH_MAX / 2 && sto_folder_ok(path + 1);
}

static bool listed(const char *const *list, const char *name)
{
    for (; *list != NULL; list++) {
        if (strcmp(*list, name) == 0)
            return true;
    }
    return false;
}

static const ProtobufCMessage *base_of(const Atoll__Storage__V1__Config *config)
{
    return &config->base;
}

/* Settings of the request that the type does not take. */
static void check_keys(const struct sto_type *type, const Atoll__Storage__V1__Config *config,
                       struct atl_errors *errors)
{
    const struct atl_message *table = &atl_msg_storage_v1_Config;
    for (uint32_t i = 0; i < table->count; i++) {
        const char *name = table->fields[i].name;
        if (atl_message_given(table, base_of(config), name) && !listed(type->keys, name))
            atl_errors_add(errors, name, "a storage of type '%s' has no such setting", type->name);
    }
}

static void check_content(const struct sto_type *type, const char *content, struct atl_arena *arena,
                          struct atl_errors *errors)
{
    const char *wrong = NULL;
    uint32_t bits = sto_content_bits(content, &wrong, arena);
    if (wrong != NULL)
        atl_errors_add(errors, "content", "'%s' is no content type", wrong);
    else if (bits == 0)
        atl_errors_add(errors, "content", "name at least one content type, or 'none'");
    else if ((bits & BIT(STO_NO_CONTENT)) != 0 && bits != BIT(STO_NO_CONTENT))
        atl_errors_add(errors, "content", "'none' stands alone");
    for (uint32_t i = 0; i < STO_CONTENTS; i++) {
        if ((bits & BIT(i) & ~type->contents) != 0)
            atl_errors_add(errors, "content", "storage type '%s' does not support content type '%s'",
                           type->name, sto_content_to_text(i));
    }
}

static void check_values(const struct sto_type *type, const Atoll__Storage__V1__Config *config,
                         struct atl_arena *arena, struct atl_errors *errors)
{
    check_keys(type, config, errors);
    if (config->content != NULL)
        check_content(type, config->content, arena, errors);
    if (config->path != NULL && !sto_path_ok(config->path))
        atl_errors_add(errors, "path", "give an absolute path without '.' and '..' parts and blanks");
    const char *dirs[STO_CONTENTS] = {0};
    if (config->content_dirs != NULL && !sto_dirs_read(config->content_dirs, dirs, arena))
        atl_errors_add(errors, "content-dirs",
                       "give CONTENT=FOLDER,... with folders below the storage's path");
    enum sto_format format;
    if (config->format != NULL &&
        (!sto_format_from_text(config->format, &format) || (type->formats & BIT(format)) == 0))
        atl_errors_add(errors, "format", "storage type '%s' cannot make volumes of format '%s'", type->name,
                       config->format);
    const char *mountpoint = config->is_mountpoint;
    if (mountpoint != NULL && mountpoint[0] == '/' && !sto_path_ok(mountpoint))
        atl_errors_add(errors, "is_mountpoint", "give yes, no or an absolute path");
}

static enum atl_code finish(const struct sto_change *change, const struct atl_section *sections, size_t count)
{
    if (change->errors->count > 0)
        return atl_fail(change->err, ATL_E_INVALID, change->errors->items[0].field,
                        "Parameter verification failed.");
    if (count > STO_STORAGES_MAX)
        return atl_fail(change->err, ATL_E_LIMIT, NULL, "there are %d storages, no more can be added",
                        STO_STORAGES_MAX);
    atl_sections_encode(&atl_msg_storage_v1_Entry, "type", "storage", sections, count, change->ret_text);
    return ATL_OK;
}

enum atl_code sto_config_add(const struct sto_config *config,
                             const Atoll__Storage__V1__CreateRequest *request, struct atl_arena *arena,
                             const struct sto_change *change)
{
    const struct sto_type *type = sto_type_find(request->type);
    if (sto_config_find(config, request->storage) != NULL)
        return atl_fail(change->err, ATL_E_EXISTS, NULL, "storage ID '%s' already defined", request->storage);
    if (type == NULL || type->keys == NULL)
        return atl_fail(change->err, ATL_E_UNIMPLEMENTED, "type", "storages of type '%s' are not built yet",
                        request->type);
    Atoll__Storage__V1__Config *settings = atl_arena_new(arena, Atoll__Storage__V1__Config);
    atoll__storage__v1__config__init(settings);
    if (request->config != NULL)
        *settings = *request->config;
    for (const char *const *key = type->fixed; *key != NULL; key++) {
        if (!atl_message_given(&atl_msg_storage_v1_Config, base_of(settings), *key))
            atl_errors_add(change->errors, *key, "property is missing and it is not optional");
    }
    check_values(type, settings, arena, change->errors);
    Atoll__Storage__V1__Entry *entry = atl_arena_new(arena, Atoll__Storage__V1__Entry);
    atoll__storage__v1__entry__init(entry);
    entry->type = request->type;
    entry->storage = request->storage;
    entry->config = settings;
    struct atl_section *sections = atl_arena_array(arena, struct atl_section, config->count + 1);
    if (config->count > 0)
        memcpy(sections, config->sections, config->count * sizeof *sections);
    sections[config->count] = (struct atl_section){.name = request->storage, .message = &entry->base};
    return finish(change, sections, config->count + 1);
}

static void clear_keys(const struct sto_type *type, const char *list, Atoll__Storage__V1__Config *settings,
                       struct atl_arena *arena, struct atl_errors *errors)
{
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        if (length == 0)
            break;
        const char *name = atl_arena_strndup(arena, at, length);
        if (listed(type->fixed, name))
            atl_errors_add(errors, "delete", "unable to delete required option '%s'", name);
        else if (!listed(type->keys, name))
            atl_errors_add(errors, "delete", "a storage of type '%s' has no setting '%s'", type->name, name);
        else
            (void)atl_message_clear(&atl_msg_storage_v1_Config, &settings->base, name); /* not given: fine */
        at += length;
    }
}

enum atl_code sto_config_change(const struct sto_config *config,
                                const Atoll__Storage__V1__UpdateRequest *request, struct atl_arena *arena,
                                const struct sto_change *change)
{
    const struct sto_storage *storage = NULL;
    enum atl_code code = sto_config_need(config, request->storage, &storage, change->err);
    if (code != ATL_OK)
        return code;
    code = atl_digest_check(config->digest, request->digest, change->err);
    if (code != ATL_OK)
        return code;
    const struct sto_type *type = storage->type;
    if (type == NULL || type->keys == NULL)
        return atl_fail(change->err, ATL_E_UNIMPLEMENTED, NULL, "storages of type '%s' are not built yet",
                        storage->type_name);
    Atoll__Storage__V1__Entry *entry = atl_arena_new(arena, Atoll__Storage__V1__Entry);
    Atoll__Storage__V1__Config *settings = atl_arena_new(arena, Atoll__Storage__V1__Config);
    *entry = *storage->entry;
    atoll__storage__v1__config__init(settings);
    if (entry->config != NULL)
        *settings = *entry->config;
    entry->config = settings;
    if (request->config != NULL) {
        for (const char *const *key = type->fixed; *key != NULL; key++) {
            if (atl_message_given(&atl_msg_storage_v1_Config, base_of(request->config), *key))
                atl_errors_add(change->errors, *key, "can't change value of fixed parameter '%s'", *key);
        }
        check_values(type, request->config, arena, change->errors);
        atl_message_merge(&atl_msg_storage_v1_Config, &settings->base, base_of(request->config), arena);
    }
    if (request->delete_ != NULL)
        clear_keys(type, request->delete_, settings, arena, change->errors);
    struct atl_section *sections = atl_arena_array(arena, struct atl_section, config->count);
    memcpy(sections, config->sections, config->count * sizeof *sections);
    sections[storage - config->storages].message = &entry->base;
    return finish(change, sections, config->count);
}

enum atl_code sto_config_remove(const struct sto_config *config, const char *id,
                                const struct sto_change *change)
{
    const struct sto_storage *storage = NULL;
    enum atl_code code = sto_config_need(config, id, &storage, change->err);
    if (code != ATL_OK)
        return code;
    size_t at = (size_t)(storage - config->storages);
    atl_sections_encode(&atl_msg_storage_v1_Entry, "type", "storage", config->sections, at, change->ret_text);
    atl_sections_encode(&atl_msg_storage_v1_Entry, "type", "storage", config->sections + at + 1,
                        config->count - at - 1, change->ret_text);
    return ATL_OK;
}
