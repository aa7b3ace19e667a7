/* Changes of the files below ha/: each kind of section is added, changed and taken away as a request says. */
#include "atl_test.h"
#include "atoll/ha/v1/ha.atl.h"
#include "core/config.h"
#include "ha/settings.h"

struct change {
    enum crm_file file;
    const struct atl_message *table; /* of the request */
    const char *params[6][2];
    const char *type; /* before the colon, of a new section; NULL: the section is changed */
    const char *id;
    const char *text; /* the file afterwards */
};

/* Requests as the bus hands them on: read with their own table. */
static ProtobufCMessage *request_of(const struct change *change, struct atl_arena *arena)
{
    struct atl_param params[6];
    struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
    ProtobufCMessage *request = NULL;
    size_t count = 0;
    for (; count < 6 && change->params[count][0] != NULL; count++)
        params[count] = (struct atl_param){change->params[count][0], change->params[count][1]};
    if (atl_params_decode(change->table, params, count, arena, &request, errors) != ATL_OK)
        fail_msg("%s: %s", change->id, errors->items[0].text);
    return request;
}

/* One after the other, each file on what came of the last. */
static const struct change changes[] = {
    {CRM_RESOURCES,
     &atl_msg_ha_v1_AddResourceRequest,
     {{"sid", "vm:100"}, {"state", "stopped"}, {"max_restart", "2"}},
     "vm",
     "100",
     "vm: 100\n\tstate stopped\n\tmax_restart 2\n"},
    {CRM_RESOURCES,
     &atl_msg_ha_v1_AddResourceRequest,
     {{"sid", "101"}, {"type", "ct"}},
     "ct",
     "101",
     "vm: 100\n\tstate stopped\n\tmax_restart 2\n\nct: 101\n"},
    {CRM_RESOURCES,
     &atl_msg_ha_v1_SetResourceRequest,
     {{"sid", "vm:100"}, {"state", "started"}, {"delete", "max_restart"}},
     NULL,
     "vm:100",
     "vm: 100\n\tstate started\n\nct: 101\n"},
    {CRM_RULES,
     &atl_msg_ha_v1_AddRuleRequest,
     {{"rule", "near"},
      {"type", "node-affinity"},
      {"resources", "vm:100"},
      {"nodes", "n1:2,n2"},
      {"strict", "1"}},
     "node-affinity",
     "near",
     "node-affinity: near\n\tresources vm:100\n\tnodes n1:2,n2\n\tstrict 1\n"},
    {CRM_RULES,
     &atl_msg_ha_v1_SetRuleRequest,
     {{"rule", "near"}, {"type", "node-affinity"}, {"disable", "1"}, {"delete", "strict"}},
     NULL,
     "near",
     "node-affinity: near\n\tresources vm:100\n\tnodes n1:2,n2\n\tdisable 1\n"},
    {CRM_RULES,
     &atl_msg_ha_v1_AddRuleRequest,
     {{"rule", "apart"},
      {"type", "resource-affinity"},
      {"resources", "vm:100,ct:101"},
      {"affinity", "negative"}},
     "resource-affinity",
     "apart",
     "node-affinity: near\n\tresources vm:100\n\tnodes n1:2,n2\n\tdisable 1\n\n"
     "resource-affinity: apart\n\tresources vm:100,ct:101\n\taffinity negative\n"},
    {CRM_GROUPS,
     &atl_msg_ha_v1_AddGroupRequest,
     {{"group", "both"}, {"nodes", "n1,n2"}},
     "group",
     "both",
     "group: both\n\tnodes n1,n2\n"},
    {CRM_GROUPS,
     &atl_msg_ha_v1_SetGroupRequest,
     {{"group", "both"}, {"restricted", "1"}},
     NULL,
     "both",
     "group: both\n\tnodes n1,n2\n\trestricted 1\n"},
    {CRM_FENCE,
     &atl_msg_ha_v1_SetFencingRequest,
     {{"node", "n1"}, {"agent", "fence_ipmilan"}, {"options", "ip=10.0.0.5"}, {"password", "hidden"}},
     "device",
     "n1",
     "device: n1\n\tagent fence_ipmilan\n\toptions ip=10.0.0.5\n"},
    {CRM_FENCE,
     &atl_msg_ha_v1_SetFencingRequest,
     {{"node", "n1"}, {"delete", "password,options"}, {"disable", "1"}},
     NULL,
     "n1",
     "device: n1\n\tagent fence_ipmilan\n\tdisable 1\n"},
};

static void sections_are_added_and_changed(void **state)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char *text[CRM_FILES] = {NULL};
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(changes); i++) {
        const struct change *change = &changes[i];
        const char *before = text[change->file];
        struct crm_config config;
        struct atl_errors errors = {0};
        struct atl_error err = {0};
        struct atl_buf out ATL_BUF_AT_EXIT = {0};
        const ProtobufCMessage *request = request_of(change, &arena);
        assert_int_equal(
            crm_config_read(change->file, before, before != NULL ? strlen(before) : 0, &arena, &config, &err),
            ATL_OK);
        enum atl_code code =
            change->type != NULL
                ? crm_config_add(&config, change->type, change->id, change->table, request, &err)
                : crm_config_set(&config, change->id, change->table, request, &errors, &err);
        if (code != ATL_OK)
            fail_msg("change %zu: %s", i, err.text);
        crm_config_write(&config, &out);
        assert_string_equal(out.data, change->text);
        if (change->type != NULL)
            assert_int_equal(crm_config_add(&config, change->type, change->id, change->table, request, &err),
                             ATL_E_EXISTS);
        text[change->file] = change->text;
    }
}

