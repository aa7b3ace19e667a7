/*
 * Serving other nodes: one ROUTER and one PUB on tcp, CURVE, and the door: libzmq asks us in the loop whether
 * a key may come in, and only the directory's may. Each (service, node) has a port of its own with its own
 * limits, as on ipc; the ports share the ROUTER.
 *
 * One connection cannot be cut alone. So when a key loses its place, both sockets are closed and bound again:
 * nothing that came from it is read any more, and the others connect again within a moment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/bus_internal.h"
#include "io/log.h"

#define BIND_FIRST (2 * ATL_MS) /* the closed socket lets go of its port a moment later */
#define BIND_LATER (500 * ATL_MS)

struct bus_listener {
    struct atl_bus *bus;
    char address[64];
    void *zap;
    struct atl_watch *zap_watch;
    void *router;
    struct atl_watch *watch;
    struct bus_monitor *monitor;
    void *publisher;
    struct atl_timer *bind; /* tries again */
    atl_ns bind_pause;
    bool told;        /* the log, that it cannot be bound */
    uint64_t refused; /* strangers */
};

/* --- the door --- */

static struct bus_port *port_of(struct bus_listener *listener, const char *label)
{
    struct bus_port *port = listener->bus->ports;
    while (port != NULL && (port->node == NULL || strcmp(port->label, label) != 0))
        port = port->next;
    return port;
}

/* The port of the key's owner, made if need be; NULL: nobody's. */
static struct bus_port *admit(struct bus_listener *listener, const uint8_t *key)
{
    const char *service = NULL;
    const char *node = NULL;
    if (key == NULL || !atl_directory_owner(listener->bus->cluster->directory, key, &service, &node))
        return NULL;
    char label[BUS_LABEL_MAX];
    (void)snprintf(label, sizeof label, "%s@%s", service, node);
    struct bus_port *port = port_of(listener, label);
    if (port == NULL)
        port = atl_bus_port_new(listener->bus, service, node);
    port->socket = listener->router;
    port->watch = listener->watch;
    memcpy(port->key, key, sizeof port->key);
    port->admitted = true;
    return port;
}

/* Told at the 1st, 2nd, 4th, 8th ... */
static void note_refused(struct bus_listener *listener, const struct bus_bytes *address)
{
    listener->refused++;
    if ((listener->refused & (listener->refused - 1)) == 0)
        atl_log(ATL_WARNING, "bus-refused",
                "refused %" PRIu64 " connections with a key that is not in the directory, the last from %.*s",
                listener->refused, address->size < 64 ? (int)address->size : 64, (const char *)address->data);
}

