/*
 * Admission of a node, at the node it asks: its certificate is signed and its etcd added as a learner; the
 * rest is joining.c's.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/cluster/v1/work.atl.h"
#include "cluster/internal.h"
#include "cluster/pki.h"
#include "identity.h"
#include "pure/codec.h"
#include "pure/number.h"
#include "view.h"

#define CALL_TIMEOUT (5 * ATL_SECOND)
enum { VMIDS_MAX = 10000 };

struct admission {
    struct cfg_cluster *cluster;
    struct atl_request *request;
    struct atl_arena *arena; /* the request's */
    const char *node;
    const Atoll__Cluster__V1__NewNode *wish;
    const char *links[CFG_LINKS_MAX];
    const char *csr;
    bool witness;
    uint8_t key[CFG_KEY_HASH]; /* the witness's */
    struct cfg_token token;    /* without a name: none was shown */
    struct cfg_corosync conf;  /* with the node in it */
    const char *peer_url;
    uint64_t stale; /* member of an earlier try */
    Atoll__Cluster__V1__AddNodeReply reply;
};

static void refuse(struct admission *admission, const struct atl_error *error)
{
    atl_request_fail(admission->request, error, NULL);
}

struct cfg_op cfg_put_message(struct atl_arena *arena, const char *path, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = atl_arena_alloc(arena, size + 1);
    (void)protobuf_c_message_pack(message, bytes);
    return (struct cfg_op){.kind = CFG_PUT, .path = path, .bytes = bytes, .size = size};
}

/* --- may it come in? --- */

static enum atl_code check_guests(struct admission *admission, struct atl_error *err)
{
    const struct cfg_tree *tree = cfg_store_ahead(admission->cluster->cfg->store);
    char *rest =
        atl_arena_strdup(admission->arena, admission->wish->vmids != NULL ? admission->wish->vmids : "");
    for (char *word = strsep(&rest, ",; "); word != NULL; word = strsep(&rest, ",; ")) {
        uint64_t vmid = 0;
        if (word[0] == '\0')
            continue;
        if (!atl_uint_from_text(word, &vmid) || vmid > CFG_VMID_MAX)
            return atl_fail(err, ATL_E_INVALID, "vmids", "'%s' is no guest id", word);
        if (cfg_tree_guest(tree, (uint32_t)vmid) != NULL)
            return atl_fail(err, ATL_E_EXISTS, "vmids", "guest %u is in the cluster already",
                            (unsigned int)vmid);
    }
    return ATL_OK;
}

/* A node that came as far as corosync.conf and never spoke may come again; one that spoke is in. */
static enum atl_code add_to_conf(struct admission *admission, struct atl_error *err)
{
    const Atoll__Cluster__V1__NewNode *wish = admission->wish;
    struct cfg_corosync *conf = &admission->conf;
    const struct cfg_corosync_node node = {.name = admission->node,
                                           .id = wish->nodeid,
                                           .votes = wish->has_votes ? wish->votes : UINT32_MAX,
                                           .links = {admission->links[0], admission->links[1]}};
    enum atl_code code = cfg_cluster_conf(admission->cluster, admission->arena, conf, err);
    if (code != ATL_OK)
        return code;
    const char *key = atl_arena_format(admission->arena, ".state/key/%s", admission->node);
    bool spoke = cfg_tree_get(cfg_store_ahead(admission->cluster->cfg->store), key) != NULL;
    const struct cfg_corosync_node *there = cfg_corosync_find(conf, admission->node);
    if (cfg_is_associate(admission->cluster, admission->node))
        return atl_fail(err, ATL_E_EXISTS, "node", "'%s' is an associate of the cluster", admission->node);
    if (spoke)
        return atl_fail(err, ATL_E_EXISTS, "node",
                        "a node named '%s' is in the cluster; if it is gone for good, remove it first",
                        admission->node);
    if (there != NULL && strcmp(there->links[0], admission->links[0]) == 0)
        return ATL_OK;
    return cfg_corosync_add(conf, &node, err);
}

static enum atl_code check(struct admission *admission, struct atl_error *err)
{
    const Atoll__Cluster__V1__NewNode *wish = admission->wish;
    bool writable = false;
    (void)cfg_store_age(admission->cluster->cfg->store, &writable);
    enum atl_code code = cfg_links_read(wish->link, wish->n_link, admission->links, err);
    if (code != ATL_OK)
        return code;
    if (admission->links[0] == NULL)
        admission->links[0] = wish->new_node_ip;
    if (admission->links[0] == NULL || !cfg_address_valid(admission->links[0]))
        return atl_fail(err, ATL_E_INVALID, "link0", "an address of the node that others reach is needed");
    if (!writable)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the cluster has no quorum: nobody can join");
    code = check_guests(admission, err);
    return code == ATL_OK ? add_to_conf(admission, err) : code;
}

