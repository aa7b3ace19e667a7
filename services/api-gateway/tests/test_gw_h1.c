/* HTTP/1.1 heads: what is read, what is refused, and that a head may arrive in any pieces. */
#include "atl_test.h"

#include "core/credential.h"
#include "core/h1.h"

/* Reads a whole head; the fault's status, or 0. */
static int read_head(const char *text, struct atl_arena *arena, struct gw_head *head)
{
    struct gw_h1_scan scan = {0};
    size_t size = 0;
    const struct gw_fault *fault = gw_h1_find_end(&scan, text, strlen(text), &size);
    if (fault != NULL)
        return fault->status;
    if (size == 0)
        return -1;
    fault = gw_h1_parse(text, size, arena, head);
    return fault != NULL ? fault->status : 0;
}

static void a_request_is_read_into_its_parts(void **state)
{
    (void)state;
    struct atl_arena arena = {0};
    struct gw_head head = {0};
    assert_int_equal(
        read_head("POST /api2/json/access/ticket?a=b%20c&_dc=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n"
                  "X-Two:   words here \t\r\nEmpty:\r\n\r\n",
                  &arena, &head),
        0);
    assert_string_equal(head.method, "POST");
    assert_string_equal(head.path, "/api2/json/access/ticket");
    assert_string_equal(head.query, "a=b%20c&_dc=1");
    assert_int_equal(head.content_length, 12);
    assert_true(head.keep_alive);
    assert_string_equal(gw_head_find(&head, "x-two"), "words here");
    assert_string_equal(gw_head_find(&head, "empty"), "");
    assert_null(gw_head_find(&head, "absent"));
    atl_arena_done(&arena);
}

