/*
 * A round of the manager of high availability in a cluster of 64 nodes: with nothing to do, with rules, when
 * all resources are new, when the load is balanced, and when a node is lost. Growth by the number of
 * resources.
 *
 * usage: bench_ha       exit code 1: a round of 10,000 resources takes longer than the budget
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "ha/times.h"
#include "pure/arena.h"
#include "services/ha-crm/core/crm.h"

enum { NODES = 64, LARGE = 10000, ROUNDS = 15, RULES = 200, BUDGET_MS = 100, GUESTS_MAX = 20000 };

struct bench {
    struct atl_arena arena; /* of the view */
    Atoll__Ha__V1__ManagerView view;
    Atoll__Bus__V1__Revision revision;
};

static char *text(struct bench *bench, const char *words)
{
    return atl_arena_strdup(&bench->arena, words);
}

static const char *format_node(struct bench *bench, int index)
{
    return atl_arena_format(&bench->arena, "node%02d", index);
}

static void add_nodes(struct bench *bench)
{
    struct atl_ha_times times = atl_ha_times_of(ATL_HA_TICK_MS);
    bench->view.node = atl_arena_array(&bench->arena, Atoll__Ha__V1__NodeView *, NODES);
    for (int i = 0; i < NODES; i++) {
        Atoll__Ha__V1__NodeView *node = atl_arena_new(&bench->arena, Atoll__Ha__V1__NodeView);
        atoll__ha__v1__node_view__init(node);
        node->name = atl_arena_strdup(&bench->arena, format_node(bench, i));
        node->has_member = node->member = 1;
        node->lock = atl_arena_new(&bench->arena, Atoll__Ha__V1__NodeLock);
        atoll__ha__v1__node_lock__init(node->lock);
        node->lock->node = node->name;
        node->lock->incarnation = (uint64_t)i + 1;
        node->lock->feed_horizon_ms = times.feed_horizon_ms;
        node->lock->watchdog_ms = times.watchdog_ms;
        node->lock->margin_ms = times.margin_ms;
        node->lock_revision = &bench->revision;
        node->has_unchanged_ms = 1;
        node->report = atl_arena_new(&bench->arena, Atoll__Ha__V1__LrmReport);
        atoll__ha__v1__lrm_report__init(node->report);
        node->report->incarnation = (uint64_t)i + 1;
        node->report->mode = text(bench, "active");
        node->report->result =
            atl_arena_array(&bench->arena, Atoll__Ha__V1__JobResult *, GUESTS_MAX / NODES + 1);
        node->record = atl_arena_new(&bench->arena, Atoll__Ha__V1__NodeRecord);
        atoll__ha__v1__node_record__init(node->record);
        node->record->state = text(bench, "online");
        node->record_revision = &bench->revision;
        node->has_cpus = node->has_memory = node->has_cpu_used = node->has_memory_used = 1;
        node->cpus = 128;
        node->memory = 2048ULL << 30;
        node->cpu_used = 20 + i % 7;
        node->memory_used = (800ULL + (uint64_t)(i % 9) * 20) << 30;
        bench->view.node[bench->view.n_node++] = node;
    }
}

static void add_record(struct bench *bench, Atoll__Ha__V1__GuestView *guest, Atoll__Ha__V1__LrmReport *report)
{
    guest->service = atl_arena_new(&bench->arena, Atoll__Ha__V1__Service);
    atoll__ha__v1__service__init(guest->service);
    guest->service->state = text(bench, "started");
    guest->service->node = guest->node;
    guest->service->command = 3;
    guest->service_revision = &bench->revision;
    Atoll__Ha__V1__JobResult *result = atl_arena_new(&bench->arena, Atoll__Ha__V1__JobResult);
    atoll__ha__v1__job_result__init(result);
    result->sid = guest->resource->sid;
    result->command = 3;
    result->outcome = text(bench, "done");
    report->result[report->n_result++] = result;
}

