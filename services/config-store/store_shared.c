/*
 * The store with an engine that other nodes write too: a transaction is checked on our copy, sent with what
 * it was checked on as compares, and answered when the copy shows it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "ha/place.h"
#include "io/log.h"
#include "store_internal.h"

#define START_TIMEOUT    (30 * ATL_SECOND)
#define COPY_TIMEOUT     (3 * ATL_SECOND)
#define CONFIRMED        (3 * ATL_SECOND) /* the engine confirms the tree more often than that */
#define WRITABLE_TIMEOUT (5 * ATL_SECOND)

enum { TRIES_MAX = 5 };

struct cfg_pending {
    struct cfg_pending *next;
    struct cfg_store *store;
    struct atl_arena arena;
    struct cfg_txn txn;
    struct cfg_plan first; /* what the caller saw when it asked */
    struct cfg_plan plan;
    uint8_t id[CFG_REQUEST_ID_SIZE];
    unsigned int tries;
    cfg_store_done_fn *fn;
    void *user;
};

/* --- what is decided comes in ------------------------------------------------------------------------- */

static void feed_listing(void *user, uint64_t epoch)
{
    struct cfg_store *store = user;
    cfg_tree_done(&store->fresh);
    cfg_tree_init(&store->fresh, epoch);
    store->listing = true;
}

static void feed_file(void *user, const struct cfg_engine_change *file)
{
    struct cfg_store *store = user;
    struct cfg_batch scratch = {0};
    struct cfg_fed fed = {.path = file->path,
                          .bytes = file->bytes,
                          .size = file->size,
                          .number = file->number,
                          .at = file->number};
    if (!store->listing) {
        cfg_tree_feed(&store->tree, &fed, &store->batch);
        return;
    }
    cfg_tree_feed(&store->fresh, &fed, &scratch);
    cfg_batch_keep(&scratch);
    free(scratch.changes);
}

static void feed_request(void *user, const uint8_t id[CFG_REQUEST_ID_SIZE], uint64_t number)
{
    struct cfg_store *store = user;
    if (cfg_done_find(&store->done, id) == NULL)
        cfg_done_add(&store->done, id, number, atl_clock_wall_seconds());
}

/* Is the file as it was? The tree may come from a copy on this node, which nothing vouches for. */
static bool is_same(const struct cfg_file *old, const struct cfg_file *new)
{
    return old != NULL && old->number == new->number &&
           old->size == new->size &&memcmp(old->bytes, new->bytes, new->size) == 0;
}

/* The listing becomes the tree; those who follow it hear of the difference. */
static void take_listing(struct cfg_store *store, uint64_t number)
{
    struct cfg_tree *fresh = &store->fresh;
    bool follows = store->tree.epoch == fresh->epoch && store->tree.number <= number;
    for (size_t i = store->tree.count; i > 0; i--) {
        const struct cfg_file *old = store->tree.files[i - 1];
        if (cfg_tree_get(fresh, old->path) == NULL)
            cfg_tree_feed(&store->tree, &(const struct cfg_fed){.path = old->path, .at = number},
                          &store->batch);
    }
    for (size_t i = 0; i < fresh->count; i++) {
        const struct cfg_file *file = fresh->files[i];
        if (follows && is_same(cfg_tree_get(&store->tree, file->path), file))
            continue;
        cfg_tree_feed(&store->tree,
                      &(const struct cfg_fed){.path = file->path,
                                              .bytes = file->bytes,
                                              .size = file->size,
                                              .number = file->number,
                                              .at = number},
                      &store->batch);
    }
    store->tree.epoch = fresh->epoch;
    cfg_tree_done(fresh);
    store->listing = false;
    if (!follows) { /* revisions of another epoch, or ahead of it, mean nothing now: watchers list again */
        cfg_ring_done(&store->ring);
        cfg_ring_init(&store->ring, number);
    }
}

