/* Small helpers over CMocka: golden files, folders of a test, seeds. Include this instead of cmocka.h. */
#ifndef ATL_TEST_H
#define ATL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pure/buf.h"
#include "pure/error.h"

/* Asserts success and prints the error's text otherwise. */
#define assert_atl_ok(code, err)                                                                             \
    do {                                                                                                     \
        enum atl_code atl_code_ = (code);                                                                    \
        if (atl_code_ != ATL_OK)                                                                             \
            fail_msg("%s: %s %s: %s", #code, atl_code_to_text(atl_code_), (err)->field, (err)->text);        \
    } while (0)

static inline bool atl_test_read(const char *path, struct atl_buf *buf)
{
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return false;
    size_t got = 0;
    do {
        char *end = atl_buf_reserve(buf, 65536);
        got = fread(end, 1, 65536, file);
        buf->length += got;
    } while (got > 0);
    (void)atl_buf_reserve(buf, 0);
    buf->data[buf->length] = '\0';
    (void)fclose(file);
    return true;
}

/* Compares text with a recorded file (relative to the source tree); ATL_REWRITE=1 writes it anew. */
static inline void atl_test_golden(const char *path_in_tree, const char *text)
{
    const char *top = getenv("ATL_SOURCE_DIR");
    char path[8192];
    (void)snprintf(path, sizeof path, "%s/%s", top != NULL ? top : ".", path_in_tree);
    if (getenv("ATL_REWRITE") != NULL) {
        FILE *file = fopen(path, "wbe");
        assert_non_null(file);
        assert_int_equal(fputs(text, file) >= 0, 1);
        assert_int_equal(fclose(file), 0);
        return;
    }
    struct atl_buf recorded = {0};
    if (!atl_test_read(path, &recorded))
        fail_msg("no recorded file %s (ATL_REWRITE=1 makes it)", path);
    assert_string_equal(text, recorded.data);
    atl_buf_done(&recorded);
}

#endif
