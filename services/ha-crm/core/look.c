/* The view as the manager works on it: sorted, with indexes instead of names. */
#include <stdlib.h>
#include <string.h>

#include "core/crm_part.h"

static const char *const state_texts[CRM_STATES] = {
    "request_start", "request_start_balance",
    "started",       "request_stop",
    "stopped",       "migrate",
    "relocate",      "freeze",
    "fence",         "recovery",
    "error",         "ignored",
};

const char *crm_state_text(enum crm_state state)
{
    atl_assert(state < CRM_STATES);
    return state_texts[state];
}

bool crm_is_move(enum crm_state state)
{
    return state == CRM_MIGRATE || state == CRM_RELOCATE || state == CRM_REQUEST_START_BALANCE;
}

int crm_target(const struct crm_round *round, const struct crm_guest *guest)
{
    return guest->service != NULL && crm_is_move(guest->state) ? crm_find_node(round, guest->service->target)
                                                               : CRM_NOWHERE;
}

/* A state that only a newer manager knows is made out of what is wanted again. */
static enum crm_state state_from_text(const char *text, enum crm_state fallback)
{
    for (int i = 0; i < CRM_STATES; i++)
        if (strcmp(state_texts[i], text) == 0)
            return (enum crm_state)i;
    return fallback;
}

static enum crm_want want_of(const Atoll__Ha__V1__Resource *resource)
{
    if (crm_is(resource->state, "stopped"))
        return CRM_WANT_STOPPED;
    if (crm_is(resource->state, "disabled"))
        return CRM_WANT_DISABLED;
    return crm_is(resource->state, "ignored") ? CRM_WANT_IGNORED : CRM_WANT_STARTED;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct crm_node *)a)->name, ((const struct crm_node *)b)->name);
}

static void look_at_nodes(struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    round->node = atl_arena_array(round->arena, struct crm_node, view->n_node + 1);
    for (size_t i = 0; i < view->n_node; i++)
        round->node[i] = (struct crm_node){.view = view->node[i],
                                           .name = view->node[i]->name,
                                           .first_recovered = CRM_NOWHERE,
                                           .last_recovered = CRM_NOWHERE};
    qsort(round->node, view->n_node, sizeof *round->node, by_name);
    for (size_t i = 0; i < view->n_node; i++)
        if (round->node_count == 0 || by_name(&round->node[i], &round->node[round->node_count - 1]) != 0)
            round->node[round->node_count++] = round->node[i];
}

int crm_find_node(const struct crm_round *round, const char *name)
{
    struct crm_node key = {.name = name};
    const struct crm_node *found =
        name == NULL ? NULL : bsearch(&key, round->node, round->node_count, sizeof key, by_name);
    return found == NULL ? CRM_NOWHERE : (int)(found - round->node);
}

static int by_vmid(const void *a, const void *b)
{
    uint32_t one = ((const struct crm_guest *)a)->view->vmid;
    uint32_t other = ((const struct crm_guest *)b)->view->vmid;
    return (one > other) - (one < other);
}

