/* Storages that are folders: removing volumes, what was left behind, and the notes of backups. */
#include "drivers/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * One folder of the heap: files go, folders are moved up into the heap under a number. So no depth of nesting
 * needs more than three descriptors, and a name is never resolved twice.
 */
static enum atl_code empty_folder(int heap, const char *name, unsigned int *next, struct atl_error *err)
{
    STO_CLOSE_AT_EXIT int fd = openat(heap, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *stream = fd >= 0 ? dir_stream(fd) : NULL;
    if (stream == NULL)
        return dir_fail(err, "cannot read folder", name);
    enum atl_code code = ATL_OK;
    const struct dirent *entry = NULL;
    while (code == ATL_OK && (entry = readdir(stream)) != NULL) {
        char number[16];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, entry->d_name, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != EISDIR && errno != EPERM) {
            code = dir_fail(err, "cannot remove", entry->d_name);
            break;
        }
        (void)snprintf(number, sizeof number, "%u", (*next)++);
        if (renameat(fd, entry->d_name, heap, number) < 0)
            code = dir_fail(err, "cannot remove folder", entry->d_name);
    }
    (void)closedir(stream);
    if (code == ATL_OK && unlinkat(heap, name, AT_REMOVEDIR) < 0)
        code = dir_fail(err, "cannot remove folder", name);
    return code;
}

enum atl_code dir_remove_tree(int fd, const char *name, struct atl_error *err)
{
    char heap_name[STO_ID_MAX + 64];
    unsigned int next = 1;
    dir_temporary_name(heap_name, sizeof heap_name);
    if (mkdirat(fd, heap_name, 0700) < 0)
        return dir_fail(err, "cannot make folder", heap_name);
    STO_CLOSE_AT_EXIT int heap = openat(fd, heap_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (heap < 0 || renameat(fd, name, heap, "0") < 0) {
        enum atl_code code = dir_fail(err, "cannot remove folder", name);
        (void)unlinkat(fd, heap_name, AT_REMOVEDIR);
        return code;
    }
    enum atl_code code = ATL_OK;
    for (unsigned int done = 0; code == ATL_OK && done < next; done++) {
        char number[16];
        (void)snprintf(number, sizeof number, "%u", done);
        code = empty_folder(heap, number, &next, err);
    }
    if (code == ATL_OK && unlinkat(fd, heap_name, AT_REMOVEDIR) < 0)
        code = dir_fail(err, "cannot remove folder", heap_name);
    return code;
}

/* Sidecar of a backup: "FILE.notes", "FILE.protected". */
static void sidecar(char *name, size_t size, const struct sto_volume *volume, const char *kind)
{
    (void)snprintf(name, size, "%s.%s", volume->file, kind);
}

void dir_read_marks(int folder, const struct sto_volume *volume, struct sto_info *info)
{
    char name[STO_FILE_MAX + 16];
    struct stat st;
    sidecar(name, sizeof name, volume, "protected");
    info->protected = fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    sidecar(name, sizeof name, volume, "notes");
    STO_CLOSE_AT_EXIT int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, info->notes, sizeof info->notes - 1) : 0;
    info->notes[got > 0 ? got : 0] = '\0';
}

static enum atl_code write_notes(int folder, const char *name, const char *notes, struct atl_error *err)
{
    size_t length = strlen(notes);
    if (length == 0)
        return unlinkat(folder, name, 0) < 0 && errno != ENOENT ? dir_fail(err, "cannot remove", name)
                                                                : ATL_OK;
    char temporary[STO_ID_MAX + 64];
    dir_temporary_name(temporary, sizeof temporary);
    STO_CLOSE_AT_EXIT int fd =
        openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return dir_fail(err, "cannot write", name);
    if (write(fd, notes, length) != (ssize_t)length || fsync(fd) < 0 ||
        renameat(folder, temporary, folder, name) < 0) {
        enum atl_code code = dir_fail(err, "cannot write", name);
        (void)unlinkat(folder, temporary, 0);
        return code;
    }
    return ATL_OK;
}

