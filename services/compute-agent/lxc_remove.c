/* Tasks of containers: remove one with its volumes; grow a volume. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atoll/storage/v1/volume.atl.h"
#include "core/left.h"
#include "core/lxc_volume.h"
#include "ha.h"
#include "lxc_work.h"

static enum atl_code free_one(struct lxc_work *work, const char *volume, struct atl_error *err)
{
    if (cmp_lxc_volume_kind(volume) != CMP_LXC_VOLUME_OLD || !cmp_lxc_volume_owned(volume, work->vmid))
        return ATL_OK; /* a folder of the host, or another guest's */
    Atoll__Storage__V1__FreeRequest request = ATOLL__STORAGE__V1__FREE_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.volid = atl_arena_strdup(&work->arena, volume);
    return atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Free, &request.base, 0, &work->arena,
                         &output, err);
}

/* A volume that cannot be removed is told of and left; the container goes all the same. */
static bool free_or_warn(struct lxc_work *work, const char *volume)
{
    struct atl_error error = {0};
    bool freed = free_one(work, volume, &error) == ATL_OK;
    if (!freed)
        atl_task_warn(work->task, "Could not remove disk '%s': %s", volume, error.text);
    return freed;
}

static void free_config(struct lxc_work *work, const Atoll__Lxc__V1__Config *config)
{
    if (config->rootfs != NULL && config->rootfs->volume != NULL)
        free_or_warn(work, config->rootfs->volume);
    for (size_t i = 0; i < config->n_mp; i++)
        if (config->mp[i]->value != NULL && config->mp[i]->value->volume != NULL)
            free_or_warn(work, config->mp[i]->value->volume);
    for (size_t i = 0; i < config->n_unused; i++)
        if (config->unused[i]->value != NULL && config->unused[i]->value->volume != NULL)
            free_or_warn(work, config->unused[i]->value->volume);
}

/* Whatever carries the container's id on any storage, but for what was there before it was made. */
static bool free_unreferenced(struct lxc_work *work)
{
    Atoll__Storage__V1__ListOfGuestRequest request = ATOLL__STORAGE__V1__LIST_OF_GUEST_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    const Atoll__Lxc__V1__TaskSpec *spec = work->spec;
    struct atl_error error = {0};
    bool all = true;
    request.vmid = work->vmid;
    if (atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_ListOfGuest, &request.base, 0, &work->arena,
                      &output, &error) != ATL_OK) {
        atl_task_warn(work->task, "the storages cannot be searched: %s", error.text);
        return false;
    }
    const Atoll__Storage__V1__ListOfGuestReply *reply = (const Atoll__Storage__V1__ListOfGuestReply *)output;
    for (size_t i = 0; i < reply->n_unread_storage; i++) {
        const char *storage = atl_arena_format(&work->arena, "%s:", reply->unread_storage[i]);
        if (cmp_left_keeps(spec->keep, spec->n_keep, storage))
            continue;
        atl_task_warn(work->task, "storage '%s' cannot be searched", reply->unread_storage[i]);
        all = false;
    }
    for (size_t i = 0; i < reply->n_volume; i++)
        if (!cmp_left_keeps(spec->keep, spec->n_keep, reply->volume[i]->volid) &&
            !free_or_warn(work, reply->volume[i]->volid))
            all = false;
    return all;
}

/* What a creation left whose worker was killed. The file goes last: with it the id would be free for another
 * container, which would find volumes of this one. */
static enum atl_code clean_up(struct lxc_work *work, struct atl_error *err)
{
    enum atl_code code = lxc_work_read(work, err);
    if (code == ATL_E_ABSENT)
        return ATL_OK;
    const char *lock = code == ATL_OK ? cmp_lxc_doc_lock(&work->doc) : NULL;
    if (code != ATL_OK || lock == NULL || strcmp(lock, "create") != 0)
        return code;
    atl_task_log(work->task, "the task that was creating CT %" PRIu32 " was cut off; removing what it made",
                 work->vmid);
    if (!work->spec->unbegun && !free_unreferenced(work))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                        "not all that was made of CT %" PRIu32 " can be removed yet", work->vmid);
    work->driver->clean(&work->host, work->vmid);
    return lxc_work_delete_file(work, err);
}

static enum atl_code may_destroy(struct lxc_work *work, bool force, struct atl_error *err)
{
    struct cmp_ct_run run;
    const Atoll__Lxc__V1__Config *config = work->doc.now->config;
    const char *lock = cmp_lxc_doc_lock(&work->doc);
    if (lock != NULL && strcmp(lock, "destroyed") != 0) /* this one was removed half-way */
        return atl_fail(err, ATL_E_CONFLICT, NULL, "CT is locked (%s)", lock);
    if (config->has_protection && config->protection)
        return atl_fail(err, ATL_E_STATE, NULL, "can't remove CT %" PRIu32 " - protection mode enabled",
                        work->vmid);
    if (!work->driver->running(&work->host, work->vmid, &run))
        return ATL_OK;
    if (!force)
        return atl_fail(err, ATL_E_STATE, NULL, "unable to destroy CT %" PRIu32 " - container is running",
                        work->vmid);
    return work->driver->stop(&work->host, work->vmid, err);
}

