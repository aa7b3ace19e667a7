/*
 * The space of etcd's members: alarms are read; what compaction left free is given back, one member at a time
 * and by one node at a time; the alarm about space is ended when there is room again.
 */
#include <stdlib.h>
#include <string.h>

#include "core/space.h"
#include "drivers/etcd_internal.h"
#include "io/log.h"

#define SPACE_EVERY    (10 * ATL_MINUTE)
#define SPACE_SOON     ATL_SECOND /* after one member, or with an alarm: the next look */
#define DEFRAG_TIMEOUT (60 * ATL_SECOND)
#define LOCK           "/atoll/defragmentation"
enum { LOCK_SECONDS = 90 };

struct etcd_space {
    struct etcd_engine *engine;
    char *endpoints[ATL_GRPC_ENDPOINTS_MAX];
    size_t count;
    char *next[ATL_GRPC_ENDPOINTS_MAX]; /* from the next round on */
    size_t next_count;                  /* 0: the same as now */
    bool tls;
    char *files[4];          /* of atl_grpc_tls */
    struct atl_timer *timer; /* NULL: a round is under way */
    bool soon;               /* the next round has been brought forward */
    struct atl_etcd_call *call;
    /* a round */
    struct atl_grpc *member; /* a channel to one of them alone */
    struct cfg_space_member members[ATL_GRPC_ENDPOINTS_MAX];
    int64_t tidied[ATL_GRPC_ENDPOINTS_MAX]; /* what was compacted when it was defragmented; 0: it was not */
    size_t at;
    int64_t lease; /* of the lock; 0: none */
    struct atl_etcd_call *alarm_call;
    uint64_t full[ATL_GRPC_ENDPOINTS_MAX]; /* members with the alarm about space */
    size_t full_count;
    bool corrupt;
};

static void end_round(struct etcd_space *space, atl_ns again);

/* --- the alarms --------------------------------------------------------------------------------------- */

static void on_disarmed(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_space *space = user;
    (void)answer; /* whether it is over is asked */
    space->call = NULL;
    if (space->alarm_call != NULL)
        atl_etcd_cancel(space->alarm_call); /* its answer may be from before */
    space->alarm_call = NULL;
    etcd_space_ask(space);
    end_round(space, SPACE_SOON);
}

/* One after the other: each look ends one. */
static void disarm(struct etcd_space *space)
{
    Etcd__AlarmRequest request = ETCD__ALARM_REQUEST__INIT;
    request.action = ETCD__ALARM_REQUEST__ACTION__DEACTIVATE;
    request.alarm = ETCD__ALARM_TYPE__NOSPACE;
    request.member_id = space->full[space->full_count - 1];
    space->call = atl_etcd_call(space->engine->channel, ATL_ETCD_ALARM, &request.base, ETCD_CALL_TIMEOUT,
                                on_disarmed, space);
}

static void on_timer(void *user);

void etcd_space_hurry(struct etcd_space *space)
{
    if (space->timer == NULL)
        return; /* a round is under way */
    etcd_compact(space->engine, space->engine->seen);
    if (space->soon)
        return; /* this is asked more often than SPACE_SOON: it must not be put off again */
    atl_timer_free(space->timer);
    space->timer = atl_loop_timer(space->engine->loop, SPACE_SOON, 0, on_timer, space);
    space->soon = true;
}

static void on_alarms(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_space *space = user;
    const Etcd__AlarmResponse *alarms = (const void *)answer->message;
    space->alarm_call = NULL;
    if (alarms == NULL)
        return;
    size_t before = space->full_count;
    bool corrupt = false;
    space->full_count = 0;
    for (size_t i = 0; i < alarms->n_alarms; i++) {
        corrupt |= alarms->alarms[i]->alarm == ETCD__ALARM_TYPE__CORRUPT;
        if (alarms->alarms[i]->alarm == ETCD__ALARM_TYPE__NOSPACE &&
            space->full_count < ATL_COUNT(space->full))
            space->full[space->full_count++] = alarms->alarms[i]->member_id;
    }
    if (corrupt && !space->corrupt)
        atl_log(ATL_ERROR, "store-corrupt", "etcd says that a member's data differ from the others'");
    if (space->full_count > 0 && before == 0)
        atl_log(ATL_ERROR, "store-alarm", "etcd takes no more changes until it has space; making some");
    if (space->full_count == 0 && before > 0)
        atl_log(ATL_NOTICE, "store-alarm-over", "etcd takes changes again");
    space->corrupt = corrupt;
    if (space->full_count > 0)
        etcd_space_hurry(space);
}

