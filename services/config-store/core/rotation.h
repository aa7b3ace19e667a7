/*
 * How the secrets that all nodes share are replaced: corosync's key, the key of priv/, the cluster's
 * authority and with it all certificates, and after them what signs tickets. Decides what one node does next;
 * pure.
 *
 * A generation of secrets comes in three phases, each of which ends when every node that is online has told
 * that it has done its part. So nobody is asked for what he cannot have yet:
 *
 *   SPREAD  everybody has the new secrets beside the old ones, and believes both
 *   USE     everybody uses the new ones, and still believes the old ones
 *   DROP    nobody believes the old ones any more
 *
 * Whoever is not online meanwhile, or whose member of etcd the others do not believe any more, gets the new
 * ones over the bus, whose keys are each node's own, as soon as all others use them.
 */
#ifndef CFG_CORE_ROTATION_H
#define CFG_CORE_ROTATION_H

#include "core/corosync_conf.h"

enum cfg_rotation_phase {
    CFG_ROTATION_DONE,
    CFG_ROTATION_SPREAD,
    CFG_ROTATION_USE,
    CFG_ROTATION_DROP,
    CFG_ROTATION_PHASES,
};
const char *cfg_rotation_phase_to_text(enum cfg_rotation_phase phase);

/* How far the cluster is. */
struct cfg_rotation {
    uint64_t generation; /* 0: of the cluster as it was created */
    enum cfg_rotation_phase phase;
    const char *by; /* who makes the new secrets */
};

/* A node as the others see it. */
struct cfg_rotation_node {
    const char *name;
    bool online;
    uint64_t generation; /* of what it last told to have done */
    enum cfg_rotation_phase phase;
    bool witness; /* it has no secrets but its own certificate, and gives none to others; the last in the list
                   */
};

struct cfg_rotation_view {
    struct cfg_rotation rotation;
    const struct cfg_rotation_node *nodes; /* members, by id, ourselves among them */
    size_t count;
    const char *self;
    uint64_t generation; /* of the secrets that we use and nothing else */
    bool prepared;       /* the new secrets of this generation lie ready here */
};

enum cfg_rotation_kind {
    CFG_ROTATE_NOTHING,
    CFG_ROTATE_MAKE,      /* makes the new secrets */
    CFG_ROTATE_FETCH,     /* gets them from `node` */
    CFG_ROTATE_CARRY_OUT, /* our part of the phase, then it is told */
    CFG_ROTATE_TELL,      /* it was done before */
    CFG_ROTATE_ADVANCE,   /* all have done theirs: the cluster's phase is `phase` from now on */
    CFG_ROTATE_TAKE_OVER, /* who makes the secrets is gone: a generation of our own */
    CFG_ROTATE_CATCH_UP,  /* gets what the others use from any of them */
};
struct cfg_rotation_act {
    enum cfg_rotation_kind kind;
    const char *node;              /* FETCH */
    enum cfg_rotation_phase phase; /* CARRY_OUT, TELL, ADVANCE */
    bool anew; /* CARRY_OUT: our member of etcd begins anew, since what it believes is read at its start */
};

/*
 * What we do next. Parts that make a member of etcd begin anew (SPREAD and DROP) are carried out one node
 * after the other, and USE too by who missed SPREAD: its member believes the old authority alone. The first
 * node that is online is the one that advances.
 */
struct cfg_rotation_act cfg_rotation_next(const struct cfg_rotation_view *view);

enum { CFG_KEEPERS = 3 };
/* May a node that was cut off have secrets of this generation for good? Not while it may still begin anew. */
bool cfg_rotation_is_settled(enum cfg_rotation_phase phase);

/* Does the node keep the key of the cluster's authority? The first three of the list do, so that the loss of
 * one of them is none of the key. */
bool cfg_keeps_authority(const struct cfg_corosync *conf, const char *node);

/* Is it the witness's turn to do its part of the phase? When all nodes that are online have done theirs. */
bool cfg_rotation_is_witness_turn(const struct cfg_rotation_view *view);

/* Is it time to renew what is good from one moment to the other (seconds of the wall clock)? At two thirds of
 * its life; also when the clock says that it is not good yet. */
bool cfg_renewal_due(int64_t not_before, int64_t not_after, int64_t now);

/* A list of certificates as one text: `first` in front, then `rest` without it. Either may be "". */
void cfg_bundle(const char *first, const char *rest, struct atl_buf *out);

#endif
