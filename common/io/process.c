/* Other programs, by posix_spawn and pidfd. */
#include "io/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pure/buf.h"

enum { READ_SIZE = 65536, ENV_MAX = 64 };
#define KILL_AFTER (2 * ATL_SECOND)
#define DRAIN_FOR  (2 * ATL_SECOND)

static const char search_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct pipe_end {
    struct atl_process *process;
    int fd; /* -1: none, or at its end */
    struct atl_watch *watch;
    struct atl_buf buf;
};

struct atl_process {
    struct atl_loop *loop;
    pid_t pid;
    int pid_fd;
    struct atl_watch *pid_watch;
    struct atl_timer *timer; /* the timeout, the kill after it, or the end of reading after the child's end */
    struct pipe_end input;
    struct pipe_end output;
    struct pipe_end errors;
    size_t input_done;
    size_t capture;
    struct atl_process_end end;
    bool ended;
    atl_process_fn *fn;
    void *user;
};

pid_t atl_process_pid(const struct atl_process *process)
{
    return process->pid;
}

uint64_t atl_process_started(pid_t pid)
{
    char path[32];
    char text[1024];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    const char *at = strrchr(text, ')'); /* the name before it may hold anything */
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at != NULL ? strtoull(at, NULL, 10) : 0;
}

/* --- starting --- */

struct launch {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int child_fds[3]; /* what becomes 0, 1, 2 */
    int close_after[3];
    char path[PATH_MAX];
    int failed; /* errno of the first step that failed */
};

static void check(struct launch *launch, int rc)
{
    if (launch->failed == 0)
        launch->failed = rc;
}

static bool find_program(const char *name, char path[PATH_MAX])
{
    if (strchr(name, '/') != NULL)
        return atl_copy(path, PATH_MAX, name);
    for (const char *at = search_path; *at != '\0';) {
        size_t length = strcspn(at, ":");
        int written = snprintf(path, PATH_MAX, "%.*s/%s", (int)length, at, name);
        if (written > 0 && written < PATH_MAX && access(path, X_OK) == 0)
            return true;
        at += length + (at[length] == ':');
    }
    return false;
}

/* A pipe whose one end the child gets as `child`, the other end we watch. */
static void make_pipe(struct launch *launch, int child, struct pipe_end *ours)
{
    int fds[2] = {-1, -1};
    if (pipe2(fds, O_CLOEXEC) != 0) {
        check(launch, errno);
        return;
    }
    int mine = child == 0 ? 1 : 0;
    ours->fd = fds[mine];
    launch->child_fds[child] = launch->close_after[child] = fds[1 - mine];
    if (fcntl(ours->fd, F_SETFL, O_NONBLOCK) != 0)
        check(launch, errno);
}

