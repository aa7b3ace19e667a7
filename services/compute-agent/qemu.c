/* The part of the agent for virtual machines: its state, and what it tells the rest of the agent. */
#include "qemu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/qemu/v1/work.atl.h"
#include "core/domxml.h"
#include "io/log.h"
#include "move.h"
#include "push.h"

const struct qemu_vm *qemu_vm_find(const struct cmp_qemu *qemu, uint32_t vmid)
{
    size_t low = 0;
    size_t high = qemu->vm_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (qemu->vms[middle].sample.vmid < vmid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < qemu->vm_count && qemu->vms[low].sample.vmid == vmid ? &qemu->vms[low] : NULL;
}

enum cmp_state qemu_state(const struct cmp_qemu *qemu, uint32_t vmid)
{
    const struct qemu_vm *vm = qemu_vm_find(qemu, vmid);
    return vm != NULL ? vm->sample.state : CMP_STOPPED;
}

enum atl_code qemu_config(const struct cmp_qemu *qemu, uint32_t vmid, struct atl_arena *arena,
                          struct cmp_file *ret_file, const struct atl_file **ret_text, struct atl_error *err)
{
    const struct atl_file *text = cmp_config_file(qemu->cmp, "qemu-server", vmid);
    if (text == NULL)
        return atl_fail(err, ATL_E_ABSENT, NULL,
                        "Configuration file 'nodes/%s/qemu-server/%" PRIu32 ".conf' does not exist",
                        qemu->cmp->options.node, vmid);
    if (ret_text != NULL)
        *ret_text = text;
    return cmp_file_read(text->bytes, text->size, arena, ret_file, err);
}

/* --- samples ----------------------------------------------------------------------------------------------
 */

static void publish_state(struct cmp_qemu *qemu, uint32_t vmid, enum cmp_state state)
{
    char topic[64];
    char type[] = "qemu";
    char status[16];
    (void)snprintf(topic, sizeof topic, "guest/%" PRIu32 "/state", vmid);
    (void)atl_copy(status, sizeof status, cmp_state_to_text(state));
    Atoll__Qemu__V1__GuestEvent event = ATOLL__QEMU__V1__GUEST_EVENT__INIT;
    event.vmid = vmid;
    event.type = type;
    event.status = status;
    atl_bus_publish(qemu->cmp->bus, topic, &event.base);
    cmp_push_soon(qemu->cmp->push);
}

static double cpu_share(const struct qemu_vm *before, const struct cmp_sample *now, atl_ns at)
{
    if (before == NULL || now->cpu_ns < before->sample.cpu_ns || now->vcpus == 0)
        return 0;
    atl_ns span = at - before->seen_at;
    if (span < 500 * ATL_MS)
        return before->cpu; /* too short to say anything */
    double used = (double)(now->cpu_ns - before->sample.cpu_ns) / (double)span / now->vcpus;
    return used < 1 ? used : 1;
}

static void take_sample(const struct qemu_vm *before, const struct cmp_sample *now, atl_ns at,
                        struct qemu_vm *vm)
{
    bool same = before != NULL && before->sample.pid == now->pid;
    *vm = (struct qemu_vm){.sample = *now, .seen_at = at, .cpu = cpu_share(same ? before : NULL, now, at)};
    if (same && at - before->seen_at < 500 * ATL_MS) {
        vm->seen_at = before->seen_at; /* the next sample measures over the whole span */
        vm->sample.cpu_ns = before->sample.cpu_ns;
    }
}

void qemu_take_samples(const struct cmp_sample *samples, size_t count, void *user)
{
    struct cmp_qemu *qemu = user;
    atl_ns now = atl_clock_monotonic();
    struct qemu_vm *next = atl_alloc0((count + 1) * sizeof *next);
    struct qemu_vm *old = qemu->vms;
    size_t old_count = qemu->vm_count;
    for (size_t i = 0; i < count; i++)
        take_sample(qemu_vm_find(qemu, samples[i].vmid), &samples[i], now, &next[i]);
    qemu->vms = next;
    qemu->vm_count = count;
    size_t a = 0;
    size_t b = 0;
    while (a < old_count || b < count) { /* both are sorted: one walk finds what came, went and changed */
        uint32_t left = a < old_count ? old[a].sample.vmid : UINT32_MAX;
        uint32_t right = b < count ? next[b].sample.vmid : UINT32_MAX;
        if (left < right)
            publish_state(qemu, left, CMP_STOPPED);
        else if (left > right || old[a].sample.state != next[b].sample.state)
            publish_state(qemu, right, next[b].sample.state);
        a += left <= right;
        b += right <= left;
    }
    free(old);
    if (!qemu->known)
        cmp_push_soon(qemu->cmp->push);
    qemu->known = true;
}

static void on_link(bool up, const char *reason, void *user)
{
    struct cmp_qemu *qemu = user;
    if (up != qemu->up && up)
        atl_log(ATL_NOTICE, "engine-up", "the engine of virtual machines (%s) answers", qemu->driver->name);
    if (up != qemu->up && !up)
        atl_log(ATL_WARNING, "engine-down", "the engine of virtual machines is away, retrying: %s", reason);
    else if (!up && !qemu->known)
        atl_log(ATL_DEBUG, "engine-down", "%s", reason);
    qemu->up = up;
}

/* --- the status view --------------------------------------------------------------------------------------
 */

static uint64_t disk_size(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena)
{
    const Atoll__Qemu__V1__Drive *drive = cmp_main_disk(config, arena);
    uint64_t bytes = 0;
    if (drive == NULL || drive->size == NULL || cmp_size_parse(drive->size, "size", &bytes, NULL) != ATL_OK)
        return 0;
    return bytes;
}

static void status_running(const struct qemu_vm *vm, Atoll__Store__V1__GuestStatus *guest)
{
    const struct cmp_sample *sample = &vm->sample;
    guest->has_cpu = true;
    guest->cpu = vm->cpu;
    guest->has_mem = true;
    guest->mem = sample->mem > 0 ? sample->mem : sample->memhost;
    guest->has_memhost = sample->memhost > 0;
    guest->memhost = sample->memhost;
    guest->has_diskread = guest->has_diskwrite = guest->has_netin = guest->has_netout = true;
    guest->diskread = sample->diskread;
    guest->diskwrite = sample->diskwrite;
    guest->netin = sample->netin;
    guest->netout = sample->netout;
    guest->has_uptime = sample->started > 0;
    int64_t uptime = atl_clock_wall_seconds() - sample->started;
    guest->uptime = guest->has_uptime && uptime > 0 ? (uint64_t)uptime : 0;
}

static Atoll__Store__V1__GuestStatus *status_new(struct atl_arena *arena, uint32_t vmid, enum cmp_state state)
{
    Atoll__Store__V1__GuestStatus *guest = atl_arena_new(arena, Atoll__Store__V1__GuestStatus);
    atoll__store__v1__guest_status__init(guest);
    guest->vmid = vmid;
    guest->type = atl_arena_strdup(arena, "qemu");
    /* Clients of the list know "running" and "stopped" only; a paused guest runs. */
    guest->status = atl_arena_strdup(arena, state == CMP_STOPPED ? "stopped" : "running");
    return guest;
}

/* What the file says, as lists show it. */
static enum atl_code read_facts(const struct atl_file *file, struct cmp_facts *facts)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_file data;
    enum atl_code code = cmp_file_read(file->bytes, file->size, &arena, &data, NULL);
    if (code != ATL_OK)
        return code;
    const Atoll__Qemu__V1__Config *config = data.main->config;
    facts->template_ = config->has_template_ && config->template_;
    facts->cpus = cmp_vcpus_now(config);
    facts->maxmem = cmp_memory_mib(config) << 20;
    facts->maxdisk = disk_size(config, &arena);
    facts->name = config->name != NULL ? atl_strdup(config->name) : NULL;
    facts->tags = config->tags != NULL ? atl_strdup(config->tags) : NULL;
    facts->lock = data.main->state->lock != NULL ? atl_strdup(data.main->state->lock) : NULL;
    return ATL_OK;
}

