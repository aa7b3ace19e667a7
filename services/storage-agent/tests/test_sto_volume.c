/* Volume ids, file names of uploads, heads of images, plans of allocations. */
#include "atl_test.h"

#include "core/image.h"
#include "core/plan.h"

static void names_of_every_kind_are_parsed_and_written_back_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum sto_content content;
        enum sto_format format;
        uint32_t vmid;
    } cases[] = {
        {"local:100/vm-100-disk-0.qcow2", STO_IMAGES, STO_QCOW2, 100},
        {"local:100/vm-100-disk-0.raw", STO_IMAGES, STO_RAW, 100},
        {"local:999999999/vm-999999999-cloudinit.raw", STO_IMAGES, STO_RAW, 999999999},
        {"my-store.2:101/subvol-101-disk-0.subvol", STO_ROOTDIR, STO_SUBVOL, 101},
        {"local:190/base-190-disk-0.qcow2/100/vm-100-disk-0.qcow2", STO_IMAGES, STO_QCOW2, 100},
        {"local:iso/debian 12.iso", STO_ISO, STO_ISO_IMAGE, 0},
        {"local:iso/disk.IMG", STO_ISO, STO_ISO_IMAGE, 0},
        {"local:vztmpl/busybox-1.0_amd64.tar.zst", STO_VZTMPL, STO_TZST, 0},
        {"local:vztmpl/a.tgz", STO_VZTMPL, STO_TGZ, 0},
        {"local:snippets/user.yaml", STO_SNIPPETS, STO_SNIPPET, 0},
        {"local:import/guest.qcow2", STO_IMPORT, STO_QCOW2, 0},
        {"local:import/guest.img", STO_IMPORT, STO_RAW, 0},
        {"local:backup/vzdump-lxc-101-2026_01_01-00_00_00.tar.zst", STO_BACKUP, STO_TZST, 101},
    };
    struct atl_arena arena = {0};
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct sto_volume volume;
        struct atl_error err = {0};
        assert_atl_ok(sto_volume_parse(cases[i].text, "volume", &volume, &err), &err);
        assert_int_equal(volume.content, cases[i].content);
        assert_int_equal(volume.format, cases[i].format);
        assert_int_equal(volume.vmid, cases[i].vmid);
        assert_string_equal(sto_volume_to_text(&volume, &arena), cases[i].text);
    }
    atl_arena_done(&arena);
}

static void a_name_that_could_leave_its_folder_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        ":",
        "local:",
        "local",
        "local:/etc/passwd",
        "local:../x.iso",
        "local:iso/../../etc/x.iso",
        "local:iso/..",
        "local:iso/.hidden.iso",
        "local:iso/a/b.iso",
        "local:iso/",
        "local:iso/x.iso/",
        "local:iso//x.iso",
        "local:iso/-rf.iso",
        "local:iso/a\nb.iso",
        "local:iso/a,b.iso",
        "local:iso/a;b.iso",
        "local:iso/\xff.iso",
        "local:iso/a\\b.iso",
        "local:100/../101/vm-101-disk-0.raw",
        "local:100/.raw",
        "local:100/vm-100 disk.raw",
        "local:99/vm-99-disk-0.raw",
        "local:0100/vm-100-disk-0.raw",
        "local:1000000000/vm-1.raw",
        "local:100/vm-100-disk-0",
        "local:100/vm-100-disk-0.txt",
        "local:100",
        "local:100/",
        "local:190/vm-190-disk-0.qcow2/100/vm-100-disk-0.qcow2",
        "local:190/base-190-disk-0.qcow2/100/base-100-disk-0.qcow2",
        "local:190/base-190-disk-0.qcow2/../100/vm-100-disk-0.qcow2",
        "local:190/base-190-disk-0.qcow2/100/vm-100-disk-0.qcow2/100/vm-100-disk-0.qcow2",
        "1local:iso/x.iso",
        "lo/cal:iso/x.iso",
        "local-:iso/x.iso",
        "l:iso/x.iso",
        "local:vztmpl/x.iso",
        "local:iso/x.tar.gz",
        "local:import/x.exe",
        "local:iso/.iso",
        "local:rootdir/x",
        "local:none/x",
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct sto_volume volume;
        struct atl_error err = {0};
        if (sto_volume_parse(cases[i], "volume", &volume, &err) == ATL_OK)
            fail_msg("'%s' was taken", cases[i]);
        assert_int_equal(err.code, ATL_E_INVALID);
        assert_string_equal(err.field, "volume");
    }
}

