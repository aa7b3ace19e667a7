/*
 * Passwords are checked and hashed in two threads, so that the loop never waits for argon2 or PAM. Bounded:
 * when the queue is full, a job is refused. Results come back on the loop.
 */
#ifndef CFG_CHECKER_H
#define CFG_CHECKER_H

#include "io/loop.h"
#include "pure/error.h"

enum { CFG_HASH_MAX = 256, CFG_PASSWORD_MAX = 128 };

struct cfg_checker;

struct cfg_check {
    const char *user;     /* with realm */
    const char *password; /* copied, and wiped after use; NULL: nothing to check */
    const char *hash; /* realm pve: the kept hash; NULL: there is none, the check fails as slowly as any */
    bool pam;         /* ask PAM instead */
    const char *hash_new; /* a password to make a hash of, when the check (if any) held; or NULL */
    const char *pam_new;  /* with pam: what PAM changes the password to, when it was right; or NULL */
};

struct cfg_check_result {
    enum atl_code code; /* ATL_E_UNAUTHENTICATED wrong; ATL_E_UNAVAILABLE cannot be checked;
                           ATL_E_INVALID PAM refuses the new one */
    struct atl_error error;
    char hash[CFG_HASH_MAX]; /* of hash_new; or a better one of the password that was right; else "" */
};
typedef void cfg_check_fn(const struct cfg_check_result *result, void *user);

/* pam_helper: path of the program that asks PAM. Never NULL. */
struct cfg_checker *cfg_checker_new(struct atl_loop *loop, const char *pam_helper);
/* Waits for the jobs that run; fn is not called any more. */
void cfg_checker_free(struct cfg_checker **checker);
/* fn is called once, later. Errors: ATL_E_LIMIT the queue is full; ATL_E_INVALID password too long. */
ATL_MUST_CHECK enum atl_code cfg_checker_run(struct cfg_checker *checker, const struct cfg_check *check,
                                             cfg_check_fn *fn, void *user, struct atl_error *err);

/* For tests and the first start: hashes in the calling thread. */
ATL_MUST_CHECK enum atl_code cfg_password_hash(const char *password, char ret_hash[CFG_HASH_MAX],
                                               struct atl_error *err);
/* Argon2id, and the crypt hashes of imported files; ret_old tells that it should be replaced. Thread-safe. */
bool cfg_password_matches(const char *hash, const char *password, bool *ret_old);

#endif
