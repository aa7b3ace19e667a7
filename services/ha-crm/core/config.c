/* The files of high availability and changes to them. */
#include "core/config.h"

#include <string.h>

#include "atoll/ha/v1/ha.atl.h"
#include "ha/place.h"

static const struct {
    const char *path;
    const struct atl_message *table;
    const char *id_field;
    const char *noun;
    const char *required; /* the setting that cannot be deleted, or NULL */
} files[CRM_FILES] = {
    [CRM_RESOURCES] = {ATL_HA_RESOURCES_CFG, &atl_msg_ha_v1_Resource, "sid", "resource", NULL},
    [CRM_RULES] = {ATL_HA_RULES_CFG, &atl_msg_ha_v1_Rule, "rule", "rule", "resources"},
    [CRM_GROUPS] = {ATL_HA_GROUPS_CFG, &atl_msg_ha_v1_Group, "group", "group", "nodes"},
    [CRM_FENCE] = {ATL_HA_FENCE_CFG, &atl_msg_ha_v1_Fencing, "node", "fence device", "agent"},
};

const char *crm_file_path(enum crm_file file)
{
    return files[file].path;
}

enum atl_code crm_config_read(enum crm_file file, const char *text, size_t length, struct atl_arena *arena,
                              struct crm_config *ret_config, struct atl_error *err)
{
    struct crm_config config = {.file = file, .arena = arena};
    struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
    enum atl_code code = ATL_OK;
    if (length > 0)
        code = atl_sections_decode(files[file].table, "type", files[file].id_field, text, length, arena,
                                   &config.sections, &config.count, errors);
    if (code != ATL_OK)
        return atl_fail(err, code, NULL, "%s cannot be read: %s", files[file].path,
                        errors->count > 0 ? errors->items[0].text : "it is no section file");
    atl_digest(text != NULL ? text : "", length, config.digest);
    *ret_config = config;
    return ATL_OK;
}

void crm_config_write(const struct crm_config *config, struct atl_buf *out)
{
    atl_sections_encode(files[config->file].table, "type", files[config->file].id_field, config->sections,
                        config->count, out);
}

/* --- looking --- */

static const char *text_of(const struct crm_config *config, size_t at, const char *name)
{
    const char *text =
        atl_message_text(files[config->file].table, config->sections[at].message, name, config->arena);
    return text != NULL ? text : "";
}

/* The place of a section in the list, or the count. */
static size_t find(const struct crm_config *config, const char *id)
{
    const char *colon = strchr(id, ':');
    bool resource = config->file == CRM_RESOURCES;
    size_t at = 0;
    for (; at < config->count; at++) {
        const char *type = text_of(config, at, "type");
        const char *name = text_of(config, at, files[config->file].id_field);
        if (!resource && strcmp(name, id) == 0)
            break;
        if (resource && colon != NULL && strlen(type) == (size_t)(colon - id) &&
            strncmp(type, id, strlen(type)) == 0 && strcmp(name, colon + 1) == 0)
            break;
    }
    return at;
}

ProtobufCMessage *crm_config_find(const struct crm_config *config, const char *id)
{
    size_t at = find(config, id);
    return at < config->count ? config->sections[at].message : NULL;
}

static Atoll__Ha__V1__Resource *whole_resource(const struct crm_config *config, size_t at)
{
    Atoll__Ha__V1__Resource *copy = atl_arena_copy(config->arena, config->sections[at].message, sizeof *copy);
    copy->sid = atl_arena_format(config->arena, "%s:%s", copy->type != NULL ? copy->type : "",
                                 copy->sid != NULL ? copy->sid : "");
    return copy;
}

Atoll__Ha__V1__Resource *crm_resource(const struct crm_config *config, const char *sid)
{
    size_t at = find(config, sid);
    return at < config->count ? whole_resource(config, at) : NULL;
}

Atoll__Ha__V1__Resource **crm_resources(const struct crm_config *config, size_t *ret_count)
{
    Atoll__Ha__V1__Resource **list =
        atl_arena_array(config->arena, Atoll__Ha__V1__Resource *, config->count + 1);
    for (size_t i = 0; i < config->count; i++)
        list[i] = whole_resource(config, i);
    *ret_count = config->count;
    return list;
}

