/*
 * Methods that make and remove virtual machines, and grow their disks. Making one: all that can be checked is
 * checked, the id is reserved by a file with lock=create, and only then the task begins.
 */
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atoll/qemu/v1/work.atl.h"
#include "atoll/storage/v1/volume.atl.h"
#include "ha.h"
#include "io/log.h"
#include "pure/codec.h"
#include "qemu.h"

enum { CALLS_MAX = 64 };

struct create;

struct create_call {
    struct create *create;
    struct atl_call *call;
    char field[12]; /* the drive it asks for; empty: none */
    char storage[101];
};

struct create {
    struct cmp_qemu *qemu;
    struct atl_request *request;
    const Atoll__Qemu__V1__CreateRequest *in;
    Atoll__Qemu__V1__Config *config;
    Atoll__Qemu__V1__Work *work;
    struct atl_errors *errors;
    struct atl_error error;
    struct create_call calls[CALLS_MAX];
    size_t call_count;
    size_t waiting;
    struct atl_revision reserved; /* of the file */
};

static void create_end(struct create *create)
{
    if (create->errors->count > 0)
        atl_request_fail(create->request, &create->error, create->errors);
    else
        atl_request_fail(create->request, &create->error, NULL);
    free(create);
}

/* --- 3: the task ------------------------------------------------------------------------------------------
 */

static void unreserved(const struct atl_txn_result *result, void *user)
{
    struct create *create = user;
    if (result->code != ATL_OK)
        atl_log(ATL_WARNING, "reserved-left", "the reserved file of VM %" PRIu32 " could not be removed: %s",
                create->in->vmid, result->error.text);
    create_end(create);
}

static void unreserve(struct create *create)
{
    ATL_TXN_AT_EXIT struct atl_txn txn;
    char path[200];
    (void)snprintf(path, sizeof path, "nodes/%s/qemu-server/%" PRIu32 ".conf",
                   create->qemu->cmp->options.node, create->in->vmid);
    atl_txn_init(&txn);
    atl_txn_compare(&txn, path, create->reserved);
    atl_txn_delete(&txn, path);
    atl_txn_send(create->qemu->cmp->bus, &txn, 10 * ATL_SECOND, unreserved, create);
}

static void begin_task(struct create *create)
{
    char id[16];
    char upid[ATL_UPID_MAX];
    (void)snprintf(id, sizeof id, "%" PRIu32, create->in->vmid);
    create->work->reserved = cmp_left_reserved(create->reserved, atl_request_arena(create->request));
    if (cmp_task_begin(create->qemu->cmp, create->request, "qmcreate", id, &create->work->base, upid,
                       &create->error) != ATL_OK) {
        unreserve(create);
        return;
    }
    Atoll__Task__V1__TaskRef reply = ATOLL__TASK__V1__TASK_REF__INIT;
    reply.upid = upid;
    atl_request_reply(create->request, &reply.base);
    free(create);
}

/* --- 2: the id --------------------------------------------------------------------------------------------
 */

static void reserved(const struct atl_txn_result *result, void *user)
{
    struct create *create = user;
    if (result->code != ATL_OK) {
        create->error = result->error;
        if (result->code == ATL_E_CONFLICT)
            (void)atl_fail(&create->error, ATL_E_EXISTS, "vmid",
                           "unable to create VM %" PRIu32 " - VM %" PRIu32 " already exists on node '%s'",
                           create->in->vmid, create->in->vmid, create->qemu->cmp->options.node);
        create_end(create);
        return;
    }
    create->reserved = result->revision;
    begin_task(create);
}

static void reserve(struct create *create)
{
    struct atl_arena *arena = atl_request_arena(create->request);
    struct cmp_file file;
    char path[200];
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    ATL_TXN_AT_EXIT struct atl_txn txn;
    (void)snprintf(path, sizeof path, "nodes/%s/qemu-server/%" PRIu32 ".conf",
                   create->qemu->cmp->options.node, create->in->vmid);
    cmp_file_new(arena, &file);
    file.main->config->name = create->config->name;
    file.main->state->lock = atl_arena_strdup(arena, "create");
    cmp_file_write(&file, &text);
    atl_txn_init(&txn);
    atl_txn_absent(&txn, path);
    atl_txn_put_guest(&txn, path, text.data, text.length, create->in->pool);
    atl_txn_send(create->qemu->cmp->bus, &txn, CMP_LEFT_RESERVE_S * ATL_SECOND, reserved, create);
}

