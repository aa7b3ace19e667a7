/* Changing a configuration. */
#include "core/update.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/qemu/v1/qemu.atl.h"
#include "core/domxml.h"

/* Settings that the engine never sees, or only at the next start without anything pending being shown. */
static const char *const immediate_names[] = {
    "autostart", "cipassword", "citype",       "ciupgrade",  "ciuser",        "description",
    "freeze",    "hookscript", "name",         "nameserver", "migrate_speed", "migrate_downtime",
    "onboot",    "protection", "searchdomain", "shares",     "sshkeys",       "startdate",
    "startup",   "tags",       "template",
};

const char *cmp_hot_to_text(enum cmp_hot_kind kind)
{
    static const char *const names[CMP_HOT_KINDS] = {"add disk",         "remove disk", "change medium",
                                                     "add net",          "remove net",  "change net",
                                                     "change CPU limits"};
    atl_assert(kind < CMP_HOT_KINDS);
    return names[kind];
}

static bool numbered(const char *name, const char *base)
{
    size_t length = strlen(base);
    return strncmp(name, base, length) == 0 && isdigit((unsigned char)name[length]);
}

static bool is_immediate(const char *name)
{
    for (size_t i = 0; i < ATL_COUNT(immediate_names); i++)
        if (strcmp(immediate_names[i], name) == 0)
            return true;
    return numbered(name, "ipconfig") || numbered(name, "unused");
}

struct update {
    struct cmp_file *file;
    const struct cmp_change *change;
    struct cmp_update_plan *plan;
    Atoll__Qemu__V1__Config *main;
    Atoll__Qemu__V1__Config *pending;
};

static void plan_hot(struct update *update, enum cmp_hot_kind kind, const char *name)
{
    struct cmp_update_plan *plan = update->plan;
    for (size_t i = 0; i < plan->hot_count; i++)
        if (plan->hot[i].kind == kind && kind == CMP_HOT_CPU_LIMITS)
            return;
    atl_assert(plan->hot_count < CMP_HOT_MAX);
    plan->hot[plan->hot_count].kind = kind;
    plan->hot[plan->hot_count].name = atl_arena_strdup(update->file->arena, name);
    plan->hot_count++;
}

static void plan_free(struct update *update, const char *volid)
{
    struct cmp_update_plan *plan = update->plan;
    plan->freed = atl_arena_grow(update->file->arena, plan->freed, plan->freed_count, &plan->freed_room,
                                 sizeof *plan->freed);
    plan->freed[plan->freed_count++] = atl_arena_strdup(update->file->arena, volid);
}

/* --- volumes that lose their drive ------------------------------------------------------------------------
 */

static bool unused_holds(const Atoll__Qemu__V1__Config *config, const char *volid)
{
    for (size_t i = 0; i < config->n_unused; i++) {
        const Atoll__Qemu__V1__Unused *unused = config->unused[i]->value;
        if (unused != NULL && unused->file != NULL && strcmp(unused->file, volid) == 0)
            return true;
    }
    return false;
}

void cmp_unused_add(Atoll__Qemu__V1__Config *config, const char *volid, struct atl_arena *arena)
{
    if (unused_holds(config, volid))
        return;
    for (unsigned int index = 0; index < 256; index++) {
        char name[16];
        (void)snprintf(name, sizeof name, "unused%u", index);
        if (cmp_setting_given(config, name))
            continue;
        /* The text came out of a configuration, so it can be read back. */
        (void)!cmp_setting_put(config, name, volid, arena, NULL);
        return;
    }
}

static bool other_drive_holds(const Atoll__Qemu__V1__Config *config, const char *volid,
                              struct atl_arena *arena)
{
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(config, arena, &count);
    for (size_t i = 0; i < count; i++)
        if (drives[i].drive->file != NULL && strcmp(drives[i].drive->file, volid) == 0)
            return true;
    return false;
}

