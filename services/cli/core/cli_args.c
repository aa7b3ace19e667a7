/* Reading the command line against the contract. */
#include "core/cli_core.h"

#include <string.h>

struct reader {
    const struct cli_commands *commands;
    struct atl_arena *arena;
    struct cli_args *args;
    struct atl_error *err;
    const char *const *argv;
    int argc;
    int at;
    const char *positional[CLI_POSITIONALS]; /* names of path parameters that still want a value */
    size_t positionals;
    size_t positional_at;
};

struct global {
    const char *name;
    size_t offset; /* of a const char * in cli_args; SIZE_MAX for those handled by hand */
};

static const struct global globals[] = {
    {"host", offsetof(struct cli_args, host)},
    {"cacert", offsetof(struct cli_args, cacert)},
    {"token-file", offsetof(struct cli_args, token_file)},
    {"run-dir", offsetof(struct cli_args, run_dir)},
    {"state-dir", offsetof(struct cli_args, state_dir)},
    {"node", offsetof(struct cli_args, node)},
    {"output", SIZE_MAX},
};

static enum atl_code read_output(struct reader *r, const char *value)
{
    if (strcmp(value, "json") == 0)
        r->args->output = CLI_OUTPUT_JSON;
    else if (strcmp(value, "table") == 0)
        r->args->output = CLI_OUTPUT_TABLE;
    else
        return atl_fail(r->err, ATL_E_INVALID, "output", "--output is json or table, not '%s'", value);
    return ATL_OK;
}

/* A flag without a value; true if the word was one. */
static bool read_flag(struct reader *r, const char *name)
{
    if (strcmp(name, "help") == 0 || strcmp(name, "h") == 0)
        r->args->help = true;
    else if (strcmp(name, "version") == 0 && r->args->noun == NULL)
        r->args->version = true;
    else if (strcmp(name, "no-follow") == 0)
        r->args->no_follow = true;
    else
        return false;
    return true;
}

/* Takes the value of option `name`: behind =, or the next word. */
static const char *take_value(struct reader *r, const char *inline_value)
{
    if (inline_value != NULL)
        return inline_value;
    if (r->at + 1 >= r->argc)
        return NULL;
    return r->argv[++r->at];
}

static const struct global *global_of(const struct reader *r, const char *name)
{
    const struct atl_field *field =
        r->args->command != NULL ? cli_command_field(r->args->command, name) : NULL;
    for (size_t i = 0; i < ATL_COUNT(globals); i++)
        if (strcmp(globals[i].name, name) == 0 && (field == NULL || strcmp(name, "node") == 0))
            return &globals[i];
    return NULL;
}

static enum atl_code add_param(struct reader *r, const char *name, const char *value)
{
    if (r->args->count == CLI_PARAMS_MAX)
        return atl_fail(r->err, ATL_E_LIMIT, name, "too many parameters");
    r->args->params[r->args->count++] = (struct atl_param){.name = name, .value = value};
    return ATL_OK;
}

/* Nobody has to know whether REST writes - or _ in a name: --max-restart is max_restart, too. */
static const struct atl_field *find_field(struct reader *r, const char **name)
{
    const struct atl_field *field = cli_command_field(r->args->command, *name);
    static const char marks[] = {'-', '_'};
    for (size_t i = 0; i < ATL_COUNT(marks) && field == NULL; i++) {
        char *other = atl_arena_strdup(r->arena, *name);
        for (char *at = other; *at != '\0'; at++)
            if (*at == marks[i])
                *at = marks[1 - i];
        field = cli_command_field(r->args->command, other);
        if (field != NULL)
            *name = other;
    }
    return field;
}

static enum atl_code read_parameter(struct reader *r, const char *name, const char *inline_value)
{
    const struct atl_field *field = find_field(r, &name);
    if (field == NULL)
        return atl_fail(r->err, ATL_E_INVALID, name, "unknown option --%s; see atoll %s %s --help", name,
                        r->args->command->noun, r->args->command->verb);
    bool next_is_option = r->at + 1 >= r->argc || strncmp(r->argv[r->at + 1], "--", 2) == 0;
    const char *value = inline_value;
    if (value == NULL && field->kind == ATL_KIND_BOOL && next_is_option)
        value = "1";
    if (value == NULL)
        value = take_value(r, NULL);
    if (value == NULL)
        return atl_fail(r->err, ATL_E_INVALID, name, "--%s needs a value", name);
    if ((field->flags & ATL_F_SECRET) && strcmp(value, "-") != 0 && value[0] != '@')
        return atl_fail(r->err, ATL_E_INVALID, name,
                        "--%s is a secret, which does not belong on a command line: give - to read it from "
                        "standard input, or @FILE",
                        name);
    return add_param(r, name, value);
}

