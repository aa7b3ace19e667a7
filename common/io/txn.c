/* Transactions on the tree, and reads past any copy. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "atoll/store/v1/store.atl.h"
#include "io/loop.h"
#include "io/mirror.h"

#define DEADLINE_DEFAULT (30 * ATL_SECOND)
#define RETRY_AFTER      (50 * ATL_MS)

void atl_txn_init(struct atl_txn *txn)
{
    memset(txn, 0, sizeof *txn);
    atoll__store__v1__txn_request__init(&txn->request);
    txn->request.compare = txn->compares;
    txn->request.operation = txn->operations;
}

void atl_txn_done(struct atl_txn *txn)
{
    atl_arena_done(&txn->arena);
}

static Atoll__Store__V1__Compare *add_compare(struct atl_txn *txn, const char *path)
{
    Atoll__Store__V1__Compare *compare = atl_arena_new(&txn->arena, Atoll__Store__V1__Compare);
    atoll__store__v1__compare__init(compare);
    compare->path = atl_arena_strdup(&txn->arena, path);
    if (txn->request.n_compare == ATL_TXN_COMPARES)
        txn->overflow = true;
    else
        txn->compares[txn->request.n_compare++] = compare;
    return compare;
}

static Atoll__Store__V1__Operation *add_operation(struct atl_txn *txn, const char *kind, const char *path)
{
    Atoll__Store__V1__Operation *operation = atl_arena_new(&txn->arena, Atoll__Store__V1__Operation);
    atoll__store__v1__operation__init(operation);
    operation->kind = atl_arena_strdup(&txn->arena, kind);
    operation->path = atl_arena_strdup(&txn->arena, path);
    if (txn->request.n_operation == ATL_TXN_OPERATIONS)
        txn->overflow = true;
    else
        txn->operations[txn->request.n_operation++] = operation;
    return operation;
}

void atl_txn_compare(struct atl_txn *txn, const char *path, struct atl_revision revision)
{
    Atoll__Store__V1__Compare *compare = add_compare(txn, path);
    compare->revision = atl_arena_new(&txn->arena, Atoll__Bus__V1__Revision);
    atoll__bus__v1__revision__init(compare->revision);
    compare->revision->has_epoch = compare->revision->has_number = 1;
    compare->revision->epoch = revision.epoch;
    compare->revision->number = revision.number;
}

void atl_txn_absent(struct atl_txn *txn, const char *path)
{
    Atoll__Store__V1__Compare *compare = add_compare(txn, path);
    compare->has_absent = compare->absent = 1;
}

void atl_txn_exists(struct atl_txn *txn, const char *path)
{
    Atoll__Store__V1__Compare *compare = add_compare(txn, path);
    compare->has_exists = compare->exists = 1;
}

void atl_txn_put_guest(struct atl_txn *txn, const char *path, const void *bytes, size_t size,
                       const char *pool)
{
    Atoll__Store__V1__Operation *operation = add_operation(txn, "put", path);
    operation->has_content = 1;
    operation->content.data = atl_arena_copy(&txn->arena, bytes, size);
    operation->content.len = size;
    operation->pool = pool != NULL ? atl_arena_strdup(&txn->arena, pool) : NULL;
}

void atl_txn_put(struct atl_txn *txn, const char *path, const void *bytes, size_t size)
{
    atl_txn_put_guest(txn, path, bytes, size, NULL);
}

void atl_txn_delete(struct atl_txn *txn, const char *path)
{
    (void)add_operation(txn, "delete", path);
}

void atl_txn_rename(struct atl_txn *txn, const char *path, const char *to)
{
    add_operation(txn, "rename", path)->to = atl_arena_strdup(&txn->arena, to);
}

/* --- sending
 * ------------------------------------------------------------------------------------------------ */

struct sending {
    struct atl_bus *bus;
    uint8_t *packed;
    size_t size;
    uint8_t request_id[ATL_REQUEST_ID_SIZE];
    atl_ns ends;
    atl_txn_fn *fn;
    void *user;
    struct atl_txn_result result;
};

static void try_send(void *user);

static void finish(void *user)
{
    struct sending *sending = user;
    sending->fn(&sending->result, sending->user);
    free(sending->packed);
    free(sending);
}

