/* The keeper of the door: assertions and permissions against a copy of user.cfg and the nodes' keys. */
#include "io/guard.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/store/v1/identity.pb-c.h"
#include "io/loop.h"
#include "pure/assertion.h"
#include "pure/codec.h"

enum { NODES_MAX = 64, KEYS_PER_NODE = 4, VERIFIED_SLOTS = 4096, SUBJECT_SLOTS = 1024, HASH_SIZE = 32 };

#define KEY_FOLDER ".state/key/"

struct node_keys {
    char node[64];
    uint8_t keys[KEYS_PER_NODE][ATL_KEY_SIZE];
    size_t count;
};

/* An assertion that was verified: direct-mapped by its hash, so bounded and without a search. */
struct verified {
    uint8_t hash[HASH_SIZE];
    int64_t expires; /* 0: empty */
    char user[ATL_USERID_MAX + 1];
    char token[40];
};

/* A user (and token) whose groups and rules are worked out; thrown away when user.cfg changes. */
struct known {
    struct atl_subject *subject; /* NULL: empty; lives in the keeper's arena */
    int64_t fresh_until;         /* expiry is looked at again each second */
};

struct atl_keeper {
    struct atl_bus *bus;
    struct atl_mirror *mirror;
    struct atl_arena arena; /* of acl and subjects */
    struct atl_acl *acl;
    struct node_keys nodes[NODES_MAX];
    size_t node_count;
    struct verified *verified;
    struct known *known;
    struct atl_revision revision;
    bool (*frozen)(void *user); /* NULL: the mirror's word, if there is one */
    void *frozen_user;
    int64_t time; /* 0: the machine's clock */
};

static int64_t wall_clock(const struct atl_keeper *keeper)
{
    return keeper->time != 0 ? keeper->time : atl_clock_wall_seconds();
}

/* --- feeding
 * ------------------------------------------------------------------------------------------------ */

static void feed_users(struct atl_keeper *keeper, const char *bytes, size_t size)
{
    atl_arena_done(&keeper->arena);
    memset(keeper->known, 0, SUBJECT_SLOTS * sizeof keeper->known[0]);
    keeper->acl = atl_acl_parse(bytes, size, &keeper->arena, NULL);
}

static void drop_node(struct atl_keeper *keeper, const char *node)
{
    for (size_t i = 0; i < keeper->node_count; i++)
        if (strcmp(keeper->nodes[i].node, node) == 0) {
            keeper->nodes[i] = keeper->nodes[--keeper->node_count];
            break;
        }
}

static void feed_key(struct atl_keeper *keeper, const char *node, const char *bytes, size_t size)
{
    /* A key that is gone must not live on in what was verified with it. */
    memset(keeper->verified, 0, VERIFIED_SLOTS * sizeof keeper->verified[0]);
    drop_node(keeper, node);
    if (bytes == NULL || keeper->node_count == NODES_MAX)
        return;
    Atoll__Store__V1__NodeKeys *keys =
        atoll__store__v1__node_keys__unpack(NULL, size, (const uint8_t *)bytes);
    if (keys == NULL)
        return;
    struct node_keys *entry = &keeper->nodes[keeper->node_count];
    *entry = (struct node_keys){.count = 0};
    bool fits = atl_copy(entry->node, sizeof entry->node, node);
    for (size_t i = 0; i < keys->n_ed25519 && entry->count < KEYS_PER_NODE; i++)
        if (keys->ed25519[i].len == ATL_KEY_SIZE)
            memcpy(entry->keys[entry->count++], keys->ed25519[i].data, ATL_KEY_SIZE);
    if (fits && entry->count > 0)
        keeper->node_count++;
    atoll__store__v1__node_keys__free_unpacked(keys, NULL);
}

void atl_keeper_feed(struct atl_keeper *keeper, const char *path, const char *bytes, size_t size)
{
    if (strcmp(path, "user.cfg") == 0)
        feed_users(keeper, bytes != NULL ? bytes : "", bytes != NULL ? size : 0);
    else if (strncmp(path, KEY_FOLDER, strlen(KEY_FOLDER)) == 0)
        feed_key(keeper, path + strlen(KEY_FOLDER), bytes, size);
}

void atl_keeper_set_revision(struct atl_keeper *keeper, struct atl_revision revision)
{
    if (keeper->revision.epoch == revision.epoch && keeper->revision.number == revision.number)
        return;
    keeper->revision = revision;
    if (keeper->bus != NULL)
        atl_bus_retry_waiting(keeper->bus);
}

void atl_keeper_on_frozen(struct atl_keeper *keeper, bool (*frozen)(void *user), void *user)
{
    keeper->frozen = frozen;
    keeper->frozen_user = user;
}

void atl_keeper_set_time(struct atl_keeper *keeper, int64_t now)
{
    keeper->time = now;
}

static void on_file(const char *path, const struct atl_file *file, void *user)
{
    atl_keeper_feed(user, path, file != NULL ? file->bytes : NULL, file != NULL ? file->size : 0);
}

