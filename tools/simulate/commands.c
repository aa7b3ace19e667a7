/* What may happen to a cluster: the commands of a scenario, which the nemesis gives, too. */
#include <stdlib.h>
#include <string.h>

#include "ha/place.h"
#include "sim.h"

enum { WORDS = 16 };

struct line {
    char *words[WORDS];
    size_t count;
};

static const char *word(const struct line *line, size_t at)
{
    return at < line->count ? line->words[at] : "";
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

size_t sim_words(char *text, char **words, size_t room)
{
    size_t count = 0;
    char *rest = NULL;
    for (char *next = strtok_r(text, " \t\r\n", &rest); next != NULL && count < room;
         next = strtok_r(NULL, " \t\r\n", &rest))
        words[count++] = next;
    return count;
}

/* NULL, with the error: there is none. */
static struct sim_node *node_of(struct sim *sim, const struct line *line, size_t at, struct atl_error *err)
{
    struct sim_node *node = sim_node_find(sim, word(line, at));
    if (node == NULL)
        (void)atl_fail(err, ATL_E_INVALID, line->words[0], "there is no node '%s'",
                       word(line, at)); /* returned as NULL */
    return node;
}

static struct sim_guest *guest_of(struct sim *sim, const struct line *line, size_t at, struct atl_error *err)
{
    struct sim_guest *guest = sim_guest_find(sim, word(line, at));
    if (guest == NULL)
        (void)atl_fail(err, ATL_E_INVALID, line->words[0], "there is no guest '%s'",
                       word(line, at)); /* likewise */
    return guest;
}

/* on or off; no third way. */
static enum atl_code on_off(const struct line *line, size_t at, bool *ret_on, struct atl_error *err)
{
    if (!is(word(line, at), "on") && !is(word(line, at), "off"))
        return atl_fail(err, ATL_E_INVALID, line->words[0], "'%s' is neither on nor off", word(line, at));
    *ret_on = is(word(line, at), "on");
    return ATL_OK;
}

/* power NODE on|off */
static enum atl_code do_power(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct sim_node *node = node_of(sim, line, 1, err);
    bool on = false;
    if (node == NULL || on_off(line, 2, &on, err) != ATL_OK)
        return ATL_E_INVALID;
    sim_excuse(sim, node, SIM_SECOND);
    on ? sim_power_on(sim, node) : sim_power_off(sim, node);
    return ATL_OK;
}

static void cut(struct sim *sim, int net, int from, int to, bool off)
{
    if (from == to || sim->cut[net][from][to] == off)
        return;
    sim->cut[net][from][to] = off;
    sim_excuse(sim, &sim->nodes[from], off ? SIM_FOREVER / 2 : 0);
    sim_excuse(sim, &sim->nodes[to], off ? SIM_FOREVER / 2 : 0);
}

static bool any_cut(const struct sim *sim, int node)
{
    for (int net = 0; net < SIM_NETS; net++)
        for (int i = 0; i < sim->node_count; i++)
            if (sim->cut[net][node][i] || sim->cut[net][i][node])
                return true;
    return false;
}

struct links {
    int first; /* networks, from ... to */
    int last;
    const struct sim_node *a;
    const struct sim_node *b; /* NULL: all others */
    bool one_way;
    bool on;
};

/* network [corosync|etcd] NODE [NODE | > NODE] on|off */
static enum atl_code read_links(struct sim *sim, const struct line *line, struct links *ret_links,
                                struct atl_error *err)
{
    struct links links = {.first = 0, .last = SIM_NETS - 1};
    size_t at = 1;
    if (is(word(line, 1), "corosync") || is(word(line, 1), "etcd")) {
        links.first = links.last = is(word(line, 1), "etcd") ? SIM_NET_ETCD : SIM_NET_COROSYNC;
        at++;
    }
    links.a = node_of(sim, line, at++, err);
    if (links.a == NULL)
        return ATL_E_INVALID;
    links.one_way = is(word(line, at), ">");
    at += links.one_way;
    if (line->count > at + 1) {
        links.b = node_of(sim, line, at++, err);
        if (links.b == NULL)
            return ATL_E_INVALID;
    }
    enum atl_code code = on_off(line, at, &links.on, err);
    if (code == ATL_OK)
        *ret_links = links;
    return code;
}

/* Who has all links again is to be reset no more. */
static void end_excuses(struct sim *sim)
{
    for (int i = 0; i < sim->node_count; i++)
        if (!any_cut(sim, i) && sim->nodes[i].excused_until > sim->now + 60 * SIM_SECOND)
            sim->nodes[i].excused_until = sim->now + 15 * SIM_SECOND;
}

static enum atl_code do_network(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct links links = {.on = false};
    enum atl_code code = read_links(sim, line, &links, err);
    if (code != ATL_OK || links.a == NULL)
        return code;
    for (int net = links.first; net <= links.last; net++)
        for (int i = 0; i < sim->node_count; i++) {
            if (links.b != NULL && links.b->index != i)
                continue;
            cut(sim, net, links.a->index, i, !links.on);
            if (!links.one_way)
                cut(sim, net, i, links.a->index, !links.on);
        }
    if (links.on)
        end_excuses(sim);
    sim->counts.partitions += links.on ? 0 : 1;
    sim_links_changed(sim);
    return ATL_OK;
}

/* reboot NODE, shutdown NODE */
static enum atl_code do_down(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct sim_node *node = node_of(sim, line, 1, err);
    if (node == NULL)
        return ATL_E_INVALID;
    sim_excuse(sim, node, 200 * SIM_SECOND);
    sim_go_down(sim, node, is(line->words[0], "reboot"));
    return ATL_OK;
}

static int process_by_name(const char *name)
{
    static const char *const names[] = {"lrm", "crm", "mux"};
    for (int i = 0; i < 3; i++)
        if (is(names[i], name))
            return i;
    return -1;
}

/* lrm|crm NODE stop|start|kill; mux NODE kill */
static enum atl_code do_process(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct sim_node *node = node_of(sim, line, 1, err);
    enum sim_process process = (enum sim_process)process_by_name(line->words[0]);
    if (node == NULL)
        return ATL_E_INVALID;
    if (is(word(line, 2), "kill")) {
        sim_excuse(sim, node, process == SIM_LRM ? 0 : SIM_SECOND);
        sim_process_kill(sim, node, process);
    } else if (is(word(line, 2), "start")) {
        node->runs[process].wanted = !node->going; /* one that still ends starts again afterwards */
        sim_process_start(sim, node, process);
    } else if (is(word(line, 2), "stop") && process == SIM_LRM && node->runs[process].alive) {
        node->lrm.order = "stop";
        node->runs[process].wanted = false;
        sim_lrm_wake(sim, node);
    } else if (is(word(line, 2), "stop") && process == SIM_CRM && node->runs[process].alive) {
        node->crm.ending = true;
        node->runs[process].wanted = false;
        sim_crm_wake(sim, node);
    }
    return ATL_OK;
}

/* pause NODE lrm|crm|mux|all [SECONDS], resume NODE lrm|crm|mux|all */
static enum atl_code do_pause(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct sim_node *node = node_of(sim, line, 1, err);
    if (node == NULL)
        return ATL_E_INVALID;
    int process = process_by_name(word(line, 2));
    if (process < 0 && !is(word(line, 2), "all"))
        return atl_fail(err, ATL_E_INVALID, line->words[0], "'%s' can not be paused", word(line, 2));
    sim_us time = line->count > 3 ? (sim_us)(strtod(word(line, 3), NULL) * SIM_SECOND) : SIM_FOREVER;
    bool resumes = is(line->words[0], "resume");
    sim_excuse(sim, node, resumes ? 0 : time);
    if (node->power == SIM_UP)
        sim_pause(sim, node, process, resumes ? 0 : time);
    return ATL_OK;
}

/* disk NODE hang|ok */
static enum atl_code do_disk(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct sim_node *node = node_of(sim, line, 1, err);
    if (node == NULL)
        return ATL_E_INVALID;
    node->disk_hangs = is(word(line, 2), "hang") && node->power == SIM_UP;
    sim_links_changed(sim);
    return ATL_OK;
}

/* watch NODE SECONDS, lose NODE PERCENT */
static enum atl_code do_slow(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct sim_node *node = node_of(sim, line, 1, err);
    if (node == NULL)
        return ATL_E_INVALID;
    double value = strtod(word(line, 2), NULL);
    sim_excuse(sim, node, value > 0 ? SIM_FOREVER / 2 : 0);
    if (value <= 0 && !any_cut(sim, node->index))
        node->excused_until = sim->now + 15 * SIM_SECOND;
    if (is(line->words[0], "watch"))
        node->watch_delay = (sim_us)(value * SIM_SECOND);
    else
        node->lose_percent = (unsigned)value;
    return ATL_OK;
}

static bool request(struct sim *sim, const char *kind, const char *sid, const char *node, const char *mode)
{
    Atoll__Ha__V1__Request made = ATOLL__HA__V1__REQUEST__INIT;
    made.kind = (char *)(uintptr_t)kind;
    made.sid = (char *)(uintptr_t)sid;
    made.node = (char *)(uintptr_t)node;
    made.resource_mode = (char *)(uintptr_t)mode;
    made.has_timeout_s = is(kind, "stop");
    made.timeout_s = 30;
    char path[64];
    (void)snprintf(path, sizeof path, "%s%06llu", ATL_HA_REQUEST,
                   (unsigned long long)++sim->tree.next_request);
    if (sim_tree_put(sim, path, &made.base))
        return true;
    sim_log(sim, "-", "-", "the request is refused: there is no quorum");
    return false;
}

/* The word of a person reaches all nodes by the next write of anybody; it is one itself. */
static void spread(struct sim *sim)
{
    for (int i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->watch_due || node->witness)
            continue;
        node->watch_due = true;
        sim_push(sim, node->watch_delay + sim_between(sim, SIM_MS, 15 * SIM_MS),
                 (struct sim_event){.kind = SIM_WATCH, .node = i, .guard = node->boot});
    }
}

