/* Moving a virtual machine: the worker at the source, which leads. */
#include <stdio.h>
#include <string.h>

#include "atoll/qemu/v1/migrate.atl.h"
#include "atoll/storage/v1/volume.atl.h"
#include "crash.h"
#include "move_source.h"

static const atl_ns answer_within = 120 * ATL_SECOND;
static const atl_ns look_period = 200 * ATL_MS;

static void source_done(struct source *source)
{
    move_tunnel_close(&source->ram);
    move_tunnel_close(&source->nbd);
    move_link_done(&source->link);
    work_done(&source->work);
}
#define SOURCE_AT_EXIT ATL_CLEANUP(source_done)

/* --- words ------------------------------------------------------------------------------------------------
 */

enum atl_code source_hear(struct source *source, const char *kind, bool to_the_end,
                          const Atoll__Qemu__V1__Word **ret_word, struct atl_error *err)
{
    atl_ns end = atl_clock_monotonic() + answer_within;
    for (;;) {
        const Atoll__Qemu__V1__Word *word = NULL;
        enum atl_code code =
            move_hear(&source->link, atl_clock_monotonic() + look_period, &source->work.arena, &word, err);
        if (code == ATL_E_DEADLINE && !to_the_end && atl_task_stopped(source->work.task))
            return atl_fail(err, ATL_E_CANCELLED, NULL, "the task was stopped");
        if (code == ATL_E_DEADLINE && (to_the_end || atl_clock_monotonic() < end))
            continue;
        if (code != ATL_OK)
            return code;
        if (strcmp(word->kind, "refused") == 0)
            return atl_fail(err, ATL_E_STATE, NULL, "the target: %s",
                            word->error != NULL ? word->error : "it failed");
        if (strcmp(word->kind, kind) != 0)
            return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the target said what it may not say now");
        *ret_word = word;
        return ATL_OK;
    }
}

/* --- what there is ----------------------------------------------------------------------------------------
 */

/* Everything that is wrong, line by line in the log; the first is the end of the task. */
static enum atl_code report(struct source *source, const struct atl_errors *errors, struct atl_error *err)
{
    if (errors->count == 0)
        return ATL_OK;
    for (size_t i = 0; i < errors->count; i++)
        atl_task_log(source->work.task, "%s: %s", errors->items[i].field, errors->items[i].text);
    return atl_fail(err, ATL_E_STATE, errors->items[0].field, "cannot migrate VM %" PRIu32 ": %s: %s",
                    source->work.spec->vmid, errors->items[0].field, errors->items[0].text);
}

static enum atl_code look_at_volumes(struct source *source, struct atl_error *err)
{
    struct cmp_move_input *input = &source->input;
    for (size_t i = 0; i < input->volume_count; i++) {
        struct cmp_move_volume *volume = &input->volumes[i];
        const Atoll__Storage__V1__VolumeInfo *info = NULL;
        if (volume->is_path)
            continue;
        enum atl_code code = work_volume_info(&source->work, volume->volid, &info, err);
        if (code != ATL_OK)
            return code;
        volume->shared = info->has_shared && info->shared;
        volume->path = info->path;
        volume->format = info->format;
        volume->size_bytes = info->size_bytes;
        volume->used_bytes = info->has_used_bytes ? info->used_bytes : 0;
    }
    return ATL_OK;
}

static enum atl_code gather(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    const Atoll__Qemu__V1__Move *move = work->spec->move;
    struct cmp_move_input *input = &source->input;
    enum cmp_state state = CMP_STOPPED;
    enum atl_code code = work_read(work, err);
    if (code != ATL_OK)
        return code;
    if (work->file.main->state->lock != NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "VM is locked (%s)", work->file.main->state->lock);
    code = work->driver->state(work->engine, work->spec->vmid, &state, err);
    if (code != ATL_OK)
        return code;
    *input = (struct cmp_move_input){.vmid = work->spec->vmid,
                                     .file = &work->file,
                                     .running = state != CMP_STOPPED,
                                     .online = move->has_online && move->online,
                                     .force = move->has_force && move->force,
                                     .with_local_disks = move->has_with_local_disks && move->with_local_disks,
                                     .storages = move->storages,
                                     .source = {.accel = move_accel(work),
                                                .processor = move_processor(work),
                                                .qemu_version = work_qemu_version(work)}};
    source->was_running = state == CMP_RUNNING;
    if (input->running && work->driver->qmp == NULL)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, "online", "the engine '%s' cannot move a guest that runs",
                        work->driver->name);
    input->volumes = cmp_move_volumes(&work->file, &work->arena, &input->volume_count);
    code = look_at_volumes(source, err);
    struct atl_errors *errors = atl_arena_new(&work->arena, struct atl_errors);
    if (code == ATL_OK)
        cmp_move_plan(input, &work->arena, errors);
    return code == ATL_OK ? report(source, errors, err) : code;
}

