/* Where the guests of a node go that is emptied. */
#include "atl_test.h"

#include "core/drain.h"

static const uint64_t gib = 1 << 30;

static const char *target_of(const struct cmp_drain_guest *guests, size_t count, uint32_t vmid)
{
    for (size_t i = 0; i < count; i++)
        if (guests[i].vmid == vmid)
            return guests[i].target != NULL ? guests[i].target : "stays";
    return "?";
}

static void the_largest_goes_first_to_where_most_is_free(void **state)
{
    (void)state;
    struct cmp_drain_guest guests[] = {
        {100, 2 * gib, NULL}, {101, 8 * gib, NULL}, {102, 4 * gib, NULL}, {103, 0, NULL}};
    struct cmp_drain_node nodes[] = {{"n2", 10 * gib}, {"n3", 7 * gib}};
    cmp_drain_place(guests, 4, nodes, 2);
    assert_string_equal(target_of(guests, 4, 101), "n2"); /* 2 are left */
    assert_string_equal(target_of(guests, 4, 102), "n3"); /* 3 are left */
    assert_string_equal(target_of(guests, 4, 100), "n3"); /* 1 */
    assert_string_equal(target_of(guests, 4, 103), "n2"); /* it does not run */
    assert_true(nodes[0].free_bytes == 2 * gib);
    assert_true(nodes[1].free_bytes == 1 * gib);
}

static void what_fits_nowhere_stays_and_smaller_ones_go_all_the_same(void **state)
{
    (void)state;
    struct cmp_drain_guest guests[] = {{100, 32 * gib, NULL}, {101, 1 * gib, NULL}, {102, 15 * gib, NULL}};
    struct cmp_drain_node nodes[] = {{"n2", 16 * gib}};
    cmp_drain_place(guests, 3, nodes, 1);
    assert_string_equal(target_of(guests, 3, 100), "stays");
    assert_string_equal(target_of(guests, 3, 102), "n2"); /* 16 less a sixteenth: just */
    assert_string_equal(target_of(guests, 3, 101), "stays");
}

static void equal_nodes_go_by_name_and_equal_guests_by_id(void **state)
{
    (void)state;
    struct cmp_drain_guest guests[] = {{102, gib, NULL}, {101, gib, NULL}, {100, gib, NULL}};
    struct cmp_drain_node nodes[] = {{"n3", 8 * gib}, {"n2", 8 * gib}};
    cmp_drain_place(guests, 3, nodes, 2);
    assert_int_equal(guests[0].vmid, 100);
    assert_string_equal(guests[0].target, "n2");
    assert_string_equal(guests[1].target, "n3");
    assert_string_equal(guests[2].target, "n2");
}

static void without_another_node_all_stays(void **state)
{
    (void)state;
    struct cmp_drain_guest guests[] = {{100, gib, NULL}, {101, 0, NULL}};
    cmp_drain_place(guests, 2, NULL, 0);
    assert_null(guests[0].target);
    assert_null(guests[1].target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_goes_first_to_where_most_is_free),
        cmocka_unit_test(what_fits_nowhere_stays_and_smaller_ones_go_all_the_same),
        cmocka_unit_test(equal_nodes_go_by_name_and_equal_guests_by_id),
        cmocka_unit_test(without_another_node_all_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
