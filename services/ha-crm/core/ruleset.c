/* Compiles rules and groups; see ruleset.h. */
#include "core/ruleset.h"

#include <string.h>

#include "core/rules.h"

struct filling {
    struct crm_round *round;
    struct crm_node_rule *node_rule;
    struct crm_set *set;
    bool *mark; /* by guest: it is in the set */
    size_t room;
};

/* --- node affinity --- */

static void add_node(const char *word, void *user)
{
    struct filling *filling = user;
    int priority = 0;
    int node = crm_find_node(filling->round, crm_node_word(word, filling->round->arena, &priority));
    if (node != CRM_NOWHERE)
        filling->node_rule->priority[node] = priority;
}

static int add_node_rule(struct crm_round *round, const char *name, const char *nodes, bool strict)
{
    struct crm_rule_part *rules = &round->rules;
    struct crm_node_rule *rule = &rules->node_rule[rules->node_rule_count];
    *rule = (struct crm_node_rule){.name = name,
                                   .strict = strict,
                                   .priority = atl_arena_array(round->arena, int, round->node_count + 1)};
    for (size_t i = 0; i < round->node_count; i++)
        rule->priority[i] = -1;
    struct filling filling = {.round = round, .node_rule = rule};
    crm_each_word(nodes, round->arena, add_node, &filling);
    return (int)rules->node_rule_count++;
}

static void give_node_rule(const char *word, void *user)
{
    struct filling *filling = user;
    int guest = crm_find_sid(filling->round, word);
    if (guest != CRM_NOWHERE)
        filling->round->guest[guest].node_rule = (int)(filling->node_rule - filling->round->rules.node_rule);
}

/* A group is the rule of all that name it and have no rule of their own. */
static void add_groups(struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    int *rule_of = atl_arena_array(round->arena, int, view->n_group + 1);
    for (size_t i = 0; i < view->n_group; i++) {
        const Atoll__Ha__V1__Group *group = view->group[i];
        rule_of[i] =
            add_node_rule(round, group->group != NULL ? group->group : "?", group->nodes, group->restricted);
    }
    for (size_t i = 0; view->n_group > 0 && i < round->guest_count; i++) {
        struct crm_guest *guest = &round->guest[i];
        const Atoll__Ha__V1__Resource *resource = guest->view->resource;
        for (size_t g = 0; resource != NULL && resource->group != NULL && g < view->n_group; g++) {
            if (!crm_is(view->group[g]->group, resource->group))
                continue;
            guest->failback = guest->failback && !view->group[g]->nofailback;
            if (guest->node_rule == CRM_NOWHERE)
                guest->node_rule = rule_of[g];
            break;
        }
    }
}

/* --- resource affinity --- */

static void add_member(const char *word, void *user)
{
    struct filling *filling = user;
    int guest = crm_find_sid(filling->round, word);
    if (guest == CRM_NOWHERE)
        return;
    if (filling->mark[guest])
        return;
    filling->mark[guest] = true;
    filling->set->member = atl_arena_grow(filling->round->arena, filling->set->member, filling->set->count,
                                          &filling->room, sizeof(int));
    filling->set->member[filling->set->count++] = guest;
}

static struct crm_set make_set(struct crm_round *round, const Atoll__Ha__V1__Rule *rule)
{
    struct crm_set set = {.name = rule->rule != NULL ? rule->rule : "?",
                          .on_node = atl_arena_array(round->arena, int, round->node_count + 1),
                          .leaving = atl_arena_array(round->arena, int, round->node_count + 1)};
    struct filling filling = {
        .round = round, .set = &set, .mark = atl_arena_array(round->arena, bool, round->guest_count + 1)};
    crm_each_word(rule->resources, round->arena, add_member, &filling);
    return set;
}

/* The members of the second set come into the first, which they share some with and which is to have room for
 * so many more. */
static void merge(struct crm_round *round, int first, int second, size_t more)
{
    struct crm_set *into = &round->rules.together[first];
    struct crm_set *from = &round->rules.together[second];
    int *member = atl_arena_array(round->arena, int, into->count + from->count + more + 1);
    if (into->count > 0)
        memcpy(member, into->member, into->count * sizeof *member);
    into->member = member;
    for (size_t i = 0; i < from->count; i++) {
        member[into->count++] = from->member[i];
        round->guest[from->member[i]].together = first;
    }
    from->count = 0;
}

static void add_together(struct crm_round *round, const Atoll__Ha__V1__Rule *rule)
{
    int index = (int)round->rules.together_count++;
    struct crm_set set = make_set(round, rule);
    struct crm_set *kept = &round->rules.together[index];
    *kept = (struct crm_set){.name = set.name, .on_node = set.on_node, .leaving = set.leaving};
    kept->member = atl_arena_array(round->arena, int, set.count + 1);
    for (size_t i = 0; i < set.count; i++) {
        int old = round->guest[set.member[i]].together;
        if (old == CRM_NOWHERE) {
            round->guest[set.member[i]].together = index;
            kept->member[kept->count++] = set.member[i];
        } else if (old != index) {
            merge(round, index, old, set.count - i);
            kept = &round->rules.together[index];
        }
    }
}

