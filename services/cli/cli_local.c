/* Calls over the bus, with root's assertion from config-store. What another node's service answers is asked
 * there, as this machine's gateway would: with its key, which is root's to read, and its copy of the
 * directory. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atoll/bus/v1/identity.atl.h"
#include "atoll/storage/v1/upload.atl.h"
#include "atoll/store/v1/identity.atl.h"
#include "io/bus.h"
#include "io/directory.h"

struct local {
    const struct cli_args *args;
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_bus *far; /* to other nodes; NULL: none was asked yet */
    struct atl_directory *directory;
    struct atl_arena arena;
    const char *node; /* of this machine; NULL: not known yet */
    const uint8_t *assertion;
    size_t assertion_size;
};

static void local_close(void *self)
{
    struct local *local = self;
    atl_bus_close(&local->far);
    atl_bus_close(&local->bus);
    atl_directory_free(&local->directory);
    atl_loop_free(local->loop);
    atl_arena_done(&local->arena);
    free(local);
}

static enum atl_code get_assertion(struct local *local, struct atl_error *err)
{
    Atoll__Store__V1__LocalAssertionRequest request = ATOLL__STORE__V1__LOCAL_ASSERTION_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    struct atl_call_options options = {.deadline = 10 * ATL_SECOND};
    enum atl_code code = atl_bus_call_wait(local->bus, &atl_rpc_store_v1_Identity_LocalAssertion,
                                           &request.base, &options, &local->arena, &output, err);
    if (code == ATL_E_UNAVAILABLE)
        return atl_fail(
            err, code, NULL,
            "config-store does not answer: is Atoll running on this machine? (deploy/quickstart --status; "
            "another machine: --host)");
    if (code != ATL_OK)
        return code;
    const Atoll__Store__V1__AuthenticateReply *reply = (const Atoll__Store__V1__AuthenticateReply *)output;
    local->assertion_size = protobuf_c_message_get_packed_size(&reply->assertion->base);
    uint8_t *packed = atl_arena_alloc(&local->arena, local->assertion_size);
    (void)protobuf_c_message_pack(&reply->assertion->base, packed);
    local->assertion = packed;
    const ProtobufCBinaryData *said = &reply->assertion->assertion;
    const Atoll__Bus__V1__Assertion *assertion = (const Atoll__Bus__V1__Assertion *)atl_unpack(
        &atl_msg_bus_v1_Assertion, said->data, said->len, &local->arena);
    local->node = assertion != NULL && assertion->node != NULL ? assertion->node : "";
    return ATL_OK;
}

/* --- other nodes --- */

static const char *state_dir(struct local *local)
{
    static const char run[] = "/run/";
    const char *run_dir = local->args->run_dir;
    if (local->args->state_dir != NULL)
        return local->args->state_dir;
    return strncmp(run_dir, run, strlen(run)) == 0
               ? atl_arena_format(&local->arena, "/var/lib/%s", run_dir + strlen(run))
               : "/var/lib/atoll";
}

static enum atl_code open_far(struct local *local, struct atl_error *err)
{
    const char *folder = atl_arena_format(&local->arena, "%s/gateway", state_dir(local));
    const char *key_file = atl_arena_format(&local->arena, "%s/bus.key", folder);
    const struct atl_bus_options options = {.loop = local->loop,
                                            .service = "api-gateway",
                                            .node = local->node,
                                            .run_dir = local->args->run_dir,
                                            .client_only = true};
    local->directory = atl_directory_new();
    atl_directory_keep(local->directory, atl_arena_format(&local->arena, "%s/directory", folder));
    if (atl_directory_node(local->directory, local->node) == NULL)
        return ATL_OK; /* alone */
    enum atl_code code = atl_bus_open(&options, &local->far, err);
    const struct atl_bus_cluster cluster = {.directory = local->directory, .key_file = key_file};
    return code == ATL_OK ? atl_bus_join_cluster(local->far, &cluster, err) : code;
}

/* The node whose agent answers, when that is another one; NULL: this one's, or config-store, which is alike
 * everywhere. */
static const char *other_node(const struct local *local, const struct atl_rpc *rpc,
                              const struct atl_param *params, size_t count)
{
    static const char own[] = "/nodes/{node}";
    const char *node = NULL;
    bool of_node = (rpc->path != NULL && strncmp(rpc->path, own, strlen(own)) == 0) ||
                   rpc == &atl_rpc_storage_v1_UploadStream_Open;
    if (!of_node || strcmp(rpc->service->server, "config-store") == 0)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (strcmp(params[i].name, "node") == 0)
            node = params[i].value;
    return node != NULL && strcmp(node, local->node) != 0 ? node : NULL;
}

struct way {
    struct atl_bus *bus;
    const char *node; /* NULL: this one */
};

static enum atl_code find_way(struct local *local, const struct atl_rpc *rpc, const struct atl_param *params,
                              size_t count, struct way *ret_way, struct atl_error *err)
{
    *ret_way = (struct way){.bus = local->bus};
    if (rpc->perm == NULL)
        return ATL_OK;
    enum atl_code code = local->assertion == NULL ? get_assertion(local, err) : ATL_OK;
    const char *node = code == ATL_OK ? other_node(local, rpc, params, count) : NULL;
    if (node == NULL)
        return code;
    if (local->directory == NULL)
        code = open_far(local, err);
    if (code == ATL_OK && (local->far == NULL || atl_directory_node(local->directory, node) == NULL))
        code = atl_fail(err, ATL_E_ABSENT, "node", "there is no node '%s'", node);
    *ret_way = (struct way){.bus = local->far, .node = node};
    return code;
}

