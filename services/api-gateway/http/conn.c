/* One connection: the handshake, bytes in and out of TLS, its end. */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/internal.h"

enum { READS_PER_ROUND = 8, SERVES_PER_ROUND = 4 };

#define LINGER_TIME  (30 * ATL_SECOND)
#define LINGER_QUIET (2 * ATL_SECOND)

static void on_ready(void *user, unsigned int events);

struct gw_conn *gw_conn_new(struct gw_http *http, int fd, const char *peer, uint64_t address_hash)
{
    struct gw_conn *conn = atl_new0(struct gw_conn);
    conn->http = http;
    conn->fd = fd;
    conn->address_hash = address_hash;
    conn->since = atl_loop_now(http->loop);
    (void)atl_copy(conn->peer, sizeof conn->peer, peer); /* the array holds any address */
    conn->ssl = SSL_new(http->tls);
    atl_assert(conn->ssl != NULL);
    int set = SSL_set_fd(conn->ssl, fd);
    atl_assert(set == 1);
    SSL_set_accept_state(conn->ssl);
    conn->watch = atl_loop_fd(http->loop, fd, ATL_READ, on_ready, conn);
    conn->next = http->conns;
    if (http->conns != NULL)
        http->conns->previous = conn;
    http->conns = conn;
    http->conn_count++;
    http->per_address[address_hash % GW_ADDRESS_BUCKETS]++;
    return conn;
}

static void move(struct gw_conn *conn, enum gw_conn_state state)
{
    static const uint32_t moves[] = {
        [GW_CONN_HANDSHAKE] = 1U << GW_CONN_OPEN | 1U << GW_CONN_DEAD,
        [GW_CONN_OPEN] = 1U << GW_CONN_CLOSING | 1U << GW_CONN_DEAD,
        [GW_CONN_CLOSING] = 1U << GW_CONN_LINGER | 1U << GW_CONN_DEAD,
        [GW_CONN_LINGER] = 1U << GW_CONN_DEAD,
        [GW_CONN_DEAD] = 0,
    };
    atl_assert(moves[conn->state] & (1U << state));
    conn->state = (uint8_t)state;
    conn->since = atl_loop_now(conn->http->loop);
}

void gw_conn_kill(struct gw_conn *conn)
{
    if (conn->state == GW_CONN_DEAD)
        return;
    struct gw_http *http = conn->http;
    if (conn->state == GW_CONN_OPEN || conn->state == GW_CONN_CLOSING) {
        (void)SSL_shutdown(conn->ssl); /* a farewell if the socket takes it; nobody waits for the answer */
        ERR_clear_error();
    }
    move(conn, GW_CONN_DEAD);
    atl_watch_free(conn->watch);
    conn->watch = NULL;
    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else
        http->conns = conn->next;
    if (conn->next != NULL)
        conn->next->previous = conn->previous;
    http->conn_count--;
    http->per_address[conn->address_hash % GW_ADDRESS_BUCKETS]--;
    for (struct gw_request *request = conn->requests; request != NULL; request = request->next)
        gw_request_gone(request);
    (void)close(conn->fd); /* nothing is buffered in it that matters */
    conn->fd = -1;
    conn->next = http->dead;
    http->dead = conn;
    gw_conn_mark(conn);
}

void gw_conn_free(struct gw_conn *conn)
{
    atl_assert(conn->state == GW_CONN_DEAD);
    if (conn->protocol != NULL)
        conn->protocol->stop(conn);
    while (conn->requests != NULL)
        gw_request_free(conn->requests);
    SSL_free(conn->ssl);
    atl_buf_done(&conn->out);
    free(conn);
}

void gw_conn_finish(struct gw_conn *conn)
{
    if (conn->state == GW_CONN_OPEN)
        move(conn, GW_CONN_CLOSING);
    gw_conn_mark(conn);
}

void gw_conn_read_again(struct gw_conn *conn)
{
    conn->again = true;
    gw_conn_mark(conn);
}

/* All is written and unread bytes may still come: half-closed, so that the answer is not lost to a reset. */
static void begin_linger(struct gw_conn *conn)
{
    (void)SSL_shutdown(conn->ssl); /* as in gw_conn_kill */
    ERR_clear_error();
    (void)shutdown(conn->fd, SHUT_WR); /* fails only if the client is gone, which the next read shows */
    move(conn, GW_CONN_LINGER);
    conn->read_at = conn->since;
}

static void linger_read(struct gw_conn *conn)
{
    for (int i = 0; i < READS_PER_ROUND; i++) {
        ssize_t got = recv(conn->fd, conn->http->scratch, sizeof conn->http->scratch, MSG_DONTWAIT);
        if (got > 0) {
            conn->read_at = atl_loop_now(conn->http->loop);
            continue;
        }
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            gw_conn_kill(conn);
        return;
    }
}

static void handshake(struct gw_conn *conn)
{
    int rc = SSL_accept(conn->ssl);
    if (rc == 1) {
        const unsigned char *name = NULL;
        unsigned int length = 0;
        SSL_get0_alpn_selected(conn->ssl, &name, &length);
        bool is_h2 = length == 2 && memcmp(name, "h2", 2) == 0;
        conn->protocol = is_h2 ? &gw_h2_protocol : &gw_h1_protocol;
        move(conn, GW_CONN_OPEN);
        conn->idle_since = conn->since;
        conn->protocol->start(conn);
        conn->again = true;
        return;
    }
    int error = SSL_get_error(conn->ssl, rc);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_WRITE)
        conn->blocked = true;
    else if (error != SSL_ERROR_WANT_READ)
        gw_conn_kill(conn);
}

