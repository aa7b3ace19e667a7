/* The life of one request at the service: checked, admitted, handled, answered once. */
#include <stdlib.h>
#include <string.h>

#include "io/bus_internal.h"
#include "io/log.h"
#include "pure/newer.h"

/* --- answering --- */

static void send_to_waiters(struct atl_request *request, zmq_msg_t *header, zmq_msg_t *payload)
{
    for (unsigned int i = 0; i < request->waiter_count; i++) /* one that is gone or does not read loses it */
        (void)atl_bus_send(request->port->socket, request->port->watch, &request->waiters[i], header,
                           payload);
}

static void set_revision(struct atl_bus *bus, bus_header *reply, Atoll__Bus__V1__Revision *revision)
{
    if (bus->guard.revision == NULL)
        return;
    struct atl_revision seen = bus->guard.revision(bus->guard.self);
    atoll__bus__v1__revision__init(revision);
    revision->has_epoch = 1;
    revision->epoch = seen.epoch;
    revision->has_number = 1;
    revision->number = seen.number;
    reply->revision = revision;
}

static void reply_init(bus_header *reply, const bus_header *request, enum atl_code code)
{
    atoll__bus__v1__header__init(reply);
    reply->has_version = 1;
    reply->version = BUS_VERSION;
    reply->has_kind = 1;
    reply->kind = ATOLL__BUS__V1__HEADER__KIND__REPLY;
    reply->has_request_id = 1;
    reply->request_id = request->request_id;
    reply->has_status = 1;
    reply->status = code;
}

static void pack_error(struct atl_bus *bus, const bus_header *request, const struct atl_error *error,
                       const struct atl_errors *fields, bool not_executed, zmq_msg_t *ret_frame)
{
    bus_header reply;
    Atoll__Bus__V1__Revision revision;
    Atoll__Bus__V1__FieldError items[ATL_ERRORS_MAX];
    Atoll__Bus__V1__FieldError *pointers[ATL_ERRORS_MAX];
    reply_init(&reply, request, error->code);
    set_revision(bus, &reply, &revision);
    reply.field = error->field[0] != '\0' ? atl_bus_unconst(error->field) : NULL;
    reply.message = atl_bus_unconst(error->text);
    reply.has_not_executed = not_executed;
    reply.not_executed = not_executed;
    for (size_t i = 0; fields != NULL && i < fields->count; i++) {
        atoll__bus__v1__field_error__init(&items[i]);
        items[i].field = atl_bus_unconst(fields->items[i].field);
        items[i].text = atl_bus_unconst(fields->items[i].text);
        pointers[i] = &items[i];
        reply.n_errors = i + 1;
        reply.errors = pointers;
    }
    atl_bus_header_pack(&reply, ret_frame);
}

void atl_bus_refuse(struct bus_port *port, const struct bus_identity *to, const bus_header *request,
                    const struct atl_error *error, const struct atl_errors *fields)
{
    zmq_msg_t header;
    zmq_msg_t payload;
    pack_error(port->bus, request, error, fields, true, &header);
    (void)zmq_msg_init(&payload);
    (void)atl_bus_send(port->socket, port->watch, to, &header, &payload); /* who is gone needs no answer */
    (void)zmq_msg_close(&header);
    (void)zmq_msg_close(&payload);
}

static bool recorded(const struct atl_request *request, enum atl_code code)
{
    return request->state != BUS_WAITING && (request->method->rpc->flags & ATL_R_IDEMPOTENT) == 0 &&
           code != ATL_E_CANCELLED && code != ATL_E_UNAVAILABLE;
}

/* Sends what the handler answered, records it, and frees the request. */
static void answer(struct atl_request *request, enum atl_code code, zmq_msg_t *header, zmq_msg_t *payload)
{
    if (request->state != BUS_ABANDONED)
        send_to_waiters(request, header, payload);
    if (recorded(request, code))
        atl_bus_done_add(&request->port->done, request->header->request_id.data, request->fingerprint, header,
                         payload, atl_clock_monotonic());
    (void)zmq_msg_close(header);
    (void)zmq_msg_close(payload);
    atl_bus_request_free(request);
}

