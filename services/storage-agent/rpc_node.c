/* /nodes/{node}/storage: what storages of this node are worth and what is on them. */
#include <stdlib.h>
#include <string.h>

#include "atoll/storage/v1/job.pb-c.h"
#include "atoll/storage/v1/storage.atl.h"
#include "atoll/storage/v1/storage.pb-c.h"
#include "atoll/storage/v1/upload.atl.h"
#include "atoll/task/v1/common.pb-c.h"
#include "sto.h"

static const char *const space_any[] = {"Datastore.Audit", "Datastore.AllocateSpace", NULL};

static enum atl_code need(struct sto_job *job, const char *path, const char *const *any,
                          struct atl_error *err)
{
    return atl_keeper_need(job->sto->keeper, atl_request_principal(job->request), path, any, err);
}

static const char *storage_path(struct sto_job *job, const char *id)
{
    return atl_arena_format(&job->arena, "/storage/%s", id);
}

/* --- list and status --- */

static bool matches(const struct sto_job *job, const struct sto_storage *storage,
                    const Atoll__Storage__V1__ListOnNodeRequest *list)
{
    if (list->storage != NULL && strcmp(list->storage, storage->id) != 0)
        return false;
    if (!sto_storage_on_node(storage, job->sto->node))
        return false;
    if (list->has_enabled && list->enabled && storage->disabled)
        return false;
    if (list->target != NULL && !sto_storage_on_node(storage, list->target))
        return false;
    if (list->content == NULL)
        return true;
    for (const char *at = list->content; *at != '\0';) {
        enum sto_content content;
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        if (length > 0 && sto_content_from_text(at, length, &content) && sto_storage_takes(storage, content))
            return true;
        at += length;
    }
    return false;
}

/* True: it is active, and *fill tells how full it is. */
static bool ask(const struct sto_storage *storage, const char *node, struct sto_fill *fill)
{
    const struct sto_driver *driver = NULL;
    *fill = (struct sto_fill){0};
    return sto_storage_usable(storage, node, STO_CONTENTS, NULL, NULL) == ATL_OK &&
           sto_driver_need(storage, &driver, NULL) == ATL_OK && driver->activate(storage, NULL) == ATL_OK &&
           driver->fill(storage, fill, NULL) == ATL_OK;
}

static Atoll__Storage__V1__OnNodeRowFormats *formats_of(const struct sto_storage *storage,
                                                        struct atl_arena *arena)
{
    Atoll__Storage__V1__OnNodeRowFormats *formats =
        atl_arena_new(arena, Atoll__Storage__V1__OnNodeRowFormats);
    atoll__storage__v1__on_node_row_formats__init(formats);
    formats->default_ = atl_arena_strdup(arena, sto_format_to_text(storage->default_format));
    formats->supported = atl_arena_array(arena, char *, STO_FORMATS);
    for (uint32_t i = 0; storage->type != NULL && i < STO_FORMATS; i++) {
        if ((storage->type->formats & 1U << i) != 0)
            formats->supported[formats->n_supported++] = atl_arena_strdup(arena, sto_format_to_text(i));
    }
    return formats;
}

static Atoll__Storage__V1__OnNodeRow *row_of(struct sto_job *job, const struct sto_storage *storage,
                                             bool formats)
{
    Atoll__Storage__V1__OnNodeRow *row = atl_arena_new(&job->arena, Atoll__Storage__V1__OnNodeRow);
    struct sto_fill fill;
    atoll__storage__v1__on_node_row__init(row);
    row->storage = atl_arena_strdup(&job->arena, storage->id);
    row->type = atl_arena_strdup(&job->arena, storage->type_name);
    row->content = atl_arena_strdup(&job->arena, storage->content_text);
    row->has_enabled = row->has_active = row->has_shared = true;
    row->enabled = !storage->disabled;
    row->shared = storage->shared;
    row->active = ask(storage, job->sto->node, &fill);
    row->has_total = row->has_used = row->has_avail = true;
    row->total = (int64_t)fill.total_bytes;
    row->used = (int64_t)fill.used_bytes;
    row->avail = (int64_t)fill.avail_bytes;
    row->has_used_fraction = fill.total_bytes > 0;
    if (fill.total_bytes > 0)
        row->used_fraction = (double)fill.used_bytes / (double)fill.total_bytes;
    if (formats)
        row->formats = formats_of(storage, &job->arena);
    return row;
}

