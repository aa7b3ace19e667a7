/* Tasks that start and stop virtual machines. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "work.h"

enum { SHUTDOWN_DEFAULT_S = 180 };

static const atl_ns poll_period = 100 * ATL_MS;

static int64_t timeout_s(const struct work *work, int64_t fallback)
{
    return work->spec->has_timeout_s && work->spec->timeout_s > 0 ? work->spec->timeout_s : fallback;
}

static void free_dropped(struct work *work, const struct cmp_update_plan *plan)
{
    work_free_volumes(work, plan->freed, plan->freed_count);
}

/* Changes that waited for this start become the configuration before anything is started. */
static enum atl_code take_pending(struct work *work, struct atl_error *err)
{
    if (!cmp_pending_any(&work->file))
        return ATL_OK;
    struct cmp_update_plan plan = {0};
    cmp_pending_apply(&work->file, &plan);
    enum atl_code code = work_write(work, err);
    if (code == ATL_OK) {
        atl_task_log(work->task, "took over the changes that waited for this start");
        free_dropped(work, &plan);
    }
    return code;
}

static void override_config(struct work *work, Atoll__Qemu__V1__Config *config)
{
    if (work->spec->machine != NULL)
        (void)!cmp_setting_put(config, "machine", work->spec->machine, &work->arena,
                               NULL); /* was validated */
    if (work->spec->force_cpu != NULL)
        (void)!cmp_setting_put(config, "cpu", work->spec->force_cpu, &work->arena, NULL);
}

/* The agent may still be finding out; it writes the answer's first line here. */
const char *work_accelerator(struct work *work)
{
    char path[4096];
    char word[4] = "";
    (void)snprintf(path, sizeof path, "%s/compute-agent/accelerator", atl_task_state_dir(work->task));
    for (int tries = 0; tries < 150; tries++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd >= 0 ? read(fd, word, 3) : -1;
        if (fd >= 0)
            (void)close(fd);
        if (got == 3)
            return strcmp(word, "kvm") == 0 ? "kvm" : "tcg";
        work_sleep(work, poll_period);
    }
    return "tcg";
}

enum atl_code work_start_guest(struct work *work, struct atl_error *err)
{
    Atoll__Qemu__V1__Config *config = work->file.main->config;
    if (config->has_template_ && config->template_)
        return atl_fail(err, ATL_E_STATE, NULL, "you can't start a vm if it's a template");
    enum atl_code code = take_pending(work, err);
    if (code != ATL_OK)
        return code;
    config = work->file.main->config;
    override_config(work, config);
    struct cmp_machine machine;
    code = work_machine(work, config, &machine, err);
    if (code == ATL_OK && strcmp(machine.accel, "auto") == 0)
        machine.accel = work_accelerator(work);
    if (code == ATL_OK)
        code = work_cloudinit(work, &machine, err);
    if (code != ATL_OK)
        return code;
    if (strcmp(machine.accel, "kvm") != 0 && (!config->has_kvm || config->kvm) &&
        work->driver == &cmp_libvirt_driver)
        atl_task_log(work->task, "this node cannot run KVM guests; the guest is emulated (TCG)");
    CMP_XML_AT_EXIT struct cmp_xml xml = {0};
    const struct cmp_guest guest = {
        .vmid = work->spec->vmid, .config = config, .machine = &machine, .arena = &work->arena};
    cmp_domain_xml(&guest, &xml);
    code = work->driver->start(work->engine, work->spec->vmid, xml.out.data,
                               config->has_freeze && config->freeze, err);
    if (code == ATL_OK)
        atl_task_log(work->task, "VM %" PRIu32 " started", work->spec->vmid);
    return code;
}

/* What the command means for the guest as it is. *ret_do: there is something to be done. */
static enum atl_code judge(struct work *work, enum cmp_command command, bool *ret_do, struct atl_error *err)
{
    enum cmp_state state = CMP_STOPPED;
    char text[128];
    enum atl_code code = work->driver->state(work->engine, work->spec->vmid, &state, err);
    if (code != ATL_OK)
        return code;
    *ret_do = false;
    switch (cmp_life(state, command)) {
    case CMP_REFUSE:
        cmp_life_text(state, command, work->spec->vmid, text);
        return atl_fail(err, ATL_E_STATE, NULL, "%s", text);
    case CMP_DONE:
        cmp_life_text(state, command, work->spec->vmid, text);
        atl_task_log(work->task, "%s", text);
        return ATL_OK;
    case CMP_RESUME_FIRST:
        code = work->driver->resume(work->engine, work->spec->vmid, err);
        *ret_do = command != CMP_START;
        return code;
    default:
        *ret_do = true;
        return ATL_OK;
    }
}

