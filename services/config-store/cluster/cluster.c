/* The running part: membership, the local copy of corosync.conf, tasks. */
#include "cluster/cluster.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atoll/store/v1/directory.pb-c.h"
#include "cluster/ask.h"
#include "cluster/internal.h"
#include "cluster/work.h"
#include "io/directory.h"
#include "io/log.h"
#include "view.h"

#define TICK           ATL_SECOND
#define RELOAD_TIMEOUT (10 * ATL_SECOND)
#define MEMBERS_WITHIN ATL_SECOND

/* --- corosync.conf --- */

enum atl_code cfg_cluster_conf(const struct cfg_cluster *cluster, struct atl_arena *arena,
                               struct cfg_corosync *ret_conf, struct atl_error *err)
{
    const struct cfg_file *file = cfg_tree_get(cfg_store_ahead(cluster->cfg->store), CFG_COROSYNC_CONF);
    if (cluster->members == NULL || file == NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "this node is in no cluster");
    return cfg_corosync_read((const char *)file->bytes, file->size, arena, ret_conf, err);
}

struct cfg_op cfg_cluster_conf_op(const struct cfg_corosync *conf, struct atl_arena *arena)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    cfg_corosync_write(conf, &(const struct cfg_corosync_place){.dir = NULL}, &text);
    return (struct cfg_op){.kind = CFG_PUT,
                           .path = CFG_COROSYNC_CONF,
                           .bytes = atl_arena_copy(arena, text.data, text.length),
                           .size = text.length};
}

struct cfg_compare cfg_cluster_unchanged(const struct cfg_cluster *cluster, const char *path)
{
    const struct cfg_tree *tree = cfg_store_ahead(cluster->cfg->store);
    const struct cfg_file *file = cfg_tree_get(tree, path);
    if (file == NULL)
        return (struct cfg_compare){.kind = CFG_ABSENT, .path = path};
    return (struct cfg_compare){
        .kind = CFG_AT_REVISION, .path = path, .epoch = tree->epoch, .number = file->number};
}

static void on_reloaded(const struct atl_process_end *end, void *user)
{
    struct cfg_cluster *cluster = user;
    struct atl_error error = {0};
    cluster->reload = NULL;
    if (end->exit_status != 0) {
        atl_log(ATL_WARNING, "corosync-not-reloaded",
                "corosync does not take its new configuration: %.200s%.200s", end->output, end->errors);
        if (cfg_slot_set(&cluster->place, "corosync", CFG_SLOT_AGAIN, &error) != ATL_OK)
            atl_log(ATL_ERROR, "corosync-not-restarted", "%s", error.text);
    }
    if (cluster->reload_again)
        cfg_cluster_reload(cluster);
}

void cfg_cluster_reload(struct cfg_cluster *cluster)
{
    static const char *const argv[] = {"corosync-cfgtool", "-R", NULL};
    struct atl_error error = {0};
    cluster->reload_again = cluster->reload != NULL;
    if (cluster->reload_again)
        return;
    const struct atl_process_options options = {.argv = argv, .capture = 4096, .timeout = RELOAD_TIMEOUT};
    if (atl_process_start(cluster->cfg->loop, &options, on_reloaded, cluster, &cluster->reload, &error) !=
        ATL_OK)
        atl_log(ATL_WARNING, "corosync-not-reloaded", "%s", error.text);
}

/* Where etcd is on the other nodes, for what runs and for our next start. */
static void keep_endpoints(struct cfg_cluster *cluster, const struct cfg_corosync *conf)
{
    struct atl_buf endpoints ATL_BUF_AT_EXIT = {0};
    struct cfg_cluster_conf kept = cluster->conf;
    struct atl_error error = {0};
    cfg_cluster_endpoints(conf, cluster->place.node, &endpoints);
    if (endpoints.length == 0 || !atl_copy(kept.endpoints, sizeof kept.endpoints, endpoints.data) ||
        strcmp(kept.endpoints, cluster->conf.endpoints) == 0)
        return;
    if (cfg_place_set_conf(&cluster->place, &kept, &error) != ATL_OK) {
        atl_log(ATL_WARNING, "cluster-conf-not-written", "%s", error.text);
        return;
    }
    cluster->conf = kept;
    if (cfg_ask_set_members(cluster->channel, kept.endpoints, &error) != ATL_OK ||
        cfg_store_set_members(cluster->cfg->store, kept.endpoints, &error) != ATL_OK)
        atl_log(ATL_WARNING, "members-not-taken", "%s", error.text);
}

