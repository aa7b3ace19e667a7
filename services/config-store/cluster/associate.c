/*
 * Associates: hosts that are no nodes and have a gateway. One is a record in the directory with one key;
 * whose record goes is cut off by every listener at once.
 */
#include <openssl/evp.h>
#include <string.h>

#include "atoll/cluster/v1/work.atl.h"
#include "atoll/store/v1/directory.atl.h"
#include "cluster/internal.h"
#include "io/directory.h"
#include "pure/codec.h"

static const char role[] = "api-gateway";

static Atoll__Store__V1__DirectoryNode *read_record(const struct cfg_file *file, struct atl_arena *arena)
{
    return (Atoll__Store__V1__DirectoryNode *)atl_unpack(&atl_msg_store_v1_DirectoryNode, file->bytes,
                                                         file->size, arena);
}

/* The record of that name; NULL: there is none. */
static Atoll__Store__V1__DirectoryNode *find_record(const struct cfg_cluster *cluster, const char *name,
                                                    struct atl_arena *arena)
{
    const char *path = atl_arena_format(arena, ATL_DIRECTORY_PREFIX "%s", name);
    const struct cfg_file *file = cfg_tree_get(cfg_store_ahead(cluster->cfg->store), path);
    return file != NULL ? read_record(file, arena) : NULL;
}

static bool is_associate(const Atoll__Store__V1__DirectoryNode *record)
{
    return record != NULL && record->has_associate && record->associate;
}

bool cfg_is_associate(const struct cfg_cluster *cluster, const char *name)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    return is_associate(find_record(cluster, name, &arena));
}

/* The next file of the directory from `at` on; NULL: there are no more. */
static const struct cfg_file *next_file(const struct cfg_tree *tree, size_t at)
{
    const struct cfg_file *file = at < tree->count ? tree->files[at] : NULL;
    bool ours = file != NULL && strncmp(file->path, ATL_DIRECTORY_PREFIX, strlen(ATL_DIRECTORY_PREFIX)) == 0;
    return ours ? file : NULL;
}

/* --- a word for it --- */

static enum atl_code check_name(const struct cfg_cluster *cluster, const char *name, struct atl_arena *arena,
                                struct atl_error *err)
{
    struct cfg_corosync *conf = atl_arena_new(arena, struct cfg_corosync);
    enum atl_code code = cfg_cluster_conf(cluster, arena, conf, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Store__V1__DirectoryNode *record = find_record(cluster, name, arena);
    const char *joining = atl_arena_format(arena, CFG_JOINING_FOLDER "%s", name);
    if (cfg_corosync_find(conf, name) != NULL || (record != NULL && !is_associate(record)) ||
        cfg_tree_get(cfg_store_ahead(cluster->cfg->store), joining) != NULL)
        return atl_fail(err, ATL_E_EXISTS, "hostname", "'%s' is a node of the cluster", name);
    return ATL_OK;
}

void cfg_handle_add_associate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Cluster__V1__AddAssociateRequest *wish = (const void *)input;
    struct atl_error error = {0};
    enum atl_code code = check_name(cfg->cluster, wish->hostname, atl_request_arena(request), &error);
    if (code == ATL_OK && cfg_is_associate(cfg->cluster, wish->hostname))
        code = atl_fail(&error, ATL_E_EXISTS, "hostname", "'%s' is an associate; remove it first",
                        wish->hostname);
    if (code != ATL_OK)
        atl_request_fail(request, &error, NULL);
    else
        cfg_token_make(cfg, request,
                       &(const struct cfg_token_wish){.lifetime_s = wish->has_lifetime ? wish->lifetime
                                                                                       : CFG_TOKEN_LIFETIME,
                                                      .kind = CFG_TOKEN_ASSOCIATE,
                                                      .whom = wish->hostname});
}

/* --- it comes --- */

struct admitting { /* lives with the request */
    struct cfg_cluster *cluster;
    struct atl_request *request;
    struct atl_arena *arena;
    const Atoll__Cluster__V1__AdmitAssociateRequest *wish;
    struct cfg_token token;
    uint8_t key[ATL_BUS_KEY_SIZE];
};

static void refuse(struct admitting *admitting, const struct atl_error *error)
{
    atl_request_fail(admitting->request, error, NULL);
}

