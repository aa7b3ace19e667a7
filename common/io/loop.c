/* The event loop. */
#include "io/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { EVENTS_PER_ROUND = 128, MESSAGES_PER_ROUND = 256 };

struct atl_watch {
    struct atl_loop *loop;
    struct atl_watch *next; /* of all watches, or of the dead ones */
    struct atl_watch *previous;
    struct atl_watch *next_pending;
    void *socket; /* ZeroMQ socket, or NULL */
    atl_ready_fn *fn;
    void *user;
    int fd;
    unsigned int events;
    bool pending; /* ZeroMQ: in the list of those to be asked */
    bool dead;
};

struct atl_timer {
    struct atl_loop *loop;
    atl_timer_fn *fn;
    void *user;
    atl_ns due;
    atl_ns period;
    uint64_t order; /* ties go in the order of creation */
    size_t heap_index;
    bool firing;
    bool dead;
};

struct atl_loop {
    struct atl_watch *watches; /* descriptors */
    struct atl_watch *zmq_watches;
    struct atl_watch *pending; /* ZeroMQ sockets that may have messages, first come first served */
    struct atl_watch *pending_last;
    size_t pending_count;
    struct atl_watch *dead; /* freed at the end of the round */
    struct atl_timer **heap;
    size_t timers;
    size_t heap_capacity;
    uint64_t next_order;
    atl_ns now;
    int epoll_fd;
    int signal_fd;
    volatile sig_atomic_t stop;
};

static atl_ns read_clock(clockid_t clock)
{
    struct timespec time;
    (void)clock_gettime(clock, &time); /* cannot fail for these clocks */
    return time.tv_sec * ATL_SECOND + time.tv_nsec;
}

