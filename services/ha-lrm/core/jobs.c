/* What the local agent has done with each service, and what it tells the manager. */
#include <string.h>

#include "ha/place.h"
#include "ha/txn.h"
#include "lrm_part.h"

enum { REPORT_TICKS = 10 }; /* an unchanged report is written again so often, to show that we live */

/* What a state asks of the node on which the service is. */
struct duty {
    const char *state;
    const char *action; /* once for each command; NULL: nothing */
    bool lock;          /* needs the lock, running or not */
    bool idle;          /* its guest may run here without the lock */
};
static const struct duty duties[] = {
    {"request_start", "start", true, false},
    {"request_start_balance", "relocate", true, false},
    {"started", "start", true, false},
    {"request_stop", "stop", true, false},
    {"stopped", "stop", false, false},
    {"migrate", "migrate", true, false},
    {"relocate", "relocate", true, false},
    {"freeze", NULL, false, true},
    {"fence", NULL, false, false},
    {"recovery", NULL, false, false},
    {"error", NULL, false, true},
    {"ignored", NULL, false, true},
};

/* Of a state that a newer manager has: touch nothing, keep the lock. */
static const struct duty unknown_duty = {NULL, NULL, true, false};

static const struct duty *duty_of(const Atoll__Ha__V1__LocalService *local)
{
    for (size_t i = 0; i < ATL_COUNT(duties); i++)
        if (strcmp(duties[i].state, local->service->state) == 0)
            return &duties[i];
    return &unknown_duty;
}

static bool is_ours(const struct lrm_round *round, const Atoll__Ha__V1__LocalService *local)
{
    return strcmp(local->service->node, round->view->node) == 0;
}

static bool is_disarmed(const struct lrm_round *round)
{
    return round->view->arm != NULL && !lrm_text_is(round->view->arm->state, "armed");
}

static const char *policy_of(const struct lrm_round *round)
{
    return round->view->settings == NULL ? NULL : round->view->settings->shutdown_policy;
}

/* Nothing moves away without the manager, and what has not moved in time never will. */
bool lrm_stops_guests(const struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    bool down = lrm_text_is(view->order, "shutdown") || lrm_text_is(view->order, "reboot");
    bool moves = lrm_text_is(policy_of(round), "migrate") && !view->overdue && !is_disarmed(round);
    return down && !moves;
}

/* Does the guest run though the machine goes down? Those that are ignored are none of ours, unless all are.
 */
static bool must_stop(const struct lrm_round *round, const Atoll__Ha__V1__LocalService *local)
{
    bool ignored = strcmp(local->service->state, "ignored") == 0 && !is_disarmed(round);
    return lrm_stops_guests(round) && local->running && !ignored;
}

/* May the manager recover what we let go of elsewhere? Else it is to freeze it first. */
static bool fails_over(const struct lrm_round *round)
{
    const char *policy = policy_of(round);
    if (!lrm_stops_guests(round) || lrm_text_is(policy, "freeze"))
        return false;
    bool moved = lrm_text_is(policy, "migrate"); /* all that could */
    return moved || lrm_text_is(policy, "failover") || lrm_text_is(round->view->order, "shutdown");
}

/* Would the service miss the lock if it were released now? */
static bool holds_back(const struct lrm_round *round, const Atoll__Ha__V1__LocalService *local)
{
    const struct duty *duty = duty_of(local);
    bool stopped = local->known && !local->running;
    if (local->has_busy_command)
        return true;
    if (duty->idle)
        return must_stop(round, local);
    if (round->leaving && is_ours(round, local) && duty->lock && !fails_over(round))
        return local->here || !stopped; /* the manager freezes it, or moves it away */
    return local->here && !stopped;
}

void lrm_jobs_look(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    round->quiet = true;
    for (size_t i = 0; i < view->n_service; i++) {
        const Atoll__Ha__V1__LocalService *local = view->service[i];
        const struct duty *duty = duty_of(local);
        bool comes = lrm_text_is(local->service->target, view->node);
        bool runs = local->here && local->running && !duty->idle;
        round->needed |= runs || (duty->lock && (is_ours(round, local) || comes));
        round->quiet &= !holds_back(round, local);
        round->busy |= local->has_busy_command || (local->here && must_stop(round, local));
    }
}

