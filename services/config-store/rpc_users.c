/* /access/users and /access/password. */
#include "rpc_users.h"

#include <string.h>

#include "atoll/access/v1/access.atl.h"
#include "core/secrets.h"
#include "edit.h"
#include "identity.h"
#include "pure/codec.h"

bool cfg_may_touch_user(struct atl_request *request, const char *userid)
{
    const struct atl_principal *principal = atl_request_principal(request);
    if (strcmp(userid, "root@pam") != 0)
        return true;
    if (principal->user == NULL || (strcmp(principal->user, "root@pam") == 0 && principal->token == NULL))
        return true;
    cfg_refuse(request, ATL_E_DENIED, NULL, "Permission check failed (only root@pam changes root@pam)");
    return false;
}

static char *dup_or_null(struct atl_arena *arena, const char *text)
{
    return text != NULL && text[0] != '\0' ? atl_arena_strdup(arena, text) : NULL;
}

static char *groups_of(const struct atl_acl *acl, const char *userid, struct atl_arena *arena)
{
    struct atl_buf text = {0};
    for (size_t i = 0; i < acl->group_count; i++) {
        if (!atl_list_has(&acl->groups[i].members, userid))
            continue;
        if (text.length > 0)
            atl_buf_char(&text, ',');
        atl_buf_text(&text, acl->groups[i].id);
    }
    char *copy = atl_arena_strdup(arena, text.data != NULL ? text.data : "");
    atl_buf_done(&text);
    return copy;
}

static bool token_of(const struct atl_token *token, const char *userid)
{
    size_t length = strlen(userid);
    return strncmp(token->id, userid, length) == 0 && token->id[length] == '!';
}

/* --- listing
 * ------------------------------------------------------------------------------------------------ */

static void add_tokens(Atoll__Access__V1__UsersRow *row, const struct atl_acl *acl, struct atl_arena *arena)
{
    row->tokens = atl_arena_array(arena, Atoll__Access__V1__UsersRowTokensEntry *, acl->token_count + 1);
    for (size_t i = 0; i < acl->token_count; i++) {
        const struct atl_token *token = &acl->tokens[i];
        if (!token_of(token, row->userid))
            continue;
        Atoll__Access__V1__UsersRowTokensEntry *entry =
            atl_arena_new(arena, Atoll__Access__V1__UsersRowTokensEntry);
        atoll__access__v1__users_row_tokens_entry__init(entry);
        entry->tokenid = atl_arena_strdup(arena, strchr(token->id, '!') + 1);
        entry->comment = dup_or_null(arena, token->comment);
        entry->has_expire = entry->has_privsep = 1;
        entry->expire = token->expire;
        entry->privsep = token->separate;
        row->tokens[row->n_tokens++] = entry;
    }
}

static Atoll__Access__V1__UsersRow *user_row(const struct atl_acl *acl, const struct atl_user *user,
                                             bool full, struct atl_arena *arena)
{
    Atoll__Access__V1__UsersRow *row = atl_arena_new(arena, Atoll__Access__V1__UsersRow);
    atoll__access__v1__users_row__init(row);
    row->userid = atl_arena_strdup(arena, user->id);
    row->has_enable = row->has_expire = 1;
    row->enable = user->enabled;
    row->expire = user->expire;
    row->firstname = dup_or_null(arena, user->firstname);
    row->lastname = dup_or_null(arena, user->lastname);
    row->email = dup_or_null(arena, user->email);
    row->comment = dup_or_null(arena, user->comment);
    row->keys = dup_or_null(arena, user->keys);
    row->realm_type = atl_arena_strdup(arena, strrchr(user->id, '@') + 1);
    if (full) {
        row->groups = groups_of(acl, user->id, arena);
        add_tokens(row, acl, arena);
    }
    return row;
}

/* May the caller see this user: himself, or with rights on one of his groups or on all. */
static bool sees(struct atl_subject *subject, const struct atl_user *user, atl_privs any)
{
    if (strcmp(subject->user, user->id) == 0 || atl_subject_may(subject, "/access/groups", any, 0))
        return true;
    for (size_t i = 0; i < subject->acl->group_count; i++) {
        const struct atl_group *group = &subject->acl->groups[i];
        char path[ATL_ACL_PATH_MAX] = "/access/groups/";
        if (atl_list_has(&group->members, user->id) &&
            atl_copy(path + strlen(path), sizeof path - strlen(path), group->id) &&
            atl_subject_may(subject, path, any, 0))
            return true;
    }
    return false;
}

