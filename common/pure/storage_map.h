/* Where volumes go that move: the parameters `targetstorage` and `target-storage`. */
#ifndef ATL_PURE_STORAGE_MAP_H
#define ATL_PURE_STORAGE_MAP_H

#include "pure/arena.h"
#include "pure/error.h"

/* "a:b,c:d,e": the pair of the storage, else the single word; "1", NULL and "": the same storage. The answer
 * is `storage` itself or lives in the arena. */
const char *atl_storage_map(const char *map, const char *storage, struct atl_arena *arena);

/* Says what is wrong with a map whose words are well formed: two single words, two pairs of one source. */
void atl_storage_map_check(const char *map, const char *field, struct atl_errors *errors);

/* Storages that it sends volumes to, as they stand; NULL-terminated. */
const char **atl_storage_map_targets(const char *map, struct atl_arena *arena);

#endif
