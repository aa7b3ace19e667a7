/* What a container takes along to another node, and what speaks against it. */
#include "core/lxc_migrate.h"

#include <stdio.h>
#include <string.h>

#include "core/lxc_volume.h"
#include "pure/storage_map.h"

/* Calls fn for the place of each volume id that a configuration has. */
typedef void place_fn(const char *name, char **place, bool said_shared, void *user);

static void each_place(Atoll__Lxc__V1__Config *config, place_fn *fn, void *user)
{
    char name[24];
    if (config == NULL)
        return;
    if (config->rootfs != NULL && config->rootfs->volume != NULL)
        fn("rootfs", &config->rootfs->volume, config->rootfs->has_shared && config->rootfs->shared, user);
    for (size_t i = 0; i < config->n_mp; i++) {
        Atoll__Lxc__V1__Mp *mp = config->mp[i]->value;
        if (mp == NULL || mp->volume == NULL)
            continue;
        (void)snprintf(name, sizeof name, "mp%" PRIu32, config->mp[i]->index);
        fn(name, &mp->volume, mp->has_shared && mp->shared, user);
    }
    for (size_t i = 0; i < config->n_unused; i++) {
        Atoll__Lxc__V1__Unused *unused = config->unused[i]->value;
        if (unused == NULL || unused->volume == NULL)
            continue;
        (void)snprintf(name, sizeof name, "unused%" PRIu32, config->unused[i]->index);
        fn(name, &unused->volume, false, user);
    }
}

static void each_place_of(const struct cmp_lxc_doc *doc, place_fn *fn, void *user)
{
    for (size_t i = 0; i < doc->count; i++)
        each_place(((Atoll__Lxc__V1__File *)doc->sections[i].message)->config, fn, user);
}

/* --- what there is --- */

struct listing {
    struct atl_arena *arena;
    struct cmp_lxc_move *moves;
    size_t count;
    size_t room;
};

static void list_one(const char *name, char **place, bool said_shared, void *user)
{
    struct listing *listing = user;
    for (size_t i = 0; i < listing->count; i++)
        if (strcmp(listing->moves[i].volid, *place) == 0)
            return;
    listing->moves = atl_arena_grow(listing->arena, listing->moves, listing->count, &listing->room,
                                    sizeof *listing->moves);
    listing->moves[listing->count++] =
        (struct cmp_lxc_move){.name = atl_arena_strdup(listing->arena, name),
                              .volid = *place,
                              .said_shared = said_shared,
                              .storage = cmp_lxc_volume_store(*place, listing->arena)};
}

struct cmp_lxc_move *cmp_lxc_moves(const struct cmp_lxc_doc *doc, size_t *ret_count)
{
    struct listing listing = {.arena = doc->arena};
    each_place_of(doc, list_one, &listing);
    *ret_count = listing.count;
    return listing.moves;
}

bool cmp_lxc_move_is_volume(const struct cmp_lxc_move *move)
{
    return move->storage != NULL;
}

const char **cmp_lxc_move_bridges(const struct cmp_lxc_doc *doc)
{
    const Atoll__Lxc__V1__Config *config = doc->now->config;
    const char **bridges = atl_arena_array(doc->arena, const char *, config->n_net + 1);
    size_t count = 0;
    for (size_t i = 0; i < config->n_net; i++) {
        const Atoll__Lxc__V1__Net *net = config->net[i]->value;
        bool there = net == NULL || net->bridge == NULL;
        for (size_t k = 0; !there && k < count; k++)
            there = strcmp(bridges[k], net->bridge) == 0;
        if (!there)
            bridges[count++] = net->bridge;
    }
    return bridges;
}

/* --- the plan --- */

static bool can_be_sent(const char *format)
{
    static const char *const formats[] = {"raw", "qcow2", "subvol"};
    for (size_t i = 0; i < ATL_COUNT(formats); i++)
        if (strcmp(format, formats[i]) == 0)
            return true;
    return false;
}

static void plan_one(uint32_t vmid, const char *map, struct cmp_lxc_move *move, struct atl_arena *arena,
                     struct atl_errors *errors)
{
    move->to_storage = move->storage;
    if (move->said_shared || (move->storage != NULL && move->shared))
        return;
    if (move->storage == NULL) {
        atl_errors_add(errors, move->name, "'%s' belongs to this machine", move->volid);
        return;
    }
    move->to_storage = atl_storage_map(map, move->storage, arena);
    if (!cmp_lxc_volume_owned(move->volid, vmid))
        atl_errors_add(errors, move->name, "'%s' is another guest's and stays with it", move->volid);
    else if (move->format != NULL && !can_be_sent(move->format))
        atl_errors_add(errors, move->name, "'%s' of a local storage cannot be sent in its format, %s",
                       move->volid, move->format);
    else
        move->copy = true;
}

