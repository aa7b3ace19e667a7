/* Failed logins per address: after too many, the address waits. Bounded; an address that is forgotten starts
 * anew. */
#ifndef GW_CORE_THROTTLE_H
#define GW_CORE_THROTTLE_H

#include "pure/base.h"

enum { GW_THROTTLE_SLOTS = 1024, GW_ADDRESS_MAX = 46, GW_FAILURES_MAX = 30 };

struct gw_throttle_slot {
    char address[GW_ADDRESS_MAX];
    uint32_t failures;
    atl_ns until; /* the failures count until then */
};

/* All zero is valid and empty. */
struct gw_throttle {
    struct gw_throttle_slot slots[GW_THROTTLE_SLOTS];
};

/* Counts a failed login. The count of an address lapses one minute after its first failure. */
void gw_throttle_failed(struct gw_throttle *throttle, const char *address, atl_ns now);

/* True when the address has failed GW_FAILURES_MAX times within the minute. */
bool gw_throttle_blocks(const struct gw_throttle *throttle, const char *address, atl_ns now);

#endif
