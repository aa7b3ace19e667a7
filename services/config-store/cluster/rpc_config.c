/* /cluster/config: what the cluster is made of; create and join are tasks. */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "cluster/internal.h"
#include "core/backup.h"
#include "view.h"

enum { API_VERSION = 1, HEX_DIGEST = 64 };

enum atl_code cfg_links_read(Atoll__Cluster__V1__LinkSlot *const *slots, size_t count,
                             const char *ret_links[CFG_LINKS_MAX], struct atl_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const Atoll__Cluster__V1__LinkSlot *slot = slots[i];
        char field[16];
        (void)snprintf(field, sizeof field, "link%u", slot->index);
        if (slot->index >= CFG_LINKS_MAX || slot->value == NULL || !cfg_address_valid(slot->value->address))
            return atl_fail(err, ATL_E_INVALID, field,
                            "an IP address of the node that others reach is needed");
        ret_links[slot->index] = slot->value->address;
    }
    if (ret_links[0] == NULL && ret_links[1] != NULL)
        return atl_fail(err, ATL_E_INVALID, "link0", "there is a link1, but no link0");
    return ATL_OK;
}

/* --- tasks --- */

/* A specification with what every task needs; texts are borrowed. */
static Atoll__Cluster__V1__ClusterWork *new_work(struct cfg *cfg, const char *const links[CFG_LINKS_MAX],
                                                 struct atl_arena *arena)
{
    Atoll__Cluster__V1__ClusterWork *work = atl_arena_new(arena, Atoll__Cluster__V1__ClusterWork);
    atoll__cluster__v1__cluster_work__init(work);
    work->node = atl_arena_strdup(arena, cfg->program->node);
    work->state_dir = atl_arena_strdup(arena, cfg->program->state_dir);
    work->run_dir = atl_arena_strdup(arena, cfg->program->run_dir);
    work->user = cfg->cluster->user;
    if (cfg->cluster->place.crash_file != NULL)
        work->crash_file = atl_arena_strdup(arena, cfg->cluster->place.crash_file);
    work->has_certificate_life = true;
    work->certificate_life = cfg->cluster->place.life_s;
    if (cfg->cluster->place.supervisor != NULL)
        work->supervisor = atl_arena_strdup(arena, cfg->cluster->place.supervisor);
    work->link = atl_arena_array(arena, char *, CFG_LINKS_MAX);
    for (size_t i = 0; i < CFG_LINKS_MAX && links[i] != NULL; i++)
        work->link[work->n_link++] = atl_arena_strdup(arena, links[i]);
    return work;
}

static const char *principal_name(struct atl_request *request)
{
    const struct atl_principal *principal = atl_request_principal(request);
    if (principal->user == NULL)
        return "root@pam";
    if (principal->token == NULL || strchr(principal->token, '!') != NULL)
        return principal->token != NULL ? principal->token : principal->user;
    return atl_arena_format(atl_request_arena(request), "%s!%s", principal->user, principal->token);
}

