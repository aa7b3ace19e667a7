/* One call: from its request to its status. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/internal.h"

/* Takes it out of its list and, unless list is NULL, puts it in front of that one. */
void grpc_call_move(struct atl_grpc_call *call, struct atl_grpc_call **list)
{
    if (call->list != NULL) {
        if (call->previous != NULL)
            call->previous->next = call->next;
        else
            *call->list = call->next;
        if (call->next != NULL)
            call->next->previous = call->previous;
    }
    call->next = call->previous = NULL;
    call->list = list;
    if (list == NULL)
        return;
    call->next = *list;
    if (*list != NULL)
        (*list)->previous = call;
    *list = call;
}

/* The stream goes on without us: nobody hears of it any more. */
static void detach(struct atl_grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    if (conn != NULL && conn->session != NULL && call->stream_id > 0)
        (void)nghttp2_session_set_stream_user_data(conn->session, call->stream_id,
                                                   NULL); /* the stream may be gone */
    call->conn = NULL;
    call->stream_id = 0;
}

void grpc_call_free(struct atl_grpc_call *call)
{
    struct atl_grpc *channel = call->channel;
    if (!call->dead) {
        detach(call);
        atl_timer_free(call->timer);
        call->timer = NULL;
        call->dead = true;
        channel->call_count--;
        grpc_call_move(call, channel->busy > 0 ? &channel->dead : NULL);
        if (channel->busy > 0)
            return;
    }
    grpc_call_move(call, NULL);
    atl_buf_done(&call->out);
    atl_grpc_reader_done(&call->reader);
    free(call);
}

void grpc_call_end(struct atl_grpc_call *call, const struct atl_grpc_end *end)
{
    atl_assert(call->channel->busy > 0);
    atl_grpc_end_fn *fn = call->options.end;
    void *user = call->options.user;
    grpc_call_free(call);
    if (fn != NULL)
        fn(end, user);
}

void grpc_call_fail(struct atl_grpc_call *call, enum atl_code code, const char *format, ...)
{
    struct atl_grpc_end end = {.code = code, .sent = call->sent};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(end.text, sizeof end.text, format, args);
    va_end(args);
    grpc_call_end(call, &end);
}

/* Lets it wait for the next connection, if it can begin anew. */
static bool again(struct atl_grpc_call *call)
{
    if (call->trimmed || call->tries >= GRPC_TRIES_MAX)
        return false;
    detach(call);
    call->sent = false;
    call->out_sent = 0;
    call->http_status = -1;
    grpc_call_move(call, &call->channel->waiting);
    grpc_channel_admit(call->channel, call);
    return true;
}

static enum atl_code code_of_reset(uint32_t error_code)
{
    switch (error_code) {
    case NGHTTP2_CANCEL:
        return ATL_E_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return ATL_E_LIMIT;
    case NGHTTP2_INADEQUATE_SECURITY:
        return ATL_E_DENIED;
    default:
        return ATL_E_INTERNAL;
    }
}

void grpc_call_closed(struct atl_grpc_call *call, uint32_t error_code)
{
    if (call->fault != ATL_OK) {
        char text[ATL_TEXT_MAX];
        memcpy(text, call->text, sizeof text);
        grpc_call_fail(call, call->fault, "%s", text);
    } else if (call->has_status && call->status == ATL_OK && atl_grpc_reader_within(&call->reader)) {
        grpc_call_fail(call, ATL_E_INTERNAL, "the last message was cut");
    } else if (call->has_status) {
        struct atl_grpc_end end = {.code = call->status, .sent = true, .remote = true};
        if (end.code != ATL_OK)
            (void)snprintf(end.text, sizeof end.text, "%s",
                           call->text[0] != '\0' ? call->text : atl_code_to_text(end.code));
        grpc_call_end(call, &end);
    } else if (error_code == NGHTTP2_REFUSED_STREAM) {
        call->sent = false;
        if (!again(call))
            grpc_call_fail(call, ATL_E_UNAVAILABLE, "the other side takes no requests");
    } else if (error_code != NGHTTP2_NO_ERROR) {
        grpc_call_fail(call, code_of_reset(error_code), "the stream was reset: %s",
                       nghttp2_http2_strerror(error_code));
    } else if (call->http_status != 200 && call->http_status != -1) {
        grpc_call_fail(call, atl_grpc_status_of_http(call->http_status), "HTTP status %d", call->http_status);
    } else {
        grpc_call_fail(call, ATL_E_UNKNOWN, "the answer ended without a status");
    }
}

/* --- sending ------------------------------------------------------------------------------------------ */

ssize_t grpc_call_read_out(struct atl_grpc_call *call, uint8_t *to, size_t room, uint32_t *flags)
{
    size_t size = call->out.length - call->out_sent;
    if (size == 0 && !call->finished)
        return NGHTTP2_ERR_DEFERRED;
    if (size > room)
        size = room;
    if (size > 0)
        memcpy(to, call->out.data + call->out_sent, size);
    call->out_sent += size;
    if (call->out_sent < call->out.length)
        return (ssize_t)size;
    if (call->finished) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else { /* a stream may live for months: what went out is not kept */
        atl_buf_reset(&call->out);
        call->out_sent = 0;
        call->trimmed = true;
    }
    return (ssize_t)size;
}

