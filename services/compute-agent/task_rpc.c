/* The methods of atoll.task.v1.Tasks. */
#include "task_rpc.h"

#include <stdio.h>
#include <string.h>

#include "atoll/task/v1/task.atl.h"

enum { LOG_LINES_MAX = 50000 };

static const char *const audit[] = {"Sys.Audit", NULL};
static const char *const modify[] = {"Sys.Modify", NULL};

/* Those of others are for who may look after the node; here `code: true` of the methods is answered. */
static bool may_node(struct cmp *cmp, struct atl_request *request, const char *const *privs)
{
    char path[160];
    (void)snprintf(path, sizeof path, "/nodes/%s", cmp->options.node);
    return atl_keeper_need(cmp->keeper, atl_request_principal(request), path, privs, NULL) == ATL_OK;
}

/* Does the task belong to the caller? A token's tasks belong to its user too. */
static bool own_task(const char *owner, const struct atl_principal *principal)
{
    if (principal->user == NULL)
        return true;
    size_t length = strlen(principal->user);
    return strncmp(owner, principal->user, length) == 0 && (owner[length] == '\0' || owner[length] == '!');
}

static enum atl_code need_task(struct cmp *cmp, struct atl_request *request, const char *upid,
                               const char *const *privs, struct atl_task_info *ret_info,
                               struct atl_error *err)
{
    enum atl_code code = atl_task_status(cmp->reader, upid, ret_info, err);
    if (code != ATL_OK)
        return code;
    if (own_task(ret_info->parts.user, atl_request_principal(request)) || may_node(cmp, request, privs))
        return ATL_OK;
    return atl_fail(err, ATL_E_DENIED, NULL, "Permission check failed (/nodes/%s, %s)", cmp->options.node,
                    privs[0]);
}

static Atoll__Task__V1__Summary *summary(const struct atl_task_info *info, struct atl_arena *arena)
{
    Atoll__Task__V1__Summary *row = atl_arena_new(arena, Atoll__Task__V1__Summary);
    atoll__task__v1__summary__init(row);
    row->upid = atl_arena_strdup(arena, info->upid);
    row->node = atl_arena_strdup(arena, info->parts.node);
    row->type = atl_arena_strdup(arena, info->parts.type);
    row->id = atl_arena_strdup(arena, info->parts.id);
    row->user = atl_arena_strdup(arena, info->parts.user);
    row->has_pid = row->has_pstart = row->has_starttime = true;
    row->pid = info->parts.pid;
    row->pstart = (int64_t)info->parts.pstart;
    row->starttime = info->parts.start;
    if (info->state == ATL_TASK_STOPPED) {
        row->has_endtime = true;
        row->endtime = info->ended;
        row->status = atl_arena_strdup(arena, info->exit);
    }
    return row;
}

static void handle_list(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp *cmp = user;
    const Atoll__Task__V1__ListRequest *in = (const Atoll__Task__V1__ListRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    const char *source = in->source != NULL ? in->source : "archive";
    struct atl_upid_filter filter = {
        .user = in->userfilter,
        .type = in->typefilter,
        .status = in->statusfilter,
        .since = in->has_since ? in->since : 0,
        .until = in->has_until ? in->until : 0,
        .errors = in->has_errors && in->errors,
        .active = strcmp(source, "active") == 0,
        .ended = strcmp(source, "archive") == 0,
        .start = in->has_start ? (size_t)in->start : 0,
        .limit = in->has_limit ? (size_t)in->limit : 50,
    };
    if (in->has_vmid)
        filter.id = atl_arena_format(arena, "%" PRIu32, in->vmid);
    if (!may_node(cmp, request, audit))
        filter.only_user = atl_request_principal(request)->user;
    struct atl_task_info *infos = NULL;
    size_t count = 0;
    size_t total = 0;
    atl_task_list(cmp->reader, &filter, arena, &infos, &count, &total);
    Atoll__Task__V1__ListReply reply = ATOLL__TASK__V1__LIST_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Task__V1__Summary *, count + 1);
    for (size_t i = 0; i < count; i++)
        reply.entry[reply.n_entry++] = summary(&infos[i], arena);
    reply.has_total = true;
    reply.total = (int64_t)total;
    atl_request_reply(request, &reply.base);
}

