/* The last changes of the tree, for watchers: which paths changed behind a revision. Bounded; what is older
 * is gone. */
#ifndef CFG_RING_H
#define CFG_RING_H

#include "pure/base.h"

enum { CFG_RING_MAX = 65536 };

struct cfg_ring_entry {
    uint64_t number;
    char *path;
};

struct cfg_ring {
    struct cfg_ring_entry *entries; /* CFG_RING_MAX of them, made at the first change */
    size_t first;                   /* index of the oldest */
    size_t count;
    uint64_t complete_after; /* all changes behind this revision are in the ring */
};

/* number: revision of the tree as it was loaded. */
void cfg_ring_init(struct cfg_ring *ring, uint64_t number);
void cfg_ring_done(struct cfg_ring *ring);
/* Notes a change; revisions never go down. */
void cfg_ring_add(struct cfg_ring *ring, uint64_t number, const char *path);
/* Are all changes behind `number` still here? */
bool cfg_ring_reaches(const struct cfg_ring *ring, uint64_t number);
/* Position of the first change behind `number`; go on with position + 1 while it is < ring->count. */
size_t cfg_ring_seek(const struct cfg_ring *ring, uint64_t number);
const struct cfg_ring_entry *cfg_ring_at(const struct cfg_ring *ring, size_t position);

#endif
