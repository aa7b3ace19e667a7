/*
 * The bus: protobuf messages between services over ZeroMQ, asynchronous, every call with a deadline.
 *
 * On one machine each service binds, for every caller it knows, a ROUTER at
 *     RUN/bus/SERVICE/CALLER/rpc.sock
 * in a folder that the launcher made with owner SERVICE and group CALLER, mode 0750: who may connect there is
 * who may open the folder, so the kernel says who is calling and nothing can be spoofed or raced
 * (docs/decisions/0003). CALLER is a service name or "cli" (root only). Events go out on
 * RUN/bus/SERVICE/events/pub.sock.
 *
 * In a cluster (atl_bus_join_cluster) each service also listens at tcp://ADDRESS:PORT of its node's record in
 * the directory, with CURVE; who calls from another node is said by the key, which the directory maps to
 * (service, node). Limits, kept answers and the methods' lists of callers hold for such a caller as on ipc.
 * Clocks are not shared there: a request's age is measured against the quickest ones of its connection.
 * Heartbeats every 250 ms; 750 ms without an answer end a connection, and another 400 ms without any sign of
 * life end the calls that wait for the next, so a dead node is UNAVAILABLE after 0.4 to 1.5 s.
 *
 * A message is two frames behind the identity: Header (bus.proto) and payload. Sockets are IMMEDIATE, bounded
 * by high-water marks; one connection that breaks is dropped, its calls end ATL_E_UNAVAILABLE with `sent`
 * telling whether they may have been executed. All functions belong to the loop's thread.
 */
#ifndef ATL_IO_BUS_H
#define ATL_IO_BUS_H

#include "io/directory.h"
#include "io/loop.h"
#include "pure/arena.h"
#include "pure/contract.h"
#include "pure/error.h"

enum { ATL_BUS_MESSAGE_MAX = 16 << 20, ATL_REQUEST_ID_SIZE = 16 };

struct atl_bus;
struct atl_call;    /* a call in flight, at the caller */
struct atl_request; /* a call being served */

struct atl_revision {
    uint64_t epoch;
    uint64_t number;
};

/* Who is asking. Texts live as long as the request. */
struct atl_principal {
    const char *service; /* the peer, as the kernel tells: "api-gateway", "cli", "compute-agent" */
    const char *node;    /* the peer's, as its key tells; NULL: this one */
    const char *user;    /* "admin@pve"; NULL: the service itself calls */
    const char *token;   /* token id, or NULL */
    const char *task;    /* UPID on whose behalf, or NULL */
};

/*
 * The guard: verifies assertions and permissions against a copy of the tree. The bus calls it for each
 * request after decoding and validation. Services without a tree copy yet (tests) may leave it out: then only
 * calls from services that the method lists are admitted.
 */
struct atl_guard {
    /* Who reaches it: the bus alone admits a service that rpc->callers lists when it calls for itself, and
     * for methods without a permission also when it passes a user's assertion on (which is not looked at
     * then). It alone refuses assertions from anybody but api-gateway, cli, task workers and listed services.
     */
    void *self;
    /* Checks the assertion (bytes, may be empty) and rpc->perm on the input; fills user and token.
     * Answers ATL_E_CONFLICT when the copy is older than the assertion: the request then waits like one with
     * a higher min_revision and is asked about again. */
    enum atl_code (*admit)(void *self, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                           const uint8_t *assertion, size_t assertion_size, struct atl_arena *arena,
                           struct atl_principal *principal, struct atl_error *err);
    /* Newest revision of the copy: requests with a higher min_revision wait until atl_bus_retry_waiting(). */
    struct atl_revision (*revision)(void *self);
    /* Nothing newer comes now, there is no quorum: what only reads is answered from the copy as it is, and
     * what would have to wait for a newer one is refused at once. NULL: never. */
    bool (*frozen)(void *self);
};

struct atl_bus_options {
    struct atl_loop *loop;
    const char *service; /* own name: "config-store", "cli" */
    const char *node;    /* own node name */
    const char *run_dir; /* "/run/atoll" */
    struct atl_guard guard;
    const char *version; /* for Health.Ping; may be NULL */
    bool client_only;    /* binds nothing: task workers and tools */
    const char *const
        *make_folders; /* tests: makes the folders of these callers (NULL-terminated); else NULL */
};

ATL_MUST_CHECK enum atl_code atl_bus_open(const struct atl_bus_options *options, struct atl_bus **ret_bus,
                                          struct atl_error *err);
