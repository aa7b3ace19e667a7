/*
 * Events coming in: per publisher one SUB, the last sequence of every first topic part ("kind"), and a hole
 * filled by replay before what follows it. Whole kinds are subscribed and filtered here, so that the chain of
 * sequences is complete whatever prefix was asked for.
 */
#include <stdlib.h>
#include <string.h>

#include "io/bus_internal.h"
#include "io/log.h"

enum { PENDING_MAX = 4096, PENDING_BYTES = 4 << 20, KINDS_MAX = 256 };
#define RETRY_AFTER (200 * ATL_MS)   /* when the publisher was not there, for which the call waits too */
#define ASK_AFTER   (5 * ATL_SECOND) /* when it refused */
#define OPEN_AFTER  (500 * ATL_MS)   /* when another node did not let us in */

struct subscription {
    struct subscription *next;
    char *prefix;
    atl_event_fn *fn;
    void *user;
};

struct pending { /* an event that came while a hole is being filled */
    struct pending *next;
    size_t size;
    uint8_t packed[];
};

struct seen {
    char *kind;
    uint64_t sequence;
};

enum sync {               /* where we are with the publisher */
            SYNC_UNKNOWN, /* nothing is known: its position is to be asked for */
            SYNC_LIVE,
            SYNC_HOLE, /* a replay is under way */
};

struct bus_subscriber {
    struct bus_subscriber *next;
    struct atl_bus *bus;
    char *service;
    char *node;   /* NULL: this one */
    void *socket; /* NULL: the directory does not say where it is, or we were not let in */
    struct atl_watch *watch;
    struct bus_monitor *monitor; /* on tcp */
    struct atl_timer *open;      /* tries again */
    char address[64];            /* as they were when the socket was opened */
    uint8_t key[ATL_BUS_KEY_SIZE];
    struct subscription *subscriptions;
    struct atl_call *call; /* the replay under way */
    struct atl_timer *retry;
    bool told; /* the log, that it refuses */
    enum sync sync;
    uint64_t epoch;
    uint64_t base; /* all up to this sequence is known or given up */
    struct seen seen[KINDS_MAX];
    size_t seen_count;
    struct pending *pending;
    struct pending *pending_last;
    size_t pending_count;
    size_t pending_bytes;
};

static void ask(struct bus_subscriber *subscriber, const char *kind, uint64_t after);

/* --- handing over --- */

static void hand_over(struct bus_subscriber *subscriber, const struct atl_bus_event *event)
{
    for (struct subscription *one = subscriber->subscriptions; one != NULL; one = one->next)
        if (event->topic == NULL || strncmp(event->topic, one->prefix, strlen(one->prefix)) == 0)
            one->fn(event, one->user);
}

static struct seen *seen_of(struct bus_subscriber *subscriber, const char *topic)
{
    size_t length = strcspn(topic, "/");
    for (size_t i = 0; i < subscriber->seen_count; i++)
        if (strncmp(subscriber->seen[i].kind, topic, length) == 0 && subscriber->seen[i].kind[length] == '\0')
            return &subscriber->seen[i];
    if (subscriber->seen_count == KINDS_MAX)
        return NULL;
    struct seen *seen = &subscriber->seen[subscriber->seen_count++];
    *seen = (struct seen){.kind = atl_strndup(topic, length)};
    return seen;
}

static uint64_t known(const struct bus_subscriber *subscriber, const struct seen *seen)
{
    return seen->sequence > subscriber->base ? seen->sequence : subscriber->base;
}

static void deliver(struct bus_subscriber *subscriber, const Atoll__Bus__V1__Event *event)
{
    struct seen *seen = seen_of(subscriber, event->topic);
    if (seen == NULL || event->sequence <= known(subscriber, seen))
        return; /* known already */
    seen->sequence = event->sequence;
    struct atl_bus_event out = {.topic = event->topic,
                                .change = event->change.data,
                                .change_size = event->change.len,
                                .epoch = event->epoch,
                                .sequence = event->sequence};
    hand_over(subscriber, &out);
}

/* --- what came while a hole is being filled --- */

