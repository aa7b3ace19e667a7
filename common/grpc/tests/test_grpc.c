/* The gRPC client against a server that does everything wrong, in one loop. */
#include "atl_test.h"

#include <signal.h>

#include "grpc/grpc.h"
#include "server.h"

#define LIMIT (20 * ATL_SECOND)

struct seen {
    struct atl_grpc_end end;
    char bytes[256];
    size_t size; /* of all messages */
    size_t messages;
    bool ended;
};

struct fixture {
    struct atl_loop *loop;
    struct test_server *server;
    struct atl_grpc *channel;
};

static struct atl_error err;

static void on_message(const uint8_t *bytes, size_t size, void *user)
{
    struct seen *seen = user;
    if (size > 0 && seen->size + size < sizeof seen->bytes)
        memcpy(seen->bytes + seen->size, bytes, size);
    seen->size += size;
    seen->messages++;
}

static void on_end(const struct atl_grpc_end *end, void *user)
{
    struct seen *seen = user;
    assert_false(seen->ended);
    seen->end = *end;
    seen->ended = true;
}

static struct atl_grpc_options options_for(struct fixture *f, const char *const *endpoints, size_t count)
{
    return (struct atl_grpc_options){.loop = f->loop,
                                     .endpoints = endpoints,
                                     .endpoint_count = count,
                                     .connect_timeout = 300 * ATL_MS,
                                     .keepalive = 100 * ATL_MS,
                                     .keepalive_timeout = 200 * ATL_MS,
                                     .backoff_first = 20 * ATL_MS,
                                     .backoff_max = 100 * ATL_MS,
                                     .seed = 1};
}

static int set_up(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    (void)signal(SIGPIPE, SIG_IGN);
    f->loop = atl_loop_new();
    f->server = test_server_new(f->loop, 0);
    const char *const endpoints[] = {test_server_endpoint(f->server)};
    const struct atl_grpc_options options = options_for(f, endpoints, 1);
    assert_atl_ok(atl_grpc_new(&options, &f->channel, &err), &err);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    atl_grpc_free(&f->channel);
    test_server_free(&f->server);
    atl_loop_free(f->loop);
    free(f);
    return 0;
}

static struct atl_grpc_call *begin(struct fixture *f, const char *method, const char *request, atl_ns timeout,
                                   struct seen *seen)
{
    *seen = (struct seen){.size = 0};
    return atl_grpc_call_new(f->channel,
                             &(const struct atl_grpc_call_options){.method = method,
                                                                   .request = request,
                                                                   .request_size = strlen(request),
                                                                   .timeout = timeout,
                                                                   .message = on_message,
                                                                   .end = on_end,
                                                                   .user = seen});
}

static void wait_for(struct fixture *f, const bool *done)
{
    atl_ns until = atl_clock_monotonic() + LIMIT;
    while (!*done && atl_clock_monotonic() < until)
        atl_loop_step(f->loop, 50 * ATL_MS);
    assert_true(*done);
}

static void rest(struct fixture *f, atl_ns span)
{
    atl_ns until = atl_clock_monotonic() + span;
    while (atl_clock_monotonic() < until)
        atl_loop_step(f->loop, 10 * ATL_MS);
}

static struct seen call(struct fixture *f, const char *method, const char *request)
{
    struct seen seen;
    (void)begin(f, method, request, LIMIT, &seen); /* ends by itself */
    wait_for(f, &seen.ended);
    return seen;
}

static void a_call_gets_its_answer(void **state)
{
    struct seen seen = call(*state, "/t/Echo", "hello");
    assert_int_equal(seen.end.code, ATL_OK);
    assert_string_equal(seen.bytes, "hello");
    assert_int_equal(seen.messages, 1);
    assert_true(seen.end.remote);
    seen = call(*state, "/t/Slow", "byte by byte");
    assert_string_equal(seen.bytes, "byte by byte");
    struct fixture *f = *state;
    assert_true(strlen(test_server_timeout(f->server)) > 2);
}

