/* Replaces the secrets that all nodes share, as core/rotation.h decides, and renews certificates in time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/cluster/v1/work.atl.h"
#include "cluster/ask.h"
#include "cluster/internal.h"
#include "identity.h"
#include "io/log.h"
#include "pure/codec.h"

#define SOON         (200 * ATL_MS) /* between steps of a rotation */
#define UPKEEP_EVERY (5 * ATL_SECOND)
#define LOST_AFTER   (5 * ATL_SECOND) /* then the others are asked whether we missed a rotation */
#define PROBE_LIMIT  ATL_SECOND
#define MEMBER_LIMIT (30 * ATL_SECOND)
/* Its vote is away for some seconds while certificates change, and it does its part after all others. */
#define WITNESS_SILENCE (15 * ATL_SECOND)
#define UNIT_TAKES      (5 * ATL_SECOND) /* systemd does not tell us which process is the new one */
enum { RESEAL_FILES = 50, RESEAL_BYTES = 256 << 10 };

enum purpose { TO_ROTATE, TO_CATCH_UP, TO_RENEW };

struct cfg_rotate {
    struct cfg_cluster *cluster;
    struct cfg_asking asking;
    enum purpose purpose;
    struct atl_timer *soon;
    bool storing; /* a transaction is on its way */
    enum cfg_rotation_phase telling;
    /* our member of etcd begins anew; then what was done is told */
    bool restarting;
    struct cfg_rotation restarted; /* for this */
    pid_t old_pid;
    atl_ns began;
    struct cfg_rotation done; /* here, whether it could be told or not */
    struct atl_grpc *own;
    struct atl_etcd_call *probe;
    /* files below priv/ up to this one are encrypted with the new key */
    char resealed[CFG_PATH_MAX + 1];
    struct cfg_rotation advancing;
    char by[CFG_PATH_MAX];
    char delay[ATL_TEXT_MAX]; /* what was last said to be in the way */
    /* what is looked at now and then */
    atl_ns upkeep_at;
    atl_ns lost_since; /* 0: the tree can be changed */
    size_t turn;       /* of the nodes that are asked */
    atl_ns witness_seen_at;
};

static void on_secrets(enum atl_code code, const struct atl_error *error, const struct cfg_secrets *secrets,
                       void *user);
static void look(struct cfg_rotate *rotate);

static void on_soon(void *user)
{
    struct cfg_rotate *rotate = user;
    bool writable = false;
    rotate->soon = NULL;
    (void)cfg_store_age(rotate->cluster->cfg->store, &writable);
    cfg_rotate_tick(rotate, writable);
}

static void again_soon(struct cfg_rotate *rotate)
{
    if (rotate->soon == NULL)
        rotate->soon = atl_loop_timer(rotate->cluster->cfg->loop, SOON, 0, on_soon, rotate);
}

struct cfg_rotate *cfg_rotate_new(struct cfg_cluster *cluster)
{
    struct cfg_rotate *rotate = atl_new0(struct cfg_rotate);
    rotate->cluster = cluster;
    rotate->witness_seen_at = atl_loop_now(cluster->cfg->loop);
    rotate->asking = (struct cfg_asking){.fn = on_secrets, .user = rotate};
    return rotate;
}

void cfg_rotate_free(struct cfg_rotate **pointer)
{
    struct cfg_rotate *rotate = *pointer;
    *pointer = NULL;
    if (rotate == NULL)
        return;
    atl_timer_free(rotate->soon);
    if (rotate->asking.call != NULL)
        atl_call_cancel(rotate->asking.call);
    if (rotate->probe != NULL)
        atl_etcd_cancel(rotate->probe);
    atl_grpc_free(&rotate->own);
    free(rotate);
}

/* --- what the tree says --- */

void cfg_rotation_read(const struct cfg_cluster *cluster, struct atl_arena *arena,
                       struct cfg_rotation *ret_rotation)
{
    const struct cfg_file *file = cfg_tree_get(cfg_store_ahead(cluster->cfg->store), CFG_ROTATION);
    const Atoll__Cluster__V1__Rotation *record =
        file != NULL ? (const void *)atl_unpack(&atl_msg_cluster_v1_Rotation, file->bytes, file->size, arena)
                     : NULL;
    *ret_rotation = (struct cfg_rotation){.by = ""};
    if (record != NULL && record->phase < CFG_ROTATION_PHASES)
        *ret_rotation = (struct cfg_rotation){.generation = record->generation,
                                              .phase = (enum cfg_rotation_phase)record->phase,
                                              .by = record->by};
}

