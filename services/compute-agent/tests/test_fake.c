/* The fake engines of virtual machines and containers: thousands of guests, deeds on them, faults. */
#include "atl_test.h"

#include <ftw.h>

#include <stdio.h>

#include "drivers/driver.h"
#include "drivers/fake_guests.h"
#include "drivers/lxc_driver.h"

enum { VM = 10007, CT = 200007, MANY = 5000 };

struct world {
    char top[64];
    void *vms; /* as the agent has it */
    void *vm_worker;
    struct cmp_lxc_host cts;
    struct cmp_lxc_host ct_worker;
};

static const struct cmp_driver *const vm_driver = &cmp_fake_driver;
static const struct cmp_lxc_driver *const ct_driver = &cmp_lxc_fake_driver;

static int up(void **state)
{
    struct world *world = atl_new0(struct world);
    struct atl_error error = {0};
    (void)snprintf(world->top, sizeof world->top, "/tmp/atl-fake-XXXXXX");
    assert_non_null(mkdtemp(world->top));
    const struct cmp_driver_options agent = {
        .state_dir = world->top, .fake_guests = MANY, .fake_first = 10000, .watch = true};
    const struct cmp_driver_options worker = {.state_dir = world->top};
    assert_atl_ok(vm_driver->open(&agent, &world->vms, &error), &error);
    assert_atl_ok(vm_driver->open(&worker, &world->vm_worker, &error), &error);
    assert_atl_ok(ct_driver->open(world->top, true, MANY, &world->cts, &error), &error);
    assert_atl_ok(ct_driver->open(world->top, false, 0, &world->ct_worker, &error), &error);
    *state = world;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status, (void)kind, (void)where;
    return remove(path);
}

