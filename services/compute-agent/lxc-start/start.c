/* Leftovers of cgroups, the file that tells who runs, links that stay down. */
#include "lxc-start/start.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/helper.h"

static void remove_tree(const char *path, unsigned int depth)
{
    DIR *folder = depth < 8 ? opendir(path) : NULL;
    if (folder == NULL)
        return;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        ATL_FREE_AT_EXIT char *below = atl_format("%s/%s", path, entry->d_name);
        remove_tree(below, depth + 1);
    }
    (void)closedir(folder); /* only read from */
    (void)rmdir(path);      /* busy: something runs there, and it stays */
}

void ct_cgroup_remove(const char *name)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (mounts == NULL)
        return;
    char text[4096];
    struct mntent entry;
    while (getmntent_r(mounts, &entry, text, sizeof text) != NULL) {
        if (strcmp(entry.mnt_type, "cgroup") != 0 && strcmp(entry.mnt_type, "cgroup2") != 0)
            continue;
        ATL_FREE_AT_EXIT char *path = atl_format("%s/%s", entry.mnt_dir, name);
        remove_tree(path, 0);
    }
    (void)endmntent(mounts); /* only read from */
}

/* Fields 4 (parent) and 22 (start time) of /proc/PID/stat. */
static bool process(pid_t pid, pid_t *ret_parent, unsigned long long *ret_start)
{
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        (void)close(fd); /* only read from */
    if (got <= 0)
        return false;
    text[got] = '\0';
    const char *at = strrchr(text, ')'); /* the name may hold anything, even ')' */
    int parent = 0;
    return at != NULL &&
           sscanf(at + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                  &parent, ret_start) == 2 &&
           (*ret_parent = parent) > 0;
}

enum atl_code ct_run_file(const char *folder, pid_t init, struct atl_error *err)
{
    pid_t monitor = 0;
    pid_t above = 0;
    unsigned long long init_start = 0;
    unsigned long long monitor_start = 0;
    if (!process(init, &monitor, &init_start) || !process(monitor, &above, &monitor_start))
        return atl_fail(err, ATL_E_STATE, NULL, "the container ended as it started");
    ATL_FREE_AT_EXIT char *text =
        atl_format("init %d %llu\nmonitor %d %llu\n", (int)init, init_start, (int)monitor, monitor_start);
    ATL_FREE_AT_EXIT char *path = atl_format("%s/run", folder);
    ATL_FREE_AT_EXIT char *temporary = atl_format("%s/run.new", folder);
    FILE *file = fopen(temporary, "we");
    bool ok = file != NULL && fputs(text, file) >= 0;
    ok = (file == NULL || fclose(file) == 0) && ok && rename(temporary, path) == 0;
    if (!ok)
        return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(errno));
    (void)fputs(text, stdout); /* for people; the file is what counts */
    return ATL_OK;
}

void ct_link_down(const char *interface)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || !atl_copy(request.ifr_name, sizeof request.ifr_name, interface))
        (void)fprintf(stderr, "<4>cannot take the link '%s' down\n", interface);
    else if (ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags = (short)(request.ifr_flags & ~IFF_UP);
        (void)ioctl(fd, SIOCSIFFLAGS, &request); /* it joined no bridge, so nothing passes anyway */
    }
    if (fd >= 0)
        (void)close(fd); /* never connected */
}