const char *cfg_cluster_secrets(const struct cfg_cluster *cluster)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_rotation now;
    cfg_rotation_read(cluster, &arena, &now);
    return cfg_rotation_phase_to_text(now.phase);
}

static struct cfg_op rotation_op(const struct cfg_rotation *rotation, struct atl_arena *arena)
{
    Atoll__Cluster__V1__Rotation record = ATOLL__CLUSTER__V1__ROTATION__INIT;
    record.generation = rotation->generation;
    record.phase = rotation->phase;
    record.by = atl_arena_strdup(arena, rotation->by);
    return cfg_put_message(arena, CFG_ROTATION, &record.base);
}

struct cfg_op cfg_rotation_begin_op(const struct cfg_cluster *cluster, struct atl_arena *arena)
{
    struct cfg_rotation now;
    cfg_rotation_read(cluster, arena, &now);
    const struct cfg_rotation next = {
        .generation = now.generation + 1, .phase = CFG_ROTATION_SPREAD, .by = cluster->place.node};
    return rotation_op(&next, arena);
}

static void read_node(const struct cfg_cluster *cluster, struct atl_arena *arena,
                      struct cfg_rotation_node *node)
{
    const char *path = atl_arena_format(arena, CFG_ROTATED_FOLDER "%s", node->name);
    const struct cfg_file *file = cfg_tree_get(cfg_store_ahead(cluster->cfg->store), path);
    const Atoll__Cluster__V1__Rotated *record =
        file != NULL ? (const void *)atl_unpack(&atl_msg_cluster_v1_Rotated, file->bytes, file->size, arena)
                     : NULL;
    const struct atl_member *member = atl_members_find(cfg_cluster_membership(cluster), node->name);
    node->online = strcmp(node->name, cluster->place.node) == 0 || (member != NULL && member->online);
    if (record == NULL || record->phase >= CFG_ROTATION_PHASES)
        return;
    node->generation = record->generation;
    node->phase = (enum cfg_rotation_phase)record->phase;
}

/* It is as one of the nodes, and the last. */
static void read_witness(const struct cfg_cluster *cluster, struct atl_arena *arena,
                         struct cfg_rotation_node *node)
{
    read_node(cluster, arena, node);
    node->witness = true;
    node->online = atl_loop_now(cluster->cfg->loop) - cluster->rotate->witness_seen_at < WITNESS_SILENCE;
}

bool cfg_rotation_view_read(const struct cfg_cluster *cluster, struct atl_arena *arena,
                            struct cfg_rotation_view *view)
{
    struct cfg_corosync *conf = atl_arena_new(arena, struct cfg_corosync);
    if (cfg_cluster_conf(cluster, arena, conf, NULL) != ATL_OK)
        return false;
    struct cfg_rotation_node *nodes = atl_arena_array(arena, struct cfg_rotation_node, conf->count + 1);
    for (size_t i = 0; i < conf->count; i++) {
        nodes[i] = (struct cfg_rotation_node){.name = conf->nodes[i].name};
        read_node(cluster, arena, &nodes[i]);
    }
    *view = (struct cfg_rotation_view){.nodes = nodes, .count = conf->count, .self = cluster->place.node};
    if (conf->qdevice_host != NULL) {
        nodes[view->count] = (struct cfg_rotation_node){.name = CFG_WITNESS};
        read_witness(cluster, arena, &nodes[view->count++]);
    }
    cfg_rotation_read(cluster, arena, &view->rotation);
    view->generation = cfg_secrets_generation(&cluster->place);
    view->prepared = cfg_secrets_prepared(&cluster->place, view->rotation.generation);
    return true;
}

/* --- changes of the tree --- */

static void not_done(struct cfg_rotate *rotate, const char *what, const struct atl_error *error)
{
    if (strcmp(rotate->delay, error->text) == 0)
        return; /* it was said */
    (void)atl_copy(rotate->delay, sizeof rotate->delay, error->text);
    atl_log(ATL_WARNING, "rotation-delayed", "%s: %s; trying again", what, error->text);
}

