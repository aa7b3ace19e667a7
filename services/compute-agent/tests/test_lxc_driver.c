/*
 * Containers with a real liblxc, real namespaces and real cgroups: what the driver promises.
 * Needs root. Everything happens in a folder of the test's own; the network is a bridge in a namespace of its
 * own.
 */
#include "atl_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "core/lxc_doc.h"
#include "drivers/lxc.h"
#include "io/loop.h"
#include "io/process.h"

enum { VMID = 9101 };

static char top[64];
static char helper_dir[256];

static void run(const char *script)
{
    struct atl_error error = {0};
    struct atl_buf errors = {0};
    const char *const argv[] = {"sh", "-ec", script, NULL};
    const struct atl_process_options options = {
        .argv = argv, .capture = 65536, .timeout = 60 * ATL_SECOND, .dir = top};
    if (atl_process_run(&options, NULL, &errors, &error) != ATL_OK)
        fail_msg("%s: %s", script, errors.data != NULL ? errors.data : error.text);
    atl_buf_done(&errors);
}

static struct cmp_lxc_host probe(void)
{
    struct cmp_lxc_host host;
    struct atl_error error = {0};
    char path[128];
    (void)snprintf(path, sizeof path, "%s/run", top);
    assert_atl_ok(cmp_lxc_host_probe(path, &host, &error), &error);
    (void)atl_copy(host.helper_dir, sizeof host.helper_dir, helper_dir);
    return host;
}

static struct cmp_lxc_plan compile(const char *text, const struct cmp_lxc_host *host, struct atl_arena *arena,
                                   Atoll__Lxc__V1__Config **ret_config, struct cmp_lxc_facts *ret_facts)
{
    struct cmp_lxc_doc doc;
    struct cmp_lxc_plan plan;
    struct atl_error error = {0};
    assert_atl_ok(cmp_lxc_doc_read(text, strlen(text), arena, &doc, &error), &error);
    const struct atl_line *raw = NULL;
    size_t raw_count = cmp_lxc_doc_raw(&doc, &raw);
    *ret_facts = (struct cmp_lxc_facts){.vmid = VMID,
                                        .cgroup_version = host->cgroup_version,
                                        .cgroup_base = host->cgroup_base,
                                        .run_dir = cmp_lxc_folder(host, VMID, arena),
                                        .map_first = 100000,
                                        .map_count = 65536,
                                        .host_cpus = host->cpus,
                                        .swap_accounting = host->swap_accounting};
    assert_atl_ok(cmp_lxc_compile(doc.now->config, raw, raw_count, ret_facts, arena, &plan, &error), &error);
    *ret_config = doc.now->config;
    return plan;
}

static Atoll__Lxc__V1__IdMap id_map = ATOLL__LXC__V1__ID_MAP__INIT;
static Atoll__Lxc__V1__Setup setup = ATOLL__LXC__V1__SETUP__INIT;
static char image[128];
static char ostype[] = "alpine";
static char hostname[] = "ct1";
static char slot[] = "rootfs";
static char nowhere[] = "/nonexistent/disk.raw";
static Atoll__Lxc__V1__Mount root_mount = ATOLL__LXC__V1__MOUNT__INIT;
static Atoll__Lxc__V1__Mount *mounts[] = {&root_mount};

static void unpack(const struct cmp_lxc_host *host, const char *archive)
{
    struct atl_error error = {0};
    Atoll__Lxc__V1__UnpackSpec spec = ATOLL__LXC__V1__UNPACK_SPEC__INIT;
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", top, archive);
    spec.archive = path;
    spec.map = &id_map;
    spec.mount = mounts;
    spec.n_mount = 1;
    spec.setup = &setup;
    setup.has_first = setup.first = true;
    root_mount.has_format = root_mount.format = true;
    char found[CMP_LXC_OSTYPE];
    enum atl_code code = cmp_lxc_unpack_wait(host, VMID, &spec, found, &error);
    root_mount.has_format = false;
    setup.first = false;
    assert_atl_ok(code, &error);
}