static void add_guests(struct bench *bench, int count, bool known)
{
    bench->view.guest = atl_arena_array(&bench->arena, Atoll__Ha__V1__GuestView *, (size_t)count);
    for (int i = 0; i < count; i++) {
        Atoll__Ha__V1__GuestView *guest = atl_arena_new(&bench->arena, Atoll__Ha__V1__GuestView);
        Atoll__Ha__V1__NodeView *node = bench->view.node[i % NODES];
        atoll__ha__v1__guest_view__init(guest);
        guest->vmid = 100 + (uint32_t)i;
        guest->type = text(bench, "vm");
        guest->node = node->name;
        guest->revision = &bench->revision;
        guest->has_running = guest->running = known;
        guest->has_cpus = guest->has_memory = guest->has_cpu_used = guest->has_memory_used = 1;
        guest->cpus = 1 + i % 8;
        guest->memory = (uint64_t)(1 + i % 16) << 30;
        guest->cpu_used = 0.1 * (i % 10);
        guest->memory_used = guest->memory / 2;
        guest->resource = atl_arena_new(&bench->arena, Atoll__Ha__V1__Resource);
        atoll__ha__v1__resource__init(guest->resource);
        guest->resource->sid = atl_arena_format(&bench->arena, "vm:%" PRIu32, guest->vmid);
        guest->resource->state = text(bench, "started");
        if (known)
            add_record(bench, guest, node->report);
        bench->view.guest[bench->view.n_guest++] = guest;
    }
}

static struct bench make_bench(int guests, bool known)
{
    struct bench bench = {.view = ATOLL__HA__V1__MANAGER_VIEW__INIT,
                          .revision = ATOLL__BUS__V1__REVISION__INIT};
    bench.revision.has_epoch = bench.revision.has_number = 1;
    bench.revision.epoch = bench.revision.number = 1;
    bench.view.self = text(&bench, "node00");
    bench.view.incarnation = 7;
    bench.view.has_quorate = bench.view.quorate = 1;
    bench.view.manager = atl_arena_new(&bench.arena, Atoll__Ha__V1__Manager);
    atoll__ha__v1__manager__init(bench.view.manager);
    bench.view.manager->node = bench.view.self;
    bench.view.manager->incarnation = 7;
    bench.view.settings = atl_arena_new(&bench.arena, Atoll__Ha__V1__Settings);
    atoll__ha__v1__settings__init(bench.view.settings);
    add_nodes(&bench);
    add_guests(&bench, guests, known);
    return bench;
}

/* The struct moved: its revision's address is the view's. */
static void settle(struct bench *bench)
{
    Atoll__Bus__V1__Revision *revision =
        atl_arena_copy(&bench->arena, &bench->revision, sizeof bench->revision);
    bench->view.manager_revision = revision;
    for (size_t i = 0; i < bench->view.n_node; i++)
        bench->view.node[i]->lock_revision = bench->view.node[i]->record_revision = revision;
    for (size_t i = 0; i < bench->view.n_guest; i++)
        bench->view.guest[i]->revision = bench->view.guest[i]->service_revision = revision;
}

/* Half of them tie resources to some nodes, a quarter each keeps two together or four apart. */
static void add_rules(struct bench *bench)
{
    bench->view.rule = atl_arena_array(&bench->arena, Atoll__Ha__V1__Rule *, RULES);
    for (int i = 0; i < RULES; i++) {
        Atoll__Ha__V1__Rule *rule = atl_arena_new(&bench->arena, Atoll__Ha__V1__Rule);
        atoll__ha__v1__rule__init(rule);
        int first =
            100 + i * NODES / 2; /* of node 0 or 32: those four have different nodes, or two the same */
        bool nodes = i % 2 == 0;
        bool together = i % 4 == 1;
        rule->rule = atl_arena_format(&bench->arena, "rule%d", i);
        rule->type = text(bench, nodes ? "node-affinity" : "resource-affinity");
        rule->affinity = nodes ? NULL : text(bench, together ? "positive" : "negative");
        rule->resources = together ? atl_arena_format(&bench->arena, "vm:%d,vm:%d", first, first + NODES)
                                   : atl_arena_format(&bench->arena, "vm:%d,vm:%d,vm:%d,vm:%d", first + 1,
                                                      first + 2, first + 3, first + 4);
        rule->nodes = nodes ? atl_arena_format(&bench->arena, "node%02d:5,node%02d:5,node%02d:5,node%02d:5",
                                               (first - 99) % NODES, (first - 98) % NODES,
                                               (first - 97) % NODES, (first - 96) % NODES)
                            : NULL;
        bench->view.rule[bench->view.n_rule++] = rule;
    }
}

