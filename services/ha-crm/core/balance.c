/* Balancing the load; see balance.h. */
#include "core/balance.h"

#include <stdlib.h>
#include <string.h>

#include "core/place.h"

enum {
    MOVES_PER_HOUR = 6,
    ADVICE_MAX = 5,
    HOUR_S = 3600,
    REST_S = 60,         /* between two moves, so that their effect is seen */
    IMBALANCE_MIN = 150, /* of the fullest node over the average, in thousandths */
    LESS_MIN = 50,       /* the target must be so much less full afterwards than the source was before */
    COST_PER_GIB = 200,  /* of moving memory, in the unit of gain */
    GIB_SHIFT = 30,
};

struct option {
    struct crm_guest *guest;
    int target;
    int64_t gain;
    int before; /* scores of source and target */
    int after;
};

static bool is_recent(const struct crm_round *round, const Atoll__Ha__V1__Move *move)
{
    return move->time > crm_wall(round) - HOUR_S;
}

static size_t recent_count(const struct crm_round *round, uint32_t vmid)
{
    size_t count = 0;
    for (size_t i = 0; i < round->view->n_recent; i++)
        count +=
            is_recent(round, round->view->recent[i]) && (vmid == 0 || round->view->recent[i]->vmid == vmid);
    return count;
}

/* The fullest node that guests may leave and others may take; CRM_NOWHERE: they carry alike. */
static int fullest(const struct crm_round *round)
{
    int64_t sum = 0;
    int count = 0;
    int worst = CRM_NOWHERE;
    int most = 0;
    for (size_t i = 0; i < round->node_count; i++) {
        if (round->node[i].why_not != NULL)
            continue;
        int score = crm_load_score(&round->node[i].load);
        sum += score;
        count++;
        if (worst == CRM_NOWHERE || score > most) {
            worst = (int)i;
            most = score;
        }
    }
    return count > 1 && most - sum / count >= IMBALANCE_MIN ? worst : CRM_NOWHERE;
}

static bool may_move(const struct crm_round *round, const struct crm_guest *guest)
{
    const Atoll__Ha__V1__Resource *resource = guest->view->resource;
    if (!guest->view->running || guest->view->bound || guest->view->locked ||
        recent_count(round, guest->view->vmid) > 0)
        return false;
    if (resource == NULL)
        return guest->service == NULL;
    bool alone = guest->together == CRM_NOWHERE || round->rules.together[guest->together].count < 2;
    bool wanted = !resource->has_auto_rebalance || resource->auto_rebalance;
    return wanted && alone && guest->service != NULL && guest->state == CRM_STARTED &&
           guest->want == CRM_WANT_STARTED && guest->service->home == NULL && guest->aim == guest->at &&
           !guest->recovered && crm_why_stays(round, guest) == NULL;
}

static struct option weigh(struct crm_round *round, struct crm_guest *guest, int target)
{
    static const struct crm_place_wish wish = {.avoid = CRM_NOWHERE, .only = CRM_NOWHERE};
    struct crm_node source = round->node[guest->at];
    struct crm_node other = round->node[target];
    struct option option = {.guest = guest, .target = target};
    int64_t before = crm_load_score(&source.load);
    int64_t there = crm_load_score(&other.load);
    crm_load_drop(&source, &guest->demand);
    crm_load_add(&other, &guest->demand);
    int64_t after = crm_load_score(&other.load);
    int64_t left = crm_load_score(&source.load);
    option.before = (int)before;
    option.after = (int)after;
    if (after + LESS_MIN > before)
        return option;
    option.gain = before * before + there * there - left * left - after * after -
                  COST_PER_GIB * (int64_t)(guest->demand.memory / (double)(1ULL << GIB_SHIFT));
    if (option.gain <= 0)
        return option;
    bool worse = guest->sid != NULL &&
                 crm_place_class(round, guest, target) < crm_place_class(round, guest, guest->at);
    if (worse || crm_place_against(round, guest, target, &wish) != NULL)
        option.gain = 0;
    return option;
}

static struct option best_option(struct crm_round *round)
{
    struct option best = {.target = CRM_NOWHERE};
    int source = fullest(round);
    for (size_t i = 0; source != CRM_NOWHERE && i < round->guest_count; i++) {
        struct crm_guest *guest = &round->guest[i];
        if (guest->at != source || guest->move_to != CRM_NOWHERE || !may_move(round, guest))
            continue;
        for (int target = 0; target < (int)round->node_count; target++) {
            if (target == source || round->node[target].why_not != NULL)
                continue;
            struct option option = weigh(round, guest, target);
            if (option.gain > best.gain)
                best = option;
        }
    }
    return best;
}

