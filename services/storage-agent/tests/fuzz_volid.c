/* Whatever the bytes: an accepted volume id has a path below its folder and reads back the same. */
#include <string.h>

#include "core/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atl_arena arena = {0};
    const char *text = atl_arena_strndup(&arena, (const char *)data, size);
    struct sto_volume volume;
    struct sto_volume again;
    if (sto_volume_parse(text, NULL, &volume, NULL) == ATL_OK) {
        const char *written = sto_volume_to_text(&volume, &arena);
        atl_assert(strcmp(written, text) == 0);
        atl_assert(strchr(volume.file, '/') == NULL);
        atl_assert(strcmp(volume.file, "..") != 0);
        enum atl_code code = sto_volume_parse(written, NULL, &again, NULL);
        atl_assert(code == ATL_OK);
        atl_assert(again.content == volume.content);
    }
    for (enum sto_content content = 0; content < STO_CONTENTS; content++) {
        if (sto_upload_name(content, text, &volume, NULL) == ATL_OK)
            atl_assert(sto_volume_parse_name(volume.name, NULL, &again, NULL) == ATL_OK);
    }
    atl_arena_done(&arena);
    return 0;
}