static void conn_read(struct gw_conn *conn)
{
    for (int i = 0; i < READS_PER_ROUND; i++) {
        if (conn->state != GW_CONN_OPEN || !conn->protocol->wants_input(conn))
            return;
        int got = SSL_read(conn->ssl, conn->http->scratch, GW_RECORD);
        if (got > 0) {
            conn->read_at = atl_loop_now(conn->http->loop);
            conn->protocol->input(conn, conn->http->scratch, (size_t)got);
            if (got < GW_RECORD && !SSL_has_pending(conn->ssl))
                return; /* the socket is empty, or says when it is not */
            continue;
        }
        int error = SSL_get_error(conn->ssl, got);
        ERR_clear_error();
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            gw_conn_kill(conn); /* closed or broken: whoever closes no longer waits for answers */
        return;
    }
    conn->again = true; /* others are served first */
}

/* Lets the protocol add what it has; false when the connection died of it. */
static bool fill(struct gw_conn *conn)
{
    bool was_empty = conn->out_at == conn->out.length;
    if (was_empty) {
        atl_buf_reset(&conn->out);
        conn->out_at = 0;
        conn->wrote_at = atl_loop_now(conn->http->loop);
    }
    conn->protocol->output(conn);
    return conn->state != GW_CONN_DEAD;
}

/* Writes until nothing is left or the socket is full; at most some records in a row. */
static void pump(struct gw_conn *conn)
{
    for (size_t written = 0; written < 16 * GW_OUT_TARGET;) {
        if (conn->out.length - conn->out_at < GW_RECORD && !fill(conn))
            return;
        size_t left = conn->out.length - conn->out_at;
        if (left == 0)
            return;
        int put =
            SSL_write(conn->ssl, conn->out.data + conn->out_at, left < GW_RECORD ? (int)left : GW_RECORD);
        if (put <= 0) {
            int error = SSL_get_error(conn->ssl, put);
            ERR_clear_error();
            conn->blocked = error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ;
            if (!conn->blocked)
                gw_conn_kill(conn);
            return;
        }
        conn->out_at += (size_t)put;
        written += (size_t)put;
        conn->wrote_at = atl_loop_now(conn->http->loop);
    }
    conn->again = true;
}

static void update_watch(struct gw_conn *conn)
{
    bool reads = conn->state != GW_CONN_OPEN || conn->protocol->wants_input(conn);
    if (conn->state == GW_CONN_CLOSING)
        reads = false;
    atl_watch_set(conn->watch, (reads ? ATL_READ : 0U) | (conn->blocked ? ATL_WRITE : 0U));
    if (conn->out.length == 0 && conn->out.capacity > GW_RECORD)
        atl_buf_done(&conn->out); /* an idle connection holds little */
}

/* One turn: what was left is read, what there is is written. */
static void turn(struct gw_conn *conn)
{
    bool again = conn->again;
    conn->again = false;
    if (conn->state == GW_CONN_HANDSHAKE)
        handshake(conn);
    if (again && conn->state == GW_CONN_OPEN)
        conn->protocol->proceed(conn);
    if (again)
        conn_read(conn);
    if ((conn->state == GW_CONN_OPEN || conn->state == GW_CONN_CLOSING) && !conn->blocked)
        pump(conn);
}

/* Everything is written: the connection ends. */
static void end(struct gw_conn *conn)
{
    if (conn->linger)
        begin_linger(conn);
    else
        gw_conn_kill(conn);
}

void gw_conn_serve(struct gw_conn *conn)
{
    for (int i = 0; i < SERVES_PER_ROUND && conn->state < GW_CONN_LINGER; i++) {
        turn(conn);
        if (!conn->again || conn->blocked)
            break;
    }
    if (conn->state == GW_CONN_CLOSING && conn->out_at == conn->out.length && !conn->again)
        end(conn);
    if (conn->state == GW_CONN_DEAD)
        return;
    if (conn->again && !conn->blocked)
        gw_conn_mark(conn);
    update_watch(conn);
}

static void on_ready(void *user, unsigned int events)
{
    struct gw_conn *conn = user;
    if (conn->state == GW_CONN_LINGER) {
        linger_read(conn);
        return;
    }
    if (events & (ATL_WRITE | ATL_HANGUP))
        conn->blocked = false;
    if (events & ATL_HANGUP && conn->state == GW_CONN_CLOSING) {
        gw_conn_kill(conn);
        return;
    }
    conn->again = true;
    gw_conn_serve(conn);
    if (events & ATL_HANGUP && conn->state == GW_CONN_OPEN && !conn->protocol->wants_input(conn))
        gw_conn_kill(conn); /* broken, and nobody would read to find out */
}

void gw_conn_check(struct gw_conn *conn, atl_ns now)
{
    const struct gw_http_options *options = &conn->http->options;
    atl_ns deadline = 0;
    if (conn->state == GW_CONN_HANDSHAKE) {
        deadline = conn->since + options->head_time;
    } else if (conn->state == GW_CONN_LINGER) {
        atl_ns quiet = conn->read_at + LINGER_QUIET;
        deadline = conn->since + LINGER_TIME < quiet ? conn->since + LINGER_TIME : quiet;
    } else if (conn->out_at < conn->out.length) {
        deadline = conn->wrote_at + options->write_time;
    } else if (conn->state == GW_CONN_OPEN) {
        deadline = conn->protocol->deadline(conn, now);
    }
    if (deadline != 0 && now >= deadline)
        gw_conn_kill(conn);
}
