/* Failed logins per address, in a hash table of four-slot sets. */
#include "core/throttle.h"

#include <string.h>

enum { WAYS = 4 };

static size_t set_of(const char *address)
{
    uint32_t hash = 2166136261U; /* FNV-1a */
    for (; *address != '\0'; address++)
        hash = (hash ^ (unsigned char)*address) * 16777619U;
    return hash % (GW_THROTTLE_SLOTS / WAYS) * WAYS;
}

void gw_throttle_failed(struct gw_throttle *throttle, const char *address, atl_ns now)
{
    struct gw_throttle_slot *set = &throttle->slots[set_of(address)];
    struct gw_throttle_slot *slot = &set[0];
    for (size_t i = 0; i < WAYS; i++) {
        if (strcmp(set[i].address, address) == 0) {
            slot = &set[i];
            break;
        }
        if (set[i].until < slot->until) /* the one that lapses first makes room */
            slot = &set[i];
    }
    if (strcmp(slot->address, address) != 0 || now >= slot->until) {
        *slot = (struct gw_throttle_slot){.until = now + ATL_MINUTE};
        (void)atl_copy(slot->address, sizeof slot->address, address); /* GW_ADDRESS_MAX holds any address */
    }
    slot->failures++;
}

bool gw_throttle_blocks(const struct gw_throttle *throttle, const char *address, atl_ns now)
{
    const struct gw_throttle_slot *set = &throttle->slots[set_of(address)];
    for (size_t i = 0; i < WAYS; i++) {
        if (strcmp(set[i].address, address) == 0)
            return now < set[i].until && set[i].failures >= GW_FAILURES_MAX;
    }
    return false;
}
