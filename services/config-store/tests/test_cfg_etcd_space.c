/* The space of etcd's members: what is refused when there is little, how it is given back. */
#include "etcd_rig.h"

#include "drivers/etcd_keys.h"
#include "etcd/etcd.h"

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

static void without_space_only_removing_and_state_go_on(void **state)
{
    (void)state;
    struct cfg_store *store = rig_store(&rig);
    assert_int_equal(rig_put(&rig, store, "before", "x").code, ATL_OK);
    cfg_store_close(&store);
    rig.shared.quota_bytes = 4096; /* less than the emptiest database has */
    store = rig_store(&rig);
    struct cfg_store_result result = {.code = ATL_OK};
    for (int i = 0; i < 500 && result.code == ATL_OK; i++) { /* until it has asked how full it is */
        atl_loop_step(rig.loop, 20 * ATL_MS);
        result = rig_put(&rig, store, "more", "x");
    }
    assert_int_equal(result.code, ATL_E_LIMIT);
    assert_int_equal(rig_put(&rig, store, ".state/ha/lock", "x").code, ATL_OK);
    const struct cfg_op delete = {.kind = CFG_DELETE, .path = "before"};
    assert_int_equal(rig_txn(&rig, store, &(const struct cfg_txn){.ops = &delete, .op_count = 1}, NULL).code,
                     ATL_OK);
    cfg_store_close(&store);
}

static int64_t database_size;

static void on_status(const struct atl_etcd_answer *answer, void *user)
{
    const Etcd__StatusResponse *status = (const void *)answer->message;
    database_size = status != NULL ? status->db_size : INT64_MAX;
    *(bool *)user = true;
}

/* Of the largest database of all members. */
static int64_t largest_database(void)
{
    int64_t largest = 0;
    for (size_t i = 0; i < rig.shared.endpoint_count; i++) {
        struct atl_grpc *channel = NULL;
        const struct atl_grpc_options options = {.loop = rig.loop,
                                                 .endpoints = &rig.endpoints[i],
                                                 .endpoint_count = 1,
                                                 .tls = rig.shared.tls,
                                                 .seed = 3};
        Etcd__StatusRequest request = ETCD__STATUS_REQUEST__INIT;
        bool done = false;
        assert_atl_ok(atl_grpc_new(&options, &channel, &err), &err);
        (void)atl_etcd_call(channel, ATL_ETCD_STATUS, &request.base, 10 * ATL_SECOND, on_status, &done);
        rig_wait(&rig, &done);
        atl_grpc_free(&channel);
        largest = database_size > largest ? database_size : largest;
    }
    return largest;
}

/* One file again and again, until the databases are that large or a write fails. */
static enum atl_code fill(struct cfg_store *store, int64_t until)
{
    static char megabyte[1 << 20];
    enum atl_code code = ATL_OK;
    memset(megabyte, 'x', sizeof megabyte - 1);
    for (int i = 0; i < 200 && code == ATL_OK && largest_database() < until; i++)
        code = rig_put(&rig, store, "large", megabyte).code;
    return code;
}

static void space_is_given_back_by_all_members(void **state)
{
    (void)state;
    struct cfg_store *a = rig_store(&rig); /* gives nothing back so soon */
    assert_int_equal(fill(a, 40 << 20), ATL_OK);
    assert_true(largest_database() >= 40 << 20);
    cfg_store_close(&a);
    rig.shared.compact_every = rig.shared.space_every = 300 * ATL_MS;
    a = rig_store(&rig);
    struct cfg_store *b = rig_store(&rig); /* two nodes want it at the same time */
    atl_ns until = atl_clock_monotonic() + 60 * ATL_SECOND;
    unsigned int writes = 0;
    while (largest_database() > 16 << 20 && atl_clock_monotonic() < until) {
        struct cfg_store_result result = rig_put(&rig, a, "small", "meanwhile");
        assert_atl_ok(result.code, &result.error);
        writes++;
    }
    assert_true(largest_database() <= 16 << 20);
    assert_true(writes > 0);
    struct cfg_store_health health;
    cfg_store_health(b, &health);
    assert_true(health.writable);
    assert_int_equal(health.age_ms, 0);
    assert_false(health.copied);
    assert_false(health.engine.no_space);
    assert_true(health.engine.database_bytes > 0);
    assert_true(health.engine.quota_bytes > health.engine.database_bytes);
    cfg_store_close(&a);
    cfg_store_close(&b);
}

