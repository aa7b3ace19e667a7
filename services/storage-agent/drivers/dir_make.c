/* Storages that are folders: making and growing volumes. */
#include "drivers/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

enum { VOLUME_MODE = 0640, NAME_TRIES = 100 };
static const atl_ns tool_timeout = 50 * ATL_SECOND;

void dir_temporary_name(char *name, size_t size)
{
    static atomic_uint counter;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)snprintf(name, size, ".atoll-%s-%llx%lx%x", sto_driver_node(), (unsigned long long)now.tv_sec,
                   (unsigned long)now.tv_nsec, atomic_fetch_add(&counter, 1));
}

bool dir_temporary_ours(const char *name)
{
    char prefix[STO_ID_MAX + 16];
    int length = snprintf(prefix, sizeof prefix, ".atoll-%s-", sto_driver_node());
    return strncmp(name, prefix, (size_t)length) == 0 && strchr(name + length, '-') == NULL;
}

static enum atl_code find_disk(int folder, struct sto_plan *plan, uint32_t from, uint32_t *ret_disk,
                               struct atl_error *err)
{
    struct sto_disks disks = {0};
    DIR *stream = dir_stream(folder);
    if (stream == NULL)
        return dir_fail(err, "cannot read folder of", plan->volume.storage);
    const struct dirent *entry = NULL;
    while ((entry = readdir(stream)) != NULL)
        sto_disks_note(&disks, plan->volume.vmid, entry->d_name);
    (void)closedir(stream);
    return sto_disks_next(&disks, from, ret_disk, err);
}

/*
 * Takes the plan's name, or the next free one, by an act that only one caller can do: `take` makes something
 * of that name and fails with EEXIST when it is there.
 */
struct taking {
    int folder;
    const char *temporary; /* NULL: a folder is made */
};

