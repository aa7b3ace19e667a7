/* Requests as jobs: the tree is looked at in the loop, what blocks is done by a thread; see sto.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/task/v1/common.pb-c.h"
#include "sto.h"

enum atl_code sto_read_config(const struct sto *sto, struct atl_arena *arena, struct sto_config *ret_config,
                              struct atl_error *err)
{
    if (!atl_mirror_ready(sto->mirror))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the storage-agent waits for config-store, try again");
    const struct atl_file *file = atl_mirror_get(sto->mirror, "storage.cfg");
    if (file == NULL)
        return sto_config_read(NULL, 0, arena, ret_config, err);
    /* Copied: threads read it while the mirror moves on. */
    const char *text = atl_arena_strndup(arena, file->bytes, file->size);
    return sto_config_read(text, file->size, arena, ret_config, err);
}

struct sto_job *sto_job_new(struct sto *sto, struct atl_request *request, const ProtobufCMessage *input,
                            const char *node)
{
    struct sto_job *job = atl_new0(struct sto_job);
    job->sto = sto;
    job->request = request;
    job->input = input;
    if (node != NULL && strcmp(node, sto->node) != 0)
        job->code =
            atl_fail(&job->err, ATL_E_UNAVAILABLE, "node", "this is node '%s', not '%s'", sto->node, node);
    if (job->code == ATL_OK)
        job->code = sto_read_config(sto, &job->arena, &job->config, &job->err);
    if (job->code == ATL_OK)
        return job;
    sto_job_fail(job);
    return NULL;
}

void sto_job_free(struct sto_job *job)
{
    atl_arena_done(&job->arena);
    free(job);
}

void sto_job_fail(struct sto_job *job)
{
    atl_assert(job->err.code != ATL_OK);
    if (job->request != NULL)
        atl_request_fail(job->request, &job->err, job->errors.count > 0 ? &job->errors : NULL);
    sto_job_free(job);
}

