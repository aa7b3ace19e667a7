/*
 * The file system that loses power. Each file has the bytes as written and the bytes as the disk is sure to
 * hold; a sync makes them equal. At the loss every sector that differs survives or not by the toss of a coin,
 * and so does the new length. Deletion and creation count as synced: SQLite syncs the folder where it matters
 * to it.
 */
#include "power_vfs.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES_MAX = 8, NAME_MAX_BYTES = 256, SECTOR = 512 };

struct disk_file {
    char name[NAME_MAX_BYTES]; /* "": free */
    uint8_t *live;
    uint8_t *safe;
    size_t live_size;
    size_t safe_size;
    size_t room; /* of both */
};

struct handle {
    sqlite3_file base;
    struct disk_file *file;
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    struct disk_file files[FILES_MAX];
    uint64_t prng;
    uint64_t operations;
    uint64_t fail_at;
} disk;

static bool toss(void)
{
    disk.prng ^= disk.prng << 13;
    disk.prng ^= disk.prng >> 7;
    disk.prng ^= disk.prng << 17;
    return (disk.prng >> 20 & 1) != 0;
}

/* Counts an operation that changes the disk; false: there is no power. */
static bool powered(void)
{
    if (disk.operations >= disk.fail_at)
        return false;
    disk.operations++;
    return true;
}

static struct disk_file *find(const char *name)
{
    for (size_t i = 0; i < FILES_MAX; i++)
        if (strcmp(disk.files[i].name, name) == 0)
            return &disk.files[i];
    return NULL;
}

static void reserve(struct disk_file *file, size_t size)
{
    if (size <= file->room)
        return;
    size_t room = file->room * 2 > size ? file->room * 2 : size;
    file->live = atl_realloc(file->live, room);
    file->safe = atl_realloc(file->safe, room);
    memset(file->live + file->room, 0, room - file->room);
    memset(file->safe + file->room, 0, room - file->room);
    file->room = room;
}

static void erase(struct disk_file *file)
{
    free(file->live);
    free(file->safe);
    *file = (struct disk_file){.room = 0};
}

/* --- file operations
 * ---------------------------------------------------------------------------------------- */

static struct disk_file *of(sqlite3_file *base)
{
    return ((struct handle *)base)->file;
}

static int file_close(sqlite3_file *base)
{
    (void)base;
    return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *to, int amount, sqlite3_int64 offset)
{
    const struct disk_file *file = of(base);
    size_t at = (size_t)offset;
    size_t wanted = (size_t)amount;
    size_t there = at < file->live_size ? file->live_size - at : 0;
    size_t got = there < wanted ? there : wanted;
    if (got > 0)
        memcpy(to, file->live + at, got);
    memset((uint8_t *)to + got, 0, wanted - got);
    return got == wanted ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *base, const void *from, int amount, sqlite3_int64 offset)
{
    struct disk_file *file = of(base);
    size_t end = (size_t)offset + (size_t)amount;
    if (!powered())
        return SQLITE_IOERR_WRITE;
    reserve(file, end);
    memcpy(file->live + offset, from, (size_t)amount);
    if (end > file->live_size)
        file->live_size = end;
    return SQLITE_OK;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct disk_file *file = of(base);
    if (!powered())
        return SQLITE_IOERR_TRUNCATE;
    if ((size_t)size < file->live_size) {
        memset(file->live + size, 0, file->live_size - (size_t)size);
        file->live_size = (size_t)size;
    }
    return SQLITE_OK;
}

static int file_sync(sqlite3_file *base, int flags)
{
    (void)flags;
    struct disk_file *file = of(base);
    if (!powered())
        return SQLITE_IOERR_FSYNC;
    if (file->room > 0)
        memcpy(file->safe, file->live, file->room);
    file->safe_size = file->live_size;
    return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *ret_size)
{
    *ret_size = (sqlite3_int64)of(base)->live_size;
    return SQLITE_OK;
}

static int file_lock(sqlite3_file *base, int level)
{
    (void)base;
    (void)level;
    return SQLITE_OK; /* there is one connection */
}

static int file_check_lock(sqlite3_file *base, int *ret_locked)
{
    (void)base;
    *ret_locked = 0;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int operation, void *argument)
{
    (void)base;
    (void)operation;
    (void)argument;
    return SQLITE_NOTFOUND;
}

static int file_sector(sqlite3_file *base)
{
    (void)base;
    return SECTOR;
}

