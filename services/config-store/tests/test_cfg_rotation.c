/* How shared secrets are replaced: what one node does next, and whole clusters of such nodes. */
#include "atl_test.h"
#include "core/rotation.h"

enum { NODES = 4, STEPS_MAX = 400 };

static struct cfg_rotation_node nodes[NODES];
static struct cfg_rotation_view view;

static int set_up(void **state)
{
    (void)state;
    static const char *const names[NODES] = {"n1", "n2", "n3", "n4"};
    for (size_t i = 0; i < NODES; i++)
        nodes[i] = (struct cfg_rotation_node){.name = names[i], .online = true};
    view = (struct cfg_rotation_view){.rotation = {.generation = 1, .phase = CFG_ROTATION_SPREAD, .by = "n2"},
                                      .nodes = nodes,
                                      .count = NODES,
                                      .self = "n1"};
    return 0;
}

static void expect(enum cfg_rotation_kind kind)
{
    assert_int_equal(cfg_rotation_next(&view).kind, kind);
}

static void who_begins_makes_and_the_others_fetch_from_him(void **state)
{
    (void)state;
    struct cfg_rotation_act act = cfg_rotation_next(&view);
    assert_int_equal(act.kind, CFG_ROTATE_FETCH);
    assert_string_equal(act.node, "n2");
    view.self = "n2";
    expect(CFG_ROTATE_MAKE);
    view.self = "n9"; /* it is no member */
    expect(CFG_ROTATE_NOTHING);
}

static void parts_that_end_a_member_are_carried_out_in_turn(void **state)
{
    (void)state;
    view.prepared = true;
    expect(CFG_ROTATE_CARRY_OUT);
    view.self = "n3";
    expect(CFG_ROTATE_NOTHING);
    nodes[0].generation = nodes[1].generation = 1;
    nodes[0].phase = nodes[1].phase = CFG_ROTATION_SPREAD;
    expect(CFG_ROTATE_CARRY_OUT);
    nodes[1].generation = 0; /* told of an older generation */
    expect(CFG_ROTATE_NOTHING);
    nodes[1].online = false; /* nobody waits for him */
    view.rotation.by = "n1";
    expect(CFG_ROTATE_CARRY_OUT);
    nodes[1].online = true;
    view.rotation.phase = CFG_ROTATION_USE; /* needs no turns */
    expect(CFG_ROTATE_CARRY_OUT);
}

static void who_missed_the_first_part_begins_anew_with_the_second(void **state)
{
    (void)state;
    static const struct {
        enum cfg_rotation_phase phase;
        uint64_t told; /* the generation of our last word */
        bool anew;
    } rows[] = {{CFG_ROTATION_SPREAD, 0, true},
                {CFG_ROTATION_USE, 1, false},
                {CFG_ROTATION_USE, 0, true},
                {CFG_ROTATION_DROP, 1, true}};
    view.prepared = true;
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        view.rotation.phase = rows[i].phase;
        nodes[0].generation = rows[i].told;
        nodes[0].phase = rows[i].told == 1 ? rows[i].phase - 1 : CFG_ROTATION_DROP;
        struct cfg_rotation_act act = cfg_rotation_next(&view);
        assert_int_equal(act.kind, CFG_ROTATE_CARRY_OUT);
        assert_int_equal(act.anew, rows[i].anew);
    }
    assert_false(cfg_rotation_is_settled(CFG_ROTATION_SPREAD));
    assert_true(cfg_rotation_is_settled(CFG_ROTATION_USE));
    assert_true(cfg_rotation_is_settled(CFG_ROTATION_DONE));
}

