/* The etcd client against real etcd: one member, then three with TLS that are killed. */
#include "atl_test.h"

#include "etcd/etcd.h"
#include "etcd_fixture.h"

struct fixture {
    struct atl_loop *loop;
    struct etcd_fixture *etcd;
    struct atl_grpc *channel;
};

static struct atl_error err;
static atl_ns patience = 5 * ATL_SECOND; /* with one call */

static int open_fixture(void **state, size_t members, bool tls)
{
    struct fixture *f = atl_new0(struct fixture);
    const char *endpoints[ETCD_MEMBERS_MAX];
    f->loop = atl_loop_new();
    f->etcd = etcd_fixture_new(f->loop, members, tls);
    struct atl_grpc_options options = etcd_fixture_options(f->etcd, endpoints);
    assert_atl_ok(atl_grpc_new(&options, &f->channel, &err), &err);
    *state = f;
    return 0;
}

static int one_member(void **state)
{
    return open_fixture(state, 1, false);
}

static int three_members(void **state)
{
    return open_fixture(state, 3, true);
}

static int close_fixture(void **state)
{
    struct fixture *f = *state;
    atl_grpc_free(&f->channel);
    etcd_fixture_free(&f->etcd);
    atl_loop_free(f->loop);
    free(f);
    return 0;
}

