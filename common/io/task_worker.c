/* Tasks in the worker: the process that does the work. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/directory.h"
#include "io/log.h"
#include "io/process.h"
#include "io/task_spool.h"

enum { LOCK_FD = 3, STOP_SECONDS = 10, SPEC_MAX = ATL_BUS_MESSAGE_MAX };
#define PROGRESS_EVERY (200 * ATL_MS)
#define LOOK_FOR_STOP  (100 * ATL_MS)
#define NODE_PATIENCE  (3 * ATL_SECOND) /* how long another node is tried that nothing is heard of */

struct atl_task {
    const char *dir;
    const char *service;
    const char *node;
    const char *run_dir;
    const char *state_dir;
    struct atl_task_info info;
    unsigned int warnings;
    bool log_full;
    atl_ns progress_at;
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_directory *directory; /* NULL: the node is alone, or nobody asked for the bus */
    /* Set with them: a worker that asks for neither does not link ZeroMQ, and starts in a third of the time.
     */
    void (*free_loop)(struct atl_loop *);
    void (*close_bus)(struct atl_bus **);
    void (*free_directory)(struct atl_directory **);
};

static volatile sig_atomic_t stop_asked; /* set by SIGTERM; a handler has nowhere else to put it */

const char *atl_task_upid(const struct atl_task *task)
{
    return task->info.upid;
}

const struct atl_upid *atl_task_parts(const struct atl_task *task)
{
    return &task->info.parts;
}

const char *atl_task_node(const struct atl_task *task)
{
    return task->node;
}

const char *atl_task_run_dir(const struct atl_task *task)
{
    return task->run_dir;
}

const char *atl_task_state_dir(const struct atl_task *task)
{
    return task->state_dir;
}

bool atl_task_stopped(const struct atl_task *task)
{
    (void)task;
    return stop_asked != 0;
}

/* --- what it tells --- */

static void put_line(struct atl_task *task, const char *text)
{
    if (task->log_full)
        return;
    task->log_full = !atl_spool_log(task->dir, text);
    if (task->log_full)
        atl_log(ATL_WARNING, "task-log-full", "the log of %s takes no more lines", task->info.upid);
}

ATL_PRINTF(3, 0)
static void put_lines(struct atl_task *task, const char *prefix, const char *format, va_list args)
{
    char text[ATL_TASK_LINE_MAX];
    size_t length = strlen(prefix);
    (void)atl_copy(text, sizeof text, prefix);
    (void)vsnprintf(text + length, sizeof text - length, format, args); /* cut when too long */
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n"))
        if (line[0] != '\0' || rest != NULL)
            put_line(task, line);
}

void atl_task_log(struct atl_task *task, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put_lines(task, "", format, args);
    va_end(args);
}

void atl_task_warn(struct atl_task *task, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put_lines(task, "WARN: ", format, args);
    va_end(args);
    task->warnings++;
}

void atl_task_progress(struct atl_task *task, double done, const char *format, ...)
{
    atl_ns now = atl_clock_monotonic();
    va_list args;
    va_start(args, format);
    (void)vsnprintf(task->info.progress_text, sizeof task->info.progress_text, format, args);
    va_end(args);
    for (char *at = task->info.progress_text; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20)
            *at = ' '; /* it is one line of the status */
    task->info.progress = done < 0 ? 0 : done > 1 ? 1 : done;
    if (task->progress_at != 0 && now - task->progress_at < PROGRESS_EVERY && done < 1)
        return;
    task->progress_at = now;
    if (atl_spool_status_write(task->dir, &task->info, NULL) != ATL_OK)
        task->progress_at = 0; /* the next one is tried again */
}

/* --- calls --- */

struct atl_loop *atl_task_loop(struct atl_task *task)
{
    if (task->loop == NULL)
        task->loop = atl_loop_new();
    task->free_loop = atl_loop_free;
    return task->loop;
}

/* Other nodes with the agent's key, as the agent's copy of the directory has them now. */
static enum atl_code reach_others(struct atl_task *task, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *copy = atl_format("%s/%s/directory", task->state_dir, task->service);
    ATL_FREE_AT_EXIT char *key_file = atl_format("%s/%s/bus.key", task->state_dir, task->service);
    const struct atl_bus_cluster options = {.directory = atl_directory_new(), .key_file = key_file};
    task->directory = options.directory;
    task->free_directory = atl_directory_free;
    atl_directory_keep(task->directory, copy);
    if (atl_directory_node(task->directory, task->node) == NULL)
        return ATL_OK; /* alone */
    return atl_bus_join_cluster(task->bus, &options, err);
}

