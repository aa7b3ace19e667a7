/* Help and completion, out of the contract. */
#include "core/cli_core.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *noun;
    const char *summary;
} nouns[] = {
    {"access", "users, tokens, roles and permissions (also: user)"},
    {"agent", "what the host is about to do, for root at this machine"},
    {"cluster", "nodes, resources and tasks of the whole cluster"},
    {"identity", "passwords, for root at this machine"},
    {"leases", "addresses that DHCP has given out, for root at this machine"},
    {"lxc", "containers (also: ct)"},
    {"network", "network interfaces of a node"},
    {"node", "load, time and version of a node"},
    {"ha", "guests under high availability, rules, nodes in maintenance"},
    {"pool", "pools of guests and storages"},
    {"qemu", "virtual machines (also: vm)"},
    {"storage", "storages and their volumes"},
    {"store", "files of the configuration tree, for root at this machine"},
    {"task", "work that is running or was done"},
};

static const char global_help[] =
    "\n"
    "Options for every command:\n"
    "  --host URL         talk to https://URL:8006 instead of this machine (ATOLL_HOST)\n"
    "  --token-file FILE  file with USER@REALM!NAME=SECRET, for --host (or ATOLL_TOKEN)\n"
    "  --cacert FILE      certificate authority to trust, for --host (ATOLL_CACERT)\n"
    "  --node NAME        node that is meant\n"
    "  --output FORM      table or json; without it a table on a terminal, json in a pipe\n"
    "  --no-follow        print the id of a task and do not wait for it\n"
    "  --help             help on whatever stands before it\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong parameters or not built, 3 not reachable, 4 not allowed, 5 no "
    "such thing\n";

const char *cli_noun_summary(const char *noun)
{
    for (size_t i = 0; i < ATL_COUNT(nouns); i++)
        if (strcmp(nouns[i].noun, noun) == 0)
            return nouns[i].summary;
    return "";
}

static void help_all(const struct cli_commands *commands, struct atl_buf *out)
{
    atl_buf_text(out, "atoll - manages virtual machines and containers on Linux hosts\n\n"
                      "usage: atoll NOUN VERB [ARGUMENTS] [--option value ...]\n"
                      "       atoll api get|create|set|delete PATH [--parameter value ...]\n\nNouns:\n");
    const char *previous = "";
    for (size_t i = 0; i < commands->count; i++) {
        if (strcmp(commands->items[i].noun, previous) == 0)
            continue;
        previous = commands->items[i].noun;
        atl_buf_printf(out, "  %-18s %s\n", previous, cli_noun_summary(previous));
    }
    atl_buf_printf(out, "  %-18s %s\n", "api", "any method by its path, as REST has it");
    atl_buf_text(out, global_help);
}

static void help_noun(const struct cli_commands *commands, const char *noun, struct atl_buf *out)
{
    const struct cli_command *first = cli_commands_find(commands, noun, NULL);
    if (first == NULL) {
        atl_buf_text(out, "usage: atoll api get|create|set|delete PATH [--parameter value ...]\n\n"
                          "PATH is that of the REST API, as /nodes/NODE/qemu/100/config.\n");
        atl_buf_text(out, global_help);
        return;
    }
    atl_buf_printf(out, "usage: atoll %s VERB [ARGUMENTS] [--option value ...]\n\nVerbs:\n", first->noun);
    for (size_t i = 0; i < commands->count; i++)
        if (strcmp(commands->items[i].noun, first->noun) == 0)
            atl_buf_printf(out, "  %-30s %s\n", commands->items[i].verb,
                           commands->items[i].rpc->summary != NULL ? commands->items[i].rpc->summary : "");
    atl_buf_printf(out, "\natoll %s VERB --help tells the options of one.\n", first->noun);
}

static const char *kind_text(const struct atl_field *field)
{
    static const char *const names[] = {[ATL_KIND_BOOL] = "0|1",
                                        [ATL_KIND_INT] = "NUMBER",
                                        [ATL_KIND_UINT] = "NUMBER",
                                        [ATL_KIND_DOUBLE] = "NUMBER",
                                        [ATL_KIND_STRING] = "TEXT",
                                        [ATL_KIND_BYTES] = "TEXT",
                                        [ATL_KIND_MESSAGE] = "KEY=VALUE,..."};
    return names[field->kind];
}

static void help_limits(const struct atl_field *field, struct atl_buf *out)
{
    if (field->flags & ATL_F_HAS_MIN)
        atl_buf_printf(out, " from %.15g", field->min);
    if (field->flags & ATL_F_HAS_MAX)
        atl_buf_printf(out, " to %.15g", field->max);
    for (const char *const *value = field->values; value != NULL && *value != NULL; value++)
        atl_buf_printf(out, "%s%s", value == field->values ? " one of " : ", ", *value);
    if (field->fallback != NULL)
        atl_buf_printf(out, " (default %s)", field->fallback);
    if (field->flags & ATL_F_SECRET)
        atl_buf_text(out, " (- for standard input, or @FILE)");
}

static void help_keys(const struct atl_message *property, struct atl_buf *out)
{
    atl_buf_text(out, "        keys:");
    for (uint32_t i = 0; i < property->count; i++) {
        const struct atl_field *key = &property->fields[i];
        atl_buf_printf(out, key->flags & ATL_F_DEFAULT_KEY ? " [%s=]..." : " %s=", key->name);
    }
    atl_buf_char(out, '\n');
}

