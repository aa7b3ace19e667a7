/* What the files of the gRPC client know of each other. */
#ifndef ATL_GRPC_INTERNAL_H
#define ATL_GRPC_INTERNAL_H

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "grpc/frame.h"
#include "grpc/grpc.h"

enum {
    GRPC_TRIES_MAX = 5, /* connections that one unsent request is moved through */
    GRPC_HEADER_BYTES_MAX = 64 << 10,
    GRPC_WINDOW = 16 << 20,
};
#define GRPC_DRAIN (5 * ATL_SECOND)

enum grpc_conn_state {
    GRPC_CONNECTING, /* TCP */
    GRPC_HANDSHAKE,  /* TLS */
    GRPC_SETTLING,   /* our preface is sent, theirs not yet there */
    GRPC_READY,
    GRPC_DRAINING, /* takes no new calls, ends with its last one */
    GRPC_STATES,
};

struct grpc_endpoint {
    char *text; /* as given */
    char *host;
    struct sockaddr_storage address;
    socklen_t address_size;
};

struct grpc_conn {
    struct grpc_conn *next; /* of the channel */
    struct atl_grpc *channel;
    char *endpoint; /* its text */
    char *host;
    enum grpc_conn_state state;
    int fd;
    SSL *ssl;
    nghttp2_session *session;
    struct atl_watch *watch;
    struct atl_timer *timer; /* of connecting, later of draining */
    struct atl_timer *keepalive;
    struct atl_timer *doubt; /* then the PING has to be answered */
    struct atl_timer *flush; /* what calls have submitted goes out in the next round */
    struct atl_buf out;
    size_t out_sent;
    struct atl_grpc_call *calls;
    atl_ns heard_at;
    atl_ns pinged_at; /* 0: no PING is out */
    atl_ns doubted_at;
    bool proven; /* the other side has answered a call */
    bool read_wants_write;
    bool told; /* state() has heard of it */
    bool lost; /* its session is not to be used any more */
    char why[ATL_TEXT_MAX];
};

struct atl_grpc_call {
    struct atl_grpc_call *next; /* of the connection or of those that wait */
    struct atl_grpc_call *previous;
    struct atl_grpc_call **list; /* the list it is in */
    struct atl_grpc *channel;
    struct grpc_conn *conn; /* NULL: waits for one */
    struct atl_grpc_call_options options;
    struct atl_grpc_metadata metadata[ATL_GRPC_METADATA_MAX];
    struct atl_buf out; /* frames */
    size_t out_sent;
    struct atl_grpc_reader reader;
    struct atl_timer *timer;
    atl_ns deadline; /* 0: none */
    int32_t stream_id;
    unsigned int tries;
    bool finished; /* no more requests will come */
    bool trimmed;  /* requests that went out are forgotten: it cannot begin again */
    bool sent;
    bool dead;       /* freed when no callback runs any more */
    int http_status; /* -1: none yet */
    bool has_status;
    enum atl_code status;
    char text[ATL_TEXT_MAX];
    enum atl_code fault; /* why we reset the stream ourselves; ATL_OK: we did not */
};

struct atl_grpc {
    struct atl_loop *loop;
    struct grpc_endpoint endpoints[ATL_GRPC_ENDPOINTS_MAX];
    size_t endpoint_count;
    size_t endpoint; /* in use, or tried now */
    char *home;      /* NULL: none */
    atl_ns home_wait;
    atl_ns home_since; /* it is in use; 0: it is not */
    struct atl_timer *homing;
    struct atl_grpc_options options;
    struct atl_grpc_tls tls;
    bool use_tls;
    struct grpc_conn *conns;
    struct grpc_conn *current; /* NULL: none that is ready or becomes so */
    struct atl_grpc_call *waiting;
    struct atl_grpc_call *dead;
    size_t call_count;
    struct atl_grpc_backoff backoff;
    size_t failures; /* endpoints in a row */
    struct atl_timer *retry;
    struct atl_timer *soon; /* what callbacks follow from is done from the loop */
    bool rotate;
    bool to_home;           /* the next endpoint is that one */
    bool down;              /* all endpoints have failed in a row: calls fail at once */
    char why[ATL_TEXT_MAX]; /* of the last loss */
    unsigned int busy;      /* callbacks may come: nothing is freed */
    bool dying;
};

/* channel.c */
void grpc_enter(struct atl_grpc *channel);
void grpc_leave(struct atl_grpc *channel);
void grpc_channel_ready(struct atl_grpc *channel, struct grpc_conn *conn);
void grpc_channel_leave(struct atl_grpc *channel, struct grpc_conn *conn); /* it takes no new calls */
/* A new call: starts it, or lets it wait, or sees to it that it ends soon. */
void grpc_channel_admit(struct atl_grpc *channel, struct atl_grpc_call *call);

/* conn.c */
struct grpc_conn *grpc_conn_new(struct atl_grpc *channel, const struct grpc_endpoint *endpoint);
void grpc_conn_free(struct grpc_conn *conn); /* its calls are gone */
void grpc_conn_lose(struct grpc_conn *conn, const char *why);
void grpc_conn_drain(struct grpc_conn *conn);
void grpc_conn_flush_soon(struct grpc_conn *conn);
/* A call that began at `since` was not answered in time: is anybody there? */
void grpc_conn_doubt(struct grpc_conn *conn, atl_ns since);

/* tls.c. Errors: ATL_E_IO a file is not to be read; ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code grpc_tls_new(const struct atl_grpc_tls *tls, const char *host, int fd,
                                          SSL **ret_ssl, struct atl_error *err);
/* The first error of OpenSSL's queue as a sentence; empties the queue. */
void grpc_tls_why(const SSL *ssl, char *text, size_t size);

/* session.c */
void grpc_session_new(struct grpc_conn *conn);

/* call.c */
void grpc_call_move(struct atl_grpc_call *call, struct atl_grpc_call **list);
void grpc_call_start(struct atl_grpc_call *call, struct grpc_conn *conn);
/* Ends it with a callback; frees it. */
void grpc_call_end(struct atl_grpc_call *call, const struct atl_grpc_end *end);
ATL_PRINTF(3, 4)
void grpc_call_fail(struct atl_grpc_call *call, enum atl_code code, const char *format, ...);
void grpc_call_free(struct atl_grpc_call *call);
/* Its stream is over, or its connection: ends it, or lets it wait for the next connection. */
void grpc_call_closed(struct atl_grpc_call *call, uint32_t error_code);
ssize_t grpc_call_read_out(struct atl_grpc_call *call, uint8_t *to, size_t room, uint32_t *flags);

#endif
