/* The command line's core: reading arguments, help, completion, tables. */
#include "atl_test.h"

#include "core/cli_core.h"

struct fixture {
    struct atl_arena arena;
    struct cli_commands commands;
    struct cli_args args;
    struct atl_error err;
};

static int set_up(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    cli_commands_list(atl_contract, &f->arena, &f->commands);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    atl_arena_done(&f->arena);
    free(f);
    return 0;
}

#define PARSE(f, ...)                                                                                        \
    __extension__({                                                                                          \
        const char *argv_[] = {"atoll", __VA_ARGS__, NULL};                                                  \
        cli_args_parse(&(f)->commands, (int)ATL_COUNT(argv_) - 1, argv_, &(f)->arena, &(f)->args,            \
                       &(f)->err);                                                                           \
    })

static const char *param(const struct fixture *f, const char *name)
{
    for (size_t i = 0; i < f->args.count; i++)
        if (strcmp(f->args.params[i].name, name) == 0)
            return f->args.params[i].value;
    return NULL;
}

static void a_guest_is_named_by_its_id_alone(void **state)
{
    struct fixture *f = *state;
    assert_atl_ok(PARSE(f, "qemu", "start", "100", "--node", "pve1"), &f->err);
    assert_string_equal(f->args.command->rpc->name, "atoll.qemu.v1.Qemu.Start");
    assert_string_equal(param(f, "vmid"), "100");
    assert_string_equal(f->args.node, "pve1");
}

static void options_may_be_spelled_with_hyphens_or_underscores(void **state)
{
    struct fixture *f = *state;
    assert_atl_ok(
        PARSE(f, "ha", "add", "vm:100", "--max-restart", "3", "--max_relocate=2", "--auto_rebalance", "0"),
        &f->err);
    assert_string_equal(param(f, "max_restart"), "3");
    assert_string_equal(param(f, "max_relocate"), "2");
    assert_string_equal(param(f, "auto-rebalance"), "0");
    assert_int_equal(PARSE(f, "ha", "add", "vm:100", "--max-restarts", "3"), ATL_E_INVALID);
}

static void a_verb_of_two_words_may_stand_so_and_half_of_it_tells_the_rest(void **state)
{
    struct fixture *f = *state;
    assert_atl_ok(PARSE(f, "ha", "rules", "add", "node-affinity", "near", "--resources", "vm:100"), &f->err);
    assert_string_equal(f->args.command->verb, "rules-add");
    assert_atl_ok(PARSE(f, "ha", "disarm", "freeze"), &f->err);
    assert_string_equal(param(f, "resource-mode"), "freeze");
    assert_int_equal(PARSE(f, "ha", "rules", "--help"), ATL_E_INVALID);
    assert_non_null(strstr(f->err.text, "'atoll ha rules' comes one of: config, add, show, set, remove"));
    assert_int_equal(PARSE(f, "vm", "rule"), ATL_E_INVALID);
    assert_non_null(strstr(f->err.text, "there is no 'atoll vm rule'"));
}

static void vm_and_ct_are_short_forms(void **state)
{
    struct fixture *f = *state;
    assert_atl_ok(PARSE(f, "vm", "stop", "100"), &f->err);
    assert_string_equal(f->args.command->rpc->name, "atoll.qemu.v1.Qemu.Stop");
    assert_atl_ok(PARSE(f, "ct", "list"), &f->err);
    assert_string_equal(f->args.command->rpc->name, "atoll.lxc.v1.Lxc.List");
}

static void a_verb_does_not_repeat_its_noun(void **state)
{
    struct fixture *f = *state;
    assert_non_null(cli_commands_find(&f->commands, "pool", "create"));
    assert_non_null(cli_commands_find(&f->commands, "pool", "list"));
    assert_null(cli_commands_find(&f->commands, "pool", "create-pool"));
    assert_non_null(cli_commands_find(&f->commands, "vm", "config"));
    assert_non_null(cli_commands_find(&f->commands, "vm", "set"));
    assert_non_null(cli_commands_find(&f->commands, "cluster", "resources"));
}

