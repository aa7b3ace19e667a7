/* The shell around the tree, over an engine of the test's own: group commit, failure, retries. */
#include "atl_test.h"

#include "store.h"

static struct { /* the engine: what the test tells it to do, and what it was asked */
    enum atl_code answer;
    unsigned int commits;
    size_t changes;
    size_t requests;
    uint64_t number;
} fake;

static enum atl_code fake_open(const struct cfg_engine_options *options, void **ret_self,
                               struct atl_error *err)
{
    (void)options;
    (void)err;
    *ret_self = &fake;
    return ATL_OK;
}

static enum atl_code fake_load(void *self, const struct cfg_engine_sink *sink, struct atl_error *err)
{
    (void)self;
    sink->revision(sink->user, 4, 10);
    const struct cfg_engine_change file = {.path = "user.cfg", .bytes = "old", .size = 3, .number = 9};
    const struct cfg_engine_request request = {.id = {9}, .number = 9, .at = atl_clock_wall_seconds()};
    sink->request(sink->user, &request);
    return sink->file(sink->user, &file, err);
}

static enum atl_code fake_commit(void *self, const struct cfg_engine_commit *commit, struct atl_error *err)
{
    (void)self;
    fake.commits++;
    fake.changes = commit->change_count;
    fake.requests = commit->request_count;
    if (fake.answer != ATL_OK)
        return atl_fail(err, fake.answer, NULL, "no space");
    fake.number = commit->number;
    return ATL_OK;
}

static void fake_close(void *self)
{
    (void)self;
}

static const struct cfg_engine_driver fake_driver = {
    .kind = "fake", .open = fake_open, .load = fake_load, .commit = fake_commit, .close = fake_close};

struct answers {
    unsigned int count;
    struct cfg_store_result last;
};

static struct atl_loop *loop;
static struct cfg_store *store;
static struct answers answers;

static void on_done(const struct cfg_store_result *result, void *user)
{
    struct answers *to = user;
    to->count++;
    to->last = *result;
}

static int set_up(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    memset(&answers, 0, sizeof answers);
    loop = atl_loop_new();
    const struct cfg_store_options options = {.loop = loop, .driver = &fake_driver};
    struct atl_error err;
    assert_atl_ok(cfg_store_open(&options, &store, &err), &err);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cfg_store_close(&store);
    atl_loop_free(loop);
    return 0;
}

static void put(const char *path, const char *text, const uint8_t *request_id)
{
    const struct cfg_op op = {
        .kind = CFG_PUT, .path = path, .bytes = (const uint8_t *)text, .size = strlen(text)};
    const struct cfg_txn txn = {.ops = &op, .op_count = 1};
    cfg_store_txn(store, &txn, request_id, on_done, &answers);
}

static void run_until_answered(unsigned int count)
{
    for (int i = 0; i < 100 && answers.count < count; i++)
        atl_loop_step(loop, ATL_MS);
    assert_int_equal(answers.count, count);
}

static void many_transactions_share_one_commit_and_wait_for_it(void **state)
{
    (void)state;
    static const uint8_t id[CFG_DONE_ID_SIZE] = {1};
    put("a", "1", id);
    put("b", "2", NULL);
    put("a", "3", NULL);
    assert_int_equal(answers.count, 0); /* never before the commit */
    assert_int_equal(fake.commits, 0);
    run_until_answered(3);
    assert_int_equal(fake.commits, 1);
    assert_int_equal(fake.changes, 3);
    assert_int_equal(fake.requests, 1);
    assert_int_equal(fake.number, 13);
    assert_int_equal(answers.last.number, 13);
    assert_int_equal(cfg_store_revision(store).epoch, 4);
    assert_int_equal(cfg_store_revision(store).number, 13);
    assert_int_equal(cfg_store_ring(store)->count, 3);
}

static void a_read_sees_nothing_that_is_not_on_disk(void **state)
{
    (void)state;
    put("a", "1", NULL);
    assert_int_equal(cfg_store_revision(store).number, 10);
    const struct cfg_tree *tree = cfg_store_tree(store);
    assert_int_equal(fake.commits, 1);
    assert_int_equal(answers.count, 1);
    assert_non_null(cfg_tree_get(tree, "a"));
}

static void a_commit_that_fails_leaves_nothing(void **state)
{
    (void)state;
    static const uint8_t id[CFG_DONE_ID_SIZE] = {2};
    fake.answer = ATL_E_LIMIT;
    put("a", "1", id);
    put("user.cfg", "new", NULL);
    run_until_answered(2);
    assert_int_equal(answers.last.code, ATL_E_LIMIT);
    assert_string_equal(answers.last.error.text, "no space");
    const struct cfg_tree *tree = cfg_store_tree(store);
    assert_null(cfg_tree_get(tree, "a"));
    assert_string_equal((const char *)cfg_tree_get(tree, "user.cfg")->bytes, "old");
    assert_int_equal(tree->number, 10);
    assert_int_equal(cfg_store_ring(store)->count, 0);
    fake.answer = ATL_OK;
    put("a", "1", id); /* the retry is done: it was not recorded */
    run_until_answered(3);
    assert_int_equal(answers.last.code, ATL_OK);
    assert_false(answers.last.repeated);
    assert_int_equal(answers.last.number, 11);
}

static void a_retry_is_done_once_wherever_the_first_is(void **state)
{
    (void)state;
    static const uint8_t loaded[CFG_DONE_ID_SIZE] = {9};
    static const uint8_t id[CFG_DONE_ID_SIZE] = {3};
    put("a", "1", loaded); /* recorded before the restart */
    assert_int_equal(answers.count, 1);
    assert_true(answers.last.repeated);
    assert_int_equal(answers.last.number, 9);
    put("a", "1", id);
    put("a", "1", id); /* the first is still queued */
    run_until_answered(3);
    assert_true(answers.last.repeated);
    assert_int_equal(answers.last.number, 11);
    assert_int_equal(cfg_store_revision(store).number, 11);
}

static void a_full_queue_is_written(void **state)
{
    (void)state;
    for (unsigned int i = 0; i < 300; i++)
        put("a", "1", NULL);
    assert_int_equal(fake.commits, 1);
    run_until_answered(300);
    assert_int_equal(fake.commits, 2);
}

static void a_bad_transaction_is_answered_at_once(void **state)
{
    (void)state;
    put("../a", "1", NULL);
    assert_int_equal(answers.count, 1);
    assert_int_equal(answers.last.code, ATL_E_INVALID);
    atl_loop_step(loop, 0);
    assert_int_equal(fake.commits, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(many_transactions_share_one_commit_and_wait_for_it),
        TEST(a_read_sees_nothing_that_is_not_on_disk),
        TEST(a_commit_that_fails_leaves_nothing),
        TEST(a_retry_is_done_once_wherever_the_first_is),
        TEST(a_full_queue_is_written),
        TEST(a_bad_transaction_is_answered_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
