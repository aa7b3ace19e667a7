/* Bytes both ways between a stream and a socket, and relays: threads that do nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/stream_internal.h"

enum { WAY_SIZE = 1 << 18 };
#define DRAIN_TIME (10 * ATL_SECOND)

struct way {
    uint8_t bytes[WAY_SIZE];
    size_t from; /* first byte that has not gone on */
    size_t size; /* end of what has come */
    bool ended;  /* nothing more comes */
    bool closed; /* and whoever takes it knows */
};

struct pump {
    struct atl_stream *stream;
    int fd;
    struct atl_stream_count *count;
    struct way out;      /* socket to stream */
    struct way in;       /* stream to socket */
    short stream_events; /* what the stream waits for */
    short fd_events;
    bool gone;      /* nobody reads the socket any more: what still comes is dropped */
    atl_ns drained; /* gone: until then */
    bool moved;     /* something went on in this round */
};

static bool is_empty(const struct way *way)
{
    return way->from == way->size;
}

static enum atl_code socket_broke(struct atl_error *err)
{
    return atl_fail(err, ATL_E_IO, NULL, "the local side of a stream broke: %s", strerror(errno));
}

/* As many records as have come and fit. */
static enum atl_code take_from_stream(struct pump *pump, struct atl_error *err)
{
    struct way *way = &pump->in;
    enum stream_step step = STREAM_MOVED;
    size_t size = 0;
    if (way->ended || !is_empty(way))
        return ATL_OK;
    while (step == STREAM_MOVED && size < sizeof way->bytes) {
        size_t got = 0;
        step = stream_try_read(pump->stream, way->bytes + size, sizeof way->bytes - size, &got,
                               &pump->stream_events);
        size += step == STREAM_MOVED ? got : 0;
        if (step == STREAM_MOVED && SSL_has_pending(pump->stream->ssl) == 0)
            break;
    }
    if (step == STREAM_BROKEN && size == 0) /* what has come before goes on first */
        return stream_broke(pump->stream, err);
    way->from = 0;
    way->size = pump->gone ? 0 : size;
    way->ended = step == STREAM_END;
    pump->moved = pump->moved || size > 0 || way->ended;
    atomic_fetch_add(&pump->count->received, size);
    if (way->ended)
        atomic_store(&pump->count->complete, true);
    return ATL_OK;
}

static enum atl_code give_to_socket(struct pump *pump, struct atl_error *err)
{
    struct way *way = &pump->in;
    if (is_empty(way)) {
        if (way->ended && !way->closed) {
            (void)shutdown(pump->fd, SHUT_WR); /* fails where nobody is there to be told */
            way->closed = true;
        }
        return ATL_OK;
    }
    ssize_t put = send(pump->fd, way->bytes + way->from, way->size - way->from, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && (errno == EPIPE || errno == ECONNRESET) && pump->out.ended) {
        way->from = way->size; /* it has said all it had to say and left */
        return ATL_OK;
    }
    if (put < 0 && errno != EAGAIN && errno != EINTR)
        return socket_broke(err);
    if (put > 0) {
        way->from += (size_t)put;
        pump->moved = true;
    } else {
        pump->fd_events |= POLLOUT;
    }
    return ATL_OK;
}

static enum atl_code take_from_socket(struct pump *pump, struct atl_error *err)
{
    struct way *way = &pump->out;
    if (way->ended || !is_empty(way))
        return ATL_OK;
    ssize_t got = recv(pump->fd, way->bytes, sizeof way->bytes, MSG_DONTWAIT);
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        return socket_broke(err);
    if (got < 0) {
        pump->fd_events |= POLLIN;
        return ATL_OK;
    }
    way->from = 0;
    way->size = (size_t)got;
    way->ended = got == 0;
    pump->moved = true;
    return ATL_OK;
}

