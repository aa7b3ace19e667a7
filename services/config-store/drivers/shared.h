/*
 * An engine that other nodes write too: transactions go in and are decided there; what is decided, by
 * whomever it was asked, comes back as changes of the tree.
 */
#ifndef CFG_SHARED_H
#define CFG_SHARED_H

#include "core/plan.h"
#include "drivers/engine.h"
#include "grpc/grpc.h"

struct cfg_shared_options {
    struct atl_loop *loop;
    const char *const *endpoints;
    size_t endpoint_count;
    const char *home;               /* see struct atl_grpc_options; NULL */
    const struct atl_grpc_tls *tls; /* NULL: none, for tests */
    const char *seal_key; /* file of the key that priv/ is encrypted with (drivers/seal.h); NULL: it is not */
    uint64_t seed;
    uint64_t quota_bytes; /* as etcd was started with; 0: 2 GiB, etcd's own */
    atl_ns compact_every; /* older history than this is given up; 0: 5 min */
    atl_ns space_every;   /* how often it is looked whether space can be given back; 0: 10 min */
    atl_ns write_timeout; /* then the outcome of a write that is on its way is unknown; 0: 5 s */
};

/* Where what is decided goes. `listing` begins a whole tree, which ends with `changed`; else `changed` ends
 * one revision. */
struct cfg_shared_feed {
    void *user;
    void (*listing)(void *user, uint64_t epoch);
    void (*file)(void *user, const struct cfg_engine_change *file);
    void (*request)(void *user, const uint8_t id[CFG_REQUEST_ID_SIZE], uint64_t number);
    void (*changed)(void *user, uint64_t number);
};

enum cfg_shared_outcome {
    CFG_SHARED_DONE,
    CFG_SHARED_LOST,   /* a compare did not hold; what was new has been fed. Surely not done. */
    CFG_SHARED_FAILED, /* surely not done */
    CFG_SHARED_UNKNOWN,
};
struct cfg_shared_result {
    enum cfg_shared_outcome outcome;
    uint64_t number; /* of the revision, when it was done; it has been fed */
    bool repeated;   /* it was done by an earlier request of that id */
    struct atl_error error;
};
typedef void cfg_shared_done_fn(const struct cfg_shared_result *result, void *user);
typedef void cfg_shared_confirm_fn(enum atl_code code, const struct atl_error *error, void *user);

/* How it is, for those who look after it. */
struct cfg_shared_health {
    uint64_t database_bytes; /* 0: not known yet */
    uint64_t used_bytes;
    uint64_t quota_bytes;
    bool no_space; /* an alarm: nothing is taken until there is space */
    bool corrupt;  /* an alarm: members differ */
};

struct cfg_shared_driver {
    const char *kind;
    /* Feeds nothing yet. Errors: ATL_E_INVALID. */
    enum atl_code (*open)(const struct cfg_shared_options *options, const struct cfg_shared_feed *feed,
                          void **ret_self, struct atl_error *err);
    /* id: of the request; the same id is never done twice. fn comes once, from the loop. */
    void (*submit)(void *self, const struct cfg_plan *plan, const uint8_t id[CFG_REQUEST_ID_SIZE],
                   cfg_shared_done_fn *fn, void *user);
    /* Calls fn when all that was decided before this call has been fed. Errors: ATL_E_UNAVAILABLE. */
    void (*confirm)(void *self, cfg_shared_confirm_fn *fn, void *user);
    /* How old what was fed may be; 0: as of now. Writes are refused while `writable` is false. */
    atl_ns (*age)(const void *self, bool *ret_writable);
    void (*health)(const void *self, struct cfg_shared_health *ret_health);
    /* The key that priv/ is encrypted with has changed: reads its file anew. Errors: of cfg_seal_load(). */
    enum atl_code (*rekey)(void *self, const char *path, struct atl_error *err);
    /* Where etcd's members are from now on; copied. Errors: ATL_E_INVALID. */
    enum atl_code (*set_members)(void *self, const char *const *endpoints, size_t count,
                                 struct atl_error *err);
    /* Why nothing has been fed yet, for a start that takes too long. */
    const char *(*why)(const void *self);
    void (*close)(void *self);
};

extern const struct cfg_shared_driver cfg_shared_etcd;

#endif
