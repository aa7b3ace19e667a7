/* A gRPC server for tests that behaves as badly as the method's name says. */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "grpc/frame.h"

enum { CONNS_MAX = 64, HUGE_BYTES = 100000 };

struct peer;

struct stream {
    struct stream *next;
    struct peer *peer;
    int32_t id;
    char method[32];
    struct atl_buf in;
    struct atl_buf out;
    size_t out_sent;
    bool last;    /* nothing follows behind `out` */
    bool trailer; /* grpc-status 0 behind it */
    bool slow;    /* one byte at a time */
    bool answered;
};

struct peer {
    struct test_server *server;
    int fd;
    nghttp2_session *session;
    struct atl_watch *watch;
    struct stream *streams;
    struct atl_buf out;
    size_t sent;
    bool goaway;
};

struct test_server {
    struct atl_loop *loop;
    int fd;
    char endpoint[32];
    uint16_t port;
    struct atl_watch *watch;
    struct peer *peers[CONNS_MAX];
    bool mute;
    unsigned int requests;
    unsigned int connections;
    unsigned int refused;
    char timeout[32];
};

static void peer_free(struct peer *peer)
{
    if (peer == NULL)
        return;
    for (size_t i = 0; i < CONNS_MAX; i++)
        if (peer->server->peers[i] == peer)
            peer->server->peers[i] = NULL;
    atl_watch_free(peer->watch);
    nghttp2_session_del(peer->session);
    atl_buf_done(&peer->out);
    (void)close(peer->fd);
    while (peer->streams != NULL) {
        struct stream *stream = peer->streams;
        peer->streams = stream->next;
        atl_buf_done(&stream->in);
        atl_buf_done(&stream->out);
        free(stream);
    }
    free(peer);
}

static void peer_flush(struct peer *peer)
{
    bool blocked = false;
    while (!peer->server->mute && !blocked) {
        if (peer->sent == peer->out.length) {
            const uint8_t *bytes = NULL;
            ssize_t size = nghttp2_session_mem_send(peer->session, &bytes);
            if (size <= 0)
                break;
            atl_buf_reset(&peer->out);
            peer->sent = 0;
            atl_buf_add(&peer->out, bytes, (size_t)size);
        }
        ssize_t rc = send(peer->fd, peer->out.data + peer->sent, peer->out.length - peer->sent, MSG_NOSIGNAL);
        if (rc < 0 && errno != EAGAIN)
            return; /* reading tells the same */
        blocked = rc < 0;
        peer->sent += rc > 0 ? (size_t)rc : 0;
    }
    atl_watch_set(peer->watch, ATL_READ | (blocked ? ATL_WRITE : 0u));
}

static ssize_t read_out(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                        nghttp2_data_source *source, void *user)
{
    (void)user;
    struct stream *stream = source->ptr;
    size_t size = stream->out.length - stream->out_sent;
    if (size == 0 && !stream->last)
        return NGHTTP2_ERR_DEFERRED;
    if (stream->slow && size > 1)
        room = 1;
    if (size > room)
        size = room;
    if (size > 0)
        memcpy(to, stream->out.data + stream->out_sent, size);
    stream->out_sent += size;
    if (stream->out_sent == stream->out.length && stream->last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->trailer) {
            const nghttp2_nv status = {(uint8_t *)(uintptr_t) "grpc-status", (uint8_t *)(uintptr_t) "0", 11,
                                       1, NGHTTP2_NV_FLAG_NONE};
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            (void)nghttp2_submit_trailer(session, id, &status, 1);
        }
    }
    return (ssize_t)size;
}

static nghttp2_nv nv(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NONE};
}

static void respond(struct stream *stream, const char *status, const char *extra_name, const char *extra)
{
    nghttp2_nv fields[3] = {nv(":status", status), nv("content-type", "application/grpc")};
    size_t count = 2;
    if (extra != NULL)
        fields[count++] = nv(extra_name, extra);
    const nghttp2_data_provider body = {.source.ptr = stream, .read_callback = read_out};
    (void)nghttp2_submit_response(stream->peer->session, stream->id, fields, count, &body);
    stream->answered = true;
}

