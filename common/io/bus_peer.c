/* A service that is called, here or on another node: one DEALER, its connection, the calls that wait for it
 * and those in flight. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/bus_internal.h"

static void peer_tick(void *user);

static void ensure_tick(struct bus_peer *peer)
{
    if (peer->tick == NULL)
        peer->tick = atl_loop_timer(peer->bus->loop, BUS_PEER_TICK, BUS_PEER_TICK, peer_tick, peer);
}

/* --- the lists of calls --- */

/* At the end: the oldest call is the first to be sent again after a break. */
static void link_call(struct bus_calls *calls, struct atl_call *call, enum bus_call_state state)
{
    call->state = state;
    call->next = NULL;
    call->previous = calls->last;
    if (calls->last != NULL)
        calls->last->next = call;
    else
        calls->first = call;
    calls->last = call;
}

void atl_bus_peer_queue_first(struct bus_peer *peer, struct atl_call *call)
{
    atl_assert(call->state == BUS_LOCAL);
    call->state = BUS_QUEUED;
    call->next = peer->queued.first;
    if (call->next != NULL)
        call->next->previous = call;
    else
        peer->queued.last = call;
    peer->queued.first = call;
    ensure_tick(peer);
}

void atl_bus_peer_drop_call(struct atl_call *call)
{
    if (call->state == BUS_LOCAL)
        return;
    struct bus_calls *calls = call->state == BUS_SENT ? &call->peer->sent : &call->peer->queued;
    if (call->previous != NULL)
        call->previous->next = call->next;
    else
        calls->first = call->next;
    if (call->next != NULL)
        call->next->previous = call->previous;
    else
        calls->last = call->previous;
    call->next = NULL;
    call->previous = NULL;
    call->state = BUS_LOCAL;
}

/* Sends what may be sent, in order; one that has to wait longer does not hold up those behind it. */
void atl_bus_peer_flush(struct bus_peer *peer)
{
    atl_ns now = atl_clock_monotonic();
    struct atl_call *next = NULL;
    for (struct atl_call *call = peer->queued.first; call != NULL; call = next) {
        next = call->next;
        if (call->not_before > now)
            continue;
        if (!atl_bus_call_send(call))
            return;
        atl_bus_peer_drop_call(call);
        link_call(&peer->sent, call, BUS_SENT);
    }
}

void atl_bus_peer_queue(struct bus_peer *peer, struct atl_call *call)
{
    atl_assert(call->state == BUS_LOCAL);
    if (peer->queued.first == NULL && atl_bus_call_send(call)) {
        link_call(&peer->sent, call, BUS_SENT);
        return;
    }
    link_call(&peer->queued, call, BUS_QUEUED);
    ensure_tick(peer);
    if (peer->connected)
        atl_bus_peer_flush(peer); /* what stands before it may be a retry that has to wait a little */
}

/* Whether the call has waited long enough for a connection. A service that starts again is waited for; a node
 * of which nothing at all is heard is not, nor is one that another can stand in for. */
static bool waited_enough(const struct bus_peer *peer, const struct atl_call *call, atl_ns now)
{
    if (now >= call->grace_end)
        return true;
    if (peer->connected || (peer->node == NULL && !call->any))
        return false;
    atl_ns since = call->grace_end - BUS_GRACE;
    if (peer->alive_at > since && !call->any)
        since = peer->alive_at;
    return now - since >= BUS_SILENCE;
}

static void expire_queued(struct bus_peer *peer)
{
    atl_ns now = atl_clock_monotonic();
    for (struct atl_call *call = peer->queued.first; call != NULL;) {
        if (!waited_enough(peer, call, now)) {
            call = call->next;
            continue;
        }
        const char *unknown = atl_bus_peer_unknown(peer);
        const char *why = peer->node == NULL ? "is not there" : "cannot be reached";
        atl_bus_call_unavailable(call, peer->connected   ? "does not take requests"
                                       : unknown != NULL ? unknown
                                                         : why);
        call = peer->queued.first; /* its callback may have changed the list */
    }
}

/* --- the connection --- */

