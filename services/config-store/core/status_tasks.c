/* The last tasks of all nodes, from their UPIDs. */
#include <stdlib.h>
#include <string.h>

#include "core/status_internal.h"

enum { UPID_PARTS = 9, UPID_MAX = 512 };

static void free_task(struct cfg_task_row *task)
{
    char *const texts[] = {task->row.upid, task->row.node, task->row.type,
                           task->row.id,   task->row.user, task->row.status};
    for (size_t i = 0; i < ATL_COUNT(texts); i++)
        free(texts[i]);
    free(task);
}

void cfg_status_drop_tasks(struct cfg_status *status)
{
    for (size_t i = 0; i < status->task_count; i++)
        free_task(status->tasks[i]);
    status->task_count = 0;
}

static bool hex_value(const char *text, int64_t *ret_value)
{
    char *end = NULL;
    *ret_value = (int64_t)strtoull(text, &end, 16);
    return text[0] != '\0' && *end == '\0';
}

/* "UPID:node:pid:pstart:start:type:id:user:" */
static struct cfg_task_row *read_upid(const char *upid)
{
    if (strlen(upid) > UPID_MAX)
        return NULL;
    char *copy ATL_FREE_AT_EXIT = atl_strdup(upid);
    char *parts[UPID_PARTS];
    size_t count = 0;
    for (char *rest = copy; rest != NULL && count < UPID_PARTS;)
        parts[count++] = strsep(&rest, ":");
    int64_t pid;
    int64_t pstart;
    int64_t start;
    if (count != UPID_PARTS || strcmp(parts[0], "UPID") != 0 || !hex_value(parts[2], &pid) ||
        !hex_value(parts[3], &pstart) || !hex_value(parts[4], &start))
        return NULL;
    struct cfg_task_row *task = atl_new0(struct cfg_task_row);
    atoll__cluster__v1__tasks_row__init(&task->row);
    task->row.upid = atl_strdup(upid);
    task->row.node = atl_strdup(parts[1]);
    task->row.type = atl_strdup(parts[5]);
    task->row.id = atl_strdup(parts[6]);
    task->row.user = atl_strdup(parts[7]);
    task->row.has_pid = task->row.has_pstart = task->row.has_starttime = 1;
    task->row.pid = pid;
    task->row.pstart = pstart;
    task->row.starttime = start;
    return task;
}

static struct cfg_task_row *find_task(const struct cfg_status *status, const char *upid)
{
    for (size_t i = 0; i < status->task_count; i++)
        if (strcmp(status->tasks[i]->row.upid, upid) == 0)
            return status->tasks[i];
    return NULL;
}

/* Room for one more: the oldest that has ended goes, or the oldest at all. */
static void make_room(struct cfg_status *status)
{
    if (status->task_count < CFG_TASKS_MAX)
        return;
    size_t at = status->task_count - 1;
    while (at > 0 && !status->tasks[at]->row.has_endtime)
        at--;
    if (!status->tasks[at]->row.has_endtime)
        at = status->task_count - 1;
    free_task(status->tasks[at]);
    memmove(&status->tasks[at], &status->tasks[at + 1],
            (status->task_count - at - 1) * sizeof status->tasks[0]);
    status->task_count--;
}

void cfg_status_take_task(struct cfg_status *status, const Atoll__Store__V1__TaskStatus *from)
{
    struct cfg_task_row *task = find_task(status, from->upid);
    if (task == NULL) {
        task = read_upid(from->upid);
        if (task == NULL)
            return;
        make_room(status);
        size_t at = status->task_count++;
        for (; at > 0 && status->tasks[at - 1]->row.starttime < task->row.starttime; at--)
            status->tasks[at] = status->tasks[at - 1];
        status->tasks[at] = task;
    }
    task->row.has_endtime = from->has_endtime;
    task->row.endtime = from->endtime;
    free(task->row.status);
    task->row.status = from->status != NULL ? atl_strdup(from->status) : NULL;
}
