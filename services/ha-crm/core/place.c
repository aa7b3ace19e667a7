/* Scores, and what speaks against nodes; see place.h. */
#include "core/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ALTERNATIVES_MAX = 8,
    SCORE_MAX = 1000000,
    MEMORY_HIGH = 900, /* of a thousand; from here on memory counts most */
    GIB_SHIFT = 30,
};

/* --- load --- */

/* Numbers of outside: no NaN, nothing below or above. */
static double sane(double value, double least, double most)
{
    if (!(value >= least))
        return least;
    return value <= most ? value : most;
}

static struct crm_demand demand_of(const Atoll__Ha__V1__GuestView *guest)
{
    double cpus = guest->has_cpus ? sane(guest->cpus, 0.1, 4096) : 1;
    double memory =
        guest->has_memory ? sane((double)guest->memory, 1 << 20, 1e15) : (double)(1ULL << GIB_SHIFT);
    struct crm_demand demand = {.cpus = cpus / 4, .memory = memory};
    if (!guest->running)
        return demand;
    if (guest->has_cpu_used)
        demand.cpus = sane(guest->cpu_used, cpus / 50, 4096);
    if (guest->has_memory_used) /* what it has not touched yet counts half */
        demand.memory = (sane((double)guest->memory_used, 0, memory) + memory) / 2;
    return demand;
}

void crm_load_add(struct crm_node *node, const struct crm_demand *demand)
{
    node->load.cpu_used += demand->cpus;
    node->load.memory_used += demand->memory;
    node->load.guests++;
}

void crm_load_drop(struct crm_node *node, const struct crm_demand *demand)
{
    node->load.cpu_used = sane(node->load.cpu_used - demand->cpus, 0, 1e9);
    node->load.memory_used = sane(node->load.memory_used - demand->memory, 0, 1e18);
    node->load.guests -= node->load.guests > 0;
}

static int thousandth(double part, double whole)
{
    return (int)sane(part * 1000 / whole, 0, SCORE_MAX);
}

int crm_load_score(const struct crm_load *load)
{
    int cpu = thousandth(load->cpu_used, load->cpus);
    int memory = thousandth(load->memory_used, load->memory);
    int score = (4 * cpu + 6 * memory) / 10 + (int)(load->pressure * 300) +
                (int)(load->guests > 1000 ? 1000 : load->guests);
    if (memory > MEMORY_HIGH)
        score += (memory - MEMORY_HIGH) * 10;
    return score;
}

static void take_capacity(struct crm_round *round)
{
    double cpus = 0;
    double memory = 0;
    int cpus_known = 0;
    int memory_known = 0;
    for (size_t i = 0; i < round->node_count; i++) {
        const Atoll__Ha__V1__NodeView *view = round->node[i].view;
        struct crm_load *load = &round->node[i].load;
        load->cpus = view->has_cpus ? sane(view->cpus, 0, 65536) : 0;
        load->memory = view->has_memory ? (double)view->memory : 0;
        cpus += load->cpus;
        memory += load->memory;
        cpus_known += load->cpus > 0;
        memory_known += load->memory > 0;
    }
    for (size_t i = 0; i < round->node_count; i++) { /* unknown: as the others on average */
        struct crm_load *load = &round->node[i].load;
        if (load->cpus <= 0)
            load->cpus = cpus_known > 0 ? cpus / cpus_known : 8;
        if (load->memory <= 0)
            load->memory = memory_known > 0 ? memory / memory_known : (double)(32ULL << GIB_SHIFT);
    }
}

/* Does what the node says of itself not hold this guest yet? */
static bool is_coming(const struct crm_guest *guest)
{
    return guest->service != NULL && guest->view->resource != NULL && !guest->view->running &&
           guest->state == CRM_REQUEST_START;
}

