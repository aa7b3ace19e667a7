/* Files of a cluster, and the supervised places of etcd and corosync. */
#include "cluster/place.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/process.h"

#define SLOT_LIMIT (15 * ATL_SECOND)
enum { FILE_MAX_BYTES = 1 << 20, PAUSE_US = 50000, WIPE_DESCRIPTORS = 16 };

const char *cfg_place_path(const struct cfg_place *place, const char *name, struct atl_arena *arena)
{
    return atl_arena_format(arena, "%s/%s", place->dir, name);
}

/* --- files --- */

static bool write_all(int fd, const char *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t wrote = write(fd, bytes + done, size - done);
        if (wrote <= 0)
            return false;
        done += (size_t)wrote;
    }
    return fsync(fd) == 0;
}

static void sync_folder_of(const char *path)
{
    char *dir ATL_FREE_AT_EXIT = atl_strdup(path);
    *strrchr(dir, '/') = '\0';
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return; /* what is lost with the power is done again */
    (void)fsync(fd);
    (void)close(fd);
}

enum atl_code cfg_place_write(const struct cfg_place *place, const char *name, const struct atl_buf *content,
                              struct atl_error *err)
{
    char *path ATL_FREE_AT_EXIT = atl_format("%s/%s", place->dir, name);
    char *part ATL_FREE_AT_EXIT = atl_format("%s.new", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", part, strerror(errno));
    bool written = write_all(fd, content->data, content->length);
    (void)close(fd);
    if (!written || rename(part, path) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(errno));
    sync_folder_of(path);
    return ATL_OK;
}

enum atl_code cfg_place_read(const struct cfg_place *place, const char *name, struct atl_buf *content,
                             struct atl_error *err)
{
    char *path ATL_FREE_AT_EXIT = atl_format("%s/%s", place->dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return atl_fail(err, errno == ENOENT ? ATL_E_ABSENT : ATL_E_IO, NULL, "cannot open '%s': %s", path,
                        strerror(errno));
    ssize_t got = 1;
    while (got > 0 && content->length <= FILE_MAX_BYTES) {
        got = read(fd, atl_buf_reserve(content, 4096), 4096);
        if (got > 0) {
            content->length += (size_t)got;
            content->data[content->length] = '\0';
        }
    }
    (void)close(fd);
    if (got < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot read '%s': %s", path, strerror(errno));
    return got == 0 ? ATL_OK : atl_fail(err, ATL_E_LIMIT, NULL, "'%s' is too large", path);
}

void cfg_place_remove(const struct cfg_place *place, const char *name)
{
    char *path ATL_FREE_AT_EXIT = atl_format("%s/%s", place->dir, name);
    if (unlink(path) == 0)
        sync_folder_of(path);
}

static int wipe_one(const char *path, const struct stat *about, int type, struct FTW *at)
{
    (void)about;
    (void)type;
    return at->level == 0 ? 0 : remove(path);
}

enum atl_code cfg_place_empty(const struct cfg_place *place, const char *name, struct atl_error *err)
{
    char *path ATL_FREE_AT_EXIT = atl_format("%s/%s", place->dir, name);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", path, strerror(errno));
    if (nftw(path, wipe_one, WIPE_DESCRIPTORS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot empty '%s': %s", path, strerror(errno));
    return ATL_OK;
}

/* --- cluster.conf --- */

enum atl_code cfg_place_conf(const struct cfg_place *place, struct cfg_cluster_conf *ret_conf,
                             struct atl_error *err)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    struct atl_error error = {0};
    enum atl_code code = cfg_place_read(place, CFG_CLUSTER_FILE, &text, &error);
    if (code == ATL_E_ABSENT) {
        *ret_conf = (struct cfg_cluster_conf){.state = CFG_ALONE};
        return ATL_OK;
    }
    if (code != ATL_OK)
        return atl_fail(err, code, NULL, "%s", error.text);
    return cfg_cluster_conf_read(text.data != NULL ? text.data : "", ret_conf, err);
}

enum atl_code cfg_place_set_conf(const struct cfg_place *place, const struct cfg_cluster_conf *conf,
                                 struct atl_error *err)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    cfg_cluster_conf_write(conf, &text);
    return cfg_place_write(place, CFG_CLUSTER_FILE, &text, err);
}

/* --- supervised places --- */

static enum atl_code ask_systemd(const char *name, enum cfg_slot_wish wish, struct atl_error *err)
{
    static const char *const verbs[] = {"start", "stop", "restart", "stop"};
    char *unit ATL_FREE_AT_EXIT = atl_format("atoll-%s.service", name);
    const char *argv[] = {"systemctl", verbs[wish], unit, NULL, NULL};
    if (wish == CFG_SLOT_AGAIN ||
        wish == CFG_SLOT_OFF) /* whoever wants that sees for himself when it is done */
        argv[3] = "--no-block";
    return atl_process_run(
        &(const struct atl_process_options){.argv = argv, .capture = 4096, .timeout = SLOT_LIMIT}, NULL, NULL,
        err);
}

/* runsv reads single letters from a pipe; nobody reads while it starts itself. */
static bool tell_runsv(const char *folder, char letter, atl_ns deadline)
{
    char *path ATL_FREE_AT_EXIT = atl_format("%s/control", folder);
    for (;;) {
        int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        bool told = fd >= 0 && write(fd, &letter, 1) == 1;
        if (fd >= 0)
            (void)close(fd);
        if (told || atl_clock_monotonic() > deadline)
            return told;
        (void)usleep(PAUSE_US);
    }
}

static bool has_pid(const char *folder)
{
    char *path ATL_FREE_AT_EXIT = atl_format("%s/pid", folder);
    struct stat about;
    return stat(path, &about) == 0 && about.st_size > 0;
}

enum atl_code cfg_slot_set(const struct cfg_place *place, const char *name, enum cfg_slot_wish wish,
                           struct atl_error *err)
{
    if (place->supervisor == NULL)
        return ask_systemd(name, wish, err);
    static const char letters[] = {'u', 'd', 't', 'd'};
    char *folder ATL_FREE_AT_EXIT = atl_format("%s/%s/supervise", place->supervisor, name);
    atl_ns deadline = atl_clock_monotonic() + SLOT_LIMIT;
    bool done = tell_runsv(folder, letters[wish], deadline);
    while (done && wish == CFG_SLOT_DOWN && has_pid(folder)) {
        done = atl_clock_monotonic() < deadline;
        (void)usleep(PAUSE_US);
    }
    return done ? ATL_OK
                : atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the supervisor of %s does not do what it is told",
                           name);
}

pid_t cfg_read_pid(const char *path)
{
    FILE *file = fopen(path, "re");
    int pid = 0;
    if (file == NULL)
        return 0;
    if (fscanf(file, "%d", &pid) != 1)
        pid = 0;
    (void)fclose(file);
    return pid;
}

pid_t cfg_slot_pid(const struct cfg_place *place, const char *name)
{
    if (place->supervisor == NULL)
        return 0;
    char *path ATL_FREE_AT_EXIT = atl_format("%s/%s/supervise/pid", place->supervisor, name);
    return cfg_read_pid(path);
}

enum atl_code cfg_place_leave(const struct cfg_place *place, const char *why, struct atl_error *err)
{
    cfg_place_remove(place, CFG_CLUSTER_FILE);
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    atl_buf_text(&text, why != NULL ? why : "");
    enum atl_code code = why != NULL ? cfg_place_write(place, "cluster.why", &text, err) : ATL_OK;
    static const char *const slots[] = {"qdevice", "corosync", "etcd"};
    static const char *const folders[] = {"etcd", "corosync", "qdevice", "next"};
    for (size_t i = 0; i < ATL_COUNT(slots) && code == ATL_OK; i++)
        code = cfg_slot_set(place, slots[i], CFG_SLOT_DOWN, err);
    for (size_t i = 0; i < ATL_COUNT(folders) && code == ATL_OK; i++)
        code = cfg_place_empty(place, folders[i], err);
    cfg_place_remove(place, "ca.key");
    static const char *const kept[] = {CFG_SEAL_FILE, CFG_GENERATION_FILE, "last.db", "last.db-wal",
                                       "last.db-shm"};
    for (size_t i = 0; i < ATL_COUNT(kept); i++)
        cfg_place_remove(place, kept[i]);
    return code;
}
