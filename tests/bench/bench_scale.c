/*
 * A cluster as large as one may get, on one machine: a real config-store on one real etcd and a real
 * compute-agent with the fake engine for every node, each node with an address of its own in 127.0.0.0/8, in
 * a network namespace of its own. What it costs and how long a change takes to be seen everywhere.
 *
 * usage: bench_scale [NODES GUESTS]...      root; default: 4 625 16 2500 64 10000
 */
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bench.h"
#include "etcd_rig.h"

#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/store/v1/directory.pb-c.h"
#include "atoll/store/v1/identity.atl.h"
#include "atoll/store/v1/status.atl.h"
#include "cfg_fixture.h"
#include "io/directory.h"
#include "io/mirror.h"

enum { NODES_MAX = 128, ROUNDS = 20, FIRST_ID = 10000, IDLE_S = 10 };

struct node {
    struct cfg_fixture f;
    char name[8];
    char address[32];
    pid_t agent;
    struct atl_mirror *mirror; /* of bench/, from this node's config-store */
    struct atl_call_options root;
    struct atl_arena keep;
};

static struct rig rig;
static struct node *nodes;
static size_t node_count;
static size_t guest_count;

extern char **environ;

/* --- the nodes --- */

static void send_txn(struct atl_bus *bus, struct atl_txn *txn)
{
    struct atl_error err = {0};
    struct atl_revision after;
    bench_must(atl_txn_send_wait(bus, txn, 0, &after, &err), &err);
}

static void write_directory(struct atl_bus *bus)
{
    for (size_t i = 0; i < node_count; i++) {
        Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
        uint8_t packed[ATL_DIRECTORY_RECORD];
        struct atl_txn txn ATL_TXN_AT_EXIT;
        record.address = nodes[i].address;
        atl_txn_init(&txn);
        ATL_FREE_AT_EXIT char *path = atl_format("%s%s", ATL_DIRECTORY_PREFIX, nodes[i].name);
        atl_txn_put(&txn, path, packed, atoll__store__v1__directory_node__pack(&record, packed));
        send_txn(bus, &txn);
    }
}

static unsigned int first_id(size_t node)
{
    return (unsigned int)(FIRST_ID + node * (guest_count / node_count));
}

static void write_guests(struct atl_bus *bus, size_t node)
{
    for (size_t done = 0; done < guest_count / node_count;) {
        struct atl_txn txn ATL_TXN_AT_EXIT;
        atl_txn_init(&txn);
        for (int i = 0; i < ATL_TXN_OPERATIONS && done < guest_count / node_count; i++, done++) {
            unsigned int vmid = first_id(node) + (unsigned int)done;
            ATL_FREE_AT_EXIT char *path = atl_format("nodes/%s/qemu-server/%u.conf", nodes[node].name, vmid);
            ATL_FREE_AT_EXIT char *text =
                atl_format("agent: 1\nboot: order=scsi0;net0\ncores: 2\nmemory: 2048\nname: vm%u\n"
                           "net0: virtio=BC:24:11:%02X:%02X:%02X,bridge=vmbr0\nostype: l26\n"
                           "scsi0: local:%u/vm-%u-disk-0.qcow2,size=32G\nscsihw: virtio-scsi-single\n",
                           vmid, vmid >> 16 & 255, vmid >> 8 & 255, vmid & 255, vmid, vmid);
            atl_txn_put(&txn, path, text, strlen(text));
        }
        send_txn(bus, &txn);
    }
}

static void make_caller_folders(const struct node *node)
{
    static const char *const folders[] = {"bus/config-store/config-store",  "bus/compute-agent",
                                          "bus/compute-agent/events",       "bus/compute-agent/cli",
                                          "bus/compute-agent/api-gateway",  "bus/compute-agent/config-store",
                                          "bus/compute-agent/storage-agent"};
    for (size_t i = 0; i < ATL_COUNT(folders); i++) {
        ATL_FREE_AT_EXIT char *path = atl_format("%s/run/%s", node->f.dir, folders[i]);
        if (mkdir(path, 0700) != 0)
            fail_msg("%s: cannot be made", path);
    }
}

static void start_store(size_t i)
{
    struct node *node = &nodes[i];
    (void)snprintf(node->name, sizeof node->name, "n%zu", i + 1);
    (void)snprintf(node->address, sizeof node->address, "127.79.%zu.%zu", i / 200, 1 + i % 200);
    cfg_fixture_init_node(&node->f, node->name);
    make_caller_folders(node);
    const char *words[CFG_FIXTURE_OPTIONS] = {"--engine", "etcd", "--etcd", rig.endpoints[0]};
    memcpy(node->f.engine, words, sizeof words);
    cfg_fixture_start(&node->f);
}

