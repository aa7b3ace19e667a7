/* Get, List, Txn, NextId: the tree as services on the bus see it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "atoll/store/v1/store.atl.h"
#include "atoll/task/v1/common.pb-c.h"
#include "cfg.h"
#include "core/ha_guard.h"
#include "core/options.h"
#include "edit.h"
#include "identity.h"
#include "pure/arena.h"

enum { PAGE_BYTES_MAX = 4 << 20, PAGE_FILES_MAX = 4096, PREFIXES_MAX = 16 };

/* --- shared by the RPC files
 * -------------------------------------------------------------------------------- */

void cfg_refuse(struct atl_request *request, enum atl_code code, const char *field, const char *format, ...)
{
    char text[ATL_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct atl_error error;
    (void)atl_fail(&error, code, field, "%s", text);
    atl_request_fail(request, &error, NULL);
}

void cfg_reply_nothing(struct atl_request *request)
{
    Atoll__Task__V1__Nothing nothing = ATOLL__TASK__V1__NOTHING__INIT;
    atl_request_reply(request, &nothing.base);
}

const char *cfg_text_ahead(const struct cfg *cfg, const char *path, size_t *ret_size)
{
    const struct cfg_file *file = cfg_tree_get(cfg_store_ahead(cfg->store), path);
    *ret_size = file != NULL ? file->size : 0;
    return file != NULL ? (const char *)file->bytes : "";
}

bool cfg_get_subject(struct cfg *cfg, struct atl_request *request, struct atl_subject *subject)
{
    struct atl_error error;
    (void)cfg_store_tree(cfg->store);
    if (atl_keeper_subject(cfg->keeper, atl_request_principal(request), subject, &error) == ATL_OK)
        return true;
    atl_request_fail(request, &error, NULL);
    return false;
}

Atoll__Bus__V1__Revision *cfg_new_revision(struct atl_arena *arena, uint64_t epoch, uint64_t number)
{
    Atoll__Bus__V1__Revision *revision = atl_arena_new(arena, Atoll__Bus__V1__Revision);
    atoll__bus__v1__revision__init(revision);
    revision->has_epoch = revision->has_number = 1;
    revision->epoch = epoch;
    revision->number = number;
    return revision;
}

/* --- reading
 * ------------------------------------------------------------------------------------------------ */

static Atoll__Store__V1__File *new_file(struct atl_arena *arena, const struct cfg_file *file, uint64_t epoch,
                                        bool content)
{
    Atoll__Store__V1__File *message = atl_arena_new(arena, Atoll__Store__V1__File);
    atoll__store__v1__file__init(message);
    message->path = file->path;
    message->revision = cfg_new_revision(arena, epoch, file->number);
    if (content) {
        message->has_content = 1;
        message->content.data = file->bytes; /* packed by the reply, which comes before any change */
        message->content.len = file->size;
    }
    return message;
}

static void answer_get(struct cfg *cfg, struct atl_request *request, const char *path)
{
    const struct cfg_tree *tree = cfg_store_tree(cfg->store);
    const struct cfg_file *file = cfg_tree_get(tree, path);
    if (file == NULL) {
        cfg_refuse(request, ATL_E_ABSENT, "path", "'%s' does not exist", path);
        return;
    }
    struct cfg_store_health health;
    cfg_store_health(cfg->store, &health);
    Atoll__Store__V1__GetReply reply = ATOLL__STORE__V1__GET_REPLY__INIT;
    reply.file = new_file(atl_request_arena(request), file, tree->epoch, true);
    reply.has_age_ms = health.age_ms != 0;
    reply.age_ms = health.age_ms;
    atl_request_reply(request, &reply.base);
}

struct getting { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const char *path;
};

static void on_confirmed(enum atl_code code, const struct atl_error *error, void *user)
{
    const struct getting *getting = user;
    (void)error; /* says it in etcd's words */
    if (code == ATL_OK)
        answer_get(getting->cfg, getting->request, getting->path);
    else
        cfg_refuse(getting->request, code, NULL,
                   "the cluster has no quorum: what is known here may be older than what is asked for");
}

static void handle_get(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__GetRequest *get = (const void *)input;
    if (!cfg_may_read(atl_request_principal(request)->service, get->path)) {
        cfg_refuse(request, ATL_E_DENIED, "path", "%s may not read '%s'",
                   atl_request_principal(request)->service, get->path);
        return;
    }
    if (!get->has_linearizable || !get->linearizable) {
        answer_get(cfg, request, get->path);
        return;
    }
    struct getting *getting = atl_arena_new(atl_request_arena(request), struct getting);
    *getting = (struct getting){.cfg = cfg, .request = request, .path = get->path};
    cfg_store_confirm(cfg->store, on_confirmed, getting);
}

static bool wanted(const char *path, char *const *prefixes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (cfg_path_below(path, prefixes[i]))
            return true;
    return count == 0;
}

static void handle_list(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__ListRequest *list = (const void *)input;
    const char *service = atl_request_principal(request)->service;
    if (list->n_prefix > PREFIXES_MAX) {
        cfg_refuse(request, ATL_E_LIMIT, "prefix", "at most %d prefixes", PREFIXES_MAX);
        return;
    }
    const struct cfg_tree *tree = cfg_store_tree(cfg->store);
    struct atl_arena *arena = atl_request_arena(request);
    struct cfg_store_health health;
    Atoll__Store__V1__ListReply reply = ATOLL__STORE__V1__LIST_REPLY__INIT;
    cfg_store_health(cfg->store, &health);
    reply.has_age_ms = health.age_ms != 0;
    reply.age_ms = health.age_ms;
    reply.revision = cfg_new_revision(arena, tree->epoch, tree->number);
    reply.file = atl_arena_array(arena, Atoll__Store__V1__File *, PAGE_FILES_MAX);
    bool content = !(list->has_names_only && list->names_only);
    size_t bytes = 0;
    size_t at = list->after != NULL ? cfg_tree_seek(tree, list->after) : 0;
    for (; at < tree->count && reply.n_file < PAGE_FILES_MAX && bytes < PAGE_BYTES_MAX; at++) {
        const struct cfg_file *file = tree->files[at];
        if ((list->after != NULL && strcmp(file->path, list->after) == 0) ||
            !wanted(file->path, list->prefix, list->n_prefix) || !cfg_may_read(service, file->path))
            continue;
        reply.file[reply.n_file++] = new_file(arena, file, tree->epoch, content);
        bytes += content ? file->size : 0;
    }
    reply.has_more = 1;
    reply.more = at < tree->count;
    atl_request_reply(request, &reply.base);
}

/* --- writing
 * ------------------------------------------------------------------------------------------------ */

static enum atl_code take_compare(const char *service, const Atoll__Store__V1__Compare *message,
                                  struct cfg_compare *compare, struct atl_error *err)
{
    *compare = (struct cfg_compare){.path = message->path};
    if (!cfg_may_read(service, message->path)) /* a compare tells, too */
        return atl_fail(err, ATL_E_DENIED, "path", "%s may not read '%s'", service, message->path);
    int kinds = (message->revision != NULL) + (message->has_absent && message->absent) +
                (message->has_exists && message->exists);
    if (kinds != 1)
        return atl_fail(err, ATL_E_INVALID, "compare", "exactly one of revision, absent, exists is needed");
    if (message->revision != NULL) {
        compare->kind = CFG_AT_REVISION;
        compare->epoch = message->revision->epoch;
        compare->number = message->revision->number;
    } else {
        compare->kind = message->has_absent && message->absent ? CFG_ABSENT : CFG_EXISTS;
    }
    return ATL_OK;
}

static enum atl_code take_operation(const char *service, const Atoll__Store__V1__Operation *message,
                                    struct cfg_op *op, struct atl_error *err)
{
    *op = (struct cfg_op){.path = message->path,
                          .to = message->to,
                          .bytes = message->content.data,
                          .size = message->content.len};
    if (strcmp(message->kind, "put") == 0)
        op->kind = CFG_PUT;
    else if (strcmp(message->kind, "delete") == 0)
        op->kind = CFG_DELETE;
    else if (strcmp(message->kind, "rename") == 0)
        op->kind = CFG_RENAME;
    else
        return atl_fail(err, ATL_E_INVALID, "kind", "'%s' is none of put, delete, rename", message->kind);
    if (op->kind == CFG_RENAME && op->to == NULL)
        return atl_fail(err, ATL_E_INVALID, "to", "a rename needs the new path");
    if (op->kind != CFG_PUT)
        op->size = 0;
    if (!cfg_may_write(service, op->path) || (op->kind == CFG_RENAME && !cfg_may_write(service, op->to)))
        return atl_fail(err, ATL_E_DENIED, "path", "%s may not write '%s'", service, op->path);
    return ATL_OK;
}

/* Does the transaction end with no file of that guest? A guest that moves is not gone. */
static bool guest_goes(const struct cfg_txn *txn, size_t at)
{
    struct cfg_guest_path gone = cfg_guest_path(txn->ops[at].path);
    if (txn->ops[at].kind != CFG_DELETE || gone.type == CFG_NO_GUEST)
        return false;
    for (size_t i = at + 1; i < txn->op_count; i++) {
        const struct cfg_op *op = &txn->ops[i];
        struct cfg_guest_path made = cfg_guest_path(op->kind == CFG_RENAME ? op->to : op->path);
        if (op->kind != CFG_DELETE && made.type != CFG_NO_GUEST && made.vmid == gone.vmid)
            return false;
    }
    return true;
}

static void forget_guest(struct atl_acl *acl, uint32_t vmid)
{
    char id[16];
    char path[24];
    (void)snprintf(id, sizeof id, "%u", vmid);
    (void)snprintf(path, sizeof path, "/vms/%u", vmid);
    for (size_t i = 0; i < acl->pool_count; i++)
        atl_list_drop(&acl->pools[i].guests, id);
    for (size_t i = acl->rule_count; i > 0; i--)
        if (strcmp(acl->rules[i - 1].path, path) == 0)
            (void)atl_acl_drop_rule(acl, &acl->rules[i - 1]); /* it is there */
}

static enum atl_code join_pool(struct atl_acl *acl, const Atoll__Store__V1__Operation *put,
                               struct atl_arena *arena, struct atl_error *err)
{
    char id[16];
    struct cfg_guest_path made = cfg_guest_path(put->path);
    struct atl_pool *pool = atl_acl_pool(acl, put->pool);
    if (strcmp(put->kind, "put") != 0 || made.type == CFG_NO_GUEST)
        return atl_fail(err, ATL_E_INVALID, "pool", "only a guest's new file can join a pool");
    if (pool == NULL)
        return atl_fail(err, ATL_E_ABSENT, "pool", "pool '%s' does not exist", put->pool);
    (void)snprintf(id, sizeof id, "%u", made.vmid);
    if (!atl_list_has(&pool->guests, id))
        atl_list_add(&pool->guests, id, arena);
    return ATL_OK;
}

static bool joins(const Atoll__Store__V1__Operation *operation)
{
    return operation->pool != NULL && operation->pool[0] != '\0';
}

/* What becomes of user.cfg in the same transaction: a guest that is made joins its pool; one that goes leaves
 * its pool and takes the rules on it along, for the next guest of that id must not inherit them. `ops` has
 * room for one more. */
static enum atl_code follow_guests(struct cfg *cfg, const Atoll__Store__V1__TxnRequest *message,
                                   struct cfg_txn *txn, struct cfg_op *ops, struct atl_arena *arena,
                                   struct atl_error *err)
{
    struct atl_acl *acl = NULL;
    size_t size = 0;
    const char *text = cfg_text_ahead(cfg, CFG_USERS, &size);
    for (size_t i = 0; i < message->n_operation; i++) {
        bool goes = guest_goes(txn, i);
        if (!goes && !joins(message->operation[i]))
            continue;
        if (acl == NULL)
            acl = atl_acl_parse(text, size, arena, NULL);
        if (goes)
            forget_guest(acl, cfg_guest_path(txn->ops[i].path).vmid);
        else if (join_pool(acl, message->operation[i], arena, err) != ATL_OK)
            return err->code;
    }
    if (acl == NULL)
        return ATL_OK;
    struct atl_buf out ATL_BUF_AT_EXIT = {0};
    atl_acl_write(acl, &out);
    if (out.length == size && memcmp(out.data, text, size) == 0)
        return ATL_OK;
    if (txn->op_count == CFG_TXN_OPS_MAX)
        return atl_fail(err, ATL_E_LIMIT, "operation",
                        "a transaction with guests that come or go may have %d operations",
                        CFG_TXN_OPS_MAX - 1);
    ops[txn->op_count++] = (struct cfg_op){.kind = CFG_PUT,
                                           .path = CFG_USERS,
                                           .bytes = atl_arena_copy(arena, out.data, out.length),
                                           .size = out.length};
    return ATL_OK;
}

/* Guests under high availability change only while their node holds its lock. */
static enum atl_code guard_guests(const struct cfg *cfg, struct cfg_txn *txn, struct atl_arena *arena,
                                  struct atl_error *err)
{
    struct cfg_ha_guarded guarded;
    enum atl_code code = cfg_ha_guard(cfg_store_ahead(cfg->store), txn, arena, &guarded, err);
    if (code != ATL_OK)
        return code;
    txn->compares = guarded.compares;
    txn->compare_count = guarded.count;
    return ATL_OK;
}

static enum atl_code take_txn(struct cfg *cfg, const char *service,
                              const Atoll__Store__V1__TxnRequest *message, struct atl_arena *arena,
                              struct cfg_txn *txn, struct atl_error *err)
{
    if (message->n_compare > CFG_TXN_COMPARES_MAX || message->n_operation > CFG_TXN_OPS_MAX)
        return atl_fail(err, ATL_E_LIMIT, "operation", "a transaction may have %d compares and %d operations",
                        CFG_TXN_COMPARES_MAX, CFG_TXN_OPS_MAX);
    struct cfg_compare *compares = atl_arena_array(arena, struct cfg_compare, message->n_compare + 1);
    struct cfg_op *ops = atl_arena_array(arena, struct cfg_op, message->n_operation + 2);
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < message->n_compare && code == ATL_OK; i++)
        code = take_compare(service, message->compare[i], &compares[i], err);
    for (size_t i = 0; i < message->n_operation && code == ATL_OK; i++)
        code = take_operation(service, message->operation[i], &ops[i], err);
    *txn = (struct cfg_txn){.compares = compares,
                            .compare_count = message->n_compare,
                            .ops = ops,
                            .op_count = message->n_operation};
    if (code == ATL_OK && strcmp(service, "compute-agent") == 0)
        code = guard_guests(cfg, txn, arena, err);
    return code == ATL_OK ? follow_guests(cfg, message, txn, ops, arena, err) : code;
}

