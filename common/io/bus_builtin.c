/* The methods every service has: replay of events, and health. */
#include <unistd.h>

#include "io/bus_internal.h"

static const struct atl_message replay_request = {.name = "atoll.bus.v1.ReplayRequest",
                                                  .descriptor = &atoll__bus__v1__replay_request__descriptor};
static const struct atl_message replay_reply = {.name = "atoll.bus.v1.ReplayReply",
                                                .descriptor = &atoll__bus__v1__replay_reply__descriptor};
static const struct atl_message ping_request = {.name = "atoll.bus.v1.PingRequest",
                                                .descriptor = &atoll__bus__v1__ping_request__descriptor};
static const struct atl_message ping_reply = {.name = "atoll.bus.v1.PingReply",
                                              .descriptor = &atoll__bus__v1__ping_reply__descriptor};

/* Every service serves these, so they have no server: callers name it. */
static const struct atl_service events = {
    .name = "atoll.bus.v1.Events", .server = "", .rpcs = &atl_bus_rpc_replay, .count = 1};
static const struct atl_service health = {
    .name = "atoll.bus.v1.Health", .server = "", .rpcs = &atl_bus_rpc_ping, .count = 1};

const struct atl_rpc atl_bus_rpc_replay = {.name = "atoll.bus.v1.Events.Replay",
                                           .service = &events,
                                           .input = &replay_request,
                                           .output = &replay_reply,
                                           .flags = ATL_R_IDEMPOTENT,
                                           .deadline_ms = 5000,
                                           .verb = ATL_NO_VERB};
const struct atl_rpc atl_bus_rpc_ping = {.name = "atoll.bus.v1.Health.Ping",
                                         .service = &health,
                                         .input = &ping_request,
                                         .output = &ping_reply,
                                         .flags = ATL_R_IDEMPOTENT,
                                         .deadline_ms = 2000,
                                         .verb = ATL_NO_VERB};

static void ping(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    const struct atl_bus *bus = user;
    Atoll__Bus__V1__PingReply reply = ATOLL__BUS__V1__PING_REPLY__INIT;
    reply.service = bus->service;
    reply.node = bus->node;
    reply.version = bus->version;
    reply.has_pid = 1;
    reply.pid = getpid();
    reply.has_uptime_ns = 1;
    reply.uptime_ns = atl_clock_monotonic() - bus->opened_at;
    atl_request_reply(request, &reply.base);
}

void atl_bus_serve_builtin(struct atl_bus *bus)
{
    atl_bus_add_method(bus,
                       &(struct bus_method){.rpc = &atl_bus_rpc_ping, .fn = ping, .user = bus, .open = true});
    if (bus->publisher != NULL)
        atl_bus_add_method(bus,
                           &(struct bus_method){
                               .rpc = &atl_bus_rpc_replay, .fn = atl_bus_replay, .user = bus, .open = true});
}
