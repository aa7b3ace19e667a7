/* Rules about where resources run, and groups of nodes. */
#include <string.h>

#include "atoll/ha/v1/ha.atl.h"
#include "core/rules.h"
#include "shell.h"

static void refuse(struct atl_request *request, const struct atl_error *err)
{
    atl_request_fail(request, err, NULL);
}

/* The rules of a file with what is wrong with each in `errors`. */
static enum atl_code judged(const struct crm *crm, const struct crm_config *config, struct atl_arena *arena,
                            Atoll__Ha__V1__Rule ***ret_rules, size_t *ret_count, struct atl_error *err)
{
    struct crm_config resources;
    size_t resource_count = 0;
    enum atl_code code = crm_read(crm, CRM_RESOURCES, arena, &resources, err);
    if (code != ATL_OK)
        return code;
    *ret_rules = crm_rules(config, ret_count);
    const char **nodes = atl_arena_array(arena, const char *, crm->members.count + 1);
    for (size_t i = 0; i < crm->members.count; i++)
        nodes[i] = crm->members.nodes[i];
    const char **sids = atl_arena_array(arena, const char *, resources.count + 1);
    Atoll__Ha__V1__Resource **all = crm_resources(&resources, &resource_count);
    for (size_t i = 0; i < resource_count; i++)
        sids[i] = all[i]->sid;
    const struct crm_rules_input known = {.rule = *ret_rules,
                                          .rule_count = *ret_count,
                                          .node = nodes,
                                          .node_count = crm->members.count,
                                          .sid = sids,
                                          .sid_count = resource_count};
    const char **wrong = crm_rules_check(&known, arena);
    for (size_t i = 0; i < *ret_count; i++) {
        (*ret_rules)[i]->digest = atl_arena_strdup(arena, config->digest);
        (*ret_rules)[i]->errors = wrong[i] != NULL ? atl_arena_strdup(arena, wrong[i]) : NULL;
    }
    return ATL_OK;
}

static Atoll__Ha__V1__Rule *named(Atoll__Ha__V1__Rule **rules, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rules[i]->rule, name) == 0)
            return rules[i];
    return NULL;
}

void crm_rpc_rules(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__ListRulesRequest *wanted = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    Atoll__Ha__V1__Rule **rules = NULL;
    const char *sid = NULL;
    size_t count = 0;
    struct atl_error err = {0};
    enum atl_code code = ATL_OK;
    if (wanted->resource != NULL)
        code = crm_sid(user, wanted->resource, arena, &sid, &err);
    if (code == ATL_OK)
        code = crm_read(user, CRM_RULES, arena, &config, &err);
    if (code == ATL_OK)
        code = judged(user, &config, arena, &rules, &count, &err);
    if (code != ATL_OK) {
        refuse(request, &err);
        return;
    }
    Atoll__Ha__V1__ListRulesReply reply = ATOLL__HA__V1__LIST_RULES_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Ha__V1__Rule *, count + 1);
    for (size_t i = 0; i < count; i++)
        if ((wanted->type == NULL || strcmp(wanted->type, rules[i]->type) == 0) &&
            (sid == NULL || crm_list_has(rules[i]->resources, sid)))
            reply.entry[reply.n_entry++] = rules[i];
    atl_request_reply(request, &reply.base);
}

void crm_rpc_rule(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__RuleRequest *wanted = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    Atoll__Ha__V1__Rule **rules = NULL;
    size_t count = 0;
    struct atl_error err = {0};
    enum atl_code code = crm_read(user, CRM_RULES, arena, &config, &err);
    if (code == ATL_OK)
        code = judged(user, &config, arena, &rules, &count, &err);
    Atoll__Ha__V1__Rule *rule = code == ATL_OK ? named(rules, count, wanted->rule) : NULL;
    if (code == ATL_OK && rule == NULL)
        code = atl_fail(&err, ATL_E_ABSENT, "rule", "no such rule '%s'", wanted->rule);
    if (code != ATL_OK)
        refuse(request, &err);
    else
        atl_request_reply(request, &rule->base);
}

