/*
 * A folder as a stream of bytes, by tar: owners, modes, links, holes, extended attributes and access lists of
 * all that is in it. tar runs beside the caller, who reads or writes the other end of a pipe.
 */
#ifndef STO_ARCHIVE_H
#define STO_ARCHIVE_H

#include <stdatomic.h>

#include "pure/error.h"

struct sto_archive;

/* folder: its descriptor, borrowed until the end. cancel: as of sto_run(). *ret_fd: the pipe, closed by the
 * end; to be read up to its end, or to be written. Errors: ATL_E_LIMIT. */
ATL_MUST_CHECK enum atl_code sto_archive_pack(int folder, const atomic_bool *cancel,
                                              struct sto_archive **ret_archive, int *ret_fd,
                                              struct atl_error *err);
ATL_MUST_CHECK enum atl_code sto_archive_unpack(int folder, const atomic_bool *cancel,
                                                struct sto_archive **ret_archive, int *ret_fd,
                                                struct atl_error *err);

/* Closes the pipe, waits for tar, and tells how it ended. Errors: as sto_run(). */
ATL_MUST_CHECK enum atl_code sto_archive_end(struct sto_archive **archive, struct atl_error *err);

#endif
