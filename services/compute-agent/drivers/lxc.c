/* Starting, finding and ending containers. */
#include "drivers/lxc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/process.h"
#include "pure/buf.h"

enum { START_LIMIT_S = 120, UNPACK_LIMIT_S = 3600, STOP_LIMIT_S = 60, GROW_LIMIT_S = 3600, POLL_MS = 100 };

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* nothing was written through it */
}

/* --- the machine
 * ------------------------------------------------------------------------------------------------ */

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Beside this program when it is run where it was built, else where it is installed. */
static void find_helpers(char *folder, size_t size)
{
    char self[256];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    (void)snprintf(folder, size, "/usr/libexec/atoll");
    if (length <= 0)
        return;
    self[length] = '\0';
    char *slash = strrchr(self, '/');
    if (slash == NULL)
        return;
    *slash = '\0';
    ATL_FREE_AT_EXIT char *beside = atl_format("%s/atoll-lxc-start", self);
    if (exists(beside))
        (void)atl_copy(folder, size, self); /* as long as it was read */
}

enum atl_code cmp_lxc_host_probe(const char *run_dir, struct cmp_lxc_host *ret_host, struct atl_error *err)
{
    struct cmp_lxc_host host = {0};
    struct statfs info;
    if (statfs("/sys/fs/cgroup", &info) != 0)
        return atl_fail(err, ATL_E_STATE, NULL, "this machine has no cgroups: %s", strerror(errno));
    host.cgroup_version = info.f_type == CGROUP2_SUPER_MAGIC ? 2 : 1;
    host.swap_accounting = host.cgroup_version == 2
                               ? exists("/proc/swaps")
                               : exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
    host.apparmor = exists("/sys/kernel/security/apparmor/profiles");
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    host.cpus = cpus > 0 && cpus <= CMP_LXC_CPUS_MAX ? (uint32_t)cpus : 1;
    if ((size_t)snprintf(host.run_dir, sizeof host.run_dir, "%s/lxc", run_dir) >= sizeof host.run_dir)
        return atl_fail(err, ATL_E_INVALID, "run-dir", "the path is too long");
    uint32_t hash = 2166136261U; /* FNV-1a: two agents of one machine (tests) do not share folders */
    for (const char *at = run_dir; *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * 16777619U;
    if (strcmp(run_dir, "/run/atoll") == 0)
        (void)snprintf(host.cgroup_base, sizeof host.cgroup_base, "atoll");
    else
        (void)snprintf(host.cgroup_base, sizeof host.cgroup_base, "atoll-%08" PRIx32, hash);
    find_helpers(host.helper_dir, sizeof host.helper_dir);
    *ret_host = host;
    return ATL_OK;
}

char *cmp_lxc_folder(const struct cmp_lxc_host *host, uint32_t vmid, struct atl_arena *arena)
{
    return atl_arena_format(arena, "%s/%" PRIu32, host->run_dir, vmid);
}

/* --- files of a start
 * ------------------------------------------------------------------------------------------- */

static enum atl_code write_new(const char *path, const void *bytes, size_t size, struct atl_error *err)
{
    (void)unlink(path); /* of the last run */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, bytes, size) == (ssize_t)size;
    ok = (fd < 0 || close(fd) == 0) && ok;
    if (!ok)
        return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(errno));
    return ATL_OK;
}

