/* One round of the local agent: the lock, the watchdog. */
#include "lrm.h"

#include <string.h>

#include "ha/place.h"
#include "ha/txn.h"
#include "lrm_part.h"

bool lrm_text_is(const char *text, const char *word)
{
    return text != NULL && strcmp(text, word) == 0;
}

void lrm_decide(struct lrm_round *round, const char *sid, const char *what, const char *why)
{
    Atoll__Ha__V1__LrmPlan *plan = round->plan;
    Atoll__Ha__V1__Decision *decision = atl_arena_new(round->arena, Atoll__Ha__V1__Decision);
    atoll__ha__v1__decision__init(decision);
    decision->sid = sid == NULL ? NULL : atl_arena_strdup(round->arena, sid);
    decision->node = round->view->node;
    decision->what = atl_arena_strdup(round->arena, what);
    decision->why = atl_arena_strdup(round->arena, why);
    plan->decision = atl_arena_grow(round->arena, plan->decision, plan->n_decision, &round->decisions_max,
                                    sizeof(Atoll__Ha__V1__Decision *));
    plan->decision[plan->n_decision++] = decision;
}

static uint32_t greater(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* How long a renewal is good for: what the lock promises, for by that others wait. */
static uint32_t horizon_of(const struct lrm_round *round)
{
    const Atoll__Ha__V1__NodeLock *lock = round->view->lock;
    uint32_t own = round->times.feed_horizon_ms;
    return round->mine && lock->feed_horizon_ms < own ? lock->feed_horizon_ms : own;
}

/* A lock that was taken with shorter times than those of the settings is kept by its own until it is let go.
 */
static struct atl_ha_times times_of(const struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    uint32_t tick_ms = view->tick_ms != 0 ? view->tick_ms : ATL_HA_TICK_MS;
    struct atl_ha_times times = atl_ha_times_of(tick_ms);
    if (!round->mine || view->lock->feed_horizon_ms >= times.feed_horizon_ms)
        return times;
    uint64_t own = (uint64_t)tick_ms * view->lock->feed_horizon_ms / times.feed_horizon_ms;
    return atl_ha_times_of(greater((uint32_t)own, ATL_HA_TICK_MIN_MS));
}

static void look(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    const Atoll__Ha__V1__NodeLock *lock = view->lock;
    round->mine = lock != NULL && !lock->fenced && lock->incarnation == view->incarnation;
    round->times = times_of(round);
    round->lost = !round->mine && (view->lost || (view->has_renewed_ms && lock != NULL));
    round->fresh = view->has_renewed_ms && !round->lost && view->now_ms >= view->renewed_ms &&
                   view->now_ms - view->renewed_ms < horizon_of(round);
    bool ends = view->order != NULL && !lrm_text_is(view->order, "run");
    round->leaving = ends || (view->arm != NULL && !lrm_text_is(view->arm->state, "armed"));
}

static const char *path_of(const struct lrm_round *round, const char *folder)
{
    return atl_arena_format(round->arena, "%s%s", folder, round->view->node);
}

/* A transaction that holds only as long as nobody, we included, has written lock or beat since. */
static struct atl_ha_txn lock_txn(struct lrm_round *round, const char *action)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    struct atl_ha_txn txn = atl_ha_txn_begin(round->arena);
    atl_ha_txn_compare(&txn, path_of(round, ATL_HA_LOCK), view->lock == NULL ? NULL : view->lock_revision);
    atl_ha_txn_compare(&txn, path_of(round, ATL_HA_BEAT), view->beat == NULL ? NULL : view->beat_revision);
    round->plan->lock_action = atl_arena_strdup(round->arena, action);
    round->plan->lock_txn = txn.request;
    return txn;
}

/* Once armed under a lock, armed as long as it is held, whether the multiplexer can be asked or not. */
static bool is_armed(const struct lrm_round *round)
{
    const Atoll__Ha__V1__Beat *beat = round->view->beat;
    bool said = round->mine && beat != NULL && beat->incarnation == round->view->incarnation && beat->armed;
    return round->view->armed || said;
}

static void put_beat(struct lrm_round *round, struct atl_ha_txn *txn, uint64_t sequence, bool armed)
{
    Atoll__Ha__V1__Beat beat = ATOLL__HA__V1__BEAT__INIT;
    beat.incarnation = round->view->incarnation;
    beat.sequence = sequence;
    beat.has_armed = beat.armed = armed;
    beat.has_time = round->view->has_wall;
    beat.time = round->view->wall;
    atl_ha_txn_put(txn, path_of(round, ATL_HA_BEAT), &beat.base);
}

static void acquire(struct lrm_round *round, bool same_boot, const char *why)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    const struct atl_ha_times *times = &round->times;
    struct atl_ha_txn txn = lock_txn(round, "acquire");
    Atoll__Ha__V1__NodeLock lock = ATOLL__HA__V1__NODE_LOCK__INIT;
    lock.node = view->node;
    lock.incarnation = view->incarnation;
    lock.boot = view->boot;
    lock.feed_horizon_ms = times->feed_horizon_ms;
    lock.watchdog_ms = times->watchdog_ms;
    lock.margin_ms = times->margin_ms;
    if (same_boot) { /* the watchdog may still run by what the run before us promised */
        lock.feed_horizon_ms = greater(lock.feed_horizon_ms, view->lock->feed_horizon_ms);
        lock.watchdog_ms = greater(lock.watchdog_ms, view->lock->watchdog_ms);
        lock.margin_ms = greater(lock.margin_ms, view->lock->margin_ms);
    }
    atl_ha_txn_put(&txn, path_of(round, ATL_HA_LOCK), &lock.base);
    put_beat(round, &txn, 1, same_boot && view->armed);
    lrm_decide(round, NULL, "acquire the lock", why);
}

