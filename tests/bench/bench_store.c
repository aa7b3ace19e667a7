/*
 * config-store against its own engine and against a plain bus call, in one run. Budgets
 * (docs/ARCHITECTURE.md): a write <= 1.3 x the engine's commit with the same durability, a read <= 1 bus
 * call; the list of 10,000 guests, through to its JSON text, <= 50 ms.
 *
 * usage: bench_store [WRITES]     (both databases lie in one folder below /tmp)
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "atoll/access/v1/access.atl.h"
#include "atoll/bus/v1/bus.atl.h"
#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/store/v1/identity.atl.h"
#include "atoll/store/v1/status.atl.h"
#include "atoll/store/v1/store.atl.h"
#include "bench.h"
#include "cfg_fixture.h"
#include "drivers/engine.h"
#include "io/bus_internal.h"
#include "io/mirror.h"
#include "pure/codec.h"

enum { WRITES = 2000, GUESTS = 10000, LISTS = 50, PIPELINED = 64, CONTENT = 1024, PER_TXN = 100 };

static struct cfg_fixture f;

/* --- writes
 * ------------------------------------------------------------------------------------------------- */

static void ignore_revision(void *user, uint64_t epoch, uint64_t number)
{
    (void)user;
    (void)epoch;
    (void)number;
}

static void *open_engine(void)
{
    char *dir ATL_FREE_AT_EXIT = atl_format("%s/bare", f.dir);
    if (mkdir(dir, 0700) != 0)
        exit(EXIT_FAILURE);
    const struct cfg_engine_options options = {.state_dir = dir};
    void *engine = NULL;
    struct atl_error err = {0};
    bench_must(cfg_engine_sqlite.open(&options, &engine, &err), &err);
    const struct cfg_engine_sink sink = {.revision = ignore_revision};
    bench_must(cfg_engine_sqlite.load(engine, &sink, &err), &err);
    return engine;
}

/* The engine alone: what a caller in the same process would pay for the same durability. */
static double bare_write(void *engine, size_t i)
{
    static char content[CONTENT];
    memset(content, 'x', sizeof content);
    const struct cfg_engine_change change = {
        .path = "bench/file", .bytes = content, .size = sizeof content, .number = i + 1};
    struct cfg_engine_request request = {.number = i + 1, .at = atl_clock_wall_seconds()};
    memcpy(request.id, &i, sizeof i);
    const struct cfg_engine_commit commit = {
        .changes = &change, .change_count = 1, .requests = &request, .request_count = 1, .number = i + 1};
    struct atl_error err = {0};
    atl_ns start = atl_clock_monotonic();
    bench_must(cfg_engine_sqlite.commit(engine, &commit, &err), &err);
    return bench_since(start);
}