static void on_stored(const struct cfg_store_result *result, void *user)
{
    struct cfg_rotate *rotate = user;
    rotate->storing = false;
    if (result->code != ATL_OK && result->code != ATL_E_CONFLICT)
        not_done(rotate, "how far the change of secrets is cannot be stored", &result->error);
    again_soon(rotate);
}

static void store(struct cfg_rotate *rotate, struct cfg_txn *txn, cfg_store_done_fn *fn)
{
    rotate->storing = true;
    cfg_store_txn(rotate->cluster->cfg->store, txn, NULL, fn, rotate);
}

static void on_told(const struct cfg_store_result *result, void *user)
{
    struct cfg_rotate *rotate = user;
    if (result->code == ATL_OK)
        atl_log(ATL_NOTICE, "secrets", "the shared secrets are being changed: '%s' is done here",
                cfg_rotation_phase_to_text(rotate->telling));
    on_stored(result, user);
}

static void tell(struct cfg_rotate *rotate, const struct cfg_rotation *done, struct atl_arena *arena)
{
    Atoll__Cluster__V1__Rotated record = ATOLL__CLUSTER__V1__ROTATED__INIT;
    record.generation = done->generation;
    rotate->telling = done->phase;
    record.phase = done->phase;
    const char *path = atl_arena_format(arena, CFG_ROTATED_FOLDER "%s", rotate->cluster->place.node);
    struct cfg_op op = cfg_put_message(arena, path, &record.base);
    store(rotate, &(struct cfg_txn){.ops = &op, .op_count = 1}, on_told);
}

static void set_rotation(struct cfg_rotate *rotate, const struct cfg_op *more, size_t count,
                         const struct cfg_op *op, struct atl_arena *arena)
{
    struct cfg_op *ops = atl_arena_array(arena, struct cfg_op, count + 1);
    struct cfg_compare compare = cfg_cluster_unchanged(rotate->cluster, CFG_ROTATION);
    for (size_t i = 0; i < count; i++)
        ops[i] = more[i];
    ops[count] = *op;
    store(rotate,
          &(struct cfg_txn){.compares = &compare, .compare_count = 1, .ops = ops, .op_count = count + 1},
          on_stored);
}

/* --- priv/ under the new key, new keys of tickets --- */

static void reseal(struct cfg_rotate *rotate);

static void on_resealed(const struct cfg_store_result *result, void *user)
{
    struct cfg_rotate *rotate = user;
    rotate->storing = false;
    if (result->code == ATL_OK) {
        reseal(rotate);
        return;
    }
    rotate->resealed[0] = '\0'; /* from the beginning */
    not_done(rotate, "priv/ cannot be encrypted anew", &result->error);
    again_soon(rotate);
}

/* The next files, written as they are: what the engine makes of them has the new key. */
static size_t next_files(struct cfg_rotate *rotate, struct cfg_op ops[RESEAL_FILES])
{
    const struct cfg_tree *tree = cfg_store_ahead(rotate->cluster->cfg->store);
    const char *from = rotate->resealed[0] != '\0' ? rotate->resealed : "priv/";
    size_t count = 0;
    size_t bytes = 0;
    for (size_t i = cfg_tree_seek(tree, from); i < tree->count && count < RESEAL_FILES; i++) {
        const struct cfg_file *file = tree->files[i];
        if (strncmp(file->path, "priv/", 5) != 0 || (count > 0 && bytes + file->size > RESEAL_BYTES))
            break;
        if (strcmp(file->path, rotate->resealed) == 0)
            continue;
        ops[count++] =
            (struct cfg_op){.kind = CFG_PUT, .path = file->path, .bytes = file->bytes, .size = file->size};
        bytes += file->size;
    }
    return count;
}

static void reseal(struct cfg_rotate *rotate)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_op ops[RESEAL_FILES];
    size_t count = next_files(rotate, ops);
    if (count > 0) {
        (void)atl_copy(rotate->resealed, sizeof rotate->resealed, ops[count - 1].path);
        store(rotate, &(struct cfg_txn){.ops = ops, .op_count = count}, on_resealed);
        return;
    }
    struct atl_error error = {0};
    rotate->resealed[0] = '\0';
    cfg_crash_at(&rotate->cluster->place, CFG_CRASH_ROTATE_RESEALED);
    if (cfg_identity_new_keys(&arena, ops, &count, &error) != ATL_OK) {
        not_done(rotate, "no keys for tickets", &error);
        again_soon(rotate);
        return;
    }
    struct cfg_op op = rotation_op(&rotate->advancing, &arena);
    set_rotation(rotate, ops, count, &op, &arena);
}