/* Calls in flight end without their callbacks; requests being served are cancelled (their on_cancel runs) and
 * then freed, so do not answer them any more; sockets close without lingering. Not from inside a callback of
 * the bus. */
void atl_bus_close(struct atl_bus **bus);
/* While a service starts its methods are not there yet: they answer UNAVAILABLE then, which is tried again.
 */
void atl_bus_set_starting(struct atl_bus *bus, bool starting);
void atl_bus_set_guard(struct atl_bus *bus, const struct atl_guard *guard);
/* The loop it was opened on. */
struct atl_loop *atl_bus_loop(const struct atl_bus *bus);

struct atl_directory;

struct atl_bus_cluster {
    struct atl_directory *directory; /* borrowed until the bus is closed */
    const char *key_file; /* STATE/SERVICE/bus.key: the secret half, made if it is not there, 0600 */
    bool associate;       /* we are alone on this host: nobody here is asked, and nobody asks us from afar */
};

/* The public half of the key in such a file, which is made if it is not there. Errors: ATL_E_IO,
 * ATL_E_INVALID.
 */
ATL_MUST_CHECK enum atl_code atl_bus_key(const char *key_file, uint8_t ret_public_key[ATL_BUS_KEY_SIZE],
                                         struct atl_error *err);

/*
 * Lets the bus reach other nodes and be reached by them, as far as the directory goes: it listens when its
 * own node's record is there, at that address, and follows each change at once. Whoever loses his record is
 * cut off: all connections of the listener are closed, the others come again by themselves. Once, after
 * opening.
 *
 * Errors: ATL_E_IO the key can be neither read nor made; ATL_E_INVALID the file holds no key.
 */
ATL_MUST_CHECK enum atl_code atl_bus_join_cluster(struct atl_bus *bus, const struct atl_bus_cluster *cluster,
                                                  struct atl_error *err);
/* Our public key, 32 bytes, to be announced; after atl_bus_join_cluster(). */
const uint8_t *atl_bus_public_key(const struct atl_bus *bus);
const char *atl_bus_service(const struct atl_bus *bus);
const char *atl_bus_node(const struct atl_bus *bus);

/* Requests that waited for a revision are looked at again; the guard calls this when its copy moved. */
void atl_bus_retry_waiting(struct atl_bus *bus);

/* --- serving ----------------------------------------------------------------------------------------------
 */

/* Input is unpacked, validated and admitted; it lives in atl_request_arena(). The handler answers now or
 * later, exactly once, by atl_request_reply() or atl_request_fail(). Five seconds after the deadline the bus
 * answers DEADLINE in its place; the handler's own answer, whenever it comes, is then recorded and not sent.
 *
 * A request of a method that is not idempotent is answered once: the answer is kept for ten minutes (10,000
 * per caller, 8 MiB of them), and the same request id gets it again. That memory dies with the process: a
 * service that changes the tree also records the id in its transaction. */
typedef void atl_handler_fn(struct atl_request *request, const ProtobufCMessage *input, void *user);

struct atl_handler {
    const char *method; /* "Start" */
    atl_handler_fn *fn;
};

/* Serves the methods of one service of the contract; those not in the table answer UNIMPLEMENTED. */
void atl_bus_serve(struct atl_bus *bus, const struct atl_service *service, const struct atl_handler *handlers,
                   size_t count, void *user);

struct atl_arena *atl_request_arena(struct atl_request *request);
const struct atl_principal *atl_request_principal(const struct atl_request *request);
const struct atl_rpc *atl_request_rpc(const struct atl_request *request);
const uint8_t *atl_request_id(const struct atl_request *request); /* ATL_REQUEST_ID_SIZE bytes */
atl_ns atl_request_remaining(const struct atl_request *request);
/* The caller's assertion as it came, to be passed on in calls made for the user. */
const uint8_t *atl_request_assertion(const struct atl_request *request, size_t *ret_size);
/* Called when the caller cancels, its deadline passes or its connection breaks; the request is still to be
 * answered. */
void atl_request_on_cancel(struct atl_request *request, void (*fn)(struct atl_request *, void *), void *user);

void atl_request_reply(struct atl_request *request, const ProtobufCMessage *output); /* frees the request */
void atl_request_fail(struct atl_request *request, const struct atl_error *error,
                      const struct atl_errors *fields);

/* --- calling ----------------------------------------------------------------------------------------------
 */

