/* user.cfg as text: reading and writing. */
#include <stdlib.h>
#include <string.h>

#include "pure/acl.h"
#include "pure/number.h"

enum { LINE_PARTS = 11 };

struct reader {
    struct atl_acl *acl;
    struct atl_errors *warnings;
    char *parts[LINE_PARTS]; /* of the line being read; those behind the last are "" */
    size_t count;
    unsigned int line;
};

/* --- reading
 * ------------------------------------------------------------------------------------------------ */

/* %XX in place; a bad escape stays as it is, %00 too. */
static char *unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        int high = *from == '%' ? atl_hex_value(from[1]) : -1;
        int low = high >= 0 ? atl_hex_value(from[2]) : -1;
        if (low >= 0 && high + low > 0) {
            *to++ = (char)(high * 16 + low);
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    return text;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Splits in place on comma, semicolon and blank; sorted, without doubles. */
static struct atl_list split_list(char *text, struct atl_arena *arena)
{
    struct atl_list list = {0};
    char *rest = text;
    for (char *item = strtok_r(text, ",; \t", &rest); item != NULL; item = strtok_r(NULL, ",; \t", &rest)) {
        list.items = atl_arena_grow(arena, list.items, list.count, &list.capacity, sizeof list.items[0]);
        list.items[list.count++] = item;
    }
    if (list.count < 2)
        return list;
    qsort(list.items, list.count, sizeof list.items[0], compare_texts);
    size_t kept = 1;
    for (size_t i = 1; i < list.count; i++)
        if (strcmp(list.items[i], list.items[kept - 1]) != 0)
            list.items[kept++] = list.items[i];
    list.count = kept;
    return list;
}

static int64_t to_time(const char *text)
{
    char *end = NULL;
    long long value = strtoll(text, &end, 10);
    return *end != '\0' || value < 0 ? 1 : value; /* what cannot be read is over: it must not last for ever */
}

#define APPEND(kind, many)                                                                                   \
    __extension__({                                                                                          \
        acl->many = atl_arena_grow(acl->arena, acl->many, acl->kind##_count, &acl->kind##_room,              \
                                   sizeof acl->many[0]);                                                     \
        &acl->many[acl->kind##_count++];                                                                     \
    })

static bool read_user(struct reader *reader)
{
    struct atl_acl *acl = reader->acl;
    char **part = reader->parts;
    if (!atl_userid_valid(part[1]))
        return false;
    struct atl_user *user = APPEND(user, users);
    *user = (struct atl_user){
        .id = part[1],
        .enabled = strcmp(part[2], "1") == 0,
        .expire = to_time(part[3]),
        .firstname = unescape(part[4]),
        .lastname = unescape(part[5]),
        .email = unescape(part[6]),
        .comment = unescape(part[7]),
        .keys = unescape(part[8]),
    };
    return true;
}

static bool read_token(struct reader *reader)
{
    struct atl_acl *acl = reader->acl;
    char **part = reader->parts;
    if (!atl_tokenid_valid(part[1]))
        return false;
    struct atl_token *token = APPEND(token, tokens);
    *token = (struct atl_token){
        .id = part[1],
        .expire = to_time(part[2]),
        .separate = strcmp(part[3], "0") != 0,
        .comment = unescape(part[4]),
    };
    return true;
}

static bool id_valid(const char *id)
{
    return id[0] != '\0' &&
           id[strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] == '\0';
}

static bool pool_id_valid(const char *id)
{
    return id[0] != '\0' && id[0] != '/' && strlen(id) <= 128 &&
           id[strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/")] == '\0';
}

static bool read_group(struct reader *reader)
{
    struct atl_acl *acl = reader->acl;
    char **part = reader->parts;
    if (!id_valid(part[1]))
        return false;
    struct atl_group *group = APPEND(group, groups);
    *group = (struct atl_group){
        .id = part[1], .members = split_list(part[2], acl->arena), .comment = unescape(part[3])};
    return true;
}

static bool read_pool(struct reader *reader)
{
    struct atl_acl *acl = reader->acl;
    char **part = reader->parts;
    if (!pool_id_valid(part[1]))
        return false;
    struct atl_pool *pool = APPEND(pool, pools);
    *pool = (struct atl_pool){
        .id = part[1],
        .comment = unescape(part[2]),
        .guests = split_list(part[3], acl->arena),
        .storages = split_list(part[4], acl->arena),
    };
    return true;
}

static bool read_role(struct reader *reader)
{
    struct atl_acl *acl = reader->acl;
    char **part = reader->parts;
    if (!id_valid(part[1]) || atl_builtin_role(part[1]) != NULL)
        return false;
    struct atl_role *role = APPEND(role, roles);
    *role = (struct atl_role){.id = part[1], .privs = split_list(part[2], acl->arena)};
    return true;
}

static void read_subject(struct atl_acl *acl, const char *subject, const struct atl_list *roles,
                         struct atl_rule rule)
{
    rule.kind = strchr(subject, '!') != NULL ? ATL_SUBJECT_TOKEN : ATL_SUBJECT_USER;
    if (subject[0] == '@') {
        rule.kind = ATL_SUBJECT_GROUP;
        subject++;
    }
    rule.subject = subject;
    for (size_t i = 0; i < roles->count; i++) {
        rule.role = roles->items[i];
        *APPEND(rule, rules) = rule;
    }
}

static bool read_rule(struct reader *reader)
{
    struct atl_acl *acl = reader->acl;
    char **part = reader->parts;
    const char *path = atl_acl_path(part[2], acl->arena);
    if (path == NULL)
        return false;
    struct atl_list subjects = split_list(part[3], acl->arena);
    struct atl_list roles = split_list(part[4], acl->arena);
    if (subjects.count * roles.count > 100000)
        return false;
    struct atl_rule rule = {.path = path, .propagate = strcmp(part[1], "1") == 0};
    for (size_t i = 0; i < subjects.count; i++)
        read_subject(acl, subjects.items[i], &roles, rule);
    return true;
}

static const struct {
    const char *word;
    bool (*read)(struct reader *reader);
} kinds[] = {
    {"user", read_user}, {"token", read_token}, {"group", read_group},
    {"pool", read_pool}, {"role", read_role},   {"acl", read_rule},
};

static void read_line(struct reader *reader, const char *line, size_t length)
{
    struct atl_acl *acl = reader->acl;
    if (memchr(line, '\0', length) != NULL) {
        atl_errors_add(reader->warnings, atl_arena_format(acl->arena, "line %u", reader->line),
                       "holds a zero byte and is dropped"); /* no text: it could not be written back */
        return;
    }
    char *copy = atl_arena_strndup(acl->arena, line, length);
    reader->count = 0;
    for (char *rest = copy; rest != NULL && reader->count < LINE_PARTS;)
        reader->parts[reader->count++] = strsep(&rest, ":");
    char *nothing = atl_arena_alloc(acl->arena, 1);
    for (size_t i = reader->count; i < LINE_PARTS; i++)
        reader->parts[i] = nothing;
    for (size_t i = 0; i < ATL_COUNT(kinds); i++)
        if (strcmp(reader->parts[0], kinds[i].word) == 0 && kinds[i].read(reader))
            return;
    const char *name = atl_arena_format(acl->arena, "line %u", reader->line);
    atl_errors_add(reader->warnings, name, "cannot be understood and is ignored");
    acl->unknown = atl_arena_grow(acl->arena, acl->unknown, acl->unknown_count, &acl->unknown_room,
                                  sizeof acl->unknown[0]);
    acl->unknown[acl->unknown_count++] = atl_arena_strndup(acl->arena, line, length);
}

/* --- after reading: sorted, without doubles, without rules for subjects that are not there
 * ------------------ */

static int compare_ids(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b); /* the id is the first member of each */
}

static size_t sort_unique(void *array, size_t count, size_t size)
{
    if (count < 2)
        return count;
    char *items = array;
    qsort(items, count, size, compare_ids);
    size_t kept = 1;
    for (size_t i = 1; i < count; i++) {
        if (compare_ids(items + i * size, items + (kept - 1) * size) == 0)
            continue;
        if (i != kept)
            memcpy(items + kept * size, items + i * size, size);
        kept++;
    }
    return kept;
}

static int compare_rules(const void *a, const void *b)
{
    const struct atl_rule *x = a;
    const struct atl_rule *y = b;
    int order = strcmp(x->path, y->path);
    if (order == 0)
        order = (int)x->kind - (int)y->kind;
    if (order == 0)
        order = strcmp(x->subject, y->subject);
    if (order == 0)
        order = strcmp(x->role, y->role);
    return order != 0 ? order : (int)x->propagate - (int)y->propagate;
}

static bool subject_exists(const struct atl_acl *acl, const struct atl_rule *rule)
{
    if (rule->kind == ATL_SUBJECT_TOKEN)
        return atl_acl_token(acl, rule->subject) != NULL;
    if (rule->kind == ATL_SUBJECT_GROUP)
        return atl_acl_group(acl, rule->subject) != NULL;
    return atl_acl_user(acl, rule->subject) != NULL || strcmp(rule->subject, "root@pam") == 0;
}

static bool same_rule(const struct atl_rule *a, const struct atl_rule *b)
{
    return a->kind == b->kind && strcmp(a->path, b->path) == 0 && strcmp(a->subject, b->subject) == 0 &&
           strcmp(a->role, b->role) == 0;
}

/* A rule for nobody would come to life when somebody of that name is made later: it goes. */
static void clean_rules(struct atl_acl *acl, struct atl_errors *warnings)
{
    if (acl->rule_count > 1)
        qsort(acl->rules, acl->rule_count, sizeof acl->rules[0], compare_rules);
    size_t kept = 0;
    for (size_t i = 0; i < acl->rule_count; i++) {
        const struct atl_rule *rule = &acl->rules[i];
        if (!subject_exists(acl, rule)) {
            atl_errors_add(warnings, rule->subject, "is not there; its rule on %s is ignored", rule->path);
            continue;
        }
        if (kept > 0 && same_rule(rule, &acl->rules[kept - 1]))
            continue;
        acl->rules[kept++] = *rule;
    }
    acl->rule_count = kept;
}

/* A token without its user goes for the same reason. */
static void clean_tokens(struct atl_acl *acl, struct atl_errors *warnings)
{
    size_t kept = 0;
    for (size_t i = 0; i < acl->token_count; i++) {
        const struct atl_token *token = &acl->tokens[i];
        char user[ATL_USERID_MAX + 1] = "";
        size_t length = strcspn(token->id, "!");
        memcpy(user, token->id, length <= ATL_USERID_MAX ? length : 0);
        if (atl_acl_user(acl, user) == NULL && strcmp(user, "root@pam") != 0)
            atl_errors_add(warnings, token->id, "has no user and is ignored");
        else
            acl->tokens[kept++] = *token;
    }
    acl->token_count = kept;
}

struct atl_acl *atl_acl_parse(const char *text, size_t size, struct atl_arena *arena,
                              struct atl_errors *warnings)
{
    struct atl_acl *acl = atl_arena_new(arena, struct atl_acl);
    acl->arena = arena;
    struct reader reader = {.acl = acl, .warnings = warnings};
    for (size_t at = 0; at < size;) {
        const char *line = text + at;
        const char *end = memchr(line, '\n', size - at);
        size_t length = end != NULL ? (size_t)(end - line) : size - at;
        at += length + 1;
        reader.line++;
        while (length > 0 &&
               (line[length - 1] == ' ' || line[length - 1] == '\r' || line[length - 1] == '\t'))
            length--;
        if (length > 0 && line[0] != '#')
            read_line(&reader, line, length);
    }
    acl->user_count = sort_unique(acl->users, acl->user_count, sizeof acl->users[0]);
    acl->token_count = sort_unique(acl->tokens, acl->token_count, sizeof acl->tokens[0]);
    acl->group_count = sort_unique(acl->groups, acl->group_count, sizeof acl->groups[0]);
    acl->pool_count = sort_unique(acl->pools, acl->pool_count, sizeof acl->pools[0]);
    acl->role_count = sort_unique(acl->roles, acl->role_count, sizeof acl->roles[0]);
    clean_tokens(acl, warnings);
    clean_rules(acl, warnings);
    atl_acl_seal(acl);
    return acl;
}

/* --- writing
 * ------------------------------------------------------------------------------------------------ */

static void put_escaped(struct atl_buf *out, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c >= 0x7f || c == '%' || c == ':') {
            atl_buf_char(out, '%');
            atl_buf_char(out, digits[c >> 4]);
            atl_buf_char(out, digits[c & 15]);
        } else {
            atl_buf_char(out, (char)c);
        }
    }
    atl_buf_char(out, ':');
}

