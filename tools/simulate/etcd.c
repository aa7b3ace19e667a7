/* etcd and corosync: who reaches whom, who leads, what is committed, who is a member. Two networks. */
#include <stdlib.h>

#include "sim.h"

bool sim_answers(const struct sim_node *node)
{
    return node->power == SIM_UP && !node->stopped;
}

bool sim_linked(const struct sim *sim, enum sim_net net, int a, int b)
{
    if (!sim_answers(&sim->nodes[a]) || !sim_answers(&sim->nodes[b]))
        return false;
    return a == b || (!sim->cut[net][a][b] && !sim->cut[net][b][a]);
}

/* --- etcd --- */

static bool votes(const struct sim *sim, int node)
{
    return sim->nodes[node].voter && sim_answers(&sim->nodes[node]) && !sim->nodes[node].disk_hangs;
}

static bool can_lead(const struct sim *sim, int node)
{
    int all = 0;
    int with_it = 0;
    for (int i = 0; i < sim->node_count; i++) {
        all += sim->nodes[i].voter;
        with_it += votes(sim, i) && sim_linked(sim, SIM_NET_ETCD, node, i);
    }
    return votes(sim, node) && 2 * with_it > all;
}

/* From a node to the leader: by itself or through a member that reaches both. */
bool sim_reaches_etcd(const struct sim *sim, int node)
{
    if (sim->leader < 0 || !sim_answers(&sim->nodes[node]))
        return false;
    if (sim_linked(sim, SIM_NET_ETCD, node, sim->leader))
        return true;
    for (int i = 0; i < sim->node_count; i++)
        if (votes(sim, i) && sim_linked(sim, SIM_NET_ETCD, node, i) &&
            sim_linked(sim, SIM_NET_ETCD, i, sim->leader))
            return true;
    return false;
}

void sim_leader_lose(struct sim *sim)
{
    if (sim->leader < 0)
        return;
    sim->leader = -1;
    sim->term++;
    if (sim->now - sim->leaderless_since < 6 * SIM_SECOND)
        sim->etcd_well_since = sim->now; /* one election after the other */
    sim->leaderless_since = sim->now;
    sim_push(sim, sim_between(sim, 500 * SIM_MS, 1300 * SIM_MS), (struct sim_event){.kind = SIM_ELECT});
}

/* What the old leader had begun may be committed by the next one, or never. */
static void commit(struct sim *sim, struct sim_call *call)
{
    call->outcome = sim_txn(sim, call->txn);
    call->number = sim->tree.number;
    if (call->outcome == SIM_DONE)
        sim_check_txn(sim, call);
    for (int i = 0; call->outcome == SIM_DONE && i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->watch_due || node->witness)
            continue;
        node->watch_due = true;
        sim_push(sim, node->watch_delay + sim_between(sim, SIM_MS, 15 * SIM_MS),
                 (struct sim_event){.kind = SIM_WATCH, .node = i, .guard = node->boot});
    }
}

void sim_on_elect(struct sim *sim)
{
    if (sim->leader >= 0)
        return;
    int able[SIM_NODES];
    int count = 0;
    for (int i = 0; i < sim->node_count; i++)
        if (can_lead(sim, i))
            able[count++] = i;
    if (count == 0) {
        sim_push(sim, sim_between(sim, 300 * SIM_MS, 700 * SIM_MS), (struct sim_event){.kind = SIM_ELECT});
        return;
    }
    sim->leader = able[sim_dice(sim, (uint64_t)count)];
    sim->term++;
    if (sim->now - sim->leaderless_since > 1500 * SIM_MS)
        sim->etcd_well_since = sim->now;
    while (sim->survivors != NULL) {
        struct sim_call *call = sim->survivors;
        sim->survivors = call->next;
        commit(sim, call);
        sim_call_drop(sim, call);
    }
}

struct sim_call *sim_call_send(struct sim *sim, struct sim_node *node, enum sim_process process,
                               struct sim_memory *memory, const Atoll__Store__V1__TxnRequest *txn)
{
    struct sim_call *call = atl_new0(struct sim_call);
    call->memory = memory;
    call->txn = txn;
    call->node = node->index;
    call->process = process;
    call->run = node->runs[process].run;
    call->id = ++sim->next_id;
    memory->references++;
    sim_push(sim, sim_between(sim, 300, 3 * SIM_MS),
             (struct sim_event){.kind = SIM_REQUEST, .node = node->index, .guard = node->boot, .call = call});
    if (process != SIM_COMPUTE)
        sim_push(sim, sim_local_span(node, 2 * (uint64_t)sim->tick_ms),
                 (struct sim_event){.kind = SIM_TIMEOUT, .node = node->index, .call = call});
    return call;
}

