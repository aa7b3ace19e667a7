/* Streams between nodes: who is taken, half closes, pumps, connections that are cut, garbage. */
#include "atl_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/stream_internal.h"

#define SOON (atl_clock_monotonic() + 20 * ATL_SECOND)

struct fixture {
    struct atl_stream_server *server;
    struct atl_stream_offer offer;
    struct atl_stream *near; /* of the connecting side */
    struct atl_stream *far;
};

struct connecting {
    struct atl_stream_offer offer;
    const char *channel;
    struct atl_stream *stream;
    enum atl_code code;
    struct atl_error err;
    pthread_t thread;
};

static void *connect_in_thread(void *user)
{
    struct connecting *connecting = user;
    connecting->code = atl_stream_connect(&connecting->offer, connecting->channel, SOON, &connecting->stream,
                                          &connecting->err);
    return NULL;
}

static void begin(struct connecting *connecting, const struct atl_stream_offer *offer, const char *channel)
{
    *connecting = (struct connecting){.offer = *offer, .channel = channel};
    assert_int_equal(pthread_create(&connecting->thread, NULL, connect_in_thread, connecting), 0);
}

static int listens(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct atl_error err = {0};
    assert_non_null(fixture);
    assert_atl_ok(atl_stream_listen("127.0.0.1", &fixture->server, &fixture->offer, &err), &err);
    *state = fixture;
    return 0;
}

static int joined(void **state)
{
    struct connecting connecting;
    struct atl_error err = {0};
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
    (void)listens(state);
    struct fixture *fixture = *state;
    begin(&connecting, &fixture->offer, "disk:scsi0");
    assert_atl_ok(atl_stream_accept(fixture->server, SOON, &fixture->far, channel, &err), &err);
    assert_int_equal(pthread_join(connecting.thread, NULL), 0);
    assert_atl_ok(connecting.code, &connecting.err);
    assert_string_equal(channel, "disk:scsi0");
    fixture->near = connecting.stream;
    return 0;
}

static int done(void **state)
{
    struct fixture *fixture = *state;
    atl_stream_close(&fixture->near);
    atl_stream_close(&fixture->far);
    atl_stream_server_close(&fixture->server);
    free(fixture);
    return 0;
}

