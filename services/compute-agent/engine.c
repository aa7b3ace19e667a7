/* The agent's own threads towards the engine of virtual machines. */
#include "engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { POOL_THREADS = 3, QUEUE_MAX = 64, SAMPLE_MS = 3000, RETRY_MS = 500 };

struct sample_set {
    struct atl_arena arena;
    struct cmp_sample *samples;
    size_t count;
};

struct cmp_engine {
    struct cmp_engine_options options;
    struct atl_watch *watch;
    int wake;
    pthread_t watcher;
    pthread_t pool[POOL_THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t work;
    atomic_bool stopping;
    /* guarded by mutex */
    struct cmp_job *queue_first, *queue_last;
    size_t queued;
    struct cmp_job *done_first, *done_last;
    struct sample_set *fresh; /* newest only: older ones are replaced */
    bool up;
    bool link_changed;
    char reason[ATL_TEXT_MAX];
    atomic_uint generation; /* rises when the engine was lost: handles of before are stale */
};

static void wake_loop(const struct cmp_engine *engine)
{
    uint64_t one = 1;
    (void)!write(engine->wake, &one, sizeof one); /* full counter: it is awake anyway */
}

static void set_free(struct sample_set *set)
{
    if (set == NULL)
        return;
    atl_arena_done(&set->arena);
    free(set);
}

static void pause_ms(const struct cmp_engine *engine, int ms)
{
    while (ms > 0 && !atomic_load(&engine->stopping)) {
        const struct timespec step = {.tv_nsec = 50L * 1000 * 1000};
        (void)nanosleep(&step, NULL); /* a shorter sleep does no harm */
        ms -= 50;
    }
}

/* --- the watcher ------------------------------------------------------------------------------------------
 */

static void post_link(struct cmp_engine *engine, bool up, const char *reason)
{
    (void)pthread_mutex_lock(&engine->mutex);
    if (engine->up != up || !up) {
        engine->link_changed = true;
        engine->up = up;
        (void)atl_copy(engine->reason, sizeof engine->reason, reason);
    }
    (void)pthread_mutex_unlock(&engine->mutex);
    wake_loop(engine);
}

static bool post_sample(struct cmp_engine *engine, void *handle)
{
    struct sample_set *set = atl_new0(struct sample_set);
    struct atl_error error = {0};
    enum atl_code code =
        engine->options.driver->sample(handle, &set->arena, &set->samples, &set->count, &error);
    if (code != ATL_OK) {
        set_free(set);
        post_link(engine, false, error.text);
        return false;
    }
    (void)pthread_mutex_lock(&engine->mutex);
    struct sample_set *old = engine->fresh;
    engine->fresh = set;
    (void)pthread_mutex_unlock(&engine->mutex);
    set_free(old);
    wake_loop(engine);
    return true;
}

static void *watcher_main(void *user)
{
    struct cmp_engine *engine = user;
    const struct cmp_driver *driver = engine->options.driver;
    struct cmp_driver_options open = engine->options.open;
    open.watch = true;
    while (!atomic_load(&engine->stopping)) {
        void *handle = NULL;
        struct atl_error error = {0};
        if (driver->open(&open, &handle, &error) != ATL_OK) {
            post_link(engine, false, error.text);
            pause_ms(engine, RETRY_MS);
            continue;
        }
        post_link(engine, true, "");
        while (!atomic_load(&engine->stopping) && post_sample(engine, handle)) {
            int64_t left = SAMPLE_MS;
            /* In short steps, so that ending does not wait for the whole period. */
            for (; left > 0 && !atomic_load(&engine->stopping); left -= 250) {
                struct timespec before;
                struct timespec after;
                (void)clock_gettime(CLOCK_MONOTONIC, &before);
                driver->wait(handle, 250);
                (void)clock_gettime(CLOCK_MONOTONIC, &after);
                int64_t took =
                    (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
                if (took < 230)
                    break; /* something happened */
            }
        }
        driver->close(handle);
        (void)atomic_fetch_add(&engine->generation, 1);
    }
    return NULL;
}

/* --- the pool ---------------------------------------------------------------------------------------------
 */

static struct cmp_job *next_job(struct cmp_engine *engine)
{
    (void)pthread_mutex_lock(&engine->mutex);
    while (engine->queue_first == NULL && !atomic_load(&engine->stopping))
        (void)pthread_cond_wait(&engine->work, &engine->mutex);
    struct cmp_job *job = atomic_load(&engine->stopping) ? NULL : engine->queue_first;
    if (job != NULL) {
        engine->queue_first = job->next;
        if (engine->queue_first == NULL)
            engine->queue_last = NULL;
        engine->queued--;
        job->next = NULL;
    }
    (void)pthread_mutex_unlock(&engine->mutex);
    return job;
}

static void job_finished(struct cmp_engine *engine, struct cmp_job *job)
{
    (void)pthread_mutex_lock(&engine->mutex);
    if (engine->done_last != NULL)
        engine->done_last->next = job;
    else
        engine->done_first = job;
    engine->done_last = job;
    (void)pthread_mutex_unlock(&engine->mutex);
    wake_loop(engine);
}

/* Each thread has a handle of its own, opened when first needed and anew after the engine was lost. */
static void *pool_main(void *user)
{
    struct cmp_engine *engine = user;
    const struct cmp_driver *driver = engine->options.driver;
    void *handle = NULL;
    unsigned int generation = 0;
    for (;;) {
        struct cmp_job *job = next_job(engine);
        if (job == NULL)
            break;
        unsigned int now = atomic_load(&engine->generation);
        if (handle != NULL && generation != now) {
            driver->close(handle);
            handle = NULL;
        }
        generation = now;
        job->code = handle != NULL ? ATL_OK : driver->open(&engine->options.open, &handle, &job->error);
        if (job->code == ATL_OK)
            job->run(job, driver, handle);
        job_finished(engine, job);
    }
    if (handle != NULL)
        driver->close(handle);
    return NULL;
}

/* --- the loop's side --------------------------------------------------------------------------------------
 */

static void deliver_jobs(struct cmp_engine *engine)
{
    (void)pthread_mutex_lock(&engine->mutex);
    struct cmp_job *job = engine->done_first;
    engine->done_first = NULL;
    engine->done_last = NULL;
    (void)pthread_mutex_unlock(&engine->mutex);
    while (job != NULL) {
        struct cmp_job *next = job->next;
        job->next = NULL;
        job->done(job);
        job = next;
    }
}

static void on_wake(void *user, unsigned int events)
{
    struct cmp_engine *engine = user;
    uint64_t counter = 0;
    char reason[ATL_TEXT_MAX];
    (void)events;
    (void)!read(engine->wake, &counter, sizeof counter); /* nothing there: another round has done the work */
    (void)pthread_mutex_lock(&engine->mutex);
    struct sample_set *set = engine->fresh;
    bool link_changed = engine->link_changed;
    bool up = engine->up;
    engine->fresh = NULL;
    engine->link_changed = false;
    (void)atl_copy(reason, sizeof reason, engine->reason);
    (void)pthread_mutex_unlock(&engine->mutex);
    if (link_changed)
        engine->options.on_link(up, reason, engine->options.user);
    if (set != NULL)
        engine->options.on_sample(set->samples, set->count, engine->options.user);
    set_free(set);
    deliver_jobs(engine);
}

struct cmp_engine *cmp_engine_open(const struct cmp_engine_options *options)
{
    struct cmp_engine *engine = atl_new0(struct cmp_engine);
    engine->options = *options;
    engine->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atl_assert(engine->wake >= 0);
    (void)pthread_mutex_init(&engine->mutex, NULL);
    (void)pthread_cond_init(&engine->work, NULL);
    engine->watch = atl_loop_fd(options->loop, engine->wake, ATL_READ, on_wake, engine);
    int failed = pthread_create(&engine->watcher, NULL, watcher_main, engine);
    for (size_t i = 0; i < POOL_THREADS; i++)
        failed |= pthread_create(&engine->pool[i], NULL, pool_main, engine);
    atl_assert(failed == 0); /* as out of memory */
    return engine;
}

static void drop_jobs(struct cmp_job *job)
{
    while (job != NULL) {
        struct cmp_job *next = job->next;
        job->drop(job);
        job = next;
    }
}

void cmp_engine_close(struct cmp_engine **engine_pointer)
{
    struct cmp_engine *engine = *engine_pointer;
    if (engine == NULL)
        return;
    (void)pthread_mutex_lock(&engine->mutex);
    atomic_store(&engine->stopping, true);
    (void)pthread_cond_broadcast(&engine->work);
    (void)pthread_mutex_unlock(&engine->mutex);
    (void)pthread_join(engine->watcher, NULL);
    for (size_t i = 0; i < POOL_THREADS; i++)
        (void)pthread_join(engine->pool[i], NULL);
    atl_watch_free(engine->watch);
    (void)close(engine->wake);
    drop_jobs(engine->queue_first);
    drop_jobs(engine->done_first);
    set_free(engine->fresh);
    (void)pthread_cond_destroy(&engine->work);
    (void)pthread_mutex_destroy(&engine->mutex);
    free(engine);
    *engine_pointer = NULL;
}

enum atl_code cmp_engine_ask(struct cmp_engine *engine, struct cmp_job *job, struct atl_error *err)
{
    atl_assert(job->run != NULL);
    atl_assert(job->done != NULL);
    (void)pthread_mutex_lock(&engine->mutex);
    bool full = engine->queued >= QUEUE_MAX;
    if (!full) {
        job->next = NULL;
        if (engine->queue_last != NULL)
            engine->queue_last->next = job;
        else
            engine->queue_first = job;
        engine->queue_last = job;
        engine->queued++;
        (void)pthread_cond_signal(&engine->work);
    }
    (void)pthread_mutex_unlock(&engine->mutex);
    if (full)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "too many questions to guests at once; try again");
    return ATL_OK;
}
