/* Asks for the directory again and again: it changes rarely, and a second later is soon enough. */
#include "cluster.h"

#include <stdlib.h>
#include <string.h>

#include "atoll/store/v1/directory.atl.h"
#include "io/log.h"

#define LOOK_AGAIN  ATL_SECOND
#define ALONE_AGAIN (5 * ATL_SECOND)

struct gw_cluster {
    struct atl_bus *bus;
    struct atl_directory *directory;
    char *key_file;
    bool associate;
    struct atl_call *call; /* Look or Announce, on its way */
    struct atl_timer *again;
    bool joined;
    bool failed; /* the key could be neither read nor made */
};

static void look(void *user);

static void look_later(struct gw_cluster *cluster, atl_ns delay)
{
    cluster->again = atl_loop_timer(atl_bus_loop(cluster->bus), delay, 0, look, cluster);
}

static void join(struct gw_cluster *cluster)
{
    struct atl_error err = {0};
    const struct atl_bus_cluster options = {
        .directory = cluster->directory, .key_file = cluster->key_file, .associate = cluster->associate};
    if (cluster->joined || cluster->failed ||
        atl_directory_node(cluster->directory, atl_bus_node(cluster->bus)) == NULL)
        return;
    cluster->joined = atl_bus_join_cluster(cluster->bus, &options, &err) == ATL_OK;
    cluster->failed = !cluster->joined;
    if (cluster->failed)
        atl_log(ATL_ERROR, "cluster-not-joined", "other nodes cannot be reached: %s", err.text);
}

static bool is_named(const Atoll__Store__V1__LookReply *reply, const char *node)
{
    for (size_t i = 0; i < reply->n_record; i++)
        if (strcmp(reply->record[i]->node, node) == 0)
            return true;
    return false;
}

static void feed(struct gw_cluster *cluster, const Atoll__Store__V1__LookReply *reply)
{
    for (size_t i = 0; i < reply->n_record; i++)
        atl_directory_feed(cluster->directory, reply->record[i]->node, reply->record[i]->content.data,
                           reply->record[i]->content.len);
    for (size_t i = atl_directory_count(cluster->directory); i > 0; i--) {
        char gone[64];
        const struct atl_directory_node *node = atl_directory_at(cluster->directory, i - 1);
        if (!is_named(reply, node->node) && atl_copy(gone, sizeof gone, node->node))
            atl_directory_feed(cluster->directory, gone, NULL, 0);
    }
}

static void on_announced(const struct atl_reply *reply, void *user)
{
    struct gw_cluster *cluster = user;
    (void)reply; /* the next look shows whether it is in */
    cluster->call = NULL;
    look_later(cluster, LOOK_AGAIN);
}

/* Our key is missing in our record: false when there is nothing to say. */
static bool announce(struct gw_cluster *cluster)
{
    Atoll__Store__V1__AnnounceRequest request = ATOLL__STORE__V1__ANNOUNCE_REQUEST__INIT;
    uint8_t key[ATL_BUS_KEY_SIZE];
    if (!cluster->joined || cluster->associate) /* an associate's was told when it was admitted */
        return false;
    const uint8_t *said =
        atl_directory_key(cluster->directory, atl_bus_service(cluster->bus), atl_bus_node(cluster->bus));
    memcpy(key, atl_bus_public_key(cluster->bus), sizeof key);
    if (said != NULL && memcmp(said, key, sizeof key) == 0)
        return false;
    request.public_key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    request.has_protocol_minor = 1;
    request.protocol_minor = ATL_PROTOCOL_MINOR;
    cluster->call = atl_bus_call(cluster->bus, &atl_rpc_store_v1_Directory_Announce, &request.base, NULL,
                                 on_announced, cluster);
    return true;
}

static void on_looked(const struct atl_reply *reply, void *user)
{
    struct gw_cluster *cluster = user;
    cluster->call = NULL;
    if (reply->code == ATL_OK) {
        feed(cluster, (const Atoll__Store__V1__LookReply *)reply->output);
        join(cluster);
        if (announce(cluster))
            return;
    }
    look_later(cluster, reply->code == ATL_E_DENIED ? ALONE_AGAIN : LOOK_AGAIN);
}

static void look(void *user)
{
    struct gw_cluster *cluster = user;
    Atoll__Store__V1__LookRequest request = ATOLL__STORE__V1__LOOK_REQUEST__INIT;
    const struct atl_call_options options = {.node = cluster->associate ? ATL_ANY_NODE : NULL};
    cluster->again = NULL; /* it frees itself */
    cluster->call = atl_bus_call(cluster->bus, &atl_rpc_store_v1_Directory_Look, &request.base, &options,
                                 on_looked, cluster);
}

struct gw_cluster *gw_cluster_open(const struct gw_cluster_options *options)
{
    struct gw_cluster *cluster = atl_new0(struct gw_cluster);
    ATL_FREE_AT_EXIT char *copy = atl_format("%s/directory", options->dir);
    cluster->bus = options->bus;
    cluster->directory = options->directory;
    cluster->associate = options->associate;
    cluster->key_file = atl_format("%s/bus.key", options->dir);
    atl_directory_keep(cluster->directory, copy);
    join(cluster); /* as the last run left it: config-store may not be there yet */
    look_later(cluster, 0);
    return cluster;
}

void gw_cluster_close(struct gw_cluster **pointer)
{
    struct gw_cluster *cluster = *pointer;
    *pointer = NULL;
    if (cluster == NULL)
        return;
    if (cluster->call != NULL)
        atl_call_cancel(cluster->call);
    atl_timer_free(cluster->again);
    free(cluster->key_file);
    free(cluster);
}
