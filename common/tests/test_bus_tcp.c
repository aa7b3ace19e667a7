/* Calls between nodes: keys, deadlines, cancelling, bounds, changes of the directory; all over real sockets.
 */
#include "bus_rig.h"

#include <sys/stat.h>

enum { HELD_MAX = 1024 };

struct fixture {
    struct rig rig;
    struct atl_bus *server; /* storage-agent on n1 */
    struct atl_bus *friend; /* ha-lrm on n2, whom the methods list */
    struct atl_bus *other;  /* ha-lrm on n3 */
    struct atl_request *held[HELD_MAX];
    size_t held_count;
    size_t cancelled;
    size_t handled;
    char from[64]; /* who called last, as the principal says */
    /* the last answer */
    size_t answers;
    size_t ok;
    enum atl_code code;
    bool sent;
    char text[ATL_TEXT_MAX];
    char first_error[ATL_TEXT_MAX];
    size_t size;
    size_t refused;
};

static void echo(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct fixture *f = user;
    const struct atl_principal *principal = atl_request_principal(request);
    f->handled++;
    (void)snprintf(f->from, sizeof f->from, "%s@%s", principal->service,
                   principal->node != NULL ? principal->node : "-");
    atl_request_reply(request, input);
}

static void note_cancel(struct atl_request *request, void *user)
{
    (void)request;
    struct fixture *f = user;
    f->cancelled++;
}

static void hold(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct fixture *f = user;
    assert_true(f->held_count < HELD_MAX);
    f->held[f->held_count++] = request;
    atl_request_on_cancel(request, note_cancel, f);
}

static void let_go(struct fixture *f)
{
    const struct atl_error error = {.code = ATL_E_CANCELLED, .text = "let go"};
    while (f->held_count > 0)
        atl_request_fail(f->held[--f->held_count], &error, NULL);
}

static void refuse(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct fixture *f = user;
    f->refused++;
    const struct atl_error error = {.code = ATL_E_UNAVAILABLE, .text = "not now"};
    atl_request_fail(request, &error, NULL);
}

static const struct atl_handler handlers[] = {
    {"Echo", echo}, {"Count", echo}, {"Slow", hold}, {"Steady", hold}};
static const struct atl_handler refusing[] = {
    {"Echo", refuse}, {"Count", refuse}, {"Slow", hold}, {"Steady", hold}};

static const struct atl_handler quick[] = {{"Echo", echo}, {"Count", echo}, {"Slow", echo}, {"Steady", echo}};

static struct atl_bus *open_server(struct fixture *f, unsigned int at)
{
    struct atl_bus *bus = rig_bus(&f->rig, at, "storage-agent");
    atl_bus_serve(bus, &test_service, handlers, ATL_COUNT(handlers), f);
    return bus;
}

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    rig_open(&f->rig);
    f->server = open_server(f, 0);
    f->friend = rig_bus(&f->rig, 1, "ha-lrm");
    f->other = rig_bus(&f->rig, 2, "ha-lrm");
    for (unsigned int i = 0; i < 3; i++)
        rig_tell_all(&f->rig, i, false);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    let_go(f);
    atl_bus_close(&f->friend);
    atl_bus_close(&f->other);
    atl_bus_close(&f->server);
    rig_close(&f->rig);
    free(f);
    return 0;
}

static void answered(const struct atl_reply *reply, void *user)
{
    struct fixture *f = user;
    f->answers++;
    f->ok += reply->code == ATL_OK;
    f->code = reply->code;
    f->sent = reply->sent;
    (void)atl_copy(f->text, sizeof f->text, reply->code != ATL_OK ? reply->error.text : "");
    if (reply->code != ATL_OK && f->first_error[0] == '\0')
        (void)atl_copy(f->first_error, sizeof f->first_error, reply->error.text);
    if (reply->output != NULL)
        f->size = ((const Atoll__Bus__V1__Event *)(const void *)reply->output)->change.len;
}

static struct atl_call *call_with(struct fixture *f, struct atl_bus *bus, int rpc,
                                  struct atl_call_options options)
{
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    if (options.service == NULL)
        options.service = "storage-agent";
    return atl_bus_call(bus, &test_rpcs[rpc], &input.base, &options, answered, f);
}

static struct atl_call *call(struct fixture *f, struct atl_bus *bus, int rpc, const char *node)
{
    return call_with(f, bus, rpc, (struct atl_call_options){.node = node});
}

static void wait_answers(struct fixture *f, size_t count)
{
    rig_run_until(&f->rig, &f->answers, count);
}

/* --- reaching each other --- */

