/* The methods: interfaces of the node, leases. */
#include <stdlib.h>
#include <string.h>

#include "atoll/network/v1/lease.atl.h"
#include "atoll/network/v1/lease.pb-c.h"
#include "atoll/network/v1/network.atl.h"
#include "atoll/network/v1/network.pb-c.h"
#include "sdn.h"

static void refuse(struct atl_request *request, const struct atl_error *err)
{
    atl_request_fail(request, err, NULL);
}

/* All interfaces, in the request's arena. */
static enum atl_code collect(struct sdn *sdn, struct atl_request *request, const char *node,
                             Atoll__Network__V1__Interface ***ret_list, size_t *ret_count,
                             struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    struct sdn_file file = {0};
    struct sdn_state state = {0};
    if (strcmp(node, sdn->node) != 0)
        return atl_fail(err, ATL_E_UNAVAILABLE, "node", "this is node '%s', not '%s'", sdn->node, node);
    enum atl_code code = sdn_read_interfaces(sdn->options->interfaces, arena, &file, err);
    if (code == ATL_OK)
        code = sdn->driver->observe(sdn->host, arena, &state, err);
    if (code == ATL_OK)
        sdn_show(&file, &state.links, arena, ret_list, ret_count);
    return code;
}

static void list(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Network__V1__ListRequest *wanted = (const void *)input;
    Atoll__Network__V1__Interface **all = NULL;
    size_t count = 0;
    struct atl_error err = {0};
    if (collect(user, request, wanted->node, &all, &count, &err) != ATL_OK) {
        refuse(request, &err);
        return;
    }
    Atoll__Network__V1__ListReply reply = ATOLL__NETWORK__V1__LIST_REPLY__INIT;
    reply.entry = atl_arena_array(atl_request_arena(request), Atoll__Network__V1__Interface *, count + 1);
    for (size_t i = 0; i < count; i++) {
        if (sdn_show_passes(all[i], wanted->type))
            reply.entry[reply.n_entry++] = all[i];
    }
    atl_request_reply(request, &reply.base);
}

static void get(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Network__V1__GetRequest *wanted = (const void *)input;
    Atoll__Network__V1__Interface **all = NULL;
    size_t count = 0;
    struct atl_error err = {0};
    if (collect(user, request, wanted->node, &all, &count, &err) != ATL_OK) {
        refuse(request, &err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i]->iface, wanted->iface) == 0) {
            atl_request_reply(request, &all[i]->base);
            return;
        }
    }
    (void)atl_fail(&err, ATL_E_ABSENT, "iface", "interface '%s' does not exist", wanted->iface);
    refuse(request, &err);
}

/* --- leases --- */

static void add_leases(struct sdn *sdn, const char *bridge, const char *mac, struct atl_arena *arena,
                       Atoll__Network__V1__LeasesReply *reply, size_t *capacity)
{
    struct sdn_lease *leases = NULL;
    size_t count = 0;
    char *text = sdn_read_file(sdn->state_folder, atl_arena_format(arena, "dnsmasq-%s.leases", bridge));
    if (text == NULL)
        return;
    sdn_leases_read(text, strlen(text), atl_clock_wall_seconds(), arena, &leases, &count);
    free(text);
    for (size_t i = 0; i < count; i++) {
        if (mac != NULL && strcasecmp(mac, leases[i].mac) != 0)
            continue;
        Atoll__Network__V1__Lease *lease = atl_arena_new(arena, Atoll__Network__V1__Lease);
        atoll__network__v1__lease__init(lease);
        lease->bridge = atl_arena_strdup(arena, bridge);
        lease->mac = leases[i].mac;
        lease->address = leases[i].address;
        lease->hostname = leases[i].hostname[0] != '\0' ? leases[i].hostname : NULL;
        lease->has_expires = leases[i].expires != 0;
        lease->expires = leases[i].expires;
        reply->lease = atl_arena_grow(arena, reply->lease, reply->n_lease, capacity, sizeof(void *));
        reply->lease[reply->n_lease++] = lease;
    }
}

static void leases(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct sdn *sdn = user;
    const Atoll__Network__V1__LeasesRequest *wanted = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Network__V1__LeasesReply reply = ATOLL__NETWORK__V1__LEASES_REPLY__INIT;
    size_t capacity = 0;
    size_t count = 0;
    const struct sdn_dhcp_state *servers = sdn_dhcp_states(sdn->dhcp, arena, &count);
    for (size_t i = 0; i < count; i++) {
        if (wanted->bridge == NULL || strcmp(wanted->bridge, servers[i].bridge) == 0)
            add_leases(sdn, servers[i].bridge, wanted->mac, arena, &reply, &capacity);
    }
    atl_request_reply(request, &reply.base);
}

void sdn_serve(struct sdn *sdn)
{
    static const struct atl_handler network[] = {{"List", list}, {"Get", get}};
    static const struct atl_handler dhcp[] = {{"List", leases}};
    atl_bus_serve(sdn->bus, &atl_svc_network_v1_Network, network, ATL_COUNT(network), sdn);
    atl_bus_serve(sdn->bus, &atl_svc_network_v1_Leases, dhcp, ATL_COUNT(dhcp), sdn);
}