void sim_call_drop(struct sim *sim, struct sim_call *call)
{
    if (call == NULL || --call->references > 0)
        return;
    sim_memory_give(sim, call->memory);
    free(call);
}

static void reply(struct sim *sim, struct sim_call *call, sim_us delay)
{
    sim_push(sim, delay,
             (struct sim_event){
                 .kind = SIM_REPLY, .node = call->node, .guard = sim->nodes[call->node].boot, .call = call});
}

void sim_on_request(struct sim *sim, const struct sim_event *event)
{
    struct sim_call *call = event->call;
    if (sim->nodes[event->node].boot != event->guard)
        return;
    if (!sim_reaches_etcd(sim, event->node)) {
        reply(sim, call, sim_between(sim, 50 * SIM_MS, 300 * SIM_MS));
        return;
    }
    call->term = sim->term;
    sim_push(sim, sim_between(sim, SIM_MS, 8 * SIM_MS),
             (struct sim_event){.kind = SIM_COMMIT, .node = sim->leader, .call = call});
}

void sim_on_commit(struct sim *sim, const struct sim_event *event)
{
    struct sim_call *call = event->call;
    if (call->term == sim->term) {
        commit(sim, call);
        reply(sim, call, sim_between(sim, 300, 3 * SIM_MS));
        return;
    }
    if (sim_dice(sim, 2) == 0)
        return;
    if (sim->leader >= 0) {
        commit(sim, call);
        return;
    }
    call->references++;
    struct sim_call **last = &sim->survivors;
    while (*last != NULL)
        last = &(*last)->next;
    *last = call;
}

void sim_on_reply(struct sim *sim, const struct sim_event *event)
{
    struct sim_call *call = event->call;
    struct sim_node *node = &sim->nodes[event->node];
    if (node->boot != event->guard || !node->runs[call->process].alive ||
        node->runs[call->process].run != call->run)
        return;
    bool lost = node->lose_percent > 0 && sim_dice(sim, 100) < node->lose_percent;
    if (call->outcome != SIM_UNKNOWN && (lost || !sim_reaches_etcd(sim, event->node)))
        return;
    if (call->process == SIM_LRM)
        sim_lrm_reply(sim, node, call);
    else if (call->process == SIM_CRM)
        sim_crm_reply(sim, node, call);
    else
        sim_job_reply(sim, node, call);
}

void sim_on_watch(struct sim *sim, const struct sim_event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    node->watch_due = false;
    if (node->boot != event->guard || node->copy.number == sim->tree.number)
        return;
    if (!sim_reaches_etcd(sim, event->node)) {
        node->watch_due = true;
        sim_push(sim, sim_between(sim, 150 * SIM_MS, 400 * SIM_MS),
                 (struct sim_event){.kind = SIM_WATCH, .node = event->node, .guard = node->boot});
        return;
    }
    sim_copy_apply(sim, node);
    sim_lrm_seen(sim, node);
    if (node->copy.news_crm)
        sim_crm_wake(sim, node);
    node->copy.news_crm = false;
}

/* --- corosync --- */

static uint32_t component(const struct sim *sim, int start)
{
    uint32_t seen = 1U << start;
    for (bool more = true; more;) {
        more = false;
        for (int a = 0; a < sim->node_count; a++)
            for (int b = 0; (seen & (1U << a)) != 0 && b < sim->node_count; b++) {
                bool joins = (seen & (1U << b)) == 0 && sim_linked(sim, SIM_NET_COROSYNC, a, b);
                seen |= joins ? 1U << b : 0;
                more |= joins;
            }
    }
    return seen;
}

void sim_on_member(struct sim *sim, const struct sim_event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    if (!sim_answers(node) || node->boot != event->guard)
        return;
    uint32_t members = component(sim, event->node);
    int all = 0;
    int with_it = 0;
    for (int i = 0; i < sim->node_count; i++) {
        all += sim->nodes[i].voter;
        with_it += sim->nodes[i].voter && (members & (1U << i)) != 0;
    }
    bool quorate = 2 * with_it > all;
    if (members == node->members && quorate == node->quorate)
        return;
    node->members = members;
    node->quorate = quorate;
    sim_lrm_wake(sim, node);
    sim_crm_wake(sim, node);
}

/* Somebody came or went: both notice, each in its own time. */
void sim_links_changed(struct sim *sim)
{
    if (sim->leader >= 0 && !can_lead(sim, sim->leader))
        sim_leader_lose(sim);
    for (int i = 0; i < sim->node_count; i++) {
        const struct sim_node *node = &sim->nodes[i];
        if (sim_answers(node))
            sim_push(sim, sim_between(sim, 900 * SIM_MS, 1500 * SIM_MS),
                     (struct sim_event){.kind = SIM_MEMBER, .node = i, .guard = node->boot});
    }
}
