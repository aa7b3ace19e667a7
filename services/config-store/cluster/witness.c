/*
 * The witness: a third machine with a vote in etcd and one in corosync, and with no secret of the nodes. How
 * it comes in is admit.c's; here it is told which certificates hold, shown, and taken out.
 */
#include <string.h>

#include "atoll/cluster/v1/work.atl.h"
#include "cluster/ask.h"
#include "cluster/internal.h"
#include "io/log.h"
#include "pure/codec.h"

#define CALL_TIMEOUT  (5 * ATL_SECOND)
#define PROBE_TIMEOUT (2 * ATL_SECOND)
enum { GATEWAYS_MAX = 8 };

Atoll__Cluster__V1__Witness *cfg_witness_read(const struct cfg_cluster *cluster, struct atl_arena *arena)
{
    const struct cfg_file *file = cfg_tree_get(cfg_store_ahead(cluster->cfg->store), CFG_WITNESS_FILE);
    if (file == NULL)
        return NULL;
    return (Atoll__Cluster__V1__Witness *)atl_unpack(&atl_msg_cluster_v1_Witness, file->bytes, file->size,
                                                     arena);
}

static Atoll__Cluster__V1__Joining *read_joining(const struct cfg_cluster *cluster, struct atl_arena *arena)
{
    const struct cfg_file *file =
        cfg_tree_get(cfg_store_ahead(cluster->cfg->store), CFG_JOINING_FOLDER CFG_WITNESS);
    if (file == NULL)
        return NULL;
    return (Atoll__Cluster__V1__Joining *)atl_unpack(&atl_msg_cluster_v1_Joining, file->bytes, file->size,
                                                     arena);
}

char *cfg_cluster_witness(const struct cfg_cluster *cluster, struct atl_arena *arena)
{
    struct cfg_corosync *conf = atl_arena_new(arena, struct cfg_corosync);
    bool has = cfg_cluster_conf(cluster, arena, conf, NULL) == ATL_OK && conf->qdevice_host != NULL;
    return has ? atl_arena_strdup(arena, conf->qdevice_host) : NULL;
}

/* --- a word for it --- */

enum atl_code cfg_witness_may_come(const struct cfg_corosync *conf, const char *address,
                                   struct atl_error *err)
{
    if (!cfg_address_valid(address))
        return atl_fail(err, ATL_E_INVALID, "address", "an address that all nodes reach is needed");
    for (size_t i = 0; i < conf->count; i++)
        for (unsigned int link = 0; link < CFG_LINKS_MAX; link++)
            if (conf->nodes[i].links[link] != NULL && strcmp(conf->nodes[i].links[link], address) == 0)
                return atl_fail(err, ATL_E_INVALID, "address", "%s is an address of '%s'", address,
                                conf->nodes[i].name);
    if (!cfg_corosync_fits_witness(conf))
        return atl_fail(err, ATL_E_STATE, NULL,
                        "a witness is for an even number of nodes that have one vote each, from 2 to 6");
    if (conf->qdevice_host != NULL && strcmp(conf->qdevice_host, address) != 0)
        return atl_fail(err, ATL_E_EXISTS, "address", "%s is the witness; remove it first",
                        conf->qdevice_host);
    return ATL_OK;
}

void cfg_handle_add_witness(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Cluster__V1__AddWitnessRequest *wish = (const void *)input;
    struct cfg_corosync conf;
    struct atl_error error = {0};
    enum atl_code code = cfg_cluster_conf(cfg->cluster, atl_request_arena(request), &conf, &error);
    if (code == ATL_OK)
        code = cfg_witness_may_come(&conf, wish->address, &error);
    if (code != ATL_OK)
        atl_request_fail(request, &error, NULL);
    else
        cfg_token_make(cfg, request,
                       &(const struct cfg_token_wish){.lifetime_s = wish->has_lifetime ? wish->lifetime
                                                                                       : CFG_TOKEN_LIFETIME,
                                                      .kind = CFG_TOKEN_WITNESS,
                                                      .whom = wish->address});
}

/* --- what it is told --- */