static void bad_answers_end_the_call_with_the_reason(void **state)
{
    static const struct {
        const char *method;
        enum atl_code code;
        const char *text;
        bool remote;
    } cases[] = {
        {"/t/Fail", ATL_E_STATE, "not so: \xc3\xa4 %zz%", true},
        {"/t/NoTrailer", ATL_E_UNKNOWN, "the answer ended without a status", false},
        {"/t/Half", ATL_E_INTERNAL, "the last message was cut", false},
        {"/t/TooBig", ATL_E_LIMIT, "a message of 2130706432 bytes; 33554432 is the limit", false},
        {"/t/Packed", ATL_E_INVALID, "the answer is compressed, which was not asked for", false},
        {"/t/Reset", ATL_E_INTERNAL, "the stream was reset: INTERNAL_ERROR", false},
        {"/t/Unavailable", ATL_E_UNAVAILABLE, "HTTP status 503", false},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct seen seen = call(*state, cases[i].method, "question");
        assert_int_equal(seen.end.code, cases[i].code);
        assert_string_equal(seen.end.text, cases[i].text);
        assert_int_equal(seen.end.remote, cases[i].remote);
        assert_true(seen.end.sent);
        seen = call(*state, "/t/Echo", "still well"); /* one bad answer is not the end of the others */
        assert_string_equal(seen.bytes, "still well");
    }
}

static void a_refused_request_is_sent_again(void **state)
{
    struct fixture *f = *state;
    struct seen seen = call(f, "/t/Refuse", "again");
    assert_int_equal(seen.end.code, ATL_OK);
    assert_string_equal(seen.bytes, "again");
    assert_int_equal(test_server_requests(f->server), 3);
}

/* The server goes away and says that it has not seen the request: it goes to the next connection, and so on.
 */
static void goaway_moves_what_was_not_seen(void **state)
{
    struct fixture *f = *state;
    struct seen first = call(f, "/t/Echo", "one");
    assert_int_equal(first.end.code, ATL_OK);
    struct seen seen = call(f, "/t/Gone", "moved");
    assert_int_equal(seen.end.code, ATL_E_UNAVAILABLE);
    assert_false(seen.end.sent);
    assert_true(test_server_connections(f->server) > 2);
    seen = call(f, "/t/Echo", "two");
    assert_int_equal(seen.end.code, ATL_OK);
}

static void a_lost_connection_leaves_the_outcome_open(void **state)
{
    struct fixture *f = *state;
    struct seen seen = call(f, "/t/Close", "lost");
    assert_int_equal(seen.end.code, ATL_E_UNAVAILABLE);
    assert_true(seen.end.sent);
    assert_false(seen.end.remote);
    assert_int_equal(call(f, "/t/Echo", "new").end.code, ATL_OK);
}

static void headers_without_end_are_refused(void **state)
{
    struct seen seen = call(*state, "/t/Huge", "x");
    assert_int_not_equal(seen.end.code, ATL_OK);
    assert_true(seen.end.sent);
    assert_int_equal(call(*state, "/t/Echo", "fine").end.code, ATL_OK);
}

static void a_deadline_ends_a_call_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct seen slow;
    struct seen fast;
    (void)begin(f, "/t/Hang", "x", 60 * ATL_MS, &slow); /* ends by itself */
    (void)begin(f, "/t/Echo", "y", LIMIT, &fast);
    wait_for(f, &slow.ended);
    assert_int_equal(slow.end.code, ATL_E_DEADLINE);
    assert_true(slow.end.sent);
    wait_for(f, &fast.ended);
    assert_int_equal(fast.end.code, ATL_OK);
    assert_int_equal(test_server_connections(f->server), 1);
}

static void a_cancelled_call_is_not_heard_of(void **state)
{
    struct fixture *f = *state;
    struct seen seen;
    struct atl_grpc_call *hanging = begin(f, "/t/Hang", "x", 0, &seen);
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    atl_grpc_cancel(hanging);
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    assert_false(seen.ended);
    hanging = begin(f, "/t/Hang", "x", 0, &seen); /* not even sent */
    atl_grpc_cancel(hanging);
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    assert_false(seen.ended);
}

