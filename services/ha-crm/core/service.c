/* The states of a resource: what the user wants, what its node's ha-lrm says, what follows from it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/crm_part.h"
#include "core/place.h"

enum { RETRY_S = 15, REFUSED_RETRY_S = 120 };

/* --- changes of a record --- */

static void become(struct crm_round *round, struct crm_guest *guest, enum crm_state state, const char *why)
{
    Atoll__Ha__V1__Service *service = guest->service;
    const char *before = guest->view->service == NULL ? "new" : service->state;
    guest->state = state;
    guest->changed = true;
    service->state = atl_arena_strdup(round->arena, crm_state_text(state));
    service->why = atl_arena_strdup(round->arena, why);
    service->has_since = round->view->has_wall;
    service->since = round->view->wall;
    Atoll__Ha__V1__Decision *decision =
        crm_decide(round, guest->sid, service->node,
                   atl_arena_format(round->arena, "%s -> %s", before, service->state), "%s", why);
    decision->n_alternative = service->n_alternative;
    decision->alternative = service->alternative;
}

void crm_become(struct crm_round *round, struct crm_guest *guest, enum crm_state state, const char *format,
                ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    become(round, guest, state, text);
}

void crm_order(struct crm_round *round, struct crm_guest *guest, enum crm_state state, const char *format,
               ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    guest->service->command++;
    guest->outcome = CRM_NO_OUTCOME;
    become(round, guest, state, text);
}

static void set_loose(struct crm_guest *guest)
{
    guest->service->has_loose = guest->service->loose = 1;
}

static void wait_before_retry(struct crm_round *round, struct crm_guest *guest, int64_t seconds)
{
    guest->service->has_retry_after = 1;
    guest->service->retry_after = crm_wall(round) + seconds;
}

static bool may_retry(const struct crm_round *round, const struct crm_guest *guest)
{
    return !guest->service->has_retry_after || crm_wall(round) >= guest->service->retry_after;
}

static void forget_tries(struct crm_guest *guest)
{
    Atoll__Ha__V1__Service *service = guest->service;
    service->has_failed_starts = service->has_relocations = 0;
    service->failed_starts = service->relocations = 0;
    service->n_tried = 0;
}

static void note_tried(struct crm_round *round, struct crm_guest *guest, const char *node)
{
    Atoll__Ha__V1__Service *service = guest->service;
    for (size_t i = 0; i < service->n_tried; i++)
        if (strcmp(service->tried[i], node) == 0)
            return;
    char **tried = atl_arena_array(round->arena, char *, service->n_tried + 1);
    if (service->n_tried > 0)
        memcpy(tried, service->tried, service->n_tried * sizeof *tried);
    tried[service->n_tried++] = atl_arena_strdup(round->arena, node);
    service->tried = tried;
}

enum crm_state crm_wanted_state(const struct crm_guest *guest)
{
    if (guest->want == CRM_WANT_IGNORED)
        return CRM_IGNORED;
    return guest->want == CRM_WANT_STARTED ? CRM_REQUEST_START : CRM_REQUEST_STOP;
}

static void count(int *on_node, int old, int next)
{
    if (old != CRM_NOWHERE)
        on_node[old]--;
    if (next != CRM_NOWHERE)
        on_node[next]++;
}

void crm_aim(struct crm_round *round, struct crm_guest *guest, int node)
{
    const struct crm_rule_part *rules = &round->rules;
    bool travels = node != CRM_NOWHERE && node != guest->at && !guest->recovered;
    int leaving = travels ? guest->at : CRM_NOWHERE;
    if (guest->together != CRM_NOWHERE)
        count(rules->together[guest->together].on_node, guest->aim, node);
    for (int i = 0; i < guest->apart_count; i++) {
        const struct crm_set *set = &rules->apart[rules->apart_of[guest->first_apart + i]];
        count(set->on_node, guest->aim, node);
        count(set->leaving, guest->leaving, leaving);
    }
    guest->aim = node;
    guest->leaving = leaving;
}