/* The container's root looks these folders up with its own ids, so they may be passed through. */
static enum atl_code make_folder(const struct cmp_lxc_host *host, const char *folder, struct atl_error *err)
{
    if ((mkdir(host->run_dir, 0711) != 0 && errno != EEXIST) ||
        (mkdir(folder, 0711) != 0 && errno != EEXIST) || chmod(host->run_dir, 0711) != 0 ||
        chmod(folder, 0711) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", folder, strerror(errno));
    return ATL_OK;
}

/* The last line a helper wrote; lines with a level in front are remarks. */
static const char *last_words(struct atl_buf *errors)
{
    const char *last = NULL;
    char *rest = errors->data;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n"))
        if (line[0] != '\0' && line[0] != '<')
            last = line;
    return last;
}

static enum atl_code run_helper(const struct cmp_lxc_host *host, const char *name, const char *order,
                                int limit_s, struct atl_buf *output, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf errors = {0};
    ATL_FREE_AT_EXIT char *program = atl_format("%s/%s", host->helper_dir, name);
    const char *const argv[] = {program, order, NULL};
    const struct atl_process_options options = {
        .argv = argv, .capture = 65536, .timeout = limit_s * ATL_SECOND};
    enum atl_code code = atl_process_run(&options, output, &errors, err);
    const char *words = code == ATL_E_STATE ? last_words(&errors) : NULL;
    return words != NULL ? atl_fail(err, code, NULL, "%s", words) : code;
}

void cmp_lxc_start_fill(const struct cmp_lxc_host *host, uint32_t vmid, struct atl_arena *arena,
                        Atoll__Lxc__V1__StartSpec *spec)
{
    spec->name = atl_arena_format(arena, "%" PRIu32, vmid);
    spec->lxc_path = atl_arena_strdup(arena, host->run_dir);
    spec->folder = cmp_lxc_folder(host, vmid, arena);
    spec->cgroup = atl_arena_array(arena, char *, 2);
    spec->cgroup[0] = atl_arena_format(arena, "%s/%" PRIu32, host->cgroup_base, vmid);
    spec->cgroup[1] = atl_arena_format(arena, "%s/monitor-%" PRIu32, host->cgroup_base, vmid);
    spec->n_cgroup = 2;
}

enum atl_code cmp_lxc_start_files(const struct cmp_lxc_host *host, uint32_t vmid,
                                  const struct cmp_lxc_texts *texts, struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    char *folder = cmp_lxc_folder(host, vmid, &arena);
    enum atl_code code = make_folder(host, folder, err);
    if (code == ATL_OK)
        code =
            write_new(atl_arena_format(&arena, "%s/config", folder), texts->config, texts->config_size, err);
    if (code == ATL_OK)
        code = write_new(atl_arena_format(&arena, "%s/seccomp", folder), texts->seccomp, texts->seccomp_size,
                         err);
    return code;
}

enum atl_code cmp_lxc_start_wait(const struct cmp_lxc_host *host, uint32_t vmid,
                                 const struct cmp_lxc_plan *plan, Atoll__Lxc__V1__StartSpec *spec,
                                 struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    ATL_BUF_AT_EXIT struct atl_buf config = {0};
    Atoll__Lxc__V1__StartSpec filled = *spec;
    cmp_lxc_start_fill(host, vmid, &arena, &filled);
    size_t size = atoll__lxc__v1__start_spec__get_packed_size(&filled);
    uint8_t *packed = atl_arena_alloc(&arena, size);
    (void)atoll__lxc__v1__start_spec__pack(&filled, packed); /* fills exactly that size */
    cmp_lxc_plan_text(plan, &config);
    const struct cmp_lxc_texts texts = {.config = config.data,
                                        .config_size = config.length,
                                        .seccomp = plan->seccomp,
                                        .seccomp_size = strlen(plan->seccomp)};
    const char *order = atl_arena_format(&arena, "%s/order", filled.folder);
    enum atl_code code = cmp_lxc_start_files(host, vmid, &texts, err);
    if (code == ATL_OK)
        code = write_new(order, packed, size, err);
    if (code == ATL_OK)
        code = run_helper(host, "atoll-lxc-start", order, START_LIMIT_S, NULL, err);
    (void)unlink(order); /* gone already when it was never written */
    return code;
}

enum atl_code cmp_lxc_unpack_wait(const struct cmp_lxc_host *host, uint32_t vmid,
                                  Atoll__Lxc__V1__UnpackSpec *spec, char ret_ostype[CMP_LXC_OSTYPE],
                                  struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf output = {0};
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    char *folder = cmp_lxc_folder(host, vmid, &arena);
    spec->folder = folder;
    size_t size = atoll__lxc__v1__unpack_spec__get_packed_size(spec);
    uint8_t *packed = atl_arena_alloc(&arena, size);
    (void)atoll__lxc__v1__unpack_spec__pack(spec, packed); /* fills exactly that size */
    spec->folder = NULL;
    const char *order = atl_arena_format(&arena, "%s/order", folder);
    enum atl_code code = make_folder(host, folder, err);
    if (code == ATL_OK)
        code = write_new(order, packed, size, err);
    if (code == ATL_OK)
        code = run_helper(host, "atoll-lxc-unpack", order, UNPACK_LIMIT_S, &output, err);
    (void)unlink(order); /* holds a password's hash */
    const char *line = output.data != NULL ? strstr(output.data, "ostype ") : NULL;
    if (code == ATL_OK && (line == NULL || sscanf(line, "ostype %15s", ret_ostype) != 1))
        code = atl_fail(err, ATL_E_INTERNAL, NULL, "the template was unpacked, but its kind is not known");
    return code;
}

/* --- what runs
 * -------------------------------------------------------------------------------------------------- */

/* The container rebooted: the monitor has another child now. */
static bool find_init(struct cmp_ct_run *run)
{
    char path[64];
    char text[256] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", run->monitor, run->monitor);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t got = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file); /* only read from */
    text[got] = '\0';
    int init = (int)strtol(text, NULL, 10);
    uint64_t started = init > 1 ? atl_process_started(init) : 0;
    if (started == 0)
        return false;
    run->init = init;
    run->init_start = started;
    return true;
}

bool cmp_lxc_running(const struct cmp_lxc_host *host, uint32_t vmid, struct cmp_ct_run *ret_run)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_ct_run run;
    const char *path = atl_arena_format(&arena, "%s/%" PRIu32 "/run", host->run_dir, vmid);
    const char *text = cmp_lxc_read(path, &arena);
    if (text[0] == '\0')
        return false;
    if (!cmp_ct_run_from_text(text, &run) || atl_process_started(run.monitor) != run.monitor_start) {
        (void)unlink(path); /* of a run that has ended */
        return false;
    }
    if (atl_process_started(run.init) != run.init_start && !find_init(&run))
        return false; /* ending, or between two inits */
    *ret_run = run;
    return true;
}