static void on_filled(const struct atl_etcd_answer *answer, void *user)
{
    struct rig_answer *filled = user;
    filled->result.code = answer->code;
    filled->done = true;
}

/* History until etcd itself takes no more: the store stops before that. */
static void overfill(void)
{
    static char megabyte[1 << 20];
    struct atl_grpc *channel = NULL;
    const struct atl_grpc_options options = {
        .loop = rig.loop, .endpoints = rig.endpoints, .endpoint_count = 1, .tls = rig.shared.tls, .seed = 3};
    assert_atl_ok(atl_grpc_new(&options, &channel, &err), &err);
    Etcd__PutRequest request = ETCD__PUT_REQUEST__INIT;
    request.key = cfg_etcd_text("/atoll/history");
    request.value = (ProtobufCBinaryData){.data = (uint8_t *)megabyte, .len = sizeof megabyte};
    struct rig_answer filled = {.result.code = ATL_OK};
    for (int i = 0; i < 100 && filled.result.code == ATL_OK; i++) {
        filled.done = false;
        (void)atl_etcd_call(channel, ATL_ETCD_PUT, &request.base, 10 * ATL_SECOND, on_filled, &filled);
        rig_wait(&rig, &filled.done);
    }
    assert_int_equal(filled.result.code, ATL_E_LIMIT);
    atl_grpc_free(&channel);
}

/* Whether the store says that etcd takes no more changes, once it says `expected`, or after a minute. */
static bool says_no_space(struct cfg_store *store, bool expected)
{
    struct cfg_store_health health;
    atl_ns until = atl_clock_monotonic() + 60 * ATL_SECOND;
    for (cfg_store_health(store, &health);
         health.engine.no_space != expected && atl_clock_monotonic() < until;
         cfg_store_health(store, &health))
        atl_loop_step(rig.loop, 20 * ATL_MS);
    return health.engine.no_space;
}

static void wait_until_it_takes_changes(struct cfg_store *store)
{
    struct cfg_store_result result = {.code = ATL_E_LIMIT};
    for (atl_ns until = atl_clock_monotonic() + 60 * ATL_SECOND;
         result.code != ATL_OK && atl_clock_monotonic() < until;) {
        atl_loop_step(rig.loop, 100 * ATL_MS);
        result = rig_put(&rig, store, "again", "x");
    }
    assert_atl_ok(result.code, &result.error);
    assert_true(largest_database() < 16 << 20);
    assert_false(says_no_space(store, false));
}

static void a_full_database_is_mended(void **state)
{
    (void)state;
    rig.shared.quota_bytes = rig.etcd->quota_bytes = 20 << 20;
    etcd_fixture_kill(rig.etcd, 0);
    etcd_fixture_start(rig.etcd, 0);
    struct cfg_store *store = rig_store(&rig);
    assert_int_equal(rig_put(&rig, store, "before", "x").code, ATL_OK);
    overfill();
    assert_true(says_no_space(store, true));
    wait_until_it_takes_changes(store);
    cfg_store_close(&store);
    overfill();
    store = rig_store(&rig); /* a node that starts while there is no space, and gets no lease */
    wait_until_it_takes_changes(store);
    cfg_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_space_only_removing_and_state_go_on, one_member, close_rig),
        cmocka_unit_test_setup_teardown(a_full_database_is_mended, one_member, close_rig),
        cmocka_unit_test_setup_teardown(space_is_given_back_by_all_members, three_members, close_rig),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
