/* The driver for folders on a real folder: names, links, what is half done, what is left behind. */
#include "atl_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drivers/driver.h"

struct bench {
    char path[64];
    struct sto_storage storage;
};

static const struct sto_driver *const dir = &sto_driver_dir;

static int set_up(void **state)
{
    struct bench *bench = atl_new0(struct bench);
    strcpy(bench->path, "/tmp/atoll-dir-XXXXXX");
    assert_non_null(mkdtemp(bench->path));
    bench->storage = (struct sto_storage){
        .id = "local",
        .type_name = "dir",
        .type = sto_type_find("dir"),
        .path = bench->path,
        .contents = bench->storage.contents,
        .make_base = true,
        .make_subdirs = true,
        .preallocation = STO_PREALLOCATE_METADATA,
        .default_format = STO_RAW,
    };
    static const char *const dirs[STO_CONTENTS] = {"images", "private",  "template/cache", "template/iso",
                                                   "dump",   "snippets", "import",         NULL};
    for (size_t i = 0; i < STO_CONTENTS; i++) {
        bench->storage.dirs[i] = dirs[i];
        bench->storage.contents |= 1U << i;
    }
    sto_driver_set_node("pve1");
    *state = bench;
    struct atl_error err;
    assert_atl_ok(dir->activate(&bench->storage, &err), &err);
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", bench->path);
    int result = system(command); /* NOLINT(cert-env33-c): the path is ours */
    free(bench);
    return result;
}

static const char *in(const struct bench *bench, const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", bench->path, name);
    return path;
}

static struct sto_volume make(const struct bench *bench, const struct sto_wish *wish)
{
    struct sto_plan plan;
    struct sto_volume volume;
    struct atl_error err = {0};
    assert_atl_ok(sto_plan_alloc(&bench->storage, wish, &plan, &err), &err);
    assert_atl_ok(dir->alloc(&bench->storage, &plan, NULL, &volume, &err), &err);
    return volume;
}

static void volumes_of_each_format_are_made_looked_at_grown_and_removed(void **state)
{
    struct bench *bench = *state;
    struct atl_error err = {0};
    static const char *const formats[] = {"raw", "qcow2"};
    for (size_t i = 0; i < ATL_COUNT(formats); i++) {
        struct sto_wish wish = {.vmid = 100, .format = formats[i], .size_bytes = 10 << 20};
        struct sto_volume volume = make(bench, &wish);
        struct sto_info info;
        assert_int_equal(volume.vmid, 100);
        assert_atl_ok(dir->look(&bench->storage, &volume, &info, &err), &err);
        assert_int_equal(info.size_bytes, 10 << 20);
        assert_true(info.used_bytes < 2 << 20);
        uint64_t size = 0;
        assert_atl_ok(dir->grow(&bench->storage, &volume, (20 << 20) - 100, &size, &err), &err);
        assert_int_equal(size, 20 << 20);
        assert_atl_ok(dir->look(&bench->storage, &volume, &info, &err), &err);
        assert_int_equal(info.size_bytes, 20 << 20);
        assert_int_equal(dir->grow(&bench->storage, &volume, 10 << 20, &size, &err), ATL_E_INVALID);
        bool was_there = false;
        assert_atl_ok(dir->remove(&bench->storage, &volume, &was_there, &err), &err);
        assert_true(was_there);
        assert_int_equal(dir->look(&bench->storage, &volume, &info, &err), ATL_E_ABSENT);
        assert_atl_ok(dir->remove(&bench->storage, &volume, &was_there, &err), &err);
        assert_false(was_there);
    }
    assert_int_equal(access(in(bench, "images/100"), F_OK),
                     -1); /* the guest's folder goes with its last volume */
}

static void a_subvol_is_a_folder_and_goes_with_all_that_is_in_it(void **state)
{
    struct bench *bench = *state;
    struct atl_error err = {0};
    struct sto_wish wish = {.vmid = 101, .purpose = STO_FOR_ROOTDIR, .format = "subvol"};
    struct sto_volume volume = make(bench, &wish);
    assert_string_equal(volume.name, "101/subvol-101-disk-0.subvol");
    int at = open(in(bench, "images/101/subvol-101-disk-0.subvol"), O_RDONLY | O_DIRECTORY);
    assert_true(at >= 0);
    assert_int_equal(mkdirat(at, "wide", 0755), 0);
    assert_int_equal(symlinkat(bench->path, at, "link"), 0);
    /* Deeper than any path can be. */
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(mkdirat(at, "deep", 0755), 0);
        int file = openat(at, "file", O_CREAT | O_WRONLY, 0000);
        assert_true(file >= 0);
        (void)close(file);
        int next = openat(at, "deep", O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        (void)close(at);
        at = next;
    }
    (void)close(at);
    int keep = open(in(bench, "images/keep"), O_CREAT | O_WRONLY, 0644);
    (void)close(keep);
    bool was_there = false;
    assert_atl_ok(dir->remove(&bench->storage, &volume, &was_there, &err), &err);
    assert_true(was_there);
    assert_int_equal(access(in(bench, "images/101"), F_OK), -1);
    assert_int_equal(access(in(bench, "images/keep"), F_OK), 0);
}

