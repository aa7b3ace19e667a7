/* Reading the order of a helper, and running a program. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/helper.h"

extern char **environ;

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* only read from */
}

void *ct_file_read(const char *path, size_t limit, size_t *ret_size)
{
    ATL_CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size < 0 ||
        (size_t)info.st_size > limit)
        return NULL;
    ATL_FREE_AT_EXIT char *bytes = atl_alloc0((size_t)info.st_size + 1);
    size_t have = 0;
    while (have < (size_t)info.st_size) {
        ssize_t got = read(fd, bytes + have, (size_t)info.st_size - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    bytes[have] = '\0';
    *ret_size = have;
    return ATL_STEAL(bytes);
}

enum atl_code ct_run(char *const *arguments, struct atl_error *err)
{
    pid_t pid = -1;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    int failed = posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot run %s: %s", arguments[0], strerror(failed));
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "%s failed with code %d", arguments[0],
                        WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return ATL_OK;
}
