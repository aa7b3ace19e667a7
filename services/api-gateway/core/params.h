/* Puts the parameters of a request together: path, query and body have an order of who wins. */
#ifndef GW_CORE_PARAMS_H
#define GW_CORE_PARAMS_H

#include "core/router.h"
#include "pure/codec.h"

struct gw_params {
    struct atl_param *items;
    size_t count;
};

/*
 * Path parameters first, then the query's, then those of the body that the query does not name. `_dc` (a
 * client's way around caches) is dropped. A query or body parameter that says the same as the path is
 * dropped; one that says something else is an error in `errors`. Errors: ATL_E_INVALID, errors filled.
 */
ATL_MUST_CHECK enum atl_code gw_params_merge(const struct gw_match *match, const struct gw_params *query,
                                             const struct gw_params *body, struct atl_arena *arena,
                                             struct gw_params *ret_params, struct atl_errors *errors);

/* The first value of that name, or NULL. */
const char *gw_params_find(const struct gw_params *params, const char *name);

#endif
