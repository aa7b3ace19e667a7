/* storage.cfg: what its settings mean, and changes that keep what they do not touch. */
#include "atl_test.h"

#include "core/config.h"

static const char file[] = "dir: local\n"
                           "\tpath /var/lib/vz\n"
                           "\tcontent iso,vztmpl,images\n"
                           "\n"
                           "nfs: share\n"
                           "\tserver 10.0.0.1\n"
                           "\texport /x\n"
                           "\tpath /mnt/pve/share\n"
                           "\tnodes pve1,pve2\n"
                           "\tfancy-new-word 7\n"
                           "\n"
                           "dir: off\n"
                           "\tpath /srv/off\n"
                           "\tdisable 1\n"
                           "\tcontent-dirs iso=my/isos\n"
                           "\tis_mountpoint yes\n"
                           "\tpreallocation falloc\n";

struct bench {
    struct atl_arena arena;
    struct sto_config config;
    struct atl_buf text;
    struct atl_errors errors;
    struct atl_error err;
    struct sto_change change;
};

static int set_up(void **state)
{
    struct bench *bench = atl_new0(struct bench);
    *state = bench;
    bench->change =
        (struct sto_change){.ret_text = &bench->text, .errors = &bench->errors, .err = &bench->err};
    assert_atl_ok(sto_config_read(file, sizeof file - 1, &bench->arena, &bench->config, &bench->err),
                  &bench->err);
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    atl_buf_done(&bench->text);
    atl_arena_done(&bench->arena);
    free(bench);
    return 0;
}

static void settings_are_read_with_their_defaults(void **state)
{
    const struct bench *bench = *state;
    assert_int_equal(bench->config.count, 3);
    const struct sto_storage *local = sto_config_find(&bench->config, "local");
    assert_string_equal(local->path, "/var/lib/vz");
    assert_true(sto_storage_takes(local, STO_ISO));
    assert_false(sto_storage_takes(local, STO_ROOTDIR));
    assert_false(local->shared);
    assert_true(local->make_base);
    assert_int_equal(local->default_format, STO_RAW);
    assert_string_equal(local->dirs[STO_ISO], "template/iso");
    const struct sto_storage *share = sto_config_find(&bench->config, "share");
    assert_true(share->shared);
    assert_true(sto_storage_on_node(share, "pve2"));
    assert_false(sto_storage_on_node(share, "pve"));
    assert_string_equal(share->content_text, "images");
    const struct sto_storage *off = sto_config_find(&bench->config, "off");
    assert_true(off->disabled);
    assert_string_equal(off->dirs[STO_ISO], "my/isos");
    assert_string_equal(off->mountpoint, "/srv/off");
    assert_int_equal(off->preallocation, STO_PREALLOCATE_FALLOC);
    assert_null(sto_config_find(&bench->config, "none"));
}

static void a_storage_that_cannot_be_used_says_why(void **state)
{
    struct bench *bench = *state;
    static const struct {
        const char *id;
        const char *node;
        enum sto_content content;
        enum atl_code code;
        const char *text;
    } cases[] = {
        {"local", "pve1", STO_ISO, ATL_OK, ""},
        {"local", "pve1", STO_BACKUP, ATL_E_INVALID,
         "storage 'local' does not support content type 'backup'"},
        {"off", "pve1", STO_ISO, ATL_E_STATE, "storage 'off' is disabled"},
        {"share", "pve3", STO_IMAGES, ATL_E_STATE, "storage 'share' is not available on node 'pve3'"},
        {"share", "pve1", STO_IMAGES, ATL_E_UNIMPLEMENTED,
         "storage 'share': there is no driver for type 'nfs'"},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct atl_error err = {0};
        const struct sto_storage *storage = sto_config_find(&bench->config, cases[i].id);
        assert_int_equal(sto_storage_usable(storage, cases[i].node, cases[i].content, "content", &err),
                         cases[i].code);
        assert_string_equal(err.text, cases[i].text);
    }
    const struct sto_storage *storage = NULL;
    assert_int_equal(sto_config_need(&bench->config, "none", &storage, &bench->err), ATL_E_ABSENT);
    assert_string_equal(bench->err.text, "storage 'none' does not exist");
}

