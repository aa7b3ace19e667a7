/* Keys, and what is made with them. */
#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "atoll/store/v1/identity.pb-c.h"
#include "io/log.h"
#include "pure/assertion.h"

enum { RSA_BITS = 2048 };

struct cfg_identity {
    struct cfg *cfg;
    struct cfg_checker *checker;
    uint8_t *private_der; /* of tickets */
    size_t private_size;
    uint8_t *public_der;
    size_t public_size;
    uint8_t csrf_key[ATL_CSRF_KEY_SIZE];
    uint8_t node_key[ATL_KEY_SIZE];
};

void cfg_random(void *bytes, size_t size)
{
    ssize_t got = getrandom(bytes, size, 0);
    atl_assert(got == (ssize_t)size); /* up to 256 bytes it never comes short */
}

/* --- first start
 * -------------------------------------------------------------------------------------------- */

static void add_put(struct cfg_txn *txn, struct cfg_op *ops, const char *path, const void *bytes, size_t size)
{
    ops[txn->op_count++] = (struct cfg_op){.kind = CFG_PUT, .path = path, .bytes = bytes, .size = size};
}

static char *bio_text(BIO *bio, struct atl_arena *arena)
{
    char *data = NULL;
    long size = BIO_get_mem_data(bio, &data);
    return atl_arena_strndup(arena, data, (size_t)size);
}

/* A new RSA key as PEM, both halves. */
static enum atl_code make_ticket_key(struct atl_arena *arena, char **ret_private, char **ret_public,
                                     struct atl_error *err)
{
    EVP_PKEY *pkey = EVP_RSA_gen(RSA_BITS);
    BIO *private_bio = BIO_new(BIO_s_mem());
    BIO *public_bio = BIO_new(BIO_s_mem());
    bool made = pkey != NULL && private_bio != NULL && public_bio != NULL &&
                PEM_write_bio_PrivateKey(private_bio, pkey, NULL, NULL, 0, NULL, NULL) == 1 &&
                PEM_write_bio_PUBKEY(public_bio, pkey) == 1;
    if (made) {
        *ret_private = bio_text(private_bio, arena);
        *ret_public = bio_text(public_bio, arena);
    }
    BIO_free(private_bio);
    BIO_free(public_bio);
    EVP_PKEY_free(pkey);
    return made ? ATL_OK : atl_fail(err, ATL_E_INTERNAL, NULL, "cannot make the key that signs tickets");
}

static enum atl_code read_node_key(int fd, const char *path, uint8_t key[ATL_KEY_SIZE], struct atl_error *err)
{
    ssize_t got = read(fd, key, ATL_KEY_SIZE);
    return got == ATL_KEY_SIZE ? ATL_OK
                               : atl_fail(err, ATL_E_IO, NULL, "'%s' does not hold the %d bytes of a key",
                                          path, ATL_KEY_SIZE);
}

static enum atl_code make_node_key(const char *dir, const char *path, uint8_t key[ATL_KEY_SIZE],
                                   struct atl_error *err)
{
    char *part ATL_FREE_AT_EXIT = atl_format("%s.new", path);
    cfg_random(key, ATL_KEY_SIZE);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", part, strerror(errno));
    bool written = write(fd, key, ATL_KEY_SIZE) == ATL_KEY_SIZE && fsync(fd) == 0;
    (void)close(fd);
    if (!written || rename(part, path) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(errno));
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd >= 0) {
        (void)fsync(dir_fd); /* a key that is lost is made anew */
        (void)close(dir_fd);
    }
    return ATL_OK;
}

