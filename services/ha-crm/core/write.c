/* What has changed in a round, as transactions of a hundred compares and operations each. */
#include <string.h>

#include "core/crm_part.h"
#include "ha/place.h"
#include "ha/txn.h"

enum { TXN_MAX = 100, BYTES_MAX = 700000 };

/* Transactions that all compare the same files first. */
struct batch {
    struct crm_round *round;
    const struct crm_node *node; /* whose lock is compared; NULL: none */
    struct atl_ha_txn txn;
    bool open;
    size_t bytes;
};

static void close_batch(struct batch *batch)
{
    struct crm_round *round = batch->round;
    Atoll__Ha__V1__ManagerPlan *plan = round->plan;
    if (!batch->open)
        return;
    plan->txn = atl_arena_grow(round->arena, plan->txn, plan->n_txn, &round->txn_room,
                               sizeof(Atoll__Store__V1__TxnRequest *));
    plan->txn[plan->n_txn++] = batch->txn.request;
    batch->open = false;
}

static const char *path_of(const struct crm_round *round, const char *folder, const char *name)
{
    return atl_arena_format(round->arena, "%s%s", folder, name);
}

/* A transaction with room for so much more. */
static struct atl_ha_txn *room(struct batch *batch, size_t compares, size_t operations, size_t bytes)
{
    struct crm_round *round = batch->round;
    const Atoll__Store__V1__TxnRequest *request = batch->txn.request;
    if (batch->open && (request->n_compare + compares > TXN_MAX ||
                        request->n_operation + operations > TXN_MAX || batch->bytes + bytes > BYTES_MAX))
        close_batch(batch);
    if (!batch->open) {
        batch->txn = atl_ha_txn_begin(round->arena);
        batch->open = true;
        batch->bytes = 0;
        atl_ha_txn_compare(&batch->txn, ATL_HA_MANAGER, round->view->manager_revision);
        if (batch->node != NULL)
            atl_ha_txn_compare(&batch->txn, path_of(round, ATL_HA_LOCK, batch->node->name),
                               batch->node->view->lock == NULL ? NULL : batch->node->view->lock_revision);
    }
    batch->bytes += bytes;
    return &batch->txn;
}

/* --- resources --- */

static void write_guest(struct batch *batch, const struct crm_guest *guest)
{
    struct crm_round *round = batch->round;
    const Atoll__Ha__V1__GuestView *view = guest->view;
    bool moves = guest->recovered && guest->move_to != CRM_NOWHERE;
    struct atl_ha_txn *txn = room(batch, 2, 2, protobuf_c_message_get_packed_size(&guest->service->base));
    const char *path = path_of(round, ATL_HA_SERVICE, guest->sid);
    atl_ha_txn_compare(txn, path, view->service == NULL ? NULL : view->service_revision);
    if (moves) {
        const char *folder = crm_is(view->type, "vm") ? "qemu-server" : "lxc";
        const char *from =
            atl_arena_format(round->arena, "nodes/%s/%s/%" PRIu32 ".conf", view->node, folder, view->vmid);
        const char *to = atl_arena_format(round->arena, "nodes/%s/%s/%" PRIu32 ".conf",
                                          round->node[guest->move_to].name, folder, view->vmid);
        if (view->revision != NULL)
            atl_ha_txn_compare(txn, from, view->revision);
        atl_ha_txn_rename(txn, from, to);
    }
    atl_ha_txn_put(txn, path, &guest->service->base);
}

