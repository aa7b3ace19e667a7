/* The status view: rows from the tree and from pushes, gaps, silence, tasks; and the small texts of the core.
 */
#include "atl_test.h"

#include "core/done.h"
#include "core/options.h"
#include "core/secrets.h"
#include "core/status.h"

static struct cfg_status *status;
static char node[] = "pve1";
static char qemu[] = "qemu";
static char running[] = "running";

static int set_up(void **state)
{
    (void)state;
    status = cfg_status_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cfg_status_free(&status);
    return 0;
}

static void config(const char *path, const char *text)
{
    struct cfg_guest_path guest = cfg_guest_path(path);
    cfg_status_guest(status, &guest, text);
}

static const Atoll__Cluster__V1__ResourcesRow *guest_row(uint32_t vmid)
{
    size_t count = 0;
    struct cfg_guest_row *const *rows = cfg_status_guests(status, &count);
    for (size_t i = 0; i < count; i++)
        if (rows[i]->vmid == vmid)
            return &rows[i]->row;
    return NULL;
}

static bool push(uint64_t epoch, uint64_t sequence, bool full, uint32_t vmid, atl_ns now)
{
    Atoll__Store__V1__GuestStatus guest = ATOLL__STORE__V1__GUEST_STATUS__INIT;
    guest.vmid = vmid;
    guest.type = qemu;
    guest.status = running;
    guest.has_mem = 1;
    guest.mem = 77;
    Atoll__Store__V1__GuestStatus *list[] = {&guest};
    Atoll__Store__V1__NodeStatus about = ATOLL__STORE__V1__NODE_STATUS__INIT;
    Atoll__Store__V1__PushRequest input = ATOLL__STORE__V1__PUSH_REQUEST__INIT;
    input.node = node;
    input.epoch = epoch;
    input.sequence = sequence;
    input.has_full = 1;
    input.full = full;
    input.node_status = &about;
    input.n_guest = vmid != 0 ? 1 : 0;
    input.guest = list;
    return cfg_status_push(status, "compute-agent", &input, now);
}

static void a_guest_is_what_its_file_says_and_how_its_agent_says(void **state)
{
    (void)state;
    config("nodes/pve1/qemu-server/100.conf", "name: web\nlock: backup\ntemplate: 1\n");
    const Atoll__Cluster__V1__ResourcesRow *row = guest_row(100);
    assert_string_equal(row->id, "qemu/100");
    assert_string_equal(row->name, "web");
    assert_string_equal(row->lock, "backup");
    assert_true(row->template_);
    assert_string_equal(row->status, "unknown");
    assert_false(row->has_mem);
    assert_true(push(1, 1, true, 100, 0));
    assert_string_equal(guest_row(100)->status, "running");
    assert_int_equal(guest_row(100)->mem, 77);
    assert_true(push(1, 2, false, 999, 0)); /* nobody's file: not shown */
    assert_null(guest_row(999));
}

static void a_resource_shows_what_the_manager_is_at_with_it(void **state)
{
    (void)state;
    cfg_status_hastate(status, 100, "vm", "started"); /* before its file is known */
    config("nodes/pve1/qemu-server/100.conf", "name: web\n");
    assert_null(guest_row(100)->hastate);
    cfg_status_hastate(status, 100, "ct", "started"); /* another one, of before */
    assert_null(guest_row(100)->hastate);
    cfg_status_hastate(status, 100, "vm", "started");
    assert_string_equal(guest_row(100)->hastate, "started");
    config("nodes/pve2/qemu-server/100.conf", "name: web\n");
    assert_string_equal(guest_row(100)->hastate, "started");
    cfg_status_hastate(status, 100, "vm", "migrate");
    assert_string_equal(guest_row(100)->hastate, "migrate");
    cfg_status_hastate(status, 100, "vm", NULL);
    assert_null(guest_row(100)->hastate);
}

static void a_guest_that_moves_is_the_other_nodes(void **state)
{
    (void)state;
    config("nodes/pve1/qemu-server/100.conf", "");
    assert_true(push(1, 1, true, 100, 0));
    config("nodes/pve2/qemu-server/100.conf", "");
    config("nodes/pve1/qemu-server/100.conf", NULL);
    assert_string_equal(guest_row(100)->node, "pve2");
    assert_string_equal(guest_row(100)->status, "unknown");
    assert_true(push(1, 2, false, 100, 0)); /* the old node no longer counts */
    assert_string_equal(guest_row(100)->status, "unknown");
    config("nodes/pve2/qemu-server/100.conf", NULL);
    assert_null(guest_row(100));
}

