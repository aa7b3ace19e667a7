/* Moving a virtual machine: what moves and where, what speaks against it, whose the guest is, its domain
 * there. */
#include "atl_test.h"

#include "core/migrate.h"
#include "core/move_judge.h"
#include "core/move_nodes.h"

/* --- plans and checks --- */

struct plan_case {
    const char *name;
    const char *file;
    bool running, online, with_local, force;
    const char *storages;
    const char *source_accel;
    const char *target; /* "no-quorum", "runs", "kvm", "old", "no-bridge", "no-storage", "full"; or "" */
    const char *moves;  /* "scsi0 copied local;..." */
    const char *errors; /* "field,field" */
};

#define SHARED_DISK "scsi0: pool:100/vm-100-disk-0.qcow2,size=1G\n"
#define LOCAL_DISK  "scsi0: local:100/vm-100-disk-0.qcow2,size=1G\n"

static const struct plan_case cases[] = {
    {"nothing to move", "memory: 512\n", false, false, false, false, NULL, "tcg", "", "", ""},
    {"a shared disk stays where it is", SHARED_DISK, false, false, false, false, NULL, "tcg", "",
     "scsi0 shared pool;", ""},
    {"a local disk is copied", LOCAL_DISK, false, false, false, false, NULL, "tcg", "", "scsi0 copied local;",
     ""},
    {"and mirrored while it runs", LOCAL_DISK, true, true, true, false, NULL, "tcg", "",
     "scsi0 mirrored local;", ""},
    {"which has to be asked for", LOCAL_DISK, true, true, false, false, NULL, "tcg", "",
     "scsi0 shared local;", "with-local-disks"},
    {"a guest that runs needs online", SHARED_DISK, true, false, false, false, NULL, "tcg", "",
     "scsi0 shared pool;", "online"},
    {"to another storage", LOCAL_DISK, false, false, false, false, "other", "tcg", "", "scsi0 copied other;",
     ""},
    {"1 is the same storage", LOCAL_DISK, false, false, false, false, "1", "tcg", "", "scsi0 copied local;",
     ""},
    {"by pairs", LOCAL_DISK "scsi1: slow:100/vm-100-disk-1.raw,size=1G\n", false, false, false, false,
     "slow:pool,local:other", "tcg", "", "scsi0 copied other;scsi1 copied pool;", ""},
    {"pairs, and one for the rest", LOCAL_DISK "scsi1: slow:100/vm-100-disk-1.raw,size=1G\n", false, false,
     false, false, "slow:pool,other", "tcg", "", "scsi0 copied other;scsi1 copied pool;", ""},
    {"two for the rest", "memory: 512\n", false, false, false, false, "a1,b1", "tcg", "", "",
     "targetstorage"},
    {"a shared disk is not mapped", SHARED_DISK, false, false, false, false, "other", "tcg", "",
     "scsi0 shared pool;", ""},
    {"cloud-init is made anew", "ide2: local:100/vm-100-cloudinit.raw,media=cdrom\n", true, true, true, false,
     NULL, "tcg", "", "ide2 made anew local;", ""},
    {"a local medium has to be ejected", "ide2: local:iso/a.iso,media=cdrom\n", false, false, false, false,
     NULL, "tcg", "", "ide2 shared local;", "ide2"},
    {"an empty drive is nothing", "ide2: none,media=cdrom\n", false, false, false, false, NULL, "tcg", "", "",
     ""},
    {"a file of the host", "scsi0: /dev/sdb\n", false, false, false, false, NULL, "tcg", "",
     "scsi0 shared -;", "scsi0"},
    {"that all nodes have, as the operator says", "scsi0: /dev/sdb,shared=1\n", false, false, false, false,
     NULL, "tcg", "", "scsi0 shared -;", ""},
    {"an unused disk comes along", "unused0: local:100/vm-100-disk-3.raw\n", false, false, false, false, NULL,
     "tcg", "", "unused0 copied local;", ""},
    {"a device of the host", "hostpci0: 0000:01:00.0\nusb1: host=1234:5678\nserial0: /dev/ttyS0\n", false,
     false, false, false, NULL, "tcg", "", "", "hostpci0,usb1,serial0"},
    {"is passed over by force", "hostpci0: 0000:01:00.0\n", false, false, false, true, NULL, "tcg", "", "",
     ""},
    {"but not while it runs", "hostpci0: 0000:01:00.0\n", true, true, false, true, NULL, "tcg", "", "",
     "hostpci0"},
    {"mapped devices move when it is off", "hostpci0: mapping=gpu\n", false, false, false, false, NULL, "tcg",
     "", "", ""},
    {"and only then", "hostpci0: mapping=gpu\n", true, true, false, false, NULL, "tcg", "", "", "hostpci0"},
    {"snapshots and a mirrored disk", LOCAL_DISK "\n[snap1]\nmemory: 512\n", true, true, true, false, NULL,
     "tcg", "", "scsi0 mirrored local;", "with-local-disks"},
    {"snapshots and a copied disk", LOCAL_DISK "\n[snap1]\nmemory: 512\n", false, false, false, false, NULL,
     "tcg", "", "scsi0 copied local;", ""},
    {"no quorum there", SHARED_DISK, false, false, false, false, NULL, "tcg", "no-quorum",
     "scsi0 shared pool;", "target"},
    {"one of that id runs there", SHARED_DISK, false, false, false, false, NULL, "tcg", "runs",
     "scsi0 shared pool;", "vmid"},
    {"another accelerator", SHARED_DISK, true, true, false, false, NULL, "kvm", "", "scsi0 shared pool;",
     "kvm"},
    {"which does not matter when it is off", SHARED_DISK, false, false, false, false, NULL, "kvm", "",
     "scsi0 shared pool;", ""},
    {"an older QEMU", SHARED_DISK, true, true, false, false, NULL, "tcg", "old", "scsi0 shared pool;",
     "machine"},
    {"the processor of this machine", "cpu: host\n", true, true, false, false, NULL, "kvm", "kvm", "", "cpu"},
    {"no such bridge", "net0: virtio=BC:24:11:00:00:01,bridge=vmbr7\n", false, false, false, false, NULL,
     "tcg", "no-bridge", "", "net0"},
    {"no such storage", SHARED_DISK, false, false, false, false, NULL, "tcg", "no-storage",
     "scsi0 shared pool;", "scsi0"},
    {"no space", LOCAL_DISK, false, false, false, false, NULL, "tcg", "full", "scsi0 copied local;",
     "targetstorage"},
    {"all that is wrong at once", LOCAL_DISK "hostpci0: 0000:01:00.0\n", true, false, true, false, NULL,
     "kvm", "no-quorum", "scsi0 mirrored local;", "online,target,hostpci0,kvm"},
};