/* --- the target -------------------------------------------------------------------------------------------
 */

static enum atl_code reach_target(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    Atoll__Qemu__V1__ReceiveRequest request = ATOLL__QEMU__V1__RECEIVE_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    struct atl_error error = {0};
    request.vmid = work->spec->vmid;
    request.source = work->spec->node;
    request.network = work->spec->move->network;
    request.user = work->spec->user;
    const struct atl_task_call call = {
        .rpc = &atl_rpc_qemu_v1_Migration_Receive, .input = &request.base, .node = work->spec->move->peer};
    enum atl_code code = atl_task_call_at(work->task, &call, &work->arena, &output, &error);
    if (code != ATL_OK)
        return atl_fail(err, code, error.field[0] != '\0' ? error.field : "target", "node '%s': %s",
                        work->spec->move->peer, error.text);
    const Atoll__Qemu__V1__ReceiveReply *reply = (const Atoll__Qemu__V1__ReceiveReply *)output;
    atl_task_log(work->task, "node '%s' receives in task %s", work->spec->move->peer, reply->upid);
    code = atl_stream_offer_unpack(reply->offer, &source->offer, err);
    if (code == ATL_OK)
        code = atl_stream_connect(&source->offer, "control", atl_clock_monotonic() + 20 * ATL_SECOND,
                                  &source->link.stream, err);
    return code;
}

static void add_storage(struct source *source, Atoll__Qemu__V1__Ask *ask,
                        const struct cmp_move_volume *volume)
{
    struct atl_arena *arena = &source->work.arena;
    const char *content = volume->cdrom && !volume->cloudinit ? "iso" : "images";
    for (size_t i = 0; i < ask->n_storage; i++)
        if (strcmp(ask->storage[i]->storage, volume->to_storage) == 0 &&
            strcmp(ask->storage[i]->content, content) == 0)
            return;
    Atoll__Qemu__V1__AskStorage *storage = atl_arena_new(arena, Atoll__Qemu__V1__AskStorage);
    atoll__qemu__v1__ask_storage__init(storage);
    storage->storage = atl_arena_strdup(arena, volume->to_storage);
    storage->content = atl_arena_strdup(arena, content);
    ask->storage[ask->n_storage++] = storage;
}

static void take_facts(struct source *source, const Atoll__Qemu__V1__Facts *facts)
{
    struct cmp_move_input *input = &source->input;
    struct atl_arena *arena = &source->work.arena;
    struct cmp_move_storage *storages = atl_arena_array(arena, struct cmp_move_storage, facts->n_storage + 1);
    const char **bridges = atl_arena_array(arena, const char *, facts->n_missing_bridge + 1);
    for (size_t i = 0; i < facts->n_storage; i++) {
        const Atoll__Qemu__V1__FactsStorage *one = facts->storage[i];
        const char **formats = atl_arena_array(arena, const char *, one->n_format + 1);
        for (size_t k = 0; k < one->n_format; k++)
            formats[k] = one->format[k];
        formats[one->n_format] = NULL;
        storages[i] = (struct cmp_move_storage){.storage = one->storage,
                                                .content = one->content,
                                                .usable = one->usable,
                                                .reason = one->reason,
                                                .formats = formats,
                                                .avail_bytes = one->has_avail_bytes ? one->avail_bytes : 0};
    }
    for (size_t i = 0; i < facts->n_missing_bridge; i++)
        bridges[i] = facts->missing_bridge[i];
    bridges[facts->n_missing_bridge] = NULL;
    input->target = (struct cmp_move_node){
        .accel = facts->accel, .processor = facts->processor, .qemu_version = facts->qemu_version};
    input->missing_bridges = bridges;
    input->target_storages = storages;
    input->target_storage_count = facts->n_storage;
    input->runs_there = facts->has_running && facts->running;
    input->no_quorum = facts->has_no_quorum && facts->no_quorum;
}

