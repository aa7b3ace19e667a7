/* Task ids: text and back, what is refused, which tasks a list shows. */
#include "atl_test.h"

#include "pure/upid.h"

static void a_upid_is_read_and_written_back(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "UPID:pve1:00001A2B:0F00BA11:65A1B2C3:qmstart:100:root@pam:",
        "UPID:pve-2:FFFFFFFF:100000000:65A1B2C3:vzdump::bob@pve!token:",
    };
    for (size_t i = 0; i < ATL_COUNT(texts); i++) {
        struct atl_upid upid;
        char text[ATL_UPID_MAX];
        struct atl_error err = {0};
        assert_atl_ok(atl_upid_from_text(texts[i], &upid, &err), &err);
        assert_atl_ok(atl_upid_to_text(&upid, text, &err), &err);
        assert_string_equal(text, texts[i]);
    }
    struct atl_upid upid;
    assert_int_equal(atl_upid_from_text(texts[0], &upid, NULL), ATL_OK);
    assert_string_equal(upid.node, "pve1");
    assert_int_equal(upid.pid, 0x1A2B);
    assert_int_equal(upid.start, 0x65A1B2C3);
    assert_string_equal(upid.type, "qmstart");
    assert_string_equal(upid.id, "100");
    assert_string_equal(upid.user, "root@pam");
}

static void what_is_no_upid_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "UPID",
        "UPID:",
        "UPID:pve1:00001A2B:0F00BA11:65A1B2C3:qmstart:100:root@pam",
        "UPID:pve1:00001A2B:0F00BA11:65A1B2C3:qmstart:100:root@pam::",
        "UPID:pve1:00001A2B:0F00BA11:65A1B2C3:qmstart:100::",
        "UPID:pve1:00001A2B:0F00BA11:65A1B2C3::100:root@pam:",
        "UPID:pve1:1A2B:0F00BA11:65A1B2C3:qmstart:100:root@pam:",
        "UPID:pve1:0000000001A2B:0F00BA11:65A1B2C3:qmstart:100:root@pam:",
        "UPID:pve1:0x001A2B:0F00BA11:65A1B2C3:qmstart:100:root@pam:",
        "UPID:../x:00001A2B:0F00BA11:65A1B2C3:qmstart:100:root@pam:",
        "UPID:-a:00001A2B:0F00BA11:65A1B2C3:qmstart:100:root@pam:",
        "UPID:pve1:00001A2B:0F00BA11:65A1B2C3:qm/start:100:root@pam:",
        "UPID:pve1:00001A2B:0F00BA11:65A1B2C3:qmstart:1 0:root@pam:",
        "UPID:pve1:00001A2B:0F00BA11:65A1B2C3:qmstart:100:root@pam\n:",
    };
    for (size_t i = 0; i < ATL_COUNT(texts); i++) {
        struct atl_upid upid;
        struct atl_error err = {0};
        assert_int_equal(atl_upid_from_text(texts[i], &upid, &err), ATL_E_INVALID);
        assert_string_equal(err.field, "upid");
    }
    char text[400];
    memset(text, 'a', sizeof text);
    memcpy(text, "UPID:", 5);
    text[sizeof text - 1] = '\0';
    struct atl_upid upid;
    assert_int_equal(atl_upid_from_text(text, &upid, NULL), ATL_E_INVALID);
}

static void parts_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct atl_upid upid = {.node = "pve1", .type = "qmstart", .id = "100", .user = "root@pam"};
    char text[ATL_UPID_MAX];
    assert_int_equal(atl_upid_to_text(&upid, text, NULL), ATL_OK);
    (void)strcpy(upid.id, "local:x");
    assert_int_equal(atl_upid_to_text(&upid, text, NULL), ATL_E_INVALID);
    memset(upid.id, 'i', sizeof upid.id - 1);
    memset(upid.user, 'u', sizeof upid.user - 1);
    memset(upid.node, 'n', sizeof upid.node - 1);
    struct atl_error err = {0};
    assert_int_equal(atl_upid_to_text(&upid, text, &err), ATL_E_INVALID);
    assert_string_equal(err.text, "the task's id would be longer than 239 bytes");
}

static void filters_pass_what_they_name(void **state)
{
    (void)state;
    const struct atl_upid upid = {
        .node = "pve1", .start = 1000, .type = "qmstart", .id = "100", .user = "bob@pve"};
    static const struct {
        struct atl_upid_filter filter;
        const char *exit;
        bool passes;
    } cases[] = {
        {{0}, "", true},
        {{.node = "pve1", .user = "bob", .type = "qmstart", .id = "100", .only_user = "bob@pve"}, "OK", true},
        {{.node = "pve2"}, "OK", false},
        {{.user = "rob"}, "OK", false},
        {{.only_user = "bob"}, "OK", false},
        {{.type = "qm"}, "OK", false},
        {{.id = "10"}, "OK", false},
        {{.since = 1000, .until = 1000}, "OK", true},
        {{.since = 1001}, "OK", false},
        {{.until = 999}, "OK", false},
        {{.errors = true}, "OK", false},
        {{.errors = true}, "WARNINGS: 1", false},
        {{.errors = true}, "", false},
        {{.errors = true}, "no space", true},
        {{.active = true}, "", true},
        {{.active = true}, "OK", false},
        {{.ended = true}, "", false},
        {{.ended = true}, "OK", true},
        {{.status = ""}, "OK", true},
        {{.status = "ok"}, "OK", true},
        {{.status = "error;warning"}, "WARNINGS: 3", true},
        {{.status = "error, unknown"}, "", true},
        {{.status = "error, unknown"}, "OK", false},
        {{.status = "errors"}, "broken", false},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++)
        if (atl_upid_passes(&cases[i].filter, &upid, cases[i].exit) != cases[i].passes)
            fail_msg("case %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_upid_is_read_and_written_back),
        cmocka_unit_test(what_is_no_upid_is_refused),
        cmocka_unit_test(parts_that_do_not_fit_are_refused),
        cmocka_unit_test(filters_pass_what_they_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
