/* Join tokens: made on any node, kept as a hash, shown once by whoever wants in. */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "atoll/cluster/v1/work.atl.h"
#include "cluster/internal.h"
#include "identity.h"
#include "pure/codec.h"
#include "view.h"

#define TOKEN_PAUSE (200 * ATL_MS)
enum { HASH_SIZE = 32, SECRET_BYTES = 16, TOKEN_TRIES = 20 };

static void hash_secret(const char *secret, uint8_t ret_hash[HASH_SIZE])
{
    int done = EVP_Digest(secret, strlen(secret), ret_hash, NULL, EVP_sha256(), NULL);
    atl_assert(done == 1);
}

/* --- showing --- */

struct cfg_token cfg_token_find(const struct cfg_cluster *cluster, struct atl_arena *arena, const char *name)
{
    struct cfg_token token = {.name = name, .path = atl_arena_format(arena, CFG_JOIN_FOLDER "%s", name)};
    const struct cfg_file *file = cfg_tree_get(cfg_store_ahead(cluster->cfg->store), token.path);
    if (file != NULL)
        token.record = (Atoll__Cluster__V1__JoinToken *)atl_unpack(&atl_msg_cluster_v1_JoinToken, file->bytes,
                                                                   file->size, arena);
    return token;
}

static enum cfg_token_kind kind_of(const Atoll__Cluster__V1__JoinToken *record)
{
    if (record->witness != NULL)
        return CFG_TOKEN_WITNESS;
    return record->associate != NULL ? CFG_TOKEN_ASSOCIATE : CFG_TOKEN_NODE;
}

/* One answer for all that is wrong with it, so that nobody learns which tokens there are. */
enum atl_code cfg_token_check(const struct cfg_cluster *cluster, struct atl_arena *arena,
                              const struct cfg_token_shown *shown, struct cfg_token *ret_token,
                              struct atl_error *err)
{
    uint8_t hash[HASH_SIZE];
    struct cfg_token token = {.name = NULL};
    const char *secret = shown->secret;
    bool formed = strlen(secret) > CFG_JOIN_ID && secret[CFG_JOIN_ID] == '.' &&
                  strspn(secret, "0123456789abcdef") == CFG_JOIN_ID;
    if (formed)
        token = cfg_token_find(cluster, arena, atl_arena_strndup(arena, secret, CFG_JOIN_ID));
    hash_secret(secret, hash);
    const Atoll__Cluster__V1__JoinToken *record = token.record;
    if (record == NULL || record->hash.len != HASH_SIZE ||
        !atl_equal_secret(record->hash.data, hash, HASH_SIZE) || record->expires < atl_clock_wall_seconds() ||
        (record->node != NULL && strcmp(record->node, shown->node) != 0) || kind_of(record) != shown->kind ||
        (record->associate != NULL && strcmp(record->associate, shown->node) != 0))
        return atl_fail(err, ATL_E_DENIED, "token", "the join token is not valid, too old or used");
    *ret_token = token;
    return ATL_OK;
}

/* --- making --- */

const char *cfg_fingerprint_of(struct cfg *cfg, const char *node)
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
    struct cfg_token_wish wish;
    unsigned int tries;
    char *text;
};

static void on_token_stored(const struct cfg_store_result *result, void *user)
{
    struct making *making = user;
    Atoll__Cluster__V1__MakeJoinTokenReply node = ATOLL__CLUSTER__V1__MAKE_JOIN_TOKEN_REPLY__INIT;
    Atoll__Cluster__V1__AddWitnessReply witness = ATOLL__CLUSTER__V1__ADD_WITNESS_REPLY__INIT;
    Atoll__Cluster__V1__AddAssociateReply associate = ATOLL__CLUSTER__V1__ADD_ASSOCIATE_REPLY__INIT;
    const ProtobufCMessage *const replies[] = {[CFG_TOKEN_NODE] = &node.base,
                                               [CFG_TOKEN_WITNESS] = &witness.base,
                                               [CFG_TOKEN_ASSOCIATE] = &associate.base};
    node.token = witness.token = associate.token = making->text;
    if (result->code != ATL_OK)
        atl_request_fail(making->request, &result->error, NULL);
    else
        atl_request_reply(making->request, replies[making->wish.kind]);
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
    const char *fingerprint = cfg_fingerprint_of(cfg, node.name);
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
    record.expires = atl_clock_wall_seconds() + making->wish.lifetime_s;
    char *whom = making->wish.whom != NULL ? atl_arena_strdup(arena, making->wish.whom) : NULL;
    record.witness = making->wish.kind == CFG_TOKEN_WITNESS ? whom : NULL;
    record.associate = making->wish.kind == CFG_TOKEN_ASSOCIATE ? whom : NULL;
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
    enum atl_code code = token_text(making->cfg, making->wish.address, &token, &error);
    if (code == ATL_E_UNAVAILABLE && making->tries++ < TOKEN_TRIES)
        (void)atl_loop_timer(making->cfg->loop, TOKEN_PAUSE, 0, make_token, making);
    else if (code != ATL_OK)
        atl_request_fail(making->request, &error, NULL);
    else
        store_token(making, &token);
}

void cfg_token_make(struct cfg *cfg, struct atl_request *request, const struct cfg_token_wish *wish)
{
    struct making *making = atl_arena_new(atl_request_arena(request), struct making);
    *making = (struct making){.cfg = cfg, .request = request, .wish = *wish};
    make_token(making);
}

void cfg_handle_make_join_token(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Cluster__V1__MakeJoinTokenRequest *wish = (const void *)input;
    if (cfg_cluster_membership(cfg->cluster) == NULL)
        cfg_refuse(request, ATL_E_STATE, NULL, "this node is in no cluster");
    else
        cfg_token_make(cfg, request,
                       &(const struct cfg_token_wish){.address = wish->address,
                                                      .lifetime_s = wish->has_lifetime ? wish->lifetime
                                                                                       : CFG_TOKEN_LIFETIME});
}
