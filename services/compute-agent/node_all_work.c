/*
 * The worker of tasks that do something to many guests: it asks the agent for each guest's own task, so many
 * at a time, follows them, and tells how each ended.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "atoll/lxc/v1/lxc.pb-c.h"
#include "atoll/node/v1/work.pb-c.h"
#include "atoll/qemu/v1/qemu.atl.h"
#include "atoll/qemu/v1/qemu.pb-c.h"
#include "node_all.h"
#include "pure/codec.h"

enum { WORKERS_MAX = 64 };
static const atl_ns look_again = 250 * ATL_MS;

struct child {
    const Atoll__Node__V1__AllItem *item; /* NULL: the place is free */
    char upid[ATL_UPID_MAX];
};

struct all {
    struct atl_task *task;
    const Atoll__Node__V1__AllSpec *spec;
    struct atl_arena arena;
    struct atl_task_reader *reader;
    struct child children[WORKERS_MAX];
    size_t next; /* first item that has not begun */
    size_t running;
    size_t done;
    size_t failed;
    struct atl_error first; /* why the first one failed */
};

/* --- one guest -------------------------------------------------------------------------------------------
 */

static enum atl_code ask(struct all *all, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                         char upid[ATL_UPID_MAX], struct atl_error *err)
{
    const ProtobufCMessage *output = NULL;
    enum atl_code code = atl_task_call(all->task, rpc, input, 0, &all->arena, &output, err);
    if (code == ATL_OK && !atl_copy(upid, ATL_UPID_MAX, ((const Atoll__Task__V1__TaskRef *)output)->upid))
        code = atl_fail(err, ATL_E_INTERNAL, NULL, "the guest's task has no id");
    return code;
}

static enum atl_code begin_vm(struct all *all, const Atoll__Node__V1__AllItem *item, char upid[ATL_UPID_MAX],
                              struct atl_error *err)
{
    const Atoll__Node__V1__AllSpec *spec = all->spec;
    if (strcmp(spec->verb, "migrate") == 0) {
        Atoll__Qemu__V1__MigrateRequest request = ATOLL__QEMU__V1__MIGRATE_REQUEST__INIT;
        request.node = spec->node;
        request.vmid = item->vmid;
        request.target = item->target;
        /* It may have been started since the guests were looked at. */
        request.has_online = request.online = request.has_with_local_disks = true;
        request.with_local_disks = spec->with_local_disks;
        return ask(all, &atl_rpc_qemu_v1_Qemu_Migrate, &request.base, upid, err);
    }
    if (strcmp(spec->verb, "start") == 0) {
        Atoll__Qemu__V1__StartRequest request = ATOLL__QEMU__V1__START_REQUEST__INIT;
        request.node = spec->node;
        request.vmid = item->vmid;
        return ask(all, &atl_rpc_qemu_v1_Qemu_Start, &request.base, upid, err);
    }
    if (strcmp(spec->verb, "suspend") == 0) {
        Atoll__Qemu__V1__SuspendRequest request = ATOLL__QEMU__V1__SUSPEND_REQUEST__INIT;
        request.node = spec->node;
        request.vmid = item->vmid;
        return ask(all, &atl_rpc_qemu_v1_Qemu_Suspend, &request.base, upid, err);
    }
    Atoll__Qemu__V1__ShutdownRequest request = ATOLL__QEMU__V1__SHUTDOWN_REQUEST__INIT;
    request.node = spec->node;
    request.vmid = item->vmid;
    request.has_timeout = request.has_forcestop = true;
    request.timeout = item->down_s != 0 ? item->down_s : spec->timeout_s;
    request.forcestop = spec->force_stop;
    return ask(all, &atl_rpc_qemu_v1_Qemu_Shutdown, &request.base, upid, err);
}

static enum atl_code begin_ct(struct all *all, const Atoll__Node__V1__AllItem *item, char upid[ATL_UPID_MAX],
                              struct atl_error *err)
{
    const Atoll__Node__V1__AllSpec *spec = all->spec;
    if (strcmp(spec->verb, "migrate") == 0) {
        Atoll__Lxc__V1__MigrateRequest request = ATOLL__LXC__V1__MIGRATE_REQUEST__INIT;
        request.node = spec->node;
        request.vmid = item->vmid;
        request.target = item->target;
        request.has_restart = request.restart = true;
        return ask(all, &atl_rpc_lxc_v1_Lxc_Migrate, &request.base, upid, err);
    }
    if (strcmp(spec->verb, "start") == 0) {
        Atoll__Lxc__V1__StartRequest request = ATOLL__LXC__V1__START_REQUEST__INIT;
        request.node = spec->node;
        request.vmid = item->vmid;
        return ask(all, &atl_rpc_lxc_v1_Lxc_Start, &request.base, upid, err);
    }
    Atoll__Lxc__V1__ShutdownRequest request = ATOLL__LXC__V1__SHUTDOWN_REQUEST__INIT;
    request.node = spec->node;
    request.vmid = item->vmid;
    request.has_timeout = request.has_forcestop = true;
    request.timeout = item->down_s != 0 ? item->down_s : spec->timeout_s;
    request.forcestop = spec->force_stop;
    return ask(all, &atl_rpc_lxc_v1_Lxc_Shutdown, &request.base, upid, err);
}

static const char *kind(const Atoll__Node__V1__AllItem *item)
{
    return strcmp(item->type, "lxc") == 0 ? "CT" : "VM";
}

static void failed(struct all *all, const Atoll__Node__V1__AllItem *item, const char *why)
{
    all->failed++;
    atl_task_log(all->task, "%s %" PRIu32 ": %s", kind(item), item->vmid, why);
    if (all->first.code == ATL_OK)
        (void)atl_fail(&all->first, ATL_E_STATE, NULL, "%s %" PRIu32 ": %s", kind(item), item->vmid, why);
}

