/*
 * What QEMU says to QEMU while a guest moves, through streams between the nodes. At the source QEMU connects
 * to a unix socket of ours, and each connection becomes a channel of the stream; at the target each channel
 * becomes a connection to a socket of QEMU's. Threads of their own do it; the functions belong to the
 * worker's main thread.
 */
#ifndef CMP_MOVE_TUNNEL_H
#define CMP_MOVE_TUNNEL_H

#include <sys/types.h>

#include "io/stream.h"

struct move_tunnel;

/* Listens at `path`, which the user may connect to; each connection goes to `channel` of the offer. The
 * socket is removed at the end. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code move_tunnel_out(const struct atl_stream_offer *offer, const char *channel,
                                             const char *path, uid_t user, struct move_tunnel **ret_tunnel,
                                             struct atl_error *err);
/* Takes what comes to the server (which is taken): "control" is for move_tunnel_control(), any other channel
 * X goes to the socket DIR/X.sock. */
struct move_tunnel *move_tunnel_in(struct atl_stream_server **server, const char *dir);
/* Waits for the channel "control". Errors: ATL_E_DEADLINE. */
ATL_MUST_CHECK enum atl_code move_tunnel_control(struct move_tunnel *tunnel, atl_ns deadline,
                                                 struct atl_stream **ret_stream, struct atl_error *err);

/* Bytes that went through to the target so far. */
uint64_t move_tunnel_sent(const struct move_tunnel *tunnel);
/* Cuts what is open, waits for the threads. NULL is fine. */
void move_tunnel_close(struct move_tunnel **tunnel);

#endif
