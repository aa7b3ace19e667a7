/* The tree on real etcd when things go wrong: races of nodes, compaction, lost leaders, moves. */
#include "etcd_rig.h"

#include <unistd.h>

#include "drivers/etcd_keys.h"
#include "etcd/etcd.h"
#include "grpc/tests/server.h"
#include "ha/place.h"

static struct rig rig;
static struct atl_error err;

static int one_member(void **state)
{
    (void)state;
    rig_open_etcd(&rig, 1, false);
    return 0;
}

static int three_members(void **state)
{
    (void)state;
    rig_open_etcd(&rig, 3, true);
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

static struct cfg_op put_op(const char *path, const char *text)
{
    return (struct cfg_op){
        .kind = CFG_PUT, .path = path, .bytes = (const uint8_t *)text, .size = strlen(text)};
}

/* Both nodes ask in the same breath; returns what each was told. */
static void race(struct cfg_store *a, struct cfg_store *b, const struct cfg_op *of_a,
                 const struct cfg_op *of_b, enum atl_code codes[2])
{
    struct rig_answer answers[2];
    rig_begin(a, &(const struct cfg_txn){.ops = of_a, .op_count = 1}, NULL, &answers[0]);
    rig_begin(b, &(const struct cfg_txn){.ops = of_b, .op_count = 1}, NULL, &answers[1]);
    rig_wait(&rig, &answers[0].done);
    rig_wait(&rig, &answers[1].done);
    codes[0] = answers[0].result.code;
    codes[1] = answers[1].result.code;
}

static void one_of_two_nodes_wins(void **state)
{
    (void)state;
    struct cfg_store *a = rig_store(&rig);
    struct cfg_store *b = rig_store(&rig);
    assert_int_equal(rig_put(&rig, a, "user.cfg", "first").code, ATL_OK);
    rig_wait_for(&rig, b, "user.cfg", "first");
    static const struct {
        struct cfg_op a;
        struct cfg_op b;
        enum atl_code loser;
    } cases[] = {
        {{.path = "nodes/a/lxc/100.conf"}, {.path = "nodes/b/qemu-server/100.conf"}, ATL_E_EXISTS},
        {{.path = "x"}, {.path = "x/y"}, ATL_E_EXISTS},
        {{.path = "user.cfg"}, {.path = "user.cfg"}, ATL_E_CONFLICT},
        {{.path = "new"}, {.path = "new"}, ATL_E_CONFLICT},
        {{.kind = CFG_DELETE, .path = "user.cfg"}, {.path = "user.cfg"}, ATL_E_CONFLICT},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        enum atl_code codes[2];
        struct cfg_op of_a = cases[i].a;
        struct cfg_op of_b = cases[i].b;
        of_a.bytes = of_b.bytes = (const uint8_t *)"1";
        of_a.size = of_b.size = 1;
        race(a, b, &of_a, &of_b, codes);
        bool a_won = codes[0] == ATL_OK;
        assert_true(a_won != (codes[1] == ATL_OK));
        enum atl_code loser = a_won ? codes[1] : codes[0];
        if (loser != cases[i].loser && loser != ATL_E_ABSENT) /* deleted by the other before us */
            fail_msg("case %zu: the loser was told %s", i, atl_code_to_text(loser));
    }
    cfg_store_close(&a);
    cfg_store_close(&b);
}

static void a_renewal_that_has_seen_more_than_the_copy_is_for_another_node(void **state)
{
    (void)state;
    struct cfg_store *store = rig_store(&rig);
    const char *path = ATL_HA_BEAT "n1";
    assert_int_equal(rig_put(&rig, store, path, "1").code, ATL_OK);
    struct atl_revision now = cfg_store_revision(store);
    const struct {
        struct atl_revision seen;
        enum atl_code code;
    } cases[] = {
        {{now.epoch, now.number + 1}, ATL_E_UNAVAILABLE},
        {{now.epoch + 1, 1}, ATL_E_UNAVAILABLE},
        {{now.epoch, now.number - 1}, ATL_E_CONFLICT},
        {now, ATL_OK},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        const struct cfg_compare compare = {
            .path = path, .epoch = cases[i].seen.epoch, .number = cases[i].seen.number};
        const struct cfg_op op = put_op(path, "2");
        const struct cfg_txn txn = {.compares = &compare, .compare_count = 1, .ops = &op, .op_count = 1};
        assert_int_equal(rig_txn(&rig, store, &txn, NULL).code, cases[i].code);
    }
    /* of any other file it is a conflict, as ever: who changes it has read it here */
    const struct cfg_compare compare = {.path = "x", .epoch = now.epoch, .number = now.number + 100};
    const struct cfg_op op = put_op("x", "2");
    const struct cfg_txn txn = {.compares = &compare, .compare_count = 1, .ops = &op, .op_count = 1};
    assert_int_equal(rig_txn(&rig, store, &txn, NULL).code, ATL_E_CONFLICT);
    cfg_store_close(&store);
}

static void a_request_is_done_once_by_all_nodes_together(void **state)
{
    (void)state;
    struct cfg_store *a = rig_store(&rig);
    struct cfg_store *b = rig_store(&rig);
    const uint8_t id[CFG_REQUEST_ID_SIZE] = {5};
    const struct cfg_op op = put_op("twice", "x");
    const struct cfg_txn txn = {.ops = &op, .op_count = 1};
    struct rig_answer answers[2];
    rig_begin(a, &txn, id, &answers[0]);
    rig_begin(b, &txn, id, &answers[1]); /* neither knows of the other yet */
    rig_wait(&rig, &answers[0].done);
    rig_wait(&rig, &answers[1].done);
    assert_int_equal(answers[0].result.code, ATL_OK);
    assert_int_equal(answers[1].result.code, ATL_OK);
    assert_true(answers[0].result.repeated != answers[1].result.repeated);
    assert_int_equal(answers[0].result.number, answers[1].result.number);
    cfg_store_close(&a);
    cfg_store_close(&b);
}

static void on_confirmed(enum atl_code code, const struct atl_error *error, void *user)
{
    (void)error;
    assert_int_equal(code, ATL_OK);
    *(bool *)user = true;
}

static void a_confirmed_read_shows_what_the_other_node_was_answered(void **state)
{
    (void)state;
    struct cfg_store *a = rig_store(&rig);
    struct cfg_store *b = rig_store(&rig);
    for (int i = 0; i < 50; i++) {
        char text[8];
        (void)snprintf(text, sizeof text, "%d", i);
        assert_int_equal(rig_put(&rig, a, "clock", text).code, ATL_OK);
        bool confirmed = false;
        cfg_store_confirm(b, on_confirmed, &confirmed);
        rig_wait(&rig, &confirmed);
        assert_string_equal(rig_text(b, "clock"), text);
    }
    cfg_store_close(&a);
    cfg_store_close(&b);
}

/* --- etcd itself, beside the stores --- */

struct called {
    enum atl_etcd_method method;
    bool done;
    enum atl_code code;
};

static char value[256]; /* of the first key that was read */
static size_t value_size;

static void on_called(const struct atl_etcd_answer *answer, void *user)
{
    struct called *called = user;
    const Etcd__RangeResponse *range = (const void *)answer->message;
    value_size = 0;
    if (called->method == ATL_ETCD_RANGE && range != NULL && range->n_kvs > 0 &&
        range->kvs[0]->value.len < sizeof value) {
        value_size = range->kvs[0]->value.len;
        memcpy(value, range->kvs[0]->value.data, value_size);
    }
    value[value_size] = '\0';
    called->done = true;
    called->code = answer->code;
}

static enum atl_code call_etcd(enum atl_etcd_method method, const ProtobufCMessage *request)
{
    struct atl_grpc *channel = NULL;
    const struct atl_grpc_options options = {
        .loop = rig.loop, .endpoints = rig.endpoints, .endpoint_count = 1, .seed = 2};
    assert_atl_ok(atl_grpc_new(&options, &channel, &err), &err);
    struct called called = {.method = method};
    (void)atl_etcd_call(channel, method, request, 10 * ATL_SECOND, on_called, &called);
    rig_wait(&rig, &called.done);
    atl_grpc_free(&channel);
    return called.code;
}

static void compact(int64_t revision)
{
    Etcd__CompactionRequest request = ETCD__COMPACTION_REQUEST__INIT;
    request.revision = revision;
    assert_int_equal(call_etcd(ATL_ETCD_COMPACT, &request.base), ATL_OK);
}

static void wait_until_writable(struct cfg_store *store)
{
    bool writable = false;
    (void)cfg_store_age(store, &writable);
    for (atl_ns until = atl_clock_monotonic() + 30 * ATL_SECOND;
         !writable && atl_clock_monotonic() < until;) {
        atl_loop_step(rig.loop, 20 * ATL_MS);
        (void)cfg_store_age(store, &writable);
    }
    assert_true(writable);
}

/* What lies in etcd at the tree's file, as text; NULL: nothing. */
static const char *raw(struct cfg_store *store, const char *path, struct atl_arena *arena)
{
    Etcd__RangeRequest request = ETCD__RANGE_REQUEST__INIT;
    request.key = cfg_etcd_file_key(arena, cfg_store_revision(store).epoch, path);
    return call_etcd(ATL_ETCD_RANGE, &request.base) == ATL_OK ? value : NULL;
}

static void a_wrong_key_is_told_and_the_right_one_helps(void)
{
    const char *right = rig.shared.seal_key;
    char wrong[128];
    (void)snprintf(wrong, sizeof wrong, "%s.wrong", right);
    assert_atl_ok(cfg_seal_make_key(wrong, &err), &err);
    rig.shared.seal_key = wrong;
    struct cfg_store *store = NULL;
    const struct cfg_store_options options = {.loop = rig.loop,
                                              .shared = &cfg_shared_etcd,
                                              .shared_options = rig.shared,
                                              .start_timeout = ATL_SECOND};
    assert_int_equal(cfg_store_open(&options, &store, &err), ATL_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "'priv/"));
    rig.shared.seal_key = right;
    store = rig_store(&rig);
    assert_string_equal(rig_text(store, "priv/moved"), "moved");
    cfg_store_close(&store);
    assert_int_equal(unlink(wrong), 0);
}

