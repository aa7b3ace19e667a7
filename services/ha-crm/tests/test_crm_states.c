/* The states of resources and nodes: failures, maintenance, freezing, disarming, what users do meanwhile. */
#include "world.h"

static void a_start_that_fails_is_tried_again_then_elsewhere_then_given_up(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    when_round(&world);
    when_answered(&world, "vm:100", "failed");
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    then_said(&world, "try 2 of 2");
    when_answered(&world, "vm:100", "failed");
    when_round(&world);
    then_state(&world, "vm:100", "relocate");
    then_target(&world, "vm:100", "pve2");
    guest(&world, "vm:100")->node = text(&world, "pve2");
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    then_on(&world, "vm:100", "pve2");
    when_answered(&world, "vm:100", "failed");
    when_round(&world);
    when_answered(&world, "vm:100", "failed");
    when_round(&world);
    then_state(&world, "vm:100", "error");
    then_said(&world, "it is broken");
    when_round(&world);
    then_state(&world, "vm:100", "error");
    world_free(&world);
}

static void a_start_that_can_never_work_is_not_repeated_here(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    given(&world, "vm:100", "pve1", "started")->resource->has_max_restart = 1;
    guest(&world, "vm:100")->resource->max_restart = 9;
    when_round(&world);
    when_answered(&world, "vm:100", "refused");
    when_round(&world);
    then_state(&world, "vm:100", "relocate");
    world_free(&world);
}

static void max_relocate_0_gives_up_at_once(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    Atoll__Ha__V1__Resource *resource = given(&world, "vm:100", "pve1", "started")->resource;
    resource->has_max_restart = resource->has_max_relocate = 1;
    when_round(&world);
    when_answered(&world, "vm:100", "failed");
    when_round(&world);
    then_state(&world, "vm:100", "error");
    world_free(&world);
}

static void no_node_is_tried_twice(void **state)
{
    (void)state;
    static const char *const nodes[] = {"pve1", "pve2", "pve3"};
    struct world world = given_cluster(3);
    Atoll__Ha__V1__Resource *resource = given(&world, "vm:100", "pve1", "started")->resource;
    resource->has_max_restart = resource->has_max_relocate = 1;
    resource->max_relocate = 9;
    for (size_t i = 0; i < ATL_COUNT(nodes); i++) {
        when_round(&world);
        then_state(&world, "vm:100", "request_start");
        then_on(&world, "vm:100", nodes[i]);
        when_answered(&world, "vm:100", "failed");
        when_round(&world);
        if (i + 1 < ATL_COUNT(nodes)) {
            then_target(&world, "vm:100", nodes[i + 1]);
            guest(&world, "vm:100")->node = text(&world, nodes[i + 1]);
        }
    }
    then_state(&world, "vm:100", "error");
    then_said(&world, "no other node");
    world_free(&world);
}

static void what_is_recovered_has_left_nothing_behind(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    when_settled(&world);
    guest(&world, "vm:100")->service->has_loose = guest(&world, "vm:100")->service->loose = 1;
    node(&world, "pve3")->report->n_result = 0;
    when_dies(&world, "pve3");
    when_time_passes(&world, 7000);
    when_round(&world);
    then_on(&world, "vm:100", "pve1");
    assert_false(guest(&world, "vm:100")->service->loose);
    when_dies(&world, "pve1"); /* before it had its lock: it can not have started it */
    when_round(&world);
    then_on(&world, "vm:100", "pve2");
    world_free(&world);
}

static void a_success_forgets_earlier_failures(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    when_round(&world);
    when_answered(&world, "vm:100", "failed");
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    assert_int_equal(guest(&world, "vm:100")->service->failed_starts, 0);
    when_answered(&world, "vm:100", "failed");
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    world_free(&world);
}

static void an_error_ends_by_disabling(void **state)
{
    (void)state;
    struct world world = given_cluster(1);
    Atoll__Ha__V1__Resource *resource = given(&world, "vm:100", "pve1", "started")->resource;
    when_round(&world);
    when_answered(&world, "vm:100", "refused");
    when_round(&world);
    then_state(&world, "vm:100", "error");
    resource->state = text(&world, "stopped");
    when_round(&world);
    then_state(&world, "vm:100", "error");
    resource->state = text(&world, "disabled");
    when_settled(&world);
    then_state(&world, "vm:100", "stopped");
    resource->state = text(&world, "started");
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    world_free(&world);
}

