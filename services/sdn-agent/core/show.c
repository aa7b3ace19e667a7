/* Interfaces for the API; see show.h. */
#include "core/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct sdn_link *sdn_links_find(const struct sdn_links *links, const char *name)
{
    for (size_t i = 0; i < links->count; i++) {
        if (strcmp(links->links[i].name, name) == 0)
            return &links->links[i];
    }
    return NULL;
}

static char *copy(struct atl_arena *arena, const char *text)
{
    return text != NULL ? atl_arena_strdup(arena, text) : NULL;
}

/* Settings that have a field of their own; the others are shown as lines of `options`. */
static const char *const own_keys[] = {
    "address",         "netmask",     "gateway",   "broadcast",    "mtu",
    "bridge-ports",    "bridge-stp",  "bridge-fd", "bridge-vids",  "bridge-vlan-aware",
    "bond-slaves",     "slaves",      "bond-mode", "bond-primary", "bond-xmit-hash-policy",
    "vlan-raw-device", "vlan-id",     "ovs-type",  "ovs-ports",    "ovs-bridge",
    "ovs-bonds",       "ovs-options", "ovs-tag",
};

static bool is_own(const char *key)
{
    struct sdn_option option = {.key = key, .value = ""};
    struct sdn_stanza one = {.options = &option, .option_count = 1};
    for (size_t i = 0; i < ATL_COUNT(own_keys); i++) {
        if (sdn_stanza_get(&one, own_keys[i]) != NULL)
            return true;
    }
    return false;
}

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Names that network cards have. */
static bool is_card_name(const char *name)
{
    static const char *const prefixes[] = {"eth", "en", "wl", "ib", "nic"};
    for (size_t i = 0; i < ATL_COUNT(prefixes); i++) {
        if (begins(name, prefixes[i]))
            return true;
    }
    return false;
}

static const char *type_of(const char *name, const struct sdn_iface *iface, const struct sdn_link *link)
{
    const char *ovs = iface != NULL ? sdn_iface_get(iface, "ovs-type") : NULL;
    if (ovs != NULL)
        return ovs;
    if (iface != NULL && sdn_iface_get(iface, "bridge-ports") != NULL)
        return "bridge";
    if (iface != NULL &&
        (sdn_iface_get(iface, "bond-slaves") != NULL || sdn_iface_get(iface, "slaves") != NULL))
        return "bond";
    if (strchr(name, ':') != NULL)
        return "alias";
    if (strchr(name, '.') != NULL || (iface != NULL && sdn_iface_get(iface, "vlan-raw-device") != NULL))
        return "vlan";
    if (link != NULL && strcmp(link->kind, "bridge") == 0)
        return "bridge";
    if ((link != NULL && link->physical) || is_card_name(name))
        return "eth";
    return "unknown";
}

static void show_addresses(Atoll__Network__V1__Interface *out, const struct sdn_stanza *stanza,
                           struct atl_arena *arena)
{
    struct sdn_address address;
    const char *text = sdn_stanza_get(stanza, "address");
    bool six = stanza->family == SDN_INET6;
    char *gateway = copy(arena, sdn_stanza_get(stanza, "gateway"));
    if (six)
        out->gateway6 = gateway;
    else
        out->gateway = gateway;
    if (text == NULL || sdn_address_parse(text, sdn_stanza_get(stanza, "netmask"), &address, NULL) != ATL_OK)
        return;
    char *cidr = atl_arena_format(arena, "%s/%u", address.text, address.prefix);
    if (six) {
        out->address6 = copy(arena, address.text);
        out->has_netmask6 = true;
        out->netmask6 = address.prefix;
        out->cidr6 = cidr;
    } else {
        out->address = copy(arena, address.text);
        out->netmask = atl_arena_format(arena, "%u", address.prefix);
        out->cidr = cidr;
    }
}

