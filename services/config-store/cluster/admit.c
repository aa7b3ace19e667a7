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
#define TOKEN_PAUSE  (200 * ATL_MS)
enum { HASH_SIZE = 32, SECRET_BYTES = 16, VMIDS_MAX = 10000, TOKEN_TRIES = 20 };

struct admission {
    struct cfg_cluster *cluster;
    struct atl_request *request;
    struct atl_arena *arena; /* the request's */
    const char *node;
    const Atoll__Cluster__V1__NewNode *wish;
    const char *links[CFG_LINKS_MAX];
    const char *token;        /* name of the join token, or NULL */
    struct cfg_corosync conf; /* with the node in it */
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

/* --- tokens --- */

static void hash_secret(const char *secret, uint8_t ret_hash[HASH_SIZE])
{
    int done = EVP_Digest(secret, strlen(secret), ret_hash, NULL, EVP_sha256(), NULL);
    atl_assert(done == 1);
}

static Atoll__Cluster__V1__JoinToken *find_token(struct admission *admission, const char *path)
{
    const struct cfg_file *file = cfg_tree_get(cfg_store_ahead(admission->cluster->cfg->store), path);
    if (file == NULL)
        return NULL;
    return (Atoll__Cluster__V1__JoinToken *)atl_unpack(&atl_msg_cluster_v1_JoinToken, file->bytes, file->size,
                                                       admission->arena);
}

static const char *token_path(struct admission *admission)
{
    return atl_arena_format(admission->arena, CFG_JOIN_FOLDER "%s", admission->token);
}

/* One answer for all that is wrong with it, so that nobody learns which tokens there are. */
static enum atl_code check_token(struct admission *admission, const char *secret, struct atl_error *err)
{
    uint8_t hash[HASH_SIZE];
    const Atoll__Cluster__V1__JoinToken *token = NULL;
    bool formed = strlen(secret) > CFG_JOIN_ID && secret[CFG_JOIN_ID] == '.' &&
                  strspn(secret, "0123456789abcdef") == CFG_JOIN_ID;
    if (formed) {
        admission->token = atl_arena_strndup(admission->arena, secret, CFG_JOIN_ID);
        token = find_token(admission, token_path(admission));
    }
    hash_secret(secret, hash);
    if (token == NULL || token->hash.len != HASH_SIZE ||
        !atl_equal_secret(token->hash.data, hash, HASH_SIZE) || token->expires < atl_clock_wall_seconds() ||
        (token->node != NULL && strcmp(token->node, admission->node) != 0))
        return atl_fail(err, ATL_E_DENIED, "token", "the join token is not valid, too old or used");
    return ATL_OK;
}

static const char *fingerprint_of(struct cfg *cfg, const char *node)
{
    size_t count = 0;
    struct cfg_node_row *const *nodes = cfg_status_nodes(cfg_view_status(cfg->view), &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(nodes[i]->name, node) == 0 && nodes[i]->fingerprint[0] != '\0')
            return nodes[i]->fingerprint;
    return NULL;
}

struct making { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Cluster__V1__MakeJoinTokenRequest *wish;
    unsigned int tries;
    char *text;
};

static void on_token_stored(const struct cfg_store_result *result, void *user)
{
    struct making *making = user;
    Atoll__Cluster__V1__MakeJoinTokenReply reply = ATOLL__CLUSTER__V1__MAKE_JOIN_TOKEN_REPLY__INIT;
    reply.token = making->text;
    if (result->code != ATL_OK)
        atl_request_fail(making->request, &result->error, NULL);
    else
        atl_request_reply(making->request, &reply.base);
}

/* "ID.SECRET" */
static void make_secret(char ret_secret[CFG_JOIN_SECRET_SIZE])
{
    uint8_t bytes[CFG_JOIN_ID / 2 + SECRET_BYTES];
    size_t at = 0;
    cfg_random(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        at += (size_t)snprintf(ret_secret + at, CFG_JOIN_SECRET_SIZE - at, "%02x", bytes[i]);
        if (i + 1 == CFG_JOIN_ID / 2)
            ret_secret[at++] = '.';
    }
    explicit_bzero(bytes, sizeof bytes);
}

/* Who signs the joiner's certificate: we, or the first that is online of those that have the authority's key.
 */
static enum atl_code who_admits(struct cfg *cfg, struct atl_arena *arena, struct cfg_corosync_node *ret_node,
                                struct atl_error *err)
{
    struct atl_buf key ATL_BUF_AT_EXIT = {0};
    struct cfg_corosync *conf = atl_arena_new(arena, struct cfg_corosync);
    enum atl_code code = cfg_cluster_conf(cfg->cluster, arena, conf, err);
    if (code != ATL_OK)
        return code;
    bool ours = cfg_place_read(&cfg->cluster->place, cfg_pki_current.key, &key, NULL) == ATL_OK;
    if (ours)
        explicit_bzero(key.data, key.capacity);
    for (size_t i = 0; i < conf->count; i++) {
        const struct cfg_corosync_node *node = &conf->nodes[i];
        const struct atl_member *member = atl_members_find(cfg_cluster_membership(cfg->cluster), node->name);
        bool self = strcmp(node->name, cfg->program->node) == 0;
        if (ours ? self
                 : !self && member != NULL && member->online && cfg_keeps_authority(conf, node->name)) {
            *ret_node = *node;
            return ATL_OK;
        }
    }
    return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                    "no node is online that has the key of the cluster's authority");
}

