/* How things stand: quorum, manager, nodes' agents, resources; arming and maintenance. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "atoll/ha/v1/ha.atl.h"
#include "atoll/ha/v1/state.atl.h"
#include "core/crm.h"
#include "ha/place.h"
#include "ha/times.h"
#include "shell.h"

struct showing {
    struct crm *crm;
    struct atl_arena *arena;
    Atoll__Ha__V1__CurrentReply *reply;
    size_t room;
    bool verbose;
    struct atl_buf json;
};

static Atoll__Ha__V1__CurrentRow *add_row(struct showing *showing, const char *type, const char *id,
                                          const char *node)
{
    Atoll__Ha__V1__CurrentReply *reply = showing->reply;
    Atoll__Ha__V1__CurrentRow *row = atl_arena_new(showing->arena, Atoll__Ha__V1__CurrentRow);
    atoll__ha__v1__current_row__init(row);
    row->type = atl_arena_strdup(showing->arena, type);
    row->id = atl_arena_strdup(showing->arena, id);
    row->node = atl_arena_strdup(showing->arena, node);
    reply->entry =
        atl_arena_grow(showing->arena, reply->entry, reply->n_entry, &showing->room, sizeof(void *));
    reply->entry[reply->n_entry++] = row;
    return row;
}

static const char *when(int64_t seconds, struct atl_arena *arena)
{
    time_t at = (time_t)seconds;
    struct tm parts;
    char text[64];
    if (seconds == 0 || localtime_r(&at, &parts) == NULL ||
        strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &parts) == 0)
        return "unknown";
    return atl_arena_strdup(arena, text);
}

static ProtobufCMessage *state(const struct showing *showing, const struct atl_message *table,
                               const char *path)
{
    return crm_state(showing->crm, table, path, showing->arena);
}

static void add_quorum(struct showing *showing)
{
    const struct crm *crm = showing->crm;
    Atoll__Ha__V1__CurrentRow *row = add_row(showing, "quorum", "quorum", crm->node);
    row->has_quorate = true;
    row->quorate = crm_quorate(crm);
    row->status = row->quorate ? atl_arena_strdup(showing->arena, "OK")
                               : atl_arena_format(showing->arena, "No quorum on node '%s'!", crm->node);
}

static void add_manager(struct showing *showing)
{
    const struct crm *crm = showing->crm;
    struct atl_arena *arena = showing->arena;
    const Atoll__Ha__V1__Manager *manager =
        (const void *)state(showing, &atl_msg_ha_v1_Manager, ATL_HA_MANAGER);
    const Atoll__Ha__V1__Beat *beat = (const void *)state(showing, &atl_msg_ha_v1_Beat, ATL_HA_MANAGER_BEAT);
    if (manager == NULL)
        return;
    Atoll__Ha__V1__CurrentRow *row = add_row(showing, "master", "master", manager->node);
    int64_t time = beat != NULL ? beat->time : manager->since;
    uint64_t age = crm_seen_age(crm, ATL_HA_MANAGER_BEAT);
    bool alive = age < 10 * (uint64_t)crm->tick_ms;
    row->has_timestamp = true;
    row->timestamp = time;
    row->status = atl_arena_format(arena, "%s (%s, %s)", manager->node,
                                   alive ? "active" : "old timestamp - dead?", when(time, arena));
    row->has_age_ms = showing->verbose;
    row->age_ms = age;
}

static void add_agent(const char *path, const struct atl_file *file, void *user)
{
    struct showing *showing = user;
    struct atl_arena *arena = showing->arena;
    const char *node = path + strlen(ATL_HA_LRM);
    const Atoll__Ha__V1__LrmReport *report =
        (const void *)atl_unpack(&atl_msg_ha_v1_LrmReport, file->bytes, file->size, arena);
    const char *lock_path = atl_arena_format(arena, ATL_HA_LOCK "%s", node);
    const char *beat_path = atl_arena_format(arena, ATL_HA_BEAT "%s", node);
    const Atoll__Ha__V1__NodeLock *lock = (const void *)state(showing, &atl_msg_ha_v1_NodeLock, lock_path);
    const Atoll__Ha__V1__Beat *beat = (const void *)state(showing, &atl_msg_ha_v1_Beat, beat_path);
    if (report == NULL)
        return;
    uint64_t age = crm_seen_age(showing->crm, beat_path);
    const char *word = "idle";
    if (lock != NULL && lock->fenced)
        word = "fenced";
    else if (lock != NULL && age >= 10 * (uint64_t)showing->crm->tick_ms)
        word = "old timestamp - dead?";
    else if (report->mode != NULL && strcmp(report->mode, "maintenance") == 0)
        word = "maintenance mode";
    else if (lock != NULL)
        word = "active";
    int64_t time = beat != NULL && lock != NULL ? beat->time : report->time;
    Atoll__Ha__V1__CurrentRow *row = add_row(showing, "lrm", atl_arena_format(arena, "lrm:%s", node), node);
    row->has_timestamp = true;
    row->timestamp = time;
    row->status = atl_arena_format(arena, "%s (%s, %s)", node, word, when(time, arena));
    if (!showing->verbose)
        return;
    const Atoll__Ha__V1__NodeRecord *record = (const void *)state(
        showing, &atl_msg_ha_v1_NodeRecord, atl_arena_format(arena, ATL_HA_NODE "%s", node));
    row->node_state = record != NULL ? record->state : NULL;
    row->has_age_ms = lock != NULL; /* without its lock it does not beat */
    row->age_ms = age;
}

