/* domains.cfg: what it says about the built-in realms, and what it may not say. */
#include "atl_test.h"

#include "core/realms.h"

static struct atl_arena arena;
static struct atl_error err;
static Atoll__Access__V1__DomainsRow *rows[CFG_REALMS];

static enum atl_code read_text(const char *text)
{
    return cfg_realms_read(text, strlen(text), &arena, rows, &err);
}

static int forget(void **state)
{
    (void)state;
    atl_arena_done(&arena);
    return 0;
}

static void without_a_file_the_builtin_realms_are_there(void **state)
{
    (void)state;
    assert_atl_ok(read_text(""), &err);
    assert_string_equal(rows[0]->realm, "pam");
    assert_string_equal(rows[0]->type, "pam");
    assert_string_equal(rows[0]->comment, "Linux PAM standard authentication");
    assert_string_equal(rows[1]->realm, "pve");
    assert_false(rows[1]->has_default_);
}

static void the_file_says_comment_and_default(void **state)
{
    (void)state;
    assert_atl_ok(read_text("pve: pve\n\tcomment Our own\n\tdefault 1\n\nldap: office\n\tserver1 10.0.0.1\n"
                            "\tcomment elsewhere\n\npam: pam\n\n"),
                  &err);
    assert_string_equal(rows[0]->comment, "Linux PAM standard authentication");
    assert_false(rows[0]->has_default_);
    assert_string_equal(rows[1]->comment, "Our own");
    assert_true(rows[1]->has_default_ && rows[1]->default_);
}

static void what_cannot_be_read_is_an_error_that_names_the_file(void **state)
{
    (void)state;
    static const char *const texts[] = {"no section\n", "ldap: pam\n\tcomment x\n", "pve: other\n",
                                        "pve: pve\n\tdefault perhaps\n"};
    for (size_t i = 0; i < ATL_COUNT(texts); i++) {
        memset(rows, 0, sizeof rows);
        assert_int_equal(read_text(texts[i]), ATL_E_INVALID);
        assert_non_null(strstr(err.text, "domains.cfg cannot be read"));
        assert_null(rows[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(without_a_file_the_builtin_realms_are_there, forget),
        cmocka_unit_test_teardown(the_file_says_comment_and_default, forget),
        cmocka_unit_test_teardown(what_cannot_be_read_is_an_error_that_names_the_file, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
