/* compute-agent: starts, stops and moves guests; its tasks outlive ha-lrm, not the machine. */
#include <string.h>

#include "ha/place.h"
#include "ha/txn.h"
#include "sim.h"

enum phase { BEGINS, SPAWNS, WORKS, HANDS_OVER, READS_AGAIN };

const struct sim_job *sim_job_of(const struct sim_node *node, int guest)
{
    for (size_t i = 0; i < SIM_JOBS; i++)
        if (node->jobs[i].used && node->jobs[i].guest == guest)
            return &node->jobs[i];
    return NULL;
}

static void later(struct sim *sim, struct sim_node *node, const struct sim_job *job, sim_us delay)
{
    sim_push(sim, delay, (struct sim_event){.kind = SIM_JOB, .node = node->index, .guard = job->id});
}

void sim_job_begin(struct sim *sim, struct sim_node *node, const Atoll__Ha__V1__Job *order)
{
    struct sim_job *job = NULL;
    for (size_t i = 0; i < SIM_JOBS && job == NULL; i++)
        job = node->jobs[i].used ? NULL : &node->jobs[i];
    struct sim_guest *guest = sim_guest_find(sim, order->sid);
    const struct sim_node *target = order->target == NULL ? NULL : sim_node_find(sim, order->target);
    if (job == NULL || guest == NULL)
        return;
    *job = (struct sim_job){.used = true,
                            .id = ++sim->next_id,
                            .guest = (int)(guest - sim->guests),
                            .command = order->command,
                            .target = target == NULL ? -1 : target->index};
    (void)snprintf(job->action, sizeof job->action, "%s", order->action);
    sim_check_start(sim, node, job);
    later(sim, node, job, sim_between(sim, SIM_MS, 20 * SIM_MS));
}

static void end(struct sim *sim, struct sim_node *node, struct sim_job *job, const char *outcome)
{
    job->used = false;
    sim->guests[job->guest].failures += strcmp(outcome, "done") != 0;
    if (strcmp(outcome, "done") != 0)
        sim_log(sim, node->name, "-", "%s %s: %s", job->action, sim->guests[job->guest].sid, outcome);
    sim_lrm_result(sim, node, job, outcome);
}

static void spawn(struct sim *sim, const struct sim_node *node, struct sim_guest *guest)
{
    sim_check_spawn(sim, node, guest);
    guest->running |= 1U << node->index;
    guest->runs_since = sim->now;
    sim->counts.starts++;
    sim_log(sim, node->name, "-", "%s runs", guest->sid);
    sim_check_running(sim);
}

static void stop(struct sim *sim, const struct sim_node *node, struct sim_guest *guest)
{
    uint32_t bit = 1U << node->index;
    if ((guest->running & bit) != 0)
        sim_log(sim, node->name, "-", "%s is stopped", guest->sid);
    guest->running &= ~bit;
    guest->held &= ~bit;
}

static void on_start(struct sim *sim, struct sim_node *node, struct sim_job *job)
{
    struct sim_guest *guest = &sim->guests[job->guest];
    bool here = node->copy.place[job->guest] == node->index;
    if (node->copy.number < node->compute_number) { /* what it has written itself, it reads */
        later(sim, node, job, 20 * SIM_MS);
    } else if (job->phase == BEGINS && (guest->running >> node->index & 1) != 0) {
        end(sim, node, job, "done");
    } else if (job->phase == BEGINS && (!here || (guest->refuse_starts >> node->index & 1) != 0)) {
        end(sim, node, job, here ? "refused" : "failed");
    } else if (job->phase == BEGINS) {
        job->phase = SPAWNS;
        later(sim, node, job, sim_between(sim, 50 * SIM_MS, 250 * SIM_MS));
    } else if (job->phase == SPAWNS && guest->fail_starts > 0) {
        guest->fail_starts--;
        end(sim, node, job, "failed");
    } else if (job->phase == SPAWNS) {
        spawn(sim, node, guest);
        job->phase = WORKS;
        later(sim, node, job, guest->start_takes);
    } else {
        end(sim, node, job, (guest->running >> node->index & 1) != 0 ? "done" : "failed");
    }
}

