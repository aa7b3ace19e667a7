/*
 * Task of containers: moves one to another node. This worker, at the source, leads. Checks first; then the
 * lock "migrate"; a running container is shut down, its local volumes are sent, its file becomes the target's
 * by one transaction, it starts there, and the old volumes go. Whatever fails before the transaction leaves
 * the container here, running if it ran. A worker that is killed is followed by one with `cut_off`.
 */
#include <string.h>
#include <time.h>

#include "atoll/lxc/v1/migrate.atl.h"
#include "atoll/storage/v1/volume.atl.h"
#include "atoll/storage/v1/volume.pb-c.h"
#include "crash.h"
#include "io/loop.h"
#include "lxc_move.h"

#define ARRIVE_TIME (15 * ATL_SECOND) /* until the target knows of its new guest */
#define START_TIME  (90 * ATL_SECOND)
static const atl_ns look_again = 200 * ATL_MS;

/* --- the plan --------------------------------------------------------------------------------------------
 */

static enum atl_code ask_volume(struct lxc_moving *moving, struct cmp_lxc_move *move, struct atl_error *err)
{
    Atoll__Storage__V1__PathRequest request = ATOLL__STORAGE__V1__PATH_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    if (!cmp_lxc_move_is_volume(move))
        return ATL_OK;
    request.volid = atl_arena_strdup(&moving->work->arena, move->volid);
    enum atl_code code = atl_task_call(moving->work->task, &atl_rpc_storage_v1_Volumes_Path, &request.base, 0,
                                       &moving->work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__VolumeInfo *info = (const Atoll__Storage__V1__VolumeInfo *)output;
    move->shared = info->has_shared && info->shared;
    move->format = info->format;
    move->size_bytes = info->size_bytes;
    move->used_bytes = info->has_used_bytes ? info->used_bytes : info->size_bytes;
    return ATL_OK;
}

static enum atl_code survey_storage(struct lxc_moving *moving, const char *storage,
                                    struct cmp_lxc_move_storage *ret, struct atl_error *err)
{
    static char content[] = "rootdir";
    struct atl_arena *arena = &moving->work->arena;
    Atoll__Storage__V1__CheckRequest request = ATOLL__STORAGE__V1__CHECK_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.storage = atl_arena_strdup(arena, storage);
    request.content = content;
    enum atl_code code =
        lxc_move_ask(moving, &atl_rpc_storage_v1_Volumes_Check, &request.base, false, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__CheckReply *reply = (const Atoll__Storage__V1__CheckReply *)output;
    const char **formats = atl_arena_array(arena, const char *, reply->n_format + 1);
    for (size_t i = 0; i < reply->n_format; i++)
        formats[i] = reply->format[i];
    *ret = (struct cmp_lxc_move_storage){.storage = storage,
                                         .usable = reply->exists && reply->enabled && reply->on_node &&
                                                   reply->active && reply->takes_content,
                                         .reason = reply->reason,
                                         .formats = formats,
                                         .avail_bytes = reply->has_avail_bytes ? reply->avail_bytes : 0};
    return ATL_OK;
}

/* Each storage that a volume needs at the target, once. */
static enum atl_code survey_storages(struct lxc_moving *moving, struct cmp_lxc_move_target *target,
                                     struct atl_error *err)
{
    struct cmp_lxc_move_storage *storages =
        atl_arena_array(&moving->work->arena, struct cmp_lxc_move_storage, moving->count + 1);
    enum atl_code code = ATL_OK;
    target->storages = storages;
    for (size_t i = 0; i < moving->count && code == ATL_OK; i++) {
        const char *storage = moving->moves[i].to_storage;
        bool there = storage == NULL;
        for (size_t k = 0; !there && k < target->storage_count; k++)
            there = strcmp(storages[k].storage, storage) == 0;
        if (!there)
            code = survey_storage(moving, storage, &storages[target->storage_count++], err);
    }
    return code;
}

static enum atl_code survey(struct lxc_moving *moving, struct cmp_lxc_move_target *target,
                            struct atl_error *err)
{
    struct atl_arena *arena = &moving->work->arena;
    Atoll__Lxc__V1__SurveyRequest request = ATOLL__LXC__V1__SURVEY_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    const char **bridges = cmp_lxc_move_bridges(&moving->work->doc);
    size_t count = 0;
    while (bridges[count] != NULL)
        count++;
    request.vmid = moving->work->vmid;
    request.bridge = atl_arena_array(arena, char *, count + 1);
    for (size_t i = 0; i < count; i++)
        request.bridge[request.n_bridge++] = atl_arena_strdup(arena, bridges[i]);
    enum atl_code code =
        lxc_move_ask(moving, &atl_rpc_lxc_v1_Moving_Survey, &request.base, false, &output, err);
    if (code != ATL_OK)
        return atl_fail(err, code, "target", "node '%s': %s", moving->target, err->text);
    const Atoll__Lxc__V1__SurveyReply *reply = (const Atoll__Lxc__V1__SurveyReply *)output;
    const char **missing = atl_arena_array(arena, const char *, reply->n_missing_bridge + 1);
    for (size_t i = 0; i < reply->n_missing_bridge; i++)
        missing[i] = reply->missing_bridge[i];
    target->missing_bridges = missing;
    target->missing_count = reply->n_missing_bridge;
    target->running = reply->has_running && reply->running;
    target->other_engine = reply->engine != NULL && strcmp(reply->engine, moving->work->spec->driver) != 0;
    return survey_storages(moving, target, err);
}

static enum atl_code tell_faults(struct lxc_moving *moving, const struct atl_errors *errors,
                                 struct atl_error *err)
{
    if (errors->count == 0)
        return ATL_OK;
    for (size_t i = 0; i < errors->count; i++)
        atl_task_log(moving->work->task, "%s: %s", errors->items[i].field, errors->items[i].text);
    return atl_fail(err, ATL_E_STATE, errors->items[0].field, "CT %" PRIu32 " cannot go to '%s': %s: %s%s",
                    moving->work->vmid, moving->target, errors->items[0].field, errors->items[0].text,
                    errors->count > 1 ? " (and more, see the log)" : "");
}

/* Everything that would make it fail; nothing is touched. */
static enum atl_code plan(struct lxc_moving *moving, struct atl_error *err)
{
    struct atl_arena *arena = &moving->work->arena;
    struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
    struct cmp_lxc_move_target target = {.running = false};
    enum atl_code code = ATL_OK;
    moving->moves = cmp_lxc_moves(&moving->work->doc, &moving->count);
    for (size_t i = 0; i < moving->count && code == ATL_OK; i++)
        code = ask_volume(moving, &moving->moves[i], err);
    if (code != ATL_OK)
        return code;
    cmp_lxc_move_plan(moving->work->vmid, moving->spec->storages, moving->moves, moving->count, arena,
                      errors);
    code = survey(moving, &target, err);
    if (code == ATL_OK)
        code = lxc_move_there(moving, &moving->keep, err);
    if (code != ATL_OK)
        return code;
    cmp_lxc_move_check(&moving->work->doc, moving->moves, moving->count, &target, errors);
    return tell_faults(moving, errors, err);
}

/* --- over ------------------------------------------------------------------------------------------------
 */

static bool is_locked(const struct atl_file *file, struct atl_arena *arena)
{
    struct cmp_lxc_doc doc;
    const char *lock = NULL;
    if (cmp_lxc_doc_read(file->bytes, file->size, arena, &doc, NULL) == ATL_OK)
        lock = cmp_lxc_doc_lock(&doc);
    return lock != NULL && strcmp(lock, "migrate") == 0;
}

static enum atl_code hand_over(struct lxc_moving *moving, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    struct lxc_work *work = moving->work;
    cmp_lxc_move_rewrite(&work->doc, moving->moves, moving->count);
    cmp_lxc_doc_write(&work->doc, &text);
    return cmp_handover_commit(&moving->handover, work->file.revision, &text, err);
}

static enum atl_code go(struct lxc_moving *moving, struct atl_error *err)
{
    struct lxc_work *work = moving->work;
    enum atl_code code = ATL_OK;
    cmp_crash_at(work->task, CMP_CRASH_CT_LOCKED);
    if (moving->was_running) {
        atl_task_log(work->task, "shutdown CT %" PRIu32, work->vmid);
        code = lxc_work_halt(work, true, err);
        cmp_crash_at(work->task, CMP_CRASH_CT_STOPPED);
    }
    if (code == ATL_OK)
        code = lxc_move_send(moving, err);
    if (code == ATL_OK && atl_task_stopped(work->task))
        code = atl_fail(err, ATL_E_CANCELLED, NULL, "interrupted by signal");
    if (code != ATL_OK)
        return code;
    cmp_crash_at(work->task, CMP_CRASH_CT_SENT);
    return hand_over(moving, err);
}

/* --- afterwards ------------------------------------------------------------------------------------------
 */

static enum atl_code wake_once(struct lxc_moving *moving, struct atl_error *err)
{
    Atoll__Lxc__V1__WakeRequest request = ATOLL__LXC__V1__WAKE_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.vmid = moving->work->vmid;
    return lxc_move_ask(moving, &atl_rpc_lxc_v1_Moving_Wake, &request.base, true, &output, err);
}

static bool looks_up(struct lxc_moving *moving, struct atl_error *err)
{
    Atoll__Lxc__V1__LookRequest request = ATOLL__LXC__V1__LOOK_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.vmid = moving->work->vmid;
    if (lxc_move_ask(moving, &atl_rpc_lxc_v1_Moving_Look, &request.base, true, &output, err) != ATL_OK)
        return false; /* asked again */
    const Atoll__Lxc__V1__LookReply *reply = (const Atoll__Lxc__V1__LookReply *)output;
    err->code = ATL_OK;
    if (!reply->running && !reply->starting)
        (void)atl_fail(err, ATL_E_STATE, NULL, "%s", reply->failure != NULL ? reply->failure : "it stopped");
    return reply->running;
}

static void rest(void)
{
    const struct timespec pause = {.tv_nsec = look_again};
    (void)nanosleep(&pause, NULL); /* cut short by a signal: it looks a little sooner */
}

/* The container starts at the target. A failure is warned of: it has moved all the same. */
static void wake(struct lxc_moving *moving)
{
    struct atl_error error = {0};
    atl_ns end = atl_clock_monotonic() + ARRIVE_TIME;
    enum atl_code code = wake_once(moving, &error);
    while (code != ATL_OK && atl_clock_monotonic() < end) {
        rest(); /* its agent hears of its new guest a moment later */
        code = wake_once(moving, &error);
    }
    bool up = false;
    end = atl_clock_monotonic() + START_TIME;
    while (code == ATL_OK && !up && atl_clock_monotonic() < end) {
        error = (struct atl_error){0};
        up = looks_up(moving, &error);
        if (!up && error.code == ATL_E_STATE)
            break;
        if (!up)
            rest();
    }
    if (up)
        atl_task_log(moving->work->task, "CT %" PRIu32 " runs on '%s'", moving->work->vmid, moving->target);
    else
        atl_task_warn(moving->work->task, "CT %" PRIu32 " is on '%s' now, but was not started there: %s",
                      moving->work->vmid, moving->target, error.text);
}

static void free_old(struct lxc_moving *moving)
{
    struct lxc_work *work = moving->work;
    for (size_t i = 0; i < moving->count; i++) {
        Atoll__Storage__V1__FreeRequest request = ATOLL__STORAGE__V1__FREE_REQUEST__INIT;
        const ProtobufCMessage *output = NULL;
        struct atl_error error = {0};
        if (!moving->moves[i].copy)
            continue;
        request.volid = atl_arena_strdup(&work->arena, moving->moves[i].volid);
        const struct atl_task_call call = {
            .rpc = &atl_rpc_storage_v1_Volumes_Free, .input = &request.base, .to_the_end = true};
        if (atl_task_call_at(work->task, &call, &work->arena, &output, &error) != ATL_OK)
            atl_task_warn(work->task, "the old volume '%s' is left on this node: %s", request.volid,
                          error.text);
    }
}

static void arrive(struct lxc_moving *moving)
{
    struct lxc_work *work = moving->work;
    cmp_crash_at(work->task, CMP_CRASH_CT_HANDED_OVER);
    atl_task_log(work->task, "CT %" PRIu32 " belongs to node '%s' now", work->vmid, moving->target);
    if (moving->was_running)
        wake(moving);
    cmp_crash_at(work->task, CMP_CRASH_CT_AWAKE);
    free_old(moving);
    work->driver->clean(&work->host, work->vmid);
    cmp_crash_at(work->task, CMP_CRASH_CT_FREED);
}

static enum atl_code start_again(struct lxc_work *work, struct atl_error *err)
{
    struct cmp_ct_run run;
    enum atl_code code = lxc_work_read(work, err);
    if (code == ATL_OK && !work->driver->running(&work->host, work->vmid, &run)) {
        code = lxc_work_start(work, err);
        if (code == ATL_OK)
            atl_task_log(work->task, "CT %" PRIu32 " runs here again", work->vmid);
    }
    return code;
}

/* Makes it again as it was before, and takes the lock off last: until then a later task would do the same. */
static void stay(struct lxc_moving *moving)
{
    struct lxc_work *work = moving->work;
    struct atl_error error = {0};
    work->to_the_end = true;
    lxc_move_take_back(moving);
    cmp_crash_at(work->task, CMP_CRASH_CT_TAKEN_BACK);
    if (moving->was_running && start_again(work, &error) != ATL_OK)
        atl_task_warn(work->task, "CT %" PRIu32 " could not be started here again: %s", work->vmid,
                      error.text);
    cmp_crash_at(work->task, CMP_CRASH_CT_UP_AGAIN);
    enum atl_code code = lxc_work_read(work, &error);
    if (code == ATL_OK) {
        cmp_lxc_doc_set_lock(&work->doc, NULL);
        code = lxc_work_write(work, &error);
    }
    if (code != ATL_OK)
        atl_task_warn(work->task, "the lock 'migrate' could not be taken off: %s", error.text);
}

/* After a worker that was killed. */
static enum atl_code recover(struct lxc_moving *moving, struct atl_error *err)
{
    struct lxc_work *work = moving->work;
    atl_task_log(work->task, "the migration %s was cut off", moving->spec->cut_off);
    enum atl_code code = atl_task_note(work->task, "follows", moving->spec->cut_off, err);
    if (code == ATL_OK)
        code = lxc_work_bus(work, err);
    if (code != ATL_OK)
        return code;
    if (!lxc_move_noted(moving, moving->spec->cut_off))
        return ATL_OK;                 /* it had touched nothing */
    code = lxc_move_note(moving, err); /* if this one is killed, too */
    if (code != ATL_OK)
        return code;
    cmp_handover_init(&moving->handover, "lxc", work->spec->node, moving->target, work->vmid);
    enum cmp_side side = cmp_handover_settle(&moving->handover);
    if (side == CMP_SIDE_TARGET) {
        arrive(moving);
    } else if (side == CMP_SIDE_SOURCE) {
        atl_task_log(work->task, "CT %" PRIu32 " stays here", work->vmid);
        stay(moving);
    }
    return ATL_OK;
}

static enum atl_code begin(struct lxc_moving *moving, struct atl_error *err)
{
    struct lxc_work *work = moving->work;
    struct cmp_ct_run run;
    enum atl_code code = lxc_work_read(work, err);
    const char *lock = code == ATL_OK ? cmp_lxc_doc_lock(&work->doc) : NULL;
    if (lock != NULL)
        code = atl_fail(err, ATL_E_CONFLICT, NULL, "CT is locked (%s)", lock);
    moving->was_running = code == ATL_OK && work->driver->running(&work->host, work->vmid, &run);
    if (moving->was_running && !(moving->spec->has_restart && moving->spec->restart))
        code = atl_fail(err, ATL_E_STATE, "restart", "CT %" PRIu32 " runs; it moves by a restart only",
                        work->vmid);
    if (code == ATL_OK)
        code = plan(moving, err);
    if (code == ATL_OK)
        code = lxc_move_note(moving, err);
    if (code != ATL_OK)
        return code;
    cmp_crash_at(work->task, CMP_CRASH_CT_CHECKED);
    cmp_lxc_doc_set_lock(&work->doc, "migrate");
    return lxc_work_write(work, err);
}

enum atl_code lxc_task_migrate(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    LXC_WORK_AT_EXIT struct lxc_work work = {.lock_fd = -1};
    struct lxc_moving moving = {.work = &work};
    enum atl_code code = lxc_work_init(&work, task, spec, size, err);
    if (code != ATL_OK)
        return code;
    if (work.spec->move == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the task's order cannot be read");
    moving.spec = work.spec->move;
    moving.target = moving.spec->target;
    moving.handover = (struct cmp_handover){.task = task, .arena = &work.arena, .locked = is_locked};
    if (moving.spec->cut_off != NULL)
        return recover(&moving, err);
    cmp_handover_init(&moving.handover, "lxc", work.spec->node, moving.target, work.vmid);
    code = begin(&moving, err);
    if (code != ATL_OK)
        return code;
    code = go(&moving, err);
    /* A hand-over whose answer did not come may have been done all the same: the tree knows. */
    enum cmp_side side = code == ATL_OK ? CMP_SIDE_TARGET : cmp_handover_settle(&moving.handover);
    if (side == CMP_SIDE_TARGET) {
        arrive(&moving);
        return ATL_OK;
    }
    if (side == CMP_SIDE_SOURCE)
        stay(&moving);
    return code;
}