/* --- beginning --- */

static void make_record(struct crm_round *round, struct crm_guest *guest)
{
    guest->service = atl_arena_new(round->arena, Atoll__Ha__V1__Service);
    atoll__ha__v1__service__init(guest->service);
    guest->service->node = guest->view->node;
}

/* Where a guest that does not run should be before it starts; CRM_NOWHERE: it may start where it is. */
static int better_start(struct crm_round *round, struct crm_guest *guest)
{
    const struct crm_place_wish here = {.avoid = CRM_NOWHERE, .tried = true, .only = guest->at};
    const Atoll__Ha__V1__Settings *settings = round->view->settings;
    bool balance = settings != NULL && settings->rebalance_on_start;
    if (guest->view->running || crm_why_stays(round, guest) != NULL)
        return CRM_NOWHERE;
    if (!balance && crm_place_against(round, guest, guest->at, &here) == NULL)
        return CRM_NOWHERE;
    const struct crm_place_wish any = {.avoid = CRM_NOWHERE, .tried = true, .only = CRM_NOWHERE};
    struct crm_choice choice = crm_place(round, guest, &any);
    if (choice.node == CRM_NOWHERE || choice.node == guest->at)
        return CRM_NOWHERE;
    crm_keep_choice(guest, &choice);
    guest->service->why = atl_arena_strdup(round->arena, choice.why);
    return choice.node;
}

static void start(struct crm_round *round, struct crm_guest *guest, const char *why)
{
    int target = better_start(round, guest);
    if (target != CRM_NOWHERE) {
        crm_send(
            round, guest, CRM_REQUEST_START_BALANCE, target,
            atl_arena_format(round->arena, "%s; it starts on a better node: %s", why, guest->service->why));
        return;
    }
    crm_aim(round, guest, guest->at);
    crm_order(round, guest, CRM_REQUEST_START, "%s", why);
}

static void follow_wish(struct crm_round *round, struct crm_guest *guest, const char *why)
{
    if (guest->want == CRM_WANT_STARTED)
        start(round, guest, why);
    else
        crm_order(round, guest, crm_wanted_state(guest), "%s", why);
}

static void begin(struct crm_round *round, struct crm_guest *guest)
{
    if (!crm_is(round->arm, "armed") || guest->at == CRM_NOWHERE ||
        !crm_node_takes_orders(&round->node[guest->at]))
        return;
    make_record(round, guest);
    set_loose(guest);
    follow_wish(round, guest, "put under high availability");
}

/* --- its file is elsewhere --- */

void crm_adopt(struct crm_round *round, struct crm_guest *guest)
{
    Atoll__Ha__V1__Service *service = guest->service;
    const char *node = round->node[guest->at].name;
    if (crm_is(service->node, node))
        return;
    bool arrived = crm_is_move(guest->state) && crm_is(service->target, node);
    int source = crm_find_node(round, service->node);
    bool source_works = source != CRM_NOWHERE && crm_node_is_back(&round->node[source]);
    bool target_works = round->node[guest->at].ground == CRM_GROUND_NONE;
    if (arrived && guest->view->locked && guest->outcome == CRM_NO_OUTCOME && source_works && target_works)
        return; /* it is still being handed over */
    const char *why = atl_arena_format(
        round->arena, arrived ? "it has come from %s" : "it was found here, not on %s", service->node);
    service->node = atl_arena_strdup(round->arena, node);
    service->target = NULL;
    set_loose(guest);
    if (guest->aim != CRM_NOWHERE)
        crm_aim(round, guest, guest->at);
    if (guest->state == CRM_IGNORED || guest->state == CRM_ERROR || guest->state == CRM_FREEZE)
        crm_become(round, guest, guest->state, "%s", why);
    else
        crm_order(round, guest, crm_wanted_state(guest), "%s", why);
}