static enum atl_code read_option(struct reader *r, const char *word)
{
    const char *equals = strchr(word, '=');
    const char *inline_value = equals != NULL ? equals + 1 : NULL;
    const char *name = equals != NULL ? atl_arena_strndup(r->arena, word, (size_t)(equals - word)) : word;
    if (equals == NULL && read_flag(r, name))
        return ATL_OK;
    const struct global *global = global_of(r, name);
    if (global != NULL) {
        const char *value = take_value(r, inline_value);
        if (value == NULL)
            return atl_fail(r->err, ATL_E_INVALID, name, "--%s needs a value", name);
        if (global->offset == SIZE_MAX)
            return read_output(r, value);
        *(const char **)(void *)((char *)r->args + global->offset) = value;
        return ATL_OK;
    }
    bool parameter =
        r->args->command != NULL && atl_message_field(r->args->command->rpc->input, name) != NULL;
    if (strcmp(name, "token") == 0 && !parameter)
        return atl_fail(
            r->err, ATL_E_INVALID, "token",
            "a token does not belong on a command line: set ATOLL_TOKEN, or use --token-file FILE");
    if (r->args->command == NULL)
        return atl_fail(r->err, ATL_E_INVALID, name, "unknown option --%s; see atoll --help", name);
    return read_parameter(r, name, inline_value);
}

/* The node is the one we are on, unless it is what is to be deleted, or one of the things of the cluster. */
static bool is_understood(const struct atl_rpc *rpc, const char *path, const char *name, size_t length,
                          const char *rest)
{
    static const char own[] = "/nodes/{node}";
    return length == 4 && strncmp(name, "node", 4) == 0 && strncmp(path, own, strlen(own)) == 0 &&
           (rpc->verb != ATL_DELETE || rest[0] != '\0');
}

static bool needs(const struct atl_rpc *rpc, const char *name)
{
    const struct atl_field *field = atl_message_field(rpc->input, name);
    return field != NULL && (field->flags & ATL_F_REQUIRED);
}

size_t cli_positionals(const struct atl_rpc *rpc, struct atl_arena *arena, const char *names[CLI_POSITIONALS])
{
    /* What is made, or where to, or how, is named in parameters and not in the path: they may stand without
     * their names. */
    static const char *const more[] = {"vmid", "clustername", "hostname", "address", "sid",          "group",
                                       "rule", "poolid",      "userid",   "storage", "resource-mode"};
    const char *path = rpc->path != NULL ? rpc->path : "";
    size_t count = 0;
    for (const char *at = path; (at = strchr(at, '{')) != NULL;) {
        const char *name = at + 1;
        size_t length = strcspn(name, "}");
        at = name + length + 1;
        if (!is_understood(rpc, path, name, length, at) && count < CLI_POSITIONALS)
            names[count++] = atl_arena_strndup(arena, name, length);
    }
    if (count > 0) { /* where a thing of the cluster is to go */
        if (strstr(path, "{node}") == NULL && needs(rpc, "node") && count < CLI_POSITIONALS)
            names[count++] = "node";
        return count;
    }
    if (needs(rpc, "rule") && needs(rpc, "type"))
        names[count++] = "type"; /* "rules add node-affinity NAME" */
    for (size_t i = 0; i < ATL_COUNT(more) && count < CLI_POSITIONALS; i++)
        if (needs(rpc, more[i]))
            names[count++] = more[i];
    return count;
}

static enum atl_code read_api(struct reader *r, const char *word)
{
    if (r->args->verb == NULL) {
        r->args->verb = word;
        return ATL_OK;
    }
    if (r->args->command != NULL)
        return atl_fail(r->err, ATL_E_INVALID, NULL, "'%s' is one word too many", word);
    r->args->command =
        cli_commands_match(r->commands, r->args->verb, word, r->arena, r->args->params, &r->args->count);
    if (r->args->command == NULL)
        return atl_fail(r->err, ATL_E_ABSENT, NULL, "there is no method '%s' of the path %s", r->args->verb,
                        word);
    return ATL_OK;
}

/* What is done to a node may name it without --node: "atoll node drain n2". */
static bool takes_node(const struct cli_args *args)
{
    return args->node == NULL && strcmp(args->noun, "node") == 0 &&
           atl_message_field(args->command->rpc->input, "node") != NULL;
}

