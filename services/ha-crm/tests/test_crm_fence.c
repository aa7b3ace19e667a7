/* What fence agents may be told, when they are asked, what their answers prove. */
#include "atl_test.h"
#include "core/fence.h"

/* --- what an agent is told --- */

static void options_that_harm_are_refused(void **state)
{
    static const struct {
        const char *options;
        const char *wrong; /* part of the sentence; NULL: nothing is */
    } rows[] = {
        {"", NULL},
        {"ip=10.0.0.5,username=atoll,lanplus=1", NULL},
        {"ip=10.0.0.5,snmp_version=2c,community=@", NULL},
        {"ip", "'ip' is not KEY=VALUE"},
        {"=5", "is not KEY=VALUE"},
        {"ip=1\naction=on", "is not KEY=VALUE"},
        {"i p=1", "is not KEY=VALUE"},
        {"-ip=1", "is not KEY=VALUE"},
        {"ip=1,ip=2", "'ip' is given twice"},
        {"ip=1,action=on", "'action' cannot be given here"},
        {"method=cycle", "'method' cannot be given here"},
        {"passwd_script=/tmp/x", "'passwd_script' cannot be given here"},
        {"Passwd-Script=/tmp/x", "cannot be given here"},
        {"ssh_options=-oProxyCommand=x", "cannot be given here"},
        {"ipmitool_path=/tmp/x", "cannot be given here"},
        {"debug_file=/tmp/x", "cannot be given here"},
        {"verbose=1", "cannot be given here"},
        {"password=hidden", "'password' is a secret"},
        {"passwd=hidden", "'passwd' is a secret"},
        {"community=hidden", "'community' is a secret"},
        {"community=@x", "'community' is a secret"},
        {"secret_key=hidden", "'secret_key' is a secret"},
        {"a234567890123456789012345678901234567890123456789012345678901234567=1", "cannot be given here"},
        {"a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1,l=1,m=1,n=1,o=1,p=1,q=1,r=1,s=1,t=1,u=1,v=1,w=1,x=1,y="
         "1,"
         "z=1,aa=1,ab=1,ac=1,ad=1,ae=1,af=1,ag=1",
         "more than 32"},
    };
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        struct atl_errors errors = {0};
        crm_fence_check(rows[i].options, &errors);
        const char *said = errors.count > 0 ? errors.items[0].text : NULL;
        if ((said == NULL) != (rows[i].wrong == NULL) ||
            (said != NULL && strstr(said, rows[i].wrong) == NULL))
            fail_msg("%s: %s", rows[i].options, said != NULL ? said : "nothing is wrong");
        if (said != NULL && (strcmp(errors.items[0].field, "options") != 0 || strstr(said, "hidden") != NULL))
            fail_msg("%s: %s: %s", rows[i].options, errors.items[0].field, said);
    }
}

static void an_agent_reads_what_it_is_told(void **state)
{
    static const struct {
        const char *options;
        const char *password;
        const char *input;
    } rows[] = {
        {NULL, NULL, "action=off\n"},
        {"ip=10.0.0.5,username=atoll", "s3=cret",
         "action=off\nip=10.0.0.5\nusername=atoll\npassword=s3=cret\n"},
        {"ip=10.0.0.5,community=@,plug=3", "word", "action=off\nip=10.0.0.5\ncommunity=word\nplug=3\n"},
        {"community=@", NULL, "action=off\n"},
    };
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(rows); i++)
        assert_string_equal(crm_fence_input("off", rows[i].options, rows[i].password, &arena), rows[i].input);
}

static void what_an_agent_says_is_told_on_without_the_password(void **state)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    (void)state;
    assert_string_equal(crm_fence_words("", NULL, &arena), "it says nothing");
    assert_string_equal(crm_fence_words("\n\n", NULL, &arena), "it says nothing");
    assert_string_equal(crm_fence_words("first\nConnection\ttimed out\n\n", "word", &arena),
                        "Connection timed out");
    assert_null(strstr(crm_fence_words("login with s3cret\nfailed\n", "s3cret", &arena), "s3cret"));
    assert_null(strstr(crm_fence_words("failed: s3cret\n", "s3cret", &arena), "s3cret"));
    char long_line[1001];
    memset(long_line, 'x', 1000);
    long_line[1000] = '\0';
    assert_int_equal(strlen(crm_fence_words(long_line, NULL, &arena)), 200);
}

/* --- when it is asked, and what that proves --- */

static const struct crm_fence_seen before = {1, 10, 1, 20};

static void off_counts_when_the_device_says_so(void **state)
{
    struct crm_fence fence = {0};
    (void)state;
    assert_int_equal(crm_fence_next(&fence, 0), CRM_FENCE_REST);
    crm_fence_want(&fence, &before, 0);
    assert_int_equal(crm_fence_next(&fence, 0), CRM_FENCE_OFF);
    assert_false(crm_fence_answer(&fence, true, &before, ATL_SECOND)); /* it did as told: that is no proof */
    assert_false(crm_fence_holds(&fence, false, &before));
    assert_int_equal(crm_fence_next(&fence, ATL_SECOND), CRM_FENCE_STATUS);
    assert_true(crm_fence_answer(&fence, true, &before, 2 * ATL_SECOND));
    assert_true(crm_fence_holds(&fence, false, &before));
    assert_int_equal(crm_fence_next(&fence, 9 * ATL_SECOND), CRM_FENCE_REST);
}

