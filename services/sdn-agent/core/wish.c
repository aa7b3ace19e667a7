/* Reading wishes out of the interfaces file, ports out of guests' configurations, and writing texts; see
 * plan.h. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/plan.h"

static uint32_t ipv4(const struct sdn_address *address)
{
    return (uint32_t)address->bytes[0] << 24 | (uint32_t)address->bytes[1] << 16 |
           (uint32_t)address->bytes[2] << 8 | address->bytes[3];
}

static uint32_t mask_of(const struct sdn_address *address)
{
    return address->prefix == 0 ? 0 : UINT32_MAX << (32 - address->prefix);
}

static const char *dotted(uint32_t address, struct atl_arena *arena)
{
    return atl_arena_format(arena, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255,
                            address & 255);
}

static const struct sdn_address *first_ipv4(const struct sdn_wish *wish)
{
    for (size_t i = 0; i < wish->address_count; i++) {
        if (wish->addresses[i].family == SDN_INET)
            return &wish->addresses[i];
    }
    return NULL;
}

static void problem(struct sdn_wishes *wishes, const char *text)
{
    if (wishes->problem_count < SDN_WISHES_MAX)
        wishes->problems[wishes->problem_count++] = text;
}

static void read_addresses(const struct sdn_iface *iface, struct atl_arena *arena, struct sdn_wish *wish,
                           struct sdn_wishes *wishes)
{
    for (size_t i = 0; i < iface->stanza_count; i++) {
        const struct sdn_stanza *stanza = &iface->stanzas[i];
        for (size_t k = 0; k < stanza->option_count; k++) {
            const struct sdn_option *option = &stanza->options[k];
            struct sdn_address address;
            if (strcmp(option->key, "address") != 0 || wish->address_count == SDN_ADDRESSES_MAX)
                continue;
            if (sdn_address_parse(option->value, sdn_stanza_get(stanza, "netmask"), &address, NULL) == ATL_OK)
                wish->addresses[wish->address_count++] = address;
            else
                problem(wishes,
                        atl_arena_format(arena, "%s: '%s' is no address", iface->name, option->value));
        }
    }
}

static bool range_ok(const struct sdn_wish *wish, const struct sdn_address *own)
{
    uint32_t net = ipv4(own) & mask_of(own);
    uint32_t last = net | ~mask_of(own);
    uint32_t from = ipv4(&wish->dhcp_first);
    uint32_t to = ipv4(&wish->dhcp_last);
    bool holds_own = from <= ipv4(own) && ipv4(own) <= to;
    return from <= to && from > net && to < last && !holds_own;
}

static void read_dhcp(const struct sdn_iface *iface, struct atl_arena *arena, struct sdn_wish *wish,
                      struct sdn_wishes *wishes)
{
    const char *range = sdn_iface_get(iface, "atoll-dhcp-range");
    const char *lease = sdn_iface_get(iface, "atoll-dhcp-lease");
    const struct sdn_address *own = first_ipv4(wish);
    if (range == NULL)
        return;
    size_t length = strcspn(range, " \t,");
    const char *first = atl_arena_strndup(arena, range, length);
    const char *last = range + length + strspn(range + length, " \t,");
    bool good = own != NULL && strpbrk(last, " \t,/") == NULL && strchr(first, '/') == NULL &&
                sdn_address_parse(first, NULL, &wish->dhcp_first, NULL) == ATL_OK &&
                sdn_address_parse(last, NULL, &wish->dhcp_last, NULL) == ATL_OK &&
                wish->dhcp_first.family == SDN_INET && wish->dhcp_last.family == SDN_INET &&
                range_ok(wish, own);
    if (!good) {
        problem(wishes,
                atl_arena_format(arena,
                                 "%s: atoll-dhcp-range '%s' must be two addresses of the bridge's network, "
                                 "first and last, without the bridge's own",
                                 iface->name, range));
        return;
    }
    char *end = NULL;
    unsigned long seconds = lease != NULL ? strtoul(lease, &end, 10) : 3600;
    if (lease != NULL && (*end != '\0' || seconds < 120 || seconds > 365UL * 86400)) {
        problem(wishes, atl_arena_format(arena, "%s: atoll-dhcp-lease '%s' must be 120 to 31536000 seconds",
                                         iface->name, lease));
        seconds = 3600;
    }
    wish->dhcp = true;
    wish->lease_seconds = (uint32_t)seconds;
}

static void read_wish(const struct sdn_iface *iface, const char *ports, struct atl_arena *arena,
                      struct sdn_wishes *wishes)
{
    struct sdn_wish *wish = &wishes->wishes[wishes->count];
    const char *mtu = sdn_iface_get(iface, "mtu");
    const char *nat = sdn_iface_get(iface, "atoll-nat");
    *wish = (struct sdn_wish){0};
    (void)atl_copy(wish->name, sizeof wish->name, iface->name);
    wish->make = iface->autostart && (ports[0] == '\0' || strcmp(ports, "none") == 0);
    read_addresses(iface, arena, wish, wishes);
    unsigned long bytes = mtu != NULL ? strtoul(mtu, NULL, 10) : 0;
    if (mtu != NULL && (bytes < 576 || bytes > 65535))
        problem(wishes, atl_arena_format(arena, "%s: mtu '%s' must be 576 to 65535", iface->name, mtu));
    else
        wish->mtu = (uint32_t)bytes;
    wish->nat = nat != NULL && sdn_word_is_yes(nat);
    if (wish->nat && first_ipv4(wish) == NULL) {
        problem(wishes,
                atl_arena_format(arena, "%s: atoll-nat needs an IPv4 address of the bridge", iface->name));
        wish->nat = false;
    }
    read_dhcp(iface, arena, wish, wishes);
    wishes->count++;
}

void sdn_wishes_read(const struct sdn_file *file, struct atl_arena *arena, struct sdn_wishes *ret_wishes)
{
    ret_wishes->count = 0;
    ret_wishes->problem_count = 0;
    for (size_t i = 0; i < file->count; i++) {
        const char *ports = sdn_iface_get(&file->ifaces[i], "bridge-ports");
        if (ports == NULL)
            continue;
        if (ret_wishes->count == SDN_WISHES_MAX) {
            problem(ret_wishes, atl_arena_format(arena, "there are more than %d bridges", SDN_WISHES_MAX));
            return;
        }
        read_wish(&file->ifaces[i], ports, arena, ret_wishes);
    }
}

/* --- ports of guests --- */

