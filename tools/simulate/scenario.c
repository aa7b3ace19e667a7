/* Scenarios: what there is, what happens, what is expected. docs/SIMULATOR.md tells the language. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { WORDS = 24, LINE = 512 };

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static uint64_t gib(const char *text)
{
    return (uint64_t)(strtod(text, NULL) * (double)(1ULL << 30));
}

/* node NAME [cpus N] [memory GIB] [drift PPM] [boot SECONDS] [no-vote] [witness] [power-fence] */
static enum atl_code declare_node(struct sim *sim, char **words, size_t count, struct atl_error *err)
{
    struct sim_node *node = count > 1 ? sim_node_add(sim, words[1]) : NULL;
    if (node == NULL)
        return atl_fail(err, ATL_E_INVALID, "node", "one too many, or the name is there already or too long");
    for (size_t i = 2; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : "";
        bool flag = true;
        if (is(words[i], "no-vote"))
            node->voter = false;
        else if (is(words[i], "witness"))
            node->witness = true;
        else if (is(words[i], "power-fence"))
            node->can_power_off = true;
        else
            flag = false;
        if (flag)
            continue;
        if (is(words[i], "cpus"))
            node->cpus = strtod(value, NULL);
        else if (is(words[i], "memory"))
            node->memory = gib(value);
        else if (is(words[i], "drift"))
            node->drift_ppm = (int)strtol(value, NULL, 10);
        else if (is(words[i], "boot"))
            node->boot_takes = (sim_us)(strtod(value, NULL) * SIM_SECOND);
        else
            return atl_fail(err, ATL_E_INVALID, "node", "it has no '%s'", words[i]);
        i++;
    }
    return ATL_OK;
}

static bool give_number(struct sim_guest *guest, const char *key, const char *value)
{
    Atoll__Ha__V1__Resource *resource = &guest->resource;
    uint32_t number = (uint32_t)strtoul(value, NULL, 10);
    if (is(key, "max-restart")) {
        resource->has_max_restart = 1;
        resource->max_restart = number;
    } else if (is(key, "max-relocate")) {
        resource->has_max_relocate = 1;
        resource->max_relocate = number;
    } else if (is(key, "failback")) {
        resource->has_failback = 1;
        resource->failback = number != 0;
    } else if (is(key, "auto-rebalance")) {
        resource->has_auto_rebalance = 1;
        resource->auto_rebalance = number != 0;
    } else if (is(key, "cpus")) {
        guest->cpus = strtod(value, NULL);
    } else if (is(key, "memory")) {
        guest->memory = gib(value);
    } else if (is(key, "start-takes")) {
        guest->start_takes = (sim_us)(strtod(value, NULL) * SIM_SECOND);
    } else if (is(key, "move-takes")) {
        guest->move_takes = (sim_us)(strtod(value, NULL) * SIM_SECOND);
    } else {
        return false;
    }
    return true;
}

/* resource|guest SID NODE [state S] [group G] [bound] [load CPU GIB] and the numbers above; a guest is not
 * managed */
static enum atl_code declare_guest(struct sim *sim, char **words, size_t count, struct atl_error *err)
{
    const struct sim_node *node = count > 2 ? sim_node_find(sim, words[2]) : NULL;
    struct sim_guest *guest = node == NULL ? NULL : sim_guest_add(sim, words[1], node->index);
    if (guest == NULL)
        return atl_fail(err, ATL_E_INVALID, words[0],
                        "give a new id (vm:100, ct:101) and a node that is there");
    guest->managed = is(words[0], "resource");
    for (size_t i = 3; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : "";
        if (is(words[i], "bound")) {
            guest->bound = true;
            continue;
        }
        if (is(words[i], "load") && i + 2 < count) {
            guest->cpu_used = strtod(value, NULL);
            guest->memory_used = gib(words[i + 2]);
            i++;
        } else if (is(words[i], "state")) {
            guest->resource.state = atl_arena_strdup(&sim->arena, value);
        } else if (is(words[i], "group")) {
            guest->resource.group = atl_arena_strdup(&sim->arena, value);
        } else if (!give_number(guest, words[i], value)) {
            return atl_fail(err, ATL_E_INVALID, words[0], "it has no '%s'", words[i]);
        }
        i++;
    }
    return ATL_OK;
}

/* rule NAME node-affinity SIDS NODES [strict] | rule NAME resource-affinity SIDS positive|negative */
static enum atl_code declare_rule(struct sim *sim, char **words, size_t count, struct atl_error *err)
{
    if (count < 5 || sim->rule_count == SIM_RULES)
        return atl_fail(err, ATL_E_INVALID, "rule", "give name, type, resources and nodes or affinity");
    Atoll__Ha__V1__Rule *rule = atl_arena_new(&sim->arena, Atoll__Ha__V1__Rule);
    atoll__ha__v1__rule__init(rule);
    rule->rule = atl_arena_strdup(&sim->arena, words[1]);
    rule->type = atl_arena_strdup(&sim->arena, words[2]);
    rule->resources = atl_arena_strdup(&sim->arena, words[3]);
    if (is(words[2], "node-affinity"))
        rule->nodes = atl_arena_strdup(&sim->arena, words[4]);
    else
        rule->affinity = atl_arena_strdup(&sim->arena, words[4]);
    rule->has_strict = count > 5;
    rule->strict = count > 5 && is(words[5], "strict");
    sim->rules[sim->rule_count++] = rule;
    return ATL_OK;
}

