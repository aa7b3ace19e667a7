/* The shell of the local agent, as ha-lrm has it: view in, plan out. */
#include "services/ha-lrm/core/lrm.h"

#include <stdlib.h>
#include <string.h>

#include "sim.h"

static const ProtobufCMessage *content(const struct sim_node *node, uint32_t key,
                                       Atoll__Bus__V1__Revision **ret_revision)
{
    const struct sim_value *value = sim_file(node, key);
    if (value == NULL)
        return NULL;
    if (ret_revision != NULL)
        *ret_revision = (Atoll__Bus__V1__Revision *)(uintptr_t)&value->revision;
    return value->message;
}

static Atoll__Ha__V1__Service *service_of(const struct sim_node *node, const struct sim_guest *guest,
                                          Atoll__Bus__V1__Revision **ret_revision)
{
    return (Atoll__Ha__V1__Service *)(uintptr_t)content(node, guest->key_service, ret_revision);
}

static void give_result(const struct sim_node *node, int guest, Atoll__Ha__V1__LocalService *local,
                        struct atl_arena *arena)
{
    const struct sim_lrm *lrm = &node->lrm;
    if (!lrm->has_result[guest])
        return;
    Atoll__Ha__V1__JobResult *result = atl_arena_new(arena, Atoll__Ha__V1__JobResult);
    atoll__ha__v1__job_result__init(result);
    result->sid = local->sid;
    result->command = lrm->result_command[guest];
    result->outcome = (char *)(uintptr_t)lrm->result_outcome[guest];
    result->action = (char *)(uintptr_t)lrm->result_action[guest];
    local->result = result;
}

static void give_services(struct sim *sim, struct sim_node *node, Atoll__Ha__V1__LrmView *view,
                          struct atl_arena *arena)
{
    view->service = atl_arena_array(arena, Atoll__Ha__V1__LocalService *, (size_t)sim->guest_count + 1);
    for (int i = 0; i < sim->guest_count; i++) {
        struct sim_guest *guest = &sim->guests[i];
        Atoll__Bus__V1__Revision *revision = NULL;
        Atoll__Ha__V1__Service *service = service_of(node, guest, &revision);
        const struct sim_job *job = sim_job_of(node, i);
        bool here = node->copy.place[i] == node->index;
        if (service == NULL || (!here && job == NULL && strcmp(service->node, node->name) != 0 &&
                                (service->target == NULL || strcmp(service->target, node->name) != 0)))
            continue;
        Atoll__Ha__V1__LocalService *local = atl_arena_new(arena, Atoll__Ha__V1__LocalService);
        atoll__ha__v1__local_service__init(local);
        local->sid = guest->sid;
        local->service = service;
        local->revision = revision;
        local->has_here = local->has_running = local->has_known = 1;
        local->here = here;
        local->running = ((guest->running | guest->held) >> node->index & 1) != 0;
        local->known = 1;
        local->has_busy_command = job != NULL;
        local->busy_command = job == NULL ? 0 : job->command;
        give_result(node, i, local, arena);
        view->service[view->n_service++] = local;
    }
}

static void give_tree(struct sim *sim, struct sim_node *node, Atoll__Ha__V1__LrmView *view)
{
    int i = node->index;
    struct sim_lrm *lrm = &node->lrm;
    view->lock = (Atoll__Ha__V1__NodeLock *)(uintptr_t)content(node, sim->key_lock[i], &view->lock_revision);
    view->beat = (Atoll__Ha__V1__Beat *)(uintptr_t)content(node, sim->key_beat[i], &view->beat_revision);
    view->report =
        (Atoll__Ha__V1__LrmReport *)(uintptr_t)content(node, sim->key_lrm[i], &view->report_revision);
    view->arm = (Atoll__Ha__V1__Arm *)(uintptr_t)content(node, sim->key_arm, NULL);
    const Atoll__Ha__V1__NodeRecord *record =
        (const Atoll__Ha__V1__NodeRecord *)content(node, sim->key_node[i], NULL);
    view->has_maintenance = 1;
    view->maintenance = record != NULL && record->maintenance;
    uint64_t number = view->report == NULL ? 0 : view->report_revision->number;
    if (number != lrm->report_number) {
        lrm->report_number = number;
        lrm->report_seen_ms = view->now_ms;
    }
    view->has_report_age_ms = view->report != NULL;
    view->report_age_ms = view->now_ms - lrm->report_seen_ms;
}