void atl_request_reply(struct atl_request *request, const ProtobufCMessage *output)
{
    atl_assert(request->state != BUS_WAITING);
    atl_assert(output->descriptor == request->method->rpc->output->descriptor);
    if (protobuf_c_message_get_packed_size(output) > ATL_BUS_MESSAGE_MAX) {
        struct atl_error error;
        (void)atl_fail(&error, ATL_E_LIMIT, NULL, "the answer is larger than %d bytes", ATL_BUS_MESSAGE_MAX);
        atl_request_fail(request, &error, NULL);
        return;
    }
    bus_header reply;
    Atoll__Bus__V1__Revision revision;
    zmq_msg_t header;
    zmq_msg_t payload;
    reply_init(&reply, request->header, ATL_OK);
    set_revision(request->port->bus, &reply, &revision);
    atl_bus_header_pack(&reply, &header);
    atl_bus_message_pack(output, &payload);
    answer(request, ATL_OK, &header, &payload);
}

void atl_request_fail(struct atl_request *request, const struct atl_error *error,
                      const struct atl_errors *fields)
{
    atl_assert(error->code != ATL_OK);
    zmq_msg_t header;
    zmq_msg_t payload;
    pack_error(request->port->bus, request->header, error, fields, request->state == BUS_WAITING, &header);
    (void)zmq_msg_init(&payload);
    answer(request, error->code, &header, &payload);
}

/* --- the end --- */

void atl_bus_request_cancel(struct atl_request *request)
{
    if (request->cancelled)
        return;
    request->cancelled = true;
    bool gone = false;
    request->gone = &gone; /* cppcheck-suppress autoVariables ; taken back below, or the request is gone */
    while (!gone && request->children != NULL) /* their callbacks may answer the request */
        atl_bus_call_abort(request->children);
    if (gone)
        return;
    request->gone = NULL;
    if (request->state == BUS_WAITING) {
        atl_bus_request_free(request); /* nobody but us knows it */
        return;
    }
    if (request->on_cancel != NULL)
        request->on_cancel(request, request->cancel_user);
}

void atl_bus_request_free(struct atl_request *request)
{
    struct bus_port *port = request->port;
    while (request->children != NULL) { /* they go on without a parent */
        struct atl_call *call = request->children;
        request->children = call->next_child;
        call->parent = NULL;
        call->next_child = NULL;
        call->previous_child = NULL;
    }
    if (request->gone != NULL)
        *request->gone = true;
    for (struct bus_cursor *cursor = port->cursors; cursor != NULL; cursor = cursor->outer)
        if (cursor->next == request)
            cursor->next = request->next;
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        port->requests = request->next;
    if (request->next != NULL)
        request->next->previous = request->previous;
    if (request->state == BUS_ABANDONED) {
        port->abandoned--;
    } else {
        port->served--;
        port->bytes -= request->size;
    }
    atl_bus_arena_give(port->bus, request->arena);
}

static void abandon(struct atl_request *request)
{
    struct atl_error error;
    zmq_msg_t header;
    zmq_msg_t payload;
    (void)atl_fail(&error, ATL_E_DEADLINE, NULL, "%s did not end in time", request->method->rpc->name);
    pack_error(request->port->bus, request->header, &error, NULL, false, &header);
    (void)zmq_msg_init(&payload);
    send_to_waiters(request, &header, &payload);
    (void)zmq_msg_close(&header);
    (void)zmq_msg_close(&payload);
    atl_log(ATL_ERROR, "bus-abandoned", "%s of %s has not ended in time, answering for it",
            request->method->rpc->name, request->port->label);
    request->state = BUS_ABANDONED;
    request->port->abandoned++;
    request->port->served--;
    request->port->bytes -= request->size;
}

void atl_bus_request_tick(struct atl_request *request)
{
    atl_ns now = atl_clock_monotonic();
    if (request->state == BUS_WAITING && now < request->deadline) {
        atl_bus_request_advance(request); /* the copy may be frozen since */
        return;
    }
    if (request->state == BUS_ABANDONED || now < request->deadline)
        return;
    if (request->state == BUS_WAITING) {
        struct atl_error error;
        (void)atl_fail(&error, ATL_E_DEADLINE, NULL,
                       "the copy of the tree did not become new enough in time");
        atl_request_fail(request, &error, NULL);
        return;
    }
    if (now >= request->deadline + BUS_ANSWER_GRACE)
        abandon(request);
    else
        atl_bus_request_cancel(request);
}

/* --- admission --- */