static enum atl_code write_protection(int folder, const char *name, bool protected, struct atl_error *err)
{
    if (!protected)
        return unlinkat(folder, name, 0) < 0 && errno != ENOENT ? dir_fail(err, "cannot remove", name)
                                                                : ATL_OK;
    STO_CLOSE_AT_EXIT int fd = openat(folder, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    return fd < 0 ? dir_fail(err, "cannot write", name) : ATL_OK;
}

enum atl_code dir_mark(const struct sto_storage *storage, const struct sto_volume *volume, const char *notes,
                       const bool *protected, struct atl_error *err)
{
    char name[STO_FILE_MAX + 16];
    struct sto_info info;
    STO_CLOSE_AT_EXIT int folder = -1;
    if (volume->content != STO_BACKUP)
        return atl_fail(err, ATL_E_INVALID, notes != NULL ? "notes" : "protected",
                        "storage '%s' keeps notes and protection of backups only", storage->id);
    if (notes != NULL && strlen(notes) >= sizeof info.notes)
        return atl_fail(err, ATL_E_INVALID, "notes", "notes are longer than %zu bytes",
                        sizeof info.notes - 1);
    enum atl_code code = sto_driver_dir.look(storage, volume, &info, err);
    if (code == ATL_OK)
        code = dir_open_home(storage, volume, false, &folder, err);
    if (code == ATL_OK && notes != NULL) {
        sidecar(name, sizeof name, volume, "notes");
        code = write_notes(folder, name, notes, err);
    }
    if (code == ATL_OK && protected != NULL) {
        sidecar(name, sizeof name, volume, "protected");
        code = write_protection(folder, name, *protected, err);
    }
    return code;
}

static enum atl_code remove_file(int folder, const struct sto_volume *volume, struct atl_error *err)
{
    if (volume->content == STO_BACKUP) {
        char name[STO_FILE_MAX + 16];
        struct sto_info info = {0};
        dir_read_marks(folder, volume, &info);
        if (info.protected)
            return atl_fail(err, ATL_E_STATE, NULL, "cannot remove protected archive '%s'", volume->name);
        sidecar(name, sizeof name, volume, "notes");
        (void)unlinkat(folder, name, 0); /* most have none */
    }
    if (unlinkat(folder, volume->file, 0) < 0 && errno != ENOENT)
        return dir_fail(err, "cannot remove", volume->name);
    return ATL_OK;
}

enum atl_code dir_remove(const struct sto_storage *storage, const struct sto_volume *volume,
                         bool *ret_was_there, struct atl_error *err)
{
    struct stat st;
    STO_CLOSE_AT_EXIT int root = -1;
    STO_CLOSE_AT_EXIT int folder = -1;
    enum atl_code code = dir_open_home(storage, volume, false, &folder, err);
    if (code != ATL_OK && code != ATL_E_ABSENT)
        return code;
    *ret_was_there = false;
    /* A link is the place of a volume that is still being made: not there yet. */
    if (code == ATL_E_ABSENT || fstatat(folder, volume->file, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        S_ISLNK(st.st_mode))
        return ATL_OK;
    code =
        S_ISDIR(st.st_mode) ? dir_remove_tree(folder, volume->file, err) : remove_file(folder, volume, err);
    if (code != ATL_OK)
        return code;
    *ret_was_there = true;
    if (volume->vmid != 0 && volume->content != STO_BACKUP && dir_open_root(storage, &root, NULL) == ATL_OK) {
        ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
        (void)unlinkat(root, sto_volume_folder(storage, volume, &arena),
                       AT_REMOVEDIR); /* only if it is empty */
    }
    return ATL_OK;
}

/* A file that a task's worker still works on is locked by it. */
static void sweep_one(int folder, const char *name)
{
    struct stat st;
    STO_CLOSE_AT_EXIT int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    enum atl_code code = ATL_OK;
    if (S_ISDIR(st.st_mode))
        code = dir_remove_tree(folder, name, NULL);
    else if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        (void)unlinkat(folder, name, 0);
    (void)code; /* what cannot be removed is tried again at the next start */
}

static void sweep_folder(int folder)
{
    DIR *stream = dir_stream(folder);
    const struct dirent *entry = NULL;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        char target[256];
        ssize_t length = readlinkat(folder, entry->d_name, target, sizeof target - 1);
        if (length > 0) {
            target[length] = '\0';
            if (dir_temporary_ours(target))
                (void)unlinkat(folder, entry->d_name, 0);
        } else if (dir_temporary_ours(entry->d_name)) {
            sweep_one(folder, entry->d_name);
        }
    }
    if (stream != NULL)
        (void)closedir(stream);
}

void dir_sweep(const struct sto_storage *storage)
{
    STO_CLOSE_AT_EXIT int root = -1;
    STO_CLOSE_AT_EXIT int images = -1;
    if (dir_open_root(storage, &root, NULL) != ATL_OK)
        return;
    sweep_folder(root);
    if (dir_open_folder(root, storage->dirs[STO_IMAGES], false, &images, NULL) != ATL_OK)
        return;
    DIR *stream = dir_stream(images);
    const struct dirent *entry = NULL;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        STO_CLOSE_AT_EXIT int folder = -1;
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            dir_open_folder(images, entry->d_name, false, &folder, NULL) == ATL_OK)
            sweep_folder(folder);
    }
    if (stream != NULL)
        (void)closedir(stream);
}
