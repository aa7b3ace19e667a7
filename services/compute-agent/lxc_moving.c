/*
 * Containers that move, in the agent: the methods that begin a migration, what the other node's worker asks
 * (proto/atoll/lxc/v1/migrate.proto), and the task that puts things in order after a worker that was killed.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "atoll/lxc/v1/migrate.atl.h"
#include "core/migrate.h"
#include "ha.h"
#include "io/directory.h"
#include "io/log.h"
#include "lxc_part.h"
#include "pure/storage_map.h"

enum { SHUTDOWN_S = 180 };

static const struct atl_directory *directory_of(const struct lxc_part *part)
{
    return part->cmp->program->directory;
}

/* --- the source -------------------------------------------------------------------------------------------
 */

void lxc_migrate_precondition(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__MigratePreconditionRequest *in =
        (const Atoll__Lxc__V1__MigratePreconditionRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    const struct atl_directory *directory = directory_of(part);
    size_t count = atl_directory_count(directory);
    struct atl_error error = {0};
    struct cmp_lxc_doc doc;
    if (lxc_part_doc(part, in->vmid, arena, &doc, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Lxc__V1__MigratePreconditionReply reply = ATOLL__LXC__V1__MIGRATE_PRECONDITION_REPLY__INIT;
    reply.running = lxc_part_look(part, in->vmid) != NULL;
    reply.allowed_nodes = atl_arena_array(arena, char *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const char *node = atl_directory_at(directory, i)->node;
        if (!atl_directory_at(directory, i)->associate && strcmp(node, part->cmp->options.node) != 0 &&
            (in->target == NULL || strcmp(node, in->target) == 0))
            reply.allowed_nodes[reply.n_allowed_nodes++] = atl_arena_strdup(arena, node);
    }
    atl_request_reply(request, &reply.base);
}

static enum atl_code may_use_storages(struct lxc_part *part, struct atl_request *request, const char *map,
                                      struct atl_error *err)
{
    static const char *const allocate_space[] = {"Datastore.AllocateSpace", NULL};
    struct atl_arena *arena = atl_request_arena(request);
    const char **storages = atl_storage_map_targets(map, arena);
    enum atl_code code = ATL_OK;
    for (size_t i = 0; storages[i] != NULL && code == ATL_OK; i++)
        code = atl_keeper_need(part->cmp->keeper, atl_request_principal(request),
                               atl_arena_format(arena, "/storage/%s", storages[i]), allocate_space, err);
    return code;
}

static enum atl_code may_migrate(struct lxc_part *part, struct atl_request *request,
                                 const Atoll__Lxc__V1__MigrateRequest *in, struct atl_error *err)
{
    struct cmp_lxc_doc doc;
    enum atl_code code = lxc_part_doc(part, in->vmid, atl_request_arena(request), &doc, err);
    const char *lock = code == ATL_OK ? cmp_lxc_doc_lock(&doc) : NULL;
    if (code != ATL_OK)
        return code;
    if (strcmp(in->target, part->cmp->options.node) == 0)
        return atl_fail(err, ATL_E_INVALID, "target", "'%s' is where the container is already", in->target);
    if (atl_directory_node(directory_of(part), in->target) == NULL)
        return atl_fail(err, ATL_E_INVALID, "target", "no such cluster node '%s'", in->target);
    if (lock != NULL)
        return atl_fail(err, ATL_E_CONFLICT, NULL, "CT is locked (%s)", lock);
    bool running = lxc_part_look(part, in->vmid) != NULL;
    if (running && !(in->has_restart && in->restart))
        return atl_fail(err, ATL_E_STATE, in->has_online && in->online ? "online" : "restart",
                        "CT %" PRIu32 " runs; containers move by a restart only, give 'restart'", in->vmid);
    return may_use_storages(part, request, in->target_storage, err);
}

void lxc_migrate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__MigrateRequest *in = (const Atoll__Lxc__V1__MigrateRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_error error = {0};
    const struct cmp_ha_wish wish = {
        .kind = "lxc", .vmid = in->vmid, .verb = "migrate", .target = in->target};
    if (cmp_ha_takes(part->cmp, request, &wish))
        return;
    if (may_migrate(part, request, in, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Lxc__V1__TaskSpec spec = ATOLL__LXC__V1__TASK_SPEC__INIT;
    Atoll__Lxc__V1__MoveSpec move = ATOLL__LXC__V1__MOVE_SPEC__INIT;
    spec.vmid = in->vmid;
    spec.node = atl_arena_strdup(arena, part->cmp->options.node);
    spec.driver = atl_arena_strdup(arena, part->driver->name);
    spec.has_timeout_s = true;
    spec.timeout_s = in->has_timeout ? in->timeout : SHUTDOWN_S;
    spec.move = &move;
    move.target = in->target;
    move.storages = in->target_storage;
    move.limit_kib_s = cmp_move_limit(in->has_bwlimit, in->has_bwlimit ? (uint64_t)in->bwlimit : 0, 0,
                                      cmp_datacenter_text(part->cmp)) /
                       1024;
    move.has_limit_kib_s = move.limit_kib_s > 0;
    move.has_restart = true;
    move.restart = in->has_restart && in->restart;
    lxc_task(part, request, "vzmigrate", &spec);
}

/* --- after one that was cut off --------------------------------------------------------------------------
 */

static void recover(struct lxc_part *part, uint32_t vmid, const char *upid)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    char id[16];
    struct atl_error error = {0};
    Atoll__Lxc__V1__TaskSpec spec = ATOLL__LXC__V1__TASK_SPEC__INIT;
    Atoll__Lxc__V1__MoveSpec move = ATOLL__LXC__V1__MOVE_SPEC__INIT;
    (void)snprintf(id, sizeof id, "%" PRIu32, vmid);
    spec.vmid = vmid;
    spec.node = atl_arena_strdup(&arena, part->cmp->options.node);
    spec.driver = atl_arena_strdup(&arena, part->driver->name);
    spec.move = &move;
    move.target = spec.node; /* the notes say it */
    move.cut_off = atl_arena_strdup(&arena, upid);
    atl_log(ATL_NOTICE, "clean-up", "the migration of container %s was cut off, putting things in order", id);
    if (cmp_task_own(part->cmp, "vzmigrate", id, &spec.base, NULL, &error) != ATL_OK)
        atl_log(ATL_ERROR, "task-failed", "cannot put the migration of container %s in order: %s", id,
                error.text);
}

/* Whether the container's file shows that a migration did not come to its own end: it is locked, or gone. */
static bool is_open(const struct lxc_part *part, uint32_t vmid)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_lxc_doc doc;
    if (lxc_part_doc(part, vmid, &arena, &doc, NULL) != ATL_OK)
        return true;
    const char *lock = cmp_lxc_doc_lock(&doc);
    return lock != NULL && strcmp(lock, "migrate") == 0;
}

static bool ended_well(const struct atl_task_info *info)
{
    return info->state == ATL_TASK_STOPPED &&
           (strcmp(info->exit, "OK") == 0 || strncmp(info->exit, "WARNINGS", 8) == 0);
}

void lxc_moving_changed(struct lxc_part *part, const struct atl_task_info *info, uint32_t vmid)
{
    /* What ends before the tree is known is found by the sweep. */
    if (part->swept && strcmp(info->parts.type, "vzmigrate") == 0 && !ended_well(info) && is_open(part, vmid))
        recover(part, vmid, info->upid);
}

/* What a task has noted, "" when it has not. */
static const char *note_of(const struct lxc_part *part, const struct atl_task_info *info, const char *name,
                           struct atl_arena *arena)
{
    return cmp_lxc_read(atl_arena_format(arena, "%s/tasks/compute-agent/%s/%s", part->cmp->options.state_dir,
                                         info->upid, name),
                        arena);
}

/* A container that is locked by a migration that nobody goes on with: its newest task that has noted
 * something. */
void lxc_moving_sweep(struct lxc_part *part, uint32_t vmid)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    char id[16];
    struct atl_task_info *infos = NULL;
    size_t count = 0;
    size_t total = 0;
    if (!is_open(part, vmid))
        return;
    (void)snprintf(id, sizeof id, "%" PRIu32, vmid);
    const struct atl_upid_filter filter = {.type = "vzmigrate", .id = id};
    atl_task_list(part->cmp->reader, &filter, &arena, &infos, &count, &total);
    for (size_t i = 0; i < count; i++)
        if (infos[i].state != ATL_TASK_STOPPED)
            return;
    for (size_t i = 0; i < count; i++)
        if (note_of(part, &infos[i], "move", &arena)[0] != '\0') {
            recover(part, vmid, infos[i].upid);
            return;
        }
}

struct tasks {
    const struct lxc_part *part;
    struct atl_arena *arena;
    struct atl_task_info *infos;
    size_t count;
};

static bool has_notes(const struct tasks *tasks, const struct atl_task_info *info)
{
    return note_of(tasks->part, info, "move", tasks->arena)[0] != '\0';
}

/* Does, did or will another task put things in order after this one? */
static bool is_followed(const struct tasks *tasks, const struct atl_task_info *info)
{
    for (size_t i = 0; i < tasks->count; i++) {
        const struct atl_task_info *other = &tasks->infos[i];
        const char *follows = note_of(tasks->part, other, "follows", tasks->arena);
        if (follows[0] != '\0') {
            if (strcmp(follows, info->upid) == 0 &&
                (other->state != ATL_TASK_STOPPED || ended_well(other) || has_notes(tasks, other)))
                return true;
        } else if (ended_well(other) && strcmp(other->parts.id, info->parts.id) == 0 &&
                   other->parts.start >= info->parts.start) {
            return true; /* it has moved since */
        }
    }
    return false;
}

/* Containers that were handed over by a worker that came no further: their files are the targets'. */
void lxc_moving_sweep_rest(struct lxc_part *part)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct tasks tasks = {.part = part, .arena = &arena};
    const struct atl_upid_filter filter = {.type = "vzmigrate"};
    size_t total = 0;
    atl_task_list(part->cmp->reader, &filter, &arena, &tasks.infos, &tasks.count, &total);
    for (size_t i = 0; i < tasks.count; i++) {
        const struct atl_task_info *info = &tasks.infos[i];
        uint64_t vmid = cmp_ct_number(info->parts.id);
        if (vmid != UINT64_MAX && strncmp(info->exit, "interrupted:", 12) == 0 &&
            cmp_config_file(part->cmp, "lxc", (uint32_t)vmid) == NULL && has_notes(&tasks, info) &&
            !is_followed(&tasks, info))
            recover(part, (uint32_t)vmid, info->upid);
    }
}

/* --- the target -------------------------------------------------------------------------------------------
 */

static bool has_bridge(const char *name)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/sys/class/net/%.15s", name);
    return strlen(name) <= 15 && name[0] != '.' && strchr(name, '/') == NULL && access(path, F_OK) == 0;
}

