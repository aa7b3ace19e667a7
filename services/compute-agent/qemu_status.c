/* Methods that show virtual machines: list, status, configuration, what waits for a restart. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/domxml.h"
#include "core/update.h"
#include "ha.h"
#include "pure/buf.h"
#include "pure/codec.h"
#include "qemu.h"

static const char *const vm_audit[] = {"VM.Audit", NULL};

struct view { /* what list and status share */
    enum cmp_state state;
    const struct qemu_vm *vm;
    const struct cmp_facts *facts;
    int64_t uptime;
};

static struct view view_of(const struct cmp_qemu *qemu, const struct cmp_facts *facts)
{
    struct view view = {.vm = qemu_vm_find(qemu, facts->vmid), .facts = facts};
    view.state = view.vm != NULL ? view.vm->sample.state : CMP_STOPPED;
    if (view.vm != NULL && view.vm->sample.started > 0)
        view.uptime = atl_clock_wall_seconds() - view.vm->sample.started;
    if (view.uptime < 0)
        view.uptime = 0;
    return view;
}

static char *copy(struct atl_arena *arena, const char *text)
{
    return text != NULL ? atl_arena_strdup(arena, text) : NULL;
}

static char *name_of(const struct cmp_facts *facts, struct atl_arena *arena)
{
    return facts->name != NULL ? copy(arena, facts->name)
                               : atl_arena_format(arena, "VM %" PRIu32, facts->vmid);
}

static int64_t memory_used(const struct view *view)
{
    if (view->vm == NULL)
        return 0;
    const struct cmp_sample *sample = &view->vm->sample;
    return (int64_t)(sample->mem > 0 ? sample->mem : sample->memhost);
}

static Atoll__Qemu__V1__Summary *summary(const struct view *view, struct atl_arena *arena)
{
    const struct cmp_facts *facts = view->facts;
    Atoll__Qemu__V1__Summary *row = atl_arena_new(arena, Atoll__Qemu__V1__Summary);
    atoll__qemu__v1__summary__init(row);
    const struct cmp_sample none = {0};
    const struct cmp_sample *sample = view->vm != NULL ? &view->vm->sample : &none;
    row->has_vmid = true;
    row->vmid = facts->vmid;
    row->name = name_of(facts, arena);
    row->status = copy(arena, view->state == CMP_STOPPED ? "stopped" : "running");
    row->tags = copy(arena, facts->tags);
    row->lock = copy(arena, facts->lock);
    row->has_template_ = row->template_ = facts->template_;
    row->has_cpus = row->has_cpu = row->has_maxmem = row->has_mem = row->has_maxdisk = row->has_disk = true;
    row->has_uptime = row->has_diskread = row->has_diskwrite = row->has_netin = row->has_netout = true;
    row->cpus = facts->cpus;
    row->cpu = view->vm != NULL ? view->vm->cpu : 0;
    row->maxmem = (int64_t)facts->maxmem;
    row->mem = memory_used(view);
    row->maxdisk = (int64_t)facts->maxdisk;
    row->uptime = view->uptime;
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

static bool may_see(struct atl_subject *subject, uint32_t vmid)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/vms/%" PRIu32, vmid);
    return subject == NULL || atl_subject_need(subject, path, vm_audit, NULL) == ATL_OK;
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
    bool full = in->has_full && in->full;
    if (principal->user != NULL &&
        atl_keeper_subject(qemu->cmp->keeper, principal, &subject, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    size_t count = cmp_facts_count(qemu->facts);
    Atoll__Qemu__V1__ListReply reply = ATOLL__QEMU__V1__LIST_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Qemu__V1__Summary *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct cmp_facts *facts = cmp_facts_at(qemu->facts, i);
        if (!may_see(principal->user != NULL ? &subject : NULL, facts->vmid))
            continue; /* a service that asks sees all */
        const struct view view = view_of(qemu, facts);
        Atoll__Qemu__V1__Summary *row = summary(&view, arena);
        if (full)
            row->qmpstatus = copy(arena, cmp_state_to_text(view.state));
        reply.entry[reply.n_entry++] = row;
    }
    atl_request_reply(request, &reply.base);
}

static void status_counters(const struct view *view, Atoll__Qemu__V1__GetStatusReply *reply)
{
    const struct cmp_sample none = {0};
    const struct cmp_sample *sample = view->vm != NULL ? &view->vm->sample : &none;
    reply->has_cpus = reply->has_cpu = reply->has_maxmem = reply->has_mem = reply->has_maxdisk = true;
    reply->has_disk = reply->has_uptime = reply->has_diskread = reply->has_diskwrite = true;
    reply->has_netin = reply->has_netout = true;
    reply->cpus = view->facts->cpus;
    reply->cpu = view->vm != NULL ? view->vm->cpu : 0;
    reply->maxmem = (int64_t)view->facts->maxmem;
    reply->mem = memory_used(view);
    reply->maxdisk = (int64_t)view->facts->maxdisk;
    reply->uptime = view->uptime;
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
    struct atl_error error = {0};
    enum atl_code code = qemu_config(qemu, in->vmid, arena, &file, NULL, &error);
    if (code == ATL_OK && !qemu->known)
        code = atl_fail(&error, ATL_E_UNAVAILABLE, NULL,
                        "the engine of virtual machines on node '%s' does not answer yet; try again",
                        qemu->cmp->options.node);
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    const struct cmp_facts *facts = cmp_facts_find(qemu->facts, in->vmid);
    atl_assert(facts != NULL); /* the file is there and was just read */
    const struct view view = view_of(qemu, facts);
    const Atoll__Qemu__V1__Config *config = file.main->config;
    Atoll__Qemu__V1__GetStatusReply reply = ATOLL__QEMU__V1__GET_STATUS_REPLY__INIT;
    reply.has_vmid = true;
    reply.vmid = in->vmid;
    reply.name = name_of(facts, arena);
    reply.status = copy(arena, view.state == CMP_STOPPED ? "stopped" : "running");
    reply.qmpstatus = copy(arena, cmp_state_to_text(view.state));
    reply.tags = copy(arena, facts->tags);
    reply.lock = copy(arena, facts->lock);
    reply.ha = copy(arena, cmp_ha_json(qemu->cmp, "qemu-server", in->vmid, arena));
    reply.has_template_ = reply.template_ = facts->template_;
    reply.has_agent = config->agent != NULL && config->agent->has_enabled && config->agent->enabled;
    reply.agent = reply.has_agent;
    reply.has_serial = config->n_serial > 0;
    reply.serial = reply.has_serial;
    status_counters(&view, &reply);
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
    char digest[ATL_DIGEST_SIZE];
    enum atl_code code = qemu_config(qemu, in->vmid, arena, &file, &text, &error);
    if (code == ATL_OK && in->snapshot != NULL && in->snapshot[0] != '\0')
        code = atl_fail(&error, ATL_E_ABSENT, "snapshot", "snapshot '%s' does not exist", in->snapshot);
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    atl_digest(text->bytes, text->size, digest);
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
