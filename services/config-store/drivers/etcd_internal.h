/* What the files of the etcd engine know of each other. */
#ifndef CFG_ETCD_INTERNAL_H
#define CFG_ETCD_INTERNAL_H

#include "drivers/etcd_keys.h"
#include "drivers/shared.h"
#include "etcd/etcd.h"

#define ETCD_CALL_TIMEOUT (2 * ATL_SECOND) /* of one attempt */
/* The first attempts of a write: what went to a leader that died is never answered, and may be sent again. */
#define ETCD_WRITE_TIMEOUT (400 * ATL_MS)
/* So long an election may take before the store counts as read-only. Meanwhile writes wait; what is not of
 * .state/ waits longer: a member may begin anew, and its administrator would only be told to try again. */
#define ETCD_GRACE         ATL_SECOND
#define ETCD_PATIENCE      (3 * ATL_SECOND)
#define ETCD_CONFIRM_EVERY ATL_SECOND
#define ETCD_CONFIRM_AGAIN (200 * ATL_MS) /* after one that failed */
#define ETCD_UPKEEP_EVERY  (10 * ATL_SECOND)
enum {
    ETCD_LEASE_SECONDS = 1800, /* of a lease that holds recorded requests */
    ETCD_LEASE_USED = 600,     /* then the next one is used: each request is kept 20 minutes at least */
    ETCD_FULL_PERCENT = 80,
};

struct etcd_write {
    struct etcd_write *next;
    struct etcd_engine *engine;
    const struct cfg_plan *plan; /* borrowed until the end */
    uint8_t id[CFG_REQUEST_ID_SIZE];
    cfg_shared_done_fn *fn;
    void *user;
    struct atl_etcd_call *call;
    struct atl_timer *again;
    atl_ns began;
    atl_ns deadline;
    int64_t root_revision; /* of the tree it was planned on */
    int64_t barred; /* revision at which the request's key was taken, so that it is not done; 0: it was not */
    unsigned int attempts;
    bool open;    /* an attempt went out and was not answered: it may be done yet */
    bool barring; /* the call on its way makes sure that it is not */
    bool decided; /* waits until `revision` has been fed */
    int64_t revision;
    struct cfg_shared_result result;
};

struct etcd_confirm {
    struct etcd_confirm *next;
    struct etcd_engine *engine;
    struct atl_etcd_call *call; /* NULL: answered, waits until `revision` has been fed */
    int64_t revision;
    atl_ns began;
    cfg_shared_confirm_fn *fn; /* NULL: the engine's own */
    void *user;
};

struct etcd_engine {
    struct atl_loop *loop;
    struct atl_grpc *channel;
    struct cfg_shared_options options;
    struct cfg_shared_feed feed;
    struct cfg_seal seal;
    /* the copy */
    uint64_t epoch; /* 0: no tree yet */
    int64_t root_revision;
    char prefix[CFG_ETCD_PREFIX_MAX];
    struct atl_etcd_call *root_call;
    struct atl_etcd_list *list;
    struct atl_etcd_watch *watch;
    struct atl_timer *again;
    int64_t seen;    /* fed up to this revision */
    bool stale;      /* a whole listing is needed */
    bool broken;     /* what comes in holds something that cannot be read; `why` names it */
    bool unreadable; /* the same, until a whole listing could be read */
    bool feeding;
    /* writes */
    struct etcd_write *writes;
    int64_t lease;      /* 0: none yet */
    int64_t lease_born; /* wall clock, seconds */
    struct atl_etcd_call *lease_call;
    /* whether it is well */
    struct etcd_confirm *confirms;
    bool looking; /* its own confirm is on its way */
    struct atl_timer *confirm_timer;
    atl_ns confirmed; /* when the last confirm that was answered began; 0: never */
    bool writable;
    atl_ns failing; /* since when confirms have failed; 0: they do not */
    struct atl_timer *upkeep_timer;
    struct atl_etcd_call *upkeep_call;
    bool full;
    uint64_t database_bytes; /* of the member that was asked last; 0: not known */
    uint64_t used_bytes;
    struct etcd_space *space;
    struct atl_timer *compact_timer;
    struct atl_etcd_call *compact_call;
    int64_t compact_to; /* what was fed one period ago */
    int64_t compacting; /* by the call */
    int64_t compacted;  /* up to this revision, by this node or another one; 0: not known */
    char why[ATL_TEXT_MAX];
};

struct etcd_space;

/* etcd.c */
void etcd_load(struct etcd_engine *engine); /* root, listing, watch */
void etcd_fed(struct etcd_engine *engine);  /* `seen` has moved */

/* etcd_write.c */
void etcd_submit(void *self, const struct cfg_plan *plan, const uint8_t id[CFG_REQUEST_ID_SIZE],
                 cfg_shared_done_fn *fn, void *user);
void etcd_writes_fed(struct etcd_engine *engine);
void etcd_writes_drop(struct etcd_engine *engine);

/* etcd_keep.c */
void etcd_keep_start(struct etcd_engine *engine);
void etcd_keep_stop(struct etcd_engine *engine);
void etcd_confirm(void *self, cfg_shared_confirm_fn *fn, void *user);
void etcd_confirms_fed(struct etcd_engine *engine);
void etcd_compact(struct etcd_engine *engine, int64_t revision); /* history up to there is given up */
void etcd_lost_sight(
    struct etcd_engine *engine); /* a call failed as if there were no quorum: looks at once */

/* etcd_space.c */
struct etcd_space *etcd_space_new(struct etcd_engine *engine);
void etcd_space_free(struct etcd_space **space);
/* Its members are these from the next round on; copied. */
void etcd_space_set_members(struct etcd_space *space, const char *const *endpoints, size_t count);
/* Space is needed: history is given up now, and the next round comes at once. May be called again and again.
 */
void etcd_space_hurry(struct etcd_space *space);
void etcd_space_ask(struct etcd_space *space); /* for alarms */
void etcd_space_alarms(const struct etcd_space *space, bool *ret_no_space, bool *ret_corrupt);

#endif