static bool listed(const char *const *list, const char *name)
{
    for (; list != NULL && *list != NULL; list++)
        if (strcmp(*list, name) == 0 || strcmp(*list, "*") == 0)
            return true;
    return false;
}

/* Whether this caller may call this method at all, by what the kernel says it is. */
static enum atl_code check_caller(const struct atl_request *request, struct atl_error *err)
{
    const struct atl_rpc *rpc = request->method->rpc;
    const char *caller = request->port->caller;
    bool service_may = listed(rpc->callers, caller);
    bool speaks_for_users = strcmp(caller, "api-gateway") == 0 || strcmp(caller, "cli") == 0;
    if (request->header->assertion.len == 0) {
        if (service_may || (speaks_for_users && rpc->perm != NULL && rpc->perm->world))
            return ATL_OK;
        if (rpc->perm != NULL && speaks_for_users)
            return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "%s needs a user who is logged in", rpc->name);
        return atl_fail(err, ATL_E_DENIED, NULL, "%s may not call %s", caller, rpc->name);
    }
    if (request->header->assertion.len > BUS_ASSERTION_MAX)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "the assertion is larger than %d bytes",
                        BUS_ASSERTION_MAX);
    if (!speaks_for_users && !service_may && request->header->on_behalf_task == NULL)
        return atl_fail(err, ATL_E_DENIED, NULL, "%s may not call %s for a user", caller, rpc->name);
    return ATL_OK;
}

/* The part of admission that depends on the tree. CONFLICT: the copy is too old, ask again later. */
static enum atl_code admit(struct atl_request *request, struct atl_error *err)
{
    const struct atl_bus *bus = request->port->bus;
    const struct atl_rpc *rpc = request->method->rpc;
    const ProtobufCBinaryData *assertion = &request->header->assertion;
    struct atl_principal principal = {.service = request->port->caller,
                                      .node = request->port->node,
                                      .task = request->header->on_behalf_task};
    bool service_may = listed(rpc->callers, request->port->caller);
    bool world = rpc->perm != NULL && rpc->perm->world && bus->guard.admit == NULL;
    /* A method without a permission asks for no user: an assertion that came along with the deadline and the
     * cancellation of a user's request is not looked at. */
    if ((service_may && (assertion->len == 0 || rpc->perm == NULL)) || (world && assertion->len == 0)) {
        request->principal = principal;
        return ATL_OK;
    }
    if (bus->guard.admit == NULL)
        return atl_fail(err, ATL_E_DENIED, NULL, "this service cannot verify users");
    enum atl_code code = bus->guard.admit(bus->guard.self, rpc, request->input, assertion->data,
                                          assertion->len, request->arena, &principal, err);
    if (code == ATL_OK)
        request->principal = principal;
    return code;
}

static bool new_enough(const struct atl_request *request)
{
    const Atoll__Bus__V1__Revision *wanted = request->header->min_revision;
    const struct atl_bus *bus = request->port->bus;
    if (wanted == NULL || bus->guard.revision == NULL)
        return true;
    struct atl_revision have = bus->guard.revision(bus->guard.self);
    return have.epoch != wanted->epoch ? have.epoch > wanted->epoch : have.number >= wanted->number;
}

static bool same_identity(const struct bus_identity *a, const struct bus_identity *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

/* CONFLICT: it waits for a newer copy. When none comes, what only reads is read from ours, with the rights
 * that ours gives (who knows of newer ones is asked for himself once more), and all else is refused. */
static enum atl_code admit_to_copy(struct atl_request *request, struct atl_error *err)
{
    const struct atl_guard *guard = &request->port->bus->guard;
    enum atl_code code = new_enough(request) ? admit(request, err) : ATL_E_CONFLICT;
    if (code != ATL_E_CONFLICT || guard->frozen == NULL || !guard->frozen(guard->self))
        return code;
    if (request->method->rpc->verb != ATL_GET)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                        "the cluster has no quorum: the configuration can be read, not changed");
    code = admit(request, err);
    if (code != ATL_E_CONFLICT)
        return code;
    return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL,
                    "the user's assertion is newer than this node's copy of the tree");
}

