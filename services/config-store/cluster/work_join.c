/* Task "clusterjoin". */
#include <json-c/json.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/peer.h"
#include "cluster/work_internal.h"
#include "drivers/seal.h"

#define ASK_TIMEOUT     (60 * ATL_SECOND)
#define PROMOTE_TIMEOUT (120 * ATL_SECOND) /* well past the time after which the other side gives up */
#define RESUME_TIMEOUT  (10 * ATL_SECOND)  /* an etcd that was taken out ends within that */
enum { SECRET_MAX = 1024, ASK_PAUSE_US = 500000 };

/* --- asking --- */

static void add_params(struct cfg_work *work, struct cfg_peer *peer, const char *csr)
{
    const Atoll__Cluster__V1__ClusterWork *spec = work->spec;
    cfg_peer_param(peer, "apiversion", "1");
    cfg_peer_param(peer, "csr", csr);
    cfg_peer_param(peer, "link0", work->address);
    if (spec->n_link > 1)
        cfg_peer_param(peer, "link1", spec->link[1]);
    if (spec->has_nodeid)
        cfg_peer_param(peer, "nodeid", atl_arena_format(&work->arena, "%u", spec->nodeid));
    if (spec->has_votes)
        cfg_peer_param(peer, "votes", atl_arena_format(&work->arena, "%u", spec->votes));
    if (spec->vmids != NULL)
        cfg_peer_param(peer, "vmids", spec->vmids);
    if (spec->secret != NULL)
        cfg_peer_param(peer, "secret", spec->secret);
}

/* One node joins at a time, so the other side may be busy with somebody else. */
static enum atl_code ask_to_be_admitted(struct cfg_work *work, struct cfg_peer *peer, const char *csr,
                                        struct json_object **ret_data, struct atl_error *err)
{
    const char *path = atl_arena_format(&work->arena, "/cluster/config/%s/%s",
                                        work->spec->secret != NULL ? "admit" : "nodes", work->spec->node);
    atl_ns deadline = atl_clock_monotonic() + ASK_TIMEOUT;
    bool said = false;
    for (;;) {
        add_params(work, peer, csr);
        struct json_object *data = NULL;
        enum atl_code code = cfg_peer_post(peer, path, &data, err);
        const char *busy = code == ATL_OK ? cfg_peer_text(data, "busy") : NULL;
        if (code == ATL_OK && busy == NULL) {
            *ret_data = data;
            return ATL_OK;
        }
        if (busy != NULL)
            code = atl_fail(err, ATL_E_UNAVAILABLE, NULL, "%s says: %s", work->spec->endpoint, busy);
        json_object_put(data);
        if (code != ATL_E_UNAVAILABLE || atl_clock_monotonic() > deadline || atl_task_stopped(work->task))
            return code;
        if (!said)
            atl_task_log(work->task, "%s; trying again", err->text);
        said = true;
        (void)usleep(ASK_PAUSE_US);
    }
}

/* --- taking the answer --- */

static enum atl_code take_secret(struct json_object *data, const char *name, struct atl_buf *secret,
                                 struct atl_error *err)
{
    const char *text = cfg_peer_text(data, name);
    size_t length = text != NULL ? strlen(text) : 0;
    int size = -1;
    if (length >= 4 && length <= SECRET_MAX && length % 4 == 0)
        size = EVP_DecodeBlock((unsigned char *)atl_buf_reserve(secret, length), (const unsigned char *)text,
                               (int)length);
    if (size < 0)
        return atl_fail(err, ATL_E_STATE, NULL, "the answer has no '%s': does Atoll run there?", name);
    size_t padding = (size_t)(text[length - 1] == '=') + (size_t)(text[length - 2] == '=');
    secret->length = (size_t)size - padding;
    return ATL_OK;
}

