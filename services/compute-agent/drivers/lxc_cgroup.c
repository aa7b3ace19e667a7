/* Limits, use and freezing of containers: files of cgroups, both versions. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "drivers/lxc.h"

enum { FILE_BYTES = 65536, FREEZE_TRIES = 200 };

char *cmp_lxc_read(const char *path, struct atl_arena *arena)
{
    char text[FILE_BYTES];
    size_t have = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && have < sizeof text - 1) {
        ssize_t got = read(fd, text + have, sizeof text - 1 - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    if (fd >= 0)
        (void)close(fd); /* only read from */
    return atl_arena_strndup(arena, text, have);
}

bool cmp_lxc_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int why = errno;
    (void)close(fd); /* a kernel file: taken or refused by now */
    errno = why;
    return ok;
}

char *cmp_lxc_cgroup_path(const struct cmp_lxc_host *host, uint32_t vmid, const char *controller,
                          const char *file, struct atl_arena *arena)
{
    if (host->cgroup_version == 2)
        return atl_arena_format(arena, "/sys/fs/cgroup/%s/%" PRIu32 "/%s", host->cgroup_base, vmid, file);
    return atl_arena_format(arena, "/sys/fs/cgroup/%s/%s/%" PRIu32 "/%s", controller, host->cgroup_base, vmid,
                            file);
}

bool cmp_lxc_is_frozen(const struct cmp_lxc_host *host, uint32_t vmid)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    if (host->cgroup_version == 2)
        return cmp_ct_keyed(
                   cmp_lxc_read(cmp_lxc_cgroup_path(host, vmid, "", "cgroup.events", &arena), &arena),
                   "frozen") == 1;
    const char *state =
        cmp_lxc_read(cmp_lxc_cgroup_path(host, vmid, "freezer", "freezer.state", &arena), &arena);
    return strncmp(state, "FROZEN", 6) == 0 || strncmp(state, "FREEZING", 8) == 0;
}

enum atl_code cmp_lxc_freeze(const struct cmp_lxc_host *host, uint32_t vmid, bool frozen,
                             struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    bool second = host->cgroup_version == 2;
    const char *path =
        cmp_lxc_cgroup_path(host, vmid, "freezer", second ? "cgroup.freeze" : "freezer.state", &arena);
    const char *value = second ? (frozen ? "1" : "0") : (frozen ? "FROZEN" : "THAWED");
    if (!cmp_lxc_write(path, value))
        return atl_fail(err, ATL_E_STATE, NULL, "unable to %s CT %" PRIu32 ": %s", frozen ? "freeze" : "thaw",
                        vmid, strerror(errno));
    return ATL_OK;
}

/* A new memory limit above the sum's limit, or a sum below the memory limit, is refused: try both orders. */
enum atl_code cmp_lxc_limits_apply(const struct cmp_lxc_host *host, uint32_t vmid,
                                   const Atoll__Lxc__V1__Config *config, const struct cmp_lxc_facts *facts,
                                   struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_lxc_limit limits[CMP_LXC_LIMITS_MAX];
    bool done[CMP_LXC_LIMITS_MAX] = {false};
    size_t count = cmp_lxc_limits(config, facts, &arena, limits);
    int why = 0;
    size_t bad = 0;
    for (int round = 0; round < 2; round++) {
        bad = count;
        for (size_t i = 0; i < count; i++) {
            if (done[i])
                continue;
            const char *path = cmp_lxc_cgroup_path(host, vmid, limits[i].controller, limits[i].file, &arena);
            done[i] = cmp_lxc_write(path, limits[i].value);
            if (done[i])
                continue;
            why = errno;
            bad = i;
        }
        if (bad == count)
            return ATL_OK;
    }
    return atl_fail(err, ATL_E_STATE, NULL, "the kernel does not take %s = %s for CT %" PRIu32 ": %s",
                    limits[bad].file, limits[bad].value, vmid, strerror(why));
}