void atl_bus_peer_message(struct bus_peer *peer, zmq_msg_t *frame, zmq_msg_t *payload)
{
    struct atl_bus *bus = peer->bus;
    struct atl_arena *arena = atl_bus_arena_take(bus);
    bus_header *header = atl_bus_header_read(zmq_msg_data(frame), zmq_msg_size(frame), arena);
    bool reply = header != NULL && header->kind == ATOLL__BUS__V1__HEADER__KIND__REPLY && header->has_status;
    struct atl_call *call = NULL;
    if (reply) {
        peer->backoff = 0;
        peer->answered_at = atl_loop_now(bus->loop);
        call = (struct atl_call *)atl_bus_map_find(&bus->calls, header->request_id.data);
    }
    if (call != NULL && call->peer == peer && call->state == BUS_SENT)
        atl_bus_call_answered(call, header, payload, arena);
    if (reply && peer->queued.first != NULL)
        atl_bus_peer_flush(peer);
    atl_bus_arena_give(bus, arena);
}

static void peer_ready(void *user, unsigned int events)
{
    (void)events;
    struct bus_peer *peer = user;
    zmq_msg_t parts[3];
    if (atl_bus_receive(peer->socket, parts) == 2)
        atl_bus_peer_message(peer, &parts[0], &parts[1]);
    atl_bus_parts_close(parts);
}

static void close_socket(struct bus_peer *peer)
{
    if (peer->socket == NULL)
        return;
    atl_bus_monitor_free(peer->monitor, peer->socket);
    peer->monitor = NULL;
    atl_watch_free(peer->watch);
    peer->watch = NULL;
    (void)zmq_close(peer->socket);
    peer->socket = NULL;
    peer->connected = false;
}

/* The connection broke: what was sent may have been executed or not. */
static void lost(struct bus_peer *peer)
{
    close_socket(peer); /* with its queues: nothing of the old connection can arrive any more */
    peer->backoff = peer->backoff == 0 ? 10 * ATL_MS : peer->backoff * 2;
    /* Shorter than a call waits for another node, so that each call tries it. */
    atl_ns longest = peer->node != NULL ? BUS_SILENCE / 2 : ATL_SECOND;
    if (peer->backoff > longest)
        peer->backoff = longest;
    peer->reopen_at = atl_clock_monotonic() + peer->backoff;
    ensure_tick(peer);
    uint64_t broken = peer->connection++;
    /* From the newest on, each to the front of the queue: what was called first is sent again first. */
    for (struct atl_call *call = peer->sent.last; call != NULL;) {
        if (call->connection != broken) { /* sent by a callback that waited for a new connection */
            call = call->previous;
            continue;
        }
        if (!atl_bus_call_retry(call, false))
            atl_bus_call_unavailable(call, "went away");
        call = peer->sent.last; /* the callback may have changed the list */
    }
}

/* An attempt to connect ended. One that ended soon was refused, so the node lives and the service starts. */
static void retried(struct bus_peer *peer)
{
    atl_ns now = atl_clock_monotonic();
    if (now - peer->tried_at < BUS_SILENCE * 3 / 4)
        peer->alive_at = now;
    peer->tried_at = now;
}

static void peer_event(void *user, unsigned int event)
{
    struct bus_peer *peer = user;
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        peer->connected = true;
        atl_bus_peer_flush(peer);
    } else if (event == ZMQ_EVENT_CONNECT_RETRIED) {
        retried(peer);
    } else {
        lost(peer);
    }
}

const char *atl_bus_peer_unknown(const struct bus_peer *peer)
{
    const struct bus_cluster *cluster = peer->bus->cluster;
    if (peer->node == NULL)
        return NULL;
    if (cluster == NULL || atl_directory_node(cluster->directory, peer->node) == NULL)
        return "is unknown: the node is not in the directory";
    if (atl_directory_key(cluster->directory, peer->service, peer->node) == NULL ||
        atl_directory_port(peer->service) == 0)
        return "is unknown: the directory has no key of it";
    return NULL;
}

/* Where it is, and on tcp what the socket needs to know. */
static bool find_endpoint(struct bus_peer *peer, char endpoint[BUS_PATH_MAX + 8])
{
    const struct atl_bus *bus = peer->bus;
    if (peer->node == NULL)
        return atl_bus_endpoint(bus, peer->service, bus->service, "rpc.sock", endpoint);
    if (atl_bus_peer_unknown(peer) != NULL)
        return false;
    const struct atl_directory *directory = bus->cluster->directory;
    (void)atl_copy(peer->address, sizeof peer->address, /* same size */
                   atl_directory_node(directory, peer->node)->address);
    memcpy(peer->key, atl_directory_key(directory, peer->service, peer->node), sizeof peer->key);
    return atl_bus_tcp_endpoint(peer->address, atl_directory_port(peer->service), endpoint);
}

