/*
 * Inside of the driver for folders ("dir"): descriptors of folders, never paths that follow links out of the
 * storage.
 *
 * Names beginning with ".atoll-NODE-" are ours while something is made or removed; a symbolic link to such a
 * name holds a volume's name until its bytes are complete.
 */
#ifndef STO_DRIVERS_DIR_H
#define STO_DRIVERS_DIR_H

#include <dirent.h>

#include "drivers/driver.h"

/* The storage's own folder. Errors: ATL_E_STATE. */
ATL_MUST_CHECK enum atl_code dir_open_root(const struct sto_storage *storage, int *ret_fd,
                                           struct atl_error *err);

/* A folder below; links that lead out of the storage are refused. make: with the folders on the way.
 * Errors: ATL_E_ABSENT, ATL_E_IO. */
ATL_MUST_CHECK enum atl_code dir_open_folder(int root, const char *folder, bool make, int *ret_fd,
                                             struct atl_error *err);

/* The folder that holds the volume. Errors: as above. */
ATL_MUST_CHECK enum atl_code dir_open_home(const struct sto_storage *storage, const struct sto_volume *volume,
                                           bool make, int *ret_fd, struct atl_error *err);

/* A stream over a folder; the descriptor stays the caller's. NULL: cannot. */
DIR *dir_stream(int fd);

/* A name for something unfinished, unique on this machine. */
void dir_temporary_name(char *name, size_t size);
/* Whether a name is one that this node's agent gave. */
bool dir_temporary_ours(const char *name);

/* errno as an error: no space and quota are ATL_E_LIMIT. */
enum atl_code dir_fail(struct atl_error *err, const char *what, const char *name);

/* Removes a tree of any depth without following links or crossing into its parents. `name` in fd is a folder.
 */
ATL_MUST_CHECK enum atl_code dir_remove_tree(int fd, const char *name, struct atl_error *err);

/* Entries of the driver's table that live in files of their own. */
enum atl_code dir_alloc(const struct sto_storage *storage, const struct sto_plan *plan,
                        const struct sto_fs_options *fs, struct sto_volume *ret_volume,
                        struct atl_error *err);
enum atl_code dir_reserve(const struct sto_storage *storage, const struct sto_plan *plan,
                          struct sto_slot *ret_slot, struct atl_error *err);
enum atl_code dir_receive(const struct sto_storage *storage, struct sto_slot *ret_slot,
                          struct atl_error *err);
enum atl_code dir_resume(const struct sto_storage *storage, struct sto_slot *slot, struct atl_error *err);
enum atl_code dir_commit(const struct sto_storage *storage, struct sto_slot *slot, struct atl_error *err);
void dir_drop(const struct sto_storage *storage, struct sto_slot *slot);
enum atl_code dir_grow(const struct sto_storage *storage, const struct sto_volume *volume,
                       uint64_t size_bytes, uint64_t *ret_size, struct atl_error *err);
enum atl_code dir_remove(const struct sto_storage *storage, const struct sto_volume *volume,
                         bool *ret_was_there, struct atl_error *err);
enum atl_code dir_mark(const struct sto_storage *storage, const struct sto_volume *volume, const char *notes,
                       const bool *protected, struct atl_error *err);
void dir_sweep(const struct sto_storage *storage);
/* Sidecar files of backups: fills notes and protected. */
void dir_read_marks(int folder, const struct sto_volume *volume, struct sto_info *info);

#endif
