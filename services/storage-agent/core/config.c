/* Reading storage.cfg and what its settings mean; see config.h. */
#include "core/config.h"

#include <stdio.h>
#include <string.h>

#include "atoll/storage/v1/storage.atl.h"
#include "core/types.h"

/* Where a folder storage keeps each content, as the API's users know it. */
static const char *const usual_dirs[STO_CONTENTS] = {
    [STO_IMAGES] = "images",    [STO_ROOTDIR] = "private", [STO_VZTMPL] = "template/cache",
    [STO_ISO] = "template/iso", [STO_BACKUP] = "dump",     [STO_SNIPPETS] = "snippets",
    [STO_IMPORT] = "import",
};

uint32_t sto_content_bits(const char *list, const char **ret_wrong, struct atl_arena *arena)
{
    uint32_t bits = 0;
    *ret_wrong = NULL;
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        enum sto_content content;
        if (length == 0)
            break;
        if (sto_content_from_text(at, length, &content))
            bits |= 1U << content;
        else if (*ret_wrong == NULL)
            *ret_wrong = atl_arena_strndup(arena, at, length);
        at += length;
    }
    return bits;
}

static const char *content_list(uint32_t bits, struct atl_arena *arena)
{
    const char *text = "";
    for (uint32_t i = 0; i < STO_CONTENTS; i++) {
        if ((bits & 1U << i) != 0)
            text = atl_arena_format(arena, "%s%s%s", text, *text == '\0' ? "" : ",", sto_content_to_text(i));
    }
    return *text == '\0' ? "none" : text;
}

bool sto_folder_ok(const char *folder)
{
    if (folder[0] == '\0' || folder[0] == '/' || strlen(folder) >= STO_FILE_MAX)
        return false;
    for (const char *at = folder; *at != '\0';) {
        size_t length = strcspn(at, "/");
        bool dots = (length == 1 && at[0] == '.') || (length == 2 && at[0] == '.' && at[1] == '.');
        if (length == 0 || dots)
            return false;
        for (size_t i = 0; i < length; i++) {
            if ((unsigned char)at[i] < 0x21 || at[i] == 0x7f || at[i] == ',' || at[i] == ';')
                return false;
        }
        at += length;
        if (*at == '/' && *++at == '\0')
            return false;
    }
    return true;
}

/* "iso=my/images,vztmpl=other": calls that do not hold are left out. */
bool sto_dirs_read(const char *text, const char *dirs[STO_CONTENTS], struct atl_arena *arena)
{
    bool all = true;
    for (const char *at = text; *at != '\0';) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        if (length == 0)
            break;
        const char *equals = memchr(at, '=', length);
        enum sto_content content;
        bool good = equals != NULL && sto_content_from_text(at, (size_t)(equals - at), &content) &&
                    usual_dirs[content] != NULL;
        const char *folder =
            good ? atl_arena_strndup(arena, equals + 1, length - (size_t)(equals + 1 - at)) : "";
        good = good && sto_folder_ok(folder);
        if (good)
            dirs[content] = folder;
        all = all && good;
        at += length;
    }
    return all;
}

static enum sto_preallocation preallocation_of(const char *text)
{
    static const char *const texts[] = {"off", "metadata", "falloc", "full"};
    for (size_t i = 0; text != NULL && i < ATL_COUNT(texts); i++) {
        if (strcmp(texts[i], text) == 0)
            return (enum sto_preallocation)i;
    }
    return STO_PREALLOCATE_METADATA;
}

static bool text_is_yes(const char *text)
{
    static const char *const words[] = {"1", "yes", "on", "true"};
    for (size_t i = 0; i < ATL_COUNT(words); i++) {
        if (strcmp(words[i], text) == 0)
            return true;
    }
    return false;
}

static const char *mountpoint_of(const Atoll__Storage__V1__Config *config)
{
    const char *text = config->is_mountpoint;
    if (text == NULL)
        return NULL;
    if (text[0] == '/')
        return text;
    return text_is_yes(text) ? config->path : NULL;
}

static void settle(struct sto_storage *storage, const Atoll__Storage__V1__Config *config,
                   struct atl_arena *arena)
{
    const struct sto_type *type = storage->type;
    const char *wrong = NULL;
    storage->path = config->path != NULL && sto_path_ok(config->path) ? config->path : NULL;
    storage->contents = config->content != NULL ? sto_content_bits(config->content, &wrong, arena)
                        : type != NULL          ? type->default_contents
                                                : 0;
    storage->content_text =
        config->content != NULL ? config->content : content_list(storage->contents, arena);
    storage->shared = (type != NULL && type->shared) || (config->has_shared && config->shared);
    storage->disabled = config->has_disable && config->disable;
    bool make = !config->has_mkdir || config->mkdir;
    storage->make_base = config->has_create_base_path ? config->create_base_path : make;
    storage->make_subdirs = config->has_create_subdirs ? config->create_subdirs : make;
    storage->mountpoint = mountpoint_of(config);
    storage->preallocation = preallocation_of(config->preallocation);
    storage->default_format = type != NULL ? type->default_format : STO_RAW;
    if (config->format != NULL)
        (void)sto_format_from_text(config->format, &storage->default_format);
    storage->nodes = config->nodes;
    for (size_t i = 0; i < STO_CONTENTS; i++)
        storage->dirs[i] = usual_dirs[i];
    if (config->content_dirs != NULL)
        (void)sto_dirs_read(config->content_dirs, storage->dirs, arena);
}

