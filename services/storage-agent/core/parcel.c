/* Volumes in pieces. */
#include "core/parcel.h"

static void put(uint64_t value, unsigned int size, uint8_t *to)
{
    for (unsigned int i = 0; i < size; i++)
        to[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
}

static uint64_t take(const uint8_t *from, unsigned int size)
{
    uint64_t value = 0;
    for (unsigned int i = 0; i < size; i++)
        value = value << 8 | from[i];
    return value;
}

void sto_parcel_pack(const struct sto_parcel *parcel, uint8_t ret_head[STO_PARCEL_HEAD])
{
    atl_assert(parcel->length > 0);
    atl_assert(parcel->length <= STO_PARCEL_PIECE_MAX);
    ret_head[0] = parcel->end ? 'E' : 'D';
    put(parcel->offset, 8, ret_head + 1);
    put(parcel->length, 4, ret_head + 9);
}

enum atl_code sto_parcel_unpack(const uint8_t head[STO_PARCEL_HEAD], uint64_t from, uint64_t limit,
                                struct sto_parcel *ret_parcel, struct atl_error *err)
{
    struct sto_parcel parcel = {
        .end = head[0] == 'E', .offset = take(head + 1, 8), .length = (uint32_t)take(head + 9, 4)};
    bool sized = parcel.end ? parcel.length == STO_PARCEL_DIGEST
                            : parcel.length > 0 && parcel.length <= STO_PARCEL_PIECE_MAX;
    if ((!parcel.end && head[0] != 'D') || !sized)
        return atl_fail(err, ATL_E_INVALID, NULL, "what came is no piece of a volume");
    if (parcel.offset < from)
        return atl_fail(err, ATL_E_INVALID, NULL, "a piece of the volume came out of its order");
    if (parcel.offset > limit || (!parcel.end && parcel.length > limit - parcel.offset))
        return atl_fail(err, ATL_E_INVALID, NULL,
                        "the volume is longer than the %" PRIu64 " bytes that were announced", limit);
    *ret_parcel = parcel;
    return ATL_OK;
}

atl_ns sto_parcel_rest(uint64_t sent, uint64_t bytes_per_s, atl_ns passed)
{
    if (bytes_per_s == 0)
        return 0;
    uint64_t seconds = sent / bytes_per_s; /* in two steps: the product would not fit */
    uint64_t rest = sent % bytes_per_s;
    if (seconds > INT32_MAX)
        seconds = INT32_MAX;
    atl_ns due =
        (atl_ns)seconds * ATL_SECOND + (atl_ns)((double)rest / (double)bytes_per_s * (double)ATL_SECOND);
    return due > passed ? due - passed : 0;
}
