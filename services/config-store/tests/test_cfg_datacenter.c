/* datacenter.cfg as the API shows and changes it. */
#include "atl_test.h"
#include "atoll/cluster/v1/options.atl.h"
#include "core/datacenter.h"

enum { PARAMS_MAX = 6 };

struct change {
    const char *before;
    const char *params[PARAMS_MAX][2];
    enum atl_code code;
    const char *after; /* the file, or part of the sentence that refuses it */
};

static const Atoll__Cluster__V1__SetOptionsRequest *wish_of(const struct change *change,
                                                            struct atl_arena *arena)
{
    const struct atl_message *table = &atl_msg_cluster_v1_SetOptionsRequest;
    struct atl_param params[PARAMS_MAX];
    struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
    ProtobufCMessage *wish = NULL;
    size_t count = 0;
    for (; count < PARAMS_MAX && change->params[count][0] != NULL; count++)
        params[count] = (struct atl_param){change->params[count][0], change->params[count][1]};
    if (atl_params_decode(table, params, count, arena, &wish, errors) != ATL_OK)
        fail_msg("%s: %s", change->params[0][0], errors->items[0].text);
    return (const void *)wish;
}

static void check(const struct change *change)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct atl_buf out ATL_BUF_AT_EXIT = {0};
    struct atl_errors errors = {0};
    struct atl_error err = {0};
    enum atl_code code = cfg_datacenter_change(change->before, strlen(change->before),
                                               wish_of(change, &arena), &arena, &out, &errors, &err);
    const char *text = out.length > 0 ? out.data : "";
    if (code != change->code)
        fail_msg("%s: %d, %s", change->after, code, err.text);
    if (code == ATL_OK)
        assert_string_equal(text, change->after);
    else if (strstr(err.text, change->after) == NULL)
        fail_msg("'%s' is not in '%s'", change->after, err.text);
}

static void options_are_set_and_taken_away(void **state)
{
    static const struct change changes[] = {
        {"",
         {{"ha", "shutdown_policy=migrate,tick=1000"}},
         ATL_OK,
         "ha: shutdown_policy=migrate,tick=1000\n"},
        {"", {{"migration", "secure"}}, ATL_OK, "migration: secure\n"},
        {"keyboard: de\nbwlimit: migration=5\n",
         {{"bwlimit", "default=7"}, {"next-id", "lower=200,upper=300"}},
         ATL_OK,
         "bwlimit: default=7\nkeyboard: de\nnext-id: lower=200,upper=300\n"},
        {"keyboard: de\nmax_workers: 4\n", {{"delete", "keyboard,mac_prefix"}}, ATL_OK, "max_workers: 4\n"},
        {"keyboard: de\n", {{"delete", "keyboard"}}, ATL_OK, ""},
        {"", {{"description", "two\nlines"}, {"language", "de"}}, ATL_OK, "#two\n#lines\nlanguage: de\n"},
        {"",
         {{"tag-style", "shape=full,color-map=a:ff0000;b:00ff00:000000"}},
         ATL_OK,
         "tag-style: color-map=a:ff0000;b:00ff00:000000,shape=full\n"},
        {"",
         {{"crs", "ha=static,ha-auto-rebalance=1,rebalance=advise"}},
         ATL_OK,
         "crs: ha=static,ha-auto-rebalance=1,rebalance=advise\n"},
        {"",
         {{"fencing", "both"}, {"notify", "fencing=never,target-fencing=x"}},
         ATL_OK,
         "fencing: both\nnotify: fencing=never,target-fencing=x\n"},
    };
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(changes); i++)
        check(&changes[i]);
}

static void lines_of_others_survive(void **state)
{
    static const struct change changes[] = {
        {"colour: red\nkeyboard: de\n",
         {{"language", "de"}},
         ATL_OK,
         "keyboard: de\nlanguage: de\ncolour: red\n"},
        /* what cannot be read is kept until it is replaced or taken away */
        {"ha: colour=red\n", {{"language", "de"}}, ATL_OK, "language: de\nha: colour=red\n"},
        {"ha: colour=red\n", {{"ha", "shutdown_policy=freeze"}}, ATL_OK, "ha: shutdown_policy=freeze\n"},
        {"ha: colour=red\nlanguage: de\n", {{"delete", "ha"}}, ATL_OK, "language: de\n"},
        {"colour: red\nlanguage: de\n", {{"delete", "colour"}}, ATL_OK, "language: de\n"},
    };
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(changes); i++)
        check(&changes[i]);
}

static void what_cannot_be_is_refused(void **state)
{
    static const struct change changes[] = {
        {"", {{"delete", "colour"}}, ATL_E_INVALID, "unknown option 'colour'"},
        {"", {{"next-id", "lower=300,upper=300"}}, ATL_E_INVALID, "lower=300 is not below upper=300"},
        {"", {{"next-id", "lower=2000000"}}, ATL_E_INVALID, "lower=2000000 is not below upper=1000000"},
        {"", {{"fencing", "hardware"}}, ATL_E_UNIMPLEMENTED, "without watchdogs"},
        {"keyboard: de\n",
         {{"language", "de"}, {"digest", "0000000000000000000000000000000000000000"}},
         ATL_E_CONFLICT,
         "changed"},
    };
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(changes); i++)
        check(&changes[i]);
}

static void a_change_of_nothing_is_a_fixed_point(void **state)
{
    static const char text[] = "#notes\nbwlimit: default=7,migration=0\nconsole: html5\n"
                               "crs: ha=static\nemail_from: a@b.example\nha: shutdown_policy=freeze\n"
                               "mac_prefix: BC:24:11\nnext-id: upper=500\ncolour: red\n";
    const struct change change = {text, {{NULL, NULL}}, ATL_OK, text};
    (void)state;
    check(&change);
}

static void everyone_sees_what_he_needs(void **state)
{
    static const char text[] = "console: html5\nha: shutdown_policy=freeze\nhttp_proxy: http://proxy\n"
                               "tag-style: shape=full\n";
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct atl_buf out ATL_BUF_AT_EXIT = {0};
    Atoll__Cluster__V1__Datacenter *options = cfg_datacenter_read(text, strlen(text), &arena);
    (void)state;
    atl_json_encode(&atl_msg_cluster_v1_Datacenter, &options->base, &out, NULL);
    assert_string_equal(out.data, "{\"console\":\"html5\",\"ha\":\"shutdown_policy=freeze\","
                                  "\"http_proxy\":\"http://proxy\",\"tag-style\":\"shape=full\"}");
    cfg_datacenter_reduce(options);
    atl_buf_reset(&out);
    atl_json_encode(&atl_msg_cluster_v1_Datacenter, &options->base, &out, NULL);
    assert_string_equal(out.data, "{\"console\":\"html5\",\"tag-style\":\"shape=full\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_set_and_taken_away),
        cmocka_unit_test(lines_of_others_survive),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_change_of_nothing_is_a_fixed_point),
        cmocka_unit_test(everyone_sees_what_he_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
