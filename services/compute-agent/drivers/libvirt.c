/* Virtual machines as transient libvirt domains. */
#include <dirent.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/domxml.h"
#include "drivers/driver.h"
#include "drivers/procfs.h"

enum { KILL_MS = 1000 };

struct lv {
    virConnectPtr connection;
    bool watch;
    int lifecycle_id;
    int timer_id;
    atomic_bool changed;
    struct cmp_pids pids; /* of QEMU by guest; for the thread that samples alone */
};

/* Errors come with each call; the default handler would write them to stderr as well. */
static void quiet(void *user, virErrorPtr error)
{
    (void)user;
    (void)error;
}

static void prepare(void)
{
    (void)virInitialize(); /* fails only when it had failed before; opening says so */
    virSetErrorFunc(NULL, quiet);
}

static void prepare_events(void)
{
    prepare();
    (void)virEventRegisterDefaultImpl();
}

static enum atl_code lv_fail(struct atl_error *err, const char *what)
{
    virErrorPtr last = virGetLastError();
    enum atl_code code = ATL_E_IO;
    switch (last != NULL ? last->code : VIR_ERR_OK) {
    case VIR_ERR_NO_DOMAIN:
        code = ATL_E_ABSENT;
        break;
    case VIR_ERR_OPERATION_INVALID:
        code = ATL_E_STATE;
        break;
    case VIR_ERR_AGENT_UNRESPONSIVE:
    case VIR_ERR_AGENT_UNSYNCED:
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_RPC:
    case VIR_ERR_SYSTEM_ERROR:
        code = ATL_E_UNAVAILABLE;
        break;
    case VIR_ERR_OPERATION_TIMEOUT:
        code = ATL_E_DEADLINE;
        break;
    default:
        break;
    }
    return atl_fail(err, code, NULL, "%s: %s", what,
                    last != NULL && last->message != NULL ? last->message : "libvirt gave no reason");
}

/* --- connection -------------------------------------------------------------------------------------------
 */

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail, void *user)
{
    (void)connection;
    (void)domain;
    (void)event;
    (void)detail;
    struct lv *lv = user;
    atomic_store(&lv->changed, true);
    return 0;
}

static void on_timer(int timer, void *user)
{
    (void)user;
    virEventUpdateTimeout(timer, -1);
}

static void lv_close(void *self)
{
    struct lv *lv = self;
    if (lv == NULL)
        return;
    if (lv->connection != NULL && lv->lifecycle_id >= 0)
        (void)virConnectDomainEventDeregisterAny(lv->connection, lv->lifecycle_id);
    if (lv->connection != NULL)
        (void)virConnectClose(lv->connection); /* a broken connection cannot be closed better */
    if (lv->timer_id >= 0)
        (void)virEventRemoveTimeout(lv->timer_id);
    cmp_pids_done(&lv->pids);
    free(lv);
}

static enum atl_code lv_open(const struct cmp_driver_options *options, void **ret_self, struct atl_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static pthread_once_t once_events = PTHREAD_ONCE_INIT;
    if (options->watch)
        (void)pthread_once(&once_events, prepare_events);
    else
        (void)pthread_once(&once, prepare);
    struct lv *lv = atl_new0(struct lv);
    lv->watch = options->watch;
    lv->lifecycle_id = -1;
    lv->timer_id = -1;
    lv->connection = virConnectOpen(options->uri);
    if (lv->connection == NULL) {
        (void)lv_fail(err, "cannot reach libvirt");
        lv_close(lv);
        if (err != NULL)
            err->code = ATL_E_UNAVAILABLE;
        return ATL_E_UNAVAILABLE;
    }
    if (lv->watch) {
        lv->timer_id = virEventAddTimeout(-1, on_timer, NULL, NULL);
        lv->lifecycle_id =
            virConnectDomainEventRegisterAny(lv->connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                             VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), lv, NULL);
        (void)virConnectSetKeepAlive(lv->connection, 2, 3); /* not on every transport */
    }
    *ret_self = lv;
    return ATL_OK;
}

