/* A bump allocator over chunks that double in size. */
#include "pure/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CHUNK = 4096, LARGEST_CHUNK = 1 << 20, ALIGNMENT = 16 };

struct atl_arena_chunk {
    struct atl_arena_chunk *older;
    size_t size; /* bytes behind this header */
    size_t used;
    _Alignas(16) unsigned char bytes[];
};

void atl_arena_init(struct atl_arena *arena, size_t limit_bytes)
{
    *arena = (struct atl_arena){.limit_bytes = limit_bytes};
}

void atl_arena_done(struct atl_arena *arena)
{
    for (struct atl_arena_chunk *chunk = arena->chunk; chunk != NULL;) {
        struct atl_arena_chunk *older = chunk->older;
        free(chunk);
        chunk = older;
    }
    arena->chunk = NULL;
    arena->used_bytes = 0;
}

void atl_arena_reset(struct atl_arena *arena)
{
    struct atl_arena_chunk *kept = arena->chunk;
    if (kept != NULL) {
        arena->chunk = kept->older;
        atl_arena_done(arena);
        kept->older = NULL;
        memset(kept->bytes, 0, kept->used);
        kept->used = 0;
        arena->chunk = kept;
    }
    arena->used_bytes = 0;
}

static void add_chunk(struct atl_arena *arena, size_t needed)
{
    size_t size = arena->chunk == NULL ? FIRST_CHUNK : arena->chunk->size * 2;
    if (size > LARGEST_CHUNK)
        size = LARGEST_CHUNK;
    if (size < needed)
        size = needed;
    struct atl_arena_chunk *chunk = atl_alloc0(sizeof *chunk + size);
    chunk->size = size;
    chunk->older = arena->chunk;
    arena->chunk = chunk;
}

void *atl_arena_alloc(struct atl_arena *arena, size_t size)
{
    atl_assert(size < SIZE_MAX / 2);
    size_t rounded = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    arena->used_bytes += rounded;
    atl_assert(arena->limit_bytes == 0 || arena->used_bytes <= arena->limit_bytes);
    if (arena->chunk == NULL || arena->chunk->size - arena->chunk->used < rounded)
        add_chunk(arena, rounded);
    void *memory = arena->chunk->bytes + arena->chunk->used;
    arena->chunk->used += rounded;
    return memory;
}

void *atl_arena_copy(struct atl_arena *arena, const void *bytes, size_t size)
{
    void *copy = atl_arena_alloc(arena, size);
    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

char *atl_arena_strndup(struct atl_arena *arena, const char *text, size_t length)
{
    length = strnlen(text, length);
    char *copy = atl_arena_alloc(arena, length + 1);
    memcpy(copy, text, length);
    return copy;
}

char *atl_arena_strdup(struct atl_arena *arena, const char *text)
{
    return atl_arena_copy(arena, text, strlen(text) + 1);
}

char *atl_arena_format(struct atl_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    atl_assert(length >= 0);
    char *text = atl_arena_alloc(arena, (size_t)length + 1);
    (void)vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void *atl_arena_grow(struct atl_arena *arena, void *array, size_t count, size_t *capacity, size_t item_size)
{
    if (count < *capacity)
        return array;
    size_t wanted = *capacity == 0 ? 8 : *capacity * 2;
    void *larger = atl_arena_alloc(arena, wanted * item_size);
    if (count > 0)
        memcpy(larger, array, count * item_size);
    *capacity = wanted;
    return larger;
}
