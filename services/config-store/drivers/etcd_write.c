/*
 * One write: a transaction that compares, and records its request in the same breath. When nobody knows
 * whether it was done, the same transaction is sent again: the recorded request tells. Before it is given up
 * for lost, the request's key is taken ("never"), so that an attempt that still wanders about cannot be done
 * later. Whoever tries the request again after that compares the key as it was taken.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/etcd_internal.h"

#define AGAIN     (20 * ATL_MS)
#define NO_QUORUM "the cluster has no quorum: the configuration can be read, not changed"

static void attempt(struct etcd_write *write);

static void end(struct etcd_write *write)
{
    struct etcd_write **link = &write->engine->writes;
    while (*link != write)
        link = &(*link)->next;
    *link = write->next;
    cfg_shared_done_fn *fn = write->fn;
    void *user = write->user;
    struct cfg_shared_result result = write->result;
    atl_timer_free(write->again);
    free(write);
    fn(&result, user);
}

static void fail(struct etcd_write *write, enum cfg_shared_outcome outcome, enum atl_code code,
                 const char *text)
{
    write->result = (struct cfg_shared_result){.outcome = outcome};
    (void)atl_fail(&write->result.error, code, NULL, "%s", text);
    end(write);
}

/* Decided by etcd; the answer waits until our copy shows it. */
static void decide(struct etcd_write *write, enum cfg_shared_outcome outcome, int64_t number,
                   int64_t wait_for)
{
    write->result.outcome = outcome;
    write->result.number = (uint64_t)number;
    write->revision = wait_for;
    write->decided = true;
    if (!write->engine->stale && write->engine->seen >= wait_for)
        end(write);
}

static struct etcd_write *find_fed(const struct etcd_engine *engine)
{
    struct etcd_write *write = engine->writes;
    while (write != NULL && (!write->decided || engine->stale || engine->seen < write->revision))
        write = write->next;
    return write;
}

void etcd_writes_fed(struct etcd_engine *engine)
{
    struct etcd_write *write = NULL;
    while ((write = find_fed(engine)) != NULL) /* its answer may bring the next one: from the start */
        end(write);
}

void etcd_writes_drop(struct etcd_engine *engine)
{
    while (engine->writes != NULL) {
        struct etcd_write *write = engine->writes;
        engine->writes = write->next;
        if (write->call != NULL)
            atl_etcd_cancel(write->call);
        atl_timer_free(write->again);
        free(write);
    }
}

/* Who renews a lock is to ask another node soon. Without a quorum of nodes no other change comes this far. */
static atl_ns patience(const struct etcd_write *write)
{
    for (size_t i = 0; i < write->plan->change_count; i++)
        if (strncmp(write->plan->changes[i].path, ".state/", 7) != 0)
            return ETCD_PATIENCE;
    return ETCD_GRACE;
}

/* May etcd have a leader again while the write can wait for it? */
static bool may_come_back(const struct etcd_write *write)
{
    const struct etcd_engine *engine = write->engine;
    atl_ns now = atl_loop_now(engine->loop);
    if (now >= write->began + patience(write))
        return false;
    return engine->writable || (engine->failing != 0 && now - engine->failing < patience(write));
}

static void on_again(void *user);

static void wait_a_little(struct etcd_write *write)
{
    write->again = atl_loop_timer(write->engine->loop, AGAIN, 0, on_again, write);
}

/* Nothing is sent while there is no leader: it would not be known whether it was done. */
static void on_again(void *user)
{
    struct etcd_write *write = user;
    write->again = NULL;
    if (write->open || write->engine->writable)
        attempt(write);
    else if (may_come_back(write))
        wait_a_little(write);
    else
        fail(write, CFG_SHARED_FAILED, ATL_E_UNAVAILABLE, NO_QUORUM);
}

static void failed(struct etcd_write *write, const struct atl_etcd_answer *answer)
{
    struct etcd_engine *engine = write->engine;
    if (answer->outcome == ATL_ETCD_UNKNOWN && !write->barring)
        write->open = true;
    if (answer->code == ATL_E_UNAVAILABLE || answer->code == ATL_E_DEADLINE)
        etcd_lost_sight(engine);
    if (!write->open && answer->code == ATL_E_UNAVAILABLE && may_come_back(write)) {
        wait_a_little(write);
    } else if (!write->open && answer->code == ATL_E_UNAVAILABLE) {
        fail(write, CFG_SHARED_FAILED, ATL_E_UNAVAILABLE, NO_QUORUM);
    } else if (!write->open) {
        if (answer->code == ATL_E_ABSENT) /* the lease is gone */
            engine->lease = 0;
        fail(write, CFG_SHARED_FAILED, answer->code == ATL_E_ABSENT ? ATL_E_UNAVAILABLE : answer->code,
             answer->error.text);
    } else if (atl_loop_now(engine->loop) >= write->deadline) {
        fail(write, CFG_SHARED_UNKNOWN, ATL_E_UNKNOWN,
             "the cluster's store did not answer: whether the change was made is not known");
    } else {
        wait_a_little(write);
    }
}

