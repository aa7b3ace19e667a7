/* Task workers of virtual machines: what their steps share. */
#include "work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "atoll/qemu/v1/work.atl.h"

enum { LOCK_TTL_MS = 60000 };

enum atl_code work_init(struct work *work, struct atl_task *task, const uint8_t *spec, size_t size,
                        struct atl_error *err)
{
    *work = (struct work){.task = task};
    work->spec = (const Atoll__Qemu__V1__Work *)atl_unpack(&atl_msg_qemu_v1_Work, spec, size, &work->arena);
    if (work->spec == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the specification of the task cannot be read");
    (void)snprintf(work->path, sizeof work->path, "nodes/%s/qemu-server/%" PRIu32 ".conf", work->spec->node,
                   work->spec->vmid);
    enum atl_code code = atl_task_bus(task, &work->bus, err);
    if (code != ATL_OK)
        return code;
    work->driver = cmp_driver_find(work->spec->driver);
    if (work->driver == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "there is no engine '%s'", work->spec->driver);
    const struct cmp_driver_options options = {.uri = work->spec->libvirt_uri,
                                               .state_dir = atl_task_state_dir(task)};
    return work->driver->open(&options, &work->engine, err);
}

void work_done(struct work *work)
{
    if (work->bus != NULL)
        atl_treelock_release_wait(work->bus, &work->lock);
    if (work->engine != NULL)
        work->driver->close(work->engine);
    atl_arena_done(&work->arena);
}

/* --- lock and file ----------------------------------------------------------------------------------------
 */

enum atl_code work_take(struct work *work, struct atl_error *err)
{
    char name[32];
    char owner[128];
    (void)snprintf(name, sizeof name, "guest-%" PRIu32, work->spec->vmid);
    (void)snprintf(owner, sizeof owner, "compute-agent@%.60s/%d", work->spec->node, (int)getpid());
    enum atl_code code =
        atl_treelock_wait(work->bus, name, owner, LOCK_TTL_MS, 10 * ATL_SECOND, &work->lock, err);
    if (code != ATL_OK)
        return code;
    work->locked_at = atl_clock_monotonic();
    code = work_read(work, err);
    if (code != ATL_OK)
        return code;
    const char *lock = work->file.main->state->lock;
    if (lock != NULL && !(work->spec->has_skiplock && work->spec->skiplock))
        return atl_fail(err, ATL_E_STATE, NULL, "VM is locked (%s)", lock);
    return ATL_OK;
}

enum atl_code work_keep(struct work *work, struct atl_error *err)
{
    if (atl_task_stopped(work->task))
        return atl_fail(err, ATL_E_CANCELLED, NULL, "the task was stopped");
    if (!work->lock.held || atl_clock_monotonic() - work->locked_at < LOCK_TTL_MS / 4 * ATL_MS)
        return ATL_OK;
    work->locked_at = atl_clock_monotonic();
    return atl_treelock_renew_wait(work->bus, &work->lock, err);
}

void work_sleep(struct work *work, atl_ns time)
{
    const struct timespec step = {.tv_sec = time / ATL_SECOND, .tv_nsec = time % ATL_SECOND};
    if (!atl_task_stopped(work->task))
        (void)nanosleep(&step, NULL); /* a signal may cut it short, which is wanted */
}

enum atl_code work_read(struct work *work, struct atl_error *err)
{
    struct atl_error error = {0};
    enum atl_code code = atl_store_get_wait(work->bus, work->path, &work->arena, &work->text, &error);
    if (code == ATL_E_ABSENT)
        return atl_fail(err, code, NULL, "Configuration file '%s' does not exist", work->path);
    if (code != ATL_OK)
        return atl_fail(err, code, NULL, "%s", error.text);
    return cmp_file_read(work->text.bytes, work->text.size, &work->arena, &work->file, err);
}

static enum atl_code send(struct work *work, struct atl_txn *txn, struct atl_error *err)
{
    if (work->lock.held)
        atl_txn_compare(txn, work->lock.path, work->lock.revision);
    struct atl_revision revision = {0};
    enum atl_code code = atl_txn_send_wait(work->bus, txn, 0, &revision, err);
    if (code == ATL_OK)
        work->text.revision = revision;
    return code;
}

enum atl_code work_write(struct work *work, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    ATL_TXN_AT_EXIT struct atl_txn txn;
    cmp_file_write(&work->file, &text);
    atl_txn_init(&txn);
    atl_txn_compare(&txn, work->path, work->text.revision);
    atl_txn_put(&txn, work->path, text.data, text.length);
    return send(work, &txn, err);
}

enum atl_code work_delete_file(struct work *work, struct atl_error *err)
{
    ATL_TXN_AT_EXIT struct atl_txn txn;
    atl_txn_init(&txn);
    atl_txn_compare(&txn, work->path, work->text.revision);
    atl_txn_delete(&txn, work->path);
    return send(work, &txn, err);
}
