/* Builds the parts of the storage-agent and takes them down again. */
#include <stdlib.h>

#include "io/log.h"
#include "main.h"
#include "sto.h"

enum { THREADS = 4, QUEUE_MAX = 256, COPY_THREADS = 2, COPY_QUEUE_MAX = 64, MOVE_THREADS = 16 };

static void task_changed(const struct atl_task_info *info, void *user)
{
    struct sto *sto = user;
    if (sto->pusher != NULL)
        sto_pusher_task(sto->pusher, info);
}

static void sweep(struct sto_job *job)
{
    for (size_t i = 0; i < job->config.count; i++) {
        const struct sto_storage *storage = &job->config.storages[i];
        const struct sto_driver *driver = sto_driver_find(storage->type_name);
        if (driver != NULL && !storage->disabled && sto_storage_on_node(storage, job->sto->node))
            driver->sweep(storage);
    }
}

static void swept(struct sto_job *job)
{
    sto_job_free(job);
}

/* Once, when the storages are known for the first time: before that no request was served, so nothing that is
 * found belongs to this process. */
static void sweep_once(struct sto *sto)
{
    struct sto_job *job = sto_job_new(sto, NULL, NULL, NULL);
    sto->swept = true;
    if (job == NULL)
        return;
    job->finish = swept;
    sto_job_go(job, sweep);
}

static void mirror_moved(void *user)
{
    struct sto *sto = user;
    if (!sto->swept && atl_mirror_ready(sto->mirror))
        sweep_once(sto);
    sto_writes_moved(sto->writes);
}

static void config_changed(const char *path, const struct atl_file *file, void *user)
{
    (void)path;
    (void)file;
    struct sto *sto = user;
    sto_pusher_wake(sto->pusher);
}

const char *sto_address(const struct sto *sto)
{
    const struct atl_directory_node *node = atl_directory_node(sto->program->directory, sto->node);
    return node != NULL ? node->address : "127.0.0.1";
}

static enum atl_code open_parts(struct sto *sto, struct atl_error *err)
{
    struct atl_program *program = sto->program;
    struct atl_tasks_options tasks = {.loop = program->loop,
                                      .service = program->name,
                                      .node = program->node,
                                      .run_dir = program->run_dir,
                                      .state_dir = program->state_dir,
                                      .on_change = task_changed,
                                      .user = sto};
    sto_driver_set_node(program->node);
    sto->mirror =
        atl_mirror_open(sto->bus, (const char *const[]){ATL_KEEPER_PREFIXES, "storage.cfg", "nodes/", NULL});
    sto->keeper = atl_keeper_new(sto->bus, sto->mirror);
    ATL_FREE_AT_EXIT char *dir = atl_format("%s/storage-agent", program->state_dir);
    sto->cluster = atl_cluster_open(&(const struct atl_cluster_options){
        .bus = sto->bus, .mirror = sto->mirror, .directory = program->directory, .dir = dir});
    sto->pool = sto_pool_new(sto->loop, THREADS, QUEUE_MAX);
    sto->copy_pool = sto_pool_new(sto->loop, COPY_THREADS, COPY_QUEUE_MAX);
    sto->move_pool = sto_pool_new(sto->loop, MOVE_THREADS, MOVE_THREADS);
    sto->writes = sto_writes_new(sto);
    sto->copies = sto_copies_new(sto);
    sto->pusher = sto_pusher_new(sto);
    enum atl_code code = atl_tasks_open(&tasks, &sto->tasks, err);
    if (code == ATL_OK)
        code = sto_uploads_new(sto, &sto->uploads, err);
    if (code != ATL_OK)
        return code;
    atl_mirror_on_batch(sto->mirror, mirror_moved, sto);
    atl_mirror_on_change(sto->mirror, "storage.cfg", config_changed, sto);
    sto_serve_storage(sto);
    sto_serve_volumes(sto);
    return ATL_OK;
}

enum atl_code sto_start(struct atl_program *program, void **ret_self, struct atl_error *err)
{
    struct sto *sto = atl_new0(struct sto);
    sto->program = program;
    sto->node = program->node;
    sto->loop = program->loop;
    sto->bus = program->bus;
    *ret_self = sto;
    return open_parts(sto, err);
}

void sto_stop(void *self)
{
    struct sto *sto = self;
    if (sto == NULL)
        return;
    /* Threads first: what they hold is freed below. Their requests end when the bus closes. */
    sto_pool_free(&sto->pool);
    sto_copies_stop(sto->copies);
    sto_pool_free(&sto->copy_pool);
    sto_pool_free(&sto->move_pool);
    sto_uploads_free(&sto->uploads);
    sto_copies_free(&sto->copies);
    sto_pusher_free(&sto->pusher);
    sto_writes_free(&sto->writes);
    if (sto->tasks != NULL)
        atl_tasks_close(&sto->tasks);
    atl_keeper_free(&sto->keeper);
    atl_cluster_close(&sto->cluster);
    if (sto->mirror != NULL)
        atl_mirror_close(&sto->mirror);
    free(sto);
}