static void options_become_parameters_and_flags_need_no_value(void **state)
{
    struct fixture *f = *state;
    assert_atl_ok(
        PARSE(f, "qemu", "create", "100", "--net0=virtio,bridge=vmbr0", "--onboot", "--memory", "512"),
        &f->err);
    assert_string_equal(param(f, "vmid"), "100");
    assert_string_equal(param(f, "net0"), "virtio,bridge=vmbr0");
    assert_string_equal(param(f, "onboot"), "1");
    assert_string_equal(param(f, "memory"), "512");
}

static void an_unknown_option_names_itself_and_where_help_is(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(PARSE(f, "qemu", "start", "100", "--colour", "red"), ATL_E_INVALID);
    assert_string_equal(f->err.text, "unknown option --colour; see atoll qemu start --help");
    assert_string_equal(f->err.field, "colour");
}

static void a_missing_id_is_asked_for(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(PARSE(f, "qemu", "start"), ATL_E_INVALID);
    assert_string_equal(f->err.text, "vmid is missing; see atoll qemu start --help");
}

static void a_secret_on_the_command_line_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(PARSE(f, "access", "create-user", "--userid", "a@pve", "--password", "secret"),
                     ATL_E_INVALID);
    assert_string_equal(f->err.field, "password");
    assert_null(strstr(f->err.text, "=secret"));
    assert_atl_ok(PARSE(f, "access", "create-user", "--userid", "a@pve", "--password", "-"), &f->err);
    assert_int_equal(PARSE(f, "qemu", "list", "--token", "a@pve!b=c"), ATL_E_INVALID);
}

static void api_finds_methods_by_path_and_a_fixed_segment_wins(void **state)
{
    struct fixture *f = *state;
    assert_atl_ok(PARSE(f, "api", "get", "/nodes/pve1/qemu/100/config"), &f->err);
    assert_string_equal(f->args.command->rpc->name, "atoll.qemu.v1.Qemu.GetConfig");
    assert_string_equal(param(f, "node"), "pve1");
    assert_string_equal(param(f, "vmid"), "100");
    assert_atl_ok(PARSE(f, "api", "create", "/nodes/pve1/storage/local/upload"), &f->err);
    assert_string_equal(f->args.command->rpc->name, "atoll.storage.v1.Storage.Upload");
    assert_int_equal(PARSE(f, "api", "get", "/nowhere"), ATL_E_ABSENT);
    assert_int_equal(PARSE(f, "api", "get", "/version", "--colour", "red"), ATL_E_INVALID);
}

static void a_volume_id_with_slashes_is_one_path_value(void **state)
{
    struct fixture *f = *state;
    assert_atl_ok(PARSE(f, "api", "get", "/nodes/p/storage/local/content/local:iso/a.iso"), &f->err);
    assert_string_equal(param(f, "volume"), "local:iso/a.iso");
}

static void joining_names_where_to_and_may_show_its_token(void **state)
{
    struct fixture *f = *state;
    assert_atl_ok(PARSE(f, "cluster", "create", "demo"), &f->err);
    assert_string_equal(param(f, "clustername"), "demo");
    assert_atl_ok(PARSE(f, "cluster", "join", "10.0.0.1", "--token", "a/b/c"), &f->err);
    assert_string_equal(param(f, "hostname"), "10.0.0.1");
    assert_string_equal(param(f, "token"), "a/b/c");
    assert_int_equal(PARSE(f, "cluster", "join", "--token", "a/b/c"), ATL_E_INVALID);
    assert_atl_ok(PARSE(f, "cluster", "remove", "n3"), &f->err);
    assert_string_equal(param(f, "node"), "n3");
}

