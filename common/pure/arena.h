/* Memory that is given back all at once: what cores and codecs allocate from. */
#ifndef ATL_PURE_ARENA_H
#define ATL_PURE_ARENA_H

#include "pure/base.h"

struct atl_arena_chunk;

/* An embedded value; all zero is a valid empty arena without a limit. Belongs to one thread. */
struct atl_arena {
    struct atl_arena_chunk *chunk; /* newest chunk, linked to the older ones */
    size_t used_bytes;             /* given out since init or the last reset */
    size_t limit_bytes;            /* 0: none; reaching it is a bug of the caller and asserts */
};

void atl_arena_init(struct atl_arena *arena, size_t limit_bytes);

/* Frees everything; the arena may be used again. */
void atl_arena_done(struct atl_arena *arena);

/* Forgets everything but keeps one chunk, for reuse in a loop. */
void atl_arena_reset(struct atl_arena *arena);

/* Zeroed memory, aligned for any type, valid until done or reset. Never NULL. */
void *atl_arena_alloc(struct atl_arena *arena, size_t size);
char *atl_arena_strdup(struct atl_arena *arena, const char *text);
char *atl_arena_strndup(struct atl_arena *arena, const char *text, size_t length);
void *atl_arena_copy(struct atl_arena *arena, const void *bytes, size_t size);
ATL_PRINTF(2, 3) char *atl_arena_format(struct atl_arena *arena, const char *format, ...);

/* Makes room for one more item in an arena array; returns the array, which may have moved. */
void *atl_arena_grow(struct atl_arena *arena, void *array, size_t count, size_t *capacity, size_t item_size);

#define atl_arena_new(arena, type)          ((type *)atl_arena_alloc(arena, sizeof(type)))
#define atl_arena_array(arena, type, count) ((type *)atl_arena_alloc(arena, sizeof(type) * (count)))
#define ATL_ARENA_AT_EXIT                   ATL_CLEANUP(atl_arena_done)

#endif
