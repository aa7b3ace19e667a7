/* Starts the guests with `onboot` once after the host has booted, in their order; never after a mere restart.
 */
#ifndef CMP_BOOT_H
#define CMP_BOOT_H

#include "cmp.h"

struct cmp_boot;

struct cmp_boot *cmp_boot_open(struct cmp *cmp);
void cmp_boot_close(struct cmp_boot **boot);

#endif
