/* The router: a tree of path segments with the methods at its nodes. */
#include "core/router.h"

#include <string.h>

#include "core/head.h"

struct node {
    const char *segment;    /* fixed text, or NULL for the parameter */
    struct node **children; /* fixed ones, sorted by segment once all are there */
    size_t child_count;
    size_t child_capacity;
    struct node *parameter; /* {name}; the name is a matter of the method that is found */
    const struct atl_rpc *rpcs[ATL_NO_VERB];
    bool takes_rest; /* a parameter that may hold slashes */
};

struct gw_router {
    struct node root;
};

/* Path parameters whose values hold slashes: volume ids ("local:iso/debian.iso"). */
static const char *const with_slashes[] = {"volume"};

static bool holds_slashes(const char *name, size_t length)
{
    for (size_t i = 0; i < ATL_COUNT(with_slashes); i++) {
        if (strlen(with_slashes[i]) == length && memcmp(with_slashes[i], name, length) == 0)
            return true;
    }
    return false;
}

/* The place of a fixed segment among the sorted children; *ret_found tells whether it is there. */
static size_t child_place(const struct node *node, const char *segment, bool *ret_found)
{
    size_t low = 0;
    size_t high = node->child_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(node->children[middle]->segment, segment);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = false;
    return low;
}

static struct node *fixed_child(struct node *node, const char *segment, struct atl_arena *arena)
{
    bool found = false;
    size_t place = child_place(node, segment, &found);
    if (found)
        return node->children[place];
    node->children = atl_arena_grow(arena, node->children, node->child_count, &node->child_capacity,
                                    sizeof(struct node *));
    memmove(node->children + place + 1, node->children + place,
            (node->child_count - place) * sizeof(struct node *));
    struct node *child = atl_arena_new(arena, struct node);
    child->segment = segment;
    node->children[place] = child;
    node->child_count++;
    return child;
}

static struct node *parameter_child(struct node *node, struct atl_arena *arena)
{
    if (node->parameter == NULL)
        node->parameter = atl_arena_new(arena, struct node);
    return node->parameter;
}

static void add_rpc(struct gw_router *router, const struct atl_rpc *rpc, struct atl_arena *arena)
{
    struct node *node = &router->root;
    for (const char *at = rpc->path; *at != '\0';) {
        at += strspn(at, "/");
        size_t length = strcspn(at, "/");
        if (length == 0)
            break;
        if (at[0] == '{') {
            atl_assert(length > 2);
            atl_assert(at[length - 1] == '}');
            node = parameter_child(node, arena);
            if (at[length] == '\0' && holds_slashes(at + 1, length - 2))
                node->takes_rest = true;
        } else {
            node = fixed_child(node, atl_arena_strndup(arena, at, length), arena);
        }
        at += length;
    }
    atl_assert(rpc->verb < ATL_NO_VERB);
    atl_assert(node->rpcs[rpc->verb] == NULL);
    node->rpcs[rpc->verb] = rpc;
}

struct gw_router *gw_router_new(const struct atl_service *const *contract, struct atl_arena *arena)
{
    struct gw_router *router = atl_arena_new(arena, struct gw_router);
    for (size_t i = 0; contract[i] != NULL; i++) {
        for (uint32_t j = 0; j < contract[i]->count; j++) {
            if (contract[i]->rpcs[j].path != NULL)
                add_rpc(router, &contract[i]->rpcs[j], arena);
        }
    }
    return router;
}

enum atl_verb gw_verb_from_text(const char *method)
{
    static const char *const words[ATL_NO_VERB] = {
        [ATL_GET] = "GET", [ATL_POST] = "POST", [ATL_PUT] = "PUT", [ATL_DELETE] = "DELETE"};
    for (int verb = 0; verb < ATL_NO_VERB; verb++) {
        if (strcmp(words[verb], method) == 0)
            return (enum atl_verb)verb;
    }
    return ATL_NO_VERB;
}

