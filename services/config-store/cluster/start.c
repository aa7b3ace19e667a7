/* What cluster.conf makes of the start of config-store. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/ask.h"
#include "cluster/cluster.h"
#include "cluster/crash.h"
#include "drivers/etcd_move.h"
#include "io/log.h"

#define MOVE_TIMEOUT       (60 * ATL_SECOND)
#define VOTE_TIMEOUT       (20 * ATL_SECOND)
#define CONFIGURED_TIMEOUT (30 * ATL_SECOND)

void cfg_cluster_start_done(struct cfg_cluster_start *start)
{
    atl_arena_done(&start->arena);
}

static void choose(struct cfg_cluster_start *start, struct cfg_engine_choice *choice)
{
    struct atl_buf home ATL_BUF_AT_EXIT = {0};
    cfg_endpoint_write(start->conf.address, CFG_ETCD_CLIENT_PORT, &home);
    choice->kind = "etcd";
    choice->endpoints = start->conf.endpoints;
    choice->home = atl_arena_strdup(&start->arena, home.data);
    choice->ca_file = cfg_place_path(&start->place, "etcd/ca.pem", &start->arena);
    choice->cert_file = cfg_place_path(&start->place, "etcd/node.pem", &start->arena);
    choice->seal_key = cfg_place_path(&start->place, CFG_SEAL_FILE, &start->arena);
    choice->key_file = cfg_place_path(&start->place, "etcd/node.key", &start->arena);
}

/* What was ours alone is kept, out of the way. */
static void put_aside(const struct cfg_place *place, const char *folder)
{
    static const char *const names[] = {"tree.db", "tree.db-wal", "tree.db-shm"};
    char *to ATL_FREE_AT_EXIT = atl_format("%s/%s", place->dir, folder);
    (void)mkdir(to, 0700); /* there already, or rename says what is wrong */
    for (size_t i = 0; i < ATL_COUNT(names); i++) {
        char *old ATL_FREE_AT_EXIT = atl_format("%s/%s", place->dir, names[i]);
        char *new ATL_FREE_AT_EXIT = atl_format("%s/%s", to, names[i]);
        if (rename(old, new) != 0 && i == 0)
            atl_log(ATL_WARNING, "tree-not-put-aside", "'%s' cannot be moved to '%s'", old, to);
    }
}

/* A restore on a node alone: the tree that is to be is there as a whole. */
static void take_restored(const struct cfg_place *place)
{
    char *from ATL_FREE_AT_EXIT = atl_format("%s/%s", place->dir, CFG_RESTORE_FILE);
    char *to ATL_FREE_AT_EXIT = atl_format("%s/tree.db", place->dir);
    if (access(from, F_OK) != 0)
        return;
    put_aside(place, "before-restore");
    if (rename(from, to) != 0)
        atl_log(ATL_ERROR, "tree-not-restored", "'%s' cannot be moved to '%s'", from, to);
    else
        atl_log(ATL_NOTICE, "tree-restored",
                "the tree is another one now; the one before is in before-restore/");
}

static enum atl_code places_up(const struct cfg_place *place, struct atl_error *err)
{
    enum atl_code code = cfg_place_votes(place) ? cfg_slot_set(place, "etcd", CFG_SLOT_UP, err) : ATL_OK;
    return code == ATL_OK ? cfg_slot_set(place, "corosync", CFG_SLOT_UP, err) : code;
}

/* --- create --- */

static_assert(CFG_CRASH_MOVE_SWITCHED - CFG_CRASH_MOVE_CLEANED == CFG_MOVE_SWITCHED, "a point for each step");

static bool on_step(enum cfg_move_step step, void *user)
{
    cfg_crash_at(user, (enum cfg_crash_point)(CFG_CRASH_MOVE_CLEANED + step));
    return true;
}

