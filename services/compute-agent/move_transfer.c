/* Moving a virtual machine: disks and memory of the running guest. */
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "crash.h"
#include "move_source.h"

static const atl_ns look_period = 20 * ATL_MS;
static const atl_ns tell_period = 2 * ATL_SECOND;

static void pause_a_moment(void)
{
    const struct timespec step = {.tv_nsec = look_period};
    (void)nanosleep(&step, NULL); /* cut short by a signal: it looks a little sooner */
}

static enum atl_code stopped(const struct source *source, struct atl_error *err)
{
    if (!atl_task_stopped(source->work.task))
        return ATL_OK;
    return atl_fail(err, ATL_E_CANCELLED, NULL, "the task was stopped");
}

/* QEMU's way to the target: a socket in the guest's folder, for its user alone. */
static enum atl_code open_tunnel(struct source *source, const char *channel, struct move_tunnel **ret_tunnel,
                                 char uri[128], struct atl_error *err)
{
    const struct work *work = &source->work;
    const struct passwd *user = getpwnam(work->spec->qemu_user);
    (void)snprintf(uri, 128, "%.80s/qemu/%" PRIu32 "/%s-out.sock", atl_task_run_dir(work->task),
                   work->spec->vmid, channel);
    return move_tunnel_out(&source->offer, channel, uri, user != NULL ? user->pw_uid : 0, ret_tunnel, err);
}

uint64_t source_limit(const struct source *source)
{
    const Atoll__Qemu__V1__Move *move = source->work.spec->move;
    const Atoll__Qemu__V1__Config *config = source->work.file.main->config;
    return cmp_move_limit(move->has_limit_kib_s, move->limit_kib_s,
                          config->has_migrate_speed ? config->migrate_speed : 0, move->datacenter);
}

/* --- disks ------------------------------------------------------------------------------------------------
 */

static enum atl_code start_mirror(struct source *source, const struct cmp_move_volume *volume,
                                  const char *socket, struct atl_error *err)
{
    struct work *work = &source->work;
    const char *name = NULL;
    enum atl_code code = move_block_name(work, volume->name, &name, err);
    if (code != ATL_OK)
        return code;
    return move_command(
        work, "drive-mirror",
        atl_arena_format(&work->arena,
                         "{\"job-id\":\"move-%s\",\"device\":\"%s\",\"target\":"
                         "\"nbd+unix:///%s?socket=%s\",\"format\":\"raw\",\"mode\":\"existing\","
                         "\"sync\":\"full\",\"speed\":%" PRIu64 "}",
                         volume->name, name, volume->name, socket, source_limit(source)),
        err);
}

static enum atl_code look_at_mirrors(struct source *source, bool *ret_ready, uint64_t *ret_done,
                                     uint64_t *ret_total, struct atl_error *err)
{
    *ret_ready = true;
    *ret_done = *ret_total = 0;
    for (size_t i = 0; i < source->input.volume_count; i++) {
        char name[40];
        struct move_job job = {0};
        if (source->input.volumes[i].move != CMP_MOVE_MIRROR)
            continue;
        (void)snprintf(name, sizeof name, "move-%.24s", source->input.volumes[i].name);
        enum atl_code code = move_job(&source->work, name, &job, err);
        if (code == ATL_OK && job.error[0] != '\0')
            code = atl_fail(err, ATL_E_IO, source->input.volumes[i].name, "%s: %s",
                            source->input.volumes[i].name, job.error);
        if (code != ATL_OK)
            return code;
        *ret_ready = *ret_ready && job.ready;
        *ret_done += job.done;
        *ret_total += job.total;
    }
    return ATL_OK;
}

static bool any_mirror(const struct source *source)
{
    for (size_t i = 0; i < source->input.volume_count; i++)
        if (source->input.volumes[i].move == CMP_MOVE_MIRROR)
            return true;
    return false;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576.0;
}

