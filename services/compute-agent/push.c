/* Tells config-store's status view what this node's guests do. */
#include "push.h"

#include <stdlib.h>
#include <string.h>

#include "atoll/store/v1/status.atl.h"
#include "io/log.h"

enum { TASKS_MAX = 64, UPTIME_STEP_S = 30 };

static const atl_ns push_period = 3 * ATL_SECOND;
static const atl_ns push_soon = 50 * ATL_MS;

struct sent_guest { /* what the view holds of one guest, as a hash of its packed message */
    uint32_t vmid;
    uint64_t hash;
    bool seen;
};

struct sent_task { /* what the view holds of one task */
    char upid[ATL_UPID_MAX];
    bool ended;
    uint64_t how; /* a hash of how it ended: whose worker has died, his agent may find more to say */
};

struct cmp_push {
    struct cmp *cmp;
    struct atl_timer *timer;
    struct atl_timer *soon;
    struct atl_call *call;
    uint64_t epoch;
    uint64_t sequence;
    bool want_full;
    struct sent_guest *sent; /* sorted by vmid */
    size_t sent_count;
    struct sent_task *tasks; /* the newest, and older ones that have not ended */
    size_t task_count;
};

static uint64_t hash_bytes(const uint8_t *bytes, size_t size)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    return hash;
}

/* The uptime of a guest that does nothing else is told every half minute, not with every push. */
static uint64_t guest_hash(Atoll__Store__V1__GuestStatus *guest, struct atl_arena *arena)
{
    uint64_t uptime = guest->uptime;
    guest->uptime = uptime / UPTIME_STEP_S;
    size_t size = protobuf_c_message_get_packed_size(&guest->base);
    uint8_t *bytes = atl_arena_alloc(arena, size + 1);
    (void)protobuf_c_message_pack(&guest->base, bytes);
    guest->uptime = uptime;
    return hash_bytes(bytes, size);
}

static int guest_order(const void *a, const void *b)
{
    const Atoll__Store__V1__GuestStatus *const *left = a;
    const Atoll__Store__V1__GuestStatus *const *right = b;
    return (*left)->vmid < (*right)->vmid ? -1 : (*left)->vmid > (*right)->vmid;
}

static struct sent_guest *find_sent(struct cmp_push *push, uint32_t vmid)
{
    size_t low = 0;
    size_t high = push->sent_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (push->sent[middle].vmid < vmid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < push->sent_count && push->sent[low].vmid == vmid ? &push->sent[low] : NULL;
}

static const struct sent_task *find_task(const struct sent_task *tasks, size_t count, const char *upid)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(tasks[i].upid, upid) == 0)
            return &tasks[i];
    return NULL;
}

static void add_task(Atoll__Store__V1__PushRequest *request, const struct atl_task_info *info,
                     struct atl_arena *arena)
{
    Atoll__Store__V1__TaskStatus *task = atl_arena_new(arena, Atoll__Store__V1__TaskStatus);
    atoll__store__v1__task_status__init(task);
    task->upid = atl_arena_strdup(arena, info->upid);
    if (info->state == ATL_TASK_STOPPED) {
        task->has_endtime = true;
        task->endtime = info->ended > 0 ? info->ended : atl_clock_wall_seconds();
        task->status = atl_arena_strdup(arena, info->exit);
    }
    request->task[request->n_task++] = task;
}

/* Of all services of the node, as their folders tell: what began or ended since the last push; all of the
 * newest when the view knows nothing. */
static void collect_tasks(struct cmp_push *push, struct atl_arena *arena,
                          Atoll__Store__V1__PushRequest *request)
{
    const struct atl_upid_filter newest = {.limit = TASKS_MAX};
    struct atl_task_info *infos = NULL;
    size_t count = 0;
    size_t total = 0;
    atl_task_list(push->cmp->reader, &newest, arena, &infos, &count, &total);
    struct sent_task *next = atl_alloc0((count + push->task_count + 1) * sizeof *next);
    size_t next_count = 0;
    request->task = atl_arena_array(arena, Atoll__Store__V1__TaskStatus *, count + push->task_count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct sent_task *old = find_task(push->tasks, push->task_count, infos[i].upid);
        struct sent_task *now = &next[next_count++];
        (void)atl_copy(now->upid, sizeof now->upid, infos[i].upid);
        now->ended = infos[i].state == ATL_TASK_STOPPED;
        now->how = hash_bytes((const uint8_t *)infos[i].exit, strlen(infos[i].exit));
        if (push->want_full || old == NULL || old->ended != now->ended || old->how != now->how)
            add_task(request, &infos[i], arena);
    }
    for (size_t i = 0; i < push->task_count; i++) { /* running still, with so many begun since? */
        struct atl_task_info info = {0};
        const struct sent_task *old = &push->tasks[i];
        if (old->ended || find_task(next, next_count, old->upid) != NULL ||
            atl_task_status(push->cmp->reader, old->upid, &info, NULL) != ATL_OK)
            continue;
        if (push->want_full || info.state == ATL_TASK_STOPPED)
            add_task(request, &info, arena);
        if (info.state != ATL_TASK_STOPPED)
            next[next_count++] = *old;
    }
    free(push->tasks);
    push->tasks = next;
    push->task_count = next_count;
}

