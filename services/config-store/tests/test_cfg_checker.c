/* Passwords: hashes old and new, the two threads, the PAM helper and what happens without it. */
#include "atl_test.h"

#include <crypt.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checker.h"

struct answer {
    struct cfg_check_result result;
    unsigned int count;
};

static void on_checked(const struct cfg_check_result *result, void *user)
{
    struct answer *answer = user;
    answer->result = *result;
    answer->count++;
}

static struct cfg_check_result run_with(const struct cfg_check *check, const char *helper)
{
    struct atl_loop *loop = atl_loop_new();
    struct cfg_checker *checker = cfg_checker_new(loop, helper);
    struct answer answer = {.count = 0};
    struct atl_error err;
    assert_atl_ok(cfg_checker_run(checker, check, on_checked, &answer, &err), &err);
    while (answer.count == 0)
        atl_loop_step(loop, -1);
    cfg_checker_free(&checker);
    atl_loop_free(loop);
    return answer.result;
}

static struct cfg_check_result run(const struct cfg_check *check)
{
    return run_with(check, "/nowhere/atoll-pam-helper");
}

/* A helper in place of the real one, which would need root and a user with a password. */
static void make_helper(char *path, const char *script)
{
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, script, strlen(script)), strlen(script));
    assert_int_equal(fchmod(fd, 0700), 0);
    assert_int_equal(close(fd), 0);
}

static void pam_is_asked_through_the_helper(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        const char *password;
        enum atl_code code;
        const char *text;
    } rows[] = {
        {"#!/bin/sh\n[ \"$1\" = anna ] && [ \"$(cat)\" = right ]\n", "right", ATL_OK, ""},
        {"#!/bin/sh\n[ \"$1\" = anna ] && [ \"$(cat)\" = right ]\n", "wrong", ATL_E_UNAUTHENTICATED,
         "authentication failure"},
        {"#!/bin/sh\nexit 3\n", "right", ATL_E_UNAVAILABLE,
         "realm 'pam' cannot check passwords: its helper needs the rights of root"},
        {"#!/bin/sh\nkill -9 $$\n", "right", ATL_E_UNAVAILABLE,
         "realm 'pam' cannot check passwords: its helper failed"},
    };
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        char path[] = "/tmp/atl-pam-XXXXXX";
        make_helper(path, rows[i].script);
        const struct cfg_check check = {.user = "anna@pam", .password = rows[i].password, .pam = true};
        struct cfg_check_result result = run_with(&check, path);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(result.code, rows[i].code);
        assert_string_equal(result.error.text, rows[i].text);
    }
}

static void pam_changes_a_password_through_the_helper(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        enum atl_code code;
        const char *text;
    } rows[] = {
        {"#!/bin/sh\n[ \"$1 $2 $#\" = '--change anna 2' ] && [ \"$(tr '\\0' :)\" = old:new ]\n", ATL_OK, ""},
        {"#!/bin/sh\nexit 1\n", ATL_E_UNAUTHENTICATED, "authentication failure"},
        {"#!/bin/sh\nexit 4\n", ATL_E_INVALID, "is refused by the rules of the node's PAM"},
    };
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        char path[] = "/tmp/atl-pam-XXXXXX";
        make_helper(path, rows[i].script);
        const struct cfg_check check = {.user = "anna@pam", .password = "old", .pam = true, .pam_new = "new"};
        struct cfg_check_result result = run_with(&check, path);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(result.code, rows[i].code);
        assert_string_equal(result.error.text, rows[i].text);
        assert_string_equal(result.hash, "");
    }
}

static void a_new_hash_matches_its_password_alone(void **state)
{
    (void)state;
    char hash[CFG_HASH_MAX];
    bool old = true;
    assert_int_equal(cfg_password_hash("correct horse", hash, NULL), ATL_OK);
    assert_int_equal(strncmp(hash, "$argon2id$", 10), 0);
    assert_true(cfg_password_matches(hash, "correct horse", &old));
    assert_false(old);
    assert_false(cfg_password_matches(hash, "correct horsf", &old));
    assert_false(cfg_password_matches("", "", &old));
    assert_false(cfg_password_matches("*", "x", &old));
    assert_false(cfg_password_matches("$argon2id$broken", "x", &old));
}

static void an_imported_crypt_hash_is_taken_and_replaced(void **state)
{
    (void)state;
    static const char *const settings[] = {"$5$saltsalt", "$6$saltsalt"};
    for (size_t i = 0; i < ATL_COUNT(settings); i++) {
        struct crypt_data data = {.input = {0}};
        const char *hash = crypt_r("correct horse", settings[i], &data);
        bool old = false;
        assert_true(cfg_password_matches(hash, "correct horse", &old));
        assert_true(old);
        assert_false(cfg_password_matches(hash, "wrong", &old));
        assert_false(old);
        const struct cfg_check check = {.user = "a@pve", .password = "correct horse", .hash = hash};
        struct cfg_check_result result = run(&check);
        assert_int_equal(result.code, ATL_OK);
        assert_int_equal(strncmp(result.hash, "$argon2id$", 10), 0);
    }
}

static void nobody_fails_like_a_wrong_password(void **state)
{
    (void)state;
    const struct cfg_check check = {.user = "nobody@pve", .password = "x"};
    struct cfg_check_result result = run(&check);
    assert_int_equal(result.code, ATL_E_UNAUTHENTICATED);
    assert_string_equal(result.error.text, "authentication failure");
}

static void a_missing_pam_helper_is_a_clear_error(void **state)
{
    (void)state;
    const struct cfg_check check = {.user = "root@pam", .password = "x", .pam = true};
    struct cfg_check_result result = run(&check);
    assert_int_equal(result.code, ATL_E_UNAVAILABLE);
    assert_non_null(strstr(result.error.text, "atoll-pam-helper"));
}

static void a_wrong_password_makes_no_new_hash(void **state)
{
    (void)state;
    const struct cfg_check check = {
        .user = "a@pve", .password = "wrong", .hash = "$5$x$y", .hash_new = "new password"};
    struct cfg_check_result result = run(&check);
    assert_int_equal(result.code, ATL_E_UNAUTHENTICATED);
    assert_string_equal(result.hash, "");
}

static void the_queue_has_an_end_and_freeing_drops_it(void **state)
{
    (void)state;
    struct atl_loop *loop = atl_loop_new();
    struct cfg_checker *checker = cfg_checker_new(loop, "/nowhere");
    struct answer answer = {.count = 0};
    const struct cfg_check check = {.user = "a@pve", .hash_new = "some password"};
    unsigned int taken = 0;
    struct atl_error err;
    while (taken < 1000 && cfg_checker_run(checker, &check, on_checked, &answer, &err) == ATL_OK)
        taken++;
    assert_int_equal(err.code, ATL_E_LIMIT);
    assert_true(taken >= 64);
    cfg_checker_free(&checker);
    assert_int_equal(answer.count, 0);
    atl_loop_free(loop);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as every service does: a helper may end before it has read */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_hash_matches_its_password_alone),
        cmocka_unit_test(an_imported_crypt_hash_is_taken_and_replaced),
        cmocka_unit_test(nobody_fails_like_a_wrong_password),
        cmocka_unit_test(a_missing_pam_helper_is_a_clear_error),
        cmocka_unit_test(pam_is_asked_through_the_helper),
        cmocka_unit_test(pam_changes_a_password_through_the_helper),
        cmocka_unit_test(a_wrong_password_makes_no_new_hash),
        cmocka_unit_test(the_queue_has_an_end_and_freeing_drops_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