struct result {
    double ms;
    size_t transactions;
    size_t operations;
    size_t renames;
};

static struct result measure(struct bench *bench)
{
    double samples[ROUNDS];
    struct result result = {0};
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    for (int i = 0; i < ROUNDS; i++) {
        atl_arena_reset(&arena);
        atl_ns start = atl_clock_monotonic();
        const Atoll__Ha__V1__ManagerPlan *plan = crm_round(&bench->view, &arena);
        samples[i] = bench_since(start) / 1000;
        result = (struct result){.transactions = plan->n_txn};
        for (size_t t = 0; t < plan->n_txn; t++) {
            result.operations += plan->txn[t]->n_operation;
            for (size_t o = 0; o < plan->txn[t]->n_operation; o++)
                result.renames += strcmp(plan->txn[t]->operation[o]->kind, "rename") == 0;
        }
    }
    result.ms = bench_median(samples, ROUNDS);
    return result;
}

static double show(const char *what, struct bench *bench)
{
    settle(bench);
    struct result result = measure(bench);
    printf("%-52s %8.2f ms  %4zu transactions, %5zu operations, %4zu guests moved\n", what, result.ms,
           result.transactions, result.operations, result.renames);
    atl_arena_done(&bench->arena);
    return result.ms;
}

static void lose_node(struct bench *bench, int index)
{
    bench->view.node[index]->member = 0;
    bench->view.node[index]->unchanged_ms = 7000;
}

static double show_large(void)
{
    double worst = 0;
    struct bench bench = make_bench(LARGE, true);
    worst = show("nothing to do", &bench);
    bench = make_bench(LARGE, true);
    add_rules(&bench);
    double ms = show("with 200 rules that hold", &bench);
    worst = ms > worst ? ms : worst;
    bench = make_bench(LARGE, true);
    bench.view.settings->rebalance = text(&bench, "advise");
    bench.view.node[5]->cpu_used = 120;
    bench.view.node[5]->memory_used = 1900ULL << 30;
    ms = show("advice how to balance a full node", &bench);
    worst = ms > worst ? ms : worst;
    bench = make_bench(LARGE, false);
    ms = show("all resources are new", &bench);
    worst = ms > worst ? ms : worst;
    bench = make_bench(LARGE, true);
    lose_node(&bench, 17);
    ms = show("a node is lost: take-over and first transaction", &bench);
    worst = ms > worst ? ms : worst;
    bench = make_bench(LARGE, true);
    lose_node(&bench, 17);
    bench.view.node[17]->lock->has_fenced = bench.view.node[17]->lock->fenced = 1;
    ms = show("a node is fenced: all of its guests", &bench);
    return ms > worst ? ms : worst;
}

int main(void)
{
    static const int sizes[] = {1000, 2000, 5000, 10000, 20000};
    printf("one round, 64 nodes and 10,000 resources, median of %d\n", ROUNDS);
    double worst = show_large();
    printf("growth, nothing to do\n");
    for (size_t i = 0; i < ATL_COUNT(sizes); i++) {
        char what[64];
        struct bench bench = make_bench(sizes[i], true);
        (void)snprintf(what, sizeof what, "%d resources", sizes[i]);
        (void)show(what, &bench);
    }
    printf("longest of 10,000: %.1f ms (budget %d ms)%s\n", worst, BUDGET_MS,
           worst <= BUDGET_MS ? "" : ": NOT HELD");
    return worst <= BUDGET_MS ? 0 : 1;
}