/* Until source and target hold the same, and each write goes to both. */
static enum atl_code mirror_disks(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    char socket[128];
    atl_ns told_at = atl_clock_monotonic();
    enum atl_code code = open_tunnel(source, "nbd", &source->nbd, socket, err);
    for (size_t i = 0; code == ATL_OK && i < source->input.volume_count; i++)
        if (source->input.volumes[i].move == CMP_MOVE_MIRROR)
            code = start_mirror(source, &source->input.volumes[i], socket, err);
    for (bool ready = false; code == ATL_OK && !ready;) {
        uint64_t done = 0;
        uint64_t total = 0;
        code = look_at_mirrors(source, &ready, &done, &total, err);
        if (code == ATL_OK)
            code = stopped(source, err);
        if (code != ATL_OK)
            break;
        atl_task_progress(work->task, total > 0 ? 0.7 * (double)done / (double)total : 0,
                          "disks: %.0f of %.0f MiB", mib(done), mib(total));
        if (ready || atl_clock_monotonic() - told_at > tell_period)
            atl_task_log(work->task, "disks: %.0f of %.0f MiB", mib(done), mib(total));
        if (ready || atl_clock_monotonic() - told_at > tell_period)
            told_at = atl_clock_monotonic();
        pause_a_moment();
    }
    return code;
}

/* The guest stands still: what is on the disks now is all, and the mirrors end with it. */
static enum atl_code end_mirrors(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    enum atl_code code = ATL_OK;
    for (size_t i = 0; code == ATL_OK && i < source->input.volume_count; i++)
        if (source->input.volumes[i].move == CMP_MOVE_MIRROR)
            code = move_command(
                work, "block-job-cancel",
                atl_arena_format(&work->arena, "{\"device\":\"move-%s\"}", source->input.volumes[i].name),
                err);
    for (bool open = true; code == ATL_OK && open;) {
        bool ready = false;
        uint64_t done = 0;
        uint64_t total = 0;
        struct atl_error error = {0};
        enum atl_code look = look_at_mirrors(source, &ready, &done, &total, &error);
        open = look == ATL_OK; /* the first that is gone; the others have ended alike or are waited for */
        if (look != ATL_OK && look != ATL_E_ABSENT)
            code = atl_fail(err, look, NULL, "%s", error.text);
        if (open)
            pause_a_moment();
    }
    return code;
}

/* --- memory -----------------------------------------------------------------------------------------------
 */

static uint32_t downtime_of(const struct source *source)
{
    const Atoll__Qemu__V1__Config *config = source->work.file.main->config;
    double seconds =
        config->has_migrate_downtime && config->migrate_downtime > 0 ? config->migrate_downtime : 0.1;
    return seconds < 2000 ? (uint32_t)(seconds * 1000.0) : 2000000;
}

static enum atl_code set_parameter(struct source *source, const char *name, uint64_t value,
                                   struct atl_error *err)
{
    struct work *work = &source->work;
    return move_command(work, "migrate-set-parameters",
                        atl_arena_format(&work->arena, "{\"%s\":%" PRIu64 "}", name, value), err);
}

static enum atl_code start_memory(struct source *source, struct atl_error *err)
{
    struct work *work = &source->work;
    char socket[128];
    uint64_t limit = source_limit(source);
    enum atl_code code = open_tunnel(source, "ram", &source->ram, socket, err);
    if (code == ATL_OK) /* disks are ended between the guest's last write and the last of its state */
        code = move_capability(work, "pause-before-switchover", any_mirror(source), err);
    if (code == ATL_OK)
        code = set_parameter(source, "max-bandwidth", limit > 0 ? limit : UINT64_C(1) << 40, err);
    if (code == ATL_OK)
        code = set_parameter(source, "downtime-limit", downtime_of(source), err);
    if (code == ATL_OK)
        code = move_command(work, "migrate", atl_arena_format(&work->arena, "{\"uri\":\"unix:%s\"}", socket),
                            err);
    return code;
}

