/* The engine for a cluster: the copy of the tree is fed by a listing and then by a watch of etcd. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/etcd_internal.h"
#include "io/log.h"

#define LOAD_TIMEOUT (10 * ATL_SECOND) /* of one page */
#define LOAD_AGAIN   (200 * ATL_MS)
#define BROKEN_AGAIN (5 * ATL_SECOND) /* what cannot be read needs somebody who mends it */

enum { REQUESTS_PAGE = 4096 }; /* of some tens of bytes each; files take the default */

static void on_again(void *user)
{
    struct etcd_engine *engine = user;
    engine->again = NULL;
    etcd_load(engine);
}

static void load_again(struct etcd_engine *engine, const char *why)
{
    if (why != engine->why)
        (void)snprintf(engine->why, sizeof engine->why, "%s", why);
    if (engine->again == NULL)
        engine->again =
            atl_loop_timer(engine->loop, engine->broken ? BROKEN_AGAIN : LOAD_AGAIN, 0, on_again, engine);
}

/* --- feeding ------------------------------------------------------------------------------------------ */

void etcd_fed(struct etcd_engine *engine)
{
    etcd_confirms_fed(engine);
    etcd_writes_fed(engine);
}

static void feed_file(struct etcd_engine *engine, const char *path, const Etcd__KeyValue *kv)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct atl_error error;
    struct cfg_sealed file = {.epoch = engine->epoch,
                              .path = path,
                              .bytes = kv->value.data != NULL ? kv->value.data : (const uint8_t *)"",
                              .size = kv->value.len};
    if (cfg_seal_open(&engine->seal, &file, &arena, &error) != ATL_OK) {
        if (!engine->unreadable)
            atl_log(ATL_ERROR, "file-not-readable", "%s; the tree stays as it was before", error.text);
        (void)snprintf(engine->why, sizeof engine->why, "%s", error.text);
        engine->broken = engine->unreadable = true;
        return;
    }
    const struct cfg_engine_change change = {
        .path = path, .bytes = file.bytes, .size = file.size, .number = (uint64_t)kv->mod_revision};
    engine->feed.file(engine->feed.user, &change);
    if (file.bytes != kv->value.data && file.size > 0)
        explicit_bzero((uint8_t *)(uintptr_t)file.bytes, file.size);
}

/* Feeds one key, when it is of our tree; true when somebody has to hear of it. */
static bool feed_key(struct etcd_engine *engine, const Etcd__KeyValue *kv, bool gone)
{
    struct cfg_etcd_key key;
    cfg_etcd_key_parse(engine->prefix, &kv->key, &key);
    if (key.kind == CFG_ETCD_REQUEST) {
        bool done = kv->value.len != strlen(CFG_ETCD_NEVER) ||
                    memcmp(kv->value.data, CFG_ETCD_NEVER, kv->value.len) != 0;
        if (!gone && done)
            engine->feed.request(engine->feed.user, key.id, (uint64_t)kv->mod_revision);
        return false;
    }
    if (key.kind != CFG_ETCD_FILE)
        return false;
    const struct cfg_engine_change change = {.path = key.path, .number = (uint64_t)kv->mod_revision};
    if (gone)
        engine->feed.file(engine->feed.user, &change);
    else
        feed_file(engine, key.path, kv);
    return true;
}

static bool is_root(const ProtobufCBinaryData *key)
{
    return key->len == strlen(CFG_ETCD_ROOT) && memcmp(key->data, CFG_ETCD_ROOT, key->len) == 0;
}

static void on_events(int64_t revision, Etcd__Event *const *events, size_t count, void *user)
{
    struct etcd_engine *engine = user;
    bool changed = false;
    for (size_t i = 0; i < count && !engine->stale && !engine->broken; i++) {
        engine->stale = is_root(&events[i]->kv->key);
        if (!engine->stale)
            changed |= feed_key(engine, events[i]->kv, events[i]->type == ETCD__EVENT__TYPE__DELETE);
    }
    if (engine->stale) { /* another tree is the current one, and was loaded before it became that */
        atl_log(ATL_NOTICE, "tree-replaced", "another tree is the current one; listing it");
        atl_etcd_watch_free(&engine->watch);
        etcd_load(engine);
        return;
    }
    if (engine->broken) {
        atl_etcd_watch_free(&engine->watch);
        engine->stale = true;
        load_again(engine, engine->why);
        return;
    }
    engine->seen = revision;
    if (changed)
        engine->feed.changed(engine->feed.user, (uint64_t)revision);
    etcd_fed(engine);
}

