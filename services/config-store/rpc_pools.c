/* /pools: groups of guests and storages. */
#include <stdlib.h>
#include <string.h>

#include "atoll/pool/v1/pool.atl.h"
#include "cfg.h"
#include "edit.h"
#include "view.h"

/* --- reading
 * ------------------------------------------------------------------------------------------------ */

struct members { /* of one pool, as either list shows them */
    Atoll__Pool__V1__PoolsRowMembersEntry **items;
    size_t count;
    size_t room;
};

static bool wanted(const char *type, const char *row_type)
{
    return type == NULL || strcmp(type, row_type) == 0;
}

static void add_member(struct members *members, const Atoll__Cluster__V1__ResourcesRow *row,
                       struct atl_arena *arena)
{
    Atoll__Pool__V1__PoolsRowMembersEntry *entry =
        atl_arena_new(arena, Atoll__Pool__V1__PoolsRowMembersEntry);
    atoll__pool__v1__pools_row_members_entry__init(entry);
    entry->id = row->id;
    entry->node = row->node;
    entry->storage = row->storage;
    entry->type = row->type;
    entry->has_vmid = row->has_vmid;
    entry->vmid = row->vmid;
    members->items =
        atl_arena_grow(arena, members->items, members->count, &members->room, sizeof members->items[0]);
    members->items[members->count++] = entry;
}

static struct members find_members(struct cfg *cfg, struct atl_subject *subject, const char *poolid,
                                   const char *type, struct atl_arena *arena)
{
    struct members members = {0};
    size_t count = 0;
    struct cfg_guest_row *const *guests = cfg_status_guests(cfg_view_status(cfg->view), &count);
    atl_privs audit = atl_priv_from_text("VM.Audit");
    for (size_t i = 0; i < count; i++) {
        const Atoll__Cluster__V1__ResourcesRow *row = &guests[i]->row;
        if (row->pool != NULL && strcmp(row->pool, poolid) == 0 && wanted(type, row->type) &&
            atl_subject_may(subject, guests[i]->acl_path, audit, 0))
            add_member(&members, row, arena);
    }
    struct cfg_storage_row *const *storages = cfg_status_storages(cfg_view_status(cfg->view), &count);
    atl_privs any = atl_priv_from_text("Datastore.Audit") | atl_priv_from_text("Datastore.AllocateSpace");
    for (size_t i = 0; i < count; i++) {
        const Atoll__Cluster__V1__ResourcesRow *row = &storages[i]->row;
        if (row->pool != NULL && strcmp(row->pool, poolid) == 0 && wanted(type, "storage") &&
            atl_subject_may(subject, storages[i]->acl_path, any, 0))
            add_member(&members, row, arena);
    }
    return members;
}

static char *comment_of(const struct atl_pool *pool, struct atl_arena *arena)
{
    return pool->comment[0] != '\0' ? atl_arena_strdup(arena, pool->comment) : NULL;
}

static void handle_list(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Pool__V1__ListPoolsRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_subject subject;
    if (!cfg_get_subject(cfg, request, &subject))
        return;
    atl_privs audit = atl_priv_from_text("Pool.Audit");
    const struct atl_acl *acl = subject.acl;
    Atoll__Pool__V1__ListPoolsReply reply = ATOLL__POOL__V1__LIST_POOLS_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Pool__V1__PoolsRow *, acl->pool_count + 1);
    for (size_t i = 0; i < acl->pool_count; i++) {
        const struct atl_pool *pool = &acl->pools[i];
        if ((wish->poolid != NULL && strcmp(wish->poolid, pool->id) != 0) ||
            !atl_subject_may(&subject, atl_arena_format(arena, "/pool/%s", pool->id), audit, 0))
            continue;
        Atoll__Pool__V1__PoolsRow *row = atl_arena_new(arena, Atoll__Pool__V1__PoolsRow);
        atoll__pool__v1__pools_row__init(row);
        row->poolid = atl_arena_strdup(arena, pool->id);
        row->comment = comment_of(pool, arena);
        if (wish->poolid != NULL) { /* members are shown of one pool, not of all */
            struct members members = find_members(cfg, &subject, pool->id, wish->type, arena);
            row->members = members.items;
            row->n_members = members.count;
        }
        reply.entry[reply.n_entry++] = row;
    }
    if (wish->poolid != NULL && reply.n_entry == 0)
        cfg_refuse(request, ATL_E_ABSENT, "poolid", "pool '%s' does not exist", wish->poolid);
    else
        atl_request_reply(request, &reply.base);
}

