/*
 * Small texts of a cluster: cluster.conf (which says that this node is in one, and how far), etcd.yml, the
 * join token. Pure.
 */
#ifndef CFG_CORE_CLUSTER_CONF_H
#define CFG_CORE_CLUSTER_CONF_H

#include "core/corosync_conf.h"
#include "pure/buf.h"
#include "pure/error.h"

enum {
    CFG_ETCD_CLIENT_PORT = 2379,
    CFG_ETCD_PEER_PORT = 2380,
    CFG_ETCD_HEARTBEAT_MS = 50,
    CFG_ETCD_ELECTION_MS = 500,
    CFG_GATEWAY_PORT = 8006,
    CFG_ADDRESS_SIZE = 64,
    CFG_FINGERPRINT_SIZE = 96, /* 32 bytes as AA:BB:..., and the end */
    CFG_JOIN_ID = 8,           /* digits of a token's name in the tree */
    CFG_JOIN_SECRET_SIZE = 48, /* "ID.SECRET" and the end */
};

/* How far the node is. Without the file it is alone. */
enum cfg_cluster_state {
    CFG_ALONE,
    CFG_MOVING,  /* the tree is still in SQLite: it is moved when config-store starts */
    CFG_JOINING, /* what the node had alone is still in SQLite: it is put into the tree at that time */
    CFG_MEMBER,
    CFG_CLUSTER_STATES,
};
const char *cfg_cluster_state_to_text(enum cfg_cluster_state state);

struct cfg_cluster_conf {
    enum cfg_cluster_state state;
    char cluster[64];
    char address[CFG_ADDRESS_SIZE]; /* ours */
    char endpoints[1024];           /* of etcd, with commas between; our own is the first */
};
/* Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cfg_cluster_conf_read(const char *text, struct cfg_cluster_conf *ret_conf,
                                                   struct atl_error *err);
void cfg_cluster_conf_write(const struct cfg_cluster_conf *conf, struct atl_buf *out);

/* The endpoints of etcd on all nodes with a vote, `node` first, the witness last. */
void cfg_cluster_endpoints(const struct cfg_corosync *corosync, const char *node, struct atl_buf *out);
/* "10.0.0.1" and 2379 as "10.0.0.1:2379"; brackets around IPv6. */
void cfg_endpoint_write(const char *address, unsigned int port, struct atl_buf *out);
/* Is it an IPv4 or IPv6 address that other nodes can reach? */
bool cfg_address_valid(const char *address);

struct cfg_etcd_place {
    const char *dir; /* data, certificate and key are in it, and the authority's certificate */
    const char *node;
    const char *address;
    const char *cluster;
    const char *members; /* "n1=https://10.0.0.1:2380,..."; NULL: a new cluster of this node alone */
};
void cfg_etcd_yml_write(const struct cfg_etcd_place *place, struct atl_buf *out);
void cfg_etcd_peer_url(const char *address, struct atl_buf *out);

/* "ADDRESS:PORT/FINGERPRINT/ID.SECRET" */
struct cfg_join_token {
    char endpoint[CFG_ADDRESS_SIZE + 8];
    char fingerprint[CFG_FINGERPRINT_SIZE];
    char secret[CFG_JOIN_SECRET_SIZE];
};
/* Errors: ATL_E_INVALID "token". */
ATL_MUST_CHECK enum atl_code cfg_join_token_read(const char *text, struct cfg_join_token *ret_token,
                                                 struct atl_error *err);
void cfg_join_token_write(const struct cfg_join_token *token, struct atl_buf *out);

#endif
