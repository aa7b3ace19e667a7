/* Calls over the bus: echo, deadlines, cancelling, who may call, bounds, retries; all over real sockets. */
#include "bus_fixture.h"

static void a_call_is_answered_with_the_revision_seen(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_ECHO, NULL);
    assert_int_equal(f->answers, 0); /* never inside the call itself */
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_OK);
    assert_string_equal(f->text, "hello");
    assert_int_equal(f->seen.epoch, 1);
    assert_int_equal(f->seen.number, 7);
}

static void waiting_for_a_call_gives_the_answer_in_the_callers_arena(void **state)
{
    struct fixture *f = *state;
    Atoll__Bus__V1__PingRequest input = ATOLL__BUS__V1__PING_REQUEST__INIT;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const ProtobufCMessage *output = NULL;
    struct atl_error err = {0};
    struct atl_call_options options = {.service = "tester"};
    assert_atl_ok(
        atl_bus_call_wait(f->stranger, &atl_bus_rpc_ping, &input.base, &options, &arena, &output, &err),
        &err);
    const Atoll__Bus__V1__PingReply *reply = (const void *)output;
    assert_string_equal(reply->service, "tester");
    assert_string_equal(reply->version, "1.2.3");
    assert_int_equal(reply->pid, getpid());
}

static void stub_done(const Atoll__Bus__V1__Event *event, void *data)
{
    struct fixture *f = data;
    f->answers++;
    assert_string_equal(event->topic, "stub");
}

static void protobuf_c_stubs_call_over_the_bus(void **state)
{
    struct fixture *f = *state;
    ProtobufCService *stub = atl_bus_stub(f->friend, &test_service);
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    char topic[] = "stub";
    input.topic = topic;
    stub->invoke(stub, TEST_ECHO, &input.base, (ProtobufCClosure)(void (*)(void))stub_done, f);
    run_until(f, &f->answers, 1);
}

static void a_call_without_an_answer_ends_at_its_deadline_and_is_cancelled_there(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_SLOW, &(struct atl_call_options){.deadline = 100 * ATL_MS});
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_DEADLINE);
    assert_true(f->sent);
    run_until(f, &f->cancelled, 1);
    assert_int_equal(atl_request_remaining(f->held[0]), 0);
    atl_request_reply(f->held[0], &(Atoll__Bus__V1__Event)ATOLL__BUS__V1__EVENT__INIT.base);
    run_for(f, 20 * ATL_MS);
    assert_int_equal(f->answers, 1);
}

static void a_cancelled_call_has_no_callback_and_its_handler_is_told(void **state)
{
    struct fixture *f = *state;
    struct atl_call *slow = call(f, f->friend, TEST_SLOW, NULL);
    run_until(f, &f->held_count, 1);
    atl_call_cancel(slow);
    run_until(f, &f->cancelled, 1);
    atl_request_fail(f->held[0], &(struct atl_error){.code = ATL_E_CANCELLED, .text = "as told"}, NULL);
    run_for(f, 20 * ATL_MS);
    assert_int_equal(f->answers, 0);
}

static void errors_name_every_parameter(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_SLOW, NULL);
    run_until(f, &f->held_count, 1);
    struct atl_errors *fields = atl_new0(struct atl_errors);
    atl_errors_add(fields, "vmid", "must be between %d and %d", 100, 999);
    atl_errors_add(fields, "name", "is too long");
    struct atl_error error;
    (void)atl_fail(&error, ATL_E_INVALID, "vmid", "Parameter verification failed.");
    atl_request_fail(f->held[0], &error, fields);
    free(fields);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_INVALID);
    assert_string_equal(f->field, "vmid");
    assert_string_equal(f->text, "Parameter verification failed.");
    assert_string_equal(f->first_error, "must be between 100 and 999");
}

static void a_service_that_the_method_does_not_list_is_refused(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->stranger, TEST_ECHO, NULL);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_DENIED);
    assert_false(f->sent);
    assert_int_equal(f->handled, 0);
}