struct atl_reply {
    enum atl_code code;
    bool sent;                       /* false: surely not executed, may be retried */
    struct atl_error error;          /* when code != OK */
    const struct atl_errors *errors; /* per parameter, or NULL; for the callback only */
    const ProtobufCMessage *output;  /* when OK; lives in arena, for the callback only */
    struct atl_revision revision;
    struct atl_arena *arena;
    const uint8_t *packed; /* the payload as it came */
    size_t packed_size;
};

typedef void atl_reply_fn(const struct atl_reply *reply, void *user);

/* Any instance that is well, for services that answer alike on every node: this node's; while it does not
 * answer, the one that answered last, or the next of the directory. A call that ends by its deadline has
 * asked one that may hang: the next call asks another one. What was not surely left undone is asked of
 * another only where the method is idempotent. */
#define ATL_ANY_NODE "*"

struct atl_call_options {
    atl_ns deadline;          /* from now; 0: the method's own; cut to what `parent` has left */
    const uint8_t *assertion; /* of the user, or NULL: the service itself calls */
    size_t assertion_size;
    struct atl_request *parent; /* pass its assertion, deadline, trace id, cancellation on; or NULL */
    struct atl_revision min_revision;
    const uint8_t *request_id; /* for a retry; NULL: a new one */
    const char *service;       /* NULL: rpc->service->server */
    const char *node;          /* NULL: this one; ATL_ANY_NODE */
    const char *task;          /* UPID when a task calls, or NULL */
};

/* A call to a service that is not there waits for it up to two seconds (or its deadline), so that a restart
 * is ridden out; on another node only as long as that node shows a sign of life. A node that the directory
 * does not have is UNAVAILABLE at once. What was surely not executed, and what is idempotent, is sent again
 * by itself, three times at most and within the deadline; the handler's own UNAVAILABLE is an answer and is
 * not retried, but with ATL_ANY_NODE the next instance is asked.
 *
 * Starts a call; fn is called exactly once, later, from the loop, unless cancelled. Never NULL. */
struct atl_call *atl_bus_call(struct atl_bus *bus, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                              const struct atl_call_options *options, atl_reply_fn *fn, void *user);
/* As atl_bus_call with a payload that is packed already. */
struct atl_call *atl_bus_call_packed(struct atl_bus *bus, const struct atl_rpc *rpc, const void *packed,
                                     size_t size, const struct atl_call_options *options, atl_reply_fn *fn,
                                     void *user);
void atl_call_cancel(struct atl_call *call); /* no callback any more */

/* For programs without a loop of their own (task workers, tools): runs the bus's loop until the answer is
 * there. The reply's output lives in `arena`. */
ATL_MUST_CHECK enum atl_code atl_bus_call_wait(struct atl_bus *bus, const struct atl_rpc *rpc,
                                               const ProtobufCMessage *input,
                                               const struct atl_call_options *options,
                                               struct atl_arena *arena, const ProtobufCMessage **ret_output,
                                               struct atl_error *err);

/* A ProtobufCService whose generated stubs call over this bus with each method's own deadline; freed with the
 * bus. */
ProtobufCService *atl_bus_stub(struct atl_bus *bus, const struct atl_service *service);

/* --- events -----------------------------------------------------------------------------------------------
 */

/* Publishes; `change` may be NULL. Never blocks; kept in a bounded ring for replay. */
void atl_bus_publish(struct atl_bus *bus, const char *topic, const ProtobufCMessage *change);

struct atl_bus_event {
    const char *topic; /* NULL: events were lost and cannot be replayed, read the state again */
    const uint8_t *change;
    size_t change_size;
    uint64_t epoch;
    uint64_t sequence;
};
typedef void atl_event_fn(const struct atl_bus_event *event, void *user);

/* Subscribes to a publisher's topics that begin with prefix; a hole is filled by replay before what follows
 * it. The first event is one with topic NULL: from there on nothing is missed, so read the state then. */
void atl_bus_subscribe(struct atl_bus *bus, const char *service, const char *prefix, atl_event_fn *fn,
                       void *user);

/* Where events come from. */
struct atl_source {
    const char *service;
    const char *node; /* NULL: this one */
};
/* The same from another node. A node that the directory does not have yet is waited for. */
void atl_bus_subscribe_at(struct atl_bus *bus, const struct atl_source *source, const char *prefix,
                          atl_event_fn *fn, void *user);

#endif