static enum atl_code give_to_stream(struct pump *pump, struct atl_error *err)
{
    struct way *way = &pump->out;
    enum stream_step step = STREAM_MOVED;
    short events = 0;
    while (step == STREAM_MOVED && !is_empty(way)) { /* a record at a time */
        size_t put = 0;
        step = stream_try_write(pump->stream, way->bytes + way->from, way->size - way->from, &put, &events);
        if (step != STREAM_MOVED)
            break;
        way->from += put;
        atomic_fetch_add(&pump->count->sent, put);
        pump->moved = true;
    }
    if (is_empty(way) && way->ended && !way->closed) {
        step = stream_try_finish(pump->stream, &events);
        way->closed = step == STREAM_MOVED;
        pump->moved = pump->moved || way->closed;
    }
    if (step == STREAM_WAIT)
        pump->stream_events |= events;
    return step == STREAM_MOVED || step == STREAM_WAIT ? ATL_OK : stream_broke(pump->stream, err);
}

static enum atl_code turn(struct pump *pump, struct atl_error *err)
{
    pump->moved = false;
    pump->stream_events = 0;
    pump->fd_events = 0;
    enum atl_code code = take_from_stream(pump, err);
    if (code == ATL_OK)
        code = give_to_socket(pump, err);
    if (code == ATL_OK)
        code = take_from_socket(pump, err);
    if (code == ATL_OK)
        code = give_to_stream(pump, err);
    return code;
}

/* Nothing can go on before one of the two is ready. */
static enum atl_code rest(struct pump *pump, struct atl_error *err)
{
    struct pollfd fds[] = {
        {.fd = pump->stream->fd, .events = pump->stream_events},
        {.fd = pump->gone ? -1 : pump->fd, .events = pump->fd_events},
        {.fd = pump->stream->stop, .events = POLLIN},
    };
    if (pump->stream_events == 0)
        fds[0].fd = -1; /* all it can do waits for the socket */
    if (poll(fds, ATL_COUNT(fds), pump->gone ? 1000 : 60000) < 0 && errno != EINTR)
        return atl_fail(err, ATL_E_IO, NULL, "cannot wait for a stream: %s", strerror(errno));
    if (fds[2].revents != 0 || atomic_load(&pump->stream->aborted))
        return atl_fail(err, ATL_E_CANCELLED, NULL, "the stream was called off");
    if ((fds[1].revents & (POLLHUP | POLLERR)) != 0 && pump->out.ended) {
        pump->gone = true;
        pump->in.from = pump->in.size;
        pump->drained = atl_clock_monotonic() + DRAIN_TIME;
    }
    if (pump->gone && atl_clock_monotonic() > pump->drained)
        return atl_fail(err, ATL_E_DEADLINE, NULL, "the other node goes on sending what nobody takes");
    return ATL_OK;
}

enum atl_code atl_stream_pump(struct atl_stream *stream, int fd, struct atl_stream_count *count,
                              struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return socket_broke(err);
    ATL_FREE_AT_EXIT struct pump *pump = atl_new0(struct pump);
    struct atl_stream_count own = {0};
    pump->count = count != NULL ? count : &own;
    pump->stream = stream;
    pump->fd = fd;
    while (code == ATL_OK && (!pump->in.closed || !pump->out.closed)) {
        code = turn(pump, err);
        if (code == ATL_OK && !pump->moved && (!pump->in.closed || !pump->out.closed))
            code = rest(pump, err);
    }
    if (code != ATL_OK)
        atl_stream_abort(stream); /* the other side must not wait for more */
    return code;
}

/* --- relays --- */

struct atl_stream_relay {
    pthread_t thread;
    bool has_thread;
    int fd;
    int stop; /* an eventfd */
    atl_ns deadline;
    struct atl_stream_offer offer;    /* of one that connects */
    struct atl_stream_server *server; /* of one that accepts, else NULL */
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
    struct atl_stream_count count;
    struct atl_error err; /* readable once ended is set */
    atomic_bool ended;
};