static void advance(struct cfg_rotate *rotate, const struct cfg_rotation *now, enum cfg_rotation_phase phase,
                    struct atl_arena *arena)
{
    (void)atl_copy(rotate->by, sizeof rotate->by, now->by);
    rotate->advancing =
        (struct cfg_rotation){.generation = now->generation, .phase = phase, .by = rotate->by};
    if (phase == CFG_ROTATION_DROP) {
        reseal(rotate);
        return;
    }
    struct cfg_op op = rotation_op(&rotate->advancing, arena);
    set_rotation(rotate, NULL, 0, &op, arena);
}

/* --- our part --- */

static void on_probed(const struct atl_etcd_answer *answer, void *user)
{
    struct cfg_rotate *rotate = user;
    rotate->probe = NULL;
    if (answer->code != ATL_OK)
        return;
    rotate->restarting = false;
    rotate->done = rotate->restarted;
    atl_grpc_free(&rotate->own);
}

/* Is our member back, and does it serve? */
static void probe(struct cfg_rotate *rotate)
{
    struct cfg_cluster *cluster = rotate->cluster;
    pid_t pid = cfg_slot_pid(&cluster->place, "etcd");
    atl_ns since = atl_loop_now(cluster->cfg->loop) - rotate->began;
    bool old = cluster->place.supervisor != NULL ? pid == 0 || pid == rotate->old_pid : since < UNIT_TAKES;
    if (since > MEMBER_LIMIT) {
        atl_log(ATL_WARNING, "rotation-delayed", "this node's etcd does not come back; see its log");
        rotate->restarting = false; /* the part is carried out again */
        if (rotate->probe != NULL)
            atl_etcd_cancel(rotate->probe);
        rotate->probe = NULL;
        atl_grpc_free(&rotate->own);
        return;
    }
    if (old || rotate->probe != NULL)
        return;
    struct atl_buf endpoint ATL_BUF_AT_EXIT = {0};
    cfg_endpoint_write(cluster->conf.address, CFG_ETCD_CLIENT_PORT, &endpoint);
    if (rotate->own == NULL &&
        cfg_ask_channel(&cluster->place, endpoint.data, cluster->cfg->loop, &rotate->own, NULL) != ATL_OK)
        return;
    Etcd__RangeRequest range = ETCD__RANGE_REQUEST__INIT;
    static uint8_t key[] = "/atoll/root";
    range.key = (ProtobufCBinaryData){.data = key, .len = sizeof key - 1};
    rotate->probe = atl_etcd_call(rotate->own, ATL_ETCD_RANGE, &range.base, PROBE_LIMIT, on_probed, rotate);
}

static enum atl_code etcd_anew(struct cfg_rotate *rotate, const struct cfg_rotation *done,
                               struct atl_error *err)
{
    const struct cfg_place *place = &rotate->cluster->place;
    if (!cfg_place_votes(place)) {
        rotate->done = (struct cfg_rotation){.generation = done->generation, .phase = done->phase};
        return ATL_OK;
    }
    rotate->old_pid = cfg_slot_pid(place, "etcd");
    enum atl_code code = cfg_slot_set(place, "etcd", CFG_SLOT_AGAIN, err);
    if (code != ATL_OK)
        return code;
    rotate->restarting = true;
    rotate->began = atl_loop_now(rotate->cluster->cfg->loop);
    rotate->restarted = (struct cfg_rotation){.generation = done->generation, .phase = done->phase};
    return ATL_OK;
}

static enum atl_code rekey(const struct cfg_cluster *cluster, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    return cfg_store_rekey(cluster->cfg->store, cfg_place_path(&cluster->place, CFG_SEAL_FILE, &arena), err);
}

