/*
 * Uploads: an offer, a stream of bytes into a temporary file, and the task that names it; see upload.proto.
 *
 * A stream costs nothing while its client sends nothing: the loop waits for bytes, and a thread of the pool
 * takes what is there and writes it.
 */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "atoll/storage/v1/job.pb-c.h"
#include "atoll/storage/v1/storage.pb-c.h"
#include "atoll/storage/v1/upload.pb-c.h"
#include "io/log.h"
#include "io/stream.h"
#include "sto.h"

enum { STREAMS_MAX = 64, GREETERS_MAX = 64, TOKEN_SIZE = 32, HANDLE_SIZE = 64, CHUNK = 1 << 18, CHUNKS = 32 };
#define CONNECT_TIME (30 * ATL_SECOND)
#define SILENT_TIME  (60 * ATL_SECOND)
#define TAKE_TIME    (60 * ATL_SECOND)
#define GREET_TIME   (10 * ATL_SECOND)
#define PART_TIME    (10 * ATL_SECOND) /* for the last line to another node */

enum stream_state {
    STREAM_OFFERED,  /* nobody has connected */
    STREAM_OPEN,     /* bytes come */
    STREAM_RECEIVED, /* OK was said; Upload may take it */
    STREAM_TAKEN,    /* a task has it */
};

struct stream {
    struct sto_work work; /* first */
    struct stream *next;
    struct sto_uploads *uploads;
    enum stream_state state;
    uint8_t token[TOKEN_SIZE];
    char handle[HANDLE_SIZE];
    char *user;
    struct atl_arena arena;
    struct sto_config config; /* in arena, as all below */
    const struct sto_storage *storage;
    const struct sto_driver *driver;
    struct sto_slot slot;
    uint64_t max_size;
    uint64_t received;
    int fd;
    struct atl_stream_relay *relay; /* to the other end of fd, from another node; else NULL */
    struct atl_watch *watch;
    atl_ns deadline; /* 0: none */
    bool busy;       /* a thread works on it */
    bool ended;      /* the client has sent all */
    bool broken;     /* it is thrown away when the thread is done */
    struct atl_error err;
    char upid[ATL_UPID_MAX]; /* STREAM_TAKEN */
};

/* A connection that has not shown its token yet. */
struct greeter {
    struct greeter *next;
    struct sto_uploads *uploads;
    int fd;
    struct atl_watch *watch;
    atl_ns deadline;
    uint8_t token[TOKEN_SIZE];
    size_t length;
};

/* A relay whose stream is gone: it still says our last line to the other node. */
struct parting {
    struct parting *next;
    struct atl_stream_relay *relay;
    atl_ns deadline;
};

struct sto_uploads {
    struct sto *sto;
    char *path;
    int fd;
    struct atl_watch *watch;
    struct atl_timer *timer;
    struct stream *streams;
    size_t stream_count;
    struct greeter *greeters;
    size_t greeter_count;
    struct parting *partings;
};

static void part_with(struct stream *stream)
{
    struct sto_uploads *uploads = stream->uploads;
    struct parting *parting = atl_new0(struct parting);
    parting->relay = ATL_STEAL(stream->relay);
    parting->deadline = atl_loop_now(uploads->sto->loop) + PART_TIME;
    parting->next = uploads->partings;
    uploads->partings = parting;
}

static void end_partings(struct sto_uploads *uploads, atl_ns now)
{
    for (struct parting **link = &uploads->partings; *link != NULL;) {
        struct parting *parting = *link;
        struct atl_error how;
        if (now < parting->deadline && !atl_stream_relay_ended(parting->relay, &how)) {
            link = &parting->next;
            continue;
        }
        *link = parting->next;
        atl_stream_relay_free(&parting->relay);
        free(parting);
    }
}

