/* Errors as plain values: a code out of one closed list, the parameter at fault, one sentence. */
#ifndef ATL_PURE_ERROR_H
#define ATL_PURE_ERROR_H

#include "pure/base.h"

/* The canonical codes of gRPC, under our names; their numbers travel on the bus. */
enum atl_code {
    ATL_OK = 0,
    ATL_E_CANCELLED = 1,
    ATL_E_UNKNOWN = 2,
    ATL_E_INVALID = 3,   /* a parameter is wrong; field or errors name it */
    ATL_E_DEADLINE = 4,  /* the time of the call ran out */
    ATL_E_ABSENT = 5,    /* no such thing */
    ATL_E_EXISTS = 6,    /* it is there already */
    ATL_E_DENIED = 7,    /* the principal may not */
    ATL_E_LIMIT = 8,     /* a bound of ours or of the machine is reached */
    ATL_E_STATE = 9,     /* not possible in the state the thing is in */
    ATL_E_CONFLICT = 10, /* somebody else changed it meanwhile, or holds its lock */
    ATL_E_RANGE = 11,
    ATL_E_UNIMPLEMENTED = 12,
    ATL_E_INTERNAL = 13,
    ATL_E_UNAVAILABLE = 14,     /* the other side is not there, or its queue is full */
    ATL_E_IO = 15,              /* disk or engine failed */
    ATL_E_UNAUTHENTICATED = 16, /* no valid ticket, token or assertion */
    ATL_CODES = 17,
};

enum { ATL_FIELD_MAX = 64, ATL_TEXT_MAX = 512 };

struct atl_error {
    enum atl_code code;
    char field[ATL_FIELD_MAX]; /* external name of the parameter at fault, or empty */
    char text[ATL_TEXT_MAX];   /* one sentence, no newline, no final stop needed */
};

/*
 * Fills *err (which may be NULL) and returns code, so that callers write `return atl_fail(...)`.
 * field may be NULL. Text that is too long is cut; control bytes become '?'.
 */
ATL_PRINTF(4, 5)
enum atl_code atl_fail(struct atl_error *err, enum atl_code code, const char *field, const char *format, ...);

/* The stable word for a code ("INVALID_ARGUMENT"), as gRPC names it. */
const char *atl_code_to_text(enum atl_code code);

/* Errors of several parameters at once; a bounded list, further ones are counted only. */
enum { ATL_ERRORS_MAX = 64 };
struct atl_errors {
    size_t count;   /* entries used in items */
    size_t dropped; /* further errors that found no room */
    struct {
        char field[ATL_FIELD_MAX];
        char text[192];
    } items[ATL_ERRORS_MAX];
};

/* Adds one parameter's error; the first error of a parameter stays. errors may be NULL. */
ATL_PRINTF(3, 4) void atl_errors_add(struct atl_errors *errors, const char *field, const char *format, ...);

#endif