static enum atl_code token_text(struct cfg *cfg, const char *address, struct cfg_join_token *token,
                                struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct atl_buf endpoint ATL_BUF_AT_EXIT = {0};
    struct cfg_corosync_node node = {.id = 0};
    enum atl_code code = who_admits(cfg, &arena, &node, err);
    if (code != ATL_OK)
        return code;
    atl_assert(node.name != NULL);
    const char *fingerprint = fingerprint_of(cfg, node.name);
    cfg_endpoint_write(node.links[0], CFG_GATEWAY_PORT, &endpoint);
    if (!atl_copy(token->endpoint, sizeof token->endpoint, address != NULL ? address : endpoint.data) ||
        strchr(token->endpoint, ':') == NULL || strchr(token->endpoint, '/') != NULL)
        return atl_fail(err, ATL_E_INVALID, "address", "'%s' is no ADDRESS:PORT", address);
    if (fingerprint == NULL)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                        "the fingerprint of the gateway of '%s' is not known yet - try again", node.name);
    (void)atl_copy(token->fingerprint, sizeof token->fingerprint, fingerprint);
    make_secret(token->secret);
    return ATL_OK;
}

/* Tokens whose time is over go with the next one that is made. */
static void drop_old_tokens(struct cfg *cfg, struct cfg_op *ops, struct cfg_txn *txn)
{
    const struct cfg_tree *tree = cfg_store_ahead(cfg->store);
    for (size_t i = cfg_tree_seek(tree, CFG_JOIN_FOLDER); i < tree->count && txn->op_count < CFG_TXN_OPS_MAX;
         i++) {
        const struct cfg_file *file = tree->files[i];
        if (strncmp(file->path, CFG_JOIN_FOLDER, strlen(CFG_JOIN_FOLDER)) != 0)
            break;
        Atoll__Cluster__V1__JoinToken *token =
            atoll__cluster__v1__join_token__unpack(NULL, file->size, file->bytes);
        if (token == NULL || token->expires < atl_clock_wall_seconds())
            ops[txn->op_count++] = (struct cfg_op){.kind = CFG_DELETE, .path = file->path};
        if (token != NULL)
            atoll__cluster__v1__join_token__free_unpacked(token, NULL);
    }
}

static void store_token(struct making *making, const struct cfg_join_token *token)
{
    struct cfg *cfg = making->cfg;
    struct atl_arena *arena = atl_request_arena(making->request);
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    uint8_t hash[HASH_SIZE];
    hash_secret(token->secret, hash);
    Atoll__Cluster__V1__JoinToken record = ATOLL__CLUSTER__V1__JOIN_TOKEN__INIT;
    record.hash = (ProtobufCBinaryData){.data = hash, .len = sizeof hash};
    record.expires = atl_clock_wall_seconds() + (making->wish->has_lifetime ? making->wish->lifetime : 900);
    cfg_join_token_write(token, &text);
    making->text = atl_arena_strdup(arena, text.data);
    const char *path = atl_arena_format(arena, CFG_JOIN_FOLDER "%.*s", CFG_JOIN_ID, token->secret);
    struct cfg_op *ops = atl_arena_array(arena, struct cfg_op, CFG_TXN_OPS_MAX);
    struct cfg_txn txn = {.ops = ops};
    ops[txn.op_count++] = cfg_put_message(arena, path, &record.base);
    drop_old_tokens(cfg, ops, &txn);
    cfg_store_txn(cfg->store, &txn, atl_request_id(making->request), on_token_stored, making);
}

/* Right after a start the gateway's fingerprint is told a moment later: that is waited for. */
static void make_token(void *user)
{
    struct making *making = user;
    struct cfg_join_token token;
    struct atl_error error = {0};
    enum atl_code code = token_text(making->cfg, making->wish->address, &token, &error);
    if (code == ATL_E_UNAVAILABLE && making->tries++ < TOKEN_TRIES)
        (void)atl_loop_timer(making->cfg->loop, TOKEN_PAUSE, 0, make_token, making);
    else if (code != ATL_OK)
        atl_request_fail(making->request, &error, NULL);
    else
        store_token(making, &token);
}

void cfg_handle_make_join_token(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    struct making *making = atl_arena_new(atl_request_arena(request), struct making);
    *making = (struct making){.cfg = cfg, .request = request, .wish = (const void *)input};
    if (cfg_cluster_membership(cfg->cluster) == NULL)
        cfg_refuse(request, ATL_E_STATE, NULL, "this node is in no cluster");
    else
        make_token(making);
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

/* --- the answer --- */

/* A secret as text; the buffer forgets it. */
static char *take_base64(struct atl_buf *secret, struct atl_arena *arena)
{
    char *text = atl_arena_alloc(arena, secret->length * 2 + 8);
    (void)EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)secret->data, (int)secret->length);
    explicit_bzero(secret->data, secret->capacity);
    return text;
}

