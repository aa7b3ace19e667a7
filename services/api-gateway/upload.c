/*
 * Uploads: a multipart body whose file goes straight on to the storage-agent
 * (proto/atoll/storage/v1/upload.proto). Nothing of it is kept but what the agent's socket does not take at
 * once, one TLS record at most; then the client is not read until the socket takes more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "atoll/storage/v1/upload.atl.h"
#include "atoll/storage/v1/upload.pb-c.h"
#include "core/multipart.h"
#include "gw.h"
#include "io/stream.h"

enum { LINE_MAX_BYTES = 600, FIELDS_MAX = GW_PARTS_MAX + 2, RELAYS_MAX = 64 };

#define STALL_TIME (60 * ATL_SECOND)  /* the agent takes no bytes */
#define ACK_TIME   (600 * ATL_SECOND) /* the agent brings the last of them to the disk */
#define CHECK_TIME (5 * ATL_SECOND)
#define MEET_TIME  (10 * ATL_SECOND) /* the connection to another node's agent */

enum upload_state {
    UPLOAD_WAITING, /* for the login, for the offer, or for the socket */
    UPLOAD_PARSING,
    UPLOAD_CALLING, /* all is said; the last answer is the agent's */
};

struct gw_upload {
    struct gw_work *work;
    struct gw_multipart reader;
    enum upload_state state;
    struct atl_param fields[FIELDS_MAX];
    size_t field_count;
    char *handle;
    int fd;                         /* of the agent's socket, or to the relay; -1 */
    struct atl_stream_relay *relay; /* to the agent of another node, else NULL */
    struct atl_watch *watch;
    struct atl_timer *check;
    struct atl_buf held; /* bytes of the file that the socket did not take */
    size_t held_at;
    uint64_t sent;
    atl_ns progress_at;
    char line[LINE_MAX_BYTES + 1]; /* of the agent */
    size_t line_size;
    bool has_file;
    bool file_ended;
    bool parsed; /* the last boundary was seen */
    bool body_ended;
    bool acked;
};

static struct gw_upload *upload_of(const struct gw_request *request)
{
    return ((const struct gw_work *)request->user)->upload;
}

void gw_upload_free(struct gw_work *work)
{
    struct gw_upload *upload = work->upload;
    if (upload == NULL)
        return;
    work->upload = NULL;
    atl_watch_free(upload->watch);
    atl_timer_free(upload->check);
    if (upload->relay != NULL) {
        atl_stream_relay_free(
            &upload->relay); /* first: a stream that is not ended must not look as if it were */
        work->gw->relays--;
    }
    if (upload->fd >= 0)
        (void)close(upload->fd); /* a stream that was not ended is thrown away by the agent */
    atl_buf_done(&upload->held);
    free(upload->handle);
    free(upload);
}

static atl_ns now_of(const struct gw_upload *upload)
{
    return atl_loop_now(upload->work->gw->options.loop);
}

static void wait_for_socket(struct gw_upload *upload)
{
    bool blocked = upload->held.length > upload->held_at;
    atl_watch_set(upload->watch, ATL_READ | (blocked ? ATL_WRITE : 0U));
}

static void add_field(struct gw_upload *upload, const char *name, const char *value)
{
    struct atl_arena *arena = &upload->work->request->arena;
    atl_assert(upload->field_count < FIELDS_MAX);
    upload->fields[upload->field_count++] =
        (struct atl_param){.name = atl_arena_strdup(arena, name), .value = atl_arena_strdup(arena, value)};
}

/* --- the agent's socket --- */

static void broken(struct gw_upload *upload)
{
    struct atl_error how = {0};
    if (upload->relay != NULL && upload->sent == 0 && atl_stream_relay_ended(upload->relay, &how) &&
        how.code != ATL_OK) {
        gw_fail_text(upload->work, 595, "the storage-agent of '%s' cannot be reached: %s", upload->work->node,
                     how.text);
        return;
    }
    gw_fail_text(upload->work, 500, "the storage-agent broke the upload off");
}

