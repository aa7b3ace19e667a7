/* Which process runs which guest, and since when. */
#include "drivers/procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int64_t cmp_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void cmp_pids_done(struct cmp_pids *pids)
{
    free(pids->list);
    *pids = (struct cmp_pids){0};
}

static size_t read_file(int64_t pid, const char *name, char *text, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, size - 1);
    (void)close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0 ? (size_t)got : 0;
}

/* Start of a process in clock ticks since boot; 0: it is gone or a zombie. */
static uint64_t start_ticks(int64_t pid)
{
    char text[1024];
    if (read_file(pid, "stat", text, sizeof text) == 0)
        return 0;
    const char *rest = strrchr(text, ')');
    if (rest == NULL || strlen(rest) < 3 || rest[2] == 'Z')
        return 0;
    unsigned long long ticks = 0;
    if (sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &ticks) != 1)
        return 0;
    return ticks;
}

static int64_t wall_of_ticks(uint64_t ticks)
{
    struct timespec boot;
    (void)clock_gettime(CLOCK_BOOTTIME, &boot);
    long hertz = sysconf(_SC_CLK_TCK);
    return (int64_t)time(NULL) - (int64_t)boot.tv_sec +
           (int64_t)(ticks / (uint64_t)(hertz > 0 ? hertz : 100));
}

/* Several nodes may share a machine and its process ids, each with a network of its own. */
static bool of_this_node(int64_t pid)
{
    char path[64];
    char own[64] = "";
    char other[64] = "";
    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/ns/net", pid);
    if (readlink(path, other, sizeof other - 1) < 0 || readlink("/proc/self/ns/net", own, sizeof own - 1) < 0)
        return true; /* not to be told */
    return strcmp(own, other) == 0;
}

/* "-name guest=atoll-100,debug-threads=on" as libvirt writes it; 0: no guest of ours. */
static uint32_t guest_of(int64_t pid)
{
    char text[4096];
    size_t size = read_file(pid, "cmdline", text, sizeof text);
    if (size == 0 || strstr(text, "qemu") == NULL)
        return 0;
    for (size_t at = 0; at < size; at += strlen(text + at) + 1) {
        if (strncmp(text + at, "guest=atoll-", 12) != 0)
            continue;
        unsigned long vmid = strtoul(text + at + 12, NULL, 10);
        return vmid >= 100 && vmid <= 999999999 && of_this_node(pid) ? (uint32_t)vmid : 0;
    }
    return 0;
}

static struct cmp_pid *find_pid(const struct cmp_pids *pids, uint32_t vmid)
{
    for (size_t i = 0; i < pids->count; i++)
        if (pids->list[i].vmid == vmid)
            return &pids->list[i];
    return NULL;
}

static void remember(struct cmp_pids *pids, uint32_t vmid, int64_t pid)
{
    struct cmp_pid *entry = find_pid(pids, vmid);
    uint64_t ticks = start_ticks(pid);
    if (ticks == 0)
        return;
    if (entry == NULL) {
        if (pids->count == pids->room) {
            pids->room = pids->room * 2 + 16;
            pids->list = atl_realloc(pids->list, pids->room * sizeof *pids->list);
        }
        entry = &pids->list[pids->count++];
    }
    *entry =
        (struct cmp_pid){.vmid = vmid, .pid = pid, .start_ticks = ticks, .started = wall_of_ticks(ticks)};
}

static void scan(struct cmp_pids *pids)
{
    DIR *folder = opendir("/proc");
    if (folder == NULL)
        return;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char *end = NULL;
        long pid = strtol(entry->d_name, &end, 10);
        uint32_t vmid = end != entry->d_name && *end == '\0' ? guest_of(pid) : 0;
        if (vmid != 0)
            remember(pids, vmid, pid);
    }
    (void)closedir(folder);
}

static bool still_lives(const struct cmp_pid *entry)
{
    return entry != NULL && start_ticks(entry->pid) == entry->start_ticks;
}

void cmp_pids_fill(struct cmp_pids *pids, struct cmp_sample *samples, size_t count)
{
    bool scanned = false;
    for (size_t i = 0; i < count; i++) {
        const struct cmp_pid *entry = find_pid(pids, samples[i].vmid);
        if (!still_lives(entry) && !scanned) {
            pids->count = 0;
            scan(pids);
            scanned = true;
            entry = find_pid(pids, samples[i].vmid);
        }
        if (entry == NULL)
            continue;
        samples[i].pid = entry->pid;
        samples[i].started = entry->started;
    }
}

bool cmp_kill_guest(uint32_t vmid, int timeout_ms)
{
    struct cmp_pids pids = {0};
    bool ended = false;
    scan(&pids);
    const struct cmp_pid *entry = find_pid(&pids, vmid);
    int process = entry != NULL ? (int)syscall(SYS_pidfd_open, (pid_t)entry->pid, 0) : -1;
    if (process >= 0 && guest_of(entry->pid) == vmid) { /* the number may have gone to another meanwhile */
        struct pollfd end = {.fd = process, .events = POLLIN};
        (void)syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0); /* fails where it has just ended */
        ended = poll(&end, 1, timeout_ms) > 0;
    }
    if (process >= 0)
        (void)close(process); /* it was only looked at */
    cmp_pids_done(&pids);
    return ended;
}
