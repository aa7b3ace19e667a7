/* Serving: one ROUTER per caller, the table of methods, connections that break. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/bus_internal.h"
#include "io/log.h"

/* --- methods: open addressing by name --- */

static size_t method_slot(const struct atl_bus *bus, const char *name)
{
    size_t at = (size_t)atl_bus_hash(0, name, strlen(name)) & (bus->method_slots - 1);
    while (bus->methods[at] != NULL && strcmp(bus->methods[at]->rpc->name, name) != 0)
        at = (at + 1) & (bus->method_slots - 1);
    return at;
}

const struct bus_method *atl_bus_method(const struct atl_bus *bus, const char *name)
{
    return bus->method_slots > 0 ? bus->methods[method_slot(bus, name)] : NULL;
}

static void grow_methods(struct atl_bus *bus)
{
    struct bus_method **old = bus->methods;
    size_t slots = bus->method_slots;
    bus->method_slots = slots == 0 ? 64 : slots * 2;
    bus->methods = atl_alloc0(bus->method_slots * sizeof(struct bus_method *));
    for (size_t i = 0; i < slots; i++)
        if (old[i] != NULL)
            bus->methods[method_slot(bus, old[i]->rpc->name)] = old[i];
    free(old);
}

void atl_bus_add_method(struct atl_bus *bus, const struct bus_method *method)
{
    atl_assert(atl_bus_method(bus, method->rpc->name) == NULL);
    if ((bus->method_count + 1) * 2 > bus->method_slots)
        grow_methods(bus);
    struct bus_method *own = atl_new0(struct bus_method); /* requests point to it */
    *own = *method;
    bus->methods[method_slot(bus, own->rpc->name)] = own;
    bus->method_count++;
}

void atl_bus_serve(struct atl_bus *bus, const struct atl_service *service, const struct atl_handler *handlers,
                   size_t count, void *user)
{
    size_t found = 0;
    for (uint32_t i = 0; i < service->count; i++) {
        struct bus_method method = {.rpc = &service->rpcs[i], .user = user};
        const char *name = strrchr(method.rpc->name, '.');
        atl_assert(name != NULL);
        for (size_t k = 0; k < count; k++)
            if (strcmp(handlers[k].method, name + 1) == 0) {
                method.fn = handlers[k].fn;
                found++;
            }
        atl_bus_add_method(bus, &method);
    }
    atl_assert(found == count); /* a handler for a method that the contract does not have */
}

/* --- what came in --- */

static struct atl_request *find_request(struct bus_port *port, const uint8_t *id)
{
    for (struct atl_request *request = port->requests; request != NULL; request = request->next)
        if (memcmp(request->header->request_id.data, id, ATL_REQUEST_ID_SIZE) == 0)
            return request;
    return NULL;
}

/* One connection no longer waits for the request; when none does, its handler is told and true returned: the
 * request may be gone then. */
static bool drop_waiter(struct atl_request *request, const struct bus_identity *who)
{
    unsigned int kept = 0;
    for (unsigned int i = 0; i < request->waiter_count; i++)
        if (request->waiters[i].size != who->size ||
            memcmp(request->waiters[i].bytes, who->bytes, who->size) != 0)
            request->waiters[kept++] = request->waiters[i];
    bool last = kept < request->waiter_count && kept == 0;
    request->waiter_count = kept;
    if (last)
        atl_bus_request_cancel(request);
    return last;
}

static void send_beat(struct bus_port *port, const struct bus_identity *to, const bus_header *beat)
{
    zmq_msg_t header;
    zmq_msg_t payload;
    atl_bus_header_pack(beat, &header);
    (void)zmq_msg_init(&payload);
    (void)atl_bus_send(port->socket, port->watch, to, &header, &payload); /* a lost beat is repeated */
    (void)zmq_msg_close(&header);
    (void)zmq_msg_close(&payload);
}

/* Told at the 1st, 2nd, 4th, 8th ... so that a caller that sends nothing else cannot fill the log. */
static void note_garbage(struct bus_port *port)
{
    port->garbage++;
    if ((port->garbage & (port->garbage - 1)) == 0)
        atl_log(ATL_WARNING, "bus-garbage", "%s has sent %" PRIu64 " messages that are none, ignoring them",
                port->label, port->garbage);
}

