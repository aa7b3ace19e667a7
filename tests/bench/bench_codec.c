/* Times of the codec: a full `create` of 60 parameters in, 1,000 rows of /cluster/resources out. Prints a
 * table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/qemu/v1/qemu.atl.h"
#include "pure/codec.h"

enum { IN_ROUNDS = 2000, OUT_ROUNDS = 50, PASSES = 15, ROWS = 1000 };

static const char form[] =
    "node=pve1&vmid=100&name=web-server&memory=4096&balloon=2048&cores=4&sockets=1&cpu=host,flags%3D%2Baes&"
    "ostype=l26&"
    "onboot=1&boot=order%3Dscsi0%3Bnet0&agent=1,fstrim_cloned_disks%3D1&bios=ovmf&machine=q35&scsihw=virtio-"
    "scsi-single&"
    "efidisk0=local:1,efitype%3D4m,pre-enrolled-keys%3D1&scsi0=local:32,discard%3Don,iothread%3D1,ssd%3D1&"
    "scsi1=local:100,discard%3Don,iothread%3D1,backup%3D0&scsi2=local:8&scsi3=local:8&ide2=local:cloudinit,"
    "media%3Dcdrom&"
    "sata0=none,media%3Dcdrom&virtio0=local:4,iops_rd%3D100,mbps_wr%3D12.5&"
    "net0=virtio%3DBC:24:11:00:00:01,bridge%3Dvmbr0,firewall%3D1,tag%3D5&net1=virtio,bridge%3Dvmbr1,rate%"
    "3D10.5&"
    "net2=e1000,bridge%3Dvmbr2&net3=virtio,bridge%3Dvmbr3,queues%3D4&ipconfig0=ip%3D10.0.0.2%2F24,gw%3D10.0."
    "0.1&"
    "ipconfig1=ip%3Ddhcp,ip6%3Dauto&ipconfig2=ip%3Ddhcp&ipconfig3=ip%3Ddhcp&ciuser=admin&cipassword=geheim-"
    "genug&"
    "citype=nocloud&ciupgrade=0&sshkeys=ssh-ed25519%2520AAAA%250A&nameserver=10.0.0.1&searchdomain=example."
    "org&"
    "serial0=socket&vga=serial0&tags=web%3Binternal&description=A+web+server&startup=order%3D2,up%3D10&numa="
    "0&"
    "hotplug=disk,network,usb&kvm=1&acpi=1&tablet=0&protection=0&localtime=0&freeze=0&autostart=0&cpulimit=3."
    "5&"
    "cpuunits=200&shares=500&keyboard=de&smbios1=uuid%3D0a0b0c0d-0000-4000-8000-000000000001&vmgenid=1&"
    "rng0=source%3D%2Fdev%2Furandom&pool=web";

static double now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

struct times {
    double form;
    double decode;
    double validate;
};

/* The best of some passes: what the code takes, not what the neighbours do. */
static struct times time_in(size_t *ret_params)
{
    struct times best = {1e9, 1e9, 1e9};
    for (int pass = 0; pass < PASSES; pass++) {
        struct times sum = {0};
        struct atl_arena arena = {0};
        for (int i = 0; i < IN_ROUNDS; i++) {
            struct atl_param *params = NULL;
            size_t count = 0;
            ProtobufCMessage *message = NULL;
            static struct atl_errors errors;
            struct atl_error err = {0};
            errors.count = 0;
            atl_arena_reset(&arena);
            double start = now_us();
            enum atl_code code = atl_form_params(form, sizeof form - 1, &arena, &params, &count, &err);
            double parsed = now_us();
            if (code == ATL_OK)
                code = atl_params_decode(&atl_msg_qemu_v1_CreateRequest, params, count, &arena, &message,
                                         &errors);
            double decoded = now_us();
            if (code == ATL_OK)
                code = atl_validate(&atl_msg_qemu_v1_CreateRequest, message, &errors);
            double validated = now_us();
            if (code == ATL_E_INVALID) {
                (void)fprintf(stderr, "refused: %s %s\n", errors.items[0].field, errors.items[0].text);
                exit(1);
            }
            sum.form += parsed - start;
            sum.decode += decoded - parsed;
            sum.validate += validated - decoded;
            *ret_params = count;
        }
        atl_arena_done(&arena);
        if (sum.form + sum.decode + sum.validate < best.form + best.decode + best.validate)
            best = sum;
    }
    return (struct times){best.form / IN_ROUNDS, best.decode / IN_ROUNDS, best.validate / IN_ROUNDS};
}

