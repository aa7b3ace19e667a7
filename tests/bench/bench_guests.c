/*
 * Writes the configuration files of many guests into the tree of a node that runs, through the bus as
 * compute-agent does, a hundred in a transaction. The ids are those that the fake drivers make up.
 *
 * usage: bench_guests RUN-DIR NODE VIRTUAL-MACHINES CONTAINERS       root
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/bus.h"
#include "io/mirror.h"

enum { VM_FIRST = 10000, CT_FIRST = 200000, BATCH = ATL_TXN_OPERATIONS };

static char *vm_text(unsigned int vmid)
{
    return atl_format("agent: 1\nboot: order=scsi0;net0\ncores: %u\nmemory: %u\nname: vm%u\n"
                      "net0: virtio=BC:24:11:%02X:%02X:%02X,bridge=vmbr0\nonboot: 0\nostype: l26\n"
                      "scsi0: local:%u/vm-%u-disk-0.qcow2,discard=on,iothread=1,size=32G\n"
                      "scsihw: virtio-scsi-single\ntags: bench;made-up\n",
                      1 + vmid % 8, 1024 * (1 + vmid % 16), vmid, vmid >> 16 & 255, vmid >> 8 & 255,
                      vmid & 255, vmid, vmid);
}

static char *ct_text(unsigned int vmid)
{
    return atl_format("arch: amd64\ncores: %u\nhostname: ct%u\nmemory: %u\n"
                      "net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:%02X:%02X:%02X,ip=dhcp,type=veth\n"
                      "ostype: debian\nrootfs: local:%u/vm-%u-disk-0.raw,size=8G\nswap: 512\n"
                      "tags: bench;made-up\nunprivileged: 1\n",
                      1 + vmid % 4, vmid, 256 * (1 + vmid % 16), vmid >> 16 & 255, vmid >> 8 & 255,
                      vmid & 255, vmid, vmid);
}

struct kind {
    const char *folder;
    unsigned int first;
    char *(*text)(unsigned int vmid);
};

static enum atl_code write_guests(struct atl_bus *bus, const char *node, const struct kind *kind,
                                  unsigned int count, struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    for (unsigned int done = 0; code == ATL_OK && done < count;) {
        ATL_TXN_AT_EXIT struct atl_txn txn;
        struct atl_revision revision;
        atl_txn_init(&txn);
        for (unsigned int i = 0; i < BATCH && done < count; i++, done++) {
            unsigned int vmid = kind->first + done;
            ATL_FREE_AT_EXIT char *path = atl_format("nodes/%s/%s/%u.conf", node, kind->folder, vmid);
            ATL_FREE_AT_EXIT char *text = kind->text(vmid);
            atl_txn_put(&txn, path, text, strlen(text));
        }
        code = atl_txn_send_wait(bus, &txn, 0, &revision, err);
    }
    return code;
}

int main(int argc, char **argv)
{
    static const struct kind vms = {"qemu-server", VM_FIRST, vm_text};
    static const struct kind cts = {"lxc", CT_FIRST, ct_text};
    if (argc != 5) {
        (void)fprintf(stderr, "usage: bench_guests RUN-DIR NODE VIRTUAL-MACHINES CONTAINERS\n");
        return 2;
    }
    struct atl_loop *loop = atl_loop_new();
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    const struct atl_bus_options options = {
        .loop = loop, .service = "compute-agent", .node = argv[2], .run_dir = argv[1], .client_only = true};
    enum atl_code code = atl_bus_open(&options, &bus, &err);
    if (code == ATL_OK)
        code = write_guests(bus, argv[2], &vms, (unsigned int)strtoul(argv[3], NULL, 10), &err);
    if (code == ATL_OK)
        code = write_guests(bus, argv[2], &cts, (unsigned int)strtoul(argv[4], NULL, 10), &err);
    if (code != ATL_OK)
        (void)fprintf(stderr, "bench_guests: %s\n", err.text);
    atl_bus_close(&bus);
    atl_loop_free(loop);
    return code == ATL_OK ? 0 : 1;
}
