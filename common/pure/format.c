/* The table of named checks, and lists and optional values of them. */
#include "pure/format.h"

#include <stdlib.h>
#include <string.h>

#include "pure/pattern.h"

struct format {
    const char *name;
    const char *pattern;
    bool (*check)(const char *value, size_t length); /* where there is no pattern */
    const char *wants;
};

/* In the order of strcmp(), for bsearch(). */
static const struct format formats[] = {
    {"CIDR", NULL, atl_format_cidr, "a network, as 10.0.0.0/24"},
    {"CIDRv4", NULL, atl_format_cidr4, "an IPv4 network, as 10.0.0.0/24"},
    {"CIDRv6", NULL, atl_format_cidr6, "an IPv6 network, as fd00::/64"},
    {"FullRangeCIDR", NULL, atl_format_cidr_any, "a network, as 0.0.0.0/0"},
    {"IPorCIDR", NULL, atl_format_ip_or_cidr, "an IP address or a network"},
    {"IPorCIDRorAlias",
     "(?:(?:dc|guest)/)?[A-Za-z][A-Za-z0-9_-]+|[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?(?:-[0-9A-Fa-f:.]+)?", NULL,
     "an IP address, a network or an alias"},
    {"address", NULL, atl_format_address, "an IP address or a DNS name"},
    {"bridge-pair", "1|[\\w.-]+(?::[\\w.-]+)?", NULL, "a bridge, a pair SOURCE:TARGET or 1"},
    {"disk-size", "[0-9]+(?:\\.[0-9]+)?[KMGT]?", NULL, "a size, as 32G"},
    {"dns-name", NULL, atl_format_dns_name, "a DNS name"},
    {"email", "[\\w+~-]+(?:\\.[\\w+~-]+)*@[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)*", NULL, "an email address"},
    {"email-or-username",
     "[\\w+~-]+(?:\\.[\\w+~-]+)*@[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)*|(?=.{1,64}$)[^\\s:/"
     "]+@[A-Za-z][A-Za-z0-9._-]+",
     NULL, "an email address or a user id"},
    {"graphite-path", "[A-Za-z0-9_.-]+", NULL, "a path of letters, digits and dots"},
    {"ip", NULL, atl_format_ip, "an IP address"},
    {"ipv4", NULL, atl_format_ipv4, "an IPv4 address"},
    {"ipv4mask", NULL, atl_format_ipv4_mask, "an IPv4 netmask"},
    {"ipv6", NULL, atl_format_ipv6, "an IPv6 address"},
    {"ldap-simple-attr", "[A-Za-z0-9-]+", NULL, "an attribute name"},
    {"lxc-ip-with-ll-iface", NULL, atl_format_ip_or_ll, "an IP address, or a link-local one with %interface"},
    {"mac-addr", "[0-9A-Fa-f][02468ACEace](?::[0-9A-Fa-f]{2}){5}", NULL,
     "a unicast MAC address, as BC:24:11:00:00:01"},
    {"mac-prefix", "[0-9A-Fa-f][02468ACEace](?::[0-9A-Fa-f]{2}){0,2}:?", NULL,
     "a unicast MAC prefix, as BC:24:11"},
    {"pem-certificate", "\\s*-----BEGIN [A-Z0-9 ]+-----[\\s\\S]*-----END [A-Z0-9 ]+-----\\s*", NULL,
     "PEM text"},
    {"pem-certificate-chain", "\\s*-----BEGIN [A-Z0-9 ]+-----[\\s\\S]*-----END [A-Z0-9 ]+-----\\s*", NULL,
     "PEM text"},
    {"pem-string", "\\s*-----BEGIN [A-Z0-9 ]+-----[\\s\\S]*-----END [A-Z0-9 ]+-----\\s*", NULL, "PEM text"},
    {"pve-acme-alias", "(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\\.)+[A-Za-z0-9-]+", NULL,
     "a domain name"},
    {"pve-acme-domain", "(?:\\*\\.)?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\\.)+[A-Za-z0-9-]+", NULL,
     "a domain name"},
    {"pve-bridge-id", "[A-Za-z0-9_.-]{1,15}", NULL, "a bridge name"},
    {"pve-calendar-event", "[A-Za-z0-9*/:.,~ -]{1,128}", NULL, "a calendar event, as mon..fri 02:30"},
    {"pve-command-batch", "\\s*\\[[\\s\\S]*\\]\\s*", NULL, "a JSON array of commands"},
    {"pve-configid", "[A-Za-z][A-Za-z0-9_-]+", NULL,
     "a configuration id (a letter, then at least one more letter, digit, '-' or '_')"},
    {"pve-cpuset", "[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*", NULL, "a list of CPUs, as 0,5,8-11"},
    {"pve-ct-timezone", "host|[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}", NULL,
     "host or a time zone, as Europe/Vienna"},
    {"pve-day-of-week", "mon|tue|wed|thu|fri|sat|sun", NULL, "a day, as mon"},
    {"pve-dir-override", "(?!.*[=/]\\.\\.(?:/|$))[a-z]+=/?[A-Za-z0-9_./@-]+", NULL,
     "CONTENT=FOLDER, without '..'"},
    {"pve-fw-addr-spec", "\\+?[A-Za-z0-9_.:/,+-]{1,512}", NULL, "addresses, networks, an alias or +ipset"},
    {"pve-fw-conntrack-helper", "amanda|ftp|irc|netbios-ns|pptp|sane|sip|snmp|tftp", NULL,
     "a connection tracking helper"},
    {"pve-fw-dport-spec", "[A-Za-z0-9-]+(?::[0-9]+)?(?:,[A-Za-z0-9-]+(?::[0-9]+)?)*", NULL,
     "ports, names or ranges FIRST:LAST"},
    {"pve-fw-icmp-type-spec", "[a-z0-9/-]{1,64}", NULL, "an ICMP type"},
    {"pve-fw-protocol-spec", "[a-z0-9.-]{1,32}", NULL, "a protocol name or number"},
    {"pve-fw-sport-spec", "[A-Za-z0-9-]+(?::[0-9]+)?(?:,[A-Za-z0-9-]+(?::[0-9]+)?)*", NULL,
     "ports, names or ranges FIRST:LAST"},
    {"pve-groupid", "[A-Za-z0-9._-]+", NULL, "a group id (letters, digits, '.', '-' and '_')"},
    {"pve-ha-node", "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?::[0-9]+)?", NULL,
     "a node with or without :PRIORITY"},
    {"pve-ha-resource-id", "(?:vm|ct):[1-9][0-9]{2,8}|[a-z]+:[A-Za-z0-9_.-]+", NULL,
     "a resource id, as vm:100"},
    {"pve-ha-resource-or-vm-id", "[1-9][0-9]{2,8}|[a-z]+:[A-Za-z0-9_.-]+", NULL,
     "a guest id or a resource id, as vm:100"},
    {"pve-hotplug-features",
     "[01]|(?:network|disk|cpu|memory|usb|cloudinit)(?:[,; ]+(?:network|disk|cpu|memory|usb|cloudinit))*",
     NULL, "0, 1 or a list of network, disk, cpu, memory, usb, cloudinit"},
    {"pve-iface", "[A-Za-z][A-Za-z0-9_]{1,20}(?:[:.][0-9]+)?", NULL, "a network interface name"},
    {"pve-ipv4-config", NULL, atl_format_ipv4_config, "dhcp, manual or an IPv4 network, as 10.0.0.2/24"},
    {"pve-ipv6-config", NULL, atl_format_ipv6_config, "auto, dhcp, manual or an IPv6 network, as fd00::2/64"},
    {"pve-lxc-dev-string", "(?!.*/\\.\\.?(?:/|$))/dev/[^,\\s\\x00-\\x1f\\x7f]+", NULL, "a path below /dev"},
    {"pve-lxc-mp-string", "(?!.*/\\.\\.?(?:/|$))/[^,\\x00-\\x1f\\x7f]+", NULL,
     "an absolute path without '.' and '..'"},
    {"pve-node", "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", NULL,
     "a node name (letters, digits and hyphens)"},
    {"pve-phys-bits", "host|[89]|[1-5][0-9]|6[0-4]", NULL, "host or a number between 8 and 64"},
    {"pve-poolid", "[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+){0,2}", NULL, "a pool id of at most three levels"},
    {"pve-priv", "[A-Z][A-Za-z]+(?:\\.[A-Z][A-Za-z]+){1,2}", NULL, "a privilege, as VM.Audit"},
    {"pve-qm-bootdev", "(?:net|ide|sata|scsi|virtio|usb|hostpci)[0-9]+", NULL,
     "a boot device, as scsi0 or net0"},
    {"pve-qm-bootdisk", "(?:ide|sata|scsi|virtio)[0-9]+", NULL, "a disk, as scsi0"},
    {"pve-realm", "(?=.{2,32}$)[A-Za-z][A-Za-z0-9._-]+", NULL,
     "a realm (2 to 32 letters, digits, '.', '-' and '_')"},
    {"pve-replication-job-id", "[1-9][0-9]{2,8}-[0-9]{1,9}", NULL, "a job id, as 100-0"},
    {"pve-roleid", "[A-Za-z0-9._-]+", NULL, "a role id (letters, digits, '.', '-' and '_')"},
    {"pve-sdn-bgp-rt", "[0-9]+:[0-9]+", NULL, "a route target, as 65000:100"},
    {"pve-sdn-controller-id", "[a-z][a-z0-9_-]*[a-z0-9]", NULL, "an id of small letters and digits"},
    {"pve-sdn-dns-id", "[a-z][a-z0-9_-]*[a-z0-9]", NULL, "an id of small letters and digits"},
    {"pve-sdn-fabric-id", "[a-z][a-z0-9]{0,6}[a-z0-9]", NULL, "an id of small letters and digits"},
    {"pve-sdn-ipam-id", "[a-z][a-z0-9_-]*[a-z0-9]", NULL, "an id of small letters and digits"},
    {"pve-sdn-isis-net", "[A-Fa-f0-9]{2}(?:\\.[A-Fa-f0-9]{4}){3,9}\\.[A-Fa-f0-9]{2}", NULL,
     "an IS-IS network entity title"},
    {"pve-sdn-prefix-list-id", "[A-Za-z][A-Za-z0-9_-]*[A-Za-z0-9]", NULL,
     "an id of letters, digits, '-' and '_'"},
    {"pve-sdn-route-map-id", "[A-Za-z][A-Za-z0-9_-]*[A-Za-z0-9]", NULL,
     "an id of letters, digits, '-' and '_'"},
    {"pve-sdn-subnet-id", "[a-z0-9]+-[0-9A-Fa-f:.]+-[0-9]{1,3}|[0-9A-Fa-f:.]+/[0-9]{1,3}", NULL,
     "a subnet id"},
    {"pve-sdn-vnet-id", "[a-z][a-z0-9]{0,6}[a-z0-9]", NULL, "an id of small letters and digits"},
    {"pve-sdn-zone-id", "[a-z][a-z0-9]{0,6}[a-z0-9]", NULL, "an id of small letters and digits"},
    {"pve-startup-order",
     "(?:order=[0-9]+|[0-9]+|up=[0-9]+|down=[0-9]+)(?:,(?:order=[0-9]+|[0-9]+|up=[0-9]+|down=[0-9]+))*", NULL,
     "order=N, up=SECONDS and down=SECONDS, separated by commas"},
    {"pve-storage-content", "images|rootdir|vztmpl|iso|backup|snippets|import|none", NULL,
     "one of images, rootdir, vztmpl, iso, backup, snippets, import, none"},
    {"pve-storage-id", "[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]", NULL,
     "a storage id (a letter, then letters, digits, '-', '_' and '.')"},
    {"pve-storage-options", "[^\\s\\x00-\\x1f\\x7f]+", NULL, "mount options without blanks"},
    {"pve-storage-path", "(?!.*/\\.\\.(?:/|$))/[A-Za-z0-9_.@:+/-]*", NULL, "an absolute path without '..'"},
    {"pve-storage-path-in-property-string", "(?!.*/\\.\\.(?:/|$))/[A-Za-z0-9_.@:+/-]*", NULL,
     "an absolute path without '..'"},
    {"pve-storage-portal-dns", NULL, atl_format_portal, "an address with or without a port"},
    {"pve-storage-server", NULL, atl_format_address, "an IP address or a DNS name"},
    {"pve-storage-vgname", "[A-Za-z0-9_+.][A-Za-z0-9_+.-]*", NULL, "the name of a volume group"},
    {"pve-storage-zfs-blocksize", "[0-9]+[KM]?", NULL, "a block size, as 16K"},
    {"pve-tag", "[A-Za-z0-9_][A-Za-z0-9_+.-]*", NULL, "a tag (letters, digits, '_', '-', '+' and '.')"},
    {"pve-task-status-type", "ok|error|warning|unknown", NULL, "one of ok, error, warning, unknown"},
    {"pve-tokenid", "[^\\s:/!]+@[A-Za-z][A-Za-z0-9._-]+![A-Za-z][A-Za-z0-9._-]+", NULL,
     "a token id, as USER@REALM!NAME"},
    {"pve-userid", "(?=.{1,64}$)[^\\s:/]+@[A-Za-z][A-Za-z0-9._-]+", NULL, "a user id, as USER@REALM"},
    {"pve-vlan-id-or-range", "[0-9]{1,4}(?:-[0-9]{1,4})?", NULL, "a VLAN id or a range"},
    {"pve-vmid", "[1-9][0-9]{2,8}", NULL, "a guest id between 100 and 999999999"},
    {"pve-volume-id", "[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:[^\\s\\x00-\\x1f\\x7f][^\\x00-\\x1f\\x7f]*", NULL,
     "a volume id, as STORAGE:VOLUME"},
    {"pve-volume-id-or-absolute-path",
     "[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:[^\\s\\x00-\\x1f\\x7f][^\\x00-\\x1f\\x7f]*|/[^\\x00-\\x1f\\x7f]*",
     NULL, "a volume id, as STORAGE:VOLUME, or an absolute path"},
    {"pve-volume-id-or-qm-path",
     "none|cdrom|[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:[^\\s\\x00-\\x1f\\x7f][^\\x00-\\x1f\\x7f]*|/"
     "[^\\x00-\\x1f\\x7f]*",
     NULL, "a volume id, as STORAGE:VOLUME, an absolute path, cdrom or none"},
    {"storage-pair", "1|[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9](?::[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9])?", NULL,
     "a storage id, a pair SOURCE:TARGET or 1"},
    {"string", "[\\s\\S]*", NULL, "text"},
    {"urlencoded", "[A-Za-z0-9_.!~*'()%-]*", NULL, "URL-encoded text"},
};