static void show_options(Atoll__Network__V1__Interface *out, const struct sdn_stanza *stanza,
                         struct atl_arena *arena)
{
    char **lines = atl_arena_array(arena, char *, stanza->option_count + 1);
    size_t count = 0;
    for (size_t i = 0; i < stanza->option_count; i++) {
        const struct sdn_option *option = &stanza->options[i];
        if (!is_own(option->key))
            lines[count++] = atl_arena_format(arena, "%s%s%s", option->key,
                                              option->value[0] != '\0' ? " " : "", option->value);
    }
    if (stanza->family == SDN_INET6) {
        out->options6 = lines;
        out->n_options6 = count;
    } else {
        out->options = lines;
        out->n_options = count;
    }
}

static void show_family(Atoll__Network__V1__Interface *out, const struct sdn_iface *iface,
                        enum sdn_family family, struct atl_arena *arena)
{
    const struct sdn_stanza *stanza = sdn_iface_stanza(iface, family);
    bool six = family == SDN_INET6;
    char *method = copy(arena, stanza != NULL ? stanza->method : "manual");
    if (six)
        out->method6 = method;
    else
        out->method = method;
    if (stanza == NULL)
        return;
    out->families[out->n_families++] = copy(arena, six ? "inet6" : "inet");
    show_addresses(out, stanza, arena);
    show_options(out, stanza, arena);
    if (stanza->comments[0] != '\0') {
        if (six)
            out->comments6 = copy(arena, stanza->comments);
        else
            out->comments = copy(arena, stanza->comments);
    }
}

static bool number_of(const char *text, int64_t *ret_number)
{
    char *end = NULL;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    *ret_number = strtol(text, &end, 10);
    return *end == '\0';
}

static void show_bridge(Atoll__Network__V1__Interface *out, const struct sdn_iface *iface,
                        struct atl_arena *arena)
{
    const char *ports = sdn_iface_get(iface, "bridge-ports");
    const char *stp = sdn_iface_get(iface, "bridge-stp");
    const char *fd = sdn_iface_get(iface, "bridge-fd");
    const char *aware = sdn_iface_get(iface, "bridge-vlan-aware");
    out->bridge_ports = copy(arena, ports == NULL || strcmp(ports, "none") == 0 ? "" : ports);
    out->bridge_stp = copy(arena, stp != NULL ? stp : "off");
    out->bridge_fd = copy(arena, fd != NULL ? fd : "0");
    if (aware != NULL && sdn_word_is_yes(aware)) {
        const char *vids = sdn_iface_get(iface, "bridge-vids");
        out->has_bridge_vlan_aware = out->bridge_vlan_aware = true;
        out->bridge_vids = copy(arena, vids != NULL ? vids : "2-4094");
    }
}

static void show_vlan(Atoll__Network__V1__Interface *out, const struct sdn_iface *iface,
                      struct atl_arena *arena)
{
    const char *raw = iface != NULL ? sdn_iface_get(iface, "vlan-raw-device") : NULL;
    const char *id = iface != NULL ? sdn_iface_get(iface, "vlan-id") : NULL;
    const char *dot = strrchr(out->iface, '.');
    if (raw == NULL && dot != NULL)
        raw = atl_arena_strndup(arena, out->iface, (size_t)(dot - out->iface));
    if (id == NULL && dot != NULL)
        id = dot + 1;
    if (id == NULL && begins(out->iface, "vlan"))
        id = out->iface + 4;
    out->vlan_raw_device = copy(arena, raw);
    out->has_vlan_id = number_of(id, &out->vlan_id);
}

