/* Which member of etcd gives back space, and when. */
#include "atl_test.h"

#include "core/space.h"

#define MIB ((uint64_t)1 << 20)

static struct cfg_space_member member(bool leads, uint64_t bytes, uint64_t used)
{
    return (struct cfg_space_member){
        .answered = true, .leads = leads, .bytes = bytes * MIB, .used = used * MIB};
}

static void followers_come_before_the_leader(void **state)
{
    (void)state;
    struct cfg_space_member members[] = {member(true, 100, 10), member(false, 100, 10),
                                         member(false, 100, 10)};
    assert_int_equal(cfg_space_choose(members, 3, false), 1);
    members[1].bytes = members[1].used;
    assert_int_equal(cfg_space_choose(members, 3, false), 2);
    members[2].bytes = members[2].used;
    assert_int_equal(cfg_space_choose(members, 3, false), 0);
    members[0].bytes = members[0].used;
    assert_int_equal(cfg_space_choose(members, 3, false), -1);
}

static void nothing_is_done_unless_all_are_well(void **state)
{
    (void)state;
    struct cfg_space_member members[] = {member(true, 100, 10), member(false, 100, 10),
                                         member(false, 100, 10)};
    members[2].answered = false;
    assert_int_equal(cfg_space_choose(members, 3, false), -1);
    members[2] = member(true, 100, 10); /* two think they lead: an election is under way */
    assert_int_equal(cfg_space_choose(members, 3, false), -1);
    members[0].leads = members[2].leads = false;
    assert_int_equal(cfg_space_choose(members, 3, false), -1);
    members[0] = member(true, 10, 100); /* nonsense */
    assert_int_equal(cfg_space_choose(members, 3, false), -1);
    assert_int_equal(cfg_space_choose(members, 0, false), -1);
}

static void only_what_is_worth_it_is_done(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        uint64_t used;
        int calm;
        int scarce;
    } rows[] = {{100, 50, -1, 0}, {100, 49, 0, 0},   {15, 1, -1, 0},  {16, 7, 0, 0},
                {16, 8, -1, 0},   {100, 91, -1, -1}, {100, 89, -1, 0}};
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        struct cfg_space_member one = member(true, rows[i].bytes, rows[i].used);
        assert_int_equal(cfg_space_choose(&one, 1, false), rows[i].calm);
        assert_int_equal(cfg_space_choose(&one, 1, true), rows[i].scarce);
    }
}

static void what_was_compacted_is_given_back_when_space_is_scarce(void **state)
{
    (void)state;
    struct cfg_space_member members[] = {member(true, 100, 100), member(false, 100, 100)};
    members[0].compacted = members[1].compacted = true; /* etcd has not counted yet what that freed */
    assert_int_equal(cfg_space_choose(members, 2, false), -1);
    assert_int_equal(cfg_space_choose(members, 2, true), 1);
    members[1].compacted = false;
    assert_int_equal(cfg_space_choose(members, 2, true), 0);
    members[0].compacted = false;
    assert_int_equal(cfg_space_choose(members, 2, true), -1);
}

static void there_is_room_again_below_eighty_percent(void **state)
{
    (void)state;
    struct cfg_space_member members[] = {member(true, 79, 1), member(false, 79, 1)};
    assert_true(cfg_space_is_ample(members, 2, 100 * MIB));
    members[1].bytes = 80 * MIB;
    assert_false(cfg_space_is_ample(members, 2, 100 * MIB));
    members[1] = member(false, 1, 1);
    members[1].answered = false;
    assert_false(cfg_space_is_ample(members, 2, 100 * MIB));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(followers_come_before_the_leader),
        cmocka_unit_test(nothing_is_done_unless_all_are_well),
        cmocka_unit_test(only_what_is_worth_it_is_done),
        cmocka_unit_test(what_was_compacted_is_given_back_when_space_is_scarce),
        cmocka_unit_test(there_is_room_again_below_eighty_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
