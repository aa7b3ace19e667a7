/* The engine that keeps nothing: for tests. */
#include <stdlib.h>

#include "drivers/engine.h"

static enum atl_code memory_open(const struct cfg_engine_options *options, void **ret_self,
                                 struct atl_error *err)
{
    (void)options;
    (void)err;
    *ret_self = atl_alloc0(1);
    return ATL_OK;
}

static enum atl_code memory_load(void *self, const struct cfg_engine_sink *sink, struct atl_error *err)
{
    (void)self;
    (void)err;
    sink->revision(sink->user, 1, 0);
    return ATL_OK;
}

static enum atl_code memory_commit(void *self, const struct cfg_engine_commit *commit, struct atl_error *err)
{
    (void)self;
    (void)commit;
    (void)err;
    return ATL_OK;
}

static void memory_close(void *self)
{
    free(self);
}

const struct cfg_engine_driver cfg_engine_memory = {.kind = "memory",
                                                    .open = memory_open,
                                                    .load = memory_load,
                                                    .commit = memory_commit,
                                                    .close = memory_close};