static enum atl_code find_domain(struct lv *lv, uint32_t vmid, virDomainPtr *ret_domain,
                                 struct atl_error *err)
{
    char name[CMP_DOMAIN_NAME_MAX];
    cmp_domain_name(vmid, name);
    virDomainPtr domain = virDomainLookupByName(lv->connection, name);
    if (domain != NULL) {
        *ret_domain = domain;
        return ATL_OK;
    }
    virErrorPtr last = virGetLastError();
    if (last != NULL && last->code == VIR_ERR_NO_DOMAIN)
        return atl_fail(err, ATL_E_ABSENT, NULL, "VM %" PRIu32 " not running", vmid);
    return lv_fail(err, "cannot ask libvirt for the guest");
}

static void free_domain(virDomainPtr *domain)
{
    if (*domain != NULL)
        (void)virDomainFree(*domain);
}
#define DOMAIN_FREE_AT_EXIT ATL_CLEANUP(free_domain)

static enum cmp_state from_libvirt(int state)
{
    switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
    case VIR_DOMAIN_SHUTDOWN:
        return CMP_RUNNING;
    case VIR_DOMAIN_PAUSED:
    case VIR_DOMAIN_PMSUSPENDED:
        return CMP_PAUSED;
    default:
        return CMP_STOPPED;
    }
}

static enum atl_code lv_state(void *self, uint32_t vmid, enum cmp_state *ret_state, struct atl_error *err)
{
    DOMAIN_FREE_AT_EXIT virDomainPtr domain = NULL;
    struct atl_error error = {0};
    int state = VIR_DOMAIN_NOSTATE;
    int reason = 0;
    enum atl_code code = find_domain(self, vmid, &domain, &error);
    if (code == ATL_E_ABSENT) {
        *ret_state = CMP_STOPPED;
        return ATL_OK;
    }
    if (code != ATL_OK)
        return atl_fail(err, code, NULL, "%s", error.text);
    if (virDomainGetState(domain, &state, &reason, 0) < 0) {
        code = lv_fail(&error, "cannot read the state of the guest");
        if (code != ATL_E_ABSENT) /* it ended between the two questions */
            return atl_fail(err, code, NULL, "%s", error.text);
        state = VIR_DOMAIN_SHUTOFF;
    }
    *ret_state = from_libvirt(state);
    return ATL_OK;
}

/* --- life -------------------------------------------------------------------------------------------------
 */

static enum atl_code lv_start(void *self, uint32_t vmid, const char *xml, bool paused, struct atl_error *err)
{
    struct lv *lv = self;
    (void)vmid; /* its name is in the XML */
    DOMAIN_FREE_AT_EXIT virDomainPtr domain =
        virDomainCreateXML(lv->connection, xml, paused ? VIR_DOMAIN_START_PAUSED : 0);
    return domain != NULL ? ATL_OK : lv_fail(err, "start failed");
}

enum simple { DESTROY, POWER_BUTTON, AGENT_SHUTDOWN, RESET, SUSPEND, RESUME };

static int do_simple(virDomainPtr domain, enum simple deed)
{
    switch (deed) {
    case DESTROY:
        return virDomainDestroyFlags(domain, VIR_DOMAIN_DESTROY_DEFAULT);
    case POWER_BUTTON:
        return virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
    case AGENT_SHUTDOWN:
        return virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_GUEST_AGENT);
    case RESET:
        return virDomainReset(domain, 0);
    case SUSPEND:
        return virDomainSuspend(domain);
    default:
        return virDomainResume(domain);
    }
}

