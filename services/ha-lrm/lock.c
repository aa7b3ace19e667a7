/* The node's lock: transactions about it, and what is known of it. */
#include <string.h>

#include "atoll/ha/v1/state.atl.h"
#include "atoll/store/v1/store.atl.h"
#include "ha/place.h"
#include "io/log.h"
#include "pure/codec.h"
#include "shell.h"

/* An answer later than that is worth nothing: the next attempt reads the tree anew. */
#define DEADLINE (1500 * ATL_MS)

static bool reached(struct atl_revision have, struct atl_revision wanted)
{
    return have.epoch > wanted.epoch || (have.epoch == wanted.epoch && have.number >= wanted.number);
}

/* What the transaction that was confirmed has made of the lock. */
static void confirmed(struct lrm *lrm, struct atl_revision revision)
{
    struct lrm_lock *lock = &lrm->lock;
    bool acquired = strcmp(lock->action, "acquire") == 0;
    bool released = strcmp(lock->action, "release") == 0;
    lock->waits = acquired;
    lock->known = true;
    lock->revision = revision;
    lock->absent = released;
    if (released)
        return;
    lock->releasing = false; /* it compared a beat that is replaced now */
    lock->has_renewed = true;
    lock->renewed_ms = lock->began_ms;
    lock->lost = false;
    for (size_t i = 0; i < lock->sent->n_operation; i++) {
        const Atoll__Store__V1__Operation *op = lock->sent->operation[i];
        bool whole = strncmp(op->path, ATL_HA_LOCK, strlen(ATL_HA_LOCK)) == 0;
        const ProtobufCMessage *message = atl_unpack(whole ? &atl_msg_ha_v1_NodeLock : &atl_msg_ha_v1_Beat,
                                                     op->content.data, op->content.len, &lock->arena);
        if (whole) {
            lock->lock = *(const Atoll__Ha__V1__NodeLock *)(const void *)message;
            lock->lock.node = (char *)(uintptr_t)lrm->node;
            lock->lock.boot = lrm->boot;
            lock->lock_revision = revision;
        } else {
            lock->sequence = ((const Atoll__Ha__V1__Beat *)(const void *)message)->sequence;
            lock->armed = ((const Atoll__Ha__V1__Beat *)(const void *)message)->armed;
        }
    }
    if (acquired)
        atl_log(ATL_NOTICE, "lock-held",
                "this node holds its lock and may run guests under high availability");
}

/* Of this very transaction: what the answer's header says may be newer. */
static struct atl_revision written_at(const Atoll__Store__V1__TxnReply *reply)
{
    return (struct atl_revision){.epoch = reply->revision->epoch, .number = reply->revision->number};
}

static void answered(const struct atl_reply *reply, void *user)
{
    struct lrm *lrm = user;
    struct lrm_lock *lock = &lrm->lock;
    lock->in_flight = false;
    if (reply->code == ATL_OK)
        confirmed(lrm, written_at((const void *)reply->output));
    else if (reply->code == ATL_E_CONFLICT)
        lock->known = false; /* somebody else wrote: the tree tells who, once our copy is as new */
    if (reply->code == ATL_E_CONFLICT)
        lock->revision = reply->revision;
    lrm_wake(lrm);
}

void lrm_lock_send(struct lrm *lrm, const char *action, const Atoll__Store__V1__TxnRequest *txn)
{
    struct lrm_lock *lock = &lrm->lock;
    /* Any config-store will do, if ours does not answer. */
    const struct atl_call_options options = {.deadline = DEADLINE, .node = ATL_ANY_NODE};
    size_t size = protobuf_c_message_get_packed_size(&txn->base);
    atl_arena_reset(&lock->arena);
    uint8_t *bytes = atl_arena_alloc(&lock->arena, size + 1);
    (void)protobuf_c_message_pack(&txn->base, bytes);
    lock->sent =
        (Atoll__Store__V1__TxnRequest *)atl_unpack(&atl_msg_store_v1_TxnRequest, bytes, size, &lock->arena);
    (void)atl_copy(lock->action, sizeof lock->action, action);
    lock->in_flight = true;
    lock->releasing |= strcmp(action, "release") == 0;
    lock->began_ms = lock->attempted_ms = lrm_now_ms();
    (void)atl_bus_call_packed(lrm->bus, atl_contract_rpc("atoll.store.v1.Store.Txn"), bytes, size, &options,
                              answered, lrm);
}

