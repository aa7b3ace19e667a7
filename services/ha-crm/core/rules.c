/* Which rules can be kept; see rules.h. */
#include "core/rules.h"

#include <stdlib.h>
#include <string.h>

enum { PRIORITY_MAX = 1000 };

struct index {
    const char *name;
    int at;
};
struct members {
    int *item; /* indexes of known names, as they are listed */
    size_t count;
    size_t words;
};
struct checking {
    const struct crm_rules_input *input;
    struct atl_arena *arena;
    struct index *nodes;
    struct index *sids;
    struct members *of; /* by rule: its resources */
    const char **error;
    int *owner;     /* by resource: its node-affinity rule, or -1 */
    int *parent;    /* by resource: towards the first of those it stays together with */
    bool **allowed; /* by resource that stands for its set: nodes, NULL: all */
};

static bool is(const char *text, const char *word)
{
    return text != NULL && strcmp(text, word) == 0;
}

void crm_each_word(const char *list, struct atl_arena *arena, void (*found)(const char *word, void *user),
                   void *user)
{
    static const char between[] = ",; \t\n";
    for (const char *at = list; at != NULL && *at != '\0';) {
        at += strspn(at, between);
        size_t length = strcspn(at, between);
        if (length > 0)
            found(atl_arena_strndup(arena, at, length), user);
        at += length;
    }
}

char *crm_node_word(const char *word, struct atl_arena *arena, int *ret_priority)
{
    const char *colon = strchr(word, ':');
    long priority = colon == NULL ? 0 : strtol(colon + 1, NULL, 10);
    *ret_priority = priority < 0 ? 0 : priority > PRIORITY_MAX ? PRIORITY_MAX : (int)priority;
    return atl_arena_strndup(arena, word, colon == NULL ? strlen(word) : (size_t)(colon - word));
}

/* --- names --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct index *)a)->name, ((const struct index *)b)->name);
}

static struct index *sorted(struct atl_arena *arena, const char *const *names, size_t count)
{
    struct index *index = atl_arena_array(arena, struct index, count + 1);
    for (size_t i = 0; i < count; i++)
        index[i] = (struct index){names[i], (int)i};
    qsort(index, count, sizeof *index, by_name);
    return index;
}

static int find(const struct index *index, size_t count, const char *name)
{
    struct index key = {name, 0};
    const struct index *found = bsearch(&key, index, count, sizeof key, by_name);
    return found == NULL ? -1 : found->at;
}

struct listing {
    struct checking *checking;
    struct members members;
    bool *mark; /* by what is listed */
    size_t room;
    bool nodes;
};

static void add_word(const char *word, void *user)
{
    struct listing *listing = user;
    const struct checking *checking = listing->checking;
    int priority = 0;
    int found = listing->nodes ? find(checking->nodes, checking->input->node_count,
                                      crm_node_word(word, checking->arena, &priority))
                               : find(checking->sids, checking->input->sid_count, word);
    listing->members.words++;
    if (found < 0 || listing->mark[found])
        return;
    listing->mark[found] = true;
    listing->members.item = atl_arena_grow(checking->arena, listing->members.item, listing->members.count,
                                           &listing->room, sizeof(int));
    listing->members.item[listing->members.count++] = found;
}

static struct members members_of(struct checking *checking, const char *list, bool nodes)
{
    size_t count = nodes ? checking->input->node_count : checking->input->sid_count;
    struct listing listing = {
        .checking = checking, .nodes = nodes, .mark = atl_arena_array(checking->arena, bool, count + 1)};
    crm_each_word(list, checking->arena, add_word, &listing);
    return listing.members;
}

/* --- a rule by itself --- */

static const char *check_node_affinity(struct checking *checking, const Atoll__Ha__V1__Rule *rule,
                                       const struct members *resources)
{
    struct members nodes = members_of(checking, rule->nodes, true);
    if (resources->count == 0)
        return "none of its resources is under high availability";
    if (nodes.words == 0)
        return "it names no node";
    return nodes.count == 0 && rule->strict ? "none of its nodes is in the cluster" : NULL;
}

static const char *check_resource_affinity(const struct checking *checking, const Atoll__Ha__V1__Rule *rule,
                                           const struct members *resources)
{
    bool apart = is(rule->affinity, "negative");
    if (!apart && !is(rule->affinity, "positive"))
        return "its affinity is neither positive nor negative";
    if (resources->count < 2)
        return "fewer than two of its resources are under high availability";
    if (apart && resources->count > checking->input->node_count)
        return atl_arena_format(checking->arena, "%zu resources can not be apart on %zu nodes",
                                resources->count, checking->input->node_count);
    return NULL;
}

static const char *check_alone(struct checking *checking, size_t index)
{
    const Atoll__Ha__V1__Rule *rule = checking->input->rule[index];
    checking->of[index] = members_of(checking, rule->resources, false);
    if (checking->of[index].words == 0)
        return "it names no resource";
    if (is(rule->type, "node-affinity"))
        return check_node_affinity(checking, rule, &checking->of[index]);
    if (is(rule->type, "resource-affinity"))
        return check_resource_affinity(checking, rule, &checking->of[index]);
    return "its type is not known";
}

/* --- rules among each other --- */

static const char *sid_of(const struct checking *checking, int resource)
{
    return checking->input->sid[resource];
}

static const char *name_of(const struct checking *checking, int rule)
{
    const char *name = checking->input->rule[rule]->rule;
    return name != NULL ? name : "?";
}

static int set_of(const struct checking *checking, int resource)
{
    while (checking->parent[resource] != resource)
        resource = checking->parent[resource];
    return resource;
}

