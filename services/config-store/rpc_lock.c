/* Lock, RenewLock, Unlock: who waits for a lock, and until when. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "atoll/store/v1/store.atl.h"
#include "cfg.h"
#include "core/lock.h"

enum { WAITERS_MAX = 1024 };

struct waiter {
    struct waiter *next; /* in the order of coming */
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Store__V1__LockRequest *input; /* lives with the request */
    struct atl_timer *end;                      /* gives up */
    struct atl_timer *retry;                    /* the holder's time is over */
};

struct cfg_locks {
    struct cfg *cfg;
    struct waiter *first;
    size_t count;
    bool looking;
};

struct lock_answer { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const char *path; /* NULL: of Unlock */
};

static int64_t wall_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void answer_lock(const struct cfg_store_result *result, void *user)
{
    const struct lock_answer *answer = user;
    if (result->code != ATL_OK) {
        atl_request_fail(answer->request, &result->error, NULL);
        return;
    }
    if (answer->path == NULL) {
        Atoll__Store__V1__UnlockReply unlocked = ATOLL__STORE__V1__UNLOCK_REPLY__INIT;
        atl_request_reply(answer->request, &unlocked.base);
        return;
    }
    Atoll__Bus__V1__Revision revision = ATOLL__BUS__V1__REVISION__INIT;
    revision.has_epoch = revision.has_number = 1;
    revision.epoch = cfg_store_revision(answer->cfg->store).epoch;
    revision.number = result->number;
    Atoll__Store__V1__LockReply reply = ATOLL__STORE__V1__LOCK_REPLY__INIT;
    reply.revision = &revision;
    reply.path = atl_arena_strdup(atl_request_arena(answer->request), answer->path);
    atl_request_reply(answer->request, &reply.base);
}

static void do_plan(struct cfg *cfg, struct atl_request *request, const struct cfg_lock_plan *plan,
                    bool unlock)
{
    struct lock_answer *answer = atl_arena_new(atl_request_arena(request), struct lock_answer);
    *answer = (struct lock_answer){.cfg = cfg, .request = request, .path = unlock ? NULL : plan->op.path};
    const struct cfg_txn txn = {.ops = &plan->op, .op_count = 1};
    /* No request id: taking a lock twice by its owner is the same as once. */
    cfg_store_txn(cfg->store, &txn, NULL, answer_lock, answer);
}

static void drop(struct cfg_locks *locks, struct waiter *waiter)
{
    struct waiter **link = &locks->first;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    locks->count--;
    atl_timer_free(waiter->end);
    atl_timer_free(waiter->retry);
    free(waiter);
}

static void on_retry(void *user);

/* Takes the lock if it is free, and answers; else waits for the holder's end. True: answered. */
static bool try_lock(struct waiter *waiter)
{
    struct cfg *cfg = waiter->cfg;
    int64_t now = wall_ms();
    struct cfg_lock_plan plan =
        cfg_lock_take(cfg_store_ahead(cfg->store), waiter->input->name, waiter->input->owner,
                      waiter->input->ttl_ms, now, atl_request_arena(waiter->request));
    if (plan.verdict == CFG_LOCK_TAKE) {
        atl_request_on_cancel(waiter->request, NULL, NULL);
        do_plan(cfg, waiter->request, &plan, false);
        return true;
    }
    atl_timer_free(waiter->retry);
    waiter->retry = atl_loop_timer(cfg->loop, (plan.expires_ms - now + 1) * ATL_MS, 0, on_retry, waiter);
    return false;
}

static bool still_waits(const struct cfg_locks *locks, const struct waiter *waiter)
{
    const struct waiter *at = locks->first;
    while (at != NULL && at != waiter)
        at = at->next;
    return at != NULL;
}

static void on_retry(void *user)
{
    struct waiter *waiter = user;
    struct cfg_locks *locks = waiter->cfg->locks;
    waiter->retry = NULL;
    /* What waits for the end of the round is committed first: that may free a lock, and answer whoever waits.
     */
    (void)cfg_store_tree(locks->cfg->store);
    if (still_waits(locks, waiter) && try_lock(waiter))
        drop(locks, waiter);
}

static void on_end(void *user)
{
    struct waiter *waiter = user;
    waiter->end = NULL;
    struct atl_request *request = waiter->request;
    const char *name = waiter->input->name;
    atl_request_on_cancel(request, NULL, NULL);
    drop(waiter->cfg->locks, waiter);
    cfg_refuse(request, ATL_E_CONFLICT, "name", "can't lock '%s' - got timeout", name);
}

