/* user.cfg and permissions: reading, writing, changing, who may what. */
#include "atl_test.h"

#include "atoll/access/v1/access.atl.h"
#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/pool/v1/pool.atl.h"
#include "pure/acl.h"

static struct atl_arena arena;
static struct atl_error err;

static int tear_down(void **state)
{
    (void)state;
    atl_arena_done(&arena);
    return 0;
}

static struct atl_acl *parse(const char *text)
{
    return atl_acl_parse(text, strlen(text), &arena, NULL);
}

static atl_privs may(const char *text, const char *user, const char *token, const char *path)
{
    struct atl_subject subject;
    assert_atl_ok(atl_subject_init(&subject, parse(text), user, token, 1000, &arena, &err), &err);
    return atl_subject_granted(&subject, path).privs;
}

static atl_privs role(const char *name)
{
    return atl_builtin_role(name)->privs;
}

/* --- text
 * --------------------------------------------------------------------------------------------------- */

static const char sample[] = "user:a@pve:1:0:Ann:%C3%85:a@b.example:says%3A hi::\n"
                             "user:b@pve:0:500::::::\n"
                             "token:a@pve!ci:0:1:for CI:\n"
                             "token:a@pve!full:2000:0::\n"
                             "group:ops:a@pve,b@pve:those who work:\n"
                             "pool:dev:for tests:100,101:local:\n"
                             "role:Own:VM.Audit,VM.Console:\n"
                             "acl:1:/:@ops:PVEAuditor:\n"
                             "acl:0:/vms/100:a@pve:Own:\n"
                             "acl:1:/vms/100:a@pve!ci:PVEVMUser:\n";

static void text_is_read_and_written_back_equal(void **state)
{
    (void)state;
    const struct atl_acl *acl = parse(sample);
    assert_int_equal(acl->user_count, 2);
    assert_string_equal(atl_acl_user(acl, "a@pve")->lastname, "\xc3\x85");
    assert_string_equal(atl_acl_user(acl, "a@pve")->comment, "says: hi");
    assert_false(atl_acl_user(acl, "b@pve")->enabled);
    assert_int_equal(acl->rule_count, 3);
    struct atl_buf once ATL_BUF_AT_EXIT = {0};
    struct atl_buf twice ATL_BUF_AT_EXIT = {0};
    atl_acl_write(acl, &once);
    assert_string_equal(once.data, sample);
    atl_acl_write(parse(once.data), &twice);
    assert_string_equal(once.data, twice.data);
}

static void bad_lines_are_kept_named_and_give_nothing(void **state)
{
    (void)state;
    const char *text = "user:a@pve:1:0:::::\n"
                       "user:no-realm:1:0:::::\n"
                       "nonsense\n"
                       "acl:1:no-path:a@pve:Administrator:\n"
                       "acl:1:/:ghost@pve,@ghosts,a@pve!ghost:Administrator:\n"
                       "token:ghost@pve!xx:0:0::\n";
    struct atl_errors warnings = {0};
    struct atl_acl *acl = atl_acl_parse(text, strlen(text), &arena, &warnings);
    assert_int_equal(acl->user_count, 1);
    assert_int_equal(acl->token_count, 0);
    assert_int_equal(acl->rule_count, 0);
    assert_int_equal(acl->unknown_count, 3);
    assert_string_equal(warnings.items[0].field, "line 2");
    /* Who is made later under that name gets nothing of what was ignored. */
    struct atl_buf out ATL_BUF_AT_EXIT = {0};
    (void)atl_acl_add_user(acl, "ghost@pve");
    atl_acl_write(acl, &out);
    assert_int_equal(may(out.data, "ghost@pve", NULL, "/"), 0);
}