void sto_job_end(struct sto_job *job)
{
    if (job->code != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    if (job->request != NULL) {
        atl_assert(job->output != NULL);
        atl_request_reply(job->request, job->output);
    }
    sto_job_free(job);
}

static void run(struct sto_work *work)
{
    struct sto_job *job = (struct sto_job *)work;
    job->act(job);
}

static void done(struct sto_work *work)
{
    struct sto_job *job = (struct sto_job *)work;
    if (work->dropped)
        job->code =
            atl_fail(&job->err, ATL_E_UNAVAILABLE, NULL, "the storage-agent is being stopped, try again");
    if (job->finish != NULL)
        job->finish(job);
    else
        sto_job_end(job);
}

void sto_job_go(struct sto_job *job, void (*act)(struct sto_job *job))
{
    job->act = act;
    job->work.run = run;
    job->work.done = done;
    struct atl_error err = {0};
    if (sto_pool_add(job->sto->pool, &job->work, &err) == ATL_OK)
        return; /* from here on it is the thread's */
    job->code = err.code;
    job->err = err;
    done(&job->work);
}

enum atl_code sto_job_storage(struct sto_job *job, const char *id, enum sto_content content)
{
    job->code = sto_config_need(&job->config, id, &job->storage, &job->err);
    if (job->code == ATL_OK)
        job->code = sto_storage_usable(job->storage, job->sto->node, content, "content", &job->err);
    if (job->code == ATL_OK)
        job->code = sto_driver_need(job->storage, &job->driver, &job->err);
    return job->code;
}

enum atl_code sto_job_volume(struct sto_job *job, const char *storage, const char *volume, const char *field)
{
    if (storage == NULL || strchr(volume, ':') != NULL) {
        job->code = sto_volume_parse(volume, field, &job->volume, &job->err);
        if (job->code == ATL_OK && storage != NULL && strcmp(storage, job->volume.storage) != 0)
            job->code = atl_fail(&job->err, ATL_E_INVALID, field, "volume '%s' is not on storage '%s'",
                                 volume, storage);
    } else {
        job->code = sto_volume_parse_name(volume, field, &job->volume, &job->err);
        (void)atl_copy(job->volume.storage, sizeof job->volume.storage, storage);
    }
    if (job->code != ATL_OK)
        return job->code;
    return sto_job_storage(job, job->volume.storage, STO_CONTENTS);
}

/* --- guests in the tree --- */

struct finding {
    const char *volid;
    uint32_t vmid;
    struct sto_user *ret_user;
    bool found;
};

/* "nodes/NODE/qemu-server/100.conf": the guest's id, 0 if the path is another's. */
static uint32_t guest_of_path(const char *path, bool *ret_container)
{
    const char *slash = strrchr(path, '/');
    unsigned int vmid = 0;
    int used = 0;
    if (slash == NULL || sscanf(slash, "/%9u.conf%n", &vmid, &used) != 1 || used == 0 || slash[used] != '\0')
        return 0;
    *ret_container = slash - path > 4 && strncmp(slash - 4, "/lxc", 4) == 0;
    return vmid;
}

static void look_for_user(const char *path, const struct atl_file *file, void *user)
{
    struct finding *finding = user;
    bool container = false;
    if (finding->found || file == NULL || guest_of_path(path, &container) != finding->vmid ||
        !sto_config_mentions(file->bytes, file->size, finding->volid))
        return;
    finding->found = true;
    finding->ret_user->vmid = finding->vmid;
    (void)atl_copy(finding->ret_user->path, sizeof finding->ret_user->path, path);
}

bool sto_find_user(const struct sto *sto, const char *volid, struct sto_user *ret_user)
{
    struct sto_volume volume;
    if (sto_volume_parse(volid, NULL, &volume, NULL) != ATL_OK || volume.vmid == 0 ||
        volume.content == STO_BACKUP)
        return false;
    struct finding finding = {.volid = volid, .vmid = volume.vmid, .ret_user = ret_user};
    atl_mirror_each(sto->mirror, "nodes/", look_for_user, &finding);
    return finding.found;
}

struct containers {
    struct atl_arena *arena;
    uint32_t *ids;
    size_t count;
    size_t capacity;
};

static void note_container(const char *path, const struct atl_file *file, void *user)
{
    struct containers *containers = user;
    bool container = false;
    uint32_t vmid = guest_of_path(path, &container);
    if (file == NULL || vmid == 0 || !container)
        return;
    containers->ids = atl_arena_grow(containers->arena, containers->ids, containers->count,
                                     &containers->capacity, sizeof *containers->ids);
    containers->ids[containers->count++] = vmid;
}

static int by_id(const void *a, const void *b)
{
    const uint32_t *left = a;
    const uint32_t *right = b;
    return *left < *right ? -1 : *left > *right;
}

const uint32_t *sto_container_ids(const struct sto *sto, struct atl_arena *arena, size_t *ret_count)
{
    struct containers containers = {.arena = arena};
    atl_mirror_each(sto->mirror, "nodes/", note_container, &containers);
    if (containers.count > 1)
        qsort(containers.ids, containers.count, sizeof *containers.ids, by_id);
    *ret_count = containers.count;
    return containers.ids;
}

bool sto_id_in(const uint32_t *ids, size_t count, uint32_t vmid)
{
    return count > 0 && bsearch(&vmid, ids, count, sizeof *ids, by_id) != NULL;
}

/* --- tasks --- */

enum atl_code sto_task_begin(struct sto *sto, struct atl_request *request, const char *type, const char *id,
                             const ProtobufCMessage *spec, char ret_upid[ATL_UPID_MAX], struct atl_error *err)
{
    const struct atl_principal *principal = atl_request_principal(request);
    const char *user = principal->user != NULL ? principal->user : "root@pam";
    if (principal->token != NULL)
        user = strchr(principal->token, '!') != NULL
                   ? principal->token
                   : atl_arena_format(atl_request_arena(request), "%s!%s", user, principal->token);
    struct atl_task_start start = {
        .type = type, .id = id, .user = user, .spec = spec, .request_id = atl_request_id(request)};
    return atl_task_start(sto->tasks, &start, ret_upid, err);
}

void sto_task_answer(struct atl_request *request, char *upid)
{
    Atoll__Task__V1__TaskRef reply = ATOLL__TASK__V1__TASK_REF__INIT;
    reply.upid = upid;
    atl_request_reply(request, &reply.base);
}

void sto_task_reply(struct sto *sto, struct atl_request *request, const char *type, const char *id,
                    const ProtobufCMessage *spec)
{
    char upid[ATL_UPID_MAX];
    struct atl_error err = {0};
    if (sto_task_begin(sto, request, type, id, spec, upid, &err) == ATL_OK)
        sto_task_answer(request, upid);
    else
        atl_request_fail(request, &err, NULL);
}
