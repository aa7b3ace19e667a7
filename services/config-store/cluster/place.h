/* Files of a cluster below config-store's folder, and the supervised places of etcd and corosync. */
#ifndef CFG_CLUSTER_PLACE_H
#define CFG_CLUSTER_PLACE_H

#include <sys/types.h>

#include "core/cluster_conf.h"
#include "pure/arena.h"

#define CFG_CLUSTER_FILE "cluster.conf"
/* Which generation of shared secrets this node uses (cluster/secrets.h). */
#define CFG_GENERATION_FILE "secrets"
/* A tree that takes the place of tree.db at the next start of a node alone. */
#define CFG_RESTORE_FILE "restore.db"
/* etcd's configuration; a node without a vote has none. */
#define CFG_ETCD_YML  "etcd/etcd.yml"
#define CFG_SEAL_FILE "priv.key" /* what priv/ is encrypted with; the same on all nodes, never in etcd */

struct cfg_place {
    const char *dir;        /* config-store's own folder */
    const char *supervisor; /* runit's folder of services; NULL: systemd */
    const char *node;
    int64_t life_s;         /* of the certificates that are signed here */
    const char *crash_file; /* for tests (cluster/crash.h); NULL: always */
};

/* DIR/NAME, in the arena. */
const char *cfg_place_path(const struct cfg_place *place, const char *name, struct atl_arena *arena);

/* Replaces a file as a whole, safe from power loss. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code cfg_place_write(const struct cfg_place *place, const char *name,
                                             const struct atl_buf *content, struct atl_error *err);
/* Errors: ATL_E_ABSENT; ATL_E_IO; ATL_E_LIMIT over 1 MiB. */
ATL_MUST_CHECK enum atl_code cfg_place_read(const struct cfg_place *place, const char *name,
                                            struct atl_buf *content, struct atl_error *err);
void cfg_place_remove(const struct cfg_place *place, const char *name);
/* Empties a folder of ours, with all below. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code cfg_place_empty(const struct cfg_place *place, const char *name,
                                             struct atl_error *err);

/* How far this node is; CFG_ALONE without the file. Errors: ATL_E_IO, ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cfg_place_conf(const struct cfg_place *place, struct cfg_cluster_conf *ret_conf,
                                            struct atl_error *err);
ATL_MUST_CHECK enum atl_code cfg_place_set_conf(const struct cfg_place *place,
                                                const struct cfg_cluster_conf *conf, struct atl_error *err);

#define CFG_CERTIFICATE_LIFE INT64_C(31536000) /* seconds; a year */

/* "etcd", "corosync" or "qdevice" is to run, to end, to begin anew, or to end without that anybody waits for
 * it; else ending is waited for. Blocks, up to 15 s.
 * Errors: ATL_E_UNAVAILABLE the supervisor does not do it. */
enum cfg_slot_wish { CFG_SLOT_UP, CFG_SLOT_DOWN, CFG_SLOT_AGAIN, CFG_SLOT_OFF };
ATL_MUST_CHECK enum atl_code cfg_slot_set(const struct cfg_place *place, const char *name,
                                          enum cfg_slot_wish wish, struct atl_error *err);
/* Has this node an etcd of its own? (voter.c) */
bool cfg_place_votes(const struct cfg_place *place);
/* The number in a file of that kind; 0: there is none. */
pid_t cfg_read_pid(const char *path);
/* Its process now; 0: none, or only systemd knows. */
pid_t cfg_slot_pid(const struct cfg_place *place, const char *name);

/* The node is alone again: all places down, everything of the cluster gone. What was written for the next
 * start (`why`, NULL: nothing) is kept. Errors: of the parts. */
ATL_MUST_CHECK enum atl_code cfg_place_leave(const struct cfg_place *place, const char *why,
                                             struct atl_error *err);

#endif
