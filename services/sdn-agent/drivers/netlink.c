/* Links, addresses and their changes, through rtnetlink. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "drivers/linux.h"

enum { REQUEST_MAX = 1024, RECEIVE_MAX = 1 << 16, LINKS_MAX = 65536 };

#define FORWARDING_PATH "/proc/sys/net/ipv4/ip_forward"

#ifndef IFLA_PARENT_DEV_NAME
#define IFLA_PARENT_DEV_NAME 56
#endif

struct collect {
    struct atl_arena *arena;
    struct sdn_state *state;
    size_t link_capacity;
    size_t address_capacity;
    size_t owner_capacity;
};

static enum atl_code fail_errno(struct atl_error *err, const char *what, const char *name)
{
    enum atl_code code = errno == EEXIST ? ATL_E_EXISTS : ATL_E_IO;
    if (errno == ENODEV)
        code = ATL_E_ABSENT;
    return atl_fail(err, code, NULL, "%s '%s': %s", what, name, strerror(errno));
}

static int kind_attr(const struct nlattr *attr, void *user)
{
    struct sdn_link *link = user;
    if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
        (void)atl_copy(link->kind, sizeof link->kind, mnl_attr_get_str(attr));
    return MNL_CB_OK;
}

static int link_attr(const struct nlattr *attr, void *user)
{
    struct sdn_link *link = user;
    switch (mnl_attr_get_type(attr)) {
    case IFLA_IFNAME:
        (void)atl_copy(link->name, sizeof link->name, mnl_attr_get_str(attr));
        break;
    case IFLA_MASTER:
        link->master = (int)mnl_attr_get_u32(attr);
        break;
    case IFLA_MTU:
        link->mtu = mnl_attr_get_u32(attr);
        break;
    case IFLA_LINKINFO:
        return mnl_attr_parse_nested(attr, kind_attr, link);
    case IFLA_PARENT_DEV_NAME:
        link->physical = true;
        break;
    default:
        break;
    }
    return MNL_CB_OK;
}

static int take_link(const struct nlmsghdr *header, void *user)
{
    struct collect *collect = user;
    struct sdn_links *links = &collect->state->links;
    const struct ifinfomsg *info = mnl_nlmsg_get_payload(header);
    struct sdn_link link = {.index = info->ifi_index, .up = (info->ifi_flags & IFF_UP) != 0};
    if (header->nlmsg_type != RTM_NEWLINK || links->count >= LINKS_MAX)
        return MNL_CB_OK;
    (void)mnl_attr_parse(header, sizeof *info, link_attr, &link); /* attributes it cannot read are left out */
    links->links =
        atl_arena_grow(collect->arena, links->links, links->count, &collect->link_capacity, sizeof link);
    links->links[links->count++] = link;
    return MNL_CB_OK;
}

/* IFA_LOCAL is the interface's own; IFA_ADDRESS may be the peer's, and stands alone with IPv6. */
static int address_attr(const struct nlattr *attr, void *user)
{
    const struct nlattr **found = user;
    unsigned int type = mnl_attr_get_type(attr);
    if (type == IFA_LOCAL || (type == IFA_ADDRESS && *found == NULL))
        *found = attr;
    return MNL_CB_OK;
}

static int take_address(const struct nlmsghdr *header, void *user)
{
    struct collect *collect = user;
    struct sdn_state *state = collect->state;
    const struct ifaddrmsg *info = mnl_nlmsg_get_payload(header);
    const struct nlattr *found = NULL;
    struct sdn_address address = {.prefix = info->ifa_prefixlen};
    bool four = info->ifa_family == AF_INET;
    if (header->nlmsg_type != RTM_NEWADDR || (!four && info->ifa_family != AF_INET6))
        return MNL_CB_OK;
    address.family = four ? SDN_INET : SDN_INET6;
    (void)mnl_attr_parse(header, sizeof *info, address_attr, &found); /* none found: left out below */
    size_t size = four ? 4 : 16;
    if (found == NULL || mnl_attr_get_payload_len(found) != size)
        return MNL_CB_OK;
    memcpy(address.bytes, mnl_attr_get_payload(found), size);
    state->addresses = atl_arena_grow(collect->arena, state->addresses, state->address_count,
                                      &collect->address_capacity, sizeof address);
    state->address_links = atl_arena_grow(collect->arena, state->address_links, state->address_count,
                                          &collect->owner_capacity, sizeof *state->address_links);
    state->address_links[state->address_count] = (int)info->ifa_index;
    state->addresses[state->address_count++] = address;
    return MNL_CB_OK;
}

