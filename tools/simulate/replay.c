/* One round again, from what a shell has saved; and a whole cluster made out of that. */
#include "replay.h"

#include <string.h>

#include "ha/place.h"
#include "services/ha-crm/core/crm.h"
#include "services/ha-lrm/core/lrm.h"

enum { SAVED_MAX = 64 << 20 };

static enum atl_code read_saved(const char *path, Atoll__Ha__V1__Saved **ret_saved, struct atl_error *err)
{
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return atl_fail(err, ATL_E_ABSENT, NULL, "cannot open %s", path);
    struct atl_buf bytes = {0};
    size_t got = 0;
    do {
        got = fread(atl_buf_reserve(&bytes, 65536), 1, 65536, file);
        bytes.length += got;
    } while (got > 0 && bytes.length < SAVED_MAX);
    (void)fclose(file); /* it was only read */
    Atoll__Ha__V1__Saved *saved =
        atoll__ha__v1__saved__unpack(NULL, bytes.length, (const uint8_t *)bytes.data);
    atl_buf_done(&bytes);
    if (saved == NULL)
        return atl_fail(err, ATL_E_INVALID, NULL, "%s is no saved view", path);
    *ret_saved = saved;
    return ATL_OK;
}

static void print_decisions(FILE *out, Atoll__Ha__V1__Decision *const *decisions, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const Atoll__Ha__V1__Decision *decision = decisions[i];
        (void)fprintf(out, "decides: %s%s%s%s\n", decision->what, decision->why == NULL ? "" : " (",
                      decision->why == NULL ? "" : decision->why, decision->why == NULL ? "" : ")");
        for (size_t k = 0; k < decision->n_alternative; k++)
            (void)fprintf(out, "  instead: %s\n", decision->alternative[k]);
    }
}

static void print_txn(FILE *out, const Atoll__Store__V1__TxnRequest *txn)
{
    for (size_t i = 0; i < txn->n_operation; i++)
        (void)fprintf(out, "writes: %s %s%s%s\n", txn->operation[i]->kind, txn->operation[i]->path,
                      txn->operation[i]->to == NULL ? "" : " to ",
                      txn->operation[i]->to == NULL ? "" : txn->operation[i]->to);
}

static void replay_manager(const Atoll__Ha__V1__ManagerView *view, FILE *out)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const Atoll__Ha__V1__ManagerPlan *plan = crm_round(view, &arena);
    (void)fprintf(out, "manager on %s: %s, %zu nodes, %zu guests\n", view->self, plan->state, view->n_node,
                  view->n_guest);
    print_decisions(out, plan->decision, plan->n_decision);
    for (size_t i = 0; i < plan->n_txn; i++)
        print_txn(out, plan->txn[i]);
    for (size_t i = 0; i < plan->n_power_off; i++)
        (void)fprintf(out, "asks the fence agent of %s\n", plan->power_off[i]);
}

static void replay_agent(const Atoll__Ha__V1__LrmView *view, FILE *out)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const Atoll__Ha__V1__LrmPlan *plan = lrm_round(view, &arena);
    (void)fprintf(out, "agent on %s: %s, %zu services\n", view->node, plan->state, view->n_service);
    if (plan->has_feed_until_ms)
        (void)fprintf(out, "feeds the watchdog for %llu ms more\n",
                      (unsigned long long)(plan->feed_until_ms - view->now_ms));
    print_decisions(out, plan->decision, plan->n_decision);
    if (plan->lock_txn != NULL)
        print_txn(out, plan->lock_txn);
    if (plan->report_txn != NULL)
        print_txn(out, plan->report_txn);
    for (size_t i = 0; i < plan->n_job; i++)
        (void)fprintf(out, "job: %s %s\n", plan->job[i]->action, plan->job[i]->sid);
}

enum atl_code sim_replay(const char *path, FILE *out, struct atl_error *err)
{
    Atoll__Ha__V1__Saved *saved = NULL;
    enum atl_code code = read_saved(path, &saved, err);
    if (code != ATL_OK || saved == NULL)
        return code;
    if (saved->manager != NULL)
        replay_manager(saved->manager, out);
    if (saved->lrm != NULL)
        replay_agent(saved->lrm, out);
    atoll__ha__v1__saved__free_unpacked(saved, NULL);
    return ATL_OK;
}

static void take_settings(struct sim *sim, const Atoll__Ha__V1__ManagerView *view)
{
    if (view->settings == NULL)
        return;
    sim->settings = *view->settings;
    if (view->settings->has_tick_ms)
        sim->tick_ms = view->settings->tick_ms;
    if (view->settings->shutdown_policy != NULL)
        sim->settings.shutdown_policy = atl_arena_strdup(&sim->arena, view->settings->shutdown_policy);
    if (view->settings->rebalance != NULL)
        sim->settings.rebalance = atl_arena_strdup(&sim->arena, view->settings->rebalance);
}

static void take_rules(struct sim *sim, const Atoll__Ha__V1__ManagerView *view)
{
    for (size_t i = 0; i < view->n_rule && i < SIM_RULES; i++)
        sim->rules[sim->rule_count++] = view->rule[i];
    for (size_t i = 0; i < view->n_group && i < SIM_RULES; i++)
        sim->groups[sim->group_count++] = view->group[i];
}

static void take_guest(struct sim *sim, const Atoll__Ha__V1__GuestView *view)
{
    char sid[SIM_NAME];
    const struct sim_node *node = sim_node_find(sim, view->node);
    (void)snprintf(sid, sizeof sid, "%s:%u", view->type, view->vmid);
    struct sim_guest *guest = node == NULL ? NULL : sim_guest_add(sim, sid, node->index);
    if (guest == NULL)
        return;
    guest->bound = view->bound;
    guest->managed = view->resource != NULL;
    if (guest->managed)
        guest->resource = *view->resource;
    guest->cpus = view->has_cpus ? view->cpus : guest->cpus;
    guest->memory = view->has_memory ? view->memory : guest->memory;
    guest->cpu_used = view->has_cpu_used ? view->cpu_used : guest->cpu_used;
    guest->memory_used = view->has_memory_used ? view->memory_used : guest->memory_used;
}

enum atl_code sim_from_saved(struct sim *sim, const char *path, Atoll__Ha__V1__Saved **ret_saved,
                             struct atl_error *err)
{
    Atoll__Ha__V1__Saved *saved = NULL;
    enum atl_code code = read_saved(path, &saved, err);
    if (code != ATL_OK || saved == NULL)
        return code;
    *ret_saved = saved;
    const Atoll__Ha__V1__ManagerView *view = saved->manager;
    if (view == NULL || view->n_node > SIM_NODES || view->n_guest > SIM_GUESTS)
        return atl_fail(err, ATL_E_LIMIT, NULL,
                        "it is no view of a manager, or of more than %d nodes or %d guests", SIM_NODES,
                        SIM_GUESTS);
    for (size_t i = 0; i < view->n_node; i++) {
        struct sim_node *node = sim_node_add(sim, view->node[i]->name);
        if (node == NULL)
            return atl_fail(err, ATL_E_INVALID, NULL, "node '%s' cannot be simulated", view->node[i]->name);
        node->cpus = view->node[i]->has_cpus ? view->node[i]->cpus : node->cpus;
        node->memory = view->node[i]->has_memory ? view->node[i]->memory : node->memory;
    }
    sim->leader = 0;
    sim_tree_init(sim);
    take_settings(sim, view);
    take_rules(sim, view);
    for (size_t i = 0; i < view->n_guest; i++)
        take_guest(sim, view->guest[i]);
    sim_begin(sim);
    return ATL_OK;
}
