/* Network files inside a container: ifupdown (Debian, Alpine), systemd-networkd (Arch, Fedora), ifcfg
 * (CentOS). */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "core/lxc_setup.h"
#include "pure/buf.h"

enum family { FAMILY_NONE, FAMILY_IFUPDOWN, FAMILY_NETWORKD, FAMILY_IFCFG };

static enum family family_of(const char *ostype)
{
    static const struct {
        const char *ostype;
        enum family family;
    } table[] = {
        {"debian", FAMILY_IFUPDOWN},    {"devuan", FAMILY_IFUPDOWN}, {"ubuntu", FAMILY_IFUPDOWN},
        {"alpine", FAMILY_IFUPDOWN},    {"fedora", FAMILY_NETWORKD}, {"centos", FAMILY_IFCFG},
        {"archlinux", FAMILY_NETWORKD},
    };
    for (size_t i = 0; i < ATL_COUNT(table); i++)
        if (strcmp(ostype, table[i].ostype) == 0)
            return table[i].family;
    return FAMILY_NONE;
}

static bool is(const char *value, const char *word)
{
    return value != NULL && strcmp(value, word) == 0;
}

static bool fixed(const char *ip)
{
    return ip != NULL && !is(ip, "dhcp") && !is(ip, "auto") && !is(ip, "manual");
}

/* Does gw lie in net ("10.0.0.5/24")? Text that is no address counts as inside: the guest will say. */
static bool inside(const char *net, const char *gw, unsigned int family_bits)
{
    uint8_t a[16];
    uint8_t b[16];
    char address[64];
    size_t length = strcspn(net, "/");
    if (length >= sizeof address || net[length] != '/')
        return true;
    memcpy(address, net, length);
    address[length] = '\0';
    int family = family_bits == 32 ? AF_INET : AF_INET6;
    unsigned long bits = strtoul(net + length + 1, NULL, 10);
    if (inet_pton(family, address, a) != 1 || inet_pton(family, gw, b) != 1 || bits > family_bits)
        return true;
    size_t whole = bits / 8;
    if (memcmp(a, b, whole) != 0)
        return false;
    uint8_t mask = (uint8_t)(0xff00 >> (bits % 8));
    return bits % 8 == 0 || (a[whole] & mask) == (b[whole] & mask);
}

static char *given(struct atl_arena *arena, struct atl_buf *text)
{
    char *copy = atl_arena_strdup(arena, text->data != NULL ? text->data : "");
    atl_buf_done(text);
    return copy;
}

/* --- ifupdown ----------------------------------------------------------------------------------------------
 */

static void ifupdown_v4(struct atl_buf *out, const Atoll__Lxc__V1__SetupNet *net)
{
    if (is(net->ip, "dhcp")) {
        atl_buf_printf(out, "iface %s inet dhcp\n", net->name);
    } else if (fixed(net->ip)) {
        atl_buf_printf(out, "iface %s inet static\n\taddress %s\n", net->name, net->ip);
        if (net->gw != NULL &&
            !inside(net->ip, net->gw, 32)) { /* a gateway off the link needs its own route */
            atl_buf_printf(out, "\tpost-up ip route add %s dev %s\n", net->gw, net->name);
            atl_buf_printf(out, "\tpost-up ip route add default via %s dev %s\n", net->gw, net->name);
            atl_buf_printf(out, "\tpre-down ip route del default via %s dev %s\n", net->gw, net->name);
            atl_buf_printf(out, "\tpre-down ip route del %s dev %s\n", net->gw, net->name);
        } else if (net->gw != NULL) {
            atl_buf_printf(out, "\tgateway %s\n", net->gw);
        }
    } else {
        atl_buf_printf(out, "iface %s inet manual\n", net->name);
    }
    atl_buf_char(out, '\n');
}

