/*
 * config-store on etcd against a bare transaction of the same client, in one run: a write <= 1.3 x the
 * engine's own commit (docs/ARCHITECTURE.md). One member without TLS, and three with TLS, all on this
 * machine's disk.
 *
 * usage: bench_store_etcd [WRITES]
 */
#include "bench.h"
#include "etcd_rig.h"

#include "atoll/bus/v1/bus.atl.h"
#include "atoll/store/v1/store.atl.h"
#include "cfg_fixture.h"
#include "drivers/etcd_keys.h"
#include "etcd/etcd.h"
#include "io/bus_internal.h"
#include "io/mirror.h"

enum { WRITES = 1000, CONTENT = 1024 };
enum { BARE, WRITE, CALL, READ, KINDS };

static struct rig rig;
static struct cfg_fixture f;
static struct atl_grpc *channel;

static void on_txn(const struct atl_etcd_answer *answer, void *user)
{
    bench_must(answer->code, &answer->error);
    *(bool *)user = true;
}

/* What config-store asks of etcd for one file, asked by nobody else: two compares, the file, the request. */
static double bare_write(size_t i)
{
    static char content[CONTENT];
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_etcd_txn txn;
    uint8_t id[CFG_REQUEST_ID_SIZE] = {0};
    bool done = false;
    memset(content, 'x', sizeof content);
    memcpy(id, &i, sizeof i);
    ProtobufCBinaryData request = cfg_etcd_request_key(&arena, 1, id);
    atl_ns start = atl_clock_monotonic();
    cfg_etcd_txn_init(&txn, &arena);
    (void)cfg_etcd_txn_compare(&txn, cfg_etcd_text("/bench/root"), 0);
    (void)cfg_etcd_txn_compare(&txn, request, 0);
    cfg_etcd_txn_put(&txn, cfg_etcd_file_key(&arena, 1, "bench/bare"),
                     (ProtobufCBinaryData){.len = sizeof content, .data = (uint8_t *)content}, 0);
    cfg_etcd_txn_put(&txn, request, cfg_etcd_text("done"), 0);
    (void)atl_etcd_call(channel, ATL_ETCD_TXN, &txn.request.base, 10 * ATL_SECOND, on_txn, &done);
    while (!done)
        atl_loop_step(rig.loop, -1);
    return bench_since(start);
}

static double call_once(const struct atl_rpc *rpc, const void *input, const struct atl_call_options *options)
{
    struct atl_error err = {0};
    atl_ns start = atl_clock_monotonic();
    bench_must(cfg_fixture_call(&f, f.cli, rpc, input, options, NULL, &err), &err);
    double took = bench_since(start);
    atl_arena_reset(&f.arena);
    return took;
}

/* One of each in turns, so that whatever else the machine and its disk do meets all alike: medians. */
static void bench_turns(size_t rounds, double medians[KINDS])
{
    static char path[] = "bench/file";
    static char content[CONTENT];
    double *samples[KINDS];
    for (size_t kind = 0; kind < KINDS; kind++)
        samples[kind] = atl_alloc0(rounds * sizeof(double));
    Atoll__Store__V1__GetRequest get = ATOLL__STORE__V1__GET_REQUEST__INIT;
    get.path = path;
    Atoll__Bus__V1__PingRequest ping = ATOLL__BUS__V1__PING_REQUEST__INIT;
    const struct atl_call_options to_store = {.service = "config-store"};
    struct atl_txn txn ATL_TXN_AT_EXIT;
    memset(content, 'y', sizeof content);
    atl_txn_init(&txn);
    atl_txn_put(&txn, path, content, sizeof content);
    for (size_t i = 0; i < rounds; i++) {
        samples[BARE][i] = bare_write(i);
        samples[WRITE][i] = call_once(&atl_rpc_store_v1_Store_Txn, &txn.request, NULL);
        samples[CALL][i] = call_once(&atl_bus_rpc_ping, &ping, &to_store);
        samples[READ][i] = call_once(&atl_rpc_store_v1_Store_Get, &get, NULL);
    }
    for (size_t kind = 0; kind < KINDS; kind++) {
        medians[kind] = bench_median(samples[kind], rounds);
        free(samples[kind]);
    }
}

static void bench_members(const char *name, size_t members, bool tls, size_t rounds)
{
    struct atl_error err = {0};
    double medians[KINDS];
    rig_open_etcd(&rig, members, tls);
    /* Both talk to the same member; of three to one that does not lead, as most nodes do. */
    const char *endpoint = rig.endpoints[members > 1 ? (etcd_fixture_leader(rig.etcd) + 1) % members : 0];
    const struct atl_grpc_options options = {
        .loop = rig.loop, .endpoints = &endpoint, .endpoint_count = 1, .tls = rig.shared.tls, .seed = 1};
    bench_must(atl_grpc_new(&options, &channel, &err), &err);
    cfg_fixture_init(&f);
    const char *words[CFG_FIXTURE_OPTIONS] = {"--engine", "etcd", "--etcd", endpoint};
    if (tls) {
        const char *more[] = {"--etcd-ca",  rig.etcd->files.ca_file, "--etcd-cert", rig.etcd->files.cert_file,
                              "--etcd-key", rig.etcd->files.key_file};
        memcpy(words + 4, more, sizeof more);
    }
    memcpy(f.engine, words, sizeof words);
    cfg_fixture_start(&f);
    bench_turns(rounds, medians);
    cfg_fixture_done(&f);
    atl_grpc_free(&channel);
    rig_close(&rig);
    (void)printf("%s\n", name);
    (void)printf("  %-44s %10.1f us\n", "etcd: one transaction of the bare client", medians[BARE]);
    (void)printf("  %-44s %10.1f us  ratio %.2f (budget 1.30); to transaction + bus call %.2f\n",
                 "config-store: one write at a time", medians[WRITE], medians[WRITE] / medians[BARE],
                 medians[WRITE] / (medians[BARE] + medians[CALL]));
    (void)printf("  %-44s %10.1f us\n", "bus: one call (Ping)", medians[CALL]);
    (void)printf("  %-44s %10.1f us  ratio %.2f (budget 1.00)\n", "config-store: one read of 1 KiB",
                 medians[READ], medians[READ] / medians[CALL]);
}

int main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : WRITES;
    if (rounds == 0)
        rounds = WRITES;
    bench_members("one member", 1, false, rounds);
    bench_members("three members with TLS", 3, true, rounds);
    return EXIT_SUCCESS;
}
