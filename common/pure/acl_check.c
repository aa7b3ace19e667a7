/* Evaluation of permissions: who may do what on which path. */
#include <stdlib.h>
#include <string.h>

#include "pure/acl.h"
#include "pure/codec.h"

enum { PERM_DEPTH_MAX = 8 };

/* --- the index: paths that rules stand on, and pools of members
 * --------------------------------------------- */

struct slot {
    const char *key; /* NULL: empty */
    uint32_t value;  /* node index, or pool index */
};

struct node { /* the rules of one path */
    uint32_t first;
    uint32_t count;
};

struct atl_acl_index {
    struct slot *paths;
    struct slot *guests;   /* guest id -> pool */
    struct slot *storages; /* storage id -> pool */
    size_t path_mask;
    size_t guest_mask;
    size_t storage_mask;
    struct node *nodes;
    size_t node_count;
    atl_privs *rule_privs; /* what each rule's role gives */
    bool *rule_none;       /* the rule's role takes all away */
};

static uint32_t hash_text(const char *text, size_t length)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    return hash ^ (hash >> 15);
}

static struct slot *table_new(struct atl_arena *arena, size_t count, size_t *ret_mask)
{
    size_t size = 8;
    while (size < count * 2)
        size *= 2;
    *ret_mask = size - 1;
    return atl_arena_array(arena, struct slot, size);
}

static struct slot *table_slot(struct slot *table, size_t mask, const char *key, size_t length)
{
    for (size_t at = hash_text(key, length) & mask;; at = (at + 1) & mask) {
        struct slot *slot = &table[at];
        if (slot->key == NULL || (strncmp(slot->key, key, length) == 0 && slot->key[length] == '\0'))
            return slot;
    }
}

static void table_put(struct slot *table, size_t mask, const char *key, uint32_t value)
{
    struct slot *slot = table_slot(table, mask, key, strlen(key));
    if (slot->key == NULL)
        *slot = (struct slot){.key = key, .value = value};
}

static atl_privs list_privs(const struct atl_list *names)
{
    atl_privs privs = 0;
    for (size_t i = 0; i < names->count; i++)
        privs |= atl_priv_from_text(names->items[i]);
    return privs;
}

static void seal_rules(struct atl_acl *acl, struct atl_acl_index *index)
{
    index->rule_privs = atl_arena_array(acl->arena, atl_privs, acl->rule_count + 1);
    index->rule_none = atl_arena_array(acl->arena, bool, acl->rule_count + 1);
    index->nodes = atl_arena_array(acl->arena, struct node, acl->rule_count + 1);
    index->paths = table_new(acl->arena, acl->rule_count, &index->path_mask);
    for (size_t i = 0; i < acl->rule_count; i++) {
        const struct atl_rule *rule = &acl->rules[i];
        const struct atl_builtin_role *builtin = atl_builtin_role(rule->role);
        const struct atl_role *own = atl_acl_role(acl, rule->role);
        if (builtin != NULL) {
            index->rule_privs[i] = builtin->privs;
            index->rule_none[i] = builtin->no_access;
        } else if (own != NULL) {
            index->rule_privs[i] = list_privs(&own->privs);
        }
        if (i == 0 || strcmp(rule->path, acl->rules[i - 1].path) != 0) {
            table_put(index->paths, index->path_mask, rule->path, (uint32_t)index->node_count);
            index->nodes[index->node_count++].first = (uint32_t)i;
        }
        index->nodes[index->node_count - 1].count++;
    }
}

