/* Signed statements of who a user is. */
#include "pure/assertion.h"

#include <openssl/evp.h>
#include <string.h>

#include "atoll/bus/v1/identity.pb-c.h"
#include "pure/codec.h"

enum { CLOCK_DIFFERENCE = 30 };

/* With its final NUL: no other signature of the node's key can be taken for one over an assertion. */
static const char context[] = "atoll assertion v1";

static uint8_t *with_context(const uint8_t *bytes, size_t size, struct atl_arena *arena, size_t *ret_size)
{
    uint8_t *text = atl_arena_alloc(arena, sizeof context + size);
    memcpy(text, context, sizeof context);
    memcpy(text + sizeof context, bytes, size);
    *ret_size = sizeof context + size;
    return text;
}

static void sign(const uint8_t *text, size_t size, const uint8_t *key, uint8_t *signature)
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key, ATL_KEY_SIZE);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t length = ATL_SIGNATURE_SIZE;
    bool done = pkey != NULL && ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
                EVP_DigestSign(ctx, signature, &length, text, size) == 1;
    atl_assert(done); /* any 32 bytes are a key */
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
}

const uint8_t *atl_assertion_sign(const struct atl_assertion *assertion, const uint8_t key[ATL_KEY_SIZE],
                                  struct atl_arena *arena, size_t *ret_size)
{
    Atoll__Bus__V1__Assertion message = ATOLL__BUS__V1__ASSERTION__INIT;
    message.user = atl_arena_strdup(arena, assertion->user);
    message.token = assertion->token != NULL ? atl_arena_strdup(arena, assertion->token) : NULL;
    message.node = atl_arena_strdup(arena, assertion->node);
    message.has_issued = message.has_expires = message.has_epoch = message.has_number = message.has_nonce =
        true;
    message.issued = assertion->issued;
    message.expires = assertion->expires;
    message.epoch = assertion->epoch;
    message.number = assertion->number;
    message.nonce.data = atl_arena_copy(arena, assertion->nonce, ATL_NONCE_SIZE);
    message.nonce.len = ATL_NONCE_SIZE;

    Atoll__Bus__V1__SignedAssertion outer = ATOLL__BUS__V1__SIGNED_ASSERTION__INIT;
    outer.has_assertion = outer.has_signature = true;
    outer.assertion.len = atoll__bus__v1__assertion__get_packed_size(&message);
    outer.assertion.data = atl_arena_alloc(arena, outer.assertion.len);
    (void)atoll__bus__v1__assertion__pack(&message, outer.assertion.data);
    outer.signature.len = ATL_SIGNATURE_SIZE;
    outer.signature.data = atl_arena_alloc(arena, ATL_SIGNATURE_SIZE);
    size_t size;
    const uint8_t *text = with_context(outer.assertion.data, outer.assertion.len, arena, &size);
    sign(text, size, key, outer.signature.data);

    *ret_size = atoll__bus__v1__signed_assertion__get_packed_size(&outer);
    uint8_t *packed = atl_arena_alloc(arena, *ret_size);
    (void)atoll__bus__v1__signed_assertion__pack(&outer, packed);
    return packed;
}

void atl_assertion_public(const uint8_t key[ATL_KEY_SIZE], uint8_t ret_public[ATL_KEY_SIZE])
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key, ATL_KEY_SIZE);
    size_t length = ATL_KEY_SIZE;
    bool done = pkey != NULL && EVP_PKEY_get_raw_public_key(pkey, ret_public, &length) == 1;
    atl_assert(done);
    EVP_PKEY_free(pkey);
}

/* Both layers; NULL when the bytes are none, or a part is missing. */
static Atoll__Bus__V1__Assertion *unpack(const uint8_t *bytes, size_t size, struct atl_arena *arena,
                                         Atoll__Bus__V1__SignedAssertion **ret_outer)
{
    if (size == 0 || size > ATL_ASSERTION_MAX)
        return NULL;
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    Atoll__Bus__V1__SignedAssertion *outer =
        atoll__bus__v1__signed_assertion__unpack(&allocator, size, bytes);
    if (outer == NULL || !outer->has_assertion || !outer->has_signature ||
        outer->signature.len != ATL_SIGNATURE_SIZE)
        return NULL;
    *ret_outer = outer;
    Atoll__Bus__V1__Assertion *inner =
        atoll__bus__v1__assertion__unpack(&allocator, outer->assertion.len, outer->assertion.data);
    if (inner == NULL || inner->user == NULL || inner->user[0] == '\0' || inner->node == NULL ||
        !inner->has_issued || !inner->has_expires || !inner->has_nonce || inner->nonce.len != ATL_NONCE_SIZE)
        return NULL;
    return inner;
}

enum atl_code atl_assertion_read(const uint8_t *bytes, size_t size, struct atl_arena *arena,
                                 struct atl_assertion *ret, struct atl_error *err)
{
    Atoll__Bus__V1__SignedAssertion *outer = NULL;
    const Atoll__Bus__V1__Assertion *inner = unpack(bytes, size, arena, &outer);
    if (inner == NULL)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "the user's assertion cannot be read");
    *ret = (struct atl_assertion){
        .user = inner->user,
        .token = inner->token != NULL && inner->token[0] != '\0' ? inner->token : NULL,
        .node = inner->node,
        .issued = inner->issued,
        .expires = inner->expires,
        .epoch = inner->epoch,
        .number = inner->number,
    };
    memcpy(ret->nonce, inner->nonce.data, ATL_NONCE_SIZE);
    return ATL_OK;
}

static bool signature_holds(const uint8_t *text, size_t size, const uint8_t *signature,
                            const uint8_t *public_key)
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, ATL_KEY_SIZE);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool holds = pkey != NULL && ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
                 EVP_DigestVerify(ctx, signature, ATL_SIGNATURE_SIZE, text, size) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return holds;
}

enum atl_code atl_assertion_verify(const uint8_t *bytes, size_t size, const uint8_t public_key[ATL_KEY_SIZE],
                                   int64_t now, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    Atoll__Bus__V1__SignedAssertion *outer = NULL;
    const Atoll__Bus__V1__Assertion *inner = unpack(bytes, size, &arena, &outer);
    if (inner == NULL)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "the user's assertion cannot be read");
    size_t text_size;
    const uint8_t *text = with_context(outer->assertion.data, outer->assertion.len, &arena, &text_size);
    if (!signature_holds(text, text_size, outer->signature.data, public_key))
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "the signature of the user's assertion is wrong");
    if (inner->expires < inner->issued || inner->expires - inner->issued > ATL_ASSERTION_LIFE)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "the user's assertion lasts too long");
    if (now >= inner->expires || now < inner->issued - CLOCK_DIFFERENCE)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "the user's assertion has expired");
    return ATL_OK;
}
