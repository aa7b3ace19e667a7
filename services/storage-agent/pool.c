/* The threads for what blocks; see pool.h. */
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { THREADS_MAX = 16 };

struct list {
    struct sto_work *first;
    struct sto_work **last;
};

struct sto_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list waiting;
    struct list finished;
    unsigned int waiting_count;
    unsigned int queue_max;
    bool stop;
    int event;
    struct atl_watch *watch;
    unsigned int threads;
    pthread_t thread[THREADS_MAX];
};

static void list_init(struct list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void list_add(struct list *list, struct sto_work *work)
{
    work->next = NULL;
    *list->last = work;
    list->last = &work->next;
}

static struct sto_work *list_take(struct list *list)
{
    struct sto_work *work = list->first;
    if (work != NULL) {
        list->first = work->next;
        if (list->first == NULL)
            list->last = &list->first;
    }
    return work;
}

static void must(int result)
{
    atl_assert(result == 0); /* a lock that fails is a bug, never an event */
}

static void *work_on(void *user)
{
    struct sto_pool *pool = user;
    must(pthread_mutex_lock(&pool->lock));
    while (!pool->stop) {
        struct sto_work *work = list_take(&pool->waiting);
        if (work == NULL) {
            must(pthread_cond_wait(&pool->wake, &pool->lock));
            continue;
        }
        pool->waiting_count--;
        must(pthread_mutex_unlock(&pool->lock));
        work->run(work);
        must(pthread_mutex_lock(&pool->lock));
        list_add(&pool->finished, work);
        uint64_t one = 1;
        ssize_t written = write(pool->event, &one, sizeof one);
        atl_assert(written == sizeof one);
    }
    must(pthread_mutex_unlock(&pool->lock));
    return NULL;
}

static void finish(void *user, unsigned int events)
{
    (void)events;
    struct sto_pool *pool = user;
    uint64_t count = 0;
    (void)!read(pool->event, &count, sizeof count); /* EAGAIN: another round took them all */
    for (;;) {
        must(pthread_mutex_lock(&pool->lock));
        struct sto_work *work = list_take(&pool->finished);
        must(pthread_mutex_unlock(&pool->lock));
        if (work == NULL)
            return;
        work->done(work);
    }
}

struct sto_pool *sto_pool_new(struct atl_loop *loop, unsigned int threads, unsigned int queue_max)
{
    atl_assert(threads >= 1);
    atl_assert(threads <= THREADS_MAX);
    struct sto_pool *pool = atl_new0(struct sto_pool);
    must(pthread_mutex_init(&pool->lock, NULL));
    must(pthread_cond_init(&pool->wake, NULL));
    list_init(&pool->waiting);
    list_init(&pool->finished);
    pool->queue_max = queue_max;
    pool->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atl_assert(pool->event >= 0);
    pool->watch = atl_loop_fd(loop, pool->event, ATL_READ, finish, pool);
    /* Signals are the loop's: the threads take none. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    must(pthread_sigmask(SIG_SETMASK, &all, &before));
    for (; pool->threads < threads; pool->threads++)
        must(pthread_create(&pool->thread[pool->threads], NULL, work_on, pool));
    must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    return pool;
}

void sto_pool_free(struct sto_pool **pool_ptr)
{
    struct sto_pool *pool = *pool_ptr;
    if (pool == NULL)
        return;
    *pool_ptr = NULL;
    must(pthread_mutex_lock(&pool->lock));
    pool->stop = true;
    must(pthread_cond_broadcast(&pool->wake));
    must(pthread_mutex_unlock(&pool->lock));
    for (unsigned int i = 0; i < pool->threads; i++)
        must(pthread_join(pool->thread[i], NULL));
    finish(pool, 0);
    for (struct sto_work *work = list_take(&pool->waiting); work != NULL; work = list_take(&pool->waiting)) {
        work->dropped = true;
        work->done(work);
    }
    atl_watch_free(pool->watch);
    (void)close(pool->event);
    must(pthread_cond_destroy(&pool->wake));
    must(pthread_mutex_destroy(&pool->lock));
    free(pool);
}

enum atl_code sto_pool_add(struct sto_pool *pool, struct sto_work *work, struct atl_error *err)
{
    atl_assert(work->run != NULL);
    atl_assert(work->done != NULL);
    must(pthread_mutex_lock(&pool->lock));
    bool full = pool->waiting_count >= pool->queue_max;
    if (!full) {
        list_add(&pool->waiting, work);
        pool->waiting_count++;
        must(pthread_cond_signal(&pool->wake));
    }
    must(pthread_mutex_unlock(&pool->lock));
    if (full)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL,
                        "the storage-agent has %u works waiting, try again later", pool->queue_max);
    return ATL_OK;
}
