/* Unary calls, listing and snapshots. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etcd/internal.h"
#include "pure/buf.h"

/* A member without a leader says so at once instead of waiting for one. */
const struct atl_grpc_metadata etcd_needs_leader[1] = {{"hasleader", "true"}};

struct method {
    const char *path;
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
    bool local; /* concerns one member: needs no leader */
};

#define KV          "/etcdserverpb.KV/"
#define LEASE       "/etcdserverpb.Lease/"
#define CLUSTER     "/etcdserverpb.Cluster/"
#define MAINTENANCE "/etcdserverpb.Maintenance/"

static const struct method methods[ATL_ETCD_METHODS] = {
    [ATL_ETCD_RANGE] = {KV "Range", &etcd__range_request__descriptor, &etcd__range_response__descriptor,
                        false},
    [ATL_ETCD_PUT] = {KV "Put", &etcd__put_request__descriptor, &etcd__put_response__descriptor, false},
    [ATL_ETCD_DELETE] = {KV "DeleteRange", &etcd__delete_range_request__descriptor,
                         &etcd__delete_range_response__descriptor, false},
    [ATL_ETCD_TXN] = {KV "Txn", &etcd__txn_request__descriptor, &etcd__txn_response__descriptor, false},
    [ATL_ETCD_COMPACT] = {KV "Compact", &etcd__compaction_request__descriptor,
                          &etcd__compaction_response__descriptor, false},
    [ATL_ETCD_LEASE_GRANT] = {LEASE "LeaseGrant", &etcd__lease_grant_request__descriptor,
                              &etcd__lease_grant_response__descriptor, false},
    [ATL_ETCD_LEASE_REVOKE] = {LEASE "LeaseRevoke", &etcd__lease_revoke_request__descriptor,
                               &etcd__lease_revoke_response__descriptor, false},
    [ATL_ETCD_MEMBER_LIST] = {CLUSTER "MemberList", &etcd__member_list_request__descriptor,
                              &etcd__member_list_response__descriptor, true},
    [ATL_ETCD_MEMBER_ADD] = {CLUSTER "MemberAdd", &etcd__member_add_request__descriptor,
                             &etcd__member_add_response__descriptor, false},
    [ATL_ETCD_MEMBER_REMOVE] = {CLUSTER "MemberRemove", &etcd__member_remove_request__descriptor,
                                &etcd__member_remove_response__descriptor, false},
    [ATL_ETCD_MEMBER_PROMOTE] = {CLUSTER "MemberPromote", &etcd__member_promote_request__descriptor,
                                 &etcd__member_promote_response__descriptor, false},
    [ATL_ETCD_ALARM] = {MAINTENANCE "Alarm", &etcd__alarm_request__descriptor,
                        &etcd__alarm_response__descriptor, false},
    [ATL_ETCD_STATUS] = {MAINTENANCE "Status", &etcd__status_request__descriptor,
                         &etcd__status_response__descriptor, true},
    [ATL_ETCD_DEFRAGMENT] = {MAINTENANCE "Defragment", &etcd__defragment_request__descriptor,
                             &etcd__defragment_response__descriptor, true},
};

struct atl_etcd_call {
    const struct method *method;
    struct atl_grpc_call *call;
    ProtobufCMessage *message;
    bool broken; /* what came is no such message, or there were two */
    atl_etcd_fn *fn;
    void *user;
};

uint8_t *etcd_pack(const ProtobufCMessage *message, size_t *ret_size)
{
    *ret_size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = atl_alloc0(*ret_size + 1);
    (void)protobuf_c_message_pack(message, bytes); /* as long as was said */
    return bytes;
}

static void call_free(struct atl_etcd_call *call)
{
    if (call->message != NULL)
        protobuf_c_message_free_unpacked(call->message, NULL);
    free(call);
}

static void on_message(const uint8_t *bytes, size_t size, void *user)
{
    struct atl_etcd_call *call = user;
    call->broken = call->broken || call->message != NULL;
    if (call->broken)
        return;
    call->message = protobuf_c_message_unpack(call->method->response, NULL, size, bytes);
    call->broken = call->message == NULL;
}

static void on_end(const struct atl_grpc_end *end, void *user)
{
    struct atl_etcd_call *call = user;
    struct atl_etcd_answer answer = {.code = end->code, .message = call->message};
    struct atl_etcd_ending ending = {
        .code = end->code, .sent = end->sent, .remote = end->remote, .text = end->text};
    if (end->code != ATL_OK)
        (void)atl_fail(&answer.error, end->code, NULL, "%s", end->text);
    else if (call->broken || call->message == NULL)
        answer.code = atl_fail(&answer.error, ATL_E_INTERNAL, NULL, "etcd's answer cannot be read");
    answer.outcome = atl_etcd_outcome(&ending); /* an answer that cannot be read was done nevertheless */
    if (answer.code != ATL_OK)
        answer.message = NULL;
    call->fn(&answer, call->user);
    call_free(call);
}

struct atl_etcd_call *atl_etcd_call(struct atl_grpc *channel, enum atl_etcd_method method,
                                    const ProtobufCMessage *request, atl_ns timeout, atl_etcd_fn *fn,
                                    void *user)
{
    atl_assert(method < ATL_ETCD_METHODS);
    atl_assert(request->descriptor == methods[method].request);
    atl_assert(timeout > 0);
    size_t size = 0;
    uint8_t *bytes ATL_FREE_AT_EXIT = etcd_pack(request, &size);
    struct atl_etcd_call *call = atl_new0(struct atl_etcd_call);
    *call = (struct atl_etcd_call){.method = &methods[method], .fn = fn, .user = user};
    bool local = call->method->local;
    if (method == ATL_ETCD_RANGE)
        local = ((const Etcd__RangeRequest *)request)->serializable;
    call->call =
        atl_grpc_call_new(channel, &(const struct atl_grpc_call_options){.method = call->method->path,
                                                                         .metadata = etcd_needs_leader,
                                                                         .metadata_count = local ? 0 : 1,
                                                                         .request = bytes,
                                                                         .request_size = size,
                                                                         .timeout = timeout,
                                                                         .message = on_message,
                                                                         .end = on_end,
                                                                         .user = call});
    return call;
}