static void seal_pools(struct atl_acl *acl, struct atl_acl_index *index)
{
    size_t guests = 0;
    size_t storages = 0;
    for (size_t i = 0; i < acl->pool_count; i++) {
        guests += acl->pools[i].guests.count;
        storages += acl->pools[i].storages.count;
    }
    index->guests = table_new(acl->arena, guests, &index->guest_mask);
    index->storages = table_new(acl->arena, storages, &index->storage_mask);
    for (size_t i = 0; i < acl->pool_count; i++) {
        const struct atl_pool *pool = &acl->pools[i];
        for (size_t k = 0; k < pool->guests.count; k++)
            table_put(index->guests, index->guest_mask, pool->guests.items[k], (uint32_t)i);
        for (size_t k = 0; k < pool->storages.count; k++)
            table_put(index->storages, index->storage_mask, pool->storages.items[k], (uint32_t)i);
    }
}

void atl_acl_seal(struct atl_acl *acl)
{
    struct atl_acl_index *index = atl_arena_new(acl->arena, struct atl_acl_index);
    seal_rules(acl, index);
    seal_pools(acl, index);
    acl->index = index;
}

const struct atl_pool *atl_acl_pool_of(const struct atl_acl *acl, bool storage, const char *id)
{
    atl_assert(acl->index != NULL);
    const struct atl_acl_index *index = acl->index;
    const struct slot *slot = storage ? table_slot(index->storages, index->storage_mask, id, strlen(id))
                                      : table_slot(index->guests, index->guest_mask, id, strlen(id));
    return slot->key == NULL ? NULL : &acl->pools[slot->value];
}

/* --- the subject
 * -------------------------------------------------------------------------------------------- */

struct outcome { /* what one path's own rules say to one subject */
    struct atl_granted granted;
    bool hit;  /* there are rules for him */
    bool none; /* NoAccess is among them */
};

struct atl_subject_memo { /* two per path: for the user, for the token */
    struct outcome exact;
    struct outcome below;
    bool known;
};

enum atl_code atl_subject_init(struct atl_subject *subject, const struct atl_acl *acl, const char *user,
                               const char *token, int64_t now, struct atl_arena *arena, struct atl_error *err)
{
    atl_assert(acl->index != NULL);
    *subject = (struct atl_subject){.acl = acl, .user = atl_arena_strdup(arena, user)};
    const struct atl_user *entry = atl_acl_user(acl, user);
    subject->root = strcmp(user, "root@pam") == 0;
    if (!subject->root) {
        if (entry == NULL)
            return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "no such user ('%s')", user);
        if (!entry->enabled || (entry->expire != 0 && entry->expire <= now))
            return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "user '%s' is disabled or has expired", user);
    }
    if (token != NULL) {
        subject->token = atl_arena_format(arena, "%s!%s", user, token);
        const struct atl_token *found = atl_acl_token(acl, subject->token);
        if (found == NULL || (found->expire != 0 && found->expire <= now))
            return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "no such token ('%s'), or it has expired",
                            subject->token);
        subject->separate = found->separate;
    }
    uint32_t *groups = atl_arena_array(arena, uint32_t, acl->group_count + 1);
    for (size_t i = 0; i < acl->group_count; i++)
        if (atl_list_has(&acl->groups[i].members, user))
            groups[subject->group_count++] = (uint32_t)i;
    subject->groups = groups;
    subject->memo = atl_arena_array(arena, struct atl_subject_memo, 2 * acl->index->node_count + 1);
    return ATL_OK;
}

static void add_rule(struct outcome *outcome, const struct atl_acl_index *index, size_t rule, bool propagate)
{
    outcome->hit = true;
    outcome->none = outcome->none || index->rule_none[rule];
    outcome->granted.privs |= index->rule_privs[rule];
    if (propagate)
        outcome->granted.propagate |= index->rule_privs[rule];
}

static bool in_groups(const struct atl_subject *subject, const char *group)
{
    for (size_t i = 0; i < subject->group_count; i++)
        if (strcmp(subject->acl->groups[subject->groups[i]].id, group) == 0)
            return true;
    return false;
}

