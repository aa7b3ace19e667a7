/* Lock, RenewLock, Unlock: who waits for a lock, and until when. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "atoll/store/v1/store.atl.h"
#include "cfg.h"
#include "core/lock.h"
#include "edit.h"

enum { WAITERS_MAX = 1024 };

/* A request for a lock, until it is answered. */
struct waiter {
    struct waiter *next; /* in the order of coming */
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Store__V1__LockRequest *input; /* lives with the request */
    const char *path;                           /* of the lock's file; while it is tried */
    struct atl_timer *end;                      /* gives up */
    struct atl_timer *retry;                    /* the holder's time is over */
    atl_ns ends;
    unsigned int tries;
    bool trying; /* the store decides whether he has it */
};

struct cfg_locks {
    struct cfg *cfg;
    struct waiter *first;
    size_t count;
    bool looking;           /* a lock was given back */
    struct atl_timer *soon; /* those who wait are asked again */
};

static int64_t wall_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void answer_lock(struct cfg *cfg, struct atl_request *request, const char *path, uint64_t number)
{
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Store__V1__LockReply reply = ATOLL__STORE__V1__LOCK_REPLY__INIT;
    reply.revision = cfg_new_revision(arena, cfg_store_revision(cfg->store).epoch, number);
    reply.path = atl_arena_strdup(arena, path);
    atl_request_reply(request, &reply.base);
}

/* --- taking ------------------------------------------------------------------------------------------- */

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

/* Takes him off the list; the request is still to be answered. */
static struct atl_request *take_off(struct cfg_locks *locks, struct waiter *waiter)
{
    struct atl_request *request = waiter->request;
    atl_request_on_cancel(request, NULL, NULL);
    drop(locks, waiter);
    return request;
}

static struct atl_request *leave(struct waiter *waiter)
{
    return take_off(waiter->cfg->locks, waiter);
}

static void give_up(struct waiter *waiter)
{
    const char *name = waiter->input->name; /* lives with the request */
    cfg_refuse(leave(waiter), ATL_E_CONFLICT, "name", "can't lock '%s' - got timeout", name);
}

static void on_end(void *user)
{
    struct waiter *waiter = user;
    waiter->end = NULL;
    give_up(waiter);
}

static void on_cancel(struct atl_request *request, void *user)
{
    struct waiter *waiter = user;
    drop(waiter->cfg->locks, waiter);
    cfg_refuse(request, ATL_E_CANCELLED, NULL, "the caller has gone");
}

/* One of ours at a time asks for a lock: of those who saw it free only one could have it. */
static bool is_tried(const struct cfg_locks *locks, const char *name)
{
    for (const struct waiter *at = locks->first; at != NULL; at = at->next)
        if (at->trying && strcmp(at->input->name, name) == 0)
            return true;
    return false;
}

static void on_retry(void *user);
static void on_soon(void *user);

static void on_taken(const struct cfg_store_result *result, void *user)
{
    struct waiter *waiter = user;
    struct cfg *cfg = waiter->cfg;
    struct cfg_locks *locks = cfg->locks;
    waiter->trying = false;
    if (locks->soon == NULL)
        locks->soon = atl_loop_timer(cfg->loop, 0, 0, on_soon, locks);
    if (result->code == ATL_E_CONFLICT) { /* another node was faster, with this lock or its end */
        if (waiter->tries >= CFG_TRIES_MAX && atl_loop_now(cfg->loop) >= waiter->ends)
            give_up(waiter);
        return;
    }
    const char *path = waiter->path;
    struct atl_request *request = leave(waiter);
    if (result->code == ATL_OK)
        answer_lock(cfg, request, path, result->number);
    else
        atl_request_fail(request, &result->error, NULL);
}

/* Asks for the lock if it is free; else waits for the holder's end, or gives up. May free the waiter. */
static void try_lock(struct waiter *waiter)
{
    struct cfg *cfg = waiter->cfg;
    int64_t now = wall_ms();
    if (waiter->trying || is_tried(cfg->locks, waiter->input->name))
        return; /* looked at again when that is decided */
    struct cfg_lock_plan plan =
        cfg_lock_take(cfg_store_ahead(cfg->store), waiter->input->name, waiter->input->owner,
                      waiter->input->ttl_ms, now, atl_request_arena(waiter->request));
    atl_timer_free(waiter->retry);
    atl_timer_free(waiter->end);
    waiter->retry = waiter->end = NULL;
    if (plan.verdict == CFG_LOCK_TAKE) {
        const struct cfg_txn txn = {.ops = &plan.op, .op_count = 1};
        atl_request_on_cancel(waiter->request, NULL, NULL);
        waiter->path = plan.op.path;
        waiter->trying = true;
        waiter->tries++;
        /* No request id: taking a lock twice by its owner is the same as once. */
        cfg_store_txn(cfg->store, &txn, NULL, on_taken, waiter);
        return;
    }
    atl_ns left = waiter->ends - atl_loop_now(cfg->loop);
    if (left <= 0) {
        give_up(waiter);
        return;
    }
    waiter->end = atl_loop_timer(cfg->loop, left, 0, on_end, waiter);
    waiter->retry = atl_loop_timer(cfg->loop, (plan.expires_ms - now + 1) * ATL_MS, 0, on_retry, waiter);
    atl_request_on_cancel(waiter->request, on_cancel, waiter);
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
    if (still_waits(locks, waiter))
        try_lock(waiter);
}