static int file_traits(sqlite3_file *base)
{
    (void)base;
    return 0; /* nothing is promised: no atomic, no safe append, no order */
}

static const sqlite3_io_methods methods = {
    .iVersion = 1, /* no shared memory: the engine keeps its lock to itself */
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_lock,
    .xCheckReservedLock = file_check_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
};

/* --- the file system
 * ---------------------------------------------------------------------------------------- */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *ret_flags)
{
    (void)vfs;
    struct handle *handle = (struct handle *)base;
    base->pMethods = NULL;
    if (name == NULL)
        return SQLITE_CANTOPEN; /* temporary files go to memory */
    struct disk_file *file = find(name);
    if (file == NULL) {
        file = find("");
        if ((flags & SQLITE_OPEN_CREATE) == 0 || file == NULL || !powered())
            return SQLITE_CANTOPEN;
        if (!atl_copy(file->name, sizeof file->name, name))
            return SQLITE_CANTOPEN;
    }
    handle->file = file;
    base->pMethods = &methods;
    if (ret_flags != NULL)
        *ret_flags = flags;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_folder)
{
    (void)vfs;
    (void)sync_folder;
    struct disk_file *file = find(name);
    if (!powered())
        return SQLITE_IOERR_DELETE;
    if (file == NULL)
        return SQLITE_IOERR_DELETE_NOENT;
    erase(file);
    return SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret_there)
{
    (void)vfs;
    (void)flags;
    const struct disk_file *file = find(name);
    *ret_there = file != NULL && file->live_size > 0;
    return SQLITE_OK;
}

static int vfs_full_name(sqlite3_vfs *vfs, const char *name, int size, char *ret_name)
{
    (void)vfs;
    return atl_copy(ret_name, (size_t)size, name) ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int vfs_randomness(sqlite3_vfs *vfs, int size, char *to)
{
    (void)vfs;
    memset(to, 0, (size_t)size);
    for (int i = 0; i < size; i++)
        to[i] = (char)(toss() | toss() << 1 | toss() << 2 | toss() << 3);
    return size;
}

static int vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    return microseconds;
}

static int vfs_time(sqlite3_vfs *vfs, double *ret_time)
{
    (void)vfs;
    *ret_time = 2460000.5;
    return SQLITE_OK;
}

static int vfs_error(sqlite3_vfs *vfs, int size, char *text)
{
    (void)vfs;
    (void)size;
    (void)text;
    return 0;
}

void power_vfs_start(uint64_t seed)
{
    memset(&disk, 0, sizeof disk);
    disk.prng = seed | 1;
    disk.fail_at = UINT64_MAX;
    disk.vfs = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = sizeof(struct handle),
        .mxPathname = NAME_MAX_BYTES,
        .zName = "power",
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_name,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time,
        .xGetLastError = vfs_error,
    };
    int rc = sqlite3_vfs_register(&disk.vfs, 0);
    atl_assert(rc == SQLITE_OK);
}

void power_vfs_fail_after(uint64_t operations)
{
    disk.fail_at = operations == UINT64_MAX ? UINT64_MAX : disk.operations + operations;
}

uint64_t power_vfs_operations(void)
{
    return disk.operations;
}

static void lose(struct disk_file *file)
{
    size_t longest = file->live_size > file->safe_size ? file->live_size : file->safe_size;
    for (size_t at = 0; at < longest; at += SECTOR) {
        size_t size = longest - at < SECTOR ? longest - at : SECTOR;
        if (memcmp(file->live + at, file->safe + at, size) != 0 && toss())
            memcpy(file->safe + at, file->live + at, size);
    }
    if (file->live_size != file->safe_size && toss())
        file->safe_size = file->live_size;
    if (file->room > 0) {
        memset(file->safe + file->safe_size, 0, file->room - file->safe_size);
        memcpy(file->live, file->safe, file->room);
    }
    file->live_size = file->safe_size;
}

void power_vfs_restart(void)
{
    for (size_t i = 0; i < FILES_MAX; i++)
        if (disk.files[i].name[0] != '\0')
            lose(&disk.files[i]);
    disk.fail_at = UINT64_MAX;
}

void power_vfs_end(void)
{
    for (size_t i = 0; i < FILES_MAX; i++)
        erase(&disk.files[i]);
    (void)sqlite3_vfs_unregister(&disk.vfs);
}
