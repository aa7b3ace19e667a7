/*
 * A file system for SQLite that lives in memory and loses power: what was written and not synced is gone, or
 * there in part, in any order, torn at sectors.
 */
#ifndef POWER_VFS_H
#define POWER_VFS_H

#include "pure/base.h"

/* Registers the VFS "power" and empties its disk. seed: of what survives. */
void power_vfs_start(uint64_t seed);
/* The power goes at the operation that many writes, syncs, truncations and deletions from now; each fails
 * from then on. UINT64_MAX: never. */
void power_vfs_fail_after(uint64_t operations);
/* Operations that were done since the start. */
uint64_t power_vfs_operations(void);
/* Power is back: files are as the disk kept them. All handles must be closed. */
void power_vfs_restart(void);
void power_vfs_end(void);

#endif
