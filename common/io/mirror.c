/*
 * The copy of parts of the tree. It lists once, page by page, then watches by long poll from the revision of
 * the first page; after a lost connection or a "resync" it lists again and reports only what differs.
 */
#include "io/mirror.h"

#include <stdlib.h>
#include <string.h>

#include "atoll/store/v1/store.atl.h"
#include "io/loop.h"

enum { PREFIXES_MAX = 16, HOOKS_MAX = 16, WAIT_MS = 25000 };
#define RETRY_FIRST (20 * ATL_MS)
#define RETRY_LAST  (500 * ATL_MS)

struct entry {
    struct atl_file file;
    uint64_t round; /* of the listing that saw it last */
};

struct file_hook {
    char *prefix;
    atl_mirror_file_fn *fn;
    void *user;
};

struct batch_hook {
    atl_mirror_batch_fn *fn;
    void *user;
};

struct atl_mirror {
    struct atl_bus *bus;
    char *prefixes[PREFIXES_MAX];
    size_t prefix_count;
    struct entry **entries; /* sorted by path */
    size_t count;
    size_t room;
    struct entry **gone; /* replaced entries live to the end of the round: get() lends them */
    size_t gone_count;
    size_t gone_room;
    struct file_hook file_hooks[HOOKS_MAX];
    size_t file_hook_count;
    struct batch_hook batch_hooks[HOOKS_MAX];
    size_t batch_hook_count;
    struct atl_call *call;
    struct atl_timer *retry;
    struct atl_timer *sweep;
    atl_ns retry_delay;
    struct atl_revision revision;
    struct atl_revision listing; /* revision of the first page of the listing that runs */
    char *after;                 /* last path of the page before */
    uint64_t round;
    bool ready;
    bool frozen;  /* nothing newer comes to config-store either */
    bool changed; /* in the listing that runs */
};

static void list_more(struct atl_mirror *mirror);
static void watch_more(struct atl_mirror *mirror);

/* --- entries
 * ------------------------------------------------------------------------------------------------ */

