/* Tasks of containers: start, stop, shutdown, reboot, suspend, resume. */
#include <signal.h>
#include <string.h>

#include "lxc_work.h"

enum { SHUTDOWN_S = 60 };

static enum atl_code need_free(const struct lxc_work *work, struct atl_error *err)
{
    const char *lock = cmp_lxc_doc_lock(&work->doc);
    if (lock != NULL && !(work->spec->has_skiplock && work->spec->skiplock))
        return atl_fail(err, ATL_E_CONFLICT, NULL, "CT is locked (%s)", lock);
    return ATL_OK;
}

/* For a task that needs the container as its file describes it, and free. */
static enum atl_code open_work(struct lxc_work *work, struct atl_task *task, const uint8_t *spec, size_t size,
                               struct atl_error *err)
{
    enum atl_code code = lxc_work_init(work, task, spec, size, err);
    if (code == ATL_OK)
        code = lxc_work_read(work, err);
    return code == ATL_OK ? need_free(work, err) : code;
}

/* With an engine that has no program of its own for it; else atoll-lxc-start is the worker. */
static enum atl_code task_start(struct atl_task *task, const uint8_t *spec, size_t size,
                                struct atl_error *err)
{
    LXC_WORK_AT_EXIT struct lxc_work work = {.lock_fd = -1};
    struct cmp_ct_run run;
    enum atl_code code = lxc_work_init(&work, task, spec, size, err);
    if (code == ATL_OK && work.driver->running(&work.host, work.vmid, &run)) {
        atl_task_log(task, "CT %" PRIu32 " already running", work.vmid);
        return ATL_OK;
    }
    if (code == ATL_OK && work.spec->error != NULL)
        code = atl_fail(err, ATL_E_STATE, NULL, "%s", work.spec->error);
    if (code == ATL_OK)
        code = lxc_work_read(&work, err);
    return code == ATL_OK ? lxc_work_start(&work, err) : code;
}

static enum atl_code task_stop(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    LXC_WORK_AT_EXIT struct lxc_work work = {.lock_fd = -1};
    struct cmp_ct_run run;
    enum atl_code code = lxc_work_init(&work, task, spec, size, err);
    if (code != ATL_OK)
        return code;
    if (!work.driver->running(&work.host, work.vmid, &run)) {
        atl_task_log(task, "CT %" PRIu32 " not running", work.vmid);
        return ATL_OK;
    }
    return work.driver->stop(&work.host, work.vmid, err);
}

static bool stopped(void *user)
{
    const struct lxc_work *work = user;
    return atl_task_stopped(work->task);
}

/* The signal that a raw line asks for, or 0. */
static int wanted_signal(struct lxc_work *work)
{
    const struct atl_line *raw = NULL;
    size_t count = cmp_lxc_doc_raw(&work->doc, &raw);
    for (size_t i = 0; i < count; i++)
        if (strcmp(raw[i].key, "lxc.signal.halt") == 0)
            return cmp_ct_signal(raw[i].value, SIGRTMIN);
    return 0;
}

enum atl_code lxc_work_halt(struct lxc_work *work, bool force, struct atl_error *err)
{
    int64_t seconds = work->spec->has_timeout_s ? work->spec->timeout_s : SHUTDOWN_S;
    enum atl_code code = work->driver->shutdown(&work->host, work->vmid, wanted_signal(work),
                                                seconds * ATL_SECOND, stopped, work, err);
    if (code == ATL_E_DEADLINE && atl_task_stopped(work->task))
        return atl_fail(err, ATL_E_CANCELLED, NULL, "interrupted by signal");
    if (code != ATL_E_DEADLINE || !force)
        return code;
    atl_task_log(work->task, "the container did not shut down in %" PRId64 " s and is stopped", seconds);
    return work->driver->stop(&work->host, work->vmid, err);
}

static enum atl_code task_shutdown(struct atl_task *task, const uint8_t *spec, size_t size,
                                   struct atl_error *err)
{
    LXC_WORK_AT_EXIT struct lxc_work work = {.lock_fd = -1};
    enum atl_code code = open_work(&work, task, spec, size, err);
    return code == ATL_OK ? lxc_work_halt(&work, work.spec->has_force && work.spec->force, err) : code;
}

static enum atl_code task_reboot(struct atl_task *task, const uint8_t *spec, size_t size,
                                 struct atl_error *err)
{
    LXC_WORK_AT_EXIT struct lxc_work work = {.lock_fd = -1};
    enum atl_code code = open_work(&work, task, spec, size, err);
    if (code == ATL_OK)
        code = lxc_work_halt(&work, false, err);
    return code == ATL_OK ? lxc_work_start(&work, err) : code;
}

static enum atl_code freeze(struct atl_task *task, const uint8_t *spec, size_t size, bool frozen,
                            struct atl_error *err)
{
    LXC_WORK_AT_EXIT struct lxc_work work = {.lock_fd = -1};
    struct cmp_ct_run run;
    enum atl_code code = lxc_work_init(&work, task, spec, size, err);
    if (code != ATL_OK)
        return code;
    if (!work.driver->running(&work.host, work.vmid, &run))
        return atl_fail(err, ATL_E_STATE, NULL, "CT %" PRIu32 " not running", work.vmid);
    return work.driver->freeze(&work.host, work.vmid, frozen, err);
}

static enum atl_code task_suspend(struct atl_task *task, const uint8_t *spec, size_t size,
                                  struct atl_error *err)
{
    return freeze(task, spec, size, true, err);
}

static enum atl_code task_resume(struct atl_task *task, const uint8_t *spec, size_t size,
                                 struct atl_error *err)
{
    return freeze(task, spec, size, false, err);
}

const struct atl_task_type cmp_lxc_tasks[CMP_LXC_TASKS] = {
    {"vzstart", task_start},         {"vzstop", task_stop},           {"vzshutdown", task_shutdown},
    {"vzreboot", task_reboot},       {"vzsuspend", task_suspend},     {"vzresume", task_resume},
    {"vzcreate", lxc_task_create},   {"vzdestroy", lxc_task_destroy}, {"vzresize", lxc_task_resize},
    {"vzmigrate", lxc_task_migrate},
};
