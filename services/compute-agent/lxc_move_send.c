/* Moving a container: its volumes, there and, when it fails, away again. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "atoll/storage/v1/volume.atl.h"
#include "atoll/storage/v1/volume.pb-c.h"
#include "crash.h"
#include "lxc_move.h"

enum { WAIT_MS = 500, TAKE_BACK_TRIES = 60 };

enum atl_code lxc_move_ask(struct lxc_moving *moving, const struct atl_rpc *rpc,
                           const ProtobufCMessage *input, bool to_the_end,
                           const ProtobufCMessage **ret_output, struct atl_error *err)
{
    const struct atl_task_call call = {
        .rpc = rpc, .input = input, .node = moving->target, .to_the_end = to_the_end};
    return atl_task_call_at(moving->work->task, &call, &moving->work->arena, ret_output, err);
}

/* --- notes: a line each ----------------------------------------------------------------------------------
 */

enum atl_code lxc_move_note(struct lxc_moving *moving, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    atl_buf_printf(&text, "target %s\n", moving->target);
    if (moving->was_running)
        atl_buf_text(&text, "running 1\n");
    if (moving->job != NULL)
        atl_buf_printf(&text, "job %s\n", moving->job);
    for (size_t i = 0; moving->keep[i] != NULL; i++)
        atl_buf_printf(&text, "keep %s\n", moving->keep[i]);
    for (size_t i = 0; i < moving->count; i++)
        if (moving->moves[i].copy)
            atl_buf_printf(&text, "copy %s\n", moving->moves[i].volid);
    return atl_task_note(moving->work->task, "move", text.data, err);
}

bool lxc_move_noted(struct lxc_moving *moving, const char *upid)
{
    struct atl_arena *arena = &moving->work->arena;
    const char *text = atl_task_noted(moving->work->task, upid, "move", arena);
    size_t lines = 0;
    size_t kept = 0;
    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    moving->keep = atl_arena_array(arena, const char *, lines + 1);
    moving->moves = atl_arena_array(arena, struct cmp_lxc_move, lines + 1);
    for (const char *at = text; *at != '\0';) {
        size_t length = strcspn(at, "\n");
        size_t word = strcspn(at, " \n");
        const char *value = word < length ? atl_arena_strndup(arena, at + word + 1, length - word - 1) : "";
        if (strncmp(at, "target ", 7) == 0)
            moving->target = value;
        else if (strncmp(at, "running ", 8) == 0)
            moving->was_running = true;
        else if (strncmp(at, "job ", 4) == 0)
            moving->job = value;
        else if (strncmp(at, "keep ", 5) == 0)
            moving->keep[kept++] = value;
        else if (strncmp(at, "copy ", 5) == 0)
            moving->moves[moving->count++] = (struct cmp_lxc_move){.volid = value, .copy = true};
        at += length;
        at += *at == '\n';
    }
    return lines > 0;
}

/* --- there -----------------------------------------------------------------------------------------------
 */

