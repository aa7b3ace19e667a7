/* Boot order of a virtual machine, and the small facts of its configuration that several files need. */
#include "core/domxml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pure/number.h"

bool cmp_is_q35(const Atoll__Qemu__V1__Config *config)
{
    const char *type = config->machine != NULL ? config->machine->type : NULL;
    return type != NULL && strstr(type, "q35") != NULL;
}

bool cmp_is_windows(const Atoll__Qemu__V1__Config *config)
{
    const char *os = config->ostype;
    return os != NULL && (os[0] == 'w');
}

uint32_t cmp_vcpus_max(const Atoll__Qemu__V1__Config *config)
{
    int64_t sockets = config->has_sockets ? config->sockets : config->has_smp ? config->smp : 1;
    int64_t cores = config->has_cores ? config->cores : 1;
    if (sockets < 1 || cores < 1 || sockets > 4096 || cores > 4096)
        return 1;
    return (uint32_t)(sockets * cores);
}

uint32_t cmp_vcpus_now(const Atoll__Qemu__V1__Config *config)
{
    uint32_t max = cmp_vcpus_max(config);
    if (!config->has_vcpus || config->vcpus < 1 || config->vcpus > (int64_t)max)
        return max;
    return (uint32_t)config->vcpus;
}

uint64_t cmp_memory_mib(const Atoll__Qemu__V1__Config *config)
{
    if (config->memory == NULL || !config->memory->has_current || config->memory->current < 16)
        return 512;
    return (uint64_t)config->memory->current;
}

bool cmp_hotplug_has(const Atoll__Qemu__V1__Config *config, const char *kind)
{
    const char *text = config->hotplug;
    if (text == NULL || strcmp(text, "1") == 0)
        text = "network,disk,usb";
    size_t length = strlen(kind);
    for (const char *at = text; *at != '\0';) {
        size_t word = strcspn(at, ",; ");
        if (word == length && strncmp(at, kind, length) == 0)
            return true;
        at += word;
        at += strspn(at, ",; ");
    }
    return false;
}

bool cmp_uses_kvm(const Atoll__Qemu__V1__Config *config, const struct cmp_machine *machine)
{
    bool wanted = !config->has_kvm || config->kvm;
    return wanted && strcmp(machine->accel, "kvm") == 0;
}

const char *cmp_url_decode(const char *text, struct atl_arena *arena)
{
    char *out = atl_arena_strdup(arena, text);
    size_t length = 0;
    for (const char *at = text; *at != '\0'; at++) {
        int high = at[0] == '%' ? atl_hex_value(at[1]) : -1;
        int low = high >= 0 ? atl_hex_value(at[2]) : -1;
        if (low >= 0 && (high != 0 || low != 0)) {
            out[length++] = (char)(high << 4 | low);
            at += 2;
        } else {
            out[length++] = *at;
        }
    }
    out[length] = '\0';
    return out;
}

void cmp_domain_name(uint32_t vmid, char name[CMP_DOMAIN_NAME_MAX])
{
    (void)snprintf(name, CMP_DOMAIN_NAME_MAX, "atoll-%" PRIu32, vmid);
}

uint32_t cmp_domain_vmid(const char *name)
{
    if (strncmp(name, "atoll-", 6) != 0 || name[6] < '1' || name[6] > '9')
        return 0;
    char *end = NULL;
    unsigned long vmid = strtoul(name + 6, &end, 10);
    return *end == '\0' && vmid <= 999999999 ? (uint32_t)vmid : 0;
}

void cmp_tap_name(uint32_t vmid, uint32_t index, char name[16])
{
    (void)snprintf(name, 16, "tap%ui%u", (unsigned int)(vmid % 1000000000), (unsigned int)(index % 100));
}

/* --- boot order -------------------------------------------------------------------------------------------
 */

static bool boot_configured(const Atoll__Qemu__V1__Config *config, const char *name)
{
    if (cmp_drive_find(config, name) != NULL)
        return true;
    if (strncmp(name, "net", 3) != 0)
        return false;
    char *end = NULL;
    unsigned long index = strtoul(name + 3, &end, 10);
    if (end == name + 3 || *end != '\0')
        return false;
    for (size_t i = 0; i < config->n_net; i++)
        if (config->net[i]->index == index && config->net[i]->value != NULL)
            return true;
    return false;
}

struct boot_list {
    const Atoll__Qemu__V1__Config *config;
    struct atl_arena *arena;
    const char **names;
    size_t count;
};

static void boot_add(struct boot_list *list, const char *name)
{
    if (list->count >= CMP_BOOT_MAX || !boot_configured(list->config, name))
        return;
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->names[i], name) == 0)
            return;
    list->names[list->count++] = atl_arena_strdup(list->arena, name);
}

static void boot_add_list(struct boot_list *list, const char *order)
{
    for (const char *at = order; *at != '\0';) {
        size_t length = strcspn(at, ";, ");
        if (length > 0)
            boot_add(list, atl_arena_strndup(list->arena, at, length));
        at += length;
        at += strspn(at, ";, ");
    }
}

static void boot_add_drives(struct boot_list *list, bool cdrom, bool all)
{
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(list->config, list->arena, &count);
    for (size_t i = 0; i < count; i++) {
        if (cmp_drive_is_cdrom(drives[i].drive) != cdrom || cmp_drive_is_cloudinit(drives[i].drive))
            continue;
        boot_add(list, drives[i].name);
        if (!all)
            return;
    }
}

static int net_order(const void *a, const void *b)
{
    const Atoll__Qemu__V1__NetSlot *const *left = a;
    const Atoll__Qemu__V1__NetSlot *const *right = b;
    return (*left)->index < (*right)->index ? -1 : (*left)->index > (*right)->index;
}

static void boot_add_nets(struct boot_list *list, bool all)
{
    size_t count = list->config->n_net;
    Atoll__Qemu__V1__NetSlot **nets = atl_arena_array(list->arena, Atoll__Qemu__V1__NetSlot *, count + 1);
    for (size_t i = 0; i < count; i++)
        nets[i] = list->config->net[i];
    qsort(nets, count, sizeof *nets, net_order);
    for (size_t i = 0; i < count; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "net%" PRIu32, nets[i]->index);
        boot_add(list, name);
        if (!all)
            return;
    }
}

size_t cmp_boot_order(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena, const char **names)
{
    struct boot_list list = {.config = config, .arena = arena, .names = names};
    const Atoll__Qemu__V1__Boot *boot = config->boot;
    if (boot != NULL && boot->order != NULL) {
        boot_add_list(&list, boot->order);
        return list.count;
    }
    const char *letters = boot != NULL && boot->legacy != NULL ? boot->legacy : "cdn";
    for (const char *at = letters; *at != '\0'; at++) {
        if (*at == 'c' && config->bootdisk != NULL)
            boot_add(&list, config->bootdisk);
        else if (*at == 'c')
            boot_add_drives(&list, false, false);
        else if (*at == 'd')
            boot_add_drives(&list, true, true);
        else if (*at == 'n')
            boot_add_nets(&list, true);
    }
    return list.count;
}

const char *cmp_boot_default(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena)
{
    const char *names[CMP_BOOT_MAX];
    struct boot_list list = {.config = config, .arena = arena, .names = names};
    boot_add_drives(&list, false, false);
    boot_add_drives(&list, true, false);
    boot_add_nets(&list, false);
    const char *text = "";
    for (size_t i = 0; i < list.count; i++)
        text = atl_arena_format(arena, "%s%s%s", text, i > 0 ? ";" : "", names[i]);
    return text;
}
