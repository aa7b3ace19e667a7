/* Paths with any bytes against a small tree of routes. */
#include <string.h>

#include "core/router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct atl_rpc rpcs[] = {
    {.name = "a", .path = "/a", .verb = ATL_GET},
    {.name = "b", .path = "/a/{x}", .verb = ATL_GET},
    {.name = "c", .path = "/a/{x}/b/{y}", .verb = ATL_GET},
    {.name = "d", .path = "/a/a/b", .verb = ATL_GET},
    {.name = "e", .path = "/a/{x}/{volume}", .verb = ATL_GET},
};
static const struct atl_service service = {.name = "t", .rpcs = rpcs, .count = ATL_COUNT(rpcs)};
static const struct atl_service *const contract[] = {&service, NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atl_arena arena = {0};
    char *path = atl_arena_strndup(&arena, (const char *)data, size);
    const struct gw_router *router = gw_router_new(contract, &arena);
    struct gw_match match;
    gw_router_find(router, ATL_GET, path, &arena, &match);
    for (size_t i = 0; i < match.param_count; i++) {
        atl_assert(match.params[i].value[0] != '\0');
        for (const char *c = match.params[i].value; *c != '\0'; c++)
            atl_assert((unsigned char)*c >= ' ');
    }
    const char *rest = NULL;
    (void)gw_form_cut(path, &rest);
    atl_arena_done(&arena);
    return 0;
}
