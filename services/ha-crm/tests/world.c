/* The small cluster of the manager's tests: see world.h. */
#include "world.h"

#include "ha/place.h"
#include "ha/times.h"

enum { SETTLE_ROUNDS = 60 };
static const char guests[] = "nodes/";

char *text(struct world *world, const char *value)
{
    return value == NULL ? NULL : atl_arena_strdup(&world->arena, value);
}

static Atoll__Bus__V1__Revision *next_revision(struct world *world)
{
    Atoll__Bus__V1__Revision *revision = atl_arena_new(&world->arena, Atoll__Bus__V1__Revision);
    atoll__bus__v1__revision__init(revision);
    revision->has_epoch = revision->has_number = 1;
    revision->epoch = 1;
    revision->number = ++world->number;
    return revision;
}

void world_free(struct world *world)
{
    for (size_t i = 0; i < world->kept_count; i++)
        protobuf_c_message_free_unpacked(world->kept[i], NULL);
    free(world->kept);
    atl_arena_done(&world->arena);
}

/* --- given --- */

static Atoll__Ha__V1__NodeView *add_node(struct world *world, const char *name)
{
    Atoll__Ha__V1__NodeView *added = atl_arena_new(&world->arena, Atoll__Ha__V1__NodeView);
    atoll__ha__v1__node_view__init(added);
    added->name = text(world, name);
    added->has_cpus = added->has_memory = 1;
    added->cpus = 16;
    added->memory = 64ULL << 30;
    world->view.node = atl_arena_grow(&world->arena, world->view.node, world->view.n_node, &world->node_room,
                                      sizeof(void *));
    world->view.node[world->view.n_node++] = added;
    return added;
}

static void begin_report(struct world *world, Atoll__Ha__V1__NodeView *of, const char *mode)
{
    Atoll__Ha__V1__LrmReport *report = atl_arena_new(&world->arena, Atoll__Ha__V1__LrmReport);
    atoll__ha__v1__lrm_report__init(report);
    report->incarnation = ++world->number;
    report->mode = text(world, mode);
    of->report = report;
    of->has_report_age_ms = 1;
    of->report_age_ms = 0;
}

struct world given_cluster(int nodes)
{
    struct world world = {.number = 1000};
    atoll__ha__v1__manager_view__init(&world.view);
    world.view.self = text(&world, "pve1");
    world.view.incarnation = 77;
    world.view.has_quorate = world.view.quorate = 1;
    world.view.has_wall = 1;
    world.view.wall = 1000000;
    world.view.manager = atl_arena_new(&world.arena, Atoll__Ha__V1__Manager);
    atoll__ha__v1__manager__init(world.view.manager);
    world.view.manager->node = text(&world, "pve1");
    world.view.manager->incarnation = 77;
    world.view.manager->term = 1;
    world.view.manager_revision = next_revision(&world);
    for (int i = 1; i <= nodes; i++)
        when_boots(&world, add_node(&world, atl_arena_format(&world.arena, "pve%d", i))->name);
    return world;
}

Atoll__Ha__V1__NodeView *node(struct world *world, const char *name)
{
    for (size_t i = 0; i < world->view.n_node; i++)
        if (strcmp(world->view.node[i]->name, name) == 0)
            return world->view.node[i];
    fail_msg("no node %s", name);
    return NULL;
}

Atoll__Ha__V1__GuestView *given_plain_guest(struct world *world, const char *sid, const char *on)
{
    Atoll__Ha__V1__GuestView *added = atl_arena_new(&world->arena, Atoll__Ha__V1__GuestView);
    atoll__ha__v1__guest_view__init(added);
    added->vmid = (uint32_t)strtoul(sid + 3, NULL, 10);
    added->type = atl_arena_strndup(&world->arena, sid, 2);
    added->node = text(world, on);
    added->revision = next_revision(world);
    added->has_cpus = added->has_memory = 1;
    added->cpus = 1;
    added->memory = 2ULL << 30;
    world->view.guest = atl_arena_grow(&world->arena, world->view.guest, world->view.n_guest,
                                       &world->guest_room, sizeof(void *));
    world->view.guest[world->view.n_guest++] = added;
    return added;
}