static enum atl_code take_priv_key(struct cfg_work *work, struct json_object *data, struct atl_error *err)
{
    struct atl_buf key ATL_BUF_AT_EXIT = {0};
    enum atl_code code = take_secret(data, "priv_key", &key, err);
    if (code == ATL_OK && key.length != CFG_SEAL_KEY_SIZE)
        code = atl_fail(err, ATL_E_STATE, NULL, "the answer's key of priv/ has another size");
    if (code == ATL_OK)
        code = cfg_seal_keep_key(cfg_place_path(&work->place, CFG_SEAL_FILE, &work->arena),
                                 (const uint8_t *)key.data, err);
    if (key.data != NULL)
        explicit_bzero(key.data, key.capacity);
    return code;
}

static enum atl_code write_text(struct cfg_work *work, struct json_object *data, const char *key,
                                const char *file, struct atl_error *err)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    const char *value = cfg_peer_text(data, key);
    if (value == NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "the answer has no '%s': does Atoll run there?", key);
    atl_buf_text(&text, value);
    return cfg_place_write(&work->place, file, &text, err);
}

static enum atl_code take_generation(struct cfg_work *work, struct json_object *data, struct atl_error *err)
{
    struct json_object *generation = NULL;
    if (!json_object_object_get_ex(data, "generation", &generation))
        return atl_fail(err, ATL_E_STATE, NULL, "the answer has no 'generation': does Atoll run there?");
    return cfg_secrets_set_generation(&work->place, json_object_get_uint64(generation), err);
}

static enum atl_code take_files(struct cfg_work *work, struct json_object *data, struct cfg_corosync *conf,
                                struct atl_error *err)
{
    struct atl_buf authkey ATL_BUF_AT_EXIT = {0};
    const char *text = cfg_peer_text(data, "corosync_conf");
    const char *members = cfg_peer_text(data, "members");
    if (text == NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "the answer has no corosync.conf: does Atoll run there?");
    enum atl_code code = cfg_corosync_read(text, strlen(text), &work->arena, conf, err);
    if (code == ATL_OK)
        code = take_secret(data, "corosync_authkey", &authkey, err);
    if (code == ATL_OK)
        code = take_priv_key(work, data, err);
    if (code == ATL_OK)
        code = take_generation(work, data, err);
    if (code == ATL_OK)
        code = write_text(work, data, "ca", "etcd/ca.pem", err);
    if (code == ATL_OK)
        code = write_text(work, data, "certificate", "etcd/node.pem", err);
    if (code == ATL_OK)
        code = cfg_work_write(
            work,
            &(const struct cfg_work_texts){
                .corosync = conf, .authkey = &authkey, .members = members, .no_etcd = members == NULL},
            err);
    return code;
}

static enum atl_code be_admitted(struct cfg_work *work, struct cfg_corosync *conf, struct atl_error *err)
{
    const Atoll__Cluster__V1__ClusterWork *spec = work->spec;
    struct atl_buf csr ATL_BUF_AT_EXIT = {0};
    struct json_object *data = NULL;
    enum atl_code code = cfg_pki_make_request(&work->place, &csr, err);
    if (code != ATL_OK)
        return code;
    struct cfg_peer *peer = cfg_peer_new(spec->endpoint, spec->fingerprint);
    if (spec->secret == NULL)
        code = cfg_peer_login(peer, spec->username, spec->password, err);
    if (code == ATL_OK)
        code = ask_to_be_admitted(work, peer, csr.data, &data, err);
    cfg_crash_at(&work->place, CFG_CRASH_JOIN_ANSWERED);
    if (code == ATL_OK)
        code = take_files(work, data, conf, err);
    json_object_put(data);
    cfg_peer_free(&peer);
    return code;
}

/* --- the steps --- */

/* From here on the others may count on this node's vote, so nothing is wiped while etcd lives. */
static enum atl_code wait_for_vote(struct cfg_work *work, struct atl_error *err)
{
    atl_task_progress(work->task, 0.5, "etcd catches up");
    enum cfg_etcd_state state = cfg_work_wait_etcd(work, PROMOTE_TIMEOUT);
    if (state == CFG_ETCD_SERVING)
        return ATL_OK;
    if (state == CFG_ETCD_WAITING)
        return atl_fail(err, ATL_E_DEADLINE, NULL,
                        "etcd has no vote yet: the node joins by itself when the others are reached; joining "
                        "again begins anew");
    return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                    "etcd does not run, so the others took the node out again; see its log");
}

