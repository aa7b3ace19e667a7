/* What the tree promises, on each engine: one table of cases, run against SQLite and against real etcd. */
#include "etcd_rig.h"

static struct rig rig;
static struct cfg_store *store;

static struct cfg_store_result apply(const struct cfg_compare *compares, size_t compare_count,
                                     const struct cfg_op *ops, size_t op_count)
{
    return rig_txn(
        &rig, store,
        &(const struct cfg_txn){
            .compares = compares, .compare_count = compare_count, .ops = ops, .op_count = op_count},
        NULL);
}

static struct cfg_op put_op(const char *path, const char *text)
{
    return (struct cfg_op){
        .kind = CFG_PUT, .path = path, .bytes = (const uint8_t *)text, .size = strlen(text)};
}

static uint64_t number_of(const char *path)
{
    const struct cfg_file *file = cfg_tree_get(cfg_store_tree(store), path);
    return file != NULL ? file->number : 0;
}

static void files_are_put_renamed_and_deleted(void)
{
    struct cfg_store_result first = rig_put(&rig, store, "a/one", "1");
    assert_atl_ok(first.code, &first.error);
    assert_int_equal(number_of("a/one"), first.number);
    struct cfg_store_result second = rig_put(&rig, store, "a/one", "2");
    assert_true(second.number > first.number);
    assert_string_equal(rig_text(store, "a/one"), "2");
    const struct cfg_op rename = {.kind = CFG_RENAME, .path = "a/one", .to = "a/two"};
    assert_int_equal(apply(NULL, 0, &rename, 1).code, ATL_OK);
    assert_null(rig_text(store, "a/one"));
    assert_string_equal(rig_text(store, "a/two"), "2");
    assert_int_equal(apply(NULL, 0, &rename, 1).code, ATL_E_ABSENT);
    const struct cfg_op delete = {.kind = CFG_DELETE, .path = "a/two"};
    assert_int_equal(apply(NULL, 0, &delete, 1).code, ATL_OK);
    assert_null(rig_text(store, "a/two"));
    assert_int_equal(apply(NULL, 0, &delete, 1).code, ATL_E_ABSENT);
    assert_int_equal(rig_put(&rig, store, "a/empty", "").code, ATL_OK);
    assert_string_equal(rig_text(store, "a/empty"), "");
}

static void a_compare_that_does_not_hold_changes_nothing(void)
{
    uint64_t epoch = cfg_store_revision(store).epoch;
    struct cfg_store_result first = rig_put(&rig, store, "c", "1");
    const struct cfg_op op = put_op("c", "2");
    const struct cfg_op both[] = {put_op("d", "new"), put_op("c", "3")};
    struct cfg_compare same = {.kind = CFG_AT_REVISION, .path = "c", .epoch = epoch, .number = first.number};
    assert_int_equal(apply(&same, 1, &op, 1).code, ATL_OK);
    assert_int_equal(apply(&same, 1, both, 2).code, ATL_E_CONFLICT);
    assert_string_equal(rig_text(store, "c"), "2");
    assert_null(rig_text(store, "d"));
    same.number = number_of("c");
    same.epoch = epoch + 1;
    assert_int_equal(apply(&same, 1, both, 2).code, ATL_E_CONFLICT);
    const struct cfg_compare absent = {.kind = CFG_ABSENT, .path = "c"};
    assert_int_equal(apply(&absent, 1, both, 2).code, ATL_E_CONFLICT);
    const struct cfg_compare exists[] = {{.kind = CFG_EXISTS, .path = "c"},
                                         {.kind = CFG_ABSENT, .path = "d"}};
    assert_int_equal(apply(exists, 2, both, 2).code, ATL_OK);
    assert_string_equal(rig_text(store, "d"), "new");
    assert_int_equal(apply(exists, 1, NULL, 0).code, ATL_OK); /* only asked */
    assert_int_equal(apply(exists, 2, NULL, 0).code, ATL_E_CONFLICT);
}

static void a_guest_id_is_in_the_tree_once(void)
{
    assert_int_equal(rig_put(&rig, store, "nodes/n1/qemu-server/100.conf", "name: a").code, ATL_OK);
    assert_int_equal(rig_put(&rig, store, "nodes/n2/lxc/100.conf", "x").code, ATL_E_EXISTS);
    const struct cfg_op move = {
        .kind = CFG_RENAME, .path = "nodes/n1/qemu-server/100.conf", .to = "nodes/n2/qemu-server/100.conf"};
    assert_int_equal(apply(NULL, 0, &move, 1).code, ATL_OK);
    assert_int_equal(rig_put(&rig, store, "nodes/n1/qemu-server/100.conf", "x").code, ATL_E_EXISTS);
    const struct cfg_op both[] = {{.kind = CFG_DELETE, .path = "nodes/n2/qemu-server/100.conf"},
                                  put_op("nodes/n3/lxc/100.conf", "again")};
    assert_int_equal(apply(NULL, 0, both, 2).code, ATL_OK);
    assert_string_equal(cfg_tree_guest(cfg_store_tree(store), 100)->path, "nodes/n3/lxc/100.conf");
    const struct cfg_op delete = {.kind = CFG_DELETE, .path = "nodes/n3/lxc/100.conf"};
    assert_int_equal(apply(NULL, 0, &delete, 1).code, ATL_OK);
    assert_null(cfg_tree_guest(cfg_store_tree(store), 100));
    assert_int_equal(rig_put(&rig, store, "nodes/n1/lxc/100.conf", "free again").code, ATL_OK);
}

