/* The questions that libzmq asks before it lets a connection in (ZeroMQ Authentication Protocol, RFC 27). */
#include <string.h>

#include "io/bus_internal.h"

enum {
    PART_VERSION,
    PART_REQUEST,
    PART_DOMAIN,
    PART_ADDRESS,
    PART_IDENTITY,
    PART_MECHANISM,
    PART_KEY,
    PARTS
};
static_assert((int)PARTS < (int)BUS_ZAP_PARTS, "one part too many has to be seen");

static bool says(const struct bus_bytes *part, const char *text)
{
    return part->size == strlen(text) && memcmp(part->data, text, part->size) == 0;
}

const uint8_t *atl_bus_zap_key(const struct bus_bytes parts[BUS_ZAP_PARTS], size_t count)
{
    if (count != PARTS || !says(&parts[PART_VERSION], "1.0") || !says(&parts[PART_DOMAIN], "atoll") ||
        !says(&parts[PART_MECHANISM], "CURVE") || parts[PART_KEY].size != ATL_BUS_KEY_SIZE)
        return NULL;
    return parts[PART_KEY].data;
}
