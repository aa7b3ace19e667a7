/* Nodes on their way in: their etcd is a learner, which becomes a member when it has caught up. */
#include <string.h>

#include "atoll/cluster/v1/work.atl.h"
#include "cluster/internal.h"
#include "io/log.h"
#include "pure/codec.h"

#define CALL_TIMEOUT (5 * ATL_SECOND)
#define TAKE_OVER_AFTER                                                                                      \
    15 /* seconds past the deadline: then any node cleans up, not only the one that asked */

struct joining {
    struct cfg_cluster *cluster;
    const char *path;
    struct cfg_compare unchanged; /* the record as it was read: another try may have made another one since */
    const char *node;
    Atoll__Cluster__V1__Joining *record;
};

static void on_stored(const struct cfg_store_result *result, void *user)
{
    (void)user;
    if (result->code != ATL_OK && result->code != ATL_E_CONFLICT)
        atl_log(ATL_WARNING, "joining-not-stored", "%s", result->error.text);
}

/* The record goes, with its token, and the node comes into corosync.conf if it is in. */
static void settle(struct joining *joining, bool is_in)
{
    struct cfg_cluster *cluster = joining->cluster;
    struct atl_arena *arena = &cluster->arena;
    struct cfg_compare compares[2] = {joining->unchanged, cfg_cluster_unchanged(cluster, CFG_COROSYNC_CONF)};
    struct cfg_op ops[4];
    struct cfg_txn txn = {.compares = compares, .compare_count = 2, .ops = ops};
    ops[txn.op_count++] = (struct cfg_op){.kind = CFG_DELETE, .path = joining->path};
    const Atoll__Cluster__V1__Joining *record = joining->record;
    if (is_in && record->token != NULL) {
        const char *token = atl_arena_format(arena, CFG_JOIN_FOLDER "%s", record->token);
        if (cfg_tree_get(cfg_store_ahead(cluster->cfg->store), token) != NULL)
            ops[txn.op_count++] = (struct cfg_op){.kind = CFG_DELETE, .path = token};
    }
    struct cfg_corosync conf;
    struct atl_error error = {0};
    enum atl_code code = is_in ? cfg_cluster_conf(cluster, arena, &conf, &error) : ATL_OK;
    if (is_in && code == ATL_OK && record->has_witness_key) {
        Atoll__Cluster__V1__Witness witness = ATOLL__CLUSTER__V1__WITNESS__INIT;
        witness.address = record->link[0];
        witness.key = record->witness_key;
        cfg_corosync_set_witness(&conf, record->link[0]);
        ops[txn.op_count++] = cfg_cluster_conf_op(&conf, arena);
        ops[txn.op_count++] = cfg_put_message(arena, CFG_WITNESS_FILE, &witness.base);
    } else if (is_in && code == ATL_OK && cfg_corosync_find(&conf, joining->node) == NULL) {
        const struct cfg_corosync_node node = {.name = joining->node,
                                               .id = record->nodeid,
                                               .votes = record->has_votes ? record->votes : UINT32_MAX,
                                               .links = {record->n_link > 0 ? record->link[0] : NULL,
                                                         record->n_link > 1 ? record->link[1] : NULL}};
        code = cfg_corosync_add(&conf, &node, &error);
        if (code == ATL_OK)
            ops[txn.op_count++] = cfg_cluster_conf_op(&conf, arena);
    }
    if (code != ATL_OK) { /* it is tried again, and what stands in its way stands in the log */
        atl_log(ATL_ERROR, "node-not-added", "'%s' cannot come into corosync.conf: %s", joining->node,
                error.text);
        return;
    }
    atl_log(ATL_NOTICE, is_in ? "node-joined" : "node-not-joined", "'%s' %s", joining->node,
            is_in ? "is in the cluster" : "did not come up; its etcd is taken out again");
    cfg_store_txn(cluster->cfg->store, &txn, NULL, on_stored, NULL);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    size_t size = strlen(end);
    return length >= size && strcmp(text + length - size, end) == 0;
}

static void on_removed(const struct atl_etcd_answer *answer, void *user)
{
    struct joining *joining = user;
    joining->cluster->call = NULL;
    if (answer->code == ATL_OK || ends_with(answer->error.text, "member not found"))
        settle(joining, false);
}

/* Only a learner is taken out, and only etcd knows whether it still is one: so it is asked to promote first.
 */
static void on_promoted(const struct atl_etcd_answer *answer, void *user)
{
    struct joining *joining = user;
    struct cfg_cluster *cluster = joining->cluster;
    cluster->call = NULL;
    if (answer->code == ATL_OK)
        cfg_crash_at(&cluster->place, joining->record->has_witness_key ? CFG_CRASH_WITNESS_PROMOTED
                                                                       : CFG_CRASH_ADMIT_PROMOTED);
    if (answer->code == ATL_OK || ends_with(answer->error.text, "can only promote a learner member")) {
        settle(joining, true);
    } else if (ends_with(answer->error.text, "member not found")) {
        settle(joining, false);
    } else if (ends_with(answer->error.text, "in sync with leader") &&
               atl_clock_wall_seconds() > joining->record->deadline) {
        Etcd__MemberRemoveRequest remove = ETCD__MEMBER_REMOVE_REQUEST__INIT;
        remove.id = joining->record->member;
        cluster->call = atl_etcd_call(cluster->channel, ATL_ETCD_MEMBER_REMOVE, &remove.base, CALL_TIMEOUT,
                                      on_removed, joining);
    }
}

/* The first record that is ours to look after; others wait for their turn. */
static struct joining *next_joining(struct cfg_cluster *cluster, int64_t now)
{
    const struct cfg_tree *tree = cfg_store_ahead(cluster->cfg->store);
    size_t length = strlen(CFG_JOINING_FOLDER);
    for (size_t i = cfg_tree_seek(tree, CFG_JOINING_FOLDER); i < tree->count; i++) {
        const struct cfg_file *file = tree->files[i];
        if (strncmp(file->path, CFG_JOINING_FOLDER, length) != 0)
            break;
        Atoll__Cluster__V1__Joining *record = (Atoll__Cluster__V1__Joining *)atl_unpack(
            &atl_msg_cluster_v1_Joining, file->bytes, file->size, &cluster->arena);
        if (record == NULL ||
            (strcmp(record->by, cluster->place.node) != 0 && now <= record->deadline + TAKE_OVER_AFTER))
            continue;
        struct joining *joining = atl_arena_new(&cluster->arena, struct joining);
        joining->cluster = cluster;
        joining->path = atl_arena_strdup(&cluster->arena, file->path);
        joining->unchanged = cfg_cluster_unchanged(cluster, joining->path);
        joining->node = joining->path + length;
        joining->record = record;
        return joining;
    }
    return NULL;
}

void cfg_joining_tick(struct cfg_cluster *cluster)
{
    if (cluster->call != NULL)
        return;
    atl_arena_reset(&cluster->arena);
    struct joining *joining = next_joining(cluster, atl_clock_wall_seconds());
    if (joining == NULL)
        return;
    if (joining->record->member == 0) { /* a node without a vote has no etcd to wait for */
        settle(joining, true);
        return;
    }
    Etcd__MemberPromoteRequest promote = ETCD__MEMBER_PROMOTE_REQUEST__INIT;
    promote.id = joining->record->member;
    cluster->call = atl_etcd_call(cluster->channel, ATL_ETCD_MEMBER_PROMOTE, &promote.base, CALL_TIMEOUT,
                                  on_promoted, joining);
}