static void feed_changed(void *user, uint64_t number)
{
    struct cfg_store *store = user;
    if (store->listing)
        take_listing(store, number);
    store->loaded = true;
    store->tree.number = number;
    store->committed = number;
    for (size_t i = 0; store->copy != NULL && i < store->batch.count; i++) {
        const struct cfg_change *change = &store->batch.changes[i];
        cfg_copy_note(store->copy, change->new != NULL ? change->new->path : change->old->path);
    }
    cfg_store_tell(store);
    (void)cfg_done_forget(&store->done, atl_clock_wall_seconds()); /* the engine forgets by itself */
}

/* --- start and end ------------------------------------------------------------------------------------ */

static void wait_until_loaded(struct cfg_store *store, atl_ns timeout)
{
    atl_ns began = atl_clock_monotonic();
    while (!store->loaded && atl_clock_monotonic() - began < timeout)
        atl_loop_step(store->loop, 50 * ATL_MS);
}

static void wait_until_writable(struct cfg_store *store)
{
    bool writable = false;
    atl_ns began = atl_clock_monotonic();
    while (!writable && atl_clock_monotonic() - began < WRITABLE_TIMEOUT) {
        atl_loop_step(store->loop, 10 * ATL_MS);
        (void)cfg_store_age(store, &writable); /* without quorum it starts nevertheless, to be read */
    }
}

static void on_copy_timer(void *user)
{
    struct cfg_store *store = user;
    bool writable = false;
    if (cfg_store_age(store, &writable) < CONFIRMED)
        cfg_copy_confirmed(store->copy);
}

static enum atl_code open_copy(struct cfg_store *store, const struct cfg_store_options *options,
                               struct atl_error *err)
{
    const char *dir = options->engine.state_dir;
    if (dir == NULL || dir[0] == '\0')
        return ATL_OK;
    atl_ns age = 0;
    enum atl_code code = cfg_copy_open(store->loop, dir, &store->tree, &store->copy, &age, err);
    if (code == ATL_OK && age != 0)
        store->copied = atl_clock_monotonic() - age;
    if (code == ATL_OK)
        store->copy_timer = atl_loop_timer(store->loop, CONFIRMED, CONFIRMED, on_copy_timer, store);
    store->committed = store->tree.number;
    return code;
}

enum atl_code cfg_shared_open(struct cfg_store *store, const struct cfg_store_options *options,
                              struct atl_error *err)
{
    const struct cfg_shared_feed feed = {.user = store,
                                         .listing = feed_listing,
                                         .file = feed_file,
                                         .request = feed_request,
                                         .changed = feed_changed};
    store->shared = options->shared;
    store->turns = cfg_turns_new(store->loop);
    cfg_tree_init(&store->tree, 0);
    enum atl_code code = open_copy(store, options, err);
    cfg_ring_init(&store->ring, store->tree.number);
    if (code == ATL_OK)
        code = store->shared->open(&options->shared_options, &feed, &store->shared_engine, err);
    if (code != ATL_OK)
        return code;
    bool kept = store->copied != 0;
    atl_ns timeout = kept ? options->copy_timeout : options->start_timeout;
    if (timeout == 0)
        timeout = kept ? COPY_TIMEOUT : START_TIMEOUT;
    wait_until_loaded(store, timeout);
    const char *why = store->shared->why(store->shared_engine);
    if (!store->loaded && !kept)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the tree cannot be read: %s", why);
    if (store->loaded)
        wait_until_writable(store);
    else
        atl_log(ATL_WARNING, "copy-served", "%s; serving this node's copy of the tree, read-only", why);
    return ATL_OK;
}

static void pending_unlink(struct cfg_pending *pending)
{
    struct cfg_pending **link = &pending->store->pending;
    while (*link != pending)
        link = &(*link)->next;
    *link = pending->next;
    pending->store->pending_count--;
}

static void pending_free(struct cfg_pending *pending)
{
    atl_arena_done(&pending->arena);
    free(pending);
}

void cfg_shared_close(struct cfg_store *store)
{
    if (store->shared_engine != NULL)
        store->shared->close(store->shared_engine);
    struct cfg_pending *next = NULL;
    for (struct cfg_pending *pending = store->pending; pending != NULL; pending = next) {
        next = pending->next;
        pending_free(pending);
    }
    cfg_turns_free(&store->turns);
    atl_timer_free(store->copy_timer);
    cfg_copy_close(&store->copy);
    cfg_tree_done(&store->fresh);
}