struct writing { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Store__V1__TxnRequest *input;
    unsigned int tries;
    bool waited; /* it changes user.cfg, too, and has waited for its turn */
    bool turn;   /* which it has */
};

static void try_txn(struct writing *writing);

static void end_turn(const struct writing *writing)
{
    if (writing->turn)
        cfg_turns_end(cfg_store_turns(writing->cfg->store), writing->tries > 0);
}

static void answer_txn(const struct cfg_store_result *result, void *user)
{
    struct writing *writing = user;
    size_t asked = writing->input->n_operation;
    bool ours =
        result->code == ATL_E_CONFLICT && result->changed != NULL && strcmp(result->changed, CFG_USERS) == 0;
    for (size_t i = 0; ours && i < asked; i++) /* user.cfg as the caller himself wrote it is his affair */
        ours = strcmp(writing->input->operation[i]->path, CFG_USERS) != 0;
    if (ours && ++writing->tries < CFG_TRIES_MAX && atl_request_remaining(writing->request) > 0) {
        try_txn(writing);
        return;
    }
    end_turn(writing);
    if (result->code != ATL_OK) {
        atl_request_fail(writing->request, &result->error, NULL);
        return;
    }
    Atoll__Store__V1__TxnReply reply = ATOLL__STORE__V1__TXN_REPLY__INIT;
    reply.revision = cfg_new_revision(atl_request_arena(writing->request),
                                      cfg_store_revision(writing->cfg->store).epoch, result->number);
    reply.has_repeated_request = 1;
    reply.repeated_request = result->repeated;
    atl_request_reply(writing->request, &reply.base);
}

