/* A storage-agent with a real config-store in a folder of its own, and who calls it. */
#ifndef STO_BENCH_H
#define STO_BENCH_H

#include "atl_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atoll/storage/v1/storage.atl.h"
#include "atoll/storage/v1/storage.pb-c.h"
#include "atoll/storage/v1/upload.atl.h"
#include "atoll/storage/v1/upload.pb-c.h"
#include "atoll/storage/v1/volume.atl.h"
#include "atoll/storage/v1/volume.pb-c.h"
#include "atoll/store/v1/identity.atl.h"
#include "atoll/store/v1/identity.pb-c.h"
#include "atoll/task/v1/common.pb-c.h"
#include "io/mirror.h"

struct bench {
    char top[32]; /* RUN is top/run: short, sockets have short names */
    struct atl_arena arena;
    struct atl_loop *loop;
    struct atl_bus *compute; /* we call as compute-agent */
    struct atl_bus *cli;
    pid_t store;
    pid_t agent;
    uint8_t assertion[8192];
    size_t assertion_size;
    struct atl_error err;
};

static inline char *in(struct bench *bench, const char *name)
{
    return atl_arena_format(&bench->arena, "%s/%s", bench->top, name);
}

static inline pid_t start(struct bench *bench, const char *program, const char *state)
{
    char *path = atl_arena_format(&bench->arena, "%s/atoll-%s", ATL_BIN_DIR, program);
    char *log = in(bench, atl_arena_format(&bench->arena, "%s.log", program));
    static char caps[] = "-all,+chown,+dac_override,+fowner,+fsetid,+setfcap";
    static char user[] = "atoll-storage";
    char *const frame[] = {(char[]){"/usr/bin/setpriv"}, (char[]){"--pdeathsig"}, (char[]){"KILL"}};
    char *const rights[] = {(char[]){"--reuid"},        user,
                            (char[]){"--regid"},        user,
                            (char[]){"--init-groups"},  (char[]){"--no-new-privs"},
                            (char[]){"--inh-caps"},     caps,
                            (char[]){"--ambient-caps"}, caps,
                            (char[]){"--bounding-set"}, caps};
    char *const own[] = {path,
                         (char[]){"--run-dir"},
                         in(bench, "run"),
                         (char[]){"--state-dir"},
                         in(bench, state),
                         (char[]){"--node"},
                         (char[]){"n1"}};
    /* A test that crashes takes its services along. The agent has the rights its README names, if its user
     * exists. */
    bool less = strcmp(program, "storage-agent") == 0 && getpwnam(user) != NULL;
    size_t middle = less ? ATL_COUNT(rights) : 0;
    char *argv[ATL_COUNT(frame) + ATL_COUNT(rights) + ATL_COUNT(own) + 1] = {0};
    memcpy(argv, frame, sizeof frame);
    memcpy(argv + ATL_COUNT(frame), rights, middle * sizeof *rights);
    memcpy(argv + ATL_COUNT(frame) + middle, own, sizeof own);
    posix_spawn_file_actions_t actions;
    pid_t pid = 0;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    (void)posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    assert_int_equal(posix_spawn(&pid, argv[0], &actions, NULL, argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static inline void end(pid_t *pid, int signal)
{
    if (*pid <= 0)
        return;
    int status = 0;
    (void)kill(*pid, signal);
    (void)waitpid(*pid, &status, 0);
    if (signal == SIGTERM && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        fail_msg("a service ended with %x", (unsigned int)status);
    *pid = 0;
}

static inline void make_folders(struct bench *bench)
{
    static const char *const folders[] = {
        "run",
        "run/bus",
        "run/stream",
        "run/bus/config-store",
        "run/bus/storage-agent",
        "run/bus/config-store/events",
        "run/bus/config-store/storage-agent",
        "run/bus/config-store/compute-agent",
        "run/bus/config-store/cli",
        "run/bus/config-store/api-gateway",
        "run/bus/config-store/sdn-agent",
        "run/bus/storage-agent/events",
        "run/bus/storage-agent/compute-agent",
        "run/bus/storage-agent/api-gateway",
        "run/bus/storage-agent/cli",
        "state",
        "state/config-store",
        "vz",
    };
    for (size_t i = 0; i < ATL_COUNT(folders); i++)
        assert_int_equal(mkdir(in(bench, folders[i]), 0755), 0);
}

static inline struct atl_bus *open_bus(struct bench *bench, const char *service)
{
    struct atl_bus *bus = NULL;
    struct atl_bus_options options = {.loop = bench->loop,
                                      .service = service,
                                      .node = "n1",
                                      .run_dir = in(bench, "run"),
                                      .client_only = true};
    assert_atl_ok(atl_bus_open(&options, &bus, &bench->err), &bench->err);
    return bus;
}

static inline enum atl_code as_user(struct bench *bench, const struct atl_rpc *rpc,
                                    const ProtobufCMessage *input, const ProtobufCMessage **ret_output)
{
    struct atl_call_options options = {.assertion = bench->assertion,
                                       .assertion_size = bench->assertion_size};
    const ProtobufCMessage *output = NULL;
    bench->err = (struct atl_error){0};
    enum atl_code code =
        atl_bus_call_wait(bench->cli, rpc, input, &options, &bench->arena, &output, &bench->err);
    if (ret_output != NULL)
        *ret_output = output;
    return code;
}

static inline enum atl_code as_compute(struct bench *bench, const struct atl_rpc *rpc,
                                       const ProtobufCMessage *input, const ProtobufCMessage **ret_output)
{
    struct atl_call_options options = {0};
    const ProtobufCMessage *output = NULL;
    bench->err = (struct atl_error){0};
    enum atl_code code =
        atl_bus_call_wait(bench->compute, rpc, input, &options, &bench->arena, &output, &bench->err);
    if (ret_output != NULL)
        *ret_output = output;
    return code;
}

static inline void get_assertion(struct bench *bench)
{
    Atoll__Store__V1__LocalAssertionRequest request = ATOLL__STORE__V1__LOCAL_ASSERTION_REQUEST__INIT;
    struct atl_call_options options = {0};
    const ProtobufCMessage *output = NULL;
    enum atl_code code = ATL_E_UNAVAILABLE;
    for (int i = 0; i < 200 && code != ATL_OK; i++) {
        code = atl_bus_call_wait(bench->cli, &atl_rpc_store_v1_Identity_LocalAssertion, &request.base,
                                 &options, &bench->arena, &output, &bench->err);
        if (code != ATL_OK)
            (void)usleep(50000);
    }
    assert_atl_ok(code, &bench->err);
    const Atoll__Store__V1__AuthenticateReply *reply = (const void *)output;
    bench->assertion_size = protobuf_c_message_get_packed_size(&reply->assertion->base);
    assert_true(bench->assertion_size <= sizeof bench->assertion);
    (void)protobuf_c_message_pack(&reply->assertion->base, bench->assertion);
}

static inline void make_storage(struct bench *bench, const char *id, const char *path,
                                const char *preallocation)
{
    Atoll__Storage__V1__CreateRequest request = ATOLL__STORAGE__V1__CREATE_REQUEST__INIT;
    Atoll__Storage__V1__Config config = ATOLL__STORAGE__V1__CONFIG__INIT;
    request.storage = atl_arena_strdup(&bench->arena, id);
    request.type = (char[]){"dir"};
    request.config = &config;
    config.path = atl_arena_strdup(&bench->arena, path);
    config.content = (char[]){"images,rootdir,iso,vztmpl,import"};
    config.preallocation = preallocation != NULL ? atl_arena_strdup(&bench->arena, preallocation) : NULL;
    enum atl_code code = ATL_E_UNAVAILABLE;
    for (int i = 0; i < 200 && code == ATL_E_UNAVAILABLE; i++) {
        code = as_user(bench, &atl_rpc_storage_v1_Storage_Create, &request.base, NULL);
        if (code == ATL_E_UNAVAILABLE)
            (void)usleep(50000);
    }
    assert_atl_ok(code, &bench->err);
}

static inline int set_up(void **state)
{
    struct bench *bench = atl_new0(struct bench);
    *state = bench;
    strcpy(bench->top, "/tmp/atoll-sto-XXXXXX");
    assert_non_null(mkdtemp(bench->top));
    make_folders(bench);
    bench->loop = atl_loop_new();
    bench->store = start(bench, "config-store", "state/config-store");
    bench->agent = start(bench, "storage-agent", "state");
    bench->cli = open_bus(bench, "cli");
    bench->compute = open_bus(bench, "compute-agent");
    get_assertion(bench);
    make_storage(bench, "local", in(bench, "vz"), NULL);
    return 0;
}

static inline int tear_down(void **state)
{
    struct bench *bench = *state;
    atl_bus_close(&bench->cli);
    atl_bus_close(&bench->compute);
    end(&bench->agent, SIGTERM);
    end(&bench->store, SIGTERM);
    atl_loop_free(bench->loop);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", bench->top);
    (void)!system(command); /* NOLINT(cert-env33-c): the path is ours */
    atl_arena_done(&bench->arena);
    free(bench);
    return 0;
}

static inline void shell(struct bench *bench, const char *command)
{
    const char *whole = atl_arena_format(&bench->arena, "cd '%s' && %s", bench->top, command);
    int result = system(whole); /* NOLINT(cert-env33-c): a test's own command */
    if (result != 0)
        fail_msg("%s: %d", command, result);
}

/* Links and temporary files too. */
static inline int files_in(struct bench *bench, const char *folder)
{
    const char *command =
        atl_arena_format(&bench->arena, "find '%s/%s' ! -type d | wc -l", bench->top, folder);
    FILE *pipe = popen(command, "re"); /* NOLINT(cert-env33-c): a test's own command */
    int number = -1;
    assert_int_equal(fscanf(pipe, "%d", &number), 1);
    (void)pclose(pipe);
    return number;
}

static inline enum atl_code alloc(struct bench *bench, Atoll__Storage__V1__AllocRequest *request,
                                  const Atoll__Storage__V1__AllocatedVolume **ret_volume)
{
    const ProtobufCMessage *output = NULL;
    request->storage = request->storage != NULL ? request->storage : (char[]){"local"};
    enum atl_code code = as_compute(bench, &atl_rpc_storage_v1_Volumes_Alloc, &request->base, &output);
    if (ret_volume != NULL)
        *ret_volume = (const void *)output;
    return code;
}

#define ALLOC(...)                                                                                           \
    (&(Atoll__Storage__V1__AllocRequest){                                                                    \
        .base = PROTOBUF_C_MESSAGE_INIT(&atoll__storage__v1__alloc_request__descriptor), __VA_ARGS__})

static inline char *task_log(struct bench *bench, const ProtobufCMessage *reply)
{
    const Atoll__Task__V1__TaskRef *ref = (const void *)reply;
    char *path = in(bench, atl_arena_format(&bench->arena, "state/tasks/storage-agent/%s/log", ref->upid));
    for (int i = 0; i < 300; i++) {
        struct atl_buf text = {0};
        char *copy = NULL;
        if (atl_test_read(path, &text) && strstr(text.data, "TASK ") != NULL)
            copy = atl_arena_strdup(&bench->arena, text.data);
        atl_buf_done(&text);
        if (copy != NULL)
            return copy;
        (void)usleep(50000);
    }
    fail_msg("task '%s' does not end", ref->upid);
    return NULL;
}

#endif
