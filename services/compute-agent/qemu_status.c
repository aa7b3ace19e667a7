/* Methods that show virtual machines: list, status, configuration, what waits for a restart. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/domxml.h"
#include "core/update.h"
#include "pure/buf.h"
#include "pure/codec.h"
#include "qemu.h"

static const char *const vm_audit[] = {"VM.Audit", NULL};

struct facts { /* what list and status share */
    enum cmp_state state;
    const struct qemu_vm *vm;
    const Atoll__Qemu__V1__Config *config;
    const char *lock;
    uint32_t vcpus;
    uint64_t maxmem;
    uint64_t maxdisk;
    int64_t uptime;
};

static void facts_of(const struct cmp_qemu *qemu, uint32_t vmid, const struct cmp_file *file,
                     struct atl_arena *arena, struct facts *facts)
{
    *facts = (struct facts){.vm = qemu_vm_find(qemu, vmid), .config = file->main->config};
    facts->state = facts->vm != NULL ? facts->vm->sample.state : CMP_STOPPED;
    facts->lock = file->main->state->lock;
    facts->vcpus = cmp_vcpus_now(facts->config);
    facts->maxmem = cmp_memory_mib(facts->config) << 20;
    const Atoll__Qemu__V1__Drive *disk = cmp_main_disk(facts->config, arena);
    if (disk != NULL && disk->size != NULL &&
        cmp_size_parse(disk->size, "size", &facts->maxdisk, NULL) != ATL_OK)
        facts->maxdisk = 0;
    if (facts->vm != NULL && facts->vm->sample.started > 0)
        facts->uptime = atl_clock_wall_seconds() - facts->vm->sample.started;
    if (facts->uptime < 0)
        facts->uptime = 0;
}

static char *copy(struct atl_arena *arena, const char *text)
{
    return text != NULL ? atl_arena_strdup(arena, text) : NULL;
}

static int64_t memory_used(const struct facts *facts)
{
    if (facts->vm == NULL)
        return 0;
    const struct cmp_sample *sample = &facts->vm->sample;
    return (int64_t)(sample->mem > 0 ? sample->mem : sample->memhost);
}

static Atoll__Qemu__V1__Summary *summary(uint32_t vmid, const struct facts *facts, struct atl_arena *arena)
{
    Atoll__Qemu__V1__Summary *row = atl_arena_new(arena, Atoll__Qemu__V1__Summary);
    atoll__qemu__v1__summary__init(row);
    const struct cmp_sample none = {0};
    const struct cmp_sample *sample = facts->vm != NULL ? &facts->vm->sample : &none;
    row->has_vmid = true;
    row->vmid = vmid;
    row->name = facts->config->name != NULL ? copy(arena, facts->config->name)
                                            : atl_arena_format(arena, "VM %" PRIu32, vmid);
    row->status = copy(arena, facts->state == CMP_STOPPED ? "stopped" : "running");
    row->tags = copy(arena, facts->config->tags);
    row->lock = copy(arena, facts->lock);
    row->has_template_ = facts->config->has_template_ && facts->config->template_;
    row->template_ = row->has_template_;
    row->has_cpus = row->has_cpu = row->has_maxmem = row->has_mem = row->has_maxdisk = row->has_disk = true;
    row->has_uptime = row->has_diskread = row->has_diskwrite = row->has_netin = row->has_netout = true;
    row->cpus = facts->vcpus;
    row->cpu = facts->vm != NULL ? facts->vm->cpu : 0;
    row->maxmem = (int64_t)facts->maxmem;
    row->mem = memory_used(facts);
    row->maxdisk = (int64_t)facts->maxdisk;
    row->uptime = facts->uptime;
    row->diskread = (int64_t)sample->diskread;
    row->diskwrite = (int64_t)sample->diskwrite;
    row->netin = (int64_t)sample->netin;
    row->netout = (int64_t)sample->netout;
    row->has_memhost = sample->memhost > 0;
    row->memhost = (int64_t)sample->memhost;
    row->has_pid = sample->pid > 0;
    row->pid = sample->pid;
    return row;
}

struct list_walk {
    struct cmp_qemu *qemu;
    struct atl_subject *subject; /* NULL: a service asks */
    struct atl_arena *arena;
    Atoll__Qemu__V1__Summary **rows;
    size_t count;
    size_t room;
    bool full;
};