static void users_are_admitted_by_the_guard_and_come_through_the_gateway_only(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *assertion;
        int rpc;
        int who; /* 0 gateway, 1 friend, 2 friend with a task */
        enum atl_code code;
        const char *text;
    } cases[] = {
        {"good:root@pam", TEST_USER, 0, ATL_OK, "root@pam"},
        {"bad:root@pam", TEST_USER, 0, ATL_E_UNAUTHENTICATED, "invalid assertion"},
        {NULL, TEST_USER, 0, ATL_E_UNAUTHENTICATED, "atoll.test.v1.Test.User needs a user who is logged in"},
        {NULL, TEST_WORLD, 0, ATL_OK, "-"},
        {NULL, TEST_WORLD, 1, ATL_E_DENIED, "friend may not call atoll.test.v1.Test.World"},
        {"good:root@pam", TEST_USER, 1, ATL_E_DENIED,
         "friend may not call atoll.test.v1.Test.User for a user"},
        {"good:root@pam", TEST_USER, 2, ATL_OK, "root@pam"},
        {"bad:", TEST_ECHO, 1, ATL_OK, "hello"}, /* asks for no user: not looked at */
        {"bad:", TEST_ECHO, 0, ATL_OK, "hello"},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct atl_call_options options = {.assertion = (const uint8_t *)cases[i].assertion};
        options.assertion_size = cases[i].assertion != NULL ? strlen(cases[i].assertion) : 0;
        options.task = cases[i].who == 2 ? "UPID:pve1:" : NULL;
        (void)call(f, cases[i].who == 0 ? f->gateway : f->friend, cases[i].rpc, &options);
        run_until(f, &f->answers, i + 1);
        assert_int_equal(f->code, cases[i].code);
        assert_string_equal(f->text, cases[i].text);
    }
}

static void a_request_waits_for_the_revision_it_needs(void **state)
{
    struct fixture *f = *state;
    struct atl_call_options options = {.min_revision = {.epoch = 1, .number = 8}};
    (void)call(f, f->friend, TEST_ECHO, &options);
    options.deadline = 50 * ATL_MS;
    options.min_revision.number = 900;
    (void)call(f, f->friend, TEST_ECHO, &options);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_DEADLINE);
    assert_int_equal(f->handled, 0);
    f->revision.number = 8;
    atl_bus_retry_waiting(f->server);
    run_until(f, &f->answers, 2);
    assert_int_equal(f->code, ATL_OK);
    assert_int_equal(f->handled, 1);
    f->revision =
        (struct atl_revision){.epoch = 2, .number = 1}; /* a newer epoch is newer whatever the number */
    options = (struct atl_call_options){.min_revision = {.epoch = 1, .number = 900}};
    (void)call(f, f->friend, TEST_ECHO, &options);
    run_until(f, &f->answers, 3);
    assert_int_equal(f->code, ATL_OK);
}

/* Without a quorum nothing newer comes: it is not waited for, not even by those who wait already. */
static void nobody_waits_for_a_copy_that_is_frozen(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *assertion;
        int rpc;
        uint64_t number; /* of the revision that is asked for; the copy is at 7 */
        enum atl_code code;
        const char *text;
    } cases[] = {
        {"good:a@pve", TEST_READ, 900, ATL_OK, "a@pve"}, /* it reads */
        {"future", TEST_READ, 7, ATL_E_UNAUTHENTICATED,
         "the user's assertion is newer than this node's copy of the tree"},
        {"bad:", TEST_READ, 900, ATL_E_UNAUTHENTICATED, "invalid assertion"},
        {"good:a@pve", TEST_USER, 900, ATL_E_UNAVAILABLE,
         "the cluster has no quorum: the configuration can be read, not changed"},
        {"future", TEST_USER, 7, ATL_E_UNAVAILABLE,
         "the cluster has no quorum: the configuration can be read, not changed"},
        {"good:a@pve", TEST_USER, 7, ATL_OK, "a@pve"}, /* the handler says what cannot be done */
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        f->frozen = i % 2 == 1;
        struct atl_call_options options = {.assertion = (const uint8_t *)cases[i].assertion,
                                           .assertion_size = strlen(cases[i].assertion),
                                           .min_revision = {.epoch = 1, .number = cases[i].number}};
        (void)call(f, f->gateway, cases[i].rpc, &options);
        run_for(f, 20 * ATL_MS);
        f->frozen = true;
        run_until(f, &f->answers, i + 1);
        assert_int_equal(f->code, cases[i].code);
        assert_string_equal(f->text, cases[i].text);
    }
}

static void an_assertion_newer_than_the_copy_waits_for_it(void **state)
{
    struct fixture *f = *state;
    struct atl_call_options options = {.assertion = (const uint8_t *)"future", .assertion_size = 6};
    (void)call(f, f->gateway, TEST_USER, &options);
    run_for(f, 50 * ATL_MS);
    assert_int_equal(f->answers, 0);
    f->revision.number = 100;
    atl_bus_retry_waiting(f->server);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_UNAUTHENTICATED); /* looked at again, by the guard */
}

static void what_is_not_built_or_unknown_says_so(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_UNBUILT, NULL);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_UNIMPLEMENTED);
    assert_string_equal(f->text, "method 'atoll.test.v1.Test.Unbuilt' is not implemented by tester");
}