/* Somebody writes there who has no key. */
static void what_was_forged_is_not_believed(struct cfg_store *store, struct atl_arena *arena)
{
    Etcd__PutRequest put = ETCD__PUT_REQUEST__INIT;
    put.key = cfg_etcd_file_key(arena, cfg_store_revision(store).epoch, "priv/forged");
    put.value = cfg_etcd_text("not sealed by anybody who may do so");
    assert_int_equal(call_etcd(ATL_ETCD_PUT, &put.base), ATL_OK);
    bool writable = true;
    for (int i = 0; i < 1000 && writable; i++) {
        atl_loop_step(rig.loop, 20 * ATL_MS);
        (void)cfg_store_age(store, &writable);
    }
    assert_int_equal(rig_put(&rig, store, "other", "x").code, ATL_E_STATE);
    assert_false(writable); /* what is not understood is not built on */
    assert_null(rig_text(store, "priv/forged"));
    assert_string_equal(rig_text(store, "priv/written"), "written");
    Etcd__DeleteRangeRequest gone = ETCD__DELETE_RANGE_REQUEST__INIT;
    gone.key = put.key;
    assert_int_equal(call_etcd(ATL_ETCD_DELETE, &gone.base), ATL_OK);
    wait_until_writable(store);
    assert_int_equal(rig_put(&rig, store, "priv/written", "again").code, ATL_OK);
}