/* corosync-qdevice runs while there is a witness. */
static void place_qdevice(struct cfg_cluster *cluster, bool wanted)
{
    enum cfg_slot_wish wish = wanted ? CFG_SLOT_UP : CFG_SLOT_OFF;
    struct atl_error error = {0};
    if (cluster->qdevice == wish)
        return;
    if (cfg_slot_set(&cluster->place, "qdevice", wish, &error) != ATL_OK)
        atl_log(ATL_ERROR, "qdevice-not-set", "%s", error.text);
    else
        cluster->qdevice = wish;
}

/* Our own copy follows the tree; corosync reads it when it differs. */
static void place_conf(struct cfg_cluster *cluster, const struct cfg_file *file)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    struct atl_buf old ATL_BUF_AT_EXIT = {0};
    struct atl_error error = {0};
    struct cfg_corosync conf;
    if (cfg_corosync_read((const char *)file->bytes, file->size, &arena, &conf, &error) != ATL_OK) {
        atl_log(ATL_ERROR, "corosync-conf-unread", "%s", error.text);
        return;
    }
    if (cfg_corosync_find(&conf, cluster->place.node) == NULL) {
        cfg_cluster_leave(cluster, "the others took this node out of cluster");
        return;
    }
    keep_endpoints(cluster, &conf);
    place_qdevice(cluster, conf.qdevice_host != NULL);
    cfg_corosync_write(&conf,
                       &(const struct cfg_corosync_place){
                           .dir = cfg_place_path(&cluster->place, "corosync", &arena), .user = cluster->user},
                       &text);
    bool same = cfg_place_read(&cluster->place, "corosync/corosync.conf", &old, NULL) == ATL_OK &&
                old.length == text.length && memcmp(old.data, text.data, text.length) == 0;
    if (same)
        return;
    if (cfg_place_write(&cluster->place, "corosync/corosync.conf", &text, &error) != ATL_OK) {
        atl_log(ATL_ERROR, "corosync-conf-not-written", "%s", error.text);
        return;
    }
    atl_log(ATL_NOTICE, "corosync-conf", "version %" PRIu64 " with %zu nodes", conf.version, conf.count);
    cfg_cluster_reload(cluster);
}

static void on_change(const char *path, const struct cfg_file *file, void *user)
{
    if (strcmp(path, CFG_COROSYNC_CONF) == 0 && file != NULL)
        place_conf(user, file);
}

/* The first node of a cluster brings the file with it. */
static void on_first_conf(const struct cfg_store_result *result, void *user)
{
    (void)user;
    if (result->code != ATL_OK && result->code != ATL_E_CONFLICT)
        atl_log(ATL_WARNING, "corosync-conf-not-stored", "%s", result->error.text);
}

static void store_first_conf(struct cfg_cluster *cluster)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    struct cfg_corosync conf;
    struct atl_error error = {0};
    enum atl_code code = cfg_place_read(&cluster->place, "corosync/corosync.conf", &text, &error);
    if (code == ATL_OK)
        code = cfg_corosync_read(text.data, text.length, &arena, &conf, &error);
    if (code != ATL_OK) {
        atl_log(ATL_ERROR, "corosync-conf-unread", "%s", error.text);
        return;
    }
    const struct cfg_op op = cfg_cluster_conf_op(&conf, &arena);
    const struct cfg_compare compare = {.kind = CFG_ABSENT, .path = CFG_COROSYNC_CONF};
    cfg_store_txn(
        cluster->cfg->store,
        &(const struct cfg_txn){.compares = &compare, .compare_count = 1, .ops = &op, .op_count = 1}, NULL,
        on_first_conf, NULL);
}

/* --- membership --- */

