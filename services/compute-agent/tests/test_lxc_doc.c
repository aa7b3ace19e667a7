/* The file of a container: what changes at once, what waits, what is refused; what kernel files tell. */
#include "atl_test.h"

#include "atoll/lxc/v1/lxc.atl.h"
#include "core/ct_node.h"
#include "core/ct_stat.h"
#include "core/lxc_doc.h"
#include "core/lxc_make.h"

static const char base[] = "arch: amd64\ncores: 1\nhostname: ct\nmemory: 512\n"
                           "mp0: local:101/vm-101-disk-1.raw,mp=/srv,size=4G\n"
                           "net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,type=veth\n"
                           "ostype: debian\nrootfs: local:101/vm-101-disk-0.raw,size=8G\nswap: 512\n"
                           "unprivileged: 1\nlxc.environment: A=1\n";

static const uint8_t random_bytes[CMP_LXC_RANDOM] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

struct given {
    struct atl_arena arena;
    struct cmp_lxc_doc doc;
    struct cmp_lxc_change change;
    struct atl_error error;
    struct atl_buf text;
};

static void read_text(struct given *given, const char *text)
{
    *given = (struct given){0};
    assert_atl_ok(cmp_lxc_doc_read(text, strlen(text), &given->arena, &given->doc, &given->error),
                  &given->error);
}

static void done(struct given *given)
{
    atl_arena_done(&given->arena);
    atl_buf_done(&given->text);
}

static enum atl_code update(struct given *given, const char *const *set, const char *remove,
                            const char *revert, bool running)
{
    struct atl_param params[8] = {0};
    size_t count = 0;
    ProtobufCMessage *message = NULL;
    struct atl_errors errors = {0};
    for (; set != NULL && set[2 * count] != NULL; count++)
        params[count] = (struct atl_param){.name = set[2 * count], .value = set[2 * count + 1]};
    assert_int_equal(
        atl_params_decode(&atl_msg_lxc_v1_Config, params, count, &given->arena, &message, &errors), ATL_OK);
    const struct cmp_lxc_update request = {.set = count > 0 ? (Atoll__Lxc__V1__Config *)message : NULL,
                                           .remove = remove,
                                           .revert = revert,
                                           .running = running,
                                           .random = random_bytes};
    return cmp_lxc_doc_update(&given->doc, &request, &given->change, &given->error);
}

static const char *written(struct given *given)
{
    atl_buf_reset(&given->text);
    cmp_lxc_doc_write(&given->doc, &given->text);
    return given->text.data;
}

#define SET(...) ((const char *const[]){__VA_ARGS__, NULL})

static void file_that_is_read_is_written_the_same(void **state)
{
    (void)state;
    struct given given;
    read_text(&given, base);
    const char *digest = atl_arena_strdup(&given.arena, given.doc.digest);
    assert_string_equal(written(&given), base);
    assert_string_equal(given.doc.digest, digest);
    done(&given);
}

static void stopped_container_takes_everything_at_once(void **state)
{
    (void)state;
    struct given given;
    read_text(&given, base);
    assert_atl_ok(
        update(&given, SET("memory", "1024", "net1", "name=eth1,bridge=vmbr1"), "cores", NULL, false),
        &given.error);
    const char *text = written(&given);
    assert_non_null(strstr(text, "memory: 1024\n"));
    assert_non_null(strstr(text, "hwaddr=BC:24:11:04:05:06"));
    assert_null(strstr(text, "cores"));
    assert_null(strstr(text, "pve:pending"));
    done(&given);
}