static void what_is_private_is_not_read_in_etcd(void **state)
{
    (void)state;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    char dir[] = "/tmp/atl-key-XXXXXX";
    uint64_t epoch = 0;
    assert_non_null(mkdtemp(dir));
    char *key ATL_FREE_AT_EXIT = atl_format("%s/k", dir);
    assert_atl_ok(cfg_seal_make_key(key, &err), &err);
    rig.shared.seal_key = key;
    static const struct rig_file files[] = {{"open", "open"}, {"priv/moved", "moved"}, {"priv/none", ""}};
    assert_atl_ok(
        rig_move(&rig, &(const struct rig_move){.files = files, .count = ATL_COUNT(files), .replace = true},
                 &epoch, &err),
        &err);
    struct cfg_store *store = rig_store(&rig);
    assert_string_equal(rig_text(store, "priv/moved"), "moved");
    assert_string_equal(rig_text(store, "priv/none"), "");
    assert_int_equal(rig_put(&rig, store, "priv/written", "written").code, ATL_OK);
    assert_string_equal(rig_text(store, "priv/written"), "written");
    assert_string_equal(raw(store, "open", &arena), "open");
    assert_non_null(raw(store, "priv/moved", &arena));
    assert_int_equal(value_size, CFG_SEAL_MORE + strlen("moved"));
    assert_null(memmem(value, value_size, "moved", 5));
    assert_memory_equal(raw(store, "priv/written", &arena), "ATL\001", 4);
    assert_int_equal(value_size, CFG_SEAL_MORE + strlen("written"));
    assert_null(memmem(value, value_size, "written", 7));
    what_was_forged_is_not_believed(store, &arena);
    cfg_store_close(&store);
    a_wrong_key_is_told_and_the_right_one_helps();
    assert_int_equal(unlink(key) + rmdir(dir), 0);
    rig.shared.seal_key = NULL;
}

