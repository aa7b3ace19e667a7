/* Records of fields between colons. */
#include "pure/colon.h"

#include <string.h>

#include "pure/number.h"
#include "pure/utf8.h"

/* As it was written; bytes that are no text become U+FFFD. */
static const char *raw_text(const char *raw, size_t length, struct atl_arena *arena)
{
    char *text = atl_arena_alloc(arena, length * 3 + 1);
    size_t used = 0;
    for (size_t at = 0; at < length;) {
        size_t step = raw[at] == '\0' ? 0 : atl_utf8_step(raw + at, length - at);
        memcpy(text + used, step == 0 ? "\xef\xbf\xbd" : raw + at, step == 0 ? 3 : step);
        used += step == 0 ? 3 : step;
        at += step == 0 ? 1 : step;
    }
    return text;
}

static const char *field_text(const char *raw, size_t length, struct atl_arena *arena)
{
    char *plain = atl_arena_alloc(arena, length + 1);
    size_t used = 0;
    bool good = true;
    for (size_t i = 0; i < length && good; i++) {
        char c = raw[i];
        if (c == '%') {
            int high = length - i > 2 ? atl_hex_value(raw[i + 1]) : -1;
            int low = length - i > 2 ? atl_hex_value(raw[i + 2]) : -1;
            good = high >= 0 && low >= 0;
            c = (char)(high * 16 + low);
            i += 2;
        }
        good = good && c != '\0';
        plain[used++] = c;
    }
    plain[used] = '\0';
    return good && atl_utf8_valid(plain, used) ? plain : raw_text(raw, length, arena);
}

/* The next line that is not blank, without blanks around it. */
static bool next_line(struct atl_colon_reader *reader, const char **ret_line, size_t *ret_length)
{
    while (reader->at < reader->end) {
        const char *start = reader->at;
        const char *newline = memchr(start, '\n', (size_t)(reader->end - start));
        const char *stop = newline == NULL ? reader->end : newline;
        reader->at = newline == NULL ? reader->end : newline + 1;
        while (start < stop && strchr(" \t\r", *start) != NULL)
            start++;
        while (stop > start && strchr(" \t\r", stop[-1]) != NULL)
            stop--;
        if (stop == start)
            continue;
        *ret_line = start;
        *ret_length = (size_t)(stop - start);
        return true;
    }
    return false;
}

bool atl_colon_next(struct atl_colon_reader *reader, struct atl_arena *arena,
                    struct atl_colon_record *ret_record)
{
    const char *at = NULL;
    size_t length = 0;
    if (!next_line(reader, &at, &length))
        return false;
    struct atl_colon_record record = {0};
    const char *end = at + length;
    if (*at == '#') {
        record.fields[record.count++] = raw_text(at, length, arena);
    } else {
        while (at < end) {
            const char *colon = memchr(at, ':', (size_t)(end - at));
            if (record.count == ATL_COLON_MAX - 1) /* all that is left, but for the final colon */
                colon = end[-1] == ':' ? end - 1 : end;
            if (colon == NULL)
                colon = end;
            record.fields[record.count++] = field_text(at, (size_t)(colon - at), arena);
            at = record.count == ATL_COLON_MAX || colon == end ? end : colon + 1;
        }
    }
    for (size_t i = record.count; i < ATL_COLON_MAX; i++)
        record.fields[i] = "";
    *ret_record = record;
    return true;
}

void atl_colon_write(struct atl_buf *out, const char *const *fields, size_t count)
{
    static const char digits[] = "0123456789ABCDEF";
    if (count == 1 && fields[0][0] == '#' && strchr(fields[0], '\n') == NULL) {
        atl_buf_text(out, fields[0]);
        atl_buf_char(out, '\n');
        return;
    }
    for (size_t i = 0; i < count; i++) {
        for (const char *at = fields[i]; *at != '\0'; at++) {
            unsigned char c = (unsigned char)*at;
            /* # only where it would start a comment, a blank only where it would be cut off */
            bool edge = i == 0 && at == fields[0] && (c == '#' || c == ' ');
            if (c < 0x20 || c == 0x7f || c == ':' || c == '%' || edge) {
                const char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};
                atl_buf_add(out, escaped, sizeof escaped);
            } else {
                atl_buf_char(out, (char)c);
            }
        }
        atl_buf_char(out, ':');
    }
    atl_buf_char(out, '\n');
}
