/* A growing byte buffer on the heap, for text and packed messages that are written piece by piece. */
#ifndef ATL_PURE_BUF_H
#define ATL_PURE_BUF_H

#include "pure/base.h"

/* All zero is a valid empty buffer. data is always terminated by a NUL that is not counted. */
struct atl_buf {
    char *data;
    size_t length;
    size_t capacity;
};

#define ATL_BUF_AT_EXIT ATL_CLEANUP(atl_buf_done)

void atl_buf_done(struct atl_buf *buf);
void atl_buf_reset(struct atl_buf *buf);                 /* empties it, keeps the memory */
char *atl_buf_reserve(struct atl_buf *buf, size_t more); /* room for `more` bytes behind length */
void atl_buf_add(struct atl_buf *buf, const void *bytes, size_t size);
void atl_buf_text(struct atl_buf *buf, const char *text);
void atl_buf_char(struct atl_buf *buf, char c);
ATL_PRINTF(2, 3) void atl_buf_printf(struct atl_buf *buf, const char *format, ...);
void atl_buf_uint(struct atl_buf *buf, uint64_t value); /* decimal, faster than printf */
void atl_buf_int(struct atl_buf *buf, int64_t value);

/* Gives the text away (free it with free()); the buffer is empty afterwards. Never NULL. */
char *atl_buf_steal(struct atl_buf *buf);

#endif
