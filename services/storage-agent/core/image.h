/*
 * What the first bytes of a disk image say: its size for the guest, and whether it reaches into other files.
 *
 * An image that came from outside may name a backing file or a data file ("/etc/shadow") that whoever opens
 * it then reads; so images are looked at here before any engine opens them.
 */
#ifndef STO_CORE_IMAGE_H
#define STO_CORE_IMAGE_H

#include "core/volume.h"

enum { STO_IMAGE_HEAD = 65536 }; /* how much of a file to read for sto_image_read() */

struct sto_image {
    uint64_t size_bytes; /* as the guest sees it; 0 for raw: the length of the file is the size */
    bool foreign;        /* has a backing, data, extent or parent file */
};

/*
 * head    borrowed; the first `size` bytes of the file, STO_IMAGE_HEAD of them unless it is shorter
 * format  what the file is said to be; it is never guessed
 *
 * Errors: ATL_E_INVALID it is not such an image, or one of a kind we do not take (encrypted, too large).
 */
ATL_MUST_CHECK enum atl_code sto_image_read(enum sto_format format, const void *head, size_t size,
                                            struct sto_image *ret_image, struct atl_error *err);

#endif