/* group NAME NODES [restricted] [nofailback] */
static enum atl_code declare_group(struct sim *sim, char **words, size_t count, struct atl_error *err)
{
    if (count < 3 || sim->group_count == SIM_RULES)
        return atl_fail(err, ATL_E_INVALID, "group", "give its name and nodes");
    Atoll__Ha__V1__Group *group = atl_arena_new(&sim->arena, Atoll__Ha__V1__Group);
    atoll__ha__v1__group__init(group);
    group->group = atl_arena_strdup(&sim->arena, words[1]);
    group->nodes = atl_arena_strdup(&sim->arena, words[2]);
    for (size_t i = 3; i < count; i++) {
        group->has_restricted = group->has_nofailback = 1;
        group->restricted |= is(words[i], "restricted");
        group->nofailback |= is(words[i], "nofailback");
    }
    sim->groups[sim->group_count++] = group;
    return ATL_OK;
}

/* set KEY VALUE */
static enum atl_code declare_setting(struct sim *sim, char **words, size_t count, struct atl_error *err)
{
    if (count != 3)
        return atl_fail(err, ATL_E_INVALID, "set", "give a setting and its value");
    Atoll__Ha__V1__Settings *settings = &sim->settings;
    char *value = atl_arena_strdup(&sim->arena, words[2]);
    if (is(words[1], "shutdown-policy")) {
        settings->shutdown_policy = value;
    } else if (is(words[1], "rebalance")) {
        settings->rebalance = value;
    } else if (is(words[1], "moves-per-hour")) {
        settings->has_moves_per_hour = 1;
        settings->moves_per_hour = (uint32_t)strtoul(value, NULL, 10);
    } else if (is(words[1], "rebalance-on-start")) {
        settings->has_rebalance_on_start = 1;
        settings->rebalance_on_start = is(value, "1");
    } else if (is(words[1], "tick")) {
        sim->tick_ms = (uint32_t)strtoul(value, NULL, 10);
        settings->has_tick_ms = 1;
        settings->tick_ms = sim->tick_ms;
        struct atl_ha_times times = atl_ha_times_of(sim->tick_ms);
        return atl_ha_times_check(&times, err);
    } else {
        return atl_fail(err, ATL_E_INVALID, "set", "there is no setting '%s'", words[1]);
    }
    return ATL_OK;
}

enum atl_code sim_declare(struct sim *sim, char **words, size_t count, bool *ret_known, struct atl_error *err)
{
    *ret_known = true;
    if (is(words[0], "node"))
        return declare_node(sim, words, count, err);
    bool guest = is(words[0], "resource") || is(words[0], "guest");
    if (guest && sim->tree.key_count == 0) {
        sim->leader = 0;
        sim_tree_init(sim);
    }
    if (guest)
        return declare_guest(sim, words, count, err);
    if (is(words[0], "rule"))
        return declare_rule(sim, words, count, err);
    if (is(words[0], "group"))
        return declare_group(sim, words, count, err);
    if (is(words[0], "set"))
        return declare_setting(sim, words, count, err);
    *ret_known = false;
    return ATL_OK;
}

struct reader {
    struct sim *sim;
    bool begun;
};

static enum atl_code begin(struct reader *reader, struct atl_error *err)
{
    struct sim *sim = reader->sim;
    if (reader->begun)
        return ATL_OK;
    if (sim->node_count == 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "a cluster without nodes does nothing");
    if (sim->tree.key_count == 0) {
        sim->leader = 0;
        sim_tree_init(sim);
    }
    reader->begun = true;
    sim_begin(sim);
    return ATL_OK;
}

static enum atl_code read_line(struct reader *reader, char *line, struct atl_error *err)
{
    struct sim *sim = reader->sim;
    char copy[LINE];
    char *words[WORDS];
    (void)snprintf(copy, sizeof copy, "%s", line);
    size_t count = sim_words(copy, words, WORDS);
    if (count == 0)
        return ATL_OK;
    if (is(words[0], "seed") && count == 2) {
        sim->seed = strtoull(words[1], NULL, 10);
        sim->random = sim->seed * 2 + 1;
        return ATL_OK;
    }
    bool known = false;
    enum atl_code code = sim_declare(sim, words, count, &known, err);
    if (known || code != ATL_OK)
        return known && reader->begun && is(words[0], "node")
                   ? atl_fail(err, ATL_E_INVALID, "node", "nodes come before everything that happens")
                   : code;
    code = begin(reader, err);
    if (code != ATL_OK)
        return code;
    double value = count > 1 ? strtod(words[1], NULL) : 0;
    if (is(words[0], "delay"))
        sim_run_until(sim, sim->now + (sim_us)(value * SIM_SECOND));
    else if (is(words[0], "at"))
        sim_run_until(sim, (sim_us)(value * SIM_SECOND + 0.5));
    else if (is(words[0], "expect"))
        return sim_expect(sim, words, count, err);
    else
        return sim_command(sim, line, err);
    return ATL_OK;
}

enum atl_code sim_scenario(struct sim *sim, const char *text, struct atl_error *err)
{
    struct reader reader = {.sim = sim};
    size_t number = 0;
    while (*text != '\0') {
        char line[LINE];
        size_t length = strcspn(text, "\n");
        number++;
        (void)snprintf(line, sizeof line, "%.*s", (int)(length < LINE ? length : LINE - 1), text);
        line[strcspn(line, "#")] = '\0';
        struct atl_error inner = {0};
        enum atl_code code = read_line(&reader, line, &inner);
        if (code != ATL_OK)
            return atl_fail(err, code, NULL, "line %zu: %s%s%s", number, inner.field,
                            inner.field[0] ? ": " : "", inner.text);
        if (sim->failure[0] != '\0')
            return ATL_OK;
        text += length + (text[length] == '\n');
    }
    return begin(&reader, err);
}
