/* Tasks at the agent: started, queued, adopted, ended. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/log.h"
#include "io/process.h"
#include "io/task_spool.h"

enum { KEPT_MAX = 1000, RUNNING_DEFAULT = 8, QUEUE_DEFAULT = 256 };
#define KEPT_FOR   (7 * 24 * 3600) /* seconds */
#define LOOK_AGAIN (50 * ATL_MS)

struct task {
    struct task *next; /* oldest first */
    struct atl_tasks *tasks;
    struct atl_upid parts;
    char upid[ATL_UPID_MAX];
    uint8_t request_id[ATL_REQUEST_ID_SIZE];
    enum atl_task_state state;
    struct atl_process *process; /* our own child */
    struct atl_watch *watch;     /* of an adopted one's pidfd */
    struct atl_timer *look;      /* at one that had not written its pid yet when it was adopted */
    int pid_fd;
};

struct atl_tasks {
    struct atl_loop *loop;
    char *service;
    char *node;
    char *run_dir;
    char *state_dir;
    char *dir; /* STATE/tasks/SERVICE */
    unsigned int running_max;
    unsigned int queue_max;
    atl_task_change_fn *on_change;
    void *user;
    const char *(*program)(const char *type, void *user);
    struct task *first;
    struct task *last;
    size_t count;
    unsigned int running;
    unsigned int queued;
    bool closing;
};

static void start_queued(struct atl_tasks *tasks);

static void task_dir(const struct task *task, char dir[PATH_MAX])
{
    (void)snprintf(dir, PATH_MAX, "%s/%s", task->tasks->dir, task->upid); /* checked to fit at open */
}

static void tell(const struct task *task)
{
    if (task->tasks->on_change == NULL || task->tasks->closing)
        return;
    char dir[PATH_MAX];
    struct atl_task_info info = {.parts = task->parts};
    task_dir(task, dir);
    (void)atl_copy(info.upid, sizeof info.upid, task->upid);
    atl_spool_status_read(dir, &info);
    info.state = task->state;
    task->tasks->on_change(&info, task->tasks->user);
}

/* --- what is kept --- */

static void forget(struct task *task)
{
    atl_watch_free(task->watch);
    atl_timer_free(task->look);
    if (task->pid_fd >= 0)
        (void)close(task->pid_fd);
    free(task);
}

/* The oldest ended tasks go when there are too many, or when they are too old. */
static void purge(struct atl_tasks *tasks)
{
    int64_t now = atl_clock_wall_seconds();
    struct task **link = &tasks->first;
    tasks->last = NULL;
    while (*link != NULL) {
        struct task *task = *link;
        bool old = tasks->count > KEPT_MAX || now - (int64_t)task->parts.start > KEPT_FOR;
        if (task->state == ATL_TASK_STOPPED && old) {
            char dir[PATH_MAX];
            task_dir(task, dir);
            atl_spool_remove(dir);
            *link = task->next;
            tasks->count--;
            forget(task);
        } else {
            tasks->last = task;
            link = &task->next;
        }
    }
}

static struct task *add(struct atl_tasks *tasks, const struct atl_upid *parts, const char *upid)
{
    struct task *task = atl_new0(struct task);
    task->tasks = tasks;
    task->parts = *parts;
    task->pid_fd = -1;
    (void)atl_copy(task->upid, sizeof task->upid, upid);
    if (tasks->last != NULL)
        tasks->last->next = task;
    else
        tasks->first = task;
    tasks->last = task;
    tasks->count++;
    return task;
}

/* --- ends --- */

static void ended(struct task *task, const char *how)
{
    struct atl_tasks *tasks = task->tasks;
    char dir[PATH_MAX];
    struct atl_task_info info = {0};
    task_dir(task, dir);
    atl_spool_status_read(dir, &info);
    if (info.state != ATL_TASK_STOPPED)
        atl_spool_finish(dir, &info, how);
    task->state = ATL_TASK_STOPPED;
    tell(task);
    if (tasks->count > KEPT_MAX || atl_clock_wall_seconds() - (int64_t)tasks->first->parts.start > KEPT_FOR)
        purge(tasks);
    start_queued(tasks);
}

static void on_process_end(const struct atl_process_end *end, void *user)
{
    struct task *task = user;
    char how[160];
    task->process = NULL;
    task->tasks->running--;
    if (end->signal != 0)
        (void)snprintf(how, sizeof how, "interrupted: worker was ended by signal %d (%s)", end->signal,
                       strsignal(end->signal));
    else
        (void)snprintf(how, sizeof how, "interrupted: worker ended with %d and without a result",
                       end->exit_status);
    ended(task, how);
}

