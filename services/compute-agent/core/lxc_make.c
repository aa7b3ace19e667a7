/* From a configuration to the orders of the helpers; what a creation and a new template need. */
#include "core/lxc_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERVERS_MAX = 16 };

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');
    return end != NULL ? end + 1 : line + strlen(line);
}

/* The rest of the first line that begins with the word and a blank, or NULL. */
static const char *rest_of(const char *line, const char *word, struct atl_arena *arena)
{
    size_t length = strlen(word);
    if (strncmp(line, word, length) != 0 || (line[length] != ' ' && line[length] != '\t'))
        return NULL;
    const char *value = line + length + strspn(line + length, " \t");
    size_t size = strcspn(value, "\n#");
    while (size > 0 && (value[size - 1] == ' ' || value[size - 1] == '\t' || value[size - 1] == '\r'))
        size--;
    return atl_arena_strndup(arena, value, size);
}

static void split_servers(const char *list, struct atl_arena *arena, Atoll__Lxc__V1__Setup *setup)
{
    for (const char *at = list; *at != '\0' && setup->n_nameserver < SERVERS_MAX;) {
        at += strspn(at, " ,;\t");
        size_t length = strcspn(at, " ,;\t");
        if (length > 0)
            setup->nameserver[setup->n_nameserver++] = atl_arena_strndup(arena, at, length);
        at += length;
    }
}

static void resolver(const Atoll__Lxc__V1__Config *config, const char *resolv, struct atl_arena *arena,
                     Atoll__Lxc__V1__Setup *setup)
{
    setup->nameserver = atl_arena_array(arena, char *, SERVERS_MAX);
    if (config->searchdomain != NULL)
        setup->searchdomain = config->searchdomain;
    if (config->nameserver != NULL)
        split_servers(config->nameserver, arena, setup);
    bool servers = setup->n_nameserver == 0;
    bool search = setup->searchdomain == NULL;
    for (const char *line = resolv; *line != '\0'; line = next_line(line)) {
        const char *server = rest_of(line, "nameserver", arena);
        const char *domain = rest_of(line, "search", arena);
        if (server != NULL && servers && setup->n_nameserver < SERVERS_MAX)
            setup->nameserver[setup->n_nameserver++] = atl_arena_strdup(arena, server);
        if (domain != NULL && search)
            setup->searchdomain = atl_arena_strdup(arena, domain);
    }
}

Atoll__Lxc__V1__Setup *cmp_lxc_setup_make(const Atoll__Lxc__V1__Config *config, uint32_t vmid,
                                          const char *resolv, struct atl_arena *arena)
{
    Atoll__Lxc__V1__Setup *setup = atl_arena_new(arena, Atoll__Lxc__V1__Setup);
    atoll__lxc__v1__setup__init(setup);
    setup->ostype = atl_arena_strdup(arena, config->ostype != NULL ? config->ostype : "unmanaged");
    setup->hostname =
        config->hostname != NULL ? config->hostname : atl_arena_format(arena, "CT%" PRIu32, vmid);
    resolver(config, resolv, arena, setup);
    setup->net = atl_arena_array(arena, Atoll__Lxc__V1__SetupNet *, config->n_net + 1);
    for (size_t i = 0; i < config->n_net; i++) {
        const Atoll__Lxc__V1__Net *net = config->net[i]->value;
        if (net == NULL || net->name == NULL || (net->has_host_managed && net->host_managed))
            continue;
        Atoll__Lxc__V1__SetupNet *entry = atl_arena_new(arena, Atoll__Lxc__V1__SetupNet);
        atoll__lxc__v1__setup_net__init(entry);
        entry->name = net->name;
        entry->ip = net->ip;
        entry->gw = net->gw;
        entry->ip6 = net->ip6;
        entry->gw6 = net->gw6;
        setup->net[setup->n_net++] = entry;
    }
    return setup;
}

Atoll__Lxc__V1__IdMap *cmp_lxc_map_make(const Atoll__Lxc__V1__Config *config, const struct atl_line *raw,
                                        size_t raw_count, const struct cmp_lxc_facts *facts,
                                        struct atl_arena *arena)
{
    bool unprivileged = config->has_unprivileged && config->unprivileged;
    uint32_t first = facts->map_first;
    uint32_t count = facts->map_count;
    for (size_t i = 0; i < raw_count; i++) {
        if (strcmp(raw[i].key, "lxc.idmap") == 0 &&
            sscanf(raw[i].value, "u 0 %9u %9u", &first, &count) == 2) {
            unprivileged = true;
            break;
        }
    }
    if (!unprivileged)
        return NULL;
    Atoll__Lxc__V1__IdMap *map = atl_arena_new(arena, Atoll__Lxc__V1__IdMap);
    atoll__lxc__v1__id_map__init(map);
    map->first = first;
    map->count = count;
    return map;
}

void cmp_lxc_links_down(const Atoll__Lxc__V1__Config *config, uint32_t vmid, struct atl_arena *arena,
                        Atoll__Lxc__V1__StartSpec *spec)
{
    spec->link_down = atl_arena_array(arena, char *, config->n_net + 1);
    for (size_t i = 0; i < config->n_net; i++) {
        const Atoll__Lxc__V1__Net *net = config->net[i]->value;
        if (net != NULL && net->has_link_down && net->link_down)
            spec->link_down[spec->n_link_down++] = cmp_lxc_veth(vmid, config->net[i]->index, arena);
    }
}

const char *cmp_lxc_ostype(const char *os_release)
{
    static const struct {
        const char *id;
        const char *ostype;
    } table[] = {
        {"debian", "debian"},
        {"devuan", "devuan"},
        {"ubuntu", "ubuntu"},
        {"centos", "centos"},
        {"rhel", "centos"},
        {"rocky", "centos"},
        {"almalinux", "centos"},
        {"fedora", "fedora"},
        {"alpine", "alpine"},
        {"opensuse-leap", "opensuse"},
        {"opensuse-tumbleweed", "opensuse"},
        {"arch", "archlinux"},
        {"archarm", "archlinux"},
        {"gentoo", "gentoo"},
        {"nixos", "nixos"},
    };
    for (const char *line = os_release; *line != '\0'; line = next_line(line)) {
        if (strncmp(line, "ID=", 3) != 0)
            continue;
        const char *id = line + 3 + (line[3] == '"' || line[3] == '\'' ? 1 : 0);
        size_t length = strcspn(id, "\"'\r\n");
        for (size_t i = 0; i < ATL_COUNT(table); i++)
            if (strlen(table[i].id) == length && strncmp(table[i].id, id, length) == 0)
                return table[i].ostype;
    }
    return "unmanaged";
}

const char *cmp_lxc_option(const char *text, const char *name, struct atl_arena *arena)
{
    size_t length = strlen(name);
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        if (strncmp(line, name, length) != 0 || line[length] != ':')
            continue;
        const char *value = line + length + 1 + strspn(line + length + 1, " \t");
        return atl_arena_strndup(arena, value, strcspn(value, " \t\r\n"));
    }
    return NULL;
}