static void history_is_given_up_by_itself(void **state)
{
    (void)state;
    rig.shared.compact_every = 100 * ATL_MS;
    struct cfg_store *store = rig_store(&rig);
    struct cfg_store_result first = rig_put(&rig, store, "a", "1");
    assert_int_equal(rig_put(&rig, store, "a", "2").code, ATL_OK);
    Etcd__RangeRequest request = ETCD__RANGE_REQUEST__INIT;
    request.key = cfg_etcd_text(CFG_ETCD_ROOT);
    request.revision = (int64_t)first.number;
    enum atl_code code = ATL_OK;
    for (int i = 0; i < 500 && code == ATL_OK; i++) {
        atl_loop_step(rig.loop, 20 * ATL_MS);
        code = call_etcd(ATL_ETCD_RANGE, &request.base);
    }
    assert_int_equal(code, ATL_E_RANGE);
    assert_string_equal(rig_text(store, "a"), "2");
    assert_int_equal(rig_put(&rig, store, "a", "3").code, ATL_OK);
    cfg_store_close(&store);
}

static char heard[256];

static void on_change(const char *path, const struct cfg_file *file, void *user)
{
    (void)user;
    size_t used = strlen(heard);
    (void)snprintf(heard + used, sizeof heard - used, "%s%s ", path, file != NULL ? "" : "!");
}

/* A node whose loop stood still while etcd restarted and compacted what it has not seen. */
static void a_node_behind_a_compaction_hears_of_the_difference(void **state)
{
    (void)state;
    struct cfg_store *here = rig_store(&rig);
    assert_int_equal(rig_put(&rig, here, "stays", "1").code, ATL_OK);
    assert_int_equal(rig_put(&rig, here, "goes", "1").code, ATL_OK);
    assert_int_equal(rig_put(&rig, here, "changes", "1").code, ATL_OK);
    struct atl_loop *other_loop = atl_loop_new();
    struct cfg_shared_options shared = rig.shared;
    shared.loop = other_loop;
    const struct cfg_store_options options = {
        .loop = other_loop, .shared = &cfg_shared_etcd, .shared_options = shared};
    struct cfg_store *there = NULL;
    assert_atl_ok(cfg_store_open(&options, &there, &err), &err);
    heard[0] = '\0';
    cfg_store_on_commit(there, on_change, NULL, NULL);
    uint64_t from = cfg_store_revision(there).number;

    etcd_fixture_kill(rig.etcd, 0);
    etcd_fixture_start(rig.etcd, 0);
    struct cfg_store_result result = {.code = ATL_E_UNAVAILABLE};
    const struct cfg_op ops[] = {
        put_op("changes", "2"), {.kind = CFG_DELETE, .path = "goes"}, put_op("comes", "1")};
    atl_ns until = atl_clock_monotonic() + 30 * ATL_SECOND;
    while (result.code != ATL_OK && atl_clock_monotonic() < until) {
        result = rig_txn(&rig, here, &(const struct cfg_txn){.ops = ops, .op_count = 3}, NULL);
        atl_loop_step(rig.loop, 20 * ATL_MS);
    }
    assert_atl_ok(result.code, &result.error);
    compact((int64_t)result.number);
    until = atl_clock_monotonic() + 30 * ATL_SECOND;
    while (cfg_store_revision(there).number < result.number && atl_clock_monotonic() < until)
        atl_loop_step(other_loop, 20 * ATL_MS);
    assert_string_equal(rig_text(there, "changes"), "2");
    assert_null(rig_text(there, "goes"));
    assert_string_equal(rig_text(there, "comes"), "1");
    assert_string_equal(heard, "goes! changes comes ");
    assert_true(cfg_ring_reaches(cfg_store_ring(there), from)); /* its own watchers need not list again */
    cfg_store_close(&there);
    cfg_store_close(&here);
    atl_loop_free(other_loop);
}

