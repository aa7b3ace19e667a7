/* The node's own facts, read from the text of kernel files. */
#include "core/ct_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOCKETS_MAX = 64 };

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');
    return end != NULL ? end + 1 : line + strlen(line);
}

/* The value of `name<blanks>: value` in this line, or NULL. */
static const char *value_of(const char *line, const char *name)
{
    size_t length = strlen(name);
    if (strncmp(line, name, length) != 0)
        return NULL;
    const char *at = line + length + strspn(line + length, " \t");
    if (*at != ':')
        return NULL;
    return at + 1 + strspn(at + 1, " \t");
}

static void take(const char *line, const char *name, struct atl_arena *arena, const char **ret)
{
    const char *value = value_of(line, name);
    if (value != NULL && *ret == NULL)
        *ret = atl_arena_strndup(arena, value, strcspn(value, "\n"));
}

void cmp_node_cpuinfo(const char *text, struct atl_arena *arena, struct cmp_node_cpu *ret_cpu)
{
    struct cmp_node_cpu cpu = {0};
    unsigned long seen[SOCKETS_MAX];
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        const char *socket = value_of(line, "physical id");
        const char *cores = value_of(line, "cpu cores");
        cpu.cpus += value_of(line, "processor") != NULL;
        take(line, "model name", arena, &cpu.model);
        take(line, "cpu MHz", arena, &cpu.mhz);
        take(line, "flags", arena, &cpu.flags);
        if (cores != NULL)
            cpu.cores = (uint32_t)strtoul(cores, NULL, 10);
        if (socket == NULL)
            continue;
        unsigned long id = strtoul(socket, NULL, 10);
        bool known = false;
        for (uint32_t i = 0; i < cpu.sockets; i++)
            known = known || seen[i] == id;
        if (!known && cpu.sockets < SOCKETS_MAX)
            seen[cpu.sockets++] = id;
    }
    cpu.cpus = cpu.cpus > 0 ? cpu.cpus : 1;
    cpu.sockets = cpu.sockets > 0 ? cpu.sockets : 1;
    cpu.cores = cpu.cores > 0 ? cpu.cores : cpu.cpus / cpu.sockets;
    cpu.model = cpu.model != NULL ? cpu.model : "unknown";
    cpu.mhz = cpu.mhz != NULL ? cpu.mhz : "0";
    cpu.flags = cpu.flags != NULL ? cpu.flags : "";
    const char *padded = atl_arena_format(arena, " %s ", cpu.flags);
    cpu.hvm = strstr(padded, " vmx ") != NULL || strstr(padded, " svm ") != NULL;
    *ret_cpu = cpu;
}

void cmp_node_ticks(const char *text, struct cmp_node_ticks *ret_ticks)
{
    struct cmp_node_ticks ticks = {0};
    unsigned long long part[8] = {0}; /* user nice system idle iowait irq softirq steal */
    int got = sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &part[0], &part[1], &part[2],
                     &part[3], &part[4], &part[5], &part[6], &part[7]);
    for (int i = 0; i < got; i++) {
        ticks.total += part[i];
        ticks.busy += i == 3 || i == 4 ? 0 : part[i];
    }
    ticks.wait = part[4];
    *ret_ticks = ticks;
}

double cmp_node_pressure(const char *text)
{
    static const char some[] = "some ";
    static const char key[] = " avg60=";
    const char *at = text != NULL && strncmp(text, some, sizeof some - 1) == 0 ? strstr(text, key) : NULL;
    if (at == NULL || at > text + strcspn(text, "\n"))
        return -1;
    char *end = NULL;
    double percent = strtod(at + sizeof key - 1, &end);
    return *end == ' ' && percent >= 0 && percent <= 100 ? percent / 100 : -1;
}

uint64_t cmp_node_meminfo(const char *text, const char *name)
{
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        const char *value = value_of(line, name);
        if (value != NULL)
            return strtoull(value, NULL, 10) * 1024;
    }
    return 0;
}

void cmp_node_loadavg(const char *text, struct atl_arena *arena, char *ret_loads[3])
{
    for (int i = 0; i < 3; i++) {
        size_t length = strspn(text, "0123456789.");
        ret_loads[i] = length > 0 ? atl_arena_strndup(arena, text, length) : atl_arena_strdup(arena, "0.00");
        text += length;
        text += *text == ' ' ? 1 : 0;
    }
}

void cmp_node_resolver(const char *text, struct atl_arena *arena, struct cmp_node_resolver *ret_resolver)
{
    struct cmp_node_resolver resolver = {0};
    size_t count = 0;
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        size_t word = strcspn(line, " \t\n");
        const char *value = line + word + strspn(line + word, " \t");
        size_t length = strcspn(value, " \t\r\n#");
        if (length == 0)
            continue;
        if (word == 10 && strncmp(line, "nameserver", word) == 0 && count < 3)
            resolver.servers[count++] = atl_arena_strndup(arena, value, length);
        if ((word == 6 && strncmp(line, "search", word) == 0) ||
            (word == 6 && strncmp(line, "domain", word) == 0))
            resolver.search = atl_arena_strndup(arena, value, length);
    }
    *ret_resolver = resolver;
}

const char *cmp_node_zone(const char *link, const char *file, struct atl_arena *arena)
{
    const char *place = strstr(link, "zoneinfo/");
    if (place != NULL && place[9] != '\0')
        return atl_arena_strdup(arena, place + 9);
    size_t length = strcspn(file, " \t\r\n");
    return length > 0 ? atl_arena_strndup(arena, file, length) : "UTC";
}