static void start_agent(size_t i)
{
    struct node *node = &nodes[i];
    ATL_FREE_AT_EXIT char *program = atl_strdup(AGENT_PROGRAM);
    ATL_FREE_AT_EXIT char *run = atl_format("%s/run", node->f.dir);
    ATL_FREE_AT_EXIT char *state = atl_format("%s/state", node->f.dir);
    ATL_FREE_AT_EXIT char *count = atl_format("%zu", guest_count / node_count);
    ATL_FREE_AT_EXIT char *first = atl_format("%u", first_id(i));
    char options[][16] = {"--run-dir", "--state-dir",   "--node",       "--driver",    "fake", "--lxc-driver",
                          "fake",      "--fake-guests", "--fake-first", "--log-level", "error"};
    char *argv[] = {program,    options[0], run,        options[1], state,       options[2],
                    node->name, options[3], options[4], options[5], options[6],  options[7],
                    count,      options[8], first,      options[9], options[10], NULL};
    if (posix_spawn(&node->agent, program, NULL, NULL, argv, environ) != 0)
        fail_msg("%s: cannot be started", program);
}

static void take_root(struct node *node)
{
    Atoll__Store__V1__LocalAssertionRequest input = ATOLL__STORE__V1__LOCAL_ASSERTION_REQUEST__INIT;
    const void *output = NULL;
    struct atl_error err = {0};
    bench_must(cfg_fixture_call(&node->f, node->f.cli, &atl_rpc_store_v1_Identity_LocalAssertion, &input,
                                NULL, &output, &err),
               &err);
    const Atoll__Bus__V1__SignedAssertion *assertion =
        ((const Atoll__Store__V1__AuthenticateReply *)output)->assertion;
    size_t size = atoll__bus__v1__signed_assertion__get_packed_size(assertion);
    uint8_t *packed = atl_arena_alloc(&node->keep, size);
    (void)atoll__bus__v1__signed_assertion__pack(assertion, packed);
    node->root =
        (struct atl_call_options){.assertion = packed, .assertion_size = size, .deadline = 30 * ATL_SECOND};
}

/* --- what a node shows --- */

static const Atoll__Cluster__V1__ListResourcesReply *resources(struct node *node, const char *type)
{
    Atoll__Cluster__V1__ListResourcesRequest input = ATOLL__CLUSTER__V1__LIST_RESOURCES_REQUEST__INIT;
    ATL_FREE_AT_EXIT char *copy = atl_strdup(type);
    const void *output = NULL;
    struct atl_error err = {0};
    atl_arena_reset(&node->f.arena);
    input.type = copy;
    bench_must(cfg_fixture_call(&node->f, node->f.cli, &atl_rpc_cluster_v1_Cluster_ListResources, &input,
                                &node->root, &output, &err),
               &err);
    return output;
}

static size_t running(struct node *node)
{
    const Atoll__Cluster__V1__ListResourcesReply *reply = resources(node, "vm");
    size_t count = 0;
    for (size_t i = 0; i < reply->n_entry; i++)
        count += reply->entry[i]->status != NULL && strcmp(reply->entry[i]->status, "running") == 0;
    return count;
}

static uint64_t storage_used(struct node *node, const char *of)
{
    const Atoll__Cluster__V1__ListResourcesReply *reply = resources(node, "storage");
    for (size_t i = 0; i < reply->n_entry; i++)
        if (strcmp(reply->entry[i]->node, of) == 0 && strcmp(reply->entry[i]->storage, "scale") == 0)
            return reply->entry[i]->disk;
    return 0;
}

/* How long until every node shows every guest as running: after a start of all. */
static double wait_for_all(void)
{
    atl_ns start = atl_clock_monotonic();
    for (size_t i = 0; i < node_count; i++) {
        size_t seen = 0;
        while ((seen = running(&nodes[i])) < guest_count) {
            if (atl_clock_monotonic() - start > 180 * ATL_SECOND)
                fail_msg("%s shows %zu of %zu guests as running", nodes[i].name, seen, guest_count);
            (void)usleep(200000);
        }
    }
    return (double)(atl_clock_monotonic() - start) / (double)ATL_SECOND;
}

/* --- a change, until it is seen everywhere --- */

struct spread {
    double median;
    double worst;
};

static struct spread spread_of(double samples[ROUNDS])
{
    qsort(samples, ROUNDS, sizeof *samples, bench_compare);
    return (struct spread){samples[ROUNDS / 2], samples[ROUNDS - 1]};
}

