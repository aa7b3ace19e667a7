/*
 * Watch: a long poll. Answered as soon as a file below the caller's prefixes changed; when only others
 * changed, a little later and without files, so that the caller's copy knows how new it is (requests wait for
 * that).
 */
#include <stdlib.h>
#include <string.h>

#include "atoll/store/v1/store.atl.h"
#include "cfg.h"

enum {
    WATCHERS_MAX = 1024,
    PREFIXES_MAX = 16,
    WAIT_DEFAULT_MS = 25000,
    WAIT_MAX_MS = 55000,
    BYTES_MAX = 8 << 20, /* of one answer; the rest comes with the next */
};
#define PROGRESS_DELAY (10 * ATL_MS)
#define FROZEN_EVERY   (500 * ATL_MS) /* so often it is looked at whether the tree is frozen */

struct watcher {
    struct watcher *next;
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Store__V1__WatchRequest *input; /* lives with the request */
    struct atl_timer *timer;                     /* its own time is over */
    uint64_t from;
};

struct cfg_watchers {
    struct cfg *cfg;
    struct watcher *first;
    size_t count;
    struct atl_timer *progress;
    struct atl_timer *look;
    bool frozen; /* as it was seen last */
};

static bool wanted(const struct watcher *watcher, const char *path)
{
    const Atoll__Store__V1__WatchRequest *input = watcher->input;
    bool below = input->n_prefix == 0;
    for (size_t i = 0; i < input->n_prefix && !below; i++)
        below = cfg_path_below(path, input->prefix[i]);
    return below && cfg_may_read(atl_request_principal(watcher->request)->service, path);
}

