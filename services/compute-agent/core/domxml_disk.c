/* Disks, drives and their controllers in a domain. */
#include "core/domxml.h"

#include <stdio.h>
#include <string.h>

enum { LSI_UNITS = 7, SD_OF_SATA = 32, SD_OF_IDE = 40 };

/* Models of the API and what libvirt calls them. */
static const struct {
    const char *name;
    const char *model;
} scsi_models[] = {
    {"lsi", "lsilogic"},
    {"lsi53c810", "lsilogic"},
    {"virtio-scsi-pci", "virtio-scsi"},
    {"virtio-scsi-single", "virtio-scsi"},
    {"megasas", "lsisas1078"},
    {"pvscsi", "vmpvscsi"},
};

static const char *scsi_hardware(const Atoll__Qemu__V1__Config *config)
{
    return config->scsihw != NULL ? config->scsihw : "lsi";
}

static const char *scsi_model(const Atoll__Qemu__V1__Config *config)
{
    for (size_t i = 0; i < ATL_COUNT(scsi_models); i++)
        if (strcmp(scsi_models[i].name, scsi_hardware(config)) == 0)
            return scsi_models[i].model;
    return "lsilogic";
}

static bool scsi_single(const Atoll__Qemu__V1__Config *config)
{
    return strcmp(scsi_hardware(config), "virtio-scsi-single") == 0;
}

static bool scsi_virtio(const Atoll__Qemu__V1__Config *config)
{
    return strcmp(scsi_model(config), "virtio-scsi") == 0;
}

static void device_letters(const char *prefix, uint32_t index, char target[8])
{
    atl_assert(index < 26 * 27);
    if (index < 26)
        (void)snprintf(target, 8, "%s%c", prefix, (char)('a' + index));
    else
        (void)snprintf(target, 8, "%s%c%c", prefix, (char)('a' + index / 26 - 1), (char)('a' + index % 26));
}

void cmp_disk_target(const Atoll__Qemu__V1__Config *config, enum cmp_bus bus, uint32_t index, char target[8])
{
    index %= 31;
    switch (bus) {
    case CMP_SCSI:
        device_letters("sd", index, target);
        break;
    case CMP_SATA:
        device_letters("sd", SD_OF_SATA + index, target);
        break;
    case CMP_VIRTIO:
        device_letters("vd", index, target);
        break;
    default:
        if (cmp_is_q35(config))
            device_letters("sd", SD_OF_IDE + index, target);
        else
            device_letters("hd", index, target);
        break;
    }
}

static bool wants_iothread(const Atoll__Qemu__V1__Config *config, const struct cmp_drive *item)
{
    if (!item->drive->has_iothread || !item->drive->iothread)
        return false;
    return item->bus == CMP_VIRTIO || (item->bus == CMP_SCSI && scsi_single(config));
}

/* The iothread of a drive, from 1; 0: it has none. */
static uint32_t iothread_of(const struct cmp_guest *guest, enum cmp_bus bus, uint32_t index)
{
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(guest->config, guest->arena, &count);
    uint32_t number = 0;
    for (size_t i = 0; i < count; i++) {
        if (!wants_iothread(guest->config, &drives[i]))
            continue;
        number++;
        if (drives[i].bus == bus && drives[i].index == index)
            return number;
    }
    return 0;
}

uint32_t cmp_iothreads(const struct cmp_guest *guest)
{
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(guest->config, guest->arena, &count);
    uint32_t number = 0;
    for (size_t i = 0; i < count; i++)
        number += wants_iothread(guest->config, &drives[i]);
    return number;
}

/* --- one disk ---------------------------------------------------------------------------------------------
 */

static const struct cmp_volume *find_volume(const struct cmp_guest *guest, const char *name)
{
    for (size_t i = 0; i < guest->machine->volume_count; i++)
        if (strcmp(guest->machine->volumes[i].name, name) == 0)
            return &guest->machine->volumes[i];
    return NULL;
}

static const char *disk_cache(const Atoll__Qemu__V1__Drive *drive, const struct cmp_volume *volume)
{
    const char *cache = drive->cache != NULL ? drive->cache : "none";
    if (volume->no_direct && strcmp(cache, "none") == 0)
        return "writeback";
    if (volume->no_direct && strcmp(cache, "directsync") == 0)
        return "writethrough";
    return cache;
}

static const char *disk_io(const Atoll__Qemu__V1__Drive *drive, const char *cache)
{
    bool direct = strcmp(cache, "none") == 0 || strcmp(cache, "directsync") == 0;
    if (drive->aio != NULL && strcmp(drive->aio, "native") == 0 && !direct)
        return "threads"; /* QEMU refuses native without O_DIRECT */
    return drive->aio != NULL ? drive->aio : "io_uring";
}

