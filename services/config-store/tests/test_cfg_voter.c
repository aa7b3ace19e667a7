/* Whether a node's etcd is to be a member of the cluster's. */
#include "atl_test.h"
#include "core/voter.h"

static void all_that_can_be_has_its_answer(void **state)
{
    (void)state;
    static const struct {
        struct cfg_voter_view view;
        enum cfg_voter_act act;
    } rows[] = {
        {{.votes = false}, CFG_VOTER_NOTHING},
        {{.votes = false, .has_files = true, .asked = true, .unlisted = 9}, CFG_VOTER_NOTHING},
        {{.votes = true}, CFG_VOTER_ASK},
        {{.votes = true, .has_files = true}, CFG_VOTER_ASK},
        {{.votes = true, .asked = true, .unlisted = 1}, CFG_VOTER_ADD},
        {{.votes = true, .asked = true, .listed = true}, CFG_VOTER_REMOVE},
        {{.votes = true, .has_files = true, .asked = true, .listed = true}, CFG_VOTER_NOTHING},
        {{.votes = true, .has_files = true, .asked = true, .unlisted = CFG_VOTER_SURE - 1},
         CFG_VOTER_NOTHING},
        {{.votes = true, .has_files = true, .asked = true, .unlisted = CFG_VOTER_SURE}, CFG_VOTER_WIPE},
    };
    for (size_t i = 0; i < ATL_COUNT(rows); i++)
        assert_int_equal(cfg_voter_next(&rows[i].view), rows[i].act);
}

/* What an act makes of the node and of etcd. */
static void carry_out(enum cfg_voter_act act, struct cfg_voter_view *view)
{
    view->unlisted = view->listed ? 0 : view->unlisted + 1;
    view->has_files = (view->has_files || act == CFG_VOTER_ADD) && act != CFG_VOTER_WIPE;
    view->listed = (view->listed || act == CFG_VOTER_ADD) && act != CFG_VOTER_REMOVE;
}

/* From any state it ends as a member with files. */
static void it_ends_as_a_member(void **state)
{
    (void)state;
    for (unsigned int i = 0; i < 4; i++) {
        struct cfg_voter_view view = {
            .votes = true, .asked = true, .has_files = (i & 1) != 0, .listed = (i & 2) != 0};
        for (int step = 0; step < 10; step++)
            carry_out(cfg_voter_next(&view), &view);
        assert_true(view.has_files);
        assert_true(view.listed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_can_be_has_its_answer),
        cmocka_unit_test(it_ends_as_a_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