/* The value of key in "a=b,c=d": its start and length; NULL: not there. */
static const char *part_of(const char *value, size_t length, const char *key, size_t *ret_length)
{
    size_t key_length = strlen(key);
    const char *end = value + length;
    for (const char *at = value; at < end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        size_t size = comma != NULL ? (size_t)(comma - at) : (size_t)(end - at);
        if (size > key_length && memcmp(at, key, key_length) == 0 && at[key_length] == '=') {
            *ret_length = size - key_length - 1;
            return at + key_length + 1;
        }
        at += size + 1;
    }
    return NULL;
}

static void read_port(const char *line, size_t length, uint32_t vmid, bool container, struct atl_arena *arena,
                      struct sdn_ports *ports)
{
    unsigned int index = 0;
    int used = 0;
    size_t size = 0;
    char head[16];
    (void)snprintf(head, sizeof head, "%.*s", (int)(length < sizeof head ? length : sizeof head - 1), line);
    if (sscanf(head, "net%2u: %n", &index, &used) != 1 || used == 0 || ports->count >= SDN_PORTS_MAX)
        return;
    const char *value = line + used;
    const char *bridge = part_of(value, length - (size_t)used, "bridge", &size);
    if (bridge == NULL || !sdn_name_ok(bridge, size))
        return;
    ports->ports = atl_arena_grow(arena, ports->ports, ports->count, &ports->capacity, sizeof *ports->ports);
    struct sdn_port *port = &ports->ports[ports->count++];
    *port = (struct sdn_port){0};
    memcpy(port->bridge, bridge, size);
    (void)snprintf(port->name, sizeof port->name, "%s%ui%u", container ? "veth" : "tap", vmid % 1000000000,
                   index);
    const char *down = part_of(value, length - (size_t)used, "link_down", &size);
    port->link_down = down != NULL && size == 1 && down[0] == '1';
}

void sdn_ports_read(const char *text, size_t length, uint32_t vmid, bool container, struct atl_arena *arena,
                    struct sdn_ports *ports)
{
    const char *end = text + length;
    for (const char *at = text;
         at < end && *at != '[';) { /* sections of snapshots and pending changes follow */
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t size = stop != NULL ? (size_t)(stop - at) : (size_t)(end - at);
        if (size > 4 && memcmp(at, "net", 3) == 0)
            read_port(at, size, vmid, container, arena, ports);
        at += size + 1;
    }
}

/* --- texts --- */