static void a_stop_that_fails_is_an_error_and_tried_again_later(void **state)
{
    (void)state;
    struct world world = given_cluster(2);
    (void)given(&world, "vm:100", "pve1", "disabled");
    when_round(&world);
    when_answered(&world, "vm:100", "failed");
    when_round(&world);
    then_state(&world, "vm:100", "error");
    when_time_passes(&world, 14000);
    when_round(&world);
    then_state(&world, "vm:100", "error");
    when_time_passes(&world, 1000);
    when_round(&world);
    then_state(&world, "vm:100", "request_stop");
    world_free(&world);
}

static void stopped_and_disabled_resources_of_a_lost_node(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    (void)given(&world, "vm:101", "pve3", "stopped");
    (void)given(&world, "vm:102", "pve3", "disabled");
    (void)given(&world, "vm:103", "pve3", "ignored");
    when_settled(&world);
    when_dies(&world, "pve3");
    when_time_passes(&world, 7000);
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    then_state(&world, "vm:101", "stopped");
    assert_string_not_equal(guest(&world, "vm:101")->node, "pve3");
    then_state(&world, "vm:102", "stopped");
    then_on(&world, "vm:102", "pve3");
    then_state(&world, "vm:103", "ignored");
    then_on(&world, "vm:103", "pve3");
    world_free(&world);
}

static void ignored_resources_are_left_alone(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    Atoll__Ha__V1__Resource *resource = given(&world, "vm:100", "pve3", "started")->resource;
    when_settled(&world);
    resource->state = text(&world, "ignored");
    when_settled(&world);
    then_state(&world, "vm:100", "ignored");
    assert_true(guest(&world, "vm:100")->service->loose);
    resource->state = text(&world, "enabled");
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    assert_false(guest(&world, "vm:100")->service->loose);
    world_free(&world);
}

/* It was put under high availability while it ran, and its ha-lrm never took it under its lock. */
static void what_may_run_without_a_lock_waits_for_proof(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    given(&world, "vm:100", "pve3", "started")->has_running = 1;
    guest(&world, "vm:100")->running = 1;
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    when_dies(&world, "pve3");
    node(&world, "pve3")->can_power_off = 1;
    when_time_passes(&world, 3600000);
    when_round(&world);
    then_state(&world, "vm:100", "fence");
    then_on(&world, "vm:100", "pve3");
    assert_int_equal(world.plan->n_power_off, 1);
    node(&world, "pve3")->power_off = 1;
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    then_on(&world, "vm:100", "pve1");
    world_free(&world);
}

static void or_for_its_node(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    when_round(&world);
    when_dies(&world, "pve3");
    when_round(&world);
    then_state(&world, "vm:100", "fence");
    when_boots(&world, "pve3");
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    then_on(&world, "vm:100", "pve3");
    world_free(&world);
}

static void a_confirmed_power_fence_shortens_the_wait(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    when_settled(&world);
    when_dies(&world, "pve3");
    node(&world, "pve3")->can_power_off = 1;
    when_time_passes(&world, 2499);
    when_round(&world);
    assert_int_equal(world.plan->n_power_off, 0);
    when_time_passes(&world, 1);
    when_round(&world);
    assert_string_equal(world.plan->power_off[0], "pve3");
    node(&world, "pve3")->power_off = 1;
    when_round(&world);
    then_on(&world, "vm:100", "pve1");
    world_free(&world);
}

static void a_lost_guest_with_nowhere_to_go_runs_when_its_node_is_back(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    given(&world, "vm:100", "pve3", "started")->has_bound = 1;
    guest(&world, "vm:100")->bound = 1;
    when_settled(&world);
    when_dies(&world, "pve3");
    when_time_passes(&world, 7000);
    when_round(&world);
    then_state(&world, "vm:100", "recovery");
    then_said(&world, "nowhere to go");
    when_settled(&world);
    assert_null(node(&world, "pve3")->lock);
    when_boots(&world, "pve3");
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    then_on(&world, "vm:100", "pve3");
    world_free(&world);
}

