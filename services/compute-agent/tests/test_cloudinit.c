/* Every tests/scenario/compute/cloudinit/NAME.conf becomes the files that NAME.txt records. */
#include "atl_test.h"

#include "core/cloudinit.h"
#include "core/config.h"

static const char *const cases[] = {"bare", "configdrive", "dhcp",   "hostile",
                                    "keys", "root",        "static", "windows"};

static void every_case_gives_its_recorded_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        char path[4096];
        ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
        ATL_BUF_AT_EXIT struct atl_buf text = {0};
        ATL_BUF_AT_EXIT struct atl_buf out = {0};
        struct cmp_file file;
        struct cmp_cloudinit ci;
        struct atl_error err = {0};
        const char *top = getenv("ATL_SOURCE_DIR");
        (void)snprintf(path, sizeof path, "%s/tests/scenario/compute/cloudinit/%s.conf",
                       top != NULL ? top : ".", cases[i]);
        assert_true(atl_test_read(path, &text));
        assert_atl_ok(cmp_file_read(text.data, text.length, &arena, &file, &err), &err);
        const struct cmp_cloudinit_facts facts = {.vmid = 100, .nameserver = "192.0.2.53"};
        cmp_cloudinit_build(file.main->config, &facts, &arena, &ci);
        atl_buf_printf(&out, "volume %s\n", ci.label);
        for (size_t k = 0; k < ci.count; k++)
            atl_buf_printf(&out, "=== %s\n%s", ci.files[k].path, ci.files[k].text);
        (void)snprintf(path, sizeof path, "tests/scenario/compute/cloudinit/%s.txt", cases[i]);
        atl_test_golden(path, out.data);
    }
}

static void hashes_are_told_from_passwords(void **state)
{
    (void)state;
    assert_true(cmp_is_password_hash("$6$salt$hash"));
    assert_true(cmp_is_password_hash("$5$salt$hash"));
    assert_false(cmp_is_password_hash("secret"));
    assert_false(cmp_is_password_hash("$ecret"));
    assert_false(cmp_is_password_hash(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_gives_its_recorded_files),
        cmocka_unit_test(hashes_are_told_from_passwords),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