static void begin_task(struct cfg *cfg, struct atl_request *request, const char *type,
                       const Atoll__Cluster__V1__ClusterWork *work)
{
    char upid[ATL_UPID_MAX];
    struct atl_error error = {0};
    const struct atl_task_start start = {.type = type,
                                         .id = work->cluster != NULL ? work->cluster : "",
                                         .user = principal_name(request),
                                         .spec = &work->base,
                                         .request_id = atl_request_id(request)};
    if (atl_task_start(cfg->cluster->tasks, &start, upid, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Task__V1__TaskRef reply = ATOLL__TASK__V1__TASK_REF__INIT;
    reply.upid = upid;
    atl_request_reply(request, &reply.base);
}

/* Errors: ATL_E_STATE it is in one already. */
static enum atl_code need_alone(const struct cfg *cfg, struct atl_error *err)
{
    if (cfg->cluster->members != NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "this node is in cluster '%s' already",
                        cfg->cluster->conf.cluster);
    return ATL_OK;
}

static void handle_create(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Cluster__V1__CreateClusterRequest *wish = (const void *)input;
    const char *links[CFG_LINKS_MAX] = {NULL};
    struct atl_error error = {0};
    if (need_alone(cfg, &error) != ATL_OK ||
        cfg_links_read(wish->link, wish->n_link, links, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Cluster__V1__ClusterWork *work = new_work(cfg, links, atl_request_arena(request));
    work->cluster = wish->clustername;
    work->has_nodeid = wish->has_nodeid;
    work->nodeid = wish->nodeid;
    work->has_votes = wish->has_votes;
    work->votes = wish->votes;
    work->has_token_coefficient = true;
    work->token_coefficient =
        wish->has_token_coefficient ? wish->token_coefficient : CFG_TOKEN_COEFFICIENT_MS;
    begin_task(cfg, request, "clustercreate", work);
}

static char *guest_ids(struct cfg *cfg, struct atl_arena *arena)
{
    const struct cfg_tree *tree = cfg_store_tree(cfg->store);
    struct atl_buf ids ATL_BUF_AT_EXIT = {0};
    for (size_t i = 0; i < tree->guest_count; i++)
        atl_buf_printf(&ids, "%s%u", i > 0 ? "," : "", tree->guests[i].vmid);
    return ids.length > 0 ? atl_arena_strdup(arena, ids.data) : NULL;
}

struct wish { /* the same for both ways to show that one may */
    Atoll__Cluster__V1__LinkSlot *const *link;
    size_t n_link;
    bool has_nodeid;
    uint32_t nodeid;
    bool has_votes;
    uint32_t votes;
};

/* NULL: refused, answered. */
static Atoll__Cluster__V1__ClusterWork *join_work(struct cfg *cfg, struct atl_request *request,
                                                  const struct wish *wish)
{
    const char *links[CFG_LINKS_MAX] = {NULL};
    struct atl_error error = {0};
    if (need_alone(cfg, &error) != ATL_OK ||
        cfg_links_read(wish->link, wish->n_link, links, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return NULL;
    }
    Atoll__Cluster__V1__ClusterWork *work = new_work(cfg, links, atl_request_arena(request));
    work->has_nodeid = wish->has_nodeid;
    work->nodeid = wish->nodeid;
    work->has_votes = wish->has_votes;
    work->votes = wish->votes;
    work->vmids = guest_ids(cfg, atl_request_arena(request));
    return work;
}

/* ADDRESS or ADDRESS:PORT as ADDRESS:PORT. */
static char *endpoint_of(const char *host, const char *fallback_port, struct atl_arena *arena)
{
    bool bare_six = host[0] != '[' && strchr(host, ':') != strrchr(host, ':');
    bool has_port = !bare_six && strrchr(host, ':') != NULL && host[strlen(host) - 1] != ']';
    if (has_port)
        return atl_arena_strdup(arena, host);
    return atl_arena_format(arena, bare_six ? "[%s]:%s" : "%s:%s", host, fallback_port);
}

static void handle_join(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Cluster__V1__JoinClusterRequest *wish = (const void *)input;
    const struct wish common = {.link = wish->link,
                                .n_link = wish->n_link,
                                .has_nodeid = wish->has_nodeid,
                                .nodeid = wish->nodeid,
                                .has_votes = wish->has_votes,
                                .votes = wish->votes};
    Atoll__Cluster__V1__ClusterWork *work = join_work(user, request, &common);
    if (work == NULL)
        return;
    static char root[] = "root@pam";
    work->endpoint = endpoint_of(wish->hostname, "8006", atl_request_arena(request));
    work->fingerprint = wish->fingerprint;
    work->username = wish->username != NULL ? wish->username : root;
    work->password = wish->password;
    begin_task(user, request, "clusterjoin", work);
}

static void handle_join_token(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Cluster__V1__JoinWithTokenRequest *wish = (const void *)input;
    const struct wish common = {.link = wish->link,
                                .n_link = wish->n_link,
                                .has_nodeid = wish->has_nodeid,
                                .nodeid = wish->nodeid,
                                .has_votes = wish->has_votes,
                                .votes = wish->votes};
    struct cfg_join_token token;
    struct atl_error error = {0};
    if (cfg_join_token_read(wish->token, &token, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Cluster__V1__ClusterWork *work = join_work(user, request, &common);
    if (work == NULL)
        return;
    work->endpoint =
        endpoint_of(wish->hostname, strrchr(token.endpoint, ':') + 1, atl_request_arena(request));
    work->fingerprint = token.fingerprint;
    work->secret = token.secret;
    begin_task(user, request, "clusterjoin", work);
}

/* A task about one file of this node. */
static void begin_file_task(struct cfg *cfg, struct atl_request *request, const char *type, const char *file)
{
    static const char *const no_links[CFG_LINKS_MAX] = {NULL};
    if (!cfg_backup_name_valid(file)) {
        cfg_refuse(request, ATL_E_INVALID, "file", "'%s' is no name of a backup", file);
        return;
    }
    Atoll__Cluster__V1__ClusterWork *work = new_work(cfg, no_links, atl_request_arena(request));
    work->file = atl_arena_strdup(atl_request_arena(request), file);
    begin_task(cfg, request, type, work);
}

static void handle_backup(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    begin_file_task(user, request, "clusterbackup",
                    ((const Atoll__Cluster__V1__BackupTreeRequest *)input)->file);
}

static void handle_restore(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    begin_file_task(user, request, "clusterrestore",
                    ((const Atoll__Cluster__V1__RestoreTreeRequest *)input)->file);
}

/* --- reading --- */

static void handle_index(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    (void)user;
    static const char *const names[] = {"apiversion", "associates", "backup",  "join",  "leave",
                                        "nodes",      "qdevice",    "restore", "token", "totem"};
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Cluster__V1__ListConfigReply reply = ATOLL__CLUSTER__V1__LIST_CONFIG_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Cluster__V1__ConfigRow *, ATL_COUNT(names));
    for (size_t i = 0; i < ATL_COUNT(names); i++) {
        Atoll__Cluster__V1__ConfigRow *row = atl_arena_new(arena, Atoll__Cluster__V1__ConfigRow);
        atoll__cluster__v1__config_row__init(row);
        row->name = atl_arena_strdup(arena, names[i]);
        reply.entry[reply.n_entry++] = row;
    }
    atl_request_reply(request, &reply.base);
}

static void handle_nodes(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct cfg_corosync conf = {.count = 0};
    if (cfg_cluster_conf(cfg->cluster, arena, &conf, NULL) != ATL_OK)
        conf.count = 0; /* alone: an empty list */
    Atoll__Cluster__V1__ListConfigNodesReply reply = ATOLL__CLUSTER__V1__LIST_CONFIG_NODES_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Cluster__V1__ConfigNodesRow *, conf.count + 1);
    for (size_t i = 0; i < conf.count; i++) {
        const struct cfg_corosync_node *node = &conf.nodes[i];
        Atoll__Cluster__V1__ConfigNodesRow *row = atl_arena_new(arena, Atoll__Cluster__V1__ConfigNodesRow);
        atoll__cluster__v1__config_nodes_row__init(row);
        row->node = row->name = atl_arena_strdup(arena, node->name);
        row->has_nodeid = row->has_quorum_votes = true;
        row->nodeid = node->id;
        row->quorum_votes = node->votes;
        row->ring0_addr = atl_arena_strdup(arena, node->links[0]);
        if (node->links[1] != NULL)
            row->ring1_addr = atl_arena_strdup(arena, node->links[1]);
        reply.entry[reply.n_entry++] = row;
    }
    atl_request_reply(request, &reply.base);
}

static Atoll__Cluster__V1__GetTotemReply *totem(const struct cfg_corosync *conf, struct atl_arena *arena)
{
    static char knet[] = "knet";
    static char format[] = "2";
    Atoll__Cluster__V1__GetTotemReply *reply = atl_arena_new(arena, Atoll__Cluster__V1__GetTotemReply);
    atoll__cluster__v1__get_totem_reply__init(reply);
    if (conf->cluster == NULL)
        return reply;
    reply->cluster_name = atl_arena_strdup(arena, conf->cluster);
    reply->has_config_version = reply->has_token = reply->has_token_coefficient = true;
    reply->config_version = conf->version;
    reply->token = CFG_TOKEN_MS;
    reply->token_coefficient = conf->token_coefficient;
    reply->transport = knet;
    reply->version = format;
    return reply;
}

static void handle_totem(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct cfg_corosync conf = {.count = 0};
    if (cfg_cluster_conf(cfg->cluster, arena, &conf, NULL) != ATL_OK)
        conf = (struct cfg_corosync){.count = 0}; /* alone: nothing */
    atl_request_reply(request, &totem(&conf, arena)->base);
}

static void handle_api_version(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    (void)user;
    Atoll__Cluster__V1__GetApiVersionReply reply = ATOLL__CLUSTER__V1__GET_API_VERSION_REPLY__INIT;
    reply.has_version = true;
    reply.version = API_VERSION;
    atl_request_reply(request, &reply.base);
}

static char *digest_of(const struct cfg_file *file, struct atl_arena *arena)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    char *text = atl_arena_alloc(arena, HEX_DIGEST + 1);
    int done = EVP_Digest(file->bytes, file->size, digest, NULL, EVP_sha256(), NULL);
    atl_assert(done == 1);
    for (size_t i = 0; i < HEX_DIGEST / 2; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return text;
}

static Atoll__Cluster__V1__JoinNodeRow *join_row(struct cfg *cfg, const struct cfg_corosync_node *node,
                                                 struct atl_arena *arena)
{
    Atoll__Cluster__V1__JoinNodeRow *row = atl_arena_new(arena, Atoll__Cluster__V1__JoinNodeRow);
    atoll__cluster__v1__join_node_row__init(row);
    row->name = atl_arena_strdup(arena, node->name);
    row->has_nodeid = row->has_quorum_votes = true;
    row->nodeid = node->id;
    row->quorum_votes = node->votes;
    row->pve_addr = row->ring0_addr = atl_arena_strdup(arena, node->links[0]);
    size_t count = 0;
    struct cfg_node_row *const *known = cfg_status_nodes(cfg_view_status(cfg->view), &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(known[i]->name, node->name) == 0 && known[i]->fingerprint[0] != '\0')
            row->pve_fp = known[i]->fingerprint;
    return row;
}

static void handle_join_info(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Cluster__V1__GetJoinInfoRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct cfg_corosync conf;
    struct atl_error error = {0};
    Atoll__Cluster__V1__GetJoinInfoReply reply = ATOLL__CLUSTER__V1__GET_JOIN_INFO_REPLY__INIT;
    if (cfg_cluster_conf(cfg->cluster, arena, &conf, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    const char *preferred = wish->node != NULL ? wish->node : cfg->program->node;
    if (cfg_corosync_find(&conf, preferred) == NULL) {
        cfg_refuse(request, ATL_E_INVALID, "node", "no node '%s' is in the cluster", preferred);
        return;
    }
    reply.preferred_node = atl_arena_strdup(arena, preferred);
    reply.config_digest = digest_of(cfg_tree_get(cfg_store_ahead(cfg->store), CFG_COROSYNC_CONF), arena);
    reply.totem = totem(&conf, arena);
    reply.nodelist = atl_arena_array(arena, Atoll__Cluster__V1__JoinNodeRow *, conf.count + 1);
    for (size_t i = 0; i < conf.count; i++)
        reply.nodelist[reply.n_nodelist++] = join_row(cfg, &conf.nodes[i], arena);
    atl_request_reply(request, &reply.base);
}

void cfg_serve_cluster_config(struct cfg *cfg)
{
    static const struct atl_handler handlers[] = {
        {"ListConfig", handle_index},
        {"CreateCluster", handle_create},
        {"ListConfigNodes", handle_nodes},
        {"AddNode", cfg_handle_add_node},
        {"AdmitNode", cfg_handle_admit_node},
        {"RemoveNode", cfg_handle_remove_node},
        {"LeaveCluster", cfg_handle_leave},
        {"SetExpected", cfg_handle_expected},
        {"GetJoinInfo", handle_join_info},
        {"JoinCluster", handle_join},
        {"JoinWithToken", handle_join_token},
        {"MakeJoinToken", cfg_handle_make_join_token},
        {"BackupTree", handle_backup},
        {"RestoreTree", handle_restore},
        {"GetTotem", handle_totem},
        {"GetQdevice", cfg_handle_get_qdevice},
        {"AddWitness", cfg_handle_add_witness},
        {"RemoveWitness", cfg_handle_remove_witness},
        {"AdmitWitness", cfg_handle_admit_witness},
        {"SyncWitness", cfg_handle_sync_witness},
        {"ListAssociates", cfg_handle_list_associates},
        {"AddAssociate", cfg_handle_add_associate},
        {"AdmitAssociate", cfg_handle_admit_associate},
        {"RemoveAssociate", cfg_handle_remove_associate},
        {"GetApiVersion", handle_api_version},
    };
    atl_bus_serve(cfg->bus, &atl_svc_cluster_v1_ClusterConfig, handlers, ATL_COUNT(handlers), cfg);
    cfg_serve_peers(cfg);
}
