/* Fuzzes answers read back; the first byte picks the table. */
#include "fuzz_codec.h"

#include "atoll/test/v1/test.atl.h"

static const struct atl_message *const tables[] = {
    &atl_msg_test_v1_Rows, &atl_msg_test_v1_Row, &atl_msg_test_v1_ConfigReply, &atl_msg_test_v1_Permissions,
    &atl_msg_test_v1_Id,   &atl_msg_test_v1_Raw, &atl_msg_test_v1_Everything,
};

static bool face(const struct atl_message *table, const char *text, size_t length, struct atl_buf *out)
{
    struct atl_arena arena = {0};
    struct atl_errors errors = {0};
    ProtobufCMessage *message = NULL;
    bool taken = atl_json_decode(table, text, length, &arena, &message, NULL) == ATL_OK;
    if (taken) {
        if (atl_validate(table, message, &errors) != ATL_OK)
            errors.count = 0; /* limits are not what is looked at here */
        atl_json_encode(table, message, out, NULL);
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
