/* Authenticate, LocalAssertion, SetPassword: who is calling. */
#include <stdlib.h>
#include <string.h>

#include "atoll/store/v1/identity.atl.h"
#include "core/secrets.h"
#include "edit.h"
#include "identity.h"
#include "io/log.h"
#include "pure/codec.h"

static void reply_assertion(struct cfg *cfg, struct atl_request *request, const char *user, const char *token)
{
    struct atl_arena *arena = atl_request_arena(request);
    size_t size = 0;
    int64_t expires = 0;
    const uint8_t *packed = cfg_identity_assert(cfg->identity, user, token, arena, &size, &expires);
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    Atoll__Store__V1__AuthenticateReply reply = ATOLL__STORE__V1__AUTHENTICATE_REPLY__INIT;
    reply.assertion = atoll__bus__v1__signed_assertion__unpack(&allocator, size, packed);
    reply.user = atl_arena_strdup(arena, user);
    reply.token = token != NULL ? atl_arena_strdup(arena, token) : NULL;
    reply.expires = expires;
    atl_request_reply(request, &reply.base);
}

/* He is there, enabled, not expired. root@pam may be disabled for logins from outside, too. */
static enum atl_code check_user(const struct cfg *cfg, const char *user, const char *token,
                                struct atl_arena *arena, struct atl_error *err)
{
    const struct atl_acl *acl = atl_keeper_acl(cfg->keeper);
    const struct atl_user *entry = atl_acl_user(acl, user);
    if (entry != NULL && !entry->enabled)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "authentication failure");
    struct atl_subject subject;
    return atl_subject_init(&subject, acl, user, token, atl_clock_wall_seconds(), arena, err);
}

static enum atl_code by_ticket(const struct cfg *cfg, const Atoll__Store__V1__AuthenticateRequest *input,
                               struct atl_arena *arena, const char **ret_user, struct atl_error *err)
{
    const char *user = NULL;
    enum atl_code code = cfg_identity_ticket_user(cfg->identity, input->ticket, arena, &user, err);
    if (code == ATL_OK)
        code = check_user(cfg, user, NULL, arena, err);
    if (code != ATL_OK)
        return code;
    bool write = !input->has_write || input->write;
    if (write && (input->csrf == NULL || !cfg_identity_csrf_valid(cfg->identity, input->csrf, user)))
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "Permission denied - invalid csrf token");
    *ret_user = user;
    return ATL_OK;
}

static enum atl_code by_token(const struct cfg *cfg, const char *text, struct atl_arena *arena,
                              struct atl_token_text *ret_token, struct atl_error *err)
{
    enum atl_code code = atl_token_split(text, arena, ret_token, err);
    if (code != ATL_OK)
        return code;
    size_t size = 0;
    const char *file = cfg_text_ahead(cfg, CFG_TOKENS, &size);
    const char *id = atl_arena_format(arena, "%s!%s", ret_token->user, ret_token->id);
    const char *kept = cfg_secret_get(file, id, ' ', arena);
    /* The same work is done for a token that is not there. */
    static const char none[] = "sha256:00000000000000000000000000000000:"
                               "0000000000000000000000000000000000000000000000000000000000000000";
    bool matches = atl_token_matches(kept != NULL ? kept : none, ret_token->secret);
    if (!matches || kept == NULL)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "invalid token value!");
    return check_user(cfg, ret_token->user, ret_token->id, arena, err);
}

static void handle_authenticate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__AuthenticateRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_error error = {0};
    struct atl_token_text token = {0};
    const char *who = NULL;
    (void)cfg_store_tree(cfg->store); /* nobody gets in by what is not on disk */
    enum atl_code code = ATL_OK;
    if (wish->token != NULL) {
        code = by_token(cfg, wish->token, arena, &token, &error);
        who = token.user;
    } else if (wish->ticket != NULL) {
        code = by_ticket(cfg, wish, arena, &who, &error);
    } else {
        code = atl_fail(&error, ATL_E_UNAUTHENTICATED, NULL, "No ticket");
    }
    if (code != ATL_OK)
        atl_request_fail(request, &error, NULL);
    else
        reply_assertion(cfg, request, who, wish->token != NULL ? token.id : NULL);
}

static void handle_local(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    reply_assertion(user, request, "root@pam", NULL);
}

/* --- SetPassword
 * -------------------------------------------------------------------------------------------- */

struct setting { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Store__V1__SetPasswordRequest *input;
    const char *hash;
};

static void reply_set(const struct cfg_store_result *result, void *user)
{
    struct atl_request *request = user;
    Atoll__Store__V1__SetPasswordReply reply = ATOLL__STORE__V1__SET_PASSWORD_REPLY__INIT;
    if (result->code != ATL_OK)
        atl_request_fail(request, &result->error, NULL);
    else
        atl_request_reply(request, &reply.base);
}

static bool store_password(struct cfg_edit *edit, const void *wish)
{
    const struct setting *setting = wish;
    const Atoll__Store__V1__SetPasswordRequest *input = setting->input;
    if (atl_acl_user(edit->acl, input->userid) == NULL) {
        if (!input->has_create || !input->create) {
            cfg_refuse(edit->request, ATL_E_ABSENT, "userid", "no such user ('%s')", input->userid);
            return false;
        }
        (void)atl_acl_add_user(edit->acl, input->userid);
    }
    if (input->has_administrator && input->administrator)
        atl_acl_add_rule(edit->acl, &(const struct atl_rule){.path = "/",
                                                             .subject = input->userid,
                                                             .role = "Administrator",
                                                             .kind = ATL_SUBJECT_USER,
                                                             .propagate = true});
    cfg_edit_users(edit);
    cfg_edit_password(edit, input->userid, setting->hash);
    cfg_edit_commit(edit, reply_set, edit->request);
    return true;
}

static void on_hashed(const struct cfg_check_result *result, void *user)
{
    struct setting *setting = user;
    if (result->code != ATL_OK) {
        atl_request_fail(setting->request, &result->error, NULL);
        return;
    }
    setting->hash = atl_arena_strdup(atl_request_arena(setting->request), result->hash);
    cfg_edit_run(setting->cfg, setting->request, store_password, setting);
}

static void handle_set_password(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__SetPasswordRequest *wish = (const void *)input;
    size_t length = strlen(wish->userid);
    if (!atl_userid_valid(wish->userid) || length < 4 || strcmp(wish->userid + length - 4, "@pve") != 0) {
        cfg_refuse(request, ATL_E_INVALID, "userid",
                   "must be NAME@pve: passwords of other realms are not kept here");
        return;
    }
    struct setting *setting = atl_arena_new(atl_request_arena(request), struct setting);
    *setting = (struct setting){.cfg = cfg, .request = request, .input = wish};
    const struct cfg_check check = {.user = wish->userid, .hash_new = wish->password};
    struct atl_error error;
    if (cfg_checker_run(cfg_identity_checker(cfg->identity), &check, on_hashed, setting, &error) != ATL_OK)
        atl_request_fail(request, &error, NULL);
}

void cfg_serve_identity(struct cfg *cfg)
{
    static const struct atl_handler handlers[] = {
        {"Authenticate", handle_authenticate},
        {"LocalAssertion", handle_local},
        {"SetPassword", handle_set_password},
    };
    atl_bus_serve(cfg->bus, &atl_svc_store_v1_Identity, handlers, ATL_COUNT(handlers), cfg);
}
