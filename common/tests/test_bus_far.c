/* A process at the other end of tcp is stopped or killed: how long calls take to end, what becomes of
 * requests that waited, and that all goes on afterwards. The other process is this program again. */
#include "bus_rig.h"

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

extern char **environ;

struct fixture {
    struct rig rig;
    struct atl_bus *bus; /* ha-lrm on n2 */
    pid_t child;         /* storage-agent on n1 */
    size_t answers;
    size_t ok;
    enum atl_code code;
    bool sent;
    uint64_t number;
    char text[ATL_TEXT_MAX];
    size_t lost;
    size_t events;
};

/* --- the other process --- */

struct service {
    struct atl_bus *bus;
    uint64_t counted;
};

static void echo(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)user;
    atl_request_reply(request, input);
}

/* Counts what was carried out, and publishes that. */
static void count(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct service *service = user;
    Atoll__Bus__V1__Event output = ATOLL__BUS__V1__EVENT__INIT;
    output.has_sequence = 1;
    output.sequence = ++service->counted;
    atl_bus_publish(service->bus, "count/1", NULL);
    atl_request_reply(request, &output.base);
}

static void hold(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)request; /* answered by nobody */
    (void)input;
    (void)user;
}

static const struct atl_handler handlers[] = {
    {"Echo", echo}, {"Count", count}, {"Slow", hold}, {"Steady", hold}};

/* argv: --serve DIR ADDRESS; the caller's record is in DIR/n2, ours goes to DIR/n1. */
static int serve(const char *dir, const char *address)
{
    struct rig rig = {.dir = ""};
    struct service service = {.bus = NULL};
    assert_true(atl_copy(rig.dir, sizeof rig.dir, dir));
    rig.loop = atl_loop_new();
    for (unsigned int i = 0; i < RIG_NODES; i++) {
        (void)snprintf(rig.nodes[i].name, sizeof rig.nodes[i].name, "n%u", i + 1);
        rig.nodes[i].directory = atl_directory_new();
    }
    assert_true(atl_copy(rig.nodes[0].address, sizeof rig.nodes[0].address, address));
    service.bus = rig_bus(&rig, 0, "storage-agent");
    atl_bus_serve(service.bus, &test_service, handlers, ATL_COUNT(handlers), &service);
    uint8_t packed[ATL_DIRECTORY_RECORD];
    ATL_FREE_AT_EXIT char *theirs = atl_format("%s/n2.record", dir);
    FILE *file = fopen(theirs, "re");
    assert_non_null(file);
    size_t size = fread(packed, 1, sizeof packed, file);
    (void)fclose(file);
    atl_directory_feed(rig.nodes[0].directory, "n2", packed, size);
    rig_tell(&rig, 0, 0, false);
    ATL_FREE_AT_EXIT char *ours = atl_format("%s/n1.record", dir);
    ATL_FREE_AT_EXIT char *part = atl_format("%s/n1.part", dir);
    file = fopen(part, "we");
    assert_non_null(file);
    size = rig_pack(&rig.nodes[0], packed);
    assert_int_equal(fwrite(packed, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(part, ours), 0);
    atl_loop_run(rig.loop);
    return 0;
}

/* --- the test --- */

static void spawn(struct fixture *f)
{
    char program[] = "/proc/self/exe";
    char mode[] = "--serve";
    char *argv[] = {program, mode, f->rig.dir, f->rig.nodes[0].address, NULL};
    ATL_FREE_AT_EXIT char *path = atl_format("%s/n1.record", f->rig.dir);
    (void)unlink(path); /* of the one before */
    assert_int_equal(posix_spawn(&f->child, program, NULL, NULL, argv, environ), 0);
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    while (access(path, F_OK) != 0 && atl_clock_monotonic() < end)
        atl_loop_step(f->rig.loop, 5 * ATL_MS);
    uint8_t packed[ATL_DIRECTORY_RECORD];
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t size = fread(packed, 1, sizeof packed, file);
    (void)fclose(file);
    atl_directory_feed(f->rig.nodes[1].directory, "n1", packed, size);
}

static void end_child(struct fixture *f)
{
    assert_int_equal(kill(f->child, SIGKILL), 0);
    assert_int_equal(waitpid(f->child, NULL, 0), f->child);
    f->child = 0;
}

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    rig_open(&f->rig);
    f->bus = rig_bus(&f->rig, 1, "ha-lrm");
    rig_tell(&f->rig, 1, 1, false);
    uint8_t packed[ATL_DIRECTORY_RECORD];
    size_t size = rig_pack(&f->rig.nodes[1], packed);
    ATL_FREE_AT_EXIT char *path = atl_format("%s/n2.record", f->rig.dir);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(packed, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    spawn(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->child != 0)
        end_child(f);
    atl_bus_close(&f->bus);
    rig_close(&f->rig);
    free(f);
    return 0;
}

static void answered(const struct atl_reply *reply, void *user)
{
    struct fixture *f = user;
    f->answers++;
    f->ok += reply->code == ATL_OK;
    f->code = reply->code;
    f->sent = reply->sent;
    (void)atl_copy(f->text, sizeof f->text, reply->code != ATL_OK ? reply->error.text : "");
    if (reply->output != NULL)
        f->number = ((const Atoll__Bus__V1__Event *)(const void *)reply->output)->sequence;
}

static void call(struct fixture *f, int rpc, atl_ns deadline)
{
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    const struct atl_call_options options = {.service = "storage-agent", .node = "n1", .deadline = deadline};
    (void)atl_bus_call(f->bus, &test_rpcs[rpc], &input.base, &options, answered, f);
}

static void wait_answers(struct fixture *f, size_t wanted)
{
    rig_run_until(&f->rig, &f->answers, wanted);
}

static atl_ns timed(struct fixture *f, int rpc)
{
    size_t wanted = f->answers + 1;
    atl_ns before = atl_clock_monotonic();
    call(f, rpc, 30 * ATL_SECOND);
    wait_answers(f, wanted);
    return atl_clock_monotonic() - before;
}

static void calls_to_a_process_that_stands_still_end_soon(void **state)
{
    struct fixture *f = *state;
    call(f, TEST_ECHO, 0);
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_OK);
    assert_int_equal(kill(f->child, SIGSTOP), 0);
    atl_ns first = timed(f, TEST_COUNT);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_true(f->sent);
    atl_ns second = timed(f, TEST_COUNT);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_false(f->sent); /* there was no connection any more */
    atl_ns third = timed(f, TEST_ECHO);
    (void)printf("stopped: in flight %.2f s, then %.2f s and %.2f s\n", (double)first / 1e9,
                 (double)second / 1e9, (double)third / 1e9);
    assert_true(first < 4 * ATL_SECOND);
    assert_true(second < 4 * ATL_SECOND);
    assert_int_equal(kill(f->child, SIGCONT), 0);
    size_t wanted = f->answers + 1;
    for (int i = 0; f->code != ATL_OK && i < 20; i++, wanted++) {
        call(f, TEST_ECHO, 0);
        wait_answers(f, wanted);
    }
    assert_int_equal(f->code, ATL_OK);
}

