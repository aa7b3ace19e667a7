/* /access/users/{userid}/token: API tokens. */
#include <string.h>

#include "atoll/access/v1/access.atl.h"
#include "edit.h"
#include "identity.h"
#include "rpc_users.h"

static char *dup_or_null(struct atl_arena *arena, const char *text)
{
    return text != NULL && text[0] != '\0' ? atl_arena_strdup(arena, text) : NULL;
}

static const char *full_id(struct atl_request *request, const char *userid, const char *tokenid)
{
    return atl_arena_format(atl_request_arena(request), "%s!%s", userid, tokenid);
}

static void no_such_token(struct atl_request *request, const char *id)
{
    cfg_refuse(request, ATL_E_ABSENT, "tokenid", "no such token '%s'", id);
}

void cfg_handle_list_tokens(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Access__V1__ListTokensRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    (void)cfg_store_tree(cfg->store);
    const struct atl_acl *acl = atl_keeper_acl(cfg->keeper);
    const char *prefix = full_id(request, wish->userid, "");
    Atoll__Access__V1__ListTokensReply reply = ATOLL__ACCESS__V1__LIST_TOKENS_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Access__V1__TokensRow *, acl->token_count + 1);
    for (size_t i = 0; i < acl->token_count; i++) {
        const struct atl_token *token = &acl->tokens[i];
        if (strncmp(token->id, prefix, strlen(prefix)) != 0)
            continue;
        Atoll__Access__V1__TokensRow *row = atl_arena_new(arena, Atoll__Access__V1__TokensRow);
        atoll__access__v1__tokens_row__init(row);
        row->tokenid = atl_arena_strdup(arena, token->id + strlen(prefix));
        row->comment = dup_or_null(arena, token->comment);
        row->has_expire = row->has_privsep = 1;
        row->expire = token->expire;
        row->privsep = token->separate;
        reply.entry[reply.n_entry++] = row;
    }
    atl_request_reply(request, &reply.base);
}

void cfg_handle_get_token(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Access__V1__GetTokenRequest *wish = (const void *)input;
    (void)cfg_store_tree(cfg->store);
    const char *id = full_id(request, wish->userid, wish->tokenid);
    const struct atl_token *token = atl_acl_token(atl_keeper_acl(cfg->keeper), id);
    if (token == NULL) {
        no_such_token(request, id);
        return;
    }
    Atoll__Access__V1__GetTokenReply reply = ATOLL__ACCESS__V1__GET_TOKEN_REPLY__INIT;
    reply.comment = dup_or_null(atl_request_arena(request), token->comment);
    reply.has_expire = reply.has_privsep = 1;
    reply.expire = token->expire;
    reply.privsep = token->separate;
    atl_request_reply(request, &reply.base);
}

/* Begins a change of a user's token, if the caller may. */
static void run(struct cfg *cfg, struct atl_request *request, const char *userid, cfg_edit_fn *fn,
                const void *wish)
{
    if (cfg_may_touch_user(request, userid))
        cfg_edit_run(cfg, request, fn, wish);
}

/* A new secret; what is kept of it is a salted hash. */
static void new_secret(struct cfg_edit *edit, const char *id, char secret[ATL_TOKEN_SECRET_SIZE + 1])
{
    uint8_t random[16];
    uint8_t salt[ATL_TOKEN_SALT_SIZE];
    cfg_random(random, sizeof random);
    cfg_random(salt, sizeof salt);
    atl_token_secret(random, secret);
    cfg_edit_token(edit, id, atl_token_hash(secret, salt, atl_request_arena(edit->request)));
    explicit_bzero(random, sizeof random);
}

struct token_made { /* lives with the request */
    struct atl_request *request;
    const char *id;
    const char *comment;
    int64_t expire;
    bool separate;
    char secret[ATL_TOKEN_SECRET_SIZE + 1]; /* "": it stays as it was */
};

static struct token_made *new_made(struct atl_request *request, const struct atl_token *token)
{
    struct token_made *made = atl_arena_new(atl_request_arena(request), struct token_made);
    *made = (struct token_made){.request = request,
                                .id = token->id,
                                .comment = token->comment,
                                .expire = token->expire,
                                .separate = token->separate};
    return made;
}

static void reply_created(const struct cfg_store_result *result, void *user)
{
    struct token_made *made = user;
    if (result->code != ATL_OK) {
        atl_request_fail(made->request, &result->error, NULL);
        return;
    }
    if (result->repeated) {
        cfg_refuse(made->request, ATL_E_EXISTS, "tokenid",
                   "Token already exists; its secret was shown when it was made");
        return;
    }
    struct atl_arena *arena = atl_request_arena(made->request);
    Atoll__Access__V1__CreateTokenReplyInfo info = ATOLL__ACCESS__V1__CREATE_TOKEN_REPLY_INFO__INIT;
    info.comment = dup_or_null(arena, made->comment);
    info.has_expire = info.has_privsep = 1;
    info.expire = made->expire;
    info.privsep = made->separate;
    Atoll__Access__V1__CreateTokenReply reply = ATOLL__ACCESS__V1__CREATE_TOKEN_REPLY__INIT;
    reply.full_tokenid = atl_arena_strdup(arena, made->id);
    reply.info = &info;
    reply.value = made->secret;
    atl_request_reply(made->request, &reply.base);
}