static void a_file_is_no_folder(void)
{
    assert_int_equal(rig_put(&rig, store, "f/g", "x").code, ATL_OK);
    assert_int_equal(rig_put(&rig, store, "f", "x").code, ATL_E_EXISTS);
    assert_int_equal(rig_put(&rig, store, "f/g/h", "x").code, ATL_E_EXISTS);
    const struct cfg_op swap[] = {{.kind = CFG_DELETE, .path = "f/g"}, put_op("f", "file now")};
    assert_int_equal(apply(NULL, 0, swap, 2).code, ATL_OK);
    const struct cfg_op back[] = {{.kind = CFG_DELETE, .path = "f"}, put_op("f/g", "folder again")};
    assert_int_equal(apply(NULL, 0, back, 2).code, ATL_OK);
}

static void a_path_may_come_more_than_once(void)
{
    const struct cfg_op ops[] = {
        put_op("m", "1"), put_op("m", "2"),    {.kind = CFG_RENAME, .path = "m", .to = "n"},
        put_op("m", "3"), put_op("gone", "x"), {.kind = CFG_DELETE, .path = "gone"}};
    struct cfg_store_result result = apply(NULL, 0, ops, ATL_COUNT(ops));
    assert_atl_ok(result.code, &result.error);
    assert_string_equal(rig_text(store, "m"), "3");
    assert_string_equal(rig_text(store, "n"), "2");
    assert_null(rig_text(store, "gone"));
}

static void a_hundred_objects_of_a_mebibyte_in_all_are_the_limit(void)
{
    size_t size = (1 << 20) / 100;
    char *bytes = atl_alloc0((1 << 20) + 2);
    memset(bytes, 'l', (1 << 20) + 1);
    char paths[101][32];
    struct cfg_op ops[101];
    struct cfg_compare compares[101];
    for (size_t i = 0; i < 101; i++) {
        (void)snprintf(paths[i], sizeof paths[i], "nodes/n1/lxc/%zu.conf", 1000 + i);
        ops[i] =
            (struct cfg_op){.kind = CFG_PUT, .path = paths[i], .bytes = (const uint8_t *)bytes, .size = size};
        compares[i] = (struct cfg_compare){.kind = CFG_ABSENT, .path = paths[i]};
    }
    struct cfg_store_result result = apply(compares, 100, ops, 100);
    assert_atl_ok(result.code, &result.error);
    assert_int_equal(apply(NULL, 0, ops, 101).code, ATL_E_LIMIT);
    char moved[100][32];
    for (size_t i = 0; i < 100; i++) { /* each guest is taken from one node and put on another */
        (void)snprintf(moved[i], sizeof moved[i], "nodes/n2/lxc/%zu.conf", 1000 + i);
        ops[i] = (struct cfg_op){.kind = CFG_RENAME, .path = paths[i], .to = moved[i]};
    }
    result = apply(NULL, 0, ops, 100);
    assert_atl_ok(result.code, &result.error);
    struct cfg_op large = {
        .kind = CFG_PUT, .path = "large", .bytes = (const uint8_t *)bytes, .size = 1 << 20};
    assert_int_equal(apply(NULL, 0, &large, 1).code, ATL_OK);
    large.size++;
    assert_int_equal(apply(NULL, 0, &large, 1).code, ATL_E_LIMIT);
    const struct cfg_op too_much[] = {{.kind = CFG_RENAME, .path = "large", .to = "large-2"},
                                      put_op("x", "y")};
    assert_int_equal(apply(NULL, 0, too_much, 2).code, ATL_E_LIMIT);
    free(bytes);
}

static void a_request_is_done_once(void)
{
    const uint8_t id[CFG_REQUEST_ID_SIZE] = {1, 2, 3};
    const struct cfg_op op = put_op("once", "1");
    const struct cfg_txn txn = {.ops = &op, .op_count = 1};
    struct cfg_store_result first = rig_txn(&rig, store, &txn, id);
    assert_int_equal(first.code, ATL_OK);
    assert_false(first.repeated);
    assert_int_equal(rig_put(&rig, store, "once", "2").code, ATL_OK);
    struct cfg_store_result again = rig_txn(&rig, store, &txn, id);
    assert_int_equal(again.code, ATL_OK);
    assert_true(again.repeated);
    assert_int_equal(again.number, first.number);
    assert_string_equal(rig_text(store, "once"), "2");
}