/* Begins a task: its guest locked, its state looked at. */
static enum atl_code begin(struct work *work, struct atl_task *task, const uint8_t *spec, size_t size,
                           enum cmp_command command, bool *ret_do, struct atl_error *err)
{
    enum atl_code code = work_init(work, task, spec, size, err);
    if (code == ATL_OK)
        code = work_take(work, err);
    if (code == ATL_OK)
        code = judge(work, command, ret_do, err);
    return code;
}

enum atl_code work_start(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    bool todo = false;
    enum atl_code code = begin(&work, task, spec, size, CMP_START, &todo, err);
    return code == ATL_OK && todo ? work_start_guest(&work, err) : code;
}

static enum atl_code stop_now(struct work *work, struct atl_error *err)
{
    enum atl_code code = work->driver->stop(work->engine, work->spec->vmid, err);
    return code == ATL_E_ABSENT ? ATL_OK : code; /* it ended by itself meanwhile */
}

enum atl_code work_stop(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    bool todo = false;
    enum atl_code code = begin(&work, task, spec, size, CMP_STOP, &todo, err);
    return code == ATL_OK && todo ? stop_now(&work, err) : code;
}

/* Waits until the guest is off; ATL_E_DEADLINE when it does not hear. */
static enum atl_code wait_off(struct work *work, int64_t seconds, struct atl_error *err)
{
    atl_ns end = atl_clock_monotonic() + seconds * ATL_SECOND;
    for (;;) {
        enum cmp_state state = CMP_RUNNING;
        enum atl_code code = work->driver->state(work->engine, work->spec->vmid, &state, err);
        if (code != ATL_OK || state == CMP_STOPPED)
            return code;
        code = work_keep(work, err);
        if (code != ATL_OK)
            return code;
        if (atl_clock_monotonic() > end)
            return atl_fail(err, ATL_E_DEADLINE, NULL, "VM quit/powerdown failed - got timeout");
        work_sleep(work, poll_period);
    }
}

static bool has_agent(const struct work *work)
{
    const Atoll__Qemu__V1__AgentOptions *agent = work->file.main->config->agent;
    return agent != NULL && agent->has_enabled && agent->enabled;
}

/* Asks through the agent when there is one and by the power button too when it does not answer. */
static enum atl_code ask_shutdown(struct work *work, struct atl_error *err)
{
    struct atl_error error = {0};
    if (has_agent(work)) {
        if (work->driver->shutdown(work->engine, work->spec->vmid, true, &error) == ATL_OK)
            return ATL_OK;
        atl_task_log(work->task, "the guest agent does not answer (%s); pressing the power button",
                     error.text);
    }
    return work->driver->shutdown(work->engine, work->spec->vmid, false, err);
}

static enum atl_code shutdown_guest(struct work *work, int64_t seconds, struct atl_error *err)
{
    enum atl_code code = ask_shutdown(work, err);
    if (code == ATL_E_ABSENT)
        return ATL_OK;
    struct atl_error error = {0};
    if (code == ATL_OK)
        code = wait_off(work, seconds, &error);
    if (code == ATL_E_DEADLINE && work->spec->has_force_stop && work->spec->force_stop) {
        atl_task_log(work->task, "the guest did not shut down in %" PRId64 " s, stopping it", seconds);
        return stop_now(work, err);
    }
    if (code != ATL_OK && error.text[0] != '\0')
        return atl_fail(err, code, NULL, "%s", error.text);
    return code;
}

enum atl_code work_shutdown(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    bool todo = false;
    enum atl_code code = begin(&work, task, spec, size, CMP_SHUTDOWN, &todo, err);
    return code == ATL_OK && todo ? shutdown_guest(&work, timeout_s(&work, SHUTDOWN_DEFAULT_S), err) : code;
}

enum atl_code work_reboot(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    bool todo = false;
    enum atl_code code = begin(&work, task, spec, size, CMP_REBOOT, &todo, err);
    if (code == ATL_OK)
        code = shutdown_guest(&work, timeout_s(&work, SHUTDOWN_DEFAULT_S), err);
    return code == ATL_OK ? work_start_guest(&work, err) : code;
}

enum atl_code work_reset(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    bool todo = false;
    enum atl_code code = begin(&work, task, spec, size, CMP_RESET, &todo, err);
    return code == ATL_OK ? work.driver->reset(work.engine, work.spec->vmid, err) : code;
}

enum atl_code work_suspend(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    bool todo = false;
    enum atl_code code = begin(&work, task, spec, size, CMP_SUSPEND, &todo, err);
    return code == ATL_OK && todo ? work.driver->suspend(work.engine, work.spec->vmid, err) : code;
}

enum atl_code work_resume(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    WORK_AT_EXIT struct work work;
    bool todo = false;
    enum atl_code code = begin(&work, task, spec, size, CMP_RESUME, &todo, err);
    return code == ATL_OK && todo ? work.driver->resume(work.engine, work.spec->vmid, err) : code;
}
