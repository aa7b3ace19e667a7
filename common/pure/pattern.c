/* Compiled patterns in a small open-addressed cache. */
#include "pure/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

enum {
    SLOTS = 1024, /* a power of two, twice what the contract uses */
    PROBES = 8,
    PATTERN_MAX = 4096,
    MATCH_LIMIT = 200000,
    DEPTH_LIMIT = 2000,
    HEAP_LIMIT_KIB = 4096,
};

static struct {
    struct {
        const char *pattern;
        pcre2_code *code; /* NULL: it does not compile */
    } slots[SLOTS];
    pcre2_match_data *match;
    pcre2_match_context *context;
} cache;

/* Perl writes (?^u: for "Unicode rules"; PCRE2 knows (?^: only, and our values need no more. */
static size_t to_pcre(const char *pattern, char *text)
{
    size_t length = 0;
    for (const char *at = pattern; *at != '\0' && length < PATTERN_MAX; at++) {
        text[length++] = *at;
        if (length >= 3 && memcmp(text + length - 3, "(?^", 3) == 0 && at[1] == 'u')
            at++;
    }
    return length;
}

static pcre2_code *compile(const char *pattern, size_t *ret_offset)
{
    char text[PATTERN_MAX];
    int code = 0;
    size_t offset = 0;
    size_t length = to_pcre(pattern, text);
    pcre2_code *compiled = NULL;
    if (length < PATTERN_MAX)
        compiled =
            pcre2_compile((PCRE2_SPTR)text, length, PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOLLAR_ENDONLY,
                          &code, &offset, NULL);
    if (ret_offset != NULL)
        *ret_offset = offset;
    return compiled;
}

static void prepare(void)
{
    if (cache.context != NULL)
        return;
    cache.match = pcre2_match_data_create(1, NULL);
    cache.context = pcre2_match_context_create(NULL);
    atl_assert(cache.match != NULL);
    atl_assert(cache.context != NULL);
    (void)pcre2_set_match_limit(cache.context, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(cache.context, DEPTH_LIMIT);
    (void)pcre2_set_heap_limit(cache.context, HEAP_LIMIT_KIB);
}

static const pcre2_code *compiled_pattern(const char *pattern)
{
    size_t home = (size_t)(((uintptr_t)pattern * UINT64_C(0x9e3779b97f4a7c15)) >> 40);
    size_t at = home % SLOTS;
    for (size_t i = 0; i < PROBES; i++) {
        at = (home + i) % SLOTS;
        if (cache.slots[at].pattern == pattern)
            return cache.slots[at].code;
        if (cache.slots[at].pattern == NULL)
            break;
    }
    pcre2_code_free(cache.slots[at].code); /* its place is taken: the last of the probed ones goes */
    cache.slots[at].pattern = pattern;
    cache.slots[at].code = compile(pattern, NULL);
    return cache.slots[at].code;
}

bool atl_pattern_matches(const char *pattern, const char *value, size_t length)
{
    prepare();
    const pcre2_code *code = compiled_pattern(pattern);
    if (code == NULL)
        return false;
    return pcre2_match(code, (PCRE2_SPTR)value, length, 0, 0, cache.match, cache.context) >= 0;
}

bool atl_pattern_check(const char *pattern, size_t *ret_offset)
{
    pcre2_code *code = compile(pattern, ret_offset);
    bool good = code != NULL;
    pcre2_code_free(code);
    return good;
}