/* One attempt each tick; a lock that is held already is taken by another run of ours at once. */
static bool is_due(const struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    if (view->in_flight)
        return false;
    return !view->has_attempted_ms || view->now_ms < view->attempted_ms ||
           view->now_ms - view->attempted_ms >= round->times.renew_ms;
}

static void plan_acquire(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    const Atoll__Ha__V1__NodeLock *lock = view->lock;
    bool wanted = (round->needed && !round->leaving) || view->armed || lock != NULL;
    if (round->lost && view->armed) {
        lrm_decide(round, NULL, "let the watchdog reset this node",
                   "the lock went to somebody else while guests ran under it");
        return;
    }
    if (lock != NULL && lock->fenced) {
        lrm_decide(round, NULL, "wait", "the manager holds the lock and recovers the guests");
        return;
    }
    if (!is_due(round))
        return;
    if (lock != NULL && lrm_text_is(lock->boot, view->boot)) {
        acquire(round, true, "an earlier run of this service held it");
    } else if (wanted && view->quorate && (view->armed || !view->watchdog_down)) {
        acquire(round, false,
                lock != NULL ? "it is of an earlier boot, all that ran under it is gone"
                             : "services need it");
    } else if (wanted) {
        lrm_decide(round, NULL, "wait", view->quorate ? "there is no watchdog" : "there is no quorum");
    }
}

static void plan_release(struct lrm_round *round)
{
    struct atl_ha_txn txn = lock_txn(round, "release");
    atl_ha_txn_delete(&txn, path_of(round, ATL_HA_LOCK));
    if (round->view->beat != NULL)
        atl_ha_txn_delete(&txn, path_of(round, ATL_HA_BEAT));
    lrm_decide(round, NULL, "release the lock",
               round->leaving ? "nothing runs under it that is not frozen" : "no service needs it");
}

static void plan_hold(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    bool useful = round->needed && !round->leaving && (view->armed || !view->watchdog_down);
    bool keep = !round->quiet || useful;
    if (keep && !view->armed && !view->watchdog_down) {
        round->plan->has_arm = round->plan->arm = 1;
        lrm_decide(round, NULL, "arm the watchdog", "guests are to run under the lock");
    }
    bool news = view->armed && !view->in_flight && (view->beat == NULL || !view->beat->armed);
    if (!is_due(round) && !news)
        return;
    if (!keep) {
        plan_release(round);
        return;
    }
    struct atl_ha_txn txn = lock_txn(round, "renew");
    put_beat(round, &txn, view->beat == NULL ? 1 : view->beat->sequence + 1, is_armed(round));
}

/* The lock is gone because we let it go: only that leaves none behind while the last renewal is good. */
static bool plan_disarm(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    bool again = round->needed && !round->leaving;
    if (!view->armed || view->lock != NULL || !round->fresh || view->in_flight || !round->quiet || again)
        return false;
    round->plan->has_disarm = round->plan->disarm = 1;
    lrm_decide(round, NULL, "disarm the watchdog", "the lock is released");
    return true;
}

static void plan_feed(struct lrm_round *round)
{
    const Atoll__Ha__V1__LrmView *view = round->view;
    if (!view->armed)
        return;
    if (round->fresh) {
        round->plan->has_feed_until_ms = 1;
        round->plan->feed_until_ms = view->renewed_ms + horizon_of(round);
    } else if (view->has_renewed_ms) {
        lrm_decide(round, NULL, "stop feeding the watchdog",
                   round->lost ? "the lock is lost" : "no renewal was confirmed for too long");
    }
}

static const char *state_of(const struct lrm_round *round)
{
    if (round->lost)
        return "lost_agent_lock";
    if (round->view->maintenance)
        return "maintenance";
    return round->mine ? "active" : "wait_for_agent_lock";
}

Atoll__Ha__V1__LrmPlan *lrm_round(const Atoll__Ha__V1__LrmView *view, struct atl_arena *arena)
{
    struct lrm_round round = {
        .view = view, .arena = arena, .plan = atl_arena_new(arena, Atoll__Ha__V1__LrmPlan)};
    Atoll__Ha__V1__LrmPlan *plan = round.plan;
    atoll__ha__v1__lrm_plan__init(plan);
    look(&round);
    lrm_jobs_look(&round);
    plan->state = atl_arena_strdup(arena, state_of(&round));
    plan_feed(&round);
    if (round.mine)
        plan_hold(&round);
    else if (!plan_disarm(&round))
        plan_acquire(&round);
    lrm_jobs_plan(&round);
    lrm_report_plan(&round);
    bool ends = view->order != NULL && !lrm_text_is(view->order, "run");
    plan->has_finished = 1;
    plan->finished = ends && !round.mine && !view->armed && !view->in_flight && !round.busy &&
                     (!view->quorate || lrm_report_stands(&round));
    plan->has_wake_ms = 1;
    plan->wake_ms = round.times.renew_ms;
    return plan;
}
