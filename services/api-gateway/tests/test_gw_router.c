/* Routes, statuses, merged parameters, envelopes. */
#include "atl_test.h"

#include "core/params.h"
#include "core/router.h"
#include "core/status.h"

static const struct atl_service shop;
static const struct atl_rpc rpcs[] = {
    {.name = "Index", .path = "/", .verb = ATL_GET, .service = &shop},
    {.name = "Nodes", .path = "/nodes", .verb = ATL_GET, .service = &shop},
    {.name = "Status", .path = "/nodes/{node}/qemu/{vmid}/status/current", .verb = ATL_GET, .service = &shop},
    {.name = "Start", .path = "/nodes/{node}/qemu/{vmid}/status/start", .verb = ATL_POST, .service = &shop},
    {.name = "Guest", .path = "/nodes/{node}/qemu/{vmid}", .verb = ATL_GET, .service = &shop},
    {.name = "Special", .path = "/nodes/{node}/qemu/all/deep", .verb = ATL_GET, .service = &shop},
    {.name = "Remove", .path = "/nodes/{node}/qemu/{vmid}", .verb = ATL_DELETE, .service = &shop},
    {.name = "Volume",
     .path = "/nodes/{node}/storage/{storage}/content/{volume}",
     .verb = ATL_GET,
     .service = &shop},
    {.name = "Pool", .path = "/pools/{poolid}", .verb = ATL_GET, .service = &shop},
    {.name = "Inner", .path = NULL, .verb = ATL_NO_VERB, .service = &shop},
};
static const struct atl_service shop = {.name = "test.Shop", .rpcs = rpcs, .count = ATL_COUNT(rpcs)};
static const struct atl_service *const contract[] = {&shop, NULL};

static void paths_find_their_methods(void **state)
{
    (void)state;
    static const struct {
        enum atl_verb verb;
        const char *path;
        const char *name; /* of the method, or NULL */
        const char *last; /* value of the last path parameter */
    } cases[] = {
        {ATL_GET, "/", "Index", NULL},
        {ATL_GET, "", "Index", NULL},
        {ATL_GET, "/nodes", "Nodes", NULL},
        {ATL_GET, "/nodes/", "Nodes", NULL},
        {ATL_GET, "//nodes//", "Nodes", NULL},
        {ATL_GET, "/%6eodes", "Nodes", NULL},
        {ATL_PUT, "/nodes", NULL, NULL},
        {ATL_NO_VERB, "/nodes", NULL, NULL},
        {ATL_GET, "/Nodes", NULL, NULL},
        {ATL_GET, "/nodes/a", NULL, NULL},
        {ATL_GET, "/nodes/a/qemu/100", "Guest", "100"},
        {ATL_DELETE, "/nodes/a/qemu/100", "Remove", "100"},
        {ATL_GET, "/nodes/a/qemu/100/status/current", "Status", "100"},
        {ATL_GET, "/nodes/a/qemu/100/status/start", NULL, NULL},
        {ATL_POST, "/nodes/a/qemu/100/status/start", "Start", "100"},
        {ATL_GET, "/nodes/a/qemu/all/deep", "Special", "a"},
        {ATL_GET, "/nodes/a/qemu/all", "Guest", "all"}, /* the fixed segment leads nowhere */
        {ATL_GET, "/nodes/a/qemu/all/status/current", "Status", "all"},
        {ATL_GET, "/nodes/a/storage/s/content/s:iso/x.iso", "Volume", "s:iso/x.iso"},
        {ATL_GET, "/nodes/a/storage/s/content/s:iso%2Fx.iso", "Volume", "s:iso/x.iso"},
        {ATL_GET, "/nodes/a/storage/s/content/s:100/../../etc/passwd", "Volume", "s:100/../../etc/passwd"},
        {ATL_GET, "/nodes/a/storage/s/content", NULL, NULL},
        {ATL_GET, "/pools/a%2Fb", "Pool", "a/b"},
        {ATL_GET, "/pools/a/b", NULL, NULL},
        {ATL_GET, "/pools/%zz", NULL, NULL},
        {ATL_GET, "/pools/a%00", NULL, NULL},
        {ATL_GET, "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z", NULL, NULL},
    };
    struct atl_arena arena = {0};
    const struct gw_router *router = gw_router_new(contract, &arena);
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct gw_match match;
        gw_router_find(router, cases[i].verb, cases[i].path, &arena, &match);
        if ((match.rpc == NULL) != (cases[i].name == NULL))
            fail_msg("'%s': %s", cases[i].path, match.rpc == NULL ? "no method" : match.rpc->name);
        if (match.rpc == NULL)
            continue;
        assert_string_equal(match.rpc->name, cases[i].name);
        if (cases[i].last != NULL)
            assert_string_equal(match.params[match.param_count - 1].value, cases[i].last);
    }
    struct gw_match match;
    gw_router_find(router, ATL_POST, "/nodes/n1/qemu/7/status/start", &arena, &match);
    assert_int_equal(match.param_count, 2);
    assert_string_equal(match.params[0].name, "node");
    assert_string_equal(match.params[0].value, "n1");
    assert_string_equal(match.params[1].name, "vmid");
    assert_string_equal(match.params[1].value, "7");
    atl_arena_done(&arena);
}

