/* Events over the bus: order, filters, holes filled by replay, what is said when they cannot be filled. */
#include "atl_test.h"

#include <ftw.h>
#include <unistd.h>

#include "io/bus_internal.h"

enum { EVENTS_MAX = 20000, PADDING = 600 };

struct got {
    size_t count;
    size_t lost;
    char topics[EVENTS_MAX][24];
};

struct fixture {
    char dir[32];
    struct atl_loop *loop;
    struct atl_bus *publisher;
    struct atl_bus *subscriber;
    struct got all;
    struct got narrow;
};

static struct atl_bus *open_bus(struct fixture *f, const char *service, const char *const *callers)
{
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    struct atl_bus_options options = {.loop = f->loop,
                                      .service = service,
                                      .node = "pve1",
                                      .run_dir = f->dir,
                                      .client_only = callers == NULL,
                                      .make_folders = callers};
    assert_atl_ok(atl_bus_open(&options, &bus, &err), &err);
    return bus;
}

static void open_publisher(struct fixture *f)
{
    static const char *const callers[] = {"friend", NULL};
    f->publisher = open_bus(f, "tester", callers);
}

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/atl-bus-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->loop = atl_loop_new();
    open_publisher(f);
    f->subscriber = open_bus(f, "friend", NULL);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    atl_bus_close(&f->subscriber);
    atl_bus_close(&f->publisher);
    atl_loop_free(f->loop);
    (void)nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void note(const struct atl_bus_event *event, void *user)
{
    struct got *got = user;
    if (event->topic == NULL) {
        got->lost++;
        return;
    }
    assert_true(got->count < EVENTS_MAX);
    (void)atl_copy(got->topics[got->count++], sizeof got->topics[0], event->topic);
}

static void run_until(struct fixture *f, const size_t *counter, size_t wanted)
{
    atl_ns end = atl_clock_monotonic() + 10 * ATL_SECOND;
    while (*counter < wanted && atl_clock_monotonic() < end)
        atl_loop_step(f->loop, 100 * ATL_MS);
    assert_int_equal(*counter, wanted);
}

static void publish(struct fixture *f, const char *topic, size_t padding)
{
    uint8_t bytes[PADDING] = {0};
    Atoll__Bus__V1__Event change = ATOLL__BUS__V1__EVENT__INIT;
    change.has_change = 1;
    change.change = (ProtobufCBinaryData){.len = padding, .data = bytes};
    atl_bus_publish(f->publisher, topic, padding > 0 ? &change.base : NULL);
}

static void events_arrive_in_order_and_filtered_after_a_first_word_to_read_the_state(void **state)
{
    struct fixture *f = *state;
    publish(f, "guest/100/state", 0); /* before anybody listens */
    atl_bus_subscribe(f->subscriber, "tester", "", note, &f->all);
    atl_bus_subscribe(f->subscriber, "tester", "guest/10", note, &f->narrow);
    run_until(f, &f->narrow.lost, 1);
    static const char *const topics[] = {"guest/100/state", "volume/local", "guest/200/state",
                                         "guestbook/100",   "guest/101",    "tick"};
    for (size_t i = 0; i < ATL_COUNT(topics); i++)
        publish(f, topics[i], i);
    run_until(f, &f->all.count, ATL_COUNT(topics));
    for (size_t i = 0; i < ATL_COUNT(topics); i++)
        assert_string_equal(f->all.topics[i], topics[i]);
    run_until(f, &f->narrow.count, 2);
    assert_string_equal(f->narrow.topics[0], "guest/100/state");
    assert_string_equal(f->narrow.topics[1], "guest/101");
    assert_int_equal(f->narrow.lost, 1);
}

/* More than all queues on the way hold; the loop does not run meanwhile, so the end of it is dropped. */
static void burst(struct fixture *f, unsigned int count)
{
    char topic[32];
    for (unsigned int i = 0; i < count; i++) {
        (void)snprintf(topic, sizeof topic, "guest/%u", i);
        publish(f, topic, PADDING);
    }
}

