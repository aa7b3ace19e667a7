/* UTF-8: validity and length of text from outside. */
#ifndef ATL_PURE_UTF8_H
#define ATL_PURE_UTF8_H

#include "pure/base.h"

/* Bytes of the well-formed character at text, which has `left` bytes: 1..4, or 0 if it is malformed (overlong
 * forms, surrogates and all above U+10FFFF are). */
size_t atl_utf8_step(const char *text, size_t left);

bool atl_utf8_valid(const char *text, size_t length);

/* Characters in text; each malformed byte counts as one. */
size_t atl_utf8_length(const char *text, size_t length);

#endif