static void stream_destroy(struct stream *stream)
{
    atl_assert(!stream->busy);
    atl_watch_free(stream->watch);
    if (stream->fd >= 0)
        (void)close(stream->fd);
    if (stream->relay != NULL)
        part_with(stream);
    if (stream->driver != NULL)
        stream->driver->drop(stream->storage, &stream->slot);
    atl_arena_done(&stream->arena);
    free(stream->user);
    free(stream);
}

static void stream_free(struct stream *stream)
{
    struct sto_uploads *uploads = stream->uploads;
    struct stream **link = &uploads->streams;
    while (*link != stream)
        link = &(*link)->next;
    *link = stream->next;
    uploads->stream_count--;
    stream_destroy(stream);
}

/* One line to the peer; what it does not take at once is lost, and it sees the end of the stream. */
static void say(int fd, const char *text)
{
    (void)send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void close_stream_fd(struct stream *stream)
{
    atl_watch_free(stream->watch);
    stream->watch = NULL;
    if (stream->fd >= 0) {
        (void)shutdown(stream->fd, SHUT_WR);
        (void)close(stream->fd);
    }
    stream->fd = -1;
}

static void stream_refuse(struct stream *stream, const char *why)
{
    char line[600];
    (void)snprintf(line, sizeof line, "ERROR %s\n", why);
    if (stream->fd >= 0)
        say(stream->fd, line);
    atl_log(ATL_NOTICE, "upload-broken", "upload to storage '%s' ended after %" PRIu64 " bytes: %s",
            stream->storage->id, stream->received, why);
    if (stream->busy)
        stream->broken = true;
    else
        stream_free(stream);
}

/* --- bytes --- */

static bool write_all(struct stream *stream, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t put = write(stream->slot.fd, bytes, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            (void)atl_fail(&stream->err, ATL_E_LIMIT, NULL, "cannot write to storage '%s': %s",
                           stream->storage->id, strerror(errno));
            return false;
        }
        bytes += put;
        size -= (size_t)put;
    }
    return true;
}

/* In a thread: what is there, up to a bound, so that one fast client does not hold a thread for long. */
static void receive(struct sto_work *work)
{
    static _Thread_local uint8_t bytes[CHUNK];
    struct stream *stream = (struct stream *)work;
    for (int i = 0; i < CHUNKS; i++) {
        ssize_t got = recv(stream->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got < 0) {
            (void)atl_fail(&stream->err, ATL_E_CANCELLED, NULL, "the connection broke: %s", strerror(errno));
            return;
        }
        if (got == 0) {
            stream->ended = true;
            return;
        }
        stream->received += (uint64_t)got;
        if (stream->received > stream->max_size) {
            (void)atl_fail(&stream->err, ATL_E_LIMIT, NULL,
                           "more than the %" PRIu64 " bytes that were announced", stream->max_size);
            return;
        }
        if (!write_all(stream, bytes, (size_t)got))
            return;
    }
}

static void received(struct sto_work *work)
{
    struct stream *stream = (struct stream *)work;
    stream->busy = false;
    if (stream->broken) {
        stream_free(stream);
        return;
    }
    if (stream->err.code != ATL_OK) {
        stream_refuse(stream, stream->err.text);
        return;
    }
    if (stream->ended && stream->relay != NULL && !atl_stream_relay_complete(stream->relay)) {
        stream_refuse(stream, "the connection to the other node broke");
        return;
    }
    atl_ns now = atl_loop_now(stream->uploads->sto->loop);
    if (!stream->ended) {
        stream->deadline = now + SILENT_TIME;
        atl_watch_set(stream->watch, ATL_READ);
        return;
    }
    char line[64];
    (void)snprintf(line, sizeof line, "OK %" PRIu64 "\n", stream->received);
    say(stream->fd, line);
    close_stream_fd(stream);
    stream->state = STREAM_RECEIVED;
    stream->deadline = now + TAKE_TIME;
}

