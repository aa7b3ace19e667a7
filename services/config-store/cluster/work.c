/* Task "clustercreate", and what it shares with "clusterjoin". */
#include "cluster/work.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/address.h"
#include "cluster/work_internal.h"
#include "drivers/seal.h"
#include "member/member.h"

#define ETCD_TIMEOUT    (30 * ATL_SECOND)
#define RESTART_TIMEOUT (90 * ATL_SECOND)
#define QUORUM_TIMEOUT  (30 * ATL_SECOND)
enum { PAUSE_US = 100000 };

/* --- addresses --- */

enum atl_code cfg_work_address(struct cfg_work *work, const char *peer, struct atl_error *err)
{
    if (work->spec->n_link > 0) {
        (void)atl_copy(work->address, sizeof work->address, work->spec->link[0]);
        return ATL_OK;
    }
    return cfg_address_towards(peer != NULL ? peer : work->spec->node, work->address)
               ? ATL_OK
               : atl_fail(err, ATL_E_INVALID, "link0",
                          "no address of this node that others could reach was found; name it as link0");
}

/* --- files --- */

enum atl_code cfg_work_write(struct cfg_work *work, const struct cfg_work_texts *texts, struct atl_error *err)
{
    struct atl_buf yml ATL_BUF_AT_EXIT = {0};
    struct atl_buf conf ATL_BUF_AT_EXIT = {0};
    const struct cfg_etcd_place etcd = {.dir = cfg_place_path(&work->place, "etcd", &work->arena),
                                        .node = work->spec->node,
                                        .address = work->address,
                                        .cluster = texts->corosync->cluster,
                                        .members = texts->members};
    const struct cfg_corosync_place corosync = {.dir = cfg_place_path(&work->place, "corosync", &work->arena),
                                                .user = work->spec->user};
    cfg_etcd_yml_write(&etcd, &yml);
    cfg_corosync_write(texts->corosync, &corosync, &conf);
    enum atl_code code = texts->no_etcd ? ATL_OK : cfg_place_write(&work->place, CFG_ETCD_YML, &yml, err);
    if (code == ATL_OK)
        code = cfg_place_write(&work->place, "corosync/authkey", texts->authkey, err);
    if (code == ATL_OK)
        code = cfg_place_write(&work->place, "corosync/corosync.conf", &conf, err);
    return code;
}

enum atl_code cfg_work_decide(struct cfg_work *work, enum cfg_cluster_state state,
                              const struct cfg_corosync *corosync, struct atl_error *err)
{
    struct cfg_cluster_conf conf = {.state = state};
    struct atl_buf endpoints ATL_BUF_AT_EXIT = {0};
    cfg_cluster_endpoints(corosync, work->spec->node, &endpoints);
    if (!atl_copy(conf.cluster, sizeof conf.cluster, corosync->cluster) ||
        !atl_copy(conf.address, sizeof conf.address, work->address) ||
        !atl_copy(conf.endpoints, sizeof conf.endpoints, endpoints.data))
        return atl_fail(err, ATL_E_LIMIT, NULL, "names and addresses of the cluster are too long");
    return cfg_place_set_conf(&work->place, &conf, err);
}

/* --- waiting --- */

static bool stopped(void *user)
{
    return atl_task_stopped(user);
}

enum cfg_etcd_state cfg_work_wait_etcd(struct cfg_work *work, atl_ns timeout)
{
    struct atl_buf endpoint ATL_BUF_AT_EXIT = {0};
    struct atl_loop *loop = atl_task_loop(work->task);
    struct atl_grpc *channel = NULL;
    cfg_endpoint_write(work->address, CFG_ETCD_CLIENT_PORT, &endpoint);
    if (cfg_ask_channel(&work->place, endpoint.data, loop, &channel, NULL) != ATL_OK)
        return CFG_ETCD_SILENT;
    enum cfg_etcd_state state =
        cfg_ask_wait(channel, &(const struct cfg_ask_wait){
                                  .loop = loop, .timeout = timeout, .stopped = stopped, .user = work->task});
    atl_grpc_free(&channel);
    return state;
}

/* The pid of config-store that is ready, or 0. */
static pid_t ready_pid(const struct cfg_work *work)
{
    char *path ATL_FREE_AT_EXIT = atl_format("%s/config-store.ready", work->spec->run_dir);
    pid_t pid = cfg_read_pid(path);
    return pid > 0 && kill(pid, 0) == 0 ? pid : 0;
}

