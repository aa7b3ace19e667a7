/* config-store: the state of the cluster, who is who, and the view over all nodes. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cfg.h"
#include "cluster/cluster.h"
#include "cluster/crash.h"
#include "cluster/work.h"
#include "drivers/choose.h"
#include "identity.h"
#include "io/log.h"
#include "pure/number.h"
#include "reach.h"
#include "view.h"

static struct cfg_engine_choice engine = {.kind = "sqlite"};
static const char *pam_helper;
static const char *supervisor;
static const char *tasks_dir;
static const char *certificate_life;

static const struct atl_program_option program_options[] = {
    {"engine", "KIND", "what keeps the tree: sqlite, etcd, or memory for tests", &engine.kind, NULL},
    {"etcd", "LIST", "etcd: ADDRESS:PORT of its members, with commas between", &engine.endpoints, NULL},
    {"etcd-ca", "FILE", "etcd: who signed its certificates (PEM); without it there is no TLS",
     &engine.ca_file, NULL},
    {"etcd-cert", "FILE", "etcd: our certificate (PEM)", &engine.cert_file, NULL},
    {"etcd-key", "FILE", "etcd: its key (PEM)", &engine.key_file, NULL},
    {"etcd-quota", "BYTES", "etcd: its --quota-backend-bytes (default: 2 GiB)", &engine.quota, NULL},
    {"pam-helper", "PATH", "the program that asks PAM (default: beside this one)", &pam_helper, NULL},
    {"supervisor", "DIR", "runit's folder of services, with etcd and corosync (default: systemd)",
     &supervisor, NULL},
    {"certificate-life", "SECONDS", "of the certificates that are signed here (default: a year)",
     &certificate_life, NULL},
    {"tasks-dir", "DIR", "the folder with the node's tasks/ (default: the state folder)", &tasks_dir, NULL},
};

/* A change of user.cfg or of a node's key reaches our own guard before anybody hears of the commit. */
static void feed_keeper(const char *path, const struct cfg_file *file, void *user)
{
    struct cfg *cfg = user;
    atl_keeper_feed(cfg->keeper, path, file != NULL ? (const char *)file->bytes : NULL,
                    file != NULL ? file->size : 0);
}

static void move_keeper(void *user)
{
    struct cfg *cfg = user;
    atl_keeper_set_revision(cfg->keeper, cfg_store_revision(cfg->store));
}

static bool is_frozen(void *user)
{
    const struct cfg *cfg = user;
    return cfg_store_frozen(cfg->store);
}

static void feed_all(struct cfg *cfg)
{
    const struct cfg_tree *tree = cfg_store_tree(cfg->store);
    for (size_t i = 0; i < tree->count; i++)
        feed_keeper(tree->files[i]->path, tree->files[i], cfg);
    move_keeper(cfg);
}

static char *helper_path(void)
{
    if (pam_helper != NULL)
        return atl_strdup(pam_helper);
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        return atl_strdup("atoll-pam-helper");
    self[length] = '\0';
    char *slash = strrchr(self, '/');
    *slash = '\0';
    return atl_format("%s/atoll-pam-helper", self);
}

static enum atl_code open_store(struct cfg *cfg, struct cfg_cluster_start *start, struct atl_error *err)
{
    struct cfg_engine_chosen chosen;
    (void)mkdir(cfg->program->state_dir, 0700); /* there already, or opening the engine says what is wrong */
    enum atl_code code = cfg_cluster_begin(start, cfg->loop, &engine, err);
    if (code == ATL_OK)
        code = cfg_engine_choose(&engine, cfg->loop, &chosen, err);
    if (code != ATL_OK)
        return code;
    const struct cfg_store_options store = {.loop = cfg->loop,
                                            .driver = chosen.driver,
                                            .engine = {.state_dir = cfg->program->state_dir},
                                            .shared = chosen.shared,
                                            .shared_options = chosen.options};
    code = cfg_store_open(&store, &cfg->store, err);
    return code == ATL_OK ? cfg_cluster_finish(cfg, start, err) : code;
}

