/* Bytes from etcd: the value of the root, and keys below it. */
#include <string.h>

#include "drivers/etcd_keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char prefix[CFG_ETCD_PREFIX_MAX];
    struct cfg_etcd_root root;
    struct cfg_etcd_key key;
    struct atl_arena arena = {0};
    ProtobufCBinaryData bytes = {.len = size, .data = (uint8_t *)(uintptr_t)data};
    if (cfg_etcd_root_parse(&bytes, &root, NULL) == ATL_OK) {
        atl_assert(root.epoch > 0);
        atl_assert(strlen(root.digest) == CFG_ETCD_DIGEST);
    }
    cfg_etcd_prefix(1, prefix);
    char *whole = atl_arena_alloc(&arena, strlen(prefix) + size + 1);
    memcpy(whole, prefix, strlen(prefix));
    if (size > 0)
        memcpy(whole + strlen(prefix), data, size);
    bytes = (ProtobufCBinaryData){.len = strlen(prefix) + size, .data = (uint8_t *)whole};
    cfg_etcd_key_parse(prefix, &bytes, &key);
    ProtobufCBinaryData again = {.len = 0};
    if (key.kind == CFG_ETCD_FILE)
        again = cfg_etcd_file_key(&arena, 1, key.path);
    if (key.kind == CFG_ETCD_FILE) {
        atl_assert(again.len == bytes.len);
        atl_assert(memcmp(again.data, bytes.data, again.len) == 0);
    }
    atl_arena_done(&arena);
    return 0;
}
