/* A node that has lost its lock changes no guest under high availability any more. */
#include "atl_test.h"

#include <stdio.h>
#include <stdlib.h>

#include "atoll/ha/v1/state.pb-c.h"
#include "core/ha_guard.h"
#include "ha/place.h"

static struct cfg_tree tree;
static struct atl_arena arena;
static struct atl_error err;

static void load(const char *path, const ProtobufCMessage *message, uint64_t number)
{
    uint8_t bytes[512];
    size_t size = message != NULL ? protobuf_c_message_pack(message, bytes) : 0;
    assert_atl_ok(cfg_tree_load(&tree, path, bytes, size, number, &err), &err);
}

static void lock(const char *node, bool fenced, uint64_t number)
{
    char path[80];
    Atoll__Ha__V1__NodeLock message = ATOLL__HA__V1__NODE_LOCK__INIT;
    message.node = atl_arena_strdup(&arena, node);
    message.has_fenced = true;
    message.fenced = fenced;
    (void)snprintf(path, sizeof path, ATL_HA_LOCK "%s", node);
    load(path, &message.base, number);
}

static void beat(const char *node, bool armed)
{
    char path[80];
    Atoll__Ha__V1__Beat message = ATOLL__HA__V1__BEAT__INIT;
    message.has_armed = true;
    message.armed = armed;
    (void)snprintf(path, sizeof path, ATL_HA_BEAT "%s", node);
    load(path, &message.base, 6);
}

static void service(const char *sid, const char *state)
{
    char path[80];
    Atoll__Ha__V1__Service message = ATOLL__HA__V1__SERVICE__INIT;
    message.state = atl_arena_strdup(&arena, state);
    message.node = atl_arena_strdup(&arena, "a");
    (void)snprintf(path, sizeof path, ATL_HA_SERVICE "%s", sid);
    load(path, &message.base, 5);
}

/* a holds its lock (11), b too (12), c is fenced (13), d holds none, e has not armed its watchdog yet. */
static int set_up(void **state)
{
    (void)state;
    cfg_tree_init(&tree, 3);
    lock("a", false, 11);
    lock("b", false, 12);
    lock("c", true, 13);
    lock("e", false, 14);
    beat("a", true);
    beat("b", true);
    beat("e", false);
    load("nodes/a/qemu-server/100.conf", NULL, 7);
    load("nodes/a/lxc/101.conf", NULL, 7);
    load("nodes/c/qemu-server/102.conf", NULL, 7);
    load("nodes/a/qemu-server/103.conf", NULL, 7);
    load("nodes/a/qemu-server/104.conf", NULL, 7);
    load("nodes/d/qemu-server/105.conf", NULL, 7);
    service("vm:100", "started");
    service("ct:101", "stopped");
    service("vm:102", "started");
    service("vm:103", "ignored");
    service("vm:105", "stopped");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cfg_tree_done(&tree);
    atl_arena_done(&arena);
    return 0;
}

struct row {
    const char *path;
    const char *to; /* NULL: it is written */
    const char *compares;
    const char *error; /* a part of it; NULL: none */
};

static const struct row rows[] = {
    {"nodes/a/qemu-server/100.conf", NULL, "x@1 .state/ha/lock/a@11", NULL},
    {"nodes/a/qemu-server/100.conf", "nodes/b/qemu-server/100.conf",
     "x@1 .state/ha/lock/a@11 .state/ha/lock/b@12", NULL},
    {"nodes/a/qemu-server/100.conf", "nodes/c/qemu-server/100.conf", NULL, "node 'c' is fenced"},
    {"nodes/a/qemu-server/100.conf", "nodes/d/qemu-server/100.conf", NULL, "node 'd' does not hold its lock"},
    {"nodes/a/qemu-server/100.conf", "nodes/e/qemu-server/100.conf", NULL, "watchdog of node 'e'"},
    {"nodes/a/lxc/101.conf", "nodes/d/lxc/101.conf", "x@1 .state/ha/lock/a@11 .state/ha/lock/d@absent", NULL},
    {"nodes/c/qemu-server/102.conf", NULL, NULL, "node 'c' is fenced"},
    {"nodes/c/qemu-server/102.conf", "nodes/a/qemu-server/102.conf", NULL, "node 'c' is fenced"},
    {"nodes/a/qemu-server/103.conf", "nodes/c/qemu-server/103.conf", "x@1", NULL}, /* ignored */
    {"nodes/a/qemu-server/104.conf", "nodes/c/qemu-server/104.conf", "x@1", NULL}, /* no resource */
    {"nodes/d/qemu-server/105.conf", NULL, "x@1 .state/ha/lock/d@absent", NULL},
    {"storage.cfg", NULL, "x@1", NULL},
};

static char *text_of(const struct cfg_ha_guarded *guarded)
{
    struct atl_buf out = {0};
    for (size_t i = 0; i < guarded->count; i++) {
        const struct cfg_compare *one = &guarded->compares[i];
        atl_buf_printf(&out, "%s%s@", i > 0 ? " " : "", one->path);
        if (one->kind == CFG_ABSENT)
            atl_buf_text(&out, "absent");
        else
            atl_buf_uint(&out, one->number);
    }
    char *text = atl_arena_strndup(&arena, out.data, out.length);
    atl_buf_done(&out);
    return text;
}

static void locks_are_compared(void **state)
{
    (void)state;
    const struct cfg_compare own = {.kind = CFG_AT_REVISION, .path = "x", .epoch = 3, .number = 1};
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        const struct row *row = &rows[i];
        const struct cfg_op op = {
            .kind = row->to != NULL ? CFG_RENAME : CFG_PUT, .path = row->path, .to = row->to};
        const struct cfg_txn txn = {.compares = &own, .compare_count = 1, .ops = &op, .op_count = 1};
        struct cfg_ha_guarded guarded;
        enum atl_code code = cfg_ha_guard(&tree, &txn, &arena, &guarded, &err);
        assert_int_equal(code, row->error != NULL ? ATL_E_STATE : ATL_OK);
        if (row->error != NULL)
            assert_non_null(strstr(err.text, row->error));
        else
            assert_string_equal(text_of(&guarded), row->compares);
    }
}

static void two_guests_of_a_node_compare_its_lock_once(void **state)
{
    (void)state;
    const struct cfg_op ops[] = {{.kind = CFG_DELETE, .path = "nodes/a/qemu-server/100.conf"},
                                 {.kind = CFG_DELETE, .path = "nodes/a/lxc/101.conf"}};
    const struct cfg_txn txn = {.ops = ops, .op_count = ATL_COUNT(ops)};
    struct cfg_ha_guarded guarded;
    assert_atl_ok(cfg_ha_guard(&tree, &txn, &arena, &guarded, &err), &err);
    assert_string_equal(text_of(&guarded), ".state/ha/lock/a@11");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(locks_are_compared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_guests_of_a_node_compare_its_lock_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