static Atoll__Bus__V1__Revision *revision_of(struct atl_revision revision, struct atl_arena *arena)
{
    Atoll__Bus__V1__Revision *out = atl_arena_new(arena, Atoll__Bus__V1__Revision);
    atoll__bus__v1__revision__init(out);
    out->has_epoch = out->has_number = true;
    out->epoch = revision.epoch;
    out->number = revision.number;
    return out;
}

static void from_copy(struct lrm *lrm, Atoll__Ha__V1__LrmView *view, struct atl_arena *arena)
{
    const struct atl_file *lock =
        atl_mirror_get(lrm->mirror, atl_arena_format(arena, ATL_HA_LOCK "%s", lrm->node));
    const struct atl_file *beat =
        atl_mirror_get(lrm->mirror, atl_arena_format(arena, ATL_HA_BEAT "%s", lrm->node));
    if (lock != NULL) {
        view->lock =
            (Atoll__Ha__V1__NodeLock *)atl_unpack(&atl_msg_ha_v1_NodeLock, lock->bytes, lock->size, arena);
        view->lock_revision = revision_of(lock->revision, arena);
    }
    if (beat != NULL) {
        view->beat = (Atoll__Ha__V1__Beat *)atl_unpack(&atl_msg_ha_v1_Beat, beat->bytes, beat->size, arena);
        view->beat_revision = revision_of(beat->revision, arena);
    }
}

static void from_answer(struct lrm *lrm, Atoll__Ha__V1__LrmView *view, struct atl_arena *arena)
{
    const struct lrm_lock *lock = &lrm->lock;
    if (lock->absent)
        return;
    Atoll__Ha__V1__Beat *beat = atl_arena_new(arena, Atoll__Ha__V1__Beat);
    atoll__ha__v1__beat__init(beat);
    beat->incarnation = lrm->incarnation;
    beat->sequence = lock->sequence;
    beat->has_armed = beat->armed = lock->armed;
    view->lock = atl_arena_copy(arena, &lock->lock, sizeof lock->lock);
    view->lock_revision = revision_of(lock->lock_revision, arena);
    view->beat = beat;
    view->beat_revision = revision_of(lock->revision, arena);
}

void lrm_lock_view(struct lrm *lrm, Atoll__Ha__V1__LrmView *view, struct atl_arena *arena)
{
    struct lrm_lock *lock = &lrm->lock;
    bool current = reached(atl_mirror_revision(lrm->mirror), lock->revision);
    if (lock->known && !current) {
        from_answer(lrm, view, arena);
    } else {
        from_copy(lrm, view, arena);
        /* What we hold is somebody else's now: nothing is fed before a new lock is held. */
        bool ours = view->lock != NULL && !view->lock->fenced && view->lock->incarnation == lrm->incarnation;
        if (lock->has_renewed && current && !ours && view->lock != NULL && !lock->in_flight)
            lock->lost = true;
    }
    view->has_in_flight = true;
    view->in_flight =
        lock->in_flight || (!lock->known && !current); /* our copy lacks what the refusal was made from */
    view->has_releasing = view->releasing = lock->releasing;
    view->has_renewed_ms = lock->has_renewed;
    view->renewed_ms = lock->renewed_ms;
    view->has_lost = true;
    view->lost = lock->lost;
    view->has_attempted_ms = lock->attempted_ms != 0;
    view->attempted_ms = lock->attempted_ms;
}

bool lrm_lock_waits(struct lrm *lrm)
{
    if (lrm->lock.waits && reached(atl_mirror_revision(lrm->mirror), lrm->lock.revision))
        lrm->lock.waits = false;
    return lrm->lock.waits;
}

void lrm_lock_done(struct lrm *lrm)
{
    atl_arena_done(&lrm->lock.arena);
}
