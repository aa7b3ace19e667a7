/* A witness serves: etcd and corosync-qnetd run, with the certificates that hold now. */
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/ask.h"
#include "cluster/crash.h"
#include "cluster/peer.h"
#include "cluster/pki.h"
#include "io/log.h"
#include "io/process.h"
#include "witness/witness.h"

#define TICK        (500 * ATL_MS)
#define SYNC_EVERY  (2 * ATL_SECOND)
#define BEGIN_AGAIN ATL_SECOND /* after a program has ended by itself */
#define END_LIMIT   (10 * ATL_SECOND)
#define BACK_LIMIT  (20 * ATL_SECOND)
enum { ANSWER_SECONDS = 5, ARGS_MAX = 8 };

struct program {
    struct serving *serving;
    const char *name;
    const char *argv[ARGS_MAX];
    struct atl_process *process; /* NULL: it does not run */
    atl_ns begin_at;
};

struct serving {
    const struct witness_options *options;
    struct cfg_place place;
    struct atl_loop *loop;
    bool has_conf;
    struct cfg_witness_conf conf;
    char *etcd_yml;
    char *etcd_dir;
    char *qnetd_dir;
    struct program etcd;
    struct program qnetd;
    atl_ns sync_at;
    size_t turn; /* of the gateways */
    char said[ATL_TEXT_MAX];
    /* certificates that are there, but etcd has not come back with them yet */
    bool changing;
    uint64_t generation;
    enum cfg_rotation_phase phase;
    atl_ns changed_at;
};

/* Once each time that it changes. */
static void say(struct serving *serving, const char *what, const char *why)
{
    if (strcmp(serving->said, why) == 0)
        return;
    (void)atl_copy(serving->said, sizeof serving->said, why);
    atl_log(ATL_WARNING, "witness", "%s: %s; trying again", what, why);
}

/* --- the two programs --- */

static void on_end(const struct atl_process_end *end, void *user)
{
    struct program *program = user;
    program->process = NULL;
    atl_log(ATL_NOTICE, "witness-program", "%s ended, %s %d", program->name,
            end->signal != 0 ? "signal" : "exit code", end->signal != 0 ? end->signal : end->exit_status);
}

static void keep_up(struct program *program)
{
    struct atl_error error = {0};
    atl_ns now = atl_clock_monotonic();
    if (program->process != NULL || now < program->begin_at)
        return;
    const struct atl_process_options options = {.argv = program->argv};
    program->begin_at = now + BEGIN_AGAIN;
    if (atl_process_start(program->serving->loop, &options, on_end, program, &program->process, &error) !=
        ATL_OK)
        say(program->serving, program->name, error.text);
}

static void end(struct program *program)
{
    atl_ns deadline = atl_clock_monotonic() + END_LIMIT;
    if (program->process != NULL)
        atl_process_signal(program->process, SIGTERM);
    while (program->process != NULL && atl_clock_monotonic() < deadline)
        atl_loop_step(program->serving->loop, TICK);
    atl_process_free(program->process);
    program->process = NULL;
    program->begin_at = 0;
}

/* --- what `join` left --- */

static enum atl_code copy(const struct cfg_place *from, const struct cfg_place *to, const char *name,
                          struct atl_error *err)
{
    struct atl_buf content ATL_BUF_AT_EXIT = {0};
    enum atl_code code = cfg_place_read(from, name, &content, err);
    if (code == ATL_OK)
        code = cfg_place_write(to, name, &content, err);
    if (content.data != NULL)
        explicit_bzero(content.data, content.capacity);
    return code;
}

/* Cut off in the middle it is done again from the beginning: DIR/next goes last, and of that the file that
 * says that it is whole goes first. */
static enum atl_code take_next(struct serving *serving, const struct cfg_place *next, struct atl_error *err)
{
    static const char *const files[] = {"etcd/node.key", "etcd/node.pem", "etcd/ca.pem", CFG_ETCD_YML,
                                        WITNESS_CONF};
    end(&serving->etcd);
    end(&serving->qnetd);
    serving->has_conf = false;
    serving->changing = false;
    enum atl_code code = cfg_place_empty(&serving->place, "etcd", err);
    cfg_crash_at(&serving->place, CFG_CRASH_TAKE_EMPTIED);
    for (size_t i = 0; i < ATL_COUNT(files) && code == ATL_OK; i++)
        code = copy(next, &serving->place, files[i], err);
    if (code != ATL_OK)
        return code;
    cfg_crash_at(&serving->place, CFG_CRASH_TAKE_COPIED);
    cfg_place_remove(next, WITNESS_CONF);
    cfg_crash_at(&serving->place, CFG_CRASH_TAKE_DECIDED);
    code = cfg_place_empty(&serving->place, "next", err);
    cfg_crash_at(&serving->place, CFG_CRASH_TAKE_DONE);
    return code;
}