atl_ns atl_clock_monotonic(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

atl_ns atl_clock_boot(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

int64_t atl_clock_wall_seconds(void)
{
    return read_clock(CLOCK_REALTIME) / ATL_SECOND;
}

struct atl_loop *atl_loop_new(void)
{
    struct atl_loop *loop = atl_new0(struct atl_loop);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    atl_assert(loop->epoll_fd >= 0);
    loop->signal_fd = -1;
    loop->now = atl_clock_monotonic();
    return loop;
}

static void bury(struct atl_loop *loop)
{
    while (loop->dead != NULL) {
        struct atl_watch *watch = loop->dead;
        loop->dead = watch->next;
        free(watch);
    }
}

void atl_loop_free(struct atl_loop *loop)
{
    if (loop == NULL)
        return;
    while (loop->watches != NULL)
        atl_watch_free(loop->watches);
    while (loop->zmq_watches != NULL)
        atl_watch_free(loop->zmq_watches);
    bury(loop);
    for (size_t i = 0; i < loop->timers; i++)
        free(loop->heap[i]);
    free(loop->heap);
    if (loop->signal_fd >= 0)
        (void)close(loop->signal_fd);
    (void)close(loop->epoll_fd);
    free(loop);
}

atl_ns atl_loop_now(const struct atl_loop *loop)
{
    return loop->now;
}

void atl_loop_stop(struct atl_loop *loop)
{
    loop->stop = 1;
}

/* --- watches --- */

static uint32_t epoll_bits(unsigned int events)
{
    return ((events & ATL_READ) ? EPOLLIN | EPOLLRDHUP : 0) | ((events & ATL_WRITE) ? (uint32_t)EPOLLOUT : 0);
}

static struct atl_watch *watch_new(struct atl_loop *loop, struct atl_watch **list, int fd,
                                   unsigned int events, atl_ready_fn *fn, void *user)
{
    atl_assert(fd >= 0);
    atl_assert(fn != NULL);
    struct atl_watch *watch = atl_new0(struct atl_watch);
    *watch =
        (struct atl_watch){.loop = loop, .fd = fd, .events = events, .fn = fn, .user = user, .next = *list};
    if (*list != NULL)
        (*list)->previous = watch;
    *list = watch;
    struct epoll_event event = {.events = epoll_bits(events), .data.ptr = watch};
    int rc = epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    atl_assert(rc == 0);
    return watch;
}

struct atl_watch *atl_loop_fd(struct atl_loop *loop, int fd, unsigned int events, atl_ready_fn *fn,
                              void *user)
{
    return watch_new(loop, &loop->watches, fd, events, fn, user);
}

/*
 * A ZeroMQ socket's descriptor is edge-triggered and says only that the socket's inbox was empty and is not
 * any more. Everything that is done with the socket may empty the inbox, so after each send it has to be
 * asked whether it has messages; at all other times the descriptor tells. Asking costs two system calls, so
 * nobody else is asked.
 */
void atl_watch_touch(struct atl_watch *watch)
{
    if (watch->pending || watch->dead)
        return;
    struct atl_loop *loop = watch->loop;
    watch->pending = true;
    watch->next_pending = NULL;
    if (loop->pending_last != NULL)
        loop->pending_last->next_pending = watch;
    else
        loop->pending = watch;
    loop->pending_last = watch;
    loop->pending_count++;
}

static void drop_pending(struct atl_watch *watch)
{
    struct atl_loop *loop = watch->loop;
    struct atl_watch *before = NULL;
    struct atl_watch **link = &loop->pending;
    while (*link != watch) {
        before = *link;
        link = &before->next_pending;
    }
    *link = watch->next_pending;
    if (loop->pending_last == watch)
        loop->pending_last = before;
    loop->pending_count--;
    watch->pending = false;
}

struct atl_watch *atl_loop_zmq(struct atl_loop *loop, void *socket, atl_ready_fn *fn, void *user)
{
    int fd = -1;
    size_t size = sizeof fd;
    int rc = zmq_getsockopt(socket, ZMQ_FD, &fd, &size);
    atl_assert(rc == 0);
    struct atl_watch *watch = watch_new(loop, &loop->zmq_watches, fd, ATL_READ, fn, user);
    watch->socket = socket;
    atl_watch_touch(watch);
    return watch;
}

void atl_watch_set(struct atl_watch *watch, unsigned int events)
{
    atl_assert(!watch->dead);
    if (watch->events == events)
        return;
    watch->events = events;
    struct epoll_event event = {.events = epoll_bits(events), .data.ptr = watch};
    int rc = epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
    atl_assert(rc == 0);
}

void atl_watch_free(struct atl_watch *watch)
{
    if (watch == NULL)
        return;
    atl_assert(!watch->dead);
    struct atl_loop *loop = watch->loop;
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL); /* the fd may be closed already */
    if (watch->pending)
        drop_pending(watch);
    struct atl_watch **list = watch->socket != NULL ? &loop->zmq_watches : &loop->watches;
    if (watch->previous != NULL)
        watch->previous->next = watch->next;
    else
        *list = watch->next;
    if (watch->next != NULL)
        watch->next->previous = watch->previous;
    watch->dead = true;
    watch->next = loop->dead;
    loop->dead = watch;
}

/* --- timers: a binary heap by due time --- */

static bool earlier(const struct atl_timer *a, const struct atl_timer *b)
{
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void heap_put(struct atl_loop *loop, size_t at, struct atl_timer *timer)
{
    loop->heap[at] = timer;
    timer->heap_index = at;
}

static void heap_up(struct atl_loop *loop, size_t at)
{
    struct atl_timer *timer = loop->heap[at];
    while (at > 0 && earlier(timer, loop->heap[(at - 1) / 2])) {
        heap_put(loop, at, loop->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(loop, at, timer);
}

static void heap_down(struct atl_loop *loop, size_t at)
{
    struct atl_timer *timer = loop->heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= loop->timers)
            break;
        if (child + 1 < loop->timers && earlier(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!earlier(loop->heap[child], timer))
            break;
        heap_put(loop, at, loop->heap[child]);
        at = child;
    }
    heap_put(loop, at, timer);
}

static void heap_remove(struct atl_loop *loop, size_t at)
{
    struct atl_timer *last = loop->heap[--loop->timers];
    if (at == loop->timers)
        return;
    heap_put(loop, at, last);
    heap_up(loop, at);
    heap_down(loop, last->heap_index);
}

static void heap_add(struct atl_loop *loop, struct atl_timer *timer)
{
    if (loop->timers == loop->heap_capacity) {
        loop->heap_capacity = loop->heap_capacity == 0 ? 32 : loop->heap_capacity * 2;
        loop->heap = atl_realloc(loop->heap, loop->heap_capacity * sizeof(struct atl_timer *));
    }
    timer->order = loop->next_order++;
    heap_put(loop, loop->timers++, timer);
    heap_up(loop, timer->heap_index);
}

struct atl_timer *atl_loop_timer(struct atl_loop *loop, atl_ns delay_ns, atl_ns period_ns, atl_timer_fn *fn,
                                 void *user)
{
    atl_assert(delay_ns >= 0);
    atl_assert(period_ns >= 0);
    struct atl_timer *timer = atl_new0(struct atl_timer);
    *timer = (struct atl_timer){
        .loop = loop, .fn = fn, .user = user, .due = atl_clock_monotonic() + delay_ns, .period = period_ns};
    heap_add(loop, timer);
    return timer;
}

void atl_timer_free(struct atl_timer *timer)
{
    if (timer == NULL)
        return;
    if (timer->firing) {
        timer->dead = true;
        return;
    }
    heap_remove(timer->loop, timer->heap_index);
    free(timer);
}

static void fire_due(struct atl_loop *loop)
{
    atl_ns limit = loop->now; /* timers made meanwhile with no delay wait for the next round */
    while (loop->timers > 0 && loop->heap[0]->due <= limit) {
        struct atl_timer *timer = loop->heap[0];
        heap_remove(loop, 0);
        timer->firing = true;
        timer->fn(timer->user);
        timer->firing = false;
        if (timer->period == 0 || timer->dead) {
            free(timer);
            continue;
        }
        timer->due += timer->period;
        if (timer->due <= limit)
            timer->due = limit + timer->period; /* late: no burst of missed ticks */
        heap_add(loop, timer);
    }
}

/* --- a round --- */

static bool zmq_readable(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN);
}

/* Asks those that may have messages, and serves each a bounded number of times. Returns whether any was
 * served: then what its callbacks did may have made others ready. */
static bool serve_zmq(struct atl_loop *loop)
{
    bool any = false;
    /* Those that come to the list meanwhile wait for the next round. */
    for (size_t left = loop->pending_count; left > 0 && loop->pending != NULL; left--) {
        struct atl_watch *watch = loop->pending;
        int served = 0;
        while (!watch->dead && served < MESSAGES_PER_ROUND && zmq_readable(watch->socket)) {
            watch->fn(watch->user, ATL_READ);
            served++;
        }
        any = any || served > 0;
        if (watch->dead)
            continue; /* freed by its callback, which has taken it out of the list */
        drop_pending(watch);
        if (served == MESSAGES_PER_ROUND)
            atl_watch_touch(watch);
    }
    return any;
}

static int wait_ms(const struct atl_loop *loop, atl_ns wait_ns, bool busy)
{
    if (busy)
        return 0;
    if (loop->timers > 0) {
        atl_ns until = loop->heap[0]->due - atl_clock_monotonic();
        if (until < 0)
            until = 0;
        if (wait_ns < 0 || until < wait_ns)
            wait_ns = until;
    }
    if (wait_ns < 0)
        return -1;
    atl_ns rounded = (wait_ns + ATL_MS - 1) / ATL_MS;
    return rounded > 60000 ? 60000 : (int)rounded;
}

static unsigned int ready_bits(uint32_t bits)
{
    unsigned int events = 0;
    if (bits & (EPOLLIN | EPOLLRDHUP))
        events |= ATL_READ;
    if (bits & EPOLLOUT)
        events |= ATL_WRITE;
    if (bits & (EPOLLHUP | EPOLLERR))
        events |= ATL_HANGUP | ATL_READ;
    return events;
}

void atl_loop_step(struct atl_loop *loop, atl_ns wait_ns)
{
    loop->now = atl_clock_monotonic();
    bool busy = serve_zmq(loop) || loop->pending != NULL;
    struct epoll_event events[EVENTS_PER_ROUND];
    int count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_ROUND, wait_ms(loop, wait_ns, busy));
    loop->now = atl_clock_monotonic();
    for (int i = 0; i < count; i++) {
        struct atl_watch *watch = events[i].data.ptr;
        if (watch->socket != NULL)
            atl_watch_touch(watch);
        else if (!watch->dead)
            watch->fn(watch->user, ready_bits(events[i].events));
    }
    (void)serve_zmq(loop);
    fire_due(loop);
    bury(loop);
}

static void on_signal(void *user, unsigned int events)
{
    (void)events;
    struct atl_loop *loop = user;
    struct signalfd_siginfo info;
    if (read(loop->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        loop->stop = 1;
}

void atl_loop_handle_signals(struct atl_loop *loop)
{
    (void)signal(SIGPIPE, SIG_IGN); /* cannot fail for SIGPIPE */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    int rc = sigprocmask(SIG_BLOCK, &set, NULL);
    atl_assert(rc == 0);
    loop->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    atl_assert(loop->signal_fd >= 0);
    (void)atl_loop_fd(loop, loop->signal_fd, ATL_READ, on_signal, loop);
}

void atl_loop_run(struct atl_loop *loop)
{
    loop->stop = 0;
    while (!loop->stop)
        atl_loop_step(loop, -1);
}