static void choose_descriptors(struct launch *launch, const struct atl_process_options *options,
                               struct atl_process *process)
{
    const int given[3] = {options->stdin_fd, options->stdout_fd, options->stderr_fd};
    for (int i = 0; i < 3; i++) {
        launch->child_fds[i] = given[i] > 0 ? given[i] : -1;
        launch->close_after[i] = -1;
    }
    if (given[0] <= 0 && options->input != NULL)
        make_pipe(launch, 0, &process->input);
    if (given[1] <= 0 && options->capture > 0)
        make_pipe(launch, 1, &process->output);
    if (given[2] <= 0 && options->capture > 0)
        make_pipe(launch, 2, &process->errors);
    if (launch->child_fds[0] < 0) {
        launch->child_fds[0] = launch->close_after[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (launch->child_fds[0] < 0)
            check(launch, errno);
    }
    for (int i = 1; i < 3; i++)
        if (launch->child_fds[i] < 0)
            launch->child_fds[i] = STDERR_FILENO;
}

/* First all far up, where none is in the way of another, then down to their places. */
static void place_descriptors(struct launch *launch, const struct atl_process_options *options)
{
    int count = 3 + (int)options->pass_count;
    int far = count;
    for (int i = 0; i < count; i++) {
        int from = i < 3 ? launch->child_fds[i] : options->pass[i - 3];
        far = from >= far ? from + 1 : far;
    }
    for (int i = 0; i < count; i++) {
        int from = i < 3 ? launch->child_fds[i] : options->pass[i - 3];
        check(launch, posix_spawn_file_actions_adddup2(&launch->actions, from, far + i));
    }
    for (int i = 0; i < count; i++)
        check(launch, posix_spawn_file_actions_adddup2(&launch->actions, far + i, i));
    check(launch, posix_spawn_file_actions_addclosefrom_np(&launch->actions, count));
    check(launch,
          posix_spawn_file_actions_addchdir_np(&launch->actions, options->dir != NULL ? options->dir : "/"));
}

static void set_attributes(struct launch *launch)
{
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    check(launch, posix_spawnattr_setflags(&launch->attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                                    POSIX_SPAWN_SETSIGDEF));
    check(launch, posix_spawnattr_setsigmask(&launch->attributes, &none));
    check(launch, posix_spawnattr_setsigdefault(&launch->attributes, &all));
}

static void exec_program(struct launch *launch, const struct atl_process_options *options, pid_t *ret_pid)
{
    char path_variable[sizeof search_path + 8];
    (void)snprintf(path_variable, sizeof path_variable, "PATH=%s", search_path);
    const char *env[ENV_MAX] = {path_variable, "LC_ALL=C.UTF-8"};
    size_t count = 2;
    for (size_t i = 0; options->env != NULL && options->env[i] != NULL; i++) {
        atl_assert(count < ENV_MAX - 1);
        env[count++] = options->env[i];
    }
    env[count] = NULL;
    union { /* posix_spawn takes what it does not change without const */
        const char *const *from;
        char *const *to;
    } argv = {.from = options->argv}, environment = {.from = env};
    check(launch,
          posix_spawn(ret_pid, launch->path, &launch->actions, &launch->attributes, argv.to, environment.to));
}

static int launch_child(const struct atl_process_options *options, struct atl_process *process)
{
    struct launch launch = {0};
    if (!find_program(options->argv[0], launch.path))
        return ENOENT;
    check(&launch, posix_spawn_file_actions_init(&launch.actions));
    check(&launch, posix_spawnattr_init(&launch.attributes));
    choose_descriptors(&launch, options, process);
    if (launch.failed == 0) {
        place_descriptors(&launch, options);
        set_attributes(&launch);
    }
    if (launch.failed == 0)
        exec_program(&launch, options, &process->pid);
    for (int i = 0; i < 3; i++)
        if (launch.close_after[i] >= 0)
            (void)close(launch.close_after[i]);
    (void)posix_spawn_file_actions_destroy(&launch.actions); /* cannot fail in glibc */
    (void)posix_spawnattr_destroy(&launch.attributes);
    return launch.failed;
}

/* --- its end --- */

static void close_end(struct pipe_end *end)
{
    atl_watch_free(end->watch);
    end->watch = NULL;
    if (end->fd >= 0)
        (void)close(end->fd);
    end->fd = -1;
}

static void release(struct atl_process *process)
{
    close_end(&process->input);
    close_end(&process->output);
    close_end(&process->errors);
    atl_buf_done(&process->input.buf);
    atl_buf_done(&process->output.buf);
    atl_buf_done(&process->errors.buf);
    atl_watch_free(process->pid_watch);
    atl_timer_free(process->timer);
    if (process->pid_fd >= 0)
        (void)close(process->pid_fd);
    free(process);
}

/* The text, terminated also when nothing came. */
static const char *text_of(struct pipe_end *end)
{
    (void)atl_buf_reserve(&end->buf, 0);
    end->buf.data[end->buf.length] = '\0';
    return end->buf.data;
}

static void finish(struct atl_process *process)
{
    process->end.output = text_of(&process->output);
    process->end.output_size = process->output.buf.length;
    process->end.errors = text_of(&process->errors);
    process->end.errors_size = process->errors.buf.length;
    process->fn(&process->end, process->user);
    release(process);
}

static void drained(void *user)
{
    struct atl_process *process = user;
    process->timer = NULL; /* it frees itself */
    finish(process);
}

/* Done when the child has ended and both pipes are at their end. Something outside its group may hold a pipe
 * open (a daemon it started), so that is waited for a short while only. */
static void maybe_finish(struct atl_process *process)
{
    if (!process->ended)
        return;
    if (process->output.fd < 0 && process->errors.fd < 0) {
        finish(process);
        return;
    }
    if (process->timer == NULL)
        process->timer = atl_loop_timer(process->loop, DRAIN_FOR, 0, drained, process);
}

void atl_process_signal(struct atl_process *process, int signal)
{
    if (!process->ended)
        (void)kill(-process->pid, signal); /* not reaped yet, so the number is still its own */
}

static void on_end(void *user, unsigned int events)
{
    (void)events;
    struct atl_process *process = user;
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
        return;
    atl_process_signal(process, SIGKILL); /* what is left of its group, before the number can be another's */
    while (waitid(P_PID, (id_t)process->pid, &info, WEXITED) != 0 && errno == EINTR)
        ;
    process->ended = true;
    process->end.exit_status = info.si_code == CLD_EXITED ? info.si_status : -1;
    process->end.signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
    atl_watch_free(process->pid_watch);
    process->pid_watch = NULL;
    atl_timer_free(process->timer);
    process->timer = NULL;
    close_end(&process->input);
    maybe_finish(process);
}

static void kill_now(void *user)
{
    struct atl_process *process = user;
    process->timer = NULL; /* it frees itself */
    atl_process_signal(process, SIGKILL);
}

static void time_over(void *user)
{
    struct atl_process *process = user;
    process->end.timed_out = true;
    atl_process_signal(process, SIGTERM);
    process->timer = atl_loop_timer(process->loop, KILL_AFTER, 0, kill_now, process);
}

/* --- pipes --- */

static void on_output(void *user, unsigned int events)
{
    (void)events;
    struct pipe_end *end = user;
    struct atl_process *process = end->process;
    char spare[4096];
    size_t room = process->capture - end->buf.length;
    bool full = room == 0;
    char *to = full ? spare : atl_buf_reserve(&end->buf, room < READ_SIZE ? room : READ_SIZE);
    size_t size = full ? sizeof spare : room < READ_SIZE ? room : READ_SIZE;
    ssize_t got = read(end->fd, to, size);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        close_end(end);
        maybe_finish(process);
        return;
    }
    process->end.truncated = process->end.truncated || full; /* read on, or it would block for ever */
    if (full)
        return;
    end->buf.length += (size_t)got;
    end->buf.data[end->buf.length] = '\0';
}

