/*
 * Keeps a service's directory like `.state/directory/` of the tree, and its own key in it.
 *
 * In a service, beside the mirror and the guard:
 *     directory = atl_directory_new();
 *     atl_directory_keep(directory, STATE/SERVICE/directory);         (the copy to start from)
 *     atl_bus_join_cluster(bus, {directory, STATE/SERVICE/bus.key});
 *     mirror = atl_mirror_open(bus, (const char *const[]){ATL_DIRECTORY_PREFIX, ...});
 *     follower = atl_directory_follow(bus, mirror, directory);
 * While the tree holds a record of this node without our key, the key is announced to this node's
 * config-store. A node that is alone has no record, and all this does nothing.
 */
#ifndef ATL_IO_DIRECTORY_FOLLOW_H
#define ATL_IO_DIRECTORY_FOLLOW_H

#include "io/directory.h"
#include "io/mirror.h"

struct atl_follower;

/* bus: in the cluster already (atl_bus_join_cluster). All three are borrowed until atl_directory_unfollow().
 * Never NULL. */
struct atl_follower *atl_directory_follow(struct atl_bus *bus, struct atl_mirror *mirror,
                                          struct atl_directory *directory);
void atl_directory_unfollow(struct atl_follower **follower); /* before mirror, bus and directory are closed */

#endif