static uint8_t digit(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10); /* the contract lets through nothing else */
}

static bool has_key(const Atoll__Store__V1__DirectoryNode *record, const uint8_t key[ATL_BUS_KEY_SIZE])
{
    for (size_t i = 0; i < record->n_key; i++)
        if (record->key[i]->public_key.len == ATL_BUS_KEY_SIZE &&
            memcmp(record->key[i]->public_key.data, key, ATL_BUS_KEY_SIZE) == 0)
            return true;
    return false;
}

/* A key that two claim belongs to neither: nobody may take another's away like that. */
static enum atl_code check_key(struct admitting *admitting, struct atl_error *err)
{
    const struct cfg_tree *tree = cfg_store_ahead(admitting->cluster->cfg->store);
    const struct cfg_file *file = NULL;
    for (size_t i = cfg_tree_seek(tree, ATL_DIRECTORY_PREFIX); (file = next_file(tree, i)) != NULL; i++) {
        const Atoll__Store__V1__DirectoryNode *record = read_record(file, admitting->arena);
        bool own = strcmp(file->path + strlen(ATL_DIRECTORY_PREFIX), admitting->wish->hostname) == 0;
        if (record != NULL && !own && has_key(record, admitting->key))
            return atl_fail(err, ATL_E_INVALID, "key", "the key is somebody else's");
    }
    return ATL_OK;
}

/* A word that was used is good for the same key again, whose answer may have been lost, and for no other. */
static enum atl_code check(struct admitting *admitting, struct atl_error *err)
{
    const Atoll__Cluster__V1__AdmitAssociateRequest *wish = admitting->wish;
    const struct cfg_token_shown shown = {
        .secret = wish->secret, .node = wish->hostname, .kind = CFG_TOKEN_ASSOCIATE};
    enum atl_code code =
        cfg_token_check(admitting->cluster, admitting->arena, &shown, &admitting->token, err);
    if (code == ATL_OK)
        code = check_name(admitting->cluster, wish->hostname, admitting->arena, err);
    if (code == ATL_OK && !cfg_address_valid(wish->address))
        code = atl_fail(err, ATL_E_INVALID, "address", "'%s' is no address that others reach", wish->address);
    if (code != ATL_OK)
        return code;
    for (size_t i = 0; i < sizeof admitting->key; i++)
        admitting->key[i] = (uint8_t)(digit(wish->key[2 * i]) << 4 | digit(wish->key[2 * i + 1]));
    const Atoll__Store__V1__DirectoryNode *there =
        find_record(admitting->cluster, wish->hostname, admitting->arena);
    if (admitting->token.record->node != NULL && (there == NULL || !has_key(there, admitting->key)))
        return atl_fail(err, ATL_E_DENIED, "token", "the join token is not valid, too old or used");
    return check_key(admitting, err);
}

static char *record_text(const struct cfg_file *file, struct atl_arena *arena)
{
    char *text = atl_arena_alloc(arena, file->size * 2 + 8);
    (void)EVP_EncodeBlock((unsigned char *)text, file->bytes, (int)file->size);
    return atl_arena_format(arena, "%s:%s", file->path + strlen(ATL_DIRECTORY_PREFIX), text);
}

static void on_admitted(const struct cfg_store_result *result, void *user)
{
    struct admitting *admitting = user;
    const struct cfg_tree *tree = cfg_store_tree(admitting->cluster->cfg->store);
    const struct cfg_file *file = NULL;
    Atoll__Cluster__V1__AdmitAssociateReply reply = ATOLL__CLUSTER__V1__ADMIT_ASSOCIATE_REPLY__INIT;
    if (result->code != ATL_OK) {
        refuse(admitting, &result->error);
        return;
    }
    reply.record = atl_arena_array(admitting->arena, char *, ATL_DIRECTORY_NODES);
    for (size_t i = cfg_tree_seek(tree, ATL_DIRECTORY_PREFIX);
         (file = next_file(tree, i)) != NULL && reply.n_record < ATL_DIRECTORY_NODES; i++)
        reply.record[reply.n_record++] = record_text(file, admitting->arena);
    atl_request_reply(admitting->request, &reply.base);
}

