/* UTF-8 after RFC 3629. */
#include "pure/utf8.h"

#include <string.h>

static bool in_range(unsigned char byte, unsigned char first, unsigned char last)
{
    return byte >= first && byte <= last;
}

/* The second byte carries the limits against overlong forms, surrogates and values past U+10FFFF. */
static bool second_fits(unsigned char lead, unsigned char second)
{
    switch (lead) {
    case 0xe0:
        return in_range(second, 0xa0, 0xbf);
    case 0xed:
        return in_range(second, 0x80, 0x9f);
    case 0xf0:
        return in_range(second, 0x90, 0xbf);
    case 0xf4:
        return in_range(second, 0x80, 0x8f);
    default:
        return in_range(second, 0x80, 0xbf);
    }
}

size_t atl_utf8_step(const char *text, size_t left)
{
    const unsigned char *bytes = (const unsigned char *)text;
    if (left == 0)
        return 0;
    if (bytes[0] < 0x80)
        return 1;
    size_t size = bytes[0] >= 0xf0 ? 4 : bytes[0] >= 0xe0 ? 3 : 2;
    if (!in_range(bytes[0], 0xc2, 0xf4) || left < size || !second_fits(bytes[0], bytes[1]))
        return 0;
    for (size_t i = 2; i < size; i++)
        if (!in_range(bytes[i], 0x80, 0xbf))
            return 0;
    return size;
}

static const char *skip_ascii(const char *at, const char *end)
{
    while (end - at >= 8) {
        uint64_t eight;
        memcpy(&eight, at, sizeof eight);
        if ((eight & UINT64_C(0x8080808080808080)) != 0)
            break;
        at += 8;
    }
    while (at < end && (unsigned char)*at < 0x80)
        at++;
    return at;
}

bool atl_utf8_valid(const char *text, size_t length)
{
    const char *end = text + length;
    for (const char *at = skip_ascii(text, end); at < end; at = skip_ascii(at, end)) {
        size_t step = atl_utf8_step(at, (size_t)(end - at));
        if (step == 0)
            return false;
        at += step;
    }
    return true;
}

size_t atl_utf8_length(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t at = 0; at < length; count++) {
        size_t step = atl_utf8_step(text + at, length - at);
        at += step == 0 ? 1 : step;
    }
    return count;
}
