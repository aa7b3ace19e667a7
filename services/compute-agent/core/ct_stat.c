/* What kernel files tell about a running container, read from their text. */
#include "core/ct_stat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');
    return end != NULL ? end + 1 : line + strlen(line);
}

uint64_t cmp_ct_keyed(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = text; *line != '\0'; line = next_line(line))
        if (strncmp(line, name, length) == 0 && line[length] == ' ')
            return strtoull(line + length + 1, NULL, 10);
    return 0;
}

uint64_t cmp_ct_number(const char *text)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return UINT64_MAX;
    uint64_t value = strtoull(text, &end, 10);
    return *end == '\0' || *end == '\n' ? value : UINT64_MAX;
}

/* The number behind a word inside one line; 0 when the word is not in it. */
static uint64_t in_line(const char *line, const char *word)
{
    const char *end = strchr(line, '\n');
    const char *at = strstr(line, word);
    if (at == NULL || (end != NULL && at > end))
        return 0;
    return strtoull(at + strlen(word), NULL, 10);
}

void cmp_ct_io(const char *text, unsigned int cgroup_version, uint64_t *ret_read, uint64_t *ret_written)
{
    uint64_t bytes_read = 0;
    uint64_t bytes_written = 0;
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        bytes_read += in_line(line, cgroup_version == 2 ? " rbytes=" : " Read ");
        bytes_written += in_line(line, cgroup_version == 2 ? " wbytes=" : " Write ");
    }
    *ret_read = bytes_read;
    *ret_written = bytes_written;
}

double cmp_ct_pressure(const char *text, const char *kind)
{
    size_t length = strlen(kind);
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        if (strncmp(line, kind, length) != 0 || strncmp(line + length, " avg10=", 7) != 0)
            continue;
        double percent = strtod(line + length + 7, NULL);
        return percent >= 0 && percent <= 100 ? percent : 0;
    }
    return 0;
}

static uint64_t mask(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at != NULL ? strtoull(at + strlen(name), NULL, 16) : 0;
}

int cmp_ct_halt_signal(const char *status_text, int sigrtmin)
{
    enum { POWER = 30, USER_2 = 12 }; /* SIGPWR, SIGUSR2 of Linux */
    uint64_t blocked = mask(status_text, "\nSigBlk:");
    uint64_t caught = mask(status_text, "\nSigCgt:");
    uint64_t halt = UINT64_C(1) << (sigrtmin + 3 - 1);
    if (((blocked | caught) & halt) != 0) /* systemd blocks it and reads it from a descriptor */
        return sigrtmin + 3;
    if (((blocked | caught) & (UINT64_C(1) << (POWER - 1))) != 0)
        return POWER;
    if ((caught & (UINT64_C(1) << (USER_2 - 1))) != 0)
        return USER_2;
    return POWER;
}

int cmp_ct_signal(const char *name, int sigrtmin)
{
    static const struct {
        const char *name;
        int number;
    } table[] = {{"HUP", 1},   {"INT", 2},   {"QUIT", 3},  {"KILL", 9},
                 {"USR1", 10}, {"USR2", 12}, {"TERM", 15}, {"PWR", 30}};
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    if (name[0] >= '1' && name[0] <= '9') {
        long number = strtol(name, NULL, 10);
        return number <= 64 ? (int)number : 0;
    }
    if (strncmp(name, "RTMIN+", 6) == 0) {
        long offset = strtol(name + 6, NULL, 10);
        return offset >= 0 && offset <= 30 ? sigrtmin + (int)offset : 0;
    }
    for (size_t i = 0; i < ATL_COUNT(table); i++)
        if (strcmp(name, table[i].name) == 0)
            return table[i].number;
    return 0;
}

void cmp_ct_cpu_list_count(const char *list, uint32_t *load, uint32_t cpus)
{
    for (const char *at = list; *at >= '0' && *at <= '9';) {
        char *end = NULL;
        unsigned long first = strtoul(at, &end, 10);
        unsigned long last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        for (unsigned long cpu = first; cpu <= last && cpu < cpus; cpu++)
            load[cpu]++;
        at = *end == ',' ? end + 1 : end;
        if (*end != ',')
            break;
    }
}

bool cmp_ct_run_from_text(const char *text, struct cmp_ct_run *ret_run)
{
    struct cmp_ct_run run = {0};
    unsigned long long init_start = 0;
    unsigned long long monitor_start = 0;
    if (sscanf(text, "init %9d %20llu\nmonitor %9d %20llu\n", &run.init, &init_start, &run.monitor,
               &monitor_start) != 4 ||
        run.init <= 1 || run.monitor <= 1)
        return false;
    run.init_start = init_start;
    run.monitor_start = monitor_start;
    *ret_run = run;
    return true;
}
