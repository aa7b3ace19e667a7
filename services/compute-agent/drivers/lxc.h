/*
 * Containers as the kernel and liblxc know them.
 *
 * What runs is told by kernel objects alone: the monitor and the init are processes that are watched by their
 * descriptors, limits and use are files of cgroups, addresses come from the network namespace. liblxc is
 * needed to start only, and there by a program of its own (atoll-lxc-start). So nothing here can hang in a
 * library, and an agent that comes back finds all that runs in RUN/lxc/ID/run.
 */
#ifndef CMP_DRIVERS_LXC_H
#define CMP_DRIVERS_LXC_H

#include "atoll/lxc/v1/helper.pb-c.h"
#include "atoll/lxc/v1/lxc.pb-c.h"
#include "core/ct_stat.h"
#include "core/lxc_config.h"

enum { CMP_LXC_CPUS_MAX = 1024 };

struct cmp_fakes;

/* What this machine is like; probed once. */
struct cmp_lxc_host {
    unsigned int cgroup_version;
    bool swap_accounting;
    bool apparmor;
    uint32_t cpus;
    char cgroup_base[64];    /* "atoll", or with a number of the run folder when that is not the usual one */
    char run_dir[256];       /* RUN/lxc */
    char helper_dir[256];    /* where atoll-lxc-start lies */
    struct cmp_fakes *fakes; /* of the fake driver; else NULL */
};

/* run_dir: RUN. Errors: ATL_E_STATE no cgroups. */
ATL_MUST_CHECK enum atl_code cmp_lxc_host_probe(const char *run_dir, struct cmp_lxc_host *ret_host,
                                                struct atl_error *err);

/*
 * One worker per container on this machine. The lock is a descriptor: it ends with its holder.
 * stopped may be NULL: asked while waiting whether to give up. Waits 10 s.
 * Errors: ATL_E_CONFLICT in the words clients know; ATL_E_IO.
 */
ATL_MUST_CHECK enum atl_code cmp_lxc_lock(const struct cmp_lxc_host *host, uint32_t vmid,
                                          bool (*stopped)(void *), void *user, int *ret_fd,
                                          struct atl_error *err);

/* RUN/lxc/ID in the arena. */
char *cmp_lxc_folder(const struct cmp_lxc_host *host, uint32_t vmid, struct atl_arena *arena);

/* --- starting and ending: block, for task workers
 * ------------------------------------------------------------ */

/* Gets each line a helper says on stderr, and its last line on failure as the error. */
typedef void cmp_lxc_say_fn(const char *line, void *user);

/* Fills in what the driver knows of a start: name, folders, leftovers to look for. */
void cmp_lxc_start_fill(const struct cmp_lxc_host *host, uint32_t vmid, struct atl_arena *arena,
                        Atoll__Lxc__V1__StartSpec *spec);

struct cmp_lxc_texts {
    const void *config; /* settings for liblxc */
    size_t config_size;
    const void *seccomp;
    size_t seccomp_size;
};
/* Writes RUN/lxc/ID/config and seccomp. */
ATL_MUST_CHECK enum atl_code cmp_lxc_start_files(const struct cmp_lxc_host *host, uint32_t vmid,
                                                 const struct cmp_lxc_texts *texts, struct atl_error *err);

/*
 * Writes the files of a start (RUN/lxc/ID/config, seccomp, order), runs atoll-lxc-start and waits for it.
 * spec's folder, lxc_path, name and cgroup are filled in here. Errors: ATL_E_STATE with liblxc's reason.
 */
ATL_MUST_CHECK enum atl_code cmp_lxc_start_wait(const struct cmp_lxc_host *host, uint32_t vmid,
                                                const struct cmp_lxc_plan *plan,
                                                Atoll__Lxc__V1__StartSpec *spec, struct atl_error *err);

enum { CMP_LXC_OSTYPE = 16 };
/* Runs atoll-lxc-unpack. An empty ostype in the setup is found out and answered. Errors: its own. */
ATL_MUST_CHECK enum atl_code cmp_lxc_unpack_wait(const struct cmp_lxc_host *host, uint32_t vmid,
                                                 Atoll__Lxc__V1__UnpackSpec *spec,
                                                 char ret_ostype[CMP_LXC_OSTYPE], struct atl_error *err);