void etcd_space_ask(struct etcd_space *space)
{
    Etcd__AlarmRequest request = ETCD__ALARM_REQUEST__INIT;
    if (space->alarm_call == NULL)
        space->alarm_call = atl_etcd_call(space->engine->channel, ATL_ETCD_ALARM, &request.base,
                                          ETCD_CALL_TIMEOUT, on_alarms, space);
}

void etcd_space_alarms(const struct etcd_space *space, bool *ret_no_space, bool *ret_corrupt)
{
    *ret_no_space = space->full_count > 0;
    *ret_corrupt = space->corrupt;
}

/* --- a round ------------------------------------------------------------------------------------------ */

static void end_round(struct etcd_space *space, atl_ns again)
{
    atl_grpc_free(&space->member);
    space->timer = atl_loop_timer(space->engine->loop, again, 0, on_timer, space);
}

static bool connect_to(struct etcd_space *space, size_t at)
{
    const char *endpoint = space->endpoints[at];
    const struct atl_grpc_tls tls = {.ca_file = space->files[0],
                                     .cert_file = space->files[1],
                                     .key_file = space->files[2],
                                     .name = space->files[3]};
    const struct atl_grpc_options options = {.loop = space->engine->loop,
                                             .endpoints = &endpoint,
                                             .endpoint_count = 1,
                                             .tls = space->tls ? &tls : NULL,
                                             .connect_timeout = ATL_SECOND,
                                             .backoff_max = ATL_SECOND,
                                             .seed = space->engine->options.seed};
    atl_grpc_free(&space->member);
    return atl_grpc_new(&options, &space->member, NULL) == ATL_OK;
}

static void on_unlocked(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_space *space = user;
    (void)answer; /* else the lock runs out by itself */
    space->call = NULL;
    space->lease = 0;
    end_round(space, SPACE_SOON);
}

static void unlock(struct etcd_space *space)
{
    Etcd__LeaseRevokeRequest request = ETCD__LEASE_REVOKE_REQUEST__INIT;
    if (space->lease == 0) {
        end_round(space, SPACE_SOON);
        return;
    }
    request.id = space->lease;
    space->call = atl_etcd_call(space->engine->channel, ATL_ETCD_LEASE_REVOKE, &request.base,
                                ETCD_CALL_TIMEOUT, on_unlocked, space);
}

static void on_defragmented(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_space *space = user;
    const struct cfg_space_member *member = &space->members[space->at];
    space->call = NULL;
    if (answer->code == ATL_OK) {
        space->tidied[space->at] = space->engine->compacted;
        atl_log(ATL_NOTICE, "store-defragmented",
                "etcd at %s gave back what it did not use of %" PRIu64 " bytes", space->endpoints[space->at],
                member->bytes);
    } else {
        atl_log(ATL_WARNING, "defragmentation-failed", "etcd at %s: %s; trying again later",
                space->endpoints[space->at], answer->error.text);
    }
    unlock(space);
}

static void defragment(struct etcd_space *space)
{
    Etcd__DefragmentRequest request = ETCD__DEFRAGMENT_REQUEST__INIT;
    if (!connect_to(space, space->at))
        unlock(space);
    else
        space->call = atl_etcd_call(space->member, ATL_ETCD_DEFRAGMENT, &request.base, DEFRAG_TIMEOUT,
                                    on_defragmented, space);
}

static void on_locked(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_space *space = user;
    const Etcd__TxnResponse *txn = (const void *)answer->message;
    space->call = NULL;
    if (txn != NULL && txn->succeeded)
        defragment(space);
    else
        unlock(space); /* another node is at it */
}

static void on_lease(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_space *space = user;
    const Etcd__LeaseGrantResponse *grant = (const void *)answer->message;
    space->call = NULL;
    if (grant == NULL || grant->id == 0) {
        end_round(space, SPACE_EVERY);
        return;
    }
    space->lease = grant->id;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_etcd_txn txn;
    cfg_etcd_txn_init(&txn, &arena);
    (void)cfg_etcd_txn_compare(&txn, cfg_etcd_text(LOCK), 0);
    cfg_etcd_txn_put(&txn, cfg_etcd_text(LOCK), cfg_etcd_text(space->endpoints[space->at]), space->lease);
    space->call = atl_etcd_call(space->engine->channel, ATL_ETCD_TXN, &txn.request.base, ETCD_CALL_TIMEOUT,
                                on_locked, space);
}