static void on_cancel(struct atl_request *request, void *user)
{
    struct waiter *waiter = user;
    drop(waiter->cfg->locks, waiter);
    cfg_refuse(request, ATL_E_CANCELLED, NULL, "the caller has gone");
}

/* A lock's file changed: those who wait for it are asked in the order they came. */
static void on_change(const char *path, const struct cfg_file *file, void *user)
{
    struct cfg_locks *locks = user;
    if (file == NULL && strncmp(path, CFG_LOCK_FOLDER, strlen(CFG_LOCK_FOLDER)) == 0)
        locks->looking = true;
}

static void on_commit(void *user)
{
    struct cfg_locks *locks = user;
    if (!locks->looking)
        return;
    locks->looking = false;
    struct waiter *next = NULL;
    for (struct waiter *waiter = locks->first; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (try_lock(waiter))
            drop(locks, waiter);
    }
}

/* False: refused, answered. */
static bool check_names(struct atl_request *request, const char *name, const char *owner)
{
    struct atl_error error;
    if (cfg_lock_check(name, owner, &error) == ATL_OK)
        return true;
    atl_request_fail(request, &error, NULL);
    return false;
}

void cfg_handle_lock(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__LockRequest *lock = (const void *)input;
    if (!check_names(request, lock->name, lock->owner))
        return;
    struct cfg_lock_plan plan = cfg_lock_take(cfg_store_ahead(cfg->store), lock->name, lock->owner,
                                              lock->ttl_ms, wall_ms(), atl_request_arena(request));
    if (plan.verdict == CFG_LOCK_TAKE) {
        do_plan(cfg, request, &plan, false);
        return;
    }
    uint32_t wait_ms = lock->has_wait_ms ? lock->wait_ms : 0;
    if (wait_ms == 0 || cfg->locks->count == WAITERS_MAX) {
        cfg_refuse(request, ATL_E_CONFLICT, "name", "can't lock '%s' - got timeout", lock->name);
        return;
    }
    struct waiter *waiter = atl_new0(struct waiter);
    *waiter = (struct waiter){.cfg = cfg, .request = request, .input = lock};
    struct waiter **last = &cfg->locks->first;
    while (*last != NULL)
        last = &(*last)->next;
    *last = waiter;
    cfg->locks->count++;
    waiter->end = atl_loop_timer(cfg->loop, wait_ms * ATL_MS, 0, on_end, waiter);
    waiter->retry =
        atl_loop_timer(cfg->loop, (plan.expires_ms - wall_ms() + 1) * ATL_MS, 0, on_retry, waiter);
    atl_request_on_cancel(request, on_cancel, waiter);
}

void cfg_handle_renew_lock(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__LockRequest *lock = (const void *)input;
    if (!check_names(request, lock->name, lock->owner))
        return;
    struct cfg_lock_plan plan = cfg_lock_renew(cfg_store_ahead(cfg->store), lock->name, lock->owner,
                                               lock->ttl_ms, wall_ms(), atl_request_arena(request));
    if (plan.verdict == CFG_LOCK_TAKE)
        do_plan(cfg, request, &plan, false);
    else
        cfg_refuse(request, ATL_E_CONFLICT, "name", "the lock '%s' is lost", lock->name);
}

void cfg_handle_unlock(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__UnlockRequest *lock = (const void *)input;
    if (!check_names(request, lock->name, lock->owner))
        return;
    struct cfg_lock_plan plan =
        cfg_lock_release(cfg_store_ahead(cfg->store), lock->name, lock->owner, atl_request_arena(request));
    if (plan.verdict == CFG_LOCK_DROP) {
        do_plan(cfg, request, &plan, true);
        return;
    }
    Atoll__Store__V1__UnlockReply reply = ATOLL__STORE__V1__UNLOCK_REPLY__INIT;
    atl_request_reply(request, &reply.base); /* it is not the caller's any more: that is what he wants */
}

struct cfg_locks *cfg_locks_new(struct cfg *cfg)
{
    struct cfg_locks *locks = atl_new0(struct cfg_locks);
    locks->cfg = cfg;
    cfg_store_on_commit(cfg->store, on_change, on_commit, locks);
    return locks;
}

void cfg_locks_free(struct cfg_locks **pointer)
{
    struct cfg_locks *locks = *pointer;
    *pointer = NULL;
    if (locks == NULL)
        return;
    while (locks->first != NULL) {
        struct atl_request *request = locks->first->request;
        atl_request_on_cancel(request, NULL, NULL);
        drop(locks, locks->first);
        cfg_refuse(request, ATL_E_UNAVAILABLE, NULL, "config-store is stopping");
    }
    free(locks);
}