enum atl_code cfg_work_begin_anew(struct cfg_work *work, struct atl_error *err)
{
    atl_task_log(work->task, "config-store begins anew");
    pid_t old = ready_pid(work);
    if (old > 0 && kill(old, SIGTERM) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "config-store cannot be told to begin anew");
    atl_ns deadline = atl_clock_monotonic() + RESTART_TIMEOUT;
    while (atl_clock_monotonic() < deadline) {
        pid_t now = ready_pid(work);
        if (now != 0 && now != old)
            return ATL_OK;
        (void)usleep(PAUSE_US);
    }
    return atl_fail(err, ATL_E_DEADLINE, NULL, "config-store has not come back; see its log");
}

enum atl_code cfg_work_restart(struct cfg_work *work, struct atl_error *err)
{
    struct cfg_cluster_conf conf = {.state = CFG_ALONE};
    struct atl_buf why ATL_BUF_AT_EXIT = {0};
    enum atl_code code = cfg_work_begin_anew(work, err);
    if (code == ATL_OK)
        code = cfg_place_conf(&work->place, &conf, err);
    if (code != ATL_OK || conf.state == CFG_MEMBER)
        return code;
    if (cfg_place_read(&work->place, "cluster.why", &why, NULL) != ATL_OK || why.length == 0)
        return atl_fail(err, ATL_E_STATE, NULL, "config-store is %s", cfg_cluster_state_to_text(conf.state));
    return atl_fail(err, ATL_E_STATE, NULL, "%s", why.data);
}

void cfg_work_wait_quorum(struct cfg_work *work)
{
    struct atl_loop *loop = atl_task_loop(work->task);
    const struct atl_members_options options = {.loop = loop, .node = work->spec->node, .corosync = true};
    struct atl_members *members = atl_members_open(&options, NULL, NULL);
    atl_ns deadline = atl_clock_monotonic() + QUORUM_TIMEOUT;
    atl_task_progress(work->task, 0.9, "waiting for a quorum");
    while (!atl_members_now(members)->quorate && atl_clock_monotonic() < deadline &&
           !atl_task_stopped(work->task))
        atl_loop_step(loop, 100 * ATL_MS);
    if (!atl_members_now(members)->quorate)
        atl_task_warn(work->task, "corosync has no quorum yet; see its log");
    atl_members_close(&members);
}

/* --- create --- */

static enum atl_code make_files(struct cfg_work *work, struct cfg_corosync *conf, struct atl_error *err)
{
    struct atl_buf csr ATL_BUF_AT_EXIT = {0};
    struct atl_buf cert ATL_BUF_AT_EXIT = {0};
    struct atl_buf authkey ATL_BUF_AT_EXIT = {0};
    const struct cfg_pki_subject subject = {
        .node = work->spec->node, .address = work->address, .cluster = conf->cluster};
    char *name ATL_FREE_AT_EXIT = atl_format("Atoll cluster %s", conf->cluster);
    enum atl_code code = cfg_pki_make_ca(&work->place, &cfg_pki_current, name, err);
    if (code == ATL_OK)
        code = cfg_seal_make_key(cfg_place_path(&work->place, CFG_SEAL_FILE, &work->arena), err);
    if (code == ATL_OK)
        code = cfg_pki_make_request(&work->place, &csr, err);
    if (code == ATL_OK)
        code = cfg_pki_sign(&work->place, &cfg_pki_current, csr.data, &subject, &cert, err);
    if (code == ATL_OK)
        code = cfg_place_write(&work->place, "etcd/node.pem", &cert, err);
    if (code == ATL_OK)
        code = cfg_secrets_authkey(&authkey, err);
    if (code != ATL_OK)
        return code;
    return cfg_work_write(work, &(const struct cfg_work_texts){.corosync = conf, .authkey = &authkey}, err);
}

static enum atl_code start_places(struct cfg_work *work, struct atl_error *err)
{
    enum atl_code code = cfg_slot_set(&work->place, "etcd", CFG_SLOT_UP, err);
    if (code == ATL_OK)
        code = cfg_slot_set(&work->place, "corosync", CFG_SLOT_UP, err);
    if (code != ATL_OK)
        return code;
    atl_task_progress(work->task, 0.4, "etcd starts");
    if (cfg_work_wait_etcd(work, ETCD_TIMEOUT) != CFG_ETCD_SERVING)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "etcd does not come up; see its log");
    return ATL_OK;
}