static void trailers_only(struct stream *stream)
{
    const nghttp2_nv fields[] = {nv(":status", "200"), nv("content-type", "application/grpc"),
                                 nv("grpc-status", "9"), nv("grpc-message", "not%20so: %C3%A4 %zz%")};
    (void)nghttp2_submit_response(stream->peer->session, stream->id, fields, 4, NULL);
}

static void answer(struct stream *stream)
{
    struct peer *peer = stream->peer;
    const char *method = stream->method;
    stream->last = true;
    stream->trailer = true;
    if (strcmp(method, "/t/Refuse") == 0 && peer->server->refused++ < 2) {
        (void)nghttp2_submit_rst_stream(peer->session, 0, stream->id, NGHTTP2_REFUSED_STREAM);
    } else if (strcmp(method, "/t/Reset") == 0) {
        (void)nghttp2_submit_rst_stream(peer->session, 0, stream->id, NGHTTP2_INTERNAL_ERROR);
    } else if (strcmp(method, "/t/Fail") == 0) {
        trailers_only(stream);
    } else if (strcmp(method, "/t/Hang") == 0) {
        return;
    } else if (strcmp(method, "/t/Gone") == 0) {
        peer->goaway = true;
        (void)nghttp2_submit_goaway(peer->session, 0, stream->id > 2 ? stream->id - 2 : 0, NGHTTP2_NO_ERROR,
                                    NULL, 0);
    } else if (strcmp(method, "/t/Close") == 0) {
        (void)shutdown(peer->fd, SHUT_RDWR);
    } else if (strcmp(method, "/t/Unavailable") == 0) {
        stream->trailer = false;
        respond(stream, "503", NULL, NULL);
    } else if (strcmp(method, "/t/Huge") == 0) {
        char *huge = atl_alloc0(HUGE_BYTES + 1);
        memset(huge, 'h', HUGE_BYTES);
        respond(stream, "200", "x-huge", huge);
        free(huge);
    } else if (strcmp(method, "/t/Half") == 0) {
        atl_buf_add(&stream->out, stream->in.data, stream->in.length - 1);
        respond(stream, "200", NULL, NULL);
    } else if (strcmp(method, "/t/TooBig") == 0) {
        atl_buf_add(&stream->out, "\0\x7f\0\0\0abc", 8);
        respond(stream, "200", NULL, NULL);
    } else if (strcmp(method, "/t/Packed") == 0) {
        atl_buf_add(&stream->out, "\1\0\0\0\1a", 6);
        respond(stream, "200", NULL, NULL);
    } else {
        stream->trailer = strcmp(method, "/t/NoTrailer") != 0;
        stream->slow = strcmp(method, "/t/Slow") == 0;
        atl_buf_add(&stream->out, stream->in.data, stream->in.length);
        respond(stream, "200", NULL, NULL);
    }
}

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct peer *peer = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct stream *stream = atl_new0(struct stream);
    stream->peer = peer;
    stream->id = frame->hd.stream_id;
    stream->next = peer->streams;
    peer->streams = stream;
    return nghttp2_session_set_stream_user_data(session, stream->id, stream);
}

/* NOLINTNEXTLINE(readability-function-size): nghttp2's table says what it is given */
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *user)
{
    (void)flags;
    struct peer *peer = user;
    struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (stream != NULL && length == 5 && memcmp(name, ":path", 5) == 0)
        (void)snprintf(stream->method, sizeof stream->method, "%.*s", (int)value_length, (const char *)value);
    if (length == 12 && memcmp(name, "grpc-timeout", 12) == 0)
        (void)snprintf(peer->server->timeout, sizeof peer->server->timeout, "%.*s", (int)value_length,
                       (const char *)value);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t size,
                   void *user)
{
    (void)flags;
    (void)user;
    struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
    atl_assert(stream != NULL);
    if (strcmp(stream->method, "/t/Stream") != 0) {
        atl_buf_add(&stream->in, bytes, size);
        return 0;
    }
    atl_buf_add(&stream->out, bytes, size);
    if (!stream->answered)
        respond(stream, "200", NULL, NULL);
    (void)nghttp2_session_resume_data(session, id);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct peer *peer = user;
    if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
        !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    atl_assert(stream != NULL);
    peer->server->requests++;
    if (strcmp(stream->method, "/t/Stream") == 0) {
        stream->last = true;
        stream->trailer = true;
        if (!stream->answered)
            respond(stream, "200", NULL, NULL);
        (void)nghttp2_session_resume_data(session, stream->id);
    } else {
        answer(stream);
    }
    return 0;
}

