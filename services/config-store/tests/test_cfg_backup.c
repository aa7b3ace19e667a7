/* What a backup of the tree holds, and what a restore makes of it. */
#include "atl_test.h"
#include "core/backup.h"

static struct atl_error err;

static struct cfg_tree make(uint64_t epoch, const char *const *files, size_t count)
{
    struct cfg_tree tree;
    cfg_tree_init(&tree, epoch);
    for (size_t i = 0; i + 1 < count; i += 2)
        assert_atl_ok(
            cfg_tree_load(&tree, files[i], files[i + 1], strlen(files[i + 1]), epoch * 10 + i, &err), &err);
    tree.number = epoch * 10 + count;
    return tree;
}

static char *text_of(const struct cfg_tree *tree)
{
    struct atl_buf out = {0};
    for (size_t i = 0; i < tree->count; i++)
        atl_buf_printf(&out, "%s=%s;", tree->files[i]->path, (const char *)tree->files[i]->bytes);
    return atl_buf_steal(&out);
}

static const char *const saved_files[] = {
    ".state/directory/n9",   "gone node", "corosync.conf",    "old",
    "nodes/n1/lxc/100.conf", "ct",        "priv/authkey.key", "known to a removed node",
    "priv/shadow.cfg",       "hashes",    "user.cfg",         "users"};
static const char *const now_files[] = {".state/directory/n1",
                                        "n1",
                                        ".state/rotation",
                                        "3",
                                        "authkey.pub",
                                        "pub",
                                        "corosync.conf",
                                        "new",
                                        "nodes/n1/qemu-server/101.conf",
                                        "made since",
                                        "priv/authkey.key",
                                        "key",
                                        "priv/csrf.key",
                                        "csrf",
                                        "user.cfg",
                                        "broken"};

static void what_people_wrote_comes_back_and_what_machines_write_stays(void **state)
{
    (void)state;
    struct cfg_tree saved = make(3, saved_files, ATL_COUNT(saved_files));
    struct cfg_tree now = make(7, now_files, ATL_COUNT(now_files));
    struct cfg_tree merged = {.epoch = 0};
    assert_atl_ok(cfg_backup_merge(&saved, &now, &merged, &err), &err);
    char *text ATL_FREE_AT_EXIT = text_of(&merged);
    assert_string_equal(text, ".state/directory/n1=n1;.state/rotation=3;authkey.pub=pub;corosync.conf=new;"
                              "nodes/n1/lxc/100.conf=ct;priv/authkey.key=key;priv/csrf.key=csrf;"
                              "priv/shadow.cfg=hashes;user.cfg=users;");
    assert_int_equal(merged.epoch, 8); /* watchers list again */
    assert_true(merged.number >= now.number);
    cfg_tree_done(&merged);
    cfg_tree_done(&now);
    cfg_tree_done(&saved);
}

static void a_change_of_the_rest_is_seen(void **state)
{
    (void)state;
    struct cfg_tree one = make(7, now_files, ATL_COUNT(now_files));
    struct cfg_tree same = make(7, now_files, ATL_COUNT(now_files));
    struct cfg_tree shorter = make(7, now_files + 2, ATL_COUNT(now_files) - 2);
    struct cfg_tree later = make(8, now_files, ATL_COUNT(now_files));
    assert_true(cfg_backup_rest_same(&one, &same));
    assert_false(cfg_backup_rest_same(&one, &shorter));
    assert_false(cfg_backup_rest_same(&shorter, &one));
    assert_false(cfg_backup_rest_same(&one, &later));
    const char *const only_people[] = {"user.cfg", "x"};
    struct cfg_tree people = make(1, only_people, 2);
    struct cfg_tree others = make(2, only_people, 2);
    assert_true(cfg_backup_rest_same(&people, &others));
    cfg_tree_done(&one);
    cfg_tree_done(&same);
    cfg_tree_done(&shorter);
    cfg_tree_done(&later);
    cfg_tree_done(&people);
    cfg_tree_done(&others);
}

static void names_stay_in_their_folder(void **state)
{
    (void)state;
    assert_true(cfg_backup_name_valid("before-upgrade_2.db"));
    static const char *const bad[] = {
        "",        ".",   "..",
        ".hidden", "a/b", "../tree.db",
        "a b",     "a\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < ATL_COUNT(bad); i++)
        assert_false(cfg_backup_name_valid(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_people_wrote_comes_back_and_what_machines_write_stays),
        cmocka_unit_test(a_change_of_the_rest_is_seen),
        cmocka_unit_test(names_stay_in_their_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