/* --- ending
 * ----------------------------------------------------------------------------------------------------- */

static int process_fd(pid_t pid, uint64_t started)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0 && atl_process_started(pid) == started)
        return fd;
    if (fd >= 0)
        (void)close(fd); /* another process of that number */
    return -1;
}

/* Waits until the process behind fd has ended. */
static bool wait_end(int fd, atl_ns deadline, bool (*stopped)(void *), void *user)
{
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        atl_ns left = deadline - atl_clock_monotonic();
        int wait_ms = left <= 0 ? 0 : (int)(left / ATL_MS < POLL_MS ? left / ATL_MS + 1 : POLL_MS);
        if (poll(&poll_fd, 1, wait_ms) > 0)
            return true;
        if (left <= 0 || (stopped != NULL && stopped(user)))
            return false;
    }
}

enum atl_code cmp_lxc_stop_wait(const struct cmp_lxc_host *host, uint32_t vmid, struct atl_error *err)
{
    struct cmp_ct_run run;
    if (!cmp_lxc_running(host, vmid, &run))
        return ATL_OK;
    ATL_CLEANUP(close_fd) int monitor = process_fd(run.monitor, run.monitor_start);
    ATL_CLEANUP(close_fd) int init = process_fd(run.init, run.init_start);
    if (init >= 0)
        (void)syscall(SYS_pidfd_send_signal, init, SIGKILL, NULL, 0); /* ended meanwhile: as wanted */
    if (cmp_lxc_is_frozen(host, vmid)) {
        enum atl_code code = cmp_lxc_freeze(host, vmid, false, err); /* the frozen do not even die */
        if (code != ATL_OK)
            return code;
    }
    if (monitor >= 0 && !wait_end(monitor, atl_clock_monotonic() + STOP_LIMIT_S * ATL_SECOND, NULL, NULL))
        return atl_fail(err, ATL_E_DEADLINE, NULL, "CT %" PRIu32 " did not end within %d s of being killed",
                        vmid, STOP_LIMIT_S);
    cmp_lxc_clean(host, vmid);
    return ATL_OK;
}