static bool is(const struct plan_case *one, const char *target)
{
    return strcmp(one->target, target) == 0;
}

static void facts(const struct plan_case *one, struct cmp_move_input *input,
                  struct cmp_move_storage *storages)
{
    static const char *const bridges[] = {"vmbr7", NULL};
    static const char *const formats[] = {"raw", "qcow2", NULL};
    static const char *const names[] = {"local", "other", "pool", "slow"};
    for (size_t i = 0; i < 8; i++)
        storages[i] = (struct cmp_move_storage){.storage = names[i % 4],
                                                .content = i < 4 ? "images" : "iso",
                                                .usable = !is(one, "no-storage"),
                                                .reason = "it is away",
                                                .formats = formats,
                                                .avail_bytes = is(one, "full") ? 1 << 20 : 0};
    for (size_t i = 0; i < input->volume_count; i++) {
        input->volumes[i].shared =
            input->volumes[i].storage != NULL && strcmp(input->volumes[i].storage, "pool") == 0;
        input->volumes[i].format = "qcow2";
        input->volumes[i].size_bytes = input->volumes[i].said_size;
    }
    input->source = (struct cmp_move_node){one->source_accel, "Old One", "7.2.10"};
    input->target =
        (struct cmp_move_node){is(one, "kvm") ? "kvm" : "tcg", "New One", is(one, "old") ? "7.2.9" : "7.10"};
    input->missing_bridges = is(one, "no-bridge") ? bridges : NULL;
    input->target_storages = storages;
    input->target_storage_count = 8;
    input->runs_there = is(one, "runs");
    input->no_quorum = is(one, "no-quorum");
}