static uint64_t number_or_zero(const char *text)
{
    uint64_t value = cmp_ct_number(text);
    return value == UINT64_MAX ? 0 : value;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static void use_v1(const struct cmp_lxc_host *host, uint32_t vmid, struct atl_arena *arena,
                   struct cmp_lxc_use *use)
{
#define FILE_TEXT(controller, file)                                                                          \
    cmp_lxc_read(cmp_lxc_cgroup_path(host, vmid, controller, file, arena), arena)
    uint64_t usage = number_or_zero(FILE_TEXT("memory", "memory.usage_in_bytes"));
    uint64_t both = number_or_zero(FILE_TEXT("memory", "memory.memsw.usage_in_bytes"));
    uint64_t cache = cmp_ct_keyed(FILE_TEXT("memory", "memory.stat"), "total_inactive_file");
    use->memory_bytes = less(usage, cache);
    use->swap_bytes = less(both, usage);
    use->cpu_ns = number_or_zero(FILE_TEXT("cpuacct", "cpuacct.usage"));
    cmp_ct_io(FILE_TEXT("blkio", "blkio.throttle.io_service_bytes_recursive"), 1, &use->read_bytes,
              &use->written_bytes);
}

static void use_v2(const struct cmp_lxc_host *host, uint32_t vmid, struct atl_arena *arena,
                   struct cmp_lxc_use *use)
{
    uint64_t usage = number_or_zero(FILE_TEXT("", "memory.current"));
    use->memory_bytes = less(usage, cmp_ct_keyed(FILE_TEXT("", "memory.stat"), "inactive_file"));
    use->swap_bytes = number_or_zero(FILE_TEXT("", "memory.swap.current"));
    use->cpu_ns = cmp_ct_keyed(FILE_TEXT("", "cpu.stat"), "usage_usec") * 1000;
    cmp_ct_io(FILE_TEXT("", "io.stat"), 2, &use->read_bytes, &use->written_bytes);
    use->pressure_cpu_some = cmp_ct_pressure(FILE_TEXT("", "cpu.pressure"), "some");
    use->pressure_io_some = cmp_ct_pressure(FILE_TEXT("", "io.pressure"), "some");
    use->pressure_io_full = cmp_ct_pressure(FILE_TEXT("", "io.pressure"), "full");
    use->pressure_memory_some = cmp_ct_pressure(FILE_TEXT("", "memory.pressure"), "some");
    use->pressure_memory_full = cmp_ct_pressure(FILE_TEXT("", "memory.pressure"), "full");
#undef FILE_TEXT
}

void cmp_lxc_use(const struct cmp_lxc_host *host, uint32_t vmid, const struct cmp_ct_run *run,
                 const uint32_t *nets, size_t net_count, struct cmp_lxc_use *ret_use)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_lxc_use use = {0};
    if (host->cgroup_version == 2)
        use_v2(host, vmid, &arena, &use);
    else
        use_v1(host, vmid, &arena, &use);
    for (size_t i = 0; i < net_count; i++) { /* what the host's end receives is what the guest sends */
        const char *veth = cmp_lxc_veth(vmid, nets[i], &arena);
        use.net_out_bytes += number_or_zero(
            cmp_lxc_read(atl_arena_format(&arena, "/sys/class/net/%s/statistics/rx_bytes", veth), &arena));
        use.net_in_bytes += number_or_zero(
            cmp_lxc_read(atl_arena_format(&arena, "/sys/class/net/%s/statistics/tx_bytes", veth), &arena));
    }
    struct statvfs disk;
    if (statvfs(atl_arena_format(&arena, "/proc/%d/root", run->init), &disk) == 0) {
        use.disk_total_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
        use.disk_bytes = (uint64_t)(disk.f_blocks - disk.f_bfree) * disk.f_frsize;
    }
    struct timespec now;
    long ticks = sysconf(_SC_CLK_TCK);
    if (clock_gettime(CLOCK_BOOTTIME, &now) == 0 && ticks > 0)
        use.uptime_s = less((uint64_t)now.tv_sec, run->init_start / (uint64_t)ticks);
    *ret_use = use;
}

void cmp_lxc_cpu_load(const struct cmp_lxc_host *host, uint32_t vmid, uint32_t *load)
{
    DIR *folder = opendir(host->run_dir);
    if (folder == NULL)
        return;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
        uint32_t other = (uint32_t)cmp_ct_number(entry->d_name);
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || other == vmid)
            continue;
        uint32_t *bound = atl_arena_array(&arena, uint32_t, host->cpus);
        cmp_ct_cpu_list_count(
            cmp_lxc_read(cmp_lxc_cgroup_path(host, other, "cpuset", "cpuset.cpus", &arena), &arena), bound,
            host->cpus);
        uint32_t count = 0;
        for (uint32_t cpu = 0; cpu < host->cpus; cpu++)
            count += bound[cpu];
        for (uint32_t cpu = 0; count < host->cpus && cpu < host->cpus; cpu++)
            load[cpu] += bound[cpu];
    }
    (void)closedir(folder); /* only read from */
}
