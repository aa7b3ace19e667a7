/* Two config-stores on one etcd, both changing the same files at the same time: nobody is told to try again.
 */
#include "atl_test.h"

#include <signal.h>
#include <sys/wait.h>

#include "atoll/access/v1/access.atl.h"
#include "atoll/pool/v1/pool.atl.h"
#include "atoll/store/v1/identity.atl.h"
#include "atoll/store/v1/store.atl.h"
#include "cfg_fixture.h"
#include "io/guard.h"
#include "io/mirror.h"
#include "service_engine.h"

enum { NODES = 2, ROUNDS = 20, LOCKERS = 3 };
#define LIMIT (90 * ATL_SECOND)

static struct node {
    struct cfg_fixture f;
    struct atl_arena keep;
    struct atl_call_options root;
} nodes[NODES];
static struct atl_error err;
static size_t flying;
static size_t done;

static int set_up(void **state)
{
    (void)state;
    static const char *const names[NODES] = {"pve1", "pve2"};
    const char *engine[CFG_FIXTURE_OPTIONS] = {NULL};
    service_engine_open(engine);
    for (size_t i = 0; i < NODES; i++) {
        struct cfg_fixture *f = &nodes[i].f;
        cfg_fixture_init_node(f, names[i]);
        memcpy(f->engine, engine, sizeof engine);
        cfg_fixture_start(f);
        Atoll__Store__V1__LocalAssertionRequest input = ATOLL__STORE__V1__LOCAL_ASSERTION_REQUEST__INIT;
        const void *output = NULL;
        assert_atl_ok(cfg_fixture_call(f, f->cli, &atl_rpc_store_v1_Identity_LocalAssertion, &input, NULL,
                                       &output, &err),
                      &err);
        const Atoll__Bus__V1__SignedAssertion *assertion =
            ((const Atoll__Store__V1__AuthenticateReply *)output)->assertion;
        size_t size = atoll__bus__v1__signed_assertion__get_packed_size(assertion);
        uint8_t *packed = atl_arena_alloc(&nodes[i].keep, size);
        (void)atoll__bus__v1__signed_assertion__pack(assertion, packed);
        nodes[i].root = (struct atl_call_options){
            .assertion = packed, .assertion_size = size, .deadline = 30 * ATL_SECOND};
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < NODES; i++) {
        int status = cfg_fixture_stop(&nodes[i].f, SIGTERM);
        bad += WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
        cfg_fixture_done(&nodes[i].f);
        atl_arena_done(&nodes[i].keep);
    }
    service_engine_close();
    return bad;
}

static void run_until_quiet(void)
{
    atl_ns until = atl_clock_monotonic() + LIMIT;
    while (flying > 0 && atl_clock_monotonic() < until)
        for (size_t i = 0; i < NODES; i++)
            atl_loop_step(nodes[i].f.loop, ATL_MS);
    assert_int_equal(flying, 0);
}

/* --- changes of user.cfg ------------------------------------------------------------------------------ */

enum kind { POOL, USER, RULE, TOKEN, PASSWORD, GUEST, KINDS };

struct stream { /* one caller, one change after the other */
    struct node *node;
    enum kind kind;
    size_t left;
    char name[32];
    char text[64];
};

static void next(struct stream *stream);

static void on_reply(const struct atl_reply *reply, void *user)
{
    struct stream *stream = user;
    flying--;
    if (reply->code != ATL_OK)
        fail_msg("kind %d on %s: %s", (int)stream->kind, stream->node->f.node, reply->error.text);
    done++;
    next(stream);
}

static void call(struct stream *stream, const struct atl_rpc *rpc, const void *input)
{
    struct node *node = stream->node;
    flying++;
    (void)atl_bus_call(node->f.cli, rpc, input, &node->root, on_reply, stream);
}

static void make_guest(struct stream *stream, unsigned int vmid)
{
    static char pool[] = "shared";
    struct atl_txn txn ATL_TXN_AT_EXIT;
    atl_txn_init(&txn);
    (void)snprintf(stream->text, sizeof stream->text, "nodes/%s/lxc/%u.conf", stream->node->f.node, vmid);
    atl_txn_put(&txn, stream->text, "x", 1);
    txn.request.operation[0]->pool = pool;
    flying++;
    (void)atl_bus_call(stream->node->f.cli, &atl_rpc_store_v1_Store_Txn, &txn.request.base, NULL, on_reply,
                       stream);
    txn.request.operation[0]->pool = NULL;
}

