/* Containers that move: where volumes go, what stands in the way, the file as the target's. */
#include "atl_test.h"

#include "core/lxc_migrate.h"
#include "pure/storage_map.h"

static struct atl_arena arena;

static int clean(void **state)
{
    (void)state;
    atl_arena_done(&arena);
    return 0;
}

static const char file[] = "hostname: ct\n"
                           "lock: migrate\n"
                           "memory: 64\n"
                           "mp0: local:101/vm-101-disk-1.raw,mp=/data,size=1G\n"
                           "mp1: nas:101/vm-101-disk-2.raw,mp=/nas\n"
                           "mp2: /srv/host,mp=/host,shared=1\n"
                           "net0: name=eth0,bridge=vmbr0\n"
                           "net1: name=eth1,bridge=vmbr1\n"
                           "net2: name=eth2,bridge=vmbr0\n"
                           "rootfs: local:101/vm-101-disk-0.raw,size=1G\n"
                           "unused0: fast:101/vm-101-disk-3.raw\n"
                           "\n"
                           "[PENDING]\n"
                           "mp3: local:101/vm-101-disk-4.raw,mp=/later\n";

static struct cmp_lxc_doc doc;
static struct cmp_lxc_move *moves;
static size_t count;

static struct cmp_lxc_move *of(const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(moves[i].name, name) == 0)
            return &moves[i];
    fail_msg("no volume of %s", name);
    return NULL;
}

/* Read, and told about by a storage-agent for which "nas" is shared. */
static void read_file(const char *text)
{
    struct atl_error err = {0};
    assert_atl_ok(cmp_lxc_doc_read(text, strlen(text), &arena, &doc, &err), &err);
    moves = cmp_lxc_moves(&doc, &count);
    for (size_t i = 0; i < count; i++) {
        moves[i].format = "raw";
        moves[i].size_bytes = moves[i].used_bytes = 1 << 30;
        moves[i].shared = moves[i].storage != NULL && strcmp(moves[i].storage, "nas") == 0;
    }
}

static struct atl_errors *planned(const char *map)
{
    struct atl_errors *errors = atl_arena_new(&arena, struct atl_errors);
    cmp_lxc_move_plan(101, map, moves, count, &arena, errors);
    return errors;
}

static void assert_only(const struct atl_errors *errors, const char *field, const char *words)
{
    if (errors->count != 1 || strcmp(errors->items[0].field, field) != 0 ||
        strstr(errors->items[0].text, words) == NULL)
        fail_msg("%zu errors, the first one %s: %s", errors->count, errors->items[0].field,
                 errors->items[0].text);
}

static void every_volume_is_found_once_and_local_ones_are_copied(void **state)
{
    (void)state;
    read_file(file);
    assert_int_equal(count, 6);
    assert_int_equal(planned(NULL)->count, 0);
    static const struct {
        const char *name;
        bool copy;
        const char *to;
    } rows[] = {{"rootfs", true, "local"}, {"mp0", true, "local"},    {"mp1", false, "nas"},
                {"mp2", false, NULL},      {"unused0", true, "fast"}, {"mp3", true, "local"}};
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        assert_int_equal(of(rows[i].name)->copy, rows[i].copy);
        if (rows[i].to == NULL)
            assert_null(of(rows[i].name)->to_storage);
        else
            assert_string_equal(of(rows[i].name)->to_storage, rows[i].to);
    }
    const char **bridges = cmp_lxc_move_bridges(&doc);
    assert_string_equal(bridges[0], "vmbr0");
    assert_string_equal(bridges[1], "vmbr1");
    assert_null(bridges[2]);
}

static void a_map_says_where_volumes_go(void **state)
{
    (void)state;
    static const struct {
        const char *map;
        const char *local;
        const char *fast;
    } rows[] = {
        {NULL, "local", "fast"},
        {"", "local", "fast"},
        {"1", "local", "fast"},
        {"big", "big", "big"},
        {"local:big", "big", "fast"},
        {"local:big,other", "big", "other"},
        {"other;local:big", "big", "other"},
        {"fast:local,local:fast", "fast", "local"},
    };
    for (size_t i = 0; i < ATL_COUNT(rows); i++) {
        assert_string_equal(atl_storage_map(rows[i].map, "local", &arena), rows[i].local);
        assert_string_equal(atl_storage_map(rows[i].map, "fast", &arena), rows[i].fast);
    }
    const char **targets = atl_storage_map_targets("a:b,c,1", &arena);
    assert_string_equal(targets[0], "b");
    assert_string_equal(targets[1], "c");
    assert_null(targets[2]);
    read_file(file);
    assert_only(planned("a,b"), "target-storage", "only one");
    assert_only(planned("a:b,a:c"), "target-storage", "twice");
}