static const char *shown_state(const Atoll__Ha__V1__Resource *one, const Atoll__Ha__V1__Service *service)
{
    if (one->state != NULL && strcmp(one->state, "ignored") == 0)
        return "ignored";
    if (service == NULL)
        return "queued";
    if (strcmp(service->state, "request_start") == 0 || strcmp(service->state, "request_start_balance") == 0)
        return "starting";
    return strcmp(service->state, "request_stop") == 0 ? "stopping" : service->state;
}

static void add_service(struct showing *showing, const Atoll__Ha__V1__Resource *one)
{
    struct atl_arena *arena = showing->arena;
    const char *path = atl_arena_format(arena, ATL_HA_SERVICE "%s", one->sid);
    const Atoll__Ha__V1__Service *service = (const void *)state(showing, &atl_msg_ha_v1_Service, path);
    const char *node = service != NULL ? service->node : NULL;
    if (node == NULL)
        (void)crm_guest(showing->crm, (uint32_t)strtoul(one->sid + 3, NULL, 10), arena, &node);
    node = node != NULL ? node : "";
    Atoll__Ha__V1__CurrentRow *row =
        add_row(showing, "service", atl_arena_format(arena, "service:%s", one->sid), node);
    row->sid = one->sid;
    row->state = atl_arena_strdup(arena, shown_state(one, service));
    row->crm_state = service != NULL ? service->state : NULL;
    row->request_state = atl_arena_strdup(arena, one->state != NULL ? one->state : "started");
    row->has_max_restart = row->has_max_relocate = row->has_failback = true;
    row->max_restart = one->has_max_restart ? one->max_restart : 1;
    row->max_relocate = one->has_max_relocate ? one->max_relocate : 1;
    row->failback = one->has_failback ? one->failback : true;
    row->status = atl_arena_format(arena, "%s (%s, %s)", one->sid, node, row->state);
    row->why = showing->verbose && service != NULL ? service->why : NULL;
    row->target = showing->verbose && service != NULL ? service->target : NULL;
}

static void add_services(struct showing *showing)
{
    struct crm_config config;
    struct atl_error err = {0};
    size_t count = 0;
    if (crm_read(showing->crm, CRM_RESOURCES, showing->arena, &config, &err) != ATL_OK)
        return;
    Atoll__Ha__V1__Resource **all = crm_resources(&config, &count);
    for (size_t i = 0; i < count; i++)
        add_service(showing, all[i]);
}

static void count_lock(const char *path, const struct atl_file *file, void *user)
{
    (void)path;
    (void)file;
    (*(size_t *)user)++;
}

static void add_fencing(struct showing *showing)
{
    const Atoll__Ha__V1__Arm *arm = (const void *)state(showing, &atl_msg_ha_v1_Arm, ATL_HA_ARM);
    Atoll__Ha__V1__CurrentRow *row = add_row(showing, "fencing", "fencing", showing->crm->node);
    size_t locks = 0;
    atl_mirror_each(showing->crm->mirror, ATL_HA_LOCK, count_lock, &locks);
    row->armed_state = atl_arena_strdup(showing->arena, locks > 0 ? "armed" : "standby");
    if (arm != NULL && strcmp(arm->state, "armed") != 0)
        row->armed_state = arm->state;
    row->resource_mode = arm != NULL && strcmp(arm->state, "armed") != 0 ? arm->resource_mode : NULL;
    row->status = row->armed_state;
}

