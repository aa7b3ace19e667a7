/*
 * The method that makes a container. Everything that can be told before is checked before the task gets its
 * id: rights, bridges, storages, the template. Then the container's id is reserved by its file, with the lock
 * "create".
 */
#include <stdio.h>
#include <string.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "atoll/storage/v1/volume.atl.h"
#include "core/lxc_volume.h"
#include "ha.h"
#include "lxc_part.h"

enum { STORES_MAX = 8 };

struct creating { /* lives in the request's arena */
    struct lxc_part *part;
    struct atl_request *request;
    Atoll__Lxc__V1__CreateRequest create; /* a copy with what we filled in */
    unsigned int waiting;                 /* calls in flight */
    char **keep;                          /* volumes with its id that are there before */
    size_t keep_count;
    struct atl_error error; /* the first one */
    char *template_path;
    const char *stores[STORES_MAX];
    size_t store_count;
};

static const char *const audit_store[] = {"Datastore.Audit", "Datastore.AllocateSpace", NULL};

static void give_up(struct creating *creating)
{
    atl_request_fail(creating->request, &creating->error, NULL);
}

/* --- the task
 * ----------------------------------------------------------------------------------------------------- */

static void unreserved(const struct atl_txn_result *result, void *user)
{
    (void)result; /* what stays is found by cmp_left_watch() */
    (void)user;
}

static void reserved(const struct atl_txn_result *result, void *user)
{
    struct creating *creating = user;
    struct lxc_part *part = creating->part;
    const Atoll__Lxc__V1__CreateRequest *create = &creating->create;
    char id[16];
    char upid[ATL_UPID_MAX];
    if (result->code == ATL_E_CONFLICT) {
        (void)atl_fail(&creating->error, ATL_E_EXISTS, "vmid", "CT %" PRIu32 " already exists on node '%s'",
                       create->vmid, part->cmp->options.node);
        give_up(creating);
        return;
    }
    if (result->code != ATL_OK) {
        creating->error = result->error;
        give_up(creating);
        return;
    }
    Atoll__Lxc__V1__TaskSpec spec = ATOLL__LXC__V1__TASK_SPEC__INIT;
    spec.vmid = create->vmid;
    spec.node = atl_arena_strdup(atl_request_arena(creating->request), part->cmp->options.node);
    spec.driver = atl_arena_strdup(atl_request_arena(creating->request), part->driver->name);
    spec.create = &creating->create;
    spec.template_path = creating->template_path;
    spec.keep = creating->keep;
    spec.n_keep = creating->keep_count;
    spec.reserved = cmp_left_reserved(result->revision, atl_request_arena(creating->request));
    (void)snprintf(id, sizeof id, "%" PRIu32, create->vmid);
    if (cmp_task_begin(part->cmp, creating->request, "vzcreate", id, &spec.base, upid, &creating->error) !=
        ATL_OK) {
        ATL_TXN_AT_EXIT struct atl_txn txn;
        char path[200];
        (void)snprintf(path, sizeof path, "nodes/%s/lxc/%" PRIu32 ".conf", part->cmp->options.node,
                       create->vmid);
        atl_txn_init(&txn);
        atl_txn_delete(&txn, path);
        atl_txn_send(part->cmp->bus, &txn, 0, unreserved, NULL);
        give_up(creating);
        return;
    }
    Atoll__Task__V1__TaskRef reply = ATOLL__TASK__V1__TASK_REF__INIT;
    reply.upid = upid;
    atl_request_reply(creating->request, &reply.base);
}

/* The file of a container that is being made: enough to be listed, and its lock. */
static void reserve(struct creating *creating)
{
    struct atl_arena *arena = atl_request_arena(creating->request);
    ATL_TXN_AT_EXIT struct atl_txn txn;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    struct cmp_lxc_doc doc;
    char path[200];
    (void)snprintf(path, sizeof path, "nodes/%s/lxc/%" PRIu32 ".conf", creating->part->cmp->options.node,
                   creating->create.vmid);
    cmp_lxc_doc_new(NULL, arena, &doc);
    doc.now->config->hostname = creating->create.config->hostname;
    cmp_lxc_doc_set_lock(&doc, "create");
    cmp_lxc_doc_write(&doc, &text);
    atl_txn_init(&txn);
    atl_txn_absent(&txn, path);
    atl_txn_put_guest(&txn, path, text.data, text.length, creating->create.pool);
    atl_txn_send(creating->part->cmp->bus, &txn, CMP_LEFT_RESERVE_S * ATL_SECOND, reserved, creating);
}

/* --- what others know
 * --------------------------------------------------------------------------------------------- */

static void answered(struct creating *creating)
{
    if (--creating->waiting > 0)
        return;
    if (creating->error.code != ATL_OK)
        give_up(creating);
    else
        reserve(creating);
}