static void another_tree_takes_the_place_of_the_first(void **state)
{
    (void)state;
    struct cfg_store *store = rig_store(&rig);
    assert_int_equal(rig_put(&rig, store, "old", "x").code, ATL_OK);
    struct atl_revision before = cfg_store_revision(store);
    const struct rig_file files[] = {{"restored", "y"}, {"nodes/n/lxc/101.conf", "z"}};
    uint64_t epoch = 0;
    assert_int_equal(
        rig_move(&rig, &(const struct rig_move){.files = files, .count = 2, .replace = false}, &epoch, &err),
        ATL_E_EXISTS);
    assert_string_equal(rig_text(store, "old"), "x");
    assert_atl_ok(
        rig_move(&rig, &(const struct rig_move){.files = files, .count = 2, .replace = true}, &epoch, &err),
        &err);
    rig_wait_for(&rig, store, "restored", "y");
    assert_null(rig_text(store, "old"));
    assert_int_equal(cfg_store_revision(store).epoch, epoch);
    assert_true(epoch > before.epoch);
    assert_false(cfg_ring_reaches(cfg_store_ring(store), before.number)); /* watchers list again */
    const struct cfg_compare old = {
        .kind = CFG_AT_REVISION, .path = "restored", .epoch = before.epoch, .number = before.number};
    const struct cfg_op op = put_op("restored", "q");
    const struct cfg_txn txn = {.compares = &old, .compare_count = 1, .ops = &op, .op_count = 1};
    assert_int_equal(rig_txn(&rig, store, &txn, NULL).code, ATL_E_CONFLICT);
    assert_int_equal(rig_put(&rig, store, "restored", "w").code, ATL_OK);
    cfg_store_close(&store);
}

/* --- three members --- */

enum { STORM = 600 };

static struct rig_answer answers[STORM];
static char paths[STORM][24];

/* What was acknowledged is there, what was refused is not. Returns how many were acknowledged. */
static size_t check_storm(struct cfg_store *store)
{
    size_t done = 0;
    size_t unknown = 0;
    for (size_t i = 0; i < STORM; i++) {
        enum atl_code code = answers[i].result.code;
        bool there = rig_text(store, paths[i]) != NULL;
        if (code == ATL_OK && !there)
            fail_msg("%s was acknowledged and is lost", paths[i]);
        if (code != ATL_OK && code != ATL_E_UNKNOWN && there)
            fail_msg("%s was refused (%s) and is there", paths[i], answers[i].result.error.text);
        done += code == ATL_OK;
        unknown += code == ATL_E_UNKNOWN;
    }
    print_message("%zu done, %zu refused, %zu unknown\n", done, STORM - done - unknown, unknown);
    return done;
}