static void list_file(const char *path, const struct atl_file *text, void *user)
{
    struct list_walk *walk = user;
    const char *base = strrchr(path, '/');
    unsigned long vmid = base != NULL ? strtoul(base + 1, NULL, 10) : 0;
    struct cmp_file file;
    struct facts facts;
    const char *acl = atl_arena_format(walk->arena, "/vms/%lu", vmid);
    if (vmid < 100 || vmid > 999999999)
        return;
    if (walk->subject != NULL && atl_subject_need(walk->subject, acl, vm_audit, NULL) != ATL_OK)
        return;
    if (cmp_file_read(text->bytes, text->size, walk->arena, &file, NULL) != ATL_OK)
        return;
    facts_of(walk->qemu, (uint32_t)vmid, &file, walk->arena, &facts);
    walk->rows = atl_arena_grow(walk->arena, walk->rows, walk->count, &walk->room, sizeof *walk->rows);
    Atoll__Qemu__V1__Summary *row = summary((uint32_t)vmid, &facts, walk->arena);
    if (walk->full)
        row->qmpstatus = copy(walk->arena, cmp_state_to_text(facts.state));
    walk->rows[walk->count++] = row;
}

/* `code: true`: only guests the user may look at are shown. */
void qemu_list(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp_qemu *qemu = user;
    const Atoll__Qemu__V1__ListRequest *in = (const Atoll__Qemu__V1__ListRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    const struct atl_principal *principal = atl_request_principal(request);
    struct atl_subject subject;
    struct atl_error error = {0};
    struct list_walk walk = {.qemu = qemu, .arena = arena, .full = in->has_full && in->full};
    char prefix[160];
    if (principal->user != NULL) {
        if (atl_keeper_subject(qemu->cmp->keeper, principal, &subject, &error) != ATL_OK) {
            atl_request_fail(request, &error, NULL);
            return;
        }
        walk.subject = &subject;
    }
    (void)snprintf(prefix, sizeof prefix, "nodes/%s/qemu-server/", qemu->cmp->options.node);
    atl_mirror_each(qemu->cmp->mirror, prefix, list_file, &walk);
    Atoll__Qemu__V1__ListReply reply = ATOLL__QEMU__V1__LIST_REPLY__INIT;
    reply.entry = walk.rows;
    reply.n_entry = walk.count;
    atl_request_reply(request, &reply.base);
}

static void status_counters(const struct facts *facts, Atoll__Qemu__V1__GetStatusReply *reply)
{
    const struct cmp_sample none = {0};
    const struct cmp_sample *sample = facts->vm != NULL ? &facts->vm->sample : &none;
    reply->has_cpus = reply->has_cpu = reply->has_maxmem = reply->has_mem = reply->has_maxdisk = true;
    reply->has_disk = reply->has_uptime = reply->has_diskread = reply->has_diskwrite = true;
    reply->has_netin = reply->has_netout = true;
    reply->cpus = facts->vcpus;
    reply->cpu = facts->vm != NULL ? facts->vm->cpu : 0;
    reply->maxmem = (int64_t)facts->maxmem;
    reply->mem = memory_used(facts);
    reply->maxdisk = (int64_t)facts->maxdisk;
    reply->uptime = facts->uptime;
    reply->diskread = (int64_t)sample->diskread;
    reply->diskwrite = (int64_t)sample->diskwrite;
    reply->netin = (int64_t)sample->netin;
    reply->netout = (int64_t)sample->netout;
    reply->has_memhost = sample->memhost > 0;
    reply->memhost = (int64_t)sample->memhost;
    reply->has_pid = sample->pid > 0;
    reply->pid = sample->pid;
    reply->has_balloon = sample->balloon > 0;
    reply->balloon = (int64_t)sample->balloon;
    reply->has_freemem = sample->free_mem > 0;
    reply->freemem = (int64_t)sample->free_mem;
}

static void answer_get_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp_qemu *qemu = user;
    const Atoll__Qemu__V1__GetStatusRequest *in = (const Atoll__Qemu__V1__GetStatusRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct cmp_file file;
    struct facts facts;
    struct atl_error error = {0};
    char ha[] = "{\"managed\":0}";
    enum atl_code code = qemu_config(qemu, in->vmid, arena, &file, NULL, &error);
    if (code == ATL_OK && !qemu->known)
        code = atl_fail(&error, ATL_E_UNAVAILABLE, NULL,
                        "the engine of virtual machines on node '%s' does not answer yet; try again",
                        qemu->cmp->options.node);
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    facts_of(qemu, in->vmid, &file, arena, &facts);
    const Atoll__Qemu__V1__Config *config = facts.config;
    Atoll__Qemu__V1__GetStatusReply reply = ATOLL__QEMU__V1__GET_STATUS_REPLY__INIT;
    reply.has_vmid = true;
    reply.vmid = in->vmid;
    reply.name = config->name != NULL ? config->name : atl_arena_format(arena, "VM %" PRIu32, in->vmid);
    reply.status = copy(arena, facts.state == CMP_STOPPED ? "stopped" : "running");
    reply.qmpstatus = copy(arena, cmp_state_to_text(facts.state));
    reply.tags = config->tags;
    reply.lock = copy(arena, facts.lock);
    reply.ha = ha;
    reply.has_template_ = config->has_template_ && config->template_;
    reply.template_ = reply.has_template_;
    reply.has_agent = config->agent != NULL && config->agent->has_enabled && config->agent->enabled;
    reply.agent = reply.has_agent;
    reply.has_serial = config->n_serial > 0;
    reply.serial = reply.has_serial;
    status_counters(&facts, &reply);
    atl_request_reply(request, &reply.base);
}

void qemu_get_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    qemu_fresh(user, request, input, ((const Atoll__Qemu__V1__GetStatusRequest *)input)->vmid,
               answer_get_status);
}