static void plans_and_what_speaks_against_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
        const struct plan_case *one = &cases[i];
        struct cmp_file file;
        struct cmp_move_storage storages[8];
        struct atl_errors errors = {0};
        char moves[256] = "";
        char fields[256] = "";
        print_message("%s\n", one->name);
        assert_int_equal(cmp_file_read(one->file, strlen(one->file), &arena, &file, NULL), ATL_OK);
        struct cmp_move_input input = {.vmid = 100,
                                       .file = &file,
                                       .running = one->running,
                                       .online = one->online,
                                       .force = one->force,
                                       .with_local_disks = one->with_local,
                                       .storages = one->storages};
        input.volumes = cmp_move_volumes(&file, &arena, &input.volume_count);
        facts(one, &input, storages);
        cmp_move_plan(&input, &arena, &errors);
        cmp_move_check(&input, &errors);
        for (size_t k = 0; k < input.volume_count; k++)
            (void)snprintf(moves + strlen(moves), sizeof moves - strlen(moves), "%s %s %s;",
                           input.volumes[k].name, cmp_move_to_text(input.volumes[k].move),
                           input.volumes[k].to_storage != NULL ? input.volumes[k].to_storage : "-");
        for (size_t k = 0; k < errors.count; k++)
            (void)snprintf(fields + strlen(fields), sizeof fields - strlen(fields), "%s%s", k > 0 ? "," : "",
                           errors.items[k].field);
        assert_string_equal(moves, one->moves);
        assert_string_equal(fields, one->errors);
    }
}

static void a_moved_volume_has_its_new_name_everywhere(void **state)
{
    (void)state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    static const char before[] = "scsi0: local:100/a.qcow2,discard=on\nunused0: local:100/b.raw\n"
                                 "\n[PENDING]\nscsi1: local:100/b.raw\n\n[snap]\nscsi0: local:100/a.qcow2\n";
    struct cmp_file file;
    assert_int_equal(cmp_file_read(before, strlen(before), &arena, &file, NULL), ATL_OK);
    cmp_move_rename(&file, "local:100/a.qcow2", "other:100/c.qcow2");
    cmp_move_rename(&file, "local:100/b.raw", "other:100/d.raw");
    cmp_file_write(&file, &out);
    assert_string_equal(out.data,
                        "scsi0: other:100/c.qcow2,discard=on\nunused0: other:100/d.raw\n"
                        "\n[PENDING]\nscsi1: other:100/d.raw\n\n[snap]\nscsi0: other:100/c.qcow2\n");
}

/* --- whose it is --- */

/* A model of both workers: each event may come in any order; the tree has one file. The guest may run at a
 * node only if the verdict there is that node's. */
