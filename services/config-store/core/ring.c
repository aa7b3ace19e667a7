/* The last changes of the tree. */
#include "core/ring.h"

#include <stdlib.h>
#include <string.h>

void cfg_ring_init(struct cfg_ring *ring, uint64_t number)
{
    *ring = (struct cfg_ring){.complete_after = number};
}

void cfg_ring_done(struct cfg_ring *ring)
{
    for (size_t i = 0; ring->entries != NULL && i < CFG_RING_MAX; i++)
        free(ring->entries[i].path);
    free(ring->entries);
    *ring = (struct cfg_ring){0};
}

const struct cfg_ring_entry *cfg_ring_at(const struct cfg_ring *ring, size_t position)
{
    atl_assert(position < ring->count);
    return &ring->entries[(ring->first + position) % CFG_RING_MAX];
}

void cfg_ring_add(struct cfg_ring *ring, uint64_t number, const char *path)
{
    atl_assert(ring->count == 0 || cfg_ring_at(ring, ring->count - 1)->number <= number);
    if (ring->entries == NULL)
        ring->entries = atl_alloc0(CFG_RING_MAX * sizeof ring->entries[0]);
    if (ring->count == CFG_RING_MAX) {
        /* Other changes of the same revision may stay behind: it is no longer whole, so it no longer counts.
         */
        ring->complete_after = ring->entries[ring->first].number;
        ring->first = (ring->first + 1) % CFG_RING_MAX;
        ring->count--;
    }
    struct cfg_ring_entry *entry = &ring->entries[(ring->first + ring->count) % CFG_RING_MAX];
    free(entry->path);
    *entry = (struct cfg_ring_entry){.number = number, .path = atl_strdup(path)};
    ring->count++;
}

bool cfg_ring_reaches(const struct cfg_ring *ring, uint64_t number)
{
    return number >= ring->complete_after;
}

size_t cfg_ring_seek(const struct cfg_ring *ring, uint64_t number)
{
    size_t low = 0;
    size_t high = ring->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (cfg_ring_at(ring, middle)->number <= number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