/* A plain connection to the listener, for those who do not speak TLS. */
static int plain(const struct atl_stream_offer *offer)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(offer->port)};
    assert_int_equal(inet_pton(AF_INET, offer->address, &to.sin_addr), 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void an_offer_goes_over_the_bus(void **state)
{
    const struct fixture *fixture = *state;
    struct atl_arena arena = {0};
    struct atl_stream_offer again;
    struct atl_error err = {0};
    Atoll__Bus__V1__StreamOffer *message = atl_stream_offer_pack(&fixture->offer, &arena);
    assert_atl_ok(atl_stream_offer_unpack(message, &again, &err), &err);
    assert_memory_equal(&again, &fixture->offer, sizeof again);
    assert_in_range(again.port, ATL_STREAM_PORT_FIRST, ATL_STREAM_PORT_LAST);
    message->token.len--;
    assert_int_equal(atl_stream_offer_unpack(message, &again, &err), ATL_E_INVALID);
    message->token.len++;
    message->port = 22;
    assert_int_equal(atl_stream_offer_unpack(message, &again, &err), ATL_E_INVALID);
    atl_arena_done(&arena);
}

static void bytes_go_both_ways_and_each_side_ends_for_itself(void **state)
{
    struct fixture *fixture = *state;
    struct atl_error err = {0};
    char text[16] = "";
    size_t got = 1;
    assert_atl_ok(atl_stream_write(fixture->near, "hello", 5, SOON, &err), &err);
    assert_atl_ok(atl_stream_finish(fixture->near, SOON, &err), &err);
    assert_atl_ok(atl_stream_read_all(fixture->far, text, 5, SOON, &err), &err);
    assert_string_equal(text, "hello");
    assert_atl_ok(atl_stream_read(fixture->far, text, sizeof text, SOON, &got, &err), &err);
    assert_int_equal(got, 0);
    /* the other half still stands */
    assert_atl_ok(atl_stream_write(fixture->far, "there", 5, SOON, &err), &err);
    assert_atl_ok(atl_stream_finish(fixture->far, SOON, &err), &err);
    assert_atl_ok(atl_stream_read_all(fixture->near, text, 5, SOON, &err), &err);
    assert_string_equal(text, "there");
    assert_int_equal(atl_stream_read_all(fixture->near, text, 1, SOON, &err), ATL_E_UNAVAILABLE);
}

static void a_cut_connection_is_no_end(void **state)
{
    struct fixture *fixture = *state;
    struct atl_error err = {0};
    char text[16];
    size_t got = 0;
    assert_atl_ok(atl_stream_write(fixture->near, "half", 4, SOON, &err), &err);
    atl_stream_close(&fixture->near);
    assert_atl_ok(atl_stream_read_all(fixture->far, text, 4, SOON, &err), &err);
    assert_int_equal(atl_stream_read(fixture->far, text, sizeof text, SOON, &got, &err), ATL_E_UNAVAILABLE);
    assert_int_equal(atl_stream_finish(fixture->far, SOON, &err), ATL_E_UNAVAILABLE);
}

static void silence_ends_at_the_deadline(void **state)
{
    struct fixture *fixture = *state;
    struct atl_error err = {0};
    char text[16];
    size_t got = 0;
    atl_ns deadline = atl_clock_monotonic() + 50 * ATL_MS;
    assert_int_equal(atl_stream_read(fixture->far, text, sizeof text, deadline, &got, &err), ATL_E_DEADLINE);
    assert_true(atl_clock_monotonic() >= deadline);
    /* and the stream is as good as before */
    assert_atl_ok(atl_stream_write(fixture->near, "late", 4, SOON, &err), &err);
    assert_atl_ok(atl_stream_read_all(fixture->far, text, 4, SOON, &err), &err);
}

static void *abort_it(void *user)
{
    atl_stream_abort(user);
    return NULL;
}

static void whoever_waits_can_be_called_off(void **state)
{
    struct fixture *fixture = *state;
    struct atl_error err = {0};
    char text[16];
    size_t got = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, abort_it, fixture->far), 0);
    assert_int_equal(atl_stream_read(fixture->far, text, sizeof text, ATL_STREAM_FOREVER, &got, &err),
                     ATL_E_CANCELLED);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void a_wrong_token_is_refused_and_the_right_one_taken_after_it(void **state)
{
    struct fixture *fixture = *state;
    struct connecting wrong;
    struct connecting right;
    struct atl_stream_offer offer = fixture->offer;
    struct atl_error err = {0};
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
    offer.token[31] ^= 1;
    begin(&wrong, &offer, "ram");
    assert_int_equal(atl_stream_accept(fixture->server, atl_clock_monotonic() + 300 * ATL_MS, &fixture->far,
                                       channel, &err),
                     ATL_E_DEADLINE);
    assert_int_equal(pthread_join(wrong.thread, NULL), 0);
    assert_int_equal(wrong.code, ATL_E_UNAUTHENTICATED);
    begin(&right, &fixture->offer, "ram");
    assert_atl_ok(atl_stream_accept(fixture->server, SOON, &fixture->far, channel, &err), &err);
    assert_int_equal(pthread_join(right.thread, NULL), 0);
    assert_atl_ok(right.code, &right.err);
    fixture->near = right.stream;
}

