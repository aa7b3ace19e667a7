/* HTTP/2 on a connection, by nghttp2: its streams are our requests. */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/h1.h"
#include "http/internal.h"

enum {
    STREAMS_MAX = 128,
    STREAM_WINDOW = 256 << 10,
    CONN_WINDOW = 1 << 20, /* all that a connection can make us keep of bodies that are not taken yet */
    FEW_HEADERS = 16,      /* room for these is made at first */
    RESETS_MAX = 1000,     /* streams a client may cancel before answers, beyond what it let finish */
};

#define ANSWERED_TIME (1 * ATL_SECOND) /* for a client to stop sending once it has its answer */

static const struct gw_fault too_many = {431, "too many header lines (more than 64)"};
static const struct gw_fault too_large = {431, "header fields are larger than 8 KiB"};

struct h2 {
    nghttp2_session *session;
    int resets; /* cancelled streams less finished ones */
    bool going; /* GOAWAY was sent */
};

static nghttp2_session *session_of(const struct gw_conn *conn)
{
    return ((const struct h2 *)conn->session)->session;
}

static struct gw_request *request_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

/* --- the head --- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct gw_conn *conn = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    if (conn->state != GW_CONN_OPEN)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    struct gw_request *request = gw_request_new(conn);
    request->stream_id = frame->hd.stream_id;
    request->head.http2 = true;
    request->head.query = "";
    request->head.headers = atl_arena_array(&request->arena, struct gw_header, FEW_HEADERS);
    (void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id,
                                               request); /* the stream was just made */
    return 0;
}

static const struct gw_fault *add_header(struct gw_request *request, const char *name, char *value)
{
    struct gw_head *head = &request->head;
    if (strcmp(name, ":method") == 0)
        head->method = value;
    else if (strcmp(name, ":path") == 0)
        return gw_head_target(head, value);
    if (name[0] == ':')
        return NULL;
    if (head->header_count == GW_HEADERS_MAX)
        return &too_many;
    if (head->header_count == FEW_HEADERS) {
        struct gw_header *more = atl_arena_array(&request->arena, struct gw_header, GW_HEADERS_MAX);
        memcpy(more, head->headers, FEW_HEADERS * sizeof *more);
        head->headers = more;
    }
    head->headers[head->header_count++] = (struct gw_header){.name = name, .value = value};
    return strcmp(name, "content-length") == 0 ? gw_head_length(head, value) : NULL;
}

static char *copy_text(struct gw_request *request, nghttp2_rcbuf *buffer)
{
    nghttp2_vec vec = nghttp2_rcbuf_get_buf(buffer);
    request->head_bytes += vec.len + 2;
    if (request->head_bytes > GW_HEAD_BYTES_MAX)
        return NULL;
    return atl_arena_strndup(&request->arena, (const char *)vec.base, vec.len);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    (void)flags;
    (void)user;
    struct gw_request *request = request_of(session, frame->hd.stream_id);
    if (request == NULL || request->state != GW_READING_HEAD || request->replied)
        return 0; /* trailers say nothing to us */
    const char *name_text = copy_text(request, name);
    char *value_text = copy_text(request, value);
    const struct gw_fault *fault = &too_large;
    if (name_text != NULL && value_text != NULL)
        fault = add_header(request, name_text, value_text);
    if (fault != NULL)
        gw_request_refuse(request, fault);
    return 0;
}

/* --- the body --- */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t size, void *user)
{
    (void)flags;
    (void)user;
    struct gw_request *request = request_of(session, stream_id);
    size_t taken = size;
    if (request != NULL && request->paused) {
        atl_buf_add(&request->pending, data, size); /* bounded by the windows */
        taken = 0;
    } else if (request != NULL) {
        taken = gw_request_bytes(request, (const char *)data, size);
        atl_buf_add(&request->pending, data + taken, size - taken);
    }
    (void)nghttp2_session_consume(session, stream_id, taken); /* fails only when out of memory */
    return 0;
}

