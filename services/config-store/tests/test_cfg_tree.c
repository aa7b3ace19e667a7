/* The tree: paths, transactions, guest ids, limits, locks, the ring of changes. */
#include "atl_test.h"

#include "core/lock.h"
#include "core/ring.h"
#include "core/tree.h"

struct fixture {
    struct cfg_tree tree;
    struct cfg_batch batch;
    struct atl_arena arena;
    struct atl_error err;
};

static int set_up(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    cfg_tree_init(&f->tree, 7);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    cfg_batch_keep(&f->batch);
    cfg_batch_done(&f->batch);
    cfg_tree_done(&f->tree);
    atl_arena_done(&f->arena);
    free(f);
    return 0;
}

static struct cfg_op put(const char *path, const char *text)
{
    return (struct cfg_op){
        .kind = CFG_PUT, .path = path, .bytes = (const uint8_t *)text, .size = strlen(text)};
}

static enum atl_code apply(struct fixture *f, const struct cfg_op *ops, size_t count)
{
    const struct cfg_txn txn = {.ops = ops, .op_count = count};
    return cfg_tree_apply(&f->tree, &txn, &f->batch, &f->err);
}

static enum atl_code apply_put(struct fixture *f, const char *path, const char *text)
{
    const struct cfg_op op = put(path, text);
    return apply(f, &op, 1);
}

static enum atl_code compare(struct fixture *f, struct cfg_compare wanted)
{
    const struct cfg_txn txn = {.compares = &wanted, .compare_count = 1};
    return cfg_tree_apply(&f->tree, &txn, &f->batch, &f->err);
}

static void paths_are_clean_or_refused(void **state)
{
    (void)state;
    static const char *const good[] = {"user.cfg", "nodes/pve/qemu-server/100.conf", "a/..b/c",
                                       ".state/x", "nodes/pve/lxc/999999999.conf",   "sdn/a b.cfg"};
    static const char *const bad[] = {"",
                                      "/",
                                      "/a",
                                      "a/",
                                      "a//b",
                                      ".",
                                      "..",
                                      "a/../b",
                                      "a/.",
                                      "a\nb",
                                      "a\x7f",
                                      "nodes/pve/qemu-server/99.conf",
                                      "nodes/pve/qemu-server/0100.conf",
                                      "nodes/pve/qemu-server/1000000000.conf",
                                      "nodes/pve/lxc/x.conf",
                                      "nodes/pve/lxc/100.conf/x",
                                      "b\xc3\xa4r"};
    for (size_t i = 0; i < ATL_COUNT(good); i++)
        assert_int_equal(cfg_path_check(good[i], NULL), ATL_OK);
    for (size_t i = 0; i < ATL_COUNT(bad); i++)
        if (cfg_path_check(bad[i], NULL) != ATL_E_INVALID)
            fail_msg("'%s' was taken", bad[i]);
    char longest[CFG_PART_MAX + 2];
    memset(longest, 'x', sizeof longest);
    longest[CFG_PART_MAX] = '\0';
    assert_int_equal(cfg_path_check(longest, NULL), ATL_OK);
    longest[CFG_PART_MAX] = 'x';
    longest[CFG_PART_MAX + 1] = '\0';
    assert_int_equal(cfg_path_check(longest, NULL), ATL_E_INVALID);
}

static void services_touch_their_own_prefixes_only(void **state)
{
    (void)state;
    static const struct {
        const char *service;
        const char *path;
        bool read;
        bool write;
    } rows[] = {
        {"api-gateway", "user.cfg", false, false},
        {"api-gateway", "nodes/pve/qemu-server/100.conf", false, false},
        {"stranger", "user.cfg", false, false},
        {"compute-agent", "nodes/pve/qemu-server/100.conf", true, true},
        {"compute-agent", "nodes/pve/lxc/100.conf", true, true},
        {"compute-agent", "nodes/pve/host.fw", true, false},
        {"compute-agent", "user.cfg", true, false},
        {"compute-agent", "priv/shadow.cfg", false, false},
        {"compute-agent", ".state/lock/guest-100", true, false},
        {"storage-agent", "storage.cfg", true, true},
        {"storage-agent", "storage.cfg.old", true, false},
        {"storage-agent", "priv/storage/nas.pw", true, true},
        {"storage-agent", "priv/token.cfg", false, false},
        {"storage-agent", "priv/ha/n1.pw", false, false},
        {"ha-crm", "priv/ha/n1.pw", true, true},
        {"ha-crm", "priv/token.cfg", false, false},
        {"ha-lrm", "priv/ha/n1.pw", false, false},
        {"sdn-agent", "sdn/zones.cfg", true, true},
        {"sdn-agent", "user.cfg", true, false},
        {"cli", "priv/token.cfg", true, true},
    };
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        if (cfg_may_read(rows[i].service, rows[i].path) != rows[i].read)
            fail_msg("read of %s by %s", rows[i].path, rows[i].service);
        if (cfg_may_write(rows[i].service, rows[i].path) != rows[i].write)
            fail_msg("write of %s by %s", rows[i].path, rows[i].service);
    }
}

