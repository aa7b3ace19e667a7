/* One service and three callers over real sockets in a folder of their own, for tests of the bus within a
 * node. */
#ifndef ATL_TESTS_BUS_FIXTURE_H
#define ATL_TESTS_BUS_FIXTURE_H

#include "atl_test.h"

#include <ftw.h>
#include <unistd.h>
#include <zmq.h>

#include "bus_contract.h"
#include "io/bus_internal.h"

struct fixture {
    char dir[32];
    struct atl_loop *loop;
    struct atl_bus *server;
    struct atl_bus *friend;
    struct atl_bus *stranger;
    struct atl_bus *gateway;
    struct atl_request *held[1024];
    size_t held_count;
    size_t cancelled;
    unsigned int counted;
    unsigned int handled;
    struct atl_revision revision;
    bool frozen;
    /* the last answer */
    size_t answers;
    enum atl_code code;
    bool sent;
    char text[ATL_TEXT_MAX];
    char field[ATL_FIELD_MAX];
    char first_error[192];
    uint64_t number;
    size_t size;
    struct atl_revision seen;
};

static inline void echo(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct fixture *f = user;
    f->handled++;
    atl_request_reply(request, input);
}

static inline void note_cancel(struct atl_request *request, void *user)
{
    (void)request;
    struct fixture *f = user;
    f->cancelled++;
}

static inline void hold(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct fixture *f = user;
    f->held[f->held_count++] = request;
    atl_request_on_cancel(request, note_cancel, f);
}

static inline void count(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct fixture *f = user;
    Atoll__Bus__V1__Event output = ATOLL__BUS__V1__EVENT__INIT;
    output.has_sequence = 1;
    output.sequence = ++f->counted;
    atl_request_reply(request, &output.base);
}

static inline void say_user(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    (void)user;
    const struct atl_principal *principal = atl_request_principal(request);
    Atoll__Bus__V1__Event output = ATOLL__BUS__V1__EVENT__INIT;
    output.topic =
        atl_arena_strdup(atl_request_arena(request), principal->user != NULL ? principal->user : "-");
    atl_request_reply(request, &output.base);
}

/* NOLINTNEXTLINE(readability-function-size): the guard's table says what it is given */
static inline enum atl_code admit(void *self, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                                  const uint8_t *assertion, size_t size, struct atl_arena *arena,
                                  struct atl_principal *principal, struct atl_error *err)
{
    (void)input;
    const struct fixture *f = self;
    if (rpc->perm != NULL && rpc->perm->world)
        return ATL_OK;
    if (size >= 6 && memcmp(assertion, "future", 6) == 0 && f->revision.number < 100)
        return atl_fail(err, ATL_E_CONFLICT, NULL, "the copy is too old");
    if (size < 5 || memcmp(assertion, "good:", 5) != 0)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "invalid assertion");
    principal->user = atl_arena_strndup(arena, (const char *)assertion + 5, size - 5);
    return ATL_OK;
}

static inline struct atl_revision revision(void *self)
{
    const struct fixture *f = self;
    return f->revision;
}

static inline bool is_frozen(void *self)
{
    const struct fixture *f = self;
    return f->frozen;
}

static const struct atl_handler handlers[] = {{"Echo", echo},     {"Slow", hold},      {"Count", count},
                                              {"User", say_user}, {"World", say_user}, {"Steady", hold},
                                              {"Read", say_user}};

static inline struct atl_bus *open_bus(struct fixture *f, const char *service, const char *const *callers)
{
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    struct atl_bus_options options = {.loop = f->loop,
                                      .service = service,
                                      .node = "pve1",
                                      .run_dir = f->dir,
                                      .version = "1.2.3",
                                      .client_only = callers == NULL,
                                      .make_folders = callers};
    assert_atl_ok(atl_bus_open(&options, &bus, &err), &err);
    return bus;
}

static inline void open_server(struct fixture *f)
{
    static const char *const callers[] = {"friend", "stranger", "api-gateway", NULL};
    f->server = open_bus(f, "tester", callers);
    atl_bus_serve(f->server, &test_service, handlers, ATL_COUNT(handlers), f);
    atl_bus_set_guard(
        f->server, &(struct atl_guard){.self = f, .admit = admit, .revision = revision, .frozen = is_frozen});
}

static inline int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/atl-bus-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->loop = atl_loop_new();
    f->revision = (struct atl_revision){.epoch = 1, .number = 7};
    open_server(f);
    f->friend = open_bus(f, "friend", NULL);
    f->stranger = open_bus(f, "stranger", NULL);
    f->gateway = open_bus(f, "api-gateway", NULL);
    *state = f;
    return 0;
}

static inline int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    atl_bus_close(&f->friend);
    atl_bus_close(&f->stranger);
    atl_bus_close(&f->gateway);
    atl_bus_close(&f->server);
    atl_loop_free(f->loop);
    (void)nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static inline void answered(const struct atl_reply *reply, void *user)
{
    struct fixture *f = user;
    f->answers++;
    f->code = reply->code;
    f->sent = reply->sent;
    f->seen = reply->revision;
    f->text[0] = f->field[0] = f->first_error[0] = '\0';
    if (reply->code != ATL_OK) {
        (void)atl_copy(f->text, sizeof f->text, reply->error.text);
        (void)atl_copy(f->field, sizeof f->field, reply->error.field);
        if (reply->errors != NULL)
            (void)atl_copy(f->first_error, sizeof f->first_error, reply->errors->items[0].text);
        return;
    }
    const Atoll__Bus__V1__Event *event = (const void *)reply->output;
    f->number = event->sequence;
    f->size = event->change.len;
    if (event->topic != NULL)
        (void)atl_copy(f->text, sizeof f->text, event->topic);
}

static inline struct atl_call *call(struct fixture *f, struct atl_bus *bus, int rpc,
                                    const struct atl_call_options *options)
{
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    char topic[] = "hello";
    input.topic = topic;
    return atl_bus_call(bus, &test_rpcs[rpc], &input.base, options, answered, f);
}

/* Runs the loop until there are that many answers; fails after five seconds. */
static inline void run_until(struct fixture *f, const size_t *counter, size_t wanted)
{
    atl_ns end = atl_clock_monotonic() + 10 * ATL_SECOND;
    while (*counter < wanted && atl_clock_monotonic() < end)
        atl_loop_step(f->loop, 100 * ATL_MS);
    assert_int_equal(*counter, wanted);
}

static inline void run_for(struct fixture *f, atl_ns span)
{
    atl_ns end = atl_clock_monotonic() + span;
    while (atl_clock_monotonic() < end)
        atl_loop_step(f->loop, ATL_MS);
}

#define bus_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
