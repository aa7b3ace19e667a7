/* Faults by chance: what a bad week does to a cluster, in two minutes, and then a quiet time to recover. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { HEALS = 64, SETTLE_S = 75 };

struct heal {
    sim_us at;
    char command[80];
};

struct nemesis {
    struct sim *sim;
    const char *kinds;
    struct heal heals[HEALS];
    size_t heal_count;
};

static uint64_t dice(struct nemesis *nemesis, uint64_t below)
{
    return sim_random(&nemesis->sim->nemesis) % below;
}

ATL_PRINTF(2, 3) static void act(struct nemesis *nemesis, const char *format, ...)
{
    struct sim *sim = nemesis->sim;
    char line[128];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    atl_buf_printf(&sim->history, "at %.6f\n%s\n", (double)sim->now / SIM_SECOND, line);
    struct atl_error err = {0};
    if (sim_command(sim, line, &err) != ATL_OK)
        sim_fail(sim, "the nemesis gave a command that is none: %s", err.text);
    sim->counts.steps++;
    sim->counts.faults++;
}

/* To be done when some time is over, or all faults are. */
ATL_PRINTF(3, 4) static void heal(struct nemesis *nemesis, uint64_t least_ms, const char *format, ...)
{
    if (nemesis->heal_count == HEALS)
        return;
    struct heal *made = &nemesis->heals[nemesis->heal_count++];
    made->at = nemesis->sim->now + (sim_us)(least_ms + dice(nemesis, 3 * least_ms)) * SIM_MS;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(made->command, sizeof made->command, format, args);
    va_end(args);
}

static const char *any_node(struct nemesis *nemesis)
{
    const struct sim *sim = nemesis->sim;
    for (;;) {
        const struct sim_node *node = &sim->nodes[dice(nemesis, (uint64_t)sim->node_count)];
        if (!node->witness)
            return node->name;
    }
}

static const char *any_guest(struct nemesis *nemesis)
{
    return nemesis->sim->guests[dice(nemesis, (uint64_t)nemesis->sim->guest_count)].sid;
}

static void fault_power(struct nemesis *nemesis)
{
    const char *node = any_node(nemesis);
    act(nemesis, "power %s off", node);
    heal(nemesis, 3000, "power %s on", node);
}

static void fault_network(struct nemesis *nemesis)
{
    static const char *const nets[] = {"", "", "corosync ", "etcd "};
    const char *net = nets[dice(nemesis, ATL_COUNT(nets))];
    const char *node = any_node(nemesis);
    act(nemesis, "network %s%s off", net, node);
    heal(nemesis, 2500, "network %s%s on", net, node);
}

static void fault_link(struct nemesis *nemesis)
{
    static const char *const nets[] = {"", "corosync ", "etcd "};
    const char *net = nets[dice(nemesis, ATL_COUNT(nets))];
    const char *a = any_node(nemesis);
    const char *b = any_node(nemesis);
    const char *arrow = dice(nemesis, 2) == 0 ? "> " : "";
    if (strcmp(a, b) == 0)
        return;
    act(nemesis, "network %s%s %s%s off", net, a, arrow, b);
    heal(nemesis, 2500, "network %s%s %s%s on", net, a, arrow, b);
}

/* Two halves that do not see each other. */
static void fault_partition(struct nemesis *nemesis)
{
    const struct sim *sim = nemesis->sim;
    uint64_t halves = dice(nemesis, 1ULL << sim->node_count);
    uint64_t least_ms = 2500 + dice(nemesis, 4000);
    for (int a = 0; a < sim->node_count; a++)
        for (int b = a + 1; b < sim->node_count; b++) {
            if ((halves >> a & 1) == (halves >> b & 1))
                continue;
            act(nemesis, "network %s %s off", sim->nodes[a].name, sim->nodes[b].name);
            heal(nemesis, least_ms, "network %s %s on", sim->nodes[a].name, sim->nodes[b].name);
        }
}

static void fault_pause(struct nemesis *nemesis)
{
    static const char *const what[] = {"lrm", "lrm", "crm", "mux", "all"};
    double seconds = (double)(200 + dice(nemesis, 12000)) / 1000;
    act(nemesis, "pause %s %s %.3f", any_node(nemesis), what[dice(nemesis, ATL_COUNT(what))], seconds);
}

static void fault_kill(struct nemesis *nemesis)
{
    static const char *const what[] = {"lrm", "crm", "mux"};
    act(nemesis, "%s %s kill", what[dice(nemesis, ATL_COUNT(what))], any_node(nemesis));
}

static void fault_service(struct nemesis *nemesis)
{
    static const char *const what[] = {"lrm", "crm"};
    const char *node = any_node(nemesis);
    const char *process = what[dice(nemesis, ATL_COUNT(what))];
    act(nemesis, "%s %s stop", process, node);
    heal(nemesis, 3000, "%s %s start", process, node);
}

static void fault_down(struct nemesis *nemesis)
{
    const char *node = any_node(nemesis);
    bool reboot = dice(nemesis, 2) == 0;
    act(nemesis, "%s %s", reboot ? "reboot" : "shutdown", node);
    if (!reboot)
        heal(nemesis, 6000, "power %s on", node);
}

