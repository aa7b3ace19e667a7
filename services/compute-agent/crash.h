/*
 * Where a migration can be cut off: between each two things that stay. Tests end the worker at
 * each of them and look what became of the guest.
 *
 * Points are armed by their names, a line each, in the file STATE/compute-agent/crash-at, where root alone
 * can write. At the first of them its line is removed, and the process is killed; then comes the next one's
 * turn. With the word "hold" behind its name the process is stopped instead, until somebody lets it go on.
 */
#ifndef CMP_CRASH_H
#define CMP_CRASH_H

#include "io/task.h"

enum cmp_crash_point {
    /* a container */
    CMP_CRASH_CT_CHECKED,
    CMP_CRASH_CT_LOCKED,
    CMP_CRASH_CT_STOPPED,
    CMP_CRASH_CT_OFFERED,
    CMP_CRASH_CT_SENDING,
    CMP_CRASH_CT_SENT,
    CMP_CRASH_CT_HANDED_OVER,
    CMP_CRASH_CT_AWAKE,
    CMP_CRASH_CT_FREED,
    /* when it fails, or is put in order */
    CMP_CRASH_CT_TAKEN_BACK,
    CMP_CRASH_CT_UP_AGAIN,
    /* a virtual machine, at the source */
    CMP_CRASH_VM_REACHED,
    CMP_CRASH_VM_CHECKED,
    CMP_CRASH_VM_LOCKED,
    CMP_CRASH_VM_PREPARED,
    CMP_CRASH_VM_COPIED,
    CMP_CRASH_VM_SENDING,
    CMP_CRASH_VM_SENT,
    CMP_CRASH_VM_HANDED_OVER,
    CMP_CRASH_VM_ENDED,
    CMP_CRASH_VM_TAKEN_BACK,
    CMP_CRASH_VM_GOES_ON,
    /* and at the target */
    CMP_CRASH_VM_LISTENING,
    CMP_CRASH_VM_MADE,
    CMP_CRASH_VM_WAITING,
    CMP_CRASH_VM_WHOLE,
    CMP_CRASH_VM_OWNED,
    CMP_CRASH_VM_RUNNING,
    CMP_CRASH_POINTS,
};
const char *cmp_crash_point_to_text(enum cmp_crash_point point);

/* Ends the process if it is armed for this point. */
void cmp_crash_at(const struct atl_task *task, enum cmp_crash_point point);

#endif