static void on_ready(void *user, unsigned int events)
{
    (void)events;
    struct peer *peer = user;
    uint8_t bytes[65536];
    ssize_t got = recv(peer->fd, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN) {
        peer_flush(peer);
        return;
    }
    if (got <= 0) {
        peer_free(peer);
        return;
    }
    if (peer->server->mute)
        return;
    if (nghttp2_session_mem_recv(peer->session, bytes, (size_t)got) < 0) {
        peer_free(peer);
        return;
    }
    peer_flush(peer);
    if (peer->goaway)
        peer_free(peer);
}

static void on_accept(void *user, unsigned int events)
{
    (void)events;
    struct test_server *server = user;
    int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    size_t at = 0;
    while (at < CONNS_MAX && server->peers[at] != NULL)
        at++;
    atl_assert(at < CONNS_MAX);
    struct peer *peer = atl_new0(struct peer);
    peer->server = server;
    peer->fd = fd;
    server->peers[at] = peer;
    server->connections++;
    nghttp2_session_callbacks *callbacks = NULL;
    (void)nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_option *option = NULL;
    (void)nghttp2_option_new(&option);
    nghttp2_option_set_max_send_header_block_length(option, 2 * HUGE_BYTES);
    (void)nghttp2_session_server_new2(&peer->session, callbacks, peer, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 32 << 20}};
    (void)nghttp2_submit_settings(peer->session, NGHTTP2_FLAG_NONE, settings, 1);
    (void)nghttp2_session_set_local_window_size(peer->session, NGHTTP2_FLAG_NONE, 0, 32 << 20);
    peer->watch = atl_loop_fd(server->loop, fd, ATL_READ, on_ready, peer);
    peer_flush(peer);
}

struct test_server *test_server_new(struct atl_loop *loop, uint16_t port)
{
    struct test_server *server = atl_new0(struct test_server);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    socklen_t size = sizeof address;
    int on = 1;
    server->loop = loop;
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int rc = bind(server->fd, (const struct sockaddr *)&address, sizeof address);
    atl_assert(rc == 0);
    rc = listen(server->fd, 16);
    atl_assert(rc == 0);
    (void)getsockname(server->fd, (struct sockaddr *)&address, &size);
    server->port = ntohs(address.sin_port);
    (void)snprintf(server->endpoint, sizeof server->endpoint, "127.0.0.1:%u", server->port);
    server->watch = atl_loop_fd(loop, server->fd, ATL_READ, on_accept, server);
    return server;
}

void test_server_free(struct test_server **pointer)
{
    struct test_server *server = *pointer;
    *pointer = NULL;
    if (server == NULL)
        return;
    for (size_t i = 0; i < CONNS_MAX; i++)
        peer_free(server->peers[i]);
    atl_watch_free(server->watch);
    (void)close(server->fd);
    free(server);
}

const char *test_server_endpoint(const struct test_server *server)
{
    return server->endpoint;
}

uint16_t test_server_port(const struct test_server *server)
{
    return server->port;
}

void test_server_mute(struct test_server *server)
{
    server->mute = true;
}

unsigned int test_server_requests(const struct test_server *server)
{
    return server->requests;
}

unsigned int test_server_connections(const struct test_server *server)
{
    return server->connections;
}

const char *test_server_timeout(const struct test_server *server)
{
    return server->timeout;
}
