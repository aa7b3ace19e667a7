/* Whether etcd is well: confirmed reads, the lease of recorded requests, space, compaction. */
#include <stdlib.h>
#include <string.h>

#include "drivers/etcd_internal.h"
#include "io/log.h"

/* --- confirmed reads ---------------------------------------------------------------------------------- */

static void on_confirm_timer(void *user)
{
    struct etcd_engine *engine = user;
    engine->confirm_timer = NULL;
    etcd_confirm(engine, NULL, NULL);
}

/* An etcd that answers stays in use while it has no leader for a moment: the next one in the list may be the
 * one whose loss brought the election about. */
static bool is_worth_leaving(const struct etcd_engine *engine, enum atl_code code, atl_ns now)
{
    return code == ATL_E_DEADLINE || (code != ATL_OK && now - engine->failing >= ETCD_PATIENCE);
}

/* The engine's own look at etcd, once a second: whether it can be written. */
static void take_own_confirm(struct etcd_engine *engine, enum atl_code code, const struct atl_error *error)
{
    atl_ns now = atl_loop_now(engine->loop);
    if (code == ATL_OK)
        engine->failing = 0;
    else if (engine->failing == 0)
        engine->failing = now;
    bool writable = code == ATL_OK || (engine->writable && now - engine->failing < ETCD_GRACE);
    if (engine->writable != writable)
        atl_log(writable ? ATL_NOTICE : ATL_WARNING, writable ? "quorum" : "no-quorum",
                "the cluster's store %s: %s", writable ? "can be written" : "is read-only",
                writable ? "it has a leader" : error->text);
    engine->writable = writable;
    engine->looking = false;
    if (is_worth_leaving(engine, code, now))
        atl_grpc_rotate(engine->channel);
    engine->confirm_timer = atl_loop_timer(
        engine->loop, code == ATL_OK ? ETCD_CONFIRM_EVERY : ETCD_CONFIRM_AGAIN, 0, on_confirm_timer, engine);
}

static void end_confirm(struct etcd_confirm *confirm, enum atl_code code, const struct atl_error *error)
{
    struct etcd_engine *engine = confirm->engine;
    cfg_shared_confirm_fn *fn = confirm->fn;
    void *user = confirm->user;
    if (code == ATL_OK && confirm->began > engine->confirmed)
        engine->confirmed = confirm->began;
    struct etcd_confirm **link = &engine->confirms;
    while (*link != confirm)
        link = &(*link)->next;
    *link = confirm->next;
    free(confirm);
    if (fn == NULL)
        take_own_confirm(engine, code, error);
    else
        fn(code == ATL_OK ? ATL_OK : ATL_E_UNAVAILABLE, error, user);
}

static struct etcd_confirm *find_fed(const struct etcd_engine *engine)
{
    struct etcd_confirm *confirm = engine->confirms;
    while (confirm != NULL && (confirm->call != NULL || engine->stale || engine->seen < confirm->revision))
        confirm = confirm->next;
    return confirm;
}

void etcd_confirms_fed(struct etcd_engine *engine)
{
    struct etcd_confirm *confirm = NULL;
    while ((confirm = find_fed(engine)) != NULL) /* its callback may bring the next one: from the start */
        end_confirm(confirm, ATL_OK, NULL);
}

static void on_confirmed(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_confirm *confirm = user;
    struct etcd_engine *engine = confirm->engine;
    const Etcd__RangeResponse *range = (const void *)answer->message;
    confirm->call = NULL;
    if (answer->code != ATL_OK || range->header == NULL) {
        end_confirm(confirm, answer->code != ATL_OK ? answer->code : ATL_E_INTERNAL, &answer->error);
        return;
    }
    confirm->revision = range->header->revision;
    if (!engine->stale && engine->seen >= confirm->revision)
        end_confirm(confirm, ATL_OK, NULL);
}

/* A linearizable read of anything tells the revision up to which all was decided. */
void etcd_confirm(void *self, cfg_shared_confirm_fn *fn, void *user)
{
    struct etcd_engine *engine = self;
    struct etcd_confirm *confirm = atl_new0(struct etcd_confirm);
    *confirm = (struct etcd_confirm){
        .engine = engine, .fn = fn, .user = user, .began = atl_clock_monotonic(), .next = engine->confirms};
    engine->confirms = confirm;
    if (fn == NULL)
        engine->looking = true;
    Etcd__RangeRequest request = ETCD__RANGE_REQUEST__INIT;
    request.key = cfg_etcd_text(CFG_ETCD_ROOT);
    request.keys_only = 1;
    confirm->call = atl_etcd_call(engine->channel, ATL_ETCD_RANGE, &request.base, ETCD_CALL_TIMEOUT,
                                  on_confirmed, confirm);
}

void etcd_lost_sight(struct etcd_engine *engine)
{
    if (engine->confirm_timer == NULL)
        return; /* it is looking already */
    atl_timer_free(engine->confirm_timer);
    engine->confirm_timer = atl_loop_timer(engine->loop, 0, 0, on_confirm_timer, engine);
}

/* --- the lease, the space ----------------------------------------------------------------------------- */

