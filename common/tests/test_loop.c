/* The event loop: timers in order, descriptors, ZeroMQ sockets, removal inside callbacks. */
#include "atl_test.h"

#include <unistd.h>
#include <zmq.h>

#include "io/loop.h"

struct log {
    char text[64];
    struct atl_loop *loop;
    struct atl_timer *timer;
    struct atl_watch *watch;
    void *socket;
    int fd;
    int count;
};

static void note_a(void *user)
{
    struct log *log = user;
    log->text[strlen(log->text)] = 'a';
}

static void note_b(void *user)
{
    struct log *log = user;
    log->text[strlen(log->text)] = 'b';
    atl_loop_stop(log->loop);
}

static void timers_fire_by_time_then_by_creation(void **state)
{
    (void)state;
    struct log log = {.loop = atl_loop_new()};
    (void)atl_loop_timer(log.loop, 100 * ATL_MS, 0, note_b, &log);
    (void)atl_loop_timer(log.loop, 0, 0, note_a, &log);
    (void)atl_loop_timer(log.loop, ATL_MS, 0, note_a, &log);
    atl_loop_run(log.loop);
    assert_string_equal(log.text, "aab");
    atl_loop_free(log.loop);
}

static void stop_at_three(void *user)
{
    struct log *log = user;
    if (++log->count == 3) {
        atl_timer_free(log->timer);
        atl_loop_stop(log->loop);
    }
}

static void a_periodic_timer_may_free_itself(void **state)
{
    (void)state;
    struct log log = {.loop = atl_loop_new()};
    log.timer = atl_loop_timer(log.loop, 0, 100 * ATL_US, stop_at_three, &log);
    atl_loop_run(log.loop);
    assert_int_equal(log.count, 3);
    atl_loop_free(log.loop);
}

static void read_pipe(void *user, unsigned int events)
{
    struct log *log = user;
    assert_true(events & ATL_READ);
    char byte = 0;
    if (read(log->fd, &byte, 1) == 1)
        log->count++;
    if (log->count == 2) {
        atl_watch_free(log->watch);
        atl_loop_stop(log->loop);
    }
}

static void a_descriptor_is_served_until_its_watch_is_freed(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct log log = {.loop = atl_loop_new(), .fd = fds[0]};
    log.watch = atl_loop_fd(log.loop, fds[0], ATL_READ, read_pipe, &log);
    assert_int_equal(write(fds[1], "xyz", 3), 3);
    atl_loop_run(log.loop);
    atl_loop_step(log.loop, 0);
    assert_int_equal(log.count, 2);
    atl_loop_free(log.loop);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void read_message(void *user, unsigned int events)
{
    (void)events;
    struct log *log = user;
    char text[8];
    int size = zmq_recv(log->socket, text, sizeof text, ZMQ_DONTWAIT);
    assert_int_equal(size, 2);
    if (++log->count == 1000)
        atl_loop_stop(log->loop);
}

static void all_messages_of_a_burst_arrive_though_the_descriptor_is_edge_triggered(void **state)
{
    (void)state;
    void *context = zmq_ctx_new();
    void *pull = zmq_socket(context, ZMQ_PULL);
    void *push = zmq_socket(context, ZMQ_PUSH);
    assert_int_equal(zmq_bind(pull, "inproc://burst"), 0);
    assert_int_equal(zmq_connect(push, "inproc://burst"), 0);
    struct log log = {.loop = atl_loop_new(), .socket = pull};
    struct atl_watch *watch = atl_loop_zmq(log.loop, pull, read_message, &log);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(zmq_send(push, "hi", 2, 0), 2);
    atl_loop_run(log.loop);
    assert_int_equal(log.count, 1000);
    atl_watch_free(watch);
    atl_loop_free(log.loop);
    zmq_close(push);
    zmq_close(pull);
    zmq_ctx_term(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_by_time_then_by_creation),
        cmocka_unit_test(a_periodic_timer_may_free_itself),
        cmocka_unit_test(a_descriptor_is_served_until_its_watch_is_freed),
        cmocka_unit_test(all_messages_of_a_burst_arrive_though_the_descriptor_is_edge_triggered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