static const char *disk_zeroes(const Atoll__Qemu__V1__Drive *drive)
{
    if (drive->has_detect_zeroes && !drive->detect_zeroes)
        return "off";
    return drive->discard != NULL && strcmp(drive->discard, "on") == 0 ? "unmap" : "on";
}

static void disk_driver(const struct cmp_guest *guest, const struct cmp_drive *item,
                        const struct cmp_volume *volume, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Drive *drive = item->drive;
    cmp_xml_begin(xml, "driver");
    cmp_xml_attr(xml, "name", "qemu");
    if (cmp_drive_is_cdrom(drive)) {
        cmp_xml_attr(xml, "type", "raw");
        cmp_xml_end(xml);
        return;
    }
    const char *cache = disk_cache(drive, volume);
    const char *werror = drive->werror;
    if (werror != NULL && strcmp(werror, "enospc") == 0)
        werror = "enospace";
    cmp_xml_attr(xml, "type", volume->format);
    cmp_xml_attr(xml, "cache", cache);
    cmp_xml_attr(xml, "error_policy", werror);
    cmp_xml_attr(xml, "rerror_policy", drive->rerror);
    cmp_xml_attr(xml, "io", disk_io(drive, cache));
    cmp_xml_attr(xml, "discard",
                 drive->discard != NULL && strcmp(drive->discard, "on") == 0 ? "unmap" : "ignore");
    cmp_xml_attr(xml, "detect_zeroes", disk_zeroes(drive));
    uint32_t iothread = item->bus == CMP_VIRTIO ? iothread_of(guest, item->bus, item->index) : 0;
    if (iothread > 0)
        cmp_xml_attr_uint(xml, "iothread", iothread);
    if (item->bus == CMP_VIRTIO && drive->has_queues && drive->queues > 0)
        cmp_xml_attr_uint(xml, "queues", (uint64_t)drive->queues);
    cmp_xml_end(xml);
}

struct limit {
    const char *name;
    uint64_t value;
};

static uint64_t bytes_limit(bool has_bytes, int64_t bytes, bool has_mb, double mb)
{
    if (has_mb && mb > 0 && mb < 1e12)
        return (uint64_t)(mb * 1048576.0);
    return has_bytes && bytes > 0 ? (uint64_t)bytes : 0;
}

static uint64_t plain_limit(bool has, int64_t value)
{
    return has && value > 0 ? (uint64_t)value : 0;
}

static void disk_limits(const Atoll__Qemu__V1__Drive *d, struct cmp_xml *xml)
{
    uint64_t burst = bytes_limit(false, 0, d->has_mbps_max, d->mbps_max);
    uint64_t burst_rd = bytes_limit(false, 0, d->has_mbps_rd_max, d->mbps_rd_max);
    uint64_t burst_wr = bytes_limit(false, 0, d->has_mbps_wr_max, d->mbps_wr_max);
    uint64_t ops = plain_limit(d->has_iops_max, d->iops_max);
    uint64_t ops_rd = plain_limit(d->has_iops_rd_max, d->iops_rd_max);
    uint64_t ops_wr = plain_limit(d->has_iops_wr_max, d->iops_wr_max);
    const struct limit limits[] = {
        {"total_bytes_sec", bytes_limit(d->has_bps, d->bps, d->has_mbps, d->mbps)},
        {"read_bytes_sec", bytes_limit(d->has_bps_rd, d->bps_rd, d->has_mbps_rd, d->mbps_rd)},
        {"write_bytes_sec", bytes_limit(d->has_bps_wr, d->bps_wr, d->has_mbps_wr, d->mbps_wr)},
        {"total_iops_sec", plain_limit(d->has_iops, d->iops)},
        {"read_iops_sec", plain_limit(d->has_iops_rd, d->iops_rd)},
        {"write_iops_sec", plain_limit(d->has_iops_wr, d->iops_wr)},
        {"total_bytes_sec_max", burst},
        {"read_bytes_sec_max", burst_rd},
        {"write_bytes_sec_max", burst_wr},
        {"total_iops_sec_max", ops},
        {"read_iops_sec_max", ops_rd},
        {"write_iops_sec_max", ops_wr},
        {"total_bytes_sec_max_length", burst ? plain_limit(d->has_bps_max_length, d->bps_max_length) : 0},
        {"read_bytes_sec_max_length",
         burst_rd ? plain_limit(d->has_bps_rd_max_length, d->bps_rd_max_length) : 0},
        {"write_bytes_sec_max_length",
         burst_wr ? plain_limit(d->has_bps_wr_max_length, d->bps_wr_max_length) : 0},
        {"total_iops_sec_max_length", ops ? plain_limit(d->has_iops_max_length, d->iops_max_length) : 0},
        {"read_iops_sec_max_length",
         ops_rd ? plain_limit(d->has_iops_rd_max_length, d->iops_rd_max_length) : 0},
        {"write_iops_sec_max_length",
         ops_wr ? plain_limit(d->has_iops_wr_max_length, d->iops_wr_max_length) : 0},
    };
    bool begun = false;
    for (size_t i = 0; i < ATL_COUNT(limits); i++) {
        if (limits[i].value == 0)
            continue;
        if (!begun)
            cmp_xml_begin(xml, "iotune");
        begun = true;
        cmp_xml_element_uint(xml, limits[i].name, limits[i].value);
    }
    if (begun)
        cmp_xml_end(xml);
}