Atoll__Ha__V1__GuestView *given(struct world *world, const char *sid, const char *on, const char *state)
{
    Atoll__Ha__V1__GuestView *added = given_plain_guest(world, sid, on);
    added->resource = atl_arena_new(&world->arena, Atoll__Ha__V1__Resource);
    atoll__ha__v1__resource__init(added->resource);
    added->resource->sid = text(world, sid);
    added->resource->state = text(world, state);
    return added;
}

Atoll__Ha__V1__GuestView *guest(struct world *world, const char *sid)
{
    uint32_t vmid = (uint32_t)strtoul(sid + 3, NULL, 10);
    for (size_t i = 0; i < world->view.n_guest; i++)
        if (world->view.guest[i]->vmid == vmid)
            return world->view.guest[i];
    fail_msg("no guest %s", sid);
    return NULL;
}

Atoll__Ha__V1__Rule *given_rule(struct world *world, const char *name, const char *resources,
                                const char *nodes, const char *affinity, bool strict)
{
    Atoll__Ha__V1__Rule *rule = atl_arena_new(&world->arena, Atoll__Ha__V1__Rule);
    atoll__ha__v1__rule__init(rule);
    rule->rule = text(world, name);
    rule->type = text(world, nodes != NULL ? "node-affinity" : "resource-affinity");
    rule->resources = text(world, resources);
    rule->nodes = text(world, nodes);
    rule->affinity = text(world, affinity);
    rule->has_strict = rule->strict = strict;
    world->view.rule = atl_arena_grow(&world->arena, world->view.rule, world->view.n_rule, &world->rule_room,
                                      sizeof(void *));
    world->view.rule[world->view.n_rule++] = rule;
    return rule;
}

Atoll__Ha__V1__Settings *settings(struct world *world)
{
    if (world->view.settings == NULL) {
        world->view.settings = atl_arena_new(&world->arena, Atoll__Ha__V1__Settings);
        atoll__ha__v1__settings__init(world->view.settings);
    }
    return world->view.settings;
}

/* --- the tree --- */

/* A file as the view has it. */
struct slot {
    ProtobufCMessage **message;
    Atoll__Bus__V1__Revision **revision;
    const ProtobufCMessageDescriptor *type;
};

static const char *behind(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 ? path + length : NULL;
}

static struct slot node_slot(struct world *world, const char *path)
{
    const char *name = NULL;
    if ((name = behind(path, ATL_HA_LOCK)) != NULL)
        return (struct slot){(void *)&node(world, name)->lock, &node(world, name)->lock_revision,
                             &atoll__ha__v1__node_lock__descriptor};
    if ((name = behind(path, ATL_HA_BEAT)) != NULL)
        return (struct slot){(void *)&node(world, name)->beat, &node(world, name)->beat_revision,
                             &atoll__ha__v1__beat__descriptor};
    if ((name = behind(path, ATL_HA_LRM)) != NULL)
        return (struct slot){(void *)&node(world, name)->report, &node(world, name)->report_revision,
                             &atoll__ha__v1__lrm_report__descriptor};
    if ((name = behind(path, ATL_HA_NODE)) != NULL)
        return (struct slot){(void *)&node(world, name)->record, &node(world, name)->record_revision,
                             &atoll__ha__v1__node_record__descriptor};
    return (struct slot){0};
}

static struct slot slot_of(struct world *world, const char *path)
{
    Atoll__Ha__V1__ManagerView *view = &world->view;
    if (strcmp(path, ATL_HA_MANAGER) == 0)
        return (struct slot){(void *)&view->manager, &view->manager_revision,
                             &atoll__ha__v1__manager__descriptor};
    if (strcmp(path, ATL_HA_MANAGER_BEAT) == 0)
        return (struct slot){(void *)&view->manager_beat, &view->manager_beat_revision,
                             &atoll__ha__v1__beat__descriptor};
    if (strcmp(path, ATL_HA_ARM) == 0)
        return (struct slot){(void *)&view->arm, &view->arm_revision, &atoll__ha__v1__arm__descriptor};
    const char *sid = behind(path, ATL_HA_SERVICE);
    if (sid != NULL)
        return (struct slot){(void *)&guest(world, sid)->service, &guest(world, sid)->service_revision,
                             &atoll__ha__v1__service__descriptor};
    return node_slot(world, path);
}

static Atoll__Ha__V1__GuestView *guest_of_file(struct world *world, const char *path)
{
    const char *id = strrchr(path, '/') + 1;
    return guest(world, atl_arena_format(&world->arena, "vm:%s", id));
}