static void the_tree_decides_once(void **state)
{
    (void)state;
    assert_int_equal(cmp_move_judge(CMP_FILE_LOCKED, false), CMP_MOVE_OPEN);
    assert_int_equal(cmp_move_judge(CMP_FILE_LOCKED, true), CMP_MOVE_OPEN);
    assert_int_equal(cmp_move_judge(CMP_FILE_FREE, false), CMP_MOVE_SOURCE);
    assert_int_equal(cmp_move_judge(CMP_FILE_FREE, true), CMP_MOVE_SOURCE);
    assert_int_equal(cmp_move_judge(CMP_FILE_ABSENT, true), CMP_MOVE_TARGET);
    assert_int_equal(cmp_move_judge(CMP_FILE_ABSENT, false), CMP_MOVE_SOURCE);
    enum { HAND_OVER, ANEW_BY_SOURCE, ANEW_BY_TARGET, UNLOCK, EVENTS };
    for (unsigned int order = 0; order < EVENTS * EVENTS * EVENTS * EVENTS; order++) {
        enum cmp_move_file source = CMP_FILE_LOCKED;
        unsigned int revision = 1; /* what the hand-over compares */
        bool at_target = false;
        bool fenced = false;
        unsigned int rest = order;
        for (unsigned int step = 0; step < EVENTS; step++, rest /= EVENTS) {
            unsigned int event = rest % EVENTS;
            if (event == HAND_OVER && source == CMP_FILE_LOCKED && revision == 1) {
                source = CMP_FILE_ABSENT;
                at_target = true;
                assert_false(fenced); /* nobody was told before that it is the source's */
            } else if (event == UNLOCK && source == CMP_FILE_LOCKED && fenced) {
                source = CMP_FILE_FREE;
                revision++;
            } else if (event != UNLOCK && event != HAND_OVER &&
                       cmp_move_judge(source, at_target) == CMP_MOVE_OPEN) {
                revision++;
                fenced = true;
            }
        }
        if (fenced)
            assert_int_not_equal(cmp_move_judge(source, at_target), CMP_MOVE_TARGET);
        if (at_target)
            assert_int_equal(cmp_move_judge(source, at_target), CMP_MOVE_TARGET);
    }
}

/* --- its domain --- */

static void the_domain_has_the_paths_of_the_target(void **state)
{
    (void)state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    ATL_BUF_AT_EXIT struct atl_buf again = {0};
    static const struct cmp_move_text texts[] = {
        {"/run/a/qemu/100", "/run/b/qemu/100", true},
        {"/srv/it's/1.raw", "/mnt/2.raw", false},
    };
    static const char xml[] =
        "<domain type='qemu'>\n  <name>atoll-100</name>\n"
        "  <source file='/srv/it&apos;s/1.raw'/>\n  <source file='/srv/it&apos;s/1.raw2'/>\n"
        "  <graphics socket='/run/a/qemu/100/vnc.sock'/>\n"
        "  <nvram>/run/a/qemu/100/efivars.fd</nvram>\n"
        "  <source path='/run/a/qemu/1001/x'/>\n</domain>\n";
    assert_int_equal(cmp_move_xml(xml, texts, ATL_COUNT(texts), &arena, &out, NULL), ATL_OK);
    assert_string_equal(
        out.data,
        "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' type='qemu'>\n"
        "  <name>atoll-100</name>\n  <source file='/mnt/2.raw'/>\n"
        "  <source file='/srv/it&apos;s/1.raw2'/>\n  <graphics socket='/run/b/qemu/100/vnc.sock'/>\n"
        "  <nvram>/run/b/qemu/100/efivars.fd</nvram>\n  <source path='/run/a/qemu/1001/x'/>\n"
        "<qemu:commandline><qemu:arg value='-incoming'/><qemu:arg value='defer'/></qemu:commandline>"
        "</domain>\n");
    /* A guest that came by a migration moves on. */
    assert_int_equal(cmp_move_xml(out.data, NULL, 0, &arena, &again, NULL), ATL_OK);
    assert_string_equal(again.data, out.data);
    assert_int_equal(cmp_move_xml("nonsense", NULL, 0, &arena, &out, NULL), ATL_E_INTERNAL);
}

static void own_arguments_of_a_guest_stay(void **state)
{
    (void)state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    static const char xml[] = "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
                              "<qemu:commandline><qemu:arg value='-no-hpet'/></qemu:commandline></domain>";
    assert_int_equal(cmp_move_xml(xml, NULL, 0, &arena, &out, NULL), ATL_OK);
    assert_string_equal(out.data,
                        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
                        "<qemu:commandline><qemu:arg value='-incoming'/><qemu:arg value='defer'/>"
                        "<qemu:arg value='-no-hpet'/></qemu:commandline></domain>");
}

/* --- pace --- */

