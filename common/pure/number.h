/* Numbers, booleans and disk sizes as text, read strictly: the whole text or nothing. */
#ifndef ATL_PURE_NUMBER_H
#define ATL_PURE_NUMBER_H

#include "pure/base.h"

enum { ATL_NUMBER_MAX = 32 }; /* room for any text that is written here, with its NUL */

/* Decimal with an optional sign; false when it is anything else or does not fit. */
bool atl_int_from_text(const char *text, int64_t *ret_value);
bool atl_uint_from_text(const char *text, uint64_t *ret_value);

/* A finite decimal number, with fraction and exponent or without; no hexadecimal, no "inf", no "nan". */
bool atl_double_from_text(const char *text, double *ret_value);

/* 1 yes on true, 0 no off false, in any case of letters. */
bool atl_bool_from_text(const char *text, bool *ret_value);

/* Decimal; returns the length. */
size_t atl_uint_to_text(uint64_t value, char text[ATL_NUMBER_MAX]);

/* The shortest text of the usual kinds that reads back as the same value; returns its length. Not a number
 * and infinite become 0: JSON has no text for them. */
size_t atl_double_to_text(double value, char text[ATL_NUMBER_MAX]);

/* A disk size: "1073741824", "512M", "1.5T" (K M G T P, powers of 1024) as bytes, rounded down. */
bool atl_size_from_text(const char *text, uint64_t *ret_bytes);

/* With the greatest unit that divides it: 32G, 1536M, 528K, 1000. Returns the length. */
size_t atl_size_to_text(uint64_t bytes, char text[ATL_NUMBER_MAX]);

/* The value of a hexadecimal digit of either case, or -1. */
int atl_hex_value(char c);

#endif
