/* What cloud-init in the guest reads at its start. */
#include "core/cloudinit.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/domxml.h"
#include "pure/buf.h"

enum { SLOTS = 32 };

bool cmp_is_password_hash(const char *text)
{
    return strncmp(text, "$5$", 3) == 0 || strncmp(text, "$6$", 3) == 0 || strncmp(text, "$y$", 3) == 0 ||
           strncmp(text, "$2b$", 4) == 0;
}

/* A YAML text in single quotes: only the quote itself is special there; control bytes would end the line. */
static void yaml_text(struct atl_buf *out, const char *text)
{
    atl_buf_char(out, '\'');
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\'')
            atl_buf_char(out, '\'');
        atl_buf_char(out, (unsigned char)*at < 0x20 || *at == 0x7f ? ' ' : *at);
    }
    atl_buf_char(out, '\'');
}

static void yaml_line(struct atl_buf *out, const char *head, const char *text)
{
    if (text == NULL || text[0] == '\0')
        return;
    atl_buf_text(out, head);
    yaml_text(out, text);
    atl_buf_char(out, '\n');
}

/* Small guests read meta-data by lines, without YAML: names that need no quotes have none. */
static void meta_line(struct atl_buf *out, const char *head, const char *text)
{
    bool safe = text[0] != '\0';
    for (const char *at = text; *at != '\0'; at++)
        safe =
            safe && (isalnum((unsigned char)*at) || (*at == '-' && at > text) || (*at == '.' && at > text));
    if (!safe) {
        yaml_line(out, head, text);
        return;
    }
    atl_buf_text(out, head);
    atl_buf_text(out, text);
    atl_buf_char(out, '\n');
}

/* Calls for each word of a list parted by blanks, commas or semicolons. */
static const char *next_word(const char **at, struct atl_arena *arena)
{
    const char *text = *at + strspn(*at, " ,;\t");
    size_t length = strcspn(text, " ,;\t");
    *at = text + length;
    return length > 0 ? atl_arena_strndup(arena, text, length) : NULL;
}

static const char *host_name(const Atoll__Qemu__V1__Config *config, const struct cmp_cloudinit_facts *facts,
                             struct atl_arena *arena)
{
    return config->name != NULL ? config->name : atl_arena_format(arena, "VM%" PRIu32, facts->vmid);
}

/* --- user -------------------------------------------------------------------------------------------------
 */

static void ssh_keys(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena, struct atl_buf *out)
{
    if (config->sshkeys == NULL)
        return;
    const char *keys = cmp_url_decode(config->sshkeys, arena);
    bool begun = false;
    for (const char *at = keys; *at != '\0';) {
        size_t length = strcspn(at, "\r\n");
        if (length > 0 && at[0] != '#') {
            if (!begun)
                atl_buf_text(out, "ssh_authorized_keys:\n");
            begun = true;
            yaml_line(out, "  - ", atl_arena_strndup(arena, at, length));
        }
        at += length;
        at += strspn(at, "\r\n");
    }
}

static const char *user_data(const Atoll__Qemu__V1__Config *config, const struct cmp_cloudinit_facts *facts,
                             struct atl_arena *arena)
{
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    const char *host = host_name(config, facts, arena);
    const char *domain = config->searchdomain != NULL ? config->searchdomain : facts->searchdomain;
    atl_buf_text(&out, "#cloud-config\n");
    yaml_line(&out, "hostname: ", host);
    atl_buf_text(&out, "manage_etc_hosts: true\n");
    if (strchr(host, '.') != NULL)
        yaml_line(&out, "fqdn: ", host);
    else if (domain != NULL && next_word(&(const char *){domain}, arena) != NULL)
        yaml_line(&out, "fqdn: ",
                  atl_arena_format(arena, "%s.%s", host, next_word(&(const char *){domain}, arena)));
    yaml_line(&out, "user: ", config->ciuser);
    if (config->ciuser != NULL && strcmp(config->ciuser, "root") == 0)
        atl_buf_text(&out, "disable_root: false\n");
    yaml_line(&out, "password: ", config->cipassword);
    ssh_keys(config, arena, &out);
    atl_buf_text(&out, "chpasswd:\n  expire: false\nusers:\n  - default\n");
    atl_buf_printf(&out, "package_upgrade: %s\n",
                   !config->has_ciupgrade || config->ciupgrade ? "true" : "false");
    return atl_arena_strdup(arena, out.data);
}

/* --- network ----------------------------------------------------------------------------------------------
 */

static const Atoll__Qemu__V1__Ipconfig *find_ipconfig(const Atoll__Qemu__V1__Config *config, uint32_t index)
{
    for (size_t i = 0; i < config->n_ipconfig; i++)
        if (config->ipconfig[i]->index == index)
            return config->ipconfig[i]->value;
    return NULL;
}

