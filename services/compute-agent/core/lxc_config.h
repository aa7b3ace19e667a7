/*
 * Container configuration -> settings for liblxc. Pure: equal inputs give equal bytes, so what a container
 * will be can be read in a recorded file (tests/scenario/lxc).
 */
#ifndef CMP_LXC_CONFIG_H
#define CMP_LXC_CONFIG_H

#include "atoll/lxc/v1/lxc.pb-c.h"
#include "pure/arena.h"
#include "pure/buf.h"
#include "pure/codec.h"
#include "pure/error.h"

enum { CMP_LXC_MEMORY_MIB = 512, CMP_LXC_SWAP_MIB = 512, CMP_LXC_TTYS = 2 };
enum { CMP_CPU_PERIOD_US = 100000, CMP_CPU_LIMIT_MAX = 8192 };

/* What the machine is like and where things lie; all borrowed. */
struct cmp_lxc_facts {
    uint32_t vmid;
    unsigned int cgroup_version; /* 1 or 2 */
    const char *cgroup_base;     /* folder of our containers in each hierarchy: "atoll" */
    const char *run_dir;         /* folder of this container at run time: "/run/atoll/lxc/101" */
    uint32_t map_first;          /* the host's id of an unprivileged container's root: 100000 */
    uint32_t map_count;          /* 65536 */
    const char *apparmor; /* profile to confine by, "generated" for one made by liblxc; NULL: not there */
    bool swap_accounting; /* the kernel can limit swap */
    uint32_t host_cpus;
    const uint32_t *cpus; /* CPUs chosen for `cores`, sorted; NULL: all */
    size_t cpu_count;
};

struct cmp_lxc_item {
    const char *key;
    const char *value;
};

/* A volume or folder of the host that the container sees. */
struct cmp_lxc_mount {
    const char *slot;    /* "rootfs", "mp0" */
    const char *volume;  /* volume id; of a bind mount the host's path */
    const char *target;  /* absolute path inside */
    const char *options; /* "noatime;nodev", or NULL */
    bool bind;
    bool ro;
};

struct cmp_lxc_plan {
    struct cmp_lxc_item *items; /* in the order liblxc is to read them */
    size_t count;
    struct cmp_lxc_mount *mounts; /* rootfs first */
    size_t mount_count;
    const char *seccomp; /* text of the file RUN_DIR/seccomp that the items name */
    bool unprivileged;
};

/*
 * Compiles a configuration.
 *
 * config     valid by its table
 * raw        the lxc.* lines of the file, in order; an allowed key's line is put behind ours, so it wins
 * ret_plan   lives in the arena
 *
 * Errors: ATL_E_INVALID a raw key that is not allowed, two mount points at one path, a path that leaves the
 * root, a network name twice; ATL_E_UNIMPLEMENTED host-managed DHCP; the field is named.
 */
ATL_MUST_CHECK enum atl_code cmp_lxc_compile(const Atoll__Lxc__V1__Config *config, const struct atl_line *raw,
                                             size_t raw_count, const struct cmp_lxc_facts *facts,
                                             struct atl_arena *arena, struct cmp_lxc_plan *ret_plan,
                                             struct atl_error *err);

/* `key = value` lines, as liblxc reads them from a file. */
void cmp_lxc_plan_text(const struct cmp_lxc_plan *plan, struct atl_buf *out);

/* --- limits: also set on a running container ---------------------------------------------------------------
 */

enum { CMP_LXC_LIMITS_MAX = 8 };
struct cmp_lxc_limit {
    const char *controller; /* "memory", "cpu", "cpuset" */
    const char *file;       /* "memory.max" */
    const char *value;
};

/* The limits of a configuration as cgroup files, in the order in which a fresh cgroup takes them. Returns how
 * many were written to limits (CMP_LXC_LIMITS_MAX places). */
size_t cmp_lxc_limits(const Atoll__Lxc__V1__Config *config, const struct cmp_lxc_facts *facts,
                      struct atl_arena *arena, struct cmp_lxc_limit *limits);

/* Memory and swap of a configuration in bytes; a file may hold any number, so it is cut to 0 .. 1 EiB. */
int64_t cmp_lxc_memory_bytes(const Atoll__Lxc__V1__Config *config);
int64_t cmp_lxc_swap_bytes(const Atoll__Lxc__V1__Config *config);

/* What API users call cpuunits, for that version: v1 shares 2..262144, v2 weight 1..10000. */
uint32_t cmp_lxc_cpu_weight(const Atoll__Lxc__V1__Config *config, unsigned int cgroup_version);

/*
 * Chooses the CPUs that carry least: `wanted` of them, the lower number first among equals.
 * load   how many containers use each of the host's `cpus` CPUs; the caller counts the choice in
 * ret    `wanted` places, sorted on return. Returns how many were chosen (0: no restriction is needed).
 */
size_t cmp_lxc_choose_cpus(uint32_t wanted, const uint32_t *load, uint32_t cpus, uint32_t *ret);

/* "0-2,5" of sorted numbers. */
char *cmp_lxc_cpu_list(const uint32_t *cpus, size_t count, struct atl_arena *arena);

/* Is that raw key one that a configuration file may hold? */
bool cmp_lxc_raw_allowed(const char *key);

/* Name of the host's side of net[index]: "veth101i0". */
char *cmp_lxc_veth(uint32_t vmid, uint32_t index, struct atl_arena *arena);

#endif
