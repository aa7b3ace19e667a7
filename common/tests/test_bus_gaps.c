/*
 * The subscriber under a seeded simulation of what can happen between it and its publisher: events and beats
 * are lost, replays are answered late or not at all, the ring is too short, the publisher starts again.
 * Whatever happens, no event is skipped without a word, and in the end the subscriber knows what the
 * publisher published.
 */
#include "atl_test.h"

#include <strings.h>

#include "io/bus_internal.h"

/* What the subscriber does to the outside goes to the simulation. */
static struct atl_call *sim_call(struct atl_bus *bus, const struct atl_rpc *rpc,
                                 const ProtobufCMessage *input, const struct atl_call_options *options,
                                 atl_reply_fn *fn, void *user);
static void sim_cancel(struct atl_call *call);
static struct atl_timer *sim_timer(struct atl_loop *loop, atl_ns delay, atl_ns period, atl_timer_fn *fn,
                                   void *user);
static void sim_timer_free(struct atl_timer *timer);
#define atl_bus_call    sim_call
#define atl_call_cancel sim_cancel
#define atl_loop_timer  sim_timer
#define atl_timer_free  sim_timer_free
#include "../io/bus_subscribe.c" /* NOLINT(bugprone-suspicious-include): its inside is what is tested */

enum { KINDS = 3, HISTORY = 4096, EPOCHS = 8, RING = 24, SEEDS = 400, STEPS = 400 };

static const char *const kinds[KINDS] = {"guest", "volume", "tick"};

struct published {
    unsigned int kind;
    uint64_t previous_kind;
};

struct sim {
    uint64_t random;
    struct atl_bus *bus;
    struct bus_subscriber *subscriber;
    /* the publisher */
    uint64_t epoch;
    uint64_t sequence;
    struct published events[EPOCHS][HISTORY]; /* by epoch and sequence */
    uint64_t last[KINDS];
    /* a replay under way */
    bool asked;
    uint64_t asked_epoch;
    uint64_t asked_after;
    char asked_prefix[16];
    atl_reply_fn *answer;
    atl_timer_fn *fire;
    /* what the subscriber's user knows */
    uint64_t known_epoch;
    uint64_t known[KINDS];
    unsigned int losses;
    unsigned int replays;
};

static struct sim *sim; /* the callbacks of the bus know no other way to it */

static uint64_t draw(uint64_t below)
{
    sim->random ^= sim->random << 13; /* xorshift64 */
    sim->random ^= sim->random >> 7;
    sim->random ^= sim->random << 17;
    return sim->random % below;
}

/* --- the outside --- */

static struct atl_call *sim_call(struct atl_bus *bus, const struct atl_rpc *rpc,
                                 const ProtobufCMessage *input, const struct atl_call_options *options,
                                 atl_reply_fn *fn, void *user)
{
    (void)bus;
    const Atoll__Bus__V1__ReplayRequest *request = (const void *)input;
    assert_ptr_equal(rpc, &atl_bus_rpc_replay);
    assert_string_equal(options->service, "publisher");
    assert_ptr_equal(user, sim->subscriber);
    assert_false(sim->asked); /* one at a time */
    sim->asked = true;
    sim->asked_epoch = request->epoch;
    sim->asked_after = request->after;
    assert_true(atl_copy(sim->asked_prefix, sizeof sim->asked_prefix, request->prefix));
    sim->answer = fn;
    return (struct atl_call *)&sim->asked; /* never looked into */
}

static void sim_cancel(struct atl_call *call)
{
    assert_ptr_equal(call, &sim->asked);
    sim->asked = false;
}

static struct atl_timer *sim_timer(struct atl_loop *loop, atl_ns delay, atl_ns period, atl_timer_fn *fn,
                                   void *user)
{
    (void)loop, (void)delay, (void)period;
    assert_ptr_equal(user, sim->subscriber);
    sim->fire = fn;
    return (struct atl_timer *)&sim->fire;
}

static void sim_timer_free(struct atl_timer *timer)
{
    (void)timer;
    sim->fire = NULL;
}

/* --- the subscriber's user --- */

static void note(const struct atl_bus_event *event, void *user)
{
    (void)user;
    if (event->topic == NULL) { /* it reads the state, as it is now */
        memcpy(sim->known, sim->last, sizeof sim->known);
        sim->known_epoch = sim->epoch;
        sim->losses++;
        return;
    }
    unsigned int kind = 0;
    while (kind < KINDS - 1 && strncmp(kinds[kind], event->topic, strlen(kinds[kind])) != 0)
        kind++;
    if (event->epoch != sim->known_epoch || event->sequence <= sim->known[kind])
        return; /* older than the state it read: allowed, and useless */
    assert_int_equal(sim->events[event->epoch][event->sequence].kind, kind);
    /* nothing was skipped */
    assert_int_equal(sim->events[event->epoch][event->sequence].previous_kind, sim->known[kind]);
    sim->known[kind] = event->sequence;
}

/* --- the publisher --- */

static void fill_event(Atoll__Bus__V1__Event *event, char topic[24], uint64_t sequence)
{
    atoll__bus__v1__event__init(event);
    (void)snprintf(topic, 24, "%s/%d", kinds[sim->events[sim->epoch][sequence].kind], (int)(sequence % 3));
    event->topic = topic;
    event->has_epoch = event->has_sequence = event->has_previous_kind = 1;
    event->epoch = sim->epoch;
    event->sequence = sequence;
    event->previous_kind = sim->events[sim->epoch][sequence].previous_kind;
}

