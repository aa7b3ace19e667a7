/* Configuration text: guest files, section files. */
#include "atl_test.h"

#include "atoll/lxc/v1/lxc.atl.h"
#include "atoll/qemu/v1/qemu.atl.h"
#include "atoll/test/v1/test.atl.h"
#include "pure/codec.h"

struct fixture {
    struct atl_arena arena;
    struct atl_errors errors;
    struct atl_buf out;
    struct atl_section *sections;
    size_t count;
};

static int begin(void **state)
{
    *state = atl_new0(struct fixture);
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;
    atl_arena_done(&f->arena);
    atl_buf_done(&f->out);
    free(f);
    return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

static const char *guest(struct fixture *f, const struct atl_message *table, const char *text)
{
    memset(&f->errors, 0, sizeof f->errors);
    assert_int_equal(
        atl_guest_decode(table, text, strlen(text), &f->arena, &f->sections, &f->count, &f->errors), ATL_OK);
    atl_buf_reset(&f->out);
    atl_guest_encode(table, f->sections, f->count, &f->out);
    return f->out.data;
}

static const char *store(struct fixture *f, const char *text)
{
    memset(&f->errors, 0, sizeof f->errors);
    assert_int_equal(atl_sections_decode(&atl_msg_test_v1_Store, "type", "storage", text, strlen(text),
                                         &f->arena, &f->sections, &f->count, &f->errors),
                     ATL_OK);
    atl_buf_reset(&f->out);
    atl_sections_encode(&atl_msg_test_v1_Store, "type", "storage", f->sections, f->count, &f->out);
    return f->out.data;
}

static void check_scenario(struct fixture *f, const struct atl_message *table, const char *name)
{
    struct atl_buf text = {0};
    char path[512];
    const char *top = getenv("ATL_SOURCE_DIR");
    (void)snprintf(path, sizeof path, "%s/tests/scenario/codec/%s.conf", top != NULL ? top : ".", name);
    if (!atl_test_read(path, &text) || text.data == NULL) {
        fail_msg("cannot read %s", path);
        return;
    }
    char *once = atl_strdup(guest(f, table, text.data));
    (void)snprintf(path, sizeof path, "tests/scenario/codec/%s.expected", name);
    atl_test_golden(path, once);
    assert_string_equal(guest(f, table, once), once);
    free(once);
    atl_buf_done(&text);
}

static void a_virtual_machine_survives_and_is_canonical(void **state)
{
    check_scenario(*state, &atl_msg_qemu_v1_Config, "qemu");
}

static void a_container_survives_with_its_raw_lines(void **state)
{
    check_scenario(*state, &atl_msg_lxc_v1_Config, "lxc");
}

static void sections_comments_and_unknown_lines_are_kept(void **state)
{
    struct fixture *f = *state;
    const char *text = "#first: line%0\n"
                       "memory: 512\n"
                       "description: old: way\n"
                       "description: twice\n"
                       "#second %C3%A4%3A\n"
                       "future: thing, with: more\n"
                       "net0:   virtio=BC:24:11:00:00:01,bridge=vmbr0\n"
                       "lxc.cgroup2.devices.allow: c 10:200 rwm\n"
                       "lxc.mount.entry = /a b none bind\n"
                       "not a line of ours\n"
                       "cores: many\r\n"
                       "\n"
                       "[PENDING]\n"
                       "memory: 1024\n"
                       "delete: net0\n"
                       "\n"
                       "[special:cloudinit]\n"
                       "[snap1]\n"
                       "#before the upgrade\n"
                       "snaptime: 1\n";
    const char *want = "#first%3A line%250\n"
                       "#old%3A way\n"
                       "#twice\n"
                       "#second %C3%A4%3A\n"
                       "memory: 512\n"
                       "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n"
                       "future: thing, with: more\n"
                       "lxc.cgroup2.devices.allow: c 10:200 rwm\n"
                       "lxc.mount.entry: /a b none bind\n"
                       "not a line of ours\n"
                       "cores: many\n"
                       "\n"
                       "[PENDING]\n"
                       "memory: 1024\n"
                       "delete: net0\n"
                       "\n"
                       "[special:cloudinit]\n"
                       "\n"
                       "[snap1]\n"
                       "#before the upgrade\n"
                       "snaptime: 1\n";
    assert_string_equal(guest(f, &atl_msg_test_v1_Config, text), want);
    assert_int_equal(f->count, 4);
    assert_string_equal(f->sections[0].name, "");
    assert_string_equal(f->sections[3].name, "snap1");
    assert_int_equal(f->sections[0].unknown_count, 5);
    assert_string_equal(f->sections[0].unknown[1].key, "lxc.cgroup2.devices.allow");
    const Atoll__Test__V1__Config *config = (const Atoll__Test__V1__Config *)f->sections[0].message;
    assert_string_equal(config->description, "first: line%0\nold: way\ntwice\nsecond \xc3\xa4:");
    assert_int_equal(f->errors.count, 1);
    assert_string_equal(f->errors.items[0].field, "cores");
    assert_string_equal(guest(f, &atl_msg_test_v1_Config, want), want);
}

static void an_empty_file_is_one_empty_section(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(guest(f, &atl_msg_test_v1_Config, ""), "");
    assert_int_equal(f->count, 1);
    assert_non_null(f->sections[0].message);
    assert_string_equal(guest(f, &atl_msg_test_v1_Config, "#\n"), "#\n");
    const Atoll__Test__V1__Config *config = (const Atoll__Test__V1__Config *)f->sections[0].message;
    assert_string_equal(config->description, "");
}

static void a_line_break_in_a_value_makes_no_line(void **state)
{
    struct fixture *f = *state;
    Atoll__Test__V1__Config config = ATOLL__TEST__V1__CONFIG__INIT;
    char name[] = "a\nhookscript: x\r";
    config.name = name;
    struct atl_section section = {.name = "", .message = &config.base};
    atl_guest_encode(&atl_msg_test_v1_Config, &section, 1, &f->out);
    assert_string_equal(f->out.data, "name: a%0Ahookscript: x%0D\n");
}

static void a_description_keeps_its_bytes(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {"",  " ",   "a ", "\n", "a\n", "\na\n\n b%20:\t", "\xc3\xa4#\r\x01",
                                        "%", "%zz%"};
    for (size_t i = 0; i < ATL_COUNT(texts); i++) {
        Atoll__Test__V1__Config config = ATOLL__TEST__V1__CONFIG__INIT;
        config.description = (char *)(uintptr_t)texts[i];
        struct atl_section section = {.name = "", .message = &config.base};
        atl_buf_reset(&f->out);
        atl_guest_encode(&atl_msg_test_v1_Config, &section, 1, &f->out);
        char *text = atl_strdup(f->out.data);
        (void)guest(f, &atl_msg_test_v1_Config, text);
        assert_string_equal(((Atoll__Test__V1__Config *)f->sections[0].message)->description, texts[i]);
        free(text);
    }
}

static void files_too_long_or_with_a_nul_are_refused(void **state)
{
    struct fixture *f = *state;
    size_t size = (1 << 20) + 1;
    char *text = calloc(1, size);
    assert_int_equal(
        atl_guest_decode(&atl_msg_test_v1_Config, text, size, &f->arena, &f->sections, &f->count, NULL),
        ATL_E_LIMIT);
    assert_int_equal(
        atl_guest_decode(&atl_msg_test_v1_Config, text, 1, &f->arena, &f->sections, &f->count, NULL),
        ATL_E_INVALID);
    assert_int_equal(atl_sections_decode(&atl_msg_test_v1_Store, "type", "storage", text, 1, &f->arena,
                                         &f->sections, &f->count, &f->errors),
                     ATL_E_INVALID);
    free(text);
}

static void section_files_keep_everything(void **state)
{
    struct fixture *f = *state;
    const char *text = "# all of it\n"
                       "\tlost: 1\n"
                       "dir: local\n"
                       "\tpath /var/lib/atoll/local\n"
                       "    content iso,vztmpl;images\n"
                       "\tdisable\n"
                       "\tfuture with  blanks\n"
                       "what is this\n"
                       "\n\n"
                       "nfs: far-away\n"
                       "\tmaxfiles three\n"
                       "\tnet virtio,tag=5\n"
                       "\tstorage other\n";
    const char *want = "dir: local\n"
                       "\tpath /var/lib/atoll/local\n"
                       "\tcontent iso,vztmpl,images\n"
                       "\tdisable 1\n"
                       "# all of it\n"
                       "# lost: 1\n"
                       "\tfuture with  blanks\n"
                       "what is this\n"
                       "\n"
                       "nfs: far-away\n"
                       "\tnet virtio,tag=5\n"
                       "\tmaxfiles three\n"
                       "\tstorage other\n";
    assert_string_equal(store(f, text), want);
    assert_int_equal(f->count, 2);
    const Atoll__Test__V1__Store *local = (const Atoll__Test__V1__Store *)f->sections[0].message;
    assert_string_equal(f->sections[0].name, "local");
    assert_string_equal(local->storage, "local");
    assert_string_equal(local->type, "dir");
    assert_int_equal(local->n_content, 3);
    assert_int_equal(local->disable, 1);
    assert_string_equal(store(f, want), want);
    assert_string_equal(store(f, ""), "");
    assert_int_equal(f->count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_virtual_machine_survives_and_is_canonical),  CASE(a_container_survives_with_its_raw_lines),
        CASE(sections_comments_and_unknown_lines_are_kept), CASE(an_empty_file_is_one_empty_section),
        CASE(a_line_break_in_a_value_makes_no_line),        CASE(a_description_keeps_its_bytes),
        CASE(files_too_long_or_with_a_nul_are_refused),     CASE(section_files_keep_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
