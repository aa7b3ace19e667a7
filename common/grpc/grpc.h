/*
 * A gRPC client on our loop: one thread, one descriptor per connection, HTTP/2 by nghttp2, TLS 1.2 or newer
 * by OpenSSL. It knows messages as bytes; who calls knows what they mean.
 *
 * A channel keeps one connection to one of its endpoints. When that is lost it goes on to the next endpoint
 * at once; after all of them have failed in a row it waits, longer each time, and calls fail at once. Calls
 * that come while it connects wait for it. A request that surely was not sent is moved to the next connection
 * by itself; what may have reached the other side is not: the call ends and says so. A call whose time is
 * over, though nothing at all was heard since it began, puts the connection to the test: it is lost when a
 * PING is not answered soon either.
 *
 * All functions belong to the loop's thread and do not block. Callbacks come from the loop, never from within
 * one of these functions; within a callback all of them may be called, atl_grpc_free() too.
 * The process must ignore SIGPIPE (atl_loop_handle_signals() does).
 */
#ifndef ATL_GRPC_GRPC_H
#define ATL_GRPC_GRPC_H

#include "io/loop.h"
#include "pure/error.h"

struct atl_grpc;      /* a channel */
struct atl_grpc_call; /* one call: unary, or a stream in both directions */

enum { ATL_GRPC_ENDPOINTS_MAX = 16, ATL_GRPC_METADATA_MAX = 8 };

/* Files are read anew for each connection, so that renewed certificates come into use. */
struct atl_grpc_tls {
    const char *ca_file;   /* PEM: who may have signed the other side's certificate */
    const char *cert_file; /* PEM: ours; NULL: none */
    const char *key_file;
    const char *name; /* what the certificate must be for; NULL: the endpoint's address */
};

typedef void atl_grpc_state_fn(bool connected, const char *endpoint, void *user);

struct atl_grpc_options {
    struct atl_loop *loop;
    const char *const *endpoints; /* "10.0.0.1:2379", "[fd00::1]:2379": addresses, no names; copied */
    size_t endpoint_count;        /* 1..ATL_GRPC_ENDPOINTS_MAX */
    /* The endpoint to be used while it answers, as it stands in `endpoints`: left when it is lost, and come
     * back to. NULL, or none of them: all are alike, and where it begins is chance. Copied. */
    const char *home;
    atl_ns home_again; /* until it is tried again; twice that after each failure, a minute at most; 0: 5 s */
    const struct atl_grpc_tls *tls; /* copied; NULL: none */
    size_t message_max;             /* bytes of one message that comes; 0: 32 MiB */
    size_t send_max;                /* bytes that may wait to be sent in one call; 0: 32 MiB */
    size_t calls_max;               /* calls at a time; 0: 1024 */
    atl_ns connect_timeout;         /* until the other side speaks HTTP/2; 0: 3 s */
    atl_ns keepalive; /* a PING after so long a silence; 0: 10 s. etcd takes no more than one in 5 s. */
    atl_ns keepalive_timeout; /* no answer to it: the connection is lost; 0: 3 s */
    atl_ns backoff_first;     /* 0: 100 ms */
    atl_ns backoff_max;       /* 0: 5 s */
    uint64_t seed;            /* of the jitter */
    atl_grpc_state_fn *state; /* may be NULL: told of each connection and each loss */
    void *user;
};

/* Errors: ATL_E_INVALID an endpoint is no address and port. Begins to connect. */
ATL_MUST_CHECK enum atl_code atl_grpc_new(const struct atl_grpc_options *options,
                                          struct atl_grpc **ret_channel, struct atl_error *err);
/* Calls that are open end without a callback. NULL is fine. */
void atl_grpc_free(struct atl_grpc **channel);

bool atl_grpc_connected(const struct atl_grpc *channel);
/* The endpoint that is in use or tried. */
const char *atl_grpc_endpoint(const struct atl_grpc *channel);
/* Leaves this endpoint for the next one; calls that are open go on where they are, for five seconds. */
void atl_grpc_rotate(struct atl_grpc *channel);
/* Replaces the endpoints; the connection stays if its endpoint is still one. Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code atl_grpc_set_endpoints(struct atl_grpc *channel, const char *const *endpoints,
                                                    size_t count, struct atl_error *err);

struct atl_grpc_metadata {
    const char *name; /* small letters */
    const char *value;
};

/* How a call ended. */
struct atl_grpc_end {
    enum atl_code code;
    char text[ATL_TEXT_MAX]; /* why; empty with ATL_OK */
    bool sent;   /* false: the other side surely has not seen the request, it may be tried again */
    bool remote; /* code and text are the other side's answer; false: found here (deadline, connection) */
};

/* bytes: borrowed for the call. */
typedef void atl_grpc_message_fn(const uint8_t *bytes, size_t size, void *user);
/* Called once; the call is gone afterwards. */
typedef void atl_grpc_end_fn(const struct atl_grpc_end *end, void *user);

struct atl_grpc_call_options {
    const char *method;                       /* "/package.Service/Method"; borrowed until the call ends */
    const struct atl_grpc_metadata *metadata; /* names and values: borrowed until the call ends */
    size_t metadata_count;
    const void *request; /* copied; NULL: none yet */
    size_t request_size;
    bool stream;    /* more requests may follow; false: the request is the only one */
    atl_ns timeout; /* of the whole call; 0: none */
    atl_grpc_message_fn *message;
    atl_grpc_end_fn *end;
    void *user;
};

/* Never NULL: what cannot be done ends the call from the loop. */
struct atl_grpc_call *atl_grpc_call_new(struct atl_grpc *channel,
                                        const struct atl_grpc_call_options *options);
/* Another request of a stream. Errors: ATL_E_LIMIT too much waits already. */
ATL_MUST_CHECK enum atl_code atl_grpc_send(struct atl_grpc_call *call, const void *request, size_t size,
                                           struct atl_error *err);
/* No more requests. */
void atl_grpc_finish(struct atl_grpc_call *call);
/* Ends it without a callback, and tells the other side. */
void atl_grpc_cancel(struct atl_grpc_call *call);

#endif