static enum atl_code simple(struct lv *lv, uint32_t vmid, enum simple deed, const char *what,
                            struct atl_error *err)
{
    DOMAIN_FREE_AT_EXIT virDomainPtr domain = NULL;
    enum atl_code code = find_domain(lv, vmid, &domain, err);
    if (code != ATL_OK)
        return code;
    return do_simple(domain, deed) < 0 ? lv_fail(err, what) : ATL_OK;
}

static enum atl_code lv_stop(void *self, uint32_t vmid, struct atl_error *err)
{
    return simple(self, vmid, DESTROY, "stop failed", err);
}

/* libvirt looks every 200 ms whether a process that it ends has gone. Nobody waits for that but who takes the
 * guest back (move_target.c). */
static enum atl_code lv_abandon(void *self, uint32_t vmid, struct atl_error *err)
{
    return cmp_kill_guest(vmid, KILL_MS) ? ATL_OK : lv_stop(self, vmid, err);
}

static enum atl_code lv_shutdown(void *self, uint32_t vmid, bool agent, struct atl_error *err)
{
    return simple(self, vmid, agent ? AGENT_SHUTDOWN : POWER_BUTTON, "shutdown failed", err);
}

static enum atl_code lv_reset(void *self, uint32_t vmid, struct atl_error *err)
{
    return simple(self, vmid, RESET, "reset failed", err);
}

static enum atl_code lv_suspend(void *self, uint32_t vmid, struct atl_error *err)
{
    return simple(self, vmid, SUSPEND, "suspend failed", err);
}

static enum atl_code lv_resume(void *self, uint32_t vmid, struct atl_error *err)
{
    return simple(self, vmid, RESUME, "resume failed", err);
}

/* --- talking to it ----------------------------------------------------------------------------------------
 */

static enum atl_code lv_agent(void *self, uint32_t vmid, const char *command, int timeout_s,
                              char **ret_answer, struct atl_error *err)
{
    DOMAIN_FREE_AT_EXIT virDomainPtr domain = NULL;
    enum atl_code code = find_domain(self, vmid, &domain, err);
    if (code != ATL_OK)
        return code;
    char *answer = virDomainQemuAgentCommand(domain, command, timeout_s, 0);
    if (answer == NULL)
        return lv_fail(err, "guest agent");
    *ret_answer = answer;
    return ATL_OK;
}

static enum atl_code monitor_command(void *self, uint32_t vmid, const char *command, unsigned int flags,
                                     char **ret_answer, struct atl_error *err)
{
    DOMAIN_FREE_AT_EXIT virDomainPtr domain = NULL;
    char *answer = NULL;
    enum atl_code code = find_domain(self, vmid, &domain, err);
    if (code != ATL_OK)
        return code;
    if (virDomainQemuMonitorCommand(domain, command, &answer, flags) < 0)
        return lv_fail(err, "monitor");
    *ret_answer = answer;
    return ATL_OK;
}

static enum atl_code lv_monitor(void *self, uint32_t vmid, const char *command, char **ret_answer,
                                struct atl_error *err)
{
    return monitor_command(self, vmid, command, VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP, ret_answer, err);
}

static enum atl_code lv_qmp(void *self, uint32_t vmid, const char *command, char **ret_answer,
                            struct atl_error *err)
{
    return monitor_command(self, vmid, command, VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT, ret_answer, err);
}

static enum atl_code lv_domain(void *self, uint32_t vmid, char **ret_xml, struct atl_error *err)
{
    DOMAIN_FREE_AT_EXIT virDomainPtr domain = NULL;
    enum atl_code code = find_domain(self, vmid, &domain, err);
    if (code != ATL_OK)
        return code;
    char *xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_MIGRATABLE);
    if (xml == NULL)
        return lv_fail(err, "cannot read the guest's domain");
    *ret_xml = xml;
    return ATL_OK;
}

