/* What etcd's answers mean, without I/O: was a write done; which events belong together. */
#ifndef ATL_ETCD_CORE_H
#define ATL_ETCD_CORE_H

#include "etcd/etcd.pb-c.h"
#include "pure/error.h"

enum atl_etcd_outcome {
    ATL_ETCD_NOT_DONE, /* surely */
    ATL_ETCD_DONE,
    ATL_ETCD_UNKNOWN, /* only reading tells, or a retry that compares */
};

/* How a call ended; see struct atl_grpc_end. */
struct atl_etcd_ending {
    enum atl_code code;
    bool sent;
    bool remote;
    const char *text;
};
enum atl_etcd_outcome atl_etcd_outcome(const struct atl_etcd_ending *ending);

/* The key behind all keys that begin with `prefix`, into ret_end of at least `size` bytes. The prefix must
 * have a byte below 0xff, which all of ours have. Returns the length of the end. */
size_t atl_etcd_prefix_end(const uint8_t *prefix, size_t size, uint8_t *ret_end);

/*
 * Puts a watch together: parts of one answer, revisions as a whole, nothing twice. All of it is plain memory;
 * events are owned here until atl_etcd_events_next() has moved past them.
 */
struct atl_etcd_events {
    Etcd__Event **events;
    size_t count;
    size_t room;
    size_t given; /* of `events`, to the caller */
    size_t ready; /* of `events`: whole revisions */
    int64_t seen; /* revision up to which all was given */
};
enum { ATL_ETCD_EVENTS_MAX = 1 << 20 }; /* of one answer, with all its parts */

void atl_etcd_events_init(struct atl_etcd_events *events, int64_t seen);
void atl_etcd_events_done(struct atl_etcd_events *events);
/* Takes the events out of an answer. Errors: ATL_E_INVALID an answer that cannot be; ATL_E_LIMIT. */
ATL_MUST_CHECK enum atl_code atl_etcd_events_add(struct atl_etcd_events *events, Etcd__WatchResponse *answer,
                                                 struct atl_error *err);
/* The events of the next whole revision, borrowed until the next call; 0: none. */
size_t atl_etcd_events_next(struct atl_etcd_events *events, Etcd__Event *const **ret_events);

#endif