static void a_stream_goes_both_ways(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {.size = 0};
    struct atl_grpc_call *open = atl_grpc_call_new(
        f->channel,
        &(const struct atl_grpc_call_options){
            .method = "/t/Stream", .stream = true, .message = on_message, .end = on_end, .user = &seen});
    for (size_t i = 1; i <= 5; i++) {
        assert_atl_ok(atl_grpc_send(open, "abcd", 4, &err), &err);
        atl_ns until = atl_clock_monotonic() + LIMIT;
        while (seen.messages < i && atl_clock_monotonic() < until)
            atl_loop_step(f->loop, 10 * ATL_MS);
        assert_int_equal(seen.messages, i);
    }
    atl_grpc_finish(open);
    wait_for(f, &seen.ended);
    assert_int_equal(seen.end.code, ATL_OK);
    assert_string_equal(seen.bytes, "abcdabcdabcdabcdabcd");
}

static void sixteen_mebibytes_go_and_come(void **state)
{
    struct fixture *f = *state;
    size_t size = 17 << 20;
    char *big = atl_alloc0(size + 1);
    memset(big, 'b', size);
    struct seen seen = call(f, "/t/Echo", big);
    assert_int_equal(seen.end.code, ATL_OK);
    assert_int_equal(seen.size, size);
    struct atl_grpc_call *open = atl_grpc_call_new(
        f->channel, &(const struct atl_grpc_call_options){.method = "/t/Stream", .stream = true});
    assert_atl_ok(atl_grpc_send(open, big, size, &err), &err);
    assert_int_equal(atl_grpc_send(open, big, size, &err), ATL_E_LIMIT); /* the queue has a bound */
    atl_grpc_cancel(open);
    free(big);
}

static void a_silent_server_is_left_after_a_ping(void **state)
{
    struct fixture *f = *state;
    struct test_server *other = test_server_new(f->loop, 0);
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    const char *const both[] = {test_server_endpoint(f->server), test_server_endpoint(other)};
    assert_atl_ok(atl_grpc_set_endpoints(f->channel, both, 2, &err), &err);
    test_server_mute(f->server);
    struct seen seen;
    (void)begin(f, "/t/Echo", "x", 0, &seen); /* no deadline of its own: only the PING can end it */
    wait_for(f, &seen.ended);
    assert_int_equal(seen.end.code, ATL_E_UNAVAILABLE);
    assert_true(seen.end.sent);
    assert_int_equal(call(f, "/t/Echo", "elsewhere").end.code, ATL_OK);
    assert_string_equal(atl_grpc_endpoint(f->channel), test_server_endpoint(other));
    atl_grpc_free(&f->channel);
    test_server_free(&other);
}

/* A channel whose keepalive finds nothing out in time, with a call that is open for long, as a watch is. */
static void begin_watching(struct fixture *f, const char *const both[2], struct seen *watching)
{
    struct atl_grpc_options options = options_for(f, both, 2);
    options.keepalive = options.keepalive_timeout = 30 * ATL_SECOND;
    options.home = both[0];
    atl_grpc_free(&f->channel);
    assert_atl_ok(atl_grpc_new(&options, &f->channel, &err), &err);
    (void)begin(f, "/t/Hang", "x", 0, watching); /* ends with the channel, or its connection */
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
}

static void a_call_that_times_out_in_silence_puts_the_connection_to_the_test(void **state)
{
    struct fixture *f = *state;
    struct test_server *other = test_server_new(f->loop, 0);
    const char *const both[] = {test_server_endpoint(f->server), test_server_endpoint(other)};
    struct seen watching;
    struct seen late;
    begin_watching(f, both, &watching);
    (void)begin(f, "/t/Hang", "x", 60 * ATL_MS, &late);
    wait_for(f, &late.ended);
    rest(f, ATL_SECOND); /* it is there: it answers the PING */
    assert_false(watching.ended);
    assert_int_equal(test_server_connections(f->server), 1);
    begin_watching(f, both, &watching);
    test_server_mute(f->server);
    (void)begin(f, "/t/Echo", "x", 60 * ATL_MS, &late);
    wait_for(f, &watching.ended);
    assert_int_equal(watching.end.code, ATL_E_UNAVAILABLE);
    assert_int_equal(late.end.code, ATL_E_DEADLINE);
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    assert_string_equal(atl_grpc_endpoint(f->channel), test_server_endpoint(other));
    atl_grpc_free(&f->channel);
    test_server_free(&other);
}