/* The node's own key is no part of the tree: it never leaves the host. */
static enum atl_code load_node_key(struct cfg_identity *identity, struct atl_error *err)
{
    const char *dir = identity->cfg->program->state_dir;
    char *path ATL_FREE_AT_EXIT = atl_format("%s/node.key", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return make_node_key(dir, path, identity->node_key, err);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot open '%s': %s", path, strerror(errno));
    enum atl_code code = read_node_key(fd, path, identity->node_key, err);
    (void)close(fd);
    return code;
}

static void on_stored(const struct cfg_store_result *result, void *user)
{
    *(struct cfg_store_result *)user = *result;
}

static void put_public_key(struct cfg_identity *identity, struct cfg_txn *txn, struct cfg_op *ops,
                           struct atl_arena *arena)
{
    uint8_t public_key[ATL_KEY_SIZE];
    atl_assertion_public(identity->node_key, public_key);
    ProtobufCBinaryData key = {.data = public_key, .len = sizeof public_key};
    Atoll__Store__V1__NodeKeys keys = ATOLL__STORE__V1__NODE_KEYS__INIT;
    keys.n_ed25519 = 1;
    keys.ed25519 = &key;
    size_t size = atoll__store__v1__node_keys__get_packed_size(&keys);
    uint8_t *bytes = atl_arena_alloc(arena, size);
    (void)atoll__store__v1__node_keys__pack(&keys, bytes);
    const char *path = atl_arena_format(arena, ".state/key/%s", identity->cfg->program->node);
    const struct cfg_file *file = cfg_tree_get(cfg_store_tree(identity->cfg->store), path);
    if (file == NULL || file->size != size || memcmp(file->bytes, bytes, size) != 0)
        add_put(txn, ops, path, bytes, size);
}

enum atl_code cfg_identity_new_keys(struct atl_arena *arena, struct cfg_op *ops, size_t *ret_count,
                                    struct atl_error *err)
{
    struct cfg_txn txn = {.ops = ops};
    char *private_pem = NULL;
    char *public_pem = NULL;
    uint8_t *csrf = atl_arena_alloc(arena, ATL_CSRF_KEY_SIZE);
    enum atl_code code = make_ticket_key(arena, &private_pem, &public_pem, err);
    if (code != ATL_OK)
        return code;
    atl_assert(private_pem != NULL);
    atl_assert(public_pem != NULL);
    cfg_random(csrf, ATL_CSRF_KEY_SIZE);
    add_put(&txn, ops, CFG_TICKET_KEY, private_pem, strlen(private_pem));
    add_put(&txn, ops, CFG_TICKET_PUB, public_pem, strlen(public_pem));
    add_put(&txn, ops, CFG_CSRF_KEY, csrf, ATL_CSRF_KEY_SIZE);
    *ret_count = txn.op_count;
    return ATL_OK;
}

static enum atl_code bootstrap(struct cfg_identity *identity, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    const struct cfg_tree *tree = cfg_store_tree(identity->cfg->store);
    struct cfg_op ops[8];
    struct cfg_txn txn = {.ops = ops};
    char *private_pem = NULL;
    char *public_pem = NULL;
    if (cfg_tree_get(tree, CFG_TICKET_KEY) == NULL) {
        enum atl_code code = make_ticket_key(&arena, &private_pem, &public_pem, err);
        if (code != ATL_OK)
            return code;
        atl_assert(private_pem != NULL);
        atl_assert(public_pem != NULL);
        add_put(&txn, ops, CFG_TICKET_KEY, private_pem, strlen(private_pem));
        add_put(&txn, ops, CFG_TICKET_PUB, public_pem, strlen(public_pem));
    }
    uint8_t csrf[ATL_CSRF_KEY_SIZE];
    cfg_random(csrf, sizeof csrf);
    if (cfg_tree_get(tree, CFG_CSRF_KEY) == NULL)
        add_put(&txn, ops, CFG_CSRF_KEY, csrf, sizeof csrf);
    static const char users[] = "user:root@pam:1:0::::::\n";
    if (cfg_tree_get(tree, CFG_USERS) == NULL)
        add_put(&txn, ops, CFG_USERS, users, sizeof users - 1);
    put_public_key(identity, &txn, ops, &arena);
    if (txn.op_count == 0)
        return ATL_OK;
    struct cfg_store_result result = {0};
    cfg_store_txn(identity->cfg->store, &txn, NULL, on_stored, &result);
    cfg_store_settle(identity->cfg->store);
    if (result.code != ATL_OK && err != NULL)
        *err = result.error;
    return result.code;
}

/* --- keys out of the tree
 * ----------------------------------------------------------------------------------- */

static enum atl_code load_ticket_key(struct cfg_identity *identity, const struct cfg_file *file,
                                     struct atl_error *err)
{
    BIO *bio = file != NULL ? BIO_new_mem_buf(file->bytes, (int)file->size) : NULL;
    EVP_PKEY *pkey = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    uint8_t *private_der = NULL;
    uint8_t *public_der = NULL;
    int private_size = pkey != NULL ? i2d_PrivateKey(pkey, &private_der) : -1;
    int public_size = pkey != NULL ? i2d_PUBKEY(pkey, &public_der) : -1;
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    if (private_size <= 0 || public_size <= 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' holds no private key", CFG_TICKET_KEY);
    OPENSSL_free(identity->private_der);
    OPENSSL_free(identity->public_der);
    identity->private_der = private_der;
    identity->private_size = (size_t)private_size;
    identity->public_der = public_der;
    identity->public_size = (size_t)public_size;
    return ATL_OK;
}

static enum atl_code load_csrf_key(struct cfg_identity *identity, const struct cfg_file *file,
                                   struct atl_error *err)
{
    if (file == NULL || file->size != ATL_CSRF_KEY_SIZE)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' does not hold the %d bytes of a key", CFG_CSRF_KEY,
                        ATL_CSRF_KEY_SIZE);
    memcpy(identity->csrf_key, file->bytes, ATL_CSRF_KEY_SIZE);
    return ATL_OK;
}

/* Another node, or we, have replaced a key. */
static void on_change(const char *path, const struct cfg_file *file, void *user)
{
    struct cfg_identity *identity = user;
    struct atl_error error = {0};
    enum atl_code code = ATL_OK;
    if (strcmp(path, CFG_TICKET_KEY) == 0)
        code = load_ticket_key(identity, file, &error);
    else if (strcmp(path, CFG_CSRF_KEY) == 0)
        code = load_csrf_key(identity, file, &error);
    if (code != ATL_OK)
        atl_log(ATL_ERROR, "key-not-read", "%s; the one before goes on", error.text);
}

static const struct cfg_file *key_file(const struct cfg_identity *identity, const char *path)
{
    return cfg_tree_get(cfg_store_tree(identity->cfg->store), path);
}

enum atl_code cfg_identity_open(struct cfg *cfg, const char *pam_helper, struct cfg_identity **ret_identity,
                                struct atl_error *err)
{
    struct cfg_identity *identity = atl_new0(struct cfg_identity);
    identity->cfg = cfg;
    enum atl_code code = load_node_key(identity, err);
    if (code == ATL_OK)
        code = bootstrap(identity, err);
    if (code == ATL_OK)
        code = load_ticket_key(identity, key_file(identity, CFG_TICKET_KEY), err);
    if (code == ATL_OK)
        code = load_csrf_key(identity, key_file(identity, CFG_CSRF_KEY), err);
    if (code != ATL_OK) {
        cfg_identity_free(&identity);
        return code;
    }
    identity->checker = cfg_checker_new(cfg->loop, pam_helper);
    cfg_store_on_commit(cfg->store, on_change, NULL, identity);
    *ret_identity = identity;
    return ATL_OK;
}

void cfg_identity_free(struct cfg_identity **pointer)
{
    struct cfg_identity *identity = *pointer;
    *pointer = NULL;
    if (identity == NULL)
        return;
    cfg_checker_free(&identity->checker);
    OPENSSL_clear_free(identity->private_der, identity->private_size);
    OPENSSL_free(identity->public_der);
    explicit_bzero(identity, sizeof *identity);
    free(identity);
}

struct cfg_checker *cfg_identity_checker(struct cfg_identity *identity)
{
    return identity->checker;
}

/* --- what is made with them
 * --------------------------------------------------------------------------------- */

char *cfg_identity_ticket(struct cfg_identity *identity, const char *user, struct atl_arena *arena)
{
    return atl_ticket_make("PVE", user, atl_clock_wall_seconds(),
                           (struct atl_bytes){.data = identity->private_der, .size = identity->private_size},
                           arena);
}

char *cfg_identity_csrf(struct cfg_identity *identity, const char *user, struct atl_arena *arena)
{
    return atl_csrf_make(user, atl_clock_wall_seconds(), identity->csrf_key, arena);
}

bool cfg_identity_csrf_valid(struct cfg_identity *identity, const char *text, const char *user)
{
    return atl_csrf_valid(text, user, atl_clock_wall_seconds(), identity->csrf_key);
}

enum atl_code cfg_identity_ticket_user(struct cfg_identity *identity, const char *ticket,
                                       struct atl_arena *arena, const char **ret_user, struct atl_error *err)
{
    return atl_ticket_check(ticket, "PVE", atl_clock_wall_seconds(),
                            (struct atl_bytes){.data = identity->public_der, .size = identity->public_size},
                            arena, ret_user, err);
}

const uint8_t *cfg_identity_assert(struct cfg_identity *identity, const char *user, const char *token,
                                   struct atl_arena *arena, size_t *ret_size, int64_t *ret_expires)
{
    struct atl_revision revision = cfg_store_revision(identity->cfg->store);
    struct atl_assertion assertion = {
        .user = user,
        .token = token,
        .node = identity->cfg->program->node,
        .issued = atl_clock_wall_seconds(),
        .epoch = revision.epoch,
        .number = revision.number,
    };
    assertion.expires = assertion.issued + ATL_ASSERTION_LIFE;
    cfg_random(assertion.nonce, sizeof assertion.nonce);
    *ret_expires = assertion.expires;
    return atl_assertion_sign(&assertion, identity->node_key, arena, ret_size);
}
