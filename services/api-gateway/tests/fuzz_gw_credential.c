/* Cookies, Authorization and list headers with any bytes. */
#include <stdlib.h>
#include <string.h>

#include "core/credential.h"
#include "core/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atl_arena arena = {0};
    const char *text = atl_arena_strndup(&arena, (const char *)data, size);
    struct gw_header headers[] = {{"cookie", text}, {"authorization", text}};
    for (size_t count = 1; count <= ATL_COUNT(headers); count++) {
        struct gw_head head = {.headers = headers + 2 - count, .header_count = count};
        struct gw_credential credential;
        gw_credential_find(&head, &arena, &credential);
        atl_assert((credential.value != NULL) == (credential.kind != GW_NO_CREDENTIAL));
        atl_assert(credential.value == NULL || strlen(credential.value) <= GW_CREDENTIAL_MAX);
    }
    (void)gw_list_has(text, "gzip");
    struct gw_multipart reader;
    if (gw_multipart_init(&reader, text) == NULL)
        atl_assert(reader.delimiter_size <= GW_BOUNDARY_MAX + 4);
    atl_arena_done(&arena);
    return 0;
}
