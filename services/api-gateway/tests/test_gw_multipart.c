/* Multipart bodies in whole, and cut at every place; what is broken is refused. */
#include "atl_test.h"

#include "core/multipart.h"

/* Feeds text in pieces of `step` bytes and writes down what comes out. */
static void trace(const char *type, const char *text, size_t length, size_t step, struct atl_buf *out)
{
    struct gw_multipart reader;
    const struct gw_fault *fault = gw_multipart_init(&reader, type);
    if (fault != NULL) {
        atl_buf_printf(out, "fault %d\n", fault->status);
        return;
    }
    bool in_data = false;
    for (size_t at = 0; at < length;) {
        size_t piece = length - at < step ? length - at : step;
        size_t used = 0;
        struct gw_part part = gw_multipart_next(&reader, text + at, piece, &used);
        assert_true(used <= piece);
        at += used;
        if (in_data && part.kind != GW_PART_DATA && part.kind != GW_PART_MORE) {
            atl_buf_text(out, ">\n");
            in_data = false;
        }
        switch (part.kind) {
        case GW_PART_FIELD:
            assert_int_equal(strlen(part.value), part.size);
            atl_buf_printf(out, "%s=%s\n", part.name, part.value);
            break;
        case GW_PART_FILE:
            atl_buf_printf(out, "file %s %s\n", part.name, part.filename);
            break;
        case GW_PART_DATA:
            atl_buf_text(out, in_data ? "" : "<");
            atl_buf_add(out, part.data, part.size);
            in_data = true;
            break;
        case GW_PART_FILE_END:
            atl_buf_text(out, "file ends\n");
            break;
        case GW_PART_END:
            atl_buf_text(out, "end\n");
            break;
        case GW_PART_FAULT:
            atl_buf_printf(out, "fault %d\n", part.fault->status);
            return;
        case GW_PART_MORE:
            break;
        }
    }
}

static const char form[] = "multipart/form-data; boundary=XYZ";

static void expect(const char *type, const char *text, const char *wanted)
{
    for (size_t step = 1; step <= strlen(text); step++) {
        struct atl_buf out = {0};
        trace(type, text, strlen(text), step, &out);
        if (strcmp(out.data != NULL ? out.data : "", wanted) != 0)
            fail_msg("in pieces of %zu:\n%s\ninstead of\n%s", step, out.data, wanted);
        atl_buf_done(&out);
    }
}

static void fields_and_the_file_come_out_however_the_bytes_are_cut(void **state)
{
    (void)state;
    expect(form,
           "--XYZ\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n"
           "--XYZ\r\ncontent-disposition: form-data; name=\"filename\"; filename=\"a b.iso\"\r\n"
           "Content-Type: application/octet-stream\r\n\r\n"
           "one\r\ntwo\r\n--XY\r\n\r\r\n--three\r\n"
           "--XYZ\r\nContent-Disposition: form-data; name=checksum\r\n\r\n\r\n"
           "--XYZ--\r\nepilogue",
           "content=iso\n"
           "file filename a b.iso\n<one\r\ntwo\r\n--XY\r\n\r\r\n--three>\nfile ends\n"
           "checksum=\nend\n");
}

static void an_empty_file_is_a_file(void **state)
{
    (void)state;
    expect(form, "--XYZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n\r\n--XYZ--",
           "file f x\nfile ends\nend\n");
}

static void quoted_names_and_boundaries_are_unquoted(void **state)
{
    (void)state;
    expect("multipart/form-data; charset=x; boundary=\"a b\"",
           "--a b\r\nContent-Disposition: form-data; name=\"n\\\"q\\\\\"\r\n\r\nv\r\n--a b--",
           "n\"q\\=v\nend\n");
    expect(form,
           "--XYZ\r\nContent-Disposition: form-data; xname=\"no\"; name=\"a;name=b\"\r\n\r\nv\r\n--XYZ--",
           "a;name=b=v\nend\n");
}

static void what_is_broken_is_refused(void **state)
{
    (void)state;
    static const char *const types[] = {
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"open",
        "m/f; boundary=0123456789012345678901234567890123456789012345678901234567890123456789x",
        "multipart/form-data; xboundary=y",
    };
    for (size_t i = 0; i < ATL_COUNT(types); i++)
        expect(types[i], "x", "fault 400\n");
    static const char *const bodies[] = {
        "garbage",
        "-",
        "--XYZgarbage",
        "--XYZ-garbage",
        "--XYZ\rx",
        "--XYZ\r\n\r\nno name\r\n--XYZ--",
        "--XYZ\r\nContent-Disposition: form-data\r\n\r\nv\r\n--XYZ--",
        "--XYZ\r\nContent-Disposition: form-data; name=\"open\r\n\r\nv\r\n--XYZ--",
        "--XYZ\r\nContent-Disposition: form-data; name=f; filename=\"\"\r\n\r\nv\r\n--XYZ--",
    };
    for (size_t i = 0; i < ATL_COUNT(bodies); i++)
        expect(form, bodies[i], strcmp(bodies[i], "-") == 0 ? "" : "fault 400\n");
    expect(form,
           "--XYZ\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\n1\r\n"
           "--XYZ\r\nContent-Disposition: form-data; name=f; filename=b\r\n\r\n2\r\n--XYZ--",
           "file f a\n<1>\nfile ends\nfault 400\n");
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    struct atl_buf text = {0};
    struct atl_buf out = {0};
    atl_buf_text(&text, "--XYZ\r\nContent-Disposition: form-data; name=a\r\n\r\n");
    for (int i = 0; i < GW_FIELD_MAX + 1; i++)
        atl_buf_char(&text, 'x');
    trace(form, text.data, text.length, 1000, &out);
    assert_string_equal(out.data, "fault 400\n");
    atl_buf_reset(&text);
    atl_buf_reset(&out);
    atl_buf_text(&text, "--XYZ\r\nX: ");
    for (int i = 0; i < GW_PART_HEAD_MAX; i++)
        atl_buf_char(&text, 'x');
    trace(form, text.data, text.length, 1000, &out);
    assert_string_equal(out.data, "fault 400\n");
    atl_buf_reset(&text);
    atl_buf_reset(&out);
    for (int i = 0; i < GW_PARTS_MAX + 1; i++)
        atl_buf_text(&text, "--XYZ\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n");
    trace(form, text.data, text.length, 1000, &out);
    assert_string_equal(out.data + out.length - 10, "fault 400\n");
    atl_buf_done(&text);
    atl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_and_the_file_come_out_however_the_bytes_are_cut),
        cmocka_unit_test(an_empty_file_is_a_file),
        cmocka_unit_test(quoted_names_and_boundaries_are_unquoted),
        cmocka_unit_test(what_is_broken_is_refused),
        cmocka_unit_test(sizes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
