/* What both tasks need. */
#ifndef CFG_CLUSTER_WORK_INTERNAL_H
#define CFG_CLUSTER_WORK_INTERNAL_H

#include "atoll/cluster/v1/work.pb-c.h"
#include "cluster/ask.h"
#include "cluster/crash.h"
#include "cluster/secrets.h"
#include "io/task.h"

struct cfg_work {
    struct atl_task *task;
    Atoll__Cluster__V1__ClusterWork *spec;
    struct cfg_place place;
    struct atl_arena arena;
    char address[CFG_ADDRESS_SIZE]; /* ours, of link 0 */
};

/* Our own node as corosync.conf will name it; the address is found out unless one was given.
 * peer: how the other side is reached tells it, or NULL. Errors: ATL_E_INVALID "link0". */
ATL_MUST_CHECK enum atl_code cfg_work_address(struct cfg_work *work, const char *peer, struct atl_error *err);
/* The files of both places, from this corosync.conf and key; members: of an etcd that is there, or NULL. */
struct cfg_work_texts {
    struct cfg_corosync *corosync;
    const struct atl_buf *authkey;
    const char *members;
    bool no_etcd; /* the node has no vote */
};
ATL_MUST_CHECK enum atl_code cfg_work_write(struct cfg_work *work, const struct cfg_work_texts *texts,
                                            struct atl_error *err);
/* Writes cluster.conf. */
ATL_MUST_CHECK enum atl_code cfg_work_decide(struct cfg_work *work, enum cfg_cluster_state state,
                                             const struct cfg_corosync *corosync, struct atl_error *err);
/* Waits for this node's etcd. */
enum cfg_etcd_state cfg_work_wait_etcd(struct cfg_work *work, atl_ns timeout);
/* config-store begins anew, with what was decided. Errors: ATL_E_STATE it is alone again, and why;
 * ATL_E_DEADLINE. */
ATL_MUST_CHECK enum atl_code cfg_work_restart(struct cfg_work *work, struct atl_error *err);

/* The node is a member: waits until corosync has a quorum with it; a warning if that takes too long. */
void cfg_work_wait_quorum(struct cfg_work *work);

/* config-store begins anew; waits until it is ready. Errors: ATL_E_IO, ATL_E_DEADLINE. */
ATL_MUST_CHECK enum atl_code cfg_work_begin_anew(struct cfg_work *work, struct atl_error *err);

enum atl_code cfg_work_backup(struct cfg_work *work, struct atl_error *err);
enum atl_code cfg_work_restore(struct cfg_work *work, struct atl_error *err);
enum atl_code cfg_work_join(struct cfg_work *work, struct atl_error *err);

#endif
