/* The command line's shell: how calls travel, and what is done with their answers. */
#ifndef CLI_H
#define CLI_H

#include "atoll/storage/v1/upload.pb-c.h"
#include "core/cli_core.h"

/* Carries one call to the service that answers it: over the bus as root at the machine, or through REST. */
struct cli_transport {
    void *self;
    /* Appends the JSON text of the answer's data. Errors: as the service gave them; errors names parameters.
     */
    enum atl_code (*call)(void *self, const struct atl_rpc *rpc, const struct atl_param *params, size_t count,
                          struct atl_buf *ret_json, struct atl_errors *errors, struct atl_error *err);
    void (*close)(void *self);
    /* The node of this machine, or NULL when it cannot be told; NULL as a function: it is no node. */
    const char *(*own_node)(void *self);
};

/* Errors: ATL_E_UNAVAILABLE config-store is not there; ATL_E_DENIED not root. */
ATL_MUST_CHECK enum atl_code cli_local_open(const struct cli_args *args, struct cli_transport *ret_transport,
                                            struct atl_error *err);
/* Errors: ATL_E_UNAUTHENTICATED no token was given. The connection is made with the first call. */
ATL_MUST_CHECK enum atl_code cli_remote_open(const struct cli_args *args, struct cli_transport *ret_transport,
                                             struct atl_error *err);

/* Replaces - and @FILE of secret parameters by what stands there. */
ATL_MUST_CHECK enum atl_code cli_secrets_read(struct cli_args *args, struct atl_arena *arena,
                                              struct atl_error *err);

/* Adds the parameter `node` when the method wants one and none was given. */
ATL_MUST_CHECK enum atl_code cli_node_add(struct cli_args *args, const struct cli_transport *transport,
                                          struct atl_arena *arena, struct atl_error *err);

/* Prints the log of a task as it grows, until it ends. Errors: ATL_E_UNKNOWN it failed, err says why. */
ATL_MUST_CHECK enum atl_code cli_task_follow(const struct cli_transport *transport, const char *upid,
                                             struct atl_error *err);

/* A file of this machine that is sent with an upload: parameter `filename` is its path here, and the name its
 * volume gets there is the last part of it. */
struct cli_file {
    const char *path; /* borrowed from the parameters, as the name */
    const char *name;
    uint64_t size;
    int fd; /* -1: none */
};
/* Errors: ATL_E_INVALID naming filename. */
ATL_MUST_CHECK enum atl_code cli_file_open(const struct atl_param *params, size_t count,
                                           struct cli_file *ret_file, struct atl_error *err);
void cli_file_close(struct cli_file *file);
/* Shows how far it is, on a terminal. */
void cli_file_progress(const struct cli_file *file, uint64_t sent);
/* Sends it over the socket of the offer and waits until the agent has all of it. Errors: the agent's
 * sentence. */
ATL_MUST_CHECK enum atl_code cli_file_send(const struct cli_file *file,
                                           const Atoll__Storage__V1__UploadOffer *offer,
                                           struct atl_error *err);

/* The value of a key of a JSON object's text, in the arena; NULL when it is not there. */
const char *cli_json_text(const char *json, const char *key, struct atl_arena *arena);

#endif
