/* Requests that were done. */
#include "core/done.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 16384 };

void cfg_done_init(struct cfg_done *done)
{
    *done = (struct cfg_done){.buckets = atl_alloc0(BUCKETS * sizeof done->buckets[0])};
}

/* Ids are random: any of their bytes is a hash. */
static struct cfg_done_entry **bucket(const struct cfg_done *done, const uint8_t *id)
{
    uint32_t hash;
    memcpy(&hash, id, sizeof hash);
    return &done->buckets[hash % BUCKETS];
}

static void drop_oldest(struct cfg_done *done)
{
    struct cfg_done_entry *entry = done->oldest;
    struct cfg_done_entry **link = bucket(done, entry->id);
    while (*link != entry)
        link = &(*link)->next_same;
    *link = entry->next_same;
    done->oldest = entry->newer;
    if (done->oldest == NULL)
        done->newest = NULL;
    done->count--;
    free(entry);
}

void cfg_done_free(struct cfg_done *done)
{
    while (done->oldest != NULL)
        drop_oldest(done);
    free(done->buckets);
    *done = (struct cfg_done){0};
}

void cfg_done_add(struct cfg_done *done, const uint8_t id[CFG_DONE_ID_SIZE], uint64_t number, int64_t at)
{
    if (done->count == CFG_DONE_MAX)
        drop_oldest(done);
    struct cfg_done_entry *entry = atl_new0(struct cfg_done_entry);
    memcpy(entry->id, id, CFG_DONE_ID_SIZE);
    entry->number = number;
    entry->at = at;
    struct cfg_done_entry **first = bucket(done, id);
    entry->next_same = *first;
    *first = entry;
    if (done->newest != NULL)
        done->newest->newer = entry;
    else
        done->oldest = entry;
    done->newest = entry;
    done->count++;
}

const struct cfg_done_entry *cfg_done_find(const struct cfg_done *done, const uint8_t id[CFG_DONE_ID_SIZE])
{
    for (const struct cfg_done_entry *entry = *bucket(done, id); entry != NULL; entry = entry->next_same)
        if (memcmp(entry->id, id, CFG_DONE_ID_SIZE) == 0)
            return entry;
    return NULL;
}

uint64_t cfg_done_forget(struct cfg_done *done, int64_t now)
{
    uint64_t number = 0;
    if (done->oldest == NULL || done->oldest->at >= now - CFG_DONE_LIFE - CFG_DONE_SLACK)
        return 0;
    while (done->oldest != NULL && done->oldest->at < now - CFG_DONE_LIFE) {
        number = done->oldest->number;
        drop_oldest(done);
    }
    return number;
}