static void on_turn(bool taken, void *user)
{
    struct writing *writing = user;
    writing->waited = true;
    writing->turn = taken;
    try_txn(writing);
}

static void try_txn(struct writing *writing)
{
    struct atl_request *request = writing->request;
    struct cfg_turns *turns = cfg_store_turns(writing->cfg->store);
    struct cfg_txn txn = {.op_count = 0};
    struct atl_error error;
    enum atl_code code = take_txn(writing->cfg, atl_request_principal(request)->service, writing->input,
                                  atl_request_arena(request), &txn, &error);
    if (code == ATL_OK && atl_request_remaining(request) <= 0)
        code = atl_fail(&error, ATL_E_DEADLINE, NULL, "too many changes were ahead of this one");
    if (code != ATL_OK) {
        end_turn(writing);
        atl_request_fail(request, &error, NULL);
    } else if (txn.op_count > writing->input->n_operation && turns != NULL && !writing->waited) {
        cfg_turns_wait(turns, on_turn, writing);
    } else {
        cfg_store_txn(writing->cfg->store, &txn, atl_request_id(request), answer_txn, writing);
    }
}

static void handle_txn(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct writing *writing = atl_arena_new(atl_request_arena(request), struct writing);
    *writing = (struct writing){.cfg = user, .request = request, .input = (const void *)input};
    try_txn(writing);
}

static void handle_next_id(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__NextIdRequest *wish = (const void *)input;
    struct atl_error error;
    Atoll__Store__V1__NextIdReply reply = ATOLL__STORE__V1__NEXT_ID_REPLY__INIT;
    if (cfg_next_id(cfg_store_tree(cfg->store), wish->has_vmid ? wish->vmid : 0, &reply.vmid, &error) !=
        ATL_OK)
        atl_request_fail(request, &error, NULL);
    else
        atl_request_reply(request, &reply.base);
}

void cfg_serve_store(struct cfg *cfg)
{
    static const struct atl_handler handlers[] = {
        {"Get", handle_get},           {"List", handle_list},      {"Txn", handle_txn},
        {"Watch", cfg_handle_watch},   {"Lock", cfg_handle_lock},  {"RenewLock", cfg_handle_renew_lock},
        {"Unlock", cfg_handle_unlock}, {"NextId", handle_next_id},
    };
    atl_bus_serve(cfg->bus, &atl_svc_store_v1_Store, handlers, ATL_COUNT(handlers), cfg);
}