/* What runs under that id. False: nothing does. A file of a run that has ended is removed. */
bool cmp_lxc_running(const struct cmp_lxc_host *host, uint32_t vmid, struct cmp_ct_run *ret_run);

/* Kills the container and waits until its monitor has cleaned up. Success when it does not run. */
ATL_MUST_CHECK enum atl_code cmp_lxc_stop_wait(const struct cmp_lxc_host *host, uint32_t vmid,
                                               struct atl_error *err);

/*
 * Asks the init to power off and waits. halt_signal 0: the one this init understands.
 * stopped may be NULL: asked every 100 ms whether to give up. Errors: ATL_E_DEADLINE it still runs.
 */
ATL_MUST_CHECK enum atl_code cmp_lxc_shutdown_wait(const struct cmp_lxc_host *host, uint32_t vmid,
                                                   int halt_signal, atl_ns timeout, bool (*stopped)(void *),
                                                   void *user, struct atl_error *err);

/* Removes what a run leaves: folders of cgroups, RUN/lxc/ID. Only while it does not run. */
void cmp_lxc_clean(const struct cmp_lxc_host *host, uint32_t vmid);

/* Grows the file system on a volume. running: in place, inside the monitor's mounts (slot names the mount).
 */
ATL_MUST_CHECK enum atl_code cmp_lxc_grow_wait(const struct cmp_lxc_host *host, uint32_t vmid,
                                               const char *slot, const char *path, bool running,
                                               struct atl_error *err);

/* --- quick: for the loop too
 * ----------------------------------------------------------------------------------- */

ATL_MUST_CHECK enum atl_code cmp_lxc_freeze(const struct cmp_lxc_host *host, uint32_t vmid, bool frozen,
                                            struct atl_error *err);
bool cmp_lxc_is_frozen(const struct cmp_lxc_host *host, uint32_t vmid);

/* Sets the limits of a running container. Errors: ATL_E_STATE the kernel refused, names the file. */
ATL_MUST_CHECK enum atl_code cmp_lxc_limits_apply(const struct cmp_lxc_host *host, uint32_t vmid,
                                                  const Atoll__Lxc__V1__Config *config,
                                                  const struct cmp_lxc_facts *facts, struct atl_error *err);

/* How many running containers (but vmid) are bound to each CPU; load has host->cpus places, zeroed. Those
 * that may use all CPUs are not counted. */
void cmp_lxc_cpu_load(const struct cmp_lxc_host *host, uint32_t vmid, uint32_t *load);

struct cmp_lxc_use {
    uint64_t memory_bytes;
    uint64_t swap_bytes;
    uint64_t cpu_ns;
    uint64_t read_bytes;
    uint64_t written_bytes;
    uint64_t net_in_bytes; /* as the guest counts */
    uint64_t net_out_bytes;
    uint64_t disk_bytes; /* used on the root file system */
    uint64_t disk_total_bytes;
    uint64_t uptime_s;
    double pressure_cpu_some;
    double pressure_io_some;
    double pressure_io_full;
    double pressure_memory_some;
    double pressure_memory_full;
};
/* nets: indexes of net[n]. */
void cmp_lxc_use(const struct cmp_lxc_host *host, uint32_t vmid, const struct cmp_ct_run *run,
                 const uint32_t *nets, size_t net_count, struct cmp_lxc_use *ret_use);

/* The addresses inside, from the kernel. Errors: ATL_E_STATE it does not run. */
ATL_MUST_CHECK enum atl_code cmp_lxc_interfaces(const struct cmp_ct_run *run, struct atl_arena *arena,
                                                Atoll__Lxc__V1__GetInterfacesReply *reply,
                                                struct atl_error *err);

/* --- for drivers/lxc_*.c
 * ---------------------------------------------------------------------------------------- */

/* "/sys/fs/cgroup/memory/atoll/101/FILE" in the arena; NULL when the controller is not there. */
char *cmp_lxc_cgroup_path(const struct cmp_lxc_host *host, uint32_t vmid, const char *controller,
                          const char *file, struct atl_arena *arena);
/* The text of a small file, or "". */
char *cmp_lxc_read(const char *path, struct atl_arena *arena);
bool cmp_lxc_write(const char *path, const char *text);

#endif