static int take(const struct taking *taking, const char *file)
{
    if (taking->temporary == NULL)
        return mkdirat(taking->folder, file, 0755);
    struct stat st;
    if (fstatat(taking->folder, file, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = EEXIST;
        return -1;
    }
    return symlinkat(taking->temporary, taking->folder, file);
}

static enum atl_code take_name(const struct taking *taking, const struct sto_plan *wanted,
                               struct sto_volume *ret_volume, struct atl_error *err)
{
    uint32_t disk = 0;
    for (int i = 0; i < NAME_TRIES; i++) {
        struct sto_plan plan = *wanted;
        if (plan.next_free) {
            enum atl_code code = find_disk(taking->folder, &plan, disk, &disk, err);
            if (code != ATL_OK)
                return code;
            sto_plan_name(&plan, disk);
        }
        if (take(taking, plan.volume.file) == 0) {
            *ret_volume = plan.volume;
            return ATL_OK;
        }
        if (errno != EEXIST)
            return dir_fail(err, "cannot make volume", plan.volume.name);
        if (!plan.next_free)
            return atl_fail(err, ATL_E_EXISTS, "filename", "volume '%s:%s' already exists",
                            plan.volume.storage, plan.volume.name);
        disk++;
    }
    return atl_fail(err, ATL_E_CONFLICT, NULL, "others take the names of new volumes faster, try again");
}

/* The file, or the folder, that becomes the volume. */
static int make_temporary(int folder, const struct sto_slot *slot)
{
    if (slot->volume.format != STO_SUBVOL)
        return openat(folder, slot->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                      VOLUME_MODE);
    if (mkdirat(folder, slot->temporary, 0755) < 0)
        return -1;
    return openat(folder, slot->temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

enum atl_code dir_reserve(const struct sto_storage *storage, const struct sto_plan *plan,
                          struct sto_slot *ret_slot, struct atl_error *err)
{
    struct sto_slot slot = {.fd = -1};
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    STO_CLOSE_AT_EXIT int folder = -1;
    enum atl_code code = dir_open_home(storage, &plan->volume, true, &folder, err);
    if (code != ATL_OK)
        return code;
    dir_temporary_name(slot.temporary, sizeof slot.temporary);
    struct taking taking = {.folder = folder, .temporary = slot.temporary};
    code = take_name(&taking, plan, &slot.volume, err);
    if (code != ATL_OK)
        return code;
    slot.reserved = true;
    (void)atl_copy(slot.folder, sizeof slot.folder, sto_volume_folder(storage, &slot.volume, &arena));
    slot.fd = make_temporary(folder, &slot);
    if (slot.fd < 0) {
        code = dir_fail(err, "cannot make volume", slot.volume.name);
        (void)unlinkat(folder, slot.volume.file, 0);
        return code;
    }
    *ret_slot = slot;
    return ATL_OK;
}

enum atl_code dir_receive(const struct sto_storage *storage, struct sto_slot *ret_slot, struct atl_error *err)
{
    struct sto_slot slot = {.fd = -1, .folder = "."};
    STO_CLOSE_AT_EXIT int root = -1;
    enum atl_code code = dir_open_root(storage, &root, err);
    if (code != ATL_OK)
        return code;
    dir_temporary_name(slot.temporary, sizeof slot.temporary);
    slot.fd = openat(root, slot.temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (slot.fd < 0)
        return dir_fail(err, "cannot make a file in", storage->path);
    *ret_slot = slot;
    return ATL_OK;
}

enum atl_code dir_resume(const struct sto_storage *storage, struct sto_slot *slot, struct atl_error *err)
{
    STO_CLOSE_AT_EXIT int root = -1;
    STO_CLOSE_AT_EXIT int folder = -1;
    enum atl_code code = dir_open_root(storage, &root, err);
    if (code == ATL_OK)
        code = dir_open_folder(root, slot->folder, false, &folder, err);
    if (code != ATL_OK)
        return code;
    slot->fd = openat(folder, slot->temporary, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (slot->fd < 0 || flock(slot->fd, LOCK_EX | LOCK_NB) < 0)
        return atl_fail(err, ATL_E_ABSENT, NULL, "the uploaded file is gone, upload it again");
    return ATL_OK;
}

static void slot_close(struct sto_slot *slot)
{
    sto_close_fd(&slot->fd);
    slot->temporary[0] = '\0';
    slot->reserved = false;
}

/* Does the volume's name lead to the slot? Only then is it ours to take away. */
static bool holds_name(int folder, const struct sto_slot *slot)
{
    char target[sizeof slot->temporary];
    ssize_t length = slot->reserved ? readlinkat(folder, slot->volume.file, target, sizeof target) : -1;
    return length > 0 && (size_t)length == strlen(slot->temporary) &&
           memcmp(target, slot->temporary, (size_t)length) == 0;
}

/* A folder cannot take a link's place in one step: its name is free for a moment, and is not taken from who
 * came. */
static enum atl_code commit_folder(int folder, struct sto_slot *slot, struct atl_error *err)
{
    if (syncfs(slot->fd) < 0)
        return dir_fail(err, "cannot write", slot->volume.name);
    if (holds_name(folder, slot) && unlinkat(folder, slot->volume.file, 0) < 0)
        return dir_fail(err, "cannot name", slot->volume.name);
    if (renameat2(folder, slot->temporary, folder, slot->volume.file, RENAME_NOREPLACE) < 0)
        return dir_fail(err, "cannot name", slot->volume.name);
    (void)fsync(folder); /* a lost name after a power cut is seen and made again */
    slot_close(slot);
    return ATL_OK;
}

enum atl_code dir_commit(const struct sto_storage *storage, struct sto_slot *slot, struct atl_error *err)
{
    STO_CLOSE_AT_EXIT int root = -1;
    STO_CLOSE_AT_EXIT int from = -1;
    STO_CLOSE_AT_EXIT int folder = -1;
    enum atl_code code = dir_open_root(storage, &root, err);
    if (code == ATL_OK)
        code = dir_open_folder(root, slot->folder, false, &from, err);
    if (code == ATL_OK)
        code = dir_open_home(storage, &slot->volume, true, &folder, err);
    if (code != ATL_OK)
        return code;
    if (slot->volume.format == STO_SUBVOL)
        return commit_folder(folder, slot, err);
    /* Files that are only read (iso, templates) are for all to read; a disk is its guest's alone. */
    mode_t mode = slot->volume.content == STO_IMAGES ? VOLUME_MODE : 0644;
    if (fchmod(slot->fd, mode) < 0 || fsync(slot->fd) < 0)
        return dir_fail(err, "cannot write", slot->volume.name);
    if (renameat(from, slot->temporary, folder, slot->volume.file) < 0)
        return dir_fail(err, "cannot name", slot->volume.name);
    (void)fsync(
        folder); /* the file is whole and named; a lost name after a power cut is seen and made again */
    slot_close(slot);
    return ATL_OK;
}

void dir_drop(const struct sto_storage *storage, struct sto_slot *slot)
{
    STO_CLOSE_AT_EXIT int root = -1;
    STO_CLOSE_AT_EXIT int folder = -1;
    if (slot->temporary[0] != '\0' && dir_open_root(storage, &root, NULL) == ATL_OK &&
        dir_open_folder(root, slot->folder, false, &folder, NULL) == ATL_OK) {
        if (holds_name(folder, slot))
            (void)unlinkat(folder, slot->volume.file, 0);
        if (slot->volume.format == STO_SUBVOL && slot->reserved)
            (void)!dir_remove_tree(folder, slot->temporary,
                                   NULL); /* what cannot go, goes at the next start */
        else
            (void)unlinkat(folder, slot->temporary, 0);
    }
    slot_close(slot);
}

static const char *preallocation_text(enum sto_preallocation preallocation)
{
    static const char *const texts[] = {"off", "metadata", "falloc", "full"};
    return texts[preallocation];
}

/* A raw file without preallocation needs no tool. */
static enum atl_code write_image(const struct sto_storage *storage, int fd, enum sto_format format,
                                 uint64_t size, struct atl_error *err)
{
    enum sto_preallocation preallocation = storage->preallocation;
    if (format == STO_RAW && preallocation <= STO_PREALLOCATE_METADATA) {
        if (ftruncate(fd, (off_t)size) < 0)
            return dir_fail(err, "cannot give the volume its size on", storage->path);
        return ATL_OK;
    }
    char option[64];
    char size_text[32];
    (void)snprintf(option, sizeof option, "preallocation=%s", preallocation_text(preallocation));
    (void)snprintf(size_text, sizeof size_text, "%" PRIu64, size);
    const char *const with_option[] = {
        "qemu-img", "create",          "-q",      "-f", sto_format_to_text(format), "-o",
        option,     "/proc/self/fd/3", size_text, NULL};
    const char *const plain[] = {"qemu-img",        "create",  "-q", "-f", sto_format_to_text(format),
                                 "/proc/self/fd/3", size_text, NULL};
    struct sto_run run = {
        .argv = format == STO_VMDK ? plain : with_option, .fds = &fd, .fd_count = 1, .timeout = tool_timeout};
    return sto_run(&run, err);
}

static enum atl_code write_filesystem(const struct sto_fs_options *fs, int fd, struct atl_error *err)
{
    char option[96];
    (void)snprintf(option, sizeof option, "root_owner=%u:%u,nodiscard,lazy_itable_init=1,lazy_journal_init=1",
                   fs->root_id, fs->root_id);
    const char *const argv[] = {"mkfs.ext4", "-q", "-F", "-m", "0", "-E", option, "/proc/self/fd/3", NULL};
    struct sto_run run = {.argv = argv, .fds = &fd, .fd_count = 1, .timeout = tool_timeout};
    return sto_run(&run, err);
}

enum atl_code dir_alloc(const struct sto_storage *storage, const struct sto_plan *plan,
                        const struct sto_fs_options *fs, struct sto_volume *ret_volume, struct atl_error *err)
{
    struct sto_slot slot = {.fd = -1};
    enum atl_code code = ATL_OK;
    if (plan->volume.format == STO_SUBVOL) {
        STO_CLOSE_AT_EXIT int folder = -1;
        code = dir_open_home(storage, &plan->volume, true, &folder, err);
        struct taking taking = {.folder = folder};
        return code != ATL_OK ? code : take_name(&taking, plan, ret_volume, err);
    }
    code = dir_reserve(storage, plan, &slot, err);
    if (code != ATL_OK)
        return code;
    code = write_image(storage, slot.fd, plan->volume.format, plan->size_bytes, err);
    if (code == ATL_OK && fs != NULL && fs->filesystem != NULL)
        code = write_filesystem(fs, slot.fd, err);
    struct sto_volume volume = slot.volume;
    if (code == ATL_OK)
        code = dir_commit(storage, &slot, err);
    if (code != ATL_OK) {
        dir_drop(storage, &slot);
        return code;
    }
    *ret_volume = volume;
    return ATL_OK;
}

static enum atl_code grow_file(int fd, const struct sto_volume *volume, uint64_t size, struct atl_error *err)
{
    if (volume->format == STO_RAW) {
        if (ftruncate(fd, (off_t)size) < 0)
            return dir_fail(err, "cannot grow", volume->name);
        return fsync(fd) < 0 ? dir_fail(err, "cannot grow", volume->name) : ATL_OK;
    }
    char size_text[32];
    (void)snprintf(size_text, sizeof size_text, "%" PRIu64, size);
    const char *const argv[] = {"qemu-img",        "resize",  "-q", "-f", sto_format_to_text(volume->format),
                                "/proc/self/fd/3", size_text, NULL};
    struct sto_run run = {.argv = argv, .fds = &fd, .fd_count = 1, .timeout = tool_timeout};
    return sto_run(&run, err);
}

enum atl_code dir_grow(const struct sto_storage *storage, const struct sto_volume *volume,
                       uint64_t size_bytes, uint64_t *ret_size, struct atl_error *err)
{
    struct sto_info info;
    if (volume->format != STO_RAW && volume->format != STO_QCOW2)
        return atl_fail(err, ATL_E_INVALID, "size", "a volume of format '%s' cannot be grown",
                        sto_format_to_text(volume->format));
    enum atl_code code = sto_driver_dir.look(storage, volume, &info, err);
    if (code != ATL_OK)
        return code;
    uint64_t size = sto_size_round(size_bytes);
    if (size > STO_SIZE_MAX)
        return atl_fail(err, ATL_E_INVALID, "size", "%" PRIu64 " bytes are more than a volume can have",
                        size_bytes);
    if (size < info.size_bytes)
        return atl_fail(err, ATL_E_INVALID, "size",
                        "shrinking disks is not supported: '%s' has %" PRIu64 " bytes", volume->name,
                        info.size_bytes);
    *ret_size = size;
    if (size == info.size_bytes)
        return ATL_OK;
    STO_CLOSE_AT_EXIT int folder = -1;
    code = dir_open_home(storage, volume, false, &folder, err);
    if (code != ATL_OK)
        return code;
    STO_CLOSE_AT_EXIT int fd = openat(folder, volume->file, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return dir_fail(err, "cannot open", volume->name);
    return grow_file(fd, volume, size, err);
}
