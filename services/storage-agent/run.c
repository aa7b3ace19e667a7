/* Child programs; see run.h. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/loop.h"

enum { FDS_MAX = 4, OUTPUT_MAX = 4096, CANCEL_POLL_MS = 50 };

struct child {
    pid_t pid;
    int out;
    size_t length;
    char output[OUTPUT_MAX];
};

static char *const clean_environment[] = {(char[]){"LC_ALL=C"},
                                          (char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, NULL};

static int spawn_with(const struct sto_run *run, int write_end, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    sigset_t defaults;
    /* The numbers 3.. may be in use by the sources themselves: move these out of the way first. */
    int moved[FDS_MAX] = {-1, -1, -1, -1};
    int result = 0;
    for (unsigned int i = 0; i < run->fd_count; i++) {
        moved[i] = fcntl(run->fds[i], F_DUPFD_CLOEXEC, 3 + FDS_MAX);
        if (moved[i] < 0)
            result = errno;
    }
    (void)sigemptyset(&none);
    (void)sigfillset(&defaults);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &defaults);
    (void)posix_spawnattr_setflags(&attr,
                                   POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, write_end, 1);
    (void)posix_spawn_file_actions_adddup2(&actions, write_end, 2);
    for (unsigned int i = 0; i < run->fd_count; i++)
        (void)posix_spawn_file_actions_adddup2(&actions, moved[i], 3 + (int)i);
    if (result == 0)
        result = posix_spawnp(ret_pid, run->argv[0], &actions, &attr, (char *const *)(uintptr_t)run->argv,
                              clean_environment);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attr);
    for (unsigned int i = 0; i < run->fd_count; i++) {
        if (moved[i] >= 0)
            (void)close(moved[i]);
    }
    return result;
}

static enum atl_code start(const struct sto_run *run, struct child *child, struct atl_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return atl_fail(err, ATL_E_LIMIT, NULL, "cannot run '%s': %s", run->argv[0], strerror(errno));
    int result = spawn_with(run, ends[1], &child->pid);
    (void)close(ends[1]);
    if (result != 0) {
        (void)close(ends[0]);
        enum atl_code code = result == ENOENT ? ATL_E_UNAVAILABLE : ATL_E_IO;
        return atl_fail(err, code, NULL, "cannot run '%s': %s", run->argv[0], strerror(result));
    }
    child->out = ends[0];
    (void)fcntl(child->out, F_SETFL, O_NONBLOCK);
    return ATL_OK;
}

/* Keeps the last half of the output when it overflows: the error stands at the end. */
static bool take_output(struct child *child, atomic_uint *progress)
{
    if (child->length == OUTPUT_MAX - 1) {
        memmove(child->output, child->output + OUTPUT_MAX / 2, OUTPUT_MAX - 1 - OUTPUT_MAX / 2);
        child->length -= OUTPUT_MAX / 2;
    }
    ssize_t got = read(child->out, child->output + child->length, OUTPUT_MAX - 1 - child->length);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    child->length += (size_t)got;
    child->output[child->length] = '\0';
    const char *mark = progress != NULL ? strrchr(child->output, '(') : NULL;
    unsigned int whole = 0;
    unsigned int part = 0;
    if (mark != NULL && sscanf(mark, "(%3u.%2u/100%%)", &whole, &part) == 2)
        atomic_store(progress, whole * 100 + part);
    return true;
}

/* The last line that is no progress. */
static const char *last_words(struct child *child)
{
    char *last = NULL;
    char *save = NULL;
    for (char *line = strtok_r(child->output, "\r\n", &save); line != NULL;
         line = strtok_r(NULL, "\r\n", &save)) {
        if (strstr(line, "/100%)") == NULL && line[strspn(line, " ")] != '\0')
            last = line;
    }
    return last;
}

static enum atl_code judge(const struct sto_run *run, struct child *child, int status, struct atl_error *err)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return ATL_OK;
    const char *words = last_words(child);
    if (words != NULL && strstr(words, strerror(ENOSPC)) != NULL)
        return atl_fail(err, ATL_E_LIMIT, NULL, "%s: %s", run->argv[0], words);
    if (WIFSIGNALED(status))
        return atl_fail(err, ATL_E_IO, NULL, "%s was ended by signal %d", run->argv[0], WTERMSIG(status));
    if (words == NULL)
        return atl_fail(err, ATL_E_IO, NULL, "%s failed with status %d", run->argv[0], WEXITSTATUS(status));
    return atl_fail(err, ATL_E_IO, NULL, "%s: %s", run->argv[0], words);
}

enum atl_code sto_run(const struct sto_run *run, struct atl_error *err)
{
    atl_assert(run->fd_count <= FDS_MAX);
    struct child child = {0};
    enum atl_code code = start(run, &child, err);
    if (code != ATL_OK)
        return code;
    atl_ns end = atl_clock_monotonic() + run->timeout;
    for (bool open = true; open;) {
        struct pollfd wait = {.fd = child.out, .events = POLLIN};
        (void)poll(&wait, 1, CANCEL_POLL_MS);
        if (run->cancel != NULL && atomic_load(run->cancel))
            code = atl_fail(err, ATL_E_CANCELLED, NULL, "%s was stopped", run->argv[0]);
        else if (run->timeout > 0 && atl_clock_monotonic() > end)
            code = atl_fail(err, ATL_E_DEADLINE, NULL, "%s took too long and was stopped", run->argv[0]);
        if (code != ATL_OK)
            break;
        if (wait.revents != 0)
            open = take_output(&child, run->progress);
    }
    if (code != ATL_OK)
        (void)kill(-child.pid, SIGKILL);
    (void)close(child.out);
    int status = 0;
    while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
    }
    return code != ATL_OK ? code : judge(run, &child, status, err);
}
