/* Parameters that an older version does not know: found by their numbers, named by who knows them. */
#include "atl_test.h"

#include "atoll/test/v1/test.atl.h"
#include "pure/newer.h"

static ProtobufCMessageUnknownField newer_field = {.tag = 900};

static void what_is_newer_is_found_in_any_depth(void **state)
{
    (void)state;
    Atoll__Test__V1__CreateRequest request = ATOLL__TEST__V1__CREATE_REQUEST__INIT;
    Atoll__Test__V1__Config config = ATOLL__TEST__V1__CONFIG__INIT;
    Atoll__Test__V1__DiskSlot slots[] = {ATOLL__TEST__V1__DISK_SLOT__INIT, ATOLL__TEST__V1__DISK_SLOT__INIT};
    Atoll__Test__V1__DiskSlot *scsi[] = {&slots[0], &slots[1]};
    Atoll__Test__V1__Disk disk = ATOLL__TEST__V1__DISK__INIT;
    char path[ATL_NEWER_MAX];
    config.scsi = scsi;
    config.n_scsi = 2;
    request.config = &config;
    slots[1].value = &disk;
    assert_false(atl_newer_find(&request.base, path));
    disk.base.n_unknown_fields = 1;
    disk.base.unknown_fields = &newer_field;
    assert_true(atl_newer_find(&request.base, path));
    assert_string_equal(path, "#3.9.2.900");
    request.base.n_unknown_fields = 1;
    request.base.unknown_fields = &newer_field;
    assert_true(atl_newer_find(&request.base, path));
    assert_string_equal(path, "#900");
}

static void messages_in_messages_end_somewhere(void **state)
{
    (void)state;
    enum { MANY = 20 };
    Atoll__Test__V1__Row rows[MANY];
    Atoll__Test__V1__Row *members[MANY];
    char path[ATL_NEWER_MAX];
    for (size_t i = 0; i < MANY; i++) {
        atoll__test__v1__row__init(&rows[i]);
        members[i] = i + 1 < MANY ? &rows[i + 1] : NULL;
        rows[i].n_members = i + 1 < MANY;
        rows[i].members = &members[i];
    }
    rows[MANY - 1].base.n_unknown_fields = 1;
    rows[MANY - 1].base.unknown_fields = &newer_field;
    assert_false(atl_newer_find(&rows[0].base, path));
    rows[8].base.n_unknown_fields = 1;
    rows[8].base.unknown_fields = &newer_field;
    assert_true(atl_newer_find(&rows[0].base, path));
    assert_string_equal(path, "#9.9.9.9.9.9.9.9.900");
}

static void who_knows_it_names_it(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *name;
    } rows[] = {{"#2", "vmid"},
                {"#3.1", "name"},
                {"#3.9.2.2", "scsi[n].size"},
                {"#3.9.2.6.1", "scsi[n].iops"},
                {"#3.13.1", "agent.enabled"},
                {"#3.22", "Start-Date"},
                {"#3.8", "net[n]"}};
    static const char *const none[] = {"",     "vmid", "#",          "#x",    "#2.",  "#2.1",
                                       "#900", "#3",   "#3.9.2.900", "#3..9", "#3.9x"};
    char name[ATL_NEWER_MAX] = "untouched";
    for (size_t i = 0; i < ATL_COUNT(none); i++)
        assert_false(atl_newer_name(&atl_msg_test_v1_CreateRequest, none[i], name));
    assert_string_equal(name, "untouched");
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        assert_true(atl_newer_name(&atl_msg_test_v1_CreateRequest, rows[i].path, name));
        assert_string_equal(name, rows[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_newer_is_found_in_any_depth),
        cmocka_unit_test(messages_in_messages_end_somewhere),
        cmocka_unit_test(who_knows_it_names_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