static void a_put_raises_the_revision_of_tree_and_file(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(apply_put(f, "user.cfg", "one"), ATL_OK);
    assert_int_equal(apply_put(f, "datacenter.cfg", "two"), ATL_OK);
    assert_int_equal(f->tree.number, 2);
    assert_int_equal(cfg_tree_get(&f->tree, "user.cfg")->number, 1);
    assert_int_equal(cfg_tree_get(&f->tree, "datacenter.cfg")->number, 2);
    assert_string_equal((const char *)cfg_tree_get(&f->tree, "user.cfg")->bytes, "one");
    assert_null(cfg_tree_get(&f->tree, "storage.cfg"));
}

static void a_transaction_is_done_whole_or_not_at_all(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(apply_put(f, "a", "1"), ATL_OK);
    uint64_t bytes = f->tree.bytes;
    const struct cfg_op ops[] = {put("b", "2"),
                                 put("a", "changed"),
                                 {.kind = CFG_RENAME, .path = "b", .to = "c"},
                                 {.kind = CFG_DELETE, .path = "nothing"}};
    assert_int_equal(apply(f, ops, ATL_COUNT(ops)), ATL_E_ABSENT);
    assert_int_equal(f->tree.count, 1);
    assert_int_equal(f->tree.number, 1);
    assert_int_equal(f->tree.bytes, bytes);
    assert_int_equal(f->batch.count, 1);
    assert_string_equal((const char *)cfg_tree_get(&f->tree, "a")->bytes, "1");
    assert_int_equal(apply(f, ops, 3), ATL_OK);
    assert_int_equal(f->tree.number, 2);
    assert_null(cfg_tree_get(&f->tree, "b"));
    assert_string_equal((const char *)cfg_tree_get(&f->tree, "c")->bytes, "2");
}

static void a_compare_sees_what_changed_since(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(apply_put(f, "a", "1"), ATL_OK);
    assert_int_equal(compare(f, (struct cfg_compare){CFG_AT_REVISION, "a", 7, 1}), ATL_OK);
    assert_int_equal(compare(f, (struct cfg_compare){CFG_AT_REVISION, "a", 6, 1}), ATL_E_CONFLICT);
    assert_int_equal(compare(f, (struct cfg_compare){CFG_EXISTS, "a", 0, 0}), ATL_OK);
    assert_int_equal(compare(f, (struct cfg_compare){CFG_EXISTS, "b", 0, 0}), ATL_E_CONFLICT);
    assert_int_equal(compare(f, (struct cfg_compare){CFG_ABSENT, "b", 0, 0}), ATL_OK);
    assert_int_equal(compare(f, (struct cfg_compare){CFG_ABSENT, "a", 0, 0}), ATL_E_CONFLICT);
    assert_int_equal(apply_put(f, "a", "2"), ATL_OK);
    assert_int_equal(compare(f, (struct cfg_compare){CFG_AT_REVISION, "a", 7, 1}), ATL_E_CONFLICT);
    assert_int_equal(f->tree.number, 2);
}

