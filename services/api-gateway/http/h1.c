/* HTTP/1.1 on a connection: one request at a time; what a client sends ahead waits, bounded. */
#include "core/h1.h"

#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

enum { AHEAD_MAX = 4096 }; /* read while a request is worked on, to notice that its client went away */

struct h1 {
    struct atl_buf in;
    size_t used; /* bytes of in that were worked on */
    struct gw_h1_scan scan;
    struct gw_request *request;
    int64_t body_left;
    atl_ns head_since;
    bool keep;
    bool first;
    bool proceeding;
};

static void h1_start(struct gw_conn *conn)
{
    struct h1 *h1 = atl_new0(struct h1);
    h1->first = true;
    conn->session = h1;
}

static void h1_stop(struct gw_conn *conn)
{
    struct h1 *h1 = conn->session;
    atl_buf_done(&h1->in);
    free(h1);
    conn->session = NULL;
}

static bool h1_wants_input(const struct gw_conn *conn)
{
    const struct h1 *h1 = conn->session;
    bool reading = h1->request == NULL || h1->request->state <= GW_READING_BODY;
    return h1->in.length - h1->used < (reading ? GW_IN_MAX : AHEAD_MAX);
}

static void refuse(struct gw_conn *conn, const struct gw_fault *fault)
{
    struct h1 *h1 = conn->session;
    conn->linger = true;
    h1->keep = false;
    gw_request_refuse(h1->request, fault);
}