static enum atl_code move_tree(struct cfg_cluster_start *start, struct atl_loop *loop,
                               const struct cfg_engine_choice *choice, struct atl_error *err)
{
    struct cfg_engine_chosen chosen;
    void *sqlite = NULL;
    uint64_t epoch = 0;
    enum atl_code code = cfg_engine_choose(choice, loop, &chosen, err);
    if (code == ATL_OK)
        code = cfg_engine_sqlite.open(&(const struct cfg_engine_options){.state_dir = start->place.dir},
                                      &sqlite, err);
    if (code != ATL_OK)
        return code;
    const struct cfg_move_options move = {.to = &chosen.options,
                                          .driver = &cfg_engine_sqlite,
                                          .engine = sqlite,
                                          .timeout = MOVE_TIMEOUT,
                                          .step = on_step,
                                          .user = &start->place};
    code = cfg_etcd_move(&move, &epoch, err);
    cfg_engine_sqlite.close(sqlite);
    return code;
}

static enum atl_code finish_create(struct cfg_cluster_start *start, struct atl_loop *loop,
                                   struct cfg_engine_choice *choice, struct atl_error *err)
{
    struct atl_error why = {0};
    const struct cfg_engine_choice alone = *choice;
    cfg_crash_at(&start->place, CFG_CRASH_MOVE_STARTED);
    choose(start, choice);
    enum atl_code code = places_up(&start->place, &why);
    if (code == ATL_OK)
        code = move_tree(start, loop, choice, &why);
    if (code != ATL_OK) {
        atl_log(ATL_ERROR, "cluster-not-created", "the tree cannot be moved to etcd: %s", why.text);
        *choice = alone;
        start->conf.state = CFG_ALONE;
        return cfg_place_leave(&start->place, why.text, err);
    }
    start->conf.state = CFG_MEMBER;
    code = cfg_place_set_conf(&start->place, &start->conf, err);
    cfg_crash_at(&start->place, CFG_CRASH_MOVE_MEMBER);
    if (code == ATL_OK)
        put_aside(&start->place, "before-cluster");
    return code;
}

/* --- join --- */

static enum atl_code begin_join(struct cfg_cluster_start *start, struct atl_loop *loop,
                                struct cfg_engine_choice *choice, struct atl_error *err)
{
    struct atl_grpc *channel = NULL;
    enum atl_code code = places_up(&start->place, err);
    if (code == ATL_OK)
        code = cfg_ask_channel(&start->place, start->conf.endpoints, loop, &channel, err);
    if (code != ATL_OK)
        return code;
    enum cfg_etcd_state state =
        cfg_ask_wait(channel, &(const struct cfg_ask_wait){.loop = loop, .timeout = VOTE_TIMEOUT});
    atl_grpc_free(&channel);
    start->waiting = state != CFG_ETCD_SERVING;
    if (start->waiting)
        atl_log(ATL_WARNING, "join-waits", "etcd has no vote yet; going on alone until it has");
    else
        choose(start, choice);
    return ATL_OK;
}

enum atl_code cfg_cluster_begin(struct cfg_cluster_start *start, struct atl_loop *loop,
                                struct cfg_engine_choice *choice, struct atl_error *err)
{
    enum atl_code code = cfg_place_conf(&start->place, &start->conf, err);
    if (code == ATL_OK && start->conf.state == CFG_ALONE)
        take_restored(&start->place);
    if (code != ATL_OK || start->conf.state == CFG_ALONE)
        return code;
    if (start->conf.state == CFG_MOVING)
        return finish_create(start, loop, choice, err);
    if (start->conf.state == CFG_JOINING)
        return begin_join(start, loop, choice, err);
    choose(start, choice);
    return places_up(&start->place, err);
}

/* --- what a joining node brings --- */

struct bringing {
    struct cfg *cfg;
    struct cfg_tree old; /* what the node had alone */
    char prefix[CFG_PATH_MAX];
    char folder[64]; /* of what stays behind */
    const struct cfg_place *place;
};

