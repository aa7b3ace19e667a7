/* Volumes in pieces: heads, their order and limits; how long a sender rests. */
#include "atl_test.h"

#include "core/parcel.h"

static void a_head_comes_back_as_it_was(void **state)
{
    (void)state;
    uint8_t head[STO_PARCEL_HEAD];
    struct sto_parcel again;
    struct atl_error err = {0};
    const struct sto_parcel piece = {.offset = 0x0102030405060708, .length = STO_PARCEL_PIECE_MAX};
    sto_parcel_pack(&piece, head);
    assert_memory_equal(head, "D\1\2\3\4\5\6\7\10\0\20\0\0", sizeof head);
    assert_atl_ok(sto_parcel_unpack(head, 0, UINT64_MAX, &again, &err), &err);
    assert_false(again.end);
    assert_true(again.offset == piece.offset);
    assert_int_equal(again.length, piece.length);
    const struct sto_parcel end = {.end = true, .offset = 1 << 30, .length = STO_PARCEL_DIGEST};
    sto_parcel_pack(&end, head);
    assert_atl_ok(sto_parcel_unpack(head, 1 << 30, 1 << 30, &again, &err), &err);
    assert_true(again.end);
    assert_int_equal(again.offset, 1 << 30);
}

static void pieces_keep_their_order_and_their_limit(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        uint64_t from;
        uint64_t limit;
        enum atl_code code;
    } rows[] = {
        {"D\0\0\0\0\0\0\0\100\0\0\0\100", 64, 128, ATL_OK},
        {"D\0\0\0\0\0\0\0\100\0\0\0\100", 65, 128, ATL_E_INVALID},                      /* goes back */
        {"D\0\0\0\0\0\0\0\100\0\0\0\100", 64, 127, ATL_E_INVALID},                      /* past the limit */
        {"D\377\377\377\377\377\377\377\377\0\0\0\100", 64, UINT64_MAX, ATL_E_INVALID}, /* wraps around */
        {"D\0\0\0\0\0\0\0\0\0\0\0\0", 0, 128, ATL_E_INVALID},                           /* nothing in it */
        {"D\0\0\0\0\0\0\0\0\0\20\0\1", 0, 1 << 30, ATL_E_INVALID},                      /* too long for one */
        {"E\0\0\0\0\0\0\0\200\0\0\0\40", 64, 128, ATL_OK},
        {"E\0\0\0\0\0\0\0\201\0\0\0\40", 64, 128, ATL_E_INVALID},
        {"E\0\0\0\0\0\0\0\77\0\0\0\40", 64, 128, ATL_E_INVALID},  /* shorter than what came */
        {"E\0\0\0\0\0\0\0\200\0\0\0\37", 64, 128, ATL_E_INVALID}, /* no digest */
        {"X\0\0\0\0\0\0\0\200\0\0\0\40", 64, 128, ATL_E_INVALID},
    };
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        struct sto_parcel parcel;
        enum atl_code code =
            sto_parcel_unpack((const uint8_t *)rows[i].head, rows[i].from, rows[i].limit, &parcel, NULL);
        if (code != rows[i].code)
            fail_msg("row %zu: %s", i, atl_code_to_text(code));
    }
}

static void a_sender_rests_as_its_limit_says(void **state)
{
    (void)state;
    assert_int_equal(sto_parcel_rest(1 << 30, 0, 0), 0);
    assert_int_equal(sto_parcel_rest(1 << 20, 1 << 20, 0), ATL_SECOND);
    assert_int_equal(sto_parcel_rest(1 << 20, 1 << 20, ATL_SECOND / 4), 3 * ATL_SECOND / 4);
    assert_int_equal(sto_parcel_rest(1 << 20, 1 << 20, 2 * ATL_SECOND), 0);
    assert_int_equal(sto_parcel_rest(1 << 19, 1 << 20, 0), ATL_SECOND / 2);
    assert_true(sto_parcel_rest(UINT64_MAX, 1, 0) > 0);
    assert_true(sto_parcel_rest(UINT64_MAX, UINT64_MAX - 1, 0) >= ATL_SECOND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_comes_back_as_it_was),
        cmocka_unit_test(pieces_keep_their_order_and_their_limit),
        cmocka_unit_test(a_sender_rests_as_its_limit_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
