/* A witness is admitted: what it gets lies in DIR/next until `serve` takes it. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/ask.h"
#include "cluster/crash.h"
#include "cluster/peer.h"
#include "cluster/pki.h"
#include "witness/witness.h"

#define BUSY_LIMIT  (120 * ATL_SECOND)
#define TAKEN_LIMIT (15 * ATL_SECOND)
#define VOTE_LIMIT  (60 * ATL_SECOND)
enum { PAUSE_US = 200000 };

struct joining {
    struct cfg_place whole; /* DIR */
    struct cfg_place place; /* DIR/next */
    const struct witness_options *options;
    struct cfg_join_token word;
    struct cfg_witness_conf conf;
};

static enum atl_code make_folders(const struct joining *joining, struct atl_error *err)
{
    const struct cfg_place *whole = &joining->whole;
    if (mkdir(whole->dir, 0700) != 0 && errno != EEXIST)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", whole->dir, strerror(errno));
    cfg_place_remove(&joining->place, WITNESS_CONF);          /* `serve` takes nothing that is going */
    enum atl_code code = cfg_place_empty(whole, "next", err); /* what an earlier try left */
    return code == ATL_OK ? cfg_place_empty(&joining->place, "etcd", err) : code;
}

/* --- asking --- */

static enum atl_code ask(const struct joining *joining, const char *csr, struct json_object **ret_data,
                         struct atl_error *err)
{
    struct cfg_peer *peer = cfg_peer_new(joining->word.endpoint, joining->word.fingerprint);
    atl_ns deadline = atl_clock_monotonic() + BUSY_LIMIT;
    enum atl_code code = ATL_OK;
    for (;;) {
        cfg_peer_param(peer, "secret", joining->word.secret);
        cfg_peer_param(peer, "csr", csr);
        code = cfg_peer_post(peer, "/cluster/config/admit-witness", ret_data, err);
        const char *busy = code == ATL_OK ? cfg_peer_text(*ret_data, "busy") : NULL;
        if (busy == NULL)
            break;
        if (atl_clock_monotonic() > deadline)
            code = atl_fail(err, ATL_E_UNAVAILABLE, NULL, "%s", busy);
        json_object_put(*ret_data);
        *ret_data = NULL;
        if (code != ATL_OK)
            break;
        (void)usleep(PAUSE_US);
    }
    cfg_peer_free(&peer);
    return code;
}

/* --- taking the answer --- */

static enum atl_code write_text(const struct joining *joining, struct json_object *data, const char *key,
                                const char *file, struct atl_error *err)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    const char *value = cfg_peer_text(data, key);
    if (value == NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "the answer has no '%s': does Atoll run there?", key);
    atl_buf_text(&text, value);
    return cfg_place_write(&joining->place, file, &text, err);
}

static enum atl_code take_conf(struct joining *joining, struct json_object *data, struct atl_error *err)
{
    struct cfg_witness_conf *conf = &joining->conf;
    const char *cluster = cfg_peer_text(data, "cluster");
    const char *address = cfg_peer_text(data, "address");
    struct json_object *generation = NULL;
    if (cluster == NULL || address == NULL || !json_object_object_get_ex(data, "generation", &generation) ||
        !atl_copy(conf->cluster, sizeof conf->cluster, cluster) ||
        !atl_copy(conf->address, sizeof conf->address, address))
        return atl_fail(err, ATL_E_STATE, NULL, "the answer is not that of a node: does Atoll run there?");
    conf->generation = json_object_get_uint64(generation);
    conf->phase = CFG_ROTATION_DROP;
    (void)snprintf(conf->gateways, sizeof conf->gateways, "%s/%s", joining->word.endpoint,
                   joining->word.fingerprint);
    (void)snprintf(conf->word, sizeof conf->word, "%.*s", CFG_JOIN_ID, joining->word.secret);
    return ATL_OK;
}

static enum atl_code write_yml(const struct joining *joining, struct json_object *data, struct atl_error *err)
{
    struct atl_buf yml ATL_BUF_AT_EXIT = {0};
    char *dir ATL_FREE_AT_EXIT = atl_format("%s/etcd", joining->options->state_dir);
    const struct cfg_etcd_place etcd = {.dir = dir,
                                        .node = CFG_WITNESS,
                                        .address = joining->conf.address,
                                        .cluster = joining->conf.cluster,
                                        .members = cfg_peer_text(data, "members")};
    if (etcd.members == NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "the answer has no members: does Atoll run there?");
    cfg_etcd_yml_write(&etcd, &yml);
    return cfg_place_write(&joining->place, CFG_ETCD_YML, &yml, err);
}

static enum atl_code take(struct joining *joining, struct json_object *data, struct atl_error *err)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    enum atl_code code = take_conf(joining, data, err);
    if (code == ATL_OK)
        code = write_text(joining, data, "ca", "etcd/ca.pem", err);
    if (code == ATL_OK)
        code = write_text(joining, data, "certificate", "etcd/node.pem", err);
    if (code == ATL_OK)
        code = write_yml(joining, data, err);
    if (code != ATL_OK)
        return code;
    cfg_crash_at(&joining->whole, CFG_CRASH_ENTER_FILES);
    cfg_witness_conf_write(&joining->conf, &text);
    code = cfg_place_write(&joining->place, WITNESS_CONF, &text, err);
    cfg_crash_at(&joining->whole, CFG_CRASH_ENTER_COMPLETE);
    return code;
}

