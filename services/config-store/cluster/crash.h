/*
 * Where create, join, removal and the change of secrets can be cut off: between each two things that stay.
 * Tests end the process at each of them and do the same again.
 *
 * It does nothing unless the environment has ATOLL_CRASH_FILE, which only the supervisor can set: the name of
 * a file in config-store's folder, or the witness's. When that holds the point's name it is removed, and the
 * process is killed.
 */
#ifndef CFG_CLUSTER_CRASH_H
#define CFG_CLUSTER_CRASH_H

#include "cluster/place.h"

enum cfg_crash_point {
    /* create, on the node */
    CFG_CRASH_CREATE_WIPED,
    CFG_CRASH_CREATE_FILES,
    CFG_CRASH_CREATE_PLACES,
    CFG_CRASH_CREATE_DECIDED,
    CFG_CRASH_MOVE_STARTED,
    CFG_CRASH_MOVE_CLEANED, /* as enum cfg_move_step, from here */
    CFG_CRASH_MOVE_LOADING,
    CFG_CRASH_MOVE_LOADED,
    CFG_CRASH_MOVE_VERIFIED,
    CFG_CRASH_MOVE_SWITCHED, /* to here */
    CFG_CRASH_MOVE_MEMBER,
    /* join, on the node */
    CFG_CRASH_JOIN_WIPED,
    CFG_CRASH_JOIN_ANSWERED,
    CFG_CRASH_JOIN_FILES,
    CFG_CRASH_JOIN_DECIDED,
    CFG_CRASH_JOIN_ETCD,
    CFG_CRASH_JOIN_VOTE,
    CFG_CRASH_BRING_STARTED,
    CFG_CRASH_BRING_STORED,
    CFG_CRASH_BRING_MEMBER,
    /* join, on the node that admits */
    CFG_CRASH_ADMIT_LEARNER,
    CFG_CRASH_ADMIT_RECORDED,
    CFG_CRASH_ADMIT_PROMOTED,
    /* removal, and the change of secrets after it */
    CFG_CRASH_REMOVE_MEMBER,
    CFG_CRASH_REMOVE_STORED,
    CFG_CRASH_ROTATE_MADE,
    CFG_CRASH_ROTATE_SPREAD, /* as enum cfg_rotation_phase, from here */
    CFG_CRASH_ROTATE_USED,
    CFG_CRASH_ROTATE_DROPPED, /* to here */
    CFG_CRASH_ROTATE_RESEALED,
    /* a witness comes and goes, at the node that admits it and takes it out */
    CFG_CRASH_WITNESS_LEARNER,
    CFG_CRASH_WITNESS_RECORDED,
    CFG_CRASH_WITNESS_PROMOTED,
    CFG_CRASH_WITNESS_REMOVED,
    CFG_CRASH_WITNESS_FORGOTTEN,
    /* the same on the witness's own machine: `join` */
    CFG_CRASH_ENTER_ASKS,
    CFG_CRASH_ENTER_ANSWERED,
    CFG_CRASH_ENTER_FILES,
    CFG_CRASH_ENTER_COMPLETE,
    /* `serve`: what `join` left is taken, certificates change, it is taken out */
    CFG_CRASH_TAKE_EMPTIED,
    CFG_CRASH_TAKE_COPIED,
    CFG_CRASH_TAKE_DECIDED,
    CFG_CRASH_TAKE_DONE,
    CFG_CRASH_RENEW_CA,
    CFG_CRASH_RENEW_CERTIFICATE,
    CFG_CRASH_QUIT_DECIDED,
    CFG_CRASH_POINTS,
};
const char *cfg_crash_point_to_text(enum cfg_crash_point point);

/* What the environment says; NULL: nothing is armed, as always but in tests. */
const char *cfg_crash_file(void);

/* Ends the process if it is armed for this point. */
void cfg_crash_at(const struct cfg_place *place, enum cfg_crash_point point);

#endif
