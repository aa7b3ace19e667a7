/*
 * An engine of containers that runs nothing (drivers/fake_guests.h): its guests are files in RUN/lxc/fake/,
 * and those that --fake-containers makes up. Deterministic.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/lxc_volume.h"
#include "drivers/fake_guests.h"
#include "drivers/lxc_driver.h"
#include "io/loop.h"

enum { FAKE_FIRST = 200000 }; /* ids of made-up containers begin here */

static const uint64_t default_memory = UINT64_C(512) << 20;

static enum atl_code fake_open(const char *run_dir, bool agent, uint32_t fakes, struct cmp_lxc_host *ret_host,
                               struct atl_error *err)
{
    enum atl_code code = cmp_lxc_host_probe(run_dir, ret_host, err);
    if (code != ATL_OK)
        return code;
    ATL_FREE_AT_EXIT char *folder = atl_format("%s/fake", ret_host->run_dir);
    if (mkdir(ret_host->run_dir, 0711) != 0 && errno != EEXIST)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", ret_host->run_dir, strerror(errno));
    ret_host->fakes = atl_new0(struct cmp_fakes);
    return agent ? cmp_fakes_make(folder, FAKE_FIRST, fakes, ret_host->fakes, err)
                 : cmp_fakes_open(folder, ret_host->fakes, err);
}

static void fake_close(struct cmp_lxc_host *host)
{
    if (host->fakes != NULL)
        cmp_fakes_done(host->fakes);
    free(host->fakes);
    host->fakes = NULL;
}

static size_t fake_list(const struct cmp_lxc_host *host, struct atl_arena *arena, uint32_t **ret_ids)
{
    struct cmp_fake *guests = NULL;
    size_t count = 0;
    if (cmp_fakes_list(host->fakes, arena, &guests, &count, NULL) != ATL_OK)
        return 0;
    uint32_t *ids = atl_arena_array(arena, uint32_t, count + 1);
    for (size_t i = 0; i < count; i++)
        ids[i] = guests[i].vmid;
    *ret_ids = ids;
    return count;
}

static bool fake_running(const struct cmp_lxc_host *host, uint32_t vmid, struct cmp_ct_run *ret_run)
{
    struct cmp_fake guest = cmp_fakes_get(host->fakes, vmid);
    if (guest.state == CMP_STOPPED)
        return false;
    *ret_run =
        (struct cmp_ct_run){.init_start = (uint64_t)guest.started, .monitor_start = (uint64_t)guest.started};
    return true;
}

static enum atl_code fake_start(const struct cmp_lxc_host *host, uint32_t vmid,
                                const struct cmp_lxc_plan *plan, Atoll__Lxc__V1__StartSpec *spec,
                                struct atl_error *err)
{
    (void)plan;
    (void)spec;
    const struct cmp_fake guest = {
        .vmid = vmid, .state = CMP_RUNNING, .started = atl_clock_wall_seconds(), .memory = default_memory};
    enum atl_code code = cmp_fakes_fault(host->fakes, "start", vmid, err);
    return code == ATL_OK ? cmp_fakes_put(host->fakes, &guest, err) : code;
}

/* A deed on a guest that runs: faults first, then what the caller made of it is kept. */
static enum atl_code change(const struct cmp_lxc_host *host, const char *deed, const struct cmp_fake *guest,
                            struct atl_error *err)
{
    enum atl_code code = cmp_fakes_fault(host->fakes, deed, guest->vmid, err);
    return code == ATL_OK ? cmp_fakes_put(host->fakes, guest, err) : code;
}

static enum atl_code end(const struct cmp_lxc_host *host, const char *deed, uint32_t vmid,
                         struct atl_error *err)
{
    struct cmp_fake guest = cmp_fakes_get(host->fakes, vmid);
    if (guest.state == CMP_STOPPED)
        return ATL_OK; /* as wanted */
    guest.state = CMP_STOPPED;
    return change(host, deed, &guest, err);
}

static enum atl_code fake_stop(const struct cmp_lxc_host *host, uint32_t vmid, struct atl_error *err)
{
    return end(host, "stop", vmid, err);
}

static enum atl_code fake_shutdown(const struct cmp_lxc_host *host, uint32_t vmid, int halt_signal,
                                   atl_ns timeout, bool (*stopped)(void *), void *user, struct atl_error *err)
{
    (void)halt_signal;
    (void)timeout;
    (void)stopped;
    (void)user;
    return end(host, "shutdown", vmid, err);
}

