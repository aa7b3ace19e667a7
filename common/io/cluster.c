/* From the node's record in the directory to a bus that reaches other nodes. */
#include "io/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "io/directory_follow.h"
#include "io/log.h"

struct atl_cluster {
    struct atl_bus *bus;
    struct atl_mirror *mirror;
    struct atl_directory *directory;
    struct atl_follower *follower; /* NULL: alone so far */
    char *key_file;
    bool failed; /* the key could be neither read nor made, which is told once */
};

static void join(struct atl_cluster *cluster)
{
    struct atl_error err = {0};
    const struct atl_bus_cluster options = {.directory = cluster->directory, .key_file = cluster->key_file};
    if (cluster->follower != NULL || cluster->failed)
        return;
    if (atl_bus_join_cluster(cluster->bus, &options, &err) != ATL_OK) {
        atl_log(ATL_ERROR, "cluster-not-joined", "other nodes cannot be reached: %s", err.text);
        cluster->failed = true;
        return;
    }
    cluster->follower = atl_directory_follow(cluster->bus, cluster->mirror, cluster->directory);
}

static void on_record(const char *path, const struct atl_file *file, void *user)
{
    struct atl_cluster *cluster = user;
    if (file != NULL && strcmp(path + strlen(ATL_DIRECTORY_PREFIX), atl_bus_node(cluster->bus)) == 0)
        join(cluster);
}

struct atl_cluster *atl_cluster_open(const struct atl_cluster_options *options)
{
    struct atl_cluster *cluster = atl_new0(struct atl_cluster);
    ATL_FREE_AT_EXIT char *copy = atl_format("%s/directory", options->dir);
    cluster->bus = options->bus;
    cluster->mirror = options->mirror;
    cluster->key_file = atl_format("%s/bus.key", options->dir);
    cluster->directory = options->directory;
    atl_directory_keep(cluster->directory, copy);
    if (atl_directory_node(cluster->directory, atl_bus_node(options->bus)) != NULL)
        join(cluster); /* as the last run left it: config-store may not be there yet */
    atl_mirror_each(options->mirror, ATL_DIRECTORY_PREFIX, on_record, cluster);
    atl_mirror_on_change(options->mirror, ATL_DIRECTORY_PREFIX, on_record, cluster);
    return cluster;
}

void atl_cluster_close(struct atl_cluster **pointer)
{
    struct atl_cluster *cluster = *pointer;
    *pointer = NULL;
    if (cluster == NULL)
        return;
    atl_directory_unfollow(&cluster->follower);
    free(cluster->key_file);
    free(cluster);
}
