/* Moves a tree into etcd. */
#include "drivers/etcd_move.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/etcd_internal.h"

#define MOVE_TIMEOUT (10 * ATL_MINUTE)
#define PAUSE        (100 * ATL_MS)
#define MOVER        "/atoll/mover" /* whoever moves now: its revision fences all others */
enum { PART_FILES = 64, PART_BYTES = 1 << 20 };

struct mover {
    const struct cfg_move_options *options;
    struct atl_loop *loop;
    struct atl_grpc *channel;
    atl_ns deadline;
    struct cfg_seal seal;
    struct cfg_tree tree;
    struct cfg_engine_request *requests;
    size_t request_count;
    char digest[CFG_ETCD_DIGEST + 1];
    struct cfg_etcd_root root; /* as it is in etcd; epoch 0: none */
    int64_t root_revision;
    int64_t mover_revision;
    uint64_t epoch; /* of the tree as it will be */
    int64_t lease;
};

/* --- one call at a time, waited for ------------------------------------------------------------------- */

struct waited {
    bool done;
    enum atl_code code;
    struct atl_error error;
    enum atl_etcd_outcome outcome;
    int64_t revision;
    bool succeeded;
    bool found;
    int64_t found_revision;
    struct cfg_etcd_root root;
    int64_t lease;
};

static void take_range(struct waited *waited, const Etcd__RangeResponse *range)
{
    waited->revision = range->header->revision;
    waited->found = range->n_kvs > 0;
    if (!waited->found)
        return;
    waited->found_revision = range->kvs[0]->mod_revision;
    waited->code = cfg_etcd_root_parse(&range->kvs[0]->value, &waited->root, &waited->error);
}

static void on_answer(const struct atl_etcd_answer *answer, void *user)
{
    struct waited *waited = user;
    *waited = (struct waited){
        .done = true, .code = answer->code, .error = answer->error, .outcome = answer->outcome};
    if (answer->message == NULL)
        return;
    if (answer->message->descriptor == &etcd__range_response__descriptor) {
        take_range(waited, (const Etcd__RangeResponse *)answer->message);
    } else if (answer->message->descriptor == &etcd__txn_response__descriptor) {
        const Etcd__TxnResponse *txn = (const Etcd__TxnResponse *)answer->message;
        waited->succeeded = txn->succeeded;
        waited->revision = txn->header->revision;
    } else if (answer->message->descriptor == &etcd__lease_grant_response__descriptor) {
        waited->lease = ((const Etcd__LeaseGrantResponse *)answer->message)->id;
    }
}

/* Tries until the deadline: what is asked may be asked twice. */
static struct waited ask(struct mover *mover, enum atl_etcd_method method, const ProtobufCMessage *request)
{
    struct waited waited = {.code = ATL_E_UNAVAILABLE};
    for (;;) {
        waited.done = false;
        (void)atl_etcd_call(mover->channel, method, request, 10 * ATL_SECOND, on_answer, &waited);
        while (!waited.done)
            atl_loop_step(mover->loop, ATL_SECOND);
        bool again = waited.code == ATL_E_UNAVAILABLE || waited.code == ATL_E_DEADLINE;
        if (!again || atl_clock_monotonic() >= mover->deadline)
            return waited;
        for (atl_ns until = atl_clock_monotonic() + PAUSE; atl_clock_monotonic() < until;)
            atl_loop_step(mover->loop, PAUSE);
    }
}

static enum atl_code fail(const struct waited *waited, const char *doing, struct atl_error *err)
{
    return atl_fail(err, waited->code, NULL, "%s failed: %s", doing, waited->error.text);
}

static enum atl_code fenced(struct atl_error *err)
{
    return atl_fail(err, ATL_E_CONFLICT, NULL, "somebody else moves a tree into this etcd");
}

static enum atl_code told(const struct mover *mover, enum cfg_move_step step, struct atl_error *err)
{
    if (mover->options->step == NULL || mover->options->step(step, mover->options->user))
        return ATL_OK;
    return atl_fail(err, ATL_E_CANCELLED, NULL, "the move was ended");
}

/* --- the source --------------------------------------------------------------------------------------- */

static void take_revision(void *user, uint64_t epoch, uint64_t number)
{
    (void)number; /* in etcd each file gets one of etcd's */
    cfg_tree_init(&((struct mover *)user)->tree, epoch);
}

static enum atl_code take_file(void *user, const struct cfg_engine_change *file, struct atl_error *err)
{
    struct mover *mover = user;
    return cfg_tree_load(&mover->tree, file->path, file->bytes, file->size, file->number, err);
}

