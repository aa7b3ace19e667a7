/*
 * A boot sector that tells whether a hypervisor really runs guests: it goes to 64-bit mode, does what kernels
 * do early (cmpxchg16b, xsave, xrstor), counts to a hundred million, and writes one word to the serial port.
 * Where KVM only interprets, the first fails or the last takes minutes.
 */
#ifndef CMP_CORE_PROBE_H
#define CMP_CORE_PROBE_H

#include "pure/base.h"

#define CMP_PROBE_WORD "ATOLL-PROBE-OK"
enum { CMP_PROBE_SIZE = 512, CMP_PROBE_VERSION = 1, CMP_PROBE_S = 6 };

/* The bytes of the disk to boot from. */
void cmp_probe_image(uint8_t image[CMP_PROBE_SIZE]);

#endif