static void on_adopted_end(void *user, unsigned int events)
{
    (void)events;
    struct task *task = user;
    atl_watch_free(task->watch);
    task->watch = NULL;
    (void)close(task->pid_fd);
    task->pid_fd = -1;
    task->tasks->running--;
    ended(task, "interrupted: worker died");
}

/* --- starts --- */

static int take_lock(const char *dir)
{
    char path[PATH_MAX + 8];
    (void)snprintf(path, sizeof path, "%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd >= 0 && flock(fd, LOCK_EX) != 0) { /* only one who looks may hold it, for an instant */
        (void)close(fd);
        return -1;
    }
    return fd;
}

static const char *program_of(const struct task *task)
{
    const struct atl_tasks *tasks = task->tasks;
    const char *program = NULL;
    struct atl_upid parts;
    if (tasks->program != NULL && atl_upid_from_text(task->upid, &parts, NULL) == ATL_OK)
        program = tasks->program(parts.type, tasks->user);
    return program != NULL ? program : "/proc/self/exe";
}

/* The lock is taken before the worker exists and handed to it, so there is no moment in which a task that is
 * about to run looks dead. */
static void spawn(struct task *task)
{
    struct atl_tasks *tasks = task->tasks;
    struct atl_error err = {0};
    char dir[PATH_MAX];
    task_dir(task, dir);
    task->state = ATL_TASK_RUNNING;
    if (atl_spool_has(dir, "stop")) {
        ended(task, "stopped before it began");
        return;
    }
    int lock = take_lock(dir);
    const char *program = program_of(task);
    const char *const argv[] = {program,          "--task",    dir,         "--service",    tasks->service,
                                "--node",         tasks->node, "--run-dir", tasks->run_dir, "--state-dir",
                                tasks->state_dir, NULL};
    const struct atl_process_options options = {.argv = argv, .pass = &lock, .pass_count = 1};
    enum atl_code code = ATL_OK;
    if (lock < 0)
        code = atl_fail(&err, ATL_E_IO, NULL, "cannot lock the spool: %s", strerror(errno));
    else
        code = atl_process_start(tasks->loop, &options, on_process_end, task, &task->process, &err);
    if (lock >= 0)
        (void)close(lock);
    if (code != ATL_OK) {
        ended(task, err.text);
        return;
    }
    tasks->running++;
    tell(task);
}

static void start_queued(struct atl_tasks *tasks)
{
    while (!tasks->closing && tasks->queued > 0 && tasks->running < tasks->running_max) {
        struct task *task = tasks->first;
        while (task->state != ATL_TASK_QUEUED)
            task = task->next;
        tasks->queued--;
        spawn(task);
    }
}

static void hex(char *to, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        (void)snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

static enum atl_code make_spool(const char *dir, const struct atl_task_start *start, struct atl_error *err)
{
    char about[64] = "version 1\nrequest ";
    if (mkdir(dir, 0750) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", dir, strerror(errno));
    size_t size = protobuf_c_message_get_packed_size(start->spec);
    ATL_FREE_AT_EXIT uint8_t *packed = atl_alloc0(size + 1);
    (void)protobuf_c_message_pack(start->spec, packed);
    hex(about + strlen(about), start->request_id, ATL_REQUEST_ID_SIZE);
    enum atl_code code = atl_spool_write(dir, "spec", packed, size, 0600, err);
    if (code == ATL_OK) /* last: a folder without it is half made */
        code = atl_spool_write(dir, "about", about, strlen(about), 0640, err);
    if (code != ATL_OK)
        atl_spool_remove(dir);
    return code;
}

static enum atl_code make_upid(const struct atl_tasks *tasks, const struct atl_task_start *start,
                               struct atl_upid *parts, char upid[ATL_UPID_MAX], struct atl_error *err)
{
    uint32_t numbers[2];
    *parts = (struct atl_upid){.start = (uint32_t)atl_clock_wall_seconds()};
    memcpy(numbers, start->request_id, sizeof numbers); /* random, and the same for the same request */
    parts->pid = numbers[0];
    parts->pstart = numbers[1];
    if (!atl_copy(parts->node, sizeof parts->node, tasks->node) ||
        !atl_copy(parts->type, sizeof parts->type, start->type) ||
        !atl_copy(parts->id, sizeof parts->id, start->id) ||
        !atl_copy(parts->user, sizeof parts->user, start->user))
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' of %s is too long for a task's id", start->id,
                        start->user);
    return atl_upid_to_text(parts, upid, err);
}

enum atl_code atl_task_start(struct atl_tasks *tasks, const struct atl_task_start *start,
                             char ret_upid[ATL_UPID_MAX], struct atl_error *err)
{
    struct atl_upid parts;
    char upid[ATL_UPID_MAX];
    char dir[PATH_MAX];
    for (const struct task *task = tasks->first; task != NULL; task = task->next)
        if (memcmp(task->request_id, start->request_id, ATL_REQUEST_ID_SIZE) == 0) {
            (void)atl_copy(ret_upid, ATL_UPID_MAX, task->upid);
            return ATL_OK;
        }
    if (tasks->running >= tasks->running_max && tasks->queued >= tasks->queue_max)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "%u tasks wait already, try again later",
                        tasks->queued);
    enum atl_code code = make_upid(tasks, start, &parts, upid, err);
    if (code != ATL_OK)
        return code;
    (void)snprintf(dir, sizeof dir, "%s/%s", tasks->dir, upid); /* checked to fit at open */
    code = make_spool(dir, start, err);
    if (code != ATL_OK)
        return code;
    struct task *task = add(tasks, &parts, upid);
    memcpy(task->request_id, start->request_id, ATL_REQUEST_ID_SIZE);
    (void)atl_copy(ret_upid, ATL_UPID_MAX, upid);
    tasks->queued++;
    start_queued(tasks);
    return ATL_OK;
}