/* Writes go on while the leader is killed: what was acknowledged is there, what was refused is not. */
static void the_leader_dies_in_a_storm_of_writes(void **state)
{
    (void)state;
    struct cfg_store *store = rig_store(&rig);
    size_t leader = etcd_fixture_leader(rig.etcd);
    atl_ns gap = 0;
    atl_ns last = atl_clock_monotonic();
    for (size_t i = 0; i < STORM; i++) {
        (void)snprintf(paths[i], sizeof paths[i], "storm/%03zu", i);
        const struct cfg_op op = put_op(paths[i], paths[i]);
        rig_begin(store, &(const struct cfg_txn){.ops = &op, .op_count = 1}, NULL, &answers[i]);
        if (i == STORM / 3)
            etcd_fixture_kill(rig.etcd, leader);
        if (i >= 8) { /* eight at a time */
            rig_wait(&rig, &answers[i - 8].done);
            if (answers[i - 8].result.code == ATL_OK) {
                gap = atl_clock_monotonic() - last > gap ? atl_clock_monotonic() - last : gap;
                last = atl_clock_monotonic();
            }
            wait_until_writable(store);
        }
    }
    for (size_t i = 0; i < STORM; i++)
        rig_wait(&rig, &answers[i].done);
    wait_until_writable(store);
    assert_int_equal(rig_put(&rig, store, "after", "x").code, ATL_OK);
    cfg_store_close(&store);
    store = rig_store(&rig); /* what etcd has, not what we remember */
    print_message("longest gap %u ms\n", (unsigned int)(gap / ATL_MS));
    assert_true(check_storm(store) > STORM / 2);
    cfg_store_close(&store);
}

static void step_for(atl_ns how_long)
{
    for (atl_ns until = atl_clock_monotonic() + how_long; atl_clock_monotonic() < until;)
        atl_loop_step(rig.loop, 20 * ATL_MS);
}

/* An etcd without a leader refuses reads, but it answers: nobody tries the one that was lost. The third
 * member hangs meanwhile, so that the election lasts longer than the time between two reads. */
static bool stays_during_an_election(void)
{
    size_t leader = etcd_fixture_leader(rig.etcd);
    size_t third = (leader + 1) % 3;
    uint16_t port = (uint16_t)strtoul(strrchr(rig.endpoints[leader], ':') + 1, NULL, 10);
    const char *first = rig.endpoints[(leader + 2) % 3]; /* the lost one is next */
    const char *const order[] = {first, rig.endpoints[leader], rig.endpoints[third]};
    struct rig one = rig;
    memcpy(one.endpoints, order, sizeof order);
    one.shared.endpoints = one.endpoints;
    one.shared.home = first;
    struct cfg_store *store = rig_store(&one);
    assert_int_equal(rig_put(&rig, store, "before", "x").code, ATL_OK);
    etcd_fixture_kill(rig.etcd, leader);
    struct test_server *stand_in = test_server_new(rig.loop, port);
    etcd_fixture_pause(rig.etcd, third);
    step_for(1200 * ATL_MS);
    etcd_fixture_resume(rig.etcd, third);
    step_for(3 * ATL_SECOND);
    assert_int_equal(rig_put(&rig, store, "after", "x").code, ATL_OK);
    bool stayed = test_server_connections(stand_in) == 0;
    test_server_free(&stand_in);
    etcd_fixture_start(rig.etcd, leader);
    wait_until_writable(store);
    cfg_store_close(&store);
    return stayed;
}

static void an_election_is_no_reason_to_leave_an_etcd(void **state)
{
    (void)state;
    bool stayed = false;
    for (size_t i = 0; i < 3 && !stayed; i++) /* an election of two seconds is one; a slow machine has it */
        stayed = stays_during_an_election();
    assert_true(stayed);
}

static bool wait_until_read_only(struct cfg_store *store)
{
    bool writable = true;
    atl_ns until = atl_clock_monotonic() + 30 * ATL_SECOND;
    while (writable && atl_clock_monotonic() < until) {
        atl_loop_step(rig.loop, 20 * ATL_MS);
        (void)cfg_store_age(store, &writable);
    }
    return !writable;
}

static void assert_no_quorum(struct cfg_store *store, const char *path, atl_ns within)
{
    atl_ns began = atl_clock_monotonic();
    struct cfg_store_result result = rig_put(&rig, store, path, "x");
    assert_true(atl_clock_monotonic() - began < within);
    assert_int_equal(result.code, ATL_E_UNAVAILABLE);
    assert_non_null(strstr(result.error.text, "no quorum"));
}

