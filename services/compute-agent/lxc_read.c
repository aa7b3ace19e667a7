/* The methods of containers that only read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "core/lxc_volume.h"
#include "ha.h"
#include "lxc_part.h"

static const char *const audit[] = {"VM.Audit", NULL};

static void fail(struct atl_request *request, const struct atl_error *error)
{
    atl_request_fail(request, error, NULL);
}

static bool read_doc(struct lxc_part *part, struct atl_request *request, uint32_t vmid,
                     struct cmp_lxc_doc *doc)
{
    struct atl_error error = {0};
    if (lxc_part_doc(part, vmid, atl_request_arena(request), doc, &error) == ATL_OK)
        return true;
    fail(request, &error);
    return false;
}

/* --- status
 * ------------------------------------------------------------------------------------------------------- */

/* Everything both answers hold, in the words of the longer one. */
static Atoll__Lxc__V1__GetStatusReply *status_of(struct lxc_part *part, const struct cmp_facts *facts,
                                                 struct atl_arena *arena)
{
    Atoll__Lxc__V1__GetStatusReply *row = atl_arena_new(arena, Atoll__Lxc__V1__GetStatusReply);
    atoll__lxc__v1__get_status_reply__init(row);
    row->has_vmid = row->has_cpus = row->has_maxmem = row->has_maxswap = row->has_maxdisk = true;
    row->vmid = facts->vmid;
    row->type = atl_arena_strdup(arena, "lxc");
    struct lxc_guest *guest =
        lxc_part_look(part, facts->vmid); /* first: a start may be newer than what we know */
    row->status = atl_arena_strdup(arena, lxc_part_state(part, facts->vmid));
    row->name = facts->name != NULL ? atl_arena_strdup(arena, facts->name)
                                    : atl_arena_format(arena, "CT%" PRIu32, facts->vmid);
    row->tags = facts->tags != NULL ? atl_arena_strdup(arena, facts->tags) : NULL;
    row->lock = facts->lock != NULL ? atl_arena_strdup(arena, facts->lock) : NULL;
    row->has_template_ = row->template_ = facts->template_;
    row->cpus = lxc_part_cpus(part, facts);
    row->maxmem = (int64_t)facts->maxmem;
    row->maxswap = (int64_t)facts->maxswap;
    row->maxdisk = (int64_t)facts->maxdisk;
    row->has_cpu = row->has_mem = row->has_disk = row->has_diskread = row->has_diskwrite = row->has_netin =
        row->has_netout = row->has_uptime = row->has_swap = true;
    if (guest == NULL)
        return row;
    struct cmp_lxc_use use;
    lxc_part_use(part, guest, facts->nets, &use);
    if (guest->run.init > 0)
        row->pid = atl_arena_format(arena, "%d", guest->run.init);
    row->cpu = row->cpus > 0 ? guest->cpu_cores / row->cpus : 0;
    row->mem = (int64_t)use.memory_bytes;
    row->swap = (int64_t)use.swap_bytes;
    row->disk = (int64_t)use.disk_bytes;
    row->diskread = (int64_t)use.read_bytes;
    row->diskwrite = (int64_t)use.written_bytes;
    row->netin = (int64_t)use.net_in_bytes;
    row->netout = (int64_t)use.net_out_bytes;
    row->uptime = (int64_t)use.uptime_s;
    if (row->maxdisk == 0)
        row->maxdisk = (int64_t)use.disk_total_bytes;
    if (part->host.cgroup_version == 2) {
        row->has_pressurecpusome = row->has_pressureiosome = row->has_pressureiofull =
            row->has_pressurememorysome = row->has_pressurememoryfull = true;
        row->pressurecpusome = use.pressure_cpu_some;
        row->pressureiosome = use.pressure_io_some;
        row->pressureiofull = use.pressure_io_full;
        row->pressurememorysome = use.pressure_memory_some;
        row->pressurememoryfull = use.pressure_memory_full;
    }
    return row;
}

void lxc_get_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__GetStatusRequest *in = (const Atoll__Lxc__V1__GetStatusRequest *)input;
    struct cmp_lxc_doc doc;
    if (!read_doc(part, request, in->vmid, &doc))
        return;
    const struct cmp_facts *facts = cmp_facts_find(part->facts, in->vmid);
    atl_assert(facts != NULL); /* the file is there and was just read */
    Atoll__Lxc__V1__GetStatusReply *reply = status_of(part, facts, atl_request_arena(request));
    reply->ha = atl_arena_strdup(atl_request_arena(request),
                                 cmp_ha_json(part->cmp, "lxc", in->vmid, atl_request_arena(request)));
    atl_request_reply(request, &reply->base);
}

static Atoll__Lxc__V1__Summary *summary(const Atoll__Lxc__V1__GetStatusReply *row, struct atl_arena *arena)
{
    Atoll__Lxc__V1__Summary *entry = atl_arena_new(arena, Atoll__Lxc__V1__Summary);
    atoll__lxc__v1__summary__init(entry);
#define TAKE(field)                                                                                          \
    do {                                                                                                     \
        entry->has_##field = row->has_##field;                                                               \
        entry->field = row->field;                                                                           \
    } while (0)
    TAKE(vmid);
    TAKE(cpu);
    TAKE(cpus);
    TAKE(mem);
    TAKE(maxmem);
    TAKE(swap);
    TAKE(maxswap);
    TAKE(disk);
    TAKE(maxdisk);
    TAKE(diskread);
    TAKE(diskwrite);
    TAKE(netin);
    TAKE(netout);
    TAKE(uptime);
    TAKE(template_);
    TAKE(pressurecpusome);
    TAKE(pressureiosome);
    TAKE(pressureiofull);
    TAKE(pressurememorysome);
    TAKE(pressurememoryfull);
#undef TAKE
    entry->type = row->type;
    entry->status = row->status;
    entry->name = row->name;
    entry->tags = row->tags;
    entry->lock = row->lock;
    entry->has_pid = row->pid != NULL;
    entry->pid = row->pid != NULL ? strtoll(row->pid, NULL, 10) : 0;
    return entry;
}

