/*
 * What resets the machine: a table of drivers. None of them feeds on its own account.
 *
 *   linux      /dev/watchdog and its like: softdog, i6300esb, a board's own (Linux's watchdog API); or
 * identity:NAME, the one whose driver's identity begins so
 *   simulated  unix:PATH, a process outside the node that stands for one in tests: it is told "TIMEOUT_MS\n"
 * once, then any byte but 'V' feeds, and 'V' before the end of the connection disarms
 */
#ifndef WDT_DEVICE_H
#define WDT_DEVICE_H

#include "pure/error.h"

struct wdt_driver {
    const char *name;
    /* Opening begins to watch. The device's timeout must be no longer than asked; *ret_timeout_ms is what it
     * has. */
    enum atl_code (*open)(const char *path, uint32_t timeout_ms, int *ret_fd, uint32_t *ret_timeout_ms,
                          struct atl_error *err);
    enum atl_code (*feed)(int fd, struct atl_error *err);
    /* Ends watching and closes; fails, and goes on, where the device cannot be stopped. */
    enum atl_code (*disarm)(int fd, struct atl_error *err);
};

/* By the form of the path. */
const struct wdt_driver *wdt_driver_of(const char *path);

#endif