static void on_compacted(int64_t revision, void *user)
{
    struct etcd_engine *engine = user;
    atl_log(ATL_NOTICE, "watch-compacted", "changes up to %" PRId64 " are compacted; listing again",
            revision);
    atl_etcd_watch_free(&engine->watch);
    etcd_load(engine);
}

static void on_state(bool following, void *user)
{
    struct etcd_engine *engine = user;
    if (!following)
        etcd_lost_sight(engine);
}

/* --- listing ------------------------------------------------------------------------------------------ */

static bool on_key(const Etcd__KeyValue *kv, void *user)
{
    struct etcd_engine *engine = user;
    if (!engine->broken)
        (void)feed_key(engine, kv, false); /* told at the end anyway */
    return true;
}

static void on_listed(enum atl_code code, const struct atl_error *error, int64_t revision, void *user)
{
    struct etcd_engine *engine = user;
    engine->list = NULL;
    if (code != ATL_OK || engine->broken) {
        load_again(engine, code != ATL_OK ? error->text : engine->why);
        return;
    }
    engine->stale = engine->unreadable = false;
    engine->seen = revision;
    engine->why[0] = '\0';
    const struct atl_etcd_watch_options watch = {.prefix = "",
                                                 .after = revision,
                                                 .events = on_events,
                                                 .state = on_state,
                                                 .compacted = on_compacted,
                                                 .user = engine};
    engine->watch = atl_etcd_watch_new(engine->channel, engine->loop, &watch);
    engine->feed.changed(engine->feed.user, (uint64_t)revision);
    etcd_fed(engine);
}

/* At the revision at which the root was read, which this member has: so no page needs the word of the others.
 */
static void list_keys(struct etcd_engine *engine, char kind, unsigned int page, int64_t revision,
                      void (*end)(enum atl_code code, const struct atl_error *error, int64_t revision,
                                  void *user))
{
    char prefix[CFG_ETCD_PREFIX_MAX + 2];
    (void)snprintf(prefix, sizeof prefix, "%s%c/", engine->prefix, kind);
    engine->list =
        atl_etcd_list_new(engine->channel, &(const struct atl_etcd_list_options){.prefix = prefix,
                                                                                 .revision = revision,
                                                                                 .serializable = true,
                                                                                 .page = page,
                                                                                 .timeout = LOAD_TIMEOUT,
                                                                                 .key = on_key,
                                                                                 .end = end,
                                                                                 .user = engine});
}

static void on_files(enum atl_code code, const struct atl_error *error, int64_t revision, void *user)
{
    struct etcd_engine *engine = user;
    if (code != ATL_OK || engine->broken)
        on_listed(code, error, revision, user);
    else
        list_keys(engine, 'r', REQUESTS_PAGE, revision, on_listed);
}

static void on_root(const struct atl_etcd_answer *answer, void *user)
{
    struct etcd_engine *engine = user;
    const Etcd__RangeResponse *range = (const void *)answer->message;
    struct cfg_etcd_root root = {.epoch = 0};
    struct atl_error error = answer->error;
    engine->root_call = NULL;
    enum atl_code code = answer->code;
    if (code == ATL_OK && range->n_kvs == 0)
        code = atl_fail(&error, ATL_E_ABSENT, NULL, "there is no tree in this etcd");
    else if (code == ATL_OK)
        code = cfg_etcd_root_parse(&range->kvs[0]->value, &root, &error);
    if (code != ATL_OK) {
        load_again(engine, error.text);
        return;
    }
    engine->epoch = root.epoch;
    engine->root_revision = range->kvs[0]->mod_revision;
    engine->broken = false;
    cfg_etcd_prefix(root.epoch, engine->prefix);
    engine->feed.listing(engine->feed.user, root.epoch);
    list_keys(engine, 'f', 0, range->header->revision, on_files);
}

void etcd_load(struct etcd_engine *engine)
{
    atl_assert(engine->watch == NULL);
    Etcd__RangeRequest request = ETCD__RANGE_REQUEST__INIT;
    request.key = cfg_etcd_text(CFG_ETCD_ROOT);
    engine->stale = true;
    engine->root_call =
        atl_etcd_call(engine->channel, ATL_ETCD_RANGE, &request.base, ETCD_CALL_TIMEOUT, on_root, engine);
}

