/* Rules: which can be kept, what they do; placement and balance. */
#include "core/rules.h"
#include "world.h"

/* --- which can be kept --- */

struct written {
    const char *resources;
    const char *nodes;    /* of a node affinity; else NULL */
    const char *affinity; /* of a resource affinity; else NULL */
    bool strict;
    const char *wrong; /* part of the sentence; NULL: nothing is */
};

struct rules_case {
    const char *what;
    struct written rules[3];
};

static void check_case(const struct rules_case *it)
{
    static const char *const nodes[] = {"pve1", "pve2", "pve3"};
    static const char *const sids[] = {"vm:100", "ct:101", "vm:102", "vm:103"};
    struct atl_arena arena = {0};
    Atoll__Ha__V1__Rule *rules[3];
    size_t count = 0;
    while (count < 3 && it->rules[count].resources != NULL) {
        const struct written *written = &it->rules[count];
        Atoll__Ha__V1__Rule *rule = atl_arena_new(&arena, Atoll__Ha__V1__Rule);
        atoll__ha__v1__rule__init(rule);
        rule->rule = atl_arena_format(&arena, "r%zu", count);
        rule->type = atl_arena_strdup(&arena, written->nodes != NULL ? "node-affinity" : "resource-affinity");
        rule->resources = atl_arena_strdup(&arena, written->resources);
        rule->nodes = written->nodes != NULL ? atl_arena_strdup(&arena, written->nodes) : NULL;
        rule->affinity = written->affinity != NULL ? atl_arena_strdup(&arena, written->affinity) : NULL;
        rule->has_strict = rule->strict = written->strict;
        rules[count++] = rule;
    }
    const struct crm_rules_input input = {.rule = rules,
                                          .rule_count = count,
                                          .node = nodes,
                                          .node_count = ATL_COUNT(nodes),
                                          .sid = sids,
                                          .sid_count = ATL_COUNT(sids)};
    const char **errors = crm_rules_check(&input, &arena);
    for (size_t i = 0; i < count; i++) {
        const char *wrong = it->rules[i].wrong;
        if (wrong == NULL && errors[i] != NULL)
            fail_msg("%s: rule %zu is said to be wrong: %s", it->what, i, errors[i]);
        if (wrong != NULL && (errors[i] == NULL || strstr(errors[i], wrong) == NULL))
            fail_msg("%s: rule %zu: '%s', not '%s'", it->what, i, errors[i] != NULL ? errors[i] : "nothing",
                     wrong);
    }
    atl_arena_done(&arena);
}

static void rules_that_can_not_be_kept_are_found(void **state)
{
    static const struct rules_case cases[] = {
        {"all is well",
         {{"vm:100", "pve1:2,pve2", NULL, true, NULL},
          {"vm:100,ct:101", NULL, "positive", false, NULL},
          {"vm:100,vm:102", NULL, "negative", false, NULL}}},
        {"no resources", {{"", "pve1", NULL, false, "no resource"}}},
        {"none is known", {{"vm:900,vm:901", "pve1", NULL, false, "none of its resources"}}},
        {"one is known", {{"vm:100,vm:901", "pve1", NULL, false, NULL}}},
        {"no nodes", {{"vm:100", "", NULL, false, "no node"}}},
        {"strict on nodes that are gone", {{"vm:100", "pve8", NULL, true, "none of its nodes"}}},
        {"preferred nodes that are gone", {{"vm:100", "pve8", NULL, false, NULL}}},
        {"neither", {{"vm:100,ct:101", NULL, "perhaps", false, "neither positive nor negative"}}},
        {"one is not enough", {{"vm:100", NULL, "negative", false, "fewer than two"}}},
        {"twice the same is one", {{"vm:100,vm:100", NULL, "positive", false, "fewer than two"}}},
        {"one of two is unknown", {{"vm:100,vm:900", NULL, "positive", false, "fewer than two"}}},
        {"four apart on three nodes",
         {{"vm:100,ct:101,vm:102,vm:103", NULL, "negative", false, "on 3 nodes"}}},
        {"two node affinities",
         {{"vm:100,ct:101", "pve1", NULL, false, NULL},
          {"vm:102 ct:101", "pve2", NULL, false, "ct:101 is in rule 'r0'"}}},
        {"together and apart",
         {{"vm:100,ct:101", NULL, "negative", false, "stay together"},
          {"vm:100,ct:101", NULL, "positive", false, NULL}}},
        {"together through a third and apart",
         {{"vm:100,ct:101", NULL, "positive", false, NULL},
          {"ct:101,vm:102", NULL, "positive", false, NULL},
          {"vm:100,vm:102", NULL, "negative", false, "vm:100 and vm:102"}}},
        {"strict nodes that do not meet",
         {{"vm:100", "pve1", NULL, true, NULL},
          {"ct:101", "pve2,pve3", NULL, true, NULL},
          {"vm:100,ct:101", NULL, "positive", false, "leave no node"}}},
        {"preferred nodes need not meet",
         {{"vm:100", "pve1", NULL, true, NULL},
          {"ct:101", "pve2,pve3", NULL, false, NULL},
          {"vm:100,ct:101", NULL, "positive", false, NULL}}},
        {"apart on one strict node",
         {{"vm:100,ct:101", "pve1", NULL, true, NULL},
          {"vm:100,ct:101", NULL, "negative", false, "have 1 nodes"}}},
    };
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(cases); i++)
        check_case(&cases[i]);
}

