/* One connection: socket, TLS, and the bytes between them and the HTTP/2 session. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "grpc/internal.h"

#define PONG        (500 * ATL_MS)   /* so soon a PING is answered where somebody is */
#define DOUBT_EVERY (6 * ATL_SECOND) /* etcd takes no more than one PING in 5 s */

enum { READ_BYTES = 64 << 10, READS_PER_ROUND = 32, OUT_BYTES = 256 << 10 };

enum io_result { IO_DONE, IO_AGAIN, IO_FAILED };

static void flush(struct grpc_conn *conn);

/* --- the end ------------------------------------------------------------------------------------------ */

void grpc_conn_free(struct grpc_conn *conn)
{
    atl_assert(conn->calls == NULL);
    atl_watch_free(conn->watch);
    atl_timer_free(conn->timer);
    atl_timer_free(conn->keepalive);
    atl_timer_free(conn->doubt);
    atl_timer_free(conn->flush);
    nghttp2_session_del(conn->session);
    SSL_free(conn->ssl);
    if (conn->fd >= 0)
        (void)close(conn->fd);
    atl_buf_done(&conn->out);
    free(conn->endpoint);
    free(conn->host);
    free(conn);
}

/* May come from deep within the session: the connection is only marked and leaves the loop; the channel frees
 * it when no callback runs any more. */
void grpc_conn_lose(struct grpc_conn *conn, const char *why)
{
    if (conn->lost)
        return;
    conn->lost = true;
    (void)snprintf(conn->why, sizeof conn->why, "%s", why);
    atl_watch_free(conn->watch);
    conn->watch = NULL;
    atl_timer_free(conn->timer);
    conn->timer = NULL;
    atl_timer_free(conn->keepalive);
    conn->keepalive = NULL;
    atl_timer_free(conn->doubt);
    conn->doubt = NULL;
    atl_timer_free(conn->flush);
    conn->flush = NULL;
    grpc_channel_leave(conn->channel, conn);
}

