/* Starts the guests with `onboot` once after the host has booted. */
#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/startup.h"
#include "ha.h"
#include "io/log.h"

enum { GUESTS_MAX = 4096, BOOT_ID_MAX = 64 };

struct boot_start {
    size_t part;
    uint32_t vmid;
};

struct cmp_boot {
    struct cmp *cmp;
    struct atl_timer *timer;
    char boot_id[BOOT_ID_MAX];
    struct cmp_startup *order; /* what is to start, sorted */
    struct boot_start *parts;  /* which part each vmid belongs to */
    size_t count;
    size_t next;
};

static void read_line(const char *path, char *text, size_t size)
{
    text[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = read(fd, text, size - 1);
    (void)close(fd);
    text[got > 0 ? got : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

static void memory_path(const struct cmp *cmp, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/compute-agent/boot-id", cmp->options.state_dir);
}

/* Written before the first start, so that a crash half-way does not start guests that someone has stopped. */
static void remember(const struct cmp_boot *boot)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/compute-agent", boot->cmp->options.state_dir);
    (void)mkdir(path, 0750); /* it may be there */
    memory_path(boot->cmp, path, sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    bool done = fd >= 0 && write(fd, boot->boot_id, strlen(boot->boot_id)) == (ssize_t)strlen(boot->boot_id);
    if (fd >= 0)
        (void)close(fd);
    if (!done)
        atl_log(ATL_WARNING, "boot-id-not-written",
                "cannot write '%s': %s; guests with onboot may start again", path, strerror(errno));
}

static void boot_step(void *user);

static void boot_wait(struct cmp_boot *boot, atl_ns delay)
{
    boot->timer = atl_loop_timer(boot->cmp->loop, delay, 0, boot_step, boot);
}

/* Asks all parts; false when one does not know yet what runs. */
static bool collect(struct cmp_boot *boot)
{
    struct cmp_boot_guest *guests = atl_alloc0(GUESTS_MAX * sizeof *guests);
    struct cmp_startup *order = atl_alloc0(GUESTS_MAX * sizeof *order);
    struct boot_start *parts = atl_alloc0(GUESTS_MAX * sizeof *parts);
    size_t count = 0;
    bool known = true;
    for (size_t i = 0; known && i < boot->cmp->part_count; i++) {
        const struct cmp_part *part = boot->cmp->parts[i];
        if (part->boot_guests == NULL)
            continue;
        size_t got = part->boot_guests(boot->cmp->selves[i], guests, GUESTS_MAX - count, &known);
        for (size_t k = 0; known && k < got; k++) {
            bool managed = cmp_ha_managed(boot->cmp, strcmp(part->name, "lxc") == 0 ? "lxc" : "qemu-server",
                                          guests[k].vmid);
            if (guests[k].running || managed)
                continue;
            cmp_startup_parse(guests[k].startup, guests[k].vmid, &order[count]);
            parts[count++] = (struct boot_start){.part = i, .vmid = guests[k].vmid};
        }
    }
    free(guests);
    if (!known) {
        free(order);
        free(parts);
        return false;
    }
    cmp_startup_sort(order, count);
    boot->order = order;
    boot->parts = parts;
    boot->count = count;
    return true;
}

static void start_guest(struct cmp_boot *boot, uint32_t vmid)
{
    for (size_t i = 0; i < boot->count; i++) {
        if (boot->parts[i].vmid != vmid)
            continue;
        size_t part = boot->parts[i].part;
        boot->cmp->parts[part]->boot_start(boot->cmp->selves[part], vmid);
        return;
    }
}

static void boot_step(void *user)
{
    struct cmp_boot *boot = user;
    boot->timer = NULL; /* a one-shot timer frees itself */
    if (boot->order == NULL) {
        if (!atl_mirror_ready(boot->cmp->mirror) || !collect(boot)) {
            boot_wait(boot, 500 * ATL_MS);
            return;
        }
        remember(boot);
        atl_log(ATL_NOTICE, "boot-guests", "the host has booted: %zu guests start with it", boot->count);
    }
    while (boot->next < boot->count) {
        start_guest(boot, boot->order[boot->next].vmid);
        boot->next++;
        if (boot->next < boot->count && !cmp_startup_together(boot->order, boot->next)) {
            boot_wait(boot, (atl_ns)boot->order[boot->next - 1].up_s * ATL_SECOND + ATL_SECOND);
            return;
        }
    }
}

struct cmp_boot *cmp_boot_open(struct cmp *cmp)
{
    struct cmp_boot *boot = atl_new0(struct cmp_boot);
    char path[4096];
    char last[BOOT_ID_MAX];
    boot->cmp = cmp;
    memory_path(cmp, path, sizeof path);
    read_line("/proc/sys/kernel/random/boot_id", boot->boot_id, sizeof boot->boot_id);
    read_line(path, last, sizeof last);
    if (boot->boot_id[0] == '\0' || strcmp(boot->boot_id, last) == 0)
        return boot; /* only the agent was started again */
    boot_wait(boot, 200 * ATL_MS);
    return boot;
}

void cmp_boot_close(struct cmp_boot **boot_pointer)
{
    struct cmp_boot *boot = *boot_pointer;
    if (boot == NULL)
        return;
    atl_timer_free(boot->timer);
    free(boot->order);
    free(boot->parts);
    free(boot);
    *boot_pointer = NULL;
}