void cmp_lxc_move_plan(uint32_t vmid, const char *map, struct cmp_lxc_move *moves, size_t count,
                       struct atl_arena *arena, struct atl_errors *errors)
{
    atl_storage_map_check(map, "target-storage", errors);
    for (size_t i = 0; i < count; i++)
        plan_one(vmid, map, &moves[i], arena, errors);
}

/* --- checks --- */

static const struct cmp_lxc_move_storage *find_storage(const struct cmp_lxc_move_target *target,
                                                       const char *storage)
{
    for (size_t i = 0; i < target->storage_count; i++)
        if (strcmp(target->storages[i].storage, storage) == 0)
            return &target->storages[i];
    return NULL;
}

static bool takes(const struct cmp_lxc_move_storage *storage, const char *format)
{
    for (size_t i = 0; storage->formats != NULL && storage->formats[i] != NULL; i++)
        if (format != NULL && strcmp(storage->formats[i], format) == 0)
            return true;
    return false;
}

/* What all volumes that go to one storage take there. */
static void check_room(const struct cmp_lxc_move *moves, size_t count,
                       const struct cmp_lxc_move_storage *storage, struct atl_errors *errors)
{
    uint64_t needed = 0;
    for (size_t i = 0; i < count; i++)
        if (moves[i].copy && strcmp(moves[i].to_storage, storage->storage) == 0)
            needed += moves[i].used_bytes;
    if (storage->avail_bytes != 0 && needed > storage->avail_bytes)
        atl_errors_add(errors, "target-storage",
                       "storage '%s' has no room: the volumes take %" PRIu64 " bytes, %" PRIu64 " are free",
                       storage->storage, needed, storage->avail_bytes);
}

static void check_volume(const struct cmp_lxc_move *move, const struct cmp_lxc_move_target *target,
                         struct atl_errors *errors)
{
    if (move->to_storage == NULL)
        return;
    const struct cmp_lxc_move_storage *storage = find_storage(target, move->to_storage);
    if (storage == NULL || !storage->usable)
        atl_errors_add(errors, move->name, "'%s': %s", move->to_storage,
                       storage != NULL && storage->reason != NULL ? storage->reason
                                                                  : "the target does not have this storage");
    else if (move->copy && !takes(storage, move->format))
        atl_errors_add(errors, move->name, "storage '%s' of the target does not take volumes of format '%s'",
                       storage->storage, move->format != NULL ? move->format : "?");
}

void cmp_lxc_move_check(const struct cmp_lxc_doc *doc, const struct cmp_lxc_move *moves, size_t count,
                        const struct cmp_lxc_move_target *target, struct atl_errors *errors)
{
    const Atoll__Lxc__V1__Config *config = doc->now->config;
    if (target->running)
        atl_errors_add(errors, "target", "a guest of this id runs there already");
    if (target->other_engine)
        atl_errors_add(errors, "target", "it runs containers with another engine");
    for (size_t i = 0; i < config->n_net; i++) {
        const Atoll__Lxc__V1__Net *net = config->net[i]->value;
        char name[16];
        (void)snprintf(name, sizeof name, "net%" PRIu32, config->net[i]->index);
        for (size_t k = 0; net != NULL && net->bridge != NULL && k < target->missing_count; k++)
            if (strcmp(target->missing_bridges[k], net->bridge) == 0)
                atl_errors_add(errors, name, "the target has no bridge '%s'", net->bridge);
    }
    for (size_t i = 0; i < count; i++)
        check_volume(&moves[i], target, errors);
    for (size_t i = 0; i < target->storage_count; i++)
        check_room(moves, count, &target->storages[i], errors);
}

/* --- the file as the target's --- */

struct rewriting {
    struct atl_arena *arena;
    const struct cmp_lxc_move *moves;
    size_t count;
};

static void rewrite_one(const char *name, char **place, bool said_shared, void *user)
{
    const struct rewriting *rewriting = user;
    (void)name;
    (void)said_shared;
    for (size_t i = 0; i < rewriting->count; i++) {
        const struct cmp_lxc_move *move = &rewriting->moves[i];
        if (move->to_volid == NULL || strcmp(move->volid, *place) != 0)
            continue;
        *place = atl_arena_strdup(rewriting->arena, move->to_volid);
        return;
    }
}

void cmp_lxc_move_rewrite(struct cmp_lxc_doc *doc, const struct cmp_lxc_move *moves, size_t count)
{
    struct rewriting rewriting = {.arena = doc->arena, .moves = moves, .count = count};
    each_place_of(doc, rewrite_one, &rewriting);
    cmp_lxc_doc_set_lock(doc, NULL);
}