/* Sends a request and reads answers until the acknowledgement or the end of the dump. errno tells what
 * failed. */
static bool talk(struct sdn_linux *host, struct nlmsghdr *header, mnl_cb_t take, void *user)
{
    static char buffer[RECEIVE_MAX];
    unsigned int port = mnl_socket_get_portid(host->requests);
    header->nlmsg_seq = ++host->sequence;
    if (mnl_socket_sendto(host->requests, header, header->nlmsg_len) < 0)
        return false;
    for (;;) {
        ssize_t got = mnl_socket_recvfrom(host->requests, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return false;
        int result = mnl_cb_run(buffer, (size_t)got, header->nlmsg_seq, port, take, user);
        if (result < 0 && errno == ESRCH)
            continue; /* an answer to a request that was given up */
        if (result <= MNL_CB_STOP)
            return result == MNL_CB_STOP;
    }
}

static enum atl_code observe(void *self, struct atl_arena *arena, struct sdn_state *state,
                             struct atl_error *err)
{
    struct sdn_linux *host = self;
    struct collect collect = {.arena = arena, .state = state};
    char buffer[REQUEST_MAX];
    struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
    header->nlmsg_type = RTM_GETLINK;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof *info);
    info->ifi_family = AF_UNSPEC;
    if (!talk(host, header, take_link, &collect))
        return fail_errno(err, "cannot list", "links");
    header = mnl_nlmsg_put_header(buffer);
    header->nlmsg_type = RTM_GETADDR;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    struct ifaddrmsg *address = mnl_nlmsg_put_extra_header(header, sizeof *address);
    address->ifa_family = AF_UNSPEC;
    if (!talk(host, header, take_address, &collect))
        return fail_errno(err, "cannot list", "addresses");
    return ATL_OK;
}

static struct nlmsghdr *link_request(char *buffer, uint16_t type, uint16_t flags, struct ifinfomsg **ret_info)
{
    struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
    header->nlmsg_type = type;
    header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    *ret_info = mnl_nlmsg_put_extra_header(header, sizeof **ret_info);
    (*ret_info)->ifi_family = AF_UNSPEC;
    return header;
}

static enum atl_code make_bridge(void *self, const char *name, uint32_t mtu, int *ret_index,
                                 struct atl_error *err)
{
    char buffer[REQUEST_MAX];
    struct ifinfomsg *info = NULL;
    struct nlmsghdr *header = link_request(buffer, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info);
    mnl_attr_put_strz(header, IFLA_IFNAME, name);
    if (mtu > 0)
        mnl_attr_put_u32(header, IFLA_MTU, mtu);
    struct nlattr *nest = mnl_attr_nest_start(header, IFLA_LINKINFO);
    mnl_attr_put_strz(header, IFLA_INFO_KIND, "bridge");
    struct nlattr *data = mnl_attr_nest_start(header, IFLA_INFO_DATA);
    mnl_attr_put_u32(header, IFLA_BR_FORWARD_DELAY, 0); /* guests speak at once */
    mnl_attr_put_u32(header, IFLA_BR_STP_STATE, 0);
    mnl_attr_nest_end(header, data);
    mnl_attr_nest_end(header, nest);
    if (!talk(self, header, NULL, NULL))
        return fail_errno(err, "cannot make bridge", name);
    *ret_index = (int)if_nametoindex(name);
    return ATL_OK;
}

static enum atl_code remove_link(void *self, const char *name, struct atl_error *err)
{
    char buffer[REQUEST_MAX];
    struct ifinfomsg *info = NULL;
    struct nlmsghdr *header = link_request(buffer, RTM_DELLINK, 0, &info);
    mnl_attr_put_strz(header, IFLA_IFNAME, name);
    if (!talk(self, header, NULL, NULL) && errno != ENODEV)
        return fail_errno(err, "cannot remove link", name);
    return ATL_OK;
}

static enum atl_code add_address(void *self, const char *name, const struct sdn_address *address,
                                 struct atl_error *err)
{
    char buffer[REQUEST_MAX];
    bool four = address->family == SDN_INET;
    struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
    header->nlmsg_type = RTM_NEWADDR;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(header, sizeof *info);
    info->ifa_family = four ? AF_INET : AF_INET6;
    info->ifa_prefixlen = address->prefix;
    info->ifa_index = if_nametoindex(name);
    mnl_attr_put(header, IFA_LOCAL, four ? 4 : 16, address->bytes);
    mnl_attr_put(header, IFA_ADDRESS, four ? 4 : 16, address->bytes);
    if (four && address->prefix < 31) {
        uint32_t mask = address->prefix == 0 ? 0 : UINT32_MAX << (32 - address->prefix);
        uint32_t own = 0;
        memcpy(&own, address->bytes, sizeof own);
        uint32_t broadcast = own | htonl(~mask);
        mnl_attr_put(header, IFA_BROADCAST, sizeof broadcast, &broadcast);
    }
    if (!talk(self, header, NULL, NULL) && errno != EEXIST)
        return fail_errno(err, "cannot add an address to", name);
    return ATL_OK;
}

