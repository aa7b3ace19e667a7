/*
 * The event loop of a service: epoll for descriptors, timers, ZeroMQ sockets, one thread.
 *
 * Why not czmq's zloop: it polls in O(descriptors), and a gateway holds thousands (docs/decisions/0002).
 * Nothing in a callback may block for more than 10 ms. All functions belong to the loop's thread,
 * except atl_loop_stop(), which is safe in a signal handler.
 */
#ifndef ATL_IO_LOOP_H
#define ATL_IO_LOOP_H

#include "pure/base.h"

struct atl_loop;
struct atl_watch; /* a watched descriptor or ZeroMQ socket */
struct atl_timer;

enum { ATL_READ = 1, ATL_WRITE = 2, ATL_HANGUP = 4 };

typedef void atl_ready_fn(void *user, unsigned int events); /* ATL_READ | ATL_WRITE | ATL_HANGUP */
typedef void atl_timer_fn(void *user);

struct atl_loop *atl_loop_new(void);
void atl_loop_free(struct atl_loop *loop); /* watches and timers must be gone, or are freed without a call */

/* Runs until atl_loop_stop(). */
void atl_loop_run(struct atl_loop *loop);
void atl_loop_stop(struct atl_loop *loop);

/* Serves what is ready now, waiting for wait_ns at most (-1: until something comes). For tests and tools. */
void atl_loop_step(struct atl_loop *loop, atl_ns wait_ns);

/* Stops the loop on SIGTERM and SIGINT, and ignores SIGPIPE. Call once, before threads are made. */
void atl_loop_handle_signals(struct atl_loop *loop);

/* Monotonic time; cached per round of the loop, so cheap. */
atl_ns atl_loop_now(const struct atl_loop *loop);

/* Watches a descriptor, level-triggered. The loop never closes it. Removing inside a callback is allowed. */
struct atl_watch *atl_loop_fd(struct atl_loop *loop, int fd, unsigned int events, atl_ready_fn *fn,
                              void *user);
/* Watches a ZeroMQ socket for ATL_READ; fn is called while messages are there. Whoever does anything else
 * with the socket than receive in fn (sends, subscribes, connects) calls atl_watch_touch() afterwards. */
struct atl_watch *atl_loop_zmq(struct atl_loop *loop, void *socket, atl_ready_fn *fn, void *user);
void atl_watch_touch(struct atl_watch *watch);
void atl_watch_set(struct atl_watch *watch, unsigned int events);
void atl_watch_free(struct atl_watch *watch); /* NULL is fine */

/* Calls fn once after delay_ns, or every period_ns when that is not 0. A one-shot timer frees itself. */
struct atl_timer *atl_loop_timer(struct atl_loop *loop, atl_ns delay_ns, atl_ns period_ns, atl_timer_fn *fn,
                                 void *user);
void atl_timer_free(struct atl_timer *timer); /* NULL is fine; not after a one-shot timer has fired */

/* Monotonic and wall-clock time, for shells. */
atl_ns atl_clock_monotonic(void);
atl_ns atl_clock_boot(void);
int64_t atl_clock_wall_seconds(void);

#endif