static void readable(void *user, unsigned int events)
{
    (void)events;
    struct stream *stream = user;
    if (stream->busy)
        return;
    atl_watch_set(stream->watch, 0);
    stream->work.run = receive;
    stream->work.done = received;
    struct atl_error err = {0};
    stream->busy = true;
    if (sto_pool_add(stream->uploads->sto->pool, &stream->work, &err) != ATL_OK) {
        stream->busy = false;
        stream_refuse(stream, err.text);
    }
}

/* --- connections --- */

static void greeter_free(struct greeter *greeter, bool keep_fd)
{
    struct greeter **link = &greeter->uploads->greeters;
    while (*link != greeter)
        link = &(*link)->next;
    *link = greeter->next;
    greeter->uploads->greeter_count--;
    atl_watch_free(greeter->watch);
    if (!keep_fd)
        (void)close(greeter->fd);
    free(greeter);
}

static struct stream *find_token(const struct sto_uploads *uploads, const uint8_t *token)
{
    struct stream *found = NULL;
    for (struct stream *stream = uploads->streams; stream != NULL; stream = stream->next) {
        bool equal = atl_equal_secret(stream->token, token, TOKEN_SIZE);
        if (equal && stream->state == STREAM_OFFERED)
            found = stream;
    }
    return found;
}

static void greeted(void *user, unsigned int events)
{
    (void)events;
    struct greeter *greeter = user;
    struct sto_uploads *uploads = greeter->uploads;
    ssize_t got =
        recv(greeter->fd, greeter->token + greeter->length, TOKEN_SIZE - greeter->length, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        greeter_free(greeter, false);
        return;
    }
    greeter->length += (size_t)got;
    if (greeter->length < TOKEN_SIZE)
        return;
    struct stream *stream = find_token(uploads, greeter->token);
    if (stream == NULL) {
        say(greeter->fd, "ERROR the token of this upload is wrong, was used, or is too old\n");
        greeter_free(greeter, false);
        return;
    }
    stream->fd = greeter->fd;
    stream->state = STREAM_OPEN;
    stream->deadline = atl_loop_now(uploads->sto->loop) + SILENT_TIME;
    greeter_free(greeter, true);
    stream->watch = atl_loop_fd(uploads->sto->loop, stream->fd, ATL_READ, readable, stream);
}

