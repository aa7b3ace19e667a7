/* The addresses inside a container, asked of the kernel through a socket that was made in its network
 * namespace. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "drivers/lxc.h"

enum { LINKS_MAX = 64, ADDRESSES_MAX = 32, REPLY_BYTES = 32768 };

struct scan {
    struct atl_arena *arena;
    Atoll__Lxc__V1__GetInterfacesReply *reply;
    int indexes[LINKS_MAX];
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* nothing was written through it */
}

/* A socket keeps the namespace it was made in, so the thread is there for two system calls only. */
static int socket_in(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
    ATL_CLEANUP(close_fd) int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    ATL_CLEANUP(close_fd) int there = open(path, O_RDONLY | O_CLOEXEC);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0)
        return -1;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    int back = setns(home, CLONE_NEWNET);
    atl_assert(back == 0); /* a thread left in a container's network must not go on */
    struct timeval second = {.tv_sec = 1};
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second,
                         sizeof second); /* the kernel answers at once */
    return fd;
}

static Atoll__Lxc__V1__InterfacesRow *row_of(struct scan *scan, int index)
{
    for (size_t i = 0; i < scan->reply->n_entry; i++)
        if (scan->indexes[i] == index)
            return scan->reply->entry[i];
    return NULL;
}

static void add_link(struct scan *scan, struct nlmsghdr *message)
{
    struct ifinfomsg *info = NLMSG_DATA(message);
    if (scan->reply->n_entry >= LINKS_MAX)
        return;
    Atoll__Lxc__V1__InterfacesRow *row = atl_arena_new(scan->arena, Atoll__Lxc__V1__InterfacesRow);
    atoll__lxc__v1__interfaces_row__init(row);
    row->ip_addresses =
        atl_arena_array(scan->arena, Atoll__Lxc__V1__InterfacesRowIpAddressesEntry *, ADDRESSES_MAX);
    int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));
    for (struct rtattr *part = IFLA_RTA(info); RTA_OK(part, left); part = RTA_NEXT(part, left)) {
        const unsigned char *bytes = RTA_DATA(part);
        if (part->rta_type == IFLA_IFNAME)
            row->name = atl_arena_strndup(scan->arena, RTA_DATA(part), RTA_PAYLOAD(part) - 1);
        if (part->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(part) == 6)
            row->hwaddr = atl_arena_format(scan->arena, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1],
                                           bytes[2], bytes[3], bytes[4], bytes[5]);
    }
    if (row->name == NULL || row->hwaddr == NULL)
        return;
    row->hardware_address = row->hwaddr;
    scan->indexes[scan->reply->n_entry] = info->ifi_index;
    scan->reply->entry[scan->reply->n_entry++] = row;
}

static void add_address(struct scan *scan, struct nlmsghdr *message)
{
    struct ifaddrmsg *info = NLMSG_DATA(message);
    Atoll__Lxc__V1__InterfacesRow *row = row_of(scan, (int)info->ifa_index);
    bool v4 = info->ifa_family == AF_INET;
    if (row == NULL || row->n_ip_addresses >= ADDRESSES_MAX || (!v4 && info->ifa_family != AF_INET6))
        return;
    const void *bytes = NULL;
    int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));
    for (struct rtattr *part = IFA_RTA(info); RTA_OK(part, left); part = RTA_NEXT(part, left)) {
        if (RTA_PAYLOAD(part) != (v4 ? 4U : 16U))
            continue;
        if (part->rta_type == IFA_LOCAL || (part->rta_type == IFA_ADDRESS && bytes == NULL))
            bytes = RTA_DATA(part);
    }
    char text[INET6_ADDRSTRLEN];
    if (bytes == NULL || inet_ntop(info->ifa_family, bytes, text, sizeof text) == NULL)
        return;
    Atoll__Lxc__V1__InterfacesRowIpAddressesEntry *entry =
        atl_arena_new(scan->arena, Atoll__Lxc__V1__InterfacesRowIpAddressesEntry);
    atoll__lxc__v1__interfaces_row_ip_addresses_entry__init(entry);
    entry->ip_address = atl_arena_strdup(scan->arena, text);
    entry->ip_address_type = atl_arena_strdup(scan->arena, v4 ? "inet" : "inet6");
    entry->has_prefix = true;
    entry->prefix = info->ifa_prefixlen;
    row->ip_addresses[row->n_ip_addresses++] = entry;
    char **first = v4 ? &row->inet : &row->inet6;
    if (*first == NULL)
        *first = atl_arena_format(scan->arena, "%s/%d", text, info->ifa_prefixlen);
}

static bool dump(struct scan *scan, int fd, uint16_t type)
{
    struct {
        struct nlmsghdr head;
        struct rtgenmsg body;
    } request = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)),
                          .nlmsg_type = type,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                          .nlmsg_seq = type}};
    if (send(fd, &request, request.head.nlmsg_len, 0) < 0)
        return false;
    for (;;) {
        char bytes[REPLY_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        if (got <= 0)
            return false;
        size_t left = (size_t)got;
        for (struct nlmsghdr *message = (struct nlmsghdr *)bytes; NLMSG_OK(message, left);
             message = NLMSG_NEXT(message, left)) {
            if (message->nlmsg_type == NLMSG_DONE)
                return true;
            if (message->nlmsg_type == NLMSG_ERROR)
                return false;
            if (message->nlmsg_type == RTM_NEWLINK)
                add_link(scan, message);
            if (message->nlmsg_type == RTM_NEWADDR)
                add_address(scan, message);
        }
    }
}

enum atl_code cmp_lxc_interfaces(const struct cmp_ct_run *run, struct atl_arena *arena,
                                 Atoll__Lxc__V1__GetInterfacesReply *reply, struct atl_error *err)
{
    struct scan scan = {.arena = arena, .reply = reply};
    reply->entry = atl_arena_array(arena, Atoll__Lxc__V1__InterfacesRow *, LINKS_MAX);
    ATL_CLEANUP(close_fd) int fd = socket_in(run->init);
    if (fd < 0)
        return atl_fail(err, ATL_E_STATE, NULL, "the network of the container cannot be read: %s",
                        strerror(errno));
    if (!dump(&scan, fd, RTM_GETLINK) || !dump(&scan, fd, RTM_GETADDR))
        return atl_fail(err, ATL_E_IO, NULL, "the kernel did not list the container's addresses");
    return ATL_OK;
}