bool atl_task_alive(const struct atl_tasks *tasks, const char *upid)
{
    for (const struct task *task = tasks->first; task != NULL; task = task->next)
        if (strcmp(task->upid, upid) == 0)
            return task->state != ATL_TASK_STOPPED;
    return false;
}

/* --- after a restart of the agent --- */

static bool read_about(const char *dir, uint8_t id[ATL_REQUEST_ID_SIZE])
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    if (!atl_spool_read(dir, "about", 256, &text))
        return false;
    const char *at = strstr(text.data, "request ");
    for (size_t i = 0; at != NULL && i < ATL_REQUEST_ID_SIZE; i++)
        if (sscanf(at + 8 + 2 * i, "%2hhx", &id[i]) != 1)
            return false;
    return at != NULL;
}

static bool watch_pid(struct task *task, const struct atl_task_info *info)
{
    if (info->pid <= 0)
        return false;
    task->pid_fd = (int)syscall(SYS_pidfd_open, (pid_t)info->pid, 0);
    if (task->pid_fd < 0)
        return false;
    if (atl_process_started((pid_t)info->pid) == (uint64_t)info->pstart) {
        task->watch = atl_loop_fd(task->tasks->loop, task->pid_fd, ATL_READ, on_adopted_end, task);
        return true;
    }
    (void)close(task->pid_fd); /* the number is another's by now */
    task->pid_fd = -1;
    return false;
}

/* What an adopted task is doing. One that was spawned in the agent's last moment holds its lock and has not
 * written its pid yet: it is looked at again. */
static void look(void *user)
{
    struct task *task = user;
    struct atl_tasks *tasks = task->tasks;
    char dir[PATH_MAX];
    struct atl_task_info info = {0};
    task_dir(task, dir);
    task->look = NULL;                   /* it frees itself */
    bool locked = atl_spool_locked(dir); /* first: what has ended since then has written so */
    atl_spool_status_read(dir, &info);
    if (info.state == ATL_TASK_RUNNING && watch_pid(task, &info)) {
        atl_log(ATL_NOTICE, "task-adopted", "task %s still runs", task->upid);
        return;
    }
    if (info.state != ATL_TASK_STOPPED && locked) {
        task->look = atl_loop_timer(tasks->loop, LOOK_AGAIN, 0, look, task);
        return;
    }
    tasks->running--;
    if (info.state == ATL_TASK_QUEUED) {
        task->state = ATL_TASK_QUEUED; /* it never began */
        tasks->queued++;
        start_queued(tasks);
    } else {
        ended(task, "interrupted: worker died");
    }
}