static void the_first_who_is_online_advances_when_all_are_done(void **state)
{
    (void)state;
    for (size_t i = 0; i < NODES; i++) {
        nodes[i].generation = 1;
        nodes[i].phase = CFG_ROTATION_SPREAD;
    }
    view.prepared = true;
    struct cfg_rotation_act act = cfg_rotation_next(&view);
    assert_int_equal(act.kind, CFG_ROTATE_ADVANCE);
    assert_int_equal(act.phase, CFG_ROTATION_USE);
    view.self = "n2";
    expect(CFG_ROTATE_NOTHING);
    nodes[0].online = false;
    expect(CFG_ROTATE_ADVANCE);
    nodes[3].phase = CFG_ROTATION_DONE;
    expect(CFG_ROTATE_NOTHING);
    nodes[3].online = false;
    view.rotation.phase = CFG_ROTATION_DROP;
    nodes[1].phase = nodes[2].phase = CFG_ROTATION_DROP;
    act = cfg_rotation_next(&view);
    assert_int_equal(act.kind, CFG_ROTATE_ADVANCE);
    assert_int_equal(act.phase, CFG_ROTATION_DONE);
}

static void another_takes_over_while_nobody_uses_the_new_ones(void **state)
{
    (void)state;
    nodes[1].online = false;
    expect(CFG_ROTATE_TAKE_OVER);
    view.self = "n3";
    expect(CFG_ROTATE_NOTHING);
    view.rotation.by = "n9"; /* he was removed himself */
    view.self = "n1";
    expect(CFG_ROTATE_TAKE_OVER);
    view.rotation.phase = CFG_ROTATION_USE; /* all who are online have them: from one of these */
    nodes[2].generation = 1;
    nodes[2].phase = CFG_ROTATION_SPREAD;
    struct cfg_rotation_act act = cfg_rotation_next(&view);
    assert_int_equal(act.kind, CFG_ROTATE_FETCH);
    assert_string_equal(act.node, "n3");
}

static void who_was_away_catches_up_and_who_did_it_tells(void **state)
{
    (void)state;
    view.rotation.phase = CFG_ROTATION_DONE;
    expect(CFG_ROTATE_CATCH_UP);
    view.generation = 1;
    expect(CFG_ROTATE_NOTHING);
    view.rotation.phase = CFG_ROTATION_DROP;
    struct cfg_rotation_act act = cfg_rotation_next(&view);
    assert_int_equal(act.kind, CFG_ROTATE_TELL);
    assert_int_equal(act.phase, CFG_ROTATION_DROP);
}

static void the_witness_is_waited_for_and_gives_nothing(void **state)
{
    (void)state;
    nodes[3].witness = true;
    view.prepared = true;
    assert_false(cfg_rotation_is_witness_turn(&view));
    for (size_t i = 0; i < NODES - 1; i++) {
        nodes[i].generation = 1;
        nodes[i].phase = CFG_ROTATION_SPREAD;
    }
    assert_true(cfg_rotation_is_witness_turn(&view));
    expect(CFG_ROTATE_NOTHING); /* it has not told yet */
    nodes[3].online = false;
    expect(CFG_ROTATE_ADVANCE);
    nodes[3] = (struct cfg_rotation_node){
        .name = "n4", .witness = true, .online = true, .generation = 1, .phase = CFG_ROTATION_SPREAD};
    expect(CFG_ROTATE_ADVANCE);
    view.rotation.phase = CFG_ROTATION_USE; /* somebody who was away asks a node, never the witness */
    nodes[0].generation = nodes[1].generation = nodes[2].generation = 0;
    nodes[1].online = false;
    view.prepared = false;
    expect(CFG_ROTATE_NOTHING);
}

/* --- whole clusters: nodes go and come at random, and end with the same secrets --- */

struct machine {
    uint64_t uses, believes; /* generations: written with; the oldest that is believed */
    uint64_t prepared;
    uint64_t written, read; /* the newest that is believed: on the disk, and by our member since its start */
    bool on;
    bool woke; /* in this phase: the others could not know */
};

static struct machine machines[NODES];
static struct cfg_rotation cluster;
static struct cfg_rotation_node told[NODES];

/* Whoever uses what most of the others do not believe any more is not seen by them. */
static bool is_seen(size_t i)
{
    size_t by = 0;
    for (size_t k = 0; k < NODES; k++)
        by += machines[k].on && machines[k].believes <= machines[i].uses;
    return machines[i].on && by > NODES / 2;
}

static bool trusts(const struct machine *one, const struct machine *other)
{
    return one->believes <= other->uses && other->uses <= one->read;
}

