/* Guest files as data: round trip, digest, what a configuration must not be, what a new guest gets. */
#include "atl_test.h"

#include "core/config.h"
#include "core/domxml.h"

struct fixture {
    struct atl_arena arena;
    struct cmp_file file;
};

static struct fixture *load(const char *text)
{
    static struct fixture fixture;
    struct atl_error err = {0};
    atl_arena_done(&fixture.arena);
    fixture = (struct fixture){0};
    assert_atl_ok(cmp_file_read(text, strlen(text), &fixture.arena, &fixture.file, &err), &err);
    return &fixture;
}

static void file_comes_back_with_what_nobody_knows(void **state)
{
    (void)state;
    const char *text =
        "#a note\ncores: 2\nname: web\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0\nx-future: 1\n"
        "\n[PENDING]\ndelete: net0\nmemory: 4096\nx-waits: 1\n\n[snap1]\ncores: 1\n";
    struct fixture *f = load(text);
    assert_string_equal(f->file.pending_delete, "net0");
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    cmp_file_write(&f->file, &out);
    static const char *const parts[] = {"#a note\n",    "cores: 2\n",     "x-future: 1\n",  "[PENDING]\n",
                                        "x-waits: 1\n", "delete: net0\n", "memory: 4096\n", "[snap1]\n"};
    for (size_t i = 0; i < ATL_COUNT(parts); i++)
        if (strstr(out.data, parts[i]) == NULL)
            fail_msg("'%s' is lost: %s", parts[i], out.data);
    ATL_BUF_AT_EXIT struct atl_buf again = {0};
    char *first = atl_strdup(out.data);
    f = load(first);
    cmp_file_write(&f->file, &again);
    assert_string_equal(again.data, first);
    free(first);
}

static void pending_changes_show_in_the_next_configuration(void **state)
{
    (void)state;
    struct fixture *f = load("cores: 2\nmemory: 1024\n\n[PENDING]\ndelete: cores\nmemory: 2048\n");
    const Atoll__Qemu__V1__Config *next = cmp_config_next(&f->file, &f->arena);
    assert_false(next->has_cores);
    assert_int_equal(next->memory->current, 2048);
    assert_int_equal(f->file.main->config->memory->current, 1024);
    assert_int_equal(f->file.main->config->cores, 2);
}

static void digest_is_sha1_of_the_text(void **state)
{
    (void)state;
    char digest[ATL_DIGEST_SIZE];
    atl_digest("abc", 3, digest);
    assert_string_equal(digest, "a9993e364706816aba3e25717850c26c9cd0d89d");
}

static void lists_keep_each_name_once(void **state)
{
    (void)state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char *list = cmp_list_add("", "net1", &arena);
    list = cmp_list_add(list, "net10", &arena);
    list = cmp_list_add(list, "net1", &arena);
    assert_string_equal(list, "net1,net10");
    assert_false(cmp_list_has(list, "net"));
    assert_string_equal(cmp_list_drop(list, "net1", &arena), "net10");
    assert_string_equal(cmp_list_drop("", "net1", &arena), "");
}

/* field, then a part of the sentence */
static const struct bad_case {
    const char *text;
    const char *field;
    const char *part;
} bad_cases[] = {
    {"ide0: local:1,iothread=1\n", "ide0", "iothread"},
    {"sata0: local:1,ro=1\n", "sata0", "'ro'"},
    {"virtio0: local:1,ssd=1\n", "virtio0", "ssd"},
    {"virtio0: none,media=cdrom\n", "virtio0", "cdrom"},
    {"ide0: local:1,product=x\n", "ide0", "product"},
    {"scsi0: local:1,model=x\n", "scsi0", "model"},
    {"scsi0: local:1,aio=native,cache=writeback\n", "scsi0", "aio=native"},
    {"scsi0: local:1,mbps=1,mbps_rd=1\n", "scsi0", "exclude each other"},
    {"scsi0: local:1,iops=1,iops_wr=1\n", "scsi0", "exclude each other"},
    {"scsi0: local:0\n", "scsi0", "larger than 0"},
    {"scsi0: local:8,import-from=local:import/x.qcow2\n", "scsi0", "size 0"},
    {"scsi0: none\n", "scsi0", "CD drives"},
    {"ide2: local:8,media=cdrom\n", "ide2", "not a new volume"},
    {"ide2: local:cloudinit\nide3: local:cloudinit\n", "ide3", "another cloud-init"},
    {"net0: e1000=BC:24:11:00:00:01,bridge=vmbr0,mtu=1400\n", "net0", "mtu"},
    {"net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,mtu=500\n", "net0", "576"},
    {"net0: virtio=01:24:11:00:00:01,bridge=vmbr0\n", "net0", "multicast"},
    {"boot: order=scsi3\n", "boot", "device 'scsi3' does not exist"},
    {"memory: 512\nballoon: 513\n", "balloon", "512"},
    {"cores: 2\nvcpus: 3\n", "vcpus", "sockets times cores (2)"},
    {"cores: 5000\n", "cores", "4096"},
    {"scsi0: local:1,serial=a%3Cb\n", "scsi0", "serial number"},
    {"citype: opennebula\n", "citype", "not built"},
    {"agent: 1,type=isa\n", "agent", "not built"},
    {"memory: 512\nnuma: 1\nnuma0: cpus=0,memory=100\n", "numa", "add up"},
};