size_t cfg_witness_gateways(struct cfg *cfg, const struct cfg_corosync *conf, struct atl_arena *arena,
                            char ***ret_gateways)
{
    size_t count = 0;
    *ret_gateways = atl_arena_array(arena, char *, GATEWAYS_MAX);
    for (size_t i = 0; i < conf->count && count < GATEWAYS_MAX; i++) {
        struct atl_buf endpoint ATL_BUF_AT_EXIT = {0};
        const char *fingerprint = cfg_fingerprint_of(cfg, conf->nodes[i].name);
        if (fingerprint == NULL || !cfg_keeps_authority(conf, conf->nodes[i].name))
            continue;
        cfg_endpoint_write(conf->nodes[i].links[0], CFG_GATEWAY_PORT, &endpoint);
        (*ret_gateways)[count++] = atl_arena_format(arena, "%s/%s", endpoint.data, fingerprint);
    }
    return count;
}

struct syncing { /* lives with the request */
    struct cfg_cluster *cluster;
    struct atl_arena *arena;
    const Atoll__Cluster__V1__SyncWitnessRequest *wish;
    struct cfg_corosync conf;
    const char *address;
    Atoll__Cluster__V1__SyncWitnessReply reply;
};

static void on_told(const struct cfg_store_result *result, void *user)
{
    (void)user;
    if (result->code == ATL_OK)
        atl_log(ATL_NOTICE, "secrets", "the witness has done its part of the change of certificates");
    else if (result->code != ATL_E_CONFLICT) /* it tells again */
        atl_log(ATL_WARNING, "rotation-delayed", "what the witness has done is not stored: %s",
                result->error.text);
}

static void tell(struct syncing *syncing, const struct cfg_rotation *now)
{
    Atoll__Cluster__V1__Rotated record = ATOLL__CLUSTER__V1__ROTATED__INIT;
    record.generation = now->generation;
    record.phase = now->phase;
    struct cfg_op op = cfg_put_message(syncing->arena, CFG_ROTATED_FOLDER CFG_WITNESS, &record.base);
    cfg_store_txn(syncing->cluster->cfg->store, &(const struct cfg_txn){.ops = &op, .op_count = 1}, NULL,
                  on_told, NULL);
}

static enum atl_code give(struct syncing *syncing, const struct cfg_rotation *now, struct atl_error *err)
{
    const struct cfg_place *place = &syncing->cluster->place;
    Atoll__Cluster__V1__SyncWitnessReply *reply = &syncing->reply;
    struct atl_buf cert ATL_BUF_AT_EXIT = {0};
    struct atl_buf ca ATL_BUF_AT_EXIT = {0};
    const struct cfg_pki_subject subject = {.node = CFG_WITNESS, .address = syncing->address};
    enum atl_code code = cfg_place_read(place, cfg_pki_current.cert, &ca, err);
    if (code == ATL_OK)
        code = cfg_pki_sign(place, &cfg_pki_current, syncing->wish->csr, &subject, &cert, err);
    if (code != ATL_OK)
        return code;
    reply->has_generation = reply->has_phase = true;
    reply->generation = now->generation;
    reply->phase = now->phase == CFG_ROTATION_DONE ? CFG_ROTATION_DROP : now->phase;
    reply->ca = atl_arena_strdup(syncing->arena, ca.data);
    reply->certificate = atl_arena_strdup(syncing->arena, cert.data);
    return ATL_OK;
}

/*
 * The certificates of the phase that all nodes have done: this node has them as its own. Without a quorum
 * nobody knows that, so only what is settled here is given.
 */
static enum atl_code sync_certificates(struct syncing *syncing, struct atl_error *err)
{
    const Atoll__Cluster__V1__SyncWitnessRequest *wish = syncing->wish;
    struct cfg_rotation_view view;
    if (!cfg_rotation_view_read(syncing->cluster, syncing->arena, &view))
        return atl_fail(err, ATL_E_STATE, NULL, "this node is in no cluster");
    const struct cfg_rotation *now = &view.rotation;
    enum cfg_rotation_phase phase = now->phase == CFG_ROTATION_DONE ? CFG_ROTATION_DROP : now->phase;
    bool has_it = wish->generation == now->generation && wish->phase >= (uint32_t)phase;
    const struct cfg_rotation_node *witness = view.count > 0 ? &view.nodes[view.count - 1] : NULL;
    if (has_it && now->phase != CFG_ROTATION_DONE && witness != NULL && witness->witness &&
        (witness->generation != now->generation || witness->phase < now->phase))
        tell(syncing, now);
    bool wanted = !has_it || (wish->has_renew && wish->renew);
    bool settled = view.generation == now->generation ||
                   (now->phase != CFG_ROTATION_DONE && cfg_rotation_is_witness_turn(&view));
    return wanted && settled ? give(syncing, now, err) : ATL_OK;
}