static void a_hole_is_filled_by_replay_before_what_follows(void **state)
{
    struct fixture *f = *state;
    atl_bus_subscribe(f->subscriber, "tester", "guest/", note, &f->all);
    run_until(f, &f->all.lost, 1);
    publish(f, "guest/first", 0);
    run_until(f, &f->all.count, 1);
    uint64_t before = f->publisher->ports->total;
    burst(f, 4000);
    run_until(f, &f->all.count, 4001);
    assert_true(f->publisher->ports->total > before); /* without a replay this test shows nothing */
    publish(f, "guest/last", 0);
    run_until(f, &f->all.count, 4002);
    char topic[32];
    for (unsigned int i = 0; i < 4000; i++) {
        (void)snprintf(topic, sizeof topic, "guest/%u", i);
        assert_string_equal(f->all.topics[i + 1], topic);
    }
    assert_string_equal(f->all.topics[4001], "guest/last");
    assert_int_equal(f->all.lost, 1);
}

static void more_than_the_ring_holds_is_said_to_be_lost(void **state)
{
    struct fixture *f = *state;
    atl_bus_subscribe(f->subscriber, "tester", "guest/", note, &f->all);
    run_until(f, &f->all.lost, 1);
    burst(f, 12000);
    run_until(f, &f->all.lost, 2);
    assert_true(f->all.count < 12000);
    size_t count = f->all.count;
    publish(f, "guest/after", 0);
    run_until(f, &f->all.count, count + 1);
    assert_string_equal(f->all.topics[count], "guest/after");
}

static void a_publisher_that_started_again_is_noticed(void **state)
{
    struct fixture *f = *state;
    atl_bus_subscribe(f->subscriber, "tester", "guest/", note, &f->all);
    run_until(f, &f->all.lost, 1);
    publish(f, "guest/1", 0);
    run_until(f, &f->all.count, 1);
    atl_bus_close(&f->publisher);
    open_publisher(f);
    run_until(f, &f->all.lost, 2);
    publish(f, "guest/2", 0);
    run_until(f, &f->all.count, 2);
}

static void a_subscriber_may_be_there_before_its_publisher(void **state)
{
    struct fixture *f = *state;
    atl_bus_close(&f->publisher);
    atl_bus_subscribe(f->subscriber, "tester", "guest/", note, &f->all);
    atl_ns end = atl_clock_monotonic() + 100 * ATL_MS;
    while (atl_clock_monotonic() < end)
        atl_loop_step(f->loop, 10 * ATL_MS);
    assert_int_equal(f->all.lost, 0);
    open_publisher(f);
    run_until(f, &f->all.lost, 1);
    publish(f, "guest/2", 0);
    run_until(f, &f->all.count, 1);
}

static void garbage_on_the_event_socket_is_survived(void **state)
{
    struct fixture *f = *state;
    atl_bus_close(&f->publisher);
    void *context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_PUB);
    char endpoint[128];
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/bus/tester/events/pub.sock", f->dir);
    assert_int_equal(zmq_bind(socket, endpoint), 0);
    atl_bus_subscribe(f->subscriber, "tester", "", note, &f->all);
    atl_ns end = atl_clock_monotonic() + 100 * ATL_MS;
    while (atl_clock_monotonic() < end) {
        static const char *const parts[] = {"", "\xff\xff", "\x0a\x01x", "beat"};
        for (size_t i = 0; i < ATL_COUNT(parts); i++) {
            (void)zmq_send(socket, "beat", 4, ZMQ_SNDMORE | ZMQ_DONTWAIT);
            (void)zmq_send(socket, parts[i], strlen(parts[i]), ZMQ_DONTWAIT);
            (void)zmq_send(socket, "guest/1", 7, ZMQ_SNDMORE | ZMQ_DONTWAIT);
            (void)zmq_send(socket, parts[i], strlen(parts[i]), ZMQ_DONTWAIT);
            (void)zmq_send(socket, parts[i], strlen(parts[i]), ZMQ_DONTWAIT);
        }
        atl_loop_step(f->loop, 10 * ATL_MS);
    }
    assert_int_equal(f->all.count, 0);
    int zero = 0;
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    (void)zmq_close(socket);
    (void)zmq_ctx_term(context);
}

#define bus_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        bus_test(events_arrive_in_order_and_filtered_after_a_first_word_to_read_the_state),
        bus_test(a_hole_is_filled_by_replay_before_what_follows),
        bus_test(more_than_the_ring_holds_is_said_to_be_lost),
        bus_test(a_publisher_that_started_again_is_noticed),
        bus_test(a_subscriber_may_be_there_before_its_publisher),
        bus_test(garbage_on_the_event_socket_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