static void another_certificate_is_not_talked_to(void **state)
{
    struct fixture *fixture = *state;
    struct connecting connecting;
    struct atl_stream_offer offer = fixture->offer;
    struct atl_error err = {0};
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
    offer.fingerprint[0] ^= 0x80;
    begin(&connecting, &offer, "ram");
    assert_int_equal(atl_stream_accept(fixture->server, atl_clock_monotonic() + 300 * ATL_MS, &fixture->far,
                                       channel, &err),
                     ATL_E_DEADLINE);
    assert_int_equal(pthread_join(connecting.thread, NULL), 0);
    assert_int_equal(connecting.code, ATL_E_UNAUTHENTICATED);
    assert_non_null(strstr(connecting.err.text, "certificate"));
}

/* TLS with a peer of ours that then says what the listener must not believe. */
static void refused_after(const struct fixture *fixture, const void *bytes, size_t size)
{
    struct atl_error err = {0};
    struct atl_stream *far = NULL;
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
    uint8_t answer = 0xff;
    size_t got = 0;
    SSL_CTX *context = stream_context(TLS_client_method());
    SSL *ssl = SSL_new(context);
    SSL_CTX_free(context);
    int fd = plain(&fixture->offer);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    SSL_set_connect_state(ssl);
    struct atl_stream *peer = stream_new(ssl, fd, -1);
    bool said = false;
    enum atl_code code = ATL_E_DEADLINE;
    for (int i = 0; i < 400 && code == ATL_E_DEADLINE; i++) {
        short events = 0;
        if (!said && stream_try_handshake(peer, &events) == STREAM_MOVED) {
            assert_atl_ok(atl_stream_write(peer, bytes, size, SOON, &err), &err);
            said = true;
        }
        assert_int_equal(
            atl_stream_accept(fixture->server, atl_clock_monotonic() + 5 * ATL_MS, &far, channel, &err),
            ATL_E_DEADLINE);
        if (said)
            code = atl_stream_read(peer, &answer, 1, atl_clock_monotonic() + 5 * ATL_MS, &got, &err);
    }
    if (code == ATL_OK) { /* told, else cut */
        assert_int_equal(got, 1);
        assert_int_equal(answer, STREAM_REFUSED);
    } else {
        assert_int_equal(code, ATL_E_UNAVAILABLE);
    }
    atl_stream_close(&peer);
}

