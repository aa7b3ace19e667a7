/* Streams: tokens, both directions, flow control, ends. */
#include "atl_test.h"

#include <ftw.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/stream.h"

struct side {
    struct atl_stream *stream;
    size_t opened;
    size_t got;
    size_t ends;
    size_t errors;
    size_t rooms;
    enum atl_code code;
    uint8_t next; /* byte that is expected */
    size_t take;  /* how much to take at once; 0: all */
    bool close_on_data;
    bool any; /* not the pattern */
};

struct fixture {
    char dir[40];
    struct atl_loop *loop;
    struct atl_streams *streams;
    struct side agent;
    struct side client;
};

static void on_open(struct atl_stream *stream, void *user)
{
    struct side *side = user;
    side->stream = stream;
    side->opened++;
}

static size_t on_data(struct atl_stream *stream, const uint8_t *bytes, size_t size, void *user)
{
    struct side *side = user;
    if (side->take > 0 && size > side->take)
        size = side->take;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != side->next++ && !side->any)
            fail_msg("byte %zu is not the one that was sent", side->got + i);
    side->got += size;
    if (side->close_on_data) {
        atl_stream_close(stream);
        side->stream = NULL;
    }
    return size;
}

static void on_end(struct atl_stream *stream, void *user)
{
    (void)stream;
    struct side *side = user;
    side->ends++;
}

static void on_room(struct atl_stream *stream, void *user)
{
    (void)stream;
    struct side *side = user;
    side->rooms++;
}

static void on_error(struct atl_stream *stream, enum atl_code code, void *user)
{
    (void)stream;
    struct side *side = user;
    side->stream = NULL;
    side->code = code;
    side->errors++;
}

static const struct atl_stream_events events = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_room = on_room, .on_error = on_error};

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/atl-stream-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->loop = atl_loop_new();
    struct atl_error err = {0};
    struct atl_streams_options options = {.loop = f->loop,
                                          .run_dir = f->dir,
                                          .service = "tester",
                                          .offer_life = 300 * ATL_MS,
                                          .idle = ATL_SECOND,
                                          .make_folder = true};
    assert_atl_ok(atl_streams_open(&options, &f->streams, &err), &err);
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
    atl_stream_close(f->client.stream);
    atl_streams_close(&f->streams);
    atl_loop_free(f->loop);
    (void)nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void run_until(struct fixture *f, const size_t *counter, size_t wanted)
{
    atl_ns end = atl_clock_monotonic() + 10 * ATL_SECOND;
    while (*counter < wanted && atl_clock_monotonic() < end)
        atl_loop_step(f->loop, 50 * ATL_MS);
    assert_int_equal(*counter, wanted);
}

static void connect_with(struct fixture *f, const uint8_t *token)
{
    struct atl_error err = {0};
    assert_atl_ok(atl_stream_connect(f->loop, atl_streams_path(f->streams), token, &events, &f->client,
                                     &f->client.stream, &err),
                  &err);
}

static void meet(struct fixture *f)
{
    uint8_t token[ATL_STREAM_TOKEN_SIZE];
    struct atl_error err = {0};
    assert_atl_ok(atl_stream_offer(f->streams, &events, &f->agent, token, &err), &err);
    connect_with(f, token);
    run_until(f, &f->agent.opened, 1);
    run_until(f, &f->client.opened, 1);
}

/* Sends size bytes of the pattern that on_data checks. */
static void send_all(struct fixture *f, struct side *from, size_t size)
{
    static uint8_t pattern[256 * 64];
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)i;
    for (size_t sent = 0; sent < size;) {
        size_t at = sent % 256;
        size_t part = sizeof pattern - at < size - sent ? sizeof pattern - at : size - sent;
        size_t taken = atl_stream_write(from->stream, pattern + at, part);
        sent += taken;
        if (taken < part)
            run_until(f, &from->rooms, from->rooms + 1);
    }
}

static void bytes_flow_in_both_directions_until_both_have_finished(void **state)
{
    struct fixture *f = *state;
    meet(f);
    send_all(f, &f->client, 3000000);
    atl_stream_finish(f->client.stream);
    run_until(f, &f->agent.ends, 1);
    assert_int_equal(f->agent.got, 3000000);
    send_all(f, &f->agent, 5000000);
    atl_stream_finish(f->agent.stream);
    run_until(f, &f->client.ends, 1);
    assert_int_equal(f->client.got, 5000000);
    assert_int_equal(f->client.errors + f->agent.errors, 0);
    atl_stream_close(f->agent.stream);
}

static void who_does_not_take_is_not_read_from(void **state)
{
    struct fixture *f = *state;
    meet(f);
    f->agent.take = 100;
    size_t sent = 0;
    size_t taken = 256;
    while (taken == 256 && sent < (64 << 20)) {
        uint8_t bytes[256];
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)i;
        taken = atl_stream_write(f->client.stream, bytes, sizeof bytes);
        sent += taken;
        atl_loop_step(f->loop, 0);
    }
    assert_true(sent < (2 << 20)); /* socket, chunk and buffer, no more */
    assert_int_equal(f->agent.got, 100);
    atl_ns end = atl_clock_monotonic() + 20 * ATL_SECOND;
    while (f->agent.got < sent && atl_clock_monotonic() < end) {
        atl_stream_resume(f->agent.stream);
        atl_loop_step(f->loop, 0);
    }
    assert_int_equal(f->agent.got, sent);
}

