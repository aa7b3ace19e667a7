/*
 * An engine that runs nothing: guests are one-line files in STATE/fake-engine/, so that task workers and the
 * agent see the same; --fake-guests makes up further ones that only exist in the agent's memory.
 * Deterministic.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "drivers/driver.h"

enum { FAKE_FIRST = 10000 }; /* ids of made-up guests begin here */

struct fake {
    char *folder;
    uint32_t made_up;
    int64_t opened;
    int notify;
};

static char *guest_path(const struct fake *fake, uint32_t vmid)
{
    return atl_format("%s/%" PRIu32, fake->folder, vmid);
}

static void fake_close(void *self)
{
    struct fake *fake = self;
    if (fake == NULL)
        return;
    if (fake->notify >= 0)
        (void)close(fake->notify);
    free(fake->folder);
    free(fake);
}

static enum atl_code fake_open(const struct cmp_driver_options *options, void **ret_self,
                               struct atl_error *err)
{
    struct fake *fake = atl_new0(struct fake);
    fake->notify = -1;
    fake->folder = atl_format("%s/fake-engine", options->state_dir);
    fake->made_up = options->fake_guests;
    fake->opened = (int64_t)time(NULL);
    if (mkdir(fake->folder, 0750) != 0 && errno != EEXIST) {
        (void)atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", fake->folder, strerror(errno));
        fake_close(fake);
        return ATL_E_IO;
    }
    if (options->watch) {
        fake->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        (void)inotify_add_watch(fake->notify, fake->folder, IN_CLOSE_WRITE | IN_DELETE);
    }
    *ret_self = fake;
    return ATL_OK;
}

static bool is_made_up(const struct fake *fake, uint32_t vmid)
{
    return vmid >= FAKE_FIRST && vmid - FAKE_FIRST < fake->made_up;
}

static enum atl_code fake_state(void *self, uint32_t vmid, enum cmp_state *ret_state, struct atl_error *err)
{
    struct fake *fake = self;
    ATL_FREE_AT_EXIT char *path = guest_path(fake, vmid);
    char word[8] = "";
    (void)err;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = read(fd, word, sizeof word - 1);
        (void)close(fd);
        word[got > 0 ? got : 0] = '\0';
        *ret_state = word[0] == 'p' ? CMP_PAUSED : CMP_RUNNING;
    } else {
        *ret_state = is_made_up(fake, vmid) ? CMP_RUNNING : CMP_STOPPED;
    }
    return ATL_OK;
}

static enum atl_code fake_write(const struct fake *fake, uint32_t vmid, const char *word,
                                struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *path = guest_path(fake, vmid);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    bool done = fd >= 0 && write(fd, word, strlen(word)) == (ssize_t)strlen(word);
    int reason = errno;
    if (fd >= 0)
        (void)close(fd);
    return done ? ATL_OK : atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(reason));
}

static enum atl_code need_running(const struct fake *fake, uint32_t vmid, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *path = guest_path(fake, vmid);
    if (access(path, F_OK) == 0 || is_made_up(fake, vmid))
        return ATL_OK;
    return atl_fail(err, ATL_E_ABSENT, NULL, "VM %" PRIu32 " not running", vmid);
}

static enum atl_code fake_start(void *self, uint32_t vmid, const char *xml, bool paused,
                                struct atl_error *err)
{
    atl_assert(xml != NULL);
    return fake_write(self, vmid, paused ? "paused" : "running", err);
}

static enum atl_code fake_stop(void *self, uint32_t vmid, struct atl_error *err)
{
    struct fake *fake = self;
    ATL_FREE_AT_EXIT char *path = guest_path(fake, vmid);
    enum atl_code code = need_running(fake, vmid, err);
    if (code == ATL_OK && unlink(path) != 0 && errno != ENOENT)
        return atl_fail(err, ATL_E_IO, NULL, "cannot remove '%s': %s", path, strerror(errno));
    return code;
}

static enum atl_code fake_shutdown(void *self, uint32_t vmid, bool agent, struct atl_error *err)
{
    (void)agent;
    return fake_stop(self, vmid, err);
}

static enum atl_code fake_reset(void *self, uint32_t vmid, struct atl_error *err)
{
    return need_running(self, vmid, err);
}

static enum atl_code fake_suspend(void *self, uint32_t vmid, struct atl_error *err)
{
    enum atl_code code = need_running(self, vmid, err);
    return code == ATL_OK ? fake_write(self, vmid, "paused", err) : code;
}

static enum atl_code fake_resume(void *self, uint32_t vmid, struct atl_error *err)
{
    enum atl_code code = need_running(self, vmid, err);
    return code == ATL_OK ? fake_write(self, vmid, "running", err) : code;
}

