/*
 * Streams between nodes: bytes that do not belong on the bus (disks, memory of guests, uploads), over
 * TLS 1.3.
 *
 * One side listens on its node's address and makes an offer: address, port, the SHA-256 of a certificate that
 * was made for this listener and lives in memory only, and a token of 32 random bytes. The offer goes to the
 * other side over the bus, which knows who is who. The other side connects, takes no other certificate than
 * that, and shows the token and the name of a channel in one opening frame; the listener answers one byte. A
 * token is good for as long as its listener listens, so that one offer carries several channels; make one
 * offer for one purpose and close the listener when all have come.
 *
 *   opening frame:  "ATLS" | version 1 | length of the name, 1..64 | token, 32 bytes | name
 *   answer:         0 taken, 1 refused
 *
 * Deadlines are points of atl_clock_monotonic(); ATL_STREAM_FOREVER waits without end. A peer that is cut off
 * is noticed within 30 s, in a stream without traffic too, and one that takes nothing for so long is given
 * up. Each stream and each server belong to one thread at a time; atl_stream_abort() and
 * atl_stream_server_abort() may be called by any. Functions block: call them in workers and threads. A loop
 * uses atl_stream_relay_connect() and _accept(), which never block. The process has to ignore SIGPIPE, as
 * services and task workers do.
 */
#ifndef ATL_IO_STREAM_H
#define ATL_IO_STREAM_H

#include <stdatomic.h>

#include "atoll/bus/v1/stream.pb-c.h"
#include "pure/arena.h"
#include "pure/base.h"
#include "pure/error.h"

enum {
    ATL_STREAM_TOKEN = 32,
    ATL_STREAM_FINGERPRINT = 32,
    ATL_STREAM_CHANNEL_MAX = 64, /* bytes of a name, without its end: letters, digits, -_.: */
    ATL_STREAM_PORT_FIRST = 60000,
    ATL_STREAM_PORT_LAST = 60999,
};
#define ATL_STREAM_FOREVER INT64_MAX

struct atl_stream;
struct atl_stream_server;
struct atl_stream_relay;

struct atl_stream_offer {
    char address[64];
    uint16_t port;
    uint8_t fingerprint[ATL_STREAM_FINGERPRINT];
    uint8_t token[ATL_STREAM_TOKEN];
};

/* To and from the message of the bus. The message lives in the arena. Errors: ATL_E_INVALID a part has not
 * its size, or the port is none of ours. */
Atoll__Bus__V1__StreamOffer *atl_stream_offer_pack(const struct atl_stream_offer *offer,
                                                   struct atl_arena *arena);
ATL_MUST_CHECK enum atl_code atl_stream_offer_unpack(const Atoll__Bus__V1__StreamOffer *message,
                                                     struct atl_stream_offer *ret_offer,
                                                     struct atl_error *err);

/* --- both ends --- */

/* Listens on address (the node's, in the directory), on a free port of ours, with a key and a certificate of
 * its own. Does not block. Errors: ATL_E_INVALID no address; ATL_E_LIMIT all ports are taken; ATL_E_IO. */
ATL_MUST_CHECK enum atl_code atl_stream_listen(const char *address, struct atl_stream_server **ret_server,
                                               struct atl_stream_offer *ret_offer, struct atl_error *err);
void atl_stream_server_close(struct atl_stream_server **server); /* NULL is fine; streams stay */

/* Waits for the next one that shows the token. Others are turned away meanwhile and hold up nobody: eight may
 * be in their handshake at a time, for five seconds each. Errors: ATL_E_DEADLINE; ATL_E_CANCELLED aborted;
 * ATL_E_IO. */
ATL_MUST_CHECK enum atl_code atl_stream_accept(struct atl_stream_server *server, atl_ns deadline,
                                               struct atl_stream **ret_stream,
                                               char ret_channel[ATL_STREAM_CHANNEL_MAX + 1],
                                               struct atl_error *err);

/* Connects and is taken. Errors: ATL_E_UNAVAILABLE not reachable, or it broke; ATL_E_UNAUTHENTICATED another
 * certificate, or the token was refused; ATL_E_DEADLINE; ATL_E_INVALID the offer or the name. */
ATL_MUST_CHECK enum atl_code atl_stream_connect(const struct atl_stream_offer *offer, const char *channel,
                                                atl_ns deadline, struct atl_stream **ret_stream,
                                                struct atl_error *err);

