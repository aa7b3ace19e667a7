/* Our own tasks in the view of the whole: what agents do by Push, config-store does for itself. */
#include <stdlib.h>
#include <string.h>

#include "cluster/internal.h"
#include "reach.h"
#include "view.h"

#define EVERY (10 * ATL_SECOND) /* a node that started since gets them, too */
enum { TASKS_MAX = 16 };

struct entry {
    char upid[ATL_UPID_MAX];
    char status[ATL_TASK_EXIT_MAX];
    int64_t ended; /* 0: it runs */
};

struct cfg_report {
    struct cfg *cfg;
    struct atl_timer *timer;
    uint64_t epoch;
    uint64_t sequence;
    struct entry tasks[TASKS_MAX]; /* the newest last */
    size_t count;
};

static void push(struct cfg_report *report)
{
    static char source[] = "config-store";
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg *cfg = report->cfg;
    Atoll__Store__V1__PushRequest request = ATOLL__STORE__V1__PUSH_REQUEST__INIT;
    request.node = atl_arena_strdup(&arena, cfg->program->node);
    request.epoch = report->epoch;
    request.sequence = ++report->sequence;
    request.has_full = request.full = true;
    request.source = source;
    request.task = atl_arena_array(&arena, Atoll__Store__V1__TaskStatus *, report->count + 1);
    for (size_t i = 0; i < report->count; i++) {
        Atoll__Store__V1__TaskStatus *task = atl_arena_new(&arena, Atoll__Store__V1__TaskStatus);
        atoll__store__v1__task_status__init(task);
        task->upid = report->tasks[i].upid;
        task->has_endtime = report->tasks[i].ended > 0;
        task->endtime = report->tasks[i].ended;
        task->status = task->has_endtime ? report->tasks[i].status : NULL;
        request.task[request.n_task++] = task;
    }
    (void)cfg_status_push(cfg_view_status(cfg->view), source, &request, atl_loop_now(cfg->loop));
    (void)cfg_reach_relay(cfg->reach, source, &request); /* each push is full: nothing can be missed */
}

static void on_timer(void *user)
{
    struct cfg_report *report = user;
    if (report->count > 0)
        push(report);
}

void cfg_report_task(struct cfg_report *report, const struct atl_task_info *info)
{
    size_t at = 0;
    while (at < report->count && strcmp(report->tasks[at].upid, info->upid) != 0)
        at++;
    if (at == TASKS_MAX) { /* the oldest gives way: it is in the spool for those who look there */
        memmove(report->tasks, report->tasks + 1, sizeof report->tasks - sizeof report->tasks[0]);
        at = --report->count;
    }
    struct entry *entry = &report->tasks[at];
    (void)atl_copy(entry->upid, sizeof entry->upid, info->upid);
    (void)atl_copy(entry->status, sizeof entry->status, info->exit);
    entry->ended =
        info->state == ATL_TASK_STOPPED ? (info->ended > 0 ? info->ended : atl_clock_wall_seconds()) : 0;
    if (at == report->count)
        report->count++;
    push(report);
}

struct cfg_report *cfg_report_new(struct cfg *cfg)
{
    struct cfg_report *report = atl_new0(struct cfg_report);
    report->cfg = cfg;
    report->epoch =
        (uint64_t)atl_clock_wall_seconds() * 1000 + (uint64_t)(atl_clock_monotonic() / ATL_MS % 1000);
    report->timer = atl_loop_timer(cfg->loop, EVERY, EVERY, on_timer, report);
    return report;
}

void cfg_report_free(struct cfg_report **pointer)
{
    struct cfg_report *report = *pointer;
    *pointer = NULL;
    if (report == NULL)
        return;
    atl_timer_free(report->timer);
    free(report);
}
