/* The node's own methods: load, version, time, resolver; and what it tells the status view. */
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "atoll/node/v1/node.atl.h"
#include "cmp.h"
#include "core/ct_node.h"
#include "drivers/lxc.h"
#include "io/service.h"
#include "node_all.h"

/* Which version of the API clients may expect; it is theirs, not ours. */
#define API_VERSION "9.0.0"
#define API_RELEASE "9.0"

struct node_part {
    struct cmp *cmp;
    struct atl_timer *timer;
    struct cmp_node_ticks ticks; /* at the last sample */
    double cpu;                  /* share in use between the last two samples, 0..1 */
    double wait;
};

static const atl_ns sample_period = 2 * ATL_SECOND;

static void sample(void *user)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct node_part *part = user;
    struct cmp_node_ticks now;
    cmp_node_ticks(cmp_lxc_read("/proc/stat", &arena), &now);
    uint64_t passed = now.total - part->ticks.total;
    if (now.total > part->ticks.total && part->ticks.total > 0) {
        part->cpu = (double)(now.busy - part->ticks.busy) / (double)passed;
        part->wait =
            now.wait >= part->ticks.wait ? (double)(now.wait - part->ticks.wait) / (double)passed : 0;
    }
    part->ticks = now;
}

static int64_t uptime(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_BOOTTIME, &now); /* cannot fail with this clock */
    return now.tv_sec;
}

/* --- status
 * ------------------------------------------------------------------------------------------------------- */

static void fill_memory(Atoll__Node__V1__GetStatusReply *reply, struct atl_arena *arena)
{
    const char *text = cmp_lxc_read("/proc/meminfo", arena);
    uint64_t total = cmp_node_meminfo(text, "MemTotal");
    uint64_t available = cmp_node_meminfo(text, "MemAvailable");
    uint64_t swap_total = cmp_node_meminfo(text, "SwapTotal");
    uint64_t swap_free = cmp_node_meminfo(text, "SwapFree");
    reply->memory = atl_arena_new(arena, Atoll__Node__V1__GetStatusReplyMemory);
    atoll__node__v1__get_status_reply_memory__init(reply->memory);
    reply->memory->has_total = reply->memory->has_free = reply->memory->has_used =
        reply->memory->has_available = true;
    reply->memory->total = (int64_t)total;
    reply->memory->available = (int64_t)available;
    reply->memory->free = (int64_t)cmp_node_meminfo(text, "MemFree");
    reply->memory->used = (int64_t)(total - available);
    reply->swap = atl_arena_new(arena, Atoll__Node__V1__GetStatusReplySwap);
    atoll__node__v1__get_status_reply_swap__init(reply->swap);
    reply->swap->has_total = reply->swap->has_free = reply->swap->has_used = true;
    reply->swap->total = (int64_t)swap_total;
    reply->swap->free = (int64_t)swap_free;
    reply->swap->used = (int64_t)(swap_total - swap_free);
    reply->ksm = atl_arena_new(arena, Atoll__Node__V1__GetStatusReplyKsm);
    atoll__node__v1__get_status_reply_ksm__init(reply->ksm);
    uint64_t pages = cmp_ct_number(cmp_lxc_read("/sys/kernel/mm/ksm/pages_sharing", arena));
    reply->ksm->has_shared = true;
    reply->ksm->shared = pages == UINT64_MAX ? 0 : (int64_t)pages * sysconf(_SC_PAGESIZE);
}

static void fill_cpu(Atoll__Node__V1__GetStatusReply *reply, const struct node_part *part,
                     struct atl_arena *arena)
{
    struct cmp_node_cpu cpu;
    cmp_node_cpuinfo(cmp_lxc_read("/proc/cpuinfo", arena), arena, &cpu);
    Atoll__Node__V1__GetStatusReplyCpuinfo *info =
        atl_arena_new(arena, Atoll__Node__V1__GetStatusReplyCpuinfo);
    atoll__node__v1__get_status_reply_cpuinfo__init(info);
    info->has_cpus = info->has_cores = info->has_sockets = info->has_user_hz = true;
    info->cpus = cpu.cpus;
    info->cores = cpu.cores;
    info->sockets = cpu.sockets;
    info->model = atl_arena_strdup(arena, cpu.model);
    info->flags = atl_arena_strdup(arena, cpu.flags);
    info->mhz = atl_arena_strdup(arena, cpu.mhz);
    info->hvm = atl_arena_strdup(arena, cpu.hvm ? "1" : "0");
    info->user_hz = sysconf(_SC_CLK_TCK);
    reply->cpuinfo = info;
    reply->has_cpu = reply->has_wait = reply->has_idle = true;
    reply->cpu = part->cpu;
    reply->wait = (int64_t)part->wait;
    reply->idle = 0;
    reply->n_loadavg = 3;
    reply->loadavg = atl_arena_array(arena, char *, 3);
    cmp_node_loadavg(cmp_lxc_read("/proc/loadavg", arena), arena, reply->loadavg);
}