static void drop_pending(struct bus_subscriber *subscriber)
{
    while (subscriber->pending != NULL) {
        struct pending *next = subscriber->pending->next;
        free(subscriber->pending);
        subscriber->pending = next;
    }
    subscriber->pending_last = NULL;
    subscriber->pending_count = 0;
    subscriber->pending_bytes = 0;
}

static void forget_seen(struct bus_subscriber *subscriber)
{
    for (size_t i = 0; i < subscriber->seen_count; i++)
        free(subscriber->seen[i].kind);
    subscriber->seen_count = 0;
}

/* Nothing before now can be had any more. */
static void start_anew(struct bus_subscriber *subscriber)
{
    forget_seen(subscriber);
    subscriber->base = 0;
    subscriber->epoch = 0;
    subscriber->sync = SYNC_UNKNOWN;
    drop_pending(subscriber);
    if (subscriber->call != NULL)
        atl_call_cancel(subscriber->call);
    subscriber->call = NULL;
    ask(subscriber, "", 0);
}

static void keep(struct bus_subscriber *subscriber, const void *packed, size_t size)
{
    if (subscriber->pending_count >= PENDING_MAX || subscriber->pending_bytes + size > PENDING_BYTES) {
        start_anew(subscriber);
        return;
    }
    struct pending *pending = atl_alloc0(sizeof *pending + size);
    pending->size = size;
    memcpy(pending->packed, packed, size);
    if (subscriber->pending_last != NULL)
        subscriber->pending_last->next = pending;
    else
        subscriber->pending = pending;
    subscriber->pending_last = pending;
    subscriber->pending_count++;
    subscriber->pending_bytes += size;
}

/* Takes one event; false: it shows a hole, or one is being filled, and it has to wait. */
static bool take_event(struct bus_subscriber *subscriber, const Atoll__Bus__V1__Event *event)
{
    if (subscriber->sync != SYNC_LIVE)
        return false;
    if (event->epoch != subscriber->epoch) { /* the publisher started again */
        start_anew(subscriber);
        return false;
    }
    struct seen *seen = seen_of(subscriber, event->topic);
    if (seen != NULL && event->previous_kind > known(subscriber, seen)) {
        ask(subscriber, seen->kind, known(subscriber, seen));
        return false;
    }
    deliver(subscriber, event);
    return true;
}

static Atoll__Bus__V1__Event *read_event(const void *packed, size_t size, struct atl_arena *arena)
{
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    Atoll__Bus__V1__Event *event = atoll__bus__v1__event__unpack(&allocator, size, packed);
    return event != NULL && event->topic != NULL && event->has_epoch && event->has_sequence ? event : NULL;
}

static void take_pending(struct bus_subscriber *subscriber)
{
    while (subscriber->pending != NULL && subscriber->sync == SYNC_LIVE) {
        struct pending *first = subscriber->pending;
        struct atl_arena *arena = atl_bus_arena_take(subscriber->bus);
        const Atoll__Bus__V1__Event *event = read_event(first->packed, first->size, arena);
        /* Of an epoch that is over; or of a newer one, which shows itself again. */
        bool other = event != NULL && event->epoch != subscriber->epoch;
        bool taken = event == NULL || other || take_event(subscriber, event);
        atl_bus_arena_give(subscriber->bus, arena);
        if (!taken)
            return; /* it stays the first, or all are gone */
        subscriber->pending = first->next;
        if (subscriber->pending == NULL)
            subscriber->pending_last = NULL;
        subscriber->pending_count--;
        subscriber->pending_bytes -= first->size;
        free(first);
    }
}

/* --- replay --- */

static void ask_again(void *user)
{
    struct bus_subscriber *subscriber = user;
    subscriber->retry = NULL; /* it frees itself */
    if (subscriber->sync == SYNC_UNKNOWN) {
        ask(subscriber, "", 0);
        return;
    }
    subscriber->sync = SYNC_LIVE; /* what waits, or the next beat, shows the hole again */
    take_pending(subscriber);
}