/* The outcome of the order that the service has now, wherever it is known from. */
static const Atoll__Ha__V1__JobResult *result_of(const struct lrm_round *round,
                                                 const Atoll__Ha__V1__LocalService *local, const char *action)
{
    const Atoll__Ha__V1__LrmReport *report = round->view->report;
    const Atoll__Ha__V1__JobResult *found = local->result;
    for (size_t i = 0; found == NULL && report != NULL && i < report->n_result; i++)
        if (strcmp(report->result[i]->sid, local->sid) == 0)
            found = report->result[i];
    if (found == NULL || found->command != local->service->command)
        return NULL;
    return found->action == NULL || lrm_text_is(found->action, action) ? found : NULL;
}

static void add_job(struct lrm_round *round, const Atoll__Ha__V1__LocalService *local, const char *action,
                    const char *why)
{
    Atoll__Ha__V1__LrmPlan *plan = round->plan;
    const Atoll__Ha__V1__Service *service = local->service;
    Atoll__Ha__V1__Job *job = atl_arena_new(round->arena, Atoll__Ha__V1__Job);
    atoll__ha__v1__job__init(job);
    job->sid = local->sid;
    job->command = service->command;
    job->action = atl_arena_strdup(round->arena, action);
    if (strcmp(action, "start") != 0 && strcmp(action, "stop") != 0)
        job->target = service->target;
    if (strcmp(action, "stop") == 0 && strcmp(service->state, "request_stop") == 0) {
        job->has_timeout_s = service->has_timeout_s;
        job->timeout_s = service->timeout_s;
    }
    plan->job =
        atl_arena_grow(round->arena, plan->job, plan->n_job, &round->jobs_max, sizeof(Atoll__Ha__V1__Job *));
    plan->job[plan->n_job++] = job;
    const char *to = job->target == NULL ? "" : job->target;
    lrm_decide(round, local->sid,
               atl_arena_format(round->arena, "%s %s%s%s", action, local->sid,
                                job->target == NULL ? "" : " to ", to),
               why);
}

static void start(struct lrm_round *round, const Atoll__Ha__V1__LocalService *local)
{
    const Atoll__Ha__V1__JobResult *result = result_of(round, local, "start");
    bool wanted = strcmp(local->service->state, "request_start") == 0;
    bool failed = result != NULL && strcmp(result->outcome, "done") != 0;
    if (!local->known || local->running || failed || round->leaving)
        return;
    if (!round->view->armed && !round->view->watchdog_down)
        return; /* it is being armed */
    if (!round->view->quorate || !round->view->armed) {
        lrm_decide(round, local->sid, atl_arena_format(round->arena, "leave %s stopped", local->sid),
                   round->view->quorate ? "there is no watchdog" : "there is no quorum");
        return;
    }
    add_job(round, local, "start", wanted && result == NULL ? "the manager wants it" : "it died");
}

static void move(struct lrm_round *round, const Atoll__Ha__V1__LocalService *local, const char *action)
{
    bool carries = strcmp(action, "migrate") != 0 || round->view->armed;
    if (local->known && local->service->target != NULL && round->view->quorate && carries &&
        result_of(round, local, action) == NULL)
        add_job(round, local, action, "the manager wants it");
}

static void stop(struct lrm_round *round, const Atoll__Ha__V1__LocalService *local)
{
    bool asked = strcmp(local->service->state, "request_stop") == 0;
    if (!local->running || (asked && result_of(round, local, "stop") != NULL))
        return;
    add_job(round, local, "stop", asked ? "the manager wants it" : "it should not run");
}

/* A stop needs no lock: what runs without one is frozen, in error, or all is disarmed. */
static void stop_without_lock(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    for (size_t i = 0; i < view->n_service; i++) {
        const Atoll__Ha__V1__LocalService *local = view->service[i];
        if (local->here && !local->has_busy_command && must_stop(round, local))
            add_job(round, local, "stop", "the machine goes down");
    }
}

void lrm_jobs_plan(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    if (view->lock == NULL && !view->in_flight)
        stop_without_lock(round);
    if (!round->mine || !round->fresh)
        return;
    for (size_t i = 0; i < view->n_service; i++) {
        const Atoll__Ha__V1__LocalService *local = view->service[i];
        const char *action = duty_of(local)->action;
        if (!is_ours(round, local) || !local->here || local->has_busy_command)
            continue;
        if (round->view->releasing && !lrm_text_is(action, "stop"))
            continue; /* what begins now would run without the lock */
        if (must_stop(round, local))
            add_job(round, local, "stop", "the machine goes down");
        else if (lrm_text_is(action, "start"))
            start(round, local);
        else if (lrm_text_is(action, "stop"))
            stop(round, local);
        else if (action != NULL)
            move(round, local, action);
    }
}