enum atl_code lxc_move_there(struct lxc_moving *moving, const char ***ret_volumes, struct atl_error *err)
{
    Atoll__Storage__V1__ListOfGuestRequest request = ATOLL__STORAGE__V1__LIST_OF_GUEST_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.vmid = moving->work->vmid;
    enum atl_code code =
        lxc_move_ask(moving, &atl_rpc_storage_v1_Volumes_ListOfGuest, &request.base, true, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__ListOfGuestReply *reply = (const Atoll__Storage__V1__ListOfGuestReply *)output;
    const char **volumes = atl_arena_array(&moving->work->arena, const char *, reply->n_volume + 1);
    size_t count = 0;
    for (size_t i = 0; i < reply->n_volume; i++)
        if (!reply->volume[i]->has_shared || !reply->volume[i]->shared)
            volumes[count++] = reply->volume[i]->volid;
    *ret_volumes = volumes;
    return ATL_OK;
}

static enum atl_code receive(struct lxc_moving *moving, const struct cmp_lxc_move *move,
                             const Atoll__Storage__V1__ReceiveReply **ret_reply, struct atl_error *err)
{
    static char purpose[] = "rootdir";
    struct atl_arena *arena = &moving->work->arena;
    const char *slash = strrchr(move->volid, '/');
    const ProtobufCMessage *output = NULL;
    Atoll__Storage__V1__ReceiveRequest request = ATOLL__STORAGE__V1__RECEIVE_REQUEST__INIT;
    request.storage = atl_arena_strdup(arena, move->to_storage);
    request.vmid = moving->work->vmid;
    request.purpose = purpose;
    request.format = atl_arena_strdup(arena, move->format);
    request.name = slash != NULL ? atl_arena_strdup(arena, slash + 1) : NULL;
    request.size_bytes = move->size_bytes;
    request.has_used_bytes = true;
    request.used_bytes = move->used_bytes;
    enum atl_code code =
        lxc_move_ask(moving, &atl_rpc_storage_v1_Volumes_Receive, &request.base, false, &output, err);
    *ret_reply = (const Atoll__Storage__V1__ReceiveReply *)output;
    return code;
}

static void show(struct lxc_moving *moving, const struct cmp_lxc_move *move, double percent)
{
    double done = (double)moving->done_bytes + (double)move->used_bytes * percent / 100;
    double total = (double)moving->total_bytes;
    atl_task_progress(moving->work->task, total > 0 ? 0.1 + 0.8 * done / total : 0.9, "%s: %.0f %%",
                      move->name, percent);
}

/* Until the job of this node's storage-agent has ended. */
static enum atl_code wait_sent(struct lxc_moving *moving, const struct cmp_lxc_move *move, char *job,
                               struct atl_error *err)
{
    struct lxc_work *work = moving->work;
    Atoll__Storage__V1__ImportWaitRequest request = ATOLL__STORAGE__V1__IMPORT_WAIT_REQUEST__INIT;
    request.job = job;
    request.has_wait_ms = true;
    request.wait_ms = WAIT_MS;
    for (;;) {
        const ProtobufCMessage *output = NULL;
        enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_ImportWait, &request.base,
                                           0, &work->arena, &output, err);
        if (code != ATL_OK)
            return code;
        const Atoll__Storage__V1__ImportWaitReply *reply =
            (const Atoll__Storage__V1__ImportWaitReply *)output;
        if (strcmp(reply->state, "failed") == 0)
            return atl_fail(err, ATL_E_IO, NULL, "%s: %s", move->name,
                            reply->error != NULL ? reply->error : "the copy failed");
        show(moving, move, reply->done_percent);
        if (strcmp(reply->state, "done") == 0)
            return ATL_OK;
    }
}

static void cancel_here(struct lxc_moving *moving, char *job)
{
    Atoll__Storage__V1__ImportCancelRequest request = ATOLL__STORAGE__V1__IMPORT_CANCEL_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    struct atl_error error = {0};
    request.job = job;
    const struct atl_task_call call = {
        .rpc = &atl_rpc_storage_v1_Volumes_ImportCancel, .input = &request.base, .to_the_end = true};
    if (atl_task_call_at(moving->work->task, &call, &moving->work->arena, &output, &error) != ATL_OK)
        atl_task_log(moving->work->task, "a copy could not be stopped: %s", error.text);
}

