/* Which nodes may have a guest: its storages, as storage.cfg describes them. Pure. */
#ifndef CMP_CORE_MOVE_NODES_H
#define CMP_CORE_MOVE_NODES_H

#include "core/migrate.h"

struct cmp_move_place {
    const char *storage;
    const char *nodes; /* list, or NULL: all */
    bool shared;
    bool disabled;
};

/* Of the text of storage.cfg; what cannot be read is left out. The array lives in the arena. */
const struct cmp_move_place *cmp_move_places(const char *text, struct atl_arena *arena, size_t *ret_count);

/* Do all nodes that may use it see the same? storage NULL or unknown: no. */
bool cmp_move_shared(const struct cmp_move_place *places, size_t count, const char *storage);

/* Storages of these volumes that the node may not use, each once; NULL-terminated, in the arena. */
const char **cmp_move_unavailable(const struct cmp_move_volume *volumes, size_t volume_count,
                                  const struct cmp_move_place *places, size_t place_count, const char *node,
                                  struct atl_arena *arena);

/* Is the address in the network ("10.0.0.0/24")? */
bool cmp_move_in_network(const char *address, const char *network);

#endif
