/* Who asks: a credential becomes config-store's signed assertion, kept for as long as it holds. */
#include <openssl/evp.h>
#include <string.h>

#include "atoll/store/v1/identity.atl.h"
#include "atoll/store/v1/identity.pb-c.h"
#include "gw.h"

enum { RENEW_BEFORE = 20 }; /* seconds that an assertion must still hold */

static void digest(const char *first, const char *text, uint8_t ret[GW_DIGEST_SIZE])
{
    static const EVP_MD *sha256;
    static EVP_MD_CTX *context;
    if (context == NULL) {
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
        context = EVP_MD_CTX_new();
        atl_assert(sha256 != NULL);
        atl_assert(context != NULL);
    }
    unsigned int size = 0;
    bool ok = EVP_DigestInit_ex(context, sha256, NULL) == 1 && EVP_DigestUpdate(context, first, 1) == 1 &&
              EVP_DigestUpdate(context, text, strlen(text)) == 1 &&
              EVP_DigestFinal_ex(context, ret, &size) == 1;
    atl_assert(ok);
    atl_assert(size == GW_DIGEST_SIZE);
}

/* Changing something with a ticket needs the CSRF token, uploads excepted: their clients do not send it. */
static bool needs_csrf(const struct gw_work *work)
{
    return work->credential.kind == GW_TICKET && work->verb != ATL_GET &&
           !(work->match.rpc->flags & ATL_R_UPLOAD);
}

static void use_session(struct gw_work *work, const struct gw_session *session)
{
    work->user = atl_arena_strdup(&work->request->arena, session->user);
    work->assertion = atl_arena_copy(&work->request->arena, session->assertion, session->assertion_size);
    work->assertion_size = session->assertion_size;
}

static void remember(struct gw_work *work, const Atoll__Store__V1__AuthenticateReply *reply)
{
    struct gw_session *session = gw_sessions_put(work->gw->sessions, work->key);
    session->assertion_size = protobuf_c_message_pack(&reply->assertion->base, session->assertion);
    session->expires = reply->expires;
    (void)atl_copy(session->user, sizeof session->user, reply->user); /* cut in the log only */
    if (reply->token != NULL) {
        size_t length = strlen(session->user);
        (void)atl_copy(session->user + length, sizeof session->user - length, "!");
        length = strlen(session->user);
        (void)atl_copy(session->user + length, sizeof session->user - length, reply->token);
    }
    if (needs_csrf(work))
        digest("c", work->credential.csrf != NULL ? work->credential.csrf : "", session->csrf);
    use_session(work, session);
}

static void on_authenticated(struct gw_work *work, const struct atl_reply *reply)
{
    if (reply->code == ATL_E_UNAUTHENTICATED)
        gw_sessions_drop(work->gw->sessions, work->key);
    if (reply->code != ATL_OK) {
        gw_fail_reply(work, reply);
        return;
    }
    const Atoll__Store__V1__AuthenticateReply *answer =
        (const Atoll__Store__V1__AuthenticateReply *)reply->output;
    if (protobuf_c_message_get_packed_size(&answer->assertion->base) > GW_ASSERTION_MAX) {
        gw_fail_text(work, 500, "the assertion of config-store is too large");
        return;
    }
    remember(work, answer);
    work->then(work);
}

/* protobuf-c has no const texts, and only reads them. */
static char *unconst(const char *text)
{
    union {
        const char *from;
        char *to;
    } pointer = {.from = text};
    return pointer.to;
}

static void ask(struct gw_work *work)
{
    Atoll__Store__V1__AuthenticateRequest input = ATOLL__STORE__V1__AUTHENTICATE_REQUEST__INIT;
    if (work->credential.kind == GW_TOKEN)
        input.token = unconst(work->credential.value);
    else
        input.ticket = unconst(work->credential.value);
    input.has_write = 1;
    input.write = needs_csrf(work);
    if (input.write)
        input.csrf = unconst(work->credential.csrf);
    gw_call_own(work, &atl_rpc_store_v1_Identity_Authenticate, &input.base, on_authenticated);
}

/* Methods that need no login: only the name that tries to log in is noted, for the audit log. */
static void admit_world(struct gw_work *work)
{
    const struct gw *gw = work->gw;
    work->user = gw_params_find(&work->params, "username");
    if (work->verb != ATL_GET &&
        gw_throttle_blocks(&gw->throttle, work->request->peer, atl_loop_now(gw->options.loop))) {
        gw_fail_text(work, 401, "too many failed logins from this address, try again in a minute");
        return;
    }
    work->then(work);
}

void gw_authenticate(struct gw_work *work, void (*then)(struct gw_work *work))
{
    const struct atl_rpc *rpc = work->match.rpc;
    work->then = then;
    work->was_cached = false;
    gw_credential_find(&work->request->head, &work->request->arena, &work->credential);
    enum gw_credential_kind kind = work->credential.kind;
    if (kind == GW_TOKEN && (rpc->flags & ATL_R_NO_TOKEN)) {
        gw_fail_text(work, 403, "Permission check failed - API tokens are not allowed here");
        return;
    }
    if (rpc->perm != NULL && rpc->perm->world) {
        admit_world(work);
        return;
    }
    if (kind == GW_NO_CREDENTIAL) {
        gw_fail_text(work, 401, "No ticket");
        return;
    }
    digest(kind == GW_TOKEN ? "t" : "k", work->credential.value, work->key);
    const struct gw_session *session = gw_sessions_find(work->gw->sessions, work->key);
    bool valid = session != NULL && session->expires > atl_clock_wall_seconds() + RENEW_BEFORE;
    if (valid && needs_csrf(work)) {
        uint8_t csrf[GW_DIGEST_SIZE];
        digest("c", work->credential.csrf != NULL ? work->credential.csrf : "", csrf);
        valid = atl_equal_secret(csrf, session->csrf, sizeof csrf);
    }
    if (!valid) {
        ask(work);
        return;
    }
    work->was_cached = true;
    use_session(work, session);
    work->then(work);
}