static const Atoll__Qemu__V1__Net *find_net(const Atoll__Qemu__V1__Config *config, uint32_t index)
{
    for (size_t i = 0; i < config->n_net; i++)
        if (config->net[i]->index == index)
            return config->net[i]->value;
    return NULL;
}

static const char *lower(const char *text, struct atl_arena *arena)
{
    char *out = atl_arena_strdup(arena, text);
    for (char *at = out; *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at);
    return out;
}

/* "10.0.0.2/24" -> address and netmask; false when it is none. */
static bool split_cidr(const char *cidr, struct atl_arena *arena, const char **ret_address,
                       const char **ret_mask)
{
    const char *slash = strchr(cidr, '/');
    char *end = NULL;
    unsigned long bits = slash != NULL ? strtoul(slash + 1, &end, 10) : 33;
    if (slash == NULL || bits > 32 || *end != '\0' || end == slash + 1)
        return false;
    uint32_t mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
    *ret_address = atl_arena_strndup(arena, cidr, (size_t)(slash - cidr));
    *ret_mask =
        atl_arena_format(arena, "%u.%u.%u.%u", mask >> 24, mask >> 16 & 255, mask >> 8 & 255, mask & 255);
    return true;
}

static void subnets(const Atoll__Qemu__V1__Ipconfig *ip, struct atl_arena *arena, struct atl_buf *out)
{
    const char *address = NULL;
    const char *mask = NULL;
    if (ip->ip != NULL && strcmp(ip->ip, "dhcp") == 0) {
        atl_buf_text(out, "      - type: dhcp4\n");
    } else if (ip->ip != NULL && split_cidr(ip->ip, arena, &address, &mask)) {
        atl_buf_text(out, "      - type: static\n");
        yaml_line(out, "        address: ", address);
        yaml_line(out, "        netmask: ", mask);
        yaml_line(out, "        gateway: ", ip->gw);
    }
    if (ip->ip6 == NULL)
        return;
    if (strcmp(ip->ip6, "dhcp") == 0) {
        atl_buf_text(out, "      - type: dhcp6\n");
    } else if (strcmp(ip->ip6, "auto") == 0) {
        atl_buf_text(out, "      - type: ipv6_slaac\n");
    } else {
        atl_buf_text(out, "      - type: static6\n");
        yaml_line(out, "        address: ", ip->ip6);
        yaml_line(out, "        gateway: ", ip->gw6);
    }
}

static const char *dns_servers(const Atoll__Qemu__V1__Config *config, const struct cmp_cloudinit_facts *facts)
{
    return config->nameserver != NULL ? config->nameserver : facts->nameserver;
}

static const char *dns_domains(const Atoll__Qemu__V1__Config *config, const struct cmp_cloudinit_facts *facts)
{
    return config->searchdomain != NULL ? config->searchdomain : facts->searchdomain;
}

static void yaml_words(struct atl_buf *out, const char *head, const char *list, struct atl_arena *arena)
{
    const char *at = list != NULL ? list : "";
    bool begun = false;
    for (const char *word = next_word(&at, arena); word != NULL; word = next_word(&at, arena)) {
        if (!begun)
            atl_buf_text(out, head);
        begun = true;
        yaml_line(out, "      - ", word);
    }
}

static const char *network_config(const Atoll__Qemu__V1__Config *config,
                                  const struct cmp_cloudinit_facts *facts, struct atl_arena *arena)
{
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    atl_buf_text(&out, "version: 1\nconfig:\n");
    for (uint32_t i = 0; i < SLOTS; i++) {
        const Atoll__Qemu__V1__Ipconfig *ip = find_ipconfig(config, i);
        const Atoll__Qemu__V1__Net *net = find_net(config, i);
        if (ip == NULL || net == NULL || net->macaddr == NULL)
            continue;
        atl_buf_printf(&out, "    - type: physical\n      name: eth%" PRIu32 "\n", i);
        yaml_line(&out, "      mac_address: ", lower(net->macaddr, arena));
        atl_buf_text(&out, "      subnets:\n");
        subnets(ip, arena, &out);
    }
    const char *servers = dns_servers(config, facts);
    const char *domains = dns_domains(config, facts);
    if (servers != NULL || domains != NULL) {
        atl_buf_text(&out, "    - type: nameserver\n");
        yaml_words(&out, "      address:\n", servers, arena);
        yaml_words(&out, "      search:\n", domains, arena);
    }
    return atl_arena_strdup(arena, out.data);
}

