/* Fuzzes parameters in JSON bodies; what they mean must survive as a form. */
#include "fuzz_codec.h"

#include "atoll/test/v1/test.atl.h"

static bool body(const struct atl_message *table, const char *text, size_t length, struct atl_buf *out)
{
    struct atl_arena arena = {0};
    struct atl_param *params = NULL;
    size_t count = 0;
    ProtobufCMessage *message = NULL;
    struct atl_errors errors = {0};
    bool taken = atl_json_params(text, length, &arena, &params, &count, NULL) == ATL_OK &&
                 atl_params_decode(table, params, count, &arena, &message, &errors) == ATL_OK;
    if (taken) { /* the same parameters, written as JSON */
        atl_params_encode(table, message, &arena, &params, &count);
        atl_buf_char(out, '{');
        for (size_t i = 0; i < count; i++) {
            bool again = i > 0 && strcmp(params[i].name, params[i - 1].name) == 0;
            bool more = i + 1 < count && strcmp(params[i].name, params[i + 1].name) == 0;
            if (!again) {
                atl_buf_text(out, i > 0 ? "," : "");
                atl_json_string(out, params[i].name, strlen(params[i].name));
                atl_buf_text(out, ":[");
            }
            atl_json_string(out, params[i].value, strlen(params[i].value));
            atl_buf_text(out, more ? "," : "]");
        }
        atl_buf_char(out, '}');
    }
    atl_arena_done(&arena);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_fixed_point(body, size % 2 == 0 ? &atl_msg_test_v1_CreateRequest : &atl_msg_test_v1_Config, data,
                     size);
    return 0;
}
