/*
 * corosync.conf as data: the nodes, their links and votes, what joins and leaves. Pure; all lives in the
 * arena.
 *
 * The file in the tree is the truth for all nodes; each node writes its own copy from it. Only what this
 * struct has survives a change: the file is ours.
 */
#ifndef CFG_CORE_COROSYNC_CONF_H
#define CFG_CORE_COROSYNC_CONF_H

#include "pure/arena.h"
#include "pure/buf.h"
#include "pure/error.h"

enum {
    CFG_LINKS_MAX = 2,
    CFG_NODES_MAX = 64,
    CFG_VOTERS_MAX = 7, /* nodes with a vote, here and in etcd: the first ones (ARCHITECTURE 6) */
    CFG_TOKEN_MS = 1000,
    CFG_TOKEN_COEFFICIENT_MS = 125,
    CFG_QDEVICE_TIMEOUT_MS = 2000, /* of the witness's signs of life: gone after 0.8 x 1.5 of it */
    CFG_QDEVICE_SYNC_TIMEOUT_MS =
        6000, /* its vote is waited for when the membership changes; longer than that */
};
/* The witness where it stands among nodes: in etcd, in certificates, in `.state/`. No node's name. */
#define CFG_WITNESS "_witness"

struct cfg_corosync_node {
    const char *name;
    uint32_t id;
    uint32_t votes;
    const char *links[CFG_LINKS_MAX]; /* addresses; NULL where there is none */
};

struct cfg_corosync {
    const char *cluster;
    uint64_t version;                              /* config_version: grows with each change */
    uint32_t token_coefficient;                    /* ms for each node past the second */
    struct cfg_corosync_node nodes[CFG_NODES_MAX]; /* by id */
    size_t count;
    const char *qdevice_host; /* NULL: no witness */
};

/* Errors: ATL_E_INVALID, with the line. */
ATL_MUST_CHECK enum atl_code cfg_corosync_read(const char *text, size_t size, struct atl_arena *arena,
                                               struct cfg_corosync *ret_conf, struct atl_error *err);

/* Where a node keeps its files; group: whose processes may ask corosync (they run as no root). */
struct cfg_corosync_place {
    const char *dir; /* authkey and state are in it; NULL: the file for the tree, without places */
    const char *user;
};
void cfg_corosync_write(const struct cfg_corosync *conf, const struct cfg_corosync_place *place,
                        struct atl_buf *out);

struct cfg_corosync_node *cfg_corosync_find(struct cfg_corosync *conf, const char *name);

/*
 * Adds a node: its id is the wanted one or the lowest that is free, its vote 1 while there are fewer than
 * CFG_VOTERS_MAX voters and 0 after that, unless votes says otherwise (UINT32_MAX: no wish).
 * Errors: ATL_E_EXISTS name, id or address is taken; ATL_E_INVALID the links are not those of the others;
 * ATL_E_LIMIT.
 */
ATL_MUST_CHECK enum atl_code cfg_corosync_add(struct cfg_corosync *conf, const struct cfg_corosync_node *node,
                                              struct atl_error *err);
/* Removes it; when it had a vote, the first without one gets it. Errors: ATL_E_ABSENT; ATL_E_STATE it is the
 * last. */
ATL_MUST_CHECK enum atl_code cfg_corosync_remove(struct cfg_corosync *conf, const char *name,
                                                 struct atl_error *err);

/* Is a witness of use? With an even number of nodes that vote, so that all votes together are an odd number,
 * and while etcd may have one more voter. */
bool cfg_corosync_fits_witness(const struct cfg_corosync *conf);
/* The witness at this address, which is borrowed; NULL: none any more. */
void cfg_corosync_set_witness(struct cfg_corosync *conf, const char *address);

/* How long it takes until the others know that a node is gone, in ms: token and consensus (1.2 token). */
uint32_t cfg_corosync_detection_ms(const struct cfg_corosync *conf);

#endif
