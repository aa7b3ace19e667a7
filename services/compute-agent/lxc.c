/* Containers in the agent: who runs, their use, their start with the node, leftovers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atoll/lxc/v1/helper.atl.h"
#include "atoll/lxc/v1/lxc.atl.h"
#include "core/lxc_volume.h"
#include "io/log.h"
#include "lxc_part.h"
#include "lxc_work.h"
#include "push.h"

/* --- who runs
 * ----------------------------------------------------------------------------------------------------- */

static size_t seek(const struct lxc_part *part, uint32_t vmid)
{
    size_t low = 0;
    size_t high = part->guest_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (part->guests[middle]->vmid < vmid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct lxc_guest *lxc_part_find(const struct lxc_part *part, uint32_t vmid)
{
    size_t at = seek(part, vmid);
    return at < part->guest_count && part->guests[at]->vmid == vmid ? part->guests[at] : NULL;
}

static void release(struct lxc_guest *guest)
{
    atl_watch_free(guest->watch);
    if (guest->monitor_fd >= 0)
        (void)close(guest->monitor_fd); /* a process descriptor */
    free(guest);
}

static void forget(struct lxc_guest *guest)
{
    struct lxc_part *part = guest->part;
    size_t at = seek(part, guest->vmid);
    part->guest_count--;
    memmove(&part->guests[at], &part->guests[at + 1], (part->guest_count - at) * sizeof(part->guests[0]));
    release(guest);
}

static void remember(struct lxc_part *part, struct lxc_guest *guest)
{
    size_t at = seek(part, guest->vmid);
    if (part->guest_count == part->guest_room) {
        part->guest_room = part->guest_room * 2 + 16;
        part->guests = atl_realloc(part->guests, part->guest_room * sizeof(part->guests[0]));
    }
    memmove(&part->guests[at + 1], &part->guests[at], (part->guest_count - at) * sizeof(part->guests[0]));
    part->guests[at] = guest;
    part->guest_count++;
}

static void log_guest(const char *event, uint32_t vmid, const char *what)
{
    char id[16];
    (void)snprintf(id, sizeof id, "%" PRIu32, vmid);
    const struct atl_log_field fields[] = {{"ATOLL_VMID", id}};
    atl_log_event(ATL_NOTICE, event, fields, ATL_COUNT(fields), "container %s %s", id, what);
}

static void publish(const struct lxc_part *part, uint32_t vmid)
{
    char topic[32];
    (void)snprintf(topic, sizeof topic, "guest/%" PRIu32 "/state", vmid);
    atl_bus_publish(part->cmp->bus, topic, NULL);
}

static void gone(struct lxc_guest *guest)
{
    struct lxc_part *part = guest->part;
    uint32_t vmid = guest->vmid;
    forget(guest);
    log_guest("guest-stopped", vmid, "stopped");
    publish(part, vmid);
    cmp_push_soon(part->cmp->push);
}

/* The monitor has ended: so has the container. */
static void ended(void *user, unsigned int events)
{
    (void)events;
    struct lxc_guest *guest = user;
    struct lxc_part *part = guest->part;
    struct cmp_ct_run run;
    uint32_t vmid = guest->vmid;
    if (!part->driver->running(&part->host, vmid, &run)) { /* a new one may be up already */
        gone(guest);
        return;
    }
    forget(guest);
    (void)lxc_part_look(part, vmid); /* asked again by whoever needs it */
    cmp_push_soon(part->cmp->push);
}

struct lxc_guest *lxc_part_look(struct lxc_part *part, uint32_t vmid)
{
    struct cmp_ct_run run;
    struct lxc_guest *guest = lxc_part_find(part, vmid);
    if (!part->driver->running(&part->host, vmid, &run)) {
        if (guest != NULL && guest->watch == NULL)
            gone(guest); /* else its watch tells of its end */
        return NULL;
    }
    if (guest != NULL && guest->run.monitor == run.monitor && guest->run.monitor_start == run.monitor_start) {
        guest->run = run; /* it may have rebooted */
        return guest;
    }
    if (guest != NULL)
        forget(guest);
    int fd = run.monitor > 0 ? (int)syscall(SYS_pidfd_open, run.monitor, 0) : -1;
    if (run.monitor > 0 && fd < 0)
        return NULL; /* ended in between */
    guest = atl_new0(struct lxc_guest);
    guest->vmid = vmid;
    guest->run = run;
    guest->part = part;
    guest->monitor_fd = fd;
    remember(part, guest);
    if (fd >= 0)
        guest->watch = atl_loop_fd(part->cmp->loop, fd, ATL_READ, ended, guest);
    log_guest("guest-started", vmid, "runs");
    publish(part, vmid);
    return guest;
}

/* Finds what runs: the agent may have been away. */
static void look_all(struct lxc_part *part)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    uint32_t *ids = NULL;
    size_t count = part->driver->list(&part->host, &arena, &ids);
    for (size_t i = 0; i < count; i++)
        (void)lxc_part_look(part, ids[i]); /* NULL: it is a leftover */
}

const char *lxc_part_state(const struct lxc_part *part, uint32_t vmid)
{
    return lxc_part_find(part, vmid) != NULL ? "running" : "stopped";
}

/* --- use
 * ----------------------------------------------------------------------------------------------------------
 */

void lxc_part_use(struct lxc_part *part, struct lxc_guest *guest, uint64_t nets, struct cmp_lxc_use *ret_use)
{
    uint32_t indexes[CMP_LXC_NETS];
    size_t count = 0;
    for (uint32_t i = 0; i < CMP_LXC_NETS; i++)
        if ((nets >> i & 1) != 0)
            indexes[count++] = i;
    part->driver->use(&part->host, guest->vmid, &guest->run, indexes, count, ret_use);
    atl_ns now = atl_clock_monotonic();
    if (guest->sampled_at == 0) {
        guest->cpu_ns = ret_use->cpu_ns;
        guest->sampled_at = now;
    } else if (now - guest->sampled_at >= ATL_SECOND && ret_use->cpu_ns >= guest->cpu_ns) {
        guest->cpu_cores = (double)(ret_use->cpu_ns - guest->cpu_ns) / (double)(now - guest->sampled_at);
        guest->cpu_ns = ret_use->cpu_ns;
        guest->sampled_at = now;
    }
}

/* --- files
 * -------------------------------------------------------------------------------------------------------- */

enum atl_code lxc_part_doc(const struct lxc_part *part, uint32_t vmid, struct atl_arena *arena,
                           struct cmp_lxc_doc *ret_doc, struct atl_error *err)
{
    const struct atl_file *file = cmp_config_file(part->cmp, "lxc", vmid);
    if (file == NULL)
        return atl_fail(err, ATL_E_ABSENT, NULL,
                        "Configuration file 'nodes/%s/lxc/%" PRIu32 ".conf' does not exist",
                        part->cmp->options.node, vmid);
    return cmp_lxc_doc_read(file->bytes, file->size, arena, ret_doc, err);
}

struct cmp_lxc_facts lxc_part_facts(const struct lxc_part *part, uint32_t vmid, struct atl_arena *arena)
{
    return (struct cmp_lxc_facts){.vmid = vmid,
                                  .cgroup_version = part->host.cgroup_version,
                                  .cgroup_base = part->host.cgroup_base,
                                  .run_dir = cmp_lxc_folder(&part->host, vmid, arena),
                                  .map_first = 100000,
                                  .map_count = 65536,
                                  .apparmor = part->host.apparmor ? "generated" : NULL,
                                  .swap_accounting = part->host.swap_accounting,
                                  .host_cpus = part->host.cpus};
}

bool lxc_part_random(uint8_t random[CMP_LXC_RANDOM])
{
    return getrandom(random, CMP_LXC_RANDOM, 0) == (ssize_t)CMP_LXC_RANDOM;
}

const char *lxc_part_mac_prefix(const struct lxc_part *part, struct atl_arena *arena)
{
    return cmp_datacenter(part->cmp, "mac_prefix", arena);
}

/* The id in "nodes/pve/lxc/101.conf"; 0: another file. */
static uint32_t vmid_of(const char *path)
{
    const char *name = strrchr(path, '/');
    char *end = NULL;
    if (name == NULL)
        return 0;
    unsigned long vmid = strtoul(name + 1, &end, 10);
    return end != name + 1 && strcmp(end, ".conf") == 0 && vmid <= 999999999 ? (uint32_t)vmid : 0;
}

/* --- the part's table
 * --------------------------------------------------------------------------------------------- */

/* What the file says, as lists show it. */
static enum atl_code read_facts(const struct atl_file *file, struct cmp_facts *facts)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_lxc_doc doc;
    enum atl_code code = cmp_lxc_doc_read(file->bytes, file->size, &arena, &doc, NULL);
    if (code != ATL_OK)
        return code;
    const Atoll__Lxc__V1__Config *config = doc.now->config;
    const char *lock = doc.now->state->lock;
    facts->template_ = config->has_template_ && config->template_;
    facts->cpus = config->has_cpulimit && config->cpulimit > 0 ? config->cpulimit
                  : config->has_cores                          ? (double)config->cores
                                                               : 0;
    facts->maxmem = (uint64_t)cmp_lxc_memory_bytes(config);
    facts->maxswap = (uint64_t)cmp_lxc_swap_bytes(config);
    facts->maxdisk = config->rootfs != NULL ? cmp_lxc_size_bytes(config->rootfs->size) : 0;
    facts->name = config->hostname != NULL ? atl_strdup(config->hostname) : NULL;
    facts->tags = config->tags != NULL ? atl_strdup(config->tags) : NULL;
    facts->lock = lock != NULL ? atl_strdup(lock) : NULL;
    for (size_t i = 0; i < config->n_net; i++)
        if (config->net[i]->index < CMP_LXC_NETS)
            facts->nets |= UINT64_C(1) << config->net[i]->index;
    return ATL_OK;
}

