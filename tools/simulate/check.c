/* What must hold in every run, looked at in the truth of the simulation and not in what its programs believe.
 */
#include <stdarg.h>
#include <string.h>

#include "sim.h"

void sim_fail(struct sim *sim, const char *format, ...)
{
    if (sim->failure[0] != '\0')
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sim->failure, sizeof sim->failure, format, args);
    va_end(args);
    sim_log(sim, "-", "-", "BROKEN: %s", sim->failure);
}

void sim_check_running(struct sim *sim)
{
    for (int i = 0; i < sim->guest_count; i++) {
        uint32_t running = sim->guests[i].running;
        if ((running & (running - 1)) != 0)
            sim_fail(sim, "%s runs on two nodes at once", sim->guests[i].sid);
    }
}

static bool has_compare(struct sim *sim, const Atoll__Store__V1__TxnRequest *txn, uint32_t key)
{
    for (size_t i = 0; i < txn->n_compare; i++)
        if (sim_key(sim, txn->compare[i]->path) == key)
            return txn->compare[i]->revision != NULL || txn->compare[i]->absent;
    return false;
}

/* A manager takes the lock of a node whose guests still run, or moves one of them. */
static void check_taken(struct sim *sim, int node)
{
    sim->counts.fences++;
    for (int i = 0; i < sim->guest_count; i++)
        if ((sim->guests[i].running >> node & 1) != 0)
            sim_check_leave(sim, node, i);
}

void sim_check_leave(struct sim *sim, int node, int guest)
{
    const struct sim_value *value = sim->tree.keys[sim->guests[guest].key_service].value;
    const Atoll__Ha__V1__Service *service =
        value == NULL ? NULL : (const Atoll__Ha__V1__Service *)value->message;
    static const char *const free_states[] = {"freeze", "ignored", "error"};
    for (size_t i = 0; service != NULL && i < ATL_COUNT(free_states); i++)
        if (strcmp(service->state, free_states[i]) == 0)
            return;
    if (service != NULL)
        sim_fail(sim, "the lock of %s is taken over while %s runs there", sim->nodes[node].name,
                 sim->guests[guest].sid);
}

static void check_move(struct sim *sim, const struct sim_call *call, uint32_t index)
{
    const struct sim_key *key = &sim->tree.keys[index];
    sim->counts.recoveries++;
    if (!has_compare(sim, call->txn, index))
        sim_fail(sim, "%s is moved without comparing it", key->path);
    if (sim->guests[key->guest].running != 0)
        sim_fail(sim, "%s is moved while it runs", sim->guests[key->guest].sid);
}

static void check_manager(struct sim *sim, const struct sim_call *call)
{
    if (!has_compare(sim, call->txn, sim->key_manager))
        sim_fail(sim, "the manager on %s writes without comparing its own lock", sim->nodes[call->node].name);
    for (size_t i = 0; i < call->txn->n_operation; i++) {
        const Atoll__Store__V1__Operation *operation = call->txn->operation[i];
        uint32_t index = sim_key(sim, operation->path);
        const struct sim_key *key = &sim->tree.keys[index];
        if (key->kind == SIM_FILE_MANAGER && strcmp(operation->kind, "put") == 0)
            sim->counts.managers++;
        if (key->kind == SIM_FILE_LOCK && key->value != NULL) {
            if (!has_compare(sim, call->txn, index) || !has_compare(sim, call->txn, sim->key_beat[key->node]))
                sim_fail(sim, "the lock %s is taken without comparing it and its beat", key->path);
            check_taken(sim, key->node);
        }
        if (key->kind == SIM_FILE_SERVICE && !has_compare(sim, call->txn, index))
            sim_fail(sim, "%s is written without comparing it", key->path);
        if (strcmp(operation->kind, "rename") == 0)
            check_move(sim, call, index);
    }
}

static void check_agent(struct sim *sim, const struct sim_call *call)
{
    for (size_t i = 0; i < call->txn->n_operation; i++) {
        const struct sim_key *key = &sim->tree.keys[sim_key(sim, call->txn->operation[i]->path)];
        if (key->kind != SIM_FILE_LOCK && key->kind != SIM_FILE_BEAT)
            continue;
        if (key->node != call->node)
            sim_fail(sim, "the agent of %s writes %s", sim->nodes[call->node].name, key->path);
        if (!has_compare(sim, call->txn, sim->key_lock[call->node]) ||
            !has_compare(sim, call->txn, sim->key_beat[call->node]))
            sim_fail(sim, "the agent of %s writes its lock without comparing it",
                     sim->nodes[call->node].name);
    }
}