struct racer {
    const struct bench *bench;
    struct sto_volume volumes[20];
};

static void *race(void *user)
{
    struct racer *racer = user;
    for (size_t i = 0; i < ATL_COUNT(racer->volumes); i++) {
        struct sto_wish wish = {.vmid = 100, .size_bytes = 4096};
        struct sto_plan plan;
        if (sto_plan_alloc(&racer->bench->storage, &wish, &plan, NULL) != ATL_OK ||
            dir->alloc(&racer->bench->storage, &plan, NULL, &racer->volumes[i], NULL) != ATL_OK)
            racer->volumes[i].name[0] = '\0';
    }
    return NULL;
}

static void volumes_made_at_the_same_time_get_different_names(void **state)
{
    struct bench *bench = *state;
    static struct racer racers[4];
    pthread_t threads[4];
    bool seen[80] = {0};
    for (size_t i = 0; i < 4; i++) {
        racers[i].bench = bench;
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < 80; i++) {
        unsigned int disk = 80;
        assert_int_equal(sscanf(racers[i / 20].volumes[i % 20].name, "100/vm-100-disk-%u.raw", &disk), 1);
        assert_true(disk < 80);
        assert_false(seen[disk]);
        seen[disk] = true;
    }
}

static bool count(const struct sto_volume *volume, const struct sto_info *info, void *user)
{
    (void)volume;
    (void)info;
    (*(int *)user)++;
    return true;
}

static int count_all(const struct bench *bench, enum sto_content content)
{
    int seen = 0;
    struct atl_error err = {0};
    assert_atl_ok(dir->list(&bench->storage, content, 0, count, &seen, &err), &err);
    return seen;
}

static void a_link_never_leads_out_of_the_storage(void **state)
{
    struct bench *bench = *state;
    struct atl_error err = {0};
    struct sto_volume volume;
    struct sto_info info;
    bool was_there = true;
    int fd = -1;
    assert_int_equal(symlink("/etc/passwd", in(bench, "template/iso/x.iso")), 0);
    assert_atl_ok(sto_volume_parse("local:iso/x.iso", NULL, &volume, &err), &err);
    assert_int_equal(dir->look(&bench->storage, &volume, &info, &err), ATL_E_ABSENT);
    assert_int_equal(dir->open(&bench->storage, &volume, &fd, &err), ATL_E_ABSENT);
    assert_int_equal(count_all(bench, STO_ISO), 0);
    assert_atl_ok(dir->remove(&bench->storage, &volume, &was_there, &err), &err);
    assert_false(was_there);
    assert_int_equal(mkdir("/tmp/atoll-outside", 0755), 0);
    assert_int_equal(symlink("/tmp/atoll-outside", in(bench, "images/102")), 0);
    struct sto_wish wish = {.vmid = 102, .size_bytes = 4096};
    struct sto_plan plan;
    assert_atl_ok(sto_plan_alloc(&bench->storage, &wish, &plan, &err), &err);
    assert_int_not_equal(dir->alloc(&bench->storage, &plan, NULL, &volume, &err), ATL_OK);
    assert_int_equal(rmdir("/tmp/atoll-outside"), 0); /* nothing was made there */
}

static void a_name_is_taken_while_its_bytes_come_and_free_again_after_a_drop(void **state)
{
    struct bench *bench = *state;
    struct atl_error err = {0};
    struct sto_wish wish = {.vmid = 100, .size_bytes = 4096, .name = "vm-100-disk-7.raw"};
    struct sto_plan plan;
    struct sto_slot slot;
    struct sto_slot second;
    struct sto_info info;
    assert_atl_ok(sto_plan_alloc(&bench->storage, &wish, &plan, &err), &err);
    assert_atl_ok(dir->reserve(&bench->storage, &plan, &slot, &err), &err);
    assert_int_equal(dir->reserve(&bench->storage, &plan, &second, &err), ATL_E_EXISTS);
    assert_int_equal(dir->look(&bench->storage, &plan.volume, &info, &err), ATL_E_ABSENT);
    assert_int_equal(count_all(bench, STO_IMAGES), 0);
    dir->drop(&bench->storage, &slot);
    assert_int_equal(slot.fd, -1);
    assert_atl_ok(dir->reserve(&bench->storage, &plan, &slot, &err), &err);
    assert_int_equal(write(slot.fd, "bytes", 5), 5);
    assert_atl_ok(dir->commit(&bench->storage, &slot, &err), &err);
    assert_atl_ok(dir->look(&bench->storage, &plan.volume, &info, &err), &err);
    assert_int_equal(info.size_bytes, 5);
    dir->drop(&bench->storage, &slot); /* after a commit: nothing */
    assert_int_equal(count_all(bench, STO_IMAGES), 1);
}

