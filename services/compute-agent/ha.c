/* Guests under high availability. */
#include "ha.h"

#include <stdio.h>
#include <string.h>

#include "atoll/ha/v1/ha.atl.h"
#include "atoll/ha/v1/ha.pb-c.h"
#include "atoll/ha/v1/local.atl.h"
#include "atoll/ha/v1/local.pb-c.h"
#include "core/ha_list.h"
#include "pure/codec.h"

static const char *type_of(const char *kind)
{
    return strcmp(kind, "lxc") == 0 ? "ct" : "vm";
}

static bool listed(const struct cmp *cmp, const char *kind, uint32_t vmid, struct cmp_ha_entry *ret_entry)
{
    const struct atl_file *file = atl_mirror_get(cmp->mirror, "ha/resources.cfg");
    return cmp_ha_listed(file != NULL ? file->bytes : NULL, type_of(kind), vmid, ret_entry);
}

bool cmp_ha_managed(const struct cmp *cmp, const char *kind, uint32_t vmid)
{
    struct cmp_ha_entry entry;
    return listed(cmp, kind, vmid, &entry) && strcmp(entry.state, "ignored") != 0;
}

const char *cmp_ha_json(const struct cmp *cmp, const char *kind, uint32_t vmid, struct atl_arena *arena)
{
    struct cmp_ha_entry entry;
    if (!listed(cmp, kind, vmid, &entry))
        return "{\"managed\":0}";
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    atl_buf_text(&text, "{\"managed\":1,\"state\":");
    atl_json_string(&text, entry.state, strlen(entry.state));
    if (entry.group[0] != '\0') {
        atl_buf_text(&text, ",\"group\":");
        atl_json_string(&text, entry.group, strlen(entry.group));
    }
    atl_buf_char(&text, '}');
    return atl_arena_strndup(arena, text.data, text.length);
}

enum atl_code cmp_ha_unused(const struct cmp *cmp, const char *kind, uint32_t vmid, bool purge,
                            bool *ret_forget, struct atl_error *err)
{
    struct cmp_ha_entry entry;
    bool used = listed(cmp, kind, vmid, &entry);
    *ret_forget = used && purge;
    if (!used || purge)
        return ATL_OK;
    const char *type = type_of(kind);
    return atl_fail(err, ATL_E_STATE, NULL,
                    "unable to remove %s %" PRIu32
                    " - used in HA resources; first: atoll ha remove %s:%" PRIu32 ", or purge",
                    strcmp(type, "vm") == 0 ? "VM" : "CT", vmid, type, vmid);
}

enum atl_code cmp_ha_may_add(struct cmp *cmp, struct atl_request *request, bool wanted, struct atl_error *err)
{
    static const char *const console[] = {"Sys.Console", NULL};
    return wanted ? atl_keeper_need(cmp->keeper, atl_request_principal(request), "/", console, err) : ATL_OK;
}

/* --- in tasks that make and remove guests --- */

enum atl_code cmp_ha_add(struct atl_task *task, const char *kind, uint32_t vmid, bool started,
                         struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    Atoll__Ha__V1__AddResourceRequest request = ATOLL__HA__V1__ADD_RESOURCE_REQUEST__INIT;
    const ProtobufCMessage *reply = NULL;
    request.sid = atl_arena_format(&arena, "%s:%" PRIu32, type_of(kind), vmid);
    request.state = atl_arena_strdup(&arena, started ? "started" : "stopped");
    atl_task_log(task, "adding the HA resource %s, %s", request.sid, request.state);
    return atl_task_call(task, &atl_rpc_ha_v1_Ha_AddResource, &request.base, 0, &arena, &reply, err);
}

enum atl_code cmp_ha_forget(struct atl_task *task, const char *kind, uint32_t vmid, struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    Atoll__Ha__V1__RemoveResourceRequest request = ATOLL__HA__V1__REMOVE_RESOURCE_REQUEST__INIT;
    const ProtobufCMessage *reply = NULL;
    request.sid = atl_arena_format(&arena, "%s:%" PRIu32, type_of(kind), vmid);
    atl_task_log(task, "removing the HA resource %s", request.sid);
    enum atl_code code =
        atl_task_call(task, &atl_rpc_ha_v1_Ha_RemoveResource, &request.base, 0, &arena, &reply, err);
    return code == ATL_E_ABSENT ? ATL_OK : code;
}

/* --- asking the manager --- */

bool cmp_ha_takes(struct cmp *cmp, struct atl_request *request, const struct cmp_ha_wish *wish)
{
    struct atl_arena *arena = atl_request_arena(request);
    const struct atl_principal *principal = atl_request_principal(request);
    if (strcmp(principal->service, "ha-lrm") == 0 || !cmp_ha_managed(cmp, wish->kind, wish->vmid))
        return false;
    Atoll__Ha__V1__Wish spec = ATOLL__HA__V1__WISH__INIT;
    spec.sid = atl_arena_format(arena, "%s:%" PRIu32, type_of(wish->kind), wish->vmid);
    spec.verb = atl_arena_strdup(arena, wish->verb);
    spec.target = wish->target != NULL ? atl_arena_strdup(arena, wish->target) : NULL;
    cmp_task_reply(cmp, request, atl_arena_format(arena, "ha%s", wish->verb),
                   atl_arena_format(arena, "%" PRIu32, wish->vmid), &spec.base);
    return true;
}

