/*
 * How long a request from another node was under way and in queues before it was read.
 *
 * The clocks of two nodes have nothing to do with each other, but their difference changes slowly: of the
 * requests of one connection the quickest shows it, and what another one took longer is its age. So a service
 * that was stopped for a while does not carry out what its callers have given up. The peer's clock is not
 * trusted with more than the age of its own requests.
 */
#include <string.h>

#include "io/bus_internal.h"

#define WINDOW        (10 * ATL_SECOND) /* a difference that is seen no more is forgotten after one or two */
#define DRIFT_DIVISOR 2000              /* clocks that are being corrected differ by 500 ppm */

static bool is_of(const struct bus_age *age, const struct bus_identity *who)
{
    return age->used != 0 && age->who.size == who->size && memcmp(age->who.bytes, who->bytes, who->size) == 0;
}

/* The connection's, or the one that has been quiet the longest, emptied. */
static struct bus_age *find(struct bus_age ages[BUS_AGES], const struct bus_identity *who)
{
    struct bus_age *oldest = &ages[0];
    for (size_t i = 0; i < BUS_AGES; i++) {
        if (is_of(&ages[i], who))
            return &ages[i];
        if (ages[i].used < oldest->used)
            oldest = &ages[i];
    }
    *oldest = (struct bus_age){.who = *who};
    return oldest;
}

atl_ns atl_bus_age(struct bus_age ages[BUS_AGES], const struct bus_identity *who, int64_t sent_at, atl_ns now)
{
    atl_assert(now > 0);
    if (sent_at < 0)
        return 0; /* no clock says that; both are positive from here on, so nothing overflows */
    struct bus_age *age = find(ages, who);
    int64_t gap = now - sent_at;
    atl_ns quiet = age->used != 0 ? now - age->used : 0;
    if (age->used == 0)
        *age = (struct bus_age){.who = *who, .least = gap, .next_least = gap, .since = now};
    if (gap < age->least)
        age->least = gap;
    if (gap < age->next_least)
        age->next_least = gap;
    atl_ns result = 0;
    if (__builtin_sub_overflow(gap, age->least, &result))
        result = BUS_LONGEST_CALL; /* a clock that jumps by centuries */
    result -= quiet / DRIFT_DIVISOR;
    if (now - age->since >= WINDOW) {
        age->least = age->next_least;
        age->next_least = gap;
        age->since = now;
    }
    age->used = now;
    return result > 0 ? result : 0;
}
