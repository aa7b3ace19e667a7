/*
 * Power loss under the SQLite engine, at every kind of moment: with synchronous=FULL what was acknowledged is
 * there and nothing is there by half; with synchronous=OFF the same test sees losses, so it can see them.
 */
#include "atl_test.h"

#include <sys/random.h>

#include "drivers/engine.h"
#include "power_vfs.h"

enum { KEYS = 3, ROUNDS_DEFAULT = 400, COMMITS_MAX = 60 };

struct found { /* what was loaded after the power came back */
    uint64_t values[KEYS];
    uint64_t number;
    uint64_t request; /* newest recorded request */
    bool request_found;
};

static void take_revision(void *user, uint64_t epoch, uint64_t number)
{
    (void)epoch;
    ((struct found *)user)->number = number;
}

static enum atl_code take_file(void *user, const struct cfg_engine_change *file, struct atl_error *err)
{
    (void)err;
    struct found *found = user;
    found->values[file->path[0] - 'a'] = strtoull(file->bytes, NULL, 10);
    return ATL_OK;
}

static void take_request(void *user, const struct cfg_engine_request *request)
{
    struct found *found = user;
    if (request->number > found->request)
        found->request = request->number;
    found->request_found = true;
}

static enum atl_code commit_value(void *engine, uint64_t value)
{
    static const char *const paths[KEYS] = {"a", "b", "c"};
    static char text[KEYS][20000];
    struct cfg_engine_change changes[KEYS];
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(text[i], sizeof text[i], "%" PRIu64 " %0*d", value, (int)(value * 977 % 15000) + 1, 0);
        changes[i] = (struct cfg_engine_change){
            .path = paths[i], .bytes = text[i], .size = strlen(text[i]), .number = value};
    }
    struct cfg_engine_request request = {.number = value, .at = (int64_t)value};
    memcpy(request.id, &value, sizeof value);
    const struct cfg_engine_commit commit = {
        .changes = changes, .change_count = KEYS, .requests = &request, .request_count = 1, .number = value};
    return cfg_engine_sqlite.commit(engine, &commit, NULL);
}

enum outcome { FINE, LOST, HALF, BROKEN };

static enum outcome judge(const struct found *found, uint64_t acked, uint64_t tried)
{
    for (int i = 1; i < KEYS; i++)
        if (found->values[i] != found->values[0])
            return HALF;
    if (found->number != found->values[0] || (found->request_found && found->request != found->number))
        return HALF;
    return found->number < acked || found->number > tried ? LOST : FINE;
}

/* Opens, loads and compares with what was acknowledged. A database that cannot be read is as bad as a loss.
 */
static enum outcome look(bool unsafe, uint64_t acked, uint64_t tried, uint64_t *ret_number)
{
    struct found found = {.number = 0};
    const struct cfg_engine_sink sink = {
        .user = &found, .revision = take_revision, .file = take_file, .request = take_request};
    const struct cfg_engine_options options = {.state_dir = "/power", .vfs = "power", .unsafe = unsafe};
    void *engine = NULL;
    if (cfg_engine_sqlite.open(&options, &engine, NULL) != ATL_OK)
        return BROKEN;
    enum atl_code code = cfg_engine_sqlite.load(engine, &sink, NULL);
    cfg_engine_sqlite.close(engine);
    *ret_number = found.number;
    return code == ATL_OK ? judge(&found, acked, tried) : BROKEN;
}

/* Commits until the power goes; returns what was acknowledged. */
static uint64_t write_until_dark(bool unsafe, uint64_t from, uint64_t operations, uint64_t *ret_tried)
{
    const struct cfg_engine_options options = {.state_dir = "/power", .vfs = "power", .unsafe = unsafe};
    void *engine = NULL;
    uint64_t acked = from;
    *ret_tried = from;
    power_vfs_fail_after(operations);
    if (cfg_engine_sqlite.open(&options, &engine, NULL) != ATL_OK)
        return acked;
    for (int i = 0; i < COMMITS_MAX; i++) {
        *ret_tried = acked + 1;
        if (commit_value(engine, acked + 1) != ATL_OK)
            break;
        acked++;
    }
    power_vfs_fail_after(0);
    cfg_engine_sqlite.close(engine);
    return acked;
}

static uint64_t random_seed(void)
{
    const char *text = getenv("ATL_SEED");
    uint64_t seed = 0;
    if (text != NULL)
        return strtoull(text, NULL, 10);
    assert_int_equal(getrandom(&seed, sizeof seed, 0), sizeof seed);
    return seed >> 16;
}

static unsigned long rounds(void)
{
    const char *text = getenv("ATL_CRASH_ROUNDS");
    return text != NULL ? strtoul(text, NULL, 10) * 10 : ROUNDS_DEFAULT;
}

/* One disk, many losses of power; returns the number of rounds that were not fine. */
static unsigned long campaign(bool unsafe, uint64_t seed, unsigned long count)
{
    unsigned long bad = 0;
    uint64_t number = 0;
    power_vfs_start(seed);
    for (unsigned long i = 0; i < count; i++) {
        uint64_t tried = number;
        uint64_t operations = (seed + i * 7919) % 400 + 1;
        uint64_t acked = write_until_dark(unsafe, number, operations, &tried);
        power_vfs_restart();
        enum outcome outcome = look(unsafe, acked, tried, &number);
        if (outcome == FINE)
            continue;
        bad++;
        if (!unsafe)
            fail_msg("round %lu: outcome %d, acknowledged %" PRIu64 ", found %" PRIu64, i, (int)outcome,
                     acked, number);
        power_vfs_end(); /* a broken disk tells nothing more */
        power_vfs_start(seed + i);
        number = 0;
    }
    power_vfs_end();
    return bad;
}

static void nothing_acknowledged_is_lost(void **state)
{
    (void)state;
    uint64_t seed = random_seed();
    print_message("%lu losses of power, ATL_SEED=%" PRIu64 "\n", rounds(), seed);
    assert_int_equal(campaign(false, seed, rounds()), 0);
}

static void the_test_sees_losses_when_nothing_is_synced(void **state)
{
    (void)state;
    unsigned long bad = campaign(true, random_seed(), 100);
    print_message("synchronous=OFF: %lu of 100 losses of power lost or broke something\n", bad);
    assert_true(bad > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost),
        cmocka_unit_test(the_test_sees_losses_when_nothing_is_synced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