double lxc_part_cpus(const struct lxc_part *part, const struct cmp_facts *facts)
{
    return facts->cpus > 0 ? facts->cpus : part->host.cpus;
}

static Atoll__Store__V1__GuestStatus *guest_status(struct lxc_part *part, const struct cmp_facts *facts,
                                                   struct atl_arena *arena)
{
    static char type[] = "lxc";
    Atoll__Store__V1__GuestStatus *row = atl_arena_new(arena, Atoll__Store__V1__GuestStatus);
    atoll__store__v1__guest_status__init(row);
    row->vmid = facts->vmid;
    row->type = type;
    row->status = atl_arena_strdup(arena, lxc_part_state(part, facts->vmid));
    double cores = lxc_part_cpus(part, facts);
    row->has_maxcpu = row->has_maxmem = row->has_maxdisk = true;
    row->maxcpu = cores;
    row->maxmem = facts->maxmem;
    row->maxdisk = facts->maxdisk;
    struct lxc_guest *guest = lxc_part_find(part, facts->vmid);
    if (guest == NULL)
        return row;
    struct cmp_lxc_use use;
    lxc_part_use(part, guest, facts->nets, &use);
    row->has_cpu = row->has_mem = row->has_disk = row->has_diskread = row->has_diskwrite = row->has_netin =
        row->has_netout = row->has_uptime = true;
    row->cpu = cores > 0 ? guest->cpu_cores / cores : 0;
    row->mem = use.memory_bytes;
    row->disk = use.disk_bytes;
    row->diskread = use.read_bytes;
    row->diskwrite = use.written_bytes;
    row->netin = use.net_in_bytes;
    row->netout = use.net_out_bytes;
    row->uptime = use.uptime_s;
    if (row->maxdisk == 0)
        row->maxdisk = use.disk_total_bytes;
    return row;
}

