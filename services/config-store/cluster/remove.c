/* A node is taken out for good. */
#include <string.h>

#include "cluster/internal.h"

#define CALL_TIMEOUT (5 * ATL_SECOND)

struct removal {
    struct cfg_cluster *cluster;
    struct atl_request *request;
    struct atl_arena *arena;
    const char *node;
    bool itself; /* asks for it, so it may be online */
    bool force;  /* its guests stay in the tree */
};

static enum atl_code check_guests(const struct removal *removal, struct atl_error *err)
{
    const struct cfg_tree *tree = cfg_store_ahead(removal->cluster->cfg->store);
    struct atl_buf names ATL_BUF_AT_EXIT = {0};
    for (size_t i = 0; i < tree->guest_count && names.length < 200; i++) {
        struct cfg_guest_path guest = cfg_guest_path(tree->guests[i].file->path);
        if (strcmp(guest.node, removal->node) == 0)
            atl_buf_printf(&names, "%s%u", names.length > 0 ? ", " : "", guest.vmid);
    }
    if (names.length > 0)
        return atl_fail(err, ATL_E_STATE, "node", "'%s' has guests: %s; move or delete them first",
                        removal->node, names.data);
    return ATL_OK;
}

static enum atl_code check(const struct removal *removal, struct cfg_corosync *conf, struct atl_error *err)
{
    const struct atl_membership *now = cfg_cluster_membership(removal->cluster);
    enum atl_code code = cfg_cluster_conf(removal->cluster, removal->arena, conf, err);
    if (code != ATL_OK)
        return code;
    if (strcmp(removal->node, removal->cluster->place.node) == 0)
        return atl_fail(err, ATL_E_STATE, "node",
                        "a node is removed on another one, after it was switched off");
    const struct atl_member *member = atl_members_find(now, removal->node);
    if (member != NULL && member->online && !removal->itself)
        return atl_fail(err, ATL_E_STATE, "node", "'%s' is online; switch it off first, for good",
                        removal->node);
    code = removal->force ? ATL_OK : check_guests(removal, err);
    return code == ATL_OK ? cfg_corosync_remove(conf, removal->node, err) : code;
}

static void on_stored(const struct cfg_store_result *result, void *user)
{
    struct removal *removal = user;
    cfg_crash_at(&removal->cluster->place, CFG_CRASH_REMOVE_STORED);
    if (result->code != ATL_OK)
        atl_request_fail(removal->request, &result->error, NULL);
    else
        cfg_reply_nothing(removal->request);
}

static bool is_of(const struct removal *removal, const char *path)
{
    static const char *const folders[] = {".state/key/", ".state/directory/", CFG_JOINING_FOLDER,
                                          CFG_ROTATED_FOLDER};
    if (strncmp(path, CFG_JOIN_FOLDER, strlen(CFG_JOIN_FOLDER)) == 0)
        return true; /* tokens that it may know */
    for (size_t i = 0; i < ATL_COUNT(folders); i++)
        if (strncmp(path, folders[i], strlen(folders[i])) == 0)
            return strcmp(path + strlen(folders[i]), removal->node) == 0;
    size_t length = strlen(removal->node);
    if (cfg_guest_path(path).type != CFG_NO_GUEST)
        return false; /* with force: they can be moved to another node yet */
    return strncmp(path, "nodes/", 6) == 0 && strncmp(path + 6, removal->node, length) == 0 &&
           path[6 + length] == '/';
}

/* All that is the node's goes with its line in corosync.conf; from then on its key admits nobody. What all
 * nodes share it knows, so with that begins the change of those secrets. */
