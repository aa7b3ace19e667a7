/* Which instance of a service is asked when any will do. */
#include <string.h>

#include "io/bus_internal.h"

#define REMEMBER_FAILED (5 * ATL_SECOND) /* then it is tried like any other */

static bool was_tried(const struct atl_call *call, const struct bus_peer *peer)
{
    for (size_t i = 0; i < call->tried_count; i++)
        if (call->tried[i] == peer)
            return true;
    return false;
}

static bool failed_lately(const struct bus_peer *peer, atl_ns now)
{
    return peer->failed_at != 0 && peer->failed_at >= peer->answered_at &&
           now - peer->failed_at < REMEMBER_FAILED;
}

/* Higher is better: this node's; then those with a connection, the last to answer first; then those of which
 * nothing bad is known; then the others, in case all are down. */
static int64_t worth(const struct bus_peer *peer, atl_ns now)
{
    const int64_t step = INT64_MAX / 8; /* more than any monotonic time */
    if (failed_lately(peer, now))
        return 0;
    if (peer->node == NULL)
        return 3 * step;
    return peer->connected ? 2 * step + peer->answered_at : step;
}

struct bus_peer *atl_bus_any(struct atl_call *call, const char *service)
{
    struct atl_bus *bus = call->bus;
    atl_ns now = atl_clock_monotonic();
    struct bus_peer *best = NULL;
    int64_t best_worth = -1;
    size_t members = bus->cluster != NULL ? atl_directory_count(bus->cluster->directory) : 0;
    size_t first = bus->cluster != NULL && bus->cluster->associate ? 1 : 0;
    if (call->tried_count == BUS_MEMBERS_TRIED)
        return NULL;
    for (size_t i = first; i <= members; i++) { /* the first is this node */
        const struct atl_directory_node *record =
            i > 0 ? atl_directory_at(bus->cluster->directory, i - 1) : NULL;
        if (record != NULL && atl_directory_key(bus->cluster->directory, service, record->node) == NULL)
            continue;
        struct bus_peer *peer = atl_bus_peer_find(bus, service, record != NULL ? record->node : NULL);
        if (peer == NULL || was_tried(call, peer) || worth(peer, now) <= best_worth)
            continue;
        /* Who has an answer does not wait for a better one where there was none a moment ago. */
        if (call->failed != NULL && failed_lately(peer, now))
            continue;
        best = peer;
        best_worth = worth(peer, now);
    }
    if (best == NULL)
        return NULL;
    call->tried[call->tried_count++] = best;
    atl_bus_peer_wake(best);
    return best;
}