/* maintenance NODE on|off */
static enum atl_code do_maintenance(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct sim_node *node = node_of(sim, line, 1, err);
    bool on = false;
    if (node == NULL || on_off(line, 2, &on, err) != ATL_OK)
        return ATL_E_INVALID;
    if (request(sim, on ? "maintenance-on" : "maintenance-off", NULL, node->name, NULL))
        spread(sim);
    return ATL_OK;
}

/* disarm freeze|ignore, arm */
static enum atl_code do_arm(struct sim *sim, struct line *line, struct atl_error *err)
{
    (void)err; /* its mode is checked by who serves the request */
    if (request(sim, line->words[0], NULL, NULL, line->count > 1 ? word(line, 1) : NULL))
        spread(sim);
    return ATL_OK;
}

static enum atl_code add(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct sim_node *node = node_of(sim, line, 3, err);
    if (node == NULL)
        return ATL_E_INVALID;
    struct sim_guest *guest = sim_guest_find(sim, word(line, 1));
    if (guest == NULL)
        guest = sim_guest_add(sim, word(line, 1), node->index);
    if (guest == NULL)
        return atl_fail(err, ATL_E_INVALID, "service", "'%s' is no guest, or there are too many",
                        word(line, 1));
    guest->managed = true;
    spread(sim);
    return ATL_OK;
}

