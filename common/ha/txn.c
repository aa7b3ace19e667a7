/* Transactions of high availability. */
#include "ha/txn.h"

struct atl_ha_txn atl_ha_txn_begin(struct atl_arena *arena)
{
    struct atl_ha_txn txn = {.arena = arena, .request = atl_arena_new(arena, Atoll__Store__V1__TxnRequest)};
    atoll__store__v1__txn_request__init(txn.request);
    return txn;
}

void atl_ha_txn_compare(struct atl_ha_txn *txn, const char *path, const Atoll__Bus__V1__Revision *revision)
{
    Atoll__Store__V1__TxnRequest *request = txn->request;
    Atoll__Store__V1__Compare *compare = atl_arena_new(txn->arena, Atoll__Store__V1__Compare);
    atoll__store__v1__compare__init(compare);
    compare->path = atl_arena_strdup(txn->arena, path);
    if (revision == NULL) {
        compare->has_absent = 1;
        compare->absent = 1;
    } else {
        compare->revision = atl_arena_new(txn->arena, Atoll__Bus__V1__Revision);
        *compare->revision = *revision;
    }
    request->compare = atl_arena_grow(txn->arena, request->compare, request->n_compare, &txn->compares,
                                      sizeof(Atoll__Store__V1__Compare *));
    request->compare[request->n_compare++] = compare;
}

static Atoll__Store__V1__Operation *add(struct atl_ha_txn *txn, const char *kind, const char *path)
{
    Atoll__Store__V1__TxnRequest *request = txn->request;
    Atoll__Store__V1__Operation *operation = atl_arena_new(txn->arena, Atoll__Store__V1__Operation);
    atoll__store__v1__operation__init(operation);
    operation->kind = atl_arena_strdup(txn->arena, kind);
    operation->path = atl_arena_strdup(txn->arena, path);
    request->operation = atl_arena_grow(txn->arena, request->operation, request->n_operation,
                                        &txn->operations, sizeof(Atoll__Store__V1__Operation *));
    request->operation[request->n_operation++] = operation;
    return operation;
}

void atl_ha_txn_put(struct atl_ha_txn *txn, const char *path, const ProtobufCMessage *content)
{
    Atoll__Store__V1__Operation *operation = add(txn, "put", path);
    operation->has_content = 1;
    operation->content.len = protobuf_c_message_get_packed_size(content);
    operation->content.data = atl_arena_alloc(txn->arena, operation->content.len);
    (void)protobuf_c_message_pack(content,
                                  operation->content.data); /* writes as many bytes as were counted */
}

void atl_ha_txn_delete(struct atl_ha_txn *txn, const char *path)
{
    (void)add(txn, "delete", path);
}

void atl_ha_txn_rename(struct atl_ha_txn *txn, const char *path, const char *to)
{
    add(txn, "rename", path)->to = atl_arena_strdup(txn->arena, to);
}
