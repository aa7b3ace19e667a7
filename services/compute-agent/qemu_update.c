/* Methods that change a virtual machine's configuration. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/update.h"
#include "io/treelock.h"
#include "qemu.h"

enum { LOCK_TTL_MS = 30000 };

struct update {
    struct cmp_qemu *qemu;
    struct atl_request *request;
    struct atl_treelock lock;
    uint32_t vmid;
    Atoll__Qemu__V1__Config *set;
    const char *remove;
    const char *revert;
    const char *digest;
    bool force;
    bool skiplock;
    int tries;
};

/* --- what both methods check ------------------------------------------------------------------------------
 */

void qemu_fill_macs(const struct cmp_qemu *qemu, Atoll__Qemu__V1__Config *set, struct atl_arena *arena)
{
    uint8_t random[96];
    if (set != NULL && getrandom(random, sizeof random, 0) == (ssize_t)sizeof random)
        cmp_fill_macs(set, random, cmp_datacenter(qemu->cmp, "mac_prefix", arena), arena);
}

/* Everything that can be known now; the plan says whether a worker is needed. */
static enum atl_code preview(struct update *update, struct cmp_file *ret_file,
                             const struct atl_file **ret_text, struct cmp_update_plan *ret_plan,
                             struct atl_errors *errors, struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(update->request);
    char digest[ATL_DIGEST_SIZE];
    enum atl_code code = qemu_config(update->qemu, update->vmid, arena, ret_file, ret_text, err);
    if (code != ATL_OK)
        return code;
    atl_digest((*ret_text)->bytes, (*ret_text)->size, digest);
    code = atl_digest_check(digest, update->digest, err);
    if (code != ATL_OK)
        return code;
    const char *lock = ret_file->main->state->lock;
    if (lock != NULL && !update->skiplock)
        return atl_fail(err, ATL_E_STATE, NULL, "VM is locked (%s)", lock);
    const struct cmp_change change = {.set = update->set,
                                      .remove = update->remove,
                                      .revert = update->revert,
                                      .running = qemu_state(update->qemu, update->vmid) != CMP_STOPPED,
                                      .force = update->force};
    return cmp_update(ret_file, &change, ret_plan, errors, err);
}

static bool makes_volumes(const struct update *update)
{
    struct cmp_new_volume fresh;
    size_t count = 0;
    if (update->set == NULL)
        return false;
    const struct cmp_drive *drives = cmp_drives(update->set, atl_request_arena(update->request), &count);
    for (size_t i = 0; i < count; i++)
        if (cmp_drive_is_new(drives[i].drive, &fresh))
            return true;
    return false;
}

static enum atl_code check_rights(struct update *update, struct atl_error *err)
{
    enum atl_code code = qemu_need_root(update->request, update->skiplock, "skiplock", err);
    if (code == ATL_OK)
        code = qemu_need_config(update->qemu, update->request, update->vmid, update->set, err);
    if (code == ATL_OK)
        code = qemu_need_change(update->qemu, update->request, update->vmid, update->set, update->remove,
                                update->revert, err);
    return code == ATL_OK ? qemu_hash_password(update->set, atl_request_arena(update->request), err) : code;
}

static enum atl_code to_work(const struct update *update, Atoll__Qemu__V1__Work **ret_work,
                             struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(update->request);
    Atoll__Qemu__V1__Work *work = NULL;
    enum atl_code code = qemu_work(update->qemu, update->request, update->vmid, arena, &work, err);
    if (code != ATL_OK)
        return code;
    work->config = update->set;
    work->remove = update->remove != NULL ? atl_arena_strdup(arena, update->remove) : NULL;
    work->revert = update->revert != NULL ? atl_arena_strdup(arena, update->revert) : NULL;
    work->digest = update->digest != NULL ? atl_arena_strdup(arena, update->digest) : NULL;
    work->has_force = update->force;
    work->force = update->force;
    work->has_skiplock = update->skiplock;
    work->skiplock = update->skiplock;
    *ret_work = work;
    return ATL_OK;
}

/* --- at once ----------------------------------------------------------------------------------------------
 */

static void update_end(struct update *update, const struct atl_error *error, const struct atl_errors *errors)
{
    atl_treelock_release(update->qemu->cmp->bus, &update->lock);
    if (error != NULL && error->code != ATL_OK) {
        atl_request_fail(update->request, error, errors);
    } else {
        Atoll__Task__V1__Nothing reply = ATOLL__TASK__V1__NOTHING__INIT;
        atl_request_reply(update->request, &reply.base);
    }
    free(update);
}

static void write_change(struct update *update);

