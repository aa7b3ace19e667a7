/*
 * A few threads for calls that block: files, mkfs, qemu-img. The loop's thread hands work over and hears when
 * it is done; nothing of the bus or of the tree's copy is touched by the threads.
 */
#ifndef STO_POOL_H
#define STO_POOL_H

#include "io/loop.h"
#include "pure/error.h"

struct sto_pool;

/* Embedded in the caller's job; belongs to the pool between sto_pool_add() and done(). */
struct sto_work {
    void (*run)(struct sto_work *work);  /* in a thread of the pool */
    void (*done)(struct sto_work *work); /* later, in the loop's thread; may free the work */
    struct sto_work *next;
    bool dropped; /* run() was never called: the pool ended */
};

/* threads: 1..16; queue_max: works that may wait. Never NULL. */
struct sto_pool *sto_pool_new(struct atl_loop *loop, unsigned int threads, unsigned int queue_max);

/* Waits for what runs, drops what waits, joins the threads; done() is called for all. */
void sto_pool_free(struct sto_pool **pool);

/* Errors: ATL_E_UNAVAILABLE the queue is full; the work still belongs to the caller then. */
ATL_MUST_CHECK enum atl_code sto_pool_add(struct sto_pool *pool, struct sto_work *work,
                                          struct atl_error *err);

#endif
