/* Streams over unix sockets. */
#include "io/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "pure/buf.h"

enum { BACKLOG = 128, ERROR_TEXT_MAX = 64 };
#define OFFER_LIFE (30 * ATL_SECOND)
#define TOKEN_TIME (5 * ATL_SECOND) /* from connecting to the last byte of the token */
#define TICK       (250 * ATL_MS)

struct offer {
    struct offer *next;
    uint8_t token[ATL_STREAM_TOKEN_SIZE];
    atl_ns expires;
    const struct atl_stream_events *events;
    void *user;
};

struct atl_stream {
    struct atl_stream *next; /* of the listener's */
    struct atl_stream *previous;
    struct atl_streams *streams; /* NULL: we connected */
    struct atl_loop *loop;
    int fd;
    struct atl_watch *watch; /* NULL while there is nothing to wait for: a hangup cannot be waited away */
    struct atl_timer *opening;
    const struct atl_stream_events *events; /* NULL: its token has not come yet */
    void *user;
    atl_ns last_byte;
    uint8_t *in; /* ATL_STREAM_CHUNK bytes */
    size_t in_start;
    size_t in_end;
    struct atl_buf out;
    size_t out_start;
    bool paused; /* on_data took less than all */
    bool ended;  /* the peer sends no more */
    bool end_told;
    bool finishing; /* we send no more */
    bool finished;
    bool wants_room;
    bool busy; /* in a callback: freed afterwards */
    bool dead;
};

struct atl_streams {
    struct atl_loop *loop;
    char *path;
    int fd;
    struct atl_watch *watch;
    struct atl_timer *tick;
    struct offer *offers;
    size_t offer_count;
    struct atl_stream *first;
    size_t count;
    atl_ns offer_life;
    atl_ns idle;
};

/* --- one end --- */

static void unlink_stream(struct atl_stream *stream)
{
    struct atl_streams *streams = stream->streams;
    if (streams == NULL)
        return;
    if (stream->previous != NULL)
        stream->previous->next = stream->next;
    else
        streams->first = stream->next;
    if (stream->next != NULL)
        stream->next->previous = stream->previous;
    streams->count--;
    stream->streams = NULL;
}

static void free_stream(struct atl_stream *stream)
{
    atl_buf_done(&stream->out);
    free(stream->in);
    free(stream);
}

/* The connection is over; the memory stays until whoever is busy with it leaves. */
static void bury(struct atl_stream *stream)
{
    if (stream->dead)
        return;
    stream->dead = true;
    unlink_stream(stream);
    atl_watch_free(stream->watch);
    stream->watch = NULL;
    atl_timer_free(stream->opening);
    stream->opening = NULL;
    (void)close(stream->fd);
    stream->fd = -1;
}

void atl_stream_close(struct atl_stream *stream)
{
    if (stream == NULL || stream->dead)
        return;
    bury(stream);
    if (!stream->busy)
        free_stream(stream);
}

/* Tells, and buries; for one that is marked busy. */
static void fail(struct atl_stream *stream, enum atl_code code)
{
    const struct atl_stream_events *events = stream->events;
    if (events != NULL && events->on_error != NULL && !stream->dead)
        events->on_error(stream, code, stream->user);
    bury(stream);
}

static void ready(void *user, unsigned int events);

/* Waits for just what can go on. */
static void rearm(struct atl_stream *stream)
{
    if (stream->dead)
        return;
    unsigned int events = 0;
    if (!stream->ended && !stream->paused && stream->in_end < ATL_STREAM_CHUNK)
        events |= ATL_READ;
    if (stream->out.length > stream->out_start)
        events |= ATL_WRITE;
    if (events == 0) {
        atl_watch_free(stream->watch);
        stream->watch = NULL;
    } else if (stream->watch == NULL) {
        stream->watch = atl_loop_fd(stream->loop, stream->fd, events, ready, stream);
    } else {
        atl_watch_set(stream->watch, events);
    }
}

static struct atl_stream *new_stream(struct atl_loop *loop, int fd)
{
    struct atl_stream *stream = atl_new0(struct atl_stream);
    stream->loop = loop;
    stream->fd = fd;
    stream->in = atl_alloc0(ATL_STREAM_CHUNK);
    stream->last_byte = atl_clock_monotonic();
    return stream;
}

