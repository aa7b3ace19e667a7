/* Several nodes in one process for tests of the bus: each with a run folder, a directory, keys and an address
 * of 127.0.0.0/8; what one announces is fed to all. */
#ifndef ATL_TESTS_BUS_RIG_H
#define ATL_TESTS_BUS_RIG_H

#include "atl_test.h"

#include <ftw.h>
#include <unistd.h>

#include "atoll/store/v1/directory.pb-c.h"
#include "bus_contract.h"
#include "io/bus_internal.h"

enum { RIG_NODES = 4, RIG_KEYS = 4 };

struct rig_node {
    char name[16];
    char address[32];
    struct atl_directory *directory; /* as this node knows it */
    char services[RIG_KEYS][32];
    uint8_t keys[RIG_KEYS][ATL_BUS_KEY_SIZE];
    size_t key_count;
};

struct rig {
    char dir[32];
    struct atl_loop *loop;
    struct rig_node nodes[RIG_NODES];
};

/* Addresses differ from those of other tests that run now: 19 bits of the process id, 5 of the number. */
static inline void rig_address(struct rig_node *node, unsigned int number)
{
    unsigned int host = ((unsigned int)getpid() << 5 | (number + 1)) & 0xffffff;
    (void)snprintf(node->address, sizeof node->address, "127.%u.%u.%u", host >> 16, host >> 8 & 255,
                   host & 255);
}

static inline void rig_open(struct rig *rig)
{
    (void)snprintf(rig->dir, sizeof rig->dir, "/tmp/atl-bus-XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    rig->loop = atl_loop_new();
    for (unsigned int i = 0; i < RIG_NODES; i++) {
        (void)snprintf(rig->nodes[i].name, sizeof rig->nodes[i].name, "n%u", i + 1);
        rig_address(&rig->nodes[i], i);
        rig->nodes[i].directory = atl_directory_new();
    }
}

static inline int rig_remove(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static inline void rig_close(struct rig *rig)
{
    atl_loop_free(rig->loop);
    for (size_t i = 0; i < RIG_NODES; i++)
        atl_directory_free(&rig->nodes[i].directory);
    (void)nftw(rig->dir, rig_remove, 8, FTW_DEPTH | FTW_PHYS);
}

static inline size_t rig_pack(struct rig_node *node, uint8_t packed[ATL_DIRECTORY_RECORD])
{
    Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
    Atoll__Store__V1__ServiceKey keys[RIG_KEYS];
    Atoll__Store__V1__ServiceKey *pointers[RIG_KEYS];
    record.address = node->address;
    for (size_t i = 0; i < node->key_count; i++) {
        atoll__store__v1__service_key__init(&keys[i]);
        keys[i].service = node->services[i];
        keys[i].public_key = (ProtobufCBinaryData){.len = ATL_BUS_KEY_SIZE, .data = node->keys[i]};
        pointers[i] = &keys[i];
    }
    record.n_key = node->key_count;
    record.key = pointers;
    return atoll__store__v1__directory_node__pack(&record, packed);
}

/* Node `at` hears what the record of node `of` is now; gone: that there is none. */
static inline void rig_tell(struct rig *rig, unsigned int at, unsigned int of, bool gone)
{
    uint8_t packed[ATL_DIRECTORY_RECORD];
    size_t size = rig_pack(&rig->nodes[of], packed);
    atl_directory_feed(rig->nodes[at].directory, rig->nodes[of].name, gone ? NULL : packed, size);
}

static inline void rig_tell_all(struct rig *rig, unsigned int of, bool gone)
{
    for (unsigned int i = 0; i < RIG_NODES; i++)
        rig_tell(rig, i, of, gone);
}

static inline void rig_set_key(struct rig_node *node, const char *service, const uint8_t *key)
{
    size_t at = 0;
    while (at < node->key_count && strcmp(node->services[at], service) != 0)
        at++;
    assert_true(at < RIG_KEYS);
    assert_true(atl_copy(node->services[at], sizeof node->services[at], service));
    memcpy(node->keys[at], key, ATL_BUS_KEY_SIZE);
    if (at == node->key_count)
        node->key_count++;
}

/* A bus of a node, in the cluster; nobody knows its key yet. */
static inline struct atl_bus *rig_bus(struct rig *rig, unsigned int at, const char *service)
{
    static const char *const callers[] = {"cli", NULL};
    struct rig_node *node = &rig->nodes[at];
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    ATL_FREE_AT_EXIT char *run_dir = atl_format("%s/%s", rig->dir, node->name);
    ATL_FREE_AT_EXIT char *key_file = atl_format("%s/%s-%s.key", rig->dir, service, node->name);
    const struct atl_bus_options options = {.loop = rig->loop,
                                            .service = service,
                                            .node = node->name,
                                            .run_dir = run_dir,
                                            .version = "1.2.3",
                                            .make_folders = callers};
    assert_atl_ok(atl_bus_open(&options, &bus, &err), &err);
    const struct atl_bus_cluster cluster = {.directory = node->directory, .key_file = key_file};
    assert_atl_ok(atl_bus_join_cluster(bus, &cluster, &err), &err);
    rig_set_key(node, service, atl_bus_public_key(bus));
    return bus;
}

static inline void rig_run_until(struct rig *rig, const size_t *counter, size_t wanted)
{
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    while (*counter < wanted && atl_clock_monotonic() < end)
        atl_loop_step(rig->loop, 50 * ATL_MS);
    assert_true(*counter >= wanted);
}

static inline void rig_run_for(struct rig *rig, atl_ns span)
{
    atl_ns end = atl_clock_monotonic() + span;
    while (atl_clock_monotonic() < end)
        atl_loop_step(rig->loop, 5 * ATL_MS);
}

#endif
