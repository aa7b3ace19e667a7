/* /version, /nodes, /cluster/...: answered from memory, filtered by what the caller may see. */
#include <string.h>

#include "atoll/cluster/v1/cluster.atl.h"
#include "cfg.h"
#include "cluster/cluster.h"
#include "core/options.h"
#include "view.h"

static void handle_version(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    (void)user;
    static char version[] = "9.0.0"; /* of the API that is spoken: clients choose their parameters by it */
    static char release[] = "9.0";
    static char repoid[] = "a7011000";
    Atoll__Cluster__V1__GetVersionReply reply = ATOLL__CLUSTER__V1__GET_VERSION_REPLY__INIT;
    reply.version = version;
    reply.release = release;
    reply.repoid = repoid;
    atl_request_reply(request, &reply.base);
}

/* --- /cluster/resources
 * ------------------------------------------------------------------------------------- */

struct listing {
    struct cfg *cfg;
    bool whole; /* a service asks for itself, ha-crm: no user's rights limit it */
    struct atl_subject subject;
    struct atl_arena *arena;
    Atoll__Cluster__V1__ListResourcesReply reply;
    size_t room;
};

static void add_row(struct listing *listing, Atoll__Cluster__V1__ResourcesRow *row)
{
    listing->reply.entry = atl_arena_grow(listing->arena, listing->reply.entry, listing->reply.n_entry,
                                          &listing->room, sizeof listing->reply.entry[0]);
    listing->reply.entry[listing->reply.n_entry++] = row;
}

static bool may(struct listing *listing, const char *path, atl_privs privs)
{
    return listing->whole || atl_subject_may(&listing->subject, path, privs, 0);
}

static void add_guests(struct listing *listing)
{
    size_t count = 0;
    struct cfg_guest_row *const *guests = cfg_status_guests(cfg_view_status(listing->cfg->view), &count);
    atl_privs audit = atl_priv_from_text("VM.Audit");
    for (size_t i = 0; i < count; i++)
        if (may(listing, guests[i]->acl_path, audit))
            add_row(listing, &guests[i]->row);
}

static void add_storages(struct listing *listing)
{
    size_t count = 0;
    struct cfg_storage_row *const *storages =
        cfg_status_storages(cfg_view_status(listing->cfg->view), &count);
    atl_privs any = atl_priv_from_text("Datastore.Audit") | atl_priv_from_text("Datastore.AllocateSpace");
    for (size_t i = 0; i < count; i++)
        if (may(listing, storages[i]->acl_path, any))
            add_row(listing, &storages[i]->row);
}

/* Everybody sees which nodes there are; how they are only with Sys.Audit. */
static void add_nodes(struct listing *listing)
{
    size_t count = 0;
    struct cfg_node_row *const *nodes = cfg_status_nodes(cfg_view_status(listing->cfg->view), &count);
    atl_privs audit = atl_priv_from_text("Sys.Audit");
    for (size_t i = 0; i < count; i++) {
        Atoll__Cluster__V1__ResourcesRow *row = &nodes[i]->row;
        if (!may(listing, nodes[i]->acl_path, audit)) {
            Atoll__Cluster__V1__ResourcesRow *plain =
                atl_arena_new(listing->arena, Atoll__Cluster__V1__ResourcesRow);
            atoll__cluster__v1__resources_row__init(plain);
            plain->id = row->id;
            plain->type = row->type;
            plain->node = row->node;
            plain->status = row->status;
            row = plain;
        }
        add_row(listing, row);
    }
}

static void add_pools(struct listing *listing)
{
    const struct atl_acl *acl = listing->subject.acl;
    atl_privs audit = atl_priv_from_text("Pool.Audit");
    for (size_t i = 0; i < acl->pool_count; i++) {
        char *path = atl_arena_format(listing->arena, "/pool/%s", acl->pools[i].id);
        if (!atl_subject_may(&listing->subject, path, audit, 0))
            continue;
        Atoll__Cluster__V1__ResourcesRow *row =
            atl_arena_new(listing->arena, Atoll__Cluster__V1__ResourcesRow);
        atoll__cluster__v1__resources_row__init(row);
        row->id = path;
        row->type = atl_arena_strdup(listing->arena, "pool");
        row->pool = atl_arena_strdup(listing->arena, acl->pools[i].id);
        add_row(listing, row);
    }
}

