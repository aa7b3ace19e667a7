/* Imports: copies of images into new volumes, each as a job that is asked about; see volume.proto. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atoll/storage/v1/volume.pb-c.h"
#include "io/log.h"
#include "run.h"
#include "sto.h"

enum { IMPORTS_MAX = 128, JOB_ID_SIZE = 33 };
#define UNASKED_MAX (2 * ATL_MINUTE)  /* a job nobody asks about is stopped */
#define KEPT        (10 * ATL_MINUTE) /* an ended job can be asked about for so long */
#define LOOK_PERIOD (5 * ATL_SECOND)

enum import_state { IMPORT_RUNNING, IMPORT_DONE, IMPORT_FAILED };

struct waiter {
    struct waiter *next;
    struct import *import;
    struct atl_request *request;
    struct atl_timer *timer;
};

struct import {
    struct sto_work work; /* first */
    struct import *next;
    struct sto_imports *imports;
    char id[JOB_ID_SIZE];
    struct sto_config config; /* in arena; storage points into it */
    struct atl_arena arena;
    const struct sto_storage *storage;
    const struct sto_driver *driver;
    struct sto_slot slot;
    int source;
    enum sto_format source_format;
    uint64_t size_bytes;
    atomic_uint progress; /* 0..10000 */
    atomic_bool cancel;
    enum import_state state;
    struct atl_error err;
    atl_ns asked_at;
    atl_ns ended_at;
    struct waiter *waiters;
};

struct sto_imports {
    struct sto *sto;
    struct import *first;
    size_t count;
    struct atl_timer *timer;
};

static void import_destroy(struct import *import)
{
    sto_close_fd(&import->source);
    atl_arena_done(&import->arena);
    free(import);
}

/* Takes it out of the list, if it is there, and frees it. */
static void import_free(struct import *import)
{
    struct import **link = &import->imports->first;
    while (*link != NULL && *link != import)
        link = &(*link)->next;
    if (*link == import) {
        *link = import->next;
        import->imports->count--;
    }
    import_destroy(import);
}

static struct import *find(const struct sto_imports *imports, const char *id)
{
    for (struct import *import = imports->first; import != NULL; import = import->next) {
        if (strcmp(import->id, id) == 0)
            return import;
    }
    return NULL;
}

/* --- asking --- */

static void answer_wait(struct import *import, struct atl_request *request)
{
    static const char *const states[] = {"running", "done", "failed"};
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Storage__V1__ImportWaitReply reply = ATOLL__STORAGE__V1__IMPORT_WAIT_REPLY__INIT;
    reply.state = atl_arena_strdup(arena, states[import->state]);
    reply.has_done_percent = true;
    reply.done_percent = import->state == IMPORT_DONE ? 100 : atomic_load(&import->progress) / 100.0;
    if (import->state == IMPORT_FAILED)
        reply.error = atl_arena_strdup(arena, import->err.text);
    reply.has_size_bytes = import->state == IMPORT_DONE;
    reply.size_bytes = import->size_bytes;
    atl_request_reply(request, &reply.base);
}

static void waiter_end(struct waiter *waiter, bool timer_fired)
{
    struct waiter **link = &waiter->import->waiters;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    if (!timer_fired)
        atl_timer_free(waiter->timer);
    free(waiter);
}

static void waited(void *user)
{
    struct waiter *waiter = user;
    struct atl_request *request = waiter->request;
    struct import *import = waiter->import;
    atl_request_on_cancel(request, NULL, NULL);
    waiter_end(waiter, true);
    answer_wait(import, request);
}

static void wait_cancelled(struct atl_request *request, void *user)
{
    struct waiter *waiter = user;
    struct import *import = waiter->import;
    atl_request_on_cancel(request, NULL, NULL);
    waiter_end(waiter, false);
    answer_wait(import, request);
}