static void a_gap_is_seen_and_filled_by_a_full_push(void **state)
{
    (void)state;
    config("nodes/pve1/qemu-server/100.conf", "");
    assert_false(push(5, 1, false, 100, 0)); /* the first must be full */
    assert_true(push(5, 1, true, 100, 0));
    assert_true(push(5, 2, false, 100, 0));
    assert_true(push(5, 2, false, 100, 0)); /* repeated: taken before */
    assert_false(push(5, 4, false, 100, 0));
    assert_false(push(6, 5, false, 100, 0)); /* it was restarted */
    assert_true(push(6, 1, true, 0, 0));
    assert_string_equal(guest_row(100)->status, "unknown"); /* the full push did not name it */
    assert_true(push(5, 9, true, 100, 0));                  /* of the process that is gone: ignored */
    assert_string_equal(guest_row(100)->status, "unknown");
}

static void silence_makes_everything_unknown(void **state)
{
    (void)state;
    config("nodes/pve1/qemu-server/100.conf", "");
    assert_true(push(1, 1, true, 100, 0));
    cfg_status_tick(status, CFG_STATUS_STALE - 1);
    assert_string_equal(guest_row(100)->status, "running");
    cfg_status_tick(status, CFG_STATUS_STALE);
    assert_string_equal(guest_row(100)->status, "unknown");
    assert_false(guest_row(100)->has_mem);
    size_t count = 0;
    assert_string_equal(cfg_status_nodes(status, &count)[0]->row.status, "unknown");
    assert_false(push(1, 2, false, 100, CFG_STATUS_STALE)); /* back: all is needed anew */
    assert_true(push(1, 3, true, 100, CFG_STATUS_STALE));
    assert_string_equal(guest_row(100)->status, "running");
}

static void push_task(const char *upid, int64_t endtime)
{
    static uint64_t sequence;
    Atoll__Store__V1__TaskStatus task = ATOLL__STORE__V1__TASK_STATUS__INIT;
    char text[256];
    (void)atl_copy(text, sizeof text, upid);
    task.upid = text;
    task.has_endtime = endtime != 0;
    task.endtime = endtime;
    Atoll__Store__V1__TaskStatus *list[] = {&task};
    Atoll__Store__V1__PushRequest input = ATOLL__STORE__V1__PUSH_REQUEST__INIT;
    input.node = node;
    input.epoch = 1;
    input.sequence = ++sequence;
    input.has_full = input.full = 1;
    input.n_task = 1;
    input.task = list;
    (void)cfg_status_push(status, "compute-agent", &input, 0);
}

static const char *node_state(void)
{
    size_t count = 0;
    struct cfg_node_row *const *rows = cfg_status_nodes(status, &count);
    assert_int_equal(count, 1);
    return rows[0]->row.status;
}

static void a_lost_node_is_offline_until_it_is_back(void **state)
{
    (void)state;
    config("nodes/pve1/qemu-server/100.conf", "");
    assert_true(push(1, 1, true, 100, 0));
    cfg_status_member(status, node, true);
    assert_string_equal(node_state(), "online");
    cfg_status_member(status, node, false);
    assert_string_equal(node_state(), "offline");
    assert_true(push(1, 2, false, 100, 1)); /* was on its way */
    assert_string_equal(node_state(), "offline");
    cfg_status_tick(status, CFG_STATUS_STALE + 1);
    assert_string_equal(node_state(), "offline");
    assert_string_equal(guest_row(100)->status, "unknown");
    assert_true(push(1, 3, true, 100, CFG_STATUS_STALE + 2));
    assert_string_equal(node_state(), "offline");
    cfg_status_member(status, node, true);
    assert_string_equal(node_state(), "online");
    cfg_status_tick(status, 2 * CFG_STATUS_STALE + 2);
    assert_string_equal(node_state(), "unknown"); /* there, and silent */
    cfg_status_member(status, node, true);        /* as before: another node has come or gone */
    assert_string_equal(node_state(), "unknown");
    cfg_status_member(status, node, false);
    assert_string_equal(node_state(), "offline");
}

