/* Moving a virtual machine: the worker at the target. It has the last word: its transaction hands the guest
 * over. */
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "atoll/qemu/v1/migrate.atl.h"
#include "atoll/storage/v1/volume.atl.h"
#include "crash.h"
#include "handover.h"
#include "move.h"
#include "move_tunnel.h"

struct target {
    struct work work;
    struct cmp_handover handover;
    bool found; /* the guest's file at the source, and what it is */
    struct atl_file text;
    struct move_link link;
    struct move_tunnel *tunnel;
    char run_dir[108];
    const Atoll__Qemu__V1__Prepare *prepare; /* NULL: not asked yet */
    Atoll__Qemu__V1__Moved **moved;
    size_t moved_count;
    struct move_jobs jobs; /* of the storage-agent, which fills volumes */
    bool started;          /* a QEMU of ours waits for the guest */
    bool committed;
};

enum { LOOKS = 50 }; /* libvirt forgets within 200 ms one that has gone */

static const atl_ns look_again = 10 * ATL_MS;
static const atl_ns look_period = 500 * ATL_MS;
static const atl_ns connect_within = 30 * ATL_SECOND;
static const atl_ns state_within = 20 * ATL_SECOND;

static void target_done(struct target *target)
{
    move_tunnel_close(&target->tunnel);
    move_link_done(&target->link);
    work_done(&target->work);
}
#define TARGET_AT_EXIT ATL_CLEANUP(target_done)

/* --- being reached ----------------------------------------------------------------------------------------
 */

static enum atl_code tell_agent(struct target *target, const struct atl_stream_offer *offer,
                                struct atl_error *err)
{
    Atoll__Qemu__V1__ListeningRequest request = ATOLL__QEMU__V1__LISTENING_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.upid = atl_arena_strdup(&target->work.arena, atl_task_upid(target->work.task));
    request.offer = atl_stream_offer_pack(offer, &target->work.arena);
    return atl_task_call(target->work.task, &atl_rpc_qemu_v1_Migration_Listening, &request.base, 0,
                         &target->work.arena, &output, err);
}

/* What is here already, for whoever cleans up after us. */
static enum atl_code note_volumes(struct target *target, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    const char **volumes = NULL;
    enum atl_code code = move_own_volumes(&target->work, &volumes, err);
    atl_buf_text(&text, "#\n"); /* without it nothing was noted, and nothing made */
    for (size_t i = 0; code == ATL_OK && volumes[i] != NULL; i++)
        atl_buf_printf(&text, "%s\n", volumes[i]);
    return code == ATL_OK ? atl_task_note(target->work.task, "keep", text.data, err) : code;
}

static enum atl_code be_reached(struct target *target, struct atl_error *err)
{
    struct atl_stream_server *server = NULL;
    struct atl_stream_offer offer;
    enum atl_code code = note_volumes(target, err);
    if (code == ATL_OK)
        code = atl_stream_listen(target->work.spec->move->address, &server, &offer, err);
    if (code != ATL_OK)
        return code;
    target->tunnel = move_tunnel_in(&server, target->run_dir);
    code = tell_agent(target, &offer, err);
    if (code == ATL_OK)
        code = move_tunnel_control(target->tunnel, atl_clock_monotonic() + connect_within,
                                   &target->link.stream, err);
    return code;
}

/* --- facts ------------------------------------------------------------------------------------------------
 */

