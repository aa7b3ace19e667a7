/* Resources: which guests are under high availability, and what is asked of them. */
#include <stdlib.h>
#include <string.h>

#include "atoll/ha/v1/ha.atl.h"
#include "atoll/ha/v1/state.atl.h"
#include "core/effects.h"
#include "ha/place.h"
#include "shell.h"

static void refuse(struct atl_request *request, const struct atl_error *err)
{
    atl_request_fail(request, err, NULL);
}

/* --- showing --- */

void crm_rpc_resources(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__ListResourcesRequest *wanted = (const void *)input;
    struct crm *crm = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    struct atl_error err = {0};
    if (crm_read(crm, CRM_RESOURCES, arena, &config, &err) != ATL_OK) {
        refuse(request, &err);
        return;
    }
    size_t count = 0;
    Atoll__Ha__V1__Resource **all = crm_resources(&config, &count);
    Atoll__Ha__V1__ListResourcesReply reply = ATOLL__HA__V1__LIST_RESOURCES_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Ha__V1__ResourceRow *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const Atoll__Ha__V1__Resource *one = all[i];
        if (wanted->type != NULL && strcmp(wanted->type, one->type) != 0)
            continue;
        Atoll__Ha__V1__ResourceRow *row = atl_arena_new(arena, Atoll__Ha__V1__ResourceRow);
        atoll__ha__v1__resource_row__init(row);
        *row = (Atoll__Ha__V1__ResourceRow){
            .base = row->base,
            .sid = one->sid,
            .type = one->type,
            .state =
                one->state != NULL ? one->state : atl_arena_strdup(atl_request_arena(request), "started"),
            .group = one->group,
            .has_max_restart = one->has_max_restart,
            .max_restart = one->max_restart,
            .has_max_relocate = one->has_max_relocate,
            .max_relocate = one->max_relocate,
            .has_failback = one->has_failback,
            .failback = one->failback,
            .has_auto_rebalance = one->has_auto_rebalance,
            .auto_rebalance = one->auto_rebalance,
            .comment = one->comment,
            .digest = config.digest,
        };
        reply.entry[reply.n_entry++] = row;
    }
    atl_request_reply(request, &reply.base);
}

/* The resource that a request names, and its file. */
static enum atl_code find(struct crm *crm, struct atl_request *request, const char *given,
                          struct crm_config *ret_config, Atoll__Ha__V1__Resource **ret_resource,
                          struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    const char *sid = NULL;
    enum atl_code code = crm_sid(crm, given, arena, &sid, err);
    if (code == ATL_OK)
        code = crm_read(crm, CRM_RESOURCES, arena, ret_config, err);
    if (code != ATL_OK)
        return code;
    *ret_resource = crm_resource(ret_config, sid);
    if (*ret_resource == NULL)
        return atl_fail(err, ATL_E_ABSENT, "sid", "no such resource '%s'", sid);
    return ATL_OK;
}

void crm_rpc_resource(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__ResourceRequest *wanted = (const void *)input;
    struct crm_config config;
    Atoll__Ha__V1__Resource *one = NULL;
    struct atl_error err = {0};
    if (find(user, request, wanted->sid, &config, &one, &err) != ATL_OK) {
        refuse(request, &err);
        return;
    }
    Atoll__Ha__V1__ResourceReply reply = ATOLL__HA__V1__RESOURCE_REPLY__INIT;
    reply.sid = one->sid;
    reply.type = one->type;
    reply.state = one->state != NULL ? one->state : atl_arena_strdup(atl_request_arena(request), "started");
    reply.group = one->group;
    reply.has_max_restart = one->has_max_restart;
    reply.max_restart = one->max_restart;
    reply.has_max_relocate = one->has_max_relocate;
    reply.max_relocate = one->max_relocate;
    reply.has_failback = one->has_failback;
    reply.failback = one->failback;
    reply.has_auto_rebalance = one->has_auto_rebalance;
    reply.auto_rebalance = one->auto_rebalance;
    reply.comment = one->comment;
    reply.digest = config.digest;
    atl_request_reply(request, &reply.base);
}

