/*
 * A call over the bus against a raw ROUTER/DEALER round trip, both between two processes, in one run: over
 * ipc, and over tcp with CURVE, as between nodes. Budget (docs/ARCHITECTURE.md): at most 1.5 times the raw
 * one.
 *
 * usage: bench_bus [ROUNDS]     the answering side is this program again
 */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "atoll/bus/v1/bus.pb-c.h"
#include "atoll/store/v1/directory.pb-c.h"
#include "bench.h"
#include "common/tests/bus_contract.h"
#include "io/bus.h"
#include "io/directory.h"

extern char **environ;

enum { PAYLOAD = 200, WARM = 2000, SLICES = 20, PIPELINED = 64 };

struct result {
    double p50;
    double p99;
};

static struct result percentiles(double *samples, size_t count)
{
    qsort(samples, count, sizeof *samples, bench_compare);
    return (struct result){.p50 = samples[count / 2], .p99 = samples[count * 99 / 100]};
}

static double microseconds(atl_ns span)
{
    return (double)span / 1000.0;
}

/* --- where --- */

struct place {
    const char *dir;
    const char *address; /* NULL: over ipc */
};

static void read_secret(const char *dir, const char *node, char text[41])
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/%s.key", dir, node);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, 40) != 40)
        abort();
    (void)close(fd);
    text[40] = '\0';
}

/* The keys of both nodes, as the bus would make them. */
static void make_keys(const char *dir)
{
    static const char *const nodes[] = {"n1", "n2"};
    for (size_t i = 0; i < ATL_COUNT(nodes); i++) {
        char public_text[41];
        char secret_text[41];
        ATL_FREE_AT_EXIT char *path = atl_format("%s/%s.key", dir, nodes[i]);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || zmq_curve_keypair(public_text, secret_text) != 0 || write(fd, secret_text, 40) != 40)
            abort();
        (void)close(fd);
    }
}

static void feed(struct atl_directory *directory, const struct place *place, const char *node, char *service)
{
    char public_text[41];
    char secret_text[41];
    uint8_t key[ATL_BUS_KEY_SIZE];
    uint8_t packed[ATL_DIRECTORY_RECORD];
    read_secret(place->dir, node, secret_text);
    if (zmq_curve_public(public_text, secret_text) != 0 || zmq_z85_decode(key, public_text) == NULL)
        abort();
    Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
    Atoll__Store__V1__ServiceKey line = ATOLL__STORE__V1__SERVICE_KEY__INIT;
    Atoll__Store__V1__ServiceKey *lines[] = {&line};
    ATL_FREE_AT_EXIT char *address = atl_strdup(place->address);
    line.service = service;
    line.public_key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    record.address = address;
    record.n_key = 1;
    record.key = lines;
    atl_directory_feed(directory, node, packed, atoll__store__v1__directory_node__pack(&record, packed));
}

/* --- raw --- */

static void set_key(void *socket, int option, const char *text)
{
    if (zmq_setsockopt(socket, option, text, strlen(text)) != 0)
        abort();
}

/* The server's pair for both sides: what is measured is what ciphering costs, not who is let in. */
static void set_curve(void *socket, const char *dir, bool bind)
{
    char public_text[41];
    char secret_text[41];
    read_secret(dir, "n1", secret_text);
    int one = 1;
    if (zmq_curve_public(public_text, secret_text) != 0)
        abort();
    if (bind)
        (void)zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &one, sizeof one);
    else
        set_key(socket, ZMQ_CURVE_SERVERKEY, public_text);
    set_key(socket, ZMQ_CURVE_PUBLICKEY, public_text);
    set_key(socket, ZMQ_CURVE_SECRETKEY, secret_text);
}

/* address NULL: over ipc. */
static void *raw_socket(void *context, int type, const struct place *place, bool bind)
{
    char endpoint[128];
    void *socket = zmq_socket(context, type);
    int zero = 0;
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    if (place->address != NULL) {
        set_curve(socket, place->dir, bind);
        (void)snprintf(endpoint, sizeof endpoint, "tcp://%s:7999", place->address);
    } else {
        (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/raw.sock", place->dir);
    }
    if ((bind ? zmq_bind(socket, endpoint) : zmq_connect(socket, endpoint)) != 0)
        abort();
    return socket;
}

static int raw_serve(const struct place *place)
{
    void *socket = raw_socket(zmq_ctx_new(), ZMQ_ROUTER, place, true);
    for (;;) {
        zmq_msg_t part;
        (void)zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, 0) < 0)
            return 1;
        bool more = zmq_msg_more(&part);
        if (zmq_msg_send(&part, socket, more ? ZMQ_SNDMORE : 0) < 0)
            return 1;
    }
}

