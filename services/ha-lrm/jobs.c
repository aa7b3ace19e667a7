/* The manager's orders, carried out by compute-agent. */
#include <stdlib.h>
#include <string.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "atoll/lxc/v1/lxc.pb-c.h"
#include "atoll/qemu/v1/qemu.atl.h"
#include "atoll/qemu/v1/qemu.pb-c.h"
#include "atoll/task/v1/common.pb-c.h"
#include "atoll/task/v1/task.pb-c.h"
#include "io/log.h"
#include "shell.h"

#define POLL  (200 * ATL_MS)
#define AGAIN (1 * ATL_SECOND)

static void drop(struct lrm_job *job)
{
    struct lrm_job **link = &job->lrm->jobs;
    while (*link != job)
        link = &(*link)->next;
    *link = job->next;
    if (job->call != NULL)
        atl_call_cancel(job->call);
    atl_timer_free(job->timer);
    free(job);
}

const struct lrm_job *lrm_job_of(const struct lrm *lrm, const char *sid)
{
    for (const struct lrm_job *job = lrm->jobs; job != NULL; job = job->next)
        if (strcmp(job->sid, sid) == 0)
            return job;
    return NULL;
}

bool lrm_jobs_run(const struct lrm *lrm)
{
    const struct lrm_job *job = lrm->jobs;
    while (job != NULL && job->ended)
        job = job->next;
    return job != NULL;
}

void lrm_jobs_free(struct lrm *lrm)
{
    while (lrm->jobs != NULL)
        drop(lrm->jobs);
}

static bool is_vm(const struct lrm_job *job)
{
    return strncmp(job->sid, "vm:", 3) == 0;
}

static uint32_t vmid_of(const struct lrm_job *job)
{
    return (uint32_t)strtoul(job->sid + 3, NULL, 10);
}

static void end(struct lrm_job *job, const char *outcome, const char *error)
{
    job->ended = true;
    (void)atl_copy(job->outcome, sizeof job->outcome, outcome);
    (void)atl_copy(job->error, sizeof job->error, error);
    atl_log(strcmp(outcome, "done") == 0 ? ATL_NOTICE : ATL_WARNING, "job-ended", "%s %s: %s%s%s",
            job->action, job->sid, outcome, error[0] != '\0' ? ": " : "", error);
    lrm_look_guests(job->lrm);
    lrm_wake(job->lrm);
}

/* It could not even be asked for, or another one holds the guest for a moment: the next round asks anew. */
static void give_back(void *user)
{
    struct lrm_job *job = user;
    struct lrm *lrm = job->lrm;
    job->timer = NULL;
    drop(job);
    lrm_wake(lrm);
}

static void try_later(struct lrm_job *job)
{
    job->timer = atl_loop_timer(job->lrm->loop, AGAIN, 0, give_back, job);
}

/* --- asking --- */

static void ask(struct lrm_job *job);
static void poll_task(void *user);

static void begun(const struct atl_reply *reply, void *user)
{
    struct lrm_job *job = user;
    job->call = NULL;
    if (reply->code == ATL_OK) {
        const Atoll__Task__V1__TaskRef *ref = (const void *)reply->output;
        (void)atl_copy(job->upid, sizeof job->upid, ref->upid);
        job->timer = atl_loop_timer(job->lrm->loop, POLL, 0, poll_task, job);
        return;
    }
    bool refused = reply->code == ATL_E_INVALID || reply->code == ATL_E_UNIMPLEMENTED;
    bool passes = reply->code == ATL_E_UNAVAILABLE || reply->code == ATL_E_DEADLINE ||
                  reply->code == ATL_E_ABSENT || strstr(reply->error.text, "locked (migrate)") != NULL;
    if (passes)
        try_later(job);
    else
        end(job, refused ? "refused" : "failed", reply->error.text);
}

static void call(struct lrm_job *job, const char *method, const ProtobufCMessage *input)
{
    const struct atl_call_options options = {.min_revision = atl_mirror_revision(job->lrm->mirror)};
    job->call = atl_bus_call(job->lrm->bus, atl_contract_rpc(method), input, &options, begun, job);
}

/* What is common to all requests about a guest. */
#define FILL(request, job)                                                                                   \
    do {                                                                                                     \
        (request).node = (char *)(uintptr_t)(job)->lrm->node;                                                \
        (request).vmid = vmid_of(job);                                                                       \
    } while (0)

/* A lock in the file is of work that died with the node it ran on. */
static void ask_start(struct lrm_job *job)
{
    Atoll__Qemu__V1__StartRequest vm = ATOLL__QEMU__V1__START_REQUEST__INIT;
    Atoll__Lxc__V1__StartRequest ct = ATOLL__LXC__V1__START_REQUEST__INIT;
    FILL(vm, job);
    FILL(ct, job);
    vm.has_skiplock = vm.skiplock = ct.has_skiplock = ct.skiplock = true;
    if (is_vm(job))
        call(job, "atoll.qemu.v1.Qemu.Start", &vm.base);
    else
        call(job, "atoll.lxc.v1.Lxc.Start", &ct.base);
}

