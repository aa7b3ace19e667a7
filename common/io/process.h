/*
 * Other programs: started with a clean environment in a session of their own, watched by the loop, bounded in
 * time and output. Spawned, never forked: libzmq, libvirt and OpenSSL do not survive a fork.
 *
 * The child has no descriptor but 0, 1, 2 and those that are passed, default signals, and its own process
 * group, so that it can be killed with what it started.
 */
#ifndef ATL_IO_PROCESS_H
#define ATL_IO_PROCESS_H

#include <sys/types.h>

#include "io/loop.h"
#include "pure/error.h"

struct atl_process;

enum { ATL_PROCESS_CAPTURE_MAX = 16 << 20 };

struct atl_process_end {
    int exit_status;    /* 0..255, or -1 when a signal ended it */
    int signal;         /* that signal, or 0 */
    bool timed_out;     /* we killed it, because its time was over */
    bool truncated;     /* it wrote more than `capture` */
    const char *output; /* stdout, terminated; for the callback only */
    size_t output_size;
    const char *errors; /* stderr, terminated */
    size_t errors_size;
};

typedef void atl_process_fn(const struct atl_process_end *end, void *user);

struct atl_process_options {
    const char *const
        *argv; /* NULL-terminated; argv[0] is a path, or a name looked up in the system's folders */
    const char *const
        *env;          /* NULL-terminated, beside PATH and LC_ALL=C.UTF-8; or NULL. Ours is not handed on. */
    const char *dir;   /* working folder; NULL: / */
    const char *input; /* written to stdin, copied; NULL: /dev/null */
    size_t input_size;
    size_t capture;  /* >0: keep up to so many bytes of stdout and of stderr; 0: both go to our stderr */
    const int *pass; /* descriptors the child gets as 3, 4, ... */
    size_t pass_count;
    int stdin_fd;  /* >0: taken as the child's; 0: as `input` says */
    int stdout_fd; /* >0: taken as the child's; 0: as `capture` says */
    int stderr_fd;
    atl_ns timeout; /* then the group gets SIGTERM and two seconds later SIGKILL; 0: none */
};

/* Starts it; fn is called once, from the loop, after it has ended and its output is read. When the child
 * itself has ended, what is left of its group is killed. Errors: ATL_E_ABSENT no such program; ATL_E_IO. */
ATL_MUST_CHECK enum atl_code atl_process_start(struct atl_loop *loop,
                                               const struct atl_process_options *options, atl_process_fn *fn,
                                               void *user, struct atl_process **ret_process,
                                               struct atl_error *err);
pid_t atl_process_pid(const struct atl_process *process);
void atl_process_signal(struct atl_process *process, int signal); /* to the whole group */
/* Kills it, with its group, and forgets it without a callback. Not needed after the callback. NULL is fine.
 */
void atl_process_free(struct atl_process *process);

/* Forgets it without a callback and lets it live. NULL is fine. */
void atl_process_leave(struct atl_process **process);

/* For workers and tools: starts it and waits. What it wrote is copied into the buffers, which may be NULL.
 * Errors: as above; ATL_E_DEADLINE; ATL_E_STATE when it ended badly, with the last line of its stderr as
 * text. */
struct atl_buf;
ATL_MUST_CHECK enum atl_code atl_process_run(const struct atl_process_options *options,
                                             struct atl_buf *output, struct atl_buf *errors,
                                             struct atl_error *err);

/* The start of a process in clock ticks since boot, which tells it from a later one of the same pid; 0: no
 * such process. */
uint64_t atl_process_started(pid_t pid);

#endif