static void running_container_takes_limits_and_lets_the_rest_wait(void **state)
{
    (void)state;
    struct given given;
    read_text(&given, base);
    assert_atl_ok(update(&given, SET("memory", "1024", "hostname", "new", "onboot", "1"), "net0", NULL, true),
                  &given.error);
    assert_true(given.change.limits);
    const char *text = written(&given);
    assert_non_null(strstr(text, "memory: 1024\n"));
    assert_non_null(strstr(text, "onboot: 1\n"));
    assert_non_null(strstr(text, "hostname: ct\n"));
    const char *pending = strstr(text, "[pve:pending]");
    assert_non_null(pending);
    assert_non_null(strstr(pending, "hostname: new\n"));
    assert_non_null(strstr(pending, "delete: net0\n"));
    /* The next start settles it, and the file read again says the same. */
    char *copy = atl_arena_strdup(&given.arena, text);
    struct given next;
    read_text(&next, copy);
    Atoll__Lxc__V1__GetPendingReply rows = ATOLL__LXC__V1__GET_PENDING_REPLY__INIT;
    cmp_lxc_doc_rows(&next.doc, &rows);
    size_t marked = 0;
    for (size_t i = 0; i < rows.n_entry; i++)
        marked += rows.entry[i]->pending != NULL || rows.entry[i]->has_delete_;
    assert_int_equal(marked, 2);
    assert_string_equal(cmp_lxc_doc_wanted(&next.doc)->hostname, "new");
    assert_true(cmp_lxc_doc_settle(&next.doc));
    text = written(&next);
    assert_non_null(strstr(text, "hostname: new\n"));
    assert_null(strstr(text, "net0"));
    assert_null(strstr(text, "pending"));
    assert_non_null(strstr(text, "lxc.environment: A=1"));
    done(&next);
    done(&given);
}

static void waiting_change_can_be_taken_back(void **state)
{
    (void)state;
    struct given given;
    read_text(&given, base);
    assert_atl_ok(update(&given, SET("hostname", "new"), "net0", NULL, true), &given.error);
    assert_atl_ok(update(&given, NULL, NULL, "hostname,net0", true), &given.error);
    assert_null(strstr(written(&given), "pending"));
    /* Setting what was to go also keeps it. */
    assert_atl_ok(update(&given, NULL, "net0", NULL, true), &given.error);
    assert_atl_ok(update(&given, SET("net0", "name=eth0,bridge=vmbr9"), NULL, NULL, true), &given.error);
    const char *text = written(&given);
    assert_null(strstr(text, "delete:"));
    assert_non_null(strstr(text, "net0: name=eth0,bridge=vmbr9,hwaddr=BC:24:11:00:00:01\n"));
    done(&given);
}

static void volume_of_a_removed_mount_point_becomes_unused_and_can_be_freed(void **state)
{
    (void)state;
    struct given given;
    read_text(&given, base);
    assert_atl_ok(update(&given, NULL, "mp0", NULL, false), &given.error);
    const char *text = written(&given);
    assert_non_null(strstr(text, "unused0: local:101/vm-101-disk-1.raw\n"));
    assert_null(strstr(text, "mp0"));
    assert_atl_ok(update(&given, NULL, "unused0", NULL, true), &given.error);
    assert_int_equal(given.change.freed_count, 1);
    assert_string_equal(given.change.freed[0], "local:101/vm-101-disk-1.raw");
    assert_null(strstr(written(&given), "unused0"));
    done(&given);
}

static void unused_volume_that_is_mounted_again_is_not_unused(void **state)
{
    (void)state;
    struct given given;
    read_text(&given, base);
    assert_atl_ok(update(&given, NULL, "mp0", NULL, false), &given.error);
    assert_atl_ok(update(&given, SET("mp3", "local:101/vm-101-disk-1.raw,mp=/data"), NULL, NULL, false),
                  &given.error);
    const char *text = written(&given);
    assert_null(strstr(text, "unused0"));
    assert_non_null(strstr(text, "mp3: local:101/vm-101-disk-1.raw,mp=/data"));
    done(&given);
}

static void what_cannot_be_is_refused_by_name(void **state)
{
    (void)state;
    struct given given;
    read_text(&given, base);
    assert_int_equal(update(&given, NULL, "nonsense", NULL, false), ATL_E_INVALID);
    assert_string_equal(given.error.field, "delete");
    assert_int_equal(update(&given, NULL, "rootfs", NULL, false), ATL_E_INVALID);
    assert_int_equal(update(&given, SET("memory", "64"), "memory", NULL, false), ATL_E_INVALID);
    assert_string_equal(given.error.field, "memory");
    assert_int_equal(update(&given, SET("unprivileged", "0"), NULL, NULL, false), ATL_E_INVALID);
    assert_string_equal(given.error.text, "Unable to modify read-only option: 'unprivileged'");
    assert_int_equal(update(&given, SET("unprivileged", "1"), NULL, NULL, false), ATL_OK);
    assert_int_equal(update(&given, SET("unused3", "local:101/x"), NULL, NULL, false), ATL_E_INVALID);
    assert_int_equal(update(&given, NULL, NULL, "nonsense", false), ATL_E_INVALID);
    done(&given);
}

