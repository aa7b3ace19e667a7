/*
 * Who may do what: the file user.cfg as data, and the evaluation of permissions on it.
 *
 * user.cfg holds users, API tokens, groups, pools, roles and access rules, one per line, parts separated by
 * colons. Reading, changing and writing it are functions of text; nothing here knows where the text lies.
 */
#ifndef ATL_PURE_ACL_H
#define ATL_PURE_ACL_H

#include "pure/arena.h"
#include "pure/buf.h"
#include "pure/contract.h"
#include "pure/error.h"
#include "pure/roles.h"

enum { ATL_USERID_MAX = 64, ATL_ACL_PATH_MAX = 256 };

struct atl_list { /* texts in an arena, sorted, no doubles */
    const char **items;
    size_t count;
    size_t capacity;
};

struct atl_user {
    const char *id; /* "admin@pve" */
    bool enabled;
    int64_t expire; /* wall clock, seconds; 0: never */
    const char *firstname;
    const char *lastname;
    const char *email;
    const char *comment;
    const char *keys;
};

struct atl_token {
    const char *id; /* "admin@pve!ci" */
    int64_t expire; /* 0: as the user */
    bool separate;  /* "privsep": has only what its own rules give, cut with its user's */
    const char *comment;
};

struct atl_group {
    const char *id;
    struct atl_list members;
    const char *comment;
};

struct atl_pool {
    const char *id; /* "dev" or "dev/ci" */
    const char *comment;
    struct atl_list guests; /* ids as text */
    struct atl_list storages;
};

struct atl_role {
    const char *id;
    struct atl_list privs;
};

enum atl_subject_kind { ATL_SUBJECT_USER, ATL_SUBJECT_GROUP, ATL_SUBJECT_TOKEN };

struct atl_rule { /* one role for one subject on one path */
    const char *path;
    const char *subject; /* without the @ of groups */
    const char *role;
    enum atl_subject_kind kind;
    bool propagate;
};

struct atl_acl_index;

/* All arrays are sorted by id (rules: path, kind, subject, role). Everything lives in the arena. */
struct atl_acl {
    struct atl_arena *arena;
    struct atl_user *users;
    struct atl_token *tokens;
    struct atl_group *groups;
    struct atl_pool *pools;
    struct atl_role *roles; /* without the built-in ones */
    struct atl_rule *rules;
    const char **unknown; /* lines that were not understood, kept and written back */
    size_t user_count, token_count, group_count, pool_count, role_count, rule_count, unknown_count;
    size_t user_room, token_room, group_room, pool_room, role_room, rule_room, unknown_room;
    struct atl_acl_index *index; /* built by atl_acl_seal(), NULL while being changed */
};

/* --- text
 * --------------------------------------------------------------------------------------------------- */

/*
 * Reads user.cfg. A line that cannot be understood is kept in `unknown` and named in warnings (may be NULL);
 * it never gives anybody a right. What is returned is sealed.
 */
struct atl_acl *atl_acl_parse(const char *text, size_t size, struct atl_arena *arena,
                              struct atl_errors *warnings);

/* Writes it in canonical order; the result read again is equal. */
void atl_acl_write(const struct atl_acl *acl, struct atl_buf *out);

/* --- lookup and change
 * -------------------------------------------------------------------------------------- */

struct atl_user *atl_acl_user(const struct atl_acl *acl, const char *id);
struct atl_token *atl_acl_token(const struct atl_acl *acl, const char *id);
struct atl_group *atl_acl_group(const struct atl_acl *acl, const char *id);
struct atl_pool *atl_acl_pool(const struct atl_acl *acl, const char *id);
struct atl_role *atl_acl_role(const struct atl_acl *acl, const char *id);

/* Finds or makes the entry; new ones are empty (users: enabled). The index is dropped: seal again before
 * checks. Pointers got before are no longer valid. */
struct atl_user *atl_acl_add_user(struct atl_acl *acl, const char *id);
struct atl_token *atl_acl_add_token(struct atl_acl *acl, const char *id);
struct atl_group *atl_acl_add_group(struct atl_acl *acl, const char *id);
struct atl_pool *atl_acl_add_pool(struct atl_acl *acl, const char *id);
struct atl_role *atl_acl_add_role(struct atl_acl *acl, const char *id);