/* --- one function for each state --- */

static const char *reason(const struct crm_guest *guest)
{
    return guest->error != NULL && guest->error[0] != '\0' ? guest->error : "its ha-lrm gives no reason";
}

static void give_up(struct crm_round *round, struct crm_guest *guest, const char *why)
{
    set_loose(guest);
    guest->service->target = NULL;
    crm_aim(round, guest, CRM_NOWHERE);
    crm_become(round, guest, CRM_ERROR, "%s: %s", why, reason(guest));
}

/* It did not start on this node as often as it may: the next one, or the end of it. */
static void try_elsewhere(struct crm_round *round, struct crm_guest *guest)
{
    const Atoll__Ha__V1__Resource *resource = guest->view->resource;
    Atoll__Ha__V1__Service *service = guest->service;
    uint32_t max = resource->has_max_relocate ? resource->max_relocate : 1;
    note_tried(round, guest, round->node[guest->at].name);
    if (service->relocations >= max) {
        give_up(round, guest, "it did not start, and may be tried on no further node");
        return;
    }
    const struct crm_place_wish wish = {.avoid = guest->at, .tried = true, .only = CRM_NOWHERE};
    struct crm_choice choice = crm_place(round, guest, &wish);
    crm_keep_choice(guest, &choice);
    if (choice.node == CRM_NOWHERE) {
        give_up(round, guest, "it did not start, and there is no other node for it");
        return;
    }
    service->has_failed_starts = 0;
    service->failed_starts = 0;
    service->has_relocations = 1;
    service->relocations++;
    crm_send(round, guest, CRM_RELOCATE, choice.node,
             atl_arena_format(round->arena, "it did not start on %s (%s): %s", service->node, reason(guest),
                              choice.why));
}

static void start_failed(struct crm_round *round, struct crm_guest *guest)
{
    const Atoll__Ha__V1__Resource *resource = guest->view->resource;
    Atoll__Ha__V1__Service *service = guest->service;
    uint32_t max = resource->has_max_restart ? resource->max_restart : 1;
    if (guest->outcome == CRM_REFUSED || service->failed_starts >= max) {
        try_elsewhere(round, guest);
        return;
    }
    service->has_failed_starts = 1;
    service->failed_starts++;
    crm_order(round, guest, CRM_REQUEST_START, "it did not start: %s; try %u of %u on this node",
              reason(guest), service->failed_starts + 1, max + 1);
}

/* The user wants something else than that it runs. */
static bool stop_or_ignore(struct crm_round *round, struct crm_guest *guest)
{
    if (guest->want == CRM_WANT_STARTED)
        return false;
    if (guest->want == CRM_WANT_IGNORED) {
        set_loose(guest);
        crm_aim(round, guest, CRM_NOWHERE);
        crm_become(round, guest, CRM_IGNORED, "it is to be ignored");
    } else {
        guest->service->has_timeout_s = 0;
        crm_order(round, guest, CRM_REQUEST_STOP, "it is to be %s",
                  guest->want == CRM_WANT_STOPPED ? "stopped" : "disabled");
    }
    return true;
}

static void step_request_start(struct crm_round *round, struct crm_guest *guest)
{
    if (stop_or_ignore(round, guest))
        return;
    if (guest->outcome == CRM_DONE) {
        forget_tries(guest);
        crm_become(round, guest, CRM_STARTED, "%s: its ha-lrm says that it runs",
                   guest->service->why != NULL ? guest->service->why : "it was to start");
    } else if (guest->outcome != CRM_NO_OUTCOME) {
        start_failed(round, guest);
    }
}

static void step_started(struct crm_round *round, struct crm_guest *guest)
{
    if (!stop_or_ignore(round, guest) && (guest->outcome == CRM_FAILED || guest->outcome == CRM_REFUSED))
        start_failed(round, guest);
}

