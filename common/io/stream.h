/*
 * Streams: bytes past the bus (consoles, uploads, disks) over a unix socket of the node.
 *
 * An agent listens on RUN/streams/SERVICE/stream.sock (folder made by the launcher: owner SERVICE, group of
 * who may connect, 0750). It makes an offer: a token of 32 random bytes, good for one connection within 30
 * seconds. The peer gets the token in an answer over the bus, connects, sends it, and from then on the bytes
 * are free in both directions. Both ends are the same object.
 *
 * Flow control is that of the socket: who does not take what was handed to it is not read from, and what is
 * written waits in a bounded buffer. Nothing here blocks; all functions belong to the loop's thread.
 */
#ifndef ATL_IO_STREAM_H
#define ATL_IO_STREAM_H

#include "io/loop.h"
#include "pure/error.h"

enum {
    ATL_STREAM_TOKEN_SIZE = 32,
    ATL_STREAM_BUFFER = 256 << 10, /* bytes that wait to be written */
    ATL_STREAM_CHUNK = 64 << 10,   /* bytes that wait to be taken */
    ATL_STREAM_OFFERS_MAX = 256,   /* not taken yet */
    ATL_STREAMS_MAX = 1024,        /* connections of one listener */
};

struct atl_streams; /* the listener and its offers */
struct atl_stream;  /* one end of a connection */

struct atl_stream_events {
    /* The peer is there (with the right token). May be NULL, as all but on_data. */
    void (*on_open)(struct atl_stream *stream, void *user);
    /* Answers how much it took. Less than size: nothing more is handed over until atl_stream_resume(), and
     * then the rest of this comes first. */
    size_t (*on_data)(struct atl_stream *stream, const uint8_t *bytes, size_t size, void *user);
    /* The peer sends no more; it may still read. */
    void (*on_end)(struct atl_stream *stream, void *user);
    /* There is room to write again, after atl_stream_write() took less than all. */
    void (*on_room)(struct atl_stream *stream, void *user);
    /* It broke, or its time was over (ATL_E_DEADLINE); it is gone after this. stream is NULL when the peer of
     * an offer never came. Not called after atl_stream_close(). */
    void (*on_error)(struct atl_stream *stream, enum atl_code code, void *user);
};

struct atl_streams_options {
    struct atl_loop *loop;
    const char *run_dir;
    const char *service;
    atl_ns offer_life; /* 0: 30 s */
    atl_ns idle;       /* a connection without a byte for so long ends with ATL_E_DEADLINE; 0: never */
    bool make_folder;  /* tests */
};

/* Errors: ATL_E_IO; ATL_E_INVALID the path is too long. */
ATL_MUST_CHECK enum atl_code atl_streams_open(const struct atl_streams_options *options,
                                              struct atl_streams **ret_streams, struct atl_error *err);
void atl_streams_close(struct atl_streams **streams); /* and all its connections, without callbacks */
const char *atl_streams_path(const struct atl_streams *streams);

/* Errors: ATL_E_UNAVAILABLE too many offers or connections. events is borrowed for as long as the stream
 * lives. */
ATL_MUST_CHECK enum atl_code atl_stream_offer(struct atl_streams *streams,
                                              const struct atl_stream_events *events, void *user,
                                              uint8_t ret_token[ATL_STREAM_TOKEN_SIZE],
                                              struct atl_error *err);
/* Takes an offer back that nobody has taken; false: there is none of that token. */
bool atl_stream_withdraw(struct atl_streams *streams, const uint8_t token[ATL_STREAM_TOKEN_SIZE]);

/* The other side: connects and sends the token. on_open is called from the loop.
 * Errors: ATL_E_UNAVAILABLE nobody listens there. */
ATL_MUST_CHECK enum atl_code atl_stream_connect(struct atl_loop *loop, const char *path,
                                                const uint8_t token[ATL_STREAM_TOKEN_SIZE],
                                                const struct atl_stream_events *events, void *user,
                                                struct atl_stream **ret_stream, struct atl_error *err);

/* Takes bytes to be sent; answers how many, which is less than size when the buffer is full. */
size_t atl_stream_write(struct atl_stream *stream, const void *bytes, size_t size);
/* Sends no more after what waits now; what comes in goes on. When both sides have finished, the stream still
 * stands until atl_stream_close(). */
void atl_stream_finish(struct atl_stream *stream);
void atl_stream_resume(struct atl_stream *stream); /* on_data may take bytes again */
void atl_stream_close(struct atl_stream *stream);  /* at once; what waits is dropped. NULL is fine */

#endif
