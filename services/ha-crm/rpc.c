/* The methods of atoll.ha.v1.Ha, and what their handlers share. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "atoll/ha/v1/ha.atl.h"
#include "atoll/ha/v1/state.atl.h"
#include "atoll/task/v1/common.pb-c.h"
#include "ha/place.h"
#include "shell.h"

enum atl_code crm_sid(const struct crm *crm, const char *given, struct atl_arena *arena, const char **ret_sid,
                      struct atl_error *err)
{
    const char *colon = strchr(given, ':');
    bool vm = strncmp(given, "vm:", 3) == 0;
    const char *node = NULL;
    char *end = NULL;
    unsigned long vmid = strtoul(colon != NULL ? colon + 1 : given, &end, 10);
    if (colon != NULL && !vm && strncmp(given, "ct:", 3) != 0)
        return atl_fail(err, ATL_E_INVALID, "sid", "'%s': resources are vm:ID and ct:ID", given);
    if (*end != '\0' || vmid < 100 || vmid > 999999999)
        return atl_fail(err, ATL_E_INVALID, "sid", "'%s' has no guest id from 100 to 999999999", given);
    const char *type = crm_guest(crm, (uint32_t)vmid, arena, &node);
    if (colon == NULL && type == NULL)
        return atl_fail(err, ATL_E_ABSENT, "sid", "there is no guest %lu", vmid);
    if (colon != NULL && type != NULL && strncmp(given, type, 2) != 0)
        return atl_fail(err, ATL_E_INVALID, "sid", "guest %lu is a %s: its resource is %s:%lu", vmid,
                        strcmp(type, "vm") == 0 ? "virtual machine" : "container", type, vmid);
    *ret_sid = colon != NULL ? atl_arena_strdup(arena, given) : atl_arena_format(arena, "%s:%lu", type, vmid);
    return ATL_OK;
}

void crm_edit(struct crm *crm, struct atl_request *request, const ProtobufCMessage *input, atl_edit_fn *make)
{
    Atoll__Task__V1__Nothing *nothing = atl_arena_new(atl_request_arena(request), Atoll__Task__V1__Nothing);
    atoll__task__v1__nothing__init(nothing);
    atl_edit_begin(
        crm->edits,
        &(const struct atl_edit){
            .request = request, .input = input, .output = &nothing->base, .make = make, .user = crm});
}

void crm_put(const struct crm *crm, struct atl_txn *txn, const struct crm_config *config)
{
    const char *path = crm_file_path(config->file);
    const struct atl_file *file = atl_mirror_get(crm->mirror, path);
    struct atl_buf text = {0};
    if (file != NULL)
        atl_txn_compare(txn, path, file->revision);
    else
        atl_txn_absent(txn, path);
    crm_config_write(config, &text);
    atl_txn_put(txn, path, text.length > 0 ? text.data : "", text.length);
    atl_buf_done(&text);
}

enum atl_code crm_need_node(const struct crm *crm, const char *node, struct atl_error *err)
{
    for (size_t i = 0; i < crm->members.count; i++)
        if (strcmp(crm->members.nodes[i], node) == 0)
            return ATL_OK;
    return atl_fail(err, ATL_E_INVALID, "node", "no such cluster node '%s'", node);
}

static void put_message(struct atl_txn *txn, const char *path, const ProtobufCMessage *message,
                        struct atl_arena *arena)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = atl_arena_alloc(arena, size + 1);
    (void)protobuf_c_message_pack(message, bytes);
    atl_txn_put(txn, path, bytes, size);
}

enum atl_code crm_ask(struct atl_request *request, struct atl_txn *txn, Atoll__Ha__V1__Request *wish,
                      struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    const struct atl_principal *principal = atl_request_principal(request);
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return atl_fail(err, ATL_E_IO, NULL, "the kernel gives no random bytes");
    wish->user = atl_arena_strdup(arena, principal->user != NULL ? principal->user : principal->service);
    /* In the order of their making as far as clocks agree: the manager takes them by name. */
    char *path = atl_arena_format(arena, ATL_HA_REQUEST "%012" PRId64 "-%016" PRIx64,
                                  atl_clock_wall_seconds(), random);
    atl_txn_absent(txn, path);
    put_message(txn, path, &wish->base, arena);
    return ATL_OK;
}