static void fault_disk(struct nemesis *nemesis)
{
    const char *node = any_node(nemesis);
    act(nemesis, "disk %s hang", node);
    heal(nemesis, 2000, "disk %s ok", node);
}

static void fault_etcd(struct nemesis *nemesis)
{
    const char *node = any_node(nemesis);
    switch (dice(nemesis, 3)) {
    case 0:
        act(nemesis, "election");
        return;
    case 1:
        act(nemesis, "watch %s %.3f", node, (double)(50 + dice(nemesis, 2500)) / 1000);
        heal(nemesis, 2000, "watch %s 0", node);
        return;
    default:
        act(nemesis, "lose %s %u", node, (unsigned)(10 + dice(nemesis, 60)));
        heal(nemesis, 2000, "lose %s 0", node);
    }
}

static void fault_guest(struct nemesis *nemesis)
{
    const char *guest = any_guest(nemesis);
    switch (dice(nemesis, 3)) {
    case 0:
        act(nemesis, "die %s", guest);
        return;
    case 1:
        act(nemesis, "slow %s %.1f", guest, (double)dice(nemesis, 80) / 10);
        heal(nemesis, 5000, "slow %s 0.5", guest);
        return;
    default:
        act(nemesis, "fail-start %s 1", guest);
        heal(nemesis, 5000, "fail-start %s 0", guest);
    }
}

static void fault_wish(struct nemesis *nemesis)
{
    const char *guest = any_guest(nemesis);
    switch (dice(nemesis, 4)) {
    case 0:
        act(nemesis, "service %s migrate %s", guest, any_node(nemesis));
        return;
    case 1:
        act(nemesis, "service %s relocate %s", guest, any_node(nemesis));
        return;
    case 2:
        act(nemesis, "service %s %s", guest, dice(nemesis, 2) == 0 ? "stopped" : "disabled");
        heal(nemesis, 3000, "service %s started", guest);
        return;
    default:
        act(nemesis, "service %s stop", guest);
        heal(nemesis, 3000, "service %s started", guest);
    }
}

static void fault_maintenance(struct nemesis *nemesis)
{
    const char *node = any_node(nemesis);
    act(nemesis, "maintenance %s on", node);
    heal(nemesis, 5000, "maintenance %s off", node);
}

static void fault_arm(struct nemesis *nemesis)
{
    act(nemesis, "disarm %s", dice(nemesis, 2) == 0 ? "freeze" : "ignore");
    heal(nemesis, 4000, "arm");
}

static const struct {
    const char *name;
    unsigned weight;
    void (*act)(struct nemesis *nemesis);
} faults[] = {
    {"power", 4, fault_power},
    {"network", 4, fault_network},
    {"link", 3, fault_link},
    {"partition", 2, fault_partition},
    {"pause", 5, fault_pause},
    {"kill", 4, fault_kill},
    {"service", 2, fault_service},
    {"down", 2, fault_down},
    {"disk", 2, fault_disk},
    {"etcd", 4, fault_etcd},
    {"guest", 3, fault_guest},
    {"wish", 5, fault_wish},
    {"maintenance", 1, fault_maintenance},
    {"arm", 1, fault_arm},
};

static bool is_wanted(const struct nemesis *nemesis, const char *name)
{
    if (strcmp(nemesis->kinds, "all") == 0)
        return true;
    size_t length = strlen(name);
    for (const char *at = strstr(nemesis->kinds, name); at != NULL; at = strstr(at + 1, name))
        if ((at == nemesis->kinds || at[-1] == ',') && (at[length] == '\0' || at[length] == ','))
            return true;
    return false;
}

static void fault(struct nemesis *nemesis)
{
    unsigned sum = 0;
    for (size_t i = 0; i < ATL_COUNT(faults); i++)
        sum += is_wanted(nemesis, faults[i].name) ? faults[i].weight : 0;
    if (sum == 0)
        return;
    uint64_t left = dice(nemesis, sum);
    for (size_t i = 0; i < ATL_COUNT(faults); i++) {
        if (!is_wanted(nemesis, faults[i].name))
            continue;
        if (left < faults[i].weight) {
            faults[i].act(nemesis);
            return;
        }
        left -= faults[i].weight;
    }
}

static sim_us next_heal(const struct nemesis *nemesis)
{
    sim_us next = SIM_FOREVER;
    for (size_t i = 0; i < nemesis->heal_count; i++)
        if (nemesis->heals[i].at < next)
            next = nemesis->heals[i].at;
    return next;
}

static void do_heals(struct nemesis *nemesis, bool all)
{
    for (size_t i = 0; i < nemesis->heal_count;) {
        if (!all && nemesis->heals[i].at > nemesis->sim->now) {
            i++;
            continue;
        }
        struct heal due = nemesis->heals[i];
        nemesis->heals[i] = nemesis->heals[--nemesis->heal_count];
        act(nemesis, "%s", due.command);
    }
}