/* It reads certificates when it starts, and connects with them once. */
static enum atl_code qdevice_anew(const struct cfg_cluster *cluster, struct atl_error *err)
{
    return cluster->qdevice == CFG_SLOT_UP ? cfg_slot_set(&cluster->place, "qdevice", CFG_SLOT_AGAIN, err)
                                           : ATL_OK;
}

static_assert(CFG_CRASH_ROTATE_DROPPED - CFG_CRASH_ROTATE_SPREAD == CFG_ROTATION_DROP - CFG_ROTATION_SPREAD,
              "a point for each phase");

static void carry_out(struct cfg_rotate *rotate, const struct cfg_rotation *now,
                      const struct cfg_rotation_act *part, struct atl_arena *arena)
{
    struct cfg_cluster *cluster = rotate->cluster;
    struct atl_error error = {0};
    if (rotate->done.generation == now->generation && rotate->done.phase == now->phase) {
        tell(rotate, now, arena);
        return;
    }
    bool applied = part->kind == CFG_ROTATE_TELL;
    bool anew = part->anew || (applied && now->phase != CFG_ROTATION_USE);
    enum atl_code code = applied ? ATL_OK : cfg_secrets_apply(&cluster->place, now->phase, &error);
    cfg_crash_at(&cluster->place,
                 (enum cfg_crash_point)(CFG_CRASH_ROTATE_SPREAD + now->phase - CFG_ROTATION_SPREAD));
    if (code == ATL_OK)
        code = rekey(cluster, &error);
    if (code == ATL_OK && now->phase == CFG_ROTATION_DROP)
        cfg_cluster_reload(cluster);
    if (code == ATL_OK && now->phase != CFG_ROTATION_SPREAD)
        code = qdevice_anew(cluster, &error);
    if (code == ATL_OK && anew)
        code = etcd_anew(rotate, now, &error);
    if (code != ATL_OK)
        not_done(rotate, "the secrets cannot be changed here", &error);
    else if (!anew)
        tell(rotate, now, arena);
}

static void make(struct cfg_rotate *rotate, const struct cfg_rotation *now)
{
    const struct cfg_cluster *cluster = rotate->cluster;
    struct atl_error error = {0};
    const struct cfg_secrets_wish wish = {.generation = now->generation,
                                          .cluster = cluster->conf.cluster,
                                          .subject = {.node = cluster->place.node,
                                                      .address = cluster->conf.address,
                                                      .cluster = cluster->conf.cluster}};
    if (cfg_secrets_make(&cluster->place, &wish, &error) != ATL_OK)
        not_done(rotate, "no new secrets", &error);
    cfg_crash_at(&cluster->place, CFG_CRASH_ROTATE_MADE);
}

static void ask(struct cfg_rotate *rotate, const struct cfg_asked *asked, enum purpose purpose)
{
    struct atl_error error = {0};
    rotate->purpose = purpose;
    if (cfg_ask_secrets(&rotate->asking, rotate->cluster, asked, &error) != ATL_OK)
        not_done(rotate, "another node cannot be asked", &error);
}

/* One of those that keep the authority's key, but us; each in its turn. NULL: there is none. */
static const char *next_keeper(struct cfg_rotate *rotate, struct atl_arena *arena)
{
    struct cfg_corosync *conf = atl_arena_new(arena, struct cfg_corosync);
    if (cfg_cluster_conf(rotate->cluster, arena, conf, NULL) != ATL_OK)
        return NULL;
    for (size_t i = 0; i < CFG_KEEPERS && i < conf->count; i++) {
        const struct cfg_corosync_node *node = &conf->nodes[rotate->turn++ % conf->count];
        if (cfg_keeps_authority(conf, node->name) && strcmp(node->name, rotate->cluster->place.node) != 0)
            return node->name;
    }
    return NULL;
}

static void catch_up(struct cfg_rotate *rotate, struct atl_arena *arena)
{
    const char *node = next_keeper(rotate, arena);
    if (node != NULL)
        ask(rotate, &(const struct cfg_asked){.node = node, .newer = true}, TO_CATCH_UP);
}

