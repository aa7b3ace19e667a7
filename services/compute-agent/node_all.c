/* Methods that begin a task for many guests: which of them, in which order, to which nodes. */
#include "node_all.h"

#include <stdlib.h>
#include <string.h>

#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/cluster/v1/cluster.pb-c.h"
#include "atoll/node/v1/node.pb-c.h"
#include "atoll/node/v1/work.pb-c.h"
#include "core/config.h"
#include "core/drain.h"
#include "core/lxc_make.h"
#include "core/startup.h"
#include "ha.h"
#include "io/directory.h"

enum { WORKERS_DEFAULT = 4, WORKERS_MOST = 64 };

/* One guest of this node that is meant. */
struct chosen {
    const Atoll__Store__V1__GuestStatus *row;
    const char *text; /* its file */
    bool running;
};

struct choice { /* in the request's arena */
    struct cmp *cmp;
    struct atl_request *request;
    struct atl_arena *arena;
    const char *vms; /* "100,101", or NULL: all */
    const char *const *privileges;
    bool own_only; /* not those under high availability: ha-lrm has them */
    struct chosen *guests;
    size_t count;
    Atoll__Node__V1__AllSpec spec;
    const char *type; /* of the task */
};

/* --- which -----------------------------------------------------------------------------------------------
 */

static bool is_wanted(const struct choice *choice, uint32_t vmid)
{
    return choice->vms == NULL || choice->vms[0] == '\0' ||
           cmp_list_has(choice->vms, atl_arena_format(choice->arena, "%" PRIu32, vmid));
}

static enum atl_code add_guest(struct choice *choice, const Atoll__Store__V1__GuestStatus *row,
                               struct atl_error *err)
{
    struct cmp *cmp = choice->cmp;
    bool container = strcmp(row->type, "lxc") == 0;
    const char *kind = container ? "lxc" : "qemu-server";
    const struct atl_file *file = cmp_config_file(cmp, kind, row->vmid);
    if (choice->own_only && cmp_ha_managed(cmp, kind, row->vmid))
        return ATL_OK;
    if (file == NULL || !is_wanted(choice, row->vmid))
        return ATL_OK;
    enum atl_code code =
        atl_keeper_need(cmp->keeper, atl_request_principal(choice->request),
                        atl_arena_format(choice->arena, "/vms/%" PRIu32, row->vmid), choice->privileges, err);
    if (code == ATL_E_DENIED && choice->vms == NULL)
        return ATL_OK; /* of all: those he may */
    if (code != ATL_OK)
        return code;
    choice->guests[choice->count++] =
        (struct chosen){.row = row,
                        .text = atl_arena_strndup(choice->arena, file->bytes, file->size),
                        .running = row->status != NULL && strcmp(row->status, "stopped") != 0};
    return ATL_OK;
}

static enum atl_code choose(struct choice *choice, struct atl_error *err)
{
    struct cmp *cmp = choice->cmp;
    enum atl_code code = ATL_OK;
    if (!atl_mirror_ready(cmp->mirror))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the node's guests are not known yet, try again");
    for (size_t i = 0; i < cmp->part_count && code == ATL_OK; i++) {
        struct cmp_status status = {.arena = choice->arena};
        if (cmp->parts[i]->status == NULL)
            continue;
        cmp->parts[i]->status(cmp->selves[i], &status);
        struct chosen *more =
            atl_arena_array(choice->arena, struct chosen, choice->count + status.guest_count + 1);
        if (choice->count > 0)
            memcpy(more, choice->guests, choice->count * sizeof *more);
        choice->guests = more;
        for (size_t k = 0; k < status.guest_count && code == ATL_OK; k++)
            code = add_guest(choice, status.guests[k], err);
    }
    return code;
}

/* What the file says before its first section. */
static const char *said(const struct choice *choice, const struct chosen *guest, const char *name)
{
    const char *section = strstr(guest->text, "\n[");
    size_t length = section != NULL ? (size_t)(section - guest->text) : strlen(guest->text);
    return cmp_lxc_option(atl_arena_strndup(choice->arena, guest->text, length), name, choice->arena);
}

static bool is_set(const struct choice *choice, const struct chosen *guest, const char *name)
{
    const char *value = said(choice, guest, name);
    return value != NULL && strcmp(value, "1") == 0;
}