static enum atl_code open_cluster(struct cfg *cfg, struct cfg_cluster_start *start, struct atl_error *err)
{
    const struct cfg_cluster_options options = {.start = start, .tasks_dir = tasks_dir};
    enum atl_code code = cfg_cluster_open(cfg, &options, &cfg->cluster, err);
    if (code == ATL_OK)
        cfg_serve_cluster_config(cfg);
    return code;
}

static enum atl_code build(struct cfg *cfg, struct cfg_cluster_start *start, struct atl_error *err)
{
    enum atl_code code = open_store(cfg, start, err);
    if (code != ATL_OK)
        return code;
    cfg->keeper = atl_keeper_new(cfg->bus, NULL);
    atl_keeper_on_frozen(cfg->keeper, is_frozen, cfg);
    cfg_store_on_commit(cfg->store, feed_keeper, move_keeper, cfg);
    char *helper ATL_FREE_AT_EXIT = helper_path();
    code = cfg_identity_open(cfg, helper, &cfg->identity, err);
    if (code != ATL_OK)
        return code;
    feed_all(cfg);
    cfg->watchers = cfg_watchers_new(cfg);
    cfg->locks = cfg_locks_new(cfg);
    cfg->reach = cfg_reach_open(cfg);
    cfg->view = cfg_view_new(cfg);
    cfg_serve_store(cfg);
    cfg_serve_identity(cfg);
    cfg_serve_access(cfg);
    cfg_serve_cluster(cfg);
    cfg_serve_options(cfg);
    cfg_serve_pools(cfg);
    cfg_serve_directory(cfg);
    return open_cluster(cfg, start, err);
}

static void stop(void *self)
{
    struct cfg *cfg = self;
    if (cfg == NULL)
        return;
    cfg_cluster_close(&cfg->cluster);
    cfg_identity_free(&cfg->identity); /* before the rest: its answers need the others */
    cfg_watchers_free(&cfg->watchers);
    cfg_locks_free(&cfg->locks);
    cfg_view_free(&cfg->view);
    cfg_reach_close(&cfg->reach);
    cfg_store_close(&cfg->store);
    atl_keeper_free(&cfg->keeper);
    free(cfg);
}

static enum atl_code take_life(int64_t *ret_seconds, struct atl_error *err)
{
    int64_t seconds = CFG_CERTIFICATE_LIFE;
    if (certificate_life != NULL && (!atl_int_from_text(certificate_life, &seconds) || seconds < 30 ||
                                     seconds > CFG_CERTIFICATE_LIFE * 20))
        return atl_fail(err, ATL_E_INVALID, "certificate-life", "'%s' is no number of seconds from 30 on",
                        certificate_life);
    *ret_seconds = seconds;
    return ATL_OK;
}

static enum atl_code begin(struct atl_program *program, void **ret_self, struct atl_error *err)
{
    struct cfg *cfg = atl_new0(struct cfg);
    cfg->program = program;
    cfg->loop = program->loop;
    cfg->bus = program->bus;
    *ret_self = cfg;
    struct cfg_cluster_start start = {.place = {.dir = program->state_dir,
                                                .supervisor = supervisor,
                                                .node = program->node,
                                                .crash_file = cfg_crash_file()}};
    enum atl_code code = take_life(&start.place.life_s, err);
    if (code == ATL_OK)
        code = build(cfg, &start, err);
    cfg_cluster_start_done(&start);
    return code;
}

int main(int argc, char **argv)
{
    return atl_program_main(&(const struct atl_program_spec){.name = "config-store",
                                                             .summary = "state and identity of the cluster",
                                                             .options = program_options,
                                                             .option_count = ATL_COUNT(program_options),
                                                             .tasks = cfg_cluster_tasks,
                                                             .task_count = cfg_cluster_task_count,
                                                             .start = begin,
                                                             .stop = stop},
                            argc, argv);
}
