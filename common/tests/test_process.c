/* Other programs: their output, input, ends, times, descriptors. */
#include "atl_test.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "io/process.h"

struct seen {
    struct atl_loop *loop;
    struct atl_process_end end;
    char output[256];
    bool done;
};

static void ended(const struct atl_process_end *end, void *user)
{
    struct seen *seen = user;
    seen->end = *end;
    (void)atl_copy(seen->output, sizeof seen->output, end->output);
    seen->done = true;
}

static void run_shell(struct seen *seen, const char *script, struct atl_process_options options)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct atl_error err = {0};
    options.argv = argv;
    *seen = (struct seen){.loop = atl_loop_new()};
    assert_atl_ok(atl_process_start(seen->loop, &options, ended, seen, NULL, &err), &err);
    while (!seen->done)
        atl_loop_step(seen->loop, -1);
    atl_loop_free(seen->loop);
}

static void input_goes_in_and_output_comes_out(void **state)
{
    (void)state;
    struct seen seen;
    run_shell(&seen, "cat; echo err >&2; exit 7",
              (struct atl_process_options){.input = "hello", .input_size = 5, .capture = 4096});
    assert_string_equal(seen.output, "hello");
    assert_int_equal(seen.end.errors_size, 4);
    assert_int_equal(seen.end.exit_status, 7);
    assert_int_equal(seen.end.signal, 0);
}

static void output_is_bounded_and_the_rest_is_read_away(void **state)
{
    (void)state;
    struct seen seen;
    run_shell(&seen, "head -c 300000 /dev/zero | tr '\\0' x; echo end >&2",
              (struct atl_process_options){.capture = 100});
    assert_int_equal(seen.end.output_size, 100);
    assert_true(seen.end.truncated);
    assert_int_equal(seen.end.exit_status, 0);
}

static void a_child_that_takes_too_long_is_killed_with_its_children(void **state)
{
    (void)state;
    struct seen seen;
    atl_ns before = atl_clock_monotonic();
    run_shell(&seen, "trap '' TERM; sleep 60 & sleep 60",
              (struct atl_process_options){.timeout = 50 * ATL_MS, .capture = 100});
    assert_true(seen.end.timed_out);
    assert_int_equal(seen.end.signal, SIGKILL);
    assert_true(atl_clock_monotonic() - before < 10 * ATL_SECOND);
}

static void what_a_child_leaves_in_its_group_is_killed(void **state)
{
    (void)state;
    struct seen seen;
    run_shell(&seen, "sleep 60 & echo $!", (struct atl_process_options){.capture = 100});
    pid_t left = (pid_t)strtol(seen.output, NULL, 10);
    assert_true(left > 1);
    for (int i = 0; i < 1000 && kill(left, 0) == 0 && atl_process_started(left) != 0; i++) {
        char path[64];
        char text[64] = "";
        (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)left);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return;
        assert_true(read(fd, text, sizeof text - 1) >= 0);
        (void)close(fd);
        if (strstr(text, ") Z") != NULL)
            return; /* dead; who adopted it has not looked yet */
    }
    assert_int_equal(atl_process_started(left), 0);
}

static void the_child_has_a_clean_world(void **state)
{
    (void)state;
    struct seen seen;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    int leak = dup2(fds[0], 77); /* without CLOEXEC */
    assert_int_equal(leak, 77);
    int pass[] = {fds[1]};
    static const char *const env[] = {"ONLY=this", NULL};
    assert_int_equal(setenv("SECRET", "no", 1), 0);
    run_shell(&seen,
              "ls /proc/self/fd | tr '\\n' ' '; pwd; echo \"$ONLY$SECRET\"; echo passed >&3; "
              "grep -c 'SigBlk:.0000000000000000' /proc/self/status",
              (struct atl_process_options){
                  .capture = 4096, .env = env, .pass = pass, .pass_count = 1, .dir = "/tmp"});
    assert_string_equal(seen.output, "0 1 2 3 4 /tmp\nthis\n1\n"); /* 4 is the folder ls reads */
    char text[16] = "";
    assert_int_equal(read(fds[0], text, sizeof text - 1), 7);
    (void)close(leak);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void a_program_that_is_not_there_is_named(void **state)
{
    (void)state;
    const char *const argv[] = {"atl-no-such-program", NULL};
    const char *const path[] = {"/nonexistent/program", NULL};
    struct atl_error err = {0};
    struct atl_process_options options = {.argv = argv};
    assert_int_equal(atl_process_run(&options, NULL, NULL, &err), ATL_E_ABSENT);
    assert_non_null(strstr(err.text, "atl-no-such-program"));
    options.argv = path;
    assert_int_equal(atl_process_run(&options, NULL, NULL, &err), ATL_E_ABSENT);
}

static void running_gives_the_last_line_of_the_errors(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "echo out; echo first >&2; echo 'no space left' >&2; exit 3",
                                NULL};
    struct atl_error err = {0};
    ATL_BUF_AT_EXIT struct atl_buf output = {0};
    struct atl_process_options options = {.argv = argv, .capture = 4096};
    assert_int_equal(atl_process_run(&options, &output, NULL, &err), ATL_E_STATE);
    assert_string_equal(err.text, "sh failed with 3: no space left");
    assert_string_equal(output.data, "out\n");
}

static void freeing_a_process_kills_it(void **state)
{
    (void)state;
    const char *const argv[] = {"sleep", "60", NULL};
    struct atl_loop *loop = atl_loop_new();
    struct atl_process *process = NULL;
    struct atl_error err = {0};
    struct atl_process_options options = {.argv = argv};
    assert_atl_ok(atl_process_start(loop, &options, ended, NULL, &process, &err), &err);
    pid_t pid = atl_process_pid(process);
    assert_true(atl_process_started(pid) > 0);
    atl_process_free(process);
    assert_int_equal(atl_process_started(pid), 0);
    atl_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(input_goes_in_and_output_comes_out),
        cmocka_unit_test(output_is_bounded_and_the_rest_is_read_away),
        cmocka_unit_test(a_child_that_takes_too_long_is_killed_with_its_children),
        cmocka_unit_test(what_a_child_leaves_in_its_group_is_killed),
        cmocka_unit_test(the_child_has_a_clean_world),
        cmocka_unit_test(a_program_that_is_not_there_is_named),
        cmocka_unit_test(running_gives_the_last_line_of_the_errors),
        cmocka_unit_test(freeing_a_process_kills_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