void atl_bus_port_message(struct bus_port *port, const struct bus_identity *from, zmq_msg_t *header,
                          zmq_msg_t *payload)
{
    struct atl_arena *arena = atl_bus_arena_take(port->bus);
    bus_header *read = atl_bus_header_read(zmq_msg_data(header), zmq_msg_size(header), arena);
    if (read == NULL) {
        note_garbage(port);
    } else if (read->kind == ATOLL__BUS__V1__HEADER__KIND__REQUEST) {
        atl_bus_request_new(port, from, read, payload, arena);
        return; /* the request has the arena now */
    } else if (read->kind == ATOLL__BUS__V1__HEADER__KIND__CANCEL) {
        struct atl_request *request = find_request(port, read->request_id.data);
        if (request != NULL)
            (void)drop_waiter(request, from); /* not used below */
    } else if (read->kind == ATOLL__BUS__V1__HEADER__KIND__BEAT) {
        send_beat(port, from, read);
    } else {
        note_garbage(port);
    }
    atl_bus_arena_give(port->bus, arena);
}

static void port_ready(void *user, unsigned int events)
{
    (void)events;
    struct bus_port *port = user;
    zmq_msg_t parts[3];
    int count = atl_bus_receive(port->socket, parts);
    struct bus_identity from = {0};
    size_t size = zmq_msg_size(&parts[0]);
    if (count == 3 && size > 0 && size <= BUS_IDENTITY_MAX) {
        from.size = (uint8_t)size;
        memcpy(from.bytes, zmq_msg_data(&parts[0]), size);
        atl_bus_port_message(port, &from, &parts[1], &parts[2]);
    } else if (count > 0) {
        note_garbage(port);
    }
    atl_bus_parts_close(parts);
}

/* --- connections that break --- */

