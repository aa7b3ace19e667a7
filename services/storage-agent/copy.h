/*
 * Copies of volumes, each a job that is asked about (volume.proto, ImportWait): from an image, to another
 * node, from another node. Nothing of one that does not end well is left.
 */
#ifndef STO_COPY_H
#define STO_COPY_H

#include <stdatomic.h>

#include "io/stream.h"
#include "sto.h"

enum sto_copy_state { STO_COPY_RUNNING, STO_COPY_DONE, STO_COPY_FAILED };

struct sto_copy {
    struct sto_work work; /* first */
    struct sto_copy *next;
    struct sto_copies *copies;
    char id[33];
    struct sto_config config; /* in arena; storage points into it */
    struct atl_arena arena;
    const struct sto_storage *storage;
    const struct sto_driver *driver; /* of storage */
    struct sto_slot slot;            /* what is made; fd -1 and no name: nothing is */
    int source;                      /* what is read, or -1 */
    enum sto_format source_format;
    uint64_t size_bytes;                /* as the guest sees it */
    void (*act)(struct sto_copy *copy); /* in a thread; fills err, and leaves nothing when it does */
    uint32_t importing;                 /* into a volume of this guest; 0: no import */
    bool is_moving;                     /* to or from another node */
    bool unasked;                       /* goes on when nobody asks: the other node's end of it is asked */
    struct atl_stream_offer offer;      /* to another node */
    struct atl_stream_server *server;   /* from another node */
    uint64_t limit_bytes_s;
    int stop;             /* an eventfd, for those who wait for the other node */
    atomic_uint progress; /* 0..10000 */
    atomic_bool cancel;
    enum sto_copy_state state;
    struct atl_error err;
    atl_ns asked_at;
    atl_ns ended_at;
    struct sto_waiter *waiters;
};

/* A new one on that storage, in the list. NULL: err says why, ATL_E_LIMIT there are too many. */
struct sto_copy *sto_copy_new(struct sto *sto, const char *storage, struct atl_error *err);
/* Drops what it has made so far, and frees it. */
void sto_copy_abandon(struct sto_copy *copy);
/* Hands it to the pool. Errors: ATL_E_UNAVAILABLE the queue is full; it is still the caller's then. */
ATL_MUST_CHECK enum atl_code sto_copy_start(struct sto_copy *copy, struct sto_pool *pool,
                                            void (*act)(struct sto_copy *copy), struct atl_error *err);
/* How many are under way to or from other nodes. */
size_t sto_copies_moving(const struct sto_copies *copies);

/* In a thread: what the image at copy->source is; fills size_bytes. name is for errors.
 * Errors: ATL_E_INVALID none, or it rests on another file. */
ATL_MUST_CHECK enum atl_code sto_copy_read_source(struct sto_copy *copy, const char *name,
                                                  struct atl_error *err);

#endif