void atl_etcd_cancel(struct atl_etcd_call *call)
{
    atl_grpc_cancel(call->call);
    call_free(call);
}

/* --- listing ------------------------------------------------------------------------------------------ */

struct atl_etcd_list {
    struct atl_grpc *channel;
    struct atl_etcd_list_options options;
    struct atl_etcd_call *call;
    struct atl_buf from; /* first key of the next page */
    uint8_t *end;
    size_t end_size;
    int64_t revision;
};

void atl_etcd_list_free(struct atl_etcd_list **pointer)
{
    struct atl_etcd_list *list = *pointer;
    *pointer = NULL;
    if (list == NULL)
        return;
    if (list->call != NULL)
        atl_etcd_cancel(list->call);
    atl_buf_done(&list->from);
    free(list->end);
    free(list);
}

static void list_end(struct atl_etcd_list *list, enum atl_code code, const struct atl_error *error)
{
    struct atl_etcd_list_options options = list->options;
    int64_t revision = list->revision;
    atl_etcd_list_free(&list);
    options.end(code, error, revision, options.user);
}

static void ask_page(struct atl_etcd_list *list);

static void on_page(const struct atl_etcd_answer *answer, void *user)
{
    struct atl_etcd_list *list = user;
    list->call = NULL;
    if (answer->code != ATL_OK) {
        list_end(list, answer->code, &answer->error);
        return;
    }
    const Etcd__RangeResponse *page = (const void *)answer->message;
    struct atl_error error = {0};
    if (page->header == NULL) {
        list_end(list, atl_fail(&error, ATL_E_INTERNAL, NULL, "etcd's answer has no revision"), &error);
        return;
    }
    if (list->revision == 0)
        list->revision = list->options.revision != 0 ? list->options.revision : page->header->revision;
    for (size_t i = 0; i < page->n_kvs; i++)
        if (!list->options.key(page->kvs[i], list->options.user)) {
            list_end(list, atl_fail(&error, ATL_E_CANCELLED, NULL, "listing was ended"), &error);
            return;
        }
    if (!page->more || page->n_kvs == 0) {
        list_end(list, ATL_OK, NULL);
        return;
    }
    const ProtobufCBinaryData *last = &page->kvs[page->n_kvs - 1]->key;
    atl_buf_reset(&list->from);
    atl_buf_add(&list->from, last->data, last->len);
    atl_buf_add(&list->from, "", 1); /* the next possible key */
    ask_page(list);
}

static void ask_page(struct atl_etcd_list *list)
{
    Etcd__RangeRequest request = ETCD__RANGE_REQUEST__INIT;
    request.key = (ProtobufCBinaryData){.len = list->from.length, .data = (uint8_t *)list->from.data};
    request.range_end = (ProtobufCBinaryData){.len = list->end_size, .data = list->end};
    request.limit = list->options.page;
    request.revision = list->revision != 0 ? list->revision : list->options.revision;
    request.serializable = list->options.serializable;
    request.keys_only = list->options.keys_only;
    list->call =
        atl_etcd_call(list->channel, ATL_ETCD_RANGE, &request.base, list->options.timeout, on_page, list);
}

struct atl_etcd_list *atl_etcd_list_new(struct atl_grpc *channel, const struct atl_etcd_list_options *options)
{
    struct atl_etcd_list *list = atl_new0(struct atl_etcd_list);
    list->channel = channel;
    list->options = *options;
    if (list->options.page == 0)
        list->options.page = 64;
    size_t size = strlen(options->prefix);
    atl_buf_add(&list->from, options->prefix, size);
    list->end = atl_alloc0(size);
    list->end_size = atl_etcd_prefix_end((const uint8_t *)options->prefix, size, list->end);
    list->options.prefix = NULL;
    ask_page(list);
    return list;
}

/* --- snapshots ---------------------------------------------------------------------------------------- */

static void on_piece(const uint8_t *bytes, size_t size, void *user)
{
    struct atl_etcd_snapshot *snapshot = user;
    Etcd__SnapshotResponse *piece = etcd__snapshot_response__unpack(NULL, size, bytes);
    if (piece == NULL)
        return; /* then the last piece says that something is left, or none does */
    if (piece->blob.len > 0)
        snapshot->piece(piece->blob.data, piece->blob.len, snapshot->user);
    snapshot->whole = piece->remaining_bytes == 0;
    etcd__snapshot_response__free_unpacked(piece, NULL);
}

static void on_snapshot_end(const struct atl_grpc_end *end, void *user)
{
    struct atl_etcd_snapshot *snapshot = user;
    struct atl_error error = {0};
    enum atl_code code = end->code;
    snapshot->call = NULL;
    if (code != ATL_OK)
        (void)atl_fail(&error, code, NULL, "%s", end->text);
    else if (!snapshot->whole)
        code = atl_fail(&error, ATL_E_IO, NULL, "the snapshot ended before its last byte");
    snapshot->end(code, &error, snapshot->user);
}

void atl_etcd_snapshot_start(struct atl_grpc *channel, struct atl_etcd_snapshot *snapshot)
{
    snapshot->whole = false;
    snapshot->call = atl_grpc_call_new(
        channel,
        &(const struct atl_grpc_call_options){
            .method = MAINTENANCE "Snapshot", .message = on_piece, .end = on_snapshot_end, .user = snapshot});
}