static void handle_resources(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Cluster__V1__ListResourcesRequest *wish = (const void *)input;
    struct listing listing = {.cfg = user, .arena = atl_request_arena(request)};
    atoll__cluster__v1__list_resources_reply__init(&listing.reply);
    listing.whole = atl_request_principal(request)->user == NULL;
    if (!listing.whole && !cfg_get_subject(user, request, &listing.subject))
        return;
    const char *type = wish->type;
    if (type == NULL && !listing.whole)
        add_pools(&listing);
    if (type == NULL || strcmp(type, "vm") == 0)
        add_guests(&listing);
    if (type == NULL || strcmp(type, "node") == 0)
        add_nodes(&listing);
    if (type == NULL || strcmp(type, "storage") == 0)
        add_storages(&listing);
    atl_request_reply(request, &listing.reply.base);
}

/* --- /nodes, /cluster/status, /cluster/tasks, /cluster/nextid
 * ----------------------------------------------- */

static Atoll__Cluster__V1__NodesRow *node_row(struct cfg_node_row *node, bool full, struct atl_arena *arena)
{
    Atoll__Cluster__V1__NodesRow *row = atl_arena_new(arena, Atoll__Cluster__V1__NodesRow);
    atoll__cluster__v1__nodes_row__init(row);
    row->node = node->row.node;
    row->id = node->row.id;
    row->type = node->row.type;
    row->status = node->row.status;
    row->level = node->row.level;
    if (node->fingerprint[0] != '\0')
        row->ssl_fingerprint = node->fingerprint;
    if (!full)
        return row;
    row->has_cpu = node->row.has_cpu;
    row->cpu = node->row.cpu;
    row->has_maxcpu = node->row.has_maxcpu;
    row->maxcpu = (int64_t)node->row.maxcpu;
    row->has_mem = node->row.has_mem;
    row->mem = node->row.mem;
    row->has_maxmem = node->row.has_maxmem;
    row->maxmem = node->row.maxmem;
    row->has_disk = node->row.has_disk;
    row->disk = node->row.disk;
    row->has_maxdisk = node->row.has_maxdisk;
    row->maxdisk = node->row.maxdisk;
    row->has_uptime = node->row.has_uptime;
    row->uptime = node->row.uptime;
    return row;
}

static void handle_nodes(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    struct atl_subject subject;
    if (!cfg_get_subject(cfg, request, &subject))
        return;
    struct atl_arena *arena = atl_request_arena(request);
    atl_privs audit = atl_priv_from_text("Sys.Audit");
    size_t count = 0;
    struct cfg_node_row *const *nodes = cfg_status_nodes(cfg_view_status(cfg->view), &count);
    Atoll__Cluster__V1__ListNodesReply reply = ATOLL__CLUSTER__V1__LIST_NODES_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Cluster__V1__NodesRow *, count + 1);
    for (size_t i = 0; i < count; i++)
        reply.entry[reply.n_entry++] =
            node_row(nodes[i], atl_subject_may(&subject, nodes[i]->acl_path, audit, 0), arena);
    atl_request_reply(request, &reply.base);
}

/* How old what is read is, what the store complains about, whether shared secrets are being changed. */
static void tell_health(struct cfg *cfg, Atoll__Cluster__V1__StatusRow *row, struct atl_arena *arena)
{
    static char no_space[] = "no-space";
    static char corrupt[] = "corrupt";
    static char both[] = "no-space,corrupt";
    struct cfg_store_health health;
    cfg_store_health(cfg->store, &health);
    row->has_writable = row->has_store_used = row->has_store_size = 1;
    row->writable = health.writable;
    row->store_used = health.engine.used_bytes;
    row->store_size = health.engine.quota_bytes;
    row->has_age = health.age_ms > 0;
    row->age = health.age_ms / 1000;
    if (health.engine.no_space)
        row->alarm = health.engine.corrupt ? both : no_space;
    else if (health.engine.corrupt)
        row->alarm = corrupt;
    row->secrets = atl_arena_strdup(arena, cfg_cluster_secrets(cfg->cluster));
}

/* The cluster itself and its configured nodes, as corosync sees them. */
static void add_members(struct cfg *cfg, struct atl_arena *arena, Atoll__Cluster__V1__GetStatusReply *reply)
{
    const struct atl_membership *now = cfg_cluster_membership(cfg->cluster);
    static char cluster_id[] = "cluster";
    static char node_type[] = "node";
    Atoll__Cluster__V1__StatusRow *row = atl_arena_new(arena, Atoll__Cluster__V1__StatusRow);
    atoll__cluster__v1__status_row__init(row);
    row->id = row->type = cluster_id;
    row->name = atl_arena_strdup(arena, now->cluster_name);
    row->has_nodes = row->has_quorate = row->has_version = 1;
    row->nodes = (int64_t)now->count;
    row->quorate = now->quorate;
    row->version = (int64_t)now->config_version;
    row->witness = cfg_cluster_witness(cfg->cluster, arena);
    row->has_witness_votes = row->witness != NULL;
    row->witness_votes = now->qdevice_votes > 0;
    tell_health(cfg, row, arena);
    reply->entry[reply->n_entry++] = row;
    for (size_t i = 0; i < now->count; i++) {
        const struct atl_member *member = &now->members[i];
        row = atl_arena_new(arena, Atoll__Cluster__V1__StatusRow);
        atoll__cluster__v1__status_row__init(row);
        row->id = atl_arena_format(arena, "node/%s", member->name);
        row->type = node_type;
        row->name = atl_arena_strdup(arena, member->name);
        row->level = (char *)(uintptr_t)protobuf_c_empty_string;
        row->ip = atl_arena_strdup(arena, member->links[0]);
        row->has_nodeid = row->has_local = row->has_online = 1;
        row->nodeid = member->id;
        row->local = member->self;
        row->online = member->self || member->online;
        reply->entry[reply->n_entry++] = row;
    }
}