static void written(const struct atl_txn_result *result, void *user)
{
    struct update *update = user;
    /* The copy here was behind: the lock is ours, so reading again is enough. */
    if (result->code == ATL_E_CONFLICT && update->tries++ < 3 && update->digest == NULL) {
        write_change(update);
        return;
    }
    update_end(update, &result->error, NULL);
}

static void write_change(struct update *update)
{
    struct cmp_file file;
    struct cmp_update_plan plan;
    const struct atl_file *text = NULL;
    struct atl_error error = {0};
    struct atl_errors *errors = atl_arena_new(atl_request_arena(update->request), struct atl_errors);
    if (preview(update, &file, &text, &plan, errors, &error) != ATL_OK) {
        update_end(update, &error, errors);
        return;
    }
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    ATL_TXN_AT_EXIT struct atl_txn txn;
    cmp_file_write(&file, &out);
    atl_txn_init(&txn);
    atl_txn_compare(&txn, text->path, text->revision);
    atl_txn_compare(&txn, update->lock.path, update->lock.revision);
    atl_txn_put(&txn, text->path, out.data, out.length);
    atl_txn_send(update->qemu->cmp->bus, &txn, 10 * ATL_SECOND, written, update);
}

static void locked(struct atl_treelock *lock, const struct atl_error *err, void *user)
{
    struct update *update = user;
    if (!lock->held) {
        update_end(update, err, NULL);
        return;
    }
    write_change(update);
}

static void update_now(const struct update *from)
{
    struct update *update = atl_new0(struct update);
    char name[32];
    *update = *from;
    (void)snprintf(name, sizeof name, "guest-%" PRIu32, update->vmid);
    atl_treelock_take(update->qemu->cmp->bus, name, LOCK_TTL_MS, 10 * ATL_SECOND, &update->lock, locked,
                      update);
}

/* What the methods share: both messages have these fields, each at its own place. */
#define UPDATE_OF(in, of_request, of_qemu)                                                                   \
    {                                                                                                        \
        .qemu = (of_qemu), .request = (of_request), .vmid = (in)->vmid, .set = (in)->config,                 \
        .remove = (in)->delete_, .revert = (in)->revert, .digest = (in)->digest,                             \
        .force = (in)->has_force && (in)->force, .skiplock = (in)->has_skiplock && (in)->skiplock            \
    }

/* Rights and everything that can be known now; a change that is refused has been answered. */
static bool admit(struct update *update, struct cmp_update_plan *ret_plan)
{
    struct atl_arena *arena = atl_request_arena(update->request);
    struct cmp_file file;
    const struct atl_file *text = NULL;
    struct atl_error error = {0};
    struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
    qemu_fill_macs(update->qemu, update->set, arena);
    enum atl_code code = check_rights(update, &error);
    if (code == ATL_OK)
        code = preview(update, &file, &text, ret_plan, errors, &error);
    if (code != ATL_OK)
        atl_request_fail(update->request, &error, errors);
    return code == ATL_OK;
}

/* The order for a worker; one that cannot be made has been answered. */
static Atoll__Qemu__V1__Work *order(const struct update *update)
{
    Atoll__Qemu__V1__Work *work = NULL;
    struct atl_error error = {0};
    if (to_work(update, &work, &error) == ATL_OK)
        return work;
    atl_request_fail(update->request, &error, NULL);
    return NULL;
}

static void answer_update(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__UpdateConfigRequest *in = (const Atoll__Qemu__V1__UpdateConfigRequest *)input;
    struct update update = UPDATE_OF(in, request, user);
    struct cmp_update_plan plan = {0};
    if (!admit(&update, &plan))
        return;
    if (plan.hot_count == 0 && plan.freed_count == 0 && !makes_volumes(&update) && update.qemu->known) {
        update_now(&update);
        return;
    }
    Atoll__Qemu__V1__Work *work = order(&update);
    if (work != NULL)
        qemu_task_wait(update.qemu, request, "qmconfig", update.vmid, work);
}

void qemu_update(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    qemu_fresh(user, request, input, ((const Atoll__Qemu__V1__UpdateConfigRequest *)input)->vmid,
               answer_update);
}

static void answer_update_task(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__UpdateConfigTaskRequest *in =
        (const Atoll__Qemu__V1__UpdateConfigTaskRequest *)input;
    struct update update = UPDATE_OF(in, request, user);
    struct cmp_update_plan plan = {0};
    const Atoll__Qemu__V1__Work *work = admit(&update, &plan) ? order(&update) : NULL;
    if (work != NULL)
        cmp_task_reply(update.qemu->cmp, request, "qmconfig",
                       atl_arena_format(atl_request_arena(request), "%" PRIu32, update.vmid), &work->base);
}

void qemu_update_task(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    qemu_fresh(user, request, input, ((const Atoll__Qemu__V1__UpdateConfigTaskRequest *)input)->vmid,
               answer_update_task);
}
