/*
 * The state of one guest as it is now, for methods whose answer must not lag behind a task that has just
 * ended: the engine is asked in a thread, and when it knows better than the last sample, all is sampled anew.
 */
#include <stdlib.h>

#include "qemu.h"

struct fresh {
    struct cmp_job job; /* first: a job is cast back */
    struct cmp_qemu *qemu;
    struct atl_request *request;
    const ProtobufCMessage *input; /* lives as long as the request */
    atl_handler_fn *then;
    uint32_t vmid;
    enum cmp_state believed;
    struct atl_arena arena;
    struct cmp_sample *samples;
    size_t count;
    bool sampled;
};

static void fresh_run(struct cmp_job *job, const struct cmp_driver *driver, void *self)
{
    struct fresh *fresh = (struct fresh *)job;
    enum cmp_state state = fresh->believed;
    job->code = driver->state(self, fresh->vmid, &state, &job->error);
    if (job->code != ATL_OK || state == fresh->believed)
        return;
    job->code = driver->sample(self, &fresh->arena, &fresh->samples, &fresh->count, &job->error);
    fresh->sampled = job->code == ATL_OK;
}

static void fresh_free(struct fresh *fresh)
{
    atl_arena_done(&fresh->arena);
    free(fresh);
}

static void fresh_done(struct cmp_job *job)
{
    struct fresh *fresh = (struct fresh *)job;
    if (fresh->sampled)
        qemu_take_samples(fresh->samples, fresh->count, fresh->qemu);
    fresh->then(fresh->request, fresh->input,
                fresh->qemu); /* an engine that is away: with what was seen last */
    fresh_free(fresh);
}

static void fresh_drop(struct cmp_job *job)
{
    fresh_free((struct fresh *)job); /* the bus frees the request */
}

void qemu_fresh(struct cmp_qemu *qemu, struct atl_request *request, const ProtobufCMessage *input,
                uint32_t vmid, atl_handler_fn *then)
{
    struct fresh *fresh = atl_new0(struct fresh);
    fresh->job.run = fresh_run;
    fresh->job.done = fresh_done;
    fresh->job.drop = fresh_drop;
    fresh->qemu = qemu;
    fresh->request = request;
    fresh->input = input;
    fresh->then = then;
    fresh->vmid = vmid;
    fresh->believed = qemu_state(qemu, vmid);
    if (qemu->up && cmp_config_file(qemu->cmp, "qemu-server", vmid) != NULL &&
        cmp_engine_ask(qemu->engine, &fresh->job, NULL) == ATL_OK)
        return;
    fresh_free(fresh);
    then(request, input, qemu);
}