static void list_on_node(struct sto_job *job)
{
    const Atoll__Storage__V1__ListOnNodeRequest *list = (const void *)job->input;
    const bool *visible = job->extra;
    Atoll__Storage__V1__ListOnNodeReply *reply =
        atl_arena_new(&job->arena, Atoll__Storage__V1__ListOnNodeReply);
    atoll__storage__v1__list_on_node_reply__init(reply);
    reply->entry = atl_arena_array(&job->arena, Atoll__Storage__V1__OnNodeRow *, job->config.count + 1);
    for (size_t i = 0; i < job->config.count; i++) {
        if (visible[i] && matches(job, &job->config.storages[i], list))
            reply->entry[reply->n_entry++] =
                row_of(job, &job->config.storages[i], list->has_format && list->format);
    }
    job->output = &reply->base;
}

static void rpc_list_on_node(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__ListOnNodeRequest *list = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, list->node);
    if (job == NULL)
        return;
    bool *visible = atl_arena_array(&job->arena, bool, job->config.count + 1);
    for (size_t i = 0; i < job->config.count; i++)
        visible[i] = need(job, storage_path(job, job->config.storages[i].id), space_any, NULL) == ATL_OK;
    job->extra = visible;
    sto_job_go(job, list_on_node);
}

static void get_status(struct sto_job *job)
{
    const struct sto_storage *storage = job->storage;
    Atoll__Storage__V1__GetStatusReply *reply =
        atl_arena_new(&job->arena, Atoll__Storage__V1__GetStatusReply);
    struct sto_fill fill;
    atoll__storage__v1__get_status_reply__init(reply);
    reply->type = atl_arena_strdup(&job->arena, storage->type_name);
    reply->content = atl_arena_strdup(&job->arena, storage->content_text);
    reply->has_enabled = reply->has_active = reply->has_shared = true;
    reply->enabled = !storage->disabled;
    reply->shared = storage->shared;
    reply->active = ask(storage, job->sto->node, &fill);
    reply->has_total = reply->has_used = reply->has_avail = true;
    reply->total = (int64_t)fill.total_bytes;
    reply->used = (int64_t)fill.used_bytes;
    reply->avail = (int64_t)fill.avail_bytes;
    job->output = &reply->base;
}

static void rpc_get_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__GetStatusRequest *get = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, get->node);
    if (job == NULL)
        return;
    job->code = sto_config_need(&job->config, get->storage, &job->storage, &job->err);
    if (job->code == ATL_OK && !sto_storage_on_node(job->storage, job->sto->node))
        job->code = atl_fail(&job->err, ATL_E_STATE, NULL, "storage '%s' is not available on node '%s'",
                             get->storage, job->sto->node);
    if (job->code != ATL_OK)
        sto_job_fail(job);
    else
        sto_job_go(job, get_status);
}

/* --- content --- */

/* Beyond the right to look into the storage: a guest's disk or backup is for those who may deal with the
 * guest. */
static enum atl_code may_see(struct sto_job *job, const struct sto_volume *volume, struct atl_error *err)
{
    static const char *const disk[] = {"VM.Config.Disk", NULL};
    static const char *const backup[] = {"VM.Backup", NULL};
    static const char *const allocate[] = {"Datastore.Allocate", NULL};
    if (volume->vmid == 0 && volume->content != STO_BACKUP)
        return ATL_OK;
    if (need(job, storage_path(job, volume->storage), allocate, NULL) == ATL_OK)
        return ATL_OK;
    const char *path = atl_arena_format(&job->arena, "/vms/%u", volume->vmid);
    return need(job, path, volume->content == STO_BACKUP ? backup : disk, err);
}

struct content {
    enum sto_content wanted; /* STO_CONTENTS: any */
    uint32_t vmid;
    const uint32_t *containers;
    size_t container_count;
    struct sto_volume *volumes; /* one for each row, for the check of permissions */
    Atoll__Storage__V1__ContentRow **rows;
    size_t count;
    size_t volume_capacity;
    size_t row_capacity;
    struct atl_arena *arena;
};

