/* One worker per container on this machine. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drivers/lxc.h"

enum { LOCK_WAIT_MS = 10000, LOCK_TRY_MS = 20 };

enum atl_code cmp_lxc_lock(const struct cmp_lxc_host *host, uint32_t vmid, bool (*stopped)(void *),
                           void *user, int *ret_fd, struct atl_error *err)
{
    char path[320];
    (void)snprintf(path, sizeof path, "%s/lock-%" PRIu32, host->run_dir, vmid);
    if (mkdir(host->run_dir, 0711) != 0 && errno != EEXIST)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", host->run_dir, strerror(errno));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot open '%s': %s", path, strerror(errno));
    for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; waited += LOCK_TRY_MS) {
        if (waited >= LOCK_WAIT_MS || (stopped != NULL && stopped(user))) {
            (void)close(fd); /* nothing was written */
            return atl_fail(err, ATL_E_CONFLICT, NULL,
                            "can't lock file '/run/lock/lxc/pve-config-%" PRIu32 ".lock' - got timeout",
                            vmid);
        }
        (void)usleep(LOCK_TRY_MS * 1000); /* woken early by a signal: asks again */
    }
    *ret_fd = fd;
    return ATL_OK;
}
