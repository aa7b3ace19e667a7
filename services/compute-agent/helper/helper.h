/*
 * What the two helper programs share: reading their order, mounting volumes in a mount namespace of their
 * own, and working inside the container's root with the container's ids.
 */
#ifndef CT_HELPER_H
#define CT_HELPER_H

#include "atoll/lxc/v1/helper.pb-c.h"
#include "pure/error.h"

enum { CT_SPEC_BYTES_MAX = 4 << 20 };

/* Reads a whole file of at most `limit` bytes; the caller frees. NULL when it cannot be read. */
void *ct_file_read(const char *path, size_t limit, size_t *ret_size);

/* Leaves the host's mount namespace: what is mounted from here on is seen by this process and its children
 * only, and is gone with the last of them. */
ATL_MUST_CHECK enum atl_code ct_mounts_isolate(struct atl_error *err);

/* Mounts each volume at FOLDER/SLOT, images over a loop device that frees itself. Blocks: disk. */
ATL_MUST_CHECK enum atl_code ct_mounts_make(const char *folder, Atoll__Lxc__V1__Mount *const *mounts,
                                            size_t count, const Atoll__Lxc__V1__IdMap *map,
                                            struct atl_error *err);

/*
 * Runs fn in a child that has `root` as its root folder, the container's ids, no network, few capabilities
 * and no descriptor but stdio and keep_fd (-1: none). fn writes its error into *err; the text comes back to
 * the caller.
 *
 * map   NULL: the ids of the host
 * Blocks until the child ends. Errors: what fn answers; ATL_E_IO the namespace cannot be made.
 */
typedef enum atl_code ct_sandbox_fn(void *user, struct atl_error *err);
ATL_MUST_CHECK enum atl_code ct_sandbox_run(const char *root, const Atoll__Lxc__V1__IdMap *map, int keep_fd,
                                            ct_sandbox_fn *fn, void *user, struct atl_error *err);

/* Writes the files that tell the guest who it is. Call it inside the sandbox. A file that cannot be written
 * is reported on stderr and left; only a password or key that cannot be set is an error. */
ATL_MUST_CHECK enum atl_code ct_setup_apply(const Atoll__Lxc__V1__Setup *setup, struct atl_error *err);

/* Runs a program of the host, with its output on stderr. Errors: ATL_E_IO with its exit code. */
ATL_MUST_CHECK enum atl_code ct_run(char *const *arguments, struct atl_error *err);

#endif