void crm_rpc_current(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    Atoll__Ha__V1__CurrentReply reply = ATOLL__HA__V1__CURRENT_REPLY__INIT;
    const Atoll__Ha__V1__CurrentRequest *asked = (const Atoll__Ha__V1__CurrentRequest *)input;
    struct showing showing = {.crm = user,
                              .arena = atl_request_arena(request),
                              .reply = &reply,
                              .verbose = asked->has_verbose && asked->verbose};
    add_quorum(&showing);
    add_manager(&showing);
    add_fencing(&showing);
    atl_mirror_each(showing.crm->mirror, ATL_HA_LRM, add_agent, &showing);
    add_services(&showing);
    atl_request_reply(request, &reply.base);
}

/* --- all that was written down, as JSON --- */

struct dumping {
    struct showing *showing;
    const struct atl_message *table;
    size_t prefix;
    bool first;
};

static void dump_one(const char *path, const struct atl_file *file, void *user)
{
    struct dumping *dumping = user;
    struct showing *showing = dumping->showing;
    const ProtobufCMessage *message = atl_unpack(dumping->table, file->bytes, file->size, showing->arena);
    const char *name = path + dumping->prefix;
    if (message == NULL)
        return;
    if (!dumping->first)
        atl_buf_char(&showing->json, ',');
    dumping->first = false;
    atl_json_string(&showing->json, name, strlen(name));
    atl_buf_char(&showing->json, ':');
    atl_json_encode(dumping->table, message, &showing->json, NULL);
}

static void dump(struct showing *showing, const char *prefix, const struct atl_message *table)
{
    struct dumping dumping = {.showing = showing, .table = table, .prefix = strlen(prefix), .first = true};
    atl_buf_char(&showing->json, '{');
    atl_mirror_each(showing->crm->mirror, prefix, dump_one, &dumping);
    atl_buf_char(&showing->json, '}');
}

static char *taken(struct showing *showing)
{
    char *text = atl_arena_strndup(showing->arena, showing->json.data, showing->json.length);
    atl_buf_reset(&showing->json);
    return text;
}

void crm_rpc_manager_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct showing showing = {.crm = user, .arena = atl_request_arena(request)};
    Atoll__Ha__V1__ManagerStatusReply reply = ATOLL__HA__V1__MANAGER_STATUS_REPLY__INIT;
    const Atoll__Ha__V1__Manager *manager =
        (const void *)state(&showing, &atl_msg_ha_v1_Manager, ATL_HA_MANAGER);
    const Atoll__Ha__V1__Beat *beat = (const void *)state(&showing, &atl_msg_ha_v1_Beat, ATL_HA_MANAGER_BEAT);
    const char *node = manager != NULL ? manager->node : "";
    (void)input;
    atl_buf_text(&showing.json, "{\"master_node\":");
    atl_json_string(&showing.json, node, strlen(node));
    atl_buf_printf(&showing.json,
                   ",\"timestamp\":%" PRId64 ",\"node_status\":", beat != NULL ? beat->time : 0);
    dump(&showing, ATL_HA_NODE, &atl_msg_ha_v1_NodeRecord);
    atl_buf_text(&showing.json, ",\"service_status\":");
    dump(&showing, ATL_HA_SERVICE, &atl_msg_ha_v1_Service);
    atl_buf_char(&showing.json, '}');
    reply.manager_status = taken(&showing);
    dump(&showing, ATL_HA_LRM, &atl_msg_ha_v1_LrmReport);
    reply.lrm_status = taken(&showing);
    atl_buf_text(&showing.json, "{\"node\":");
    atl_json_string(&showing.json, showing.crm->node, strlen(showing.crm->node));
    atl_buf_printf(&showing.json, ",\"quorate\":%d}", crm_quorate(showing.crm) ? 1 : 0);
    reply.quorum = taken(&showing);
    atl_buf_done(&showing.json);
    atl_request_reply(request, &reply.base);
}

/* --- asking the manager --- */

