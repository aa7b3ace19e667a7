/* atoll-compute-agent: virtual machines and containers of a node. */
#include <stdlib.h>

#include "cmp.h"

static struct cmp_options options = {.driver = "libvirt",
                                     .libvirt_uri = "qemu:///system",
                                     .accel = "auto",
                                     .qemu_user = "libvirt-qemu",
                                     .lxc_driver = "lxc"};
static const char *fake_guests = "0";
static const char *fake_first = "10000";
static const char *fake_containers = "0";

static const struct atl_program_option program_options[] = {
    {"driver", "NAME", "engine of virtual machines: libvirt or fake", &options.driver, NULL},
    {"libvirt-uri", "URI", "where libvirt answers", &options.libvirt_uri, NULL},
    {"accel", "WAY", "auto (boot probe), kvm or tcg", &options.accel, NULL},
    {"qemu-user", "NAME", "user that QEMU runs as", &options.qemu_user, NULL},
    {"lxc-path", "DIR", "folder of liblxc's files; default: below the state folder", &options.lxc_path, NULL},
    {"fake-guests", "COUNT", "guests that the fake engine makes up", &fake_guests, NULL},
    {"fake-first", "ID", "the id of the first of them", &fake_first, NULL},
    {"lxc-driver", "NAME", "engine of containers: lxc or fake", &options.lxc_driver, NULL},
    {"fake-containers", "COUNT", "containers that the fake engine makes up", &fake_containers, NULL},
};

static enum atl_code fakes_count(const char *name, const char *text, uint32_t *ret_count,
                                 struct atl_error *err)
{
    char *end = NULL;
    unsigned long count = strtoul(text, &end, 10);
    if (*end != '\0' || count > 1000000)
        return atl_fail(err, ATL_E_INVALID, name, "'%s' is not a number up to 1000000", text);
    *ret_count = (uint32_t)count;
    return ATL_OK;
}

static enum atl_code start(struct atl_program *program, void **ret_self, struct atl_error *err)
{
    struct cmp *cmp = NULL;
    enum atl_code code = fakes_count("fake-guests", fake_guests, &options.fake_guests, err);
    if (code == ATL_OK)
        code = fakes_count("fake-first", fake_first, &options.fake_first, err);
    if (code == ATL_OK)
        code = fakes_count("fake-containers", fake_containers, &options.fake_containers, err);
    if (code == ATL_OK)
        code = cmp_open(program, &options, &cmp, err);
    *ret_self = cmp;
    return code;
}

static void stop(void *self)
{
    struct cmp *cmp = self;
    cmp_close(&cmp);
}

int main(int argc, char **argv)
{
    size_t task_count = 0;
    const struct atl_task_type *tasks = cmp_task_types(&task_count);
    return atl_program_main(
        &(const struct atl_program_spec){.name = "compute-agent",
                                         .summary = "virtual machines and containers of a node",
                                         .options = program_options,
                                         .option_count = ATL_COUNT(program_options),
                                         .tasks = tasks,
                                         .task_count = task_count,
                                         .start = start,
                                         .stop = stop},
        argc, argv);
}