/* Everything that would make it fail, before anything is touched on either side. */
static enum atl_code check(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    Atoll__Qemu__V1__Word word = ATOLL__QEMU__V1__WORD__INIT;
    Atoll__Qemu__V1__Ask ask = ATOLL__QEMU__V1__ASK__INIT;
    const Atoll__Qemu__V1__Word *answer = NULL;
    const char **bridges = cmp_move_bridges(work->file.main->config, &work->arena);
    word.ask = &ask;
    while (bridges[ask.n_bridge] != NULL)
        ask.n_bridge++;
    ask.bridge = atl_arena_array(&work->arena, char *, ask.n_bridge + 1);
    for (size_t i = 0; i < ask.n_bridge; i++)
        ask.bridge[i] = atl_arena_strdup(&work->arena, bridges[i]);
    ask.storage =
        atl_arena_array(&work->arena, Atoll__Qemu__V1__AskStorage *, source->input.volume_count + 1);
    for (size_t i = 0; i < source->input.volume_count; i++)
        if (!source->input.volumes[i].is_path)
            add_storage(source, &ask, &source->input.volumes[i]);
    enum atl_code code = move_say(&source->link, "ask", &word, err);
    if (code == ATL_OK)
        code = source_hear(source, "facts", false, &answer, err);
    atl_assert(code != ATL_OK || answer != NULL);
    if (code == ATL_OK && answer->facts == NULL)
        code = atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the target said what it may not say now");
    if (code != ATL_OK)
        return code;
    atl_assert(answer->facts != NULL);
    struct atl_errors *errors = atl_arena_new(&work->arena, struct atl_errors);
    take_facts(source, answer->facts);
    cmp_move_check(&source->input, errors);
    return report(source, errors, err);
}

/* --- getting ready ----------------------------------------------------------------------------------------
 */

/* From here on nobody else changes the guest; the revision is what the hand-over compares. */
static enum atl_code lock_guest(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    struct atl_file seen = work->text;
    struct cmp_file file = work->file;
    ATL_BUF_AT_EXIT struct atl_buf note = {0};
    for (size_t i = 0; i < source->input.volume_count; i++)
        if (source->input.volumes[i].move != CMP_MOVE_NONE)
            atl_buf_printf(&note, "%s\n", source->input.volumes[i].volid);
    enum atl_code code = atl_task_note(work->task, "moved", note.data != NULL ? note.data : "", err);
    if (code == ATL_OK && source->was_running)
        code = atl_task_note(work->task, "running", "1\n", err);
    if (code == ATL_OK)
        code = work_take(work, err);
    if (code == ATL_OK &&
        (work->text.size != seen.size || memcmp(work->text.bytes, seen.bytes, seen.size) != 0))
        code =
            atl_fail(err, ATL_E_CONFLICT, NULL, "the guest's configuration was changed meanwhile; try again");
    if (code != ATL_OK)
        return code;
    work->file = file; /* the plan borrows from it */
    work->file.main->state->lock = atl_arena_strdup(&work->arena, "migrate");
    source->locked = true; /* or it is not known: settling finds out */
    code = work_write(work, err);
    atl_treelock_release_wait(work->bus, &work->lock);
    return code;
}

static Atoll__Qemu__V1__Moving *moving_of(struct source *source, const struct cmp_move_volume *volume)
{
    struct atl_arena *arena = &source->work.arena;
    Atoll__Qemu__V1__Moving *moving = atl_arena_new(arena, Atoll__Qemu__V1__Moving);
    atoll__qemu__v1__moving__init(moving);
    moving->name = atl_arena_strdup(arena, volume->name);
    moving->volid = atl_arena_strdup(arena, volume->volid);
    moving->storage = atl_arena_strdup(arena, volume->to_storage);
    moving->format = volume->format != NULL ? atl_arena_strdup(arena, volume->format) : NULL;
    moving->path = volume->path != NULL ? atl_arena_strdup(arena, volume->path) : NULL;
    moving->size_bytes = volume->size_bytes;
    moving->has_used_bytes = volume->used_bytes > 0;
    moving->used_bytes = volume->used_bytes;
    moving->move = atl_arena_strdup(arena, cmp_move_to_text(volume->move));
    return moving;
}

