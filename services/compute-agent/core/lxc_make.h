/* From a configuration to the orders of the helpers; what a creation and a new template need. Pure. */
#ifndef CMP_LXC_MAKE_H
#define CMP_LXC_MAKE_H

#include "atoll/lxc/v1/helper.pb-c.h"
#include "core/lxc_config.h"

/*
 * What to write into the guest's files.
 * resolv   text of the host's /etc/resolv.conf: used for what the configuration leaves open; may be ""
 */
Atoll__Lxc__V1__Setup *cmp_lxc_setup_make(const Atoll__Lxc__V1__Config *config, uint32_t vmid,
                                          const char *resolv, struct atl_arena *arena);

/* The map of ids: ours, or the first of each kind that raw lines give; NULL: privileged. */
Atoll__Lxc__V1__IdMap *cmp_lxc_map_make(const Atoll__Lxc__V1__Config *config, const struct atl_line *raw,
                                        size_t raw_count, const struct cmp_lxc_facts *facts,
                                        struct atl_arena *arena);

/* Host sides of interfaces whose link is to stay down. */
void cmp_lxc_links_down(const Atoll__Lxc__V1__Config *config, uint32_t vmid, struct atl_arena *arena,
                        Atoll__Lxc__V1__StartSpec *spec);

/* The ostype of a system by its /etc/os-release (may be ""); "unmanaged" when we do not know it. */
const char *cmp_lxc_ostype(const char *os_release);

/* The value of a line `name: value` of datacenter.cfg and its like, or NULL. */
const char *cmp_lxc_option(const char *text, const char *name, struct atl_arena *arena);

#endif
