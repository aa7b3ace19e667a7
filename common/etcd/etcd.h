/*
 * An etcd v3 client on a gRPC channel (grpc/grpc.h): calls, listing, watching, leases, snapshots. Messages
 * are those of proto/etcd. All functions belong to the loop's thread; callbacks come from the loop.
 *
 * etcd must be started with --max-txn-ops=1024 and --max-request-bytes=8388608, so that a transaction of 100
 * objects fits in.
 */
#ifndef ATL_ETCD_ETCD_H
#define ATL_ETCD_ETCD_H

#include "etcd/core.h"
#include "grpc/grpc.h"

enum atl_etcd_method {
    ATL_ETCD_RANGE,
    ATL_ETCD_PUT,
    ATL_ETCD_DELETE,
    ATL_ETCD_TXN,
    ATL_ETCD_COMPACT,
    ATL_ETCD_LEASE_GRANT,
    ATL_ETCD_LEASE_REVOKE,
    ATL_ETCD_MEMBER_LIST,
    ATL_ETCD_MEMBER_ADD,
    ATL_ETCD_MEMBER_REMOVE,
    ATL_ETCD_MEMBER_PROMOTE,
    ATL_ETCD_ALARM,
    ATL_ETCD_STATUS,
    ATL_ETCD_DEFRAGMENT,
    ATL_ETCD_METHODS,
};

struct atl_etcd_answer {
    enum atl_code code;
    struct atl_error error;
    enum atl_etcd_outcome outcome;   /* for writes; a read that failed was simply not done */
    const ProtobufCMessage *message; /* with ATL_OK: the method's response, borrowed for the call */
};
typedef void atl_etcd_fn(const struct atl_etcd_answer *answer, void *user);

struct atl_etcd_call;
/*
 * Calls a method. Writes and linearizable reads are refused at once by a member that has no leader.
 *
 * request  the method's request; packed at once
 * fn       called once
 */
struct atl_etcd_call *atl_etcd_call(struct atl_grpc *channel, enum atl_etcd_method method,
                                    const ProtobufCMessage *request, atl_ns timeout, atl_etcd_fn *fn,
                                    void *user);
void atl_etcd_cancel(struct atl_etcd_call *call); /* no callback */

/* --- all keys with a prefix, in pages, at one revision --- */

struct atl_etcd_list;
struct atl_etcd_list_options {
    const char *prefix; /* copied */
    int64_t revision;   /* 0: now */
    bool serializable;
    bool keys_only;
    unsigned int page; /* keys at a time; 0: 64, so that a page of files of 1 MiB is not over 64 MiB */
    atl_ns timeout;    /* of each page */
    /* One key; false ends it. Borrowed for the call. */
    bool (*key)(const Etcd__KeyValue *kv, void *user);
    /* Once, last. revision: that of all that was listed. */
    void (*end)(enum atl_code code, const struct atl_error *error, int64_t revision, void *user);
    void *user;
};
struct atl_etcd_list *atl_etcd_list_new(struct atl_grpc *channel,
                                        const struct atl_etcd_list_options *options);
void atl_etcd_list_free(struct atl_etcd_list **list); /* NULL is fine; not after end() */

/* --- watching --- */

struct atl_etcd_watch;
struct atl_etcd_watch_options {
    const char *prefix; /* copied; "": all keys */
    int64_t after;      /* events behind this revision */
    /* All events of one revision; none twice, none left out. Borrowed for the call. */
    void (*events)(int64_t revision, Etcd__Event *const *events, size_t count, void *user);
    /* It follows, or has lost its member or the leader and tries again by itself. May be NULL. */
    void (*state)(bool following, void *user);
    /* What is wanted is compacted: list again and make a new watch. Once, last. */
    void (*compacted)(int64_t revision, void *user);
    void *user;
};
struct atl_etcd_watch *atl_etcd_watch_new(struct atl_grpc *channel, struct atl_loop *loop,
                                          const struct atl_etcd_watch_options *options);
void atl_etcd_watch_free(struct atl_etcd_watch **watch); /* NULL is fine; also within its callbacks */

/* --- leases: for soft state only --- */

struct atl_etcd_lease;
struct atl_etcd_lease_options {
    int64_t ttl_s;
    void (*granted)(int64_t id, void *user); /* each time: after a loss it gets a new one */
    void (*lost)(void *user);                /* it has run out; the next one is asked for */
    void *user;
};
/* Gets a lease, keeps it alive, and gets another when it is lost. */
struct atl_etcd_lease *atl_etcd_lease_new(struct atl_grpc *channel, struct atl_loop *loop,
                                          const struct atl_etcd_lease_options *options);
void atl_etcd_lease_free(struct atl_etcd_lease **lease); /* it runs out by itself; NULL is fine */

/* --- a snapshot of the member's database --- */

/* piece: borrowed bytes, in order. end: once, last. The call may be cancelled with atl_grpc_cancel(). */
struct atl_etcd_snapshot {
    void (*piece)(const uint8_t *bytes, size_t size, void *user);
    void (*end)(enum atl_code code, const struct atl_error *error, void *user);
    void *user;
    struct atl_grpc_call *call;
    bool whole; /* the last piece has come */
};
/* snapshot: the caller's, with piece, end and user set; must live until the end. */
void atl_etcd_snapshot_start(struct atl_grpc *channel, struct atl_etcd_snapshot *snapshot);

#endif
