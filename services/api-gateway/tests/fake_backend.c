/*
 * Services for tests of the gateway: config-store, compute-agent and storage-agent on one loop, over the real
 * bus. They know one user (ticket "PVE:tester@pve:00000000::good", CSRF token "good", token
 * "tester@pve!t=secret", password "secret") and answer what the tests of tests/api/test_gateway.py ask for.
 *
 * usage: fake_backend RUN_DIR NODE
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "atoll/access/v1/access.atl.h"
#include "atoll/access/v1/access.pb-c.h"
#include "atoll/bus/v1/identity.pb-c.h"
#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/cluster/v1/cluster.pb-c.h"
#include "atoll/qemu/v1/qemu.atl.h"
#include "atoll/qemu/v1/qemu.pb-c.h"
#include "atoll/storage/v1/storage.atl.h"
#include "atoll/storage/v1/storage.pb-c.h"
#include "atoll/storage/v1/upload.atl.h"
#include "atoll/storage/v1/upload.pb-c.h"
#include "atoll/store/v1/identity.atl.h"
#include "atoll/store/v1/identity.pb-c.h"
#include "io/bus.h"
#include "io/loop.h"
#include "pure/codec.h"

enum { ROWS_MAX = 10000, TOKEN_SIZE = 32 };

struct backend {
    struct atl_loop *loop;
    struct atl_bus *config;
    struct atl_bus *compute;
    struct atl_bus *storage;
    struct atl_arena rows;
    const char *run_dir;
    uint64_t number; /* revision */
    uint64_t lag;    /* how far config-store's copy is behind it */
    int refused;     /* of guest 201 */
    int lifetime;    /* of assertions, seconds */
    struct upload {
        struct atl_timer *slow;
        struct atl_watch *accept_watch;
        struct atl_watch *watch;
        int listener;
        int fd;
        char storage[32];
        uint64_t size;
        uint64_t sum; /* FNV-1a of the bytes, told by the UPID */
        uint64_t max_size;
        size_t token_size;
        bool ended;
    } upload;
};

/* --- who is calling --- */

/* NOLINTNEXTLINE(readability-function-size): the guard's table says what it is given */
static enum atl_code admit(void *self, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                           const uint8_t *assertion, size_t assertion_size, struct atl_arena *arena,
                           struct atl_principal *principal, struct atl_error *err)
{
    (void)self;
    (void)input;
    if (rpc->perm != NULL && rpc->perm->world)
        return ATL_OK;
    if (assertion_size == 0)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "no assertion");
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    const Atoll__Bus__V1__SignedAssertion *signed_ =
        atoll__bus__v1__signed_assertion__unpack(&allocator, assertion_size, assertion);
    if (signed_ == NULL || signed_->signature.len != 4 || memcmp(signed_->signature.data, "fake", 4) != 0)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "bad assertion");
    principal->user = "tester@pve";
    return ATL_OK;
}

static struct atl_revision revision(void *self)
{
    const struct backend *backend = self;
    return (struct atl_revision){.epoch = 1, .number = backend->number};
}

static struct atl_revision late_revision(void *self)
{
    const struct backend *backend = self;
    return (struct atl_revision){.epoch = 1, .number = backend->number - backend->lag};
}

static void fail(struct atl_request *request, enum atl_code code, const char *text)
{
    struct atl_error error = {.code = code};
    (void)atl_copy(error.text, sizeof error.text, text); /* the texts are short */
    atl_request_fail(request, &error, NULL);
}

/* --- config-store --- */

static void authenticate(struct atl_request *request, const ProtobufCMessage *message, void *user)
{
    const struct backend *backend = user;
    const Atoll__Store__V1__AuthenticateRequest *input =
        (const Atoll__Store__V1__AuthenticateRequest *)message;
    if (input->token != NULL && strcmp(input->token, "tester@pve!t=secret") != 0) {
        fail(request, ATL_E_UNAUTHENTICATED, "invalid token value!");
        return;
    }
    if (input->token == NULL &&
        (input->ticket == NULL || strcmp(input->ticket, "PVE:tester@pve:00000000::good") != 0)) {
        fail(request, ATL_E_UNAUTHENTICATED, "permission denied - invalid PVE ticket");
        return;
    }
    if (input->write && (input->csrf == NULL || strcmp(input->csrf, "good") != 0)) {
        fail(request, ATL_E_UNAUTHENTICATED, "Permission denied - invalid csrf token");
        return;
    }
    Atoll__Bus__V1__SignedAssertion assertion = ATOLL__BUS__V1__SIGNED_ASSERTION__INIT;
    char bytes[] = "tester";
    char signature[] = "fake";
    char name[] = "tester@pve";
    char token[] = "t";
    assertion.has_assertion = 1;
    assertion.assertion = (ProtobufCBinaryData){.len = 6, .data = (uint8_t *)bytes};
    assertion.has_signature = 1;
    assertion.signature = (ProtobufCBinaryData){.len = 4, .data = (uint8_t *)signature};
    Atoll__Store__V1__AuthenticateReply reply = ATOLL__STORE__V1__AUTHENTICATE_REPLY__INIT;
    reply.assertion = &assertion;
    reply.user = name;
    reply.token = input->token != NULL ? token : NULL;
    reply.expires = atl_clock_wall_seconds() + backend->lifetime;
    atl_request_reply(request, &reply.base);
}