/* A rule that is new or changed must be complete and fit the others; then the file is written. */
static enum atl_code write_rule(struct crm *crm, struct atl_arena *arena, const struct crm_config *config,
                                const char *name, struct atl_txn *txn, struct atl_errors *errors,
                                struct atl_error *err)
{
    Atoll__Ha__V1__Rule **rules = NULL;
    size_t count = 0;
    enum atl_code code = judged(crm, config, arena, &rules, &count, err);
    const Atoll__Ha__V1__Rule *rule = code == ATL_OK ? named(rules, count, name) : NULL;
    atl_assert(code != ATL_OK || rule != NULL); /* it is what was just put in */
    if (code == ATL_OK)
        code = crm_rule_complete(rule, errors, err);
    if (code != ATL_OK)
        return code;
    atl_assert(rule != NULL);
    if (!rule->disable && rule->errors != NULL)
        return atl_fail(err, ATL_E_INVALID, NULL, "rule '%s': %s", name, rule->errors);
    crm_put(crm, txn, config);
    return ATL_OK;
}

/* Resources by their whole names: "100" becomes "vm:100". */
static enum atl_code whole_list(const struct crm *crm, char **list, struct atl_arena *arena,
                                struct atl_error *err)
{
    struct atl_buf text = {0};
    enum atl_code code = ATL_OK;
    for (const char *at = *list != NULL ? *list : ""; *at != '\0' && code == ATL_OK;) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        const char *sid = NULL;
        if (length == 0)
            break;
        code = crm_sid(crm, atl_arena_strndup(arena, at, length), arena, &sid, err);
        if (code != ATL_OK)
            (void)atl_copy(err->field, sizeof err->field, "resources");
        else
            atl_buf_printf(&text, "%s%s", text.length > 0 ? "," : "", sid);
        at += length;
    }
    if (code == ATL_OK && text.length > 0)
        *list = atl_arena_strndup(arena, text.data, text.length);
    atl_buf_done(&text);
    return code;
}

static enum atl_code add(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                         void *user, struct atl_errors *errors, struct atl_error *err)
{
    Atoll__Ha__V1__AddRuleRequest wanted = *(const Atoll__Ha__V1__AddRuleRequest *)(const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    enum atl_code code = whole_list(user, &wanted.resources, arena, err);
    if (code == ATL_OK)
        code = crm_read(user, CRM_RULES, arena, &config, err);
    if (code == ATL_OK)
        code = crm_config_add(&config, wanted.type, wanted.rule, &atl_msg_ha_v1_AddRuleRequest, &wanted.base,
                              err);
    return code == ATL_OK ? write_rule(user, arena, &config, wanted.rule, txn, errors, err) : code;
}

void crm_rpc_rule_add(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, add);
}

static enum atl_code set(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                         void *user, struct atl_errors *errors, struct atl_error *err)
{
    Atoll__Ha__V1__SetRuleRequest wanted = *(const Atoll__Ha__V1__SetRuleRequest *)(const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    enum atl_code code = whole_list(user, &wanted.resources, arena, err);
    if (code == ATL_OK)
        code = crm_read(user, CRM_RULES, arena, &config, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Ha__V1__Rule *rule = (const void *)crm_config_find(&config, wanted.rule);
    if (rule != NULL && strcmp(rule->type, wanted.type) != 0)
        return atl_fail(err, ATL_E_INVALID, "type", "rule '%s' is of type '%s', which stays", wanted.rule,
                        rule->type);
    code = crm_config_set(&config, wanted.rule, &atl_msg_ha_v1_SetRuleRequest, &wanted.base, errors, err);
    return code == ATL_OK ? write_rule(user, arena, &config, wanted.rule, txn, errors, err) : code;
}

void crm_rpc_rule_set(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, set);
}

static enum atl_code take_out(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                              void *user, struct atl_errors *errors, struct atl_error *err)
{
    const Atoll__Ha__V1__RuleRequest *wanted = (const void *)input;
    struct crm_config config;
    (void)errors;
    enum atl_code code = crm_read(user, CRM_RULES, atl_request_arena(request), &config, err);
    if (code == ATL_OK)
        code = crm_config_remove(&config, wanted->rule, err);
    if (code == ATL_OK)
        crm_put(user, txn, &config);
    return code;
}

void crm_rpc_rule_remove(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, take_out);
}