static void another_node_answers_and_knows_who_calls(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 1);
    assert_string_equal(f->text, "");
    assert_int_equal(f->code, ATL_OK);
    assert_string_equal(f->from, "ha-lrm@n2");
    (void)call(f, f->other, TEST_ECHO, "n1");
    wait_answers(f, 2);
    assert_string_equal(f->from, "ha-lrm@n3");
}

static void the_list_of_callers_holds_between_nodes(void **state)
{
    struct fixture *f = *state;
    struct atl_bus *stranger = rig_bus(&f->rig, 3, "sdn-agent");
    rig_tell_all(&f->rig, 3, false);
    (void)call(f, stranger, TEST_ECHO, "n1");
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_E_DENIED);
    assert_string_equal(f->text, "sdn-agent may not call atoll.test.v1.Test.Echo");
    atl_bus_close(&stranger);
}

static void unknown_nodes_and_services_are_named_at_once(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_ECHO, "n9");
    atl_loop_step(f->rig.loop, 0);
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_false(f->sent);
    assert_string_equal(f->text, "storage-agent on n9 is unknown: the node is not in the directory");
    (void)call(f, f->friend, TEST_ECHO, "n3");
    wait_answers(f, 2);
    assert_string_equal(f->text, "storage-agent on n3 is unknown: the directory has no key of it");
}

static void big_payloads_travel_both_ways(void **state)
{
    struct fixture *f = *state;
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
#ifdef __SANITIZE_THREAD__ /* it looks at each byte that libzmq hands over, and takes minutes for 16 MiB */
    size_t size = 64 << 10;
#else
    size_t size = ATL_BUS_MESSAGE_MAX - 64;
#endif
    input.has_change = 1;
    input.change = (ProtobufCBinaryData){.len = size, .data = atl_alloc0(size)};
    const struct atl_call_options options = {.service = "storage-agent", .node = "n1"};
    (void)atl_bus_call(f->friend, &test_rpcs[TEST_ECHO], &input.base, &options, answered, f);
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_OK);
    assert_int_equal(f->size, size);
    free(input.change.data);
}

static void deadlines_and_cancelling_travel(void **state)
{
    struct fixture *f = *state;
    (void)call_with(f, f->friend, TEST_SLOW,
                    (struct atl_call_options){.node = "n1", .deadline = 300 * ATL_MS});
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_E_DEADLINE);
    assert_string_equal(f->text, "storage-agent on n1 did not answer atoll.test.v1.Test.Slow in time");
    rig_run_until(&f->rig, &f->cancelled, 1);
    struct atl_call *second = call(f, f->friend, TEST_SLOW, "n1");
    rig_run_until(&f->rig, &f->held_count, 2);
    assert_true(atl_request_remaining(f->held[1]) > 4 * ATL_SECOND);
    atl_call_cancel(second);
    rig_run_until(&f->rig, &f->cancelled, 2);
}

static void one_caller_cannot_use_up_the_room_of_another(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < BUS_SERVED_MAX; i++)
        (void)call(f, f->friend, TEST_SLOW, "n1");
    rig_run_until(&f->rig, &f->held_count, BUS_SERVED_MAX);
    (void)call_with(f, f->friend, TEST_COUNT, (struct atl_call_options){.node = "n1"});
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_string_equal(f->text, "too many requests of ha-lrm@n2 are being served, try again later");
    (void)call(f, f->other, TEST_ECHO, "n1");
    wait_answers(f, 2);
    assert_int_equal(f->code, ATL_OK);
    size_t before = f->held_count;
    let_go(f);
    wait_answers(f, 2 + before);
}

static void a_repeated_request_is_answered_once(void **state)
{
    struct fixture *f = *state;
    const uint8_t id[ATL_REQUEST_ID_SIZE] = {7};
    for (size_t i = 1; i <= 2; i++) {
        (void)call_with(f, f->friend, TEST_COUNT, (struct atl_call_options){.node = "n1", .request_id = id});
        wait_answers(f, i);
        assert_int_equal(f->code, ATL_OK);
    }
    assert_int_equal(f->handled, 1);
    /* The same id of another caller is another request. */
    (void)call_with(f, f->other, TEST_COUNT, (struct atl_call_options){.node = "n1", .request_id = id});
    wait_answers(f, 3);
    assert_int_equal(f->handled, 2);
}

/* --- keys --- */

