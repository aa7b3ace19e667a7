/* The small texts of a cluster: cluster.conf, etcd.yml, addresses, the join token. */
#include "atl_test.h"
#include "core/cluster_conf.h"
#include "core/status.h"
#include "core/witness_conf.h"

#define FINGERPRINT                                                                                          \
    "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99"

static void cluster_conf_is_read_as_it_was_written(void **state)
{
    (void)state;
    for (enum cfg_cluster_state i = CFG_MOVING; i < CFG_CLUSTER_STATES; i++) {
        struct cfg_cluster_conf conf = {.state = i,
                                        .cluster = "demo",
                                        .address = "fd00::1",
                                        .endpoints = "[fd00::1]:2379,[fd00::2]:2379"};
        struct cfg_cluster_conf read;
        struct atl_buf text ATL_BUF_AT_EXIT = {0};
        cfg_cluster_conf_write(&conf, &text);
        assert_int_equal(cfg_cluster_conf_read(text.data, &read, NULL), ATL_OK);
        assert_int_equal(read.state, i);
        assert_string_equal(read.cluster, conf.cluster);
        assert_string_equal(read.address, conf.address);
        assert_string_equal(read.endpoints, conf.endpoints);
    }
}

static void half_a_cluster_conf_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "state: member\n",
        "state: alone\ncluster: a\naddress: 10.0.0.1\nendpoints: 10.0.0.1:2379\n",
        "state: member\ncluster: a\naddress: 10.0.0.1\nendpoints: \n",
        "cluster: a\naddress: 10.0.0.1\nendpoints: 10.0.0.1:2379\n",
    };
    for (size_t i = 0; i < ATL_COUNT(texts); i++) {
        struct cfg_cluster_conf conf = {.state = CFG_ALONE};
        assert_int_equal(cfg_cluster_conf_read(texts[i], &conf, NULL), ATL_E_INVALID);
        assert_int_equal(conf.state, CFG_ALONE);
    }
}

static void endpoints_are_those_with_a_vote_and_ours_first(void **state)
{
    (void)state;
    struct cfg_corosync conf = {.count = 4,
                                .nodes = {{.name = "a", .id = 1, .votes = 1, .links = {"10.0.0.1"}},
                                          {.name = "b", .id = 2, .votes = 1, .links = {"fd00::2"}},
                                          {.name = "c", .id = 3, .votes = 0, .links = {"10.0.0.3"}},
                                          {.name = "d", .id = 4, .votes = 1, .links = {"10.0.0.4"}}}};
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    cfg_cluster_endpoints(&conf, "b", &text);
    assert_string_equal(text.data, "[fd00::2]:2379,10.0.0.1:2379,10.0.0.4:2379");
    atl_buf_reset(&text);
    cfg_cluster_endpoints(&conf, "c", &text);
    assert_string_equal(text.data, "10.0.0.1:2379,[fd00::2]:2379,10.0.0.4:2379");
    atl_buf_reset(&text);
    conf.qdevice_host = "10.0.0.9";
    cfg_cluster_endpoints(&conf, "d", &text);
    assert_string_equal(text.data, "10.0.0.4:2379,10.0.0.1:2379,[fd00::2]:2379,10.0.0.9:2379");
}

static void witness_conf_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct cfg_witness_conf conf = {.cluster = "demo",
                                    .address = "10.0.0.9",
                                    .generation = 3,
                                    .phase = CFG_ROTATION_USE,
                                    .gateways = "10.0.0.1:8006/" FINGERPRINT ",[fd00::2]:8006/" FINGERPRINT,
                                    .word = "0011aabb"};
    struct cfg_witness_conf read;
    struct cfg_gateway gateway;
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    cfg_witness_conf_write(&conf, &text);
    assert_int_equal(cfg_witness_conf_read(text.data, &read, NULL), ATL_OK);
    assert_string_equal(read.cluster, conf.cluster);
    assert_string_equal(read.address, conf.address);
    assert_string_equal(read.gateways, conf.gateways);
    assert_string_equal(read.word, conf.word);
    assert_int_equal(read.generation, 3);
    assert_int_equal(read.phase, CFG_ROTATION_USE);
    assert_int_equal(cfg_witness_gateway(&read, 5, &gateway, NULL), ATL_OK); /* round and round */
    assert_string_equal(gateway.endpoint, "[fd00::2]:8006");
    assert_string_equal(gateway.fingerprint, FINGERPRINT);
    assert_int_equal(cfg_witness_gateway(&read, 0, &gateway, NULL), ATL_OK);
    assert_string_equal(gateway.endpoint, "10.0.0.1:8006");
    atl_buf_reset(&text);
    conf.word[0] = '\0'; /* as those that were written before there was such a line */
    cfg_witness_conf_write(&conf, &text);
    assert_int_equal(cfg_witness_conf_read(text.data, &read, NULL), ATL_OK);
    assert_string_equal(read.word, "");
}

static void half_a_witness_conf_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "cluster: a\naddress: 10.0.0.9\ngeneration: 1\nphase: drop\n",
        "cluster: a\naddress: 10.0.0.9\ngeneration: 1\nphase: done\ngateways: x\n",
        "cluster: a\naddress: 10.0.0.9\ngeneration: x\nphase: drop\ngateways: x\n",
        "cluster: a\naddress: w\ngeneration: 1\nphase: drop\ngateways: x\n",
    };
    struct cfg_witness_conf conf = {.generation = 7};
    for (size_t i = 0; i < ATL_COUNT(texts); i++)
        assert_int_equal(cfg_witness_conf_read(texts[i], &conf, NULL), ATL_E_INVALID);
    assert_int_equal(conf.generation, 7);
    static const char *const gateways[] = {"", "10.0.0.1:8006", ("/" FINGERPRINT), "10.0.0.1:8006/AA:BB"};
    for (size_t i = 0; i < ATL_COUNT(gateways); i++) {
        struct cfg_gateway gateway;
        assert_true(atl_copy(conf.gateways, sizeof conf.gateways, gateways[i]));
        assert_int_equal(cfg_witness_gateway(&conf, 0, &gateway, NULL), ATL_E_INVALID);
    }
}