/* Records of what is under high availability no longer. */
static void write_removed(struct batch *batch)
{
    struct crm_round *round = batch->round;
    for (size_t i = 0; i < round->guest_count; i++) {
        const struct crm_guest *guest = &round->guest[i];
        if (guest->view->service == NULL || guest->view->resource != NULL)
            continue;
        struct atl_ha_txn *txn = room(batch, 1, 1, 0);
        const char *path = path_of(round, ATL_HA_SERVICE, guest->sid);
        atl_ha_txn_compare(txn, path, guest->view->service_revision);
        atl_ha_txn_delete(txn, path);
        (void)crm_decide(round, guest->sid, guest->view->node, "forget",
                         "it is under high availability no longer");
    }
    const Atoll__Ha__V1__ManagerView *view = round->view;
    for (size_t i = 0; i < view->n_orphan && i < view->n_orphan_sid; i++) {
        struct atl_ha_txn *txn = room(batch, 1, 1, 0);
        const char *path = path_of(round, ATL_HA_SERVICE, view->orphan_sid[i]);
        if (i < view->n_orphan_revision)
            atl_ha_txn_compare(txn, path, view->orphan_revision[i]);
        atl_ha_txn_delete(txn, path);
        (void)crm_decide(round, view->orphan_sid[i], view->orphan[i]->node, "forget",
                         "there is no such guest");
    }
}

/* --- nodes --- */

static void put_record(struct crm_round *round, struct atl_ha_txn *txn, const struct crm_node *node)
{
    Atoll__Ha__V1__NodeRecord record = ATOLL__HA__V1__NODE_RECORD__INIT;
    const char *path = path_of(round, ATL_HA_NODE, node->name);
    record.state = atl_arena_strdup(round->arena, node->state);
    record.has_maintenance = record.maintenance = node->maintenance;
    record.has_since = round->view->has_wall;
    record.since = round->view->wall;
    atl_ha_txn_compare(txn, path, node->view->record == NULL ? NULL : node->view->record_revision);
    atl_ha_txn_put(txn, path, &record.base);
}

static bool record_stands(const struct crm_node *node)
{
    const Atoll__Ha__V1__NodeRecord *record = node->view->record;
    return record != NULL && crm_is(record->state, node->state) &&
           (record->maintenance != 0) == node->maintenance;
}

static void write_take_over(struct crm_round *round, const struct crm_node *node)
{
    struct batch batch = {.round = round, .node = node};
    const Atoll__Ha__V1__NodeView *view = node->view;
    struct atl_ha_txn *txn = room(&batch, 4, 2, 0);
    const char *beat = path_of(round, ATL_HA_BEAT, node->name);
    atl_ha_txn_compare(txn, beat, view->beat == NULL ? NULL : view->beat_revision);
    Atoll__Ha__V1__NodeLock lock = *view->lock;
    lock.has_fenced = lock.fenced = 1;
    lock.incarnation = round->view->incarnation;
    atl_ha_txn_put(txn, path_of(round, ATL_HA_LOCK, node->name), &lock.base);
    put_record(round, txn, node);
    for (int i = node->first_recovered; i != CRM_NOWHERE; i = round->guest[i].next_recovered)
        write_guest(&batch, &round->guest[i]);
    close_batch(&batch);
    round->plan->wake_ms = 1;
}

static void write_recovered(struct crm_round *round, const struct crm_node *node)
{
    struct batch batch = {.round = round, .node = node};
    for (int i = node->first_recovered; i != CRM_NOWHERE; i = round->guest[i].next_recovered)
        write_guest(&batch, &round->guest[i]);
    if (node->ground == CRM_GROUND_FENCED && !node->left_over) {
        struct atl_ha_txn *txn = room(&batch, 0, 2, 0);
        atl_ha_txn_delete(txn, path_of(round, ATL_HA_LOCK, node->name));
        if (node->view->beat != NULL)
            atl_ha_txn_delete(txn, path_of(round, ATL_HA_BEAT, node->name));
        (void)crm_decide(round, NULL, node->name, "free its lock", "all that could be recovered is");
    }
    close_batch(&batch);
}

static bool has_resources(const struct crm_round *round, const struct crm_node *node)
{
    for (size_t i = 0; i < round->guest_count; i++)
        if (round->guest[i].service != NULL && round->guest[i].at == (int)(node - round->node))
            return true;
    return false;
}

