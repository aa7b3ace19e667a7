/* This node's etcd becomes a member when the node's vote came later, as core/voter.h decides. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atoll/cluster/v1/work.pb-c.h"
#include "cluster/internal.h"
#include "core/voter.h"
#include "io/log.h"

#define CALL_TIMEOUT (5 * ATL_SECOND)
#define LOOK_EVERY   (20 * ATL_SECOND) /* at a member that is one already */

struct cfg_voter {
    struct cfg_cluster *cluster;
    struct atl_etcd_call *call;
    struct cfg_voter_view view;
    uint64_t member; /* that has our address */
    atl_ns look_at;
    bool storing;
    char *url; /* of our etcd, for the others */
};

struct cfg_voter *cfg_voter_new(struct cfg_cluster *cluster)
{
    struct cfg_voter *voter = atl_new0(struct cfg_voter);
    struct atl_buf url ATL_BUF_AT_EXIT = {0};
    cfg_etcd_peer_url(cluster->conf.address, &url);
    voter->cluster = cluster;
    voter->url = atl_buf_steal(&url);
    return voter;
}

void cfg_voter_free(struct cfg_voter **pointer)
{
    struct cfg_voter *voter = *pointer;
    *pointer = NULL;
    if (voter == NULL)
        return;
    if (voter->call != NULL)
        atl_etcd_cancel(voter->call);
    free(voter->url);
    free(voter);
}

static void failed(const char *what, const char *why)
{
    atl_log(ATL_WARNING, "vote-delayed", "%s: %s; trying again", what, why);
}

/* --- what is done --- */

static void on_recorded(const struct cfg_store_result *result, void *user)
{
    struct cfg_voter *voter = user;
    voter->storing = false;
    if (result->code != ATL_OK)
        failed("that this node's etcd is a learner cannot be stored", result->error.text);
}

/* From here on joining.c promotes it, or takes it out again. */
static void record(struct cfg_voter *voter, uint64_t member)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    const struct cfg_cluster *cluster = voter->cluster;
    char *links[] = {atl_arena_strdup(&arena, cluster->conf.address)};
    Atoll__Cluster__V1__Joining joining = ATOLL__CLUSTER__V1__JOINING__INIT;
    joining.member = member;
    joining.deadline = atl_clock_wall_seconds() + CFG_JOIN_DEADLINE;
    joining.by = atl_arena_strdup(&arena, cluster->place.node);
    joining.link = links;
    joining.n_link = 1;
    const char *path = atl_arena_format(&arena, CFG_JOINING_FOLDER "%s", cluster->place.node);
    const struct cfg_op op = cfg_put_message(&arena, path, &joining.base);
    voter->storing = true;
    cfg_store_txn(cluster->cfg->store, &(const struct cfg_txn){.ops = &op, .op_count = 1}, NULL, on_recorded,
                  voter);
}

static enum atl_code begin(struct cfg_voter *voter, const char *members, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct atl_buf yml ATL_BUF_AT_EXIT = {0};
    const struct cfg_cluster *cluster = voter->cluster;
    const struct cfg_etcd_place etcd = {.dir = cfg_place_path(&cluster->place, "etcd", &arena),
                                        .node = cluster->place.node,
                                        .address = cluster->conf.address,
                                        .cluster = cluster->conf.cluster,
                                        .members = members};
    cfg_etcd_yml_write(&etcd, &yml);
    enum atl_code code = cfg_place_empty(&cluster->place, "etcd/data", err);
    if (code == ATL_OK)
        code = cfg_place_write(&cluster->place, CFG_ETCD_YML, &yml, err);
    return code == ATL_OK ? cfg_slot_set(&cluster->place, "etcd", CFG_SLOT_UP, err) : code;
}

static void on_added(const struct atl_etcd_answer *answer, void *user)
{
    struct cfg_voter *voter = user;
    struct atl_buf members ATL_BUF_AT_EXIT = {0};
    struct atl_error error = {0};
    voter->call = NULL;
    voter->view.asked = false;
    if (answer->code != ATL_OK) {
        failed("this node's etcd is not taken as a learner", answer->error.text);
        return;
    }
    const Etcd__MemberAddResponse *added = (const void *)answer->message;
    cfg_members_text(added, voter->cluster->place.node, &members);
    if (begin(voter, members.data, &error) != ATL_OK) {
        failed("this node's etcd does not begin", error.text);
        return;
    }
    atl_log(ATL_NOTICE, "vote", "this node has a vote now; its etcd catches up");
    record(voter, added->member->id);
}