static void step_request_stop(struct crm_round *round, struct crm_guest *guest)
{
    if (guest->want == CRM_WANT_STARTED && crm_node_takes_orders(&round->node[guest->at])) {
        crm_aim(round, guest, guest->at);
        crm_order(round, guest, CRM_REQUEST_START, "it is to be started");
    } else if (guest->want == CRM_WANT_IGNORED) {
        (void)stop_or_ignore(round, guest);
    } else if (guest->outcome == CRM_DONE) {
        forget_tries(guest);
        crm_aim(round, guest, CRM_NOWHERE);
        crm_become(round, guest, CRM_STOPPED, "it is to be %s",
                   guest->want == CRM_WANT_STOPPED ? "stopped" : "disabled");
    } else if (guest->outcome != CRM_NO_OUTCOME) {
        wait_before_retry(round, guest, RETRY_S);
        give_up(round, guest, "it did not stop");
    }
}

static void step_stopped(struct crm_round *round, struct crm_guest *guest)
{
    if (guest->want == CRM_WANT_STARTED && crm_node_takes_orders(&round->node[guest->at]))
        start(round, guest, "it is to be started");
    else if (guest->want == CRM_WANT_IGNORED)
        (void)stop_or_ignore(round, guest);
}

static void step_move(struct crm_round *round, struct crm_guest *guest)
{
    if (guest->outcome == CRM_NO_OUTCOME)
        return;
    const char *target = guest->service->target != NULL ? guest->service->target : "?";
    wait_before_retry(round, guest, guest->outcome == CRM_REFUSED ? REFUSED_RETRY_S : RETRY_S);
    guest->service->target = NULL;
    crm_aim(round, guest, guest->at);
    if (guest->service->n_tried > 0 && guest->want == CRM_WANT_STARTED) {
        note_tried(round, guest, target);
        try_elsewhere(round, guest);
        return;
    }
    crm_order(round, guest, crm_wanted_state(guest), "it did not get to %s: %s", target, reason(guest));
}

static void step_freeze(struct crm_round *round, struct crm_guest *guest)
{
    const struct crm_node *node = &round->node[guest->at];
    bool frozen_by_arm = !crm_is(round->arm, "armed") && crm_is(round->mode, "freeze");
    if (frozen_by_arm || !crm_node_takes_orders(node))
        return;
    set_loose(guest);
    follow_wish(round, guest, "it is frozen no longer");
}

static void step_fence(struct crm_round *round, struct crm_guest *guest)
{
    if (crm_node_takes_orders(&round->node[guest->at]))
        follow_wish(round, guest, "its node is back");
}

/* Its node is back, or the manager never had ground to move it. */
static void step_recovery(struct crm_round *round, struct crm_guest *guest)
{
    if (guest->want == CRM_WANT_DISABLED || guest->want == CRM_WANT_IGNORED) {
        (void)stop_or_ignore(round, guest);
        return;
    }
    if (!crm_node_takes_orders(&round->node[guest->at]))
        return;
    const struct crm_place_wish here = {.avoid = CRM_NOWHERE, .only = guest->at};
    const struct crm_place_wish any = {.avoid = guest->at, .only = CRM_NOWHERE};
    if (crm_place_against(round, guest, guest->at, &here) == NULL) {
        crm_aim(round, guest, guest->at);
        crm_order(round, guest, crm_wanted_state(guest), "its node is back");
        return;
    }
    struct crm_choice choice = crm_place(round, guest, &any);
    if (choice.node == CRM_NOWHERE)
        return;
    crm_keep_choice(guest, &choice);
    crm_send(round, guest, CRM_RELOCATE, choice.node, choice.why);
}

static void step_error(struct crm_round *round, struct crm_guest *guest)
{
    if (guest->want != CRM_WANT_DISABLED || !may_retry(round, guest))
        return;
    forget_tries(guest);
    guest->service->has_retry_after = 0;
    crm_order(round, guest, CRM_REQUEST_STOP, "it is disabled, which ends its error");
}

