/* The rounds of ha-lrm. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "atoll/ha/v1/local.atl.h"
#include "atoll/store/v1/store.atl.h"
#include "ha/place.h"
#include "ha/times.h"
#include "io/log.h"
#include "shell.h"

enum { SOON_MS = 3, LEAVE_S = 30, LEAVE_BUSY_S = 300 };

uint64_t lrm_now_ms(void)
{
    return (uint64_t)(atl_clock_boot() / ATL_MS);
}

/* --- doing what the core says --- */

static void reported(const struct atl_reply *reply, void *user)
{
    struct lrm *lrm = user;
    bool failed = reply->code != ATL_OK && reply->code != ATL_E_CONFLICT;
    lrm->report_busy = false;
    if (failed && !lrm->report_failing) /* it is tried again and again: said once */
        atl_log(ATL_WARNING, "report-not-written", "%s; trying again", reply->error.text);
    if (!failed && lrm->report_failing)
        atl_log(ATL_NOTICE, "report-written", "what this node says of its resources is written again");
    lrm->report_failing = failed;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void act_on_watchdog(struct lrm *lrm, const Atoll__Ha__V1__LrmView *view,
                            const Atoll__Ha__V1__LrmPlan *plan)
{
    struct atl_ha_times times = atl_ha_times_of(view->tick_ms);
    if (plan->has_feed_until_ms)
        (void)atl_watchdog_feed(lrm->watchdog, plan->feed_until_ms);
    bool again = lrm->arm_asked_ms != 0 && view->now_ms - lrm->arm_asked_ms < times.renew_ms;
    if (plan->arm && !again) { /* good as long as a feed would be, and no longer than the lock promises */
        const Atoll__Ha__V1__NodeLock *lock = view->lock;
        lrm->arm_asked_ms = view->now_ms;
        (void)atl_watchdog_arm(lrm->watchdog, smaller(times.watchdog_ms, lock->watchdog_ms),
                               lrm->lock.renewed_ms + smaller(times.feed_horizon_ms, lock->feed_horizon_ms));
    }
    if (plan->disarm)
        (void)atl_watchdog_disarm(lrm->watchdog);
}

static uint64_t hash(uint64_t seed, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)(text != NULL ? text : ""); *at != '\0'; at++)
        seed = (seed ^ *at) * 1099511628211U;
    return seed;
}

static void say(struct lrm *lrm, const Atoll__Ha__V1__LrmPlan *plan)
{
    uint64_t said = hash(14695981039346656037U, plan->state);
    for (size_t i = 0; i < plan->n_decision; i++)
        said = hash(hash(said, plan->decision[i]->what), plan->decision[i]->why);
    if (said == lrm->said)
        return;
    lrm->said = said;
    for (size_t i = 0; i < plan->n_decision; i++)
        atl_log(ATL_NOTICE, "decided", "%s: %s", plan->decision[i]->what,
                plan->decision[i]->why != NULL ? plan->decision[i]->why : "");
}

static void on_tick(void *user);

static void round_begin(struct lrm *lrm)
{
    if (!atl_mirror_ready(lrm->mirror) || lrm_lock_waits(lrm))
        return;
    atl_arena_reset(&lrm->arena);
    Atoll__Ha__V1__LrmView *view = lrm_view(lrm, &lrm->arena);
    Atoll__Ha__V1__LrmPlan *plan = lrm_round(view, &lrm->arena);
    act_on_watchdog(lrm, view, plan);
    if (plan->lock_txn != NULL)
        lrm_lock_send(lrm, plan->lock_action, plan->lock_txn);
    for (size_t i = 0; i < plan->n_job; i++)
        lrm_job_begin(lrm, plan->job[i]);
    if (plan->report_txn != NULL && !lrm->report_busy) {
        lrm->report_busy = true;
        (void)atl_bus_call(lrm->bus, atl_contract_rpc("atoll.store.v1.Store.Txn"), &plan->report_txn->base,
                           NULL, reported, lrm);
    }
    lrm->finished = plan->finished;
    say(lrm, plan);
    atl_ha_save(&lrm->saver, NULL, view, plan->n_job > 0);
    if (plan->wake_ms != lrm->wake_ms) {
        lrm->wake_ms = plan->wake_ms;
        atl_timer_free(lrm->tick);
        lrm->tick = atl_loop_timer(lrm->loop, plan->wake_ms * ATL_MS, plan->wake_ms * ATL_MS, on_tick, lrm);
    }
}