static void accept_one(void *user, unsigned int events)
{
    (void)events;
    struct sto_uploads *uploads = user;
    int fd = accept4(uploads->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (uploads->greeter_count >= GREETERS_MAX) {
        say(fd, "ERROR too many uploads begin at once, try again\n");
        (void)close(fd);
        return;
    }
    struct greeter *greeter = atl_new0(struct greeter);
    greeter->uploads = uploads;
    greeter->fd = fd;
    greeter->deadline = atl_loop_now(uploads->sto->loop) + GREET_TIME;
    greeter->next = uploads->greeters;
    uploads->greeters = greeter;
    uploads->greeter_count++;
    greeter->watch = atl_loop_fd(uploads->sto->loop, fd, ATL_READ, greeted, greeter);
}

static void look_around(void *user)
{
    struct sto_uploads *uploads = user;
    atl_ns now = atl_loop_now(uploads->sto->loop);
    end_partings(uploads, now);
    for (struct greeter *greeter = uploads->greeters, *next = NULL; greeter != NULL; greeter = next) {
        next = greeter->next;
        if (now > greeter->deadline)
            greeter_free(greeter, false);
    }
    for (struct stream *stream = uploads->streams, *next = NULL; stream != NULL; stream = next) {
        next = stream->next;
        if (stream->state == STREAM_TAKEN && !atl_task_alive(uploads->sto->tasks, stream->upid))
            stream_free(stream); /* the worker has moved the file, or died: then it goes here */
        else if (stream->deadline != 0 && now > stream->deadline && !stream->busy)
            stream_refuse(stream, stream->state == STREAM_OPEN ? "no bytes came for 60 s"
                                                               : "it was not used in time");
    }
}

/* --- Open --- */

static void random_bytes(uint8_t *bytes, size_t size)
{
    ssize_t got = getrandom(bytes, size, 0);
    atl_assert(got == (ssize_t)size); /* up to 256 bytes always come whole */
}

static struct stream *stream_new(struct sto *sto, const char *user)
{
    struct stream *stream = atl_new0(struct stream);
    uint8_t random[16];
    random_bytes(random, sizeof random);
    random_bytes(stream->token, sizeof stream->token);
    size_t length = (size_t)snprintf(stream->handle, sizeof stream->handle, "/var/tmp/pveupload-");
    for (size_t i = 0; i < sizeof random; i++)
        (void)snprintf(stream->handle + length + 2 * i, 3, "%02x", random[i]);
    stream->uploads = sto->uploads;
    stream->user = atl_strdup(user);
    stream->fd = -1;
    stream->slot.fd = -1;
    stream->next = sto->uploads->streams;
    sto->uploads->streams = stream;
    sto->uploads->stream_count++;
    return stream;
}

static void open_slot(struct sto_job *job)
{
    struct stream *stream = job->extra;
    struct sto_fill fill;
    job->code = job->driver->activate(job->storage, &job->err);
    if (job->code == ATL_OK)
        job->code = job->driver->fill(job->storage, &fill, &job->err);
    if (job->code == ATL_OK && fill.avail_bytes < stream->max_size)
        job->code =
            atl_fail(&job->err, ATL_E_LIMIT, NULL,
                     "storage '%s' has no room: the upload has up to %" PRIu64 " bytes, %" PRIu64 " are free",
                     job->storage->id, stream->max_size, fill.avail_bytes);
    if (job->code == ATL_OK)
        job->code = job->driver->receive(job->storage, &stream->slot, &job->err);
}

static void offer_socket(struct sto_job *job, struct stream *stream, Atoll__Storage__V1__UploadOffer *offer)
{
    stream->deadline = atl_loop_now(job->sto->loop) + CONNECT_TIME;
    offer->socket = job->sto->uploads->path;
    offer->has_token = true;
    offer->token.data = stream->token;
    offer->token.len = TOKEN_SIZE;
}

/* A relay on the other end of a pair of sockets: for us the gateway of the other node is there. */
static enum atl_code offer_stream(struct sto_job *job, struct stream *stream,
                                  Atoll__Storage__V1__UploadOffer *offer)
{
    struct atl_stream_server *server = NULL;
    struct atl_stream_offer where;
    int pair[2];
    enum atl_code code = atl_stream_listen(sto_address(job->sto), &server, &where, &job->err);
    if (code != ATL_OK)
        return code;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        atl_stream_server_close(&server);
        return atl_fail(&job->err, ATL_E_LIMIT, NULL, "no sockets: %s", strerror(errno));
    }
    stream->relay =
        atl_stream_relay_accept(&server, "upload", atl_clock_monotonic() + CONNECT_TIME, &pair[1]);
    stream->fd = pair[0];
    stream->state = STREAM_OPEN;
    stream->deadline = atl_loop_now(job->sto->loop) + SILENT_TIME;
    stream->watch = atl_loop_fd(job->sto->loop, stream->fd, ATL_READ, readable, stream);
    offer->stream = atl_stream_offer_pack(&where, &job->arena);
    return ATL_OK;
}

static void slot_opened(struct sto_job *job)
{
    struct stream *stream = job->extra;
    stream->busy = false;
    Atoll__Storage__V1__UploadOffer *offer = atl_arena_new(&job->arena, Atoll__Storage__V1__UploadOffer);
    atoll__storage__v1__upload_offer__init(offer);
    offer->handle = stream->handle;
    if (job->code == ATL_OK && atl_request_principal(job->request)->node != NULL)
        job->code = offer_stream(job, stream, offer);
    else if (job->code == ATL_OK)
        offer_socket(job, stream, offer);
    if (job->code != ATL_OK) {
        stream_free(stream);
        sto_job_fail(job);
        return;
    }
    job->output = &offer->base;
    sto_job_end(job);
}