static void end_body(struct gw_request *request)
{
    request->body_ended = true;
    if (request->state == GW_READING_BODY && request->pending.length == 0)
        gw_request_body_end(request);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    struct gw_request *request = request_of(session, frame->hd.stream_id);
    if (request == NULL || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (frame->hd.type == NGHTTP2_HEADERS && request->state == GW_READING_HEAD && !request->replied) {
        request->body_ended = ends;
        gw_request_begin(request);
    } else if (ends) {
        end_body(request);
    }
    return 0;
}

/* Streamed bytes that were kept back are offered again. */
static void offer_pending(struct gw_conn *conn, struct gw_request *request)
{
    size_t size = request->pending.length;
    size_t taken = gw_request_bytes(request, request->pending.data, size);
    request->pending.length -= taken;
    memmove(request->pending.data, request->pending.data + taken, request->pending.length);
    (void)nghttp2_session_consume(session_of(conn), request->stream_id, taken); /* as in on_data */
    if (request->body_ended && request->pending.length == 0 && request->state == GW_READING_BODY)
        gw_request_body_end(request);
}

static void h2_proceed(struct gw_conn *conn)
{
    struct gw_request *next = NULL;
    for (struct gw_request *request = conn->requests; request != NULL; request = next) {
        next = request->next;
        if (!request->paused && !request->replied && request->pending.length > 0)
            offer_pending(conn, request);
    }
}

/* --- answers --- */

static ssize_t read_body(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t size,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)source;
    const struct gw_conn *conn = user;
    struct gw_request *request = request_of(session, stream_id);
    atl_assert(request != NULL);
    size_t left = request->output.length - request->output_at;
    if (size > left)
        size = left;
    if (size > 0)
        memcpy(to, request->output.data + request->output_at, size);
    request->output_at += size;
    request->progress_at = atl_loop_now(conn->http->loop);
    if (size == left)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)size;
}

static nghttp2_nv header(const char *name, const char *value)
{
    union {
        const char *text;
        uint8_t *bytes; /* nghttp2 copies, but its struct is not const */
    } n = {.text = name}, v = {.text = value};
    return (nghttp2_nv){
        .name = n.bytes, .value = v.bytes, .namelen = strlen(name), .valuelen = strlen(value)};
}

static void h2_reply(struct gw_request *request, const struct gw_answer *answer)
{
    struct gw_conn *conn = request->conn;
    nghttp2_nv headers[16];
    char status[16];
    char length[24];
    size_t count = 0;
    (void)snprintf(status, sizeof status, "%03d", answer->status);
    (void)snprintf(length, sizeof length, "%zu", request->output.length);
    headers[count++] = header(":status", status);
    headers[count++] = header("cache-control", "max-age=0");
    headers[count++] = header("date", gw_http_date(conn->http));
    headers[count++] = header("pragma", "no-cache");
    headers[count++] = header("server", "pve-api-daemon/3.0");
    headers[count++] = header("content-length", length);
    if (answer->type != NULL)
        headers[count++] = header("content-type", answer->type);
    for (size_t i = 0; i < answer->extra_count && count < ATL_COUNT(headers); i++)
        headers[count++] = header(answer->extra[i].name, answer->extra[i].value);
    nghttp2_data_provider provider = {.read_callback = read_body};
    bool empty = request->output.length == 0;
    int rc = nghttp2_submit_response(session_of(conn), request->stream_id, headers, count,
                                     empty ? NULL : &provider);
    if (rc != 0)
        gw_conn_kill(conn);
}

/* The answer is out. A client that still sends a body nobody wants gets a moment to read it and to stop: some
 * throw an answer away when its stream is reset, whatever the reset says. h2_deadline() tells those who go
 * on. */
static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct gw_conn *conn = user;
    bool ends = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    struct gw_request *request = ends ? request_of(session, frame->hd.stream_id) : NULL;
    if (request != NULL && !request->body_ended)
        request->answered_at = atl_loop_now(conn->http->loop);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *user)
{
    struct gw_conn *conn = user;
    struct h2 *h2 = conn->session;
    struct gw_request *request = request_of(session, stream_id);
    if (request == NULL)
        return 0;
    if (error_code == NGHTTP2_NO_ERROR)
        h2->resets -= h2->resets > 0 ? 1 : 0;
    else if (++h2->resets > RESETS_MAX)
        gw_conn_kill(conn); /* frees the session at the end of the round, not under its own feet */
    gw_request_gone(request);
    (void)nghttp2_session_set_stream_user_data(session, stream_id,
                                               NULL); /* the stream is there until we return */
    gw_request_free(request);
    conn->idle_since = atl_loop_now(conn->http->loop);
    return 0;
}