static void a_received_file_appears_under_its_name_only_when_it_is_whole(void **state)
{
    struct bench *bench = *state;
    struct atl_error err = {0};
    struct sto_slot slot;
    assert_atl_ok(dir->receive(&bench->storage, &slot, &err), &err);
    assert_int_equal(write(slot.fd, "iso", 3), 3);
    assert_int_equal(count_all(bench, STO_CONTENTS), 0);
    assert_atl_ok(sto_upload_name(STO_ISO, "x.iso", &slot.volume, &err), &err);
    assert_atl_ok(dir->commit(&bench->storage, &slot, &err), &err);
    assert_int_equal(count_all(bench, STO_ISO), 1);
    assert_int_equal(count_all(bench, STO_VZTMPL), 0);
    struct stat st;
    assert_int_equal(stat(in(bench, "template/iso/x.iso"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
}

static int entries(const char *path)
{
    char command[300];
    (void)snprintf(command, sizeof command, "find '%s' ! -type d | wc -l", path);
    FILE *pipe = popen(command, "re"); /* NOLINT(cert-env33-c): the path is ours */
    int number = -1;
    assert_int_equal(fscanf(pipe, "%d", &number), 1);
    (void)pclose(pipe);
    return number;
}

static void what_a_killed_agent_left_is_swept_but_not_what_a_task_works_on(void **state)
{
    struct bench *bench = *state;
    struct atl_error err = {0};
    struct sto_wish wish = {.vmid = 100, .size_bytes = 4096};
    struct sto_plan plan;
    struct sto_slot slots[3];
    assert_atl_ok(sto_plan_alloc(&bench->storage, &wish, &plan, &err), &err);
    assert_atl_ok(dir->reserve(&bench->storage, &plan, &slots[0], &err), &err);
    assert_atl_ok(dir->receive(&bench->storage, &slots[1], &err), &err);
    assert_atl_ok(dir->receive(&bench->storage, &slots[2], &err), &err);
    assert_int_equal(flock(slots[2].fd, LOCK_EX), 0);
    sto_driver_set_node("pve");
    dir->sweep(&bench->storage); /* another node's */
    assert_int_equal(entries(bench->path), 4);
    sto_driver_set_node("pve1");
    dir->sweep(&bench->storage);
    assert_int_equal(entries(bench->path), 1);
    for (size_t i = 0; i < 3; i++)
        dir->drop(&bench->storage, &slots[i]);
    assert_int_equal(entries(bench->path), 0);
}

static void notes_and_protection_stand_beside_a_backup(void **state)
{
    struct bench *bench = *state;
    struct atl_error err = {0};
    struct sto_volume volume;
    struct sto_info info;
    bool yes = true;
    bool no = false;
    bool was_there = false;
    (void)close(open(in(bench, "dump/vzdump-lxc-101-2026_01_01-00_00_00.tar.zst"), O_CREAT | O_WRONLY, 0644));
    assert_atl_ok(
        sto_volume_parse("local:backup/vzdump-lxc-101-2026_01_01-00_00_00.tar.zst", NULL, &volume, &err),
        &err);
    assert_atl_ok(dir->mark(&bench->storage, &volume, "before the update", &yes, &err), &err);
    assert_atl_ok(dir->look(&bench->storage, &volume, &info, &err), &err);
    assert_string_equal(info.notes, "before the update");
    assert_true(info.protected);
    assert_int_equal(count_all(bench, STO_BACKUP), 1);
    assert_int_equal(dir->remove(&bench->storage, &volume, &was_there, &err), ATL_E_STATE);
    assert_atl_ok(dir->mark(&bench->storage, &volume, NULL, &no, &err), &err);
    assert_atl_ok(dir->remove(&bench->storage, &volume, &was_there, &err), &err);
    assert_int_equal(entries(bench->path), 0);
}

static void a_container_volume_gets_a_file_system_whose_root_has_its_owner(void **state)
{
    struct bench *bench = *state;
    struct atl_error err = {0};
    struct sto_wish wish = {.vmid = 101, .purpose = STO_FOR_ROOTDIR, .size_bytes = 8 << 20};
    struct sto_fs_options fs = {.filesystem = "ext4", .root_id = 100000};
    struct sto_plan plan;
    struct sto_volume volume;
    assert_atl_ok(sto_plan_alloc(&bench->storage, &wish, &plan, &err), &err);
    assert_atl_ok(dir->alloc(&bench->storage, &plan, &fs, &volume, &err), &err);
    int fd = -1;
    uint16_t magic = 0;
    assert_atl_ok(dir->open(&bench->storage, &volume, &fd, &err), &err);
    assert_int_equal(pread(fd, &magic, sizeof magic, 1024 + 56), sizeof magic);
    assert_int_equal(magic, 0xef53);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(volumes_of_each_format_are_made_looked_at_grown_and_removed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_subvol_is_a_folder_and_goes_with_all_that_is_in_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(volumes_made_at_the_same_time_get_different_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_link_never_leads_out_of_the_storage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_is_taken_while_its_bytes_come_and_free_again_after_a_drop,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_received_file_appears_under_its_name_only_when_it_is_whole, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_a_killed_agent_left_is_swept_but_not_what_a_task_works_on,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(notes_and_protection_stand_beside_a_backup, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_container_volume_gets_a_file_system_whose_root_has_its_owner,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
