/*
 * The tree in etcd:
 *
 *   /atoll/root            which tree is the current one: "EPOCH SHA256" (of the tree as it was loaded)
 *   /atoll/t/EPOCH/f/PATH  a file (below priv/ encrypted: drivers/seal.h); its revision is etcd's of its last
 * change. EPOCH: 16 hexadecimal digits /atoll/t/EPOCH/i/VMID  a guest id in use; the path of the guest's file
 *   /atoll/t/EPOCH/r/ID    a request that was done, or "never" when it must not be done any more
 *
 * etcd belongs to Atoll alone: nothing else may write there, or readers wait for revisions they do not see.
 */
#ifndef CFG_ETCD_KEYS_H
#define CFG_ETCD_KEYS_H

#include "core/plan.h"
#include "drivers/engine.h"
#include "drivers/seal.h"
#include "etcd/core.h"

#define CFG_ETCD_ROOT  "/atoll/root"
#define CFG_ETCD_NEVER "never"
enum {
    CFG_ETCD_PREFIX_MAX = 32,
    CFG_ETCD_KEY_MAX = CFG_ETCD_PREFIX_MAX + CFG_PATH_MAX + 4,
    CFG_ETCD_DIGEST = 64
};

/* "/atoll/t/EPOCH/" */
void cfg_etcd_prefix(uint64_t epoch, char ret_prefix[CFG_ETCD_PREFIX_MAX]);
ProtobufCBinaryData cfg_etcd_text(const char *text);
ProtobufCBinaryData cfg_etcd_file_key(struct atl_arena *arena, uint64_t epoch, const char *path);
ProtobufCBinaryData cfg_etcd_guest_key(struct atl_arena *arena, uint64_t epoch, uint32_t vmid);
ProtobufCBinaryData cfg_etcd_request_key(struct atl_arena *arena, uint64_t epoch, const uint8_t *id);

struct cfg_etcd_root {
    uint64_t epoch;
    char digest[CFG_ETCD_DIGEST + 1]; /* SHA-256 in hexadecimal, small letters */
};
/* Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cfg_etcd_root_parse(const ProtobufCBinaryData *value,
                                                 struct cfg_etcd_root *ret_root, struct atl_error *err);

/* What a key below a prefix is. */
enum cfg_etcd_kind { CFG_ETCD_OTHER, CFG_ETCD_FILE, CFG_ETCD_GUEST, CFG_ETCD_REQUEST };
struct cfg_etcd_key {
    enum cfg_etcd_kind kind;
    char path[CFG_PATH_MAX + 1]; /* CFG_ETCD_FILE: checked */
    uint8_t id[CFG_REQUEST_ID_SIZE];
};
void cfg_etcd_key_parse(const char *prefix, const ProtobufCBinaryData *key, struct cfg_etcd_key *ret_key);

/* Builds compares and operations of one transaction in an arena. */
struct cfg_etcd_txn {
    struct atl_arena *arena;
    Etcd__TxnRequest request;
    size_t compare_room;
    size_t success_room;
    size_t failure_room;
};
void cfg_etcd_txn_init(struct cfg_etcd_txn *txn, struct atl_arena *arena);
/* Holds if the key was last changed by that revision; 0: if it is not there. */
Etcd__Compare *cfg_etcd_txn_compare(struct cfg_etcd_txn *txn, ProtobufCBinaryData key, int64_t revision);
void cfg_etcd_txn_put(struct cfg_etcd_txn *txn, ProtobufCBinaryData key, ProtobufCBinaryData value,
                      int64_t lease);
void cfg_etcd_txn_delete(struct cfg_etcd_txn *txn, ProtobufCBinaryData key);
/* Read when a compare does not hold. */
void cfg_etcd_txn_else_read(struct cfg_etcd_txn *txn, ProtobufCBinaryData key);

struct cfg_etcd_request {
    const struct cfg_plan *plan;
    const struct cfg_seal *seal;
    const uint8_t *id;
    int64_t barred;        /* revision of the request's key when it says CFG_ETCD_NEVER; 0: it is not there */
    int64_t root_revision; /* of CFG_ETCD_ROOT as it is known */
    int64_t lease;         /* of what is recorded */
};
/* The whole transaction of a plan. The request's key is read when it is refused. */
void cfg_etcd_txn_plan(struct cfg_etcd_txn *txn, const struct cfg_etcd_request *write);

#endif