static enum atl_code meet(struct atl_stream_relay *relay, struct atl_stream **ret_stream,
                          struct atl_error *err)
{
    const struct atl_stream_wait wait = {relay->deadline, relay->stop};
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
    if (relay->server == NULL)
        return atl_stream_connect_until(&relay->offer, relay->channel, &wait, ret_stream, err);
    for (;;) {
        struct atl_stream *stream = NULL;
        enum atl_code code = atl_stream_accept_until(relay->server, &wait, &stream, channel, err);
        if (code != ATL_OK)
            return code;
        if (strcmp(channel, relay->channel) == 0) {
            *ret_stream = stream;
            return ATL_OK;
        }
        atl_stream_close(&stream);
    }
}

static void *run(void *user)
{
    struct atl_stream_relay *relay = user;
    struct atl_stream *stream = NULL;
    struct atl_error err = {0};
    enum atl_code code = meet(relay, &stream, &err);
    atl_stream_server_close(&relay->server);
    if (code == ATL_OK)
        code = atl_stream_pump(stream, relay->fd, &relay->count, &err);
    atl_stream_close(&stream);
    relay->err = err;
    relay->err.code = code;
    atomic_store(&relay->ended, true);
    (void)shutdown(relay->fd, SHUT_RDWR); /* whoever has the other end sees it */
    (void)close(relay->fd);
    return NULL;
}

/* Nobody pumps: who has the other end of fd sees its end at once. */
static void never_started(struct atl_stream_relay *relay, int error)
{
    (void)atl_fail(&relay->err, ATL_E_LIMIT, NULL, "no thread for a stream: %s", strerror(error));
    atl_stream_server_close(&relay->server);
    (void)close(relay->fd);
    atomic_store(&relay->ended, true);
}

static struct atl_stream_relay *start(struct atl_stream_relay *relay, const char *channel, atl_ns deadline,
                                      int *fd)
{
    sigset_t all;
    sigset_t before;
    relay->deadline = deadline;
    relay->fd = ATL_STEAL_FD(*fd);
    relay->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool fits = atl_copy(relay->channel, sizeof relay->channel, channel);
    atl_assert(fits);
    if (relay->stop < 0) {
        never_started(relay, errno);
        return relay;
    }
    (void)sigfillset(&all); /* signals are for the loop's thread */
    int blocked = pthread_sigmask(SIG_SETMASK, &all, &before);
    atl_assert(blocked == 0);
    int error = pthread_create(&relay->thread, NULL, run, relay);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* as it was */
    relay->has_thread = error == 0;
    if (!relay->has_thread)
        never_started(relay, error);
    return relay;
}

struct atl_stream_relay *atl_stream_relay_connect(const struct atl_stream_offer *offer, const char *channel,
                                                  atl_ns deadline, int *fd)
{
    struct atl_stream_relay *relay = atl_new0(struct atl_stream_relay);
    relay->offer = *offer;
    return start(relay, channel, deadline, fd);
}

struct atl_stream_relay *atl_stream_relay_accept(struct atl_stream_server **server, const char *channel,
                                                 atl_ns deadline, int *fd)
{
    struct atl_stream_relay *relay = atl_new0(struct atl_stream_relay);
    relay->server = ATL_STEAL(*server);
    return start(relay, channel, deadline, fd);
}

bool atl_stream_relay_ended(const struct atl_stream_relay *relay, struct atl_error *err)
{
    if (!atomic_load(&relay->ended))
        return false;
    *err = relay->err;
    return true;
}

bool atl_stream_relay_complete(const struct atl_stream_relay *relay)
{
    return atomic_load(&relay->count.complete);
}

void atl_stream_relay_free(struct atl_stream_relay **pointer)
{
    struct atl_stream_relay *relay = *pointer;
    uint64_t one = 1;
    *pointer = NULL;
    if (relay == NULL)
        return;
    if (relay->has_thread) {
        ssize_t put = write(relay->stop, &one, sizeof one);
        atl_assert(put == (ssize_t)sizeof one);
        int error = pthread_join(relay->thread, NULL);
        atl_assert(error == 0);
    }
    if (relay->stop >= 0)
        (void)close(relay->stop);
    OPENSSL_cleanse(&relay->offer, sizeof relay->offer);
    free(relay);
}