static double since(atl_ns start)
{
    return bench_since(start) / 1000;
}

/* A file, from the request on one node to the copies that follow each of the nodes. */
static struct spread bench_file(void)
{
    double samples[ROUNDS];
    for (size_t round = 0; round < ROUNDS; round++) {
        struct atl_txn txn ATL_TXN_AT_EXIT;
        ATL_FREE_AT_EXIT char *text = atl_format("round %zu", round);
        atl_txn_init(&txn);
        atl_txn_put(&txn, "bench/change", text, strlen(text));
        atl_ns start = atl_clock_monotonic();
        send_txn(nodes[round % node_count].f.cli, &txn);
        for (size_t i = 0; i < node_count;) {
            const struct atl_file *file = atl_mirror_get(nodes[i].mirror, "bench/change");
            if (file != NULL && strcmp(file->bytes, text) == 0)
                i++;
            else
                atl_loop_step(nodes[i].f.loop, ATL_MS);
        }
        samples[round] = since(start);
    }
    return spread_of(samples);
}

/* A status, from an agent's push on one node to /cluster/resources of each. */
static struct spread bench_status(void)
{
    static char storage[] = "scale";
    static char available[] = "available";
    static uint64_t sequence[NODES_MAX];
    double samples[ROUNDS];
    for (size_t round = 0; round < ROUNDS; round++) {
        struct node *from = &nodes[round % node_count];
        Atoll__Store__V1__StorageStatus row = ATOLL__STORE__V1__STORAGE_STATUS__INIT;
        Atoll__Store__V1__StorageStatus *rows[] = {&row};
        Atoll__Store__V1__PushRequest push = ATOLL__STORE__V1__PUSH_REQUEST__INIT;
        struct atl_error err = {0};
        row.storage = storage;
        row.status = available;
        row.has_disk = true;
        row.disk = 1000 + round;
        push.node = from->name;
        push.epoch = 1;
        push.sequence = ++sequence[round % node_count];
        push.has_full = true;
        push.full = true;
        push.n_storage = 1;
        push.storage = rows;
        atl_ns start = atl_clock_monotonic();
        bench_must(cfg_fixture_call(&from->f, from->f.storage, &atl_rpc_store_v1_Status_Push, &push, NULL,
                                    NULL, &err),
                   &err);
        for (size_t i = 0; i < node_count;)
            i += storage_used(&nodes[i], from->name) == row.disk;
        samples[round] = since(start);
    }
    return spread_of(samples);
}

/* --- what it costs --- */

static double pss_mib(pid_t pid)
{
    char line[128];
    double kib = 0;
    ATL_FREE_AT_EXIT char *path = atl_format("/proc/%d/smaps_rollup", (int)pid);
    FILE *in = fopen(path, "re");
    if (in == NULL)
        fail_msg("%s: cannot be read", path);
    while (fgets(line, sizeof line, in) != NULL)
        if (sscanf(line, "Pss: %lf", &kib) == 1)
            break;
    (void)fclose(in);
    return kib / 1024;
}