static void status(void *self, struct cmp_status *out)
{
    const struct cmp_qemu *qemu = self;
    size_t count = cmp_facts_count(qemu->facts);
    out->guests = atl_arena_array(out->arena, Atoll__Store__V1__GuestStatus *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct cmp_facts *facts = cmp_facts_at(qemu->facts, i);
        const struct qemu_vm *vm = qemu_vm_find(qemu, facts->vmid);
        Atoll__Store__V1__GuestStatus *guest =
            status_new(out->arena, facts->vmid, vm != NULL ? vm->sample.state : CMP_STOPPED);
        if (!qemu->known)
            guest->status = atl_arena_strdup(out->arena, "unknown");
        guest->has_maxcpu = guest->has_maxmem = guest->has_maxdisk = true;
        guest->maxcpu = facts->cpus;
        guest->maxmem = facts->maxmem;
        guest->maxdisk = facts->maxdisk;
        if (vm != NULL)
            status_running(vm, guest);
        out->guests[out->guest_count++] = guest;
    }
}

/* --- start with the node ----------------------------------------------------------------------------------
 */

static uint32_t path_vmid(const char *path)
{
    const char *base = strrchr(path, '/');
    char *end = NULL;
    unsigned long vmid = base != NULL ? strtoul(base + 1, &end, 10) : 0;
    return vmid >= 100 && vmid <= 999999999 && strcmp(end, ".conf") == 0 ? (uint32_t)vmid : 0;
}