/* --- the table ---------------------------------------------------------------------------------------- */

static void etcd_close(void *self)
{
    struct etcd_engine *engine = self;
    if (engine == NULL)
        return;
    etcd_writes_drop(engine);
    etcd_keep_stop(engine);
    if (engine->root_call != NULL)
        atl_etcd_cancel(engine->root_call);
    atl_etcd_list_free(&engine->list);
    atl_etcd_watch_free(&engine->watch);
    atl_timer_free(engine->again);
    atl_grpc_free(&engine->channel);
    explicit_bzero(&engine->seal, sizeof engine->seal);
    free(engine);
}

static enum atl_code etcd_open(const struct cfg_shared_options *options, const struct cfg_shared_feed *feed,
                               void **ret_self, struct atl_error *err)
{
    struct etcd_engine *engine = atl_new0(struct etcd_engine);
    engine->loop = options->loop;
    engine->options = *options;
    engine->feed = *feed;
    if (engine->options.write_timeout == 0)
        engine->options.write_timeout = 5 * ATL_SECOND;
    if (engine->options.compact_every == 0)
        engine->options.compact_every = 5 * ATL_MINUTE;
    if (engine->options.quota_bytes == 0)
        engine->options.quota_bytes = (uint64_t)2 << 30;
    const struct atl_grpc_options grpc = {.loop = options->loop,
                                          .endpoints = options->endpoints,
                                          .endpoint_count = options->endpoint_count,
                                          .home = options->home,
                                          .tls = options->tls,
                                          .message_max = 96 << 20, /* a page of files */
                                          .connect_timeout = ATL_SECOND,
                                          .backoff_max = ATL_SECOND,
                                          .seed = options->seed};
    enum atl_code code = cfg_seal_load(options->seal_key, &engine->seal, err);
    if (code == ATL_OK)
        code = atl_grpc_new(&grpc, &engine->channel, err);
    if (code != ATL_OK) {
        free(engine);
        return code;
    }
    (void)snprintf(engine->why, sizeof engine->why, "etcd has not answered yet");
    etcd_load(engine);
    etcd_keep_start(engine);
    *ret_self = engine;
    return ATL_OK;
}

static atl_ns etcd_age(const void *self, bool *ret_writable)
{
    const struct etcd_engine *engine = self;
    *ret_writable = engine->writable && engine->lease != 0 && !engine->unreadable;
    return atl_clock_monotonic() - engine->confirmed;
}

static void etcd_health(const void *self, struct cfg_shared_health *ret_health)
{
    const struct etcd_engine *engine = self;
    *ret_health = (struct cfg_shared_health){.database_bytes = engine->database_bytes,
                                             .used_bytes = engine->used_bytes,
                                             .quota_bytes = engine->options.quota_bytes};
    etcd_space_alarms(engine->space, &ret_health->no_space, &ret_health->corrupt);
}

static enum atl_code etcd_rekey(void *self, const char *path, struct atl_error *err)
{
    struct etcd_engine *engine = self;
    struct cfg_seal seal;
    enum atl_code code = cfg_seal_load(path, &seal, err);
    if (code != ATL_OK)
        return code;
    engine->seal = seal;
    explicit_bzero(&seal, sizeof seal);
    if (engine->again != NULL && engine->broken) { /* what could not be read may be readable now */
        atl_timer_free(engine->again);
        engine->again = atl_loop_timer(engine->loop, 0, 0, on_again, engine);
    }
    return ATL_OK;
}

static enum atl_code etcd_set_members(void *self, const char *const *endpoints, size_t count,
                                      struct atl_error *err)
{
    struct etcd_engine *engine = self;
    enum atl_code code = atl_grpc_set_endpoints(engine->channel, endpoints, count, err);
    if (code == ATL_OK)
        etcd_space_set_members(engine->space, endpoints, count);
    return code;
}

static const char *etcd_why(const void *self)
{
    return ((const struct etcd_engine *)self)->why;
}

const struct cfg_shared_driver cfg_shared_etcd = {.kind = "etcd",
                                                  .open = etcd_open,
                                                  .submit = etcd_submit,
                                                  .confirm = etcd_confirm,
                                                  .age = etcd_age,
                                                  .health = etcd_health,
                                                  .rekey = etcd_rekey,
                                                  .set_members = etcd_set_members,
                                                  .why = etcd_why,
                                                  .close = etcd_close};
