/* Which guests are under high availability. */
#include "atl_test.h"
#include "core/ha_list.h"

static void resources_are_found_with_what_is_wanted(void **state)
{
    static const char text[] = "# notes\nvm: 100\n\tstate stopped\n\tgroup near\n\n"
                               "ct: 101\n\tcomment state ignored\n\nvm: 102\n\tstate ignored\r\n"
                               "vm: 1030\n\tgroupe x\n\tstated x\n";
    static const struct {
        const char *type;
        uint32_t vmid;
        const char *state; /* NULL: it is none */
        const char *group;
    } rows[] = {
        {"vm", 100, "stopped", "near"}, {"ct", 100, NULL, ""},       {"ct", 101, "started", ""},
        {"vm", 102, "ignored", ""},     {"vm", 1030, "started", ""}, {"vm", 103, NULL, ""},
        {"vm", 10, NULL, ""},
    };
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        struct cmp_ha_entry entry;
        bool listed = cmp_ha_listed(text, rows[i].type, rows[i].vmid, &entry);
        if (listed != (rows[i].state != NULL))
            fail_msg("%s:%u is%s listed", rows[i].type, rows[i].vmid, listed ? "" : " not");
        assert_string_equal(entry.state, listed ? rows[i].state : "started");
        assert_string_equal(entry.group, rows[i].group);
        assert_false(cmp_ha_listed(NULL, rows[i].type, rows[i].vmid, &entry));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(resources_are_found_with_what_is_wanted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