void cfg_handle_list_users(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Access__V1__ListUsersRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_subject subject;
    if (!cfg_get_subject(cfg, request, &subject))
        return;
    atl_privs any = atl_priv_from_text("User.Modify") | atl_priv_from_text("Sys.Audit");
    const struct atl_acl *acl = subject.acl;
    Atoll__Access__V1__ListUsersReply reply = ATOLL__ACCESS__V1__LIST_USERS_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Access__V1__UsersRow *, acl->user_count + 1);
    for (size_t i = 0; i < acl->user_count; i++) {
        const struct atl_user *row = &acl->users[i];
        if ((wish->has_enabled && (wish->enabled != 0) != row->enabled) || !sees(&subject, row, any))
            continue;
        reply.entry[reply.n_entry++] = user_row(acl, row, wish->has_full && wish->full, arena);
    }
    atl_request_reply(request, &reply.base);
}

static void put_json_token(struct atl_buf *text, const struct atl_token *token, bool first)
{
    const char *name = strchr(token->id, '!') + 1;
    if (!first)
        atl_buf_char(text, ',');
    atl_json_string(text, name, strlen(name));
    atl_buf_printf(text, ":{\"expire\":%" PRId64 ",\"privsep\":%d", token->expire, token->separate);
    if (token->comment[0] != '\0') {
        atl_buf_text(text, ",\"comment\":");
        atl_json_string(text, token->comment, strlen(token->comment));
    }
    atl_buf_char(text, '}');
}

/* The map of tokens: free keys, so it goes out as JSON text. NULL when there are none. */
static char *tokens_json(const struct atl_acl *acl, const char *userid, struct atl_arena *arena)
{
    struct atl_buf text = {0};
    atl_buf_char(&text, '{');
    for (size_t i = 0; i < acl->token_count; i++)
        if (token_of(&acl->tokens[i], userid))
            put_json_token(&text, &acl->tokens[i], text.length == 1);
    atl_buf_char(&text, '}');
    char *copy = text.length > 2 ? atl_arena_strdup(arena, text.data) : NULL;
    atl_buf_done(&text);
    return copy;
}

void cfg_handle_get_user(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Access__V1__GetUserRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    (void)cfg_store_tree(cfg->store);
    const struct atl_acl *acl = atl_keeper_acl(cfg->keeper);
    const struct atl_user *found = atl_acl_user(acl, wish->userid);
    if (found == NULL) {
        cfg_refuse(request, ATL_E_ABSENT, "userid", "no such user ('%s')", wish->userid);
        return;
    }
    Atoll__Access__V1__GetUserReply reply = ATOLL__ACCESS__V1__GET_USER_REPLY__INIT;
    reply.has_enable = reply.has_expire = 1;
    reply.enable = found->enabled;
    reply.expire = found->expire;
    reply.firstname = dup_or_null(arena, found->firstname);
    reply.lastname = dup_or_null(arena, found->lastname);
    reply.email = dup_or_null(arena, found->email);
    reply.comment = dup_or_null(arena, found->comment);
    reply.keys = dup_or_null(arena, found->keys);
    reply.groups = atl_arena_array(arena, char *, acl->group_count + 1);
    for (size_t i = 0; i < acl->group_count; i++)
        if (atl_list_has(&acl->groups[i].members, wish->userid))
            reply.groups[reply.n_groups++] = atl_arena_strdup(arena, acl->groups[i].id);
    reply.tokens = tokens_json(acl, wish->userid, arena);
    atl_request_reply(request, &reply.base);
}

/* --- changing
 * ----------------------------------------------------------------------------------------------- */

static enum atl_code set_groups(struct atl_acl *acl, const char *userid, const char *groups, bool append,
                                struct atl_error *err)
{
    if (!append)
        for (size_t i = 0; i < acl->group_count; i++)
            atl_list_drop(&acl->groups[i].members, userid);
    char *copy = atl_arena_strdup(acl->arena, groups);
    char *next = NULL;
    for (char *name = strtok_r(copy, ",; ", &next); name != NULL; name = strtok_r(NULL, ",; ", &next)) {
        struct atl_group *group = atl_acl_group(acl, name);
        if (group == NULL)
            return atl_fail(err, ATL_E_INVALID, "groups", "no such group '%s'", name);
        atl_list_add(&group->members, userid, acl->arena);
    }
    return ATL_OK;
}

static void set_text(struct atl_acl *acl, const char **field, const char *value)
{
    if (value != NULL)
        *field = atl_arena_strdup(acl->arena, value);
}

struct creating { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Access__V1__CreateUserRequest *input;
    const char *hash; /* of the password; NULL: none */
};