static void take_use(struct crm_round *round, const struct crm_node *node, const struct crm_guest *guest)
{
    struct crm_load *load = &round->node[guest->at].load;
    if (guest->view->running)
        load->guests++;
    if (guest->view->running && !node->view->has_cpu_used)
        load->cpu_used += guest->demand.cpus;
    if (guest->view->running && !node->view->has_memory_used)
        load->memory_used += guest->demand.memory;
    if (is_coming(guest))
        crm_load_add(&round->node[guest->at], &guest->demand);
    int target = guest->view->resource != NULL ? crm_target(round, guest) : CRM_NOWHERE;
    if (target != CRM_NOWHERE && target != guest->at)
        crm_load_add(&round->node[target], &guest->demand);
}

void crm_load_look(struct crm_round *round)
{
    take_capacity(round);
    for (size_t i = 0; i < round->node_count; i++) {
        const Atoll__Ha__V1__NodeView *view = round->node[i].view;
        struct crm_load *load = &round->node[i].load;
        load->cpu_used = view->has_cpu_used ? sane(view->cpu_used, 0, 65536) : 0;
        load->memory_used = view->has_memory_used ? (double)view->memory_used : 0;
        load->pressure = view->has_pressure ? sane(view->pressure, 0, 1) : 0;
    }
    for (size_t i = 0; i < round->guest_count; i++) {
        struct crm_guest *guest = &round->guest[i];
        guest->demand = demand_of(guest->view);
        if (guest->at != CRM_NOWHERE)
            take_use(round, &round->node[guest->at], guest);
    }
}

/* --- what speaks against a node --- */

enum against { FITS, TAKES_NONE, NOT_HERE, TRIED, BOUND, STRICT, APART, TOGETHER };

struct verdict {
    enum against against;
    const struct crm_guest *who; /* whose rule it is */
    int rule;                    /* index of the set, or of the node that they are on */
};

static bool was_tried(const struct crm_guest *guest, const char *node)
{
    for (size_t i = 0; guest->service != NULL && i < guest->service->n_tried; i++)
        if (strcmp(guest->service->tried[i], node) == 0)
            return true;
    return false;
}

/* Its own rules. */
static struct verdict judge_guest(const struct crm_round *round, const struct crm_guest *guest, int node)
{
    const struct crm_rule_part *rules = &round->rules;
    if (guest->view->bound && guest->at != node)
        return (struct verdict){BOUND, guest, 0};
    if (guest->node_rule != CRM_NOWHERE && rules->node_rule[guest->node_rule].strict &&
        rules->node_rule[guest->node_rule].priority[node] < 0)
        return (struct verdict){STRICT, guest, guest->node_rule};
    for (int i = 0; i < guest->apart_count; i++) {
        int set = rules->apart_of[guest->first_apart + i];
        int others = rules->apart[set].on_node[node] - (guest->aim == node ? 1 : 0);
        if (node != guest->at) /* who leaves it may have to stay */
            others += rules->apart[set].leaving[node];
        if (others > 0)
            return (struct verdict){APART, guest, set};
    }
    return (struct verdict){FITS, guest, 0};
}

/* Where most of those are that it must be together with; CRM_NOWHERE: on no node that can take it. */
static int anchor_of(const struct crm_round *round, const struct crm_guest *guest)
{
    const struct crm_set *set = &round->rules.together[guest->together];
    int best = CRM_NOWHERE;
    int most = 0;
    for (size_t i = 0; i < round->node_count; i++) {
        int others = set->on_node[i] - (guest->aim == (int)i ? 1 : 0);
        if (others > most && round->node[i].why_not == NULL) {
            most = others;
            best = (int)i;
        }
    }
    return best;
}

struct case_ {
    const struct crm_guest *guest;
    const struct crm_place_wish *wish;
    int anchor;                /* it must go there, or CRM_NOWHERE */
    const struct crm_set *set; /* all of these go, or will follow; NULL: it alone */
    struct crm_demand demand;
};

