/*
 * Moving a virtual machine: after a worker that was killed. The tree says whose the guest is; this node's
 * part is made to agree with it. Both tasks may run while the other worker still works: whoever comes second
 * to the file at the source finds it changed.
 */
#include <string.h>
#include <time.h>

#include "move.h"

static void free_noted(struct work *work, const char *name)
{
    const char **volumes =
        move_lines(atl_task_noted(work->task, work->spec->upid, name, &work->arena), &work->arena);
    for (size_t i = 0; volumes[i] != NULL; i++)
        work_free_volumes(work, &volumes[i], 1);
}

enum atl_code move_recover_source(struct work *work, struct atl_error *err)
{
    struct cmp_handover handover;
    bool was_running = atl_task_noted(work->task, work->spec->upid, "running", &work->arena)[0] != '\0';
    enum atl_code code = ATL_OK;
    move_handover_init(work, work->spec->node, work->spec->move->peer, &handover);
    atl_task_log(work->task, "the migration %s was cut off", work->spec->upid);
    if (cmp_handover_settle(&handover) != CMP_SIDE_TARGET) {
        atl_task_log(work->task, "the guest stays here");
        code = was_running ? move_go_on(work, err) : move_call_off(work, err);
        return code == ATL_OK ? move_unlock(work, err) : code;
    }
    atl_task_log(work->task, "the guest is the target's");
    code = move_end_copy(work, err);
    if (code != ATL_OK)
        return code;
    free_noted(work, "moved");
    work_remove_run_dir(work);
    return ATL_OK;
}

/* What was made here and is nobody's, or is still being filled. */
static enum atl_code free_made(struct work *work, struct atl_error *err)
{
    const char **jobs =
        move_lines(atl_task_noted(work->task, work->spec->upid, "jobs", &work->arena), &work->arena);
    for (size_t i = 0; jobs[i] != NULL; i++)
        move_job_cancel(work, jobs[i]);
    const char **volumes = NULL;
    const char *noted = atl_task_noted(work->task, work->spec->upid, "keep", &work->arena);
    const char **keep = move_lines(noted, &work->arena);
    if (noted[0] == '\0')
        return ATL_OK;
    enum atl_code code = move_own_volumes(work, &volumes, err);
    for (size_t i = 0; code == ATL_OK && volumes[i] != NULL; i++) {
        bool kept = false;
        for (size_t k = 0; keep[k] != NULL && !kept; k++)
            kept = strcmp(keep[k], volumes[i]) == 0;
        if (!kept)
            work_free_volumes(work, &volumes[i], 1);
    }
    return code;
}

enum atl_code move_recover_target(struct work *work, struct atl_error *err)
{
    struct cmp_handover handover;
    enum cmp_state state = CMP_STOPPED;
    move_handover_init(work, work->spec->move->peer, work->spec->node, &handover);
    atl_task_log(work->task, "the receiving task %s was cut off", work->spec->upid);
    if (cmp_handover_settle(&handover) != CMP_SIDE_TARGET) {
        atl_task_log(work->task, "the guest stays at the source");
        enum atl_code code = move_end_copy(work, err);
        if (code == ATL_OK)
            code = free_made(work, err);
        if (code == ATL_OK)
            work_remove_run_dir(work);
        return code;
    }
    atl_task_log(work->task, "the guest is this node's");
    enum atl_code code = work->driver->state(work->engine, work->spec->vmid, &state, err);
    return code == ATL_OK && state == CMP_PAUSED ? move_wake(work, err) : code;
}

enum atl_code move_persist(struct work *work, move_deed_fn *fn, atl_ns limit, struct atl_error *err)
{
    const struct cmp_driver_options options = {.uri = work->spec->libvirt_uri,
                                               .state_dir = atl_task_state_dir(work->task)};
    atl_ns began = atl_clock_monotonic();
    bool told = false;
    for (;;) {
        struct atl_error error = {0};
        enum atl_code code = ATL_OK;
        if (work->engine == NULL)
            code = work->driver->open(&options, &work->engine, &error);
        if (code == ATL_OK)
            code = fn(work, &error);
        if (code == ATL_OK)
            return code;
        if (atl_clock_monotonic() - began > limit)
            return atl_fail(err, code, NULL, "%s", error.text);
        if (!told)
            atl_task_warn(work->task, "not done yet, trying on: %s", error.text);
        told = true;
        if (work->engine != NULL)
            work->driver->close(work->engine); /* it may have broken */
        work->engine = NULL;
        const struct timespec pause = {.tv_sec = 1};
        (void)nanosleep(&pause, NULL); /* cut short by a signal: it tries a little sooner */
    }
}
