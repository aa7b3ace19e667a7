/* Rights that virtual machines and containers need alike. */
#include <string.h>

#include "cmp.h"

bool cmp_is_root(const struct atl_request *request)
{
    const struct atl_principal *principal = atl_request_principal(request);
    return principal->user == NULL || (strcmp(principal->user, "root@pam") == 0 && principal->token == NULL);
}

enum atl_code cmp_need_bridge(struct cmp *cmp, struct atl_request *request, const char *bridge, int64_t tag,
                              struct atl_error *err)
{
    static const char *const use_bridge[] = {"SDN.Use", NULL};
    struct atl_arena *arena = atl_request_arena(request);
    const char *path = tag != 0 ? atl_arena_format(arena, "/sdn/zones/localnetwork/%s/%" PRId64, bridge, tag)
                                : atl_arena_format(arena, "/sdn/zones/localnetwork/%s", bridge);
    return atl_keeper_need(cmp->keeper, atl_request_principal(request), path, use_bridge, err);
}

enum atl_code cmp_need_pool(struct cmp *cmp, struct atl_request *request, const char *pool,
                            struct atl_error *err)
{
    static const char *const may_add[] = {"VM.Allocate", "Pool.Allocate", NULL};
    if (pool == NULL || pool[0] == '\0')
        return ATL_OK;
    return atl_keeper_need(cmp->keeper, atl_request_principal(request),
                           atl_arena_format(atl_request_arena(request), "/pool/%s", pool), may_add, err);
}
