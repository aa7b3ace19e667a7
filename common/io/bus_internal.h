/* What the files of the bus share with each other, and nobody else includes. */
#ifndef ATL_IO_BUS_INTERNAL_H
#define ATL_IO_BUS_INTERNAL_H

#include <zmq.h>

#include "atoll/bus/v1/bus.pb-c.h"
#include "atoll/bus/v1/service.atl.h"
#include "io/bus.h"
#include "io/directory.h"
#include "pure/codec.h"

enum {
    BUS_VERSION = 1,
    BUS_HEADER_MAX = 64 << 10,
    BUS_ASSERTION_MAX = 8 << 10,
    BUS_IDENTITY_MAX = 32,
    BUS_PATH_MAX = 108,          /* sun_path */
    BUS_SERVED_MAX = 512,        /* requests being served, per caller */
    BUS_SERVED_BYTES = 64 << 20, /* their payloads */
    BUS_ABANDONED_MAX = 512,     /* answered DEADLINE by the bus, handler still at it; per caller */
    BUS_WAITERS_MAX = 4,         /* connections that wait for one request */
    BUS_DONE_MAX = 10000,        /* answers kept for retries, per caller */
    BUS_DONE_BYTES = 8 << 20,
    BUS_CALLS_MAX = 4096, /* calls in flight, per service called */
    BUS_CALL_BYTES = 64 << 20,
    BUS_RETRIES_MAX = 3,
    BUS_PEERS_MAX = 32,         /* services called on this node */
    BUS_REMOTE_PEERS_MAX = 512, /* and on others */
    BUS_MEMBERS_TRIED = 8,      /* by one call to any node */
    BUS_LABEL_MAX = 112,        /* "service on node" */
    BUS_QUEUE_MESSAGES = 1024,  /* high-water marks */
    BUS_POOL_ARENAS = 64,
    BUS_POOL_ARENA_BYTES = 32 << 10,
};
#define BUS_DONE_LIFE    (10 * ATL_MINUTE)
#define BUS_GRACE        (2 * ATL_SECOND) /* how long a call waits for a peer that is not there */
#define BUS_SILENCE      (400 * ATL_MS)   /* how long on tcp, if nothing at all comes from there */
#define BUS_ANSWER_GRACE (5 * ATL_SECOND) /* after the deadline, until the bus answers for the handler */
#define BUS_LONGEST_CALL (24 * ATL_HOUR)
#define BUS_SERVER_TICK  (100 * ATL_MS)
#define BUS_PEER_TICK    (20 * ATL_MS)

typedef Atoll__Bus__V1__Header bus_header;

/* --- wire (bus_wire.c) --- */

struct bus_identity {
    uint8_t size;
    uint8_t bytes[BUS_IDENTITY_MAX];
};

/* Up to three parts of one message; parts beyond are read and dropped. Returns how many there were, 0:
 * nothing. */
int atl_bus_receive(void *socket, zmq_msg_t parts[3]);
void atl_bus_parts_close(zmq_msg_t parts[3]);
/* Unpacks and checks the parts every header must have; NULL: garbage. */
bus_header *atl_bus_header_read(const void *bytes, size_t size, struct atl_arena *arena);
void atl_bus_header_pack(const bus_header *header, zmq_msg_t *ret_frame);
void atl_bus_message_pack(const ProtobufCMessage *message, zmq_msg_t *ret_frame);
/* Sends header and payload (shared, not taken); identity may be NULL. false: no room or nobody there. */
bool atl_bus_send(void *socket, struct atl_watch *watch, const struct bus_identity *identity,
                  zmq_msg_t *header, zmq_msg_t *payload);
void *atl_bus_socket(struct atl_bus *bus, int type);
/* RUN/bus/SERVICE/FOLDER/FILE as ipc endpoint; false when it is too long for a unix socket. */
bool atl_bus_endpoint(const struct atl_bus *bus, const char *service, const char *folder, const char *file,
                      char endpoint[BUS_PATH_MAX + 8]);
/* Watches a socket's connection events; fn gets the ZMQ_EVENT_ number. */
struct bus_monitor;
typedef void bus_monitor_fn(void *user, unsigned int event);
struct bus_monitor *atl_bus_monitor(struct atl_bus *bus, void *socket, bus_monitor_fn *fn, void *user);
void atl_bus_monitor_free(struct bus_monitor *monitor, void *socket);
char *atl_bus_unconst(const char *text); /* for protobuf-c, which has no const texts and only reads them */
uint64_t atl_bus_hash(uint64_t seed, const void *bytes, size_t size);

