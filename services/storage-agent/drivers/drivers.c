/* The table of drivers, and what all of them need. */
#include "drivers/driver.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const struct sto_driver *const drivers[] = {&sto_driver_dir};
static char node_name[STO_ID_MAX] = "node";

const struct sto_driver *sto_driver_find(const char *type)
{
    for (size_t i = 0; i < ATL_COUNT(drivers); i++) {
        if (strcmp(drivers[i]->type, type) == 0)
            return drivers[i];
    }
    return NULL;
}

enum atl_code sto_driver_need(const struct sto_storage *storage, const struct sto_driver **ret_driver,
                              struct atl_error *err)
{
    const struct sto_driver *driver = sto_driver_find(storage->type_name);
    if (driver == NULL)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, NULL, "storage '%s': there is no driver for type '%s'",
                        storage->id, storage->type_name);
    *ret_driver = driver;
    return ATL_OK;
}

void sto_driver_set_node(const char *node)
{
    (void)atl_copy(node_name, sizeof node_name, node);
}

const char *sto_driver_node(void)
{
    return node_name;
}

void sto_close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

enum atl_code sto_read_image(int fd, enum sto_format format, struct sto_image *ret_image,
                             struct atl_error *err)
{
    static _Thread_local uint8_t head[STO_IMAGE_HEAD];
    size_t length = 0;
    while (length < sizeof head) {
        ssize_t got = pread(fd, head + length, sizeof head - length, (off_t)length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return atl_fail(err, ATL_E_IO, NULL, "cannot read the image: %s", strerror(errno));
        if (got == 0)
            break;
        length += (size_t)got;
    }
    return sto_image_read(format, head, length, ret_image, err);
}