static void login(struct atl_request *request, const ProtobufCMessage *message, void *user)
{
    (void)user;
    const Atoll__Access__V1__LoginRequest *input = (const Atoll__Access__V1__LoginRequest *)message;
    if (strcmp(input->password, "secret") != 0) {
        fail(request, ATL_E_UNAUTHENTICATED, "authentication failure");
        return;
    }
    char ticket[] = "PVE:tester@pve:00000000::good";
    char csrf[] = "good";
    char cap[] = "{\"vms\":{\"VM.Audit\":1}}";
    Atoll__Access__V1__LoginReply reply = ATOLL__ACCESS__V1__LOGIN_REPLY__INIT;
    reply.username = input->username;
    reply.ticket = ticket;
    reply.csrfpreventiontoken = csrf;
    reply.cap = cap;
    atl_request_reply(request, &reply.base);
}

static void version(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    (void)user;
    char number[] = "9.2.2";
    char release[] = "9.2";
    char id[] = "0123456789abcdef";
    Atoll__Cluster__V1__GetVersionReply reply = ATOLL__CLUSTER__V1__GET_VERSION_REPLY__INIT;
    reply.version = number;
    reply.release = release;
    reply.repoid = id;
    atl_request_reply(request, &reply.base);
}

static Atoll__Cluster__V1__ResourcesRow *make_row(struct atl_arena *arena, uint32_t vmid)
{
    Atoll__Cluster__V1__ResourcesRow *row = atl_arena_new(arena, Atoll__Cluster__V1__ResourcesRow);
    atoll__cluster__v1__resources_row__init(row);
    row->id = atl_arena_format(arena, "qemu/%u", (unsigned int)vmid);
    row->name = atl_arena_format(arena, "guest-%u", (unsigned int)vmid);
    row->node = atl_arena_strdup(arena, "n");
    row->type = atl_arena_strdup(arena, "qemu");
    row->status = atl_arena_strdup(arena, "running");
    row->has_cpu = row->has_maxcpu = row->has_mem = row->has_maxmem = row->has_uptime = 1;
    row->cpu = 0.0123;
    row->maxcpu = 4;
    row->mem = 1234567890;
    row->maxmem = 4294967296;
    row->uptime = 86400 + vmid;
    row->has_disk = row->has_maxdisk = row->has_diskread = row->has_diskwrite = 1;
    row->maxdisk = 34359738368;
    row->diskread = 123456789;
    row->diskwrite = 987654321;
    return row;
}

/* Type "vm" stands for 10,000 rows, "node" for 1,000, none for none. Made once, as a service holds them. */
static void resources(struct atl_request *request, const ProtobufCMessage *message, void *user)
{
    static Atoll__Cluster__V1__ResourcesRow *rows[ROWS_MAX];
    struct backend *backend = user;
    const Atoll__Cluster__V1__ListResourcesRequest *input =
        (const Atoll__Cluster__V1__ListResourcesRequest *)message;
    for (uint32_t i = 0; i < ROWS_MAX && rows[i] == NULL; i++)
        rows[i] = make_row(&backend->rows, i + 100);
    Atoll__Cluster__V1__ListResourcesReply reply = ATOLL__CLUSTER__V1__LIST_RESOURCES_REPLY__INIT;
    reply.entry = rows;
    if (input->type != NULL)
        reply.n_entry = strcmp(input->type, "vm") == 0 ? ROWS_MAX : ROWS_MAX / 10;
    atl_request_reply(request, &reply.base);
}

/* --- compute-agent: the guest's id says how it answers --- */

