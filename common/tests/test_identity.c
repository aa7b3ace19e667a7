/* Tickets, CSRF tokens, secrets of API tokens, assertions. */
#include "atl_test.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "pure/assertion.h"
#include "pure/ticket.h"

static struct atl_arena arena;
static struct atl_error err;
static struct atl_bytes private_der;
static struct atl_bytes public_der;

static int make_key(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_RSA_gen(2048);
    uint8_t *private_bytes = NULL;
    uint8_t *public_bytes = NULL;
    int private_size = i2d_PrivateKey(key, &private_bytes);
    int public_size = i2d_PUBKEY(key, &public_bytes);
    private_der = (struct atl_bytes){.data = atl_arena_copy(&arena, private_bytes, (size_t)private_size),
                                     .size = (size_t)private_size};
    public_der = (struct atl_bytes){.data = atl_arena_copy(&arena, public_bytes, (size_t)public_size),
                                    .size = (size_t)public_size};
    OPENSSL_free(private_bytes);
    OPENSSL_free(public_bytes);
    EVP_PKEY_free(key);
    return 0;
}

static int drop_key(void **state)
{
    (void)state;
    atl_arena_done(&arena);
    return 0;
}

static enum atl_code check(const char *ticket, int64_t now, const char **ret_user)
{
    return atl_ticket_check(ticket, "PVE", now, public_der, &arena, ret_user, &err);
}

static void a_ticket_lives_two_hours_and_cannot_be_changed(void **state)
{
    (void)state;
    const int64_t made = 0x65000000;
    char *ticket = atl_ticket_make("PVE", "admin@pve", made, private_der, &arena);
    assert_int_equal(strncmp(ticket, "PVE:admin@pve:65000000::", 24), 0);
    assert_true(atl_ticket_shaped(ticket));
    const char *user = NULL;
    assert_atl_ok(check(ticket, made, &user), &err);
    assert_string_equal(user, "admin@pve");
    assert_atl_ok(check(ticket, made + ATL_TICKET_LIFE, &user), &err);
    assert_int_equal(check(ticket, made + ATL_TICKET_LIFE + 1, &user), ATL_E_UNAUTHENTICATED);
    assert_int_equal(check(ticket, made - ATL_TICKET_GRACE - 1, &user), ATL_E_UNAUTHENTICATED);
    for (size_t i = 0; ticket[i] != '\0'; i++) { /* every byte counts */
        char saved = ticket[i];
        ticket[i] = saved == 'A' ? 'B' : 'A';
        if (check(ticket, made, &user) == ATL_OK)
            fail_msg("byte %zu may be changed", i);
        ticket[i] = saved;
    }
    static const char *const none[] = {"",
                                       "PVE:",
                                       "PVE::",
                                       "PVE:a@pve:65000000::",
                                       "PVE:a@pve:65000000::AAAA",
                                       "PVEVNC:admin@pve:65000000::AAAA"};
    for (size_t i = 0; i < ATL_COUNT(none); i++)
        assert_int_equal(check(none[i], made, &user), ATL_E_UNAUTHENTICATED);
    assert_null(atl_ticket_make("PVE", "a@pve", made, public_der, &arena));
}

static void a_csrf_token_belongs_to_user_and_time(void **state)
{
    (void)state;
    static const uint8_t key[ATL_CSRF_KEY_SIZE] = {1};
    static const uint8_t other[ATL_CSRF_KEY_SIZE] = {2};
    const int64_t now = 0x65000000;
    const char *text = atl_csrf_make("admin@pve", now, key, &arena);
    assert_true(atl_csrf_valid(text, "admin@pve", now, key));
    assert_true(atl_csrf_valid(text, "admin@pve", now + 7200, key));
    assert_false(atl_csrf_valid(text, "admin@pve", now + 7201, key));
    assert_false(atl_csrf_valid(text, "other@pve", now, key));
    assert_false(atl_csrf_valid(text, "admin@pve", now, other));
    assert_false(atl_csrf_valid("", "admin@pve", now, key));
    assert_false(atl_csrf_valid("65000000:", "admin@pve", now, key));
}

