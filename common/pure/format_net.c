/* Checks of addresses and names of the network. */
#include "pure/format.h"

#include <arpa/inet.h>
#include <string.h>

static bool is_address(int family, const char *value, size_t length)
{
    char text[INET6_ADDRSTRLEN + 8];
    unsigned char bytes[16];
    if (length == 0 || length >= sizeof text || memchr(value, '\0', length) != NULL)
        return false;
    memcpy(text, value, length);
    text[length] = '\0';
    return inet_pton(family, text, bytes) == 1;
}

bool atl_format_ipv4(const char *value, size_t length)
{
    return is_address(AF_INET, value, length);
}

bool atl_format_ipv6(const char *value, size_t length)
{
    return is_address(AF_INET6, value, length);
}

bool atl_format_ip(const char *value, size_t length)
{
    return atl_format_ipv4(value, length) || atl_format_ipv6(value, length);
}

bool atl_format_ipv4_mask(const char *value, size_t length)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr address;
    if (length == 0 || length >= sizeof text)
        return false;
    memcpy(text, value, length);
    text[length] = '\0';
    if (inet_pton(AF_INET, text, &address) != 1)
        return false;
    uint32_t host_bits = ~ntohl(address.s_addr);
    return (host_bits & (host_bits + 1)) == 0;
}

/* The decimal number behind the slash, or -1. */
static int prefix_length(const char *value, size_t length)
{
    if (length == 0 || length > 3 || (length > 1 && value[0] == '0'))
        return -1;
    int bits = 0;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9')
            return -1;
        bits = bits * 10 + (value[i] - '0');
    }
    return bits;
}

static bool is_network(int family, const char *value, size_t length, int shortest)
{
    const char *slash = memchr(value, '/', length);
    if (slash == NULL || !is_address(family, value, (size_t)(slash - value)))
        return false;
    int bits = prefix_length(slash + 1, (size_t)(value + length - slash - 1));
    return bits >= shortest && bits <= (family == AF_INET ? 32 : 128);
}

enum { SHORTEST_PREFIX = 8 }; /* shorter ones are taken only where the whole range makes sense */

bool atl_format_cidr4(const char *value, size_t length)
{
    return is_network(AF_INET, value, length, SHORTEST_PREFIX);
}

bool atl_format_cidr6(const char *value, size_t length)
{
    return is_network(AF_INET6, value, length, SHORTEST_PREFIX);
}

bool atl_format_cidr(const char *value, size_t length)
{
    return atl_format_cidr4(value, length) || atl_format_cidr6(value, length);
}

bool atl_format_cidr_any(const char *value, size_t length)
{
    return is_network(AF_INET, value, length, 0) || is_network(AF_INET6, value, length, 0);
}

bool atl_format_ip_or_cidr(const char *value, size_t length)
{
    return atl_format_ip(value, length) || atl_format_cidr(value, length);
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_label(const char *value, size_t length)
{
    if (length == 0 || length > 63 || !is_alnum(value[0]) || !is_alnum(value[length - 1]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_alnum(value[i]) && value[i] != '-')
            return false;
    return true;
}

bool atl_format_dns_name(const char *value, size_t length)
{
    if (length > 253)
        return false;
    const char *end = value + length;
    for (const char *at = value;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const char *label_end = dot == NULL ? end : dot;
        if (!is_label(at, (size_t)(label_end - at)))
            return false;
        if (dot == NULL)
            return true;
        at = dot + 1;
    }
}

bool atl_format_address(const char *value, size_t length)
{
    return atl_format_ip(value, length) || atl_format_dns_name(value, length);
}

bool atl_format_portal(const char *value, size_t length)
{
    if (atl_format_address(value, length))
        return true;
    const char *colon = memrchr(value, ':', length);
    if (colon == NULL)
        return false;
    const char *port = colon + 1;
    size_t digits = (size_t)(value + length - port);
    if (digits == 0 || digits > 5)
        return false;
    for (size_t i = 0; i < digits; i++)
        if (port[i] < '0' || port[i] > '9')
            return false;
    if (value[0] == '[' && colon > value + 1 && colon[-1] == ']')
        return atl_format_ipv6(value + 1, (size_t)(colon - value) - 2);
    return atl_format_address(value, (size_t)(colon - value));
}

bool atl_format_ip_or_ll(const char *value, size_t length)
{
    const char *percent = memchr(value, '%', length);
    if (percent == NULL)
        return atl_format_ip(value, length);
    const char *iface = percent + 1;
    size_t iface_length = (size_t)(value + length - iface);
    if (iface_length == 0 || iface_length > 15 || length < 4 || memcmp(value, "fe80", 4) != 0)
        return false;
    for (size_t i = 0; i < iface_length; i++)
        if (!is_alnum(iface[i]) && strchr("_.-", iface[i]) == NULL)
            return false;
    return atl_format_ipv6(value, (size_t)(percent - value));
}

static bool is_word(const char *value, size_t length, const char *word)
{
    return length == strlen(word) && memcmp(value, word, length) == 0;
}

bool atl_format_ipv4_config(const char *value, size_t length)
{
    return is_word(value, length, "dhcp") || is_word(value, length, "manual") ||
           atl_format_cidr4(value, length);
}

bool atl_format_ipv6_config(const char *value, size_t length)
{
    return is_word(value, length, "auto") || is_word(value, length, "dhcp") ||
           is_word(value, length, "manual") || atl_format_cidr6(value, length);
}
