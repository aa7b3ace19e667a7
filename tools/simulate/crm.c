/* The shell of the manager, as ha-crm has it: view in, plan out, its transactions one after the other. */
#include "services/ha-crm/core/crm.h"

#include <string.h>

#include "sim.h"

static void *content(const struct sim_node *node, uint32_t key, Atoll__Bus__V1__Revision **ret_revision)
{
    const struct sim_value *value = sim_file(node, key);
    if (value == NULL)
        return NULL;
    *ret_revision = (Atoll__Bus__V1__Revision *)(uintptr_t)&value->revision;
    return value->message;
}

static uint64_t number_of(const struct sim_node *node, uint32_t key)
{
    const struct sim_value *value = sim_file(node, key);
    return value == NULL ? 0 : value->revision.number;
}

/* When we first saw it as it is now. */
static uint64_t seen_since(const struct sim_node *node, const uint32_t keys[2], uint64_t numbers[2],
                           uint64_t *since, uint64_t now_ms)
{
    uint64_t lock = number_of(node, keys[0]);
    uint64_t beat = number_of(node, keys[1]);
    if (*since == 0 || lock != numbers[0] || beat != numbers[1]) {
        numbers[0] = lock;
        numbers[1] = beat;
        *since = now_ms;
    }
    return now_ms - *since;
}

static void give_load(const struct sim *sim, const struct sim_node *node, Atoll__Ha__V1__NodeView *view)
{
    view->has_cpus = view->has_memory = view->has_cpu_used = view->has_memory_used = 1;
    view->cpus = node->cpus;
    view->memory = node->memory;
    for (int i = 0; i < sim->guest_count; i++) {
        const struct sim_guest *guest = &sim->guests[i];
        if ((guest->running >> node->index & 1) == 0)
            continue;
        view->cpu_used += guest->cpu_used;
        view->memory_used += guest->memory_used;
    }
    view->has_pressure = 1;
    view->pressure = view->cpu_used > node->cpus ? 1 - node->cpus / view->cpu_used : 0;
}

static void give_node(struct sim *sim, struct sim_node *self, int i, uint64_t now_ms,
                      Atoll__Ha__V1__NodeView *view)
{
    struct sim_crm *crm = &self->crm;
    struct sim_node *node = &sim->nodes[i];
    atoll__ha__v1__node_view__init(view);
    view->name = node->name;
    view->has_member = view->has_unchanged_ms = view->has_report_age_ms = 1;
    view->member = (self->members >> i & 1) != 0;
    view->lock = content(self, sim->key_lock[i], &view->lock_revision);
    view->beat = content(self, sim->key_beat[i], &view->beat_revision);
    view->report = content(self, sim->key_lrm[i], &view->report_revision);
    view->record = content(self, sim->key_node[i], &view->record_revision);
    const uint32_t keys[2] = {sim->key_lock[i], sim->key_beat[i]};
    view->unchanged_ms = seen_since(self, keys, crm->lock_number[i], &crm->lock_seen_ms[i], now_ms);
    uint64_t report = number_of(self, sim->key_lrm[i]);
    if (crm->report_seen_ms[i] == 0 || report != crm->report_number[i]) {
        crm->report_number[i] = report;
        crm->report_seen_ms[i] = now_ms;
    }
    view->report_age_ms = now_ms - crm->report_seen_ms[i];
    view->has_power_off = view->has_can_power_off = 1;
    view->can_power_off = node->can_power_off;
    view->power_off = view->lock != NULL && crm->power_lock[i] == view->lock_revision->number;
    give_load(sim, node, view);
}

static Atoll__Ha__V1__GuestView *give_guest(struct sim *sim, struct sim_node *self, int i,
                                            struct atl_arena *arena)
{
    struct sim_guest *guest = &sim->guests[i];
    int place = self->copy.place[i];
    if (place < 0)
        return NULL;
    Atoll__Ha__V1__GuestView *view = atl_arena_new(arena, Atoll__Ha__V1__GuestView);
    atoll__ha__v1__guest_view__init(view);
    view->vmid = guest->vmid;
    view->type = guest->type;
    view->node = sim->nodes[place].name;
    (void)content(self, guest->key_file[place], &view->revision);
    view->has_running = view->has_cpus = view->has_memory = view->has_cpu_used = view->has_memory_used = 1;
    view->has_bound = 1;
    view->running = (guest->running >> place & 1) != 0;
    view->cpus = guest->cpus;
    view->memory = guest->memory;
    view->cpu_used = view->running ? guest->cpu_used : 0;
    view->memory_used = view->running ? guest->memory_used : 0;
    view->bound = guest->bound;
    view->resource = guest->managed ? &guest->resource : NULL;
    view->service = content(self, guest->key_service, &view->service_revision);
    return view;
}