static void fill_row(Atoll__Cluster__V1__ResourcesRow *row, struct atl_arena *arena, unsigned i)
{
    atoll__cluster__v1__resources_row__init(row);
    char *nothing = atl_arena_strdup(arena, "");
    row->id = atl_arena_format(arena, "qemu/%u", 100 + i);
    row->type = atl_arena_strdup(arena, "qemu");
    row->node = atl_arena_format(arena, "pve%u", i % 7);
    row->name = atl_arena_format(arena, "server-%u.example.org", i);
    row->status = atl_arena_strdup(arena, "running");
    row->pool = atl_arena_strdup(arena, "web");
    row->tags = atl_arena_strdup(arena, "web;internal");
    row->hastate = nothing;
    row->has_vmid = row->has_cpu = row->has_maxcpu = row->has_mem = row->has_maxmem = row->has_disk = 1;
    row->has_maxdisk = row->has_netin = row->has_netout = row->has_diskread = row->has_diskwrite = 1;
    row->has_template_ = row->has_uptime = 1;
    row->vmid = 100 + i;
    row->cpu = (double)(i * 7919 % 1000) / 2999; /* all 17 digits, as a measured load has them */
    row->maxcpu = 4;
    row->mem = 2147483648LL + i * 4096;
    row->maxmem = 4294967296LL;
    row->maxdisk = 34359738368LL;
    row->netin = 123456789LL * i;
    row->netout = 987654321LL * i;
    row->diskread = 55555555LL * i;
    row->diskwrite = 7777777LL * i;
    row->uptime = 86400 + i;
}

static double time_out(size_t *ret_bytes)
{
    struct atl_arena arena = {0};
    Atoll__Cluster__V1__ListResourcesReply reply = ATOLL__CLUSTER__V1__LIST_RESOURCES_REPLY__INIT;
    reply.n_entry = ROWS;
    reply.entry = atl_arena_array(&arena, Atoll__Cluster__V1__ResourcesRow *, ROWS);
    for (unsigned i = 0; i < ROWS; i++) {
        reply.entry[i] = atl_arena_new(&arena, Atoll__Cluster__V1__ResourcesRow);
        fill_row(reply.entry[i], &arena, i);
    }
    struct atl_buf out = {0};
    double best = 1e9;
    for (int pass = 0; pass < PASSES; pass++) {
        double start = now_us();
        for (int i = 0; i < OUT_ROUNDS; i++) {
            atl_buf_reset(&out);
            atl_json_encode(&atl_msg_cluster_v1_ListResourcesReply, &reply.base, &out, NULL);
        }
        double took = (now_us() - start) / OUT_ROUNDS;
        if (took < best)
            best = took;
    }
    *ret_bytes = out.length;
    atl_buf_done(&out);
    atl_arena_done(&arena);
    return best;
}

int main(void)
{
    size_t params = 0;
    size_t bytes = 0;
    struct times in = time_in(&params);
    double out = time_out(&bytes);
    printf("%-44s %8.1f us\n", "form text to parameters", in.form);
    printf("%-44s %8.1f us\n", "parameters to message", in.decode);
    printf("%-44s %8.1f us\n", "validation", in.validate);
    printf("%-44s %8.1f us   %zu parameters, budget 30 us\n", "decode + validate", in.decode + in.validate,
           params);
    printf("%-44s %8.1f us   %d rows of 21 fields, %zu bytes, budget 1000 us\n", "answer to JSON", out, ROWS,
           bytes);
    return 0;
}