static void survey(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__SurveyRequest *in = (const Atoll__Lxc__V1__SurveyRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Lxc__V1__SurveyReply reply = ATOLL__LXC__V1__SURVEY_REPLY__INIT;
    reply.missing_bridge = atl_arena_array(arena, char *, in->n_bridge + 1);
    for (size_t i = 0; i < in->n_bridge; i++)
        if (!has_bridge(in->bridge[i]))
            reply.missing_bridge[reply.n_missing_bridge++] = in->bridge[i];
    reply.has_running = true;
    reply.running = lxc_part_look(part, in->vmid) != NULL;
    reply.engine = atl_arena_strdup(arena, part->driver->name);
    atl_request_reply(request, &reply.base);
}

static bool is_starting(const struct lxc_part *part, uint32_t vmid)
{
    struct atl_task_info info;
    return lxc_begins(part, vmid) ||
           (cmp_task_newest(part->cmp, "vzstart", vmid, &info) && info.state != ATL_TASK_STOPPED);
}

static void wake(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__WakeRequest *in = (const Atoll__Lxc__V1__WakeRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_error error = {0};
    struct cmp_lxc_doc doc;
    if (lxc_part_doc(part, in->vmid, arena, &doc, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    if (lxc_part_look(part, in->vmid) == NULL && !is_starting(part, in->vmid))
        lxc_begin_own(part, in->vmid);
    Atoll__Lxc__V1__WakeReply reply = ATOLL__LXC__V1__WAKE_REPLY__INIT;
    atl_request_reply(request, &reply.base);
}

static void look(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__LookRequest *in = (const Atoll__Lxc__V1__LookRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_task_info info;
    Atoll__Lxc__V1__LookReply reply = ATOLL__LXC__V1__LOOK_REPLY__INIT;
    reply.starting = is_starting(part, in->vmid);
    reply.running = lxc_part_look(part, in->vmid) != NULL;
    if (!reply.running && !reply.starting && cmp_task_newest(part->cmp, "vzstart", in->vmid, &info))
        reply.failure = atl_arena_strdup(arena, info.exit);
    atl_request_reply(request, &reply.base);
}

void lxc_moving_serve(struct lxc_part *part)
{
    static const struct atl_handler handlers[] = {{"Survey", survey}, {"Wake", wake}, {"Look", look}};
    atl_bus_serve(part->cmp->bus, &atl_svc_lxc_v1_Moving, handlers, ATL_COUNT(handlers), part);
}