/* service SID started|stopped|disabled|enabled|ignored | add NODE | delete | migrate NODE | relocate NODE |
 * stop */
static enum atl_code do_service(struct sim *sim, struct line *line, struct atl_error *err)
{
    const char *what = word(line, 2);
    if (is(what, "add"))
        return add(sim, line, err);
    struct sim_guest *guest = guest_of(sim, line, 1, err);
    if (guest == NULL)
        return ATL_E_INVALID;
    static const char *const states[] = {"started", "stopped", "disabled", "enabled", "ignored"};
    for (size_t i = 0; i < ATL_COUNT(states); i++)
        if (is(what, states[i]))
            guest->resource.state = (char *)(uintptr_t)states[i];
    if (is(what, "delete"))
        guest->managed = false;
    if (is(what, "migrate") || is(what, "relocate")) {
        const struct sim_node *node = node_of(sim, line, 3, err);
        if (node == NULL)
            return ATL_E_INVALID;
        (void)request(sim, what, guest->sid, node->name, NULL); /* a refusal is in the log */
    } else if (is(what, "stop")) {
        guest->resource.state = (char *)(uintptr_t)states[1];
        (void)request(sim, what, guest->sid, NULL, NULL);
    }
    spread(sim);
    for (int i = 0; i < sim->node_count; i++)
        sim_crm_wake(sim, &sim->nodes[i]);
    return ATL_OK;
}