/* Writes what waits; false: it broke. */
static bool flush(struct atl_stream *stream)
{
    while (stream->out.length > stream->out_start) {
        ssize_t sent = send(stream->fd, stream->out.data + stream->out_start,
                            stream->out.length - stream->out_start, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN;
        stream->out_start += (size_t)sent;
        stream->last_byte = atl_clock_monotonic();
    }
    stream->out_start = 0;
    atl_buf_reset(&stream->out);
    if (stream->finishing && !stream->finished) {
        stream->finished = true;
        (void)shutdown(stream->fd, SHUT_WR); /* fails when the peer is gone, which reading tells */
    }
    return true;
}

size_t atl_stream_write(struct atl_stream *stream, const void *bytes, size_t size)
{
    atl_assert(!stream->finishing);
    if (stream->dead)
        return size; /* closed by the caller itself: dropped */
    size_t waiting = stream->out.length - stream->out_start;
    size_t room = ATL_STREAM_BUFFER > waiting ? ATL_STREAM_BUFFER - waiting : 0;
    size_t taken = size < room ? size : room;
    if (stream->out_start > 0) {
        memmove(stream->out.data, stream->out.data + stream->out_start, waiting);
        stream->out.length = waiting;
        stream->out_start = 0;
    }
    atl_buf_add(&stream->out, bytes, taken);
    stream->wants_room = taken < size;
    (void)flush(stream); /* if it broke, the watch for writing says so from the loop */
    rearm(stream);
    return taken;
}

void atl_stream_finish(struct atl_stream *stream)
{
    if (stream->dead || stream->finishing)
        return;
    stream->finishing = true;
    (void)flush(stream); /* as above */
    rearm(stream);
}

/* --- handing over --- */

/* Which offer has this token? Looks at all of them, so that the time tells nothing. */
static struct offer **find_offer(struct atl_streams *streams, const uint8_t *token)
{
    struct offer **found = NULL;
    for (struct offer **link = &streams->offers; *link != NULL; link = &(*link)->next)
        if (atl_equal_secret((*link)->token, token, ATL_STREAM_TOKEN_SIZE))
            found = link;
    return found;
}

static void drop_offer(struct atl_streams *streams, struct offer **link)
{
    struct offer *offer = *link;
    *link = offer->next;
    explicit_bzero(offer->token, sizeof offer->token);
    free(offer);
    streams->offer_count--;
}

/* The token of a new connection, as soon as all of it is there. false: it was wrong, the stream is gone. */
static bool take_token(struct atl_stream *stream)
{
    static const char refused[] = "ERROR there is no such offer, or its time is over\n";
    struct offer **link = find_offer(stream->streams, stream->in);
    if (link == NULL || (*link)->expires <= atl_clock_monotonic()) {
        (void)send(stream->fd, refused, sizeof refused - 1,
                   MSG_NOSIGNAL | MSG_DONTWAIT); /* it may not listen */
        bury(stream);
        return false;
    }
    stream->in_start = ATL_STREAM_TOKEN_SIZE;
    stream->events = (*link)->events;
    stream->user = (*link)->user;
    drop_offer(stream->streams, link);
    if (stream->events->on_open != NULL)
        stream->events->on_open(stream, stream->user);
    return !stream->dead;
}

/* Hands over what is there, then the end. Leaves when a callback closed the stream. */
static void hand_over(struct atl_stream *stream)
{
    if (stream->events == NULL) {
        if (stream->in_end < ATL_STREAM_TOKEN_SIZE) {
            if (stream->ended)
                bury(stream);
            return;
        }
        if (!take_token(stream))
            return;
    }
    if (!stream->paused && stream->in_end > stream->in_start) {
        size_t size = stream->in_end - stream->in_start;
        size_t taken = stream->events->on_data(stream, stream->in + stream->in_start, size, stream->user);
        if (stream->dead)
            return;
        atl_assert(taken <= size);
        stream->paused = taken < size;
        stream->in_start += taken;
    }
    if (stream->in_start == stream->in_end)
        stream->in_start = stream->in_end = 0;
    if (stream->ended && !stream->end_told && stream->in_end == 0) {
        stream->end_told = true;
        if (stream->events->on_end != NULL)
            stream->events->on_end(stream, stream->user);
    }
}

/* Reads once. false: it broke. */
static bool fill(struct atl_stream *stream)
{
    ssize_t got =
        recv(stream->fd, stream->in + stream->in_end, ATL_STREAM_CHUNK - stream->in_end, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    stream->ended = got == 0;
    stream->in_end += (size_t)got;
    stream->last_byte = atl_clock_monotonic();
    return true;
}

static void leave(struct atl_stream *stream)
{
    stream->busy = false;
    if (stream->dead)
        free_stream(stream);
    else
        rearm(stream);
}

static void ready(void *user, unsigned int events)
{
    struct atl_stream *stream = user;
    stream->busy = true;
    bool good = true;
    if ((events & (ATL_WRITE | ATL_HANGUP)) && stream->out.length > stream->out_start)
        good = flush(stream);
    if (good && stream->wants_room && stream->out.length == stream->out_start) {
        stream->wants_room = false;
        if (stream->events != NULL && stream->events->on_room != NULL)
            stream->events->on_room(stream, stream->user);
    }
    if (good && !stream->dead && (events & ATL_READ) && !stream->ended && !stream->paused &&
        stream->in_end < ATL_STREAM_CHUNK) {
        good = fill(stream);
        if (good)
            hand_over(stream);
    }
    if (!good)
        fail(stream, ATL_E_UNAVAILABLE);
    leave(stream);
}

void atl_stream_resume(struct atl_stream *stream)
{
    if (stream->dead || !stream->paused)
        return;
    stream->paused = false;
    if (stream->busy)
        return; /* the round that is under way goes on reading */
    stream->busy = true;
    hand_over(stream);
    leave(stream);
}

/* --- the listener --- */

static void tick(void *user);

static void ensure_tick(struct atl_streams *streams)
{
    if (streams->tick == NULL)
        streams->tick = atl_loop_timer(streams->loop, TICK, TICK, tick, streams);
}

static void expire_offers(struct atl_streams *streams, atl_ns now)
{
    for (struct offer **link = &streams->offers; *link != NULL;) {
        const struct offer *offer = *link;
        if (offer->expires > now) {
            link = &(*link)->next;
            continue;
        }
        const struct atl_stream_events *events = offer->events;
        void *user = offer->user;
        drop_offer(streams, link);
        if (events->on_error != NULL)
            events->on_error(NULL, ATL_E_DEADLINE, user);
        link = &streams->offers; /* the callback may have changed the list */
    }
}

static void tick(void *user)
{
    struct atl_streams *streams = user;
    atl_ns now = atl_clock_monotonic();
    expire_offers(streams, now);
    atl_watch_set(streams->watch, ATL_READ);
    for (struct atl_stream *stream = streams->first; stream != NULL;) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): one that was freed below is no longer in the list */
        atl_ns longest = stream->events == NULL ? TOKEN_TIME : streams->idle;
        if (longest == 0 || now - stream->last_byte < longest) {
            stream = stream->next;
            continue;
        }
        stream->busy = true;
        fail(stream, ATL_E_DEADLINE);
        free_stream(stream);
        stream = streams->first; /* the callback may have changed the list */
    }
    if (streams->offers != NULL || streams->first != NULL)
        return;
    atl_timer_free(streams->tick);
    streams->tick = NULL;
}