/* Called when a drive of the configuration has lost this volume. */
static void volume_dropped(struct update *update, const Atoll__Qemu__V1__Drive *old)
{
    if (old == NULL || !cmp_drive_has_volume(old) ||
        other_drive_holds(update->main, old->file, update->file->arena))
        return;
    if (cmp_drive_is_cloudinit(old))
        plan_free(update, old->file); /* made anew wherever it is wanted */
    else if (cmp_drive_is_cdrom(old))
        return; /* an image of many users */
    else if (update->change != NULL && update->change->force)
        plan_free(update, old->file);
    else
        cmp_unused_add(update->main, old->file, update->file->arena);
}

static void unused_drop_volume(Atoll__Qemu__V1__Config *config, const char *volid)
{
    for (size_t i = 0; i < config->n_unused; i++) {
        const Atoll__Qemu__V1__Unused *unused = config->unused[i]->value;
        if (unused == NULL || unused->file == NULL || strcmp(unused->file, volid) != 0)
            continue;
        char name[24];
        (void)snprintf(name, sizeof name, "unused%" PRIu32, config->unused[i]->index);
        cmp_setting_clear(config, name);
        return;
    }
}

/* --- taking effect ----------------------------------------------------------------------------------------
 */

static void main_put(struct update *update, const char *name, const char *value)
{
    Atoll__Qemu__V1__Drive *old = cmp_drive_find(update->main, name);
    Atoll__Qemu__V1__Drive copy;
    if (old != NULL)
        copy = *old;
    enum atl_code code = cmp_setting_put(update->main, name, value, update->file->arena, NULL);
    atl_assert(code == ATL_OK); /* the value was written by the codec itself */
    const Atoll__Qemu__V1__Drive *now = cmp_drive_find(update->main, name);
    if (now != NULL && now->file != NULL)
        unused_drop_volume(update->main, now->file);
    if (old != NULL)
        volume_dropped(update, &copy);
}

static void main_remove(struct update *update, const char *name)
{
    Atoll__Qemu__V1__Drive *old = cmp_drive_find(update->main, name);
    Atoll__Qemu__V1__Drive copy;
    if (old != NULL)
        copy = *old;
    if (numbered(name, "unused")) {
        const char *volid = cmp_setting_get(update->main, name, update->file->arena);
        if (volid != NULL)
            plan_free(update, volid);
    }
    cmp_setting_clear(update->main, name);
    if (old != NULL)
        volume_dropped(update, &copy);
}

static void pending_forget(struct update *update, const char *name)
{
    cmp_setting_clear(update->pending, name);
    update->file->pending_delete = cmp_list_drop(update->file->pending_delete, name, update->file->arena);
}

