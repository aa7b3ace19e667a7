/*
 * What lies below priv/ is encrypted before it leaves for an engine that others hold, too: AES-256-GCM with a
 * key of the cluster's nodes (a file of 32 bytes, 0600), a random nonce per write, bound to path and epoch.
 * While the key is changed the file holds several: the first is written with, all of them are tried to read.
 *
 *   "ATL" 0x01 | nonce, 12 bytes | ciphertext, as long as the file | tag, 16 bytes
 */
#ifndef CFG_SEAL_H
#define CFG_SEAL_H

#include "pure/arena.h"
#include "pure/error.h"

enum {
    CFG_SEAL_KEY_SIZE = 32,
    CFG_SEAL_KEYS_MAX = 4,
    CFG_SEAL_NONCE_SIZE = 12,
    CFG_SEAL_MORE = 4 + CFG_SEAL_NONCE_SIZE + 16
};

struct cfg_seal {
    bool on; /* without a key nothing is encrypted: tests */
    uint8_t key[CFG_SEAL_KEY_SIZE];
    uint8_t others[CFG_SEAL_KEYS_MAX - 1][CFG_SEAL_KEY_SIZE]; /* to read with */
    size_t other_count;
};

/* A new key into a file that must not be there. Errors: ATL_E_EXISTS, ATL_E_IO. */
ATL_MUST_CHECK enum atl_code cfg_seal_make_key(const char *path, struct atl_error *err);
/* A key that another node gave. Errors: as above. */
ATL_MUST_CHECK enum atl_code cfg_seal_keep_key(const char *path, const uint8_t key[CFG_SEAL_KEY_SIZE],
                                               struct atl_error *err);
/* path: NULL: no key. Errors: ATL_E_IO, ATL_E_INVALID it is no multiple of a key's size, or too long. */
ATL_MUST_CHECK enum atl_code cfg_seal_load(const char *path, struct cfg_seal *ret_seal,
                                           struct atl_error *err);

/* A file of the tree, borrowed. */
struct cfg_sealed {
    uint64_t epoch;
    const char *path;
    const uint8_t *bytes;
    size_t size;
};
/* Is the file one of those that are encrypted? */
bool cfg_seal_covers(const struct cfg_seal *seal, const char *path);
/* With a given nonce, which must never come twice with one key. Returns the envelope, of size + CFG_SEAL_MORE
 * bytes. */
uint8_t *cfg_seal_with(const struct cfg_seal *seal, const struct cfg_sealed *plain,
                       const uint8_t nonce[CFG_SEAL_NONCE_SIZE], struct atl_arena *arena);
/* With a random nonce; files elsewhere stay as they are. file->bytes: out: in the arena, or as they were. */
void cfg_seal_close(const struct cfg_seal *seal, struct cfg_sealed *file, struct atl_arena *arena);
/* The other way. Errors: ATL_E_INVALID, naming the file: another key, another file, or it was changed. */
ATL_MUST_CHECK enum atl_code cfg_seal_open(const struct cfg_seal *seal, struct cfg_sealed *file,
                                           struct atl_arena *arena, struct atl_error *err);

#endif
