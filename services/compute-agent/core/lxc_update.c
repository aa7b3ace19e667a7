/* How a request changes the file of a container. */
#include "core/lxc_update.h"

#include <stdio.h>
#include <string.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "core/lxc_volume.h"

static const struct atl_message *const config_table = &atl_msg_lxc_v1_Config;

enum { UNUSED_MAX = 256 };

bool cmp_lxc_next_name(const char **at, char ret_name[CMP_LXC_NAME])
{
    static const char gaps[] = " ,;\t\n!";
    if (*at == NULL)
        return false;
    *at += strspn(*at, gaps);
    size_t length = strcspn(*at, gaps);
    if (length == 0) {
        *at = NULL;
        return false;
    }
    size_t kept = length < CMP_LXC_NAME ? length : CMP_LXC_NAME - 1;
    memcpy(ret_name, *at, kept);
    ret_name[kept] = '\0';
    *at += length;
    return true;
}

bool cmp_lxc_setting_is_live(const char *name)
{
    static const char *const live[] = {"memory", "swap",        "cpulimit", "cpuunits",
                                       "cores",  "description", "onboot",   "startup",
                                       "tags",   "protection",  "template"};
    for (size_t i = 0; i < ATL_COUNT(live); i++)
        if (strcmp(name, live[i]) == 0)
            return true;
    return strncmp(name, "unused", 6) == 0;
}

static bool is_limit(const char *name)
{
    static const char *const limits[] = {"memory", "swap", "cpulimit", "cpuunits", "cores"};
    for (size_t i = 0; i < ATL_COUNT(limits); i++)
        if (strcmp(name, limits[i]) == 0)
            return true;
    return false;
}

static bool listed(const char *list, const char *key)
{
    char name[CMP_LXC_NAME];
    for (const char *at = list; cmp_lxc_next_name(&at, name);)
        if (strcmp(name, key) == 0)
            return true;
    return false;
}

static void unlist(struct cmp_lxc_doc *doc, const char *key)
{
    struct atl_buf text = {0};
    char name[CMP_LXC_NAME];
    for (const char *at = doc->pending_delete; cmp_lxc_next_name(&at, name);)
        if (strcmp(name, key) != 0)
            atl_buf_printf(&text, "%s%s", text.length > 0 ? "," : "", name);
    doc->pending_delete = text.length > 0 ? atl_arena_strdup(doc->arena, text.data) : NULL;
    atl_buf_done(&text);
}

static void enlist(struct cmp_lxc_doc *doc, const char *key)
{
    if (doc->pending_delete == NULL)
        doc->pending_delete = atl_arena_strdup(doc->arena, key);
    else if (!listed(doc->pending_delete, key))
        doc->pending_delete = atl_arena_format(doc->arena, "%s,%s", doc->pending_delete, key);
}

static const Atoll__Lxc__V1__Mp *mp_at(const Atoll__Lxc__V1__Config *config, const char *name)
{
    for (size_t i = 0; i < config->n_mp; i++) {
        char slot[16];
        (void)snprintf(slot, sizeof slot, "mp%" PRIu32, config->mp[i]->index);
        if (strcmp(slot, name) == 0)
            return config->mp[i]->value;
    }
    return NULL;
}

static bool is_mounted(const Atoll__Lxc__V1__Config *config, const char *volume)
{
    if (config->rootfs != NULL && config->rootfs->volume != NULL &&
        strcmp(config->rootfs->volume, volume) == 0)
        return true;
    for (size_t i = 0; i < config->n_mp; i++)
        if (config->mp[i]->value != NULL && config->mp[i]->value->volume != NULL &&
            strcmp(config->mp[i]->value->volume, volume) == 0)
            return true;
    return false;
}

static bool still_used(const Atoll__Lxc__V1__Config *config, const char *volume)
{
    if (is_mounted(config, volume))
        return true;
    for (size_t i = 0; i < config->n_unused; i++)
        if (config->unused[i]->value != NULL && strcmp(config->unused[i]->value->volume, volume) == 0)
            return true;
    return false;
}