static enum atl_code storage_facts(struct target *target, const Atoll__Qemu__V1__AskStorage *ask,
                                   Atoll__Qemu__V1__FactsStorage **ret_facts, struct atl_error *err)
{
    Atoll__Storage__V1__CheckRequest request = ATOLL__STORAGE__V1__CHECK_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.storage = ask->storage;
    request.content = ask->content;
    enum atl_code code = atl_task_call(target->work.task, &atl_rpc_storage_v1_Volumes_Check, &request.base, 0,
                                       &target->work.arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__CheckReply *reply = (const Atoll__Storage__V1__CheckReply *)output;
    Atoll__Qemu__V1__FactsStorage *facts = atl_arena_new(&target->work.arena, Atoll__Qemu__V1__FactsStorage);
    atoll__qemu__v1__facts_storage__init(facts);
    facts->storage = ask->storage;
    facts->content = ask->content;
    facts->usable =
        reply->exists && reply->enabled && reply->on_node && reply->active && reply->takes_content;
    facts->reason = reply->reason;
    facts->format = reply->format;
    facts->n_format = reply->n_format;
    facts->has_avail_bytes = reply->has_avail_bytes;
    facts->avail_bytes = reply->avail_bytes;
    *ret_facts = facts;
    return ATL_OK;
}

static enum atl_code fill_facts(struct target *target, const Atoll__Qemu__V1__Ask *ask,
                                Atoll__Qemu__V1__Facts *facts, struct atl_error *err)
{
    struct work *work = &target->work;
    const char *processor = move_processor(work);
    const char *version = work_qemu_version(work);
    enum cmp_state state = CMP_STOPPED;
    facts->accel = atl_arena_strdup(&work->arena, move_accel(work));
    facts->processor = processor != NULL ? atl_arena_strdup(&work->arena, processor) : NULL;
    facts->qemu_version = version != NULL ? atl_arena_strdup(&work->arena, version) : NULL;
    facts->missing_bridge = atl_arena_array(&work->arena, char *, ask->n_bridge + 1);
    for (size_t i = 0; work->driver != &cmp_fake_driver && i < ask->n_bridge; i++)
        if (if_nametoindex(ask->bridge[i]) == 0)
            facts->missing_bridge[facts->n_missing_bridge++] = ask->bridge[i];
    facts->storage = atl_arena_array(&work->arena, Atoll__Qemu__V1__FactsStorage *, ask->n_storage + 1);
    facts->has_no_quorum = true;
    facts->no_quorum = cmp_handover_read(&target->handover, &target->found, &target->text, NULL) != ATL_OK;
    enum atl_code code = work->driver->state(work->engine, work->spec->vmid, &state, err);
    for (int i = 0; code == ATL_OK && state != CMP_STOPPED && i < LOOKS; i++) { /* it may have just left us */
        work_sleep(work, look_again);
        code = work->driver->state(work->engine, work->spec->vmid, &state, err);
    }
    facts->has_running = true;
    facts->running = state != CMP_STOPPED;
    for (size_t i = 0; code == ATL_OK && i < ask->n_storage; i++)
        code = storage_facts(target, ask->storage[i], &facts->storage[facts->n_storage++], err);
    return code;
}

static enum atl_code answer_ask(struct target *target, const Atoll__Qemu__V1__Ask *ask, struct atl_error *err)
{
    Atoll__Qemu__V1__Word word = ATOLL__QEMU__V1__WORD__INIT;
    Atoll__Qemu__V1__Facts facts = ATOLL__QEMU__V1__FACTS__INIT;
    word.facts = &facts;
    enum atl_code code = fill_facts(target, ask, &facts, err);
    return code == ATL_OK ? move_say(&target->link, "facts", &word, err) : code;
}

/* --- getting ready ----------------------------------------------------------------------------------------
 */

static bool moves(const Atoll__Qemu__V1__Moving *moving, enum cmp_move move)
{
    return strcmp(moving->move, cmp_move_to_text(move)) == 0;
}

/* A volume for each that comes, empty or to be filled by the storage-agents, with its id in the file. */
static enum atl_code make_volume(struct target *target, const Atoll__Qemu__V1__Moving *moving,
                                 struct atl_error *err)
{
    struct work *work = &target->work;
    Atoll__Qemu__V1__Moved *moved = atl_arena_new(&work->arena, Atoll__Qemu__V1__Moved);
    atoll__qemu__v1__moved__init(moved);
    moved->name = moving->name;
    enum atl_code code = moves(moving, CMP_MOVE_COPY)
                             ? move_receive_volume(work, moving, moved, &target->jobs, err)
                             : move_alloc_volume(work, moving, moves(moving, CMP_MOVE_REMAKE), moved, err);
    if (code != ATL_OK)
        return code;
    target->moved[target->moved_count++] = moved;
    cmp_move_rename(&work->file, moving->volid, moved->volid);
    atl_task_log(work->task, "%s: volume '%s'", moved->name, moved->volid);
    return ATL_OK;
}

static const char *path_here(const struct cmp_machine *machine, const char *name)
{
    for (size_t i = 0; i < machine->volume_count; i++)
        if (strcmp(machine->volumes[i].name, name) == 0)
            return machine->volumes[i].path;
    return NULL;
}

/* A QEMU that waits for the guest's state, with the disks and sockets of this node. */
static enum atl_code start_waiting(struct target *target, const struct cmp_machine *machine,
                                   struct atl_error *err)
{
    const Atoll__Qemu__V1__Prepare *prepare = target->prepare;
    struct work *work = &target->work;
    struct cmp_move_text *texts = atl_arena_array(&work->arena, struct cmp_move_text, prepare->n_moving + 1);
    size_t count = 0;
    ATL_BUF_AT_EXIT struct atl_buf xml = {0};
    texts[count++] = (struct cmp_move_text){.from = prepare->run_dir, .to = machine->run_dir, .prefix = true};
    for (size_t i = 0; i < prepare->n_moving; i++) {
        const char *path = path_here(machine, prepare->moving[i]->name);
        if (path != NULL && prepare->moving[i]->path != NULL)
            texts[count++] = (struct cmp_move_text){.from = prepare->moving[i]->path, .to = path};
    }
    enum atl_code code = cmp_move_xml(prepare->xml, texts, count, &work->arena, &xml, err);
    if (code == ATL_OK)
        code = work->driver->start(work->engine, work->spec->vmid, xml.data, true, err);
    target->started = code == ATL_OK;
    /* Its disks stay the source's until it runs: without this a source that takes the guest back could not
     * write. A guest that is to stay paused has to have them, though: QEMU could not send it on otherwise. */
    if (code == ATL_OK)
        code = move_capability(work, "late-block-activate", !(prepare->has_paused && prepare->paused), err);
    return code;
}

static enum atl_code take_disks(struct target *target, struct atl_error *err)
{
    struct work *work = &target->work;
    bool begun = false;
    enum atl_code code = ATL_OK;
    for (size_t i = 0; code == ATL_OK && i < target->prepare->n_moving; i++) {
        const Atoll__Qemu__V1__Moving *moving = target->prepare->moving[i];
        const char *name = NULL;
        if (!moves(moving, CMP_MOVE_MIRROR))
            continue;
        if (!begun)
            code = move_command(
                work, "nbd-server-start",
                atl_arena_format(&work->arena,
                                 "{\"addr\":{\"type\":\"unix\",\"data\":{\"path\":\"%s/nbd.sock\"}}}",
                                 target->run_dir),
                err);
        begun = true;
        if (code == ATL_OK)
            code = move_block_name(work, moving->name, &name, err);
        if (code == ATL_OK)
            code = move_command(
                work, "block-export-add",
                atl_arena_format(&work->arena,
                                 "{\"type\":\"nbd\",\"id\":\"move-%s\",\"node-name\":\"%s\",\"name\":\"%s\","
                                 "\"writable\":true}",
                                 moving->name, name, moving->name),
                err);
    }
    return code;
}

static enum atl_code prepare_running(struct target *target, struct atl_error *err)
{
    struct work *work = &target->work;
    struct cmp_machine machine;
    enum atl_code code = work_machine(work, work->file.main->config, &machine, err);
    if (code == ATL_OK)
        code = work_cloudinit(work, &machine, err);
    if (code == ATL_OK)
        code = start_waiting(target, &machine, err);
    if (code == ATL_OK)
        code = take_disks(target, err);
    if (code == ATL_OK)
        code = move_command(work, "migrate-incoming",
                            atl_arena_format(&work->arena, "{\"uri\":\"unix:%s/ram.sock\"}", target->run_dir),
                            err);
    return code;
}

static enum atl_code get_ready(struct target *target, const Atoll__Qemu__V1__Prepare *prepare,
                               struct atl_error *err)
{
    struct work *work = &target->work;
    Atoll__Qemu__V1__Word word = ATOLL__QEMU__V1__WORD__INIT;
    target->prepare = prepare;
    target->moved = atl_arena_array(&work->arena, Atoll__Qemu__V1__Moved *, prepare->n_moving + 1);
    enum atl_code code = cmp_handover_read(&target->handover, &target->found, &target->text, err);
    if (code == ATL_OK && (!target->found || !move_locked(&target->text, &work->arena)))
        code = atl_fail(err, ATL_E_CONFLICT, NULL, "the guest is not locked for a migration");
    if (code == ATL_OK)
        code = cmp_file_read(target->text.bytes, target->text.size, &work->arena, &work->file, err);
    for (size_t i = 0; code == ATL_OK && i < prepare->n_moving; i++)
        code = make_volume(target, prepare->moving[i], err);
    if (code == ATL_OK)
        cmp_crash_at(work->task, CMP_CRASH_VM_MADE);
    if (code == ATL_OK && prepare->xml != NULL)
        code = prepare_running(target, err);
    if (code != ATL_OK)
        return code;
    cmp_crash_at(work->task, CMP_CRASH_VM_WAITING);
    word.moved = target->moved;
    word.n_moved = target->moved_count;
    return move_say(&target->link, "ready", &word, err);
}

/* --- the hand-over ----------------------------------------------------------------------------------------
 */

/* All of the guest's state has come, and no disk is written from the other side any more. */
static enum atl_code wait_state(struct target *target, struct atl_error *err)
{
    atl_ns end = atl_clock_monotonic() + state_within;
    char status[24] = "inmigrate";
    enum atl_code code = ATL_OK;
    while (code == ATL_OK && strcmp(status, "inmigrate") == 0) {
        code = move_status(&target->work, status, err);
        if (code == ATL_OK && atl_clock_monotonic() > end)
            return atl_fail(err, ATL_E_DEADLINE, NULL, "the guest's state did not arrive");
        const struct timespec step = {.tv_nsec = 2 * ATL_MS};
        if (code == ATL_OK && strcmp(status, "inmigrate") == 0)
            (void)nanosleep(&step, NULL); /* cut short by a signal: it looks a little sooner */
    }
    if (code == ATL_OK && strcmp(status, "paused") != 0)
        return atl_fail(err, ATL_E_STATE, NULL, "the guest's state did not arrive whole: QEMU is '%s'",
                        status);
    for (size_t i = 0; code == ATL_OK && i < target->prepare->n_moving; i++)
        if (moves(target->prepare->moving[i], CMP_MOVE_MIRROR))
            return move_command(&target->work, "nbd-server-stop", NULL, err);
    return code;
}

/* The file as it will be here: with the volumes of this node, and without the lock. */
static enum atl_code new_text(struct target *target, struct atl_buf *out, struct atl_error *err)
{
    struct cmp_file file;
    enum atl_code code =
        cmp_file_read(target->text.bytes, target->text.size, &target->work.arena, &file, err);
    if (code != ATL_OK)
        return code;
    for (size_t i = 0; i < target->moved_count; i++)
        cmp_move_rename(&file, target->prepare->moving[i]->volid, target->moved[i]->volid);
    file.main->state->lock = NULL;
    cmp_file_write(&file, out);
    return ATL_OK;
}

/* The one transaction. What was not answered may have been done: then the tree is asked, which may take long.
 * A copy of the tree that is a little behind refuses what it has not seen yet. */
static enum atl_code hand_over(struct target *target, const Atoll__Qemu__V1__Word *word,
                               struct atl_error *err)
{
    enum { TRIES = 5 };
    const struct atl_revision locked = {.epoch = word->epoch, .number = word->number};
    const struct timespec step = {.tv_nsec = 100 * ATL_MS};
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    struct atl_error error = {0};
    if (target->text.revision.epoch != locked.epoch || target->text.revision.number != locked.number)
        return atl_fail(err, ATL_E_CONFLICT, NULL, "the guest's configuration was changed meanwhile");
    enum atl_code code = new_text(target, &text, err);
    if (code != ATL_OK)
        return code;
    code = cmp_handover_commit(&target->handover, locked, &text, &error);
    for (int i = 1; i < TRIES && code == ATL_E_CONFLICT; i++) {
        (void)nanosleep(&step, NULL); /* cut short by a signal: it tries a little sooner */
        code = cmp_handover_commit(&target->handover, locked, &text, &error);
    }
    if (code == ATL_OK || cmp_handover_settle(&target->handover) == CMP_SIDE_TARGET)
        return ATL_OK;
    return atl_fail(err, code, NULL, "%s", error.text);
}

static void tell(struct target *target, const char *kind, const char *error)
{
    Atoll__Qemu__V1__Word word = ATOLL__QEMU__V1__WORD__INIT;
    struct atl_error failure = {0};
    word.error = error != NULL ? atl_arena_strdup(&target->work.arena, error) : NULL;
    if (move_say(&target->link, kind, &word, &failure) != ATL_OK)
        atl_task_log(target->work.task, "the source did not hear of it: %s", failure.text);
}

static enum atl_code commit(struct target *target, const Atoll__Qemu__V1__Word *word, struct atl_error *err)
{
    struct work *work = &target->work;
    bool running = target->prepare != NULL && target->prepare->xml != NULL;
    enum atl_code code = running ? wait_state(target, err) : ATL_OK;
    if (code == ATL_OK)
        code = move_jobs_done(work, &target->jobs, err);
    if (code == ATL_OK) {
        cmp_crash_at(work->task, CMP_CRASH_VM_WHOLE);
        atl_task_log(work->task, "taking the guest over");
        code = hand_over(target, word, err);
    }
    if (code != ATL_OK)
        return code;
    target->committed = true;
    cmp_crash_at(work->task, CMP_CRASH_VM_OWNED);
    atl_task_log(work->task, "the guest is this node's");
    if (running && !(word->has_stay_paused && word->stay_paused))
        code = move_persist(work, move_wake, MOVE_PATIENCE, err);
    cmp_crash_at(work->task, CMP_CRASH_VM_RUNNING);
    tell(target, "committed", code != ATL_OK && err != NULL ? err->text : NULL);
    return code;
}

/* --- the task ---------------------------------------------------------------------------------------------
 */

static enum atl_code follow(struct target *target, struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    while (code == ATL_OK && !target->committed) {
        const Atoll__Qemu__V1__Word *word = NULL;
        if (atl_task_stopped(target->work.task))
            return atl_fail(err, ATL_E_CANCELLED, NULL, "the task was stopped");
        code = move_hear(&target->link, atl_clock_monotonic() + look_period, &target->work.arena, &word, err);
        if (code == ATL_E_DEADLINE) {
            code = ATL_OK;
            continue;
        }
        if (code != ATL_OK)
            return code;
        if (strcmp(word->kind, "ask") == 0 && word->ask != NULL)
            code = answer_ask(target, word->ask, err);
        else if (strcmp(word->kind, "prepare") == 0 && word->prepare != NULL)
            code = get_ready(target, word->prepare, err);
        else if (strcmp(word->kind, "commit") == 0 && target->prepare != NULL)
            code = commit(target, word, err);
        else
            code = atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the source said what it may not say now");
    }
    return code;
}

/* Nothing was handed over and nothing will be: no transaction is under way. */
static void undo(struct target *target)
{
    struct work *work = &target->work;
    struct atl_error error = {0};
    const char **volumes = atl_arena_array(&work->arena, const char *, target->moved_count + 1);
    for (size_t i = 0; i < target->moved_count; i++)
        volumes[i] = target->moved[i]->volid;
    if (target->started && move_persist(work, move_end_copy, MOVE_PATIENCE, &error) != ATL_OK)
        atl_task_warn(work->task, "the copy of the guest could not be ended: %s", error.text);
    move_jobs_cancel(work, &target->jobs);
    work_free_volumes(work, volumes, target->moved_count);
    if (target->prepare != NULL)
        work_remove_run_dir(work);
}

enum atl_code work_receive(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    TARGET_AT_EXIT struct target target = {0};
    struct work *work = &target.work;
    enum atl_code code = work_init(work, task, spec, size, err);
    atl_assert(code != ATL_OK || work->spec != NULL);
    if (work->spec != NULL && work->spec->upid != NULL)
        return move_persist(work, move_recover_target, MOVE_FOREVER, err);
    if (code != ATL_OK)
        return code;
    (void)snprintf(target.run_dir, sizeof target.run_dir, "%.80s/qemu/%" PRIu32, atl_task_run_dir(task),
                   work->spec->vmid);
    move_handover_init(work, work->spec->move->peer, work->spec->node, &target.handover);
    code = be_reached(&target, err);
    if (code == ATL_OK) {
        cmp_crash_at(work->task, CMP_CRASH_VM_LISTENING);
        code = follow(&target, err);
    }
    if (code == ATL_OK || target.committed)
        return code;
    undo(&target);
    tell(&target, "refused", err != NULL ? err->text : NULL);
    return code;
}