/* The form of /etc/network/interfaces, which config drives carry. One line must stay one line. */
static const char *plain(const char *text, struct atl_arena *arena)
{
    char *out = atl_arena_strdup(arena, text);
    for (char *at = out; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20)
            *at = ' ';
    return out;
}

static void eni_interface(const Atoll__Qemu__V1__Ipconfig *ip, uint32_t i, struct atl_arena *arena,
                          struct atl_buf *out)
{
    const char *address = NULL;
    const char *mask = NULL;
    atl_buf_printf(out, "\nauto eth%" PRIu32 "\n", i);
    if (ip->ip != NULL && strcmp(ip->ip, "dhcp") == 0) {
        atl_buf_printf(out, "iface eth%" PRIu32 " inet dhcp\n", i);
    } else if (ip->ip != NULL && split_cidr(ip->ip, arena, &address, &mask)) {
        atl_buf_printf(out, "iface eth%" PRIu32 " inet static\n        address %s\n        netmask %s\n", i,
                       plain(address, arena), mask);
        if (ip->gw != NULL)
            atl_buf_printf(out, "        gateway %s\n", plain(ip->gw, arena));
    }
    if (ip->ip6 == NULL)
        return;
    bool word = strcmp(ip->ip6, "dhcp") == 0 || strcmp(ip->ip6, "auto") == 0;
    if (word) {
        atl_buf_printf(out, "iface eth%" PRIu32 " inet6 %s\n", i, ip->ip6);
        return;
    }
    atl_buf_printf(out, "iface eth%" PRIu32 " inet6 static\n        address %s\n", i, plain(ip->ip6, arena));
    if (ip->gw6 != NULL)
        atl_buf_printf(out, "        gateway %s\n", plain(ip->gw6, arena));
}

static const char *network_eni(const Atoll__Qemu__V1__Config *config, const struct cmp_cloudinit_facts *facts,
                               struct atl_arena *arena)
{
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    atl_buf_text(&out, "auto lo\niface lo inet loopback\n");
    if (dns_servers(config, facts) != NULL)
        atl_buf_printf(&out, "        dns_nameservers %s\n", plain(dns_servers(config, facts), arena));
    if (dns_domains(config, facts) != NULL)
        atl_buf_printf(&out, "        dns_search %s\n", plain(dns_domains(config, facts), arena));
    for (uint32_t i = 0; i < SLOTS; i++) {
        const Atoll__Qemu__V1__Ipconfig *ip = find_ipconfig(config, i);
        if (ip != NULL && find_net(config, i) != NULL)
            eni_interface(ip, i, arena, &out);
    }
    return atl_arena_strdup(arena, out.data);
}

/* --- the volume -------------------------------------------------------------------------------------------
 */

static void add_file(struct cmp_cloudinit *out, const char *path, const char *text)
{
    atl_assert(out->count < CMP_CLOUDINIT_FILES);
    out->files[out->count].path = path;
    out->files[out->count].text = text;
    out->count++;
}

static const char *identity(struct atl_arena *arena, const char *user, const char *network)
{
    char digest[ATL_DIGEST_SIZE];
    const char *both = atl_arena_format(arena, "%s%s", user, network);
    atl_digest(both, strlen(both), digest);
    return atl_arena_strdup(arena, digest);
}

void cmp_cloudinit_build(const Atoll__Qemu__V1__Config *config, const struct cmp_cloudinit_facts *facts,
                         struct atl_arena *arena, struct cmp_cloudinit *ret_cloudinit)
{
    struct cmp_cloudinit out = {0};
    bool drive =
        config->citype != NULL ? strcmp(config->citype, "configdrive2") == 0 : cmp_is_windows(config);
    const char *user = user_data(config, facts, arena);
    if (drive) {
        const char *network = network_eni(config, facts, arena);
        const char *id = identity(arena, user, network);
        out.label = "config-2";
        add_file(&out, "openstack/latest/user_data", user);
        add_file(&out, "openstack/content/0000", network);
        add_file(&out, "openstack/latest/meta_data.json",
                 atl_arena_format(arena,
                                  "{\n  \"uuid\": \"%s\",\n  \"network_config\": { \"content_path\": "
                                  "\"/content/0000\" }\n}\n",
                                  id));
    } else {
        const char *network = network_config(config, facts, arena);
        const char *id = identity(arena, user, network);
        ATL_BUF_AT_EXIT struct atl_buf meta = {0};
        meta_line(&meta, "instance-id: ", id);
        meta_line(&meta, "local-hostname: ", host_name(config, facts, arena));
        out.label = "cidata";
        add_file(&out, "user-data", user);
        add_file(&out, "network-config", network);
        add_file(&out, "meta-data", atl_arena_strdup(arena, meta.data));
        add_file(&out, "vendor-data", "");
    }
    *ret_cloudinit = out;
}
