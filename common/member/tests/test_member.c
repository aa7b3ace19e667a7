/* What the loop makes of what corosync said, and the machine that is alone. */
#include "atl_test.h"

#include <string.h>

#include "member/member_internal.h"

static struct member_report report_of(bool quorate, atl_ns heard_at, uint32_t online)
{
    struct member_report report;
    memset(&report, 0, sizeof report);
    report.heard_at = heard_at;
    report.state.quorate = quorate;
    report.state.changed_at = heard_at;
    report.state.count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        report.state.members[i].id = i + 1;
        report.state.members[i].online = i < online;
    }
    return report;
}

static void silence_is_no_quorum(void **state)
{
    (void)state;
    struct atl_membership now;
    memset(&now, 0, sizeof now);
    struct member_report report = report_of(true, 10 * ATL_SECOND, 3);
    assert_true(member_apply(&report, 10 * ATL_SECOND, &now));
    assert_true(now.connected && now.quorate && now.members[2].online);
    assert_int_equal(now.quorate_at, 10 * ATL_SECOND);
    assert_false(member_apply(&report, 10 * ATL_SECOND + MEMBER_STALE - 1, &now));
    assert_true(member_apply(&report, 10 * ATL_SECOND + MEMBER_STALE, &now));
    assert_false(now.connected || now.quorate || now.members[0].online);
    assert_int_equal(now.changed_at, 10 * ATL_SECOND + MEMBER_STALE);
    assert_int_equal(now.quorate_at, 10 * ATL_SECOND + MEMBER_STALE);
    assert_int_equal(now.count, 3);
    report.heard_at = 13 * ATL_SECOND;
    assert_true(member_apply(&report, 13 * ATL_SECOND, &now));
    assert_true(now.quorate);
    report.heard_at = 0; /* the daemon is gone */
    assert_true(member_apply(&report, 13 * ATL_SECOND + 1, &now));
    assert_false(now.quorate);
}

static void a_change_of_members_keeps_the_time_of_the_quorum(void **state)
{
    (void)state;
    struct atl_membership now;
    memset(&now, 0, sizeof now);
    struct member_report report = report_of(true, ATL_SECOND, 3);
    assert_true(member_apply(&report, ATL_SECOND, &now));
    report = report_of(true, 2 * ATL_SECOND, 2);
    assert_true(member_apply(&report, 2 * ATL_SECOND, &now));
    assert_int_equal(now.changed_at, 2 * ATL_SECOND);
    assert_int_equal(now.quorate_at, ATL_SECOND);
    report = report_of(false, 3 * ATL_SECOND, 1);
    assert_true(member_apply(&report, 3 * ATL_SECOND, &now));
    assert_int_equal(now.quorate_at, 3 * ATL_SECOND);
    report.heard_at = 4 * ATL_SECOND; /* heard again, nothing new */
    assert_false(member_apply(&report, 4 * ATL_SECOND, &now));
}

static void alone_is_quorate(void **state)
{
    (void)state;
    struct atl_loop *loop = atl_loop_new();
    const struct atl_members_options options = {.loop = loop, .node = "pve1"};
    struct atl_members *members = atl_members_open(&options, NULL, NULL);
    const struct atl_membership *now = atl_members_now(members);
    assert_true(now->quorate && now->connected);
    assert_int_equal(now->count, 1);
    assert_true(atl_members_find(now, "pve1")->self);
    assert_null(atl_members_find(now, "pve2"));
    atl_members_close(&members);
    assert_null(members);
    atl_loop_free(loop);
}

static void no_corosync_is_not_connected(void **state)
{
    (void)state;
    struct atl_loop *loop = atl_loop_new();
    const struct atl_members_options options = {.loop = loop, .node = "pve1", .corosync = true};
    struct atl_members *members = atl_members_open(&options, NULL, NULL);
    for (int i = 0; i < 5; i++)
        atl_loop_step(loop, 100 * ATL_MS);
    assert_false(atl_members_now(members)->quorate);
    atl_members_close(&members);
    atl_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_is_no_quorum),
        cmocka_unit_test(a_change_of_members_keeps_the_time_of_the_quorum),
        cmocka_unit_test(alone_is_quorate),
        cmocka_unit_test(no_corosync_is_not_connected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
