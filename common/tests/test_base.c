/* Errors, arena and buffer. */
#include "atl_test.h"

#include "pure/arena.h"

static void an_error_keeps_its_first_text_when_it_quotes_itself(void **state)
{
    (void)state;
    struct atl_error err = {0};
    (void)atl_fail(&err, ATL_E_ABSENT, "vmid", "no guest %d", 7);
    enum atl_code code = atl_fail(&err, ATL_E_IO, NULL, "start: %s", err.text);
    assert_int_equal(code, ATL_E_IO);
    assert_string_equal(err.text, "start: no guest 7");
    assert_string_equal(err.field, "");
}

static void control_bytes_in_errors_become_question_marks(void **state)
{
    (void)state;
    struct atl_error err;
    (void)atl_fail(&err, ATL_E_INVALID, "name", "bad\r\nname");
    assert_string_equal(err.text, "bad??name");
}

static void the_error_list_is_bounded_and_keeps_the_first_per_parameter(void **state)
{
    (void)state;
    struct atl_errors errors = {0};
    atl_errors_add(&errors, "a", "first");
    atl_errors_add(&errors, "a", "second");
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0].text, "first");
    for (int i = 0; i < 100; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "p%d", i);
        atl_errors_add(&errors, name, "x");
    }
    assert_int_equal(errors.count, ATL_ERRORS_MAX);
    assert_int_equal(errors.dropped, 37);
}

static void an_arena_gives_zeroed_aligned_memory_and_keeps_it_until_done(void **state)
{
    (void)state;
    struct atl_arena arena = {0};
    char *texts[500];
    for (int i = 0; i < 500; i++)
        texts[i] = atl_arena_format(&arena, "text number %d", i);
    unsigned char *large = atl_arena_alloc(&arena, 3 << 20);
    assert_int_equal((uintptr_t)large % 16, 0);
    assert_int_equal(large[0] | large[(3 << 20) - 1], 0);
    assert_string_equal(texts[0], "text number 0");
    assert_string_equal(texts[499], "text number 499");
    atl_arena_reset(&arena);
    unsigned char *again = atl_arena_alloc(&arena, 3 << 20);
    for (size_t i = 0; i < 3 << 20; i++)
        assert_int_equal(again[i], 0);
    atl_arena_done(&arena);
}

static void a_buffer_grows_and_prints_numbers(void **state)
{
    (void)state;
    struct atl_buf buf = {0};
    atl_buf_uint(&buf, 0);
    atl_buf_char(&buf, ' ');
    atl_buf_uint(&buf, UINT64_MAX);
    atl_buf_char(&buf, ' ');
    atl_buf_int(&buf, INT64_MIN);
    assert_string_equal(buf.data, "0 18446744073709551615 -9223372036854775808");
    atl_buf_reset(&buf);
    for (int i = 0; i < 1000; i++)
        atl_buf_printf(&buf, "%d,", i);
    assert_int_equal(buf.length, 3890);
    atl_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_keeps_its_first_text_when_it_quotes_itself),
        cmocka_unit_test(control_bytes_in_errors_become_question_marks),
        cmocka_unit_test(the_error_list_is_bounded_and_keeps_the_first_per_parameter),
        cmocka_unit_test(an_arena_gives_zeroed_aligned_memory_and_keeps_it_until_done),
        cmocka_unit_test(a_buffer_grows_and_prints_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