static void load_revision(void *user, uint64_t epoch, uint64_t number)
{
    struct bringing *bringing = user;
    cfg_tree_init(&bringing->old, epoch);
    bringing->old.number = number;
}

static enum atl_code load_file(void *user, const struct cfg_engine_change *file, struct atl_error *err)
{
    struct bringing *bringing = user;
    return cfg_tree_load(&bringing->old, file->path, file->bytes, file->size, file->number, err);
}

static void load_request(void *user, const struct cfg_engine_request *request)
{
    (void)user;
    (void)request; /* answers of the node alone; nobody asks again */
}

static enum atl_code read_old(struct bringing *bringing, struct atl_error *err)
{
    void *sqlite = NULL;
    const struct cfg_engine_sink sink = {
        .user = bringing, .revision = load_revision, .file = load_file, .request = load_request};
    enum atl_code code = cfg_engine_sqlite.open(
        &(const struct cfg_engine_options){.state_dir = bringing->place->dir}, &sqlite, err);
    if (code != ATL_OK)
        return code;
    code = cfg_engine_sqlite.load(sqlite, &sink, err);
    cfg_engine_sqlite.close(sqlite);
    return code;
}

static bool is_brought(const struct bringing *bringing, const struct cfg_file *file)
{
    return strncmp(file->path, bringing->prefix, strlen(bringing->prefix)) == 0;
}

/* Files of the whole, which the cluster has its own of: people may want to look at them. */
static enum atl_code keep_aside(const struct bringing *bringing, const struct cfg_file *file,
                                struct atl_error *err)
{
    char name[CFG_PATH_MAX + 80];
    struct atl_buf content ATL_BUF_AT_EXIT = {0};
    (void)snprintf(name, sizeof name, "%s/%s", bringing->folder, file->path);
    for (char *c = name + strlen(bringing->folder) + 1; *c != '\0'; c++)
        if (*c == '/')
            *c = '_'; /* one folder is easier to look through */
    atl_buf_add(&content, file->bytes, file->size);
    atl_log(ATL_NOTICE, "kept-aside", "'%s' of this node is now %s", file->path, name);
    return cfg_place_write(bringing->place, name, &content, err);
}

static void on_stored(const struct cfg_store_result *result, void *user)
{
    *(struct cfg_store_result *)user = *result;
}

static enum atl_code commit(struct cfg *cfg, const struct cfg_txn *txn, struct atl_error *err)
{
    struct cfg_store_result result = {.code = ATL_E_UNAVAILABLE};
    cfg_store_txn(cfg->store, txn, NULL, on_stored, &result);
    cfg_store_settle(cfg->store);
    return result.code == ATL_OK ? ATL_OK : atl_fail(err, result.code, NULL, "%s", result.error.text);
}

static bool is_there(const struct cfg *cfg, const struct cfg_file *file)
{
    const struct cfg_file *there = cfg_tree_get(cfg_store_tree(cfg->store), file->path);
    return there != NULL && there->size == file->size && memcmp(there->bytes, file->bytes, file->size) == 0;
}

/* In as few transactions as there can be; what an earlier start has put is not put again. */
static enum atl_code bring(const struct bringing *bringing, struct atl_error *err)
{
    struct cfg_op ops[CFG_TXN_OPS_MAX];
    struct cfg_txn txn = {.ops = ops};
    size_t bytes = 0;
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i <= bringing->old.count && code == ATL_OK; i++) {
        const struct cfg_file *file = i < bringing->old.count ? bringing->old.files[i] : NULL;
        bool full = file == NULL || txn.op_count == CFG_TXN_OPS_MAX || bytes + file->size > CFG_TXN_BYTES_MAX;
        if (full && txn.op_count > 0) {
            code = commit(bringing->cfg, &txn, err);
            txn.op_count = 0;
            bytes = 0;
        }
        if (file == NULL || !is_brought(bringing, file) || is_there(bringing->cfg, file))
            continue;
        ops[txn.op_count++] =
            (struct cfg_op){.kind = CFG_PUT, .path = file->path, .bytes = file->bytes, .size = file->size};
        bytes += file->size;
    }
    return code;
}

