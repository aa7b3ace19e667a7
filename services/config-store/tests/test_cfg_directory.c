/* The directory through a real config-store: keys are announced, mirrors carry them, removal takes them away.
 */
#include "atl_test.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atoll/store/v1/directory.atl.h"
#include "atoll/store/v1/store.atl.h"
#include "cfg_fixture.h"
#include "io/directory_follow.h"

static struct cfg_fixture f;
static struct atl_error err;
static char address[32];

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(address, sizeof address, "127.78.%d.%d", (int)getpid() / 250 % 250,
                   1 + (int)getpid() % 250);
    cfg_fixture_init(&f);
    ATL_FREE_AT_EXIT char *own = atl_format("%s/run/bus/config-store/config-store", f.dir);
    assert_int_equal(mkdir(own, 0700), 0); /* it mirrors the directory like the others */
    cfg_fixture_start(&f);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int status = cfg_fixture_stop(&f, SIGTERM);
    cfg_fixture_done(&f);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

static void put_record(const char *node, bool gone, Atoll__Store__V1__ServiceKey *key)
{
    Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
    uint8_t packed[ATL_DIRECTORY_RECORD];
    record.n_key = key != NULL;
    record.key = &key;
    struct atl_txn txn ATL_TXN_AT_EXIT;
    struct atl_revision after;
    ATL_FREE_AT_EXIT char *path = atl_format("%s%s", ATL_DIRECTORY_PREFIX, node);
    record.address = address;
    atl_txn_init(&txn);
    if (gone)
        atl_txn_delete(&txn, path);
    else
        atl_txn_put(&txn, path, packed, atoll__store__v1__directory_node__pack(&record, packed));
    assert_atl_ok(atl_txn_send_wait(f.cli, &txn, 0, &after, &err), &err);
}

static void write_record(const char *node, bool gone)
{
    put_record(node, gone, NULL);
}

static void write_record_with(const char *node, char *service, const uint8_t *key)
{
    uint8_t bytes[ATL_BUS_KEY_SIZE];
    Atoll__Store__V1__ServiceKey line = ATOLL__STORE__V1__SERVICE_KEY__INIT;
    memcpy(bytes, key, sizeof bytes);
    line.service = service;
    line.public_key = (ProtobufCBinaryData){.len = sizeof bytes, .data = bytes};
    put_record(node, false, &line);
}

static enum atl_code announce(struct atl_bus *from, uint8_t *key, size_t size, bool *ret_unchanged)
{
    Atoll__Store__V1__AnnounceRequest input = ATOLL__STORE__V1__ANNOUNCE_REQUEST__INIT;
    input.public_key = (ProtobufCBinaryData){.len = size, .data = key};
    const void *output = NULL;
    enum atl_code code =
        cfg_fixture_call(&f, from, &atl_rpc_store_v1_Directory_Announce, &input, NULL, &output, &err);
    if (code == ATL_OK)
        *ret_unchanged = ((const Atoll__Store__V1__AnnounceReply *)output)->unchanged;
    return code;
}

static void a_key_goes_under_the_name_of_its_folder(void **state)
{
    (void)state;
    uint8_t first[ATL_BUS_KEY_SIZE] = {1};
    uint8_t second[ATL_BUS_KEY_SIZE] = {2};
    bool unchanged = true;
    assert_int_equal(announce(f.compute, first, sizeof first, &unchanged), ATL_E_STATE);
    assert_string_equal(err.text, "node 'pve1' is in no cluster");
    write_record("pve1", false);
    assert_int_equal(announce(f.compute, first, 31, &unchanged), ATL_E_INVALID);
    assert_string_equal(err.field, "public_key");
    assert_int_equal(announce(f.cli, first, sizeof first, &unchanged), ATL_E_DENIED);
    assert_atl_ok(announce(f.compute, first, sizeof first, &unchanged), &err);
    assert_false(unchanged);
    assert_atl_ok(announce(f.compute, first, sizeof first, &unchanged), &err);
    assert_true(unchanged);
    assert_atl_ok(announce(f.storage, second, sizeof second, &unchanged), &err);
    struct atl_file file;
    assert_atl_ok(atl_store_get_wait(f.cli, ".state/directory/pve1", &f.arena, &file, &err), &err);
    struct atl_directory *directory = atl_directory_new();
    atl_directory_feed(directory, "pve1", file.bytes, file.size);
    assert_memory_equal(atl_directory_key(directory, "compute-agent", "pve1"), first, sizeof first);
    assert_memory_equal(atl_directory_key(directory, "storage-agent", "pve1"), second, sizeof second);
    assert_string_equal(atl_directory_node(directory, "pve1")->address, address);
    atl_directory_free(&directory);
}

