/* Processor, features and clock of a domain. */
#include "core/domxml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Levels of the x86-64 psABI, which neither QEMU nor libvirt knows by these names. */
static const struct cpu_level {
    const char *name;
    const char *flags;
} cpu_levels[] = {
    {"x86-64-v2", "cx16,lahf_lm,pni,popcnt,sse4.1,sse4.2,ssse3"},
    {"x86-64-v2-AES", "aes,cx16,lahf_lm,pni,popcnt,sse4.1,sse4.2,ssse3"},
    {"x86-64-v3",
     "abm,aes,avx,avx2,bmi1,bmi2,cx16,f16c,fma,lahf_lm,movbe,pni,popcnt,sse4.1,sse4.2,ssse3,xsave"},
    {"x86-64-v4",
     "abm,aes,avx,avx2,avx512bw,avx512cd,avx512dq,avx512f,avx512vl,bmi1,bmi2,cx16,f16c,fma,lahf_lm,"
     "movbe,pni,popcnt,sse4.1,sse4.2,ssse3,xsave"},
};

static const struct cpu_level *cpu_level(const char *type)
{
    for (size_t i = 0; i < ATL_COUNT(cpu_levels); i++)
        if (strcmp(cpu_levels[i].name, type) == 0)
            return &cpu_levels[i];
    return NULL;
}

static void cpu_feature(struct cmp_xml *xml, const char *policy, const char *name, size_t length)
{
    char word[64];
    if (length == 0 || length >= sizeof word)
        return;
    memcpy(word, name, length);
    word[length] = '\0';
    if (strncmp(word, "hv-", 3) == 0) /* enlightenments stand among the features of the domain */
        return;
    cmp_xml_empty(xml, "feature", "policy", policy, "name", word, NULL);
}

static void cpu_flags(struct cmp_xml *xml, const char *flags)
{
    for (const char *at = flags; *at != '\0';) {
        size_t length = strcspn(at, ";, ");
        if (length > 1 && (at[0] == '+' || at[0] == '-'))
            cpu_feature(xml, at[0] == '+' ? "require" : "disable", at + 1, length - 1);
        at += length;
        at += strspn(at, ";, ");
    }
}

static void cpu_level_flags(struct cmp_xml *xml, const struct cpu_level *level)
{
    for (const char *at = level->flags; *at != '\0';) {
        size_t length = strcspn(at, ",");
        cpu_feature(xml, "require", at, length);
        at += length;
        at += strspn(at, ",");
    }
}

static void cpu_topology(const Atoll__Qemu__V1__Config *config, struct cmp_xml *xml)
{
    uint32_t max = cmp_vcpus_max(config);
    uint32_t cores =
        config->has_cores && config->cores > 0 && config->cores <= max ? (uint32_t)config->cores : 1;
    cmp_xml_begin(xml, "topology");
    cmp_xml_attr_uint(xml, "sockets", max / cores);
    cmp_xml_attr_uint(xml, "dies", 1);
    cmp_xml_attr_uint(xml, "cores", cores);
    cmp_xml_attr_uint(xml, "threads", 1);
    cmp_xml_end(xml);
}

/* "0-1;3" -> "0-1,3", as libvirt writes sets. */
static const char *cpu_set(const char *text, struct atl_arena *arena)
{
    char *out = atl_arena_strdup(arena, text);
    for (char *at = out; *at != '\0'; at++)
        if (*at == ';')
            *at = ',';
    return out;
}

static void numa_cell(struct cmp_xml *xml, uint64_t id, const char *cpus, uint64_t mib)
{
    cmp_xml_begin(xml, "cell");
    cmp_xml_attr_uint(xml, "id", id);
    cmp_xml_attr(xml, "cpus", cpus);
    cmp_xml_attr_uint(xml, "memory", mib);
    cmp_xml_attr(xml, "unit", "MiB");
    cmp_xml_end(xml);
}

static void cpu_numa(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    if (!config->has_numa || !config->numa)
        return;
    cmp_xml_begin(xml, "numa");
    uint64_t left = cmp_memory_mib(config);
    uint32_t max = cmp_vcpus_max(config);
    uint32_t cores =
        config->has_cores && config->cores > 0 && config->cores <= max ? (uint32_t)config->cores : 1;
    uint32_t sockets = max / cores;
    for (size_t i = 0; i < config->n_numa_node; i++) {
        const Atoll__Qemu__V1__Numa *cell = config->numa_node[i]->value;
        uint64_t mib = cell->has_memory && cell->memory >= 1 ? (uint64_t)cell->memory : 0;
        numa_cell(xml, i, cpu_set(cell->cpus != NULL ? cell->cpus : "0", guest->arena), mib);
    }
    for (uint32_t i = 0; config->n_numa_node == 0 && i < sockets; i++) {
        uint64_t share = left / (sockets - i);
        char cpus[32];
        (void)snprintf(cpus, sizeof cpus, "%u-%u", i * cores, i * cores + cores - 1);
        numa_cell(xml, i, cpus, share);
        left -= share;
    }
    cmp_xml_end(xml);
}

static void numa_tune(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    bool begun = false;
    for (size_t i = 0; config->numa && i < config->n_numa_node; i++) {
        const Atoll__Qemu__V1__Numa *cell = config->numa_node[i]->value;
        if (cell->hostnodes == NULL)
            continue;
        if (!begun)
            cmp_xml_begin(xml, "numatune");
        begun = true;
        const char *policy =
            cell->policy == NULL || strcmp(cell->policy, "bind") == 0 ? "strict" : cell->policy;
        cmp_xml_begin(xml, "memnode");
        cmp_xml_attr_uint(xml, "cellid", i);
        cmp_xml_attr(xml, "mode", policy);
        cmp_xml_attr(xml, "nodeset", cpu_set(cell->hostnodes, guest->arena));
        cmp_xml_end(xml);
    }
    if (begun)
        cmp_xml_end(xml);
}