static void take_request(void *user, const struct cfg_engine_request *request)
{
    struct mover *mover = user;
    mover->requests = atl_realloc(mover->requests, (mover->request_count + 1) * sizeof mover->requests[0]);
    mover->requests[mover->request_count++] = *request;
}

/* The digest of a tree: each path and each content with its length in front. */
static void digest_add(EVP_MD_CTX *context, const void *bytes, size_t size)
{
    uint8_t length[8];
    for (size_t i = 0; i < sizeof length; i++)
        length[i] = (uint8_t)((uint64_t)size >> (8 * i));
    int rc = EVP_DigestUpdate(context, length, sizeof length);
    atl_assert(rc == 1);
    rc = EVP_DigestUpdate(context, bytes, size);
    atl_assert(rc == 1);
}

static EVP_MD_CTX *digest_new(void)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    atl_assert(context != NULL);
    int rc = EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    atl_assert(rc == 1);
    return context;
}

static void digest_end(EVP_MD_CTX *context, char ret_digest[CFG_ETCD_DIGEST + 1])
{
    uint8_t bytes[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    int rc = EVP_DigestFinal_ex(context, bytes, &size);
    atl_assert(rc == 1);
    atl_assert(size == CFG_ETCD_DIGEST / 2);
    for (size_t i = 0; i < size; i++)
        (void)snprintf(ret_digest + 2 * i, 3, "%02x", bytes[i]);
    EVP_MD_CTX_free(context);
}

static void digest_tree(struct mover *mover)
{
    EVP_MD_CTX *context = digest_new();
    for (size_t i = 0; i < mover->tree.count; i++) {
        const struct cfg_file *file = mover->tree.files[i];
        digest_add(context, file->path, strlen(file->path));
        digest_add(context, file->bytes, file->size);
    }
    digest_end(context, mover->digest);
}

static enum atl_code read_source(struct mover *mover, struct atl_error *err)
{
    const struct cfg_engine_sink sink = {
        .user = mover, .revision = take_revision, .file = take_file, .request = take_request};
    enum atl_code code = mover->options->driver->load(mover->options->engine, &sink, err);
    if (code == ATL_OK)
        digest_tree(mover);
    return code;
}

/* --- the steps ---------------------------------------------------------------------------------------- */

static enum atl_code read_root(struct mover *mover, struct atl_error *err)
{
    Etcd__RangeRequest request = ETCD__RANGE_REQUEST__INIT;
    request.key = cfg_etcd_text(CFG_ETCD_ROOT);
    struct waited waited = ask(mover, ATL_ETCD_RANGE, &request.base);
    if (waited.code != ATL_OK)
        return fail(&waited, "reading the root", err);
    mover->root = waited.root;
    mover->root_revision = waited.found_revision;
    return ATL_OK;
}

static enum atl_code delete_prefix(struct mover *mover, uint64_t epoch, struct atl_error *err)
{
    char prefix[CFG_ETCD_PREFIX_MAX];
    uint8_t end[CFG_ETCD_PREFIX_MAX];
    cfg_etcd_prefix(epoch, prefix);
    Etcd__DeleteRangeRequest request = ETCD__DELETE_RANGE_REQUEST__INIT;
    request.key = cfg_etcd_text(prefix);
    request.range_end.len = atl_etcd_prefix_end((const uint8_t *)prefix, strlen(prefix), end);
    request.range_end.data = end;
    struct waited waited = ask(mover, ATL_ETCD_DELETE, &request.base);
    return waited.code == ATL_OK ? ATL_OK : fail(&waited, "removing an older tree", err);
}

/* From here on nobody else's load or switch succeeds. */
static enum atl_code fence(struct mover *mover, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_etcd_txn txn;
    cfg_etcd_txn_init(&txn, &arena);
    (void)cfg_etcd_txn_compare(&txn, cfg_etcd_text(CFG_ETCD_ROOT), mover->root_revision);
    cfg_etcd_txn_put(&txn, cfg_etcd_text(MOVER), cfg_etcd_text(mover->digest), 0);
    struct waited waited = ask(mover, ATL_ETCD_TXN, &txn.request.base);
    if (waited.code != ATL_OK)
        return fail(&waited, "beginning the move", err);
    if (!waited.succeeded)
        return fenced(err);
    mover->mover_revision = waited.revision;
    Etcd__LeaseGrantRequest grant = ETCD__LEASE_GRANT_REQUEST__INIT;
    grant.ttl = ETCD_LEASE_SECONDS;
    waited = ask(mover, ATL_ETCD_LEASE_GRANT, &grant.base);
    mover->lease = waited.lease;
    return waited.code == ATL_OK ? ATL_OK : fail(&waited, "asking for a lease", err);
}

static enum atl_code send_part(struct mover *mover, struct cfg_etcd_txn *txn, struct atl_error *err)
{
    (void)cfg_etcd_txn_compare(txn, cfg_etcd_text(MOVER), mover->mover_revision);
    struct waited waited = ask(mover, ATL_ETCD_TXN, &txn->request.base);
    if (waited.code != ATL_OK)
        return fail(&waited, "loading the tree", err);
    return waited.succeeded ? told(mover, CFG_MOVE_LOADING, err) : fenced(err);
}

static void add_file(struct mover *mover, struct cfg_etcd_txn *txn, const struct cfg_file *file)
{
    struct cfg_guest_path guest = cfg_guest_path(file->path);
    struct cfg_sealed sealed = {
        .epoch = mover->epoch, .path = file->path, .bytes = file->bytes, .size = file->size};
    cfg_seal_close(&mover->seal, &sealed, txn->arena);
    cfg_etcd_txn_put(txn, cfg_etcd_file_key(txn->arena, mover->epoch, file->path),
                     (ProtobufCBinaryData){.len = sealed.size, .data = (uint8_t *)(uintptr_t)sealed.bytes},
                     0);
    if (guest.type != CFG_NO_GUEST)
        cfg_etcd_txn_put(txn, cfg_etcd_guest_key(txn->arena, mover->epoch, guest.vmid),
                         cfg_etcd_text(file->path), 0);
}

static enum atl_code load_files(struct mover *mover, struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < mover->tree.count && code == ATL_OK;) {
        struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
        struct cfg_etcd_txn txn;
        cfg_etcd_txn_init(&txn, &arena);
        size_t bytes = 0;
        size_t count = 0;
        do {
            bytes += mover->tree.files[i]->size;
            add_file(mover, &txn, mover->tree.files[i++]);
        } while (++count < PART_FILES && i < mover->tree.count &&
                 bytes + mover->tree.files[i]->size <= PART_BYTES);
        code = send_part(mover, &txn, err);
    }
    return code;
}

