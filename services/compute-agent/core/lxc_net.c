/* Network interfaces of containers as settings for liblxc. */
#include <string.h>

#include "core/lxc_build.h"

static void key(struct cmp_lxc_build *build, uint32_t index, const char *name, const char *value)
{
    cmp_lxc_add(build, atl_arena_format(build->arena, "lxc.net.%" PRIu32 ".%s", index, name), value);
}

static bool is_address(const char *ip)
{
    return ip != NULL && strcmp(ip, "dhcp") != 0 && strcmp(ip, "auto") != 0 && strcmp(ip, "manual") != 0;
}

/* Addresses are set from outside where nobody inside does: files of such a guest are not touched. */
static enum atl_code add_addresses(struct cmp_lxc_build *build, uint32_t index,
                                   const Atoll__Lxc__V1__Net *net)
{
    bool managed = net->has_host_managed && net->host_managed;
    if (!managed && !cmp_lxc_unmanaged(build->config))
        return ATL_OK;
    bool dhcp = (net->ip != NULL && strcmp(net->ip, "dhcp") == 0) ||
                (net->ip6 != NULL && (strcmp(net->ip6, "dhcp") == 0 || strcmp(net->ip6, "auto") == 0));
    if (managed && dhcp) {
        char field[16];
        (void)atl_copy(field, sizeof field, atl_arena_format(build->arena, "net%" PRIu32, index));
        return atl_fail(build->err, ATL_E_UNIMPLEMENTED, field,
                        "host-managed: only fixed addresses can be set from outside; use ip=ADDRESS/BITS");
    }
    if (is_address(net->ip)) {
        key(build, index, "ipv4.address", net->ip);
        if (net->gw != NULL)
            key(build, index, "ipv4.gateway", net->gw);
    }
    if (is_address(net->ip6)) {
        key(build, index, "ipv6.address", net->ip6);
        if (net->gw6 != NULL)
            key(build, index, "ipv6.gateway", net->gw6);
    }
    return ATL_OK;
}

static enum atl_code add_net(struct cmp_lxc_build *build, uint32_t index, const Atoll__Lxc__V1__Net *net)
{
    key(build, index, "type", "veth");
    /* A bridge is not joined while the link is down: nothing passes, not even for the moment of the start. */
    if (net->bridge != NULL && !(net->has_link_down && net->link_down))
        key(build, index, "link", net->bridge);
    key(build, index, "flags", "up");
    key(build, index, "veth.pair", cmp_lxc_veth(build->facts->vmid, index, build->arena));
    if (net->hwaddr != NULL)
        key(build, index, "hwaddr", net->hwaddr);
    key(build, index, "name", net->name);
    if (net->has_mtu)
        key(build, index, "mtu", atl_arena_format(build->arena, "%" PRId64, net->mtu));
    return add_addresses(build, index, net);
}

enum atl_code cmp_lxc_build_net(struct cmp_lxc_build *build)
{
    const Atoll__Lxc__V1__Config *config = build->config;
    if (config->n_net == 0)
        cmp_lxc_add(build, "lxc.net.0.type", "empty");
    for (size_t i = 0; i < config->n_net; i++) {
        const Atoll__Lxc__V1__NetSlot *slot = config->net[i];
        if (slot->value == NULL)
            continue;
        const char *field = atl_arena_format(build->arena, "net%" PRIu32, slot->index);
        if (slot->value->name == NULL)
            return atl_fail(build->err, ATL_E_INVALID, field, "name: it must be given, as eth0");
        for (size_t other = 0; other < i; other++)
            if (config->net[other]->value != NULL &&
                strcmp(config->net[other]->value->name, slot->value->name) == 0)
                return atl_fail(build->err, ATL_E_INVALID, field,
                                "name: '%s' is the name of net%" PRIu32 " too", slot->value->name,
                                config->net[other]->index);
        enum atl_code code = add_net(build, slot->index, slot->value);
        if (code != ATL_OK)
            return code;
    }
    return ATL_OK;
}
