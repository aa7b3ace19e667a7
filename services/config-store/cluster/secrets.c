/* The secrets that all nodes of a cluster share, as files of this node. */
#include "cluster/secrets.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/seal.h"
#include "pure/number.h"

#define NEXT_GENERATION "next/generation"

static void forget(struct atl_buf *buf)
{
    if (buf->data != NULL)
        explicit_bzero(buf->data, buf->capacity);
    atl_buf_done(buf);
}

void cfg_secrets_done(struct cfg_secrets *secrets)
{
    forget(&secrets->ca);
    forget(&secrets->certificate);
    forget(&secrets->authkey);
    forget(&secrets->priv_key);
    forget(&secrets->ca_key);
}

static enum atl_code random_bytes(size_t size, struct atl_buf *out, struct atl_error *err)
{
    if (RAND_bytes((unsigned char *)atl_buf_reserve(out, size), (int)size) != 1)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "no random bytes for a key");
    out->length += size;
    return ATL_OK;
}

enum atl_code cfg_secrets_authkey(struct atl_buf *ret_key, struct atl_error *err)
{
    return random_bytes(CFG_AUTHKEY_BYTES, ret_key, err);
}

/* --- generations --- */

static bool read_number(const struct cfg_place *place, const char *name, uint64_t *ret_number)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    if (cfg_place_read(place, name, &text, NULL) != ATL_OK || text.length == 0)
        return false;
    text.data[strcspn(text.data, "\n")] = '\0';
    return atl_uint_from_text(text.data, ret_number);
}

static enum atl_code write_number(const struct cfg_place *place, const char *name, uint64_t number,
                                  struct atl_error *err)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    atl_buf_printf(&text, "%" PRIu64 "\n", number);
    return cfg_place_write(place, name, &text, err);
}

uint64_t cfg_secrets_generation(const struct cfg_place *place)
{
    uint64_t generation = 0;
    return read_number(place, CFG_GENERATION_FILE, &generation) ? generation : 0;
}

enum atl_code cfg_secrets_set_generation(const struct cfg_place *place, uint64_t generation,
                                         struct atl_error *err)
{
    return write_number(place, CFG_GENERATION_FILE, generation, err);
}

bool cfg_secrets_prepared(const struct cfg_place *place, uint64_t generation)
{
    uint64_t there = 0;
    return read_number(place, NEXT_GENERATION, &there) && there == generation;
}

/* --- the next ones --- */

static enum atl_code write_all(const struct cfg_place *place, const struct cfg_secrets *secrets,
                               struct atl_error *err)
{
    enum atl_code code = cfg_place_write(place, "next/ca.pem", &secrets->ca, err);
    if (code == ATL_OK)
        code = cfg_place_write(place, "next/node.pem", &secrets->certificate, err);
    if (code == ATL_OK)
        code = cfg_place_write(place, "next/authkey", &secrets->authkey, err);
    if (code == ATL_OK)
        code = cfg_place_write(place, "next/priv.key", &secrets->priv_key, err);
    if (code == ATL_OK && secrets->ca_key.length > 0)
        code = cfg_place_write(place, cfg_pki_next.key, &secrets->ca_key, err);
    return code == ATL_OK ? write_number(place, NEXT_GENERATION, secrets->generation, err) : code;
}

enum atl_code cfg_secrets_keep(const struct cfg_place *place, const struct cfg_secrets *secrets,
                               struct atl_error *err)
{
    enum atl_code code = cfg_place_empty(place, "next", err);
    return code == ATL_OK ? write_all(place, secrets, err) : code;
}

enum atl_code cfg_secrets_make(const struct cfg_place *place, const struct cfg_secrets_wish *wish,
                               struct atl_error *err)
{
    struct cfg_secrets made CFG_SECRETS_AT_EXIT = {.generation = wish->generation};
    struct atl_buf csr ATL_BUF_AT_EXIT = {0};
    char *name ATL_FREE_AT_EXIT = atl_format("Atoll cluster %s, %" PRIu64, wish->cluster, wish->generation);
    enum atl_code code = cfg_place_empty(place, "next", err);
    if (code == ATL_OK)
        code = cfg_pki_make_ca(place, &cfg_pki_next, name, err);
    if (code == ATL_OK)
        code = cfg_place_read(place, cfg_pki_next.cert, &made.ca, err);
    if (code == ATL_OK)
        code = cfg_pki_request(place, &csr, err);
    if (code == ATL_OK)
        code = cfg_pki_sign(place, &cfg_pki_next, csr.data, &wish->subject, &made.certificate, err);
    if (code == ATL_OK)
        code = cfg_secrets_authkey(&made.authkey, err);
    if (code == ATL_OK)
        code = random_bytes(CFG_SEAL_KEY_SIZE, &made.priv_key, err);
    return code == ATL_OK ? write_all(place, &made, err) : code;
}

