/* A virtual machine's configuration as the XML of a transient libvirt domain. */
#include "core/domxml.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

enum { SPARE_PORTS = 6, NAMED_UUID = 37 };

/* --- identity ---------------------------------------------------------------------------------------------
 */

static void domain_uuid(const struct cmp_guest *guest, char uuid[NAMED_UUID])
{
    const Atoll__Qemu__V1__Smbios1 *smbios = guest->config->smbios1;
    if (smbios != NULL && smbios->uuid != NULL && strlen(smbios->uuid) == NAMED_UUID - 1)
        (void)snprintf(uuid, NAMED_UUID, "%s", smbios->uuid);
    else
        (void)snprintf(uuid, NAMED_UUID, "a7011000-0000-4000-8000-%012u", (unsigned int)guest->vmid);
}

static const char *smbios_text(const struct cmp_guest *guest, const char *text)
{
    const Atoll__Qemu__V1__Smbios1 *smbios = guest->config->smbios1;
    if (text == NULL || !smbios->has_base64 || !smbios->base64)
        return text;
    size_t length = strlen(text);
    if (length == 0 || length % 4 != 0 || length > 65536)
        return text;
    unsigned char *bytes = atl_arena_alloc(guest->arena, length + 1);
    int size = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)length);
    if (size < 0)
        return text;
    while (length > 0 && text[length - 1] == '=') {
        length--;
        size--;
    }
    bytes[size] = '\0';
    return (const char *)bytes;
}

static void domain_sysinfo(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Smbios1 *smbios = guest->config->smbios1;
    if (smbios == NULL)
        return;
    const char *const entries[][2] = {
        {"manufacturer", smbios->manufacturer},
        {"product", smbios->product},
        {"version", smbios->version},
        {"serial", smbios->serial},
        {"sku", smbios->sku},
        {"family", smbios->family},
    };
    char uuid[NAMED_UUID];
    domain_uuid(guest, uuid);
    cmp_xml_begin(xml, "sysinfo");
    cmp_xml_attr(xml, "type", "smbios");
    cmp_xml_begin(xml, "system");
    for (size_t i = 0; i < ATL_COUNT(entries); i++) {
        const char *text = smbios_text(guest, entries[i][1]);
        if (text == NULL)
            continue;
        cmp_xml_begin(xml, "entry");
        cmp_xml_attr(xml, "name", entries[i][0]);
        cmp_xml_text(xml, text);
        cmp_xml_end(xml);
    }
    cmp_xml_begin(xml, "entry");
    cmp_xml_attr(xml, "name", "uuid");
    cmp_xml_text(xml, uuid);
    cmp_xml_end(xml);
    cmp_xml_end(xml);
    cmp_xml_end(xml);
}

/* "pc-i440fx-7.2+pve0" and "pc-q35-7.2.pxe" carry endings that QEMU does not know. */
static const char *machine_type(const struct cmp_guest *guest)
{
    const Atoll__Qemu__V1__Machine *machine = guest->config->machine;
    if (machine == NULL || machine->type == NULL)
        return "pc";
    const char *type = machine->type;
    size_t length = strcspn(type, "+");
    const char *pxe = strstr(type, ".pxe");
    if (pxe != NULL && (size_t)(pxe - type) < length)
        length = (size_t)(pxe - type);
    return atl_arena_strndup(guest->arena, type, length);
}

static void domain_os(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    const struct cmp_machine *machine = guest->machine;
    cmp_xml_begin(xml, "os");
    cmp_xml_begin(xml, "type");
    cmp_xml_attr(xml, "arch", "x86_64");
    cmp_xml_attr(xml, "machine", machine_type(guest));
    cmp_xml_text(xml, "hvm");
    cmp_xml_end(xml);
    if (config->bios != NULL && strcmp(config->bios, "ovmf") == 0 && machine->ovmf_code != NULL) {
        cmp_xml_begin(xml, "loader");
        cmp_xml_attr(xml, "readonly", "yes");
        cmp_xml_attr(xml, "type", "pflash");
        cmp_xml_text(xml, machine->ovmf_code);
        cmp_xml_end(xml);
        cmp_xml_begin(xml, "nvram");
        cmp_xml_attr(xml, "template", machine->ovmf_vars);
        cmp_xml_text(xml, atl_arena_format(guest->arena, "%s/efivars.fd", machine->run_dir));
        cmp_xml_end(xml);
    }
    if (config->smbios1 != NULL)
        cmp_xml_empty(xml, "smbios", "mode", "sysinfo", NULL);
    cmp_xml_end(xml);
}