static void every_command_has_a_unique_name_and_help_that_shows_its_summary(void **state)
{
    struct fixture *f = *state;
    assert_true(f->commands.count >= 90);
    for (size_t i = 0; i < f->commands.count; i++) {
        const struct cli_command *command = &f->commands.items[i];
        assert_ptr_equal(cli_commands_find(&f->commands, command->noun, command->verb), command);
        ATL_BUF_AT_EXIT struct atl_buf text = {0};
        cli_help(&f->commands, NULL, command, &text);
        assert_non_null(strstr(text.data, command->noun));
        if (command->rpc->summary != NULL)
            assert_non_null(strstr(text.data, command->rpc->summary));
    }
}

static void every_noun_has_a_summary(void **state)
{
    struct fixture *f = *state;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    cli_help(&f->commands, NULL, NULL, &text);
    const char *options = strstr(text.data, "Options for every command");
    assert_non_null(options);
    for (const char *line = strstr(text.data, "Nouns:\n") + 7; line < options && *line != '\n';
         line = strchr(line, '\n') + 1)
        assert_true(line[21] != '\n' && line[20] == ' ');
}

static void help_has_three_levels(void **state)
{
    struct fixture *f = *state;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    cli_help(&f->commands, NULL, NULL, &text);
    assert_non_null(strstr(text.data, "  qemu "));
    atl_buf_reset(&text);
    cli_help(&f->commands, "qemu", NULL, &text);
    assert_non_null(strstr(text.data, "  start "));
    atl_buf_reset(&text);
    cli_help(&f->commands, "qemu", cli_commands_find(&f->commands, "qemu", "create"), &text);
    assert_non_null(strstr(text.data, "--netN KEY=VALUE,..."));
    assert_non_null(strstr(text.data, "bridge="));
    assert_non_null(strstr(text.data, "from 1"));
}

static void completion_offers_nouns_verbs_options_and_values(void **state)
{
    struct fixture *f = *state;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    const char *nouns[] = {"qe"};
    cli_complete(&f->commands, nouns, 1, &text);
    assert_string_equal(text.data, "qemu\n");
    atl_buf_reset(&text);
    const char *verbs[] = {"qemu", "star"};
    cli_complete(&f->commands, verbs, 2, &text);
    assert_string_equal(text.data, "start\n");
    atl_buf_reset(&text);
    const char *options[] = {"qemu", "create", "100", "--onb"};
    cli_complete(&f->commands, options, 4, &text);
    assert_string_equal(text.data, "--onboot\n");
    atl_buf_reset(&text);
    const char *values[] = {"qemu", "create", "100", "--bios", "o"};
    cli_complete(&f->commands, values, 5, &text);
    assert_string_equal(text.data, "ovmf\n");
}

static void a_list_is_a_table_with_names_first_and_numbers_at_the_right(void **state)
{
    struct fixture *f = *state;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    const char *json =
        "[{\"mem\":1048576,\"name\":\"a\",\"vmid\":100},{\"name\":\"bcd\",\"vmid\":1000,\"cpu\":0.5}]";
    assert_atl_ok(cli_table(json, &(struct cli_table_options){0}, &text, &f->err), &f->err);
    assert_string_equal(text.data, "vmid  name    mem  cpu\n"
                                   " 100  a     1.0Mi     \n"
                                   "1000  bcd          0.5\n");
}

static void a_narrow_terminal_gets_fewer_columns_and_is_told(void **state)
{
    struct fixture *f = *state;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    assert_atl_ok(cli_table("[{\"vmid\":100,\"name\":\"web\",\"tags\":\"long text here\"}]",
                            &(struct cli_table_options){.width = 12}, &text, &f->err),
                  &f->err);
    assert_string_equal(text.data, "vmid  name\n 100  web\n(1 more columns: --output json)\n");
}

static void text_that_is_too_wide_is_shown_as_far_as_there_is_room(void **state)
{
    struct fixture *f = *state;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    const char *json =
        "[{\"vmid\":100,\"status\":\"sch\u00f6n\u00e9r lang\",\"tags\":\"x\"},{\"vmid\":7,"
        "\"status\":\"a\u00f6\u00f6\u00f6\u00f6\u00f6\u00f6\u00f6\u00f6\u00f6\u00f6 more than fits\"}]";
    assert_atl_ok(cli_table(json, &(struct cli_table_options){.width = 18}, &text, &f->err), &f->err);
    assert_string_equal(text.data, "vmid  status\n 100  sch\u00f6n\u00e9r lang\n   7  "
                                   "a\u00f6\u00f6\u00f6\u00f6\u00f6\u00f6\u00f6\u00f6...\n"
                                   "(1 more columns: --output json)\n");
}

