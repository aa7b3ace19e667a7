/*
 * Watchers that come, go and stay while writes wait for their commit. What ends a watcher (its time, the end
 * of a commit, the word on progress) may itself bring a commit about that answers it and others; under
 * AddressSanitizer the service dies of whatever it frees too early.
 */
#include "atl_test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "atoll/store/v1/store.atl.h"
#include "cfg_fixture.h"
#include "io/mirror.h"

enum {
    WRITES = 480,
    BURST = 8,       /* writes that share a commit */
    ENDING = 4,      /* watchers whose time is over in the round that brings the burst */
    COMERS = 24,     /* ask again as soon as they are answered */
    STAYERS = 16,    /* are told of progress only: nothing changes where they look */
    PAUSE_MAX = 14,  /* ms between two bursts; progress is told 10 ms after a commit */
    COMER_WAITS = 5, /* their waits, ms: 0..4 */
};
#define LIMIT (60 * ATL_SECOND)

struct watch {
    uint32_t wait_ms;
    const char *prefix;
    bool again; /* watches on when it is answered */
};

/* Static: an answer may come after a test has failed. */
static struct storm {
    struct cfg_fixture f;
    struct watch comers[COMERS];
    struct watch stayers[STAYERS];
    struct watch ending[ENDING];
    struct atl_revision revision; /* the newest that was told */
    unsigned int written;
    unsigned int writing;
    unsigned int watching;
    unsigned int told;              /* answers to watchers */
    bool stop;                      /* nothing new is begun */
    char failure[ATL_TEXT_MAX + 8]; /* the first one */
} storm;

static void fail_storm(const char *what, const struct atl_error *error)
{
    storm.stop = true;
    if (storm.failure[0] == '\0')
        (void)snprintf(storm.failure, sizeof storm.failure, "%s: %s", what, error->text);
}

static void saw(uint64_t epoch, uint64_t number)
{
    storm.revision.epoch = epoch;
    if (number > storm.revision.number)
        storm.revision.number = number;
}

/* --- watchers --- */

static void watch(struct watch *one);

static void on_watch(const struct atl_reply *reply, void *user)
{
    struct watch *one = user;
    storm.watching--;
    if (reply->code != ATL_OK) {
        fail_storm("watch", &reply->error);
        return;
    }
    const Atoll__Store__V1__WatchReply *answer = (const void *)reply->output;
    storm.told++;
    saw(answer->revision->epoch, answer->revision->number);
    if (one->again && !storm.stop)
        watch(one);
}

static void watch(struct watch *one)
{
    Atoll__Bus__V1__Revision from = ATOLL__BUS__V1__REVISION__INIT;
    Atoll__Store__V1__WatchRequest input = ATOLL__STORE__V1__WATCH_REQUEST__INIT;
    char prefix[32];
    (void)snprintf(prefix, sizeof prefix, "%s", one->prefix);
    char *prefixes[] = {prefix};
    from.has_epoch = from.has_number = 1;
    from.epoch = storm.revision.epoch;
    from.number = storm.revision.number;
    input.from = &from;
    input.n_prefix = 1;
    input.prefix = prefixes;
    input.has_wait_ms = 1;
    input.wait_ms = one->wait_ms;
    storm.watching++;
    (void)atl_bus_call(storm.f.cli, &atl_rpc_store_v1_Store_Watch, &input.base, NULL, on_watch, one);
}

/* --- writes --- */

static void burst(void *user);

static void on_written(const struct atl_txn_result *result, void *user)
{
    (void)user;
    storm.writing--;
    if (result->code != ATL_OK) {
        fail_storm("write", &result->error);
        return;
    }
    saw(result->revision.epoch, result->revision.number);
    if (++storm.written >= WRITES)
        storm.stop = true;
    if (storm.writing == 0 && !storm.stop)
        (void)atl_loop_timer(storm.f.loop, (storm.written / BURST) % (PAUSE_MAX + 1) * ATL_MS, 0, burst,
                             NULL);
}

static void write_one(unsigned int number)
{
    char path[32];
    struct atl_txn txn ATL_TXN_AT_EXIT;
    atl_txn_init(&txn);
    (void)snprintf(path, sizeof path, "storm/%u", number % 3);
    atl_txn_put(&txn, path, &number, sizeof number);
    storm.writing++;
    atl_txn_send(storm.f.cli, &txn, 5 * ATL_SECOND, on_written, NULL);
}

/* On one connection, so they arrive in this order and mostly together: the watchers' time is over while the
 * writes behind them wait for the commit at the end of the round. */
static void burst(void *user)
{
    (void)user;
    if (storm.stop)
        return;
    for (size_t i = 0; i < ENDING; i++)
        watch(&storm.ending[i]);
    for (unsigned int i = 0; i < BURST; i++)
        write_one(storm.written + i);
}

static void watchers_outlive_the_commits_that_answer_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < ENDING; i++)
        storm.ending[i] = (struct watch){.prefix = i % 2 == 0 ? "storm/" : "quiet/"};
    for (unsigned int i = 0; i < COMERS; i++) {
        storm.comers[i] = (struct watch){
            .prefix = i % 4 == 0 ? "quiet/" : "storm/", .wait_ms = i % COMER_WAITS, .again = true};
        watch(&storm.comers[i]);
    }
    for (size_t i = 0; i < STAYERS; i++) {
        storm.stayers[i] = (struct watch){.prefix = "quiet/", .wait_ms = 2000, .again = true};
        watch(&storm.stayers[i]);
    }
    atl_ns ends = atl_clock_monotonic() + LIMIT;
    burst(NULL);
    while ((storm.writing > 0 || storm.watching > 0 || !storm.stop) && atl_clock_monotonic() < ends)
        atl_loop_step(storm.f.loop, 50 * ATL_MS);
    storm.stop = true;
    assert_string_equal(storm.failure, "");
    assert_int_equal(storm.written, WRITES);
    assert_int_equal(storm.writing, 0);
    assert_int_equal(storm.watching, 0);
    assert_true(storm.told > STAYERS + COMERS);
}

static int set_up(void **state)
{
    (void)state;
    cfg_fixture_init(&storm.f);
    cfg_fixture_start(&storm.f);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int status = cfg_fixture_stop(&storm.f, SIGTERM);
    cfg_fixture_done(&storm.f);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(watchers_outlive_the_commits_that_answer_them),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
