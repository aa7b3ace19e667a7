/* Multipart bodies: whole and in pieces, the same comes out. */
#include <stdlib.h>
#include <string.h>

#include "core/multipart.h"
#include "pure/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void trace(const char *bytes, size_t size, size_t step, struct atl_buf *out)
{
    struct gw_multipart reader;
    if (gw_multipart_init(&reader, "multipart/form-data; boundary=B") != NULL)
        abort();
    for (size_t at = 0; at < size;) {
        size_t used = 0;
        size_t piece = size - at < step ? size - at : step;
        struct gw_part part = gw_multipart_next(&reader, bytes + at, piece, &used);
        atl_assert(used <= piece);
        at += used;
        if (part.kind == GW_PART_MORE)
            continue;
        if (part.kind != GW_PART_DATA)
            atl_buf_printf(out, "[%d]", (int)part.kind);
        if (part.kind == GW_PART_DATA || part.kind == GW_PART_FIELD)
            atl_buf_add(out, part.kind == GW_PART_DATA ? part.data : part.value, part.size);
        if (part.kind == GW_PART_FAULT)
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atl_buf whole = {0};
    struct atl_buf pieces = {0};
    trace((const char *)data, size, size + 1, &whole);
    trace((const char *)data, size, size > 0 ? 1U + data[0] % 7U : 1, &pieces);
    atl_assert(whole.length == pieces.length);
    atl_assert(whole.length == 0 || memcmp(whole.data, pieces.data, whole.length) == 0);
    atl_buf_done(&whole);
    atl_buf_done(&pieces);
    return 0;
}
