/* Encryption of what lies below priv/. */
#include "drivers/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { TAG_SIZE = 16, MARK_SIZE = 4 };
static const uint8_t mark[MARK_SIZE] = {'A', 'T', 'L', 1};
static_assert(CFG_SEAL_MORE == MARK_SIZE + CFG_SEAL_NONCE_SIZE + TAG_SIZE, "the envelope");

/* --- the key ------------------------------------------------------------------------------------------ */

enum atl_code cfg_seal_keep_key(const char *path, const uint8_t key[CFG_SEAL_KEY_SIZE], struct atl_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return atl_fail(err, errno == EEXIST ? ATL_E_EXISTS : ATL_E_IO, NULL, "cannot make '%s': %s", path,
                        strerror(errno));
    bool good = write(fd, key, CFG_SEAL_KEY_SIZE) == CFG_SEAL_KEY_SIZE && fsync(fd) == 0;
    int why = errno;
    good = close(fd) == 0 && good;
    if (good)
        return ATL_OK;
    (void)unlink(path); /* half a key is none */
    return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(why));
}

enum atl_code cfg_seal_make_key(const char *path, struct atl_error *err)
{
    uint8_t key[CFG_SEAL_KEY_SIZE];
    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
        abort(); /* cannot be for so few bytes */
    enum atl_code code = cfg_seal_keep_key(path, key, err);
    explicit_bzero(key, sizeof key);
    return code;
}

enum atl_code cfg_seal_load(const char *path, struct cfg_seal *ret_seal, struct atl_error *err)
{
    uint8_t bytes[CFG_SEAL_KEYS_MAX * CFG_SEAL_KEY_SIZE + 1];
    if (path == NULL) {
        *ret_seal = (struct cfg_seal){.on = false};
        return ATL_OK;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot open the key '%s': %s", path, strerror(errno));
    ssize_t got = read(fd, bytes, sizeof bytes);
    (void)close(fd); /* it was only read */
    bool good = got > 0 && got % CFG_SEAL_KEY_SIZE == 0 && got < (ssize_t)sizeof bytes;
    if (good) {
        ret_seal->on = true;
        ret_seal->other_count = (size_t)got / CFG_SEAL_KEY_SIZE - 1;
        memcpy(ret_seal->key, bytes, CFG_SEAL_KEY_SIZE);
        memcpy(ret_seal->others, bytes + CFG_SEAL_KEY_SIZE, (size_t)got - CFG_SEAL_KEY_SIZE);
    }
    explicit_bzero(bytes, sizeof bytes);
    if (!good)
        return atl_fail(err, ATL_E_INVALID, NULL, "the key '%s' has not %d bytes", path, CFG_SEAL_KEY_SIZE);
    return ATL_OK;
}

/* --- the envelope ------------------------------------------------------------------------------------- */

bool cfg_seal_covers(const struct cfg_seal *seal, const char *path)
{
    return seal->on && strncmp(path, "priv/", 5) == 0;
}

static void must(int done)
{
    if (done != 1)
        abort(); /* out of memory: nothing else is left that could go wrong */
}

/* Which file of which tree it is goes into the tag. */
static void bind(EVP_CIPHER_CTX *context, const struct cfg_sealed *file,
                 int (*update)(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int))
{
    uint8_t epoch[8];
    int length = 0;
    for (size_t i = 0; i < sizeof epoch; i++)
        epoch[i] = (uint8_t)(file->epoch >> (56 - 8 * i));
    must(update(context, NULL, &length, epoch, sizeof epoch));
    must(update(context, NULL, &length, (const uint8_t *)file->path, (int)strlen(file->path)));
}

uint8_t *cfg_seal_with(const struct cfg_seal *seal, const struct cfg_sealed *plain,
                       const uint8_t nonce[CFG_SEAL_NONCE_SIZE], struct atl_arena *arena)
{
    atl_assert(seal->on);
    atl_assert(plain->size < INT32_MAX);
    uint8_t *sealed = atl_arena_alloc(arena, plain->size + CFG_SEAL_MORE);
    uint8_t *text = sealed + MARK_SIZE + CFG_SEAL_NONCE_SIZE;
    int length = 0;
    memcpy(sealed, mark, MARK_SIZE);
    memcpy(sealed + MARK_SIZE, nonce, CFG_SEAL_NONCE_SIZE);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    must(context != NULL);
    must(EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, seal->key, nonce));
    bind(context, plain, EVP_EncryptUpdate);
    if (plain->size > 0)
        must(EVP_EncryptUpdate(context, text, &length, plain->bytes, (int)plain->size));
    must(EVP_EncryptFinal_ex(context, text + length, &length));
    must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, text + plain->size));
    EVP_CIPHER_CTX_free(context);
    return sealed;
}

void cfg_seal_close(const struct cfg_seal *seal, struct cfg_sealed *file, struct atl_arena *arena)
{
    uint8_t nonce[CFG_SEAL_NONCE_SIZE];
    if (!cfg_seal_covers(seal, file->path))
        return;
    if (getrandom(nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce)
        abort(); /* cannot be for so few bytes */
    file->bytes = cfg_seal_with(seal, file, nonce, arena);
    file->size += CFG_SEAL_MORE;
}

static bool decrypt(const uint8_t *key, const struct cfg_sealed *file, uint8_t *plain, size_t size)
{
    const uint8_t *nonce = file->bytes + MARK_SIZE;
    const uint8_t *text = nonce + CFG_SEAL_NONCE_SIZE;
    uint8_t tag[TAG_SIZE];
    int length = 0;
    memcpy(tag, text + size, TAG_SIZE);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    must(context != NULL);
    must(EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce));
    bind(context, file, EVP_DecryptUpdate);
    if (size > 0)
        must(EVP_DecryptUpdate(context, plain, &length, text, (int)size));
    must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag));
    bool good = EVP_DecryptFinal_ex(context, plain + length, &length) == 1;
    EVP_CIPHER_CTX_free(context);
    return good;
}

enum atl_code cfg_seal_open(const struct cfg_seal *seal, struct cfg_sealed *file, struct atl_arena *arena,
                            struct atl_error *err)
{
    if (strncmp(file->path, "priv/", 5) != 0)
        return ATL_OK;
    bool marked = file->size >= CFG_SEAL_MORE && memcmp(file->bytes, mark, MARK_SIZE) == 0;
    if (!seal->on && !marked)
        return ATL_OK;
    if (!seal->on)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is encrypted, and there is no key", file->path);
    if (!marked || file->size - CFG_SEAL_MORE >= INT32_MAX)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is not encrypted as it should be", file->path);
    size_t size = file->size - CFG_SEAL_MORE;
    uint8_t *plain = atl_arena_alloc(arena, size + 1);
    bool opened = decrypt(seal->key, file, plain, size);
    for (size_t i = 0; !opened && i < seal->other_count; i++)
        opened = decrypt(seal->others[i], file, plain, size);
    if (!opened)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' cannot be opened with this node's key", file->path);
    plain[size] = '\0';
    file->bytes = plain;
    file->size = size;
    return ATL_OK;
}
