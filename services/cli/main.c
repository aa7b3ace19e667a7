/* atoll: the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "core/cli_words.h"

static const char completion_script[] =
    "_atoll() {\n"
    "    local IFS=$'\\n'\n"
    "    COMPREPLY=($(atoll __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))\n"
    "}\n"
    "complete -o default -F _atoll atoll\n";

static int fail(const struct atl_error *err, const struct atl_errors *errors)
{
    (void)fprintf(stderr, "atoll: %s\n", err->text);
    for (size_t i = 0; i < errors->count; i++)
        (void)fprintf(stderr, "  %s: %s\n", errors->items[i].field, errors->items[i].text);
    return cli_exit_code(err->code);
}

static size_t terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 0;
}

static enum atl_code print_answer(const struct cli_args *args, const char *json, struct atl_error *err)
{
    bool table =
        args->output == CLI_OUTPUT_TABLE || (args->output == CLI_OUTPUT_AUTO && isatty(STDOUT_FILENO));
    if (!table)
        return puts(json) == EOF ? atl_fail(err, ATL_E_IO, NULL, "cannot write the answer") : ATL_OK;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    time_t now = time(NULL);
    struct tm local;
    const struct cli_table_options options = {.width = terminal_width(),
                                              .zone_offset_seconds =
                                                  localtime_r(&now, &local) != NULL ? local.tm_gmtoff : 0};
    enum atl_code code = cli_table(json, &options, &text, err);
    if (code == ATL_OK && text.data != NULL && fputs(text.data, stdout) == EOF)
        code = atl_fail(err, ATL_E_IO, NULL, "cannot write the answer");
    return code;
}

/* The UPID in a task's answer, which is one JSON string. */
static char *upid_of(struct atl_arena *arena, const char *json)
{
    size_t length = strlen(json);
    if (length < 2 || json[0] != '"')
        return NULL;
    return atl_arena_strndup(arena, json + 1, length - 2);
}

static int run(struct cli_args *args, const struct cli_transport *transport, struct atl_arena *arena)
{
    struct atl_error err = {0};
    struct atl_errors errors = {0};
    ATL_BUF_AT_EXIT struct atl_buf json = {0};
    enum atl_code code = cli_secrets_read(args, arena, &err);
    if (code == ATL_OK)
        code = cli_node_add(args, transport, arena, &err);
    if (code == ATL_OK)
        code = transport->call(transport->self, args->command->rpc, args->params, args->count, &json, &errors,
                               &err);
    char *upid =
        code == ATL_OK && (args->command->rpc->flags & ATL_R_TASK) ? upid_of(arena, json.data) : NULL;
    if (upid != NULL && !args->no_follow)
        code = cli_task_follow(transport, upid, &err);
    else if (code == ATL_OK)
        code = print_answer(args, json.data, &err);
    return code == ATL_OK ? 0 : fail(&err, &errors);
}

static int start(struct cli_args *args, struct atl_arena *arena)
{
    struct atl_error err = {0};
    struct atl_errors none = {0};
    struct cli_transport transport = {0};
    if (args->host == NULL)
        args->host = getenv("ATOLL_HOST");
    if (args->run_dir == NULL)
        args->run_dir = getenv("ATOLL_RUN_DIR") != NULL ? getenv("ATOLL_RUN_DIR") : "/run/atoll";
    if (args->state_dir == NULL)
        args->state_dir = getenv("ATOLL_STATE_DIR");
    enum atl_code code =
        args->host != NULL ? cli_remote_open(args, &transport, &err) : cli_local_open(args, &transport, &err);
    if (code != ATL_OK)
        return fail(&err, &none);
    int exit_code = run(args, &transport, arena);
    transport.close(transport.self);
    return exit_code;
}

static bool write_text(const char *path, const struct atl_buf *page)
{
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return false;
    bool written = fputs(page->data, file) != EOF;
    return fclose(file) == 0 && written;
}

/* One page into FOLDER/NAME.1. */
static bool write_page(const struct cli_commands *commands, const char *folder, const char *noun)
{
    ATL_BUF_AT_EXIT struct atl_buf page = {0};
    ATL_FREE_AT_EXIT char *path =
        noun != NULL ? atl_format("%s/atoll-%s.1", folder, noun) : atl_format("%s/atoll.1", folder);
    cli_man(commands, noun, ATL_VERSION, &page);
    return write_text(path, &page);
}

/* The page of a program that is a link to this one. */
static bool write_words_page(const char *folder, const char *program)
{
    ATL_BUF_AT_EXIT struct atl_buf page = {0};
    ATL_FREE_AT_EXIT char *path = atl_format("%s/%s.1", folder, program);
    cli_words_man(program, ATL_VERSION, &page);
    return write_text(path, &page);
}

/* atoll completion man FOLDER: all manual pages; used when Atoll is built. */
static int write_pages(const struct cli_commands *commands, const char *folder)
{
    bool written = write_page(commands, folder, NULL);
    for (size_t i = 0; i < commands->count && written; i++)
        if (i == 0 || strcmp(commands->items[i].noun, commands->items[i - 1].noun) != 0)
            written = write_page(commands, folder, commands->items[i].noun);
    const char *program = NULL;
    for (size_t i = 0; written && (program = cli_words_program(i)) != NULL; i++)
        written = write_words_page(folder, program);
    if (written)
        return 0;
    (void)fprintf(stderr, "atoll: cannot write manual pages to '%s'\n", folder);
    return 1;
}

int main(int argc, char **argv)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    struct cli_commands commands;
    cli_commands_list(atl_contract, &arena, &commands);
    if (argc >= 2 && strcmp(argv[1], "__complete") == 0) {
        cli_complete(&commands, (const char *const *)argv + 2, (size_t)argc - 2, &text);
        return fputs(text.data != NULL ? text.data : "", stdout) == EOF;
    }
    if (argc == 3 && strcmp(argv[1], "completion") == 0 && strcmp(argv[2], "bash") == 0)
        return fputs(completion_script, stdout) == EOF;
    if (argc == 4 && strcmp(argv[1], "completion") == 0 && strcmp(argv[2], "man") == 0)
        return write_pages(&commands, argv[3]);
    struct cli_args *args = atl_arena_new(&arena, struct cli_args);
    struct atl_error err = {0};
    struct atl_errors none = {0};
    struct cli_words words;
    if (cli_words_take(argc, (const char *const *)argv, &arena, &words, &err) != ATL_OK ||
        cli_args_parse(&commands, words.argc, words.argv, &arena, args, &err) != ATL_OK)
        return fail(&err, &none);
    if (args->version)
        return puts("atoll " ATL_VERSION) == EOF;
    if (args->help || args->command == NULL) {
        cli_help(&commands, args->noun, args->command, &text);
        return fputs(text.data, stdout) == EOF;
    }
    return start(args, &arena);
}