/* --- 1: what can be checked -------------------------------------------------------------------------------
 */

static void answered(struct create_call *call, const struct atl_error *error)
{
    struct create *create = call->create;
    call->call = NULL;
    if (error != NULL && create->error.code == ATL_OK)
        create->error = *error;
    if (--create->waiting > 0)
        return;
    if (create->error.code != ATL_OK)
        create_end(create);
    else
        reserve(create);
}

static void storage_checked(const struct atl_reply *reply, void *user)
{
    struct create_call *call = user;
    struct create *create = call->create;
    struct atl_error error = reply->error;
    if (reply->code != ATL_OK) {
        answered(call, &error);
        return;
    }
    const Atoll__Storage__V1__CheckReply *check = (const Atoll__Storage__V1__CheckReply *)reply->output;
    if (!check->exists)
        (void)atl_fail(&error, ATL_E_ABSENT, call->field, "storage '%s' does not exist", call->storage);
    else if (check->reason != NULL)
        (void)atl_fail(&error, ATL_E_STATE, call->field, "storage '%s': %s", call->storage, check->reason);
    else if (check->has_takes_content && !check->takes_content)
        (void)atl_fail(&error, ATL_E_INVALID, call->field,
                       "storage '%s' does not support content-type 'images'", call->storage);
    if (error.code == ATL_E_INVALID)
        atl_errors_add(create->errors, call->field, "%s", error.text);
    answered(call, error.code != ATL_OK ? &error : NULL);
}

static void source_checked(const struct atl_reply *reply, void *user)
{
    struct create_call *call = user;
    struct atl_error error = reply->error;
    (void)atl_copy(error.field, sizeof error.field, call->field);
    answered(call, reply->code != ATL_OK ? &error : NULL);
}

/* Volumes that carry the id already are not this guest's: a failed creation must not remove them. */
static void volumes_listed(const struct atl_reply *reply, void *user)
{
    struct create_call *call = user;
    struct create *create = call->create;
    if (reply->code != ATL_OK) {
        answered(call, &reply->error);
        return;
    }
    const Atoll__Storage__V1__ListOfGuestReply *list =
        (const Atoll__Storage__V1__ListOfGuestReply *)reply->output;
    struct atl_arena *arena = atl_request_arena(create->request);
    create->work->keep = cmp_left_before(list, arena, &create->work->n_keep);
    answered(call, NULL);
}

static void check_call(struct create *create, const struct atl_rpc *rpc, const ProtobufCMessage *message,
                       const char *field, const char *storage, atl_reply_fn *fn)
{
    if (create->call_count == CALLS_MAX)
        return; /* more than there are storages: the task checks the rest */
    struct create_call *call = &create->calls[create->call_count++];
    call->create = create;
    (void)atl_copy(call->field, sizeof call->field, field);
    (void)atl_copy(call->storage, sizeof call->storage, storage);
    create->waiting++;
    call->call = atl_bus_call(create->qemu->cmp->bus, rpc, message,
                              &(const struct atl_call_options){.deadline = 10 * ATL_SECOND}, fn, call);
}

static bool asked_before(const struct create *create, const char *storage)
{
    for (size_t i = 0; i < create->call_count; i++)
        if (strcmp(create->calls[i].storage, storage) == 0)
            return true;
    return false;
}

static void check_drive(struct create *create, const struct cmp_drive *item)
{
    struct cmp_new_volume fresh = {0};
    char images[] = "images";
    if (cmp_drive_is_new(item->drive, &fresh) && !asked_before(create, fresh.storage)) {
        Atoll__Storage__V1__CheckRequest request = ATOLL__STORAGE__V1__CHECK_REQUEST__INIT;
        request.storage = fresh.storage;
        request.content = images;
        check_call(create, &atl_rpc_storage_v1_Volumes_Check, &request.base, item->name, fresh.storage,
                   storage_checked);
    }
    const char *sources[] = {item->drive->import_from,
                             cmp_drive_is_new(item->drive, &fresh) ? NULL : item->drive->file};
    for (size_t i = 0; i < ATL_COUNT(sources); i++) {
        char storage[101];
        if (sources[i] == NULL || !cmp_volume_storage(sources[i], storage, sizeof storage))
            continue;
        Atoll__Storage__V1__PathRequest request = ATOLL__STORAGE__V1__PATH_REQUEST__INIT;
        request.volid = atl_arena_strdup(atl_request_arena(create->request), sources[i]);
        check_call(create, &atl_rpc_storage_v1_Volumes_Path, &request.base, item->name, "", source_checked);
    }
}