static enum atl_code be_admitted(struct joining *joining, struct atl_error *err)
{
    struct atl_buf csr ATL_BUF_AT_EXIT = {0};
    struct json_object *data = NULL;
    enum atl_code code = make_folders(joining, err);
    if (code == ATL_OK)
        code = cfg_pki_make_request(&joining->place, &csr, err);
    cfg_crash_at(&joining->whole, CFG_CRASH_ENTER_ASKS);
    if (code == ATL_OK)
        code = ask(joining, csr.data, &data, err);
    cfg_crash_at(&joining->whole, CFG_CRASH_ENTER_ANSWERED);
    if (code == ATL_OK)
        code = take(joining, data, err);
    json_object_put(data);
    return code;
}

/* --- waiting --- */

static bool has_conf(const struct cfg_place *place)
{
    char *path ATL_FREE_AT_EXIT = atl_format("%s/" WITNESS_CONF, place->dir);
    return access(path, F_OK) == 0;
}

static bool is_out(void *user)
{
    const struct joining *joining = user;
    return !has_conf(&joining->whole);
}

static enum atl_code taken_out(struct atl_error *err)
{
    return atl_fail(err, ATL_E_ABSENT, NULL, "the nodes have taken it out again: make another word");
}

/* Errors: ATL_E_ABSENT the nodes have taken it out again, and `serve` has ended it. */
static enum atl_code wait_for_vote(struct joining *joining, struct atl_error *err)
{
    struct atl_buf endpoint ATL_BUF_AT_EXIT = {0};
    struct atl_grpc *channel = NULL;
    atl_ns deadline = atl_clock_monotonic() + TAKEN_LIMIT;
    while (has_conf(&joining->place) && atl_clock_monotonic() < deadline)
        (void)usleep(PAUSE_US);
    if (has_conf(&joining->place))
        return atl_fail(err, ATL_E_DEADLINE, NULL,
                        "admitted, but 'atoll-witness serve' does not run on '%s': start it within a minute",
                        joining->whole.dir);
    if (is_out(joining))
        return taken_out(err);
    struct atl_loop *loop = atl_loop_new();
    cfg_endpoint_write(joining->conf.address, CFG_ETCD_CLIENT_PORT, &endpoint);
    enum cfg_etcd_state state = CFG_ETCD_SILENT;
    enum atl_code code = cfg_ask_channel(&joining->whole, endpoint.data, loop, &channel, err);
    if (code == ATL_OK)
        state = cfg_ask_wait(channel,
                             &(const struct cfg_ask_wait){
                                 .loop = loop, .timeout = VOTE_LIMIT, .stopped = is_out, .user = joining});
    atl_grpc_free(&channel);
    atl_loop_free(loop);
    if (state != CFG_ETCD_SERVING && is_out(joining))
        return taken_out(err);
    if (code == ATL_OK && state != CFG_ETCD_SERVING)
        code = atl_fail(
            err, ATL_E_DEADLINE, NULL,
            "etcd has no vote after a minute: see the log of 'atoll-witness serve', and make another word");
    return code;
}

/* An earlier try with this word came as far as there is to come here: `serve` has it, or will. */
static bool goes_on(struct joining *joining)
{
    const struct cfg_place *const places[] = {&joining->place, &joining->whole}; /* `serve` copies first */
    for (size_t i = 0; i < ATL_COUNT(places); i++) {
        struct atl_buf text ATL_BUF_AT_EXIT = {0};
        if (cfg_place_read(places[i], WITNESS_CONF, &text, NULL) == ATL_OK && text.data != NULL &&
            cfg_witness_conf_read(text.data, &joining->conf, NULL) == ATL_OK &&
            joining->conf.word[0] != '\0' &&
            strncmp(joining->conf.word, joining->word.secret, CFG_JOIN_ID) == 0)
            return true;
    }
    return false;
}

static enum atl_code begin_anew(struct joining *joining, struct atl_error *err)
{
    enum atl_code code = be_admitted(joining, err);
    return code == ATL_OK ? wait_for_vote(joining, err) : code;
}

enum atl_code witness_join(const struct witness_options *options, const char *word, struct atl_error *err)
{
    char *dir ATL_FREE_AT_EXIT = atl_format("%s/next", options->state_dir);
    struct joining joining = {.whole = {.dir = options->state_dir, .crash_file = options->crash_file},
                              .place = {.dir = dir},
                              .options = options};
    enum atl_code code = cfg_join_token_read(word, &joining.word, err);
    bool earlier = code == ATL_OK && goes_on(&joining);
    if (earlier)
        code = wait_for_vote(&joining, err);
    if (earlier ? code == ATL_E_ABSENT : code == ATL_OK)
        code = begin_anew(&joining, err);
    if (code == ATL_OK)
        (void)printf("this machine is the witness of cluster '%s'\n", joining.conf.cluster);
    return code;
}