static void *copies(const struct crm_config *config, size_t size, size_t *ret_count)
{
    void **list = atl_arena_array(config->arena, void *, config->count + 1);
    for (size_t i = 0; i < config->count; i++)
        list[i] = atl_arena_copy(config->arena, config->sections[i].message, size);
    *ret_count = config->count;
    return list;
}

Atoll__Ha__V1__Rule **crm_rules(const struct crm_config *config, size_t *ret_count)
{
    return copies(config, sizeof(Atoll__Ha__V1__Rule), ret_count);
}

Atoll__Ha__V1__Group **crm_groups(const struct crm_config *config, size_t *ret_count)
{
    return copies(config, sizeof(Atoll__Ha__V1__Group), ret_count);
}

Atoll__Ha__V1__Fencing **crm_fencings(const struct crm_config *config, size_t *ret_count)
{
    return copies(config, sizeof(Atoll__Ha__V1__Fencing), ret_count);
}

bool crm_list_has(const char *list, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = list != NULL ? list : ""; *at != '\0';) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        if (length == size && length > 0 && memcmp(at, word, size) == 0)
            return true;
        at += length;
    }
    return false;
}

/* --- changing --- */

/* What a request gives, as settings of a section of the file: parameters of the same names, and its head. */
static ProtobufCMessage *settings(const struct crm_config *config, const struct atl_param head[2],
                                  const struct atl_message *table, const ProtobufCMessage *request)
{
    static const char *const not_settings[] = {"digest", "delete", "password", NULL};
    const struct atl_message *to = files[config->file].table;
    struct atl_param *params = NULL;
    size_t count = 0;
    size_t kept = 2;
    ProtobufCMessage *message = NULL;
    struct atl_errors *errors = atl_arena_new(config->arena, struct atl_errors);
    atl_params_encode(table, request, config->arena, &params, &count);
    struct atl_param *all = atl_arena_array(config->arena, struct atl_param, count + kept);
    memcpy(all, head, kept * sizeof *all);
    for (size_t i = 0; i < count; i++) {
        bool keep = strcmp(params[i].name, head[0].name) != 0 && strcmp(params[i].name, head[1].name) != 0;
        for (const char *const *name = not_settings; *name != NULL; name++)
            keep = keep && strcmp(params[i].name, *name) != 0;
        if (keep)
            all[kept++] = params[i];
    }
    enum atl_code code = atl_params_decode(to, all, kept, config->arena, &message, errors);
    atl_assert(code == ATL_OK); /* the request has been read with the same types */
    return message;
}

enum atl_code crm_config_add(struct crm_config *config, const char *type, const char *id,
                             const struct atl_message *table, const ProtobufCMessage *request,
                             struct atl_error *err)
{
    const char *name =
        config->file == CRM_RESOURCES ? atl_arena_format(config->arena, "%s:%s", type, id) : id;
    const struct atl_param head[] = {{"type", type}, {files[config->file].id_field, id}};
    if (find(config, name) < config->count)
        return atl_fail(err, ATL_E_EXISTS, files[config->file].id_field, "%s '%s' already defined",
                        files[config->file].noun, name);
    struct atl_section *sections = atl_arena_array(config->arena, struct atl_section, config->count + 1);
    if (config->count > 0)
        memcpy(sections, config->sections, config->count * sizeof *sections);
    sections[config->count++] =
        (struct atl_section){.name = id, .message = settings(config, head, table, request)};
    config->sections = sections;
    return ATL_OK;
}

static void clear(const struct crm_config *config, ProtobufCMessage *message, const char *list,
                  struct atl_errors *errors)
{
    const struct atl_message *table = files[config->file].table;
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        const char *name = atl_arena_strndup(config->arena, at, length);
        at += length;
        if (length == 0 ||
            (config->file == CRM_FENCE && strcmp(name, "password") == 0)) /* in a file of its own */
            continue;
        bool fixed =
            strcmp(name, "type") == 0 || strcmp(name, files[config->file].id_field) == 0 ||
            (files[config->file].required != NULL && strcmp(name, files[config->file].required) == 0);
        if (atl_message_field(table, name) == NULL)
            atl_errors_add(errors, "delete", "unknown option '%s'", name);
        else if (fixed)
            atl_errors_add(errors, "delete", "unable to delete required option '%s'", name);
        else
            (void)atl_message_clear(table, message, name);
    }
}

