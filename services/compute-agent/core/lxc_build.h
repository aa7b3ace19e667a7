/* What the parts of the container compiler share while they put a plan together. */
#ifndef CMP_LXC_BUILD_H
#define CMP_LXC_BUILD_H

#include "core/lxc_config.h"

struct cmp_lxc_build {
    struct atl_arena *arena;
    const Atoll__Lxc__V1__Config *config;
    const struct cmp_lxc_facts *facts;
    struct cmp_lxc_plan plan;
    size_t item_capacity;
    size_t mount_capacity;
    struct atl_error *err;
};

/* Adds one setting; the value may be NULL for "empty, which resets a list". */
void cmp_lxc_add(struct cmp_lxc_build *build, const char *key, const char *value);
ATL_PRINTF(3, 4)
void cmp_lxc_addf(struct cmp_lxc_build *build, const char *key, const char *format, ...);

ATL_MUST_CHECK enum atl_code cmp_lxc_build_net(struct cmp_lxc_build *build);
ATL_MUST_CHECK enum atl_code cmp_lxc_build_mounts(struct cmp_lxc_build *build);
void cmp_lxc_build_limits(struct cmp_lxc_build *build);

/* Is the guest one whose files nobody touches? */
bool cmp_lxc_unmanaged(const Atoll__Lxc__V1__Config *config);

#endif