static void handle_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp *cmp = user;
    const Atoll__Task__V1__GetStatusRequest *in = (const Atoll__Task__V1__GetStatusRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_task_info *info = atl_arena_new(arena, struct atl_task_info);
    struct atl_error error = {0};
    if (need_task(cmp, request, in->upid, audit, info, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Task__V1__GetStatusReply reply = ATOLL__TASK__V1__GET_STATUS_REPLY__INIT;
    char running[] = "running";
    char stopped[] = "stopped";
    reply.upid = info->upid;
    reply.node = info->parts.node;
    reply.type = info->parts.type;
    reply.id = info->parts.id;
    reply.user = info->parts.user;
    reply.has_pid = reply.has_pstart = reply.has_starttime = true;
    reply.pid = info->parts.pid;
    reply.pstart = (int64_t)info->parts.pstart;
    reply.starttime = info->parts.start;
    reply.status = info->state == ATL_TASK_STOPPED ? stopped : running;
    if (info->state == ATL_TASK_STOPPED) {
        reply.exitstatus = info->exit;
        reply.has_endtime = true;
        reply.endtime = info->ended;
    }
    atl_request_reply(request, &reply.base);
}

static void handle_log(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp *cmp = user;
    const Atoll__Task__V1__GetLogRequest *in = (const Atoll__Task__V1__GetLogRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_task_info *info = atl_arena_new(arena, struct atl_task_info);
    struct atl_error error = {0};
    struct atl_task_log_part part = {.start = in->has_start ? (size_t)in->start : 0,
                                     .limit = in->has_limit ? (size_t)in->limit : 50};
    if (part.limit == 0 || part.limit > LOG_LINES_MAX)
        part.limit = LOG_LINES_MAX;
    enum atl_code code = need_task(cmp, request, in->upid, audit, info, &error);
    if (code == ATL_OK)
        code = atl_task_read_log(cmp->reader, in->upid, arena, &part, &error);
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Task__V1__GetLogReply reply = ATOLL__TASK__V1__GET_LOG_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Task__V1__LogRow *, part.count + 1);
    for (size_t i = 0; i < part.count; i++) {
        Atoll__Task__V1__LogRow *row = atl_arena_new(arena, Atoll__Task__V1__LogRow);
        atoll__task__v1__log_row__init(row);
        row->has_n = true;
        row->n = (int64_t)(part.start + i + 1);
        row->t = atl_arena_strdup(arena, part.lines[i]);
        reply.entry[reply.n_entry++] = row;
    }
    reply.has_total = true;
    reply.total = (int64_t)part.total;
    atl_request_reply(request, &reply.base);
}

static void handle_stop(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp *cmp = user;
    const Atoll__Task__V1__StopRequest *in = (const Atoll__Task__V1__StopRequest *)input;
    struct atl_task_info *info = atl_arena_new(atl_request_arena(request), struct atl_task_info);
    struct atl_error error = {0};
    enum atl_code code = need_task(cmp, request, in->upid, modify, info, &error);
    if (code == ATL_OK)
        code = atl_task_stop(cmp->reader, in->upid, &error);
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Task__V1__Nothing reply = ATOLL__TASK__V1__NOTHING__INIT;
    atl_request_reply(request, &reply.base);
}

static const struct atl_handler handlers[] = {
    {"List", handle_list},
    {"GetStatus", handle_status},
    {"GetLog", handle_log},
    {"Stop", handle_stop},
};

void cmp_task_rpc_serve(struct cmp *cmp)
{
    atl_bus_serve(cmp->bus, &atl_svc_task_v1_Tasks, handlers, ATL_COUNT(handlers), cmp);
}