/* Settings of sockets on tcp: CURVE, heartbeats, bounds for connecting. */
void atl_bus_secure_server(struct atl_bus *bus, void *socket);
void atl_bus_secure_client(struct atl_bus *bus, void *socket, const uint8_t server_key[ATL_BUS_KEY_SIZE]);
/* tcp://ADDRESS:PORT; false when that is no address. */
bool atl_bus_tcp_endpoint(const char *address, unsigned int port, char endpoint[BUS_PATH_MAX + 8]);

/* --- how long a request from another node was under way (bus_age.c) --- */

/* What is known about one connection: the least difference of the two clocks seen is taken as no age. */
struct bus_age {
    struct bus_identity who;
    int64_t least;      /* our clock at arrival minus theirs when it was sent, in ns */
    int64_t next_least; /* of the window that runs */
    atl_ns since;       /* the window began */
    atl_ns used;        /* last message; 0: nothing is known yet */
};
enum { BUS_AGES = 4 }; /* connections of one caller that are told apart */
atl_ns atl_bus_age(struct bus_age ages[BUS_AGES], const struct bus_identity *who, int64_t sent_at,
                   atl_ns now);

/* --- a map by request id (bus_map.c); several nodes may have one id --- */

struct bus_node {
    struct bus_node *next;
    uint8_t id[ATL_REQUEST_ID_SIZE];
};
struct bus_map {
    struct bus_node **buckets;
    size_t size;
    size_t count;
};
void atl_bus_map_add(struct bus_map *map, struct bus_node *node);
void atl_bus_map_remove(struct bus_map *map, struct bus_node *node);
struct bus_node *atl_bus_map_find(const struct bus_map *map, const uint8_t *id);
void atl_bus_map_done(struct bus_map *map);

/* --- answers kept for retries (bus_done.c) --- */

struct bus_done {
    struct bus_node node; /* first: the map's nodes are these */
    struct bus_done *newer;
    atl_ns at;
    uint64_t fingerprint; /* of method, user and payload */
    size_t size;
    zmq_msg_t header;
    zmq_msg_t payload;
};
struct bus_done_list {
    struct bus_map map;
    struct bus_done *oldest;
    struct bus_done *newest;
    size_t bytes;
};
void atl_bus_done_add(struct bus_done_list *list, const uint8_t *id, uint64_t fingerprint, zmq_msg_t *header,
                      zmq_msg_t *payload, atl_ns now);
struct bus_done *atl_bus_done_find(struct bus_done_list *list, const uint8_t *id, atl_ns now);
void atl_bus_done_free(struct bus_done_list *list);

/* --- serving (bus_server.c, bus_request.c) --- */

struct bus_method {
    const struct atl_rpc *rpc;
    atl_handler_fn *fn; /* NULL: known, not built */
    void *user;
};

struct bus_cursor { /* a walk over requests, any of which may be freed meanwhile */
    struct atl_request *next;
    struct bus_cursor *outer;
};

/* One caller: on ipc with a ROUTER of its own; from another node with its share of the listener's. */
struct bus_port {
    struct bus_port *next;
    struct atl_bus *bus;
    char *caller;
    char *node;   /* the caller's; NULL: this one, over ipc */
    char *label;  /* "compute-agent", "compute-agent@pve2" */
    void *socket; /* NULL: nothing is sent (the listener is down; the fuzzer) */
    struct atl_watch *watch;
    struct bus_monitor *monitor;
    struct atl_request *requests;
    struct bus_cursor *cursors;
    size_t served;
    size_t abandoned;
    size_t bytes;
    struct bus_done_list done;
    unsigned int probes;           /* rounds in which connections are still to be looked at after one broke */
    uint64_t garbage;              /* messages that were none */
    uint64_t total;                /* requests so far */
    uint8_t key[ATL_BUS_KEY_SIZE]; /* from another node: by which it was admitted */
    bool admitted;                 /* since the listener was opened */
    struct bus_age ages[BUS_AGES];
};

enum bus_request_state { BUS_WAITING, BUS_SERVED, BUS_ABANDONED };

struct atl_request {
    struct bus_port *port;
    struct atl_request *next;
    struct atl_request *previous;
    const struct bus_method *method;
    struct atl_arena *arena; /* holds this struct too */
    const ProtobufCMessage *input;
    const bus_header *header;
    struct atl_principal principal;
    atl_ns deadline; /* monotonic */
    uint64_t fingerprint;
    size_t size;
    struct bus_identity waiters[BUS_WAITERS_MAX];
    unsigned int waiter_count;
    void (*on_cancel)(struct atl_request *, void *);
    void *cancel_user;
    struct atl_call *children;
    bool *gone; /* set when it is freed while it is being cancelled */
    enum bus_request_state state;
    bool cancelled;
};