/* --- following --- */

struct following {
    struct atl_directory *directory;
    struct atl_mirror *mirror;
    struct atl_follower *follower;
};

static struct following follow(struct atl_bus *bus, const char *name, bool keep)
{
    struct following made = {.directory = atl_directory_new()};
    ATL_FREE_AT_EXIT char *copy = atl_format("%s/%s.directory", f.dir, name);
    ATL_FREE_AT_EXIT char *key = atl_format("%s/%s.key", f.dir, name);
    if (keep)
        atl_directory_keep(made.directory, copy);
    const struct atl_bus_cluster cluster = {.directory = made.directory, .key_file = key};
    assert_atl_ok(atl_bus_join_cluster(bus, &cluster, &err), &err);
    made.mirror = atl_mirror_open(bus, (const char *const[]){ATL_DIRECTORY_PREFIX, NULL});
    made.follower = atl_directory_follow(bus, made.mirror, made.directory);
    return made;
}

static void unfollow(struct following *following, struct atl_bus **bus)
{
    atl_directory_unfollow(&following->follower);
    atl_mirror_close(&following->mirror);
    atl_bus_close(bus); /* before the directory it was in */
    atl_directory_free(&following->directory);
}

static void step_until_key(const struct atl_directory *directory, const char *service, const uint8_t *key)
{
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    const uint8_t *said = NULL;
    while (atl_clock_monotonic() < end) {
        said = atl_directory_key(directory, service, "pve1");
        if (said != NULL && memcmp(said, key, ATL_BUS_KEY_SIZE) == 0)
            return;
        atl_loop_step(f.loop, 50 * ATL_MS);
    }
    fail_msg("%s: the directory does not say what it should", service);
}

static void step_until_empty(const struct atl_directory *directory)
{
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    while (atl_directory_count(directory) > 0 && atl_clock_monotonic() < end)
        atl_loop_step(f.loop, 50 * ATL_MS);
    assert_int_equal(atl_directory_count(directory), 0);
}

static void step_until_any_key(const struct atl_directory *directory, const char *service)
{
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    while (atl_directory_key(directory, service, "pve1") == NULL && atl_clock_monotonic() < end)
        atl_loop_step(f.loop, 50 * ATL_MS);
    assert_non_null(atl_directory_key(directory, service, "pve1"));
}

static void services_announce_themselves_and_learn_of_each_other(void **state)
{
    (void)state;
    struct following compute = follow(f.compute, "compute-agent", false);
    struct following storage = follow(f.storage, "storage-agent", false);
    write_record("pve1", false); /* the node comes into a cluster */
    step_until_key(compute.directory, "compute-agent", atl_bus_public_key(f.compute));
    step_until_key(compute.directory, "storage-agent", atl_bus_public_key(f.storage));
    step_until_key(storage.directory, "compute-agent", atl_bus_public_key(f.compute));
    step_until_any_key(storage.directory, "config-store"); /* which announces its own to itself */
    write_record("pve1", false);                           /* somebody wrote it anew, without keys */
    step_until_key(compute.directory, "storage-agent", atl_bus_public_key(f.storage));
    step_until_key(compute.directory, "compute-agent", atl_bus_public_key(f.compute));
    write_record("pve1", true);
    step_until_empty(compute.directory); /* the record without keys may come on the way */
    unfollow(&compute, &f.compute);
    unfollow(&storage, &f.storage);
}

