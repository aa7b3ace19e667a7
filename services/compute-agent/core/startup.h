/* The order in which guests start with the node and stop with it. */
#ifndef CMP_CORE_STARTUP_H
#define CMP_CORE_STARTUP_H

#include "pure/base.h"

struct cmp_startup {
    uint32_t vmid;
    bool has_order;
    uint32_t order;
    uint32_t up_s;   /* wait after its start, before the next group */
    uint32_t down_s; /* time it has to shut down; 0: the default */
};

enum { CMP_DOWN_DEFAULT_S = 180 };

/* Reads "order=1,up=30,down=60", or a bare number; NULL or nonsense: no order, no delays. */
void cmp_startup_parse(const char *text, uint32_t vmid, struct cmp_startup *ret_startup);

/* Sorts: those with an order first, by it, then by id. Shut down in the opposite direction. */
void cmp_startup_sort(struct cmp_startup *list, size_t count);

/* May the guest at `next` begin to start together with the one before it? (same order, no delay) */
bool cmp_startup_together(const struct cmp_startup *list, size_t next);

/* How many of a sorted list shut down at the same time, counted from the end; left: those still there. */
size_t cmp_shutdown_group(const struct cmp_startup *list, size_t left);

#endif
