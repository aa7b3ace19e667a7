/* HTTP/1.1 heads: any bytes, cut anywhere, are read or refused; what is read holds no control bytes. */
#include <stdlib.h>
#include <string.h>

#include "core/h1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct gw_head *head)
{
    atl_assert(head->method[0] != '\0');
    atl_assert(head->path[0] == '/' || strcmp(head->path, "*") == 0);
    atl_assert(head->header_count <= GW_HEADERS_MAX);
    for (size_t i = 0; i < head->header_count; i++) {
        atl_assert(strpbrk(head->headers[i].value, "\r\n") == NULL);
        atl_assert(strpbrk(head->headers[i].name, "\r\n :ABC") == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    struct gw_h1_scan scan = {0};
    size_t head_size = 0;
    const struct gw_fault *fault = NULL;
    size_t step = size > 0 ? 1U + data[size - 1] % 16U : 1;
    for (size_t length = 0; length < size && fault == NULL && head_size == 0;) {
        length = length + step < size ? length + step : size;
        fault = gw_h1_find_end(&scan, bytes, length, &head_size);
        atl_assert(head_size <= length);
    }
    if (fault != NULL || head_size == 0)
        return 0;
    struct atl_arena arena = {0};
    struct gw_head head;
    if (gw_h1_parse(bytes, head_size, &arena, &head) == NULL)
        check(&head);
    atl_arena_done(&arena);
    return 0;
}