static void without_quorum_reads_go_on_and_say_their_age(void **state)
{
    (void)state;
    struct cfg_store *store = rig_store(&rig);
    assert_int_equal(rig_put(&rig, store, "there", "x").code, ATL_OK);
    etcd_fixture_kill(rig.etcd, 0);
    etcd_fixture_kill(rig.etcd, 1);
    assert_true(wait_until_read_only(store));
    assert_no_quorum(store, ".state/not", ATL_SECOND); /* at once: another node may take it */
    assert_no_quorum(store, "not", 10 * ATL_SECOND);
    assert_no_quorum(store, "not-either", ATL_SECOND);
    assert_string_equal(rig_text(store, "there"), "x");
    bool writable = true;
    atl_ns age = cfg_store_age(store, &writable);
    assert_true(age > 0);
    atl_loop_step(rig.loop, 20 * ATL_MS);
    assert_true(cfg_store_age(store, &writable) > age);
    etcd_fixture_start(rig.etcd, 0);
    wait_until_writable(store);
    assert_int_equal(rig_put(&rig, store, "again", "x").code, ATL_OK);
    assert_null(rig_text(store, "not"));
    cfg_store_close(&store);
}

/* Members that begin anew, one after another, are no reason to refuse what an administrator wants. */
static void a_change_waits_for_members_that_come_back(void **state)
{
    (void)state;
    struct cfg_store *store = rig_store(&rig);
    bool taken = false;
    for (size_t i = 0; i < 5 && !taken; i++) { /* a slow machine takes longer than that patience */
        char path[16];
        (void)snprintf(path, sizeof path, "patient/%zu", i);
        const struct cfg_op op = put_op(path, "x");
        struct rig_answer answer;
        etcd_fixture_pause(rig.etcd, 0);
        etcd_fixture_pause(rig.etcd, 1);
        assert_true(wait_until_read_only(store));
        rig_begin(store, &(const struct cfg_txn){.ops = &op, .op_count = 1}, NULL, &answer);
        etcd_fixture_resume(rig.etcd, 0);
        etcd_fixture_resume(rig.etcd, 1);
        rig_wait(&rig, &answer.done);
        wait_until_writable(store);
        taken = answer.result.code == ATL_OK && rig_text(store, path) != NULL;
    }
    assert_true(taken);
    cfg_store_close(&store);
}

/* A member that hangs after it was sent a write: nobody knows, until the request's record tells. */
static void a_write_whose_answer_is_lost_is_done_once(void **state)
{
    (void)state;
    struct cfg_store *store = rig_store(&rig);
    for (size_t i = 0; i < 3; i++) {
        char path[16];
        (void)snprintf(path, sizeof path, "lost/%zu", i);
        const struct cfg_op op = put_op(path, "x");
        const struct cfg_compare compare = {.kind = CFG_ABSENT, .path = path};
        struct rig_answer answer;
        rig_begin(
            store,
            &(const struct cfg_txn){.compares = &compare, .compare_count = 1, .ops = &op, .op_count = 1},
            NULL, &answer);
        etcd_fixture_pause(rig.etcd, i);
        rig_wait(&rig, &answer.done);
        etcd_fixture_resume(rig.etcd, i);
        wait_until_writable(store);
        bool there = rig_text(store, path) != NULL;
        if (answer.result.code == ATL_OK)
            assert_true(there);
        else if (answer.result.code != ATL_E_UNKNOWN)
            assert_false(there);
    }
    cfg_store_close(&store);
}

/* --- moving --- */

struct crash {
    enum cfg_move_step step;
    unsigned int left; /* how often that step is still survived */
    bool crashed;
};

static bool crash_at(enum cfg_move_step step, void *user)
{
    struct crash *crash = user;
    if (step != crash->step || crash->left-- > 0)
        return true;
    crash->crashed = true;
    return false;
}