static void tasks_are_listed_newest_first_and_bounded(void **state)
{
    (void)state;
    push_task("UPID:pve1:00000001:00000001:65000001:qmstart:100:admin@pve:", 0);
    push_task("UPID:pve1:00000002:00000002:65000003:qmstop:100:admin@pve:", 5);
    push_task("UPID:pve1:00000003:00000002:65000002:vzstart:101:a@pve!ci:", 6);
    push_task("UPID:nonsense", 6);
    push_task("UPID:pve1:00000001:00000001:65000001:qmstart:100:admin@pve:", 7);
    size_t count = 0;
    struct cfg_task_row *const *tasks = cfg_status_tasks(status, &count);
    assert_int_equal(count, 3);
    assert_string_equal(tasks[0]->row.type, "qmstop");
    assert_string_equal(tasks[1]->row.user, "a@pve!ci");
    assert_int_equal(tasks[2]->row.starttime, 0x65000001);
    assert_int_equal(tasks[2]->row.endtime, 7);
    for (unsigned int i = 0; i < CFG_TASKS_MAX + 10; i++) {
        char upid[128];
        (void)snprintf(upid, sizeof upid, "UPID:pve1:%08X:00000001:66000000:x:1:a@pve:", i);
        push_task(upid, 1);
    }
    assert_non_null(cfg_status_tasks(status, &count));
    assert_int_equal(count, CFG_TASKS_MAX);
}

/* --- small texts
 * -------------------------------------------------------------------------------------------- */

static void a_line_is_found_in_the_first_section_only(void **state)
{
    (void)state;
    char value[16];
    assert_true(cfg_line_value("a: 1\nname:  x y \r\n[s]\nb: 2\n", "name", value, sizeof value));
    assert_string_equal(value, "x y");
    assert_false(cfg_line_value("a: 1\n[s]\nb: 2\n", "b", value, sizeof value));
    assert_false(cfg_line_value("names: 1\n", "name", value, sizeof value));
    assert_true(cfg_line_value("name:", "name", value, sizeof value));
    assert_string_equal(value, "");
    assert_true(cfg_line_value("name: 0123456789abcdefgh", "name", value, sizeof value));
    assert_int_equal(strlen(value), sizeof value - 1);
}

static void secrets_are_set_found_and_dropped(void **state)
{
    (void)state;
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    struct atl_buf less ATL_BUF_AT_EXIT = {0};
    cfg_secret_set("ab:1:\na:old:\nlast:2", "a", ':', "new", &text);
    assert_string_equal(text.data, "ab:1:\nlast:2\na:new:\n");
    assert_string_equal(cfg_secret_get(text.data, "a", ':', &arena), "new");
    assert_string_equal(cfg_secret_get(text.data, "last", ':', &arena), "2");
    assert_null(cfg_secret_get(text.data, "b", ':', &arena));
    cfg_secret_drop_prefix("u@pve!a 1\nu@pve!b 2\nv@pve!a 3\n", "u@pve!", &less);
    assert_string_equal(less.data, "v@pve!a 3\n");
    assert_string_equal(cfg_secret_get("u@pve!a sha256:x:y\n", "u@pve!a", ' ', &arena), "sha256:x:y");
}

static void done_requests_are_remembered_for_ten_minutes(void **state)
{
    (void)state;
    struct cfg_done done;
    cfg_done_init(&done);
    static const uint8_t one[CFG_DONE_ID_SIZE] = {1};
    static const uint8_t two[CFG_DONE_ID_SIZE] = {1, 2, 3, 4, 5};
    static const uint8_t three[CFG_DONE_ID_SIZE] = {3};
    cfg_done_add(&done, one, 7, 1000);
    cfg_done_add(&done, two, 8, 1001);
    assert_int_equal(cfg_done_find(&done, one)->number, 7);
    assert_int_equal(cfg_done_forget(&done, 1000 + CFG_DONE_LIFE + CFG_DONE_SLACK), 0);
    assert_non_null(cfg_done_find(&done, one));
    cfg_done_add(&done, three, 9, 1001 + CFG_DONE_SLACK);
    assert_int_equal(cfg_done_forget(&done, 1001 + CFG_DONE_LIFE + CFG_DONE_SLACK), 8);
    assert_null(cfg_done_find(&done, one));
    assert_null(cfg_done_find(&done, two));
    assert_int_equal(cfg_done_find(&done, three)->number, 9);
    cfg_done_free(&done);
}

#define VIEW(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VIEW(a_guest_is_what_its_file_says_and_how_its_agent_says),
        VIEW(a_resource_shows_what_the_manager_is_at_with_it),
        VIEW(a_guest_that_moves_is_the_other_nodes),
        VIEW(a_gap_is_seen_and_filled_by_a_full_push),
        VIEW(silence_makes_everything_unknown),
        VIEW(a_lost_node_is_offline_until_it_is_back),
        VIEW(tasks_are_listed_newest_first_and_bounded),
        cmocka_unit_test(a_line_is_found_in_the_first_section_only),
        cmocka_unit_test(secrets_are_set_found_and_dropped),
        cmocka_unit_test(done_requests_are_remembered_for_ten_minutes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