static enum atl_code need_running(const struct cmp_fake *guest, struct atl_error *err)
{
    if (guest->state != CMP_STOPPED)
        return ATL_OK;
    return atl_fail(err, ATL_E_STATE, NULL, "CT %" PRIu32 " not running", guest->vmid);
}

static enum atl_code fake_freeze(const struct cmp_lxc_host *host, uint32_t vmid, bool frozen,
                                 struct atl_error *err)
{
    struct cmp_fake guest = cmp_fakes_get(host->fakes, vmid);
    enum atl_code code = need_running(&guest, err);
    guest.state = frozen ? CMP_PAUSED : CMP_RUNNING;
    return code == ATL_OK ? change(host, frozen ? "suspend" : "resume", &guest, err) : code;
}

static enum atl_code fake_limits(const struct cmp_lxc_host *host, uint32_t vmid,
                                 const Atoll__Lxc__V1__Config *config, const struct cmp_lxc_facts *facts,
                                 struct atl_error *err)
{
    (void)facts;
    struct cmp_fake guest = cmp_fakes_get(host->fakes, vmid);
    enum atl_code code = need_running(&guest, err);
    guest.memory = (uint64_t)cmp_lxc_memory_bytes(config);
    return code == ATL_OK ? change(host, "change", &guest, err) : code;
}

/* What is in the archive does not matter: a simulated guest has no files. */
static enum atl_code fake_unpack(const struct cmp_lxc_host *host, uint32_t vmid,
                                 Atoll__Lxc__V1__UnpackSpec *spec, char ret_ostype[CMP_LXC_OSTYPE],
                                 struct atl_error *err)
{
    (void)spec;
    (void)atl_copy(ret_ostype, CMP_LXC_OSTYPE, "unmanaged"); /* fits */
    return cmp_fakes_fault(host->fakes, "unpack", vmid, err);
}

static enum atl_code fake_grow(const struct cmp_lxc_host *host, uint32_t vmid, const char *slot,
                               const char *path, bool running, struct atl_error *err)
{
    (void)slot;
    (void)path;
    (void)running;
    return cmp_fakes_fault(host->fakes, "change", vmid, err);
}

static void fake_clean(const struct cmp_lxc_host *host, uint32_t vmid)
{
    (void)host;
    (void)vmid; /* a run leaves nothing */
}

static void fake_cpu_load(const struct cmp_lxc_host *host, uint32_t vmid, uint32_t *load)
{
    (void)host;
    (void)vmid;
    (void)load; /* it burdens no processor */
}

/* Numbers that differ from guest to guest and stay the same from run to run. */
static void fake_use(const struct cmp_lxc_host *host, uint32_t vmid, const struct cmp_ct_run *run,
                     const uint32_t *nets, size_t net_count, struct cmp_lxc_use *ret_use)
{
    (void)nets;
    struct cmp_fake guest = cmp_fakes_get(host->fakes, vmid);
    uint64_t memory = guest.memory != 0 ? guest.memory : default_memory;
    int64_t uptime = atl_clock_wall_seconds() - (int64_t)run->init_start;
    *ret_use = (struct cmp_lxc_use){.memory_bytes = memory / 2,
                                    .cpu_ns = (uint64_t)vmid * 1000000,
                                    .net_in_bytes = net_count * vmid,
                                    .net_out_bytes = net_count * vmid,
                                    .disk_bytes = (uint64_t)(vmid % 16) << 20,
                                    .disk_total_bytes = UINT64_C(1) << 30,
                                    .uptime_s = uptime > 0 ? (uint64_t)uptime : 0};
}

static enum atl_code fake_interfaces(const struct cmp_ct_run *run, struct atl_arena *arena,
                                     Atoll__Lxc__V1__GetInterfacesReply *reply, struct atl_error *err)
{
    (void)run;
    (void)arena;
    (void)reply;
    (void)err;
    return ATL_OK; /* none */
}

const struct cmp_lxc_driver cmp_lxc_fake_driver = {
    .name = "fake",
    .open = fake_open,
    .close = fake_close,
    .list = fake_list,
    .running = fake_running,
    .start = fake_start,
    .stop = fake_stop,
    .shutdown = fake_shutdown,
    .freeze = fake_freeze,
    .limits = fake_limits,
    .unpack = fake_unpack,
    .grow = fake_grow,
    .clean = fake_clean,
    .cpu_load = fake_cpu_load,
    .use = fake_use,
    .interfaces = fake_interfaces,
};