/* ZeroMQ says that a connection broke, not which. A message to one that is gone fails, so each is asked. */
static void probe_request(struct atl_request *request)
{
    void *socket = request->port->socket;
    if (socket == NULL)
        return;
    atl_watch_touch(request->port->watch);
    for (unsigned int i = request->waiter_count; i > 0; i--) {
        struct bus_identity who = request->waiters[i - 1];
        if (zmq_send(socket, who.bytes, who.size, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0) {
            (void)zmq_send(socket, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT); /* an empty header: ignored there */
            (void)zmq_send(socket, "", 0, ZMQ_DONTWAIT);
        } else if (zmq_errno() == EHOSTUNREACH && drop_waiter(request, &who)) {
            return;
        }
    }
}

/* Calls fn for every request; it may free any of them. */
static void for_each(struct bus_port *port, void (*fn)(struct atl_request *))
{
    struct bus_cursor cursor = {.next = port->requests, .outer = port->cursors};
    port->cursors = &cursor;
    while (cursor.next != NULL) {
        struct atl_request *request = cursor.next;
        cursor.next = request->next;
        fn(request);
    }
    port->cursors = cursor.outer;
}

void atl_bus_port_probe(struct bus_port *port)
{
    if (port->requests == NULL)
        return;
    port->probes = 3; /* the socket may learn of it a little later than the monitor */
    for_each(port, probe_request);
}

static void port_event(void *user, unsigned int event)
{
    if (event == ZMQ_EVENT_DISCONNECTED)
        atl_bus_port_probe(user);
}

static void drop_waiters(struct atl_request *request)
{
    bool waited_for = request->waiter_count > 0;
    request->waiter_count = 0;
    if (waited_for)
        atl_bus_request_cancel(request);
}

void atl_bus_port_cut(struct bus_port *port)
{
    for_each(port, drop_waiters);
}

static void server_tick(void *user)
{
    struct atl_bus *bus = user;
    bool busy = false;
    for (struct bus_port *port = bus->ports; port != NULL; port = port->next) {
        if (port->probes > 0) {
            port->probes--;
            for_each(port, probe_request);
        }
        for_each(port, atl_bus_request_tick);
        busy = busy || port->requests != NULL;
    }
    if (busy)
        return;
    atl_timer_free(bus->server_tick); /* an idle service sleeps */
    bus->server_tick = NULL;
}

void atl_bus_server_tick_start(struct atl_bus *bus)
{
    if (bus->server_tick == NULL)
        bus->server_tick = atl_loop_timer(bus->loop, BUS_SERVER_TICK, BUS_SERVER_TICK, server_tick, bus);
}

static void retry(struct atl_request *request)
{
    if (request->state == BUS_WAITING)
        atl_bus_request_advance(request);
}

void atl_bus_retry_waiting(struct atl_bus *bus)
{
    for (struct bus_port *port = bus->ports; port != NULL; port = port->next)
        for_each(port, retry);
}

/* --- ports --- */

struct bus_port *atl_bus_port_new(struct atl_bus *bus, const char *caller, const char *node)
{
    struct bus_port *port = atl_new0(struct bus_port);
    port->bus = bus;
    port->caller = atl_strdup(caller);
    port->node = node != NULL ? atl_strdup(node) : NULL;
    port->label = node != NULL ? atl_format("%s@%s", caller, node) : atl_strdup(caller);
    port->next = bus->ports;
    bus->ports = port;
    return port;
}

void atl_bus_port_free(struct bus_port *port)
{
    while (port->requests != NULL) /* told first; freed the second time, if the handler did not answer then */
        if (port->requests->cancelled)
            atl_bus_request_free(port->requests);
        else
            atl_bus_request_cancel(port->requests);
    atl_bus_done_free(&port->done);
    if (port->socket != NULL && port->node == NULL) {
        atl_bus_monitor_free(port->monitor, port->socket);
        atl_watch_free(port->watch);
        (void)zmq_close(port->socket);
    }
    free(port->caller);
    free(port->node);
    free(port->label);
    free(port);
}

static enum atl_code open_port(struct atl_bus *bus, const char *caller, struct atl_error *err)
{
    char endpoint[BUS_PATH_MAX + 8];
    if (!atl_bus_endpoint(bus, bus->service, caller, "rpc.sock", endpoint))
        return atl_fail(err, ATL_E_INVALID, "run-dir", "'%s' is too long for the path of a socket",
                        bus->run_dir);
    struct bus_port *port = atl_bus_port_new(bus, caller, NULL);
    port->socket = atl_bus_socket(bus, ZMQ_ROUTER);
    port->monitor = atl_bus_monitor(bus, port->socket, port_event, port);
    if (zmq_bind(port->socket, endpoint) != 0)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot bind %s: %s", endpoint, zmq_strerror(zmq_errno()));
    /* The folder says who may connect; the socket itself must not depend on our umask. */
    if (chmod(endpoint + strlen("ipc://"), 0666) != 0)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot open %s to its caller: %s", endpoint,
                        strerror(errno));
    port->watch = atl_loop_zmq(bus->loop, port->socket, port_ready, port);
    return ATL_OK;
}

enum atl_code atl_bus_ports_open(struct atl_bus *bus, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/bus/%s", bus->run_dir, bus->service);
    DIR *folder = opendir(path);
    if (folder == NULL && errno == ENOENT)
        return ATL_OK; /* a program that only calls, like the command line */
    if (folder == NULL)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot read '%s': %s", path, strerror(errno));
    enum atl_code code = ATL_OK;
    for (const struct dirent *entry = readdir(folder); entry != NULL && code == ATL_OK;
         entry = readdir(folder))
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "events") != 0)
            code = open_port(bus, entry->d_name, err);
    (void)closedir(folder);
    return code;
}

static enum atl_code make_folder(const char *path, struct atl_error *err)
{
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot make '%s': %s", path, strerror(errno));
    return ATL_OK;
}

enum atl_code atl_bus_make_folders(struct atl_bus *bus, const char *const *callers, struct atl_error *err)
{
    const char *const above[] = {"", "/bus", "/bus/", "/bus/"};
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < ATL_COUNT(above) && code == ATL_OK; i++) {
        ATL_FREE_AT_EXIT char *path = atl_format("%s%s%s%s", bus->run_dir, above[i],
                                                 i >= 2 ? bus->service : "", i == 3 ? "/events" : "");
        code = make_folder(path, err);
    }
    for (; *callers != NULL && code == ATL_OK; callers++) {
        ATL_FREE_AT_EXIT char *path = atl_format("%s/bus/%s/%s", bus->run_dir, bus->service, *callers);
        code = make_folder(path, err);
    }
    return code;
}