/* Others have changed them while we were away. */
static enum atl_code take_all(struct cfg_rotate *rotate, const struct cfg_secrets *secrets,
                              struct atl_error *err)
{
    struct cfg_cluster *cluster = rotate->cluster;
    if (secrets->ca.length == 0 || secrets->certificate.length == 0 ||
        secrets->generation <= cfg_secrets_generation(&cluster->place))
        return ATL_OK;
    atl_log(ATL_NOTICE, "secrets",
            "generation %" PRIu64 " of the shared secrets came while this node was away",
            secrets->generation);
    enum atl_code code = cfg_secrets_keep(&cluster->place, secrets, err);
    if (code == ATL_OK)
        code = cfg_secrets_apply(&cluster->place, CFG_ROTATION_DROP, err);
    if (code == ATL_OK)
        code = rekey(cluster, err);
    if (code == ATL_OK && cfg_place_votes(&cluster->place))
        code = cfg_slot_set(&cluster->place, "etcd", CFG_SLOT_AGAIN, err);
    if (code == ATL_OK)
        code = cfg_slot_set(&cluster->place, "corosync", CFG_SLOT_AGAIN, err);
    return code == ATL_OK ? qdevice_anew(cluster, err) : code;
}

static enum atl_code take_certificate(struct cfg_rotate *rotate, const struct atl_buf *certificate,
                                      struct atl_error *err)
{
    enum atl_code code = cfg_place_write(&rotate->cluster->place, "etcd/node.pem", certificate, err);
    if (code == ATL_OK)
        atl_log(ATL_NOTICE, "certificate-renewed", "the certificate of this node's etcd is new");
    return code;
}

static enum atl_code take_renewed(struct cfg_rotate *rotate, const struct cfg_secrets *secrets,
                                  struct atl_error *err)
{
    const struct cfg_place *place = &rotate->cluster->place;
    if (secrets->generation != cfg_secrets_generation(place))
        return ATL_OK; /* a rotation was faster, and brings its own */
    enum atl_code code = ATL_OK;
    if (secrets->ca_key.length > 0)
        code = cfg_place_write(place, cfg_pki_current.key, &secrets->ca_key, err);
    return code == ATL_OK && secrets->certificate.length > 0
               ? take_certificate(rotate, &secrets->certificate, err)
               : code;
}

static void on_secrets(enum atl_code code, const struct atl_error *error, const struct cfg_secrets *secrets,
                       void *user)
{
    struct cfg_rotate *rotate = user;
    struct atl_error own = {0};
    if (code == ATL_OK && rotate->purpose == TO_ROTATE)
        code = cfg_secrets_keep(&rotate->cluster->place, secrets, &own);
    else if (code == ATL_OK && rotate->purpose == TO_CATCH_UP)
        code = take_all(rotate, secrets, &own);
    else if (code == ATL_OK)
        code = take_renewed(rotate, secrets, &own);
    if (code != ATL_OK && rotate->purpose != TO_CATCH_UP)
        not_done(rotate, "no secrets from another node", own.text[0] != '\0' ? &own : error);
    if (rotate->purpose == TO_ROTATE)
        again_soon(rotate);
}

/* --- while nothing is to be done --- */

static void renew(struct cfg_rotate *rotate, bool has_key, struct atl_arena *arena)
{
    const struct cfg_cluster *cluster = rotate->cluster;
    struct atl_buf csr ATL_BUF_AT_EXIT = {0};
    struct atl_buf certificate ATL_BUF_AT_EXIT = {0};
    struct atl_error error = {0};
    if (!has_key) {
        const char *node = next_keeper(rotate, arena);
        if (node != NULL)
            ask(rotate, &(const struct cfg_asked){.node = node}, TO_RENEW);
        return;
    }
    enum atl_code code = cfg_pki_request(&cluster->place, &csr, &error);
    if (code == ATL_OK)
        code = cfg_pki_sign(&cluster->place, &cfg_pki_current, csr.data,
                            &(const struct cfg_pki_subject){.node = cluster->place.node,
                                                            .address = cluster->conf.address,
                                                            .cluster = cluster->conf.cluster},
                            &certificate, &error);
    if (code == ATL_OK)
        code = take_certificate(rotate, &certificate, &error);
    if (code != ATL_OK)
        not_done(rotate, "this node's certificate is not renewed", &error);
}

static bool has_authority(const struct cfg_cluster *cluster)
{
    struct cfg_secrets ours CFG_SECRETS_AT_EXIT = {.generation = 0};
    return cfg_secrets_read(&cluster->place, false, &ours, NULL) == ATL_OK && ours.ca_key.length > 0;
}