static bool create_token(struct cfg_edit *edit, const void *input)
{
    const Atoll__Access__V1__CreateTokenRequest *wish = input;
    struct atl_request *request = edit->request;
    const char *id = full_id(request, wish->userid, wish->tokenid);
    if (atl_acl_user(edit->acl, wish->userid) == NULL) {
        cfg_refuse(request, ATL_E_ABSENT, "userid", "no such user ('%s')", wish->userid);
        return false;
    }
    if (!atl_tokenid_valid(id)) {
        cfg_refuse(request, ATL_E_INVALID, "tokenid",
                   "must begin with a letter and have 2 to 32 letters, digits, ., _, -");
        return false;
    }
    if (atl_acl_token(edit->acl, id) != NULL) {
        cfg_refuse(request, ATL_E_EXISTS, "tokenid", "Token already exists.");
        return false;
    }
    struct atl_token *token = atl_acl_add_token(edit->acl, id);
    token->separate = !wish->has_privsep || wish->privsep;
    token->expire = wish->has_expire ? wish->expire : 0;
    token->comment = wish->comment != NULL ? atl_arena_strdup(atl_request_arena(request), wish->comment) : "";
    struct token_made *made = new_made(request, token);
    cfg_edit_users(edit);
    new_secret(edit, id, made->secret);
    cfg_edit_commit(edit, reply_created, made);
    return true;
}

void cfg_handle_create_token(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Access__V1__CreateTokenRequest *wish = (const void *)input;
    run(user, request, wish->userid, create_token, wish);
}

static void reply_updated(const struct cfg_store_result *result, void *user)
{
    struct token_made *made = user;
    if (result->code != ATL_OK) {
        atl_request_fail(made->request, &result->error, NULL);
        return;
    }
    struct atl_arena *arena = atl_request_arena(made->request);
    Atoll__Access__V1__UpdateTokenReply reply = ATOLL__ACCESS__V1__UPDATE_TOKEN_REPLY__INIT;
    reply.comment = dup_or_null(arena, made->comment);
    reply.has_expire = reply.has_privsep = 1;
    reply.expire = made->expire;
    reply.privsep = made->separate;
    if (made->secret[0] != '\0' && !result->repeated) {
        reply.full_tokenid = atl_arena_strdup(arena, made->id);
        reply.value = made->secret;
    }
    atl_request_reply(made->request, &reply.base);
}

static bool update_token(struct cfg_edit *edit, const void *input)
{
    const Atoll__Access__V1__UpdateTokenRequest *wish = input;
    struct atl_request *request = edit->request;
    const char *id = full_id(request, wish->userid, wish->tokenid);
    struct atl_token *token = atl_acl_token(edit->acl, id);
    if (token == NULL) {
        no_such_token(request, id);
        return false;
    }
    if (wish->has_privsep)
        token->separate = wish->privsep;
    if (wish->has_expire)
        token->expire = wish->expire;
    if (wish->comment != NULL)
        token->comment = atl_arena_strdup(atl_request_arena(request), wish->comment);
    if (wish->delete_ != NULL && strstr(wish->delete_, "comment") != NULL)
        token->comment = "";
    if (wish->delete_ != NULL && strstr(wish->delete_, "expire") != NULL)
        token->expire = 0;
    struct token_made *made = new_made(request, token);
    cfg_edit_users(edit);
    if (wish->has_regenerate && wish->regenerate)
        new_secret(edit, id, made->secret);
    cfg_edit_commit(edit, reply_updated, made);
    return true;
}

void cfg_handle_update_token(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Access__V1__UpdateTokenRequest *wish = (const void *)input;
    run(user, request, wish->userid, update_token, wish);
}

static bool delete_token(struct cfg_edit *edit, const void *input)
{
    const Atoll__Access__V1__DeleteTokenRequest *wish = input;
    const char *id = full_id(edit->request, wish->userid, wish->tokenid);
    if (atl_acl_token(edit->acl, id) == NULL) {
        no_such_token(edit->request, id);
        return false;
    }
    atl_acl_drop_token(edit->acl, id);
    cfg_edit_users(edit);
    cfg_edit_token(edit, id, NULL);
    cfg_edit_finish(edit);
    return true;
}

void cfg_handle_delete_token(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Access__V1__DeleteTokenRequest *wish = (const void *)input;
    run(user, request, wish->userid, delete_token, wish);
}
