/* The files of shared secrets through the phases of their change, each done twice, as after a crash. */
#include "atl_test.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cluster/secrets.h"
#include "drivers/seal.h"

static struct atl_error err;
static char dir[] = "/tmp/atl-secrets-XXXXXX";
static struct cfg_place place = {.dir = dir, .node = "n1", .life_s = 120};

static void write_text(const char *name, const char *text)
{
    struct atl_buf content ATL_BUF_AT_EXIT = {0};
    atl_buf_text(&content, text);
    assert_atl_ok(cfg_place_write(&place, name, &content, &err), &err);
}

static char *read_text(const char *name)
{
    struct atl_buf content = {0};
    if (cfg_place_read(&place, name, &content, NULL) != ATL_OK) {
        atl_buf_done(&content);
        return NULL;
    }
    return atl_buf_steal(&content);
}

/* A node of a cluster: one authority, one key of priv/. */
static int set_up(void **state)
{
    (void)state;
    static const char *const folders[] = {"etcd", "corosync", "next"};
    struct atl_buf csr ATL_BUF_AT_EXIT = {0};
    struct atl_buf cert ATL_BUF_AT_EXIT = {0};
    (void)snprintf(dir, sizeof dir, "/tmp/atl-secrets-XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < ATL_COUNT(folders); i++)
        assert_atl_ok(cfg_place_empty(&place, folders[i], &err), &err);
    assert_atl_ok(cfg_pki_make_ca(&place, &cfg_pki_current, "old", &err), &err);
    assert_atl_ok(cfg_pki_make_request(&place, &csr, &err), &err);
    const struct cfg_pki_subject subject = {.node = "n1", .address = "10.0.0.1"};
    assert_atl_ok(cfg_pki_sign(&place, &cfg_pki_current, csr.data, &subject, &cert, &err), &err);
    assert_atl_ok(cfg_place_write(&place, "etcd/node.pem", &cert, &err), &err);
    write_text("corosync/authkey", "old authkey");
    write_text(CFG_SEAL_FILE, "OLD OLD OLD OLD OLD OLD OLD OLD ");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_atl_ok(cfg_place_empty(&place, ".", &err), &err);
    return rmdir(dir);
}

static size_t count_of(const char *text, const char *word)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        count++;
    return count;
}

static void make_next(uint64_t generation)
{
    const struct cfg_secrets_wish wish = {
        .generation = generation, .cluster = "demo", .subject = {.node = "n1", .address = "10.0.0.1"}};
    assert_atl_ok(cfg_secrets_make(&place, &wish, &err), &err);
    assert_true(cfg_secrets_prepared(&place, generation));
    assert_false(cfg_secrets_prepared(&place, generation + 1));
}

static void apply_twice(enum cfg_rotation_phase phase)
{
    assert_atl_ok(cfg_secrets_apply(&place, phase, &err), &err);
    if (phase != CFG_ROTATION_DROP) /* that one ends with the next ones gone */
        assert_atl_ok(cfg_secrets_apply(&place, phase, &err), &err);
}

/* How many authorities and keys of priv/ are believed. */
static void expect_believed(size_t count)
{
    char *ca ATL_FREE_AT_EXIT = read_text("etcd/ca.pem");
    char *key ATL_FREE_AT_EXIT = atl_format("%s/%s", dir, CFG_SEAL_FILE);
    struct cfg_seal seal;
    assert_int_equal(count_of(ca, "BEGIN CERTIFICATE"), count);
    assert_atl_ok(cfg_seal_load(key, &seal, &err), &err);
    assert_int_equal(seal.other_count + 1, count);
}

static void each_phase_makes_the_files_what_it_says(void **state)
{
    (void)state;
    char *old_cert ATL_FREE_AT_EXIT = read_text("etcd/node.pem");
    char *old_ca ATL_FREE_AT_EXIT = read_text("etcd/ca.pem");
    char *old_ca_key ATL_FREE_AT_EXIT = read_text("ca.key");
    make_next(1);
    char *new_ca ATL_FREE_AT_EXIT = read_text("next/ca.pem");
    char *new_cert ATL_FREE_AT_EXIT = read_text("next/node.pem");
    apply_twice(CFG_ROTATION_SPREAD);
    expect_believed(2);
    char *spread_ca ATL_FREE_AT_EXIT = read_text("etcd/ca.pem");
    assert_memory_equal(spread_ca, old_ca, strlen(old_ca)); /* the old one still signs */
    char *same ATL_FREE_AT_EXIT = read_text("etcd/node.pem");
    assert_string_equal(same, old_cert);
    char *authkey ATL_FREE_AT_EXIT = read_text("corosync/authkey");
    assert_string_equal(authkey, "old authkey");
    apply_twice(CFG_ROTATION_USE);
    expect_believed(2);
    char *used_ca ATL_FREE_AT_EXIT = read_text("etcd/ca.pem");
    assert_memory_equal(used_ca, new_ca, strlen(new_ca)); /* now the new one does */
    char *used ATL_FREE_AT_EXIT = read_text("etcd/node.pem");
    assert_string_equal(used, new_cert);
    char *ca_key ATL_FREE_AT_EXIT = read_text("ca.key");
    assert_string_not_equal(ca_key, old_ca_key);
    assert_int_equal(cfg_secrets_generation(&place), 0);
    apply_twice(CFG_ROTATION_DROP);
    expect_believed(1);
    char *left_ca ATL_FREE_AT_EXIT = read_text("etcd/ca.pem");
    assert_string_equal(left_ca, new_ca);
    assert_int_equal(cfg_secrets_generation(&place), 1);
    assert_false(cfg_secrets_prepared(&place, 1));
}