static void replayed(const struct atl_reply *reply, void *user)
{
    struct bus_subscriber *subscriber = user;
    subscriber->call = NULL;
    if (reply->code != ATL_OK) {
        bool away = reply->code == ATL_E_UNAVAILABLE || reply->code == ATL_E_DEADLINE;
        if (!away && !subscriber->told)
            atl_log(ATL_WARNING, "events-refused", "%s refuses its events, asking again every 5 s: %s",
                    subscriber->service, reply->error.text);
        subscriber->told = !away;
        if (subscriber->retry == NULL)
            subscriber->retry = atl_loop_timer(subscriber->bus->loop, away ? RETRY_AFTER : ASK_AFTER, 0,
                                               ask_again, subscriber);
        return;
    }
    const Atoll__Bus__V1__ReplayReply *answer = (const void *)reply->output;
    bool lost = subscriber->sync == SYNC_UNKNOWN || answer->lost || answer->epoch != subscriber->epoch;
    subscriber->sync = SYNC_LIVE;
    if (lost) {
        forget_seen(subscriber); /* its sequences may be of another epoch */
        subscriber->epoch = answer->epoch;
        subscriber->base = answer->sequence;
        struct atl_bus_event out = {.epoch = answer->epoch, .sequence = answer->sequence};
        hand_over(subscriber, &out);
    } else {
        for (size_t i = 0; i < answer->n_event && subscriber->sync == SYNC_LIVE; i++)
            if (answer->event[i]->topic != NULL)
                deliver(subscriber, answer->event[i]);
    }
    take_pending(subscriber);
}

static void ask(struct bus_subscriber *subscriber, const char *kind, uint64_t after)
{
    if (subscriber->call != NULL || subscriber->retry != NULL)
        return;
    if (subscriber->sync == SYNC_LIVE)
        subscriber->sync = SYNC_HOLE;
    Atoll__Bus__V1__ReplayRequest request = ATOLL__BUS__V1__REPLAY_REQUEST__INIT;
    request.has_epoch = 1;
    request.epoch = subscriber->epoch;
    request.has_after = 1;
    request.after = after;
    request.prefix = atl_bus_unconst(kind);
    struct atl_call_options options = {.service = subscriber->service, .node = subscriber->node};
    subscriber->call =
        atl_bus_call(subscriber->bus, &atl_bus_rpc_replay, &request.base, &options, replayed, subscriber);
}

/* --- what comes in --- */

static bool wanted(const struct bus_subscriber *subscriber, const char *kind)
{
    size_t length = strlen(kind);
    for (const struct subscription *one = subscriber->subscriptions; one != NULL; one = one->next) {
        size_t part = strcspn(one->prefix, "/");
        bool whole = one->prefix[part] == '/';
        if (strncmp(one->prefix, kind, part) == 0 && (!whole || part == length))
            return true;
    }
    return false;
}

static void take_beat(struct bus_subscriber *subscriber, const void *packed, size_t size)
{
    struct atl_arena *arena = atl_bus_arena_take(subscriber->bus);
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    const Atoll__Bus__V1__Beat *beat = atoll__bus__v1__beat__unpack(&allocator, size, packed);
    if (beat != NULL && subscriber->sync == SYNC_LIVE && beat->epoch != subscriber->epoch)
        start_anew(subscriber);
    for (size_t i = 0; beat != NULL && i < beat->n_last && subscriber->sync == SYNC_LIVE; i++) {
        if (beat->last[i]->kind == NULL || !wanted(subscriber, beat->last[i]->kind))
            continue;
        const struct seen *seen = seen_of(subscriber, beat->last[i]->kind);
        if (seen != NULL && beat->last[i]->sequence > known(subscriber, seen))
            ask(subscriber, seen->kind, known(subscriber, seen));
    }
    atl_bus_arena_give(subscriber->bus, arena);
}

static void take_frame(struct bus_subscriber *subscriber, const void *packed, size_t size)
{
    struct atl_arena *arena = atl_bus_arena_take(subscriber->bus);
    const Atoll__Bus__V1__Event *event = read_event(packed, size, arena);
    if (event != NULL && !take_event(subscriber, event))
        keep(subscriber, packed, size);
    atl_bus_arena_give(subscriber->bus, arena);
}