static void ifupdown_v6(struct atl_buf *out, const Atoll__Lxc__V1__SetupNet *net)
{
    if (is(net->ip6, "auto") || is(net->ip6, "dhcp")) {
        atl_buf_printf(out, "iface %s inet6 %s\n\n", net->name, net->ip6);
    } else if (fixed(net->ip6)) {
        atl_buf_printf(out, "iface %s inet6 static\n\taddress %s\n", net->name, net->ip6);
        if (net->gw6 != NULL)
            atl_buf_printf(out, "\tgateway %s\n", net->gw6);
        atl_buf_char(out, '\n');
    }
}

/* Is `word` (length bytes) one of our interfaces, or "lo"? */
static bool ours(const Atoll__Lxc__V1__Setup *setup, const char *word, size_t length)
{
    for (size_t i = 0; i < setup->n_net; i++)
        if (strlen(setup->net[i]->name) == length && strncmp(setup->net[i]->name, word, length) == 0)
            return true;
    return length == 2 && strncmp(word, "lo", 2) == 0;
}

/* Copies what others wrote into the file: every stanza that is not about one of our interfaces. */
static void ifupdown_rest(const Atoll__Lxc__V1__Setup *setup, const char *old, struct atl_buf *out)
{
    bool skip = false;
    for (const char *line = old; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        size_t blank = strspn(line, " \t");
        size_t word = strcspn(line, " \t\n");
        bool head = blank == 0 && length > 0;
        bool names = head && ((word == 5 && strncmp(line, "iface", 5) == 0) ||
                              (word == 4 && strncmp(line, "auto", 4) == 0) ||
                              (word == 13 && strncmp(line, "allow-hotplug", 13) == 0));
        if (names) {
            const char *name = line + word + strspn(line + word, " \t");
            skip = ours(setup, name, strcspn(name, " \t\n"));
        } else if (head) {
            skip = false;
        }
        if (!skip && (length > 0 || (out->length > 1 && out->data[out->length - 2] != '\n'))) {
            atl_buf_add(out, line, length);
            atl_buf_char(out, '\n');
        }
        line += length + (line[length] == '\n' ? 1 : 0);
    }
}

static const char *ifupdown_text(const Atoll__Lxc__V1__Setup *setup, const char *old, struct atl_arena *arena)
{
    struct atl_buf text = {0};
    atl_buf_text(&text, "auto lo\niface lo inet loopback\niface lo inet6 loopback\n\n");
    for (size_t i = 0; i < setup->n_net; i++) {
        atl_buf_printf(&text, "auto %s\n", setup->net[i]->name);
        ifupdown_v4(&text, setup->net[i]);
        ifupdown_v6(&text, setup->net[i]);
    }
    if (old != NULL)
        ifupdown_rest(setup, old, &text);
    while (text.length > 1 && text.data[text.length - 2] == '\n')
        text.data[--text.length] = '\0';
    return given(arena, &text);
}

/* --- systemd-networkd --------------------------------------------------------------------------------------
 */

static const char *networkd_text(const Atoll__Lxc__V1__SetupNet *net, struct atl_arena *arena)
{
    struct atl_buf text = {0};
    bool v4 = is(net->ip, "dhcp");
    bool v6 = is(net->ip6, "dhcp");
    atl_buf_printf(&text, "[Match]\nName = %s\n\n[Network]\nDescription = Interface %s, by Atoll\n",
                   net->name, net->name);
    atl_buf_printf(&text, "DHCP = %s\n", v4 && v6 ? "yes" : v4 ? "ipv4" : v6 ? "ipv6" : "no");
    atl_buf_printf(&text, "IPv6AcceptRA = %s\n", is(net->ip6, "auto") || v6 ? "true" : "false");
    if (fixed(net->ip))
        atl_buf_printf(&text, "Address = %s\n", net->ip);
    if (fixed(net->ip6))
        atl_buf_printf(&text, "Address = %s\n", net->ip6);
    if (fixed(net->ip) && net->gw != NULL)
        atl_buf_printf(&text, "\n[Route]\nGateway = %s\n%s", net->gw,
                       inside(net->ip, net->gw, 32) ? "" : "GatewayOnLink = true\n");
    if (fixed(net->ip6) && net->gw6 != NULL)
        atl_buf_printf(&text, "\n[Route]\nGateway = %s\n%s", net->gw6,
                       inside(net->ip6, net->gw6, 128) ? "" : "GatewayOnLink = true\n");
    return given(arena, &text);
}