static void check_bridges(const struct create *create)
{
    if (create->qemu->driver == &cmp_fake_driver)
        return;
    for (size_t i = 0; i < create->config->n_net; i++) {
        const Atoll__Qemu__V1__Net *net = create->config->net[i]->value;
        char name[16];
        if (net == NULL || net->bridge == NULL)
            continue;
        (void)snprintf(name, sizeof name, "net%" PRIu32, create->config->net[i]->index);
        if (if_nametoindex(net->bridge) == 0)
            atl_errors_add(create->errors, name, "bridge '%s' does not exist", net->bridge);
    }
}

static enum atl_code check_request(struct create *create, struct atl_error *err)
{
    struct cmp_qemu *qemu = create->qemu;
    enum atl_code code = qemu_need_root(create->request, create->in->lock != NULL, "lock", err);
    if (code == ATL_OK)
        code = cmp_need_pool(qemu->cmp, create->request, create->in->pool, err);
    if (code == ATL_OK)
        code = cmp_ha_may_add(qemu->cmp, create->request,
                              create->in->has_ha_managed && create->in->ha_managed, err);
    if (code == ATL_OK)
        code = qemu_need_config(qemu, create->request, create->in->vmid, create->config, err);
    if (code == ATL_OK && cmp_config_file(qemu->cmp, "qemu-server", create->in->vmid) != NULL)
        code = atl_fail(err, ATL_E_EXISTS, NULL,
                        "unable to create VM %" PRIu32 " - VM %" PRIu32 " already exists on node '%s'",
                        create->in->vmid, create->in->vmid, qemu->cmp->options.node);
    if (code == ATL_OK)
        code = qemu_hash_password(create->config, atl_request_arena(create->request), err);
    if (code != ATL_OK)
        return code;
    (void)!cmp_config_check(create->config, create->errors); /* what it finds is counted below */
    check_bridges(create);
    if (create->errors->count > 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "Parameter verification failed.");
    return qemu_work(qemu, create->request, create->in->vmid, atl_request_arena(create->request),
                     &create->work, err);
}

void qemu_create(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct create *create = atl_new0(struct create);
    struct atl_arena *arena = atl_request_arena(request);
    create->qemu = user;
    create->request = request;
    create->in = (const Atoll__Qemu__V1__CreateRequest *)input;
    create->errors = atl_arena_new(arena, struct atl_errors);
    create->config = create->in->config;
    if (create->config == NULL) {
        create->config = atl_arena_new(arena, Atoll__Qemu__V1__Config);
        atoll__qemu__v1__config__init(create->config);
    }
    if (check_request(create, &create->error) != ATL_OK) {
        create_end(create);
        return;
    }
    qemu_fill_macs(create->qemu, create->config, arena);
    create->work->config = create->config;
    create->work->has_start = create->in->has_start && create->in->start;
    create->work->start = create->work->has_start;
    create->work->has_ha_managed = create->work->ha_managed =
        create->in->has_ha_managed && create->in->ha_managed;
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(create->config, arena, &count);
    create->waiting = 1; /* so that answers cannot end it before all are asked */
    for (size_t i = 0; i < count; i++)
        check_drive(create, &drives[i]);
    if (create->call_count > 0) {
        Atoll__Storage__V1__ListOfGuestRequest list = ATOLL__STORAGE__V1__LIST_OF_GUEST_REQUEST__INIT;
        list.vmid = create->in->vmid;
        check_call(create, &atl_rpc_storage_v1_Volumes_ListOfGuest, &list.base, "", "", volumes_listed);
    }
    if (--create->waiting == 0)
        reserve(create);
}

/* --- delete, resize ---------------------------------------------------------------------------------------
 */