static const char *who(const struct atl_request *request)
{
    const struct atl_principal *principal = atl_request_principal(request);
    return principal->user != NULL ? principal->user : "";
}

void sto_rpc_upload_open(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto *sto = user;
    const Atoll__Storage__V1__UploadOpenRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(sto, request, input, wanted->node);
    if (job == NULL)
        return;
    if (sto_job_storage(job, wanted->storage, STO_CONTENTS) == ATL_OK &&
        sto->uploads->stream_count >= STREAMS_MAX)
        job->code = atl_fail(&job->err, ATL_E_LIMIT, NULL, "there are %d uploads already, try again later",
                             STREAMS_MAX);
    if (job->code != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    struct stream *stream = stream_new(sto, who(request));
    stream->max_size = wanted->max_size;
    /* The stream outlives the job: it has a copy of the configuration of its own. */
    if (sto_read_config(sto, &stream->arena, &stream->config, &job->err) != ATL_OK) {
        stream_free(stream);
        sto_job_fail(job);
        return;
    }
    stream->storage = sto_config_find(&stream->config, wanted->storage);
    stream->driver = job->driver;
    stream->busy = true;
    job->extra = stream;
    job->finish = slot_opened;
    job->storage = stream->storage;
    sto_job_go(job, open_slot);
}

/* --- Upload --- */

static struct stream *find_handle(const struct sto_uploads *uploads, const char *handle, const char *user)
{
    for (struct stream *stream = uploads->streams; stream != NULL; stream = stream->next) {
        if (strcmp(stream->handle, handle) == 0 && strcmp(stream->user, user) == 0)
            return stream;
    }
    return NULL;
}

static enum atl_code check_upload(struct sto_job *job, const Atoll__Storage__V1__UploadRequest *upload,
                                  struct stream **ret_stream)
{
    enum sto_content content = STO_ISO;
    struct stream *stream = NULL;
    if (upload->tmpfilename != NULL)
        stream = find_handle(job->sto->uploads, upload->tmpfilename, who(job->request));
    if (stream == NULL || stream->state != STREAM_RECEIVED ||
        strcmp(stream->storage->id, upload->storage) != 0)
        return atl_fail(&job->err, ATL_E_INVALID, "filename", "no file was uploaded with this request");
    *ret_stream = stream;
    (void)sto_content_from_text(upload->content, strlen(upload->content),
                                &content); /* validated: a closed set */
    if (sto_job_storage(job, upload->storage, content) != ATL_OK)
        return job->code;
    return sto_upload_name(content, upload->filename, &stream->slot.volume, &job->err);
}

void sto_rpc_upload(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto *sto = user;
    const Atoll__Storage__V1__UploadRequest *upload = (const void *)input;
    struct sto_job *job = sto_job_new(sto, request, input, upload->node);
    if (job == NULL)
        return;
    struct stream *stream = NULL;
    job->code = check_upload(job, upload, &stream);
    if (job->code != ATL_OK) {
        if (stream != NULL)
            stream_free(stream);
        sto_job_fail(job);
        return;
    }
    atl_assert(stream != NULL);
    const struct atl_file *file = atl_mirror_get(sto->mirror, "storage.cfg");
    Atoll__Storage__V1__CopyJob spec = ATOLL__STORAGE__V1__COPY_JOB__INIT;
    spec.storage_cfg =
        atl_arena_strndup(&job->arena, file->bytes, file->size); /* there: it names the storage */
    spec.storage = upload->storage;
    spec.folder = stream->slot.folder;
    spec.temporary = stream->slot.temporary;
    spec.volume = stream->slot.volume.name;
    spec.size_bytes = stream->received;
    spec.checksum = upload->checksum;
    spec.checksum_algorithm = upload->checksum_algorithm;
    spec.filename = upload->filename;
    char upid[ATL_UPID_MAX] = "";
    job->code = sto_task_begin(sto, request, "imgcopy", "", &spec.base, upid, &job->err);
    if (job->code != ATL_OK) {
        stream_free(stream);
        sto_job_fail(job);
        return;
    }
    stream->state = STREAM_TAKEN;
    stream->deadline = 0;
    sto_close_fd(&stream->slot.fd);
    (void)atl_copy(stream->upid, sizeof stream->upid, upid);
    sto_task_answer(request, upid);
    sto_job_free(job);
}

/* --- the whole --- */

/* The gateway's group may connect; where it does not exist (tests), the owner alone. */
static void give_to_gateway(const char *path)
{
    /* cppcheck-suppress getgrnamCalled ; only the loop's thread asks */
    const struct group *group = getgrnam("atoll-gateway");
    if (group != NULL && chown(path, (uid_t)-1, group->gr_gid) < 0)
        atl_log(ATL_WARNING, "upload-socket", "cannot give '%s' to the group atoll-gateway: %s", path,
                strerror(errno));
}

static enum atl_code make_socket(struct sto_uploads *uploads, struct atl_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *base = atl_format("%s/stream", uploads->sto->program->run_dir);
    char *folder = atl_format("%s/storage-agent", base);
    uploads->path = atl_format("%s/upload.sock", folder);
    (void)mkdir(base, 0755); /* the launcher made it, or we do */
    if (mkdir(folder, 0750) == 0)
        give_to_gateway(folder);
    free(base);
    free(folder);
    if (!atl_copy(address.sun_path, sizeof address.sun_path, uploads->path))
        return atl_fail(err, ATL_E_INVALID, "run-dir", "'%s' is too long for a socket", uploads->path);
    (void)unlink(uploads->path); /* of the one before us */
    uploads->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (uploads->fd < 0 || bind(uploads->fd, (const void *)&address, sizeof address) < 0 ||
        listen(uploads->fd, GREETERS_MAX) < 0)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot listen at '%s': %s", uploads->path,
                        strerror(errno));
    give_to_gateway(uploads->path);
    (void)chmod(uploads->path, 0660);
    return ATL_OK;
}

