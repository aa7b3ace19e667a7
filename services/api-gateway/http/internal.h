/* What the files of the HTTP server share: connections, and the table that makes a protocol. */
#ifndef GW_HTTP_INTERNAL_H
#define GW_HTTP_INTERNAL_H

#include <openssl/ssl.h>

#include "http/http.h"

enum {
    GW_RECORD = 16384,     /* bytes of one TLS record */
    GW_OUT_TARGET = 65536, /* a protocol fills up to here, then the socket is served */
    GW_IN_MAX = 16384,     /* HTTP/1: bytes read ahead of what is used */
    GW_LISTENERS_MAX = 4,
    GW_SPARE_REQUESTS = 256,
    GW_ADDRESS_BUCKETS = 4096,
    GW_HELD_MAX = 256 << 20, /* bytes of all answers that clients have not read yet */
    GW_GZIP_FROM = 2048,     /* smaller answers go as they are */
};

enum gw_request_state {
    GW_READING_HEAD,
    GW_READING_BODY, /* collected or streamed */
    GW_WORKING,      /* with the handler */
    GW_REPLYING,
};

enum gw_conn_state {
    GW_CONN_HANDSHAKE,
    GW_CONN_OPEN,
    GW_CONN_CLOSING, /* no further request; what is to be written is written, then it closes */
    GW_CONN_LINGER,  /* answered before all was read: what still comes is thrown away for a while */
    GW_CONN_DEAD,    /* freed at the end of the round */
};

/* HTTP/1 and HTTP/2 as a connection sees them. */
struct gw_protocol {
    void (*start)(struct gw_conn *conn);
    void (*input)(struct gw_conn *conn, const char *bytes, size_t size);
    /* Works on what was kept back: called when a request ended or resumed. */
    void (*proceed)(struct gw_conn *conn);
    bool (*wants_input)(const struct gw_conn *conn);
    /* Adds to conn->out until it is GW_OUT_TARGET long or there is nothing more. */
    void (*output)(struct gw_conn *conn);
    /* The request's answer is in request->output; head is composed from `answer` now. */
    void (*reply)(struct gw_request *request, const struct gw_answer *answer);
    void (*drop)(struct gw_request *request);
    /* When the client must have done something; 0: nothing is expected of it. May drop single requests
     * itself. */
    atl_ns (*deadline)(struct gw_conn *conn, atl_ns now);
    void (*stop)(struct gw_conn *conn); /* frees the session; its requests are gone already */
};

struct gw_conn {
    struct gw_http *http;
    struct gw_conn *next;
    struct gw_conn *previous;
    struct gw_conn *next_marked;
    struct gw_request *requests;
    const struct gw_protocol *protocol; /* NULL until the handshake is done */
    void *session;
    SSL *ssl;
    struct atl_watch *watch;
    struct atl_buf out;
    size_t out_at;
    atl_ns since; /* of the state it is in */
    atl_ns idle_since;
    atl_ns wrote_at;
    atl_ns read_at;
    uint64_t address_hash;
    int fd;
    uint8_t state;
    bool marked;
    bool again;   /* there may be bytes that the socket does not announce any more */
    bool blocked; /* the socket takes no more at present */
    bool linger;  /* unread bytes are expected when it closes */
    char peer[46];
};

struct gw_listener {
    struct gw_http *http;
    struct atl_watch *watch;
    int fd;
};

struct gw_http {
    struct gw_http_options options;
    struct atl_loop *loop;
    SSL_CTX *tls;
    struct gw_listener listeners[GW_LISTENERS_MAX];
    size_t listener_count;
    struct gw_conn *conns;
    struct gw_conn *dead;
    struct gw_conn *marked;
    struct atl_timer *flush; /* once, at the end of the round */
    struct atl_timer *sweep;
    struct gw_request *spare;
    size_t spare_count;
    size_t conn_count;
    size_t conn_peak; /* since memory was last given back */
    size_t held;      /* bytes of answers that wait for their clients */
    bool full;        /* not accepting */
    bool freeing;
    uint16_t per_address[GW_ADDRESS_BUCKETS];
    int64_t date_at;
    char date[40];
    char scratch[GW_RECORD];
};

extern const struct gw_protocol gw_h1_protocol;
extern const struct gw_protocol gw_h2_protocol;

/* tls.c */
ATL_MUST_CHECK enum atl_code gw_tls_context(const char *cert_file, const char *key_file,
                                            SSL_CTX **ret_context, struct atl_error *err);

/* conn.c */
struct gw_conn *gw_conn_new(struct gw_http *http, int fd, const char *peer, uint64_t address_hash);
void gw_conn_mark(struct gw_conn *conn); /* it is pumped at the end of the round */
void gw_conn_read_again(struct gw_conn *conn);
void gw_conn_serve(struct gw_conn *conn);  /* reads what was left, writes what there is */
void gw_conn_finish(struct gw_conn *conn); /* closes once all is written */
void gw_conn_kill(struct gw_conn *conn);
void gw_conn_free(struct gw_conn *conn);
void gw_conn_check(struct gw_conn *conn, atl_ns now); /* deadlines */

/* request.c */
struct gw_request *gw_request_new(struct gw_conn *conn);
void gw_request_free(struct gw_request *request);
void gw_request_gone(struct gw_request *request); /* tells the handler if it has it, then frees */
/* The head is read: on to the handler. May end the request. */
void gw_request_begin(struct gw_request *request);
/* Bytes of the body; returns how many were taken (all, when collected). May end the request: see `alive`. */
size_t gw_request_bytes(struct gw_request *request, const char *bytes, size_t size);
void gw_request_body_end(struct gw_request *request);
void gw_request_refuse(struct gw_request *request, const struct gw_fault *fault);
const char *gw_http_date(struct gw_http *http);

#endif