static void on_tick(void *user)
{
    struct lrm *lrm = user;
    lrm_look(lrm);
    round_begin(lrm);
}

static void on_soon(void *user)
{
    struct lrm *lrm = user;
    lrm->soon = NULL;
    round_begin(lrm);
}

void lrm_wake(struct lrm *lrm)
{
    if (lrm->soon == NULL)
        lrm->soon = atl_loop_timer(lrm->loop, SOON_MS * ATL_MS, 0, on_soon, lrm);
}

/* --- what changed --- */

static void tree_changed(const char *path, const struct atl_file *file, void *user)
{
    (void)path;
    (void)file;
    lrm_wake(user);
}

static void report_changed(const char *path, const struct atl_file *file, void *user)
{
    struct lrm *lrm = user;
    (void)path;
    (void)file;
    lrm->report_changed_ms = lrm_now_ms();
}

static void guest_changed(const struct atl_bus_event *event, void *user)
{
    (void)event;
    lrm_look_guests(user);
}

static void watchdog_changed(void *user)
{
    lrm_wake(user);
}

static void take_order(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lrm *lrm = user;
    const Atoll__Ha__V1__OrderRequest *order = (const void *)input;
    Atoll__Ha__V1__OrderReply reply = ATOLL__HA__V1__ORDER_REPLY__INIT;
    if (strcmp(lrm->order, order->order) != 0) {
        (void)atl_copy(lrm->order, sizeof lrm->order, order->order);
        lrm->ordered_ms = lrm_now_ms();
        lrm->finished = false;
        atl_log(ATL_NOTICE, "order", "%s", lrm->order);
        lrm_wake(lrm);
    }
    reply.has_done = true;
    reply.done = lrm->finished;
    atl_request_reply(request, &reply.base);
}

/* --- the program --- */

static const char *watchdog_path = NULL;

static const struct atl_program_option program_options[] = {
    {"watchdog", "SOCKET", "of atoll-watchdog (default RUN/watchdog/mux.sock)", &watchdog_path, NULL},
};

/* A name for this boot of the node: RUN is empty after each. */
static enum atl_code read_boot(struct lrm *lrm, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/ha-lrm/boot", lrm->program->run_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ssize_t size = fd >= 0 ? read(fd, lrm->boot, sizeof lrm->boot - 1) : -1;
    if (size == 0) {
        (void)snprintf(lrm->boot, sizeof lrm->boot, "%016" PRIx64, lrm->incarnation);
        size = write(fd, lrm->boot, strlen(lrm->boot));
    }
    if (fd >= 0)
        (void)close(fd);
    if (size <= 0)
        return atl_fail(err, ATL_E_IO, NULL, "%s: %s", path, strerror(errno));
    return ATL_OK;
}

static void watch(struct lrm *lrm)
{
    static const struct atl_handler handlers[] = {{"Order", take_order}};
    static const char *const watched[] = {ATL_HA_LOCK, ATL_HA_SERVICE, ATL_HA_NODE, ATL_HA_ARM};
    ATL_FREE_AT_EXIT char *own = atl_format("nodes/%s/", lrm->node);
    ATL_FREE_AT_EXIT char *report = atl_format(ATL_HA_LRM "%s", lrm->node);
    for (size_t i = 0; i < ATL_COUNT(watched); i++)
        atl_mirror_on_change(lrm->mirror, watched[i], tree_changed, lrm);
    atl_mirror_on_change(lrm->mirror, own, tree_changed, lrm);
    atl_mirror_on_change(lrm->mirror, report, report_changed, lrm);
    atl_bus_subscribe(lrm->bus, "compute-agent", "guest/", guest_changed, lrm);
    atl_bus_serve(lrm->bus, &atl_svc_ha_v1_Agent, handlers, ATL_COUNT(handlers), lrm);
}

/* A busy machine must not lose its lock for being busy. */
static void be_prompt(void)
{
    const struct sched_param first = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &first) != 0)
        atl_log(ATL_INFO, "not-first", "runs as any other process: %s", strerror(errno));
}