static bool create_user(struct cfg_edit *edit, const void *wish)
{
    const struct creating *creating = wish;
    const Atoll__Access__V1__CreateUserRequest *input = creating->input;
    if (atl_acl_user(edit->acl, input->userid) != NULL) {
        cfg_refuse(edit->request, ATL_E_EXISTS, "userid", "create user failed: user '%s' already exists",
                   input->userid);
        return false;
    }
    struct atl_user *made = atl_acl_add_user(edit->acl, input->userid);
    made->enabled = !input->has_enable || input->enable;
    made->expire = input->has_expire ? input->expire : 0;
    set_text(edit->acl, &made->firstname, input->firstname);
    set_text(edit->acl, &made->lastname, input->lastname);
    set_text(edit->acl, &made->email, input->email);
    set_text(edit->acl, &made->comment, input->comment);
    set_text(edit->acl, &made->keys, input->keys);
    struct atl_error error;
    if (input->groups != NULL &&
        set_groups(edit->acl, input->userid, input->groups, true, &error) != ATL_OK) {
        atl_request_fail(edit->request, &error, NULL);
        return false;
    }
    cfg_edit_users(edit);
    if (strcmp(strrchr(input->userid, '@'), "@pve") ==
        0) /* no hash: what an earlier user of the name had goes */
        cfg_edit_password(edit, input->userid, creating->hash);
    cfg_edit_finish(edit);
    return true;
}

static void on_created_hash(const struct cfg_check_result *result, void *user)
{
    struct creating *creating = user;
    if (result->code != ATL_OK) {
        atl_request_fail(creating->request, &result->error, NULL);
        return;
    }
    creating->hash = atl_arena_strdup(atl_request_arena(creating->request), result->hash);
    cfg_edit_run(creating->cfg, creating->request, create_user, creating);
}

void cfg_handle_create_user(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Access__V1__CreateUserRequest *wish = (const void *)input;
    struct creating *creating = atl_arena_new(atl_request_arena(request), struct creating);
    *creating = (struct creating){.cfg = cfg, .request = request, .input = wish};
    const char *realm = strrchr(wish->userid, '@');
    if (!atl_userid_valid(wish->userid) || (strcmp(realm, "@pve") != 0 && strcmp(realm, "@pam") != 0)) {
        cfg_refuse(request, ATL_E_INVALID, "userid",
                   "'%s' is not NAME@REALM of a realm that exists (pam, pve)", wish->userid);
        return;
    }
    if (wish->password == NULL) {
        cfg_edit_run(cfg, request, create_user, creating);
        return;
    }
    if (strcmp(realm, "@pve") != 0) {
        cfg_refuse(request, ATL_E_INVALID, "password", "the realm '%s' keeps its passwords itself",
                   realm + 1);
        return;
    }
    const struct cfg_check check = {.user = wish->userid, .hash_new = wish->password};
    struct atl_error error;
    if (cfg_checker_run(cfg_identity_checker(cfg->identity), &check, on_created_hash, creating, &error) !=
        ATL_OK)
        atl_request_fail(request, &error, NULL);
}

static bool update_user(struct cfg_edit *edit, const void *input)
{
    const Atoll__Access__V1__UpdateUserRequest *wish = input;
    struct atl_user *entry = atl_acl_user(edit->acl, wish->userid);
    if (entry == NULL) {
        cfg_refuse(edit->request, ATL_E_ABSENT, "userid", "update user failed: no such user ('%s')",
                   wish->userid);
        return false;
    }
    if (wish->has_enable)
        entry->enabled = wish->enable;
    if (wish->has_expire)
        entry->expire = wish->expire;
    set_text(edit->acl, &entry->firstname, wish->firstname);
    set_text(edit->acl, &entry->lastname, wish->lastname);
    set_text(edit->acl, &entry->email, wish->email);
    set_text(edit->acl, &entry->comment, wish->comment);
    set_text(edit->acl, &entry->keys, wish->keys);
    struct atl_error error;
    if (wish->groups != NULL && set_groups(edit->acl, wish->userid, wish->groups,
                                           wish->has_append && wish->append, &error) != ATL_OK) {
        atl_request_fail(edit->request, &error, NULL);
        return false;
    }
    cfg_edit_users(edit);
    cfg_edit_finish(edit);
    return true;
}

void cfg_handle_update_user(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Access__V1__UpdateUserRequest *wish = (const void *)input;
    if (cfg_may_touch_user(request, wish->userid))
        cfg_edit_run(user, request, update_user, wish);
}

