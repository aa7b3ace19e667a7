/* The life of a request: made by a protocol, given to the handler, answered, freed. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/h1.h"
#include "http/internal.h"

enum {
    KEPT_ARENA = 32 << 10, /* a spare request keeps memory up to here */
    KEPT_BUFFER = 8 << 10,
    GZIP_SLICE = 128 << 10, /* bytes compressed in one go: about 1 ms */
    PROGRESS_BYTES = 1024,  /* less within head_time is no progress of a body */
};

static const struct gw_fault too_large = {501, "for data too large"};

struct gw_gzip {
    struct gw_request *request;
    struct atl_timer *timer;
    struct atl_buf plain;
    struct gw_answer answer;
    struct gw_header extra[4];
    z_stream stream;
};

struct gw_request *gw_request_new(struct gw_conn *conn)
{
    struct gw_http *http = conn->http;
    struct gw_request *request = http->spare;
    if (request != NULL) {
        http->spare = request->next;
        http->spare_count--;
    } else {
        request = atl_new0(struct gw_request);
    }
    request->http = http;
    request->conn = conn;
    request->peer = conn->peer;
    request->progress_at = atl_loop_now(http->loop);
    request->head.content_length = -1;
    request->next = conn->requests;
    request->previous = NULL;
    if (conn->requests != NULL)
        conn->requests->previous = request;
    conn->requests = request;
    return request;
}

static void keep_buffer(struct atl_buf *buf)
{
    if (buf->capacity > KEPT_BUFFER)
        atl_buf_done(buf);
    else
        atl_buf_reset(buf);
}

static void gzip_free(struct gw_gzip *gzip)
{
    if (gzip == NULL)
        return;
    atl_timer_free(gzip->timer);
    (void)deflateEnd(&gzip->stream); /* says DATA_ERROR when cut short, which is meant here */
    atl_buf_done(&gzip->plain);
    free(gzip);
}

void gw_request_free(struct gw_request *request)
{
    struct gw_http *http = request->http;
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        request->conn->requests = request->next;
    if (request->next != NULL)
        request->next->previous = request->previous;
    http->held -= request->held;
    gzip_free(request->gzip);
    atl_buf_done(&request->output);
    keep_buffer(&request->body);
    keep_buffer(&request->pending);
    if (request->arena.used_bytes > KEPT_ARENA)
        atl_arena_done(&request->arena);
    else
        atl_arena_reset(&request->arena);
    if (http->freeing || http->spare_count >= GW_SPARE_REQUESTS) {
        atl_arena_done(&request->arena);
        atl_buf_done(&request->body);
        atl_buf_done(&request->pending);
        free(request);
        return;
    }
    *request = (struct gw_request){
        .arena = request->arena, .body = request->body, .pending = request->pending, .next = http->spare};
    http->spare = request;
    http->spare_count++;
}

void gw_request_gone(struct gw_request *request)
{
    if (request->gzip != NULL) {
        gzip_free(request->gzip);
        request->gzip = NULL;
    }
    void (*on_gone)(struct gw_request *) = request->replied ? NULL : request->on_gone;
    request->on_gone = NULL;
    request->replied = true;
    if (on_gone != NULL)
        on_gone(request);
}

void gw_request_begin(struct gw_request *request)
{
    const struct gw_http_handler *handler = &request->http->options.handler;
    request->state = GW_READING_BODY;
    if (request->head.path == NULL) /* CONNECT over HTTP/2 has none */
        request->head.path = "*";
    handler->on_head(handler->self, request);
    if (request->replied)
        return;
    if (request->reader == NULL && request->head.content_length > GW_BODY_MAX)
        gw_request_refuse(request, &too_large);
    else if (request->body_ended)
        gw_request_body_end(request);
}

size_t gw_request_bytes(struct gw_request *request, const char *bytes, size_t size)
{
    atl_ns now = atl_loop_now(request->http->loop);
    request->progress_at += (atl_ns)size * (request->http->options.head_time / PROGRESS_BYTES);
    if (request->progress_at > now || size >= PROGRESS_BYTES)
        request->progress_at = now;
    if (request->replied)
        return size;
    if (request->reader != NULL) {
        size_t taken = request->reader->data(request, bytes, size);
        atl_assert(taken <= size);
        request->paused = taken < size && !request->replied;
        return request->replied ? size : taken;
    }
    if (size > GW_BODY_MAX - request->body.length)
        gw_request_refuse(request, &too_large);
    else
        atl_buf_add(&request->body, bytes, size);
    return size;
}

void gw_request_body_end(struct gw_request *request)
{
    request->body_ended = true;
    if (request->replied)
        return;
    request->state = GW_WORKING;
    if (request->reader != NULL)
        request->reader->end(request);
    else
        request->http->options.handler.on_ready(request->http->options.handler.self, request);
}

void gw_request_stream(struct gw_request *request, const struct gw_body_reader *reader)
{
    atl_assert(request->state == GW_READING_BODY);
    request->reader = reader;
}

