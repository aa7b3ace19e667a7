/* Numbers from and to text. */
#include "pure/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_digits(const char *at)
{
    while (is_digit(*at))
        at++;
    return at;
}

/* Magnitude of plain digits; false on anything else or past 64 bits. */
static bool digits_to_value(const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (!is_digit(*text))
            return false;
        unsigned digit = (unsigned)(*text - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}

bool atl_uint_from_text(const char *text, uint64_t *ret_value)
{
    if (text[0] == '-' && text[1] != '\0' && text[1 + strspn(text + 1, "0")] == '\0')
        text++; /* -0 */
    else if (text[0] == '+')
        text++;
    return digits_to_value(text, ret_value);
}

bool atl_int_from_text(const char *text, int64_t *ret_value)
{
    bool negative = text[0] == '-';
    uint64_t magnitude = 0;
    if (!digits_to_value(text + (negative || text[0] == '+'), &magnitude))
        return false;
    if (magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *ret_value = (int64_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

/* [+-] digits [. digits] [e [+-] digits], with a digit on at least one side of the point. */
static bool looks_like_number(const char *text)
{
    const char *at = text + (*text == '-' || *text == '+');
    const char *whole = at;
    at = skip_digits(at);
    bool some = at > whole;
    if (*at == '.') {
        const char *fraction = ++at;
        at = skip_digits(at);
        some = some || at > fraction;
    }
    if (!some)
        return false;
    if (*at == 'e' || *at == 'E') {
        at += 1 + (at[1] == '-' || at[1] == '+');
        const char *exponent = at;
        at = skip_digits(at);
        if (at == exponent)
            return false;
    }
    return *at == '\0';
}

bool atl_double_from_text(const char *text, double *ret_value)
{
    if (!looks_like_number(text))
        return false;
    double value = strtod(text, NULL);
    if (!isfinite(value))
        return false;
    *ret_value = value;
    return true;
}

bool atl_bool_from_text(const char *text, bool *ret_value)
{
    static const char *const words[][2] = {
        {"0", "1"},
        {"no", "yes"},
        {"off", "on"},
        {"false", "true"},
    };
    for (size_t i = 0; i < ATL_COUNT(words); i++) {
        if (strcasecmp(text, words[i][0]) == 0 || strcasecmp(text, words[i][1]) == 0) {
            *ret_value = strcasecmp(text, words[i][1]) == 0;
            return true;
        }
    }
    return false;
}

size_t atl_uint_to_text(uint64_t value, char text[ATL_NUMBER_MAX])
{
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";
    char digits[20];
    size_t at = sizeof digits;
    while (value >= 100) {
        at -= 2;
        memcpy(digits + at, pairs + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        at -= 2;
        memcpy(digits + at, pairs + 2 * value, 2);
    } else {
        digits[--at] = (char)('0' + value);
    }
    memcpy(text, digits + at, sizeof digits - at);
    text[sizeof digits - at] = '\0';
    return sizeof digits - at;
}

/* m / 10^k is rounded correctly while both are exact, so if it gives the value back, "m with k places" reads
 * back as the value. */
static size_t short_fraction(double magnitude, char *text)
{
    double power = 1;
    for (int places = 0; places <= 17; places++, power *= 10) {
        double scaled = magnitude * power;
        if (scaled >= 9007199254740992.0)
            return 0;
        uint64_t whole = (uint64_t)(scaled + 0.5);
        if ((double)whole / power != magnitude)
            continue;
        uint64_t unit = (uint64_t)power;
        size_t length = atl_uint_to_text(whole / unit, text);
        if (places == 0)
            return length;
        text[length++] = '.';
        uint64_t rest = whole % unit;
        for (int i = places - 1; i >= 0; i--, rest /= 10)
            text[length + (size_t)i] = (char)('0' + rest % 10);
        length += (size_t)places;
        text[length] = '\0';
        return length;
    }
    return 0;
}

size_t atl_double_to_text(double value, char text[ATL_NUMBER_MAX])
{
    if (!isfinite(value))
        value = 0;
    size_t sign = value < 0;
    text[0] = '-';
    size_t length = short_fraction(value < 0 ? -value : value, text + sign);
    if (length > 0)
        return length + sign;
    return (size_t)snprintf(text, ATL_NUMBER_MAX, "%.17g", value);
}

static const char units[] = "KMGTP";

bool atl_size_from_text(const char *text, uint64_t *ret_bytes)
{
    char number[ATL_NUMBER_MAX] = {0};
    const char *end = skip_digits(text);
    if (end == text)
        return false;
    const char *whole_end = end;
    if (*end == '.') {
        end = skip_digits(end + 1);
        if (end == whole_end + 1)
            return false;
    }
    const char *unit = *end == '\0' ? NULL : strchr(units, *end);
    if ((*end != '\0' && (unit == NULL || end[1] != '\0')) || end - text >= ATL_NUMBER_MAX)
        return false;
    memcpy(number, text, (size_t)(end - text));
    unsigned shift = unit == NULL ? 0 : 10 * (unsigned)(unit - units + 1);
    if (end != whole_end) {
        double bytes = strtod(number, NULL) * (double)(UINT64_C(1) << shift);
        if (bytes >= 9223372036854775808.0)
            return false;
        *ret_bytes = (uint64_t)bytes;
        return true;
    }
    uint64_t whole = 0;
    if (!digits_to_value(number, &whole) || whole > (uint64_t)INT64_MAX >> shift)
        return false;
    *ret_bytes = whole << shift;
    return true;
}

size_t atl_size_to_text(uint64_t bytes, char text[ATL_NUMBER_MAX])
{
    size_t unit = 0;
    while (bytes != 0 && bytes % 1024 == 0 && unit < sizeof units - 1) {
        bytes /= 1024;
        unit++;
    }
    size_t length = atl_uint_to_text(bytes, text);
    if (unit > 0) {
        text[length++] = units[unit - 1];
        text[length] = '\0';
    }
    return length;
}

int atl_hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}
