/* What users of a bus may ask about it. */
#include "io/bus.h"
#include "io/bus_internal.h"

struct atl_loop *atl_bus_loop(const struct atl_bus *bus)
{
    return bus->loop;
}