ATL_PRINTF(2, 3) static void lose(struct grpc_conn *conn, const char *format, ...)
{
    char text[ATL_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    grpc_conn_lose(conn, text);
}

static void on_timeout(void *user)
{
    struct grpc_conn *conn = user;
    struct atl_grpc *channel = conn->channel;
    conn->timer = NULL;
    grpc_enter(channel);
    if (conn->state == GRPC_DRAINING)
        lose(conn, "the connection was given up");
    else
        lose(conn, "no answer in time");
    grpc_leave(channel);
}

void grpc_conn_drain(struct grpc_conn *conn)
{
    if (conn->state == GRPC_DRAINING || conn->lost)
        return;
    bool was_ready = conn->state == GRPC_READY;
    conn->state = GRPC_DRAINING;
    grpc_channel_leave(conn->channel, conn);
    if (!was_ready || conn->calls == NULL) {
        lose(conn, "the connection is not needed any more");
        return;
    }
    atl_assert(conn->timer == NULL);
    conn->timer = atl_loop_timer(conn->channel->loop, GRPC_DRAIN, 0, on_timeout, conn);
}

/* --- reading and writing ------------------------------------------------------------------------------ */

static enum io_result tls_result(struct grpc_conn *conn, int rc)
{
    int error = SSL_get_error(conn->ssl, rc);
    if (error == SSL_ERROR_WANT_READ)
        return IO_AGAIN;
    if (error == SSL_ERROR_WANT_WRITE) {
        conn->read_wants_write = true;
        return IO_AGAIN;
    }
    char why[256];
    if (error == SSL_ERROR_SYSCALL && errno != 0)
        (void)snprintf(why, sizeof why, "%s", strerror(errno));
    else
        grpc_tls_why(conn->ssl, why, sizeof why);
    lose(conn, "%s", why);
    return IO_FAILED;
}

static enum io_result conn_read(struct grpc_conn *conn, uint8_t *to, size_t room, size_t *ret_got)
{
    if (conn->ssl != NULL) {
        ERR_clear_error();
        errno = 0;
        int got = SSL_read(conn->ssl, to, (int)room);
        if (got <= 0)
            return tls_result(conn, got);
        *ret_got = (size_t)got;
        return IO_DONE;
    }
    ssize_t got = recv(conn->fd, to, room, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return IO_AGAIN;
    if (got <= 0) {
        lose(conn, "%s", got == 0 ? "the other side closed the connection" : strerror(errno));
        return IO_FAILED;
    }
    *ret_got = (size_t)got;
    return IO_DONE;
}

static enum io_result conn_write(struct grpc_conn *conn, const char *bytes, size_t size, size_t *ret_sent)
{
    if (conn->ssl != NULL) {
        ERR_clear_error();
        errno = 0;
        int sent = SSL_write(conn->ssl, bytes, (int)size);
        if (sent <= 0)
            return tls_result(conn, sent);
        *ret_sent = (size_t)sent;
        return IO_DONE;
    }
    ssize_t sent = send(conn->fd, bytes, size, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return IO_AGAIN;
    if (sent < 0) {
        lose(conn, "%s", strerror(errno));
        return IO_FAILED;
    }
    *ret_sent = (size_t)sent;
    return IO_DONE;
}

/* Gets the next bytes of the session; false: there are none. */
static bool fill_out(struct grpc_conn *conn)
{
    atl_buf_reset(&conn->out);
    conn->out_sent = 0;
    while (conn->out.length < OUT_BYTES) {
        const uint8_t *bytes = NULL;
        ssize_t size = nghttp2_session_mem_send(conn->session, &bytes);
        if (size < 0) {
            lose(conn, "HTTP/2: %s", nghttp2_strerror((int)size));
            return false;
        }
        if (size == 0)
            break;
        atl_buf_add(&conn->out, bytes, (size_t)size);
    }
    return conn->out.length > 0;
}

static void flush(struct grpc_conn *conn)
{
    bool blocked = false;
    while (!conn->lost && !blocked) {
        if (conn->out_sent == conn->out.length && !fill_out(conn))
            break;
        size_t sent = 0;
        enum io_result result =
            conn_write(conn, conn->out.data + conn->out_sent, conn->out.length - conn->out_sent, &sent);
        blocked = result == IO_AGAIN;
        conn->out_sent += sent;
    }
    if (conn->lost)
        return;
    if (nghttp2_session_want_read(conn->session) == 0 && nghttp2_session_want_write(conn->session) == 0) {
        lose(conn, "HTTP/2: the connection has ended");
        return;
    }
    atl_watch_set(conn->watch, ATL_READ | (blocked || conn->read_wants_write ? ATL_WRITE : 0u));
    conn->read_wants_write = false;
}

static void on_flush(void *user)
{
    struct grpc_conn *conn = user;
    struct atl_grpc *channel = conn->channel;
    conn->flush = NULL;
    grpc_enter(channel);
    flush(conn);
    grpc_leave(channel);
}

void grpc_conn_flush_soon(struct grpc_conn *conn)
{
    if (conn->flush == NULL && !conn->lost)
        conn->flush = atl_loop_timer(conn->channel->loop, 0, 0, on_flush, conn);
}

static void receive(struct grpc_conn *conn)
{
    uint8_t bytes[READ_BYTES];
    for (int i = 0; i < READS_PER_ROUND && !conn->lost; i++) {
        size_t got = 0;
        if (conn_read(conn, bytes, sizeof bytes, &got) != IO_DONE)
            break;
        conn->heard_at = atl_loop_now(conn->channel->loop);
        conn->pinged_at = 0;
        ssize_t used = nghttp2_session_mem_recv(conn->session, bytes, got);
        if (used < 0)
            lose(conn, "HTTP/2: %s", nghttp2_strerror((int)used));
    }
    if (!conn->lost)
        flush(conn);
}

/* --- keepalive ---------------------------------------------------------------------------------------- */

static void ping(struct grpc_conn *conn)
{
    int rc = nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL);
    atl_assert(rc == 0);
    conn->pinged_at = atl_loop_now(conn->channel->loop);
    grpc_conn_flush_soon(conn);
}

static void on_doubt(void *user)
{
    struct grpc_conn *conn = user;
    struct atl_grpc *channel = conn->channel;
    conn->doubt = NULL;
    grpc_enter(channel);
    if (conn->heard_at < conn->doubted_at)
        lose(conn, "no answer to a PING");
    grpc_leave(channel);
}

void grpc_conn_doubt(struct grpc_conn *conn, atl_ns since)
{
    atl_ns now = atl_loop_now(conn->channel->loop);
    bool early = conn->doubted_at != 0 && now - conn->doubted_at < DOUBT_EVERY;
    if (conn->lost || conn->session == NULL || conn->heard_at >= since || conn->doubt != NULL || early)
        return;
    if (conn->pinged_at == 0)
        ping(conn);
    conn->doubted_at = now;
    conn->doubt = atl_loop_timer(conn->channel->loop, PONG, 0, on_doubt, conn);
}

static void on_keepalive(void *user)
{
    struct grpc_conn *conn = user;
    struct atl_grpc *channel = conn->channel;
    atl_ns now = atl_loop_now(channel->loop);
    grpc_enter(channel);
    if (conn->pinged_at != 0 && now - conn->pinged_at >= channel->options.keepalive_timeout)
        lose(conn, "no answer to a PING");
    else if (conn->pinged_at == 0 && now - conn->heard_at >= channel->options.keepalive)
        ping(conn);
    grpc_leave(channel);
}

static void start_session(struct grpc_conn *conn)
{
    conn->state = GRPC_SETTLING;
    conn->heard_at = atl_loop_now(conn->channel->loop);
    grpc_session_new(conn);
    atl_ns often = conn->channel->options.keepalive_timeout / 2;
    if (often > conn->channel->options.keepalive / 2)
        often = conn->channel->options.keepalive / 2;
    conn->keepalive = atl_loop_timer(conn->channel->loop, often, often, on_keepalive, conn);
    flush(conn);
}

/* --- the beginning ------------------------------------------------------------------------------------ */

static void handshake(struct grpc_conn *conn)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(conn->ssl);
    if (rc != 1) {
        if (tls_result(conn, rc) == IO_AGAIN) {
            atl_watch_set(conn->watch, ATL_READ | (conn->read_wants_write ? ATL_WRITE : 0u));
            conn->read_wants_write = false;
        }
        return;
    }
    const uint8_t *protocol = NULL;
    unsigned int length = 0;
    SSL_get0_alpn_selected(conn->ssl, &protocol, &length);
    if (length != 2 || memcmp(protocol, "h2", 2) != 0) {
        lose(conn, "the other side does not speak HTTP/2");
        return;
    }
    start_session(conn);
}

static void connected(struct grpc_conn *conn)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error != 0) {
        lose(conn, "%s", strerror(error));
        return;
    }
    if (!conn->channel->use_tls) {
        start_session(conn);
        return;
    }
    struct atl_error err;
    if (grpc_tls_new(&conn->channel->tls, conn->host, conn->fd, &conn->ssl, &err) != ATL_OK) {
        lose(conn, "%s", err.text);
        return;
    }
    conn->state = GRPC_HANDSHAKE;
    handshake(conn);
}

