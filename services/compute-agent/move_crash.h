/*
 * Where a migration can be cut off: between each two things that stay. Tests end or hold the worker at each
 * of them.
 *
 * It does nothing unless the agent's environment has ATOLL_CRASH_FILE, which only the supervisor can set: the
 * name of a file in compute-agent's folder. When that holds the point's name it is removed and the worker is
 * killed; with the word "hold" behind it the worker is stopped until somebody lets it go on.
 */
#ifndef CMP_MOVE_CRASH_H
#define CMP_MOVE_CRASH_H

#include "work.h"

enum move_crash_point {
    /* the worker at the source */
    MOVE_CRASH_REACHED,
    MOVE_CRASH_CHECKED,
    MOVE_CRASH_LOCKED,
    MOVE_CRASH_PREPARED,
    MOVE_CRASH_COPIED,
    MOVE_CRASH_SENDING,
    MOVE_CRASH_SENT,
    MOVE_CRASH_HANDED,
    MOVE_CRASH_ENDED,
    /* the worker at the target */
    MOVE_CRASH_LISTENING,
    MOVE_CRASH_MADE,
    MOVE_CRASH_WAITING,
    MOVE_CRASH_WHOLE,
    MOVE_CRASH_OWNED,
    MOVE_CRASH_RUNNING,
    MOVE_CRASH_POINTS,
};

/* Ends or holds the process if it is armed for this point. */
void move_crash_at(const struct work *work, enum move_crash_point point);

#endif
