/* Which nodes may have a guest. */
#include "core/move_nodes.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/storage/v1/storage.atl.h"
#include "atoll/storage/v1/storage.pb-c.h"

static bool shared_type(const char *type)
{
    static const char *const shared[] = {"cephfs", "cifs", "glusterfs", "iscsi", "iscsidirect",
                                         "nfs",    "pbs",  "rbd",       "zfs"};
    for (size_t i = 0; i < ATL_COUNT(shared); i++)
        if (strcmp(type, shared[i]) == 0)
            return true;
    return false;
}

const struct cmp_move_place *cmp_move_places(const char *text, struct atl_arena *arena, size_t *ret_count)
{
    struct atl_section *sections = NULL;
    size_t count = 0;
    size_t used = 0;
    *ret_count = 0;
    if (atl_sections_decode(&atl_msg_storage_v1_Entry, "type", "storage", text, strlen(text), arena,
                            &sections, &count, NULL) != ATL_OK)
        return NULL;
    struct cmp_move_place *places = atl_arena_array(arena, struct cmp_move_place, count + 1);
    for (size_t i = 0; i < count; i++) {
        const Atoll__Storage__V1__Entry *entry = (const Atoll__Storage__V1__Entry *)sections[i].message;
        const Atoll__Storage__V1__Config *config = entry->config;
        if (entry->storage == NULL || entry->type == NULL)
            continue;
        places[used++] = (struct cmp_move_place){
            .storage = entry->storage,
            .nodes = config != NULL ? config->nodes : NULL,
            .shared = shared_type(entry->type) || (config != NULL && config->has_shared && config->shared),
            .disabled = config != NULL && config->has_disable && config->disable};
    }
    *ret_count = used;
    return places;
}

static const struct cmp_move_place *find(const struct cmp_move_place *places, size_t count,
                                         const char *storage)
{
    for (size_t i = 0; storage != NULL && i < count; i++)
        if (strcmp(places[i].storage, storage) == 0)
            return &places[i];
    return NULL;
}

bool cmp_move_shared(const struct cmp_move_place *places, size_t count, const char *storage)
{
    const struct cmp_move_place *place = find(places, count, storage);
    return place != NULL && place->shared;
}

const char **cmp_move_unavailable(const struct cmp_move_volume *volumes, size_t volume_count,
                                  const struct cmp_move_place *places, size_t place_count, const char *node,
                                  struct atl_arena *arena)
{
    const char **missing = atl_arena_array(arena, const char *, volume_count + 1);
    size_t count = 0;
    for (size_t i = 0; i < volume_count; i++) {
        const struct cmp_move_place *place = find(places, place_count, volumes[i].storage);
        bool known = volumes[i].storage == NULL;
        for (size_t k = 0; !known && k < count; k++)
            known = strcmp(missing[k], volumes[i].storage) == 0;
        bool fits =
            place != NULL && !place->disabled && (place->nodes == NULL || cmp_list_has(place->nodes, node));
        if (!known && !fits)
            missing[count++] = volumes[i].storage;
    }
    missing[count] = NULL;
    return missing;
}

bool cmp_move_in_network(const char *address, const char *network)
{
    unsigned char ours[16] = {0};
    unsigned char theirs[16] = {0};
    char base[64];
    const char *slash = strchr(network, '/');
    int family = strchr(network, ':') != NULL ? AF_INET6 : AF_INET;
    if (slash == NULL || (size_t)(slash - network) >= sizeof base)
        return false;
    memcpy(base, network, (size_t)(slash - network));
    base[slash - network] = '\0';
    unsigned long bits = strtoul(slash + 1, NULL, 10);
    if (bits > (family == AF_INET ? 32 : 128) || inet_pton(family, address, ours) != 1 ||
        inet_pton(family, base, theirs) != 1)
        return false;
    for (unsigned long i = 0; i < bits; i++)
        if (((ours[i / 8] ^ theirs[i / 8]) >> (7 - i % 8) & 1) != 0)
            return false;
    return true;
}
