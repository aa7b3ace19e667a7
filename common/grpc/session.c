/* What HTTP/2 tells of our calls: nghttp2's callbacks. */
#include <string.h>

#include "grpc/internal.h"

static struct atl_grpc_call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return stream_id != 0 ? nghttp2_session_get_stream_user_data(session, stream_id) : NULL;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    struct atl_grpc_call *call = call_of(session, frame->hd.stream_id);
    if (call != NULL)
        call->sent = true;
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): nghttp2's table says what it is given */
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags, void *user)
{
    (void)flags;
    struct grpc_conn *conn = user;
    struct atl_grpc_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL || frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    const char *text = (const char *)value;
    if (name_length == 7 && memcmp(name, ":status", 7) == 0) {
        call->http_status = atl_grpc_http_status(text, value_length);
    } else if (name_length == 11 && memcmp(name, "grpc-status", 11) == 0) {
        call->has_status = true;
        call->status = atl_grpc_status(text, value_length);
        conn->proven = true;
    } else if (name_length == 12 && memcmp(name, "grpc-message", 12) == 0) {
        atl_grpc_percent_decode(text, value_length, call->text, sizeof call->text);
    }
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_conn *conn = user;
    (void)session;
    if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK) &&
        conn->state == GRPC_SETTLING && !conn->lost) {
        atl_timer_free(conn->timer);
        conn->timer = NULL;
        conn->state = GRPC_READY;
        grpc_channel_ready(conn->channel, conn);
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        grpc_conn_drain(conn);
    }
    return 0;
}

/* A message may make its receiver cancel the call, or free the channel: nothing is freed meanwhile, but a
 * dead call gets no more. */
static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *bytes,
                   size_t size, void *user)
{
    (void)flags;
    struct grpc_conn *conn = user;
    struct atl_grpc_call *call = call_of(session, stream_id);
    if (call != NULL)
        conn->proven = true;
    while (call != NULL && !call->dead && call->fault == ATL_OK && size > 0) {
        size_t taken = 0;
        struct atl_error err;
        enum atl_code code = atl_grpc_reader_take(&call->reader, bytes, size, &taken, &err);
        if (code != ATL_OK) {
            call->fault = code;
            (void)atl_copy(call->text, sizeof call->text, err.text);
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id,
                                            NGHTTP2_CANCEL); /* the stream may be over already */
            break;
        }
        bytes += taken;
        size -= taken;
        if (!call->reader.complete)
            continue;
        if (call->options.message != NULL)
            call->options.message((const uint8_t *)call->reader.message.data, call->reader.message.length,
                                  call->options.user);
        if (!call->dead)
            atl_grpc_reader_next(&call->reader);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *user)
{
    struct grpc_conn *conn = user;
    struct atl_grpc_call *call = call_of(session, stream_id);
    if (call != NULL)
        grpc_call_closed(call, error_code);
    if (conn->state == GRPC_DRAINING && conn->calls == NULL && !conn->lost)
        grpc_conn_lose(conn, "the connection is not needed any more");
    return 0;
}

/* A request that could not be sent, because the connection closes. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    (void)session; /* knows no stream of it yet */
    (void)error;
    struct grpc_conn *conn = user;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    struct atl_grpc_call *call = conn->calls;
    while (call != NULL && call->stream_id != frame->hd.stream_id)
        call = call->next;
    if (call != NULL)
        grpc_call_closed(call, NGHTTP2_REFUSED_STREAM);
    return 0;
}

void grpc_session_new(struct grpc_conn *conn)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int rc = nghttp2_session_callbacks_new(&callbacks);
    atl_assert(rc == 0);
    rc = nghttp2_option_new(&option);
    atl_assert(rc == 0);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_http_messaging(option, 0);
    rc = nghttp2_session_client_new2(&conn->session, callbacks, conn, option);
    atl_assert(rc == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GRPC_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GRPC_HEADER_BYTES_MAX},
    };
    rc = nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings, ATL_COUNT(settings));
    atl_assert(rc == 0);
    rc = nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0, GRPC_WINDOW);
    atl_assert(rc == 0);
}
