/* Locks in the tree. */
#include "core/lock.h"

#include <string.h>

#include "atoll/store/v1/store.pb-c.h"
#include "pure/codec.h"

enum { TTL_MAX_MS = 3600 * 1000 };

static bool word_valid(const char *text, size_t longest)
{
    size_t length = strlen(text);
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@/:";
    return length > 0 && length <= longest && text[strspn(text, allowed)] == '\0';
}

enum atl_code cfg_lock_check(const char *name, const char *owner, struct atl_error *err)
{
    if (!word_valid(name, CFG_LOCK_NAME_MAX) || strpbrk(name, "@/:") != NULL || name[0] == '.')
        return atl_fail(err, ATL_E_INVALID, "name", "'%s' cannot be the name of a lock", name);
    if (!word_valid(owner, CFG_LOCK_OWNER_MAX))
        return atl_fail(err, ATL_E_INVALID, "owner", "'%s' cannot be the owner of a lock", owner);
    return ATL_OK;
}

static const Atoll__Store__V1__LockState *read_lock(const struct cfg_tree *tree, const char *path,
                                                    struct atl_arena *arena)
{
    const struct cfg_file *file = cfg_tree_get(tree, path);
    if (file == NULL)
        return NULL;
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    return atoll__store__v1__lock_state__unpack(&allocator, file->size, file->bytes);
}

static struct cfg_op write_lock(const char *path, const char *owner, int64_t expires_ms,
                                struct atl_arena *arena)
{
    Atoll__Store__V1__LockState state = ATOLL__STORE__V1__LOCK_STATE__INIT;
    state.owner = atl_arena_strdup(arena, owner);
    state.expires_ms = expires_ms;
    size_t size = atoll__store__v1__lock_state__get_packed_size(&state);
    uint8_t *bytes = atl_arena_alloc(arena, size);
    (void)atoll__store__v1__lock_state__pack(&state, bytes);
    return (struct cfg_op){.kind = CFG_PUT, .path = path, .bytes = bytes, .size = size};
}

/* A clock that was set back must not keep a lock for longer than any may last. */
static bool over(const Atoll__Store__V1__LockState *state, int64_t now_ms)
{
    return state->expires_ms <= now_ms || state->expires_ms > now_ms + TTL_MAX_MS;
}

struct cfg_lock_plan cfg_lock_take(const struct cfg_tree *tree, const char *name, const char *owner,
                                   uint32_t ttl_ms, int64_t now_ms, struct atl_arena *arena)
{
    const char *path = atl_arena_format(arena, "%s%s", CFG_LOCK_FOLDER, name);
    const Atoll__Store__V1__LockState *state = read_lock(tree, path, arena);
    if (state != NULL && strcmp(state->owner, owner) != 0 && !over(state, now_ms))
        return (struct cfg_lock_plan){.verdict = CFG_LOCK_WAIT, .expires_ms = state->expires_ms};
    return (struct cfg_lock_plan){.verdict = CFG_LOCK_TAKE,
                                  .op = write_lock(path, owner, now_ms + ttl_ms, arena)};
}

struct cfg_lock_plan cfg_lock_renew(const struct cfg_tree *tree, const char *name, const char *owner,
                                    uint32_t ttl_ms, int64_t now_ms, struct atl_arena *arena)
{
    const char *path = atl_arena_format(arena, "%s%s", CFG_LOCK_FOLDER, name);
    const Atoll__Store__V1__LockState *state = read_lock(tree, path, arena);
    if (state == NULL || strcmp(state->owner, owner) != 0)
        return (struct cfg_lock_plan){.verdict = CFG_LOCK_NOTHING};
    return (struct cfg_lock_plan){.verdict = CFG_LOCK_TAKE,
                                  .op = write_lock(path, owner, now_ms + ttl_ms, arena)};
}

struct cfg_lock_plan cfg_lock_release(const struct cfg_tree *tree, const char *name, const char *owner,
                                      struct atl_arena *arena)
{
    const char *path = atl_arena_format(arena, "%s%s", CFG_LOCK_FOLDER, name);
    const Atoll__Store__V1__LockState *state = read_lock(tree, path, arena);
    if (state == NULL || strcmp(state->owner, owner) != 0)
        return (struct cfg_lock_plan){.verdict = CFG_LOCK_NOTHING};
    return (struct cfg_lock_plan){.verdict = CFG_LOCK_DROP, .op = {.kind = CFG_DELETE, .path = path}};
}
