/* Tasks that change a virtual machine: its configuration, its running self, the size of a disk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/storage/v1/volume.atl.h"
#include "work.h"

static enum atl_code check_digest(const struct work *work, struct atl_error *err)
{
    char digest[ATL_DIGEST_SIZE];
    atl_digest(work->text.bytes, work->text.size, digest);
    return atl_digest_check(digest, work->spec->digest, err);
}

/* --- the running guest ------------------------------------------------------------------------------------
 */

struct hot {
    struct work *work;
    const struct cmp_file *before; /* as the guest runs */
    struct cmp_guest guest;        /* with the new configuration */
    struct cmp_machine machine;
    const char *done; /* names that were done already */
};

static const Atoll__Qemu__V1__NetSlot *find_net(const Atoll__Qemu__V1__Config *config, const char *name)
{
    unsigned long index = strtoul(name + 3, NULL, 10);
    for (size_t i = 0; i < config->n_net; i++)
        if (config->net[i]->index == index)
            return config->net[i];
    return NULL;
}

static bool device_xml(struct hot *hot, const Atoll__Qemu__V1__Config *config, const char *name,
                       struct cmp_xml *xml)
{
    struct cmp_guest guest = hot->guest;
    guest.config = config;
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(config, &hot->work->arena, &count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(drives[i].name, name) != 0)
            continue;
        cmp_disk_xml(&guest, &drives[i], 0, xml);
        return true;
    }
    const Atoll__Qemu__V1__NetSlot *slot = strncmp(name, "net", 3) == 0 ? find_net(config, name) : NULL;
    if (slot == NULL)
        return false;
    cmp_net_xml(&guest, slot, 0, xml);
    return true;
}

static enum atl_code hot_limits(const struct hot *hot, struct atl_error *err)
{
    const Atoll__Qemu__V1__Config *config = hot->guest.config;
    uint64_t percent =
        config->has_cpulimit && config->cpulimit > 0 ? (uint64_t)(config->cpulimit * 100.0) : 0;
    uint64_t units = config->has_cpuunits && config->cpuunits > 1 ? (uint64_t)config->cpuunits : 0;
    if (hot->machine.cgroup2 && units > 10000)
        units = 10000;
    return hot->work->driver->cpu_limits(hot->work->engine, hot->guest.vmid, percent, units, err);
}

static enum atl_code hot_one(struct hot *hot, enum cmp_hot_kind kind, const char *name, struct atl_error *err)
{
    enum cmp_device_deed deed = CMP_CHANGE;
    const Atoll__Qemu__V1__Config *config = hot->guest.config;
    if (kind == CMP_HOT_CPU_LIMITS)
        return hot_limits(hot, err);
    if (kind == CMP_HOT_DISK_ADD || kind == CMP_HOT_NET_ADD)
        deed = CMP_ATTACH;
    if (kind == CMP_HOT_DISK_REMOVE || kind == CMP_HOT_NET_REMOVE) {
        deed = CMP_DETACH;
        config = hot->before->main->config;
    }
    CMP_XML_AT_EXIT struct cmp_xml xml = {0};
    if (!device_xml(hot, config, name, &xml))
        return atl_fail(err, ATL_E_INTERNAL, name, "hotplug problem - the device is not configured");
    return hot->work->driver->device(hot->work->engine, hot->guest.vmid, deed, xml.out.data, err);
}

/* Facts of both configurations together: a device that goes must be described, too. */
static enum atl_code hot_facts(struct hot *hot, struct atl_error *err)
{
    struct cmp_machine old = {0};
    struct cmp_machine new_facts = {0};
    enum atl_code code = work_machine(hot->work, hot->guest.config, &new_facts, err);
    if (code != ATL_OK)
        return code;
    hot->machine = new_facts;
    if (work_machine(hot->work, hot->before->main->config, &old, NULL) != ATL_OK)
        return ATL_OK; /* a volume that is gone already need not be described */
    struct cmp_volume *all =
        atl_arena_array(&hot->work->arena, struct cmp_volume, new_facts.volume_count + old.volume_count + 1);
    if (new_facts.volume_count > 0)
        memcpy(all, new_facts.volumes, new_facts.volume_count * sizeof *all);
    if (old.volume_count > 0)
        memcpy(all + new_facts.volume_count, old.volumes, old.volume_count * sizeof *all);
    hot->machine.volumes = all;
    hot->machine.volume_count = new_facts.volume_count + old.volume_count;
    return ATL_OK;
}