/* --- the order -------------------------------------------------------------------------------------------
 */

static Atoll__Node__V1__AllItem *add_item(struct choice *choice, const struct chosen *guest, uint32_t group)
{
    Atoll__Node__V1__AllItem *item = atl_arena_new(choice->arena, Atoll__Node__V1__AllItem);
    atoll__node__v1__all_item__init(item);
    item->vmid = guest->row->vmid;
    item->type = guest->row->type;
    item->group = group;
    choice->spec.item[choice->spec.n_item++] = item;
    return item;
}

static const struct chosen *find(const struct choice *choice, uint32_t vmid)
{
    const struct chosen *guest = choice->guests;
    while (guest->row->vmid != vmid)
        guest++;
    return guest;
}

/* Those that pass, as their `startup` says; the list lives in the arena. */
static struct cmp_startup *in_order(struct choice *choice,
                                    bool (*passes)(const struct choice *, const struct chosen *),
                                    size_t *ret_count)
{
    struct cmp_startup *list = atl_arena_array(choice->arena, struct cmp_startup, choice->count + 1);
    size_t count = 0;
    for (size_t i = 0; i < choice->count; i++) {
        const char *startup = said(choice, &choice->guests[i], "startup");
        if (passes(choice, &choice->guests[i]))
            cmp_startup_parse(startup, choice->guests[i].row->vmid, &list[count++]);
    }
    cmp_startup_sort(list, count);
    *ret_count = count;
    return list;
}

/* --- the task --------------------------------------------------------------------------------------------
 */

static void init(struct choice *choice, struct atl_request *request, struct cmp *cmp, const char *verb)
{
    *choice = (struct choice){.cmp = cmp, .request = request, .arena = atl_request_arena(request)};
    atoll__node__v1__all_spec__init(&choice->spec);
    choice->spec.node = atl_arena_strdup(choice->arena, cmp->options.node);
    choice->spec.verb = atl_arena_strdup(choice->arena, verb);
    const char *workers = cmp_datacenter(cmp, "max_workers", choice->arena);
    unsigned long wanted = workers != NULL ? strtoul(workers, NULL, 10) : 0;
    choice->spec.workers = wanted > 0 && wanted <= WORKERS_MOST ? (uint32_t)wanted : WORKERS_DEFAULT;
}

static void begin(struct choice *choice)
{
    cmp_task_reply(choice->cmp, choice->request, choice->type, "", &choice->spec.base);
}

static void refuse(struct choice *choice, const struct atl_error *error)
{
    atl_request_fail(choice->request, error, NULL);
}

static const char *const may_power[] = {"VM.PowerMgmt", NULL};
static const char *const may_migrate[] = {"VM.Migrate", NULL};

/* Whom the method is meant for; the gateway asks the right one, the command line at the machine asks us. */
static enum atl_code need_own(const struct choice *choice, const char *node, struct atl_error *err)
{
    const char *own = choice->cmp->options.node;
    if (strcmp(node, own) != 0 && strcmp(node, "localhost") != 0)
        return atl_fail(err, ATL_E_UNAVAILABLE, "node", "this is node '%s', not '%s'", own, node);
    return ATL_OK;
}

static enum atl_code choose_for(struct choice *choice, const char *vms, const char *const *privileges,
                                struct atl_error *err)
{
    choice->vms = vms;
    choice->privileges = privileges;
    enum atl_code code = choose(choice, err);
    choice->spec.item = atl_arena_array(choice->arena, Atoll__Node__V1__AllItem *, choice->count + 1);
    choice->spec.stays = atl_arena_array(choice->arena, char *, choice->count + 1);
    return code;
}

/* Those of this node that the user may start and stop; false: the request is refused. */
static bool choose_own(struct choice *choice, const char *node, const char *vms)
{
    struct atl_error error = {0};
    choice->own_only = true;
    if (need_own(choice, node, &error) == ATL_OK && choose_for(choice, vms, may_power, &error) == ATL_OK)
        return true;
    refuse(choice, &error);
    return false;
}

/* --- start, stop, suspend --------------------------------------------------------------------------------
 */

static bool starts_with_node(const struct choice *choice, const struct chosen *guest)
{
    return !guest->running && !is_set(choice, guest, "template") &&
           (choice->spec.force_stop || is_set(choice, guest, "onboot"));
}

