/* The shell around the tree. */
#include "store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "io/log.h"

static void flush(struct cfg_store *store);

/* --- start
 * -------------------------------------------------------------------------------------------------- */

static void load_revision(void *user, uint64_t epoch, uint64_t number)
{
    struct cfg_store *store = user;
    cfg_tree_init(&store->tree, epoch);
    store->tree.number = number;
}

static enum atl_code load_file(void *user, const struct cfg_engine_change *file, struct atl_error *err)
{
    struct cfg_store *store = user;
    return cfg_tree_load(&store->tree, file->path, file->bytes, file->size, file->number, err);
}

static void load_request(void *user, const struct cfg_engine_request *request)
{
    struct cfg_store *store = user;
    cfg_done_add(&store->done, request->id, request->number, request->at);
}

enum atl_code cfg_store_open(const struct cfg_store_options *options, struct cfg_store **ret_store,
                             struct atl_error *err)
{
    struct cfg_store *store = atl_new0(struct cfg_store);
    store->loop = options->loop;
    store->driver = options->driver;
    cfg_done_init(&store->done);
    if (options->shared != NULL) {
        enum atl_code shared = cfg_shared_open(store, options, err);
        if (shared != ATL_OK)
            cfg_store_close(&store);
        else
            *ret_store = store;
        return shared;
    }
    enum atl_code code = store->driver->open(&options->engine, &store->engine, err);
    const struct cfg_engine_sink sink = {
        .user = store, .revision = load_revision, .file = load_file, .request = load_request};
    if (code == ATL_OK)
        code = store->driver->load(store->engine, &sink, err);
    if (code != ATL_OK) {
        cfg_store_close(&store);
        return code;
    }
    store->committed = store->tree.number;
    cfg_ring_init(&store->ring, store->tree.number);
    *ret_store = store;
    return ATL_OK;
}

void cfg_store_close(struct cfg_store **pointer)
{
    struct cfg_store *store = *pointer;
    *pointer = NULL;
    if (store == NULL)
        return;
    store->hook_count = 0;
    for (size_t i = 0; i < store->queue_count; i++)
        store->queue[i].fn = NULL;
    flush(store);
    cfg_shared_close(store);
    atl_timer_free(store->flush_timer);
    if (store->engine != NULL)
        store->driver->close(store->engine);
    cfg_batch_keep(&store->batch);
    cfg_batch_done(&store->batch);
    cfg_ring_done(&store->ring);
    cfg_tree_done(&store->tree);
    cfg_done_free(&store->done);
    free(store);
}

/* --- committing
 * --------------------------------------------------------------------------------------------- */

static enum atl_code write_batch(struct cfg_store *store, struct atl_error *err)
{
    struct cfg_engine_change *changes = atl_alloc0((store->batch.count + 1) * sizeof *changes);
    for (size_t i = 0; i < store->batch.count; i++) {
        const struct cfg_change *change = &store->batch.changes[i];
        changes[i] = (struct cfg_engine_change){.path = change->old != NULL ? change->old->path : NULL,
                                                .number = change->number};
        if (change->new != NULL) {
            changes[i].path = change->new->path;
            changes[i].bytes = change->new->bytes;
            changes[i].size = change->new->size;
        }
    }
    const struct cfg_engine_commit commit = {
        .changes = changes,
        .change_count = store->batch.count,
        .requests = store->requests,
        .request_count = store->request_count,
        .number = store->tree.number,
        .forget_through = cfg_done_forget(&store->done, atl_clock_wall_seconds()),
    };
    enum atl_code code = store->driver->commit(store->engine, &commit, err);
    free(changes);
    return code;
}

void cfg_store_tell(struct cfg_store *store)
{
    for (size_t i = 0; i < store->batch.count; i++) {
        const struct cfg_change *change = &store->batch.changes[i];
        const char *path = change->new != NULL ? change->new->path : change->old->path;
        cfg_ring_add(&store->ring, change->number, path);
        for (size_t k = 0; k < store->hook_count; k++)
            if (store->hooks[k].change != NULL)
                store->hooks[k].change(path, change->new, store->hooks[k].user);
    }
    cfg_batch_keep(&store->batch);
    for (size_t k = 0; k < store->hook_count; k++)
        if (store->hooks[k].end != NULL)
            store->hooks[k].end(store->hooks[k].user);
}

static void answer(const struct cfg_queued *queued, const struct cfg_store_result *result)
{
    if (queued->fn != NULL)
        queued->fn(result, queued->user);
}

/* What is taken out before anybody is told: those who are told may bring the next transactions. */
struct taken {
    struct cfg_queued queue[CFG_QUEUE_MAX];
    size_t count;
};

static void take_queue(struct cfg_store *store, struct taken *taken)
{
    taken->count = store->queue_count;
    memcpy(taken->queue, store->queue, taken->count * sizeof taken->queue[0]);
    store->queue_count = 0;
    store->request_count = 0;
}

