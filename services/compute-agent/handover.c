/* Whose a guest is: the transaction, and asking the tree. */
#include "handover.h"

#include <stdio.h>
#include <time.h>

#include "atoll/store/v1/store.atl.h"
#include "atoll/store/v1/store.pb-c.h"
#include "core/move_judge.h"

static const atl_ns ask_again = 300 * ATL_MS;
static const atl_ns write_within = 5 * ATL_SECOND;

void cmp_handover_init(struct cmp_handover *handover, const char *folder, const char *source,
                       const char *target, uint32_t vmid)
{
    (void)snprintf(handover->source, sizeof handover->source, "nodes/%.80s/%s/%" PRIu32 ".conf", source,
                   folder, vmid);
    (void)snprintf(handover->target, sizeof handover->target, "nodes/%.80s/%s/%" PRIu32 ".conf", target,
                   folder, vmid);
}

static enum atl_code send_txn(const struct cmp_handover *handover, const struct atl_txn *txn,
                              struct atl_error *err)
{
    struct atl_bus *bus = NULL;
    struct atl_revision now;
    enum atl_code code = atl_task_bus(handover->task, &bus, err);
    return code == ATL_OK ? atl_txn_send_wait(bus, txn, write_within, &now, err) : code;
}

enum atl_code cmp_handover_commit(const struct cmp_handover *handover, struct atl_revision revision,
                                  const struct atl_buf *text, struct atl_error *err)
{
    ATL_TXN_AT_EXIT struct atl_txn txn;
    atl_txn_init(&txn);
    atl_txn_compare(&txn, handover->source, revision);
    atl_txn_rename(&txn, handover->source, handover->target);
    atl_txn_put(&txn, handover->target, text->data, text->length);
    return send_txn(handover, &txn, err);
}

/* As the tree has it now, past any copy. */
static enum atl_code read_now(const struct cmp_handover *handover, const char *path, bool *ret_found,
                              struct atl_file *ret_file, struct atl_error *err)
{
    Atoll__Store__V1__GetRequest request = ATOLL__STORE__V1__GET_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.path = atl_arena_strdup(handover->arena, path);
    request.has_linearizable = true;
    request.linearizable = true;
    const struct atl_task_call call = {
        .rpc = &atl_rpc_store_v1_Store_Get, .input = &request.base, .to_the_end = true};
    enum atl_code code = atl_task_call_at(handover->task, &call, handover->arena, &output, err);
    *ret_found = code == ATL_OK;
    if (code != ATL_OK)
        return code == ATL_E_ABSENT ? ATL_OK : code;
    const Atoll__Store__V1__File *file = ((const Atoll__Store__V1__GetReply *)output)->file;
    *ret_file = (struct atl_file){
        .path = file->path,
        .bytes = atl_arena_strndup(handover->arena, (const char *)file->content.data, file->content.len),
        .size = file->content.len};
    if (file->revision != NULL)
        ret_file->revision =
            (struct atl_revision){.epoch = file->revision->epoch, .number = file->revision->number};
    return ATL_OK;
}

enum atl_code cmp_handover_read(const struct cmp_handover *handover, bool *ret_found,
                                struct atl_file *ret_file, struct atl_error *err)
{
    return read_now(handover, handover->source, ret_found, ret_file, err);
}

/* The same text once more: who compares the revision before it comes too late. */
static enum atl_code write_anew(const struct cmp_handover *handover, const struct atl_file *file,
                                struct atl_error *err)
{
    ATL_TXN_AT_EXIT struct atl_txn txn;
    atl_txn_init(&txn);
    atl_txn_compare(&txn, handover->source, file->revision);
    atl_txn_put(&txn, handover->source, file->bytes, file->size);
    return send_txn(handover, &txn, err);
}

/* One look; ATL_OK: *ret_side is known, and stays so. */
static enum atl_code look(const struct cmp_handover *handover, enum cmp_side *ret_side, struct atl_error *err)
{
    struct atl_file file = {0};
    struct atl_file other = {0};
    bool found = false;
    bool at_target = false;
    enum atl_code code = read_now(handover, handover->source, &found, &file, err);
    if (code == ATL_OK && !found)
        code = read_now(handover, handover->target, &at_target, &other, err);
    if (code != ATL_OK)
        return code;
    enum cmp_move_file source = CMP_FILE_ABSENT;
    if (found)
        source = handover->locked(&file, handover->arena) ? CMP_FILE_LOCKED : CMP_FILE_FREE;
    enum cmp_move_verdict verdict = cmp_move_judge(source, at_target);
    *ret_side = verdict == CMP_MOVE_TARGET ? CMP_SIDE_TARGET : CMP_SIDE_SETTLED;
    if (verdict != CMP_MOVE_OPEN)
        return ATL_OK;
    *ret_side = CMP_SIDE_SOURCE;
    return write_anew(handover, &file, err);
}

enum cmp_side cmp_handover_settle(const struct cmp_handover *handover)
{
    bool told = false;
    for (;;) {
        struct atl_error error = {0};
        enum cmp_side side = CMP_SIDE_SETTLED;
        enum atl_code code = look(handover, &side, &error);
        if (code == ATL_OK)
            return side;
        if (!told && code != ATL_E_CONFLICT) {
            atl_task_warn(handover->task, "whose the guest is cannot be told yet, asking on: %s", error.text);
            told = true;
        }
        const struct timespec pause = {.tv_nsec = ask_again};
        (void)nanosleep(&pause, NULL); /* cut short by a signal: it asks a little sooner */
    }
}