static void a_disabled_rule_disturbs_no_other(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    Atoll__Ha__V1__Rule *rule = given_rule(&world, "off", "vm:100", "pve3", NULL, true);
    rule->has_disable = rule->disable = 1;
    (void)given_rule(&world, "on", "vm:100", "pve2", NULL, true);
    when_settled(&world);
    then_on(&world, "vm:100", "pve2");
    world_free(&world);
}

static void a_rule_that_can_not_be_kept_is_said_and_not_regarded(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    (void)given_rule(&world, "odd", "vm:100", "pve9", NULL, true);
    when_settled(&world);
    then_said(&world, "disregard rule odd");
    then_state(&world, "vm:100", "started");
    world_free(&world);
}

/* --- what they do --- */

static void a_resource_goes_to_the_node_with_the_greatest_priority(void **state)
{
    (void)state;
    struct world world = given_cluster(4);
    (void)given(&world, "vm:100", "pve4", "started");
    (void)given_rule(&world, "best", "vm:100", "pve1:1,pve2:3,pve3:2", NULL, false);
    when_settled(&world);
    then_on(&world, "vm:100", "pve2");
    world_free(&world);
}

static void and_comes_back_when_that_is_there_again(void **state)
{
    (void)state;
    for (int failback = 0; failback < 2; failback++) {
        struct world world = given_cluster(4);
        Atoll__Ha__V1__Resource *resource = given(&world, "vm:100", "pve2", "started")->resource;
        resource->has_failback = 1;
        resource->failback = failback;
        (void)given_rule(&world, "best", "vm:100", "pve1:1,pve2:3,pve3:2", NULL, false);
        when_settled(&world);
        then_on(&world, "vm:100", "pve2");
        when_dies(&world, "pve2");
        when_time_passes(&world, 7000);
        when_settled(&world);
        then_on(&world, "vm:100", "pve3");
        when_boots(&world, "pve2");
        when_settled(&world);
        then_on(&world, "vm:100", failback ? "pve2" : "pve3");
        world_free(&world);
    }
}

static void a_strict_rule_holds_whatever_happens(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    (void)given(&world, "vm:101", "pve3", "started");
    (void)given_rule(&world, "only", "vm:100", "pve2,pve3", NULL, true);
    (void)given_rule(&world, "one", "vm:101", "pve3", NULL, true);
    when_settled(&world);
    when_dies(&world, "pve3");
    when_time_passes(&world, 7000);
    when_settled(&world);
    then_on(&world, "vm:100", "pve2");
    then_state(&world, "vm:101", "recovery");
    when_dies(&world, "pve2");
    when_time_passes(&world, 7000);
    when_settled(&world);
    then_state(&world, "vm:100", "recovery");
    when_boots(&world, "pve3");
    when_settled(&world);
    then_state(&world, "vm:100", "started");
    then_on(&world, "vm:100", "pve3");
    then_state(&world, "vm:101", "started");
    world_free(&world);
}

static void a_new_strict_rule_moves_what_runs_elsewhere(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve3", "started");
    when_settled(&world);
    (void)given_rule(&world, "only", "vm:100", "pve2", NULL, true);
    when_settled(&world);
    then_on(&world, "vm:100", "pve2");
    world_free(&world);
}