static void wait_endpoint(struct fixture *f, const char *endpoint)
{
    atl_ns until = atl_clock_monotonic() + LIMIT;
    while (strcmp(atl_grpc_endpoint(f->channel), endpoint) != 0 && atl_clock_monotonic() < until)
        (void)call(f, "/t/Echo", "x");
    assert_string_equal(atl_grpc_endpoint(f->channel), endpoint);
}

static void home_is_used_while_it_answers(void **state)
{
    struct fixture *f = *state;
    struct test_server *others[3];
    const char *list[4];
    for (size_t i = 0; i < 3; i++) {
        others[i] = test_server_new(f->loop, 0);
        list[i] = test_server_endpoint(others[i]);
    }
    char home[64];
    uint16_t port = test_server_port(f->server);
    assert_true(atl_copy(home, sizeof home, test_server_endpoint(f->server)));
    list[3] = home;
    for (uint64_t seed = 1; seed <= 8; seed++) { /* it is no chance that it begins there */
        struct atl_grpc_options options = options_for(f, list, 4);
        options.seed = seed;
        options.home = home;
        options.home_again = 100 * ATL_MS;
        atl_grpc_free(&f->channel);
        assert_atl_ok(atl_grpc_new(&options, &f->channel, &err), &err);
        assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
        assert_string_equal(atl_grpc_endpoint(f->channel), home);
    }
    test_server_free(&f->server);
    for (int i = 0; i < 50; i++) { /* the others answer meanwhile, whenever it is tried */
        struct seen seen = call(f, "/t/Echo", "x");
        assert_true(seen.end.code == ATL_OK || (i < 2 && seen.end.code == ATL_E_UNAVAILABLE));
        rest(f, 10 * ATL_MS);
    }
    assert_string_not_equal(atl_grpc_endpoint(f->channel), home);
    f->server = test_server_new(f->loop, port);
    wait_endpoint(f, home);
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    assert_int_equal(test_server_connections(f->server), 1);
    assert_atl_ok(atl_grpc_set_endpoints(f->channel, list, 3, &err), &err); /* it is no member any more */
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    assert_string_not_equal(atl_grpc_endpoint(f->channel), home);
    assert_atl_ok(atl_grpc_set_endpoints(f->channel, list, 4, &err), &err);
    wait_endpoint(f, home);
    atl_grpc_free(&f->channel);
    for (size_t i = 0; i < 3; i++)
        test_server_free(&others[i]);
}

static void nobody_there_fails_at_once_and_unsent_until_somebody_comes(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    uint16_t port = test_server_port(f->server);
    test_server_free(&f->server);
    struct seen seen = call(f, "/t/Echo", "x");
    if (seen.end.sent) /* the first may have gone into the connection that was about to close */
        seen = call(f, "/t/Echo", "x");
    assert_int_equal(seen.end.code, ATL_E_UNAVAILABLE);
    assert_false(seen.end.sent);
    assert_non_null(strstr(seen.end.text, "Connection refused"));
    f->server = test_server_new(f->loop, port);
    atl_ns until = atl_clock_monotonic() + LIMIT;
    while (!atl_grpc_connected(f->channel) && atl_clock_monotonic() < until)
        atl_loop_step(f->loop, 10 * ATL_MS);
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
}

static void rotation_lets_open_calls_end_where_they_are(void **state)
{
    struct fixture *f = *state;
    struct test_server *other = test_server_new(f->loop, 0);
    const char *const both[] = {test_server_endpoint(f->server), test_server_endpoint(other)};
    assert_atl_ok(atl_grpc_set_endpoints(f->channel, both, 2, &err), &err);
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    struct seen seen;
    (void)begin(f, "/t/Slow", "0123456789012345678901234567890123456789", LIMIT, &seen);
    while (test_server_requests(f->server) < 2)
        atl_loop_step(f->loop, 10 * ATL_MS);
    atl_grpc_rotate(f->channel);
    assert_int_equal(call(f, "/t/Echo", "x").end.code, ATL_OK);
    assert_int_equal(test_server_requests(other), 1);
    wait_for(f, &seen.ended);
    assert_int_equal(seen.end.code, ATL_OK);
    atl_grpc_free(&f->channel);
    test_server_free(&other);
}

