/* Moves for balance: what is shown of them; and beside those of resources: guests without high availability
 * move through their node's compute-agent. What comes of it is seen in the next figures; the limit by the
 * hour counts what was asked for. */
#include <string.h>

#include "atoll/lxc/v1/lxc.pb-c.h"
#include "atoll/qemu/v1/qemu.pb-c.h"
#include "atoll/task/v1/common.pb-c.h"
#include "core/crm.h"
#include "io/log.h"
#include "shell.h"

#define DEADLINE (10 * ATL_SECOND)

static void begun(const struct atl_reply *reply, void *user)
{
    const Atoll__Task__V1__TaskRef *ref = (const void *)reply->output;
    (void)user;
    if (reply->code == ATL_OK)
        atl_log(ATL_NOTICE, "balance-moves", "task %s", ref->upid);
    else
        atl_log(ATL_WARNING, "balance-not-moved", "%s", reply->error.text);
}

static bool is_container(const struct crm *crm, uint32_t vmid)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char *node = NULL;
    const char *type = crm_guest(crm, vmid, &arena, &node);
    return type != NULL && strcmp(type, "ct") == 0;
}

static void move(struct crm *crm, const Atoll__Ha__V1__Move *wanted)
{
    Atoll__Qemu__V1__MigrateRequest vm = ATOLL__QEMU__V1__MIGRATE_REQUEST__INIT;
    Atoll__Lxc__V1__MigrateRequest ct = ATOLL__LXC__V1__MIGRATE_REQUEST__INIT;
    const struct atl_call_options options = {.deadline = DEADLINE, .node = wanted->from};
    bool container = is_container(crm, wanted->vmid);
    vm.node = ct.node = wanted->from;
    vm.vmid = ct.vmid = wanted->vmid;
    vm.target = ct.target = wanted->to;
    vm.has_online = vm.online = vm.has_with_local_disks = vm.with_local_disks = true;
    ct.has_restart = ct.restart = true;
    (void)atl_bus_call(
        crm->bus, atl_contract_rpc(container ? "atoll.lxc.v1.Lxc.Migrate" : "atoll.qemu.v1.Qemu.Migrate"),
        container ? &ct.base : &vm.base, &options, begun, crm);
}

void crm_move_plain(struct crm *crm, const Atoll__Ha__V1__ManagerPlan *plan)
{
    for (size_t i = 0; i < plan->n_move; i++)
        move(crm, plan->move[i]);
}

/* --- what is shown --- */

static void add_rows(Atoll__Ha__V1__BalanceReply *reply, Atoll__Ha__V1__Move *const *moves, size_t count,
                     const char *kind, struct atl_arena *arena)
{
    for (size_t i = 0; i < count; i++) {
        Atoll__Ha__V1__BalanceRow *row = atl_arena_new(arena, Atoll__Ha__V1__BalanceRow);
        atoll__ha__v1__balance_row__init(row);
        row->kind = atl_arena_strdup(arena, kind);
        row->vmid = moves[i]->vmid;
        row->from = moves[i]->from;
        row->to = moves[i]->to;
        row->why = moves[i]->why;
        row->has_time = strcmp(kind, "moved") == 0;
        row->time = moves[i]->time;
        reply->entry[reply->n_entry++] = row;
    }
}

/* The core's own advice, as if it was asked to advise and had rested. */
static void show(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Ha__V1__ManagerView *view = crm_view_as_manager(user, arena);
    Atoll__Ha__V1__BalanceReply reply = ATOLL__HA__V1__BALANCE_REPLY__INIT;
    (void)input;
    view->has_balance_idle_ms = false;
    view->settings->rebalance = atl_arena_strdup(arena, "advise");
    const Atoll__Ha__V1__ManagerPlan *plan = crm_round(view, arena);
    reply.entry = atl_arena_array(arena, Atoll__Ha__V1__BalanceRow *, view->n_recent + plan->n_advice + 1);
    add_rows(&reply, view->recent, view->n_recent, "moved", arena);
    add_rows(&reply, plan->advice, plan->n_advice, "advice", arena);
    atl_request_reply(request, &reply.base);
}

void crm_rpc_balance(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_with_load(user, request, input, show);
}
