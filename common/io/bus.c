/* The bus: opening, closing, and what calls, requests and events share. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "io/bus_internal.h"

static uint64_t wall_ns(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_REALTIME, &time); /* cannot fail for this clock */
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

enum atl_code atl_bus_open(const struct atl_bus_options *options, struct atl_bus **ret_bus,
                           struct atl_error *err)
{
    atl_assert(options->loop != NULL);
    atl_assert(options->service != NULL && options->run_dir != NULL);
    struct atl_bus *bus = atl_new0(struct atl_bus);
    bus->loop = options->loop;
    bus->service = atl_strdup(options->service);
    bus->node = atl_strdup(options->node != NULL ? options->node : "");
    bus->run_dir = atl_strdup(options->run_dir);
    bus->version = atl_strdup(options->version != NULL ? options->version : "");
    bus->guard = options->guard;
    bus->opened_at = atl_clock_monotonic();
    bus->epoch = wall_ns();
    bus->context = zmq_ctx_new();
    atl_assert(bus->context != NULL);
    enum atl_code code = ATL_OK;
    if (!options->client_only) {
        if (options->make_folders != NULL)
            code = atl_bus_make_folders(bus, options->make_folders, err);
        if (code == ATL_OK)
            code = atl_bus_ports_open(bus, err);
        if (code == ATL_OK)
            code = atl_bus_publisher_open(bus, err);
        atl_bus_serve_builtin(bus);
    }
    if (code != ATL_OK) {
        atl_bus_close(&bus);
        return code;
    }
    *ret_bus = bus;
    return ATL_OK;
}

static void free_stubs(struct atl_bus *bus)
{
    while (bus->stubs != NULL) {
        struct bus_stub *stub = bus->stubs;
        bus->stubs = stub->next;
        free(stub);
    }
}

void atl_bus_close(struct atl_bus **pointer)
{
    struct atl_bus *bus = *pointer;
    *pointer = NULL;
    if (bus == NULL)
        return;
    atl_bus_subscribers_free(bus);
    while (bus->ports != NULL) {
        struct bus_port *port = bus->ports;
        bus->ports = port->next;
        atl_bus_port_free(port);
    }
    atl_bus_listener_free(bus->listener);
    bus->listener = NULL;
    atl_bus_publisher_free(bus->publisher);
    while (bus->local != NULL)
        atl_bus_call_free(bus->local);
    while (bus->peers != NULL) {
        struct bus_peer *peer = bus->peers;
        bus->peers = peer->next;
        atl_bus_peer_free(peer);
    }
    atl_bus_map_done(&bus->calls);
    atl_bus_cluster_done(bus);
    atl_timer_free(bus->server_tick);
    int rc = 0;
    do
        rc = zmq_ctx_term(bus->context);
    while (rc != 0 && zmq_errno() == EINTR);
    free_stubs(bus);
    for (size_t i = 0; i < bus->pool_count; i++) {
        atl_arena_done(bus->pool[i]);
        free(bus->pool[i]);
    }
    for (size_t i = 0; i < bus->method_slots; i++)
        free(bus->methods[i]);
    free(bus->methods);
    free(bus->service);
    free(bus->node);
    free(bus->run_dir);
    free(bus->version);
    free(bus);
}

void atl_bus_set_starting(struct atl_bus *bus, bool starting)
{
    bus->starting = starting;
}

void atl_bus_set_guard(struct atl_bus *bus, const struct atl_guard *guard)
{
    bus->guard = *guard;
}

struct atl_arena *atl_bus_arena_take(struct atl_bus *bus)
{
    if (bus->pool_count > 0)
        return bus->pool[--bus->pool_count];
    return atl_new0(struct atl_arena);
}

void atl_bus_arena_give(struct atl_bus *bus, struct atl_arena *arena)
{
    if (bus->pool_count < BUS_POOL_ARENAS && arena->used_bytes <= BUS_POOL_ARENA_BYTES) {
        atl_arena_reset(arena);
        bus->pool[bus->pool_count++] = arena;
        return;
    }
    atl_arena_done(arena);
    free(arena);
}

void atl_bus_new_id(struct atl_bus *bus, uint8_t id[ATL_REQUEST_ID_SIZE])
{
    if (bus->random_left < ATL_REQUEST_ID_SIZE) { /* one system call for many ids */
        ssize_t got = -1;
        while (got < 0)
            got = getrandom(bus->random, sizeof bus->random, 0);
        bus->random_left = (size_t)got;
        atl_assert(bus->random_left >= ATL_REQUEST_ID_SIZE);
    }
    bus->random_left -= ATL_REQUEST_ID_SIZE;
    memcpy(id, bus->random + bus->random_left, ATL_REQUEST_ID_SIZE);
}

/* --- protobuf-c's service descriptors as stubs --- */

struct stub_call {
    ProtobufCClosure closure;
    void *data;
};

static void stub_answered(const struct atl_reply *reply, void *user)
{
    struct stub_call *call = user;
    call->closure(reply->code == ATL_OK ? reply->output : NULL, call->data);
    free(call);
}

static void stub_invoke(ProtobufCService *service, unsigned int method, const ProtobufCMessage *input,
                        ProtobufCClosure closure, void *data)
{
    struct bus_stub *stub = (struct bus_stub *)service;
    const struct atl_rpc *rpc = NULL;
    for (uint32_t i = 0; i < stub->service->count; i++)
        if (stub->service->rpcs[i].index == method)
            rpc = &stub->service->rpcs[i];
    atl_assert(rpc != NULL);
    struct stub_call *call = atl_new0(struct stub_call);
    *call = (struct stub_call){.closure = closure, .data = data};
    (void)atl_bus_call(stub->bus, rpc, input, NULL, stub_answered, call); /* never NULL */
}

ProtobufCService *atl_bus_stub(struct atl_bus *bus, const struct atl_service *service)
{
    struct bus_stub *stub = atl_new0(struct bus_stub);
    stub->base.descriptor = service->descriptor;
    stub->base.invoke = stub_invoke;
    stub->bus = bus;
    stub->service = service;
    stub->next = bus->stubs;
    bus->stubs = stub;
    return &stub->base;
}