/* Does what the plan says to the running guest; the first that fails is named in *ret_failed. */
static enum atl_code hot_all(struct hot *hot, const struct cmp_update_plan *plan, const char **ret_failed,
                             struct atl_error *err)
{
    struct work *work = hot->work;
    if (plan->hot_count == 0)
        return ATL_OK;
    hot->guest = (struct cmp_guest){.vmid = work->spec->vmid,
                                    .config = work->file.main->config,
                                    .machine = &hot->machine,
                                    .arena = &work->arena};
    enum atl_code code = hot_facts(hot, err);
    for (size_t i = 0; i < plan->hot_count; i++) {
        if (code == ATL_OK && cmp_list_has(hot->done, plan->hot[i].name))
            continue;
        if (code == ATL_OK)
            code = hot_one(hot, plan->hot[i].kind, plan->hot[i].name, err);
        if (code != ATL_OK) {
            *ret_failed = plan->hot[i].name;
            return code;
        }
        atl_task_log(work->task, "%s: %s", plan->hot[i].name, cmp_hot_to_text(plan->hot[i].kind));
        hot->done = cmp_list_add(hot->done, plan->hot[i].name, &work->arena);
    }
    return ATL_OK;
}

/* --- the configuration ------------------------------------------------------------------------------------
 */

static enum atl_code update_file(struct work *work, struct cmp_change *change, struct cmp_update_plan *plan,
                                 struct atl_error *err)
{
    struct atl_errors *errors = atl_arena_new(&work->arena, struct atl_errors);
    enum atl_code code = cmp_file_read(work->text.bytes, work->text.size, &work->arena, &work->file, err);
    if (code == ATL_OK)
        code = cmp_update(&work->file, change, plan, errors, err);
    if (code != ATL_OK && errors->count > 0)
        return atl_fail(err, code, errors->items[0].field, "%s: %s", errors->items[0].field,
                        errors->items[0].text);
    return code;
}

/* Applies the change; settings the running guest refuses wait for its next start, and the first refusal is
 * the answer once everything else is written. */
static enum atl_code apply_change(struct work *work, struct cmp_change *change, struct atl_error *err)
{
    struct cmp_file before;
    struct cmp_update_plan plan = {0};
    struct atl_error refusal = {0};
    struct hot hot = {.work = work, .before = &before, .done = ""};
    enum atl_code code = cmp_file_read(work->text.bytes, work->text.size, &work->arena, &before, err);
    for (bool again = true; code == ATL_OK && again;) {
        const char *failed = NULL;
        struct atl_error error = {0};
        again = false;
        code = update_file(work, change, &plan, err);
        if (code == ATL_OK && hot_all(&hot, &plan, &failed, &error) != ATL_OK) {
            change->cold = cmp_list_add(change->cold != NULL ? change->cold : "", failed, &work->arena);
            if (refusal.code == ATL_OK)
                (void)atl_fail(&refusal, ATL_E_STATE, failed, "%s: %s", failed, error.text);
            again = true;
        }
    }
    if (code == ATL_OK)
        code = work_write(work, err);
    if (code != ATL_OK)
        return code;
    work_free_volumes(work, plan.freed, plan.freed_count);
    if (refusal.code == ATL_OK)
        return ATL_OK;
    return atl_fail(err, refusal.code, refusal.field, "%s; the change waits for the next start",
                    refusal.text);
}

