/* Moves of resources that run: asked for, or because of maintenance, rules and the way home. */
#include <string.h>

#include "core/crm_part.h"
#include "core/place.h"

const char *crm_why_stays(const struct crm_round *round, const struct crm_guest *guest)
{
    if (guest->view->bound)
        return "it can not leave its node";
    if (guest->view->locked)
        return "its configuration is locked";
    if (guest->service->has_retry_after && crm_wall(round) < guest->service->retry_after)
        return "a move has failed not long ago";
    return NULL;
}

void crm_send(struct crm_round *round, struct crm_guest *guest, enum crm_state state, int target,
              const char *why)
{
    guest->service->target = atl_arena_strdup(round->arena, round->node[target].name);
    crm_load_add(&round->node[target], &guest->demand);
    crm_aim(round, guest, target);
    crm_order(round, guest, state, "%s", why);
}

/* Containers can not move while they run. */
static enum crm_state live_move(const struct crm_guest *guest)
{
    return crm_is(guest->view->type, "vm") ? CRM_MIGRATE : CRM_RELOCATE;
}

/* --- those that stay together move together --- */

static size_t company(const struct crm_round *round, const struct crm_guest *guest)
{
    return guest->together == CRM_NOWHERE ? 1 : round->rules.together[guest->together].count;
}

static struct crm_guest *companion(struct crm_round *round, struct crm_guest *guest, size_t index)
{
    return guest->together == CRM_NOWHERE
               ? guest
               : &round->guest[round->rules.together[guest->together].member[index]];
}

static bool is_under_way(const struct crm_guest *guest)
{
    return guest->service == NULL || guest->recovered || guest->state == CRM_REQUEST_START ||
           crm_is_move(guest->state);
}

/* Can all of them go to that node now? NULL: yes. */
static const char *why_all_stay(struct crm_round *round, struct crm_guest *guest, int target)
{
    for (size_t i = 0; i < company(round, guest); i++) {
        struct crm_guest *other = companion(round, guest, i);
        if (other == guest || other->at == target)
            continue;
        if (is_under_way(other))
            return atl_arena_format(round->arena, "%s is under way", other->sid);
        if (other->state == CRM_STARTED && crm_why_stays(round, other) != NULL)
            return atl_arena_format(round->arena, "%s: %s", other->sid, crm_why_stays(round, other));
    }
    return NULL;
}

static void send_all(struct crm_round *round, struct crm_guest *guest, int target, const char *why)
{
    for (size_t i = 0; i < company(round, guest); i++) {
        struct crm_guest *other = companion(round, guest, i);
        if (other->at == target || other->at == CRM_NOWHERE || other->state != CRM_STARTED)
            continue;
        crm_send(round, other, live_move(other), target,
                 other == guest ? why
                                : atl_arena_format(round->arena, "it goes with %s: %s", guest->sid, why));
    }
}

/* --- moves of our own motion --- */

/* Why it does not move, once. */
static void note(struct crm_guest *guest, struct crm_round *round, const char *why)
{
    if (crm_is(guest->service->why, why))
        return;
    guest->service->why = atl_arena_strdup(round->arena, why);
    guest->changed = true;
}

static bool leave_node(struct crm_round *round, struct crm_guest *guest)
{
    struct crm_node *node = &round->node[guest->at];
    if (!node->leave)
        return false;
    const char *stays = crm_why_stays(round, guest);
    const struct crm_place_wish wish = {.avoid = guest->at, .only = CRM_NOWHERE};
    struct crm_choice choice = {.node = CRM_NOWHERE, .why = stays};
    if (stays == NULL)
        choice = crm_place(round, guest, &wish);
    if (choice.node == CRM_NOWHERE) {
        note(guest, round,
             atl_arena_format(round->arena, "%s is to be left, but: %s", node->name, choice.why));
        return true;
    }
    if (guest->service->home == NULL && guest->failback)
        guest->service->home = atl_arena_strdup(round->arena, node->name);
    crm_keep_choice(guest, &choice);
    crm_send(round, guest, guest->state == CRM_STARTED ? live_move(guest) : CRM_RELOCATE, choice.node,
             atl_arena_format(round->arena, "%s is to be left: %s", node->name, choice.why));
    return true;
}