struct boot_walk {
    const struct cmp_qemu *qemu;
    struct cmp_boot_guest *guests;
    size_t room;
    size_t count;
    struct atl_arena arena;
};

static void boot_file(const char *path, const struct atl_file *file, void *user)
{
    struct boot_walk *walk = user;
    struct cmp_file config;
    uint32_t vmid = path_vmid(path);
    if (vmid == 0 || walk->count == walk->room ||
        cmp_file_read(file->bytes, file->size, &walk->arena, &config, NULL) != ATL_OK)
        return;
    const Atoll__Qemu__V1__Config *main = config.main->config;
    if (!main->has_onboot || !main->onboot || (main->has_template_ && main->template_))
        return;
    struct cmp_boot_guest *guest = &walk->guests[walk->count++];
    *guest = (struct cmp_boot_guest){.vmid = vmid, .running = qemu_state(walk->qemu, vmid) != CMP_STOPPED};
    (void)atl_copy(guest->startup, sizeof guest->startup, main->startup != NULL ? main->startup : "");
}

static size_t boot_guests(void *self, struct cmp_boot_guest *guests, size_t room, bool *ret_known)
{
    struct cmp_qemu *qemu = self;
    struct boot_walk walk = {.qemu = qemu, .guests = guests, .room = room};
    char prefix[160];
    *ret_known = qemu->known && qemu->accel != NULL && qemu_move_in_order(qemu);
    if (!*ret_known)
        return 0;
    (void)snprintf(prefix, sizeof prefix, "nodes/%s/qemu-server/", qemu->cmp->options.node);
    atl_mirror_each(qemu->cmp->mirror, prefix, boot_file, &walk);
    atl_arena_done(&walk.arena);
    return walk.count;
}

