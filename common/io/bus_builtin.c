/* The methods every service has: replay of events, and health. */
#include <unistd.h>

#include "io/bus_internal.h"

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
    static const struct atl_handler health[] = {{"Ping", ping}};
    static const struct atl_handler events[] = {{"Replay", atl_bus_replay}};
    atl_bus_serve(bus, &atl_svc_bus_v1_Health, health, ATL_COUNT(health), bus);
    /* Who publishes nothing has nothing to replay, and says that it is not implemented. */
    atl_bus_serve(bus, &atl_svc_bus_v1_Events, events, bus->publisher != NULL ? ATL_COUNT(events) : 0, bus);
}
