/* Signed statements of who a user is (proto/atoll/bus/v1/identity.proto): made by config-store, checked by
 * all. */
#ifndef ATL_PURE_ASSERTION_H
#define ATL_PURE_ASSERTION_H

#include "pure/arena.h"
#include "pure/error.h"

enum {
    ATL_KEY_SIZE = 32, /* Ed25519, private seed or public key */
    ATL_SIGNATURE_SIZE = 64,
    ATL_NONCE_SIZE = 16,
    ATL_ASSERTION_LIFE = 300, /* seconds */
    ATL_ASSERTION_MAX = 2048, /* bytes, packed and signed */
};

struct atl_assertion {
    const char *user;
    const char *token; /* id without the user, or NULL */
    const char *node;
    int64_t issued; /* wall clock, seconds */
    int64_t expires;
    uint64_t epoch; /* tree revision when it was signed */
    uint64_t number;
    uint8_t nonce[ATL_NONCE_SIZE];
};

/* Signs with the node's private key; the packed SignedAssertion lives in the arena. */
const uint8_t *atl_assertion_sign(const struct atl_assertion *assertion, const uint8_t key[ATL_KEY_SIZE],
                                  struct atl_arena *arena, size_t *ret_size);

/* The public half of a private key. */
void atl_assertion_public(const uint8_t key[ATL_KEY_SIZE], uint8_t ret_public[ATL_KEY_SIZE]);

/*
 * Reads a packed SignedAssertion without believing it: the caller looks up the keys of ret->node and then
 * calls atl_assertion_verify(). Texts live in the arena. Errors: ATL_E_UNAUTHENTICATED these bytes are none.
 */
ATL_MUST_CHECK enum atl_code atl_assertion_read(const uint8_t *bytes, size_t size, struct atl_arena *arena,
                                                struct atl_assertion *ret, struct atl_error *err);

/*
 * Checks the signature with one public key, and the times (30 s of clock difference between nodes are
 * forgiven). Errors: ATL_E_UNAUTHENTICATED.
 */
ATL_MUST_CHECK enum atl_code atl_assertion_verify(const uint8_t *bytes, size_t size,
                                                  const uint8_t public_key[ATL_KEY_SIZE], int64_t now,
                                                  struct atl_error *err);

#endif