static void begin(struct all *all, struct child *child, const Atoll__Node__V1__AllItem *item)
{
    struct atl_error error = {0};
    bool container = strcmp(item->type, "lxc") == 0;
    enum atl_code code =
        container ? begin_ct(all, item, child->upid, &error) : begin_vm(all, item, child->upid, &error);
    if (code != ATL_OK) {
        all->done++;
        failed(all, item, error.text);
        return;
    }
    atl_task_log(all->task, "%s %" PRIu32 ": %s%s%s", kind(item), item->vmid, all->spec->verb,
                 item->target != NULL ? " to " : "", item->target != NULL ? item->target : "");
    child->item = item;
    all->running++;
}

/* --- all of them -----------------------------------------------------------------------------------------
 */

static void pause_for(const struct all *all, atl_ns time)
{
    for (atl_ns left = time; left > 0 && !atl_task_stopped(all->task); left -= look_again) {
        const struct timespec step = {.tv_nsec = left < look_again ? left : look_again};
        (void)nanosleep(&step, NULL); /* cut short by a signal: it looks a little sooner */
    }
}

static void look(struct all *all, struct child *child)
{
    struct atl_task_info info;
    struct atl_error error = {0};
    const Atoll__Node__V1__AllItem *item = child->item;
    enum atl_code code = atl_task_status(all->reader, child->upid, &info, &error);
    if (code == ATL_OK && info.state != ATL_TASK_STOPPED)
        return;
    child->item = NULL;
    all->running--;
    all->done++;
    if (code != ATL_OK)
        failed(all, item, error.text);
    else if (strcmp(info.exit, "OK") != 0 && strncmp(info.exit, "WARNINGS", 8) != 0)
        failed(all, item, info.exit);
    else
        atl_task_log(all->task, "%s %" PRIu32 ": %s", kind(item), item->vmid, info.exit);
    atl_task_progress(all->task, (double)all->done / (double)all->spec->n_item, "%zu of %zu guests",
                      all->done, all->spec->n_item);
}

/* Begins what may begin now: of one group, in the places that are free. */
static void fill(struct all *all)
{
    const Atoll__Node__V1__AllSpec *spec = all->spec;
    for (size_t i = 0; i < spec->workers && i < WORKERS_MAX && all->next < spec->n_item; i++) {
        const Atoll__Node__V1__AllItem *item = spec->item[all->next];
        bool other_group = all->next > 0 && spec->item[all->next - 1]->group != item->group;
        if (all->children[i].item != NULL)
            continue;
        if (other_group && all->running > 0)
            return;
        if (other_group)
            pause_for(all, (atl_ns)spec->item[all->next - 1]->wait_s * ATL_SECOND);
        all->next++;
        begin(all, &all->children[i], item);
    }
}

static void stop_children(struct all *all)
{
    for (size_t i = 0; i < WORKERS_MAX; i++) {
        struct atl_error error = {0};
        if (all->children[i].item != NULL &&
            atl_task_stop(all->reader, all->children[i].upid, &error) != ATL_OK)
            atl_task_log(all->task, "%s is not stopped: %s", all->children[i].upid, error.text);
    }
}

static enum atl_code work(struct all *all, struct atl_error *err)
{
    const Atoll__Node__V1__AllSpec *spec = all->spec;
    bool told = false;
    for (size_t i = 0; i < spec->n_stays; i++)
        atl_task_log(all->task, "%s", spec->stays[i]);
    while (all->running > 0 || all->next < spec->n_item) {
        bool stopped = atl_task_stopped(all->task);
        if (stopped && !told)
            stop_children(all);
        told = told || stopped;
        if (stopped)
            all->next = spec->n_item; /* nothing more begins; what has begun puts itself in order */
        else
            fill(all);
        if (all->running > 0) {
            const struct timespec step = {.tv_nsec = look_again};
            (void)nanosleep(&step, NULL); /* cut short by a signal: it looks a little sooner */
        }
        for (size_t i = 0; i < WORKERS_MAX; i++)
            if (all->children[i].item != NULL)
                look(all, &all->children[i]);
    }
    if (told)
        return atl_fail(err, ATL_E_CANCELLED, NULL, "interrupted by signal");
    if (all->failed > 0)
        return atl_fail(err, ATL_E_STATE, NULL, "%zu of %zu guests failed; %s", all->failed, spec->n_item,
                        all->first.text);
    if (spec->n_stays > 0)
        return atl_fail(err, ATL_E_STATE, NULL, "%zu guests stay; %s", spec->n_stays, spec->stays[0]);
    return ATL_OK;
}

static enum atl_code task_all(struct atl_task *task, const uint8_t *bytes, size_t size, struct atl_error *err)
{
    struct all *all = atl_new0(struct all);
    enum atl_code code = ATL_OK;
    ProtobufCAllocator allocator = atl_arena_allocator(&all->arena);
    all->task = task;
    all->spec = atoll__node__v1__all_spec__unpack(&allocator, size, bytes);
    if (all->spec == NULL) {
        code = atl_fail(err, ATL_E_INTERNAL, NULL, "the task's order cannot be read");
    } else {
        all->reader = atl_task_reader_new(atl_task_state_dir(task));
        code = work(all, err);
        atl_task_reader_free(all->reader);
    }
    atl_arena_done(&all->arena);
    atl_free_ptr(&all);
    return code;
}

const struct atl_task_type cmp_node_tasks[CMP_NODE_TASKS] = {{"startall", task_all},
                                                             {"stopall", task_all},
                                                             {"suspendall", task_all},
                                                             {"migrateall", task_all},
                                                             {"drain", task_all}};
