/* Frames, headers, sockets and connection events of the bus. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/bus_internal.h"

enum {
    MONITOR_EVENTS = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |
                     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                     ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_CONNECT_RETRIED
};

int atl_bus_receive(void *socket, zmq_msg_t parts[3])
{
    int count = 0;
    zmq_msg_t spare;            /* for parts that nobody wants */
    (void)zmq_msg_init(&spare); /* never fails, as below */
    for (int i = 0; i < 3; i++)
        (void)zmq_msg_init(&parts[i]);
    for (bool more = true; more; count++) {
        zmq_msg_t *part = count < 3 ? &parts[count] : &spare;
        if (zmq_msg_recv(part, socket, ZMQ_DONTWAIT) < 0)
            break;
        more = zmq_msg_more(part);
    }
    (void)zmq_msg_close(&spare);
    return count;
}

void atl_bus_parts_close(zmq_msg_t parts[3])
{
    for (int i = 0; i < 3; i++)
        (void)zmq_msg_close(&parts[i]); /* fails for uninitialised messages only */
}

bus_header *atl_bus_header_read(const void *bytes, size_t size, struct atl_arena *arena)
{
    if (size > BUS_HEADER_MAX)
        return NULL;
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    bus_header *header = atoll__bus__v1__header__unpack(&allocator, size, bytes);
    if (header == NULL || !header->has_version || !header->has_kind || !header->has_request_id)
        return NULL;
    return header->request_id.len == ATL_REQUEST_ID_SIZE ? header : NULL;
}

void atl_bus_message_pack(const ProtobufCMessage *message, zmq_msg_t *ret_frame)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    int rc = zmq_msg_init_size(ret_frame, size);
    atl_assert(rc == 0); /* fails when memory is out only */
    size_t packed = protobuf_c_message_pack(message, zmq_msg_data(ret_frame));
    atl_assert(packed == size);
}

void atl_bus_header_pack(const bus_header *header, zmq_msg_t *ret_frame)
{
    atl_bus_message_pack(&header->base, ret_frame);
}

static bool send_shared(void *socket, zmq_msg_t *frame, int flags)
{
    zmq_msg_t copy;
    (void)zmq_msg_init(&copy);
    int rc = zmq_msg_copy(&copy, frame);
    atl_assert(rc == 0);
    if (zmq_msg_send(&copy, socket, flags | ZMQ_DONTWAIT) >= 0)
        return true;
    (void)zmq_msg_close(&copy);
    return false;
}

bool atl_bus_send(void *socket, struct atl_watch *watch, const struct bus_identity *identity,
                  zmq_msg_t *header, zmq_msg_t *payload)
{
    if (socket == NULL)
        return false;
    atl_watch_touch(watch);
    if (identity != NULL && zmq_send(socket, identity->bytes, identity->size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return false;
    /* Only the first frame of a message can be refused for want of room. */
    return send_shared(socket, header, ZMQ_SNDMORE) && send_shared(socket, payload, 0);
}

static void set_int(void *socket, int option, int value)
{
    int rc = zmq_setsockopt(socket, option, &value, sizeof value);
    atl_assert(rc == 0);
}

void *atl_bus_socket(struct atl_bus *bus, int type)
{
    void *socket = zmq_socket(bus->context, type);
    atl_assert(socket != NULL); /* descriptors are out: the supervisor restarts us */
    int64_t longest = ATL_BUS_MESSAGE_MAX + BUS_HEADER_MAX;
    int rc = zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &longest, sizeof longest);
    atl_assert(rc == 0);
    set_int(socket, ZMQ_LINGER, 0);
    set_int(socket, ZMQ_IMMEDIATE, 1);
    set_int(socket, ZMQ_SNDHWM, BUS_QUEUE_MESSAGES);
    set_int(socket, ZMQ_RCVHWM, BUS_QUEUE_MESSAGES);
    set_int(socket, ZMQ_RECONNECT_IVL, 20);
    set_int(socket, ZMQ_RECONNECT_IVL_MAX, 500);
    set_int(socket, ZMQ_HEARTBEAT_IVL, 2000);
    set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, 10000); /* a loop that is busy for seconds is not dead */
    if (type == ZMQ_ROUTER)
        set_int(socket, ZMQ_ROUTER_MANDATORY, 1);
    return socket;
}

static void set_tcp(void *socket)
{
    set_int(socket, ZMQ_HANDSHAKE_IVL, 2000);
    set_int(socket, ZMQ_CONNECT_TIMEOUT, 500); /* before the kernel would ask a second time */
    set_int(socket, ZMQ_RECONNECT_IVL, 50);
    set_int(socket, ZMQ_RECONNECT_IVL_MAX, 0);
    set_int(socket, ZMQ_IPV6, 1);
}

static void set_key(void *socket, int option, const uint8_t key[ATL_BUS_KEY_SIZE])
{
    int rc = zmq_setsockopt(socket, option, key, ATL_BUS_KEY_SIZE);
    atl_assert(rc == 0);
}

/* libzmq lets everybody in while nobody answers at its door, so the listener opens that first and closes it
 * last. */
void atl_bus_secure_server(struct atl_bus *bus, void *socket)
{
    static const char domain[] = "atoll";
    set_tcp(socket); /* who has connected asks for signs of life often enough for both */
    set_int(socket, ZMQ_CURVE_SERVER, 1);
    set_key(socket, ZMQ_CURVE_SECRETKEY, bus->cluster->secret_key);
    int rc = zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain));
    atl_assert(rc == 0);
}

