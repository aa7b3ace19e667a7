/* Tasks for those who look: all spools of the node. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/process.h"
#include "io/task_spool.h"

enum { CACHE_SLOTS = 16384, CACHE_MAX = 8192 };

/* What has ended does not change any more. */
struct ended {
    char *upid;
    char *exit;
    int64_t ended;
    int64_t pid;
    int64_t pstart;
};

struct atl_task_reader {
    char *dir;           /* STATE/tasks */
    struct ended *cache; /* open addressing by upid; emptied when it is full */
    size_t cached;
};

struct atl_task_reader *atl_task_reader_new(const char *state_dir)
{
    struct atl_task_reader *reader = atl_new0(struct atl_task_reader);
    reader->dir = atl_format("%s/tasks", state_dir);
    reader->cache = atl_alloc0(CACHE_SLOTS * sizeof(struct ended));
    return reader;
}

static void empty_cache(struct atl_task_reader *reader)
{
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        free(reader->cache[i].upid);
        free(reader->cache[i].exit);
        reader->cache[i] = (struct ended){0};
    }
    reader->cached = 0;
}

void atl_task_reader_free(struct atl_task_reader *reader)
{
    if (reader == NULL)
        return;
    empty_cache(reader);
    free(reader->cache);
    free(reader->dir);
    free(reader);
}

static struct ended *cache_slot(struct atl_task_reader *reader, const char *upid)
{
    uint32_t hash = 2166136261U;
    for (const char *at = upid; *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * 16777619U;
    size_t slot = hash & (CACHE_SLOTS - 1);
    while (reader->cache[slot].upid != NULL && strcmp(reader->cache[slot].upid, upid) != 0)
        slot = (slot + 1) & (CACHE_SLOTS - 1);
    return &reader->cache[slot];
}

/* --- one task --- */

/* A worker that died and whose agent is away has not been ended by anybody: it is shown as what it is. */
static void read_info(struct atl_task_reader *reader, const char *dir, struct atl_task_info *info)
{
    struct ended *slot = cache_slot(reader, info->upid);
    if (slot->upid != NULL) {
        info->state = ATL_TASK_STOPPED;
        info->ended = slot->ended;
        info->pid = slot->pid;
        info->pstart = slot->pstart;
        info->progress = -1;
        (void)atl_copy(info->exit, sizeof info->exit, slot->exit);
        return;
    }
    bool locked = atl_spool_locked(dir); /* first: what ended since then has written so */
    atl_spool_status_read(dir, info);
    if (info->state == ATL_TASK_QUEUED && locked)
        info->state = ATL_TASK_RUNNING;
    if (info->state == ATL_TASK_RUNNING && !locked) {
        info->state = ATL_TASK_STOPPED;
        (void)atl_copy(info->exit, sizeof info->exit, "interrupted: worker died");
        return; /* its agent may find more to say */
    }
    if (info->state != ATL_TASK_STOPPED)
        return;
    if (reader->cached >= CACHE_MAX) {
        empty_cache(reader);
        slot = cache_slot(reader, info->upid);
    }
    reader->cached++;
    *slot = (struct ended){.upid = atl_strdup(info->upid),
                           .exit = atl_strdup(info->exit),
                           .ended = info->ended,
                           .pid = info->pid,
                           .pstart = info->pstart};
}

/* Calls fn with each agent's folder until it answers true. */
static bool each_service(const struct atl_task_reader *reader, bool (*fn)(const char *dir, void *user),
                         void *user)
{
    DIR *folder = opendir(reader->dir);
    if (folder == NULL)
        return false; /* no agent has made one yet */
    bool found = false;
    for (const struct dirent *entry = readdir(folder); entry != NULL && !found; entry = readdir(folder)) {
        char dir[PATH_MAX];
        int length = snprintf(dir, sizeof dir, "%s/%s", reader->dir, entry->d_name);
        if (entry->d_name[0] != '.' && length > 0 && (size_t)length < sizeof dir)
            found = fn(dir, user);
    }
    (void)closedir(folder);
    return found;
}

struct finding {
    const char *upid;
    char dir[PATH_MAX];
};

static bool has_task(const char *dir, void *user)
{
    struct finding *finding = user;
    int length = snprintf(finding->dir, sizeof finding->dir, "%s/%s", dir, finding->upid);
    return length > 0 && (size_t)length < sizeof finding->dir && atl_spool_has(finding->dir, "about");
}

static enum atl_code find(const struct atl_task_reader *reader, const char *upid, struct finding *finding,
                          struct atl_upid *ret_parts, struct atl_error *err)
{
    enum atl_code code = atl_upid_from_text(upid, ret_parts, err); /* also: it cannot leave the folder */
    if (code != ATL_OK)
        return code;
    finding->upid = upid;
    if (!each_service(reader, has_task, finding))
        return atl_fail(err, ATL_E_ABSENT, "upid", "no such task '%s'", upid);
    return ATL_OK;
}

enum atl_code atl_task_status(struct atl_task_reader *reader, const char *upid,
                              struct atl_task_info *ret_info, struct atl_error *err)
{
    struct finding finding;
    struct atl_task_info info = {0};
    enum atl_code code = find(reader, upid, &finding, &info.parts, err);
    if (code != ATL_OK)
        return code;
    (void)atl_copy(info.upid, sizeof info.upid, upid);
    read_info(reader, finding.dir, &info);
    *ret_info = info;
    return ATL_OK;
}

/* --- all tasks --- */

struct row { /* of the list, as small as it can be before it is cut */
    const char *upid;
    const char *dir;
    uint32_t start;
};

struct listing {
    struct atl_task_reader *reader;
    const struct atl_upid_filter *filter;
    struct atl_arena *arena;
    struct row *rows;
    size_t count;
    size_t capacity;
};

static void consider(struct listing *listing, const char *dir, const char *name)
{
    struct atl_task_info info = {0};
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (length < 0 || (size_t)length >= sizeof path || !atl_copy(info.upid, sizeof info.upid, name) ||
        atl_upid_from_text(name, &info.parts, NULL) != ATL_OK)
        return;
    read_info(listing->reader, path, &info);
    if (!atl_upid_passes(listing->filter, &info.parts, info.exit))
        return;
    listing->rows = atl_arena_grow(listing->arena, listing->rows, listing->count, &listing->capacity,
                                   sizeof *listing->rows);
    listing->rows[listing->count++] =
        (struct row){.upid = atl_arena_strdup(listing->arena, name), .dir = dir, .start = info.parts.start};
}

static bool list_service(const char *dir, void *user)
{
    struct listing *listing = user;
    DIR *folder = opendir(dir);
    if (folder == NULL)
        return false;
    const char *kept = atl_arena_strdup(listing->arena, dir);
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        if (strncmp(entry->d_name, "UPID:", 5) == 0)
            consider(listing, kept, entry->d_name);
    (void)closedir(folder);
    return false;
}

static int newest_first(const void *left, const void *right)
{
    const struct row *a = left;
    const struct row *b = right;
    if (a->start != b->start)
        return a->start > b->start ? -1 : 1;
    return strcmp(b->upid, a->upid);
}

void atl_task_list(struct atl_task_reader *reader, const struct atl_upid_filter *filter,
                   struct atl_arena *arena, struct atl_task_info **ret_infos, size_t *ret_count,
                   size_t *ret_total)
{
    struct listing listing = {.reader = reader, .filter = filter, .arena = arena};
    (void)each_service(reader, list_service, &listing); /* none asks to end it */
    if (listing.count > 1)
        qsort(listing.rows, listing.count, sizeof *listing.rows, newest_first);
    size_t start = filter->start < listing.count ? filter->start : listing.count;
    size_t count = listing.count - start;
    if (filter->limit > 0 && count > filter->limit)
        count = filter->limit;
    struct atl_task_info *infos = atl_arena_array(arena, struct atl_task_info, count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct row *row = &listing.rows[start + i];
        char path[PATH_MAX];
        (void)snprintf(path, sizeof path, "%s/%s", row->dir, row->upid); /* it did fit before */
        (void)atl_copy(infos[i].upid, sizeof infos[i].upid, row->upid);
        enum atl_code code = atl_upid_from_text(row->upid, &infos[i].parts, NULL);
        atl_assert(code == ATL_OK); /* it was read before */
        read_info(reader, path, &infos[i]);
    }
    *ret_infos = infos;
    *ret_count = count;
    *ret_total = listing.count;
}

enum atl_code atl_task_read_log(struct atl_task_reader *reader, const char *upid, struct atl_arena *arena,
                                struct atl_task_log_part *part, struct atl_error *err)
{
    struct finding finding;
    struct atl_upid parts;
    enum atl_code code = find(reader, upid, &finding, &parts, err);
    if (code != ATL_OK)
        return code;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    (void)atl_spool_read(finding.dir, "log", ATL_TASK_LOG_MAX + ATL_TASK_LINE_MAX,
                         &text); /* none yet: no lines */
    const char **lines = NULL;
    size_t count = 0;
    size_t capacity = 0;
    size_t total = 0;
    const char *end = text.data + text.length;
    for (const char *at = text.data; at < end; total++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop != NULL ? stop : end) - at);
        if (total >= part->start && (part->limit == 0 || count < part->limit)) {
            lines = atl_arena_grow(arena, lines, count, &capacity, sizeof *lines);
            lines[count++] = atl_arena_strndup(arena, at, length);
        }
        at += length + 1;
    }
    part->lines = lines;
    part->count = count;
    part->total = total;
    return ATL_OK;
}

