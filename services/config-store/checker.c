/* The two threads that check passwords. */
#include "checker.h"

#include <argon2.h>
#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    THREADS = 2,
    QUEUE_MAX = 64,
    ARGON_PASSES = 2,
    ARGON_KIB = 19456, /* 19 MiB: what a login may cost, twice at a time */
    SALT_SIZE = 16,
    HASH_BYTES = 32,
    PAM_DEADLINE_MS = 20000,
    USER_MAX = 80,
};

extern char **environ;

struct job {
    struct job *next;
    cfg_check_fn *fn;
    void *user;
    struct cfg_check_result result;
    char name[USER_MAX];
    char password[CFG_PASSWORD_MAX];
    char wanted[CFG_PASSWORD_MAX]; /* a new password */
    char hash[CFG_HASH_MAX];
    bool check;
    bool has_hash;
    bool pam;
    bool make;
    bool change; /* by PAM */
};

struct cfg_checker {
    struct atl_loop *loop;
    struct atl_watch *watch;
    char *pam_helper;
    pthread_t threads[THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t more;
    struct job *first; /* to be done; under the mutex, as all below */
    struct job **last;
    struct job *done;
    size_t count;
    int event_fd;
    bool stop;
};

/* --- hashes
 * ------------------------------------------------------------------------------------------------- */

enum atl_code cfg_password_hash(const char *password, char ret_hash[CFG_HASH_MAX], struct atl_error *err)
{
    uint8_t salt[SALT_SIZE];
    if (getrandom(salt, sizeof salt, 0) != (ssize_t)sizeof salt)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "no random bytes: %s", strerror(errno));
    int rc = argon2id_hash_encoded(ARGON_PASSES, ARGON_KIB, 1, password, strlen(password), salt, sizeof salt,
                                   HASH_BYTES, ret_hash, CFG_HASH_MAX);
    return rc == ARGON2_OK ? ATL_OK
                           : atl_fail(err, ATL_E_INTERNAL, NULL, "cannot hash the password: %s",
                                      argon2_error_message(rc));
}

bool cfg_password_matches(const char *hash, const char *password, bool *ret_old)
{
    *ret_old = false;
    if (strncmp(hash, "$argon2id$", 10) == 0)
        return argon2id_verify(hash, password, strlen(password)) == ARGON2_OK;
    if (hash[0] != '$' || strlen(hash) < 16)
        return false;
    struct crypt_data *data = atl_new0(struct crypt_data);
    const char *made = crypt_r(password, hash, data);
    bool matches = made != NULL && made[0] == '$' && strlen(made) == strlen(hash) &&
                   atl_equal_secret(made, hash, strlen(hash));
    explicit_bzero(data, sizeof *data);
    free(data);
    *ret_old = matches;
    return matches;
}

/* --- PAM
 * ---------------------------------------------------------------------------------------------------- */

static void feed(int fd, const char *bytes, size_t length)
{
    for (size_t at = 0; at < length;) {
        ssize_t put = write(fd, bytes + at, length - at);
        if (put <= 0)
            break; /* the helper went away: its exit code tells */
        at += (size_t)put;
    }
}

static void feed_job(int fd, const struct job *job)
{
    feed(fd, job->password, strlen(job->password) + (job->change ? 1 : 0));
    if (job->change)
        feed(fd, job->wanted, strlen(job->wanted));
}

/* Waits for the helper through the pipe that only it holds: it closes when the helper ends, however it ends.
 */
static bool wait_for(pid_t pid, int alive_fd, int *ret_status)
{
    struct pollfd poll_fd = {.fd = alive_fd, .events = POLLIN};
    bool ended = poll(&poll_fd, 1, PAM_DEADLINE_MS) > 0;
    if (!ended)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    return ended;
}

struct helper_call {
    const char *program;
    const char *user;
    bool change;
    int in_fd;
    int out_fd;
};

static enum atl_code spawn_helper(const struct helper_call *call, pid_t *ret_pid, struct atl_error *err)
{
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, call->in_fd, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, call->out_fd, 1);
    char *program ATL_FREE_AT_EXIT = atl_strdup(call->program);
    char *name ATL_FREE_AT_EXIT = atl_strdup(call->user);
    char option[] = "--change";
    char *argv[] = {program, call->change ? option : name, call->change ? name : NULL, NULL};
    int rc = posix_spawn(ret_pid, program, &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc == 0 ? ATL_OK
                   : atl_fail(err, ATL_E_UNAVAILABLE, NULL, "cannot start '%s': %s", program, strerror(rc));
}