static void change_rule(struct stream *stream)
{
    static char role[] = "PVEAuditor";
    static char user[] = "root@pam";
    Atoll__Access__V1__UpdateAclRequest rule = ATOLL__ACCESS__V1__UPDATE_ACL_REQUEST__INIT;
    (void)snprintf(stream->text, sizeof stream->text, "/vms/%s", stream->name);
    rule.path = stream->text;
    rule.roles = role;
    rule.users = user;
    call(stream, &atl_rpc_access_v1_Access_UpdateAcl, &rule);
}

static void next(struct stream *stream)
{
    static char root[] = "root@pam";
    static char password[] = "five words of a storm";
    if (stream->left == 0)
        return;
    bool second = strcmp(stream->node->f.node, "pve2") == 0;
    unsigned int number = (unsigned int)(--stream->left + (second ? 1000 : 0));
    (void)snprintf(stream->name, sizeof stream->name, "%u", 1000 + number);
    Atoll__Pool__V1__CreatePoolRequest pool = ATOLL__POOL__V1__CREATE_POOL_REQUEST__INIT;
    Atoll__Access__V1__CreateUserRequest user = ATOLL__ACCESS__V1__CREATE_USER_REQUEST__INIT;
    Atoll__Access__V1__CreateTokenRequest token = ATOLL__ACCESS__V1__CREATE_TOKEN_REQUEST__INIT;
    (void)snprintf(stream->text, sizeof stream->text, "%s%u%s", stream->kind == PASSWORD ? "p" : "t", number,
                   stream->kind == TOKEN ? "" : "@pve");
    switch (stream->kind) {
    case POOL:
        pool.poolid = stream->name;
        call(stream, &atl_rpc_pool_v1_Pools_CreatePool, &pool);
        return;
    case PASSWORD: /* changes priv/shadow.cfg, too */
        user.password = stream->left % 8 == 0 ? password : NULL;
        /* fall through */
    case USER:
        user.userid = stream->text;
        call(stream, &atl_rpc_access_v1_Access_CreateUser, &user);
        return;
    case RULE:
        change_rule(stream);
        return;
    case TOKEN:
        token.userid = root;
        token.tokenid = stream->text;
        call(stream, &atl_rpc_access_v1_Access_CreateToken, &token);
        return;
    default:
        make_guest(stream, 1000 + number);
    }
}

static unsigned int count_in(const char *text, const char *what)
{
    unsigned int count = 0;
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what))
        count++;
    return count;
}

static void everything_changed_on_both_nodes_is_there(void **state)
{
    (void)state;
    static char shared[] = "shared";
    struct cfg_fixture *f = &nodes[0].f;
    Atoll__Pool__V1__CreatePoolRequest pool = ATOLL__POOL__V1__CREATE_POOL_REQUEST__INIT;
    pool.poolid = shared;
    assert_atl_ok(
        cfg_fixture_call(f, f->cli, &atl_rpc_pool_v1_Pools_CreatePool, &pool, &nodes[0].root, NULL, &err),
        &err);
    struct stream streams[NODES][KINDS];
    done = 0;
    for (size_t i = 0; i < NODES; i++)
        for (size_t k = 0; k < KINDS; k++)
            streams[i][k] = (struct stream){.node = &nodes[i], .kind = (enum kind)k, .left = ROUNDS};
    atl_ns began = atl_clock_monotonic();
    for (size_t i = 0; i < NODES; i++)
        for (size_t k = 0; k < KINDS; k++)
            next(&streams[i][k]);
    run_until_quiet();
    assert_int_equal(done, NODES * KINDS * ROUNDS);
    print_message("%zu changes in %" PRId64 " ms\n", done, (atl_clock_monotonic() - began) / ATL_MS);

    static char path[] = "user.cfg";
    Atoll__Store__V1__GetRequest get = ATOLL__STORE__V1__GET_REQUEST__INIT;
    const void *output = NULL;
    get.path = path;
    assert_atl_ok(cfg_fixture_call(f, f->cli, &atl_rpc_store_v1_Store_Get, &get, NULL, &output, &err), &err);
    const Atoll__Store__V1__GetReply *reply = output;
    char *text ATL_FREE_AT_EXIT =
        atl_strndup((const char *)reply->file->content.data, reply->file->content.len);
    assert_int_equal(count_in(text, "pool:"), 1 + NODES * ROUNDS);
    assert_int_equal(count_in(text, "token:"), NODES * ROUNDS);
    assert_int_equal(count_in(text, "user:"), 1 + 2 * NODES * ROUNDS); /* root@pam */
    assert_int_equal(count_in(text, "acl:"), NODES * ROUNDS);
    const char *guests = strstr(text, "pool:shared:");
    assert_non_null(guests);
    char *line ATL_FREE_AT_EXIT = atl_strndup(guests, strcspn(guests, "\n"));
    assert_int_equal(count_in(line, ","), NODES * ROUNDS - 1);
}