static void publish(bool lost)
{
    if (sim->sequence + 1 >= HISTORY)
        return;
    uint64_t sequence = ++sim->sequence;
    unsigned int kind = (unsigned int)draw(KINDS);
    sim->events[sim->epoch][sequence] = (struct published){.kind = kind, .previous_kind = sim->last[kind]};
    sim->last[kind] = sequence;
    if (lost)
        return;
    Atoll__Bus__V1__Event event;
    char topic[24];
    uint8_t packed[256];
    fill_event(&event, topic, sequence);
    take_frame(sim->subscriber, packed, atoll__bus__v1__event__pack(&event, packed));
}

static void beat(void)
{
    Atoll__Bus__V1__Beat message = ATOLL__BUS__V1__BEAT__INIT;
    Atoll__Bus__V1__Beat__Last last[KINDS];
    Atoll__Bus__V1__Beat__Last *pointers[KINDS];
    uint8_t packed[256];
    for (unsigned int i = 0; i < KINDS; i++) {
        atoll__bus__v1__beat__last__init(&last[i]);
        last[i].kind = atl_bus_unconst(kinds[i]);
        last[i].has_sequence = 1;
        last[i].sequence = sim->last[i];
        pointers[i] = &last[i];
    }
    message.has_epoch = 1;
    message.epoch = sim->epoch;
    message.n_last = KINDS;
    message.last = pointers;
    take_beat(sim->subscriber, packed, atoll__bus__v1__beat__pack(&message, packed));
}

static void answer_replay(bool fails)
{
    if (!sim->asked)
        return;
    Atoll__Bus__V1__ReplayReply message = ATOLL__BUS__V1__REPLAY_REPLY__INIT;
    Atoll__Bus__V1__Event events[RING];
    Atoll__Bus__V1__Event *pointers[RING];
    char topics[RING][24];
    uint64_t oldest = sim->sequence > RING ? sim->sequence - RING + 1 : 1;
    message.epoch = sim->epoch;
    message.sequence = sim->sequence;
    message.lost = sim->asked_epoch != sim->epoch || sim->asked_after + 1 < oldest;
    message.event = pointers;
    for (uint64_t i = sim->asked_after + 1; !message.lost && i <= sim->sequence; i++) {
        if (strncmp(kinds[sim->events[sim->epoch][i].kind], sim->asked_prefix, strlen(sim->asked_prefix)) !=
            0)
            continue;
        fill_event(&events[message.n_event], topics[message.n_event], i);
        pointers[message.n_event] = &events[message.n_event];
        message.n_event++;
    }
    struct atl_reply reply = {.code = fails ? ATL_E_UNAVAILABLE : ATL_OK,
                              .output = fails ? NULL : &message.base};
    sim->asked = false;
    sim->replays++;
    sim->answer(&reply, sim->subscriber);
}

static void fire(void)
{
    atl_timer_fn *fn = sim->fire;
    sim->fire = NULL;
    if (fn != NULL)
        fn(sim->subscriber);
}

static void restart(void)
{
    if (sim->epoch + 1 == EPOCHS)
        return;
    sim->epoch++;
    sim->sequence = 0;
    memset(sim->last, 0, sizeof sim->last);
}

static void step(void)
{
    uint64_t what = draw(100);
    if (what < 55)
        publish(draw(4) == 0);
    else if (what < 65)
        beat();
    else if (what < 90)
        answer_replay(draw(5) == 0);
    else if (what < 98)
        fire();
    else if (draw(3) == 0)
        restart();
    else
        for (int i = 0; i < 40; i++) /* more than the ring holds */
            publish(true);
}

/* Nothing is lost any more. */
static void settle(void)
{
    for (int i = 0; i < 20; i++) {
        beat();
        answer_replay(false);
        fire();
    }
}

static void run(uint64_t seed, unsigned int *replays, unsigned int *losses)
{
    struct atl_bus bus = {0};
    struct bus_subscriber subscriber = {.bus = &bus, .service = atl_bus_unconst("publisher")};
    struct subscription all = {.prefix = atl_bus_unconst(""), .fn = note};
    struct sim *own = atl_new0(struct sim);
    sim = own;
    sim->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    sim->bus = &bus;
    sim->subscriber = &subscriber;
    sim->epoch = 1;
    subscriber.subscriptions = &all;
    start_anew(&subscriber);
    for (int i = 0; i < STEPS; i++)
        step();
    settle();
    if (sim->known_epoch != sim->epoch || memcmp(sim->known, sim->last, sizeof sim->known) != 0)
        fail_msg("seed %" PRIu64 ": in the end the subscriber does not know what was published", seed);
    assert_null(subscriber.pending);
    *replays += sim->replays;
    *losses += sim->losses;
    drop_pending(&subscriber);
    for (size_t i = 0; i < subscriber.seen_count; i++)
        free(subscriber.seen[i].kind);
    for (size_t i = 0; i < bus.pool_count; i++) {
        atl_arena_done(bus.pool[i]);
        free(bus.pool[i]);
    }
    free(own);
}

static void no_event_is_skipped_without_a_word(void **state)
{
    (void)state;
    unsigned int replays = 0;
    unsigned int losses = 0;
    const char *wanted = getenv("ATL_SEEDS"); /* for a long campaign */
    uint64_t seeds = wanted != NULL ? strtoull(wanted, NULL, 10) : SEEDS;
    for (uint64_t seed = 1; seed <= seeds; seed++)
        run(seed, &replays, &losses);
    assert_true(replays > seeds * 10); /* else nothing was tried */
    assert_true(losses > seeds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_event_is_skipped_without_a_word)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