static void locked_or_changed_file_is_refused(void **state)
{
    (void)state;
    struct given given;
    read_text(&given, base);
    struct cmp_lxc_update stale = {.digest = "0000000000000000000000000000000000000000",
                                   .random = random_bytes};
    assert_int_equal(cmp_lxc_doc_update(&given.doc, &stale, &given.change, &given.error), ATL_E_CONFLICT);
    assert_string_equal(given.error.field, "digest");
    cmp_lxc_doc_set_lock(&given.doc, "backup");
    assert_int_equal(update(&given, SET("memory", "64"), NULL, NULL, false), ATL_E_CONFLICT);
    assert_string_equal(given.error.text, "CT is locked (backup)");
    done(&given);
}

static void halt_signal_is_what_the_init_listens_to(void **state)
{
    (void)state;
    assert_int_equal(
        cmp_ct_halt_signal("Name:\tsystemd\nSigBlk:\t7fe3c0fe28014a03\nSigCgt:\t00000001000004ec\n", 34), 37);
    assert_int_equal(
        cmp_ct_halt_signal("Name:\tinit\nSigBlk:\t0000000000000000\nSigCgt:\t0000000020014a03\n", 34), 30);
    assert_int_equal(cmp_ct_halt_signal("Name:\tinit\nSigBlk:\t0\nSigCgt:\t0000000000000a00\n", 34), 12);
    assert_int_equal(cmp_ct_halt_signal("", 34), 30);
    assert_int_equal(cmp_ct_signal("SIGRTMIN+3", 34), 37);
    assert_int_equal(cmp_ct_signal("USR1", 34), 10);
    assert_int_equal(cmp_ct_signal("15", 34), 15);
    assert_int_equal(cmp_ct_signal("SIGNONSENSE", 34), 0);
}

static void kernel_texts_are_read(void **state)
{
    (void)state;
    uint64_t bytes_read = 0;
    uint64_t written_bytes = 0;
    cmp_ct_io("8:0 Read 100\n8:0 Write 20\n8:16 Read 1\nTotal 121\n", 1, &bytes_read, &written_bytes);
    assert_int_equal(bytes_read, 101);
    assert_int_equal(written_bytes, 20);
    cmp_ct_io("8:0 rbytes=5 wbytes=6 rios=1\n8:16 rbytes=1 wbytes=1\n", 2, &bytes_read, &written_bytes);
    assert_int_equal(bytes_read, 6);
    assert_int_equal(written_bytes, 7);
    assert_int_equal(cmp_ct_keyed("anon 12\ninactive_file 34\n", "inactive_file"), 34);
    assert_int_equal(cmp_ct_keyed("inactive_file_x 34\n", "inactive_file"), 0);
    assert_true(cmp_ct_number("max\n") == UINT64_MAX);
    assert_int_equal(cmp_ct_number("42\n"), 42);
    assert_true(cmp_ct_pressure("some avg10=1.50 avg60=0\nfull avg10=0.25 avg60=0\n", "full") == 0.25);
    uint32_t load[4] = {0};
    cmp_ct_cpu_list_count("0-1,3\n", load, 4);
    assert_true(load[0] == 1 && load[1] == 1 && load[2] == 0 && load[3] == 1);
    cmp_ct_cpu_list_count("0-18446744073709551615", load, 4);
    assert_int_equal(load[2], 1);
    struct cmp_ct_run run;
    assert_true(cmp_ct_run_from_text("init 12 345\nmonitor 11 344\n", &run));
    assert_true(run.init == 12 && run.init_start == 345 && run.monitor == 11 && run.monitor_start == 344);
    assert_false(cmp_ct_run_from_text("init 1 345\nmonitor 11 344\n", &run));
    assert_false(cmp_ct_run_from_text("init x\n", &run));
}