static void own_prefix(const struct cmp *cmp, char *prefix, size_t size)
{
    (void)snprintf(prefix, size, "nodes/%s/lxc/", cmp->options.node);
}

static void part_status(void *self, struct cmp_status *status)
{
    struct lxc_part *part = self;
    size_t count = cmp_facts_count(part->facts);
    status->guests = atl_arena_array(status->arena, Atoll__Store__V1__GuestStatus *, count + 1);
    for (size_t i = 0; i < count; i++)
        status->guests[status->guest_count++] =
            guest_status(part, cmp_facts_at(part->facts, i), status->arena);
}

struct each {
    struct lxc_part *part;
    struct cmp_boot_guest *boot;
    size_t room;
    size_t count;
};

static void boot_one(const char *path, const struct atl_file *file, void *user)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct each *each = user;
    struct cmp_lxc_doc doc;
    uint32_t vmid = vmid_of(path);
    if (vmid == 0 || each->count >= each->room ||
        cmp_lxc_doc_read(file->bytes, file->size, &arena, &doc, NULL) != ATL_OK)
        return;
    const Atoll__Lxc__V1__Config *config = doc.now->config;
    if (!config->has_onboot || !config->onboot || (config->has_template_ && config->template_) ||
        cmp_lxc_doc_lock(&doc) != NULL)
        return;
    struct cmp_boot_guest *guest = &each->boot[each->count++];
    *guest = (struct cmp_boot_guest){.vmid = vmid, .running = lxc_part_find(each->part, vmid) != NULL};
    (void)atl_copy(guest->startup, sizeof guest->startup, config->startup != NULL ? config->startup : "");
}