enum atl_code cfg_secrets_read(const struct cfg_place *place, bool next, struct cfg_secrets *ret_secrets,
                               struct atl_error *err)
{
    const struct cfg_pki_authority *authority = next ? &cfg_pki_next : &cfg_pki_current;
    struct atl_error why = {0};
    enum atl_code code = cfg_place_read(place, authority->cert, &ret_secrets->ca, err);
    if (code == ATL_OK)
        code = cfg_place_read(place, next ? "next/authkey" : "corosync/authkey", &ret_secrets->authkey, err);
    if (code == ATL_OK)
        code = cfg_place_read(place, next ? "next/priv.key" : CFG_SEAL_FILE, &ret_secrets->priv_key, err);
    if (code != ATL_OK)
        return code;
    code = cfg_place_read(place, authority->key, &ret_secrets->ca_key, &why);
    return code == ATL_OK || code == ATL_E_ABSENT ? ATL_OK : atl_fail(err, code, NULL, "%s", why.text);
}

/* --- into use --- */

/* The authorities that are believed; the first one's key signs. */
static void mix_ca(const struct cfg_secrets *now, const struct cfg_secrets *next,
                   enum cfg_rotation_phase phase, struct atl_buf *out)
{
    if (phase == CFG_ROTATION_DROP) {
        atl_buf_text(out, next->ca.data);
    } else if (phase == CFG_ROTATION_USE) {
        cfg_bundle(next->ca.data, now->ca.data, out);
    } else {
        atl_buf_text(out, now->ca.data);
        if (strstr(now->ca.data, next->ca.data) == NULL)
            atl_buf_text(out, next->ca.data);
    }
}

/* The keys that are there but for `without`; at most `max` of them: the last ones were never written with. */
static void add_keys(const struct atl_buf *keys, const char *without, size_t max, struct atl_buf *out)
{
    for (size_t at = 0; at + CFG_SEAL_KEY_SIZE <= keys->length && max > 0; at += CFG_SEAL_KEY_SIZE) {
        if (memcmp(keys->data + at, without, CFG_SEAL_KEY_SIZE) == 0)
            continue;
        atl_buf_add(out, keys->data + at, CFG_SEAL_KEY_SIZE);
        max--;
    }
}

static void mix_keys(const struct cfg_secrets *now, const struct cfg_secrets *next,
                     enum cfg_rotation_phase phase, struct atl_buf *out)
{
    const char *key = next->priv_key.data;
    if (phase == CFG_ROTATION_SPREAD)
        add_keys(&now->priv_key, key, CFG_SEAL_KEYS_MAX - 1, out);
    atl_buf_add(out, key, CFG_SEAL_KEY_SIZE);
    if (phase == CFG_ROTATION_USE)
        add_keys(&now->priv_key, key, CFG_SEAL_KEYS_MAX - 1, out);
}

static enum atl_code use(const struct cfg_place *place, const struct cfg_secrets *next, struct atl_error *err)
{
    enum atl_code code = cfg_place_write(place, "etcd/node.pem", &next->certificate, err);
    if (code == ATL_OK)
        code = cfg_place_write(place, "corosync/authkey", &next->authkey, err);
    if (code == ATL_OK && next->ca_key.length > 0)
        code = cfg_place_write(place, cfg_pki_current.key, &next->ca_key, err);
    if (code == ATL_OK && next->ca_key.length == 0)
        cfg_place_remove(place, cfg_pki_current.key); /* of the old authority, which is none any more */
    return code;
}

static enum atl_code drop(const struct cfg_place *place, struct atl_error *err)
{
    uint64_t generation = 0;
    if (!read_number(place, NEXT_GENERATION, &generation))
        return atl_fail(err, ATL_E_ABSENT, NULL, "the next secrets are not there");
    enum atl_code code = cfg_secrets_set_generation(place, generation, err);
    return code == ATL_OK ? cfg_place_empty(place, "next", err) : code;
}

enum atl_code cfg_secrets_apply(const struct cfg_place *place, enum cfg_rotation_phase phase,
                                struct atl_error *err)
{
    struct cfg_secrets now CFG_SECRETS_AT_EXIT = {.generation = 0};
    struct cfg_secrets next CFG_SECRETS_AT_EXIT = {.generation = 0};
    struct atl_buf ca ATL_BUF_AT_EXIT = {0};
    struct atl_buf keys ATL_BUF_AT_EXIT = {0};
    atl_assert(phase > CFG_ROTATION_DONE);
    atl_assert(phase < CFG_ROTATION_PHASES);
    enum atl_code code = cfg_secrets_read(place, false, &now, err);
    if (code == ATL_OK)
        code = cfg_secrets_read(place, true, &next, err);
    if (code == ATL_OK)
        code = cfg_place_read(place, "next/node.pem", &next.certificate, err);
    if (code == ATL_OK && next.priv_key.length != CFG_SEAL_KEY_SIZE)
        code = atl_fail(err, ATL_E_INVALID, NULL, "next/priv.key is no key");
    if (code != ATL_OK)
        return code;
    mix_ca(&now, &next, phase, &ca);
    mix_keys(&now, &next, phase, &keys);
    code = cfg_place_write(place, cfg_pki_current.cert, &ca, err);
    if (code == ATL_OK)
        code = cfg_place_write(place, CFG_SEAL_FILE, &keys, err);
    explicit_bzero(keys.data, keys.capacity);
    if (code == ATL_OK && phase >= CFG_ROTATION_USE)
        code = use(place, &next, err);
    return code == ATL_OK && phase == CFG_ROTATION_DROP ? drop(place, err) : code;
}
