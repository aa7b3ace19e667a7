/* Clean-ups after creations that were cut off, tried again when one fails. */
#ifndef CMP_LEFT_H
#define CMP_LEFT_H

#include "atoll/storage/v1/volume.pb-c.h"
#include "cmp.h"
#include "core/left.h"

struct cmp_left;

/* Begins the clean-up of the guest anew. In the loop. */
typedef void cmp_left_fn(void *user, uint32_t vmid);

/* folder: "lxc" or "qemu-server". Never NULL. To be closed before the mirror. */
struct cmp_left *cmp_left_open(struct cmp *cmp, const char *folder, cmp_left_fn *again, void *user);
void cmp_left_close(struct cmp_left **left);

/* A clean-up of this guest has failed, and its file is still there: again() is called later, unless the file
 * changes before. After CMP_LEFT_TRIES it is given up until the agent begins anew. */
void cmp_left_failed(struct cmp_left *left, uint32_t vmid);

/* What cmp_left_keeps() wants, in the arena: asked for before a guest is made. */
char **cmp_left_before(const Atoll__Storage__V1__ListOfGuestReply *list, struct atl_arena *arena,
                       size_t *ret_count);

#endif
