/* The tree in etcd: keys and transactions, without I/O. */
#include "drivers/etcd_keys.h"

#include <stdio.h>
#include <string.h>

#include "pure/number.h"

void cfg_etcd_prefix(uint64_t epoch, char ret_prefix[CFG_ETCD_PREFIX_MAX])
{
    (void)snprintf(ret_prefix, CFG_ETCD_PREFIX_MAX, "/atoll/t/%016" PRIx64 "/", epoch);
}

ProtobufCBinaryData cfg_etcd_text(const char *text)
{
    /* protobuf-c's bytes are not const; they are only read when packed. */
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

ProtobufCBinaryData cfg_etcd_file_key(struct atl_arena *arena, uint64_t epoch, const char *path)
{
    return cfg_etcd_text(atl_arena_format(arena, "/atoll/t/%016" PRIx64 "/f/%s", epoch, path));
}

ProtobufCBinaryData cfg_etcd_guest_key(struct atl_arena *arena, uint64_t epoch, uint32_t vmid)
{
    return cfg_etcd_text(atl_arena_format(arena, "/atoll/t/%016" PRIx64 "/i/%u", epoch, vmid));
}

ProtobufCBinaryData cfg_etcd_request_key(struct atl_arena *arena, uint64_t epoch, const uint8_t *id)
{
    char hex[2 * CFG_REQUEST_ID_SIZE + 1];
    for (size_t i = 0; i < CFG_REQUEST_ID_SIZE; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", id[i]);
    return cfg_etcd_text(atl_arena_format(arena, "/atoll/t/%016" PRIx64 "/r/%s", epoch, hex));
}

enum atl_code cfg_etcd_root_parse(const ProtobufCBinaryData *value, struct cfg_etcd_root *ret_root,
                                  struct atl_error *err)
{
    char text[128];
    struct cfg_etcd_root root;
    unsigned long long epoch = 0;
    int used = 0;
    (void)snprintf(text, sizeof text, "%.*s", (int)(value->len < 100 ? value->len : 100),
                   value->data != NULL ? (const char *)value->data : "");
    if (strspn(text, "0123456789") > 18 ||
        sscanf(text, "%llu %64[0-9a-f]%n", &epoch, root.digest, &used) != 2 || text[used] != '\0' ||
        strlen(root.digest) != CFG_ETCD_DIGEST || epoch == 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' in etcd names no tree", CFG_ETCD_ROOT);
    root.epoch = epoch;
    *ret_root = root;
    return ATL_OK;
}

static bool take_id(const char *text, size_t length, uint8_t id[CFG_REQUEST_ID_SIZE])
{
    if (length != (size_t)2 * CFG_REQUEST_ID_SIZE)
        return false;
    for (size_t i = 0; i < CFG_REQUEST_ID_SIZE; i++) {
        int high = atl_hex_value(text[2 * i]);
        int low = atl_hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        id[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

void cfg_etcd_key_parse(const char *prefix, const ProtobufCBinaryData *key, struct cfg_etcd_key *ret_key)
{
    size_t length = strlen(prefix);
    *ret_key = (struct cfg_etcd_key){.kind = CFG_ETCD_OTHER};
    if (key->len < length + 3 || memcmp(key->data, prefix, length) != 0 || key->data[length + 1] != '/')
        return;
    const char *rest = (const char *)key->data + length + 2;
    size_t size = key->len - length - 2;
    switch (key->data[length]) {
    case 'f':
        if (size > CFG_PATH_MAX || memchr(rest, '\0', size) != NULL)
            return;
        memcpy(ret_key->path, rest, size);
        if (cfg_path_check(ret_key->path, NULL) == ATL_OK)
            ret_key->kind = CFG_ETCD_FILE;
        return;
    case 'i':
        ret_key->kind = CFG_ETCD_GUEST;
        return;
    case 'r':
        if (take_id(rest, size, ret_key->id))
            ret_key->kind = CFG_ETCD_REQUEST;
        return;
    default:
        return;
    }
}

void cfg_etcd_txn_init(struct cfg_etcd_txn *txn, struct atl_arena *arena)
{
    *txn = (struct cfg_etcd_txn){.arena = arena};
    etcd__txn_request__init(&txn->request);
}

Etcd__Compare *cfg_etcd_txn_compare(struct cfg_etcd_txn *txn, ProtobufCBinaryData key, int64_t revision)
{
    Etcd__TxnRequest *request = &txn->request;
    request->compare = atl_arena_grow(txn->arena, request->compare, request->n_compare, &txn->compare_room,
                                      sizeof request->compare[0]);
    Etcd__Compare *compare = atl_arena_new(txn->arena, Etcd__Compare);
    etcd__compare__init(compare);
    compare->target = ETCD__COMPARE__TARGET__MOD;
    compare->target_union_case = ETCD__COMPARE__TARGET_UNION_MOD_REVISION;
    compare->mod_revision = revision;
    compare->key = key;
    request->compare[request->n_compare++] = compare;
    return compare;
}

static Etcd__RequestOp *add_success(struct cfg_etcd_txn *txn)
{
    Etcd__TxnRequest *request = &txn->request;
    request->success = atl_arena_grow(txn->arena, request->success, request->n_success, &txn->success_room,
                                      sizeof request->success[0]);
    Etcd__RequestOp *op = atl_arena_new(txn->arena, Etcd__RequestOp);
    etcd__request_op__init(op);
    request->success[request->n_success++] = op;
    return op;
}

void cfg_etcd_txn_put(struct cfg_etcd_txn *txn, ProtobufCBinaryData key, ProtobufCBinaryData value,
                      int64_t lease)
{
    Etcd__RequestOp *op = add_success(txn);
    op->request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_PUT;
    op->request_put = atl_arena_new(txn->arena, Etcd__PutRequest);
    etcd__put_request__init(op->request_put);
    op->request_put->key = key;
    op->request_put->value = value;
    op->request_put->lease = lease;
}

void cfg_etcd_txn_delete(struct cfg_etcd_txn *txn, ProtobufCBinaryData key)
{
    Etcd__RequestOp *op = add_success(txn);
    op->request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    op->request_delete_range = atl_arena_new(txn->arena, Etcd__DeleteRangeRequest);
    etcd__delete_range_request__init(op->request_delete_range);
    op->request_delete_range->key = key;
}

void cfg_etcd_txn_else_read(struct cfg_etcd_txn *txn, ProtobufCBinaryData key)
{
    Etcd__TxnRequest *request = &txn->request;
    request->failure = atl_arena_grow(txn->arena, request->failure, request->n_failure, &txn->failure_room,
                                      sizeof request->failure[0]);
    Etcd__RequestOp *op = atl_arena_new(txn->arena, Etcd__RequestOp);
    etcd__request_op__init(op);
    op->request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_RANGE;
    op->request_range = atl_arena_new(txn->arena, Etcd__RangeRequest);
    etcd__range_request__init(op->request_range);
    op->request_range->key = key;
    request->failure[request->n_failure++] = op;
}

static void add_compares(struct cfg_etcd_txn *txn, const struct cfg_plan *plan)
{
    for (size_t i = 0; i < plan->compare_count; i++)
        (void)cfg_etcd_txn_compare(txn, cfg_etcd_file_key(txn->arena, plan->epoch, plan->compares[i].path),
                                   (int64_t)plan->compares[i].number);
    for (size_t i = 0; i < plan->no_file_count; i++)
        (void)cfg_etcd_txn_compare(txn, cfg_etcd_file_key(txn->arena, plan->epoch, plan->no_files[i]), 0);
    for (size_t i = 0; i < plan->no_folder_count; i++) {
        /* All that begins with PATH/ : up to PATH0, '0' being the byte behind '/'. */
        char *first = atl_arena_format(txn->arena, "%s/", plan->no_folders[i]);
        char *last = atl_arena_format(txn->arena, "%s0", plan->no_folders[i]);
        Etcd__Compare *compare =
            cfg_etcd_txn_compare(txn, cfg_etcd_file_key(txn->arena, plan->epoch, first), 0);
        compare->range_end = cfg_etcd_file_key(txn->arena, plan->epoch, last);
    }
    for (size_t i = 0; i < plan->guest_count; i++)
        if (plan->guests[i].fresh)
            (void)cfg_etcd_txn_compare(txn, cfg_etcd_guest_key(txn->arena, plan->epoch, plan->guests[i].vmid),
                                       0);
}

void cfg_etcd_txn_plan(struct cfg_etcd_txn *txn, const struct cfg_etcd_request *write)
{
    const struct cfg_plan *plan = write->plan;
    ProtobufCBinaryData request = cfg_etcd_request_key(txn->arena, plan->epoch, write->id);
    (void)cfg_etcd_txn_compare(txn, cfg_etcd_text(CFG_ETCD_ROOT), write->root_revision);
    (void)cfg_etcd_txn_compare(txn, request, write->barred);
    add_compares(txn, plan);
    for (size_t i = 0; i < plan->change_count; i++) {
        const struct cfg_plan_change *change = &plan->changes[i];
        ProtobufCBinaryData key = cfg_etcd_file_key(txn->arena, plan->epoch, change->path);
        struct cfg_sealed file = {
            .epoch = plan->epoch, .path = change->path, .bytes = change->bytes, .size = change->size};
        if (change->bytes == NULL) {
            cfg_etcd_txn_delete(txn, key);
            continue;
        }
        cfg_seal_close(write->seal, &file, txn->arena);
        cfg_etcd_txn_put(
            txn, key, (ProtobufCBinaryData){.len = file.size, .data = (uint8_t *)(uintptr_t)file.bytes}, 0);
    }
    for (size_t i = 0; i < plan->guest_count; i++) {
        ProtobufCBinaryData key = cfg_etcd_guest_key(txn->arena, plan->epoch, plan->guests[i].vmid);
        if (plan->guests[i].path != NULL)
            cfg_etcd_txn_put(txn, key, cfg_etcd_text(plan->guests[i].path), 0);
        else
            cfg_etcd_txn_delete(txn, key);
    }
    if (plan->change_count > 0)
        cfg_etcd_txn_put(txn, request, cfg_etcd_text("done"), write->lease);
    cfg_etcd_txn_else_read(txn, request);
}