static void a_line_with_a_zero_byte_is_dropped(void **state)
{
    (void)state;
    static const char text[] = "ac\r\0l:1:/:x\nuser:a@pve:1:0:::::\n";
    struct atl_errors warnings = {0};
    const struct atl_acl *acl = atl_acl_parse(text, sizeof text - 1, &arena, &warnings);
    assert_int_equal(acl->unknown_count, 0);
    assert_int_equal(acl->user_count, 1);
    assert_int_equal(warnings.count, 1);
}

static void what_refers_to_a_user_goes_with_him(void **state)
{
    (void)state;
    struct atl_acl *acl = parse(sample);
    atl_acl_drop_user(acl, "a@pve");
    assert_null(atl_acl_token(acl, "a@pve!ci"));
    assert_null(atl_acl_token(acl, "a@pve!full"));
    assert_false(atl_list_has(&atl_acl_group(acl, "ops")->members, "a@pve"));
    assert_int_equal(acl->rule_count, 1);
    atl_acl_drop_group(acl, "ops");
    assert_int_equal(acl->rule_count, 0);
}

static void names_are_checked(void **state)
{
    (void)state;
    static const char *const good[] = {"a@pve", "first.last@pam", "a@b@ad", "x-y_z@my-realm"};
    static const char *const bad[] = {
        "",
        "a",
        "@pve",
        "a@",
        "a b@pve",
        "a:b@pve",
        "a/b@pve",
        "a@p",
        "a@1x",
        "a,b@pve",
        "a!x@pve",
        "a\n@pve",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@pve"};
    for (size_t i = 0; i < ATL_COUNT(good); i++)
        assert_true(atl_userid_valid(good[i]));
    for (size_t i = 0; i < ATL_COUNT(bad); i++)
        if (atl_userid_valid(bad[i]))
            fail_msg("'%s' was taken for a user", bad[i]);
    assert_true(atl_tokenid_valid("a@pve!ci"));
    assert_false(atl_tokenid_valid("a@pve"));
    assert_false(atl_tokenid_valid("a@pve!"));
    assert_false(atl_tokenid_valid("a@pve!a b"));
    assert_string_equal(atl_acl_path("//vms//100/", &arena), "/vms/100");
    assert_string_equal(atl_acl_path("/", &arena), "/");
    assert_null(atl_acl_path("vms", &arena));
    assert_null(atl_acl_path("/nothing", &arena));
    assert_null(atl_acl_path("/vms/a b", &arena));
}

/* --- roles
 * -------------------------------------------------------------------------------------------------- */

static void privileges_and_roles_have_the_names_of_the_manual(void **state)
{
    (void)state;
    for (size_t i = 0; i < atl_priv_count; i++) {
        assert_true(atl_priv_from_text(atl_priv_names[i]) == (atl_privs)1 << i);
        if (i > 0)
            assert_true(strcmp(atl_priv_names[i - 1], atl_priv_names[i]) < 0);
    }
    assert_true(atl_priv_from_text("VM.Nothing") == 0);
    for (size_t i = 1; atl_builtin_role_at(i) != NULL; i++)
        assert_true(strcmp(atl_builtin_role_at(i - 1)->name, atl_builtin_role_at(i)->name) < 0);
    assert_true(role("Administrator") == atl_privs_all());
    assert_true(role("NoAccess") == 0);
    assert_false((role("PVEAdmin") & atl_priv_from_text("Permissions.Modify")) != 0);
    assert_false((role("PVEVMAdmin") & atl_priv_from_text("User.Modify")) != 0);
    assert_true((role("PVEVMAdmin") & role("PVEVMUser")) == role("PVEVMUser"));
    assert_null(atl_builtin_role("Nobody"));
}

/* --- evaluation
 * --------------------------------------------------------------------------------------------- */

#define U    "user:u@pve:1:0:::::\n"
#define UG   U "group:g:u@pve::\n"
#define R(n) role(n)

static void paths_inherit_and_the_deepest_wins(void **state)
{
    (void)state;
    assert_true(may(U, "u@pve", NULL, "/") == 0);
    assert_true(may(U "acl:1:/:u@pve:PVEAuditor:\n", "u@pve", NULL, "/vms/100") == R("PVEAuditor"));
    assert_true(may(U "acl:0:/:u@pve:PVEAuditor:\n", "u@pve", NULL, "/vms/100") == 0);
    assert_true(may(U "acl:0:/:u@pve:PVEAuditor:\n", "u@pve", NULL, "/") == R("PVEAuditor"));
    assert_true(may(U "acl:1:/:u@pve:PVEAuditor:\nacl:1:/vms:u@pve:PVEVMUser:\n", "u@pve", NULL,
                    "/vms/100") == R("PVEVMUser"));
    /* A deeper rule that does not propagate leaves what is below to the upper one. */
    assert_true(may(U "acl:1:/:u@pve:PVEAuditor:\nacl:0:/vms:u@pve:PVEVMUser:\n", "u@pve", NULL,
                    "/vms/100") == R("PVEAuditor"));
    assert_true(may(U "acl:1:/vms:u@pve:PVEVMUser:\n", "u@pve", NULL, "/vmsx") == 0);
    assert_true(may(U "acl:1:/vms/1:u@pve:PVEVMUser:\n", "u@pve", NULL, "/vms/10") == 0);
}

static void own_rules_win_over_those_of_groups(void **state)
{
    (void)state;
    assert_true(may(UG "acl:1:/vms:@g:PVEVMAdmin:\n", "u@pve", NULL, "/vms/1") == R("PVEVMAdmin"));
    assert_true(may(UG "acl:1:/vms:@g:PVEVMAdmin:\nacl:1:/vms:u@pve:PVEAuditor:\n", "u@pve", NULL,
                    "/vms/1") == R("PVEAuditor"));
    /* Deeper wins before that: a group's rule below his own. */
    assert_true(may(UG "acl:1:/vms/1:@g:PVEVMAdmin:\nacl:1:/vms:u@pve:PVEAuditor:\n", "u@pve", NULL,
                    "/vms/1") == R("PVEVMAdmin"));
    assert_true(may(UG "group:h:u@pve::\nacl:1:/:@g:PVESysAdmin:\nacl:1:/:@h:PVEPoolUser:\n", "u@pve", NULL,
                    "/") == (R("PVESysAdmin") | R("PVEPoolUser")));
}

static void no_access_takes_all_away(void **state)
{
    (void)state;
    assert_true(
        may(U "acl:1:/:u@pve:Administrator:\nacl:1:/vms/1:u@pve:NoAccess:\n", "u@pve", NULL, "/vms/1") == 0);
    assert_true(may(U "acl:1:/:u@pve:Administrator,NoAccess:\n", "u@pve", NULL, "/vms/1") == 0);
    assert_true(may(U "acl:1:/:u@pve:NoAccess:\nacl:1:/vms/1:u@pve:PVEVMUser:\n", "u@pve", NULL, "/vms/1") ==
                R("PVEVMUser"));
}

static void pools_lend_their_members_rights(void **state)
{
    (void)state;
    const char *text =
        U "pool:dev::100:local:\nacl:1:/pool/dev:u@pve:PVEVMUser:\nacl:1:/vms/101:u@pve:PVEAuditor:\n";
    assert_true(may(text, "u@pve", NULL, "/vms/100") == R("PVEVMUser"));
    assert_true(may(text, "u@pve", NULL, "/vms/101") == R("PVEAuditor"));
    assert_true(may(text, "u@pve", NULL, "/vms/102") == 0);
    assert_true(may(text, "u@pve", NULL, "/storage/local") == R("PVEVMUser"));
    assert_true(may(U "pool:dev::100::\nacl:1:/pool:u@pve:PVEVMUser:\nacl:1:/vms/100:u@pve:NoAccess:\n",
                    "u@pve", NULL, "/vms/100") == 0);
    assert_true(may(U "pool:a/b::100::\nacl:1:/pool/a:u@pve:PVEVMUser:\n", "u@pve", NULL, "/vms/100") ==
                R("PVEVMUser"));
}

static void tokens_have_their_own_rights_cut_with_the_users(void **state)
{
    (void)state;
    const char *text = U "token:u@pve!tok:0:1::\ntoken:u@pve!all:0:0::\nacl:1:/:u@pve:PVEAuditor:\n"
                         "acl:1:/vms:u@pve!tok:PVEVMAdmin:\n";
    assert_true(may(text, "u@pve", "tok", "/") == 0);
    assert_true(may(text, "u@pve", "tok", "/vms/1") == (R("PVEVMAdmin") & R("PVEAuditor")));
    assert_true(may(text, "u@pve", "all", "/vms/1") == R("PVEAuditor"));
    assert_true(may("token:root@pam!tok:0:1::\n", "root@pam", "tok", "/") == 0);
    assert_true(may("", "root@pam", NULL, "/anything") == atl_privs_all());
}

static enum atl_code subject(const char *text, const char *user, const char *token, int64_t now)
{
    struct atl_subject made;
    return atl_subject_init(&made, parse(text), user, token, now, &arena, &err);
}

static void users_and_tokens_end(void **state)
{
    (void)state;
    const char *text = "user:u@pve:1:100:::::\nuser:off@pve:0:0:::::\ntoken:u@pve!tok:50:1::\n";
    assert_int_equal(subject(text, "u@pve", NULL, 99), ATL_OK);
    assert_int_equal(subject(text, "u@pve", NULL, 100), ATL_E_UNAUTHENTICATED);
    assert_int_equal(subject(text, "u@pve", "tok", 49), ATL_OK);
    assert_int_equal(subject(text, "u@pve", "tok", 50), ATL_E_UNAUTHENTICATED);
    assert_int_equal(subject(text, "u@pve", "none", 1), ATL_E_UNAUTHENTICATED);
    assert_int_equal(subject(text, "off@pve", NULL, 1), ATL_E_UNAUTHENTICATED);
    assert_int_equal(subject(text, "nobody@pve", NULL, 1), ATL_E_UNAUTHENTICATED);
    assert_int_equal(subject("user:u@pve:1:x:::::\n", "u@pve", NULL, 1000), ATL_E_UNAUTHENTICATED);
}

/* --- all small cases against a slow reading of the manual
 * --------------------------------------------------- */

enum { PATHS = 3, ROLES = 3 };
static const char *const case_paths[PATHS] = {"/", "/vms", "/vms/1"};
static const char *const case_roles[ROLES] = {"PVEVMUser", "PVEAuditor", "NoAccess"};

struct small_case { /* per path and kind of subject: 0 none, else role and propagate */
    unsigned int user[PATHS];
    unsigned int group[PATHS];
};

static atl_privs slow_answer(const struct small_case *c, size_t path)
{
    atl_privs result = 0;
    for (size_t p = 0; p <= path; p++) {
        const unsigned int rules[2] = {c->user[p], c->group[p]};
        for (size_t k = 0; k < 2; k++) {
            if (rules[k] == 0)
                continue;
            bool propagate = (rules[k] - 1) / ROLES == 1;
            if (p != path && !propagate)
                continue;
            result = role(case_roles[(rules[k] - 1) % ROLES]);
            break; /* the group's rule on this path does not count */
        }
    }
    return result;
}

static void put_rule(struct atl_buf *text, size_t path, const char *who, unsigned int rule)
{
    if (rule != 0)
        atl_buf_printf(text, "acl:%u:%s:%s:%s:\n", (rule - 1) / ROLES, case_paths[path], who,
                       case_roles[(rule - 1) % ROLES]);
}

static void all_small_cases_agree_with_a_slow_reading(void **state)
{
    (void)state;
    enum { CHOICES = 2 * ROLES + 1, CASES = CHOICES * CHOICES * CHOICES * CHOICES * CHOICES * CHOICES };
    static const char people[] = UG;
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    for (unsigned int n = 0; n < CASES;
         n += 7) { /* 7 and the number of choices share nothing but the first digit */
        unsigned int rest = n + n / CHOICES % CHOICES;
        struct small_case c;
        for (size_t p = 0; p < PATHS; p++) {
            c.user[p] = rest % CHOICES;
            rest /= CHOICES;
            c.group[p] = rest % CHOICES;
            rest /= CHOICES;
        }
        atl_buf_reset(&text);
        atl_buf_text(&text, people);
        for (size_t p = 0; p < PATHS; p++) {
            put_rule(&text, p, "u@pve", c.user[p]);
            put_rule(&text, p, "@g", c.group[p]);
        }
        for (size_t p = 0; p < PATHS; p++)
            if (may(text.data, "u@pve", NULL, case_paths[p]) != slow_answer(&c, p))
                fail_msg("path %s with\n%s", case_paths[p], text.data);
        atl_arena_reset(&arena);
    }
}

/* --- permissions of methods
 * --------------------------------------------------------------------------------- */

static enum atl_code check(const struct atl_rpc *rpc, const void *input, const char *text, const char *user,
                           const char *token)
{
    struct atl_subject who;
    assert_atl_ok(atl_subject_init(&who, parse(text), user, token, 1000, &arena, &err), &err);
    return atl_perm_check(rpc->perm, rpc->input, input, &who, &arena, &err);
}

static void a_method_is_checked_against_its_parameters(void **state)
{
    (void)state;
    char dev[] = "dev";
    Atoll__Pool__V1__GetPoolRequest get = ATOLL__POOL__V1__GET_POOL_REQUEST__INIT;
    get.poolid = dev;
    const struct atl_rpc *rpc = &atl_rpc_pool_v1_Pools_GetPool;
    assert_int_equal(check(rpc, &get, U, "u@pve", NULL), ATL_E_DENIED);
    assert_string_equal(err.text, "Permission check failed (/pool/dev, Pool.Audit)");
    assert_int_equal(check(rpc, &get, U "acl:1:/pool/dev:u@pve:PVEPoolUser:\n", "u@pve", NULL), ATL_OK);
    assert_int_equal(check(rpc, &get, U "acl:1:/pool/other:u@pve:PVEPoolUser:\n", "u@pve", NULL),
                     ATL_E_DENIED);
    assert_int_equal(atl_perm_check(rpc->perm, rpc->input, &get.base, NULL, &arena, &err),
                     ATL_E_UNAUTHENTICATED);
    assert_int_equal(atl_perm_check(NULL, rpc->input, &get.base, NULL, &arena, &err), ATL_E_DENIED);
}

static void a_realm_is_taken_out_of_the_user(void **state)
{
    (void)state;
    char userid[] = "new@pve";
    Atoll__Access__V1__CreateUserRequest create = ATOLL__ACCESS__V1__CREATE_USER_REQUEST__INIT;
    create.userid = userid;
    const struct atl_rpc *rpc = &atl_rpc_access_v1_Access_CreateUser;
    assert_int_equal(check(rpc, &create, U "acl:1:/access/groups:u@pve:PVEUserAdmin:\n", "u@pve", NULL),
                     ATL_E_DENIED);
    assert_string_equal(err.text, "Permission check failed (/access/realm/pve, Realm.AllocateUser)");
    assert_int_equal(check(rpc, &create, U "acl:1:/access:u@pve:PVEUserAdmin:\n", "u@pve", NULL), ATL_OK);
}

static void the_user_himself_may_but_not_his_separate_token(void **state)
{
    (void)state;
    char userid[] = "u@pve";
    Atoll__Access__V1__ListTokensRequest list = ATOLL__ACCESS__V1__LIST_TOKENS_REQUEST__INIT;
    list.userid = userid;
    const struct atl_rpc *rpc = &atl_rpc_access_v1_Access_ListTokens;
    const char *text = U "user:v@pve:1:0:::::\ntoken:u@pve!tok:0:1::\n";
    assert_int_equal(check(rpc, &list, text, "u@pve", NULL), ATL_OK);
    assert_int_equal(check(rpc, &list, text, "v@pve", NULL), ATL_E_DENIED);
    assert_int_equal(check(rpc, &list, text, "u@pve", "tok"), ATL_E_DENIED);
}

static void expressions_are_evaluated_as_written(void **state)
{
    (void)state;
    static const char *const audit[] = {"VM.Audit", NULL};
    static const char *const alloc[] = {"Pool.Allocate", "Pool.Audit", NULL};
    static const char *const given[] = {"type", NULL};
    static const struct atl_perm vms = {.path = "/vms", .any = audit};
    static const struct atl_perm pool = {.path = "/pool/{poolid}", .all = alloc};
    static const struct atl_perm typed = {.path = "/vms", .any = audit, .when = given};
    static const struct atl_perm *const both[] = {&vms, &pool, NULL};
    static const struct atl_perm *const only_typed[] = {&typed, NULL};
    static const struct atl_perm any_of = {.or_ = both};
    static const struct atl_perm all_of = {.and_ = both};
    static const struct atl_perm if_typed = {.and_ = only_typed};
    static const struct atl_perm nothing = {.path = NULL};
    struct atl_rpc rpc = atl_rpc_pool_v1_Pools_GetPool;
    char dev[] = "dev";
    char qemu[] = "qemu";
    Atoll__Pool__V1__GetPoolRequest get = ATOLL__POOL__V1__GET_POOL_REQUEST__INIT;
    get.poolid = dev;
    const char *one = U "acl:1:/vms:u@pve:PVEVMUser:\n";
    const char *two = U "acl:1:/vms:u@pve:PVEVMUser:\nacl:1:/pool:u@pve:PVEPoolAdmin:\n";
    rpc.perm = &any_of;
    assert_int_equal(check(&rpc, &get, one, "u@pve", NULL), ATL_OK);
    assert_int_equal(check(&rpc, &get, U, "u@pve", NULL), ATL_E_DENIED);
    rpc.perm = &all_of;
    assert_int_equal(check(&rpc, &get, one, "u@pve", NULL), ATL_E_DENIED);
    assert_string_equal(err.text, "Permission check failed (/pool/dev, Pool.Allocate)");
    assert_int_equal(check(&rpc, &get, two, "u@pve", NULL), ATL_OK);
    rpc.perm = &if_typed;
    assert_int_equal(check(&rpc, &get, U, "u@pve", NULL), ATL_OK);
    get.type = qemu;
    assert_int_equal(check(&rpc, &get, U, "u@pve", NULL), ATL_E_DENIED);
    rpc.perm = &nothing;
    assert_int_equal(check(&rpc, &get, two, "u@pve", NULL), ATL_E_DENIED);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(text_is_read_and_written_back_equal),
        TEST(bad_lines_are_kept_named_and_give_nothing),
        TEST(a_line_with_a_zero_byte_is_dropped),
        TEST(what_refers_to_a_user_goes_with_him),
        TEST(names_are_checked),
        TEST(privileges_and_roles_have_the_names_of_the_manual),
        TEST(paths_inherit_and_the_deepest_wins),
        TEST(own_rules_win_over_those_of_groups),
        TEST(no_access_takes_all_away),
        TEST(pools_lend_their_members_rights),
        TEST(tokens_have_their_own_rights_cut_with_the_users),
        TEST(users_and_tokens_end),
        TEST(all_small_cases_agree_with_a_slow_reading),
        TEST(a_method_is_checked_against_its_parameters),
        TEST(a_realm_is_taken_out_of_the_user),
        TEST(the_user_himself_may_but_not_his_separate_token),
        TEST(expressions_are_evaluated_as_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