static const char *disk_bus(const Atoll__Qemu__V1__Config *config, enum cmp_bus bus)
{
    if (bus == CMP_IDE && cmp_is_q35(config))
        return "sata"; /* q35 has no IDE; its first AHCI takes their place */
    return cmp_bus_to_text(bus);
}

static void disk_address(const struct cmp_guest *guest, const struct cmp_drive *item, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    uint32_t controller = 0;
    uint32_t bus = 0;
    uint32_t target = 0;
    uint32_t unit = item->index;
    if (item->bus == CMP_VIRTIO)
        return; /* a PCI device: libvirt finds it a place */
    if (item->bus == CMP_IDE && !cmp_is_q35(config)) {
        bus = item->index / 2;
        unit = item->index % 2;
    } else if (item->bus == CMP_SATA) {
        controller = cmp_is_q35(config) ? 1 : 0;
    } else if (item->bus == CMP_SCSI && scsi_single(config)) {
        controller = item->index;
        unit = 0;
    } else if (item->bus == CMP_SCSI && strcmp(scsi_model(config), "lsilogic") == 0) {
        controller = item->index / LSI_UNITS;
        unit = item->index % LSI_UNITS;
    } else if (item->bus == CMP_SCSI) {
        target = item->index;
        unit = 0;
    }
    cmp_xml_begin(xml, "address");
    cmp_xml_attr(xml, "type", "drive");
    cmp_xml_attr_uint(xml, "controller", controller);
    cmp_xml_attr_uint(xml, "bus", bus);
    cmp_xml_attr_uint(xml, "target", target);
    cmp_xml_attr_uint(xml, "unit", unit);
    cmp_xml_end(xml);
}

static void disk_source(const Atoll__Qemu__V1__Drive *drive, const struct cmp_volume *volume,
                        struct cmp_xml *xml)
{
    if (volume->path == NULL || (drive->file != NULL && strcmp(drive->file, "none") == 0))
        return; /* a drive without a medium */
    cmp_xml_begin(xml, "source");
    cmp_xml_attr(xml, volume->block ? "dev" : "file", volume->path);
    /* A copy that ends would take the image from the guest that has moved (docs/decisions/0011). */
    if (volume->shared && !cmp_drive_is_cdrom(drive))
        cmp_xml_empty(xml, "seclabel", "model", "dac", "relabel", "no", NULL);
    cmp_xml_end(xml);
}

static void disk_names(const struct cmp_guest *guest, const struct cmp_drive *item, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Drive *drive = item->drive;
    if (drive->serial != NULL)
        cmp_xml_element(xml, "serial", cmp_url_decode(drive->serial, guest->arena));
    if (drive->wwn != NULL && strlen(drive->wwn) > 2 && item->bus != CMP_VIRTIO)
        cmp_xml_element(xml, "wwn", drive->wwn + 2);
    if (item->bus == CMP_SCSI && !cmp_drive_is_cdrom(drive)) {
        cmp_xml_element(xml, "vendor", drive->vendor);
        cmp_xml_element(xml, "product", drive->product);
    }
}