static enum atl_code prepare(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    Atoll__Qemu__V1__Word word = ATOLL__QEMU__V1__WORD__INIT;
    Atoll__Qemu__V1__Prepare prepare = ATOLL__QEMU__V1__PREPARE__INIT;
    ATL_FREE_AT_EXIT char *xml = NULL;
    enum atl_code code = ATL_OK;
    word.prepare = &prepare;
    prepare.moving = atl_arena_array(&work->arena, Atoll__Qemu__V1__Moving *, source->input.volume_count + 1);
    for (size_t i = 0; i < source->input.volume_count; i++) {
        const struct cmp_move_volume *volume = &source->input.volumes[i];
        if (volume->move != CMP_MOVE_NONE)
            prepare.moving[prepare.n_moving++] = moving_of(source, volume);
        if (!volume->is_path)
            atl_task_log(work->task, "%s: '%s' is %s", volume->name, volume->volid,
                         cmp_move_to_text(volume->move));
    }
    if (source->input.running)
        code = work->driver->domain(work->engine, work->spec->vmid, &xml, err);
    prepare.xml = xml;
    prepare.has_paused = true;
    prepare.paused = !source->was_running;
    prepare.run_dir =
        atl_arena_format(&work->arena, "%s/qemu/%" PRIu32, atl_task_run_dir(work->task), work->spec->vmid);
    if (code == ATL_OK)
        code = move_say(&source->link, "prepare", &word, err);
    return code == ATL_OK ? source_hear(source, "ready", false, &source->ready, err) : code;
}

/* --- the hand-over ----------------------------------------------------------------------------------------
 */

static enum atl_code hand_over(struct source *source, struct atl_error *err)
{
    Atoll__Qemu__V1__Word word = ATOLL__QEMU__V1__WORD__INIT;
    const Atoll__Qemu__V1__Word *answer = NULL;
    word.has_epoch = word.has_number = true;
    word.epoch = source->work.text.revision.epoch;
    word.number = source->work.text.revision.number;
    word.has_stay_paused = true;
    word.stay_paused = !source->was_running;
    enum atl_code code = move_say(&source->link, "commit", &word, err);
    if (code == ATL_OK)
        code = source_hear(source, "committed", true, &answer, err);
    if (code != ATL_OK)
        return code;
    atl_assert(answer != NULL);
    source->committed = true;
    if (answer->error != NULL)
        atl_task_warn(source->work.task, "the guest is the target's, but does not run yet: %s",
                      answer->error);
    return ATL_OK;
}

/* What stays behind at the source when the guest is the target's. */
static void leave(struct source *source)
{
    struct work *work = &source->work;
    struct atl_error error = {0};
    if (move_persist(work, move_end_copy, MOVE_PATIENCE, &error) != ATL_OK)
        atl_task_warn(work->task, "the guest's old process could not be ended: %s", error.text);
    cmp_crash_at(work->task, CMP_CRASH_VM_ENDED);
    for (size_t i = 0; i < source->input.volume_count; i++)
        if (source->input.volumes[i].move != CMP_MOVE_NONE)
            work_free_volumes(work, &source->input.volumes[i].volid, 1);
    work_remove_run_dir(work);
}

