/* Fuzzes property strings; the first byte picks the table. */
#include "fuzz_codec.h"

#include "atoll/test/v1/test.atl.h"

static const struct atl_message *const tables[] = {
    &atl_msg_test_v1_Nic,  &atl_msg_test_v1_Disk,     &atl_msg_test_v1_Agent,
    &atl_msg_test_v1_Boot, &atl_msg_test_v1_Features, &atl_msg_test_v1_IpConfig,
};

static bool face(const struct atl_message *table, const char *text, size_t length, struct atl_buf *out)
{
    struct atl_arena arena = {0};
    struct atl_errors errors = {0};
    ProtobufCMessage *message = NULL;
    const char *copy = atl_arena_strndup(&arena, length == 0 ? "" : text, length);
    bool taken = atl_property_decode(table, copy, "net0", &arena, &message, &errors) == ATL_OK;
    if (taken) {
        if (atl_validate(table, message, &errors) != ATL_OK)
            errors.count = 0; /* limits are not what is looked at here */
        atl_property_encode(table, message, out);
    }
    atl_arena_done(&arena);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0)
        fuzz_fixed_point(face, tables[data[0] % ATL_COUNT(tables)], data + 1, size - 1);
    return 0;
}
