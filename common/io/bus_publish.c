/* Events going out: sequences, the beat, and the ring from which holes are filled. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "io/bus_internal.h"

enum {
    RING_EVENTS = 4096,
    RING_BYTES = 4 << 20,
    KINDS_MAX = 256,     /* first topic parts: our own code's words */
    OBJECTS_MAX = 16384, /* slots for the last sequence of an object; past three quarters it starts anew */
    TOPIC_MAX = 256,
};

struct ring_event {
    uint64_t sequence;
    char *topic;
    uint8_t *packed;
    size_t size;
};

struct kind {
    char *name;
    uint64_t sequence;
};

struct object {
    uint64_t hash;
    uint64_t sequence;
};

struct bus_publisher {
    struct atl_bus *bus;
    void *socket;
    struct atl_timer *beat;
    char *name;
    uint64_t sequence;
    struct ring_event ring[RING_EVENTS];
    size_t first; /* index of the oldest */
    size_t count;
    size_t bytes;
    struct kind kinds[KINDS_MAX];
    size_t kind_count;
    struct object *objects;
    size_t object_count;
};

static struct kind *kind_of(struct bus_publisher *publisher, const char *topic)
{
    size_t length = strcspn(topic, "/");
    for (size_t i = 0; i < publisher->kind_count; i++)
        if (strncmp(publisher->kinds[i].name, topic, length) == 0 && publisher->kinds[i].name[length] == '\0')
            return &publisher->kinds[i];
    atl_assert(publisher->kind_count < KINDS_MAX);
    struct kind *kind = &publisher->kinds[publisher->kind_count++];
    kind->name = atl_strndup(topic, length);
    return kind;
}

/* The object is the first two parts of the topic. Its last sequence may be forgotten (then 0: not known). */
static uint64_t *object_of(struct bus_publisher *publisher, const char *topic)
{
    size_t length = strcspn(topic, "/");
    if (topic[length] == '/')
        length += 1 + strcspn(topic + length + 1, "/");
    uint64_t hash = atl_bus_hash(0, topic, length) | 1;
    if (publisher->object_count > OBJECTS_MAX / 4 * 3) {
        memset(publisher->objects, 0, OBJECTS_MAX * sizeof(struct object));
        publisher->object_count = 0;
    }
    size_t at = (size_t)(hash >> 1) & (OBJECTS_MAX - 1);
    while (publisher->objects[at].hash != 0 && publisher->objects[at].hash != hash)
        at = (at + 1) & (OBJECTS_MAX - 1);
    if (publisher->objects[at].hash == 0) {
        publisher->objects[at].hash = hash;
        publisher->object_count++;
    }
    return &publisher->objects[at].sequence;
}

static void forget_oldest(struct bus_publisher *publisher)
{
    struct ring_event *event = &publisher->ring[publisher->first];
    publisher->bytes -= event->size;
    free(event->topic);
    free(event->packed);
    publisher->first = (publisher->first + 1) % RING_EVENTS;
    publisher->count--;
}

static void remember(struct bus_publisher *publisher, const char *topic, zmq_msg_t *frame)
{
    size_t size = zmq_msg_size(frame);
    while (publisher->count == RING_EVENTS || (publisher->count > 0 && publisher->bytes + size > RING_BYTES))
        forget_oldest(publisher);
    struct ring_event *event = &publisher->ring[(publisher->first + publisher->count) % RING_EVENTS];
    *event = (struct ring_event){.sequence = publisher->sequence, .topic = atl_strdup(topic), .size = size};
    event->packed = atl_alloc0(size);
    memcpy(event->packed, zmq_msg_data(frame), size);
    publisher->count++;
    publisher->bytes += size;
}

static void send_frame(struct bus_publisher *publisher, const char *topic, zmq_msg_t *frame)
{
    atl_bus_listener_publish(publisher->bus->listener, topic, frame);
    /* PUB drops for a subscriber that does not keep up; its gap is seen and filled. */
    if (zmq_send(publisher->socket, topic, strlen(topic), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(frame, publisher->socket, ZMQ_DONTWAIT) < 0)
        (void)zmq_msg_close(frame);
}

static int64_t wall_ns(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_REALTIME, &time); /* cannot fail for this clock */
    return time.tv_sec * ATL_SECOND + time.tv_nsec;
}

void atl_bus_publish(struct atl_bus *bus, const char *topic, const ProtobufCMessage *change)
{
    struct bus_publisher *publisher = bus->publisher;
    if (publisher == NULL)
        return; /* a program that only calls has no subscribers */
    atl_assert(topic[0] != '\0' && strlen(topic) < TOPIC_MAX);
    atl_assert(strcmp(topic, "beat") != 0);
    struct kind *kind = kind_of(publisher, topic);
    uint64_t *object = object_of(publisher, topic);
    Atoll__Bus__V1__Event event = ATOLL__BUS__V1__EVENT__INIT;
    event.publisher = publisher->name;
    event.has_epoch = 1;
    event.epoch = bus->epoch;
    event.has_sequence = 1;
    event.sequence = ++publisher->sequence;
    event.has_previous_object = 1;
    event.previous_object = *object;
    event.has_previous_kind = 1;
    event.previous_kind = kind->sequence;
    event.has_time_ns = 1;
    event.time_ns = wall_ns();
    event.topic = atl_bus_unconst(topic);
    *object = event.sequence;
    kind->sequence = event.sequence;
    zmq_msg_t packed;
    (void)zmq_msg_init(&packed);
    if (change != NULL) {
        (void)zmq_msg_close(&packed);
        atl_bus_message_pack(change, &packed);
        event.has_change = 1;
        event.change = (ProtobufCBinaryData){.len = zmq_msg_size(&packed), .data = zmq_msg_data(&packed)};
    }
    zmq_msg_t frame;
    atl_bus_message_pack(&event.base, &frame);
    (void)zmq_msg_close(&packed);
    remember(publisher, topic, &frame);
    send_frame(publisher, topic, &frame);
}

