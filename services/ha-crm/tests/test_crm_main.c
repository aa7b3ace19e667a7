/* The main line: who manages, resources run, a node is lost, guests run again. */
#include "world.h"

static void alone_it_becomes_the_manager(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    world.view.manager = NULL;
    when_round(&world);
    assert_non_null(world.view.manager);
    assert_string_equal(world.view.manager->node, "pve1");
    when_round(&world);
    assert_string_equal(world.plan->state, "master");
    world_free(&world);
}

static void a_manager_that_renews_is_left_alone(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    world.view.manager->incarnation = 5;
    world.view.has_manager_unchanged_ms = 1;
    world.view.manager_unchanged_ms = 1999;
    (void)given(&world, "vm:100", "pve1", "started");
    when_round(&world);
    assert_string_equal(world.plan->state, "slave");
    assert_int_equal(world.plan->n_txn, 0);
    when_time_passes(&world, 1);
    when_round(&world);
    assert_int_equal(world.view.manager->incarnation, 77);
    assert_int_equal(world.view.manager->term, 2);
    world_free(&world);
}

static void without_quorum_it_only_renews(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    world.view.quorate = 0;
    (void)given(&world, "vm:100", "pve1", "started");
    when_round(&world);
    assert_int_equal(world.plan->n_txn, 1);
    assert_null(guest(&world, "vm:100")->service);
    world.view.manager->incarnation = 5;
    when_time_passes(&world, 60000);
    when_round(&world);
    assert_string_equal(world.plan->state, "wait_for_quorum");
    assert_int_equal(world.plan->n_txn, 0);
    world_free(&world);
}

static void ending_in_order_it_hands_over(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    world.view.has_ending = world.view.ending = 1;
    when_round(&world);
    assert_null(world.view.manager);
    when_round(&world);
    assert_int_equal(world.plan->n_txn, 0);
    world_free(&world);
}

static void a_resource_is_started_and_stopped(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve2", "started");
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    then_on(&world, "vm:100", "pve2");
    guest(&world, "vm:100")->resource->state = text(&world, "stopped");
    when_round(&world);
    then_state(&world, "vm:100", "request_stop");
    when_settled(&world);
    then_state(&world, "vm:100", "stopped");
    world_free(&world);
}

static void a_lost_node_is_fenced_and_its_guests_recovered_at_once(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    (void)given(&world, "ct:101", "pve3", "started");
    when_settled(&world);
    when_dies(&world, "pve3");
    when_time_passes(&world, 6999);
    when_round(&world);
    then_on(&world, "vm:100", "pve3");
    then_node_is(&world, "pve3", "unknown");
    when_time_passes(&world, 1);
    when_round(&world);
    then_said(&world, "fence");
    then_node_is(&world, "pve3", "fence");
    assert_true(node(&world, "pve3")->lock->fenced);
    then_state(&world, "vm:100", "request_start");
    then_state(&world, "ct:101", "request_start");
    then_on(&world, "vm:100", "pve1");
    then_on(&world, "ct:101", "pve2");
    assert_true(world.plan->wake_ms < 10);
    when_round(&world);
    assert_null(node(&world, "pve3")->lock);
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    then_node_is(&world, "pve3", "unknown");
    when_boots(&world, "pve3");
    when_settled(&world);
    then_node_is(&world, "pve3", "online");
    world_free(&world);
}

static void a_node_that_promised_longer_is_waited_for_longer(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    when_settled(&world);
    node(&world, "pve3")->lock->feed_horizon_ms = 15000;
    node(&world, "pve3")->lock->watchdog_ms = 12000;
    node(&world, "pve3")->lock->margin_ms = 3000;
    when_dies(&world, "pve3");
    when_time_passes(&world, 41999);
    when_round(&world);
    then_on(&world, "vm:100", "pve3");
    when_time_passes(&world, 1);
    when_round(&world);
    then_on(&world, "vm:100", "pve1");
    world_free(&world);
}

static void a_node_that_renews_is_not_fenced_though_corosync_misses_it(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    when_settled(&world);
    node(&world, "pve3")->member = 0;
    for (int i = 0; i < 60; i++) {
        when_time_passes(&world, 500);
        node(&world, "pve3")->unchanged_ms = 0;
        when_round(&world);
        then_on(&world, "vm:100", "pve3");
    }
    then_node_is(&world, "pve3", "unknown");
    world_free(&world);
}

static void a_member_that_does_not_renew_is_fenced(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    when_settled(&world);
    node(&world, "pve3")->unchanged_ms = 7000;
    when_round(&world);
    then_on(&world, "vm:100", "pve1");
    world_free(&world);
}

static void many_guests_need_several_transactions(void **state)
{
    (void)state;
    struct world world = given_cluster(4);
    for (int i = 0; i < 300; i++)
        (void)given(&world, atl_arena_format(&world.arena, "vm:%d", 100 + i), "pve4", "started");
    when_settled(&world);
    when_dies(&world, "pve4");
    when_time_passes(&world, 7000);
    when_round(&world);
    assert_true(node(&world, "pve4")->lock->fenced);
    when_round(&world);
    assert_null(node(&world, "pve4")->lock);
    int count[5] = {0};
    for (int i = 0; i < 300; i++) {
        const char *sid = atl_arena_format(&world.arena, "vm:%d", 100 + i);
        then_state(&world, sid, "request_start");
        count[guest(&world, sid)->node[3] - '0']++;
    }
    assert_int_equal(count[1], 100);
    assert_int_equal(count[2], 100);
    assert_int_equal(count[3], 100);
    world_free(&world);
}

static void a_guest_is_moved_as_asked(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    (void)given(&world, "ct:101", "pve1", "started");
    when_settled(&world);
    when_asked(&world, "migrate", "vm:100", "pve2");
    when_asked(&world, "migrate", "ct:101", "pve3");
    when_round(&world);
    then_state(&world, "vm:100", "migrate");
    then_state(&world, "ct:101", "relocate");
    then_target(&world, "vm:100", "pve2");
    assert_int_equal(world.view.n_request, 0);
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    then_on(&world, "vm:100", "pve2");
    then_on(&world, "ct:101", "pve3");
    world_free(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_it_becomes_the_manager),
        cmocka_unit_test(a_manager_that_renews_is_left_alone),
        cmocka_unit_test(without_quorum_it_only_renews),
        cmocka_unit_test(ending_in_order_it_hands_over),
        cmocka_unit_test(a_resource_is_started_and_stopped),
        cmocka_unit_test(a_lost_node_is_fenced_and_its_guests_recovered_at_once),
        cmocka_unit_test(a_node_that_promised_longer_is_waited_for_longer),
        cmocka_unit_test(a_node_that_renews_is_not_fenced_though_corosync_misses_it),
        cmocka_unit_test(a_member_that_does_not_renew_is_fenced),
        cmocka_unit_test(many_guests_need_several_transactions),
        cmocka_unit_test(a_guest_is_moved_as_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
