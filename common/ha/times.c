/* The times of high availability. */
#include "ha/times.h"

uint64_t atl_ha_lease_wait(uint32_t feed_horizon_ms, uint32_t watchdog_ms, uint32_t margin_ms)
{
    return (uint64_t)feed_horizon_ms + 2 * (uint64_t)watchdog_ms + margin_ms;
}

struct atl_ha_times atl_ha_times_of(uint32_t tick_ms)
{
    struct atl_ha_times times = {
        .renew_ms = tick_ms,
        .feed_horizon_ms = 5 * tick_ms,
        .watchdog_ms = 4 * tick_ms,
        .margin_ms = tick_ms,
        .manager_wait_ms = 4 * tick_ms,
    };
    times.lease_wait_ms =
        (uint32_t)atl_ha_lease_wait(times.feed_horizon_ms, times.watchdog_ms, times.margin_ms);
    return times;
}

enum atl_code atl_ha_times_check(const struct atl_ha_times *times, struct atl_error *err)
{
    if (times->renew_ms < ATL_HA_TICK_MIN_MS || times->renew_ms > ATL_HA_TICK_MAX_MS)
        return atl_fail(err, ATL_E_INVALID, "tick", "a lock is renewed every %d to %d ms, not every %u",
                        ATL_HA_TICK_MIN_MS, ATL_HA_TICK_MAX_MS, times->renew_ms);
    if (times->feed_horizon_ms < 3 * times->renew_ms)
        return atl_fail(
            err, ATL_E_INVALID, "feed-horizon",
            "%u ms leave no room for three renewals of %u ms: one lost answer would reset the node",
            times->feed_horizon_ms, times->renew_ms);
    if (times->watchdog_ms < 2 * times->renew_ms)
        return atl_fail(err, ATL_E_INVALID, "watchdog",
                        "a watchdog of %u ms is fed every %u ms only: it must be twice as long at least",
                        times->watchdog_ms, times->renew_ms);
    uint64_t wait = atl_ha_lease_wait(times->feed_horizon_ms, times->watchdog_ms, times->margin_ms);
    if (times->margin_ms == 0 || times->lease_wait_ms < wait)
        return atl_fail(err, ATL_E_INVALID, "lease-wait",
                        "%u ms are less than feed horizon, twice the watchdog and a margin (%llu ms): a "
                        "guest could run twice",
                        times->lease_wait_ms, (unsigned long long)wait);
    return ATL_OK;
}