void atl_bus_subscriber_message(struct bus_subscriber *subscriber, zmq_msg_t *topic, zmq_msg_t *frame)
{
    if (zmq_msg_size(topic) == 4 && memcmp(zmq_msg_data(topic), "beat", 4) == 0)
        take_beat(subscriber, zmq_msg_data(frame), zmq_msg_size(frame));
    else
        take_frame(subscriber, zmq_msg_data(frame), zmq_msg_size(frame));
}

static void subscriber_ready(void *user, unsigned int events)
{
    (void)events;
    struct bus_subscriber *subscriber = user;
    zmq_msg_t parts[3];
    if (atl_bus_receive(subscriber->socket, parts) == 2)
        atl_bus_subscriber_message(subscriber, &parts[0], &parts[1]);
    atl_bus_parts_close(parts);
}

/* --- subscribing --- */

static void set_prefix(const struct bus_subscriber *subscriber, const char *prefix)
{
    size_t length = strcspn(prefix, "/");
    if (prefix[length] == '/')
        length++;
    int rc = zmq_setsockopt(subscriber->socket, ZMQ_SUBSCRIBE, prefix, length);
    atl_assert(rc == 0);
}

static void close_socket(struct bus_subscriber *subscriber)
{
    atl_timer_free(subscriber->open);
    subscriber->open = NULL;
    if (subscriber->socket == NULL)
        return;
    atl_bus_monitor_free(subscriber->monitor, subscriber->socket);
    subscriber->monitor = NULL;
    atl_watch_free(subscriber->watch);
    subscriber->watch = NULL;
    (void)zmq_close(subscriber->socket);
    subscriber->socket = NULL;
}

static void open_socket(struct bus_subscriber *subscriber);

static void open_again(void *user)
{
    struct bus_subscriber *subscriber = user;
    subscriber->open = NULL; /* it frees itself */
    open_socket(subscriber);
}

/* libzmq comes again by itself after everything but a refusal. */
static void subscriber_event(void *user, unsigned int event)
{
    struct bus_subscriber *subscriber = user;
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED || event == ZMQ_EVENT_DISCONNECTED ||
        event == ZMQ_EVENT_CONNECT_RETRIED)
        return;
    close_socket(subscriber);
    subscriber->open = atl_loop_timer(subscriber->bus->loop, OPEN_AFTER, 0, open_again, subscriber);
}

/* Address and key of another node's publisher; NULL: not known. */
static const struct atl_directory_node *find_record(const struct bus_subscriber *subscriber,
                                                    const uint8_t **ret_key)
{
    const struct bus_cluster *cluster = subscriber->bus->cluster;
    if (cluster == NULL || atl_directory_port(subscriber->service) == 0)
        return NULL;
    *ret_key = atl_directory_key(cluster->directory, subscriber->service, subscriber->node);
    return *ret_key != NULL ? atl_directory_node(cluster->directory, subscriber->node) : NULL;
}

static bool find_endpoint(struct bus_subscriber *subscriber, char endpoint[BUS_PATH_MAX + 8])
{
    if (subscriber->node == NULL)
        return atl_bus_endpoint(subscriber->bus, subscriber->service, "events", "pub.sock", endpoint);
    const uint8_t *key = NULL;
    const struct atl_directory_node *record = find_record(subscriber, &key);
    if (record == NULL)
        return false;
    (void)atl_copy(subscriber->address, sizeof subscriber->address, record->address); /* same size */
    memcpy(subscriber->key, key, sizeof subscriber->key);
    return atl_bus_tcp_endpoint(record->address, atl_directory_port(subscriber->service) + 1U, endpoint);
}