/* The same two, which can be called off: `stop` is an eventfd, or -1; once it is readable they, and all that
 * the stream does from then on, end ATL_E_CANCELLED. It must live as long as the stream. */
struct atl_stream_wait {
    atl_ns deadline;
    int stop;
};
ATL_MUST_CHECK enum atl_code atl_stream_accept_until(struct atl_stream_server *server,
                                                     const struct atl_stream_wait *wait,
                                                     struct atl_stream **ret_stream,
                                                     char ret_channel[ATL_STREAM_CHANNEL_MAX + 1],
                                                     struct atl_error *err);
ATL_MUST_CHECK enum atl_code atl_stream_connect_until(const struct atl_stream_offer *offer,
                                                      const char *channel, const struct atl_stream_wait *wait,
                                                      struct atl_stream **ret_stream, struct atl_error *err);

/* --- bytes --- */

/* Waits for bytes; *ret_got 0: the other side has said that nothing more comes. A connection that ends
 * without that is an error. Errors: ATL_E_UNAVAILABLE it broke; ATL_E_DEADLINE; ATL_E_CANCELLED aborted. */
ATL_MUST_CHECK enum atl_code atl_stream_read(struct atl_stream *stream, void *bytes, size_t size,
                                             atl_ns deadline, size_t *ret_got, struct atl_error *err);
/* All of size, or an error; ATL_E_UNAVAILABLE also when the other side ends before. */
ATL_MUST_CHECK enum atl_code atl_stream_read_all(struct atl_stream *stream, void *bytes, size_t size,
                                                 atl_ns deadline, struct atl_error *err);
/* Writes all. Errors: as atl_stream_read(). */
ATL_MUST_CHECK enum atl_code atl_stream_write(struct atl_stream *stream, const void *bytes, size_t size,
                                              atl_ns deadline, struct atl_error *err);
/* Says that nothing more comes from here; reading goes on. */
ATL_MUST_CHECK enum atl_code atl_stream_finish(struct atl_stream *stream, atl_ns deadline,
                                               struct atl_error *err);

/* From any thread: whoever waits, and will, gets ATL_E_CANCELLED. The object must live on. */
void atl_stream_abort(struct atl_stream *stream);
void atl_stream_server_abort(struct atl_stream_server *server);

/* Ends the connection; without atl_stream_finish() before, the other side sees it as broken. NULL is fine. */
void atl_stream_close(struct atl_stream **stream);

/* --- pumps --- */

struct atl_stream_count {
    _Atomic uint64_t sent;     /* bytes that went into the stream */
    _Atomic uint64_t received; /* bytes that came out of it */
    atomic_bool complete; /* the other side has said that nothing more comes; set before the socket ends */
};

/* Carries bytes both ways between a stream and a connected socket (of the unix kind, say) until both have
 * ended, with their half closes; 256 KiB each way are under way at most. When one side breaks the other is
 * cut, too. fd is borrowed and made non-blocking. count may be NULL. Errors: as atl_stream_read(); ATL_E_IO
 * the socket broke. */
ATL_MUST_CHECK enum atl_code atl_stream_pump(struct atl_stream *stream, int fd,
                                             struct atl_stream_count *count, struct atl_error *err);

/*
 * A relay is a thread that makes a connection and pumps it: for loops, which read and write the other end of
 * fd's socketpair and see its end, or that it broke, there. fd is taken. deadline: for the connection to be
 * made. Ended ones cost a thread's stack until they are freed.
 */
struct atl_stream_relay *atl_stream_relay_connect(const struct atl_stream_offer *offer, const char *channel,
                                                  atl_ns deadline, int *fd);
/* Waits for `channel` alone; server is taken and closed after its first stream. */
struct atl_stream_relay *atl_stream_relay_accept(struct atl_stream_server **server, const char *channel,
                                                 atl_ns deadline, int *fd);
/* Has it ended? Then *err says how: err->code ATL_OK all went through. */
bool atl_stream_relay_ended(const struct atl_stream_relay *relay, struct atl_error *err);
/* Has the other side said that all has come? To be asked when fd's other end is at its end: it ends without
 * that when the stream breaks. */
bool atl_stream_relay_complete(const struct atl_stream_relay *relay);
/* Cuts it off if it has not ended, and waits for its thread: some milliseconds. NULL is fine. */
void atl_stream_relay_free(struct atl_stream_relay **relay);

#endif