static enum atl_code lv_resize(void *self, uint32_t vmid, const char *target, uint64_t size_bytes,
                               struct atl_error *err)
{
    DOMAIN_FREE_AT_EXIT virDomainPtr domain = NULL;
    enum atl_code code = find_domain(self, vmid, &domain, err);
    if (code != ATL_OK)
        return code;
    if (virDomainBlockResize(domain, target, size_bytes, VIR_DOMAIN_BLOCK_RESIZE_BYTES) < 0)
        return lv_fail(err, "resize failed");
    return ATL_OK;
}

static enum atl_code lv_device(void *self, uint32_t vmid, enum cmp_device_deed deed, const char *xml,
                               struct atl_error *err)
{
    DOMAIN_FREE_AT_EXIT virDomainPtr domain = NULL;
    int result = -1;
    enum atl_code code = find_domain(self, vmid, &domain, err);
    if (code != ATL_OK)
        return code;
    if (deed == CMP_ATTACH)
        result = virDomainAttachDeviceFlags(domain, xml, VIR_DOMAIN_AFFECT_LIVE);
    else if (deed == CMP_DETACH)
        result = virDomainDetachDeviceFlags(domain, xml, VIR_DOMAIN_AFFECT_LIVE);
    else
        result = virDomainUpdateDeviceFlags(domain, xml, VIR_DOMAIN_AFFECT_LIVE);
    return result < 0 ? lv_fail(err, "hotplug problem") : ATL_OK;
}

static enum atl_code lv_cpu_limits(void *self, uint32_t vmid, uint64_t limit_percent, uint64_t units,
                                   struct atl_error *err)
{
    DOMAIN_FREE_AT_EXIT virDomainPtr domain = NULL;
    virTypedParameterPtr params = NULL;
    int count = 0;
    int room = 0;
    enum atl_code code = find_domain(self, vmid, &domain, err);
    if (code != ATL_OK)
        return code;
    long long quota = limit_percent > 0 ? (long long)limit_percent * 1000 : -1;
    int result = virTypedParamsAddLLong(&params, &count, &room, VIR_DOMAIN_SCHEDULER_GLOBAL_QUOTA, quota);
    if (result == 0 && units > 0)
        result = virTypedParamsAddULLong(&params, &count, &room, VIR_DOMAIN_SCHEDULER_CPU_SHARES, units);
    if (result == 0)
        result = virDomainSetSchedulerParametersFlags(domain, params, count, VIR_DOMAIN_AFFECT_LIVE);
    virTypedParamsFree(params, count);
    return result < 0 ? lv_fail(err, "CPU limits") : ATL_OK;
}

/* --- all at once ------------------------------------------------------------------------------------------
 */