static void a_guest_id_is_once_in_the_tree(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(apply_put(f, "nodes/pve/qemu-server/100.conf", "x"), ATL_OK);
    assert_int_equal(apply_put(f, "nodes/other/qemu-server/100.conf", "x"), ATL_E_EXISTS);
    assert_string_equal(f->err.text, "unable to create VM 100 - VM 100 already exists on node 'pve'");
    assert_int_equal(apply_put(f, "nodes/pve/lxc/100.conf", "x"), ATL_E_EXISTS);
    assert_string_equal(f->err.text, "VM 100 already exists on node 'pve'");
    assert_int_equal(apply_put(f, "nodes/pve/lxc/101.conf", "x"), ATL_OK);
    assert_int_equal(compare(f, (struct cfg_compare){CFG_ABSENT, "nodes/pve/lxc/101.conf", 0, 0}),
                     ATL_E_EXISTS);
    assert_string_equal(f->err.text, "CT 101 already exists on node 'pve'");
    assert_int_equal(apply_put(f, "nodes/pve/qemu-server/100.conf", "changed"), ATL_OK);
    const struct cfg_op move = {.kind = CFG_RENAME,
                                .path = "nodes/pve/qemu-server/100.conf",
                                .to = "nodes/other/qemu-server/100.conf"};
    assert_int_equal(apply(f, &move, 1), ATL_OK);
    assert_string_equal(cfg_tree_guest(&f->tree, 100)->path, "nodes/other/qemu-server/100.conf");
    const struct cfg_op drop = {.kind = CFG_DELETE, .path = "nodes/other/qemu-server/100.conf"};
    assert_int_equal(apply(f, &drop, 1), ATL_OK);
    assert_null(cfg_tree_guest(&f->tree, 100));
}

static void the_next_id_is_the_lowest_free_one(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(cfg_tree_next_id(&f->tree, 100, 1000), 100);
    assert_int_equal(apply_put(f, "nodes/a/lxc/101.conf", ""), ATL_OK);
    assert_int_equal(apply_put(f, "nodes/a/lxc/100.conf", ""), ATL_OK);
    assert_int_equal(apply_put(f, "nodes/b/qemu-server/103.conf", ""), ATL_OK);
    assert_int_equal(cfg_tree_next_id(&f->tree, 100, 1000), 102);
    assert_int_equal(cfg_tree_next_id(&f->tree, 103, 1000), 104);
    assert_int_equal(cfg_tree_next_id(&f->tree, 100, 101), 0);
}

static void a_file_is_no_folder(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(apply_put(f, "a/b", "1"), ATL_OK);
    assert_int_equal(apply_put(f, "a", "1"), ATL_E_EXISTS);
    assert_int_equal(apply_put(f, "a/b/c", "1"), ATL_E_EXISTS);
    assert_int_equal(apply_put(f, "a/bc", "1"), ATL_OK);
}

static void limits_are_errors(void **state)
{
    struct fixture *f = *state;
    char *large = atl_alloc0(CFG_FILE_BYTES_MAX + 2);
    memset(large, 'x', CFG_FILE_BYTES_MAX + 1);
    assert_int_equal(apply_put(f, "a", large), ATL_E_LIMIT);
    large[CFG_FILE_BYTES_MAX] = '\0';
    assert_int_equal(apply_put(f, "a", large), ATL_OK);
    f->tree.bytes_max = f->tree.bytes + 2;
    assert_int_equal(apply_put(f, "a", large), ATL_OK); /* in place of itself it fits */
    assert_int_equal(apply_put(f, "b", "1"), ATL_OK);
    assert_int_equal(apply_put(f, "c", "1"), ATL_E_LIMIT);
    struct cfg_op ops[CFG_TXN_OPS_MAX + 1];
    for (size_t i = 0; i < ATL_COUNT(ops); i++)
        ops[i] = put("b", "");
    assert_int_equal(apply(f, ops, CFG_TXN_OPS_MAX + 1), ATL_E_LIMIT);
    assert_int_equal(apply(f, ops, CFG_TXN_OPS_MAX), ATL_OK);
    free(large);
}

static void a_failed_batch_is_taken_back(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(apply_put(f, "a", "1"), ATL_OK);
    assert_int_equal(apply_put(f, "nodes/a/lxc/101.conf", "1"), ATL_OK);
    cfg_batch_keep(&f->batch);
    assert_int_equal(apply_put(f, "a", "2"), ATL_OK);
    assert_int_equal(apply_put(f, "a", "3"), ATL_OK);
    assert_int_equal(apply_put(f, "b", "3"), ATL_OK);
    const struct cfg_op drop = {.kind = CFG_DELETE, .path = "nodes/a/lxc/101.conf"};
    assert_int_equal(apply(f, &drop, 1), ATL_OK);
    cfg_batch_undo(&f->batch, &f->tree, 2);
    assert_int_equal(f->tree.number, 2);
    assert_int_equal(f->tree.count, 2);
    assert_string_equal((const char *)cfg_tree_get(&f->tree, "a")->bytes, "1");
    assert_non_null(cfg_tree_guest(&f->tree, 101));
}