static void make_view(struct sim *sim, struct sim_node *node, struct atl_arena *arena,
                      Atoll__Ha__V1__LrmView *view)
{
    struct sim_lrm *lrm = &node->lrm;
    atoll__ha__v1__lrm_view__init(view);
    view->node = node->name;
    view->now_ms = sim_local_ms(sim, node);
    view->incarnation = node->runs[SIM_LRM].run;
    view->boot = node->boot_id;
    view->has_quorate = view->has_armed = view->has_watchdog_down = view->has_in_flight = 1;
    view->quorate = node->quorate;
    view->armed = node->armed && !lrm->disarms;
    view->watchdog_down = !node->runs[SIM_MUX].alive;
    view->in_flight = lrm->call != 0 || lrm->see != 0;
    view->has_releasing = view->releasing = lrm->releasing;
    view->has_renewed_ms = lrm->has_renewed;
    view->renewed_ms = lrm->renewed_ms;
    view->has_attempted_ms = lrm->has_attempted;
    view->attempted_ms = lrm->attempted_ms;
    view->has_lost = 1;
    view->lost = lrm->lost;
    view->order = (char *)(uintptr_t)lrm->order;
    view->has_tick_ms = 1;
    view->tick_ms = sim->tick_ms;
    view->settings = &sim->settings;
    view->has_wall = 1;
    view->wall = sim->now / SIM_SECOND;
    give_tree(sim, node, view);
    give_services(sim, node, view, arena);
}

static void tell_mux(struct sim *sim, struct sim_node *node, enum sim_event_kind kind, uint64_t value)
{
    if (node->runs[SIM_MUX].alive)
        sim_push(sim, sim_between(sim, 20, 500),
                 (struct sim_event){
                     .kind = kind, .node = node->index, .guard = node->runs[SIM_MUX].run, .value = value});
}

static void send_lock(struct sim *sim, struct sim_node *node, struct sim_memory *memory,
                      const Atoll__Ha__V1__LrmView *view, const Atoll__Ha__V1__LrmPlan *plan)
{
    struct sim_lrm *lrm = &node->lrm;
    lrm->call_began_ms = lrm->attempted_ms = sim_local_ms(sim, node);
    lrm->has_attempted = true;
    (void)snprintf(lrm->call_action, sizeof lrm->call_action, "%s", plan->lock_action);
    lrm->call_sequence = view->beat == NULL ? 1 : view->beat->sequence + 1;
    lrm->call_armed = view->armed || (view->beat != NULL && view->beat->armed);
    lrm->releasing |= strcmp(plan->lock_action, "release") == 0;
    lrm->call = sim_call_send(sim, node, SIM_LRM, memory, plan->lock_txn)->id;
}