static void maintenance_empties_a_node_and_its_end_brings_all_back(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve2", "started");
    (void)given(&world, "ct:101", "pve2", "started");
    given(&world, "vm:102", "pve2", "started")->resource->has_failback = 1;
    (void)given(&world, "vm:103", "pve2", "stopped");
    when_settled(&world);
    when_asked(&world, "maintenance-on", NULL, "pve2");
    when_round(&world);
    then_node_is(&world, "pve2", "maintenance");
    then_state(&world, "vm:100", "migrate");
    then_state(&world, "ct:101", "relocate");
    when_settled(&world);
    assert_string_not_equal(guest(&world, "vm:100")->node, "pve2");
    assert_string_not_equal(guest(&world, "ct:101")->node, "pve2");
    then_on(&world, "vm:103", "pve2");
    when_asked(&world, "maintenance-off", NULL, "pve2");
    when_settled(&world);
    then_node_is(&world, "pve2", "online");
    then_on(&world, "vm:100", "pve2");
    then_on(&world, "ct:101", "pve2");
    assert_string_not_equal(guest(&world, "vm:102")->node, "pve2");
    world_free(&world);
}

static void a_guest_that_can_not_leave_is_said_once(void **state)
{
    (void)state;
    struct world world = given_cluster(2);
    given(&world, "vm:100", "pve2", "started")->has_bound = 1;
    guest(&world, "vm:100")->bound = 1;
    when_settled(&world);
    when_asked(&world, "maintenance-on", NULL, "pve2");
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    assert_non_null(strstr(guest(&world, "vm:100")->service->why, "can not leave"));
    world_free(&world);
}

struct shutdown {
    const char *policy;
    const char *mode;
    const char *then; /* state of what ran there */
};

static void a_node_that_goes_down_follows_the_policy(void **state)
{
    static const struct shutdown cases[] = {
        {"freeze", "shutdown", "freeze"},       {"freeze", "reboot", "freeze"},
        {"failover", "shutdown", "started"},    {"failover", "reboot", "started"},
        {"conditional", "shutdown", "started"}, {"conditional", "reboot", "freeze"},
        {NULL, "shutdown", "started"},          {NULL, "reboot", "freeze"},
        {"migrate", "shutdown", "migrate"},     {"migrate", "reboot", "migrate"},
        {"failover", "restart", "freeze"},      {"migrate", "restart", "freeze"},
    };
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct world world = given_cluster(3);
        (void)given(&world, "vm:100", "pve2", "started");
        when_settled(&world);
        settings(&world)->shutdown_policy = text(&world, cases[i].policy);
        when_mode(&world, "pve2", cases[i].mode);
        when_round(&world);
        then_state(&world, "vm:100", cases[i].then);
        if (strcmp(cases[i].then, "started") == 0) { /* ha-lrm stops it and lets its lock go */
            guest(&world, "vm:100")->running = 0;
            node(&world, "pve2")->lock = NULL;
            when_round(&world);
            then_state(&world, "vm:100", "request_start");
            then_on(&world, "vm:100", "pve1");
        } else if (strcmp(cases[i].then, "freeze") == 0) {
            guest(&world, "vm:100")->running = 0;
            node(&world, "pve2")->lock = NULL;
            when_dies(&world, "pve2");
            when_time_passes(&world, 600000);
            when_round(&world);
            then_state(&world, "vm:100", "freeze");
            when_boots(&world, "pve2");
            when_settled(&world);
            then_state(&world, "vm:100", "started");
            then_on(&world, "vm:100", "pve2");
        } else {
            when_settled(&world);
            then_on(&world, "vm:100", "pve1");
            when_mode(&world, "pve2", "active");
            when_settled(&world);
            then_on(&world, "vm:100", "pve2");
        }
        world_free(&world);
    }
}

static void nothing_is_ordered_on_a_node_that_goes_down(void **state)
{
    (void)state;
    struct world world = given_cluster(2);
    (void)given(&world, "vm:100", "pve2", "stopped");
    (void)given(&world, "vm:102", "pve2", "started"); /* holds the lock for a while */
    when_settled(&world);
    when_mode(&world, "pve2", "shutdown");
    guest(&world, "vm:100")->resource->state = text(&world, "started");
    (void)given(&world, "vm:101", "pve2", "started");
    when_round(&world);
    then_state(&world, "vm:100", "stopped");
    assert_null(guest(&world, "vm:101")->service);
    world_free(&world);
}