/* Ended at each of its steps and begun again, a move is done, whole; until then the old tree is untouched. */
static void a_move_may_be_ended_anywhere_and_begun_again(void **state)
{
    (void)state;
    struct cfg_store *store = rig_store(&rig);
    assert_int_equal(rig_put(&rig, store, "old", "0").code, ATL_OK);
    static char names[150][24];
    struct rig_file files[150];
    for (size_t i = 0; i < 150; i++) {
        (void)snprintf(names[i], sizeof names[i], "nodes/n/lxc/%zu.conf", 200 + i);
        files[i] = (struct rig_file){names[i], names[i]};
    }
    char marker[16] = "0";
    for (unsigned int at = 0; at < 8; at++) {
        static const struct crash points[8] = {{CFG_MOVE_CLEANED, 0, false},  {CFG_MOVE_LOADING, 0, false},
                                               {CFG_MOVE_LOADING, 1, false},  {CFG_MOVE_LOADING, 2, false},
                                               {CFG_MOVE_LOADED, 0, false},   {CFG_MOVE_VERIFIED, 0, false},
                                               {CFG_MOVE_SWITCHED, 0, false}, {CFG_MOVE_STEPS, 0, false}};
        struct crash crash = points[at];
        uint64_t epoch = 0;
        uint64_t before = cfg_store_revision(store).epoch;
        char next[16];
        (void)snprintf(next, sizeof next, "%u", at + 1);
        files[0] = (struct rig_file){"old", next};
        enum atl_code code =
            rig_move(&rig,
                     &(const struct rig_move){
                         .files = files, .count = 150, .replace = true, .step = crash_at, .user = &crash},
                     &epoch, &err);
        assert_int_equal(crash.crashed, points[at].step != CFG_MOVE_STEPS);
        assert_int_equal(code, crash.crashed ? ATL_E_CANCELLED : ATL_OK);
        if (points[at].step < CFG_MOVE_SWITCHED) { /* nothing is seen of it */
            bool confirmed = false;
            cfg_store_confirm(store, on_confirmed, &confirmed);
            rig_wait(&rig, &confirmed);
            assert_int_equal(cfg_store_revision(store).epoch, before);
            assert_string_equal(rig_text(store, "old"), marker);
            assert_int_equal(rig_put(&rig, store, "alive", next).code, ATL_OK);
        }
        assert_atl_ok(rig_move(&rig, &(const struct rig_move){.files = files, .count = 150, .replace = true},
                               &epoch, &err),
                      &err);
        for (atl_ns until = atl_clock_monotonic() + 30 * ATL_SECOND;
             cfg_store_revision(store).epoch != epoch && atl_clock_monotonic() < until;)
            atl_loop_step(rig.loop, 20 * ATL_MS);
        assert_string_equal(rig_text(store, "old"), next);
        assert_int_equal(cfg_store_tree(store)->count, 150);
        assert_int_equal(cfg_store_tree(store)->guest_count, 149);
        assert_int_equal(cfg_store_revision(store).epoch, epoch);
        (void)atl_copy(marker, sizeof marker, next);
        assert_atl_ok(rig_move(&rig, &(const struct rig_move){.files = files, .count = 150, .replace = false},
                               &before, &err),
                      &err);
        assert_int_equal(before, epoch); /* done already */
    }
    cfg_store_close(&store);
}

#define ONE(fn)   cmocka_unit_test_setup_teardown(fn, one_member, close_rig)
#define THREE(fn) cmocka_unit_test_setup_teardown(fn, three_members, close_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(one_of_two_nodes_wins),
        ONE(a_renewal_that_has_seen_more_than_the_copy_is_for_another_node),
        ONE(a_request_is_done_once_by_all_nodes_together),
        ONE(a_confirmed_read_shows_what_the_other_node_was_answered),
        ONE(a_node_behind_a_compaction_hears_of_the_difference),
        ONE(what_is_private_is_not_read_in_etcd),
        ONE(history_is_given_up_by_itself),
        ONE(another_tree_takes_the_place_of_the_first),
        ONE(a_move_may_be_ended_anywhere_and_begun_again),
        THREE(the_leader_dies_in_a_storm_of_writes),
        THREE(an_election_is_no_reason_to_leave_an_etcd),
        THREE(without_quorum_reads_go_on_and_say_their_age),
        THREE(a_change_waits_for_members_that_come_back),
        THREE(a_write_whose_answer_is_lost_is_done_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