static void fill_kernel(Atoll__Node__V1__GetStatusReply *reply, struct atl_arena *arena)
{
    struct utsname name;
    if (uname(&name) != 0)
        return;
    Atoll__Node__V1__GetStatusReplyCurrentKernel *kernel =
        atl_arena_new(arena, Atoll__Node__V1__GetStatusReplyCurrentKernel);
    atoll__node__v1__get_status_reply_current_kernel__init(kernel);
    kernel->sysname = atl_arena_strdup(arena, name.sysname);
    kernel->release = atl_arena_strdup(arena, name.release);
    kernel->version = atl_arena_strdup(arena, name.version);
    kernel->machine = atl_arena_strdup(arena, name.machine);
    reply->current_kernel = kernel;
    reply->kversion = atl_arena_format(arena, "%s %s %s", name.sysname, name.release, name.version);
}

static void fill_disk(Atoll__Node__V1__GetStatusReply *reply, struct atl_arena *arena)
{
    struct statvfs disk;
    if (statvfs("/", &disk) != 0)
        return;
    Atoll__Node__V1__GetStatusReplyRootfs *root = atl_arena_new(arena, Atoll__Node__V1__GetStatusReplyRootfs);
    atoll__node__v1__get_status_reply_rootfs__init(root);
    root->has_total = root->has_used = root->has_free = root->has_avail = true;
    root->total = (int64_t)(disk.f_blocks * disk.f_frsize);
    root->free = (int64_t)(disk.f_bfree * disk.f_frsize);
    root->avail = (int64_t)(disk.f_bavail * disk.f_frsize);
    root->used = root->total - root->free;
    reply->rootfs = root;
}

static void get_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    const struct node_part *part = user;
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Node__V1__GetStatusReply reply = ATOLL__NODE__V1__GET_STATUS_REPLY__INIT;
    fill_cpu(&reply, part, arena);
    fill_memory(&reply, arena);
    fill_kernel(&reply, arena);
    fill_disk(&reply, arena);
    reply.boot_info = atl_arena_new(arena, Atoll__Node__V1__GetStatusReplyBootInfo);
    atoll__node__v1__get_status_reply_boot_info__init(reply.boot_info);
    bool efi = access("/sys/firmware/efi", F_OK) == 0;
    reply.boot_info->mode = atl_arena_strdup(arena, efi ? "efi" : "legacy-bios");
    reply.pveversion = atl_arena_format(arena, "pve-manager/%s/atoll-%s", API_VERSION, atl_version());
    reply.has_uptime = true;
    reply.uptime = uptime();
    atl_request_reply(request, &reply.base);
}

/* --- the others
 * --------------------------------------------------------------------------------------------------- */

static void get_version(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    (void)user;
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Node__V1__GetVersionReply reply = ATOLL__NODE__V1__GET_VERSION_REPLY__INIT;
    reply.release = atl_arena_strdup(arena, API_RELEASE);
    reply.version = atl_arena_strdup(arena, API_VERSION);
    reply.repoid = atl_arena_format(arena, "atoll-%s", atl_version());
    atl_request_reply(request, &reply.base);
}

static void get_time(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    (void)user;
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Node__V1__GetTimeReply reply = ATOLL__NODE__V1__GET_TIME_REPLY__INIT;
    char link[256] = "";
    ssize_t length = readlink("/etc/localtime", link, sizeof link - 1);
    link[length > 0 ? length : 0] = '\0';
    reply.timezone =
        atl_arena_strdup(arena, cmp_node_zone(link, cmp_lxc_read("/etc/timezone", arena), arena));
    time_t now = time(NULL);
    struct tm local = {0};
    tzset(); /* the zone may have changed since the start */
    bool known = localtime_r(&now, &local) != NULL;
    reply.has_time = reply.has_localtime = true;
    reply.time = now;
    reply.localtime = now + (known ? local.tm_gmtoff : 0);
    atl_request_reply(request, &reply.base);
}

static void get_dns(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    (void)user;
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Node__V1__GetDnsReply reply = ATOLL__NODE__V1__GET_DNS_REPLY__INIT;
    struct cmp_node_resolver resolver;
    cmp_node_resolver(cmp_lxc_read("/etc/resolv.conf", arena), arena, &resolver);
    char **places[] = {&reply.dns1, &reply.dns2, &reply.dns3};
    for (size_t i = 0; i < ATL_COUNT(places); i++)
        if (resolver.servers[i] != NULL)
            *places[i] = atl_arena_strdup(arena, resolver.servers[i]);
    if (resolver.search != NULL)
        reply.search = atl_arena_strdup(arena, resolver.search);
    atl_request_reply(request, &reply.base);
}