static void what_was_answered_is_there_after_a_restart(void)
{
    const uint8_t id[CFG_REQUEST_ID_SIZE] = {7};
    const struct cfg_op op = put_op("kept", "once");
    const struct cfg_txn txn = {.ops = &op, .op_count = 1};
    struct cfg_store_result first = rig_txn(&rig, store, &txn, id);
    assert_int_equal(first.code, ATL_OK);
    struct atl_revision before = cfg_store_revision(store);
    cfg_store_close(&store);
    store = rig_store(&rig);
    assert_string_equal(rig_text(store, "kept"), "once");
    assert_int_equal(number_of("kept"), first.number);
    assert_int_equal(cfg_store_revision(store).epoch, before.epoch);
    assert_true(cfg_store_revision(store).number >= before.number);
    struct cfg_store_result again = rig_txn(&rig, store, &txn, id);
    assert_true(again.repeated);
    assert_int_equal(again.number, first.number);
}

static struct {
    char text[256];
    unsigned int ends;
} heard;

static void on_change(const char *path, const struct cfg_file *file, void *user)
{
    (void)user;
    size_t used = strlen(heard.text);
    (void)snprintf(heard.text + used, sizeof heard.text - used, "%s%s%s ", path, file != NULL ? "=" : "!",
                   file != NULL ? (const char *)file->bytes : "");
}

static void on_commit(void *user)
{
    (void)user;
    heard.ends++;
}

static void those_who_follow_hear_of_each_change(void)
{
    heard.text[0] = '\0';
    heard.ends = 0;
    cfg_store_on_commit(store, on_change, on_commit, NULL);
    uint64_t from = cfg_store_revision(store).number;
    assert_int_equal(rig_put(&rig, store, "h/a", "1").code, ATL_OK);
    const struct cfg_op ops[] = {{.kind = CFG_RENAME, .path = "h/a", .to = "h/b"}, put_op("h/c", "2")};
    assert_int_equal(apply(NULL, 0, ops, 2).code, ATL_OK);
    assert_string_equal(heard.text, "h/a=1 h/a! h/b=1 h/c=2 ");
    assert_int_equal(heard.ends, 2);
    const struct cfg_ring *ring = cfg_store_ring(store);
    assert_true(cfg_ring_reaches(ring, from));
    size_t at = cfg_ring_seek(ring, from);
    assert_string_equal(cfg_ring_at(ring, at)->path, "h/a");
    assert_string_equal(cfg_ring_at(ring, at + 3)->path, "h/c");
    assert_int_equal(cfg_ring_at(ring, at + 3)->number, cfg_store_revision(store).number);
}

static void on_confirmed(enum atl_code code, const struct atl_error *error, void *user)
{
    (void)error;
    assert_int_equal(code, ATL_OK);
    *(bool *)user = true;
}

static void a_confirmed_read_is_as_of_now(void)
{
    bool confirmed = false;
    bool writable = false;
    cfg_store_confirm(store, on_confirmed, &confirmed);
    rig_wait(&rig, &confirmed);
    assert_true(cfg_store_age(store, &writable) < 10 * ATL_SECOND);
    assert_true(writable);
}

/* --- the table ---------------------------------------------------------------------------------------- */

struct test_case {
    const char *name;
    void (*run)(void);
};
#define CASE(fn)                                                                                             \
    {                                                                                                        \
#fn, fn                                                                                              \
    }

static const struct test_case cases[] = {
    CASE(files_are_put_renamed_and_deleted),
    CASE(a_compare_that_does_not_hold_changes_nothing),
    CASE(a_guest_id_is_in_the_tree_once),
    CASE(a_file_is_no_folder),
    CASE(a_path_may_come_more_than_once),
    CASE(a_hundred_objects_of_a_mebibyte_in_all_are_the_limit),
    CASE(a_request_is_done_once),
    CASE(what_was_answered_is_there_after_a_restart),
    CASE(those_who_follow_hear_of_each_change),
    CASE(a_confirmed_read_is_as_of_now),
};

static int open_sqlite(void **state)
{
    (void)state;
    rig_open_sqlite(&rig);
    return 0;
}

static int open_etcd(void **state)
{
    (void)state;
    rig_open_etcd(&rig, 1, false);
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

/* Each case begins with an empty tree. */
static int open_store(void **state)
{
    (void)state;
    store = rig_store(&rig);
    while (cfg_store_tree(store)->count > 0) {
        const struct cfg_op op = {.kind = CFG_DELETE, .path = cfg_store_tree(store)->files[0]->path};
        assert_int_equal(apply(NULL, 0, &op, 1).code, ATL_OK);
    }
    return 0;
}

static int close_store(void **state)
{
    (void)state;
    cfg_store_close(&store);
    return 0;
}

static void run_case(void **state)
{
    const struct test_case *test = *state;
    open_store(NULL);
    test->run();
    close_store(NULL);
}

static int run_all(const char *engine, CMFixtureFunction open)
{
    struct CMUnitTest tests[ATL_COUNT(cases)];
    for (size_t i = 0; i < ATL_COUNT(cases); i++)
        tests[i] = (struct CMUnitTest){
            .name = cases[i].name, .test_func = run_case, .initial_state = (void *)(uintptr_t)&cases[i]};
    return _cmocka_run_group_tests(engine, tests, ATL_COUNT(tests), open, close_rig);
}

int main(void)
{
    return run_all("sqlite", open_sqlite) + run_all("etcd", open_etcd);
}