static int down(void **state)
{
    struct world *world = *state;
    vm_driver->close(world->vms);
    vm_driver->close(world->vm_worker);
    ct_driver->close(&world->cts);
    ct_driver->close(&world->ct_worker);
    (void)nftw(world->top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(world);
    return 0;
}

static void faults(const struct world *world, const char *folder, const char *text)
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/%s/faults", world->top, folder);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* --- virtual machines --- */

static size_t vm_samples(const struct world *world, struct atl_arena *arena, struct cmp_sample **ret_samples)
{
    size_t count = 0;
    struct atl_error error = {0};
    assert_atl_ok(vm_driver->sample(world->vms, arena, ret_samples, &count, &error), &error);
    return count;
}

static enum cmp_state vm_state(const struct world *world, uint32_t vmid)
{
    enum cmp_state state = CMP_STATES;
    assert_int_equal(vm_driver->state(world->vms, vmid, &state, NULL), ATL_OK);
    return state;
}

static void thousands_of_machines_run_sorted_and_stay_the_same(void **state)
{
    struct world *world = *state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_sample *first = NULL;
    struct cmp_sample *second = NULL;
    assert_int_equal(vm_samples(world, &arena, &first), MANY);
    assert_int_equal(vm_samples(world, &arena, &second), MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(first[i].vmid, 10000 + i);
        assert_int_equal(first[i].state, CMP_RUNNING);
        assert_int_equal(first[i].maxmem, second[i].maxmem);
        assert_int_equal(first[i].cpu_ns, second[i].cpu_ns);
    }
    assert_int_not_equal(first[0].maxmem, first[1].maxmem);
}

static void what_a_worker_does_to_a_machine_the_agent_sees(void **state)
{
    struct world *world = *state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_sample *samples = NULL;
    struct atl_error error = {0};
    assert_atl_ok(vm_driver->suspend(world->vm_worker, VM, &error), &error);
    assert_int_equal(vm_state(world, VM), CMP_PAUSED);
    assert_atl_ok(vm_driver->resume(world->vm_worker, VM, &error), &error);
    assert_int_equal(vm_state(world, VM), CMP_RUNNING);
    assert_atl_ok(vm_driver->stop(world->vm_worker, VM, &error), &error);
    assert_int_equal(vm_state(world, VM), CMP_STOPPED);
    assert_int_equal(vm_samples(world, &arena, &samples), MANY - 1);
    assert_int_equal(vm_driver->stop(world->vm_worker, VM, &error), ATL_E_ABSENT);
    assert_int_equal(vm_driver->device(world->vm_worker, VM, CMP_CHANGE, "<x/>", &error), ATL_E_ABSENT);
    assert_atl_ok(vm_driver->start(world->vm_worker, VM, "<domain/>", false, &error), &error);
    assert_atl_ok(vm_driver->start(world->vm_worker, 100, "<domain/>", true, &error), &error);
    assert_int_equal(vm_samples(world, &arena, &samples), MANY + 1);
    assert_int_equal(samples[0].vmid, 100);
    assert_int_equal(samples[0].state, CMP_PAUSED);
    assert_atl_ok(vm_driver->shutdown(world->vm_worker, 100, true, &error), &error);
    assert_int_equal(vm_samples(world, &arena, &samples), MANY);
}

static void machines_fail_as_they_are_told(void **state)
{
    struct world *world = *state;
    struct atl_error error = {0};
    faults(world, "fake-engine", "start 10007 no memory is left\nsuspend * the engine hangs\nchange 1 x\n");
    assert_int_equal(vm_driver->start(world->vm_worker, VM, "<domain/>", false, &error), ATL_E_STATE);
    assert_string_equal(error.text, "no memory is left");
    assert_int_equal(vm_driver->suspend(world->vm_worker, VM + 1, &error), ATL_E_STATE);
    assert_int_equal(vm_state(world, VM + 1), CMP_RUNNING);
    assert_atl_ok(vm_driver->start(world->vm_worker, 100, "<domain/>", false, &error), &error);
    assert_atl_ok(vm_driver->cpu_limits(world->vm_worker, VM, 50, 0, &error), &error);
    faults(world, "fake-engine", "");
    assert_atl_ok(vm_driver->suspend(world->vm_worker, VM + 1, &error), &error);
}

/* --- containers --- */

static bool ct_runs(const struct world *world, uint32_t vmid)
{
    struct cmp_ct_run run;
    return ct_driver->running(&world->cts, vmid, &run);
}

static uint64_t ct_memory(const struct world *world, uint32_t vmid)
{
    struct cmp_ct_run run;
    struct cmp_lxc_use use;
    assert_true(ct_driver->running(&world->cts, vmid, &run));
    ct_driver->use(&world->cts, vmid, &run, NULL, 0, &use);
    return use.memory_bytes;
}

static void thousands_of_containers_run(void **state)
{
    struct world *world = *state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    uint32_t *ids = NULL;
    assert_int_equal(ct_driver->list(&world->cts, &arena, &ids), MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(ids[i], 200000 + i);
        assert_true(ct_runs(world, ids[i]));
    }
    assert_false(ct_runs(world, 200000 + MANY));
    assert_false(ct_runs(world, 199999));
}

static void what_a_worker_does_to_a_container_the_agent_sees(void **state)
{
    struct world *world = *state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    uint32_t *ids = NULL;
    struct atl_error error = {0};
    struct cmp_lxc_host *worker = &world->ct_worker;
    assert_atl_ok(ct_driver->freeze(worker, CT, true, &error), &error);
    assert_true(ct_runs(world, CT));
    assert_int_equal(cmp_fakes_get(world->cts.fakes, CT).state, CMP_PAUSED);
    assert_atl_ok(ct_driver->freeze(worker, CT, false, &error), &error);
    assert_int_equal(cmp_fakes_get(world->cts.fakes, CT).state, CMP_RUNNING);
    assert_atl_ok(ct_driver->stop(worker, CT, &error), &error);
    assert_false(ct_runs(world, CT));
    assert_int_equal(ct_driver->list(&world->cts, &arena, &ids), MANY - 1);
    assert_atl_ok(ct_driver->stop(worker, CT, &error), &error); /* as with the real one */
    assert_int_equal(ct_driver->freeze(worker, CT, true, &error), ATL_E_STATE);
    assert_atl_ok(ct_driver->start(worker, CT, NULL, NULL, &error), &error);
    assert_atl_ok(ct_driver->start(worker, 101, NULL, NULL, &error), &error);
    assert_int_equal(ct_driver->list(&world->cts, &arena, &ids), MANY + 1);
    assert_int_equal(ids[0], 101);
    assert_atl_ok(ct_driver->shutdown(worker, 101, 0, ATL_SECOND, NULL, NULL, &error), &error);
    assert_false(ct_runs(world, 101));
}

static void a_container_takes_new_limits(void **state)
{
    struct world *world = *state;
    struct atl_error error = {0};
    Atoll__Lxc__V1__Config config = ATOLL__LXC__V1__CONFIG__INIT;
    const struct cmp_lxc_facts facts = {.vmid = CT};
    config.has_memory = true;
    config.memory = 64;
    uint64_t before = ct_memory(world, CT);
    assert_atl_ok(ct_driver->limits(&world->ct_worker, CT, &config, &facts, &error), &error);
    assert_int_equal(ct_memory(world, CT), 32 << 20);
    assert_int_equal(ct_memory(world, CT + 1), before);
    assert_int_equal(ct_driver->limits(&world->ct_worker, 101, &config, &facts, &error), ATL_E_STATE);
}

static void containers_fail_as_they_are_told(void **state)
{
    struct world *world = *state;
    struct atl_error error = {0};
    char ostype[CMP_LXC_OSTYPE] = "";
    faults(world, "lxc/fake", "stop 200007 the monitor hangs\nunpack 101 the archive is torn\nbad\n");
    assert_int_equal(ct_driver->stop(&world->ct_worker, CT, &error), ATL_E_STATE);
    assert_string_equal(error.text, "the monitor hangs");
    assert_true(ct_runs(world, CT));
    assert_atl_ok(ct_driver->stop(&world->ct_worker, CT + 1, &error), &error);
    assert_int_equal(ct_driver->unpack(&world->ct_worker, 101, NULL, ostype, &error), ATL_E_STATE);
    assert_atl_ok(ct_driver->unpack(&world->ct_worker, 102, NULL, ostype, &error), &error);
    assert_string_equal(ostype, "unmanaged");
}

static void engines_are_found_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(cmp_lxc_driver_find("fake"), &cmp_lxc_fake_driver);
    assert_ptr_equal(cmp_lxc_driver_find("lxc"), &cmp_lxc_real_driver);
    assert_null(cmp_lxc_driver_find("docker"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(thousands_of_machines_run_sorted_and_stay_the_same, up, down),
        cmocka_unit_test_setup_teardown(what_a_worker_does_to_a_machine_the_agent_sees, up, down),
        cmocka_unit_test_setup_teardown(machines_fail_as_they_are_told, up, down),
        cmocka_unit_test_setup_teardown(thousands_of_containers_run, up, down),
        cmocka_unit_test_setup_teardown(what_a_worker_does_to_a_container_the_agent_sees, up, down),
        cmocka_unit_test_setup_teardown(a_container_takes_new_limits, up, down),
        cmocka_unit_test_setup_teardown(containers_fail_as_they_are_told, up, down),
        cmocka_unit_test(engines_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
