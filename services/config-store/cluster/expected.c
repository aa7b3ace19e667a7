/* How many votes corosync is to expect, until its configuration changes next. */
#include "cluster/internal.h"

#define LIMIT (5 * ATL_SECOND)

static void on_end(const struct atl_process_end *end, void *user)
{
    struct cfg_cluster *cluster = user;
    struct atl_request *request = cluster->expecting;
    cluster->expecting = NULL;
    cluster->expected = NULL;
    if (end->exit_status != 0)
        cfg_refuse(request, ATL_E_STATE, "expected", "corosync says: %.200s%.200s", end->output, end->errors);
    else
        cfg_reply_nothing(request);
}

void cfg_handle_expected(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    struct cfg_cluster *cluster = cfg->cluster;
    struct atl_error error = {0};
    const Atoll__Cluster__V1__SetExpectedRequest *wish = (const void *)input;
    if (cfg_cluster_membership(cluster) == NULL) {
        cfg_refuse(request, ATL_E_STATE, NULL, "this node is in no cluster");
        return;
    }
    if (cluster->expecting != NULL) {
        cfg_refuse(request, ATL_E_UNAVAILABLE, NULL, "corosync is being told already - try again");
        return;
    }
    const char *votes = atl_arena_format(atl_request_arena(request), "%u", wish->expected);
    const char *const argv[] = {"corosync-quorumtool", "-e", votes, NULL};
    const struct atl_process_options options = {.argv = argv, .capture = 4096, .timeout = LIMIT};
    if (atl_process_start(cfg->loop, &options, on_end, cluster, &cluster->expected, &error) != ATL_OK)
        atl_request_fail(request, &error, NULL);
    else
        cluster->expecting = request;
}
