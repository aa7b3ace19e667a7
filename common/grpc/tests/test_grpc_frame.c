/* gRPC on the wire: frames in pieces, percent signs, statuses, timeouts, waiting times. */
#include "atl_test.h"

#include "grpc/frame.h"

static struct atl_error err;

static void frames_come_together_from_pieces_of_every_size(void **state)
{
    (void)state;
    struct atl_buf wire = {0};
    atl_grpc_frame(&wire, "first", 5);
    atl_grpc_frame(&wire, NULL, 0);
    atl_grpc_frame(&wire, "third one", 9);
    static const char *const wanted[] = {"first", "", "third one"};
    for (size_t piece = 1; piece <= wire.length; piece++) {
        struct atl_grpc_reader reader;
        atl_grpc_reader_init(&reader, 9);
        size_t seen = 0;
        for (size_t at = 0; at < wire.length;) {
            size_t size = wire.length - at < piece ? wire.length - at : piece;
            size_t taken = 0;
            assert_atl_ok(atl_grpc_reader_take(&reader, (const uint8_t *)wire.data + at, size, &taken, &err),
                          &err);
            assert_true(taken > 0);
            at += taken;
            if (!reader.complete)
                continue;
            const char *text = wanted[seen % 3];
            assert_int_equal(reader.message.length, strlen(text));
            assert_memory_equal(reader.message.data != NULL ? reader.message.data : "", text, strlen(text));
            seen++;
            atl_grpc_reader_next(&reader);
        }
        assert_int_equal(seen, 3);
        assert_false(atl_grpc_reader_within(&reader));
        atl_grpc_reader_done(&reader);
    }
    atl_buf_done(&wire);
}

static void a_frame_that_is_too_long_or_compressed_is_refused(void **state)
{
    (void)state;
    struct atl_grpc_reader reader;
    size_t taken = 0;
    atl_grpc_reader_init(&reader, 100);
    assert_int_equal(atl_grpc_reader_take(&reader, (const uint8_t *)"\0\0\0\0\x65", 5, &taken, &err),
                     ATL_E_LIMIT);
    atl_grpc_reader_init(&reader, 100);
    assert_int_equal(atl_grpc_reader_take(&reader, (const uint8_t *)"\1\0\0\0\1a", 6, &taken, &err),
                     ATL_E_INVALID);
    atl_grpc_reader_init(&reader, 100);
    assert_atl_ok(atl_grpc_reader_take(&reader, (const uint8_t *)"\0\0\0\0\x64", 5, &taken, &err), &err);
    assert_true(atl_grpc_reader_within(&reader));
    atl_grpc_reader_done(&reader);
}

static void percent_signs_are_decoded(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *wanted;
    } cases[] = {{"", ""},         {"plain", "plain"},     {"a%20b", "a b"},    {"%41%4a%4A", "AJJ"},
                 {"%", "%"},       {"%4", "%4"},           {"%zz", "%zz"},      {"100%25", "100%"},
                 {"a%0ab", "a?b"}, {"%C3%A4", "\xc3\xa4"}, {"%25%32%35", "%25"}};
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        char text[32];
        atl_grpc_percent_decode(cases[i].text, strlen(cases[i].text), text, sizeof text);
        assert_string_equal(text, cases[i].wanted);
    }
    char small[4];
    atl_grpc_percent_decode("%61%62%63%64", 12, small, sizeof small);
    assert_string_equal(small, "abc");
}

static void a_status_is_a_code_or_unknown(void **state)
{
    (void)state;
    assert_int_equal(atl_grpc_status("0", 1), ATL_OK);
    assert_int_equal(atl_grpc_status("16", 2), ATL_E_UNAUTHENTICATED);
    static const char *const bad[] = {"", "17", "-1", "x", "1x", "0000", "999"};
    for (size_t i = 0; i < ATL_COUNT(bad); i++)
        assert_int_equal(atl_grpc_status(bad[i], strlen(bad[i])), ATL_E_UNKNOWN);
    assert_int_equal(atl_grpc_http_status("200", 3), 200);
    assert_int_equal(atl_grpc_http_status("20", 2), -1);
    assert_int_equal(atl_grpc_status_of_http(503), ATL_E_UNAVAILABLE);
    assert_int_equal(atl_grpc_status_of_http(404), ATL_E_UNIMPLEMENTED);
    assert_int_equal(atl_grpc_status_of_http(418), ATL_E_UNKNOWN);
}

static void a_timeout_has_eight_digits_at_most(void **state)
{
    (void)state;
    static const struct {
        atl_ns timeout;
        const char *wanted;
    } cases[] = {{1, "1m"},
                 {ATL_MS, "1m"},
                 {ATL_MS + 1, "2m"},
                 {99999999 * ATL_MS, "99999999m"},
                 {100000 * ATL_SECOND, "100000S"},
                 {INT64_MAX - ATL_SECOND, "99999999S"}};
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        char text[ATL_GRPC_TIMEOUT_MAX];
        atl_grpc_timeout_text(cases[i].timeout, text);
        assert_string_equal(text, cases[i].wanted);
    }
}

static void waiting_doubles_up_to_its_limit_and_depends_on_the_seed_alone(void **state)
{
    (void)state;
    struct atl_grpc_backoff a = {.first = 100 * ATL_MS, .max = ATL_SECOND, .seed = 7};
    struct atl_grpc_backoff b = a;
    struct atl_grpc_backoff other = {.first = 100 * ATL_MS, .max = ATL_SECOND, .seed = 8};
    bool differs = false;
    atl_ns span = 100 * ATL_MS;
    for (int i = 0; i < 40; i++) {
        atl_ns wait = atl_grpc_backoff_next(&a);
        assert_int_equal(wait, atl_grpc_backoff_next(&b));
        differs = differs || wait != atl_grpc_backoff_next(&other);
        assert_true(wait >= span / 2);
        assert_true(wait < span);
        span = span * 2 > ATL_SECOND ? ATL_SECOND : span * 2;
    }
    assert_true(differs);
    atl_grpc_backoff_reset(&a);
    assert_true(atl_grpc_backoff_next(&a) < 100 * ATL_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_together_from_pieces_of_every_size),
        cmocka_unit_test(a_frame_that_is_too_long_or_compressed_is_refused),
        cmocka_unit_test(percent_signs_are_decoded),
        cmocka_unit_test(a_status_is_a_code_or_unknown),
        cmocka_unit_test(a_timeout_has_eight_digits_at_most),
        cmocka_unit_test(waiting_doubles_up_to_its_limit_and_depends_on_the_seed_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