static enum atl_code start(struct atl_program *program, void **ret_self, struct atl_error *err)
{
    struct lrm *lrm = atl_new0(struct lrm);
    *ret_self = lrm;
    lrm->program = program;
    lrm->node = program->node;
    lrm->loop = program->loop;
    lrm->bus = program->bus;
    lrm->folder = atl_format("%s/ha-lrm", program->state_dir);
    lrm->saver.folder = lrm->folder;
    lrm->wake_ms = ATL_HA_TICK_MS;
    (void)atl_copy(lrm->order, sizeof lrm->order, "run");
    if (getrandom(&lrm->incarnation, sizeof lrm->incarnation, 0) != (ssize_t)sizeof lrm->incarnation)
        return atl_fail(err, ATL_E_IO, NULL, "the kernel gives no random bytes");
    enum atl_code code = read_boot(lrm, err);
    if (code != ATL_OK)
        return code;
    ATL_FREE_AT_EXIT char *own = atl_format("nodes/%s/", lrm->node);
    ATL_FREE_AT_EXIT char *socket = atl_format("%s/watchdog/mux.sock", program->run_dir);
    lrm->mirror = atl_mirror_open(
        lrm->bus, (const char *const[]){ATL_KEEPER_PREFIXES, ATL_HA_STATE, own, "datacenter.cfg", NULL});
    lrm->keeper = atl_keeper_new(lrm->bus, lrm->mirror);
    lrm->cluster = atl_cluster_open(&(const struct atl_cluster_options){
        .bus = lrm->bus, .mirror = lrm->mirror, .directory = program->directory, .dir = lrm->folder});
    watch(lrm);
    lrm->watchdog =
        atl_watchdog_open(lrm->loop, watchdog_path != NULL ? watchdog_path : socket, watchdog_changed, lrm);
    lrm_look(lrm);
    lrm->tick = atl_loop_timer(lrm->loop, ATL_HA_TICK_MS * ATL_MS, ATL_HA_TICK_MS * ATL_MS, on_tick, lrm);
    be_prompt();
    return ATL_OK;
}

/* An orderly end: resources are frozen or moved by the manager, the lock is released, the watchdog let go.
 * Who cannot get that far in time ends all the same: the next run has the horizon to come back. */
static void leave(struct lrm *lrm)
{
    atl_ns begin = atl_clock_monotonic();
    if (strcmp(lrm->order, "run") == 0)
        (void)atl_copy(lrm->order, sizeof lrm->order, "stop");
    lrm_wake(lrm);
    while (!lrm->finished) {
        atl_ns limit = lrm_jobs_run(lrm) ? LEAVE_BUSY_S : LEAVE_S; /* a guest that moves takes its time */
        if (atl_clock_monotonic() - begin >= limit * ATL_SECOND)
            break;
        atl_loop_step(lrm->loop, 100 * ATL_MS);
        atl_notify("WATCHDOG=1"); /* systemd's */
    }
    if (!lrm->finished)
        atl_log(ATL_WARNING, "ends-holding",
                "ends while it holds the node's lock: it must be started again soon");
}

static void stop(void *self)
{
    struct lrm *lrm = self;
    if (lrm == NULL)
        return;
    if (lrm->watchdog != NULL)
        leave(lrm);
    atl_timer_free(lrm->tick);
    atl_timer_free(lrm->soon);
    lrm_jobs_free(lrm);
    lrm_look_done(lrm);
    lrm_lock_done(lrm);
    atl_watchdog_close(&lrm->watchdog);
    atl_keeper_free(&lrm->keeper);
    atl_cluster_close(&lrm->cluster);
    if (lrm->mirror != NULL)
        atl_mirror_close(&lrm->mirror);
    atl_arena_done(&lrm->arena);
    free(lrm->folder);
    free(lrm);
}

int main(int argc, char **argv)
{
    return atl_program_main(
        &(const struct atl_program_spec){.name = "ha-lrm",
                                         .summary = "runs this node's guests under high availability",
                                         .options = program_options,
                                         .option_count = ATL_COUNT(program_options),
                                         .start = start,
                                         .stop = stop},
        argc, argv);
}