enum atl_code lxc_task_destroy(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    LXC_WORK_AT_EXIT struct lxc_work work = {.lock_fd = -1};
    enum atl_code code = lxc_work_init(&work, task, spec, size, err);
    if (code == ATL_OK && work.spec->abandoned)
        return clean_up(&work, err);
    if (code == ATL_OK)
        code = lxc_work_read(&work, err);
    if (code == ATL_OK)
        code = may_destroy(&work, work.spec->has_force && work.spec->force, err);
    if (code == ATL_OK && work.spec->remove != NULL && work.spec->remove->purge)
        code = cmp_ha_forget(task, "lxc", work.vmid, err);
    if (code != ATL_OK)
        return code;
    /* From here on it cannot be started any more, and removing can be repeated. */
    cmp_lxc_doc_set_lock(&work.doc, "destroyed");
    code = lxc_work_write(&work, err);
    if (code != ATL_OK)
        return code;
    atl_task_log(task, "destroying CT %" PRIu32, work.vmid);
    free_config(&work, work.doc.now->config);
    if (work.doc.pending != NULL)
        free_config(&work, work.doc.pending->config);
    const Atoll__Lxc__V1__DeleteRequest *request = work.spec->remove;
    if (request != NULL && request->has_destroy_unreferenced_disks && request->destroy_unreferenced_disks)
        (void)free_unreferenced(&work);
    work.driver->clean(&work.host, work.vmid);
    return lxc_work_delete_file(&work, err);
}

/* --- resize
 * ------------------------------------------------------------------------------------------------------- */

struct disk {
    char **volume;
    char **size;
};

static bool find_disk(Atoll__Lxc__V1__Config *config, const char *name, struct disk *ret_disk)
{
    if (strcmp(name, "rootfs") == 0 && config->rootfs != NULL) {
        *ret_disk = (struct disk){&config->rootfs->volume, &config->rootfs->size};
        return true;
    }
    for (size_t i = 0; i < config->n_mp; i++) {
        if (strncmp(name, "mp", 2) != 0 || strtoul(name + 2, NULL, 10) != config->mp[i]->index)
            continue;
        *ret_disk = (struct disk){&config->mp[i]->value->volume, &config->mp[i]->value->size};
        return true;
    }
    return false;
}

/* The storage-agent grows what nobody has open; the image of a running container is made longer in place. */
static enum atl_code grow(struct lxc_work *work, const char *volume, const char *slot, uint64_t bytes,
                          bool running, const char *path, struct atl_error *err)
{
    if (running) {
        if (truncate(path, (off_t)bytes) != 0)
            return atl_fail(err, ATL_E_IO, NULL, "cannot grow '%s': %s", volume, strerror(errno));
        return work->driver->grow(&work->host, work->vmid, slot, path, true, err);
    }
    Atoll__Storage__V1__ResizeRequest request = ATOLL__STORAGE__V1__RESIZE_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.volid = atl_arena_strdup(&work->arena, volume);
    request.size_bytes = bytes;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Resize, &request.base, 0,
                                       &work->arena, &output, err);
    return code == ATL_OK ? work->driver->grow(&work->host, work->vmid, slot, path, false, err) : code;
}

static enum atl_code resize(struct lxc_work *work, struct atl_error *err)
{
    const Atoll__Lxc__V1__ResizeRequest *request = work->spec->resize;
    struct cmp_ct_run run;
    struct disk disk;
    const char *lock = cmp_lxc_doc_lock(&work->doc);
    if (lock != NULL)
        return atl_fail(err, ATL_E_CONFLICT, NULL, "CT is locked (%s)", lock);
    if (!find_disk(work->doc.now->config, request->disk, &disk))
        return atl_fail(err, ATL_E_INVALID, "disk", "the container has no %s", request->disk);
    if (cmp_lxc_volume_kind(*disk.volume) != CMP_LXC_VOLUME_OLD)
        return atl_fail(err, ATL_E_INVALID, "disk", "%s is no volume but a folder of the host",
                        request->disk);
    Atoll__Storage__V1__PathRequest where = ATOLL__STORAGE__V1__PATH_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    where.volid = *disk.volume;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Path, &where.base, 0,
                                       &work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__VolumeInfo *info = (const Atoll__Storage__V1__VolumeInfo *)output;
    uint64_t bytes = 0;
    if (strcmp(info->format, "raw") != 0)
        return atl_fail(err, ATL_E_STATE, "disk", "%s has no size of its own", request->disk);
    code = cmp_lxc_resize_bytes(request->size, info->size_bytes, &bytes, err);
    if (code != ATL_OK)
        return code;
    if (bytes > info->size_bytes)
        code = grow(work, *disk.volume, request->disk, bytes,
                    work->driver->running(&work->host, work->vmid, &run), info->path, err);
    *disk.size = cmp_lxc_size_text(bytes, &work->arena);
    return code == ATL_OK ? lxc_work_write(work, err) : code;
}

enum atl_code lxc_task_resize(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    LXC_WORK_AT_EXIT struct lxc_work work = {.lock_fd = -1};
    enum atl_code code = lxc_work_init(&work, task, spec, size, err);
    if (code == ATL_OK)
        code = lxc_work_read(&work, err);
    return code == ATL_OK ? resize(&work, err) : code;
}