static ProtobufCBinaryData data(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

/* --- calls, one after the other --- */

struct got {
    bool done;
    enum atl_code code;
    struct atl_error error;
    enum atl_etcd_outcome outcome;
    int64_t revision;
    bool succeeded;
    char value[64];
    int64_t mod_revision;
    size_t count;
    uint64_t id;
};

static void take_kv(struct got *got, const Etcd__RangeResponse *range)
{
    got->count = range->n_kvs;
    if (range->n_kvs == 0)
        return;
    (void)snprintf(got->value, sizeof got->value, "%.*s", (int)range->kvs[0]->value.len,
                   (const char *)range->kvs[0]->value.data);
    got->mod_revision = range->kvs[0]->mod_revision;
}

static void on_answer(const struct atl_etcd_answer *answer, void *user)
{
    struct got *got = user;
    *got =
        (struct got){.done = true, .code = answer->code, .error = answer->error, .outcome = answer->outcome};
    if (answer->message == NULL)
        return;
    const ProtobufCMessageDescriptor *type = answer->message->descriptor;
    if (type == &etcd__range_response__descriptor) {
        const Etcd__RangeResponse *range = (const void *)answer->message;
        got->revision = range->header->revision;
        take_kv(got, range);
    } else if (type == &etcd__put_response__descriptor) {
        got->revision = ((const Etcd__PutResponse *)answer->message)->header->revision;
    } else if (type == &etcd__txn_response__descriptor) {
        const Etcd__TxnResponse *txn = (const void *)answer->message;
        got->revision = txn->header->revision;
        got->succeeded = txn->succeeded;
    } else if (type == &etcd__member_list_response__descriptor) {
        got->count = ((const Etcd__MemberListResponse *)answer->message)->n_members;
    } else if (type == &etcd__member_add_response__descriptor) {
        got->id = ((const Etcd__MemberAddResponse *)answer->message)->member->id;
    } else if (type == &etcd__lease_grant_response__descriptor) {
        got->id = (uint64_t)((const Etcd__LeaseGrantResponse *)answer->message)->id;
    } else if (type == &etcd__status_response__descriptor) {
        got->count = (size_t)((const Etcd__StatusResponse *)answer->message)->db_size;
    } else if (type == &etcd__alarm_response__descriptor) {
        got->count = ((const Etcd__AlarmResponse *)answer->message)->n_alarms;
    } else if (type == &etcd__delete_range_response__descriptor) {
        got->count = (size_t)((const Etcd__DeleteRangeResponse *)answer->message)->deleted;
    }
}

static struct got ask(struct fixture *f, enum atl_etcd_method method, const ProtobufCMessage *request)
{
    struct got got = {.done = false};
    (void)atl_etcd_call(f->channel, method, request, patience, on_answer, &got);
    assert_true(etcd_fixture_wait(f->etcd, &got.done));
    return got;
}

static struct got put(struct fixture *f, const char *key, const char *value)
{
    Etcd__PutRequest request = ETCD__PUT_REQUEST__INIT;
    request.key = data(key);
    request.value = data(value);
    return ask(f, ATL_ETCD_PUT, &request.base);
}

static struct got get(struct fixture *f, const char *key, int64_t revision, bool serializable)
{
    Etcd__RangeRequest request = ETCD__RANGE_REQUEST__INIT;
    request.key = data(key);
    request.revision = revision;
    request.serializable = serializable;
    return ask(f, ATL_ETCD_RANGE, &request.base);
}

static struct got compare_and_put(struct fixture *f, const char *key, int64_t mod_revision, const char *value)
{
    Etcd__Compare compare = ETCD__COMPARE__INIT;
    compare.target = ETCD__COMPARE__TARGET__MOD;
    compare.key = data(key);
    compare.target_union_case = ETCD__COMPARE__TARGET_UNION_MOD_REVISION;
    compare.mod_revision = mod_revision;
    Etcd__PutRequest what = ETCD__PUT_REQUEST__INIT;
    what.key = data(key);
    what.value = data(value);
    Etcd__RequestOp op = ETCD__REQUEST_OP__INIT;
    op.request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_PUT;
    op.request_put = &what;
    Etcd__TxnRequest txn = ETCD__TXN_REQUEST__INIT;
    Etcd__Compare *compares[] = {&compare};
    Etcd__RequestOp *ops[] = {&op};
    txn.n_compare = txn.n_success = 1;
    txn.compare = compares;
    txn.success = ops;
    return ask(f, ATL_ETCD_TXN, &txn.base);
}

static void keys_are_put_read_compared_and_deleted(void **state)
{
    struct fixture *f = *state;
    struct got first = put(f, "a/1", "one");
    assert_atl_ok(first.code, &first.error);
    struct got second = put(f, "a/1", "two");
    assert_int_equal(second.revision, first.revision + 1);
    assert_string_equal(get(f, "a/1", 0, false).value, "two");
    assert_string_equal(get(f, "a/1", 0, true).value, "two");
    assert_string_equal(get(f, "a/1", first.revision, false).value, "one");
    assert_true(compare_and_put(f, "a/1", second.revision, "three").succeeded);
    assert_false(compare_and_put(f, "a/1", second.revision, "four").succeeded);
    assert_true(compare_and_put(f, "a/2", 0, "new").succeeded);
    assert_string_equal(get(f, "a/1", 0, false).value, "three");
    Etcd__DeleteRangeRequest request = ETCD__DELETE_RANGE_REQUEST__INIT;
    request.key = data("a/");
    request.range_end = data("a0");
    assert_int_equal(ask(f, ATL_ETCD_DELETE, &request.base).count, 2);
    assert_int_equal(get(f, "a/1", 0, false).count, 0);
}

struct listing {
    size_t keys;
    size_t bytes;
    bool done;
    enum atl_code code;
    int64_t revision;
};

static bool on_key(const Etcd__KeyValue *kv, void *user)
{
    struct listing *listing = user;
    listing->keys++;
    listing->bytes += kv->value.len;
    return true;
}

static void on_listed(enum atl_code code, const struct atl_error *error, int64_t revision, void *user)
{
    (void)error;
    struct listing *listing = user;
    listing->done = true;
    listing->code = code;
    listing->revision = revision;
}

static struct listing list(struct fixture *f, const char *prefix, int64_t revision)
{
    struct listing listing = {.done = false};
    (void)atl_etcd_list_new(f->channel, &(const struct atl_etcd_list_options){.prefix = prefix,
                                                                              .revision = revision,
                                                                              .page = 10,
                                                                              .timeout = 5 * ATL_SECOND,
                                                                              .key = on_key,
                                                                              .end = on_listed,
                                                                              .user = &listing});
    assert_true(etcd_fixture_wait(f->etcd, &listing.done));
    return listing;
}

static void all_pages_of_a_list_are_of_one_revision(void **state)
{
    struct fixture *f = *state;
    struct got last = {.revision = 0};
    for (int i = 0; i < 35; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "l/%02d", i);
        last = put(f, key, "x");
    }
    struct listing all = list(f, "l/", 0);
    assert_atl_ok(all.code, &err);
    assert_int_equal(all.keys, 35);
    assert_int_equal(all.revision, last.revision);
    assert_int_equal(list(f, "l/", last.revision - 5).keys, 30);
    Etcd__CompactionRequest compact = ETCD__COMPACTION_REQUEST__INIT;
    compact.revision = last.revision;
    assert_int_equal(ask(f, ATL_ETCD_COMPACT, &compact.base).code, ATL_OK);
    assert_int_equal(list(f, "l/", last.revision - 5).code, ATL_E_RANGE);
}