static struct Atoll__Ha__V1__RequestView **request_at(struct world *world, const char *id)
{
    for (size_t i = 0; i < world->view.n_request; i++)
        if (strcmp(world->view.request[i]->id, id) == 0)
            return &world->view.request[i];
    fail_msg("no request %s", id);
    return NULL;
}

static const Atoll__Bus__V1__Revision *revision_of(struct world *world, const char *path)
{
    if (behind(path, guests) != NULL)
        return guest_of_file(world, path)->revision;
    if (behind(path, ATL_HA_REQUEST) != NULL)
        return (*request_at(world, behind(path, ATL_HA_REQUEST)))->revision;
    struct slot slot = slot_of(world, path);
    return *slot.message == NULL ? NULL : *slot.revision;
}

static void check_compare(struct world *world, const Atoll__Store__V1__Compare *compare)
{
    const Atoll__Bus__V1__Revision *revision = revision_of(world, compare->path);
    if (compare->absent && revision != NULL)
        fail_msg("%s is there, and was compared to be absent", compare->path);
    if (!compare->absent && (revision == NULL || revision->number != compare->revision->number))
        fail_msg("%s has another revision than was compared", compare->path);
}

static ProtobufCMessage *unpacked(struct world *world, const ProtobufCMessageDescriptor *type,
                                  const ProtobufCBinaryData *bytes)
{
    ProtobufCMessage *message = protobuf_c_message_unpack(type, NULL, bytes->len, bytes->data);
    assert_non_null(message);
    world->kept = atl_realloc(world->kept, (world->kept_count + 1) * sizeof *world->kept);
    world->kept[world->kept_count++] = message;
    return message;
}

static void put(struct world *world, const Atoll__Store__V1__Operation *operation)
{
    if (strcmp(operation->path, ATL_HA_MOVES) == 0) {
        Atoll__Ha__V1__Moves *moves =
            (void *)unpacked(world, &atoll__ha__v1__moves__descriptor, &operation->content);
        world->view.recent = moves->move;
        world->view.n_recent = moves->n_move;
        return;
    }
    struct slot slot = slot_of(world, operation->path);
    *slot.message = unpacked(world, slot.type, &operation->content);
    *slot.revision = next_revision(world);
    if (strcmp(operation->path, ATL_HA_MANAGER_BEAT) == 0)
        world->view.manager_unchanged_ms = 0;
}

static void delete (struct world *world, const char *path)
{
    const char *id = behind(path, ATL_HA_REQUEST);
    if (id != NULL) {
        Atoll__Ha__V1__RequestView **gone = request_at(world, id);
        *gone = world->view.request[--world->view.n_request];
        return;
    }
    const char *sid = behind(path, ATL_HA_SERVICE);
    for (size_t i = 0; sid != NULL && i < world->view.n_orphan; i++) {
        if (strcmp(world->view.orphan_sid[i], sid) == 0) {
            world->view.n_orphan = world->view.n_orphan_sid = 0;
            return;
        }
    }
    struct slot slot = slot_of(world, path);
    assert_non_null(*slot.message);
    *slot.message = NULL;
    *slot.revision = NULL;
}

static void move(struct world *world, const Atoll__Store__V1__Operation *operation)
{
    Atoll__Ha__V1__GuestView *moved = guest_of_file(world, operation->path);
    const char *to = operation->to + strlen(guests);
    const char *folder = strcmp(moved->type, "vm") == 0 ? "qemu-server" : "lxc";
    assert_string_equal(operation->path, atl_arena_format(&world->arena, "nodes/%s/%s/%u.conf", moved->node,
                                                          folder, moved->vmid));
    moved->node = atl_arena_strndup(&world->arena, to, strcspn(to, "/"));
    moved->revision = next_revision(world);
    moved->running = 0;
}

static void apply(struct world *world, const Atoll__Store__V1__TxnRequest *txn)
{
    assert_true(txn->n_compare <= 100 && txn->n_operation <= 100 && txn->n_operation > 0);
    for (size_t i = 0; i < txn->n_compare; i++)
        check_compare(world, txn->compare[i]);
    for (size_t i = 0; i < txn->n_operation; i++) {
        const Atoll__Store__V1__Operation *operation = txn->operation[i];
        if (strcmp(operation->kind, "put") == 0)
            put(world, operation);
        else if (strcmp(operation->kind, "delete") == 0)
            delete (world, operation->path);
        else
            move(world, operation);
    }
}