static double cpu_seconds(pid_t pid)
{
    unsigned long user = 0;
    unsigned long kernel = 0;
    ATL_FREE_AT_EXIT char *path = atl_format("/proc/%d/stat", (int)pid);
    FILE *in = fopen(path, "re");
    if (in == NULL ||
        fscanf(in, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2)
        fail_msg("%s: cannot be read", path);
    (void)fclose(in);
    return (double)(user + kernel) / 100;
}

struct traffic {
    unsigned long bytes;
    unsigned long packets;
};

/* What went over the namespace's loopback: of this cluster, its etcd too, and of nobody else. */
static struct traffic traffic(void)
{
    struct traffic seen = {0};
    char line[256];
    FILE *in = fopen("/proc/net/dev", "re");
    if (in == NULL)
        fail_msg("/proc/net/dev: cannot be read");
    while (fgets(line, sizeof line, in) != NULL)
        (void)sscanf(line, " lo: %lu %lu", &seen.bytes, &seen.packets);
    (void)fclose(in);
    return seen;
}

struct cost {
    double store_mib, agent_mib;
    double store_cpu, agent_cpu; /* share of one processor, percent */
    double packets, bytes;       /* a second, of all nodes together */
};

static struct cost at_rest(void)
{
    struct cost cost = {0};
    struct traffic before = traffic();
    for (size_t i = 0; i < node_count; i++) {
        cost.store_cpu -= cpu_seconds(nodes[i].f.pid);
        cost.agent_cpu -= cpu_seconds(nodes[i].agent);
    }
    (void)sleep(IDLE_S);
    struct traffic after = traffic();
    for (size_t i = 0; i < node_count; i++) {
        cost.store_cpu += cpu_seconds(nodes[i].f.pid);
        cost.agent_cpu += cpu_seconds(nodes[i].agent);
        cost.store_mib += pss_mib(nodes[i].f.pid);
        cost.agent_mib += pss_mib(nodes[i].agent);
    }
    double all = (double)node_count;
    return (struct cost){.store_mib = cost.store_mib / all,
                         .agent_mib = cost.agent_mib / all,
                         .store_cpu = cost.store_cpu / all / IDLE_S * 100,
                         .agent_cpu = cost.agent_cpu / all / IDLE_S * 100,
                         .packets = (double)(after.packets - before.packets) / IDLE_S,
                         .bytes = (double)(after.bytes - before.bytes) / IDLE_S};
}

/* --- one size --- */

static void start_all(void)
{
    rig_open_etcd(&rig, 1, false);
    start_store(0);
    for (size_t i = 1; i < node_count; i++)
        start_store(i);
    write_directory(nodes[0].f.cli);
    for (size_t i = 0; i < node_count; i++)
        write_guests(nodes[0].f.cli, i);
    for (size_t i = 0; i < node_count; i++)
        start_agent(i);
    for (size_t i = 0; i < node_count; i++) {
        take_root(&nodes[i]);
        nodes[i].mirror = atl_mirror_open(nodes[i].f.compute, (const char *const[]){"bench/", NULL});
    }
}

static void stop_all(void)
{
    for (size_t i = 0; i < node_count; i++) {
        (void)kill(nodes[i].agent, SIGKILL);
        (void)waitpid(nodes[i].agent, NULL, 0);
        atl_mirror_close(&nodes[i].mirror);
        (void)cfg_fixture_stop(&nodes[i].f, SIGKILL);
        cfg_fixture_done(&nodes[i].f);
        atl_arena_done(&nodes[i].keep);
    }
    rig_close(&rig);
}

static void bench(size_t node_total, size_t guest_total)
{
    node_count = node_total;
    guest_count = guest_total / node_total * node_total;
    nodes = atl_alloc0(node_count * sizeof *nodes);
    atl_ns begin = atl_clock_monotonic();
    start_all();
    double up = since(begin) / 1000;
    double seen = wait_for_all();
    struct cost cost = at_rest();
    struct spread file = bench_file();
    struct spread status = bench_status();
    atl_ns start = atl_clock_monotonic();
    (void)running(&nodes[node_count - 1]);
    double list = since(start);
    stop_all();
    free(nodes);
    double all = (double)node_count;
    (void)printf("%zu nodes, %zu guests\n", node_count, guest_count);
    (void)printf("  %-58s %9.1f s, and %.1f s until all show all\n", "all started, one after the other", up,
                 seen);
    (void)printf("  %-58s %9.1f ms, longest of %d %.1f ms\n", "a file changed: seen on all nodes after",
                 file.median, ROUNDS, file.worst);
    (void)printf("  %-58s %9.1f ms, longest of %d %.1f ms\n", "a status changed: shown by all nodes after",
                 status.median, ROUNDS, status.worst);
    (void)printf("  %-58s %9.1f ms\n", "all guests listed by one node", list);
    (void)printf("  %-58s %9.1f MiB config-store, %.1f MiB compute-agent\n", "memory of a node (PSS)",
                 cost.store_mib, cost.agent_mib);
    (void)printf("  %-58s %9.2f %% config-store, %.2f %% compute-agent\n",
                 "at rest, of one processor, a node", cost.store_cpu, cost.agent_cpu);
    (void)printf("  %-58s %9.1f packets, %.1f KiB\n", "at rest, on the network, a second and node",
                 cost.packets / all, cost.bytes / all / 1024);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static const size_t sizes[][2] = {{4, 625}, {16, 2500}, {64, 10000}};
    if (unshare(CLONE_NEWNET) != 0 || system("ip link set lo up") != 0) {
        (void)fprintf(stderr, "bench_scale: root is needed for a network namespace\n");
        return EXIT_FAILURE;
    }
    for (int i = 1; i + 1 < argc; i += 2)
        bench(strtoul(argv[i], NULL, 10), strtoul(argv[i + 1], NULL, 10));
    for (size_t i = 0; argc == 1 && i < ATL_COUNT(sizes); i++)
        bench(sizes[i][0], sizes[i][1]);
    return EXIT_SUCCESS;
}
