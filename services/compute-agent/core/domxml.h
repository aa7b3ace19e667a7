/*
 * A virtual machine's configuration as the XML of a transient libvirt domain. Pure: the same configuration
 * and the same facts give the same bytes. The domain is named after the guest ("atoll-100").
 */
#ifndef CMP_CORE_DOMXML_H
#define CMP_CORE_DOMXML_H

#include "core/drive.h"
#include "core/xml.h"

/* Where one disk's bytes are, as the storage-agent told. */
struct cmp_volume {
    char name[12];      /* of the drive: "scsi0" */
    const char *path;   /* absolute */
    const char *format; /* "raw", "qcow2" */
    bool block;         /* a block device, not a file */
    bool shared;        /* other nodes use it, too: libvirt leaves its owner alone */
    bool no_direct;     /* the file system takes no O_DIRECT: cache=none becomes writeback */
};

struct cmp_bridge {
    const char *name;
    uint32_t mtu;
};

/* What the configuration does not say: the machine it runs on. Everything is borrowed. */
struct cmp_machine {
    const char *accel;    /* "kvm" or "tcg" */
    const char *emulator; /* "/usr/bin/qemu-system-x86_64" */
    const char *run_dir;  /* folder of this guest's sockets */
    const char *ovmf_code;
    const char *ovmf_vars;
    bool cgroup2;
    const struct cmp_volume *volumes;
    size_t volume_count;
    const struct cmp_bridge *bridges;
    size_t bridge_count;
};

struct cmp_guest {
    uint32_t vmid;
    const Atoll__Qemu__V1__Config *config;
    const struct cmp_machine *machine;
    struct atl_arena *arena; /* for what is worked out on the way */
};

enum { CMP_DOMAIN_NAME_MAX = 24, CMP_BOOT_MAX = 128 };

/* "atoll-100" */
void cmp_domain_name(uint32_t vmid, char name[CMP_DOMAIN_NAME_MAX]);
/* The guest id in a domain's name; 0 when it is none of ours. */
uint32_t cmp_domain_vmid(const char *name);

/* The whole domain. Cost: about 20 us. */
void cmp_domain_xml(const struct cmp_guest *guest, struct cmp_xml *xml);

/* One device, for plugging it in or out while the guest runs. boot: 1 and up, 0: not booted from. */
void cmp_disk_xml(const struct cmp_guest *guest, const struct cmp_drive *drive, uint32_t boot,
                  struct cmp_xml *xml);
void cmp_net_xml(const struct cmp_guest *guest, const Atoll__Qemu__V1__NetSlot *slot, uint32_t boot,
                 struct cmp_xml *xml);

/* The name libvirt gives a drive in its statistics ("sda"); size: 8 bytes. */
void cmp_disk_target(const Atoll__Qemu__V1__Config *config, enum cmp_bus bus, uint32_t index, char target[8]);
/* The host's end of a network interface: "tap100i0". */
void cmp_tap_name(uint32_t vmid, uint32_t index, char name[16]);

/*
 * The devices to boot from, in order ("scsi0", "net0"): `boot: order=`, the letters of the old form, or what
 * the machine has. Names that are not configured are left out. Returns how many; at most CMP_BOOT_MAX.
 */
size_t cmp_boot_order(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena, const char **names);
/* What a new machine gets when its maker said nothing: first disk, first CD drive with a medium, first
 * network. */
const char *cmp_boot_default(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena);

/* Small facts that several files need. */
bool cmp_is_q35(const Atoll__Qemu__V1__Config *config);
bool cmp_is_windows(const Atoll__Qemu__V1__Config *config);
uint32_t cmp_vcpus_max(const Atoll__Qemu__V1__Config *config);
uint32_t cmp_vcpus_now(const Atoll__Qemu__V1__Config *config);
uint64_t cmp_memory_mib(const Atoll__Qemu__V1__Config *config);
bool cmp_hotplug_has(const Atoll__Qemu__V1__Config *config, const char *kind);
bool cmp_uses_kvm(const Atoll__Qemu__V1__Config *config, const struct cmp_machine *machine);
/* Turns %XX into bytes; the result lives in the arena. */
const char *cmp_url_decode(const char *text, struct atl_arena *arena);

/* Parts of cmp_domain_xml(), each in a file of its own. */
void cmp_xml_cpu(const struct cmp_guest *guest, struct cmp_xml *xml);
void cmp_xml_features(const struct cmp_guest *guest, struct cmp_xml *xml);
void cmp_xml_clock(const struct cmp_guest *guest, struct cmp_xml *xml);
void cmp_xml_storage(const struct cmp_guest *guest, struct cmp_xml *xml);
void cmp_xml_nets(const struct cmp_guest *guest, struct cmp_xml *xml);
void cmp_xml_consoles(const struct cmp_guest *guest, struct cmp_xml *xml);
/* How many iothreads the disks want, numbered from 1 in the order of the drives. */
uint32_t cmp_iothreads(const struct cmp_guest *guest);

#endif
