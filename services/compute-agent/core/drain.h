/* Where the guests of a node go that is emptied: by free memory. Pure. */
#ifndef CMP_CORE_DRAIN_H
#define CMP_CORE_DRAIN_H

#include "pure/base.h"

struct cmp_drain_guest {
    uint32_t vmid;
    uint64_t memory_bytes; /* that it takes while it runs; 0: it does not run */
    const char *target;    /* out; NULL: it stays, no node has room */
};

struct cmp_drain_node {
    const char *name;
    uint64_t free_bytes; /* in and out: what is left after all that go there */
};

/*
 * Each guest, the largest first, goes to the node that has most memory free then, if it fits in with a
 * sixteenth of the node's free memory to spare; equal ones go by name. Guests that do not run go there, too,
 * and take nothing. guests are sorted anew, by size and then id.
 */
void cmp_drain_place(struct cmp_drain_guest *guests, size_t count, struct cmp_drain_node *nodes,
                     size_t node_count);

#endif
