/* Tasks with real workers: this program is its own worker. */
#include "atl_test.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atoll/bus/v1/bus.pb-c.h"
#include "io/bus_internal.h"
#include "io/process.h"
#include "io/task.h"

/* --- the worker's side --- */

static enum atl_code do_ok(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    Atoll__Bus__V1__PingReply *message = atoll__bus__v1__ping_reply__unpack(NULL, size, spec);
    if (message == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "no specification");
    atl_task_log(task, "one");
    atl_task_log(task, "two\nthree");
    atl_task_log(task, "node %s guest %s spec %s", atl_task_node(task), atl_task_parts(task)->id,
                 message->node);
    atoll__bus__v1__ping_reply__free_unpacked(message, NULL);
    return ATL_OK;
}

static enum atl_code do_warn(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    (void)spec, (void)size, (void)err;
    atl_task_warn(task, "careful");
    atl_task_warn(task, "twice");
    return ATL_OK;
}

static enum atl_code do_fail(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    (void)task, (void)spec, (void)size;
    return atl_fail(err, ATL_E_LIMIT, NULL, "no space left on store 'local'");
}

static enum atl_code do_die(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    (void)spec, (void)size, (void)err;
    atl_task_log(task, "about to die");
    (void)raise(SIGKILL);
    return ATL_OK;
}

static enum atl_code do_exit(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    (void)task, (void)spec, (void)size, (void)err;
    _exit(3);
}

/* Works until the file "go" is there, or until it is stopped. */
static enum atl_code do_wait(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    (void)spec, (void)size;
    ATL_FREE_AT_EXIT char *go = atl_format("%s/go", atl_task_state_dir(task));
    atl_task_progress(task, 0.25, "waiting");
    while (!atl_task_stopped(task) && access(go, F_OK) != 0)
        (void)usleep(2000);
    return atl_task_stopped(task) ? atl_fail(err, ATL_E_CANCELLED, NULL, "stopped by request") : ATL_OK;
}

static enum atl_code do_call(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    (void)spec, (void)size;
    Atoll__Bus__V1__PingRequest input = ATOLL__BUS__V1__PING_REQUEST__INIT;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const ProtobufCMessage *output = NULL;
    struct atl_rpc rpc = atl_bus_rpc_ping; /* which has no server of its own */
    struct atl_service service = {.name = "x", .server = "tester"};
    rpc.service = &service;
    enum atl_code code = atl_task_call(task, &rpc, &input.base, ATL_SECOND * 5, &arena, &output, err);
    if (code == ATL_OK)
        atl_task_log(task, "answered by %s",
                     ((const Atoll__Bus__V1__PingReply *)(const void *)output)->service);
    return code;
}

static const struct atl_task_type types[] = {{"ok", do_ok},    {"warn", do_warn}, {"fail", do_fail},
                                             {"die", do_die},  {"exit", do_exit}, {"wait", do_wait},
                                             {"call", do_call}};

/* --- the agent's side --- */

struct fixture {
    char dir[32];
    struct atl_loop *loop;
    struct atl_tasks *tasks;
    struct atl_task_reader *reader;
    unsigned int next_id;
    unsigned int running_max;
    size_t started;
    size_t stopped;
};

static void changed(const struct atl_task_info *info, void *user)
{
    struct fixture *f = user;
    f->started += info->state == ATL_TASK_RUNNING;
    f->stopped += info->state == ATL_TASK_STOPPED;
}

static void open_tasks(struct fixture *f)
{
    struct atl_error err = {0};
    struct atl_tasks_options options = {.loop = f->loop,
                                        .service = "tester",
                                        .node = "pve1",
                                        .run_dir = f->dir,
                                        .state_dir = f->dir,
                                        .running_max = f->running_max,
                                        .queue_max = 4,
                                        .on_change = changed,
                                        .user = f};
    assert_atl_ok(atl_tasks_open(&options, &f->tasks, &err), &err);
}

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/atl-task-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->loop = atl_loop_new();
    f->running_max = 4;
    open_tasks(f);
    f->reader = atl_task_reader_new(f->dir);
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
    atl_tasks_close(&f->tasks);
    atl_task_reader_free(f->reader);
    atl_loop_free(f->loop);
    (void)nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static enum atl_code start_as(struct fixture *f, const char *type, unsigned int number,
                              char upid[ATL_UPID_MAX], struct atl_error *err)
{
    uint8_t id[ATL_REQUEST_ID_SIZE] = {0};
    memcpy(id, &number, sizeof number);
    char node[] = "from-spec";
    Atoll__Bus__V1__PingReply spec = ATOLL__BUS__V1__PING_REPLY__INIT;
    spec.node = node;
    const struct atl_task_start start = {
        .type = type, .id = "100", .user = "root@pam", .spec = &spec.base, .request_id = id};
    return atl_task_start(f->tasks, &start, upid, err);
}