static void accept_one(void *user, unsigned int events)
{
    (void)events;
    struct atl_streams *streams = user;
    int fd = accept4(streams->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        atl_watch_set(streams->watch, 0); /* no descriptor is free: the tick tries again */
        ensure_tick(streams);
    }
    if (fd < 0)
        return; /* gone again */
    if (streams->count >= ATL_STREAMS_MAX) {
        (void)close(fd);
        return;
    }
    struct atl_stream *stream = new_stream(streams->loop, fd);
    stream->streams = streams;
    stream->next = streams->first;
    if (streams->first != NULL)
        streams->first->previous = stream;
    streams->first = stream;
    streams->count++;
    ensure_tick(streams);
    rearm(stream);
}

static enum atl_code listen_at(struct atl_streams *streams, struct atl_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!atl_copy(address.sun_path, sizeof address.sun_path, streams->path))
        return atl_fail(err, ATL_E_INVALID, "run-dir", "'%s' is too long for the path of a socket",
                        streams->path);
    streams->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(streams->path); /* of an instance before us; bind says if it could not be removed */
    /* The folder says who may connect; the socket itself must not depend on our umask. */
    if (streams->fd < 0 || bind(streams->fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(streams->path, 0666) != 0 || listen(streams->fd, BACKLOG) != 0)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot listen on '%s': %s", streams->path,
                        strerror(errno));
    streams->watch = atl_loop_fd(streams->loop, streams->fd, ATL_READ, accept_one, streams);
    return ATL_OK;
}

