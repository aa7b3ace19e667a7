/* Tickets, CSRF tokens, secrets of API tokens. */
#include "pure/ticket.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "pure/acl.h"
#include "pure/number.h"

enum { HASH_SIZE = 32, SIGNATURE_MAX = 1024 };

static const char prefix_sha256[] = "sha256:";

static char *base64(const uint8_t *bytes, size_t size, struct atl_arena *arena)
{
    char *text = atl_arena_alloc(arena, (size + 2) / 3 * 4 + 1);
    (void)EVP_EncodeBlock((unsigned char *)text, bytes, (int)size);
    return text;
}

/* Returns the number of bytes, or 0 when it is no base64 or too long. */
static size_t unbase64(const char *text, uint8_t *bytes, size_t room)
{
    size_t length = strlen(text);
    if (length == 0 || length % 4 != 0 || length / 4 * 3 > room)
        return 0;
    int size = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)length);
    if (size <= 0)
        return 0;
    size_t padding = text[length - 1] != '=' ? 0 : text[length - 2] != '=' ? 1 : 2;
    /* Bits behind the last byte are zero, so that there is one way to write a signature. */
    unsigned char tail[5];
    size_t last = (size_t)size - 3;
    (void)EVP_EncodeBlock(tail, bytes + last, (int)(3 - padding));
    if (memcmp(tail, text + length - 4, 4) != 0)
        return 0;
    return (size_t)size - padding;
}

static void to_hex(const uint8_t *bytes, size_t size, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * size] = '\0';
}

static bool from_hex(const char *text, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        int high = atl_hex_value(text[2 * i]);
        int low = high < 0 ? -1 : atl_hex_value(text[2 * i + 1]);
        if (low < 0)
            return false;
        bytes[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

/* Exactly eight hexadecimal digits. */
static bool read_time(const char *text, int64_t *ret_time)
{
    uint8_t bytes[4];
    if (strlen(text) != 8 || !from_hex(text, bytes, sizeof bytes))
        return false;
    *ret_time = (int64_t)bytes[0] << 24 | (int64_t)bytes[1] << 16 | (int64_t)bytes[2] << 8 | bytes[3];
    return true;
}

/* --- tickets
 * ------------------------------------------------------------------------------------------------ */

char *atl_ticket_make(const char *prefix, const char *user, int64_t now, struct atl_bytes private_der,
                      struct atl_arena *arena)
{
    const char *text = atl_arena_format(arena, "%s:%s:%08X", prefix, user, (unsigned int)now);
    const uint8_t *der = private_der.data;
    EVP_PKEY *pkey = d2i_AutoPrivateKey(NULL, &der, (long)private_der.size);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t signature[SIGNATURE_MAX];
    size_t length = sizeof signature;
    bool done = pkey != NULL && ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
                EVP_DigestSign(ctx, signature, &length, (const uint8_t *)text, strlen(text)) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    if (!done)
        return NULL;
    return atl_arena_format(arena, "%s::%s", text, base64(signature, length, arena));
}

static bool ticket_signed(const char *text, size_t length, const char *signature_text,
                          struct atl_bytes public_der)
{
    uint8_t signature[SIGNATURE_MAX];
    size_t size = unbase64(signature_text, signature, sizeof signature);
    if (size == 0)
        return false;
    const uint8_t *der = public_der.data;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &der, (long)public_der.size);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool holds = pkey != NULL && ctx != NULL &&
                 EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
                 EVP_DigestVerify(ctx, signature, size, (const uint8_t *)text, length) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return holds;
}

enum atl_code atl_ticket_check(const char *ticket, const char *prefix, int64_t now,
                               struct atl_bytes public_der, struct atl_arena *arena, const char **ret_user,
                               struct atl_error *err)
{
    static const char refused[] = "invalid ticket";
    size_t prefix_length = strlen(prefix);
    const char *mark = strstr(ticket, "::");
    if (strlen(ticket) > ATL_TICKET_MAX || mark == NULL || strncmp(ticket, prefix, prefix_length) != 0 ||
        ticket[prefix_length] != ':')
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, refused);
    if (!ticket_signed(ticket, (size_t)(mark - ticket), mark + 2, public_der))
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, refused);
    char *user =
        atl_arena_strndup(arena, ticket + prefix_length + 1, (size_t)(mark - ticket) - prefix_length - 1);
    char *time_text = strrchr(user, ':');
    int64_t made;
    if (time_text == NULL || !read_time(time_text + 1, &made))
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, refused);
    *time_text = '\0';
    if (now - made > ATL_TICKET_LIFE || now - made < -ATL_TICKET_GRACE || !atl_userid_valid(user))
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, refused);
    *ret_user = user;
    return ATL_OK;
}

bool atl_ticket_shaped(const char *text)
{
    return strncmp(text, "PVE:", 4) == 0 && strstr(text, "::") != NULL && strpbrk(text, " \t\r\n") == NULL;
}

/* --- CSRF tokens
 * -------------------------------------------------------------------------------------------- */