static void on_stop(struct sim *sim, struct sim_node *node, struct sim_job *job)
{
    if (job->phase == BEGINS) {
        job->phase = WORKS;
        later(sim, node, job, sim_between(sim, 300 * SIM_MS, 2 * SIM_SECOND));
        return;
    }
    stop(sim, node, &sim->guests[job->guest]);
    end(sim, node, job, "done");
}

static const char *guest_path(struct atl_arena *arena, const struct sim *sim, const struct sim_guest *guest,
                              int node)
{
    const char *folder = strcmp(guest->type, "ct") == 0 ? "lxc" : "qemu-server";
    return atl_arena_format(arena, "nodes/%s/%s/%u.conf", sim->nodes[node].name, folder, guest->vmid);
}

/* The guest's file goes to the target, if both nodes hold their locks and nobody has touched it. */
static bool send_move(struct sim *sim, struct sim_node *node, struct sim_job *job, bool runs)
{
    struct sim_guest *guest = &sim->guests[job->guest];
    const struct sim_value *file = sim_file(node, guest->key_file[node->index]);
    const struct sim_value *lock = sim_file(node, sim->key_lock[node->index]);
    const struct sim_value *target = sim_file(node, sim->key_lock[job->target]);
    if (file == NULL || file->revision.number != job->revision || lock == NULL || (runs && target == NULL))
        return false;
    if (((const Atoll__Ha__V1__NodeLock *)lock->message)->fenced ||
        (runs && ((const Atoll__Ha__V1__NodeLock *)target->message)->fenced))
        return false;
    struct sim_memory *memory = sim_memory_take(sim);
    struct atl_ha_txn txn = atl_ha_txn_begin(&memory->arena);
    const char *from = guest_path(&memory->arena, sim, guest, node->index);
    atl_ha_txn_compare(&txn, from, &file->revision);
    atl_ha_txn_compare(&txn, sim->tree.keys[sim->key_lock[node->index]].path, &lock->revision);
    if (runs)
        atl_ha_txn_compare(&txn, sim->tree.keys[sim->key_lock[job->target]].path, &target->revision);
    atl_ha_txn_rename(&txn, from, guest_path(&memory->arena, sim, guest, job->target));
    struct sim_call *call = sim_call_send(sim, node, SIM_COMPUTE, memory, txn.request);
    call->job = (int)(job - node->jobs);
    job->call = call->id;
    sim_memory_give(sim, memory);
    job->phase = HANDS_OVER;
    later(sim, node, job, 3 * SIM_SECOND); /* without an answer until then: reads again */
    return true;
}

/* It goes on at the target, which received it paused, if that machine and its watchdog are as they were. */
static void resume_at_target(struct sim *sim, struct sim_node *node, struct sim_job *job)
{
    struct sim_guest *guest = &sim->guests[job->guest];
    struct sim_node *target = &sim->nodes[job->target];
    guest->held &= ~(1U << node->index);
    guest->running &= ~(1U << node->index);
    sim_log(sim, node->name, "-", "%s has moved to %s", guest->sid, target->name);
    if (strcmp(job->action, "migrate") == 0 && target->boot == job->target_boot && target->power == SIM_UP &&
        target->armed) {
        guest->running |= 1U << target->index;
        sim->counts.migrations++;
        sim_check_running(sim);
        sim_lrm_wake(sim, target);
    }
    end(sim, node, job, "done");
}

static void back_at_source(struct sim *sim, struct sim_node *node, struct sim_job *job)
{
    struct sim_guest *guest = &sim->guests[job->guest];
    uint32_t bit = 1U << node->index;
    if ((guest->held & bit) != 0) {
        guest->running |= bit;
        guest->held &= ~bit;
        sim_check_running(sim);
    }
    end(sim, node, job, "failed");
}