/* Its rules do not let it be where it is, or there is a node that they value more. */
static bool obey_rules(struct crm_round *round, struct crm_guest *guest)
{
    const struct crm_place_wish here = {.avoid = CRM_NOWHERE, .only = guest->at};
    bool has_rules =
        guest->node_rule != CRM_NOWHERE || guest->together != CRM_NOWHERE || guest->apart_count > 0;
    if (!has_rules || crm_why_stays(round, guest) != NULL)
        return false;
    const char *against = crm_place_against(round, guest, guest->at, &here);
    bool drawn = guest->node_rule != CRM_NOWHERE || guest->together != CRM_NOWHERE;
    if (against == NULL && (!guest->failback || !drawn))
        return false;
    struct crm_place_wish any = {.avoid = CRM_NOWHERE, .only = CRM_NOWHERE};
    struct crm_choice choice = crm_place(round, guest, &any);
    bool alone = choice.node != CRM_NOWHERE && choice.node != guest->at;
    if (!alone) { /* the others of its set hold it here: all of them may go */
        any.whole = true;
        choice = crm_place(round, guest, &any);
    }
    if (choice.node == CRM_NOWHERE || choice.node == guest->at)
        return false;
    if (against == NULL &&
        crm_place_class(round, guest, choice.node) <= crm_place_class(round, guest, guest->at))
        return false;
    if (any.whole && why_all_stay(round, guest, choice.node) != NULL)
        return false;
    const char *why = atl_arena_format(
        round->arena, "%s: %s", against != NULL ? against : "its rule prefers another node", choice.why);
    crm_keep_choice(guest, &choice);
    if (any.whole)
        send_all(round, guest, choice.node, why);
    else
        crm_send(round, guest, live_move(guest), choice.node, why);
    return true;
}

static bool go_home(struct crm_round *round, struct crm_guest *guest)
{
    int home = crm_find_node(round, guest->service->home);
    const struct crm_place_wish wish = {.avoid = CRM_NOWHERE, .whole = true, .only = CRM_NOWHERE};
    if (guest->service->home == NULL)
        return false;
    bool better_here =
        home != CRM_NOWHERE && crm_place_class(round, guest, home) < crm_place_class(round, guest, guest->at);
    if (home == CRM_NOWHERE || home == guest->at || better_here || round->node[home].view->removed) {
        guest->service->home = NULL;
        guest->changed = true;
        return false;
    }
    if (round->node[home].why_not != NULL || crm_why_stays(round, guest) != NULL ||
        crm_place_against(round, guest, home, &wish) != NULL || why_all_stay(round, guest, home) != NULL)
        return false;
    guest->service->home = NULL;
    send_all(round, guest, home,
             atl_arena_format(round->arena, "%s is back in service", round->node[home].name));
    return true;
}

/* It was to start on a node that goes down, which starts nothing any more. */
static bool is_stranded(const struct crm_node *node, const struct crm_guest *guest)
{
    return guest->state == CRM_REQUEST_START && node->leave && crm_node_is_back(node) &&
           !crm_node_takes_orders(node) && !guest->view->running;
}

void crm_moves(struct crm_round *round)
{
    if (!crm_is(round->arm, "armed"))
        return;
    for (size_t i = 0; i < round->guest_count; i++) {
        struct crm_guest *guest = &round->guest[i];
        if (guest->service == NULL || guest->view->resource == NULL || guest->want != CRM_WANT_STARTED ||
            guest->recovered || guest->at == CRM_NOWHERE)
            continue;
        const struct crm_node *node = &round->node[guest->at];
        if (is_stranded(node, guest))
            (void)leave_node(round, guest);
        if (guest->state != CRM_STARTED)
            continue;
        if (!crm_node_is_back(node) || node->freezes || (node->why_not != NULL && !node->leave))
            continue;
        if (!leave_node(round, guest) && !obey_rules(round, guest))
            (void)go_home(round, guest);
    }
}

/* --- requests --- */

static void drop(struct crm_round *round, size_t index, const char *why)
{
    const Atoll__Ha__V1__Request *request = round->request[index]->request;
    round->request_done[index] = true;
    (void)crm_decide(round, request->sid, request->node,
                     atl_arena_format(round->arena, "drop a request (%s)", request->kind), "%s", why);
}