static void put_list(struct atl_buf *out, const struct atl_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            atl_buf_char(out, ',');
        atl_buf_text(out, list->items[i]);
    }
    atl_buf_char(out, ':');
}

static void write_people(const struct atl_acl *acl, struct atl_buf *out)
{
    for (size_t i = 0; i < acl->user_count; i++) {
        const struct atl_user *user = &acl->users[i];
        atl_buf_printf(out, "user:%s:%d:%" PRId64 ":", user->id, user->enabled, user->expire);
        put_escaped(out, user->firstname);
        put_escaped(out, user->lastname);
        put_escaped(out, user->email);
        put_escaped(out, user->comment);
        put_escaped(out, user->keys);
        atl_buf_char(out, '\n');
    }
    for (size_t i = 0; i < acl->token_count; i++) {
        const struct atl_token *token = &acl->tokens[i];
        atl_buf_printf(out, "token:%s:%" PRId64 ":%d:", token->id, token->expire, token->separate);
        put_escaped(out, token->comment);
        atl_buf_char(out, '\n');
    }
}

static void write_sets(const struct atl_acl *acl, struct atl_buf *out)
{
    for (size_t i = 0; i < acl->group_count; i++) {
        atl_buf_printf(out, "group:%s:", acl->groups[i].id);
        put_list(out, &acl->groups[i].members);
        put_escaped(out, acl->groups[i].comment);
        atl_buf_char(out, '\n');
    }
    for (size_t i = 0; i < acl->pool_count; i++) {
        atl_buf_printf(out, "pool:%s:", acl->pools[i].id);
        put_escaped(out, acl->pools[i].comment);
        put_list(out, &acl->pools[i].guests);
        put_list(out, &acl->pools[i].storages);
        atl_buf_char(out, '\n');
    }
    for (size_t i = 0; i < acl->role_count; i++) {
        atl_buf_printf(out, "role:%s:", acl->roles[i].id);
        put_list(out, &acl->roles[i].privs);
        atl_buf_char(out, '\n');
    }
}

void atl_acl_write(const struct atl_acl *acl, struct atl_buf *out)
{
    write_people(acl, out);
    write_sets(acl, out);
    for (size_t i = 0; i < acl->rule_count; i++) {
        const struct atl_rule *rule = &acl->rules[i];
        atl_buf_printf(out, "acl:%d:%s:%s%s:%s:\n", rule->propagate, rule->path,
                       rule->kind == ATL_SUBJECT_GROUP ? "@" : "", rule->subject, rule->role);
    }
    for (size_t i = 0; i < acl->unknown_count; i++)
        atl_buf_printf(out, "%s\n", acl->unknown[i]);
}