static struct case_ make_case(const struct crm_round *round, const struct crm_guest *guest,
                              const struct crm_place_wish *wish)
{
    struct case_ it = {.guest = guest, .wish = wish, .anchor = CRM_NOWHERE, .demand = guest->demand};
    if (guest->together == CRM_NOWHERE)
        return it;
    if (!wish->whole)
        it.anchor = anchor_of(round, guest);
    if (it.anchor != CRM_NOWHERE)
        return it;
    it.set = &round->rules.together[guest->together];
    it.demand = (struct crm_demand){0};
    for (size_t i = 0; i < it.set->count; i++) {
        it.demand.cpus += round->guest[it.set->member[i]].demand.cpus;
        it.demand.memory += round->guest[it.set->member[i]].demand.memory;
    }
    return it;
}

static struct verdict judge(const struct crm_round *round, const struct case_ *it, int node)
{
    const struct crm_place_wish *wish = it->wish;
    if (round->node[node].why_not != NULL)
        return (struct verdict){TAKES_NONE, it->guest, 0};
    if (wish->avoid == node || (wish->only != CRM_NOWHERE && wish->only != node))
        return (struct verdict){NOT_HERE, it->guest, 0};
    if (wish->tried && was_tried(it->guest, round->node[node].name))
        return (struct verdict){TRIED, it->guest, 0};
    if (it->anchor != CRM_NOWHERE && it->anchor != node)
        return (struct verdict){TOGETHER, it->guest, it->anchor};
    if (it->set == NULL)
        return judge_guest(round, it->guest, node);
    for (size_t i = 0; i < it->set->count; i++) {
        struct verdict verdict = judge_guest(round, &round->guest[it->set->member[i]], node);
        if (verdict.against != FITS)
            return verdict;
    }
    return (struct verdict){FITS, it->guest, 0};
}

/* One that it must be apart from, on that node. */
static const char *opponent(const struct crm_round *round, const struct verdict *verdict, int node)
{
    const struct crm_set *set = &round->rules.apart[verdict->rule];
    for (size_t i = 0; i < set->count; i++) {
        const struct crm_guest *other = &round->guest[set->member[i]];
        if (other != verdict->who && (other->aim == node || other->leaving == node))
            return other->sid;
    }
    return "another";
}

static const char *verdict_text(const struct crm_round *round, const struct verdict *verdict, int node)
{
    const struct crm_rule_part *rules = &round->rules;
    switch (verdict->against) {
    case TAKES_NONE:
        return round->node[node].why_not;
    case NOT_HERE:
        return "it is to go elsewhere";
    case TRIED:
        return "it was tried there";
    case BOUND:
        return atl_arena_format(round->arena, "%s can not leave its node", verdict->who->sid);
    case STRICT:
        return atl_arena_format(round->arena, "rule '%s' keeps %s away", rules->node_rule[verdict->rule].name,
                                verdict->who->sid);
    case APART:
        return atl_arena_format(round->arena, "rule '%s' keeps %s apart from %s",
                                rules->apart[verdict->rule].name, verdict->who->sid,
                                opponent(round, verdict, node));
    case TOGETHER:
        return atl_arena_format(round->arena, "rule '%s' keeps it together with those on %s",
                                rules->together[verdict->who->together].name,
                                round->node[verdict->rule].name);
    case FITS:
        break;
    }
    return NULL;
}

int crm_place_class(const struct crm_round *round, const struct crm_guest *guest, int node)
{
    const struct crm_rule_part *rules = &round->rules;
    if (guest->together == CRM_NOWHERE)
        return guest->node_rule == CRM_NOWHERE ? 0 : rules->node_rule[guest->node_rule].priority[node];
    int sum = 0;
    const struct crm_set *set = &rules->together[guest->together];
    for (size_t i = 0; i < set->count; i++) {
        int rule = round->guest[set->member[i]].node_rule;
        sum += rule == CRM_NOWHERE ? 0 : rules->node_rule[rule].priority[node];
    }
    return sum;
}