/* Each also takes away what refers to it: a user's tokens, memberships and rules, a token's rules ... */
void atl_acl_drop_user(struct atl_acl *acl, const char *id);
void atl_acl_drop_token(struct atl_acl *acl, const char *id);
void atl_acl_drop_group(struct atl_acl *acl, const char *id);
void atl_acl_drop_pool(struct atl_acl *acl, const char *id);
void atl_acl_drop_role(struct atl_acl *acl, const char *id);

/* Adds or changes one rule; the texts are copied. */
void atl_acl_add_rule(struct atl_acl *acl, const struct atl_rule *rule);
/* Takes one rule away; false if there is none. */
bool atl_acl_drop_rule(struct atl_acl *acl, const struct atl_rule *rule);

bool atl_list_has(const struct atl_list *list, const char *text);
void atl_list_add(struct atl_list *list, const char *text, struct atl_arena *arena);
void atl_list_drop(struct atl_list *list, const char *text);

/* The pool that a guest (id as text) or a storage is in, or NULL; the acl is sealed. */
const struct atl_pool *atl_acl_pool_of(const struct atl_acl *acl, bool storage, const char *id);

/* Makes the index that checks need. Cost: once per change of the file, O(n log n). */
void atl_acl_seal(struct atl_acl *acl);

/* --- names
 * -------------------------------------------------------------------------------------------------- */

/* "user@realm": at most 64 bytes, no colon, slash, blank, comma or control byte. */
bool atl_userid_valid(const char *id);
/* "user@realm!token" */
bool atl_tokenid_valid(const char *id);
/* The access path in its one form ("//vms/100/" -> "/vms/100"), or NULL if it is none that rules may have. */
const char *atl_acl_path(const char *path, struct atl_arena *arena);

/* --- evaluation
 * --------------------------------------------------------------------------------------------- */

/* Who is asking, ready for many checks. Belongs to one thread and to one sealed acl. */
struct atl_subject {
    const struct atl_acl *acl;
    const char *user;
    const char *token;      /* full id "admin@pve!ci", or NULL */
    bool root;              /* root@pam: may all (its separate tokens may not) */
    bool separate;          /* the token's rights are cut with the user's */
    const uint32_t *groups; /* indexes into acl->groups, ascending */
    size_t group_count;
    struct atl_subject_memo *memo; /* results per path that rules stand on */
};

/*
 * Finds the user and his token, and checks that they are there, enabled and not expired at `now` (wall clock,
 * seconds). token: the part behind the '!', or NULL. Texts and memo live in the arena.
 * Errors: ATL_E_UNAUTHENTICATED.
 */
ATL_MUST_CHECK enum atl_code atl_subject_init(struct atl_subject *subject, const struct atl_acl *acl,
                                              const char *user, const char *token, int64_t now,
                                              struct atl_arena *arena, struct atl_error *err);

struct atl_granted {
    atl_privs privs;     /* on the path itself */
    atl_privs propagate; /* those of them that hold below, too */
};

/*
 * What the subject may on a path: the deepest path with rules for him wins; there, his own rules win over
 * those of his groups; NoAccess takes all away. Pools lend their members what is granted on /pool/ID. path:
 * in the one form of atl_acl_path(), or any text (which then has no rules of its own). Cost: one hash lookup
 * per part of the path.
 */
struct atl_granted atl_subject_granted(struct atl_subject *subject, const char *path);

/* All of `all` and (if not 0) one of `any`. */
bool atl_subject_may(struct atl_subject *subject, const char *path, atl_privs any, atl_privs all);

/* As above by names (one is enough, NULL-terminated); the error says "Permission check failed (PATH, PRIV)".
 */
ATL_MUST_CHECK enum atl_code atl_subject_need(struct atl_subject *subject, const char *path,
                                              const char *const *any, struct atl_error *err);

/*
 * Evaluates a method's permission against its parameters.
 * subject may be NULL (nobody is logged in): then only `world` is admitted.
 * Errors: ATL_E_UNAUTHENTICATED nobody where somebody is needed; ATL_E_DENIED with the text clients know.
 */
ATL_MUST_CHECK enum atl_code atl_perm_check(const struct atl_perm *perm, const struct atl_message *table,
                                            const ProtobufCMessage *input, struct atl_subject *subject,
                                            struct atl_arena *arena, struct atl_error *err);

#endif
