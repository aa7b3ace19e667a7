/* A process at the other end of the bus is killed: what its calls and requests come to. */
#include "atl_test.h"

#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bus_contract.h"
#include "io/bus_internal.h"

extern char **environ;

struct fixture {
    char dir[32];
    struct atl_loop *loop;
    struct atl_bus *bus;
    pid_t child;
    size_t answers;
    size_t ok;
    enum atl_code code;
    bool sent;
    bool tells; /* what is not OK */
    struct atl_request *held;
    size_t held_count;
    size_t cancelled;
};

static struct atl_bus *open_bus(struct atl_loop *loop, const char *dir, const char *service,
                                const char *const *callers)
{
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    struct atl_bus_options options = {.loop = loop,
                                      .service = service,
                                      .node = "pve1",
                                      .run_dir = dir,
                                      .client_only = callers == NULL,
                                      .make_folders = callers};
    assert_atl_ok(atl_bus_open(&options, &bus, &err), &err);
    return bus;
}

static void echo(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)user;
    atl_request_reply(request, input);
}

static void hold(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)request;
    (void)input;
    const char *dir = user; /* tells the test that it has it */
    ATL_FREE_AT_EXIT char *path = atl_format("%s/held", dir);
    FILE *file = fopen(path, "ae");
    if (file != NULL)
        (void)fclose(file);
}

static const char *const callers[] = {"friend", NULL};

/* The program as its own child: a service that holds what is Slow or Steady and echoes the rest. */
static int serve(const char *dir)
{
    static const struct atl_handler handlers[] = {{"Echo", echo}, {"Slow", hold}, {"Steady", hold}};
    struct atl_loop *loop = atl_loop_new();
    struct atl_bus *bus = open_bus(loop, dir, "tester", callers);
    union {
        const char *from;
        void *to;
    } user = {.from = dir};
    atl_bus_serve(bus, &test_service, handlers, ATL_COUNT(handlers), user.to);
    atl_loop_run(loop);
    return 0;
}

static void ignore(const struct atl_reply *reply, void *user)
{
    (void)reply;
    (void)user;
}

/* The program as its own child: one call of Slow that never ends. */
static int call_slow(const char *dir)
{
    struct atl_loop *loop = atl_loop_new();
    struct atl_bus *bus = open_bus(loop, dir, "friend", NULL);
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    (void)atl_bus_call(bus, &test_rpcs[TEST_SLOW], &input.base, NULL, ignore, NULL);
    atl_loop_run(loop);
    return 0;
}

static void spawn(struct fixture *f, const char *what)
{
    char program[] = "/proc/self/exe";
    char *argv[] = {program, atl_strdup(what), f->dir, NULL};
    assert_int_equal(posix_spawn(&f->child, program, NULL, NULL, argv, environ), 0);
    free(argv[1]);
}

static void kill_child(struct fixture *f)
{
    assert_int_equal(kill(f->child, SIGKILL), 0);
    assert_int_equal(waitpid(f->child, NULL, 0), f->child);
    f->child = 0;
}

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/atl-bus-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->loop = atl_loop_new();
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->child != 0)
        kill_child(f);
    atl_bus_close(&f->bus);
    atl_loop_free(f->loop);
    (void)nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void answered(const struct atl_reply *reply, void *user)
{
    struct fixture *f = user;
    f->answers++;
    f->ok += reply->code == ATL_OK;
    f->code = reply->code;
    if (f->tells && reply->code != ATL_OK)
        (void)fprintf(stderr, "%s %s\n", atl_code_to_text(reply->code), reply->error.text);
    f->sent = reply->sent;
}

static void call(struct fixture *f, int rpc)
{
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    (void)atl_bus_call(f->bus, &test_rpcs[rpc], &input.base, NULL, answered, f);
}

static void run_until(struct fixture *f, const size_t *counter, size_t wanted)
{
    atl_ns end = atl_clock_monotonic() + 10 * ATL_SECOND;
    while (*counter < wanted && atl_clock_monotonic() < end)
        atl_loop_step(f->loop, 50 * ATL_MS);
    assert_true(*counter >= wanted);
}

static void run_until_held(struct fixture *f)
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/held", f->dir);
    atl_ns end = atl_clock_monotonic() + 10 * ATL_SECOND;
    while (access(path, F_OK) != 0 && atl_clock_monotonic() < end)
        atl_loop_step(f->loop, 5 * ATL_MS);
    assert_int_equal(unlink(path), 0);
}

static void a_killed_service_ends_calls_in_flight_at_once(void **state)
{
    struct fixture *f = *state;
    spawn(f, "--serve");
    f->bus = open_bus(f->loop, f->dir, "friend", NULL);
    call(f, TEST_ECHO); /* its start is waited for */
    run_until(f, &f->ok, 1);
    call(f, TEST_SLOW);
    run_until_held(f);
    kill_child(f);
    atl_ns before = atl_clock_monotonic();
    run_until(f, &f->answers, 2);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_true(f->sent);
    assert_true(atl_clock_monotonic() - before < ATL_SECOND);
    call(f, TEST_ECHO);
    spawn(f, "--serve");
    run_until(f, &f->ok, 2);
}

static void a_storm_of_calls_over_many_kills_loses_none(void **state)
{
    struct fixture *f = *state;
    spawn(f, "--serve");
    f->bus = open_bus(f->loop, f->dir, "friend", NULL);
    size_t calls = 0;
    f->tells = true;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 200; i++, calls++)
            call(f, TEST_ECHO);
        run_until(f, &f->answers, calls - 150);
        kill_child(f);
        spawn(f, "--serve");
    }
    run_until(f, &f->answers, calls);
    assert_int_equal(f->answers, calls);
    assert_int_equal(f->ok, calls); /* Echo may be repeated, so each came through */
}

static void note_cancel(struct atl_request *request, void *user)
{
    struct fixture *f = user;
    f->cancelled++;
    assert_ptr_equal(request, f->held);
}

static void keep(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct fixture *f = user;
    f->held = request;
    f->held_count++;
    atl_request_on_cancel(request, note_cancel, f);
}

static void a_killed_caller_cancels_its_requests(void **state)
{
    struct fixture *f = *state;
    static const struct atl_handler handlers[] = {{"Slow", keep}};
    f->bus = open_bus(f->loop, f->dir, "tester", callers);
    atl_bus_serve(f->bus, &test_service, handlers, ATL_COUNT(handlers), f);
    spawn(f, "--call");
    run_until(f, &f->held_count, 1);
    kill_child(f);
    atl_ns before = atl_clock_monotonic();
    run_until(f, &f->cancelled, 1);
    assert_true(atl_clock_monotonic() - before < ATL_SECOND);
    atl_request_fail(f->held, &(struct atl_error){.code = ATL_E_CANCELLED, .text = "as told"}, NULL);
}

#define bus_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--serve") == 0)
        return serve(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--call") == 0)
        return call_slow(argv[2]);
    const struct CMUnitTest tests[] = {
        bus_test(a_killed_service_ends_calls_in_flight_at_once),
        bus_test(a_storm_of_calls_over_many_kills_loses_none),
        bus_test(a_killed_caller_cancels_its_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