static enum atl_code set_up(void *self, const char *name, bool up, struct atl_error *err)
{
    char buffer[REQUEST_MAX];
    struct ifinfomsg *info = NULL;
    struct nlmsghdr *header = link_request(buffer, RTM_NEWLINK, 0, &info);
    info->ifi_change = IFF_UP;
    info->ifi_flags = up ? IFF_UP : 0;
    mnl_attr_put_strz(header, IFLA_IFNAME, name);
    if (!talk(self, header, NULL, NULL))
        return fail_errno(err, up ? "cannot bring up" : "cannot bring down", name);
    return ATL_OK;
}

static enum atl_code attach(void *self, const char *name, const char *bridge, struct atl_error *err)
{
    char buffer[REQUEST_MAX];
    struct ifinfomsg *info = NULL;
    struct nlmsghdr *header = link_request(buffer, RTM_NEWLINK, 0, &info);
    mnl_attr_put_strz(header, IFLA_IFNAME, name);
    mnl_attr_put_u32(header, IFLA_MASTER, if_nametoindex(bridge));
    if (!talk(self, header, NULL, NULL))
        return fail_errno(err, "cannot attach to its bridge", name);
    return ATL_OK;
}

static enum atl_code get_forwarding(void *self, bool *ret_on, struct atl_error *err)
{
    (void)self;
    char value = '0';
    int fd = open(FORWARDING_PATH, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &value, 1) != 1) {
        enum atl_code code = fail_errno(err, "cannot read", FORWARDING_PATH);
        if (fd >= 0)
            (void)close(fd);
        return code;
    }
    (void)close(fd);
    *ret_on = value != '0';
    return ATL_OK;
}

static enum atl_code set_forwarding(void *self, bool on, struct atl_error *err)
{
    (void)self;
    int fd = open(FORWARDING_PATH, O_WRONLY | O_CLOEXEC);
    enum atl_code code = ATL_OK;
    if (fd < 0 || write(fd, on ? "1" : "0", 1) != 1)
        code = fail_errno(err, "cannot write", FORWARDING_PATH);
    if (fd >= 0)
        (void)close(fd);
    return code;
}

static int events_fd(void *self)
{
    const struct sdn_linux *host = self;
    return mnl_socket_get_fd(host->events);
}

/* What changed is not read: the host is observed again. An overrun says no more than that. */
static void events_drain(void *self)
{
    static char buffer[RECEIVE_MAX];
    int fd = events_fd(self);
    while (recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0 || errno == ENOBUFS) {
    }
}

static void close_host(void *self)
{
    struct sdn_linux *host = self;
    if (host == NULL)
        return;
    if (host->requests != NULL)
        (void)mnl_socket_close(host->requests);
    if (host->events != NULL)
        (void)mnl_socket_close(host->events);
    if (host->nft != NULL)
        nft_ctx_free(host->nft);
    free(host);
}

enum atl_code sdn_linux_open(void **ret_self, struct atl_error *err)
{
    struct sdn_linux *host = atl_new0(struct sdn_linux);
    host->requests = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    host->events = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
    host->nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (host->requests == NULL || host->events == NULL || host->nft == NULL ||
        mnl_socket_bind(host->requests, 0, MNL_SOCKET_AUTOPID) < 0 ||
        mnl_socket_bind(host->events, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
                        MNL_SOCKET_AUTOPID) < 0) {
        enum atl_code code = fail_errno(err, "cannot open", "netlink");
        close_host(host);
        return code;
    }
    *ret_self = host;
    return ATL_OK;
}

const struct sdn_driver sdn_driver_linux = {
    .name = "linux",
    .observe = observe,
    .make_bridge = make_bridge,
    .remove_link = remove_link,
    .add_address = add_address,
    .set_up = set_up,
    .attach = attach,
    .get_forwarding = get_forwarding,
    .set_forwarding = set_forwarding,
    .load_nat = sdn_nft_load,
    .list_nat = sdn_nft_list,
    .events_fd = events_fd,
    .events_drain = events_drain,
    .close = close_host,
};