static void send_verdict(const struct bus_listener *listener, const struct bus_bytes *request,
                         const struct bus_port *port)
{
    const char *const parts[] = {port != NULL ? "200" : "400", port != NULL ? "OK" : "not in the directory",
                                 port != NULL ? port->label : "", ""};
    bool sent = zmq_send(listener->zap, "1.0", 3, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
                zmq_send(listener->zap, request->data, request->size, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0;
    for (size_t i = 0; i < ATL_COUNT(parts) && sent; i++) /* the connection is gone otherwise */
        sent = zmq_send(listener->zap, parts[i], strlen(parts[i]),
                        ZMQ_DONTWAIT | (i + 1 < ATL_COUNT(parts) ? ZMQ_SNDMORE : 0)) >= 0;
}

static void zap_ready(void *user, unsigned int events)
{
    (void)events;
    struct bus_listener *listener = user;
    zmq_msg_t frames[BUS_ZAP_PARTS];
    struct bus_bytes parts[BUS_ZAP_PARTS] = {{0}};
    size_t count = 0;
    for (bool more = true; more; count++) {
        zmq_msg_t *frame = &frames[count < BUS_ZAP_PARTS ? count : BUS_ZAP_PARTS - 1];
        if (count >= BUS_ZAP_PARTS)
            (void)zmq_msg_close(frame);
        (void)zmq_msg_init(frame); /* never fails */
        if (zmq_msg_recv(frame, listener->zap, ZMQ_DONTWAIT) < 0)
            break;
        if (count < BUS_ZAP_PARTS)
            parts[count] = (struct bus_bytes){.data = zmq_msg_data(frame), .size = zmq_msg_size(frame)};
        more = zmq_msg_more(frame);
    }
    const struct bus_port *port = admit(listener, atl_bus_zap_key(parts, count));
    if (port == NULL && count > 3)
        note_refused(listener, &parts[3]);
    if (count > 1)
        send_verdict(listener, &parts[1], port);
    atl_watch_touch(listener->zap_watch);
    for (size_t i = 0; i < count && i < BUS_ZAP_PARTS; i++)
        (void)zmq_msg_close(&frames[i]);
}

/* --- what comes in --- */

static void listener_ready(void *user, unsigned int events)
{
    (void)events;
    struct bus_listener *listener = user;
    zmq_msg_t parts[3];
    int count = atl_bus_receive(listener->router, parts);
    size_t size = zmq_msg_size(&parts[0]);
    const char *label = count > 1 ? zmq_msg_gets(&parts[1], "User-Id") : NULL;
    struct bus_port *port = label != NULL ? port_of(listener, label) : NULL;
    if (port != NULL && count == 3 && size > 0 && size <= BUS_IDENTITY_MAX) {
        struct bus_identity from = {.size = (uint8_t)size};
        memcpy(from.bytes, zmq_msg_data(&parts[0]), size);
        atl_bus_port_message(port, &from, &parts[1], &parts[2]); /* may close the listener's sockets */
    } else if (port != NULL && count > 0) {
        port->garbage++;
    }
    atl_bus_parts_close(parts);
}

static void listener_event(void *user, unsigned int event)
{
    const struct bus_listener *listener = user;
    if (event != ZMQ_EVENT_DISCONNECTED)
        return;
    for (struct bus_port *port = listener->bus->ports; port != NULL; port = port->next)
        if (port->node != NULL)
            atl_bus_port_probe(port);
}

/* --- opening and closing --- */

static void share(const struct bus_listener *listener)
{
    for (struct bus_port *port = listener->bus->ports; port != NULL; port = port->next)
        if (port->node != NULL) {
            port->socket = listener->router;
            port->watch = listener->watch;
            port->admitted = false; /* whoever was, has to show his key again */
        }
}

static void close_sockets(struct bus_listener *listener)
{
    atl_timer_free(listener->bind);
    listener->bind = NULL;
    if (listener->router == NULL)
        return;
    atl_bus_monitor_free(listener->monitor, listener->router);
    atl_watch_free(listener->watch);
    (void)zmq_close(listener->router);
    (void)zmq_close(listener->publisher);
    listener->monitor = NULL;
    listener->watch = NULL;
    listener->router = NULL;
    listener->publisher = NULL;
    share(listener);
    for (struct bus_port *port = listener->bus->ports; port != NULL; port = port->next)
        if (port->node != NULL)
            atl_bus_port_cut(port);
}

static bool bind_to(void *socket, const char *address, unsigned int port)
{
    char endpoint[BUS_PATH_MAX + 8];
    if (!atl_bus_tcp_endpoint(address, port, endpoint)) {
        errno = EINVAL;
        return false;
    }
    return zmq_bind(socket, endpoint) == 0;
}

static void try_bind(void *user);

static void bind_later(struct bus_listener *listener, int error)
{
    if (listener->bind_pause >= BIND_LATER && !listener->told) {
        atl_log(ATL_WARNING, "bus-not-bound", "cannot listen on %s for other nodes, trying again: %s",
                listener->address, zmq_strerror(error));
        listener->told = true;
    }
    listener->bind = atl_loop_timer(listener->bus->loop, listener->bind_pause, 0, try_bind, listener);
    listener->bind_pause *= 2;
    if (listener->bind_pause > BIND_LATER)
        listener->bind_pause = BIND_LATER;
}

static void try_bind(void *user)
{
    struct bus_listener *listener = user;
    struct atl_bus *bus = listener->bus;
    listener->bind = NULL; /* it frees itself */
    unsigned int port = atl_directory_port(bus->service);
    void *router = atl_bus_socket(bus, ZMQ_ROUTER);
    void *publisher = atl_bus_socket(bus, ZMQ_PUB);
    atl_bus_secure_server(bus, router);
    atl_bus_secure_server(bus, publisher);
    if (!bind_to(router, listener->address, port) || !bind_to(publisher, listener->address, port + 1)) {
        int error = zmq_errno();
        (void)zmq_close(router);
        (void)zmq_close(publisher);
        bind_later(listener, error);
        return;
    }
    listener->bind_pause = BIND_FIRST;
    listener->told = false;
    listener->router = router;
    listener->publisher = publisher;
    listener->monitor = atl_bus_monitor(bus, router, listener_event, listener);
    listener->watch = atl_loop_zmq(bus->loop, router, listener_ready, listener);
    share(listener);
}

static void open_listener(struct atl_bus *bus)
{
    struct bus_listener *listener = atl_new0(struct bus_listener);
    bus->listener = listener;
    listener->bus = bus;
    listener->zap = zmq_socket(bus->context, ZMQ_REP);
    atl_assert(listener->zap != NULL);
    int zero = 0;
    int rc = zmq_setsockopt(listener->zap, ZMQ_LINGER, &zero, sizeof zero);
    atl_assert(rc == 0);
    rc = zmq_bind(listener->zap, "inproc://zeromq.zap.01"); /* before anybody can knock */
    atl_assert(rc == 0);
    listener->zap_watch = atl_loop_zmq(bus->loop, listener->zap, zap_ready, listener);
}

static bool all_still_known(const struct atl_bus *bus)
{
    for (const struct bus_port *port = bus->ports; port != NULL; port = port->next) {
        const char *service = NULL;
        const char *node = NULL;
        if (!port->admitted)
            continue;
        if (!atl_directory_owner(bus->cluster->directory, port->key, &service, &node) ||
            strcmp(service, port->caller) != 0 || strcmp(node, port->node) != 0)
            return false;
    }
    return true;
}

void atl_bus_listener_update(struct atl_bus *bus)
{
    const struct atl_directory_node *own = atl_directory_node(bus->cluster->directory, bus->node);
    bool listens = own != NULL && !bus->cluster->associate && atl_directory_port(bus->service) != 0;
    const char *address = listens ? own->address : "";
    if (bus->listener == NULL && address[0] == '\0')
        return;
    if (bus->listener == NULL)
        open_listener(bus);
    struct bus_listener *listener = bus->listener;
    bool moved = strcmp(listener->address, address) != 0;
    if (!moved && all_still_known(bus))
        return;
    (void)atl_copy(listener->address, sizeof listener->address, address); /* same size */
    close_sockets(listener);
    listener->bind_pause = BIND_FIRST;
    if (address[0] != '\0')
        listener->bind = atl_loop_timer(bus->loop, 0, 0, try_bind, listener);
}

void atl_bus_listener_publish(struct bus_listener *listener, const char *topic, zmq_msg_t *frame)
{
    if (listener == NULL || listener->publisher == NULL)
        return;
    zmq_msg_t copy;
    (void)zmq_msg_init(&copy); /* never fails */
    int rc = zmq_msg_copy(&copy, frame);
    atl_assert(rc == 0);
    if (zmq_send(listener->publisher, topic, strlen(topic), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(&copy, listener->publisher, ZMQ_DONTWAIT) < 0)
        (void)zmq_msg_close(&copy);
}

void atl_bus_listener_free(struct bus_listener *listener)
{
    if (listener == NULL)
        return;
    close_sockets(listener);
    atl_watch_free(listener->zap_watch);
    (void)zmq_close(listener->zap);
    free(listener);
}
