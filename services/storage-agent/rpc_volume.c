/* The service Volumes: what the services that run guests ask for; see volume.proto. */
#include <string.h>

#include "atoll/storage/v1/volume.atl.h"
#include "atoll/storage/v1/volume.pb-c.h"
#include "sto.h"

static enum sto_purpose purpose_of(const char *text)
{
    if (strcmp(text, "rootdir") == 0)
        return STO_FOR_ROOTDIR;
    return strcmp(text, "cloudinit") == 0 ? STO_FOR_CLOUDINIT : STO_FOR_IMAGES;
}

/* --- Alloc --- */

static void answer_alloc(struct sto_job *job, const struct sto_volume *volume)
{
    struct sto_info info;
    job->code = job->driver->look(job->storage, volume, &info, &job->err);
    if (job->code != ATL_OK)
        return;
    Atoll__Storage__V1__AllocatedVolume *reply =
        atl_arena_new(&job->arena, Atoll__Storage__V1__AllocatedVolume);
    atoll__storage__v1__allocated_volume__init(reply);
    reply->volid = atl_arena_strdup(&job->arena, sto_volume_to_text(volume, &job->arena));
    reply->path = atl_arena_strdup(&job->arena, sto_volume_path(job->storage, volume, &job->arena));
    reply->format = atl_arena_strdup(&job->arena, sto_format_to_text(volume->format));
    reply->size_bytes = info.size_bytes;
    job->output = &reply->base;
}

static void alloc(struct sto_job *job)
{
    const Atoll__Storage__V1__AllocRequest *request = (const void *)job->input;
    const struct sto_plan *plan = job->extra;
    struct sto_fs_options fs = {.filesystem = request->filesystem, .root_id = request->root_id};
    struct sto_volume volume;
    job->code = job->driver->activate(job->storage, &job->err);
    if (job->code == ATL_OK)
        job->code = job->driver->alloc(job->storage, plan, &fs, &volume, &job->err);
    if (job->code == ATL_E_EXISTS && request->has_keep && request->keep)
        answer_alloc(job, &plan->volume);
    else if (job->code == ATL_OK)
        answer_alloc(job, &volume);
}

static void rpc_alloc(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__AllocRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    struct sto_wish wish = {.vmid = wanted->vmid,
                            .purpose = purpose_of(wanted->purpose),
                            .format = wanted->format,
                            .name = wanted->name,
                            .size_bytes = wanted->size_bytes};
    struct sto_plan *plan = atl_arena_new(&job->arena, struct sto_plan);
    job->extra = plan;
    if (sto_job_storage(job, wanted->storage, wish.purpose == STO_FOR_ROOTDIR ? STO_ROOTDIR : STO_IMAGES) ==
        ATL_OK)
        job->code = sto_plan_alloc(job->storage, &wish, plan, &job->err);
    if (job->code == ATL_OK && wanted->filesystem != NULL && plan->volume.format != STO_RAW)
        job->code =
            atl_fail(&job->err, ATL_E_INVALID, "filesystem", "a file system is put into raw volumes only");
    if (job->code != ATL_OK)
        sto_job_fail(job);
    else
        sto_job_go(job, alloc);
}

/* --- Path --- */

static Atoll__Storage__V1__VolumeInfo *info_of(struct atl_arena *arena, const struct sto_storage *storage,
                                               const struct sto_volume *volume, const struct sto_info *info,
                                               bool container)
{
    Atoll__Storage__V1__VolumeInfo *out = atl_arena_new(arena, Atoll__Storage__V1__VolumeInfo);
    atoll__storage__v1__volume_info__init(out);
    out->volid = atl_arena_strdup(arena, sto_volume_to_text(volume, arena));
    out->path = atl_arena_strdup(arena, sto_volume_path(storage, volume, arena));
    out->content = atl_arena_strdup(arena, sto_content_to_text(sto_volume_shown_as(volume, container)));
    out->format = atl_arena_strdup(arena, sto_format_to_text(volume->format));
    out->size_bytes = info->size_bytes;
    out->has_used_bytes = true;
    out->used_bytes = info->used_bytes;
    out->has_vmid = volume->vmid != 0;
    out->vmid = volume->vmid;
    if (volume->parent[0] != '\0')
        out->parent = atl_arena_strdup(arena, volume->parent);
    out->storage_type = atl_arena_strdup(arena, storage->type_name);
    out->has_shared = true;
    out->shared = storage->shared;
    out->has_ctime = true;
    out->ctime = info->ctime;
    return out;
}