static void on_ready(void *user, unsigned int events)
{
    struct grpc_conn *conn = user;
    struct atl_grpc *channel = conn->channel;
    grpc_enter(channel);
    if (conn->state == GRPC_CONNECTING && (events & (ATL_WRITE | ATL_HANGUP)))
        connected(conn);
    else if (conn->state == GRPC_HANDSHAKE)
        handshake(conn);
    else if (conn->session != NULL && (events & ATL_READ))
        receive(conn);
    else if (conn->session != NULL)
        flush(conn);
    grpc_leave(channel);
}

struct grpc_conn *grpc_conn_new(struct atl_grpc *channel, const struct grpc_endpoint *endpoint)
{
    struct grpc_conn *conn = atl_new0(struct grpc_conn);
    conn->channel = channel;
    conn->endpoint = atl_strdup(endpoint->text);
    conn->host = atl_strdup(endpoint->host);
    conn->next = channel->conns;
    channel->conns = conn;
    channel->current = conn;
    conn->fd = socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (conn->fd < 0) {
        lose(conn, "no socket: %s", strerror(errno));
        return conn;
    }
    int on = 1;
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* slower without, no worse */
    const struct sockaddr *address = (const struct sockaddr *)&endpoint->address;
    if (connect(conn->fd, address, endpoint->address_size) != 0 && errno != EINPROGRESS) {
        lose(conn, "%s", strerror(errno));
        return conn;
    }
    conn->watch = atl_loop_fd(channel->loop, conn->fd, ATL_WRITE, on_ready, conn);
    conn->timer = atl_loop_timer(channel->loop, channel->options.connect_timeout, 0, on_timeout, conn);
    return conn;
}