static void adopt(struct atl_tasks *tasks, const char *upid)
{
    struct atl_upid parts;
    char dir[PATH_MAX];
    uint8_t id[ATL_REQUEST_ID_SIZE];
    struct atl_task_info info = {0};
    (void)snprintf(dir, sizeof dir, "%s/%s", tasks->dir, upid); /* checked to fit at open */
    if (atl_upid_from_text(upid, &parts, NULL) != ATL_OK)
        return; /* not ours: left alone */
    if (!read_about(dir, id)) {
        atl_spool_remove(dir); /* its start was never answered */
        return;
    }
    struct task *task = add(tasks, &parts, upid);
    memcpy(task->request_id, id, sizeof id);
    atl_spool_status_read(dir, &info);
    task->state = info.state;
    if (info.state == ATL_TASK_STOPPED)
        return;
    task->state = ATL_TASK_RUNNING;
    tasks->running++;
    look(task);
}

static int by_start(const void *left, const void *right)
{
    const char *const *a = left;
    const char *const *b = right;
    struct atl_upid one = {0};
    struct atl_upid other = {0};
    bool good = atl_upid_from_text(*a, &one, NULL) == ATL_OK;
    good = atl_upid_from_text(*b, &other, NULL) == ATL_OK && good; /* what is none is skipped later */
    if (good && one.start != other.start)
        return one.start < other.start ? -1 : 1;
    return strcmp(*a, *b);
}

static enum atl_code read_spool(struct atl_tasks *tasks, struct atl_error *err)
{
    DIR *folder = opendir(tasks->dir);
    if (folder == NULL)
        return atl_fail(err, ATL_E_IO, "state-dir", "cannot read '%s': %s", tasks->dir, strerror(errno));
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char **names = NULL;
    size_t count = 0;
    size_t capacity = 0;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (strncmp(entry->d_name, "UPID:", 5) != 0 || strlen(entry->d_name) >= ATL_UPID_MAX)
            continue;
        names = atl_arena_grow(&arena, names, count, &capacity, sizeof *names);
        names[count++] = atl_arena_strdup(&arena, entry->d_name);
    }
    (void)closedir(folder);
    if (count > 1)
        qsort(names, count, sizeof *names, by_start);
    for (size_t i = 0; i < count; i++)
        adopt(tasks, names[i]);
    return ATL_OK;
}

static enum atl_code make_folders(const struct atl_tasks *tasks, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *above = atl_format("%s/tasks", tasks->state_dir);
    if (strlen(tasks->dir) + ATL_UPID_MAX + 16 >= PATH_MAX)
        return atl_fail(err, ATL_E_INVALID, "state-dir", "'%s' is too long", tasks->state_dir);
    if ((mkdir(above, 0755) != 0 && errno != EEXIST) || (mkdir(tasks->dir, 0750) != 0 && errno != EEXIST))
        return atl_fail(err, ATL_E_IO, "state-dir", "cannot make '%s': %s", tasks->dir, strerror(errno));
    return ATL_OK;
}

enum atl_code atl_tasks_open(const struct atl_tasks_options *options, struct atl_tasks **ret_tasks,
                             struct atl_error *err)
{
    struct atl_tasks *tasks = atl_new0(struct atl_tasks);
    tasks->loop = options->loop;
    tasks->service = atl_strdup(options->service);
    tasks->node = atl_strdup(options->node);
    tasks->run_dir = atl_strdup(options->run_dir);
    tasks->state_dir = atl_strdup(options->state_dir);
    tasks->dir = atl_format("%s/tasks/%s", options->state_dir, options->service);
    tasks->running_max = options->running_max > 0 ? options->running_max : RUNNING_DEFAULT;
    tasks->queue_max = options->queue_max > 0 ? options->queue_max : QUEUE_DEFAULT;
    tasks->on_change = options->on_change;
    tasks->user = options->user;
    tasks->program = options->program;
    tasks->closing = true; /* nothing starts and nobody is told before all is read */
    enum atl_code code = make_folders(tasks, err);
    if (code == ATL_OK)
        code = read_spool(tasks, err);
    if (code != ATL_OK) {
        atl_tasks_close(&tasks);
        return code;
    }
    tasks->closing = false;
    purge(tasks);
    start_queued(tasks);
    *ret_tasks = tasks;
    return ATL_OK;
}

void atl_tasks_close(struct atl_tasks **pointer)
{
    struct atl_tasks *tasks = *pointer;
    *pointer = NULL;
    if (tasks == NULL)
        return;
    tasks->closing = true;
    while (tasks->first != NULL) {
        struct task *task = tasks->first;
        tasks->first = task->next;
        atl_process_leave(&task->process); /* it goes on without us */
        forget(task);
    }
    free(tasks->service);
    free(tasks->node);
    free(tasks->run_dir);
    free(tasks->state_dir);
    free(tasks->dir);
    free(tasks);
}