/* --- watching --- */

struct watched {
    char text[512]; /* "key=value " or "key! " */
    size_t events;
    int64_t last;
    bool following;
    unsigned int losses;
    bool compacted;
    bool done; /* `wanted` events are there */
    size_t wanted;
    size_t bytes;
};

static void on_events(int64_t revision, Etcd__Event *const *events, size_t count, void *user)
{
    struct watched *watched = user;
    assert_true(revision > watched->last);
    watched->last = revision;
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(watched->text);
        const Etcd__KeyValue *kv = events[i]->kv;
        watched->bytes += kv->value.len;
        if (kv->value.len > 16)
            continue;
        (void)snprintf(watched->text + used, sizeof watched->text - used, "%.*s%s%.*s ", (int)kv->key.len,
                       (const char *)kv->key.data, events[i]->type == ETCD__EVENT__TYPE__PUT ? "=" : "!",
                       (int)kv->value.len, (const char *)kv->value.data);
    }
    watched->events += count;
    watched->done = watched->events >= watched->wanted;
}

static void on_watch_state(bool following, void *user)
{
    struct watched *watched = user;
    watched->following = following;
    watched->losses += following ? 0 : 1;
}

static void on_compacted(int64_t revision, void *user)
{
    struct watched *watched = user;
    watched->last = revision;
    watched->compacted = true;
}

static struct atl_etcd_watch *watch(struct fixture *f, int64_t after, struct watched *watched)
{
    return atl_etcd_watch_new(f->channel, f->loop,
                              &(const struct atl_etcd_watch_options){.prefix = "w/",
                                                                     .after = after,
                                                                     .events = on_events,
                                                                     .state = on_watch_state,
                                                                     .compacted = on_compacted,
                                                                     .user = watched});
}

static void a_watch_goes_on_over_a_restart_of_etcd(void **state)
{
    struct fixture *f = *state;
    struct got first = put(f, "w/a", "1");
    struct watched watched = {.wanted = 3};
    struct atl_etcd_watch *watching = watch(f, first.revision - 1, &watched);
    (void)put(f, "x/not-mine", "0");
    (void)put(f, "w/b", "2");
    assert_true(compare_and_put(f, "w/c", 0, "3").succeeded);
    assert_true(etcd_fixture_wait(f->etcd, &watched.done));
    assert_string_equal(watched.text, "w/a=1 w/b=2 w/c=3 ");
    etcd_fixture_kill(f->etcd, 0);
    struct got lost = put(f, "w/d", "4");
    if (lost.code == ATL_E_UNAVAILABLE && lost.outcome == ATL_ETCD_UNKNOWN)
        lost = put(f, "w/d", "4"); /* the first found out */
    assert_int_equal(lost.code, ATL_E_UNAVAILABLE);
    assert_int_equal(lost.outcome, ATL_ETCD_NOT_DONE);
    etcd_fixture_start(f->etcd, 0);
    struct got again = {.code = ATL_E_UNAVAILABLE};
    for (int i = 0; i < 200 && again.code != ATL_OK; i++) {
        atl_loop_step(f->loop, 50 * ATL_MS);
        again = put(f, "w/d", "5");
    }
    assert_atl_ok(again.code, &again.error);
    watched.wanted = 4;
    watched.done = watched.events >= 4;
    assert_true(etcd_fixture_wait(f->etcd, &watched.done));
    assert_string_equal(watched.text, "w/a=1 w/b=2 w/c=3 w/d=5 ");
    assert_true(watched.losses > 0);
    atl_etcd_watch_free(&watching);
}