static void open_socket(struct bus_subscriber *subscriber)
{
    char endpoint[BUS_PATH_MAX + 8];
    bool known = find_endpoint(subscriber, endpoint);
    if (!known && subscriber->node != NULL)
        return; /* until the directory changes */
    subscriber->socket = atl_bus_socket(subscriber->bus, ZMQ_SUB);
    if (subscriber->node != NULL) {
        atl_bus_secure_client(subscriber->bus, subscriber->socket, subscriber->key);
        subscriber->monitor =
            atl_bus_monitor(subscriber->bus, subscriber->socket, subscriber_event, subscriber);
    }
    int rc = zmq_setsockopt(subscriber->socket, ZMQ_SUBSCRIBE, "beat", 4);
    atl_assert(rc == 0);
    for (const struct subscription *one = subscriber->subscriptions; one != NULL; one = one->next)
        set_prefix(subscriber, one->prefix);
    subscriber->watch = atl_loop_zmq(subscriber->bus->loop, subscriber->socket, subscriber_ready, subscriber);
    if (known)
        (void)zmq_connect(subscriber->socket, endpoint); /* goes on trying by itself */
    atl_watch_touch(subscriber->watch);
}

/* What was missed meanwhile shows as a hole. */
void atl_bus_subscribers_update(struct atl_bus *bus)
{
    for (struct bus_subscriber *subscriber = bus->subscribers; subscriber != NULL;
         subscriber = subscriber->next) {
        if (subscriber->node == NULL)
            continue;
        const uint8_t *key = NULL;
        const struct atl_directory_node *record = find_record(subscriber, &key);
        bool same = subscriber->socket != NULL && record != NULL &&
                    strcmp(record->address, subscriber->address) == 0 &&
                    memcmp(key, subscriber->key, sizeof subscriber->key) == 0;
        if (same)
            continue;
        close_socket(subscriber);
        open_socket(subscriber);
    }
}

static struct bus_subscriber *subscriber_of(struct atl_bus *bus, const char *service, const char *node)
{
    struct bus_subscriber *subscriber = bus->subscribers;
    while (subscriber != NULL &&
           (strcmp(subscriber->service, service) != 0 || (subscriber->node == NULL) != (node == NULL) ||
            (node != NULL && strcmp(subscriber->node, node) != 0)))
        subscriber = subscriber->next;
    if (subscriber != NULL)
        return subscriber;
    subscriber = atl_new0(struct bus_subscriber);
    subscriber->bus = bus;
    subscriber->service = atl_strdup(service);
    subscriber->node = node != NULL ? atl_strdup(node) : NULL;
    subscriber->next = bus->subscribers;
    bus->subscribers = subscriber;
    open_socket(subscriber);
    return subscriber;
}

void atl_bus_subscribe_at(struct atl_bus *bus, const struct atl_source *source, const char *prefix,
                          atl_event_fn *fn, void *user)
{
    bool here = source->node == NULL || strcmp(source->node, bus->node) == 0;
    struct bus_subscriber *subscriber = subscriber_of(bus, source->service, here ? NULL : source->node);
    struct subscription *one = atl_new0(struct subscription);
    *one = (struct subscription){.prefix = atl_strdup(prefix), .fn = fn, .user = user};
    one->next = subscriber->subscriptions;
    subscriber->subscriptions = one;
    if (subscriber->socket != NULL) {
        set_prefix(subscriber, prefix);
        atl_watch_touch(subscriber->watch);
    }
    start_anew(subscriber); /* the new one has to learn where it stands */
}

void atl_bus_subscribe(struct atl_bus *bus, const char *service, const char *prefix, atl_event_fn *fn,
                       void *user)
{
    atl_bus_subscribe_at(bus, &(const struct atl_source){.service = service}, prefix, fn, user);
}

void atl_bus_subscribers_free(struct atl_bus *bus)
{
    while (bus->subscribers != NULL) {
        struct bus_subscriber *subscriber = bus->subscribers;
        bus->subscribers = subscriber->next;
        if (subscriber->call != NULL)
            atl_call_cancel(subscriber->call);
        atl_timer_free(subscriber->retry);
        close_socket(subscriber);
        drop_pending(subscriber);
        forget_seen(subscriber);
        while (subscriber->subscriptions != NULL) {
            struct subscription *one = subscriber->subscriptions;
            subscriber->subscriptions = one->next;
            free(one->prefix);
            free(one);
        }
        free(subscriber->service);
        free(subscriber->node);
        free(subscriber);
    }
}