enum atl_code work_config(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    struct work_made made = {0};
    enum cmp_state state = CMP_STOPPED;
    enum atl_code code = work_init(&work, task, spec, size, err);
    if (code == ATL_OK)
        code = work_take(&work, err);
    if (code == ATL_OK)
        code = check_digest(&work, err);
    if (code == ATL_OK)
        code = work.driver->state(work.engine, work.spec->vmid, &state, err);
    if (code == ATL_OK && work.spec->config != NULL)
        code = work_make_volumes(&work, work.spec->config, &made, err);
    if (code == ATL_OK) {
        struct cmp_change change = {.set = work.spec->config,
                                    .remove = work.spec->remove,
                                    .revert = work.spec->revert,
                                    .running = state != CMP_STOPPED,
                                    .force = work.spec->has_force && work.spec->force};
        code = apply_change(&work, &change, err);
        if (code == ATL_E_STATE && change.cold != NULL)
            return code; /* written; the new volumes are in use */
    }
    if (code != ATL_OK && work.bus != NULL)
        work_free_volumes(&work, made.volumes, made.count);
    return code;
}

/* --- resize -----------------------------------------------------------------------------------------------
 */

static enum atl_code wanted_size(const struct work *work, uint64_t now, uint64_t *ret_size,
                                 struct atl_error *err)
{
    const char *text = work->spec->size;
    uint64_t size = 0;
    enum atl_code code = cmp_size_parse(text[0] == '+' ? text + 1 : text, "size", &size, err);
    if (code != ATL_OK)
        return code;
    if (text[0] == '+')
        size += now;
    size = (size + 4095) & ~UINT64_C(4095); /* whole blocks, for O_DIRECT */
    if (size < now)
        return atl_fail(err, ATL_E_INVALID, "size", "shrinking disks is not supported");
    *ret_size = size;
    return ATL_OK;
}

static enum atl_code grow(struct work *work, const char *volid, uint64_t size_bytes, struct atl_error *err)
{
    enum cmp_state state = CMP_STOPPED;
    enum cmp_bus bus = CMP_IDE;
    uint32_t index = 0;
    enum atl_code code = work->driver->state(work->engine, work->spec->vmid, &state, err);
    if (code != ATL_OK)
        return code;
    if (state != CMP_STOPPED && cmp_drive_name(work->spec->disk, &bus, &index)) {
        char target[8];
        cmp_disk_target(work->file.main->config, bus, index, target);
        return work->driver->resize(work->engine, work->spec->vmid, target, size_bytes, err);
    }
    Atoll__Storage__V1__ResizeRequest request = ATOLL__STORAGE__V1__RESIZE_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.volid = atl_arena_strdup(&work->arena, volid);
    request.size_bytes = size_bytes;
    return atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Resize, &request.base, 0, &work->arena,
                         &output, err);
}

static enum atl_code resize_disk(struct work *work, struct atl_error *err)
{
    Atoll__Qemu__V1__Drive *drive = cmp_drive_find(work->file.main->config, work->spec->disk);
    const Atoll__Storage__V1__VolumeInfo *info = NULL;
    uint64_t size_bytes = 0;
    if (drive == NULL)
        return atl_fail(err, ATL_E_ABSENT, "disk", "disk '%s' does not exist", work->spec->disk);
    if (cmp_drive_is_cdrom(drive) || !cmp_drive_has_volume(drive))
        return atl_fail(err, ATL_E_INVALID, "disk", "can't resize '%s': it is a CD drive or no volume",
                        work->spec->disk);
    enum atl_code code = work_volume_info(work, drive->file, &info, err);
    if (code == ATL_OK)
        code = wanted_size(work, info->size_bytes, &size_bytes, err);
    if (code == ATL_OK && size_bytes > info->size_bytes)
        code = grow(work, drive->file, size_bytes, err);
    if (code != ATL_OK)
        return code;
    char text[24];
    cmp_size_format(size_bytes, text, sizeof text);
    drive->size = atl_arena_strdup(&work->arena, text);
    atl_task_log(work->task, "%s: size is now %s", work->spec->disk, text);
    return work_write(work, err);
}

enum atl_code work_resize(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    enum atl_code code = work_init(&work, task, spec, size, err);
    if (code == ATL_OK)
        code = work_take(&work, err);
    if (code == ATL_OK)
        code = check_digest(&work, err);
    return code == ATL_OK ? resize_disk(&work, err) : code;
}