static void what_cannot_go_along_is_named(void **state)
{
    (void)state;
    read_file("mp0: /srv/host,mp=/host\nrootfs: local:101/vm-101-disk-0.raw\n");
    assert_only(planned(NULL), "mp0", "this machine");
    read_file("mp0: local:102/vm-102-disk-0.raw,mp=/x\nrootfs: local:101/vm-101-disk-0.raw\n");
    assert_only(planned(NULL), "mp0", "another guest");
    read_file("rootfs: local:101/vm-101-disk-0.vmdk\n");
    moves[0].format = "vmdk";
    assert_only(planned(NULL), "rootfs", "vmdk");
    read_file("rootfs: local:101/subvol-101-disk-0.subvol\n");
    moves[0].format = "subvol";
    assert_int_equal(planned(NULL)->count, 0);
    assert_true(moves[0].copy);
}

static struct atl_errors *checked(const struct cmp_lxc_move_target *target)
{
    struct atl_errors *errors = atl_arena_new(&arena, struct atl_errors);
    cmp_lxc_move_check(&doc, moves, count, target, errors);
    return errors;
}

static void the_target_must_have_bridges_storages_and_room(void **state)
{
    (void)state;
    static const char *const raw[] = {"raw", NULL};
    static const char *const none[] = {NULL};
    static const char *const missing[] = {"vmbr1"};
    struct cmp_lxc_move_storage storages[] = {
        {.storage = "local", .usable = true, .formats = raw, .avail_bytes = (uint64_t)3 << 30},
        {.storage = "nas", .usable = true, .formats = none},
        {.storage = "fast", .usable = true, .formats = raw},
    };
    struct cmp_lxc_move_target target = {
        .storages = storages, .storage_count = ATL_COUNT(storages), .missing_bridges = missing};
    read_file(file);
    assert_int_equal(planned(NULL)->count, 0);
    assert_int_equal(checked(&target)->count, 0);
    target.missing_count = 1;
    assert_only(checked(&target), "net1", "vmbr1");
    target.missing_count = 0;
    target.running = true;
    assert_only(checked(&target), "target", "runs there");
    target.running = false;
    storages[0].avail_bytes--; /* three volumes go there, of 1 GiB each */
    assert_only(checked(&target), "target-storage", "no room");
    storages[0].avail_bytes++;
    storages[1].usable = false; /* a shared one, where nothing is copied, must be there, too */
    storages[1].reason = "storage 'nas' is not available on node 'n2'";
    assert_only(checked(&target), "mp1", "not available");
    storages[1].usable = true;
    storages[2].formats = none;
    assert_only(checked(&target), "unused0", "format 'raw'");
    target.storage_count = 2;
    assert_only(checked(&target), "unused0", "does not have");
}

static void the_file_becomes_the_targets(void **state)
{
    (void)state;
    struct atl_buf text = {0};
    read_file(file);
    of("rootfs")->to_volid = "big:101/vm-101-disk-7.raw";
    of("mp3")->to_volid = "local:101/vm-101-disk-9.raw";
    cmp_lxc_move_rewrite(&doc, moves, count);
    cmp_lxc_doc_write(&doc, &text);
    assert_null(strstr(text.data, "lock"));
    assert_non_null(strstr(text.data, "rootfs: big:101/vm-101-disk-7.raw,size=1G\n"));
    assert_non_null(strstr(text.data, "mp0: local:101/vm-101-disk-1.raw,mp=/data,size=1G\n"));
    assert_non_null(strstr(text.data, "mp3: local:101/vm-101-disk-9.raw,mp=/later"));
    atl_buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_volume_is_found_once_and_local_ones_are_copied, clean),
        cmocka_unit_test_teardown(a_map_says_where_volumes_go, clean),
        cmocka_unit_test_teardown(what_cannot_go_along_is_named, clean),
        cmocka_unit_test_teardown(the_target_must_have_bridges_storages_and_room, clean),
        cmocka_unit_test_teardown(the_file_becomes_the_targets, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