/* A guest id exists once in the whole tree. */
static enum atl_code check_guests(const struct bringing *bringing, struct atl_error *err)
{
    const struct cfg_tree *tree = cfg_store_tree(bringing->cfg->store);
    for (size_t i = 0; i < bringing->old.guest_count; i++) {
        const struct cfg_guest *guest = &bringing->old.guests[i];
        const struct cfg_file *there = cfg_tree_guest(tree, guest->vmid);
        if (there != NULL && strcmp(there->path, guest->file->path) != 0)
            return atl_fail(err, ATL_E_EXISTS, "vmid", "guest %u is in the cluster already: '%s'",
                            guest->vmid, there->path);
    }
    return ATL_OK;
}

/* Whoever promoted our etcd writes us into corosync.conf right after that. */
static bool is_configured(struct cfg *cfg)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_corosync conf;
    const struct cfg_file *file = cfg_tree_get(cfg_store_tree(cfg->store), CFG_COROSYNC_CONF);
    return file != NULL &&
           cfg_corosync_read((const char *)file->bytes, file->size, &arena, &conf, NULL) == ATL_OK &&
           cfg_corosync_find(&conf, cfg->program->node) != NULL;
}

static enum atl_code wait_until_configured(struct cfg *cfg, struct atl_error *err)
{
    atl_ns deadline = atl_clock_monotonic() + CONFIGURED_TIMEOUT;
    while (!is_configured(cfg)) {
        if (atl_clock_monotonic() > deadline)
            return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                            "the others have not put this node into corosync.conf yet");
        atl_loop_step(cfg->loop, 50 * ATL_MS);
    }
    return ATL_OK;
}

static enum atl_code bring_all(struct bringing *bringing, struct atl_error *err)
{
    enum atl_code code = wait_until_configured(bringing->cfg, err);
    if (code == ATL_OK)
        code = read_old(bringing, err);
    if (code == ATL_OK)
        code = check_guests(bringing, err);
    if (code == ATL_OK)
        code = cfg_place_empty(bringing->place, bringing->folder, err);
    for (size_t i = 0; i < bringing->old.count && code == ATL_OK; i++) {
        const struct cfg_file *file = bringing->old.files[i];
        if (!is_brought(bringing, file) && strncmp(file->path, ".state/", 7) != 0)
            code = keep_aside(bringing, file, err);
    }
    return code == ATL_OK ? bring(bringing, err) : code;
}

/* --- out again --- */

struct leaving {
    struct atl_grpc *channel;
    bool done;
    uint64_t member;
};

static void on_left(const struct atl_etcd_answer *answer, void *user)
{
    struct leaving *leaving = user;
    leaving->done = true;
    if (answer->code == ATL_OK && answer->message->descriptor == &etcd__status_response__descriptor)
        leaving->member = ((const Etcd__StatusResponse *)answer->message)->header->member_id;
}

static void leave_call(struct cfg *cfg, struct leaving *leaving, enum atl_etcd_method method,
                       const ProtobufCMessage *request)
{
    leaving->done = false;
    (void)atl_etcd_call(leaving->channel, method, request, 5 * ATL_SECOND, on_left, leaving);
    while (!leaving->done)
        atl_loop_step(cfg->loop, ATL_SECOND);
}