int crm_find_vmid(const struct crm_round *round, uint32_t vmid)
{
    size_t low = 0;
    for (size_t high = round->guest_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (round->guest[middle].view->vmid < vmid)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < round->guest_count && round->guest[low].view->vmid == vmid;
    return found ? (int)low : CRM_NOWHERE;
}

int crm_find_sid(const struct crm_round *round, const char *sid)
{
    const char *colon = sid == NULL ? NULL : strchr(sid, ':');
    if (colon == NULL || colon[1] < '0' || colon[1] > '9')
        return CRM_NOWHERE;
    int found = crm_find_vmid(round, (uint32_t)strtoul(colon + 1, NULL, 10));
    return found != CRM_NOWHERE && crm_is(round->guest[found].sid, sid) ? found : CRM_NOWHERE;
}

static struct crm_guest look_at_guest(struct crm_round *round, const Atoll__Ha__V1__GuestView *view)
{
    struct crm_guest guest = {.view = view,
                              .at = crm_find_node(round, view->node),
                              .aim = CRM_NOWHERE,
                              .leaving = CRM_NOWHERE,
                              .move_to = CRM_NOWHERE,
                              .next_recovered = CRM_NOWHERE,
                              .request = CRM_NOWHERE,
                              .node_rule = CRM_NOWHERE,
                              .together = CRM_NOWHERE,
                              .failback = true};
    if (view->resource == NULL && view->service == NULL)
        return guest;
    guest.sid = atl_arena_format(round->arena, "%s:%" PRIu32, view->type, view->vmid);
    guest.want = CRM_WANT_IGNORED;
    if (view->resource != NULL) {
        guest.want = want_of(view->resource);
        guest.failback = !view->resource->has_failback || view->resource->failback;
    }
    if (view->service != NULL) {
        guest.service = atl_arena_copy(round->arena, view->service, sizeof *view->service);
        guest.state = state_from_text(view->service->state, crm_wanted_state(&guest));
    }
    return guest;
}

static void look_at_guests(struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    struct crm_guest *guests = atl_arena_array(round->arena, struct crm_guest, view->n_guest + 1);
    bool sorted = true;
    for (size_t i = 0; i < view->n_guest; i++) {
        guests[i] = look_at_guest(round, view->guest[i]);
        sorted = sorted && (i == 0 || by_vmid(&guests[i - 1], &guests[i]) < 0);
    }
    round->guest = guests;
    round->guest_count = view->n_guest;
    if (sorted)
        return;
    qsort(guests, view->n_guest, sizeof *guests, by_vmid);
    round->guest_count = 0;
    for (size_t i = 0; i < view->n_guest; i++)
        if (round->guest_count == 0 || by_vmid(&guests[i], &guests[round->guest_count - 1]) != 0)
            guests[round->guest_count++] = guests[i];
}

static enum crm_outcome outcome_from_text(const char *text)
{
    if (crm_is(text, "done"))
        return CRM_DONE;
    if (crm_is(text, "failed"))
        return CRM_FAILED;
    return crm_is(text, "refused") ? CRM_REFUSED : CRM_NO_OUTCOME;
}

/* Its order was done: does the guest run under the lock that its node still holds, or not at all? */
static bool lock_stands_for(const struct crm_node *node, const struct crm_guest *guest)
{
    const Atoll__Ha__V1__NodeLock *lock = node->view->lock;
    if (!crm_is(guest->service->state, crm_state_text(guest->state)))
        return false;
    if (guest->state == CRM_REQUEST_STOP || guest->state == CRM_STOPPED)
        return true;
    return (guest->state == CRM_REQUEST_START || guest->state == CRM_STARTED) && lock != NULL &&
           !lock->fenced && lock->incarnation == node->view->report->incarnation;
}

/* What ha-lrm says of the orders that stand. */
static void look_at_results(struct crm_round *round, const struct crm_node *node)
{
    const Atoll__Ha__V1__LrmReport *report = node->view->report;
    for (size_t i = 0; report != NULL && i < report->n_result; i++) {
        const Atoll__Ha__V1__JobResult *result = report->result[i];
        int found = crm_find_sid(round, result->sid);
        struct crm_guest *guest = found == CRM_NOWHERE ? NULL : &round->guest[found];
        if (guest == NULL || guest->service == NULL || guest->service->command != result->command ||
            !crm_is(guest->service->node, node->name))
            continue;
        guest->outcome = outcome_from_text(result->outcome);
        guest->error = result->error;
        if (guest->outcome == CRM_DONE && guest->service->loose && lock_stands_for(node, guest)) {
            guest->service->has_loose = guest->service->loose = 0;
            guest->changed = true;
        }
    }
}

void crm_look(struct crm_round *round)
{
    look_at_nodes(round);
    look_at_guests(round);
    for (size_t i = 0; i < round->node_count; i++)
        look_at_results(round, &round->node[i]);
}