/* Cut off after that file went: the rest of DIR/next goes, unless it is what another `join` is making. */
static enum atl_code clear_taken(const struct serving *serving, struct atl_error *err)
{
    struct atl_buf ours ATL_BUF_AT_EXIT = {0};
    struct atl_buf left ATL_BUF_AT_EXIT = {0};
    char *conf ATL_FREE_AT_EXIT = atl_format("%s/next/" WITNESS_CONF, serving->place.dir);
    bool taken = access(conf, F_OK) != 0 &&
                 cfg_place_read(&serving->place, "etcd/node.key", &ours, NULL) == ATL_OK &&
                 cfg_place_read(&serving->place, "next/etcd/node.key", &left, NULL) == ATL_OK &&
                 ours.length == left.length && memcmp(ours.data, left.data, ours.length) == 0;
    if (ours.data != NULL)
        explicit_bzero(ours.data, ours.capacity);
    if (left.data != NULL)
        explicit_bzero(left.data, left.capacity);
    return taken ? cfg_place_empty(&serving->place, "next", err) : ATL_OK;
}

static enum atl_code look_for_next(struct serving *serving, struct atl_error *err)
{
    char *dir ATL_FREE_AT_EXIT = atl_format("%s/next", serving->place.dir);
    char *conf ATL_FREE_AT_EXIT = atl_format("%s/%s", dir, WITNESS_CONF);
    const struct cfg_place next = {.dir = dir};
    return access(conf, F_OK) == 0 ? take_next(serving, &next, err) : ATL_OK;
}

static enum atl_code load(struct serving *serving, struct atl_error *err)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    struct atl_error why = {0};
    enum atl_code code = cfg_place_read(&serving->place, WITNESS_CONF, &text, &why);
    if (code == ATL_E_ABSENT)
        return ATL_OK; /* nobody has asked it in yet */
    if (code == ATL_OK)
        code = cfg_witness_conf_read(text.data != NULL ? text.data : "", &serving->conf, &why);
    if (code != ATL_OK)
        return atl_fail(err, code, NULL, "%s", why.text);
    serving->has_conf = true;
    atl_log(ATL_NOTICE, "witness", "of cluster '%s', at %s", serving->conf.cluster, serving->conf.address);
    return ATL_OK;
}

static enum atl_code keep(struct serving *serving, struct atl_error *err)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    cfg_witness_conf_write(&serving->conf, &text);
    return cfg_place_write(&serving->place, WITNESS_CONF, &text, err);
}

static enum atl_code wipe(const struct serving *serving, struct atl_error *err)
{
    enum atl_code code = cfg_place_empty(&serving->place, "etcd", err);
    return code == ATL_OK ? cfg_place_empty(&serving->place, "qnetd", err) : code;
}

/* --- certificates --- */

static enum atl_code go(struct serving *serving, struct atl_error *err)
{
    atl_log(ATL_NOTICE, "witness", "the cluster has taken this witness out");
    end(&serving->etcd);
    end(&serving->qnetd);
    cfg_place_remove(&serving->place, WITNESS_CONF);
    cfg_crash_at(&serving->place, CFG_CRASH_QUIT_DECIDED);
    serving->has_conf = false;
    serving->changing = false;
    return wipe(serving, err);
}

static enum atl_code write_text(struct serving *serving, const char *file, const char *content,
                                struct atl_error *err)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    atl_buf_text(&text, content);
    return cfg_place_write(&serving->place, file, &text, err);
}

