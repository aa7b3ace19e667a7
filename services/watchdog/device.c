/* Watchdog devices. */
#include "device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SIMULATED "unix:"
#define IDENTITY  "identity:"
#define CLASS     "/sys/class/watchdog"

static enum atl_code write_byte(int fd, char byte, struct atl_error *err)
{
    if (write(fd, &byte, 1) != 1)
        return atl_fail(err, ATL_E_IO, NULL, "the watchdog takes no byte: %s", strerror(errno));
    return ATL_OK;
}

static enum atl_code feed(int fd, struct atl_error *err)
{
    return write_byte(fd, '\0', err);
}

/* --- Linux --- */

static bool is_named(const char *device, const char *name)
{
    char text[128] = "";
    ATL_FREE_AT_EXIT char *path = atl_format(CLASS "/%s/identity", device);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, text, sizeof text - 1);
    (void)close(fd);
    return size > 0 && strncmp(text, name, strlen(name)) == 0;
}

/* The device whose driver calls it so; the numbers of devices may differ from boot to boot. */
static char *find_named(const char *name, struct atl_error *err)
{
    char *found = NULL;
    DIR *folder = opendir(CLASS);
    const struct dirent *entry = NULL;
    while (folder != NULL && found == NULL && (entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.' && is_named(entry->d_name, name))
            found = atl_format("/dev/%s", entry->d_name);
    if (folder != NULL)
        (void)closedir(folder);
    if (found == NULL)
        (void)atl_fail(err, ATL_E_ABSENT, NULL,
                       "no watchdog in " CLASS " has an identity that begins with '%s'", name);
    return found;
}

static void stop_and_close(int fd)
{
    struct atl_error ignored = {0};
    (void)write_byte(fd, 'V', &ignored);
    (void)close(fd);
}

static enum atl_code open_path(const char *path, uint32_t timeout_ms, int *ret_fd, uint32_t *ret_timeout_ms,
                               struct atl_error *err)
{
    int seconds = (int)(timeout_ms / 1000);
    if (seconds < 1)
        return atl_fail(
            err, ATL_E_INVALID, NULL,
            "a watchdog counts whole seconds: %u ms are too short, set a longer tick (docs/HA.md)",
            timeout_ms);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, NULL, "%s: %s", path, strerror(errno));
    int wanted = seconds;
    if (ioctl(fd, WDIOC_SETTIMEOUT, &seconds) != 0 && ioctl(fd, WDIOC_GETTIMEOUT, &seconds) != 0)
        seconds = 0;
    if (seconds < 1 || seconds > wanted) {
        stop_and_close(fd);
        return atl_fail(err, ATL_E_INVALID, NULL, "%s has a timeout of %d s and takes none of %d s", path,
                        seconds, wanted);
    }
    *ret_fd = fd;
    *ret_timeout_ms = (uint32_t)seconds * 1000;
    return ATL_OK;
}

static enum atl_code linux_open(const char *path, uint32_t timeout_ms, int *ret_fd, uint32_t *ret_timeout_ms,
                                struct atl_error *err)
{
    if (strncmp(path, IDENTITY, strlen(IDENTITY)) != 0)
        return open_path(path, timeout_ms, ret_fd, ret_timeout_ms, err);
    ATL_FREE_AT_EXIT char *found = find_named(path + strlen(IDENTITY), err);
    return found == NULL ? ATL_E_ABSENT : open_path(found, timeout_ms, ret_fd, ret_timeout_ms, err);
}

static enum atl_code linux_disarm(int fd, struct atl_error *err)
{
    struct watchdog_info info = {0};
    bool stops = ioctl(fd, WDIOC_GETSUPPORT, &info) == 0 && (info.options & WDIOF_MAGICCLOSE) != 0;
    if (!stops)
        return atl_fail(err, ATL_E_STATE, NULL, "this watchdog cannot be stopped once it runs");
    enum atl_code code = write_byte(fd, 'V', err);
    if (code == ATL_OK)
        (void)close(fd);
    return code;
}

/* --- simulated --- */

static enum atl_code simulated_open(const char *path, uint32_t timeout_ms, int *ret_fd,
                                    uint32_t *ret_timeout_ms, struct atl_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!atl_copy(address.sun_path, sizeof address.sun_path, path + strlen(SIMULATED)))
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is too long for a socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, NULL, "no socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        dprintf(fd, "%" PRIu32 "\n", timeout_ms) < 0) {
        enum atl_code code = atl_fail(err, ATL_E_IO, NULL, "%s: %s", path, strerror(errno));
        (void)close(fd);
        return code;
    }
    *ret_fd = fd;
    *ret_timeout_ms = timeout_ms;
    return ATL_OK;
}

static enum atl_code simulated_disarm(int fd, struct atl_error *err)
{
    enum atl_code code = write_byte(fd, 'V', err);
    if (code == ATL_OK)
        (void)close(fd);
    return code;
}

static const struct wdt_driver linux_driver = {"linux", linux_open, feed, linux_disarm};
static const struct wdt_driver simulated_driver = {"simulated", simulated_open, feed, simulated_disarm};

const struct wdt_driver *wdt_driver_of(const char *path)
{
    return strncmp(path, SIMULATED, strlen(SIMULATED)) == 0 ? &simulated_driver : &linux_driver;
}