static void boot_start(void *self, uint32_t vmid)
{
    struct cmp_qemu *qemu = self;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    Atoll__Qemu__V1__Work *work = NULL;
    struct atl_error error = {0};
    char id[16];
    (void)snprintf(id, sizeof id, "%" PRIu32, vmid);
    enum atl_code code = qemu_work(qemu, NULL, vmid, &arena, &work, &error);
    if (code == ATL_OK)
        code = cmp_task_own(qemu->cmp, "qmstart", id, &work->base, NULL, &error);
    if (code != ATL_OK)
        atl_log(ATL_ERROR, "boot-start-failed", "VM %s does not start with the node: %s", id, error.text);
}

/* --- the part ---------------------------------------------------------------------------------------------
 */

static void on_batch(void *user)
{
    struct cmp_qemu *qemu = user;
    cmp_push_soon(qemu->cmp->push);
    qemu_sweep(qemu);
    qemu_move_sweep(qemu);
}

static enum atl_code part_open(struct cmp *cmp, void **ret_self, struct atl_error *err)
{
    const struct cmp_driver *driver = cmp_driver_find(cmp->options.driver);
    if (driver == NULL)
        return atl_fail(err, ATL_E_INVALID, "driver", "there is no engine '%s'; use libvirt or fake",
                        cmp->options.driver);
    struct cmp_qemu *qemu = atl_new0(struct cmp_qemu);
    *ret_self = qemu;
    qemu->cmp = cmp;
    qemu->driver = driver;
    char prefix[160];
    (void)snprintf(prefix, sizeof prefix, "nodes/%s/qemu-server/", cmp->options.node);
    qemu->facts = cmp_facts_open(cmp->mirror, prefix, read_facts);
    qemu_accel_open(qemu);
    qemu->left = cmp_left_open(cmp, "qemu-server", qemu->facts, qemu_clean_up_reserved, qemu);
    atl_mirror_on_batch(cmp->mirror, on_batch, qemu);
    const struct cmp_engine_options options = {.loop = cmp->loop,
                                               .driver = driver,
                                               .open = {.uri = cmp->options.libvirt_uri,
                                                        .state_dir = cmp->options.state_dir,
                                                        .fake_guests = cmp->options.fake_guests,
                                                        .fake_first = cmp->options.fake_first},
                                               .on_sample = qemu_take_samples,
                                               .on_link = on_link,
                                               .user = qemu};
    qemu->engine = cmp_engine_open(&options);
    qemu_rpc_serve(qemu);
    qemu_migration_serve(qemu);
    return ATL_OK;
}

static void part_close(void *self)
{
    struct cmp_qemu *qemu = self;
    if (qemu == NULL)
        return;
    qemu_accel_close(qemu);
    cmp_engine_close(&qemu->engine);
    qemu_waits_free(qemu);
    qemu_receives_free(qemu);
    cmp_left_close(&qemu->left);
    cmp_facts_close(&qemu->facts);
    free(qemu->vms);
    free(qemu);
}

static void task_changed(void *self, const struct atl_task_info *info)
{
    struct cmp_qemu *qemu = self;
    if (info->state != ATL_TASK_STOPPED)
        return;
    qemu_wait_ended(qemu, info);
    qemu_clean_up(qemu, info);
    qemu_move_ended(qemu, info);
}

static const struct atl_task_type task_types[] = {
    {"qmstart", work_start},     {"qmstop", work_stop},     {"qmshutdown", work_shutdown},
    {"qmreboot", work_reboot},   {"qmreset", work_reset},   {"qmpause", work_suspend},
    {"qmresume", work_resume},   {"qmcreate", work_create}, {"qmconfig", work_config},
    {"qmdestroy", work_destroy}, {"resize", work_resize},   {"qmigrate", work_migrate},
    {"qmreceive", work_receive},
};

const struct cmp_part cmp_qemu_part = {
    .name = "qemu",
    .open = part_open,
    .close = part_close,
    .status = status,
    .boot_guests = boot_guests,
    .boot_start = boot_start,
    .tasks = task_types,
    .task_count = ATL_COUNT(task_types),
    .task_changed = task_changed,
};
