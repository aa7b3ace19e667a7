/* Stores for tests. */
#include "etcd_rig.h"

#include <unistd.h>

#define LIMIT (60 * ATL_SECOND)

static struct atl_error err;

static void make_dir(struct rig *rig)
{
    (void)atl_copy(rig->dir, sizeof rig->dir, "/tmp/atl-rig-XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
}

static void remove_dir(const char *dir)
{
    static const char *const names[] = {"tree.db", "tree.db-wal", "tree.db-journal", "tree.db-shm"};
    for (size_t i = 0; i < ATL_COUNT(names); i++) {
        char *path ATL_FREE_AT_EXIT = atl_format("%s/%s", dir, names[i]);
        (void)unlink(path); /* not all are there */
    }
    assert_int_equal(rmdir(dir), 0);
}

void rig_open_sqlite(struct rig *rig)
{
    *rig = (struct rig){.loop = atl_loop_new()};
    make_dir(rig);
}

void rig_open_etcd(struct rig *rig, size_t members, bool tls)
{
    *rig = (struct rig){.loop = atl_loop_new()};
    rig->etcd = etcd_fixture_new(rig->loop, members, tls);
    struct atl_grpc_options options = etcd_fixture_options(rig->etcd, rig->endpoints);
    rig->shared = (struct cfg_shared_options){.loop = rig->loop,
                                              .endpoints = rig->endpoints,
                                              .endpoint_count = options.endpoint_count,
                                              .tls = options.tls,
                                              .seed = 1};
    uint64_t epoch = 0;
    assert_atl_ok(rig_move(rig, &(const struct rig_move){.count = 0}, &epoch, &err), &err);
}

void rig_close(struct rig *rig)
{
    if (rig->etcd != NULL)
        etcd_fixture_free(&rig->etcd);
    if (rig->dir[0] != '\0')
        remove_dir(rig->dir);
    atl_loop_free(rig->loop);
}

struct cfg_store *rig_store(struct rig *rig)
{
    struct cfg_store_options options = {.loop = rig->loop,
                                        .driver = &cfg_engine_sqlite,
                                        .engine = {.state_dir = rig->dir},
                                        .shared = rig->etcd != NULL ? &cfg_shared_etcd : NULL,
                                        .shared_options = rig->shared};
    struct cfg_store *store = NULL;
    assert_atl_ok(cfg_store_open(&options, &store, &err), &err);
    return store;
}

enum atl_code rig_move(struct rig *rig, const struct rig_move *what, uint64_t *ret_epoch,
                       struct atl_error *error)
{
    struct rig source = {.loop = rig->loop};
    make_dir(&source);
    struct cfg_store *store = rig_store(&source);
    for (size_t i = 0; i < what->count; i++)
        assert_int_equal(rig_put(&source, store, what->files[i].path, what->files[i].text).code, ATL_OK);
    cfg_store_close(&store);
    void *engine = NULL;
    const struct cfg_engine_options options = {.state_dir = source.dir};
    assert_atl_ok(cfg_engine_sqlite.open(&options, &engine, &err), &err);
    const struct cfg_move_options move = {.to = &rig->shared,
                                          .driver = &cfg_engine_sqlite,
                                          .engine = engine,
                                          .replace = what->replace,
                                          .step = what->step,
                                          .user = what->user};
    enum atl_code code = cfg_etcd_move(&move, ret_epoch, error);
    cfg_engine_sqlite.close(engine);
    remove_dir(source.dir);
    return code;
}

static void on_done(const struct cfg_store_result *result, void *user)
{
    struct rig_answer *answer = user;
    assert_false(answer->done);
    answer->done = true;
    answer->result = *result;
}

void rig_begin(struct cfg_store *store, const struct cfg_txn *txn, const uint8_t *id,
               struct rig_answer *answer)
{
    answer->done = false;
    cfg_store_txn(store, txn, id, on_done, answer);
}

void rig_wait(struct rig *rig, const bool *done)
{
    atl_ns until = atl_clock_monotonic() + LIMIT;
    while (!*done && atl_clock_monotonic() < until)
        atl_loop_step(rig->loop, 20 * ATL_MS);
    assert_true(*done);
}

struct cfg_store_result rig_txn(struct rig *rig, struct cfg_store *store, const struct cfg_txn *txn,
                                const uint8_t *id)
{
    struct rig_answer answer;
    rig_begin(store, txn, id, &answer);
    rig_wait(rig, &answer.done);
    return answer.result;
}

struct cfg_store_result rig_put(struct rig *rig, struct cfg_store *store, const char *path, const char *text)
{
    const struct cfg_op op = {
        .kind = CFG_PUT, .path = path, .bytes = (const uint8_t *)text, .size = strlen(text)};
    return rig_txn(rig, store, &(const struct cfg_txn){.ops = &op, .op_count = 1}, NULL);
}

const char *rig_text(struct cfg_store *store, const char *path)
{
    const struct cfg_file *file = cfg_tree_get(cfg_store_tree(store), path);
    return file != NULL ? (const char *)file->bytes : NULL;
}

void rig_wait_for(struct rig *rig, struct cfg_store *store, const char *path, const char *text)
{
    atl_ns until = atl_clock_monotonic() + LIMIT;
    for (;;) {
        const char *there = rig_text(store, path);
        if (text == NULL ? there == NULL : there != NULL && strcmp(there, text) == 0)
            return;
        if (atl_clock_monotonic() >= until)
            fail_msg("'%s' is '%s', not '%s'", path, there != NULL ? there : "", text != NULL ? text : "");
        atl_loop_step(rig->loop, 20 * ATL_MS);
    }
}