enum atl_code atl_bus_make_folders(struct atl_bus *bus, const char *const *callers, struct atl_error *err);
enum atl_code atl_bus_ports_open(struct atl_bus *bus, struct atl_error *err);
struct bus_port *atl_bus_port_new(struct atl_bus *bus, const char *caller, const char *node);
void atl_bus_port_free(struct bus_port *port);
/* A connection broke; which one, ZeroMQ does not say. */
void atl_bus_port_probe(struct bus_port *port);
/* No connection is left: what is served has nobody who waits for it. */
void atl_bus_port_cut(struct bus_port *port);
/* A message from a connection: what the fuzzer calls. */
void atl_bus_port_message(struct bus_port *port, const struct bus_identity *from, zmq_msg_t *header,
                          zmq_msg_t *payload);
void atl_bus_request_new(struct bus_port *port, const struct bus_identity *from, const bus_header *header,
                         zmq_msg_t *payload, struct atl_arena *arena);
void atl_bus_request_advance(struct atl_request *request);
void atl_bus_request_cancel(struct atl_request *request);
void atl_bus_request_free(struct atl_request *request);
void atl_bus_request_tick(struct atl_request *request);
/* Answers on the bus's own account. not_executed: no handler saw it. */
void atl_bus_refuse(struct bus_port *port, const struct bus_identity *to, const bus_header *request,
                    const struct atl_error *error, const struct atl_errors *fields);
const struct bus_method *atl_bus_method(const struct atl_bus *bus, const char *name);
void atl_bus_add_method(struct atl_bus *bus, const struct bus_method *method);
void atl_bus_server_tick_start(struct atl_bus *bus);

/* --- serving other nodes (bus_listen.c, bus_zap.c) --- */

struct bus_listener;

/* Opens, moves or closes the sockets on tcp as the directory says now, and cuts who is not in it any more. */
void atl_bus_listener_update(struct atl_bus *bus);
void atl_bus_listener_free(struct bus_listener *listener); /* after the ports */
void atl_bus_listener_publish(struct bus_listener *listener, const char *topic, zmq_msg_t *frame);

struct bus_bytes {
    const uint8_t *data;
    size_t size;
};
enum { BUS_ZAP_PARTS = 8 };
/* The key that a request of the ZeroMQ Authentication Protocol shows; NULL: it is none of CURVE. */
const uint8_t *atl_bus_zap_key(const struct bus_bytes parts[BUS_ZAP_PARTS], size_t count);

/* --- other nodes (bus_cluster.c) --- */

struct bus_cluster {
    struct atl_directory *directory;
    uint8_t public_key[ATL_BUS_KEY_SIZE];
    uint8_t secret_key[ATL_BUS_KEY_SIZE];
    bool associate;
    struct atl_timer *sweep; /* frees peers and ports of nodes that are gone */
};
void atl_bus_cluster_done(struct atl_bus *bus);

/* --- calling (bus_client.c, bus_peer.c, bus_any.c) --- */

enum bus_call_state { BUS_LOCAL, BUS_QUEUED, BUS_SENT };

struct atl_call {
    struct bus_node node; /* first */
    struct atl_bus *bus;
    struct bus_peer *peer;
    char *method;
    struct atl_call *next; /* of the peer's queued or sent ones */
    struct atl_call *previous;
    const struct atl_rpc *rpc;
    zmq_msg_t payload;
    size_t size;
    uint8_t *assertion;
    size_t assertion_size;
    char *task;
    uint8_t trace[ATL_REQUEST_ID_SIZE];
    struct atl_revision min_revision;
    atl_ns deadline; /* monotonic */
    struct atl_timer *timer;
    atl_ns grace_end;    /* while queued */
    atl_ns not_before;   /* while queued */
    uint64_t connection; /* of the peer, when it was sent */
    unsigned int retries;
    enum bus_call_state state;
    bool ever_sent;
    bool any; /* node: whichever is well */
    unsigned char tried_count;
    struct bus_peer *tried[BUS_MEMBERS_TRIED]; /* compared only */
    struct atl_error *failed;    /* how it ends when nobody else answers: BUS_LOCAL, or refused by the last */
    struct atl_call *local_next; /* of those that failed before they were queued */
    struct atl_call *local_previous;
    atl_reply_fn *fn;
    void *user;
    struct atl_request *parent;
    struct atl_call *next_child;
    struct atl_call *previous_child;
};

struct bus_calls {
    struct atl_call *first;
    struct atl_call *last;
};

struct bus_peer {
    struct bus_peer *next;
    struct atl_bus *bus;
    char *service;
    char *node; /* NULL: this one, over ipc */
    char label[BUS_LABEL_MAX];
    void *socket; /* NULL: waits to be opened again */
    struct atl_watch *watch;
    struct bus_monitor *monitor;
    struct atl_timer *tick;
    struct bus_calls queued;
    struct bus_calls sent;
    size_t calls;
    size_t bytes;
    atl_ns reopen_at;
    atl_ns backoff;
    uint64_t connection; /* counts them */
    bool connected;
    atl_ns answered_at; /* last */
    atl_ns failed_at;   /* calls ended because it is not there */
    /* on tcp */
    char address[64]; /* as they were when the socket was opened */
    uint8_t key[ATL_BUS_KEY_SIZE];
    atl_ns tried_at; /* to connect */
    atl_ns alive_at; /* its node said at least that nobody listens */
};