static bool may_see(struct atl_subject *subject, uint32_t vmid)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/vms/%" PRIu32, vmid);
    return subject == NULL || atl_subject_need(subject, path, audit, NULL) == ATL_OK;
}

/* `code: true`: only guests the user may look at are shown. */
void lxc_list(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct lxc_part *part = user;
    struct atl_arena *arena = atl_request_arena(request);
    const struct atl_principal *principal = atl_request_principal(request);
    struct atl_subject subject;
    struct atl_error error = {0};
    if (principal->user != NULL &&
        atl_keeper_subject(part->cmp->keeper, principal, &subject, &error) != ATL_OK) {
        fail(request, &error);
        return;
    }
    size_t count = cmp_facts_count(part->facts);
    Atoll__Lxc__V1__ListReply reply = ATOLL__LXC__V1__LIST_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Lxc__V1__Summary *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct cmp_facts *facts = cmp_facts_at(part->facts, i);
        if (may_see(principal->user != NULL ? &subject : NULL,
                    facts->vmid)) /* a service that asks sees all */
            reply.entry[reply.n_entry++] = summary(status_of(part, facts, arena), arena);
    }
    atl_request_reply(request, &reply.base);
}

/* --- configuration
 * ------------------------------------------------------------------------------------------------ */

/* [["lxc.cap.drop","sys_time"],...] as the API shows raw lines. */
static char *raw_json(const struct cmp_lxc_doc *doc, struct atl_arena *arena)
{
    const struct atl_line *raw = NULL;
    size_t count = cmp_lxc_doc_raw(doc, &raw);
    if (count == 0)
        return NULL;
    struct atl_buf text = {0};
    for (size_t i = 0; i < count; i++) {
        atl_buf_text(&text, i == 0 ? "[[" : ",[");
        atl_json_string(&text, raw[i].key, strlen(raw[i].key));
        atl_buf_char(&text, ',');
        atl_json_string(&text, raw[i].value, strlen(raw[i].value));
        atl_buf_char(&text, ']');
    }
    atl_buf_char(&text, ']');
    char *copy = atl_arena_strdup(arena, text.data);
    atl_buf_done(&text);
    return copy;
}

void lxc_get_config(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__GetConfigRequest *in = (const Atoll__Lxc__V1__GetConfigRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_error error = {0};
    struct cmp_lxc_doc doc;
    if (!read_doc(part, request, in->vmid, &doc))
        return;
    Atoll__Lxc__V1__GetConfigReply reply = ATOLL__LXC__V1__GET_CONFIG_REPLY__INIT;
    Atoll__Lxc__V1__File *file = doc.now;
    if (in->snapshot != NULL && strcmp(in->snapshot, "current") != 0) {
        file = cmp_lxc_doc_section(&doc, in->snapshot);
        if (file == NULL) {
            (void)atl_fail(&error, ATL_E_ABSENT, "snapshot", "snapshot '%s' does not exist", in->snapshot);
            fail(request, &error);
            return;
        }
        reply.config = file->config;
    } else {
        reply.config = in->has_current && in->current ? file->config : cmp_lxc_doc_wanted(&doc);
    }
    reply.state = file->state;
    reply.digest = doc.digest;
    reply.lxc = raw_json(&doc, arena);
    atl_request_reply(request, &reply.base);
}

void lxc_get_pending(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__GetPendingRequest *in = (const Atoll__Lxc__V1__GetPendingRequest *)input;
    struct cmp_lxc_doc doc;
    if (!read_doc(part, request, in->vmid, &doc))
        return;
    Atoll__Lxc__V1__GetPendingReply reply = ATOLL__LXC__V1__GET_PENDING_REPLY__INIT;
    cmp_lxc_doc_rows(&doc, &reply);
    atl_request_reply(request, &reply.base);
}

void lxc_get_interfaces(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__GetInterfacesRequest *in = (const Atoll__Lxc__V1__GetInterfacesRequest *)input;
    struct atl_error error = {0};
    struct cmp_lxc_doc doc;
    if (!read_doc(part, request, in->vmid, &doc))
        return;
    Atoll__Lxc__V1__GetInterfacesReply reply = ATOLL__LXC__V1__GET_INTERFACES_REPLY__INIT;
    const struct lxc_guest *guest = lxc_part_look(part, in->vmid);
    enum atl_code code = ATL_OK;
    if (guest == NULL)
        code = atl_fail(&error, ATL_E_STATE, NULL, "CT %" PRIu32 " not running", in->vmid);
    else
        code = part->driver->interfaces(&guest->run, atl_request_arena(request), &reply, &error);
    if (code == ATL_OK)
        atl_request_reply(request, &reply.base);
    else
        fail(request, &error);
}