static enum atl_code try_start(const struct cmp_lxc_host *host, const char *config_text,
                               struct atl_error *err)
{
    struct atl_arena arena = {0};
    struct cmp_lxc_facts facts;
    Atoll__Lxc__V1__Config *config = NULL;
    struct cmp_lxc_plan plan = compile(config_text, host, &arena, &config, &facts);
    Atoll__Lxc__V1__StartSpec spec = ATOLL__LXC__V1__START_SPEC__INIT;
    spec.map = plan.unprivileged ? &id_map : NULL;
    spec.mount = mounts;
    spec.n_mount = 1;
    spec.setup = &setup;
    enum atl_code code = cmp_lxc_start_wait(host, VMID, &plan, &spec, err);
    if (code != ATL_OK && getenv("CT_SHOW_LOG") != NULL)
        print_message("%s", cmp_lxc_read(atl_arena_format(&arena, "%s/log", facts.run_dir), &arena));
    atl_arena_done(&arena);
    return code;
}

static void start(const struct cmp_lxc_host *host, const char *config_text)
{
    struct atl_error error = {0};
    assert_atl_ok(try_start(host, config_text, &error), &error);
}

/* Waits for something that takes the container a moment. */
#define wait_for(condition)                                                                                  \
    do {                                                                                                     \
        atl_ns wait_until_ = atl_clock_monotonic() + 10 * ATL_SECOND;                                        \
        while (!(condition) && atl_clock_monotonic() < wait_until_)                                          \
            (void)usleep(5000);                                                                              \
        if (!(condition))                                                                                    \
            fail_msg("not in 10 s: %s", #condition);                                                         \
    } while (0)

static bool has_text(const char *path, const char *text)
{
    struct atl_buf buf = {0};
    bool found = atl_test_read(path, &buf) && buf.data != NULL && strstr(buf.data, text) != NULL;
    atl_buf_done(&buf);
    return found;
}

static const char config_text[] = "arch: amd64\nhostname: ct1\nmemory: 64\nswap: 0\nostype: alpine\n"
                                  "cpulimit: 0.5\ncpuunits: 512\n"
                                  "net0: name=eth0,bridge=ctbr0,hwaddr=BC:24:11:00:00:01,ip=10.66.0.5/24\n"
                                  "rootfs: x:9101/vm-9101-disk-0.raw,size=32M\nunprivileged: 1\n";

static int setup_group(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("needs root\n");
        exit(77);
    }
    (void)snprintf(top, sizeof top, "/tmp/atoll-ct-XXXXXX");
    assert_non_null(mkdtemp(top));
    assert_int_equal(chmod(top, 0755), 0);
    /* Its own network and mounts; /etc/subuid as the installed system would have it. */
    assert_int_equal(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    run("mkdir -p run root/bin root/sbin root/etc/network root/proc root/sys root/dev root/tmp root/run "
        "root/root root/var");
    run("cp /bin/busybox root/bin/; ln -s busybox root/bin/sh; ln -s ../bin/busybox root/sbin/init;"
        "printf '::sysinit:/etc/rcS\\n::shutdown:/bin/busybox true\\n' > root/etc/inittab;"
        "printf 'root:x:0:0:root:/root:/bin/sh\\n' > root/etc/passwd;"
        "printf '#!/bin/sh\\n/bin/busybox ifconfig eth0 10.66.0.5 netmask 255.255.255.0\\n"
        "/bin/busybox hostname > /dev/ready\\n/bin/busybox id -u >> /dev/ready\\n' > root/etc/rcS; chmod +x "
        "root/etc/rcS;"
        "tar -C root -czf root.tar.gz .; tar -C root -c . | zstd -q -o root.tar.zst; tar -C root -cJf "
        "root.tar.xz .");
    run("printf 'root:100000:65536\\n' > subid; mount --bind subid /etc/subuid; mount --bind subid "
        "/etc/subgid");
    run("mkdir cg; mount --rbind /sys/fs/cgroup cg; mount -t sysfs sysfs /sys; mount --rbind cg "
        "/sys/fs/cgroup");
    run("ip link add ctbr0 type bridge; ip addr add 10.66.0.1/24 dev ctbr0; ip link set ctbr0 up");
    id_map.first = 100000;
    id_map.count = 65536;
    setup.ostype = ostype;
    setup.hostname = hostname;
    (void)snprintf(image, sizeof image, "%s/disk.raw", top);
    root_mount.slot = slot;
    root_mount.source = image;
    root_mount.has_image = root_mount.image = true;
    run("truncate -s 32M disk.raw");
    return 0;
}

static void stop_if_running(const struct cmp_lxc_host *host)
{
    struct atl_error error = {0};
    if (cmp_lxc_stop_wait(host, VMID, &error) != ATL_OK)
        print_message("stop: %s\n", error.text);
}

static int teardown_group(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    stop_if_running(&host);
    cmp_lxc_clean(&host, VMID);
    char command[512];
    (void)snprintf(
        command, sizeof command,
        "cd /; umount -R %s/cg; rm -rf --one-file-system %s;"
        "for i in /sys/fs/cgroup/*/%s; do find $i -depth -type d -exec rmdir {} + 2>/dev/null || true; done",
        top, top, host.cgroup_base);
    run(command);
    return 0;
}

static void templates_of_every_kind_are_unpacked_with_the_containers_ids(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    static const char *const kinds[] = {"root.tar.xz", "root.tar.zst", "root.tar.gz"};
    for (size_t i = 0; i < ATL_COUNT(kinds); i++) {
        unpack(&host, kinds[i]);
        run("mkdir -p m; mount -o loop,ro disk.raw m; test -x m/bin/busybox; test $(stat -c %u "
            "m/bin/busybox) = 100000;"
            "test $(stat -c %u:%g m) = 100000:100000; test \"$(cat m/etc/hostname)\" = ct1; grep -q ct1 "
            "m/etc/hosts;"
            "umount m");
    }
}

static void unprivileged_container_starts_and_says_what_it_uses(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct cmp_ct_run now;
    char ready[128];
    start(&host, config_text);
    assert_true(cmp_lxc_running(&host, VMID, &now));
    (void)snprintf(ready, sizeof ready, "/proc/%d/root/dev/ready", now.init);
    wait_for(has_text(ready, "0\n"));
    assert_true(has_text(ready, "ct1\n"));
    (void)snprintf(ready, sizeof ready, "/proc/%d/uid_map", now.init);
    assert_true(has_text(ready, "100000"));
    (void)snprintf(ready, sizeof ready, "/proc/%d/status", now.init);
    assert_true(has_text(ready, "Seccomp:\t2"));
    struct cmp_lxc_use use;
    static const uint32_t nets[] = {0};
    cmp_lxc_use(&host, VMID, &now, nets, 1, &use);
    assert_in_range(use.memory_bytes, 1, 64 << 20);
    assert_true(use.cpu_ns > 0);
    assert_in_range(use.disk_total_bytes, 20 << 20, 32 << 20);
    assert_in_range(use.uptime_s, 0, 60);
}

static void limits_are_set_and_change_while_it_runs(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct atl_arena arena = {0};
    struct atl_error error = {0};
    struct cmp_lxc_facts facts;
    Atoll__Lxc__V1__Config *config = NULL;
    (void)compile(config_text, &host, &arena, &config, &facts);
    bool v2 = host.cgroup_version == 2;
    const char *memory =
        cmp_lxc_cgroup_path(&host, VMID, "memory", v2 ? "memory.max" : "memory.limit_in_bytes", &arena);
    const char *cpu = cmp_lxc_cgroup_path(&host, VMID, "cpu", v2 ? "cpu.max" : "cpu.cfs_quota_us", &arena);
    assert_true(has_text(memory, "67108864"));
    assert_true(has_text(cpu, "50000"));
    config->memory = 128;
    config->swap = 64;
    config->has_swap = true;
    config->cpulimit = 1.5;
    assert_atl_ok(cmp_lxc_limits_apply(&host, VMID, config, &facts, &error), &error);
    assert_true(has_text(memory, "134217728"));
    assert_true(has_text(cpu, "150000"));
    config->memory = 32;
    config->swap = 0;
    assert_atl_ok(cmp_lxc_limits_apply(&host, VMID, config, &facts, &error), &error);
    assert_true(has_text(memory, "33554432"));
    atl_arena_done(&arena);
}

static void addresses_inside_are_listed(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct cmp_ct_run now;
    struct atl_arena arena = {0};
    struct atl_error error = {0};
    assert_true(cmp_lxc_running(&host, VMID, &now));
    Atoll__Lxc__V1__GetInterfacesReply reply = ATOLL__LXC__V1__GET_INTERFACES_REPLY__INIT;
    assert_atl_ok(cmp_lxc_interfaces(&now, &arena, &reply, &error), &error);
    bool found = false;
    for (size_t i = 0; i < reply.n_entry; i++)
        if (strcmp(reply.entry[i]->name, "eth0") == 0) {
            found = true;
            assert_string_equal(reply.entry[i]->hwaddr, "bc:24:11:00:00:01");
            assert_string_equal(reply.entry[i]->inet, "10.66.0.5/24");
        }
    assert_true(found);
    assert_int_equal(access("/sys/class/net/ctbr0/brif/veth9101i0", F_OK), 0);
    atl_arena_done(&arena);
}

static void frozen_container_thaws_and_a_second_agent_finds_it(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct cmp_lxc_host again = probe(); /* an agent that came back knows nothing but its folders */
    struct cmp_ct_run before;
    struct cmp_ct_run after;
    struct atl_error error = {0};
    assert_true(cmp_lxc_running(&host, VMID, &before));
    assert_atl_ok(cmp_lxc_freeze(&host, VMID, true, &error), &error);
    wait_for(cmp_lxc_is_frozen(&again, VMID));
    assert_atl_ok(cmp_lxc_freeze(&again, VMID, false, &error), &error);
    wait_for(!cmp_lxc_is_frozen(&host, VMID));
    assert_true(cmp_lxc_running(&again, VMID, &after));
    assert_int_equal(before.init, after.init);
}

static void nothing_of_it_is_mounted_on_the_host(void **state)
{
    (void)state;
    assert_false(has_text("/proc/self/mounts", "disk.raw"));
    char place[128];
    (void)snprintf(place, sizeof place, "%s/run/lxc", top);
    assert_false(has_text("/proc/self/mounts", place));
}

/* The kernel lets only CAP_SYS_RESOURCE grow an ext4 that is in use. */
static bool may_grow_in_use(void)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char *line = strstr(cmp_lxc_read("/proc/self/status", &arena), "CapEff:");
    return line != NULL && (strtoull(line + 7, NULL, 16) >> 24 & 1) != 0;
}

