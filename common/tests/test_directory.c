/* The directory: what it takes for a record, whose a key is, the copy on disk. */
#include "bus_rig.h"

#include <sys/stat.h>

struct fixture {
    struct atl_directory *directory;
    size_t changes;
    char path[64];
};

static void changed(void *user)
{
    struct fixture *f = user;
    f->changes++;
}

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    f->directory = atl_directory_new();
    atl_directory_on_change(f->directory, changed, f);
    (void)snprintf(f->path, sizeof f->path, "/tmp/atl-directory-%d", (int)getpid());
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    atl_directory_free(&f->directory);
    (void)unlink(f->path); /* not every test makes it */
    free(f);
    return 0;
}

static struct rig_node make_node(const char *address, uint8_t first_key)
{
    struct rig_node node = {.key_count = 0};
    assert_true(atl_copy(node.address, sizeof node.address, address));
    uint8_t key[ATL_BUS_KEY_SIZE] = {first_key};
    rig_set_key(&node, "compute-agent", key);
    key[1] = 1;
    rig_set_key(&node, "ha-lrm", key);
    return node;
}

static void feed(const struct fixture *f, const char *name, struct rig_node node)
{
    uint8_t packed[ATL_DIRECTORY_RECORD];
    size_t size = rig_pack(&node, packed);
    atl_directory_feed(f->directory, name, packed, size);
}

/* A host that is no node: its key is one like others', and whoever counts nodes sees what it is. */
static void an_associate_is_known_as_one_also_from_the_copy(void **state)
{
    struct fixture *f = *state;
    uint8_t key[ATL_BUS_KEY_SIZE] = {7};
    uint8_t packed[ATL_DIRECTORY_RECORD];
    char address[] = "10.0.0.9";
    char service[] = "api-gateway";
    Atoll__Store__V1__ServiceKey line = ATOLL__STORE__V1__SERVICE_KEY__INIT;
    Atoll__Store__V1__ServiceKey *lines[] = {&line};
    Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
    line.service = service;
    line.public_key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    record.address = address;
    record.n_key = 1;
    record.key = lines;
    atl_directory_keep(f->directory, f->path);
    size_t size = atoll__store__v1__directory_node__pack(&record, packed);
    atl_directory_feed(f->directory, "front1", packed, size);
    assert_false(atl_directory_node(f->directory, "front1")->associate);
    record.has_associate = record.associate = 1;
    size = atoll__store__v1__directory_node__pack(&record, packed);
    atl_directory_feed(f->directory, "front1", packed, size);
    assert_int_equal(f->changes, 2); /* nothing else is different */
    struct atl_directory *again = atl_directory_new();
    atl_directory_keep(again, f->path);
    const char *whose = NULL;
    const char *node = NULL;
    assert_true(atl_directory_node(again, "front1")->associate);
    assert_true(atl_directory_owner(again, key, &whose, &node));
    assert_string_equal(whose, "api-gateway");
    atl_directory_free(&again);
}

static void keys_are_found_both_ways_and_go_with_their_record(void **state)
{
    struct fixture *f = *state;
    feed(f, "n2", make_node("10.0.0.2", 2));
    feed(f, "n1", make_node("fd00::1", 1));
    assert_int_equal(f->changes, 2);
    feed(f, "n1", make_node("fd00::1", 1));
    assert_int_equal(f->changes, 2); /* nothing is different */
    assert_string_equal(atl_directory_at(f->directory, 0)->node, "n1");
    const uint8_t *key = atl_directory_key(f->directory, "ha-lrm", "n2");
    const char *service = NULL;
    const char *node = NULL;
    assert_true(atl_directory_owner(f->directory, key, &service, &node));
    assert_string_equal(service, "ha-lrm");
    assert_string_equal(node, "n2");
    assert_null(atl_directory_key(f->directory, "sdn-agent", "n2"));
    uint8_t old[ATL_BUS_KEY_SIZE];
    memcpy(old, key, sizeof old);
    atl_directory_feed(f->directory, "n2", NULL, 0);
    assert_false(atl_directory_owner(f->directory, old, &service, &node));
    assert_null(atl_directory_node(f->directory, "n2"));
    assert_int_equal(f->changes, 3);
    atl_directory_drop_listener(f->directory, changed, f);
    atl_directory_feed(f->directory, "n1", NULL, 0);
    assert_int_equal(f->changes, 3);
}