struct cfg_turns *cfg_store_turns(const struct cfg_store *store)
{
    return store->turns;
}

atl_ns cfg_store_age(const struct cfg_store *store, bool *ret_writable)
{
    *ret_writable = true;
    if (store->shared == NULL)
        return 0;
    if (store->shared_engine != NULL && store->loaded) {
        atl_ns age = store->shared->age(store->shared_engine, ret_writable);
        *ret_writable = *ret_writable && !store->no_quorum;
        return age;
    }
    *ret_writable = false;
    return atl_clock_monotonic() - store->copied;
}

bool cfg_store_frozen(const struct cfg_store *store)
{
    bool writable = true;
    return store->no_quorum && cfg_store_age(store, &writable) >= CONFIRMED;
}

void cfg_store_set_quorum(struct cfg_store *store, bool quorate)
{
    atl_assert(store->shared != NULL);
    store->no_quorum = !quorate;
    if (!quorate && store->turns != NULL)
        cfg_turns_skip(store->turns);
}

void cfg_store_health(const struct cfg_store *store, struct cfg_store_health *ret_health)
{
    *ret_health = (struct cfg_store_health){.copied = store->shared != NULL && !store->loaded};
    atl_ns age = cfg_store_age(store, &ret_health->writable);
    if (age >= CONFIRMED || !ret_health->writable)
        ret_health->age_ms = (uint64_t)(age > ATL_MS ? age / ATL_MS : 1);
    if (store->shared != NULL && store->shared_engine != NULL)
        store->shared->health(store->shared_engine, &ret_health->engine);
}

enum atl_code cfg_store_set_members(struct cfg_store *store, const char *endpoints, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    const char *list[ATL_GRPC_ENDPOINTS_MAX];
    size_t count = 0;
    char *rest = atl_arena_strdup(&arena, endpoints);
    if (store->shared == NULL)
        return ATL_OK;
    for (char *one = strsep(&rest, ","); one != NULL && count < ATL_COUNT(list); one = strsep(&rest, ","))
        list[count++] = one;
    return store->shared->set_members(store->shared_engine, list, count, err);
}

enum atl_code cfg_store_rekey(struct cfg_store *store, const char *path, struct atl_error *err)
{
    return store->shared != NULL ? store->shared->rekey(store->shared_engine, path, err) : ATL_OK;
}

void cfg_store_confirm(struct cfg_store *store, cfg_shared_confirm_fn *fn, void *user)
{
    if (store->shared != NULL)
        store->shared->confirm(store->shared_engine, fn, user);
    else
        fn(ATL_OK, NULL, user);
}

/* --- transactions ------------------------------------------------------------------------------------- */

static void answer(struct cfg_pending *pending, const struct cfg_store_result *result)
{
    pending_unlink(pending);
    pending->fn(result, pending->user);
    pending_free(pending);
}

/* The file that is not as the caller saw it, or NULL. A blind write counts: it was made from what was seen.
 */
static const char *changed_file(const struct cfg_pending *pending)
{
    const struct cfg_tree *tree = &pending->store->tree;
    if (tree->epoch != pending->first.epoch)
        return "the tree";
    for (size_t i = 0; i < pending->first.compare_count; i++) {
        const struct cfg_plan_compare *compare = &pending->first.compares[i];
        const struct cfg_file *file = cfg_tree_get(tree, compare->path);
        if ((file != NULL ? file->number : 0) != compare->number)
            return compare->path;
    }
    return NULL;
}

static void on_done(const struct cfg_shared_result *result, void *user);