/* fail-start SID N, refuse-start SID NODE on|off, die SID, slow SID SECONDS, load SID CPU GIB */
static enum atl_code do_guest(struct sim *sim, struct line *line, struct atl_error *err)
{
    struct sim_guest *guest = guest_of(sim, line, 1, err);
    if (guest == NULL)
        return ATL_E_INVALID;
    double value = strtod(word(line, 2), NULL);
    if (is(line->words[0], "fail-start")) {
        guest->fail_starts = (unsigned)value;
    } else if (is(line->words[0], "slow")) {
        guest->start_takes = guest->move_takes = (sim_us)(value * SIM_SECOND);
    } else if (is(line->words[0], "load")) {
        guest->cpu_used = value;
        guest->memory_used = (uint64_t)(strtod(word(line, 3), NULL) * (double)(1ULL << 30));
    } else if (is(line->words[0], "die")) {
        for (int i = 0; i < sim->node_count; i++)
            sim_guest_die(sim, guest, i);
    } else {
        const struct sim_node *node = node_of(sim, line, 2, err);
        if (node == NULL)
            return ATL_E_INVALID;
        uint32_t bit = 1U << node->index;
        guest->refuse_starts =
            is(word(line, 3), "on") ? guest->refuse_starts | bit : guest->refuse_starts & ~bit;
    }
    return ATL_OK;
}

/* election */
static enum atl_code do_election(struct sim *sim, struct line *line, struct atl_error *err)
{
    (void)line;
    (void)err;
    sim_leader_lose(sim);
    return ATL_OK;
}

enum atl_code sim_command(struct sim *sim, char *text, struct atl_error *err)
{
    static const struct {
        const char *name;
        enum atl_code (*act)(struct sim *sim, struct line *line, struct atl_error *err);
    } commands[] = {
        {"power", do_power},
        {"network", do_network},
        {"reboot", do_down},
        {"shutdown", do_down},
        {"lrm", do_process},
        {"crm", do_process},
        {"mux", do_process},
        {"pause", do_pause},
        {"resume", do_pause},
        {"disk", do_disk},
        {"watch", do_slow},
        {"lose", do_slow},
        {"maintenance", do_maintenance},
        {"disarm", do_arm},
        {"arm", do_arm},
        {"service", do_service},
        {"fail-start", do_guest},
        {"die", do_guest},
        {"slow", do_guest},
        {"load", do_guest},
        {"refuse-start", do_guest},
        {"election", do_election},
    };
    char copy[256];
    (void)snprintf(copy, sizeof copy, "%s", text);
    struct line line = {.count = 0};
    line.count = sim_words(text, line.words, WORDS);
    for (size_t i = 0; line.count > 0 && i < ATL_COUNT(commands); i++) {
        if (!is(commands[i].name, line.words[0]))
            continue;
        sim_log(sim, "-", "-", "%s", copy);
        return commands[i].act(sim, &line, err);
    }
    return atl_fail(err, ATL_E_INVALID, NULL, "there is no command '%s'",
                    line.count > 0 ? line.words[0] : "");
}