ATL_PRINTF(2, 3) static void declare(struct nemesis *nemesis, const char *format, ...)
{
    struct sim *sim = nemesis->sim;
    char line[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    atl_buf_printf(&sim->history, "%s\n", line);
    char *words[16];
    bool known = false;
    struct atl_error err = {0};
    if (sim_declare(sim, words, sim_words(line, words, ATL_COUNT(words)), &known, &err) != ATL_OK || !known)
        sim_fail(sim, "the nemesis declared what is nothing: %s", err.text);
}

static void make_nodes(struct nemesis *nemesis, unsigned count)
{
    for (unsigned i = 1; i <= count; i++)
        declare(nemesis, "node pve%u drift %d boot %u", i, (int)dice(nemesis, 9001) - 4500,
                (unsigned)(4 + dice(nemesis, 6)));
    if (count == 2)
        declare(nemesis, "node witness witness");
}

static void make_cluster(struct nemesis *nemesis)
{
    static const char *const policies[] = {"conditional", "freeze", "failover", "migrate"};
    struct sim *sim = nemesis->sim;
    unsigned count = (unsigned)(2 + dice(nemesis, 4));
    atl_buf_printf(&sim->history, "seed %llu\n", (unsigned long long)sim->seed);
    make_nodes(nemesis, count);
    declare(nemesis, "set shutdown-policy %s", policies[dice(nemesis, ATL_COUNT(policies))]);
    declare(nemesis, "set rebalance-on-start %u", (unsigned)dice(nemesis, 2));
    unsigned guests = (unsigned)(3 + dice(nemesis, 5));
    for (unsigned i = 0; i < guests; i++)
        declare(nemesis, "resource %s:%u pve%u max-restart 5 max-relocate 5 move-takes %.1f failback %u",
                i % 3 == 2 ? "ct" : "vm", 100 + i, 1 + (unsigned)dice(nemesis, count),
                (double)(5 + dice(nemesis, 40)) / 10, (unsigned)dice(nemesis, 2));
    switch (dice(nemesis, 5)) {
    case 0:
        declare(nemesis, "rule apart resource-affinity vm:100,vm:101 negative");
        break;
    case 1:
        declare(nemesis, "rule together resource-affinity vm:100,vm:101 positive");
        break;
    case 2:
        declare(nemesis, "rule near node-affinity vm:100 pve1:2,pve2:1");
        break;
    case 3:
        declare(nemesis, "rule only node-affinity vm:100 pve1,pve2 strict");
        break;
    default:
        break;
    }
}

static void put_right(struct nemesis *nemesis, const struct sim_node *node, int round)
{
    if (node->going && round == 2) /* nobody waits for ever */
        act(nemesis, "power %s off", node->name);
    if (node->power == SIM_OFF)
        act(nemesis, "power %s on", node->name);
    if (node->witness)
        return;
    bool up = node->power == SIM_UP && !node->going;
    if (up && !node->runs[SIM_LRM].alive)
        act(nemesis, "lrm %s start", node->name);
    if (up && !node->runs[SIM_CRM].alive)
        act(nemesis, "crm %s start", node->name);
    if (round >= 1) /* again, because without quorum it is refused */
        act(nemesis, "maintenance %s off", node->name);
}

/* What a person would do after such a week, and then time. */
static void settle(struct nemesis *nemesis)
{
    struct sim *sim = nemesis->sim;
    do_heals(nemesis, true);
    for (int i = 0; i < sim->node_count; i++) {
        const struct sim_node *node = &sim->nodes[i];
        act(nemesis, "resume %s all", node->name);
        act(nemesis, "resume %s lrm", node->name);
        act(nemesis, "resume %s crm", node->name);
        act(nemesis, "resume %s mux", node->name);
    }
    for (int round = 0; round < 5 && sim->failure[0] == '\0'; round++) {
        for (int i = 0; i < sim->node_count; i++)
            put_right(nemesis, &sim->nodes[i], round);
        if (round >= 1)
            act(nemesis, "arm");
        sim_run_until(sim, sim->now + SETTLE_S * SIM_SECOND / 5);
    }
    sim->faults_over = true;
    if (sim->failure[0] == '\0')
        sim_check_end(sim);
}

void sim_nemesis(struct sim *sim, uint64_t steps, const char *kinds)
{
    struct nemesis nemesis = {.sim = sim, .kinds = kinds};
    make_cluster(&nemesis);
    sim_begin(sim);
    sim_run_until(sim, 5 * SIM_SECOND);
    sim_us next = sim->now;
    while (sim->failure[0] == '\0' && sim->counts.steps < steps) {
        sim_us healing = next_heal(&nemesis);
        sim_run_until(sim, healing < next ? healing : next);
        if (sim->failure[0] != '\0')
            return;
        do_heals(&nemesis, false);
        if (sim->now < next)
            continue;
        fault(&nemesis);
        next = sim->now + (sim_us)(50 + dice(&nemesis, 2500)) * SIM_MS;
    }
    if (sim->failure[0] == '\0')
        settle(&nemesis);
}