enum atl_code cmp_lxc_shutdown_wait(const struct cmp_lxc_host *host, uint32_t vmid, int halt_signal,
                                    atl_ns timeout, bool (*stopped)(void *), void *user,
                                    struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_ct_run run;
    if (!cmp_lxc_running(host, vmid, &run))
        return ATL_OK;
    ATL_CLEANUP(close_fd) int monitor = process_fd(run.monitor, run.monitor_start);
    ATL_CLEANUP(close_fd) int init = process_fd(run.init, run.init_start);
    if (halt_signal == 0)
        halt_signal = cmp_ct_halt_signal(
            cmp_lxc_read(atl_arena_format(&arena, "/proc/%d/status", run.init), &arena), SIGRTMIN);
    if (init >= 0)
        (void)syscall(SYS_pidfd_send_signal, init, halt_signal, NULL, 0); /* ended meanwhile: as wanted */
    if (cmp_lxc_is_frozen(host, vmid)) {
        enum atl_code code = cmp_lxc_freeze(host, vmid, false, err);
        if (code != ATL_OK)
            return code;
    }
    if (monitor >= 0 && !wait_end(monitor, atl_clock_monotonic() + timeout, stopped, user))
        return atl_fail(err, ATL_E_DEADLINE, NULL, "CT %" PRIu32 " did not shut down in time - got timeout",
                        vmid);
    cmp_lxc_clean(host, vmid);
    return ATL_OK;
}

/* --- leftovers
 * -------------------------------------------------------------------------------------------------- */

static void remove_cgroup(const char *hierarchy, const char *base, const char *name)
{
    static const char *const below[] = {"/ns", ""};
    for (size_t i = 0; i < ATL_COUNT(below); i++) {
        ATL_FREE_AT_EXIT char *path = atl_format(
            "/sys/fs/cgroup%s%s/%s/%s%s", hierarchy[0] != '\0' ? "/" : "", hierarchy, base, name, below[i]);
        (void)rmdir(path); /* not there, or busy: the next start tries again */
    }
}

void cmp_lxc_clean(const struct cmp_lxc_host *host, uint32_t vmid)
{
    static const char *const first[] = {"cpu",     "cpuacct",    "cpuset",   "memory",     "devices",
                                        "freezer", "blkio",      "pids",     "systemd",    "unified",
                                        "hugetlb", "net_cls",    "net_prio", "perf_event", "rdma",
                                        "misc",    "cpu,cpuacct"};
    static const char *const second[] = {""};
    static const char *const files[] = {"run", "config", "seccomp", "order", "log"};
    const char *const *hierarchies = host->cgroup_version == 2 ? second : first;
    size_t count = host->cgroup_version == 2 ? ATL_COUNT(second) : ATL_COUNT(first);
    ATL_FREE_AT_EXIT char *guest = atl_format("%" PRIu32, vmid);
    ATL_FREE_AT_EXIT char *monitor = atl_format("monitor-%" PRIu32, vmid);
    for (size_t i = 0; i < count; i++) {
        remove_cgroup(hierarchies[i], host->cgroup_base, guest);
        remove_cgroup(hierarchies[i], host->cgroup_base, monitor);
    }
    for (size_t i = 0; i < ATL_COUNT(files); i++) {
        ATL_FREE_AT_EXIT char *path = atl_format("%s/%" PRIu32 "/%s", host->run_dir, vmid, files[i]);
        (void)unlink(path); /* not there: as wanted */
    }
    ATL_FREE_AT_EXIT char *root = atl_format("%s/%" PRIu32 "/rootfs", host->run_dir, vmid);
    (void)rmdir(root); /* the mount's place: empty on the host */
    for (unsigned int i = 0; i < 256; i++) {
        ATL_FREE_AT_EXIT char *slot = atl_format("%s/%" PRIu32 "/mp%u", host->run_dir, vmid, i);
        if (rmdir(slot) != 0 && errno == ENOTDIR)
            break;
    }
    ATL_FREE_AT_EXIT char *folder = atl_format("%s/%" PRIu32, host->run_dir, vmid);
    (void)rmdir(folder); /* something unknown in it: stays */
}