enum atl_code sto_uploads_new(struct sto *sto, struct sto_uploads **ret_uploads, struct atl_error *err)
{
    struct sto_uploads *uploads = atl_new0(struct sto_uploads);
    uploads->sto = sto;
    enum atl_code code = make_socket(uploads, err);
    if (code != ATL_OK) {
        sto_uploads_free(&uploads);
        return code;
    }
    uploads->watch = atl_loop_fd(sto->loop, uploads->fd, ATL_READ, accept_one, uploads);
    uploads->timer = atl_loop_timer(sto->loop, ATL_SECOND, ATL_SECOND, look_around, uploads);
    *ret_uploads = uploads;
    return ATL_OK;
}

void sto_uploads_free(struct sto_uploads **uploads_ptr)
{
    struct sto_uploads *uploads = *uploads_ptr;
    if (uploads == NULL)
        return;
    *uploads_ptr = NULL;
    for (struct greeter *greeter = uploads->greeters, *next = NULL; greeter != NULL; greeter = next) {
        next = greeter->next;
        atl_watch_free(greeter->watch);
        (void)close(greeter->fd);
        free(greeter);
    }
    for (struct stream *stream = uploads->streams, *next = NULL; stream != NULL; stream = next) {
        next = stream->next;
        stream->busy = false; /* the threads are gone */
        if (stream->state == STREAM_TAKEN)
            stream->driver = NULL; /* its worker goes on */
        stream_destroy(stream);
    }
    end_partings(uploads, INT64_MAX);
    atl_watch_free(uploads->watch);
    atl_timer_free(uploads->timer);
    sto_close_fd(&uploads->fd);
    if (uploads->path != NULL)
        (void)unlink(uploads->path);
    free(uploads->path);
    free(uploads);
}
