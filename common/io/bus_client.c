/* Calling: one call from its start to its callback. */
#include <stdlib.h>
#include <string.h>

#include "io/bus_internal.h"
#include "pure/newer.h"

/* --- ends --- */

static void leave_parent(struct atl_call *call)
{
    if (call->parent == NULL)
        return;
    if (call->previous_child != NULL)
        call->previous_child->next_child = call->next_child;
    else
        call->parent->children = call->next_child;
    if (call->next_child != NULL)
        call->next_child->previous_child = call->previous_child;
    call->parent = NULL;
}

void atl_bus_call_free(struct atl_call *call)
{
    atl_bus_peer_drop_call(call);
    leave_parent(call);
    atl_timer_free(call->timer);
    atl_bus_map_remove(&call->bus->calls, &call->node);
    if (call->local_previous != NULL)
        call->local_previous->local_next = call->local_next;
    else if (call->bus->local == call)
        call->bus->local = call->local_next;
    if (call->local_next != NULL)
        call->local_next->local_previous = call->local_previous;
    if (call->peer != NULL) {
        call->peer->calls--;
        call->peer->bytes -= call->size;
    }
    (void)zmq_msg_close(&call->payload); /* fails for uninitialised messages only */
    free(call->assertion);
    free(call->task);
    free(call->failed);
    free(call);
}

/* The callback, once, and the end of the call. */
static void finish(struct atl_call *call, struct atl_reply *reply)
{
    atl_reply_fn *fn = call->fn;
    void *user = call->user;
    atl_bus_call_free(call);
    fn(reply, user);
}

static void finish_error(struct atl_call *call, const struct atl_error *error)
{
    struct atl_bus *bus = call->bus;
    struct atl_arena *arena = atl_bus_arena_take(bus);
    struct atl_reply reply = {.code = error->code, .sent = call->ever_sent, .error = *error, .arena = arena};
    finish(call, &reply);
    atl_bus_arena_give(bus, arena);
}

static void send_cancel(struct atl_call *call)
{
    if (call->state != BUS_SENT || call->peer->socket == NULL)
        return;
    bus_header cancel;
    atoll__bus__v1__header__init(&cancel);
    cancel.has_version = 1;
    cancel.version = BUS_VERSION;
    cancel.has_kind = 1;
    cancel.kind = ATOLL__BUS__V1__HEADER__KIND__CANCEL;
    cancel.has_request_id = 1;
    cancel.request_id = (ProtobufCBinaryData){.len = ATL_REQUEST_ID_SIZE, .data = call->node.id};
    zmq_msg_t header;
    zmq_msg_t payload;
    atl_bus_header_pack(&cancel, &header);
    (void)zmq_msg_init(&payload);
    (void)atl_bus_send(call->peer->socket, call->peer->watch, NULL, &header,
                       &payload); /* the deadline ends it otherwise */
    (void)zmq_msg_close(&header);
    (void)zmq_msg_close(&payload);
}

void atl_call_cancel(struct atl_call *call)
{
    send_cancel(call);
    atl_bus_call_free(call);
}

void atl_bus_call_abort(struct atl_call *call)
{
    struct atl_error error;
    (void)atl_fail(&error, ATL_E_CANCELLED, NULL, "%s was cancelled", call->rpc->name);
    send_cancel(call);
    finish_error(call, &error);
}

/* Another member is asked in the place of the one that does not answer, or not yet. False: there is none. */
static bool move_on(struct atl_call *call, bool surely_not_executed)
{
    bool may = surely_not_executed || !call->ever_sent || (call->rpc->flags & ATL_R_IDEMPOTENT);
    if (!call->any || !may || atl_clock_monotonic() >= call->deadline)
        return false;
    struct bus_peer *next = atl_bus_any(call, call->peer->service);
    if (next == NULL)
        return false;
    atl_bus_peer_drop_call(call);
    call->peer->calls--;
    call->peer->bytes -= call->size;
    call->peer = next;
    next->calls++;
    next->bytes += call->size;
    call->not_before = 0;
    call->grace_end = atl_clock_monotonic() + BUS_GRACE;
    atl_bus_peer_queue(next, call);
    return true;
}

void atl_bus_call_unavailable(struct atl_call *call, const char *why)
{
    call->peer->failed_at = atl_clock_monotonic();
    if (move_on(call, false))
        return;
    struct atl_error error;
    if (call->failed != NULL)
        error = *call->failed;
    else
        (void)atl_fail(&error, ATL_E_UNAVAILABLE, NULL, "%s %s", call->peer->label, why);
    finish_error(call, &error);
}

