/* Whose assertions count: those of nodes that the tree has a key of, and none any more when it is gone. */
#include "atl_test.h"

#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/store/v1/identity.pb-c.h"
#include "io/guard.h"
#include "pure/assertion.h"

#define NOW 1000

static struct atl_arena arena;
static struct atl_error err;
static struct atl_keeper *keeper;
static const uint8_t keys[][ATL_KEY_SIZE] = {{1, 1}, {2, 2}};
static const char *const nodes[] = {"n1", "n2"};

static void feed_key(const char *node, const uint8_t *secret)
{
    uint8_t public_key[ATL_KEY_SIZE];
    atl_assertion_public(secret, public_key);
    ProtobufCBinaryData key = {.data = public_key, .len = sizeof public_key};
    Atoll__Store__V1__NodeKeys record = ATOLL__STORE__V1__NODE_KEYS__INIT;
    record.n_ed25519 = 1;
    record.ed25519 = &key;
    uint8_t bytes[256];
    size_t size = atoll__store__v1__node_keys__pack(&record, bytes);
    atl_keeper_feed(keeper, atl_arena_format(&arena, ".state/key/%s", node), (const char *)bytes, size);
}

static int set_up(void **state)
{
    (void)state;
    static const char users[] = "user:admin@pve:1:0::::::\nacl:1:/:admin@pve:Administrator:\n";
    keeper = atl_keeper_new(NULL, NULL);
    atl_keeper_set_time(keeper, NOW);
    atl_keeper_feed(keeper, "user.cfg", users, sizeof users - 1);
    for (size_t i = 0; i < ATL_COUNT(nodes); i++)
        feed_key(nodes[i], keys[i]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    atl_keeper_free(&keeper);
    atl_arena_done(&arena);
    return 0;
}

static const uint8_t *sign(const char *node, const uint8_t *secret, size_t *ret_size)
{
    const struct atl_assertion assertion = {
        .user = "admin@pve", .node = node, .issued = NOW, .expires = NOW + ATL_ASSERTION_LIFE};
    return atl_assertion_sign(&assertion, secret, &arena, ret_size);
}

static enum atl_code admit(const uint8_t *assertion, size_t size)
{
    const struct atl_guard guard = atl_keeper_guard(keeper);
    const Atoll__Cluster__V1__ListNodesRequest input = ATOLL__CLUSTER__V1__LIST_NODES_REQUEST__INIT;
    struct atl_principal principal = {.service = "api-gateway"};
    return guard.admit(guard.self, &atl_rpc_cluster_v1_Cluster_ListNodes, &input.base, assertion, size,
                       &arena, &principal, &err);
}

static void a_removed_nodes_assertions_are_refused_also_those_that_were_good(void **state)
{
    (void)state;
    size_t size = 0;
    size_t other_size = 0;
    const uint8_t *said = sign("n2", keys[1], &size);
    const uint8_t *others = sign("n1", keys[0], &other_size);
    assert_atl_ok(admit(said, size), &err);
    assert_atl_ok(admit(others, other_size), &err);
    atl_keeper_feed(keeper, ".state/key/n2", NULL, 0);
    assert_int_equal(admit(said, size), ATL_E_UNAUTHENTICATED); /* it was verified, and is forgotten */
    assert_atl_ok(admit(others, other_size), &err);
    size_t fresh_size = 0;
    const uint8_t *fresh = sign("n2", keys[1], &fresh_size);
    assert_int_equal(admit(fresh, fresh_size), ATL_E_UNAUTHENTICATED);
}

static void a_node_does_not_speak_in_the_name_of_another(void **state)
{
    (void)state;
    size_t size = 0;
    const uint8_t *said = sign("n1", keys[1], &size);
    assert_int_equal(admit(said, size), ATL_E_UNAUTHENTICATED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_removed_nodes_assertions_are_refused_also_those_that_were_good,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_does_not_speak_in_the_name_of_another, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
