/* Machines: power, clocks, watchdogs with their multiplexer, processes and who starts them again. */
#include "sim.h"

#include <string.h>

uint64_t sim_local_ms(const struct sim *sim, const struct sim_node *node)
{
    sim_us since = sim->now - node->booted;
    return 1000 + (uint64_t)((since + since / 1000 * node->drift_ppm / 1000) / SIM_MS);
}

/* How long it truly takes until this node's clock has gone on by so much. */
sim_us sim_local_span(const struct sim_node *node, uint64_t ms)
{
    sim_us span = (sim_us)ms * SIM_MS;
    return span - span / 1000 * node->drift_ppm / 1000;
}

static void process_gone(struct sim *sim, struct sim_node *node, enum sim_process process)
{
    struct sim_run *run = &node->runs[process];
    run->alive = run->paused = false;
    run->run = 0;
    node->lrm.disarms &= process != SIM_MUX;
    if (process == SIM_LRM)
        node->lrm = (struct sim_lrm){0};
    if (process == SIM_CRM) {
        sim_crm_forget(sim, node);
        node->crm = (struct sim_crm){0};
    }
}

void sim_process_start(struct sim *sim, struct sim_node *node, enum sim_process process)
{
    struct sim_run *run = &node->runs[process];
    if (run->alive || node->power != SIM_UP || node->witness)
        return;
    run->alive = run->wanted = true;
    run->paused = false;
    run->run = ++sim->next_id;
    struct sim_event event = {.node = node->index, .guard = run->run};
    if (process == SIM_LRM) {
        node->lrm.order = "run";
        event.kind = SIM_TICK_LRM;
    } else if (process == SIM_CRM) {
        event.kind = SIM_TICK_CRM;
    } else {
        sim_lrm_wake(sim, node);
        return;
    }
    sim_push(sim, sim_between(sim, 0, (sim_us)sim->tick_ms * SIM_MS), event);
}

void sim_process_kill(struct sim *sim, struct sim_node *node, enum sim_process process)
{
    struct sim_run *run = &node->runs[process];
    if (!run->alive)
        return;
    process_gone(sim, node, process);
    sim_push(
        sim, sim_between(sim, 100 * SIM_MS, 800 * SIM_MS),
        (struct sim_event){.kind = SIM_RESTART, .node = node->index, .guard = node->boot, .value = process});
}

void sim_process_end(struct sim *sim, struct sim_node *node, enum sim_process process)
{
    node->runs[process].wanted = false;
    process_gone(sim, node, process);
}

void sim_pause(struct sim *sim, struct sim_node *node, int process, sim_us time)
{
    if (process < 0) {
        node->stopped = time > 0;
        sim_links_changed(sim);
    } else {
        node->runs[process].paused = time > 0 && node->runs[process].alive;
    }
    if (time == 0)
        sim_unpark(sim);
    else if (time < SIM_FOREVER)
        sim_push(sim, time,
                 (struct sim_event){.kind = SIM_RESUME,
                                    .node = node->index,
                                    .guard = process < 0 ? node->boot : node->runs[process].run,
                                    .value = (uint64_t)(process + 1)});
}

static void resume(struct sim *sim, const struct sim_event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    int process = (int)event->value - 1;
    uint64_t now = process < 0 ? node->boot : node->runs[process].run;
    if (now == event->guard)
        sim_pause(sim, node, process, 0);
}

void sim_power_off(struct sim *sim, struct sim_node *node)
{
    if (node->power == SIM_OFF)
        return;
    node->power = SIM_OFF;
    node->boot++;
    node->stopped = node->disk_hangs = node->armed = node->watch_due = node->going = false;
    node->members = 0;
    node->quorate = false;
    for (int i = 0; i < SIM_PROCESSES; i++)
        process_gone(sim, node, (enum sim_process)i);
    memset(node->jobs, 0, sizeof node->jobs);
    node->compute_number = 0;
    sim_guests_gone(sim, node);
    sim_unpark(sim);
    sim_links_changed(sim);
}

void sim_power_on(struct sim *sim, struct sim_node *node)
{
    if (node->power != SIM_OFF)
        return;
    node->power = SIM_BOOTING;
    sim_push(sim, node->boot_takes,
             (struct sim_event){.kind = SIM_BOOT, .node = node->index, .guard = node->boot});
}

void sim_boot_name(struct sim_node *node)
{
    char name[SIM_NAME];
    memcpy(name, node->name, sizeof name);
    (void)snprintf(node->boot_id, sizeof node->boot_id, "%s-%u", name, (unsigned)node->boot);
}

static void boot(struct sim *sim, struct sim_node *node)
{
    node->power = SIM_UP;
    node->booted = sim->now;
    node->going = false;
    sim_boot_name(node);
    node->members = 1U << node->index;
    for (int i = 0; i < SIM_PROCESSES; i++)
        sim_process_start(sim, node, (enum sim_process)i);
    node->watch_due = true;
    sim_push(sim, sim_between(sim, SIM_MS, 50 * SIM_MS),
             (struct sim_event){.kind = SIM_WATCH, .node = node->index, .guard = node->boot});
    sim_links_changed(sim);
    sim_log(sim, node->name, "-", "up");
}

