/* The shell of the status view: feeds it from commits, pushes and the clock. */
#include "view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/ha/v1/state.atl.h"
#include "atoll/store/v1/status.atl.h"
#include "ha/place.h"
#include "identity.h"
#include "pure/codec.h"
#include "reach.h"

#define TICK (2 * ATL_SECOND)

struct cfg_view {
    struct cfg *cfg;
    struct cfg_status *status;
    struct atl_timer *tick;
    bool pools_changed;
};

/* vm:100 or ct:101, by the manager's record of it. */
static void show_service(struct cfg_view *view, const char *sid, const struct cfg_file *file)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char *colon = strchr(sid, ':');
    if (colon == NULL)
        return;
    const Atoll__Ha__V1__Service *service = NULL;
    if (file != NULL)
        service = (const void *)atl_unpack(&atl_msg_ha_v1_Service, file->bytes, file->size, &arena);
    cfg_status_hastate(view->status, (uint32_t)strtoul(colon + 1, NULL, 10),
                       strncmp(sid, "vm:", 3) == 0 ? "vm" : "ct", service != NULL ? service->state : NULL);
}

static void find_service(struct cfg_view *view, const struct cfg_guest_path *guest)
{
    char path[64];
    int prefix = snprintf(path, sizeof path, "%s", ATL_HA_SERVICE);
    (void)snprintf(path + prefix, sizeof path - (size_t)prefix, "%s:%u",
                   guest->type == CFG_QEMU ? "vm" : "ct", guest->vmid);
    show_service(view, path + prefix, cfg_tree_get(cfg_store_tree(view->cfg->store), path));
}

static void on_change(const char *path, const struct cfg_file *file, void *user)
{
    struct cfg_view *view = user;
    struct cfg_guest_path guest = cfg_guest_path(path);
    if (guest.type != CFG_NO_GUEST) {
        cfg_status_guest(view->status, &guest, file != NULL ? (const char *)file->bytes : NULL);
        find_service(view, &guest);
        view->pools_changed = true;
    } else if (strncmp(path, ATL_HA_SERVICE, strlen(ATL_HA_SERVICE)) == 0) {
        show_service(view, path + strlen(ATL_HA_SERVICE), file);
    } else if (strcmp(path, CFG_USERS) == 0) {
        view->pools_changed = true;
    } else if (strncmp(path, ".state/key/", 11) == 0) {
        if (file != NULL)
            cfg_status_node(view->status, path + 11);
        else
            cfg_status_forget_node(view->status, path + 11);
    }
}

static void on_commit(void *user)
{
    struct cfg_view *view = user;
    if (view->pools_changed)
        cfg_status_pools(view->status, atl_keeper_acl(view->cfg->keeper));
    view->pools_changed = false;
}

static void on_tick(void *user)
{
    struct cfg_view *view = user;
    cfg_status_tick(view->status, atl_loop_now(view->cfg->loop));
}

/* Who says it: an agent of this node, or one of another node whose config-store passes it on; NULL: neither.
 */
static const char *source_of(const struct cfg *cfg, const struct atl_principal *principal,
                             const Atoll__Store__V1__PushRequest *push)
{
    bool relayed = strcmp(principal->service, "config-store") == 0;
    const char *node = principal->node != NULL ? principal->node : cfg->program->node;
    if (strcmp(push->node, node) != 0 || relayed != (principal->node != NULL))
        return NULL;
    return relayed ? push->source : principal->service;
}

static void handle_push(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    Atoll__Store__V1__PushReply reply = ATOLL__STORE__V1__PUSH_REPLY__INIT;
    const Atoll__Store__V1__PushRequest *push = (const void *)input;
    const struct atl_principal *principal = atl_request_principal(request);
    const char *source = source_of(cfg, principal, push);
    if (source == NULL) {
        cfg_refuse(request, ATL_E_DENIED, "node", "an agent speaks for its own node, '%s'",
                   cfg->program->node);
        return;
    }
    bool fits = cfg_status_push(cfg->view->status, source, push, atl_loop_now(cfg->loop));
    if (push->n_storage > 0)
        cfg_status_pools(cfg->view->status, atl_keeper_acl(cfg->keeper));
    bool missed = principal->node == NULL && cfg_reach_relay(cfg->reach, source, push);
    reply.has_want_full = 1;
    reply.want_full = !fits || missed;
    atl_request_reply(request, &reply.base);
}

struct cfg_view *cfg_view_new(struct cfg *cfg)
{
    struct cfg_view *view = atl_new0(struct cfg_view);
    view->cfg = cfg;
    view->status = cfg_status_new();
    cfg_status_node(view->status, cfg->program->node);
    const struct cfg_tree *tree = cfg_store_tree(cfg->store);
    for (size_t i = 0; i < tree->count; i++)
        on_change(tree->files[i]->path, tree->files[i], view);
    on_commit(view);
    cfg_store_on_commit(cfg->store, on_change, on_commit, view);
    view->tick = atl_loop_timer(cfg->loop, TICK, TICK, on_tick, view);
    static const struct atl_handler handlers[] = {{"Push", handle_push}};
    atl_bus_serve(cfg->bus, &atl_svc_store_v1_Status, handlers, ATL_COUNT(handlers), cfg);
    return view;
}

void cfg_view_free(struct cfg_view **pointer)
{
    struct cfg_view *view = *pointer;
    *pointer = NULL;
    if (view == NULL)
        return;
    atl_timer_free(view->tick);
    cfg_status_free(&view->status);
    free(view);
}

void cfg_view_member(struct cfg_view *view, const char *node, bool online)
{
    cfg_status_node(view->status, node);
    cfg_status_member(view->status, node, online);
}

struct cfg_status *cfg_view_status(struct cfg_view *view)
{
    return view->status;
}