static void start(struct fixture *f, const char *type, char upid[ATL_UPID_MAX])
{
    struct atl_error err = {0};
    assert_atl_ok(start_as(f, type, ++f->next_id, upid, &err), &err);
}

static struct atl_task_info status(struct fixture *f, const char *upid)
{
    struct atl_task_info info;
    struct atl_error err = {0};
    assert_atl_ok(atl_task_status(f->reader, upid, &info, &err), &err);
    return info;
}

static struct atl_task_info wait_state(struct fixture *f, const char *upid, enum atl_task_state wanted)
{
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    struct atl_task_info info = status(f, upid);
    while ((info.state != wanted || (wanted == ATL_TASK_RUNNING && info.pid == 0)) &&
           atl_clock_monotonic() < end) {
        atl_loop_step(f->loop, 5 * ATL_MS);
        info = status(f, upid);
    }
    assert_int_equal(info.state, wanted);
    return info;
}

static void assert_log(struct fixture *f, const char *upid, const char *expected)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    struct atl_task_log_part part = {0};
    struct atl_error err = {0};
    assert_atl_ok(atl_task_read_log(f->reader, upid, &arena, &part, &err), &err);
    assert_int_equal(part.count, part.total);
    for (size_t i = 0; i < part.count; i++)
        atl_buf_printf(&text, "%s|", part.lines[i]);
    assert_string_equal(text.data != NULL ? text.data : "", expected);
}

static void a_task_runs_logs_and_ends(void **state)
{
    struct fixture *f = *state;
    char upid[ATL_UPID_MAX];
    start(f, "ok", upid);
    assert_true(atl_task_alive(f->tasks, upid));
    struct atl_task_info info = wait_state(f, upid, ATL_TASK_STOPPED);
    assert_string_equal(info.exit, "OK");
    assert_true(info.ended >= info.parts.start);
    assert_log(f, upid, "one|two|three|node pve1 guest 100 spec from-spec|TASK OK|");
    while (f->stopped == 0)
        atl_loop_step(f->loop, 5 * ATL_MS);
    assert_false(atl_task_alive(f->tasks, upid));
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct atl_task_log_part part = {.start = 1, .limit = 2};
    assert_int_equal(atl_task_read_log(f->reader, upid, &arena, &part, NULL), ATL_OK);
    assert_int_equal(part.count, 2);
    assert_int_equal(part.total, 5);
    assert_string_equal(part.lines[0], "two");
}

static void every_end_has_its_words(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *type;
        const char *exit;
        const char *log;
    } cases[] = {
        {"warn", "WARNINGS: 2", "WARN: careful|WARN: twice|TASK WARNINGS: 2|"},
        {"fail", "no space left on store 'local'", "TASK ERROR: no space left on store 'local'|"},
        {"die", "interrupted: worker was ended by signal 9 (Killed)",
         "about to die|TASK ERROR: interrupted: worker was ended by signal 9 (Killed)|"},
        {"exit", "interrupted: worker ended with 3 and without a result",
         "TASK ERROR: interrupted: worker ended with 3 and without a result|"},
        {"none", "tester has no task 'none'", "TASK ERROR: tester has no task 'none'|"},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        char upid[ATL_UPID_MAX];
        start(f, cases[i].type, upid);
        while (f->stopped <= i)
            atl_loop_step(f->loop, 5 * ATL_MS);
        assert_string_equal(status(f, upid).exit, cases[i].exit);
        assert_log(f, upid, cases[i].log);
    }
}

static void the_same_request_is_the_same_task(void **state)
{
    struct fixture *f = *state;
    char upid[ATL_UPID_MAX];
    char again[ATL_UPID_MAX];
    assert_int_equal(start_as(f, "ok", 77, upid, NULL), ATL_OK);
    assert_int_equal(start_as(f, "ok", 77, again, NULL), ATL_OK);
    assert_string_equal(upid, again);
    (void)wait_state(f, upid, ATL_TASK_STOPPED);
    atl_tasks_close(&f->tasks);
    open_tasks(f); /* a restart of the agent remembers */
    assert_int_equal(start_as(f, "ok", 77, again, NULL), ATL_OK);
    assert_string_equal(upid, again);
    assert_log(f, upid, "one|two|three|node pve1 guest 100 spec from-spec|TASK OK|");
}