static void timed_out(void *user)
{
    struct atl_call *call = user;
    struct atl_error error;
    call->timer = NULL; /* it frees itself */
    if (call->failed != NULL) {
        error = *call->failed;
    } else {
        (void)atl_fail(&error, ATL_E_DEADLINE, NULL, "%s did not answer %s in time", call->peer->label,
                       call->rpc->name);
        send_cancel(call);
        if (call->any) /* until it answers anything, the next call asks another one first */
            call->peer->failed_at = atl_clock_monotonic();
    }
    finish_error(call, &error);
}

/* --- answers --- */

bool atl_bus_call_retry(struct atl_call *call, bool surely_not_executed)
{
    atl_ns now = atl_clock_monotonic();
    bool may = surely_not_executed || (call->rpc->flags & ATL_R_IDEMPOTENT);
    atl_ns pause = surely_not_executed ? (20 * ATL_MS) << (2 * call->retries) : 0;
    if (!may || call->retries >= BUS_RETRIES_MAX || now + pause >= call->deadline)
        return false;
    call->retries++;
    atl_bus_peer_drop_call(call);
    call->not_before = pause > 0 ? now + pause : 0;
    call->grace_end = now + pause + BUS_GRACE;
    atl_bus_peer_queue_first(call->peer, call);
    return true;
}

static void fill_errors(struct atl_reply *reply, const struct atl_rpc *rpc, const bus_header *header)
{
    char newer[ATL_NEWER_MAX];
    if (header->message != NULL)
        (void)atl_fail(&reply->error, reply->code, header->field, "%s", header->message);
    else
        (void)atl_fail(&reply->error, reply->code, header->field, "%s", atl_code_to_text(reply->code));
    if (atl_newer_name(rpc->input, reply->error.field, newer))
        (void)atl_copy(reply->error.field, sizeof reply->error.field, newer);
    if (header->n_errors == 0)
        return;
    struct atl_errors *errors = atl_arena_new(reply->arena, struct atl_errors);
    for (size_t i = 0; i < header->n_errors; i++)
        if (header->errors[i]->field != NULL && header->errors[i]->text != NULL)
            atl_errors_add(errors, header->errors[i]->field, "%s", header->errors[i]->text);
    reply->errors = errors;
}

/* Another one is asked after this answer; it stands when that one cannot be reached. */
static bool ask_another(struct atl_call *call, const bus_header *header, bool not_executed)
{
    free(call->failed);
    call->failed = atl_new0(struct atl_error);
    (void)atl_fail(call->failed, ATL_E_UNAVAILABLE, header->field, "%s",
                   header->message != NULL ? header->message : atl_code_to_text(ATL_E_UNAVAILABLE));
    return move_on(call, not_executed) || (not_executed && atl_bus_call_retry(call, true));
}

void atl_bus_call_answered(struct atl_call *call, const bus_header *header, zmq_msg_t *payload,
                           struct atl_arena *arena)
{
    bool not_executed = header->has_not_executed && header->not_executed;
    struct atl_reply reply = {.code =
                                  header->status < ATL_CODES ? (enum atl_code)header->status : ATL_E_UNKNOWN,
                              .arena = arena,
                              .packed = zmq_msg_data(payload),
                              .packed_size = zmq_msg_size(payload)};
    if (reply.code == ATL_E_UNAVAILABLE && ask_another(call, header, not_executed))
        return;
    reply.sent = !not_executed || call->retries > 0;
    if (header->revision != NULL)
        reply.revision =
            (struct atl_revision){.epoch = header->revision->epoch, .number = header->revision->number};
    if (reply.code == ATL_OK) {
        reply.output = atl_unpack(call->rpc->output, reply.packed, reply.packed_size, arena);
        if (reply.output == NULL)
            reply.code = atl_fail(&reply.error, ATL_E_INTERNAL, NULL, "%s answered %s with something else",
                                  call->peer->label, call->rpc->name);
    } else {
        fill_errors(&reply, call->rpc, header);
    }
    finish(call, &reply);
}

/* --- starts --- */