static uint64_t parameter_number(const virTypedParameter *parameter)
{
    switch (parameter->type) {
    case VIR_TYPED_PARAM_INT:
        return parameter->value.i > 0 ? (uint64_t)parameter->value.i : 0;
    case VIR_TYPED_PARAM_UINT:
        return parameter->value.ui;
    case VIR_TYPED_PARAM_LLONG:
        return parameter->value.l > 0 ? (uint64_t)parameter->value.l : 0;
    case VIR_TYPED_PARAM_ULLONG:
        return parameter->value.ul;
    default:
        return 0;
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    size_t wanted = strlen(end);
    return length > wanted && strcmp(text + length - wanted, end) == 0;
}

static void sample_value(struct cmp_sample *sample, const char *field, uint64_t value)
{
    if (strcmp(field, "state.state") == 0)
        sample->state = from_libvirt((int)value);
    else if (strcmp(field, "cpu.time") == 0)
        sample->cpu_ns = value;
    else if (strcmp(field, "vcpu.current") == 0)
        sample->vcpus = (uint32_t)value;
    else if (strcmp(field, "balloon.maximum") == 0)
        sample->maxmem = value * 1024;
    else if (strcmp(field, "balloon.current") == 0)
        sample->balloon = value * 1024;
    else if (strcmp(field, "balloon.rss") == 0)
        sample->memhost = value * 1024;
    else if (strcmp(field, "balloon.usable") == 0)
        sample->free_mem = value * 1024;
    else if (strncmp(field, "block.", 6) == 0 && ends_with(field, ".rd.bytes"))
        sample->diskread += value;
    else if (strncmp(field, "block.", 6) == 0 && ends_with(field, ".wr.bytes"))
        sample->diskwrite += value;
    else if (strncmp(field, "net.", 4) == 0 && ends_with(field, ".rx.bytes"))
        sample->netout += value; /* received from the guest by the host's end */
    else if (strncmp(field, "net.", 4) == 0 && ends_with(field, ".tx.bytes"))
        sample->netin += value;
}

static int sample_order(const void *a, const void *b)
{
    const struct cmp_sample *left = a;
    const struct cmp_sample *right = b;
    return left->vmid < right->vmid ? -1 : left->vmid > right->vmid;
}

static void sample_domain(const virDomainStatsRecord *record, struct cmp_sample *sample)
{
    for (int i = 0; i < record->nparams; i++)
        sample_value(sample, record->params[i].field, parameter_number(&record->params[i]));
    if (sample->balloon > 0 && sample->free_mem > 0 && sample->free_mem < sample->balloon)
        sample->mem = sample->balloon - sample->free_mem;
}

static enum atl_code lv_sample(void *self, struct atl_arena *arena, struct cmp_sample **ret_samples,
                               size_t *ret_count, struct atl_error *err)
{
    struct lv *lv = self;
    virDomainStatsRecordPtr *records = NULL;
    unsigned int stats = VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_CPU_TOTAL | VIR_DOMAIN_STATS_BALLOON |
                         VIR_DOMAIN_STATS_VCPU | VIR_DOMAIN_STATS_INTERFACE | VIR_DOMAIN_STATS_BLOCK;
    int got = virConnectGetAllDomainStats(lv->connection, stats, &records,
                                          VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE |
                                              VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);
    if (got < 0) {
        (void)lv_fail(err, "cannot read the state of the guests");
        return ATL_E_UNAVAILABLE;
    }
    struct cmp_sample *samples = atl_arena_array(arena, struct cmp_sample, (size_t)got + 1);
    size_t count = 0;
    for (int i = 0; i < got; i++) {
        struct cmp_sample sample = {.vmid = cmp_domain_vmid(virDomainGetName(records[i]->dom))};
        sample_domain(records[i], &sample);
        if (sample.vmid != 0 && sample.state != CMP_STOPPED)
            samples[count++] = sample;
    }
    virDomainStatsRecordListFree(records);
    qsort(samples, count, sizeof *samples, sample_order);
    cmp_pids_fill(&lv->pids, samples, count);
    *ret_samples = samples;
    *ret_count = count;
    return ATL_OK;
}

static void lv_wait(void *self, int timeout_ms)
{
    struct lv *lv = self;
    int64_t end = cmp_now_ms() + timeout_ms;
    atomic_store(&lv->changed, false);
    while (!atomic_load(&lv->changed)) {
        int64_t left = end - cmp_now_ms();
        if (left <= 0 || virConnectIsAlive(lv->connection) != 1)
            return;
        virEventUpdateTimeout(lv->timer_id, (int)left);
        if (virEventRunDefaultImpl() < 0)
            return;
    }
}

const struct cmp_driver cmp_libvirt_driver = {
    .name = "libvirt",
    .open = lv_open,
    .close = lv_close,
    .state = lv_state,
    .start = lv_start,
    .stop = lv_stop,
    .abandon = lv_abandon,
    .shutdown = lv_shutdown,
    .reset = lv_reset,
    .suspend = lv_suspend,
    .resume = lv_resume,
    .agent = lv_agent,
    .monitor = lv_monitor,
    .domain = lv_domain,
    .qmp = lv_qmp,
    .resize = lv_resize,
    .device = lv_device,
    .cpu_limits = lv_cpu_limits,
    .sample = lv_sample,
    .wait = lv_wait,
};