static enum atl_code check_witness(struct admission *admission, struct atl_error *err)
{
    struct cfg_corosync *conf = &admission->conf;
    bool writable = false;
    (void)cfg_store_age(admission->cluster->cfg->store, &writable);
    if (!writable)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the cluster has no quorum: nobody can join");
    enum atl_code code = cfg_cluster_conf(admission->cluster, admission->arena, conf, err);
    if (code == ATL_OK)
        code = cfg_witness_may_come(conf, admission->links[0], err);
    return code == ATL_OK ? cfg_pki_key_hash(admission->csr, admission->key, err) : code;
}

/* --- the answer --- */

/* What a witness gets: a certificate, and nothing that is secret. */
static enum atl_code fill_certificate(struct admission *admission, struct atl_error *err)
{
    const struct cfg_place *place = &admission->cluster->place;
    Atoll__Cluster__V1__AddNodeReply *reply = &admission->reply;
    struct atl_buf cert ATL_BUF_AT_EXIT = {0};
    struct atl_buf ca ATL_BUF_AT_EXIT = {0};
    const struct cfg_pki_subject subject = {.node = admission->node,
                                            .address = admission->links[0],
                                            .cluster = admission->witness ? NULL : admission->conf.cluster};
    enum atl_code code = cfg_pki_sign(place, &cfg_pki_current, admission->csr, &subject, &cert, err);
    if (code == ATL_OK)
        code = cfg_place_read(place, "etcd/ca.pem", &ca, err);
    if (code != ATL_OK)
        return code;
    reply->certificate = atl_arena_strdup(admission->arena, cert.data);
    reply->ca = atl_arena_strdup(admission->arena, ca.data);
    reply->has_generation = true;
    reply->generation = cfg_secrets_generation(place);
    if (!admission->witness)
        return ATL_OK;
    reply->address = atl_arena_strdup(admission->arena, admission->links[0]);
    reply->cluster = atl_arena_strdup(admission->arena, admission->conf.cluster);
    reply->n_gateway =
        cfg_witness_gateways(admission->cluster->cfg, &admission->conf, admission->arena, &reply->gateway);
    return ATL_OK;
}

/* A secret as text; the buffer forgets it. */
static char *take_base64(struct atl_buf *secret, struct atl_arena *arena)
{
    char *text = atl_arena_alloc(arena, secret->length * 2 + 8);
    (void)EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)secret->data, (int)secret->length);
    explicit_bzero(secret->data, secret->capacity);
    return text;
}

/* What a node gets beside that: all that nodes share. */
static enum atl_code fill_files(struct admission *admission, struct atl_error *err)
{
    const struct cfg_place *place = &admission->cluster->place;
    Atoll__Cluster__V1__AddNodeReply *reply = &admission->reply;
    struct atl_buf authkey ATL_BUF_AT_EXIT = {0};
    struct atl_buf seal ATL_BUF_AT_EXIT = {0};
    struct atl_buf conf ATL_BUF_AT_EXIT = {0};
    atl_assert(!admission->witness);
    enum atl_code code = cfg_place_read(place, "corosync/authkey", &authkey, err);
    if (code != ATL_OK || authkey.length > CFG_AUTHKEY_MAX)
        return code != ATL_OK ? code : atl_fail(err, ATL_E_LIMIT, NULL, "corosync's key is too long");
    code = cfg_place_read(place, CFG_SEAL_FILE, &seal, err);
    if (code != ATL_OK)
        return code;
    cfg_corosync_write(&admission->conf, &(const struct cfg_corosync_place){.dir = NULL}, &conf);
    reply->corosync_conf = atl_arena_strdup(admission->arena, conf.data);
    reply->corosync_authkey = take_base64(&authkey, admission->arena);
    reply->priv_key = take_base64(&seal, admission->arena);
    return ATL_OK;
}

static void on_recorded(const struct cfg_store_result *result, void *user)
{
    struct admission *admission = user;
    cfg_crash_at(&admission->cluster->place,
                 admission->witness ? CFG_CRASH_WITNESS_RECORDED : CFG_CRASH_ADMIT_RECORDED);
    if (result->code != ATL_OK)
        refuse(admission, &result->error);
    else
        atl_request_reply(admission->request, &admission->reply.base);
}