static void beat(void *user)
{
    struct bus_publisher *publisher = user;
    Atoll__Bus__V1__Beat message = ATOLL__BUS__V1__BEAT__INIT;
    Atoll__Bus__V1__Beat__Last last[KINDS_MAX];
    Atoll__Bus__V1__Beat__Last *pointers[KINDS_MAX];
    for (size_t i = 0; i < publisher->kind_count; i++) {
        atoll__bus__v1__beat__last__init(&last[i]);
        last[i].kind = publisher->kinds[i].name;
        last[i].has_sequence = 1;
        last[i].sequence = publisher->kinds[i].sequence;
        pointers[i] = &last[i];
    }
    message.publisher = publisher->name;
    message.has_epoch = 1;
    message.epoch = publisher->bus->epoch;
    message.has_sequence = 1;
    message.sequence = publisher->sequence;
    message.n_last = publisher->kind_count;
    message.last = pointers;
    zmq_msg_t frame;
    atl_bus_message_pack(&message.base, &frame);
    send_frame(publisher, "beat", &frame);
}

void atl_bus_replay(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Bus__V1__ReplayRequest *wanted = (const void *)input;
    struct atl_bus *bus = user;
    struct bus_publisher *publisher = bus->publisher;
    Atoll__Bus__V1__ReplayReply reply = ATOLL__BUS__V1__REPLAY_REPLY__INIT;
    reply.has_epoch = 1;
    reply.epoch = bus->epoch;
    reply.has_sequence = 1;
    reply.sequence = publisher->sequence;
    uint64_t oldest =
        publisher->count > 0 ? publisher->ring[publisher->first].sequence : publisher->sequence + 1;
    reply.has_lost = 1;
    reply.lost =
        wanted->epoch != bus->epoch || wanted->after + 1 < oldest || wanted->after > publisher->sequence;
    struct atl_arena *arena = atl_request_arena(request);
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    reply.event = atl_arena_array(arena, Atoll__Bus__V1__Event *, publisher->count + 1);
    const char *prefix = wanted->prefix != NULL ? wanted->prefix : "";
    for (size_t i = 0; i < publisher->count && !reply.lost; i++) {
        const struct ring_event *event = &publisher->ring[(publisher->first + i) % RING_EVENTS];
        if (event->sequence <= wanted->after || strncmp(event->topic, prefix, strlen(prefix)) != 0)
            continue;
        reply.event[reply.n_event] = atoll__bus__v1__event__unpack(&allocator, event->size, event->packed);
        atl_assert(reply.event[reply.n_event] != NULL); /* we packed it */
        reply.n_event++;
    }
    atl_request_reply(request, &reply.base);
}

enum atl_code atl_bus_publisher_open(struct atl_bus *bus, struct atl_error *err)
{
    char endpoint[BUS_PATH_MAX + 8];
    ATL_FREE_AT_EXIT char *folder = atl_format("%s/bus/%s/events", bus->run_dir, bus->service);
    struct stat status;
    if (stat(folder, &status) != 0)
        return ATL_OK; /* nobody may listen */
    if (!atl_bus_endpoint(bus, bus->service, "events", "pub.sock", endpoint))
        return atl_fail(err, ATL_E_INVALID, "run-dir", "'%s' is too long for the path of a socket",
                        bus->run_dir);
    struct bus_publisher *publisher = atl_new0(struct bus_publisher);
    bus->publisher = publisher;
    publisher->bus = bus;
    publisher->name = atl_format("%s@%s", bus->service, bus->node);
    publisher->objects = atl_alloc0(OBJECTS_MAX * sizeof(struct object));
    publisher->socket = atl_bus_socket(bus, ZMQ_PUB);
    if (zmq_bind(publisher->socket, endpoint) != 0)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot bind %s: %s", endpoint, zmq_strerror(zmq_errno()));
    /* The folder says who may connect; the socket itself must not depend on our umask. */
    if (chmod(endpoint + strlen("ipc://"), 0666) != 0)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot open %s to subscribers: %s", endpoint,
                        strerror(errno));
    publisher->beat = atl_loop_timer(bus->loop, ATL_SECOND, ATL_SECOND, beat, publisher);
    return ATL_OK;
}

void atl_bus_publisher_free(struct bus_publisher *publisher)
{
    if (publisher == NULL)
        return;
    atl_timer_free(publisher->beat);
    while (publisher->count > 0)
        forget_oldest(publisher);
    for (size_t i = 0; i < publisher->kind_count; i++)
        free(publisher->kinds[i].name);
    free(publisher->objects);
    free(publisher->name);
    (void)zmq_close(publisher->socket);
    free(publisher);
}