static enum atl_code join_steps(struct cfg_work *work, struct atl_error *err)
{
    struct cfg_corosync conf = {.count = 0};
    atl_task_progress(work->task, 0.1, "asking %s", work->spec->endpoint);
    enum atl_code code = be_admitted(work, &conf, err);
    if (code != ATL_OK)
        return code;
    atl_task_log(work->task, "admitted to cluster '%s' as %s", conf.cluster, work->address);
    cfg_crash_at(&work->place, CFG_CRASH_JOIN_FILES);
    code = cfg_work_decide(work, CFG_JOINING, &conf, err);
    cfg_crash_at(&work->place, CFG_CRASH_JOIN_DECIDED);
    bool votes = cfg_place_votes(&work->place);
    if (code == ATL_OK && votes)
        code = cfg_slot_set(&work->place, "etcd", CFG_SLOT_UP, err);
    cfg_crash_at(&work->place, CFG_CRASH_JOIN_ETCD);
    if (code == ATL_OK) /* it waits for the others; once etcd has a vote they wait for it */
        code = cfg_slot_set(&work->place, "corosync", CFG_SLOT_UP, err);
    if (code == ATL_OK && votes)
        code = wait_for_vote(work, err);
    if (code != ATL_OK)
        return code;
    cfg_crash_at(&work->place, CFG_CRASH_JOIN_VOTE);
    atl_task_progress(work->task, 0.8, "what this node has goes into the tree");
    return cfg_work_restart(work, err);
}

/* An earlier try was cut off after it was admitted: the others may count on its etcd, so nothing is wiped
 * unless that is out. True: it came as far as there is to come, and code says how it ended. */
static bool goes_on(struct cfg_work *work, enum atl_code *ret_code, struct atl_error *err)
{
    struct cfg_cluster_conf conf;
    if (cfg_place_conf(&work->place, &conf, NULL) != ATL_OK || conf.state != CFG_JOINING)
        return false;
    bool votes = cfg_place_votes(&work->place);
    (void)atl_copy(work->address, sizeof work->address, conf.address);
    atl_task_log(work->task, "an earlier try was cut off; going on with it");
    enum atl_code code = votes ? cfg_slot_set(&work->place, "etcd", CFG_SLOT_UP, err) : ATL_OK;
    if (code == ATL_OK)
        code = cfg_slot_set(&work->place, "corosync", CFG_SLOT_UP, err);
    if (code == ATL_OK && votes && cfg_work_wait_etcd(work, RESUME_TIMEOUT) == CFG_ETCD_SILENT)
        return false; /* the others took it out */
    if (code == ATL_OK && votes)
        code = wait_for_vote(work, err);
    *ret_code = code == ATL_OK ? cfg_work_restart(work, err) : code;
    return true;
}

static enum atl_code begin_anew(struct cfg_work *work, struct atl_error *err)
{
    enum atl_code code = cfg_work_address(work, work->spec->endpoint, err);
    if (code == ATL_OK)
        code = cfg_place_leave(&work->place, "", err); /* what an earlier try left */
    cfg_crash_at(&work->place, CFG_CRASH_JOIN_WIPED);
    return code == ATL_OK ? join_steps(work, err) : code;
}

enum atl_code cfg_work_join(struct cfg_work *work, struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    if (!goes_on(work, &code, err))
        code = begin_anew(work, err);
    if (code == ATL_OK) {
        cfg_work_wait_quorum(work);
        atl_task_log(work->task, "this node is in the cluster");
        return ATL_OK;
    }
    struct atl_error other = {0};
    struct cfg_cluster_conf conf;
    bool decided = cfg_place_conf(&work->place, &conf, NULL) == ATL_OK && conf.state != CFG_ALONE;
    if ((!decided || code == ATL_E_UNAVAILABLE) && cfg_place_leave(&work->place, NULL, &other) != ATL_OK)
        atl_task_warn(work->task, "%s", other.text);
    return code;
}