struct search {
    enum atl_verb verb;
    const char *segments[GW_SEGMENTS_MAX]; /* decoded */
    const char *rests[GW_SEGMENTS_MAX];    /* as sent, from this segment to the end of the path */
    size_t count;
};

/* Depth first, fixed before parameter: the tree is at most GW_SEGMENTS_MAX deep and branches twice. */
static const struct atl_rpc *search_node(const struct node *node, const struct search *search, size_t depth,
                                         bool *ret_rest)
{
    if (depth == search->count)
        return node->rpcs[search->verb];
    bool found = false;
    size_t place = child_place(node, search->segments[depth], &found);
    const struct atl_rpc *rpc = NULL;
    if (found)
        rpc = search_node(node->children[place], search, depth + 1, ret_rest);
    if (rpc != NULL || node->parameter == NULL)
        return rpc;
    rpc = search_node(node->parameter, search, depth + 1, ret_rest);
    if (rpc == NULL && node->parameter->takes_rest) {
        rpc = node->parameter->rpcs[search->verb];
        *ret_rest = rpc != NULL;
    }
    return rpc;
}

static bool split(const char *path, struct atl_arena *arena, struct search *search)
{
    for (const char *at = path + strspn(path, "/"); *at != '\0'; at += strspn(at, "/")) {
        if (search->count == GW_SEGMENTS_MAX)
            return false;
        size_t length = strcspn(at, "/");
        char *segment = atl_arena_strndup(arena, at, length);
        if (!gw_percent_decode(segment))
            return false;
        search->segments[search->count] = segment;
        search->rests[search->count++] = at;
        at += length;
    }
    return true;
}

/* The rest of the path as one value; its segments were decoded without a fault, so it can be. */
static const char *decode_rest(const char *rest, struct atl_arena *arena)
{
    char *value = atl_arena_strdup(arena, rest);
    bool ok = gw_percent_decode(value);
    atl_assert(ok);
    return value;
}

/* Reads the parameters' values along the path of the method that was found. */
static void take_params(const struct search *search, bool has_rest, struct atl_arena *arena,
                        struct gw_match *match)
{
    size_t depth = 0;
    for (const char *at = match->rpc->path; *at != '\0';) {
        at += strspn(at, "/");
        size_t length = strcspn(at, "/");
        if (length == 0)
            break;
        if (at[0] == '{') {
            atl_assert(match->param_count < GW_PATH_PARAMS_MAX);
            bool last = at[length] == '\0';
            match->params[match->param_count++] = (struct gw_path_param){
                .name = atl_arena_strndup(arena, at + 1, length - 2),
                .value =
                    last && has_rest ? decode_rest(search->rests[depth], arena) : search->segments[depth],
            };
        }
        depth++;
        at += length;
    }
}

void gw_router_find(const struct gw_router *router, enum atl_verb verb, const char *path,
                    struct atl_arena *arena, struct gw_match *ret_match)
{
    *ret_match = (struct gw_match){0};
    struct search search = {.verb = verb};
    if (verb == ATL_NO_VERB || !split(path, arena, &search))
        return;
    bool has_rest = false;
    ret_match->rpc = search_node(&router->root, &search, 0, &has_rest);
    if (ret_match->rpc != NULL)
        take_params(&search, has_rest, arena, ret_match);
}

enum gw_form gw_form_cut(const char *path, const char **ret_rest)
{
    static const char *const forms[] = {[GW_FORM_JSON] = "json", [GW_FORM_EXTJS] = "extjs"};
    if (strncmp(path, "/api2/", 6) != 0)
        return GW_FORM_NONE;
    const char *form = path + 6;
    size_t length = strcspn(form, "/");
    *ret_rest = form[length] == '\0' ? "/" : form + length;
    for (size_t i = 0; i < ATL_COUNT(forms); i++) {
        if (strlen(forms[i]) == length && memcmp(forms[i], form, length) == 0)
            return (enum gw_form)i;
    }
    return GW_FORM_UNKNOWN;
}