static void show_others(Atoll__Network__V1__Interface *out, const struct sdn_iface *iface,
                        struct atl_arena *arena)
{
    const char *slaves = sdn_iface_get(iface, "bond-slaves");
    out->slaves = copy(arena, slaves != NULL ? slaves : sdn_iface_get(iface, "slaves"));
    out->bond_mode = copy(arena, sdn_iface_get(iface, "bond-mode"));
    out->bond_primary = copy(arena, sdn_iface_get(iface, "bond-primary"));
    out->bond_xmit_hash_policy = copy(arena, sdn_iface_get(iface, "bond-xmit-hash-policy"));
    out->ovs_ports = copy(arena, sdn_iface_get(iface, "ovs-ports"));
    out->ovs_bridge = copy(arena, sdn_iface_get(iface, "ovs-bridge"));
    out->ovs_bonds = copy(arena, sdn_iface_get(iface, "ovs-bonds"));
    out->ovs_options = copy(arena, sdn_iface_get(iface, "ovs-options"));
    out->has_ovs_tag = number_of(sdn_iface_get(iface, "ovs-tag"), &out->ovs_tag);
    out->has_mtu = number_of(sdn_iface_get(iface, "mtu"), &out->mtu);
}

static Atoll__Network__V1__Interface *show_one(const char *name, const struct sdn_iface *iface,
                                               const struct sdn_link *link, struct atl_arena *arena)
{
    Atoll__Network__V1__Interface *out = atl_arena_new(arena, Atoll__Network__V1__Interface);
    atoll__network__v1__interface__init(out);
    out->iface = copy(arena, name);
    out->type = copy(arena, type_of(name, iface, link));
    out->families = atl_arena_array(arena, char *, 2);
    out->has_exists = out->exists = link != NULL;
    out->has_active = out->active = link != NULL && link->up;
    if (iface != NULL && iface->described) {
        out->has_autostart = out->autostart = iface->autostart;
        show_family(out, iface, SDN_INET, arena);
        show_family(out, iface, SDN_INET6, arena);
        show_others(out, iface, arena);
    } else {
        out->method = copy(arena, "manual");
        out->method6 = copy(arena, "manual");
        out->families[out->n_families++] = copy(arena, "inet");
    }
    if (strcmp(out->type, "bridge") == 0 && iface != NULL)
        show_bridge(out, iface, arena);
    if (strcmp(out->type, "vlan") == 0)
        show_vlan(out, iface, arena);
    return out;
}

static int by_name(const void *a, const void *b)
{
    const Atoll__Network__V1__Interface *const *left = a;
    const Atoll__Network__V1__Interface *const *right = b;
    return strcmp((*left)->iface, (*right)->iface);
}

void sdn_show(const struct sdn_file *file, const struct sdn_links *links, struct atl_arena *arena,
              Atoll__Network__V1__Interface ***ret_list, size_t *ret_count)
{
    Atoll__Network__V1__Interface **list =
        atl_arena_array(arena, Atoll__Network__V1__Interface *, file->count + links->count + 1);
    size_t count = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct sdn_iface *iface = &file->ifaces[i];
        const struct sdn_link *link = sdn_links_find(links, iface->name);
        if (strcmp(iface->name, "lo") != 0 && (iface->described || link != NULL))
            list[count++] = show_one(iface->name, iface, link, arena);
    }
    size_t described = count;
    for (size_t i = 0; i < links->count; i++) {
        const struct sdn_link *link = &links->links[i];
        if (link->physical && sdn_file_find(file, link->name) == NULL)
            list[count++] = show_one(link->name, NULL, link, arena);
    }
    if (count > described)
        qsort(list + described, count - described, sizeof *list, by_name);
    for (size_t i = 0; i < count; i++) {
        list[i]->has_priority = true;
        list[i]->priority = (int64_t)i + 3;
    }
    *ret_list = list;
    *ret_count = count;
}

bool sdn_show_passes(const Atoll__Network__V1__Interface *interface, const char *type)
{
    if (type == NULL || strcmp(type, "include_sdn") == 0)
        return true;
    if (strcmp(type, "any_bridge") == 0 || strcmp(type, "any_local_bridge") == 0)
        return strcmp(interface->type, "bridge") == 0 || strcmp(interface->type, "OVSBridge") == 0;
    return strcmp(interface->type, type) == 0;
}