static void the_digest_is_the_sha1_of_the_file(void **state)
{
    struct bench *bench = *state;
    struct sto_config empty;
    assert_atl_ok(sto_config_read(NULL, 0, &bench->arena, &empty, &bench->err), &bench->err);
    assert_string_equal(empty.digest, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert_int_equal(strlen(bench->config.digest), 40);
    assert_string_not_equal(bench->config.digest, empty.digest);
}

static void a_new_storage_comes_last_and_others_stay_as_they_are(void **state)
{
    struct bench *bench = *state;
    Atoll__Storage__V1__CreateRequest request = ATOLL__STORAGE__V1__CREATE_REQUEST__INIT;
    Atoll__Storage__V1__Config config = ATOLL__STORAGE__V1__CONFIG__INIT;
    char id[] = "new";
    char type[] = "dir";
    char path[] = "/srv/new";
    request.storage = id;
    request.type = type;
    request.config = &config;
    config.path = path;
    assert_atl_ok(sto_config_add(&bench->config, &request, &bench->arena, &bench->change), &bench->err);
    assert_non_null(strstr(bench->text.data, "fancy-new-word 7"));
    assert_non_null(strstr(bench->text.data, "dir: new\n\tpath /srv/new\n"));
    struct sto_config again;
    assert_atl_ok(sto_config_read(bench->text.data, bench->text.length, &bench->arena, &again, &bench->err),
                  &bench->err);
    assert_int_equal(again.count, 4);
    assert_string_equal(again.storages[3].id, "new");
    assert_string_equal(again.storages[3].content_text, "images,rootdir");
}

static void a_storage_that_cannot_be_added_is_refused_with_every_parameter_at_fault(void **state)
{
    struct bench *bench = *state;
    Atoll__Storage__V1__CreateRequest request = ATOLL__STORAGE__V1__CREATE_REQUEST__INIT;
    Atoll__Storage__V1__Config config = ATOLL__STORAGE__V1__CONFIG__INIT;
    char id[] = "local";
    char fresh[] = "fresh";
    char type[] = "dir";
    char nfs[] = "nfs";
    char content[] = "images,none";
    char dirs[] = "iso=../up";
    char vgname[] = "vg0";
    request.storage = id;
    request.type = type;
    request.config = &config;
    assert_int_equal(sto_config_add(&bench->config, &request, &bench->arena, &bench->change), ATL_E_EXISTS);
    assert_string_equal(bench->err.text, "storage ID 'local' already defined");
    request.storage = fresh;
    request.type = nfs;
    assert_int_equal(sto_config_add(&bench->config, &request, &bench->arena, &bench->change),
                     ATL_E_UNIMPLEMENTED);
    request.type = type;
    config.content = content;
    config.content_dirs = dirs;
    config.vgname = vgname;
    assert_int_equal(sto_config_add(&bench->config, &request, &bench->arena, &bench->change), ATL_E_INVALID);
    assert_int_equal(bench->errors.count, 4);
    assert_string_equal(bench->errors.items[0].field, "path");
    assert_string_equal(bench->errors.items[1].field, "vgname");
    assert_string_equal(bench->errors.items[2].field, "content");
    assert_string_equal(bench->errors.items[3].field, "content-dirs");
    assert_int_equal(bench->text.length, 0);
}

static void paths_that_could_lead_elsewhere_are_refused(void **state)
{
    static const char *const paths[] = {"/",     "",    "relative", "/a/../b", "/a/./b",
                                        "/a//b", "/a/", "/a b",     "/a\nb"};
    struct bench *bench = *state;
    char id[] = "fresh";
    char type[] = "dir";
    for (size_t i = 0; i < ATL_COUNT(paths); i++) {
        Atoll__Storage__V1__CreateRequest request = ATOLL__STORAGE__V1__CREATE_REQUEST__INIT;
        Atoll__Storage__V1__Config config = ATOLL__STORAGE__V1__CONFIG__INIT;
        bench->errors = (struct atl_errors){0};
        request.storage = id;
        request.type = type;
        request.config = &config;
        config.path = atl_arena_strdup(&bench->arena, paths[i]);
        if (sto_config_add(&bench->config, &request, &bench->arena, &bench->change) != ATL_E_INVALID)
            fail_msg("path '%s' was taken", paths[i]);
        assert_string_equal(bench->errors.items[0].field, "path");
    }
}

static void a_change_keeps_the_rest_and_honours_the_digest(void **state)
{
    struct bench *bench = *state;
    Atoll__Storage__V1__UpdateRequest request = ATOLL__STORAGE__V1__UPDATE_REQUEST__INIT;
    Atoll__Storage__V1__Config config = ATOLL__STORAGE__V1__CONFIG__INIT;
    char id[] = "local";
    char wrong[] = "0000";
    char gone[] = "content";
    request.storage = id;
    request.config = &config;
    request.digest = wrong;
    config.has_shared = true;
    config.shared = true;
    assert_int_equal(sto_config_change(&bench->config, &request, &bench->arena, &bench->change),
                     ATL_E_CONFLICT);
    request.digest = bench->config.digest;
    request.delete_ = gone;
    assert_atl_ok(sto_config_change(&bench->config, &request, &bench->arena, &bench->change), &bench->err);
    struct sto_config again;
    assert_atl_ok(sto_config_read(bench->text.data, bench->text.length, &bench->arena, &again, &bench->err),
                  &bench->err);
    assert_int_equal(again.count, 3);
    assert_true(again.storages[0].shared);
    assert_string_equal(again.storages[0].path, "/var/lib/vz");
    assert_string_equal(again.storages[0].content_text, "images,rootdir");
    assert_non_null(strstr(bench->text.data, "fancy-new-word 7"));
    assert_false(bench->config.storages[0].shared); /* what was read stays as it was */
}

static void fixed_settings_can_be_neither_changed_nor_deleted(void **state)
{
    struct bench *bench = *state;
    Atoll__Storage__V1__UpdateRequest request = ATOLL__STORAGE__V1__UPDATE_REQUEST__INIT;
    Atoll__Storage__V1__Config config = ATOLL__STORAGE__V1__CONFIG__INIT;
    char id[] = "local";
    char path[] = "/other";
    char gone[] = "path;server";
    request.storage = id;
    request.config = &config;
    config.path = path;
    assert_int_equal(sto_config_change(&bench->config, &request, &bench->arena, &bench->change),
                     ATL_E_INVALID);
    assert_string_equal(bench->errors.items[0].field, "path");
    bench->errors = (struct atl_errors){0};
    request.config = NULL;
    request.delete_ = gone;
    assert_int_equal(sto_config_change(&bench->config, &request, &bench->arena, &bench->change),
                     ATL_E_INVALID);
    assert_string_equal(bench->errors.items[0].field, "delete");
}

static void a_removed_storage_leaves_the_others(void **state)
{
    struct bench *bench = *state;
    assert_atl_ok(sto_config_remove(&bench->config, "share", &bench->change), &bench->err);
    struct sto_config again;
    assert_atl_ok(sto_config_read(bench->text.data, bench->text.length, &bench->arena, &again, &bench->err),
                  &bench->err);
    assert_int_equal(again.count, 2);
    assert_string_equal(again.storages[0].id, "local");
    assert_string_equal(again.storages[1].id, "off");
    assert_int_equal(sto_config_remove(&bench->config, "none", &bench->change), ATL_E_ABSENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(settings_are_read_with_their_defaults),
        TEST(a_storage_that_cannot_be_used_says_why),
        TEST(the_digest_is_the_sha1_of_the_file),
        TEST(a_new_storage_comes_last_and_others_stay_as_they_are),
        TEST(a_storage_that_cannot_be_added_is_refused_with_every_parameter_at_fault),
        TEST(paths_that_could_lead_elsewhere_are_refused),
        TEST(a_change_keeps_the_rest_and_honours_the_digest),
        TEST(fixed_settings_can_be_neither_changed_nor_deleted),
        TEST(a_removed_storage_leaves_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
