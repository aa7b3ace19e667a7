/* Finds the method of the contract that a verb and a path mean. Built once from the tables; no endpoint is
 * named here. */
#ifndef GW_CORE_ROUTER_H
#define GW_CORE_ROUTER_H

#include "pure/arena.h"
#include "pure/contract.h"

enum { GW_SEGMENTS_MAX = 24, GW_PATH_PARAMS_MAX = 8 };

struct gw_router;

struct gw_path_param {
    const char *name;  /* of the contract */
    const char *value; /* decoded, in the arena of the match */
};

struct gw_match {
    const struct atl_rpc *rpc; /* NULL: no such method */
    struct gw_path_param params[GW_PATH_PARAMS_MAX];
    size_t param_count;
};

/* The router lives in the arena; `contract` (NULL-terminated, as atl_contract) must outlive it. Asserts that
 * no two methods have the same verb and path: the plugin refuses such protos. */
struct gw_router *gw_router_new(const struct atl_service *const *contract, struct atl_arena *arena);

/* ATL_NO_VERB for what the API has no word for. */
enum atl_verb gw_verb_from_text(const char *method);

/*
 * Looks a path up ("/nodes/pve1/qemu/100"; without the prefix /api2/json). A fixed segment beats a parameter,
 * and a parameter named "volume" that ends a path takes all the rest, slashes too. Empty segments are
 * skipped. A segment with a broken escape matches nothing.
 */
void gw_router_find(const struct gw_router *router, enum atl_verb verb, const char *path,
                    struct atl_arena *arena, struct gw_match *ret_match);

/* The face of an answer. */
enum gw_form { GW_FORM_JSON, GW_FORM_EXTJS, GW_FORM_UNKNOWN, GW_FORM_NONE };

/* Cuts "/api2/json" or "/api2/extjs" off: the path behind it, and which it was. GW_FORM_NONE: another prefix;
 * GW_FORM_UNKNOWN: /api2/ with a form that we do not speak. */
enum gw_form gw_form_cut(const char *path, const char **ret_rest);

#endif
