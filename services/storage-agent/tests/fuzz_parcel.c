/* Pieces of volumes from any bytes: what is taken stays within its limit, in order, and comes back the same.
 */
#include <string.h>

#include "core/parcel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint64_t limit = (uint64_t)1 << 40;
    uint64_t from = 0;
    while (size >= STO_PARCEL_HEAD) {
        struct sto_parcel parcel;
        uint8_t again[STO_PARCEL_HEAD];
        if (sto_parcel_unpack(data, from, limit, &parcel, NULL) == ATL_OK) {
            atl_assert(parcel.offset >= from);
            atl_assert(parcel.offset + (parcel.end ? 0 : parcel.length) <= limit);
            sto_parcel_pack(&parcel, again);
            atl_assert(memcmp(again, data, sizeof again) == 0);
            from = parcel.end ? 0 : parcel.offset + parcel.length;
        }
        data += STO_PARCEL_HEAD;
        size -= STO_PARCEL_HEAD;
    }
    return 0;
}
