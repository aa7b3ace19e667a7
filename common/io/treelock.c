/* Locks in the tree. */
#include "io/treelock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "atoll/store/v1/store.atl.h"
#include "io/loop.h"

#define RETRY_AFTER (50 * ATL_MS)
#define WAIT_SLICE  (20 * ATL_SECOND) /* one call waits that long at most */

struct taking {
    struct atl_bus *bus;
    struct atl_treelock *lock;
    atl_treelock_fn *fn;
    void *user;
    atl_ns ends;
};

static void try_take(void *user);

static void name_owner(struct atl_treelock *lock, const char *name, const char *owner, uint32_t ttl_ms)
{
    uint64_t unique = 0;
    ssize_t got = getrandom(&unique, sizeof unique, 0);
    atl_assert(got == (ssize_t)sizeof unique);
    memset(lock, 0, sizeof *lock);
    lock->ttl_ms = ttl_ms;
    (void)atl_copy(lock->name, sizeof lock->name, name);
    (void)snprintf(lock->owner, sizeof lock->owner, "%.80s/%016" PRIx64, owner, unique);
}

static void timed_out(const struct atl_treelock *lock, struct atl_error *err)
{
    if (strncmp(lock->name, "guest-", 6) == 0)
        (void)atl_fail(err, ATL_E_CONFLICT, NULL,
                       "can't lock file '/var/lock/qemu-server/lock-%s.conf' - got timeout", lock->name + 6);
    else
        (void)atl_fail(err, ATL_E_CONFLICT, NULL, "can't lock '%s' - got timeout", lock->name);
}

static void finish(struct taking *taking, const struct atl_error *err)
{
    taking->fn(taking->lock, err, taking->user);
    free(taking);
}

static void on_lock(const struct atl_reply *reply, void *user)
{
    struct taking *taking = user;
    struct atl_treelock *lock = taking->lock;
    if (reply->code == ATL_OK) {
        const Atoll__Store__V1__LockReply *got = (const void *)reply->output;
        lock->held = true;
        lock->revision =
            (struct atl_revision){.epoch = got->revision->epoch, .number = got->revision->number};
        (void)atl_copy(lock->path, sizeof lock->path, got->path);
        finish(taking, NULL);
        return;
    }
    bool again =
        reply->code == ATL_E_CONFLICT || reply->code == ATL_E_UNAVAILABLE || reply->code == ATL_E_DEADLINE;
    if (again && atl_clock_monotonic() + RETRY_AFTER < taking->ends) {
        (void)atl_loop_timer(atl_bus_loop(taking->bus), RETRY_AFTER, 0, try_take, taking);
        return;
    }
    struct atl_error error = reply->error;
    if (again && reply->code != ATL_E_UNAVAILABLE)
        timed_out(lock, &error);
    finish(taking, &error);
}

static void try_take(void *user)
{
    struct taking *taking = user;
    atl_ns left = taking->ends - atl_clock_monotonic();
    if (left < 0)
        left = 0;
    if (left > WAIT_SLICE)
        left = WAIT_SLICE;
    Atoll__Store__V1__LockRequest request = ATOLL__STORE__V1__LOCK_REQUEST__INIT;
    request.name = taking->lock->name;
    request.owner = taking->lock->owner;
    request.ttl_ms = taking->lock->ttl_ms;
    request.has_wait_ms = 1;
    request.wait_ms = (uint32_t)(left / ATL_MS);
    struct atl_call_options options = {.deadline = left + 5 * ATL_SECOND};
    (void)atl_bus_call(taking->bus, &atl_rpc_store_v1_Store_Lock, &request.base, &options, on_lock, taking);
}

static void start(struct atl_bus *bus, atl_ns wait, struct atl_treelock *lock, atl_treelock_fn *fn,
                  void *user)
{
    struct taking *taking = atl_new0(struct taking);
    *taking = (struct taking){
        .bus = bus, .lock = lock, .fn = fn, .user = user, .ends = atl_clock_monotonic() + wait};
    try_take(taking);
}

void atl_treelock_take(struct atl_bus *bus, const char *name, uint32_t ttl_ms, atl_ns wait,
                       struct atl_treelock *lock, atl_treelock_fn *fn, void *user)
{
    name_owner(lock, name, "service", ttl_ms);
    start(bus, wait, lock, fn, user);
}

struct waiting {
    struct atl_error error;
    bool done;
};

static void on_taken(struct atl_treelock *lock, const struct atl_error *err, void *user)
{
    (void)lock;
    struct waiting *waiting = user;
    if (err != NULL)
        waiting->error = *err;
    waiting->done = true;
}

enum atl_code atl_treelock_wait(struct atl_bus *bus, const char *name, const char *owner, uint32_t ttl_ms,
                                atl_ns wait, struct atl_treelock *ret_lock, struct atl_error *err)
{
    struct waiting waiting = {.done = false};
    name_owner(ret_lock, name, owner, ttl_ms);
    start(bus, wait, ret_lock, on_taken, &waiting);
    while (!waiting.done)
        atl_loop_step(atl_bus_loop(bus), -1);
    if (ret_lock->held)
        return ATL_OK;
    if (err != NULL)
        *err = waiting.error;
    return waiting.error.code;
}

enum atl_code atl_treelock_renew_wait(struct atl_bus *bus, struct atl_treelock *lock, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    Atoll__Store__V1__LockRequest request = ATOLL__STORE__V1__LOCK_REQUEST__INIT;
    request.name = lock->name;
    request.owner = lock->owner;
    request.ttl_ms = lock->ttl_ms;
    const ProtobufCMessage *output = NULL;
    enum atl_code code =
        atl_bus_call_wait(bus, &atl_rpc_store_v1_Store_RenewLock, &request.base, NULL, &arena, &output, err);
    if (code != ATL_OK) {
        lock->held = lock->held && code == ATL_E_UNAVAILABLE; /* unknown: the ttl decides */
        return code;
    }
    const Atoll__Store__V1__LockReply *got = (const void *)output;
    lock->revision = (struct atl_revision){.epoch = got->revision->epoch, .number = got->revision->number};
    return ATL_OK;
}

static void prepare_unlock(struct atl_treelock *lock, Atoll__Store__V1__UnlockRequest *request)
{
    atoll__store__v1__unlock_request__init(request);
    request->name = lock->name;
    request->owner = lock->owner;
    lock->held = false;
}

void atl_treelock_release_wait(struct atl_bus *bus, struct atl_treelock *lock)
{
    if (!lock->held)
        return;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    Atoll__Store__V1__UnlockRequest request;
    prepare_unlock(lock, &request);
    const ProtobufCMessage *output = NULL;
    /* If it cannot be given back it ends by itself. */
    enum atl_code ended =
        atl_bus_call_wait(bus, &atl_rpc_store_v1_Store_Unlock, &request.base, NULL, &arena, &output, NULL);
    (void)ended;
}

static void on_unlocked(const struct atl_reply *reply, void *user)
{
    (void)reply;
    (void)user;
}

void atl_treelock_release(struct atl_bus *bus, struct atl_treelock *lock)
{
    if (!lock->held)
        return;
    Atoll__Store__V1__UnlockRequest request;
    prepare_unlock(lock, &request);
    (void)atl_bus_call(bus, &atl_rpc_store_v1_Store_Unlock, &request.base, NULL, on_unlocked, NULL);
}