/* The rules of one path for one kind of subject: on the path itself, and for what lies below. */
static void judge_kind(const struct atl_subject *subject, const struct node *node, enum atl_subject_kind kind,
                       struct atl_subject_memo *memo)
{
    const struct atl_acl *acl = subject->acl;
    struct outcome exact = {0};
    struct outcome below = {0};
    for (size_t i = node->first; i < (size_t)node->first + node->count; i++) {
        const struct atl_rule *rule = &acl->rules[i];
        if (rule->kind != kind)
            continue;
        const char *self = kind == ATL_SUBJECT_TOKEN ? subject->token : subject->user;
        bool mine =
            kind == ATL_SUBJECT_GROUP ? in_groups(subject, rule->subject) : strcmp(rule->subject, self) == 0;
        if (!mine)
            continue;
        add_rule(&exact, acl->index, i, rule->propagate);
        if (rule->propagate)
            add_rule(&below, acl->index, i, true);
    }
    if (!memo->exact.hit)
        memo->exact = exact;
    if (!memo->below.hit)
        memo->below = below;
}

static const struct atl_subject_memo *judge(struct atl_subject *subject, uint32_t node, bool token)
{
    struct atl_subject_memo *memo = &subject->memo[2 * node + (token ? 1 : 0)];
    if (memo->known)
        return memo;
    memo->known = true;
    const struct node *rules = &subject->acl->index->nodes[node];
    if (token) {
        judge_kind(subject, rules, ATL_SUBJECT_TOKEN, memo);
    } else {
        judge_kind(subject, rules, ATL_SUBJECT_USER, memo); /* his own rules win over those of his groups */
        judge_kind(subject, rules, ATL_SUBJECT_GROUP, memo);
    }
    return memo;
}

/* Walks from "/" down to the path; the deepest rules win. */
static struct outcome walk(struct atl_subject *subject, const char *path, bool token)
{
    struct outcome result = {0};
    const struct atl_acl_index *index = subject->acl->index;
    size_t whole = strlen(path);
    size_t length = 1;
    for (;;) {
        const struct slot *slot = table_slot(index->paths, index->path_mask, path, length);
        if (slot->key != NULL) {
            const struct atl_subject_memo *memo = judge(subject, slot->value, token);
            const struct outcome *here = length == whole ? &memo->exact : &memo->below;
            if (here->hit)
                result = *here;
        }
        if (length >= whole)
            break;
        size_t start = length == 1 ? 1 : length + 1;
        length = start + strcspn(path + start, "/");
    }
    if (result.none)
        result.granted = (struct atl_granted){0};
    return result;
}

static const struct atl_pool *pool_of_path(const struct atl_acl *acl, const char *path)
{
    bool storage = strncmp(path, "/storage/", 9) == 0;
    if (!storage && strncmp(path, "/vms/", 5) != 0)
        return NULL;
    const char *id = path + (storage ? 9 : 5);
    return strchr(id, '/') != NULL ? NULL : atl_acl_pool_of(acl, storage, id);
}

static struct atl_granted granted_to(struct atl_subject *subject, const char *path, bool token)
{
    struct outcome own = walk(subject, path, token);
    const struct atl_pool *pool = own.none ? NULL : pool_of_path(subject->acl, path);
    if (pool != NULL) {
        char pool_path[ATL_ACL_PATH_MAX];
        (void)atl_copy(pool_path, sizeof pool_path, "/pool/");
        (void)atl_copy(pool_path + 6, sizeof pool_path - 6, pool->id);
        struct outcome lent = walk(subject, pool_path, token);
        own.granted.privs |= lent.granted.privs;
        own.granted.propagate |= lent.granted.propagate;
    }
    return own.granted;
}

struct atl_granted atl_subject_granted(struct atl_subject *subject, const char *path)
{
    const struct atl_granted all = {.privs = atl_privs_all(), .propagate = atl_privs_all()};
    if (path[0] != '/')
        return (struct atl_granted){0};
    struct atl_granted granted = subject->root ? all : granted_to(subject, path, false);
    if (subject->token != NULL && subject->separate) {
        struct atl_granted own = granted_to(subject, path, true);
        granted.privs &= own.privs;
        granted.propagate &= own.propagate;
    }
    return granted;
}