static void a_busy_guest_may_stand_still_longer(void **state)
{
    (void)state;
    assert_int_equal(cmp_move_downtime(100, 0), 100);
    assert_int_equal(cmp_move_downtime(100, 8), 100);
    assert_int_equal(cmp_move_downtime(100, 9), 200);
    assert_int_equal(cmp_move_downtime(100, 12), 400);
    assert_int_equal(cmp_move_downtime(100, 1000), 2000);
    assert_int_equal(cmp_move_downtime(5000, 1000), 5000);
}

static void the_least_limit_holds(void **state)
{
    (void)state;
    static const char datacenter[] =
        "keyboard: de\nbwlimit: clone=5,migration=2048,default=7\nmigration: secure\n";
    assert_int_equal(cmp_move_limit(false, 0, 0, NULL), 0);
    assert_int_equal(cmp_move_limit(true, 1024, 0, NULL), 1 << 20);
    assert_int_equal(cmp_move_limit(false, 0, 0, datacenter), 2 << 20);
    assert_int_equal(cmp_move_limit(true, 0, 0, datacenter), 0);
    assert_int_equal(cmp_move_limit(true, 4096, 1, datacenter), 1 << 20);
    assert_int_equal(cmp_move_limit(false, 0, 0, "bwlimit: default=1\n"), 1024);
}

/* --- nodes --- */

static void nodes_need_all_storages(void **state)
{
    (void)state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    static const char storages[] =
        "dir: local\n\tpath /srv\n\tcontent images\n\n"
        "dir: pool\n\tpath /mnt\n\tcontent images\n\tshared 1\n\tnodes n1,n2\n\n"
        "nfs: share\n\tpath /net\n\tserver s\n\texport /e\n\tcontent images\n\tdisable\n";
    static const char text[] = "scsi0: pool:100/a.raw\nscsi1: local:100/b.raw\n";
    struct cmp_file file;
    size_t count = 0;
    size_t places = 0;
    assert_int_equal(cmp_file_read(text, strlen(text), &arena, &file, NULL), ATL_OK);
    const struct cmp_move_volume *volumes = cmp_move_volumes(&file, &arena, &count);
    const struct cmp_move_place *place = cmp_move_places(storages, &arena, &places);
    assert_int_equal(places, 3);
    assert_true(cmp_move_shared(place, places, "pool"));
    assert_true(cmp_move_shared(place, places, "share"));
    assert_false(cmp_move_shared(place, places, "local"));
    assert_false(cmp_move_shared(place, places, "unknown"));
    assert_null(cmp_move_unavailable(volumes, count, place, places, "n2", &arena)[0]);
    const char **missing = cmp_move_unavailable(volumes, count, place, places, "n3", &arena);
    assert_string_equal(missing[0], "pool");
    assert_null(missing[1]);
}

static void addresses_and_networks(void **state)
{
    (void)state;
    assert_true(cmp_move_in_network("10.1.2.3", "10.1.0.0/16"));
    assert_false(cmp_move_in_network("10.2.2.3", "10.1.0.0/16"));
    assert_true(cmp_move_in_network("10.1.2.3", "10.1.2.2/31"));
    assert_false(cmp_move_in_network("10.1.2.4", "10.1.2.2/31"));
    assert_true(cmp_move_in_network("fd00::7", "fd00::/64"));
    assert_false(cmp_move_in_network("10.1.2.3", "fd00::/64"));
    assert_false(cmp_move_in_network("10.1.2.3", "10.1.0.0"));
    assert_false(cmp_move_in_network("10.1.2.3", "10.1.0.0/99"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_and_what_speaks_against_them),
        cmocka_unit_test(a_moved_volume_has_its_new_name_everywhere),
        cmocka_unit_test(the_tree_decides_once),
        cmocka_unit_test(the_domain_has_the_paths_of_the_target),
        cmocka_unit_test(own_arguments_of_a_guest_stay),
        cmocka_unit_test(a_busy_guest_may_stand_still_longer),
        cmocka_unit_test(the_least_limit_holds),
        cmocka_unit_test(nodes_need_all_storages),
        cmocka_unit_test(addresses_and_networks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