void sto_rpc_import_wait(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto *sto = user;
    const Atoll__Storage__V1__ImportWaitRequest *wait = (const void *)input;
    struct import *import = find(sto->imports, wait->job);
    if (import == NULL) {
        struct atl_error err = {0};
        (void)atl_fail(&err, ATL_E_ABSENT, "job",
                       "there is no such copy; one that was cut off left nothing behind");
        atl_request_fail(request, &err, NULL);
        return;
    }
    import->asked_at = atl_loop_now(sto->loop);
    if (import->state != IMPORT_RUNNING || !wait->has_wait_ms || wait->wait_ms == 0) {
        answer_wait(import, request);
        return;
    }
    struct waiter *waiter = atl_new0(struct waiter);
    waiter->import = import;
    waiter->request = request;
    waiter->next = import->waiters;
    import->waiters = waiter;
    waiter->timer = atl_loop_timer(sto->loop, wait->wait_ms * ATL_MS, 0, waited, waiter);
    atl_request_on_cancel(request, wait_cancelled, waiter);
}

void sto_rpc_import_cancel(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto *sto = user;
    const Atoll__Storage__V1__ImportCancelRequest *cancel = (const void *)input;
    struct import *import = find(sto->imports, cancel->job);
    if (import != NULL)
        atomic_store(&import->cancel, true);
    Atoll__Storage__V1__ImportCancelReply reply = ATOLL__STORAGE__V1__IMPORT_CANCEL_REPLY__INIT;
    atl_request_reply(request, &reply.base);
}

/* --- copying, in a thread --- */

static void copy(struct sto_work *work)
{
    struct import *import = (struct import *)work;
    const char *from = sto_format_to_text(import->source_format);
    const char *to = sto_format_to_text(import->slot.volume.format);
    int fds[] = {import->source, import->slot.fd};
    const char *const argv[] = {"qemu-img",        "convert",         "-p", "-f", from, "-O", to,
                                "/proc/self/fd/3", "/proc/self/fd/4", NULL};
    struct sto_run run = {
        .argv = argv, .fds = fds, .fd_count = 2, .cancel = &import->cancel, .progress = &import->progress};
    if (sto_run(&run, &import->err) == ATL_OK &&
        import->driver->commit(import->storage, &import->slot, &import->err) == ATL_OK)
        return;
    import->driver->drop(import->storage, &import->slot);
}

static void copied(struct sto_work *work)
{
    struct import *import = (struct import *)work;
    struct sto *sto = import->imports->sto;
    if (work->dropped)
        (void)atl_fail(&import->err, ATL_E_CANCELLED, NULL, "the storage-agent was stopped");
    bool good = import->err.code == ATL_OK;
    import->state = good ? IMPORT_DONE : IMPORT_FAILED;
    import->ended_at = atl_loop_now(sto->loop);
    sto_close_fd(&import->source);
    if (!good)
        atl_log(ATL_WARNING, "import-failed", "copy into '%s:%s' failed: %s", import->slot.volume.storage,
                import->slot.volume.name, import->err.text);
    struct waiter *waiter = import->waiters;
    import->waiters = NULL;
    while (waiter != NULL) {
        struct waiter *next = waiter->next;
        struct atl_request *request = waiter->request;
        atl_request_on_cancel(request, NULL, NULL);
        atl_timer_free(waiter->timer);
        free(waiter);
        answer_wait(import, request);
        waiter = next;
    }
}

/* --- starting --- */

struct start {
    const Atoll__Storage__V1__ImportRequest *request;
    const struct sto_storage *source_storage; /* NULL: source is a path */
    const struct sto_driver *source_driver;
    struct sto_volume source;
    struct sto_wish wish;
    struct import *import;
};

static enum atl_code format_by_name(const char *path, enum sto_format *ret_format, struct atl_error *err)
{
    struct sto_volume volume;
    const char *slash = strrchr(path, '/');
    const char *file = slash != NULL ? slash + 1 : path;
    if (sto_volume_of_file(STO_IMPORT, 0, file, &volume) && volume.format <= STO_VMDK) {
        *ret_format = volume.format;
        return ATL_OK;
    }
    return atl_fail(err, ATL_E_INVALID, "source_format",
                    "the format of '%s' is not clear from its name, give it", path);
}

