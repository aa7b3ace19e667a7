/* /storage: the list of storages, and changes to storage.cfg as transactions. */
#include <stdlib.h>
#include <string.h>

#include "atoll/storage/v1/storage.pb-c.h"
#include "atoll/task/v1/common.pb-c.h"
#include "pure/codec.h"
#include "sto.h"

enum { WRITE_TRIES = 20 };
#define WRITE_AGAIN (50 * ATL_MS)
#define FILE_PATH   "storage.cfg"

/* A change on its way: made again from the newest file when somebody else was faster. */
struct write {
    struct sto_job *job;
    enum atl_code (*change)(struct sto_job *job, const struct sto_change *change);
    struct sto_writes *writes;
    struct write *next;
    struct atl_timer *timer;
    struct atl_revision revision; /* done there; the mirror is not */
    int tries;
    bool waits; /* for the mirror */
};

struct sto_writes {
    struct sto *sto;
    struct write *first;
};

struct sto_writes *sto_writes_new(struct sto *sto)
{
    struct sto_writes *writes = atl_new0(struct sto_writes);
    writes->sto = sto;
    return writes;
}

static void write_free(struct write *write)
{
    struct write **link = &write->writes->first;
    while (*link != write)
        link = &(*link)->next;
    *link = write->next;
    atl_timer_free(write->timer);
    free(write);
}

void sto_writes_free(struct sto_writes **writes)
{
    if (*writes == NULL)
        return;
    while ((*writes)->first != NULL) {
        struct sto_job *job = (*writes)->first->job;
        write_free((*writes)->first);
        sto_job_free(job); /* its request ends with the bus */
    }
    free(*writes);
    *writes = NULL;
}

static bool reached(struct atl_revision have, struct atl_revision wanted)
{
    return have.epoch > wanted.epoch || (have.epoch == wanted.epoch && have.number >= wanted.number);
}

void sto_writes_moved(struct sto_writes *writes)
{
    struct atl_revision have = atl_mirror_revision(writes->sto->mirror);
    for (struct write *write = writes->first, *next = NULL; write != NULL; write = next) {
        next = write->next;
        if (!write->waits || !reached(have, write->revision))
            continue;
        struct sto_job *job = write->job;
        write_free(write);
        sto_job_end(job);
    }
}

static void write_try(void *user);

static void written(const struct atl_txn_result *result, void *user)
{
    struct write *write = user;
    struct sto_job *job = write->job;
    struct sto *sto = write->writes->sto;
    if (result->code == ATL_E_CONFLICT && write->tries < WRITE_TRIES &&
        atl_request_remaining(job->request) > 2 * WRITE_AGAIN) {
        write->timer = atl_loop_timer(sto->loop, WRITE_AGAIN, 0, write_try, write);
        return;
    }
    job->code = result->code;
    job->err = result->error;
    write->waits = true;
    write->revision = result->code == ATL_OK ? result->revision : (struct atl_revision){0};
    sto_pusher_wake(sto->pusher);
    /* The caller's next request must find what this one wrote: answered when our own copy has it. */
    sto_writes_moved(write->writes);
}

static void write_try(void *user)
{
    struct write *write = user;
    struct sto_job *job = write->job;
    struct sto *sto = write->writes->sto;
    struct atl_buf text = {0};
    struct sto_change change = {.ret_text = &text, .errors = &job->errors, .err = &job->err};
    write->timer = NULL;
    write->tries++;
    job->code = sto_read_config(sto, &job->arena, &job->config, &job->err);
    if (job->code == ATL_OK)
        job->code = write->change(job, &change);
    if (job->code != ATL_OK) {
        atl_buf_done(&text);
        write_free(write);
        sto_job_fail(job);
        return;
    }
    const struct atl_file *file = atl_mirror_get(sto->mirror, FILE_PATH);
    struct atl_txn txn;
    atl_txn_init(&txn);
    if (file != NULL)
        atl_txn_compare(&txn, FILE_PATH, file->revision);
    else
        atl_txn_absent(&txn, FILE_PATH);
    atl_txn_put(&txn, FILE_PATH, text.length > 0 ? text.data : "", text.length);
    atl_txn_send(sto->bus, &txn, atl_request_remaining(job->request), written, write);
    atl_txn_done(&txn);
    atl_buf_done(&text);
}

static void write_begin(struct sto_job *job,
                        enum atl_code (*change)(struct sto_job *job, const struct sto_change *change))
{
    struct sto_writes *writes = job->sto->writes;
    struct write *write = atl_new0(struct write);
    write->job = job;
    write->change = change;
    write->writes = writes;
    write->next = writes->first;
    writes->first = write;
    write_try(write);
}

