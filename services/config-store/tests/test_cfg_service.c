/* One real config-store and its callers: the tree, watches, locks, logins, permissions, the status view. */
#include "atl_test.h"

#include <signal.h>
#include <sys/wait.h>

#include "atoll/access/v1/access.atl.h"
#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/pool/v1/pool.atl.h"
#include "atoll/store/v1/identity.atl.h"
#include "atoll/store/v1/status.atl.h"
#include "atoll/store/v1/store.atl.h"
#include "atoll/task/v1/common.pb-c.h"
#include "cfg_fixture.h"
#include "io/guard.h"
#include "io/mirror.h"
#include "io/treelock.h"
#include "service_engine.h"

static struct cfg_fixture f;
static struct atl_error err;

static char admin_name[] = "admin@pve";
static char admin_password[] = "correct horse";

static int set_up(void **state)
{
    (void)state;
    cfg_fixture_init(&f);
    service_engine_open(f.engine);
    cfg_fixture_start(&f);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int status = cfg_fixture_stop(&f, SIGTERM);
    cfg_fixture_done(&f);
    service_engine_close();
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

/* --- helpers
 * ------------------------------------------------------------------------------------------------ */

static struct atl_call_options with(const Atoll__Bus__V1__SignedAssertion *assertion)
{
    size_t size = atoll__bus__v1__signed_assertion__get_packed_size(assertion);
    uint8_t *packed = atl_arena_alloc(&f.arena, size);
    (void)atoll__bus__v1__signed_assertion__pack(assertion, packed);
    return (struct atl_call_options){.assertion = packed, .assertion_size = size};
}

static struct atl_call_options as_root(void)
{
    Atoll__Store__V1__LocalAssertionRequest input = ATOLL__STORE__V1__LOCAL_ASSERTION_REQUEST__INIT;
    const void *output = NULL;
    assert_atl_ok(
        cfg_fixture_call(&f, f.cli, &atl_rpc_store_v1_Identity_LocalAssertion, &input, NULL, &output, &err),
        &err);
    return with(((const Atoll__Store__V1__AuthenticateReply *)output)->assertion);
}

static void make_admin(void)
{
    Atoll__Store__V1__SetPasswordRequest input = ATOLL__STORE__V1__SET_PASSWORD_REQUEST__INIT;
    input.userid = admin_name;
    input.password = admin_password;
    input.has_create = input.create = 1;
    input.has_administrator = input.administrator = 1;
    assert_atl_ok(
        cfg_fixture_call(&f, f.cli, &atl_rpc_store_v1_Identity_SetPassword, &input, NULL, NULL, &err), &err);
}

static enum atl_code log_in(char *user, char *password, const Atoll__Access__V1__LoginReply **ret)
{
    Atoll__Access__V1__LoginRequest input = ATOLL__ACCESS__V1__LOGIN_REQUEST__INIT;
    input.username = user;
    input.password = password;
    const void *output = NULL;
    enum atl_code code =
        cfg_fixture_call(&f, f.gateway, &atl_rpc_access_v1_Access_Login, &input, NULL, &output, &err);
    if (ret != NULL)
        *ret = output;
    return code;
}

static enum atl_code authenticate(char *ticket, char *csrf, char *token, bool write,
                                  const Atoll__Store__V1__AuthenticateReply **ret)
{
    Atoll__Store__V1__AuthenticateRequest input = ATOLL__STORE__V1__AUTHENTICATE_REQUEST__INIT;
    input.ticket = ticket;
    input.csrf = csrf;
    input.token = token;
    input.has_write = 1;
    input.write = write;
    const void *output = NULL;
    enum atl_code code =
        cfg_fixture_call(&f, f.gateway, &atl_rpc_store_v1_Identity_Authenticate, &input, NULL, &output, &err);
    if (ret != NULL)
        *ret = output;
    return code;
}

static struct atl_call_options as_admin(void)
{
    const Atoll__Access__V1__LoginReply *login = NULL;
    assert_atl_ok(log_in(admin_name, admin_password, &login), &err);
    const Atoll__Store__V1__AuthenticateReply *reply = NULL;
    assert_atl_ok(authenticate(login->ticket, login->csrfpreventiontoken, NULL, true, &reply), &err);
    return with(reply->assertion);
}

static void put(const char *path, const char *text)
{
    struct atl_txn txn ATL_TXN_AT_EXIT;
    atl_txn_init(&txn);
    atl_txn_put(&txn, path, text, strlen(text));
    assert_atl_ok(atl_txn_send_wait(f.cli, &txn, 0, NULL, &err), &err);
}

/* --- tests
 * -------------------------------------------------------------------------------------------------- */

static void a_write_is_read_back_and_survives_a_kill(void **state)
{
    (void)state;
    put("datacenter.cfg", "keyboard: de\n");
    assert_int_equal(WTERMSIG(cfg_fixture_stop(&f, SIGKILL)), SIGKILL);
    cfg_fixture_start(&f);
    struct atl_file file;
    assert_atl_ok(atl_store_get_wait(f.compute, "datacenter.cfg", &f.arena, &file, &err), &err);
    assert_string_equal(file.bytes, "keyboard: de\n");
    service_engine_check(f.dir);
}

static void a_read_as_of_now_says_no_age(void **state)
{
    (void)state;
    static char path[] = "nodes/pve1/lxc/170.conf";
    put(path, "x");
    Atoll__Store__V1__GetRequest get = ATOLL__STORE__V1__GET_REQUEST__INIT;
    get.path = path;
    get.has_linearizable = get.linearizable = 1;
    const void *output = NULL;
    assert_atl_ok(cfg_fixture_call(&f, f.cli, &atl_rpc_store_v1_Store_Get, &get, NULL, &output, &err), &err);
    const Atoll__Store__V1__GetReply *reply = output;
    assert_int_equal(reply->file->content.len, 1);
    assert_false(reply->has_age_ms);
}

static void secrets_are_closed_to_agents(void **state)
{
    (void)state;
    struct atl_file file;
    assert_int_equal(atl_store_get_wait(f.compute, "priv/authkey.key", &f.arena, &file, &err), ATL_E_DENIED);
    assert_atl_ok(atl_store_get_wait(f.cli, "priv/authkey.key", &f.arena, &file, &err), &err);
    struct atl_txn txn ATL_TXN_AT_EXIT;
    atl_txn_init(&txn);
    atl_txn_put(&txn, "user.cfg", "", 0);
    assert_int_equal(atl_txn_send_wait(f.compute, &txn, 0, NULL, &err), ATL_E_DENIED);
    struct atl_txn probe ATL_TXN_AT_EXIT;
    atl_txn_init(&probe);
    atl_txn_exists(&probe, "priv/shadow.cfg");
    assert_int_equal(atl_txn_send_wait(f.compute, &probe, 0, NULL, &err), ATL_E_DENIED);
    Atoll__Store__V1__GetRequest get = ATOLL__STORE__V1__GET_REQUEST__INIT;
    char path[] = "user.cfg";
    get.path = path;
    assert_int_not_equal(cfg_fixture_call(&f, f.gateway, &atl_rpc_store_v1_Store_Get, &get, NULL, NULL, &err),
                         ATL_OK);
}

static void a_retried_request_is_done_once(void **state)
{
    (void)state;
    Atoll__Store__V1__Operation operation = ATOLL__STORE__V1__OPERATION__INIT;
    char kind[] = "put";
    char path[] = "nodes/pve1/qemu-server/900.conf";
    operation.kind = kind;
    operation.path = path;
    operation.has_content = 1;
    Atoll__Store__V1__Operation *operations[] = {&operation};
    Atoll__Store__V1__Compare compare = ATOLL__STORE__V1__COMPARE__INIT;
    compare.path = path;
    compare.has_absent = compare.absent = 1;
    Atoll__Store__V1__Compare *compares[] = {&compare};
    Atoll__Store__V1__TxnRequest input = ATOLL__STORE__V1__TXN_REQUEST__INIT;
    input.n_operation = input.n_compare = 1;
    input.operation = operations;
    input.compare = compares;
    static const uint8_t id[ATL_REQUEST_ID_SIZE] = {1, 2, 3};
    const struct atl_call_options options = {.request_id = id};
    const void *first = NULL;
    assert_atl_ok(
        cfg_fixture_call(&f, f.compute, &atl_rpc_store_v1_Store_Txn, &input, &options, &first, &err), &err);
    uint64_t number = ((const Atoll__Store__V1__TxnReply *)first)->revision->number;
    (void)cfg_fixture_stop(&f, SIGKILL); /* what was recorded must be on disk, not in memory */
    cfg_fixture_start(&f);
    const void *second = NULL;
    assert_atl_ok(
        cfg_fixture_call(&f, f.compute, &atl_rpc_store_v1_Store_Txn, &input, &options, &second, &err), &err);
    assert_int_equal(((const Atoll__Store__V1__TxnReply *)second)->revision->number, number);
    assert_true(((const Atoll__Store__V1__TxnReply *)second)->repeated_request);
    assert_int_equal(cfg_fixture_call(&f, f.compute, &atl_rpc_store_v1_Store_Txn, &input, NULL, NULL, &err),
                     ATL_E_EXISTS);
    assert_string_equal(err.text, "unable to create VM 900 - VM 900 already exists on node 'pve1'");
}

static void count_batch(void *user)
{
    (*(int *)user)++;
}

static void step_until(bool (*done)(void *), void *user)
{
    atl_ns ends = atl_clock_monotonic() + 10 * ATL_SECOND;
    while (!done(user)) {
        if (atl_clock_monotonic() > ends)
            fail_msg("it did not happen within 10 s");
        atl_loop_step(f.loop, 50 * ATL_MS);
    }
}

static bool mirror_has_new(void *user)
{
    const struct atl_file *file = atl_mirror_get(user, "sdn/zones.cfg");
    return file != NULL && strcmp(file->bytes, "new\n") == 0;
}

static bool mirror_has_none(void *user)
{
    return atl_mirror_get(user, "sdn/zones.cfg") == NULL;
}

static bool mirror_is_ready(void *user)
{
    return atl_mirror_ready(user);
}

struct target {
    struct atl_mirror *mirror;
    uint64_t number;
};

static bool mirror_reached(void *user)
{
    const struct target *target = user;
    return atl_mirror_revision(target->mirror).number >= target->number;
}

static void a_mirror_follows_changes_and_restarts(void **state)
{
    (void)state;
    put("sdn/zones.cfg", "old\n");
    int batches = 0;
    struct atl_mirror *mirror = atl_mirror_open(f.compute, (const char *const[]){"sdn/", NULL});
    atl_mirror_on_batch(mirror, count_batch, &batches);
    step_until(mirror_is_ready, mirror);
    assert_string_equal(atl_mirror_get(mirror, "sdn/zones.cfg")->bytes, "old\n");
    assert_null(atl_mirror_get(mirror, "user.cfg"));
    put("sdn/zones.cfg", "new\n");
    step_until(mirror_has_new, mirror);
    (void)cfg_fixture_stop(&f, SIGKILL);
    cfg_fixture_start(&f);
    struct atl_txn txn ATL_TXN_AT_EXIT;
    atl_txn_init(&txn);
    atl_txn_delete(&txn, "sdn/zones.cfg");
    struct atl_revision after;
    assert_atl_ok(atl_txn_send_wait(f.cli, &txn, 0, &after, &err), &err);
    step_until(mirror_has_none, mirror);
    /* A change elsewhere moves the copy's revision too: requests wait for that. */
    put("datacenter.cfg", "x: y\n");
    struct target target = {.mirror = mirror, .number = after.number + 1};
    step_until(mirror_reached, &target);
    assert_true(batches >= 3);
    atl_mirror_close(&mirror);
}

static void count_file(const char *path, const struct atl_file *file, void *user)
{
    (void)path;
    assert_int_equal(file->size, 900 << 10);
    (*(int *)user)++;
}

static bool eight_of_them(void *user)
{
    int count = 0;
    atl_mirror_each(user, "big/", count_file, &count);
    return count == 8;
}

/* More than one page of List, and later more than one answer of Watch. */
static void a_mirror_holds_more_than_one_message_carries(void **state)
{
    (void)state;
    char *text = atl_alloc0((900 << 10) + 1);
    memset(text, 'x', 900 << 10);
    struct atl_mirror *mirror = atl_mirror_open(f.compute, (const char *const[]){"big/", NULL});
    step_until(mirror_is_ready, mirror);
    char path[] = "big/0";
    for (int i = 0; i < 8; i++) {
        path[4] = (char)('0' + i);
        put(path, text);
    }
    step_until(eight_of_them, mirror);
    struct atl_mirror *late = atl_mirror_open(f.storage, (const char *const[]){"big/", NULL});
    step_until(eight_of_them, late);
    atl_mirror_close(&late);
    atl_mirror_close(&mirror);
    free(text);
}

static void a_lock_has_one_holder(void **state)
{
    (void)state;
    struct atl_treelock mine;
    struct atl_treelock yours;
    assert_atl_ok(atl_treelock_wait(f.compute, "guest-100", "me", 60000, ATL_SECOND, &mine, &err), &err);
    assert_int_equal(atl_treelock_wait(f.storage, "guest-100", "you", 60000, 100 * ATL_MS, &yours, &err),
                     ATL_E_CONFLICT);
    assert_string_equal(err.text, "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout");
    assert_atl_ok(atl_treelock_renew_wait(f.compute, &mine, &err), &err);
    struct atl_txn txn ATL_TXN_AT_EXIT;
    atl_txn_init(&txn);
    atl_txn_compare(&txn, mine.path, mine.revision);
    atl_txn_put(&txn, "nodes/pve1/lxc/901.conf", "", 0);
    assert_atl_ok(atl_txn_send_wait(f.compute, &txn, 0, NULL, &err), &err);
    atl_treelock_release_wait(f.compute, &mine);
    assert_atl_ok(atl_treelock_wait(f.storage, "guest-100", "you", 1000, ATL_SECOND, &yours, &err), &err);
    assert_int_equal(atl_txn_send_wait(f.compute, &txn, 0, NULL, &err), ATL_E_CONFLICT);
    /* It is not renewed: it ends, and who waits gets it. */
    assert_atl_ok(atl_treelock_wait(f.compute, "guest-100", "me", 60000, 5 * ATL_SECOND, &mine, &err), &err);
    assert_int_equal(atl_treelock_renew_wait(f.storage, &yours, &err), ATL_E_CONFLICT);
    atl_treelock_release_wait(f.compute, &mine);
}

static void a_login_gives_a_ticket_and_a_ticket_an_assertion(void **state)
{
    (void)state;
    make_admin();
    char wrong[] = "wrong password";
    char nobody[] = "nobody@pve";
    assert_int_equal(log_in(admin_name, wrong, NULL), ATL_E_UNAUTHENTICATED);
    assert_string_equal(err.text, "authentication failure");
    assert_int_equal(log_in(nobody, wrong, NULL), ATL_E_UNAUTHENTICATED);
    const Atoll__Access__V1__LoginReply *login = NULL;
    assert_atl_ok(log_in(admin_name, admin_password, &login), &err);
    assert_int_equal(strncmp(login->ticket, "PVE:admin@pve:", 14), 0);
    assert_non_null(strstr(login->cap, "\"VM.Audit\":1"));
    const Atoll__Access__V1__LoginReply *renewed = NULL;
    assert_atl_ok(log_in(admin_name, login->ticket, &renewed), &err);
    assert_int_equal(log_in(nobody, login->ticket, NULL), ATL_E_UNAUTHENTICATED);
    assert_atl_ok(authenticate(login->ticket, NULL, NULL, false, NULL), &err);
    assert_int_equal(authenticate(login->ticket, NULL, NULL, true, NULL), ATL_E_UNAUTHENTICATED);
    assert_string_equal(err.text, "Permission denied - invalid csrf token");
    assert_atl_ok(authenticate(login->ticket, login->csrfpreventiontoken, NULL, true, NULL), &err);
    char forged[1024];
    (void)snprintf(forged, sizeof forged, "PVE:root@pam%s", strchr(login->ticket + 4, ':'));
    assert_int_equal(authenticate(forged, NULL, NULL, false, NULL), ATL_E_UNAUTHENTICATED);
    assert_int_equal(authenticate(NULL, NULL, NULL, false, NULL), ATL_E_UNAUTHENTICATED);
}

static void the_gateway_alone_may_nothing(void **state)
{
    (void)state;
    Atoll__Cluster__V1__ListResourcesRequest list = ATOLL__CLUSTER__V1__LIST_RESOURCES_REQUEST__INIT;
    const struct atl_rpc *rpc = &atl_rpc_cluster_v1_Cluster_ListResources;
    assert_int_equal(cfg_fixture_call(&f, f.gateway, rpc, &list, NULL, NULL, &err), ATL_E_UNAUTHENTICATED);
    struct atl_call_options forged = as_root();
    uint8_t *bytes = (uint8_t *)(uintptr_t)forged.assertion;
    bytes[forged.assertion_size - 1] ^= 1;
    assert_int_equal(cfg_fixture_call(&f, f.gateway, rpc, &list, &forged, NULL, &err), ATL_E_UNAUTHENTICATED);
    Atoll__Store__V1__LocalAssertionRequest local = ATOLL__STORE__V1__LOCAL_ASSERTION_REQUEST__INIT;
    assert_int_not_equal(
        cfg_fixture_call(&f, f.gateway, &atl_rpc_store_v1_Identity_LocalAssertion, &local, NULL, NULL, &err),
        ATL_OK);
}

static void a_token_works_until_it_is_deleted(void **state)
{
    (void)state;
    make_admin();
    struct atl_call_options admin = as_admin();
    char tokenid[] = "ci";
    Atoll__Access__V1__CreateTokenRequest create = ATOLL__ACCESS__V1__CREATE_TOKEN_REQUEST__INIT;
    create.userid = admin_name;
    create.tokenid = tokenid;
    const void *output = NULL;
    assert_atl_ok(cfg_fixture_call(&f, f.gateway, &atl_rpc_access_v1_Access_CreateToken, &create, &admin,
                                   &output, &err),
                  &err);
    const Atoll__Access__V1__CreateTokenReply *made = output;
    assert_string_equal(made->full_tokenid, "admin@pve!ci");
    assert_int_equal(strlen(made->value), 36);
    char text[128];
    (void)snprintf(text, sizeof text, "%s=%s", made->full_tokenid, made->value);
    const Atoll__Store__V1__AuthenticateReply *reply = NULL;
    assert_atl_ok(authenticate(NULL, NULL, text, true, &reply), &err);
    assert_string_equal(reply->token, "ci");
    struct atl_call_options token = with(reply->assertion);
    /* It is separate and has no rules of its own: it may nothing. */
    Atoll__Cluster__V1__GetStatusRequest status = ATOLL__CLUSTER__V1__GET_STATUS_REQUEST__INIT;
    const struct atl_rpc *rpc = &atl_rpc_cluster_v1_Cluster_GetStatus;
    assert_int_equal(cfg_fixture_call(&f, f.gateway, rpc, &status, &token, NULL, &err), ATL_E_DENIED);
    assert_string_equal(err.text, "Permission check failed (/, Sys.Audit)");
    char path[] = "/";
    char roles[] = "PVEAuditor";
    char full[] = "admin@pve!ci";
    Atoll__Access__V1__UpdateAclRequest acl = ATOLL__ACCESS__V1__UPDATE_ACL_REQUEST__INIT;
    acl.path = path;
    acl.roles = roles;
    acl.tokens = full;
    assert_atl_ok(
        cfg_fixture_call(&f, f.gateway, &atl_rpc_access_v1_Access_UpdateAcl, &acl, &admin, NULL, &err), &err);
    assert_atl_ok(cfg_fixture_call(&f, f.gateway, rpc, &status, &token, NULL, &err), &err);
    text[strlen(text) - 1] ^= 1;
    assert_int_equal(authenticate(NULL, NULL, text, true, NULL), ATL_E_UNAUTHENTICATED);
    assert_string_equal(err.text, "invalid token value!");
    Atoll__Access__V1__DeleteTokenRequest gone = ATOLL__ACCESS__V1__DELETE_TOKEN_REQUEST__INIT;
    gone.userid = admin_name;
    gone.tokenid = tokenid;
    assert_atl_ok(
        cfg_fixture_call(&f, f.gateway, &atl_rpc_access_v1_Access_DeleteToken, &gone, &admin, NULL, &err),
        &err);
    assert_int_equal(cfg_fixture_call(&f, f.gateway, rpc, &status, &token, NULL, &err),
                     ATL_E_UNAUTHENTICATED);
}

static const Atoll__Cluster__V1__ListResourcesReply *resources(const struct atl_call_options *options)
{
    Atoll__Cluster__V1__ListResourcesRequest list = ATOLL__CLUSTER__V1__LIST_RESOURCES_REQUEST__INIT;
    const void *output = NULL;
    assert_atl_ok(cfg_fixture_call(&f, f.gateway, &atl_rpc_cluster_v1_Cluster_ListResources, &list, options,
                                   &output, &err),
                  &err);
    return output;
}

static const Atoll__Cluster__V1__ResourcesRow *find_row(const Atoll__Cluster__V1__ListResourcesReply *reply,
                                                        const char *id)
{
    for (size_t i = 0; i < reply->n_entry; i++)
        if (strcmp(reply->entry[i]->id, id) == 0)
            return reply->entry[i];
    return NULL;
}

/* What compute-agent says about guest 100; returns whether all is wanted. */
static bool push_running(bool full)
{
    char node[] = "pve1";
    char type[] = "qemu";
    char running[] = "running";
    Atoll__Store__V1__GuestStatus guest = ATOLL__STORE__V1__GUEST_STATUS__INIT;
    guest.vmid = 100;
    guest.type = type;
    guest.status = running;
    guest.has_mem = 1;
    guest.mem = 1234;
    Atoll__Store__V1__GuestStatus *guests[] = {&guest};
    Atoll__Store__V1__NodeStatus node_status = ATOLL__STORE__V1__NODE_STATUS__INIT;
    node_status.has_maxcpu = 1;
    node_status.maxcpu = 4;
    Atoll__Store__V1__PushRequest push = ATOLL__STORE__V1__PUSH_REQUEST__INIT;
    push.node = node;
    push.epoch = 7;
    push.sequence = 1;
    push.has_full = 1;
    push.full = full;
    push.node_status = &node_status;
    push.n_guest = 1;
    push.guest = guests;
    const void *output = NULL;
    assert_atl_ok(cfg_fixture_call(&f, f.compute, &atl_rpc_store_v1_Status_Push, &push, NULL, &output, &err),
                  &err);
    return ((const Atoll__Store__V1__PushReply *)output)->want_full;
}

static void make_user(char *user, char *password, const struct atl_call_options *as)
{
    Atoll__Access__V1__CreateUserRequest create = ATOLL__ACCESS__V1__CREATE_USER_REQUEST__INIT;
    create.userid = user;
    create.password = password;
    const struct atl_rpc *rpc = &atl_rpc_access_v1_Access_CreateUser;
    assert_atl_ok(cfg_fixture_call(&f, f.gateway, rpc, &create, as, NULL, &err), &err);
    assert_int_equal(cfg_fixture_call(&f, f.gateway, rpc, &create, as, NULL, &err), ATL_E_EXISTS);
}

static void give_role(char *path, char *role, char *user, const struct atl_call_options *as)
{
    Atoll__Access__V1__UpdateAclRequest acl = ATOLL__ACCESS__V1__UPDATE_ACL_REQUEST__INIT;
    acl.path = path;
    acl.roles = role;
    acl.users = user;
    assert_atl_ok(cfg_fixture_call(&f, f.gateway, &atl_rpc_access_v1_Access_UpdateAcl, &acl, as, NULL, &err),
                  &err);
}

static void resources_join_the_tree_and_what_agents_push(void **state)
{
    (void)state;
    make_admin();
    put("nodes/pve1/qemu-server/100.conf", "name: web\ntags: a;b\nmemory: 512\n[snap]\nname: old\n");
    struct atl_call_options admin = as_admin();
    assert_string_equal(find_row(resources(&admin), "qemu/100")->status, "unknown");
    assert_true(push_running(false));
    assert_false(push_running(true));
    const Atoll__Cluster__V1__ResourcesRow *row = find_row(resources(&admin), "qemu/100");
    assert_string_equal(row->status, "running");
    assert_string_equal(row->name, "web");
    assert_string_equal(row->tags, "a;b");
    assert_int_equal(row->mem, 1234);
    assert_string_equal(find_row(resources(&admin), "node/pve1")->status, "online");
}

static void a_user_sees_what_he_may_until_he_is_disabled(void **state)
{
    (void)state;
    make_admin();
    put("nodes/pve1/lxc/101.conf", "hostname: db\n");
    struct atl_call_options admin = as_admin();
    char user[] = "one@pve";
    char password[] = "one two three";
    char path[] = "/vms/101";
    char role[] = "PVEVMUser";
    make_user(user, password, &admin);
    give_role(path, role, user, &admin);
    const Atoll__Access__V1__LoginReply *login = NULL;
    assert_atl_ok(log_in(user, password, &login), &err);
    const Atoll__Store__V1__AuthenticateReply *reply = NULL;
    assert_atl_ok(authenticate(login->ticket, NULL, NULL, false, &reply), &err);
    struct atl_call_options one = with(reply->assertion);
    const Atoll__Cluster__V1__ListResourcesReply *list = resources(&one);
    assert_null(find_row(list, "qemu/100"));
    assert_non_null(find_row(list, "lxc/101"));
    assert_false(find_row(list, "node/pve1")->has_maxcpu);
    Atoll__Access__V1__UpdateUserRequest off = ATOLL__ACCESS__V1__UPDATE_USER_REQUEST__INIT;
    off.userid = user;
    off.has_enable = 1;
    assert_atl_ok(
        cfg_fixture_call(&f, f.gateway, &atl_rpc_access_v1_Access_UpdateUser, &off, &admin, NULL, &err),
        &err);
    Atoll__Cluster__V1__ListResourcesRequest again = ATOLL__CLUSTER__V1__LIST_RESOURCES_REQUEST__INIT;
    const struct atl_rpc *rpc = &atl_rpc_cluster_v1_Cluster_ListResources;
    assert_int_equal(cfg_fixture_call(&f, f.gateway, rpc, &again, &one, NULL, &err), ATL_E_UNAUTHENTICATED);
    assert_int_equal(log_in(user, password, NULL), ATL_E_UNAUTHENTICATED);
}

static void pools_hold_guests_and_lend_rights(void **state)
{
    (void)state;
    struct atl_call_options root = as_root();
    char poolid[] = "dev";
    char vms[] = "910";
    put("nodes/pve1/qemu-server/910.conf", "");
    Atoll__Pool__V1__CreatePoolRequest create = ATOLL__POOL__V1__CREATE_POOL_REQUEST__INIT;
    create.poolid = poolid;
    assert_atl_ok(cfg_fixture_call(&f, f.cli, &atl_rpc_pool_v1_Pools_CreatePool, &create, &root, NULL, &err),
                  &err);
    Atoll__Pool__V1__UpdatePoolRequest update = ATOLL__POOL__V1__UPDATE_POOL_REQUEST__INIT;
    update.poolid = poolid;
    update.vms = vms;
    assert_atl_ok(cfg_fixture_call(&f, f.cli, &atl_rpc_pool_v1_Pools_UpdatePool, &update, &root, NULL, &err),
                  &err);
    assert_string_equal(find_row(resources(&root), "qemu/910")->pool, "dev");
    Atoll__Pool__V1__GetPoolRequest get = ATOLL__POOL__V1__GET_POOL_REQUEST__INIT;
    get.poolid = poolid;
    const void *output = NULL;
    assert_atl_ok(cfg_fixture_call(&f, f.cli, &atl_rpc_pool_v1_Pools_GetPool, &get, &root, &output, &err),
                  &err);
    const Atoll__Pool__V1__GetPoolReply *pool = output;
    assert_int_equal(pool->n_members, 1);
    assert_string_equal(pool->members[0]->id, "qemu/910");
    Atoll__Pool__V1__DeletePoolRequest gone = ATOLL__POOL__V1__DELETE_POOL_REQUEST__INIT;
    gone.poolid = poolid;
    assert_int_equal(cfg_fixture_call(&f, f.cli, &atl_rpc_pool_v1_Pools_DeletePool, &gone, &root, NULL, &err),
                     ATL_E_STATE);
    /* A destroyed guest leaves its pool. */
    struct atl_txn txn ATL_TXN_AT_EXIT;
    atl_txn_init(&txn);
    atl_txn_delete(&txn, "nodes/pve1/qemu-server/910.conf");
    assert_atl_ok(atl_txn_send_wait(f.compute, &txn, 0, NULL, &err), &err);
    assert_atl_ok(cfg_fixture_call(&f, f.cli, &atl_rpc_pool_v1_Pools_DeletePool, &gone, &root, NULL, &err),
                  &err);
}

static enum atl_code list_domains(const Atoll__Access__V1__ListDomainsReply **ret)
{
    Atoll__Access__V1__ListDomainsRequest input = ATOLL__ACCESS__V1__LIST_DOMAINS_REQUEST__INIT;
    const void *output = NULL;
    enum atl_code code =
        cfg_fixture_call(&f, f.gateway, &atl_rpc_access_v1_Access_ListDomains, &input, NULL, &output, &err);
    *ret = output;
    return code;
}

static void realms_are_shown_as_the_file_says_and_work_without_it(void **state)
{
    (void)state;
    make_admin();
    const Atoll__Access__V1__ListDomainsReply *domains = NULL;
    put("domains.cfg", "pve: pve\n\tcomment Our own\n\tdefault 1\n");
    assert_atl_ok(list_domains(&domains), &err);
    assert_int_equal(domains->n_entry, 2);
    assert_string_equal(domains->entry[1]->comment, "Our own");
    assert_true(domains->entry[1]->default_);
    put("domains.cfg", "this is none\n");
    assert_int_equal(list_domains(&domains), ATL_E_INVALID);
    assert_non_null(strstr(err.text, "domains.cfg cannot be read"));
    assert_atl_ok(log_in(admin_name, admin_password, NULL), &err);
    put("domains.cfg", "");
    assert_atl_ok(list_domains(&domains), &err);
}

/* What PAM itself does is tried in tests/component/test_pam.py. */
static void a_password_of_pam_is_changed_by_its_owner_alone(void **state)
{
    (void)state;
    make_admin();
    struct atl_call_options admin = as_admin();
    struct atl_call_options root = as_root();
    char root_name[] = "root@pam";
    char password[] = "a new password";
    char foreign[] = "x@ldap";
    const struct atl_rpc *rpc = &atl_rpc_access_v1_Access_ChangePassword;
    Atoll__Access__V1__ChangePasswordRequest change = ATOLL__ACCESS__V1__CHANGE_PASSWORD_REQUEST__INIT;
    change.userid = root_name;
    change.password = password;
    change.confirmation_password = admin_password;
    assert_int_equal(cfg_fixture_call(&f, f.gateway, rpc, &change, &admin, NULL, &err), ATL_E_DENIED);
    change.confirmation_password = NULL;
    assert_int_equal(cfg_fixture_call(&f, f.cli, rpc, &change, &root, NULL, &err), ATL_E_INVALID);
    assert_string_equal(err.field, "confirmation-password");
    change.userid = foreign;
    assert_int_not_equal(cfg_fixture_call(&f, f.cli, rpc, &change, &root, NULL, &err), ATL_OK);
}

static bool keeper_ready(void *user)
{
    return atl_mirror_ready(user);
}

/* The guard of another service, fed by a mirror, takes config-store's assertions and drops a user within a
 * second. */
static void another_service_admits_and_forgets_users(void **state)
{
    (void)state;
    make_admin();
    struct atl_mirror *mirror = atl_mirror_open(f.compute, (const char *const[]){ATL_KEEPER_PREFIXES, NULL});
    struct atl_keeper *keeper = atl_keeper_new(NULL, mirror);
    step_until(keeper_ready, mirror);
    struct atl_guard guard = atl_keeper_guard(keeper);
    struct atl_call_options admin = as_admin();
    Atoll__Cluster__V1__GetStatusRequest input = ATOLL__CLUSTER__V1__GET_STATUS_REQUEST__INIT;
    struct atl_principal principal = {.service = "api-gateway"};
    const struct atl_rpc *rpc = &atl_rpc_cluster_v1_Cluster_GetStatus;
    struct atl_revision now = {0};
    enum atl_code code = ATL_E_CONFLICT;
    for (int i = 0; i < 100 && code == ATL_E_CONFLICT; i++) { /* the copy may be older than the assertion */
        atl_loop_step(f.loop, 20 * ATL_MS);
        code = guard.admit(guard.self, rpc, &input.base, admin.assertion, admin.assertion_size, &f.arena,
                           &principal, &err);
    }
    assert_atl_ok(code, &err);
    assert_string_equal(principal.user, "admin@pve");
    (void)now;
    Atoll__Access__V1__UpdateUserRequest off = ATOLL__ACCESS__V1__UPDATE_USER_REQUEST__INIT;
    off.userid = admin_name;
    off.has_enable = 1;
    struct atl_call_options root = as_root();
    assert_atl_ok(cfg_fixture_call(&f, f.cli, &atl_rpc_access_v1_Access_UpdateUser, &off, &root, NULL, &err),
                  &err);
    atl_ns ends = atl_clock_monotonic() + ATL_SECOND;
    do {
        atl_loop_step(f.loop, 10 * ATL_MS);
        code = guard.admit(guard.self, rpc, &input.base, admin.assertion, admin.assertion_size, &f.arena,
                           &principal, &err);
    } while (code == ATL_OK && atl_clock_monotonic() < ends);
    assert_int_equal(code, ATL_E_UNAUTHENTICATED);
    off.enable = 1;
    assert_atl_ok(cfg_fixture_call(&f, f.cli, &atl_rpc_access_v1_Access_UpdateUser, &off, &root, NULL, &err),
                  &err);
    atl_keeper_free(&keeper);
    atl_mirror_close(&mirror);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_is_read_back_and_survives_a_kill),
        cmocka_unit_test(a_read_as_of_now_says_no_age),
        cmocka_unit_test(secrets_are_closed_to_agents),
        cmocka_unit_test(a_retried_request_is_done_once),
        cmocka_unit_test(a_mirror_follows_changes_and_restarts),
        cmocka_unit_test(a_mirror_holds_more_than_one_message_carries),
        cmocka_unit_test(a_lock_has_one_holder),
        cmocka_unit_test(a_login_gives_a_ticket_and_a_ticket_an_assertion),
        cmocka_unit_test(the_gateway_alone_may_nothing),
        cmocka_unit_test(a_token_works_until_it_is_deleted),
        cmocka_unit_test(resources_join_the_tree_and_what_agents_push),
        cmocka_unit_test(a_user_sees_what_he_may_until_he_is_disabled),
        cmocka_unit_test(pools_hold_guests_and_lend_rights),
        cmocka_unit_test(realms_are_shown_as_the_file_says_and_work_without_it),
        cmocka_unit_test(a_password_of_pam_is_changed_by_its_owner_alone),
        cmocka_unit_test(another_service_admits_and_forgets_users),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
