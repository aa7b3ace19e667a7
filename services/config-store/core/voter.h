/*
 * Whether this node's etcd is to be a member of the cluster's: decides for a node whose vote came later than
 * it, because a voter was removed (core/corosync_conf.h gives the vote on), or whose member was lost. Pure.
 */
#ifndef CFG_CORE_VOTER_H
#define CFG_CORE_VOTER_H

#include "pure/base.h"

struct cfg_voter_view {
    bool votes;            /* corosync.conf gives this node a vote */
    bool has_files;        /* this node has an etcd, with its configuration */
    bool asked;            /* the next two are known */
    bool listed;           /* the members of etcd have our peer address among them */
    unsigned int unlisted; /* so often in a row they had not */
};

enum cfg_voter_act {
    CFG_VOTER_NOTHING,
    CFG_VOTER_ASK,    /* who the members are */
    CFG_VOTER_ADD,    /* ourselves, as a learner, and begin */
    CFG_VOTER_REMOVE, /* a member that never began: it was cut off before it had its files */
    CFG_VOTER_WIPE,   /* an etcd that is a member no more */
};

enum { CFG_VOTER_SURE = 3 }; /* looks in a row before anything is wiped */

enum cfg_voter_act cfg_voter_next(const struct cfg_voter_view *view);

#endif