static void step_ignored(struct crm_round *round, struct crm_guest *guest)
{
    bool ignored_by_arm = !crm_is(round->arm, "armed") && crm_is(round->mode, "ignore");
    if (guest->want == CRM_WANT_IGNORED || ignored_by_arm || !crm_node_takes_orders(&round->node[guest->at]))
        return;
    set_loose(guest);
    follow_wish(round, guest, "it is ignored no longer");
}

static void (*const steps[CRM_STATES])(struct crm_round *, struct crm_guest *) = {
    [CRM_REQUEST_START] = step_request_start,
    [CRM_REQUEST_START_BALANCE] = step_move,
    [CRM_STARTED] = step_started,
    [CRM_REQUEST_STOP] = step_request_stop,
    [CRM_STOPPED] = step_stopped,
    [CRM_MIGRATE] = step_move,
    [CRM_RELOCATE] = step_move,
    [CRM_FREEZE] = step_freeze,
    [CRM_FENCE] = step_fence,
    [CRM_RECOVERY] = step_recovery,
    [CRM_ERROR] = step_error,
    [CRM_IGNORED] = step_ignored,
};

/* --- freezing, disarming --- */

static bool is_settled(enum crm_state state)
{
    return state == CRM_FREEZE || state == CRM_ERROR || state == CRM_IGNORED || crm_is_move(state);
}

/* It is to stay as it is: its ha-lrm restarts, its machine comes back soon, or all is being disarmed. */
static bool hold(struct crm_round *round, struct crm_guest *guest)
{
    bool disarms = crm_is(round->arm, "disarming");
    bool ignores = disarms && crm_is(round->mode, "ignore");
    bool freezes =
        (disarms && !ignores) || (round->node[guest->at].freezes && guest->want == CRM_WANT_STARTED);
    if (ignores && guest->state != CRM_IGNORED && !crm_is_move(guest->state)) {
        set_loose(guest);
        crm_become(round, guest, CRM_IGNORED, "high availability is being disarmed");
        return true;
    }
    if (!freezes || is_settled(guest->state) ||
        (guest->state == CRM_STOPPED && guest->want != CRM_WANT_STARTED))
        return false;
    set_loose(guest);
    crm_become(round, guest, CRM_FREEZE,
               disarms ? "high availability is being disarmed" : "its node's ha-lrm ends for a while");
    return true;
}

static bool nothing_is_held(const struct crm_round *round)
{
    for (size_t i = 0; i < round->node_count; i++)
        if (round->node[i].view->lock != NULL)
            return false;
    for (size_t i = 0; i < round->guest_count; i++) {
        const struct crm_guest *guest = &round->guest[i];
        if (guest->service != NULL && guest->view->resource != NULL && guest->state != CRM_STOPPED &&
            guest->state != CRM_FREEZE && guest->state != CRM_IGNORED && guest->state != CRM_ERROR)
            return false;
    }
    return true;
}

void crm_services_step(struct crm_round *round)
{
    if (crm_is(round->arm, "disarmed"))
        return;
    for (size_t i = 0; i < round->guest_count; i++) {
        struct crm_guest *guest = &round->guest[i];
        if (guest->recovered || guest->view->resource == NULL || guest->at == CRM_NOWHERE)
            continue;
        if (guest->service == NULL) {
            if (guest->sid != NULL)
                begin(round, guest);
            continue;
        }
        crm_adopt(round, guest);
        bool handed_over = !crm_is(guest->service->node, round->node[guest->at].name);
        if (!handed_over && !hold(round, guest))
            steps[guest->state](round, guest);
    }
    if (crm_is(round->arm, "disarming") && nothing_is_held(round)) {
        round->arm = "disarmed";
        round->arm_changed = true;
        (void)crm_decide(round, NULL, NULL, "disarmed", "all locks are free, all watchdogs are let go");
    }
}
