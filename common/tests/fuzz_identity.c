/* Any bytes as ticket, CSRF token, API token or assertion: no crash, and nothing that was not signed gets in.
 */
#include <stdlib.h>
#include <string.h>

#include "pure/assertion.h"
#include "pure/ticket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An RSA public key (SubjectPublicKeyInfo) would be 294 bytes; with none at all every ticket must fail before
 * it. */
static void try_texts(const char *text, struct atl_arena *arena)
{
    static const uint8_t csrf_key[ATL_CSRF_KEY_SIZE] = {3, 1, 4};
    const struct atl_bytes no_key = {.data = csrf_key, .size = sizeof csrf_key};
    const char *user = NULL;
    struct atl_token_text token;
    atl_assert(atl_ticket_check(text, "PVE", 0x65000000, no_key, arena, &user, NULL) != ATL_OK);
    atl_assert(!atl_csrf_valid(text, "admin@pve", 0x65000000, csrf_key));
    atl_assert(!atl_token_matches(text, "no such secret"));
    if (atl_token_split(text, arena, &token, NULL) == ATL_OK) {
        atl_assert(strlen(token.secret) > 0);
        atl_assert(strchr(token.user, '@') != NULL);
    }
    (void)atl_ticket_shaped(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t public_key[ATL_KEY_SIZE] = {1};
    struct atl_arena arena = {0};
    struct atl_assertion assertion;
    if (atl_assertion_read(data, size, &arena, &assertion, NULL) == ATL_OK)
        atl_assert(assertion.user[0] != '\0');
    atl_assert(atl_assertion_verify(data, size, public_key, 1000, NULL) != ATL_OK);
    if (size <= 8192)
        try_texts(atl_arena_strndup(&arena, (const char *)data, size), &arena);
    atl_arena_done(&arena);
    return 0;
}
