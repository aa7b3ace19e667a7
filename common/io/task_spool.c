/* The files of a task's spool folder. */
#include "io/task_spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/log.h"

enum { STATUS_MAX = 4096 };

static bool join(char path[PATH_MAX], const char *dir, const char *name)
{
    int length = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return length > 0 && length < PATH_MAX;
}

const char *atl_spool_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static bool write_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t written = write(fd, at, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        at += written;
        size -= (size_t)written;
    }
    return true;
}

enum atl_code atl_spool_write(const char *dir, const char *name, const void *bytes, size_t size,
                              unsigned int mode, struct atl_error *err)
{
    char path[PATH_MAX];
    char beside[PATH_MAX];
    ATL_FREE_AT_EXIT char *new_name = atl_format("%s.new", name);
    if (!join(path, dir, name) || !join(beside, dir, new_name))
        return atl_fail(err, ATL_E_IO, NULL, "the path of the spool '%s' is too long", dir);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    bool good = fd >= 0 && write_all(fd, bytes, size);
    int failed = errno;
    if (fd >= 0 && close(fd) != 0)
        good = false;
    if (good && rename(beside, path) == 0)
        return ATL_OK;
    if (good)
        failed = errno;
    return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(failed));
}

bool atl_spool_read(const char *dir, const char *name, size_t max_size, struct atl_buf *buf)
{
    char path[PATH_MAX];
    if (!join(path, dir, name))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    size_t before = buf->length;
    ssize_t got = 1;
    while (got > 0 && buf->length - before <= max_size) {
        char *to = atl_buf_reserve(buf, 16384);
        got = read(fd, to, 16384);
        if (got > 0)
            buf->length += (size_t)got;
    }
    (void)close(fd);
    (void)atl_buf_reserve(buf, 0);
    buf->data[buf->length] = '\0';
    return got == 0 && buf->length - before <= max_size;
}

/* --- status --- */

static const char *const state_names[] = {
    [ATL_TASK_QUEUED] = "queued", [ATL_TASK_RUNNING] = "running", [ATL_TASK_STOPPED] = "stopped"};

enum atl_code atl_spool_status_write(const char *dir, const struct atl_task_info *info, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    atl_buf_printf(&text, "state %s\npid %" PRId64 "\npstart %" PRId64 "\n", state_names[info->state],
                   info->pid, info->pstart);
    if (info->progress >= 0)
        atl_buf_printf(&text, "progress %.4f %s\n", info->progress, info->progress_text);
    if (info->state == ATL_TASK_STOPPED)
        atl_buf_printf(&text, "ended %" PRId64 "\nexit %s\n", info->ended, info->exit);
    return atl_spool_write(dir, "status", text.data, text.length, 0640, err);
}

static void parse_progress(const char *value, struct atl_task_info *info)
{
    char *end = NULL;
    double done = strtod(value, &end);
    info->progress = done >= 0 && done <= 1 ? done : -1;
    if (*end == ' ')
        (void)atl_copy(info->progress_text, sizeof info->progress_text, end + 1);
}

static void parse_line(const char *key, const char *value, struct atl_task_info *info)
{
    if (strcmp(key, "state") == 0) {
        for (size_t i = 0; i < ATL_COUNT(state_names); i++)
            if (strcmp(value, state_names[i]) == 0)
                info->state = (enum atl_task_state)i;
    } else if (strcmp(key, "pid") == 0) {
        info->pid = strtoll(value, NULL, 10);
    } else if (strcmp(key, "pstart") == 0) {
        info->pstart = strtoll(value, NULL, 10);
    } else if (strcmp(key, "ended") == 0) {
        info->ended = strtoll(value, NULL, 10);
    } else if (strcmp(key, "exit") == 0) {
        (void)atl_copy(info->exit, sizeof info->exit, value);
    } else if (strcmp(key, "progress") == 0) {
        parse_progress(value, info);
    }
}

void atl_spool_status_parse(char *text, struct atl_task_info *info)
{
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        char *value = strchr(line, ' ');
        if (value == NULL)
            continue;
        *value++ = '\0';
        parse_line(line, value, info);
    }
    if (info->state == ATL_TASK_STOPPED && info->exit[0] == '\0')
        (void)atl_copy(info->exit, sizeof info->exit, "unknown");
    if (info->state != ATL_TASK_STOPPED)
        info->exit[0] = '\0';
}

void atl_spool_status_read(const char *dir, struct atl_task_info *info)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    info->state = ATL_TASK_QUEUED;
    info->pid = info->pstart = info->ended = 0;
    info->progress = -1;
    info->progress_text[0] = info->exit[0] = '\0';
    if (atl_spool_read(dir, "status", STATUS_MAX, &text))
        atl_spool_status_parse(text.data, info);
}

/* --- the rest --- */

bool atl_spool_has(const char *dir, const char *name)
{
    char path[PATH_MAX];
    return join(path, dir, name) && access(path, F_OK) == 0;
}

bool atl_spool_locked(const char *dir)
{
    char path[PATH_MAX];
    if (!join(path, dir, "lock"))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool locked = flock(fd, LOCK_SH | LOCK_NB) != 0; /* shared: two who look do not see each other */
    (void)close(fd);
    return locked;
}

static void clean_line(char line[ATL_TASK_LINE_MAX + 1], const char *text)
{
    size_t length = 0;
    for (; length < ATL_TASK_LINE_MAX - 1 && text[length] != '\0'; length++)
        line[length] = (unsigned char)text[length] < 0x20 && text[length] != '\t' ? '?' : text[length];
    line[length] = '\n';
    line[length + 1] = '\0';
}

bool atl_spool_log(const char *dir, const char *text)
{
    char path[PATH_MAX];
    char line[ATL_TASK_LINE_MAX + 1];
    if (!join(path, dir, "log"))
        return false;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return false;
    struct stat status;
    bool room = fstat(fd, &status) == 0 && status.st_size < ATL_TASK_LOG_MAX;
    clean_line(line, text);
    bool written = room && write_all(fd, line, strlen(line)); /* one write: lines never mix */
    (void)close(fd);
    return written;
}

void atl_spool_finish(const char *dir, struct atl_task_info *info, const char *exit)
{
    struct atl_error err = {0};
    bool good = strcmp(exit, "OK") == 0 || strncmp(exit, "WARNINGS: ", 10) == 0;
    info->state = ATL_TASK_STOPPED;
    info->ended = atl_clock_wall_seconds();
    (void)atl_copy(info->exit, sizeof info->exit, exit);
    for (char *at = info->exit; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20)
            *at = ' '; /* it is one line of the status */
    ATL_FREE_AT_EXIT char *line = atl_format("TASK %s%s", good ? "" : "ERROR: ", info->exit);
    (void)atl_spool_log(dir, line); /* a full disk must not hide the end: the status says it too */
    if (atl_spool_status_write(dir, info, &err) != ATL_OK)
        atl_log(ATL_ERROR, "task-end-not-written", "%s", err.text);
}

void atl_spool_remove(const char *dir)
{
    DIR *folder = opendir(dir);
    if (folder == NULL)
        return;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(folder), entry->d_name,
                           0); /* what stays keeps the folder: tried again later */
    (void)closedir(folder);
    (void)rmdir(dir);
}