/* A volume that no mount point names any more is remembered as unusedN. False when all places are taken. */
static bool remember_unused(Atoll__Lxc__V1__Config *config, const char *volume, struct atl_arena *arena)
{
    if (cmp_lxc_volume_kind(volume) != CMP_LXC_VOLUME_OLD || still_used(config, volume))
        return true;
    bool taken[UNUSED_MAX] = {false};
    for (size_t i = 0; i < config->n_unused; i++)
        if (config->unused[i]->index < UNUSED_MAX)
            taken[config->unused[i]->index] = true;
    for (uint32_t index = 0; index < UNUSED_MAX; index++) {
        if (taken[index])
            continue;
        Atoll__Lxc__V1__UnusedSlot *slot = atl_arena_new(arena, Atoll__Lxc__V1__UnusedSlot);
        atoll__lxc__v1__unused_slot__init(slot);
        slot->index = index;
        slot->value = atl_arena_new(arena, Atoll__Lxc__V1__Unused);
        atoll__lxc__v1__unused__init(slot->value);
        slot->value->volume = atl_arena_strdup(arena, volume);
        Atoll__Lxc__V1__UnusedSlot **all =
            atl_arena_array(arena, Atoll__Lxc__V1__UnusedSlot *, config->n_unused + 1);
        for (size_t i = 0; i < config->n_unused; i++)
            all[i] = config->unused[i];
        all[config->n_unused++] = slot;
        config->unused = all;
        return true;
    }
    return false;
}

static bool clear_setting(struct cmp_lxc_doc *doc, const char *name)
{
    Atoll__Lxc__V1__Config *now = doc->now->config;
    const Atoll__Lxc__V1__Mp *mp = mp_at(now, name);
    const char *volume = mp != NULL ? mp->volume : NULL;
    (void)atl_message_clear(config_table, &now->base, name); /* not given: nothing to take away */
    return volume == NULL || remember_unused(now, volume, doc->arena);
}

/* Puts settings into what holds now; volumes that are replaced become unused. */
static bool merge_now(struct cmp_lxc_doc *doc, const Atoll__Lxc__V1__Config *set)
{
    Atoll__Lxc__V1__Config *now = doc->now->config;
    const char *replaced[UNUSED_MAX];
    size_t count = 0;
    for (size_t i = 0; i < set->n_mp && count < UNUSED_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "mp%" PRIu32, set->mp[i]->index);
        const Atoll__Lxc__V1__Mp *old = mp_at(now, name);
        if (old != NULL && old->volume != NULL)
            replaced[count++] = old->volume;
    }
    atl_message_merge(config_table, &now->base, &set->base, doc->arena);
    size_t kept = 0;
    for (size_t i = 0; i < now->n_unused; i++) /* what is mounted again is not unused */
        if (now->unused[i]->value == NULL || !is_mounted(now, now->unused[i]->value->volume))
            now->unused[kept++] = now->unused[i];
    now->n_unused = kept;
    bool ok = true;
    for (size_t i = 0; i < count; i++)
        ok = remember_unused(now, replaced[i], doc->arena) && ok;
    return ok;
}

bool cmp_lxc_doc_settle(struct cmp_lxc_doc *doc)
{
    char name[CMP_LXC_NAME];
    if (doc->pending == NULL && doc->pending_delete == NULL)
        return false;
    for (const char *at = doc->pending_delete; cmp_lxc_next_name(&at, name);)
        (void)clear_setting(doc, name); /* with no place left the volume is only not remembered */
    if (doc->pending != NULL)
        (void)merge_now(doc, doc->pending->config);
    doc->pending = NULL;
    doc->pending_delete = NULL;
    return true;
}

static void copy_name(char *to, const char *name)
{
    (void)atl_copy(to, ATL_FIELD_MAX, name);
}