static enum atl_code judge_exit(int status, struct atl_error *err)
{
    enum { RIGHT = 0, WRONG = 1, NO_RIGHTS = 3, REFUSED = 4 };
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == RIGHT)
        return ATL_OK;
    if (code == WRONG)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "authentication failure");
    if (code == NO_RIGHTS)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                        "realm 'pam' cannot check passwords: its helper needs the rights of root");
    if (code == REFUSED)
        return atl_fail(err, ATL_E_INVALID, "password", "is refused by the rules of the node's PAM");
    return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "realm 'pam' cannot check passwords: its helper failed");
}

static enum atl_code ask_pam(const struct cfg_checker *checker, const struct job *job, struct atl_error *err)
{
    char user[USER_MAX];
    (void)atl_copy(user, sizeof user, job->name);
    char *realm = strrchr(user, '@');
    if (realm != NULL)
        *realm = '\0';
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "no pipe for the PAM helper: %s", strerror(errno));
    if (pipe2(out, O_CLOEXEC) != 0) {
        (void)close(in[0]);
        (void)close(in[1]);
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "no pipe for the PAM helper: %s", strerror(errno));
    }
    pid_t pid = 0;
    const struct helper_call call = {.program = checker->pam_helper,
                                     .user = user,
                                     .change = job->change,
                                     .in_fd = in[0],
                                     .out_fd = out[1]};
    enum atl_code code = spawn_helper(&call, &pid, err);
    (void)close(in[0]);
    (void)close(out[1]);
    if (code == ATL_OK)
        feed_job(in[1], job);
    (void)close(in[1]);
    int status = 0;
    if (code == ATL_OK)
        code = wait_for(pid, out[0], &status)
                   ? judge_exit(status, err)
                   : atl_fail(err, ATL_E_DEADLINE, NULL, "PAM did not answer within %d s",
                              PAM_DEADLINE_MS / 1000);
    (void)close(out[0]);
    return code;
}

/* --- jobs
 * --------------------------------------------------------------------------------------------------- */

static enum atl_code check_kept(struct job *job)
{
    /* Without a hash the same work is done, so that the time does not tell who exists. */
    static const char nobody[] =
        "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    bool old = false;
    bool matches = cfg_password_matches(job->has_hash ? job->hash : nobody, job->password, &old);
    if (!matches || !job->has_hash)
        return atl_fail(&job->result.error, ATL_E_UNAUTHENTICATED, NULL, "authentication failure");
    if (old && !job->make)
        old = cfg_password_hash(job->password, job->result.hash, NULL) == ATL_OK; /* else the old one stays */
    return ATL_OK;
}

static void do_job(const struct cfg_checker *checker, struct job *job)
{
    struct cfg_check_result *result = &job->result;
    if (job->check)
        result->code = job->pam ? ask_pam(checker, job, &result->error) : check_kept(job);
    if (result->code == ATL_OK && job->make)
        result->code = cfg_password_hash(job->wanted, result->hash, &result->error);
    explicit_bzero(job->password, sizeof job->password);
    explicit_bzero(job->wanted, sizeof job->wanted);
}

static void *work(void *user)
{
    struct cfg_checker *checker = user;
    (void)pthread_mutex_lock(&checker->mutex);
    for (;;) {
        while (checker->first == NULL && !checker->stop)
            (void)pthread_cond_wait(&checker->more, &checker->mutex);
        struct job *job = checker->first;
        if (job == NULL)
            break;
        checker->first = job->next;
        if (checker->first == NULL)
            checker->last = &checker->first;
        (void)pthread_mutex_unlock(&checker->mutex);
        do_job(checker, job);
        (void)pthread_mutex_lock(&checker->mutex);
        job->next = checker->done;
        checker->done = job;
        (void)eventfd_write(checker->event_fd, 1); /* cannot be full */
    }
    (void)pthread_mutex_unlock(&checker->mutex);
    return NULL;
}