/* --- create --- */

static enum atl_code add(struct sto_job *job, const struct sto_change *change)
{
    return sto_config_add(&job->config, (const void *)job->input, &job->arena, change);
}

static void created(struct sto_job *job)
{
    if (job->code != ATL_OK)
        sto_job_fail(job);
    else
        write_begin(job, add);
}

/* The folders are made before the storage is known: what fails here has changed nothing in the tree. */
static void activate_new(struct sto_job *job)
{
    job->code = job->driver->activate(job->storage, &job->err);
}

void sto_rpc_create(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    const Atoll__Storage__V1__CreateRequest *create = (const void *)input;
    struct atl_buf text = {0};
    struct sto_change change = {.ret_text = &text, .errors = &job->errors, .err = &job->err};
    job->code = add(job, &change);
    if (job->code == ATL_OK) /* the file as it would be: the storage with its defaults */
        job->code = sto_config_read(atl_arena_strndup(&job->arena, text.data, text.length), text.length,
                                    &job->arena, &job->config, &job->err);
    atl_buf_done(&text);
    if (job->code != ATL_OK) {
        sto_job_fail(job);
        return;
    }
    Atoll__Storage__V1__CreateReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__CreateReply);
    atoll__storage__v1__create_reply__init(reply);
    reply->storage = create->storage;
    reply->type = create->type;
    job->output = &reply->base;
    job->finish = created;
    if (sto_job_storage(job, create->storage, STO_CONTENTS) == ATL_OK) {
        sto_job_go(job, activate_new);
        return;
    }
    job->code = ATL_OK; /* disabled, or for other nodes: nothing to make here */
    job->err = (struct atl_error){0};
    write_begin(job, add);
}

/* --- update and delete --- */

static enum atl_code change_settings(struct sto_job *job, const struct sto_change *change)
{
    return sto_config_change(&job->config, (const void *)job->input, &job->arena, change);
}

void sto_rpc_update(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    const Atoll__Storage__V1__UpdateRequest *update = (const void *)input;
    const struct sto_storage *storage = sto_config_find(&job->config, update->storage);
    Atoll__Storage__V1__UpdateReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__UpdateReply);
    atoll__storage__v1__update_reply__init(reply);
    reply->storage = update->storage;
    reply->type = atl_arena_strdup(&job->arena, storage != NULL ? storage->type_name : "");
    job->output = &reply->base;
    write_begin(job, change_settings);
}

static enum atl_code remove_storage(struct sto_job *job, const struct sto_change *change)
{
    const Atoll__Storage__V1__DeleteRequest *request = (const void *)job->input;
    return sto_config_remove(&job->config, request->storage, change);
}

void sto_rpc_delete(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    Atoll__Task__V1__Nothing *nothing = atl_arena_new(&job->arena, Atoll__Task__V1__Nothing);
    atoll__task__v1__nothing__init(nothing);
    job->output = &nothing->base;
    write_begin(job, remove_storage);
}

/* --- get and list --- */

void sto_rpc_get(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    const Atoll__Storage__V1__GetRequest *get = (const void *)input;
    job->code = sto_config_need(&job->config, get->storage, &job->storage, &job->err);
    if (job->code == ATL_OK)
        job->output = &sto_storage_entry(job->storage, job->config.digest, &job->arena)->base;
    sto_job_end(job);
}

void sto_rpc_list(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    static const char *const any[] = {"Datastore.Audit", "Datastore.AllocateSpace", NULL};
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    const Atoll__Storage__V1__ListRequest *list = (const void *)input;
    Atoll__Storage__V1__ListReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__ListReply);
    atoll__storage__v1__list_reply__init(reply);
    reply->entry = atl_arena_array(&job->arena, Atoll__Storage__V1__Entry *, job->config.count + 1);
    for (size_t i = 0; i < job->config.count; i++) {
        const struct sto_storage *storage = &job->config.storages[i];
        const char *path = atl_arena_format(&job->arena, "/storage/%s", storage->id);
        if (list->type != NULL && strcmp(list->type, storage->type_name) != 0)
            continue;
        if (atl_keeper_need(job->sto->keeper, atl_request_principal(request), path, any, NULL) == ATL_OK)
            reply->entry[reply->n_entry++] = sto_storage_entry(storage, job->config.digest, &job->arena);
    }
    job->output = &reply->base;
    sto_job_end(job);
}
