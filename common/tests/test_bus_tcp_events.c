/* Events between nodes: they arrive, holes are filled by replay, who is removed hears nothing more. */
#include "bus_rig.h"

enum { SEEN_MAX = 256 };

struct seen {
    struct fixture *f;
    size_t count; /* events with a topic */
    size_t lost;  /* "read the state again" */
    uint64_t sequences[SEEN_MAX];
};

struct fixture {
    struct rig rig;
    struct atl_bus *publisher; /* compute-agent on n1 */
    struct atl_bus *near;      /* ha-lrm on n2 */
    struct atl_bus *far;       /* ha-lrm on n3 */
    struct seen at_near;
    struct seen at_far;
};

static const struct atl_source source = {.service = "compute-agent", .node = "n1"};

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    rig_open(&f->rig);
    f->publisher = rig_bus(&f->rig, 0, "compute-agent");
    f->near = rig_bus(&f->rig, 1, "ha-lrm");
    f->far = rig_bus(&f->rig, 2, "ha-lrm");
    for (unsigned int i = 0; i < 3; i++)
        rig_tell_all(&f->rig, i, false);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    atl_bus_close(&f->near);
    atl_bus_close(&f->far);
    atl_bus_close(&f->publisher);
    rig_close(&f->rig);
    free(f);
    return 0;
}

static void note(const struct atl_bus_event *event, void *user)
{
    struct seen *seen = user;
    if (event->topic == NULL) {
        seen->lost++;
        return;
    }
    assert_true(seen->count < SEEN_MAX);
    seen->sequences[seen->count++] = event->sequence;
}

static void publish(struct fixture *f, size_t count)
{
    for (size_t i = 0; i < count; i++)
        atl_bus_publish(f->publisher, "guest/100/state", NULL);
}

/* Subscribed, and the connection stands: events come without a replay from here on. */
static void subscribe(struct fixture *f, struct atl_bus *bus, struct seen *seen)
{
    atl_bus_subscribe_at(bus, &source, "guest/", note, seen);
    rig_run_until(&f->rig, &seen->lost, 1);
    publish(f, 1);
    rig_run_until(&f->rig, &seen->count, 1); /* at the latest the next beat shows it */
}

static void assert_in_order(const struct seen *seen)
{
    for (size_t i = 1; i < seen->count; i++)
        assert_int_equal(seen->sequences[i], seen->sequences[i - 1] + 1);
}

static void events_of_another_node_arrive_in_order(void **state)
{
    struct fixture *f = *state;
    subscribe(f, f->near, &f->at_near);
    publish(f, 100);
    rig_run_until(&f->rig, &f->at_near.count, 101);
    assert_in_order(&f->at_near);
    assert_int_equal(f->at_near.lost, 1);
}

static void events_missed_while_the_way_was_closed_are_replayed(void **state)
{
    struct fixture *f = *state;
    subscribe(f, f->near, &f->at_near);
    rig_tell(&f->rig, 1, 0, true); /* n2 does not know n1 for a while */
    publish(f, 50);
    rig_run_for(&f->rig, 300 * ATL_MS);
    assert_int_equal(f->at_near.count, 1);
    rig_tell(&f->rig, 1, 0, false);
    rig_run_until(&f->rig, &f->at_near.count, 51);
    assert_in_order(&f->at_near);
    assert_int_equal(f->at_near.lost, 1); /* nothing was given up */
}

static void a_node_that_comes_later_is_waited_for(void **state)
{
    struct fixture *f = *state;
    rig_tell(&f->rig, 1, 0, true);
    atl_bus_subscribe_at(f->near, &source, "guest/", note, &f->at_near);
    rig_run_for(&f->rig, 500 * ATL_MS);
    assert_int_equal(f->at_near.lost, 0);
    rig_tell(&f->rig, 1, 0, false);
    rig_run_until(&f->rig, &f->at_near.lost, 1);
    publish(f, 1);
    rig_run_until(&f->rig, &f->at_near.count, 1);
}

static void who_is_removed_hears_nothing_more_and_the_others_miss_nothing(void **state)
{
    struct fixture *f = *state;
    subscribe(f, f->near, &f->at_near);
    subscribe(f, f->far, &f->at_far);
    rig_run_until(&f->rig, &f->at_near.count, 2);
    rig_tell(&f->rig, 0, 1, true); /* the publisher hears that n2 is removed */
    size_t before = f->at_near.count;
    publish(f, 20);
    rig_run_until(&f->rig, &f->at_far.count, 21);
    rig_run_for(&f->rig, 1500 * ATL_MS); /* longer than the pause after a refusal, and a beat */
    assert_int_equal(f->at_near.count, before);
    assert_in_order(&f->at_far);
    rig_tell(&f->rig, 0, 1, false); /* and admitted again */
    rig_run_until(&f->rig, &f->at_near.count, before + 20);
    assert_in_order(&f->at_near);
}

static void a_publisher_that_starts_again_is_noticed(void **state)
{
    struct fixture *f = *state;
    subscribe(f, f->near, &f->at_near);
    atl_bus_close(&f->publisher);
    rig_run_for(&f->rig, 200 * ATL_MS);
    f->publisher = rig_bus(&f->rig, 0, "compute-agent");
    rig_run_until(&f->rig, &f->at_near.lost, 2); /* its epoch is another: read the state again */
    publish(f, 3);
    rig_run_until(&f->rig, &f->at_near.count, 4);
}

#define tcp_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        tcp_test(events_of_another_node_arrive_in_order),
        tcp_test(events_missed_while_the_way_was_closed_are_replayed),
        tcp_test(a_node_that_comes_later_is_waited_for),
        tcp_test(who_is_removed_hears_nothing_more_and_the_others_miss_nothing),
        tcp_test(a_publisher_that_starts_again_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
