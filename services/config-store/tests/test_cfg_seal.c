/* The envelope of what lies below priv/. */
#include "atl_test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "drivers/seal.h"

static struct atl_error err;
static struct cfg_seal seal;
static const uint8_t nonce[CFG_SEAL_NONCE_SIZE] = {100, 101, 102, 103, 104, 105,
                                                   106, 107, 108, 109, 110, 111};

static int set_up(void **state)
{
    (void)state;
    seal.on = true;
    for (size_t i = 0; i < sizeof seal.key; i++)
        seal.key[i] = (uint8_t)i;
    return 0;
}

static void assert_hex(const uint8_t *bytes, size_t size, const char *hex)
{
    char *text ATL_FREE_AT_EXIT = atl_alloc0(2 * size + 1);
    for (size_t i = 0; i < size; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    assert_string_equal(text, hex);
}

/* The expected bytes come from another implementation of AES-GCM. */
static void the_envelope_is_as_written_down(void **state)
{
    (void)state;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    static const char text[] = "alice:$argon2id$x\n";
    const struct cfg_sealed plain = {.epoch = 0x0102030405060708,
                                     .path = "priv/shadow.cfg",
                                     .bytes = (const uint8_t *)text,
                                     .size = sizeof text - 1};
    assert_hex(cfg_seal_with(&seal, &plain, nonce, &arena), plain.size + CFG_SEAL_MORE,
               "41544c016465666768696a6b6c6d6e6f2977b7051cd372ff4c"
               "053086e80c0ed93ac876f129484a130823f9ee3dc684324900");
    const struct cfg_sealed empty = {.epoch = 1, .path = "priv/e", .bytes = (const uint8_t *)"", .size = 0};
    assert_hex(cfg_seal_with(&seal, &empty, nonce, &arena), CFG_SEAL_MORE,
               "41544c016465666768696a6b6c6d6e6fdf61748f40abc3e318472a5afdbbf206");
}

static struct cfg_sealed make(const char *path, const char *text, struct atl_arena *arena)
{
    struct cfg_sealed file = {.epoch = 5, .path = path, .bytes = (const uint8_t *)text, .size = strlen(text)};
    cfg_seal_close(&seal, &file, arena);
    return file;
}

static void what_was_sealed_opens_in_its_place_alone(void **state)
{
    (void)state;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    const struct cfg_sealed sealed = make("priv/a", "secret", &arena);
    struct cfg_sealed file = sealed;
    assert_atl_ok(cfg_seal_open(&seal, &file, &arena, &err), &err);
    assert_int_equal(file.size, 6);
    assert_memory_equal(file.bytes, "secret", 6);
    file = sealed;
    file.path = "priv/b";
    assert_int_equal(cfg_seal_open(&seal, &file, &arena, &err), ATL_E_INVALID);
    assert_non_null(strstr(err.text, "priv/b"));
    file = sealed;
    file.epoch++;
    assert_int_equal(cfg_seal_open(&seal, &file, &arena, &err), ATL_E_INVALID);
    struct cfg_seal other = seal;
    other.key[31] ^= 1;
    file = sealed;
    assert_int_equal(cfg_seal_open(&other, &file, &arena, &err), ATL_E_INVALID);
    assert_non_null(strstr(err.text, "priv/a"));
    other.on = false;
    assert_int_equal(cfg_seal_open(&other, &file, &arena, &err), ATL_E_INVALID);
    file = (struct cfg_sealed){.epoch = 5, .path = "priv/a", .bytes = (const uint8_t *)"plain", .size = 5};
    assert_int_equal(cfg_seal_open(&seal, &file, &arena, &err), ATL_E_INVALID);
}

static void several_keys_open_and_the_first_seals(void **state)
{
    (void)state;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_seal new = seal;
    new.key[0] ^= 1;
    struct cfg_seal both = new;
    both.other_count = 1;
    memcpy(both.others[0], seal.key, sizeof seal.key);
    struct cfg_sealed old_file = make("priv/a", "secret", &arena);
    struct cfg_sealed file = old_file;
    assert_atl_ok(cfg_seal_open(&both, &file, &arena, &err), &err);
    assert_memory_equal(file.bytes, "secret", 6);
    cfg_seal_close(&both, &file, &arena);
    struct cfg_sealed written = file;
    assert_int_equal(cfg_seal_open(&seal, &file, &arena, &err), ATL_E_INVALID);
    assert_atl_ok(cfg_seal_open(&new, &written, &arena, &err), &err);
    assert_memory_equal(written.bytes, "secret", 6);
    assert_int_equal(cfg_seal_open(&new, &old_file, &arena, &err), ATL_E_INVALID);
}

static void write_keys(const char *path, size_t size)
{
    uint8_t bytes[CFG_SEAL_KEYS_MAX * CFG_SEAL_KEY_SIZE + CFG_SEAL_KEY_SIZE] = {0};
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i / CFG_SEAL_KEY_SIZE);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void a_file_may_hold_some_keys(void **state)
{
    (void)state;
    char dir[] = "/tmp/atl-seal-XXXXXX";
    struct cfg_seal read;
    assert_non_null(mkdtemp(dir));
    char *path ATL_FREE_AT_EXIT = atl_format("%s/priv.key", dir);
    write_keys(path, (size_t)3 * CFG_SEAL_KEY_SIZE);
    assert_atl_ok(cfg_seal_load(path, &read, &err), &err);
    assert_int_equal(read.other_count, 2);
    assert_int_equal(read.key[0], 0);
    assert_int_equal(read.others[0][0], 1);
    assert_int_equal(read.others[1][31], 2);
    const size_t wrong[] = {0, 31, 33, 100, (size_t)(CFG_SEAL_KEYS_MAX + 1) * CFG_SEAL_KEY_SIZE};
    for (size_t i = 0; i < ATL_COUNT(wrong); i++) {
        write_keys(path, wrong[i]);
        assert_int_equal(cfg_seal_load(path, &read, &err), ATL_E_INVALID);
    }
    assert_int_equal(unlink(path) + rmdir(dir), 0);
}

static void every_bit_counts(void **state)
{
    (void)state;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    const struct cfg_sealed sealed = make("priv/a", "secret", &arena);
    for (size_t bit = 0; bit < sealed.size * 8; bit++) {
        struct cfg_sealed file = sealed;
        uint8_t *bytes = atl_arena_copy(&arena, sealed.bytes, sealed.size);
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        file.bytes = bytes;
        assert_int_equal(cfg_seal_open(&seal, &file, &arena, &err), ATL_E_INVALID);
    }
    for (size_t size = 0; size < sealed.size; size++) {
        struct cfg_sealed file = sealed;
        file.size = size;
        assert_int_equal(cfg_seal_open(&seal, &file, &arena, &err), ATL_E_INVALID);
    }
}

static void no_two_envelopes_are_alike_and_other_files_stay_as_they_are(void **state)
{
    (void)state;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_sealed one = make("priv/a", "secret", &arena);
    struct cfg_sealed two = make("priv/a", "secret", &arena);
    assert_int_equal(one.size, two.size);
    assert_memory_not_equal(one.bytes, two.bytes, one.size);
    assert_null(memmem(one.bytes, one.size, "secret", 6));
    struct cfg_sealed plain = make("user.cfg", "plain", &arena);
    assert_memory_equal(plain.bytes, "plain", 5);
    assert_atl_ok(cfg_seal_open(&seal, &plain, &arena, &err), &err);
    assert_int_equal(plain.size, 5);
}

static void a_key_is_made_once_and_is_its_owners(void **state)
{
    (void)state;
    char dir[] = "/tmp/atl-seal-XXXXXX";
    struct stat status;
    struct cfg_seal made;
    assert_non_null(mkdtemp(dir));
    char *path ATL_FREE_AT_EXIT = atl_format("%s/priv.key", dir);
    assert_int_equal(cfg_seal_load(path, &made, &err), ATL_E_IO);
    assert_atl_ok(cfg_seal_make_key(path, &err), &err);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(cfg_seal_make_key(path, &err), ATL_E_EXISTS);
    assert_atl_ok(cfg_seal_load(path, &made, &err), &err);
    assert_true(made.on);
    char *given ATL_FREE_AT_EXIT = atl_format("%s/given.key", dir);
    struct cfg_seal again;
    assert_atl_ok(cfg_seal_keep_key(given, made.key, &err), &err);
    assert_atl_ok(cfg_seal_load(given, &again, &err), &err);
    assert_memory_equal(again.key, made.key, sizeof made.key);
    assert_int_equal(truncate(given, 31), 0);
    assert_int_equal(cfg_seal_load(given, &again, &err), ATL_E_INVALID);
    assert_int_equal(truncate(given, 33), 0);
    assert_int_equal(cfg_seal_load(given, &again, &err), ATL_E_INVALID);
    assert_int_equal(unlink(path) + unlink(given) + rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_envelope_is_as_written_down),
        cmocka_unit_test(what_was_sealed_opens_in_its_place_alone),
        cmocka_unit_test(several_keys_open_and_the_first_seals),
        cmocka_unit_test(a_file_may_hold_some_keys),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(no_two_envelopes_are_alike_and_other_files_stay_as_they_are),
        cmocka_unit_test(a_key_is_made_once_and_is_its_owners),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