static enum atl_code load_requests(struct mover *mover, struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < mover->request_count && code == ATL_OK;) {
        struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
        struct cfg_etcd_txn txn;
        cfg_etcd_txn_init(&txn, &arena);
        for (size_t count = 0; count < PART_FILES && i < mover->request_count; count++, i++)
            cfg_etcd_txn_put(&txn, cfg_etcd_request_key(&arena, mover->epoch, mover->requests[i].id),
                             cfg_etcd_text("done"), mover->lease);
        code = send_part(mover, &txn, err);
    }
    return code;
}

struct verify {
    char prefix[CFG_ETCD_PREFIX_MAX];
    EVP_MD_CTX *context;
    const struct mover *mover;
    size_t guests;
    bool done;
    bool broken; /* the error says why */
    enum atl_code code;
    struct atl_error error;
};

static bool on_key(const Etcd__KeyValue *kv, void *user)
{
    struct verify *verify = user;
    struct cfg_etcd_key key;
    cfg_etcd_key_parse(verify->prefix, &kv->key, &key);
    verify->guests += key.kind == CFG_ETCD_GUEST;
    if (key.kind != CFG_ETCD_FILE)
        return true;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_sealed file = {
        .epoch = verify->mover->epoch, .path = key.path, .bytes = kv->value.data, .size = kv->value.len};
    verify->broken =
        verify->broken || cfg_seal_open(&verify->mover->seal, &file, &arena, &verify->error) != ATL_OK;
    digest_add(verify->context, key.path, strlen(key.path));
    digest_add(verify->context, file.bytes, file.size);
    return true;
}

static void on_listed(enum atl_code code, const struct atl_error *error, int64_t revision, void *user)
{
    (void)revision;
    struct verify *verify = user;
    verify->done = true;
    verify->code = code;
    if (code != ATL_OK)
        verify->error = *error;
}

/* etcd lists keys in the order of their bytes, which is the order of the tree. */
static enum atl_code read_back(struct mover *mover, struct atl_error *err)
{
    struct verify verify = {.context = digest_new(), .mover = mover};
    char digest[CFG_ETCD_DIGEST + 1];
    cfg_etcd_prefix(mover->epoch, verify.prefix);
    (void)atl_etcd_list_new(mover->channel, &(const struct atl_etcd_list_options){.prefix = verify.prefix,
                                                                                  .timeout = 30 * ATL_SECOND,
                                                                                  .key = on_key,
                                                                                  .end = on_listed,
                                                                                  .user = &verify});
    while (!verify.done)
        atl_loop_step(mover->loop, ATL_SECOND);
    digest_end(verify.context, digest);
    if (verify.code != ATL_OK)
        return atl_fail(err, verify.code, NULL, "reading back failed: %s", verify.error.text);
    if (verify.broken || strcmp(digest, mover->digest) != 0 || verify.guests != mover->tree.guest_count)
        return atl_fail(err, ATL_E_IO, NULL, "the tree in etcd is not the one that was loaded");
    return ATL_OK;
}

