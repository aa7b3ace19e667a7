/* Error values. */
#include "pure/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[ATL_CODES] = {
    [ATL_OK] = "OK",
    [ATL_E_CANCELLED] = "CANCELLED",
    [ATL_E_UNKNOWN] = "UNKNOWN",
    [ATL_E_INVALID] = "INVALID_ARGUMENT",
    [ATL_E_DEADLINE] = "DEADLINE_EXCEEDED",
    [ATL_E_ABSENT] = "NOT_FOUND",
    [ATL_E_EXISTS] = "ALREADY_EXISTS",
    [ATL_E_DENIED] = "PERMISSION_DENIED",
    [ATL_E_LIMIT] = "RESOURCE_EXHAUSTED",
    [ATL_E_STATE] = "FAILED_PRECONDITION",
    [ATL_E_CONFLICT] = "ABORTED",
    [ATL_E_RANGE] = "OUT_OF_RANGE",
    [ATL_E_UNIMPLEMENTED] = "UNIMPLEMENTED",
    [ATL_E_INTERNAL] = "INTERNAL",
    [ATL_E_UNAVAILABLE] = "UNAVAILABLE",
    [ATL_E_IO] = "DATA_LOSS",
    [ATL_E_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

static void make_printable(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

enum atl_code atl_fail(struct atl_error *err, enum atl_code code, const char *field, const char *format, ...)
{
    atl_assert(code > ATL_OK);
    atl_assert(code < ATL_CODES);
    if (err == NULL)
        return code;
    struct atl_error made = {.code = code};
    if (field != NULL)
        (void)atl_copy(made.field, sizeof made.field, field);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(made.text, sizeof made.text, format, args);
    va_end(args);
    make_printable(made.text);
    *err = made; /* only now: format arguments may point into *err */
    return code;
}

const char *atl_code_to_text(enum atl_code code)
{
    if ((unsigned)code >= ATL_CODES)
        return "UNKNOWN";
    return code_names[code];
}

void atl_errors_add(struct atl_errors *errors, const char *field, const char *format, ...)
{
    if (errors == NULL)
        return;
    for (size_t i = 0; i < errors->count; i++)
        if (strncmp(errors->items[i].field, field, ATL_FIELD_MAX - 1) == 0)
            return;
    if (errors->count == ATL_ERRORS_MAX) {
        errors->dropped++;
        return;
    }
    (void)atl_copy(errors->items[errors->count].field, ATL_FIELD_MAX, field);
    char *text = errors->items[errors->count].text;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof errors->items[0].text, format, args);
    va_end(args);
    make_printable(text);
    errors->count++;
}
