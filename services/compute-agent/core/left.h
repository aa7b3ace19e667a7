/* What a creation that was cut off has left: which volumes are not its own, when removing is tried again.
 * Pure. */
#ifndef CMP_CORE_LEFT_H
#define CMP_CORE_LEFT_H

#include "pure/base.h"

enum { CMP_LEFT_TRIES = 10 };

/* keep: volumes that carried the guest's id before it was made, and "STORAGE:" for each storage that nobody
 * could look into then. volid: "STORAGE:NAME", or "STORAGE:" alone for the question about a storage. */
bool cmp_left_keeps(char *const *keep, size_t count, const char *volid);

/* How long to wait after so many tries that failed, from 1: ten seconds, then twice as long each time, ten
 * minutes at most. 0: it is given up. */
atl_ns cmp_left_pause(unsigned int failed);

#endif