/* --- changing --- */

static enum atl_code need_group(const struct crm *crm, const char *group, struct atl_arena *arena,
                                struct atl_error *err)
{
    struct crm_config groups;
    if (group == NULL)
        return ATL_OK;
    enum atl_code code = crm_read(crm, CRM_GROUPS, arena, &groups, err);
    if (code == ATL_OK && crm_config_find(&groups, group) == NULL)
        return atl_fail(err, ATL_E_ABSENT, "group", "no such group '%s'", group);
    return code;
}

static enum atl_code add(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                         void *user, struct atl_errors *errors, struct atl_error *err)
{
    const Atoll__Ha__V1__AddResourceRequest *wanted = (const void *)input;
    struct crm *crm = user;
    struct atl_arena *arena = atl_request_arena(request);
    const char *sid = NULL;
    const char *node = NULL;
    struct crm_config config;
    (void)errors;
    enum atl_code code = crm_sid(crm, wanted->sid, arena, &sid, err);
    if (code == ATL_OK)
        code = need_group(crm, wanted->group, arena, err);
    if (code == ATL_OK)
        code = crm_read(crm, CRM_RESOURCES, arena, &config, err);
    if (code != ATL_OK)
        return code;
    const char *type = atl_arena_strndup(arena, sid, 2);
    if (wanted->type != NULL && strcmp(wanted->type, type) != 0)
        return atl_fail(err, ATL_E_INVALID, "type", "resource '%s' is not of type '%s'", sid, wanted->type);
    if (crm_guest(crm, (uint32_t)strtoul(sid + 3, NULL, 10), arena, &node) == NULL)
        return atl_fail(err, ATL_E_ABSENT, "sid", "there is no guest %s", sid + 3);
    code = crm_config_add(&config, type, sid + 3, &atl_msg_ha_v1_AddResourceRequest, input, err);
    if (code == ATL_OK)
        crm_put(crm, txn, &config);
    return code;
}

void crm_rpc_resource_add(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, add);
}

static enum atl_code set(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                         void *user, struct atl_errors *errors, struct atl_error *err)
{
    const Atoll__Ha__V1__SetResourceRequest *wanted = (const void *)input;
    struct crm *crm = user;
    struct crm_config config;
    Atoll__Ha__V1__Resource *one = NULL;
    enum atl_code code = find(crm, request, wanted->sid, &config, &one, err);
    if (code == ATL_OK)
        code = need_group(crm, wanted->group, atl_request_arena(request), err);
    if (code == ATL_OK)
        code = crm_config_set(&config, one->sid, &atl_msg_ha_v1_SetResourceRequest, input, errors, err);
    if (code == ATL_OK)
        crm_put(crm, txn, &config);
    return code;
}

void crm_rpc_resource_set(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, set);
}

static enum atl_code take_out(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                              void *user, struct atl_errors *errors, struct atl_error *err)
{
    const Atoll__Ha__V1__RemoveResourceRequest *wanted = (const void *)input;
    struct crm *crm = user;
    struct crm_config config;
    struct crm_config rules;
    Atoll__Ha__V1__Resource *one = NULL;
    (void)errors;
    enum atl_code code = find(crm, request, wanted->sid, &config, &one, err);
    if (code == ATL_OK)
        code = crm_read(crm, CRM_RULES, atl_request_arena(request), &rules, err);
    if (code == ATL_OK)
        code = crm_config_remove(&config, one->sid, err);
    if (code != ATL_OK)
        return code;
    crm_put(crm, txn, &config);
    if ((!wanted->has_purge || wanted->purge) && crm_rules_forget(&rules, one->sid))
        crm_put(crm, txn, &rules);
    return ATL_OK;
}

void crm_rpc_resource_remove(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, take_out);
}

/* --- asking the manager --- */