enum atl_code atl_task_bus(struct atl_task *task, struct atl_bus **ret_bus, struct atl_error *err)
{
    if (task->bus == NULL) {
        const struct atl_bus_options options = {.loop = atl_task_loop(task),
                                                .service = task->service,
                                                .node = task->node,
                                                .run_dir = task->run_dir,
                                                .client_only = true};
        enum atl_code code = atl_bus_open(&options, &task->bus, err);
        task->close_bus = atl_bus_close;
        if (code == ATL_OK)
            code = reach_others(task, err);
        if (code != ATL_OK)
            return code;
    }
    *ret_bus = task->bus;
    return ATL_OK;
}

struct waiting {
    struct atl_arena *arena;
    const struct atl_rpc *rpc;
    const ProtobufCMessage *output;
    struct atl_error *err;
    enum atl_code code;
    bool done;
    bool sent; /* it may have been executed */
};

static void answered(const struct atl_reply *reply, void *user)
{
    struct waiting *waiting = user;
    waiting->done = true;
    waiting->code = reply->code;
    waiting->sent = reply->sent;
    if (reply->code == ATL_OK) /* once more, into memory that outlives the callback */
        waiting->output = atl_unpack(waiting->rpc->output, reply->packed, reply->packed_size, waiting->arena);
    else if (waiting->err != NULL)
        *waiting->err = reply->error;
}

static enum atl_code call_once(struct atl_task *task, struct atl_bus *bus, const struct atl_task_call *wanted,
                               struct waiting *waiting, struct atl_error *err)
{
    struct atl_call_options options = {
        .deadline = wanted->deadline, .node = wanted->node, .task = task->info.upid};
    struct atl_call *call = atl_bus_call(bus, wanted->rpc, wanted->input, &options, answered, waiting);
    while (!waiting->done && (wanted->to_the_end || !atl_task_stopped(task)))
        atl_loop_step(task->loop, LOOK_FOR_STOP);
    if (waiting->done)
        return waiting->code;
    atl_call_cancel(call);
    return atl_fail(err, ATL_E_CANCELLED, NULL, "the task was stopped");
}

enum atl_code atl_task_call_at(struct atl_task *task, const struct atl_task_call *wanted,
                               struct atl_arena *arena, const ProtobufCMessage **ret_output,
                               struct atl_error *err)
{
    struct atl_bus *bus = NULL;
    enum atl_code code = atl_task_bus(task, &bus, err);
    if (code != ATL_OK)
        return code;
    struct waiting waiting;
    atl_ns patient = atl_clock_monotonic() + (wanted->node != NULL ? NODE_PATIENCE : 0);
    for (;;) { /* its bus is new: a node that is only busy may take longer to be connected than calls wait */
        waiting = (struct waiting){.arena = arena, .rpc = wanted->rpc, .err = err};
        code = call_once(task, bus, wanted, &waiting, err);
        if (code != ATL_E_UNAVAILABLE || waiting.sent || atl_clock_monotonic() >= patient)
            break;
        atl_loop_step(task->loop, LOOK_FOR_STOP);
    }
    if (code == ATL_OK && waiting.output == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the answer of %s cannot be read", wanted->rpc->name);
    if (code == ATL_OK)
        *ret_output = waiting.output;
    return code;
}

enum atl_code atl_task_call(struct atl_task *task, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                            atl_ns deadline, struct atl_arena *arena, const ProtobufCMessage **ret_output,
                            struct atl_error *err)
{
    const struct atl_task_call call = {.rpc = rpc, .input = input, .deadline = deadline};
    return atl_task_call_at(task, &call, arena, ret_output, err);
}

/* --- notes --- */

enum { NOTE_MAX = 1 << 20 };

enum atl_code atl_task_note(struct atl_task *task, const char *name, const char *text, struct atl_error *err)
{
    return atl_spool_write(task->dir, name, text, strlen(text), 0600, err);
}

const char *atl_task_noted(const struct atl_task *task, const char *upid, const char *name,
                           struct atl_arena *arena)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    ATL_FREE_AT_EXIT char *dir = atl_format("%s/tasks/%s/%s", task->state_dir, task->service, upid);
    if (strchr(upid, '/') != NULL || !atl_spool_read(dir, name, NOTE_MAX, &text) || text.length == 0)
        return "";
    return atl_arena_strndup(arena, text.data, text.length);
}

/* --- the process --- */

static void on_term(int signal)
{
    (void)signal;
    if (!stop_asked)
        (void)alarm(STOP_SECONDS); /* its default action ends a worker that does not look */
    stop_asked = 1;
}

