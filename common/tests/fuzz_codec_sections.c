/* Fuzzes section files and colon files. */
#include "fuzz_codec.h"

#include "atoll/test/v1/test.atl.h"
#include "pure/colon.h"

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

static bool colons(const struct atl_message *table, const char *text, size_t length, struct atl_buf *out)
{
    (void)table;
    struct atl_arena arena = {0};
    struct atl_colon_reader reader = {text, text + length};
    struct atl_colon_record record;
    while (atl_colon_next(&reader, &arena, &record))
        atl_colon_write(out, record.fields, record.count);
    atl_arena_done(&arena);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_fixed_point(face, &atl_msg_test_v1_Store, data, size);
    fuzz_fixed_point(colons, NULL, data, size);
    return 0;
}