static enum atl_code open_source(struct start *start, struct import *import, struct atl_error *err)
{
    struct stat st;
    enum atl_code code = ATL_OK;
    if (start->source_storage != NULL) {
        import->source_format = start->source.format;
        code = start->source_driver->open(start->source_storage, &start->source, &import->source, err);
    } else {
        /* A path is given by the caller for root alone, and block devices are links: it is followed. */
        import->source = open(start->request->source, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (import->source < 0)
            return atl_fail(err, ATL_E_ABSENT, "source", "cannot open '%s': %s", start->request->source,
                            strerror(errno));
        if (start->request->source_format == NULL)
            code = format_by_name(start->request->source, &import->source_format, err);
    }
    if (code != ATL_OK)
        return code;
    if (start->request->source_format != NULL)
        (void)sto_format_from_text(start->request->source_format, &import->source_format); /* validated */
    if (fstat(import->source, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
        return atl_fail(err, ATL_E_INVALID, "source", "'%s' is no file and no block device",
                        start->request->source);
    return ATL_OK;
}

static enum atl_code read_source(struct import *import, const char *source, struct atl_error *err)
{
    struct sto_image image = {0};
    if (import->source_format == STO_ISO_IMAGE)
        import->source_format = STO_RAW;
    enum atl_code code = sto_read_image(import->source, import->source_format, &image, err);
    if (code != ATL_OK)
        return atl_fail(err, code, "source", "'%s': %s", source, err->text);
    if (image.foreign)
        return atl_fail(err, ATL_E_INVALID, "source",
                        "'%s' rests on another file (backing, data or parent file), "
                        "which is not followed; flatten it first",
                        source);
    if (image.size_bytes == 0) {
        off_t end = lseek(import->source, 0, SEEK_END);
        image.size_bytes = end > 0 ? sto_size_round((uint64_t)end) : 0;
    }
    if (image.size_bytes == 0)
        return atl_fail(err, ATL_E_INVALID, "source", "'%s' is empty", source);
    import->size_bytes = image.size_bytes;
    return ATL_OK;
}

static void prepare(struct sto_job *job)
{
    struct start *start = job->extra;
    struct import *import = start->import;
    struct sto_plan plan;
    job->code = job->driver->activate(job->storage, &job->err);
    if (job->code == ATL_OK)
        job->code = open_source(start, import, &job->err);
    if (job->code == ATL_OK)
        job->code = read_source(import, start->request->source, &job->err);
    start->wish.size_bytes = import->size_bytes;
    if (job->code == ATL_OK)
        job->code = sto_plan_alloc(import->storage, &start->wish, &plan, &job->err);
    if (job->code == ATL_OK)
        job->code = import->driver->reserve(import->storage, &plan, &import->slot, &job->err);
}

static void answer_start(struct sto_job *job, struct import *import)
{
    Atoll__Storage__V1__ImportReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__ImportReply);
    atoll__storage__v1__import_reply__init(reply);
    reply->job = import->id;
    reply->volid = atl_arena_strdup(&job->arena, sto_volume_to_text(&import->slot.volume, &job->arena));
    reply->path =
        atl_arena_strdup(&job->arena, sto_volume_path(import->storage, &import->slot.volume, &job->arena));
    reply->size_bytes = import->size_bytes;
    job->output = &reply->base;
}

static void prepared(struct sto_job *job)
{
    struct import *import = ((struct start *)job->extra)->import;
    struct sto *sto = job->sto;
    import->asked_at = atl_loop_now(sto->loop);
    import->work.run = copy;
    import->work.done = copied;
    if (job->code == ATL_OK)
        job->code = sto_pool_add(sto->copy_pool, &import->work, &job->err);
    if (job->code != ATL_OK) {
        import->driver->drop(import->storage, &import->slot);
        import_free(import);
        sto_job_fail(job);
        return;
    }
    answer_start(job, import);
    sto_job_end(job);
}

static struct import *import_new(struct sto *sto, const char *storage, struct atl_error *err)
{
    struct sto_imports *imports = sto->imports;
    struct import *import = atl_new0(struct import);
    uint8_t random[16];
    import->imports = imports;
    import->source = -1;
    import->slot.fd = -1;
    if (imports->count >= IMPORTS_MAX) {
        (void)atl_fail(err, ATL_E_LIMIT, NULL, "there are %d copies already, try again later", IMPORTS_MAX);
        import_free(import);
        return NULL;
    }
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random ||
        sto_read_config(sto, &import->arena, &import->config, err) != ATL_OK) {
        import_free(import);
        return NULL;
    }
    for (size_t i = 0; i < sizeof random; i++)
        (void)snprintf(import->id + 2 * i, 3, "%02x", random[i]);
    import->storage = sto_config_find(&import->config, storage);
    import->driver = sto_driver_find(import->storage->type_name);
    import->next = imports->first;
    imports->first = import;
    imports->count++;
    return import;
}

void sto_rpc_import(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__ImportRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    struct start *start = atl_arena_new(&job->arena, struct start);
    start->request = wanted;
    start->wish = (struct sto_wish){.vmid = wanted->vmid, .format = wanted->format, .name = wanted->name};
    if (wanted->source[0] != '/' && sto_job_volume(job, NULL, wanted->source, "source") == ATL_OK) {
        start->source = job->volume;
        start->source_storage = job->storage;
        start->source_driver = job->driver;
        if (start->source.content != STO_IMPORT && start->source.content != STO_IMAGES &&
            start->source.content != STO_ISO)
            job->code = atl_fail(&job->err, ATL_E_INVALID, "source", "'%s' is no disk image", wanted->source);
    }
    if (job->code == ATL_OK)
        job->code = sto_job_storage(job, wanted->storage, STO_IMAGES);
    if (job->code == ATL_OK) {
        start->import = import_new(job->sto, wanted->storage, &job->err);
        job->code = start->import != NULL ? ATL_OK : job->err.code;
    }
    if (job->code != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    job->extra = start;
    job->finish = prepared;
    sto_job_go(job, prepare);
}

/* --- the whole --- */

static void look_around(void *user)
{
    struct sto_imports *imports = user;
    atl_ns now = atl_loop_now(imports->sto->loop);
    for (struct import *import = imports->first, *next = NULL; import != NULL; import = next) {
        next = import->next;
        bool running = import->state == IMPORT_RUNNING;
        if (running && import->waiters == NULL && now - import->asked_at > UNASKED_MAX)
            atomic_store(&import->cancel, true);
        if (!running && now - import->ended_at > KEPT)
            import_free(import);
    }
}

struct sto_imports *sto_imports_new(struct sto *sto)
{
    struct sto_imports *imports = atl_new0(struct sto_imports);
    imports->sto = sto;
    imports->timer = atl_loop_timer(sto->loop, LOOK_PERIOD, LOOK_PERIOD, look_around, imports);
    return imports;
}

void sto_imports_stop(struct sto_imports *imports)
{
    for (struct import *import = imports != NULL ? imports->first : NULL; import != NULL;
         import = import->next)
        atomic_store(&import->cancel, true);
}

void sto_imports_free(struct sto_imports **imports)
{
    if (*imports == NULL)
        return;
    atl_timer_free((*imports)->timer);
    for (struct import *import = (*imports)->first, *next = NULL; import != NULL; import = next) {
        next = import->next;
        for (struct waiter *waiter = import->waiters, *after = NULL; waiter != NULL; waiter = after) {
            after = waiter->next;
            atl_request_on_cancel(waiter->request, NULL, NULL);
            atl_timer_free(waiter->timer);
            free(waiter);
        }
        if (import->driver != NULL)
            import->driver->drop(import->storage, &import->slot); /* of one that was never begun */
        import_destroy(import);
    }
    free(*imports);
    *imports = NULL;
}