static void a_group_is_a_rule_for_old_clients(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    Atoll__Ha__V1__Group group = ATOLL__HA__V1__GROUP__INIT;
    Atoll__Ha__V1__Group *groups[] = {&group};
    group.group = text(&world, "two");
    group.nodes = text(&world, "pve2:1,pve3:2");
    group.has_restricted = group.restricted = 1;
    group.has_nofailback = group.nofailback = 1;
    world.view.group = groups;
    world.view.n_group = 1;
    given(&world, "vm:100", "pve1", "started")->resource->group = text(&world, "two");
    when_settled(&world);
    then_on(&world, "vm:100", "pve3");
    when_dies(&world, "pve3");
    when_time_passes(&world, 7000);
    when_settled(&world);
    then_on(&world, "vm:100", "pve2");
    when_boots(&world, "pve3");
    when_settled(&world);
    then_on(&world, "vm:100", "pve2");
    group.nofailback = 0;
    when_settled(&world);
    then_on(&world, "vm:100", "pve3");
    world_free(&world);
}

static void those_that_are_apart_never_meet(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    (void)given(&world, "vm:101", "pve1", "started");
    (void)given_rule(&world, "apart", "vm:100,vm:101", NULL, "negative", false);
    when_settled(&world);
    assert_string_not_equal(guest(&world, "vm:100")->node, guest(&world, "vm:101")->node);
    when_asked(&world, "migrate", "vm:100", guest(&world, "vm:101")->node);
    when_round(&world);
    then_said(&world, "keeps vm:100 apart from vm:101");
    when_dies(&world, "pve3");
    node(&world, "pve3")->member = 0;
    const char *lost = guest(&world, "vm:101")->node;
    when_dies(&world, lost);
    when_time_passes(&world, 7000);
    when_settled(&world);
    then_state(&world, "vm:101", strcmp(lost, "pve3") == 0 ? "started" : "recovery");
    assert_string_not_equal(guest(&world, "vm:100")->node, guest(&world, "vm:101")->node);
    world_free(&world);
}

static void those_that_are_together_move_together(void **state)
{
    (void)state;
    struct world world = given_cluster(3);
    (void)given(&world, "vm:100", "pve1", "started");
    (void)given(&world, "vm:101", "pve2", "started");
    (void)given(&world, "vm:102", "pve2", "started");
    (void)given_rule(&world, "one", "vm:100,vm:101", NULL, "positive", false);
    (void)given_rule(&world, "two", "vm:102,vm:101", NULL, "positive", false);
    when_settled(&world);
    then_on(&world, "vm:100", "pve2");
    when_asked(&world, "migrate", "vm:101", "pve3");
    when_settled(&world);
    then_on(&world, "vm:100", "pve3");
    then_on(&world, "vm:101", "pve3");
    then_on(&world, "vm:102", "pve3");
    when_dies(&world, "pve3");
    when_time_passes(&world, 7000);
    when_settled(&world);
    assert_string_equal(guest(&world, "vm:100")->node, guest(&world, "vm:101")->node);
    assert_string_equal(guest(&world, "vm:100")->node, guest(&world, "vm:102")->node);
    then_state(&world, "vm:102", "started");
    const char *now = guest(&world, "vm:100")->node;
    when_asked(&world, "maintenance-on", NULL, now);
    when_boots(&world, "pve3");
    when_settled(&world);
    assert_string_not_equal(guest(&world, "vm:100")->node, now);
    assert_string_equal(guest(&world, "vm:100")->node, guest(&world, "vm:101")->node);
    assert_string_equal(guest(&world, "vm:100")->node, guest(&world, "vm:102")->node);
    world_free(&world);
}

/* --- placement --- */

static void recovered_guests_go_where_there_is_room(void **state)
{
    (void)state;
    struct world world = given_cluster(4);
    given(&world, "vm:100", "pve4", "started")->memory = 16ULL << 30;
    when_settled(&world);
    for (int i = 1; i <= 3; i++) {
        Atoll__Ha__V1__NodeView *it = node(&world, atl_arena_format(&world.arena, "pve%d", i));
        it->has_cpu_used = it->has_memory_used = it->has_pressure = 1;
        it->cpu_used = i == 1 ? 1 : 4; /* pve1 has CPU, and no memory */
        it->memory_used = (i == 1 ? 60ULL : 30) << 30;
        it->pressure = i == 2 ? 0.5 : 0; /* pve2 has both, and works hard */
    }
    when_dies(&world, "pve4");
    when_time_passes(&world, 7000);
    when_round(&world);
    then_on(&world, "vm:100", "pve3");
    const Atoll__Ha__V1__Service *service = guest(&world, "vm:100")->service;
    assert_non_null(strstr(service->why, "recovered from pve4"));
    assert_non_null(strstr(service->why, "pve3: score"));
    assert_int_equal(service->n_alternative, 3);
    assert_non_null(strstr(service->alternative[0], "pve2: score"));
    assert_non_null(strstr(service->alternative[1], "pve1: score"));
    assert_non_null(strstr(service->alternative[2], "pve4: it is fenced"));
    world_free(&world);
}