static void handle_get(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Pool__V1__GetPoolRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_subject subject;
    if (!cfg_get_subject(cfg, request, &subject))
        return;
    const struct atl_pool *pool = atl_acl_pool(subject.acl, wish->poolid);
    if (pool == NULL) {
        cfg_refuse(request, ATL_E_ABSENT, "poolid", "pool '%s' does not exist", wish->poolid);
        return;
    }
    struct members members = find_members(cfg, &subject, pool->id, wish->type, arena);
    Atoll__Pool__V1__GetPoolReply reply = ATOLL__POOL__V1__GET_POOL_REPLY__INIT;
    reply.comment = comment_of(pool, arena);
    reply.members = atl_arena_array(arena, Atoll__Pool__V1__GetPoolReplyMembersEntry *, members.count + 1);
    for (size_t i = 0; i < members.count; i++) {
        const Atoll__Pool__V1__PoolsRowMembersEntry *from = members.items[i];
        Atoll__Pool__V1__GetPoolReplyMembersEntry *entry =
            atl_arena_new(arena, Atoll__Pool__V1__GetPoolReplyMembersEntry);
        atoll__pool__v1__get_pool_reply_members_entry__init(entry);
        entry->id = from->id;
        entry->node = from->node;
        entry->storage = from->storage;
        entry->type = from->type;
        entry->has_vmid = from->has_vmid;
        entry->vmid = from->vmid;
        reply.members[reply.n_members++] = entry;
    }
    atl_request_reply(request, &reply.base);
}

/* --- changing
 * ----------------------------------------------------------------------------------------------- */

/* Up to three names with a slash between them: pools may be nested. */
static bool pool_id_valid(const char *id)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/";
    size_t length = strlen(id);
    unsigned int slashes = 0;
    for (const char *c = id; *c != '\0'; c++)
        slashes += *c == '/' ? 1 : 0;
    return length > 0 && length <= 128 && id[strspn(id, allowed)] == '\0' && slashes < 3 && id[0] != '/' &&
           id[length - 1] != '/' && strstr(id, "//") == NULL;
}

static bool create_pool(struct cfg_edit *edit, const void *input)
{
    const Atoll__Pool__V1__CreatePoolRequest *wish = input;
    struct atl_arena *arena = atl_request_arena(edit->request);
    if (atl_acl_pool(edit->acl, wish->poolid) != NULL) {
        cfg_refuse(edit->request, ATL_E_EXISTS, "poolid", "create pool failed: pool '%s' already exists",
                   wish->poolid);
        return false;
    }
    const char *slash = strrchr(wish->poolid, '/');
    const char *parent =
        slash == NULL ? NULL : atl_arena_strndup(arena, wish->poolid, (size_t)(slash - wish->poolid));
    if (parent != NULL && atl_acl_pool(edit->acl, parent) == NULL) {
        cfg_refuse(edit->request, ATL_E_INVALID, "poolid", "parent pool '%s' does not exist", parent);
        return false;
    }
    struct atl_pool *pool = atl_acl_add_pool(edit->acl, wish->poolid);
    if (wish->comment != NULL)
        pool->comment = atl_arena_strdup(arena, wish->comment);
    cfg_edit_users(edit);
    cfg_edit_finish(edit);
    return true;
}

static void handle_create(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Pool__V1__CreatePoolRequest *wish = (const void *)input;
    if (pool_id_valid(wish->poolid))
        cfg_edit_run(user, request, create_pool, wish);
    else
        cfg_refuse(request, ATL_E_INVALID, "poolid", "'%s' cannot be the name of a pool", wish->poolid);
}

