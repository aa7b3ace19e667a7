/*
 * Colon files, as user.cfg: one record a line, `kind:field:field:...:`. A small reader and writer; what the
 * fields mean is the caller's.
 */
#ifndef ATL_PURE_COLON_H
#define ATL_PURE_COLON_H

#include "pure/arena.h"
#include "pure/buf.h"

enum { ATL_COLON_MAX = 16 }; /* fields of one record */

struct atl_colon_record {
    const char *fields[ATL_COLON_MAX]; /* decoded; those behind count are "" */
    size_t count;                      /* without the empty one behind a final colon */
};

struct atl_colon_reader {
    const char *at; /* where the next line starts */
    const char *end;
};

/*
 * Splits the next line into at most ATL_COLON_MAX fields; the last one keeps further colons. %XX is decoded;
 * a bad escape, one that gives a NUL or a text that is not UTF-8 leaves the field as it was written. Blank
 * lines are passed over; comments (#) come as one field.
 *
 * reader      {text, text + length} at first
 * arena       the fields live there
 * ret_record  out, when true is returned
 *
 * False after the last line.
 */
bool atl_colon_next(struct atl_colon_reader *reader, struct atl_arena *arena,
                    struct atl_colon_record *ret_record);

/* Appends `field:field:...:` and a newline; `:`, `%` and control bytes in fields become %XX. A record of one
 * field that starts with # is written as it is. */
void atl_colon_write(struct atl_buf *out, const char *const *fields, size_t count);

#endif