static void a_running_task_tells_progress_and_can_be_stopped(void **state)
{
    struct fixture *f = *state;
    char upid[ATL_UPID_MAX];
    start(f, "wait", upid);
    struct atl_task_info info = wait_state(f, upid, ATL_TASK_RUNNING);
    while (info.progress < 0) {
        atl_loop_step(f->loop, 5 * ATL_MS);
        info = status(f, upid);
    }
    assert_true(info.progress == 0.25);
    assert_string_equal(info.progress_text, "waiting");
    assert_int_equal(info.pstart, atl_process_started((pid_t)info.pid));
    assert_int_equal(atl_task_stop(f->reader, upid, NULL), ATL_OK);
    info = wait_state(f, upid, ATL_TASK_STOPPED);
    assert_string_equal(info.exit, "stopped by request");
    assert_int_equal(atl_task_stop(f->reader, upid, NULL), ATL_OK); /* it has ended: fine */
}

static void tasks_wait_for_their_turn_and_the_queue_is_bounded(void **state)
{
    struct fixture *f = *state;
    char upids[9][ATL_UPID_MAX];
    for (int i = 0; i < 8; i++)
        start(f, "wait", upids[i]);
    struct atl_error err = {0};
    assert_int_equal(start_as(f, "wait", 99, upids[8], &err), ATL_E_UNAVAILABLE);
    assert_string_equal(err.text, "4 tasks wait already, try again later");
    assert_int_equal(status(f, upids[7]).state, ATL_TASK_QUEUED);
    assert_int_equal(atl_task_stop(f->reader, upids[7], NULL), ATL_OK);
    (void)wait_state(f, upids[0], ATL_TASK_RUNNING);
    ATL_FREE_AT_EXIT char *go = atl_format("%s/go", f->dir);
    (void)close(open(go, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    for (int i = 0; i < 7; i++)
        assert_string_equal(wait_state(f, upids[i], ATL_TASK_STOPPED).exit, "OK");
    assert_string_equal(wait_state(f, upids[7], ATL_TASK_STOPPED).exit, "stopped before it began");
    assert_int_equal(f->started, 7);
}

static void a_restarted_agent_adopts_what_runs_and_ends_what_died(void **state)
{
    struct fixture *f = *state;
    char lives[ATL_UPID_MAX];
    char dies[ATL_UPID_MAX];
    char waits[3][ATL_UPID_MAX];
    start(f, "wait", lives);
    start(f, "wait", dies);
    for (int i = 0; i < 3; i++)
        start(f, "wait", waits[i]); /* the last one is queued */
    (void)wait_state(f, lives, ATL_TASK_RUNNING);
    struct atl_task_info info = wait_state(f, dies, ATL_TASK_RUNNING);
    assert_int_equal(status(f, waits[2]).state, ATL_TASK_QUEUED);
    atl_tasks_close(&f->tasks);
    assert_int_equal(kill((pid_t)info.pid, SIGKILL), 0);
    while (status(f, dies).state != ATL_TASK_STOPPED) /* shown at once, though no agent is there */
        atl_loop_step(f->loop, 5 * ATL_MS);
    assert_string_equal(status(f, dies).exit, "interrupted: worker died");
    open_tasks(f);
    assert_true(atl_task_alive(f->tasks, lives));
    while (atl_task_alive(f->tasks, dies)) /* dead, but nobody else has waited for it here */
        atl_loop_step(f->loop, 5 * ATL_MS);
    assert_log(f, dies, "TASK ERROR: interrupted: worker died|");
    ATL_FREE_AT_EXIT char *go = atl_format("%s/go", f->dir);
    (void)close(open(go, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_string_equal(wait_state(f, lives, ATL_TASK_STOPPED).exit, "OK");
    for (int i = 0; i < 3; i++)
        assert_string_equal(wait_state(f, waits[i], ATL_TASK_STOPPED).exit, "OK");
    while (atl_task_alive(f->tasks, lives))
        atl_loop_step(f->loop, 5 * ATL_MS);
}

static void an_agent_that_stops_right_after_a_start_loses_no_task(void **state)
{
    struct fixture *f = *state;
    char upid[ATL_UPID_MAX];
    for (int i = 0; i < 20; i++) { /* the worker has hardly begun */
        start(f, "ok", upid);
        atl_tasks_close(&f->tasks);
        open_tasks(f);
        assert_string_equal(wait_state(f, upid, ATL_TASK_STOPPED).exit, "OK");
    }
}

static void a_pid_that_is_anothers_by_now_gets_no_signal(void **state)
{
    struct fixture *f = *state;
    char upid[ATL_UPID_MAX];
    start(f, "wait", upid);
    struct atl_task_info info = wait_state(f, upid, ATL_TASK_RUNNING);
    ATL_FREE_AT_EXIT char *path = atl_format("%s/tasks/tester/%s/status", f->dir, upid);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    (void)fprintf(file, "state running\npid %d\npstart 12345\n", (int)getpid()); /* us, with a wrong start */
    assert_int_equal(fclose(file), 0);
    (void)signal(SIGTERM, SIG_DFL);
    assert_int_equal(atl_task_stop(f->reader, upid, NULL), ATL_OK); /* we are still here */
    assert_int_equal(kill((pid_t)info.pid, SIGTERM), 0);
    (void)wait_state(f, upid, ATL_TASK_STOPPED);
}

static void a_list_is_filtered_newest_first_and_cut(void **state)
{
    struct fixture *f = *state;
    char upid[ATL_UPID_MAX];
    for (int i = 0; i < 3; i++)
        start(f, i == 1 ? "fail" : "ok", upid);
    while (f->stopped < 3)
        atl_loop_step(f->loop, 5 * ATL_MS);
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct atl_task_info *infos = NULL;
    size_t count = 0;
    size_t total = 0;
    for (int round = 0; round < 2; round++) { /* from the files, then from the cache */
        atl_task_list(f->reader, &(struct atl_upid_filter){.limit = 2}, &arena, &infos, &count, &total);
        assert_int_equal(count, 2);
        assert_int_equal(total, 3);
        atl_task_list(f->reader, &(struct atl_upid_filter){.errors = true}, &arena, &infos, &count, &total);
        assert_int_equal(count, 1);
        assert_string_equal(infos[0].parts.type, "fail");
        atl_task_list(f->reader, &(struct atl_upid_filter){.start = 7}, &arena, &infos, &count, &total);
        assert_int_equal(count, 0);
        assert_int_equal(total, 3);
    }
    struct atl_error err = {0};
    struct atl_task_info info;
    assert_int_equal(atl_task_status(f->reader, "../../etc/passwd", &info, &err), ATL_E_INVALID);
    assert_int_equal(atl_task_status(f->reader, "UPID:pve1:00000000:00000000:00000000:x:y:z:", &info, &err),
                     ATL_E_ABSENT);
}

static void a_worker_calls_other_services(void **state)
{
    struct fixture *f = *state;
    static const char *const callers[] = {"tester", NULL};
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    char upid[ATL_UPID_MAX];
    struct atl_bus_options options = {
        .loop = f->loop, .service = "tester", .node = "pve1", .run_dir = f->dir, .make_folders = callers};
    assert_atl_ok(atl_bus_open(&options, &bus, &err), &err);
    start(f, "call", upid);
    assert_string_equal(wait_state(f, upid, ATL_TASK_STOPPED).exit, "OK");
    assert_log(f, upid, "answered by tester|TASK OK|");
    atl_bus_close(&bus);
}

static void old_tasks_go_when_there_are_too_many(void **state)
{
    struct fixture *f = *state;
    char upid[ATL_UPID_MAX];
    atl_tasks_close(&f->tasks);
    for (unsigned int i = 0; i < 1010; i++) {
        struct atl_upid parts = {.node = "pve1", .type = "ok", .id = "", .user = "root@pam", .pid = i};
        parts.start = (uint32_t)atl_clock_wall_seconds() - 2000 + i;
        assert_int_equal(atl_upid_to_text(&parts, upid, NULL), ATL_OK);
        static const char *const files[][2] = {{"about", "request 00000000000000000000000000000000"},
                                               {"status", "state stopped\nended 1\nexit OK\n"}};
        ATL_FREE_AT_EXIT char *dir = atl_format("%s/tasks/tester/%s", f->dir, upid);
        assert_int_equal(mkdir(dir, 0700), 0);
        for (size_t k = 0; k < 2; k++) {
            ATL_FREE_AT_EXIT char *path = atl_format("%s/%s", dir, files[k][0]);
            FILE *file = fopen(path, "we");
            assert_non_null(file);
            assert_true(fputs(files[k][1], file) >= 0);
            assert_int_equal(fclose(file), 0);
        }
    }
    open_tasks(f);
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct atl_task_info *infos = NULL;
    size_t count = 0;
    size_t total = 0;
    atl_task_list(f->reader, &(struct atl_upid_filter){.limit = 1}, &arena, &infos, &count, &total);
    assert_int_equal(total, 1000);
    assert_string_equal(infos[0].upid, upid); /* the newest is there */
}

#define task_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
    if (atl_task_wanted(argc, argv))
        return atl_task_main(argc, argv, types, ATL_COUNT(types));
    const struct CMUnitTest tests[] = {
        task_test(a_task_runs_logs_and_ends),
        task_test(every_end_has_its_words),
        task_test(the_same_request_is_the_same_task),
        task_test(a_running_task_tells_progress_and_can_be_stopped),
        task_test(tasks_wait_for_their_turn_and_the_queue_is_bounded),
        task_test(a_restarted_agent_adopts_what_runs_and_ends_what_died),
        task_test(an_agent_that_stops_right_after_a_start_loses_no_task),
        task_test(a_pid_that_is_anothers_by_now_gets_no_signal),
        task_test(a_list_is_filtered_newest_first_and_cut),
        task_test(a_worker_calls_other_services),
        task_test(old_tasks_go_when_there_are_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