static void a_watch_behind_a_compaction_says_list_again(void **state)
{
    struct fixture *f = *state;
    struct got first = put(f, "w/a", "1");
    struct got last = put(f, "w/a", "2");
    Etcd__CompactionRequest compact = ETCD__COMPACTION_REQUEST__INIT;
    compact.revision = last.revision;
    assert_int_equal(ask(f, ATL_ETCD_COMPACT, &compact.base).code, ATL_OK);
    struct watched watched = {.wanted = 1};
    struct atl_etcd_watch *watching = watch(f, first.revision - 1, &watched);
    assert_true(etcd_fixture_wait(f->etcd, &watched.compacted));
    assert_int_equal(watched.events, 0);
    assert_int_equal(watched.last, last.revision);
    atl_etcd_watch_free(&watching);
}

/* 24 revisions of 1 MiB come in parts: etcd cuts what is over its limit of a request. */
static void large_answers_come_in_parts(void **state)
{
    struct fixture *f = *state;
    size_t size = 1 << 20;
    char *big = atl_alloc0(size + 1);
    memset(big, 'b', size);
    struct got first = {.revision = 0};
    for (int i = 0; i < 24; i++) {
        struct got got = put(f, "w/big", big);
        assert_atl_ok(got.code, &got.error);
        first = i == 0 ? got : first;
    }
    struct watched watched = {.wanted = 24};
    struct atl_etcd_watch *watching = watch(f, first.revision - 1, &watched);
    assert_true(etcd_fixture_wait(f->etcd, &watched.done));
    assert_int_equal(watched.bytes, 24 * size);
    assert_int_equal(watched.losses, 0);
    atl_etcd_watch_free(&watching);
    free(big);
}

/* --- leases, upkeep, members --- */

struct leased {
    int64_t id;
    unsigned int grants;
    bool granted;
    bool lost;
};

static void on_grant(int64_t id, void *user)
{
    struct leased *leased = user;
    leased->id = id;
    leased->grants++;
    leased->granted = true;
}

static void on_lost(void *user)
{
    struct leased *leased = user;
    leased->lost = true;
    leased->granted = false;
}

static void a_lease_is_kept_and_replaced_when_it_is_lost(void **state)
{
    struct fixture *f = *state;
    struct leased leased = {.id = 0};
    struct atl_etcd_lease *lease =
        atl_etcd_lease_new(f->channel, f->loop,
                           &(const struct atl_etcd_lease_options){
                               .ttl_s = 1, .granted = on_grant, .lost = on_lost, .user = &leased});
    assert_true(etcd_fixture_wait(f->etcd, &leased.granted));
    Etcd__PutRequest request = ETCD__PUT_REQUEST__INIT;
    request.key = data("leased");
    request.value = data("soft");
    request.lease = leased.id;
    assert_int_equal(ask(f, ATL_ETCD_PUT, &request.base).code, ATL_OK);
    for (atl_ns until = atl_clock_monotonic() + 3 * ATL_SECOND; atl_clock_monotonic() < until;)
        atl_loop_step(f->loop, 50 * ATL_MS);
    assert_int_equal(leased.grants, 1);
    assert_int_equal(get(f, "leased", 0, false).count, 1); /* outlived its second */
    Etcd__LeaseRevokeRequest revoke = ETCD__LEASE_REVOKE_REQUEST__INIT;
    revoke.id = leased.id;
    assert_int_equal(ask(f, ATL_ETCD_LEASE_REVOKE, &revoke.base).code, ATL_OK);
    assert_true(etcd_fixture_wait(f->etcd, &leased.lost));
    assert_true(etcd_fixture_wait(f->etcd, &leased.granted));
    assert_int_equal(leased.grants, 2);
    atl_etcd_lease_free(&lease);
}

struct snapped {
    bool done;
    enum atl_code code;
    size_t bytes;
};

static void on_piece(const uint8_t *bytes, size_t size, void *user)
{
    (void)bytes;
    ((struct snapped *)user)->bytes += size;
}

static void on_snapped(enum atl_code code, const struct atl_error *error, void *user)
{
    (void)error;
    ((struct snapped *)user)->done = true;
    ((struct snapped *)user)->code = code;
}