static enum atl_code make_folders(const struct atl_streams_options *options, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *above = atl_format("%s/streams", options->run_dir);
    ATL_FREE_AT_EXIT char *own = atl_format("%s/streams/%s", options->run_dir, options->service);
    if ((mkdir(above, 0755) != 0 && errno != EEXIST) || (mkdir(own, 0755) != 0 && errno != EEXIST))
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot make '%s': %s", own, strerror(errno));
    return ATL_OK;
}

enum atl_code atl_streams_open(const struct atl_streams_options *options, struct atl_streams **ret_streams,
                               struct atl_error *err)
{
    enum atl_code code = options->make_folder ? make_folders(options, err) : ATL_OK;
    if (code != ATL_OK)
        return code;
    struct atl_streams *streams = atl_new0(struct atl_streams);
    streams->loop = options->loop;
    streams->fd = -1;
    streams->path = atl_format("%s/streams/%s/stream.sock", options->run_dir, options->service);
    streams->offer_life = options->offer_life > 0 ? options->offer_life : OFFER_LIFE;
    streams->idle = options->idle;
    code = listen_at(streams, err);
    if (code != ATL_OK) {
        atl_streams_close(&streams);
        return code;
    }
    *ret_streams = streams;
    return ATL_OK;
}

void atl_streams_close(struct atl_streams **pointer)
{
    struct atl_streams *streams = *pointer;
    *pointer = NULL;
    if (streams == NULL)
        return;
    struct atl_stream *next = NULL;
    for (struct atl_stream *stream = streams->first; stream != NULL; stream = next) {
        next = stream->next;
        atl_stream_close(stream);
    }
    while (streams->offers != NULL)
        drop_offer(streams, &streams->offers);
    atl_timer_free(streams->tick);
    atl_watch_free(streams->watch);
    if (streams->fd >= 0)
        (void)close(streams->fd);
    free(streams->path);
    free(streams);
}

const char *atl_streams_path(const struct atl_streams *streams)
{
    return streams->path;
}

enum atl_code atl_stream_offer(struct atl_streams *streams, const struct atl_stream_events *events,
                               void *user, uint8_t ret_token[ATL_STREAM_TOKEN_SIZE], struct atl_error *err)
{
    atl_assert(events->on_data != NULL);
    if (streams->offer_count >= ATL_STREAM_OFFERS_MAX || streams->count >= ATL_STREAMS_MAX)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "too many streams are open, try again later");
    struct offer *offer = atl_new0(struct offer);
    ssize_t got = -1;
    do
        got = getrandom(offer->token, sizeof offer->token, 0);
    while (got < 0 && errno == EINTR);
    atl_assert(got == (ssize_t)sizeof offer->token);
    offer->expires = atl_clock_monotonic() + streams->offer_life;
    offer->events = events;
    offer->user = user;
    offer->next = streams->offers;
    streams->offers = offer;
    streams->offer_count++;
    ensure_tick(streams);
    memcpy(ret_token, offer->token, sizeof offer->token);
    return ATL_OK;
}

bool atl_stream_withdraw(struct atl_streams *streams, const uint8_t token[ATL_STREAM_TOKEN_SIZE])
{
    struct offer **link = find_offer(streams, token);
    if (link != NULL)
        drop_offer(streams, link);
    return link != NULL;
}

/* --- connecting --- */

static void opened(void *user)
{
    struct atl_stream *stream = user;
    stream->opening = NULL; /* it frees itself */
    stream->busy = true;
    if (stream->events->on_open != NULL)
        stream->events->on_open(stream, stream->user);
    leave(stream);
}

enum atl_code atl_stream_connect(struct atl_loop *loop, const char *path,
                                 const uint8_t token[ATL_STREAM_TOKEN_SIZE],
                                 const struct atl_stream_events *events, void *user,
                                 struct atl_stream **ret_stream, struct atl_error *err)
{
    atl_assert(events->on_data != NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!atl_copy(address.sun_path, sizeof address.sun_path, path))
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is too long for the path of a socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make a socket: %s", strerror(errno));
    /* A unix socket connects at once or not at all; the fresh socket takes a token whole. */
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        send(fd, token, ATL_STREAM_TOKEN_SIZE, MSG_NOSIGNAL) != ATL_STREAM_TOKEN_SIZE) {
        int failed = errno;
        (void)close(fd);
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "cannot connect to '%s': %s", path, strerror(failed));
    }
    struct atl_stream *stream = new_stream(loop, fd);
    stream->events = events;
    stream->user = user;
    stream->opening = atl_loop_timer(loop, 0, 0, opened, stream);
    *ret_stream = stream;
    return ATL_OK;
}
