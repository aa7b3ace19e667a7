/* Patterns of the contract: Perl syntax, matched against the whole value, compiled once. */
#ifndef ATL_PURE_PATTERN_H
#define ATL_PURE_PATTERN_H

#include "pure/base.h"

/*
 * pattern  borrowed, must stay where it is: compiled patterns are kept under its address in a bounded cache
 * value    borrowed, `length` bytes, no NUL needed
 *
 * False when it does not match, when the match needs more steps than the limit, and when the pattern itself
 * does not compile (atl_pattern_check() tells that at test time). One thread only: the cache is not locked.
 */
bool atl_pattern_matches(const char *pattern, const char *value, size_t length);

/* Whether the pattern compiles; *ret_offset is where it does not. */
bool atl_pattern_check(const char *pattern, size_t *ret_offset);

#endif
