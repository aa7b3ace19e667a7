/*
 * The gateway's part in the cluster. It may read nothing of the tree, so it asks config-store for the
 * directory, which holds addresses and public keys, and says which key is its own. On a machine that is alone
 * both are refused. On an associate it begins with what atoll-associate left in STATE/gateway, and asks any
 * config-store; who is removed is refused there, too.
 */
#ifndef GW_CLUSTER_H
#define GW_CLUSTER_H

#include "io/bus.h"
#include "io/directory.h"

struct gw_cluster;

struct gw_cluster_options {
    struct atl_bus *bus;
    struct atl_directory *directory;
    const char *dir; /* STATE/gateway, where `bus.key` and the copy `directory` are */
    bool associate;
};
/* bus and directory are borrowed, dir for the call. Never NULL. */
struct gw_cluster *gw_cluster_open(const struct gw_cluster_options *options);
void gw_cluster_close(struct gw_cluster **cluster); /* before the bus */

#endif