/* --- stopping --- */

static enum atl_code make_stop_file(const char *dir, struct atl_error *err)
{
    char path[PATH_MAX + 8];
    (void)snprintf(path, sizeof path, "%s/stop", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, "upid", "cannot ask the task to stop: %s", strerror(errno));
    (void)close(fd);
    return ATL_OK;
}

enum atl_code atl_task_stop(struct atl_task_reader *reader, const char *upid, struct atl_error *err)
{
    struct finding finding;
    struct atl_task_info info = {0};
    enum atl_code code = find(reader, upid, &finding, &info.parts, err);
    if (code != ATL_OK)
        return code;
    (void)atl_copy(info.upid, sizeof info.upid, upid);
    read_info(reader, finding.dir, &info);
    if (info.state == ATL_TASK_STOPPED)
        return ATL_OK;
    code = make_stop_file(finding.dir, err); /* for one that waits, or that has not written its pid yet */
    if (code != ATL_OK)
        return code;
    atl_spool_status_read(finding.dir, &info);
    if (info.state != ATL_TASK_RUNNING || info.pid <= 1)
        return ATL_OK;
    int pid_fd = (int)syscall(SYS_pidfd_open, (pid_t)info.pid, 0);
    if (pid_fd < 0)
        return ATL_OK; /* it has just ended */
    /* The number is the worker's as long as the start is: looked at after the pidfd holds the process. */
    if (atl_process_started((pid_t)info.pid) == (uint64_t)info.pstart) {
        if (syscall(SYS_pidfd_send_signal, pid_fd, SIGTERM, NULL, 0) != 0 && errno == EPERM)
            code = atl_fail(err, ATL_E_DENIED, "upid", "the task is another service's");
        else
            (void)kill(-(pid_t)info.pid, SIGTERM); /* what it started in its group; it leads its own */
    }
    (void)close(pid_fd);
    return code;
}
