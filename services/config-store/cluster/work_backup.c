/* Tasks "clusterbackup" and "clusterrestore": the tree into a file of this node, and back; also alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atoll/store/v1/store.atl.h"
#include "cluster/work.h"
#include "cluster/work_internal.h"
#include "core/backup.h"
#include "drivers/choose.h"
#include "drivers/etcd_move.h"

#define PAGE_DEADLINE (10 * ATL_SECOND)
#define MOVE_TIMEOUT  (5 * ATL_MINUTE)
enum { TRIES_MAX = 5 };

/* --- the tree as it is --- */

static enum atl_code take_page(struct cfg_tree *tree, const Atoll__Store__V1__ListReply *page,
                               struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < page->n_file && code == ATL_OK; i++) {
        const Atoll__Store__V1__File *file = page->file[i];
        const void *bytes = file->content.data != NULL ? (const void *)file->content.data : "";
        code = cfg_tree_load(tree, file->path, bytes, file->content.len, file->revision->number, err);
    }
    return code;
}

/* True when it came as of one revision; false: it changed between two pages. */
static enum atl_code list_once(struct cfg_work *work, struct cfg_tree *tree, bool *ret_whole,
                               struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    Atoll__Store__V1__ListRequest list = ATOLL__STORE__V1__LIST_REQUEST__INIT;
    *ret_whole = true;
    for (bool more = true, first = true; more; first = false) {
        const ProtobufCMessage *answer = NULL;
        enum atl_code code = atl_task_call(work->task, &atl_rpc_store_v1_Store_List, &list.base,
                                           PAGE_DEADLINE, &arena, &answer, err);
        if (code != ATL_OK)
            return code;
        const Atoll__Store__V1__ListReply *page = (const void *)answer;
        if (first)
            cfg_tree_init(tree, page->revision->epoch);
        *ret_whole = *ret_whole && (first || tree->number == page->revision->number) &&
                     tree->epoch == page->revision->epoch;
        tree->number = page->revision->number;
        code = take_page(tree, page, err);
        if (code != ATL_OK)
            return code;
        more = page->has_more && page->more && page->n_file > 0;
        if (more)
            list.after = page->file[page->n_file - 1]->path;
    }
    return ATL_OK;
}

static enum atl_code list_tree(struct cfg_work *work, struct cfg_tree *tree, struct atl_error *err)
{
    bool whole = false;
    enum atl_code code = ATL_OK;
    for (int tries = 0; tries < TRIES_MAX && !whole && code == ATL_OK; tries++) {
        cfg_tree_done(tree);
        code = list_once(work, tree, &whole, err);
    }
    return code != ATL_OK || whole ? code
                                   : atl_fail(err, ATL_E_CONFLICT, NULL, "the tree changes all the time");
}

/* --- the file: a tree as the engine of one node keeps it --- */

static enum atl_code write_tree(const struct cfg_work *work, const char *name, const struct cfg_tree *tree,
                                struct atl_error *err)
{
    void *file = NULL;
    const struct cfg_engine_options options = {.state_dir = work->place.dir, .name = name};
    enum atl_code code = cfg_engine_sqlite.open(&options, &file, err);
    if (code != ATL_OK)
        return code;
    struct cfg_engine_change *changes = atl_alloc0((tree->count + 1) * sizeof *changes);
    for (size_t i = 0; i < tree->count; i++)
        changes[i] = (struct cfg_engine_change){.path = tree->files[i]->path,
                                                .bytes = tree->files[i]->bytes,
                                                .size = tree->files[i]->size,
                                                .number = tree->files[i]->number};
    const struct cfg_engine_commit commit = {
        .changes = changes, .change_count = tree->count, .number = tree->number, .epoch = tree->epoch};
    code = cfg_engine_sqlite.commit(file, &commit, err);
    cfg_engine_sqlite.close(file);
    free(changes);
    return code;
}

struct reading {
    struct cfg_tree *tree;
};

static void take_revision(void *user, uint64_t epoch, uint64_t number)
{
    struct reading *reading = user;
    cfg_tree_init(reading->tree, epoch);
    reading->tree->number = number;
}

static enum atl_code take_file(void *user, const struct cfg_engine_change *file, struct atl_error *err)
{
    struct reading *reading = user;
    return cfg_tree_load(reading->tree, file->path, file->bytes, file->size, file->number, err);
}

static void take_request(void *user, const struct cfg_engine_request *request)
{
    (void)user;
    (void)request; /* answers of another time */
}

