/* What etcd's answers mean: outcomes, ends of prefixes, events in parts. */
#include "atl_test.h"

#include "etcd/core.h"

static struct atl_error err;

static void only_what_surely_was_not_done_may_be_done_again(void **state)
{
    (void)state;
    static const struct {
        struct atl_etcd_ending ending;
        enum atl_etcd_outcome outcome;
    } cases[] = {
        {{ATL_OK, true, true, ""}, ATL_ETCD_DONE},
        {{ATL_E_UNAVAILABLE, false, false, "no connection"}, ATL_ETCD_NOT_DONE},
        {{ATL_E_DEADLINE, false, false, ""}, ATL_ETCD_NOT_DONE},
        {{ATL_E_DEADLINE, true, false, ""}, ATL_ETCD_UNKNOWN},
        {{ATL_E_UNAVAILABLE, true, false, "connection lost"}, ATL_ETCD_UNKNOWN},
        {{ATL_E_LIMIT, true, false, "our own limit"}, ATL_ETCD_UNKNOWN},
        {{ATL_E_UNAVAILABLE, true, true, "etcdserver: no leader"}, ATL_ETCD_NOT_DONE},
        {{ATL_E_UNAVAILABLE, true, true, "etcdserver: leader changed"}, ATL_ETCD_UNKNOWN},
        {{ATL_E_UNAVAILABLE, true, true, "etcdserver: request timed out"}, ATL_ETCD_UNKNOWN},
        {{ATL_E_LIMIT, true, true, "etcdserver: mvcc: database space exceeded"}, ATL_ETCD_NOT_DONE},
        {{ATL_E_RANGE, true, true, "compacted"}, ATL_ETCD_NOT_DONE},
        {{ATL_E_UNKNOWN, true, true, "?"}, ATL_ETCD_UNKNOWN},
        {{ATL_E_INTERNAL, true, true, "?"}, ATL_ETCD_UNKNOWN},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++)
        assert_int_equal(atl_etcd_outcome(&cases[i].ending), cases[i].outcome);
}

static void the_end_of_a_prefix_is_the_next_key_without_it(void **state)
{
    (void)state;
    uint8_t end[4];
    assert_int_equal(atl_etcd_prefix_end((const uint8_t *)"ab/", 3, end), 3);
    assert_memory_equal(end, "ab0", 3);
    assert_int_equal(atl_etcd_prefix_end((const uint8_t *)"a\xff\xff", 3, end), 1);
    assert_memory_equal(end, "b", 1);
}

/* An answer with one event for each of the revisions, as it would come from the wire. */
static enum atl_code feed(struct atl_etcd_events *events, const int64_t *revisions, size_t count,
                          bool fragment)
{
    Etcd__WatchResponse *answer = atl_alloc0(sizeof *answer);
    etcd__watch_response__init(answer);
    answer->fragment = fragment;
    answer->n_events = count;
    answer->events = atl_alloc0((count + 1) * sizeof answer->events[0]);
    for (size_t i = 0; i < count; i++) {
        answer->events[i] = atl_alloc0(sizeof(Etcd__Event));
        etcd__event__init(answer->events[i]);
        answer->events[i]->kv = atl_alloc0(sizeof(Etcd__KeyValue));
        etcd__key_value__init(answer->events[i]->kv);
        answer->events[i]->kv->mod_revision = revisions[i];
    }
    enum atl_code code = atl_etcd_events_add(events, answer, &err);
    etcd__watch_response__free_unpacked(answer, NULL);
    return code;
}

static void next(struct atl_etcd_events *events, size_t count, int64_t revision)
{
    Etcd__Event *const *got = NULL;
    assert_int_equal(atl_etcd_events_next(events, &got), count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(got[i]->kv->mod_revision, revision);
    assert_int_equal(events->seen, revision);
}

static void revisions_come_whole_and_once(void **state)
{
    (void)state;
    struct atl_etcd_events events;
    atl_etcd_events_init(&events, 4);
    assert_atl_ok(feed(&events, (const int64_t[]){4, 5, 5, 6}, 4, true), &err); /* 4 is known already */
    next(&events, 2, 5);
    next(&events, 0, 5); /* 6 may go on */
    assert_atl_ok(feed(&events, (const int64_t[]){6, 6}, 2, true), &err);
    next(&events, 0, 5);
    assert_atl_ok(feed(&events, (const int64_t[]){6, 7}, 2, false), &err);
    next(&events, 4, 6);
    next(&events, 1, 7);
    next(&events, 0, 7);
    assert_int_equal(feed(&events, (const int64_t[]){9, 8}, 2, false), ATL_E_INVALID);
    atl_etcd_events_done(&events);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_surely_was_not_done_may_be_done_again),
        cmocka_unit_test(the_end_of_a_prefix_is_the_next_key_without_it),
        cmocka_unit_test(revisions_come_whole_and_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
