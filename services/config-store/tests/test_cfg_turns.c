/* Changes that take turns: in order, one at a time; who waits when nothing can be changed goes on without. */
#include "atl_test.h"

#include "turns.h"

struct fixture {
    struct atl_loop *loop;
    struct cfg_turns *turns;
    char log[64]; /* a letter each: capital with a turn, small without */
    size_t length;
};

struct one {
    struct fixture *f;
    char name;
};

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    f->loop = atl_loop_new();
    f->turns = cfg_turns_new(f->loop);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cfg_turns_free(&f->turns);
    atl_loop_free(f->loop);
    free(f);
    return 0;
}

static void on_turn(bool taken, void *user)
{
    struct one *one = user;
    one->f->log[one->f->length++] = (char)(taken ? one->name : one->name | 0x20);
}

static void step(struct fixture *f)
{
    for (int i = 0; i < 3; i++)
        atl_loop_step(f->loop, ATL_MS);
}

static void each_waits_for_the_one_before(void **state)
{
    struct fixture *f = *state;
    struct one a = {f, 'A'};
    struct one b = {f, 'B'};
    struct one c = {f, 'C'};
    cfg_turns_wait(f->turns, on_turn, &a);
    cfg_turns_wait(f->turns, on_turn, &b);
    cfg_turns_wait(f->turns, on_turn, &c);
    step(f);
    assert_string_equal(f->log, "A");
    cfg_turns_end(f->turns, false);
    step(f);
    assert_string_equal(f->log, "AB");
    cfg_turns_end(f->turns, false);
    step(f);
    assert_string_equal(f->log, "ABC");
    cfg_turns_end(f->turns, false);
}

static void who_waits_when_nothing_can_be_changed_goes_on_without(void **state)
{
    struct fixture *f = *state;
    struct one a = {f, 'A'};
    struct one b = {f, 'B'};
    struct one c = {f, 'C'};
    struct one d = {f, 'D'};
    cfg_turns_wait(f->turns, on_turn, &a);
    cfg_turns_wait(f->turns, on_turn, &b);
    cfg_turns_wait(f->turns, on_turn, &c);
    cfg_turns_skip(f->turns);
    assert_string_equal(f->log, "Abc");
    cfg_turns_wait(f->turns, on_turn, &d);
    step(f);
    assert_string_equal(f->log, "Abc"); /* the first one still has its turn */
    cfg_turns_end(f->turns, false);
    step(f);
    assert_string_equal(f->log, "AbcD");
    cfg_turns_end(f->turns, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_waits_for_the_one_before, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits_when_nothing_can_be_changed_goes_on_without, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