static enum atl_code create_steps(struct cfg_work *work, struct atl_error *err)
{
    const Atoll__Cluster__V1__ClusterWork *spec = work->spec;
    struct cfg_corosync conf = {.cluster = spec->cluster, .token_coefficient = spec->token_coefficient};
    struct cfg_corosync_node node = {.name = spec->node,
                                     .id = spec->nodeid,
                                     .votes = spec->has_votes ? spec->votes : UINT32_MAX,
                                     .links = {work->address, spec->n_link > 1 ? spec->link[1] : NULL}};
    enum atl_code code = cfg_corosync_add(&conf, &node, err);
    if (code != ATL_OK)
        return code;
    atl_task_progress(work->task, 0.1, "keys and certificates");
    atl_task_log(work->task, "cluster '%s', node '%s' at %s", spec->cluster, spec->node, work->address);
    code = make_files(work, &conf, err);
    cfg_crash_at(&work->place, CFG_CRASH_CREATE_FILES);
    if (code == ATL_OK)
        code = start_places(work, err);
    cfg_crash_at(&work->place, CFG_CRASH_CREATE_PLACES);
    if (code == ATL_OK)
        code = cfg_work_decide(work, CFG_MOVING, &conf, err);
    if (code != ATL_OK)
        return code;
    cfg_crash_at(&work->place, CFG_CRASH_CREATE_DECIDED);
    atl_task_progress(work->task, 0.7, "the tree moves to etcd");
    return cfg_work_restart(work, err);
}

static enum atl_code need_no_member(const struct cfg_work *work, struct atl_error *err)
{
    struct cfg_cluster_conf conf;
    enum atl_code code = cfg_place_conf(&work->place, &conf, err);
    if (code == ATL_OK && conf.state == CFG_MEMBER)
        code = atl_fail(err, ATL_E_STATE, NULL, "this node is in cluster '%s' already", conf.cluster);
    return code;
}

static enum atl_code create_cluster(struct cfg_work *work, struct atl_error *err)
{
    enum atl_code code = need_no_member(work, err);
    if (code == ATL_OK)
        code = cfg_work_address(work, NULL, err);
    if (code == ATL_OK)
        code = cfg_place_leave(&work->place, "", err); /* what an earlier try left */
    if (code != ATL_OK)
        return code;
    cfg_crash_at(&work->place, CFG_CRASH_CREATE_WIPED);
    code = create_steps(work, err);
    struct cfg_cluster_conf conf;
    if (code == ATL_OK) {
        cfg_work_wait_quorum(work);
        atl_task_log(work->task, "the cluster is there");
        return ATL_OK;
    }
    bool decided = cfg_place_conf(&work->place, &conf, NULL) == ATL_OK && conf.state != CFG_ALONE;
    struct atl_error other = {0};
    if (!decided && cfg_place_leave(&work->place, NULL, &other) != ATL_OK)
        atl_task_warn(work->task, "%s", other.text);
    return code;
}

/* --- both --- */

static enum atl_code work_begin(struct cfg_work *work, const uint8_t *spec, size_t size,
                                struct atl_error *err)
{
    work->spec = atoll__cluster__v1__cluster_work__unpack(NULL, size, spec);
    if (work->spec == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the task's specification cannot be read");
    work->place = (struct cfg_place){.dir = work->spec->state_dir,
                                     .supervisor = work->spec->supervisor,
                                     .node = work->spec->node,
                                     .crash_file = work->spec->crash_file,
                                     .life_s = work->spec->has_certificate_life ? work->spec->certificate_life
                                                                                : CFG_CERTIFICATE_LIFE};
    return ATL_OK;
}

static enum atl_code run(struct atl_task *task, const uint8_t *spec, size_t size,
                         enum atl_code (*fn)(struct cfg_work *, struct atl_error *), struct atl_error *err)
{
    struct cfg_work work = {.task = task};
    enum atl_code code = work_begin(&work, spec, size, err);
    if (code == ATL_OK)
        code = fn(&work, err);
    if (work.spec != NULL)
        atoll__cluster__v1__cluster_work__free_unpacked(work.spec, NULL);
    atl_arena_done(&work.arena);
    return code;
}

static enum atl_code join_cluster(struct cfg_work *work, struct atl_error *err)
{
    enum atl_code code = need_no_member(work, err);
    return code == ATL_OK ? cfg_work_join(work, err) : code;
}

static enum atl_code task_create(struct atl_task *task, const uint8_t *spec, size_t size,
                                 struct atl_error *err)
{
    return run(task, spec, size, create_cluster, err);
}

static enum atl_code task_join(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    return run(task, spec, size, join_cluster, err);
}

static enum atl_code task_backup(struct atl_task *task, const uint8_t *spec, size_t size,
                                 struct atl_error *err)
{
    return run(task, spec, size, cfg_work_backup, err);
}

static enum atl_code task_restore(struct atl_task *task, const uint8_t *spec, size_t size,
                                  struct atl_error *err)
{
    return run(task, spec, size, cfg_work_restore, err);
}

const struct atl_task_type cfg_cluster_tasks[] = {{"clustercreate", task_create},
                                                  {"clusterjoin", task_join},
                                                  {"clusterbackup", task_backup},
                                                  {"clusterrestore", task_restore}};
const size_t cfg_cluster_task_count = ATL_COUNT(cfg_cluster_tasks);