static void ask_shutdown(struct lrm_job *job)
{
    Atoll__Qemu__V1__ShutdownRequest vm = ATOLL__QEMU__V1__SHUTDOWN_REQUEST__INIT;
    Atoll__Lxc__V1__ShutdownRequest ct = ATOLL__LXC__V1__SHUTDOWN_REQUEST__INIT;
    FILL(vm, job);
    FILL(ct, job);
    vm.has_forcestop = vm.forcestop = ct.has_forcestop = ct.forcestop = true;
    vm.has_timeout = ct.has_timeout = job->has_timeout;
    vm.timeout = ct.timeout = job->timeout_s;
    if (is_vm(job))
        call(job, "atoll.qemu.v1.Qemu.Shutdown", &vm.base);
    else
        call(job, "atoll.lxc.v1.Lxc.Shutdown", &ct.base);
}

static void ask_stop(struct lrm_job *job)
{
    Atoll__Qemu__V1__StopRequest vm = ATOLL__QEMU__V1__STOP_REQUEST__INIT;
    Atoll__Lxc__V1__StopRequest ct = ATOLL__LXC__V1__STOP_REQUEST__INIT;
    FILL(vm, job);
    FILL(ct, job);
    if (job->timeout_s > 0 || !job->has_timeout)
        ask_shutdown(job);
    else if (is_vm(job))
        call(job, "atoll.qemu.v1.Qemu.Stop", &vm.base);
    else
        call(job, "atoll.lxc.v1.Lxc.Stop", &ct.base);
}

static void ask_move(struct lrm_job *job, bool running)
{
    Atoll__Qemu__V1__MigrateRequest vm = ATOLL__QEMU__V1__MIGRATE_REQUEST__INIT;
    Atoll__Lxc__V1__MigrateRequest ct = ATOLL__LXC__V1__MIGRATE_REQUEST__INIT;
    FILL(vm, job);
    FILL(ct, job);
    vm.target = ct.target = job->target;
    vm.has_online = vm.online = running;
    vm.has_with_local_disks = vm.with_local_disks = running;
    ct.has_restart = ct.restart = running;
    if (is_vm(job))
        call(job, "atoll.qemu.v1.Qemu.Migrate", &vm.base);
    else
        call(job, "atoll.lxc.v1.Lxc.Migrate", &ct.base);
}

static bool is_running(const struct lrm_job *job)
{
    const Atoll__Ha__V1__GuestsReply *guests = job->lrm->guests;
    for (size_t i = 0; guests != NULL && i < guests->n_guest; i++)
        if (guests->guest[i]->vmid == vmid_of(job))
            return guests->guest[i]->running;
    return false;
}

static void ask(struct lrm_job *job)
{
    if (strcmp(job->action, "start") == 0) {
        ask_start(job);
    } else if (strcmp(job->action, "stop") == 0) {
        ask_stop(job);
    } else if (strcmp(job->action, "relocate") == 0 && !job->stopped_first && is_running(job)) {
        ask_shutdown(job);
    } else {
        job->stopped_first = true; /* or it did not run */
        ask_move(job, strcmp(job->action, "migrate") == 0 && is_running(job));
    }
}

/* --- waiting --- */

static void polled(const struct atl_reply *reply, void *user)
{
    struct lrm_job *job = user;
    const Atoll__Task__V1__GetStatusReply *status = (const void *)reply->output;
    job->call = NULL;
    if (reply->code != ATL_OK || strcmp(status->status, "stopped") != 0) {
        job->timer = atl_loop_timer(job->lrm->loop, POLL, 0, poll_task, job);
        return;
    }
    const char *exit = status->exitstatus != NULL ? status->exitstatus : "it was cut off";
    bool good = strcmp(exit, "OK") == 0 || strncmp(exit, "WARNINGS", 8) == 0;
    if (!good) {
        end(job, "failed", exit);
    } else if (strcmp(job->action, "relocate") == 0 && !job->stopped_first) {
        job->stopped_first = true;
        ask_move(job, false);
    } else {
        end(job, "done", "");
    }
}

static void poll_task(void *user)
{
    struct lrm_job *job = user;
    Atoll__Task__V1__GetStatusRequest request = ATOLL__TASK__V1__GET_STATUS_REQUEST__INIT;
    job->timer = NULL;
    request.node = (char *)(uintptr_t)job->lrm->node;
    request.upid = job->upid;
    job->call = atl_bus_call(job->lrm->bus, atl_contract_rpc("atoll.task.v1.Tasks.GetStatus"), &request.base,
                             NULL, polled, job);
}

void lrm_job_begin(struct lrm *lrm, const Atoll__Ha__V1__Job *wanted)
{
    const struct lrm_job *old = lrm_job_of(lrm, wanted->sid);
    if (old != NULL && !old->ended)
        return;
    if (old != NULL)
        drop((struct lrm_job *)(uintptr_t)old);
    struct lrm_job *job = atl_new0(struct lrm_job);
    job->lrm = lrm;
    job->next = lrm->jobs;
    lrm->jobs = job;
    (void)atl_copy(job->sid, sizeof job->sid, wanted->sid);
    (void)atl_copy(job->action, sizeof job->action, wanted->action);
    (void)atl_copy(job->target, sizeof job->target, wanted->target != NULL ? wanted->target : "");
    job->command = wanted->command;
    job->has_timeout = wanted->has_timeout_s;
    job->timeout_s = wanted->timeout_s;
    ask(job);
}
