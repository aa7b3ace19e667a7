/*
 * The gateway's part in the cluster. It may read nothing of the tree, so it asks config-store for the
 * directory, which holds addresses and public keys, and says which key is its own. On a machine that is alone
 * both are refused.
 */
#ifndef GW_CLUSTER_H
#define GW_CLUSTER_H

#include "io/bus.h"
#include "io/directory.h"

struct gw_cluster;

/* bus and directory are borrowed; dir: STATE/gateway, where `bus.key` and the copy `directory` are. Never
 * NULL. */
struct gw_cluster *gw_cluster_open(struct atl_bus *bus, struct atl_directory *directory, const char *dir);
void gw_cluster_close(struct gw_cluster **cluster); /* before the bus */

#endif