/* config-store answers over tcp too: to a service of another node, by the name that its key has. */
static void config_store_serves_other_nodes(void **state)
{
    (void)state;
    struct following near = follow(f.compute, "compute-agent", false);
    write_record("pve1", false);
    step_until_key(near.directory, "compute-agent", atl_bus_public_key(f.compute));
    step_until_any_key(near.directory, "config-store");
    struct atl_bus *far = NULL;
    ATL_FREE_AT_EXIT char *key = atl_format("%s/far.key", f.dir);
    const struct atl_bus_options options = {
        .loop = f.loop, .service = "storage-agent", .node = "pve2", .run_dir = f.dir, .client_only = true};
    assert_atl_ok(atl_bus_open(&options, &far, &err), &err);
    const struct atl_bus_cluster cluster = {.directory = near.directory, .key_file = key};
    assert_atl_ok(atl_bus_join_cluster(far, &cluster, &err), &err);
    char service[] = "storage-agent";
    write_record_with("pve2", service, atl_bus_public_key(far));
    uint8_t bytes[ATL_BUS_KEY_SIZE] = {5};
    Atoll__Store__V1__AnnounceRequest announcement = ATOLL__STORE__V1__ANNOUNCE_REQUEST__INIT;
    announcement.public_key = (ProtobufCBinaryData){.len = sizeof bytes, .data = bytes};
    Atoll__Store__V1__GetRequest get = ATOLL__STORE__V1__GET_REQUEST__INIT;
    char path[] = ATL_DIRECTORY_PREFIX "pve1";
    get.path = path;
    const struct atl_call_options there = {.node = "pve1"};
    const void *output = NULL;
    assert_atl_ok(cfg_fixture_call(&f, far, &atl_rpc_store_v1_Store_Get, &get, &there, &output, &err), &err);
    assert_int_equal(
        cfg_fixture_call(&f, far, &atl_rpc_store_v1_Directory_Announce, &announcement, &there, &output, &err),
        ATL_E_DENIED);
    assert_string_equal(err.text, "a service announces its key on its own node");
    write_record("pve2", true);
    assert_int_equal(cfg_fixture_call(&f, far, &atl_rpc_store_v1_Store_Get, &get, &there, &output, &err),
                     ATL_E_UNAVAILABLE);
    atl_bus_close(&far);
    unfollow(&near, &f.compute);
}

static void the_copy_on_disk_counts_until_the_tree_is_read(void **state)
{
    (void)state;
    ATL_FREE_AT_EXIT char *copy = atl_format("%s/compute-agent.directory", f.dir);
    struct atl_directory *before = atl_directory_new();
    atl_directory_keep(before, copy);
    Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
    uint8_t packed[ATL_DIRECTORY_RECORD];
    record.address = address;
    atl_directory_feed(before, "gone", packed, atoll__store__v1__directory_node__pack(&record, packed));
    atl_directory_free(&before);
    write_record("pve1", false);
    struct following compute = follow(f.compute, "compute-agent", true);
    assert_non_null(atl_directory_node(compute.directory, "gone"));
    step_until_key(compute.directory, "compute-agent", atl_bus_public_key(f.compute));
    assert_null(atl_directory_node(compute.directory, "gone"));
    unfollow(&compute, &f.compute);
}

#define service_test(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        service_test(a_key_goes_under_the_name_of_its_folder),
        service_test(services_announce_themselves_and_learn_of_each_other),
        service_test(config_store_serves_other_nodes),
        service_test(the_copy_on_disk_counts_until_the_tree_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
