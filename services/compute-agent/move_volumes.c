/* Moving a virtual machine: volumes that nobody writes go from storage-agent to storage-agent. */
#include <string.h>

#include "atoll/storage/v1/volume.atl.h"
#include "move.h"

enum { WAIT_MS = 300 };

static enum atl_code add_job(struct work *work, struct move_jobs *jobs, const char *name, const char *id,
                             struct atl_error *err)
{
    if (jobs->count == MOVE_JOBS_MAX)
        return atl_fail(err, ATL_E_LIMIT, name, "at most %d volumes go along at a time", MOVE_JOBS_MAX);
    jobs->names[jobs->count] = name;
    jobs->ids[jobs->count++] = atl_arena_strdup(&work->arena, id);
    return ATL_OK;
}

/* --- target -----------------------------------------------------------------------------------------------
 */

enum atl_code move_alloc_volume(struct work *work, const Atoll__Qemu__V1__Moving *moving, bool cloudinit,
                                Atoll__Qemu__V1__Moved *ret_moved, struct atl_error *err)
{
    Atoll__Storage__V1__AllocRequest request = ATOLL__STORAGE__V1__ALLOC_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.storage = moving->storage;
    request.vmid = work->spec->vmid;
    request.purpose = atl_arena_strdup(&work->arena, cloudinit ? "cloudinit" : "images");
    request.format = cloudinit ? NULL : moving->format;
    request.size_bytes = moving->size_bytes;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Alloc, &request.base, 0,
                                       &work->arena, &output, err);
    if (code == ATL_OK)
        ret_moved->volid = ((const Atoll__Storage__V1__AllocatedVolume *)output)->volid;
    return code;
}

/* The name it has, if it is free there. */
static char *file_name(struct work *work, const char *volid)
{
    const char *slash = strrchr(volid, '/');
    const char *colon = strchr(volid, ':');
    const char *name = slash != NULL ? slash + 1 : colon != NULL ? colon + 1 : volid;
    return atl_arena_strdup(&work->arena, name);
}

static enum atl_code note_jobs(struct work *work, const struct move_jobs *jobs, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    for (size_t i = 0; i < jobs->count; i++)
        atl_buf_printf(&text, "%s\n", jobs->ids[i]);
    return atl_task_note(work->task, "jobs", text.data, err);
}

enum atl_code move_receive_volume(struct work *work, const Atoll__Qemu__V1__Moving *moving,
                                  Atoll__Qemu__V1__Moved *ret_moved, struct move_jobs *jobs,
                                  struct atl_error *err)
{
    Atoll__Storage__V1__ReceiveRequest request = ATOLL__STORAGE__V1__RECEIVE_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.storage = moving->storage;
    request.vmid = work->spec->vmid;
    request.purpose = atl_arena_strdup(&work->arena, "images");
    request.format = moving->format;
    request.name = file_name(work, moving->volid);
    request.size_bytes = moving->size_bytes;
    request.has_used_bytes = moving->has_used_bytes;
    request.used_bytes = moving->used_bytes;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Receive, &request.base, 0,
                                       &work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__ReceiveReply *reply = (const Atoll__Storage__V1__ReceiveReply *)output;
    ret_moved->volid = reply->volid;
    ret_moved->offer = reply->offer;
    code = add_job(work, jobs, moving->name, reply->job, err);
    return code == ATL_OK ? note_jobs(work, jobs, err) : code;
}

/* --- source -----------------------------------------------------------------------------------------------
 */

enum atl_code move_send_volume(struct work *work, const struct cmp_move_volume *volume,
                               const Atoll__Bus__V1__StreamOffer *offer, uint64_t limit_kib_s,
                               struct move_jobs *jobs, struct atl_error *err)
{
    Atoll__Storage__V1__SendRequest request = ATOLL__STORAGE__V1__SEND_REQUEST__INIT;
    Atoll__Bus__V1__StreamOffer to = *offer;
    const ProtobufCMessage *output = NULL;
    request.volid = atl_arena_strdup(&work->arena, volume->volid);
    request.offer = &to;
    request.has_bwlimit_kib_s = true;
    request.bwlimit_kib_s = limit_kib_s;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Send, &request.base, 0,
                                       &work->arena, &output, err);
    return code == ATL_OK
               ? add_job(work, jobs, volume->name, ((const Atoll__Storage__V1__SendReply *)output)->job, err)
               : code;
}

/* --- both -------------------------------------------------------------------------------------------------
 */

static enum atl_code ask_job(struct work *work, const struct move_jobs *jobs, size_t at, bool *ret_done,
                             double *ret_percent, struct atl_error *err)
{
    Atoll__Storage__V1__ImportWaitRequest request = ATOLL__STORAGE__V1__IMPORT_WAIT_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.job = jobs->ids[at];
    request.has_wait_ms = true;
    request.wait_ms = WAIT_MS;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_ImportWait, &request.base, 0,
                                       &work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__ImportWaitReply *reply = (const Atoll__Storage__V1__ImportWaitReply *)output;
    if (strcmp(reply->state, "failed") == 0)
        return atl_fail(err, ATL_E_IO, jobs->names[at], "%s: %s", jobs->names[at],
                        reply->error != NULL ? reply->error : "the copy failed");
    *ret_done = strcmp(reply->state, "done") == 0;
    *ret_percent = reply->has_done_percent ? reply->done_percent : 0;
    return ATL_OK;
}

enum atl_code move_jobs_done(struct work *work, const struct move_jobs *jobs, struct atl_error *err)
{
    for (size_t i = 0; i < jobs->count; i++) {
        for (bool done = false; !done;) {
            double percent = 0;
            enum atl_code code = ask_job(work, jobs, i, &done, &percent, err);
            if (code != ATL_OK)
                return code;
            atl_task_progress(work->task, ((double)i + percent / 100.0) / (double)jobs->count,
                              "%s: %.0f%% copied", jobs->names[i], done ? 100.0 : percent);
        }
        atl_task_log(work->task, "%s: copied", jobs->names[i]);
    }
    return ATL_OK;
}

void move_job_cancel(struct work *work, const char *id)
{
    Atoll__Storage__V1__ImportCancelRequest request = ATOLL__STORAGE__V1__IMPORT_CANCEL_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    struct atl_error error = {0};
    request.job = atl_arena_strdup(&work->arena, id);
    const struct atl_task_call call = {
        .rpc = &atl_rpc_storage_v1_Volumes_ImportCancel, .input = &request.base, .to_the_end = true};
    if (atl_task_call_at(work->task, &call, &work->arena, &output, &error) != ATL_OK)
        atl_task_warn(work->task, "a copy could not be called off: %s", error.text);
}

void move_jobs_cancel(struct work *work, const struct move_jobs *jobs)
{
    for (size_t i = 0; i < jobs->count; i++)
        move_job_cancel(work, jobs->ids[i]);
}