static void every_refusal_has_its_status(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.0\r\n\r\n", 0},
        {"GET https://h:8006/x HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\n\r\n", 400},                       /* no Host */
        {"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400}, /* two of them */
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
        {"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505},
        {"GET / FTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /\r\nHost: x\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400},
        {" GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET http://onlyhost HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: x\r\n\r\n", 400}, /* a bare LF */
        {"GET / HTTP/1.1\r\nHost: x\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400}, /* a bare CR */
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},           /* blank before the colon */
        {"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\x02\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x10\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999999999\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
        {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 501},
        {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", 0},
        {"PUT / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", 417},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct atl_arena arena = {0};
        struct gw_head head = {0};
        int status = read_head(cases[i].text, &arena, &head);
        if (status != cases[i].status)
            fail_msg("case %zu: status %d instead of %d for\n%s", i, status, cases[i].status, cases[i].text);
        atl_arena_done(&arena);
    }
}

static void a_nul_byte_is_refused(void **state)
{
    (void)state;
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n";
    struct atl_arena arena = {0};
    struct gw_h1_scan scan = {0};
    struct gw_head head = {0};
    size_t size = 0;
    assert_null(gw_h1_find_end(&scan, text, sizeof text - 1, &size));
    assert_int_equal(size, sizeof text - 1);
    assert_int_equal(gw_h1_parse(text, size, &arena, &head)->status, 400);
    atl_arena_done(&arena);
}

static void lines_and_bytes_of_a_head_are_bounded(void **state)
{
    (void)state;
    for (int lines = 63; lines <= 65; lines++) {
        struct atl_arena arena = {0};
        struct atl_buf text = {0};
        struct gw_head head = {0};
        atl_buf_text(&text, "GET / HTTP/1.1\r\nHost: x\r\n");
        for (int i = 1; i < lines; i++)
            atl_buf_printf(&text, "h%d: v\r\n", i);
        atl_buf_text(&text, "\r\n");
        assert_int_equal(read_head(text.data, &arena, &head), lines <= 64 ? 0 : 431);
        atl_buf_done(&text);
        atl_arena_done(&arena);
    }
    for (size_t size = 8191; size <= 8193; size++) {
        struct atl_arena arena = {0};
        struct atl_buf text = {0};
        struct gw_head head = {0};
        atl_buf_text(&text, "GET / HTTP/1.1\r\nHost: x\r\nA: ");
        while (text.length < size - 4)
            atl_buf_char(&text, 'a');
        atl_buf_text(&text, "\r\n\r\n");
        assert_int_equal(text.length, size);
        assert_int_equal(read_head(text.data, &arena, &head), size <= 8192 ? 0 : 431);
        atl_buf_done(&text);
        atl_arena_done(&arena);
    }
}

static void a_head_may_come_byte_by_byte(void **state)
{
    (void)state;
    static const char text[] = "GET /x HTTP/1.1\r\nHost: y\r\n\r\nGET /next";
    struct gw_h1_scan scan = {0};
    size_t size = 0;
    size_t length = 0;
    while (size == 0) {
        length++;
        assert_true(length < sizeof text);
        assert_null(gw_h1_find_end(&scan, text, length, &size));
    }
    assert_int_equal(size, 28);
    assert_int_equal(length, 28);
}

static void connection_headers_decide_about_the_next_request(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct atl_arena arena = {0};
        struct gw_head head = {0};
        assert_int_equal(read_head(cases[i].text, &arena, &head), 0);
        assert_int_equal(head.keep_alive, cases[i].keep);
        atl_arena_done(&arena);
    }
}

static void a_reason_is_one_bounded_line(void **state)
{
    (void)state;
    struct atl_buf out = {0};
    gw_h1_reason(&out, "two\r\nlines: injected\n\n");
    assert_string_equal(out.data, "two  lines: injected");
    atl_buf_reset(&out);
    char many[2000];
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    gw_h1_reason(&out, many);
    assert_in_range(out.length, 1, 512);
    atl_buf_reset(&out);
    gw_h1_reason(&out, "\n");
    assert_int_equal(out.length, 0);
    atl_buf_done(&out);
}

static void lists_and_media_types_are_read_without_case(void **state)
{
    (void)state;
    assert_true(gw_list_has("gzip", "gzip"));
    assert_true(gw_list_has("deflate, GZip;q=0.5, br", "gzip"));
    assert_false(gw_list_has("deflate, gzip;q=0, br", "gzip"));
    assert_false(gw_list_has("gzip;q=0.000", "gzip"));
    assert_true(gw_list_has("gzip; q=0.001", "gzip"));
    assert_false(gw_list_has("xgzip", "gzip"));
    assert_false(gw_list_has(NULL, "gzip"));
    assert_false(gw_list_has("", "gzip"));
    assert_true(gw_media_is("Application/JSON; charset=utf-8", "application/json"));
    assert_false(gw_media_is("application/jsonp", "application/json"));
    assert_false(gw_media_is(NULL, "application/json"));
}

static void credentials_are_found_where_clients_put_them(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *value;
        int kind;
        const char *found;
    } cases[] = {
        {"cookie", "PVEAuthCookie=PVE:root@pam:65A::abc", GW_TICKET, "PVE:root@pam:65A::abc"},
        {"cookie", "PVEAuthCookie=PVE%3Aroot@pam%3A65A%3A%3Aab%2B%3D", GW_TICKET, "PVE:root@pam:65A::ab+="},
        {"cookie", "a=b; PVEAuthCookie=t; path=/; secure;", GW_TICKET, "t"},
        {"cookie", "XPVEAuthCookie=t", GW_NO_CREDENTIAL, NULL},
        {"cookie", "PVEAuthCookie=", GW_NO_CREDENTIAL, NULL},
        {"cookie", "PVEAuthCookie=%zz", GW_NO_CREDENTIAL, NULL},
        {"cookie", "PVEAuthCookie=a%00b", GW_NO_CREDENTIAL, NULL},
        {"cookie", "PVEAuthCookie=a%0ab", GW_NO_CREDENTIAL, NULL},
        {"authorization", "PVEAuthCookie=t+t", GW_TICKET, "t+t"},
        {"authorization", "PVEAPIToken=u@pve!n=secret", GW_TOKEN, "u@pve!n=secret"},
        {"authorization", "PVEAPIToken=", GW_NO_CREDENTIAL, NULL},
        {"authorization", "Basic abc", GW_NO_CREDENTIAL, NULL},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct atl_arena arena = {0};
        struct gw_header header = {.name = cases[i].name, .value = cases[i].value};
        struct gw_head head = {.headers = &header, .header_count = 1};
        struct gw_credential credential;
        gw_credential_find(&head, &arena, &credential);
        assert_int_equal(credential.kind, cases[i].kind);
        if (cases[i].found == NULL)
            assert_null(credential.value);
        else
            assert_string_equal(credential.value, cases[i].found);
        atl_arena_done(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_read_into_its_parts),
        cmocka_unit_test(every_refusal_has_its_status),
        cmocka_unit_test(a_nul_byte_is_refused),
        cmocka_unit_test(lines_and_bytes_of_a_head_are_bounded),
        cmocka_unit_test(a_head_may_come_byte_by_byte),
        cmocka_unit_test(connection_headers_decide_about_the_next_request),
        cmocka_unit_test(a_reason_is_one_bounded_line),
        cmocka_unit_test(lists_and_media_types_are_read_without_case),
        cmocka_unit_test(credentials_are_found_where_clients_put_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
