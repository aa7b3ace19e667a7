/* What QEMU says to QEMU while a guest moves. */
#include "move_tunnel.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/log.h"
#include "io/loop.h"

enum { PIPES_MAX = 64, BACKLOG = 16 };

static const atl_ns connect_within = 20 * ATL_SECOND;

struct pipe_end {
    struct move_tunnel *tunnel;
    pthread_t thread;
    struct atl_stream *stream;
    int fd;
};

struct move_tunnel {
    pthread_t thread;
    atomic_bool closing;
    struct atl_stream_count count;
    struct pipe_end pipes[PIPES_MAX];
    size_t pipe_count; /* of the accepting thread, until it has ended */
    /* out */
    struct atl_stream_offer offer;
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    int listener;
    /* in */
    struct atl_stream_server *server;
    char dir[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    pthread_mutex_t lock;
    pthread_cond_t come;
    struct atl_stream *control;
};

/* Signals are the main thread's. */
static void start_thread(pthread_t *thread, void *(*fn)(void *), void *argument)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, fn, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    atl_assert(rc == 0);
}

static void *pump(void *argument)
{
    struct pipe_end *end = argument;
    struct atl_error error = {0};
    if (atl_stream_pump(end->stream, end->fd, &end->tunnel->count, &error) != ATL_OK)
        atl_log(ATL_DEBUG, "move-pipe", "%s", error.text); /* QEMU tells what it means for the guest */
    (void)shutdown(end->fd, SHUT_RDWR);                    /* the other end may have gone first */
    return NULL;
}

/* Both are taken. */
static void add_pipe(struct move_tunnel *tunnel, struct atl_stream *stream, int fd)
{
    if (tunnel->pipe_count == PIPES_MAX) {
        atl_stream_close(&stream);
        (void)close(fd); /* QEMU sees it closed */
        return;
    }
    struct pipe_end *end = &tunnel->pipes[tunnel->pipe_count++];
    *end = (struct pipe_end){.tunnel = tunnel, .stream = stream, .fd = fd};
    start_thread(&end->thread, pump, end);
}

static struct move_tunnel *tunnel_new(void)
{
    struct move_tunnel *tunnel = atl_new0(struct move_tunnel);
    pthread_condattr_t attributes;
    tunnel->listener = -1;
    (void)pthread_mutex_init(&tunnel->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&tunnel->come, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return tunnel;
}

/* --- source -----------------------------------------------------------------------------------------------
 */

static void *accept_qemu(void *argument)
{
    struct move_tunnel *tunnel = argument;
    while (!atomic_load(&tunnel->closing)) {
        struct pollfd wait = {.fd = tunnel->listener, .events = POLLIN};
        if (poll(&wait, 1, -1) <= 0)
            continue;
        int fd = accept4(tunnel->listener, NULL, NULL, SOCK_CLOEXEC);
        struct atl_stream *stream = NULL;
        struct atl_error error = {0};
        if (fd < 0)
            continue;
        if (atl_stream_connect(&tunnel->offer, tunnel->channel, atl_clock_monotonic() + connect_within,
                               &stream, &error) == ATL_OK) {
            add_pipe(tunnel, stream, fd);
            continue;
        }
        atl_log(ATL_WARNING, "move-pipe", "the target takes no channel '%s': %s", tunnel->channel,
                error.text);
        (void)close(fd); /* QEMU sees it closed */
    }
    return NULL;
}

static enum atl_code listen_at(struct move_tunnel *tunnel, const char *path, uid_t user,
                               struct atl_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!atl_copy(address.sun_path, sizeof address.sun_path, path) ||
        !atl_copy(tunnel->path, sizeof tunnel->path, path))
        return atl_fail(err, ATL_E_INVALID, NULL, "the path '%s' is too long for a socket", path);
    (void)unlink(path); /* of a worker that was killed */
    tunnel->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (tunnel->listener < 0 || bind(tunnel->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        chown(path, user, (gid_t)-1) != 0 || chmod(path, 0600) != 0 || listen(tunnel->listener, BACKLOG) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot listen at '%s': %s", path, strerror(errno));
    return ATL_OK;
}

enum atl_code move_tunnel_out(const struct atl_stream_offer *offer, const char *channel, const char *path,
                              uid_t user, struct move_tunnel **ret_tunnel, struct atl_error *err)
{
    struct move_tunnel *tunnel = tunnel_new();
    tunnel->offer = *offer;
    (void)atl_copy(tunnel->channel, sizeof tunnel->channel, channel);
    enum atl_code code = listen_at(tunnel, path, user, err);
    if (code != ATL_OK) {
        if (tunnel->listener >= 0)
            (void)close(tunnel->listener); /* nobody has come */
        free(tunnel);
        return code;
    }
    start_thread(&tunnel->thread, accept_qemu, tunnel);
    *ret_tunnel = tunnel;
    return ATL_OK;
}

/* --- target -----------------------------------------------------------------------------------------------
 */

static int connect_qemu(const struct move_tunnel *tunnel, const char *channel)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s.sock", tunnel->dir, channel);
    if (length < 0 || (size_t)length >= sizeof address.sun_path)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        atl_log(ATL_WARNING, "move-pipe", "QEMU does not listen at '%s': %s", address.sun_path,
                strerror(errno));
        (void)close(fd); /* was never connected */
        return -1;
    }
    return fd;
}