static bool add_row(const struct sto_volume *volume, const struct sto_info *info, void *user)
{
    struct content *content = user;
    struct atl_arena *arena = content->arena;
    bool container = sto_id_in(content->containers, content->container_count, volume->vmid);
    enum sto_content shown = sto_volume_shown_as(volume, container);
    if (content->wanted != STO_CONTENTS && content->wanted != shown)
        return true;
    if (content->vmid != 0 && content->vmid != volume->vmid)
        return true;
    Atoll__Storage__V1__ContentRow *row = atl_arena_new(arena, Atoll__Storage__V1__ContentRow);
    atoll__storage__v1__content_row__init(row);
    row->volid = atl_arena_strdup(arena, sto_volume_to_text(volume, arena));
    row->content = atl_arena_strdup(arena, sto_content_to_text(shown));
    row->format = atl_arena_strdup(arena, sto_format_to_text(volume->format));
    row->has_size = row->has_ctime = true;
    row->size = (int64_t)info->size_bytes;
    row->ctime = info->ctime;
    row->has_used = volume->vmid != 0 && shown != STO_BACKUP;
    row->used = (int64_t)info->used_bytes;
    row->has_vmid = volume->vmid != 0;
    row->vmid = volume->vmid;
    row->has_protected_ = info->protected;
    row->protected_ = info->protected;
    if (info->notes[0] != '\0')
        row->notes = atl_arena_strdup(arena, info->notes);
    content->volumes =
        atl_arena_grow(arena, content->volumes, content->count, &content->volume_capacity, sizeof *volume);
    content->rows =
        atl_arena_grow(arena, content->rows, content->count, &content->row_capacity, sizeof(void *));
    content->volumes[content->count] = *volume;
    content->rows[content->count++] = row;
    return true;
}

static void list_content(struct sto_job *job)
{
    struct content *content = job->extra;
    job->code = job->driver->activate(job->storage, &job->err);
    if (job->code == ATL_OK)
        job->code =
            job->driver->list(job->storage, content->wanted, content->vmid, add_row, content, &job->err);
}

static int by_volid(const void *a, const void *b)
{
    const Atoll__Storage__V1__ContentRow *const *left = a;
    const Atoll__Storage__V1__ContentRow *const *right = b;
    return strcmp((*left)->volid, (*right)->volid);
}

static void content_listed(struct sto_job *job)
{
    const struct content *content = job->extra;
    if (job->code != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    Atoll__Storage__V1__ListContentReply *reply =
        atl_arena_new(&job->arena, Atoll__Storage__V1__ListContentReply);
    atoll__storage__v1__list_content_reply__init(reply);
    reply->entry = atl_arena_array(&job->arena, Atoll__Storage__V1__ContentRow *, content->count + 1);
    for (size_t i = 0; i < content->count; i++) {
        if (may_see(job, &content->volumes[i], NULL) == ATL_OK)
            reply->entry[reply->n_entry++] = content->rows[i];
    }
    qsort(reply->entry, reply->n_entry, sizeof(void *), by_volid);
    job->output = &reply->base;
    sto_job_end(job);
}

static void rpc_list_content(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__ListContentRequest *list = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, list->node);
    if (job == NULL)
        return;
    struct content *content = atl_arena_new(&job->arena, struct content);
    content->arena = &job->arena;
    content->wanted = STO_CONTENTS;
    content->vmid = list->has_vmid ? list->vmid : 0;
    if (list->content != NULL &&
        !sto_content_from_text(list->content, strlen(list->content), &content->wanted))
        job->code = atl_fail(&job->err, ATL_E_INVALID, "content", "'%s' is no content type", list->content);
    if (job->code != ATL_OK || sto_job_storage(job, list->storage, STO_CONTENTS) != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    content->containers = sto_container_ids(job->sto, &job->arena, &content->container_count);
    job->extra = content;
    job->finish = content_listed;
    sto_job_go(job, list_content);
}

/* --- allocate --- */

static void allocate(struct sto_job *job)
{
    const struct sto_plan *plan = job->extra;
    struct sto_volume volume;
    job->code = job->driver->activate(job->storage, &job->err);
    if (job->code == ATL_OK)
        job->code = job->driver->alloc(job->storage, plan, NULL, &volume, &job->err);
    if (job->code != ATL_OK)
        return;
    Atoll__Storage__V1__AllocateReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__AllocateReply);
    atoll__storage__v1__allocate_reply__init(reply);
    reply->value = atl_arena_strdup(&job->arena, sto_volume_to_text(&volume, &job->arena));
    job->output = &reply->base;
}