/* --- ifcfg -------------------------------------------------------------------------------------------------
 */

static const char *ifcfg_text(const Atoll__Lxc__V1__SetupNet *net, struct atl_arena *arena)
{
    struct atl_buf text = {0};
    atl_buf_printf(&text, "DEVICE=%s\nONBOOT=yes\n", net->name);
    if (fixed(net->ip)) {
        size_t address = strcspn(net->ip, "/");
        atl_buf_printf(&text, "BOOTPROTO=none\nIPADDR=%.*s\nPREFIX=%s\n", (int)address, net->ip,
                       net->ip[address] == '/' ? net->ip + address + 1 : "32");
        if (net->gw != NULL)
            atl_buf_printf(&text, "GATEWAY=%s\n", net->gw);
    } else {
        atl_buf_printf(&text, "BOOTPROTO=%s\n", is(net->ip, "dhcp") ? "dhcp" : "none");
    }
    if (is(net->ip6, "auto"))
        atl_buf_text(&text, "IPV6INIT=yes\nIPV6_AUTOCONF=yes\n");
    else if (is(net->ip6, "dhcp"))
        atl_buf_text(&text, "IPV6INIT=yes\nDHCPV6C=yes\n");
    else if (fixed(net->ip6))
        atl_buf_printf(&text, "IPV6INIT=yes\nIPV6ADDR=%s\n", net->ip6);
    if (fixed(net->ip6) && net->gw6 != NULL)
        atl_buf_printf(&text, "IPV6_DEFAULTGW=%s\n", net->gw6);
    return given(arena, &text);
}

/* --- which
 * --------------------------------------------------------------------------------------------------- */

static const char *path_of(enum family family, const char *name, struct atl_arena *arena)
{
    if (family == FAMILY_NETWORKD)
        return atl_arena_format(arena, "/etc/systemd/network/%s.network", name);
    return atl_arena_format(arena, "/etc/sysconfig/network-scripts/ifcfg-%s", name);
}

size_t cmp_lxc_setup_net_files(const Atoll__Lxc__V1__Setup *setup, struct atl_arena *arena,
                               struct cmp_lxc_file *files, size_t room)
{
    enum family family = family_of(setup->ostype);
    if (family == FAMILY_NONE || setup->n_net == 0)
        return 0;
    if (family == FAMILY_IFUPDOWN) {
        files[0] =
            (struct cmp_lxc_file){.path = "/etc/network/interfaces", .folder = "/etc/network", .mode = 0644};
        return 1;
    }
    const char *folder =
        family == FAMILY_NETWORKD ? "/etc/systemd/network" : "/etc/sysconfig/network-scripts";
    size_t count = 0;
    for (size_t i = 0; i < setup->n_net && count < room; i++)
        files[count++] = (struct cmp_lxc_file){
            .path = path_of(family, setup->net[i]->name, arena), .folder = folder, .mode = 0644};
    return count;
}

const char *cmp_lxc_setup_net_text(const Atoll__Lxc__V1__Setup *setup, const char *path, const char *old,
                                   struct atl_arena *arena)
{
    enum family family = family_of(setup->ostype);
    if (family == FAMILY_IFUPDOWN)
        return ifupdown_text(setup, old, arena);
    for (size_t i = 0; family != FAMILY_NONE && i < setup->n_net; i++) {
        if (strcmp(path, path_of(family, setup->net[i]->name, arena)) != 0)
            continue;
        return family == FAMILY_NETWORKD ? networkd_text(setup->net[i], arena)
                                         : ifcfg_text(setup->net[i], arena);
    }
    return NULL;
}
