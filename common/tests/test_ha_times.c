/* The times of high availability fit together, and those that do not are refused by name. */
#include "atl_test.h"

#include "ha/times.h"

static void ticks_fit(void **state)
{
    (void)state;
    for (uint32_t tick = ATL_HA_TICK_MIN_MS; tick <= ATL_HA_TICK_MAX_MS; tick += 50) {
        struct atl_ha_times times = atl_ha_times_of(tick);
        struct atl_error err = {0};
        assert_int_equal(atl_ha_times_check(&times, &err), ATL_OK);
    }
    struct atl_ha_times times = atl_ha_times_of(ATL_HA_TICK_MS);
    assert_int_equal(times.feed_horizon_ms, 2500);
    assert_int_equal(times.watchdog_ms, 2000);
    assert_int_equal(times.lease_wait_ms, 7000);
}

static void others_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct atl_ha_times times;
        const char *field;
    } rows[] = {
        {{50, 250, 200, 50, 700, 200}, "tick"},
        {{20000, 100000, 80000, 20000, 280000, 80000}, "tick"},
        {{500, 1499, 2000, 500, 7000, 2000}, "feed-horizon"},
        {{500, 2500, 999, 500, 7000, 2000}, "watchdog"},
        {{500, 2500, 2000, 500, 6999, 2000}, "lease-wait"},
        {{500, 2500, 2000, 0, 6500, 2000}, "lease-wait"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct atl_error err = {0};
        assert_int_equal(atl_ha_times_check(&rows[i].times, &err), ATL_E_INVALID);
        assert_string_equal(err.field, rows[i].field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ticks_fit), cmocka_unit_test(others_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