static enum atl_code ask_arm(struct atl_request *request, const ProtobufCMessage *input, struct atl_txn *txn,
                             void *user, struct atl_errors *errors, struct atl_error *err)
{
    Atoll__Ha__V1__Request wish = ATOLL__HA__V1__REQUEST__INIT;
    (void)input;
    (void)user;
    (void)errors;
    wish.kind = atl_arena_strdup(atl_request_arena(request), "arm");
    return crm_ask(request, txn, &wish, err);
}

void crm_rpc_arm(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, ask_arm);
}

static enum atl_code ask_disarm(struct atl_request *request, const ProtobufCMessage *input,
                                struct atl_txn *txn, void *user, struct atl_errors *errors,
                                struct atl_error *err)
{
    const Atoll__Ha__V1__DisarmRequest *wanted = (const void *)input;
    Atoll__Ha__V1__Request wish = ATOLL__HA__V1__REQUEST__INIT;
    (void)user;
    (void)errors;
    wish.kind = atl_arena_strdup(atl_request_arena(request), "disarm");
    wish.resource_mode = wanted->resource_mode;
    return crm_ask(request, txn, &wish, err);
}

void crm_rpc_disarm(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, ask_disarm);
}

static enum atl_code ask_maintenance(struct atl_request *request, const ProtobufCMessage *input,
                                     struct atl_txn *txn, void *user, struct atl_errors *errors,
                                     struct atl_error *err)
{
    const Atoll__Ha__V1__NodeRequest *wanted = (const void *)input;
    Atoll__Ha__V1__Request wish = ATOLL__HA__V1__REQUEST__INIT;
    bool enable = strcmp(atl_request_rpc(request)->name, "atoll.ha.v1.Ha.EnableMaintenance") == 0;
    (void)errors;
    enum atl_code code = crm_need_node(user, wanted->node, err);
    wish.kind = atl_arena_strdup(atl_request_arena(request), enable ? "maintenance-on" : "maintenance-off");
    wish.node = wanted->node;
    return code == ATL_OK ? crm_ask(request, txn, &wish, err) : code;
}

void crm_rpc_maintenance(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_edit(user, request, input, ask_maintenance);
}

/* --- what would happen --- */

/* It is as it will be when the manager may take the lock over. */
static void fail_node(const struct crm *crm, Atoll__Ha__V1__ManagerView *view, const char *node)
{
    const struct atl_ha_times times = atl_ha_times_of(crm->tick_ms);
    for (size_t i = 0; i < view->n_node; i++) {
        Atoll__Ha__V1__NodeView *one = view->node[i];
        if (strcmp(one->name, node) != 0)
            continue;
        one->has_member = true;
        one->member = false;
        one->has_unchanged_ms = one->has_report_age_ms = true;
        one->unchanged_ms = times.lease_wait_ms;
        one->report_age_ms = UINT32_MAX;
        if (one->lock == NULL)
            continue;
        uint64_t promised =
            atl_ha_lease_wait(one->lock->feed_horizon_ms, one->lock->watchdog_ms, one->lock->margin_ms);
        one->unchanged_ms = promised > one->unchanged_ms ? promised : one->unchanged_ms;
    }
}

static void simulate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Ha__V1__SimulateRequest *wanted = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_error err = {0};
    if (crm_need_node(user, wanted->fail, &err) != ATL_OK) {
        (void)atl_copy(err.field, sizeof err.field, "fail");
        atl_request_fail(request, &err, NULL);
        return;
    }
    Atoll__Ha__V1__ManagerView *view = crm_view_as_manager(user, arena);
    fail_node(user, view, wanted->fail);
    const Atoll__Ha__V1__ManagerPlan *plan = crm_round(view, arena);
    Atoll__Ha__V1__SimulateReply reply = ATOLL__HA__V1__SIMULATE_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Ha__V1__SimulateRow *, plan->n_decision + 1);
    for (size_t i = 0; i < plan->n_decision; i++) {
        Atoll__Ha__V1__SimulateRow *row = atl_arena_new(arena, Atoll__Ha__V1__SimulateRow);
        atoll__ha__v1__simulate_row__init(row);
        row->sid = plan->decision[i]->sid;
        row->node = plan->decision[i]->node;
        row->decision = plan->decision[i]->what;
        row->why = plan->decision[i]->why;
        reply.entry[reply.n_entry++] = row;
    }
    atl_request_reply(request, &reply.base);
}

void crm_rpc_simulate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    crm_with_load(user, request, input, simulate);
}
