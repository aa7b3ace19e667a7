/* What the codec's fuzzers share: the fixed point that every face must reach after one pass. */
#ifndef ATL_FUZZ_CODEC_H
#define ATL_FUZZ_CODEC_H

#include <stdlib.h>
#include <string.h>

#include "pure/codec.h"

/* Reads bytes and writes what it read; false when they are refused. */
typedef bool fuzz_face(const struct atl_message *table, const char *text, size_t length, struct atl_buf *out);

/* What was taken once must be taken again and must not change any more. */
static inline void fuzz_fixed_point(fuzz_face *face, const struct atl_message *table, const uint8_t *data,
                                    size_t size)
{
    struct atl_buf once = {0};
    struct atl_buf twice = {0};
    if (face(table, size == 0 ? "" : (const char *)data, size, &once)) {
        (void)atl_buf_reserve(&once, 0);
        bool taken = face(table, once.data, once.length, &twice);
        atl_assert(taken);
        atl_assert(once.length == twice.length);
        atl_assert(once.length == 0 || memcmp(once.data, twice.data, once.length) == 0);
    }
    atl_buf_done(&once);
    atl_buf_done(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
