/* Fuzzes form parameters. */
#include "fuzz_codec.h"

#include "atoll/test/v1/test.atl.h"

static bool face(const struct atl_message *table, const char *text, size_t length, struct atl_buf *out)
{
    struct atl_arena arena = {0};
    struct atl_param *params = NULL;
    size_t count = 0;
    ProtobufCMessage *message = NULL;
    struct atl_errors errors = {0};
    bool taken = atl_form_params(text, length, &arena, &params, &count, NULL) == ATL_OK &&
                 atl_params_decode(table, params, count, &arena, &message, &errors) == ATL_OK;
    if (taken) {
        if (atl_validate(table, message, &errors) != ATL_OK)
            errors.count = 0; /* limits are not what is looked at here */
        atl_params_encode(table, message, &arena, &params, &count);
        (void)atl_buf_reserve(out, 0);
        atl_form_encode(params, count, out);
    } else {
        atl_assert(message == NULL);
    }
    atl_arena_done(&arena);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_fixed_point(face, size % 2 == 0 ? &atl_msg_test_v1_CreateRequest : &atl_msg_test_v1_Config, data,
                     size);
    return 0;
}