static void on_members(const struct atl_membership *now, void *user)
{
    struct cfg_cluster *cluster = user;
    cfg_store_set_quorum(cluster->cfg->store, now->quorate);
    for (size_t i = 0; i < now->count; i++)
        if (!now->members[i].self)
            cfg_view_member(cluster->cfg->view, now->members[i].name, now->members[i].online);
    atl_log(now->quorate ? ATL_NOTICE : ATL_WARNING, "members", "%s, %u of %u votes, %u needed",
            now->quorate ? "quorate" : "no quorum", now->total_votes, now->expected_votes, now->needed_votes);
}

const struct atl_membership *cfg_cluster_membership(const struct cfg_cluster *cluster)
{
    return cluster->members != NULL ? atl_members_now(cluster->members) : NULL;
}

/* --- begin and end --- */

/* A node that joins and had to go on alone: as soon as etcd has its vote, config-store begins anew. */
static void on_vote(const struct atl_etcd_answer *answer, void *user)
{
    struct cfg_cluster *cluster = user;
    cluster->call = NULL;
    if (answer->code != ATL_OK)
        return;
    atl_log(ATL_NOTICE, "join-goes-on", "etcd has its vote; beginning anew as a member");
    atl_loop_stop(cluster->cfg->loop);
}

static void look_for_vote(void *user)
{
    struct cfg_cluster *cluster = user;
    Etcd__RangeRequest range = ETCD__RANGE_REQUEST__INIT;
    static uint8_t key[] = "/atoll/root";
    range.key = (ProtobufCBinaryData){.data = key, .len = sizeof key - 1};
    if (cluster->call == NULL)
        cluster->call =
            atl_etcd_call(cluster->channel, ATL_ETCD_RANGE, &range.base, ATL_SECOND, on_vote, cluster);
}

static void on_record(const struct cfg_store_result *result, void *user)
{
    (void)user;
    if (result->code != ATL_OK)
        atl_log(ATL_WARNING, "record-not-stored", "where this node is: %s", result->error.text);
}

/* Our record in the directory: from then on the bus of all nodes knows where we are; our services add their
 * keys. */
static void store_record(struct cfg_cluster *cluster)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
    record.address = cluster->conf.address;
    const char *path = atl_arena_format(&arena, ATL_DIRECTORY_PREFIX "%s", cluster->place.node);
    const struct cfg_op op = cfg_put_message(&arena, path, &record.base);
    const struct cfg_compare compare = {.kind = CFG_ABSENT, .path = path};
    cfg_store_txn(
        cluster->cfg->store,
        &(const struct cfg_txn){.compares = &compare, .compare_count = 1, .ops = &op, .op_count = 1}, NULL,
        on_record, NULL);
}

/* What a member has in the tree and does not find there yet. */
static void on_tick(void *user)
{
    struct cfg_cluster *cluster = user;
    const struct cfg_tree *tree = cfg_store_ahead(cluster->cfg->store);
    char record[CFG_PATH_MAX];
    bool writable = false;
    (void)cfg_store_age(cluster->cfg->store, &writable);
    cfg_rotate_tick(cluster->rotate, writable);
    if (!writable)
        return;
    (void)snprintf(record, sizeof record, ATL_DIRECTORY_PREFIX "%s", cluster->place.node);
    if (cfg_tree_get(tree, CFG_COROSYNC_CONF) == NULL)
        store_first_conf(cluster);
    else if (cfg_tree_get(tree, record) == NULL)
        store_record(cluster);
    else
        cfg_joining_tick(cluster);
    cfg_voter_tick(cluster->voter);
    cfg_witness_tick(cluster);
}

/* What is told of the cluster, and whether it may be changed, is not to begin with "not known". */
static void wait_for_members(struct cfg_cluster *cluster)
{
    atl_ns until = atl_clock_monotonic() + MEMBERS_WITHIN;
    while (!atl_members_now(cluster->members)->connected && atl_clock_monotonic() < until)
        atl_loop_step(cluster->cfg->loop, 10 * ATL_MS);
}

static void open_member(struct cfg_cluster *cluster)
{
    struct cfg *cfg = cluster->cfg;
    const struct atl_members_options options = {
        .loop = cfg->loop, .node = cfg->program->node, .corosync = true};
    cluster->members = atl_members_open(&options, on_members, cluster);
    const struct cfg_file *file = cfg_tree_get(cfg_store_tree(cfg->store), CFG_COROSYNC_CONF);
    if (file != NULL)
        place_conf(cluster, file);
    cluster->rotate = cfg_rotate_new(cluster);
    cluster->voter = cfg_voter_new(cluster);
    cfg_store_on_commit(cfg->store, on_change, NULL, cluster);
    cluster->tick = atl_loop_timer(cfg->loop, 0, TICK, on_tick, cluster);
    wait_for_members(cluster);
}

