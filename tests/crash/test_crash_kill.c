/*
 * kill -9 of config-store during a storm of writes, again and again: every acknowledged write is there, no
 * transaction is there by half.
 *
 * ATL_CRASH_ROUNDS sets the number of kills (30; `tests/run full` asks for 1,000), ATL_SEED repeats a run.
 */
#include "atl_test.h"

#include <signal.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "atoll/store/v1/store.atl.h"
#include "cfg_fixture.h"
#include "io/mirror.h"

enum { SLOTS = 16, FILES = 3, ROUNDS_DEFAULT = 30, LONGEST_MS = 60 };

struct slot { /* one chain of transactions, one in flight at a time */
    struct storm *storm;
    unsigned int number;
    uint64_t sent;  /* the last value that was sent */
    uint64_t acked; /* the last value that was acknowledged */
    bool flying;
};

struct storm {
    struct cfg_fixture fixture;
    struct slot slots[SLOTS];
    uint64_t acks;
    bool on;
};

static uint64_t prng;

static uint64_t next_random(void)
{
    prng ^= prng << 13;
    prng ^= prng >> 7;
    prng ^= prng << 17;
    return prng;
}

static void send_next(struct slot *slot);

static void on_reply(const struct atl_reply *reply, void *user)
{
    struct slot *slot = user;
    slot->flying = false;
    if (reply->code == ATL_OK) {
        slot->acked = slot->sent;
        slot->storm->acks++;
    }
    if (slot->storm->on)
        send_next(slot);
}

static void file_path(char *path, size_t size, unsigned int slot, int file)
{
    (void)snprintf(path, size, "storm/%u/%d", slot, file);
}

static void send_next(struct slot *slot)
{
    char path[64];
    char text[2048];
    struct atl_txn txn ATL_TXN_AT_EXIT;
    atl_txn_init(&txn);
    slot->sent++;
    for (int i = 0; i < FILES; i++) {
        file_path(path, sizeof path, slot->number, i);
        /* Of many sizes: a commit of the engine is then one page, or several. */
        (void)snprintf(text, sizeof text, "%" PRIu64 " %0*d", slot->sent, (int)(slot->sent * 7 % 1500) + 1,
                       0);
        atl_txn_put(&txn, path, text, strlen(text));
    }
    slot->flying = true;
    /* Short: the bus sends idempotent calls again, and one that got through after the restart would hide the
     * loss of the one before. All have ended before the restart. */
    const struct atl_call_options options = {.deadline = 250 * ATL_MS};
    (void)atl_bus_call(slot->storm->fixture.cli, &atl_rpc_store_v1_Store_Txn, &txn.request.base, &options,
                       on_reply, slot);
}

static bool any_flying(const struct storm *storm)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (storm->slots[i].flying)
            return true;
    return false;
}

static uint64_t read_value(struct storm *storm, unsigned int slot, int file)
{
    char path[64];
    file_path(path, sizeof path, slot, file);
    struct atl_file got;
    struct atl_error err;
    enum atl_code code = atl_store_get_wait(storm->fixture.cli, path, &storm->fixture.arena, &got, &err);
    if (code == ATL_E_ABSENT)
        return 0;
    assert_atl_ok(code, &err);
    return strtoull(got.bytes, NULL, 10);
}

static void check_slot(struct storm *storm, struct slot *slot)
{
    uint64_t first = read_value(storm, slot->number, 0);
    for (int i = 1; i < FILES; i++)
        assert_int_equal(read_value(storm, slot->number, i), first); /* no half transaction */
    if (first < slot->acked || first > slot->sent)
        fail_msg("slot %u holds %" PRIu64 ", acknowledged was %" PRIu64 ", sent %" PRIu64, slot->number,
                 first, slot->acked, slot->sent);
    slot->sent = slot->acked = first; /* the outcome of what was in flight is known by now */
}

static void one_round(struct storm *storm)
{
    storm->on = true;
    for (size_t i = 0; i < SLOTS; i++)
        send_next(&storm->slots[i]);
    atl_ns ends = atl_clock_monotonic() + (atl_ns)(next_random() % LONGEST_MS) * ATL_MS + ATL_MS;
    while (atl_clock_monotonic() < ends)
        atl_loop_step(storm->fixture.loop, ATL_MS);
    storm->on = false;
    int status = cfg_fixture_stop(&storm->fixture, SIGKILL);
    assert_true(WIFSIGNALED(status)); /* it must not have ended by itself */
    while (any_flying(storm))
        atl_loop_step(storm->fixture.loop, 100 * ATL_MS);
    cfg_fixture_start(&storm->fixture);
    for (size_t i = 0; i < SLOTS; i++)
        check_slot(storm, &storm->slots[i]);
    atl_arena_reset(&storm->fixture.arena);
}

static void acknowledged_writes_survive_kill_9(void **state)
{
    (void)state;
    const char *rounds_text = getenv("ATL_CRASH_ROUNDS");
    const char *seed_text = getenv("ATL_SEED");
    unsigned long rounds = rounds_text != NULL ? strtoul(rounds_text, NULL, 10) : ROUNDS_DEFAULT;
    if (seed_text != NULL)
        prng = strtoull(seed_text, NULL, 10);
    else
        assert_int_equal(getrandom(&prng, sizeof prng, 0), sizeof prng);
    prng |= 1;
    print_message("%lu kills, ATL_SEED=%" PRIu64 "\n", rounds, prng);
    struct storm storm = {.on = false};
    cfg_fixture_init(&storm.fixture);
    for (unsigned int i = 0; i < SLOTS; i++)
        storm.slots[i] = (struct slot){.storm = &storm, .number = i};
    cfg_fixture_start(&storm.fixture);
    for (unsigned long round = 0; round < rounds; round++)
        one_round(&storm);
    cfg_fixture_done(&storm.fixture);
    print_message("%" PRIu64 " acknowledged transactions, all there\n", storm.acks);
    assert_true(storm.acks > rounds); /* the storm was one */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(acknowledged_writes_survive_kill_9)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