static void give_guests(struct sim *sim, struct sim_node *self, struct atl_arena *arena,
                        Atoll__Ha__V1__ManagerView *view)
{
    view->guest = atl_arena_array(arena, Atoll__Ha__V1__GuestView *, (size_t)sim->guest_count + 1);
    view->orphan = atl_arena_array(arena, Atoll__Ha__V1__Service *, (size_t)sim->guest_count + 1);
    view->orphan_sid = atl_arena_array(arena, char *, (size_t)sim->guest_count + 1);
    for (int i = 0; i < sim->guest_count; i++) {
        Atoll__Ha__V1__GuestView *guest = give_guest(sim, self, i, arena);
        if (guest != NULL)
            view->guest[view->n_guest++] = guest;
        Atoll__Bus__V1__Revision *revision = NULL;
        Atoll__Ha__V1__Service *service = content(self, sim->guests[i].key_service, &revision);
        if (service != NULL && (guest == NULL || guest->resource == NULL)) {
            view->orphan[view->n_orphan++] = service;
            view->orphan_sid[view->n_orphan_sid++] = sim->guests[i].sid;
        }
    }
}

static void give_requests(struct sim *sim, struct sim_node *self, struct atl_arena *arena,
                          Atoll__Ha__V1__ManagerView *view)
{
    const struct sim_tree *tree = &sim->tree;
    view->request = atl_arena_array(arena, Atoll__Ha__V1__RequestView *, tree->request_count + 1);
    for (size_t i = 0; i < tree->request_count; i++) {
        Atoll__Bus__V1__Revision *revision = NULL;
        Atoll__Ha__V1__Request *request = content(self, tree->requests[i], &revision);
        if (request == NULL)
            continue;
        Atoll__Ha__V1__RequestView *made = atl_arena_new(arena, Atoll__Ha__V1__RequestView);
        atoll__ha__v1__request_view__init(made);
        made->id = strrchr(tree->keys[tree->requests[i]].path, '/') + 1;
        made->request = request;
        made->revision = revision;
        view->request[view->n_request++] = made;
    }
}

static void make_view(struct sim *sim, struct sim_node *self, struct atl_arena *arena,
                      Atoll__Ha__V1__ManagerView *view)
{
    struct sim_crm *crm = &self->crm;
    uint64_t now_ms = sim_local_ms(sim, self);
    atoll__ha__v1__manager_view__init(view);
    view->self = self->name;
    view->incarnation = self->runs[SIM_CRM].run;
    view->has_quorate = view->has_ending = view->has_manager_unchanged_ms = view->has_wall = 1;
    view->quorate = self->quorate;
    view->ending = crm->ending;
    view->manager = content(self, sim->key_manager, &view->manager_revision);
    view->manager_beat = content(self, sim->key_manager_beat, &view->manager_beat_revision);
    const uint32_t keys[2] = {sim->key_manager, sim->key_manager_beat};
    view->manager_unchanged_ms = seen_since(self, keys, crm->manager_number, &crm->manager_seen_ms, now_ms);
    view->node = atl_arena_array(arena, Atoll__Ha__V1__NodeView *, (size_t)sim->node_count);
    Atoll__Ha__V1__NodeView *nodes = atl_arena_array(arena, Atoll__Ha__V1__NodeView, (size_t)sim->node_count);
    for (int i = 0; i < sim->node_count; i++) {
        if (sim->nodes[i].witness)
            continue;
        give_node(sim, self, i, now_ms, &nodes[i]);
        view->node[view->n_node++] = &nodes[i];
    }
    give_guests(sim, self, arena, view);
    give_requests(sim, self, arena, view);
    view->rule = sim->rules;
    view->n_rule = sim->rule_count;
    view->group = sim->groups;
    view->n_group = sim->group_count;
    view->settings = &sim->settings;
    view->arm = content(self, sim->key_arm, &view->arm_revision);
    view->wall = sim->now / SIM_SECOND;
    Atoll__Bus__V1__Revision *revision = NULL;
    Atoll__Ha__V1__Moves *moves = content(self, sim->key_moves, &revision);
    view->n_recent = moves == NULL ? 0 : moves->n_move;
    view->recent = moves == NULL ? NULL : moves->move;
    view->has_balance_idle_ms = 1;
    view->balance_idle_ms = now_ms - crm->balance_ms;
}

static void save(const struct sim *sim, struct sim_node *node, Atoll__Ha__V1__ManagerView *view)
{
    char path[512];
    Atoll__Ha__V1__Saved saved = ATOLL__HA__V1__SAVED__INIT;
    saved.manager = view;
    saved.has_wall_ms = 1;
    saved.wall_ms = sim->now / SIM_MS;
    (void)snprintf(path, sizeof path, "%s/%s.crm", sim->options.save, node->name);
    size_t length = atoll__ha__v1__saved__get_packed_size(&saved);
    ATL_FREE_AT_EXIT uint8_t *bytes = atl_alloc0(length + 1);
    (void)atoll__ha__v1__saved__pack(&saved, bytes);
    FILE *file = fopen(path, "wbe");
    if (file == NULL)
        return;
    (void)fwrite(bytes, 1, length, file); /* a view that could not be saved is not there to be replayed */
    (void)fclose(file);
}

