/* corosync.conf: reading, writing, who joins and who leaves. */
#include "atl_test.h"

#include <string.h>

#include "core/corosync_conf.h"

static struct atl_arena arena;
static struct atl_error err;

static int tear_down(void **state)
{
    (void)state;
    atl_arena_done(&arena);
    return 0;
}

static struct cfg_corosync first(void)
{
    struct cfg_corosync conf = {.cluster = "lab", .token_coefficient = CFG_TOKEN_COEFFICIENT_MS};
    const struct cfg_corosync_node node = {.name = "n1", .links = {"10.0.0.1"}, .votes = UINT32_MAX};
    assert_atl_ok(cfg_corosync_add(&conf, &node, &err), &err);
    return conf;
}

static enum atl_code add(struct cfg_corosync *conf, const char *name, const char *address)
{
    const struct cfg_corosync_node node = {.name = name, .links = {address}, .votes = UINT32_MAX};
    return cfg_corosync_add(conf, &node, &err);
}

static void written_and_read_again_it_is_the_same(void **state)
{
    (void)state;
    struct cfg_corosync conf = first();
    struct cfg_corosync again;
    const struct cfg_corosync_place place = {.dir = "/var/lib/x/corosync", .user = "atoll-config"};
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    struct atl_buf twice ATL_BUF_AT_EXIT = {0};
    assert_int_equal(add(&conf, "n2", "10.0.0.2"), ATL_OK);
    conf.qdevice_host = "10.0.0.9";
    cfg_corosync_write(&conf, &place, &text);
    assert_atl_ok(cfg_corosync_read(text.data, text.length, &arena, &again, &err), &err);
    assert_string_equal(again.cluster, "lab");
    assert_int_equal(again.version, 2);
    assert_int_equal(again.count, 2);
    assert_string_equal(again.nodes[1].links[0], "10.0.0.2");
    assert_string_equal(again.qdevice_host, "10.0.0.9");
    cfg_corosync_write(&again, &place, &twice);
    assert_string_equal(text.data, twice.data);
    assert_non_null(strstr(text.data, "keyfile: /var/lib/x/corosync/authkey"));
    assert_null(strstr(text.data, "link_mode"));
}

static void the_file_of_the_tree_names_no_folder(void **state)
{
    (void)state;
    struct cfg_corosync conf = first();
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    cfg_corosync_write(&conf, &(const struct cfg_corosync_place){0}, &text);
    assert_null(strstr(text.data, "keyfile"));
    assert_null(strstr(text.data, "uidgid"));
}

static void two_links_are_both_used(void **state)
{
    (void)state;
    struct cfg_corosync conf = {.cluster = "lab"};
    const struct cfg_corosync_node node = {.name = "n1", .links = {"10.0.0.1", "10.1.0.1"}, .votes = 1};
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    assert_atl_ok(cfg_corosync_add(&conf, &node, &err), &err);
    cfg_corosync_write(&conf, &(const struct cfg_corosync_place){0}, &text);
    assert_non_null(strstr(text.data, "link_mode: active"));
    assert_non_null(strstr(text.data, "ring1_addr: 10.1.0.1"));
    assert_int_equal(add(&conf, "n2", "10.0.0.2"), ATL_E_INVALID);
    assert_string_equal(err.field, "link1");
}

static void what_is_taken_is_refused(void **state)
{
    (void)state;
    struct cfg_corosync conf = first();
    const struct cfg_corosync_node same_id = {.name = "n2", .id = 1, .links = {"10.0.0.2"}, .votes = 1};
    assert_int_equal(add(&conf, "n1", "10.0.0.2"), ATL_E_EXISTS);
    assert_int_equal(add(&conf, "n2", "10.0.0.1"), ATL_E_EXISTS);
    assert_string_equal(err.field, "link0");
    assert_int_equal(add(&conf, "n2", NULL), ATL_E_INVALID);
    assert_int_equal(cfg_corosync_add(&conf, &same_id, &err), ATL_E_EXISTS);
    assert_string_equal(err.field, "nodeid");
    assert_int_equal(conf.count, 1);
    assert_int_equal(conf.version, 1);
}