static void take_out(struct removal *removal)
{
    const struct cfg_tree *tree = cfg_store_ahead(removal->cluster->cfg->store);
    struct cfg_corosync conf;
    struct atl_error error = {0};
    if (check(removal, &conf, &error) != ATL_OK) {
        atl_request_fail(removal->request, &error, NULL);
        return;
    }
    struct cfg_op *ops = atl_arena_array(removal->arena, struct cfg_op, CFG_TXN_OPS_MAX);
    struct cfg_compare compare = cfg_cluster_unchanged(removal->cluster, CFG_COROSYNC_CONF);
    struct cfg_txn txn = {.compares = &compare, .compare_count = 1, .ops = ops};
    ops[txn.op_count++] = cfg_cluster_conf_op(&conf, removal->arena);
    ops[txn.op_count++] = cfg_rotation_begin_op(removal->cluster, removal->arena);
    for (size_t i = 0; i < tree->count && txn.op_count < CFG_TXN_OPS_MAX; i++)
        if (is_of(removal, tree->files[i]->path))
            ops[txn.op_count++] = (struct cfg_op){
                .kind = CFG_DELETE, .path = atl_arena_strdup(removal->arena, tree->files[i]->path)};
    cfg_store_txn(removal->cluster->cfg->store, &txn, atl_request_id(removal->request), on_stored, removal);
}

static void fail(struct removal *removal, const struct atl_etcd_answer *answer)
{
    /* an answer of ours, which UNAVAILABLE would not be to the node that asks */
    cfg_refuse(removal->request, answer->code == ATL_E_UNAVAILABLE ? ATL_E_STATE : answer->code, NULL,
               "etcd: %s - try again", answer->error.text);
}

static void on_removed(const struct atl_etcd_answer *answer, void *user)
{
    cfg_crash_at(&((const struct removal *)user)->cluster->place, CFG_CRASH_REMOVE_MEMBER);
    if (answer->code != ATL_OK && strstr(answer->error.text, "member not found") == NULL)
        fail(user, answer);
    else
        take_out(user);
}

static void on_listed(const struct atl_etcd_answer *answer, void *user)
{
    struct removal *removal = user;
    if (answer->code != ATL_OK) {
        fail(removal, answer);
        return;
    }
    const Etcd__MemberListResponse *list = (const void *)answer->message;
    Etcd__MemberRemoveRequest remove = ETCD__MEMBER_REMOVE_REQUEST__INIT;
    for (size_t i = 0; i < list->n_members; i++)
        if (strcmp(list->members[i]->name, removal->node) == 0)
            remove.id = list->members[i]->id;
    if (remove.id == 0) /* a removal that was cut off */
        take_out(removal);
    else
        (void)atl_etcd_call(removal->cluster->channel, ATL_ETCD_MEMBER_REMOVE, &remove.base, CALL_TIMEOUT,
                            on_removed, removal);
}

static void begin(const struct removal *wish)
{
    struct removal *removal = atl_arena_new(wish->arena, struct removal);
    struct cfg_corosync conf;
    struct atl_error error = {0};
    *removal = *wish;
    if (check(removal, &conf, &error) != ATL_OK) {
        atl_request_fail(removal->request, &error, NULL);
        return;
    }
    Etcd__MemberListRequest list = ETCD__MEMBER_LIST_REQUEST__INIT;
    (void)atl_etcd_call(removal->cluster->channel, ATL_ETCD_MEMBER_LIST, &list.base, CALL_TIMEOUT, on_listed,
                        removal);
}

void cfg_handle_remove_node(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Cluster__V1__RemoveNodeRequest *wish = (const void *)input;
    begin(&(const struct removal){.cluster = cfg->cluster,
                                  .request = request,
                                  .arena = atl_request_arena(request),
                                  .node = wish->node,
                                  .force = wish->has_force && wish->force});
}

void cfg_handle_take_out(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const char *node = atl_request_principal(request)->node;
    (void)input;
    if (node == NULL) {
        cfg_refuse(request, ATL_E_DENIED, NULL, "only other nodes of the cluster ask for that");
        return;
    }
    begin(&(const struct removal){.cluster = cfg->cluster,
                                  .request = request,
                                  .arena = atl_request_arena(request),
                                  .node = node,
                                  .itself = true});
}