static void a_token_is_split_and_its_secret_compared(void **state)
{
    (void)state;
    struct atl_token_text token;
    assert_atl_ok(atl_token_split("a@pve!ci=12345678-1234-4234-8234-123456789012", &arena, &token, &err),
                  &err);
    assert_string_equal(token.user, "a@pve");
    assert_string_equal(token.id, "ci");
    static const char *const none[] = {"",      "a@pve!ci", "a@pve!ci=",   "a@pve=x",
                                       "!ci=x", "a!ci=x",   "a b@pve!ci=x"};
    for (size_t i = 0; i < ATL_COUNT(none); i++)
        assert_int_equal(atl_token_split(none[i], &arena, &token, &err), ATL_E_UNAUTHENTICATED);
    char secret[ATL_TOKEN_SECRET_SIZE + 1];
    static const uint8_t random[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    atl_token_secret(random, secret);
    assert_string_equal(secret, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    static const uint8_t salt[ATL_TOKEN_SALT_SIZE] = {7};
    const char *kept = atl_token_hash(secret, salt, &arena);
    assert_null(strstr(kept, secret));
    assert_true(atl_token_matches(kept, secret));
    secret[0] = 'e';
    assert_false(atl_token_matches(kept, secret));
    assert_false(atl_token_matches("sha256:", secret));
    assert_true(atl_token_matches(secret, secret)); /* an imported file keeps them bare */
    assert_false(atl_token_matches("", ""));
}

static const uint8_t node_key[ATL_KEY_SIZE] = {9, 8, 7};

static const uint8_t *sign(int64_t issued, int64_t life, size_t *ret_size)
{
    struct atl_assertion assertion = {.user = "admin@pve",
                                      .token = "ci",
                                      .node = "pve1",
                                      .issued = issued,
                                      .expires = issued + life,
                                      .epoch = 3,
                                      .number = 44};
    return atl_assertion_sign(&assertion, node_key, &arena, ret_size);
}

static void an_assertion_says_who_and_for_how_long(void **state)
{
    (void)state;
    uint8_t public_key[ATL_KEY_SIZE];
    atl_assertion_public(node_key, public_key);
    size_t size = 0;
    const uint8_t *packed = sign(1000, ATL_ASSERTION_LIFE, &size);
    struct atl_assertion read;
    assert_atl_ok(atl_assertion_read(packed, size, &arena, &read, &err), &err);
    assert_string_equal(read.user, "admin@pve");
    assert_string_equal(read.token, "ci");
    assert_int_equal(read.number, 44);
    assert_atl_ok(atl_assertion_verify(packed, size, public_key, 1299, &err), &err);
    assert_int_equal(atl_assertion_verify(packed, size, public_key, 1300, &err), ATL_E_UNAUTHENTICATED);
    assert_atl_ok(atl_assertion_verify(packed, size, public_key, 970, &err), &err);
    assert_int_equal(atl_assertion_verify(packed, size, public_key, 969, &err), ATL_E_UNAUTHENTICATED);
    static const uint8_t stranger[ATL_KEY_SIZE] = {1};
    assert_int_equal(atl_assertion_verify(packed, size, stranger, 1000, &err), ATL_E_UNAUTHENTICATED);
    uint8_t *copy = atl_arena_copy(&arena, packed, size);
    for (size_t i = 0; i < size; i++) {
        copy[i] ^= 4;
        assert_int_equal(atl_assertion_verify(copy, size, public_key, 1000, &err), ATL_E_UNAUTHENTICATED);
        copy[i] ^= 4;
    }
    packed = sign(1000, ATL_ASSERTION_LIFE + 1, &size);
    assert_int_equal(atl_assertion_verify(packed, size, public_key, 1000, &err), ATL_E_UNAUTHENTICATED);
    assert_int_equal(atl_assertion_read(packed, 0, &arena, &read, &err), ATL_E_UNAUTHENTICATED);
    assert_int_equal(atl_assertion_read((const uint8_t *)"nonsense", 8, &arena, &read, &err),
                     ATL_E_UNAUTHENTICATED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ticket_lives_two_hours_and_cannot_be_changed),
        cmocka_unit_test(a_csrf_token_belongs_to_user_and_time),
        cmocka_unit_test(a_token_is_split_and_its_secret_compared),
        cmocka_unit_test(an_assertion_says_who_and_for_how_long),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