/* "witness add" for the verb witness-add: a verb that there is not takes the next word along. */
static const struct cli_command *find_verb(struct reader *r, const char *word)
{
    const struct cli_command *command = cli_commands_find(r->commands, r->args->noun, word);
    if (command != NULL || r->at + 1 >= r->argc)
        return command;
    const char *both = atl_arena_format(r->arena, "%s-%s", word, r->argv[r->at + 1]);
    command = cli_commands_find(r->commands, r->args->noun, both);
    if (command != NULL)
        r->at++;
    return command;
}

/* "atoll ha rules": which verbs begin so. */
static enum atl_code no_such_verb(struct reader *r, const char *word)
{
    const char *noun = cli_commands_find(r->commands, r->args->noun, NULL)->noun; /* qemu for vm */
    size_t length = strlen(word);
    struct atl_buf more ATL_BUF_AT_EXIT = {0};
    for (size_t i = 0; i < r->commands->count; i++) {
        const struct cli_command *command = &r->commands->items[i];
        if (strcmp(command->noun, noun) == 0 && strncmp(command->verb, word, length) == 0 &&
            command->verb[length] == '-')
            atl_buf_printf(&more, "%s%s", more.length > 0 ? ", " : "", command->verb + length + 1);
    }
    if (more.length > 0)
        return atl_fail(r->err, ATL_E_INVALID, NULL, "after 'atoll %s %s' comes one of: %s", r->args->noun,
                        word, more.data);
    return atl_fail(r->err, ATL_E_INVALID, NULL, "there is no 'atoll %s %s'; see atoll %s --help",
                    r->args->noun, word, r->args->noun);
}

static enum atl_code read_word(struct reader *r, const char *word)
{
    struct cli_args *args = r->args;
    if (args->noun == NULL) {
        args->noun = word;
        if (strcmp(word, "api") != 0 && strcmp(word, "help") != 0 &&
            cli_commands_find(r->commands, word, NULL) == NULL)
            return atl_fail(r->err, ATL_E_INVALID, NULL, "there is no '%s'; atoll --help lists what there is",
                            word);
        return ATL_OK;
    }
    if (strcmp(args->noun, "api") == 0)
        return read_api(r, word);
    if (args->verb == NULL) {
        args->verb = word;
        args->command = find_verb(r, word);
        if (args->command == NULL)
            return no_such_verb(r, word);
        r->positionals = cli_positionals(r->args->command->rpc, r->arena, r->positional);
        return ATL_OK;
    }
    if (r->positional_at == r->positionals && takes_node(args)) {
        args->node = word;
        return ATL_OK;
    }
    if (r->positional_at == r->positionals)
        return atl_fail(r->err, ATL_E_INVALID, NULL, "'%s' is one word too many; options begin with --",
                        word);
    return add_param(r, r->positional[r->positional_at++], word);
}

static bool was_given(const struct cli_args *args, const char *name)
{
    for (size_t i = 0; i < args->count; i++)
        if (strcmp(args->params[i].name, name) == 0)
            return true;
    return false;
}

static enum atl_code check_complete(struct reader *r)
{
    struct cli_args *args = r->args;
    if (args->help || args->version || args->noun == NULL)
        return ATL_OK;
    if (args->command == NULL)
        return atl_fail(r->err, ATL_E_INVALID, NULL, "what should be done? See atoll %s --help", args->noun);
    for (size_t i = r->positional_at; i < r->positionals; i++)
        if (!was_given(args, r->positional[i]))
            return atl_fail(r->err, ATL_E_INVALID, r->positional[i], "%s is missing; see atoll %s %s --help",
                            r->positional[i], args->command->noun, args->command->verb);
    return ATL_OK;
}

enum atl_code cli_args_parse(const struct cli_commands *commands, int argc, const char *const *argv,
                             struct atl_arena *arena, struct cli_args *ret_args, struct atl_error *err)
{
    *ret_args = (struct cli_args){0};
    struct reader r = {
        .commands = commands, .arena = arena, .args = ret_args, .err = err, .argv = argv, .argc = argc};
    for (r.at = 1; r.at < argc; r.at++) {
        const char *word = argv[r.at];
        enum atl_code code = ATL_OK;
        if (strncmp(word, "--", 2) == 0 && word[2] != '\0')
            code = read_option(&r, word + 2);
        else if (strcmp(word, "-h") == 0)
            ret_args->help = true;
        else
            code = read_word(&r, word);
        if (code != ATL_OK)
            return code;
    }
    return check_complete(&r);
}
