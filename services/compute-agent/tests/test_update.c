/* Changing configurations: what takes effect, what waits, what is done to the running guest, what is freed.
 */
#include "atl_test.h"

#include "core/config.h"
#include "core/update.h"

struct step {
    const char *name;
    const char *before; /* the guest's file */
    const char *set;    /* as a file of its own, or NULL */
    const char *remove;
    const char *revert;
    bool running;
    bool force;
    const char *after; /* the file then */
    const char *hot;   /* "add net net1;..." */
    const char *freed; /* "a b" */
};

static const struct step steps[] = {
    {"plain change of a stopped guest", "memory: 512\n", "memory: 1024\ncores: 2\n", NULL, NULL, false, false,
     "cores: 2\nmemory: 1024\n", "", ""},
    {"change of a running guest waits", "memory: 512\n", "memory: 1024\n", NULL, NULL, true, false,
     "memory: 512\n\n[PENDING]\nmemory: 1024\n", "", ""},
    {"the same value waits for nothing", "memory: 512\n\n[PENDING]\nmemory: 1024\n", "memory: 512\n", NULL,
     NULL, true, false, "memory: 512\n", "", ""},
    {"what the engine never sees takes effect at once", "memory: 512\n", "description: hi\nonboot: 1\n", NULL,
     NULL, true, false, "#hi\nmemory: 512\nonboot: 1\n", "", ""},
    {"removal of a running guest's setting waits", "cores: 2\nmemory: 512\n", NULL, "cores", NULL, true,
     false, "cores: 2\nmemory: 512\n\n[PENDING]\ndelete: cores\n", "", ""},
    {"setting again takes the removal back", "cores: 2\n\n[PENDING]\ndelete: cores\n", "cores: 2\n", NULL,
     NULL, true, false, "cores: 2\n", "", ""},
    {"revert drops what waits", "cores: 2\nmemory: 512\n\n[PENDING]\ndelete: cores\nmemory: 1024\n", NULL,
     NULL, "memory,cores", true, false, "cores: 2\nmemory: 512\n", "", ""},
    {"a stopped guest takes over what waited", "memory: 512\n\n[PENDING]\nmemory: 1024\n", "cores: 2\n", NULL,
     NULL, false, false, "cores: 2\nmemory: 1024\n", "", ""},
    {"a network interface is plugged in", "memory: 512\n", "net1: virtio=BC:24:11:00:00:01,bridge=vmbr0\n",
     NULL, NULL, true, false, "memory: 512\nnet1: virtio=BC:24:11:00:00:01,bridge=vmbr0\n", "add net net1",
     ""},
    {"without hotplug it waits", "hotplug: disk\n", "net1: virtio=BC:24:11:00:00:01,bridge=vmbr0\n", NULL,
     NULL, true, false, "hotplug: disk\n\n[PENDING]\nnet1: virtio=BC:24:11:00:00:01,bridge=vmbr0\n", "", ""},
    {"a link is changed in place", "net1: virtio=BC:24:11:00:00:01,bridge=vmbr0\n",
     "net1: virtio=BC:24:11:00:00:01,bridge=vmbr0,link_down=1\n", NULL, NULL, true, false,
     "net1: virtio=BC:24:11:00:00:01,bridge=vmbr0,link_down=1\n", "change net net1", ""},
    {"another model waits", "net1: virtio=BC:24:11:00:00:01,bridge=vmbr0\n",
     "net1: e1000=BC:24:11:00:00:01,bridge=vmbr0\n", NULL, NULL, true, false,
     "net1: virtio=BC:24:11:00:00:01,bridge=vmbr0\n\n[PENDING]\nnet1: e1000=BC:24:11:00:00:01,bridge=vmbr0\n",
     "", ""},
    {"a network interface is unplugged", "net1: virtio=BC:24:11:00:00:01,bridge=vmbr0\n", NULL, "net1", NULL,
     true, false, "", "remove net net1", ""},
    {"a disk is plugged in", "scsihw: virtio-scsi-pci\n", "scsi1: local:a.raw\n", NULL, NULL, true, false,
     "scsi1: local:a.raw\nscsihw: virtio-scsi-pci\n", "add disk scsi1", ""},
    {"a disk on lsi waits", "memory: 512\n", "scsi1: local:a.raw\n", NULL, NULL, true, false,
     "memory: 512\n\n[PENDING]\nscsi1: local:a.raw\n", "", ""},
    {"a disk of IDE waits for its removal", "ide0: local:a.raw\n", NULL, "ide0", NULL, true, false,
     "ide0: local:a.raw\n\n[PENDING]\ndelete: ide0\n", "", ""},
    {"a disk that is unplugged stays as unused", "virtio1: local:a.raw\n", NULL, "virtio1", NULL, true, false,
     "unused0: local:a.raw\n", "remove disk virtio1", ""},
    {"with force its volume goes", "virtio1: local:a.raw\n", NULL, "virtio1", NULL, false, true, "", "",
     "local:a.raw"},
    {"an unused disk that is removed is freed", "unused0: local:a.raw\n", NULL, "unused0", NULL, true, false,
     "", "", "local:a.raw"},
    {"an unused disk that is used again is no more unused", "unused0: local:a.raw\n", "scsi0: local:a.raw\n",
     NULL, NULL, false, false, "scsi0: local:a.raw\n", "", ""},
    {"a replaced disk stays as unused", "scsi0: local:a.raw\nunused0: local:x.raw\n", "scsi0: local:b.raw\n",
     NULL, NULL, false, false, "scsi0: local:b.raw\nunused0: local:x.raw\nunused1: local:a.raw\n", "", ""},
    {"a disk that moves to another bus is not unused", "scsi0: local:a.raw\n", "virtio0: local:a.raw\n",
     "scsi0", NULL, false, false, "virtio0: local:a.raw\n", "", ""},
    {"a medium is changed at once", "ide2: none,media=cdrom\n", "ide2: local:iso/a.iso,media=cdrom\n", NULL,
     NULL, true, false, "ide2: local:iso/a.iso,media=cdrom\n", "change medium ide2", ""},
    {"an image of many users is not kept as unused", "ide2: local:iso/a.iso,media=cdrom\n", NULL, "ide2",
     NULL, false, false, "", "", ""},
    {"a cloud-init drive goes with its volume", "ide2: local:100/vm-100-cloudinit.raw,media=cdrom\n", NULL,
     "ide2", NULL, false, false, "", "", "local:100/vm-100-cloudinit.raw"},
    {"limits of the processor are set once", "cores: 2\n", "cpulimit: 1.5\ncpuunits: 200\n", NULL, NULL, true,
     false, "cores: 2\ncpulimit: 1.5\ncpuunits: 200\n", "change CPU limits cpulimit", ""},
    {"removing what is not there does nothing", "cores: 2\n", NULL, "net7,balloon", NULL, true, false,
     "cores: 2\n", "", ""},
    {"a waiting disk that is removed keeps its volume", "cores: 2\n\n[PENDING]\nide0: local:a.raw\n", NULL,
     "ide0", NULL, true, false, "cores: 2\nunused0: local:a.raw\n", "", ""},
};