struct pool_change { /* the same for both ways to name the pool */
    const char *poolid;
    const char *vms;
    const char *storages;
    const char *comment;
    bool remove;
    bool move;
};

struct changing { /* one that is under way */
    const struct pool_change *wish;
    struct cfg *cfg;
    struct cfg_edit *edit;
    struct atl_pool *pool;
};

/* Who puts something into a pool needs a right on it, or could lend himself any by a pool. */
static enum atl_code need(const struct changing *changing, const char *folder, const char *id,
                          const char *privilege, struct atl_error *err)
{
    return atl_keeper_need(changing->cfg->keeper, atl_request_principal(changing->edit->request),
                           atl_arena_format(changing->edit->acl->arena, "%s%s", folder, id),
                           (const char *const[]){privilege, NULL}, err);
}

static bool take_out(struct atl_list *members, const char *id)
{
    bool there = atl_list_has(members, id);
    atl_list_drop(members, id);
    return there;
}

/* A guest is in one pool at most. */
static enum atl_code change_guest(struct changing *changing, const char *id, struct atl_error *err)
{
    struct atl_acl *acl = changing->edit->acl;
    struct atl_pool *pool = changing->pool;
    if (changing->wish->remove)
        return take_out(&pool->guests, id)
                   ? ATL_OK
                   : atl_fail(err, ATL_E_INVALID, "vms", "VM %s is not a pool member", id);
    char *end = NULL;
    unsigned long vmid = strtoul(id, &end, 10);
    if (*end != '\0' || vmid > CFG_VMID_MAX ||
        cfg_tree_guest(cfg_store_ahead(changing->cfg->store), (uint32_t)vmid) == NULL)
        return atl_fail(err, ATL_E_INVALID, "vms", "VM %s does not exist", id);
    enum atl_code code = need(changing, "/vms/", id, "VM.Allocate", err);
    for (size_t i = 0; i < acl->pool_count && code == ATL_OK; i++) {
        struct atl_pool *other = &acl->pools[i];
        if (other == pool || !atl_list_has(&other->guests, id))
            continue;
        if (!changing->wish->move)
            return atl_fail(err, ATL_E_STATE, "vms",
                            "VM %s belongs already to pool '%s' and 'allow-move' is not set", id, other->id);
        code = need(changing, "/pool/", other->id, "Pool.Allocate", err);
        atl_list_drop(&other->guests, id);
    }
    if (code == ATL_OK)
        atl_list_add(&pool->guests, id, acl->arena);
    return code;
}

static enum atl_code change_storage(struct changing *changing, const char *id, struct atl_error *err)
{
    struct atl_pool *pool = changing->pool;
    if (changing->wish->remove)
        return take_out(&pool->storages, id)
                   ? ATL_OK
                   : atl_fail(err, ATL_E_INVALID, "storage", "Storage '%s' is not a pool member", id);
    enum atl_code code = need(changing, "/storage/", id, "Datastore.Allocate", err);
    if (code == ATL_OK)
        atl_list_add(&pool->storages, id, changing->edit->acl->arena);
    return code;
}

typedef enum atl_code change_fn(struct changing *changing, const char *id, struct atl_error *err);

static enum atl_code change_each(struct changing *changing, const char *names, change_fn *fn,
                                 struct atl_error *err)
{
    if (names == NULL)
        return ATL_OK;
    char *copy = atl_arena_strdup(changing->edit->acl->arena, names);
    char *next = NULL;
    enum atl_code code = ATL_OK;
    for (char *id = strtok_r(copy, ",; ", &next); id != NULL && code == ATL_OK;
         id = strtok_r(NULL, ",; ", &next))
        code = fn(changing, id, err);
    return code;
}