void node_start_all(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Node__V1__StartAllRequest *in = (const Atoll__Node__V1__StartAllRequest *)input;
    struct choice *choice = atl_arena_new(atl_request_arena(request), struct choice);
    size_t count = 0;
    init(choice, request, user, "start");
    choice->type = "startall";
    if (in->has_max_workers)
        choice->spec.workers = in->max_workers;
    if (!choose_own(choice, in->node, in->vms))
        return;
    choice->spec.force_stop = in->has_force && in->force; /* those that do not start with the node, too */
    const struct cmp_startup *list = in_order(choice, starts_with_node, &count);
    uint32_t group = 0;
    for (size_t i = 0; i < count; i++) {
        group += i > 0 && !cmp_startup_together(list, i);
        Atoll__Node__V1__AllItem *item = add_item(choice, find(choice, list[i].vmid), group);
        item->has_wait_s = true;
        item->wait_s = list[i].up_s;
    }
    begin(choice);
}

static bool runs(const struct choice *choice, const struct chosen *guest)
{
    (void)choice;
    return guest->running;
}

void node_stop_all(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Node__V1__StopAllRequest *in = (const Atoll__Node__V1__StopAllRequest *)input;
    struct choice *choice = atl_arena_new(atl_request_arena(request), struct choice);
    size_t left = 0;
    init(choice, request, user, "stop");
    choice->type = "stopall";
    if (in->has_max_workers)
        choice->spec.workers = in->max_workers;
    if (!choose_own(choice, in->node, in->vms))
        return;
    choice->spec.has_force_stop = choice->spec.has_timeout_s = true;
    choice->spec.force_stop = !in->has_force_stop || in->force_stop;
    choice->spec.timeout_s = in->has_timeout ? in->timeout : CMP_DOWN_DEFAULT_S;
    const struct cmp_startup *list = in_order(choice, runs, &left);
    for (uint32_t group = 0; left > 0; group++) {
        for (size_t size = cmp_shutdown_group(list, left); size > 0; size--) {
            left--;
            Atoll__Node__V1__AllItem *item = add_item(choice, find(choice, list[left].vmid), group);
            item->has_down_s = true;
            item->down_s = list[left].down_s;
        }
    }
    begin(choice);
}

void node_suspend_all(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Node__V1__SuspendAllRequest *in = (const Atoll__Node__V1__SuspendAllRequest *)input;
    struct choice *choice = atl_arena_new(atl_request_arena(request), struct choice);
    init(choice, request, user, "suspend");
    choice->type = "suspendall";
    if (in->has_max_workers)
        choice->spec.workers = in->max_workers;
    if (!choose_own(choice, in->node, in->vms))
        return;
    for (size_t i = 0; i < choice->count; i++)
        if (choice->guests[i].running && strcmp(choice->guests[i].row->type, "qemu") == 0)
            (void)add_item(choice, &choice->guests[i], 0); /* nothing more to say of it */
    begin(choice);
}

/* --- migrate ---------------------------------------------------------------------------------------------
 */

static enum atl_code check_target(const struct choice *choice, const char *target, struct atl_error *err)
{
    if (strcmp(target, choice->cmp->options.node) == 0)
        return atl_fail(err, ATL_E_INVALID, "target", "'%s' is where the guests are already", target);
    if (atl_directory_node(choice->cmp->program->directory, target) == NULL)
        return atl_fail(err, ATL_E_INVALID, "target", "no such cluster node '%s'", target);
    return ATL_OK;
}

void node_migrate_all(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Node__V1__MigrateAllRequest *in = (const Atoll__Node__V1__MigrateAllRequest *)input;
    struct choice *choice = atl_arena_new(atl_request_arena(request), struct choice);
    struct atl_error error = {0};
    init(choice, request, user, "migrate");
    choice->type = "migrateall";
    if (in->has_max_workers)
        choice->spec.workers = in->max_workers;
    enum atl_code code = need_own(choice, in->node, &error);
    if (code == ATL_OK)
        code = check_target(choice, in->target, &error);
    if (code == ATL_OK)
        code = choose_for(choice, in->vms, may_migrate, &error);
    if (code != ATL_OK) {
        refuse(choice, &error);
        return;
    }
    choice->spec.has_with_local_disks = in->has_with_local_disks;
    choice->spec.with_local_disks = in->with_local_disks;
    for (size_t i = 0; i < choice->count; i++)
        add_item(choice, &choice->guests[i], 0)->target = in->target;
    begin(choice);
}