enum { NAME_MAX_LENGTH = 63 };

static int compare_names(const void *name, const void *format)
{
    return strcmp(name, ((const struct format *)format)->name);
}

static const struct format *find(const char *name)
{
    return bsearch(name, formats, ATL_COUNT(formats), sizeof formats[0], compare_names);
}

struct found {
    const struct format *format;
    bool list;
    bool optional;
};

static const struct format *find_without(const char *name, const char *suffix)
{
    size_t length = strlen(name);
    size_t cut = strlen(suffix);
    char base[NAME_MAX_LENGTH + 1];
    if (length <= cut || length > NAME_MAX_LENGTH || strcmp(name + length - cut, suffix) != 0)
        return NULL;
    memcpy(base, name, length - cut);
    base[length - cut] = '\0';
    return find(base);
}

static struct found look_up(const char *name)
{
    struct found found = {.format = find(name)};
    if (found.format == NULL) {
        found.format = find_without(name, "-list");
        found.list = found.format != NULL;
    }
    if (found.format == NULL) {
        found.format = find_without(name, "-opt");
        found.optional = found.format != NULL;
    }
    return found;
}

bool atl_format_known(const char *name)
{
    return look_up(name).format != NULL;
}

static bool matches_one(const struct format *format, const char *value, size_t length)
{
    if (format->pattern != NULL)
        return atl_pattern_matches(format->pattern, value, length);
    return format->check(value, length);
}

static bool separates(char c)
{
    return c == ',' || c == ';' || c == ' ' || (c >= '\t' && c <= '\r');
}

static bool matches_each(const struct format *format, const char *value, size_t length)
{
    const char *end = value + length;
    for (const char *at = value; at < end;) {
        if (separates(*at)) {
            at++;
            continue;
        }
        const char *item = at;
        while (at < end && !separates(*at))
            at++;
        if (!matches_one(format, item, (size_t)(at - item)))
            return false;
    }
    return true;
}

bool atl_format_matches(const char *name, const char *value, size_t length, const char **ret_wants)
{
    struct found found = look_up(name);
    atl_assert(found.format != NULL);
    bool matches = false;
    if (found.list)
        matches = matches_each(found.format, value, length);
    else
        matches = (found.optional && length == 0) || matches_one(found.format, value, length);
    if (!matches)
        *ret_wants = found.format->wants;
    return matches;
}