/* --- when --- */

void when_round_is_lost(struct world *world)
{
    world->plan = crm_round(&world->view, &world->arena);
}

void when_round(struct world *world)
{
    when_round_is_lost(world);
    for (size_t i = 0; i < world->plan->n_txn; i++)
        apply(world, world->plan->txn[i]);
}

void when_answered(struct world *world, const char *sid, const char *outcome)
{
    const Atoll__Ha__V1__Service *service = guest(world, sid)->service;
    Atoll__Ha__V1__LrmReport *report = node(world, service->node)->report;
    Atoll__Ha__V1__JobResult *result = atl_arena_new(&world->arena, Atoll__Ha__V1__JobResult);
    atoll__ha__v1__job_result__init(result);
    result->sid = text(world, sid);
    result->command = service->command;
    result->outcome = text(world, outcome);
    result->error = strcmp(outcome, "done") == 0 ? NULL : text(world, "it is broken");
    Atoll__Ha__V1__JobResult **results =
        atl_arena_array(&world->arena, Atoll__Ha__V1__JobResult *, report->n_result + 1);
    size_t count = 0;
    for (size_t i = 0; i < report->n_result; i++)
        if (strcmp(report->result[i]->sid, sid) != 0)
            results[count++] = report->result[i];
    results[count++] = result;
    report->result = results;
    report->n_result = count;
}

static void take_lock(struct world *world, Atoll__Ha__V1__NodeView *of)
{
    struct atl_ha_times times = atl_ha_times_of(ATL_HA_TICK_MS);
    of->lock = atl_arena_new(&world->arena, Atoll__Ha__V1__NodeLock);
    atoll__ha__v1__node_lock__init(of->lock);
    of->lock->node = of->name;
    of->lock->incarnation = of->report->incarnation;
    of->lock->feed_horizon_ms = times.feed_horizon_ms;
    of->lock->watchdog_ms = times.watchdog_ms;
    of->lock->margin_ms = times.margin_ms;
    of->lock_revision = next_revision(world);
    of->beat = atl_arena_new(&world->arena, Atoll__Ha__V1__Beat);
    atoll__ha__v1__beat__init(of->beat);
    of->beat->incarnation = of->lock->incarnation;
    of->beat->has_armed = of->beat->armed = 1;
    of->beat_revision = next_revision(world);
    of->has_unchanged_ms = 1;
    of->unchanged_ms = 0;
}

/* What ha-lrm and compute-agent make of one order; false: nothing is to be done. */
static bool carry_out(struct world *world, Atoll__Ha__V1__GuestView *it)
{
    static const char *const moves[] = {"migrate", "relocate", "request_start_balance"};
    const char *state = it->service->state;
    bool answered = false;
    const Atoll__Ha__V1__LrmReport *report = node(world, it->service->node)->report;
    const char *sid = atl_arena_format(&world->arena, "%s:%u", it->type, it->vmid);
    for (size_t i = 0; i < report->n_result; i++)
        answered = answered || (strcmp(report->result[i]->sid, sid) == 0 &&
                                report->result[i]->command == it->service->command);
    if (answered)
        return false;
    if (strcmp(state, "request_start") == 0)
        it->has_running = it->running = 1;
    else if (strcmp(state, "request_stop") == 0)
        it->running = 0;
    else if (strcmp(state, moves[0]) == 0 || strcmp(state, moves[1]) == 0 || strcmp(state, moves[2]) == 0) {
        it->running = it->running && strcmp(state, "migrate") == 0;
        it->node = text(world, it->service->target);
        it->revision = next_revision(world);
    } else
        return false;
    when_answered(world, sid, "done");
    return true;
}

static bool lrm_works(struct world *world)
{
    bool worked = false;
    for (size_t i = 0; i < world->view.n_guest; i++) {
        Atoll__Ha__V1__GuestView *it = world->view.guest[i];
        if (it->service == NULL || strcmp(it->service->node, it->node) != 0)
            continue;
        Atoll__Ha__V1__NodeView *at = node(world, it->node);
        if (!at->member)
            continue;
        if (at->lock == NULL && strcmp(it->service->state, "request_start") == 0)
            take_lock(world, at);
        if (at->lock == NULL || !at->lock->fenced)
            worked = carry_out(world, it) || worked;
    }
    return worked;
}

