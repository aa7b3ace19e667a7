/* What the files of streams share. */
#ifndef ATL_IO_STREAM_INTERNAL_H
#define ATL_IO_STREAM_INTERNAL_H

#include <openssl/ssl.h>

#include "io/stream.h"

/* --- the opening frame --- */

enum {
    STREAM_FRAME_HEAD = 6,
    STREAM_FRAME_MAX = STREAM_FRAME_HEAD + ATL_STREAM_TOKEN + ATL_STREAM_CHANNEL_MAX,
    STREAM_TAKEN = 0,
    STREAM_REFUSED = 1,
};
enum stream_frame_state { STREAM_FRAME_SHORT, STREAM_FRAME_WHOLE, STREAM_FRAME_BAD };

struct stream_frame {
    uint8_t token[ATL_STREAM_TOKEN];
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
};

/* Its size; 0: that is no name of a channel. */
size_t stream_frame_pack(const uint8_t token[ATL_STREAM_TOKEN], const char *channel,
                         uint8_t bytes[STREAM_FRAME_MAX]);
/* Reads what has come so far; more than a frame is bad, because nobody sends more before the answer. */
enum stream_frame_state stream_frame_unpack(const uint8_t *bytes, size_t size, struct stream_frame *ret);

/* --- connections --- */

struct atl_stream {
    SSL *ssl;
    int fd;
    int stop;            /* an eventfd that calls all waiting off, borrowed; -1: none */
    atomic_bool aborted; /* by atl_stream_abort() */
    bool was_cut;        /* no orderly end can be said any more */
    uint64_t keyed;      /* bytes written with the key there is */
};

enum stream_step {
    STREAM_MOVED, /* something went through */
    STREAM_WAIT,  /* *ret_events says for what */
    STREAM_END,   /* the other side has said that nothing more comes */
    STREAM_BROKEN,
};

/* One attempt each, which never waits. */
enum stream_step stream_try_handshake(struct atl_stream *stream, short *ret_events);
enum stream_step stream_try_read(struct atl_stream *stream, void *bytes, size_t size, size_t *ret_got,
                                 short *ret_events);
enum stream_step stream_try_write(struct atl_stream *stream, const void *bytes, size_t size, size_t *ret_put,
                                  short *ret_events);
enum stream_step stream_try_finish(struct atl_stream *stream, short *ret_events);

/* ssl and fd are taken. */
struct atl_stream *stream_new(SSL *ssl, int fd, int stop);
/* What every connection of ours is set to: no delay, and the times after which it is given up. */
void stream_set_socket(int fd);
/* TLS 1.3 alone, no tickets. */
SSL_CTX *stream_context(const SSL_METHOD *method);
/* Why it broke, or that it was called off. */
enum atl_code stream_broke(struct atl_stream *stream, struct atl_error *err);
/* Waits until fd has one of events. */
ATL_MUST_CHECK enum atl_code stream_poll(int fd, short events, const struct atl_stream_wait *wait,
                                         struct atl_error *err);

#endif