static void add(struct cfg_voter *voter)
{
    Etcd__MemberAddRequest request = ETCD__MEMBER_ADD_REQUEST__INIT;
    char *urls[] = {voter->url};
    request.peer_urls = urls;
    request.n_peer_urls = 1;
    request.is_learner = true;
    voter->call = atl_etcd_call(voter->cluster->channel, ATL_ETCD_MEMBER_ADD, &request.base, CALL_TIMEOUT,
                                on_added, voter);
}

static void on_removed(const struct atl_etcd_answer *answer, void *user)
{
    struct cfg_voter *voter = user;
    voter->call = NULL;
    voter->view.asked = false;
    if (answer->code != ATL_OK)
        failed("a member that never began is not removed", answer->error.text);
}

static void remove_stale(struct cfg_voter *voter)
{
    Etcd__MemberRemoveRequest request = ETCD__MEMBER_REMOVE_REQUEST__INIT;
    request.id = voter->member;
    voter->call = atl_etcd_call(voter->cluster->channel, ATL_ETCD_MEMBER_REMOVE, &request.base, CALL_TIMEOUT,
                                on_removed, voter);
}

static void wipe(struct cfg_voter *voter)
{
    const struct cfg_place *place = &voter->cluster->place;
    struct atl_error error = {0};
    voter->view.asked = false;
    voter->view.unlisted = 0;
    atl_log(ATL_WARNING, "vote", "this node's etcd is no member any more; it begins anew");
    enum atl_code code = cfg_slot_set(place, "etcd", CFG_SLOT_DOWN, &error);
    if (code == ATL_OK)
        code = cfg_place_empty(place, "etcd/data", &error);
    if (code == ATL_OK)
        cfg_place_remove(place, CFG_ETCD_YML);
    else
        failed("this node's etcd is not ended", error.text);
}

/* --- what is seen --- */

static void on_listed(const struct atl_etcd_answer *answer, void *user)
{
    struct cfg_voter *voter = user;
    voter->call = NULL;
    if (answer->code != ATL_OK)
        return; /* the next look tells */
    const Etcd__MemberListResponse *list = (const void *)answer->message;
    voter->view.asked = true;
    voter->view.listed = false;
    for (size_t i = 0; i < list->n_members; i++)
        for (size_t k = 0; k < list->members[i]->n_peer_urls; k++)
            if (strcmp(list->members[i]->peer_urls[k], voter->url) == 0) {
                voter->view.listed = true;
                voter->member = list->members[i]->id;
            }
    voter->view.unlisted = voter->view.listed ? 0 : voter->view.unlisted + 1;
}

static void ask(struct cfg_voter *voter)
{
    Etcd__MemberListRequest list = ETCD__MEMBER_LIST_REQUEST__INIT;
    voter->call = atl_etcd_call(voter->cluster->channel, ATL_ETCD_MEMBER_LIST, &list.base, CALL_TIMEOUT,
                                on_listed, voter);
}

bool cfg_place_votes(const struct cfg_place *place)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    return access(cfg_place_path(place, CFG_ETCD_YML, &arena), F_OK) == 0;
}

static bool has_vote(const struct cfg_cluster *cluster)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_corosync *conf = atl_arena_new(&arena, struct cfg_corosync);
    if (cfg_cluster_conf(cluster, &arena, conf, NULL) != ATL_OK)
        return false;
    const struct cfg_corosync_node *self = cfg_corosync_find(conf, cluster->place.node);
    return self != NULL && self->votes > 0;
}

void cfg_voter_tick(struct cfg_voter *voter)
{
    atl_ns now = atl_loop_now(voter->cluster->cfg->loop);
    if (voter->call != NULL || voter->storing || voter->cluster->leaving != NULL || voter->cluster->left ||
        strcmp(cfg_cluster_secrets(voter->cluster), "done") != 0)
        return;
    voter->view.votes = has_vote(voter->cluster);
    voter->view.has_files = cfg_place_votes(&voter->cluster->place);
    if (voter->view.has_files && now < voter->look_at)
        return;
    switch (cfg_voter_next(&voter->view)) {
    case CFG_VOTER_NOTHING:
        voter->view.asked = false;
        voter->look_at = now + LOOK_EVERY;
        break;
    case CFG_VOTER_ASK:
        ask(voter);
        break;
    case CFG_VOTER_ADD:
        add(voter);
        break;
    case CFG_VOTER_REMOVE:
        remove_stale(voter);
        break;
    case CFG_VOTER_WIPE:
        wipe(voter);
        break;
    }
}