static void volume_grows_while_it_stands(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct atl_error error = {0};
    run("truncate -s 96M disk.raw");
    assert_atl_ok(cmp_lxc_grow_wait(&host, VMID, "rootfs", image, false, &error), &error);
    run("mkdir -p m; mount -o loop,ro disk.raw m; test $(($(stat -f -c '%b*%S' m))) -gt 83886080; umount m");
}

static void volume_grows_while_it_runs(void **state)
{
    (void)state;
    if (!may_grow_in_use()) {
        print_message("no CAP_SYS_RESOURCE on this machine\n");
        skip();
    }
    struct cmp_lxc_host host = probe();
    struct cmp_ct_run now;
    struct cmp_lxc_use use;
    struct atl_error error = {0};
    run("truncate -s 64M disk.raw");
    assert_atl_ok(cmp_lxc_grow_wait(&host, VMID, "rootfs", image, true, &error), &error);
    assert_true(cmp_lxc_running(&host, VMID, &now));
    cmp_lxc_use(&host, VMID, &now, NULL, 0, &use);
    assert_in_range(use.disk_total_bytes, 50 << 20, 64 << 20);
}

static void shutdown_lets_busybox_power_off_and_stop_is_at_once(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct cmp_ct_run now;
    struct atl_error error = {0};
    assert_atl_ok(cmp_lxc_shutdown_wait(&host, VMID, 0, 20 * ATL_SECOND, NULL, NULL, &error), &error);
    assert_false(cmp_lxc_running(&host, VMID, &now));
    start(&host, config_text);
    assert_true(cmp_lxc_running(&host, VMID, &now));
    assert_atl_ok(cmp_lxc_freeze(&host, VMID, true, &error), &error);
    assert_atl_ok(cmp_lxc_stop_wait(&host, VMID, &error), &error);
    assert_false(cmp_lxc_running(&host, VMID, &now));
    assert_atl_ok(cmp_lxc_stop_wait(&host, VMID, &error), &error);
}