static void answer_all(const struct taken *taken, enum atl_code code, const struct atl_error *err)
{
    for (size_t i = 0; i < taken->count; i++) {
        struct cfg_store_result result = {.code = code, .number = taken->queue[i].number};
        if (code != ATL_OK)
            result.error = *err;
        answer(&taken->queue[i], &result);
    }
}

static void flush(struct cfg_store *store)
{
    if (store->queue_count == 0)
        return;
    struct atl_error err = {0};
    struct taken taken;
    enum atl_code code = write_batch(store, &err);
    if (code == ATL_E_IO) {
        /* After a failed sync nobody knows what the disk holds: only reading it anew tells. No answer is
         * given, so callers know that the outcome is unknown; the supervisor starts us again. */
        atl_log(ATL_ERROR, "engine-failed", "%s; starting again to read what is there", err.text);
        exit(EXIT_FAILURE);
    }
    if (code != ATL_OK) {
        atl_log(ATL_ERROR, "write-refused", "%s", err.text);
        cfg_batch_undo(&store->batch, &store->tree, store->committed);
        take_queue(store, &taken);
        answer_all(&taken, code, &err);
        return;
    }
    store->committed = store->tree.number;
    int64_t now = atl_clock_wall_seconds();
    for (size_t i = 0; i < store->request_count; i++)
        cfg_done_add(&store->done, store->requests[i].id, store->requests[i].number, now);
    take_queue(store, &taken);
    cfg_store_tell(store);
    answer_all(&taken, ATL_OK, NULL);
}

static void on_flush(void *user)
{
    struct cfg_store *store = user;
    store->flush_timer = NULL;
    flush(store);
}

static bool in_queue(const struct cfg_store *store, const uint8_t *request_id)
{
    for (size_t i = 0; i < store->request_count; i++)
        if (memcmp(store->requests[i].id, request_id, CFG_REQUEST_ID_SIZE) == 0)
            return true;
    return false;
}

static bool done_before(struct cfg_store *store, const uint8_t *request_id, struct cfg_store_result *result)
{
    if (request_id == NULL)
        return false;
    if (in_queue(store, request_id))
        flush(store);
    const struct cfg_done_entry *entry = cfg_done_find(&store->done, request_id);
    if (entry == NULL)
        return false;
    *result = (struct cfg_store_result){.code = ATL_OK, .number = entry->number, .repeated = true};
    return true;
}

static void enqueue(struct cfg_store *store, const uint8_t *request_id, cfg_store_done_fn *fn, void *user)
{
    if (request_id != NULL) {
        struct cfg_engine_request *request = &store->requests[store->request_count++];
        memcpy(request->id, request_id, CFG_REQUEST_ID_SIZE);
        request->number = store->tree.number;
        request->at = atl_clock_wall_seconds();
    }
    store->queue[store->queue_count++] =
        (struct cfg_queued){.fn = fn, .user = user, .number = store->tree.number};
    if (store->flush_timer == NULL)
        store->flush_timer = atl_loop_timer(store->loop, 0, 0, on_flush, store);
}

void cfg_store_txn(struct cfg_store *store, const struct cfg_txn *txn, const uint8_t *request_id,
                   cfg_store_done_fn *fn, void *user)
{
    struct cfg_store_result result = {0};
    if (store->shared != NULL) {
        cfg_shared_txn(store, txn, request_id, fn, user);
        return;
    }
    if (done_before(store, request_id, &result)) {
        fn(&result, user);
        return;
    }
    if (store->queue_count == CFG_QUEUE_MAX)
        flush(store);
    result.code = cfg_tree_apply(&store->tree, txn, &store->batch, &result.error);
    if (result.code != ATL_OK) {
        fn(&result, user);
        return;
    }
    if (txn->op_count == 0) {
        flush(store); /* what it compared may still be on its way to the disk */
        result.number = store->committed;
        fn(&result, user);
        return;
    }
    enqueue(store, request_id, fn, user);
}

const struct cfg_tree *cfg_store_tree(struct cfg_store *store)
{
    flush(store);
    return &store->tree;
}

void cfg_store_settle(struct cfg_store *store)
{
    flush(store);
    while (store->pending_count > 0) /* each of them ends, at its deadline at the latest */
        atl_loop_step(store->loop, ATL_SECOND);
}

const struct cfg_tree *cfg_store_ahead(const struct cfg_store *store)
{
    return &store->tree;
}

const struct cfg_ring *cfg_store_ring(const struct cfg_store *store)
{
    return &store->ring;
}

struct atl_revision cfg_store_revision(const struct cfg_store *store)
{
    return (struct atl_revision){.epoch = store->tree.epoch, .number = store->committed};
}

void cfg_store_on_commit(struct cfg_store *store, cfg_store_change_fn *change, cfg_store_commit_fn *end,
                         void *user)
{
    atl_assert(store->hook_count < CFG_HOOKS_MAX);
    store->hooks[store->hook_count++] = (struct cfg_hook){.change = change, .end = end, .user = user};
}