const char *sdn_nat_text(const struct sdn_wishes *wishes, struct atl_arena *arena)
{
    const char *rules = "";
    for (size_t i = 0; i < wishes->count; i++) {
        const struct sdn_wish *wish = &wishes->wishes[i];
        const struct sdn_address *own = first_ipv4(wish);
        if (!wish->nat || own == NULL)
            continue;
        const char *net = dotted(ipv4(own) & mask_of(own), arena);
        rules = atl_arena_format(arena, "%s\t\tip saddr %s/%u oifname != \"%s\" masquerade\n", rules, net,
                                 own->prefix, wish->name);
    }
    if (*rules == '\0')
        return NULL;
    return atl_arena_format(arena,
                            "table ip atoll_nat {\n\tchain postrouting {\n"
                            "\t\ttype nat hook postrouting priority srcnat; policy accept;\n%s\t}\n}\n",
                            rules);
}

const char *sdn_dhcp_text(const struct sdn_wish *wish, int link, const struct sdn_dhcp_paths *paths,
                          struct atl_arena *arena)
{
    const struct sdn_address *own = first_ipv4(wish);
    atl_assert(own != NULL);
    return atl_arena_format(arena,
                            "# made by atoll-sdn-agent for bridge %s, link %d\n"
                            "interface=%s\n"
                            "bind-interfaces\n"
                            "except-interface=lo\n"
                            "listen-address=%s\n"
                            "pid-file=%s/dnsmasq-%s.pid\n"
                            "dhcp-leasefile=%s/dnsmasq-%s.leases\n"
                            "dhcp-range=%s,%s,%s,%u\n"
                            "dhcp-authoritative\n"
                            "dhcp-option=option:router,%s\n"
                            "no-hosts\n"
                            "domain-needed\n"
                            "bogus-priv\n",
                            wish->name, link, wish->name, own->text, paths->run, wish->name, paths->state,
                            wish->name, wish->dhcp_first.text, wish->dhcp_last.text,
                            dotted(mask_of(own), arena), wish->lease_seconds, own->text);
}

/* --- leases --- */

static bool lease_of(const char *line, struct sdn_lease *ret_lease)
{
    struct sdn_lease lease = {0};
    long long expires = 0;
    uint8_t bytes[4];
    if (sscanf(line, "%18lld %17s %15s %63s", &expires, lease.mac, lease.address, lease.hostname) != 4 ||
        strlen(lease.mac) != 17 || inet_pton(AF_INET, lease.address, bytes) != 1 || expires < 0)
        return false;
    for (char *at = lease.mac; *at != '\0'; at++) {
        bool upper = *at >= 'A' && *at <= 'F';
        if (upper)
            *at = (char)(*at - 'A' + 'a');
        if (strchr("0123456789abcdef:", *at) == NULL)
            return false;
    }
    if (strcmp(lease.hostname, "*") == 0)
        lease.hostname[0] = '\0';
    for (char *at = lease.hostname; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x21 || (unsigned char)*at > 0x7e)
            *at = '?'; /* a guest says its name itself */
    }
    lease.expires = expires;
    *ret_lease = lease;
    return true;
}

static int by_address(const void *a, const void *b)
{
    uint8_t left[4] = {0};
    uint8_t right[4] = {0};
    (void)inet_pton(AF_INET, ((const struct sdn_lease *)a)->address, left); /* checked by lease_of() */
    (void)inet_pton(AF_INET, ((const struct sdn_lease *)b)->address, right);
    return memcmp(left, right, sizeof left);
}

void sdn_leases_read(const char *text, size_t length, int64_t now, struct atl_arena *arena,
                     struct sdn_lease **ret_leases, size_t *ret_count)
{
    struct sdn_lease *leases = NULL;
    size_t count = 0;
    size_t capacity = 0;
    const char *end = text + length;
    for (const char *at = text; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t size = stop != NULL ? (size_t)(stop - at) : (size_t)(end - at);
        struct sdn_lease lease;
        char line[256];
        if (size < sizeof line) {
            memcpy(line, at, size);
            line[size] = '\0';
            bool alive = lease_of(line, &lease) && (now == 0 || lease.expires == 0 || lease.expires > now);
            if (alive && count < 65536) {
                leases = atl_arena_grow(arena, leases, count, &capacity, sizeof *leases);
                leases[count++] = lease;
            }
        }
        at += size + 1;
    }
    if (count > 1)
        qsort(leases, count, sizeof *leases, by_address);
    *ret_leases = leases;
    *ret_count = count;
}
