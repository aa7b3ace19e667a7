/* Storages that are folders: activation, fill, lists, looking at volumes. */
#include "drivers/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES_MAX = 100000 };

enum atl_code dir_fail(struct atl_error *err, const char *what, const char *name)
{
    enum atl_code code = ATL_E_IO;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        code = ATL_E_LIMIT;
    if (errno == ENOENT)
        code = ATL_E_ABSENT;
    if (errno == EEXIST)
        code = ATL_E_EXISTS;
    return atl_fail(err, code, NULL, "%s '%s': %s", what, name, strerror(errno));
}

enum atl_code dir_open_root(const struct sto_storage *storage, int *ret_fd, struct atl_error *err)
{
    if (storage->path == NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "storage '%s' is not active: it has no usable path",
                        storage->id);
    int fd = open(storage->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return atl_fail(err, ATL_E_STATE, NULL, "storage '%s' is not active: cannot open '%s': %s",
                        storage->id, storage->path, strerror(errno));
    *ret_fd = fd;
    return ATL_OK;
}

static int open_beneath(int root, const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

enum atl_code dir_open_folder(int root, const char *folder, bool make, int *ret_fd, struct atl_error *err)
{
    int fd = open_beneath(root, folder, O_RDONLY | O_DIRECTORY);
    if (fd < 0 && errno == ENOENT && make) {
        STO_CLOSE_AT_EXIT int at = fcntl(root, F_DUPFD_CLOEXEC, 0);
        char part[STO_FILE_MAX];
        for (const char *rest = folder; *rest != '\0' && at >= 0;) {
            size_t length = strcspn(rest, "/");
            (void)snprintf(part, sizeof part, "%.*s", (int)length, rest);
            if (mkdirat(at, part, 0755) < 0 && errno != EEXIST)
                return dir_fail(err, "cannot make folder", folder);
            int next = open_beneath(at, part, O_RDONLY | O_DIRECTORY);
            sto_close_fd(&at);
            at = next;
            rest += length + (rest[length] == '/' ? 1 : 0);
        }
        fd = ATL_STEAL_FD(at);
    }
    if (fd < 0)
        return dir_fail(err, "cannot open folder", folder);
    *ret_fd = fd;
    return ATL_OK;
}

enum atl_code dir_open_home(const struct sto_storage *storage, const struct sto_volume *volume, bool make,
                            int *ret_fd, struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    STO_CLOSE_AT_EXIT int root = -1;
    const char *folder = sto_volume_folder(storage, volume, &arena);
    if (folder == NULL)
        return atl_fail(err, ATL_E_INVALID, NULL, "storage '%s' has no place for '%s'", storage->id,
                        volume->name);
    enum atl_code code = dir_open_root(storage, &root, err);
    if (code != ATL_OK)
        return code;
    return dir_open_folder(root, folder, make, ret_fd, err);
}

DIR *dir_stream(int fd)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = own >= 0 ? fdopendir(own) : NULL;
    if (stream == NULL && own >= 0)
        (void)close(own);
    return stream;
}

/* Folders on the way, as `mkdir -p` does. */
static enum atl_code make_base(const char *path, struct atl_error *err)
{
    char part[STO_PATH_MAX];
    (void)atl_copy(part, sizeof part, path);
    for (char *slash = strchr(part + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return atl_fail(err, ATL_E_STATE, "path", "cannot make folder '%s': %s", part, strerror(errno));
        if (slash == NULL)
            return ATL_OK;
        *slash = '/';
    }
}

static enum atl_code check_mountpoint(const struct sto_storage *storage, struct atl_error *err)
{
    struct statx info;
    if (statx(AT_FDCWD, storage->mountpoint, 0, STATX_BASIC_STATS, &info) < 0)
        return atl_fail(err, ATL_E_STATE, NULL, "storage '%s' is not active: '%s': %s", storage->id,
                        storage->mountpoint, strerror(errno));
    if ((info.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0)
        return atl_fail(err, ATL_E_STATE, NULL, "storage '%s' is not active: nothing is mounted at '%s'",
                        storage->id, storage->mountpoint);
    return ATL_OK;
}

static enum atl_code dir_activate(const struct sto_storage *storage, struct atl_error *err)
{
    STO_CLOSE_AT_EXIT int root = -1;
    enum atl_code code = ATL_OK;
    if (storage->mountpoint != NULL)
        code = check_mountpoint(storage, err);
    if (code == ATL_OK && storage->path != NULL && storage->make_base && access(storage->path, F_OK) < 0)
        code = make_base(storage->path, err);
    if (code == ATL_OK)
        code = dir_open_root(storage, &root, err);
    for (uint32_t i = 0; code == ATL_OK && storage->make_subdirs && i < STO_CONTENTS; i++) {
        STO_CLOSE_AT_EXIT int folder = -1;
        enum sto_content content = i == STO_ROOTDIR ? STO_IMAGES : i;
        if (storage->dirs[content] != NULL && sto_storage_takes(storage, i))
            code = dir_open_folder(root, storage->dirs[content], true, &folder, err);
    }
    return code;
}

static enum atl_code dir_fill(const struct sto_storage *storage, struct sto_fill *ret_fill,
                              struct atl_error *err)
{
    STO_CLOSE_AT_EXIT int root = -1;
    struct statvfs vfs;
    enum atl_code code = dir_open_root(storage, &root, err);
    if (code != ATL_OK)
        return code;
    if (fstatvfs(root, &vfs) < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot ask for the space of '%s': %s", storage->path,
                        strerror(errno));
    ret_fill->total_bytes = (uint64_t)vfs.f_blocks * vfs.f_frsize;
    ret_fill->used_bytes = (uint64_t)(vfs.f_blocks - vfs.f_bfree) * vfs.f_frsize;
    ret_fill->avail_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    return ATL_OK;
}

static enum atl_code look_at(int folder, const struct sto_volume *volume, struct sto_info *ret_info,
                             struct atl_error *err)
{
    struct stat st;
    struct sto_info info = {0};
    if (fstatat(folder, volume->file, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISLNK(st.st_mode))
        return atl_fail(err, ATL_E_ABSENT, NULL, "volume '%s' does not exist", volume->name);
    bool is_folder = volume->format == STO_SUBVOL;
    if (is_folder ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode))
        return atl_fail(err, ATL_E_ABSENT, NULL, "volume '%s' is not what its name says", volume->name);
    info.ctime = st.st_ctim.tv_sec;
    if (!is_folder) {
        info.size_bytes = (uint64_t)st.st_size;
        info.used_bytes = (uint64_t)st.st_blocks * 512;
    }
    if (volume->format == STO_QCOW2 || volume->format == STO_VMDK) {
        struct sto_image image = {0};
        STO_CLOSE_AT_EXIT int fd =
            openat(folder, volume->file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || sto_read_image(fd, volume->format, &image, NULL) != ATL_OK)
            info.size_bytes = 0; /* it is there, but no image: shown with the size 0 */
        else
            info.size_bytes = image.size_bytes;
    }
    if (volume->content == STO_BACKUP)
        dir_read_marks(folder, volume, &info);
    *ret_info = info;
    return ATL_OK;
}

static enum atl_code dir_look(const struct sto_storage *storage, const struct sto_volume *volume,
                              struct sto_info *ret_info, struct atl_error *err)
{
    STO_CLOSE_AT_EXIT int folder = -1;
    enum atl_code code = dir_open_home(storage, volume, false, &folder, err);
    if (code == ATL_E_ABSENT)
        return atl_fail(err, code, NULL, "volume '%s:%s' does not exist", storage->id, volume->name);
    return code != ATL_OK ? code : look_at(folder, volume, ret_info, err);
}

static enum atl_code dir_open(const struct sto_storage *storage, const struct sto_volume *volume, int *ret_fd,
                              struct atl_error *err)
{
    STO_CLOSE_AT_EXIT int folder = -1;
    struct stat st;
    enum atl_code code = dir_open_home(storage, volume, false, &folder, err);
    if (code != ATL_OK && code != ATL_E_ABSENT)
        return code;
    STO_CLOSE_AT_EXIT int fd = -1;
    if (folder >= 0)
        fd = openat(folder, volume->file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    mode_t wanted = volume->format == STO_SUBVOL ? S_IFDIR : S_IFREG;
    if (fd < 0 || fstat(fd, &st) < 0 || (st.st_mode & S_IFMT) != wanted)
        return atl_fail(err, ATL_E_ABSENT, NULL, "volume '%s:%s' does not exist", storage->id, volume->name);
    *ret_fd = ATL_STEAL_FD(fd);
    return ATL_OK;
}

struct listing {
    const struct sto_storage *storage;
    sto_list_fn *fn;
    void *user;
    size_t seen;
    bool full;
    bool end;
};

static void list_folder(struct listing *listing, int folder, enum sto_content content, uint32_t vmid)
{
    DIR *stream = dir_stream(folder);
    const struct dirent *entry = NULL;
    while (stream != NULL && !listing->end && (entry = readdir(stream)) != NULL) {
        struct sto_volume volume;
        struct sto_info info;
        if (!sto_volume_of_file(content, vmid, entry->d_name, &volume))
            continue;
        (void)atl_copy(volume.storage, sizeof volume.storage, listing->storage->id);
        if (look_at(folder, &volume, &info, NULL) != ATL_OK)
            continue;
        listing->full = ++listing->seen > ENTRIES_MAX;
        listing->end = listing->full || !listing->fn(&volume, &info, listing->user);
    }
    if (stream != NULL)
        (void)closedir(stream);
}

static void list_images(struct listing *listing, int images, uint32_t vmid)
{
    DIR *stream = dir_stream(images);
    const struct dirent *entry = NULL;
    while (stream != NULL && !listing->end && (entry = readdir(stream)) != NULL) {
        unsigned int owner = 0;
        int used = 0;
        if (sscanf(entry->d_name, "%9u%n", &owner, &used) != 1 || entry->d_name[used] != '\0' ||
            entry->d_name[0] == '0' || (vmid != 0 && owner != vmid))
            continue;
        STO_CLOSE_AT_EXIT int folder = -1;
        if (dir_open_folder(images, entry->d_name, false, &folder, NULL) == ATL_OK)
            list_folder(listing, folder, STO_IMAGES, owner);
    }
    if (stream != NULL)
        (void)closedir(stream);
}

static enum atl_code dir_list(const struct sto_storage *storage, enum sto_content content, uint32_t vmid,
                              sto_list_fn *fn, void *user, struct atl_error *err)
{
    static const enum sto_content kinds[] = {STO_IMAGES, STO_VZTMPL,   STO_ISO,
                                             STO_BACKUP, STO_SNIPPETS, STO_IMPORT};
    struct listing listing = {.storage = storage, .fn = fn, .user = user};
    STO_CLOSE_AT_EXIT int root = -1;
    enum atl_code code = dir_open_root(storage, &root, err);
    if (code != ATL_OK)
        return code;
    for (size_t i = 0; i < ATL_COUNT(kinds) && !listing.end; i++) {
        enum sto_content kind = kinds[i];
        bool wanted =
            content == STO_CONTENTS || content == kind || (content == STO_ROOTDIR && kind == STO_IMAGES);
        bool held = sto_storage_takes(storage, kind) ||
                    (kind == STO_IMAGES && sto_storage_takes(storage, STO_ROOTDIR));
        STO_CLOSE_AT_EXIT int folder = -1;
        if (!wanted || !held || dir_open_folder(root, storage->dirs[kind], false, &folder, NULL) != ATL_OK)
            continue;
        if (kind == STO_IMAGES)
            list_images(&listing, folder, vmid);
        else
            list_folder(&listing, folder, kind, 0);
    }
    if (listing.full)
        return atl_fail(err, ATL_E_LIMIT, NULL, "storage '%s' holds more than %d volumes", storage->id,
                        ENTRIES_MAX);
    return ATL_OK;
}

const struct sto_driver sto_driver_dir = {
    .type = "dir",
    .activate = dir_activate,
    .fill = dir_fill,
    .list = dir_list,
    .look = dir_look,
    .open = dir_open,
    .alloc = dir_alloc,
    .reserve = dir_reserve,
    .receive = dir_receive,
    .resume = dir_resume,
    .commit = dir_commit,
    .drop = dir_drop,
    .remove = dir_remove,
    .grow = dir_grow,
    .mark = dir_mark,
    .sweep = dir_sweep,
};