static void faults_are_named_with_their_parameter(void **state)
{
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(bad_cases); i++) {
        struct fixture *f = load(bad_cases[i].text);
        struct atl_errors errors = {0};
        if (cmp_config_check(f->file.main->config, &errors) != ATL_E_INVALID)
            fail_msg("taken: %s", bad_cases[i].text);
        assert_string_equal(errors.items[0].field, bad_cases[i].field);
        if (strstr(errors.items[0].text, bad_cases[i].part) == NULL)
            fail_msg("%s: '%s' lacks '%s'", bad_cases[i].text, errors.items[0].text, bad_cases[i].part);
    }
}

static void usual_configurations_have_no_fault(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "scsi0: local:32,iothread=1,discard=on,ssd=1\nide2: none,media=cdrom\nboot: order=scsi0;ide2\n",
        "scsi0: local:0,import-from=local:import/x.qcow2\nide2: local:cloudinit\n",
        "virtio0: local:1,mbps_rd=1,mbps_wr=2\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0,mtu=1\n",
    };
    for (size_t i = 0; i < ATL_COUNT(good); i++) {
        struct fixture *f = load(good[i]);
        struct atl_errors errors = {0};
        if (cmp_config_check(f->file.main->config, &errors) != ATL_OK)
            fail_msg("%s: %s %s", good[i], errors.items[0].field, errors.items[0].text);
    }
}

static void new_guest_gets_addresses_ids_and_boot_order(void **state)
{
    (void)state;
    uint8_t random[CMP_BIRTH_RANDOM];
    for (size_t i = 0; i < sizeof random; i++)
        random[i] = (uint8_t)i;
    struct fixture *f = load("scsi1: local:a.raw\nide2: none,media=cdrom\nnet2: virtio,bridge=vmbr0\n"
                             "net0: virtio=bc:24:11:aa:bb:cc,bridge=vmbr0\n");
    const struct cmp_birth birth = {
        .random = random, .now = 1795222989, .mac_prefix = "BC:24:11", .qemu_version = "7.2.22"};
    cmp_fill_birth(&f->file, &birth);
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    cmp_file_write(&f->file, &out);
    static const char *const parts[] = {
        "boot: order=scsi1;ide2;net0\n",
        "net0: virtio=BC:24:11:AA:BB:CC,bridge=vmbr0\n",
        "net2: virtio=BC:24:11:06:07:08,bridge=vmbr0\n",
        "meta: creation-qemu=7.2.22,ctime=1795222989\n",
        "smbios1: uuid=60616263-6465-4667-a869-6a6b6c6d6e6f\n",
        "vmgenid: 70717273-7475-4677-b879-7a7b7c7d7e7f\n",
    };
    for (size_t i = 0; i < ATL_COUNT(parts); i++)
        if (strstr(out.data, parts[i]) == NULL)
            fail_msg("no '%s' in: %s", parts[i], out.data);
}

static void other_prefixes_are_kept_and_never_multicast(void **state)
{
    (void)state;
    uint8_t random[96] = {1, 2, 3};
    struct fixture *f = load("net0: virtio,bridge=vmbr0\n");
    cmp_fill_macs(f->file.main->config, random, "03:11", &f->arena);
    assert_string_equal(f->file.main->config->net[0]->value->macaddr, "02:11:11:01:02:03");
}

static void volumes_of_a_guest_are_all_it_names(void **state)
{
    (void)state;
    struct fixture *f =
        load("scsi0: local:100/vm-100-disk-0.raw\nide2: local:iso/a.iso,media=cdrom\n"
             "scsi1: local:32\nunused3: local:100/vm-100-disk-9.raw\n\n[PENDING]\n"
             "scsi0: local:100/vm-100-disk-0.raw,ssd=1\nvirtio1: local:100/vm-100-disk-2.raw\n");
    size_t count = 0;
    const char **list = cmp_volumes_of(&f->file, &f->arena, &count);
    static const char *const wanted[] = {"local:100/vm-100-disk-0.raw", "local:100/vm-100-disk-2.raw",
                                         "local:100/vm-100-disk-9.raw", "local:iso/a.iso"};
    assert_int_equal(count, ATL_COUNT(wanted));
    for (size_t i = 0; i < count; i++)
        assert_string_equal(list[i], wanted[i]);
}

static void wishes_for_volumes_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_new;
        uint64_t bytes;
        bool cloudinit;
    } rows[] = {{"scsi0: local:32\n", true, UINT64_C(32) << 30, false},
                {"scsi0: local:0.5\n", true, UINT64_C(512) << 20, false},
                {"scsi0: local:cloudinit\n", true, 0, true},
                {"scsi0: local:vm-100-disk-0\n", false, 0, false},
                {"scsi0: local:100/vm-100-disk-0.qcow2\n", false, 0, false},
                {"scsi0: /dev/sda\n", false, 0, false},
                {"scsi0: none,media=cdrom\n", false, 0, false}};
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        struct fixture *f = load(rows[i].text);
        struct cmp_new_volume volume = {0};
        assert_int_equal(cmp_drive_is_new(f->file.main->config->scsi[0]->value, &volume), rows[i].is_new);
        assert_int_equal(volume.size_bytes, rows[i].bytes);
        assert_int_equal(volume.cloudinit, rows[i].cloudinit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_comes_back_with_what_nobody_knows),
        cmocka_unit_test(pending_changes_show_in_the_next_configuration),
        cmocka_unit_test(digest_is_sha1_of_the_text),
        cmocka_unit_test(lists_keep_each_name_once),
        cmocka_unit_test(faults_are_named_with_their_parameter),
        cmocka_unit_test(usual_configurations_have_no_fault),
        cmocka_unit_test(new_guest_gets_addresses_ids_and_boot_order),
        cmocka_unit_test(other_prefixes_are_kept_and_never_multicast),
        cmocka_unit_test(volumes_of_a_guest_are_all_it_names),
        cmocka_unit_test(wishes_for_volumes_are_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
