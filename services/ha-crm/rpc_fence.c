/* Devices that switch nodes off: what is configured, and whether they answer. */
#include <string.h>

#include "atoll/ha/v1/ha.atl.h"
#include "core/fence.h"
#include "ha/place.h"
#include "shell.h"

static void refuse(struct atl_request *request, const struct atl_error *err)
{
    atl_request_fail(request, err, NULL);
}

/* --- showing --- */

void crm_rpc_fencings(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct crm_config config;
    struct atl_error err = {0};
    Atoll__Ha__V1__ListFencingReply reply = ATOLL__HA__V1__LIST_FENCING_REPLY__INIT;
    (void)input;
    if (crm_read(user, CRM_FENCE, atl_request_arena(request), &config, &err) != ATL_OK) {
        refuse(request, &err);
        return;
    }
    reply.entry = crm_fencings(&config, &reply.n_entry);
    for (size_t i = 0; i < reply.n_entry; i++)
        reply.entry[i]->digest = atl_arena_strdup(atl_request_arena(request), config.digest);
    atl_request_reply(request, &reply.base);
}

/* The section of a node. */
static enum atl_code find(const struct crm *crm, const char *node, struct atl_arena *arena,
                          struct crm_config *ret_config, Atoll__Ha__V1__Fencing **ret_device,
                          struct atl_error *err)
{
    enum atl_code code = crm_read(crm, CRM_FENCE, arena, ret_config, err);
    if (code != ATL_OK)
        return code;
    *ret_device = (Atoll__Ha__V1__Fencing *)crm_config_find(ret_config, node);
    if (*ret_device == NULL)
        return atl_fail(err, ATL_E_ABSENT, "node", "node '%s' has no fence device", node);
    return ATL_OK;
}

void crm_rpc_fencing(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__NodeRequest *wanted = (const void *)input;
    struct crm_config config;
    Atoll__Ha__V1__Fencing *device = NULL;
    struct atl_error err = {0};
    if (find(user, wanted->node, atl_request_arena(request), &config, &device, &err) != ATL_OK) {
        refuse(request, &err);
        return;
    }
    device->digest = config.digest;
    atl_request_reply(request, &device->base);
}

/* --- changing --- */

static void write_password(const struct crm *crm, struct atl_txn *txn,
                           const Atoll__Ha__V1__SetFencingRequest *wanted, struct atl_arena *arena)
{
    const char *path = atl_arena_format(arena, ATL_HA_PRIVATE "%s.pw", wanted->node);
    if (wanted->password != NULL)
        atl_txn_put(txn, path, wanted->password, strlen(wanted->password));
    else if (crm_list_has(wanted->delete_, "password") && atl_mirror_get(crm->mirror, path) != NULL)
        atl_txn_delete(txn, path);
}

static enum atl_code check(const struct crm *crm, const Atoll__Ha__V1__SetFencingRequest *wanted,
                           struct atl_errors *errors, struct atl_error *err)
{
    enum atl_code code = crm_need_node(crm, wanted->node, err);
    if (wanted->options != NULL)
        crm_fence_check(wanted->options, errors);
    if (wanted->password != NULL && strpbrk(wanted->password, "\r\n") != NULL)
        atl_errors_add(errors, "password", "a password is one line");
    if (wanted->password != NULL && crm_list_has(wanted->delete_, "password"))
        atl_errors_add(errors, "delete", "'password' is given, too");
    if (code == ATL_OK && errors->count > 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "%s", errors->items[0].text);
    return code;
}

static enum atl_code set(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                         void *user, struct atl_errors *errors, struct atl_error *err)
{
    const Atoll__Ha__V1__SetFencingRequest *wanted = (const void *)input;
    struct crm *crm = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    enum atl_code code = check(crm, wanted, errors, err);
    if (code == ATL_OK)
        code = crm_read(crm, CRM_FENCE, arena, &config, err);
    if (code != ATL_OK)
        return code;
    bool there = crm_config_find(&config, wanted->node) != NULL;
    if (!there && wanted->agent == NULL) {
        atl_errors_add(errors, "agent", "missing: node '%s' has no fence device yet", wanted->node);
        return atl_fail(err, ATL_E_INVALID, NULL, "%s", errors->items[0].text);
    }
    if (there)
        code = crm_config_set(&config, wanted->node, &atl_msg_ha_v1_SetFencingRequest, input, errors, err);
    else
        code = crm_config_add(&config, "device", wanted->node, &atl_msg_ha_v1_SetFencingRequest, input, err);
    if (code != ATL_OK)
        return code;
    crm_put(crm, txn, &config);
    write_password(crm, txn, wanted, arena);
    return ATL_OK;
}

void crm_rpc_fencing_set(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, set);
}

static enum atl_code take_away(struct atl_request *request, const ProtobufCMessage *input,
                               struct atl_txn *txn, void *user, struct atl_errors *errors,
                               struct atl_error *err)
{
    const Atoll__Ha__V1__NodeRequest *wanted = (const void *)input;
    struct crm *crm = user;
    struct atl_arena *arena = atl_request_arena(request);
    const char *path = atl_arena_format(arena, ATL_HA_PRIVATE "%s.pw", wanted->node);
    struct crm_config config;
    (void)errors;
    enum atl_code code = crm_read(crm, CRM_FENCE, arena, &config, err);
    if (code == ATL_OK)
        code = crm_config_remove(&config, wanted->node, err);
    if (code != ATL_OK)
        return code;
    crm_put(crm, txn, &config);
    if (atl_mirror_get(crm->mirror, path) != NULL)
        atl_txn_delete(txn, path);
    return ATL_OK;
}

void crm_rpc_fencing_remove(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, take_away);
}

/* --- trying --- */

struct trial {
    struct crm *crm;
    struct atl_request *request;
    const char *node;
    size_t slot;
};

static void tried(const struct crm_asked *asked, void *user)
{
    struct trial *trial = user; /* in the request's arena */
    struct atl_arena *arena = atl_request_arena(trial->request);
    Atoll__Ha__V1__TestFencingReply reply = ATOLL__HA__V1__TEST_FENCING_REPLY__INIT;
    trial->crm->trials[trial->slot] = NULL;
    reply.node = atl_arena_strdup(arena, trial->node);
    reply.power = atl_arena_strdup(arena, crm_fence_power(asked));
    if (strcmp(reply.power, "unknown") == 0)
        reply.message = atl_arena_strdup(arena, asked->words);
    atl_request_reply(trial->request, &reply.base);
}

static enum atl_code try_device(struct crm *crm, struct atl_request *request, const char *node,
                                struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    Atoll__Ha__V1__Fencing *device = NULL;
    struct trial *trial = atl_arena_new(arena, struct trial);
    *trial = (struct trial){.crm = crm, .request = request, .node = node};
    enum atl_code code = find(crm, node, arena, &config, &device, err);
    if (code != ATL_OK)
        return code;
    while (trial->slot < ATL_COUNT(crm->trials) && crm->trials[trial->slot] != NULL)
        trial->slot++;
    if (trial->slot == ATL_COUNT(crm->trials))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "%zu devices are being asked now", trial->slot);
    return crm_fence_run(crm, device, "status", tried, trial, &crm->trials[trial->slot], err);
}

void crm_rpc_fencing_test(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__NodeRequest *wanted = (const void *)input;
    struct atl_error err = {0};
    if (try_device(user, request, wanted->node, &err) != ATL_OK)
        refuse(request, &err);
}
