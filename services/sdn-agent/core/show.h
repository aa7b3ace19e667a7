/* The interfaces of a node as the API shows them: the host's file and the kernel's links put together. */
#ifndef SDN_CORE_SHOW_H
#define SDN_CORE_SHOW_H

#include "atoll/network/v1/network.pb-c.h"
#include "core/interfaces.h"

/* A link as the kernel has it. */
struct sdn_link {
    char name[SDN_NAME_MAX];
    int index;
    int master; /* index, 0: none */
    uint32_t mtu;
    bool up;       /* IFF_UP */
    bool physical; /* a device of the machine stands behind it */
    char kind[16]; /* "bridge", "veth", "tun" ...; "" when the kernel tells none */
};

struct sdn_links {
    struct sdn_link *links;
    size_t count;
};

/* NULL: there is none. */
const struct sdn_link *sdn_links_find(const struct sdn_links *links, const char *name);

/* All interfaces but lo: those of the file in its order, then physical ones that it does not name, by name.
 * ret_list: array in the arena. */
void sdn_show(const struct sdn_file *file, const struct sdn_links *links, struct atl_arena *arena,
              Atoll__Network__V1__Interface ***ret_list, size_t *ret_count);

/* Whether an interface passes the API's `type` filter ("any_bridge", "eth", ...). NULL: all pass. */
bool sdn_show_passes(const Atoll__Network__V1__Interface *interface, const char *type);

#endif
