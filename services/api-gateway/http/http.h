/*
 * The HTTP server: TLS, HTTP/2 and HTTP/1.1 behind one request object. It knows nothing of the API.
 *
 * One thread, the loop's. Every client is bounded in time (handshake, head, body, reading of answers, idling)
 * and in memory (head 8 KiB, collected body 512 KiB, a window for streamed ones); a slow one holds a
 * descriptor and a few KiB, nothing else.
 */
#ifndef GW_HTTP_HTTP_H
#define GW_HTTP_HTTP_H

#include "core/head.h"
#include "io/loop.h"
#include "pure/buf.h"
#include "pure/error.h"

enum { GW_BODY_MAX = 512 << 10 };

struct gw_http;
struct gw_request;
struct gw_conn;

struct gw_answer {
    int status;
    const char *reason;            /* HTTP/1.1's reason phrase; NULL: the standard one */
    const char *type;              /* Content-Type; NULL: no body */
    struct atl_buf *body;          /* taken; NULL: empty */
    const struct gw_header *extra; /* further headers, borrowed */
    size_t extra_count;
    bool close; /* HTTP/1.1: no further request on this connection */
};

/* How the bytes of a streamed body are taken. */
struct gw_body_reader {
    /* Takes up to size bytes, says how many it took; after fewer, no more come until gw_request_resume(). */
    size_t (*data)(struct gw_request *request, const char *bytes, size_t size);
    /* All bytes of the body were taken. */
    void (*end)(struct gw_request *request);
};

/* One request, from its head to its answer. A handler owns it until it replies or on_gone was called. */
struct gw_request {
    struct gw_head head;
    struct atl_arena arena; /* the head's texts; the handler may use it too */
    struct atl_buf body;    /* complete when on_ready is called, not when streamed */
    const char *peer;       /* the client's address as text */
    void *user;             /* the handler's */
    /* The client went away: the handler lets go of what it holds for the request, and does not answer. */
    void (*on_gone)(struct gw_request *request);

    /* below: the server's own */
    struct gw_http *http;
    struct gw_conn *conn;
    struct gw_request *next; /* of the connection, or of the spare ones */
    struct gw_request *previous;
    const struct gw_body_reader *reader;
    struct atl_buf pending; /* HTTP/2: streamed bytes that were not taken yet */
    struct atl_buf output;  /* body of the answer */
    size_t output_at;
    size_t held;          /* of output, as counted in the server's bound */
    struct gw_gzip *gzip; /* a large answer that is being compressed */
    atl_ns progress_at;   /* when the client last did its part */
    atl_ns answered_at;   /* HTTP/2: the answer was out before the end of the body; 0: it was not */
    int32_t stream_id;    /* HTTP/2 */
    size_t head_bytes;    /* HTTP/2: so far */
    uint8_t state;        /* enum gw_request_state */
    bool paused;          /* the reader did not take all */
    bool body_ended;      /* its last byte has come */
    bool replied;
};

struct gw_http_handler {
    void *self;
    /* The head is there. The handler may answer at once, or ask for the body as a stream; else the body is
     * collected (up to GW_BODY_MAX, more is refused with 501) and on_ready follows. */
    void (*on_head)(void *self, struct gw_request *request);
    void (*on_ready)(void *self, struct gw_request *request);
};

struct gw_http_options {
    struct atl_loop *loop;
    const char *cert_file;          /* PEM, with its chain */
    const char *key_file;           /* PEM */
    size_t connections_max;         /* 0: 8192, or what the limit of descriptors allows */
    size_t connections_per_address; /* 0: half of connections_max */
    atl_ns idle_h1;                 /* 0: 5 s */
    atl_ns idle_h2;                 /* 0: 60 s */
    atl_ns head_time;               /* 0: 10 s; also for the handshake, and without progress in a body */
    atl_ns write_time;              /* 0: 30 s without the client reading */
    struct gw_http_handler handler; /* self is borrowed until gw_http_free() */
};

/* Errors: ATL_E_IO the certificate or key cannot be read or do not belong together. */
ATL_MUST_CHECK enum atl_code gw_http_new(const struct gw_http_options *options, struct gw_http **ret_http,
                                         struct atl_error *err);

/* Listens at "HOST:PORT" ("[::]:8006", "0.0.0.0:8006"); up to four times. ret_port: the port that was taken
 * (for port 0), may be NULL. Errors: ATL_E_INVALID no such form; ATL_E_IO the address is in use or not ours.
 */
ATL_MUST_CHECK enum atl_code gw_http_listen(struct gw_http *http, const char *address, uint16_t *ret_port,
                                            struct atl_error *err);

/* For an orderly end: no more connections are taken, those that are idle are closed, and the loop runs until
 * every request that came has its answer, or the grace is over. */
void gw_http_drain(struct gw_http *http, atl_ns grace);
/* Closes everything at once; handlers are told that their clients went away. */
void gw_http_free(struct gw_http *http);

/* Inside on_head: the body goes to the reader. */
void gw_request_stream(struct gw_request *request, const struct gw_body_reader *reader);
/* The reader can take bytes again. May call it at once. */
void gw_request_resume(struct gw_request *request);

/* Answers; the request is the server's again. Large bodies are compressed where the client takes gzip. */
void gw_request_reply(struct gw_request *request, const struct gw_answer *answer);

/* The client is dropped without an answer. */
void gw_request_drop(struct gw_request *request);

#endif
