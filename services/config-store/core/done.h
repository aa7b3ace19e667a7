/* Requests that were done in the last ten minutes: a retry gets the old answer. Bounded; time comes in. */
#ifndef CFG_DONE_H
#define CFG_DONE_H

#include "pure/base.h"

enum { CFG_DONE_ID_SIZE = 16, CFG_DONE_MAX = 262144, CFG_DONE_LIFE = 600 /* seconds */, CFG_DONE_SLACK = 60 };

struct cfg_done_entry {
    struct cfg_done_entry *next_same; /* of the same bucket */
    struct cfg_done_entry *newer;
    uint8_t id[CFG_DONE_ID_SIZE];
    uint64_t number; /* revision that it made */
    int64_t at;      /* wall clock, seconds */
};

struct cfg_done {
    struct cfg_done_entry **buckets;
    struct cfg_done_entry *oldest;
    struct cfg_done_entry *newest;
    size_t count;
};

void cfg_done_init(struct cfg_done *done);
void cfg_done_free(struct cfg_done *done);
/* Notes a request; the oldest goes when there are too many. */
void cfg_done_add(struct cfg_done *done, const uint8_t id[CFG_DONE_ID_SIZE], uint64_t number, int64_t at);
/* The entry, or NULL. */
const struct cfg_done_entry *cfg_done_find(const struct cfg_done *done, const uint8_t id[CFG_DONE_ID_SIZE]);
/* Drops what is older than ten minutes, once a minute; returns the newest revision that went, 0: nothing did.
 */
uint64_t cfg_done_forget(struct cfg_done *done, int64_t now);

#endif