static bool runs_as_another(const struct cmp_lxc_host *host, int old_init)
{
    struct cmp_ct_run now;
    return cmp_lxc_running(host, VMID, &now) && now.init != old_init;
}

static void container_that_reboots_itself_is_found_again(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct cmp_ct_run before;
    struct cmp_ct_run after;
    struct atl_error error = {0};
    char ready[128];
    start(&host, config_text);
    assert_true(cmp_lxc_running(&host, VMID, &before));
    (void)snprintf(ready, sizeof ready, "/proc/%d/root/dev/ready", before.init);
    wait_for(has_text(ready, "0\n"));
    assert_int_equal(kill(before.init, SIGTERM), 0); /* busybox's init takes that for "reboot" */
    wait_for(runs_as_another(&host, before.init));
    assert_true(cmp_lxc_running(&host, VMID, &after));
    assert_int_equal(before.monitor, after.monitor);
    assert_atl_ok(cmp_lxc_stop_wait(&host, VMID, &error), &error);
    assert_false(cmp_lxc_running(&host, VMID, &after));
}

static void shutdown_that_is_not_heard_ends_at_its_deadline(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct cmp_ct_run now;
    struct atl_error error = {0};
    start(&host, config_text);
    /* SIGWINCH means nothing to busybox's init. */
    assert_int_equal(cmp_lxc_shutdown_wait(&host, VMID, SIGWINCH, 300 * ATL_MS, NULL, NULL, &error),
                     ATL_E_DEADLINE);
    assert_true(cmp_lxc_running(&host, VMID, &now));
    assert_atl_ok(cmp_lxc_stop_wait(&host, VMID, &error), &error);
}