static void on_reply(const struct atl_reply *reply, void *user)
{
    struct sending *sending = user;
    struct atl_loop *loop = atl_bus_loop(sending->bus);
    /* Sent or not: config-store knows the request id of what it has done, so asking again is safe. */
    if (reply->code == ATL_E_UNAVAILABLE && atl_clock_monotonic() + RETRY_AFTER < sending->ends) {
        (void)atl_loop_timer(loop, RETRY_AFTER, 0, try_send, sending);
        return;
    }
    sending->result.code = reply->code;
    sending->result.error = reply->error;
    if (reply->code == ATL_OK) {
        const Atoll__Store__V1__TxnReply *done = (const void *)reply->output;
        sending->result.revision =
            (struct atl_revision){.epoch = done->revision->epoch, .number = done->revision->number};
    }
    finish(sending);
}

static void try_send(void *user)
{
    struct sending *sending = user;
    atl_ns left = sending->ends - atl_clock_monotonic();
    struct atl_call_options options = {.deadline = left > ATL_MS ? left : ATL_MS,
                                       .request_id = sending->request_id};
    (void)atl_bus_call_packed(sending->bus, &atl_rpc_store_v1_Store_Txn, sending->packed, sending->size,
                              &options, on_reply, sending); /* ends by its deadline; nobody cancels it */
}

void atl_txn_send(struct atl_bus *bus, const struct atl_txn *txn, atl_ns deadline, atl_txn_fn *fn, void *user)
{
    struct sending *sending = atl_new0(struct sending);
    sending->bus = bus;
    sending->fn = fn;
    sending->user = user;
    sending->ends = atl_clock_monotonic() + (deadline > 0 ? deadline : DEADLINE_DEFAULT);
    if (txn->overflow) {
        sending->result.code = atl_fail(&sending->result.error, ATL_E_LIMIT, NULL,
                                        "a transaction may have %d compares and %d operations",
                                        ATL_TXN_COMPARES, ATL_TXN_OPERATIONS);
        (void)atl_loop_timer(atl_bus_loop(bus), 0, 0, finish, sending);
        return;
    }
    sending->size = atoll__store__v1__txn_request__get_packed_size(&txn->request);
    sending->packed = atl_alloc0(sending->size + 1);
    (void)atoll__store__v1__txn_request__pack(&txn->request, sending->packed);
    ssize_t got = getrandom(sending->request_id, sizeof sending->request_id, 0);
    atl_assert(got == (ssize_t)sizeof sending->request_id);
    try_send(sending);
}

struct waiting {
    struct atl_txn_result result;
    bool done;
};

static void on_done(const struct atl_txn_result *result, void *user)
{
    struct waiting *waiting = user;
    waiting->result = *result;
    waiting->done = true;
}

enum atl_code atl_txn_send_wait(struct atl_bus *bus, const struct atl_txn *txn, atl_ns deadline,
                                struct atl_revision *ret_revision, struct atl_error *err)
{
    struct waiting waiting = {.done = false};
    atl_txn_send(bus, txn, deadline, on_done, &waiting);
    while (!waiting.done)
        atl_loop_step(atl_bus_loop(bus), -1);
    if (waiting.result.code != ATL_OK) {
        if (err != NULL)
            *err = waiting.result.error;
        return waiting.result.code;
    }
    if (ret_revision != NULL)
        *ret_revision = waiting.result.revision;
    return ATL_OK;
}

enum atl_code atl_store_get_wait(struct atl_bus *bus, const char *path, struct atl_arena *arena,
                                 struct atl_file *ret_file, struct atl_error *err)
{
    Atoll__Store__V1__GetRequest request = ATOLL__STORE__V1__GET_REQUEST__INIT;
    request.path = atl_arena_strdup(arena, path);
    const ProtobufCMessage *output = NULL;
    enum atl_code code =
        atl_bus_call_wait(bus, &atl_rpc_store_v1_Store_Get, &request.base, NULL, arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Store__V1__File *file = ((const Atoll__Store__V1__GetReply *)(const void *)output)->file;
    *ret_file = (struct atl_file){.path = file->path, .size = file->content.len};
    ret_file->bytes = atl_arena_strndup(arena, "", 0);
    if (file->content.len > 0) {
        char *bytes = atl_arena_alloc(arena, file->content.len + 1);
        memcpy(bytes, file->content.data, file->content.len);
        ret_file->bytes = bytes;
    }
    if (file->revision != NULL)
        ret_file->revision =
            (struct atl_revision){.epoch = file->revision->epoch, .number = file->revision->number};
    return ATL_OK;
}
