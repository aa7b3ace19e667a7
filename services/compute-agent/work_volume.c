/* Volumes of a virtual machine: making, finding, removing them through the storage-agent. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "atoll/storage/v1/volume.atl.h"
#include "work.h"

static const uint64_t cloudinit_bytes = UINT64_C(4) << 20;

static void made_add(struct work *work, struct work_made *made, const char *volid)
{
    made->volumes =
        atl_arena_grow(&work->arena, made->volumes, made->count, &made->room, sizeof *made->volumes);
    made->volumes[made->count++] = atl_arena_strdup(&work->arena, volid);
}

/* --- making -----------------------------------------------------------------------------------------------
 */

static void set_made(struct work *work, const struct cmp_drive *item, const char *volid, uint64_t size_bytes)
{
    char size[24];
    cmp_size_format(size_bytes, size, sizeof size);
    item->drive->file = atl_arena_strdup(&work->arena, volid);
    item->drive->size = atl_arena_strdup(&work->arena, size);
    item->drive->import_from = NULL;
    item->drive->format = NULL; /* the volume's name tells it from now on */
}

static enum atl_code alloc_volume(struct work *work, const struct cmp_drive *item,
                                  const struct cmp_new_volume *want, struct work_made *made,
                                  struct atl_error *err)
{
    Atoll__Storage__V1__AllocRequest request = ATOLL__STORAGE__V1__ALLOC_REQUEST__INIT;
    char images[] = "images";
    char cloudinit[] = "cloudinit";
    char storage[101];
    (void)atl_copy(storage, sizeof storage, want->storage);
    request.storage = storage;
    request.vmid = work->spec->vmid;
    request.purpose = want->cloudinit ? cloudinit : images;
    request.format = want->cloudinit ? NULL : item->drive->format;
    request.size_bytes = want->cloudinit ? cloudinit_bytes : want->size_bytes;
    request.has_keep = want->cloudinit;
    request.keep = want->cloudinit;
    const Atoll__Storage__V1__AllocatedVolume *volume = NULL;
    const ProtobufCMessage *output = NULL;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Alloc, &request.base, 0,
                                       &work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    volume = (const Atoll__Storage__V1__AllocatedVolume *)output;
    made_add(work, made, volume->volid);
    set_made(work, item, volume->volid, volume->size_bytes);
    if (want->cloudinit) {
        item->drive->size = NULL;
        item->drive->media = atl_arena_strdup(&work->arena, "cdrom");
    }
    atl_task_log(work->task, "%s: created volume '%s'", item->name, volume->volid);
    return ATL_OK;
}

static void cancel_import(struct work *work, const char *job)
{
    Atoll__Storage__V1__ImportCancelRequest request = ATOLL__STORAGE__V1__IMPORT_CANCEL_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.job = atl_arena_strdup(&work->arena, job);
    /* Not atl_task_call(): the task may be stopping. The agent there ends jobs nobody asks about by itself.
     */
    (void)!atl_bus_call_wait(work->bus, &atl_rpc_storage_v1_Volumes_ImportCancel, &request.base,
                             &(const struct atl_call_options){.deadline = 5 * ATL_SECOND}, &work->arena,
                             &output, NULL);
}

static enum atl_code wait_import(struct work *work, const char *name, const char *job, uint64_t *ret_size,
                                 struct atl_error *err)
{
    for (;;) {
        Atoll__Storage__V1__ImportWaitRequest request = ATOLL__STORAGE__V1__IMPORT_WAIT_REQUEST__INIT;
        request.job = atl_arena_strdup(&work->arena, job);
        request.has_wait_ms = true;
        request.wait_ms = 1000;
        const ProtobufCMessage *output = NULL;
        enum atl_code code = work_keep(work, err);
        if (code == ATL_OK)
            code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_ImportWait, &request.base, 0,
                                 &work->arena, &output, err);
        if (code != ATL_OK)
            return code;
        const Atoll__Storage__V1__ImportWaitReply *reply =
            (const Atoll__Storage__V1__ImportWaitReply *)output;
        if (strcmp(reply->state, "failed") == 0)
            return atl_fail(err, ATL_E_IO, name, "%s",
                            reply->error != NULL ? reply->error : "the import failed");
        if (strcmp(reply->state, "done") == 0) {
            if (reply->has_size_bytes)
                *ret_size = reply->size_bytes;
            return ATL_OK;
        }
        atl_task_progress(work->task, reply->done_percent / 100.0, "%s: %.0f%% imported", name,
                          reply->done_percent);
    }
}

