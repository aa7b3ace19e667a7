/*
 * The engine of containers, as one table of functions. What each does is told in lxc.h, by the function of
 * that name of the real one. `running`, `list`, `limits`, `cpu_load`, `use`, `freeze` and `interfaces` are
 * quick and may be called in the loop; the others block and belong to task workers.
 */
#ifndef CMP_DRIVERS_LXC_DRIVER_H
#define CMP_DRIVERS_LXC_DRIVER_H

#include "drivers/lxc.h"

struct cmp_lxc_driver {
    const char *name;
    /* The program beside the agent that runs the task "vzstart"; NULL: the agent's own worker does. */
    const char *start_program;
    /* agent: the agent itself, which says how many guests the fake one makes up; workers find it as it was
     * told. */
    enum atl_code (*open)(const char *run_dir, bool agent, uint32_t fakes, struct cmp_lxc_host *ret_host,
                          struct atl_error *err);
    void (*close)(struct cmp_lxc_host *host);

    /* Ids that may run, in the arena: running() says whether they do. */
    size_t (*list)(const struct cmp_lxc_host *host, struct atl_arena *arena, uint32_t **ret_ids);
    /* No process (ret_run->monitor 0): its end is seen by who asks the next time. */
    bool (*running)(const struct cmp_lxc_host *host, uint32_t vmid, struct cmp_ct_run *ret_run);
    enum atl_code (*start)(const struct cmp_lxc_host *host, uint32_t vmid, const struct cmp_lxc_plan *plan,
                           Atoll__Lxc__V1__StartSpec *spec, struct atl_error *err);
    enum atl_code (*stop)(const struct cmp_lxc_host *host, uint32_t vmid, struct atl_error *err);
    enum atl_code (*shutdown)(const struct cmp_lxc_host *host, uint32_t vmid, int halt_signal, atl_ns timeout,
                              bool (*stopped)(void *), void *user, struct atl_error *err);
    enum atl_code (*freeze)(const struct cmp_lxc_host *host, uint32_t vmid, bool frozen,
                            struct atl_error *err);
    enum atl_code (*limits)(const struct cmp_lxc_host *host, uint32_t vmid,
                            const Atoll__Lxc__V1__Config *config, const struct cmp_lxc_facts *facts,
                            struct atl_error *err);
    enum atl_code (*unpack)(const struct cmp_lxc_host *host, uint32_t vmid, Atoll__Lxc__V1__UnpackSpec *spec,
                            char ret_ostype[CMP_LXC_OSTYPE], struct atl_error *err);
    enum atl_code (*grow)(const struct cmp_lxc_host *host, uint32_t vmid, const char *slot, const char *path,
                          bool running, struct atl_error *err);
    void (*clean)(const struct cmp_lxc_host *host, uint32_t vmid);
    void (*cpu_load)(const struct cmp_lxc_host *host, uint32_t vmid, uint32_t *load);
    void (*use)(const struct cmp_lxc_host *host, uint32_t vmid, const struct cmp_ct_run *run,
                const uint32_t *nets, size_t net_count, struct cmp_lxc_use *ret_use);
    enum atl_code (*interfaces)(const struct cmp_ct_run *run, struct atl_arena *arena,
                                Atoll__Lxc__V1__GetInterfacesReply *reply, struct atl_error *err);
};

extern const struct cmp_lxc_driver cmp_lxc_real_driver; /* "lxc" */
extern const struct cmp_lxc_driver cmp_lxc_fake_driver; /* "fake" */

/* By its name; NULL: none. */
const struct cmp_lxc_driver *cmp_lxc_driver_find(const char *name);

#endif