static void frozen_guests_of_a_node_that_is_fenced_are_recovered(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve2", "started");
    when_settled(&world);
    when_mode(&world, "pve2", "restart");
    when_round(&world);
    then_state(&world, "vm:100", "freeze");
    when_dies(&world, "pve2");
    when_time_passes(&world, 7000);
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    then_on(&world, "vm:100", "pve1");
    world_free(&world);
}

/* Its ha-lrm has the lock, but no beat says that the watchdog runs: what was thawed may run on. */
static void but_not_before_the_watchdog_is_known_to_run(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve2", "started");
    when_settled(&world);
    when_mode(&world, "pve2", "restart");
    when_round(&world);
    node(&world, "pve2")->beat->armed = 0;
    when_dies(&world, "pve2");
    when_time_passes(&world, 600000);
    when_round(&world);
    then_on(&world, "vm:100", "pve2");
    world_free(&world);
}

static void disarmed_with_frozen_resources_and_armed_again(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve2", "started");
    (void)given(&world, "vm:101", "pve2", "stopped");
    when_settled(&world);
    when_asked(&world, "disarm", NULL, NULL);
    when_round(&world);
    assert_string_equal(world.view.arm->state, "disarming");
    then_state(&world, "vm:100", "freeze");
    when_round(&world);
    assert_string_equal(world.view.arm->state, "disarming");
    node(&world, "pve2")->lock = NULL;
    when_round(&world);
    assert_string_equal(world.view.arm->state, "disarmed");
    when_dies(&world, "pve2");
    when_time_passes(&world, 600000);
    when_round(&world);
    then_on(&world, "vm:100", "pve2");
    when_boots(&world, "pve2");
    when_asked(&world, "arm", NULL, NULL);
    when_settled(&world);
    assert_string_equal(world.view.arm->state, "armed");
    then_state(&world, "vm:100", "started");
    then_state(&world, "vm:101", "stopped");
    world_free(&world);
}

static void disarmed_with_ignored_resources(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve2", "started");
    when_settled(&world);
    when_asked(&world, "disarm", NULL, NULL);
    world.view.request[0]->request->resource_mode = text(&world, "ignore");
    when_round(&world);
    then_state(&world, "vm:100", "ignored");
    node(&world, "pve2")->lock = NULL;
    when_round(&world);
    assert_string_equal(world.view.arm->state, "disarmed");
    when_asked(&world, "arm", NULL, NULL);
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    world_free(&world);
}

static void a_resource_that_is_taken_out_is_forgotten(void **state)
{
    (void)state;
    struct world world = given_cluster(2);
    (void)given(&world, "vm:100", "pve2", "started");
    when_settled(&world);
    guest(&world, "vm:100")->resource = NULL;
    when_round(&world);
    assert_null(guest(&world, "vm:100")->service);
    then_said(&world, "no longer");
    world_free(&world);
}

static void the_record_of_a_guest_that_is_gone_goes_too(void **state)
{
    (void)state;
    struct world world = given_cluster(2);
    Atoll__Ha__V1__Service service = ATOLL__HA__V1__SERVICE__INIT;
    Atoll__Ha__V1__Service *orphans[] = {&service};
    char *sids[] = {text(&world, "vm:900")};
    service.state = text(&world, "started");
    service.node = text(&world, "pve1");
    world.view.orphan = orphans;
    world.view.orphan_sid = sids;
    world.view.n_orphan = world.view.n_orphan_sid = 1;
    when_round(&world);
    then_said(&world, "no such guest");
    assert_int_equal(world.view.n_orphan, 0);
    world_free(&world);
}

static void a_guest_that_is_found_elsewhere_is_taken_on_there(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve2", "started");
    when_settled(&world);
    guest(&world, "vm:100")->node = text(&world, "pve3");
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    then_on(&world, "vm:100", "pve3");
    then_said(&world, "found here");
    assert_true(guest(&world, "vm:100")->service->loose);
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    world_free(&world);
}

static void a_move_that_fails_leaves_it_running_where_it_is(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    when_settled(&world);
    when_asked(&world, "migrate", "vm:100", "pve2");
    when_round(&world);
    when_answered(&world, "vm:100", "failed");
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    then_on(&world, "vm:100", "pve1");
    then_said(&world, "it did not get to pve2");
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    world_free(&world);
}

