/* One round of the manager: who is it, and in which order everything is looked at. */
#include "core/crm.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/balance.h"
#include "core/crm_part.h"
#include "core/place.h"
#include "core/ruleset.h"
#include "ha/place.h"
#include "ha/txn.h"

bool crm_is(const char *text, const char *word)
{
    return text != NULL && strcmp(text, word) == 0;
}

int64_t crm_wall(const struct crm_round *round)
{
    return round->view->has_wall ? round->view->wall : 0;
}

Atoll__Ha__V1__Decision *crm_decide(struct crm_round *round, const char *sid, const char *node,
                                    const char *what, const char *format, ...)
{
    Atoll__Ha__V1__ManagerPlan *plan = round->plan;
    Atoll__Ha__V1__Decision *decision = atl_arena_new(round->arena, Atoll__Ha__V1__Decision);
    atoll__ha__v1__decision__init(decision);
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    decision->sid = sid == NULL ? NULL : atl_arena_strdup(round->arena, sid);
    decision->node = node == NULL ? NULL : atl_arena_strdup(round->arena, node);
    decision->what = atl_arena_strdup(round->arena, what);
    decision->why = atl_arena_strdup(round->arena, text);
    plan->decision = atl_arena_grow(round->arena, plan->decision, plan->n_decision, &round->decision_room,
                                    sizeof(Atoll__Ha__V1__Decision *));
    plan->decision[plan->n_decision++] = decision;
    return decision;
}

/* --- who is the manager --- */

static void add_txn(struct crm_round *round, const struct atl_ha_txn *txn)
{
    Atoll__Ha__V1__ManagerPlan *plan = round->plan;
    plan->txn = atl_arena_grow(round->arena, plan->txn, plan->n_txn, &round->txn_room,
                               sizeof(Atoll__Store__V1__TxnRequest *));
    plan->txn[plan->n_txn++] = txn->request;
}

/* Holds only as long as nobody, we included, has written the manager or its beat since. */
static struct atl_ha_txn manager_txn(struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    struct atl_ha_txn txn = atl_ha_txn_begin(round->arena);
    atl_ha_txn_compare(&txn, ATL_HA_MANAGER, view->manager == NULL ? NULL : view->manager_revision);
    atl_ha_txn_compare(&txn, ATL_HA_MANAGER_BEAT,
                       view->manager_beat == NULL ? NULL : view->manager_beat_revision);
    return txn;
}

static void put_beat(struct crm_round *round, struct atl_ha_txn *txn)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    Atoll__Ha__V1__Beat beat = ATOLL__HA__V1__BEAT__INIT;
    beat.incarnation = view->incarnation;
    beat.sequence = view->manager_beat == NULL ? 1 : view->manager_beat->sequence + 1;
    beat.has_time = view->has_wall;
    beat.time = view->wall;
    atl_ha_txn_put(txn, ATL_HA_MANAGER_BEAT, &beat.base);
}

static void become_manager(struct crm_round *round, const char *why)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    struct atl_ha_txn txn = manager_txn(round);
    Atoll__Ha__V1__Manager manager = ATOLL__HA__V1__MANAGER__INIT;
    manager.node = view->self;
    manager.incarnation = view->incarnation;
    manager.term = view->manager == NULL ? 1 : view->manager->term + 1;
    manager.has_since = view->has_wall;
    manager.since = view->wall;
    atl_ha_txn_put(&txn, ATL_HA_MANAGER, &manager.base);
    put_beat(round, &txn);
    add_txn(round, &txn);
    (void)crm_decide(round, NULL, view->self, "become the manager", "%s", why);
}

static void end_manager(struct crm_round *round)
{
    struct atl_ha_txn txn = manager_txn(round);
    atl_ha_txn_delete(&txn, ATL_HA_MANAGER);
    if (round->view->manager_beat != NULL)
        atl_ha_txn_delete(&txn, ATL_HA_MANAGER_BEAT);
    add_txn(round, &txn);
    (void)crm_decide(round, NULL, round->view->self, "hand over", "this ha-crm ends in order");
}

/* Rounds come each tick, and whenever something happens: one renewal a tick is enough. */
static void renew_manager(struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    if (view->has_manager_unchanged_ms && view->manager_unchanged_ms < round->times.renew_ms / 2)
        return;
    struct atl_ha_txn txn = manager_txn(round);
    put_beat(round, &txn);
    add_txn(round, &txn);
}

/* Of a ha-crm that is not the manager. */
static const char *stand_by(struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    if (!view->quorate)
        return "wait_for_quorum";
    if (view->ending)
        return "slave";
    if (view->manager == NULL)
        become_manager(round, "there is none");
    else if (view->has_manager_unchanged_ms && view->manager_unchanged_ms >= round->times.manager_wait_ms)
        become_manager(round, atl_arena_format(round->arena, "%s has not renewed for %" PRIu64 " ms",
                                               view->manager->node, view->manager_unchanged_ms));
    bool was = crm_is(view->last_state, "master");
    return was && view->manager != NULL ? "lost_manager_lock" : "slave";
}

/* --- one round --- */

static void look_at_arm(struct crm_round *round)
{
    const Atoll__Ha__V1__Arm *arm = round->view->arm;
    bool known = arm != NULL && (crm_is(arm->state, "disarming") || crm_is(arm->state, "disarmed"));
    round->arm = known ? arm->state : "armed";
    round->mode = arm != NULL && crm_is(arm->resource_mode, "ignore") ? "ignore" : "freeze";
}

static void manage(struct crm_round *round)
{
    look_at_arm(round);
    crm_look(round);
    crm_node_requests(round);
    crm_nodes_look(round);
    crm_ruleset_look(round);
    crm_load_look(round);
    crm_recover(round);
    crm_power_look(round);
    crm_services_step(round);
    crm_service_requests(round);
    crm_moves(round);
    crm_balance(round);
    crm_write(round);
}

Atoll__Ha__V1__ManagerPlan *crm_round(const Atoll__Ha__V1__ManagerView *view, struct atl_arena *arena)
{
    struct crm_round round = {
        .view = view, .arena = arena, .plan = atl_arena_new(arena, Atoll__Ha__V1__ManagerPlan)};
    Atoll__Ha__V1__ManagerPlan *plan = round.plan;
    atoll__ha__v1__manager_plan__init(plan);
    bool has_tick = view->settings != NULL && view->settings->tick_ms >= ATL_HA_TICK_MIN_MS &&
                    view->settings->tick_ms <= ATL_HA_TICK_MAX_MS;
    round.times = atl_ha_times_of(has_tick ? view->settings->tick_ms : ATL_HA_TICK_MS);
    plan->has_wake_ms = 1;
    plan->wake_ms = round.times.renew_ms;
    const char *state = "master";
    if (view->manager == NULL || view->manager->incarnation != view->incarnation) {
        state = stand_by(&round);
    } else if (view->ending) {
        end_manager(&round);
        state = "slave";
    } else {
        renew_manager(&round);
        if (view->quorate)
            manage(&round);
        else
            (void)crm_decide(&round, NULL, view->self, "change nothing", "there is no quorum");
    }
    plan->state = atl_arena_strdup(arena, state);
    return plan;
}