void sim_check_txn(struct sim *sim, const struct sim_call *call)
{
    if (call->process == SIM_CRM)
        check_manager(sim, call);
    if (call->process == SIM_LRM)
        check_agent(sim, call);
}

void sim_excuse(struct sim *sim, struct sim_node *node, sim_us time)
{
    sim_us until = sim->now + time + 15 * SIM_SECOND;
    if (until > node->excused_until)
        node->excused_until = until;
}

void sim_check_reset(struct sim *sim, const struct sim_node *node)
{
    bool etcd_well = sim->leader >= 0 && sim->now - sim->etcd_well_since > 10 * SIM_SECOND;
    if (sim->now > node->excused_until && etcd_well)
        sim_fail(sim, "%s is reset although nothing happened to it", node->name);
}

void sim_check_start(struct sim *sim, const struct sim_node *node, const struct sim_job *job)
{
    if (strcmp(job->action, "start") == 0 && !node->quorate)
        sim_fail(sim, "%s starts %s without quorum", node->name, sim->guests[job->guest].sid);
}

void sim_check_spawn(struct sim *sim, const struct sim_node *node, const struct sim_guest *guest)
{
    if (!node->armed)
        sim_fail(sim, "%s runs on %s without a watchdog", guest->sid, node->name);
}

static bool wants_to_run(const struct sim_guest *guest)
{
    const char *state = guest->managed ? guest->resource.state : "ignored";
    return guest->there && (strcmp(state, "started") == 0 || strcmp(state, "enabled") == 0);
}

static void check_guest(struct sim *sim, const struct sim_guest *guest)
{
    const struct sim_value *value = sim->tree.keys[guest->key_service].value;
    const Atoll__Ha__V1__Service *service =
        value == NULL ? NULL : (const Atoll__Ha__V1__Service *)value->message;
    const char *state = service == NULL ? "no record" : service->state;
    bool may_be = strcmp(state, "error") == 0 && guest->failures > 0;
    if (wants_to_run(guest) && guest->running == 0 && !may_be)
        sim_fail(sim, "%s does not run long after all faults are over (%s on %s)", guest->sid, state,
                 service == NULL ? "-" : service->node);
    if (guest->managed && guest->running != 0 && strcmp(guest->resource.state, "started") != 0 &&
        strcmp(guest->resource.state, "ignored") != 0 && strcmp(state, "error") != 0)
        sim_fail(sim, "%s runs although it should not (%s)", guest->sid, state);
}

static bool lists(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = strstr(list, word); at != NULL; at = strstr(at + 1, word))
        if ((at == list || at[-1] == ',') && strchr(",:", at[length]) != NULL)
            return true;
    return false;
}

/* Of rules that contradict no other: who runs is where they want it. */
static void check_rule(struct sim *sim, const Atoll__Ha__V1__Rule *rule)
{
    uint32_t nodes = 0;
    for (int i = 0; rule->nodes != NULL && i < sim->node_count; i++)
        nodes |= lists(rule->nodes, sim->nodes[i].name) ? 1U << i : 0;
    uint32_t all = 0;
    uint32_t twice = 0;
    for (int i = 0; i < sim->guest_count; i++) {
        const struct sim_guest *guest = &sim->guests[i];
        if (!lists(rule->resources, guest->sid) || guest->running == 0)
            continue;
        if (rule->strict && (guest->running & nodes) == 0)
            sim_fail(sim, "%s runs where rule %s forbids it", guest->sid, rule->rule);
        twice |= all & guest->running;
        all |= guest->running;
    }
    bool apart = rule->affinity != NULL && strcmp(rule->affinity, "negative") == 0;
    bool together = rule->affinity != NULL && strcmp(rule->affinity, "positive") == 0;
    if ((apart && twice != 0) || (together && (all & (all - 1)) != 0))
        sim_fail(sim, "rule %s is not kept", rule->rule);
}

/* Long after the last fault. */
void sim_check_end(struct sim *sim)
{
    for (int i = 0; i < sim->guest_count; i++)
        check_guest(sim, &sim->guests[i]);
    for (int i = 0; i < sim->node_count; i++) {
        const struct sim_value *value = sim->tree.keys[sim->key_lock[i]].value;
        if (value != NULL && ((const Atoll__Ha__V1__NodeLock *)value->message)->fenced)
            sim_fail(sim, "the lock of %s is still the manager's", sim->nodes[i].name);
        if (!sim->nodes[i].witness && sim->nodes[i].power != SIM_UP)
            sim_fail(sim, "%s is not up", sim->nodes[i].name);
    }
    for (size_t i = 0; i < sim->rule_count; i++)
        check_rule(sim, sim->rules[i]);
    if (sim->tree.keys[sim->key_manager].value == NULL)
        sim_fail(sim, "there is no manager");
}
