/* What is wrong with a configuration that its single parameters do not show. */
#include <stdio.h>
#include <string.h>

#include "core/config.h"
#include "core/domxml.h"

static void drive_option(struct atl_errors *errors, const struct cmp_drive *item, bool given,
                         const char *option)
{
    if (given)
        atl_errors_add(errors, item->name, "'%s' is not possible on the %s bus; take it away", option,
                       cmp_bus_to_text(item->bus));
}

static void check_bus(const struct cmp_drive *item, struct atl_errors *errors)
{
    const Atoll__Qemu__V1__Drive *drive = item->drive;
    bool ata = item->bus == CMP_IDE || item->bus == CMP_SATA;
    bool scsi = item->bus == CMP_SCSI;
    bool virtio = item->bus == CMP_VIRTIO;
    drive_option(errors, item, ata && drive->has_iothread, "iothread");
    drive_option(errors, item, ata && drive->has_queues, "queues");
    drive_option(errors, item, ata && drive->has_ro, "ro");
    drive_option(errors, item, virtio && drive->has_ssd, "ssd");
    drive_option(errors, item, virtio && drive->wwn != NULL, "wwn");
    drive_option(errors, item, virtio && cmp_drive_is_cdrom(drive), "media=cdrom");
    drive_option(errors, item, !scsi && drive->has_scsiblock, "scsiblock");
    drive_option(errors, item, !scsi && drive->vendor != NULL, "vendor");
    drive_option(errors, item, !scsi && drive->product != NULL, "product");
    drive_option(errors, item, !ata && drive->model != NULL, "model");
    drive_option(errors, item, scsi && drive->has_queues && drive->queues > 256, "queues");
}

static bool mixed(bool total, bool read, bool write)
{
    return total && (read || write);
}

static void check_limits(const struct cmp_drive *item, struct atl_errors *errors)
{
    const Atoll__Qemu__V1__Drive *d = item->drive;
    bool bytes = mixed((d->has_bps && d->bps > 0) || (d->has_mbps && d->mbps > 0),
                       (d->has_bps_rd && d->bps_rd > 0) || (d->has_mbps_rd && d->mbps_rd > 0),
                       (d->has_bps_wr && d->bps_wr > 0) || (d->has_mbps_wr && d->mbps_wr > 0));
    bool operations =
        mixed(d->has_iops && d->iops > 0, d->has_iops_rd && d->iops_rd > 0, d->has_iops_wr && d->iops_wr > 0);
    if (bytes || operations)
        atl_errors_add(errors, item->name,
                       "a limit for all and one for reading or writing exclude each other");
    const double rates[] = {d->mbps, d->mbps_rd, d->mbps_wr, d->mbps_max, d->mbps_rd_max, d->mbps_wr_max};
    for (size_t i = 0; i < ATL_COUNT(rates); i++)
        if (rates[i] < 0 || rates[i] > 1e9)
            atl_errors_add(errors, item->name, "a limit in MB/s must be between 0 and 1000000000");
}

/* What the engine takes, after URL decoding. */
static bool plain_serial(const char *text)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _.+-";
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char *serial = cmp_url_decode(text, &arena);
    return serial[strspn(serial, allowed)] == '\0';
}

static void check_drive(const struct cmp_drive *item, struct atl_errors *errors)
{
    const Atoll__Qemu__V1__Drive *drive = item->drive;
    struct cmp_new_volume fresh = {0};
    if (drive->file == NULL) {
        atl_errors_add(errors, item->name,
                       "no volume given; write STORAGE:SIZE, a volume id, or none,media=cdrom");
        return;
    }
    check_bus(item, errors);
    check_limits(item, errors);
    bool empty = strcmp(drive->file, "none") == 0 || strcmp(drive->file, "cdrom") == 0;
    if (empty && !cmp_drive_is_cdrom(drive))
        atl_errors_add(errors, item->name, "'%s' is for CD drives: add media=cdrom, or name a volume",
                       drive->file);
    bool direct =
        drive->cache == NULL || strcmp(drive->cache, "none") == 0 || strcmp(drive->cache, "directsync") == 0;
    if (drive->aio != NULL && strcmp(drive->aio, "native") == 0 && !direct)
        atl_errors_add(errors, item->name, "aio=native needs cache=none or cache=directsync");
    bool is_new = cmp_drive_is_new(drive, &fresh);
    if (drive->import_from != NULL && (!is_new || fresh.size_bytes != 0 || fresh.cloudinit))
        atl_errors_add(errors, item->name,
                       "import-from needs a new volume of size 0, as in STORAGE:0,import-from=X");
    if (is_new && fresh.size_bytes == 0 && !fresh.cloudinit && drive->import_from == NULL)
        atl_errors_add(errors, item->name, "the size of a new volume must be larger than 0");
    if (is_new && !fresh.cloudinit && cmp_drive_is_cdrom(drive))
        atl_errors_add(errors, item->name, "a CD drive takes an image, not a new volume");
    if (drive->serial != NULL && !plain_serial(drive->serial))
        atl_errors_add(errors, item->name, "a serial number has letters, digits, blanks and _ . + - only");
    if (drive->has_scsiblock && drive->scsiblock)
        atl_errors_add(errors, item->name, "scsiblock is not built");
}