static void look(struct sto_job *job)
{
    const bool *container = job->extra;
    struct sto_info info;
    job->code = job->driver->activate(job->storage, &job->err);
    if (job->code == ATL_OK)
        job->code = job->driver->look(job->storage, &job->volume, &info, &job->err);
    if (job->code == ATL_OK)
        job->output = &info_of(&job->arena, job->storage, &job->volume, &info, *container)->base;
}

static void rpc_path(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__PathRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    if (sto_job_volume(job, NULL, wanted->volid, "volid") != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    size_t count = 0;
    const uint32_t *containers = sto_container_ids(job->sto, &job->arena, &count);
    bool *container = atl_arena_new(&job->arena, bool);
    *container = sto_id_in(containers, count, job->volume.vmid);
    job->extra = container;
    sto_job_go(job, look);
}

/* --- Free and Resize --- */

static void free_volume(struct sto_job *job)
{
    bool was_there = false;
    job->code = job->driver->remove(job->storage, &job->volume, &was_there, &job->err);
    Atoll__Storage__V1__FreeReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__FreeReply);
    atoll__storage__v1__free_reply__init(reply);
    reply->has_was_there = true;
    reply->was_there = was_there;
    job->output = &reply->base;
}

static void rpc_free(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__FreeRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    if (sto_job_volume(job, NULL, wanted->volid, "volid") != ATL_OK)
        sto_job_fail(job);
    else
        sto_job_go(job, free_volume);
}

static void resize(struct sto_job *job)
{
    const Atoll__Storage__V1__ResizeRequest *wanted = (const void *)job->input;
    uint64_t size = 0;
    job->code = job->driver->grow(job->storage, &job->volume, wanted->size_bytes, &size, &job->err);
    Atoll__Storage__V1__ResizeReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__ResizeReply);
    atoll__storage__v1__resize_reply__init(reply);
    reply->size_bytes = size;
    job->output = &reply->base;
}

static void rpc_resize(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__ResizeRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    if (sto_job_volume(job, NULL, wanted->volid, "volid") != ATL_OK)
        sto_job_fail(job);
    else
        sto_job_go(job, resize);
}

/* --- ListOfGuest --- */

struct guest_list {
    struct atl_arena *arena;
    const struct sto_storage *storage;
    bool container;
    Atoll__Storage__V1__VolumeInfo **volumes;
    size_t count;
    size_t capacity;
};

static bool add_volume(const struct sto_volume *volume, const struct sto_info *info, void *user)
{
    struct guest_list *list = user;
    list->volumes = atl_arena_grow(list->arena, list->volumes, list->count, &list->capacity, sizeof(void *));
    list->volumes[list->count++] = info_of(list->arena, list->storage, volume, info, list->container);
    return true;
}

static bool list_one(struct sto_job *job, struct guest_list *list, uint32_t vmid)
{
    const struct sto_driver *driver = NULL;
    return sto_driver_need(list->storage, &driver, NULL) == ATL_OK &&
           driver->activate(list->storage, NULL) == ATL_OK &&
           driver->list(list->storage, STO_IMAGES, vmid, add_volume, list, &job->err) == ATL_OK;
}

static void list_of_guest(struct sto_job *job)
{
    const Atoll__Storage__V1__ListOfGuestRequest *wanted = (const void *)job->input;
    struct guest_list *list = job->extra;
    Atoll__Storage__V1__ListOfGuestReply *reply =
        atl_arena_new(&job->arena, Atoll__Storage__V1__ListOfGuestReply);
    atoll__storage__v1__list_of_guest_reply__init(reply);
    reply->unread_storage = atl_arena_array(&job->arena, char *, job->config.count + 1);
    for (size_t i = 0; i < job->config.count; i++) {
        const struct sto_storage *storage = &job->config.storages[i];
        bool holds = sto_storage_takes(storage, STO_IMAGES) || sto_storage_takes(storage, STO_ROOTDIR);
        if (!holds || storage->disabled || !sto_storage_on_node(storage, job->sto->node) ||
            (wanted->storage != NULL && strcmp(wanted->storage, storage->id) != 0))
            continue;
        list->storage = storage;
        if (!list_one(job, list, wanted->vmid))
            reply->unread_storage[reply->n_unread_storage++] = atl_arena_strdup(&job->arena, storage->id);
    }
    reply->volume = list->volumes;
    reply->n_volume = list->count;
    job->output = &reply->base;
}

