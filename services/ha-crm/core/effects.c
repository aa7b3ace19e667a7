/* What the move of one resource means for others. */
#include "core/effects.h"

#include <stdlib.h>
#include <string.h>

#include "core/config.h"

struct group { /* names, each once */
    struct atl_arena *arena;
    char **names;
    size_t count;
    size_t room;
};

static bool has(const struct group *group, const char *name)
{
    for (size_t i = 0; i < group->count; i++)
        if (strcmp(group->names[i], name) == 0)
            return true;
    return false;
}

static void add(struct group *group, const char *name, size_t length)
{
    char *copy = atl_arena_strndup(group->arena, name, length);
    if (length == 0 || has(group, copy))
        return;
    group->names = atl_arena_grow(group->arena, group->names, group->count, &group->room, sizeof(char *));
    group->names[group->count++] = copy;
}

static void add_all(struct group *group, const char *list)
{
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        add(group, at, length);
        at += length;
    }
}

static bool counts(const Atoll__Ha__V1__Rule *rule, const char *affinity)
{
    return !rule->disable && strcmp(rule->type, "resource-affinity") == 0 && rule->affinity != NULL &&
           rule->resources != NULL && strcmp(rule->affinity, affinity) == 0;
}

static bool touches(const Atoll__Ha__V1__Rule *rule, const struct group *group)
{
    for (size_t i = 0; i < group->count; i++)
        if (crm_list_has(rule->resources, group->names[i]))
            return true;
    return false;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All that moves: whoever is kept with one that moves. */
static void gather(Atoll__Ha__V1__Rule *const *rules, size_t count, struct group *moving)
{
    for (size_t before = 0; before != moving->count;) {
        before = moving->count;
        for (size_t i = 0; i < count; i++)
            if (counts(rules[i], "positive") && touches(rules[i], moving))
                add_all(moving, rules[i]->resources);
    }
}

void crm_effects(Atoll__Ha__V1__Rule *const *rules, size_t count, crm_where_fn *where, void *user,
                 struct atl_arena *arena, Atoll__Ha__V1__MoveReply *reply)
{
    struct group moving = {.arena = arena};
    struct group apart = {.arena = arena};
    struct group blocking = {.arena = arena};
    add(&moving, reply->sid, strlen(reply->sid));
    gather(rules, count, &moving);
    for (size_t i = 0; i < count; i++)
        if (counts(rules[i], "negative") && touches(rules[i], &moving))
            add_all(&apart, rules[i]->resources);
    for (size_t i = 0; i < apart.count; i++) {
        const char *node = has(&moving, apart.names[i]) ? NULL : where(apart.names[i], user);
        if (node != NULL && strcmp(node, reply->requested_node) == 0)
            add(&blocking, apart.names[i], strlen(apart.names[i]));
    }
    reply->comigrated_resources = moving.names + 1; /* without itself */
    reply->n_comigrated_resources = moving.count - 1;
    if (moving.count > 1)
        qsort(reply->comigrated_resources, reply->n_comigrated_resources, sizeof(char *), by_text);
    if (blocking.count > 0)
        qsort(blocking.names, blocking.count, sizeof(char *), by_text);
    reply->blocking_resources = atl_arena_array(arena, Atoll__Ha__V1__Blocking *, blocking.count + 1);
    for (size_t i = 0; i < blocking.count; i++) {
        Atoll__Ha__V1__Blocking *one = atl_arena_new(arena, Atoll__Ha__V1__Blocking);
        atoll__ha__v1__blocking__init(one);
        one->sid = blocking.names[i];
        one->cause = atl_arena_strdup(arena, "resource-affinity");
        reply->blocking_resources[reply->n_blocking_resources++] = one;
    }
}