static void on_lease(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_engine *engine = user;
    const Etcd__LeaseGrantResponse *grant = (const void *)answer->message;
    engine->lease_call = NULL;
    if (grant == NULL || grant->id == 0)
        return; /* asked again with the next upkeep */
    engine->lease = grant->id;
    engine->lease_born = atl_clock_wall_seconds();
}

static void keep_lease(struct etcd_engine *engine)
{
    int64_t age = atl_clock_wall_seconds() - engine->lease_born;
    if (engine->lease != 0 && age >= 0 && age < ETCD_LEASE_USED)
        return;
    if (age > 2 * ETCD_LEASE_USED)
        engine->lease = 0; /* what is recorded with it might go too early */
    if (engine->lease_call != NULL)
        return;
    Etcd__LeaseGrantRequest request = ETCD__LEASE_GRANT_REQUEST__INIT;
    request.ttl = ETCD_LEASE_SECONDS;
    engine->lease_call = atl_etcd_call(engine->channel, ATL_ETCD_LEASE_GRANT, &request.base,
                                       ETCD_CALL_TIMEOUT, on_lease, engine);
}

static void on_status(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_engine *engine = user;
    const Etcd__StatusResponse *status = (const void *)answer->message;
    engine->upkeep_call = NULL;
    if (status == NULL || status->db_size < 0)
        return;
    bool full = (uint64_t)status->db_size >= engine->options.quota_bytes / 100 * ETCD_FULL_PERCENT;
    if (full != engine->full)
        atl_log(full ? ATL_ERROR : ATL_NOTICE, full ? "store-full" : "store-has-space",
                "etcd's database has %" PRId64 " of %" PRIu64 " bytes", status->db_size,
                engine->options.quota_bytes);
    engine->full = full;
    if (full)
        etcd_space_hurry(engine->space);
    engine->database_bytes = (uint64_t)status->db_size;
    engine->used_bytes = status->db_size_in_use > 0 ? (uint64_t)status->db_size_in_use : 0;
}

static void on_upkeep(void *user)
{
    struct etcd_engine *engine = user;
    bool starting = engine->lease == 0;
    keep_lease(engine);
    if (engine->upkeep_call == NULL) {
        Etcd__StatusRequest request = ETCD__STATUS_REQUEST__INIT;
        engine->upkeep_call = atl_etcd_call(engine->channel, ATL_ETCD_STATUS, &request.base,
                                            ETCD_CALL_TIMEOUT, on_status, engine);
    }
    etcd_space_ask(engine->space);
    engine->upkeep_timer =
        atl_loop_timer(engine->loop, starting ? ETCD_CONFIRM_AGAIN : ETCD_UPKEEP_EVERY, 0, on_upkeep, engine);
}

/* --- compaction --------------------------------------------------------------------------------------- */

static void on_compact(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_engine *engine = user;
    engine->compact_call = NULL;
    if (answer->code == ATL_OK || answer->code == ATL_E_RANGE) /* another node was faster */
        engine->compacted = engine->compacting;
    else
        atl_log(ATL_WARNING, "compaction-failed", "%s; trying again later", answer->error.text);
}

void etcd_compact(struct etcd_engine *engine, int64_t revision)
{
    Etcd__CompactionRequest request = ETCD__COMPACTION_REQUEST__INIT;
    if (revision <= 0 || engine->compact_call != NULL)
        return;
    request.revision = engine->compacting = revision;
    request.physical = 1; /* answered when the space is free to be given back */
    engine->compact_call = atl_etcd_call(engine->channel, ATL_ETCD_COMPACT, &request.base, ETCD_CALL_TIMEOUT,
                                         on_compact, engine);
}

/* Every node asks for it, so it needs no leader among them: what is compacted already is no harm. A watcher
 * that is further behind than one period lists again. */
static void on_compact_timer(void *user)
{
    struct etcd_engine *engine = user;
    etcd_compact(engine, engine->compact_to);
    engine->compact_to = engine->seen;
}

void etcd_keep_start(struct etcd_engine *engine)
{
    atl_ns every = engine->options.compact_every;
    engine->compact_timer = atl_loop_timer(engine->loop, every, every, on_compact_timer, engine);
    engine->space = etcd_space_new(engine);
    etcd_confirm(engine, NULL, NULL);
    on_upkeep(engine);
}

void etcd_keep_stop(struct etcd_engine *engine)
{
    while (engine->confirms != NULL) {
        struct etcd_confirm *confirm = engine->confirms;
        engine->confirms = confirm->next;
        if (confirm->call != NULL)
            atl_etcd_cancel(confirm->call);
        free(confirm);
    }
    if (engine->lease_call != NULL)
        atl_etcd_cancel(engine->lease_call);
    if (engine->upkeep_call != NULL)
        atl_etcd_cancel(engine->upkeep_call);
    if (engine->compact_call != NULL)
        atl_etcd_cancel(engine->compact_call);
    etcd_space_free(&engine->space);
    atl_timer_free(engine->compact_timer);
    atl_timer_free(engine->confirm_timer);
    atl_timer_free(engine->upkeep_timer);
}
