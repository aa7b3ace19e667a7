/* gRPC on the wire, without I/O. */
#include "grpc/frame.h"

#include <stdio.h>
#include <string.h>

#include "pure/number.h"

void atl_grpc_reader_init(struct atl_grpc_reader *reader, size_t max)
{
    *reader = (struct atl_grpc_reader){.max = max};
}

void atl_grpc_reader_done(struct atl_grpc_reader *reader)
{
    atl_buf_done(&reader->message);
    *reader = (struct atl_grpc_reader){0};
}

void atl_grpc_reader_next(struct atl_grpc_reader *reader)
{
    atl_assert(reader->complete);
    atl_buf_reset(&reader->message);
    reader->prefix_used = 0;
    reader->wanted = 0;
    reader->complete = false;
}

bool atl_grpc_reader_within(const struct atl_grpc_reader *reader)
{
    return reader->prefix_used > 0;
}

static enum atl_code take_prefix(struct atl_grpc_reader *reader, struct atl_error *err)
{
    const uint8_t *prefix = reader->prefix;
    if (prefix[0] != 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "the answer is compressed, which was not asked for");
    size_t wanted =
        (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | (size_t)prefix[4];
    if (wanted > reader->max)
        return atl_fail(err, ATL_E_LIMIT, NULL, "a message of %zu bytes; %zu is the limit", wanted,
                        reader->max);
    reader->wanted = wanted;
    return ATL_OK;
}

enum atl_code atl_grpc_reader_take(struct atl_grpc_reader *reader, const uint8_t *bytes, size_t size,
                                   size_t *ret_taken, struct atl_error *err)
{
    atl_assert(!reader->complete);
    size_t taken = 0;
    while (taken < size && reader->prefix_used < ATL_GRPC_PREFIX)
        reader->prefix[reader->prefix_used++] = bytes[taken++];
    if (reader->prefix_used == ATL_GRPC_PREFIX && reader->message.length == 0) {
        enum atl_code code = take_prefix(reader, err);
        if (code != ATL_OK)
            return code;
    }
    if (reader->prefix_used == ATL_GRPC_PREFIX) {
        size_t more = reader->wanted - reader->message.length;
        if (more > size - taken)
            more = size - taken;
        if (more > 0)
            atl_buf_add(&reader->message, bytes + taken, more);
        taken += more;
        reader->complete = reader->message.length == reader->wanted;
    }
    *ret_taken = taken;
    return ATL_OK;
}

void atl_grpc_frame(struct atl_buf *out, const void *message, size_t size)
{
    atl_assert(size <= UINT32_MAX);
    const uint8_t prefix[ATL_GRPC_PREFIX] = {0, (uint8_t)(size >> 24), (uint8_t)(size >> 16),
                                             (uint8_t)(size >> 8), (uint8_t)size};
    atl_buf_add(out, prefix, sizeof prefix);
    if (size > 0)
        atl_buf_add(out, message, size);
}

void atl_grpc_percent_decode(const char *text, size_t length, char *to, size_t room)
{
    atl_assert(room > 0);
    size_t out = 0;
    for (size_t i = 0; i < length && out + 1 < room; i++) {
        unsigned int byte = (unsigned char)text[i];
        if (byte == '%' && i + 2 < length) {
            int high = atl_hex_value(text[i + 1]);
            int low = atl_hex_value(text[i + 2]);
            if (high >= 0 && low >= 0) {
                byte = (unsigned int)(high * 16 + low);
                i += 2;
            }
        }
        to[out++] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
    }
    to[out] = '\0';
}

/* A number of one to three digits, or -1. */
static int small_number(const char *text, size_t length)
{
    if (length == 0 || length > 3)
        return -1;
    int value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

enum atl_code atl_grpc_status(const char *text, size_t length)
{
    int value = small_number(text, length);
    return value >= 0 && value < ATL_CODES ? (enum atl_code)value : ATL_E_UNKNOWN;
}

int atl_grpc_http_status(const char *text, size_t length)
{
    int value = small_number(text, length);
    return value >= 100 && value <= 599 ? value : -1;
}

enum atl_code atl_grpc_status_of_http(int http_status)
{
    switch (http_status) {
    case 400:
        return ATL_E_INTERNAL;
    case 401:
        return ATL_E_UNAUTHENTICATED;
    case 403:
        return ATL_E_DENIED;
    case 404:
        return ATL_E_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return ATL_E_UNAVAILABLE;
    default:
        return ATL_E_UNKNOWN;
    }
}

void atl_grpc_timeout_text(atl_ns timeout, char ret_text[ATL_GRPC_TIMEOUT_MAX])
{
    atl_assert(timeout > 0);
    const int64_t digits_max = 99999999;
    int64_t value = (timeout + ATL_MS - 1) / ATL_MS;
    char unit = 'm';
    if (value > digits_max) {
        value = (timeout + ATL_SECOND - 1) / ATL_SECOND;
        unit = 'S';
    }
    if (value > digits_max)
        value = digits_max;
    (void)snprintf(ret_text, ATL_GRPC_TIMEOUT_MAX, "%u%c", (unsigned int)value, unit);
}

/* Steele, Lea and Flood's SplitMix64: enough for jitter, and the same for the same seed. */
static uint64_t draw(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

atl_ns atl_grpc_backoff_next(struct atl_grpc_backoff *backoff)
{
    atl_assert(backoff->first > 1);
    atl_assert(backoff->max >= backoff->first);
    atl_ns span = backoff->first;
    for (unsigned int i = 0; i < backoff->attempts && span < backoff->max; i++)
        span *= 2;
    if (span > backoff->max)
        span = backoff->max;
    backoff->attempts++;
    return span / 2 + (atl_ns)(draw(&backoff->seed) % (uint64_t)(span / 2));
}

void atl_grpc_backoff_reset(struct atl_grpc_backoff *backoff)
{
    backoff->attempts = 0;
}