static void escapes_in_names_do_not_reach_the_terminal(void **state)
{
    struct fixture *f = *state;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    assert_atl_ok(
        cli_table("{\"name\":\"a\\u001b[31mb\\n\"}", &(struct cli_table_options){0}, &text, &f->err),
        &f->err);
    assert_string_equal(text.data, "name  a [31mb \n");
}

static void times_and_spans_are_shown_as_people_read_them(void **state)
{
    struct fixture *f = *state;
    const struct cli_table_options zone = {.zone_offset_seconds = 3600};
    static const struct {
        const char *json;
        const char *text;
    } cases[] = {
        {"{\"starttime\":0}", "starttime  0\n"},
        {"{\"starttime\":951782400}", "starttime  2000-02-29 01:00:00\n"},
        {"{\"starttime\":1735685999}", "starttime  2024-12-31 23:59:59\n"},
        {"{\"starttime\":4107538800}", "starttime  2100-03-01 00:00:00\n"}, /* no leap year */
        {"{\"uptime\":90061}", "uptime  1d 01:01:01\n"},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        ATL_BUF_AT_EXIT struct atl_buf text = {0};
        assert_atl_ok(cli_table(cases[i].json, &zone, &text, &f->err), &f->err);
        assert_string_equal(text.data, cases[i].text);
    }
}

static void exit_codes_tell_classes_of_failure_apart(void **state)
{
    (void)state;
    assert_int_equal(cli_exit_code(ATL_OK), 0);
    assert_int_equal(cli_exit_code(ATL_E_INVALID), 2);
    assert_int_equal(cli_exit_code(ATL_E_UNAVAILABLE), 3);
    assert_int_equal(cli_exit_code(ATL_E_DENIED), 4);
    assert_int_equal(cli_exit_code(ATL_E_ABSENT), 5);
    assert_int_equal(cli_exit_code(ATL_E_CONFLICT), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_is_named_by_its_id_alone),
        cmocka_unit_test(options_may_be_spelled_with_hyphens_or_underscores),
        cmocka_unit_test(a_verb_of_two_words_may_stand_so_and_half_of_it_tells_the_rest),
        cmocka_unit_test(vm_and_ct_are_short_forms),
        cmocka_unit_test(a_verb_does_not_repeat_its_noun),
        cmocka_unit_test(options_become_parameters_and_flags_need_no_value),
        cmocka_unit_test(an_unknown_option_names_itself_and_where_help_is),
        cmocka_unit_test(a_missing_id_is_asked_for),
        cmocka_unit_test(a_secret_on_the_command_line_is_refused),
        cmocka_unit_test(api_finds_methods_by_path_and_a_fixed_segment_wins),
        cmocka_unit_test(a_volume_id_with_slashes_is_one_path_value),
        cmocka_unit_test(joining_names_where_to_and_may_show_its_token),
        cmocka_unit_test(every_command_has_a_unique_name_and_help_that_shows_its_summary),
        cmocka_unit_test(every_noun_has_a_summary),
        cmocka_unit_test(help_has_three_levels),
        cmocka_unit_test(completion_offers_nouns_verbs_options_and_values),
        cmocka_unit_test(a_list_is_a_table_with_names_first_and_numbers_at_the_right),
        cmocka_unit_test(a_narrow_terminal_gets_fewer_columns_and_is_told),
        cmocka_unit_test(text_that_is_too_wide_is_shown_as_far_as_there_is_room),
        cmocka_unit_test(escapes_in_names_do_not_reach_the_terminal),
        cmocka_unit_test(times_and_spans_are_shown_as_people_read_them),
        cmocka_unit_test(exit_codes_tell_classes_of_failure_apart),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