static void with_equal_nodes_the_name_decides(void **state)
{
    (void)state;
    struct world world = given_cluster(5);
    (void)given(&world, "vm:100", "pve5", "started");
    when_settled(&world);
    when_dies(&world, "pve5");
    when_time_passes(&world, 7000);
    when_round(&world);
    then_on(&world, "vm:100", "pve1");
    world_free(&world);
}

static void a_start_may_be_balanced(void **state)
{
    (void)state;
    for (int balance = 0; balance < 2; balance++) {
        struct world world = given_cluster(3);
        settings(&world)->has_rebalance_on_start = 1;
        settings(&world)->rebalance_on_start = balance;
        node(&world, "pve1")->has_memory_used = 1;
        node(&world, "pve1")->memory_used = 60ULL << 30;
        (void)given(&world, "vm:100", "pve1", "started");
        when_round(&world);
        then_state(&world, "vm:100", balance ? "request_start_balance" : "request_start");
        when_settled(&world);
        then_state(&world, "vm:100", "started");
        then_on(&world, "vm:100", balance ? "pve2" : "pve1");
        world_free(&world);
    }
}

/* --- balance --- */

/* Node pve1 has twelve busy guests, the others none. */
static struct world given_imbalance(const char *mode)
{
    struct world world = given_cluster(3);
    for (int i = 0; i < 12; i++) {
        Atoll__Ha__V1__GuestView *it =
            given(&world, atl_arena_format(&world.arena, "vm:%d", 100 + i), "pve1", "started");
        it->memory = 4ULL << 30;
        it->has_cpu_used = it->has_memory_used = 1;
        it->cpu_used = 1;
        it->memory_used = 4ULL << 30;
    }
    when_settled(&world);
    settings(&world)->rebalance = text(&world, mode);
    world.view.has_balance_idle_ms = 1;
    world.view.balance_idle_ms = 60000;
    return world;
}

static void balance_is_off_unless_asked_for(void **state)
{
    (void)state;
    struct world world = given_imbalance(NULL);
    when_round(&world);
    assert_int_equal(world.plan->n_advice, 0);
    then_state(&world, "vm:100", "started");
    world_free(&world);
}

static void it_advises(void **state)
{
    (void)state;
    struct world world = given_imbalance("advise");
    when_round(&world);
    assert_int_equal(world.plan->n_advice, 5);
    assert_string_equal(world.plan->advice[0]->from, "pve1");
    assert_string_equal(world.plan->advice[0]->to, "pve2");
    assert_string_equal(world.plan->advice[1]->to, "pve3");
    assert_true(world.plan->advice[0]->vmid != world.plan->advice[1]->vmid);
    assert_true(world.plan->n_txn <= 1);
    world.view.balance_idle_ms = 59999;
    when_round(&world);
    assert_int_equal(world.plan->n_advice, 0);
    world_free(&world);
}

static size_t count_on(struct world *world, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < world->view.n_guest; i++)
        count += strcmp(world->view.guest[i]->node, name) == 0;
    return count;
}

static void it_acts_step_by_step_and_rests_when_all_carry_alike(void **state)
{
    (void)state;
    struct world world = given_imbalance("act");
    settings(&world)->has_moves_per_hour = 1;
    settings(&world)->moves_per_hour = 100;
    for (int i = 0; i < 40; i++) {
        when_settled(&world);
        assert_true(world.view.n_recent <= 12);
        when_time_passes(&world, 60000);
    }
    assert_true(count_on(&world, "pve1") < 8);
    assert_true(count_on(&world, "pve2") > 1 && count_on(&world, "pve3") > 1);
    size_t moves = world.view.n_recent;
    for (int i = 0; i < 5; i++) {
        when_time_passes(&world, 60000);
        when_settled(&world);
    }
    assert_int_equal(world.view.n_recent, moves);
    when_time_passes(&world, 60000);
    world.view.recent[moves - 1]->time = world.view.wall - 59; /* nothing follows upon a move at once */
    node(&world, "pve1")->has_cpu_used = 1;
    node(&world, "pve1")->cpu_used = 16;
    when_round(&world);
    assert_int_equal(world.view.n_recent, moves);
    world.view.recent[moves - 1]->time--;
    when_round(&world);
    assert_int_equal(world.view.n_recent, moves + 1);
    world_free(&world);
}

