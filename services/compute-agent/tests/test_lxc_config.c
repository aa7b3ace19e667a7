/* Container configurations compiled against recorded files, for both versions of cgroups. */
#include "atl_test.h"

#include <dirent.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "core/lxc_config.h"
#include "core/lxc_doc.h"
#include "core/lxc_volume.h"

static const char folder[] = "tests/scenario/lxc";

static void compile_to_text(const char *name, const struct cmp_lxc_doc *doc, unsigned int version,
                            struct atl_buf *out)
{
    static const uint32_t load[4] = {3, 1, 2, 1};
    uint32_t cpus[4];
    struct cmp_lxc_plan plan;
    struct atl_error error = {0};
    const struct atl_line *raw = NULL;
    size_t raw_count = cmp_lxc_doc_raw(doc, &raw);
    const Atoll__Lxc__V1__Config *config = doc->now->config;
    struct cmp_lxc_facts facts = {.vmid = 101,
                                  .cgroup_version = version,
                                  .cgroup_base = "atoll",
                                  .run_dir = "/run/atoll/lxc/101",
                                  .map_first = 100000,
                                  .map_count = 65536,
                                  .host_cpus = 4,
                                  .swap_accounting = strncmp(name, "noswapacct", 10) != 0};
    if (strncmp(name, "apparmor", 8) == 0)
        facts.apparmor = "generated";
    facts.cpu_count = cmp_lxc_choose_cpus(config->has_cores ? (uint32_t)config->cores : 0, load, 4, cpus);
    facts.cpus = cpus;
    enum atl_code code = cmp_lxc_compile(config, raw, raw_count, &facts, doc->arena, &plan, &error);
    if (code != ATL_OK) {
        atl_buf_printf(out, "error %s %s: %s\n", atl_code_to_text(code), error.field, error.text);
        return;
    }
    cmp_lxc_plan_text(&plan, out);
    for (size_t i = 0; i < plan.mount_count; i++)
        atl_buf_printf(out, "# mount %s %s at %s%s%s%s%s\n", plan.mounts[i].slot, plan.mounts[i].volume,
                       plan.mounts[i].target, plan.mounts[i].bind ? " bind" : "",
                       plan.mounts[i].ro ? " ro" : "", plan.mounts[i].options != NULL ? " " : "",
                       plan.mounts[i].options != NULL ? plan.mounts[i].options : "");
    if (strstr(plan.seccomp, "keyctl") == NULL)
        atl_buf_text(out, "# seccomp lets keyctl pass\n");
}

static int order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void every_case_compiles_as_recorded(void **state)
{
    (void)state;
    char path[4096];
    char *names[128];
    size_t count = 0;
    const char *top = getenv("ATL_SOURCE_DIR");
    (void)snprintf(path, sizeof path, "%s/%s", top != NULL ? top : ".", folder);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char *end = strrchr(entry->d_name, '.');
        if (end != NULL && strcmp(end, ".conf") == 0 && count < ATL_COUNT(names))
            names[count++] = atl_strndup(entry->d_name, (size_t)(end - entry->d_name));
    }
    assert_int_equal(closedir(dir), 0);
    qsort(names, count, sizeof names[0], order);
    assert_in_range(count, 30, ATL_COUNT(names) - 1);
    for (size_t i = 0; i < count; i++) {
        struct atl_arena arena = {0};
        struct atl_buf text = {0};
        struct atl_buf out = {0};
        struct cmp_lxc_doc doc;
        struct atl_error error = {0};
        (void)snprintf(path, sizeof path, "%s/%s/%s.conf", top != NULL ? top : ".", folder, names[i]);
        assert_true(atl_test_read(path, &text));
        assert_atl_ok(cmp_lxc_doc_read(text.data, text.length, &arena, &doc, &error), &error);
        atl_buf_text(&out, "# cgroup v1\n");
        compile_to_text(names[i], &doc, 1, &out);
        atl_buf_text(&out, "\n# cgroup v2\n");
        compile_to_text(names[i], &doc, 2, &out);
        (void)snprintf(path, sizeof path, "%s/%s.lxc", folder, names[i]);
        atl_test_golden(path, out.data);
        atl_buf_done(&out);
        atl_buf_done(&text);
        atl_arena_done(&arena);
        free(names[i]);
    }
}

static void cpus_with_the_least_load_are_chosen(void **state)
{
    (void)state;
    static const uint32_t load[4] = {3, 1, 2, 1};
    uint32_t cpus[4];
    assert_int_equal(cmp_lxc_choose_cpus(2, load, 4, cpus), 2);
    assert_int_equal(cpus[0], 1);
    assert_int_equal(cpus[1], 3);
    assert_int_equal(cmp_lxc_choose_cpus(4, load, 4, cpus), 0);
    assert_int_equal(cmp_lxc_choose_cpus(0, load, 4, cpus), 0);
    assert_int_equal(cmp_lxc_choose_cpus(3, load, 4, cpus), 3);
    assert_int_equal(cpus[2], 3);
}