static bool change_pool(struct cfg_edit *edit, const void *wish)
{
    const struct pool_change *change = wish;
    struct changing changing = {.wish = change, .cfg = edit->cfg, .edit = edit};
    changing.pool = atl_acl_pool(edit->acl, change->poolid);
    if (changing.pool == NULL) {
        cfg_refuse(edit->request, ATL_E_ABSENT, "poolid", "pool '%s' does not exist", change->poolid);
        return false;
    }
    if (change->comment != NULL)
        changing.pool->comment = atl_arena_strdup(edit->acl->arena, change->comment);
    struct atl_error error;
    enum atl_code code = change_each(&changing, change->vms, change_guest, &error);
    if (code == ATL_OK)
        code = change_each(&changing, change->storages, change_storage, &error);
    if (code != ATL_OK) {
        atl_request_fail(edit->request, &error, NULL);
        return false;
    }
    cfg_edit_users(edit);
    cfg_edit_finish(edit);
    return true;
}

static void update(struct cfg *cfg, struct atl_request *request, const struct pool_change *change)
{
    (void)cfg_store_tree(cfg->store);
    cfg_edit_run(cfg, request, change_pool,
                 atl_arena_copy(atl_request_arena(request), change, sizeof *change));
}

static void handle_update(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Pool__V1__UpdatePoolRequest *wish = (const void *)input;
    update(user, request,
           &(const struct pool_change){.poolid = wish->poolid,
                                       .vms = wish->vms,
                                       .storages = wish->storage,
                                       .comment = wish->comment,
                                       .remove = wish->has_delete_ && wish->delete_,
                                       .move = wish->has_allow_move && wish->allow_move});
}

static void handle_update_by_id(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Pool__V1__UpdatePoolByIdRequest *wish = (const void *)input;
    update(user, request,
           &(const struct pool_change){.poolid = wish->poolid,
                                       .vms = wish->vms,
                                       .storages = wish->storage,
                                       .comment = wish->comment,
                                       .remove = wish->has_delete_ && wish->delete_,
                                       .move = wish->has_allow_move && wish->allow_move});
}

static bool delete_pool(struct cfg_edit *edit, const void *wish)
{
    const char *poolid = wish;
    const struct atl_pool *pool = atl_acl_pool(edit->acl, poolid);
    if (pool == NULL) {
        cfg_refuse(edit->request, ATL_E_ABSENT, "poolid", "delete pool failed: pool '%s' does not exist",
                   poolid);
        return false;
    }
    if (pool->guests.count > 0 || pool->storages.count > 0) {
        cfg_refuse(edit->request, ATL_E_STATE, "poolid", "delete pool failed: pool '%s' is not empty",
                   poolid);
        return false;
    }
    size_t length = strlen(poolid);
    for (size_t i = 0; i < edit->acl->pool_count; i++)
        if (strncmp(edit->acl->pools[i].id, poolid, length) == 0 && edit->acl->pools[i].id[length] == '/') {
            cfg_refuse(edit->request, ATL_E_STATE, "poolid", "delete pool failed: pool '%s' holds pool '%s'",
                       poolid, edit->acl->pools[i].id);
            return false;
        }
    atl_acl_drop_pool(edit->acl, poolid);
    cfg_edit_users(edit);
    cfg_edit_finish(edit);
    return true;
}

static void handle_delete(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    cfg_edit_run(user, request, delete_pool,
                 ((const Atoll__Pool__V1__DeletePoolRequest *)(const void *)input)->poolid);
}

static void handle_delete_by_id(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    cfg_edit_run(user, request, delete_pool,
                 ((const Atoll__Pool__V1__DeletePoolByIdRequest *)(const void *)input)->poolid);
}

void cfg_serve_pools(struct cfg *cfg)
{
    static const struct atl_handler handlers[] = {
        {"ListPools", handle_list},
        {"CreatePool", handle_create},
        {"UpdatePool", handle_update},
        {"DeletePool", handle_delete},
        {"GetPool", handle_get},
        {"UpdatePoolById", handle_update_by_id},
        {"DeletePoolById", handle_delete_by_id},
    };
    atl_bus_serve(cfg->bus, &atl_svc_pool_v1_Pools, handlers, ATL_COUNT(handlers), cfg);
}
