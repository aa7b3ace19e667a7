/* Fuzzes section files. */
#include "fuzz_codec.h"

#include "atoll/test/v1/test.atl.h"

static bool face(const struct atl_message *table, const char *text, size_t length, struct atl_buf *out)
{
    struct atl_arena arena = {0};
    struct atl_errors errors = {0};
    struct atl_section *sections = NULL;
    size_t count = 0;
    bool taken = atl_sections_decode(table, "type", "storage", text, length, &arena, &sections, &count,
                                     &errors) == ATL_OK;
    if (taken)
        atl_sections_encode(table, "type", "storage", sections, count, out);
    atl_arena_done(&arena);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_fixed_point(face, &atl_msg_test_v1_Store, data, size);
    return 0;
}
