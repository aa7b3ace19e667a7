/* Every tests/scenario/compute/domxml/NAME.conf becomes the domain that NAME.xml records. */
#include "atl_test.h"

#include <dirent.h>

#include "core/config.h"
#include "core/domxml.h"

enum { CASES_MAX = 256 };

static char *cases[CASES_MAX];
static size_t case_count;

static const char *source_dir(void)
{
    const char *dir = getenv("ATL_SOURCE_DIR");
    return dir != NULL ? dir : ".";
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int find_cases(void **state)
{
    (void)state;
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/tests/scenario/compute/domxml", source_dir());
    DIR *folder = opendir(path);
    if (folder == NULL)
        return -1;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        size_t length = strlen(entry->d_name);
        if (length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0 && case_count < CASES_MAX)
            cases[case_count++] = atl_strndup(entry->d_name, length - 5);
    }
    (void)closedir(folder);
    qsort(cases, case_count, sizeof *cases, name_order);
    return 0;
}

static int free_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < case_count; i++)
        free(cases[i]);
    return 0;
}

/* What a storage-agent would say: qcow2 by its name, all below /srv. */
static struct cmp_volume *volumes_of(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena,
                                     size_t *ret_count)
{
    size_t count = 0;
    size_t used = 0;
    const struct cmp_drive *drives = cmp_drives(config, arena, &count);
    struct cmp_volume *list = atl_arena_array(arena, struct cmp_volume, count + 1);
    for (size_t i = 0; i < count; i++) {
        const char *file = drives[i].drive->file;
        const char *colon = file != NULL ? strchr(file, ':') : NULL;
        if (file == NULL || strcmp(file, "none") == 0)
            continue;
        struct cmp_volume *volume = &list[used++];
        (void)atl_copy(volume->name, sizeof volume->name, drives[i].name);
        volume->path = colon != NULL ? atl_arena_format(arena, "/srv/%s", colon + 1) : file;
        volume->block = strncmp(file, "/dev/", 5) == 0;
        volume->format = strstr(file, "qcow2") != NULL ? "qcow2" : "raw";
        volume->no_direct = strncmp(file, "tmpfs:", 6) == 0;
        volume->shared = strncmp(file, "shared:", 7) == 0;
    }
    *ret_count = used;
    return list;
}

/* The first line of the description may set facts: "#facts accel=kvm cgroup2". */
static void read_facts(const char *text, struct cmp_machine *machine)
{
    size_t length = text != NULL && strncmp(text, "#facts ", 7) == 0 ? strcspn(text, "\n") : 0;
    char line[256] = "";
    (void)snprintf(line, sizeof line, "%.*s", (int)(length < sizeof line ? length : 0), text);
    machine->accel = strstr(line, "accel=kvm") != NULL ? "kvm" : "tcg";
    machine->cgroup2 = strstr(line, "cgroup2") != NULL;
}

static void every_case_gives_its_recorded_domain(void **state)
{
    (void)state;
    static const struct cmp_bridge bridges[] = {{"vmbr0", 1500}, {"vmbr9", 9000}};
    assert_true(case_count >= 40);
    for (size_t i = 0; i < case_count; i++) {
        char path[4096];
        struct atl_buf text = {0};
        ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
        struct cmp_file file;
        struct atl_error error = {0};
        (void)snprintf(path, sizeof path, "%s/tests/scenario/compute/domxml/%s.conf", source_dir(), cases[i]);
        assert_true(atl_test_read(path, &text));
        assert_atl_ok(cmp_file_read(text.data, text.length, &arena, &file, &error), &error);
        struct cmp_machine machine = {.emulator = "/usr/bin/qemu-system-x86_64",
                                      .run_dir = "/run/atoll/qemu/100",
                                      .ovmf_code = "/usr/share/OVMF/OVMF_CODE_4M.fd",
                                      .ovmf_vars = "/usr/share/OVMF/OVMF_VARS_4M.fd",
                                      .bridges = bridges,
                                      .bridge_count = ATL_COUNT(bridges)};
        read_facts(text.data, &machine);
        machine.volumes = volumes_of(file.main->config, &arena, &machine.volume_count);
        CMP_XML_AT_EXIT struct cmp_xml xml = {0};
        const struct cmp_guest guest = {
            .vmid = 100, .config = file.main->config, .machine = &machine, .arena = &arena};
        cmp_domain_xml(&guest, &xml);
        (void)snprintf(path, sizeof path, "tests/scenario/compute/domxml/%s.xml", cases[i]);
        atl_test_golden(path, xml.out.data);
        atl_buf_done(&text);
    }
}

static void texts_of_any_bytes_stay_inside_their_element(void **state)
{
    (void)state;
    CMP_XML_AT_EXIT struct cmp_xml xml = {0};
    cmp_xml_begin(&xml, "a");
    cmp_xml_attr(&xml, "b", "'\"<>&\n\x01\xff\xc3\xa9\xed\xa0\x80");
    cmp_xml_text(&xml, "]]></a>\xef\xbf\xbf");
    cmp_xml_end(&xml);
    assert_string_equal(xml.out.data,
                        "<a b='&apos;&quot;&lt;&gt;&amp;&#10;?\?\xc3\xa9?\?\?'>]]&gt;&lt;/a&gt;?\?\?</a>\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_gives_its_recorded_domain),
        cmocka_unit_test(texts_of_any_bytes_stay_inside_their_element),
    };
    return cmocka_run_group_tests(tests, find_cases, free_cases);
}
