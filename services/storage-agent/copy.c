/* Copies of volumes as jobs that are asked about. */
#include "copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "atoll/storage/v1/volume.pb-c.h"
#include "io/log.h"

enum { RUNNING_MAX = 128, ENDED_MAX = 128 };
#define UNASKED_MAX (2 * ATL_MINUTE) /* a job nobody asks about is stopped */
#define KEPT                                                                                                 \
    (10 * ATL_MINUTE) /* an ended job can be asked about for so long, if not ENDED_MAX end after it */
#define LOOK_PERIOD (5 * ATL_SECOND)

struct sto_waiter {
    struct sto_waiter *next;
    struct sto_copy *copy;
    struct atl_request *request;
    struct atl_timer *timer;
};

struct sto_copies {
    struct sto *sto;
    struct sto_copy *first;
    struct atl_timer *timer;
};

static void destroy(struct sto_copy *copy)
{
    sto_close_fd(&copy->source);
    sto_close_fd(&copy->stop);
    atl_stream_server_close(&copy->server);
    explicit_bzero(&copy->offer, sizeof copy->offer);
    atl_arena_done(&copy->arena);
    free(copy);
}

/* Takes it out of the list, if it is there, and frees it. */
static void copy_free(struct sto_copy *copy)
{
    struct sto_copy **link = &copy->copies->first;
    while (*link != NULL && *link != copy)
        link = &(*link)->next;
    if (*link == copy)
        *link = copy->next;
    destroy(copy);
}

void sto_copy_abandon(struct sto_copy *copy)
{
    copy->driver->drop(copy->storage, &copy->slot);
    copy_free(copy);
}

static void call_off(struct sto_copy *copy)
{
    uint64_t one = 1;
    atomic_store(&copy->cancel, true);
    if (copy->stop >= 0) {
        ssize_t put = write(copy->stop, &one, sizeof one);
        atl_assert(put == (ssize_t)sizeof one || errno == EAGAIN); /* called off often enough already */
    }
}

static struct sto_copy *find(const struct sto_copies *copies, const char *id)
{
    for (struct sto_copy *copy = copies->first; copy != NULL; copy = copy->next) {
        if (strcmp(copy->id, id) == 0)
            return copy;
    }
    return NULL;
}

size_t sto_copies_moving(const struct sto_copies *copies)
{
    size_t count = 0;
    for (const struct sto_copy *copy = copies->first; copy != NULL; copy = copy->next)
        count += copy->is_moving && copy->state == STO_COPY_RUNNING;
    return count;
}

/* --- asking --- */

static void answer_wait(struct sto_copy *copy, struct atl_request *request)
{
    static const char *const states[] = {"running", "done", "failed"};
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Storage__V1__ImportWaitReply reply = ATOLL__STORAGE__V1__IMPORT_WAIT_REPLY__INIT;
    reply.state = atl_arena_strdup(arena, states[copy->state]);
    reply.has_done_percent = true;
    reply.done_percent = copy->state == STO_COPY_DONE ? 100 : atomic_load(&copy->progress) / 100.0;
    if (copy->state == STO_COPY_FAILED)
        reply.error = atl_arena_strdup(arena, copy->err.text);
    reply.has_size_bytes = copy->state == STO_COPY_DONE;
    reply.size_bytes = copy->size_bytes;
    atl_request_reply(request, &reply.base);
}

static void waiter_end(struct sto_waiter *waiter, bool timer_fired)
{
    struct sto_waiter **link = &waiter->copy->waiters;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    if (!timer_fired)
        atl_timer_free(waiter->timer);
    free(waiter);
}

static void waited(void *user)
{
    struct sto_waiter *waiter = user;
    struct atl_request *request = waiter->request;
    struct sto_copy *copy = waiter->copy;
    atl_request_on_cancel(request, NULL, NULL);
    waiter_end(waiter, true);
    answer_wait(copy, request);
}

static void wait_cancelled(struct atl_request *request, void *user)
{
    struct sto_waiter *waiter = user;
    struct sto_copy *copy = waiter->copy;
    atl_request_on_cancel(request, NULL, NULL);
    waiter_end(waiter, false);
    answer_wait(copy, request);
}

