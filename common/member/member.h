/*
 * Who is in the cluster, and whether it has a quorum.
 *
 * Two implementations: corosync (votequorum says who votes and whether that is enough, cmap who is
 * configured), and a machine that is alone, which is always quorate. corosync's libraries wait for the daemon
 * without a limit, so they run in a thread of their own; the loop sees copies. A corosync that is gone, or
 * that has not answered for two seconds, is "not quorate": nobody knows then.
 *
 * All functions belong to the loop's thread. Times are CLOCK_MONOTONIC.
 */
#ifndef ATL_MEMBER_MEMBER_H
#define ATL_MEMBER_MEMBER_H

#include "io/loop.h"
#include "pure/error.h"

enum { ATL_MEMBERS_MAX = 128, ATL_MEMBER_LINKS = 2 };

struct atl_member {
    uint32_t id;
    char name[64];
    char links[ATL_MEMBER_LINKS][64]; /* addresses; "" where there is no such link */
    uint32_t votes;
    bool online; /* counted by corosync now */
    bool self;
};

struct atl_membership {
    bool connected; /* corosync answers */
    bool quorate;
    atl_ns changed_at; /* when the change that led here was told by corosync (or found missing) */
    atl_ns quorate_at; /* when `quorate` last changed */
    uint64_t ring;     /* grows with each membership of corosync; 0: not known */
    uint64_t config_version;
    char cluster_name[64]; /* "" alone */
    uint32_t expected_votes;
    uint32_t total_votes;
    uint32_t needed_votes;
    uint32_t qdevice_votes; /* 0: none, or it does not vote now */
    bool has_qdevice;
    struct atl_member members[ATL_MEMBERS_MAX]; /* configured nodes, by id */
    size_t count;
};

struct atl_members;
/* Called after each change, with what holds now; borrowed for the call. */
typedef void atl_members_fn(const struct atl_membership *now, void *user);

struct atl_members_options {
    struct atl_loop *loop;
    const char *node; /* our name, for the machine that is alone */
    bool corosync;    /* false: alone */
};

/* Never fails: a corosync that is not there is "not connected" until it is. fn may be NULL. */
struct atl_members *atl_members_open(const struct atl_members_options *options, atl_members_fn *fn,
                                     void *user);
void atl_members_close(struct atl_members **members);

/* What holds now; valid until the next round of the loop. */
const struct atl_membership *atl_members_now(const struct atl_members *members);
/* By name; NULL: not configured. */
const struct atl_member *atl_members_find(const struct atl_membership *now, const char *name);

#endif