/* A guest that writes faster than the link carries may stand still a little longer. */
static enum atl_code adapt(struct source *source, const struct move_state *state, uint32_t *downtime_ms,
                           struct atl_error *err)
{
    uint32_t wanted = cmp_move_downtime(downtime_of(source), state->rounds);
    if (wanted == *downtime_ms)
        return ATL_OK;
    *downtime_ms = wanted;
    atl_task_log(source->work.task, "the guest may stand still for %" PRIu32 " ms from now on", wanted);
    return set_parameter(source, "downtime-limit", wanted, err);
}

static void tell(struct source *source, const struct move_state *state, bool line)
{
    struct atl_task *task = source->work.task;
    double base = any_mirror(source) ? 0.7 : 0;
    double done = state->total > 0 ? 1 - (double)state->remaining / (double)state->total : 0;
    atl_task_progress(task, base + (0.99 - base) * done, "memory: %.0f MiB sent, %.0f of %.0f MiB remain",
                      mib(state->transferred), mib(state->remaining), mib(state->total));
    if (line)
        atl_task_log(task, "memory: %.0f MiB sent, %.1f MiB/s, %.0f of %.0f MiB remain",
                     mib(state->transferred), mib(state->bytes_s), mib(state->remaining), mib(state->total));
}

static bool is(const struct move_state *state, const char *status)
{
    return strcmp(state->status, status) == 0;
}

/* What the state of the migration asks for. *ret_done: everything has been sent. */
static enum atl_code step(struct source *source, const struct move_state *state, uint32_t *downtime_ms,
                          bool *ret_done, struct atl_error *err)
{
    struct work *work = &source->work;
    bool still = is(state, "pre-switchover") || is(state, "device") || is(state, "completed");
    if (still && source->stopped_at == 0)
        source->stopped_at = atl_clock_monotonic();
    if (is(state, "failed") || is(state, "cancelled") || is(state, "none"))
        return atl_fail(err, ATL_E_IO, NULL, "the migration of the memory %s: %s",
                        is(state, "cancelled") ? "was called off" : "failed",
                        state->error[0] != '\0' ? state->error : "QEMU gives no reason");
    if (is(state, "completed")) {
        *ret_done = true;
        if (state->downtime_ms > 0 && source->was_running)
            source->stopped_at = atl_clock_monotonic() - (atl_ns)state->downtime_ms * ATL_MS;
        return ATL_OK;
    }
    if (is(state, "pre-switchover")) {
        enum atl_code code = end_mirrors(source, err);
        return code == ATL_OK ? move_command(work, "migrate-continue", "{\"state\":\"pre-switchover\"}", err)
                              : code;
    }
    return is(state, "active") ? adapt(source, state, downtime_ms, err) : ATL_OK;
}

enum atl_code source_transfer(struct source *source, struct atl_error *err)
{
    uint32_t downtime_ms = downtime_of(source);
    atl_ns told_at = 0;
    enum atl_code code = any_mirror(source) ? mirror_disks(source, err) : ATL_OK;
    if (code == ATL_OK)
        code = start_memory(source, err);
    if (code == ATL_OK)
        cmp_crash_at(source->work.task, CMP_CRASH_VM_SENDING);
    for (bool done = false; code == ATL_OK && !done;) {
        struct move_state state = {0};
        code = move_state(&source->work, &state, err);
        if (code == ATL_OK)
            code = step(source, &state, &downtime_ms, &done, err);
        if (code == ATL_OK && !done)
            code = stopped(source, err);
        if (code != ATL_OK)
            return code;
        bool line = done || atl_clock_monotonic() - told_at > tell_period;
        told_at = line ? atl_clock_monotonic() : told_at;
        tell(source, &state, line);
        if (!done)
            pause_a_moment();
    }
    return code;
}
