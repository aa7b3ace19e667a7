/* Where the guests of a node go that is emptied. */
#include "core/drain.h"

#include <stdlib.h>
#include <string.h>

static int by_size(const void *a, const void *b)
{
    const struct cmp_drain_guest *left = a;
    const struct cmp_drain_guest *right = b;
    if (left->memory_bytes != right->memory_bytes)
        return left->memory_bytes > right->memory_bytes ? -1 : 1;
    return left->vmid < right->vmid ? -1 : left->vmid > right->vmid;
}

static struct cmp_drain_node *roomiest(struct cmp_drain_node *nodes, size_t count)
{
    struct cmp_drain_node *best = NULL;
    for (size_t i = 0; i < count; i++)
        if (best == NULL || nodes[i].free_bytes > best->free_bytes ||
            (nodes[i].free_bytes == best->free_bytes && strcmp(nodes[i].name, best->name) < 0))
            best = &nodes[i];
    return best;
}

void cmp_drain_place(struct cmp_drain_guest *guests, size_t count, struct cmp_drain_node *nodes,
                     size_t node_count)
{
    if (count > 1)
        qsort(guests, count, sizeof *guests, by_size);
    for (size_t i = 0; i < count; i++) {
        struct cmp_drain_node *node = roomiest(nodes, node_count);
        uint64_t spare = node != NULL ? node->free_bytes - node->free_bytes / 16 : 0;
        guests[i].target = NULL;
        if (node == NULL || guests[i].memory_bytes > spare)
            continue;
        guests[i].target = node->name;
        node->free_bytes -= guests[i].memory_bytes;
    }
}