const char *crm_place_against(struct crm_round *round, const struct crm_guest *guest, int node,
                              const struct crm_place_wish *wish)
{
    struct case_ it = make_case(round, guest, wish);
    struct verdict verdict = judge(round, &it, node);
    return verdict_text(round, &verdict, node);
}

/* --- the choice --- */

struct candidate {
    int node;
    int class;
    int score;
    struct verdict verdict;
};

/* Best first: those that fit, greatest class, least score, name. */
static int by_worth(const void *a, const void *b)
{
    const struct candidate *one = a;
    const struct candidate *other = b;
    bool fits = one->verdict.against == FITS;
    if (fits != (other->verdict.against == FITS))
        return fits ? -1 : 1;
    if (fits && one->class != other->class)
        return one->class > other->class ? -1 : 1;
    if (fits && one->score != other->score)
        return one->score < other->score ? -1 : 1;
    return one->node - other->node;
}

static char *score_text(const struct crm_round *round, const struct candidate *candidate, bool has_class)
{
    const struct crm_load *load = &round->node[candidate->node].load;
    char class[48] = "";
    if (has_class)
        (void)snprintf(class, sizeof class, candidate->class < 0 ? "not of its rule, " : "priority %d, ",
                       candidate->class);
    return atl_arena_format(round->arena, "%s%s: score %d (CPU %d %%, memory %d %%, %u guests)", class,
                            round->node[candidate->node].name, candidate->score,
                            thousandth(load->cpu_used, load->cpus) / 10,
                            thousandth(load->memory_used, load->memory) / 10, load->guests);
}

static void tell_alternatives(const struct crm_round *round, const struct candidate *candidates, size_t first,
                              bool has_class, struct crm_choice *choice)
{
    size_t count = round->node_count;
    choice->alternative = atl_arena_array(round->arena, char *, ALTERNATIVES_MAX + 1);
    for (size_t i = first; i < count && choice->alternatives < ALTERNATIVES_MAX; i++) {
        const struct candidate *it = &candidates[i];
        choice->alternative[choice->alternatives++] =
            it->verdict.against == FITS ? score_text(round, it, has_class)
                                        : atl_arena_format(round->arena, "%s: %s", round->node[it->node].name,
                                                           verdict_text(round, &it->verdict, it->node));
    }
    size_t left = count - first - choice->alternatives;
    if (left > 0)
        choice->alternative[choice->alternatives++] = atl_arena_format(round->arena, "and %zu more", left);
}

struct crm_choice crm_place(struct crm_round *round, const struct crm_guest *guest,
                            const struct crm_place_wish *wish)
{
    struct crm_choice choice = {.node = CRM_NOWHERE, .why = "there is no node"};
    struct case_ it = make_case(round, guest, wish);
    struct candidate *candidates = atl_arena_array(round->arena, struct candidate, round->node_count + 1);
    bool has_class = false;
    for (size_t i = 0; i < round->node_count; i++) {
        struct crm_load load = round->node[i].load;
        candidates[i].node = (int)i;
        candidates[i].verdict = judge(round, &it, (int)i);
        candidates[i].class = crm_place_class(round, guest, (int)i);
        has_class = has_class || candidates[i].class != 0;
        load.cpu_used += it.demand.cpus;
        load.memory_used += it.demand.memory;
        candidates[i].score = crm_load_score(&load);
    }
    if (round->node_count == 0)
        return choice;
    qsort(candidates, round->node_count, sizeof *candidates, by_worth);
    bool found = candidates[0].verdict.against == FITS;
    if (found) {
        choice.node = candidates[0].node;
        choice.why = score_text(round, &candidates[0], has_class);
    } else {
        choice.why = "no node can take it";
    }
    tell_alternatives(round, candidates, found ? 1 : 0, has_class, &choice);
    return choice;
}

void crm_keep_choice(struct crm_guest *guest, const struct crm_choice *choice)
{
    guest->service->n_alternative = choice->alternatives;
    guest->service->alternative = choice->alternative;
}