static ssize_t read_out(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t room,
                        uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)user;
    (void)source; /* the call may be gone: only the stream knows */
    struct atl_grpc_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    if (call == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    return grpc_call_read_out(call, to, room, flags);
}

static nghttp2_nv field(const char *name, const char *value)
{
    /* nghttp2 copies both; its members are not const. */
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value)};
}

void grpc_call_start(struct atl_grpc_call *call, struct grpc_conn *conn)
{
    char timeout[ATL_GRPC_TIMEOUT_MAX];
    nghttp2_nv fields[8 + ATL_GRPC_METADATA_MAX] = {
        field(":method", "POST"),
        field(":scheme", conn->ssl != NULL ? "https" : "http"),
        field(":path", call->options.method),
        field(":authority", conn->endpoint),
        field("content-type", "application/grpc+proto"),
        field("te", "trailers"),
        field("user-agent", "atoll"),
    };
    size_t count = 7;
    if (call->deadline != 0) {
        atl_ns left = call->deadline - atl_clock_monotonic();
        atl_grpc_timeout_text(left > ATL_MS ? left : ATL_MS, timeout);
        fields[count++] = field("grpc-timeout", timeout);
    }
    for (size_t i = 0; i < call->options.metadata_count; i++)
        fields[count++] = field(call->metadata[i].name, call->metadata[i].value);
    const nghttp2_data_provider body = {.read_callback = read_out};
    int32_t id = nghttp2_submit_request(conn->session, NULL, fields, count, &body, call);
    if (id < 0) { /* the connection has used up its streams, or closes */
        grpc_conn_drain(conn);
        return;
    }
    call->tries++;
    call->conn = conn;
    call->stream_id = id;
    grpc_call_move(call, &conn->calls);
    grpc_conn_flush_soon(conn);
}

static void resume(struct atl_grpc_call *call)
{
    if (call->conn == NULL || call->conn->lost)
        return;
    (void)nghttp2_session_resume_data(call->conn->session,
                                      call->stream_id); /* it may not have been deferred */
    grpc_conn_flush_soon(call->conn);
}

enum atl_code atl_grpc_send(struct atl_grpc_call *call, const void *request, size_t size,
                            struct atl_error *err)
{
    atl_assert(!call->finished);
    size_t max = call->channel->options.send_max;
    if (size > max || call->out.length - call->out_sent > max - size)
        return atl_fail(err, ATL_E_LIMIT, NULL, "%zu bytes wait to be sent already",
                        call->out.length - call->out_sent);
    atl_grpc_frame(&call->out, request, size);
    resume(call);
    return ATL_OK;
}

void atl_grpc_finish(struct atl_grpc_call *call)
{
    if (call->finished)
        return;
    call->finished = true;
    resume(call);
}

static void reset_stream(struct atl_grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    if (conn == NULL || conn->lost)
        return;
    (void)nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                    NGHTTP2_CANCEL); /* the stream may be over already */
    grpc_conn_flush_soon(conn);
}

void atl_grpc_cancel(struct atl_grpc_call *call)
{
    atl_assert(!call->dead);
    reset_stream(call);
    grpc_call_free(call);
}

static void on_deadline(void *user)
{
    struct atl_grpc_call *call = user;
    struct atl_grpc *channel = call->channel;
    call->timer = NULL;
    grpc_enter(channel);
    reset_stream(call);
    if (call->conn != NULL)
        grpc_conn_doubt(call->conn, call->deadline - call->options.timeout);
    grpc_call_fail(call, ATL_E_DEADLINE, "no answer in time");
    grpc_leave(channel);
}

struct atl_grpc_call *atl_grpc_call_new(struct atl_grpc *channel, const struct atl_grpc_call_options *options)
{
    atl_assert(!channel->dying);
    atl_assert(options->metadata_count <= ATL_GRPC_METADATA_MAX);
    struct atl_grpc_call *call = atl_new0(struct atl_grpc_call);
    call->channel = channel;
    call->options = *options;
    call->options.request = NULL;
    for (size_t i = 0; i < options->metadata_count; i++)
        call->metadata[i] = options->metadata[i];
    call->http_status = -1;
    call->finished = !options->stream;
    atl_grpc_reader_init(&call->reader, channel->options.message_max);
    if (options->request != NULL || !options->stream)
        atl_grpc_frame(&call->out, options->request, options->request_size);
    if (options->timeout > 0) {
        call->deadline = atl_clock_monotonic() + options->timeout;
        call->timer = atl_loop_timer(channel->loop, options->timeout, 0, on_deadline, call);
    }
    grpc_call_move(call, &channel->waiting);
    channel->call_count++;
    grpc_channel_admit(channel, call);
    return call;
}
