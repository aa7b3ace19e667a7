/* Commands as people know them from other tools. */
#include "core/cli_words.h"

#include <string.h>

enum { MORE_MAX = 4 };

static const struct word {
    const char *program;
    const char *said; /* words with a blank between */
    const char *noun;
    const char *verb;
    const char *more[MORE_MAX]; /* added at the end */
    const char *option;         /* what the word behind is with us; NULL: a word, too */
} table[] = {
    {"pvecm", "create", "cluster", "create", {NULL}, NULL},
    {"pvecm", "add", "cluster", "join-with-password", {"--password", "-"}, NULL},
    {"pvecm", "status", "cluster", "status", {NULL}, NULL},
    {"pvecm", "nodes", "cluster", "members", {NULL}, NULL},
    {"pvecm", "delnode", "cluster", "remove", {NULL}, NULL},
    {"pvecm", "expected", "cluster", "expected", {NULL}, "--expected"},
    {"pvecm", "qdevice setup", "cluster", "witness-add", {NULL}, NULL},
    {"pvecm", "qdevice remove", "cluster", "witness-remove", {NULL}, NULL},
    {"pvecm", "qdevice status", "cluster", "witness-status", {NULL}, NULL},
    {"pvecm", "apiver", "cluster", "api-version", {NULL}, NULL},
    {"ha-manager", "add", "ha", "add", {NULL}, NULL},
    {"ha-manager", "set", "ha", "set", {NULL}, NULL},
    {"ha-manager", "remove", "ha", "remove", {NULL}, NULL},
    {"ha-manager", "config", "ha", "config", {NULL}, NULL},
    {"ha-manager", "status", "ha", "status", {NULL}, NULL},
    {"ha-manager", "migrate", "ha", "migrate", {NULL}, NULL},
    {"ha-manager", "relocate", "ha", "relocate", {NULL}, NULL},
    {"ha-manager", "rules add", "ha", "rules-add", {NULL}, NULL},
    {"ha-manager", "rules set", "ha", "rules-set", {NULL}, NULL},
    {"ha-manager", "rules remove", "ha", "rules-remove", {NULL}, NULL},
    {"ha-manager", "rules config", "ha", "rules-config", {NULL}, NULL},
    {"ha-manager", "rules list", "ha", "rules-config", {NULL}, NULL},
    {"ha-manager", "groupadd", "ha", "groups-add", {NULL}, NULL},
    {"ha-manager", "groupset", "ha", "groups-set", {NULL}, NULL},
    {"ha-manager", "groupremove", "ha", "groups-remove", {NULL}, NULL},
    {"ha-manager", "groupconfig", "ha", "groups-config", {NULL}, NULL},
    {"ha-manager", "crm-command migrate", "ha", "migrate", {NULL}, NULL},
    {"ha-manager", "crm-command relocate", "ha", "relocate", {NULL}, NULL},
    {"ha-manager", "crm-command stop", "ha", "stop", {NULL}, NULL},
    {"ha-manager", "crm-command arm-ha", "ha", "arm", {NULL}, NULL},
    {"ha-manager", "crm-command disarm-ha", "ha", "disarm", {NULL}, "--resource-mode"},
    {"ha-manager", "crm-command node-maintenance enable", "ha", "maintenance-enable", {NULL}, NULL},
    {"ha-manager", "crm-command node-maintenance disable", "ha", "maintenance-disable", {NULL}, NULL},
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* How many words at argv[1] are those of the table; 0: they are others. */
static int match(const struct word *word, int argc, const char *const *argv)
{
    int count = 0;
    for (const char *at = word->said; *at != '\0'; count++) {
        size_t length = strcspn(at, " ");
        const char *given = count + 1 < argc ? argv[count + 1] : "";
        if (strlen(given) != length || strncmp(given, at, length) != 0)
            return 0;
        at += length;
        at += *at == ' ';
    }
    return count;
}

static void rewrite(const struct word *word, int argc, const char *const *argv, struct atl_arena *arena,
                    struct cli_words *words)
{
    const char **made = atl_arena_array(arena, const char *, (size_t)argc + 3 + MORE_MAX);
    int count = 0;
    made[count++] = argv[0];
    made[count++] = word->noun;
    made[count++] = word->verb;
    int rest = 1 + match(word, argc, argv);
    if (word->option != NULL && argc > rest && argv[rest][0] != '-')
        made[count++] = word->option;
    for (int i = rest; i < argc; i++)
        made[count++] = argv[i];
    for (size_t i = 0; i < MORE_MAX && word->more[i] != NULL; i++)
        made[count++] = word->more[i];
    *words = (struct cli_words){.argv = made, .argc = count};
}

static enum atl_code refuse(const char *program, struct atl_error *err)
{
    struct atl_buf list ATL_BUF_AT_EXIT = {0};
    for (size_t i = 0; i < ATL_COUNT(table); i++) {
        if (strcmp(table[i].program, program) != 0)
            continue;
        if (list.length > 0)
            atl_buf_text(&list, ", ");
        atl_buf_text(&list, table[i].said);
    }
    return atl_fail(err, ATL_E_INVALID, NULL, "%s has these commands: %s; atoll --help lists all there is",
                    program, list.data);
}

enum atl_code cli_words_take(int argc, const char *const *argv, struct atl_arena *arena,
                             struct cli_words *ret_words, struct atl_error *err)
{
    const char *program = argc > 0 ? base_name(argv[0]) : "";
    bool known = false;
    for (size_t i = 0; i < ATL_COUNT(table); i++) {
        if (strcmp(table[i].program, program) != 0)
            continue;
        known = true;
        if (match(&table[i], argc, argv) > 0) {
            rewrite(&table[i], argc, argv, arena, ret_words);
            return ATL_OK;
        }
    }
    *ret_words = (struct cli_words){.argv = argv, .argc = argc};
    return known ? refuse(program, err) : ATL_OK;
}

const char *cli_words_program(size_t i)
{
    size_t seen = 0;
    for (size_t k = 0; k < ATL_COUNT(table); k++) {
        bool first = k == 0 || strcmp(table[k].program, table[k - 1].program) != 0;
        if (first && seen++ == i)
            return table[k].program;
    }
    return NULL;
}

void cli_words_man(const char *program, const char *version, struct atl_buf *out)
{
    atl_buf_printf(
        out,
        ".TH %s 1 \"\" \"Atoll %s\"\n.SH NAME\n%s \\- commands of atoll under the words of another "
        "tool\n.SH DESCRIPTION\nA link to \\fBatoll\\fR(1). Options and arguments are those of the "
        "command on the right.\n.nf\n",
        program, version, program);
    for (size_t i = 0; i < ATL_COUNT(table); i++) {
        const struct word *word = &table[i];
        if (strcmp(word->program, program) != 0)
            continue;
        atl_buf_printf(out, "%s %s\tatoll %s %s", program, word->said, word->noun, word->verb);
        for (size_t k = 0; k < MORE_MAX && word->more[k] != NULL; k++)
            atl_buf_printf(out, " %s",
                           word->more[k][0] == '-' && word->more[k][1] == '-' ? word->more[k] : "\\-");
        atl_buf_char(out, '\n');
    }
    atl_buf_text(out, ".fi\n.SH SEE ALSO\n.BR atoll (1),\n.BR atoll\\-cluster (1)\n");
}