static void on_batch(void *user)
{
    struct atl_keeper *keeper = user;
    atl_keeper_set_revision(keeper, atl_mirror_revision(keeper->mirror));
}

struct atl_keeper *atl_keeper_new(struct atl_bus *bus, struct atl_mirror *mirror)
{
    struct atl_keeper *keeper = atl_new0(struct atl_keeper);
    keeper->bus = bus;
    keeper->mirror = mirror;
    keeper->verified = atl_alloc0(VERIFIED_SLOTS * sizeof keeper->verified[0]);
    keeper->known = atl_alloc0(SUBJECT_SLOTS * sizeof keeper->known[0]);
    feed_users(keeper, "", 0);
    if (mirror != NULL) {
        atl_mirror_each(mirror, "user.cfg", on_file, keeper);
        atl_mirror_each(mirror, KEY_FOLDER, on_file, keeper);
        atl_mirror_on_change(mirror, "user.cfg", on_file, keeper);
        atl_mirror_on_change(mirror, KEY_FOLDER, on_file, keeper);
        atl_mirror_on_batch(mirror, on_batch, keeper);
        keeper->revision = atl_mirror_revision(mirror);
    }
    struct atl_guard guard = atl_keeper_guard(keeper);
    if (bus != NULL)
        atl_bus_set_guard(bus, &guard);
    return keeper;
}

void atl_keeper_free(struct atl_keeper **pointer)
{
    struct atl_keeper *keeper = *pointer;
    *pointer = NULL;
    if (keeper == NULL)
        return;
    atl_arena_done(&keeper->arena);
    free(keeper->verified);
    free(keeper->known);
    free(keeper);
}

const struct atl_acl *atl_keeper_acl(const struct atl_keeper *keeper)
{
    return keeper->acl;
}

/* --- who
 * ---------------------------------------------------------------------------------------------------- */

static struct verified *slot_of(const struct atl_keeper *keeper, const uint8_t hash[HASH_SIZE])
{
    uint32_t index;
    memcpy(&index, hash, sizeof index);
    return &keeper->verified[index % VERIFIED_SLOTS];
}

static enum atl_code verify_with_keys(const struct atl_keeper *keeper, const struct atl_assertion *said,
                                      const uint8_t *bytes, size_t size, struct atl_error *err)
{
    for (size_t i = 0; i < keeper->node_count; i++) {
        const struct node_keys *node = &keeper->nodes[i];
        if (strcmp(node->node, said->node) != 0)
            continue;
        enum atl_code code = ATL_E_UNAUTHENTICATED;
        for (size_t k = 0; k < node->count && code != ATL_OK; k++)
            code = atl_assertion_verify(bytes, size, node->keys[k], wall_clock(keeper), err);
        return code;
    }
    return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL,
                    "the user's assertion is signed by a node that is unknown");
}

static bool older(struct atl_revision have, uint64_t epoch, uint64_t number)
{
    return have.epoch < epoch || (have.epoch == epoch && have.number < number);
}

/* Fills in who the assertion is about, from the cache or by verifying it. */
static enum atl_code identify(struct atl_keeper *keeper, const uint8_t *bytes, size_t size,
                              struct atl_arena *arena, struct atl_principal *principal, struct atl_error *err)
{
    uint8_t hash[HASH_SIZE];
    (void)SHA256(bytes, size, hash); /* returns its third argument */
    struct verified *slot = slot_of(keeper, hash);
    if (slot->expires <= wall_clock(keeper) || memcmp(slot->hash, hash, sizeof hash) != 0) {
        struct atl_assertion said;
        enum atl_code code = atl_assertion_read(bytes, size, arena, &said, err);
        if (code != ATL_OK)
            return code;
        if (older(keeper->revision, said.epoch, said.number))
            return atl_fail(err, ATL_E_CONFLICT, NULL,
                            "the copy of the tree is older than the user's assertion");
        code = verify_with_keys(keeper, &said, bytes, size, err);
        if (code != ATL_OK)
            return code;
        struct verified made = {.expires = said.expires};
        memcpy(made.hash, hash, sizeof hash);
        if (!atl_copy(made.user, sizeof made.user, said.user) ||
            !atl_copy(made.token, sizeof made.token, said.token != NULL ? said.token : ""))
            return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL,
                            "the user's assertion holds a name that is too long");
        *slot = made;
    }
    principal->user = atl_arena_strdup(arena, slot->user);
    principal->token = slot->token[0] != '\0' ? atl_arena_strdup(arena, slot->token) : NULL;
    return ATL_OK;
}

static struct known *known_slot(const struct atl_keeper *keeper, const char *user, const char *token)
{
    uint32_t hash = 5381;
    for (const char *c = user; *c != '\0'; c++)
        hash = hash * 33 + (unsigned char)*c;
    hash = hash * 33 + '!';
    for (const char *c = token != NULL ? token : ""; *c != '\0'; c++)
        hash = hash * 33 + (unsigned char)*c;
    return &keeper->known[hash % SUBJECT_SLOTS];
}

