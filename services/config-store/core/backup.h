/* What a backup of the tree holds, and what a restore makes of it and of the tree that is there. Pure. */
#ifndef CFG_CORE_BACKUP_H
#define CFG_CORE_BACKUP_H

#include "core/tree.h"

/*
 * Does a backup hold the file? Not what machines write (.state/: who is where, whose key is whose, locks),
 * not corosync.conf, and not the keys that sign tickets: of all these only the present is right.
 */
bool cfg_backup_covers(const char *path);

/*
 * The tree as it is after a restore: what the backup covers as it was saved, all else as it is now.
 *
 * ret_tree  zeroed; filled also when it fails, the caller frees it
 * Errors: of cfg_tree_load().
 */
ATL_MUST_CHECK enum atl_code cfg_backup_merge(const struct cfg_tree *saved, const struct cfg_tree *now,
                                              struct cfg_tree *ret_tree, struct atl_error *err);

/* Is all that a backup does not cover the same in both trees, revisions included? */
bool cfg_backup_rest_same(const struct cfg_tree *one, const struct cfg_tree *other);

/* The name of a backup: 1 to 64 of letters, digits, '.', '_' and '-', the first no dot. */
bool cfg_backup_name_valid(const char *name);

#endif