/* Those who wait are asked in the order they came. An answer at once may change the list behind our back, so
 * each is looked for again. */
static void look(struct cfg_locks *locks)
{
    struct waiter *waiting[WAITERS_MAX];
    size_t count = 0;
    for (struct waiter *waiter = locks->first; waiter != NULL; waiter = waiter->next)
        waiting[count++] = waiter;
    for (size_t i = 0; i < count; i++)
        if (still_waits(locks, waiting[i]))
            try_lock(waiting[i]);
}

static void on_soon(void *user)
{
    struct cfg_locks *locks = user;
    locks->soon = NULL;
    look(locks);
}

/* A lock's file changed. */
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
    look(locks);
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
    if (cfg->locks->count == WAITERS_MAX) {
        cfg_refuse(request, ATL_E_UNAVAILABLE, NULL, "too many wait for locks");
        return;
    }
    struct waiter *waiter = atl_new0(struct waiter);
    *waiter = (struct waiter){.cfg = cfg, .request = request, .input = lock};
    waiter->ends = atl_loop_now(cfg->loop) + (lock->has_wait_ms ? lock->wait_ms : 0) * ATL_MS;
    struct waiter **last = &cfg->locks->first;
    while (*last != NULL)
        last = &(*last)->next;
    *last = waiter;
    cfg->locks->count++;
    try_lock(waiter);
}

/* --- renewing, giving back ---------------------------------------------------------------------------- */

struct change { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Store__V1__LockRequest *renew; /* or */
    const Atoll__Store__V1__UnlockRequest *unlock;
    const char *path;
    unsigned int tries;
};

static void try_change(struct change *change);

static void answer_unlock(struct atl_request *request)
{
    Atoll__Store__V1__UnlockReply unlocked = ATOLL__STORE__V1__UNLOCK_REPLY__INIT;
    atl_request_reply(request, &unlocked.base);
}

static void on_changed(const struct cfg_store_result *result, void *user)
{
    struct change *change = user;
    if ((result->code == ATL_E_CONFLICT || (result->code == ATL_E_ABSENT && change->unlock != NULL)) &&
        ++change->tries < CFG_TRIES_MAX)
        try_change(change); /* it is another's by now, or was renewed at the same time */
    else if (result->code != ATL_OK)
        atl_request_fail(change->request, &result->error, NULL);
    else if (change->unlock != NULL)
        answer_unlock(change->request);
    else
        answer_lock(change->cfg, change->request, change->path, result->number);
}

static void try_change(struct change *change)
{
    struct cfg *cfg = change->cfg;
    const struct cfg_tree *tree = cfg_store_ahead(cfg->store);
    struct atl_arena *arena = atl_request_arena(change->request);
    struct cfg_lock_plan plan;
    if (change->unlock != NULL)
        plan = cfg_lock_release(tree, change->unlock->name, change->unlock->owner, arena);
    else
        plan = cfg_lock_renew(tree, change->renew->name, change->renew->owner, change->renew->ttl_ms,
                              wall_ms(), arena);
    if (plan.verdict == CFG_LOCK_TAKE || plan.verdict == CFG_LOCK_DROP) {
        const struct cfg_txn txn = {.ops = &plan.op, .op_count = 1};
        change->path = plan.op.path;
        cfg_store_txn(cfg->store, &txn, NULL, on_changed, change);
    } else if (change->unlock != NULL) {
        answer_unlock(change->request); /* it is not the caller's any more: that is what he wants */
    } else {
        cfg_refuse(change->request, ATL_E_CONFLICT, "name", "the lock '%s' is lost", change->renew->name);
    }
}

static struct change *new_change(struct cfg *cfg, struct atl_request *request)
{
    struct change *change = atl_arena_new(atl_request_arena(request), struct change);
    *change = (struct change){.cfg = cfg, .request = request};
    return change;
}

void cfg_handle_renew_lock(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Store__V1__LockRequest *lock = (const void *)input;
    if (!check_names(request, lock->name, lock->owner))
        return;
    struct change *change = new_change(user, request);
    change->renew = lock;
    try_change(change);
}

void cfg_handle_unlock(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Store__V1__UnlockRequest *lock = (const void *)input;
    if (!check_names(request, lock->name, lock->owner))
        return;
    struct change *change = new_change(user, request);
    change->unlock = lock;
    try_change(change);
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
        bool trying = locks->first->trying; /* whether he has it is not known: he is not answered */
        struct atl_request *request = take_off(locks, locks->first);
        if (!trying)
            cfg_refuse(request, ATL_E_UNAVAILABLE, NULL, "config-store is stopping");
    }
    atl_timer_free(locks->soon);
    free(locks);
}