static void upkeep(struct cfg_rotate *rotate, const struct cfg_rotation_view *view, struct atl_arena *arena)
{
    const struct cfg_cluster *cluster = rotate->cluster;
    struct cfg_corosync *conf = atl_arena_new(arena, struct cfg_corosync);
    atl_ns now = atl_loop_now(cluster->cfg->loop);
    if (now < rotate->upkeep_at || cfg_cluster_conf(cluster, arena, conf, NULL) != ATL_OK)
        return;
    rotate->upkeep_at = now + UPKEEP_EVERY;
    int64_t wall = atl_clock_wall_seconds();
    bool has_key = has_authority(cluster);
    bool wants_key = !has_key && cfg_keeps_authority(conf, cluster->place.node);
    if (wants_key || cfg_pki_due(&cluster->place, "etcd/node.pem", wall)) {
        renew(rotate, has_key, arena);
    } else if (view->nodes[0].online && strcmp(view->nodes[0].name, view->self) == 0 &&
               cfg_pki_due(&cluster->place, cfg_pki_current.cert, wall)) {
        struct cfg_op op = cfg_rotation_begin_op(cluster, arena);
        set_rotation(rotate, NULL, 0, &op, arena);
    }
}

static void act(struct cfg_rotate *rotate, const struct cfg_rotation_view *view,
                const struct cfg_rotation_act *next, struct atl_arena *arena)
{
    const struct cfg_rotation *now = &view->rotation;
    switch (next->kind) {
    case CFG_ROTATE_NOTHING:
        if (now->phase == CFG_ROTATION_DONE)
            upkeep(rotate, view, arena);
        break;
    case CFG_ROTATE_MAKE:
        make(rotate, now);
        break;
    case CFG_ROTATE_FETCH:
        ask(rotate, &(const struct cfg_asked){.node = next->node, .generation = now->generation}, TO_ROTATE);
        break;
    case CFG_ROTATE_CARRY_OUT:
    case CFG_ROTATE_TELL:
        carry_out(rotate, now, next, arena);
        break;
    case CFG_ROTATE_ADVANCE:
        advance(rotate, now, next->phase, arena);
        break;
    case CFG_ROTATE_TAKE_OVER: {
        struct cfg_op op = cfg_rotation_begin_op(rotate->cluster, arena);
        set_rotation(rotate, NULL, 0, &op, arena);
        break;
    }
    case CFG_ROTATE_CATCH_UP:
        catch_up(rotate, arena);
        break;
    }
}

static void look(struct cfg_rotate *rotate)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_rotation_view view;
    if (!cfg_rotation_view_read(rotate->cluster, &arena, &view))
        return;
    struct cfg_rotation_act next = cfg_rotation_next(&view);
    act(rotate, &view, &next, &arena);
    if (view.rotation.phase != CFG_ROTATION_DONE)
        again_soon(rotate);
}

/* The tree cannot be changed, or not be seen: perhaps because the others have other secrets by now. */
static void look_around(struct cfg_rotate *rotate)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    atl_ns now = atl_loop_now(rotate->cluster->cfg->loop);
    if (rotate->lost_since == 0)
        rotate->lost_since = now;
    if (now - rotate->lost_since < LOST_AFTER)
        return;
    rotate->lost_since = now;
    if (cfg_pki_due(&rotate->cluster->place, "etcd/node.pem", atl_clock_wall_seconds()))
        renew(rotate, has_authority(rotate->cluster), &arena); /* all were off for longer than it is good */
    else
        catch_up(rotate, &arena);
}

void cfg_rotation_saw_witness(struct cfg_cluster *cluster)
{
    cluster->rotate->witness_seen_at = atl_loop_now(cluster->cfg->loop);
}

void cfg_rotate_tick(struct cfg_rotate *rotate, bool writable)
{
    if (cfg_cluster_membership(rotate->cluster)->qdevice_votes > 0)
        cfg_rotation_saw_witness(rotate->cluster);
    if (rotate->restarting) {
        probe(rotate);
        again_soon(rotate);
        return;
    }
    if (rotate->storing || rotate->asking.call != NULL)
        return;
    if (!writable) {
        look_around(rotate);
        return;
    }
    rotate->lost_since = 0;
    look(rotate);
}