void qemu_get_config(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp_qemu *qemu = user;
    const Atoll__Qemu__V1__GetConfigRequest *in = (const Atoll__Qemu__V1__GetConfigRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    const struct atl_file *text = NULL;
    struct cmp_file file;
    struct atl_error error = {0};
    char digest[CMP_DIGEST_SIZE];
    enum atl_code code = qemu_config(qemu, in->vmid, arena, &file, &text, &error);
    if (code == ATL_OK && in->snapshot != NULL && in->snapshot[0] != '\0')
        code = atl_fail(&error, ATL_E_ABSENT, "snapshot", "snapshot '%s' does not exist", in->snapshot);
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    cmp_digest(text->bytes, text->size, digest);
    Atoll__Qemu__V1__GetConfigReply reply = ATOLL__QEMU__V1__GET_CONFIG_REPLY__INIT;
    reply.config = in->has_current && in->current ? file.main->config : cmp_config_next(&file, arena);
    reply.state = file.main->state;
    reply.digest = digest;
    atl_request_reply(request, &reply.base);
}

static void pending_add(Atoll__Qemu__V1__GetPendingReply *reply, struct atl_arena *arena, const char *key,
                        const char *value, const char *pending, bool deleted)
{
    Atoll__Qemu__V1__PendingEntry *entry = atl_arena_new(arena, Atoll__Qemu__V1__PendingEntry);
    atoll__qemu__v1__pending_entry__init(entry);
    bool secret = strcmp(key, "cipassword") == 0;
    entry->key = copy(arena, key);
    entry->value = copy(arena, secret && value != NULL ? "**********" : value);
    entry->pending = copy(arena, secret && pending != NULL ? "**********" : pending);
    entry->has_delete_ = deleted;
    entry->delete_ = deleted;
    reply->entry[reply->n_entry++] = entry;
}

void qemu_get_pending(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp_qemu *qemu = user;
    const Atoll__Qemu__V1__GetPendingRequest *in = (const Atoll__Qemu__V1__GetPendingRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct cmp_file file;
    struct atl_error error = {0};
    if (qemu_config(qemu, in->vmid, arena, &file, NULL, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    size_t now_count = 0;
    size_t next_count = 0;
    const struct cmp_setting *now = cmp_settings(file.main->config, arena, &now_count);
    const struct cmp_setting *next = cmp_settings(file.pending->config, arena, &next_count);
    Atoll__Qemu__V1__GetPendingReply reply = ATOLL__QEMU__V1__GET_PENDING_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Qemu__V1__PendingEntry *, now_count + next_count + 1);
    for (size_t i = 0; i < now_count; i++) {
        const char *pending = cmp_setting_get(file.pending->config, now[i].name, arena);
        pending_add(&reply, arena, now[i].name, now[i].value, pending,
                    cmp_list_has(file.pending_delete, now[i].name));
    }
    for (size_t i = 0; i < next_count; i++)
        if (!cmp_setting_given(file.main->config, next[i].name))
            pending_add(&reply, arena, next[i].name, NULL, next[i].value, false);
    atl_request_reply(request, &reply.base);
}