static void open_socket(struct bus_peer *peer)
{
    char endpoint[BUS_PATH_MAX + 8];
    if (!find_endpoint(peer, endpoint))
        return; /* calls to it end UNAVAILABLE */
    peer->socket = atl_bus_socket(peer->bus, ZMQ_DEALER);
    if (peer->node != NULL)
        atl_bus_secure_client(peer->bus, peer->socket, peer->key);
    peer->tried_at = atl_clock_monotonic();
    peer->monitor = atl_bus_monitor(peer->bus, peer->socket, peer_event, peer);
    peer->watch = atl_loop_zmq(peer->bus->loop, peer->socket, peer_ready, peer);
    int rc = zmq_connect(peer->socket, endpoint); /* goes on trying by itself until it was connected once */
    if (rc != 0)
        close_socket(peer);
    else
        atl_watch_touch(peer->watch);
}

void atl_bus_peer_update(struct bus_peer *peer)
{
    const struct bus_cluster *cluster = peer->bus->cluster;
    if (peer->socket == NULL)
        return;
    bool same = atl_bus_peer_unknown(peer) == NULL &&
                strcmp(peer->address, atl_directory_node(cluster->directory, peer->node)->address) == 0 &&
                memcmp(peer->key, atl_directory_key(cluster->directory, peer->service, peer->node),
                       sizeof peer->key) == 0;
    if (same)
        return;
    lost(peer);
    peer->backoff = 0;
    peer->reopen_at = 0;
}

static void peer_tick(void *user)
{
    struct bus_peer *peer = user;
    if (peer->socket == NULL && peer->queued.first != NULL && atl_clock_monotonic() >= peer->reopen_at)
        open_socket(peer);
    atl_bus_peer_flush(peer);
    expire_queued(peer);
    if (peer->queued.first != NULL)
        return;
    if (peer->node != NULL && !peer->connected)
        close_socket(peer);     /* a node that is away is not knocked at all the time */
    atl_timer_free(peer->tick); /* nothing waits */
    peer->tick = NULL;
}

static struct bus_peer *new_peer(struct atl_bus *bus, const char *service, const char *node)
{
    size_t *count = node != NULL ? &bus->remote_count : &bus->peer_count;
    if (*count >= (node != NULL ? BUS_REMOTE_PEERS_MAX : BUS_PEERS_MAX))
        return NULL;
    struct bus_peer *peer = atl_new0(struct bus_peer);
    peer->bus = bus;
    peer->service = atl_strdup(service);
    peer->node = node != NULL ? atl_strdup(node) : NULL;
    (void)snprintf(peer->label, sizeof peer->label, "%s%s%s", service, node != NULL ? " on " : "",
                   node != NULL ? node : "");
    peer->next = bus->peers;
    bus->peers = peer;
    ++*count;
    return peer;
}

struct bus_peer *atl_bus_peer_find(struct atl_bus *bus, const char *service, const char *node)
{
    if (node != NULL && strcmp(node, bus->node) == 0)
        node = NULL;
    struct bus_peer *peer = bus->peers;
    while (peer != NULL && (strcmp(peer->service, service) != 0 || (peer->node == NULL) != (node == NULL) ||
                            (node != NULL && strcmp(peer->node, node) != 0)))
        peer = peer->next;
    return peer != NULL ? peer : new_peer(bus, service, node);
}

void atl_bus_peer_wake(struct bus_peer *peer)
{
    if (peer->socket == NULL && atl_clock_monotonic() >= peer->reopen_at)
        open_socket(peer);
}

struct bus_peer *atl_bus_peer(struct atl_bus *bus, const char *service, const char *node)
{
    struct bus_peer *peer = atl_bus_peer_find(bus, service, node);
    if (peer != NULL)
        atl_bus_peer_wake(peer);
    return peer;
}

void atl_bus_peer_free(struct bus_peer *peer)
{
    while (peer->queued.first != NULL)
        atl_bus_call_free(peer->queued.first);
    while (peer->sent.first != NULL)
        atl_bus_call_free(peer->sent.first);
    close_socket(peer);
    atl_timer_free(peer->tick);
    free(peer->service);
    free(peer->node);
    free(peer);
}
