/* The bounded memory of sessions, and of failed logins. */
#include "atl_test.h"

#include "core/sessions.h"
#include "core/throttle.h"

static const uint8_t *key_of(uint32_t number, uint8_t key[GW_DIGEST_SIZE])
{
    memset(key, 0, GW_DIGEST_SIZE);
    uint32_t hash = number % 100; /* long chains */
    memcpy(key, &hash, sizeof hash);
    memcpy(key + 8, &number, sizeof number);
    return key;
}

static void a_session_is_found_until_it_is_dropped(void **state)
{
    (void)state;
    struct gw_sessions *sessions = gw_sessions_new();
    uint8_t key[GW_DIGEST_SIZE];
    assert_null(gw_sessions_find(sessions, key_of(1, key)));
    struct gw_session *session = gw_sessions_put(sessions, key_of(1, key));
    session->expires = 77;
    assert_ptr_equal(gw_sessions_put(sessions, key_of(1, key)), session);
    assert_int_equal(gw_sessions_find(sessions, key_of(1, key))->expires, 77);
    gw_sessions_drop(sessions, key_of(1, key));
    assert_null(gw_sessions_find(sessions, key_of(1, key)));
    gw_sessions_drop(sessions, key_of(1, key));
    assert_int_equal(gw_sessions_put(sessions, key_of(1, key))->expires, 0);
    gw_sessions_free(sessions);
}

static void the_one_unused_for_longest_makes_room(void **state)
{
    (void)state;
    struct gw_sessions *sessions = gw_sessions_new();
    uint8_t key[GW_DIGEST_SIZE];
    for (uint32_t i = 0; i < GW_SESSIONS_MAX; i++)
        gw_sessions_put(sessions, key_of(i, key))->expires = i;
    assert_non_null(gw_sessions_find(sessions, key_of(0, key))); /* used again */
    (void)gw_sessions_put(sessions, key_of(GW_SESSIONS_MAX, key));
    assert_non_null(gw_sessions_find(sessions, key_of(0, key)));
    assert_null(gw_sessions_find(sessions, key_of(1, key)));
    for (uint32_t i = 2; i <= GW_SESSIONS_MAX; i++)
        assert_non_null(gw_sessions_find(sessions, key_of(i, key)));
    for (uint32_t i = 0; i < 3 * GW_SESSIONS_MAX; i++) { /* drops in between leave no hole behind */
        (void)gw_sessions_put(sessions, key_of(i, key));
        if (i % 3 == 0)
            gw_sessions_drop(sessions, key_of(i, key));
        else
            assert_non_null(gw_sessions_find(sessions, key_of(i, key)));
    }
    gw_sessions_free(sessions);
}

static void revisions_only_grow(void **state)
{
    (void)state;
    struct gw_session session = {0};
    gw_session_saw(&session, 1, 50);
    gw_session_saw(&session, 1, 40);
    assert_int_equal(session.number, 50);
    gw_session_saw(&session, 2, 3);
    assert_int_equal(session.epoch, 2);
    assert_int_equal(session.number, 3);
    gw_session_saw(&session, 1, 99);
    assert_int_equal(session.epoch, 2);
}

static void many_failures_block_an_address_for_a_minute(void **state)
{
    (void)state;
    struct gw_throttle throttle = {0};
    for (int i = 0; i < GW_FAILURES_MAX; i++) {
        assert_false(gw_throttle_blocks(&throttle, "10.0.0.1", i * ATL_SECOND));
        gw_throttle_failed(&throttle, "10.0.0.1", i * ATL_SECOND);
    }
    assert_true(gw_throttle_blocks(&throttle, "10.0.0.1", 59 * ATL_SECOND));
    assert_false(gw_throttle_blocks(&throttle, "10.0.0.2", 59 * ATL_SECOND));
    assert_false(gw_throttle_blocks(&throttle, "10.0.0.1", 60 * ATL_SECOND));
    gw_throttle_failed(&throttle, "10.0.0.1", 61 * ATL_SECOND);
    assert_false(gw_throttle_blocks(&throttle, "10.0.0.1", 62 * ATL_SECOND));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_found_until_it_is_dropped),
        cmocka_unit_test(the_one_unused_for_longest_makes_room),
        cmocka_unit_test(revisions_only_grow),
        cmocka_unit_test(many_failures_block_an_address_for_a_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