/* Whoever made the first ones is gone: those of another come on top, and the key in use is never lost. */
static void generations_that_were_never_used_make_room(void **state)
{
    (void)state;
    for (uint64_t generation = 1; generation < 8; generation++) {
        make_next(generation);
        apply_twice(CFG_ROTATION_SPREAD);
        struct atl_buf keys ATL_BUF_AT_EXIT = {0};
        struct atl_buf next ATL_BUF_AT_EXIT = {0};
        assert_atl_ok(cfg_place_read(&place, CFG_SEAL_FILE, &keys, &err), &err);
        assert_atl_ok(cfg_place_read(&place, "next/priv.key", &next, &err), &err);
        assert_true(keys.length <= (size_t)CFG_SEAL_KEYS_MAX * CFG_SEAL_KEY_SIZE);
        assert_memory_equal(keys.data, "OLD ", 4);
        assert_non_null(memmem(keys.data, keys.length, next.data, CFG_SEAL_KEY_SIZE));
    }
    apply_twice(CFG_ROTATION_USE);
    apply_twice(CFG_ROTATION_DROP);
    expect_believed(1);
    assert_int_equal(cfg_secrets_generation(&place), 7);
}

/* What another node gave, to a node that keeps no key of the authority. */
static void without_the_authoritys_key_the_old_one_goes(void **state)
{
    (void)state;
    struct cfg_secrets given CFG_SECRETS_AT_EXIT = {.generation = 4};
    make_next(4);
    assert_atl_ok(cfg_secrets_read(&place, true, &given, &err), &err);
    assert_true(given.ca_key.length > 0);
    atl_buf_reset(&given.ca_key);
    atl_buf_text(&given.certificate, "a certificate");
    assert_atl_ok(cfg_secrets_keep(&place, &given, &err), &err);
    assert_true(cfg_secrets_prepared(&place, 4));
    apply_twice(CFG_ROTATION_DROP);
    assert_null(read_text("ca.key"));
    char *cert ATL_FREE_AT_EXIT = read_text("etcd/node.pem");
    assert_string_equal(cert, "a certificate");
}

static void a_certificate_of_two_minutes_is_due_after_eighty_seconds(void **state)
{
    (void)state;
    int64_t now = time(NULL);
    assert_false(cfg_pki_due(&place, "etcd/node.pem", now + 60));
    assert_true(cfg_pki_due(&place, "etcd/node.pem", now + 82));
    assert_true(cfg_pki_due(&place, "etcd/node.pem", now + 1000));
    assert_false(cfg_pki_due(&place, "etcd/ca.pem", now + 1000));
    assert_true(cfg_pki_due(&place, "etcd/none.pem", now));
}

/* By that a witness is known: the same for each request with the key, another for another key. */
static void a_request_tells_its_key(void **state)
{
    (void)state;
    uint8_t first[CFG_KEY_HASH];
    uint8_t again[CFG_KEY_HASH];
    uint8_t other[CFG_KEY_HASH];
    struct atl_buf csr ATL_BUF_AT_EXIT = {0};
    struct atl_buf new_csr ATL_BUF_AT_EXIT = {0};
    assert_atl_ok(cfg_pki_request(&place, &csr, &err), &err);
    assert_atl_ok(cfg_pki_key_hash(csr.data, first, &err), &err);
    atl_buf_reset(&csr);
    assert_atl_ok(cfg_pki_request(&place, &csr, &err), &err);
    assert_atl_ok(cfg_pki_key_hash(csr.data, again, &err), &err);
    assert_memory_equal(first, again, sizeof first);
    assert_atl_ok(cfg_pki_make_request(&place, &new_csr, &err), &err);
    assert_atl_ok(cfg_pki_key_hash(new_csr.data, other, &err), &err);
    assert_memory_not_equal(first, other, sizeof first);
    assert_int_equal(cfg_pki_key_hash("no request", other, &err), ATL_E_INVALID);
    char *middle = csr.data + csr.length / 2; /* signed with another key, or not at all */
    *middle = *middle == 'A' ? 'B' : 'A';
    assert_int_equal(cfg_pki_key_hash(csr.data, other, &err), ATL_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_phase_makes_the_files_what_it_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(generations_that_were_never_used_make_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_the_authoritys_key_the_old_one_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_tells_its_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_certificate_of_two_minutes_is_due_after_eighty_seconds, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