static void on_done(void *user, unsigned int events)
{
    (void)events;
    struct cfg_checker *checker = user;
    eventfd_t value;
    (void)eventfd_read(checker->event_fd, &value); /* emptied or empty: both are fine */
    (void)pthread_mutex_lock(&checker->mutex);
    struct job *jobs = checker->done;
    checker->done = NULL;
    for (const struct job *job = jobs; job != NULL; job = job->next)
        checker->count--;
    (void)pthread_mutex_unlock(&checker->mutex);
    while (jobs != NULL) {
        struct job *job = jobs;
        jobs = job->next;
        job->fn(&job->result, job->user);
        explicit_bzero(job, sizeof *job);
        free(job);
    }
}

enum atl_code cfg_checker_run(struct cfg_checker *checker, const struct cfg_check *check, cfg_check_fn *fn,
                              void *user, struct atl_error *err)
{
    struct job *job = atl_new0(struct job);
    job->fn = fn;
    job->user = user;
    job->check = check->password != NULL;
    job->pam = check->pam;
    job->make = check->hash_new != NULL;
    job->change = check->pam && check->pam_new != NULL;
    job->has_hash = check->hash != NULL;
    const char *wanted = job->make ? check->hash_new : job->change ? check->pam_new : "";
    atl_assert(!job->change || (job->check && !job->make));
    bool fits = atl_copy(job->name, sizeof job->name, check->user) &&
                atl_copy(job->password, sizeof job->password, job->check ? check->password : "") &&
                atl_copy(job->wanted, sizeof job->wanted, wanted) &&
                atl_copy(job->hash, sizeof job->hash, job->has_hash ? check->hash : "");
    (void)pthread_mutex_lock(&checker->mutex);
    bool room = checker->count < QUEUE_MAX;
    if (fits && room) {
        *checker->last = job;
        checker->last = &job->next;
        checker->count++;
        (void)pthread_cond_signal(&checker->more);
    }
    (void)pthread_mutex_unlock(&checker->mutex);
    if (fits && room)
        return ATL_OK;
    explicit_bzero(job, sizeof *job);
    free(job);
    return fits ? atl_fail(err, ATL_E_LIMIT, NULL, "too many logins at once, try again")
                : atl_fail(err, ATL_E_INVALID, "password", "is too long");
}

struct cfg_checker *cfg_checker_new(struct atl_loop *loop, const char *pam_helper)
{
    /* argon2 takes 19 MiB for one check: out of pages of its own, which go back to the system afterwards. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
    struct cfg_checker *checker = atl_new0(struct cfg_checker);
    checker->loop = loop;
    checker->pam_helper = atl_strdup(pam_helper);
    checker->last = &checker->first;
    checker->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atl_assert(checker->event_fd >= 0);
    (void)pthread_mutex_init(&checker->mutex, NULL);
    (void)pthread_cond_init(&checker->more, NULL);
    checker->watch = atl_loop_fd(loop, checker->event_fd, ATL_READ, on_done, checker);
    for (size_t i = 0; i < THREADS; i++) {
        int rc = pthread_create(&checker->threads[i], NULL, work, checker);
        atl_assert(rc == 0);
    }
    return checker;
}

void cfg_checker_free(struct cfg_checker **pointer)
{
    struct cfg_checker *checker = *pointer;
    *pointer = NULL;
    if (checker == NULL)
        return;
    (void)pthread_mutex_lock(&checker->mutex);
    checker->stop = true;
    struct job *waiting = checker->first; /* not begun: dropped */
    checker->first = NULL;
    checker->last = &checker->first;
    (void)pthread_cond_broadcast(&checker->more);
    (void)pthread_mutex_unlock(&checker->mutex);
    for (size_t i = 0; i < THREADS; i++)
        (void)pthread_join(checker->threads[i], NULL);
    struct job *lists[] = {waiting, checker->done};
    for (size_t i = 0; i < ATL_COUNT(lists); i++)
        while (lists[i] != NULL) {
            struct job *next = lists[i]->next;
            explicit_bzero(lists[i], sizeof *lists[i]);
            free(lists[i]);
            lists[i] = next;
        }
    atl_watch_free(checker->watch);
    (void)close(checker->event_fd);
    (void)pthread_cond_destroy(&checker->more);
    (void)pthread_mutex_destroy(&checker->mutex);
    free(checker->pam_helper);
    free(checker);
}