/* --- locks -------------------------------------------------------------------------------------------- */

struct locker {
    struct node *node;
    char owner[32];
    size_t left;
};
static char lock_name[] = "storm";
static const struct locker *holder;

static void ask(struct locker *locker, const struct atl_rpc *rpc, atl_reply_fn *fn)
{
    Atoll__Store__V1__LockRequest lock = ATOLL__STORE__V1__LOCK_REQUEST__INIT;
    lock.name = lock_name;
    lock.owner = locker->owner;
    lock.ttl_ms = 60000;
    lock.has_wait_ms = 1;
    lock.wait_ms = 40000;
    flying++;
    (void)atl_bus_call(locker->node->f.cli, rpc, &lock.base, NULL, fn, locker);
}

static void on_locked(const struct atl_reply *reply, void *user);

static void on_free(const struct atl_reply *reply, void *user)
{
    struct locker *locker = user;
    flying--;
    if (reply->code != ATL_OK)
        fail_msg("unlock of %s: %s", locker->owner, reply->error.text);
    if (--locker->left > 0)
        ask(locker, &atl_rpc_store_v1_Store_Lock, on_locked);
}

static void on_renewed(const struct atl_reply *reply, void *user)
{
    struct locker *locker = user;
    flying--;
    if (reply->code != ATL_OK)
        fail_msg("renewing of %s: %s", locker->owner, reply->error.text);
    assert_ptr_equal(holder, locker);
    holder = NULL;
    done++;
    Atoll__Store__V1__UnlockRequest unlock = ATOLL__STORE__V1__UNLOCK_REQUEST__INIT;
    unlock.name = lock_name;
    unlock.owner = locker->owner;
    flying++;
    (void)atl_bus_call(locker->node->f.cli, &atl_rpc_store_v1_Store_Unlock, &unlock.base, NULL, on_free,
                       locker);
}

static void on_locked(const struct atl_reply *reply, void *user)
{
    struct locker *locker = user;
    flying--;
    if (reply->code != ATL_OK)
        fail_msg("lock of %s: %s", locker->owner, reply->error.text);
    assert_null(holder);
    holder = locker;
    ask(locker, &atl_rpc_store_v1_Store_RenewLock, on_renewed);
}

static void a_lock_goes_from_hand_to_hand(void **state)
{
    (void)state;
    struct locker lockers[NODES][LOCKERS];
    done = 0;
    for (size_t i = 0; i < NODES; i++)
        for (size_t k = 0; k < LOCKERS; k++) {
            lockers[i][k] = (struct locker){.node = &nodes[i], .left = ROUNDS};
            (void)snprintf(lockers[i][k].owner, sizeof lockers[i][k].owner, "%s/%zu", nodes[i].f.node, k);
            ask(&lockers[i][k], &atl_rpc_store_v1_Store_Lock, on_locked);
        }
    run_until_quiet();
    assert_int_equal(done, NODES * LOCKERS * ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_changed_on_both_nodes_is_there),
        cmocka_unit_test(a_lock_goes_from_hand_to_hand),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