void gw_request_resume(struct gw_request *request)
{
    if (!request->paused || request->replied)
        return;
    request->paused = false;
    request->progress_at = atl_loop_now(request->http->loop);
    gw_conn_read_again(request->conn);
}

void gw_request_refuse(struct gw_request *request, const struct gw_fault *fault)
{
    struct atl_buf body = {0};
    atl_buf_printf(&body, "{\"data\":null,\"message\":\"%s\"}",
                   fault->reason); /* reasons are our own constants */
    gw_request_reply(request, &(struct gw_answer){.status = fault->status,
                                                  .reason = fault->reason,
                                                  .type = "application/json;charset=UTF-8",
                                                  .body = &body,
                                                  .close = true});
}

void gw_request_drop(struct gw_request *request)
{
    request->replied = true;
    request->on_gone = NULL;
    request->conn->protocol->drop(request);
}

/* --- answers --- */

static void hand_over(struct gw_request *request, const struct gw_answer *answer)
{
    request->state = GW_REPLYING;
    request->progress_at = atl_loop_now(request->http->loop);
    request->held = request->output.capacity;
    request->http->held += request->held;
    request->conn->protocol->reply(request, answer);
    gw_conn_mark(request->conn);
}

static void gzip_step(void *user)
{
    struct gw_gzip *gzip = user;
    struct gw_request *request = gzip->request;
    z_stream *stream = &gzip->stream;
    gzip->timer = NULL;
    size_t left = gzip->plain.length - (size_t)stream->total_in;
    size_t slice = left < GZIP_SLICE ? left : GZIP_SLICE;
    stream->next_in = (unsigned char *)gzip->plain.data + stream->total_in;
    stream->avail_in = (unsigned int)slice;
    int rc = Z_OK;
    do {
        stream->next_out = (unsigned char *)atl_buf_reserve(&request->output, slice / 4 + 1024);
        stream->avail_out = (unsigned int)(request->output.capacity - request->output.length - 1);
        unsigned int room = stream->avail_out;
        rc = deflate(stream, slice == left ? Z_FINISH : Z_NO_FLUSH);
        request->output.length += room - stream->avail_out;
    } while (rc == Z_OK && (stream->avail_in > 0 || slice == left));
    if (rc != Z_STREAM_END) {
        gzip->timer = atl_loop_timer(request->http->loop, 0, 0, gzip_step, gzip);
        return;
    }
    struct gw_answer answer = gzip->answer;
    hand_over(request, &answer);
    request->gzip = NULL;
    gzip_free(gzip);
}

/* Compresses the output in slices, so that a large answer does not hold the others up. */
static void gzip_start(struct gw_request *request, const struct gw_answer *answer)
{
    struct gw_gzip *gzip = atl_new0(struct gw_gzip);
    int rc = deflateInit2(&gzip->stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    atl_assert(rc == Z_OK);
    gzip->request = request;
    gzip->plain = request->output;
    request->output = (struct atl_buf){0};
    gzip->answer = *answer;
    gzip->answer.reason = answer->reason != NULL ? atl_arena_strdup(&request->arena, answer->reason) : NULL;
    for (size_t i = 0; i < answer->extra_count; i++)
        gzip->extra[i] = (struct gw_header){
            .name = atl_arena_strdup(&request->arena, answer->extra[i].name),
            .value = atl_arena_strdup(&request->arena, answer->extra[i].value),
        };
    gzip->extra[answer->extra_count] = (struct gw_header){.name = "content-encoding", .value = "gzip"};
    gzip->answer.extra = gzip->extra;
    gzip->answer.extra_count++;
    request->gzip = gzip;
    gzip_step(gzip);
}

static bool wants_gzip(const struct gw_request *request, const struct gw_answer *answer)
{
    return request->output.length >= GW_GZIP_FROM && answer->type != NULL &&
           answer->extra_count < ATL_COUNT(((struct gw_gzip *)NULL)->extra) &&
           gw_list_has(gw_head_find(&request->head, "accept-encoding"), "gzip");
}

void gw_request_reply(struct gw_request *request, const struct gw_answer *answer)
{
    atl_assert(!request->replied);
    atl_assert(request->conn->state != GW_CONN_DEAD);
    static const char busy[] = "{\"data\":null,\"message\":\"too many answers wait for their readers\"}";
    request->replied = true;
    request->on_gone = NULL;
    struct gw_answer own = *answer;
    own.body = NULL;
    if (answer->body != NULL) {
        request->output = *answer->body;
        *answer->body = (struct atl_buf){0};
    }
    if (request->output.length > GW_BODY_MAX && request->http->held + request->output.length > GW_HELD_MAX) {
        atl_buf_done(&request->output);
        atl_buf_text(&request->output, busy);
        own = (struct gw_answer){.status = 503, .type = answer->type, .close = true};
    }
    if (request->head.method != NULL && strcmp(request->head.method, "HEAD") == 0)
        atl_buf_done(&request->output);
    if (own.extra == NULL)
        own.extra_count = 0;
    if (wants_gzip(request, &own))
        gzip_start(request, &own);
    else
        hand_over(request, &own);
}