/* node NULL: this one. NULL: too many. The first opens no connection. */
struct bus_peer *atl_bus_peer_find(struct atl_bus *bus, const char *service, const char *node);
void atl_bus_peer_wake(struct bus_peer *peer);
struct bus_peer *atl_bus_peer(struct atl_bus *bus, const char *service, const char *node);
/* The directory changed. */
void atl_bus_peer_update(struct bus_peer *peer);
/* Why it cannot be reached at all by what the directory says; NULL: it can. */
const char *atl_bus_peer_unknown(const struct bus_peer *peer);
/* The member to call next, of those that the call has not tried; NULL: none is left. */
struct bus_peer *atl_bus_any(struct atl_call *call, const char *service);
void atl_bus_peer_free(struct bus_peer *peer);
/* A message that came back: what the fuzzers call. */
void atl_bus_peer_message(struct bus_peer *peer, zmq_msg_t *frame, zmq_msg_t *payload);
void atl_bus_peer_queue(struct bus_peer *peer, struct atl_call *call);
void atl_bus_peer_queue_first(struct bus_peer *peer, struct atl_call *call);
void atl_bus_peer_flush(struct bus_peer *peer);
void atl_bus_peer_drop_call(struct atl_call *call); /* out of its peer's lists */
bool atl_bus_call_send(struct atl_call *call);
void atl_bus_call_answered(struct atl_call *call, const bus_header *header, zmq_msg_t *payload,
                           struct atl_arena *arena);
void atl_bus_call_unavailable(struct atl_call *call, const char *why);
/* Queues it again if it may be; false: it has to end. */
bool atl_bus_call_retry(struct atl_call *call, bool surely_not_executed);
void atl_bus_call_abort(struct atl_call *call); /* ends CANCELLED, with its callback */
void atl_bus_call_free(struct atl_call *call);

/* --- events (bus_publish.c, bus_subscribe.c) --- */

struct bus_publisher;
struct bus_subscriber;

enum atl_code atl_bus_publisher_open(struct atl_bus *bus, struct atl_error *err);
void atl_bus_publisher_free(struct bus_publisher *publisher);
void atl_bus_replay(struct atl_request *request, const ProtobufCMessage *input, void *user);
void atl_bus_subscribers_free(struct atl_bus *bus);
void atl_bus_subscribers_update(struct atl_bus *bus); /* the directory changed */
/* An event or a beat that came: what the fuzzer calls. */
void atl_bus_subscriber_message(struct bus_subscriber *subscriber, zmq_msg_t *topic, zmq_msg_t *frame);

/* --- the methods every service has (bus_builtin.c) --- */

#define atl_bus_rpc_replay atl_rpc_bus_v1_Events_Replay
#define atl_bus_rpc_ping   atl_rpc_bus_v1_Health_Ping
void atl_bus_serve_builtin(struct atl_bus *bus);

/* --- the bus --- */

struct bus_stub {
    ProtobufCService base; /* first */
    struct atl_bus *bus;
    const struct atl_service *service;
    struct bus_stub *next;
};

struct atl_bus {
    struct atl_loop *loop;
    void *context;
    char *service;
    char *node;
    char *run_dir;
    char *version;
    struct atl_guard guard;
    bool starting;
    atl_ns opened_at; /* monotonic */
    uint64_t epoch;   /* wall clock in ns: of our events */
    uint64_t monitors;
    struct bus_method **methods; /* open addressing by name */
    size_t method_slots;
    size_t method_count;
    struct bus_port *ports;
    struct atl_timer *server_tick;
    struct bus_peer *peers;
    size_t peer_count;
    struct bus_map calls;
    struct atl_call *local;
    size_t remote_count; /* peers on other nodes */
    struct bus_publisher *publisher;
    struct bus_subscriber *subscribers;
    struct bus_cluster *cluster;   /* NULL: other nodes are not known */
    struct bus_listener *listener; /* NULL: nobody may call from other nodes */
    struct bus_stub *stubs;
    struct atl_arena *pool[BUS_POOL_ARENAS];
    size_t pool_count;
    uint8_t random[4096];
    size_t random_left;
};

struct atl_arena *atl_bus_arena_take(struct atl_bus *bus);
void atl_bus_arena_give(struct atl_bus *bus, struct atl_arena *arena);
void atl_bus_new_id(struct atl_bus *bus, uint8_t id[ATL_REQUEST_ID_SIZE]);

#endif