static void volume_values_say_what_they_are(void **state)
{
    (void)state;
    assert_int_equal(cmp_lxc_volume_kind("local:8"), CMP_LXC_VOLUME_NEW);
    assert_int_equal(cmp_lxc_volume_kind("local:0.5"), CMP_LXC_VOLUME_NEW);
    assert_int_equal(cmp_lxc_volume_kind("local:8G"), CMP_LXC_VOLUME_OLD);
    assert_int_equal(cmp_lxc_volume_kind("local:101/vm-101-disk-0.raw"), CMP_LXC_VOLUME_OLD);
    assert_int_equal(cmp_lxc_volume_kind("/srv"), CMP_LXC_HOST_PATH);
    assert_int_equal(cmp_lxc_volume_kind("local"), CMP_LXC_VOLUME_BAD);
    assert_int_equal(cmp_lxc_volume_kind(":8"), CMP_LXC_VOLUME_BAD);
    struct atl_arena arena = {0};
    struct atl_error error = {0};
    const char *store = NULL;
    uint64_t bytes = 0;
    assert_atl_ok(cmp_lxc_volume_new("local:0.5", "rootfs", &arena, &store, &bytes, &error), &error);
    assert_string_equal(store, "local");
    assert_int_equal(bytes, 512ULL << 20);
    assert_int_equal(cmp_lxc_volume_new("local:99999999", "mp0", &arena, &store, &bytes, &error),
                     ATL_E_INVALID);
    assert_string_equal(error.field, "mp0");
    assert_true(cmp_lxc_volume_owned("local:101/vm-101-disk-0.raw", 101));
    assert_true(cmp_lxc_volume_owned("lvm:vm-101-disk-0", 101));
    assert_true(cmp_lxc_volume_owned("local:101/subvol-101-disk-0.subvol", 101));
    assert_false(cmp_lxc_volume_owned("local:102/vm-102-disk-0.raw", 101));
    assert_false(cmp_lxc_volume_owned("local:vm-1015-disk-0.raw", 101));
    atl_arena_done(&arena);
}

static void sizes_are_read_and_written(void **state)
{
    (void)state;
    struct atl_arena arena = {0};
    struct atl_error error = {0};
    uint64_t bytes = 0;
    assert_int_equal(cmp_lxc_size_bytes("8G"), 8ULL << 30);
    assert_int_equal(cmp_lxc_size_bytes("1.5G"), 1536ULL << 20);
    assert_int_equal(cmp_lxc_size_bytes("512"), 512);
    assert_int_equal(cmp_lxc_size_bytes("8GB"), 0);
    assert_int_equal(cmp_lxc_size_bytes("-8G"), 0);
    assert_string_equal(cmp_lxc_size_text(8ULL << 30, &arena), "8G");
    assert_string_equal(cmp_lxc_size_text(1536ULL << 20, &arena), "1536M");
    assert_string_equal(cmp_lxc_size_text(0, &arena), "0");
    assert_atl_ok(cmp_lxc_resize_bytes("+2G", 8ULL << 30, &bytes, &error), &error);
    assert_int_equal(bytes, 10ULL << 30);
    assert_atl_ok(cmp_lxc_resize_bytes("10G", 8ULL << 30, &bytes, &error), &error);
    assert_int_equal(bytes, 10ULL << 30);
    assert_int_equal(cmp_lxc_resize_bytes("4G", 8ULL << 30, &bytes, &error), ATL_E_INVALID);
    assert_string_equal(error.text, "unable to shrink disk size");
    assert_int_equal(cmp_lxc_resize_bytes("+200000T", 8ULL << 30, &bytes, &error), ATL_E_INVALID);
    atl_arena_done(&arena);
}

static void paths_that_leave_the_root_are_seen(void **state)
{
    (void)state;
    assert_true(cmp_lxc_path_is_clean("/"));
    assert_true(cmp_lxc_path_is_clean("/srv/a b/..c"));
    assert_false(cmp_lxc_path_is_clean("srv"));
    assert_false(cmp_lxc_path_is_clean("/srv/../etc"));
    assert_false(cmp_lxc_path_is_clean("/srv/."));
    assert_false(cmp_lxc_path_is_clean("/srv//x"));
    assert_false(cmp_lxc_path_is_clean("/srv/"));
    assert_false(cmp_lxc_path_is_clean("/a\nb"));
}

static void mac_addresses_are_single_and_keep_the_prefix(void **state)
{
    (void)state;
    static const uint8_t random[6] = {0xff, 0xff, 0xff, 0x01, 0x02, 0xfe};
    char mac[CMP_MAC_TEXT];
    cmp_mac_text(NULL, random, mac);
    assert_string_equal(mac, "BC:24:11:01:02:FE");
    cmp_mac_text("02:ab", random, mac);
    assert_string_equal(mac, "02:AB:FF:01:02:FE");
    cmp_mac_text("03", random, mac);
    assert_string_equal(mac, "02:FF:FF:01:02:FE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_compiles_as_recorded),
        cmocka_unit_test(cpus_with_the_least_load_are_chosen),
        cmocka_unit_test(volume_values_say_what_they_are),
        cmocka_unit_test(sizes_are_read_and_written),
        cmocka_unit_test(paths_that_leave_the_root_are_seen),
        cmocka_unit_test(mac_addresses_are_single_and_keep_the_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