void sim_go_down(struct sim *sim, struct sim_node *node, bool comes_back)
{
    if (node->power != SIM_UP || node->going)
        return;
    node->going = true;
    node->comes_back = comes_back;
    node->lrm.order = comes_back ? "reboot" : "shutdown";
    node->crm.ending = true;
    node->runs[SIM_LRM].wanted = node->runs[SIM_CRM].wanted = false;
    bool waits = node->runs[SIM_LRM].alive;
    sim_push(sim, waits ? 180 * SIM_SECOND : SIM_SECOND,
             (struct sim_event){.kind = SIM_GONE, .node = node->index, .guard = node->boot});
    sim_lrm_wake(sim, node);
    sim_crm_wake(sim, node);
}

static void gone(struct sim *sim, struct sim_node *node)
{
    bool comes_back = node->comes_back;
    sim_log(sim, node->name, "-", comes_back ? "down, to come back" : "down");
    sim_power_off(sim, node);
    if (comes_back)
        sim_power_on(sim, node);
}

static void watchdog_fed(struct sim *sim, struct sim_node *node)
{
    struct atl_ha_times times = atl_ha_times_of(sim->tick_ms);
    node->watchdog_at = sim->now + sim_local_span(node, times.watchdog_ms);
    if (node->watchdog_due)
        return;
    node->watchdog_due = true;
    sim_push(sim, node->watchdog_at - sim->now,
             (struct sim_event){.kind = SIM_WATCHDOG, .node = node->index, .guard = node->boot});
}

static void watchdog(struct sim *sim, struct sim_node *node, const struct sim_event *event)
{
    node->watchdog_due = false;
    if (!node->armed || node->power != SIM_UP)
        return;
    if (sim->now < node->watchdog_at || node->boot != event->guard) {
        node->watchdog_due = true;
        sim_push(sim, node->watchdog_at - sim->now,
                 (struct sim_event){.kind = SIM_WATCHDOG, .node = node->index, .guard = node->boot});
        return;
    }
    sim->counts.resets++;
    sim_log(sim, node->name, "-", "reset by its watchdog");
    sim_check_reset(sim, node);
    sim_power_off(sim, node);
    sim_power_on(sim, node);
}

static void feed(struct sim *sim, struct sim_node *node, const struct sim_event *event)
{
    if (node->armed && sim_local_ms(sim, node) <= event->value)
        sim_push(sim, sim_between(sim, 20, SIM_MS),
                 (struct sim_event){.kind = SIM_DEED, .node = node->index, .guard = event->guard});
}

static void on_mux(struct sim *sim, struct sim_node *node, const struct sim_event *event)
{
    if (!node->runs[SIM_MUX].alive || node->runs[SIM_MUX].run != event->guard)
        return;
    if (event->kind == SIM_FEED) {
        feed(sim, node, event);
        return;
    }
    if (event->kind == SIM_DISARM && node->runs[SIM_LRM].run != event->value)
        return; /* of a connection that is gone */
    if (event->kind == SIM_ARM && sim_local_ms(sim, node) > event->value)
        return;
    if (event->kind != SIM_DEED) {
        node->armed = event->kind == SIM_ARM;
        node->lrm.disarms = false;
        sim_lrm_wake(sim, node);
    }
    if (node->armed)
        watchdog_fed(sim, node);
}

static void restart(struct sim *sim, struct sim_node *node, const struct sim_event *event)
{
    if (node->boot == event->guard && node->runs[event->value].wanted && !node->going)
        sim_process_start(sim, node, (enum sim_process)event->value);
}

void sim_on_machine(struct sim *sim, const struct sim_event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    bool this_boot = node->boot == event->guard;
    switch (event->kind) {
    case SIM_WATCHDOG:
        watchdog(sim, node, event);
        return;
    case SIM_BOOT:
        if (this_boot && node->power == SIM_BOOTING)
            boot(sim, node);
        return;
    case SIM_RESTART:
        restart(sim, node, event);
        return;
    case SIM_RESUME:
        resume(sim, event);
        return;
    case SIM_GONE:
        if (this_boot && node->going)
            gone(sim, node);
        return;
    case SIM_FEED:
    case SIM_DEED:
    case SIM_ARM:
    case SIM_DISARM:
        on_mux(sim, node, event);
        return;
    case SIM_POWERED:
        if (node->runs[SIM_CRM].alive && node->runs[SIM_CRM].run == event->guard) {
            struct sim_node *target = &sim->nodes[event->value];
            node->crm.power_asked[event->value] = false;
            const struct sim_value *lock = sim_file(node, sim->key_lock[event->value]);
            sim_power_off(sim, target);
            node->crm.power_lock[event->value] = lock == NULL ? 0 : lock->revision.number;
            sim_log(sim, target->name, "-", "powered off by its fence agent");
            sim_crm_wake(sim, node);
        }
        return;
    default:
        return;
    }
}
