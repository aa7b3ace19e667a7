/* Parameters of path, query and body. */
#include "core/params.h"

#include <string.h>

const char *gw_params_find(const struct gw_params *params, const char *name)
{
    for (size_t i = 0; i < params->count; i++) {
        if (strcmp(params->items[i].name, name) == 0)
            return params->items[i].value;
    }
    return NULL;
}

static const struct gw_path_param *path_param(const struct gw_match *match, const char *name)
{
    for (size_t i = 0; i < match->param_count; i++) {
        if (strcmp(match->params[i].name, name) == 0)
            return &match->params[i];
    }
    return NULL;
}

/* Adds what does not stand in `stronger`. */
static enum atl_code add(const struct gw_match *match, const struct gw_params *from,
                         const struct gw_params *stronger, struct gw_params *to, struct atl_errors *errors)
{
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < from->count; i++) {
        const struct atl_param *param = &from->items[i];
        if (strcmp(param->name, "_dc") == 0)
            continue;
        const struct gw_path_param *fixed = path_param(match, param->name);
        if (fixed != NULL) {
            if (param->value != NULL && strcmp(param->value, fixed->value) != 0) {
                atl_errors_add(errors, param->name, "duplicate parameter (the path says '%s')", fixed->value);
                code = ATL_E_INVALID;
            }
            continue;
        }
        if (stronger == NULL || gw_params_find(stronger, param->name) == NULL)
            to->items[to->count++] = *param;
    }
    return code;
}

enum atl_code gw_params_merge(const struct gw_match *match, const struct gw_params *query,
                              const struct gw_params *body, struct atl_arena *arena,
                              struct gw_params *ret_params, struct atl_errors *errors)
{
    struct gw_params all = {0};
    all.items = atl_arena_array(arena, struct atl_param, match->param_count + query->count + body->count + 1);
    for (size_t i = 0; i < match->param_count; i++)
        all.items[all.count++] =
            (struct atl_param){.name = match->params[i].name, .value = match->params[i].value};
    enum atl_code of_query = add(match, query, NULL, &all, errors);
    enum atl_code of_body = add(match, body, query, &all, errors);
    if (of_query != ATL_OK || of_body != ATL_OK)
        return ATL_E_INVALID;
    *ret_params = all;
    return ATL_OK;
}