static bool *nodes_allowed(struct checking *checking, const Atoll__Ha__V1__Rule *rule)
{
    bool *allowed = atl_arena_array(checking->arena, bool, checking->input->node_count + 1);
    struct members nodes = members_of(checking, rule->nodes, true);
    for (size_t i = 0; i < nodes.count; i++)
        allowed[nodes.item[i]] = true;
    return allowed;
}

static const char *join_node_affinity(struct checking *checking, size_t index)
{
    const Atoll__Ha__V1__Rule *rule = checking->input->rule[index];
    const struct members *of = &checking->of[index];
    for (size_t i = 0; i < of->count; i++)
        if (checking->owner[of->item[i]] >= 0)
            return atl_arena_format(checking->arena, "%s is in rule '%s' already",
                                    sid_of(checking, of->item[i]),
                                    name_of(checking, checking->owner[of->item[i]]));
    bool *allowed = rule->strict ? nodes_allowed(checking, rule) : NULL;
    for (size_t i = 0; i < of->count; i++) {
        checking->owner[of->item[i]] = (int)index;
        checking->allowed[of->item[i]] = allowed;
    }
    return NULL;
}

/* Narrows the nodes down; false: none is left. */
static bool meet(const struct checking *checking, bool *nodes, const bool *allowed)
{
    bool left = false;
    for (size_t i = 0; i < checking->input->node_count; i++) {
        nodes[i] = nodes[i] && (allowed == NULL || allowed[i]);
        left = left || nodes[i];
    }
    return left;
}

static const char *join_positive(struct checking *checking, size_t index)
{
    const struct members *of = &checking->of[index];
    bool *nodes = atl_arena_array(checking->arena, bool, checking->input->node_count + 1);
    bool narrowed = false;
    for (size_t i = 0; i < checking->input->node_count; i++)
        nodes[i] = true;
    for (size_t i = 0; i < of->count; i++) {
        const bool *allowed = checking->allowed[set_of(checking, of->item[i])];
        narrowed = narrowed || allowed != NULL;
        if (allowed != NULL && !meet(checking, nodes, allowed))
            return atl_arena_format(checking->arena,
                                    "strict rules leave no node where %s can be with the others",
                                    sid_of(checking, of->item[i]));
    }
    int first = set_of(checking, of->item[0]);
    for (size_t i = 1; i < of->count; i++)
        checking->parent[set_of(checking, of->item[i])] = first;
    checking->allowed[set_of(checking, first)] = narrowed ? nodes : NULL;
    return NULL;
}

static const char *join_negative(struct checking *checking, size_t index)
{
    const struct members *of = &checking->of[index];
    bool *nodes = atl_arena_array(checking->arena, bool, checking->input->node_count + 1);
    size_t strict = 0;
    size_t room = 0;
    int *seen = atl_arena_array(checking->arena, int, checking->input->sid_count + 1);
    for (size_t i = 0; i < of->count; i++) {
        int set = set_of(checking, of->item[i]);
        if (seen[set] != 0)
            return atl_arena_format(checking->arena, "%s and %s are to stay together by another rule",
                                    sid_of(checking, seen[set] - 1), sid_of(checking, of->item[i]));
        seen[set] = of->item[i] + 1;
        const bool *allowed = checking->allowed[set];
        strict += allowed != NULL;
        for (size_t n = 0; allowed != NULL && n < checking->input->node_count; n++) {
            room += allowed[n] && !nodes[n];
            nodes[n] = nodes[n] || allowed[n];
        }
    }
    if (strict > room)
        return atl_arena_format(checking->arena, "%zu of its resources have %zu nodes by strict rules",
                                strict, room);
    return NULL;
}

struct kind {
    const char *type;
    const char *affinity; /* NULL: any */
    const char *(*join)(struct checking *checking, size_t index);
};
static const struct kind kinds[] = {
    {"node-affinity", NULL, join_node_affinity},
    {"resource-affinity", "positive", join_positive},
    {"resource-affinity", "negative", join_negative},
};

static void check_together(struct checking *checking, const struct kind *kind)
{
    for (size_t i = 0; i < checking->input->rule_count; i++) {
        const Atoll__Ha__V1__Rule *rule = checking->input->rule[i];
        if (checking->error[i] == NULL && !rule->disable && is(rule->type, kind->type) &&
            (kind->affinity == NULL || is(rule->affinity, kind->affinity)))
            checking->error[i] = kind->join(checking, i);
    }
}

const char **crm_rules_check(const struct crm_rules_input *input, struct atl_arena *arena)
{
    struct checking checking = {
        .input = input,
        .arena = arena,
        .nodes = sorted(arena, input->node, input->node_count),
        .sids = sorted(arena, input->sid, input->sid_count),
        .of = atl_arena_array(arena, struct members, input->rule_count + 1),
        .error = atl_arena_array(arena, const char *, input->rule_count + 1),
        .owner = atl_arena_array(arena, int, input->sid_count + 1),
        .parent = atl_arena_array(arena, int, input->sid_count + 1),
        .allowed = atl_arena_array(arena, bool *, input->sid_count + 1),
    };
    for (size_t i = 0; i < input->sid_count; i++) {
        checking.owner[i] = -1;
        checking.parent[i] = (int)i;
    }
    for (size_t i = 0; i < input->rule_count; i++)
        checking.error[i] = check_alone(&checking, i);
    for (size_t i = 0; i < ATL_COUNT(kinds); i++)
        check_together(&checking, &kinds[i]);
    return checking.error;
}