static void prepare_write(struct atl_txn *txn)
{
    static char content[CONTENT];
    memset(content, 'y', sizeof content);
    atl_txn_init(txn);
    atl_txn_put(txn, "bench/file", content, sizeof content);
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

enum { BARE, WRITE, CALL, READ, KINDS };

/* One of each in turns, so that whatever else the machine and its disk do meets all alike: medians. */
static void bench_turns(size_t rounds, double ret_medians[KINDS])
{
    static char path[] = "bench/file";
    double *samples[KINDS];
    for (size_t kind = 0; kind < KINDS; kind++)
        samples[kind] = atl_alloc0(rounds * sizeof(double));
    Atoll__Store__V1__GetRequest get = ATOLL__STORE__V1__GET_REQUEST__INIT;
    get.path = path;
    Atoll__Bus__V1__PingRequest ping = ATOLL__BUS__V1__PING_REQUEST__INIT;
    const struct atl_call_options to_store = {.service = "config-store"};
    struct atl_txn txn ATL_TXN_AT_EXIT;
    void *engine = open_engine();
    prepare_write(&txn);
    for (size_t i = 0; i < rounds; i++) {
        samples[BARE][i] = bare_write(engine, i);
        samples[WRITE][i] = call_once(&atl_rpc_store_v1_Store_Txn, &txn.request, NULL);
        samples[CALL][i] = call_once(&atl_bus_rpc_ping, &ping, &to_store);
        samples[READ][i] = call_once(&atl_rpc_store_v1_Store_Get, &get, NULL);
    }
    cfg_engine_sqlite.close(engine);
    for (size_t kind = 0; kind < KINDS; kind++) {
        ret_medians[kind] = bench_median(samples[kind], rounds);
        free(samples[kind]);
    }
}

struct pipeline {
    struct atl_txn txn;
    size_t left;
    size_t flying;
};

static void on_written(const struct atl_reply *reply, void *user)
{
    struct pipeline *pipeline = user;
    bench_must(reply->code, &reply->error);
    pipeline->flying--;
    if (pipeline->left == 0)
        return;
    pipeline->left--;
    pipeline->flying++;
    (void)atl_bus_call(f.cli, &atl_rpc_store_v1_Store_Txn, &pipeline->txn.request.base, NULL, on_written,
                       pipeline);
}

/* Many writers at once share commits: microseconds per write. */
static double bench_pipeline(size_t writes)
{
    struct pipeline pipeline = {.left = writes - PIPELINED, .flying = PIPELINED};
    prepare_write(&pipeline.txn);
    atl_ns start = atl_clock_monotonic();
    for (size_t i = 0; i < PIPELINED; i++)
        (void)atl_bus_call(f.cli, &atl_rpc_store_v1_Store_Txn, &pipeline.txn.request.base, NULL, on_written,
                           &pipeline);
    while (pipeline.flying > 0)
        atl_loop_step(f.loop, -1);
    double each = bench_since(start) / (double)writes;
    atl_txn_done(&pipeline.txn);
    return each;
}

/* --- ten thousand guests
 * ------------------------------------------------------------------------------------ */

static void make_guests(void)
{
    struct atl_error err = {0};
    for (unsigned int first = 0; first < GUESTS; first += PER_TXN) {
        struct atl_txn txn ATL_TXN_AT_EXIT;
        atl_txn_init(&txn);
        for (unsigned int i = first; i < first + PER_TXN; i++) {
            char path[64];
            char text[64];
            (void)snprintf(path, sizeof path, "nodes/pve1/qemu-server/%u.conf", 100 + i);
            (void)snprintf(text, sizeof text, "name: guest-%u\nmemory: 512\n", i);
            atl_txn_put(&txn, path, text, strlen(text));
        }
        bench_must(atl_txn_send_wait(f.cli, &txn, 0, NULL, &err), &err);
    }
}

static void push_status(void)
{
    static Atoll__Store__V1__GuestStatus rows[GUESTS];
    static Atoll__Store__V1__GuestStatus *list[GUESTS];
    static char type[] = "qemu";
    static char running[] = "running";
    static char node[] = "pve1";
    for (unsigned int i = 0; i < GUESTS; i++) {
        atoll__store__v1__guest_status__init(&rows[i]);
        rows[i].vmid = 100 + i;
        rows[i].type = type;
        rows[i].status = running;
        rows[i].has_cpu = rows[i].has_maxcpu = rows[i].has_mem = rows[i].has_maxmem = 1;
        rows[i].has_disk = rows[i].has_maxdisk = rows[i].has_netin = rows[i].has_netout = rows[i].has_uptime =
            1;
        rows[i].cpu = 0.25;
        rows[i].maxcpu = 2;
        rows[i].mem = 123456789;
        rows[i].maxmem = 536870912;
        rows[i].netin = rows[i].netout = 987654321;
        rows[i].uptime = 4711;
        list[i] = &rows[i];
    }
    Atoll__Store__V1__PushRequest push = ATOLL__STORE__V1__PUSH_REQUEST__INIT;
    struct atl_error err = {0};
    push.node = node;
    push.epoch = 1;
    push.sequence = 1;
    push.has_full = push.full = 1;
    push.n_guest = GUESTS;
    push.guest = list;
    bench_must(cfg_fixture_call(&f, f.compute, &atl_rpc_store_v1_Status_Push, &push, NULL, NULL, &err), &err);
}

/* Milliseconds of one list, asked over the bus and turned into JSON as the gateway does. */
static double bench_list(const struct atl_call_options *options, double *samples, size_t *ret_bytes)
{
    Atoll__Cluster__V1__ListResourcesRequest input = ATOLL__CLUSTER__V1__LIST_RESOURCES_REQUEST__INIT;
    const struct atl_rpc *rpc = &atl_rpc_cluster_v1_Cluster_ListResources;
    struct atl_buf json ATL_BUF_AT_EXIT = {0};
    struct atl_error err = {0};
    for (size_t i = 0; i < LISTS; i++) {
        const void *output = NULL;
        atl_buf_reset(&json);
        atl_ns start = atl_clock_monotonic();
        bench_must(cfg_fixture_call(&f, f.cli, rpc, &input, options, &output, &err), &err);
        atl_json_encode(rpc->output, output, &json, NULL);
        samples[i] = bench_since(start) / 1000.0;
        atl_arena_reset(&f.arena);
    }
    *ret_bytes = json.length;
    return bench_median(samples, LISTS);
}

static struct atl_call_options pack_assertion(const Atoll__Bus__V1__SignedAssertion *assertion,
                                              struct atl_arena *keep)
{
    size_t size = atoll__bus__v1__signed_assertion__get_packed_size(assertion);
    uint8_t *packed = atl_arena_alloc(keep, size);
    (void)atoll__bus__v1__signed_assertion__pack(assertion, packed);
    return (struct atl_call_options){.assertion = packed, .assertion_size = size};
}

static struct atl_call_options root_assertion(struct atl_arena *keep)
{
    Atoll__Store__V1__LocalAssertionRequest input = ATOLL__STORE__V1__LOCAL_ASSERTION_REQUEST__INIT;
    const void *output = NULL;
    struct atl_error err = {0};
    bench_must(
        cfg_fixture_call(&f, f.cli, &atl_rpc_store_v1_Identity_LocalAssertion, &input, NULL, &output, &err),
        &err);
    return pack_assertion(((const Atoll__Store__V1__AuthenticateReply *)output)->assertion, keep);
}

/* A user with a rule of his own on every guest, among as many rules for others. */
static struct atl_call_options user_assertion(struct atl_arena *keep)
{
    static char user[] = "many@pve";
    static char password[] = "many many rules";
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    atl_buf_text(&text, "user:root@pam:1:0::::::\nuser:many@pve:1:0::::::\nuser:other@pve:1:0::::::\n");
    for (unsigned int i = 0; i < GUESTS; i++)
        atl_buf_printf(&text, "acl:1:/vms/%u:many@pve,other@pve:PVEVMUser:\n", 100 + i);
    struct atl_txn txn ATL_TXN_AT_EXIT;
    struct atl_error err = {0};
    atl_txn_init(&txn);
    atl_txn_put(&txn, "user.cfg", text.data, text.length);
    bench_must(atl_txn_send_wait(f.cli, &txn, 0, NULL, &err), &err);
    Atoll__Store__V1__SetPasswordRequest set = ATOLL__STORE__V1__SET_PASSWORD_REQUEST__INIT;
    set.userid = user;
    set.password = password;
    bench_must(cfg_fixture_call(&f, f.cli, &atl_rpc_store_v1_Identity_SetPassword, &set, NULL, NULL, &err),
               &err);
    Atoll__Access__V1__LoginRequest login = ATOLL__ACCESS__V1__LOGIN_REQUEST__INIT;
    login.username = user;
    login.password = password;
    const void *output = NULL;
    bench_must(cfg_fixture_call(&f, f.gateway, &atl_rpc_access_v1_Access_Login, &login, NULL, &output, &err),
               &err);
    Atoll__Store__V1__AuthenticateRequest who = ATOLL__STORE__V1__AUTHENTICATE_REQUEST__INIT;
    who.ticket = ((const Atoll__Access__V1__LoginReply *)output)->ticket;
    who.has_write = 1;
    bench_must(
        cfg_fixture_call(&f, f.gateway, &atl_rpc_store_v1_Identity_Authenticate, &who, NULL, &output, &err),
        &err);
    return pack_assertion(((const Atoll__Store__V1__AuthenticateReply *)output)->assertion, keep);
}

int main(int argc, char **argv)
{
    size_t writes = argc > 1 ? strtoul(argv[1], NULL, 10) : WRITES;
    if (writes < PIPELINED)
        writes = PIPELINED;
    double *samples = atl_alloc0(LISTS * sizeof *samples);
    struct atl_arena keep ATL_ARENA_AT_EXIT = {0};
    cfg_fixture_init(&f);
    cfg_fixture_start(&f);
    double turns[KINDS];
    bench_turns(writes, turns);
    double bare = turns[BARE];
    double write = turns[WRITE];
    double call = turns[CALL];
    double read = turns[READ];
    double shared = bench_pipeline(writes * 4);
    make_guests();
    push_status();
    struct atl_call_options root = root_assertion(&keep);
    size_t bytes = 0;
    double list = bench_list(&root, samples, &bytes);
    struct atl_call_options user = user_assertion(&keep);
    size_t user_bytes = 0;
    double user_list = bench_list(&user, samples, &user_bytes);
    cfg_fixture_done(&f);
    free(samples);
    (void)printf("%-46s %10.1f us\n", "engine: one commit (median)", bare);
    (void)printf("%-46s %10.1f us  ratio %.2f; to commit + bus call %.2f\n",
                 "config-store: one write at a time", write, write / bare, write / (bare + call));
    (void)printf("%-46s %10.1f us  ratio %.2f (budget 1.30)\n", "config-store: 64 writers at once, each",
                 shared, shared / bare);
    (void)printf("%-46s %10.1f us\n", "bus: one call (Ping)", call);
    (void)printf("%-46s %10.1f us  ratio %.2f (budget 1.00)\n", "config-store: one read of 1 KiB", read,
                 read / call);
    (void)printf("%-46s %10.1f ms  (budget 50), %zu bytes of JSON\n", "/cluster/resources, 10,000 guests",
                 list, bytes);
    (void)printf("%-46s %10.1f ms  (budget 50), %zu bytes of JSON\n",
                 "the same with 20,000 rules on single guests", user_list, user_bytes);
    return EXIT_SUCCESS;
}