static size_t part_boot_guests(void *self, struct cmp_boot_guest *guests, size_t room, bool *ret_known)
{
    char prefix[160];
    struct each each = {.part = self, .boot = guests, .room = room};
    own_prefix(each.part->cmp, prefix, sizeof prefix);
    atl_mirror_each(each.part->cmp->mirror, prefix, boot_one, &each);
    *ret_known = true; /* look_all() has told what runs */
    return each.count;
}

static void own_task(struct lxc_part *part, const char *type, const Atoll__Lxc__V1__TaskSpec *spec)
{
    char id[16];
    struct atl_error error = {0};
    (void)snprintf(id, sizeof id, "%" PRIu32, spec->vmid);
    if (cmp_task_own(part->cmp, type, id, &spec->base, NULL, &error) != ATL_OK)
        atl_log(ATL_ERROR, "task-failed", "cannot start %s of container %s: %s", type, id, error.text);
}

static void part_boot_start(void *self, uint32_t vmid)
{
    lxc_begin_own(self, vmid);
}

/* A start is the work of the small program that starts: it is there at once. */
static const char *part_program(const char *type, void *self)
{
    struct lxc_part *part = self;
    return part->driver->start_program != NULL && strcmp(type, "vzstart") == 0 ? part->start_program : NULL;
}

/* --- leftovers of creations
 * --------------------------------------------------------------------------------------- */

static bool is_reserved(const struct lxc_part *part, uint32_t vmid)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_lxc_doc doc;
    const char *lock = lxc_part_doc(part, vmid, &arena, &doc, NULL) == ATL_OK ? cmp_lxc_doc_lock(&doc) : NULL;
    return lock != NULL && strcmp(lock, "create") == 0;
}

/* A container that was being made by a worker that is gone: nothing of it stays. */
static void abandon(void *user, uint32_t vmid)
{
    struct lxc_part *part = user;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct atl_task_info info;
    Atoll__Lxc__V1__TaskSpec spec = ATOLL__LXC__V1__TASK_SPEC__INIT;
    if (!is_reserved(part, vmid))
        return;
    bool begun = cmp_task_newest(part->cmp, "vzcreate", vmid, &info);
    if (begun && info.state != ATL_TASK_STOPPED)
        return;
    if (begun) {
        const Atoll__Lxc__V1__TaskSpec *old = (const Atoll__Lxc__V1__TaskSpec *)cmp_task_spec(
            part->cmp, info.upid, &atl_msg_lxc_v1_TaskSpec, &arena);
        if (old == NULL) { /* without its list nothing may be removed */
            atl_log(ATL_ERROR, "clean-up-failed",
                    "container %" PRIu32 " stays locked: the task %s left no specification", vmid, info.upid);
            return;
        }
        spec.keep = old->keep;
        spec.n_keep = old->n_keep;
        begun = cmp_left_is_of(cmp_config_file(part->cmp, "lxc", vmid), old->reserved);
    }
    spec.vmid = vmid;
    spec.node = atl_arena_strdup(&arena, part->cmp->options.node);
    spec.driver = atl_arena_strdup(&arena, part->driver->name);
    spec.has_abandoned = spec.abandoned = true;
    spec.has_unbegun = true;
    spec.unbegun = !begun;
    own_task(part, "vzdestroy", &spec);
}

/* A task that made or removed a container has failed. */
static void creation_failed(struct lxc_part *part, const struct atl_task_info *info, uint32_t vmid)
{
    if (strcmp(info->parts.type, "vzcreate") == 0)
        abandon(part, vmid);
    else if (strcmp(info->parts.type, "vzdestroy") == 0 && is_reserved(part, vmid))
        cmp_left_failed(part->left, vmid);
}

static void sweep_one(const char *path, const struct atl_file *file, void *user)
{
    (void)file;
    struct lxc_part *part = user;
    uint32_t vmid = vmid_of(path);
    if (vmid == 0)
        return;
    abandon(part, vmid);
    lxc_moving_sweep(part, vmid);
}