void cmp_disk_xml(const struct cmp_guest *guest, const struct cmp_drive *item, uint32_t boot,
                  struct cmp_xml *xml)
{
    static const struct cmp_volume nothing = {.format = "raw"};
    const struct cmp_volume *volume = find_volume(guest, item->name);
    if (volume == NULL)
        volume = &nothing;
    const Atoll__Qemu__V1__Drive *drive = item->drive;
    bool cdrom = cmp_drive_is_cdrom(drive);
    char target[8];
    char alias[20];
    cmp_disk_target(guest->config, item->bus, item->index, target);
    (void)snprintf(alias, sizeof alias, "ua-%s", item->name);
    cmp_xml_begin(xml, "disk");
    cmp_xml_attr(xml, "type", volume->block ? "block" : "file");
    cmp_xml_attr(xml, "device", cdrom ? "cdrom" : "disk");
    if (!cdrom && drive->has_snapshot && drive->snapshot)
        cmp_xml_attr(xml, "snapshot", "no");
    disk_driver(guest, item, volume, xml);
    disk_source(drive, volume, xml);
    cmp_xml_begin(xml, "target");
    cmp_xml_attr(xml, "dev", target);
    cmp_xml_attr(xml, "bus", disk_bus(guest->config, item->bus));
    if (drive->has_ssd && drive->ssd && item->bus != CMP_VIRTIO)
        cmp_xml_attr_uint(xml, "rotation_rate", 1);
    cmp_xml_end(xml);
    if (!cdrom)
        disk_limits(drive, xml);
    if (cdrom || (drive->has_ro && drive->ro))
        cmp_xml_empty(xml, "readonly", NULL);
    if (!cdrom && drive->has_snapshot && drive->snapshot)
        cmp_xml_empty(xml, "transient", NULL);
    disk_names(guest, item, xml);
    if (boot > 0) {
        cmp_xml_begin(xml, "boot");
        cmp_xml_attr_uint(xml, "order", boot);
        cmp_xml_end(xml);
    }
    cmp_xml_empty(xml, "alias", "name", alias, NULL);
    disk_address(guest, item, xml);
    cmp_xml_end(xml);
}

/* --- controllers and all disks ----------------------------------------------------------------------------
 */

static void controller(struct cmp_xml *xml, const char *type, uint32_t index, const char *model)
{
    cmp_xml_begin(xml, "controller");
    cmp_xml_attr(xml, "type", type);
    cmp_xml_attr_uint(xml, "index", index);
    cmp_xml_attr(xml, "model", model);
}

static void scsi_controller(const struct cmp_guest *guest, uint32_t index, struct cmp_xml *xml)
{
    controller(xml, "scsi", index, scsi_model(guest->config));
    if (scsi_single(guest->config)) {
        char name[16];
        (void)snprintf(name, sizeof name, "scsi%u", (unsigned int)index);
        const Atoll__Qemu__V1__Drive *drive = cmp_drive_find(guest->config, name);
        uint32_t iothread = iothread_of(guest, CMP_SCSI, index);
        uint64_t queues =
            drive != NULL && drive->has_queues && drive->queues > 0 ? (uint64_t)drive->queues : 0;
        if (iothread > 0 || queues > 0) {
            cmp_xml_begin(xml, "driver");
            if (iothread > 0)
                cmp_xml_attr_uint(xml, "iothread", iothread);
            if (queues > 0)
                cmp_xml_attr_uint(xml, "queues", queues);
            cmp_xml_end(xml);
        }
    }
    cmp_xml_end(xml);
}

/* All up to the highest that is used: libvirt would fill holes with controllers of another model. */
static void scsi_controllers(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    uint32_t count = config->scsihw != NULL && scsi_virtio(config) && !scsi_single(config) ? 1 : 0;
    for (size_t i = 0; i < config->n_scsi; i++) {
        uint32_t index = config->scsi[i]->index % 31;
        uint32_t need = 1;
        if (scsi_single(config))
            need = index + 1;
        else if (strcmp(scsi_model(config), "lsilogic") == 0)
            need = index / LSI_UNITS + 1;
        if (need > count)
            count = need;
    }
    for (uint32_t i = 0; i < count; i++)
        scsi_controller(guest, i, xml);
}

void cmp_xml_storage(const struct cmp_guest *guest, struct cmp_xml *xml)
{
    const Atoll__Qemu__V1__Config *config = guest->config;
    const char *names[CMP_BOOT_MAX];
    size_t boot_count = cmp_boot_order(config, guest->arena, names);
    scsi_controllers(guest, xml);
    if (config->n_sata > 0 && cmp_is_q35(config)) {
        controller(xml, "sata", 0, NULL);
        cmp_xml_end(xml);
    }
    if (config->n_sata > 0) {
        controller(xml, "sata", cmp_is_q35(config) ? 1 : 0, NULL);
        cmp_xml_end(xml);
    }
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(config, guest->arena, &count);
    for (size_t i = 0; i < count; i++) {
        uint32_t boot = 0;
        for (size_t k = 0; k < boot_count; k++)
            if (strcmp(names[k], drives[i].name) == 0)
                boot = (uint32_t)k + 1;
        cmp_disk_xml(guest, &drives[i], boot, xml);
    }
}
