/* The engines of containers there are, and the table of the real one. */
#include "drivers/lxc_driver.h"

#include <dirent.h>
#include <string.h>

static enum atl_code real_open(const char *run_dir, bool agent, uint32_t fakes, struct cmp_lxc_host *ret_host,
                               struct atl_error *err)
{
    (void)agent;
    (void)fakes;
    return cmp_lxc_host_probe(run_dir, ret_host, err);
}

static void real_close(struct cmp_lxc_host *host)
{
    (void)host; /* holds nothing */
}

/* Each has, or has left, a folder named after it. */
static size_t real_list(const struct cmp_lxc_host *host, struct atl_arena *arena, uint32_t **ret_ids)
{
    uint32_t *ids = NULL;
    size_t count = 0;
    size_t room = 0;
    DIR *folder = opendir(host->run_dir);
    if (folder == NULL)
        return 0; /* no container ever ran since the machine came up */
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        uint64_t vmid = cmp_ct_number(entry->d_name);
        if (vmid < 100 || vmid > 999999999)
            continue;
        ids = atl_arena_grow(arena, ids, count, &room, sizeof *ids);
        ids[count++] = (uint32_t)vmid;
    }
    (void)closedir(folder); /* only read from */
    *ret_ids = ids;
    return count;
}

const struct cmp_lxc_driver cmp_lxc_real_driver = {
    .name = "lxc",
    .start_program = "atoll-lxc-start",
    .open = real_open,
    .close = real_close,
    .list = real_list,
    .running = cmp_lxc_running,
    .start = cmp_lxc_start_wait,
    .stop = cmp_lxc_stop_wait,
    .shutdown = cmp_lxc_shutdown_wait,
    .freeze = cmp_lxc_freeze,
    .limits = cmp_lxc_limits_apply,
    .unpack = cmp_lxc_unpack_wait,
    .grow = cmp_lxc_grow_wait,
    .clean = cmp_lxc_clean,
    .cpu_load = cmp_lxc_cpu_load,
    .use = cmp_lxc_use,
    .interfaces = cmp_lxc_interfaces,
};

const struct cmp_lxc_driver *cmp_lxc_driver_find(const char *name)
{
    static const struct cmp_lxc_driver *const all[] = {&cmp_lxc_real_driver, &cmp_lxc_fake_driver};
    for (size_t i = 0; i < ATL_COUNT(all); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}