/* SHA-256 of the certificate that the node's gateway shows, as AA:BB:...; NULL: there is none yet. */
static char *gateway_fingerprint(const char *state_dir, struct atl_arena *arena)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    FILE *file = fopen(atl_arena_format(arena, "%s/gateway/cert.pem", state_dir), "re");
    X509 *leaf = file != NULL ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    bool known = leaf != NULL && X509_digest(leaf, EVP_sha256(), digest, &size) == 1;
    X509_free(leaf);
    if (file != NULL)
        (void)fclose(file);
    if (!known)
        return NULL;
    char *text = atl_arena_alloc(arena, (size_t)size * 3);
    for (unsigned int i = 0; i < size; i++)
        (void)snprintf(text + (size_t)i * 3, 4, i + 1 < size ? "%02X:" : "%02X", digest[i]);
    return text;
}

/* --- the part
 * ----------------------------------------------------------------------------------------------------- */

/* What weighs more of processors and memory. */
static void fill_pressure(Atoll__Store__V1__NodeStatus *node, struct atl_arena *arena)
{
    double cpu = cmp_node_pressure(cmp_lxc_read("/proc/pressure/cpu", arena));
    double memory = cmp_node_pressure(cmp_lxc_read("/proc/pressure/memory", arena));
    node->pressure = cpu > memory ? cpu : memory;
    node->has_pressure = node->pressure >= 0;
}

static void part_status(void *self, struct cmp_status *status)
{
    const struct node_part *part = self;
    struct atl_arena *arena = status->arena;
    Atoll__Store__V1__NodeStatus *node = atl_arena_new(arena, Atoll__Store__V1__NodeStatus);
    atoll__store__v1__node_status__init(node);
    const char *memory = cmp_lxc_read("/proc/meminfo", arena);
    struct cmp_lxc_host host;
    struct statvfs disk = {0};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    node->has_cpu = node->has_maxcpu = node->has_mem = node->has_maxmem = node->has_uptime = true;
    node->cpu = part->cpu;
    node->maxcpu = cpus > 0 ? (uint32_t)cpus : 1;
    node->maxmem = cmp_node_meminfo(memory, "MemTotal");
    node->mem = node->maxmem - cmp_node_meminfo(memory, "MemAvailable");
    node->uptime = (uint64_t)uptime();
    fill_pressure(node, arena);
    if (statvfs("/", &disk) == 0) {
        node->has_disk = node->has_maxdisk = true;
        node->maxdisk = disk.f_blocks * disk.f_frsize;
        node->disk = (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
    }
    if (cmp_lxc_host_probe(part->cmp->options.run_dir, &host, NULL) == ATL_OK) {
        node->has_cgroup_mode = true;
        node->cgroup_mode = host.cgroup_version;
    }
    node->ssl_fingerprint = gateway_fingerprint(part->cmp->options.state_dir, arena);
    status->node = node;
}

static const struct atl_handler handlers[] = {
    {"GetStatus", get_status},
    {"GetVersion", get_version},
    {"GetTime", get_time},
    {"GetDns", get_dns},
};

static const struct atl_handler all_handlers[] = {
    {"StartAll", node_start_all},     {"StopAll", node_stop_all}, {"SuspendAll", node_suspend_all},
    {"MigrateAll", node_migrate_all}, {"Drain", node_drain},
};

static enum atl_code part_open(struct cmp *cmp, void **ret_self, struct atl_error *err)
{
    (void)err;
    struct node_part *part = atl_new0(struct node_part);
    part->cmp = cmp;
    sample(part);
    part->timer = atl_loop_timer(cmp->loop, sample_period, sample_period, sample, part);
    atl_bus_serve(cmp->bus, &atl_svc_node_v1_Nodes, handlers, ATL_COUNT(handlers), part);
    atl_bus_serve(cmp->bus, &atl_svc_node_v1_NodeGuests, all_handlers, ATL_COUNT(all_handlers), cmp);
    *ret_self = part;
    return ATL_OK;
}

static void part_close(void *self)
{
    struct node_part *part = self;
    atl_timer_free(part->timer);
    free(part);
}

const struct cmp_part cmp_node_part = {.name = "node",
                                       .open = part_open,
                                       .close = part_close,
                                       .status = part_status,
                                       .tasks = cmp_node_tasks,
                                       .task_count = CMP_NODE_TASKS};