static void what_is_not_there_or_cannot_go_is_refused(void **state)
{
    static const struct {
        struct change change;
        enum atl_code code;
        const char *says;
    } rows[] = {
        {{CRM_FENCE, &atl_msg_ha_v1_SetFencingRequest, {{"node", "n2"}, {"disable", "1"}}, NULL, "n2", NULL},
         ATL_E_ABSENT,
         "no such fence device 'n2'"},
        {{CRM_FENCE,
          &atl_msg_ha_v1_SetFencingRequest,
          {{"node", "n1"}, {"delete", "agent"}},
          NULL,
          "n1",
          NULL},
         ATL_E_INVALID,
         "unable to delete required option 'agent'"},
        {{CRM_FENCE,
          &atl_msg_ha_v1_SetFencingRequest,
          {{"node", "n1"}, {"delete", "node"}},
          NULL,
          "n1",
          NULL},
         ATL_E_INVALID,
         "unable to delete required option 'node'"},
        {{CRM_FENCE,
          &atl_msg_ha_v1_SetFencingRequest,
          {{"node", "n1"}, {"delete", "colour"}},
          NULL,
          "n1",
          NULL},
         ATL_E_INVALID,
         "unknown option 'colour'"},
        {{CRM_FENCE,
          &atl_msg_ha_v1_SetFencingRequest,
          {{"node", "n1"}, {"disable", "1"}, {"digest", "0000000000000000000000000000000000000000"}},
          NULL,
          "n1",
          NULL},
         ATL_E_CONFLICT,
         "changed"},
    };
    static const char text[] = "device: n1\n\tagent fence_ipmilan\n";
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        struct crm_config config;
        struct atl_errors errors = {0};
        struct atl_error err = {0};
        const ProtobufCMessage *request = request_of(&rows[i].change, &arena);
        assert_int_equal(crm_config_read(CRM_FENCE, text, strlen(text), &arena, &config, &err), ATL_OK);
        enum atl_code code =
            crm_config_set(&config, rows[i].change.id, rows[i].change.table, request, &errors, &err);
        if (code != rows[i].code || strstr(err.text, rows[i].says) == NULL)
            fail_msg("row %zu: %s", i, err.text);
    }
}

static void devices_are_read_as_they_stand(void **state)
{
    static const char text[] = "device: n1\n\tagent fence_ipmilan\n\toptions ip=10.0.0.5,lanplus=1\n\n"
                               "device: n2\n\tagent fence_dummy\n\tdisable 1\n";
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct crm_config config;
    struct atl_error err = {0};
    size_t count = 0;
    (void)state;
    assert_int_equal(crm_config_read(CRM_FENCE, text, strlen(text), &arena, &config, &err), ATL_OK);
    Atoll__Ha__V1__Fencing **devices = crm_fencings(&config, &count);
    assert_int_equal(count, 2);
    assert_string_equal(devices[0]->node, "n1");
    assert_string_equal(devices[0]->options, "ip=10.0.0.5,lanplus=1");
    assert_true(devices[1]->disable);
    assert_int_equal(crm_config_remove(&config, "n1", &err), ATL_OK);
    assert_null(crm_config_find(&config, "n1"));
    assert_int_equal(crm_config_remove(&config, "n1", &err), ATL_E_ABSENT);
}

static void settings_are_those_of_datacenter_cfg(void **state)
{
    static const struct {
        const char *text;
        bool watchdogs_alone;
        const char *policy;
        const char *rebalance;
    } rows[] = {
        {NULL, false, "conditional", "off"},
        {"fencing: both\nha: shutdown_policy=freeze\n", false, "freeze", "off"},
        {"keyboard: de\nfencing: watchdog\n", true, "conditional", "off"},
        {"fencing: watchdogs", false, "conditional", "off"},
        {"crs: ha=dynamic,ha-auto-rebalance=1\n", false, "conditional", "act"},
        /* what is not built does not take the rest of the line with it */
        {"crs: ha-auto-rebalance=1,ha-auto-rebalance-margin=20\n", false, "conditional", "act"},
        {"crs: ha-auto-rebalance=1,colour=red\n", false, "conditional", "off"},
        {"ha: shutdown_policy=explode\n", false, "conditional", "off"},
    };
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        const Atoll__Ha__V1__Settings *settings = atl_ha_settings(rows[i].text, &arena);
        assert_int_equal(settings->watchdogs_alone, rows[i].watchdogs_alone);
        assert_string_equal(settings->shutdown_policy, rows[i].policy);
        assert_string_equal(settings->rebalance, rows[i].rebalance);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_are_added_and_changed),
        cmocka_unit_test(what_is_not_there_or_cannot_go_is_refused),
        cmocka_unit_test(devices_are_read_as_they_stand),
        cmocka_unit_test(settings_are_those_of_datacenter_cfg),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
