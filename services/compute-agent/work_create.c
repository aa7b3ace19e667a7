/* Tasks that make and remove virtual machines. Whatever a failed one made is removed again. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "atoll/storage/v1/volume.atl.h"
#include "core/left.h"
#include "ha.h"
#include "io/process.h"
#include "pure/buf.h"
#include "work.h"

/* --- create -----------------------------------------------------------------------------------------------
 */

/* "QEMU emulator version 7.2.22 (Debian ...)" -> "7.2.22" */
const char *work_qemu_version(struct work *work)
{
    static const char *const argv[] = {"/usr/bin/qemu-system-x86_64", "--version", NULL};
    ATL_BUF_AT_EXIT struct atl_buf output = {0};
    const struct atl_process_options options = {.argv = argv, .capture = 4096, .timeout = 10 * ATL_SECOND};
    if (atl_process_run(&options, &output, NULL, NULL) != ATL_OK || output.data == NULL)
        return NULL;
    const char *at = strstr(output.data, "version ");
    if (at == NULL)
        return NULL;
    return atl_arena_strndup(&work->arena, at + 8, strspn(at + 8, "0123456789."));
}

static enum atl_code fill_birth(struct work *work, struct atl_error *err)
{
    uint8_t random[CMP_BIRTH_RANDOM];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return atl_fail(err, ATL_E_IO, NULL, "the kernel gave no random bytes");
    const char *version = work_qemu_version(work);
    const struct cmp_birth birth = {.random = random,
                                    .now = (int64_t)time(NULL),
                                    .mac_prefix = "BC:24:11",
                                    .qemu_version = version != NULL ? version : "0.0"};
    cmp_fill_birth(&work->file, &birth);
    return ATL_OK;
}

/* The reserved file becomes the guest: volumes made, addresses given, lock gone. */
static enum atl_code build_guest(struct work *work, struct work_made *made, struct atl_error *err)
{
    enum atl_code code = work_read(work, err);
    if (code != ATL_OK)
        return code;
    const char *lock = work->file.main->state->lock;
    if (lock == NULL || strcmp(lock, "create") != 0)
        return atl_fail(err, ATL_E_CONFLICT, NULL, "VM %" PRIu32 " was changed while it was being created",
                        work->spec->vmid);
    struct cmp_file file;
    cmp_file_new(&work->arena, &file);
    if (work->spec->config != NULL)
        file.main->config = work->spec->config;
    work->file = file;
    code = work_make_volumes(work, file.main->config, made, err);
    if (code == ATL_OK)
        code = fill_birth(work, err);
    if (code == ATL_OK)
        code = work_write(work, err);
    return code;
}

static void undo_create(struct work *work, const struct work_made *made)
{
    struct atl_error error = {0};
    if (!work_free_volumes(work, made->volumes, made->count))
        return; /* the file stays, and so the agent removes the rest later */
    /* The file is still the one that was reserved: nothing was written after it. */
    if (work->text.bytes != NULL && work_delete_file(work, &error) != ATL_OK)
        atl_task_warn(work->task, "the reserved configuration could not be removed: %s", error.text);
}

enum atl_code work_create(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    struct work_made made = {0};
    enum atl_code code = work_init(&work, task, spec, size, err);
    if (code == ATL_OK)
        code = build_guest(&work, &made, err);
    if (code != ATL_OK) {
        if (work.bus != NULL)
            undo_create(&work, &made);
        return code;
    }
    bool start = work.spec->has_start && work.spec->start;
    if (work.spec->ha_managed) /* the manager has it started */
        return cmp_ha_add(task, "qemu-server", work.spec->vmid, start, err);
    if (!start)
        return ATL_OK;
    code = work_take(&work, err);
    return code == ATL_OK ? work_start_guest(&work, err) : code;
}

/* --- destroy ----------------------------------------------------------------------------------------------
 */

/* Volumes with the guest's id that lie on the storages; those there before it was made stay. A storage or a
 * volume that cannot be reached is told of; ret_all: there was none. */
static enum atl_code free_unreferenced(struct work *work, bool *ret_all, struct atl_error *err)
{
    Atoll__Storage__V1__ListOfGuestRequest request = ATOLL__STORAGE__V1__LIST_OF_GUEST_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.vmid = work->spec->vmid;
    *ret_all = true;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_ListOfGuest, &request.base, 0,
                                       &work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__ListOfGuestReply *reply = (const Atoll__Storage__V1__ListOfGuestReply *)output;
    for (size_t i = 0; i < reply->n_unread_storage; i++) {
        const char *storage = atl_arena_format(&work->arena, "%s:", reply->unread_storage[i]);
        if (cmp_left_keeps(work->spec->keep, work->spec->n_keep, storage))
            continue;
        atl_task_warn(work->task, "storage '%s' could not be searched", reply->unread_storage[i]);
        *ret_all = false;
    }
    for (size_t i = 0; i < reply->n_volume; i++) {
        const char *volid = reply->volume[i]->volid;
        if (!cmp_left_keeps(work->spec->keep, work->spec->n_keep, volid) &&
            !work_free_volumes(work, &volid, 1))
            *ret_all = false;
    }
    return ATL_OK;
}

