/* The copy of a cluster's tree on a node: started without etcd, etcd that comes back, copies that are old. */
#include "etcd_rig.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "etcd/etcd.h"
#include "ha/place.h"

static struct rig rig;
static struct atl_error err;
static char dir[40];

static int set_up(void **state)
{
    (void)state;
    rig_open_etcd(&rig, 1, false);
    (void)atl_copy(dir, sizeof dir, "/tmp/atl-copy-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    rig_close(&rig);
    return nftw(dir, remove_one, 4, FTW_DEPTH | FTW_PHYS);
}

/* A store that keeps a copy. */
static struct cfg_store *open_store(void)
{
    const struct cfg_store_options options = {.loop = rig.loop,
                                              .engine = {.state_dir = dir},
                                              .shared = &cfg_shared_etcd,
                                              .shared_options = rig.shared,
                                              .copy_timeout = 300 * ATL_MS};
    struct cfg_store *store = NULL;
    assert_atl_ok(cfg_store_open(&options, &store, &err), &err);
    return store;
}

static void step_for(atl_ns time)
{
    atl_ns until = atl_clock_monotonic() + time;
    while (atl_clock_monotonic() < until)
        atl_loop_step(rig.loop, 10 * ATL_MS);
}

static char heard[256];

static void on_change(const char *path, const struct cfg_file *file, void *user)
{
    (void)user;
    size_t used = strlen(heard);
    (void)snprintf(heard + used, sizeof heard - used, "%s%s%s ", path, file != NULL ? "=" : "!",
                   file != NULL ? (const char *)file->bytes : "");
}

/* Two files, and the copy on the disk. */
static void make_copy(void)
{
    struct cfg_store *store = open_store();
    assert_int_equal(rig_put(&rig, store, "a", "1").code, ATL_OK);
    assert_int_equal(rig_put(&rig, store, "b", "1").code, ATL_OK);
    assert_int_equal(rig_put(&rig, store, "priv/c", "1").code, ATL_OK);
    cfg_store_close(&store);
}

static void without_etcd_the_copy_is_read_and_nothing_is_written(void **state)
{
    (void)state;
    make_copy();
    char path[64];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/last.db", dir);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    etcd_fixture_kill(rig.etcd, 0);
    struct cfg_store *store = open_store();
    bool writable = true;
    assert_string_equal(rig_text(store, "b"), "1");
    assert_string_equal(rig_text(store, "priv/c"), "1");
    assert_true(cfg_store_age(store, &writable) > 0);
    assert_true(cfg_store_age(store, &writable) < ATL_MINUTE);
    assert_false(writable);
    struct cfg_store_health health;
    cfg_store_health(store, &health);
    assert_true(health.copied);
    assert_false(health.writable);
    assert_true(health.age_ms > 0);
    struct cfg_store_result result = rig_put(&rig, store, "a", "2");
    assert_int_equal(result.code, ATL_E_UNAVAILABLE);
    assert_non_null(strstr(result.error.text, "quorum"));
    /* nor is it said of a renewal that it comes too late: who is asked next may know that it does not */
    const struct cfg_compare beat = {.path = ATL_HA_BEAT "n1", .epoch = 1, .number = 7};
    const struct cfg_op renewal = {.path = ATL_HA_BEAT "n1", .bytes = (const uint8_t *)"", .size = 0};
    const struct cfg_txn txn = {.compares = &beat, .compare_count = 1, .ops = &renewal, .op_count = 1};
    assert_int_equal(rig_txn(&rig, store, &txn, NULL).code, ATL_E_UNAVAILABLE);
    cfg_store_close(&store);
    etcd_fixture_start(rig.etcd, 0);
}

static void the_live_tree_takes_the_copys_place(void **state)
{
    (void)state;
    make_copy();
    struct cfg_store *other = rig_store(&rig); /* keeps no copy: another node */
    assert_int_equal(rig_put(&rig, other, "a", "2").code, ATL_OK);
    const struct cfg_op gone = {.kind = CFG_DELETE, .path = "b"};
    assert_int_equal(rig_txn(&rig, other, &(const struct cfg_txn){.ops = &gone, .op_count = 1}, NULL).code,
                     ATL_OK);
    cfg_store_close(&other);
    etcd_fixture_kill(rig.etcd, 0);
    struct cfg_store *store = open_store();
    struct atl_revision before = cfg_store_revision(store);
    heard[0] = '\0';
    cfg_store_on_commit(store, on_change, NULL, NULL);
    assert_string_equal(rig_text(store, "a"), "1");
    etcd_fixture_start(rig.etcd, 0);
    rig_wait_for(&rig, store, "a", "2");
    assert_null(rig_text(store, "b"));
    assert_string_equal(heard, "b! a=2 "); /* what changed, and no more */
    assert_int_equal(cfg_store_revision(store).epoch, before.epoch);
    assert_true(cfg_ring_reaches(cfg_store_ring(store), before.number));
    bool writable = false;
    for (int i = 0; i < 1000 && !writable; i++) {
        step_for(20 * ATL_MS);
        (void)cfg_store_age(store, &writable);
    }
    assert_int_equal(rig_put(&rig, store, "a", "3").code, ATL_OK);
    cfg_store_close(&store);
}

static void a_copy_of_another_tree_makes_watchers_list_again(void **state)
{
    (void)state;
    make_copy();
    static const struct rig_file files[] = {{"a", "1"}, {"new", "x"}};
    uint64_t epoch = 0;
    assert_atl_ok(
        rig_move(&rig, &(const struct rig_move){.files = files, .count = ATL_COUNT(files), .replace = true},
                 &epoch, &err),
        &err);
    etcd_fixture_kill(rig.etcd, 0);
    struct cfg_store *store = open_store();
    struct atl_revision before = cfg_store_revision(store);
    assert_string_equal(rig_text(store, "b"), "1");
    etcd_fixture_start(rig.etcd, 0);
    rig_wait_for(&rig, store, "new", "x");
    assert_null(rig_text(store, "b"));
    assert_int_equal(cfg_store_revision(store).epoch, epoch);
    assert_true(before.epoch != epoch);
    assert_false(cfg_ring_reaches(cfg_store_ring(store), before.number));
    cfg_store_close(&store);
    store = open_store(); /* the copy followed */
    assert_null(rig_text(store, "b"));
    cfg_store_close(&store);
}

static void on_compacted(const struct atl_etcd_answer *answer, void *user)
{
    assert_int_equal(answer->code, ATL_OK);
    *(bool *)user = true;
}

static void a_copy_older_than_the_history_is_brought_up_to_date(void **state)
{
    (void)state;
    make_copy();
    struct cfg_store *other = rig_store(&rig);
    assert_int_equal(rig_put(&rig, other, "a", "2").code, ATL_OK);
    struct cfg_store_result last = rig_put(&rig, other, "a", "3");
    cfg_store_close(&other);
    struct atl_grpc *channel = NULL;
    const struct atl_grpc_options options = {
        .loop = rig.loop, .endpoints = rig.endpoints, .endpoint_count = 1, .seed = 2};
    assert_atl_ok(atl_grpc_new(&options, &channel, &err), &err);
    Etcd__CompactionRequest request = ETCD__COMPACTION_REQUEST__INIT;
    request.revision = (int64_t)last.number;
    bool compacted = false;
    (void)atl_etcd_call(channel, ATL_ETCD_COMPACT, &request.base, 10 * ATL_SECOND, on_compacted, &compacted);
    rig_wait(&rig, &compacted);
    atl_grpc_free(&channel);
    struct cfg_store *store = open_store();
    assert_string_equal(rig_text(store, "a"), "3");
    assert_string_equal(rig_text(store, "b"), "1");
    cfg_store_close(&store);
}

static void a_copy_ahead_of_etcd_is_not_believed(void **state)
{
    (void)state;
    make_copy();
    struct cfg_store *store = open_store();
    struct atl_revision now = cfg_store_revision(store);
    uint64_t number = cfg_tree_get(cfg_store_tree(store), "a")->number;
    cfg_store_close(&store);
    const struct cfg_engine_options options = {.state_dir = dir, .name = "last.db"};
    void *engine = NULL;
    assert_atl_ok(cfg_engine_sqlite.open(&options, &engine, &err), &err);
    const struct cfg_engine_change changes[] = {{.path = "a", .bytes = "lie", .size = 3, .number = number},
                                                {.path = "z", .bytes = "lie", .size = 3, .number = 900000}};
    const struct cfg_engine_commit commit = {
        .changes = changes, .change_count = 2, .number = 1000000, .epoch = now.epoch};
    assert_atl_ok(cfg_engine_sqlite.commit(engine, &commit, &err), &err);
    cfg_engine_sqlite.close(engine);
    store = open_store();
    assert_string_equal(rig_text(store, "a"), "1");
    assert_null(rig_text(store, "z"));
    assert_true(cfg_store_revision(store).number < 1000000);
    assert_false(cfg_ring_reaches(cfg_store_ring(store), cfg_store_revision(store).number - 1));
    assert_int_equal(rig_put(&rig, store, "a", "2").code, ATL_OK);
    cfg_store_close(&store);
}

static void a_broken_copy_is_begun_anew(void **state)
{
    (void)state;
    make_copy();
    char path[64];
    (void)snprintf(path, sizeof path, "%s/last.db", dir);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "this is no database, and it was one before", 42), 42);
    assert_int_equal(close(fd), 0);
    struct cfg_store *store = open_store();
    assert_string_equal(rig_text(store, "a"), "1");
    cfg_store_close(&store);
    etcd_fixture_kill(rig.etcd, 0);
    store = open_store();
    assert_string_equal(rig_text(store, "a"), "1");
    cfg_store_close(&store);
    etcd_fixture_start(rig.etcd, 0);
}