void sto_rpc_import_wait(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto *sto = user;
    const Atoll__Storage__V1__ImportWaitRequest *wait = (const void *)input;
    struct sto_copy *copy = find(sto->copies, wait->job);
    if (copy == NULL) {
        struct atl_error err = {0};
        (void)atl_fail(&err, ATL_E_ABSENT, "job",
                       "there is no such copy; one that was cut off left nothing behind");
        atl_request_fail(request, &err, NULL);
        return;
    }
    copy->asked_at = atl_loop_now(sto->loop);
    if (copy->state != STO_COPY_RUNNING || !wait->has_wait_ms || wait->wait_ms == 0) {
        answer_wait(copy, request);
        return;
    }
    struct sto_waiter *waiter = atl_new0(struct sto_waiter);
    waiter->copy = copy;
    waiter->request = request;
    waiter->next = copy->waiters;
    copy->waiters = waiter;
    waiter->timer = atl_loop_timer(sto->loop, wait->wait_ms * ATL_MS, 0, waited, waiter);
    atl_request_on_cancel(request, wait_cancelled, waiter);
}

void sto_rpc_import_cancel(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto *sto = user;
    const Atoll__Storage__V1__ImportCancelRequest *cancel = (const void *)input;
    struct sto_copy *copy = find(sto->copies, cancel->job);
    if (copy != NULL)
        call_off(copy);
    Atoll__Storage__V1__ImportCancelReply reply = ATOLL__STORAGE__V1__IMPORT_CANCEL_REPLY__INIT;
    atl_request_reply(request, &reply.base);
}

/* One that is only being prepared is called off, too, and ends as soon as it begins. */
void sto_rpc_stop_imports(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto *sto = user;
    const Atoll__Storage__V1__StopImportsRequest *stop = (const void *)input;
    Atoll__Storage__V1__StopImportsReply reply = ATOLL__STORAGE__V1__STOP_IMPORTS_REPLY__INIT;
    for (struct sto_copy *copy = sto->copies->first; copy != NULL; copy = copy->next) {
        if (copy->importing != stop->vmid || copy->state != STO_COPY_RUNNING)
            continue;
        call_off(copy);
        reply.running++;
    }
    atl_request_reply(request, &reply.base);
}

/* --- beginning and end --- */

static void run(struct sto_work *work)
{
    struct sto_copy *copy = (struct sto_copy *)work;
    copy->act(copy);
}

static void work_ended(struct sto_work *work)
{
    struct sto_copy *copy = (struct sto_copy *)work;
    struct sto *sto = copy->copies->sto;
    if (work->dropped)
        (void)atl_fail(&copy->err, ATL_E_CANCELLED, NULL, "the storage-agent was stopped");
    bool good = copy->err.code == ATL_OK;
    copy->state = good ? STO_COPY_DONE : STO_COPY_FAILED;
    copy->ended_at = atl_loop_now(sto->loop);
    sto_close_fd(&copy->source);
    atl_stream_server_close(&copy->server);
    if (!good)
        atl_log(ATL_WARNING, "copy-failed", "copy of '%s:%s' failed: %s", copy->slot.volume.storage,
                copy->slot.volume.name, copy->err.text);
    struct sto_waiter *waiter = copy->waiters;
    copy->waiters = NULL;
    while (waiter != NULL) {
        struct sto_waiter *next = waiter->next;
        struct atl_request *request = waiter->request;
        atl_request_on_cancel(request, NULL, NULL);
        atl_timer_free(waiter->timer);
        free(waiter);
        answer_wait(copy, request);
        waiter = next;
    }
}

/* For one more: the one that ended first makes way. False: too many run. */
static bool make_room(struct sto_copies *copies)
{
    size_t running = 0;
    size_t ended = 0;
    struct sto_copy *oldest = NULL;
    for (struct sto_copy *copy = copies->first; copy != NULL; copy = copy->next) {
        if (copy->state == STO_COPY_RUNNING) {
            running++;
            continue;
        }
        ended++;
        if (oldest == NULL || copy->ended_at < oldest->ended_at)
            oldest = copy;
    }
    if (ended >= ENDED_MAX)
        copy_free(oldest);
    return running < RUNNING_MAX;
}

