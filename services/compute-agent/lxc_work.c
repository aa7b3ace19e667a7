/* Task workers of containers: reading and writing the file, facts, volumes, the start. */
#include "lxc_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atoll/storage/v1/volume.atl.h"
#include "io/loop.h"

enum { MAP_FIRST = 100000, MAP_COUNT = 65536 };

static bool stopped(void *user)
{
    const struct lxc_work *work = user;
    return atl_task_stopped(work->task);
}

enum atl_code lxc_work_init(struct lxc_work *work, struct atl_task *task, const uint8_t *spec, size_t size,
                            struct atl_error *err)
{
    *work = (struct lxc_work){.task = task, .lock_fd = -1};
    ProtobufCAllocator allocator = atl_arena_allocator(&work->arena);
    work->spec = atoll__lxc__v1__task_spec__unpack(&allocator, size, spec);
    if (work->spec == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the task's order cannot be read");
    work->vmid = work->spec->vmid;
    (void)snprintf(work->path, sizeof work->path, "nodes/%s/lxc/%" PRIu32 ".conf", work->spec->node,
                   work->vmid);
    work->driver = cmp_lxc_driver_find(work->spec->driver);
    if (work->driver == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "there is no engine '%s'", work->spec->driver);
    enum atl_code code = work->driver->open(atl_task_run_dir(task), false, 0, &work->host, err);
    return code == ATL_OK ? cmp_lxc_lock(&work->host, work->vmid, stopped, work, &work->lock_fd, err) : code;
}

void lxc_work_done(struct lxc_work *work)
{
    if (work->lock_fd >= 0)
        (void)close(work->lock_fd); /* gives the lock back */
    if (work->driver != NULL)
        work->driver->close(&work->host);
    atl_arena_done(&work->arena);
}

enum atl_code lxc_work_bus(struct lxc_work *work, struct atl_error *err)
{
    return work->bus != NULL ? ATL_OK : atl_task_bus(work->task, &work->bus, err);
}

enum atl_code lxc_work_read(struct lxc_work *work, struct atl_error *err)
{
    enum atl_code code = lxc_work_bus(work, err);
    if (code != ATL_OK)
        return code;
    code = atl_store_get_wait(work->bus, work->path, &work->arena, &work->file, err);
    if (code == ATL_E_ABSENT)
        return atl_fail(err, code, NULL, "Configuration file '%s' does not exist", work->path);
    if (code != ATL_OK)
        return code;
    return cmp_lxc_doc_read(work->file.bytes, work->file.size, &work->arena, &work->doc, err);
}

enum atl_code lxc_work_write(struct lxc_work *work, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    ATL_TXN_AT_EXIT struct atl_txn txn;
    cmp_lxc_doc_write(&work->doc, &text);
    atl_txn_init(&txn);
    atl_txn_compare(&txn, work->path, work->file.revision);
    atl_txn_put(&txn, work->path, text.data, text.length);
    struct atl_revision revision;
    enum atl_code code = atl_txn_send_wait(work->bus, &txn, 0, &revision, err);
    if (code == ATL_OK)
        work->file.revision = revision;
    return code;
}

enum atl_code lxc_work_delete_file(struct lxc_work *work, struct atl_error *err)
{
    ATL_TXN_AT_EXIT struct atl_txn txn;
    atl_txn_init(&txn);
    atl_txn_compare(&txn, work->path, work->file.revision);
    atl_txn_delete(&txn, work->path);
    struct atl_revision revision;
    return atl_txn_send_wait(work->bus, &txn, 0, &revision, err);
}

/* --- facts
 * ------------------------------------------------------------------------------------------------------- */

void lxc_work_facts(struct lxc_work *work, const Atoll__Lxc__V1__Config *config,
                    struct cmp_lxc_facts *ret_facts)
{
    struct cmp_lxc_host *host = &work->host;
    struct cmp_lxc_facts facts = {.vmid = work->vmid,
                                  .cgroup_version = host->cgroup_version,
                                  .cgroup_base = host->cgroup_base,
                                  .run_dir = cmp_lxc_folder(host, work->vmid, &work->arena),
                                  .map_first = MAP_FIRST,
                                  .map_count = MAP_COUNT,
                                  .apparmor = host->apparmor ? "generated" : NULL,
                                  .swap_accounting = host->swap_accounting,
                                  .host_cpus = host->cpus};
    if (config->has_cores && config->cores < host->cpus) {
        uint32_t *chosen = atl_arena_array(&work->arena, uint32_t, host->cpus);
        uint32_t *load = atl_arena_array(&work->arena, uint32_t, host->cpus);
        work->driver->cpu_load(host, work->vmid, load);
        facts.cpu_count = cmp_lxc_choose_cpus((uint32_t)config->cores, load, host->cpus, chosen);
        facts.cpus = chosen;
    }
    *ret_facts = facts;
}

/* --- volumes and the start
 * ---------------------------------------------------------------------------------------- */

enum atl_code lxc_work_mount(struct lxc_work *work, const struct cmp_lxc_mount *mount,
                             Atoll__Lxc__V1__Mount **ret_mount, struct atl_error *err)
{
    Atoll__Lxc__V1__Mount *entry = atl_arena_new(&work->arena, Atoll__Lxc__V1__Mount);
    atoll__lxc__v1__mount__init(entry);
    entry->slot = atl_arena_strdup(&work->arena, mount->slot);
    entry->options = mount->options != NULL ? atl_arena_strdup(&work->arena, mount->options) : NULL;
    entry->has_ro = true;
    entry->ro = mount->ro;
    entry->has_image = true;
    if (mount->bind) {
        entry->source = atl_arena_strdup(&work->arena, mount->volume);
        *ret_mount = entry;
        return ATL_OK;
    }
    Atoll__Storage__V1__PathRequest request = ATOLL__STORAGE__V1__PATH_REQUEST__INIT;
    request.volid = atl_arena_strdup(&work->arena, mount->volume);
    const ProtobufCMessage *output = NULL;
    const struct atl_task_call call = {
        .rpc = &atl_rpc_storage_v1_Volumes_Path, .input = &request.base, .to_the_end = work->to_the_end};
    enum atl_code code = lxc_work_bus(work, err);
    if (code == ATL_OK)
        code = atl_task_call_at(work->task, &call, &work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    atl_assert(output != NULL); /* a call that succeeds has one */
    const Atoll__Storage__V1__VolumeInfo *info = (const Atoll__Storage__V1__VolumeInfo *)output;
    if (strcmp(info->format, "raw") != 0 && strcmp(info->format, "subvol") != 0)
        return atl_fail(err, ATL_E_STATE, NULL, "%s: a volume of format '%s' cannot hold a container",
                        mount->slot, info->format);
    entry->source = info->path;
    entry->image = strcmp(info->format, "raw") == 0;
    *ret_mount = entry;
    return ATL_OK;
}

static enum atl_code settle(struct lxc_work *work, struct atl_error *err)
{
    if (!cmp_lxc_doc_settle(&work->doc))
        return ATL_OK;
    atl_task_log(work->task, "changes that waited take effect");
    return lxc_work_write(work, err);
}

enum atl_code lxc_work_start(struct lxc_work *work, struct atl_error *err)
{
    enum atl_code code = settle(work, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Lxc__V1__Config *config = work->doc.now->config;
    const struct atl_line *raw = NULL;
    size_t raw_count = cmp_lxc_doc_raw(&work->doc, &raw);
    struct cmp_lxc_facts facts;
    struct cmp_lxc_plan plan;
    lxc_work_facts(work, config, &facts);
    code = cmp_lxc_compile(config, raw, raw_count, &facts, &work->arena, &plan, err);
    if (code != ATL_OK)
        return code;
    Atoll__Lxc__V1__StartSpec spec = ATOLL__LXC__V1__START_SPEC__INIT;
    spec.mount = atl_arena_array(&work->arena, Atoll__Lxc__V1__Mount *, plan.mount_count);
    for (size_t i = 0; i < plan.mount_count; i++) {
        if (plan.mounts[i].bind && i > 0)
            continue; /* liblxc binds it from where it lies */
        code = lxc_work_mount(work, &plan.mounts[i], &spec.mount[spec.n_mount], err);
        if (code != ATL_OK)
            return code;
        spec.n_mount++;
    }
    const char *resolv = cmp_lxc_read("/etc/resolv.conf", &work->arena);
    if (!plan.mounts[0].ro)
        spec.setup = cmp_lxc_setup_make(config, work->vmid, resolv, &work->arena);
    spec.map = cmp_lxc_map_make(config, raw, raw_count, &facts, &work->arena);
    cmp_lxc_links_down(config, work->vmid, &work->arena, &spec);
    return work->driver->start(&work->host, work->vmid, &plan, &spec, err);
}