static void status(struct atl_request *request, const ProtobufCMessage *message, void *user)
{
    struct backend *backend = user;
    const Atoll__Qemu__V1__GetStatusRequest *input = (const Atoll__Qemu__V1__GetStatusRequest *)message;
    if (input->vmid == 200) /* never answers */
        return;
    if (input->vmid == 201 && backend->refused++ % 2 == 0) { /* every other assertion is too old */
        fail(request, ATL_E_UNAUTHENTICATED, "the assertion is not valid any more");
        return;
    }
    if (input->vmid > 100 && input->vmid < 100 + ATL_CODES) {
        struct atl_error error = {.code = (enum atl_code)(input->vmid - 100)};
        (void)snprintf(error.text, sizeof error.text, "Configuration file 'nodes/x/%u.conf' does not exist",
                       (unsigned int)input->vmid);
        atl_request_fail(request, &error, NULL);
        return;
    }
    char state[] = "running";
    Atoll__Qemu__V1__GetStatusReply reply = ATOLL__QEMU__V1__GET_STATUS_REPLY__INIT;
    reply.status = state;
    atl_request_reply(request, &reply.base);
}

static void reply_upid(struct atl_request *request, const char *what, uint64_t number)
{
    Atoll__Task__V1__TaskRef reply = ATOLL__TASK__V1__TASK_REF__INIT;
    reply.upid =
        atl_arena_format(atl_request_arena(request),
                         "UPID:n:00000001:00000001:00000001:%s:%" PRIx64 ":tester@pve:", what, number);
    atl_request_reply(request, &reply.base);
}

static void caught_up(void *user)
{
    struct backend *backend = user;
    backend->lag = 0;
    atl_bus_retry_waiting(backend->config);
}

/* A change. After that of guest 300, config-store's copy takes a second to follow. */
static void guest_start(struct atl_request *request, const ProtobufCMessage *message, void *user)
{
    struct backend *backend = user;
    const Atoll__Qemu__V1__StartRequest *input = (const Atoll__Qemu__V1__StartRequest *)message;
    backend->number++;
    if (input->vmid == 300) {
        backend->lag = 1;
        (void)atl_loop_timer(backend->loop, ATL_SECOND, 0, caught_up, backend);
    }
    reply_upid(request, "qmstart", input->vmid);
}

/* --- storage-agent: the storage's name says how it behaves --- */

static void upload_close(struct upload *upload)
{
    atl_watch_free(upload->watch);
    atl_watch_free(upload->accept_watch);
    atl_timer_free(upload->slow);
    if (upload->fd >= 0)
        (void)close(upload->fd);
    if (upload->listener >= 0)
        (void)close(upload->listener);
    upload->watch = NULL;
    upload->accept_watch = NULL;
    upload->slow = NULL;
    upload->fd = -1;
    upload->listener = -1;
}

static void upload_say(struct upload *upload, const char *line)
{
    (void)send(upload->fd, line, strlen(line), MSG_NOSIGNAL); /* the gateway may be gone */
    bool ended = upload->ended;
    upload_close(upload);
    upload->ended = ended;
}

static void upload_read(void *user, unsigned int events)
{
    (void)events;
    struct backend *backend = user;
    struct upload *upload = &backend->upload;
    unsigned char bytes[65536];
    ssize_t got = read(upload->fd, bytes, sizeof bytes);
    if (got < 0)
        return;
    for (ssize_t i = 0; i < got; i++) {
        if (upload->token_size < TOKEN_SIZE) {
            upload->token_size++;
            continue;
        }
        upload->size++;
        upload->sum = (upload->sum ^ bytes[i]) * 1099511628211U;
    }
    if (strcmp(upload->storage, "full") == 0 && upload->size > 100000) {
        upload_say(upload, "ERROR unable to write: No space left on device\n");
        return;
    }
    if (strcmp(upload->storage, "dies") == 0 && upload->size > 100000) {
        upload_close(upload);
        return;
    }
    if (got > 0)
        return;
    char line[64];
    upload->ended = true;
    (void)snprintf(line, sizeof line, "OK %" PRIu64 "\n", upload->size);
    upload_say(upload, line);
}

static void upload_slow(void *user)
{
    struct backend *backend = user;
    if (backend->upload.fd >= 0)
        upload_read(user, ATL_READ);
}

