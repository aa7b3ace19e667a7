/* Clean-ups after creations that were cut off, tried again when one fails. */
#ifndef CMP_LEFT_H
#define CMP_LEFT_H

#include "atoll/storage/v1/volume.pb-c.h"
#include "cmp.h"
#include "core/left.h"
#include "facts.h"

struct cmp_left;

/* Begins the clean-up of the guest anew. In the loop. */
typedef void cmp_left_fn(void *user, uint32_t vmid);

enum { CMP_LEFT_RESERVE_S = 10 }; /* deadline of the transaction that reserves an id */

/* folder: "lxc" or "qemu-server"; facts: its files. Never NULL. To be closed before the mirror and the facts.
 */
struct cmp_left *cmp_left_open(struct cmp *cmp, const char *folder, const struct cmp_facts_table *facts,
                               cmp_left_fn *again, void *user);
void cmp_left_close(struct cmp_left **left);

/* To be called when every file that is there has been looked at, once. A file that reserves an id later is
 * looked at, too, by again(), when the deadline of its request is over: a reservation of which nobody knew
 * whether it was done, and of which it turned out later that it was, belongs to no task. */
void cmp_left_watch(struct cmp_left *left);

/* For the specification of a creation, in the arena. */
Atoll__Bus__V1__Revision *cmp_left_reserved(struct atl_revision revision, struct atl_arena *arena);

/* Whether the file is still the one that the creation has reserved. NULL, as of tasks of versions that did
 * not write it down: true. */
bool cmp_left_is_of(const struct atl_file *file, const Atoll__Bus__V1__Revision *reserved);

/* A clean-up of this guest has failed, and its file is still there: again() is called later, unless the file
 * changes before. After CMP_LEFT_TRIES it is given up until the agent begins anew. */
void cmp_left_failed(struct cmp_left *left, uint32_t vmid);

/* What cmp_left_keeps() wants, in the arena: asked for before a guest is made. */
char **cmp_left_before(const Atoll__Storage__V1__ListOfGuestReply *list, struct atl_arena *arena,
                       size_t *ret_count);

#endif
