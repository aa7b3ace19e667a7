/*
 * An engine of virtual machines that runs nothing (drivers/fake_guests.h): its guests are files in
 * STATE/fake-engine/, and those that --fake-guests makes up. Deterministic.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "drivers/driver.h"
#include "drivers/fake_guests.h"

struct fake {
    struct cmp_fakes guests;
    int notify;
};

static void fake_close(void *self)
{
    struct fake *fake = self;
    if (fake == NULL)
        return;
    if (fake->notify >= 0)
        (void)close(fake->notify); /* only read from */
    cmp_fakes_done(&fake->guests);
    free(fake);
}

static enum atl_code fake_open(const struct cmp_driver_options *options, void **ret_self,
                               struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *folder = atl_format("%s/fake-engine", options->state_dir);
    struct fake *fake = atl_new0(struct fake);
    fake->notify = -1;
    enum atl_code code =
        options->watch ? cmp_fakes_make(folder, options->fake_first, options->fake_guests, &fake->guests, err)
                       : cmp_fakes_open(folder, &fake->guests, err);
    if (code != ATL_OK) {
        fake_close(fake);
        return code;
    }
    if (options->watch) {
        fake->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        (void)inotify_add_watch(fake->notify, folder,
                                IN_MOVED_TO | IN_DELETE); /* without: seen a little later */
    }
    *ret_self = fake;
    return ATL_OK;
}

static enum atl_code fake_state(void *self, uint32_t vmid, enum cmp_state *ret_state, struct atl_error *err)
{
    const struct fake *fake = self;
    (void)err;
    *ret_state = cmp_fakes_get(&fake->guests, vmid).state;
    return ATL_OK;
}

/* The guest, if it runs and no fault was asked for. */
static enum atl_code running(const struct fake *fake, const char *deed, uint32_t vmid,
                             struct cmp_fake *ret_guest, struct atl_error *err)
{
    *ret_guest = cmp_fakes_get(&fake->guests, vmid);
    if (ret_guest->state == CMP_STOPPED)
        return atl_fail(err, ATL_E_ABSENT, NULL, "VM %" PRIu32 " not running", vmid);
    return cmp_fakes_fault(&fake->guests, deed, vmid, err);
}

static enum atl_code turn(const struct fake *fake, const char *deed, uint32_t vmid, enum cmp_state state,
                          struct atl_error *err)
{
    struct cmp_fake guest;
    enum atl_code code = running(fake, deed, vmid, &guest, err);
    guest.state = state;
    return code == ATL_OK ? cmp_fakes_put(&fake->guests, &guest, err) : code;
}

static enum atl_code fake_start(void *self, uint32_t vmid, const char *xml, bool paused,
                                struct atl_error *err)
{
    const struct fake *fake = self;
    atl_assert(xml != NULL);
    const struct cmp_fake guest = {
        .vmid = vmid, .state = paused ? CMP_PAUSED : CMP_RUNNING, .started = (int64_t)time(NULL)};
    enum atl_code code = cmp_fakes_fault(&fake->guests, "start", vmid, err);
    return code == ATL_OK ? cmp_fakes_put(&fake->guests, &guest, err) : code;
}

static enum atl_code fake_stop(void *self, uint32_t vmid, struct atl_error *err)
{
    return turn(self, "stop", vmid, CMP_STOPPED, err);
}

static enum atl_code fake_shutdown(void *self, uint32_t vmid, bool agent, struct atl_error *err)
{
    (void)agent;
    return turn(self, "shutdown", vmid, CMP_STOPPED, err);
}

static enum atl_code fake_reset(void *self, uint32_t vmid, struct atl_error *err)
{
    return turn(self, "reset", vmid, CMP_RUNNING, err);
}

static enum atl_code fake_suspend(void *self, uint32_t vmid, struct atl_error *err)
{
    return turn(self, "suspend", vmid, CMP_PAUSED, err);
}

static enum atl_code fake_resume(void *self, uint32_t vmid, struct atl_error *err)
{
    return turn(self, "resume", vmid, CMP_RUNNING, err);
}

static enum atl_code fake_agent(void *self, uint32_t vmid, const char *command, int timeout_s,
                                char **ret_answer, struct atl_error *err)
{
    struct cmp_fake guest;
    (void)timeout_s;
    enum atl_code code = running(self, "agent", vmid, &guest, err);
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
    struct cmp_fake guest;
    enum atl_code code = running(self, "agent", vmid, &guest, err);
    if (code == ATL_OK)
        *ret_answer = atl_format("simulated: %s", command);
    return code;
}

static enum atl_code fake_resize(void *self, uint32_t vmid, const char *target, uint64_t size_bytes,
                                 struct atl_error *err)
{
    struct cmp_fake guest;
    (void)target;
    (void)size_bytes;
    return running(self, "change", vmid, &guest, err);
}

static enum atl_code fake_device(void *self, uint32_t vmid, enum cmp_device_deed deed, const char *xml,
                                 struct atl_error *err)
{
    struct cmp_fake guest;
    (void)deed;
    (void)xml;
    return running(self, "change", vmid, &guest, err);
}

static enum atl_code fake_cpu_limits(void *self, uint32_t vmid, uint64_t limit_percent, uint64_t units,
                                     struct atl_error *err)
{
    struct cmp_fake guest;
    (void)limit_percent;
    (void)units;
    return running(self, "change", vmid, &guest, err);
}

/* Numbers that differ from guest to guest and stay the same from run to run. */
static struct cmp_sample sample_of(const struct cmp_fake *guest)
{
    uint64_t memory = (uint64_t)(1 + guest->vmid % 16) << 30;
    return (struct cmp_sample){.vmid = guest->vmid,
                               .state = guest->state,
                               .started = guest->started,
                               .vcpus = 1 + guest->vmid % 8,
                               .cpu_ns = (uint64_t)guest->vmid * 1000000,
                               .maxmem = memory,
                               .mem = memory / 2,
                               .memhost = memory / 2,
                               .balloon = memory};
}

static enum atl_code fake_sample(void *self, struct atl_arena *arena, struct cmp_sample **ret_samples,
                                 size_t *ret_count, struct atl_error *err)
{
    const struct fake *fake = self;
    struct cmp_fake *guests = NULL;
    size_t count = 0;
    if (cmp_fakes_list(&fake->guests, arena, &guests, &count, err) != ATL_OK)
        return ATL_E_UNAVAILABLE;
    struct cmp_sample *samples = atl_arena_array(arena, struct cmp_sample, count + 1);
    for (size_t i = 0; i < count; i++)
        samples[i] = sample_of(&guests[i]);
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
    .abandon = fake_stop,
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