static void rpc_allocate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__AllocateRequest *allocation = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, allocation->node);
    if (job == NULL)
        return;
    bool subvol = allocation->format != NULL && strcmp(allocation->format, "subvol") == 0;
    struct sto_wish wish = {.vmid = allocation->vmid,
                            .purpose = subvol ? STO_FOR_ROOTDIR : STO_FOR_IMAGES,
                            .format = allocation->format,
                            .name = allocation->filename};
    /* "100/vm-100-disk-0.raw" is taken too: it is what lists show. */
    const char *slash = strrchr(allocation->filename, '/');
    const char *owner = atl_arena_format(&job->arena, "%u/", allocation->vmid);
    if (slash != NULL && strncmp(allocation->filename, owner, strlen(owner)) == 0)
        wish.name = allocation->filename + strlen(owner);
    struct sto_plan *plan = atl_arena_new(&job->arena, struct sto_plan);
    job->extra = plan;
    job->code = sto_size_parse(allocation->size, &wish.size_bytes, &job->err);
    if (job->code == ATL_OK)
        job->code = sto_job_storage(job, allocation->storage, subvol ? STO_ROOTDIR : STO_IMAGES);
    if (job->code == ATL_OK)
        job->code = sto_plan_alloc(job->storage, &wish, plan, &job->err);
    if (job->code != ATL_OK)
        sto_job_fail(job);
    else
        sto_job_go(job, allocate);
}

/* --- one volume --- */

static void get_volume(struct sto_job *job)
{
    struct sto_info info;
    job->code = job->driver->look(job->storage, &job->volume, &info, &job->err);
    if (job->code != ATL_OK)
        return;
    Atoll__Storage__V1__GetVolumeReply *reply =
        atl_arena_new(&job->arena, Atoll__Storage__V1__GetVolumeReply);
    atoll__storage__v1__get_volume_reply__init(reply);
    const char *path = sto_volume_path(job->storage, &job->volume, &job->arena);
    reply->path = path != NULL ? atl_arena_strdup(&job->arena, path) : NULL;
    reply->format = atl_arena_strdup(&job->arena, sto_format_to_text(job->volume.format));
    reply->has_size = reply->has_used = true;
    reply->size = (int64_t)info.size_bytes;
    reply->used = (int64_t)info.used_bytes;
    reply->has_protected_ = info.protected;
    reply->protected_ = info.protected;
    if (info.notes[0] != '\0')
        reply->notes = atl_arena_strdup(&job->arena, info.notes);
    job->output = &reply->base;
}

static void rpc_get_volume(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__GetVolumeRequest *get = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, get->node);
    if (job == NULL)
        return;
    if (sto_job_volume(job, get->storage, get->volume, "volume") == ATL_OK)
        job->code = may_see(job, &job->volume, &job->err);
    if (job->code != ATL_OK)
        sto_job_fail(job);
    else
        sto_job_go(job, get_volume);
}

static void update_volume(struct sto_job *job)
{
    const Atoll__Storage__V1__UpdateVolumeRequest *update = (const void *)job->input;
    bool protected = update->protected_;
    job->code = job->driver->mark(job->storage, &job->volume, update->notes,
                                  update->has_protected_ ? &protected : NULL, &job->err);
    Atoll__Task__V1__Nothing *nothing = atl_arena_new(&job->arena, Atoll__Task__V1__Nothing);
    atoll__task__v1__nothing__init(nothing);
    job->output = &nothing->base;
}

static void rpc_update_volume(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__UpdateVolumeRequest *update = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, update->node);
    if (job == NULL)
        return;
    if (sto_job_volume(job, update->storage, update->volume, "volume") == ATL_OK)
        job->code = may_see(job, &job->volume, &job->err);
    if (job->code != ATL_OK)
        sto_job_fail(job);
    else
        sto_job_go(job, update_volume);
}

/* Backups go with the right on the guest's backups; everything else needs the storage's. */
static enum atl_code may_remove(struct sto_job *job)
{
    static const char *const allocate[] = {"Datastore.Allocate", NULL};
    if (job->volume.content == STO_BACKUP && job->volume.vmid != 0)
        return may_see(job, &job->volume, &job->err);
    return need(job, storage_path(job, job->volume.storage), allocate, &job->err);
}

/* `delay`: answers nothing when the task ends within so many seconds, else its id. Lives with the request. */
struct delayed {
    struct sto *sto;
    struct atl_request *request;
    struct atl_timer *timer;
    atl_ns until;
    char upid[ATL_UPID_MAX];
};