/* Switched off by hand before: the agent's "off" fails, its status counts. */
static void a_failed_off_is_followed_by_the_question(void **state)
{
    struct crm_fence fence = {0};
    (void)state;
    crm_fence_want(&fence, &before, 0);
    assert_false(crm_fence_answer(&fence, false, &before, 0));
    assert_int_equal(crm_fence_next(&fence, 0), CRM_FENCE_STATUS);
    assert_true(crm_fence_answer(&fence, true, &before, 0));
}

static void a_device_that_never_says_off_is_asked_ever_less_often(void **state)
{
    struct crm_fence fence = {0};
    atl_ns now = 0;
    int pauses[8];
    (void)state;
    for (int go = 0; go < 8; go++) {
        crm_fence_want(&fence, &before, now);
        assert_int_equal(crm_fence_next(&fence, now), CRM_FENCE_OFF);
        assert_false(crm_fence_answer(&fence, true, &before, now));
        for (int i = 0; i < CRM_FENCE_TRIES; i++) {
            assert_int_equal(crm_fence_next(&fence, now), CRM_FENCE_STATUS);
            assert_false(crm_fence_answer(&fence, false, &before, now));
            if (i + 1 < CRM_FENCE_TRIES) {
                assert_int_equal(crm_fence_next(&fence, now), CRM_FENCE_REST);
                now += ATL_SECOND;
            }
        }
        assert_false(crm_fence_holds(&fence, false, &before));
        atl_ns gave_up = now;
        for (;; now += ATL_SECOND) {
            crm_fence_want(&fence, &before, now);
            if (crm_fence_next(&fence, now) == CRM_FENCE_OFF)
                break;
            assert_true(now - gave_up <= CRM_FENCE_PAUSE_MAX_S * ATL_SECOND);
        }
        pauses[go] = (int)((now - gave_up) / ATL_SECOND);
    }
    const int expected[] = {1, 2, 4, 8, 16, 32, 60, 60};
    assert_memory_equal(pauses, expected, sizeof expected);
}

static void whoever_renews_is_not_off(void **state)
{
    static const struct {
        bool member;
        struct crm_fence_seen seen;
        bool holds;
    } rows[] = {
        {false, {1, 10, 1, 20}, true},  {true, {1, 10, 1, 20}, false},  {false, {1, 11, 1, 20}, false},
        {false, {2, 10, 1, 20}, false}, {false, {1, 10, 1, 21}, false}, {false, {1, 10, 2, 20}, false},
        {false, {0, 0, 1, 20}, false},
    };
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        struct crm_fence fence = {0};
        crm_fence_want(&fence, &before, 0);
        assert_false(crm_fence_answer(&fence, true, &before, 0));
        assert_true(crm_fence_answer(&fence, true, &before, 0));
        if (crm_fence_holds(&fence, rows[i].member, &rows[i].seen) != rows[i].holds)
            fail_msg("row %zu", i);
        /* and what was once disproved stays so */
        assert_int_equal(crm_fence_holds(&fence, false, &before), rows[i].holds);
    }
}

static void a_node_that_took_its_lock_again_meanwhile_is_not_off(void **state)
{
    const struct crm_fence_seen after = {1, 11, 1, 20};
    struct crm_fence fence = {0};
    (void)state;
    crm_fence_want(&fence, &before, 0);
    assert_false(crm_fence_answer(&fence, true, &before, 0));
    assert_false(crm_fence_answer(&fence, true, &after, 0));
    assert_false(crm_fence_holds(&fence, false, &after));
    assert_false(crm_fence_holds(&fence, false, &before));
}

/* The last beat may arrive in our copy after the agent was asked. */
static void a_beat_from_before_the_proof_does_not_matter(void **state)
{
    const struct crm_fence_seen later = {1, 10, 1, 21};
    struct crm_fence fence = {0};
    (void)state;
    crm_fence_want(&fence, &before, 0);
    assert_false(crm_fence_answer(&fence, true, &before, 0));
    assert_true(crm_fence_answer(&fence, true, &later, 0));
    assert_true(crm_fence_holds(&fence, false, &later));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_that_harm_are_refused),
        cmocka_unit_test(an_agent_reads_what_it_is_told),
        cmocka_unit_test(what_an_agent_says_is_told_on_without_the_password),
        cmocka_unit_test(off_counts_when_the_device_says_so),
        cmocka_unit_test(a_failed_off_is_followed_by_the_question),
        cmocka_unit_test(a_device_that_never_says_off_is_asked_ever_less_often),
        cmocka_unit_test(whoever_renews_is_not_off),
        cmocka_unit_test(a_node_that_took_its_lock_again_meanwhile_is_not_off),
        cmocka_unit_test(a_beat_from_before_the_proof_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
