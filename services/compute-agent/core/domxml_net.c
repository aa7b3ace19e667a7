/* Network interfaces, consoles and displays in a domain. */
#include "core/domxml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t bridge_mtu(const struct cmp_machine *machine, const char *name)
{
    for (size_t i = 0; i < machine->bridge_count; i++)
        if (strcmp(machine->bridges[i].name, name) == 0)
            return machine->bridges[i].mtu;
    return 0;
}

static const char *net_model(const char *model)
{
    if (model == NULL || strcmp(model, "virtio") == 0)
        return "virtio";
    if (strcmp(model, "e1000-82540em") == 0)
        return "e1000"; /* QEMU's own name for that chip */
    return model;
}

/* rate is in megabytes a second, libvirt counts kilobytes. */
static void net_rate(double rate, struct cmp_xml *xml)
{
    uint64_t average = (uint64_t)(rate * 1024.0);
    if (average == 0)
        average = 1;
    static const char *const directions[] = {"inbound", "outbound"};
    cmp_xml_begin(xml, "bandwidth");
    for (size_t i = 0; i < ATL_COUNT(directions); i++) {
        cmp_xml_begin(xml, directions[i]);
        cmp_xml_attr_uint(xml, "average", average);
        cmp_xml_end(xml);
    }
    cmp_xml_end(xml);
}

static void net_mtu(const struct cmp_guest *guest, const Atoll__Qemu__V1__Net *net, struct cmp_xml *xml)
{
    if (!net->has_mtu || net->mtu < 1)
        return;
    uint64_t mtu = (uint64_t)net->mtu;
    if (mtu == 1) /* that of the bridge */
        mtu = net->bridge != NULL ? bridge_mtu(guest->machine, net->bridge) : 0;
    if (mtu == 0)
        return;
    cmp_xml_begin(xml, "mtu");
    cmp_xml_attr_uint(xml, "size", mtu);
    cmp_xml_end(xml);
}

static void net_backend(const struct cmp_guest *guest, const Atoll__Qemu__V1__NetSlot *slot,
                        struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Net *net = slot->value;
    char tap[16];
    cmp_tap_name(guest->vmid, slot->index, tap);
    if (net->bridge != NULL) {
        cmp_xml_empty(xml, "source", "bridge", net->bridge, NULL);
        cmp_xml_empty(xml, "target", "dev", tap, NULL);
    }
    cmp_xml_empty(xml, "mac", "address", net->macaddr, NULL);
    cmp_xml_empty(xml, "model", "type", net_model(net->model), NULL);
    if (net->has_queues && net->queues > 1 && strcmp(net_model(net->model), "virtio") == 0) {
        cmp_xml_begin(xml, "driver");
        cmp_xml_attr_uint(xml, "queues", (uint64_t)net->queues);
        cmp_xml_end(xml);
    }
}

void cmp_net_xml(const struct cmp_guest *guest, const Atoll__Qemu__V1__NetSlot *slot, uint32_t boot,
                 struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Net *net = slot->value;
    char alias[20];
    (void)snprintf(alias, sizeof alias, "ua-net%u", (unsigned int)(slot->index % 100));
    cmp_xml_begin(xml, "interface");
    cmp_xml_attr(xml, "type", net->bridge != NULL ? "bridge" : "user");
    net_backend(guest, slot, xml);
    net_mtu(guest, net, xml);
    if (net->has_rate && net->rate > 0 && net->rate < 1e9 && net->bridge != NULL)
        net_rate(net->rate, xml);
    if (net->has_link_down && net->link_down)
        cmp_xml_empty(xml, "link", "state", "down", NULL);
    if (boot > 0) {
        cmp_xml_begin(xml, "boot");
        cmp_xml_attr_uint(xml, "order", boot);
        cmp_xml_end(xml);
    } else {
        cmp_xml_empty(xml, "rom", "enabled", "no",
                      NULL); /* nothing to load, so the firmware is done sooner */
    }
    cmp_xml_empty(xml, "alias", "name", alias, NULL);
    cmp_xml_end(xml);
}

static int net_order(const void *a, const void *b)
{
    const Atoll__Qemu__V1__NetSlot *const *left = a;
    const Atoll__Qemu__V1__NetSlot *const *right = b;
    return (*left)->index < (*right)->index ? -1 : (*left)->index > (*right)->index;
}

void cmp_xml_nets(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    const char *names[CMP_BOOT_MAX];
    size_t boot_count = cmp_boot_order(config, guest->arena, names);
    size_t count = 0;
    Atoll__Qemu__V1__NetSlot **nets =
        atl_arena_array(guest->arena, Atoll__Qemu__V1__NetSlot *, config->n_net + 1);
    for (size_t i = 0; i < config->n_net; i++)
        if (config->net[i]->value != NULL)
            nets[count++] = config->net[i];
    qsort(nets, count, sizeof *nets, net_order);
    for (size_t i = 0; i < count; i++) {
        char name[16];
        uint32_t boot = 0;
        (void)snprintf(name, sizeof name, "net%" PRIu32, nets[i]->index);
        for (size_t k = 0; k < boot_count; k++)
            if (strcmp(names[k], name) == 0)
                boot = (uint32_t)k + 1;
        cmp_net_xml(guest, nets[i], boot, xml);
    }
}