/* --- limits -----------------------------------------------------------------------------------------------
 */

static void domain_cputune(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    bool limit = config->has_cpulimit && config->cpulimit > 0 && config->cpulimit <= 128;
    if (!config->has_cpuunits && !limit)
        return;
    cmp_xml_begin(xml, "cputune");
    if (config->has_cpuunits && config->cpuunits > 0) {
        uint64_t units = (uint64_t)config->cpuunits;
        if (units < 2)
            units = 2;
        if (guest->machine->cgroup2 && units > 10000)
            units = 10000;
        cmp_xml_element_uint(xml, "shares", units);
    }
    if (limit) {
        cmp_xml_element_uint(xml, "global_period", 100000);
        cmp_xml_element_uint(xml, "global_quota", (uint64_t)(config->cpulimit * 100000.0));
    }
    cmp_xml_end(xml);
}

static void domain_vcpu(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    uint32_t max = cmp_vcpus_max(config);
    uint32_t now = cmp_vcpus_now(config);
    cmp_xml_begin(xml, "vcpu");
    cmp_xml_attr(xml, "placement", "static");
    cmp_xml_attr(xml, "cpuset", config->affinity);
    if (now < max)
        cmp_xml_attr_uint(xml, "current", now);
    char text[16];
    (void)snprintf(text, sizeof text, "%" PRIu32, max);
    cmp_xml_text(xml, text);
    cmp_xml_end(xml);
    uint32_t iothreads = cmp_iothreads(guest);
    if (iothreads > 0)
        cmp_xml_element_uint(xml, "iothreads", iothreads);
}

/* --- small devices ----------------------------------------------------------------------------------------
 */

static void pci_ports(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    if (!cmp_is_q35(config))
        return;
    bool hotplug = cmp_hotplug_has(config, "disk") || cmp_hotplug_has(config, "network");
    /* Each device that is configured sits on a port; controllers, console channel, balloon and the like take
     * five. */
    size_t count = config->n_virtio + config->n_net + config->n_scsi + 5 + (hotplug ? SPARE_PORTS : 0);
    cmp_xml_empty(xml, "controller", "type", "pci", "index", "0", "model", "pcie-root", NULL);
    for (size_t i = 1; i <= count && i < 200; i++) {
        cmp_xml_begin(xml, "controller");
        cmp_xml_attr(xml, "type", "pci");
        cmp_xml_attr_uint(xml, "index", i);
        cmp_xml_attr(xml, "model", "pcie-root-port");
        cmp_xml_end(xml);
    }
}

static void domain_balloon(const Atoll__Qemu__V1__Config *config, struct cmp_xml *xml)
{
    if (config->has_balloon && config->balloon == 0) {
        cmp_xml_empty(xml, "memballoon", "model", "none", NULL);
        return;
    }
    cmp_xml_begin(xml, "memballoon");
    cmp_xml_attr(xml, "model", "virtio");
    cmp_xml_empty(xml, "stats", "period", "2", NULL);
    cmp_xml_end(xml);
}

static void domain_rng(const Atoll__Qemu__V1__Rng0 *rng, struct cmp_xml *xml)
{
    if (rng == NULL)
        return;
    uint64_t bytes = rng->has_max_bytes && rng->max_bytes >= 0 ? (uint64_t)rng->max_bytes : 1024;
    cmp_xml_begin(xml, "rng");
    cmp_xml_attr(xml, "model", "virtio");
    if (bytes > 0) {
        cmp_xml_begin(xml, "rate");
        cmp_xml_attr_uint(xml, "bytes", bytes);
        cmp_xml_attr_uint(xml, "period", rng->has_period && rng->period > 0 ? (uint64_t)rng->period : 1000);
        cmp_xml_end(xml);
    }
    cmp_xml_begin(xml, "backend");
    cmp_xml_attr(xml, "model", "random");
    cmp_xml_text(xml, rng->source != NULL ? rng->source : "/dev/urandom");
    cmp_xml_end(xml);
    cmp_xml_end(xml);
}

static void domain_agent(const Atoll__Qemu__V1__Config *config, struct cmp_xml *xml)
{
    if (config->agent == NULL || !config->agent->has_enabled || !config->agent->enabled)
        return;
    cmp_xml_begin(xml, "channel");
    cmp_xml_attr(xml, "type", "unix");
    cmp_xml_empty(xml, "target", "type", "virtio", "name", "org.qemu.guest_agent.0", NULL);
    cmp_xml_end(xml);
}

