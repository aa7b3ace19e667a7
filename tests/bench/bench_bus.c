/*
 * A call over the bus against a raw ROUTER/DEALER round trip, both over ipc between two processes, in one
 * run. Budget (docs/ARCHITECTURE.md): at most 1.5 times the raw one.
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
#include "common/tests/bus_contract.h"
#include "io/bus.h"

extern char **environ;

enum { PAYLOAD = 200, WARM = 2000, SLICES = 20, PIPELINED = 64 };

static int compare(const void *left, const void *right)
{
    const double *a = left;
    const double *b = right;
    return (*a > *b) - (*a < *b);
}

struct result {
    double p50;
    double p99;
};

static struct result percentiles(double *samples, size_t count)
{
    qsort(samples, count, sizeof *samples, compare);
    return (struct result){.p50 = samples[count / 2], .p99 = samples[count * 99 / 100]};
}

static double microseconds(atl_ns span)
{
    return (double)span / 1000.0;
}

/* --- raw --- */

static void *raw_socket(void *context, int type, const char *dir, bool bind)
{
    char endpoint[128];
    void *socket = zmq_socket(context, type);
    int zero = 0;
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/raw.sock", dir);
    if ((bind ? zmq_bind(socket, endpoint) : zmq_connect(socket, endpoint)) != 0)
        abort();
    return socket;
}

static int raw_serve(const char *dir)
{
    void *socket = raw_socket(zmq_ctx_new(), ZMQ_ROUTER, dir, true);
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

static struct atl_bus *open_bus(struct atl_loop *loop, const char *dir, const char *service,
                                const char *const *callers)
{
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    struct atl_bus_options options = {.loop = loop,
                                      .service = service,
                                      .node = "pve1",
                                      .run_dir = dir,
                                      .client_only = callers == NULL,
                                      .make_folders = callers};
    if (atl_bus_open(&options, &bus, &err) != ATL_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return bus;
}

static int bus_serve(const char *dir)
{
    static const char *const callers[] = {"friend", "api-gateway", "config-store", "cli", NULL};
    static const struct atl_handler handlers[] = {{"Echo", echo}};
    struct atl_loop *loop = atl_loop_new();
    struct atl_bus *bus = open_bus(loop, dir, "tester", callers);
    atl_bus_serve(bus, &test_service, handlers, ATL_COUNT(handlers), NULL);
    atl_loop_run(loop);
    return 0;
}

struct waiting {
    size_t answers;
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

static void bus_call(struct atl_bus *bus, uint8_t *bytes, struct waiting *waiting)
{
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    input.has_change = 1;
    input.change = (ProtobufCBinaryData){.len = PAYLOAD - 3, .data = bytes};
    (void)atl_bus_call(bus, &test_rpcs[TEST_ECHO], &input.base, NULL, answered, waiting);
}

static void bus_round(struct atl_loop *loop, struct atl_bus *bus, uint8_t *bytes)
{
    struct waiting waiting = {0};
    bus_call(bus, bytes, &waiting);
    while (waiting.answers == 0)
        atl_loop_step(loop, -1);
}

static double bus_rate(struct atl_loop *loop, struct atl_bus *bus, uint8_t *bytes, size_t rounds)
{
    struct waiting waiting = {0};
    atl_ns before = atl_clock_monotonic();
    for (size_t sent = 0; waiting.answers < rounds;) {
        while (sent < rounds && sent - waiting.answers < PIPELINED) {
            bus_call(bus, bytes, &waiting);
            sent++;
        }
        atl_loop_step(loop, -1);
    }
    return (double)rounds * 1e9 / (double)(atl_clock_monotonic() - before);
}

/* --- the run --- */

static pid_t spawn(const char *what, const char *dir)
{
    char program[] = "/proc/self/exe";
    ATL_FREE_AT_EXIT char *mode = atl_strdup(what);
    ATL_FREE_AT_EXIT char *place = atl_strdup(dir);
    char *argv[] = {program, mode, place, NULL};
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

int main(int argc, char **argv)
{
    if (argc == 3)
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* never longer than the one that measures */
    if (argc == 3 && strcmp(argv[1], "--raw") == 0)
        return raw_serve(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--bus") == 0)
        return bus_serve(argv[2]);
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 40000;
    char dir[] = "/tmp/atl-bench-XXXXXX";
    if (rounds < SLICES || mkdtemp(dir) == NULL)
        return 2;
    pid_t raw_pid = spawn("--raw", dir);
    pid_t bus_pid = spawn("--bus", dir);
    void *context = zmq_ctx_new();
    void *raw = raw_socket(context, ZMQ_DEALER, dir, false);
    struct atl_loop *loop = atl_loop_new();
    struct atl_bus *bus = open_bus(loop, dir, "friend", NULL);
    uint8_t bytes[PAYLOAD] = {0};
    double *raw_samples = atl_alloc0(rounds * sizeof(double));
    double *bus_samples = atl_alloc0(rounds * sizeof(double));
    for (int i = 0; i < WARM; i++) {
        raw_round(raw, bytes);
        bus_round(loop, bus, bytes);
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
            bus_round(loop, bus, bytes);
            bus_samples[i] = microseconds(atl_clock_monotonic() - before);
        }
    }
    rounds = rounds / SLICES * SLICES;
    struct result of_raw = percentiles(raw_samples, rounds);
    struct result of_bus = percentiles(bus_samples, rounds);
    (void)printf("bus-call raw_p50_us=%.1f raw_p99_us=%.1f bus_p50_us=%.1f bus_p99_us=%.1f ratio_p50=%.2f "
                 "budget=1.50 calls_per_s=%.0f\n",
                 of_raw.p50, of_raw.p99, of_bus.p50, of_bus.p99, of_bus.p50 / of_raw.p50,
                 bus_rate(loop, bus, bytes, rounds));
    end(raw_pid);
    end(bus_pid);
    atl_bus_close(&bus);
    atl_loop_free(loop);
    (void)zmq_close(raw);
    (void)zmq_ctx_term(context);
    free(raw_samples);
    free(bus_samples);
    ATL_FREE_AT_EXIT char *command = atl_format("rm -r '%s'", dir);
    return system(command) == 0 && of_bus.p50 <= 1.5 * of_raw.p50 ? 0 : 1;
}