static void a_key_that_two_claim_is_nobodys(void **state)
{
    struct fixture *f = *state;
    const char *service = NULL;
    const char *node = NULL;
    feed(f, "n1", make_node("10.0.0.1", 1));
    const uint8_t key[ATL_BUS_KEY_SIZE] = {1};
    assert_true(atl_directory_owner(f->directory, key, &service, &node));
    feed(f, "n2", make_node("10.0.0.2", 1));
    assert_false(atl_directory_owner(f->directory, key, &service, &node));
}

static void what_is_no_record_admits_nobody(void **state)
{
    struct fixture *f = *state;
    static const char *const addresses[] = {"", "node1", "10.0.0", "10.0.0.1:80", "[fd00::1]", "*"};
    for (size_t i = 0; i < ATL_COUNT(addresses); i++) {
        feed(f, "n1", make_node("10.0.0.1", 1));
        assert_int_equal(atl_directory_count(f->directory), 1);
        feed(f, "n1", make_node(addresses[i], 1));
        assert_int_equal(atl_directory_count(f->directory), 0);
    }
    static const char *const names[] = {"", "a@b", "../x", "a b"};
    for (size_t i = 0; i < ATL_COUNT(names); i++)
        feed(f, names[i], make_node("10.0.0.1", 1));
    atl_directory_feed(f->directory, "n1", "\xff\xff", 2);
    struct rig_node root = make_node("10.0.0.1", 1);
    const uint8_t key[ATL_BUS_KEY_SIZE] = {9};
    rig_set_key(&root, "cli", key); /* nobody is root from afar */
    feed(f, "n1", root);
    struct rig_node twice = make_node("10.0.0.1", 1);
    (void)atl_copy(twice.services[1], sizeof twice.services[1], "compute-agent");
    feed(f, "n1", twice);
    assert_int_equal(atl_directory_count(f->directory), 0);
}

static void there_is_room_for_so_many_nodes(void **state)
{
    struct fixture *f = *state;
    char name[16];
    for (int i = 0; i < ATL_DIRECTORY_NODES + 5; i++) {
        (void)snprintf(name, sizeof name, "n%d", i);
        feed(f, name, make_node("10.0.0.1", 1));
    }
    assert_int_equal(atl_directory_count(f->directory), ATL_DIRECTORY_NODES);
    assert_int_equal(f->changes, ATL_DIRECTORY_NODES);
    feed(f, "n7", make_node("10.0.0.9", 1)); /* those that are in it can still change */
    assert_string_equal(atl_directory_node(f->directory, "n7")->address, "10.0.0.9");
}

static void the_copy_on_disk_is_the_same_and_private(void **state)
{
    struct fixture *f = *state;
    atl_directory_keep(f->directory, f->path);
    feed(f, "n1", make_node("10.0.0.1", 1));
    feed(f, "n2", make_node("10.0.0.2", 2));
    feed(f, "n3", make_node("10.0.0.3", 3));
    atl_directory_feed(f->directory, "n2", NULL, 0);
    struct stat status;
    assert_int_equal(stat(f->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    struct atl_directory *again = atl_directory_new();
    atl_directory_keep(again, f->path);
    assert_int_equal(atl_directory_count(again), 2);
    for (size_t i = 0; i < 2; i++)
        assert_memory_equal(atl_directory_at(again, i), atl_directory_at(f->directory, i),
                            sizeof(struct atl_directory_node));
    atl_directory_free(&again);
    /* cut off anywhere: what is whole counts */
    for (off_t size = status.st_size - 1; size >= 0; size -= 7) {
        assert_int_equal(truncate(f->path, size), 0);
        again = atl_directory_new();
        atl_directory_keep(again, f->path);
        assert_true(atl_directory_count(again) < 2);
        atl_directory_free(&again);
    }
}

static void the_ports_are_those_of_the_decision(void **state)
{
    (void)state;
    assert_int_equal(atl_directory_port("config-store"), 8100);
    assert_int_equal(atl_directory_port("compute-agent"), 8102);
    assert_int_equal(atl_directory_port("ha-lrm"), 8110);
    assert_int_equal(atl_directory_port("api-gateway"), 8114);
    assert_int_equal(atl_directory_port("cli"), 0);
}

#define directory_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        directory_test(keys_are_found_both_ways_and_go_with_their_record),
        directory_test(an_associate_is_known_as_one_also_from_the_copy),
        directory_test(a_key_that_two_claim_is_nobodys),
        directory_test(what_is_no_record_admits_nobody),
        directory_test(there_is_room_for_so_many_nodes),
        directory_test(the_copy_on_disk_is_the_same_and_private),
        directory_test(the_ports_are_those_of_the_decision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