/* --- drain -----------------------------------------------------------------------------------------------
 */

struct draining {
    struct choice choice;
    const Atoll__Node__V1__DrainRequest *in;
};

static size_t nodes_with_room(const struct draining *draining,
                              const Atoll__Cluster__V1__ListNodesReply *reply, struct cmp_drain_node *nodes)
{
    size_t count = 0;
    for (size_t i = 0; i < reply->n_entry; i++) {
        const Atoll__Cluster__V1__NodesRow *row = reply->entry[i];
        const char *wanted = draining->in->target;
        bool meant = wanted == NULL || wanted[0] == '\0' || cmp_list_has(wanted, row->node);
        if (!meant || strcmp(row->status, "online") != 0 || row->maxmem <= row->mem ||
            strcmp(row->node, draining->choice.cmp->options.node) == 0)
            continue;
        nodes[count++] =
            (struct cmp_drain_node){.name = row->node, .free_bytes = (uint64_t)(row->maxmem - row->mem)};
    }
    return count;
}

static void place(struct draining *draining, struct cmp_drain_node *nodes, size_t node_count)
{
    struct choice *choice = &draining->choice;
    struct cmp_drain_guest *guests =
        atl_arena_array(choice->arena, struct cmp_drain_guest, choice->count + 1);
    for (size_t i = 0; i < choice->count; i++) {
        const struct chosen *guest = &choice->guests[i];
        guests[i] = (struct cmp_drain_guest){
            .vmid = guest->row->vmid,
            .memory_bytes = guest->running && guest->row->has_maxmem ? guest->row->maxmem : 0};
    }
    cmp_drain_place(guests, choice->count, nodes, node_count);
    for (size_t i = 0; i < choice->count; i++) {
        if (guests[i].target != NULL)
            add_item(choice, find(choice, guests[i].vmid), 0)->target =
                atl_arena_strdup(choice->arena, guests[i].target);
        else
            choice->spec.stays[choice->spec.n_stays++] = atl_arena_format(
                choice->arena, "guest %" PRIu32 " stays: no other node has %" PRIu64 " MiB of memory free",
                guests[i].vmid, guests[i].memory_bytes >> 20);
    }
}

static void nodes_known(const struct atl_reply *reply, void *user)
{
    struct draining *draining = user;
    struct choice *choice = &draining->choice;
    if (reply->code != ATL_OK) {
        refuse(choice, &reply->error);
        return;
    }
    const Atoll__Cluster__V1__ListNodesReply *list =
        (const Atoll__Cluster__V1__ListNodesReply *)reply->output;
    struct cmp_drain_node *nodes = atl_arena_array(choice->arena, struct cmp_drain_node, list->n_entry + 1);
    place(draining, nodes, nodes_with_room(draining, list, nodes));
    begin(choice);
}

void node_drain(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct draining *draining = atl_arena_new(atl_request_arena(request), struct draining);
    struct choice *choice = &draining->choice;
    struct atl_error error = {0};
    draining->in = (const Atoll__Node__V1__DrainRequest *)input;
    init(choice, request, user, "migrate");
    choice->type = "drain";
    if (draining->in->has_max_workers)
        choice->spec.workers = draining->in->max_workers;
    choice->spec.has_with_local_disks = true;
    choice->spec.with_local_disks = !draining->in->has_with_local_disks || draining->in->with_local_disks;
    if (need_own(choice, draining->in->node, &error) != ATL_OK ||
        choose_for(choice, draining->in->vms, may_migrate, &error) != ATL_OK) {
        refuse(choice, &error);
        return;
    }
    Atoll__Cluster__V1__ListNodesRequest list = ATOLL__CLUSTER__V1__LIST_NODES_REQUEST__INIT;
    const struct atl_call_options options = {.parent = request};
    (void)atl_bus_call(choice->cmp->bus, &atl_rpc_cluster_v1_Cluster_ListNodes, &list.base, &options,
                       nodes_known, draining);
}