/* Is our member of etcd one of a majority? */
static bool is_linked(size_t i)
{
    size_t to = 0;
    for (size_t k = 0; k < NODES; k++)
        to += machines[k].on && trusts(&machines[i], &machines[k]) && trusts(&machines[k], &machines[i]);
    return to > NODES / 2;
}

static struct cfg_rotation_view view_of(size_t i)
{
    for (size_t k = 0; k < NODES; k++)
        told[k].online = is_seen(k);
    const struct machine *machine = &machines[i];
    return (struct cfg_rotation_view){.rotation = cluster,
                                      .nodes = told,
                                      .count = NODES,
                                      .self = told[i].name,
                                      .generation = machine->believes == machine->uses ? machine->uses : 0,
                                      .prepared = machine->prepared == cluster.generation};
}

static void carry_out(size_t i, enum cfg_rotation_phase phase, bool anew)
{
    for (size_t k = 0; k < NODES; k++) { /* nobody who kept up is cut off */
        bool kept_up = is_seen(k) && !machines[k].woke;
        assert_true(!kept_up || phase != CFG_ROTATION_USE || machines[k].prepared == cluster.generation);
        assert_true(!kept_up || phase != CFG_ROTATION_DROP || machines[k].uses == cluster.generation);
    }
    if (phase >= CFG_ROTATION_USE)
        machines[i].uses = cluster.generation;
    if (phase == CFG_ROTATION_DROP)
        machines[i].believes = cluster.generation;
    machines[i].written = cluster.generation;
    if (anew)
        machines[i].read = machines[i].written;
    told[i].generation = cluster.generation;
    told[i].phase = phase;
}

static void begin_phase(struct cfg_rotation next)
{
    cluster = next;
    for (size_t k = 0; k < NODES; k++)
        machines[k].woke = false;
}

static void catch_up(size_t i)
{
    struct machine *machine = &machines[i];
    if (cfg_rotation_is_settled(cluster.phase))
        machine->uses = machine->believes = machine->prepared = machine->written = machine->read =
            cluster.generation;
}

static void act_once(size_t i)
{
    if (!is_seen(i) || !is_linked(i)) {
        catch_up(i);
        return;
    }
    struct cfg_rotation_view now = view_of(i);
    struct cfg_rotation_act act = cfg_rotation_next(&now);
    switch (act.kind) {
    case CFG_ROTATE_MAKE:
    case CFG_ROTATE_FETCH:
        machines[i].prepared = cluster.generation;
        break;
    case CFG_ROTATE_CARRY_OUT:
    case CFG_ROTATE_TELL:
        carry_out(i, act.phase, act.anew || act.kind == CFG_ROTATE_TELL);
        break;
    case CFG_ROTATE_ADVANCE:
        begin_phase((struct cfg_rotation){cluster.generation, act.phase, cluster.by});
        break;
    case CFG_ROTATE_TAKE_OVER:
        begin_phase((struct cfg_rotation){cluster.generation + 1, CFG_ROTATION_SPREAD, told[i].name});
        break;
    case CFG_ROTATE_CATCH_UP:
        catch_up(i);
        break;
    case CFG_ROTATE_NOTHING:
        break;
    }
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return *seed >> 33;
}

/* At most one of four is away at a time: a majority stays. */
static void power(size_t i)
{
    for (size_t k = 0; k < NODES; k++)
        if (k != i && !is_seen(k))
            return;
    machines[i].on = !machines[i].on;
    machines[i].woke = true;
    machines[i].read = machines[i].written;
}