enum atl_code sto_config_read(const char *text, size_t length, struct atl_arena *arena,
                              struct sto_config *ret_config, struct atl_error *err)
{
    static const Atoll__Storage__V1__Config no_settings = ATOLL__STORAGE__V1__CONFIG__INIT;
    struct sto_config config = {0};
    struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
    enum atl_code code = ATL_OK;
    if (length > 0)
        code = atl_sections_decode(&atl_msg_storage_v1_Entry, "type", "storage", text, length, arena,
                                   &config.sections, &config.count, errors);
    if (code != ATL_OK)
        return atl_fail(err, code, NULL, "storage.cfg cannot be read: %s",
                        errors->count > 0 ? errors->items[0].text : "it is no section file");
    if (config.count > STO_STORAGES_MAX)
        return atl_fail(err, ATL_E_LIMIT, NULL, "storage.cfg has more than %d storages", STO_STORAGES_MAX);
    config.storages = atl_arena_array(arena, struct sto_storage, config.count + 1);
    for (size_t i = 0; i < config.count; i++) {
        const Atoll__Storage__V1__Entry *entry = (const void *)config.sections[i].message;
        struct sto_storage *storage = &config.storages[i];
        storage->entry = entry;
        storage->id = entry->storage != NULL ? entry->storage : "";
        storage->type_name = entry->type != NULL ? entry->type : "";
        storage->type = sto_type_find(storage->type_name);
        settle(storage, entry->config != NULL ? entry->config : &no_settings, arena);
    }
    atl_digest(text != NULL ? text : "", length, config.digest);
    *ret_config = config;
    return ATL_OK;
}

const struct sto_storage *sto_config_find(const struct sto_config *config, const char *id)
{
    for (size_t i = 0; i < config->count; i++) {
        if (strcmp(config->storages[i].id, id) == 0)
            return &config->storages[i];
    }
    return NULL;
}

enum atl_code sto_config_need(const struct sto_config *config, const char *id,
                              const struct sto_storage **ret_storage, struct atl_error *err)
{
    const struct sto_storage *storage = sto_config_find(config, id);
    if (storage == NULL)
        return atl_fail(err, ATL_E_ABSENT, NULL, "storage '%s' does not exist", id);
    *ret_storage = storage;
    return ATL_OK;
}

bool sto_storage_on_node(const struct sto_storage *storage, const char *node)
{
    if (storage->nodes == NULL)
        return true;
    size_t size = strlen(node);
    for (const char *at = storage->nodes; *at != '\0';) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        if (length == size && size > 0 && memcmp(at, node, size) == 0)
            return true;
        at += length;
    }
    return false;
}

bool sto_storage_takes(const struct sto_storage *storage, enum sto_content content)
{
    return (storage->contents & 1U << content) != 0;
}

enum atl_code sto_storage_usable(const struct sto_storage *storage, const char *node,
                                 enum sto_content content, const char *field, struct atl_error *err)
{
    if (storage->disabled)
        return atl_fail(err, ATL_E_STATE, NULL, "storage '%s' is disabled", storage->id);
    if (!sto_storage_on_node(storage, node))
        return atl_fail(err, ATL_E_STATE, NULL, "storage '%s' is not available on node '%s'", storage->id,
                        node);
    if (storage->type == NULL || storage->type->keys == NULL)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, NULL, "storage '%s': there is no driver for type '%s'",
                        storage->id, storage->type_name);
    if (content != STO_CONTENTS && !sto_storage_takes(storage, content))
        return atl_fail(err, ATL_E_INVALID, field, "storage '%s' does not support content type '%s'",
                        storage->id, sto_content_to_text(content));
    return ATL_OK;
}

Atoll__Storage__V1__Entry *sto_storage_entry(const struct sto_storage *storage, const char *digest,
                                             struct atl_arena *arena)
{
    Atoll__Storage__V1__Entry *entry = atl_arena_new(arena, Atoll__Storage__V1__Entry);
    Atoll__Storage__V1__Config *config = atl_arena_new(arena, Atoll__Storage__V1__Config);
    *entry = *storage->entry;
    if (entry->config != NULL)
        *config = *entry->config;
    else
        atoll__storage__v1__config__init(config);
    config->content = atl_arena_strdup(arena, storage->content_text);
    entry->config = config;
    entry->digest = atl_arena_strdup(arena, digest);
    return entry;
}
