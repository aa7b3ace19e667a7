/* The address by which this host would reach another. */
#include "cluster/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

/* The address by which we would reach that one; nothing is sent. */
static bool source_address(const struct addrinfo *to, char *ret_text, size_t size)
{
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool found = fd >= 0 && connect(fd, to->ai_addr, to->ai_addrlen) == 0 &&
                 getsockname(fd, (struct sockaddr *)&from, &length) == 0 &&
                 getnameinfo((const struct sockaddr *)&from, length, ret_text, (socklen_t)size, NULL, 0,
                             NI_NUMERICHOST) == 0;
    if (fd >= 0)
        (void)close(fd);
    return found;
}

/* "10.0.0.1:8006", "[fd00::1]:8006", "fd00::1" and "host" without brackets and port. */
static char *host_of(const char *peer, char **ret_port)
{
    char *host = atl_strdup(peer);
    bool bare_six = host[0] != '[' && strchr(host, ':') != strrchr(host, ':');
    char *port = bare_six ? NULL : strrchr(host, ':');
    if (port != NULL)
        *port++ = '\0';
    *ret_port = port;
    return host;
}

bool cfg_address_towards(const char *peer, char ret_address[CFG_ADDRESS_SIZE])
{
    char *port = NULL;
    char *host ATL_FREE_AT_EXIT = host_of(peer, &port);
    char *name = host[0] == '[' ? host + 1 : host;
    name[strcspn(name, "]")] = '\0';
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM};
    bool found = getaddrinfo(name, port != NULL ? port : "9", &hints, &list) == 0 &&
                 source_address(list, ret_address, CFG_ADDRESS_SIZE) && cfg_address_valid(ret_address);
    if (list != NULL)
        freeaddrinfo(list);
    return found;
}