static void index_all(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    static const char *const names[] = {"balance",   "fencing", "groups",   "nodes",
                                        "resources", "rules",   "simulate", "status"};
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Ha__V1__IndexReply reply = ATOLL__HA__V1__INDEX_REPLY__INIT;
    (void)input;
    (void)user;
    reply.entry = atl_arena_array(arena, Atoll__Ha__V1__IndexEntry *, ATL_COUNT(names));
    for (; reply.n_entry < ATL_COUNT(names); reply.n_entry++) {
        reply.entry[reply.n_entry] = atl_arena_new(arena, Atoll__Ha__V1__IndexEntry);
        atoll__ha__v1__index_entry__init(reply.entry[reply.n_entry]);
        reply.entry[reply.n_entry]->id = atl_arena_strdup(arena, names[reply.n_entry]);
    }
    atl_request_reply(request, &reply.base);
}

static void index_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    static const char *const names[] = {"arm-ha", "current", "disarm-ha", "manager_status"};
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Ha__V1__StatusIndexReply reply = ATOLL__HA__V1__STATUS_INDEX_REPLY__INIT;
    (void)input;
    (void)user;
    reply.entry = atl_arena_array(arena, Atoll__Ha__V1__StatusIndexEntry *, ATL_COUNT(names));
    for (; reply.n_entry < ATL_COUNT(names); reply.n_entry++) {
        reply.entry[reply.n_entry] = atl_arena_new(arena, Atoll__Ha__V1__StatusIndexEntry);
        atoll__ha__v1__status_index_entry__init(reply.entry[reply.n_entry]);
        reply.entry[reply.n_entry]->name = atl_arena_strdup(arena, names[reply.n_entry]);
    }
    atl_request_reply(request, &reply.base);
}

void crm_serve(struct crm *crm)
{
    static const struct atl_handler handlers[] = {
        {"Index", index_all},
        {"StatusIndex", index_status},
        {"ListResources", crm_rpc_resources},
        {"AddResource", crm_rpc_resource_add},
        {"GetResource", crm_rpc_resource},
        {"SetResource", crm_rpc_resource_set},
        {"RemoveResource", crm_rpc_resource_remove},
        {"Migrate", crm_rpc_migrate},
        {"Relocate", crm_rpc_relocate},
        {"Stop", crm_rpc_stop},
        {"Why", crm_rpc_why},
        {"ListRules", crm_rpc_rules},
        {"AddRule", crm_rpc_rule_add},
        {"GetRule", crm_rpc_rule},
        {"SetRule", crm_rpc_rule_set},
        {"RemoveRule", crm_rpc_rule_remove},
        {"ListGroups", crm_rpc_groups},
        {"AddGroup", crm_rpc_group_add},
        {"GetGroup", crm_rpc_group},
        {"SetGroup", crm_rpc_group_set},
        {"RemoveGroup", crm_rpc_group_remove},
        {"ListFencing", crm_rpc_fencings},
        {"GetFencing", crm_rpc_fencing},
        {"SetFencing", crm_rpc_fencing_set},
        {"RemoveFencing", crm_rpc_fencing_remove},
        {"TestFencing", crm_rpc_fencing_test},
        {"Current", crm_rpc_current},
        {"ManagerStatus", crm_rpc_manager_status},
        {"Arm", crm_rpc_arm},
        {"Disarm", crm_rpc_disarm},
        {"EnableMaintenance", crm_rpc_maintenance},
        {"DisableMaintenance", crm_rpc_maintenance},
        {"Balance", crm_rpc_balance},
        {"Simulate", crm_rpc_simulate},
    };
    atl_bus_serve(crm->bus, &atl_svc_ha_v1_Ha, handlers, ATL_COUNT(handlers), crm);
}
