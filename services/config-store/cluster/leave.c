/* This node leaves its cluster: the others take it out, then it is alone; or it goes without asking them. */
#include <string.h>

#include "atoll/cluster/v1/work.atl.h"
#include "cluster/internal.h"
#include "io/log.h"

#define ASK_DEADLINE (10 * ATL_SECOND)
#define SEEN_WITHIN  (15 * ATL_SECOND) /* the tree shows it, though the answer cannot come */
#define ANSWER_FIRST (300 * ATL_MS)    /* then config-store begins anew */

static void on_end(void *user)
{
    struct cfg_cluster *cluster = user;
    cluster->ending = NULL;
    atl_loop_stop(cluster->cfg->loop);
}

void cfg_cluster_leave(struct cfg_cluster *cluster, const char *why)
{
    struct atl_error error = {0};
    if (cluster->left)
        return;
    atl_log(ATL_WARNING, "removed", "%s '%s'; this node is alone from now on", why, cluster->conf.cluster);
    if (cfg_place_leave(&cluster->place, why, &error) != ATL_OK)
        atl_log(ATL_ERROR, "not-left", "%s", error.text);
    cluster->left = true;
    if (cluster->leaving != NULL)
        cfg_reply_nothing(cluster->leaving);
    cluster->leaving = NULL;
    cluster->ending = atl_loop_timer(cluster->cfg->loop, ANSWER_FIRST, 0, on_end, cluster);
}

static void refuse(struct cfg_cluster *cluster, const struct atl_error *error)
{
    struct atl_request *request = cluster->leaving;
    cluster->leaving = NULL;
    atl_request_fail(request, error, NULL);
}

static void on_not_seen(void *user)
{
    struct cfg_cluster *cluster = user;
    struct atl_error error = {0};
    cluster->ending = NULL;
    (void)atl_fail(&error, ATL_E_UNAVAILABLE, NULL,
                   "the others did not say whether they took this node out - try again");
    if (cluster->leaving != NULL)
        refuse(cluster, &error);
}

/* What is surely an answer is one; else the tree tells. */
static void on_taken_out(const struct atl_reply *reply, void *user)
{
    struct cfg_cluster *cluster = user;
    if (cluster->leaving == NULL || cluster->left)
        return;
    bool unknown = reply->code == ATL_OK || reply->code == ATL_E_DEADLINE ||
                   (reply->code == ATL_E_UNAVAILABLE && reply->sent);
    if (!unknown)
        refuse(cluster, &reply->error);
    else
        cluster->ending = atl_loop_timer(cluster->cfg->loop, SEEN_WITHIN, 0, on_not_seen, cluster);
}

/* Another node that is online, or NULL. */
static const char *other_node(const struct cfg_cluster *cluster)
{
    const struct atl_membership *now = cfg_cluster_membership(cluster);
    for (size_t i = 0; i < now->count; i++)
        if (now->members[i].online && strcmp(now->members[i].name, cluster->place.node) != 0)
            return now->members[i].name;
    return NULL;
}

void cfg_handle_leave(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    struct cfg_cluster *cluster = cfg->cluster;
    const Atoll__Cluster__V1__LeaveClusterRequest *wish = (const void *)input;
    if (cfg_cluster_membership(cluster) == NULL || cluster->left) {
        cfg_refuse(request, ATL_E_STATE, NULL, "this node is in no cluster");
        return;
    }
    if (cluster->leaving != NULL) {
        cfg_refuse(request, ATL_E_STATE, NULL, "this node is leaving already");
        return;
    }
    if (wish->has_force && wish->force) {
        cluster->leaving = request;
        cfg_cluster_leave(cluster, "an administrator took this node out of cluster");
        return;
    }
    const char *other = other_node(cluster);
    if (other == NULL) {
        cfg_refuse(request, ATL_E_STATE, NULL,
                   "no other node is online to take this one out; with 'force' it goes without asking");
        return;
    }
    cluster->leaving = request;
    Atoll__Cluster__V1__TakeOutRequest take = ATOLL__CLUSTER__V1__TAKE_OUT_REQUEST__INIT;
    const struct atl_call_options options = {.deadline = ASK_DEADLINE, .node = other};
    (void)atl_bus_call(cfg->bus, &atl_rpc_cluster_v1_Peers_TakeOut, &take.base, &options, on_taken_out,
                       cluster);
}