static void nothing_is_left_after_the_end(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct atl_arena arena = {0};
    cmp_lxc_clean(&host, VMID);
    wait_for(access(cmp_lxc_cgroup_path(&host, VMID, "memory", "", &arena), F_OK) != 0);
    assert_int_not_equal(access(cmp_lxc_folder(&host, VMID, &arena), F_OK), 0);
    wait_for((run("losetup -j disk.raw > loops"),
              !has_text(atl_arena_format(&arena, "%s/loops", top), "disk.raw")));
    wait_for(access("/sys/class/net/veth9101i0", F_OK) != 0);
    atl_arena_done(&arena);
}

static void start_that_fails_says_why_and_leaves_nothing(void **state)
{
    (void)state;
    struct cmp_lxc_host host = probe();
    struct cmp_ct_run now;
    struct atl_error error = {0};
    static const char wrong[] = "hostname: ct1\nostype: alpine\nunprivileged: 1\n"
                                "net0: name=eth0,bridge=nobridge0\nrootfs: x:9101/vm-9101-disk-0.raw\n";
    assert_int_equal(try_start(&host, wrong, &error), ATL_E_STATE);
    print_message("says: %s\n", error.text);
    assert_non_null(strstr(error.text, "9101"));
    assert_false(cmp_lxc_running(&host, VMID, &now));
    cmp_lxc_clean(&host, VMID);
    nothing_is_left_after_the_end(state);
    root_mount.source = nowhere;
    assert_int_not_equal(try_start(&host, config_text, &error), ATL_OK);
    root_mount.source = image;
    assert_non_null(strstr(error.text, "/nonexistent/disk.raw"));
    cmp_lxc_clean(&host, VMID);
}

int main(void)
{
    (void)snprintf(helper_dir, sizeof helper_dir, "%s", CT_HELPER_DIR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_of_every_kind_are_unpacked_with_the_containers_ids),
        cmocka_unit_test(unprivileged_container_starts_and_says_what_it_uses),
        cmocka_unit_test(limits_are_set_and_change_while_it_runs),
        cmocka_unit_test(addresses_inside_are_listed),
        cmocka_unit_test(frozen_container_thaws_and_a_second_agent_finds_it),
        cmocka_unit_test(nothing_of_it_is_mounted_on_the_host),
        cmocka_unit_test(volume_grows_while_it_runs),
        cmocka_unit_test(shutdown_lets_busybox_power_off_and_stop_is_at_once),
        cmocka_unit_test(volume_grows_while_it_stands),
        cmocka_unit_test(container_that_reboots_itself_is_found_again),
        cmocka_unit_test(shutdown_that_is_not_heard_ends_at_its_deadline),
        cmocka_unit_test(nothing_is_left_after_the_end),
        cmocka_unit_test(start_that_fails_says_why_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
