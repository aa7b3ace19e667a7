/*
 * gRPC on the wire, without I/O: frames around messages, status and text in trailers, the text of a timeout,
 * and how long to wait before the next attempt to connect.
 */
#ifndef ATL_GRPC_FRAME_H
#define ATL_GRPC_FRAME_H

#include "pure/buf.h"
#include "pure/error.h"

enum { ATL_GRPC_PREFIX = 5 }; /* one byte "compressed", four bytes of length, high byte first */

/* Puts frames together that come in pieces. Memory grows with the bytes that came, not with what a length
 * announces. */
struct atl_grpc_reader {
    uint8_t prefix[ATL_GRPC_PREFIX];
    size_t prefix_used;
    struct atl_buf message;
    size_t wanted; /* bytes of the message, once its prefix is there */
    size_t max;    /* a longer message is refused */
    bool complete; /* a whole message stands in `message`; go on with atl_grpc_reader_next() */
};

void atl_grpc_reader_init(struct atl_grpc_reader *reader, size_t max);
void atl_grpc_reader_done(struct atl_grpc_reader *reader);

/*
 * Takes bytes up to the end of the first message; the reader must not hold a complete one.
 *
 * ret_taken  out: how many of the bytes were taken; the rest belongs to the next message
 * Errors: ATL_E_LIMIT longer than max; ATL_E_INVALID compressed, which nobody asked for.
 */
ATL_MUST_CHECK enum atl_code atl_grpc_reader_take(struct atl_grpc_reader *reader, const uint8_t *bytes,
                                                  size_t size, size_t *ret_taken, struct atl_error *err);
void atl_grpc_reader_next(struct atl_grpc_reader *reader);
/* Is the reader within a message, so that an end here cuts one? */
bool atl_grpc_reader_within(const struct atl_grpc_reader *reader);

/* Appends a message with its prefix. */
void atl_grpc_frame(struct atl_buf *out, const void *message, size_t size);

/* Decodes the %XX of a grpc-message. What is no such sequence stays; control bytes become '?'. `to` is always
 * terminated, text that is too long is cut. */
void atl_grpc_percent_decode(const char *text, size_t length, char *to, size_t room);

/* "grpc-status": 0..16, anything else is ATL_E_UNKNOWN. The codes of gRPC are ours. */
enum atl_code atl_grpc_status(const char *text, size_t length);
/* What an answer without grpc-status means, by its HTTP status. */
enum atl_code atl_grpc_status_of_http(int http_status);
/* ":status": 100..599, or -1. */
int atl_grpc_http_status(const char *text, size_t length);

enum { ATL_GRPC_TIMEOUT_MAX = 12 };
/* The text of a grpc-timeout, rounded up: at most eight digits and a unit. */
void atl_grpc_timeout_text(atl_ns timeout, char ret_text[ATL_GRPC_TIMEOUT_MAX]);

/* How long to wait before the next attempt: doubles up to max, and half of it is chance. */
struct atl_grpc_backoff {
    atl_ns first;
    atl_ns max;
    uint64_t seed; /* moves on with each use */
    unsigned int attempts;
};
atl_ns atl_grpc_backoff_next(struct atl_grpc_backoff *backoff);
void atl_grpc_backoff_reset(struct atl_grpc_backoff *backoff);

#endif
