/* Manual pages, out of the contract: atoll(1), and atoll-NOUN(1) with every command of a noun. */
#include "core/cli_core.h"

#include <string.h>

/* Text for roff: a backslash, and a point or quote at the beginning of a line, mean something there. */
static void add_text(const char *text, struct atl_buf *out)
{
    bool beginning = true;
    for (; *text != '\0'; text++) {
        if (beginning && (*text == '.' || *text == '\''))
            atl_buf_text(out, "\\&");
        if (*text == '\\')
            atl_buf_text(out, "\\e");
        else if (*text == '-')
            atl_buf_text(out, "\\-");
        else
            atl_buf_char(out, *text);
        beginning = *text == '\n';
    }
}

static void add_help(const struct cli_commands *commands, const char *noun, const struct cli_command *command,
                     struct atl_buf *out)
{
    ATL_BUF_AT_EXIT struct atl_buf help = {0};
    cli_help(commands, noun, command, &help);
    atl_buf_text(out, ".nf\n");
    add_text(help.data != NULL ? help.data : "", out);
    atl_buf_text(out, ".fi\n");
}

static void head(const char *page, const char *summary, const char *version, struct atl_buf *out)
{
    atl_buf_printf(out, ".TH %s 1 \"\" \"Atoll %s\" \"Atoll\"\n.SH NAME\n", page, version);
    add_text(page, out);
    atl_buf_text(out, " \\- ");
    add_text(summary, out);
    atl_buf_char(out, '\n');
}

static void page_of_noun(const struct cli_commands *commands, const char *noun, const char *version,
                         struct atl_buf *out)
{
    ATL_BUF_AT_EXIT struct atl_buf name = {0};
    atl_buf_printf(&name, "atoll-%s", noun);
    head(name.data, cli_noun_summary(noun), version, out);
    atl_buf_text(out, ".SH COMMANDS\n");
    for (size_t i = 0; i < commands->count; i++) {
        const struct cli_command *command = &commands->items[i];
        if (strcmp(command->noun, noun) != 0)
            continue;
        atl_buf_text(out, ".SS ");
        add_text(command->verb, out);
        atl_buf_char(out, '\n');
        add_help(commands, noun, command, out);
    }
    atl_buf_text(out, ".SH SEE ALSO\n.BR atoll (1)\n");
}

void cli_man(const struct cli_commands *commands, const char *noun, const char *version, struct atl_buf *out)
{
    if (noun != NULL) {
        page_of_noun(commands, noun, version, out);
        return;
    }
    head("atoll", "manages virtual machines and containers on Linux hosts", version, out);
    atl_buf_text(out, ".SH DESCRIPTION\n");
    add_help(commands, NULL, NULL, out);
    atl_buf_text(out, "Long work is a task: its log is shown as it grows, and the exit code is the task's.\n"
                      "Secrets are read from standard input\n(\\-)\nor from a file\n(@FILE),\n"
                      "never from the command line.\n.SH SEE ALSO\n");
    const char *previous = "";
    for (size_t i = 0; i < commands->count; i++) {
        if (strcmp(commands->items[i].noun, previous) != 0)
            atl_buf_printf(out, ".BR atoll\\-%s (1)\n", commands->items[i].noun);
        previous = commands->items[i].noun;
    }
}