static void a_service_that_still_starts_is_asked_again(void **state)
{
    struct fixture *f = *state;
    static const char *const callers[] = {"friend", NULL};
    atl_bus_close(&f->server);
    f->server = open_bus(f, "tester", callers);
    atl_bus_set_starting(f->server, true);
    (void)call(f, f->friend, TEST_COUNT, NULL);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_string_equal(f->text, "tester is starting");
    (void)call(f, f->friend, TEST_COUNT, NULL);
    for (int i = 0; i < 3; i++)
        atl_loop_step(f->loop, 10 * ATL_MS);
    atl_bus_serve(f->server, &test_service, handlers, ATL_COUNT(handlers), f);
    atl_bus_set_starting(f->server, false);
    run_until(f, &f->answers, 2);
    assert_int_equal(f->code, ATL_OK);
    assert_int_equal(f->counted, 1);
}

static void a_request_that_is_too_large_is_refused_before_it_is_sent(void **state)
{
    struct fixture *f = *state;
    size_t size = ATL_BUS_MESSAGE_MAX + 1;
    uint8_t *bytes = atl_alloc0(size);
    (void)atl_bus_call_packed(f->friend, &test_rpcs[TEST_ECHO], bytes, size, NULL, answered, f);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_LIMIT);
    assert_false(f->sent);
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    input.has_change = 1;
    input.change = (ProtobufCBinaryData){.len = 4 << 20, .data = bytes};
    (void)atl_bus_call(f->friend, &test_rpcs[TEST_ECHO], &input.base, NULL, answered, f);
    run_until(f, &f->answers, 2);
    assert_int_equal(f->code, ATL_OK);
    assert_int_equal(f->size, 4 << 20);
    free(bytes);
}

static void a_caller_with_too_many_requests_is_refused_and_others_are_not(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < BUS_SERVED_MAX; i++)
        (void)call(f, f->friend, TEST_SLOW, NULL);
    run_until(f, &f->held_count, BUS_SERVED_MAX);
    (void)call(f, f->friend, TEST_ECHO, NULL);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_string_equal(f->text, "too many requests of friend are being served, try again later");
    (void)call(f, f->gateway, TEST_ECHO, NULL);
    run_until(f, &f->answers, 2);
    assert_int_equal(f->code, ATL_OK);
    Atoll__Bus__V1__Event output = ATOLL__BUS__V1__EVENT__INIT;
    for (size_t i = 0; i < f->held_count; i++)
        atl_request_reply(f->held[i], &output.base);
    run_until(f, &f->answers, 2 + BUS_SERVED_MAX);
    assert_int_equal(f->code, ATL_OK);
}

static void the_same_request_id_is_executed_once(void **state)
{
    struct fixture *f = *state;
    static const uint8_t id[ATL_REQUEST_ID_SIZE] = "fifteen letters";
    struct atl_call_options options = {.request_id = id};
    for (size_t i = 1; i <= 3; i++) {
        (void)call(f, f->friend, TEST_COUNT, &options);
        run_until(f, &f->answers, i);
        assert_int_equal(f->code, ATL_OK);
        assert_int_equal(f->number, 1);
    }
    assert_int_equal(f->counted, 1);
    Atoll__Bus__V1__Event other = ATOLL__BUS__V1__EVENT__INIT; /* the id with another payload */
    (void)atl_bus_call(f->friend, &test_rpcs[TEST_COUNT], &other.base, &options, answered, f);
    run_until(f, &f->answers, 4);
    assert_int_equal(f->code, ATL_E_INVALID);
    (void)call(f, f->gateway, TEST_COUNT, &options); /* another caller's ids are its own */
    run_until(f, &f->answers, 5);
    assert_int_equal(f->number, 2);
}

static void a_retry_joins_the_request_that_is_being_served(void **state)
{
    struct fixture *f = *state;
    static const uint8_t id[ATL_REQUEST_ID_SIZE] = "fifteen letters";
    struct atl_call_options options = {.request_id = id};
    struct atl_bus *second = open_bus(f, "friend", NULL);
    (void)call(f, f->friend, TEST_SLOW, &options);
    run_until(f, &f->held_count, 1);
    (void)call(f, second, TEST_SLOW, &options);
    run_for(f, 50 * ATL_MS);
    assert_int_equal(f->held_count, 1);
    Atoll__Bus__V1__Event output = ATOLL__BUS__V1__EVENT__INIT;
    atl_request_reply(f->held[0], &output.base);
    run_until(f, &f->answers, 2);
    atl_bus_close(&second);
}

static void a_request_whose_caller_vanished_is_cancelled(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_SLOW, NULL);
    run_until(f, &f->held_count, 1);
    atl_bus_close(&f->friend);
    run_until(f, &f->cancelled, 1);
    Atoll__Bus__V1__Event output = ATOLL__BUS__V1__EVENT__INIT;
    atl_request_reply(f->held[0], &output.base); /* to nobody */
}