static void take(struct move_tunnel *tunnel, struct atl_stream *stream, const char *channel)
{
    if (strcmp(channel, "control") == 0) {
        (void)pthread_mutex_lock(&tunnel->lock);
        struct atl_stream *old = tunnel->control;
        tunnel->control = stream;
        (void)pthread_cond_signal(&tunnel->come);
        (void)pthread_mutex_unlock(&tunnel->lock);
        atl_stream_close(&old);
        return;
    }
    int fd = strcmp(channel, "ram") == 0 || strcmp(channel, "nbd") == 0 ? connect_qemu(tunnel, channel) : -1;
    if (fd >= 0)
        add_pipe(tunnel, stream, fd);
    else
        atl_stream_close(&stream);
}

static void *accept_streams(void *argument)
{
    struct move_tunnel *tunnel = argument;
    while (!atomic_load(&tunnel->closing)) {
        struct atl_stream *stream = NULL;
        char channel[ATL_STREAM_CHANNEL_MAX + 1];
        struct atl_error error = {0};
        if (atl_stream_accept(tunnel->server, ATL_STREAM_FOREVER, &stream, channel, &error) == ATL_OK)
            take(tunnel, stream, channel);
        else if (error.code != ATL_E_CANCELLED)
            atl_log(ATL_WARNING, "move-pipe", "%s", error.text);
        if (stream == NULL)
            break;
    }
    return NULL;
}

struct move_tunnel *move_tunnel_in(struct atl_stream_server **server, const char *dir)
{
    struct move_tunnel *tunnel = tunnel_new();
    tunnel->server = *server;
    *server = NULL;
    (void)atl_copy(tunnel->dir, sizeof tunnel->dir, dir);
    start_thread(&tunnel->thread, accept_streams, tunnel);
    return tunnel;
}

enum atl_code move_tunnel_control(struct move_tunnel *tunnel, atl_ns deadline, struct atl_stream **ret_stream,
                                  struct atl_error *err)
{
    const struct timespec until = {.tv_sec = deadline / ATL_SECOND, .tv_nsec = deadline % ATL_SECOND};
    int rc = 0;
    (void)pthread_mutex_lock(&tunnel->lock);
    while (tunnel->control == NULL && rc == 0)
        rc = pthread_cond_timedwait(&tunnel->come, &tunnel->lock, &until);
    *ret_stream = tunnel->control;
    tunnel->control = NULL;
    (void)pthread_mutex_unlock(&tunnel->lock);
    return *ret_stream != NULL ? ATL_OK
                               : atl_fail(err, ATL_E_DEADLINE, NULL, "the other node did not connect");
}

/* --- both -------------------------------------------------------------------------------------------------
 */

uint64_t move_tunnel_sent(const struct move_tunnel *tunnel)
{
    return tunnel != NULL ? atomic_load(&tunnel->count.sent) : 0;
}

void move_tunnel_close(struct move_tunnel **pointer)
{
    struct move_tunnel *tunnel = *pointer;
    *pointer = NULL;
    if (tunnel == NULL)
        return;
    atomic_store(&tunnel->closing, true);
    if (tunnel->server != NULL)
        atl_stream_server_abort(tunnel->server);
    if (tunnel->listener >= 0)
        (void)shutdown(tunnel->listener, SHUT_RDWR); /* wakes who waits for QEMU */
    (void)pthread_join(tunnel->thread, NULL);
    for (size_t i = 0; i < tunnel->pipe_count; i++) {
        atl_stream_abort(tunnel->pipes[i].stream);
        (void)pthread_join(tunnel->pipes[i].thread, NULL);
        atl_stream_close(&tunnel->pipes[i].stream);
        (void)close(tunnel->pipes[i].fd); /* it was cut already */
    }
    atl_stream_close(&tunnel->control);
    atl_stream_server_close(&tunnel->server);
    if (tunnel->listener >= 0) {
        (void)close(tunnel->listener); /* nobody waits there any more */
        (void)unlink(tunnel->path);
    }
    (void)pthread_cond_destroy(&tunnel->come);
    (void)pthread_mutex_destroy(&tunnel->lock);
    free(tunnel);
}