/* Says what it decides once, not in each round anew. */
static void log_decisions(struct sim *sim, struct sim_node *node, const Atoll__Ha__V1__ManagerPlan *plan)
{
    struct sim_crm *crm = &node->crm;
    char all[sizeof crm->last] = "";
    size_t used = 0;
    for (size_t i = 0; i < plan->n_decision; i++) {
        const Atoll__Ha__V1__Decision *decision = plan->decision[i];
        const char *about = decision->sid != NULL    ? decision->sid
                            : decision->node != NULL ? decision->node
                                                     : "-";
        char line[SIM_TEXT];
        (void)snprintf(line, sizeof line, "%s: %s|", about, decision->what);
        if (strstr(crm->last, line) == NULL)
            sim_log(sim, node->name, "crm", "%s: %s%s%s%s", about, decision->what,
                    decision->why != NULL ? " (" : "", decision->why != NULL ? decision->why : "",
                    decision->why != NULL ? ")" : "");
        if (used + strlen(line) < sizeof all)
            used += (size_t)snprintf(all + used, sizeof all - used, "%s", line);
    }
    (void)snprintf(crm->last, sizeof crm->last, "%s", all);
}

void sim_crm_forget(struct sim *sim, struct sim_node *node)
{
    sim_memory_give(sim, node->crm.memory);
    node->crm.memory = NULL;
    node->crm.plan = NULL;
    node->crm.call = 0;
}

/* The next transaction of the plan; after the last one the plan is over. */
static void go_on(struct sim *sim, struct sim_node *node)
{
    struct sim_crm *crm = &node->crm;
    if (crm->next_txn >= crm->plan->n_txn) {
        bool ended = crm->plan_ends;
        sim_crm_forget(sim, node);
        if (ended) {
            bool again = node->runs[SIM_CRM].wanted;
            sim_log(sim, node->name, "crm", "ended");
            sim_process_end(sim, node, SIM_CRM);
            if (again)
                sim_process_start(sim, node, SIM_CRM);
        }
        return;
    }
    crm->call = sim_call_send(sim, node, SIM_CRM, crm->memory, crm->plan->txn[crm->next_txn++])->id;
}

static void ask_power(struct sim *sim, struct sim_node *node, const Atoll__Ha__V1__ManagerPlan *plan)
{
    for (size_t i = 0; i < plan->n_power_off; i++) {
        const struct sim_node *target = sim_node_find(sim, plan->power_off[i]);
        if (target == NULL || !target->can_power_off || node->crm.power_asked[target->index])
            continue;
        node->crm.power_asked[target->index] = true;
        sim_push(sim, sim_between(sim, SIM_SECOND, 2 * SIM_SECOND),
                 (struct sim_event){.kind = SIM_POWERED,
                                    .node = node->index,
                                    .guard = node->runs[SIM_CRM].run,
                                    .value = (uint64_t)target->index});
    }
}

void sim_crm_round(struct sim *sim, struct sim_node *node)
{
    struct sim_crm *crm = &node->crm;
    crm->round_due = false;
    if (crm->plan != NULL || node->copy.number < crm->see)
        return;
    struct sim_memory *memory = sim_memory_take(sim);
    Atoll__Ha__V1__ManagerView view;
    make_view(sim, node, &memory->arena, &view);
    const Atoll__Ha__V1__ManagerPlan *plan = crm_round(&view, &memory->arena);
    if (sim->options.save != NULL)
        save(sim, node, &view);
    if (plan->n_advice > 0)
        crm->balance_ms = sim_local_ms(sim, node);
    crm->master = plan->state != NULL && strcmp(plan->state, "master") == 0;
    if (plan->n_decision > 0 || crm->last[0] != '\0')
        log_decisions(sim, node, plan);
    ask_power(sim, node, plan);
    if (plan->n_txn == 0 && !crm->ending) {
        sim_memory_give(sim, memory);
        return;
    }
    crm->memory = memory;
    crm->plan = plan;
    crm->next_txn = 0;
    crm->plan_ends = view.ending;
    go_on(sim, node);
}

void sim_crm_wake(struct sim *sim, struct sim_node *node)
{
    if (!node->runs[SIM_CRM].alive || node->crm.round_due || !(node->crm.master || node->crm.ending))
        return;
    node->crm.round_due = true;
    sim_push(
        sim, 5 * SIM_MS,
        (struct sim_event){.kind = SIM_ROUND_CRM, .node = node->index, .guard = node->runs[SIM_CRM].run});
}

void sim_crm_reply(struct sim *sim, struct sim_node *node, const struct sim_call *call)
{
    struct sim_crm *crm = &node->crm;
    if (crm->call != call->id)
        return;
    crm->call = 0;
    if (call->outcome != SIM_UNKNOWN)
        crm->see = call->number;
    if (call->outcome == SIM_DONE) {
        go_on(sim, node);
        return;
    }
    sim_crm_forget(sim, node);
    sim_crm_wake(sim, node);
}

void sim_crm_timeout(struct sim *sim, struct sim_node *node, uint64_t call)
{
    if (!node->runs[SIM_CRM].alive || node->crm.call != call)
        return;
    sim_crm_forget(sim, node);
    sim_crm_wake(sim, node);
}
