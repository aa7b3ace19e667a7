/*
 * atoll-watchdog: feeds the machine's watchdog for ha-lrm, and never on its own account.
 *
 * Each feed carries the moment up to which it is good; that is looked at last, right before the byte is
 * written. A client that goes away leaves the watchdog running: the machine is reset unless it comes back in
 * time. So does this program's own end. It holds no other state than the open device, and depends on nothing
 * but the kernel: no bus, no tree, no memory that could be paged out.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "ha/watchdog.h"
#include "io/log.h"
#include "io/service.h"

struct mux {
    const char *device;
    const char *path;
    uid_t user; /* who may ask, beside root */
    const struct wdt_driver *driver;
    int listener;
    int client; /* -1: none */
    int fd;     /* of the device; -1: it does not watch */
    uint32_t timeout_ms;
};

enum { ALIVE_MS = 10000 };

static uint64_t now_ms(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- what is asked --- */

static enum atl_code late(uint64_t deadline_ms, struct atl_error *err)
{
    return atl_fail(err, ATL_E_DEADLINE, NULL, "too late by %llu ms, the watchdog was not fed",
                    (unsigned long long)(now_ms() - deadline_ms));
}

static enum atl_code feed(struct mux *mux, uint64_t deadline_ms, struct atl_error *err)
{
    if (mux->fd < 0)
        return atl_fail(err, ATL_E_STATE, NULL, "the watchdog is not armed");
    if (now_ms() >= deadline_ms)
        return late(deadline_ms, err);
    return mux->driver->feed(mux->fd, err);
}

static enum atl_code arm(struct mux *mux, const struct atl_watchdog_ask *ask, struct atl_error *err)
{
    if (mux->fd >= 0)
        return feed(mux, ask->deadline_ms, err);
    if (now_ms() >= ask->deadline_ms)
        return late(ask->deadline_ms, err);
    enum atl_code code = mux->driver->open(mux->device, ask->timeout_ms, &mux->fd, &mux->timeout_ms, err);
    if (code == ATL_OK)
        atl_log(ATL_NOTICE, "armed", "%s resets this machine %u ms after the last feed", mux->device,
                mux->timeout_ms);
    else
        atl_log(ATL_ERROR, "not-armed", "%s", err->text);
    return code;
}

static enum atl_code disarm(struct mux *mux, struct atl_error *err)
{
    if (mux->fd < 0)
        return ATL_OK;
    enum atl_code code = mux->driver->disarm(mux->fd, err);
    if (code != ATL_OK) {
        atl_log(ATL_ERROR, "not-disarmed", "%s", err->text);
        return code;
    }
    mux->fd = -1;
    mux->timeout_ms = 0;
    atl_log(ATL_NOTICE, "disarmed", "%s does not watch any more", mux->device);
    return ATL_OK;
}

static void serve(struct mux *mux, const struct atl_watchdog_ask *ask)
{
    struct atl_watchdog_answer answer = {.magic = ATL_WATCHDOG_MAGIC, .verb = ask->verb};
    struct atl_error err = {0};
    switch ((enum atl_watchdog_verb)ask->verb) {
    case ATL_WATCHDOG_HELLO:
        break;
    case ATL_WATCHDOG_ARM:
        answer.code = arm(mux, ask, &err);
        break;
    case ATL_WATCHDOG_FEED:
        answer.code = feed(mux, ask->deadline_ms, &err);
        break;
    case ATL_WATCHDOG_DISARM:
        answer.code = disarm(mux, &err);
        break;
    }
    answer.timeout_ms = mux->timeout_ms;
    (void)atl_copy(answer.text, sizeof answer.text, err.text);
    (void)send(mux->client, &answer, sizeof answer, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* --- who asks --- */

static void drop_client(struct mux *mux, const char *why)
{
    (void)close(mux->client);
    mux->client = -1;
    atl_log(mux->fd >= 0 ? ATL_WARNING : ATL_INFO, "client-gone", "%s%s", why,
            mux->fd >= 0 ? "; the watchdog runs on" : "");
}

static void read_client(struct mux *mux)
{
    struct atl_watchdog_ask ask;
    ssize_t size = recv(mux->client, &ask, sizeof ask, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0)
        drop_client(mux, "the client has gone");
    else if (!atl_watchdog_ask_valid(&ask, (size_t)size))
        drop_client(mux, "the client speaks another language");
    else
        serve(mux, &ask);
}

static void take_client(struct mux *mux)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    int fd = accept4(mux->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
                 (peer.uid == mux->user || peer.uid == 0);
    if (!known) {
        atl_log(ATL_WARNING, "client-refused", "user %u may not feed the watchdog", peer.uid);
        (void)close(fd);
        return;
    }
    if (mux->client >= 0) /* ha-lrm runs once: an older connection is one that it has lost */
        drop_client(mux, "a newer client has come");
    mux->client = fd;
}

/* --- the program --- */

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    (void)number;
    ended = 1;
}

static int listen_at(const char *path, uid_t user)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)unlink(path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || !atl_copy(address.sun_path, sizeof address.sun_path, path) ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || chmod(path, 0600) != 0 ||
        chown(path, user, (gid_t)-1) != 0 || listen(fd, 4) != 0) {
        atl_log(ATL_ERROR, "no-socket", "%s: %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return -1;
    }
    return fd;
}

/* Busy machines starve nobody who holds a watchdog: in front of all others, and never paged out. */
static void be_prompt(void)
{
    const struct sched_param first = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &first) != 0)
        atl_log(ATL_INFO, "not-first", "runs as any other process: %s", strerror(errno));
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
        atl_log(ATL_INFO, "not-locked", "its memory may be paged out: %s", strerror(errno));
}