bool atl_subject_may(struct atl_subject *subject, const char *path, atl_privs any, atl_privs all)
{
    atl_privs granted = atl_subject_granted(subject, path).privs;
    return (granted & all) == all && (any == 0 || (granted & any) != 0);
}

static void join_names(char *text, size_t size, const char *const *names, const char *between)
{
    text[0] = '\0';
    for (size_t i = 0; names[i] != NULL; i++) {
        size_t used = strlen(text);
        if (i > 0)
            (void)atl_copy(text + used, size - used, between);
        used = strlen(text);
        (void)atl_copy(text + used, size - used, names[i]);
    }
}

static atl_privs names_to_privs(const char *const *names)
{
    atl_privs privs = 0;
    for (size_t i = 0; names != NULL && names[i] != NULL; i++)
        privs |= atl_priv_from_text(names[i]);
    return privs;
}

static enum atl_code denied(struct atl_error *err, const char *path, const char *const *names,
                            const char *between)
{
    char text[256];
    join_names(text, sizeof text, names, between);
    return atl_fail(err, ATL_E_DENIED, NULL, "Permission check failed (%s, %s)", path, text);
}

enum atl_code atl_subject_need(struct atl_subject *subject, const char *path, const char *const *any,
                               struct atl_error *err)
{
    /* Names that are no privileges give an empty set, which nobody has. */
    if ((atl_subject_granted(subject, path).privs & names_to_privs(any)) != 0)
        return ATL_OK;
    return denied(err, path, any, "|");
}

/* --- a method's permission
 * ---------------------------------------------------------------------------------- */

struct check {
    const struct atl_message *table;
    const ProtobufCMessage *input;
    struct atl_subject *subject;
    struct atl_arena *arena;
    struct atl_error *err;
};

enum verdict { HOLDS, FAILS, DOES_NOT_APPLY };

/* The value of {name}; {userid.realm} is what stands behind the @ of userid. */
static const char *parameter(const struct check *check, const char *name, size_t length)
{
    char *copy = atl_arena_strndup(check->arena, name, length);
    char *part = strchr(copy, '.');
    if (part != NULL)
        *part++ = '\0';
    const char *value = atl_message_text(check->table, check->input, copy, check->arena);
    if (value == NULL || part == NULL)
        return value;
    const char *at = strcmp(part, "realm") == 0 ? strrchr(value, '@') : NULL;
    return at == NULL ? NULL : at + 1;
}

/* The path with its parameters, in its one form; NULL when one is not given or does not fit. */
static const char *fill_path(const struct check *check, const char *template)
{
    struct atl_buf text = {0};
    const char *path = NULL;
    for (const char *at = template; *at != '\0';) {
        size_t plain = strcspn(at, "{");
        atl_buf_add(&text, at, plain);
        at += plain;
        if (*at == '\0')
            break;
        size_t length = strcspn(at + 1, "}");
        const char *value = parameter(check, at + 1, length);
        if (value == NULL || value[0] == '\0') {
            atl_buf_done(&text);
            return NULL;
        }
        atl_buf_text(&text, value);
        at += 1 + length + (at[1 + length] == '}' ? 1 : 0);
    }
    if (text.length > 0)
        path = atl_acl_path(text.data, check->arena);
    atl_buf_done(&text);
    return path;
}

/* Taking a setting away needs the same right as giving it. */
static bool applies(const struct check *check, const struct atl_perm *perm)
{
    if (perm->when == NULL)
        return true;
    for (size_t i = 0; perm->when[i] != NULL; i++)
        if (atl_message_given(check->table, check->input, perm->when[i]) ||
            atl_message_lists(check->table, check->input, perm->when[i]))
            return true;
    return false;
}