static enum atl_code send_one(struct lxc_moving *moving, struct cmp_lxc_move *move, struct atl_error *err)
{
    struct lxc_work *work = moving->work;
    const Atoll__Storage__V1__ReceiveReply *receiving = NULL;
    const ProtobufCMessage *output = NULL;
    atl_ns began = atl_clock_monotonic();
    enum atl_code code = receive(moving, move, &receiving, err);
    if (code != ATL_OK)
        return code;
    moving->job = receiving->job;
    cmp_crash_at(work->task, CMP_CRASH_CT_OFFERED);
    code = lxc_move_note(moving, err);
    if (code != ATL_OK)
        return code;
    Atoll__Storage__V1__SendRequest request = ATOLL__STORAGE__V1__SEND_REQUEST__INIT;
    request.volid = atl_arena_strdup(&work->arena, move->volid);
    request.offer = receiving->offer;
    request.has_bwlimit_kib_s = moving->spec->has_limit_kib_s;
    request.bwlimit_kib_s = moving->spec->limit_kib_s;
    code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Send, &request.base, 0, &work->arena,
                         &output, err);
    if (code != ATL_OK)
        return code;
    char *job = ((const Atoll__Storage__V1__SendReply *)output)->job;
    cmp_crash_at(work->task, CMP_CRASH_CT_SENDING);
    code = wait_sent(moving, move, job, err);
    if (code != ATL_OK) {
        cancel_here(moving, job);
        return code;
    }
    move->to_volid = receiving->volid;
    moving->done_bytes += move->used_bytes;
    atl_task_log(work->task, "%s: '%s' is '%s' there (%" PRIu64 " bytes, %.1f s)", move->name, move->volid,
                 move->to_volid, move->size_bytes,
                 (double)(atl_clock_monotonic() - began) / (double)ATL_SECOND);
    return ATL_OK;
}

enum atl_code lxc_move_send(struct lxc_moving *moving, struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < moving->count; i++)
        moving->total_bytes += moving->moves[i].copy ? moving->moves[i].used_bytes : 0;
    for (size_t i = 0; i < moving->count && code == ATL_OK; i++)
        if (moving->moves[i].copy)
            code = send_one(moving, &moving->moves[i], err);
    return code;
}

/* --- and away --------------------------------------------------------------------------------------------
 */

/* The target's job is over, whatever came of it. */
static enum atl_code end_job(struct lxc_moving *moving, struct atl_error *err)
{
    Atoll__Storage__V1__ImportCancelRequest cancel = ATOLL__STORAGE__V1__IMPORT_CANCEL_REQUEST__INIT;
    Atoll__Storage__V1__ImportWaitRequest wait = ATOLL__STORAGE__V1__IMPORT_WAIT_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    if (moving->job == NULL)
        return ATL_OK;
    cancel.job = wait.job = atl_arena_strdup(&moving->work->arena, moving->job);
    wait.has_wait_ms = true;
    wait.wait_ms = WAIT_MS;
    enum atl_code code =
        lxc_move_ask(moving, &atl_rpc_storage_v1_Volumes_ImportCancel, &cancel.base, true, &output, err);
    for (int i = 0; i < TAKE_BACK_TRIES && code == ATL_OK; i++) {
        code = lxc_move_ask(moving, &atl_rpc_storage_v1_Volumes_ImportWait, &wait.base, true, &output, err);
        if (code == ATL_OK &&
            strcmp(((const Atoll__Storage__V1__ImportWaitReply *)output)->state, "running") != 0)
            break;
    }
    return code == ATL_E_ABSENT ? ATL_OK : code; /* its agent was started anew: nothing of it is left */
}

static bool is_kept(const struct lxc_moving *moving, const char *volid)
{
    for (size_t i = 0; moving->keep[i] != NULL; i++)
        if (strcmp(moving->keep[i], volid) == 0)
            return true;
    return false;
}

void lxc_move_take_back(struct lxc_moving *moving)
{
    const char **volumes = NULL;
    struct atl_error error = {0};
    enum atl_code code = end_job(moving, &error);
    if (code == ATL_OK)
        code = lxc_move_there(moving, &volumes, &error);
    for (size_t i = 0; code == ATL_OK && volumes[i] != NULL; i++) {
        Atoll__Storage__V1__FreeRequest request = ATOLL__STORAGE__V1__FREE_REQUEST__INIT;
        const ProtobufCMessage *output = NULL;
        if (is_kept(moving, volumes[i]))
            continue;
        request.volid = atl_arena_strdup(&moving->work->arena, volumes[i]);
        code = lxc_move_ask(moving, &atl_rpc_storage_v1_Volumes_Free, &request.base, true, &output, &error);
        if (code == ATL_OK)
            atl_task_log(moving->work->task, "'%s' is taken away from '%s' again", volumes[i],
                         moving->target);
    }
    if (code != ATL_OK)
        atl_task_warn(moving->work->task, "volumes of this guest may be left on '%s': %s", moving->target,
                      error.text);
}