/* RUN/watchdog.ready holds the pid, and systemd is told. */
static bool tell_ready(const char *run_dir)
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/watchdog.ready", run_dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool done = fd >= 0 && dprintf(fd, "%d\n", (int)getpid()) > 0;
    if (!done)
        atl_log(ATL_ERROR, "not-ready", "%s: %s", path, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    atl_notify("READY=1");
    return done;
}

static void run(struct mux *mux)
{
    while (!ended) {
        struct pollfd fds[] = {{.fd = mux->listener, .events = POLLIN},
                               {.fd = mux->client, .events = POLLIN}};
        int count = poll(fds, ATL_COUNT(fds), ALIVE_MS);
        atl_notify("WATCHDOG=1"); /* systemd's, which looks after this program alone */
        if (count < 0)
            continue;
        if (fds[1].revents != 0)
            read_client(mux);
        if (fds[0].revents != 0)
            take_client(mux);
    }
}

static const char help[] = "Usage: atoll-watchdog [--device PATH] [--run-dir DIR] [--user NAME]\n"
                           "Feeds the machine's watchdog for atoll-ha-lrm, and never on its own account.\n\n"
                           "  --device PATH  the watchdog (default /dev/watchdog); identity:NAME is the one "
                           "that calls itself so in\n"
                           "                 /sys/class/watchdog/*/identity; unix:PATH is a simulated one\n"
                           "  --run-dir DIR  where watchdog/mux.sock is made (default /run/atoll)\n"
                           "  --user NAME    who may ask, beside root (default atoll-lrm)\n"
                           "  --version      shows the version\n"
                           "  --help         shows this\n";

/* -1: go on; else the exit code. */
static int read_options(int argc, char **argv, const char **ret_run_dir, const char **ret_user,
                        struct mux *mux)
{
    static const struct option options[] = {
        {"device", required_argument, NULL, 'd'}, {"run-dir", required_argument, NULL, 'r'},
        {"user", required_argument, NULL, 'u'},   {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {"state-dir", required_argument, NULL, 's'},
        {"node", required_argument, NULL, 's'},   {NULL, 0, NULL, 0},
    };
    for (int letter = 0; (letter = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (letter == 'd')
            mux->device = optarg;
        else if (letter == 'r')
            *ret_run_dir = optarg;
        else if (letter == 'u')
            *ret_user = optarg;
        else if (letter == 'v')
            return printf("atoll-watchdog %s\n", atl_version()) < 0;
        else if (letter == 'h')
            return printf("%s", help) < 0;
        else if (letter != 's') /* what every service is told, and this one does not need */
            return 2;
    }
    return -1;
}

int main(int argc, char **argv)
{
    const struct sigaction end = {.sa_handler = on_signal};
    struct mux mux = {.device = "/dev/watchdog", .client = -1, .fd = -1};
    const char *run_dir = "/run/atoll";
    const char *user = "atoll-lrm";
    int code = read_options(argc, argv, &run_dir, &user, &mux);
    if (code >= 0)
        return code;
    atl_log_open(&(const struct atl_log_options){.identifier = "atoll-watchdog"});
    const struct passwd *entry = getpwnam(user);
    if (entry == NULL) {
        atl_log(ATL_ERROR, "no-user", "there is no user '%s'", user);
        return 1;
    }
    ATL_FREE_AT_EXIT char *path = atl_format("%s/watchdog/mux.sock", run_dir);
    mux.user = entry->pw_uid;
    mux.driver = wdt_driver_of(mux.device);
    mux.listener = listen_at(path, mux.user);
    if (mux.listener < 0)
        return 1;
    (void)sigaction(SIGTERM, &end, NULL);
    (void)sigaction(SIGINT, &end, NULL);
    be_prompt();
    if (!tell_ready(run_dir))
        return 1;
    run(&mux);
    if (mux.fd >= 0)
        atl_log(ATL_WARNING, "ends-armed", "ends while %s watches: it must be started again within %u ms",
                mux.device, mux.timeout_ms);
    return 0;
}
