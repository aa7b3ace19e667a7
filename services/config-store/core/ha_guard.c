/* Guests under high availability change only while their node holds its lock. */
#include "core/ha_guard.h"

#include <string.h>

#include "atoll/ha/v1/state.atl.h"
#include "atoll/ha/v1/state.pb-c.h"
#include "ha/place.h"
#include "pure/codec.h"

struct guarding {
    const struct cfg_tree *tree;
    struct atl_arena *arena;
    struct cfg_ha_guarded *guarded;
    struct atl_error *err;
};

static const ProtobufCMessage *message_at(const struct guarding *guarding, const struct atl_message *table,
                                          const char *path)
{
    const struct cfg_file *file = cfg_tree_get(guarding->tree, path);
    return file != NULL ? atl_unpack(table, file->bytes, file->size, guarding->arena) : NULL;
}

/* The manager's record of a guest that it looks after; NULL: it does not. */
static const Atoll__Ha__V1__Service *service_of(const struct guarding *guarding,
                                                const struct cfg_guest_path *guest)
{
    const char *path = atl_arena_format(guarding->arena, ATL_HA_SERVICE "%s:%" PRIu32,
                                        guest->type == CFG_QEMU ? "vm" : "ct", guest->vmid);
    const Atoll__Ha__V1__Service *service = (const void *)message_at(guarding, &atl_msg_ha_v1_Service, path);
    return service != NULL && strcmp(service->state, "ignored") != 0 ? service : NULL;
}

static enum atl_code add(const struct guarding *guarding, const char *path)
{
    struct cfg_ha_guarded *guarded = guarding->guarded;
    const struct cfg_file *file = cfg_tree_get(guarding->tree, path);
    for (size_t i = 0; i < guarded->count; i++)
        if (strcmp(guarded->compares[i].path, path) == 0)
            return ATL_OK;
    if (guarded->count == CFG_TXN_COMPARES_MAX)
        return atl_fail(guarding->err, ATL_E_LIMIT, NULL, "too many guests under high availability at once");
    guarded->compares[guarded->count++] =
        (struct cfg_compare){.kind = file != NULL ? CFG_AT_REVISION : CFG_ABSENT,
                             .path = path,
                             .epoch = guarding->tree->epoch,
                             .number = file != NULL ? file->number : 0};
    return ATL_OK;
}

static enum atl_code guard(const struct guarding *guarding, const char *node, bool must_hold)
{
    const char *path = atl_arena_format(guarding->arena, ATL_HA_LOCK "%s", node);
    const Atoll__Ha__V1__NodeLock *lock = (const void *)message_at(guarding, &atl_msg_ha_v1_NodeLock, path);
    if (lock != NULL && lock->fenced)
        return atl_fail(guarding->err, ATL_E_STATE, NULL,
                        "node '%s' is fenced, its guests are being recovered: try again later", node);
    if (lock == NULL && must_hold)
        return atl_fail(guarding->err, ATL_E_STATE, NULL,
                        "node '%s' does not hold its lock of high availability: no such guest may run there",
                        node);
    const char *beat_path = atl_arena_format(guarding->arena, ATL_HA_BEAT "%s", node);
    const Atoll__Ha__V1__Beat *beat = (const void *)message_at(guarding, &atl_msg_ha_v1_Beat, beat_path);
    bool armed = beat != NULL && beat->armed && lock != NULL && beat->incarnation == lock->incarnation;
    if (must_hold && !armed)
        return atl_fail(guarding->err, ATL_E_STATE, NULL,
                        "the watchdog of node '%s' does not run yet: no such guest may run there", node);
    return add(guarding, path);
}

static bool may_run(const Atoll__Ha__V1__Service *service)
{
    static const char *const idle[] = {
        "stopped", "error", "freeze", "recovery", "fence", "relocate", "request_start_balance", NULL};
    for (const char *const *state = idle; *state != NULL; state++)
        if (strcmp(service->state, *state) == 0)
            return false;
    return true;
}

enum atl_code cfg_ha_guard(const struct cfg_tree *tree, const struct cfg_txn *txn, struct atl_arena *arena,
                           struct cfg_ha_guarded *ret_guarded, struct atl_error *err)
{
    const struct guarding guarding = {.tree = tree, .arena = arena, .guarded = ret_guarded, .err = err};
    enum atl_code code = ATL_OK;
    ret_guarded->compares = atl_arena_array(arena, struct cfg_compare, CFG_TXN_COMPARES_MAX);
    ret_guarded->count = txn->compare_count;
    if (txn->compare_count > 0)
        memcpy(ret_guarded->compares, txn->compares, txn->compare_count * sizeof *txn->compares);
    for (size_t i = 0; i < txn->op_count && code == ATL_OK; i++) {
        const struct cfg_op *op = &txn->ops[i];
        struct cfg_guest_path from = cfg_guest_path(op->path);
        struct cfg_guest_path to = cfg_guest_path(op->kind == CFG_RENAME ? op->to : op->path);
        const Atoll__Ha__V1__Service *service =
            from.type != CFG_NO_GUEST ? service_of(&guarding, &from) : NULL;
        if (service == NULL)
            continue;
        code = guard(&guarding, from.node, false);
        if (code == ATL_OK && to.type != CFG_NO_GUEST && strcmp(from.node, to.node) != 0)
            code = guard(&guarding, to.node, may_run(service));
    }
    return code;
}
