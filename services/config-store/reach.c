/* Tells the other config-stores what the agents of this node say. */
#include "reach.h"

#include <stdlib.h>
#include <string.h>

#include "atoll/store/v1/status.atl.h"
#include "io/cluster.h"

enum { SOURCES_MAX = 8, IN_FLIGHT_MAX = 16, NAME_SIZE = 64 };

#define RELAY_DEADLINE (2 * ATL_SECOND)

struct source { /* an agent of this node */
    char name[32];
    bool want_full;
};

struct peer;

struct told { /* one push on its way to one peer */
    struct peer *peer;
    struct source *source; /* NULL: the place is free */
};

struct peer { /* another node's config-store; kept while we live, for answers may be on their way */
    struct peer *next;
    struct cfg_reach *reach;
    char node[NAME_SIZE];
    struct told told[IN_FLIGHT_MAX];
};

struct cfg_reach {
    struct cfg *cfg;
    struct atl_mirror *mirror; /* of the directory, as every service has one; NULL: alone */
    struct atl_cluster *cluster;
    struct peer *peers;
    struct source sources[SOURCES_MAX];
    size_t source_count;
};

static void begin(struct cfg_reach *reach)
{
    if (reach->mirror != NULL)
        return;
    reach->mirror = atl_mirror_open(reach->cfg->bus, (const char *const[]){ATL_DIRECTORY_PREFIX, NULL});
    reach->cluster =
        atl_cluster_open(&(const struct atl_cluster_options){.bus = reach->cfg->bus,
                                                             .mirror = reach->mirror,
                                                             .directory = reach->cfg->program->directory,
                                                             .dir = reach->cfg->program->state_dir});
}

static void on_change(const char *path, const struct cfg_file *file, void *user)
{
    struct cfg_reach *reach = user;
    size_t prefix = strlen(ATL_DIRECTORY_PREFIX);
    if (file != NULL && strncmp(path, ATL_DIRECTORY_PREFIX, prefix) == 0 &&
        strcmp(path + prefix, reach->cfg->program->node) == 0)
        begin(reach);
}

static void on_commit(void *user)
{
    (void)user;
}

struct cfg_reach *cfg_reach_open(struct cfg *cfg)
{
    struct cfg_reach *reach = atl_new0(struct cfg_reach);
    reach->cfg = cfg;
    ATL_FREE_AT_EXIT char *own = atl_format("%s%s", ATL_DIRECTORY_PREFIX, cfg->program->node);
    on_change(own, cfg_tree_get(cfg_store_tree(cfg->store), own), reach);
    cfg_store_on_commit(cfg->store, on_change, on_commit, reach);
    return reach;
}

/* Calls that are on their way end without their callbacks when the bus closes, right after this. */
void cfg_reach_close(struct cfg_reach **pointer)
{
    struct cfg_reach *reach = *pointer;
    *pointer = NULL;
    if (reach == NULL)
        return;
    atl_cluster_close(&reach->cluster);
    atl_mirror_close(&reach->mirror);
    while (reach->peers != NULL) {
        struct peer *peer = reach->peers;
        reach->peers = peer->next;
        free(peer);
    }
    free(reach);
}

static struct source *source_of(struct cfg_reach *reach, const char *name)
{
    for (size_t i = 0; i < reach->source_count; i++)
        if (strcmp(reach->sources[i].name, name) == 0)
            return &reach->sources[i];
    if (reach->source_count == SOURCES_MAX)
        return NULL;
    struct source *source = &reach->sources[reach->source_count];
    if (!atl_copy(source->name, sizeof source->name, name))
        return NULL;
    reach->source_count++;
    return source;
}

static struct peer *peer_of(struct cfg_reach *reach, const char *node)
{
    struct peer *peer = reach->peers;
    while (peer != NULL && strcmp(peer->node, node) != 0)
        peer = peer->next;
    if (peer != NULL)
        return peer;
    peer = atl_new0(struct peer);
    peer->reach = reach;
    (void)atl_copy(peer->node, sizeof peer->node, node); /* the directory's names fit */
    peer->next = reach->peers;
    reach->peers = peer;
    return peer;
}

static void on_told(const struct atl_reply *reply, void *user)
{
    struct told *told = user;
    if (reply->code == ATL_OK) {
        const Atoll__Store__V1__PushReply *answer = (const Atoll__Store__V1__PushReply *)reply->output;
        if (answer->has_want_full && answer->want_full)
            told->source->want_full = true;
    }
    told->source = NULL;
}

/* A peer with too many pushes on their way gets none: it will see the gap. */
static void tell(struct peer *peer, struct source *source, const Atoll__Store__V1__PushRequest *push)
{
    struct told *told = peer->told;
    while (told < peer->told + IN_FLIGHT_MAX && told->source != NULL)
        told++;
    if (told == peer->told + IN_FLIGHT_MAX)
        return;
    *told = (struct told){.peer = peer, .source = source};
    const struct atl_call_options options = {.deadline = RELAY_DEADLINE, .node = peer->node};
    (void)atl_bus_call(peer->reach->cfg->bus, &atl_rpc_store_v1_Status_Push, &push->base, &options, on_told,
                       told);
}

bool cfg_reach_relay(struct cfg_reach *reach, const char *source_name,
                     const Atoll__Store__V1__PushRequest *push)
{
    const struct atl_directory *directory = reach->cfg->program->directory;
    struct source *source = reach->cluster != NULL ? source_of(reach, source_name) : NULL;
    if (source == NULL)
        return false;
    Atoll__Store__V1__PushRequest relayed = *push;
    relayed.source = source->name;
    bool wanted = source->want_full;
    source->want_full = false;
    for (size_t i = 0; i < atl_directory_count(directory); i++) {
        const struct atl_directory_node *node = atl_directory_at(directory, i);
        if (!node->associate && strcmp(node->node, reach->cfg->program->node) != 0)
            tell(peer_of(reach, node->node), source, &relayed);
    }
    return wanted;
}