/* A request with this id is being served: its answer goes to this connection too. */
static struct atl_request *find_served(struct atl_request *request)
{
    for (struct atl_request *other = request->port->requests; other != NULL; other = other->next) {
        bool same = other != request && other->state != BUS_WAITING &&
                    memcmp(other->header->request_id.data, request->header->request_id.data,
                           ATL_REQUEST_ID_SIZE) == 0;
        /* One that was cancelled ends as such; what may be done twice is done anew then. */
        if (same && !(other->cancelled && (other->method->rpc->flags & ATL_R_IDEMPOTENT)))
            return other;
    }
    return NULL;
}

static bool join(struct atl_request *request, struct atl_request *served)
{
    const struct bus_identity *who = &request->waiters[0];
    if (served->fingerprint != request->fingerprint || served->state == BUS_ABANDONED)
        return false;
    for (unsigned int i = 0; i < served->waiter_count; i++)
        if (same_identity(&served->waiters[i], who))
            return true;
    if (served->waiter_count == BUS_WAITERS_MAX) { /* the oldest connection has surely broken */
        memmove(&served->waiters[0], &served->waiters[1], sizeof served->waiters - sizeof served->waiters[0]);
        served->waiter_count--;
    }
    served->waiters[served->waiter_count++] = *who;
    return true;
}

/* Whether the id was seen before; then it is dealt with here and the request is gone. */
static bool seen_before(struct atl_request *request)
{
    struct bus_port *port = request->port;
    struct atl_error error = {0};
    struct atl_request *served = find_served(request);
    struct bus_done *done =
        atl_bus_done_find(&port->done, request->header->request_id.data, atl_clock_monotonic());
    if (served == NULL && done == NULL)
        return false;
    if (served != NULL && join(request, served)) {
        atl_bus_request_free(request);
        return true;
    }
    if (served == NULL && done->fingerprint == request->fingerprint) {
        send_to_waiters(request, &done->header, &done->payload);
        atl_bus_request_free(request);
        return true;
    }
    if (served != NULL && served->state == BUS_ABANDONED)
        (void)atl_fail(&error, ATL_E_DEADLINE, NULL, "%s has not ended yet", request->method->rpc->name);
    else
        (void)atl_fail(&error, ATL_E_INVALID, NULL, "this request id was used for another request");
    atl_request_fail(request, &error, NULL);
    return true;
}

void atl_bus_request_advance(struct atl_request *request)
{
    atl_assert(request->state == BUS_WAITING);
    struct atl_error error = {0};
    enum atl_code code = admit_to_copy(request, &error);
    if (code == ATL_E_CONFLICT)
        return;
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    const char *user = request->principal.user != NULL ? request->principal.user : "";
    request->fingerprint = atl_bus_hash(request->fingerprint, user, strlen(user));
    if (seen_before(request))
        return;
    request->state = BUS_SERVED;
    request->method->fn(request, request->input, request->method->user);
}

/* --- arrival --- */

static enum atl_code check_time(struct atl_request *request, struct atl_error *err)
{
    const bus_header *header = request->header;
    atl_ns now = atl_clock_boot();
    atl_ns remaining = header->has_remaining_ns ? header->remaining_ns : 0;
    if (remaining > BUS_LONGEST_CALL)
        remaining = BUS_LONGEST_CALL;
    atl_ns age = 0;
    if (header->has_sent_at_ns && request->port->node != NULL) /* another machine's clock */
        age = atl_bus_age(request->port->ages, &request->waiters[0], header->sent_at_ns, now);
    else if (header->has_sent_at_ns && header->sent_at_ns >= 0 && header->sent_at_ns < now)
        age = now - header->sent_at_ns; /* a clock from the future gives no more than `remaining` */
    if (remaining <= age)
        return atl_fail(err, ATL_E_DEADLINE, NULL,
                        "the request came after its deadline and was not executed");
    request->deadline = atl_clock_monotonic() + remaining - age;
    return ATL_OK;
}

static enum atl_code check_room(const struct bus_port *port, size_t size, struct atl_error *err)
{
    if (port->served >= BUS_SERVED_MAX || port->abandoned >= BUS_ABANDONED_MAX ||
        (port->served > 0 && port->bytes + size > BUS_SERVED_BYTES))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                        "too many requests of %s are being served, try again later", port->label);
    if (size > ATL_BUS_MESSAGE_MAX)
        return atl_fail(err, ATL_E_LIMIT, NULL, "the request is larger than %d bytes", ATL_BUS_MESSAGE_MAX);
    return ATL_OK;
}