/* Heartbeats go on in libzmq's own thread, so a loop that is busy is not dead, but a process that is stopped
 * is. Who waits for an answer asks four times a second, and three of them lost in a row are no accident in a
 * cluster's network; who listens to events has their beats too, and can do with less: in a large cluster
 * these are most of what is sent at rest.
 */
static void set_beat(void *socket)
{
    int type = 0;
    size_t size = sizeof type;
    int rc = zmq_getsockopt(socket, ZMQ_TYPE, &type, &size);
    atl_assert(rc == 0);
    int beat = type == ZMQ_SUB ? 1000 : 250;
    set_int(socket, ZMQ_HEARTBEAT_IVL, beat);
    set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, 3 * beat);
}

void atl_bus_secure_client(struct atl_bus *bus, void *socket, const uint8_t server_key[ATL_BUS_KEY_SIZE])
{
    set_tcp(socket);
    set_beat(socket);
    set_key(socket, ZMQ_CURVE_SERVERKEY, server_key);
    set_key(socket, ZMQ_CURVE_PUBLICKEY, bus->cluster->public_key);
    set_key(socket, ZMQ_CURVE_SECRETKEY, bus->cluster->secret_key);
}

bool atl_bus_tcp_endpoint(const char *address, unsigned int port, char endpoint[BUS_PATH_MAX + 8])
{
    bool six = strchr(address, ':') != NULL;
    int length = snprintf(endpoint, BUS_PATH_MAX + 8, "tcp://%s%s%s:%u", six ? "[" : "", address,
                          six ? "]" : "", port);
    return length > 0 && length < BUS_PATH_MAX + 8 && port > 0 && port <= 65535;
}

bool atl_bus_endpoint(const struct atl_bus *bus, const char *service, const char *folder, const char *file,
                      char endpoint[BUS_PATH_MAX + 8])
{
    int length =
        snprintf(endpoint, BUS_PATH_MAX + 8, "ipc://%s/bus/%s/%s/%s", bus->run_dir, service, folder, file);
    return length > 0 && length < BUS_PATH_MAX + 6;
}

/* --- connection events --- */

struct bus_monitor {
    void *pair;
    struct atl_watch *watch;
    bus_monitor_fn *fn;
    void *user;
    bool freed; /* by its own callback */
    bool busy;
};

static void monitor_delete(struct bus_monitor *monitor)
{
    (void)zmq_close(monitor->pair);
    free(monitor);
}

/* Nobody sends on this socket, so its descriptor alone says when to look; it must be emptied each time. */
static void monitor_drain(struct bus_monitor *monitor)
{
    zmq_msg_t parts[3];
    int count = 1;
    while (count > 0 && !monitor->freed) {
        count = atl_bus_receive(monitor->pair, parts);
        uint16_t event = 0;
        if (count == 2 && zmq_msg_size(&parts[0]) >= sizeof event)
            memcpy(&event, zmq_msg_data(&parts[0]), sizeof event);
        atl_bus_parts_close(parts);
        if (event != 0)
            monitor->fn(monitor->user, event);
    }
}

static void monitor_ready(void *user, unsigned int events)
{
    (void)events;
    struct bus_monitor *monitor = user;
    monitor->busy = true;
    monitor_drain(monitor);
    monitor->busy = false;
    if (monitor->freed)
        monitor_delete(monitor);
}

struct bus_monitor *atl_bus_monitor(struct atl_bus *bus, void *socket, bus_monitor_fn *fn, void *user)
{
    char name[64];
    (void)snprintf(name, sizeof name, "inproc://monitor-%" PRIu64, bus->monitors++);
    int rc = zmq_socket_monitor(socket, name, MONITOR_EVENTS);
    atl_assert(rc == 0);
    struct bus_monitor *monitor = atl_new0(struct bus_monitor);
    *monitor = (struct bus_monitor){.fn = fn, .user = user, .pair = zmq_socket(bus->context, ZMQ_PAIR)};
    atl_assert(monitor->pair != NULL);
    set_int(monitor->pair, ZMQ_LINGER, 0);
    rc = zmq_connect(monitor->pair, name);
    atl_assert(rc == 0);
    int fd = -1;
    size_t size = sizeof fd;
    rc = zmq_getsockopt(monitor->pair, ZMQ_FD, &fd, &size);
    atl_assert(rc == 0);
    monitor->watch = atl_loop_fd(bus->loop, fd, ATL_READ, monitor_ready, monitor);
    monitor_drain(monitor); /* connecting has used up the descriptor's edge; no event is possible yet */
    return monitor;
}

void atl_bus_monitor_free(struct bus_monitor *monitor, void *socket)
{
    if (monitor == NULL)
        return;
    (void)zmq_socket_monitor(socket, NULL, 0); /* stops it */
    atl_watch_free(monitor->watch);
    monitor->freed = true;
    if (!monitor->busy)
        monitor_delete(monitor);
}

uint64_t atl_bus_hash(uint64_t seed, const void *bytes, size_t size)
{
    const uint8_t *byte = bytes;
    uint64_t hash = seed ^ UINT64_C(0xcbf29ce484222325);
    for (; size >= 8; size -= 8, byte += 8) {
        uint64_t word = 0;
        memcpy(&word, byte, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 32;
    }
    for (; size > 0; size--, byte++)
        hash = (hash ^ *byte) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 29;
}

char *atl_bus_unconst(const char *text)
{
    union {
        const char *from;
        char *to;
    } both = {.from = text};
    return both.to;
}