static void domain_watchdog(const Atoll__Qemu__V1__Watchdog *watchdog, struct cmp_xml *xml)
{
    if (watchdog == NULL)
        return;
    const char *model = watchdog->model != NULL ? watchdog->model : "i6300esb";
    const char *action = watchdog->action;
    if (action != NULL && strcmp(action, "debug") == 0)
        action = "none"; /* libvirt has no such action */
    cmp_xml_empty(xml, "watchdog", "model", model, "action", action, NULL);
}

static void domain_devices(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    cmp_xml_begin(xml, "devices");
    cmp_xml_element(xml, "emulator", guest->machine->emulator);
    pci_ports(guest, xml);
    cmp_xml_storage(guest, xml);
    cmp_xml_nets(guest, xml);
    cmp_xml_consoles(guest, xml);
    domain_agent(config, xml);
    domain_balloon(config, xml);
    domain_rng(config->rng0, xml);
    domain_watchdog(config->watchdog, xml);
    cmp_xml_end(xml);
}

/* --- further arguments ------------------------------------------------------------------------------------
 */

/* Splits as a shell would: blanks part words, quotes and backslashes keep them together. */
static const char *next_word(const char **at, struct atl_arena *arena)
{
    const char *text = *at;
    text += strspn(text, " \t\r\n");
    if (*text == '\0')
        return NULL;
    char *word = atl_arena_alloc(arena, strlen(text) + 1);
    size_t length = 0;
    char quote = '\0';
    for (; *text != '\0' && (quote != '\0' || strchr(" \t\r\n", *text) == NULL); text++) {
        if (quote == '\0' && (*text == '\'' || *text == '"'))
            quote = *text;
        else if (quote != '\0' && *text == quote)
            quote = '\0';
        else if (*text == '\\' && quote != '\'' && text[1] != '\0')
            word[length++] = *++text;
        else
            word[length++] = *text;
    }
    word[length] = '\0';
    *at = text;
    return word;
}

static void domain_args(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const char *at = guest->config->args;
    if (at == NULL)
        return;
    cmp_xml_begin(xml, "qemu:commandline");
    for (const char *word = next_word(&at, guest->arena); word != NULL; word = next_word(&at, guest->arena))
        cmp_xml_empty(xml, "qemu:arg", "value", word, NULL);
    cmp_xml_end(xml);
}

void cmp_domain_xml(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    atl_assert(guest->config != NULL);
    atl_assert(guest->machine != NULL);
    const Atoll__Qemu__V1__Config *config = guest->config;
    char name[CMP_DOMAIN_NAME_MAX];
    char uuid[NAMED_UUID];
    cmp_domain_name(guest->vmid, name);
    domain_uuid(guest, uuid);
    cmp_xml_begin(xml, "domain");
    cmp_xml_attr(xml, "type", cmp_uses_kvm(config, guest->machine) ? "kvm" : "qemu");
    if (config->args != NULL)
        cmp_xml_attr(xml, "xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0");
    cmp_xml_element(xml, "name", name);
    cmp_xml_element(xml, "uuid", uuid);
    if (config->vmgenid != NULL && strlen(config->vmgenid) == NAMED_UUID - 1)
        cmp_xml_element(xml, "genid", config->vmgenid);
    cmp_xml_element(xml, "title", config->name);
    cmp_xml_begin(xml, "memory");
    cmp_xml_attr(xml, "unit", "MiB");
    char memory[24];
    (void)snprintf(memory, sizeof memory, "%" PRIu64, cmp_memory_mib(config));
    cmp_xml_text(xml, memory);
    cmp_xml_end(xml);
    domain_vcpu(guest, xml);
    domain_cputune(guest, xml);
    domain_sysinfo(guest, xml);
    domain_os(guest, xml);
    cmp_xml_features(guest, xml);
    cmp_xml_cpu(guest, xml);
    cmp_xml_clock(guest, xml);
    cmp_xml_element(xml, "on_poweroff", "destroy");
    cmp_xml_element(xml, "on_reboot", config->has_reboot && !config->reboot ? "destroy" : "restart");
    cmp_xml_element(xml, "on_crash", "destroy");
    domain_devices(guest, xml);
    domain_args(guest, xml);
    cmp_xml_end(xml);
}