static size_t seek(const struct atl_mirror *mirror, const char *path)
{
    size_t low = 0;
    size_t high = mirror->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(mirror->entries[middle]->file.path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct entry *find(const struct atl_mirror *mirror, const char *path)
{
    size_t at = seek(mirror, path);
    return at < mirror->count && strcmp(mirror->entries[at]->file.path, path) == 0 ? mirror->entries[at]
                                                                                   : NULL;
}

static void entry_free(struct entry *entry)
{
    free((void *)(uintptr_t)entry->file.path);
    free((void *)(uintptr_t)entry->file.bytes);
    free(entry);
}

static void sweep(void *user)
{
    struct atl_mirror *mirror = user;
    mirror->sweep = NULL;
    for (size_t i = 0; i < mirror->gone_count; i++)
        entry_free(mirror->gone[i]);
    mirror->gone_count = 0;
}

static void retire(struct atl_mirror *mirror, struct entry *entry)
{
    if (mirror->gone_count == mirror->gone_room) {
        mirror->gone_room = mirror->gone_room == 0 ? 16 : mirror->gone_room * 2;
        mirror->gone = atl_realloc(mirror->gone, mirror->gone_room * sizeof mirror->gone[0]);
    }
    mirror->gone[mirror->gone_count++] = entry;
    if (mirror->sweep == NULL)
        mirror->sweep = atl_loop_timer(atl_bus_loop(mirror->bus), 0, 0, sweep, mirror);
}

static bool below(const char *path, const char *prefix)
{
    size_t length = strlen(prefix);
    if (strncmp(path, prefix, length) != 0)
        return false;
    return length == 0 || prefix[length - 1] == '/' || path[length] == '\0';
}

static void tell(struct atl_mirror *mirror, const char *path, const struct atl_file *file)
{
    mirror->changed = true;
    for (size_t i = 0; i < mirror->file_hook_count; i++)
        if (below(path, mirror->file_hooks[i].prefix))
            mirror->file_hooks[i].fn(path, file, mirror->file_hooks[i].user);
}

static void remove_at(struct atl_mirror *mirror, size_t at)
{
    struct entry *entry = mirror->entries[at];
    memmove(&mirror->entries[at], &mirror->entries[at + 1],
            (mirror->count - at - 1) * sizeof mirror->entries[0]);
    mirror->count--;
    tell(mirror, entry->file.path, NULL);
    retire(mirror, entry);
}

static struct atl_revision to_revision(const Atoll__Bus__V1__Revision *revision)
{
    if (revision == NULL)
        return (struct atl_revision){0};
    return (struct atl_revision){.epoch = revision->epoch, .number = revision->number};
}

static bool same_content(const struct entry *entry, const Atoll__Store__V1__File *file)
{
    return entry->file.size == file->content.len &&
           (file->content.len == 0 || memcmp(entry->file.bytes, file->content.data, file->content.len) == 0);
}

static struct entry *entry_new(const Atoll__Store__V1__File *file, uint64_t round)
{
    struct entry *entry = atl_new0(struct entry);
    entry->file.path = atl_strdup(file->path);
    char *bytes = atl_alloc0(file->content.len + 1);
    if (file->content.len > 0)
        memcpy(bytes, file->content.data, file->content.len);
    entry->file.bytes = bytes;
    entry->file.size = file->content.len;
    entry->file.revision = to_revision(file->revision);
    entry->round = round;
    return entry;
}

static void insert_at(struct atl_mirror *mirror, size_t at, struct entry *entry)
{
    if (mirror->count == mirror->room) {
        mirror->room = mirror->room == 0 ? 64 : mirror->room * 2;
        mirror->entries = atl_realloc(mirror->entries, mirror->room * sizeof mirror->entries[0]);
    }
    memmove(&mirror->entries[at + 1], &mirror->entries[at], (mirror->count - at) * sizeof mirror->entries[0]);
    mirror->entries[at] = entry;
    mirror->count++;
}

static void take_file(struct atl_mirror *mirror, const Atoll__Store__V1__File *file)
{
    size_t at = seek(mirror, file->path);
    struct entry *old = at < mirror->count && strcmp(mirror->entries[at]->file.path, file->path) == 0
                            ? mirror->entries[at]
                            : NULL;
    if (file->has_absent && file->absent) {
        if (old != NULL)
            remove_at(mirror, at);
        return;
    }
    if (old != NULL && same_content(old, file)) {
        old->round = mirror->round;
        old->file.revision = to_revision(file->revision);
        return;
    }
    struct entry *entry = entry_new(file, mirror->round);
    if (old != NULL) {
        mirror->entries[at] = entry;
        retire(mirror, old);
    } else {
        insert_at(mirror, at, entry);
    }
    tell(mirror, entry->file.path, &entry->file);
}

static void end_batch(struct atl_mirror *mirror)
{
    for (size_t i = 0; i < mirror->batch_hook_count; i++)
        mirror->batch_hooks[i].fn(mirror->batch_hooks[i].user);
}

/* --- listing and watching
 * ----------------------------------------------------------------------------------- */

static void begin_listing(struct atl_mirror *mirror)
{
    free(mirror->after);
    mirror->after = NULL;
    mirror->round++;
    mirror->listing = (struct atl_revision){0};
    list_more(mirror);
}

static void on_retry(void *user)
{
    struct atl_mirror *mirror = user;
    mirror->retry = NULL;
    if (mirror->ready)
        watch_more(mirror);
    else
        begin_listing(mirror);
}

static void retry_later(struct atl_mirror *mirror)
{
    mirror->retry = atl_loop_timer(atl_bus_loop(mirror->bus), mirror->retry_delay, 0, on_retry, mirror);
    mirror->retry_delay = mirror->retry_delay * 2 < RETRY_LAST ? mirror->retry_delay * 2 : RETRY_LAST;
}

/* The call under way is over; false: it failed and is tried again later. */
static bool call_ended(struct atl_mirror *mirror, const struct atl_reply *reply)
{
    mirror->call = NULL;
    if (reply->code != ATL_OK) {
        retry_later(mirror);
        return false;
    }
    mirror->retry_delay = RETRY_FIRST;
    return true;
}

static void end_listing(struct atl_mirror *mirror)
{
    for (size_t i = mirror->count; i > 0; i--)
        if (mirror->entries[i - 1]->round != mirror->round)
            remove_at(mirror, i - 1);
    /* Requests wait for the revision, so it is told even when no file of ours differs. */
    bool moved =
        mirror->revision.epoch != mirror->listing.epoch || mirror->revision.number != mirror->listing.number;
    mirror->revision = mirror->listing;
    bool first = !mirror->ready;
    mirror->ready = true;
    if (first || mirror->changed || moved)
        end_batch(mirror);
    mirror->changed = false;
    watch_more(mirror);
}

static void on_list(const struct atl_reply *reply, void *user)
{
    struct atl_mirror *mirror = user;
    if (!call_ended(mirror, reply))
        return;
    const Atoll__Store__V1__ListReply *list = (const void *)reply->output;
    if (mirror->listing.epoch == 0)
        mirror->listing = to_revision(list->revision);
    for (size_t i = 0; i < list->n_file; i++)
        take_file(mirror, list->file[i]);
    if (list->has_more && list->more && list->n_file > 0) {
        free(mirror->after);
        mirror->after = atl_strdup(list->file[list->n_file - 1]->path);
        list_more(mirror);
        return;
    }
    end_listing(mirror);
}

static void list_more(struct atl_mirror *mirror)
{
    Atoll__Store__V1__ListRequest request = ATOLL__STORE__V1__LIST_REQUEST__INIT;
    request.n_prefix = mirror->prefix_count;
    request.prefix = mirror->prefixes;
    request.after = mirror->after;
    mirror->call =
        atl_bus_call(mirror->bus, &atl_rpc_store_v1_Store_List, &request.base, NULL, on_list, mirror);
}

static void on_watch(const struct atl_reply *reply, void *user)
{
    struct atl_mirror *mirror = user;
    if (!call_ended(mirror, reply))
        return;
    const Atoll__Store__V1__WatchReply *watch = (const void *)reply->output;
    mirror->frozen = watch->has_frozen && watch->frozen;
    if (watch->has_resync && watch->resync) {
        begin_listing(mirror);
        return;
    }
    for (size_t i = 0; i < watch->n_file; i++)
        take_file(mirror, watch->file[i]);
    bool moved = mirror->revision.number != to_revision(watch->revision).number;
    mirror->revision = to_revision(watch->revision);
    if (mirror->changed || moved)
        end_batch(mirror);
    mirror->changed = false;
    watch_more(mirror);
}

static void watch_more(struct atl_mirror *mirror)
{
    Atoll__Bus__V1__Revision from = ATOLL__BUS__V1__REVISION__INIT;
    from.has_epoch = from.has_number = 1;
    from.epoch = mirror->revision.epoch;
    from.number = mirror->revision.number;
    Atoll__Store__V1__WatchRequest request = ATOLL__STORE__V1__WATCH_REQUEST__INIT;
    request.from = &from;
    request.n_prefix = mirror->prefix_count;
    request.prefix = mirror->prefixes;
    request.has_wait_ms = 1;
    request.wait_ms = WAIT_MS;
    request.has_frozen = 1;
    request.frozen = mirror->frozen;
    mirror->call =
        atl_bus_call(mirror->bus, &atl_rpc_store_v1_Store_Watch, &request.base, NULL, on_watch, mirror);
}

/* --- the surface
 * -------------------------------------------------------------------------------------------- */

struct atl_mirror *atl_mirror_open(struct atl_bus *bus, const char *const *prefixes)
{
    struct atl_mirror *mirror = atl_new0(struct atl_mirror);
    mirror->bus = bus;
    mirror->retry_delay = RETRY_FIRST;
    for (; prefixes[mirror->prefix_count] != NULL; mirror->prefix_count++) {
        atl_assert(mirror->prefix_count < PREFIXES_MAX);
        mirror->prefixes[mirror->prefix_count] = atl_strdup(prefixes[mirror->prefix_count]);
    }
    begin_listing(mirror);
    return mirror;
}

void atl_mirror_close(struct atl_mirror **pointer)
{
    struct atl_mirror *mirror = *pointer;
    *pointer = NULL;
    if (mirror == NULL)
        return;
    if (mirror->call != NULL)
        atl_call_cancel(mirror->call);
    atl_timer_free(mirror->retry);
    atl_timer_free(mirror->sweep);
    for (size_t i = 0; i < mirror->count; i++)
        entry_free(mirror->entries[i]);
    for (size_t i = 0; i < mirror->gone_count; i++)
        entry_free(mirror->gone[i]);
    for (size_t i = 0; i < mirror->prefix_count; i++)
        free(mirror->prefixes[i]);
    for (size_t i = 0; i < mirror->file_hook_count; i++)
        free(mirror->file_hooks[i].prefix);
    free(mirror->entries);
    free(mirror->gone);
    free(mirror->after);
    free(mirror);
}

bool atl_mirror_ready(const struct atl_mirror *mirror)
{
    return mirror->ready;
}

struct atl_revision atl_mirror_revision(const struct atl_mirror *mirror)
{
    return mirror->revision;
}

bool atl_mirror_frozen(const struct atl_mirror *mirror)
{
    return mirror->frozen;
}

const struct atl_file *atl_mirror_get(const struct atl_mirror *mirror, const char *path)
{
    const struct entry *entry = find(mirror, path);
    return entry != NULL ? &entry->file : NULL;
}

void atl_mirror_each(const struct atl_mirror *mirror, const char *prefix, atl_mirror_file_fn *fn, void *user)
{
    for (size_t at = seek(mirror, prefix);
         at < mirror->count && below(mirror->entries[at]->file.path, prefix); at++)
        fn(mirror->entries[at]->file.path, &mirror->entries[at]->file, user);
}

void atl_mirror_on_change(struct atl_mirror *mirror, const char *prefix, atl_mirror_file_fn *fn, void *user)
{
    atl_assert(mirror->file_hook_count < HOOKS_MAX);
    mirror->file_hooks[mirror->file_hook_count++] =
        (struct file_hook){.prefix = atl_strdup(prefix), .fn = fn, .user = user};
}

void atl_mirror_on_batch(struct atl_mirror *mirror, atl_mirror_batch_fn *fn, void *user)
{
    atl_assert(mirror->batch_hook_count < HOOKS_MAX);
    mirror->batch_hooks[mirror->batch_hook_count++] = (struct batch_hook){.fn = fn, .user = user};
}