/* Two frames, as the bus has: a header of the size of ours and the payload. */
static void raw_round(void *socket, const uint8_t *bytes)
{
    uint8_t header[120] = {0};
    if (zmq_send(socket, header, sizeof header, ZMQ_SNDMORE) < 0 || zmq_send(socket, bytes, PAYLOAD, 0) < 0)
        abort();
    int more = 1;
    while (more) {
        zmq_msg_t part;
        (void)zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, 0) < 0)
            abort();
        more = zmq_msg_more(&part);
        (void)zmq_msg_close(&part);
    }
}

/* --- the bus --- */

static void echo(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)user;
    atl_request_reply(request, input);
}

static void join_cluster(struct atl_bus *bus, const struct place *place, const char *node)
{
    char server[] = "storage-agent";
    char caller[] = "ha-lrm";
    struct atl_directory *directory = atl_directory_new(); /* for as long as the program lives */
    ATL_FREE_AT_EXIT char *key = atl_format("%s/%s.key", place->dir, node);
    struct atl_error err = {0};
    feed(directory, place, "n1", server);
    feed(directory, place, "n2", caller);
    const struct atl_bus_cluster cluster = {.directory = directory, .key_file = key};
    if (atl_bus_join_cluster(bus, &cluster, &err) != ATL_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

static struct atl_bus *open_bus(struct atl_loop *loop, const struct place *place, const char *service,
                                const char *const *callers)
{
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    const char *node = callers != NULL ? "n1" : "n2";
    const struct atl_bus_options options = {.loop = loop,
                                            .service = service,
                                            .node = node,
                                            .run_dir = place->dir,
                                            .client_only = callers == NULL,
                                            .make_folders = callers};
    if (atl_bus_open(&options, &bus, &err) != ATL_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
    if (place->address != NULL)
        join_cluster(bus, place, node);
    return bus;
}

static int bus_serve(const struct place *place)
{
    static const char *const callers[] = {"friend", "api-gateway", "config-store", "cli", NULL};
    static const struct atl_handler handlers[] = {{"Echo", echo}};
    struct atl_loop *loop = atl_loop_new();
    struct atl_bus *bus = open_bus(loop, place, place->address != NULL ? "storage-agent" : "tester", callers);
    atl_bus_serve(bus, &test_service, handlers, ATL_COUNT(handlers), NULL);
    atl_loop_run(loop);
    return 0;
}

struct waiting {
    size_t answers;
};

struct client {
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_call_options options;
};

static void answered(const struct atl_reply *reply, void *user)
{
    struct waiting *waiting = user;
    if (reply->code != ATL_OK) {
        (void)fprintf(stderr, "%s\n", reply->error.text);
        abort();
    }
    waiting->answers++;
}

static void bus_call(const struct client *client, uint8_t *bytes, struct waiting *waiting)
{
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    input.has_change = 1;
    input.change = (ProtobufCBinaryData){.len = PAYLOAD - 3, .data = bytes};
    (void)atl_bus_call(client->bus, &test_rpcs[TEST_ECHO], &input.base, &client->options, answered, waiting);
}

static void bus_round(const struct client *client, uint8_t *bytes)
{
    struct waiting waiting = {0};
    bus_call(client, bytes, &waiting);
    while (waiting.answers == 0)
        atl_loop_step(client->loop, -1);
}

static double bus_rate(const struct client *client, uint8_t *bytes, size_t rounds)
{
    struct waiting waiting = {0};
    atl_ns before = atl_clock_monotonic();
    for (size_t sent = 0; waiting.answers < rounds;) {
        while (sent < rounds && sent - waiting.answers < PIPELINED) {
            bus_call(client, bytes, &waiting);
            sent++;
        }
        atl_loop_step(client->loop, -1);
    }
    return (double)rounds * 1e9 / (double)(atl_clock_monotonic() - before);
}

/* --- the run --- */

static pid_t spawn(const char *what, const struct place *place)
{
    char program[] = "/proc/self/exe";
    ATL_FREE_AT_EXIT char *mode = atl_strdup(what);
    ATL_FREE_AT_EXIT char *dir = atl_strdup(place->dir);
    ATL_FREE_AT_EXIT char *address = place->address != NULL ? atl_strdup(place->address) : NULL;
    char *argv[] = {program, mode, dir, address, NULL};
    pid_t pid = 0;
    if (posix_spawn(&pid, program, NULL, NULL, argv, environ) != 0)
        abort();
    return pid;
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

/* One row; whether the budget was held. */
static bool measure(const char *name, const struct place *place, size_t rounds)
{
    pid_t raw_pid = spawn("--raw", place);
    pid_t bus_pid = spawn("--bus", place);
    void *context = zmq_ctx_new();
    void *raw = raw_socket(context, ZMQ_DEALER, place, false);
    struct client client = {.loop = atl_loop_new()};
    client.bus = open_bus(client.loop, place, place->address != NULL ? "ha-lrm" : "friend", NULL);
    if (place->address != NULL)
        client.options = (struct atl_call_options){.service = "storage-agent", .node = "n1"};
    uint8_t bytes[PAYLOAD] = {0};
    double *raw_samples = atl_alloc0(rounds * sizeof(double));
    double *bus_samples = atl_alloc0(rounds * sizeof(double));
    for (int i = 0; i < WARM; i++) {
        raw_round(raw, bytes);
        bus_round(&client, bytes);
    }
    /* In turns, so that what else the machine does meets both alike. */
    for (size_t slice = 0; slice < SLICES; slice++) {
        for (size_t i = slice * (rounds / SLICES); i < (slice + 1) * (rounds / SLICES); i++) {
            atl_ns before = atl_clock_monotonic();
            raw_round(raw, bytes);
            raw_samples[i] = microseconds(atl_clock_monotonic() - before);
        }
        for (size_t i = slice * (rounds / SLICES); i < (slice + 1) * (rounds / SLICES); i++) {
            atl_ns before = atl_clock_monotonic();
            bus_round(&client, bytes);
            bus_samples[i] = microseconds(atl_clock_monotonic() - before);
        }
    }
    rounds = rounds / SLICES * SLICES;
    struct result of_raw = percentiles(raw_samples, rounds);
    struct result of_bus = percentiles(bus_samples, rounds);
    (void)printf("%s raw_p50_us=%.1f raw_p99_us=%.1f bus_p50_us=%.1f bus_p99_us=%.1f ratio_p50=%.2f "
                 "budget=1.50 calls_per_s=%.0f\n",
                 name, of_raw.p50, of_raw.p99, of_bus.p50, of_bus.p99, of_bus.p50 / of_raw.p50,
                 bus_rate(&client, bytes, rounds));
    end(raw_pid);
    end(bus_pid);
    atl_bus_close(&client.bus);
    atl_loop_free(client.loop);
    (void)zmq_close(raw);
    (void)zmq_ctx_term(context);
    free(raw_samples);
    free(bus_samples);
    return of_bus.p50 <= 1.5 * of_raw.p50;
}

int main(int argc, char **argv)
{
    if (argc >= 3)
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* never longer than the one that measures */
    const struct place own = {.dir = argc >= 3 ? argv[2] : NULL, .address = argc >= 4 ? argv[3] : NULL};
    if (argc >= 3 && strcmp(argv[1], "--raw") == 0)
        return raw_serve(&own);
    if (argc >= 3 && strcmp(argv[1], "--bus") == 0)
        return bus_serve(&own);
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 40000;
    char dir[] = "/tmp/atl-bench-XXXXXX";
    char address[32];
    if (rounds < SLICES || mkdtemp(dir) == NULL)
        return 2;
    make_keys(dir);
    (void)snprintf(address, sizeof address, "127.77.%d.%d", (int)getpid() / 250 % 250,
                   1 + (int)getpid() % 250);
    bool held = measure("bus-call", &(const struct place){.dir = dir}, rounds);
    held =
        measure("bus-call-tcp-curve", &(const struct place){.dir = dir, .address = address}, rounds) && held;
    ATL_FREE_AT_EXIT char *command = atl_format("rm -r '%s'", dir);
    return system(command) == 0 && held ? 0 : 1;
}
