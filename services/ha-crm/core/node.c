/* The nodes: what is asked of them, how they are, and whether guests may be put there or taken away. */
#include <stdlib.h>
#include <string.h>

#include "core/crm_part.h"

enum { DEAF_TICKS = 30 }; /* ha-lrm writes its report every ten ticks at least */

/* --- requests --- */

static int by_revision(const void *a, const void *b)
{
    const Atoll__Ha__V1__RequestView *one = *(const Atoll__Ha__V1__RequestView *const *)a;
    const Atoll__Ha__V1__RequestView *other = *(const Atoll__Ha__V1__RequestView *const *)b;
    static const Atoll__Bus__V1__Revision none = ATOLL__BUS__V1__REVISION__INIT;
    const Atoll__Bus__V1__Revision *left = one->revision == NULL ? &none : one->revision;
    const Atoll__Bus__V1__Revision *right = other->revision == NULL ? &none : other->revision;
    if (left->epoch != right->epoch)
        return left->epoch < right->epoch ? -1 : 1;
    if (left->number != right->number)
        return left->number < right->number ? -1 : 1;
    return strcmp(one->id, other->id);
}

static void set_arm(struct crm_round *round, const Atoll__Ha__V1__Request *request)
{
    bool arms = crm_is(request->kind, "arm");
    if (arms == crm_is(round->arm, "armed")) {
        (void)crm_decide(round, NULL, NULL, "drop a request", "it is %s already", round->arm);
        return;
    }
    round->arm = arms ? "armed" : "disarming";
    round->mode = crm_is(request->resource_mode, "ignore") ? "ignore" : "freeze";
    round->arm_changed = true;
    (void)crm_decide(round, NULL, NULL, request->kind, "asked for by %s",
                     request->user != NULL ? request->user : "a user");
}

static void set_maintenance(struct crm_round *round, const Atoll__Ha__V1__Request *request)
{
    int index = crm_find_node(round, request->node);
    if (index == CRM_NOWHERE) {
        (void)crm_decide(round, NULL, request->node, "drop a request", "there is no node '%s'",
                         request->node != NULL ? request->node : "");
        return;
    }
    round->node[index].maintenance = crm_is(request->kind, "maintenance-on");
    (void)crm_decide(round, NULL, request->node, request->kind, "asked for by %s",
                     request->user != NULL ? request->user : "a user");
}

/* Does this part of the core handle such requests? */
static bool take_request(struct crm_round *round, const Atoll__Ha__V1__Request *request)
{
    if (crm_is(request->kind, "arm") || crm_is(request->kind, "disarm"))
        set_arm(round, request);
    else if (crm_is(request->kind, "maintenance-on") || crm_is(request->kind, "maintenance-off"))
        set_maintenance(round, request);
    else
        return false;
    return true;
}

void crm_node_requests(struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    round->request_done = atl_arena_array(round->arena, bool, view->n_request + 1);
    round->request = atl_arena_array(round->arena, const Atoll__Ha__V1__RequestView *, view->n_request + 1);
    for (size_t i = 0; i < view->n_request; i++)
        round->request[i] = view->request[i];
    qsort(round->request, view->n_request, sizeof *round->request, by_revision);
    for (size_t i = 0; i < round->node_count; i++) {
        const Atoll__Ha__V1__NodeRecord *record = round->node[i].view->record;
        round->node[i].maintenance = record != NULL && record->maintenance;
    }
    for (size_t i = 0; i < view->n_request; i++)
        round->request_done[i] = take_request(round, round->request[i]->request);
}

/* --- how nodes are --- */

static const char *policy_of(const struct crm_round *round)
{
    const Atoll__Ha__V1__Settings *settings = round->view->settings;
    return settings != NULL && settings->shutdown_policy != NULL ? settings->shutdown_policy : "conditional";
}

static bool goes_down(const struct crm_node *node)
{
    const char *mode = node->view->report == NULL ? NULL : node->view->report->mode;
    return crm_is(mode, "shutdown") || crm_is(mode, "reboot");
}

static bool does_freeze(const struct crm_round *round, const struct crm_node *node)
{
    const char *mode = node->view->report == NULL ? NULL : node->view->report->mode;
    const char *policy = policy_of(round);
    if (crm_is(mode, "restart"))
        return true;
    return (crm_is(policy, "freeze") && goes_down(node)) ||
           (crm_is(policy, "conditional") && crm_is(mode, "reboot"));
}

static bool is_held(const struct crm_node *node)
{
    return node->view->lock != NULL && !node->view->lock->fenced;
}

/* Has the lock not changed for so long that its holder has been reset by its watchdog for sure? */
static bool is_expired(const struct crm_round *round, const struct crm_node *node)
{
    const Atoll__Ha__V1__NodeLock *lock = node->view->lock;
    uint64_t promised = atl_ha_lease_wait(lock->feed_horizon_ms, lock->watchdog_ms, lock->margin_ms);
    uint64_t wait = promised > round->times.lease_wait_ms ? promised : round->times.lease_wait_ms;
    return node->view->has_unchanged_ms && node->view->unchanged_ms >= wait;
}

/* A guest may run there that was not started under the lock, and no beat says that the watchdog would end it.
 */