static Atoll__Ha__V1__Move *as_move(const struct crm_round *round, const struct option *option)
{
    Atoll__Ha__V1__Move *move = atl_arena_new(round->arena, Atoll__Ha__V1__Move);
    atoll__ha__v1__move__init(move);
    move->vmid = option->guest->view->vmid;
    move->from = option->guest->view->node;
    move->to = atl_arena_strdup(round->arena, round->node[option->target].name);
    move->time = crm_wall(round);
    move->why = atl_arena_format(round->arena, "%s has score %d, %s would have %d with it", move->from,
                                 option->before, move->to, option->after);
    return move;
}

static const char *name_of(const struct crm_round *round, const struct crm_guest *guest)
{
    return atl_arena_format(round->arena, "%s:%" PRIu32, guest->view->type, guest->view->vmid);
}

static void advise(struct crm_round *round, const struct option *option, Atoll__Ha__V1__Move *move)
{
    Atoll__Ha__V1__ManagerPlan *plan = round->plan;
    const char *name = name_of(round, option->guest);
    (void)crm_decide(round, name, move->to,
                     atl_arena_format(round->arena, "advise to move %s to %s", name, move->to), "%s",
                     move->why);
    plan->advice = atl_arena_grow(round->arena, plan->advice, plan->n_advice, &round->advice_room,
                                  sizeof(Atoll__Ha__V1__Move *));
    plan->advice[plan->n_advice++] = move;
    crm_load_drop(&round->node[option->guest->at], &option->guest->demand);
    crm_load_add(&round->node[option->target], &option->guest->demand);
    option->guest->move_to = option->target; /* of advice: not a second time */
}

/* A move or advice was not long ago: its effect is to be seen first. */
static bool is_resting(const struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    bool rests = view->has_balance_idle_ms && view->balance_idle_ms < (uint64_t)REST_S * 1000;
    for (size_t i = 0; i < view->n_recent && !rests; i++)
        rests = view->recent[i]->time > crm_wall(round) - REST_S;
    return rests;
}

static bool is_quiet(const struct crm_round *round)
{
    for (size_t i = 0; i < round->guest_count; i++) {
        const struct crm_guest *guest = &round->guest[i];
        if (guest->recovered || crm_is_move(guest->state))
            return false;
    }
    return true;
}

/* A guest that is no resource: its own node's compute-agent moves it. */
static void move_plain(struct crm_round *round, const struct option *option, Atoll__Ha__V1__Move *move)
{
    Atoll__Ha__V1__ManagerPlan *plan = round->plan;
    const char *name = name_of(round, option->guest);
    plan->move = atl_arena_array(round->arena, Atoll__Ha__V1__Move *, 1);
    plan->move[plan->n_move++] = move;
    (void)crm_decide(round, name, move->to, atl_arena_format(round->arena, "move %s to %s", name, move->to),
                     "%s", move->why);
}

static void act(struct crm_round *round)
{
    struct option option = best_option(round);
    if (option.target == CRM_NOWHERE)
        return;
    Atoll__Ha__V1__Move *move = as_move(round, &option);
    round->new_move = move;
    if (option.guest->view->resource == NULL)
        move_plain(round, &option, move);
    else
        crm_send(round, option.guest, crm_is(option.guest->view->type, "vm") ? CRM_MIGRATE : CRM_RELOCATE,
                 option.target, move->why);
}

void crm_balance(struct crm_round *round)
{
    const Atoll__Ha__V1__Settings *settings = round->view->settings;
    const char *mode = settings == NULL ? NULL : settings->rebalance;
    bool acts = crm_is(mode, "act");
    uint32_t most =
        settings != NULL && settings->has_moves_per_hour ? settings->moves_per_hour : MOVES_PER_HOUR;
    if ((!acts && !crm_is(mode, "advise")) || is_resting(round) || !crm_is(round->arm, "armed") ||
        !is_quiet(round))
        return;
    if (acts) {
        if (recent_count(round, 0) < most)
            act(round);
        return;
    }
    for (int i = 0; i < ADVICE_MAX; i++) {
        struct option option = best_option(round);
        if (option.target == CRM_NOWHERE)
            return;
        advise(round, &option, as_move(round, &option));
    }
}
