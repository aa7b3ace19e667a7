/* A caller that speaks to the socket itself: late requests, garbage, answers nobody reads. */
#include "bus_fixture.h"

struct raw {
    void *context;
    void *socket;
};

static struct raw raw_open(struct fixture *f)
{
    struct raw raw = {.context = zmq_ctx_new()};
    raw.socket = zmq_socket(raw.context, ZMQ_DEALER);
    char endpoint[128];
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/bus/tester/friend/rpc.sock", f->dir);
    assert_int_equal(zmq_connect(raw.socket, endpoint), 0);
    return raw;
}

static void raw_close(struct raw *raw)
{
    int zero = 0;
    (void)zmq_setsockopt(raw->socket, ZMQ_LINGER, &zero, sizeof zero);
    (void)zmq_close(raw->socket);
    (void)zmq_ctx_term(raw->context);
}

static bus_header *raw_answer(struct fixture *f, const struct raw *raw, struct atl_arena *arena)
{
    zmq_msg_t parts[3];
    atl_ns end = atl_clock_monotonic() + 5 * ATL_SECOND;
    while (atl_clock_monotonic() < end) {
        atl_loop_step(f->loop, ATL_MS);
        int count = atl_bus_receive(raw->socket, parts);
        bus_header *header = NULL;
        if (count == 2)
            header = atl_bus_header_read(zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0]), arena);
        atl_bus_parts_close(parts);
        if (header != NULL)
            return header;
    }
    return NULL;
}

