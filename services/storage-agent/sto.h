/*
 * The shell of storage-agent: what its files share.
 *
 * A request becomes a job: the loop's thread checks what needs the tree, a thread of the pool does what
 * blocks (struct sto_job.act), and the loop's thread answers.
 */
#ifndef STO_H
#define STO_H

#include "drivers/driver.h"
#include "io/cluster.h"
#include "io/guard.h"
#include "io/mirror.h"
#include "io/service.h"
#include "io/task.h"
#include "pool.h"

struct sto_uploads;
struct sto_copies;
struct sto_pusher;
struct sto_writes;

struct sto {
    struct atl_program *program;
    const char *node;
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_mirror *mirror; /* storage.cfg, nodes/, user.cfg, .state/key/ */
    struct atl_keeper *keeper;
    struct atl_cluster *cluster;
    struct atl_tasks *tasks;
    struct sto_pool *pool;      /* for requests */
    struct sto_pool *copy_pool; /* for imports, which take long */
    struct sto_pool *move_pool; /* for volumes to and from other nodes */
    struct sto_uploads *uploads;
    struct sto_copies *copies;
    struct sto_pusher *pusher;
    struct sto_writes *writes;
    bool swept; /* what a killed agent left was looked for */
};

struct sto_job {
    struct sto_work work; /* first */
    struct sto *sto;
    struct atl_arena arena;
    struct atl_request *request;   /* NULL: nobody waits */
    const ProtobufCMessage *input; /* lives with the request */
    struct sto_config config;      /* as it was when the job was made */
    const struct sto_storage *storage;
    const struct sto_driver *driver; /* of storage */
    struct sto_volume volume;
    void (*act)(struct sto_job *job); /* in a thread: fills output, or code and err */
    void (*finish)(
        struct sto_job *job); /* in the loop, before the answer; NULL: nothing; may take the request */
    void *extra;              /* lives in the arena */
    enum atl_code code;
    struct atl_error err;
    struct atl_errors errors;
    ProtobufCMessage *output; /* lives in the arena */
};

/* A job with the configuration read into its arena. A configuration that cannot be read is answered as an
 * error, and NULL is returned; so is a `node` (may be NULL) that is not ours. */
struct sto_job *sto_job_new(struct sto *sto, struct atl_request *request, const ProtobufCMessage *input,
                            const char *node);
/* Answers with the error and frees the job. */
void sto_job_fail(struct sto_job *job);
/* Answers with the output, or the error if code says so, and frees the job. */
void sto_job_end(struct sto_job *job);
/* Hands the job to the pool; full: job->finish, or the answer, says so. */
void sto_job_go(struct sto_job *job, void (*act)(struct sto_job *job));
void sto_job_free(struct sto_job *job);

/* Finds a storage that is usable here for that content (STO_CONTENTS: any). Errors: as sto_storage_usable().
 */
ATL_MUST_CHECK enum atl_code sto_job_storage(struct sto_job *job, const char *id, enum sto_content content);

/* Parses a volume given as STORAGE:NAME, or as NAME when `storage` is given, and finds its storage. */
ATL_MUST_CHECK enum atl_code sto_job_volume(struct sto_job *job, const char *storage, const char *volume,
                                            const char *field);

/* The configuration as it is now. Errors: ATL_E_UNAVAILABLE no copy of the tree yet. */
ATL_MUST_CHECK enum atl_code sto_read_config(const struct sto *sto, struct atl_arena *arena,
                                             struct sto_config *ret_config, struct atl_error *err);

/* The guest that mentions a volume in its configuration. False: none does. */
struct sto_user {
    uint32_t vmid;
    char path[256]; /* of the configuration file */
};
bool sto_find_user(const struct sto *sto, const char *volid, struct sto_user *ret_user);

/* Sorted ids of all containers, for threads; and whether one is among them. */
const uint32_t *sto_container_ids(const struct sto *sto, struct atl_arena *arena, size_t *ret_count);
bool sto_id_in(const uint32_t *ids, size_t count, uint32_t vmid);

/* Where other nodes reach this one: its address in the directory; a machine that is alone has itself only. */
const char *sto_address(const struct sto *sto);

/* Methods: rpc_node.c serves the service Storage, rpc_volume.c the service Volumes. */
void sto_serve_storage(struct sto *sto);
void sto_serve_volumes(struct sto *sto);

void sto_rpc_list(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_create(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_get(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_update(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_delete(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_upload(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_upload_open(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_import(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_import_wait(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_receive(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_send(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_import_cancel(struct atl_request *request, const ProtobufCMessage *input, void *user);
void sto_rpc_stop_imports(struct atl_request *request, const ProtobufCMessage *input, void *user);

/* Waiting writers of storage.cfg (rpc_config.c). */
struct sto_writes *sto_writes_new(struct sto *sto);
void sto_writes_free(struct sto_writes **writes);
void sto_writes_moved(struct sto_writes *writes); /* the mirror has moved */

/* Uploads (upload.c). Errors: ATL_E_IO the socket cannot be made. */
ATL_MUST_CHECK enum atl_code sto_uploads_new(struct sto *sto, struct sto_uploads **ret_uploads,
                                             struct atl_error *err);
void sto_uploads_free(struct sto_uploads **uploads);

/* Copies (copy.c). */
struct sto_copies *sto_copies_new(struct sto *sto);
void sto_copies_stop(struct sto_copies *copies); /* tells what runs to end; before the pool is freed */
void sto_copies_free(struct sto_copies **copies);

/* The status view (push.c). */
struct sto_pusher *sto_pusher_new(struct sto *sto);
void sto_pusher_free(struct sto_pusher **pusher);
void sto_pusher_wake(struct sto_pusher *pusher); /* something changed: push soon */
void sto_pusher_task(struct sto_pusher *pusher, const struct atl_task_info *info);

/* What task workers run (task.c). */
extern const struct atl_task_type sto_task_types[];
extern const size_t sto_task_type_count;

/* Starts a task for the request's user. Errors: as atl_task_start(). */
ATL_MUST_CHECK enum atl_code sto_task_begin(struct sto *sto, struct atl_request *request, const char *type,
                                            const char *id, const ProtobufCMessage *spec,
                                            char ret_upid[ATL_UPID_MAX], struct atl_error *err);
void sto_task_answer(struct atl_request *request, char *upid);
/* Both: answers with the task's id, or the error. */
void sto_task_reply(struct sto *sto, struct atl_request *request, const char *type, const char *id,
                    const ProtobufCMessage *spec);

#endif