static void too_many_calls_are_refused(void **state)
{
    struct fixture *f = *state;
    atl_grpc_free(&f->channel);
    const char *const endpoints[] = {test_server_endpoint(f->server)};
    struct atl_grpc_options options = options_for(f, endpoints, 1);
    options.calls_max = 2;
    assert_atl_ok(atl_grpc_new(&options, &f->channel, &err), &err);
    struct seen seen[3];
    for (size_t i = 0; i < 3; i++)
        (void)begin(f, "/t/Echo", "x", LIMIT, &seen[i]); /* end by themselves */
    for (size_t i = 0; i < 3; i++)
        wait_for(f, &seen[i].ended);
    assert_int_equal(seen[0].end.code, ATL_OK);
    assert_int_equal(seen[1].end.code, ATL_OK);
    assert_int_equal(seen[2].end.code, ATL_E_LIMIT);
    assert_false(seen[2].end.sent);
}

static void free_channel(const uint8_t *bytes, size_t size, void *user)
{
    (void)bytes;
    (void)size;
    struct fixture *f = user;
    atl_grpc_free(&f->channel);
}

static void a_channel_may_be_freed_in_a_callback(void **state)
{
    struct fixture *f = *state;
    struct seen seen;
    (void)begin(f, "/t/Hang", "x", LIMIT, &seen); /* goes with the channel */
    (void)atl_grpc_call_new(
        f->channel,
        &(const struct atl_grpc_call_options){
            .method = "/t/Echo", .request = "x", .request_size = 1, .message = free_channel, .user = f});
    atl_ns until = atl_clock_monotonic() + LIMIT;
    while (f->channel != NULL && atl_clock_monotonic() < until)
        atl_loop_step(f->loop, 10 * ATL_MS);
    assert_null(f->channel);
    assert_false(seen.ended);
}

static void an_endpoint_is_an_address_and_a_port(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"", ":1", "127.0.0.1", "127.0.0.1:", "host.example:1", "127.0.0.1:x"};
    for (size_t i = 0; i < ATL_COUNT(bad); i++) {
        const struct atl_grpc_options options = options_for(f, &bad[i], 1);
        struct atl_grpc *channel = NULL;
        assert_int_equal(atl_grpc_new(&options, &channel, &err), ATL_E_INVALID);
    }
    static const char *const good[] = {"[::1]:2379"};
    const struct atl_grpc_options options = options_for(f, good, 1);
    struct atl_grpc *channel = NULL;
    assert_atl_ok(atl_grpc_new(&options, &channel, &err), &err);
    atl_grpc_free(&channel);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_call_gets_its_answer),
        TEST(bad_answers_end_the_call_with_the_reason),
        TEST(a_refused_request_is_sent_again),
        TEST(goaway_moves_what_was_not_seen),
        TEST(a_lost_connection_leaves_the_outcome_open),
        TEST(headers_without_end_are_refused),
        TEST(a_deadline_ends_a_call_and_nothing_else),
        TEST(a_cancelled_call_is_not_heard_of),
        TEST(a_stream_goes_both_ways),
        TEST(sixteen_mebibytes_go_and_come),
        TEST(a_silent_server_is_left_after_a_ping),
        TEST(a_call_that_times_out_in_silence_puts_the_connection_to_the_test),
        TEST(home_is_used_while_it_answers),
        TEST(nobody_there_fails_at_once_and_unsent_until_somebody_comes),
        TEST(rotation_lets_open_calls_end_where_they_are),
        TEST(too_many_calls_are_refused),
        TEST(a_channel_may_be_freed_in_a_callback),
        TEST(an_endpoint_is_an_address_and_a_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