static void raw_send(const struct raw *raw, bus_header *header, const char *payload)
{
    zmq_msg_t frame;
    atl_bus_header_pack(header, &frame);
    assert_true(zmq_msg_send(&frame, raw->socket, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(raw->socket, payload, strlen(payload), 0) >= 0);
}

static bus_header raw_request(uint8_t *id)
{
    static char method[] = "atoll.test.v1.Test.Echo";
    bus_header header = ATOLL__BUS__V1__HEADER__INIT;
    header.has_version = header.has_kind = header.has_request_id = 1;
    header.version = 1;
    header.kind = ATOLL__BUS__V1__HEADER__KIND__REQUEST;
    header.request_id = (ProtobufCBinaryData){.len = ATL_REQUEST_ID_SIZE, .data = id};
    header.method = method;
    header.has_sent_at_ns = header.has_remaining_ns = 1;
    header.sent_at_ns = atl_clock_boot();
    header.remaining_ns = ATL_SECOND;
    return header;
}

static void one_who_does_not_read_its_answers_stops_nobody(void **state)
{
    struct fixture *f = *state;
    struct raw raw = raw_open(f);
    int few = 10;
    assert_int_equal(zmq_setsockopt(raw.socket, ZMQ_SNDTIMEO, &few, sizeof few), 0);
    static char big[64 << 10];
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    input.has_change = 1;
    input.change = (ProtobufCBinaryData){.len = sizeof big, .data = (uint8_t *)big};
    zmq_msg_t payload;
    atl_bus_message_pack(&input.base, &payload);
    for (unsigned int i = 0; i < 5000; i++) { /* 320 MiB of answers, if they were kept */
        uint8_t id[ATL_REQUEST_ID_SIZE] = {0};
        memcpy(id, &i, sizeof i);
        bus_header header = raw_request(id);
        zmq_msg_t frame;
        zmq_msg_t copy;
        atl_bus_header_pack(&header, &frame);
        (void)zmq_msg_init(&copy);
        assert_int_equal(zmq_msg_copy(&copy, &payload), 0);
        if (zmq_msg_send(&frame, raw.socket, ZMQ_SNDMORE) < 0) {
            (void)zmq_msg_close(&frame); /* it is told to wait: its own affair */
            (void)zmq_msg_close(&copy);
        } else {
            assert_true(zmq_msg_send(&copy, raw.socket, 0) >= 0);
        }
        atl_loop_step(f->loop, 0);
    }
    (void)zmq_msg_close(&payload);
    atl_ns before = atl_clock_monotonic();
    (void)call(f, f->friend, TEST_ECHO, NULL); /* the same caller, another connection */
    run_until(f, &f->answers, 1);
    (void)call(f, f->gateway, TEST_ECHO, NULL);
    run_until(f, &f->answers, 2);
    assert_int_equal(f->code, ATL_OK);
    assert_true(atl_clock_monotonic() - before < 2 * ATL_SECOND);
    raw_close(&raw);
}

static void a_late_request_is_refused_and_not_executed(void **state)
{
    struct fixture *f = *state;
    struct raw raw = raw_open(f);
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    uint8_t id[ATL_REQUEST_ID_SIZE] = {1};
    bus_header header = raw_request(id);
    header.sent_at_ns -= 2 * ATL_SECOND;
    raw_send(&raw, &header, "");
    const bus_header *reply = raw_answer(f, &raw, &arena);
    assert_non_null(reply);
    assert_int_equal(reply->status, ATL_E_DEADLINE);
    assert_true(reply->not_executed);
    assert_int_equal(f->handled, 0);
    header.sent_at_ns = atl_clock_boot() + ATL_HOUR; /* a clock from the future gains nothing */
    raw_send(&raw, &header, "");
    reply = raw_answer(f, &raw, &arena);
    assert_int_equal(reply->status, ATL_OK);
    raw_close(&raw);
}

static void garbage_is_survived_and_answered_where_it_can_be(void **state)
{
    struct fixture *f = *state;
    struct raw raw = raw_open(f);
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    uint8_t id[ATL_REQUEST_ID_SIZE] = {1};
    bus_header header = raw_request(id);
    static const char *const parts[] = {"", "x", "\xff\xff\xff\xff", "\x08\x01"};
    for (size_t i = 0; i < ATL_COUNT(parts); i++) {
        assert_true(zmq_send(raw.socket, parts[i], strlen(parts[i]), 0) >= 0);
        assert_true(zmq_send(raw.socket, parts[i], strlen(parts[i]), ZMQ_SNDMORE) >= 0);
        assert_true(zmq_send(raw.socket, parts[i], strlen(parts[i]), 0) >= 0);
        for (int k = 0; k < 5; k++)
            assert_true(zmq_send(raw.socket, parts[i], strlen(parts[i]), k < 4 ? ZMQ_SNDMORE : 0) >= 0);
    }
    raw_send(&raw, &header, "\xff\xff no event");
    const bus_header *reply = raw_answer(f, &raw, &arena);
    assert_non_null(reply);
    assert_int_equal(reply->status, ATL_E_INVALID);
    assert_string_equal(reply->message, "the request is no atoll.bus.v1.Event");
    header.version = 2;
    raw_send(&raw, &header, "");
    reply = raw_answer(f, &raw, &arena);
    assert_int_equal(reply->status, ATL_E_UNIMPLEMENTED);
    header.version = 1;
    header.method = NULL;
    raw_send(&raw, &header, "");
    reply = raw_answer(f, &raw, &arena);
    assert_int_equal(reply->status, ATL_E_UNIMPLEMENTED);
    header.kind = ATOLL__BUS__V1__HEADER__KIND__BEAT;
    raw_send(&raw, &header, "");
    reply = raw_answer(f, &raw, &arena);
    assert_int_equal(reply->kind, ATOLL__BUS__V1__HEADER__KIND__BEAT);
    assert_true(f->server->ports->garbage + f->server->ports->next->garbage +
                    f->server->ports->next->next->garbage >=
                12);
    raw_close(&raw);
}

static void a_handler_that_never_answers_is_answered_for(void **state)
{
    struct fixture *f = *state;
    struct raw raw = raw_open(f);
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    uint8_t id[ATL_REQUEST_ID_SIZE] = {1};
    static char method[] = "atoll.test.v1.Test.Slow";
    bus_header header = raw_request(id);
    header.method = method;
    header.remaining_ns = 100 * ATL_MS;
    raw_send(&raw, &header, "");
    run_until(f, &f->held_count, 1);
    f->held[0]->deadline -= 5 * ATL_SECOND; /* as if that time had passed */
    const bus_header *reply = raw_answer(f, &raw, &arena);
    assert_non_null(reply);
    assert_int_equal(reply->status, ATL_E_DEADLINE);
    assert_false(reply->not_executed);
    Atoll__Bus__V1__Event output = ATOLL__BUS__V1__EVENT__INIT;
    output.has_sequence = 1;
    output.sequence = 42;
    atl_request_reply(f->held[0], &output.base); /* not sent, but remembered for a retry */
    header.remaining_ns = ATL_SECOND;
    header.sent_at_ns = atl_clock_boot();
    raw_send(&raw, &header, "");
    reply = raw_answer(f, &raw, &arena);
    assert_int_equal(reply->status, ATL_OK);
    assert_int_equal(f->held_count, 1);
    raw_close(&raw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        bus_test(one_who_does_not_read_its_answers_stops_nobody),
        bus_test(a_late_request_is_refused_and_not_executed),
        bus_test(garbage_is_survived_and_answered_where_it_can_be),
        bus_test(a_handler_that_never_answers_is_answered_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