static const struct atl_message *property_of(const struct atl_field *field)
{
    const struct atl_message *sub = field->sub;
    if (sub != NULL && sub->style == ATL_STYLE_SLOT)
        for (uint32_t i = 0; i < sub->count; i++)
            if (strcmp(sub->fields[i].name, "value") == 0)
                return sub->fields[i].sub;
    return sub;
}

static void help_field(const struct atl_field *field, struct atl_buf *out)
{
    if (field->flags & (ATL_F_PATH | ATL_F_UNBUILT))
        return;
    atl_buf_printf(out, "  --%s%s %s%s", field->name, field->flags & ATL_F_NUMBERED ? "N" : "",
                   kind_text(field), field->flags & ATL_F_REQUIRED ? " (required)" : "");
    help_limits(field, out);
    atl_buf_char(out, '\n');
    if (field->summary != NULL)
        atl_buf_printf(out, "        %s\n", field->summary);
    if (property_of(field) != NULL)
        help_keys(property_of(field), out);
}

static void help_fields(const struct atl_message *message, struct atl_buf *out)
{
    for (uint32_t i = 0; i < message->count; i++) {
        const struct atl_field *field = &message->fields[i];
        if (!(field->flags & ATL_F_INLINE)) {
            help_field(field, out);
            continue;
        }
        for (uint32_t j = 0; j < field->sub->count; j++) /* inlined messages do not nest */
            help_field(&field->sub->fields[j], out);
    }
}

static void help_positionals(const struct atl_rpc *rpc, struct atl_buf *out)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char *names[CLI_POSITIONALS];
    size_t count = cli_positionals(rpc, &arena, names);
    for (size_t i = 0; i < count; i++) {
        atl_buf_char(out, ' ');
        for (const char *at = names[i]; *at != '\0'; at++)
            atl_buf_char(out, (char)(*at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at));
    }
}

static void help_command(const struct cli_command *command, struct atl_buf *out)
{
    const struct atl_rpc *rpc = command->rpc;
    atl_buf_printf(out, "usage: atoll %s %s", command->noun, command->verb);
    help_positionals(rpc, out);
    atl_buf_text(out, " [--option value ...]\n\n");
    if (rpc->summary != NULL)
        atl_buf_printf(out, "%s\n\n", rpc->summary);
    if (rpc->input->count > 0)
        atl_buf_text(out, "Options:\n");
    help_fields(rpc->input, out);
    static const char *const verbs[] = {"get", "create", "set", "delete"};
    if (rpc->path != NULL)
        atl_buf_printf(out, "\nThe same as: atoll api %s %s\n", verbs[rpc->verb], rpc->path);
}

void cli_help(const struct cli_commands *commands, const char *noun, const struct cli_command *command,
              struct atl_buf *out)
{
    if (command != NULL)
        help_command(command, out);
    else if (noun != NULL && strcmp(noun, "help") != 0)
        help_noun(commands, noun, out);
    else
        help_all(commands, out);
}

/* --- completion --- */

static void offer(struct atl_buf *out, const char *word, const char *typed)
{
    if (strncmp(word, typed, strlen(typed)) == 0)
        atl_buf_printf(out, "%s\n", word);
}

static void offer_options(const struct cli_command *command, const char *typed, struct atl_buf *out)
{
    char option[ATL_FIELD_MAX + 8];
    const struct atl_message *input = command->rpc->input;
    for (uint32_t i = 0; i < input->count; i++) {
        const struct atl_message *from = input->fields[i].flags & ATL_F_INLINE ? input->fields[i].sub : NULL;
        for (uint32_t j = 0; j < (from != NULL ? from->count : 1); j++) {
            const struct atl_field *field = from != NULL ? &from->fields[j] : &input->fields[i];
            if (field->flags & (ATL_F_PATH | ATL_F_UNBUILT))
                continue;
            (void)snprintf(option, sizeof option, "--%s%s", field->name,
                           field->flags & ATL_F_NUMBERED ? "0" : "");
            offer(out, option, typed);
        }
    }
    static const char *const common[] = {"--help", "--host", "--node", "--output", "--no-follow"};
    for (size_t i = 0; i < ATL_COUNT(common); i++)
        offer(out, common[i], typed);
}

static void offer_values(const struct cli_command *command, const char *option, const char *typed,
                         struct atl_buf *out)
{
    const struct atl_field *field = cli_command_field(command, option + 2);
    for (const char *const *value = field != NULL ? field->values : NULL; value != NULL && *value != NULL;
         value++)
        offer(out, *value, typed);
}

void cli_complete(const struct cli_commands *commands, const char *const *words, size_t count,
                  struct atl_buf *out)
{
    const char *typed = count > 0 ? words[count - 1] : "";
    if (count <= 1) {
        const char *previous = "";
        for (size_t i = 0; i < commands->count; i++) {
            if (strcmp(commands->items[i].noun, previous) != 0)
                offer(out, commands->items[i].noun, typed);
            previous = commands->items[i].noun;
        }
        offer(out, "api", typed);
        return;
    }
    if (count == 2) {
        for (size_t i = 0; i < commands->count; i++)
            if (cli_commands_find(commands, words[0], NULL) != NULL &&
                strcmp(commands->items[i].noun, cli_commands_find(commands, words[0], NULL)->noun) == 0)
                offer(out, commands->items[i].verb, typed);
        return;
    }
    const struct cli_command *command = cli_commands_find(commands, words[0], words[1]);
    if (command == NULL)
        return;
    if (strncmp(words[count - 2], "--", 2) == 0 && strncmp(typed, "--", 2) != 0)
        offer_values(command, words[count - 2], typed, out);
    else
        offer_options(command, typed, out);
}