static void addresses_that_nobody_reaches_are_refused(void **state)
{
    (void)state;
    assert_true(cfg_address_valid("10.77.0.1"));
    assert_true(cfg_address_valid("fd00::1"));
    assert_false(cfg_address_valid("127.0.0.1"));
    assert_false(cfg_address_valid("::1"));
    assert_false(cfg_address_valid("node1"));
    assert_false(cfg_address_valid(""));
}

static void etcd_starts_new_or_with_the_members_it_is_told(void **state)
{
    (void)state;
    struct cfg_etcd_place place = {.dir = "/var/x", .node = "n2", .address = "10.0.0.2", .cluster = "demo"};
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    cfg_etcd_yml_write(&place, &text);
    assert_non_null(strstr(text.data, "initial-cluster: 'n2=https://10.0.0.2:2380'\n"));
    assert_non_null(strstr(text.data, "initial-cluster-state: 'new'\n"));
    atl_buf_reset(&text);
    place.members = "n1=https://10.0.0.1:2380,n2=https://10.0.0.2:2380";
    cfg_etcd_yml_write(&place, &text);
    assert_non_null(strstr(text.data, "initial-cluster-state: 'existing'\n"));
    assert_non_null(
        strstr(text.data, "initial-cluster: 'n1=https://10.0.0.1:2380,n2=https://10.0.0.2:2380'\n"));
    /* what the engine counts on, and that nobody comes in without a certificate */
    assert_non_null(strstr(text.data, "max-txn-ops: 1024\n"));
    assert_non_null(strstr(text.data, "max-request-bytes: 8388608\n"));
    const char *first = strstr(text.data, "client-cert-auth: true\n");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "client-cert-auth: true\n"));
    assert_null(strstr(text.data, "http://"));
}

static void a_join_token_is_one_word(void **state)
{
    (void)state;
    static const char word[] = "[fd00::1]:8006/" FINGERPRINT "/0011aabb.00112233445566778899aabbccddeeff";
    struct cfg_join_token token;
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    assert_int_equal(cfg_join_token_read(word, &token, NULL), ATL_OK);
    assert_string_equal(token.endpoint, "[fd00::1]:8006");
    assert_string_equal(token.fingerprint, FINGERPRINT);
    assert_string_equal(token.secret, "0011aabb.00112233445566778899aabbccddeeff");
    cfg_join_token_write(&token, &text);
    assert_string_equal(text.data, word);
}

static void what_is_no_join_token_is_refused(void **state)
{
    (void)state;
    static const char *const words[] = {
        "",
        "/",
        "//",
        "10.0.0.1:8006",
        "10.0.0.1:8006/" FINGERPRINT,
        "10.0.0.1:8006/" FINGERPRINT "/",
        "10.0.0.1:8006/" FINGERPRINT "/secret",
        "10.0.0.1/" FINGERPRINT "/0011aabb.0011",
        "10.0.0.1:8006/AA:BB/0011aabb.0011",
        "10.0.0.1:8006/" FINGERPRINT "/0011aabb.00112233445566778899aabbccddeeff00112233445566778899",
    };
    for (size_t i = 0; i < ATL_COUNT(words); i++) {
        struct cfg_join_token token;
        struct atl_error error = {0};
        assert_int_equal(cfg_join_token_read(words[i], &token, &error), ATL_E_INVALID);
        assert_string_equal(error.field, "token");
    }
}

static void nodes_come_and_go_with_their_membership(void **state)
{
    (void)state;
    struct cfg_status *status = cfg_status_new();
    size_t count = 0;
    cfg_status_node(status, "n2");
    cfg_status_node(status, "n1");
    cfg_status_node(status, "n3");
    cfg_status_member(status, "n2", true);
    cfg_status_member(status, "n9", true);
    struct cfg_node_row *const *rows = cfg_status_nodes(status, &count);
    assert_int_equal(count, 3);
    assert_string_equal(rows[1]->row.status, "online");
    cfg_status_member(status, "n2", false);
    assert_string_equal(rows[1]->row.status, "offline");
    cfg_status_forget_node(status, "n1");
    cfg_status_forget_node(status, "n9");
    rows = cfg_status_nodes(status, &count);
    assert_int_equal(count, 2);
    assert_string_equal(rows[0]->name, "n2");
    assert_string_equal(rows[1]->name, "n3");
    cfg_status_free(&status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cluster_conf_is_read_as_it_was_written),
        cmocka_unit_test(half_a_cluster_conf_is_refused),
        cmocka_unit_test(endpoints_are_those_with_a_vote_and_ours_first),
        cmocka_unit_test(witness_conf_is_read_as_it_was_written),
        cmocka_unit_test(half_a_witness_conf_is_refused),
        cmocka_unit_test(addresses_that_nobody_reaches_are_refused),
        cmocka_unit_test(etcd_starts_new_or_with_the_members_it_is_told),
        cmocka_unit_test(a_join_token_is_one_word),
        cmocka_unit_test(what_is_no_join_token_is_refused),
        cmocka_unit_test(nodes_come_and_go_with_their_membership),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