static void locks_are_taken_waited_for_and_lost(void **state)
{
    struct fixture *f = *state;
    struct cfg_lock_plan plan = cfg_lock_take(&f->tree, "guest-100", "me", 1000, 5000, &f->arena);
    assert_int_equal(plan.verdict, CFG_LOCK_TAKE);
    assert_int_equal(apply(f, &plan.op, 1), ATL_OK);
    plan = cfg_lock_take(&f->tree, "guest-100", "you", 1000, 5999, &f->arena);
    assert_int_equal(plan.verdict, CFG_LOCK_WAIT);
    assert_int_equal(plan.expires_ms, 6000);
    plan = cfg_lock_renew(&f->tree, "guest-100", "you", 1000, 5999, &f->arena);
    assert_int_equal(plan.verdict, CFG_LOCK_NOTHING);
    plan = cfg_lock_release(&f->tree, "guest-100", "you", &f->arena);
    assert_int_equal(plan.verdict, CFG_LOCK_NOTHING);
    plan = cfg_lock_take(&f->tree, "guest-100", "you", 1000, 6000, &f->arena);
    assert_int_equal(plan.verdict, CFG_LOCK_TAKE);
    assert_int_equal(apply(f, &plan.op, 1), ATL_OK);
    plan = cfg_lock_renew(&f->tree, "guest-100", "me", 1000, 6001, &f->arena);
    assert_int_equal(plan.verdict, CFG_LOCK_NOTHING);
    plan = cfg_lock_release(&f->tree, "guest-100", "you", &f->arena);
    assert_int_equal(plan.verdict, CFG_LOCK_DROP);
    assert_int_equal(apply(f, &plan.op, 1), ATL_OK);
    /* A clock that was set back by a day must not keep the lock for a day. */
    plan = cfg_lock_take(&f->tree, "guest-100", "me", 1000, 86400000, &f->arena);
    assert_int_equal(apply(f, &plan.op, 1), ATL_OK);
    assert_int_equal(cfg_lock_take(&f->tree, "guest-100", "you", 1000, 1000, &f->arena).verdict,
                     CFG_LOCK_TAKE);
    assert_int_equal(cfg_lock_check("guest-100", "compute-agent@pve/1", NULL), ATL_OK);
    assert_int_equal(cfg_lock_check("../user.cfg", "x", NULL), ATL_E_INVALID);
    assert_int_equal(cfg_lock_check("..", "x", NULL), ATL_E_INVALID);
    assert_int_equal(cfg_lock_check("a", "", NULL), ATL_E_INVALID);
}

static void the_ring_forgets_the_oldest_and_says_so(void **state)
{
    (void)state;
    struct cfg_ring ring;
    cfg_ring_init(&ring, 10);
    assert_true(cfg_ring_reaches(&ring, 10));
    assert_false(cfg_ring_reaches(&ring, 9));
    for (uint64_t n = 11; n < 11 + CFG_RING_MAX; n++)
        cfg_ring_add(&ring, n, "a");
    assert_true(cfg_ring_reaches(&ring, 10));
    assert_int_equal(cfg_ring_seek(&ring, 10), 0);
    assert_int_equal(cfg_ring_seek(&ring, 12), 2);
    cfg_ring_add(&ring, 11 + CFG_RING_MAX, "b");
    cfg_ring_add(&ring, 11 + CFG_RING_MAX, "c");
    assert_false(cfg_ring_reaches(&ring, 11));
    assert_true(cfg_ring_reaches(&ring, 12));
    size_t last = cfg_ring_seek(&ring, 10 + CFG_RING_MAX);
    assert_int_equal(ring.count - last, 2);
    assert_string_equal(cfg_ring_at(&ring, last)->path, "b");
    assert_int_equal(cfg_ring_seek(&ring, 11 + CFG_RING_MAX), ring.count);
    cfg_ring_done(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_clean_or_refused),
        cmocka_unit_test(services_touch_their_own_prefixes_only),
        cmocka_unit_test_setup_teardown(a_put_raises_the_revision_of_tree_and_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_transaction_is_done_whole_or_not_at_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_compare_sees_what_changed_since, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_guest_id_is_once_in_the_tree, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_next_id_is_the_lowest_free_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_is_no_folder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(limits_are_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_batch_is_taken_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(locks_are_taken_waited_for_and_lost, set_up, tear_down),
        cmocka_unit_test(the_ring_forgets_the_oldest_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