static enum atl_code remove_one(struct cmp_lxc_doc *doc, const struct cmp_lxc_update *update,
                                const char *name, struct cmp_lxc_change *change, struct atl_error *err)
{
    Atoll__Lxc__V1__Config *now = doc->now->config;
    if (atl_message_field(config_table, name) == NULL)
        return atl_fail(err, ATL_E_INVALID, "delete", "unknown setting '%s'", name);
    if (strcmp(name, "rootfs") == 0 || strcmp(name, "unprivileged") == 0 || strcmp(name, "arch") == 0 ||
        strcmp(name, "ostype") == 0)
        return atl_fail(err, ATL_E_INVALID, "delete", "unable to delete required option '%s'", name);
    if (update->set != NULL && atl_message_given(config_table, &update->set->base, name)) {
        char field[ATL_FIELD_MAX];
        copy_name(field, name);
        return atl_fail(err, ATL_E_INVALID, field, "you can't use '-%s' and -delete %s at the same time",
                        name, name);
    }
    if (doc->pending != NULL)
        (void)atl_message_clear(config_table, &doc->pending->config->base, name); /* may not wait */
    if (!atl_message_given(config_table, &now->base, name))
        return ATL_OK;
    if (update->running && !cmp_lxc_setting_is_live(name)) {
        enlist(doc, name);
        return ATL_OK;
    }
    if (strncmp(name, "unused", 6) == 0) {
        const char *volume = atl_message_text(config_table, &now->base, name, doc->arena);
        const char **all = atl_arena_array(doc->arena, const char *, change->freed_count + 1);
        for (size_t i = 0; i < change->freed_count; i++)
            all[i] = change->freed[i];
        all[change->freed_count++] = atl_arena_strndup(doc->arena, volume, strcspn(volume, ","));
        change->freed = all;
    }
    change->limits = change->limits || is_limit(name);
    if (!clear_setting(doc, name))
        return atl_fail(err, ATL_E_LIMIT, "delete", "no place is left among unused0 to unused255");
    return ATL_OK;
}

static enum atl_code check_settable(const struct cmp_lxc_doc *doc, const char *name, const char *value,
                                    struct atl_error *err)
{
    const struct atl_message *table = config_table;
    char field[ATL_FIELD_MAX];
    copy_name(field, name);
    if (strcmp(name, "unprivileged") == 0 || strcmp(name, "arch") == 0) {
        const char *now = atl_message_text(table, &doc->now->config->base, name, doc->arena);
        const struct atl_field *entry = atl_message_field(table, name);
        if (now == NULL)
            now = entry != NULL ? entry->fallback : NULL;
        if (now == NULL || strcmp(now, value) != 0)
            return atl_fail(err, ATL_E_INVALID, field, "Unable to modify read-only option: '%s'", name);
    }
    if (strncmp(name, "unused", 6) == 0)
        return atl_fail(err, ATL_E_INVALID, field, "unused volumes can be deleted or used, but not set");
    return ATL_OK;
}

static Atoll__Lxc__V1__Config *decode(const struct atl_param *params, size_t count, struct atl_arena *arena)
{
    struct atl_errors errors = {0};
    ProtobufCMessage *message = NULL;
    if (atl_params_decode(config_table, params, count, arena, &message, &errors) != ATL_OK)
        return NULL;
    return (Atoll__Lxc__V1__Config *)message;
}

