/* Mounting a container's volumes where nobody else sees them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/helper.h"

enum { LOOP_TRIES = 64, PATH_BYTES = 4096 };

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* nothing was written through it */
}

enum atl_code ct_mounts_isolate(struct atl_error *err)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make a mount namespace: %s", strerror(errno));
    return ATL_OK;
}

/* "noatime;nodev" -> flags; "discard" is the file system's own word and goes to data. */
static unsigned long mount_flags(const Atoll__Lxc__V1__Mount *mount, char *data, size_t size)
{
    static const struct {
        const char *word;
        unsigned long flag;
    } table[] = {
        {"noatime", MS_NOATIME}, {"nodev", MS_NODEV},       {"noexec", MS_NOEXEC},
        {"nosuid", MS_NOSUID},   {"lazytime", MS_LAZYTIME},
    };
    unsigned long flags = mount->has_ro && mount->ro ? MS_RDONLY : 0;
    (void)snprintf(data, size, "%s", "");
    for (const char *at = mount->options; at != NULL && *at != '\0';) {
        size_t length = strcspn(at, ";,");
        for (size_t i = 0; i < ATL_COUNT(table); i++)
            if (strlen(table[i].word) == length && strncmp(at, table[i].word, length) == 0)
                flags |= table[i].flag;
        if (length == 7 && strncmp(at, "discard", length) == 0)
            (void)snprintf(data, size, "discard");
        at += length + (at[length] != '\0' ? 1 : 0);
    }
    return flags;
}

/* Binds a file to a free loop device, which lets go of it with its last user. */
static int loop_attach(const char *source, bool ro, char *device, size_t size, struct atl_error *err)
{
    ATL_CLEANUP(close_fd) int file = open(source, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (file < 0) {
        (void)atl_fail(err, ATL_E_IO, NULL, "cannot open the volume '%s': %s", source, strerror(errno));
        return -1;
    }
    ATL_CLEANUP(close_fd) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) {
        (void)atl_fail(err, ATL_E_IO, NULL, "this machine has no loop devices: %s", strerror(errno));
        return -1;
    }
    for (int i = 0; i < LOOP_TRIES; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            break;
        (void)snprintf(device, size, "/dev/loop%d", number);
        ATL_CLEANUP(close_fd) int loop = open(device, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        struct loop_config config = {.fd = (__u32)file};
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (ro ? LO_FLAGS_READ_ONLY : 0);
        (void)atl_copy((char *)config.info.lo_file_name, sizeof config.info.lo_file_name,
                       source); /* shown only */
        if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0)
            return ATL_STEAL_FD(loop);
        if (errno != EBUSY && errno != ENXIO && errno != ENOENT)
            break; /* else another took it in between */
    }
    (void)atl_fail(err, ATL_E_IO, NULL, "cannot attach '%s' to a loop device: %s", source, strerror(errno));
    return -1;
}

static enum atl_code mount_image(const Atoll__Lxc__V1__Mount *mount_, const char *target,
                                 struct atl_error *err)
{
    static const char *const types[] = {"ext4", "xfs", "btrfs"};
    char data[32];
    char device[64];
    unsigned long flags = mount_flags(mount_, data, sizeof data);
    struct stat info;
    bool block = stat(mount_->source, &info) == 0 && S_ISBLK(info.st_mode);
    ATL_CLEANUP(close_fd)
    int loop = block ? -1 : loop_attach(mount_->source, (flags & MS_RDONLY) != 0, device, sizeof device, err);
    if (!block && loop < 0)
        return ATL_E_IO;
    if (block)
        (void)atl_copy(device, sizeof device, mount_->source);
    int why = 0;
    for (size_t i = 0; i < ATL_COUNT(types); i++) {
        if (mount(device, target, types[i], flags, data[0] != '\0' ? data : NULL) == 0)
            return ATL_OK;
        why = i == 0 || errno != ENODEV ? errno : why;
    }
    return atl_fail(err, ATL_E_IO, NULL, "cannot mount the volume '%s': %s", mount_->source, strerror(why));
}

static enum atl_code mount_folder(const Atoll__Lxc__V1__Mount *mount_, const char *target,
                                  struct atl_error *err)
{
    char data[32];
    unsigned long flags = mount_flags(mount_, data, sizeof data);
    if (mount(mount_->source, target, NULL, MS_BIND, NULL) != 0 ||
        (flags != 0 && mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | flags, NULL) != 0))
        return atl_fail(err, ATL_E_IO, NULL, "cannot mount the folder '%s': %s", mount_->source,
                        strerror(errno));
    return ATL_OK;
}

/* A fresh ext4 whose root folder belongs to the container's root. */
static enum atl_code format_image(const char *source, const Atoll__Lxc__V1__IdMap *map, struct atl_error *err)
{
    char owner[64];
    uint32_t id = map != NULL ? map->first : 0;
    (void)snprintf(owner, sizeof owner, "root_owner=%" PRIu32 ":%" PRIu32 ",discard", id, id);
    char program[] = "mkfs.ext4";
    char quiet[] = "-qF";
    char option[] = "-E";
    char mmp[] = "-m";
    char none[] = "0";
    ATL_FREE_AT_EXIT char *path = atl_strdup(source);
    char *const arguments[] = {program, quiet, mmp, none, option, owner, path, NULL};
    return ct_run(arguments, err);
}

enum atl_code ct_mounts_make(const char *folder, Atoll__Lxc__V1__Mount *const *mounts, size_t count,
                             const Atoll__Lxc__V1__IdMap *map, struct atl_error *err)
{
    for (size_t i = 0; i < count; i++) {
        char target[PATH_BYTES];
        int length = snprintf(target, sizeof target, "%s/%s", folder, mounts[i]->slot);
        if (length < 0 || (size_t)length >= sizeof target)
            return atl_fail(err, ATL_E_LIMIT, NULL, "the path '%s' is too long", folder);
        if (mkdir(target, 0755) != 0 && errno != EEXIST)
            return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", target, strerror(errno));
        enum atl_code code = ATL_OK;
        if (mounts[i]->has_format && mounts[i]->format && mounts[i]->image)
            code = format_image(mounts[i]->source, map, err);
        if (code == ATL_OK)
            code =
                mounts[i]->image ? mount_image(mounts[i], target, err) : mount_folder(mounts[i], target, err);
        if (code == ATL_OK && mounts[i]->has_format && mounts[i]->format && !mounts[i]->image &&
            map != NULL && chown(target, map->first, map->first) != 0)
            code = atl_fail(err, ATL_E_IO, NULL, "cannot hand '%s' to the container: %s", mounts[i]->source,
                            strerror(errno));
        if (code != ATL_OK)
            return code;
    }
    return ATL_OK;
}