/* Takes ourselves out of corosync.conf and of etcd, so that the others do not wait for our vote. */
static void take_out(struct cfg *cfg, const struct cfg_cluster_start *start)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    struct cfg_corosync conf;
    struct leaving leaving = {.member = 0};
    const struct cfg_file *file = cfg_tree_get(cfg_store_tree(cfg->store), CFG_COROSYNC_CONF);
    if (file != NULL &&
        cfg_corosync_read((const char *)file->bytes, file->size, &arena, &conf, NULL) == ATL_OK &&
        cfg_corosync_remove(&conf, cfg->program->node, NULL) == ATL_OK) {
        cfg_corosync_write(&conf, &(const struct cfg_corosync_place){.dir = NULL}, &text);
        const struct cfg_op op = {.kind = CFG_PUT,
                                  .path = CFG_COROSYNC_CONF,
                                  .bytes = (const uint8_t *)text.data,
                                  .size = text.length};
        struct atl_error error = {0};
        if (commit(cfg, &(const struct cfg_txn){.ops = &op, .op_count = 1}, &error) != ATL_OK)
            atl_log(ATL_ERROR, "leave-failed", "corosync.conf still has this node: %s", error.text);
    }
    struct atl_buf endpoint ATL_BUF_AT_EXIT = {0};
    cfg_endpoint_write(start->conf.address, CFG_ETCD_CLIENT_PORT, &endpoint);
    if (cfg_ask_channel(&start->place, endpoint.data, cfg->loop, &leaving.channel, NULL) != ATL_OK)
        return;
    Etcd__StatusRequest status = ETCD__STATUS_REQUEST__INIT;
    leave_call(cfg, &leaving, ATL_ETCD_STATUS, &status.base);
    Etcd__MemberRemoveRequest remove = ETCD__MEMBER_REMOVE_REQUEST__INIT;
    remove.id = leaving.member;
    if (leaving.member != 0)
        leave_call(cfg, &leaving, ATL_ETCD_MEMBER_REMOVE, &remove.base);
    atl_grpc_free(&leaving.channel);
}

/* Before anything of ours is written: was this node taken out while it was away? */
static enum atl_code check_removed(struct cfg *cfg, const struct cfg_cluster_start *start,
                                   struct atl_error *err)
{
    static const char why[] = "this node was removed from the cluster";
    if (cfg_tree_get(cfg_store_tree(cfg->store), CFG_COROSYNC_CONF) == NULL || is_configured(cfg))
        return ATL_OK;
    enum atl_code code = cfg_place_leave(&start->place, why, err);
    return code != ATL_OK ? code : atl_fail(err, ATL_E_STATE, NULL, "%s; it is alone from now on", why);
}

enum atl_code cfg_cluster_finish(struct cfg *cfg, struct cfg_cluster_start *start, struct atl_error *err)
{
    if (start->conf.state == CFG_MEMBER)
        return check_removed(cfg, start, err);
    if (start->conf.state != CFG_JOINING || start->waiting)
        return ATL_OK;
    struct bringing bringing = {.cfg = cfg, .folder = "before-join", .place = &start->place};
    struct atl_error why = {0};
    (void)snprintf(bringing.prefix, sizeof bringing.prefix, "nodes/%s/", cfg->program->node);
    cfg_crash_at(&start->place, CFG_CRASH_BRING_STARTED);
    enum atl_code code = bring_all(&bringing, &why);
    cfg_crash_at(&start->place, CFG_CRASH_BRING_STORED);
    cfg_tree_done(&bringing.old);
    if (code == ATL_E_UNAVAILABLE) /* no quorum now: the next start tries again */
        return atl_fail(err, code, NULL, "%s", why.text);
    if (code != ATL_OK) {
        take_out(cfg, start);
        enum atl_code left = cfg_place_leave(&start->place, why.text, err);
        return left != ATL_OK ? left : atl_fail(err, code, NULL, "not joined: %s", why.text);
    }
    start->conf.state = CFG_MEMBER;
    code = cfg_place_set_conf(&start->place, &start->conf, err);
    cfg_crash_at(&start->place, CFG_CRASH_BRING_MEMBER);
    if (code == ATL_OK)
        put_aside(&start->place, bringing.folder);
    return code;
}