static void names_at_the_limits_of_their_length_are_taken_or_refused_whole(void **state)
{
    (void)state;
    char text[1024] = "local:iso/";
    size_t at = strlen(text);
    memset(text + at, 'a', STO_FILE_MAX);
    memcpy(text + at + STO_FILE_MAX - 5, ".iso", sizeof ".iso");
    struct sto_volume volume;
    struct atl_error err = {0};
    assert_atl_ok(sto_volume_parse(text, NULL, &volume, &err), &err);
    memcpy(text + at + STO_FILE_MAX - 5, "a.iso", sizeof "a.iso");
    assert_int_equal(sto_volume_parse(text, NULL, &volume, &err), ATL_E_INVALID);
    memset(text + at, 'a', 900);
    text[at + 900] = '\0';
    assert_int_equal(sto_volume_parse(text, NULL, &volume, &err), ATL_E_INVALID);
}

static void words_for_contents_and_formats_are_read_back(void **state)
{
    (void)state;
    for (enum sto_content content = 0; content < STO_CONTENTS; content++) {
        enum sto_content back = STO_CONTENTS;
        const char *text = sto_content_to_text(content);
        assert_true(sto_content_from_text(text, strlen(text), &back));
        assert_int_equal(back, content);
        assert_false(sto_content_from_text(text, strlen(text) - 1, &back));
    }
    for (enum sto_format format = 0; format < STO_FORMATS; format++) {
        enum sto_format back = STO_FORMATS;
        assert_true(sto_format_from_text(sto_format_to_text(format), &back));
        assert_int_equal(back, format);
    }
}

static void an_upload_gets_a_clean_name_or_is_refused(void **state)
{
    (void)state;
    struct sto_volume volume;
    struct atl_error err = {0};
    assert_atl_ok(sto_upload_name(STO_ISO, "my disk (1).iso", &volume, &err), &err);
    assert_string_equal(volume.name, "iso/my_disk__1_.iso");
    assert_atl_ok(sto_upload_name(STO_VZTMPL, "t.tar.zst", &volume, &err), &err);
    assert_string_equal(volume.name, "vztmpl/t.tar.zst");
    static const char *const bad[] = {"",       "../x.iso", "/etc/x.iso", "a/b.iso", "..",       ".x.iso",
                                      "-x.iso", "x.tar.gz", "C:\\x.iso",  ".iso",    "x.iso.exe"};
    for (size_t i = 0; i < ATL_COUNT(bad); i++) {
        assert_int_equal(sto_upload_name(STO_ISO, bad[i], &volume, &err), ATL_E_INVALID);
        assert_string_equal(err.field, "filename");
    }
}

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void a_qcow2_head_tells_its_size_and_whether_it_reaches_elsewhere(void **state)
{
    (void)state;
    uint8_t head[512] = {'Q', 'F', 'I', 0xfb};
    struct sto_image image;
    struct atl_error err = {0};
    put32(head + 4, 3);
    put32(head + 28, 1 << 20);
    assert_atl_ok(sto_image_read(STO_QCOW2, head, sizeof head, &image, &err), &err);
    assert_int_equal(image.size_bytes, 1 << 20);
    assert_false(image.foreign);
    put32(head + 12, 104); /* backing file name */
    assert_atl_ok(sto_image_read(STO_QCOW2, head, sizeof head, &image, &err), &err);
    assert_true(image.foreign);
    put32(head + 12, 0);
    head[79] = 1 << 2; /* external data file */
    assert_atl_ok(sto_image_read(STO_QCOW2, head, sizeof head, &image, &err), &err);
    assert_true(image.foreign);
    head[79] = 0;
    put32(head + 32, 1); /* encryption */
    assert_int_equal(sto_image_read(STO_QCOW2, head, sizeof head, &image, &err), ATL_E_INVALID);
    put32(head + 32, 0);
    put32(head + 24, 1U << 30); /* 2^62 bytes */
    assert_int_equal(sto_image_read(STO_QCOW2, head, sizeof head, &image, &err), ATL_E_INVALID);
    assert_int_equal(sto_image_read(STO_QCOW2, head, 71, &image, &err), ATL_E_INVALID);
    assert_int_equal(sto_image_read(STO_QCOW2, "raw bytes", 9, &image, &err), ATL_E_INVALID);
    assert_int_equal(sto_image_read(STO_VMDK, "# Disk DescriptorFile", 21, &image, &err), ATL_E_INVALID);
}