static void a_member_is_kept_up(void **state)
{
    struct fixture *f = *state;
    Etcd__StatusRequest status = ETCD__STATUS_REQUEST__INIT;
    Etcd__DefragmentRequest defragment = ETCD__DEFRAGMENT_REQUEST__INIT;
    Etcd__AlarmRequest alarms = ETCD__ALARM_REQUEST__INIT;
    Etcd__MemberListRequest members = ETCD__MEMBER_LIST_REQUEST__INIT;
    size_t size = ask(f, ATL_ETCD_STATUS, &status.base).count;
    assert_true(size > 0);
    assert_int_equal(ask(f, ATL_ETCD_DEFRAGMENT, &defragment.base).code, ATL_OK);
    alarms.action = ETCD__ALARM_REQUEST__ACTION__ACTIVATE;
    alarms.alarm = ETCD__ALARM_TYPE__NOSPACE;
    assert_int_equal(ask(f, ATL_ETCD_ALARM, &alarms.base).code, ATL_OK);
    struct got refused = put(f, "k", "v");
    assert_int_equal(refused.code, ATL_E_LIMIT);
    assert_int_equal(refused.outcome, ATL_ETCD_NOT_DONE);
    alarms.action = ETCD__ALARM_REQUEST__ACTION__GET;
    assert_int_equal(ask(f, ATL_ETCD_ALARM, &alarms.base).count, 1);
    alarms.action = ETCD__ALARM_REQUEST__ACTION__DEACTIVATE;
    assert_int_equal(ask(f, ATL_ETCD_ALARM, &alarms.base).code, ATL_OK);
    assert_int_equal(put(f, "k", "v").code, ATL_OK);
    assert_int_equal(ask(f, ATL_ETCD_MEMBER_LIST, &members.base).count, 1);
    struct snapped snapped = {.done = false};
    struct atl_etcd_snapshot snapshot = {.piece = on_piece, .end = on_snapped, .user = &snapped};
    atl_etcd_snapshot_start(f->channel, &snapshot);
    assert_true(etcd_fixture_wait(f->etcd, &snapped.done));
    assert_int_equal(snapped.code, ATL_OK);
    assert_true(snapped.bytes > 4096);
}

static void a_member_joins_as_learner_and_is_promoted(void **state)
{
    struct fixture *f = *state;
    struct etcd_member *joiner = etcd_fixture_add(f->etcd);
    joiner->learner = true;
    Etcd__MemberAddRequest add = ETCD__MEMBER_ADD_REQUEST__INIT;
    char *urls[] = {joiner->peer_url};
    add.n_peer_urls = 1;
    add.peer_urls = urls;
    add.is_learner = 1;
    struct got added = ask(f, ATL_ETCD_MEMBER_ADD, &add.base);
    assert_atl_ok(added.code, &added.error);
    etcd_fixture_start(f->etcd, 1);
    Etcd__MemberPromoteRequest promote = ETCD__MEMBER_PROMOTE_REQUEST__INIT;
    promote.id = added.id;
    struct got promoted = {.code = ATL_E_STATE};
    for (int i = 0; i < 200 && promoted.code != ATL_OK; i++) { /* not before it has caught up */
        atl_loop_step(f->loop, 50 * ATL_MS);
        promoted = ask(f, ATL_ETCD_MEMBER_PROMOTE, &promote.base);
    }
    assert_atl_ok(promoted.code, &promoted.error);
    assert_int_equal(put(f, "k", "with two").code, ATL_OK);
    Etcd__MemberRemoveRequest remove = ETCD__MEMBER_REMOVE_REQUEST__INIT;
    remove.id = added.id;
    struct got removed = {.code = ATL_E_STATE};
    for (int i = 0; i < 200 && removed.code != ATL_OK; i++) { /* etcd wants both to have been there a while */
        atl_loop_step(f->loop, 50 * ATL_MS);
        removed = ask(f, ATL_ETCD_MEMBER_REMOVE, &remove.base);
    }
    assert_atl_ok(removed.code, &removed.error);
    Etcd__MemberListRequest members = ETCD__MEMBER_LIST_REQUEST__INIT;
    assert_int_equal(ask(f, ATL_ETCD_MEMBER_LIST, &members.base).count, 1);
}

/* --- three members with TLS --- */

