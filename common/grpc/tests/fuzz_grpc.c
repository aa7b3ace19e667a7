/* Bytes from a gRPC server: frames cut anywhere, statuses, percent signs. */
#include <string.h>

#include "grpc/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says how the rest is cut; all ways of cutting must give the same messages. */
static uint64_t read_all(const uint8_t *data, size_t size, size_t piece)
{
    struct atl_grpc_reader reader;
    uint64_t hash = 14695981039346656037U;
    atl_grpc_reader_init(&reader, 4096);
    for (size_t at = 0; at < size;) {
        size_t taken = 0;
        size_t part = size - at < piece ? size - at : piece;
        enum atl_code code = atl_grpc_reader_take(&reader, data + at, part, &taken, NULL);
        if (code != ATL_OK) {
            hash = (hash ^ (uint64_t)code) * 1099511628211U;
            break;
        }
        at += taken;
        if (!reader.complete)
            continue;
        atl_assert(reader.message.length <= 4096);
        for (size_t i = 0; i < reader.message.length; i++)
            hash = (hash ^ (uint8_t)reader.message.data[i]) * 1099511628211U;
        hash = (hash ^ 256) * 1099511628211U;
        atl_grpc_reader_next(&reader);
    }
    atl_grpc_reader_done(&reader);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[64];
    atl_grpc_percent_decode((const char *)data, size, text, sizeof text);
    atl_assert(strlen(text) < sizeof text);
    atl_assert(atl_grpc_status((const char *)data, size) < ATL_CODES);
    (void)atl_grpc_http_status((const char *)data, size); /* any answer is right */
    if (size == 0)
        return 0;
    size_t piece = 1 + data[0] % 16;
    atl_assert(read_all(data + 1, size - 1, piece) == read_all(data + 1, size - 1, size));
    return 0;
}
