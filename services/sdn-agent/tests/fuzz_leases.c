/* A lease file holds what guests say of themselves. */
#include <string.h>

#include "core/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atl_arena arena = {0};
    struct sdn_lease *leases = NULL;
    size_t count = 0;
    sdn_leases_read((const char *)data, size, 0, &arena, &leases, &count);
    for (size_t i = 0; i < count; i++) {
        atl_assert(strlen(leases[i].mac) == 17);
        atl_assert(strlen(leases[i].hostname) < sizeof leases[i].hostname);
    }
    atl_arena_done(&arena);
    return 0;
}