static enum atl_code set_state(struct atl_task *task, const Atoll__Ha__V1__Wish *wish, const char *state,
                               struct atl_arena *arena, struct atl_error *err)
{
    Atoll__Ha__V1__SetResourceRequest request = ATOLL__HA__V1__SET_RESOURCE_REQUEST__INIT;
    const ProtobufCMessage *reply = NULL;
    request.sid = wish->sid;
    request.state = atl_arena_strdup(arena, state);
    return atl_task_call(task, &atl_rpc_ha_v1_Ha_SetResource, &request.base, 0, arena, &reply, err);
}

static enum atl_code stop(struct atl_task *task, const Atoll__Ha__V1__Wish *wish, struct atl_arena *arena,
                          struct atl_error *err)
{
    Atoll__Ha__V1__StopRequest request = ATOLL__HA__V1__STOP_REQUEST__INIT;
    const ProtobufCMessage *reply = NULL;
    request.sid = wish->sid;
    return atl_task_call(task, &atl_rpc_ha_v1_Ha_Stop, &request.base, 0, arena, &reply, err);
}

static enum atl_code migrate(struct atl_task *task, const Atoll__Ha__V1__Wish *wish, struct atl_arena *arena,
                             struct atl_error *err)
{
    Atoll__Ha__V1__MoveRequest request = ATOLL__HA__V1__MOVE_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.sid = wish->sid;
    request.node = wish->target;
    enum atl_code code =
        atl_task_call(task, &atl_rpc_ha_v1_Ha_Migrate, &request.base, 0, arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Ha__V1__MoveReply *reply = (const void *)output;
    for (size_t i = 0; i < reply->n_comigrated_resources; i++)
        atl_task_log(task, "%s moves with it, a rule keeps them together", reply->comigrated_resources[i]);
    if (reply->n_blocking_resources > 0)
        return atl_fail(err, ATL_E_STATE, NULL, "%s is on %s, and a rule keeps %s apart from it",
                        reply->blocking_resources[0]->sid, wish->target, wish->sid);
    return ATL_OK;
}

static enum atl_code run(struct atl_task *task, const uint8_t *bytes, size_t size, struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const Atoll__Ha__V1__Wish *wish = (const void *)atl_unpack(&atl_msg_ha_v1_Wish, bytes, size, &arena);
    if (wish == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the task does not say what to do");
    atl_task_log(task, "Requesting HA %s for %s", wish->verb, wish->sid);
    if (strcmp(wish->verb, "start") == 0)
        return set_state(task, wish, "started", &arena, err);
    if (strcmp(wish->verb, "shutdown") == 0)
        return set_state(task, wish, "stopped", &arena, err);
    return strcmp(wish->verb, "stop") == 0 ? stop(task, wish, &arena, err) : migrate(task, wish, &arena, err);
}

static const struct atl_task_type tasks[] = {
    {"hastart", run}, {"hastop", run}, {"hashutdown", run}, {"hamigrate", run}};

/* --- for ha-lrm --- */

static void guests(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp *cmp = user;
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Ha__V1__GuestsReply reply = ATOLL__HA__V1__GUESTS_REPLY__INIT;
    size_t room = 0;
    (void)input;
    for (size_t i = 0; i < cmp->part_count; i++) {
        struct cmp_status status = {.arena = arena};
        if (cmp->parts[i]->status == NULL)
            continue;
        cmp->parts[i]->status(cmp->selves[i], &status);
        for (size_t k = 0; k < status.guest_count; k++) {
            const Atoll__Store__V1__GuestStatus *row = status.guests[k];
            Atoll__Ha__V1__LocalGuest *guest = atl_arena_new(arena, Atoll__Ha__V1__LocalGuest);
            atoll__ha__v1__local_guest__init(guest);
            guest->vmid = row->vmid;
            guest->type = atl_arena_strdup(arena, strcmp(row->type, "lxc") == 0 ? "ct" : "vm");
            guest->has_running = row->status != NULL && strcmp(row->status, "unknown") != 0;
            guest->running = guest->has_running && strcmp(row->status, "stopped") != 0;
            reply.guest = atl_arena_grow(arena, reply.guest, reply.n_guest, &room, sizeof(void *));
            reply.guest[reply.n_guest++] = guest;
        }
    }
    atl_request_reply(request, &reply.base);
}

static enum atl_code open_part(struct cmp *cmp, void **ret_self, struct atl_error *err)
{
    static const struct atl_handler handlers[] = {{"Guests", guests}};
    (void)err;
    atl_bus_serve(cmp->bus, &atl_svc_ha_v1_Local, handlers, ATL_COUNT(handlers), cmp);
    *ret_self = cmp;
    return ATL_OK;
}

const struct cmp_part cmp_ha_part = {
    .name = "ha", .open = open_part, .tasks = tasks, .task_count = ATL_COUNT(tasks)};
