/*
 * The times of high availability: all out of one, the tick. Pure.
 *
 * A holder of a node's lock renews it each tick. It may feed the watchdog as long as its last confirmed
 * renewal began less than feed_horizon ago; a feed that was decided in time may be carried out up to one
 * watchdog timeout late, and resets the machine at the latest one timeout after that. So whoever waits
 *
 *     lease_wait >= feed_horizon + 2 x watchdog + margin
 *
 * from the last change it saw may be sure that the node is dead. The margin is for clocks that drift and for
 * what was on its way to a disk.
 */
#ifndef ATL_HA_TIMES_H
#define ATL_HA_TIMES_H

#include "pure/base.h"
#include "pure/error.h"

enum {
    ATL_HA_TICK_MS = 500,       /* the default */
    ATL_HA_TICK_SLOW_MS = 3000, /* weak machines, the lab */
    ATL_HA_TICK_MIN_MS = 100,
    ATL_HA_TICK_MAX_MS = 10000,
};

struct atl_ha_times {
    uint32_t renew_ms;        /* between two renewals */
    uint32_t feed_horizon_ms; /* a renewal that began longer ago feeds nothing */
    uint32_t watchdog_ms;     /* of the watchdog itself: reset so long after the last feed */
    uint32_t margin_ms;
    uint32_t lease_wait_ms; /* a lock that did not change for so long may be taken over */
    uint32_t
        manager_wait_ms; /* a manager that did not renew for so long is replaced: no guest depends on it */
};

/* 500 ms gives 0.5, 2.5, 2, 0.5, 7 and 2 s. */
struct atl_ha_times atl_ha_times_of(uint32_t tick_ms);

/* Do they fit together? ATL_E_INVALID with the sentence that says which does not. */
ATL_MUST_CHECK enum atl_code atl_ha_times_check(const struct atl_ha_times *times, struct atl_error *err);

/* How long to wait before taking over a lock whose holder promised these. */
uint64_t atl_ha_lease_wait(uint32_t feed_horizon_ms, uint32_t watchdog_ms, uint32_t margin_ms);

#endif