/* Sends what was held back; false when the upload has failed. */
static bool send_held(struct gw_upload *upload)
{
    while (upload->held_at < upload->held.length) {
        ssize_t put = send(upload->fd, upload->held.data + upload->held_at,
                           upload->held.length - upload->held_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (put < 0) { /* why, stands in the agent's line if it sent one: reading it is next */
            upload->held_at = upload->held.length;
            return upload->line_size > 0;
        }
        upload->held_at += (size_t)put;
        upload->progress_at = now_of(upload);
    }
    wait_for_socket(upload);
    return true;
}

static void take_data(struct gw_upload *upload, const char *bytes, size_t size)
{
    upload->sent += size;
    ssize_t put = send(upload->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    size_t done = put > 0 ? (size_t)put : 0;
    if (put > 0)
        upload->progress_at = now_of(upload);
    if (done == size)
        return;
    atl_buf_reset(&upload->held);
    upload->held_at = 0;
    atl_buf_add(&upload->held, bytes + done, size - done);
    upload->state = UPLOAD_WAITING;
    wait_for_socket(upload); /* also shows an error: the socket is then readable */
}

static void proceed(struct gw_upload *upload);

/* The agent's one line: "OK <bytes>" or "ERROR <sentence>". */
static void take_line(struct gw_upload *upload)
{
    struct gw_work *work = upload->work;
    char *end = memchr(upload->line, '\n', upload->line_size);
    if (end == NULL) {
        broken(upload);
        return;
    }
    *end = '\0';
    if (strncmp(upload->line, "ERROR ", 6) == 0) {
        gw_fail_text(work, 500, "%s", upload->line + 6);
        return;
    }
    char *rest = NULL;
    bool ok = strncmp(upload->line, "OK ", 3) == 0 && upload->file_ended;
    if (!ok || strtoull(upload->line + 3, &rest, 10) != upload->sent || *rest != '\0') {
        gw_fail_text(work, 500, "the storage-agent did not get all bytes of the upload");
        return;
    }
    upload->acked = true;
    atl_watch_free(upload->watch);
    upload->watch = NULL;
    proceed(upload);
}

static void on_socket(void *user, unsigned int events)
{
    struct gw_upload *upload = user;
    if (events & (ATL_READ | ATL_HANGUP)) {
        ssize_t got = recv(upload->fd, upload->line + upload->line_size, LINE_MAX_BYTES - upload->line_size,
                           MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        upload->line_size += got > 0 ? (size_t)got : 0;
        bool complete = memchr(upload->line, '\n', upload->line_size) != NULL;
        if (complete || got <= 0 || upload->line_size == LINE_MAX_BYTES)
            take_line(upload);
        return;
    }
    if (!send_held(upload)) {
        broken(upload);
        return;
    }
    if (upload->held_at == upload->held.length && upload->state == UPLOAD_WAITING) {
        upload->state = UPLOAD_PARSING;
        gw_request_resume(upload->work->request);
    }
}

static void on_check(void *user)
{
    struct gw_upload *upload = user;
    atl_ns quiet = now_of(upload) - upload->progress_at;
    bool blocked = upload->held_at < upload->held.length;
    if ((blocked && quiet > STALL_TIME) || (upload->file_ended && !upload->acked && quiet > ACK_TIME))
        gw_fail_text(upload->work, 500, "the storage-agent takes no more bytes of the upload");
}

static bool connect_agent(struct gw_upload *upload, const Atoll__Storage__V1__UploadOffer *offer)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (offer->socket == NULL || !atl_copy(address.sun_path, sizeof address.sun_path, offer->socket))
        return false;
    upload->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (upload->fd < 0)
        return false;
    if (connect(upload->fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return false;
    ssize_t put = send(upload->fd, offer->token.data, offer->token.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return put == (ssize_t)offer->token.len; /* a fresh socket takes a few bytes */
}

/* The other end of a pair of sockets is a relay's, so that all else is as with our own agent. */
static enum atl_code connect_other(struct gw_upload *upload, const Atoll__Bus__V1__StreamOffer *message,
                                   struct atl_error *err)
{
    struct atl_stream_offer offer;
    struct gw *gw = upload->work->gw;
    int pair[2];
    enum atl_code code = atl_stream_offer_unpack(message, &offer, err);
    if (code != ATL_OK)
        return code;
    if (gw->relays >= RELAYS_MAX)
        return atl_fail(err, ATL_E_LIMIT, NULL,
                        "there are %d uploads to other nodes already, try again later", RELAYS_MAX);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return atl_fail(err, ATL_E_LIMIT, NULL, "no sockets: %s", strerror(errno));
    upload->fd = pair[0];
    upload->relay = atl_stream_relay_connect(&offer, "upload", now_of(upload) + MEET_TIME, &pair[1]);
    gw->relays++;
    return ATL_OK;
}

static enum atl_code reach_agent(struct gw_upload *upload, const Atoll__Storage__V1__UploadOffer *offer,
                                 struct atl_error *err)
{
    if (offer->handle != NULL && offer->stream != NULL)
        return connect_other(upload, offer->stream, err);
    if (offer->handle == NULL || !connect_agent(upload, offer))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "cannot reach the storage-agent's upload socket: %s",
                        strerror(errno));
    return ATL_OK;
}

static void on_offer(struct gw_work *work, const struct atl_reply *reply)
{
    struct atl_error err = {0};
    struct gw_upload *upload = work->upload;
    if (reply->code != ATL_OK) {
        gw_fail_reply(work, reply);
        return;
    }
    const Atoll__Storage__V1__UploadOffer *offer = (const Atoll__Storage__V1__UploadOffer *)reply->output;
    if (reach_agent(upload, offer, &err) != ATL_OK) {
        gw_fail_text(work, err.code == ATL_E_LIMIT ? 500 : 595, "%s", err.text);
        return;
    }
    upload->handle = atl_strdup(offer->handle);
    upload->progress_at = now_of(upload);
    upload->watch = atl_loop_fd(work->gw->options.loop, upload->fd, ATL_READ, on_socket, upload);
    upload->check = atl_loop_timer(work->gw->options.loop, CHECK_TIME, CHECK_TIME, on_check, upload);
    upload->state = UPLOAD_PARSING;
    gw_request_resume(work->request);
}

static const char *path_value(const struct gw_work *work, const char *name)
{
    for (size_t i = 0; i < work->match.param_count; i++) {
        if (strcmp(work->match.params[i].name, name) == 0)
            return work->match.params[i].value;
    }
    return NULL;
}

static void open_stream(struct gw_upload *upload, const char *filename)
{
    struct gw_work *work = upload->work;
    struct atl_arena *arena = &work->request->arena;
    const char *storage = path_value(work, "storage");
    add_field(upload, "filename", filename);
    upload->has_file = true;
    upload->state = UPLOAD_WAITING;
    if (storage == NULL) {
        gw_fail_text(work, 501, "uploads go to a storage");
        return;
    }
    Atoll__Storage__V1__UploadOpenRequest input = ATOLL__STORAGE__V1__UPLOAD_OPEN_REQUEST__INIT;
    input.node = atl_arena_strdup(arena, work->node != NULL ? work->node : work->gw->options.node);
    input.storage = atl_arena_strdup(arena, storage);
    input.has_max_size = 1;
    input.max_size = (uint64_t)work->request->head.content_length;
    gw_call(work, &atl_rpc_storage_v1_UploadStream_Open, &input.base, on_offer);
}

/* --- the body --- */

/* Deals with one event of the multipart reader; false when the upload is over (answered). */
static bool take_part(struct gw_upload *upload, const struct gw_part *part)
{
    struct gw_work *work = upload->work;
    switch (part->kind) {
    case GW_PART_FIELD:
        if (strcmp(part->name, "tmpfilename") == 0) { /* names a file of the agent: only the gateway may */
            gw_fail_text(work, 400, "parameter 'tmpfilename' cannot be given");
            return false;
        }
        add_field(upload, part->name, part->value);
        break;
    case GW_PART_FILE:
        open_stream(upload, part->filename);
        break;
    case GW_PART_DATA:
        take_data(upload, part->data, part->size);
        break;
    case GW_PART_FILE_END:
        (void)shutdown(upload->fd, SHUT_WR); /* fails only when the agent is gone, which its line tells */
        upload->file_ended = true;
        upload->progress_at = now_of(upload);
        break;
    case GW_PART_END:
        upload->parsed = true;
        break;
    case GW_PART_FAULT:
        gw_fail_text(work, part->fault->status, "%s", part->fault->reason);
        return false;
    case GW_PART_MORE:
        break;
    }
    return work->upload == upload;
}

static size_t on_data(struct gw_request *request, const char *bytes, size_t size)
{
    struct gw_work *work = request->user;
    struct gw_upload *upload = work->upload;
    size_t taken = 0;
    while (taken < size && upload->state == UPLOAD_PARSING) {
        size_t used = 0;
        struct gw_part part = gw_multipart_next(&upload->reader, bytes + taken, size - taken, &used);
        taken += used;
        if (!take_part(upload, &part))
            return size;
    }
    return taken;
}

/* The last step, once the body is read and the agent has all of the file. */
static void proceed(struct gw_upload *upload)
{
    struct gw_work *work = upload->work;
    if (!upload->body_ended || !upload->acked)
        return;
    upload->state = UPLOAD_CALLING;
    atl_timer_free(upload->check);
    upload->check = NULL;
    add_field(upload, "tmpfilename", upload->handle);
    const struct gw_params body = {.items = upload->fields, .count = upload->field_count};
    if (gw_collect_params(work, &body))
        gw_dispatch(work);
}

static void on_end(struct gw_request *request)
{
    struct gw_upload *upload = upload_of(request);
    upload->body_ended = true;
    if (upload->work->delay != NULL) /* refused already, which is only not said yet */
        return;
    if (!upload->parsed)
        gw_fail_text(upload->work, 400, "the multipart body ends before its last boundary");
    else if (!upload->has_file)
        gw_fail_text(upload->work, 400, "the multipart body holds no file");
    else
        proceed(upload);
}

static void on_admitted(struct gw_work *work)
{
    struct gw_upload *upload = work->upload;
    if (!gw_settle_node(work))
        return;
    upload->state = UPLOAD_PARSING;
    gw_request_resume(work->request);
}

void gw_upload_begin(struct gw_work *work)
{
    static const struct gw_body_reader body_reader = {.data = on_data, .end = on_end};
    struct gw_request *request = work->request;
    struct gw_upload *upload = atl_new0(struct gw_upload);
    work->upload = upload;
    upload->work = work;
    upload->fd = -1;
    upload->state = UPLOAD_WAITING;
    const struct gw_fault *fault =
        gw_multipart_init(&upload->reader, gw_head_find(&request->head, "content-type"));
    if (request->head.content_length < 0) {
        gw_fail_text(work, 411, "an upload needs a Content-Length");
        return;
    }
    if (fault != NULL) {
        gw_fail_text(work, fault->status, "%s", fault->reason);
        return;
    }
    gw_request_stream(request, &body_reader);
    gw_authenticate(work, on_admitted);
}