static bool is_key(const ProtobufCBinaryData *known, const uint8_t key[CFG_KEY_HASH])
{
    return known->len == CFG_KEY_HASH && memcmp(known->data, key, CFG_KEY_HASH) == 0;
}

static enum atl_code sync_witness(struct syncing *syncing, struct atl_error *err)
{
    uint8_t key[CFG_KEY_HASH];
    struct cfg_cluster *cluster = syncing->cluster;
    bool writable = false;
    if (cfg_cluster_conf(cluster, syncing->arena, &syncing->conf, NULL) != ATL_OK)
        return atl_fail(err, ATL_E_DENIED, NULL, "this node is in no cluster that could have a witness");
    enum atl_code code = cfg_pki_key_hash(syncing->wish->csr, key, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Cluster__V1__Witness *witness = cfg_witness_read(cluster, syncing->arena);
    const Atoll__Cluster__V1__Joining *joining = read_joining(cluster, syncing->arena);
    if (witness == NULL || !is_key(&witness->key, key)) {
        bool comes = joining != NULL && is_key(&joining->witness_key, key);
        (void)cfg_store_age(cluster->cfg->store, &writable);
        syncing->reply.has_gone = syncing->reply.gone = writable && !comes;
        return ATL_OK;
    }
    syncing->address = witness->address;
    cfg_rotation_saw_witness(cluster);
    syncing->reply.n_gateway =
        cfg_witness_gateways(cluster->cfg, &syncing->conf, syncing->arena, &syncing->reply.gateway);
    return sync_certificates(syncing, err);
}

void cfg_handle_sync_witness(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct syncing *syncing = atl_arena_new(arena, struct syncing);
    struct atl_error error = {0};
    *syncing = (struct syncing){.cluster = cfg->cluster, .arena = arena, .wish = (const void *)input};
    atoll__cluster__v1__sync_witness_reply__init(&syncing->reply);
    if (sync_witness(syncing, &error) != ATL_OK)
        atl_request_fail(request, &error, NULL);
    else
        atl_request_reply(request, &syncing->reply.base);
}

/* --- how it is --- */

struct showing { /* lives with the request */
    struct atl_request *request;
    struct atl_grpc *channel;
    Atoll__Cluster__V1__GetQdeviceReply reply;
};

static void on_status(const struct atl_etcd_answer *answer, void *user)
{
    struct showing *showing = user;
    struct atl_grpc *channel = showing->channel;
    showing->reply.has_etcd = true;
    showing->reply.etcd = answer->code == ATL_OK;
    atl_request_reply(showing->request, &showing->reply.base);
    atl_grpc_free(&channel);
}

static bool is_expected(const struct cfg_cluster *cluster, struct atl_arena *arena)
{
    const struct cfg_tree *tree = cfg_store_tree(cluster->cfg->store);
    size_t length = strlen(CFG_JOIN_FOLDER);
    for (size_t i = cfg_tree_seek(tree, CFG_JOIN_FOLDER); i < tree->count; i++) {
        if (strncmp(tree->files[i]->path, CFG_JOIN_FOLDER, length) != 0)
            break;
        struct cfg_token token = cfg_token_find(cluster, arena, tree->files[i]->path + length);
        if (token.record != NULL && token.record->witness != NULL &&
            token.record->expires >= atl_clock_wall_seconds())
            return true;
    }
    return false;
}

void cfg_handle_get_qdevice(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    static char expected[] = "expected";
    static char on_its_way[] = "joining";
    static char member[] = "member";
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    const struct atl_membership *now = cfg_cluster_membership(cfg->cluster);
    struct showing *showing = atl_arena_new(arena, struct showing);
    struct atl_buf endpoint ATL_BUF_AT_EXIT = {0};
    *showing = (struct showing){.request = request};
    atoll__cluster__v1__get_qdevice_reply__init(&showing->reply);
    char *host = now != NULL ? cfg_cluster_witness(cfg->cluster, arena) : NULL;
    if (now != NULL && read_joining(cfg->cluster, arena) != NULL)
        showing->reply.state = on_its_way;
    else if (host != NULL)
        showing->reply.state = member;
    else if (now != NULL && is_expected(cfg->cluster, arena))
        showing->reply.state = expected;
    if (host == NULL) {
        atl_request_reply(request, &showing->reply.base);
        return;
    }
    showing->reply.host = host;
    showing->reply.has_votes = true;
    showing->reply.votes = now->qdevice_votes > 0;
    cfg_endpoint_write(host, CFG_ETCD_CLIENT_PORT, &endpoint);
    Etcd__StatusRequest status = ETCD__STATUS_REQUEST__INIT;
    if (cfg_ask_channel(&cfg->cluster->place, endpoint.data, cfg->loop, &showing->channel, NULL) != ATL_OK)
        atl_request_reply(request, &showing->reply.base);
    else
        (void)atl_etcd_call(showing->channel, ATL_ETCD_STATUS, &status.base, PROBE_TIMEOUT, on_status,
                            showing);
}

/* --- it goes --- */

struct retirement { /* lives with the request, or with the cluster's arena of such things */
    struct cfg_cluster *cluster;
    struct atl_request *request; /* NULL: nobody asked for it */
    struct atl_arena *arena;
};

static void end(struct retirement *retirement, enum atl_code code, const char *why)
{
    if (retirement->request == NULL) {
        if (code != ATL_OK)
            atl_log(ATL_WARNING, "witness-stays", "the witness is not taken out yet: %s", why);
    } else if (code != ATL_OK) {
        cfg_refuse(retirement->request, code, NULL, "%s - try again", why);
    } else {
        cfg_reply_nothing(retirement->request);
    }
}

static void on_forgotten(const struct cfg_store_result *result, void *user)
{
    struct retirement *retirement = user;
    retirement->cluster->forgetting = false;
    cfg_crash_at(&retirement->cluster->place, CFG_CRASH_WITNESS_FORGOTTEN);
    if (result->code == ATL_OK)
        atl_log(ATL_NOTICE, "witness", "the witness is taken out of the cluster");
    end(retirement, result->code, result->error.text);
}

/* Words that were not used. */
static void add_tokens(const struct retirement *retirement, struct cfg_op *ops, struct cfg_txn *txn)
{
    const struct cfg_cluster *cluster = retirement->cluster;
    const struct cfg_tree *tree = cfg_store_ahead(cluster->cfg->store);
    for (size_t i = cfg_tree_seek(tree, CFG_JOIN_FOLDER); i < tree->count && txn->op_count < CFG_TXN_OPS_MAX;
         i++) {
        const char *path = tree->files[i]->path;
        if (strncmp(path, CFG_JOIN_FOLDER, strlen(CFG_JOIN_FOLDER)) != 0)
            break;
        struct cfg_token token = cfg_token_find(cluster, retirement->arena, path + strlen(CFG_JOIN_FOLDER));
        if (token.record != NULL && token.record->witness != NULL)
            ops[txn->op_count++] = (struct cfg_op){.kind = CFG_DELETE, .path = token.path};
    }
}

/* Its line in corosync.conf goes, and with that begins the change of what its certificates are believed by.
 */
static void forget(struct retirement *retirement)
{
    static const char *const paths[] = {CFG_WITNESS_FILE, CFG_JOINING_FOLDER CFG_WITNESS,
                                        CFG_ROTATED_FOLDER CFG_WITNESS};
    struct cfg_cluster *cluster = retirement->cluster;
    const struct cfg_tree *tree = cfg_store_ahead(cluster->cfg->store);
    struct cfg_corosync conf;
    struct atl_error error = {0};
    enum atl_code code = cfg_cluster_conf(cluster, retirement->arena, &conf, &error);
    if (code != ATL_OK) {
        end(retirement, code, error.text);
        return;
    }
    struct cfg_compare compare = cfg_cluster_unchanged(cluster, CFG_COROSYNC_CONF);
    struct cfg_op *ops = atl_arena_array(retirement->arena, struct cfg_op, CFG_TXN_OPS_MAX);
    struct cfg_txn txn = {.compares = &compare, .compare_count = 1, .ops = ops};
    cfg_corosync_set_witness(&conf, NULL);
    ops[txn.op_count++] = cfg_cluster_conf_op(&conf, retirement->arena);
    ops[txn.op_count++] = cfg_rotation_begin_op(cluster, retirement->arena);
    for (size_t i = 0; i < ATL_COUNT(paths); i++)
        if (cfg_tree_get(tree, paths[i]) != NULL)
            ops[txn.op_count++] = (struct cfg_op){.kind = CFG_DELETE, .path = paths[i]};
    add_tokens(retirement, ops, &txn);
    cluster->forgetting = true;
    cfg_store_txn(cluster->cfg->store, &txn,
                  retirement->request != NULL ? atl_request_id(retirement->request) : NULL, on_forgotten,
                  retirement);
}

static void on_removed(const struct atl_etcd_answer *answer, void *user)
{
    struct retirement *retirement = user;
    retirement->cluster->retiring = NULL;
    cfg_crash_at(&retirement->cluster->place, CFG_CRASH_WITNESS_REMOVED);
    if (answer->code != ATL_OK && strstr(answer->error.text, "member not found") == NULL)
        end(retirement, ATL_E_STATE, answer->error.text);
    else
        forget(retirement);
}

static void on_listed(const struct atl_etcd_answer *answer, void *user)
{
    struct retirement *retirement = user;
    struct cfg_cluster *cluster = retirement->cluster;
    cluster->retiring = NULL;
    if (answer->code != ATL_OK) {
        end(retirement, ATL_E_STATE, answer->error.text);
        return;
    }
    char *host = cfg_cluster_witness(cluster, retirement->arena);
    struct atl_buf url ATL_BUF_AT_EXIT = {0};
    cfg_etcd_peer_url(host != NULL ? host : "", &url);
    const Etcd__MemberListResponse *list = (const void *)answer->message;
    Etcd__MemberRemoveRequest remove = ETCD__MEMBER_REMOVE_REQUEST__INIT;
    for (size_t i = 0; i < list->n_members; i++) {
        const Etcd__Member *member = list->members[i];
        if (strcmp(member->name, CFG_WITNESS) == 0 ||
            (member->n_peer_urls > 0 && strcmp(member->peer_urls[0], url.data) == 0))
            remove.id = member->id;
    }
    if (remove.id == 0) /* a removal that was cut off */
        forget(retirement);
    else
        cluster->retiring = atl_etcd_call(cluster->channel, ATL_ETCD_MEMBER_REMOVE, &remove.base,
                                          CALL_TIMEOUT, on_removed, retirement);
}

static void retire(struct retirement *retirement)
{
    struct cfg_cluster *cluster = retirement->cluster;
    Etcd__MemberListRequest list = ETCD__MEMBER_LIST_REQUEST__INIT;
    cluster->retiring = atl_etcd_call(cluster->channel, ATL_ETCD_MEMBER_LIST, &list.base, CALL_TIMEOUT,
                                      on_listed, retirement);
}

void cfg_handle_remove_witness(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    struct cfg_cluster *cluster = cfg->cluster;
    struct atl_arena *arena = atl_request_arena(request);
    if (cfg_cluster_membership(cluster) == NULL ||
        (cfg_cluster_witness(cluster, arena) == NULL && read_joining(cluster, arena) == NULL)) {
        cfg_refuse(request, ATL_E_ABSENT, NULL, "the cluster has no witness");
        return;
    }
    if (cluster->retiring != NULL || cluster->forgetting) {
        cfg_refuse(request, ATL_E_STATE, NULL, "the witness is being taken out already");
        return;
    }
    struct retirement *retirement = atl_arena_new(arena, struct retirement);
    *retirement = (struct retirement){.cluster = cluster, .request = request, .arena = arena};
    retire(retirement);
}

static bool is_first_online(const struct cfg_cluster *cluster)
{
    const struct atl_membership *now = cfg_cluster_membership(cluster);
    size_t i = 0;
    while (i < now->count && !now->members[i].online)
        i++;
    return i < now->count && now->members[i].self;
}

/* A third node came, or one of two went: with the witness the votes would be an even number. A change of
 * secrets that has just begun begins anew with that; one that is further comes to its end first. */
void cfg_witness_tick(struct cfg_cluster *cluster)
{
    struct atl_arena *arena = &cluster->retiring_arena;
    struct cfg_corosync conf;
    struct cfg_rotation rotation;
    if (cluster->retiring != NULL || cluster->forgetting || !is_first_online(cluster))
        return;
    atl_arena_reset(arena);
    cfg_rotation_read(cluster, arena, &rotation);
    if (cfg_cluster_conf(cluster, arena, &conf, NULL) != ATL_OK || conf.qdevice_host == NULL ||
        cfg_corosync_fits_witness(&conf) || rotation.phase > CFG_ROTATION_SPREAD)
        return;
    atl_log(ATL_NOTICE, "witness", "with this number of nodes the witness is of no use; it is taken out");
    struct retirement *retirement = atl_arena_new(arena, struct retirement);
    *retirement = (struct retirement){.cluster = cluster, .arena = arena};
    retire(retirement);
}
