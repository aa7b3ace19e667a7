/*
 * Tasks: work that outlives a request, each in a process of its own with a spool folder and a lock that says
 * it lives. Three sides: the agent    starts tasks, waits for their ends, adopts what still runs after its
 * own restart; the worker   is the agent's program again, `--task FOLDER`, without bus or loop until it asks
 * for them; the reader   lists, shows, follows and stops tasks of all agents of the node, from their spool
 * folders.
 *
 * The spool of a task is STATE/tasks/SERVICE/UPID/ with the files
 *   spec    the packed message it works on (0600: it may hold secrets)
 *   about   text: request id, spool version
 *   log     lines, append only; the last one is "TASK OK", "TASK WARNINGS: n" or "TASK ERROR: ..."
 *   status  text, replaced as a whole: state, pid, pstart, progress, end
 *   lock    locked by the worker for as long as it lives
 * The pid in a UPID is a number made from the request id, not the worker's (which is not known when the id is
 * given out, because a task may have to wait); the status holds the worker's.
 */
#ifndef ATL_IO_TASK_H
#define ATL_IO_TASK_H

#include "io/bus.h"
#include "io/loop.h"
#include "pure/arena.h"
#include "pure/error.h"
#include "pure/upid.h"

enum {
    ATL_TASK_LOG_MAX = 16 << 20, /* bytes of a log; further lines are dropped, and the log says so */
    ATL_TASK_LINE_MAX = 4096,    /* bytes of a line */
    ATL_TASK_EXIT_MAX = 512,
};

enum atl_task_state { ATL_TASK_QUEUED, ATL_TASK_RUNNING, ATL_TASK_STOPPED };

struct atl_task_info {
    char upid[ATL_UPID_MAX];
    struct atl_upid parts;
    enum atl_task_state state;
    int64_t pid;     /* of the worker; 0: none yet */
    int64_t pstart;  /* its start in clock ticks since boot */
    int64_t ended;   /* seconds since 1970; 0: it has not */
    double progress; /* 0..1; below 0: it tells none */
    char progress_text[128];
    char exit[ATL_TASK_EXIT_MAX]; /* "OK", "WARNINGS: 2", or the sentence of the error; "" before the end */
};

/* --- the agent
 * ---------------------------------------------------------------------------------------------- */

struct atl_tasks;

/* Called from the loop when a task has started and when it has ended. info is borrowed. */
typedef void atl_task_change_fn(const struct atl_task_info *info, void *user);

struct atl_tasks_options {
    struct atl_loop *loop;
    const char *service;
    const char *node;
    const char *run_dir;
    const char *state_dir;
    unsigned int running_max;      /* at one time; 0: 8 */
    unsigned int queue_max;        /* waiting; 0: 256 */
    atl_task_change_fn *on_change; /* or NULL */
    void *user;
    /* The path of another program that runs tasks of this type (its main() calls atl_task_main() too), for
     * work that must begin fast; NULL, or the answer NULL: this program. */
    const char *(*program)(const char *type, void *user);
};

struct atl_task_start {
    const char *type; /* "qmstart" */
    const char *id;   /* "100", or "" */
    const char *user; /* "root@pam" */
    const ProtobufCMessage *spec;
    const uint8_t *request_id; /* ATL_REQUEST_ID_SIZE bytes: the same id answers the same UPID */
};

/* Opens the spool (made if missing), adopts what runs, ends what died, starts again what had only waited.
 * Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code atl_tasks_open(const struct atl_tasks_options *options,
                                            struct atl_tasks **ret_tasks, struct atl_error *err);
void atl_tasks_close(struct atl_tasks **tasks); /* workers go on */

/* Starts a task or queues it. ret_upid is terminated.
 * Errors: ATL_E_UNAVAILABLE the queue is full; ATL_E_INVALID a part does not fit a UPID; ATL_E_IO. */
ATL_MUST_CHECK enum atl_code atl_task_start(struct atl_tasks *tasks, const struct atl_task_start *start,
                                            char ret_upid[ATL_UPID_MAX], struct atl_error *err);

/* Is one of our tasks queued or running? */
bool atl_task_alive(const struct atl_tasks *tasks, const char *upid);

/* --- the worker
 * --------------------------------------------------------------------------------------------- */

struct atl_task;

/* Does the work; spec is the packed message. ATL_OK: "OK", or "WARNINGS: n" after atl_task_warn(); else
 * err->text is the end of the task. It may block, spawn (io/process.h) and use any library; SIGTERM only sets
 * a flag, and ten seconds later ends the process. */
typedef enum atl_code atl_task_fn(struct atl_task *task, const uint8_t *spec, size_t size,
                                  struct atl_error *err);

