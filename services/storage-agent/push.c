/* Tells config-store's status view how full this node's storages are and which tasks run. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "atoll/store/v1/status.atl.h"
#include "atoll/store/v1/status.pb-c.h"
#include "sto.h"

enum { TASKS_KEPT = 32 };
#define PUSH_PERIOD (10 * ATL_SECOND)
#define PUSH_SOON   (100 * ATL_MS)

struct kept_task {
    char upid[ATL_UPID_MAX];
    char status[ATL_TASK_EXIT_MAX];
    int64_t ended; /* 0: it runs */
};

struct sto_pusher {
    struct sto *sto;
    struct atl_timer *timer;
    struct atl_timer *soon;
    struct atl_call *call;
    uint64_t epoch;
    uint64_t sequence;
    bool working;
    bool again;
    struct kept_task tasks[TASKS_KEPT]; /* a ring */
    size_t task_next;
};

static void collect(struct sto_job *job)
{
    Atoll__Store__V1__PushRequest *push = job->extra;
    push->storage = atl_arena_array(&job->arena, Atoll__Store__V1__StorageStatus *, job->config.count + 1);
    for (size_t i = 0; i < job->config.count; i++) {
        const struct sto_storage *storage = &job->config.storages[i];
        const struct sto_driver *driver = NULL;
        struct sto_fill fill = {0};
        if (storage->disabled || !sto_storage_on_node(storage, job->sto->node))
            continue;
        bool active = sto_driver_need(storage, &driver, NULL) == ATL_OK &&
                      driver->activate(storage, NULL) == ATL_OK &&
                      driver->fill(storage, &fill, NULL) == ATL_OK;
        Atoll__Store__V1__StorageStatus *status = atl_arena_new(&job->arena, Atoll__Store__V1__StorageStatus);
        atoll__store__v1__storage_status__init(status);
        status->storage = atl_arena_strdup(&job->arena, storage->id);
        status->plugintype = atl_arena_strdup(&job->arena, storage->type_name);
        status->content = atl_arena_strdup(&job->arena, storage->content_text);
        status->status = atl_arena_strdup(&job->arena, active ? "available" : "unknown");
        status->has_shared = status->has_disk = status->has_maxdisk = true;
        status->shared = storage->shared;
        status->disk = fill.used_bytes;
        status->maxdisk = fill.total_bytes;
        push->storage[push->n_storage++] = status;
    }
}

static void add_tasks(struct sto_pusher *pusher, struct atl_arena *arena, Atoll__Store__V1__PushRequest *push)
{
    push->task = atl_arena_array(arena, Atoll__Store__V1__TaskStatus *, TASKS_KEPT);
    for (size_t i = 0; i < TASKS_KEPT; i++) {
        struct kept_task *kept = &pusher->tasks[i];
        if (kept->upid[0] == '\0')
            continue;
        Atoll__Store__V1__TaskStatus *task = atl_arena_new(arena, Atoll__Store__V1__TaskStatus);
        atoll__store__v1__task_status__init(task);
        task->upid = kept->upid;
        if (kept->ended != 0) {
            task->has_endtime = true;
            task->endtime = kept->ended;
            task->status = kept->status;
        }
        push->task[push->n_task++] = task;
    }
}

static void pushed(const struct atl_reply *reply, void *user)
{
    struct sto_pusher *pusher = user;
    (void)reply; /* each push is a full one: what was missed comes with the next */
    pusher->call = NULL;
    if (pusher->again)
        sto_pusher_wake(pusher);
}

static void collected(struct sto_job *job)
{
    struct sto_pusher *pusher = job->sto->pusher;
    Atoll__Store__V1__PushRequest *push = job->extra;
    pusher->working = false;
    if (job->code == ATL_OK && pusher->call == NULL) {
        add_tasks(pusher, &job->arena, push);
        push->sequence = ++pusher->sequence;
        struct atl_call_options options = {.deadline = 5 * ATL_SECOND};
        pusher->call =
            atl_bus_call(job->sto->bus, &atl_rpc_store_v1_Status_Push, &push->base, &options, pushed, pusher);
    }
    sto_job_free(job);
}

static void push_now(void *user)
{
    struct sto_pusher *pusher = user;
    if (pusher->working || pusher->call != NULL) {
        pusher->again = true;
        return;
    }
    if (!atl_mirror_ready(pusher->sto->mirror))
        return;
    struct sto_job *job = sto_job_new(pusher->sto, NULL, NULL, NULL);
    if (job == NULL)
        return;
    Atoll__Store__V1__PushRequest *push = atl_arena_new(&job->arena, Atoll__Store__V1__PushRequest);
    atoll__store__v1__push_request__init(push);
    push->node = atl_arena_strdup(&job->arena, pusher->sto->node);
    push->epoch = pusher->epoch;
    push->has_full = push->full = true;
    job->extra = push;
    job->finish = collected;
    pusher->working = true;
    pusher->again = false;
    sto_job_go(job, collect);
}

static void push_soon(void *user)
{
    struct sto_pusher *pusher = user;
    pusher->soon = NULL;
    push_now(pusher);
}

void sto_pusher_wake(struct sto_pusher *pusher)
{
    if (pusher != NULL && pusher->soon == NULL)
        pusher->soon = atl_loop_timer(pusher->sto->loop, PUSH_SOON, 0, push_soon, pusher);
}

void sto_pusher_task(struct sto_pusher *pusher, const struct atl_task_info *info)
{
    struct kept_task *kept = NULL;
    for (size_t i = 0; i < TASKS_KEPT && kept == NULL; i++) {
        if (strcmp(pusher->tasks[i].upid, info->upid) == 0)
            kept = &pusher->tasks[i];
    }
    if (kept == NULL) {
        kept = &pusher->tasks[pusher->task_next];
        pusher->task_next = (pusher->task_next + 1) % TASKS_KEPT;
    }
    (void)atl_copy(kept->upid, sizeof kept->upid, info->upid);
    (void)atl_copy(kept->status, sizeof kept->status, info->exit);
    kept->ended = info->state == ATL_TASK_STOPPED ? info->ended : 0;
    sto_pusher_wake(pusher);
}

struct sto_pusher *sto_pusher_new(struct sto *sto)
{
    struct sto_pusher *pusher = atl_new0(struct sto_pusher);
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
    pusher->sto = sto;
    pusher->epoch = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    pusher->timer = atl_loop_timer(sto->loop, PUSH_PERIOD, PUSH_PERIOD, push_now, pusher);
    return pusher;
}

void sto_pusher_free(struct sto_pusher **pusher)
{
    if (*pusher == NULL)
        return;
    atl_timer_free((*pusher)->timer);
    atl_timer_free((*pusher)->soon);
    if ((*pusher)->call != NULL)
        atl_call_cancel((*pusher)->call);
    free(*pusher);
    *pusher = NULL;
}
