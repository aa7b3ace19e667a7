/* Time, chance and the queue of events. */
#include "sim.h"

#include <stdlib.h>

uint64_t sim_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

uint64_t sim_dice(struct sim *sim, uint64_t below)
{
    return below == 0 ? 0 : sim_random(&sim->random) % below;
}

sim_us sim_between(struct sim *sim, sim_us least, sim_us most)
{
    return least + (sim_us)sim_dice(sim, (uint64_t)(most - least + 1));
}

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void sim_push(struct sim *sim, sim_us delay, struct sim_event event)
{
    if (sim->heap_count == sim->heap_room) {
        sim->heap_room = sim->heap_room == 0 ? 256 : sim->heap_room * 2;
        sim->heap = atl_realloc(sim->heap, sim->heap_room * sizeof *sim->heap);
    }
    event.at = sim->now + delay;
    event.order = sim->heap_order++;
    if (event.call != NULL)
        event.call->references++;
    size_t at = sim->heap_count++;
    for (; at > 0 && before(&event, &sim->heap[(at - 1) / 2]); at = (at - 1) / 2)
        sim->heap[at] = sim->heap[(at - 1) / 2];
    sim->heap[at] = event;
}

static struct sim_event pop(struct sim *sim)
{
    struct sim_event first = sim->heap[0];
    struct sim_event last = sim->heap[--sim->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= sim->heap_count)
            break;
        if (child + 1 < sim->heap_count && before(&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (!before(&sim->heap[child], &last))
            break;
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    return first;
}

struct sim_memory *sim_memory_take(struct sim *sim)
{
    struct sim_memory *memory = sim->free_memory;
    if (memory != NULL)
        sim->free_memory = memory->next;
    else
        memory = atl_new0(struct sim_memory);
    memory->references = 1;
    return memory;
}

void sim_memory_give(struct sim *sim, struct sim_memory *memory)
{
    if (memory == NULL || --memory->references > 0)
        return;
    atl_arena_reset(&memory->arena);
    memory->next = sim->free_memory;
    sim->free_memory = memory;
}

/* Which process an event is for; SIM_PROCESSES: none, only the machine; -1: neither. */
static int process_of(const struct sim_event *event)
{
    switch (event->kind) {
    case SIM_TICK_LRM:
    case SIM_ROUND_LRM:
        return SIM_LRM;
    case SIM_TICK_CRM:
    case SIM_ROUND_CRM:
    case SIM_POWERED:
        return SIM_CRM;
    case SIM_FEED:
    case SIM_DEED:
    case SIM_ARM:
    case SIM_DISARM:
        return SIM_MUX;
    case SIM_JOB:
        return SIM_COMPUTE;
    case SIM_TIMEOUT:
    case SIM_REPLY:
        return (int)event->call->process;
    case SIM_WATCH:
    case SIM_RESTART:
    case SIM_GONE:
        return SIM_PROCESSES;
    default:
        return -1;
    }
}

static bool stands_still(const struct sim *sim, const struct sim_event *event)
{
    int process = process_of(event);
    if (process < 0)
        return false;
    const struct sim_node *node = &sim->nodes[event->node];
    return node->stopped || (process < SIM_PROCESSES && node->runs[process].paused);
}

static void park(struct sim *sim, const struct sim_event *event)
{
    if (sim->parked_count == sim->parked_room) {
        sim->parked_room = sim->parked_room == 0 ? 32 : sim->parked_room * 2;
        sim->parked = atl_realloc(sim->parked, sim->parked_room * sizeof *sim->parked);
    }
    sim->parked[sim->parked_count++] = *event;
}

void sim_unpark(struct sim *sim)
{
    size_t count = sim->parked_count;
    sim->parked_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct sim_event event = sim->parked[i];
        if (stands_still(sim, &event)) {
            sim->parked[sim->parked_count++] = event;
            continue;
        }
        sim_push(sim, sim_between(sim, 0, SIM_MS), event);
        sim_call_drop(sim, event.call); /* the queue has counted it once more */
    }
}

static void deliver(struct sim *sim, const struct sim_event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    switch (event->kind) {
    case SIM_ROUND_LRM:
    case SIM_ROUND_CRM:
    case SIM_TICK_LRM:
    case SIM_TICK_CRM: {
        bool lrm = event->kind == SIM_ROUND_LRM || event->kind == SIM_TICK_LRM;
        const struct sim_run *run = &node->runs[lrm ? SIM_LRM : SIM_CRM];
        if (!run->alive || run->run != event->guard)
            return;
        if (event->kind == SIM_TICK_LRM || event->kind == SIM_TICK_CRM)
            sim_push(sim, sim_local_span(node, sim->tick_ms), *event);
        lrm ? sim_lrm_round(sim, node) : sim_crm_round(sim, node);
        return;
    }
    case SIM_TIMEOUT:
        if (event->call->process == SIM_LRM)
            sim_lrm_timeout(sim, node, event->call->id);
        else if (event->call->process == SIM_CRM)
            sim_crm_timeout(sim, node, event->call->id);
        return;
    case SIM_REQUEST:
        sim_on_request(sim, event);
        return;
    case SIM_COMMIT:
        sim_on_commit(sim, event);
        return;
    case SIM_REPLY:
        sim_on_reply(sim, event);
        return;
    case SIM_WATCH:
        sim_on_watch(sim, event);
        return;
    case SIM_ELECT:
        sim_on_elect(sim);
        return;
    case SIM_MEMBER:
        sim_on_member(sim, event);
        return;
    case SIM_JOB:
        sim_on_job(sim, event);
        return;
    default:
        sim_on_machine(sim, event);
    }
}

bool sim_step(struct sim *sim, sim_us until)
{
    if (sim->heap_count == 0 || sim->heap[0].at > until) {
        sim->now = until > sim->now ? until : sim->now;
        return false;
    }
    struct sim_event event = pop(sim);
    sim->now = event.at;
    if (stands_still(sim, &event)) {
        park(sim, &event);
        return true;
    }
    if (event.kind > SIM_LAST_SILENT)
        sim->counts.steps++;
    deliver(sim, &event);
    sim_call_drop(sim, event.call);
    return true;
}

void sim_run_until(struct sim *sim, sim_us until)
{
    while (sim->failure[0] == '\0' && sim_step(sim, until))
        ;
}