static void answer(const struct cfg *cfg, struct atl_request *request, uint64_t number,
                   Atoll__Store__V1__File **files, size_t count, bool resync)
{
    atl_request_on_cancel(request, NULL, NULL);
    Atoll__Store__V1__WatchReply reply = ATOLL__STORE__V1__WATCH_REPLY__INIT;
    reply.revision =
        cfg_new_revision(atl_request_arena(request), cfg_store_revision(cfg->store).epoch, number);
    reply.file = files;
    reply.n_file = count;
    reply.has_resync = 1;
    reply.resync = resync;
    reply.has_frozen = 1;
    reply.frozen = cfg->watchers->frozen;
    atl_request_reply(request, &reply.base);
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The paths the watcher wants that changed behind `from`, without doubles, and how far they reach. */
static size_t gather(const struct watcher *watcher, const struct cfg_tree *tree, const char ***ret_paths,
                     uint64_t *ret_number)
{
    const struct cfg_ring *ring = cfg_store_ring(watcher->cfg->store);
    struct atl_arena *arena = atl_request_arena(watcher->request);
    size_t first = cfg_ring_seek(ring, watcher->from);
    const char **paths = atl_arena_array(arena, const char *, ring->count - first + 1);
    size_t count = 0;
    size_t bytes = 0;
    *ret_number = tree->number;
    for (size_t at = first; at < ring->count; at++) {
        const struct cfg_ring_entry *entry = cfg_ring_at(ring, at);
        if (bytes > BYTES_MAX && entry->number != cfg_ring_at(ring, at - 1)->number) {
            *ret_number = cfg_ring_at(ring, at - 1)->number;
            break;
        }
        if (!wanted(watcher, entry->path))
            continue;
        const struct cfg_file *file = cfg_tree_get(tree, entry->path);
        bytes += file != NULL ? file->size : 0;
        paths[count++] = entry->path;
    }
    if (count > 1)
        qsort(paths, count, sizeof paths[0], compare_paths);
    size_t kept = count > 0 ? 1 : 0;
    for (size_t i = 1; i < count; i++)
        if (strcmp(paths[i], paths[kept - 1]) != 0)
            paths[kept++] = paths[i];
    *ret_paths = paths;
    return kept;
}

static Atoll__Store__V1__File *show(struct atl_arena *arena, const struct cfg_tree *tree, const char *path)
{
    Atoll__Store__V1__File *message = atl_arena_new(arena, Atoll__Store__V1__File);
    atoll__store__v1__file__init(message);
    message->path = atl_arena_strdup(arena, path);
    const struct cfg_file *file = cfg_tree_get(tree, path);
    if (file == NULL) {
        message->has_absent = message->absent = 1;
        return message;
    }
    message->has_content = 1;
    message->content.data = file->bytes;
    message->content.len = file->size;
    message->revision = cfg_new_revision(arena, tree->epoch, file->number);
    return message;
}

/* Answers when there is something to say, or `even_empty`; false: it goes on waiting. */
static bool try_answer(const struct watcher *watcher, bool even_empty)
{
    const struct cfg_tree *tree = cfg_store_tree(watcher->cfg->store);
    struct atl_arena *arena = atl_request_arena(watcher->request);
    const char **paths = NULL;
    uint64_t number = 0;
    size_t count = gather(watcher, tree, &paths, &number);
    if (count == 0 && !even_empty)
        return false;
    Atoll__Store__V1__File **files = atl_arena_array(arena, Atoll__Store__V1__File *, count + 1);
    for (size_t i = 0; i < count; i++)
        files[i] = show(arena, tree, paths[i]);
    answer(watcher->cfg, watcher->request, number, files, count, false);
    return true;
}

static void drop(struct cfg_watchers *watchers, struct watcher *watcher)
{
    struct watcher **link = &watchers->first;
    while (*link != watcher)
        link = &(*link)->next;
    *link = watcher->next;
    watchers->count--;
    atl_timer_free(watcher->timer);
    free(watcher);
}

/* Commits what waits for the end of the round. That tells watchers and may free any of them, so it is done
 * before one is touched; afterwards cfg_store_tree() finds nothing left to commit. */
static void settle(const struct cfg_watchers *watchers)
{
    (void)cfg_store_tree(watchers->cfg->store);
}

static bool still_waits(const struct cfg_watchers *watchers, const struct watcher *watcher)
{
    const struct watcher *at = watchers->first;
    while (at != NULL && at != watcher)
        at = at->next;
    return at != NULL;
}

static void on_time(void *user)
{
    struct watcher *watcher = user;
    struct cfg_watchers *watchers = watcher->cfg->watchers;
    settle(watchers);
    if (!still_waits(watchers, watcher))
        return;                      /* answered just now */
    watcher->timer = NULL;           /* a one-shot timer frees itself */
    (void)try_answer(watcher, true); /* always answers */
    drop(watchers, watcher);
}

static void on_cancel(struct atl_request *request, void *user)
{
    struct watcher *watcher = user;
    drop(watcher->cfg->watchers, watcher);
    cfg_refuse(request, ATL_E_CANCELLED, NULL, "the caller has gone");
}

static void answer_matching(struct cfg_watchers *watchers, bool even_empty)
{
    struct watcher *next = NULL;
    for (struct watcher *watcher = watchers->first; watcher != NULL; watcher = next) {
        next = watcher->next;
        if (try_answer(watcher, even_empty))
            drop(watchers, watcher);
    }
}

static void on_progress(void *user)
{
    struct cfg_watchers *watchers = user;
    watchers->progress = NULL;
    settle(watchers);
    answer_matching(watchers, true);
}

static void on_look(void *user)
{
    struct cfg_watchers *watchers = user;
    bool frozen = cfg_store_frozen(watchers->cfg->store);
    if (frozen == watchers->frozen)
        return;
    settle(watchers);
    watchers->frozen = frozen;
    answer_matching(watchers, true);
}

static void on_commit(void *user)
{
    struct cfg_watchers *watchers = user;
    answer_matching(watchers, false);
    if (watchers->first != NULL && watchers->progress == NULL)
        watchers->progress = atl_loop_timer(watchers->cfg->loop, PROGRESS_DELAY, 0, on_progress, watchers);
}

void cfg_handle_watch(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__WatchRequest *watch = (const void *)input;
    const struct cfg_tree *tree = cfg_store_tree(cfg->store);
    uint64_t epoch = watch->from != NULL ? watch->from->epoch : 0;
    uint64_t from = watch->from != NULL ? watch->from->number : 0;
    if (watch->n_prefix > PREFIXES_MAX || cfg->watchers->count == WATCHERS_MAX) {
        cfg_refuse(request, ATL_E_LIMIT, "prefix", "too many prefixes or too many watchers");
        return;
    }
    if (epoch != tree->epoch || from > tree->number || !cfg_ring_reaches(cfg_store_ring(cfg->store), from)) {
        answer(cfg, request, tree->number, NULL, 0, true);
        return;
    }
    struct watcher local = {.cfg = cfg, .request = request, .input = watch, .from = from};
    bool news = watch->has_frozen && watch->frozen != cfg->watchers->frozen;
    if (try_answer(&local, from < tree->number || news))
        return;
    struct watcher *watcher = atl_new0(struct watcher);
    *watcher = local;
    watcher->next = cfg->watchers->first;
    cfg->watchers->first = watcher;
    cfg->watchers->count++;
    uint32_t wait_ms = watch->has_wait_ms ? watch->wait_ms : WAIT_DEFAULT_MS;
    if (wait_ms > WAIT_MAX_MS)
        wait_ms = WAIT_MAX_MS;
    watcher->timer = atl_loop_timer(cfg->loop, wait_ms * ATL_MS, 0, on_time, watcher);
    atl_request_on_cancel(request, on_cancel, watcher);
}

struct cfg_watchers *cfg_watchers_new(struct cfg *cfg)
{
    struct cfg_watchers *watchers = atl_new0(struct cfg_watchers);
    watchers->cfg = cfg;
    watchers->frozen = cfg_store_frozen(cfg->store);
    if (cfg_store_turns(cfg->store) != NULL) /* one machine alone needs no quorum */
        watchers->look = atl_loop_timer(cfg->loop, FROZEN_EVERY, FROZEN_EVERY, on_look, watchers);
    cfg_store_on_commit(cfg->store, NULL, on_commit, watchers);
    return watchers;
}

/* The bus has cancelled what waited before, or closes it behind us. */
void cfg_watchers_free(struct cfg_watchers **pointer)
{
    struct cfg_watchers *watchers = *pointer;
    *pointer = NULL;
    if (watchers == NULL)
        return;
    while (watchers->first != NULL) {
        struct atl_request *request = watchers->first->request;
        drop(watchers, watchers->first);
        atl_request_on_cancel(request, NULL, NULL);
        cfg_refuse(request, ATL_E_UNAVAILABLE, NULL, "config-store is stopping");
    }
    atl_timer_free(watchers->progress);
    atl_timer_free(watchers->look);
    free(watchers);
}