static enum atl_code import_volume(struct work *work, const struct cmp_drive *item,
                                   const struct cmp_new_volume *want, struct work_made *made,
                                   struct atl_error *err)
{
    Atoll__Storage__V1__ImportRequest request = ATOLL__STORAGE__V1__IMPORT_REQUEST__INIT;
    char storage[101];
    (void)atl_copy(storage, sizeof storage, want->storage);
    request.source = item->drive->import_from;
    request.storage = storage;
    request.vmid = work->spec->vmid;
    request.format = item->drive->format;
    const ProtobufCMessage *output = NULL;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Import, &request.base, 0,
                                       &work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__ImportReply *job = (const Atoll__Storage__V1__ImportReply *)output;
    uint64_t size_bytes = job->size_bytes;
    atl_task_log(work->task, "%s: importing '%s' as '%s'", item->name, item->drive->import_from, job->volid);
    code = wait_import(work, item->name, job->job, &size_bytes, err);
    if (code != ATL_OK) {
        cancel_import(work, job->job);
        return code;
    }
    made_add(work, made, job->volid);
    set_made(work, item, job->volid, size_bytes);
    return ATL_OK;
}

enum atl_code work_make_volumes(struct work *work, Atoll__Qemu__V1__Config *config, struct work_made *made,
                                struct atl_error *err)
{
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(config, &work->arena, &count);
    for (size_t i = 0; i < count; i++) {
        struct cmp_new_volume want = {0};
        if (!cmp_drive_is_new(drives[i].drive, &want))
            continue;
        enum atl_code code = work_keep(work, err);
        if (code == ATL_OK && want.import_from != NULL)
            code = import_volume(work, &drives[i], &want, made, err);
        else if (code == ATL_OK)
            code = alloc_volume(work, &drives[i], &want, made, err);
        if (code != ATL_OK)
            return code;
    }
    return ATL_OK;
}

/* Past atl_task_call(): cleaning up goes on when the task is stopped. An agent that has just been started is
 * waited for. */
static enum atl_code free_volume(struct work *work, const char *volid, struct atl_error *err)
{
    enum { TRIES = 100 };
    const struct timespec pause = {.tv_nsec = 100 * ATL_MS};
    const struct atl_call_options options = {.task = atl_task_upid(work->task)};
    Atoll__Storage__V1__FreeRequest request = ATOLL__STORAGE__V1__FREE_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    enum atl_code code = ATL_E_UNAVAILABLE;
    request.volid = atl_arena_strdup(&work->arena, volid);
    for (int i = 0; i < TRIES && code == ATL_E_UNAVAILABLE; i++) {
        if (i > 0)
            (void)nanosleep(&pause, NULL); /* cut short by a signal: it asks a little sooner */
        code = atl_bus_call_wait(work->bus, &atl_rpc_storage_v1_Volumes_Free, &request.base, &options,
                                 &work->arena, &output, err);
    }
    return code;
}

enum atl_code work_stop_imports(struct work *work, struct atl_error *err)
{
    enum { TRIES = 100 };
    const struct timespec pause = {.tv_nsec = 100 * ATL_MS};
    Atoll__Storage__V1__StopImportsRequest request = ATOLL__STORAGE__V1__STOP_IMPORTS_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.vmid = work->spec->vmid;
    for (int i = 0; i < TRIES; i++) {
        if (i > 0)
            (void)nanosleep(&pause, NULL); /* cut short by a signal: it asks a little sooner */
        enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_StopImports, &request.base,
                                           0, &work->arena, &output, err);
        if (code != ATL_OK)
            return code;
        if (((const Atoll__Storage__V1__StopImportsReply *)output)->running == 0)
            return ATL_OK;
    }
    return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "an import into VM %" PRIu32 " does not end",
                    work->spec->vmid);
}

bool work_free_volumes(struct work *work, const char *const *volumes, size_t count)
{
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        struct atl_error error = {0};
        enum atl_code code = free_volume(work, volumes[i], &error);
        if (code == ATL_OK)
            atl_task_log(work->task, "removed volume '%s'", volumes[i]);
        else
            atl_task_warn(work->task, "volume '%s' could not be removed: %s", volumes[i], error.text);
        all = all && code == ATL_OK;
    }
    return all;
}

enum atl_code work_volume_info(struct work *work, const char *volid,
                               const Atoll__Storage__V1__VolumeInfo **ret_info, struct atl_error *err)
{
    Atoll__Storage__V1__PathRequest request = ATOLL__STORAGE__V1__PATH_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.volid = atl_arena_strdup(&work->arena, volid);
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Path, &request.base, 0,
                                       &work->arena, &output, err);
    if (code == ATL_OK)
        *ret_info = (const Atoll__Storage__V1__VolumeInfo *)output;
    return code;
}

/* --- facts for the domain ---------------------------------------------------------------------------------
 */