static enum atl_code take_certificates(struct serving *serving, struct json_object *data,
                                       struct atl_error *err)
{
    const char *ca = cfg_peer_text(data, "ca");
    const char *certificate = cfg_peer_text(data, "certificate");
    struct json_object *generation = NULL;
    struct json_object *phase = NULL;
    if (ca == NULL || certificate == NULL || !json_object_object_get_ex(data, "generation", &generation) ||
        !json_object_object_get_ex(data, "phase", &phase))
        return ATL_OK; /* there are no others */
    int number = json_object_get_int(phase);
    if (number <= CFG_ROTATION_DONE || number >= CFG_ROTATION_PHASES)
        return atl_fail(err, ATL_E_STATE, NULL, "the answer names no phase");
    enum atl_code code = write_text(serving, "etcd/ca.pem", ca, err);
    cfg_crash_at(&serving->place, CFG_CRASH_RENEW_CA);
    if (code == ATL_OK)
        code = write_text(serving, "etcd/node.pem", certificate, err);
    if (code != ATL_OK)
        return code;
    cfg_crash_at(&serving->place, CFG_CRASH_RENEW_CERTIFICATE);
    end(&serving->etcd);
    end(&serving->qnetd);
    serving->changing = true;
    serving->generation = json_object_get_uint64(generation);
    serving->phase = (enum cfg_rotation_phase)number;
    serving->changed_at = atl_clock_monotonic();
    return ATL_OK;
}

static enum atl_code take_gateways(struct serving *serving, struct json_object *data, struct atl_error *err)
{
    struct json_object *list = NULL;
    struct cfg_witness_conf next = serving->conf;
    struct cfg_gateway gateway;
    size_t length = 0;
    if (!json_object_object_get_ex(data, "gateway", &list) || !json_object_is_type(list, json_type_array))
        return ATL_OK;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(list, i));
        if (text == NULL || length + strlen(text) + 2 > sizeof next.gateways)
            continue;
        length += (size_t)snprintf(next.gateways + length, sizeof next.gateways - length, "%s%s",
                                   length > 0 ? "," : "", text);
    }
    if (length == 0 || strcmp(next.gateways, serving->conf.gateways) == 0 ||
        strpbrk(next.gateways, " \n") != NULL || cfg_witness_gateway(&next, 0, &gateway, err) != ATL_OK)
        return ATL_OK;
    serving->conf = next;
    return keep(serving, err);
}

/* --- asking the nodes --- */

static void add_number(struct cfg_peer *peer, const char *name, uint64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, number);
    cfg_peer_param(peer, name, text);
}

static enum atl_code ask(struct serving *serving, struct json_object **ret_data, struct atl_error *err)
{
    struct cfg_gateway gateway;
    struct atl_buf csr ATL_BUF_AT_EXIT = {0};
    enum atl_code code = cfg_witness_gateway(&serving->conf, serving->turn++, &gateway, err);
    if (code == ATL_OK)
        code = cfg_pki_request(&serving->place, &csr, err);
    if (code != ATL_OK)
        return code;
    struct cfg_peer *peer = cfg_peer_new(gateway.endpoint, gateway.fingerprint);
    cfg_peer_limit(peer, ANSWER_SECONDS);
    cfg_peer_param(peer, "csr", csr.data);
    add_number(peer, "generation", serving->conf.generation);
    add_number(peer, "phase", serving->conf.phase);
    if (cfg_pki_due(&serving->place, "etcd/node.pem", atl_clock_wall_seconds()))
        cfg_peer_param(peer, "renew", "1");
    code = cfg_peer_post(peer, "/cluster/config/sync-witness", ret_data, err);
    cfg_peer_free(&peer);
    return code;
}

static enum atl_code sync_with_nodes(struct serving *serving, struct atl_error *err)
{
    struct json_object *data = NULL;
    struct json_object *gone = NULL;
    enum atl_code code = ask(serving, &data, err);
    if (code != ATL_OK)
        return code;
    if (json_object_object_get_ex(data, "gone", &gone) && json_object_get_boolean(gone)) {
        code = go(serving, err);
    } else {
        code = take_gateways(serving, data, err);
        if (code == ATL_OK)
            code = take_certificates(serving, data, err);
    }
    json_object_put(data);
    return code;
}

/* Our part is done when etcd serves with what is new: only then may the next one begin anew. */
static enum atl_code look_for_etcd(struct serving *serving, struct atl_error *err)
{
    struct atl_buf endpoint ATL_BUF_AT_EXIT = {0};
    struct atl_grpc *channel = NULL;
    cfg_endpoint_write(serving->conf.address, CFG_ETCD_CLIENT_PORT, &endpoint);
    enum atl_code code = cfg_ask_channel(&serving->place, endpoint.data, serving->loop, &channel, err);
    if (code != ATL_OK)
        return code;
    bool serves = cfg_ask_state(channel, serving->loop) == CFG_ETCD_SERVING;
    atl_grpc_free(&channel);
    if (!serves) {
        if (atl_clock_monotonic() - serving->changed_at > BACK_LIMIT)
            serving->changing = false; /* it is given again */
        return ATL_OK;
    }
    serving->changing = false;
    serving->conf.generation = serving->generation;
    serving->conf.phase = serving->phase;
    serving->sync_at = 0;
    atl_log(ATL_NOTICE, "witness", "certificates of generation %" PRIu64 ": '%s' is done here",
            serving->generation, cfg_rotation_phase_to_text(serving->phase));
    return keep(serving, err);
}