static void rpc_list_of_guest(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__ListOfGuestRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    size_t count = 0;
    const uint32_t *containers = sto_container_ids(job->sto, &job->arena, &count);
    struct guest_list *list = atl_arena_new(&job->arena, struct guest_list);
    list->arena = &job->arena;
    list->container = sto_id_in(containers, count, wanted->vmid);
    job->extra = list;
    sto_job_go(job, list_of_guest);
}

/* --- Check --- */

static void check(struct sto_job *job)
{
    Atoll__Storage__V1__CheckReply *reply = job->extra;
    struct sto_fill fill = {0};
    struct atl_error err = {0};
    if (reply->reason == NULL || !reply->takes_content) {
        enum atl_code code = job->driver->activate(job->storage, &err);
        if (code == ATL_OK)
            code = job->driver->fill(job->storage, &fill, &err);
        reply->active = code == ATL_OK;
        if (code != ATL_OK && reply->reason == NULL)
            reply->reason = atl_arena_strdup(&job->arena, err.text);
        reply->has_avail_bytes = reply->has_total_bytes = code == ATL_OK;
        reply->avail_bytes = fill.avail_bytes;
        reply->total_bytes = fill.total_bytes;
    }
    job->output = &reply->base;
}

static void describe(struct sto_job *job, Atoll__Storage__V1__CheckReply *reply)
{
    const struct sto_storage *storage = job->storage;
    reply->has_enabled = reply->has_on_node = reply->has_active = reply->has_shared = true;
    reply->enabled = !storage->disabled;
    reply->on_node = sto_storage_on_node(storage, job->sto->node);
    reply->shared = storage->shared;
    reply->type = atl_arena_strdup(&job->arena, storage->type_name);
    reply->default_format = atl_arena_strdup(&job->arena, sto_format_to_text(storage->default_format));
    reply->format = atl_arena_array(&job->arena, char *, STO_FORMATS);
    for (uint32_t i = 0; storage->type != NULL && i < STO_FORMATS; i++) {
        if ((storage->type->formats & 1U << i) != 0)
            reply->format[reply->n_format++] = atl_arena_strdup(&job->arena, sto_format_to_text(i));
    }
}

static void rpc_check(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__CheckRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    Atoll__Storage__V1__CheckReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__CheckReply);
    atoll__storage__v1__check_reply__init(reply);
    job->extra = reply;
    job->output = &reply->base;
    enum sto_content content = STO_CONTENTS;
    if (wanted->content != NULL &&
        !sto_content_from_text(wanted->content, strlen(wanted->content), &content)) {
        job->code = atl_fail(&job->err, ATL_E_INVALID, "content", "'%s' is no content type", wanted->content);
        sto_job_fail(job);
        return;
    }
    if (sto_job_storage(job, wanted->storage, content) != ATL_OK)
        reply->reason = atl_arena_strdup(&job->arena, job->err.text);
    reply->exists = job->storage != NULL;
    if (reply->exists)
        describe(job, reply);
    reply->has_takes_content = reply->exists;
    reply->takes_content =
        reply->exists && (content == STO_CONTENTS || sto_storage_takes(job->storage, content));
    bool usable = reply->exists && reply->enabled && reply->on_node &&
                  sto_driver_need(job->storage, &job->driver, NULL) == ATL_OK;
    job->code = ATL_OK;
    if (usable)
        sto_job_go(job, check);
    else
        sto_job_end(job);
}

void sto_serve_volumes(struct sto *sto)
{
    static const struct atl_handler handlers[] = {
        {"Alloc", rpc_alloc},
        {"Import", sto_rpc_import},
        {"ImportWait", sto_rpc_import_wait},
        {"ImportCancel", sto_rpc_import_cancel},
        {"StopImports", sto_rpc_stop_imports},
        {"Receive", sto_rpc_receive},
        {"Send", sto_rpc_send},
        {"Path", rpc_path},
        {"Free", rpc_free},
        {"Resize", rpc_resize},
        {"ListOfGuest", rpc_list_of_guest},
        {"Check", rpc_check},
    };
    atl_bus_serve(sto->bus, &atl_svc_storage_v1_Volumes, handlers, ATL_COUNT(handlers), sto);
}