static bool delete_user(struct cfg_edit *edit, const void *input)
{
    const Atoll__Access__V1__DeleteUserRequest *wish = input;
    if (atl_acl_user(edit->acl, wish->userid) == NULL) {
        cfg_refuse(edit->request, ATL_E_ABSENT, "userid", "delete user failed: no such user ('%s')",
                   wish->userid);
        return false;
    }
    atl_acl_drop_user(edit->acl, wish->userid);
    cfg_edit_users(edit);
    cfg_edit_drop_tokens(edit, wish->userid);
    if (strcmp(strrchr(wish->userid, '@'), "@pve") == 0)
        cfg_edit_password(edit, wish->userid, NULL);
    cfg_edit_finish(edit);
    return true;
}

void cfg_handle_delete_user(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Access__V1__DeleteUserRequest *wish = (const void *)input;
    if (strcmp(wish->userid, "root@pam") == 0)
        cfg_refuse(request, ATL_E_STATE, "userid", "delete user failed: root@pam cannot be deleted");
    else
        cfg_edit_run(user, request, delete_user, wish);
}

/* --- passwords
 * ---------------------------------------------------------------------------------------------- */

struct changing { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const char *userid;
    const char *hash;
    bool by_pam; /* which has changed it itself */
};

static bool change_password(struct cfg_edit *edit, const void *wish)
{
    const struct changing *changing = wish;
    if (atl_acl_user(edit->acl, changing->userid) == NULL) {
        cfg_refuse(edit->request, ATL_E_ABSENT, "userid", "no such user ('%s')", changing->userid);
        return false;
    }
    cfg_edit_password(edit, changing->userid, changing->hash);
    cfg_edit_finish(edit);
    return true;
}

static void on_changed_hash(const struct cfg_check_result *result, void *user)
{
    struct changing *changing = user;
    if (result->code != ATL_OK) {
        struct atl_error error = result->error;
        if (result->code == ATL_E_UNAUTHENTICATED) /* his ticket is fine, only what he typed is wrong */
            (void)atl_fail(&error, ATL_E_INVALID, "confirmation-password", "is wrong");
        atl_request_fail(changing->request, &error, NULL);
        return;
    }
    if (changing->by_pam) {
        cfg_reply_nothing(changing->request);
        return;
    }
    changing->hash = atl_arena_strdup(atl_request_arena(changing->request), result->hash);
    cfg_edit_run(changing->cfg, changing->request, change_password, changing);
}

/* PAM is given the current password with the new one, whoever asks: so config-store cannot set one by itself.
 */
static bool may_change_by_pam(struct atl_request *request,
                              const Atoll__Access__V1__ChangePasswordRequest *wish)
{
    const char *caller = atl_request_principal(request)->user;
    if (caller == NULL || strcmp(caller, wish->userid) != 0) {
        cfg_refuse(request, ATL_E_DENIED, "userid",
                   "a password of realm pam is changed by its owner; root sets it on the node with passwd");
        return false;
    }
    if (wish->confirmation_password == NULL) {
        cfg_refuse(request, ATL_E_INVALID, "confirmation-password",
                   "is needed: PAM wants the current password");
        return false;
    }
    return true;
}

void cfg_handle_change_password(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Access__V1__ChangePasswordRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    const char *caller = atl_request_principal(request)->user;
    const char *realm = strrchr(wish->userid, '@');
    struct changing *changing = atl_arena_new(arena, struct changing);
    *changing = (struct changing){.cfg = cfg, .request = request, .userid = wish->userid};
    changing->by_pam = realm != NULL && strcmp(realm, "@pam") == 0;
    if (changing->by_pam && !may_change_by_pam(request, wish))
        return;
    if (!changing->by_pam && (realm == NULL || strcmp(realm, "@pve") != 0)) {
        cfg_refuse(request, ATL_E_INVALID, "userid", "'%s' is of no realm that keeps passwords (pam, pve)",
                   wish->userid);
        return;
    }
    struct cfg_check check = {.user = caller != NULL ? caller : ""};
    if (changing->by_pam)
        check.pam_new = wish->password;
    else
        check.hash_new = wish->password;
    if (wish->confirmation_password != NULL && caller != NULL) {
        size_t size = 0;
        const char *name = atl_arena_strndup(arena, caller, (size_t)(strrchr(caller, '@') - caller));
        check.password = wish->confirmation_password;
        check.pam = strcmp(strrchr(caller, '@'), "@pam") == 0;
        check.hash = cfg_secret_get(cfg_text_ahead(cfg, CFG_SHADOW, &size), name, ':', arena);
    }
    struct atl_error error;
    if (cfg_checker_run(cfg_identity_checker(cfg->identity), &check, on_changed_hash, changing, &error) !=
        ATL_OK)
        atl_request_fail(request, &error, NULL);
}