static enum atl_code fill_files(struct admission *admission, struct atl_error *err)
{
    const struct cfg_place *place = &admission->cluster->place;
    Atoll__Cluster__V1__AddNodeReply *reply = &admission->reply;
    struct atl_buf cert ATL_BUF_AT_EXIT = {0};
    struct atl_buf ca ATL_BUF_AT_EXIT = {0};
    struct atl_buf authkey ATL_BUF_AT_EXIT = {0};
    struct atl_buf seal ATL_BUF_AT_EXIT = {0};
    struct atl_buf conf ATL_BUF_AT_EXIT = {0};
    enum atl_code code = cfg_pki_sign(
        place, &cfg_pki_current, admission->wish->csr,
        &(const struct cfg_pki_subject){.node = admission->node, .address = admission->links[0]}, &cert, err);
    if (code == ATL_OK)
        code = cfg_place_read(place, "etcd/ca.pem", &ca, err);
    if (code == ATL_OK)
        code = cfg_place_read(place, "corosync/authkey", &authkey, err);
    if (code != ATL_OK || authkey.length > CFG_AUTHKEY_MAX)
        return code != ATL_OK ? code : atl_fail(err, ATL_E_LIMIT, NULL, "corosync's key is too long");
    code = cfg_place_read(place, CFG_SEAL_FILE, &seal, err);
    if (code != ATL_OK)
        return code;
    cfg_corosync_write(&admission->conf, &(const struct cfg_corosync_place){.dir = NULL}, &conf);
    reply->certificate = atl_arena_strdup(admission->arena, cert.data);
    reply->ca = atl_arena_strdup(admission->arena, ca.data);
    reply->corosync_conf = atl_arena_strdup(admission->arena, conf.data);
    reply->corosync_authkey = take_base64(&authkey, admission->arena);
    reply->priv_key = take_base64(&seal, admission->arena);
    reply->has_generation = true;
    reply->generation = cfg_secrets_generation(place);
    return ATL_OK;
}

static void on_recorded(const struct cfg_store_result *result, void *user)
{
    struct admission *admission = user;
    cfg_crash_at(&admission->cluster->place, CFG_CRASH_ADMIT_RECORDED);
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
    joining.has_nodeid = admission->wish->has_nodeid;
    joining.nodeid = admission->wish->nodeid;
    joining.has_votes = admission->wish->has_votes;
    joining.votes = admission->wish->votes;
    joining.token = (char *)(uintptr_t)admission->token;
    ops[txn.op_count++] = cfg_put_message(
        arena, atl_arena_format(arena, CFG_JOINING_FOLDER "%s", admission->node), &joining.base);
    Atoll__Cluster__V1__JoinToken *token =
        admission->token != NULL ? find_token(admission, token_path(admission)) : NULL;
    if (token != NULL && token->node == NULL) {
        token->node = atl_arena_strdup(arena, admission->node);
        ops[txn.op_count++] = cfg_put_message(arena, token_path(admission), &token->base);
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

static void answer_failed(struct admission *admission, const struct atl_etcd_answer *answer)
{
    struct atl_error error = {0};
    bool busy = strstr(answer->error.text, "too many learner") != NULL;
    if (busy || strstr(answer->error.text, "unhealthy cluster") != NULL ||
        answer->code == ATL_E_UNAVAILABLE || answer->code == ATL_E_DEADLINE) {
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
    cfg_crash_at(&admission->cluster->place, CFG_CRASH_ADMIT_LEARNER);
    const Etcd__MemberAddResponse *added = (const void *)answer->message;
    struct atl_buf members ATL_BUF_AT_EXIT = {0};
    cfg_members_text(added, admission->node, &members);
    admission->reply.members = atl_arena_strdup(admission->arena, members.data);
    record(admission, added->member->id);
}

static void add_learner(struct admission *admission)
{
    if (cfg_corosync_find(&admission->conf, admission->node)->votes == 0) { /* it gets no etcd */
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
    if (cfg_cluster_membership(admission->cluster) == NULL || admission->wish == NULL) {
        (void)atl_fail(&error, ATL_E_STATE, NULL, "this node is in no cluster");
        refuse(admission, &error);
        return;
    }
    cfg_rotation_read(admission->cluster, admission->arena, &rotation);
    if (rotation.phase != CFG_ROTATION_DONE) { /* what it would get is not believed for long */
        answer_busy(admission, "the secrets of the cluster are being changed");
        return;
    }
    if (check(admission, &error) != ATL_OK || fill_files(admission, &error) != ATL_OK) {
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
    *admission = (struct admission){
        .cluster = cfg->cluster, .request = request, .arena = arena, .node = node, .wish = wish};
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
    if (check_token(admission, wish->secret, &error) != ATL_OK)
        refuse(admission, &error);
    else
        admit(admission);
}