static void set_signals(void)
{
    struct sigaction action = {.sa_handler = on_term};
    int rc = sigaction(SIGTERM, &action, NULL);
    atl_assert(rc == 0);
    (void)signal(SIGPIPE, SIG_IGN); /* cannot fail for SIGPIPE */
}

bool atl_task_wanted(int argc, char **argv)
{
    return argc > 2 && strcmp(argv[1], "--task") == 0;
}

static bool parse(struct atl_task *task, int argc, char **argv)
{
    static const struct option options[] = {
        {"task", required_argument, NULL, 't'},      {"service", required_argument, NULL, 's'},
        {"node", required_argument, NULL, 'n'},      {"run-dir", required_argument, NULL, 'r'},
        {"state-dir", required_argument, NULL, 'd'}, {0}};
    optind = 1;
    for (int found = getopt_long(argc, argv, "", options, NULL); found != -1;
         found = getopt_long(argc, argv, "", options, NULL)) {
        if (found == 't')
            task->dir = optarg;
        else if (found == 's')
            task->service = optarg;
        else if (found == 'n')
            task->node = optarg;
        else if (found == 'r')
            task->run_dir = optarg;
        else if (found == 'd')
            task->state_dir = optarg;
        else
            return false;
    }
    return task->dir != NULL && task->service != NULL && task->node != NULL && task->run_dir != NULL &&
           task->state_dir != NULL;
}

static const struct atl_task_type *find_type(const struct atl_task_type *types, size_t count,
                                             const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(types[i].type, name) == 0)
            return &types[i];
    return NULL;
}

static enum atl_code work(struct atl_task *task, const struct atl_task_type *types, size_t count,
                          struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf spec = {0};
    const struct atl_task_type *type = find_type(types, count, task->info.parts.type);
    if (type == NULL)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, NULL, "%s has no task '%s'", task->service,
                        task->info.parts.type);
    if (!atl_spool_read(task->dir, "spec", SPEC_MAX, &spec))
        return atl_fail(err, ATL_E_IO, NULL, "cannot read what the task is to do: %s", strerror(errno));
    return type->fn(task, (const uint8_t *)spec.data, spec.length, err);
}

static void finish(struct atl_task *task, enum atl_code code, const struct atl_error *err)
{
    char text[32];
    if (code == ATL_OK && task->warnings > 0) {
        (void)snprintf(text, sizeof text, "WARNINGS: %u", task->warnings);
        atl_spool_finish(task->dir, &task->info, text);
    } else if (code == ATL_OK) {
        atl_spool_finish(task->dir, &task->info, "OK");
    } else {
        const char *why = err->text[0] != '\0' ? err->text : atl_code_to_text(code);
        atl_spool_finish(task->dir, &task->info, strcmp(why, "OK") == 0 ? "failed" : why);
    }
}

int atl_task_main(int argc, char **argv, const struct atl_task_type *types, size_t count)
{
    struct atl_task task = {0};
    struct atl_error err = {0};
    if (!parse(&task, argc, argv) || fcntl(LOCK_FD, F_SETFD, FD_CLOEXEC) != 0) {
        (void)fprintf(stderr, "--task is for the agent, which starts its workers with it\n");
        return 2;
    }
    ATL_FREE_AT_EXIT char *identifier = atl_format("atoll-%s", task.service);
    atl_log_open(&(const struct atl_log_options){.identifier = identifier, .node = task.node});
    (void)atl_copy(task.info.upid, sizeof task.info.upid, atl_spool_name(task.dir));
    enum atl_code code = atl_upid_from_text(task.info.upid, &task.info.parts, &err);
    set_signals();
    task.info.state = ATL_TASK_RUNNING;
    task.info.pid = getpid();
    task.info.pstart = (int64_t)atl_process_started(getpid());
    task.info.progress = -1;
    if (code == ATL_OK)
        code = atl_spool_status_write(task.dir, &task.info, &err);
    if (atl_spool_has(task.dir,
                      "stop")) /* after our pid can be seen: either we see this or its maker sees us */
        (void)raise(SIGTERM);
    if (code == ATL_OK)
        code = work(&task, types, count, &err);
    (void)alarm(0); /* it ended in time */
    if (task.bus != NULL)
        task.close_bus(&task.bus);
    if (task.directory != NULL)
        task.free_directory(&task.directory);
    if (task.loop != NULL)
        task.free_loop(task.loop);
    finish(&task, code, &err);
    atl_log_close();
    return 0;
}