struct sto_copy *sto_copy_new(struct sto *sto, const char *storage, struct atl_error *err)
{
    struct sto_copies *copies = sto->copies;
    struct sto_copy *copy = atl_new0(struct sto_copy);
    uint8_t random[16];
    copy->copies = copies;
    copy->source = -1;
    copy->slot.fd = -1;
    copy->stop = -1;
    if (!make_room(copies)) {
        (void)atl_fail(err, ATL_E_LIMIT, NULL, "%d copies are under way already, try again later",
                       RUNNING_MAX);
        copy_free(copy);
        return NULL;
    }
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random ||
        sto_read_config(sto, &copy->arena, &copy->config, err) != ATL_OK) {
        copy_free(copy);
        return NULL;
    }
    for (size_t i = 0; i < sizeof random; i++)
        (void)snprintf(copy->id + 2 * i, 3, "%02x", random[i]);
    copy->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    copy->storage = sto_config_find(&copy->config, storage);
    copy->driver = sto_driver_find(copy->storage->type_name);
    copy->next = copies->first;
    copies->first = copy;
    return copy;
}

enum atl_code sto_copy_start(struct sto_copy *copy, struct sto_pool *pool, void (*act)(struct sto_copy *copy),
                             struct atl_error *err)
{
    copy->asked_at = atl_loop_now(copy->copies->sto->loop);
    copy->act = act;
    copy->work.run = run;
    copy->work.done = work_ended;
    return sto_pool_add(pool, &copy->work, err);
}

enum atl_code sto_copy_read_source(struct sto_copy *copy, const char *name, struct atl_error *err)
{
    struct sto_image image = {0};
    if (copy->source_format == STO_ISO_IMAGE)
        copy->source_format = STO_RAW;
    enum atl_code code = sto_read_image(copy->source, copy->source_format, &image, err);
    if (code != ATL_OK)
        return atl_fail(err, code, "source", "'%s': %s", name, err->text);
    if (image.foreign)
        return atl_fail(err, ATL_E_INVALID, "source",
                        "'%s' rests on another file (backing, data or parent file), "
                        "which is not followed; flatten it first",
                        name);
    if (image.size_bytes == 0) {
        off_t end = lseek(copy->source, 0, SEEK_END);
        image.size_bytes = end > 0 ? sto_size_round((uint64_t)end) : 0;
    }
    if (image.size_bytes == 0)
        return atl_fail(err, ATL_E_INVALID, "source", "'%s' is empty", name);
    copy->size_bytes = image.size_bytes;
    return ATL_OK;
}

/* --- the whole --- */

static void look_around(void *user)
{
    struct sto_copies *copies = user;
    atl_ns now = atl_loop_now(copies->sto->loop);
    for (struct sto_copy *copy = copies->first, *next = NULL; copy != NULL; copy = next) {
        next = copy->next;
        bool running = copy->state == STO_COPY_RUNNING;
        if (running && !copy->unasked && copy->waiters == NULL && now - copy->asked_at > UNASKED_MAX)
            call_off(copy);
        if (!running && now - copy->ended_at > KEPT)
            copy_free(copy);
    }
}

struct sto_copies *sto_copies_new(struct sto *sto)
{
    struct sto_copies *copies = atl_new0(struct sto_copies);
    copies->sto = sto;
    copies->timer = atl_loop_timer(sto->loop, LOOK_PERIOD, LOOK_PERIOD, look_around, copies);
    return copies;
}

void sto_copies_stop(struct sto_copies *copies)
{
    for (struct sto_copy *copy = copies != NULL ? copies->first : NULL; copy != NULL; copy = copy->next)
        call_off(copy);
}

void sto_copies_free(struct sto_copies **copies)
{
    if (*copies == NULL)
        return;
    atl_timer_free((*copies)->timer);
    for (struct sto_copy *copy = (*copies)->first, *next = NULL; copy != NULL; copy = next) {
        next = copy->next;
        for (struct sto_waiter *waiter = copy->waiters, *after = NULL; waiter != NULL; waiter = after) {
            after = waiter->next;
            atl_request_on_cancel(waiter->request, NULL, NULL);
            atl_timer_free(waiter->timer);
            free(waiter);
        }
        if (copy->driver != NULL)
            copy->driver->drop(copy->storage, &copy->slot); /* of one that was never begun */
        destroy(copy);
    }
    free(*copies);
    *copies = NULL;
}