static void a_guest_that_is_being_handed_over_is_left_alone(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    when_settled(&world);
    when_asked(&world, "migrate", "vm:100", "pve2");
    when_round(&world);
    guest(&world, "vm:100")->node = text(&world, "pve2");
    guest(&world, "vm:100")->has_locked = guest(&world, "vm:100")->locked = 1;
    when_round(&world);
    then_state(&world, "vm:100", "migrate");
    when_answered(&world, "vm:100", "done");
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    then_on(&world, "vm:100", "pve2");
    world_free(&world);
}

static void a_guest_that_was_handed_to_a_node_that_is_lost_since_may_run_there(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    when_settled(&world);
    when_asked(&world, "migrate", "vm:100", "pve2");
    when_round(&world);
    guest(&world, "vm:100")->node = text(&world, "pve2");
    guest(&world, "vm:100")->has_locked = guest(&world, "vm:100")->locked = 1;
    when_dies(&world, "pve2");
    when_round(&world);
    then_state(&world, "vm:100", "fence");
    then_on(&world, "vm:100", "pve2");
    world_free(&world);
}

struct refusal {
    const char *kind;
    const char *sid;
    const char *node;
    const char *said;
};

static void requests_that_make_no_sense_are_dropped_with_a_reason(void **state)
{
    static const struct refusal cases[] = {
        {"migrate", "vm:999", "pve2", "no such resource"},  {"migrate", "vm:100", "pve9", "no such node"},
        {"migrate", "vm:100", "pve1", "there already"},     {"relocate", "vm:100", "pve3", "not reached"},
        {"dance", "vm:100", "pve2", "no known kind"},       {"stop", "vm:100", NULL, "not to be stopped"},
        {"maintenance-on", NULL, "pve9", "no node 'pve9'"}, {"arm", NULL, NULL, "already"},
        {"migrate", "vm:101", "pve2", "'ignored'"},         {"migrate", "vm:102", "pve2", "can not leave"},
    };
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct world world = given_cluster(3);
        (void)given(&world, "vm:100", "pve1", "started");
        (void)given(&world, "vm:101", "pve1", "ignored");
        given(&world, "vm:102", "pve1", "started")->has_bound = 1;
        guest(&world, "vm:102")->bound = 1;
        when_settled(&world);
        when_dies(&world, "pve3");
        when_asked(&world, cases[i].kind, cases[i].sid, cases[i].node);
        when_round(&world);
        then_said(&world, cases[i].said);
        assert_int_equal(world.view.n_request, 0);
        then_state(&world, "vm:100", "started");
        world_free(&world);
    }
}

static void of_two_requests_the_later_counts(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    when_settled(&world);
    when_asked(&world, "migrate", "vm:100", "pve2");
    when_asked(&world, "migrate", "vm:100", "pve3");
    when_round(&world);
    then_target(&world, "vm:100", "pve3");
    then_said(&world, "a later one");
    when_settled(&world);
    then_on(&world, "vm:100", "pve3");
    world_free(&world);
}

static void a_request_waits_for_what_is_under_way(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    when_round(&world);
    when_asked(&world, "migrate", "vm:100", "pve3");
    when_round(&world);
    then_state(&world, "vm:100", "request_start");
    assert_int_equal(world.view.n_request, 1);
    when_settled(&world);
    then_on(&world, "vm:100", "pve3");
    assert_int_equal(world.view.n_request, 0);
    world_free(&world);
}

static void a_stop_may_be_given_a_time(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    when_settled(&world);
    guest(&world, "vm:100")->resource->state = text(&world, "stopped");
    when_asked(&world, "stop", "vm:100", NULL);
    world.view.request[0]->request->has_timeout_s = 1;
    world.view.request[0]->request->timeout_s = 7;
    when_round(&world);
    then_state(&world, "vm:100", "request_stop");
    assert_int_equal(guest(&world, "vm:100")->service->timeout_s, 7);
    when_settled(&world);
    then_state(&world, "vm:100", "stopped");
    world_free(&world);
}

static void an_ha_lrm_that_says_nothing_gets_no_guests_and_loses_those_it_never_took(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    when_settled(&world);
    when_dies(&world, "pve3");
    when_time_passes(&world, 7000);
    when_round(&world);
    then_on(&world, "vm:100", "pve1"); /* recovered to there; but ha-lrm of pve1 never takes its lock */
    for (int i = 0; i < 5; i++) {
        when_time_passes(&world, 3000);
        node(&world, "pve1")->report_age_ms = 3000 * (uint64_t)(i + 1);
        when_round(&world);
    }
    then_said(&world, "says nothing");
    then_on(&world, "vm:100", "pve2");
    world_free(&world);
}