static void seven_vote_and_a_vote_that_is_free_is_given_on(void **state)
{
    (void)state;
    struct cfg_corosync conf = first();
    static const char *const names[] = {"n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"};
    static const char *const addresses[] = {"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5",
                                            "10.0.0.6", "10.0.0.7", "10.0.0.8", "10.0.0.9"};
    for (size_t i = 0; i < ATL_COUNT(names); i++)
        assert_int_equal(add(&conf, names[i], addresses[i]), ATL_OK);
    assert_int_equal(conf.nodes[6].votes, 1);
    assert_int_equal(conf.nodes[7].votes, 0);
    assert_atl_ok(cfg_corosync_remove(&conf, "n9", &err), &err);
    assert_int_equal(cfg_corosync_find(&conf, "n8")->votes, 0);
    assert_atl_ok(cfg_corosync_remove(&conf, "n3", &err), &err);
    assert_int_equal(cfg_corosync_find(&conf, "n8")->votes, 1);
    assert_int_equal(add(&conf, "n3", "10.0.0.3"), ATL_OK);
    assert_int_equal(cfg_corosync_find(&conf, "n3")->id, 3); /* the lowest that is free */
    assert_int_equal(cfg_corosync_find(&conf, "n3")->votes, 0);
    assert_int_equal(conf.version, 12);
}

static void the_last_node_stays(void **state)
{
    (void)state;
    struct cfg_corosync conf = first();
    assert_int_equal(cfg_corosync_remove(&conf, "n7", &err), ATL_E_ABSENT);
    assert_int_equal(cfg_corosync_remove(&conf, "n1", &err), ATL_E_STATE);
}

static void text_that_is_none_is_refused_with_its_line(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "totem {\n",
        "}\n",
        "totem {\n  config_version: x\n}\n",
        "a {\nb {\nc {\nd {\n}\n}\n}\n}\n",
        "nodelist {\n node {\n  nodeid: 1\n }\n}\n",
        "nonsense\n",
    };
    struct cfg_corosync conf;
    for (size_t i = 0; i < ATL_COUNT(bad); i++) {
        assert_int_equal(cfg_corosync_read(bad[i], strlen(bad[i]), &arena, &conf, &err), ATL_E_INVALID);
        assert_non_null(strstr(err.text, "line "));
    }
}

static void a_witness_is_for_an_even_number_of_equal_nodes(void **state)
{
    (void)state;
    static const char *const names[] = {"n2", "n3", "n4", "n5", "n6", "n7", "n8"};
    static const char *const addresses[] = {"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5",
                                            "10.0.0.6", "10.0.0.7", "10.0.0.8"};
    static const bool fits[] = {true, false, true, false, true, false, false}; /* the eighth has no vote */
    struct cfg_corosync conf = first();
    assert_false(cfg_corosync_fits_witness(&conf));
    for (size_t i = 0; i < ATL_COUNT(names); i++) {
        assert_int_equal(add(&conf, names[i], addresses[i]), ATL_OK);
        assert_int_equal(cfg_corosync_fits_witness(&conf), fits[i]);
    }
    struct cfg_corosync pair = first();
    assert_int_equal(add(&pair, "n2", "10.0.0.2"), ATL_OK);
    pair.nodes[1].votes = 2;
    assert_false(cfg_corosync_fits_witness(&pair));
}

static void a_witness_comes_and_goes_with_the_version(void **state)
{
    (void)state;
    struct cfg_corosync conf = first();
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    cfg_corosync_set_witness(&conf, "10.0.0.9");
    assert_int_equal(conf.version, 2);
    cfg_corosync_write(&conf, &(const struct cfg_corosync_place){0}, &text);
    assert_non_null(strstr(text.data, "      host: 10.0.0.9\n      tls: required\n"));
    cfg_corosync_set_witness(&conf, NULL);
    assert_int_equal(conf.version, 3);
    atl_buf_reset(&text);
    cfg_corosync_write(&conf, &(const struct cfg_corosync_place){0}, &text);
    assert_null(strstr(text.data, "device"));
}

static void detection_is_as_documented(void **state)
{
    (void)state;
    struct cfg_corosync conf = first();
    assert_int_equal(cfg_corosync_detection_ms(&conf), 2200);
    assert_int_equal(add(&conf, "n2", "10.0.0.2"), ATL_OK);
    assert_int_equal(add(&conf, "n3", "10.0.0.3"), ATL_OK);
    assert_int_equal(cfg_corosync_detection_ms(&conf), 2475);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(written_and_read_again_it_is_the_same, tear_down),
        cmocka_unit_test_teardown(the_file_of_the_tree_names_no_folder, tear_down),
        cmocka_unit_test_teardown(two_links_are_both_used, tear_down),
        cmocka_unit_test_teardown(what_is_taken_is_refused, tear_down),
        cmocka_unit_test_teardown(seven_vote_and_a_vote_that_is_free_is_given_on, tear_down),
        cmocka_unit_test_teardown(the_last_node_stays, tear_down),
        cmocka_unit_test_teardown(text_that_is_none_is_refused_with_its_line, tear_down),
        cmocka_unit_test_teardown(a_witness_is_for_an_even_number_of_equal_nodes, tear_down),
        cmocka_unit_test_teardown(a_witness_comes_and_goes_with_the_version, tear_down),
        cmocka_unit_test_teardown(detection_is_as_documented, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