enum atl_code crm_config_set(struct crm_config *config, const char *id, const struct atl_message *table,
                             const ProtobufCMessage *request, struct atl_errors *errors,
                             struct atl_error *err)
{
    ProtobufCMessage *message = crm_config_find(config, id);
    const char *list = atl_message_text(table, request, "delete", config->arena);
    if (message == NULL)
        return atl_fail(err, ATL_E_ABSENT, files[config->file].id_field, "no such %s '%s'",
                        files[config->file].noun, id);
    enum atl_code code =
        atl_digest_check(config->digest, atl_message_text(table, request, "digest", config->arena), err);
    if (code != ATL_OK)
        return code;
    size_t at = find(config, id);
    const struct atl_param head[] = {
        {"type", text_of(config, at, "type")},
        {files[config->file].id_field, text_of(config, at, files[config->file].id_field)}};
    atl_message_merge(files[config->file].table, message, settings(config, head, table, request),
                      config->arena);
    if (list != NULL)
        clear(config, message, list, errors);
    if (errors->count > 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "%s", errors->items[0].text);
    return ATL_OK;
}

static void drop(struct crm_config *config, size_t at)
{
    config->count--;
    memmove(config->sections + at, config->sections + at + 1,
            (config->count - at) * sizeof config->sections[0]);
}

enum atl_code crm_config_remove(struct crm_config *config, const char *id, struct atl_error *err)
{
    size_t at = find(config, id);
    if (at == config->count)
        return atl_fail(err, ATL_E_ABSENT, files[config->file].id_field, "no such %s '%s'",
                        files[config->file].noun, id);
    drop(config, at);
    return ATL_OK;
}

/* The list without a word; "" when nothing is left. */
static char *without(const char *list, const char *word, struct atl_arena *arena)
{
    char *out = atl_arena_alloc(arena, strlen(list) + 1);
    size_t size = 0;
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        if (length > 0 && (length != strlen(word) || memcmp(at, word, length) != 0)) {
            if (size > 0)
                out[size++] = ',';
            memcpy(out + size, at, length);
            size += length;
        }
        at += length;
    }
    out[size] = '\0';
    return out;
}

bool crm_rules_forget(struct crm_config *rules, const char *sid)
{
    bool changed = false;
    for (size_t i = 0; i < rules->count;) {
        Atoll__Ha__V1__Rule *rule = (Atoll__Ha__V1__Rule *)rules->sections[i].message;
        if (!crm_list_has(rule->resources, sid)) {
            i++;
            continue;
        }
        changed = true;
        rule->resources = without(rule->resources, sid, rules->arena);
        if (rule->resources[0] == '\0')
            drop(rules, i);
        else
            i++;
    }
    return changed;
}

/* --- rules --- */

enum atl_code crm_rule_complete(const Atoll__Ha__V1__Rule *rule, struct atl_errors *errors,
                                struct atl_error *err)
{
    bool nodes = strcmp(rule->type, "node-affinity") == 0;
    if (rule->resources == NULL || rule->resources[0] == '\0')
        atl_errors_add(errors, "resources", "a rule is about one resource at least");
    if (nodes && (rule->nodes == NULL || rule->nodes[0] == '\0'))
        atl_errors_add(errors, "nodes", "missing: the nodes of a rule of type node-affinity");
    if (nodes && rule->affinity != NULL)
        atl_errors_add(errors, "affinity", "a rule of type node-affinity has none");
    if (!nodes && rule->affinity == NULL)
        atl_errors_add(errors, "affinity", "missing: positive (on one node) or negative (each on another)");
    if (!nodes && rule->nodes != NULL)
        atl_errors_add(errors, "nodes", "a rule of type resource-affinity has none");
    if (!nodes && rule->has_strict)
        atl_errors_add(errors, "strict", "a rule of type resource-affinity is always strict");
    if (errors->count > 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "%s", errors->items[0].text);
    return ATL_OK;
}