static void store(struct admitting *admitting)
{
    struct atl_arena *arena = admitting->arena;
    const Atoll__Cluster__V1__AdmitAssociateRequest *wish = admitting->wish;
    Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
    Atoll__Store__V1__ServiceKey key = ATOLL__STORE__V1__SERVICE_KEY__INIT;
    Atoll__Store__V1__ServiceKey *keys[] = {&key};
    key.service = atl_arena_strdup(arena, role);
    key.public_key = (ProtobufCBinaryData){.len = sizeof admitting->key, .data = admitting->key};
    record.address = wish->address;
    record.n_key = ATL_COUNT(keys);
    record.key = keys;
    record.has_associate = record.associate = true;
    admitting->token.record->node = wish->hostname;
    const char *path = atl_arena_format(arena, ATL_DIRECTORY_PREFIX "%s", wish->hostname);
    const struct cfg_compare compares[] = {cfg_cluster_unchanged(admitting->cluster, path),
                                           cfg_cluster_unchanged(admitting->cluster, CFG_COROSYNC_CONF)};
    const struct cfg_op ops[] = {
        cfg_put_message(arena, path, &record.base),
        cfg_put_message(arena, admitting->token.path, &admitting->token.record->base)};
    cfg_store_txn(admitting->cluster->cfg->store,
                  &(const struct cfg_txn){.compares = compares,
                                          .compare_count = ATL_COUNT(compares),
                                          .ops = ops,
                                          .op_count = ATL_COUNT(ops)},
                  atl_request_id(admitting->request), on_admitted, admitting);
}

void cfg_handle_admit_associate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    struct admitting *admitting = atl_arena_new(atl_request_arena(request), struct admitting);
    struct atl_error error = {0};
    *admitting = (struct admitting){.cluster = cfg->cluster,
                                    .request = request,
                                    .arena = atl_request_arena(request),
                                    .wish = (const void *)input};
    if (check(admitting, &error) != ATL_OK)
        refuse(admitting, &error);
    else
        store(admitting);
}

/* --- those that there are --- */

void cfg_handle_list_associates(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    const struct cfg_tree *tree = cfg_store_tree(cfg->store);
    const struct cfg_file *file = NULL;
    Atoll__Cluster__V1__ListAssociatesReply reply = ATOLL__CLUSTER__V1__LIST_ASSOCIATES_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Cluster__V1__AssociateRow *, ATL_DIRECTORY_NODES);
    for (size_t i = cfg_tree_seek(tree, ATL_DIRECTORY_PREFIX);
         (file = next_file(tree, i)) != NULL && reply.n_entry < ATL_DIRECTORY_NODES; i++) {
        const Atoll__Store__V1__DirectoryNode *record = read_record(file, arena);
        if (!is_associate(record))
            continue;
        Atoll__Cluster__V1__AssociateRow *row = atl_arena_new(arena, Atoll__Cluster__V1__AssociateRow);
        atoll__cluster__v1__associate_row__init(row);
        row->name = atl_arena_strdup(arena, file->path + strlen(ATL_DIRECTORY_PREFIX));
        row->address = record->address;
        row->role = record->n_key > 0 ? record->key[0]->service : NULL;
        reply.entry[reply.n_entry++] = row;
    }
    atl_request_reply(request, &reply.base);
}

static void on_removed(const struct cfg_store_result *result, void *user)
{
    struct atl_request *request = user;
    if (result->code != ATL_OK)
        atl_request_fail(request, &result->error, NULL);
    else
        cfg_reply_nothing(request);
}

void cfg_handle_remove_associate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Cluster__V1__RemoveAssociateRequest *wish = (const void *)input;
    if (!cfg_is_associate(cfg->cluster, wish->hostname)) {
        cfg_refuse(request, ATL_E_ABSENT, "hostname", "no associate '%s' is in the cluster", wish->hostname);
        return;
    }
    const char *path =
        atl_arena_format(atl_request_arena(request), ATL_DIRECTORY_PREFIX "%s", wish->hostname);
    const struct cfg_compare compare = cfg_cluster_unchanged(cfg->cluster, path);
    const struct cfg_op op = {.kind = CFG_DELETE, .path = path};
    cfg_store_txn(
        cfg->store,
        &(const struct cfg_txn){.compares = &compare, .compare_count = 1, .ops = &op, .op_count = 1},
        atl_request_id(request), on_removed, request);
}