static void bad_opening_frames_are_refused(void **state)
{
    const struct fixture *fixture = *state;
    uint8_t frame[STREAM_FRAME_MAX + 8] = {0};
    size_t size = stream_frame_pack(fixture->offer.token, "nbd", frame);
    assert_int_equal(size, 6 + 32 + 3);
    refused_after(fixture, frame, size + 1); /* talks before it is taken */
    frame[size - 1] = '/';
    refused_after(fixture, frame, size);
    frame[4] = 2; /* another version */
    refused_after(fixture, frame, size);
    refused_after(fixture, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_int_equal(stream_frame_pack(fixture->offer.token, "", frame), 0);
    assert_int_equal(stream_frame_pack(fixture->offer.token, "a/b", frame), 0);
}

static void who_speaks_no_tls_and_who_says_nothing_hold_up_nobody(void **state)
{
    struct fixture *fixture = *state;
    struct connecting connecting;
    struct atl_error err = {0};
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
    int silent[7];
    for (size_t i = 0; i < ATL_COUNT(silent); i++)
        silent[i] = plain(&fixture->offer);
    int garbage = plain(&fixture->offer);
    assert_int_equal(write(garbage, "\x16\x03\x01\xff\xffgarbage", 12), 12);
    begin(&connecting, &fixture->offer, "libvirt");
    atl_ns before = atl_clock_monotonic();
    assert_atl_ok(atl_stream_accept(fixture->server, SOON, &fixture->far, channel, &err), &err);
    assert_true(atl_clock_monotonic() - before < 5 * ATL_SECOND);
    assert_int_equal(pthread_join(connecting.thread, NULL), 0);
    fixture->near = connecting.stream;
    for (size_t i = 0; i < ATL_COUNT(silent); i++)
        (void)close(silent[i]);
    (void)close(garbage);
}

static void who_says_nothing_is_turned_away_after_five_seconds(void **state)
{
    struct fixture *fixture = *state;
    struct connecting connecting;
    struct atl_error err = {0};
    char channel[ATL_STREAM_CHANNEL_MAX + 1];
    int silent[8];
    for (size_t i = 0; i < ATL_COUNT(silent); i++)
        silent[i] = plain(&fixture->offer);
    atl_ns before = atl_clock_monotonic();
    /* so that all places are theirs before another comes */
    assert_int_equal(atl_stream_accept(fixture->server, before + 100 * ATL_MS, &fixture->far, channel, &err),
                     ATL_E_DEADLINE);
    begin(&connecting, &fixture->offer, "libvirt");
    assert_atl_ok(atl_stream_accept(fixture->server, SOON, &fixture->far, channel, &err), &err);
    assert_true(atl_clock_monotonic() - before >= 4 * ATL_SECOND);
    assert_int_equal(pthread_join(connecting.thread, NULL), 0);
    fixture->near = connecting.stream;
    for (size_t i = 0; i < ATL_COUNT(silent); i++)
        (void)close(silent[i]);
}

static void nobody_listens_any_more(void **state)
{
    struct fixture *fixture = *state;
    struct atl_error err = {0};
    atl_stream_server_close(&fixture->server);
    assert_int_equal(atl_stream_connect(&fixture->offer, "ram", SOON, &fixture->near, &err),
                     ATL_E_UNAVAILABLE);
}

/* --- relays --- */

struct pair {
    struct atl_stream_relay *near;
    struct atl_stream_relay *far;
    int near_fd; /* our ends */
    int far_fd;
};

static void relays(struct fixture *fixture, const char *channel, struct pair *pair)
{
    int near[2];
    int far[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, near), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, far), 0);
    pair->near_fd = near[0];
    pair->far_fd = far[0];
    pair->far = atl_stream_relay_accept(&fixture->server, "upload", SOON, &far[1]);
    pair->near = atl_stream_relay_connect(&fixture->offer, channel, SOON, &near[1]);
    assert_null(fixture->server);
    assert_int_equal(near[1], -1);
}

static void pair_end(struct pair *pair)
{
    (void)close(pair->near_fd);
    (void)close(pair->far_fd);
    atl_stream_relay_free(&pair->near);
    atl_stream_relay_free(&pair->far);
}

static enum atl_code ended(const struct atl_stream_relay *relay)
{
    struct atl_error err = {0};
    for (int i = 0; i < 2000 && !atl_stream_relay_ended(relay, &err); i++)
        (void)usleep(10000);
    assert_true(atl_stream_relay_ended(relay, &err));
    return err.code;
}

static void *send_much(void *user)
{
    const int *fd = user;
    uint8_t bytes[65536];
    for (unsigned int i = 0; i < 512; i++) {
        memset(bytes, (int)(i & 0xff), sizeof bytes);
        for (size_t at = 0; at < sizeof bytes;) {
            ssize_t put = write(*fd, bytes + at, sizeof bytes - at);
            if (put <= 0)
                return NULL;
            at += (size_t)put;
        }
    }
    (void)shutdown(*fd, SHUT_WR);
    return NULL;
}