/* What the container can take at once goes to `now`, the rest waits. */
static enum atl_code set_all(struct cmp_lxc_doc *doc, const struct cmp_lxc_update *update,
                             struct cmp_lxc_change *change, struct atl_error *err)
{
    struct atl_param *params = NULL;
    size_t count = 0;
    atl_params_encode(config_table, &update->set->base, doc->arena, &params, &count);
    struct atl_param *live = atl_arena_array(doc->arena, struct atl_param, count + 1);
    struct atl_param *later = atl_arena_array(doc->arena, struct atl_param, count + 1);
    size_t live_count = 0;
    size_t later_count = 0;
    for (size_t i = 0; i < count; i++) {
        enum atl_code code = check_settable(doc, params[i].name, params[i].value, err);
        if (code != ATL_OK)
            return code;
        unlist(doc, params[i].name);
        if (update->running && !cmp_lxc_setting_is_live(params[i].name)) {
            later[later_count++] = params[i];
            continue;
        }
        live[live_count++] = params[i];
        change->limits = change->limits || is_limit(params[i].name);
        if (doc->pending != NULL)
            (void)atl_message_clear(config_table, &doc->pending->config->base,
                                    params[i].name); /* may not wait */
    }
    Atoll__Lxc__V1__Config *now = decode(live, live_count, doc->arena);
    Atoll__Lxc__V1__Config *wait = decode(later, later_count, doc->arena);
    if (now == NULL || wait == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "settings that were read cannot be written");
    if (!merge_now(doc, now))
        return atl_fail(err, ATL_E_LIMIT, NULL, "no place is left among unused0 to unused255");
    if (later_count > 0 && doc->pending == NULL)
        doc->pending = cmp_lxc_file_new(doc->arena);
    if (later_count > 0)
        atl_message_merge(config_table, &doc->pending->config->base, &wait->base, doc->arena);
    return ATL_OK;
}

void cmp_lxc_fill_macs(Atoll__Lxc__V1__Config *config, const Atoll__Lxc__V1__Config *old,
                       const uint8_t *random, const char *prefix, struct atl_arena *arena)
{
    for (size_t i = 0; i < config->n_net && i < CMP_LXC_RANDOM / 6; i++) {
        Atoll__Lxc__V1__NetSlot *slot = config->net[i];
        if (slot->value == NULL || slot->value->hwaddr != NULL)
            continue;
        for (size_t j = 0; old != NULL && j < old->n_net; j++)
            if (old->net[j]->index == slot->index && old->net[j]->value != NULL)
                slot->value->hwaddr = old->net[j]->value->hwaddr;
        if (slot->value->hwaddr != NULL)
            continue;
        char mac[CMP_MAC_TEXT];
        cmp_mac_text(prefix, random + 6 * i, mac);
        slot->value->hwaddr = atl_arena_strdup(arena, mac);
    }
}

static enum atl_code check_free(const struct cmp_lxc_doc *doc, const struct cmp_lxc_update *update,
                                struct atl_error *err)
{
    enum atl_code code = atl_digest_check(doc->digest, update->digest, err);
    if (code != ATL_OK)
        return code;
    const char *lock = cmp_lxc_doc_lock(doc);
    if (lock != NULL)
        return atl_fail(err, ATL_E_CONFLICT, NULL, "CT is locked (%s)", lock);
    return ATL_OK;
}

enum atl_code cmp_lxc_doc_update(struct cmp_lxc_doc *doc, const struct cmp_lxc_update *update,
                                 struct cmp_lxc_change *ret_change, struct atl_error *err)
{
    struct cmp_lxc_change change = {0};
    char name[CMP_LXC_NAME];
    enum atl_code code = check_free(doc, update, err);
    if (code != ATL_OK)
        return code;
    for (const char *at = update->revert; cmp_lxc_next_name(&at, name);) {
        if (atl_message_field(config_table, name) == NULL)
            return atl_fail(err, ATL_E_INVALID, "revert", "unknown setting '%s'", name);
        if (doc->pending != NULL)
            (void)atl_message_clear(config_table, &doc->pending->config->base, name); /* may not wait */
        unlist(doc, name);
    }
    for (const char *at = update->remove; cmp_lxc_next_name(&at, name);) {
        code = remove_one(doc, update, name, &change, err);
        if (code != ATL_OK)
            return code;
    }
    if (update->set != NULL) {
        Atoll__Lxc__V1__Config *set = atl_arena_new(doc->arena, Atoll__Lxc__V1__Config);
        atoll__lxc__v1__config__init(set);
        atl_message_merge(config_table, &set->base, &update->set->base, doc->arena);
        cmp_lxc_fill_macs(set, doc->now->config, update->random, update->mac_prefix, doc->arena);
        struct cmp_lxc_update filled = *update;
        filled.set = set;
        code = set_all(doc, &filled, &change, err);
    }
    if (code == ATL_OK)
        *ret_change = change;
    return code;
}