/* A worker that was killed after it had decided leaves us what we were: we begin anew with what it decided.
 */
static void on_task(const struct atl_task_info *info, void *user)
{
    struct cfg_cluster *cluster = user;
    struct cfg_cluster_conf conf;
    cfg_report_task(cluster->report, info);
    if (info->state != ATL_TASK_STOPPED || cluster->conf.state != CFG_ALONE ||
        cfg_place_conf(&cluster->place, &conf, NULL) != ATL_OK || conf.state == CFG_ALONE)
        return;
    atl_log(ATL_NOTICE, "goes-on", "the task '%s' ended half-way; beginning anew to go on with it",
            info->parts.type);
    atl_loop_stop(cluster->cfg->loop);
}

static enum atl_code open_tasks(struct cfg_cluster *cluster, const char *dir, struct atl_error *err)
{
    const struct atl_program *program = cluster->cfg->program;
    const struct atl_tasks_options options = {.loop = cluster->cfg->loop,
                                              .service = "config-store",
                                              .node = program->node,
                                              .run_dir = program->run_dir,
                                              .state_dir = dir != NULL ? dir : program->state_dir,
                                              .running_max = 1,
                                              .on_change = on_task,
                                              .user = cluster};
    return atl_tasks_open(&options, &cluster->tasks, err);
}

static void read_user(struct cfg_cluster *cluster)
{
    char text[1024];
    struct passwd self;
    struct passwd *found = NULL;
    bool known = getpwuid_r(geteuid(), &self, text, sizeof text, &found) == 0 && found != NULL;
    (void)atl_copy(cluster->user, sizeof cluster->user, known ? self.pw_name : "root");
}

enum atl_code cfg_cluster_open(struct cfg *cfg, const struct cfg_cluster_options *options,
                               struct cfg_cluster **ret_cluster, struct atl_error *err)
{
    struct cfg_cluster *cluster = atl_new0(struct cfg_cluster);
    cluster->cfg = cfg;
    cluster->place = options->start->place;
    cluster->conf = options->start->conf;
    cluster->qdevice = CFG_SLOT_DOWN;
    *ret_cluster = cluster;
    read_user(cluster);
    cluster->report = cfg_report_new(cfg);
    enum atl_code code = open_tasks(cluster, options->tasks_dir, err);
    if (code != ATL_OK || cluster->conf.state == CFG_ALONE)
        return code;
    code = cfg_ask_channel(&cluster->place, cluster->conf.endpoints, cfg->loop, &cluster->channel, err);
    if (code != ATL_OK)
        return code;
    if (options->start->waiting)
        cluster->tick = atl_loop_timer(cfg->loop, TICK, TICK, look_for_vote, cluster);
    else
        open_member(cluster);
    return cluster->left ? atl_fail(err, ATL_E_STATE, NULL, "this node was removed from the cluster")
                         : ATL_OK;
}

void cfg_cluster_close(struct cfg_cluster **pointer)
{
    struct cfg_cluster *cluster = *pointer;
    *pointer = NULL;
    if (cluster == NULL)
        return;
    atl_timer_free(cluster->tick);
    atl_timer_free(cluster->ending);
    if (cluster->call != NULL)
        atl_etcd_cancel(cluster->call);
    if (cluster->retiring != NULL)
        atl_etcd_cancel(cluster->retiring);
    cfg_rotate_free(&cluster->rotate);
    cfg_voter_free(&cluster->voter);
    atl_process_free(cluster->reload);
    atl_process_free(cluster->expected);
    if (cluster->members != NULL)
        atl_members_close(&cluster->members);
    atl_grpc_free(&cluster->channel);
    if (cluster->tasks != NULL)
        atl_tasks_close(&cluster->tasks);
    cfg_report_free(&cluster->report);
    atl_arena_done(&cluster->arena);
    atl_arena_done(&cluster->retiring_arena);
    free(cluster);
}