static const struct sto_storage *local(void)
{
    static struct sto_storage storage = {.id = "local", .path = "/srv", .default_format = STO_RAW};
    storage.type = sto_type_find("dir");
    storage.dirs[STO_IMAGES] = "images";
    storage.dirs[STO_ISO] = "template/iso";
    return &storage;
}

static void an_allocation_is_planned_from_purpose_format_and_name(void **state)
{
    (void)state;
    static const struct {
        struct sto_wish wish;
        const char *volume; /* NULL: refused */
        const char *field;
    } cases[] = {
        {{.vmid = 100, .size_bytes = 1000, .name = "vm-100-disk-1.qcow2"}, "100/vm-100-disk-1.qcow2", ""},
        {{.vmid = 100, .size_bytes = 1, .name = "vm-100-data"}, "100/vm-100-data.raw", ""},
        {{.vmid = 100, .size_bytes = 1, .name = "vm-100-data", .format = "qcow2"},
         "100/vm-100-data.qcow2",
         ""},
        {{.vmid = 100, .purpose = STO_FOR_CLOUDINIT}, "100/vm-100-cloudinit.raw", ""},
        {{.vmid = 101, .purpose = STO_FOR_ROOTDIR, .format = "subvol", .name = "subvol-101-disk-0"},
         "101/subvol-101-disk-0.subvol",
         ""},
        {{.vmid = 100, .size_bytes = 1, .name = "vm-101-disk-0.raw"}, NULL, "filename"},
        {{.vmid = 100, .size_bytes = 1, .name = "../vm-100-x.raw"}, NULL, "filename"},
        {{.vmid = 100, .size_bytes = 1, .name = "vm-100-a/b.raw"}, NULL, "filename"},
        {{.vmid = 100, .size_bytes = 1, .name = "vm-100-"}, NULL, "filename"},
        {{.vmid = 100, .size_bytes = 1, .name = "vm-100-x.raw", .format = "qcow2"}, NULL, "format"},
        {{.vmid = 100, .size_bytes = 0, .name = "vm-100-x.raw"}, NULL, "size"},
        {{.vmid = 100, .size_bytes = UINT64_MAX, .name = "vm-100-x.raw"}, NULL, "size"},
        {{.vmid = 100, .size_bytes = 1, .format = "iso"}, NULL, "format"},
        {{.vmid = 100, .size_bytes = 1, .format = "subvol"}, NULL, "format"},
        {{.vmid = 101, .purpose = STO_FOR_ROOTDIR, .size_bytes = 1, .format = "qcow2"}, NULL, "format"},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct sto_plan plan;
        struct atl_error err = {0};
        enum atl_code code = sto_plan_alloc(local(), &cases[i].wish, &plan, &err);
        if (cases[i].volume == NULL) {
            assert_int_equal(code, ATL_E_INVALID);
            assert_string_equal(err.field, cases[i].field);
            continue;
        }
        assert_atl_ok(code, &err);
        assert_string_equal(plan.volume.name, cases[i].volume);
        assert_int_equal(plan.size_bytes % 512, 0);
    }
}

