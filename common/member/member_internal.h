/* Between the loop's side of membership and the thread that talks to corosync. */
#ifndef ATL_MEMBER_INTERNAL_H
#define ATL_MEMBER_INTERNAL_H

#include "member/member.h"

/* What the thread found; copied under a lock. heard_at: when corosync last answered, 0: it is not connected.
 */
struct member_report {
    struct atl_membership state;
    atl_ns heard_at;
    uint64_t number; /* of the report */
};

struct member_thread;
/* wake_fd: an eventfd that is written after each new report. */
struct member_thread *member_thread_start(int wake_fd);
/* Asks it to end and waits; a thread that hangs in corosync is left behind, with its memory. */
void member_thread_stop(struct member_thread *thread);
void member_thread_read(struct member_thread *thread, struct member_report *ret_report);

/* Times make no difference. */
bool member_same(const struct atl_membership *one, const struct atl_membership *other);

/*
 * What the loop's side makes of a report: pure. Nothing heard for MEMBER_STALE: not connected, not quorate.
 * Returns whether *now changed; changed_at and quorate_at are set then.
 */
#define MEMBER_STALE (2 * ATL_SECOND)
bool member_apply(const struct member_report *report, atl_ns clock, struct atl_membership *now);

#endif
