/* Shared secrets from node to node: over the bus, whose keys are each node's own. */
#include <string.h>

#include "atoll/cluster/v1/work.atl.h"
#include "cluster/internal.h"
#include "cluster/secrets.h"

#define ASK_DEADLINE (5 * ATL_SECOND)

/* --- answering --- */

struct handing { /* out; lives with the request */
    struct cfg_cluster *cluster;
    struct atl_arena *arena;
    const Atoll__Cluster__V1__GetSecretsRequest *wish;
    const struct cfg_corosync_node *caller;
    bool keeps; /* the caller keeps the authority's key */
    bool next;  /* those that are used yet to come */
};

static enum atl_code find_caller(struct handing *handing, const char *node, struct atl_error *err)
{
    struct cfg_corosync *conf = atl_arena_new(handing->arena, struct cfg_corosync);
    enum atl_code code = cfg_cluster_conf(handing->cluster, handing->arena, conf, err);
    if (code != ATL_OK)
        return code;
    handing->caller = node != NULL ? cfg_corosync_find(conf, node) : NULL;
    if (handing->caller == NULL)
        return atl_fail(err, ATL_E_DENIED, NULL, "only other nodes of the cluster ask for that");
    handing->keeps = cfg_keeps_authority(conf, node);
    return ATL_OK;
}

/* Which ones: those that were asked for. Who does not know what to ask for has been cut off: those that all
 * use by now, since nothing else lets its etcd back to ours. */
static enum atl_code choose(struct handing *handing, uint64_t *ret_generation, struct atl_error *err)
{
    struct cfg_rotation now;
    uint64_t ours = cfg_secrets_generation(&handing->cluster->place);
    cfg_rotation_read(handing->cluster, handing->arena, &now);
    uint64_t wanted = handing->wish->has_generation ? handing->wish->generation : now.generation;
    handing->next = ours != wanted;
    if ((!handing->wish->has_generation && !cfg_rotation_is_settled(now.phase)) ||
        (handing->next && !cfg_secrets_prepared(&handing->cluster->place, wanted)))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the secrets are being changed - try again");
    *ret_generation = wanted;
    return ATL_OK;
}

static ProtobufCBinaryData take_bytes(struct handing *handing, const struct atl_buf *buf)
{
    return (ProtobufCBinaryData){.data = atl_arena_copy(handing->arena, buf->data, buf->length),
                                 .len = buf->length};
}

static enum atl_code hand_out(struct handing *handing, Atoll__Cluster__V1__GetSecretsReply *reply,
                              struct atl_error *err)
{
    struct cfg_secrets secrets CFG_SECRETS_AT_EXIT = {.generation = 0};
    const struct cfg_place *place = &handing->cluster->place;
    atl_assert(handing->caller != NULL);
    enum atl_code code = cfg_secrets_read(place, handing->next, &secrets, err);
    if (code == ATL_OK && handing->wish->csr != NULL)
        code = cfg_pki_sign(place, handing->next ? &cfg_pki_next : &cfg_pki_current, handing->wish->csr,
                            &(const struct cfg_pki_subject){.node = handing->caller->name,
                                                            .address = handing->caller->links[0],
                                                            .cluster = handing->cluster->conf.cluster},
                            &secrets.certificate, err);
    if (code != ATL_OK)
        return code;
    reply->ca = atl_arena_strdup(handing->arena, secrets.ca.data);
    if (secrets.certificate.length > 0)
        reply->certificate = atl_arena_strdup(handing->arena, secrets.certificate.data);
    reply->has_authkey = reply->has_priv_key = true;
    reply->authkey = take_bytes(handing, &secrets.authkey);
    reply->priv_key = take_bytes(handing, &secrets.priv_key);
    reply->has_ca_key = handing->keeps && secrets.ca_key.length > 0;
    if (reply->has_ca_key)
        reply->ca_key = take_bytes(handing, &secrets.ca_key);
    return ATL_OK;
}

static void handle_get_secrets(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    struct atl_error error = {0};
    struct handing handing = {
        .cluster = cfg->cluster, .arena = atl_request_arena(request), .wish = (const void *)input};
    Atoll__Cluster__V1__GetSecretsReply reply = ATOLL__CLUSTER__V1__GET_SECRETS_REPLY__INIT;
    enum atl_code code = find_caller(&handing, atl_request_principal(request)->node, &error);
    if (code == ATL_OK)
        code = choose(&handing, &reply.generation, &error);
    bool has_them = handing.wish->has_have && handing.wish->have == reply.generation;
    if (code == ATL_OK && !has_them)
        code = hand_out(&handing, &reply, &error);
    if (code != ATL_OK)
        atl_request_fail(request, &error, NULL);
    else
        atl_request_reply(request, &reply.base);
}

void cfg_serve_peers(struct cfg *cfg)
{
    static const struct atl_handler handlers[] = {{"GetSecrets", handle_get_secrets},
                                                  {"TakeOut", cfg_handle_take_out}};
    atl_bus_serve(cfg->bus, &atl_svc_cluster_v1_Peers, handlers, ATL_COUNT(handlers), cfg);
}

/* --- asking --- */

static void take_text(struct atl_buf *buf, const char *text)
{
    atl_buf_text(buf, text != NULL ? text : "");
}

static void on_reply(const struct atl_reply *reply, void *user)
{
    struct cfg_asking *asking = user;
    struct cfg_secrets secrets CFG_SECRETS_AT_EXIT = {.generation = 0};
    asking->call = NULL;
    if (reply->code != ATL_OK) {
        asking->fn(reply->code, &reply->error, NULL, asking->user);
        return;
    }
    const Atoll__Cluster__V1__GetSecretsReply *answer = (const void *)reply->output;
    secrets.generation = answer->generation;
    take_text(&secrets.ca, answer->ca);
    take_text(&secrets.certificate, answer->certificate);
    atl_buf_add(&secrets.authkey, answer->authkey.data, answer->authkey.len);
    atl_buf_add(&secrets.priv_key, answer->priv_key.data, answer->priv_key.len);
    atl_buf_add(&secrets.ca_key, answer->ca_key.data, answer->ca_key.len);
    asking->fn(ATL_OK, NULL, &secrets, asking->user);
}

enum atl_code cfg_ask_secrets(struct cfg_asking *asking, struct cfg_cluster *cluster,
                              const struct cfg_asked *asked, struct atl_error *err)
{
    struct atl_buf csr ATL_BUF_AT_EXIT = {0};
    Atoll__Cluster__V1__GetSecretsRequest request = ATOLL__CLUSTER__V1__GET_SECRETS_REQUEST__INIT;
    atl_assert(asking->call == NULL);
    enum atl_code code = cfg_pki_request(&cluster->place, &csr, err);
    if (code != ATL_OK)
        return code;
    request.csr = csr.data;
    request.has_generation = asked->generation != 0;
    request.generation = asked->generation;
    request.has_have = asked->newer;
    request.have = cfg_secrets_generation(&cluster->place);
    const struct atl_call_options options = {.deadline = ASK_DEADLINE, .node = asked->node};
    asking->call = atl_bus_call(cluster->cfg->bus, &atl_rpc_cluster_v1_Peers_GetSecrets, &request.base,
                                &options, on_reply, asking);
    return ATL_OK;
}
