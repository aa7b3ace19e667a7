/* Where volumes go that move. */
#include "pure/storage_map.h"

#include <string.h>

static const char separators[] = ",; ";

/* One word of a map; false: there is none any more. */
struct word {
    const char *at;
    size_t length;
    size_t source; /* bytes before the colon; equal to length: it is a single word */
};

static bool next_word(const char **place, struct word *ret)
{
    const char *at = *place + strspn(*place, separators);
    size_t length = strcspn(at, separators);
    const char *colon = memchr(at, ':', length);
    *ret = (struct word){.at = at, .length = length, .source = colon != NULL ? (size_t)(colon - at) : length};
    *place = at + length;
    return length > 0;
}

static bool is(const struct word *word, const char *text)
{
    return strlen(text) == word->source && memcmp(word->at, text, word->source) == 0;
}

const char *atl_storage_map(const char *map, const char *storage, struct atl_arena *arena)
{
    const char *common = storage;
    const char *place = map != NULL ? map : "";
    struct word word;
    while (next_word(&place, &word)) {
        bool single = word.source == word.length;
        if (!single && is(&word, storage))
            return atl_arena_strndup(arena, word.at + word.source + 1, word.length - word.source - 1);
        if (single && !is(&word, "1"))
            common = atl_arena_strndup(arena, word.at, word.length);
    }
    return common;
}

void atl_storage_map_check(const char *map, const char *field, struct atl_errors *errors)
{
    const char *place = map != NULL ? map : "";
    struct word word;
    unsigned int singles = 0;
    while (next_word(&place, &word)) {
        const char *rest = place;
        struct word other;
        singles += word.source == word.length;
        while (word.source < word.length && next_word(&rest, &other))
            if (other.source == word.source && other.source < other.length &&
                memcmp(other.at, word.at, word.source) == 0)
                atl_errors_add(errors, field, "storage '%.*s' is mapped twice", (int)word.source, word.at);
    }
    if (singles > 1)
        atl_errors_add(errors, field, "only one storage may stand without its source");
}

const char **atl_storage_map_targets(const char *map, struct atl_arena *arena)
{
    const char *place = map != NULL ? map : "";
    const char **targets = NULL;
    size_t count = 0;
    size_t room = 0;
    struct word word;
    while (next_word(&place, &word)) {
        size_t skip = word.source < word.length ? word.source + 1 : 0;
        if (skip == 0 && is(&word, "1"))
            continue;
        targets = atl_arena_grow(arena, targets, count, &room, sizeof *targets);
        targets[count++] = atl_arena_strndup(arena, word.at + skip, word.length - skip);
    }
    targets = atl_arena_grow(arena, targets, count, &room, sizeof *targets);
    targets[count] = NULL;
    return targets;
}