static void what_waited_past_its_time_is_not_carried_out(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 1; i <= 10; i++) { /* the quickest of them is what no age looks like */
        call(f, TEST_COUNT, 0);
        wait_answers(f, i);
        assert_int_equal(f->number, i);
    }
    assert_int_equal(kill(f->child, SIGSTOP), 0);
    for (int i = 0; i < 10; i++)
        call(f, TEST_COUNT, 200 * ATL_MS);
    wait_answers(f, 20);
    usleep(100000);
    assert_int_equal(kill(f->child, SIGCONT), 0); /* before the heartbeat cuts the connection */
    size_t wanted = 21;
    call(f, TEST_COUNT, 0);
    wait_answers(f, wanted);
    while (f->code == ATL_E_UNAVAILABLE) { /* unless the machine is so slow that it did */
        call(f, TEST_COUNT, 0);
        wait_answers(f, ++wanted);
    }
    assert_int_equal(f->code, ATL_OK);
    assert_int_equal(f->number, 11); /* none of the ten */
}

static void a_killed_process_ends_calls_at_once_and_the_next_one_is_found(void **state)
{
    struct fixture *f = *state;
    call(f, TEST_ECHO, 0);
    wait_answers(f, 1);
    call(f, TEST_SLOW, 0);
    rig_run_for(&f->rig, 100 * ATL_MS);
    atl_ns before = atl_clock_monotonic();
    end_child(f);
    wait_answers(f, 2);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_true(f->sent);
    assert_true(atl_clock_monotonic() - before < ATL_SECOND);
    call(f, TEST_ECHO, 0);
    spawn(f);
    wait_answers(f, 3);
    assert_string_equal(f->text, "");
}

static void a_storm_of_calls_over_many_kills_loses_none(void **state)
{
    struct fixture *f = *state;
    size_t calls = 0;
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 200; i++, calls++)
            call(f, TEST_ECHO, 30 * ATL_SECOND);
        wait_answers(f, calls - 150);
        end_child(f);
        spawn(f);
    }
    wait_answers(f, calls);
    assert_int_equal(f->ok, calls);
}

static void note(const struct atl_bus_event *event, void *user)
{
    struct fixture *f = user;
    if (event->topic == NULL)
        f->lost++;
    else
        f->events++;
}

static void a_subscription_outlives_a_stop_and_a_kill(void **state)
{
    struct fixture *f = *state;
    const struct atl_source source = {.service = "storage-agent", .node = "n1"};
    atl_bus_subscribe_at(f->bus, &source, "count/", note, f);
    rig_run_until(&f->rig, &f->lost, 1);
    call(f, TEST_COUNT, 0);
    rig_run_until(&f->rig, &f->events, 1);
    assert_int_equal(kill(f->child, SIGSTOP), 0);
    rig_run_for(&f->rig, 2 * ATL_SECOND); /* the connection is given up */
    assert_int_equal(kill(f->child, SIGCONT), 0);
    size_t wanted = f->answers + 1;
    f->code = ATL_E_UNAVAILABLE;
    for (int i = 0; f->code != ATL_OK && i < 20; i++, wanted++) {
        call(f, TEST_COUNT, 0);
        wait_answers(f, wanted);
    }
    rig_run_until(&f->rig, &f->events, 2);
    assert_int_equal(f->lost, 1);
    end_child(f);
    spawn(f);
    rig_run_until(&f->rig, &f->lost, 2);
}

#define far_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--serve") == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
        return serve(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        far_test(calls_to_a_process_that_stands_still_end_soon),
        far_test(what_waited_past_its_time_is_not_carried_out),
        far_test(a_killed_process_ends_calls_at_once_and_the_next_one_is_found),
        far_test(a_storm_of_calls_over_many_kills_loses_none),
        far_test(a_subscription_outlives_a_stop_and_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