static enum atl_code check_delete(struct cmp_qemu *qemu, struct atl_request *request,
                                  const Atoll__Qemu__V1__DeleteRequest *in, Atoll__Qemu__V1__Work **ret_work,
                                  struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    bool skiplock = in->has_skiplock && in->skiplock;
    struct cmp_file file;
    enum atl_code code = qemu_need_root(request, skiplock, "skiplock", err);
    if (code == ATL_OK)
        code = qemu_config(qemu, in->vmid, arena, &file, NULL, err);
    if (code != ATL_OK)
        return code;
    bool forget = false;
    code = cmp_ha_unused(qemu->cmp, "qemu-server", in->vmid, in->has_purge && in->purge, &forget, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Qemu__V1__Config *config = file.main->config;
    if (config->has_protection && config->protection)
        return atl_fail(err, ATL_E_STATE, NULL, "can't remove VM %" PRIu32 " - protection mode enabled",
                        in->vmid);
    if (file.main->state->lock != NULL && !skiplock)
        return atl_fail(err, ATL_E_STATE, NULL, "VM is locked (%s)", file.main->state->lock);
    if (qemu_state(qemu, in->vmid) != CMP_STOPPED)
        return atl_fail(err, ATL_E_STATE, NULL, "VM %" PRIu32 " is running - destroy failed", in->vmid);
    code = qemu_work(qemu, request, in->vmid, arena, ret_work, err);
    if (code != ATL_OK)
        return code;
    (*ret_work)->has_skiplock = skiplock;
    (*ret_work)->skiplock = skiplock;
    (*ret_work)->has_purge = (*ret_work)->purge = forget;
    (*ret_work)->has_unreferenced = in->has_destroy_unreferenced_disks;
    (*ret_work)->unreferenced = in->destroy_unreferenced_disks;
    return ATL_OK;
}

static void answer_delete(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp_qemu *qemu = user;
    const Atoll__Qemu__V1__DeleteRequest *in = (const Atoll__Qemu__V1__DeleteRequest *)input;
    Atoll__Qemu__V1__Work *work = NULL;
    struct atl_error error = {0};
    if (check_delete(qemu, request, in, &work, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    cmp_task_reply(qemu->cmp, request, "qmdestroy",
                   atl_arena_format(atl_request_arena(request), "%" PRIu32, in->vmid), &work->base);
}

void qemu_delete(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    qemu_fresh(user, request, input, ((const Atoll__Qemu__V1__DeleteRequest *)input)->vmid, answer_delete);
}

static enum atl_code check_resize(struct cmp_qemu *qemu, struct atl_request *request,
                                  const Atoll__Qemu__V1__ResizeRequest *in, Atoll__Qemu__V1__Work **ret_work,
                                  struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    bool skiplock = in->has_skiplock && in->skiplock;
    struct cmp_file file;
    uint64_t size = 0;
    enum atl_code code = qemu_need_root(request, skiplock, "skiplock", err);
    if (code == ATL_OK)
        code = qemu_config(qemu, in->vmid, arena, &file, NULL, err);
    if (code == ATL_OK)
        code = cmp_size_parse(in->size[0] == '+' ? in->size + 1 : in->size, "size", &size, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Qemu__V1__Drive *drive = cmp_drive_find(file.main->config, in->disk);
    if (file.main->state->lock != NULL && !skiplock)
        return atl_fail(err, ATL_E_STATE, NULL, "VM is locked (%s)", file.main->state->lock);
    if (drive == NULL)
        return atl_fail(err, ATL_E_ABSENT, "disk", "disk '%s' does not exist", in->disk);
    code = qemu_need_config(qemu, request, in->vmid, NULL, err);
    if (code == ATL_OK)
        code = qemu_work(qemu, request, in->vmid, arena, ret_work, err);
    if (code != ATL_OK)
        return code;
    (*ret_work)->disk = in->disk;
    (*ret_work)->size = in->size;
    (*ret_work)->digest = in->digest;
    (*ret_work)->has_skiplock = skiplock;
    (*ret_work)->skiplock = skiplock;
    return ATL_OK;
}

void qemu_resize(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp_qemu *qemu = user;
    const Atoll__Qemu__V1__ResizeRequest *in = (const Atoll__Qemu__V1__ResizeRequest *)input;
    Atoll__Qemu__V1__Work *work = NULL;
    struct atl_error error = {0};
    if (check_resize(qemu, request, in, &work, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    cmp_task_reply(qemu->cmp, request, "resize",
                   atl_arena_format(atl_request_arena(request), "%" PRIu32, in->vmid), &work->base);
}

/* --- cut-off creations ------------------------------------------------------------------------------------
 */

static bool is_reserved(const struct cmp_qemu *qemu, uint32_t vmid, struct atl_arena *arena)
{
    struct cmp_file file;
    return qemu_config(qemu, vmid, arena, &file, NULL, NULL) == ATL_OK && file.main->state->lock != NULL &&
           strcmp(file.main->state->lock, "create") == 0;
}

/* upid: of the task that was cut off; NULL: none had begun. */
static void start_clean_up(struct cmp_qemu *qemu, uint32_t vmid, const char *upid)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const Atoll__Qemu__V1__Work *old =
        upid != NULL
            ? (const Atoll__Qemu__V1__Work *)cmp_task_spec(qemu->cmp, upid, &atl_msg_qemu_v1_Work, &arena)
            : NULL;
    Atoll__Qemu__V1__Work *work = NULL;
    struct atl_error error = {0};
    char id[16];
    if (upid != NULL && old == NULL) { /* without its list nothing may be removed */
        atl_log(ATL_ERROR, "clean-up-failed",
                "VM %" PRIu32 " stays locked: the task %s left no specification", vmid, upid);
        return;
    }
    (void)snprintf(id, sizeof id, "%" PRIu32, vmid);
    if (old != NULL && !cmp_left_is_of(cmp_config_file(qemu->cmp, "qemu-server", vmid), old->reserved))
        old = NULL; /* an earlier VM with this id */
    enum atl_code code = qemu_work(qemu, NULL, vmid, &arena, &work, &error);
    if (code == ATL_OK && old != NULL)
        *work = *old;
    if (code == ATL_OK) {
        work->config = NULL;
        work->upid = atl_arena_strdup(&arena, old != NULL ? upid : "");
        code = cmp_task_own(qemu->cmp, "qmdestroy", id, &work->base, NULL, &error);
    }
    if (code != ATL_OK)
        atl_log(ATL_ERROR, "clean-up-failed", "what is left of VM %s is not removed: %s", id, error.text);
    else
        atl_log(ATL_NOTICE, "clean-up", "the creation of VM %s was cut off, removing what it made", id);
}

void qemu_clean_up_reserved(void *user, uint32_t vmid)
{
    struct cmp_qemu *qemu = user;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct atl_task_info info;
    if (!is_reserved(qemu, vmid, &arena))
        return;
    if (!cmp_task_newest(qemu->cmp, "qmcreate", vmid, &info))
        start_clean_up(qemu, vmid, NULL);
    else if (info.state == ATL_TASK_STOPPED)
        start_clean_up(qemu, vmid, info.upid);
}

void qemu_clean_up(struct cmp_qemu *qemu, const struct atl_task_info *info)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    bool creation = strcmp(info->parts.type, "qmcreate") == 0;
    if ((!creation && strcmp(info->parts.type, "qmdestroy") != 0) || strcmp(info->exit, "OK") == 0 ||
        !qemu->swept)
        return;
    uint32_t vmid = (uint32_t)strtoul(info->parts.id, NULL, 10);
    if (creation)
        qemu_clean_up_reserved(qemu, vmid);
    else if (is_reserved(qemu, vmid, &arena))
        cmp_left_failed(qemu->left, vmid);
}

static void sweep_file(const char *path, const struct atl_file *file, void *user)
{
    const char *base = strrchr(path, '/');
    unsigned long vmid = base != NULL ? strtoul(base + 1, NULL, 10) : 0;
    (void)file;
    if (vmid >= 100 && vmid <= 999999999)
        qemu_clean_up_reserved(user, (uint32_t)vmid);
}

void qemu_sweep(struct cmp_qemu *qemu)
{
    char prefix[160];
    if (qemu->swept || qemu->cmp->tasks == NULL || !atl_mirror_ready(qemu->cmp->mirror))
        return;
    qemu->swept = true;
    (void)snprintf(prefix, sizeof prefix, "nodes/%s/qemu-server/", qemu->cmp->options.node);
    atl_mirror_each(qemu->cmp->mirror, prefix, sweep_file, qemu);
    cmp_left_watch(qemu->left);
}