static enum atl_code file_facts(const char *name, struct cmp_volume *volume, struct atl_error *err)
{
    struct stat about;
    if (stat(volume->path, &about) != 0)
        return atl_fail(err, ATL_E_ABSENT, name, "cannot find '%s': %s", volume->path, strerror(errno));
    volume->block = S_ISBLK(about.st_mode);
    int fd = open(volume->path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    volume->no_direct = fd < 0 && errno == EINVAL;
    if (fd >= 0)
        (void)close(fd);
    return ATL_OK;
}

/* libvirt gives QEMU's user the images of a guest, but not those that other nodes see, too. A file system
 * that does not let us (NFS) has to give them to all: QEMU says so if it does not. */
static void own_shared(const struct work *work, const char *path)
{
    const struct passwd *user = getpwnam(work->spec->qemu_user);
    if (user != NULL && chown(path, user->pw_uid, (gid_t)-1) != 0)
        atl_task_log(work->task, "'%s' cannot be given to user %s: %s", path, work->spec->qemu_user,
                     strerror(errno));
}

static enum atl_code volume_facts(struct work *work, const struct cmp_drive *item, struct cmp_volume *volume,
                                  struct atl_error *err)
{
    (void)atl_copy(volume->name, sizeof volume->name, item->name);
    volume->format = "raw";
    if (strcmp(item->drive->file, "cdrom") == 0) {
        volume->path = "/dev/cdrom";
    } else if (item->drive->file[0] == '/') {
        volume->path = item->drive->file;
        volume->format = item->drive->format != NULL ? item->drive->format : "raw";
    } else {
        const Atoll__Storage__V1__VolumeInfo *info = NULL;
        enum atl_code code = work_volume_info(work, item->drive->file, &info, err);
        if (code != ATL_OK)
            return code;
        volume->path = info->path;
        volume->format = strcmp(info->format, "iso") == 0 ? "raw" : info->format;
        volume->shared = info->has_shared && info->shared;
    }
    if (volume->shared && !cmp_drive_is_cdrom(item->drive) && work->driver == &cmp_libvirt_driver)
        own_shared(work, volume->path);
    return file_facts(item->name, volume, err);
}

static void make_run_dir(const struct work *work, const char *dir)
{
    char parent[4096];
    (void)snprintf(parent, sizeof parent, "%s/qemu", atl_task_run_dir(work->task));
    (void)mkdir(parent, 0755); /* it may be there; what is wrong shows when QEMU binds its sockets */
    (void)mkdir(dir, 0750);
    const struct passwd *user = getpwnam(work->spec->qemu_user);
    if (user != NULL)
        (void)!chown(dir, user->pw_uid, user->pw_gid);
}

static enum atl_code check_bridges(const Atoll__Qemu__V1__Config *config, struct atl_error *err)
{
    for (size_t i = 0; i < config->n_net; i++) {
        const Atoll__Qemu__V1__Net *net = config->net[i]->value;
        if (net != NULL && net->bridge != NULL && if_nametoindex(net->bridge) == 0)
            return atl_fail(err, ATL_E_ABSENT, NULL, "bridge '%s' does not exist", net->bridge);
    }
    return ATL_OK;
}

static const char *first_file(const char *const *paths, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (access(paths[i], R_OK) == 0)
            return paths[i];
    return NULL;
}

static enum atl_code ovmf_facts(const Atoll__Qemu__V1__Config *config, struct cmp_machine *machine,
                                struct atl_error *err)
{
    static const char *const codes[] = {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE.fd"};
    static const char *const vars[] = {"/usr/share/OVMF/OVMF_VARS_4M.fd", "/usr/share/OVMF/OVMF_VARS.fd"};
    if (config->bios == NULL || strcmp(config->bios, "ovmf") != 0)
        return ATL_OK;
    machine->ovmf_code = first_file(codes, ATL_COUNT(codes));
    machine->ovmf_vars = first_file(vars, ATL_COUNT(vars));
    if (machine->ovmf_code == NULL || machine->ovmf_vars == NULL)
        return atl_fail(err, ATL_E_ABSENT, "bios", "bios=ovmf needs the Debian package ovmf on this node");
    return ATL_OK;
}

enum atl_code work_machine(struct work *work, const Atoll__Qemu__V1__Config *config,
                           struct cmp_machine *ret_machine, struct atl_error *err)
{
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(config, &work->arena, &count);
    struct cmp_volume *volumes = atl_arena_array(&work->arena, struct cmp_volume, count + 1);
    size_t used = 0;
    enum atl_code code = work->driver == &cmp_fake_driver ? ATL_OK : check_bridges(config, err);
    for (size_t i = 0; code == ATL_OK && i < count; i++)
        if (drives[i].drive->file != NULL && strcmp(drives[i].drive->file, "none") != 0)
            code = volume_facts(work, &drives[i], &volumes[used++], err);
    if (code != ATL_OK)
        return code;
    char *run_dir =
        atl_arena_format(&work->arena, "%s/qemu/%" PRIu32, atl_task_run_dir(work->task), work->spec->vmid);
    make_run_dir(work, run_dir);
    *ret_machine = (struct cmp_machine){.accel = work->spec->accel,
                                        .emulator = "/usr/bin/qemu-system-x86_64",
                                        .run_dir = run_dir,
                                        .cgroup2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0,
                                        .volumes = volumes,
                                        .volume_count = used};
    return ovmf_facts(config, ret_machine, err);
}
