/*
 * A service's part in the cluster, in one piece: the directory after the tree, its own key, the bus to other
 * nodes. On a machine that is alone it waits for the node's record and does nothing else.
 */
#ifndef ATL_IO_CLUSTER_H
#define ATL_IO_CLUSTER_H

#include "io/directory.h"
#include "io/mirror.h"

struct atl_cluster;

struct atl_cluster_options {
    struct atl_bus *bus;
    struct atl_mirror *mirror;       /* copies ATL_DIRECTORY_PREFIX (ATL_KEEPER_PREFIXES has it) */
    struct atl_directory *directory; /* atl_program.directory: lives longer than the bus */
    const char *dir;                 /* STATE/SERVICE: `bus.key` and the copy `directory` are in it */
};

/* All is borrowed until atl_cluster_close(), but the text. Never NULL. */
struct atl_cluster *atl_cluster_open(const struct atl_cluster_options *options);
void atl_cluster_close(struct atl_cluster **cluster); /* before the mirror and the bus */

#endif
