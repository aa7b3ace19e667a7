/*
 * What the command line decides without touching anything: which command is meant, what its parameters are,
 * what help and completion say, how an answer looks as a table. All from the contract; there is no list of
 * commands.
 */
#ifndef CLI_CORE_H
#define CLI_CORE_H

#include "pure/arena.h"
#include "pure/buf.h"
#include "pure/codec.h"
#include "pure/contract.h"
#include "pure/error.h"

/* One command: `atoll NOUN VERB POSITIONALS... --options`. */
struct cli_command {
    const struct atl_rpc *rpc;
    const char *noun; /* "qemu" */
    const char *verb; /* "start" */
};

struct cli_commands {
    struct cli_command *items; /* sorted by noun, then in the order of the protos */
    size_t count;
};

/* Every method that has a REST face, and those of the bus that list "cli" as a caller. */
void cli_commands_list(const struct atl_service *const *contract, struct atl_arena *arena,
                       struct cli_commands *ret_commands);

/* The command of that noun (or its short form: vm, ct) and verb, or NULL. */
const struct cli_command *cli_commands_find(const struct cli_commands *commands, const char *noun,
                                            const char *verb);

/* The command whose REST path and verb ("get", "create", "set", "delete") match; path values are added to
 * params. */
const struct cli_command *cli_commands_match(const struct cli_commands *commands, const char *verb,
                                             const char *path, struct atl_arena *arena,
                                             struct atl_param *params, size_t *count);

enum { CLI_PARAMS_MAX = 512, CLI_TEXT_MAX = 65536 };

enum { CLI_POSITIONALS = 16 };
/* The parameters of a method that may stand without their names, in the order in which they do; how many.
 * Names live in the arena or for ever. */
size_t cli_positionals(const struct atl_rpc *rpc, struct atl_arena *arena,
                       const char *names[CLI_POSITIONALS]);

enum cli_output { CLI_OUTPUT_AUTO, CLI_OUTPUT_TABLE, CLI_OUTPUT_JSON };

struct cli_args {
    /* global options */
    const char *host; /* https://HOST:8006, or NULL: local */
    const char *cacert;
    const char *token_file;
    const char *run_dir;
    const char *state_dir; /* NULL: the one beside run_dir */
    const char *node;
    enum cli_output output;
    bool no_follow;
    bool help;
    bool version;
    /* the command */
    const char *noun;
    const char *verb;
    const struct cli_command *command;
    struct atl_param params[CLI_PARAMS_MAX]; /* a secret's value is "-" or "@FILE" here */
    size_t count;
};

/*
 * Reads the command line. `node` of the path is an option; other path parameters are positional, in the
 * path's order. Options of a boolean need no value. Secrets are taken only as - (standard input) or @FILE.
 * Errors: ATL_E_INVALID with a sentence that says what to type.
 */
ATL_MUST_CHECK enum atl_code cli_args_parse(const struct cli_commands *commands, int argc,
                                            const char *const *argv, struct atl_arena *arena,
                                            struct cli_args *ret_args, struct atl_error *err);

/* The field a parameter of this command belongs to ("net0" -> net), or NULL. */
const struct atl_field *cli_command_field(const struct cli_command *command, const char *name);

/* Appends help for everything, for a noun, or for one command. */
void cli_help(const struct cli_commands *commands, const char *noun, const struct cli_command *command,
              struct atl_buf *out);

/* What a noun is about, in a few words; "" for one that is none. */
const char *cli_noun_summary(const char *noun);

/* Appends a manual page in roff: atoll(1), or atoll-NOUN(1) when a noun is given. */
void cli_man(const struct cli_commands *commands, const char *noun, const char *version, struct atl_buf *out);

/* Appends the words that may stand after `words`, a line each; the last of words is being typed. */
void cli_complete(const struct cli_commands *commands, const char *const *words, size_t count,
                  struct atl_buf *out);

struct cli_table_options {
    size_t width;                /* of the terminal, in columns; 0: no limit */
    int64_t zone_offset_seconds; /* of local time, added to times before they are shown */
};

/* Appends the JSON text of an answer's data as a table: lists as rows, objects as two columns, bare values as
 * a line. Sizes, spans and times are shown as people read them. Errors: ATL_E_INVALID not JSON. */
ATL_MUST_CHECK enum atl_code cli_table(const char *json, const struct cli_table_options *options,
                                       struct atl_buf *out, struct atl_error *err);

/* The exit code for an error, as the manual lists them. */
int cli_exit_code(enum atl_code code);

#endif