static bool may_outlive(const struct crm_round *round, const struct crm_node *node)
{
    const Atoll__Ha__V1__Beat *beat = node->view->beat;
    if (beat != NULL && beat->armed && beat->incarnation == node->view->lock->incarnation)
        return false;
    for (size_t i = 0; i < round->guest_count; i++) {
        const struct crm_guest *guest = &round->guest[i];
        if (guest->service != NULL && guest->at == (int)(node - round->node) &&
            (guest->service->loose || guest->state == CRM_FREEZE))
            return true;
    }
    return false;
}

static enum crm_ground ground_of(const struct crm_round *round, const struct crm_node *node)
{
    const Atoll__Ha__V1__NodeView *view = node->view;
    bool off = view->removed || (view->power_off && !view->member);
    if (view->lock != NULL && view->lock->fenced)
        return CRM_GROUND_FENCED;
    if (crm_is(round->arm, "disarmed"))
        return CRM_GROUND_NONE;
    if (view->lock != NULL && (view->power_off || (is_expired(round, node) && !may_outlive(round, node))))
        return CRM_GROUND_TAKE;
    if (view->lock != NULL)
        return CRM_GROUND_NONE;
    if (off)
        return CRM_GROUND_OFF;
    bool lets_go = goes_down(node) && !node->freezes && !node->leave;
    return !view->member || node->deaf || lets_go ? CRM_GROUND_FREE : CRM_GROUND_NONE;
}

static bool is_silent(const struct crm_round *round, const struct crm_node *node)
{
    return is_held(node) && node->view->has_unchanged_ms &&
           node->view->unchanged_ms >= round->times.manager_wait_ms;
}

static const char *state_of(const struct crm_round *round, const struct crm_node *node)
{
    if (node->ground == CRM_GROUND_TAKE || node->ground == CRM_GROUND_FENCED)
        return "fence";
    if (node->view->removed)
        return "gone";
    if (!node->view->member || is_silent(round, node))
        return "unknown";
    return node->leave ? "maintenance" : "online";
}

static const char *why_not(const struct crm_round *round, const struct crm_node *node)
{
    const Atoll__Ha__V1__NodeView *view = node->view;
    if (node->ground == CRM_GROUND_TAKE || node->ground == CRM_GROUND_FENCED)
        return "it is fenced";
    if (view->removed)
        return "it does not belong to the cluster any more";
    if (!view->member)
        return "it is not reached";
    if (is_silent(round, node))
        return "it does not renew its lock";
    if (node->maintenance)
        return "it is in maintenance";
    if (goes_down(node))
        return "it goes down";
    if (view->report == NULL)
        return "its ha-lrm has never spoken";
    if (node->deaf)
        return "its ha-lrm says nothing";
    if (!crm_is(view->report->mode, "active") && view->report->mode != NULL)
        return "its ha-lrm takes no orders";
    return NULL;
}

bool crm_node_is_back(const struct crm_node *node)
{
    return crm_is(node->state, "online") || crm_is(node->state, "maintenance");
}

bool crm_node_takes_orders(const struct crm_node *node)
{
    const Atoll__Ha__V1__LrmReport *report = node->view->report;
    const char *mode = report == NULL ? NULL : report->mode;
    return crm_node_is_back(node) && (mode == NULL || crm_is(mode, "active") || crm_is(mode, "maintenance"));
}

static void look_at_node(struct crm_round *round, struct crm_node *node)
{
    const Atoll__Ha__V1__NodeView *view = node->view;
    uint64_t deaf_ms = (uint64_t)DEAF_TICKS * round->times.renew_ms;
    node->deaf = view->lock == NULL &&
                 (view->report == NULL || (view->has_report_age_ms && view->report_age_ms >= deaf_ms));
    node->freezes = does_freeze(round, node);
    node->leave = node->maintenance || (goes_down(node) && crm_is(policy_of(round), "migrate"));
    node->ground = ground_of(round, node);
    node->state = state_of(round, node);
    node->why_not = why_not(round, node);
    if (node->ground == CRM_GROUND_TAKE)
        (void)crm_decide(round, NULL, node->name, "fence",
                         view->power_off ? "it is switched off, its fence agent says"
                                         : "its lock has not changed for %" PRIu64
                                           " ms: its watchdog has reset it",
                         view->unchanged_ms);
}

/* Its fence agent is asked as soon as the node may have stopped feeding. */
static void look_at_power(struct crm_round *round, const struct crm_node *node)
{
    const Atoll__Ha__V1__NodeView *view = node->view;
    Atoll__Ha__V1__ManagerPlan *plan = round->plan;
    bool late = is_held(node) && view->unchanged_ms >= round->times.feed_horizon_ms;
    if (!view->can_power_off || view->power_off || view->member || !crm_is(round->arm, "armed") ||
        !(late || node->needs_power_off))
        return;
    plan->power_off =
        atl_arena_grow(round->arena, plan->power_off, plan->n_power_off, &round->power_room, sizeof(char *));
    plan->power_off[plan->n_power_off++] = atl_arena_strdup(round->arena, node->name);
}

void crm_nodes_look(struct crm_round *round)
{
    for (size_t i = 0; i < round->node_count; i++)
        look_at_node(round, &round->node[i]);
}

void crm_power_look(struct crm_round *round)
{
    for (size_t i = 0; i < round->node_count; i++)
        look_at_power(round, &round->node[i]);
}