static void copy_errors(const struct atl_errors *from, struct atl_errors *to)
{
    for (size_t i = 0; from != NULL && i < from->count; i++)
        atl_errors_add(to, from->items[i].field, "%s", from->items[i].text);
}

struct answer {
    const struct atl_rpc *rpc;
    struct atl_buf *json;
    struct atl_errors *errors;
    struct atl_error *err;
    struct atl_loop *loop;
    enum atl_code code;
    bool there;
};

static void on_reply(const struct atl_reply *reply, void *user)
{
    struct answer *answer = user;
    answer->code = reply->code;
    answer->there = true;
    if (reply->code == ATL_OK) {
        atl_json_encode(answer->rpc->output, reply->output, answer->json, NULL);
    } else {
        *answer->err = reply->error;
        copy_errors(reply->errors, answer->errors);
    }
    atl_loop_stop(answer->loop);
}

static enum atl_code one_call(struct local *local, const struct atl_rpc *rpc, const struct atl_param *params,
                              size_t count, struct atl_buf *ret_json, struct atl_errors *errors,
                              struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    ProtobufCMessage *input = NULL;
    enum atl_code code = atl_params_decode(rpc->input, params, count, &arena, &input, errors);
    if (code == ATL_OK)
        code = atl_validate(rpc->input, input, errors);
    if (code != ATL_OK)
        return atl_fail(err, code, NULL, "Parameter verification failed.");
    struct answer answer = {.rpc = rpc, .json = ret_json, .errors = errors, .err = err, .loop = local->loop};
    struct way way;
    code = find_way(local, rpc, params, count, &way, err);
    if (code != ATL_OK)
        return code;
    bool as_user = rpc->perm != NULL;
    struct atl_call_options options = {.assertion = as_user ? local->assertion : NULL,
                                       .assertion_size = as_user ? local->assertion_size : 0,
                                       .node = way.node};
    (void)atl_bus_call(way.bus, rpc, input, &options, on_reply, &answer);
    while (!answer.there)
        atl_loop_run(local->loop);
    return answer.code;
}

/* Asks for a stream, sends the file; *ret_handle names what arrived, in the local arena. */
static enum atl_code send_file(struct local *local, const struct atl_param *params, size_t count,
                               const struct cli_file *file, const char **ret_handle, struct atl_error *err)
{
    Atoll__Storage__V1__UploadOpenRequest request = ATOLL__STORAGE__V1__UPLOAD_OPEN_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    const struct atl_rpc *rpc = &atl_rpc_storage_v1_UploadStream_Open;
    struct way way;
    enum atl_code code = find_way(local, rpc, params, count, &way, err);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(params[i].name, "node") == 0)
            request.node = atl_arena_strdup(&local->arena, params[i].value);
        if (strcmp(params[i].name, "storage") == 0)
            request.storage = atl_arena_strdup(&local->arena, params[i].value);
    }
    request.has_max_size = 1;
    request.max_size = file->size;
    struct atl_call_options options = {
        .assertion = local->assertion, .assertion_size = local->assertion_size, .node = way.node};
    if (code == ATL_OK)
        code = atl_bus_call_wait(way.bus, rpc, &request.base, &options, &local->arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__UploadOffer *offer = (const Atoll__Storage__V1__UploadOffer *)output;
    *ret_handle = offer->handle;
    return cli_file_send(file, offer, err);
}

static enum atl_code local_upload(struct local *local, const struct atl_rpc *rpc,
                                  const struct atl_param *params, size_t count, struct atl_buf *ret_json,
                                  struct atl_errors *errors, struct atl_error *err)
{
    struct cli_file file;
    struct atl_param *sent = atl_arena_array(&local->arena, struct atl_param, count + 1);
    enum atl_code code = cli_file_open(params, count, &file, err);
    if (code != ATL_OK)
        return code;
    memcpy(sent, params, count * sizeof *params);
    for (size_t i = 0; i < count; i++)
        if (strcmp(sent[i].name, "filename") == 0)
            sent[i].value = file.name;
    sent[count].name = "tmpfilename";
    code = send_file(local, params, count, &file, &sent[count].value, err);
    cli_file_close(&file);
    return code == ATL_OK ? one_call(local, rpc, sent, count + 1, ret_json, errors, err) : code;
}

static enum atl_code local_call(void *self, const struct atl_rpc *rpc, const struct atl_param *params,
                                size_t count, struct atl_buf *ret_json, struct atl_errors *errors,
                                struct atl_error *err)
{
    return (rpc->flags & ATL_R_UPLOAD) != 0 ? local_upload(self, rpc, params, count, ret_json, errors, err)
                                            : one_call(self, rpc, params, count, ret_json, errors, err);
}

static const char *local_node(void *self)
{
    struct local *local = self;
    struct atl_error error = {0};
    if (local->node == NULL && get_assertion(local, &error) != ATL_OK)
        return NULL; /* the call itself will say so */
    return local->node[0] != '\0' ? local->node : NULL;
}

enum atl_code cli_local_open(const struct cli_args *args, struct cli_transport *ret_transport,
                             struct atl_error *err)
{
    if (geteuid() != 0)
        return atl_fail(
            err, ATL_E_DENIED, NULL,
            "only root may talk to the services of this machine directly; use --host with a token");
    struct local *local = atl_new0(struct local);
    local->args = args;
    local->loop = atl_loop_new();
    struct atl_bus_options options = {
        .loop = local->loop, .service = "cli", .node = "", .run_dir = args->run_dir};
    enum atl_code code = atl_bus_open(&options, &local->bus, err);
    if (code != ATL_OK) {
        local_close(local);
        return code;
    }
    *ret_transport = (struct cli_transport){
        .self = local, .call = local_call, .close = local_close, .own_node = local_node};
    return ATL_OK;
}