/* --- groups --- */

void crm_rpc_groups(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    struct atl_error err = {0};
    (void)input;
    if (crm_read(user, CRM_GROUPS, arena, &config, &err) != ATL_OK) {
        refuse(request, &err);
        return;
    }
    Atoll__Ha__V1__ListGroupsReply reply = ATOLL__HA__V1__LIST_GROUPS_REPLY__INIT;
    reply.entry = crm_groups(&config, &reply.n_entry);
    for (size_t i = 0; i < reply.n_entry; i++)
        reply.entry[i]->digest = config.digest;
    atl_request_reply(request, &reply.base);
}

void crm_rpc_group(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__GroupRequest *wanted = (const void *)input;
    struct crm_config config;
    struct atl_error err = {0};
    enum atl_code code = crm_read(user, CRM_GROUPS, atl_request_arena(request), &config, &err);
    Atoll__Ha__V1__Group *group = code == ATL_OK ? (void *)crm_config_find(&config, wanted->group) : NULL;
    if (code == ATL_OK && group == NULL)
        (void)atl_fail(&err, ATL_E_ABSENT, "group", "no such group '%s'", wanted->group);
    if (group == NULL) {
        refuse(request, &err);
        return;
    }
    group->digest = config.digest;
    atl_request_reply(request, &group->base);
}

static enum atl_code add_group(struct atl_request *request, const ProtobufCMessage *input,
                               struct atl_txn *txn, void *user, struct atl_errors *errors,
                               struct atl_error *err)
{
    const Atoll__Ha__V1__AddGroupRequest *wanted = (const void *)input;
    struct crm_config config;
    (void)errors;
    enum atl_code code = crm_read(user, CRM_GROUPS, atl_request_arena(request), &config, err);
    if (code == ATL_OK)
        code = crm_config_add(&config, "group", wanted->group, &atl_msg_ha_v1_AddGroupRequest, input, err);
    if (code == ATL_OK)
        crm_put(user, txn, &config);
    return code;
}

void crm_rpc_group_add(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, add_group);
}

static enum atl_code set_group(struct atl_request *request, const ProtobufCMessage *input,
                               struct atl_txn *txn, void *user, struct atl_errors *errors,
                               struct atl_error *err)
{
    const Atoll__Ha__V1__SetGroupRequest *wanted = (const void *)input;
    struct crm_config config;
    enum atl_code code = crm_read(user, CRM_GROUPS, atl_request_arena(request), &config, err);
    if (code == ATL_OK)
        code = crm_config_set(&config, wanted->group, &atl_msg_ha_v1_SetGroupRequest, input, errors, err);
    if (code == ATL_OK)
        crm_put(user, txn, &config);
    return code;
}

void crm_rpc_group_set(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, set_group);
}

static enum atl_code remove_group(struct atl_request *request, const ProtobufCMessage *input,
                                  struct atl_txn *txn, void *user, struct atl_errors *errors,
                                  struct atl_error *err)
{
    const Atoll__Ha__V1__GroupRequest *wanted = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct crm_config config;
    struct crm_config resources;
    size_t count = 0;
    (void)errors;
    enum atl_code code = crm_read(user, CRM_GROUPS, arena, &config, err);
    if (code == ATL_OK)
        code = crm_read(user, CRM_RESOURCES, arena, &resources, err);
    if (code == ATL_OK)
        code = crm_config_remove(&config, wanted->group, err);
    if (code != ATL_OK)
        return code;
    Atoll__Ha__V1__Resource **all = crm_resources(&resources, &count);
    for (size_t i = 0; i < count; i++)
        if (all[i]->group != NULL && strcmp(all[i]->group, wanted->group) == 0)
            return atl_fail(err, ATL_E_STATE, "group", "group '%s' is used by resource %s", wanted->group,
                            all[i]->sid);
    crm_put(user, txn, &config);
    return ATL_OK;
}

void crm_rpc_group_remove(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, remove_group);
}