static bool same_text(const char *a, const char *b)
{
    return (a == NULL && b == NULL) || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool bus_plugs(const Atoll__Qemu__V1__Config *config, const char *name)
{
    enum cmp_bus bus = CMP_IDE;
    uint32_t index = 0;
    if (!cmp_drive_name(name, &bus, &index) || !cmp_hotplug_has(config, "disk"))
        return false;
    /* A further disk of virtio-scsi-single would need a controller of its own. */
    return bus == CMP_VIRTIO ||
           (bus == CMP_SCSI && config->scsihw != NULL && strcmp(config->scsihw, "virtio-scsi-pci") == 0);
}

/* Whether a drive's change can be done to the running guest, and how. */
static bool hot_drive(const struct update *update, const char *name, const Atoll__Qemu__V1__Drive *now,
                      enum cmp_hot_kind *ret_kind)
{
    const Atoll__Qemu__V1__Drive *old = cmp_drive_find(update->main, name);
    if (old != NULL && now != NULL && cmp_drive_is_cdrom(old) && cmp_drive_is_cdrom(now)) {
        *ret_kind = CMP_HOT_MEDIUM;
        return true;
    }
    if (!bus_plugs(update->main, name) || (old != NULL && now != NULL))
        return false;
    *ret_kind = now != NULL ? CMP_HOT_DISK_ADD : CMP_HOT_DISK_REMOVE;
    return true;
}

static const Atoll__Qemu__V1__Net *find_net(const Atoll__Qemu__V1__Config *config, const char *name)
{
    unsigned long index = strtoul(name + 3, NULL, 10);
    for (size_t i = 0; i < config->n_net; i++)
        if (config->net[i]->index == index)
            return config->net[i]->value;
    return NULL;
}

static bool hot_net(const struct update *update, const char *name, const Atoll__Qemu__V1__Net *now,
                    enum cmp_hot_kind *ret_kind)
{
    const Atoll__Qemu__V1__Net *old = find_net(update->main, name);
    if (!cmp_hotplug_has(update->main, "network"))
        return false;
    if (now == NULL || old == NULL) {
        *ret_kind = now != NULL ? CMP_HOT_NET_ADD : CMP_HOT_NET_REMOVE;
        return true;
    }
    bool device = same_text(old->model, now->model) && same_text(old->macaddr, now->macaddr) &&
                  old->mtu == now->mtu && old->queues == now->queues;
    *ret_kind = CMP_HOT_NET_CHANGE;
    return device && old->bridge != NULL && now->bridge != NULL;
}

/* set: the configuration that holds the new value, or NULL when the setting goes. */
static bool hot_kind(const struct update *update, const char *name, const Atoll__Qemu__V1__Config *set,
                     enum cmp_hot_kind *ret_kind)
{
    enum cmp_bus bus = CMP_IDE;
    uint32_t index = 0;
    if (update->change->cold != NULL && cmp_list_has(update->change->cold, name))
        return false;
    if (cmp_drive_name(name, &bus, &index))
        return hot_drive(update, name, set != NULL ? cmp_drive_find(set, name) : NULL, ret_kind);
    if (numbered(name, "net"))
        return hot_net(update, name, set != NULL ? find_net(set, name) : NULL, ret_kind);
    *ret_kind = CMP_HOT_CPU_LIMITS;
    return strcmp(name, "cpulimit") == 0 || strcmp(name, "cpuunits") == 0;
}

static void set_one(struct update *update, const struct cmp_setting *setting)
{
    enum cmp_hot_kind kind = CMP_HOT_KINDS;
    const char *current = cmp_setting_get(update->main, setting->name, update->file->arena);
    pending_forget(update, setting->name);
    if (same_text(current, setting->value))
        return;
    if (update->change->running && !is_immediate(setting->name)) {
        if (!hot_kind(update, setting->name, update->change->set, &kind)) {
            enum atl_code code =
                cmp_setting_put(update->pending, setting->name, setting->value, update->file->arena, NULL);
            atl_assert(code == ATL_OK);
            return;
        }
        plan_hot(update, kind, setting->name);
    }
    main_put(update, setting->name, setting->value);
}

static void remove_one(struct update *update, const char *name)
{
    enum cmp_hot_kind kind = CMP_HOT_KINDS;
    const char *waiting = NULL;
    const Atoll__Qemu__V1__Drive *drive = cmp_drive_find(update->pending, name);
    if (drive != NULL && cmp_drive_has_volume(drive))
        waiting = drive->file;
    pending_forget(update, name);
    if (waiting != NULL && !other_drive_holds(update->main, waiting, update->file->arena))
        cmp_unused_add(update->main, waiting, update->file->arena);
    if (!cmp_setting_given(update->main, name))
        return;
    if (update->change->running && !is_immediate(name)) {
        if (!hot_kind(update, name, NULL, &kind)) {
            update->file->pending_delete =
                cmp_list_add(update->file->pending_delete, name, update->file->arena);
            return;
        }
        plan_hot(update, kind, name);
    }
    main_remove(update, name);
}

void cmp_pending_apply(struct cmp_file *file, struct cmp_update_plan *plan)
{
    struct update update = {
        .file = file, .plan = plan, .main = file->main->config, .pending = file->pending->config};
    const char *list = file->pending_delete;
    for (const char *at = list; *at != '\0';) {
        size_t length = strcspn(at, ",; ");
        if (length > 0)
            main_remove(&update, atl_arena_strndup(file->arena, at, length));
        at += length;
        at += strspn(at, ",; ");
    }
    size_t count = 0;
    const struct cmp_setting *settings = cmp_settings(file->pending->config, file->arena, &count);
    for (size_t i = 0; i < count; i++)
        main_put(&update, settings[i].name, settings[i].value);
    atoll__qemu__v1__config__init(file->pending->config);
    file->pending_delete = "";
}

bool cmp_pending_any(const struct cmp_file *file)
{
    size_t count = 0;
    (void)cmp_settings(file->pending->config, file->arena, &count);
    return count > 0 || file->pending_delete[0] != '\0';
}

/* --- the whole change -------------------------------------------------------------------------------------
 */

static enum atl_code check_name(const struct update *update, const char *field, const char *name,
                                struct atl_error *err)
{
    const struct atl_field *known = atl_message_field(&atl_msg_qemu_v1_Config, name);
    bool slot = known != NULL && (known->flags & ATL_F_NUMBERED) != 0;
    bool digit = isdigit((unsigned char)name[strlen(name) - 1]) != 0;
    if (known == NULL || (slot && !digit))
        return atl_fail(err, ATL_E_INVALID, field, "unknown option '%s'", name);
    bool disk = cmp_drive_find(update->main, name) != NULL || numbered(name, "unused");
    bool guarded = update->main->has_protection && update->main->protection;
    if (disk && guarded && strcmp(field, "delete") == 0)
        return atl_fail(err, ATL_E_STATE, field, "can't remove disk '%s' - protection mode enabled", name);
    return ATL_OK;
}

typedef void one_name_fn(struct update *update, const char *name);

static enum atl_code for_names(struct update *update, const char *field, const char *list, one_name_fn *fn,
                               struct atl_error *err)
{
    for (const char *at = list != NULL ? list : ""; *at != '\0';) {
        size_t length = strcspn(at, ",; ");
        const char *name = atl_arena_strndup(update->file->arena, at, length);
        at += length;
        at += strspn(at, ",; ");
        if (length == 0)
            continue;
        enum atl_code code = check_name(update, field, name, err);
        if (code != ATL_OK)
            return code;
        if (strcmp(field, "delete") == 0 && update->change->set != NULL &&
            cmp_setting_given(update->change->set, name))
            return atl_fail(err, ATL_E_INVALID, field,
                            "you can't use '-%s' and '-delete %s' at the same time", name, name);
        fn(update, name);
    }
    return ATL_OK;
}

enum atl_code cmp_update(struct cmp_file *file, const struct cmp_change *change, struct cmp_update_plan *plan,
                         struct atl_errors *errors, struct atl_error *err)
{
    atl_assert(errors != NULL);
    *plan = (struct cmp_update_plan){0};
    struct update update = {.file = file,
                            .change = change,
                            .plan = plan,
                            .main = file->main->config,
                            .pending = file->pending->config};
    if (!change->running && cmp_pending_any(file))
        cmp_pending_apply(file, plan);
    enum atl_code code = for_names(&update, "revert", change->revert, pending_forget, err);
    if (code == ATL_OK)
        code = for_names(&update, "delete", change->remove, remove_one, err);
    if (code != ATL_OK)
        return code;
    size_t count = 0;
    const struct cmp_setting *settings =
        change->set != NULL ? cmp_settings(change->set, file->arena, &count) : NULL;
    for (size_t i = 0; i < count; i++)
        set_one(&update, &settings[i]);
    code = cmp_config_check(cmp_config_next(file, file->arena), errors);
    if (code != ATL_OK)
        return atl_fail(err, code, NULL, "Parameter verification failed.");
    return ATL_OK;
}