static enum atl_code fake_agent(void *self, uint32_t vmid, const char *command, int timeout_s,
                                char **ret_answer, struct atl_error *err)
{
    (void)timeout_s;
    enum atl_code code = need_running(self, vmid, err);
    if (code != ATL_OK)
        return code;
    if (strstr(command, "guest-ping") == NULL)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "guest agent: a simulated guest answers ping alone");
    *ret_answer = atl_strdup("{\"return\":{}}");
    return ATL_OK;
}

static enum atl_code fake_monitor(void *self, uint32_t vmid, const char *command, char **ret_answer,
                                  struct atl_error *err)
{
    enum atl_code code = need_running(self, vmid, err);
    if (code == ATL_OK)
        *ret_answer = atl_format("simulated: %s", command);
    return code;
}

static enum atl_code fake_resize(void *self, uint32_t vmid, const char *target, uint64_t size_bytes,
                                 struct atl_error *err)
{
    (void)target;
    (void)size_bytes;
    return need_running(self, vmid, err);
}

static enum atl_code fake_device(void *self, uint32_t vmid, enum cmp_device_deed deed, const char *xml,
                                 struct atl_error *err)
{
    (void)deed;
    (void)xml;
    return need_running(self, vmid, err);
}

static enum atl_code fake_cpu_limits(void *self, uint32_t vmid, uint64_t limit_percent, uint64_t units,
                                     struct atl_error *err)
{
    (void)limit_percent;
    (void)units;
    return need_running(self, vmid, err);
}

/* --- all at once ------------------------------------------------------------------------------------------
 */

static int sample_order(const void *a, const void *b)
{
    const struct cmp_sample *left = a;
    const struct cmp_sample *right = b;
    return left->vmid < right->vmid ? -1 : left->vmid > right->vmid;
}

/* Numbers that differ from guest to guest and stay the same from run to run. */
static void made_up_sample(const struct fake *fake, uint32_t index, struct atl_arena *arena,
                           struct cmp_sample *sample)
{
    sample->vmid = FAKE_FIRST + index;
    sample->state = index % 5 == 4 ? CMP_PAUSED : CMP_RUNNING;
    sample->pid = 0;
    sample->started = fake->opened;
    sample->vcpus = 1 + index % 8;
    sample->cpu_ns = (uint64_t)index * 1000000;
    sample->maxmem = (uint64_t)(1 + index % 16) << 30;
    sample->mem = sample->maxmem / 2;
    sample->memhost = sample->mem;
    sample->balloon = sample->maxmem;
    sample->name = atl_arena_format(arena, "fake-%" PRIu32, index);
}

static enum atl_code fake_sample(void *self, struct atl_arena *arena, struct cmp_sample **ret_samples,
                                 size_t *ret_count, struct atl_error *err)
{
    struct fake *fake = self;
    struct cmp_sample *samples = NULL;
    size_t count = 0;
    size_t room = 0;
    DIR *folder = opendir(fake->folder);
    if (folder == NULL)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "cannot read '%s': %s", fake->folder, strerror(errno));
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char *end = NULL;
        unsigned long vmid = strtoul(entry->d_name, &end, 10);
        struct stat about;
        if (vmid == 0 || *end != '\0' || fstatat(dirfd(folder), entry->d_name, &about, 0) != 0)
            continue;
        samples = atl_arena_grow(arena, samples, count, &room, sizeof *samples);
        struct cmp_sample *sample = &samples[count++];
        *sample = (struct cmp_sample){.vmid = (uint32_t)vmid, .vcpus = 1, .started = about.st_mtime};
        (void)fake_state(fake, sample->vmid, &sample->state, NULL); /* cannot fail */
    }
    (void)closedir(folder);
    for (uint32_t i = 0; i < fake->made_up; i++) {
        samples = atl_arena_grow(arena, samples, count, &room, sizeof *samples);
        samples[count] = (struct cmp_sample){0};
        made_up_sample(fake, i, arena, &samples[count++]);
    }
    if (count > 1)
        qsort(samples, count, sizeof *samples, sample_order);
    *ret_samples = samples;
    *ret_count = count;
    return ATL_OK;
}

static void fake_wait(void *self, int timeout_ms)
{
    const struct fake *fake = self;
    char events[4096];
    struct pollfd wait = {.fd = fake->notify, .events = POLLIN};
    if (poll(&wait, 1, timeout_ms) > 0)
        (void)!read(fake->notify, events, sizeof events); /* which guest it was does not matter */
}

const struct cmp_driver cmp_fake_driver = {
    .name = "fake",
    .open = fake_open,
    .close = fake_close,
    .state = fake_state,
    .start = fake_start,
    .stop = fake_stop,
    .shutdown = fake_shutdown,
    .reset = fake_reset,
    .suspend = fake_suspend,
    .resume = fake_resume,
    .agent = fake_agent,
    .monitor = fake_monitor,
    .resize = fake_resize,
    .device = fake_device,
    .cpu_limits = fake_cpu_limits,
    .sample = fake_sample,
    .wait = fake_wait,
};