static void a_key_that_is_not_in_the_directory_is_not_admitted_until_it_is(void **state)
{
    struct fixture *f = *state;
    struct atl_bus *late = rig_bus(&f->rig, 3, "ha-lrm");
    rig_tell(&f->rig, 3, 0, false); /* it knows n1; n1 does not know it */
    (void)call(f, late, TEST_ECHO, "n1");
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_false(f->sent);
    assert_int_equal(f->handled, 0);
    rig_tell_all(&f->rig, 3, false);
    (void)call(f, late, TEST_ECHO, "n1");
    wait_answers(f, 2);
    assert_int_equal(f->code, ATL_OK);
    assert_string_equal(f->from, "ha-lrm@n4");
    atl_bus_close(&late);
}

static void a_server_with_another_key_is_not_talked_to(void **state)
{
    struct fixture *f = *state;
    struct rig_node *n1 = &f->rig.nodes[0];
    uint8_t right[ATL_BUS_KEY_SIZE];
    memcpy(right, n1->keys[0], sizeof right);
    memcpy(n1->keys[0], f->rig.nodes[2].keys[0], sizeof right);
    rig_tell(&f->rig, 1, 0, false);
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    memcpy(n1->keys[0], right, sizeof right);
    rig_tell(&f->rig, 1, 0, false); /* a changed record opens the connection anew */
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 2);
    assert_int_equal(f->code, ATL_OK);
}

static void a_client_without_curve_gets_nothing(void **state)
{
    struct fixture *f = *state;
    char endpoint[BUS_PATH_MAX + 8];
    assert_true(atl_bus_tcp_endpoint(f->rig.nodes[0].address, atl_directory_port("storage-agent"), endpoint));
    void *context = zmq_ctx_new();
    void *plain = zmq_socket(context, ZMQ_DEALER);
    int zero = 0;
    assert_int_equal(zmq_setsockopt(plain, ZMQ_LINGER, &zero, sizeof zero), 0);
    assert_int_equal(zmq_connect(plain, endpoint), 0);
    bus_header header = ATOLL__BUS__V1__HEADER__INIT;
    uint8_t id[ATL_REQUEST_ID_SIZE] = {1};
    header.has_version = header.has_kind = header.has_request_id = 1;
    header.version = BUS_VERSION;
    header.kind = ATOLL__BUS__V1__HEADER__KIND__BEAT; /* the first thing that would be answered */
    header.request_id = (ProtobufCBinaryData){.len = sizeof id, .data = id};
    zmq_msg_t frame;
    atl_bus_header_pack(&header, &frame);
    assert_true(zmq_msg_send(&frame, plain, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0);
    assert_int_equal(zmq_send(plain, "", 0, ZMQ_DONTWAIT), 0);
    rig_run_for(&f->rig, ATL_SECOND);
    char byte;
    assert_int_equal(zmq_recv(plain, &byte, 1, ZMQ_DONTWAIT), -1);
    assert_int_equal(zmq_errno(), EAGAIN);
    assert_int_equal(zmq_close(plain), 0);
    assert_int_equal(zmq_ctx_term(context), 0);
    (void)call(f, f->friend, TEST_ECHO, "n1"); /* nobody was harmed */
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_OK);
}

static void a_node_that_is_removed_is_cut_and_the_others_come_again(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_STEADY, "n1");
    (void)call(f, f->other, TEST_STEADY, "n1");
    rig_run_until(&f->rig, &f->held_count, 2);
    rig_tell(&f->rig, 0, 1, true);     /* n1 hears that n2 is no more; n2 itself does not */
    assert_int_equal(f->cancelled, 2); /* at once */
    let_go(f);
    wait_answers(f, 1); /* n2's ends */
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    rig_run_until(&f->rig, &f->held_count, 1); /* n3's is idempotent and came again by itself */
    let_go(f);
    wait_answers(f, 2);
    size_t handled = f->handled;
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 3);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_int_equal(f->handled, handled);
    (void)call(f, f->other, TEST_ECHO, "n1");
    wait_answers(f, 4);
    assert_int_equal(f->code, ATL_OK);
    rig_tell(&f->rig, 0, 1, false); /* and back */
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 5);
    assert_int_equal(f->code, ATL_OK);
}

static void what_a_removed_node_had_sent_is_not_read(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 1);
    for (int i = 0; i < 50; i++) /* they are on their way, or in our queue, when the record goes */
        (void)call(f, f->friend, TEST_COUNT, "n1");
    usleep(100000);
    size_t handled = f->handled;
    rig_tell(&f->rig, 0, 1, true);
    wait_answers(f, 51);
    assert_int_equal(f->handled, handled);
    assert_int_equal(f->ok, 1);
}

