/* The client of the watchdog multiplexer. */
#include "ha/watchdog.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define AGAIN (200 * ATL_MS)

struct atl_watchdog {
    struct atl_loop *loop;
    char *path;
    void (*fn)(void *user);
    void *user;
    int fd; /* -1: not connected */
    struct atl_watch *watch;
    struct atl_timer *again;
    struct atl_watchdog_state state;
    unsigned disarms; /* asked for and not answered */
};

bool atl_watchdog_ask_valid(const struct atl_watchdog_ask *ask, size_t size)
{
    return size == sizeof *ask && ask->magic == ATL_WATCHDOG_MAGIC && ask->verb >= ATL_WATCHDOG_HELLO &&
           ask->verb <= ATL_WATCHDOG_DISARM;
}

static void try_connect(void *user);

static void lose(struct atl_watchdog *watchdog)
{
    atl_watch_free(watchdog->watch);
    watchdog->watch = NULL;
    if (watchdog->fd >= 0)
        (void)close(watchdog->fd);
    watchdog->fd = -1;
    watchdog->state.connected = false;
    watchdog->disarms = 0;
    if (watchdog->again == NULL)
        watchdog->again = atl_loop_timer(watchdog->loop, AGAIN, 0, try_connect, watchdog);
    watchdog->fn(watchdog->user);
}

static bool ask(struct atl_watchdog *watchdog, enum atl_watchdog_verb verb, uint64_t deadline_ms,
                uint32_t timeout_ms)
{
    const struct atl_watchdog_ask packet = {
        .magic = ATL_WATCHDOG_MAGIC, .verb = verb, .deadline_ms = deadline_ms, .timeout_ms = timeout_ms};
    if (watchdog->fd < 0)
        return false;
    return send(watchdog->fd, &packet, sizeof packet, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof packet;
}

static void answered(struct atl_watchdog *watchdog, const struct atl_watchdog_answer *answer)
{
    struct atl_watchdog_state before = watchdog->state;
    watchdog->state.connected = true;
    if (answer->verb == ATL_WATCHDOG_DISARM && watchdog->disarms > 0)
        watchdog->disarms--;
    watchdog->state.armed = answer->timeout_ms != 0 && watchdog->disarms == 0;
    bool fed = answer->verb == ATL_WATCHDOG_FEED || answer->verb == ATL_WATCHDOG_ARM;
    if (answer->code == ATL_OK && fed)
        watchdog->state.last_fed_ms = (uint64_t)(atl_clock_boot() / ATL_MS);
    (void)atl_copy(watchdog->state.error, sizeof watchdog->state.error, answer->text);
    bool changed = !before.connected || before.armed != watchdog->state.armed ||
                   strcmp(before.error, watchdog->state.error) != 0;
    if (changed) /* not by a feed alone: who feeds in each round would never rest */
        watchdog->fn(watchdog->user);
}

static void ready(void *user, unsigned int events)
{
    struct atl_watchdog *watchdog = user;
    struct atl_watchdog_answer answer;
    (void)events;
    ssize_t size = recv(watchdog->fd, &answer, sizeof answer, MSG_DONTWAIT);
    if (size == (ssize_t)sizeof answer && answer.magic == ATL_WATCHDOG_MAGIC) {
        answer.text[sizeof answer.text - 1] = '\0';
        answered(watchdog, &answer);
    } else if (size >= 0) {
        lose(watchdog); /* it has ended, or is none of ours */
    }
}

static void try_connect(void *user)
{
    struct atl_watchdog *watchdog = user;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    watchdog->again = NULL;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && atl_copy(address.sun_path, sizeof address.sun_path, watchdog->path) &&
        connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
        watchdog->fd = fd;
        watchdog->watch = atl_loop_fd(watchdog->loop, fd, ATL_READ, ready, watchdog);
        (void)ask(watchdog, ATL_WATCHDOG_HELLO, 0, 0);
        return;
    }
    if (fd >= 0)
        (void)close(fd);
    watchdog->again = atl_loop_timer(watchdog->loop, AGAIN, 0, try_connect, watchdog);
}

struct atl_watchdog *atl_watchdog_open(struct atl_loop *loop, const char *path, void (*fn)(void *user),
                                       void *user)
{
    struct atl_watchdog *watchdog = atl_new0(struct atl_watchdog);
    watchdog->loop = loop;
    watchdog->path = atl_strdup(path);
    watchdog->fn = fn;
    watchdog->user = user;
    watchdog->fd = -1;
    try_connect(watchdog);
    return watchdog;
}

void atl_watchdog_close(struct atl_watchdog **watchdog)
{
    if (*watchdog == NULL)
        return;
    atl_watch_free((*watchdog)->watch);
    atl_timer_free((*watchdog)->again);
    if ((*watchdog)->fd >= 0)
        (void)close((*watchdog)->fd);
    free((*watchdog)->path);
    free(*watchdog);
    *watchdog = NULL;
}

const struct atl_watchdog_state *atl_watchdog_now(const struct atl_watchdog *watchdog)
{
    return &watchdog->state;
}

bool atl_watchdog_arm(struct atl_watchdog *watchdog, uint32_t timeout_ms, uint64_t deadline_ms)
{
    return ask(watchdog, ATL_WATCHDOG_ARM, deadline_ms, timeout_ms);
}

bool atl_watchdog_feed(struct atl_watchdog *watchdog, uint64_t deadline_ms)
{
    return ask(watchdog, ATL_WATCHDOG_FEED, deadline_ms, 0);
}

bool atl_watchdog_disarm(struct atl_watchdog *watchdog)
{
    if (!ask(watchdog, ATL_WATCHDOG_DISARM, 0, 0))
        return false;
    watchdog->disarms++;
    watchdog->state.armed = false; /* nothing may be started on the strength of it from now on */
    return true;
}