/* As after a kill: what the thread wrote by itself, within the time it may take. */
static void the_copy_follows_while_the_store_runs(void **state)
{
    (void)state;
    struct cfg_store *store = open_store();
    for (int i = 0; i < 100; i++) {
        char text[8];
        (void)snprintf(text, sizeof text, "%d", i);
        assert_int_equal(rig_put(&rig, store, "counter", text).code, ATL_OK);
    }
    step_for(500 * ATL_MS);
    char other[40] = "/tmp/atl-copy-XXXXXX";
    assert_non_null(mkdtemp(other));
    char *copy ATL_FREE_AT_EXIT = atl_format("cp %s/last.db %s/last.db-wal %s/", dir, dir, other);
    assert_int_equal(system(copy), 0);
    char kept[40];
    (void)atl_copy(kept, sizeof kept, dir);
    (void)atl_copy(dir, sizeof dir, other);
    etcd_fixture_kill(rig.etcd, 0);
    struct cfg_store *later = open_store();
    assert_string_equal(rig_text(later, "counter"), "99");
    cfg_store_close(&later);
    assert_int_equal(nftw(dir, remove_one, 4, FTW_DEPTH | FTW_PHYS), 0);
    (void)atl_copy(dir, sizeof dir, kept);
    cfg_store_close(&store);
    etcd_fixture_start(rig.etcd, 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(without_etcd_the_copy_is_read_and_nothing_is_written),
        CASE(the_live_tree_takes_the_copys_place),
        CASE(a_copy_of_another_tree_makes_watchers_list_again),
        CASE(a_copy_older_than_the_history_is_brought_up_to_date),
        CASE(a_copy_ahead_of_etcd_is_not_believed),
        CASE(a_broken_copy_is_begun_anew),
        CASE(the_copy_follows_while_the_store_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
