/*
 * A volume on its way between two nodes: pieces of its file in the order of their offsets, without the holes
 * between them; at the end the length of the file and the SHA-256 of everything before.
 *
 *   piece:  'D' | offset, 8 bytes | length, 4 bytes | bytes
 *   end:    'E' | length of the file, 8 bytes | 32, 4 bytes | digest
 * A folder goes as an archive (tar), which has no holes.
 * Numbers have their most significant byte first. The digest is that of all pieces with their heads.
 */
#ifndef STO_CORE_PARCEL_H
#define STO_CORE_PARCEL_H

#include "pure/base.h"
#include "pure/error.h"

enum { STO_PARCEL_HEAD = 13, STO_PARCEL_PIECE_MAX = 1 << 20, STO_PARCEL_DIGEST = 32 };

struct sto_parcel {
    bool end;
    uint64_t offset; /* end: length of the file */
    uint32_t length; /* of what follows the head */
};

void sto_parcel_pack(const struct sto_parcel *parcel, uint8_t ret_head[STO_PARCEL_HEAD]);

/* from: where the piece before ended; limit: bytes that the file may have at most.
 * Errors: ATL_E_INVALID it is no head, goes back, or goes past the limit. */
ATL_MUST_CHECK enum atl_code sto_parcel_unpack(const uint8_t head[STO_PARCEL_HEAD], uint64_t from,
                                               uint64_t limit, struct sto_parcel *ret_parcel,
                                               struct atl_error *err);

/* How long a sender that may send bytes_per_s (0: as it likes) rests after `sent` bytes in `passed`. */
atl_ns sto_parcel_rest(uint64_t sent, uint64_t bytes_per_s, atl_ns passed);

#endif