static void the_death_of_a_member_is_survived(void **state)
{
    struct fixture *f = *state;
    struct got first = put(f, "w/0", "0");
    assert_atl_ok(first.code, &first.error);
    struct watched watched = {.wanted = 2};
    struct atl_etcd_watch *watching = watch(f, first.revision - 1, &watched);
    assert_true(etcd_fixture_wait(f->etcd, &watched.following));
    etcd_fixture_kill(f->etcd, etcd_fixture_leader(f->etcd));
    atl_ns from = atl_clock_monotonic();
    struct got got = {.code = ATL_E_UNAVAILABLE};
    patience = 200 * ATL_MS; /* a request that went down with the leader is never answered */
    for (int i = 0; i < 400 && got.code != ATL_OK; i++) {
        got = put(f, "w/1", "1");
        atl_loop_step(f->loop, 10 * ATL_MS);
    }
    assert_atl_ok(got.code, &got.error);
    patience = 5 * ATL_SECOND;
    print_message("writes again after %u ms\n", (unsigned int)((atl_clock_monotonic() - from) / ATL_MS));
    watched.done = watched.events >= 2;
    assert_true(etcd_fixture_wait(f->etcd, &watched.done));
    atl_etcd_watch_free(&watching);
}

static void without_a_leader_writes_are_refused_at_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, "k", "v").code, ATL_OK);
    size_t leader = etcd_fixture_leader(f->etcd);
    etcd_fixture_kill(f->etcd, leader);
    etcd_fixture_kill(f->etcd, (leader + 1) % 3);
    struct got got = {.code = ATL_OK};
    atl_ns until = atl_clock_monotonic() + 30 * ATL_SECOND;
    while (strstr(got.error.text, "no leader") == NULL && atl_clock_monotonic() < until)
        got = put(f, "k", "v");
    assert_int_equal(got.code, ATL_E_UNAVAILABLE);
    assert_int_equal(got.outcome, ATL_ETCD_NOT_DONE);
    assert_string_equal(get(f, "k", 0, true).value, "v"); /* reads go on */
}

static void a_client_that_is_not_known_and_a_server_that_is_not_known_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *ca;
        bool cert;
        const char *name;
        const char *reason;
    } cases[] = {
        {"ca.pem", false, NULL, ""},
        {"other.pem", true, NULL, "certificate"},
        {"ca.pem", true, "elsewhere.example", "mismatch"},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        char *ca ATL_FREE_AT_EXIT = atl_format("%s/%s", f->etcd->dir, cases[i].ca);
        const struct atl_grpc_tls tls = {.ca_file = ca,
                                         .cert_file = cases[i].cert ? f->etcd->cert : NULL,
                                         .key_file = cases[i].cert ? f->etcd->key : NULL,
                                         .name = cases[i].name};
        const char *endpoints[ETCD_MEMBERS_MAX];
        struct atl_grpc_options options = etcd_fixture_options(f->etcd, endpoints);
        options.tls = &tls;
        struct atl_grpc *good = f->channel;
        assert_atl_ok(atl_grpc_new(&options, &f->channel, &err), &err);
        struct got got = put(f, "k", "v");
        assert_int_equal(got.code, ATL_E_UNAVAILABLE);
        assert_int_equal(got.outcome, ATL_ETCD_NOT_DONE);
        if (strstr(got.error.text, cases[i].reason) == NULL)
            fail_msg("'%s' does not say '%s'", got.error.text, cases[i].reason);
        atl_grpc_free(&f->channel);
        f->channel = good;
    }
}

#define ONE(fn)   cmocka_unit_test_setup_teardown(fn, one_member, close_fixture)
#define THREE(fn) cmocka_unit_test_setup_teardown(fn, three_members, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(keys_are_put_read_compared_and_deleted),
        ONE(all_pages_of_a_list_are_of_one_revision),
        ONE(a_watch_goes_on_over_a_restart_of_etcd),
        ONE(a_watch_behind_a_compaction_says_list_again),
        ONE(large_answers_come_in_parts),
        ONE(a_lease_is_kept_and_replaced_when_it_is_lost),
        ONE(a_member_is_kept_up),
        ONE(a_member_joins_as_learner_and_is_promoted),
        THREE(the_death_of_a_member_is_survived),
        THREE(without_a_leader_writes_are_refused_at_once),
        THREE(a_client_that_is_not_known_and_a_server_that_is_not_known_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