static char *csrf_text(const char *user, const char *time_text, const uint8_t *key, struct atl_arena *arena)
{
    const char *text = atl_arena_format(arena, "%s:%s", time_text, user);
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    const uint8_t *done =
        HMAC(EVP_sha256(), key, ATL_CSRF_KEY_SIZE, (const uint8_t *)text, strlen(text), mac, &length);
    atl_assert(done != NULL);
    return atl_arena_format(arena, "%s:%s", time_text, base64(mac, length, arena));
}

char *atl_csrf_make(const char *user, int64_t now, const uint8_t key[ATL_CSRF_KEY_SIZE],
                    struct atl_arena *arena)
{
    return csrf_text(user, atl_arena_format(arena, "%08X", (unsigned int)now), key, arena);
}

bool atl_csrf_valid(const char *text, const char *user, int64_t now, const uint8_t key[ATL_CSRF_KEY_SIZE])
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    const char *colon = strchr(text, ':');
    if (colon == NULL || strlen(text) > 256)
        return false;
    char *time_text = atl_arena_strndup(&arena, text, (size_t)(colon - text));
    int64_t made;
    if (!read_time(time_text, &made) || now - made > ATL_TICKET_LIFE || now - made < -ATL_TICKET_GRACE)
        return false;
    const char *expected = csrf_text(user, time_text, key, &arena);
    size_t length = strlen(expected);
    return strlen(text) == length && atl_equal_secret(text, expected, length);
}

/* --- API tokens
 * --------------------------------------------------------------------------------------------- */

enum atl_code atl_token_split(const char *text, struct atl_arena *arena, struct atl_token_text *ret,
                              struct atl_error *err)
{
    static const char refused[] = "invalid token value!";
    const char *equal = strchr(text, '=');
    if (equal == NULL || strlen(text) > 512 || equal[1] == '\0')
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, refused);
    char *id = atl_arena_strndup(arena, text, (size_t)(equal - text));
    char *mark = strchr(id, '!');
    if (mark == NULL || !atl_tokenid_valid(id))
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, refused);
    *mark = '\0';
    *ret = (struct atl_token_text){.user = id, .id = mark + 1, .secret = atl_arena_strdup(arena, equal + 1)};
    return ATL_OK;
}

void atl_token_secret(const uint8_t random[16], char ret_text[ATL_TOKEN_SECRET_SIZE + 1])
{
    uint8_t bytes[16];
    memcpy(bytes, random, sizeof bytes);
    bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
    char hex[33];
    to_hex(bytes, sizeof bytes, hex);
    static const size_t lengths[] = {8, 4, 4, 4, 12};
    const char *from = hex;
    char *to = ret_text;
    for (size_t i = 0; i < ATL_COUNT(lengths); i++) {
        if (i > 0)
            *to++ = '-';
        memcpy(to, from, lengths[i]);
        to += lengths[i];
        from += lengths[i];
    }
    *to = '\0';
}

static void hash_secret(const uint8_t *salt, const char *secret, uint8_t *hash)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned int length = HASH_SIZE;
    bool done = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, salt, ATL_TOKEN_SALT_SIZE) == 1 &&
                EVP_DigestUpdate(ctx, secret, strlen(secret)) == 1 &&
                EVP_DigestFinal_ex(ctx, hash, &length) == 1;
    atl_assert(done);
    EVP_MD_CTX_free(ctx);
}

char *atl_token_hash(const char *secret, const uint8_t salt[ATL_TOKEN_SALT_SIZE], struct atl_arena *arena)
{
    uint8_t hash[HASH_SIZE];
    hash_secret(salt, secret, hash);
    char salt_hex[2 * ATL_TOKEN_SALT_SIZE + 1];
    char hash_hex[2 * HASH_SIZE + 1];
    to_hex(salt, ATL_TOKEN_SALT_SIZE, salt_hex);
    to_hex(hash, HASH_SIZE, hash_hex);
    return atl_arena_format(arena, "%s%s:%s", prefix_sha256, salt_hex, hash_hex);
}

bool atl_token_matches(const char *kept, const char *secret)
{
    size_t skip = sizeof prefix_sha256 - 1;
    if (strncmp(kept, prefix_sha256, skip) != 0) {
        size_t length = strlen(kept);
        return length == ATL_TOKEN_SECRET_SIZE && strlen(secret) == length &&
               atl_equal_secret(kept, secret, length);
    }
    uint8_t salt[ATL_TOKEN_SALT_SIZE];
    uint8_t wanted[HASH_SIZE];
    uint8_t hash[HASH_SIZE];
    const char *salt_hex = kept + skip;
    if (strlen(salt_hex) != 2 * sizeof salt + 1 + 2 * sizeof wanted || salt_hex[2 * sizeof salt] != ':' ||
        !from_hex(salt_hex, salt, sizeof salt) ||
        !from_hex(salt_hex + 2 * sizeof salt + 1, wanted, sizeof wanted))
        return false;
    hash_secret(salt, secret, hash);
    return atl_equal_secret(hash, wanted, sizeof hash);
}