static void upload_accept(void *user, unsigned int events)
{
    (void)events;
    struct backend *backend = user;
    struct upload *upload = &backend->upload;
    upload->fd = accept4(upload->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (upload->fd < 0)
        return;
    if (strcmp(upload->storage, "slow") == 0)
        upload->slow = atl_loop_timer(backend->loop, 20 * ATL_MS, 20 * ATL_MS, upload_slow, backend);
    else
        upload->watch = atl_loop_fd(backend->loop, upload->fd, ATL_READ, upload_read, backend);
}

static void upload_open(struct atl_request *request, const ProtobufCMessage *message, void *user)
{
    struct backend *backend = user;
    struct upload *upload = &backend->upload;
    const Atoll__Storage__V1__UploadOpenRequest *input =
        (const Atoll__Storage__V1__UploadOpenRequest *)message;
    if (strcmp(input->storage, "absent") == 0) {
        fail(request, ATL_E_ABSENT, "storage 'absent' does not exist");
        return;
    }
    upload_close(upload);
    *upload = (struct upload){.fd = -1, .sum = 14695981039346656037U, .max_size = input->max_size};
    (void)atl_copy(upload->storage, sizeof upload->storage,
                   input->storage); /* cut: another name, no matter */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/upload.sock", backend->run_dir);
    (void)unlink(address.sun_path);
    upload->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(upload->listener, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(upload->listener, 1) != 0)
        abort();
    upload->accept_watch = atl_loop_fd(backend->loop, upload->listener, ATL_READ, upload_accept, backend);
    uint8_t token[TOKEN_SIZE] = {1, 2, 3};
    char handle[] = "/var/tmp/pveupload-0123456789abcdef0123456789abcdef";
    Atoll__Storage__V1__UploadOffer reply = ATOLL__STORAGE__V1__UPLOAD_OFFER__INIT;
    reply.socket = address.sun_path;
    reply.has_token = 1;
    reply.token = (ProtobufCBinaryData){.len = sizeof token, .data = token};
    reply.handle = handle;
    atl_request_reply(request, &reply.base);
}

static void upload_take(struct atl_request *request, const ProtobufCMessage *message, void *user)
{
    struct backend *backend = user;
    const Atoll__Storage__V1__UploadRequest *input = (const Atoll__Storage__V1__UploadRequest *)message;
    if (!backend->upload.ended || input->tmpfilename == NULL) {
        fail(request, ATL_E_STATE, "no upload has ended");
        return;
    }
    char what[300];
    (void)snprintf(what, sizeof what, "%s-%s-%" PRIu64, input->content, input->filename,
                   backend->upload.size);
    reply_upid(request, what, backend->upload.sum);
}

/* --- the program --- */

static struct atl_bus *open_bus(struct backend *backend, const char *service, const char *node)
{
    bool late = strcmp(service, "config-store") == 0;
    static const char *const callers[] = {"api-gateway", NULL};
    struct atl_error err = {0};
    struct atl_bus *bus = NULL;
    struct atl_bus_options options = {
        .loop = backend->loop,
        .service = service,
        .node = node,
        .run_dir = backend->run_dir,
        .guard = {.self = backend, .admit = admit, .revision = late ? late_revision : revision},
        .make_folders = callers};
    if (atl_bus_open(&options, &bus, &err) != ATL_OK) {
        (void)fprintf(stderr, "%s: %s\n", service, err.text);
        exit(1);
    }
    return bus;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    struct backend backend = {.run_dir = argv[1], .number = 5, .lifetime = 300};
    backend.upload.fd = -1;
    backend.upload.listener = -1;
    backend.loop = atl_loop_new();
    atl_loop_handle_signals(backend.loop);
    backend.config = open_bus(&backend, "config-store", argv[2]);
    backend.compute = open_bus(&backend, "compute-agent", argv[2]);
    backend.storage = open_bus(&backend, "storage-agent", argv[2]);
    static const struct atl_handler identity[] = {{"Authenticate", authenticate}};
    static const struct atl_handler access[] = {{"Login", login}};
    static const struct atl_handler cluster[] = {{"GetVersion", version}, {"ListResources", resources}};
    static const struct atl_handler qemu[] = {{"GetStatus", status}, {"Start", guest_start}};
    static const struct atl_handler stream[] = {{"Open", upload_open}};
    static const struct atl_handler storage[] = {{"Upload", upload_take}};
    atl_bus_serve(backend.config, &atl_svc_store_v1_Identity, identity, ATL_COUNT(identity), &backend);
    atl_bus_serve(backend.config, &atl_svc_access_v1_Access, access, ATL_COUNT(access), &backend);
    atl_bus_serve(backend.config, &atl_svc_cluster_v1_Cluster, cluster, ATL_COUNT(cluster), &backend);
    atl_bus_serve(backend.compute, &atl_svc_qemu_v1_Qemu, qemu, ATL_COUNT(qemu), &backend);
    atl_bus_serve(backend.storage, &atl_svc_storage_v1_UploadStream, stream, ATL_COUNT(stream), &backend);
    atl_bus_serve(backend.storage, &atl_svc_storage_v1_Storage, storage, ATL_COUNT(storage), &backend);
    (void)printf("ready\n");
    (void)fflush(stdout);
    atl_loop_run(backend.loop);
    upload_close(&backend.upload);
    atl_bus_close(&backend.storage);
    atl_bus_close(&backend.compute);
    atl_bus_close(&backend.config);
    atl_loop_free(backend.loop);
    atl_arena_done(&backend.rows);
    return 0;
}
