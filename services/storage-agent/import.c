/* Imports: copies of images into new volumes; see volume.proto. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atoll/storage/v1/volume.pb-c.h"
#include "copy.h"
#include "run.h"

/* --- copying, in a thread --- */

static void convert(struct sto_copy *copy)
{
    const char *from = sto_format_to_text(copy->source_format);
    const char *to = sto_format_to_text(copy->slot.volume.format);
    int fds[] = {copy->source, copy->slot.fd};
    const char *const argv[] = {"qemu-img",        "convert",         "-p", "-f", from, "-O", to,
                                "/proc/self/fd/3", "/proc/self/fd/4", NULL};
    struct sto_run run = {
        .argv = argv, .fds = fds, .fd_count = 2, .cancel = &copy->cancel, .progress = &copy->progress};
    if (sto_run(&run, &copy->err) == ATL_OK &&
        copy->driver->commit(copy->storage, &copy->slot, &copy->err) == ATL_OK)
        return;
    copy->driver->drop(copy->storage, &copy->slot);
}

/* --- starting --- */

struct start {
    const Atoll__Storage__V1__ImportRequest *request;
    const struct sto_storage *source_storage; /* NULL: source is a path */
    const struct sto_driver *source_driver;
    struct sto_volume source;
    struct sto_wish wish;
    struct sto_copy *copy;
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

static enum atl_code open_source(struct start *start, struct sto_copy *copy, struct atl_error *err)
{
    struct stat st;
    enum atl_code code = ATL_OK;
    if (start->source_storage != NULL) {
        copy->source_format = start->source.format;
        code = start->source_driver->open(start->source_storage, &start->source, &copy->source, err);
    } else {
        /* A path is given by the caller for root alone, and block devices are links: it is followed. */
        copy->source = open(start->request->source, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (copy->source < 0)
            return atl_fail(err, ATL_E_ABSENT, "source", "cannot open '%s': %s", start->request->source,
                            strerror(errno));
        if (start->request->source_format == NULL)
            code = format_by_name(start->request->source, &copy->source_format, err);
    }
    if (code != ATL_OK)
        return code;
    if (start->request->source_format != NULL)
        (void)sto_format_from_text(start->request->source_format, &copy->source_format); /* validated */
    if (fstat(copy->source, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
        return atl_fail(err, ATL_E_INVALID, "source", "'%s' is no file and no block device",
                        start->request->source);
    return ATL_OK;
}

static void prepare(struct sto_job *job)
{
    struct start *start = job->extra;
    struct sto_copy *copy = start->copy;
    struct sto_plan plan;
    job->code = job->driver->activate(job->storage, &job->err);
    if (job->code == ATL_OK)
        job->code = open_source(start, copy, &job->err);
    if (job->code == ATL_OK)
        job->code = sto_copy_read_source(copy, start->request->source, &job->err);
    start->wish.size_bytes = copy->size_bytes;
    if (job->code == ATL_OK)
        job->code = sto_plan_alloc(copy->storage, &start->wish, &plan, &job->err);
    if (job->code == ATL_OK)
        job->code = copy->driver->reserve(copy->storage, &plan, &copy->slot, &job->err);
}

static void answer_start(struct sto_job *job, struct sto_copy *copy)
{
    Atoll__Storage__V1__ImportReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__ImportReply);
    atoll__storage__v1__import_reply__init(reply);
    reply->job = copy->id;
    reply->volid = atl_arena_strdup(&job->arena, sto_volume_to_text(&copy->slot.volume, &job->arena));
    reply->path =
        atl_arena_strdup(&job->arena, sto_volume_path(copy->storage, &copy->slot.volume, &job->arena));
    reply->size_bytes = copy->size_bytes;
    job->output = &reply->base;
}

static void prepared(struct sto_job *job)
{
    struct sto_copy *copy = ((struct start *)job->extra)->copy;
    if (job->code == ATL_OK)
        job->code = sto_copy_start(copy, job->sto->copy_pool, convert, &job->err);
    if (job->code != ATL_OK) {
        sto_copy_abandon(copy);
        sto_job_fail(job);
        return;
    }
    answer_start(job, copy);
    sto_job_end(job);
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
        start->copy = sto_copy_new(job->sto, wanted->storage, &job->err);
        if (start->copy != NULL)
            start->copy->importing = wanted->vmid;
        else
            job->code = job->err.code;
    }
    if (job->code != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    job->extra = start;
    job->finish = prepared;
    sto_job_go(job, prepare);
}