/* Nobody knows what became of the handing over: the tree does, when it can be read. */
static void read_again(struct sim *sim, struct sim_node *node, struct sim_job *job)
{
    job->phase = READS_AGAIN;
    struct sim_guest *guest = &sim->guests[job->guest];
    if (!sim_reaches_etcd(sim, node->index) || sim->survivors != NULL) {
        later(sim, node, job, 500 * SIM_MS);
        return;
    }
    const struct sim_value *file = sim->tree.keys[guest->key_file[node->index]].value;
    node->compute_number = sim->tree.number;
    if (file != NULL && file->revision.number == job->revision)
        back_at_source(sim, node, job);
    else if (sim->tree.keys[guest->key_file[job->target]].value != NULL)
        resume_at_target(sim, node, job);
    else { /* it is somebody else's: what stands paused here is destroyed */
        guest->held &= ~(1U << node->index);
        end(sim, node, job, "failed");
    }
}

static void begin_move(struct sim *sim, struct sim_node *node, struct sim_job *job, bool live)
{
    const struct sim_guest *guest = &sim->guests[job->guest];
    const struct sim_value *file = sim_file(node, guest->key_file[node->index]);
    bool reach = job->target >= 0 && job->target != node->index && sim_answers(&sim->nodes[job->target]);
    if (file == NULL || !reach || (live && guest->bound)) {
        end(sim, node, job, reach && guest->bound ? "refused" : "failed");
        return;
    }
    job->phase = WORKS;
    job->revision = file->revision.number;
    job->target_boot = sim->nodes[job->target].boot;
    later(sim, node, job, live ? guest->move_takes : sim_between(sim, 300 * SIM_MS, 2 * SIM_SECOND));
}

static void hand_over(struct sim *sim, struct sim_node *node, struct sim_job *job, bool live)
{
    struct sim_guest *guest = &sim->guests[job->guest];
    const struct sim_node *target = &sim->nodes[job->target];
    bool same = target->boot == job->target_boot && sim_linked(sim, SIM_NET_ETCD, node->index, job->target);
    if (live && same && target->armed) {
        guest->held |= 1U << node->index;
        guest->running &= ~(1U << node->index);
    } else if (!live) {
        stop(sim, node, guest);
    } else {
        same = false;
    }
    if (!same || !send_move(sim, node, job, live))
        back_at_source(sim, node, job);
}

static void on_move(struct sim *sim, struct sim_node *node, struct sim_job *job)
{
    bool runs = (sim->guests[job->guest].running >> node->index & 1) != 0;
    bool live = strcmp(job->action, "migrate") == 0 && runs;
    if (job->phase == BEGINS)
        begin_move(sim, node, job, live);
    else if (job->phase == WORKS)
        hand_over(sim, node, job, live);
    else
        read_again(sim, node, job);
}

void sim_on_job(struct sim *sim, const struct sim_event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    for (size_t i = 0; i < SIM_JOBS; i++) {
        struct sim_job *job = &node->jobs[i];
        if (!job->used || job->id != event->guard)
            continue;
        if (strcmp(job->action, "start") == 0)
            on_start(sim, node, job);
        else if (strcmp(job->action, "stop") == 0)
            on_stop(sim, node, job);
        else
            on_move(sim, node, job);
        return;
    }
}

void sim_job_reply(struct sim *sim, struct sim_node *node, const struct sim_call *call)
{
    struct sim_job *job = &node->jobs[call->job];
    if (!job->used || job->call != call->id || job->phase != HANDS_OVER)
        return;
    if (call->outcome != SIM_UNKNOWN)
        node->compute_number = call->number;
    if (call->outcome == SIM_DONE)
        resume_at_target(sim, node, job);
    else if (call->outcome == SIM_REFUSED)
        back_at_source(sim, node, job);
}

void sim_guest_die(struct sim *sim, struct sim_guest *guest, int node)
{
    if ((guest->running >> node & 1) == 0)
        return;
    guest->running &= ~(1U << node);
    sim_log(sim, sim->nodes[node].name, "-", "%s died", guest->sid);
    sim_lrm_wake(sim, &sim->nodes[node]);
}

void sim_guests_gone(struct sim *sim, struct sim_node *node)
{
    for (int i = 0; i < sim->guest_count; i++) {
        sim->guests[i].running &= ~(1U << node->index);
        sim->guests[i].held &= ~(1U << node->index);
    }
}
