/*
 * The agent's own threads towards the engine of virtual machines: one that watches (connects, samples,
 * reconnects) and a small pool for questions that block. They speak with the loop through a queue and an
 * eventfd.
 */
#ifndef CMP_ENGINE_H
#define CMP_ENGINE_H

#include "drivers/driver.h"
#include "io/loop.h"

struct cmp_engine;

struct cmp_engine_options {
    struct atl_loop *loop;
    const struct cmp_driver *driver;
    struct cmp_driver_options open;
    /* Called in the loop with all guests that run, a moment after something changed and every few seconds. */
    void (*on_sample)(const struct cmp_sample *samples, size_t count, void *user);
    /* Called in the loop when the engine went away (up false) or came. */
    void (*on_link)(bool up, const char *reason, void *user);
    void *user;
};

struct cmp_engine *cmp_engine_open(const struct cmp_engine_options *options);
/* Waits for the threads; jobs that have not begun are dropped without their done(). */
void cmp_engine_close(struct cmp_engine **engine);

/*
 * One question. run() is called in a thread of the pool with an open driver (or NULL and *err filled when the
 * engine is away), then done() in the loop. Both must not touch anything but the job.
 */
struct cmp_job {
    void (*run)(struct cmp_job *job, const struct cmp_driver *driver, void *self);
    void (*done)(struct cmp_job *job);
    void (*drop)(struct cmp_job *job); /* frees it when the agent ends before done() */
    enum atl_code code;                /* UNAVAILABLE when there is no engine; run() is not called then */
    struct atl_error error;
    struct cmp_job *next;
};

/* Takes the job. Errors: ATL_E_UNAVAILABLE the queue (64) is full; the job is still the caller's. */
ATL_MUST_CHECK enum atl_code cmp_engine_ask(struct cmp_engine *engine, struct cmp_job *job,
                                            struct atl_error *err);

#endif