static void calls_made_for_a_request_end_with_it(void **state)
{
    struct fixture *f = *state;
    struct atl_call *outer =
        call(f, f->friend, TEST_SLOW, &(struct atl_call_options){.deadline = 2 * ATL_SECOND});
    run_until(f, &f->held_count, 1);
    struct atl_call_options options = {.parent = f->held[0]};
    (void)call(f, f->gateway, TEST_SLOW, &options);
    run_until(f, &f->held_count, 2);
    assert_true(atl_request_remaining(f->held[1]) <= 2 * ATL_SECOND);
    atl_call_cancel(outer);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_CANCELLED);
    run_until(f, &f->cancelled, 2);
}

static void a_peer_that_is_not_there_is_waited_for_a_while(void **state)
{
    struct fixture *f = *state;
    atl_bus_close(&f->server);
    (void)call(f, f->friend, TEST_COUNT, NULL);
    (void)call(f, f->friend, TEST_COUNT, &(struct atl_call_options){.deadline = 50 * ATL_MS});
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_DEADLINE);
    assert_false(f->sent);
    run_for(f, 200 * ATL_MS);
    open_server(f); /* a restart is ridden out */
    run_until(f, &f->answers, 2);
    assert_int_equal(f->code, ATL_OK);
    atl_bus_close(&f->server);
    run_for(f, 20 * ATL_MS);
    (void)call(f, f->friend, TEST_COUNT, NULL);
    atl_ns before = atl_clock_monotonic();
    run_until(f, &f->answers, 3);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_false(f->sent);
    assert_true(atl_clock_monotonic() - before < 3 * ATL_SECOND);
}

static void a_restart_ends_what_was_sent_and_repeats_what_may_be(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_SLOW, NULL);
    (void)call(f, f->friend, TEST_STEADY, NULL);
    run_until(f, &f->held_count, 2);
    atl_bus_close(&f->server);
    assert_int_equal(f->cancelled, 2);
    run_until(f, &f->answers, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_true(f->sent);
    open_server(f);
    run_until(f, &f->held_count, 3); /* Steady came again */
    assert_string_equal(atl_request_rpc(f->held[2])->name, "atoll.test.v1.Test.Steady");
    Atoll__Bus__V1__Event output = ATOLL__BUS__V1__EVENT__INIT;
    atl_request_reply(f->held[2], &output.base);
    run_until(f, &f->answers, 2);
    assert_int_equal(f->code, ATL_OK);
}

/* --- with a socket of our own, for what a good caller never does --- */

static void a_run_folder_too_deep_for_a_socket_is_named(void **state)
{
    struct fixture *f = *state;
    static const char *const callers[] = {"friend", NULL};
    char deep[128];
    (void)snprintf(deep, sizeof deep, "%s/%080d", f->dir, 0);
    struct atl_bus_options options = {
        .loop = f->loop, .service = "tester", .node = "n", .run_dir = deep, .make_folders = callers};
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    assert_int_equal(atl_bus_open(&options, &bus, &err), ATL_E_INVALID);
    assert_string_equal(err.field, "run-dir");
    assert_null(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        bus_test(a_call_is_answered_with_the_revision_seen),
        bus_test(waiting_for_a_call_gives_the_answer_in_the_callers_arena),
        bus_test(protobuf_c_stubs_call_over_the_bus),
        bus_test(a_call_without_an_answer_ends_at_its_deadline_and_is_cancelled_there),
        bus_test(a_cancelled_call_has_no_callback_and_its_handler_is_told),
        bus_test(errors_name_every_parameter),
        bus_test(a_service_that_the_method_does_not_list_is_refused),
        bus_test(users_are_admitted_by_the_guard_and_come_through_the_gateway_only),
        bus_test(a_request_waits_for_the_revision_it_needs),
        bus_test(nobody_waits_for_a_copy_that_is_frozen),
        bus_test(an_assertion_newer_than_the_copy_waits_for_it),
        bus_test(what_is_not_built_or_unknown_says_so),
        bus_test(a_service_that_still_starts_is_asked_again),
        bus_test(a_request_that_is_too_large_is_refused_before_it_is_sent),
        bus_test(a_caller_with_too_many_requests_is_refused_and_others_are_not),
        bus_test(the_same_request_id_is_executed_once),
        bus_test(a_retry_joins_the_request_that_is_being_served),
        bus_test(a_request_whose_caller_vanished_is_cancelled),
        bus_test(calls_made_for_a_request_end_with_it),
        bus_test(a_peer_that_is_not_there_is_waited_for_a_while),
        bus_test(a_restart_ends_what_was_sent_and_repeats_what_may_be),
        bus_test(a_run_folder_too_deep_for_a_socket_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
