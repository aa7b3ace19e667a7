/* A chained hash map by request id. The ids are random already, so their first bytes are the hash. */
#include <stdlib.h>
#include <string.h>

#include "io/bus_internal.h"

enum { FIRST_BUCKETS = 64 };

static size_t bucket_of(const struct bus_map *map, const uint8_t *id)
{
    uint64_t start = 0;
    memcpy(&start, id, sizeof start);
    return (size_t)(start * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (map->size - 1);
}

static void grow(struct bus_map *map)
{
    struct bus_map bigger = {.size = map->size == 0 ? FIRST_BUCKETS : map->size * 2};
    bigger.buckets = atl_alloc0(bigger.size * sizeof(struct bus_node *));
    for (size_t i = 0; i < map->size; i++)
        while (map->buckets[i] != NULL) {
            struct bus_node *node = map->buckets[i];
            map->buckets[i] = node->next;
            size_t to = bucket_of(&bigger, node->id);
            node->next = bigger.buckets[to];
            bigger.buckets[to] = node;
        }
    bigger.count = map->count;
    free(map->buckets);
    *map = bigger;
}

void atl_bus_map_add(struct bus_map *map, struct bus_node *node)
{
    if (map->count >= map->size)
        grow(map);
    size_t at = bucket_of(map, node->id);
    node->next = map->buckets[at];
    map->buckets[at] = node;
    map->count++;
}

void atl_bus_map_remove(struct bus_map *map, struct bus_node *node)
{
    atl_assert(map->count > 0);
    struct bus_node **link = &map->buckets[bucket_of(map, node->id)];
    while (*link != node) {
        atl_assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = node->next;
    map->count--;
}

struct bus_node *atl_bus_map_find(const struct bus_map *map, const uint8_t *id)
{
    if (map->count == 0)
        return NULL;
    struct bus_node *node = map->buckets[bucket_of(map, id)];
    while (node != NULL && memcmp(node->id, id, ATL_REQUEST_ID_SIZE) != 0)
        node = node->next;
    return node;
}

void atl_bus_map_done(struct bus_map *map)
{
    atl_assert(map->count == 0);
    free(map->buckets);
    *map = (struct bus_map){0};
}