static void lost(struct cfg_pending *pending)
{
    struct cfg_store *store = pending->store;
    struct cfg_store_result result = {.code = ATL_OK};
    result.code = cfg_plan_make(&store->tree, &pending->txn, &pending->arena, &pending->plan, &result.error);
    const char *path = changed_file(pending);
    if (result.code == ATL_OK && (path != NULL || pending->tries == TRIES_MAX)) {
        result.changed = path;
        result.code = atl_fail(&result.error, ATL_E_CONFLICT, "path", "%s was changed meanwhile - try again",
                               path != NULL ? path : "the tree");
    }
    if (result.code != ATL_OK) {
        answer(pending, &result);
        return;
    }
    pending->tries++;
    store->shared->submit(store->shared_engine, &pending->plan, pending->id, on_done, pending);
}

static void on_done(const struct cfg_shared_result *result, void *user)
{
    struct cfg_pending *pending = user;
    if (result->outcome == CFG_SHARED_LOST) {
        lost(pending);
        return;
    }
    struct cfg_store_result answered = {
        .code = ATL_OK, .number = result->number, .repeated = result->repeated};
    if (result->outcome != CFG_SHARED_DONE) {
        answered.code = result->error.code;
        answered.error = result->error;
    }
    answer(pending, &answered);
}

/* Locks of high availability and their renewals are decided by etcd alone: a node that loses corosync for a
 * moment is not to lose its lock and be reset for that. */
static bool renews(const struct cfg_txn *txn)
{
    for (size_t i = 0; i < txn->op_count; i++)
        if (strncmp(txn->ops[i].path, ATL_HA_LOCK, strlen(ATL_HA_LOCK)) != 0 &&
            strncmp(txn->ops[i].path, ATL_HA_BEAT, strlen(ATL_HA_BEAT)) != 0)
            return false;
    return txn->op_count > 0;
}

/* The caller has seen more of the tree than our copy shows: what we find changed may be as he says it is. */
static bool is_behind(const struct cfg_store *store, const struct cfg_txn *txn)
{
    for (size_t i = 0; i < txn->compare_count; i++)
        if (txn->compares[i].epoch > store->tree.epoch ||
            (txn->compares[i].epoch == store->tree.epoch && txn->compares[i].number > store->tree.number))
            return true;
    return false;
}

/* Whether it may be decided here at all; a renewal that may not is asked of another node. */
static enum atl_code may_decide(const struct cfg_store *store, const struct cfg_txn *txn,
                                struct atl_error *err)
{
    bool renewal = renews(txn);
    if (!store->loaded || (store->no_quorum && !renewal))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                        "the cluster has no quorum: the configuration can be read, not changed");
    if (renewal && is_behind(store, txn))
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                        "this node's copy of the tree is older than what is compared");
    if (store->pending_count == CFG_QUEUE_MAX)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "too many changes are on their way");
    return ATL_OK;
}

void cfg_shared_txn(struct cfg_store *store, const struct cfg_txn *txn, const uint8_t *request_id,
                    cfg_store_done_fn *fn, void *user)
{
    struct cfg_store_result result = {0};
    const struct cfg_done_entry *entry = request_id != NULL ? cfg_done_find(&store->done, request_id) : NULL;
    if (entry != NULL) {
        result = (struct cfg_store_result){.number = entry->number, .repeated = true};
        fn(&result, user);
        return;
    }
    result.code = may_decide(store, txn, &result.error);
    if (result.code != ATL_OK) {
        fn(&result, user);
        return;
    }
    struct cfg_pending *pending = atl_new0(struct cfg_pending);
    pending->store = store;
    pending->fn = fn;
    pending->user = user;
    pending->next = store->pending;
    store->pending = pending;
    store->pending_count++;
    result.code = cfg_plan_make(&store->tree, txn, &pending->arena, &pending->plan, &result.error);
    if (result.code != ATL_OK) {
        answer(pending, &result);
        return;
    }
    cfg_txn_copy(txn, &pending->arena, &pending->txn);
    pending->first = pending->plan;
    if (request_id != NULL)
        memcpy(pending->id, request_id, sizeof pending->id);
    else if (getrandom(pending->id, sizeof pending->id, 0) != (ssize_t)sizeof pending->id)
        abort(); /* cannot be for so few bytes */
    store->shared->submit(store->shared_engine, &pending->plan, pending->id, on_done, pending);
}
