/* Commands under the words of other tools: each leads to a command that there is. */
#include "atl_test.h"

#include "core/cli_core.h"
#include "core/cli_words.h"

static struct atl_arena arena;
static struct cli_commands commands;
static struct atl_error err;

static int set_up(void **state)
{
    (void)state;
    cli_commands_list(atl_contract, &arena, &commands);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    atl_arena_done(&arena);
    return 0;
}

/* The words of atoll, with blanks between. */
static char *translated(int argc, const char *const *argv)
{
    struct cli_words words;
    struct atl_buf out = {0};
    assert_atl_ok(cli_words_take(argc, argv, &arena, &words, &err), &err);
    for (int i = 1; i < words.argc; i++)
        atl_buf_printf(&out, "%s%s", i > 1 ? " " : "", words.argv[i]);
    return atl_buf_steal(&out);
}

#define TRANSLATED(...)                                                                                      \
    __extension__({                                                                                          \
        const char *argv_[] = {__VA_ARGS__, NULL};                                                           \
        translated((int)ATL_COUNT(argv_) - 1, argv_);                                                        \
    })

static void known_words_become_ours(void **state)
{
    (void)state;
    char *create ATL_FREE_AT_EXIT = TRANSLATED("/usr/bin/pvecm", "create", "demo", "--link0", "10.0.0.1");
    assert_string_equal(create, "cluster create demo --link0 10.0.0.1");
    char *add ATL_FREE_AT_EXIT = TRANSLATED("pvecm", "add", "10.0.0.1", "--fingerprint", "AA");
    assert_string_equal(add, "cluster join-with-password 10.0.0.1 --fingerprint AA --password -");
    char *delete ATL_FREE_AT_EXIT = TRANSLATED("pvecm", "delnode", "n3");
    assert_string_equal(delete, "cluster remove n3");
    char *expected ATL_FREE_AT_EXIT = TRANSLATED("pvecm", "expected", "1", "--run-dir", "/run/x");
    assert_string_equal(expected, "cluster expected --expected 1 --run-dir /run/x");
    char *setup ATL_FREE_AT_EXIT = TRANSLATED("pvecm", "qdevice", "setup", "10.0.0.9");
    assert_string_equal(setup, "cluster witness-add 10.0.0.9");
    char *none ATL_FREE_AT_EXIT = TRANSLATED("pvecm", "expected");
    assert_string_equal(none, "cluster expected");
}

static void under_its_own_name_nothing_changes(void **state)
{
    (void)state;
    char *text ATL_FREE_AT_EXIT = TRANSLATED("atoll", "create", "demo");
    assert_string_equal(text, "create demo");
}

static void unknown_words_are_refused_with_those_that_there_are(void **state)
{
    (void)state;
    struct cli_words words;
    const char *const argv[] = {"pvecm", "destroy"};
    assert_int_equal(cli_words_take(2, argv, &arena, &words, &err), ATL_E_INVALID);
    assert_non_null(strstr(err.text, "create, add, status, nodes, delnode, expected"));
    assert_int_equal(cli_words_take(1, argv, &arena, &words, &err), ATL_E_INVALID);
}

/* Out of the page, which has them all: no word leads nowhere. */
static void each_leads_to_a_command_that_there_is(void **state)
{
    (void)state;
    const char *program = NULL;
    size_t count = 0;
    for (size_t i = 0; (program = cli_words_program(i)) != NULL; i++) {
        struct atl_buf page ATL_BUF_AT_EXIT = {0};
        cli_words_man(program, "1", &page);
        for (const char *at = page.data; (at = strstr(at, "\tatoll ")) != NULL; count++) {
            char noun[64];
            char verb[64];
            at += strlen("\tatoll ");
            assert_int_equal(sscanf(at, "%63s %63s", noun, verb), 2);
            if (cli_commands_find(&commands, noun, verb) == NULL)
                fail_msg("there is no 'atoll %s %s'", noun, verb);
        }
    }
    assert_true(count >= 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_words_become_ours),
        cmocka_unit_test(under_its_own_name_nothing_changes),
        cmocka_unit_test(unknown_words_are_refused_with_those_that_there_are),
        cmocka_unit_test(each_leads_to_a_command_that_there_is),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