static void template_known(const struct atl_reply *reply, void *user)
{
    struct creating *creating = user;
    struct atl_error *error = &creating->error;
    const Atoll__Storage__V1__VolumeInfo *info = (const Atoll__Storage__V1__VolumeInfo *)reply->output;
    if (error->code != ATL_OK) {
        answered(creating);
        return;
    }
    if (reply->code != ATL_OK)
        (void)atl_fail(error, reply->code, "ostemplate", "%s", reply->error.text);
    else if (strcmp(info->content, "vztmpl") != 0)
        (void)atl_fail(error, ATL_E_INVALID, "ostemplate", "volume '%s' is no container template",
                       creating->create.ostemplate);
    else
        creating->template_path = atl_arena_strdup(atl_request_arena(creating->request), info->path);
    answered(creating);
}

/* Volumes that carry the id already are not this container's: a creation that is cut off must not remove
 * them. */
static void volumes_known(const struct atl_reply *reply, void *user)
{
    struct creating *creating = user;
    if (reply->code == ATL_OK)
        creating->keep = cmp_left_before((const Atoll__Storage__V1__ListOfGuestReply *)reply->output,
                                         atl_request_arena(creating->request), &creating->keep_count);
    else if (creating->error.code == ATL_OK)
        creating->error = reply->error;
    answered(creating);
}

struct store_check {
    struct creating *creating;
    const char *store;
    const char *field;
};

static void store_known(const struct atl_reply *reply, void *user)
{
    struct store_check *check = user;
    struct atl_error *error = &check->creating->error;
    const Atoll__Storage__V1__CheckReply *info = (const Atoll__Storage__V1__CheckReply *)reply->output;
    if (error->code != ATL_OK) {
        answered(check->creating);
        return;
    }
    if (reply->code != ATL_OK)
        (void)atl_fail(error, reply->code, check->field, "%s", reply->error.text);
    else if (!info->exists)
        (void)atl_fail(error, ATL_E_ABSENT, check->field, "storage '%s' does not exist", check->store);
    else if (!info->enabled || !info->on_node || !info->active || !info->takes_content)
        (void)atl_fail(error, ATL_E_STATE, check->field, "%s",
                       info->reason != NULL ? info->reason : "the storage cannot be used for containers");
    answered(check->creating);
}

static void ask_store(struct creating *creating, const char *field, const char *volume)
{
    static char content[] = "rootdir";
    struct atl_arena *arena = atl_request_arena(creating->request);
    const char *store = cmp_lxc_volume_store(volume, arena);
    if (store == NULL)
        return;
    for (size_t i = 0; i < creating->store_count; i++)
        if (strcmp(creating->stores[i], store) == 0)
            return;
    if (creating->store_count >= STORES_MAX)
        return; /* the allocation itself will say */
    creating->stores[creating->store_count++] = store;
    struct store_check *check = atl_arena_new(arena, struct store_check);
    *check = (struct store_check){.creating = creating, .store = store, .field = field};
    Atoll__Storage__V1__CheckRequest request = ATOLL__STORAGE__V1__CHECK_REQUEST__INIT;
    request.storage = atl_arena_strdup(arena, store);
    request.content = content;
    const struct atl_call_options options = {.deadline = atl_request_remaining(creating->request)};
    creating->waiting++;
    (void)atl_bus_call(creating->part->cmp->bus, &atl_rpc_storage_v1_Volumes_Check, &request.base, &options,
                       store_known, check);
}

static void ask_all(struct creating *creating)
{
    struct atl_arena *arena = atl_request_arena(creating->request);
    const Atoll__Lxc__V1__Config *config = creating->create.config;
    const struct atl_call_options options = {.deadline = atl_request_remaining(creating->request)};
    Atoll__Storage__V1__PathRequest path = ATOLL__STORAGE__V1__PATH_REQUEST__INIT;
    path.volid = creating->create.ostemplate;
    Atoll__Storage__V1__ListOfGuestRequest list = ATOLL__STORAGE__V1__LIST_OF_GUEST_REQUEST__INIT;
    list.vmid = creating->create.vmid;
    creating->waiting = 2;
    (void)atl_bus_call(creating->part->cmp->bus, &atl_rpc_storage_v1_Volumes_Path, &path.base, &options,
                       template_known, creating);
    (void)atl_bus_call(creating->part->cmp->bus, &atl_rpc_storage_v1_Volumes_ListOfGuest, &list.base,
                       &options, volumes_known, creating);
    ask_store(creating, creating->create.storage != NULL ? "storage" : "rootfs", config->rootfs->volume);
    for (size_t i = 0; i < config->n_mp; i++)
        ask_store(creating, atl_arena_format(arena, "mp%" PRIu32, config->mp[i]->index),
                  config->mp[i]->value->volume);
}

/* --- what we know
 * ------------------------------------------------------------------------------------------------- */

