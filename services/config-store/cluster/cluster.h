/*
 * The cluster as config-store sees it: how far this node is, who is a member, who is on his way in. The steps
 * before a node is a member run as tasks (cluster/work.h); the change of engines is a restart.
 */
#ifndef CFG_CLUSTER_CLUSTER_H
#define CFG_CLUSTER_CLUSTER_H

#include "cfg.h"
#include "cluster/place.h"
#include "drivers/choose.h"
#include "member/member.h"

#define CFG_COROSYNC_CONF "corosync.conf" /* in the tree: the truth for all nodes */

/* What cluster.conf makes of the start. */
struct cfg_cluster_start {
    struct cfg_place place;
    struct cfg_cluster_conf conf;
    bool waiting; /* JOINING, but etcd has no vote yet: the node is alone until then */
    struct atl_arena arena;
};
/*
 * Reads cluster.conf and does what it asks for before the store is opened; fills choice with the engine.
 * A create that cannot be finished leaves the node alone, as it was.
 *
 * start: place is set by the caller. Blocks for as long as the tree takes to move, or etcd to come up.
 * Errors: ATL_E_IO, ATL_E_INVALID cluster.conf; ATL_E_UNAVAILABLE the supervisor.
 */
ATL_MUST_CHECK enum atl_code cfg_cluster_begin(struct cfg_cluster_start *start, struct atl_loop *loop,
                                               struct cfg_engine_choice *choice, struct atl_error *err);
void cfg_cluster_start_done(struct cfg_cluster_start *start);
/*
 * The store is open: what the node had alone goes into the tree, if it is joining. When that cannot be, or
 * the node was removed while it was away, it is alone from then on, and the error says why: config-store is
 * to end.
 */
ATL_MUST_CHECK enum atl_code cfg_cluster_finish(struct cfg *cfg, struct cfg_cluster_start *start,
                                                struct atl_error *err);

struct cfg_cluster;
struct cfg_cluster_options {
    struct cfg_cluster_start *start; /* taken: place and conf are copied, it may go */
    const char *tasks_dir;           /* folder with tasks/; NULL: our own */
};
ATL_MUST_CHECK enum atl_code cfg_cluster_open(struct cfg *cfg, const struct cfg_cluster_options *options,
                                              struct cfg_cluster **ret_cluster, struct atl_error *err);
void cfg_cluster_close(struct cfg_cluster **cluster);

/* NULL while the node is alone. */
const struct atl_membership *cfg_cluster_membership(const struct cfg_cluster *cluster);
/* The phase of the change of the secrets that all nodes share (core/rotation.h), as text. */
const char *cfg_cluster_secrets(const struct cfg_cluster *cluster);
/* Address of the witness, in the arena; NULL: there is none. */
char *cfg_cluster_witness(const struct cfg_cluster *cluster, struct atl_arena *arena);
void cfg_serve_cluster_config(struct cfg *cfg);

#endif
