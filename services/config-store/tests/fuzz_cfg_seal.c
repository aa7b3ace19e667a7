/* Fuzzes the envelope of priv/: nothing but what was sealed opens, and what was sealed opens. */
#include <string.h>

#include "drivers/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct cfg_seal seal = {.on = true, .key = {1, 2, 3}};
    static const uint8_t nonce[CFG_SEAL_NONCE_SIZE] = {4, 5, 6};
    struct atl_arena arena = {0};
    struct cfg_sealed file = {.epoch = 7, .path = "priv/fuzz", .bytes = data, .size = size};
    atl_assert(cfg_seal_open(&seal, &file, &arena, NULL) != ATL_OK); /* nobody guesses a tag */
    const struct cfg_sealed plain = {.epoch = 7, .path = "priv/fuzz", .bytes = data, .size = size};
    struct cfg_sealed sealed = plain;
    sealed.bytes = cfg_seal_with(&seal, &plain, nonce, &arena);
    sealed.size = size + CFG_SEAL_MORE;
    struct cfg_sealed opened = sealed;
    atl_assert(cfg_seal_open(&seal, &opened, &arena, NULL) == ATL_OK);
    atl_assert(opened.size == size);
    atl_assert(size == 0 || memcmp(opened.bytes, data, size) == 0);
    if (size > 0) { /* one bit anywhere: which one, the input says */
        uint8_t *changed = atl_arena_copy(&arena, sealed.bytes, sealed.size);
        size_t bit = (data[0] | (size_t)data[size - 1] << 8) % (sealed.size * 8);
        changed[bit / 8] ^= (uint8_t)(1U << bit % 8);
        opened = sealed;
        opened.bytes = changed;
        atl_assert(cfg_seal_open(&seal, &opened, &arena, NULL) != ATL_OK);
    }
    atl_arena_done(&arena);
    return 0;
}