static bool same_subject(const struct atl_subject *subject, const char *user, const char *token)
{
    if (strcmp(subject->user, user) != 0 || (subject->token == NULL) != (token == NULL))
        return false;
    return token == NULL || strcmp(strchr(subject->token, '!') + 1, token) == 0;
}

/* The subject with its groups and memo, shared by all requests of one user until user.cfg changes. */
static enum atl_code find_subject(struct atl_keeper *keeper, const char *user, const char *token,
                                  struct atl_subject **ret_subject, struct atl_error *err)
{
    struct known *slot = known_slot(keeper, user, token);
    int64_t now = wall_clock(keeper);
    if (slot->subject != NULL && slot->fresh_until > now && slot->fresh_until <= now + 1 &&
        same_subject(slot->subject, user, token)) {
        *ret_subject = slot->subject;
        return ATL_OK;
    }
    /* Subjects that lose their slot stay in the arena until user.cfg changes: do not let that grow for ever.
     */
    enum { ARENA_BYTES_MAX = 64 << 20 };
    if (keeper->arena.used_bytes > ARENA_BYTES_MAX) {
        struct atl_buf text ATL_BUF_AT_EXIT = {0};
        atl_acl_write(keeper->acl, &text);
        feed_users(keeper, text.data != NULL ? text.data : "", text.length);
    }
    struct atl_subject made;
    struct atl_arena scratch ATL_ARENA_AT_EXIT = {0};
    bool reuse = slot->subject != NULL && same_subject(slot->subject, user, token);
    enum atl_code code =
        atl_subject_init(&made, keeper->acl, user, token, now, reuse ? &scratch : &keeper->arena, err);
    if (code != ATL_OK)
        return code;
    if (!reuse) {
        slot->subject = atl_arena_new(&keeper->arena, struct atl_subject);
        *slot->subject = made;
    }
    slot->fresh_until = now + 1;
    *ret_subject = slot->subject;
    return ATL_OK;
}

/* --- the guard
 * ---------------------------------------------------------------------------------------------- */

static bool listed(const char *const *names, const char *name)
{
    for (; names != NULL && *names != NULL; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

/* NOLINTNEXTLINE(readability-function-size): the bus's table says what it is given */
static enum atl_code admit(void *self, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                           const uint8_t *assertion, size_t assertion_size, struct atl_arena *arena,
                           struct atl_principal *principal, struct atl_error *err)
{
    struct atl_keeper *keeper = self;
    if (assertion_size == 0) {
        if (listed(rpc->callers, principal->service))
            return ATL_OK;
        return atl_perm_check(rpc->perm, rpc->input, input, NULL, arena, err);
    }
    enum atl_code code = identify(keeper, assertion, assertion_size, arena, principal, err);
    struct atl_subject *subject = NULL;
    if (code == ATL_OK)
        code = find_subject(keeper, principal->user, principal->token, &subject, err);
    if (code != ATL_OK)
        return code;
    if (principal->token != NULL && (rpc->flags & ATL_R_NO_TOKEN) != 0)
        return atl_fail(err, ATL_E_DENIED, NULL, "Permission check failed (API tokens may not call this)");
    if (rpc->perm == NULL && listed(rpc->callers, principal->service))
        return ATL_OK; /* the service calls for the user; the method is the service's own */
    return atl_perm_check(rpc->perm, rpc->input, input, subject, arena, err);
}

static struct atl_revision get_revision(void *self)
{
    const struct atl_keeper *keeper = self;
    return keeper->revision;
}

static bool is_frozen(void *self)
{
    const struct atl_keeper *keeper = self;
    if (keeper->frozen != NULL)
        return keeper->frozen(keeper->frozen_user);
    return keeper->mirror != NULL && atl_mirror_frozen(keeper->mirror);
}

struct atl_guard atl_keeper_guard(struct atl_keeper *keeper)
{
    return (struct atl_guard){.self = keeper, .admit = admit, .revision = get_revision, .frozen = is_frozen};
}

enum atl_code atl_keeper_subject(struct atl_keeper *keeper, const struct atl_principal *principal,
                                 struct atl_subject *ret_subject, struct atl_error *err)
{
    if (principal->user == NULL)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "No ticket");
    struct atl_subject *subject = NULL;
    enum atl_code code = find_subject(keeper, principal->user, principal->token, &subject, err);
    if (code == ATL_OK)
        *ret_subject = *subject;
    return code;
}

enum atl_code atl_keeper_need(struct atl_keeper *keeper, const struct atl_principal *principal,
                              const char *path, const char *const *any, struct atl_error *err)
{
    if (principal->user == NULL)
        return ATL_OK;
    struct atl_subject *subject = NULL;
    enum atl_code code = find_subject(keeper, principal->user, principal->token, &subject, err);
    return code == ATL_OK ? atl_subject_need(subject, path, any, err) : code;
}