static void a_node_that_was_removed_is_emptied_and_forgotten(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    when_round(&world);
    when_dies(&world, "pve3");
    node(&world, "pve3")->has_removed = node(&world, "pve3")->removed = 1;
    when_round(&world);
    then_on(&world, "vm:100", "pve1");
    when_round(&world);
    assert_null(node(&world, "pve3")->record);
    assert_null(node(&world, "pve3")->report);
    world_free(&world);
}

static void a_new_manager_goes_on_where_the_old_one_was(void **state)
{
    (void)state;
    struct world world = given_cluster(4);
    for (int i = 0; i < 120; i++)
        (void)given(&world, atl_arena_format(&world.arena, "vm:%d", 100 + i), "pve4", "started");
    when_settled(&world);
    when_dies(&world, "pve4");
    when_time_passes(&world, 7000);
    when_round(&world); /* the first transaction is done; then this manager is lost, too */
    world.view.self = text(&world, "pve2");
    world.view.incarnation = 78;
    when_time_passes(&world, 2000);
    when_round(&world);
    assert_string_equal(world.view.manager->node, "pve2");
    when_settled(&world);
    for (int i = 0; i < 120; i++)
        then_state(&world, atl_arena_format(&world.arena, "vm:%d", 100 + i), "started");
    assert_null(node(&world, "pve4")->lock);
    world_free(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_that_fails_is_tried_again_then_elsewhere_then_given_up),
        cmocka_unit_test(a_start_that_can_never_work_is_not_repeated_here),
        cmocka_unit_test(max_relocate_0_gives_up_at_once),
        cmocka_unit_test(no_node_is_tried_twice),
        cmocka_unit_test(what_is_recovered_has_left_nothing_behind),
        cmocka_unit_test(a_success_forgets_earlier_failures),
        cmocka_unit_test(an_error_ends_by_disabling),
        cmocka_unit_test(a_stop_that_fails_is_an_error_and_tried_again_later),
        cmocka_unit_test(stopped_and_disabled_resources_of_a_lost_node),
        cmocka_unit_test(ignored_resources_are_left_alone),
        cmocka_unit_test(what_may_run_without_a_lock_waits_for_proof),
        cmocka_unit_test(or_for_its_node),
        cmocka_unit_test(a_confirmed_power_fence_shortens_the_wait),
        cmocka_unit_test(a_lost_guest_with_nowhere_to_go_runs_when_its_node_is_back),
        cmocka_unit_test(maintenance_empties_a_node_and_its_end_brings_all_back),
        cmocka_unit_test(a_guest_that_can_not_leave_is_said_once),
        cmocka_unit_test(a_node_that_goes_down_follows_the_policy),
        cmocka_unit_test(nothing_is_ordered_on_a_node_that_goes_down),
        cmocka_unit_test(frozen_guests_of_a_node_that_is_fenced_are_recovered),
        cmocka_unit_test(but_not_before_the_watchdog_is_known_to_run),
        cmocka_unit_test(disarmed_with_frozen_resources_and_armed_again),
        cmocka_unit_test(disarmed_with_ignored_resources),
        cmocka_unit_test(a_resource_that_is_taken_out_is_forgotten),
        cmocka_unit_test(the_record_of_a_guest_that_is_gone_goes_too),
        cmocka_unit_test(a_guest_that_is_found_elsewhere_is_taken_on_there),
        cmocka_unit_test(a_move_that_fails_leaves_it_running_where_it_is),
        cmocka_unit_test(a_guest_that_is_being_handed_over_is_left_alone),
        cmocka_unit_test(a_guest_that_was_handed_to_a_node_that_is_lost_since_may_run_there),
        cmocka_unit_test(requests_that_make_no_sense_are_dropped_with_a_reason),
        cmocka_unit_test(of_two_requests_the_later_counts),
        cmocka_unit_test(a_request_waits_for_what_is_under_way),
        cmocka_unit_test(a_stop_may_be_given_a_time),
        cmocka_unit_test(an_ha_lrm_that_says_nothing_gets_no_guests_and_loses_those_it_never_took),
        cmocka_unit_test(a_node_that_was_removed_is_emptied_and_forgotten),
        cmocka_unit_test(a_new_manager_goes_on_where_the_old_one_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