/* Only what is the guest's own: an image of many users or another guest's disk stays. */
static void free_own_volumes(struct work *work)
{
    size_t count = 0;
    const char **volumes = cmp_volumes_of(&work->file, &work->arena, &count);
    for (size_t i = 0; i < count; i++) {
        const Atoll__Storage__V1__VolumeInfo *info = NULL;
        struct atl_error error = {0};
        enum atl_code code = work_volume_info(work, volumes[i], &info, &error);
        if (code == ATL_E_ABSENT)
            continue;
        if (code != ATL_OK)
            atl_task_warn(work->task, "volume '%s' could not be looked at: %s", volumes[i], error.text);
        else if (info->has_vmid && info->vmid == work->spec->vmid)
            work_free_volumes(work, &volumes[i], 1);
    }
}

static enum atl_code check_destroy(struct work *work, struct atl_error *err)
{
    const Atoll__Qemu__V1__Config *config = work->file.main->config;
    enum cmp_state state = CMP_STOPPED;
    if (config->has_protection && config->protection)
        return atl_fail(err, ATL_E_STATE, NULL, "can't remove VM %" PRIu32 " - protection mode enabled",
                        work->spec->vmid);
    enum atl_code code = work->driver->state(work->engine, work->spec->vmid, &state, err);
    if (code != ATL_OK || state == CMP_STOPPED)
        return code;
    return atl_fail(err, ATL_E_STATE, NULL, "VM %" PRIu32 " is running - destroy failed", work->spec->vmid);
}

/* What a creating worker left behind that was killed. */
static enum atl_code clean_up(struct work *work, struct atl_error *err)
{
    enum atl_code code = work_read(work, err);
    if (code == ATL_E_ABSENT)
        return ATL_OK;
    const char *lock = code == ATL_OK ? work->file.main->state->lock : NULL;
    if (code != ATL_OK || lock == NULL || strcmp(lock, "create") != 0)
        return code;
    atl_task_log(work->task, "the task that was creating VM %" PRIu32 " was cut off; removing what it made",
                 work->spec->vmid);
    if (work->spec->upid[0] == '\0') /* no worker had begun: there is nothing but the file */
        return work_delete_file(work, err);
    bool all = true;
    code = work_stop_imports(work, err);
    if (code == ATL_OK)
        code = free_unreferenced(work, &all, err);
    if (code == ATL_OK && !all) /* with the file its id would be free for another, who would find them */
        code = atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                        "not all that was made of VM %" PRIu32 " can be removed yet", work->spec->vmid);
    return code == ATL_OK ? work_delete_file(work, err) : code;
}

void work_remove_run_dir(const struct work *work)
{
    char path[4096];
    static const char *const names[] = {"vnc.sock",     "serial0.sock", "serial1.sock", "serial2.sock",
                                        "serial3.sock", "efivars.fd",   "ram.sock",     "nbd.sock",
                                        "ram-out.sock", "nbd-out.sock"};
    for (size_t i = 0; i < ATL_COUNT(names); i++) {
        (void)snprintf(path, sizeof path, "%s/qemu/%" PRIu32 "/%s", atl_task_run_dir(work->task),
                       work->spec->vmid, names[i]);
        (void)unlink(path); /* most are not there */
    }
    (void)snprintf(path, sizeof path, "%s/qemu/%" PRIu32, atl_task_run_dir(work->task), work->spec->vmid);
    (void)rmdir(path);
}

enum atl_code work_destroy(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    enum atl_code code = work_init(&work, task, spec, size, err);
    if (code == ATL_OK && work.spec->upid != NULL)
        return clean_up(&work, err);
    if (code == ATL_OK)
        code = work_take(&work, err);
    if (code == ATL_OK)
        code = check_destroy(&work, err);
    if (code == ATL_OK && work.spec->purge)
        code = cmp_ha_forget(task, "qemu-server", work.spec->vmid, err);
    if (code != ATL_OK)
        return code;
    free_own_volumes(&work);
    bool all = true; /* whoever deletes is told of the rest, and the guest is gone */
    if (work.spec->has_unreferenced && work.spec->unreferenced)
        code = free_unreferenced(&work, &all, err);
    if (code == ATL_OK)
        code = work_delete_file(&work, err);
    work_remove_run_dir(&work);
    return code;
}
