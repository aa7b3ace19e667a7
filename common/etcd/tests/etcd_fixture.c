/* Real etcd for tests. */
#include "etcd_fixture.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "etcd/etcd.h"
#include "pure/buf.h"

#define LIMIT (60 * ATL_SECOND)

/* A port that was free a moment ago, and none that the kernel gives to a connection while the member is down.
 */
static uint16_t free_port(void)
{
    enum { FIRST = 12000, COUNT = 16000, TRIES = 200 };
    for (int i = 0; i < TRIES; i++) {
        uint16_t random = 0;
        ssize_t got = getrandom(&random, sizeof random, 0);
        atl_assert(got == (ssize_t)sizeof random);
        uint16_t port = (uint16_t)(FIRST + random % COUNT);
        struct sockaddr_in address = {
            .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int rc = bind(fd, (const struct sockaddr *)&address, sizeof address);
        (void)close(fd); /* nothing was written to it */
        if (rc == 0)
            return port;
    }
    (void)fprintf(stderr, "no free port on 127.0.0.1\n");
    abort();
}

static void run_shell(const char *dir, const char *script)
{
    const char *const argv[] = {"sh", "-ec", script, NULL};
    struct atl_error err = {0};
    if (atl_process_run(&(const struct atl_process_options){.argv = argv, .dir = dir, .capture = 65536}, NULL,
                        NULL, &err) != ATL_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

static const char make_certificates[] =
    "exec 2>&1\n"
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 "
    "-subj /CN=test-ca\n"
    "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout node.key -out node.csr "
    "-subj /CN=node\n"
    "printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' >ext\n"
    "openssl x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out node.pem -days 2 -extfile "
    "ext\n"
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.pem "
    "-days 2 -subj /CN=other-ca\n";

struct etcd_member *etcd_fixture_add(struct etcd_fixture *f)
{
    atl_assert(f->count < ETCD_MEMBERS_MAX);
    struct etcd_member *member = &f->members[f->count];
    const char *scheme = f->tls ? "https" : "http";
    uint16_t port = free_port();
    (void)snprintf(member->name, sizeof member->name, "m%zu", f->count);
    (void)snprintf(member->endpoint, sizeof member->endpoint, "127.0.0.1:%u", port);
    (void)snprintf(member->client_url, sizeof member->client_url, "%s://127.0.0.1:%u", scheme, port);
    (void)snprintf(member->peer_url, sizeof member->peer_url, "%s://127.0.0.1:%u", scheme, free_port());
    f->count++;
    return member;
}

static void on_member_end(const struct atl_process_end *end, void *user)
{
    (void)end;
    struct etcd_member *member = user;
    member->process = NULL;
    member->ended = true;
}

static void add_tls(const struct etcd_fixture *f, const char **argv, size_t n)
{
    const char *const tls[] = {"--cert-file",
                               f->cert,
                               "--key-file",
                               f->key,
                               "--trusted-ca-file",
                               f->ca,
                               "--client-cert-auth",
                               "--peer-cert-file",
                               f->cert,
                               "--peer-key-file",
                               f->key,
                               "--peer-trusted-ca-file",
                               f->ca,
                               "--peer-client-cert-auth"};
    for (size_t i = 0; f->tls && i < ATL_COUNT(tls); i++)
        argv[n + i] = tls[i];
}

void etcd_fixture_start(struct etcd_fixture *f, size_t index)
{
    struct etcd_member *member = &f->members[index];
    struct atl_buf cluster ATL_BUF_AT_EXIT = {0};
    for (size_t i = 0; i < f->count; i++)
        if (member->learner || !f->members[i].learner)
            atl_buf_printf(&cluster, "%s%s=%s", cluster.length > 0 ? "," : "", f->members[i].name,
                           f->members[i].peer_url);
    char *data ATL_FREE_AT_EXIT = atl_format("%s/%s", f->dir, member->name);
    char *log ATL_FREE_AT_EXIT = atl_format("%s/%s.log", f->dir, member->name);
    char *quota ATL_FREE_AT_EXIT = atl_format("%" PRIu64, f->quota_bytes);
    const char *argv[64] = {"etcd",
                            "--name",
                            member->name,
                            "--data-dir",
                            data,
                            "--listen-client-urls",
                            member->client_url,
                            "--advertise-client-urls",
                            member->client_url,
                            "--listen-peer-urls",
                            member->peer_url,
                            "--initial-advertise-peer-urls",
                            member->peer_url,
                            "--initial-cluster",
                            cluster.data,
                            "--initial-cluster-state",
                            member->learner ? "existing" : "new",
                            "--logger",
                            "zap",
                            "--log-outputs",
                            log,
                            "--heartbeat-interval",
                            "50",
                            "--election-timeout",
                            "500",
                            "--pre-vote",
                            "--unsafe-no-fsync",
                            "--max-txn-ops",
                            "1024",
                            "--max-request-bytes",
                            "8388608"};
    size_t n = 0;
    while (argv[n] != NULL)
        n++;
    if (f->quota_bytes != 0) {
        argv[n++] = "--quota-backend-bytes";
        argv[n++] = quota;
    }
    add_tls(f, argv, n);
    struct atl_error err;
    member->ended = false;
    if (atl_process_start(f->loop, &(const struct atl_process_options){.argv = argv, .capture = 65536},
                          on_member_end, member, &member->process, &err) != ATL_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

bool etcd_fixture_wait(struct etcd_fixture *f, const bool *done)
{
    atl_ns until = atl_clock_monotonic() + LIMIT;
    while (!*done && atl_clock_monotonic() < until)
        atl_loop_step(f->loop, 20 * ATL_MS);
    return *done;
}

void etcd_fixture_kill(struct etcd_fixture *f, size_t index)
{
    struct etcd_member *member = &f->members[index];
    atl_process_signal(member->process, SIGKILL);
    bool ended = etcd_fixture_wait(f, &member->ended);
    atl_assert(ended);
}

void etcd_fixture_pause(struct etcd_fixture *f, size_t index)
{
    atl_process_signal(f->members[index].process, SIGSTOP);
}

void etcd_fixture_resume(struct etcd_fixture *f, size_t index)
{
    atl_process_signal(f->members[index].process, SIGCONT);
}

struct atl_grpc_options etcd_fixture_options(struct etcd_fixture *f, const char *endpoints[ETCD_MEMBERS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < f->count; i++)
        endpoints[count++] = f->members[i].endpoint;
    return (struct atl_grpc_options){.loop = f->loop,
                                     .endpoints = endpoints,
                                     .endpoint_count = count,
                                     .tls = f->tls ? &f->files : NULL,
                                     .connect_timeout = ATL_SECOND,
                                     .backoff_first = 20 * ATL_MS,
                                     .backoff_max = 200 * ATL_MS,
                                     .seed = 1};
}

struct probe {
    bool done;
    enum atl_code code;
    uint64_t id;
    uint64_t leader;
};

static void on_range(const struct atl_etcd_answer *answer, void *user)
{
    struct probe *probe = user;
    probe->done = true;
    probe->code = answer->code;
}

static void on_status(const struct atl_etcd_answer *answer, void *user)
{
    const Etcd__StatusResponse *status = (const void *)answer->message;
    on_range(answer, user);
    if (status == NULL)
        return;
    ((struct probe *)user)->id = status->header->member_id;
    ((struct probe *)user)->leader = status->leader;
}

static void wait_for_answers(struct etcd_fixture *f)
{
    const char *endpoints[ETCD_MEMBERS_MAX];
    struct atl_grpc_options options = etcd_fixture_options(f, endpoints);
    struct atl_grpc *channel = NULL;
    if (atl_grpc_new(&options, &channel, NULL) != ATL_OK)
        abort();
    atl_ns until = atl_clock_monotonic() + LIMIT;
    struct probe probe = {.code = ATL_E_UNAVAILABLE};
    while (probe.code != ATL_OK && atl_clock_monotonic() < until) {
        Etcd__RangeRequest request = ETCD__RANGE_REQUEST__INIT;
        request.key = (ProtobufCBinaryData){.len = 1, .data = (uint8_t *)(uintptr_t) "x"};
        probe.done = false;
        (void)atl_etcd_call(channel, ATL_ETCD_RANGE, &request.base, ATL_SECOND, on_range, &probe);
        (void)etcd_fixture_wait(f, &probe.done); /* the call has a deadline of its own */
        atl_loop_step(f->loop, 20 * ATL_MS);
    }
    atl_assert(probe.code == ATL_OK);
    atl_grpc_free(&channel);
}

size_t etcd_fixture_leader(struct etcd_fixture *f)
{
    for (size_t i = 0; i < f->count; i++) {
        if (f->members[i].process == NULL)
            continue;
        const char *endpoints[ETCD_MEMBERS_MAX];
        struct atl_grpc_options options = etcd_fixture_options(f, endpoints);
        const char *one = f->members[i].endpoint;
        options.endpoints = &one;
        options.endpoint_count = 1;
        struct atl_grpc *channel = NULL;
        if (atl_grpc_new(&options, &channel, NULL) != ATL_OK)
            abort();
        Etcd__StatusRequest request = ETCD__STATUS_REQUEST__INIT;
        struct probe probe = {.done = false};
        (void)atl_etcd_call(channel, ATL_ETCD_STATUS, &request.base, 5 * ATL_SECOND, on_status, &probe);
        (void)etcd_fixture_wait(f, &probe.done); /* the call has a deadline of its own */
        atl_grpc_free(&channel);
        if (probe.code == ATL_OK && probe.id == probe.leader)
            return i;
    }
    (void)fprintf(stderr, "no member of this etcd is the leader\n");
    abort();
}

struct etcd_fixture *etcd_fixture_new(struct atl_loop *loop, size_t count, bool tls)
{
    if (access("/usr/bin/etcd", X_OK) != 0) {
        (void)printf("skipped: there is no etcd\n");
        exit(77);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    struct etcd_fixture *f = atl_new0(struct etcd_fixture);
    f->loop = loop;
    f->tls = tls;
    (void)atl_copy(f->dir, sizeof f->dir, "/tmp/atl-etcd-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        abort();
    (void)snprintf(f->ca, sizeof f->ca, "%s/ca.pem", f->dir);
    (void)snprintf(f->cert, sizeof f->cert, "%s/node.pem", f->dir);
    (void)snprintf(f->key, sizeof f->key, "%s/node.key", f->dir);
    f->files = (struct atl_grpc_tls){.ca_file = f->ca, .cert_file = f->cert, .key_file = f->key};
    if (tls)
        run_shell(f->dir, make_certificates);
    for (size_t i = 0; i < count; i++)
        (void)etcd_fixture_add(f); /* all addresses first: each member is told all */
    for (size_t i = 0; i < count; i++)
        etcd_fixture_start(f, i);
    wait_for_answers(f);
    return f;
}

void etcd_fixture_free(struct etcd_fixture **pointer)
{
    struct etcd_fixture *f = *pointer;
    *pointer = NULL;
    for (size_t i = 0; i < f->count; i++)
        if (f->members[i].process != NULL)
            etcd_fixture_kill(f, i);
    const char *const argv[] = {"rm", "-rf", "--", f->dir, NULL};
    struct atl_error err;
    if (atl_process_run(&(const struct atl_process_options){.argv = argv}, NULL, NULL, &err) != ATL_OK)
        (void)fprintf(stderr, "%s stays: %s\n", f->dir, err.text);
    free(f);
}
