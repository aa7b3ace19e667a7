/* The engines there are. */
#include "drivers/driver.h"

#include <string.h>

const struct cmp_driver *cmp_driver_find(const char *name)
{
    static const struct cmp_driver *const all[] = {&cmp_libvirt_driver, &cmp_fake_driver};
    for (size_t i = 0; i < ATL_COUNT(all); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}