static void a_wrong_token_is_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t token[ATL_STREAM_TOKEN_SIZE];
    assert_int_equal(atl_stream_offer(f->streams, &events, &f->agent, token, NULL), ATL_OK);
    token[31] ^= 1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(atl_copy(address.sun_path, sizeof address.sun_path, atl_streams_path(f->streams)));
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, token, 10, 0), 10); /* in two pieces */
    for (int i = 0; i < 5; i++)
        atl_loop_step(f->loop, ATL_MS);
    assert_int_equal(send(fd, token + 10, 22, 0), 22);
    for (int i = 0; i < 5; i++)
        atl_loop_step(f->loop, ATL_MS);
    char text[80] = "";
    assert_true(recv(fd, text, sizeof text - 1, 0) > 0);
    assert_string_equal(text, "ERROR there is no such offer, or its time is over\n");
    assert_int_equal(recv(fd, text, sizeof text, 0), 0);
    (void)close(fd);
    assert_int_equal(f->agent.opened, 0);
}

static void a_token_is_good_once_and_for_a_while(void **state)
{
    struct fixture *f = *state;
    uint8_t token[ATL_STREAM_TOKEN_SIZE];
    assert_int_equal(atl_stream_offer(f->streams, &events, &f->agent, token, NULL), ATL_OK);
    connect_with(f, token);
    run_until(f, &f->agent.opened, 1);
    struct side second = {0};
    struct atl_stream *stream = NULL;
    second.any = true; /* a sentence comes back */
    assert_int_equal(
        atl_stream_connect(f->loop, atl_streams_path(f->streams), token, &events, &second, &stream, NULL),
        ATL_OK);
    for (int i = 0; i < 20; i++)
        atl_loop_step(f->loop, ATL_MS);
    assert_int_equal(f->agent.opened, 1);
    atl_stream_close(stream);
    struct side late = {0};
    assert_int_equal(atl_stream_offer(f->streams, &events, &late, token, NULL), ATL_OK);
    run_until(f, &late.errors, 1); /* nobody came */
    assert_int_equal(late.code, ATL_E_DEADLINE);
    assert_int_equal(atl_stream_offer(f->streams, &events, &late, token, NULL), ATL_OK);
    assert_true(atl_stream_withdraw(f->streams, token));
    assert_false(atl_stream_withdraw(f->streams, token));
}

static void offers_are_bounded(void **state)
{
    struct fixture *f = *state;
    uint8_t token[ATL_STREAM_TOKEN_SIZE];
    for (int i = 0; i < ATL_STREAM_OFFERS_MAX; i++)
        assert_int_equal(atl_stream_offer(f->streams, &events, &f->agent, token, NULL), ATL_OK);
    assert_int_equal(atl_stream_offer(f->streams, &events, &f->agent, token, NULL), ATL_E_UNAVAILABLE);
}

static void a_silent_connection_ends(void **state)
{
    struct fixture *f = *state;
    meet(f);
    run_until(f, &f->agent.errors, 1);
    assert_int_equal(f->agent.code, ATL_E_DEADLINE);
    run_until(f, &f->client.ends, 1);
}

static void a_peer_that_vanishes_is_an_end_and_writing_to_it_an_error(void **state)
{
    struct fixture *f = *state;
    meet(f);
    atl_stream_close(f->client.stream);
    f->client.stream = NULL;
    run_until(f, &f->agent.ends, 1);
    (void)atl_stream_write(f->agent.stream, "x", 1);
    run_until(f, &f->agent.errors, 1);
    assert_int_equal(f->agent.code, ATL_E_UNAVAILABLE);
}

static void a_stream_may_be_closed_in_its_own_callback(void **state)
{
    struct fixture *f = *state;
    meet(f);
    f->agent.close_on_data = true;
    assert_int_equal(atl_stream_write(f->client.stream, "\0\1\2", 3), 3);
    run_until(f, &f->agent.got, 3);
    run_until(f, &f->client.ends, 1);
}

static void connecting_to_nobody_says_so(void **state)
{
    struct fixture *f = *state;
    uint8_t token[ATL_STREAM_TOKEN_SIZE] = {0};
    struct atl_error err = {0};
    assert_int_equal(
        atl_stream_connect(f->loop, "/nonexistent/x", token, &events, &f->client, &f->client.stream, &err),
        ATL_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "/nonexistent/x"));
}

#define stream_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        stream_test(bytes_flow_in_both_directions_until_both_have_finished),
        stream_test(who_does_not_take_is_not_read_from),
        stream_test(a_wrong_token_is_refused),
        stream_test(a_token_is_good_once_and_for_a_while),
        stream_test(offers_are_bounded),
        stream_test(a_silent_connection_ends),
        stream_test(a_peer_that_vanishes_is_an_end_and_writing_to_it_an_error),
        stream_test(a_stream_may_be_closed_in_its_own_callback),
        stream_test(connecting_to_nobody_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
