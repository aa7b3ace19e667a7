/* Devices that switch nodes off. */
#include "core/fence.h"

#include <string.h>

enum { LINES_MAX = 32, WORDS_MAX = 200 };

/* --- what an agent is told --- */

enum kind { KIND_PLAIN, KIND_SECRET, KIND_REFUSED };

static bool holds_any(const char *name, const char *const *parts)
{
    for (; *parts != NULL; parts++)
        if (strstr(name, *parts) != NULL)
            return true;
    return false;
}

/* Of a key of fence-agents: refused are those that have another program run, write secrets into logs, or
 * would undo what is asked. */
static enum kind kind_of(const char *key, size_t length)
{
    static const char *const refused[] = {"script", "path", "debug", "verbose", "ssh_opt", NULL};
    static const char *const secret[] = {"pass", "secret", "community", "token", "_key", NULL};
    static const char *const ours[] = {"action", "method", "delay", "quiet", "option", "help", "version"};
    char name[64];
    if (length >= sizeof name)
        return KIND_REFUSED;
    for (size_t i = 0; i < length; i++)
        name[i] = (char)(key[i] == '-' ? '_' : (key[i] >= 'A' && key[i] <= 'Z') ? key[i] + 32 : key[i]);
    name[length] = '\0';
    for (size_t i = 0; i < ATL_COUNT(ours); i++)
        if (strcmp(name, ours[i]) == 0)
            return KIND_REFUSED;
    if (holds_any(name, refused))
        return KIND_REFUSED;
    return holds_any(name, secret) ? KIND_SECRET : KIND_PLAIN;
}

static bool is_key(const char *text, size_t length)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return length > 0 && strspn(text, letters) >= length && text[0] != '-';
}

static bool is_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    return true;
}

/* One KEY=VALUE, `length` bytes. */
static void check_option(const char *all, const char *at, size_t length, struct atl_errors *errors)
{
    const char *equals = memchr(at, '=', length);
    size_t key = equals != NULL ? (size_t)(equals - at) : length;
    if (equals == NULL || !is_key(at, key) || !is_plain(at, length)) {
        atl_errors_add(errors, "options", "'%.*s' is not KEY=VALUE", (int)(length < 64 ? length : 64), at);
        return;
    }
    enum kind kind = kind_of(at, key);
    if (kind == KIND_REFUSED)
        atl_errors_add(errors, "options", "'%.*s' cannot be given here", (int)key, at);
    if (kind == KIND_SECRET && strncmp(equals, "=@", length - key) != 0)
        atl_errors_add(errors, "options", "'%.*s' is a secret: give it as `password`, and %.*s=@ here",
                       (int)key, at, (int)key, at);
    for (const char *other = all; other < at; other += strcspn(other, ",") + 1)
        if (strncmp(other, at, key + 1) == 0)
            atl_errors_add(errors, "options", "'%.*s' is given twice", (int)key, at);
}

void crm_fence_check(const char *options, struct atl_errors *errors)
{
    size_t count = 0;
    for (const char *at = options; *at != '\0';) {
        size_t length = strcspn(at, ",");
        if (++count > LINES_MAX) {
            atl_errors_add(errors, "options", "more than %d are given", LINES_MAX);
            return;
        }
        check_option(options, at, length, errors);
        at += length;
        at += *at == ',';
    }
}

const char *crm_fence_input(const char *action, const char *options, const char *password,
                            struct atl_arena *arena)
{
    const char *text = atl_arena_format(arena, "action=%s\n", action);
    bool told = password == NULL;
    for (const char *at = options != NULL ? options : ""; *at != '\0';) {
        size_t length = strcspn(at, ",");
        bool secret = length > 2 && strncmp(at + length - 2, "=@", 2) == 0;
        if (secret && password != NULL)
            text = atl_arena_format(arena, "%s%.*s%s\n", text, (int)length - 1, at, password);
        else if (!secret && length > 0)
            text = atl_arena_format(arena, "%s%.*s\n", text, (int)length, at);
        told = told || secret;
        at += length;
        at += *at == ',';
    }
    return told ? text : atl_arena_format(arena, "%spassword=%s\n", text, password);
}

const char *crm_fence_words(const char *output, const char *password, struct atl_arena *arena)
{
    const char *line = output;
    size_t length = 0;
    for (const char *at = output; *at != '\0';) {
        size_t size = strcspn(at, "\r\n");
        if (size > 0) {
            line = at;
            length = size;
        }
        at += size;
        at += *at != '\0';
    }
    char *words = atl_arena_strndup(arena, line, length < WORDS_MAX ? length : WORDS_MAX);
    if (length == 0)
        return "it says nothing";
    /* Looked for in all that it wrote: a part of it would not be known again. */
    if (password != NULL && password[0] != '\0' && strstr(output, password) != NULL)
        return "what it says holds the password, and is left out";
    for (char *at = words; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
    return words;
}

/* --- when it is asked --- */

static bool same_lock(const struct crm_fence_seen *a, const struct crm_fence_seen *b)
{
    return a->lock_epoch == b->lock_epoch && a->lock_number == b->lock_number;
}

static bool same_beat(const struct crm_fence_seen *a, const struct crm_fence_seen *b)
{
    return a->beat_epoch == b->beat_epoch && a->beat_number == b->beat_number;
}

void crm_fence_want(struct crm_fence *fence, const struct crm_fence_seen *seen, atl_ns now)
{
    if (fence->step != CRM_FENCE_REST || now < fence->due)
        return;
    fence->step = CRM_FENCE_OFF;
    fence->tries = 0;
    fence->confirmed = false;
    fence->seen = *seen;
}

enum crm_fence_step crm_fence_next(const struct crm_fence *fence, atl_ns now)
{
    return now >= fence->due ? fence->step : CRM_FENCE_REST;
}

static void give_up(struct crm_fence *fence, atl_ns now)
{
    uint32_t pause_s = fence->failures < 6 ? 1U << fence->failures : CRM_FENCE_PAUSE_MAX_S;
    fence->failures++;
    fence->step = CRM_FENCE_REST;
    fence->due = now + (atl_ns)pause_s * ATL_SECOND;
}

bool crm_fence_answer(struct crm_fence *fence, bool off, const struct crm_fence_seen *seen, atl_ns now)
{
    atl_assert(fence->step != CRM_FENCE_REST);
    if (fence->step == CRM_FENCE_OFF) {
        fence->step = CRM_FENCE_STATUS;
        fence->due = now;
        return false;
    }
    if (!off) {
        fence->due = now + ATL_SECOND;
        if (++fence->tries >= CRM_FENCE_TRIES)
            give_up(fence, now);
        return false;
    }
    if (!same_lock(&fence->seen, seen)) { /* it has booted and taken its lock again meanwhile */
        give_up(fence, now);
        return false;
    }
    fence->step = CRM_FENCE_REST;
    fence->due = now;
    fence->failures = 0;
    fence->confirmed = true;
    fence->seen = *seen;
    return true;
}

bool crm_fence_holds(struct crm_fence *fence, bool member, const struct crm_fence_seen *seen)
{
    if (member || !same_lock(&fence->seen, seen) || !same_beat(&fence->seen, seen))
        fence->confirmed = false;
    return fence->confirmed;
}
