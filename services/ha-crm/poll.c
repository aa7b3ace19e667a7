/* What the node's config-store tells: who is a member, and what nodes and guests use. */
#include <stdlib.h>
#include <string.h>

#include "atoll/cluster/v1/cluster.atl.h"
#include "shell.h"

enum { LOAD_MS = 5000 };
#define DEADLINE (2 * ATL_SECOND)
#define STALE    (2 * ATL_SECOND) /* told a tick and so long ago: nobody knows */

static void members_told(const struct atl_reply *reply, void *user)
{
    struct crm *crm = user;
    struct crm_members *members = &crm->members;
    members->call = NULL;
    if (reply->code != ATL_OK)
        return;
    const Atoll__Cluster__V1__GetStatusReply *status = (const void *)reply->output;
    members->count = 0;
    members->quorate = false;
    members->told_at = atl_clock_boot();
    for (size_t i = 0; i < status->n_entry; i++) {
        const Atoll__Cluster__V1__StatusRow *row = status->entry[i];
        if (strcmp(row->type, "cluster") == 0) {
            members->quorate = row->quorate;
        } else if (strcmp(row->type, "node") == 0 && members->count < ATL_COUNT(members->nodes)) {
            (void)atl_copy(members->nodes[members->count], sizeof members->nodes[0], row->name);
            members->online[members->count++] = row->online;
        }
    }
    if (members->count == 1 && strcmp(members->nodes[0], crm->node) == 0)
        members->quorate = true; /* alone: there is no cluster to be asked about */
}

bool crm_quorate(const struct crm *crm)
{
    return crm->members.quorate && crm->members.told_at != 0 &&
           atl_clock_boot() - crm->members.told_at < STALE + crm->tick_ms * ATL_MS;
}

static void take_load(struct crm_load *load, const struct atl_reply *reply)
{
    if (reply->code != ATL_OK)
        return;
    atl_arena_reset(&load->arena);
    load->rows = (Atoll__Cluster__V1__ListResourcesReply *)atl_unpack(
        &atl_msg_cluster_v1_ListResourcesReply, reply->packed, reply->packed_size, &load->arena);
}

static struct atl_call *ask_load(struct crm *crm, atl_reply_fn *fn, void *user)
{
    Atoll__Cluster__V1__ListResourcesRequest resources = ATOLL__CLUSTER__V1__LIST_RESOURCES_REQUEST__INIT;
    const struct atl_call_options options = {.deadline = DEADLINE};
    return atl_bus_call(crm->bus, atl_contract_rpc("atoll.cluster.v1.Cluster.ListResources"), &resources.base,
                        &options, fn, user);
}

static void load_told(const struct atl_reply *reply, void *user)
{
    struct crm *crm = user;
    crm->load.call = NULL;
    take_load(&crm->load, reply);
}

void crm_poll(struct crm *crm)
{
    Atoll__Cluster__V1__GetStatusRequest status = ATOLL__CLUSTER__V1__GET_STATUS_REQUEST__INIT;
    const struct atl_call_options options = {.deadline = DEADLINE};
    if (crm->members.call == NULL)
        crm->members.call = atl_bus_call(crm->bus, atl_contract_rpc("atoll.cluster.v1.Cluster.GetStatus"),
                                         &status.base, &options, members_told, crm);
    bool manager = strcmp(crm->state, "master") == 0;
    atl_ns now = atl_clock_boot();
    if (!manager || crm->load.call != NULL ||
        (crm->load.rows != NULL && now - crm->load.asked_at < LOAD_MS * ATL_MS))
        return;
    crm->load.asked_at = now;
    crm->load.call = ask_load(crm, load_told, crm);
}

/* --- for a request --- */

struct waiting {
    struct crm *crm;
    struct atl_request *request;
    const ProtobufCMessage *input;
    atl_handler_fn *answer;
};

static void told_for_request(const struct atl_reply *reply, void *user)
{
    struct waiting *waiting = user; /* in the request's arena */
    waiting->crm->load.asked_at = atl_clock_boot();
    take_load(&waiting->crm->load, reply);
    waiting->answer(waiting->request, waiting->input, waiting->crm);
}

void crm_with_load(struct crm *crm, struct atl_request *request, const ProtobufCMessage *input,
                   atl_handler_fn *answer)
{
    bool fresh = crm->load.rows != NULL && atl_clock_boot() - crm->load.asked_at < 2 * LOAD_MS * ATL_MS;
    if (fresh) {
        answer(request, input, crm);
        return;
    }
    struct waiting *waiting = atl_arena_new(atl_request_arena(request), struct waiting);
    *waiting = (struct waiting){.crm = crm, .request = request, .input = input, .answer = answer};
    (void)ask_load(crm, told_for_request, waiting);
}

void crm_poll_done(struct crm *crm)
{
    if (crm->members.call != NULL)
        atl_call_cancel(crm->members.call);
    if (crm->load.call != NULL)
        atl_call_cancel(crm->load.call);
    atl_arena_done(&crm->load.arena);
}