static void handle_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    size_t count = 0;
    struct cfg_node_row *const *nodes = cfg_status_nodes(cfg_view_status(cfg->view), &count);
    Atoll__Cluster__V1__GetStatusReply reply = ATOLL__CLUSTER__V1__GET_STATUS_REPLY__INIT;
    const struct atl_membership *now = cfg_cluster_membership(cfg->cluster);
    if (now != NULL) {
        reply.entry = atl_arena_array(arena, Atoll__Cluster__V1__StatusRow *, now->count + 1);
        add_members(cfg, arena, &reply);
        atl_request_reply(request, &reply.base);
        return;
    }
    reply.entry = atl_arena_array(arena, Atoll__Cluster__V1__StatusRow *, count + 1);
    for (size_t i = 0; i < count; i++) {
        Atoll__Cluster__V1__StatusRow *row = atl_arena_new(arena, Atoll__Cluster__V1__StatusRow);
        atoll__cluster__v1__status_row__init(row);
        row->id = nodes[i]->row.id;
        row->type = nodes[i]->row.type;
        row->name = nodes[i]->name;
        row->level = nodes[i]->row.level;
        row->ip = nodes[i]->ip[0] != '\0' ? nodes[i]->ip : NULL;
        row->has_nodeid = row->has_local = row->has_online = 1;
        row->nodeid = 0; /* numbers are given when a cluster is made */
        row->local = strcmp(nodes[i]->name, cfg->program->node) == 0;
        row->online = row->local || nodes[i]->online;
        reply.entry[reply.n_entry++] = row;
    }
    atl_request_reply(request, &reply.base);
}

static void handle_tasks(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    struct atl_subject subject;
    if (!cfg_get_subject(cfg, request, &subject))
        return;
    bool all = atl_subject_may(&subject, "/", atl_priv_from_text("Sys.Audit"), 0);
    size_t count = 0;
    struct cfg_task_row *const *tasks = cfg_status_tasks(cfg_view_status(cfg->view), &count);
    Atoll__Cluster__V1__ListTasksReply reply = ATOLL__CLUSTER__V1__LIST_TASKS_REPLY__INIT;
    reply.entry = atl_arena_array(atl_request_arena(request), Atoll__Cluster__V1__TasksRow *, count + 1);
    const char *self = subject.token != NULL ? subject.token : subject.user;
    for (size_t i = 0; i < count; i++)
        if (all || strcmp(tasks[i]->row.user, self) == 0)
            reply.entry[reply.n_entry++] = &tasks[i]->row;
    atl_request_reply(request, &reply.base);
}

static void handle_next_id(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Cluster__V1__GetNextIdRequest *wish = (const void *)input;
    Atoll__Cluster__V1__GetNextIdReply reply = ATOLL__CLUSTER__V1__GET_NEXT_ID_REPLY__INIT;
    struct atl_error error;
    enum atl_code code =
        cfg_next_id(cfg_store_tree(cfg->store), wish->has_vmid ? wish->vmid : 0, &reply.vmid, &error);
    if (code == ATL_E_EXISTS) /* here it is the parameter that is wrong: 400 with its name */
        code = atl_fail(&error, ATL_E_INVALID, "vmid", "VM %u already exists", wish->vmid);
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    reply.has_vmid = 1;
    atl_request_reply(request, &reply.base);
}

void cfg_serve_cluster(struct cfg *cfg)
{
    static const struct atl_handler handlers[] = {
        {"GetVersion", handle_version}, {"ListNodes", handle_nodes},  {"ListResources", handle_resources},
        {"GetNextId", handle_next_id},  {"GetStatus", handle_status}, {"ListTasks", handle_tasks},
    };
    atl_bus_serve(cfg->bus, &atl_svc_cluster_v1_Cluster, handlers, ATL_COUNT(handlers), cfg);
}
