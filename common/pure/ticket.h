/*
 * Tickets, CSRF tokens and the secrets of API tokens, as clients of the Proxmox VE API hold them.
 *
 * A ticket is "PVE:user@realm:6565A1B2::BASE64": who, when (hexadecimal seconds), signature. Keys come as
 * DER.
 */
#ifndef ATL_PURE_TICKET_H
#define ATL_PURE_TICKET_H

#include "pure/arena.h"
#include "pure/error.h"

enum {
    ATL_TICKET_LIFE = 2 * 3600, /* seconds */
    ATL_TICKET_GRACE = 300,     /* a clock may be that far behind the one that signed */
    ATL_TICKET_MAX = 4096,
    ATL_CSRF_KEY_SIZE = 32,
    ATL_TOKEN_SALT_SIZE = 16,
    ATL_TOKEN_SECRET_SIZE = 36, /* a UUID as text */
};

struct atl_bytes {
    const uint8_t *data;
    size_t size;
};

/* Signs a ticket; NULL when the key is no RSA private key (PKCS#8 or PKCS#1 DER). Cost: about 1 ms. */
char *atl_ticket_make(const char *prefix, const char *user, int64_t now, struct atl_bytes private_der,
                      struct atl_arena *arena);

/*
 * Checks a ticket of that prefix ("PVE") and tells whose it is; the text lives in the arena.
 * public_der: SubjectPublicKeyInfo. Errors: ATL_E_UNAUTHENTICATED, with one text for every cause.
 */
ATL_MUST_CHECK enum atl_code atl_ticket_check(const char *ticket, const char *prefix, int64_t now,
                                              struct atl_bytes public_der, struct atl_arena *arena,
                                              const char **ret_user, struct atl_error *err);

/* Does the text look like a ticket at all (a renewal sends one as password)? */
bool atl_ticket_shaped(const char *text);

/* "6565A1B2:BASE64": HMAC-SHA256 over time and user. */
char *atl_csrf_make(const char *user, int64_t now, const uint8_t key[ATL_CSRF_KEY_SIZE],
                    struct atl_arena *arena);
bool atl_csrf_valid(const char *text, const char *user, int64_t now, const uint8_t key[ATL_CSRF_KEY_SIZE]);

/* Splits "user@realm!id=secret"; texts live in the arena. Errors: ATL_E_UNAUTHENTICATED "invalid token
 * value!". */
struct atl_token_text {
    const char *user;
    const char *id;
    const char *secret;
};
ATL_MUST_CHECK enum atl_code atl_token_split(const char *text, struct atl_arena *arena,
                                             struct atl_token_text *ret, struct atl_error *err);

/* The secret of a token as a UUID (version 4) out of 16 random bytes. */
void atl_token_secret(const uint8_t random[16], char ret_text[ATL_TOKEN_SECRET_SIZE + 1]);

/* How priv/token.cfg keeps a secret: "sha256:SALT:HASH", hexadecimal. */
char *atl_token_hash(const char *secret, const uint8_t salt[ATL_TOKEN_SALT_SIZE], struct atl_arena *arena);
/* Compares in constant time; a kept text without "sha256:" is the secret itself (an imported file). */
bool atl_token_matches(const char *kept, const char *secret);

#endif