/* Does the manager let resources go there? */
static enum atl_code need_online(const struct crm *crm, const char *node, struct atl_arena *arena,
                                 struct atl_error *err)
{
    const Atoll__Ha__V1__NodeRecord *record = (const void *)crm_state(
        crm, &atl_msg_ha_v1_NodeRecord, atl_arena_format(arena, ATL_HA_NODE "%s", node), arena);
    if (record == NULL || strcmp(record->state, "online") != 0)
        return atl_fail(err, ATL_E_STATE, "node", "node '%s' takes no resources now: it is %s", node,
                        record != NULL ? record->state : "not known to the manager yet");
    return ATL_OK;
}

static enum atl_code ask_move(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                              void *user, struct atl_errors *errors, struct atl_error *err)
{
    const Atoll__Ha__V1__MoveRequest *wanted = (const void *)input;
    struct crm *crm = user;
    struct crm_config config;
    Atoll__Ha__V1__Resource *one = NULL;
    (void)errors;
    enum atl_code code = find(crm, request, wanted->sid, &config, &one, err);
    if (code == ATL_OK)
        code = crm_need_node(crm, wanted->node, err);
    if (code == ATL_OK)
        code = need_online(crm, wanted->node, atl_request_arena(request), err);
    if (code != ATL_OK)
        return code;
    Atoll__Ha__V1__Request wish = ATOLL__HA__V1__REQUEST__INIT;
    bool migrate = strcmp(atl_request_rpc(request)->name, "atoll.ha.v1.Ha.Migrate") == 0;
    wish.kind = atl_arena_strdup(atl_request_arena(request), migrate ? "migrate" : "relocate");
    wish.sid = one->sid;
    wish.node = wanted->node;
    return crm_ask(request, txn, &wish, err);
}

struct whereabouts {
    const struct crm *crm;
    struct atl_arena *arena;
};

static const char *where(const char *sid, void *user)
{
    const struct whereabouts *whereabouts = user;
    const char *colon = strchr(sid, ':');
    const char *node = NULL;
    if (colon != NULL)
        (void)crm_guest(whereabouts->crm, (uint32_t)strtoul(colon + 1, NULL, 10), whereabouts->arena, &node);
    return node;
}

static void move(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__MoveRequest *wanted = (const void *)input;
    struct crm *crm = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    struct crm_config rules;
    Atoll__Ha__V1__Resource *one = NULL;
    struct atl_error err = {0};
    Atoll__Ha__V1__MoveReply *reply = atl_arena_new(arena, Atoll__Ha__V1__MoveReply);
    atoll__ha__v1__move_reply__init(reply);
    enum atl_code code = find(crm, request, wanted->sid, &config, &one, &err);
    if (code == ATL_OK)
        code = crm_read(crm, CRM_RULES, arena, &rules, &err);
    if (code != ATL_OK) {
        refuse(request, &err);
        return;
    }
    reply->sid = one->sid;
    reply->requested_node = wanted->node;
    struct whereabouts whereabouts = {crm, arena};
    size_t count = 0;
    Atoll__Ha__V1__Rule **all = crm_rules(&rules, &count);
    crm_effects(all, count, where, &whereabouts, arena, reply);
    if (reply->n_blocking_resources > 0) { /* nothing is done, and it says why */
        atl_request_reply(request, &reply->base);
        return;
    }
    atl_edit_begin(
        crm->edits,
        &(const struct atl_edit){
            .request = request, .input = input, .output = &reply->base, .make = ask_move, .user = crm});
}

void crm_rpc_migrate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    move(request, input, user);
}

void crm_rpc_relocate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    move(request, input, user);
}

/* It is wanted stopped from now on; the manager takes the time limit out of the wish. */
static enum atl_code want_stopped(struct crm *crm, struct atl_arena *arena, struct crm_config *config,
                                  const Atoll__Ha__V1__Resource *one, struct atl_txn *txn,
                                  struct atl_errors *errors, struct atl_error *err)
{
    Atoll__Ha__V1__SetResourceRequest set = ATOLL__HA__V1__SET_RESOURCE_REQUEST__INIT;
    bool runs =
        one->state == NULL || strcmp(one->state, "started") == 0 || strcmp(one->state, "enabled") == 0;
    set.sid = one->sid;
    set.state = atl_arena_strdup(arena, "stopped");
    if (!runs)
        return ATL_OK;
    enum atl_code code =
        crm_config_set(config, one->sid, &atl_msg_ha_v1_SetResourceRequest, &set.base, errors, err);
    if (code == ATL_OK)
        crm_put(crm, txn, config);
    return code;
}

