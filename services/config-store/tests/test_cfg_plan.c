/* What a transaction means for an engine that others write too. */
#include "atl_test.h"

#include "core/plan.h"

static struct cfg_tree tree;
static struct atl_arena arena;
static struct atl_error err;

static int set_up(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        uint64_t number;
    } files[] = {{"a", 5}, {"d/e", 6}, {"nodes/n/lxc/100.conf", 7}};
    cfg_tree_init(&tree, 3);
    tree.number = 9;
    for (size_t i = 0; i < ATL_COUNT(files); i++)
        assert_atl_ok(cfg_tree_load(&tree, files[i].path, "x", 1, files[i].number, &err), &err);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cfg_tree_done(&tree);
    atl_arena_done(&arena);
    return 0;
}

static struct cfg_op put_op(const char *path)
{
    return (struct cfg_op){.kind = CFG_PUT, .path = path, .bytes = (const uint8_t *)"new", .size = 3};
}

/* The plan as one line: compares, files and folders that must not be, changes, guests. */
static char *plan_text(const struct cfg_txn *txn)
{
    struct cfg_plan plan;
    struct atl_buf out = {0};
    assert_atl_ok(cfg_plan_make(&tree, txn, &arena, &plan, &err), &err);
    for (size_t i = 0; i < plan.compare_count; i++)
        atl_buf_printf(&out, "%s@%u ", plan.compares[i].path, (unsigned int)plan.compares[i].number);
    for (size_t i = 0; i < plan.no_file_count; i++)
        atl_buf_printf(&out, "no:%s ", plan.no_files[i]);
    for (size_t i = 0; i < plan.no_folder_count; i++)
        atl_buf_printf(&out, "none-below:%s ", plan.no_folders[i]);
    for (size_t i = 0; i < plan.change_count; i++)
        atl_buf_printf(&out, "%s%s ", plan.changes[i].path, plan.changes[i].bytes != NULL ? "=" : "!");
    for (size_t i = 0; i < plan.guest_count; i++)
        atl_buf_printf(&out, "%u:%s%s ", plan.guests[i].vmid,
                       plan.guests[i].path != NULL ? plan.guests[i].path : "gone",
                       plan.guests[i].fresh ? "(fresh)" : "");
    atl_buf_text(&out, plan.only_state ? "state" : "");
    assert_int_equal(tree.number, 9); /* the tree is as before */
    assert_int_equal(tree.count, 3);
    char *text = atl_arena_strdup(&arena, out.data);
    atl_buf_done(&out);
    return text;
}

static void a_transaction_becomes_compares_and_puts(void **state)
{
    (void)state;
    const struct {
        struct cfg_op ops[3];
        size_t count;
        const char *wanted;
    } cases[] = {
        {{put_op("a")}, 1, "a@5 a= "},
        {{put_op("b")}, 1, "b@0 none-below:b b= "},
        {{put_op(".state/x/y")},
         1,
         ".state/x/y@0 no:.state no:.state/x none-below:.state/x/y .state/x/y= state"},
        {{{.kind = CFG_DELETE, .path = "a"}}, 1, "a@5 a! state"},
        {{{.kind = CFG_RENAME, .path = "a", .to = "f"}}, 1, "a@5 f@0 none-below:f a! f= "},
        {{put_op("b"), {.kind = CFG_DELETE, .path = "b"}}, 2, "state"},
        {{{.kind = CFG_DELETE, .path = "d/e"}, put_op("d")}, 2, "d/e@6 d@0 d/e! d= "},
        {{{.kind = CFG_DELETE, .path = "a"}, put_op("a/b")}, 2, "a@5 a/b@0 none-below:a/b a! a/b= "},
        {{put_op("nodes/n/lxc/101.conf")},
         1,
         "nodes/n/lxc/101.conf@0 no:nodes no:nodes/n no:nodes/n/lxc none-below:nodes/n/lxc/101.conf "
         "nodes/n/lxc/101.conf= 101:nodes/n/lxc/101.conf(fresh) "},
        {{{.kind = CFG_DELETE, .path = "nodes/n/lxc/100.conf"}},
         1,
         "nodes/n/lxc/100.conf@7 nodes/n/lxc/100.conf! 100:gone state"},
        {{{.kind = CFG_RENAME, .path = "nodes/n/lxc/100.conf", .to = "nodes/m/lxc/100.conf"}},
         1,
         "nodes/n/lxc/100.conf@7 nodes/m/lxc/100.conf@0 no:nodes no:nodes/m no:nodes/m/lxc "
         "none-below:nodes/m/lxc/100.conf nodes/n/lxc/100.conf! nodes/m/lxc/100.conf= "
         "100:nodes/m/lxc/100.conf "},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++)
        assert_string_equal(
            plan_text(&(const struct cfg_txn){.ops = cases[i].ops, .op_count = cases[i].count}),
            cases[i].wanted);
}

static void what_was_asked_is_compared_too(void **state)
{
    (void)state;
    const struct cfg_op op = put_op("a");
    const struct cfg_compare compares[] = {{.kind = CFG_AT_REVISION, .path = "d/e", .epoch = 3, .number = 6},
                                           {.kind = CFG_ABSENT, .path = "q"},
                                           {.kind = CFG_EXISTS, .path = "a"}};
    const struct cfg_txn txn = {.compares = compares, .compare_count = 3, .ops = &op, .op_count = 1};
    assert_string_equal(plan_text(&txn), "a@5 d/e@6 q@0 a= ");
    const struct cfg_txn only = {.compares = compares, .compare_count = 1};
    assert_string_equal(plan_text(&only), "d/e@6 state");
    struct cfg_plan plan;
    tree.number = 9;
    const struct cfg_compare stale = {.kind = CFG_AT_REVISION, .path = "a", .epoch = 3, .number = 4};
    const struct cfg_txn refused = {.compares = &stale, .compare_count = 1, .ops = &op, .op_count = 1};
    assert_int_equal(cfg_plan_make(&tree, &refused, &arena, &plan, &err), ATL_E_CONFLICT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_transaction_becomes_compares_and_puts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_asked_is_compared_too, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