static enum atl_code switch_root(struct mover *mover, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct cfg_etcd_txn txn;
    cfg_etcd_txn_init(&txn, &arena);
    (void)cfg_etcd_txn_compare(&txn, cfg_etcd_text(CFG_ETCD_ROOT), mover->root_revision);
    (void)cfg_etcd_txn_compare(&txn, cfg_etcd_text(MOVER), mover->mover_revision);
    cfg_etcd_txn_put(&txn, cfg_etcd_text(CFG_ETCD_ROOT),
                     cfg_etcd_text(atl_arena_format(&arena, "%" PRIu64 " %s", mover->epoch, mover->digest)),
                     0);
    cfg_etcd_txn_delete(&txn, cfg_etcd_text(MOVER));
    struct waited waited = ask(mover, ATL_ETCD_TXN, &txn.request.base);
    if (waited.code == ATL_OK && waited.succeeded)
        return ATL_OK;
    /* An attempt whose answer was lost may have done it: the root tells. */
    enum atl_code code = read_root(mover, err);
    if (code != ATL_OK)
        return code;
    if (mover->root.epoch == mover->epoch && strcmp(mover->root.digest, mover->digest) == 0)
        return ATL_OK;
    return waited.code != ATL_OK ? fail(&waited, "switching to the new tree", err) : fenced(err);
}

static enum atl_code load_and_switch(struct mover *mover, struct atl_error *err)
{
    uint64_t before = mover->root.epoch;
    mover->epoch = (before > mover->tree.epoch ? before : mover->tree.epoch) + 1;
    enum atl_code code = fence(mover, err);
    if (code == ATL_OK)
        code = delete_prefix(mover, mover->epoch, err);
    if (code == ATL_OK)
        code = told(mover, CFG_MOVE_CLEANED, err);
    if (code == ATL_OK)
        code = load_files(mover, err);
    if (code == ATL_OK)
        code = load_requests(mover, err);
    if (code == ATL_OK)
        code = told(mover, CFG_MOVE_LOADED, err);
    if (code == ATL_OK)
        code = read_back(mover, err);
    if (code == ATL_OK)
        code = told(mover, CFG_MOVE_VERIFIED, err);
    if (code == ATL_OK)
        code = switch_root(mover, err);
    if (code == ATL_OK)
        code = told(mover, CFG_MOVE_SWITCHED, err);
    if (code == ATL_OK && before != 0)
        code = delete_prefix(mover, before, err);
    return code;
}

static enum atl_code move(struct mover *mover, struct atl_error *err)
{
    enum atl_code code = read_source(mover, err);
    if (code == ATL_OK)
        code = read_root(mover, err);
    if (code != ATL_OK)
        return code;
    if (mover->root.epoch != 0 && !mover->options->replace) {
        mover->epoch = mover->root.epoch;
        if (strcmp(mover->root.digest, mover->digest) == 0)
            return ATL_OK;
        return atl_fail(err, ATL_E_EXISTS, NULL, "this etcd holds another tree already");
    }
    return load_and_switch(mover, err);
}

enum atl_code cfg_etcd_move(const struct cfg_move_options *options, uint64_t *ret_epoch,
                            struct atl_error *err)
{
    struct mover mover = {.options = options, .loop = options->to->loop};
    mover.deadline = atl_clock_monotonic() + (options->timeout != 0 ? options->timeout : MOVE_TIMEOUT);
    const struct atl_grpc_options grpc = {.loop = options->to->loop,
                                          .endpoints = options->to->endpoints,
                                          .endpoint_count = options->to->endpoint_count,
                                          .tls = options->to->tls,
                                          .message_max = 96 << 20, /* a page of files */
                                          .seed = options->to->seed};
    enum atl_code code = cfg_seal_load(options->to->seal_key, &mover.seal, err);
    if (code == ATL_OK)
        code = atl_grpc_new(&grpc, &mover.channel, err);
    if (code != ATL_OK)
        return code;
    code = move(&mover, err);
    if (code == ATL_OK)
        *ret_epoch = mover.epoch;
    atl_grpc_free(&mover.channel);
    cfg_tree_done(&mover.tree);
    free(mover.requests);
    explicit_bzero(&mover.seal, sizeof mover.seal);
    return code;
}