static void run_step(const struct step *step)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_file file;
    struct cmp_file set;
    struct cmp_update_plan plan;
    struct atl_error err = {0};
    struct atl_errors errors = {0};
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    ATL_BUF_AT_EXIT struct atl_buf list = {0};
    assert_atl_ok(cmp_file_read(step->before, strlen(step->before), &arena, &file, &err), &err);
    if (step->set != NULL)
        assert_atl_ok(cmp_file_read(step->set, strlen(step->set), &arena, &set, &err), &err);
    const struct cmp_change change = {.set = step->set != NULL ? set.main->config : NULL,
                                      .remove = step->remove,
                                      .revert = step->revert,
                                      .running = step->running,
                                      .force = step->force};
    enum atl_code code = cmp_update(&file, &change, &plan, &errors, &err);
    if (code != ATL_OK)
        fail_msg("%s: %s %s", step->name, err.text, errors.count > 0 ? errors.items[0].text : "");
    cmp_file_write(&file, &out);
    if (strcmp(out.data != NULL ? out.data : "", step->after) != 0)
        fail_msg("%s: the file is\n%s\nand should be\n%s", step->name, out.data, step->after);
    atl_buf_text(&list, "");
    for (size_t i = 0; i < plan.hot_count; i++)
        atl_buf_printf(&list, "%s%s %s", i > 0 ? ";" : "", cmp_hot_to_text(plan.hot[i].kind),
                       plan.hot[i].name);
    if (strcmp(list.data, step->hot) != 0)
        fail_msg("%s: to do is '%s', not '%s'", step->name, list.data, step->hot);
    atl_buf_reset(&list);
    atl_buf_text(&list, "");
    for (size_t i = 0; i < plan.freed_count; i++)
        atl_buf_printf(&list, "%s%s", i > 0 ? " " : "", plan.freed[i]);
    if (strcmp(list.data, step->freed) != 0)
        fail_msg("%s: freed is '%s', not '%s'", step->name, list.data, step->freed);
}