static void prefixes_name_the_form(void **state)
{
    (void)state;
    const char *rest = NULL;
    assert_int_equal(gw_form_cut("/api2/json/nodes", &rest), GW_FORM_JSON);
    assert_string_equal(rest, "/nodes");
    assert_int_equal(gw_form_cut("/api2/extjs", &rest), GW_FORM_EXTJS);
    assert_string_equal(rest, "/");
    assert_int_equal(gw_form_cut("/api2/png/x", &rest), GW_FORM_UNKNOWN);
    assert_int_equal(gw_form_cut("/api2/jsonx/x", &rest), GW_FORM_UNKNOWN);
    assert_int_equal(gw_form_cut("/api2", &rest), GW_FORM_NONE);
    assert_int_equal(gw_form_cut("/", &rest), GW_FORM_NONE);
}

static void every_code_has_its_status(void **state)
{
    (void)state;
    static const struct {
        enum atl_code code;
        enum gw_origin origin;
        int status;
    } rows[] = {
        {ATL_OK, GW_FROM_SERVICE, 200},
        {ATL_E_CANCELLED, GW_FROM_SERVICE, 500},
        {ATL_E_UNKNOWN, GW_FROM_SERVICE, 500},
        {ATL_E_INVALID, GW_FROM_SERVICE, 400},
        {ATL_E_DEADLINE, GW_FROM_SERVICE, 500},
        {ATL_E_ABSENT, GW_FROM_SERVICE, 500},
        {ATL_E_EXISTS, GW_FROM_SERVICE, 500},
        {ATL_E_DENIED, GW_FROM_SERVICE, 403},
        {ATL_E_LIMIT, GW_FROM_SERVICE, 500},
        {ATL_E_STATE, GW_FROM_SERVICE, 500},
        {ATL_E_CONFLICT, GW_FROM_SERVICE, 500},
        {ATL_E_RANGE, GW_FROM_SERVICE, 500},
        {ATL_E_UNIMPLEMENTED, GW_FROM_SERVICE, 501},
        {ATL_E_INTERNAL, GW_FROM_SERVICE, 500},
        {ATL_E_UNAVAILABLE, GW_FROM_SERVICE, 500},
        {ATL_E_IO, GW_FROM_SERVICE, 500},
        {ATL_E_UNAUTHENTICATED, GW_FROM_SERVICE, 401},
        {ATL_E_UNAVAILABLE, GW_NOT_REACHED, 595},
        {ATL_E_UNAVAILABLE, GW_CONNECTION_BROKE, 596},
        {ATL_E_DEADLINE, GW_CONNECTION_BROKE, 500},
        {ATL_CODES, GW_FROM_SERVICE, 500},
    };
    for (size_t i = 0; i < ATL_COUNT(rows); i++)
        assert_int_equal(gw_status_of(rows[i].code, rows[i].origin), rows[i].status);
    struct atl_error error = {.code = ATL_E_INVALID, .text = "is too long"};
    assert_string_equal(gw_status_sentence(&error, false), "is too long");
    assert_string_equal(gw_status_sentence(&error, true), "Parameter verification failed.");
    (void)atl_copy(error.field, sizeof error.field, "name");
    assert_string_equal(gw_status_sentence(&error, false), "Parameter verification failed.");
    error = (struct atl_error){.code = ATL_E_EXISTS, .text = "CT 100 already exists on node 'pve'"};
    assert_string_equal(gw_status_sentence(&error, false), "CT 100 already exists on node 'pve'");
}

static void query_beats_body_and_the_path_beats_both(void **state)
{
    (void)state;
    struct atl_arena arena = {0};
    struct atl_errors errors = {0};
    const struct gw_match match = {.rpc = &rpcs[3], .param_count = 1, .params = {{"vmid", "100"}}};
    struct atl_param query_items[] = {{"a", "query"}, {"_dc", "123"}, {"vmid", "100"}};
    struct atl_param body_items[] = {{"a", "body"}, {"b", "body"}, {"b", "again"}, {"_dc", "4"}};
    const struct gw_params query = {query_items, ATL_COUNT(query_items)};
    const struct gw_params body = {body_items, ATL_COUNT(body_items)};
    struct gw_params all = {0};
    assert_int_equal(gw_params_merge(&match, &query, &body, &arena, &all, &errors), ATL_OK);
    assert_int_equal(all.count, 4);
    assert_string_equal(gw_params_find(&all, "vmid"), "100");
    assert_string_equal(gw_params_find(&all, "a"), "query");
    assert_string_equal(all.items[2].value, "body");
    assert_string_equal(all.items[3].value, "again");

    struct atl_param other_items[] = {{"vmid", "101"}};
    const struct gw_params other = {other_items, 1};
    assert_int_equal(gw_params_merge(&match, &query, &other, &arena, &all, &errors), ATL_E_INVALID);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0].field, "vmid");
    assert_non_null(strstr(errors.items[0].text, "duplicate parameter"));
    atl_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_find_their_methods),
        cmocka_unit_test(prefixes_name_the_form),
        cmocka_unit_test(every_code_has_its_status),
        cmocka_unit_test(query_beats_body_and_the_path_beats_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