static void a_removed_node_is_not_called_any_more(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_SLOW, "n1");
    rig_run_until(&f->rig, &f->held_count, 1);
    rig_tell(&f->rig, 1, 0, true);
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_true(f->sent);
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 2);
    assert_string_equal(f->text, "storage-agent on n1 is unknown: the node is not in the directory");
}

static void a_node_that_moves_is_found_at_its_new_address(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 1);
    rig_address(&f->rig.nodes[0], 20);
    rig_tell_all(&f->rig, 0, false);
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 2);
    assert_int_equal(f->code, ATL_OK);
    assert_int_equal(f->handled, 2);
}

static void a_new_key_is_used_at_once(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 1);
    atl_bus_close(&f->friend);
    ATL_FREE_AT_EXIT char *file = atl_format("%s/ha-lrm-n2.key", f->rig.dir);
    struct stat status;
    assert_int_equal(stat(file, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(unlink(file), 0);
    f->friend = rig_bus(&f->rig, 1, "ha-lrm");
    rig_tell_all(&f->rig, 1, false);
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 2);
    assert_int_equal(f->code, ATL_OK);
}

static void a_key_file_that_is_open_to_others_or_damaged_is_refused(void **state)
{
    struct fixture *f = *state;
    ATL_FREE_AT_EXIT char *file = atl_format("%s/ha-lrm-n2.key", f->rig.dir);
    const struct atl_bus_cluster cluster = {.directory = f->rig.nodes[1].directory, .key_file = file};
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    const struct atl_bus_options options = {
        .loop = f->rig.loop, .service = "ha-lrm", .node = "n2", .run_dir = f->rig.dir, .client_only = true};
    assert_atl_ok(atl_bus_open(&options, &bus, &err), &err);
    assert_int_equal(chmod(file, 0644), 0);
    assert_int_equal(atl_bus_join_cluster(bus, &cluster, &err), ATL_E_IO);
    assert_int_equal(chmod(file, 0600), 0);
    assert_int_equal(truncate(file, 20), 0);
    assert_int_equal(atl_bus_join_cluster(bus, &cluster, &err), ATL_E_INVALID);
    atl_bus_close(&bus);
}

/* --- restarts --- */

static void a_restart_of_the_service_is_ridden_out(void **state)
{
    struct fixture *f = *state;
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 1);
    atl_bus_close(&f->server);
    (void)call(f, f->friend, TEST_ECHO, "n1");
    rig_run_for(&f->rig, ATL_SECOND); /* longer than a silent node is waited for */
    assert_int_equal(f->answers, 1);
    f->server = open_server(f, 0);
    wait_answers(f, 2);
    assert_int_equal(f->code, ATL_OK);
}

static void a_service_that_stays_away_is_unavailable(void **state)
{
    struct fixture *f = *state;
    atl_bus_close(&f->server);
    atl_ns before = atl_clock_monotonic();
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    assert_string_equal(f->text, "storage-agent on n1 cannot be reached");
    assert_false(f->sent);
    assert_true(atl_clock_monotonic() - before < 4 * ATL_SECOND);
    f->server = open_server(f, 0);
}

/* --- any node --- */

static void any_member_answers_when_ours_does_not(void **state)
{
    struct fixture *f = *state;
    struct atl_bus *second = open_server(f, 2);
    rig_tell_all(&f->rig, 2, false);
    for (size_t i = 1; i <= 3; i++) { /* n2 has no storage-agent at all */
        (void)call(f, f->friend, TEST_ECHO, ATL_ANY_NODE);
        wait_answers(f, i);
        assert_string_equal(f->text, "");
    }
    atl_bus_close(&f->server);
    (void)call(f, f->friend, TEST_ECHO, ATL_ANY_NODE);
    wait_answers(f, 4);
    assert_int_equal(f->code, ATL_OK);
    atl_ns before = atl_clock_monotonic();
    (void)call(f, f->friend, TEST_ECHO, ATL_ANY_NODE); /* the one that answered last is asked first */
    wait_answers(f, 5);
    assert_int_equal(f->code, ATL_OK);
    assert_true(atl_clock_monotonic() - before < BUS_SILENCE);
    atl_bus_close(&second);
    (void)call(f, f->friend, TEST_ECHO, ATL_ANY_NODE);
    wait_answers(f, 6);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    f->server = open_server(f, 0);
}

