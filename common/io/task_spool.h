/* The files of a task's spool folder: what agent, worker and reader share. Beside them only ha/save.c uses
 * it, to write. */
#ifndef ATL_IO_TASK_SPOOL_H
#define ATL_IO_TASK_SPOOL_H

#include <limits.h>

#include "io/task.h"
#include "pure/buf.h"
#include "pure/codec.h"

/* Writes a file anew: beside it first, then renamed. mode as for open(). */
ATL_MUST_CHECK enum atl_code atl_spool_write(const char *dir, const char *name, const void *bytes,
                                             size_t size, unsigned int mode, struct atl_error *err);
/* Appends the file's bytes, max_size at most; false: there is none or it is larger. */
bool atl_spool_read(const char *dir, const char *name, size_t max_size, struct atl_buf *buf);

ATL_MUST_CHECK enum atl_code atl_spool_status_write(const char *dir, const struct atl_task_info *info,
                                                    struct atl_error *err);
/* Fills all but upid and parts. A task without a status is queued. What cannot be read is left out. */
void atl_spool_status_read(const char *dir, struct atl_task_info *info);
/* For the fuzzer. */
void atl_spool_status_parse(char *text, struct atl_task_info *info);

/* Does a worker hold the lock? */
bool atl_spool_locked(const char *dir);
bool atl_spool_has(const char *dir, const char *name);
/* One line, with a newline behind it; control bytes become '?'. false: the log is full or cannot be written.
 */
bool atl_spool_log(const char *dir, const char *text);
/* Writes the end of a task: last line of the log, then the status. */
void atl_spool_finish(const char *dir, struct atl_task_info *info, const char *exit);
void atl_spool_remove(const char *dir);

/* Where the last part of a path begins. */
const char *atl_spool_name(const char *path);

#endif