static void delay_end(struct delayed *delayed, bool ended)
{
    Atoll__Task__V1__TaskRef reply = ATOLL__TASK__V1__TASK_REF__INIT;
    atl_request_on_cancel(delayed->request, NULL, NULL);
    atl_timer_free(delayed->timer);
    reply.upid = ended ? NULL : delayed->upid;
    atl_request_reply(delayed->request, &reply.base);
}

static void delay_look(void *user)
{
    struct delayed *delayed = user;
    bool ended = !atl_task_alive(delayed->sto->tasks, delayed->upid);
    if (ended || atl_loop_now(delayed->sto->loop) >= delayed->until)
        delay_end(delayed, ended);
}

static void delay_cancelled(struct atl_request *request, void *user)
{
    (void)request;
    delay_end(user, false);
}

static void remove_and_wait(struct sto_job *job, const ProtobufCMessage *spec, const char *id,
                            int64_t seconds)
{
    struct atl_request *request = job->request;
    struct delayed *delayed = atl_arena_new(atl_request_arena(request), struct delayed);
    delayed->sto = job->sto;
    delayed->request = request;
    job->code = sto_task_begin(job->sto, request, "imgdel", id, spec, delayed->upid, &job->err);
    if (job->code != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    atl_ns wait = seconds * ATL_SECOND;
    atl_ns most = atl_request_remaining(request) - ATL_SECOND;
    delayed->until = atl_loop_now(job->sto->loop) + (wait < most ? wait : most);
    delayed->timer = atl_loop_timer(job->sto->loop, 0, 50 * ATL_MS, delay_look, delayed);
    atl_request_on_cancel(request, delay_cancelled, delayed);
    sto_job_free(job);
}

static void rpc_delete_volume(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__DeleteVolumeRequest *remove = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, remove->node);
    if (job == NULL)
        return;
    struct sto_user guest;
    if (sto_job_volume(job, remove->storage, remove->volume, "volume") == ATL_OK)
        job->code = may_remove(job);
    const char *volid = sto_volume_to_text(&job->volume, &job->arena);
    if (job->code == ATL_OK && sto_find_user(job->sto, volid, &guest))
        job->code = atl_fail(&job->err, ATL_E_STATE, NULL,
                             "cannot remove '%s': guest %u uses it, take it out of its configuration first",
                             volid, guest.vmid);
    if (job->code != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    const struct atl_file *file = atl_mirror_get(job->sto->mirror, "storage.cfg");
    Atoll__Storage__V1__RemoveJob spec = ATOLL__STORAGE__V1__REMOVE_JOB__INIT;
    spec.storage_cfg =
        atl_arena_strndup(&job->arena, file->bytes, file->size); /* there: it names the storage */
    spec.volid = atl_arena_strdup(&job->arena, volid);
    const char *id =
        atl_arena_format(&job->arena, "%s@%s",
                         job->volume.vmid != 0 ? atl_arena_format(&job->arena, "%u", job->volume.vmid) : "",
                         job->volume.storage);
    if (remove->has_delay) {
        remove_and_wait(job, &spec.base, id, remove->delay);
        return;
    }
    sto_task_reply(job->sto, request, "imgdel", id, &spec.base);
    sto_job_free(job);
}

void sto_serve_storage(struct sto *sto)
{
    static const struct atl_handler handlers[] = {
        {"List", sto_rpc_list},
        {"Create", sto_rpc_create},
        {"Get", sto_rpc_get},
        {"Update", sto_rpc_update},
        {"Delete", sto_rpc_delete},
        {"ListOnNode", rpc_list_on_node},
        {"GetStatus", rpc_get_status},
        {"ListContent", rpc_list_content},
        {"Allocate", rpc_allocate},
        {"GetVolume", rpc_get_volume},
        {"UpdateVolume", rpc_update_volume},
        {"DeleteVolume", rpc_delete_volume},
        {"Upload", sto_rpc_upload},
    };
    static const struct atl_handler streams[] = {{"Open", sto_rpc_upload_open}};
    atl_bus_serve(sto->bus, &atl_svc_storage_v1_Storage, handlers, ATL_COUNT(handlers), sto);
    atl_bus_serve(sto->bus, &atl_svc_storage_v1_UploadStream, streams, ATL_COUNT(streams), sto);
}
