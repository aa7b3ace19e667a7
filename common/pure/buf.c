/* The growing byte buffer. */
#include "pure/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void atl_buf_done(struct atl_buf *buf)
{
    free(buf->data);
    *buf = (struct atl_buf){0};
}

void atl_buf_reset(struct atl_buf *buf)
{
    buf->length = 0;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

char *atl_buf_reserve(struct atl_buf *buf, size_t more)
{
    atl_assert(more < SIZE_MAX / 4);
    size_t needed = buf->length + more + 1;
    if (needed > buf->capacity) {
        size_t capacity = buf->capacity < 128 ? 128 : buf->capacity;
        while (capacity < needed)
            capacity += capacity / 2;
        buf->data = atl_realloc(buf->data, capacity);
        buf->capacity = capacity;
    }
    return buf->data + buf->length;
}

void atl_buf_add(struct atl_buf *buf, const void *bytes, size_t size)
{
    char *end = atl_buf_reserve(buf, size);
    if (size > 0)
        memcpy(end, bytes, size);
    end[size] = '\0';
    buf->length += size;
}

void atl_buf_text(struct atl_buf *buf, const char *text)
{
    atl_buf_add(buf, text, strlen(text));
}

void atl_buf_char(struct atl_buf *buf, char c)
{
    char *end = atl_buf_reserve(buf, 1);
    end[0] = c;
    end[1] = '\0';
    buf->length++;
}

void atl_buf_printf(struct atl_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    char *end = atl_buf_reserve(buf, 120);
    size_t room = buf->capacity - buf->length;
    int length = vsnprintf(end, room, format, args);
    va_end(args);
    atl_assert(length >= 0);
    if ((size_t)length >= room) {
        end = atl_buf_reserve(buf, (size_t)length);
        (void)vsnprintf(end, (size_t)length + 1, format, again);
    }
    va_end(again);
    buf->length += (size_t)length;
}

void atl_buf_uint(struct atl_buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    atl_buf_add(buf, digits + at, sizeof digits - at);
}

void atl_buf_int(struct atl_buf *buf, int64_t value)
{
    if (value < 0)
        atl_buf_char(buf, '-');
    atl_buf_uint(buf, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

char *atl_buf_steal(struct atl_buf *buf)
{
    (void)atl_buf_reserve(buf, 0);
    buf->data[buf->length] = '\0';
    char *text = buf->data;
    *buf = (struct atl_buf){0};
    return text;
}