static void h2_output(struct gw_conn *conn)
{
    struct h2 *h2 = conn->session;
    if (conn->state == GW_CONN_CLOSING && !h2->going) {
        h2->going = true;
        (void)nghttp2_session_terminate_session(h2->session, NGHTTP2_NO_ERROR); /* out of memory only */
    }
    while (conn->out.length < GW_OUT_TARGET) {
        const uint8_t *bytes = NULL;
        ssize_t size = nghttp2_session_mem_send(h2->session, &bytes);
        if (size < 0) {
            gw_conn_kill(conn);
            return;
        }
        if (size == 0)
            break;
        atl_buf_add(&conn->out, bytes, (size_t)size);
    }
    if (conn->state == GW_CONN_OPEN && !nghttp2_session_want_read(h2->session) &&
        !nghttp2_session_want_write(h2->session))
        gw_conn_finish(conn);
}

/* --- the session --- */

static void h2_input(struct gw_conn *conn, const char *bytes, size_t size)
{
    ssize_t used = nghttp2_session_mem_recv(session_of(conn), (const uint8_t *)bytes, size);
    if (used != (ssize_t)size) /* no HTTP/2 at all, or a client that floods us */
        gw_conn_kill(conn);
}

static bool h2_wants_input(const struct gw_conn *conn)
{
    return conn->out.length - conn->out_at < GW_OUT_TARGET; /* who does not read is not read either */
}

static void h2_drop(struct gw_request *request)
{
    (void)nghttp2_submit_rst_stream(session_of(request->conn), NGHTTP2_FLAG_NONE, request->stream_id,
                                    NGHTTP2_CANCEL); /* out of memory only */
    gw_conn_mark(request->conn);
}

static atl_ns h2_deadline(struct gw_conn *conn, atl_ns now)
{
    const struct gw_http_options *options = &conn->http->options;
    if (conn->requests == NULL)
        return conn->idle_since + options->idle_h2;
    for (struct gw_request *request = conn->requests; request != NULL; request = request->next) {
        if (request->answered_at != 0 && now >= request->answered_at + ANSWERED_TIME) {
            (void)nghttp2_submit_rst_stream(session_of(conn), NGHTTP2_FLAG_NONE, request->stream_id,
                                            NGHTTP2_NO_ERROR); /* out of memory only */
            gw_conn_mark(conn);
            request->answered_at = 0;
        }
        bool reading = request->state <= GW_READING_BODY && !request->replied && !request->paused;
        bool late = (reading && now >= request->progress_at + options->head_time) ||
                    (request->state == GW_REPLYING && now >= request->progress_at + options->write_time);
        if (late && reading && request->state == GW_READING_HEAD)
            return now; /* half a header block stands in everybody's way */
        if (late) {
            gw_request_gone(request);
            gw_request_drop(request);
            request->progress_at = now; /* until the stream is closed */
        }
    }
    return 0;
}

static nghttp2_session *session_new(struct gw_conn *conn)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *options = NULL;
    nghttp2_session *session = NULL;
    int rc = nghttp2_session_callbacks_new(&callbacks);
    atl_assert(rc == 0);
    rc = nghttp2_option_new(&options);
    atl_assert(rc == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    rc = nghttp2_session_server_new2(&session, callbacks, conn, options);
    atl_assert(rc == 0);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

static void h2_start(struct gw_conn *conn)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GW_HEAD_BYTES_MAX},
    };
    struct h2 *h2 = atl_new0(struct h2);
    h2->session = session_new(conn);
    conn->session = h2;
    int rc = nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings, ATL_COUNT(settings));
    atl_assert(rc == 0);
    rc = nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW);
    atl_assert(rc == 0);
}

static void h2_stop(struct gw_conn *conn)
{
    struct h2 *h2 = conn->session;
    nghttp2_session_del(h2->session); /* calls nobody back */
    free(h2);
    conn->session = NULL;
}

const struct gw_protocol gw_h2_protocol = {
    .start = h2_start,
    .input = h2_input,
    .proceed = h2_proceed,
    .wants_input = h2_wants_input,
    .output = h2_output,
    .reply = h2_reply,
    .drop = h2_drop,
    .deadline = h2_deadline,
    .stop = h2_stop,
};