static void no_more_moves_an_hour_than_allowed(void **state)
{
    (void)state;
    struct world world = given_imbalance("act");
    settings(&world)->has_moves_per_hour = 1;
    settings(&world)->moves_per_hour = 2;
    for (int i = 0; i < 20; i++) {
        when_time_passes(&world, 60000);
        when_settled(&world);
    }
    assert_int_equal(world.view.n_recent, 2);
    assert_int_equal(count_on(&world, "pve1"), 10);
    when_time_passes(&world, 3601000);
    for (int i = 0; i < 20; i++) {
        when_time_passes(&world, 60000);
        when_settled(&world);
    }
    assert_int_equal(count_on(&world, "pve1"), 8);
    world_free(&world);
}

static void what_may_not_be_moved_is_not(void **state)
{
    (void)state;
    struct world world = given_imbalance("act");
    for (size_t i = 0; i < world.view.n_guest; i++) {
        Atoll__Ha__V1__GuestView *it = world.view.guest[i];
        it->has_bound = it->bound = i % 3 == 0;
        it->has_locked = it->locked = i % 3 == 1;
        it->resource->has_auto_rebalance = 1;
        it->resource->auto_rebalance = i % 3 != 2;
    }
    when_round(&world);
    assert_int_equal(count_on(&world, "pve1"), 12);
    for (size_t i = 0; i < world.view.n_guest; i++)
        assert_string_equal(world.view.guest[i]->service->state, "started");
    world_free(&world);
}

static void guests_without_high_availability_are_moved_too(void **state)
{
    (void)state;
    struct world world = given_cluster(2);
    for (int i = 0; i < 8; i++) {
        Atoll__Ha__V1__GuestView *it =
            given_plain_guest(&world, atl_arena_format(&world.arena, "vm:%d", 100 + i), "pve1");
        it->has_running = it->running = 1;
        it->memory = 6ULL << 30;
    }
    settings(&world)->rebalance = text(&world, "act");
    when_round(&world);
    assert_int_equal(world.plan->n_advice, 0);
    assert_int_equal(world.plan->n_move, 1);
    assert_string_equal(world.plan->move[0]->from, "pve1");
    assert_string_equal(world.plan->move[0]->to, "pve2");
    assert_int_equal(world.view.n_recent, 1);
    when_round(&world);
    assert_int_equal(world.plan->n_move, 0); /* its effect is to be seen first */
    world_free(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_that_can_not_be_kept_are_found),
        cmocka_unit_test(a_disabled_rule_disturbs_no_other),
        cmocka_unit_test(a_rule_that_can_not_be_kept_is_said_and_not_regarded),
        cmocka_unit_test(a_resource_goes_to_the_node_with_the_greatest_priority),
        cmocka_unit_test(and_comes_back_when_that_is_there_again),
        cmocka_unit_test(a_strict_rule_holds_whatever_happens),
        cmocka_unit_test(a_new_strict_rule_moves_what_runs_elsewhere),
        cmocka_unit_test(a_group_is_a_rule_for_old_clients),
        cmocka_unit_test(those_that_are_apart_never_meet),
        cmocka_unit_test(those_that_are_together_move_together),
        cmocka_unit_test(recovered_guests_go_where_there_is_room),
        cmocka_unit_test(with_equal_nodes_the_name_decides),
        cmocka_unit_test(a_start_may_be_balanced),
        cmocka_unit_test(balance_is_off_unless_asked_for),
        cmocka_unit_test(it_advises),
        cmocka_unit_test(it_acts_step_by_step_and_rests_when_all_carry_alike),
        cmocka_unit_test(no_more_moves_an_hour_than_allowed),
        cmocka_unit_test(what_may_not_be_moved_is_not),
        cmocka_unit_test(guests_without_high_availability_are_moved_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