static void every_step_ends_as_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(steps); i++)
        run_step(&steps[i]);
}

static enum atl_code change(const char *before, const struct cmp_change *what, struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_file file;
    struct cmp_update_plan plan;
    struct atl_errors errors = {0};
    assert_int_equal(cmp_file_read(before, strlen(before), &arena, &file, NULL), ATL_OK);
    return cmp_update(&file, what, &plan, &errors, err);
}

static void unknown_names_are_refused(void **state)
{
    (void)state;
    struct atl_error err = {0};
    assert_int_equal(change("", &(const struct cmp_change){.remove = "colour"}, &err), ATL_E_INVALID);
    assert_string_equal(err.field, "delete");
    assert_string_equal(err.text, "unknown option 'colour'");
    assert_int_equal(change("", &(const struct cmp_change){.revert = "net"}, &err), ATL_E_INVALID);
    assert_string_equal(err.field, "revert");
}

static void disks_of_a_protected_guest_stay(void **state)
{
    (void)state;
    struct atl_error err = {0};
    const char *before = "protection: 1\nscsi0: local:a.raw\nunused0: local:b.raw\n";
    assert_int_equal(change(before, &(const struct cmp_change){.remove = "scsi0"}, &err), ATL_E_STATE);
    assert_string_equal(err.text, "can't remove disk 'scsi0' - protection mode enabled");
    assert_int_equal(change(before, &(const struct cmp_change){.remove = "unused0"}, &err), ATL_E_STATE);
    assert_int_equal(change(before, &(const struct cmp_change){.remove = "cores"}, &err), ATL_OK);
}

static void setting_and_removing_one_name_contradict(void **state)
{
    (void)state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_file set;
    struct atl_error err = {0};
    assert_int_equal(cmp_file_read("cores: 2\n", 9, &arena, &set, NULL), ATL_OK);
    const struct cmp_change what = {.set = set.main->config, .remove = "cores"};
    assert_int_equal(change("", &what, &err), ATL_E_INVALID);
    assert_string_equal(err.field, "delete");
}

static void what_the_running_guest_refused_waits(void **state)
{
    (void)state;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_file file;
    struct cmp_file set;
    struct cmp_update_plan plan;
    struct atl_errors errors = {0};
    const char *text =
        "net1: virtio=BC:24:11:00:00:01,bridge=vmbr0\nnet2: virtio=BC:24:11:00:00:02,bridge=vmbr0\n";
    assert_int_equal(cmp_file_read("", 0, &arena, &file, NULL), ATL_OK);
    assert_int_equal(cmp_file_read(text, strlen(text), &arena, &set, NULL), ATL_OK);
    const struct cmp_change what = {.set = set.main->config, .running = true, .cold = "net2"};
    assert_int_equal(cmp_update(&file, &what, &plan, &errors, NULL), ATL_OK);
    assert_int_equal(plan.hot_count, 1);
    assert_true(cmp_setting_given(file.main->config, "net1"));
    assert_false(cmp_setting_given(file.main->config, "net2"));
    assert_true(cmp_setting_given(file.pending->config, "net2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_ends_as_written),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(disks_of_a_protected_guest_stay),
        cmocka_unit_test(setting_and_removing_one_name_contradict),
        cmocka_unit_test(what_the_running_guest_refused_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