/* All members have told how they are. */
static void act(struct etcd_space *space)
{
    struct etcd_engine *engine = space->engine;
    bool stopped = space->full_count > 0;
    int chosen = cfg_space_choose(space->members, space->count, stopped || engine->full);
    if (chosen < 0 && stopped &&
        cfg_space_is_ample(space->members, space->count, engine->options.quota_bytes)) {
        disarm(space);
        return;
    }
    if (chosen < 0) {
        end_round(space, stopped ? ETCD_UPKEEP_EVERY : engine->options.space_every);
        return;
    }
    space->at = (size_t)chosen;
    if (stopped) { /* no lock can be written then; and nothing can be written that a pause would delay */
        defragment(space);
        return;
    }
    Etcd__LeaseGrantRequest request = ETCD__LEASE_GRANT_REQUEST__INIT;
    request.ttl = LOCK_SECONDS;
    space->call = atl_etcd_call(engine->channel, ATL_ETCD_LEASE_GRANT, &request.base, ETCD_CALL_TIMEOUT,
                                on_lease, space);
}

static void look(struct etcd_space *space);

static void on_status(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_space *space = user;
    const Etcd__StatusResponse *status = (const void *)answer->message;
    struct cfg_space_member *member = &space->members[space->at];
    space->call = NULL;
    *member = (struct cfg_space_member){.answered = false};
    if (status != NULL && status->db_size >= 0 && status->db_size_in_use >= 0 && status->header != NULL)
        *member = (struct cfg_space_member){
            .answered = status->leader != 0,
            .leads = status->leader == status->header->member_id,
            .bytes = (uint64_t)status->db_size,
            .used = (uint64_t)status->db_size_in_use,
            .compacted = space->full_count > 0 && space->tidied[space->at] != space->engine->compacted};
    space->at++;
    if (space->at < space->count)
        look(space);
    else
        act(space);
}

static void look(struct etcd_space *space)
{
    Etcd__StatusRequest request = ETCD__STATUS_REQUEST__INIT;
    if (!connect_to(space, space->at)) {
        end_round(space, space->engine->options.space_every);
        return;
    }
    space->call =
        atl_etcd_call(space->member, ATL_ETCD_STATUS, &request.base, ETCD_CALL_TIMEOUT, on_status, space);
}

static void free_all(char **texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
}

void etcd_space_set_members(struct etcd_space *space, const char *const *endpoints, size_t count)
{
    atl_assert(count > 0);
    atl_assert(count <= ATL_COUNT(space->next));
    free_all(space->next, space->next_count);
    for (size_t i = 0; i < count; i++)
        space->next[i] = atl_strdup(endpoints[i]);
    space->next_count = count;
}

static void take_members(struct etcd_space *space)
{
    if (space->next_count == 0)
        return;
    free_all(space->endpoints, space->count);
    memcpy(space->endpoints, space->next, sizeof space->next);
    space->count = space->next_count;
    space->next_count = 0;
    memset(space->tidied, 0, sizeof space->tidied);
}

static void on_timer(void *user)
{
    struct etcd_space *space = user;
    space->timer = NULL;
    space->soon = false;
    space->at = 0;
    take_members(space);
    look(space);
}

/* --- start and end ------------------------------------------------------------------------------------ */

static char *copy(const char *text)
{
    return text != NULL ? atl_strdup(text) : NULL;
}

struct etcd_space *etcd_space_new(struct etcd_engine *engine)
{
    const struct cfg_shared_options *options = &engine->options;
    struct etcd_space *space = atl_new0(struct etcd_space);
    space->engine = engine;
    space->count = options->endpoint_count;
    for (size_t i = 0; i < space->count; i++)
        space->endpoints[i] = atl_strdup(options->endpoints[i]);
    space->tls = options->tls != NULL;
    if (space->tls) {
        space->files[0] = copy(options->tls->ca_file);
        space->files[1] = copy(options->tls->cert_file);
        space->files[2] = copy(options->tls->key_file);
        space->files[3] = copy(options->tls->name);
    }
    if (engine->options.space_every == 0)
        engine->options.space_every = SPACE_EVERY;
    space->timer = atl_loop_timer(engine->loop, engine->options.space_every, 0, on_timer, space);
    return space;
}

void etcd_space_free(struct etcd_space **pointer)
{
    struct etcd_space *space = *pointer;
    *pointer = NULL;
    if (space == NULL)
        return;
    if (space->call != NULL)
        atl_etcd_cancel(space->call);
    if (space->alarm_call != NULL)
        atl_etcd_cancel(space->alarm_call);
    atl_timer_free(space->timer);
    atl_grpc_free(&space->member);
    free_all(space->endpoints, space->count);
    free_all(space->next, space->next_count);
    for (size_t i = 0; i < ATL_COUNT(space->files); i++)
        free(space->files[i]);
    free(space);
}