struct atl_task_type {
    const char *type;
    atl_task_fn *fn;
};

/* Is this process a worker? Then main() returns atl_task_main() before it does anything else. */
bool atl_task_wanted(int argc, char **argv);
int atl_task_main(int argc, char **argv, const struct atl_task_type *types, size_t count);

const char *atl_task_upid(const struct atl_task *task);
const struct atl_upid *atl_task_parts(const struct atl_task *task);
const char *atl_task_node(const struct atl_task *task);
const char *atl_task_run_dir(const struct atl_task *task);
const char *atl_task_state_dir(const struct atl_task *task);
ATL_PRINTF(2, 3) void atl_task_log(struct atl_task *task, const char *format, ...);
ATL_PRINTF(2, 3)
void atl_task_warn(struct atl_task *task, const char *format, ...); /* "WARN: ..." in the log */
/* done: 0..1. Written at most five times a second, however often it is called. */
ATL_PRINTF(3, 4) void atl_task_progress(struct atl_task *task, double done, const char *format, ...);
bool atl_task_stopped(const struct atl_task *task); /* SIGTERM came: clean up and return ATL_E_CANCELLED */
/* The worker's own loop, and a bus on it that only calls, as the agent and with the task's id; both are made
 * when first asked for and freed with the task. */
struct atl_loop *atl_task_loop(struct atl_task *task);
ATL_MUST_CHECK enum atl_code atl_task_bus(struct atl_task *task, struct atl_bus **ret_bus,
                                          struct atl_error *err);
/* atl_bus_call_wait() for the task: its id as `task`; ends CANCELLED when the task is stopped meanwhile. */
ATL_MUST_CHECK enum atl_code atl_task_call(struct atl_task *task, const struct atl_rpc *rpc,
                                           const ProtobufCMessage *input, atl_ns deadline,
                                           struct atl_arena *arena, const ProtobufCMessage **ret_output,
                                           struct atl_error *err);

/* The same of another node, whom the task reaches with its agent's key; and to the end. */
struct atl_task_call {
    const struct atl_rpc *rpc;
    const ProtobufCMessage *input;
    atl_ns deadline;
    const char *node; /* NULL: this one */
    bool to_the_end;  /* a stop does not end it: for what puts things in order after one */
};
ATL_MUST_CHECK enum atl_code atl_task_call_at(struct atl_task *task, const struct atl_task_call *call,
                                              struct atl_arena *arena, const ProtobufCMessage **ret_output,
                                              struct atl_error *err);

/* A small text in the task's folder, replaced as a whole: for whoever puts things in order after a worker
 * that was killed. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code atl_task_note(struct atl_task *task, const char *name, const char *text,
                                           struct atl_error *err);
/* What another task of this agent noted, in the arena; "" when it did not. */
const char *atl_task_noted(const struct atl_task *task, const char *upid, const char *name,
                           struct atl_arena *arena);

/* --- the reader
 * --------------------------------------------------------------------------------------------- */

struct atl_task_reader; /* remembers what has ended, so that listing is cheap */

struct atl_task_reader *atl_task_reader_new(const char *state_dir);
void atl_task_reader_free(struct atl_task_reader *reader);

/* Newest first. ret_total counts what passes the filter, before start and limit. Blocks for one folder read
 * and one small file per task that has not ended. */
void atl_task_list(struct atl_task_reader *reader, const struct atl_upid_filter *filter,
                   struct atl_arena *arena, struct atl_task_info **ret_infos, size_t *ret_count,
                   size_t *ret_total);

/* Errors: ATL_E_INVALID no UPID; ATL_E_ABSENT "no such task". */
ATL_MUST_CHECK enum atl_code atl_task_status(struct atl_task_reader *reader, const char *upid,
                                             struct atl_task_info *ret_info, struct atl_error *err);

/* A part of a log: start and limit go in, the rest comes out, in the arena. */
struct atl_task_log_part {
    size_t start; /* first line, from 0 */
    size_t limit; /* lines at most; 0: all */
    const char *const *lines;
    size_t count;
    size_t total; /* lines there are now */
};
ATL_MUST_CHECK enum atl_code atl_task_read_log(struct atl_task_reader *reader, const char *upid,
                                               struct atl_arena *arena, struct atl_task_log_part *part,
                                               struct atl_error *err);

/* Asks the task to stop: SIGTERM to the worker and its group, after making sure that the pid is still it. A
 * task that has ended is not an error; one that waits never starts. */
ATL_MUST_CHECK enum atl_code atl_task_stop(struct atl_task_reader *reader, const char *upid,
                                           struct atl_error *err);

#endif