/* What is to be told of the service's order; NULL: it is under way. */
static const Atoll__Ha__V1__JobResult *tell(struct lrm_round *round, const Atoll__Ha__V1__LocalService *local)
{
    const struct duty *duty = duty_of(local);
    if (duty->action == NULL || local->has_busy_command || !local->known)
        return NULL;
    if (strcmp(duty->action, "start") == 0 && !round->view->armed)
        return NULL; /* what runs without a watchdog is not answered for */
    const Atoll__Ha__V1__JobResult *known = result_of(round, local, duty->action);
    if (known != NULL)
        return known;
    bool starts = strcmp(duty->action, "start") == 0;
    bool stops = strcmp(duty->action, "stop") == 0;
    bool done = starts ? local->here && local->running : stops ? !local->running : !local->here;
    if (!done)
        return NULL;
    Atoll__Ha__V1__JobResult *result = atl_arena_new(round->arena, Atoll__Ha__V1__JobResult);
    atoll__ha__v1__job_result__init(result);
    result->sid = local->sid;
    result->command = local->service->command;
    result->outcome = atl_arena_strdup(round->arena, "done");
    result->action = atl_arena_strdup(round->arena, duty->action);
    return result;
}

static const char *mode_of(const struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    if (lrm_text_is(view->order, "stop"))
        return "restart";
    if (lrm_text_is(view->order, "shutdown") || lrm_text_is(view->order, "reboot"))
        return view->order;
    return view->maintenance ? "maintenance" : "active";
}

static Atoll__Ha__V1__LrmReport *make_report(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    Atoll__Ha__V1__LrmReport *report = atl_arena_new(round->arena, Atoll__Ha__V1__LrmReport);
    atoll__ha__v1__lrm_report__init(report);
    report->incarnation = view->incarnation;
    report->state = round->plan->state;
    report->mode = atl_arena_strdup(round->arena, mode_of(round));
    report->result = atl_arena_array(round->arena, Atoll__Ha__V1__JobResult *, view->n_service + 1);
    for (size_t i = 0; i < view->n_service; i++) {
        const Atoll__Ha__V1__JobResult *result =
            is_ours(round, view->service[i]) ? tell(round, view->service[i]) : NULL;
        if (result == NULL)
            continue;
        Atoll__Ha__V1__JobResult *copy = atl_arena_copy(round->arena, result, sizeof *result);
        report->result[report->n_result++] = copy;
    }
    return report;
}

static bool same_bytes(struct atl_arena *arena, const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    size_t length = protobuf_c_message_get_packed_size(a);
    if (protobuf_c_message_get_packed_size(b) != length)
        return false;
    uint8_t *bytes = atl_arena_alloc(arena, 2 * length + 1);
    (void)protobuf_c_message_pack(a, bytes);
    (void)protobuf_c_message_pack(b, bytes + length);
    return memcmp(bytes, bytes + length, length) == 0;
}

static bool stands(const struct lrm_round *round, const Atoll__Ha__V1__LrmReport *report)
{
    if (round->view->report == NULL)
        return false;
    Atoll__Ha__V1__LrmReport there = *round->view->report;
    there.has_time = 0;
    there.time = 0;
    return same_bytes(round->arena, &there.base, &report->base);
}

bool lrm_report_stands(const struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmReport *report = round->view->report;
    return report != NULL && report->incarnation == round->view->incarnation &&
           lrm_text_is(report->mode, mode_of(round));
}

void lrm_report_plan(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    Atoll__Ha__V1__LrmReport *report = make_report(round);
    bool old =
        view->has_report_age_ms && view->report_age_ms >= (uint64_t)REPORT_TICKS * round->times.renew_ms;
    if (stands(round, report) && !old)
        return;
    report->has_time = view->has_wall;
    report->time = view->wall;
    struct atl_ha_txn txn = atl_ha_txn_begin(round->arena);
    const char *path = atl_arena_format(round->arena, "%s%s", ATL_HA_LRM, view->node);
    atl_ha_txn_compare(&txn, path, view->report == NULL ? NULL : view->report_revision);
    if (round->mine)
        atl_ha_txn_compare(&txn, atl_arena_format(round->arena, "%s%s", ATL_HA_LOCK, view->node),
                           view->lock_revision);
    atl_ha_txn_put(&txn, path, &report->base);
    round->plan->report_txn = txn.request;
}
