/* user.cfg as data: finding, adding and removing entries. */
#include "pure/acl.h"

#include <stdlib.h>
#include <string.h>

/* The index of the first item that is not before id, in an array of structs whose first member is the id. */
static size_t lower_bound(const void *array, size_t count, size_t size, const char *id, bool *ret_found)
{
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *const *item = (const void *)((const char *)array + middle * size);
        if (strcmp(*item, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = false;
    if (low < count) {
        const char *const *item = (const void *)((const char *)array + low * size);
        *ret_found = strcmp(*item, id) == 0;
    }
    return low;
}

static void *find(const void *array, size_t count, size_t size, const char *id)
{
    bool found;
    size_t at = lower_bound(array, count, size, id, &found);
    return found ? (void *)((uintptr_t)array + at * size) : NULL;
}

/* Opens a zeroed gap at `at`; returns the array, which may have moved. */
static void *open_gap(struct atl_acl *acl, void *array, size_t at, size_t count, size_t *room, size_t size)
{
    char *items = atl_arena_grow(acl->arena, array, count, room, size);
    memmove(items + (at + 1) * size, items + at * size, (count - at) * size);
    memset(items + at * size, 0, size);
    return items;
}

static void close_gap(void *array, size_t at, size_t *count, size_t size)
{
    char *items = array;
    memmove(items + at * size, items + (at + 1) * size, (*count - at - 1) * size);
    (*count)--;
}

struct atl_user *atl_acl_user(const struct atl_acl *acl, const char *id)
{
    return find(acl->users, acl->user_count, sizeof acl->users[0], id);
}

struct atl_token *atl_acl_token(const struct atl_acl *acl, const char *id)
{
    return find(acl->tokens, acl->token_count, sizeof acl->tokens[0], id);
}

struct atl_group *atl_acl_group(const struct atl_acl *acl, const char *id)
{
    return find(acl->groups, acl->group_count, sizeof acl->groups[0], id);
}

struct atl_pool *atl_acl_pool(const struct atl_acl *acl, const char *id)
{
    return find(acl->pools, acl->pool_count, sizeof acl->pools[0], id);
}

struct atl_role *atl_acl_role(const struct atl_acl *acl, const char *id)
{
    return find(acl->roles, acl->role_count, sizeof acl->roles[0], id);
}

/* Finds or makes the entry of one of the arrays; `made` tells which. */
#define ADD(kind, many, id_text, made)                                                                       \
    __extension__({                                                                                          \
        bool found_;                                                                                         \
        size_t at_ = lower_bound(acl->many, acl->kind##_count, sizeof acl->many[0], id_text, &found_);       \
        (made) = !found_;                                                                                    \
        if (!found_) {                                                                                       \
            acl->index = NULL;                                                                               \
            acl->many =                                                                                      \
                open_gap(acl, acl->many, at_, acl->kind##_count, &acl->kind##_room, sizeof acl->many[0]);    \
            acl->many[at_].id = atl_arena_strdup(acl->arena, id_text);                                       \
            acl->kind##_count++;                                                                             \
        }                                                                                                    \
        acl->index = NULL;                                                                                   \
        &acl->many[at_];                                                                                     \
    })

struct atl_user *atl_acl_add_user(struct atl_acl *acl, const char *id)
{
    bool made = false;
    struct atl_user *user = ADD(user, users, id, made);
    if (made) {
        user->enabled = true;
        user->firstname = user->lastname = user->email = user->comment = user->keys = "";
    }
    return user;
}

struct atl_token *atl_acl_add_token(struct atl_acl *acl, const char *id)
{
    bool made = false;
    struct atl_token *token = ADD(token, tokens, id, made);
    if (made) {
        token->separate = true;
        token->comment = "";
    }
    return token;
}

struct atl_group *atl_acl_add_group(struct atl_acl *acl, const char *id)
{
    bool made = false;
    struct atl_group *group = ADD(group, groups, id, made);
    if (made)
        group->comment = "";
    return group;
}

struct atl_pool *atl_acl_add_pool(struct atl_acl *acl, const char *id)
{
    bool made = false;
    struct atl_pool *pool = ADD(pool, pools, id, made);
    if (made)
        pool->comment = "";
    return pool;
}

struct atl_role *atl_acl_add_role(struct atl_acl *acl, const char *id)
{
    bool made = false;
    struct atl_role *role = ADD(role, roles, id, made);
    (void)made; /* a new role has no privileges, which is what zeroed memory says */
    return role;
}

static void drop_rules(struct atl_acl *acl, enum atl_subject_kind kind, const char *subject)
{
    size_t kept = 0;
    for (size_t i = 0; i < acl->rule_count; i++) {
        const struct atl_rule *rule = &acl->rules[i];
        if (rule->kind != kind || strcmp(rule->subject, subject) != 0)
            acl->rules[kept++] = *rule;
    }
    acl->rule_count = kept;
}

void atl_acl_drop_token(struct atl_acl *acl, const char *id)
{
    bool found;
    size_t at = lower_bound(acl->tokens, acl->token_count, sizeof acl->tokens[0], id, &found);
    if (!found)
        return;
    acl->index = NULL;
    drop_rules(acl, ATL_SUBJECT_TOKEN, id);
    close_gap(acl->tokens, at, &acl->token_count, sizeof acl->tokens[0]);
}

void atl_acl_drop_user(struct atl_acl *acl, const char *id)
{
    bool found;
    size_t at = lower_bound(acl->users, acl->user_count, sizeof acl->users[0], id, &found);
    if (!found)
        return;
    acl->index = NULL;
    size_t length = strlen(id);
    for (size_t i = acl->token_count; i > 0; i--) {
        const char *token = acl->tokens[i - 1].id;
        if (strncmp(token, id, length) == 0 && token[length] == '!')
            atl_acl_drop_token(acl, token);
    }
    for (size_t i = 0; i < acl->group_count; i++)
        atl_list_drop(&acl->groups[i].members, id);
    drop_rules(acl, ATL_SUBJECT_USER, id);
    close_gap(acl->users, at, &acl->user_count, sizeof acl->users[0]);
}

void atl_acl_drop_group(struct atl_acl *acl, const char *id)
{
    bool found;
    size_t at = lower_bound(acl->groups, acl->group_count, sizeof acl->groups[0], id, &found);
    if (!found)
        return;
    acl->index = NULL;
    drop_rules(acl, ATL_SUBJECT_GROUP, id);
    close_gap(acl->groups, at, &acl->group_count, sizeof acl->groups[0]);
}

void atl_acl_drop_pool(struct atl_acl *acl, const char *id)
{
    bool found;
    size_t at = lower_bound(acl->pools, acl->pool_count, sizeof acl->pools[0], id, &found);
    if (!found)
        return;
    acl->index = NULL;
    const char *path = atl_arena_format(acl->arena, "/pool/%s", id);
    size_t kept = 0;
    for (size_t i = 0; i < acl->rule_count; i++)
        if (strcmp(acl->rules[i].path, path) != 0)
            acl->rules[kept++] = acl->rules[i];
    acl->rule_count = kept;
    close_gap(acl->pools, at, &acl->pool_count, sizeof acl->pools[0]);
}

void atl_acl_drop_role(struct atl_acl *acl, const char *id)
{
    bool found;
    size_t at = lower_bound(acl->roles, acl->role_count, sizeof acl->roles[0], id, &found);
    if (!found)
        return;
    acl->index = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < acl->rule_count; i++)
        if (strcmp(acl->rules[i].role, id) != 0)
            acl->rules[kept++] = acl->rules[i];
    acl->rule_count = kept;
    close_gap(acl->roles, at, &acl->role_count, sizeof acl->roles[0]);
}

static int compare_rules(const struct atl_rule *a, const struct atl_rule *b)
{
    int order = strcmp(a->path, b->path);
    if (order == 0)
        order = (int)a->kind - (int)b->kind;
    if (order == 0)
        order = strcmp(a->subject, b->subject);
    return order != 0 ? order : strcmp(a->role, b->role);
}

static size_t rule_bound(const struct atl_acl *acl, const struct atl_rule *rule, bool *ret_found)
{
    size_t low = 0;
    size_t high = acl->rule_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_rules(&acl->rules[middle], rule) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = low < acl->rule_count && compare_rules(&acl->rules[low], rule) == 0;
    return low;
}

void atl_acl_add_rule(struct atl_acl *acl, const struct atl_rule *rule)
{
    bool found;
    size_t at = rule_bound(acl, rule, &found);
    acl->index = NULL;
    if (!found) {
        acl->rules = open_gap(acl, acl->rules, at, acl->rule_count, &acl->rule_room, sizeof acl->rules[0]);
        acl->rules[at] = (struct atl_rule){
            .path = atl_arena_strdup(acl->arena, rule->path),
            .subject = atl_arena_strdup(acl->arena, rule->subject),
            .role = atl_arena_strdup(acl->arena, rule->role),
            .kind = rule->kind,
        };
        acl->rule_count++;
    }
    acl->rules[at].propagate = rule->propagate;
}

bool atl_acl_drop_rule(struct atl_acl *acl, const struct atl_rule *rule)
{
    bool found;
    size_t at = rule_bound(acl, rule, &found);
    if (!found)
        return false;
    acl->index = NULL;
    close_gap(acl->rules, at, &acl->rule_count, sizeof acl->rules[0]);
    return true;
}

bool atl_list_has(const struct atl_list *list, const char *text)
{
    bool found;
    (void)lower_bound(list->items, list->count, sizeof list->items[0], text, &found);
    return found;
}

void atl_list_add(struct atl_list *list, const char *text, struct atl_arena *arena)
{
    bool found;
    size_t at = lower_bound(list->items, list->count, sizeof list->items[0], text, &found);
    if (found)
        return;
    list->items = atl_arena_grow(arena, list->items, list->count, &list->capacity, sizeof list->items[0]);
    memmove(list->items + at + 1, list->items + at, (list->count - at) * sizeof list->items[0]);
    list->items[at] = atl_arena_strdup(arena, text);
    list->count++;
}

void atl_list_drop(struct atl_list *list, const char *text)
{
    bool found;
    size_t at = lower_bound(list->items, list->count, sizeof list->items[0], text, &found);
    if (found)
        close_gap(list->items, at, &list->count, sizeof list->items[0]);
}

/* --- names
 * -------------------------------------------------------------------------------------------------- */

static bool name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static bool realm_valid(const char *text, size_t length)
{
    if (length < 2 || length > 32 || !((text[0] | 0x20) >= 'a' && (text[0] | 0x20) <= 'z'))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!name_byte(text[i]))
            return false;
    return true;
}

static bool user_part_valid(const char *id, size_t length)
{
    const char *at = memrchr(id, '@', length);
    if (at == NULL || at == id || length > ATL_USERID_MAX)
        return false;
    for (const char *c = id; c < at; c++)
        if ((unsigned char)*c <= 0x20 || *c == 0x7f || strchr(":/,;!\"'`\\%", *c) != NULL)
            return false;
    return realm_valid(at + 1, (size_t)(id + length - at - 1));
}

bool atl_userid_valid(const char *id)
{
    return user_part_valid(id, strlen(id));
}

bool atl_tokenid_valid(const char *id)
{
    const char *mark = strchr(id, '!');
    return mark != NULL && user_part_valid(id, (size_t)(mark - id)) &&
           realm_valid(mark + 1, strlen(mark + 1));
}

static bool path_known(const char *path)
{
    static const char *const roots[] = {"access", "mapping", "nodes", "pool", "sdn", "storage", "vms"};
    if (strcmp(path, "/") == 0)
        return true;
    size_t length = strcspn(path + 1, "/");
    for (size_t i = 0; i < ATL_COUNT(roots); i++)
        if (strlen(roots[i]) == length && strncmp(path + 1, roots[i], length) == 0)
            return true;
    return false;
}

const char *atl_acl_path(const char *path, struct atl_arena *arena)
{
    size_t length = strlen(path);
    if (path[0] != '/' || length > ATL_ACL_PATH_MAX)
        return NULL;
    char *clean = atl_arena_alloc(arena, length + 1);
    size_t used = 0;
    for (const char *c = path; *c != '\0'; c++) {
        if (*c != '/' && *c != '@' && !name_byte(*c))
            return NULL;
        if (*c == '/' && used > 0 && clean[used - 1] == '/')
            continue;
        clean[used++] = *c;
    }
    if (used > 1 && clean[used - 1] == '/')
        used--;
    clean[used] = '\0';
    return path_known(clean) ? clean : NULL;
}
