/* Any storage.cfg: reading never fails in a bad way, and what is written back means the same. */
#include <string.h>

#include "core/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atl_arena arena = {0};
    struct sto_config config;
    if (sto_config_read((const char *)data, size, &arena, &config, NULL) == ATL_OK && config.count > 0) {
        struct atl_buf text = {0};
        struct atl_error err = {0};
        struct atl_errors errors = {0};
        struct sto_change change = {.ret_text = &text, .errors = &errors, .err = &err};
        const char *first = config.storages[0].id;
        if (sto_config_remove(&config, first, &change) == ATL_OK) {
            struct sto_config left;
            enum atl_code code = sto_config_read(text.data, text.length, &arena, &left, NULL);
            atl_assert(code == ATL_OK);
            atl_assert(left.count + 1 == config.count);
        }
        for (size_t i = 0; i < config.count; i++)
            (void)sto_storage_entry(&config.storages[i], config.digest, &arena);
        atl_buf_done(&text);
    }
    atl_arena_done(&arena);
    return 0;
}