static enum atl_code ask_stop(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                              void *user, struct atl_errors *errors, struct atl_error *err)
{
    const Atoll__Ha__V1__StopRequest *wanted = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    Atoll__Ha__V1__Resource *one = NULL;
    enum atl_code code = find(user, request, wanted->sid, &config, &one, err);
    if (code == ATL_OK)
        code = want_stopped(user, arena, &config, one, txn, errors, err);
    if (code != ATL_OK)
        return code;
    Atoll__Ha__V1__Request wish = ATOLL__HA__V1__REQUEST__INIT;
    wish.kind = atl_arena_strdup(arena, "stop");
    wish.sid = one->sid;
    wish.has_timeout_s = true;
    wish.timeout_s = wanted->timeout;
    return crm_ask(request, txn, &wish, err);
}

void crm_rpc_stop(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, ask_stop);
}

/* --- why --- */

static void add_input(Atoll__Ha__V1__WhyReply *reply, char *text)
{
    reply->input[reply->n_input++] = text;
}

static void add_inputs(struct crm *crm, const Atoll__Ha__V1__Resource *one,
                       const Atoll__Ha__V1__Service *service, struct atl_arena *arena,
                       Atoll__Ha__V1__WhyReply *reply)
{
    struct crm_config rules;
    struct atl_error err = {0};
    enum { FIXED = 4 };
    enum atl_code code = crm_read(crm, CRM_RULES, arena, &rules, &err);
    size_t count = 0;
    Atoll__Ha__V1__Rule **rule = code == ATL_OK ? crm_rules(&rules, &count) : NULL;
    reply->input = atl_arena_array(arena, char *, count + FIXED);
    add_input(reply, atl_arena_format(arena, "wanted: %s", one->state != NULL ? one->state : "started"));
    if (one->group != NULL)
        add_input(reply, atl_arena_format(arena, "group: %s", one->group));
    if (service != NULL && (service->failed_starts > 0 || service->relocations > 0))
        add_input(reply,
                  atl_arena_format(arena, "since it last ran: %u starts failed, moved %u times for that",
                                   service->failed_starts, service->relocations));
    if (service != NULL && service->home != NULL)
        add_input(reply, atl_arena_format(arena, "goes back to %s", service->home));
    for (size_t i = 0; rule != NULL && i < count; i++)
        if (crm_list_has(rule[i]->resources, one->sid) && !rule[i]->disable)
            add_input(reply, atl_arena_format(arena, "rule %s: %s %s", rule[i]->rule, rule[i]->type,
                                              rule[i]->nodes != NULL      ? rule[i]->nodes
                                              : rule[i]->affinity != NULL ? rule[i]->affinity
                                                                          : ""));
}

void crm_rpc_why(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__ResourceRequest *wanted = (const void *)input;
    struct crm *crm = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    Atoll__Ha__V1__Resource *one = NULL;
    struct atl_error err = {0};
    if (find(crm, request, wanted->sid, &config, &one, &err) != ATL_OK) {
        refuse(request, &err);
        return;
    }
    Atoll__Ha__V1__WhyReply reply = ATOLL__HA__V1__WHY_REPLY__INIT;
    const Atoll__Ha__V1__Service *service = (const void *)crm_state(
        crm, &atl_msg_ha_v1_Service, atl_arena_format(arena, ATL_HA_SERVICE "%s", one->sid), arena);
    reply.sid = one->sid;
    reply.decision = atl_arena_strdup(arena, "the manager has not decided anything about it yet");
    if (service != NULL) {
        reply.state = service->state;
        reply.node = service->node;
        reply.decision = service->why != NULL ? service->why : service->state;
        reply.alternative = service->alternative;
        reply.n_alternative = service->n_alternative;
    }
    add_inputs(crm, one, service, arena, &reply);
    atl_request_reply(request, &reply.base);
}