/* The learner is there: from here on joining.c looks after it. */
static void record(struct admission *admission, uint64_t member)
{
    struct cfg_cluster *cluster = admission->cluster;
    struct atl_arena *arena = admission->arena;
    struct cfg_op ops[2];
    struct cfg_txn txn = {.ops = ops};
    Atoll__Cluster__V1__Joining joining = ATOLL__CLUSTER__V1__JOINING__INIT;
    joining.member = member;
    joining.deadline = atl_clock_wall_seconds() + CFG_JOIN_DEADLINE;
    joining.by = (char *)(uintptr_t)cluster->place.node; /* protobuf-c has no const; only packed */
    joining.link = (char **)(uintptr_t)admission->links;
    joining.n_link = admission->links[1] != NULL ? 2 : 1;
    if (admission->witness) {
        joining.has_witness_key = true;
        joining.witness_key = (ProtobufCBinaryData){.data = admission->key, .len = sizeof admission->key};
    } else {
        joining.has_nodeid = admission->wish->has_nodeid;
        joining.nodeid = admission->wish->nodeid;
        joining.has_votes = admission->wish->has_votes;
        joining.votes = admission->wish->votes;
    }
    joining.token = (char *)(uintptr_t)admission->token.name;
    ops[txn.op_count++] = cfg_put_message(
        arena, atl_arena_format(arena, CFG_JOINING_FOLDER "%s", admission->node), &joining.base);
    Atoll__Cluster__V1__JoinToken *token = /* as it is now, not as it was when it was shown */
        admission->token.name != NULL ? cfg_token_find(cluster, arena, admission->token.name).record : NULL;
    if (token != NULL && token->node == NULL) {
        token->node = atl_arena_strdup(arena, admission->node);
        ops[txn.op_count++] = cfg_put_message(arena, admission->token.path, &token->base);
    }
    cfg_store_txn(cluster->cfg->store, &txn, atl_request_id(admission->request), on_recorded, admission);
}

/* --- etcd --- */

static void answer_busy(struct admission *admission, const char *why)
{
    Atoll__Cluster__V1__AddNodeReply reply = ATOLL__CLUSTER__V1__ADD_NODE_REPLY__INIT;
    reply.busy = atl_arena_strdup(admission->arena, why);
    atl_request_reply(admission->request, &reply.base);
}

/* etcd makes a member's id of its address and the second: one that was taken out comes again only in the
 * next, and until then is "not found". */
static void answer_failed(struct admission *admission, const struct atl_etcd_answer *answer)
{
    struct atl_error error = {0};
    bool busy = strstr(answer->error.text, "too many learner") != NULL;
    if (busy || strstr(answer->error.text, "unhealthy cluster") != NULL ||
        strstr(answer->error.text, "member not found") != NULL || answer->code == ATL_E_UNAVAILABLE ||
        answer->code == ATL_E_DEADLINE) {
        answer_busy(admission, busy ? "another node is joining" : answer->error.text);
        return;
    }
    (void)atl_fail(&error, ATL_E_STATE, NULL, "%s", answer->error.text);
    refuse(admission, &error);
}

void cfg_members_text(const Etcd__MemberAddResponse *added, const char *node, struct atl_buf *out)
{
    for (size_t i = 0; i < added->n_members; i++) {
        const Etcd__Member *member = added->members[i];
        const char *name = member->id == added->member->id ? node : member->name;
        for (size_t k = 0; k < member->n_peer_urls; k++)
            atl_buf_printf(out, "%s%s=%s", out->length > 0 ? "," : "", name, member->peer_urls[k]);
    }
}

static void on_added(const struct atl_etcd_answer *answer, void *user)
{
    struct admission *admission = user;
    if (answer->code != ATL_OK) {
        answer_failed(admission, answer);
        return;
    }
    cfg_crash_at(&admission->cluster->place,
                 admission->witness ? CFG_CRASH_WITNESS_LEARNER : CFG_CRASH_ADMIT_LEARNER);
    const Etcd__MemberAddResponse *added = (const void *)answer->message;
    struct atl_buf members ATL_BUF_AT_EXIT = {0};
    cfg_members_text(added, admission->node, &members);
    admission->reply.members = atl_arena_strdup(admission->arena, members.data);
    record(admission, added->member->id);
}

static void add_learner(struct admission *admission)
{
    if (!admission->witness &&
        cfg_corosync_find(&admission->conf, admission->node)->votes == 0) { /* it gets no etcd */
        record(admission, 0);
        return;
    }
    Etcd__MemberAddRequest add = ETCD__MEMBER_ADD_REQUEST__INIT;
    char *urls[] = {(char *)(uintptr_t)admission->peer_url}; /* protobuf-c has no const; only packed */
    add.peer_urls = urls;
    add.n_peer_urls = 1;
    add.is_learner = true;
    (void)atl_etcd_call(admission->cluster->channel, ATL_ETCD_MEMBER_ADD, &add.base, CALL_TIMEOUT, on_added,
                        admission);
}

