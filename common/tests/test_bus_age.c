/* How old a request from another node is, by two clocks that have nothing to do with each other. */
#include "atl_test.h"

#include "io/bus_internal.h"

static const struct bus_identity one = {.size = 5, .bytes = {0, 1, 2, 3, 4}};
static const struct bus_identity other = {.size = 5, .bytes = {0, 1, 2, 3, 5}};
static const atl_ns start = 1000 * ATL_HOUR; /* our clock */
static const int64_t theirs = 3 * ATL_HOUR;  /* theirs at the same time */

static void the_quickest_request_has_no_age_and_the_others_have_more(void **state)
{
    (void)state;
    struct bus_age ages[BUS_AGES] = {{.used = 0}};
    assert_int_equal(atl_bus_age(ages, &one, theirs, start + 5 * ATL_MS), 0);
    assert_int_equal(atl_bus_age(ages, &one, theirs + ATL_SECOND, start + ATL_SECOND + ATL_MS), 0);
    /* 300 ms in a queue; a little is given away to clocks that drift */
    atl_ns age = atl_bus_age(ages, &one, theirs + 2 * ATL_SECOND, start + 2 * ATL_SECOND + 301 * ATL_MS);
    assert_true(age > 298 * ATL_MS && age <= 300 * ATL_MS);
    assert_int_equal(atl_bus_age(ages, &one, theirs + 3 * ATL_SECOND, start + 3 * ATL_SECOND + ATL_MS), 0);
}

static void connections_are_told_apart(void **state)
{
    (void)state;
    struct bus_age ages[BUS_AGES] = {{.used = 0}};
    (void)atl_bus_age(ages, &one, theirs, start);
    assert_int_equal(atl_bus_age(ages, &other, theirs, start + 10 * ATL_SECOND),
                     0); /* another clock, for us */
    atl_ns age = atl_bus_age(ages, &one, theirs + ATL_SECOND, start + 3 * ATL_SECOND);
    assert_true(age > 1990 * ATL_MS && age <= 2 * ATL_SECOND); /* and the first is still known */
    for (int i = 10; i < 10 + BUS_AGES; i++)
        (void)atl_bus_age(ages, &(const struct bus_identity){.size = 1, .bytes = {(uint8_t)i}}, 0,
                          start + 4 * ATL_SECOND);
    assert_int_equal(atl_bus_age(ages, &one, theirs, start + 9 * ATL_SECOND), 0); /* forgotten */
}

static void a_clock_that_was_set_back_is_believed_after_a_while(void **state)
{
    (void)state;
    struct bus_age ages[BUS_AGES] = {{.used = 0}};
    atl_ns now = start;
    int64_t sent = theirs;
    for (int i = 0; i < 30; i++, now += ATL_SECOND, sent += ATL_SECOND)
        assert_int_equal(atl_bus_age(ages, &one, sent, now), 0);
    sent -= 5 * ATL_SECOND; /* their machine stood still for five seconds */
    assert_true(atl_bus_age(ages, &one, sent, now) > 4 * ATL_SECOND);
    atl_ns last = 0;
    for (int i = 0; i < 25; i++, now += ATL_SECOND, sent += ATL_SECOND)
        last = atl_bus_age(ages, &one, sent, now);
    assert_int_equal(last, 0);
}

static void drift_over_a_quiet_day_is_no_age(void **state)
{
    (void)state;
    struct bus_age ages[BUS_AGES] = {{.used = 0}};
    (void)atl_bus_age(ages, &one, theirs, start);
    const atl_ns day = 24 * ATL_HOUR;
    assert_int_equal(atl_bus_age(ages, &one, theirs + day - day / 5000, start + day), 0); /* 200 ppm */
}

static void clocks_at_their_ends_do_no_harm(void **state)
{
    (void)state;
    static const int64_t ends[] = {INT64_MIN, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
    for (size_t i = 0; i < ATL_COUNT(ends); i++)
        for (size_t k = 0; k < ATL_COUNT(ends); k++) {
            struct bus_age ages[BUS_AGES] = {{.used = 0}};
            (void)atl_bus_age(ages, &one, ends[i], 1);
            assert_true(atl_bus_age(ages, &one, ends[k], start) >= 0);
            assert_true(atl_bus_age(ages, &one, ends[i], INT64_MAX) >= 0);
            assert_true(atl_bus_age(ages, &one, ends[k], INT64_MAX) >= 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_quickest_request_has_no_age_and_the_others_have_more),
        cmocka_unit_test(connections_are_told_apart),
        cmocka_unit_test(a_clock_that_was_set_back_is_believed_after_a_while),
        cmocka_unit_test(drift_over_a_quiet_day_is_no_age),
        cmocka_unit_test(clocks_at_their_ends_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
