/* What a creation that was cut off has left: what is not its own, and when removing is tried again. */
#include "atl_test.h"

#include "core/left.h"

static void what_was_there_before_is_kept(void **state)
{
    (void)state;
    char volume[] = "local:101/vm-101-disk-0.raw";
    char storage[] = "far:";
    char *keep[] = {volume, storage};
    assert_true(cmp_left_keeps(keep, 2, "local:101/vm-101-disk-0.raw"));
    assert_false(cmp_left_keeps(keep, 2, "local:101/vm-101-disk-1.raw"));
    assert_false(cmp_left_keeps(keep, 2, "local:101/vm-101-disk-0.raw2"));
    assert_false(cmp_left_keeps(keep, 0, "local:101/vm-101-disk-0.raw"));
}

static void of_a_storage_that_could_not_be_read_everything_is_kept(void **state)
{
    (void)state;
    char storage[] = "far:";
    char *keep[] = {storage};
    assert_true(cmp_left_keeps(keep, 1, "far:101/vm-101-disk-0.raw"));
    assert_true(cmp_left_keeps(keep, 1, "far:"));
    assert_false(cmp_left_keeps(keep, 1, "far2:101/vm-101-disk-0.raw"));
    assert_false(cmp_left_keeps(keep, 1, "fa:"));
}

static void the_pauses_grow_and_end(void **state)
{
    (void)state;
    static const unsigned int seconds[] = {0, 10, 20, 40, 80, 160, 320, 600, 600, 600, 0, 0};
    for (unsigned int i = 0; i < ATL_COUNT(seconds); i++)
        assert_true(cmp_left_pause(i) == (atl_ns)seconds[i] * ATL_SECOND);
    assert_true(cmp_left_pause(UINT32_MAX) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_there_before_is_kept),
        cmocka_unit_test(of_a_storage_that_could_not_be_read_everything_is_kept),
        cmocka_unit_test(the_pauses_grow_and_end),
    };
    return cmocka_run_group_tests_name("left", tests, NULL, NULL);
}