/* Fills in what the caller left to us. */
static enum atl_code complete(struct creating *creating, struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(creating->request);
    uint8_t random[CMP_LXC_RANDOM];
    Atoll__Lxc__V1__Config *config = atl_arena_new(arena, Atoll__Lxc__V1__Config);
    atoll__lxc__v1__config__init(config);
    if (creating->create.config != NULL)
        atl_message_merge(&atl_msg_lxc_v1_Config, &config->base, &creating->create.config->base, arena);
    creating->create.config = config;
    if (!config->has_unprivileged) {
        config->has_unprivileged = true;
        config->unprivileged = true;
    }
    if (config->arch == NULL)
        config->arch = atl_arena_strdup(arena, "amd64");
    if (!config->has_memory) {
        config->has_memory = true;
        config->memory = CMP_LXC_MEMORY_MIB;
    }
    if (!config->has_swap) {
        config->has_swap = true;
        config->swap = CMP_LXC_SWAP_MIB;
    }
    if (config->rootfs == NULL) {
        config->rootfs = atl_arena_new(arena, Atoll__Lxc__V1__Rootfs);
        atoll__lxc__v1__rootfs__init(config->rootfs);
    }
    if (config->rootfs->volume == NULL)
        config->rootfs->volume = atl_arena_format(
            arena, "%s:4", creating->create.storage != NULL ? creating->create.storage : "local");
    if (cmp_lxc_volume_kind(config->rootfs->volume) != CMP_LXC_VOLUME_NEW)
        return atl_fail(err, ATL_E_INVALID, "rootfs", "a new container needs a new root volume, as local:8");
    for (size_t i = 0; i < config->n_net; i++)
        if (config->net[i]->value != NULL && config->net[i]->value->type == NULL)
            config->net[i]->value->type = atl_arena_strdup(arena, "veth");
    if (!lxc_part_random(random))
        return atl_fail(err, ATL_E_IO, NULL, "the kernel gave no random bytes");
    cmp_lxc_fill_macs(config, NULL, random, lxc_part_mac_prefix(creating->part, arena), arena);
    return ATL_OK;
}

static enum atl_code free_id(const struct creating *creating, struct atl_error *err)
{
    const struct cmp *cmp = creating->part->cmp;
    uint32_t vmid = creating->create.vmid;
    if (cmp_config_file(cmp, "lxc", vmid) != NULL)
        return atl_fail(err, ATL_E_EXISTS, "vmid", "CT %" PRIu32 " already exists on node '%s'", vmid,
                        cmp->options.node);
    if (cmp_config_file(cmp, "qemu-server", vmid) != NULL)
        return atl_fail(err, ATL_E_EXISTS, "vmid", "VM %" PRIu32 " already exists on node '%s'", vmid,
                        cmp->options.node);
    return ATL_OK;
}

static enum atl_code check(struct creating *creating, struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(creating->request);
    const Atoll__Lxc__V1__Config *config = creating->create.config;
    struct cmp_lxc_facts facts = lxc_part_facts(creating->part, creating->create.vmid, arena);
    struct cmp_lxc_plan plan;
    if (creating->create.lock != NULL)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, "lock", "a new container cannot be made locked");
    if (creating->create.has_force && creating->create.force)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, "force",
                        "a container cannot be overwritten; remove it first");
    const char *store = cmp_lxc_volume_store(creating->create.ostemplate, arena);
    if (store == NULL || cmp_lxc_volume_kind(creating->create.ostemplate) != CMP_LXC_VOLUME_OLD)
        return atl_fail(err, ATL_E_INVALID, "ostemplate", "'%s' is no template, as local:vztmpl/NAME.tar.zst",
                        creating->create.ostemplate);
    enum atl_code code =
        atl_keeper_need(creating->part->cmp->keeper, atl_request_principal(creating->request),
                        atl_arena_format(arena, "/storage/%s", store), audit_store, err);
    if (code == ATL_OK)
        code = cmp_need_pool(creating->part->cmp, creating->request, creating->create.pool, err);
    if (code == ATL_OK)
        code = cmp_ha_may_add(creating->part->cmp, creating->request,
                              creating->create.has_ha_managed && creating->create.ha_managed, err);
    if (code == ATL_OK)
        code = lxc_may_set(creating->part, creating->request, creating->create.vmid, config,
                           config->unprivileged, err);
    return code == ATL_OK ? cmp_lxc_compile(config, NULL, 0, &facts, arena, &plan, err) : code;
}

void lxc_create(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Lxc__V1__CreateRequest *in = (const Atoll__Lxc__V1__CreateRequest *)input;
    struct creating *creating = atl_arena_new(atl_request_arena(request), struct creating);
    *creating = (struct creating){.part = user, .request = request, .create = *in};
    enum atl_code code = free_id(creating, &creating->error);
    if (code == ATL_OK)
        code = complete(creating, &creating->error);
    if (code == ATL_OK)
        code = check(creating, &creating->error);
    if (code == ATL_OK)
        ask_all(creating);
    else
        give_up(creating);
}