static void any_member_answers_while_ours_starts(void **state)
{
    struct fixture *f = *state;
    atl_bus_close(&f->server);
    f->server = rig_bus(&f->rig, 0, "storage-agent");
    atl_bus_set_starting(f->server, true);
    (void)call(f, f->friend, TEST_COUNT, "n1");
    wait_answers(f, 1);
    assert_int_equal(f->code, ATL_E_UNAVAILABLE);
    struct atl_bus *second = open_server(f, 2);
    rig_tell_all(&f->rig, 2, false);
    for (size_t i = 2; i <= 4; i++) { /* n1 is asked first at least once, and has not done it */
        (void)call(f, f->friend, TEST_COUNT, ATL_ANY_NODE);
        wait_answers(f, i);
        assert_string_equal(f->text, "");
    }
    assert_int_equal(f->ok, 3);
    atl_bus_close(&second);
}

static void any_member_answers_when_ours_cannot(void **state)
{
    struct fixture *f = *state;
    atl_bus_close(&f->server);
    f->server = rig_bus(&f->rig, 0, "storage-agent");
    atl_bus_serve(f->server, &test_service, refusing, ATL_COUNT(refusing), f);
    (void)call(f, f->friend, TEST_ECHO, "n1");
    wait_answers(f, 1);
    assert_string_equal(f->text, "not now");
    struct atl_bus *second = open_server(f, 2);
    rig_tell_all(&f->rig, 2, false);
    (void)call(f, f->friend, TEST_ECHO, ATL_ANY_NODE); /* n1 has answered last, and is asked first */
    wait_answers(f, 2);
    assert_int_equal(f->code, ATL_OK);
    assert_int_equal(f->refused, 2);
    atl_bus_close(&second);
    for (size_t i = 3; i <= 5; i++) { /* that n3 is gone is no answer; n1's is */
        atl_ns before = atl_clock_monotonic();
        (void)call(f, f->friend, TEST_ECHO, ATL_ANY_NODE);
        wait_answers(f, i);
        assert_string_equal(f->text, "not now");
        assert_true(i == 3 ||
                    atl_clock_monotonic() - before < BUS_SILENCE / 2); /* known to be gone by then */
    }
}

static void any_member_answers_after_one_that_hangs(void **state)
{
    struct fixture *f = *state;
    struct atl_bus *second = rig_bus(&f->rig, 2, "storage-agent");
    atl_bus_serve(second, &test_service, quick, ATL_COUNT(quick), f);
    rig_tell_all(&f->rig, 2, false);
    (void)call(f, f->friend, TEST_ECHO, "n1"); /* n1 has answered last, and is asked first */
    wait_answers(f, 1);
    const struct atl_call_options soon = {.node = ATL_ANY_NODE, .deadline = ATL_SECOND};
    (void)call_with(f, f->friend, TEST_SLOW, soon);
    wait_answers(f, 2);
    assert_int_equal(f->code, ATL_E_DEADLINE);
    assert_int_equal(f->held_count, 1);
    (void)call_with(f, f->friend, TEST_SLOW, soon);
    wait_answers(f, 3);
    assert_int_equal(f->code, ATL_OK);
    (void)call(f, f->friend, TEST_ECHO, "n1"); /* it is well again */
    wait_answers(f, 4);
    (void)call_with(f, f->friend, TEST_SLOW, soon);
    wait_answers(f, 5);
    assert_int_equal(f->held_count, 2);
    atl_bus_close(&second);
}

#define tcp_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        tcp_test(another_node_answers_and_knows_who_calls),
        tcp_test(the_list_of_callers_holds_between_nodes),
        tcp_test(unknown_nodes_and_services_are_named_at_once),
        tcp_test(big_payloads_travel_both_ways),
        tcp_test(deadlines_and_cancelling_travel),
        tcp_test(one_caller_cannot_use_up_the_room_of_another),
        tcp_test(a_repeated_request_is_answered_once),
        tcp_test(a_key_that_is_not_in_the_directory_is_not_admitted_until_it_is),
        tcp_test(a_server_with_another_key_is_not_talked_to),
        tcp_test(a_client_without_curve_gets_nothing),
        tcp_test(a_node_that_is_removed_is_cut_and_the_others_come_again),
        tcp_test(what_a_removed_node_had_sent_is_not_read),
        tcp_test(a_removed_node_is_not_called_any_more),
        tcp_test(a_node_that_moves_is_found_at_its_new_address),
        tcp_test(a_new_key_is_used_at_once),
        tcp_test(a_key_file_that_is_open_to_others_or_damaged_is_refused),
        tcp_test(a_restart_of_the_service_is_ridden_out),
        tcp_test(a_service_that_stays_away_is_unavailable),
        tcp_test(any_member_answers_when_ours_does_not),
        tcp_test(any_member_answers_while_ours_starts),
        tcp_test(any_member_answers_when_ours_cannot),
        tcp_test(any_member_answers_after_one_that_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
