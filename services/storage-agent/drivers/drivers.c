/* The table of drivers. */
#include "drivers/driver.h"

#include <string.h>

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