/* It broke: the tree says whose the guest is. */
static enum atl_code give_up(struct source *source, enum atl_code why, struct atl_error *err)
{
    struct work *work = &source->work;
    struct cmp_handover handover;
    struct atl_error error = {0};
    move_tunnel_close(&source->ram);
    move_tunnel_close(&source->nbd);
    move_link_done(&source->link);
    move_jobs_cancel(work, &source->jobs);
    move_handover_init(work, work->spec->node, work->spec->move->peer, &handover);
    if (cmp_handover_settle(&handover) == CMP_SIDE_TARGET) {
        atl_task_warn(work->task, "the target has the guest, though it could not say so: %s",
                      err != NULL ? err->text : "");
        leave(source);
        return ATL_OK;
    }
    cmp_crash_at(work->task, CMP_CRASH_VM_TAKEN_BACK);
    move_deed_fn *deed = source->was_running ? move_go_on : move_call_off;
    if (source->input.running && move_persist(work, deed, MOVE_PATIENCE, &error) != ATL_OK)
        return atl_fail(err, ATL_E_IO, NULL, "the guest stays here and does not run: %s", error.text);
    cmp_crash_at(work->task, CMP_CRASH_VM_GOES_ON);
    if (move_persist(work, move_unlock, MOVE_PATIENCE, &error) != ATL_OK)
        atl_task_warn(work->task, "the lock 'migrate' could not be taken off: %s", error.text);
    return why;
}

/* --- the task ---------------------------------------------------------------------------------------------
 */

/* Volumes that nobody writes. */
static enum atl_code copy(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    const Atoll__Qemu__V1__Word *ready = source->ready;
    uint64_t limit = source_limit(source) / 1024;
    size_t count = 0;
    size_t moved = 0;
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < source->input.volume_count; i++)
        count += source->input.volumes[i].move == CMP_MOVE_COPY;
    for (size_t i = 0; code == ATL_OK && i < source->input.volume_count; i++) {
        const struct cmp_move_volume *volume = &source->input.volumes[i];
        if (volume->move == CMP_MOVE_NONE)
            continue;
        const Atoll__Qemu__V1__Moved *to = moved < ready->n_moved ? ready->moved[moved++] : NULL;
        if (volume->move != CMP_MOVE_COPY)
            continue;
        if (to == NULL || to->offer == NULL)
            return atl_fail(err, ATL_E_UNAVAILABLE, volume->name, "the target does not receive '%s'",
                            volume->volid);
        code = move_send_volume(work, volume, to->offer, limit > 0 ? (limit + count - 1) / count : 0,
                                &source->jobs, err);
    }
    return code == ATL_OK ? move_jobs_done(work, &source->jobs, err) : code;
}

static enum atl_code transfer(struct source *source, struct atl_error *err)
{
    return source->input.running ? source_transfer(source, err) : ATL_OK;
}

static const struct {
    enum atl_code (*fn)(struct source *source, struct atl_error *err);
    enum cmp_crash_point after;
} steps[] = {
    {reach_target, CMP_CRASH_VM_REACHED},  {check, CMP_CRASH_VM_CHECKED}, {lock_guest, CMP_CRASH_VM_LOCKED},
    {prepare, CMP_CRASH_VM_PREPARED},      {copy, CMP_CRASH_VM_COPIED},   {transfer, CMP_CRASH_VM_SENT},
    {hand_over, CMP_CRASH_VM_HANDED_OVER},
};

static enum atl_code migrate(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    atl_ns began = atl_clock_monotonic();
    enum atl_code code = gather(source, err);
    for (size_t i = 0; code == ATL_OK && i < ATL_COUNT(steps); i++) {
        code = steps[i].fn(source, err);
        if (code == ATL_OK)
            cmp_crash_at(work->task, steps[i].after);
    }
    if (code != ATL_OK)
        return source->locked ? give_up(source, code, err) : code;
    if (source->stopped_at != 0)
        atl_task_log(work->task, "the guest stood still for %" PRId64 " ms",
                     (atl_clock_monotonic() - source->stopped_at) / ATL_MS);
    leave(source);
    atl_task_progress(work->task, 1, "done");
    atl_task_log(work->task, "VM %" PRIu32 " is on node '%s' after %.1f s", work->spec->vmid,
                 work->spec->move->peer, (double)(atl_clock_monotonic() - began) / ATL_SECOND);
    return ATL_OK;
}

enum atl_code work_migrate(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    SOURCE_AT_EXIT struct source source = {0};
    enum atl_code code = work_init(&source.work, task, spec, size, err);
    atl_assert(code != ATL_OK || source.work.spec != NULL);
    if (source.work.spec != NULL && source.work.spec->upid != NULL)
        return move_persist(&source.work, move_recover_source, MOVE_FOREVER, err);
    return code == ATL_OK ? migrate(&source, err) : code;
}
