/* Runs qemu-img and mkfs: fixed argument lists, descriptors instead of paths, bounded output and time. */
#ifndef STO_RUN_H
#define STO_RUN_H

#include <stdatomic.h>

#include "pure/error.h"

struct sto_run {
    const char *const *argv;   /* absolute or found in /usr/sbin:/usr/bin:/sbin:/bin; NULL-terminated */
    const int *fds;            /* become descriptors 3, 4 ... of the child: name them as /proc/self/fd/3 */
    unsigned int fd_count;     /* at most 4 */
    atl_ns timeout;            /* 0: none */
    const atomic_bool *cancel; /* looked at every 50 ms; may be NULL */
    atomic_uint *progress;     /* takes "(12.34/100%)" of the child's output as 1234; may be NULL */
};

/*
 * Blocks until the child has ended; it is killed on cancel and timeout.
 * Errors: ATL_E_IO with the last line it wrote to stderr; ATL_E_LIMIT when that says that no space is left;
 * ATL_E_CANCELLED; ATL_E_DEADLINE; ATL_E_UNAVAILABLE the program is not installed.
 */
ATL_MUST_CHECK enum atl_code sto_run(const struct sto_run *run, struct atl_error *err);

#endif