static void fill_request(struct atl_call *call, bus_header *header, Atoll__Bus__V1__Revision *revision)
{
    atoll__bus__v1__header__init(header);
    header->has_version = 1;
    header->version = BUS_VERSION;
    header->has_kind = 1;
    header->kind = ATOLL__BUS__V1__HEADER__KIND__REQUEST;
    header->has_request_id = 1;
    header->request_id = (ProtobufCBinaryData){.len = ATL_REQUEST_ID_SIZE, .data = call->node.id};
    header->method = call->method;
    header->has_sent_at_ns = 1;
    header->sent_at_ns = atl_clock_boot();
    header->has_remaining_ns = 1;
    header->remaining_ns = call->deadline - atl_clock_monotonic();
    header->has_trace_id = 1;
    header->trace_id = (ProtobufCBinaryData){.len = ATL_REQUEST_ID_SIZE, .data = call->trace};
    header->has_assertion = call->assertion_size > 0;
    header->assertion = (ProtobufCBinaryData){.len = call->assertion_size, .data = call->assertion};
    header->on_behalf_task = call->task;
    if (call->min_revision.epoch == 0 && call->min_revision.number == 0)
        return;
    atoll__bus__v1__revision__init(revision);
    revision->has_epoch = 1;
    revision->epoch = call->min_revision.epoch;
    revision->has_number = 1;
    revision->number = call->min_revision.number;
    header->min_revision = revision;
}

bool atl_bus_call_send(struct atl_call *call)
{
    if (call->peer->socket == NULL || !call->peer->connected)
        return false;
    bus_header header;
    Atoll__Bus__V1__Revision revision;
    zmq_msg_t frame;
    fill_request(call, &header, &revision);
    atl_bus_header_pack(&header, &frame);
    bool sent = atl_bus_send(call->peer->socket, call->peer->watch, NULL, &frame, &call->payload);
    (void)zmq_msg_close(&frame);
    if (sent) { /* from now on its answer counts */
        call->ever_sent = true;
        free(call->failed);
        call->failed = NULL;
    }
    call->connection = call->peer->connection;
    return sent;
}

static void fail_later(struct atl_call *call, const struct atl_error *error)
{
    call->failed = atl_new0(struct atl_error);
    *call->failed = *error;
    atl_timer_free(call->timer);
    call->timer = atl_loop_timer(call->bus->loop, 0, 0, timed_out, call);
    call->local_next = call->bus->local;
    if (call->bus->local != NULL)
        call->bus->local->local_previous = call;
    call->bus->local = call;
}

static enum atl_code check_call(const struct atl_call *call, struct atl_error *err)
{
    if (call->size > ATL_BUS_MESSAGE_MAX)
        return atl_fail(err, ATL_E_LIMIT, NULL, "%s: the request is larger than %d bytes", call->rpc->name,
                        ATL_BUS_MESSAGE_MAX);
    if (call->peer == NULL)
        return atl_fail(err, ATL_E_LIMIT, NULL, "%s: more services are called than %d here and %d elsewhere",
                        call->rpc->name, BUS_PEERS_MAX, BUS_REMOTE_PEERS_MAX);
    if (call->parent != NULL && call->parent->cancelled)
        return atl_fail(err, ATL_E_CANCELLED, NULL, "%s: the request it was for is cancelled",
                        call->rpc->name);
    if (call->deadline <= atl_clock_monotonic())
        return atl_fail(err, ATL_E_DEADLINE, NULL, "%s: no time is left for the call", call->rpc->name);
    const char *unknown = atl_bus_peer_unknown(call->peer);
    if (unknown != NULL)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "%s %s", call->peer->label, unknown);
    if (call->peer->calls > BUS_CALLS_MAX ||
        (call->peer->bytes > BUS_CALL_BYTES && call->peer->bytes > call->size))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "too many calls to %s are in flight, try again later",
                        call->peer->label);
    return ATL_OK;
}

static void take_parent(struct atl_call *call, struct atl_request *parent)
{
    call->parent = parent;
    call->next_child = parent->children;
    if (parent->children != NULL)
        parent->children->previous_child = call;
    parent->children = call;
    if (parent->header->trace_id.len == ATL_REQUEST_ID_SIZE)
        memcpy(call->trace, parent->header->trace_id.data, ATL_REQUEST_ID_SIZE);
    if (parent->deadline < call->deadline)
        call->deadline = parent->deadline;
}

static void take_options(struct atl_call *call, const struct atl_call_options *options)
{
    const uint8_t *assertion = options->assertion;
    call->assertion_size = options->assertion_size;
    const char *task = options->task;
    call->min_revision = options->min_revision;
    if (options->parent != NULL) {
        if (assertion == NULL)
            assertion = atl_request_assertion(options->parent, &call->assertion_size);
        if (task == NULL)
            task = options->parent->header->on_behalf_task;
    }
    if (assertion == NULL)
        call->assertion_size = 0;
    if (call->assertion_size > 0) {
        call->assertion = atl_alloc0(call->assertion_size);
        memcpy(call->assertion, assertion, call->assertion_size);
    }
    if (task != NULL)
        call->task = atl_strdup(task);
}