static void the_next_disk_number_is_the_lowest_that_is_free(void **state)
{
    (void)state;
    struct sto_disks disks = {0};
    struct atl_error err = {0};
    uint32_t next = 0;
    sto_disks_note(&disks, 100, "vm-100-disk-0.raw");
    sto_disks_note(&disks, 100, "base-100-disk-1.qcow2");
    sto_disks_note(&disks, 100, "subvol-100-disk-2.subvol");
    sto_disks_note(&disks, 100, "vm-100-disk-4.raw");
    sto_disks_note(&disks, 100, "vm-100-cloudinit.raw");
    sto_disks_note(&disks, 100, "vm-100-disk-99999999999999999999.raw");
    sto_disks_note(&disks, 10, "vm-100-disk-3.raw");
    assert_atl_ok(sto_disks_next(&disks, 0, &next, &err), &err);
    assert_int_equal(next, 3);
    assert_atl_ok(sto_disks_next(&disks, 4, &next, &err), &err);
    assert_int_equal(next, 5);
    struct sto_plan plan;
    struct sto_wish wish = {.vmid = 100, .size_bytes = 512};
    assert_atl_ok(sto_plan_alloc(local(), &wish, &plan, &err), &err);
    sto_plan_name(&plan, next);
    assert_string_equal(plan.volume.name, "100/vm-100-disk-5.raw");
    assert_string_equal(plan.volume.storage, "local");
    memset(disks.taken, 0xff, sizeof disks.taken);
    assert_int_equal(sto_disks_next(&disks, 0, &next, &err), ATL_E_LIMIT);
}

static void sizes_are_in_kibibytes_unless_they_say_otherwise(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes; /* 0: refused */
    } cases[] = {
        {"1", 1024}, {"4M", 4 << 20}, {"32G", (uint64_t)32 << 30}, {"", 0},         {"G", 0},   {"1T", 0},
        {"-1", 0},   {"1MM", 0},      {"99999999999999999999", 0}, {"1048577G", 0}, {"1 M", 0},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        uint64_t bytes = 0;
        enum atl_code code = sto_size_parse(cases[i].text, &bytes, NULL);
        assert_int_equal(code, cases[i].bytes == 0 ? ATL_E_INVALID : ATL_OK);
        assert_int_equal(bytes, cases[i].bytes);
    }
}

static void a_configuration_mentions_a_volume_only_as_a_whole(void **state)
{
    (void)state;
    static const char text[] = "scsi0: local:100/vm-100-disk-0.qcow2,size=32G\n"
                               "unused0: local:100/vm-100-disk-10.raw\n"
                               "ide2: media=cdrom,file=local:iso/x.iso\n";
    assert_true(sto_config_mentions(text, sizeof text - 1, "local:100/vm-100-disk-0.qcow2"));
    assert_true(sto_config_mentions(text, sizeof text - 1, "local:100/vm-100-disk-10.raw"));
    assert_true(sto_config_mentions(text, sizeof text - 1, "local:iso/x.iso"));
    assert_false(sto_config_mentions(text, sizeof text - 1, "local:100/vm-100-disk-1.raw"));
    assert_false(sto_config_mentions(text, sizeof text - 1, "local:100/vm-100-disk-0"));
    assert_false(sto_config_mentions(text, sizeof text - 1, "cal:iso/x.iso"));
    assert_false(sto_config_mentions("", 0, "local:iso/x.iso"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_every_kind_are_parsed_and_written_back_the_same),
        cmocka_unit_test(a_name_that_could_leave_its_folder_is_refused),
        cmocka_unit_test(names_at_the_limits_of_their_length_are_taken_or_refused_whole),
        cmocka_unit_test(words_for_contents_and_formats_are_read_back),
        cmocka_unit_test(an_upload_gets_a_clean_name_or_is_refused),
        cmocka_unit_test(a_qcow2_head_tells_its_size_and_whether_it_reaches_elsewhere),
        cmocka_unit_test(an_allocation_is_planned_from_purpose_format_and_name),
        cmocka_unit_test(the_next_disk_number_is_the_lowest_that_is_free),
        cmocka_unit_test(sizes_are_in_kibibytes_unless_they_say_otherwise),
        cmocka_unit_test(a_configuration_mentions_a_volume_only_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
