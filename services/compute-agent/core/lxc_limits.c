/* Memory, swap and processor limits of containers, for both versions of cgroups; the choice of CPUs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/lxc_build.h"

static int64_t mib_bytes(bool given, int64_t mib, int64_t fallback)
{
    static const int64_t most = INT64_C(1) << 40; /* MiB */
    int64_t value = given ? mib : fallback;
    value = value < 0 ? 0 : value;
    return (value > most ? most : value) << 20;
}

int64_t cmp_lxc_memory_bytes(const Atoll__Lxc__V1__Config *config)
{
    return mib_bytes(config->has_memory, config->memory, CMP_LXC_MEMORY_MIB);
}

int64_t cmp_lxc_swap_bytes(const Atoll__Lxc__V1__Config *config)
{
    return mib_bytes(config->has_swap, config->swap, CMP_LXC_SWAP_MIB);
}

uint32_t cmp_lxc_cpu_weight(const Atoll__Lxc__V1__Config *config, unsigned int cgroup_version)
{
    uint32_t low = cgroup_version == 2 ? 1 : 2;
    uint32_t high = cgroup_version == 2 ? 10000 : 262144;
    if (!config->has_cpuunits)
        return cgroup_version == 2 ? 100 : 1024;
    if (config->cpuunits < low)
        return low;
    return config->cpuunits > high ? high : (uint32_t)config->cpuunits;
}

char *cmp_lxc_cpu_list(const uint32_t *cpus, size_t count, struct atl_arena *arena)
{
    struct atl_buf text = {0};
    for (size_t i = 0; i < count;) {
        size_t last = i;
        while (last + 1 < count && cpus[last + 1] == cpus[last] + 1)
            last++;
        if (last == i)
            atl_buf_printf(&text, "%s%" PRIu32, i > 0 ? "," : "", cpus[i]);
        else
            atl_buf_printf(&text, "%s%" PRIu32 "-%" PRIu32, i > 0 ? "," : "", cpus[i], cpus[last]);
        i = last + 1;
    }
    char *list = atl_arena_strdup(arena, text.data != NULL ? text.data : "");
    atl_buf_done(&text);
    return list;
}

static int cpu_order(const void *a, const void *b)
{
    const uint32_t *left = a;
    const uint32_t *right = b;
    return *left < *right ? -1 : *left > *right;
}

size_t cmp_lxc_choose_cpus(uint32_t wanted, const uint32_t *load, uint32_t cpus, uint32_t *ret)
{
    if (wanted == 0 || wanted >= cpus)
        return 0;
    for (uint32_t n = 0; n < wanted; n++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t cpu = 0; cpu < cpus; cpu++) {
            bool taken = false;
            for (uint32_t i = 0; i < n; i++)
                taken = taken || ret[i] == cpu;
            if (!taken && (best == UINT32_MAX || load[cpu] < load[best]))
                best = cpu;
        }
        atl_assert(best != UINT32_MAX);
        ret[n] = best;
    }
    qsort(ret, wanted, sizeof(*ret), cpu_order);
    return wanted;
}

static void limit(struct cmp_lxc_limit *limits, size_t *count, struct cmp_lxc_limit value)
{
    atl_assert(*count < CMP_LXC_LIMITS_MAX);
    limits[(*count)++] = value;
}

static char *number(struct atl_arena *arena, int64_t value)
{
    return atl_arena_format(arena, "%" PRId64, value);
}

static void memory_limits(const Atoll__Lxc__V1__Config *config, const struct cmp_lxc_facts *facts,
                          struct atl_arena *arena, struct cmp_lxc_limit *limits, size_t *count)
{
    int64_t memory = cmp_lxc_memory_bytes(config);
    int64_t swap = cmp_lxc_swap_bytes(config);
    if (facts->cgroup_version == 2) {
        limit(limits, count, (struct cmp_lxc_limit){"memory", "memory.max", number(arena, memory)});
        if (facts->swap_accounting)
            limit(limits, count, (struct cmp_lxc_limit){"memory", "memory.swap.max", number(arena, swap)});
        return;
    }
    limit(limits, count, (struct cmp_lxc_limit){"memory", "memory.limit_in_bytes", number(arena, memory)});
    if (facts->swap_accounting) /* the sum, in this version */
        limit(limits, count,
              (struct cmp_lxc_limit){"memory", "memory.memsw.limit_in_bytes", number(arena, memory + swap)});
}

static void cpu_limits(const Atoll__Lxc__V1__Config *config, const struct cmp_lxc_facts *facts,
                       struct atl_arena *arena, struct cmp_lxc_limit *limits, size_t *count)
{
    double cores = config->has_cpulimit ? config->cpulimit : 0;
    cores = cores < CMP_CPU_LIMIT_MAX ? cores : CMP_CPU_LIMIT_MAX;
    int64_t quota = cores > 0 ? (int64_t)(cores * CMP_CPU_PERIOD_US + 0.5) : -1;
    if (quota >= 0 && quota < 1000)
        quota = 1000; /* the least that the kernel takes */
    uint32_t weight = cmp_lxc_cpu_weight(config, facts->cgroup_version);
    if (facts->cgroup_version == 2) {
        const char *max = quota > 0 ? atl_arena_format(arena, "%" PRId64 " %d", quota, CMP_CPU_PERIOD_US)
                                    : atl_arena_format(arena, "max %d", CMP_CPU_PERIOD_US);
        limit(limits, count, (struct cmp_lxc_limit){"cpu", "cpu.max", max});
        limit(limits, count, (struct cmp_lxc_limit){"cpu", "cpu.weight", number(arena, weight)});
        return;
    }
    limit(limits, count,
          (struct cmp_lxc_limit){"cpu", "cpu.cfs_period_us", number(arena, CMP_CPU_PERIOD_US)});
    limit(limits, count, (struct cmp_lxc_limit){"cpu", "cpu.cfs_quota_us", number(arena, quota)});
    limit(limits, count, (struct cmp_lxc_limit){"cpu", "cpu.shares", number(arena, weight)});
}

size_t cmp_lxc_limits(const Atoll__Lxc__V1__Config *config, const struct cmp_lxc_facts *facts,
                      struct atl_arena *arena, struct cmp_lxc_limit *limits)
{
    size_t count = 0;
    memory_limits(config, facts, arena, limits, &count);
    cpu_limits(config, facts, arena, limits, &count);
    if (facts->cpus != NULL && facts->cpu_count > 0)
        limit(limits, &count,
              (struct cmp_lxc_limit){"cpuset", "cpuset.cpus",
                                     cmp_lxc_cpu_list(facts->cpus, facts->cpu_count, arena)});
    return count;
}

void cmp_lxc_build_limits(struct cmp_lxc_build *build)
{
    struct cmp_lxc_limit limits[CMP_LXC_LIMITS_MAX];
    size_t count = cmp_lxc_limits(build->config, build->facts, build->arena, limits);
    const char *prefix = build->facts->cgroup_version == 2 ? "lxc.cgroup2" : "lxc.cgroup";
    for (size_t i = 0; i < count; i++)
        cmp_lxc_add(build, atl_arena_format(build->arena, "%s.%s", prefix, limits[i].file), limits[i].value);
}