static void find_peer(struct atl_call *call, const struct atl_call_options *options)
{
    const char *service = options->service != NULL ? options->service : call->rpc->service->server;
    call->any = options->node != NULL && strcmp(options->node, ATL_ANY_NODE) == 0;
    call->peer = call->any ? atl_bus_any(call, service) : atl_bus_peer(call->bus, service, options->node);
}

static struct atl_call *start(struct atl_bus *bus, const struct atl_rpc *rpc, zmq_msg_t *payload,
                              const struct atl_call_options *options, atl_reply_fn *fn, void *user)
{
    static const struct atl_call_options none = {0};
    if (options == NULL)
        options = &none;
    struct atl_call *call = atl_new0(struct atl_call);
    call->bus = bus;
    call->rpc = rpc;
    call->fn = fn;
    call->user = user;
    call->method = atl_bus_unconst(rpc->name);
    (void)zmq_msg_init(&call->payload);
    int rc = zmq_msg_move(&call->payload, payload);
    atl_assert(rc == 0);
    call->size = zmq_msg_size(&call->payload);
    if (options->request_id != NULL)
        memcpy(call->node.id, options->request_id, ATL_REQUEST_ID_SIZE);
    else
        atl_bus_new_id(bus, call->node.id);
    memcpy(call->trace, call->node.id, ATL_REQUEST_ID_SIZE);
    atl_ns now = atl_clock_monotonic();
    atl_ns span = options->deadline > 0 ? options->deadline : rpc->deadline_ms * ATL_MS;
    call->deadline = now + span;
    take_options(call, options);
    if (options->parent != NULL)
        take_parent(call, options->parent);
    call->grace_end = now + BUS_GRACE;
    atl_bus_map_add(&bus->calls, &call->node);
    find_peer(call, options);
    if (call->peer != NULL) {
        call->peer->calls++;
        call->peer->bytes += call->size;
    }
    struct atl_error error;
    if (check_call(call, &error) != ATL_OK) {
        fail_later(call, &error);
        return call;
    }
    call->timer = atl_loop_timer(bus->loop, call->deadline - now, 0, timed_out, call);
    atl_bus_peer_queue(call->peer, call);
    return call;
}

struct atl_call *atl_bus_call(struct atl_bus *bus, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                              const struct atl_call_options *options, atl_reply_fn *fn, void *user)
{
    atl_assert(input->descriptor == rpc->input->descriptor);
    zmq_msg_t payload;
    atl_bus_message_pack(input, &payload);
    return start(bus, rpc, &payload, options, fn, user);
}

struct atl_call *atl_bus_call_packed(struct atl_bus *bus, const struct atl_rpc *rpc, const void *packed,
                                     size_t size, const struct atl_call_options *options, atl_reply_fn *fn,
                                     void *user)
{
    zmq_msg_t payload;
    int rc = zmq_msg_init_size(&payload, size);
    atl_assert(rc == 0); /* fails when memory is out only */
    if (size > 0)
        memcpy(zmq_msg_data(&payload), packed, size);
    return start(bus, rpc, &payload, options, fn, user);
}

/* --- waiting --- */

struct waiting {
    const struct atl_rpc *rpc;
    struct atl_arena *arena;
    const ProtobufCMessage *output;
    struct atl_error error;
    enum atl_code code;
    bool done;
};

static void waited(const struct atl_reply *reply, void *user)
{
    struct waiting *waiting = user;
    waiting->done = true;
    waiting->code = reply->code;
    waiting->error = reply->error;
    if (reply->code == ATL_OK) /* once more, into memory that outlives the callback */
        waiting->output = atl_unpack(waiting->rpc->output, reply->packed, reply->packed_size, waiting->arena);
}

enum atl_code atl_bus_call_wait(struct atl_bus *bus, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                                const struct atl_call_options *options, struct atl_arena *arena,
                                const ProtobufCMessage **ret_output, struct atl_error *err)
{
    struct waiting waiting = {.rpc = rpc, .arena = arena};
    (void)atl_bus_call(bus, rpc, input, options, waited, &waiting); /* ends by its deadline */
    while (!waiting.done)
        atl_loop_step(bus->loop, -1);
    if (waiting.code != ATL_OK) {
        if (err != NULL)
            *err = waiting.error;
        return waiting.code;
    }
    *ret_output = waiting.output;
    return ATL_OK;
}
