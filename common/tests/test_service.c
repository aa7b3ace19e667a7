/* The frame of a service's program, run as one. */
#include "atl_test.h"

#include <ftw.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/process.h"
#include "io/service.h"

/* --- the service: this program, when ATL_TEST_SERVICE is set --- */

static const char *greeting = "hello";
static bool refuse;

static enum atl_code service_start(struct atl_program *program, void **ret_self, struct atl_error *err)
{
    if (refuse)
        return atl_fail(err, ATL_E_STATE, NULL, "told to refuse");
    (void)printf("%s %s %s\n", greeting, program->node, program->name);
    (void)fflush(stdout);
    *ret_self = program;
    return ATL_OK;
}

static void service_stop(void *self)
{
    (void)printf("stopped %s\n", self != NULL ? "well" : "early");
    (void)fflush(stdout);
}

static int service_main(int argc, char **argv)
{
    static const struct atl_program_option options[] = {
        {"greeting", "WORD", "what to say first", &greeting, NULL},
        {"refuse", NULL, "do not start", NULL, &refuse},
    };
    return atl_program_main(&(const struct atl_program_spec){.name = "tester",
                                                             .summary = "a service for tests",
                                                             .options = options,
                                                             .option_count = ATL_COUNT(options),
                                                             .start = service_start,
                                                             .stop = service_stop},
                            argc, argv);
}

/* --- the test --- */

struct fixture {
    char dir[32];
    struct atl_loop *loop;
    char output[2048];
    char errors[2048];
    int status;
    size_t ended;
};

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/atl-service-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->loop = atl_loop_new();
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status, (void)kind, (void)where;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    atl_loop_free(f->loop);
    (void)nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void ended(const struct atl_process_end *end, void *user)
{
    struct fixture *f = user;
    (void)atl_copy(f->output, sizeof f->output, end->output);
    (void)atl_copy(f->errors, sizeof f->errors, end->errors);
    f->status = end->exit_status;
    f->ended++;
}

static struct atl_process *begin(struct fixture *f, const char *first, const char *second, const char *notify)
{
    const char *const argv[] = {"/proc/self/exe", "--run-dir", f->dir, "--node", "pve1", first, second, NULL};
    const char *const env[] = {"ATL_TEST_SERVICE=1", "WATCHDOG_USEC=100000", notify, NULL};
    struct atl_process *process = NULL;
    struct atl_error err = {0};
    struct atl_process_options options = {.argv = argv, .env = env, .capture = 4096};
    assert_atl_ok(atl_process_start(f->loop, &options, ended, f, &process, &err), &err);
    return process;
}

static void finish(struct fixture *f, size_t count)
{
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    while (f->ended < count && atl_clock_monotonic() < end)
        atl_loop_step(f->loop, 50 * ATL_MS);
    assert_int_equal(f->ended, count);
}

static void run(struct fixture *f, const char *first, const char *second)
{
    size_t before = f->ended;
    (void)begin(f, first, second, NULL);
    finish(f, before + 1);
}

static void options_are_explained_and_checked(void **state)
{
    struct fixture *f = *state;
    run(f, "--help", NULL);
    assert_int_equal(f->status, 0);
    assert_non_null(strstr(f->output, "atoll-tester: a service for tests\n"));
    assert_non_null(strstr(f->output, "  --greeting WORD            what to say first\n"));
    assert_non_null(strstr(f->output, "  --refuse                   do not start\n"));
    run(f, "--version", NULL);
    assert_int_equal(f->status, 0);
    assert_int_equal(strncmp(f->output, "atoll-tester ", 13), 0);
    run(f, "--nonsense", NULL);
    assert_int_equal(f->status, 2);
    run(f, "word", NULL);
    assert_int_equal(f->status, 2);
    assert_non_null(strstr(f->errors, "'word' is no option"));
    run(f, "--log-level", "loud");
    assert_int_equal(f->status, 2);
}

static bool is_ready(const struct fixture *f, pid_t pid)
{
    char path[64];
    char expected[16];
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    (void)snprintf(path, sizeof path, "%s/tester.ready", f->dir);
    (void)snprintf(expected, sizeof expected, "%d\n", (int)pid);
    return atl_test_read(path, &text) && strcmp(text.data, expected) == 0;
}

static void expect_notice(struct fixture *f, int fd, const char *expected)
{
    char text[32] = "";
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    while (recv(fd, text, sizeof text - 1, 0) <= 0 && atl_clock_monotonic() < end)
        atl_loop_step(f->loop, 5 * ATL_MS);
    assert_string_equal(text, expected);
}

static void it_says_when_it_is_ready_and_runs_once(void **state)
{
    struct fixture *f = *state;
    char notify[160];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", f->dir);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    (void)snprintf(notify, sizeof notify, "NOTIFY_SOCKET=%s", address.sun_path);
    struct atl_process *process = begin(f, "--greeting", "hi", notify);
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    while (!is_ready(f, atl_process_pid(process)) && atl_clock_monotonic() < end)
        atl_loop_step(f->loop, 5 * ATL_MS);
    expect_notice(f, fd, "READY=1");
    for (int i = 0; i < 3; i++)
        expect_notice(f, fd, "WATCHDOG=1");
    run(f, NULL, NULL); /* a second one */
    assert_int_equal(f->status, 1);
    assert_non_null(strstr(f->errors, "already runs"));
    assert_true(is_ready(f, atl_process_pid(process))); /* and it did no harm */
    atl_process_signal(process, SIGTERM);
    finish(f, 2);
    assert_int_equal(f->status, 0);
    assert_string_equal(f->output, "hi pve1 tester\nstopped well\n");
    assert_false(is_ready(f, 0));
    (void)close(fd);
}

static void a_start_that_fails_is_said_and_cleaned_up(void **state)
{
    struct fixture *f = *state;
    run(f, "--refuse", NULL);
    assert_int_equal(f->status, 1);
    assert_non_null(strstr(f->errors, "tester cannot start: told to refuse"));
    assert_string_equal(f->output, "stopped early\n");
}

#define service_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
    if (getenv("ATL_TEST_SERVICE") != NULL)
        return service_main(argc, argv);
    const struct CMUnitTest tests[] = {
        service_test(options_are_explained_and_checked),
        service_test(it_says_when_it_is_ready_and_runs_once),
        service_test(a_start_that_fails_is_said_and_cleaned_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