static void a_relay_carries_bytes_both_ways_with_their_ends(void **state)
{
    struct pair pair;
    pthread_t thread;
    uint8_t bytes[65536];
    uint64_t total = 0;
    bool same = true;
    ssize_t got = 0;
    relays(*state, "upload", &pair);
    assert_int_equal(pthread_create(&thread, NULL, send_much, &pair.near_fd), 0);
    while ((got = read(pair.far_fd, bytes, sizeof bytes)) > 0) {
        for (ssize_t i = 0; i < got; i++)
            same = same && bytes[i] == (((total + (uint64_t)i) >> 16) & 0xff);
        total += (uint64_t)got;
    }
    assert_int_equal(got, 0);
    assert_true(same);
    assert_int_equal(total, 512 * 65536);
    assert_true(atl_stream_relay_complete(pair.far));
    /* the other half still stands */
    assert_int_equal(write(pair.far_fd, "OK 33554432\n", 12), 12);
    (void)close(pair.far_fd);
    pair.far_fd = -1;
    assert_int_equal(read(pair.near_fd, bytes, sizeof bytes), 12);
    assert_int_equal(read(pair.near_fd, bytes, sizeof bytes), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(ended(pair.near), ATL_OK);
    assert_int_equal(ended(pair.far), ATL_OK);
    pair_end(&pair);
}

static void a_relay_that_is_cut_ends_the_other_but_not_as_complete(void **state)
{
    struct pair pair;
    char byte = 0;
    relays(*state, "upload", &pair);
    assert_int_equal(write(pair.near_fd, "x", 1), 1);
    assert_int_equal(read(pair.far_fd, &byte, 1), 1);
    atl_stream_relay_free(&pair.near);
    assert_int_equal(read(pair.far_fd, &byte, 1), 0);
    assert_false(atl_stream_relay_complete(pair.far));
    assert_int_equal(ended(pair.far), ATL_E_UNAVAILABLE);
    pair_end(&pair);
}

static void a_relay_waits_for_its_channel_and_can_be_called_off(void **state)
{
    struct pair pair;
    char byte = 0;
    relays(*state, "something-else", &pair);
    assert_int_equal(read(pair.near_fd, &byte, 1), 0); /* turned away */
    assert_true(ended(pair.near) != ATL_OK);
    atl_ns before = atl_clock_monotonic();
    atl_stream_relay_free(&pair.far);
    assert_true(atl_clock_monotonic() - before < 5 * ATL_SECOND);
    assert_int_equal(read(pair.far_fd, &byte, 1), 0);
    pair_end(&pair);
}

static void without_descriptors_a_relay_ends_at_once(void **state)
{
    const struct fixture *fixture = *state;
    struct rlimit usual;
    struct atl_error err = {0};
    char byte = 0;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct atl_stream_relay *relay = atl_stream_relay_connect(&fixture->offer, "upload", SOON, &pair[1]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    assert_true(atl_stream_relay_ended(relay, &err));
    assert_int_equal(err.code, ATL_E_LIMIT);
    assert_int_equal(read(pair[0], &byte, 1), 0);
    atl_stream_relay_free(&relay);
    (void)close(pair[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_offer_goes_over_the_bus, listens, done),
        cmocka_unit_test_setup_teardown(bytes_go_both_ways_and_each_side_ends_for_itself, joined, done),
        cmocka_unit_test_setup_teardown(a_cut_connection_is_no_end, joined, done),
        cmocka_unit_test_setup_teardown(silence_ends_at_the_deadline, joined, done),
        cmocka_unit_test_setup_teardown(whoever_waits_can_be_called_off, joined, done),
        cmocka_unit_test_setup_teardown(a_wrong_token_is_refused_and_the_right_one_taken_after_it, listens,
                                        done),
        cmocka_unit_test_setup_teardown(another_certificate_is_not_talked_to, listens, done),
        cmocka_unit_test_setup_teardown(bad_opening_frames_are_refused, listens, done),
        cmocka_unit_test_setup_teardown(who_speaks_no_tls_and_who_says_nothing_hold_up_nobody, listens, done),
        cmocka_unit_test_setup_teardown(who_says_nothing_is_turned_away_after_five_seconds, listens, done),
        cmocka_unit_test_setup_teardown(nobody_listens_any_more, listens, done),
        cmocka_unit_test_setup_teardown(a_relay_carries_bytes_both_ways_with_their_ends, listens, done),
        cmocka_unit_test_setup_teardown(a_relay_that_is_cut_ends_the_other_but_not_as_complete, listens,
                                        done),
        cmocka_unit_test_setup_teardown(a_relay_waits_for_its_channel_and_can_be_called_off, listens, done),
        cmocka_unit_test_setup_teardown(without_descriptors_a_relay_ends_at_once, listens, done),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