static void on_input(void *user, unsigned int events)
{
    (void)events;
    struct pipe_end *end = user;
    struct atl_process *process = end->process;
    size_t left = end->buf.length - process->input_done;
    ssize_t written = left > 0 ? write(end->fd, end->buf.data + process->input_done, left) : 0;
    if (written < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (written > 0)
        process->input_done += (size_t)written;
    if (written < 0 || process->input_done == end->buf.length)
        close_end(end); /* all written, or it does not want to read */
}

enum atl_code atl_process_start(struct atl_loop *loop, const struct atl_process_options *options,
                                atl_process_fn *fn, void *user, struct atl_process **ret_process,
                                struct atl_error *err)
{
    atl_assert(options->argv != NULL && options->argv[0] != NULL);
    atl_assert(options->capture <= ATL_PROCESS_CAPTURE_MAX);
    struct atl_process *process = atl_new0(struct atl_process);
    *process =
        (struct atl_process){.loop = loop, .fn = fn, .user = user, .capture = options->capture, .pid_fd = -1};
    struct pipe_end *const ends[] = {&process->input, &process->output, &process->errors};
    for (size_t i = 0; i < ATL_COUNT(ends); i++) {
        ends[i]->process = process;
        ends[i]->fd = -1;
    }
    int failed = launch_child(options, process);
    if (failed != 0) {
        release(process);
        return atl_fail(err, failed == ENOENT ? ATL_E_ABSENT : ATL_E_IO, NULL, "cannot start '%s': %s",
                        options->argv[0], strerror(failed));
    }
    process->pid_fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (process->pid_fd < 0) {
        failed = errno;
        atl_process_free(process);
        return atl_fail(err, ATL_E_IO, NULL, "cannot watch '%s': %s", options->argv[0], strerror(failed));
    }
    process->pid_watch = atl_loop_fd(loop, process->pid_fd, ATL_READ, on_end, process);
    if (process->input.fd >= 0) {
        atl_buf_add(&process->input.buf, options->input, options->input_size);
        process->input.watch = atl_loop_fd(loop, process->input.fd, ATL_WRITE, on_input, &process->input);
    }
    if (process->output.fd >= 0)
        process->output.watch = atl_loop_fd(loop, process->output.fd, ATL_READ, on_output, &process->output);
    if (process->errors.fd >= 0)
        process->errors.watch = atl_loop_fd(loop, process->errors.fd, ATL_READ, on_output, &process->errors);
    if (options->timeout > 0)
        process->timer = atl_loop_timer(loop, options->timeout, 0, time_over, process);
    if (ret_process != NULL)
        *ret_process = process;
    return ATL_OK;
}

void atl_process_free(struct atl_process *process)
{
    if (process == NULL)
        return;
    if (!process->ended) {
        atl_process_signal(process, SIGKILL);
        while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    release(process);
}

void atl_process_leave(struct atl_process **process)
{
    if (*process != NULL)
        release(*process);
    *process = NULL;
}

/* --- waiting --- */

struct waiting {
    struct atl_buf *output;
    struct atl_buf *errors;
    const char *program;
    struct atl_error *err;
    enum atl_code code;
    bool done;
};

/* The last line that is not empty: where programs say why. */
static void last_line(const char *text, char *to, size_t size)
{
    size_t end = strlen(text);
    while (end > 0 && (text[end - 1] == '\n' || text[end - 1] == ' '))
        end--;
    size_t start = end;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    (void)snprintf(to, size, "%.*s", (int)(end - start < 400 ? end - start : 400), text + start);
}

static void waited(const struct atl_process_end *end, void *user)
{
    struct waiting *waiting = user;
    char reason[408];
    waiting->done = true;
    if (waiting->output != NULL)
        atl_buf_add(waiting->output, end->output, end->output_size);
    if (waiting->errors != NULL)
        atl_buf_add(waiting->errors, end->errors, end->errors_size);
    last_line(end->errors, reason, sizeof reason);
    if (end->timed_out)
        waiting->code =
            atl_fail(waiting->err, ATL_E_DEADLINE, NULL, "%s did not end in time", waiting->program);
    else if (end->signal != 0)
        waiting->code = atl_fail(waiting->err, ATL_E_STATE, NULL, "%s was ended by signal %d (%s)",
                                 waiting->program, end->signal, strsignal(end->signal));
    else if (end->exit_status != 0)
        waiting->code = atl_fail(waiting->err, ATL_E_STATE, NULL, "%s failed with %d%s%s", waiting->program,
                                 end->exit_status, reason[0] != '\0' ? ": " : "", reason);
}

enum atl_code atl_process_run(const struct atl_process_options *options, struct atl_buf *output,
                              struct atl_buf *errors, struct atl_error *err)
{
    struct atl_loop *loop = atl_loop_new();
    struct waiting waiting = {.output = output, .errors = errors, .program = options->argv[0], .err = err};
    enum atl_code code = atl_process_start(loop, options, waited, &waiting, NULL, err);
    while (code == ATL_OK && !waiting.done)
        atl_loop_step(loop, -1);
    atl_loop_free(loop);
    return code != ATL_OK ? code : waiting.code;
}
