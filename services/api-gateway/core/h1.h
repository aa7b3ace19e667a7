/*
 * HTTP/1.1 request heads, read strictly: what two parsers could understand differently is refused. Bytes in,
 * a head or a refusal out; no state but the scan offset.
 */
#ifndef GW_CORE_H1_H
#define GW_CORE_H1_H

#include "core/head.h"
#include "pure/buf.h"

/* How far the search for the end of a head has come. All zero before the first byte of a request. */
struct gw_h1_scan {
    size_t at;         /* bytes looked at */
    size_t line_start; /* of the line that is being read */
    size_t skipped;    /* an empty line before the request line */
    unsigned int lines;
};

/*
 * Looks for the empty line that ends a head; call it again when more bytes have come (the earlier ones
 * unchanged). ret_size becomes the bytes of the head with the empty line, or 0 while it is incomplete. A
 * refusal: a line that does not end in CR LF, too many lines, too many bytes.
 */
ATL_MUST_CHECK const struct gw_fault *gw_h1_find_end(struct gw_h1_scan *scan, const char *bytes,
                                                     size_t length, size_t *ret_size);

/*
 * Reads a complete head (what gw_h1_find_end measured) into `head`; all texts go to the arena.
 * NULL when it is well; else the refusal, and the connection cannot be used further.
 */
ATL_MUST_CHECK const struct gw_fault *gw_h1_parse(const char *bytes, size_t size, struct atl_arena *arena,
                                                  struct gw_head *head);

/* Appends the text behind a status code: one line, no control bytes, bounded. */
void gw_h1_reason(struct atl_buf *out, const char *reason);

/* The standard phrase of a status, for answers that have no sentence of their own. */
const char *gw_status_phrase(int status);

#endif