/* All guests of all parts, sorted. */
static Atoll__Store__V1__GuestStatus **collect_guests(struct cmp_push *push, struct atl_arena *arena,
                                                      Atoll__Store__V1__PushRequest *request,
                                                      size_t *ret_count)
{
    Atoll__Store__V1__GuestStatus **all = NULL;
    size_t count = 0;
    size_t room = 0;
    for (size_t i = 0; i < push->cmp->part_count; i++) {
        struct cmp_status status = {.arena = arena};
        if (push->cmp->parts[i]->status == NULL)
            continue;
        push->cmp->parts[i]->status(push->cmp->selves[i], &status);
        for (size_t k = 0; k < status.guest_count; k++) {
            all = atl_arena_grow(arena, all, count, &room, sizeof(Atoll__Store__V1__GuestStatus *));
            all[count++] = status.guests[k];
        }
        if (status.node != NULL)
            request->node_status = status.node;
    }
    if (count > 1)
        qsort(all, count, sizeof(Atoll__Store__V1__GuestStatus *), guest_order);
    *ret_count = count;
    return all;
}

/* Puts what differs from the view into the request, and remembers that the view will hold it. */
static void difference(struct cmp_push *push, struct atl_arena *arena, Atoll__Store__V1__PushRequest *request)
{
    size_t count = 0;
    Atoll__Store__V1__GuestStatus **all = collect_guests(push, arena, request, &count);
    struct sent_guest *next = atl_alloc0((count + 1) * sizeof *next);
    request->guest = atl_arena_array(arena, Atoll__Store__V1__GuestStatus *, count + 1);
    request->gone_guest = atl_arena_array(arena, uint32_t, push->sent_count + 1);
    for (size_t i = 0; i < count; i++) {
        struct sent_guest *old = find_sent(push, all[i]->vmid);
        next[i] = (struct sent_guest){.vmid = all[i]->vmid, .hash = guest_hash(all[i], arena)};
        if (old != NULL)
            old->seen = true;
        if (push->want_full || old == NULL || old->hash != next[i].hash)
            request->guest[request->n_guest++] = all[i];
    }
    for (size_t i = 0; i < push->sent_count; i++)
        if (!push->sent[i].seen && !push->want_full)
            request->gone_guest[request->n_gone_guest++] = push->sent[i].vmid;
    free(push->sent);
    push->sent = next;
    push->sent_count = count;
}

static void pushed(const struct atl_reply *reply, void *user)
{
    struct cmp_push *push = user;
    push->call = NULL;
    if (reply->code != ATL_OK) {
        push->want_full = true;
        return;
    }
    const Atoll__Store__V1__PushReply *answer = (const Atoll__Store__V1__PushReply *)reply->output;
    if (!answer->has_want_full || !answer->want_full)
        return;
    push->want_full = true;
    cmp_push_soon(push);
}

static void push_now(void *user)
{
    struct cmp_push *push = user;
    if (push->call != NULL)
        return; /* one at a time; the next period sends what it missed */
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    Atoll__Store__V1__PushRequest request = ATOLL__STORE__V1__PUSH_REQUEST__INIT;
    request.node = atl_arena_strdup(&arena, push->cmp->options.node);
    request.epoch = push->epoch;
    request.sequence = ++push->sequence;
    request.has_full = push->want_full;
    request.full = push->want_full;
    collect_tasks(push, &arena, &request);
    difference(push, &arena, &request);
    push->want_full = false;
    push->call = atl_bus_call(push->cmp->bus, &atl_rpc_store_v1_Status_Push, &request.base,
                              &(const struct atl_call_options){.deadline = 5 * ATL_SECOND}, pushed, push);
}

static void push_soon_fired(void *user)
{
    struct cmp_push *push = user;
    push->soon = NULL; /* a one-shot timer frees itself */
    push_now(push);
}

struct cmp_push *cmp_push_open(struct cmp *cmp)
{
    struct cmp_push *push = atl_new0(struct cmp_push);
    push->cmp = cmp;
    push->epoch =
        (uint64_t)atl_clock_wall_seconds() * 1000 + (uint64_t)(atl_clock_monotonic() / ATL_MS % 1000);
    push->want_full = true;
    push->timer = atl_loop_timer(cmp->loop, push_period, push_period, push_now, push);
    return push;
}

void cmp_push_close(struct cmp_push **push_pointer)
{
    struct cmp_push *push = *push_pointer;
    if (push == NULL)
        return;
    if (push->call != NULL)
        atl_call_cancel(push->call);
    atl_timer_free(push->timer);
    atl_timer_free(push->soon);
    free(push->sent);
    free(push->tasks);
    free(push);
    *push_pointer = NULL;
}

void cmp_push_soon(struct cmp_push *push)
{
    if (push == NULL || push->soon != NULL)
        return;
    push->soon = atl_loop_timer(push->cmp->loop, push_soon, 0, push_soon_fired, push);
}