static enum atl_code read_tree(const struct cfg_work *work, const char *name, struct cfg_tree *tree,
                               struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct reading reading = {.tree = tree};
    const struct cfg_engine_sink sink = {
        .user = &reading, .revision = take_revision, .file = take_file, .request = take_request};
    void *file = NULL;
    if (access(cfg_place_path(&work->place, name, &arena), R_OK) != 0) /* opening would make it */
        return atl_fail(err, ATL_E_ABSENT, "file", "there is no '%s/%s'", work->place.dir, name);
    enum atl_code code = cfg_engine_sqlite.open(
        &(const struct cfg_engine_options){.state_dir = work->place.dir, .name = name}, &file, err);
    if (code != ATL_OK)
        return code;
    code = cfg_engine_sqlite.load(file, &sink, err);
    cfg_engine_sqlite.close(file);
    return code;
}

static void remove_tree(const struct cfg_work *work, const char *name)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < ATL_COUNT(ends); i++) {
        char *path ATL_FREE_AT_EXIT = atl_format("%s%s", name, ends[i]);
        cfg_place_remove(&work->place, path);
    }
}

/* --- backup --- */

static enum atl_code is_same(const struct cfg_tree *one, const struct cfg_tree *other, struct atl_error *err)
{
    bool same = one->count == other->count;
    for (size_t i = 0; same && i < one->count; i++)
        same = strcmp(one->files[i]->path, other->files[i]->path) == 0 &&
               one->files[i]->size == other->files[i]->size &&
               memcmp(one->files[i]->bytes, other->files[i]->bytes, one->files[i]->size) == 0;
    return same ? ATL_OK : atl_fail(err, ATL_E_IO, NULL, "what was read back is not what was written");
}

static enum atl_code covered_part(const struct cfg_tree *tree, struct cfg_tree *ret_part,
                                  struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    cfg_tree_init(ret_part, tree->epoch);
    ret_part->number = tree->number;
    for (size_t i = 0; i < tree->count && code == ATL_OK; i++) {
        const struct cfg_file *file = tree->files[i];
        if (cfg_backup_covers(file->path))
            code = cfg_tree_load(ret_part, file->path, file->bytes, file->size, file->number, err);
    }
    return code;
}

static enum atl_code save(struct cfg_work *work, const struct cfg_tree *part, const char *name,
                          struct atl_error *err)
{
    struct cfg_tree again = {.epoch = 0};
    char *draft ATL_FREE_AT_EXIT = atl_format("%s.new", name);
    char *from ATL_FREE_AT_EXIT = atl_format("%s/%s", work->place.dir, draft);
    char *to ATL_FREE_AT_EXIT = atl_format("%s/%s", work->place.dir, name);
    remove_tree(work, draft); /* of a backup that was cut off */
    enum atl_code code = write_tree(work, draft, part, err);
    if (code == ATL_OK)
        code = read_tree(work, draft, &again, err);
    if (code == ATL_OK)
        code = is_same(part, &again, err);
    cfg_tree_done(&again);
    if (code == ATL_OK && rename(from, to) != 0)
        code = atl_fail(err, ATL_E_IO, NULL, "cannot write '%s'", to);
    if (code != ATL_OK)
        remove_tree(work, draft);
    else
        atl_task_log(work->task, "%zu files in '%s' (0600, not encrypted: keep it as you keep passwords)",
                     part->count, to);
    return code;
}

enum atl_code cfg_work_backup(struct cfg_work *work, struct atl_error *err)
{
    struct cfg_tree tree = {.epoch = 0};
    struct cfg_tree part = {.epoch = 0};
    char *folder ATL_FREE_AT_EXIT = atl_format("%s/backup", work->place.dir);
    char *name ATL_FREE_AT_EXIT = atl_format("backup/%s", work->spec->file);
    (void)mkdir(folder, 0700); /* there already, or writing says what is wrong */
    enum atl_code code = list_tree(work, &tree, err);
    if (code == ATL_OK)
        code = covered_part(&tree, &part, err);
    if (code == ATL_OK)
        code = save(work, &part, name, err);
    cfg_tree_done(&part);
    cfg_tree_done(&tree);
    return code;
}

/* --- restore --- */

struct restoring {
    struct cfg_work *work;
    struct cfg_tree saved;
    struct cfg_tree now;
    struct cfg_tree merged;
};

static enum atl_code merge(struct restoring *restoring, struct atl_error *err)
{
    cfg_tree_done(&restoring->merged);
    enum atl_code code = list_tree(restoring->work, &restoring->now, err);
    if (code == ATL_OK)
        code = cfg_backup_merge(&restoring->saved, &restoring->now, &restoring->merged, err);
    if (code != ATL_OK)
        return code;
    remove_tree(restoring->work, CFG_RESTORE_FILE ".new");
    return write_tree(restoring->work, CFG_RESTORE_FILE ".new", &restoring->merged, err);
}

