/* A real config-store and clients of it. */
#include "cfg_fixture.h"

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atoll/store/v1/identity.atl.h"

extern char **environ;

static void die(const char *what)
{
    (void)fprintf(stderr, "fixture: %s: %s\n", what, strerror(errno));
    abort();
}

static void make_dir(const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        die(path);
}

static struct atl_bus *open_bus(struct cfg_fixture *fixture, const char *service)
{
    char *run ATL_FREE_AT_EXIT = atl_format("%s/run", fixture->dir);
    const struct atl_bus_options options = {.loop = fixture->loop,
                                            .service = service,
                                            .node = fixture->node,
                                            .run_dir = run,
                                            .client_only = true};
    struct atl_bus *bus = NULL;
    struct atl_error err;
    if (atl_bus_open(&options, &bus, &err) != ATL_OK)
        die(err.text);
    return bus;
}

void cfg_fixture_init(struct cfg_fixture *fixture)
{
    cfg_fixture_init_node(fixture, "pve1");
}

void cfg_fixture_init_node(struct cfg_fixture *fixture, const char *node)
{
    static const char *const folders[] = {"run",
                                          "state",
                                          "run/bus",
                                          "run/bus/config-store",
                                          "run/bus/config-store/events",
                                          "run/bus/config-store/cli",
                                          "run/bus/config-store/api-gateway",
                                          "run/bus/config-store/compute-agent",
                                          "run/bus/config-store/storage-agent"};
    *fixture = (struct cfg_fixture){.dir = "/tmp/atl-cfg-XXXXXX", .node = node};
    if (mkdtemp(fixture->dir) == NULL)
        die("mkdtemp");
    for (size_t i = 0; i < ATL_COUNT(folders); i++) {
        char *path ATL_FREE_AT_EXIT = atl_format("%s/%s", fixture->dir, folders[i]);
        make_dir(path);
    }
    fixture->loop = atl_loop_new();
    fixture->cli = open_bus(fixture, "cli");
    fixture->gateway = open_bus(fixture, "api-gateway");
    fixture->compute = open_bus(fixture, "compute-agent");
    fixture->storage = open_bus(fixture, "storage-agent");
}

enum atl_code cfg_fixture_call(struct cfg_fixture *fixture, struct atl_bus *from, const struct atl_rpc *rpc,
                               const void *input, const struct atl_call_options *options,
                               const void **ret_output, struct atl_error *err)
{
    const ProtobufCMessage *output = NULL;
    enum atl_code code = atl_bus_call_wait(from, rpc, input, options, &fixture->arena, &output, err);
    if (code == ATL_OK && ret_output != NULL)
        *ret_output = output;
    return code;
}

/* Ready is what answers: a call that finds nobody is tried again. */
static void wait_ready(struct cfg_fixture *fixture)
{
    atl_ns ends = atl_clock_monotonic() + 20 * ATL_SECOND;
    Atoll__Store__V1__LocalAssertionRequest input = ATOLL__STORE__V1__LOCAL_ASSERTION_REQUEST__INIT;
    const struct atl_call_options options = {.deadline = 2 * ATL_SECOND};
    struct atl_error err = {0};
    while (cfg_fixture_call(fixture, fixture->cli, &atl_rpc_store_v1_Identity_LocalAssertion, &input,
                            &options, NULL, &err) != ATL_OK) {
        if (atl_clock_monotonic() > ends)
            die(err.text);
        (void)poll(NULL, 0, 5);
    }
}

void cfg_fixture_start(struct cfg_fixture *fixture)
{
    char *program ATL_FREE_AT_EXIT = atl_strdup(CFG_PROGRAM);
    char *run ATL_FREE_AT_EXIT = atl_format("%s/run", fixture->dir);
    char *state ATL_FREE_AT_EXIT = atl_format("%s/state", fixture->dir);
    char run_option[] = "--run-dir";
    char state_option[] = "--state-dir";
    char node_option[] = "--node";
    char *node ATL_FREE_AT_EXIT = atl_strdup(fixture->node);
    char level_option[] = "--log-level";
    char level[] = "error";
    char *argv[9 + CFG_FIXTURE_OPTIONS] = {program,     run_option, run,          state_option, state,
                                           node_option, node,       level_option, level};
    for (size_t i = 0; fixture->engine[i] != NULL; i++)
        argv[9 + i] = (char *)(uintptr_t)fixture->engine[i]; /* posix_spawn() does not change it */
    int rc = posix_spawn(&fixture->pid, program, NULL, NULL, argv, environ);
    if (rc != 0) {
        errno = rc;
        die(program);
    }
    wait_ready(fixture);
}

int cfg_fixture_stop(struct cfg_fixture *fixture, int signal)
{
    int status = 0;
    if (fixture->pid == 0)
        return 0;
    if (kill(fixture->pid, signal) != 0 || waitpid(fixture->pid, &status, 0) != fixture->pid)
        die("stop");
    fixture->pid = 0;
    return status;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

void cfg_fixture_done(struct cfg_fixture *fixture)
{
    (void)cfg_fixture_stop(fixture, SIGTERM);
    atl_bus_close(&fixture->cli);
    atl_bus_close(&fixture->gateway);
    atl_bus_close(&fixture->compute);
    atl_bus_close(&fixture->storage);
    atl_loop_free(fixture->loop);
    atl_arena_done(&fixture->arena);
    if (nftw(fixture->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        die(fixture->dir);
}