static void request_move(struct crm_round *round, struct crm_guest *guest,
                         const Atoll__Ha__V1__Request *request)
{
    size_t index = (size_t)guest->request;
    int target = crm_find_node(round, request->node);
    const struct crm_place_wish wish = {.avoid = CRM_NOWHERE, .whole = true, .only = CRM_NOWHERE};
    bool rests = guest->state == CRM_STOPPED;
    if (target == CRM_NOWHERE) {
        drop(round, index, "there is no such node");
        return;
    }
    if (guest->state == CRM_ERROR || guest->state == CRM_IGNORED || guest->state == CRM_FENCE ||
        guest->state == CRM_RECOVERY) {
        drop(round, index,
             atl_arena_format(round->arena, "it is in state '%s'", crm_state_text(guest->state)));
        return;
    }
    if ((guest->state != CRM_STARTED && !rests) || guest->view->locked)
        return; /* when what is under way has ended */
    const char *against =
        guest->at == target ? "it is there already" : crm_place_against(round, guest, target, &wish);
    if (against != NULL) {
        drop(round, index, against);
        return;
    }
    if (why_all_stay(round, guest, target) != NULL)
        return;
    const char *why =
        atl_arena_format(round->arena, "asked for by %s", request->user != NULL ? request->user : "a user");
    round->request_done[index] = true;
    guest->service->home = NULL;
    if (rests || crm_is(request->kind, "relocate"))
        crm_send(round, guest, CRM_RELOCATE, target, why);
    if (!rests)
        send_all(round, guest, target, why);
}

/* The user's wish stands in the configuration already; this tells how long it may take. */
static void request_stop(struct crm_round *round, struct crm_guest *guest,
                         const Atoll__Ha__V1__Request *request)
{
    size_t index = (size_t)guest->request;
    bool wanted = guest->want == CRM_WANT_STOPPED || guest->want == CRM_WANT_DISABLED;
    if (!wanted) {
        drop(round, index, "it is not to be stopped, its configuration says");
        return;
    }
    if (guest->state == CRM_STOPPED || guest->state == CRM_ERROR || guest->state == CRM_IGNORED) {
        drop(round, index, "it does not run");
        return;
    }
    if (guest->state != CRM_REQUEST_STOP)
        return;
    round->request_done[index] = true;
    guest->service->has_timeout_s = 1;
    guest->service->timeout_s = request->timeout_s;
    crm_order(round, guest, CRM_REQUEST_STOP, "asked for by %s, within %u s",
              request->user != NULL ? request->user : "a user", request->timeout_s);
}

/* The latest about each resource is the one that counts. */
static void assign(struct crm_round *round, size_t index)
{
    const Atoll__Ha__V1__Request *request = round->request[index]->request;
    bool known = crm_is(request->kind, "migrate") || crm_is(request->kind, "relocate") ||
                 crm_is(request->kind, "stop");
    int found = crm_find_sid(round, request->sid);
    if (!known) {
        drop(round, index, "it is of no known kind");
    } else if (found == CRM_NOWHERE || round->guest[found].view->resource == NULL) {
        drop(round, index, "there is no such resource");
    } else {
        if (round->guest[found].request != CRM_NOWHERE)
            drop(round, (size_t)round->guest[found].request, "a later one has come");
        round->guest[found].request = (int)index;
    }
}

void crm_service_requests(struct crm_round *round)
{
    for (size_t i = 0; i < round->view->n_request; i++)
        if (!round->request_done[i])
            assign(round, i);
    for (size_t i = 0; i < round->guest_count && round->view->n_request > 0; i++) {
        struct crm_guest *guest = &round->guest[i];
        if (guest->request == CRM_NOWHERE || guest->service == NULL || guest->recovered ||
            guest->at == CRM_NOWHERE)
            continue;
        const Atoll__Ha__V1__Request *request = round->request[guest->request]->request;
        if (crm_is(request->kind, "stop"))
            request_stop(round, guest, request);
        else if (crm_is(guest->service->node, round->node[guest->at].name))
            request_move(round, guest, request);
    }
}