static void on_stale_gone(const struct atl_etcd_answer *answer, void *user)
{
    if (answer->code != ATL_OK)
        answer_failed(user, answer);
    else
        add_learner(user);
}

/* What an earlier try of this node left in etcd goes first. */
static void on_listed(const struct atl_etcd_answer *answer, void *user)
{
    struct admission *admission = user;
    if (answer->code != ATL_OK) {
        answer_failed(admission, answer);
        return;
    }
    const Etcd__MemberListResponse *list = (const void *)answer->message;
    Etcd__MemberRemoveRequest remove = ETCD__MEMBER_REMOVE_REQUEST__INIT;
    for (size_t i = 0; i < list->n_members; i++) {
        const Etcd__Member *member = list->members[i];
        if (strcmp(member->name, admission->node) == 0 ||
            (member->n_peer_urls > 0 && strcmp(member->peer_urls[0], admission->peer_url) == 0))
            remove.id = member->id;
    }
    if (remove.id != 0)
        (void)atl_etcd_call(admission->cluster->channel, ATL_ETCD_MEMBER_REMOVE, &remove.base, CALL_TIMEOUT,
                            on_stale_gone, admission);
    else
        add_learner(admission);
}

/* --- the methods --- */

static void admit(struct admission *admission)
{
    struct atl_error error = {0};
    struct atl_buf url ATL_BUF_AT_EXIT = {0};
    struct cfg_rotation rotation;
    if (cfg_cluster_membership(admission->cluster) == NULL || admission->csr == NULL) {
        (void)atl_fail(&error, ATL_E_STATE, NULL, "this node is in no cluster");
        refuse(admission, &error);
        return;
    }
    cfg_rotation_read(admission->cluster, admission->arena, &rotation);
    if (rotation.phase != CFG_ROTATION_DONE) { /* what it would get is not believed for long */
        answer_busy(admission, "the secrets of the cluster are being changed");
        return;
    }
    enum atl_code code = admission->witness ? check_witness(admission, &error) : check(admission, &error);
    if (code == ATL_OK)
        code = fill_certificate(admission, &error);
    if (code == ATL_OK && !admission->witness)
        code = fill_files(admission, &error);
    if (code != ATL_OK) {
        refuse(admission, &error);
        return;
    }
    cfg_etcd_peer_url(admission->links[0], &url);
    admission->peer_url = atl_arena_strdup(admission->arena, url.data);
    Etcd__MemberListRequest list = ETCD__MEMBER_LIST_REQUEST__INIT;
    (void)atl_etcd_call(admission->cluster->channel, ATL_ETCD_MEMBER_LIST, &list.base, CALL_TIMEOUT,
                        on_listed, admission);
}

static struct admission *begin(struct cfg *cfg, struct atl_request *request, const char *node,
                               const Atoll__Cluster__V1__NewNode *wish)
{
    struct atl_arena *arena = atl_request_arena(request);
    struct admission *admission = atl_arena_new(arena, struct admission);
    *admission = (struct admission){.cluster = cfg->cluster,
                                    .request = request,
                                    .arena = arena,
                                    .node = node,
                                    .wish = wish,
                                    .csr = wish != NULL ? wish->csr : NULL};
    atoll__cluster__v1__add_node_reply__init(&admission->reply);
    return admission;
}

void cfg_handle_add_node(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Cluster__V1__AddNodeRequest *wish = (const void *)input;
    admit(begin(user, request, wish->node, wish->new_node));
}

void cfg_handle_admit_node(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Cluster__V1__AdmitNodeRequest *wish = (const void *)input;
    struct atl_error error = {0};
    struct admission *admission = begin(user, request, wish->node, wish->new_node);
    const struct cfg_token_shown shown = {.secret = wish->secret, .node = wish->node};
    if (cfg_token_check(admission->cluster, admission->arena, &shown, &admission->token, &error) != ATL_OK)
        refuse(admission, &error);
    else
        admit(admission);
}

void cfg_handle_admit_witness(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Cluster__V1__AdmitWitnessRequest *wish = (const void *)input;
    struct atl_error error = {0};
    struct admission *admission = begin(user, request, CFG_WITNESS, NULL);
    const struct cfg_token_shown shown = {
        .secret = wish->secret, .node = CFG_WITNESS, .kind = CFG_TOKEN_WITNESS};
    admission->witness = true;
    admission->csr = wish->csr;
    if (cfg_token_check(admission->cluster, admission->arena, &shown, &admission->token, &error) != ATL_OK) {
        refuse(admission, &error);
        return;
    }
    admission->links[0] = admission->token.record->witness;
    admit(admission);
}