/* Reads the head of the next request; false when it is not complete. */
static bool read_head(struct gw_conn *conn)
{
    struct h1 *h1 = conn->session;
    const char *bytes = h1->in.data + h1->used;
    size_t size = 0;
    const struct gw_fault *fault = gw_h1_find_end(&h1->scan, bytes, h1->in.length - h1->used, &size);
    if (fault == NULL && size == 0)
        return false;
    struct gw_request *request = gw_request_new(conn);
    h1->request = request;
    h1->scan = (struct gw_h1_scan){0};
    h1->first = false;
    request->head.method = "";
    if (fault == NULL)
        fault = gw_h1_parse(bytes, size, &request->arena, &request->head);
    h1->used += size;
    if (fault != NULL) {
        refuse(conn, fault);
        return true;
    }
    h1->keep = request->head.keep_alive;
    h1->body_left = request->head.content_length > 0 ? request->head.content_length : 0;
    request->body_ended = h1->body_left == 0;
    gw_request_begin(request);
    if (!request->replied && h1->body_left > 0 && request->head.expect_continue)
        atl_buf_text(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
    return true;
}

/* Gives bytes of the body on; false when it must wait. */
static bool read_body(struct h1 *h1)
{
    struct gw_request *request = h1->request;
    size_t there = h1->in.length - h1->used;
    if (request->paused || request->replied || there == 0)
        return false;
    if ((int64_t)there > h1->body_left)
        there = (size_t)h1->body_left;
    size_t taken = gw_request_bytes(request, h1->in.data + h1->used, there);
    h1->used += taken;
    h1->body_left -= (int64_t)taken;
    if (h1->body_left == 0)
        gw_request_body_end(request);
    return taken > 0;
}

static void compact(struct gw_conn *conn)
{
    struct h1 *h1 = conn->session;
    if (h1->used == 0)
        return;
    h1->in.length -= h1->used;
    memmove(h1->in.data, h1->in.data + h1->used, h1->in.length);
    h1->used = 0;
    if (h1->in.length > 0 && h1->request == NULL)
        h1->head_since = atl_loop_now(conn->http->loop);
    if (h1->in.length == 0 && h1->request == NULL && h1->in.capacity > AHEAD_MAX)
        atl_buf_done(&h1->in);
}

static void h1_proceed(struct gw_conn *conn)
{
    struct h1 *h1 = conn->session;
    if (h1->proceeding) /* a reader resumed itself */
        return;
    h1->proceeding = true;
    bool more = true;
    while (more && conn->state == GW_CONN_OPEN && h1->used < h1->in.length) {
        if (h1->request == NULL)
            more = read_head(conn);
        else if (h1->request->state == GW_READING_BODY && h1->body_left > 0)
            more = read_body(h1);
        else
            more = false;
    }
    compact(conn);
    h1->proceeding = false;
}

static void h1_input(struct gw_conn *conn, const char *bytes, size_t size)
{
    struct h1 *h1 = conn->session;
    if (h1->in.length == 0)
        h1->head_since = atl_loop_now(conn->http->loop);
    atl_buf_add(&h1->in, bytes, size);
    h1_proceed(conn);
}

static void h1_reply(struct gw_request *request, const struct gw_answer *answer)
{
    struct gw_conn *conn = request->conn;
    struct h1 *h1 = conn->session;
    struct atl_buf *out = &conn->out;
    if (answer->close || h1->body_left > 0)
        h1->keep = false;
    if (h1->body_left > 0)
        conn->linger = true;
    atl_buf_text(out, "HTTP/1.1 ");
    atl_buf_uint(out, (uint64_t)answer->status);
    atl_buf_char(out, ' ');
    gw_h1_reason(out, answer->reason != NULL ? answer->reason : gw_status_phrase(answer->status));
    atl_buf_text(out, "\r\nCache-Control: max-age=0\r\nConnection: ");
    atl_buf_text(out, h1->keep ? "Keep-Alive" : "close");
    atl_buf_text(out, "\r\nDate: ");
    atl_buf_text(out, gw_http_date(conn->http));
    atl_buf_text(out, "\r\nPragma: no-cache\r\nServer: pve-api-daemon/3.0\r\n");
    if (answer->type != NULL) {
        atl_buf_text(out, "Content-Type: ");
        atl_buf_text(out, answer->type);
        atl_buf_text(out, "\r\n");
    }
    for (size_t i = 0; i < answer->extra_count; i++) {
        atl_buf_text(out, answer->extra[i].name);
        atl_buf_text(out, ": ");
        atl_buf_text(out, answer->extra[i].value);
        atl_buf_text(out, "\r\n");
    }
    atl_buf_text(out, "Content-Length: ");
    atl_buf_uint(out, request->output.length);
    atl_buf_text(out, "\r\n\r\n");
}

static void h1_output(struct gw_conn *conn)
{
    struct h1 *h1 = conn->session;
    struct gw_request *request = h1->request;
    if (request == NULL || request->state != GW_REPLYING)
        return;
    size_t left = request->output.length - request->output_at;
    size_t room = conn->out.length < GW_OUT_TARGET ? GW_OUT_TARGET - conn->out.length : 0;
    size_t size = left < room ? left : room;
    atl_buf_add(&conn->out, request->output.data + request->output_at, size);
    request->output_at += size;
    if (size < left)
        return;
    h1->request = NULL;
    gw_request_free(request);
    conn->idle_since = atl_loop_now(conn->http->loop);
    if (!h1->keep)
        gw_conn_finish(conn);
    else if (h1->in.length > h1->used)
        gw_conn_read_again(conn); /* the next request came ahead */
}

static void h1_drop(struct gw_request *request)
{
    gw_conn_kill(request->conn);
}

static atl_ns h1_deadline(struct gw_conn *conn, atl_ns now)
{
    (void)now;
    const struct h1 *h1 = conn->session;
    const struct gw_http_options *options = &conn->http->options;
    const struct gw_request *request = h1->request;
    if (request == NULL) {
        if (h1->in.length > 0)
            return h1->head_since + options->head_time;
        return conn->idle_since + (h1->first ? options->head_time : options->idle_h1);
    }
    if (request->state == GW_READING_BODY && !request->paused)
        return request->progress_at + options->head_time;
    return 0;
}

const struct gw_protocol gw_h1_protocol = {
    .start = h1_start,
    .input = h1_input,
    .proceed = h1_proceed,
    .wants_input = h1_wants_input,
    .output = h1_output,
    .reply = h1_reply,
    .drop = h1_drop,
    .deadline = h1_deadline,
    .stop = h1_stop,
};