void when_settled(struct world *world)
{
    for (int i = 0; i < SETTLE_ROUNDS; i++) {
        when_round(world);
        when_time_passes(world, ATL_HA_TICK_MS);
        bool worked = lrm_works(world);
        if (!worked && world->plan->n_txn <= 1)
            return;
    }
    fail_msg("it does not settle");
}

void when_time_passes(struct world *world, uint64_t ms)
{
    world->spare_ms += ms;
    world->view.wall += (int64_t)(world->spare_ms / 1000);
    world->spare_ms %= 1000;
    world->view.has_manager_unchanged_ms = 1;
    world->view.manager_unchanged_ms += ms;
    world->view.balance_idle_ms += ms;
    for (size_t i = 0; i < world->view.n_node; i++) {
        Atoll__Ha__V1__NodeView *it = world->view.node[i];
        it->has_unchanged_ms = it->lock != NULL;
        it->unchanged_ms = it->member ? 0 : it->unchanged_ms + ms;
        it->report_age_ms = it->member ? 0 : it->report_age_ms + ms;
    }
}

void when_dies(struct world *world, const char *name)
{
    node(world, name)->has_member = 1;
    node(world, name)->member = 0;
    for (size_t i = 0; i < world->view.n_guest; i++)
        if (strcmp(world->view.guest[i]->node, name) == 0)
            world->view.guest[i]->running = 0;
}

void when_boots(struct world *world, const char *name)
{
    node(world, name)->has_member = node(world, name)->member = 1;
    begin_report(world, node(world, name), "active");
}

void when_asked(struct world *world, const char *kind, const char *sid, const char *on)
{
    Atoll__Ha__V1__RequestView *added = atl_arena_new(&world->arena, Atoll__Ha__V1__RequestView);
    atoll__ha__v1__request_view__init(added);
    added->request = atl_arena_new(&world->arena, Atoll__Ha__V1__Request);
    atoll__ha__v1__request__init(added->request);
    added->revision = next_revision(world);
    added->id = atl_arena_format(&world->arena, "r%llu", (unsigned long long)world->number);
    added->request->kind = text(world, kind);
    added->request->sid = text(world, sid);
    added->request->node = text(world, on);
    world->view.request = atl_arena_grow(&world->arena, world->view.request, world->view.n_request,
                                         &world->request_room, sizeof(void *));
    world->view.request[world->view.n_request++] = added;
}

void when_mode(struct world *world, const char *name, const char *mode)
{
    node(world, name)->report->mode = text(world, mode);
}

/* --- then --- */

void then_state(struct world *world, const char *sid, const char *state)
{
    const Atoll__Ha__V1__Service *service = guest(world, sid)->service;
    if (service == NULL)
        fail_msg("%s has no record", sid);
    else if (strcmp(service->state, state) != 0)
        fail_msg("%s is '%s' (%s), not '%s'", sid, service->state, service->why, state);
}

void then_on(struct world *world, const char *sid, const char *on)
{
    assert_string_equal(guest(world, sid)->node, on);
    if (guest(world, sid)->service != NULL)
        assert_string_equal(guest(world, sid)->service->node, on);
}

void then_target(struct world *world, const char *sid, const char *on)
{
    const char *target = guest(world, sid)->service->target;
    assert_string_equal(target != NULL ? target : "none", on);
}

void then_node_is(struct world *world, const char *name, const char *state)
{
    assert_non_null(node(world, name)->record);
    assert_string_equal(node(world, name)->record->state, state);
}

bool was_said(const struct world *world, const char *part)
{
    for (size_t i = 0; i < world->plan->n_decision; i++)
        if (strstr(world->plan->decision[i]->what, part) != NULL ||
            strstr(world->plan->decision[i]->why, part) != NULL)
            return true;
    return false;
}

void then_said(struct world *world, const char *part)
{
    if (was_said(world, part))
        return;
    for (size_t i = 0; i < world->plan->n_decision; i++)
        print_message("%s: %s\n", world->plan->decision[i]->what, world->plan->decision[i]->why);
    fail_msg("nothing was said of '%s'", part);
}