/* --- consoles ---------------------------------------------------------------------------------------------
 */

static void serial_port(const struct cmp_guest *guest, const Atoll__Qemu__V1__SerialSlot *slot,
                        struct cmp_xml *xml)
{
    bool socket = slot->value == NULL || strcmp(slot->value, "socket") == 0;
    const char *path = slot->value;
    if (socket)
        path = atl_arena_format(guest->arena, "%s/serial%u.sock", guest->machine->run_dir,
                                (unsigned int)slot->index);
    cmp_xml_begin(xml, "serial");
    cmp_xml_attr(xml, "type", socket ? "unix" : "dev");
    cmp_xml_begin(xml, "source");
    cmp_xml_attr(xml, "mode", socket ? "bind" : NULL);
    cmp_xml_attr(xml, "path", path);
    cmp_xml_end(xml);
    cmp_xml_begin(xml, "target");
    cmp_xml_attr_uint(xml, "port", slot->index);
    cmp_xml_end(xml);
    cmp_xml_end(xml);
}

static const struct {
    const char *type;
    const char *model;
    unsigned int heads;
} video_models[] = {
    {"std", "vga", 0},       {"cirrus", "cirrus", 0},    {"qxl", "qxl", 1},
    {"qxl2", "qxl", 2},      {"qxl3", "qxl", 3},         {"qxl4", "qxl", 4},
    {"virtio", "virtio", 0}, {"virtio-gl", "virtio", 0}, {"vmware", "vmvga", 0},
};

static void video(const Atoll__Qemu__V1__Vga *vga, struct cmp_xml *xml)
{
    const char *type = vga != NULL && vga->type != NULL ? vga->type : "std";
    const char *model = "none"; /* also serial0 and its like: the display is the serial port */
    unsigned int heads = 0;
    for (size_t i = 0; i < ATL_COUNT(video_models); i++) {
        if (strcmp(video_models[i].type, type) == 0) {
            model = video_models[i].model;
            heads = video_models[i].heads;
        }
    }
    bool vram = vga != NULL && vga->has_memory && vga->memory > 0;
    cmp_xml_begin(xml, "video");
    cmp_xml_begin(xml, "model");
    cmp_xml_attr(xml, "type", model);
    if (vram && strcmp(model, "none") != 0)
        cmp_xml_attr_uint(xml, heads > 0 ? "vgamem" : "vram", (uint64_t)vga->memory * 1024);
    if (heads > 0)
        cmp_xml_attr_uint(xml, "heads", heads);
    if (strcmp(type, "virtio-gl") == 0)
        cmp_xml_empty(xml, "acceleration", "accel3d", "yes", NULL);
    cmp_xml_end(xml);
    cmp_xml_end(xml);
}

static bool has_screen(const Atoll__Qemu__V1__Config *config)
{
    const char *type = config->vga != NULL ? config->vga->type : NULL;
    return type == NULL || (strcmp(type, "none") != 0 && strncmp(type, "serial", 6) != 0);
}

void cmp_xml_consoles(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    for (uint32_t index = 0; index < 4; index++)
        for (size_t i = 0; i < config->n_serial; i++)
            if (config->serial[i]->index == index)
                serial_port(guest, config->serial[i], xml);
    if (has_screen(config)) {
        cmp_xml_begin(xml, "graphics");
        cmp_xml_attr(xml, "type", "vnc");
        cmp_xml_attr(xml, "socket", atl_arena_format(guest->arena, "%s/vnc.sock", guest->machine->run_dir));
        cmp_xml_attr(xml, "keymap", config->keyboard);
        cmp_xml_end(xml);
        if (config->vga != NULL && config->vga->type != NULL && strcmp(config->vga->type, "virtio-gl") == 0)
            cmp_xml_empty(xml, "graphics", "type", "egl-headless", NULL);
    }
    bool tablet = (!config->has_tablet || config->tablet) && has_screen(config);
    if (tablet)
        cmp_xml_empty(xml, "input", "type", "tablet", "bus", "usb", NULL);
    cmp_xml_begin(xml, "controller");
    cmp_xml_attr(xml, "type", "usb");
    cmp_xml_attr(xml, "index", "0");
    cmp_xml_attr(xml, "model", !tablet ? "none" : cmp_is_q35(config) ? "qemu-xhci" : "piix3-uhci");
    cmp_xml_end(xml);
    video(config->vga, xml);
}