static void check_drives(const Atoll__Qemu__V1__Config *config, struct atl_errors *errors)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    size_t count = 0;
    size_t cloudinit = 0;
    const struct cmp_drive *drives = cmp_drives(config, &arena, &count);
    for (size_t i = 0; i < count; i++) {
        check_drive(&drives[i], errors);
        if (!cmp_drive_is_cloudinit(drives[i].drive))
            continue;
        if (++cloudinit > 1)
            atl_errors_add(errors, drives[i].name,
                           "there is another cloud-init drive already; one is enough");
    }
}

static void check_nets(const Atoll__Qemu__V1__Config *config, struct atl_errors *errors)
{
    for (size_t i = 0; i < config->n_net; i++) {
        const Atoll__Qemu__V1__Net *net = config->net[i]->value;
        char name[16];
        (void)snprintf(name, sizeof name, "net%" PRIu32, config->net[i]->index);
        if (net == NULL || net->model == NULL) {
            atl_errors_add(errors, name, "no model given; write for example virtio,bridge=vmbr0");
            continue;
        }
        bool virtio = strcmp(net->model, "virtio") == 0;
        if (net->has_mtu && !virtio)
            atl_errors_add(errors, name, "mtu is for the model virtio only");
        if (net->has_mtu && net->mtu != 1 && (net->mtu < 576 || net->mtu > 65520))
            atl_errors_add(errors, name, "mtu must be 1 (that of the bridge) or between 576 and 65520");
        if (net->has_queues && net->queues > 1 && !virtio)
            atl_errors_add(errors, name, "queues are for the model virtio only");
        unsigned int first = 0;
        if (net->macaddr != NULL && sscanf(net->macaddr, "%2x", &first) == 1 && (first & 1) != 0)
            atl_errors_add(errors, name, "'%s' is a multicast address; use one of a single machine",
                           net->macaddr);
    }
}

static void check_boot(const Atoll__Qemu__V1__Config *config, struct atl_errors *errors)
{
    if (config->boot == NULL || config->boot->order == NULL)
        return;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    for (const char *at = config->boot->order; *at != '\0';) {
        size_t length = strcspn(at, ";, ");
        const char *name = atl_arena_strndup(&arena, at, length);
        bool other = strncmp(name, "usb", 3) == 0 || strncmp(name, "hostpci", 7) == 0;
        if (length > 0 && !other && !cmp_setting_given(config, name))
            atl_errors_add(errors, "boot", "invalid bootorder: device '%s' does not exist", name);
        at += length;
        at += strspn(at, ";, ");
    }
}

static void check_sizes(const Atoll__Qemu__V1__Config *config, struct atl_errors *errors)
{
    int64_t memory = (int64_t)cmp_memory_mib(config);
    if (memory > 16 * 1024 * 1024)
        atl_errors_add(errors, "memory", "must be 16777216 MiB at most");
    if (config->has_balloon && config->balloon > memory)
        atl_errors_add(errors, "balloon", "value must be no more than the memory (%" PRId64 " MiB)", memory);
    int64_t sockets = config->has_sockets ? config->sockets : 1;
    int64_t cores = config->has_cores ? config->cores : 1;
    if (sockets > 64)
        atl_errors_add(errors, "sockets", "must be between 1 and 64");
    if (cores > 4096 || sockets * cores > 4096)
        atl_errors_add(errors, "cores", "sockets times cores must be 4096 at most");
    else if (config->has_vcpus && config->vcpus > sockets * cores)
        atl_errors_add(errors, "vcpus", "must be no more than sockets times cores (%" PRId64 ")",
                       sockets * cores);
}

static void check_cloudinit(const Atoll__Qemu__V1__Config *config, struct atl_errors *errors)
{
    if (config->citype != NULL && strcmp(config->citype, "opennebula") == 0)
        atl_errors_add(errors, "citype", "opennebula is not built; use nocloud or configdrive2");
    if (config->agent != NULL && config->agent->type != NULL && strcmp(config->agent->type, "isa") == 0)
        atl_errors_add(errors, "agent", "type=isa is not built; use virtio");
}

static void check_numa(const Atoll__Qemu__V1__Config *config, struct atl_errors *errors)
{
    double sum = 0;
    for (size_t i = 0; i < config->n_numa_node; i++)
        if (config->numa_node[i]->value != NULL)
            sum += config->numa_node[i]->value->memory;
    bool on = config->has_numa && config->numa && config->n_numa_node > 0;
    if (on && sum != (double)cmp_memory_mib(config))
        atl_errors_add(errors, "numa", "the nodes' memory must add up to the memory of the guest");
}

enum atl_code cmp_config_check(const Atoll__Qemu__V1__Config *config, struct atl_errors *errors)
{
    atl_assert(errors != NULL);
    size_t before = errors->count;
    check_drives(config, errors);
    check_nets(config, errors);
    check_boot(config, errors);
    check_sizes(config, errors);
    check_numa(config, errors);
    check_cloudinit(config, errors);
    return errors->count == before ? ATL_OK : ATL_E_INVALID;
}
