/*
 * The last applied tree of a cluster, kept in a file of this node (STATE/last.db, 0600): what is served when
 * the cluster has no leader at the start. Written in a thread of its own, in batches, a little behind the
 * tree; it may be older than the tree, but never shows half of a change.
 */
#ifndef CFG_COPY_H
#define CFG_COPY_H

#include "core/tree.h"
#include "io/loop.h"

struct cfg_copy;

/*
 * Loads what is there. A file that cannot be read is begun anew, and the log says so.
 *
 * tree      empty; out: as it was kept. Borrowed until the close: batches are made of it.
 * ret_age   out: how long ago the tree was last known to be the cluster's; 0: nothing was kept
 * Errors: ATL_E_IO, ATL_E_LIMIT another process holds it.
 */
ATL_MUST_CHECK enum atl_code cfg_copy_open(struct atl_loop *loop, const char *state_dir,
                                           struct cfg_tree *tree, struct cfg_copy **ret_copy, atl_ns *ret_age,
                                           struct atl_error *err);
/* Writes what is left. */
void cfg_copy_close(struct cfg_copy **copy);
/* The tree has changed there. */
void cfg_copy_note(struct cfg_copy *copy, const char *path);
/* The tree was confirmed to be the cluster's. */
void cfg_copy_confirmed(struct cfg_copy *copy);

#endif
