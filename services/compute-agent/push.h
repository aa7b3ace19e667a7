/* Tells config-store's status view what this node's guests do: all of it first, then what changed. */
#ifndef CMP_PUSH_H
#define CMP_PUSH_H

#include "cmp.h"

struct cmp_push;

struct cmp_push *cmp_push_open(struct cmp *cmp);
void cmp_push_close(struct cmp_push **push);

/* Something changed that should be seen soon; many calls make one push. */
void cmp_push_soon(struct cmp_push *push);

#endif
