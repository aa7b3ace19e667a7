/* What a scenario expects, said in its own lines: it is right or wrong whatever the log looks like. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static const ProtobufCMessage *file(const struct sim *sim, uint32_t key)
{
    const struct sim_value *value = sim->tree.keys[key].value;
    return value == NULL ? NULL : value->message;
}

/* SID on NODE | nowhere | state STATE | file NODE */
static bool guest_is(struct sim *sim, const struct sim_guest *guest, char **words, size_t count, char *got)
{
    const Atoll__Ha__V1__Service *service = (const Atoll__Ha__V1__Service *)file(sim, guest->key_service);
    const struct sim_node *node = count > 2 ? sim_node_find(sim, words[2]) : NULL;
    const char *state = service == NULL ? "none" : service->state;
    const char *runs = "nowhere";
    for (int i = 0; i < sim->node_count; i++)
        if ((guest->running >> i & 1) != 0)
            runs = sim->nodes[i].name;
    (void)snprintf(got, SIM_TEXT, "it runs %s, %s", runs, state);
    if (is(words[1], "nowhere"))
        return guest->running == 0;
    if (is(words[1], "runs"))
        return guest->running != 0;
    if (is(words[1], "state"))
        return count > 2 && is(state, words[2]);
    if (is(words[1], "on"))
        return node != NULL && guest->running == 1U << node->index;
    return is(words[1], "file") && node != NULL && sim->tree.keys[guest->key_file[node->index]].value != NULL;
}

/* node NAME STATE */
static bool node_is(struct sim *sim, char **words, char *got)
{
    const struct sim_node *node = sim_node_find(sim, words[1]);
    const Atoll__Ha__V1__NodeRecord *record =
        node == NULL ? NULL : (const Atoll__Ha__V1__NodeRecord *)file(sim, sim->key_node[node->index]);
    (void)snprintf(got, SIM_TEXT, "it is %s", record == NULL ? "none" : record->state);
    return record != NULL && is(record->state, words[2]);
}

/* lock NODE free|held|fenced, armed NODE yes|no, lrm NODE STATE */
static bool agent_is(struct sim *sim, char **words, char *got)
{
    const struct sim_node *node = sim_node_find(sim, words[1]);
    if (node == NULL)
        return false;
    const char *is_now = "none";
    if (is(words[0], "lock")) {
        const Atoll__Ha__V1__NodeLock *lock =
            (const Atoll__Ha__V1__NodeLock *)file(sim, sim->key_lock[node->index]);
        is_now = lock == NULL ? "free" : lock->fenced ? "fenced" : "held";
    } else if (is(words[0], "armed")) {
        is_now = node->armed ? "yes" : "no";
    } else {
        const Atoll__Ha__V1__LrmReport *report =
            (const Atoll__Ha__V1__LrmReport *)file(sim, sim->key_lrm[node->index]);
        is_now = report == NULL || report->state == NULL ? "none" : report->state;
    }
    (void)snprintf(got, SIM_TEXT, "it is %s", is_now);
    return is(is_now, words[2]);
}

/* manager NODE|none; fences|recoveries|resets|managers|starts|migrations N */
static bool count_is(struct sim *sim, char **words, char *got)
{
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {
        {"fences", sim->counts.fences}, {"recoveries", sim->counts.recoveries},
        {"resets", sim->counts.resets}, {"managers", sim->counts.managers},
        {"starts", sim->counts.starts}, {"migrations", sim->counts.migrations},
    };
    if (is(words[0], "manager")) {
        const Atoll__Ha__V1__Manager *manager = (const Atoll__Ha__V1__Manager *)file(sim, sim->key_manager);
        const char *name = manager == NULL ? "none" : manager->node;
        (void)snprintf(got, SIM_TEXT, "it is %s", name);
        return is(name, words[1]);
    }
    for (size_t i = 0; i < ATL_COUNT(counts); i++) {
        if (!is(counts[i].name, words[0]))
            continue;
        (void)snprintf(got, SIM_TEXT, "there are %llu", (unsigned long long)counts[i].count);
        return counts[i].count == strtoull(words[1], NULL, 10);
    }
    (void)snprintf(got, SIM_TEXT, "nothing of that kind is known");
    return false;
}

static bool holds(struct sim *sim, char **words, size_t count, char *got)
{
    const struct sim_guest *guest = sim_guest_find(sim, words[0]);
    if (guest != NULL && count > 1)
        return guest_is(sim, guest, words, count, got);
    if (count == 3)
        return is(words[0], "node") ? node_is(sim, words, got) : agent_is(sim, words, got);
    if (count == 2)
        return count_is(sim, words, got);
    (void)snprintf(got, SIM_TEXT, "it is no expectation");
    return false;
}

/* expect [within SECONDS] WHAT...; with a time, the simulation goes on until it holds. well: all that must
 * hold long after the last fault */
enum atl_code sim_expect(struct sim *sim, char **words, size_t count, struct atl_error *err)
{
    words++;
    count--;
    sim_us until = sim->now;
    if (count > 2 && is(words[0], "within")) {
        until += (sim_us)(strtod(words[1], NULL) * SIM_SECOND);
        words += 2;
        count -= 2;
    }
    char got[SIM_TEXT] = "";
    if (count == 1 && is(words[0], "well")) {
        sim_check_end(sim);
        return ATL_OK;
    }
    if (count == 0)
        return atl_fail(err, ATL_E_INVALID, "expect", "what?");
    while (!holds(sim, words, count, got)) {
        if (sim->failure[0] != '\0')
            return ATL_OK;
        if (sim->now >= until ||
            (!sim_step(sim, until) && sim->now >= until && !holds(sim, words, count, got)))
            return atl_fail(err, ATL_E_STATE, "expect", "at %.2f s it does not hold that %s %s %s: %s",
                            (double)sim->now / SIM_SECOND, words[0], count > 1 ? words[1] : "",
                            count > 2 ? words[2] : "", got);
    }
    return ATL_OK;
}