void cmp_xml_cpu(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    const Atoll__Qemu__V1__Cpu *cpu = config->cpu;
    bool kvm = cmp_uses_kvm(config, guest->machine);
    const char *type = cpu != NULL && cpu->cputype != NULL ? cpu->cputype : "kvm64";
    const struct cpu_level *level = cpu_level(type);
    cmp_xml_begin(xml, "cpu");
    if (strcmp(type, "host") == 0 && kvm) {
        cmp_xml_attr(xml, "mode", "host-passthrough");
        cmp_xml_attr(xml, "check", "none");
        cmp_xml_attr(xml, "migratable", "on");
    } else if (strcmp(type, "host") == 0 || strcmp(type, "max") == 0) {
        cmp_xml_attr(xml, "mode", "maximum"); /* without KVM there is no host model to pass through */
        cmp_xml_attr(xml, "check", "none");
    } else {
        cmp_xml_attr(xml, "mode", "custom");
        cmp_xml_attr(xml, "match", "exact");
        cmp_xml_attr(xml, "check", "none");
        cmp_xml_element(xml, "model", level != NULL ? "qemu64" : type);
    }
    cpu_topology(config, xml);
    if (level != NULL)
        cpu_level_flags(xml, level);
    if (cpu != NULL && cpu->flags != NULL)
        cpu_flags(xml, cpu->flags);
    cpu_numa(guest, xml);
    cmp_xml_end(xml);
    numa_tune(guest, xml);
}

static bool cpu_has_flag(const Atoll__Qemu__V1__Cpu *cpu, const char *flag)
{
    return cpu != NULL && cpu->flags != NULL && strstr(cpu->flags, flag) != NULL;
}

/* Windows runs much better when it knows that it is a guest; only KVM has these. */
static void features_hyperv(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Cpu *cpu = guest->config->cpu;
    const char *os = guest->config->ostype;
    bool modern = strcmp(os, "win7") != 0 && strncmp(os, "win", 3) == 0;
    static const char *const basic[] = {"relaxed", "vapic"};
    static const char *const more[] = {"vpindex", "runtime", "synic", "stimer", "reset"};
    cmp_xml_begin(xml, "hyperv");
    cmp_xml_attr(xml, "mode", "custom");
    for (size_t i = 0; i < ATL_COUNT(basic); i++)
        cmp_xml_empty(xml, basic[i], "state", "on", NULL);
    cmp_xml_empty(xml, "spinlocks", "state", "on", "retries", "8191", NULL);
    for (size_t i = 0; modern && i < ATL_COUNT(more); i++)
        cmp_xml_empty(xml, more[i], "state", "on", NULL);
    if (cpu_has_flag(cpu, "+hv-tlbflush"))
        cmp_xml_empty(xml, "tlbflush", "state", "on", NULL);
    if (cpu_has_flag(cpu, "+hv-evmcs"))
        cmp_xml_empty(xml, "evmcs", "state", "on", NULL);
    if (cpu != NULL && cpu->hv_vendor_id != NULL)
        cmp_xml_empty(xml, "vendor_id", "state", "on", "value", cpu->hv_vendor_id, NULL);
    cmp_xml_end(xml);
}

void cmp_xml_features(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    bool kvm = cmp_uses_kvm(config, guest->machine);
    cmp_xml_begin(xml, "features");
    if (!config->has_acpi || config->acpi)
        cmp_xml_empty(xml, "acpi", NULL);
    cmp_xml_empty(xml, "apic", NULL);
    if (kvm && cmp_is_windows(config))
        features_hyperv(guest, xml);
    if (kvm && config->cpu != NULL && config->cpu->has_hidden && config->cpu->hidden) {
        cmp_xml_begin(xml, "kvm");
        cmp_xml_empty(xml, "hidden", "state", "on", NULL);
        cmp_xml_end(xml);
    }
    cmp_xml_end(xml);
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t days_since_epoch(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* "2026-11-20T14:48:15" -> seconds, as if it were UTC; false for "now" and anything else. */
static bool start_date(const char *text, int64_t *ret_seconds)
{
    int parts[6] = {0};
    if (text == NULL)
        return false;
    int got = sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4],
                     &parts[5]);
    if (got != 3 && got != 6)
        return false;
    if (parts[1] < 1 || parts[1] > 12 || parts[2] < 1 || parts[2] > 31)
        return false;
    *ret_seconds =
        days_since_epoch(parts[0], parts[1], parts[2]) * 86400 + parts[3] * 3600 + parts[4] * 60 + parts[5];
    return *ret_seconds >= 0;
}

void cmp_xml_clock(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    bool windows = cmp_is_windows(config);
    bool local = config->has_localtime ? config->localtime : windows;
    int64_t seconds = 0;
    cmp_xml_begin(xml, "clock");
    if (start_date(config->startdate, &seconds)) {
        cmp_xml_attr(xml, "offset", "absolute");
        cmp_xml_attr_uint(xml, "start", (uint64_t)seconds);
    } else {
        cmp_xml_attr(xml, "offset", local ? "localtime" : "utc");
    }
    if (windows || (config->has_tdf && config->tdf))
        cmp_xml_empty(xml, "timer", "name", "rtc", "tickpolicy", "catchup", NULL);
    if (windows)
        cmp_xml_empty(xml, "timer", "name", "hpet", "present", "no", NULL);
    if (windows && cmp_uses_kvm(config, guest->machine))
        cmp_xml_empty(xml, "timer", "name", "hypervclock", "present", "yes", NULL);
    cmp_xml_end(xml);
}