/* The request's key as it was when a compare did not hold; NULL: it was not there. */
static const Etcd__KeyValue *read_back(const Etcd__TxnResponse *txn)
{
    if (txn->n_responses != 1 ||
        txn->responses[0]->response_case != ETCD__RESPONSE_OP__RESPONSE_RESPONSE_RANGE ||
        txn->responses[0]->response_range->n_kvs == 0)
        return NULL;
    return txn->responses[0]->response_range->kvs[0];
}

/* An earlier try was given up, and cannot be done any more: this one is another. */
static void retake(struct etcd_write *write, int64_t barred, int64_t revision)
{
    if (write->barred == barred) { /* it was as we knew it: another compare does not hold */
        if (write->open) {
            write->barring = true;
            attempt(write);
        } else {
            decide(write, CFG_SHARED_LOST, 0, revision);
        }
        return;
    }
    write->barred = barred;
    write->open = write->barring = false; /* what is still on its way compared an older state of the key */
    if (atl_loop_now(write->engine->loop) >= write->deadline)
        fail(write, CFG_SHARED_FAILED, ATL_E_DEADLINE, "the cluster's store was too busy for this change");
    else
        attempt(write);
}

static void on_answer(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_write *write = user;
    write->call = NULL;
    const Etcd__TxnResponse *txn = (const void *)answer->message;
    if (answer->code != ATL_OK) {
        failed(write, answer);
        return;
    }
    int64_t revision = txn->header != NULL ? txn->header->revision : 0;
    const Etcd__KeyValue *record = txn->succeeded ? NULL : read_back(txn);
    if (txn->succeeded && write->barring) {
        decide(write, CFG_SHARED_LOST, 0, revision); /* the next try finds the key, and takes it over */
    } else if (txn->succeeded) {
        decide(write, CFG_SHARED_DONE, revision, write->plan->change_count > 0 ? revision : 0);
    } else if (record != NULL && record->value.len == strlen(CFG_ETCD_NEVER) &&
               memcmp(record->value.data, CFG_ETCD_NEVER, record->value.len) == 0) {
        retake(write, record->mod_revision, revision);
    } else if (record != NULL) { /* an earlier attempt, or an earlier request of that id */
        write->result.repeated = !write->open;
        decide(write, CFG_SHARED_DONE, record->mod_revision, record->mod_revision);
    } else if (write->open) {
        write->barring = true;
        attempt(write);
    } else {
        decide(write, CFG_SHARED_LOST, 0, revision);
    }
}

static void attempt(struct etcd_write *write)
{
    struct etcd_engine *engine = write->engine;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_etcd_txn txn;
    cfg_etcd_txn_init(&txn, &arena);
    if (write->barring) {
        ProtobufCBinaryData request = cfg_etcd_request_key(&arena, write->plan->epoch, write->id);
        (void)cfg_etcd_txn_compare(&txn, request, write->barred);
        cfg_etcd_txn_put(&txn, request, cfg_etcd_text(CFG_ETCD_NEVER), engine->lease);
        cfg_etcd_txn_else_read(&txn, request);
    } else {
        cfg_etcd_txn_plan(&txn, &(const struct cfg_etcd_request){.plan = write->plan,
                                                                 .seal = &engine->seal,
                                                                 .id = write->id,
                                                                 .barred = write->barred,
                                                                 .root_revision = write->root_revision,
                                                                 .lease = engine->lease});
    }
    atl_ns timeout = ETCD_WRITE_TIMEOUT << (write->attempts < 6 ? write->attempts / 2 : 3);
    write->attempts++;
    write->call = atl_etcd_call(engine->channel, ATL_ETCD_TXN, &txn.request.base, timeout, on_answer, write);
}

/* What is refused before anything is sent; from the loop, as all answers. */
static void on_refused(void *user)
{
    struct etcd_write *write = user;
    write->again = NULL;
    end(write);
}

static void refuse(struct etcd_write *write, enum atl_code code, const char *text)
{
    write->result.outcome = CFG_SHARED_FAILED;
    (void)atl_fail(&write->result.error, code, NULL, "%s", text);
    write->again = atl_loop_timer(write->engine->loop, 0, 0, on_refused, write);
}

void etcd_submit(void *self, const struct cfg_plan *plan, const uint8_t id[CFG_REQUEST_ID_SIZE],
                 cfg_shared_done_fn *fn, void *user)
{
    struct etcd_engine *engine = self;
    struct etcd_write *write = atl_new0(struct etcd_write);
    *write = (struct etcd_write){
        .engine = engine, .plan = plan, .root_revision = engine->root_revision, .fn = fn, .user = user};
    memcpy(write->id, id, sizeof write->id);
    write->began = atl_clock_monotonic();
    write->deadline = write->began + engine->options.write_timeout;
    write->next = engine->writes;
    engine->writes = write;
    if (engine->full && !plan->only_state)
        refuse(write, ATL_E_LIMIT,
               "the cluster's store is filled to 80 %: only removing is possible until there is space");
    else if (!may_come_back(write))
        refuse(write, ATL_E_UNAVAILABLE, NO_QUORUM);
    else if (engine->unreadable)
        refuse(write, ATL_E_STATE, engine->why);
    else if (engine->lease == 0)
        refuse(write, ATL_E_UNAVAILABLE, "the cluster's store is not ready yet");
    else if (!engine->writable)
        wait_a_little(write);
    else
        attempt(write);
}
