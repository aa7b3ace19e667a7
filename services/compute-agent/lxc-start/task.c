/*
 * The task "vzstart". The agent has prepared everything, so this worker needs no bus and links no ZeroMQ: it
 * is there in a millisecond. The start itself runs in a child with clean signals and no descriptor of the
 * task's.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drivers/lxc.h"
#include "lxc-start/start.h"

/* What the worker set for itself would reach the container's monitor. */
static void clean_signals(void)
{
    sigset_t none;
    (void)sigemptyset(&none); /* cannot fail */
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL); /* not for KILL and STOP, which cannot be set anyway */
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)alarm(0);
}

ATL_NORETURN static void child_main(const Atoll__Lxc__V1__StartSpec *spec, int up)
{
    struct atl_error error = {0};
    clean_signals();
    if (dup2(up, 3) < 0)
        _exit(1);
    (void)syscall(SYS_close_range, 4U, ~0U, 0); /* old kernels: they stay open until liblxc closes them */
    enum atl_code code = ct_start(spec, &error);
    if (code != ATL_OK)
        (void)!write(3, &error, sizeof error); /* unheard: the exit code still says that it failed */
    (void)fflush(stdout);
    _exit(code == ATL_OK ? 0 : 1);
}

static enum atl_code start_in_child(const Atoll__Lxc__V1__StartSpec *spec, struct atl_error *err)
{
    int up[2];
    struct atl_error error = {0};
    if (pipe2(up, O_CLOEXEC) != 0)
        return atl_fail(err, ATL_E_LIMIT, NULL, "no descriptor is left");
    pid_t pid = fork();
    if (pid == 0)
        child_main(spec, up[1]);
    (void)close(up[1]);
    if (pid < 0) {
        (void)close(up[0]);
        return atl_fail(err, ATL_E_LIMIT, NULL, "cannot fork: %s", strerror(errno));
    }
    ssize_t got = read(up[0], &error, sizeof error);
    (void)close(up[0]); /* only read from */
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return ATL_OK;
    error.text[sizeof error.text - 1] = '\0';
    if (got == (ssize_t)sizeof error && error.code > ATL_OK && error.code < ATL_CODES)
        return atl_fail(err, error.code, NULL, "%s", error.text);
    return atl_fail(err, ATL_E_INTERNAL, NULL, "the start broke off (%s %d)",
                    WIFSIGNALED(status) ? "signal" : "code",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static bool stopped(void *user)
{
    return atl_task_stopped(user);
}

static enum atl_code run(struct atl_task *task, const Atoll__Lxc__V1__TaskSpec *spec, struct atl_error *err)
{
    struct cmp_lxc_host host;
    struct cmp_ct_run now;
    int lock = -1;
    enum atl_code code = cmp_lxc_host_probe(atl_task_run_dir(task), &host, err);
    if (code == ATL_OK)
        code = cmp_lxc_lock(&host, spec->vmid, stopped, task, &lock, err); /* held until the process ends */
    if (code != ATL_OK)
        return code;
    if (cmp_lxc_running(&host, spec->vmid, &now)) {
        atl_task_log(task, "CT %" PRIu32 " already running", spec->vmid);
        return ATL_OK;
    }
    if (spec->error != NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "%s", spec->error);
    if (spec->start == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the start was not prepared");
    const struct cmp_lxc_texts texts = {.config = spec->config.data,
                                        .config_size = spec->config.len,
                                        .seccomp = spec->seccomp.data,
                                        .seccomp_size = spec->seccomp.len};
    code = cmp_lxc_start_files(&host, spec->vmid, &texts, err);
    return code == ATL_OK ? start_in_child(spec->start, err) : code;
}

static enum atl_code task_start(struct atl_task *task, const uint8_t *bytes, size_t size,
                                struct atl_error *err)
{
    Atoll__Lxc__V1__TaskSpec *spec = atoll__lxc__v1__task_spec__unpack(NULL, size, bytes);
    if (spec == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the task's order cannot be read");
    enum atl_code code = run(task, spec, err);
    atoll__lxc__v1__task_spec__free_unpacked(spec, NULL);
    return code;
}

const struct atl_task_type ct_task_types[CT_TASK_TYPES] = {{"vzstart", task_start}};