static void whatever_happens_all_end_with_the_same(void **state)
{
    (void)state;
    for (uint64_t run = 0; run < 2000; run++) {
        uint64_t seed = run;
        for (size_t i = 0; i < NODES; i++) {
            machines[i] = (struct machine){.on = true};
            told[i] = nodes[i];
        }
        cluster = (struct cfg_rotation){.generation = 1, .phase = CFG_ROTATION_SPREAD, .by = "n2"};
        for (int step = 0; step < STEPS_MAX / 2; step++) {
            size_t i = next_random(&seed) % NODES;
            if (next_random(&seed) % 10 == 0)
                power(i);
            if (machines[i].on)
                act_once(i);
        }
        for (size_t i = 0; i < NODES; i++)
            if (!machines[i].on)
                machines[i] = (struct machine){.on = true,
                                               .uses = machines[i].uses,
                                               .believes = machines[i].believes,
                                               .prepared = machines[i].prepared,
                                               .written = machines[i].written,
                                               .read = machines[i].written};
        for (size_t step = 0; step < STEPS_MAX; step++)
            act_once(step % NODES);
        assert_int_equal(cluster.phase, CFG_ROTATION_DONE);
        for (size_t i = 0; i < NODES; i++) {
            assert_int_equal(machines[i].uses, cluster.generation);
            assert_int_equal(machines[i].believes, cluster.generation);
        }
    }
}

/* --- the small ones --- */

static void the_first_three_keep_the_authority(void **state)
{
    (void)state;
    struct cfg_corosync conf = {
        .count = 4,
        .nodes = {
            {.name = "a", .id = 1}, {.name = "b", .id = 2}, {.name = "c", .id = 5}, {.name = "d", .id = 7}}};
    assert_true(cfg_keeps_authority(&conf, "a"));
    assert_true(cfg_keeps_authority(&conf, "c"));
    assert_false(cfg_keeps_authority(&conf, "d"));
    assert_int_equal(cfg_corosync_remove(&conf, "a", NULL), ATL_OK);
    assert_true(cfg_keeps_authority(&conf, "d"));
    assert_false(cfg_keeps_authority(&conf, "a"));
}

static void renewal_is_due_at_two_thirds(void **state)
{
    (void)state;
    assert_false(cfg_renewal_due(1000, 1120, 1000));
    assert_false(cfg_renewal_due(1000, 1120, 1079));
    assert_true(cfg_renewal_due(1000, 1120, 1080));
    assert_true(cfg_renewal_due(1000, 1120, 5000));
    assert_true(cfg_renewal_due(1000, 1120, 999)); /* the clock was set back, or it is another's */
    assert_true(cfg_renewal_due(1000, 1000, 1000));
}

static void a_bundle_has_each_once(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"A\n", "", "A\n"},
                                           {"A\n", "B\n", "A\nB\n"},
                                           {"A\n", "A\n", "A\n"},
                                           {"A\n", "B\nA\nC\n", "A\nB\nC\n"},
                                           {"", "B\n", "B\n"}};
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct atl_buf out ATL_BUF_AT_EXIT = {0};
        cfg_bundle(cases[i][0], cases[i][1], &out);
        assert_string_equal(out.data, cases[i][2]);
    }
}

static void phases_have_names(void **state)
{
    (void)state;
    for (enum cfg_rotation_phase i = CFG_ROTATION_DONE; i < CFG_ROTATION_PHASES; i++)
        assert_true(cfg_rotation_phase_to_text(i)[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_begins_makes_and_the_others_fetch_from_him),
        cmocka_unit_test(parts_that_end_a_member_are_carried_out_in_turn),
        cmocka_unit_test(who_missed_the_first_part_begins_anew_with_the_second),
        cmocka_unit_test(the_first_who_is_online_advances_when_all_are_done),
        cmocka_unit_test(another_takes_over_while_nobody_uses_the_new_ones),
        cmocka_unit_test(who_was_away_catches_up_and_who_did_it_tells),
        cmocka_unit_test(the_witness_is_waited_for_and_gives_nothing),
        cmocka_unit_test(whatever_happens_all_end_with_the_same),
        cmocka_unit_test(the_first_three_keep_the_authority),
        cmocka_unit_test(renewal_is_due_at_two_thirds),
        cmocka_unit_test(a_bundle_has_each_once),
        cmocka_unit_test(phases_have_names),
    };
    struct CMUnitTest with_setup[ATL_COUNT(tests)];
    for (size_t i = 0; i < ATL_COUNT(tests); i++) {
        with_setup[i] = tests[i];
        with_setup[i].setup_func = set_up;
    }
    return cmocka_run_group_tests(with_setup, NULL, NULL);
}