/* All that can be said without the tree. */
static enum atl_code check(struct atl_request *request, zmq_msg_t *payload, struct atl_errors *fields,
                           struct atl_error *err)
{
    const bus_header *header = request->header;
    if (header->version != BUS_VERSION)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, NULL, "version %" PRIu32 " of the bus is not spoken here",
                        header->version);
    const char *name = header->method != NULL ? header->method : "";
    request->method = atl_bus_method(request->port->bus, name);
    if (request->method == NULL && request->port->bus->starting)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "%s is starting", request->port->bus->service);
    if (request->method == NULL || request->method->fn == NULL)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, NULL, "method '%s' is not implemented by %s", name,
                        request->port->bus->service);
    enum atl_code code = check_time(request, err);
    if (code == ATL_OK)
        code = check_room(request->port, request->size, err);
    if (code == ATL_OK)
        code = check_caller(request, err);
    if (code != ATL_OK)
        return code;
    const struct atl_message *table = request->method->rpc->input;
    request->input = atl_unpack(table, zmq_msg_data(payload), request->size, request->arena);
    if (request->input == NULL)
        return atl_fail(err, ATL_E_INVALID, NULL, "the request is no %s", table->name);
    char newer[ATL_NEWER_MAX];
    if (request->method->rpc->perm != NULL && atl_newer_find(request->input, newer))
        return atl_fail(err, ATL_E_UNIMPLEMENTED, newer,
                        "node '%s' runs an older version that does not know this; upgrade it first",
                        request->port->bus->node);
    code = table->count > 0 ? atl_validate(table, request->input, fields) : ATL_OK;
    if (code != ATL_OK)
        return atl_fail(err, code, fields->count > 0 ? fields->items[0].field : NULL,
                        "Parameter verification failed.");
    return ATL_OK;
}

static void link_request(struct atl_request *request)
{
    struct bus_port *port = request->port;
    request->next = port->requests;
    if (port->requests != NULL)
        port->requests->previous = request;
    port->requests = request;
    port->served++;
    port->bytes += request->size;
    atl_bus_server_tick_start(port->bus);
}

void atl_bus_request_new(struct bus_port *port, const struct bus_identity *from, const bus_header *header,
                         zmq_msg_t *payload, struct atl_arena *arena)
{
    struct atl_request *request = atl_arena_new(arena, struct atl_request);
    *request =
        (struct atl_request){.port = port, .arena = arena, .header = header, .size = zmq_msg_size(payload)};
    request->waiters[0] = *from;
    request->waiter_count = 1;
    port->total++;
    struct atl_error error = {0};
    struct atl_errors fields;
    fields.count = 0;
    fields.dropped = 0;
    if (check(request, payload, &fields, &error) != ATL_OK) {
        atl_bus_refuse(port, from, header, &error, &fields);
        atl_bus_arena_give(port->bus, arena);
        return;
    }
    atl_assert(request->method != NULL && request->input != NULL);
    request->fingerprint = atl_bus_hash(0, header->method, strlen(header->method));
    if (!(request->method->rpc->flags & ATL_R_IDEMPOTENT))
        request->fingerprint = atl_bus_hash(request->fingerprint, zmq_msg_data(payload), request->size);
    link_request(request);
    atl_bus_request_advance(request);
}

/* --- what handlers ask --- */

struct atl_arena *atl_request_arena(struct atl_request *request)
{
    return request->arena;
}

const struct atl_principal *atl_request_principal(const struct atl_request *request)
{
    return &request->principal;
}

const struct atl_rpc *atl_request_rpc(const struct atl_request *request)
{
    return request->method->rpc;
}

const uint8_t *atl_request_id(const struct atl_request *request)
{
    return request->header->request_id.data;
}

atl_ns atl_request_remaining(const struct atl_request *request)
{
    atl_ns left = request->deadline - atl_clock_monotonic();
    return left > 0 ? left : 0;
}

const uint8_t *atl_request_assertion(const struct atl_request *request, size_t *ret_size)
{
    *ret_size = request->header->assertion.len;
    return request->header->assertion.len > 0 ? request->header->assertion.data : NULL;
}

void atl_request_on_cancel(struct atl_request *request, void (*fn)(struct atl_request *, void *), void *user)
{
    request->on_cancel = fn;
    request->cancel_user = user;
    if (request->cancelled && fn != NULL)
        fn(request, user);
}
