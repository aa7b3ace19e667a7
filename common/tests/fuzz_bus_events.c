/*
 * Events, beats and replays that come to a subscriber, as bytes and in orders that make sense. Whatever
 * comes: nothing is handed over before a publisher's position is known, no event twice or behind a newer one
 * of its kind, and what is handed over was asked for.
 */
#include "fuzz_bus_peer.h"

enum { FRAMES_MAX = 64, KINDS = 2, INPUTS_PER_BUS = 256 };
static const char *const topics[] = {"vm/1", "vm/2", "ct/1", "ct", "vm/", "node/x", "", "beat"};

static struct heard {
    bool known; /* the position */
    uint64_t base;
    uint64_t last[KINDS]; /* of "vm" and "ct" */
} heard;

static void on_event(const struct atl_bus_event *event, void *user)
{
    (void)user;
    if (event->topic == NULL) {
        heard = (struct heard){.known = true, .base = event->sequence};
        return;
    }
    fuzz_must(heard.known && event->sequence > heard.base);
    bool vm = strncmp(event->topic, "vm/", 3) == 0;
    fuzz_must(vm || strncmp(event->topic, "ct", 2) == 0);
    if (!vm && event->topic[2] != '/' && event->topic[2] != '\0')
        return; /* "cta/..." begins with the prefix, too, and is a kind of its own */
    fuzz_must(event->sequence > heard.last[vm]);
    heard.last[vm] = event->sequence;
    for (size_t i = 0; i < event->change_size; i++)
        fuzz_must(event->change != NULL);
}

static void build_event(const uint8_t *bytes, Atoll__Bus__V1__Event *event)
{
    atoll__bus__v1__event__init(event);
    event->has_epoch = event->has_sequence = event->has_previous_kind = 1;
    event->epoch = bytes[0] & 1;
    event->topic = atl_bus_unconst(topics[bytes[0] >> 1 & 7]);
    event->sequence = bytes[1];
    event->previous_kind = bytes[2];
}

static void send_message(struct atl_bus *bus, const char *topic, const ProtobufCMessage *message,
                         const uint8_t *raw, size_t size)
{
    zmq_msg_t name;
    zmq_msg_t frame;
    fuzz_frame(&name, (const uint8_t *)topic, strlen(topic));
    if (message != NULL)
        atl_bus_message_pack(message, &frame);
    else
        fuzz_frame(&frame, raw, size);
    atl_bus_subscriber_message(bus->subscribers, &name, &frame);
    (void)zmq_msg_close(&name);
    (void)zmq_msg_close(&frame);
}

static void send_beat(struct atl_bus *bus, const uint8_t *bytes)
{
    char kind[] = "vm";
    Atoll__Bus__V1__Beat beat = ATOLL__BUS__V1__BEAT__INIT;
    Atoll__Bus__V1__Beat__Last last = ATOLL__BUS__V1__BEAT__LAST__INIT;
    Atoll__Bus__V1__Beat__Last *list[] = {&last};
    last.kind = kind;
    last.has_sequence = beat.has_epoch = 1;
    last.sequence = bytes[1];
    beat.epoch = bytes[0] & 1;
    beat.n_last = 1;
    beat.last = list;
    send_message(bus, "beat", &beat.base, NULL, 0);
}

/* The answer to the replay that is under way, if one is. */
static void answer_replay(const struct fuzz_peer *fuzz, enum atl_code code, const ProtobufCMessage *message,
                          const uint8_t *raw, size_t size)
{
    const struct atl_call *call = fuzz->peer->sent.first;
    if (call == NULL)
        return;
    uint8_t id[ATL_REQUEST_ID_SIZE];
    memcpy(id, call->node.id, sizeof id);
    bus_header reply;
    atoll__bus__v1__header__init(&reply);
    reply.has_version = reply.has_kind = reply.has_request_id = reply.has_status = 1;
    reply.version = BUS_VERSION;
    reply.kind = ATOLL__BUS__V1__HEADER__KIND__REPLY;
    reply.request_id = (ProtobufCBinaryData){.len = sizeof id, .data = id};
    reply.status = code;
    zmq_msg_t header;
    zmq_msg_t payload;
    atl_bus_header_pack(&reply, &header);
    if (message != NULL)
        atl_bus_message_pack(message, &payload);
    else
        fuzz_frame(&payload, raw, size);
    atl_bus_peer_message(fuzz->peer, &header, &payload);
    (void)zmq_msg_close(&header);
    (void)zmq_msg_close(&payload);
}

static void send_replay(const struct fuzz_peer *fuzz, const uint8_t *bytes, size_t size)
{
    Atoll__Bus__V1__ReplayReply reply = ATOLL__BUS__V1__REPLAY_REPLY__INIT;
    Atoll__Bus__V1__Event events[8];
    Atoll__Bus__V1__Event *list[8];
    reply.has_epoch = reply.has_sequence = reply.has_lost = 1;
    reply.epoch = bytes[0] & 1;
    reply.lost = bytes[0] >> 1 & 1;
    reply.sequence = bytes[1];
    reply.event = list;
    for (size_t at = 2; at + 3 <= size && reply.n_event < ATL_COUNT(events); at += 3) {
        build_event(bytes + at, &events[reply.n_event]);
        list[reply.n_event] = &events[reply.n_event];
        reply.n_event++;
    }
    answer_replay(fuzz, ATL_OK, &reply.base, NULL, 0);
}

static void play(const struct fuzz_peer *fuzz, uint8_t what, const uint8_t *bytes, size_t size)
{
    Atoll__Bus__V1__Event event;
    switch (what & 7) {
    case 0:
        send_message(fuzz->bus, "x", NULL, bytes, size);
        return;
    case 1:
        send_message(fuzz->bus, "beat", NULL, bytes, size);
        return;
    case 2:
        answer_replay(fuzz, ATL_OK, NULL, bytes, size);
        return;
    case 3:
        if (size >= 2)
            send_beat(fuzz->bus, bytes);
        return;
    case 4:
        if (size >= 2)
            send_replay(fuzz, bytes, size);
        return;
    case 5: /* refused or away: from then on a timer would ask again */
        answer_replay(fuzz, size > 0 ? (enum atl_code)(bytes[0] % ATL_CODES) : ATL_E_DENIED, NULL, bytes, 0);
        return;
    default:
        if (size < 3)
            return;
        build_event(bytes, &event);
        send_message(fuzz->bus, "x", &event.base, NULL, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Frames, each behind a byte that says what it is and one for its length. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz_peer fuzz;
    static unsigned int inputs;
    if (fuzz.bus == NULL)
        fuzz = fuzz_peer_open();
    heard = (struct heard){0};
    atl_bus_subscribe(fuzz.bus, "tester", "vm/", on_event, NULL);
    atl_bus_subscribe(fuzz.bus, "tester", "ct", on_event, NULL);
    for (int frames = 0; size >= 2 && frames < FRAMES_MAX; frames++) {
        uint8_t what = data[0];
        size_t length = data[1];
        data += 2;
        size -= 2;
        if (length > size)
            length = size;
        play(&fuzz, what, data, length);
        data += length;
        size -= length;
    }
    atl_bus_subscribers_free(fuzz.bus);
    fuzz_must(fuzz.peer->calls == 0);
    fuzz_peer_drain(&fuzz);
    if (++inputs % INPUTS_PER_BUS == 0) /* ZeroMQ closes the sockets of subscribers when it has time */
        fuzz_peer_close(&fuzz);
    return 0;
}