static void node_texts_are_read(void **state)
{
    (void)state;
    struct atl_arena arena = {0};
    struct cmp_node_cpu cpu;
    cmp_node_cpuinfo(
        "processor\t: 0\nmodel name\t: A CPU @ 2\ncpu MHz\t\t: 2100.1\nphysical id\t: 0\ncpu cores\t: 2\n"
        "flags\t\t: fpu vmx sse\n\nprocessor\t: 1\nphysical id\t: 1\ncpu cores\t: 2\n",
        &arena, &cpu);
    assert_true(cpu.cpus == 2 && cpu.sockets == 2 && cpu.cores == 2 && cpu.hvm);
    assert_string_equal(cpu.model, "A CPU @ 2");
    struct cmp_node_ticks ticks;
    cmp_node_ticks("cpu  10 0 5 100 7 0 1 0 0 0\ncpu0 1\n", &ticks);
    assert_true(ticks.busy == 16 && ticks.wait == 7 && ticks.total == 123);
    assert_int_equal(cmp_node_meminfo("MemTotal:  10 kB\nMemFree: 3 kB\n", "MemFree"), 3072);
    assert_true(
        cmp_node_pressure("some avg10=1.00 avg60=25.50 avg300=3.00 total=1\nfull avg10=0.00 avg60=7.00\n") ==
        0.255);
    assert_true(cmp_node_pressure("some avg10=1.00\nfull avg60=7.00 \n") < 0);
    assert_true(cmp_node_pressure("some avg10=1.00 avg60=-3.00 \n") < 0 &&
                cmp_node_pressure("some avg60=x ") < 0);
    assert_true(cmp_node_pressure("") < 0 && cmp_node_pressure(NULL) < 0);
    char *loads[3];
    cmp_node_loadavg("0.12 1.00 2.5 1/2 3\n", &arena, loads);
    assert_string_equal(loads[2], "2.5");
    cmp_node_loadavg("", &arena, loads);
    assert_string_equal(loads[0], "0.00");
    struct cmp_node_resolver resolver;
    cmp_node_resolver("# c\nsearch example.org other\nnameserver 10.0.0.1\nnameserver fd00::1\n", &arena,
                      &resolver);
    assert_string_equal(resolver.search, "example.org");
    assert_string_equal(resolver.servers[1], "fd00::1");
    assert_null(resolver.servers[2]);
    assert_string_equal(cmp_node_zone("/usr/share/zoneinfo/Europe/Vienna", "", &arena), "Europe/Vienna");
    assert_string_equal(cmp_node_zone("", "Etc/UTC\n", &arena), "Etc/UTC");
    assert_string_equal(cmp_node_zone("", "", &arena), "UTC");
    assert_string_equal(cmp_lxc_ostype("NAME=x\nID=\"rocky\"\n"), "centos");
    assert_string_equal(cmp_lxc_ostype("VERSION_ID=3\n"), "unmanaged");
    assert_string_equal(cmp_lxc_option("a: 1\nmac_prefix: 02:11:22\n", "mac_prefix", &arena), "02:11:22");
    atl_arena_done(&arena);
}

/* A newer version wrote a change that waits: an older one neither applies it nor forgets it. */
static void what_waits_and_nobody_knows_is_kept(void **state)
{
    (void)state;
    struct given given;
    read_text(&given, "hostname: a\nmemory: 64\n\n[pve:pending]\nx-waits: 1\n");
    assert_int_equal(update(&given, (const char *const[]){"memory", "72", NULL}, NULL, NULL, true), ATL_OK);
    assert_non_null(strstr(written(&given), "memory: 72\n"));
    assert_non_null(strstr(written(&given), "[pve:pending]\nx-waits: 1\n"));
    done(&given);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_that_is_read_is_written_the_same),
        cmocka_unit_test(stopped_container_takes_everything_at_once),
        cmocka_unit_test(running_container_takes_limits_and_lets_the_rest_wait),
        cmocka_unit_test(waiting_change_can_be_taken_back),
        cmocka_unit_test(volume_of_a_removed_mount_point_becomes_unused_and_can_be_freed),
        cmocka_unit_test(unused_volume_that_is_mounted_again_is_not_unused),
        cmocka_unit_test(what_waits_and_nobody_knows_is_kept),
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
        cmocka_unit_test(locked_or_changed_file_is_refused),
        cmocka_unit_test(halt_signal_is_what_the_init_listens_to),
        cmocka_unit_test(kernel_texts_are_read),
        cmocka_unit_test(node_texts_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
