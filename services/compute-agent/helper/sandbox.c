/* A child inside the container's root, with the container's ids and little else. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/helper.h"

struct pipes {
    int up[2];   /* the child: "ready", later its error */
    int down[2]; /* the parent: "your ids are mapped" */
};

static void close_all(struct pipes *pipes)
{
    for (int i = 0; i < 2; i++) {
        if (pipes->up[i] >= 0)
            (void)close(pipes->up[i]); /* a pipe: nothing can be lost */
        if (pipes->down[i] >= 0)
            (void)close(pipes->down[i]);
        pipes->up[i] = pipes->down[i] = -1;
    }
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    (void)close(fd); /* a kernel file: written or not by now */
    return ok;
}

static bool map_ids(pid_t pid, const Atoll__Lxc__V1__IdMap *map)
{
    static const char *const files[] = {"uid_map", "gid_map"};
    char text[64];
    (void)snprintf(text, sizeof text, "0 %" PRIu32 " %" PRIu32 "\n", map->first, map->count);
    for (size_t i = 0; i < ATL_COUNT(files); i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, files[i]);
        if (!write_file(path, text))
            return false;
    }
    return true;
}

/* Keeps what unpacking and writing files of any owner needs. */
static bool drop_capabilities(void)
{
    static const unsigned int kept[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,
                                        CAP_FOWNER, CAP_FSETID,       CAP_SETFCAP};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    for (size_t i = 0; i < ATL_COUNT(kept); i++) {
        data[kept[i] / 32].effective |= 1U << (kept[i] % 32);
        data[kept[i] / 32].permitted |= 1U << (kept[i] % 32);
    }
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &header, data) == 0;
}

/* Moves the descriptors that stay to 3.. and closes the rest. Returns the place of keep (or -1). */
static int keep_only(int *up, int keep)
{
    int high_up = fcntl(*up, F_DUPFD, 100);
    int high_keep = keep >= 0 ? fcntl(keep, F_DUPFD, 100) : -1;
    if (high_up < 0 || (keep >= 0 && high_keep < 0))
        return -2;
    if (dup2(high_up, 3) < 0 || (keep >= 0 && dup2(high_keep, 4) < 0))
        return -2;
    *up = 3;
    (void)syscall(SYS_close_range, keep >= 0 ? 5U : 4U, ~0U, 0); /* old kernels: the descriptors stay open */
    return keep >= 0 ? 4 : -1;
}

static enum atl_code enter(int root_fd, const Atoll__Lxc__V1__IdMap *map, struct pipes *pipes,
                           struct atl_error *err)
{
    int spaces = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | (map != NULL ? CLONE_NEWUSER : 0);
    char byte = 'r';
    if (unshare(spaces) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make a user namespace: %s", strerror(errno));
    if (map != NULL && (write(pipes->up[1], &byte, 1) != 1 || read(pipes->down[0], &byte, 1) != 1))
        return atl_fail(err, ATL_E_IO, NULL, "the ids of the container cannot be mapped");
    if (fchdir(root_fd) != 0 || chroot(".") != 0 || chdir("/") != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot enter the container's root: %s", strerror(errno));
    if (map != NULL && (setgroups(0, NULL) != 0 || setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0))
        return atl_fail(err, ATL_E_IO, NULL, "cannot take the container's ids: %s", strerror(errno));
    if (!drop_capabilities())
        return atl_fail(err, ATL_E_IO, NULL, "cannot drop privileges: %s", strerror(errno));
    (void)umask(022);
    return ATL_OK;
}

struct child {
    int root_fd;
    int keep_fd;
    const Atoll__Lxc__V1__IdMap *map;
    ct_sandbox_fn *fn;
    void *user;
};

ATL_NORETURN static void child_main(const struct child *child, struct pipes *pipes)
{
    struct atl_error error = {0};
    enum atl_code code = enter(child->root_fd, child->map, pipes, &error);
    int up = pipes->up[1];
    if (code == ATL_OK && keep_only(&up, child->keep_fd) == -2)
        code = atl_fail(&error, ATL_E_IO, NULL, "no descriptor is left");
    if (code == ATL_OK)
        code = child->fn(child->user, &error);
    if (code != ATL_OK)
        (void)!write(up, &error, sizeof error); /* unheard: the exit code still says that it failed */
    _exit(code == ATL_OK ? 0 : 1);
}

/* Answers the child's "ready" and takes its error, if it has one. */
static enum atl_code supervise(pid_t pid, const Atoll__Lxc__V1__IdMap *map, struct pipes *pipes,
                               struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    char byte = 'g';
    struct atl_error error = {0};
    if (map != NULL && read(pipes->up[0], &byte, 1) == 1 && byte == 'r') {
        if (map_ids(pid, map))
            (void)!write(pipes->down[1], &byte, 1); /* a child that died is seen below */
        else
            code = atl_fail(err, ATL_E_IO, NULL, "cannot map the ids %" PRIu32 " and up: %s", map->first,
                            strerror(errno));
    }
    (void)close(pipes->down[1]); /* without a byte the child gives up */
    pipes->down[1] = -1;
    ssize_t got = read(pipes->up[0], &error, sizeof error);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (code != ATL_OK || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        return code;
    error.text[sizeof error.text - 1] = '\0';
    if (got == (ssize_t)sizeof error && error.code > ATL_OK && error.code < ATL_CODES)
        return atl_fail(err, error.code, NULL, "%s", error.text);
    return atl_fail(err, ATL_E_INTERNAL, NULL, "work inside the container's root broke off (%s %d)",
                    WIFSIGNALED(status) ? "signal" : "code",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

enum atl_code ct_sandbox_run(const char *root, const Atoll__Lxc__V1__IdMap *map, int keep_fd,
                             ct_sandbox_fn *fn, void *user, struct atl_error *err)
{
    ATL_CLEANUP(close_all) struct pipes pipes = {{-1, -1}, {-1, -1}};
    int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot open '%s': %s", root, strerror(errno));
    struct child child = {.root_fd = root_fd, .keep_fd = keep_fd, .map = map, .fn = fn, .user = user};
    if (pipe2(pipes.up, O_CLOEXEC) != 0 || pipe2(pipes.down, O_CLOEXEC) != 0) {
        (void)close(root_fd); /* only a path */
        return atl_fail(err, ATL_E_LIMIT, NULL, "no descriptor is left");
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a helper that is killed leaves no half-done work running */
        (void)close(pipes.up[0]);
        (void)close(pipes.down[1]);
        child_main(&child, &pipes);
    }
    (void)close(root_fd); /* only a path */
    if (pid < 0)
        return atl_fail(err, ATL_E_LIMIT, NULL, "cannot fork: %s", strerror(errno));
    (void)close(pipes.up[1]);
    (void)close(pipes.down[0]);
    pipes.up[1] = pipes.down[0] = -1;
    return supervise(pid, map, &pipes, err);
}