/* Right before the switch: has what the backup does not cover changed since it was read? */
static bool on_step(enum cfg_move_step step, void *user)
{
    struct restoring *restoring = user;
    struct cfg_tree again = {.epoch = 0};
    if (step != CFG_MOVE_VERIFIED)
        return true;
    bool same =
        list_tree(restoring->work, &again, NULL) == ATL_OK && cfg_backup_rest_same(&restoring->now, &again);
    cfg_tree_done(&again);
    return same;
}

static enum atl_code move_once(struct restoring *restoring, const struct cfg_cluster_conf *conf,
                               struct atl_error *err)
{
    struct cfg_work *work = restoring->work;
    struct cfg_engine_chosen chosen;
    void *sqlite = NULL;
    uint64_t epoch = 0;
    const struct cfg_engine_choice choice = {
        .kind = "etcd",
        .endpoints = conf->endpoints,
        .ca_file = cfg_place_path(&work->place, "etcd/ca.pem", &work->arena),
        .cert_file = cfg_place_path(&work->place, "etcd/node.pem", &work->arena),
        .key_file = cfg_place_path(&work->place, "etcd/node.key", &work->arena),
        .seal_key = cfg_place_path(&work->place, CFG_SEAL_FILE, &work->arena)};
    enum atl_code code = merge(restoring, err);
    if (code == ATL_OK)
        code = cfg_engine_choose(&choice, atl_task_loop(work->task), &chosen, err);
    if (code == ATL_OK)
        code = cfg_engine_sqlite.open(
            &(const struct cfg_engine_options){.state_dir = work->place.dir, .name = CFG_RESTORE_FILE ".new"},
            &sqlite, err);
    if (code != ATL_OK)
        return code;
    const struct cfg_move_options move = {.to = &chosen.options,
                                          .driver = &cfg_engine_sqlite,
                                          .engine = sqlite,
                                          .replace = true,
                                          .timeout = MOVE_TIMEOUT,
                                          .step = on_step,
                                          .user = restoring};
    code = cfg_etcd_move(&move, &epoch, err);
    cfg_engine_sqlite.close(sqlite);
    return code;
}

/* Of a cluster: loaded beside the tree that is there, verified, made the current one by one key. */
static enum atl_code restore_cluster(struct restoring *restoring, const struct cfg_cluster_conf *conf,
                                     struct atl_error *err)
{
    enum atl_code code = ATL_E_CANCELLED;
    for (int tries = 0; tries < TRIES_MAX && code == ATL_E_CANCELLED; tries++)
        code = move_once(restoring, conf, err);
    remove_tree(restoring->work, CFG_RESTORE_FILE ".new");
    return code == ATL_E_CANCELLED ? atl_fail(err, ATL_E_CONFLICT, NULL, "the tree changes all the time")
                                   : code;
}

/* Alone: config-store takes the file in place of its own when it starts. */
static enum atl_code restore_alone(struct restoring *restoring, struct atl_error *err)
{
    struct cfg_work *work = restoring->work;
    char *from ATL_FREE_AT_EXIT = atl_format("%s/%s.new", work->place.dir, CFG_RESTORE_FILE);
    char *to ATL_FREE_AT_EXIT = atl_format("%s/%s", work->place.dir, CFG_RESTORE_FILE);
    enum atl_code code = merge(restoring, err);
    if (code == ATL_OK && rename(from, to) != 0)
        code = atl_fail(err, ATL_E_IO, NULL, "cannot write '%s'", to);
    return code == ATL_OK ? cfg_work_begin_anew(work, err) : code;
}

enum atl_code cfg_work_restore(struct cfg_work *work, struct atl_error *err)
{
    struct restoring restoring = {.work = work};
    struct cfg_cluster_conf conf;
    char *name ATL_FREE_AT_EXIT = atl_format("backup/%s", work->spec->file);
    enum atl_code code = cfg_place_conf(&work->place, &conf, err);
    if (code == ATL_OK)
        code = read_tree(work, name, &restoring.saved, err);
    if (code == ATL_OK)
        atl_task_progress(work->task, 0.2, "%zu files", restoring.saved.count);
    if (code == ATL_OK)
        code = conf.state == CFG_MEMBER ? restore_cluster(&restoring, &conf, err)
                                        : restore_alone(&restoring, err);
    if (code == ATL_OK)
        atl_task_log(work->task, "the tree is what '%s' holds", name);
    cfg_tree_done(&restoring.merged);
    cfg_tree_done(&restoring.now);
    cfg_tree_done(&restoring.saved);
    return code;
}
