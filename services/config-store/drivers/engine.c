/* The engines by name. */
#include "drivers/engine.h"

#include <string.h>

static const struct cfg_engine_driver *const engines[] = {&cfg_engine_sqlite, &cfg_engine_memory};

const struct cfg_engine_driver *cfg_engine_find(const char *kind)
{
    for (size_t i = 0; i < ATL_COUNT(engines); i++)
        if (strcmp(engines[i]->kind, kind) == 0)
            return engines[i];
    return NULL;
}