/* Each guest's list of the sets in which it is apart from others. */
static void list_apart(struct crm_round *round)
{
    struct crm_rule_part *rules = &round->rules;
    size_t total = 0;
    for (size_t i = 0; i < rules->apart_count; i++) {
        for (size_t m = 0; m < rules->apart[i].count; m++)
            round->guest[rules->apart[i].member[m]].apart_count++;
        total += rules->apart[i].count;
    }
    rules->apart_of = atl_arena_array(round->arena, int, total + 1);
    int next = 0;
    for (size_t i = 0; i < round->guest_count; i++) {
        round->guest[i].first_apart = next;
        next += round->guest[i].apart_count;
        round->guest[i].apart_count = 0;
    }
    for (size_t i = 0; i < rules->apart_count; i++) {
        for (size_t m = 0; m < rules->apart[i].count; m++) {
            struct crm_guest *guest = &round->guest[rules->apart[i].member[m]];
            rules->apart_of[guest->first_apart + guest->apart_count++] = (int)i;
        }
    }
}

/* --- all of them --- */

static const char **check(struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    const char **nodes = atl_arena_array(round->arena, const char *, round->node_count + 1);
    const char **sids = atl_arena_array(round->arena, const char *, round->guest_count + 1);
    struct crm_rules_input input = {
        .rule = view->rule, .rule_count = view->n_rule, .node = nodes, .sid = sids};
    for (size_t i = 0; i < round->node_count; i++)
        if (!round->node[i].view->removed)
            nodes[input.node_count++] = round->node[i].name;
    for (size_t i = 0; i < round->guest_count; i++)
        if (round->guest[i].view->resource != NULL)
            sids[input.sid_count++] = round->guest[i].sid;
    return crm_rules_check(&input, round->arena);
}

static void add_rule(struct crm_round *round, const Atoll__Ha__V1__Rule *rule)
{
    struct crm_rule_part *rules = &round->rules;
    if (crm_is(rule->type, "node-affinity")) {
        int index = add_node_rule(round, rule->rule != NULL ? rule->rule : "?", rule->nodes, rule->strict);
        struct filling filling = {.round = round, .node_rule = &rules->node_rule[index]};
        crm_each_word(rule->resources, round->arena, give_node_rule, &filling);
    } else if (crm_is(rule->affinity, "positive")) {
        add_together(round, rule);
    } else {
        rules->apart[rules->apart_count++] = make_set(round, rule);
    }
}

/* Where it counts for the others: where it runs, or where it is on its way to. */
static void aim_all(struct crm_round *round)
{
    for (size_t i = 0; i < round->guest_count; i++) {
        struct crm_guest *guest = &round->guest[i];
        bool rests = guest->state == CRM_STOPPED || guest->state == CRM_IGNORED || guest->service == NULL;
        bool found = guest->service != NULL && guest->at != CRM_NOWHERE &&
                     !crm_is(guest->service->node, round->node[guest->at].name);
        bool nowhere = guest->state == CRM_ERROR || (guest->state == CRM_RECOVERY && !found);
        if (guest->view->resource == NULL || nowhere || (rests && guest->want != CRM_WANT_STARTED))
            continue;
        int target = crm_target(round, guest);
        crm_aim(round, guest, target != CRM_NOWHERE ? target : guest->at);
    }
}

void crm_ruleset_look(struct crm_round *round)
{
    const Atoll__Ha__V1__ManagerView *view = round->view;
    struct crm_rule_part *rules = &round->rules;
    const char **errors = check(round);
    rules->node_rule = atl_arena_array(round->arena, struct crm_node_rule, view->n_rule + view->n_group + 1);
    rules->together = atl_arena_array(round->arena, struct crm_set, view->n_rule + 1);
    rules->apart = atl_arena_array(round->arena, struct crm_set, view->n_rule + 1);
    for (size_t i = 0; i < view->n_rule; i++) {
        if (errors[i] != NULL)
            (void)crm_decide(round, NULL, NULL,
                             atl_arena_format(round->arena, "disregard rule %s",
                                              view->rule[i]->rule != NULL ? view->rule[i]->rule : "?"),
                             "%s", errors[i]);
        else if (!view->rule[i]->disable)
            add_rule(round, view->rule[i]);
    }
    add_groups(round);
    rules->any = view->n_rule + view->n_group > 0;
    list_apart(round);
    aim_all(round);
}