/* Says what it decides once, not in each round anew. */
static void log_decisions(struct sim *sim, struct sim_node *node, const Atoll__Ha__V1__LrmPlan *plan)
{
    struct sim_lrm *lrm = &node->lrm;
    char all[SIM_TEXT] = "";
    size_t used = 0;
    for (size_t i = 0; i < plan->n_decision && used + 1 < sizeof all; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s|", plan->decision[i]->what);
    if (strcmp(all, lrm->last) == 0)
        return;
    for (size_t i = 0; i < plan->n_decision; i++)
        if (strstr(lrm->last, plan->decision[i]->what) == NULL)
            sim_log(sim, node->name, "lrm", "%s (%s)", plan->decision[i]->what, plan->decision[i]->why);
    (void)snprintf(lrm->last, sizeof lrm->last, "%s", all);
}

static void finish(struct sim *sim, struct sim_node *node)
{
    bool again = node->runs[SIM_LRM].wanted;
    sim_log(sim, node->name, "lrm", "ended");
    sim_process_end(sim, node, SIM_LRM);
    if (again)
        sim_process_start(sim, node, SIM_LRM);
    else if (node->going)
        sim_push(sim, SIM_SECOND,
                 (struct sim_event){.kind = SIM_GONE, .node = node->index, .guard = node->boot});
}

void sim_lrm_round(struct sim *sim, struct sim_node *node)
{
    struct sim_lrm *lrm = &node->lrm;
    struct sim_memory *memory = sim_memory_take(sim);
    Atoll__Ha__V1__LrmView view;
    lrm->round_due = false;
    make_view(sim, node, &memory->arena, &view);
    const Atoll__Ha__V1__LrmPlan *plan = lrm_round(&view, &memory->arena);
    if (plan->has_feed_until_ms)
        tell_mux(sim, node, SIM_FEED, plan->feed_until_ms);
    if (plan->arm)
        tell_mux(sim, node, SIM_ARM, lrm->renewed_ms + atl_ha_times_of(sim->tick_ms).feed_horizon_ms);
    if (plan->disarm)
        tell_mux(sim, node, SIM_DISARM, node->runs[SIM_LRM].run);
    lrm->disarms |= plan->disarm && node->runs[SIM_MUX].alive;
    if (plan->lock_txn != NULL && lrm->call == 0)
        send_lock(sim, node, memory, &view, plan);
    for (size_t i = 0; i < plan->n_job; i++)
        sim_job_begin(sim, node, plan->job[i]);
    if (plan->report_txn != NULL && lrm->report_call == 0)
        lrm->report_call = sim_call_send(sim, node, SIM_LRM, memory, plan->report_txn)->id;
    if (plan->n_decision > 0 || lrm->last[0] != '\0')
        log_decisions(sim, node, plan);
    bool finished = plan->finished;
    sim_memory_give(sim, memory);
    if (finished)
        finish(sim, node);
}

void sim_lrm_wake(struct sim *sim, struct sim_node *node)
{
    if (!node->runs[SIM_LRM].alive || node->lrm.round_due)
        return;
    node->lrm.round_due = true;
    sim_push(
        sim, 500,
        (struct sim_event){.kind = SIM_ROUND_LRM, .node = node->index, .guard = node->runs[SIM_LRM].run});
}

/* What a refusal means is looked up in a tree that is as new as the refusal. */
static void settle(struct sim *sim, struct sim_node *node)
{
    struct sim_lrm *lrm = &node->lrm;
    if (lrm->see == 0 || node->copy.number < lrm->see)
        return;
    const struct sim_value *value = sim_file(node, sim->key_lock[node->index]);
    const Atoll__Ha__V1__NodeLock *lock =
        value == NULL ? NULL : (const Atoll__Ha__V1__NodeLock *)value->message;
    bool ours = lock != NULL && !lock->fenced && lock->incarnation == node->runs[SIM_LRM].run;
    if (lrm->see_acquired && ours) {
        lrm->lost = lrm->releasing = false;
        lrm->has_renewed = true;
        lrm->renewed_ms = lrm->call_began_ms;
    }
    if (lrm->see_check && lock != NULL && !ours && lrm->has_renewed)
        lrm->lost = true;
    if (lrm->see_acquired || lrm->see_check)
        sim_lrm_wake(sim, node);
    lrm->see = 0;
    lrm->see_acquired = lrm->see_check = false;
}

void sim_lrm_seen(struct sim *sim, struct sim_node *node)
{
    if (!node->runs[SIM_LRM].alive)
        return;
    settle(sim, node);
    if (node->copy.news_lrm)
        sim_lrm_wake(sim, node);
    node->copy.news_lrm = false;
}

/* The next renewal compares what this one wrote, whether our copy has it already or not. */
static void renewed(struct sim_node *node, const struct sim_call *call)
{
    struct sim_lrm *lrm = &node->lrm;
    lrm->releasing = false; /* it compared the beat that this renewal has replaced */
    lrm->has_renewed = true;
    lrm->renewed_ms = lrm->call_began_ms;
    atoll__ha__v1__beat__init(&lrm->beat);
    atoll__bus__v1__revision__init(&lrm->beat_revision);
    lrm->beat.incarnation = node->runs[SIM_LRM].run;
    lrm->beat.sequence = lrm->call_sequence;
    lrm->beat.has_armed = lrm->beat.armed = lrm->call_armed;
    lrm->beat_revision.has_epoch = lrm->beat_revision.has_number = 1;
    lrm->beat_revision.epoch = 1;
    lrm->beat_revision.number = call->number;
}

void sim_lrm_reply(struct sim *sim, struct sim_node *node, const struct sim_call *call)
{
    struct sim_lrm *lrm = &node->lrm;
    if (call->id == lrm->report_call) {
        lrm->report_call = 0;
        return;
    }
    if (call->id != lrm->call)
        return;
    lrm->call = 0;
    if (call->outcome == SIM_UNKNOWN)
        return;
    if (call->outcome == SIM_DONE && strcmp(lrm->call_action, "renew") == 0) {
        renewed(node, call);
        return;
    }
    lrm->see = call->number;
    if (call->outcome == SIM_REFUSED) {
        lrm->see_check = strcmp(lrm->call_action, "renew") == 0;
    } else {
        lrm->see_acquired = strcmp(lrm->call_action, "acquire") == 0;
        lrm->see_check = !lrm->see_acquired;
    }
    settle(sim, node);
}

void sim_lrm_timeout(struct sim *sim, struct sim_node *node, uint64_t call)
{
    struct sim_lrm *lrm = &node->lrm;
    if (!node->runs[SIM_LRM].alive)
        return;
    if (lrm->report_call == call)
        lrm->report_call = 0;
    if (lrm->call != call)
        return;
    lrm->call = 0;
    sim_lrm_wake(sim, node);
}

void sim_lrm_result(struct sim *sim, struct sim_node *node, const struct sim_job *job, const char *outcome)
{
    struct sim_lrm *lrm = &node->lrm;
    if (!node->runs[SIM_LRM].alive)
        return;
    lrm->has_result[job->guest] = true;
    lrm->result_command[job->guest] = job->command;
    (void)snprintf(lrm->result_outcome[job->guest], sizeof lrm->result_outcome[0], "%s", outcome);
    (void)snprintf(lrm->result_action[job->guest], sizeof lrm->result_action[0], "%s", job->action);
    sim_lrm_wake(sim, node);
}
