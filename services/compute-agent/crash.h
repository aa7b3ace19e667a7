/*
 * Where a migration of a container can be cut off: between each two things that stay. Tests end the worker at
 * each of them and look what became of the guest.
 *
 * A point is armed by its name in the file STATE/compute-agent/crash-at, where root alone can write; the file
 * is removed, and the process is killed.
 */
#ifndef CMP_CRASH_H
#define CMP_CRASH_H

#include "io/task.h"

enum cmp_crash_point {
    CMP_CRASH_CT_CHECKED,
    CMP_CRASH_CT_LOCKED,
    CMP_CRASH_CT_STOPPED,
    CMP_CRASH_CT_OFFERED,
    CMP_CRASH_CT_SENDING,
    CMP_CRASH_CT_SENT,
    CMP_CRASH_CT_HANDED_OVER,
    CMP_CRASH_CT_AWAKE,
    CMP_CRASH_CT_FREED,
    CMP_CRASH_POINTS,
};
const char *cmp_crash_point_to_text(enum cmp_crash_point point);

/* Ends the process if it is armed for this point. */
void cmp_crash_at(const struct atl_task *task, enum cmp_crash_point point);

#endif
