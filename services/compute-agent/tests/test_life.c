/* Life cycle, start order, names of domains, sizes. */
#include "atl_test.h"

#include "core/domxml.h"
#include "core/drive.h"
#include "core/life.h"
#include "core/startup.h"

static void commands_mean_what_the_state_allows(void **state)
{
    (void)state;
    /* One letter per command, in their order: d(o) k(already so) r(efuse) u(npause first). */
    static const char *const wanted[CMP_STATES] = {"dkkrrrr", "kdddddk", "uduudkd"};
    for (int at = 0; at < CMP_STATES; at++)
        for (int command = 0; command < CMP_COMMANDS; command++) {
            static const char letters[] = {
                [CMP_DO] = 'd', [CMP_DONE] = 'k', [CMP_REFUSE] = 'r', [CMP_RESUME_FIRST] = 'u'};
            assert_int_equal(letters[cmp_life((enum cmp_state)at, (enum cmp_command)command)],
                             wanted[at][command]);
        }
}

static void sentences_say_what_clients_know(void **state)
{
    (void)state;
    char text[128];
    cmp_life_text(CMP_STOPPED, CMP_RESET, 100, text);
    assert_string_equal(text, "VM 100 not running");
    cmp_life_text(CMP_RUNNING, CMP_START, 100, text);
    assert_string_equal(text, "VM 100 is running already, nothing to do");
}

static void every_state_and_command_has_a_word(void **state)
{
    (void)state;
    for (int i = 0; i < CMP_STATES; i++)
        assert_non_null(cmp_state_to_text((enum cmp_state)i));
    for (int i = 0; i < CMP_COMMANDS; i++)
        assert_non_null(cmp_command_to_text((enum cmp_command)i));
}

static void startup_texts_are_read(void **state)
{
    (void)state;
    struct cmp_startup startup;
    cmp_startup_parse("order=3,up=30,down=60", 100, &startup);
    assert_true(startup.has_order);
    assert_int_equal(startup.order, 3);
    assert_int_equal(startup.up_s, 30);
    assert_int_equal(startup.down_s, 60);
    cmp_startup_parse("7", 100, &startup);
    assert_int_equal(startup.order, 7);
    static const char *const bad[] = {NULL, "", "order=", "order=-1", "order=99999999999", "x=1", "up=1x"};
    for (size_t i = 0; i < ATL_COUNT(bad); i++) {
        cmp_startup_parse(bad[i], 100, &startup);
        assert_false(startup.has_order);
        assert_int_equal(startup.up_s, 0);
    }
}

static void ordered_guests_start_first_and_stop_last(void **state)
{
    (void)state;
    static const struct {
        uint32_t vmid;
        const char *text;
    } guests[] = {{103, NULL}, {102, "order=2"}, {101, "order=1,up=5"}, {100, "order=2"}, {104, NULL}};
    struct cmp_startup list[5];
    for (size_t i = 0; i < 5; i++)
        cmp_startup_parse(guests[i].text, guests[i].vmid, &list[i]);
    cmp_startup_sort(list, 5);
    static const uint32_t order[] = {101, 100, 102, 103, 104};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(list[i].vmid, order[i]);
    assert_true(cmp_startup_together(list, 0));
    assert_false(cmp_startup_together(list, 1)); /* another order, and a delay before it */
    assert_true(cmp_startup_together(list, 2));
    assert_false(cmp_startup_together(list, 3));
    assert_int_equal(cmp_shutdown_group(list, 5), 2); /* those without an order go first */
    assert_int_equal(cmp_shutdown_group(list, 3), 2);
    assert_int_equal(cmp_shutdown_group(list, 1), 1);
    assert_int_equal(cmp_shutdown_group(list, 0), 0);
}

static void domain_names_go_there_and_back(void **state)
{
    (void)state;
    char name[CMP_DOMAIN_NAME_MAX];
    cmp_domain_name(999999999, name);
    assert_string_equal(name, "atoll-999999999");
    assert_int_equal(cmp_domain_vmid(name), 999999999);
    static const char *const others[] = {"",       "atoll-",           "atoll-0100", "atoll-100x",
                                         "vm-100", "atoll-1000000000", "atoll--1"};
    for (size_t i = 0; i < ATL_COUNT(others); i++)
        assert_int_equal(cmp_domain_vmid(others[i]), 0);
}

static void sizes_are_read_and_written_exactly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
        const char *back;
    } rows[] = {{"32G", UINT64_C(32) << 30, "32G"},
                {"1.5G", UINT64_C(1536) << 20, "1536M"},
                {"528K", 528 << 10, "528K"},
                {"1000", 1000, "1000"},
                {"1048576T", UINT64_C(1) << 60, "1048576T"},
                {"0", 0, "0"},
                {"4m", 4 << 20, "4M"}};
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        struct atl_error err = {0};
        uint64_t bytes = 1;
        char text[24];
        assert_atl_ok(cmp_size_parse(rows[i].text, "size", &bytes, &err), &err);
        assert_int_equal(bytes, rows[i].bytes);
        cmp_size_format(bytes, text, sizeof text);
        assert_string_equal(text, rows[i].back);
    }
    static const char *const bad[] = {"", "G", "-1G", "1GB", "1.G.", "12P", " 1G", "9999999T", "1e3", "1G "};
    for (size_t i = 0; i < ATL_COUNT(bad); i++) {
        struct atl_error err = {0};
        uint64_t bytes = 0;
        assert_int_not_equal(cmp_size_parse(bad[i], "size", &bytes, &err), ATL_OK);
        assert_string_equal(err.field, "size");
    }
}

static void drive_names_are_those_of_the_buses(void **state)
{
    (void)state;
    enum cmp_bus bus = CMP_IDE;
    uint32_t index = 99;
    assert_true(cmp_drive_name("virtio15", &bus, &index));
    assert_int_equal(bus, CMP_VIRTIO);
    assert_int_equal(index, 15);
    static const char *const bad[] = {"",       "scsi", "scsihw",  "scsi31",
                                      "scsi1x", "net0", "unused0", "virtiofs0"};
    for (size_t i = 0; i < ATL_COUNT(bad); i++)
        assert_false(cmp_drive_name(bad[i], &bus, &index));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_mean_what_the_state_allows),
        cmocka_unit_test(sentences_say_what_clients_know),
        cmocka_unit_test(every_state_and_command_has_a_word),
        cmocka_unit_test(startup_texts_are_read),
        cmocka_unit_test(ordered_guests_start_first_and_stop_last),
        cmocka_unit_test(domain_names_go_there_and_back),
        cmocka_unit_test(sizes_are_read_and_written_exactly),
        cmocka_unit_test(drive_names_are_those_of_the_buses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