/* Once, when the first copy of the tree is there: creations that the last agent reserved and never began,
 * migrations that nobody goes on with. */
static void batch(void *user)
{
    struct lxc_part *part = user;
    char prefix[160];
    if (part->swept || part->cmp->tasks == NULL || !atl_mirror_ready(part->cmp->mirror))
        return;
    part->swept = true;
    own_prefix(part->cmp, prefix, sizeof prefix);
    atl_mirror_each(part->cmp->mirror, prefix, sweep_one, part);
    lxc_moving_sweep_rest(part);
    cmp_left_watch(part->left);
}

static void part_task_changed(void *self, const struct atl_task_info *info)
{
    struct lxc_part *part = self;
    uint64_t vmid = cmp_ct_number(info->parts.id);
    if (strncmp(info->parts.type, "vz", 2) != 0 || info->state != ATL_TASK_STOPPED || vmid == UINT64_MAX)
        return;
    (void)lxc_part_look(part, (uint32_t)vmid); /* NULL: it does not run */
    if (strcmp(info->exit, "OK") != 0 && strncmp(info->exit, "WARNINGS", 8) != 0 && part->cmp->tasks != NULL)
        creation_failed(part, info, (uint32_t)vmid);
    lxc_moving_changed(part, info, (uint32_t)vmid);
    cmp_push_soon(part->cmp->push);
}

static const struct atl_handler handlers[] = {
    {"List", lxc_list},
    {"Create", lxc_create},
    {"Delete", lxc_delete},
    {"GetConfig", lxc_get_config},
    {"UpdateConfig", lxc_update_config},
    {"GetPending", lxc_get_pending},
    {"GetStatus", lxc_get_status},
    {"Start", lxc_start},
    {"Stop", lxc_stop},
    {"Shutdown", lxc_shutdown},
    {"Reboot", lxc_reboot},
    {"Suspend", lxc_suspend},
    {"Resume", lxc_resume},
    {"Resize", lxc_resize},
    {"Migrate", lxc_migrate},
    {"MigratePrecondition", lxc_migrate_precondition},
    {"GetInterfaces", lxc_get_interfaces},
};

static enum atl_code part_open(struct cmp *cmp, void **ret_self, struct atl_error *err)
{
    char prefix[160];
    const struct cmp_lxc_driver *driver = cmp_lxc_driver_find(cmp->options.lxc_driver);
    if (driver == NULL)
        return atl_fail(err, ATL_E_INVALID, "lxc-driver", "there is no engine '%s'; use lxc or fake",
                        cmp->options.lxc_driver);
    struct lxc_part *part = atl_new0(struct lxc_part);
    part->cmp = cmp;
    part->driver = driver;
    enum atl_code code =
        driver->open(cmp->options.run_dir, true, cmp->options.fake_containers, &part->host, err);
    if (code != ATL_OK) {
        driver->close(&part->host);
        free(part);
        return code;
    }
    if (driver->start_program != NULL)
        (void)snprintf(part->start_program, sizeof part->start_program, "%s/%s", part->host.helper_dir,
                       driver->start_program);
    own_prefix(cmp, prefix, sizeof prefix);
    part->facts = cmp_facts_open(cmp->mirror, prefix, read_facts);
    look_all(part);
    part->left = cmp_left_open(cmp, "lxc", part->facts, abandon, part);
    atl_mirror_on_batch(cmp->mirror, batch, part);
    atl_bus_serve(cmp->bus, &atl_svc_lxc_v1_Lxc, handlers, ATL_COUNT(handlers), part);
    lxc_moving_serve(part);
    *ret_self = part;
    return ATL_OK;
}

static void part_close(void *self)
{
    struct lxc_part *part = self;
    lxc_begin_close(part);
    for (size_t i = 0; i < part->guest_count; i++)
        release(part->guests[i]);
    free(part->guests);
    cmp_left_close(&part->left);
    cmp_facts_close(&part->facts);
    part->driver->close(&part->host);
    free(part);
}

const struct cmp_part cmp_lxc_part = {
    .name = "lxc",
    .open = part_open,
    .close = part_close,
    .status = part_status,
    .boot_guests = part_boot_guests,
    .boot_start = part_boot_start,
    .tasks = cmp_lxc_tasks,
    .task_count = CMP_LXC_TASKS,
    .task_changed = part_task_changed,
    .program = part_program,
};