static void write_node(struct batch *batch, const struct crm_node *node)
{
    struct crm_round *round = batch->round;
    const Atoll__Ha__V1__NodeView *view = node->view;
    if (view->removed && view->lock == NULL && !has_resources(round, node)) {
        struct atl_ha_txn *txn = room(batch, 0, 3, 0);
        if (view->record != NULL)
            atl_ha_txn_delete(txn, path_of(round, ATL_HA_NODE, node->name));
        if (view->report != NULL)
            atl_ha_txn_delete(txn, path_of(round, ATL_HA_LRM, node->name));
        if (view->beat != NULL)
            atl_ha_txn_delete(txn, path_of(round, ATL_HA_BEAT, node->name));
        (void)crm_decide(round, NULL, node->name, "forget", "it does not belong to the cluster any more");
    } else if (!record_stands(node) && node->ground != CRM_GROUND_TAKE) {
        put_record(round, room(batch, 1, 1, 0), node);
        (void)crm_decide(round, NULL, node->name, node->state, "%s",
                         node->why_not != NULL ? node->why_not : "it takes resources");
    }
}

/* --- the rest --- */

static void write_arm(struct batch *batch)
{
    struct crm_round *round = batch->round;
    Atoll__Ha__V1__Arm arm = ATOLL__HA__V1__ARM__INIT;
    if (!round->arm_changed)
        return;
    arm.state = atl_arena_strdup(round->arena, round->arm);
    arm.resource_mode = crm_is(round->arm, "armed") ? NULL : atl_arena_strdup(round->arena, round->mode);
    struct atl_ha_txn *txn = room(batch, 1, 1, 0);
    atl_ha_txn_compare(txn, ATL_HA_ARM, round->view->arm == NULL ? NULL : round->view->arm_revision);
    atl_ha_txn_put(txn, ATL_HA_ARM, &arm.base);
}

static void write_moves(struct batch *batch)
{
    struct crm_round *round = batch->round;
    const Atoll__Ha__V1__ManagerView *view = round->view;
    Atoll__Ha__V1__Moves moves = ATOLL__HA__V1__MOVES__INIT;
    if (round->new_move == NULL)
        return;
    moves.move = atl_arena_array(round->arena, Atoll__Ha__V1__Move *, view->n_recent + 1);
    for (size_t i = 0; i < view->n_recent; i++)
        if (view->recent[i]->time > crm_wall(round) - 3600)
            moves.move[moves.n_move++] = view->recent[i];
    moves.move[moves.n_move++] = round->new_move;
    atl_ha_txn_put(room(batch, 0, 1, 0), ATL_HA_MOVES, &moves.base);
}

static void write_requests(struct batch *batch)
{
    struct crm_round *round = batch->round;
    for (size_t i = 0; i < round->view->n_request; i++) {
        if (!round->request_done[i])
            continue;
        struct atl_ha_txn *txn = room(batch, 1, 1, 0);
        const char *path = path_of(round, ATL_HA_REQUEST, round->request[i]->id);
        if (round->request[i]->revision != NULL)
            atl_ha_txn_compare(txn, path, round->request[i]->revision);
        atl_ha_txn_delete(txn, path);
    }
}

void crm_write(struct crm_round *round)
{
    struct batch batch = {.round = round};
    for (size_t i = 0; i < round->node_count; i++)
        if (round->node[i].ground == CRM_GROUND_TAKE)
            write_take_over(round, &round->node[i]);
    for (size_t i = 0; i < round->node_count; i++)
        if (round->node[i].ground != CRM_GROUND_TAKE)
            write_recovered(round, &round->node[i]);
    for (size_t i = 0; i < round->guest_count; i++)
        if (round->guest[i].changed && !round->guest[i].recovered && round->guest[i].view->resource != NULL)
            write_guest(&batch, &round->guest[i]);
    write_removed(&batch);
    for (size_t i = 0; i < round->node_count; i++)
        write_node(&batch, &round->node[i]);
    write_arm(&batch);
    write_moves(&batch);
    write_requests(&batch);
    close_batch(&batch);
}