/* --- the rounds --- */

static enum atl_code round_of(struct serving *serving, struct atl_error *err)
{
    enum atl_code code = look_for_next(serving, err);
    if (code == ATL_OK && !serving->has_conf)
        code = load(serving, err);
    if (code != ATL_OK || !serving->has_conf)
        return code;
    keep_up(&serving->etcd);
    keep_up(&serving->qnetd);
    if (serving->changing)
        return look_for_etcd(serving, err);
    if (atl_clock_monotonic() < serving->sync_at)
        return ATL_OK;
    serving->sync_at = atl_clock_monotonic() + SYNC_EVERY;
    return sync_with_nodes(serving, err);
}

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    (void)number;
    ended = 1;
}

/* A round blocks for the nodes' answers: nothing here is in a hurry, and the programs run without us. */
static void run(struct serving *serving)
{
    while (ended == 0) {
        struct atl_error error = {0};
        if (round_of(serving, &error) != ATL_OK)
            say(serving, "not as it should be", error.text);
        atl_ns until = atl_clock_monotonic() + TICK;
        while (ended == 0 && atl_clock_monotonic() < until)
            atl_loop_step(serving->loop, until - atl_clock_monotonic());
    }
}

static void set_programs(struct serving *serving)
{
    const char *const end_with_us[] = {"setpriv", "--pdeathsig", "KILL"};
    serving->etcd = (struct program){.serving = serving, .name = "etcd"};
    serving->qnetd = (struct program){.serving = serving, .name = "corosync-qnetd"};
    for (size_t i = 0; i < ATL_COUNT(end_with_us); i++)
        serving->etcd.argv[i] = serving->qnetd.argv[i] = end_with_us[i];
    const char *const etcd[] = {"etcd", "--config-file", serving->etcd_yml};
    const char *const qnetd[] = {serving->options->launcher, "qnetd", serving->etcd_dir, serving->qnetd_dir};
    memcpy(serving->etcd.argv + ATL_COUNT(end_with_us), etcd, sizeof etcd);
    memcpy(serving->qnetd.argv + ATL_COUNT(end_with_us), qnetd, sizeof qnetd);
}

static enum atl_code make_folders(const struct serving *serving, struct atl_error *err)
{
    const char *const folders[] = {serving->place.dir, serving->etcd_dir, serving->qnetd_dir};
    char *conf ATL_FREE_AT_EXIT = atl_format("%s/" WITNESS_CONF, serving->place.dir);
    for (size_t i = 0; i < ATL_COUNT(folders); i++)
        if (mkdir(folders[i], 0700) != 0 && errno != EEXIST)
            return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", folders[i], strerror(errno));
    if (access(conf, F_OK) != 0 && errno == ENOENT)
        return wipe(serving, err); /* it was cut off when it had been taken out */
    return clear_taken(serving, err);
}

enum atl_code witness_serve(const struct witness_options *options, struct atl_error *err)
{
    char *etcd_dir ATL_FREE_AT_EXIT = atl_format("%s/etcd", options->state_dir);
    char *qnetd_dir ATL_FREE_AT_EXIT = atl_format("%s/qnetd", options->state_dir);
    char *yml ATL_FREE_AT_EXIT = atl_format("%s/etcd.yml", etcd_dir);
    struct serving serving = {.options = options,
                              .place = {.dir = options->state_dir, .crash_file = options->crash_file},
                              .etcd_yml = yml,
                              .etcd_dir = etcd_dir,
                              .qnetd_dir = qnetd_dir};
    enum atl_code code = make_folders(&serving, err);
    if (code != ATL_OK)
        return code;
    const struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGTERM, &action, NULL); /* it fails for no signal that there is */
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    serving.loop = atl_loop_new();
    set_programs(&serving);
    run(&serving);
    end(&serving.qnetd);
    end(&serving.etcd);
    atl_loop_free(serving.loop);
    return ATL_OK;
}