static enum verdict check_path(const struct check *check, const struct atl_perm *perm)
{
    const char *path = fill_path(check, perm->path);
    if (path == NULL) {
        (void)atl_fail(check->err, ATL_E_DENIED, NULL, "Permission check failed (%s cannot be filled)",
                       perm->path);
        return FAILS;
    }
    atl_privs granted = atl_subject_granted(check->subject, path).privs;
    if (perm->any != NULL && (granted & names_to_privs(perm->any)) == 0) {
        (void)denied(check->err, path, perm->any, "|");
        return FAILS;
    }
    for (size_t i = 0; perm->all != NULL && perm->all[i] != NULL; i++) {
        atl_privs one = atl_priv_from_text(perm->all[i]);
        if (one == 0 || (granted & one) == 0) {
            (void)denied(check->err, path, (const char *const[]){perm->all[i], NULL}, "");
            return FAILS;
        }
    }
    return perm->any != NULL || perm->all != NULL ? HOLDS : FAILS;
}

static enum verdict check_self(const struct check *check, const char *name)
{
    const char *value = atl_message_text(check->table, check->input, name, check->arena);
    /* A token with rights of its own must not act as its whole user. */
    if (value != NULL && !check->subject->separate && strcmp(value, check->subject->user) == 0)
        return HOLDS;
    (void)atl_fail(check->err, ATL_E_DENIED, NULL, "Permission check failed (only the user himself may)");
    return FAILS;
}

static enum verdict check_perm(const struct check *check, const struct atl_perm *perm, int depth);

static enum verdict check_or(const struct check *check, const struct atl_perm *const *parts, int depth)
{
    enum verdict verdict = DOES_NOT_APPLY;
    struct atl_error last = {0};
    for (size_t i = 0; parts[i] != NULL; i++) {
        enum verdict one = check_perm(check, parts[i], depth);
        if (one == HOLDS)
            return HOLDS;
        if (one == FAILS) {
            verdict = FAILS;
            last = *check->err; /* the last way is the one that others than the user himself would take */
        }
    }
    if (verdict == FAILS)
        *check->err = last;
    return verdict;
}

static enum verdict check_perm(const struct check *check, const struct atl_perm *perm, int depth)
{
    if (depth > PERM_DEPTH_MAX) {
        (void)atl_fail(check->err, ATL_E_DENIED, NULL, "Permission check failed (nested too deep)");
        return FAILS;
    }
    if (!applies(check, perm))
        return DOES_NOT_APPLY;
    bool something = perm->user || perm->world || perm->code;
    if (perm->self != NULL) {
        something = true;
        if (check_self(check, perm->self) == FAILS)
            return FAILS;
    }
    if (perm->path != NULL) {
        something = true;
        if (check_path(check, perm) == FAILS)
            return FAILS;
    }
    if (perm->or_ != NULL) {
        something = true;
        if (check_or(check, perm->or_, depth + 1) == FAILS)
            return FAILS;
    }
    for (size_t i = 0; perm->and_ != NULL && perm->and_[i] != NULL; i++) {
        something = true;
        if (check_perm(check, perm->and_[i], depth + 1) == FAILS)
            return FAILS;
    }
    if (!something)
        (void)atl_fail(check->err, ATL_E_DENIED, NULL, "Permission check failed (nobody may)");
    return something ? HOLDS : FAILS;
}

enum atl_code atl_perm_check(const struct atl_perm *perm, const struct atl_message *table,
                             const ProtobufCMessage *input, struct atl_subject *subject,
                             struct atl_arena *arena, struct atl_error *err)
{
    if (perm == NULL)
        return atl_fail(err, ATL_E_DENIED, NULL, "Permission check failed (users may not call this)");
    if (perm->world)
        return ATL_OK;
    if (subject == NULL)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "No ticket");
    struct atl_error local = {0};
    const struct check check = {table, input, subject, arena, &local};
    if (check_perm(&check, perm, 0) != FAILS)
        return ATL_OK;
    if (err != NULL)
        *err = local;
    return local.code;
}
