/*
 * Commands as people know them from other tools: the program's own name (a link to atoll) and its words, as
 * words of `atoll`. Pure: a table, no list of what there is.
 */
#ifndef CLI_WORDS_H
#define CLI_WORDS_H

#include "pure/arena.h"
#include "pure/buf.h"
#include "pure/error.h"

struct cli_words {
    const char *const *argv; /* as for atoll: argv[0], noun, verb and what follows; lives in the arena */
    int argc;
};

/*
 * argv: as main() got it. Under another name than those of the table nothing is changed.
 * Errors: ATL_E_INVALID the program has no such command; the text lists those it has.
 */
ATL_MUST_CHECK enum atl_code cli_words_take(int argc, const char *const *argv, struct atl_arena *arena,
                                            struct cli_words *ret_words, struct atl_error *err);

/* The i-th of the programs that are links to atoll; NULL: there are no more. */
const char *cli_words_program(size_t i);
/* Appends that program's manual page in roff. */
void cli_words_man(const char *program, const char *version, struct atl_buf *out);

#endif
