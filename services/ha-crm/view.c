/* The tree and what is known beside it, as the core is to see it. */
#include <stdlib.h>
#include <string.h>

#include "atoll/ha/v1/ha.atl.h"
#include "atoll/ha/v1/state.atl.h"
#include "ha/place.h"
#include "ha/settings.h"
#include "shell.h"

struct viewing {
    const struct crm *crm;
    struct atl_arena *arena;
    Atoll__Ha__V1__ManagerView *view;
    size_t node_room;
    size_t guest_room;
    size_t request_room;
    Atoll__Ha__V1__Resource **resources; /* by sid */
    size_t resource_count;
    size_t orphan_room;
    size_t orphan_sid_room;
    size_t orphan_revision_room;
    struct crm_config fences; /* ha/fence.cfg, if it is asked */
    bool has_fences;
};

ProtobufCMessage *crm_state(const struct crm *crm, const struct atl_message *table, const char *path,
                            struct atl_arena *arena)
{
    const struct atl_file *file = atl_mirror_get(crm->mirror, path);
    return file != NULL ? atl_unpack(table, file->bytes, file->size, arena) : NULL;
}

static Atoll__Bus__V1__Revision *revision(const struct viewing *viewing, const char *path)
{
    const struct atl_file *file = atl_mirror_get(viewing->crm->mirror, path);
    if (file == NULL)
        return NULL;
    Atoll__Bus__V1__Revision *out = atl_arena_new(viewing->arena, Atoll__Bus__V1__Revision);
    atoll__bus__v1__revision__init(out);
    out->has_epoch = out->has_number = 1;
    out->epoch = file->revision.epoch;
    out->number = file->revision.number;
    return out;
}

/* --- nodes --- */

static uint64_t lesser(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void fill_node(struct viewing *viewing, Atoll__Ha__V1__NodeView *node)
{
    const struct crm *crm = viewing->crm;
    struct atl_arena *arena = viewing->arena;
    const char *lock = atl_arena_format(arena, ATL_HA_LOCK "%s", node->name);
    const char *beat = atl_arena_format(arena, ATL_HA_BEAT "%s", node->name);
    const char *report = atl_arena_format(arena, ATL_HA_LRM "%s", node->name);
    const char *record = atl_arena_format(arena, ATL_HA_NODE "%s", node->name);
    node->lock = (Atoll__Ha__V1__NodeLock *)crm_state(crm, &atl_msg_ha_v1_NodeLock, lock, arena);
    node->lock_revision = revision(viewing, lock);
    node->beat = (Atoll__Ha__V1__Beat *)crm_state(crm, &atl_msg_ha_v1_Beat, beat, arena);
    node->beat_revision = revision(viewing, beat);
    node->report = (Atoll__Ha__V1__LrmReport *)crm_state(crm, &atl_msg_ha_v1_LrmReport, report, arena);
    node->report_revision = revision(viewing, report);
    node->record = (Atoll__Ha__V1__NodeRecord *)crm_state(crm, &atl_msg_ha_v1_NodeRecord, record, arena);
    node->record_revision = revision(viewing, record);
    node->has_unchanged_ms = node->lock != NULL;
    if (node->lock != NULL)
        node->unchanged_ms = node->beat != NULL ? lesser(crm_seen_age(crm, lock), crm_seen_age(crm, beat))
                                                : crm_seen_age(crm, lock);
    node->has_report_age_ms = node->report != NULL;
    node->report_age_ms = crm_seen_age(crm, report);
    node->has_can_power_off = node->has_power_off = true;
    node->can_power_off = viewing->has_fences && crm_fence_usable(&viewing->fences, node->name) != NULL;
    node->power_off = crm_fence_is_off(crm, node->name, node->member);
}

static Atoll__Ha__V1__NodeView *node_of(struct viewing *viewing, const char *name)
{
    Atoll__Ha__V1__ManagerView *view = viewing->view;
    for (size_t i = 0; i < view->n_node; i++)
        if (strcmp(view->node[i]->name, name) == 0)
            return view->node[i];
    Atoll__Ha__V1__NodeView *node = atl_arena_new(viewing->arena, Atoll__Ha__V1__NodeView);
    atoll__ha__v1__node_view__init(node);
    node->name = atl_arena_strdup(viewing->arena, name);
    view->node =
        atl_arena_grow(viewing->arena, view->node, view->n_node, &viewing->node_room, sizeof(void *));
    view->node[view->n_node++] = node;
    return node;
}

/* A file of a node that may be no member any more. */
static void node_file(const char *path, const struct atl_file *file, void *user)
{
    (void)file;
    (void)node_of(user, strrchr(path, '/') + 1);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(Atoll__Ha__V1__NodeView *const *)a)->name, (*(Atoll__Ha__V1__NodeView *const *)b)->name);
}

static void add_nodes(struct viewing *viewing)
{
    const struct crm_members *members = &viewing->crm->members;
    for (size_t i = 0; i < members->count; i++) {
        Atoll__Ha__V1__NodeView *node = node_of(viewing, members->nodes[i]);
        node->has_member = true;
        node->member = members->online[i];
    }
    static const char *const places[] = {ATL_HA_LOCK, ATL_HA_LRM, ATL_HA_NODE};
    for (size_t i = 0; i < ATL_COUNT(places); i++)
        atl_mirror_each(viewing->crm->mirror, places[i], node_file, viewing);
    struct atl_error err = {0};
    viewing->has_fences = !viewing->view->settings->watchdogs_alone &&
                          crm_read(viewing->crm, CRM_FENCE, viewing->arena, &viewing->fences, &err) == ATL_OK;
    for (size_t i = 0; i < viewing->view->n_node; i++) {
        Atoll__Ha__V1__NodeView *node = viewing->view->node[i];
        node->has_removed = members->told_at != 0;
        node->removed = members->told_at != 0 && !node->has_member; /* corosync does not have it any more */
        fill_node(viewing, node);
    }
    if (viewing->view->n_node > 0)
        qsort(viewing->view->node, viewing->view->n_node, sizeof(void *), by_name);
}

/* --- guests --- */

/* nodes/NODE/qemu-server/100.conf; false: another file. */
static bool guest_path(const char *path, struct atl_arena *arena, Atoll__Ha__V1__GuestView *guest)
{
    const char *node = path + strlen("nodes/");
    const char *kind = strchr(node, '/');
    if (kind == NULL)
        return false;
    bool vm = strncmp(kind, "/qemu-server/", 13) == 0;
    if (!vm && strncmp(kind, "/lxc/", 5) != 0)
        return false;
    char *end = NULL;
    unsigned long vmid = strtoul(kind + (vm ? 13 : 5), &end, 10);
    if (strcmp(end, ".conf") != 0 || vmid < 100 || vmid > 999999999)
        return false;
    guest->vmid = (uint32_t)vmid;
    guest->type = atl_arena_strdup(arena, vm ? "vm" : "ct");
    guest->node = atl_arena_strndup(arena, node, (size_t)(kind - node));
    return true;
}

/* The value of a line `name: value` before the first section, as a number; or fallback. */
static double said(const struct atl_file *file, const char *name, double fallback)
{
    size_t length = strlen(name);
    for (const char *line = file->bytes; *line != '\0' && *line != '[';) {
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            return strtod(line + length + 1, NULL);
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return fallback;
}

static bool has_line(const struct atl_file *file, const char *name)
{
    return said(file, name, -1) != -1;
}

static bool starts_with_any(const struct atl_file *file, const char *const *names)
{
    for (; *names != NULL; names++)
        if (has_line(file, *names))
            return true;
    return false;
}

static int by_sid(const void *a, const void *b)
{
    return strcmp((*(Atoll__Ha__V1__Resource *const *)a)->sid, (*(Atoll__Ha__V1__Resource *const *)b)->sid);
}

static Atoll__Ha__V1__Resource *find_resource(const struct viewing *viewing, const char *sid)
{
    Atoll__Ha__V1__Resource key = {.sid = (char *)(uintptr_t)sid};
    const Atoll__Ha__V1__Resource *wanted = &key;
    Atoll__Ha__V1__Resource **at =
        viewing->resource_count > 0
            ? bsearch(&wanted, viewing->resources, viewing->resource_count, sizeof(void *), by_sid)
            : NULL;
    return at != NULL ? *at : NULL;
}

static void add_guest(const char *path, const struct atl_file *file, void *user)
{
    static const char *const bound[] = {"hostpci0", "usb0", "dev0", NULL};
    struct viewing *viewing = user;
    Atoll__Ha__V1__ManagerView *view = viewing->view;
    Atoll__Ha__V1__GuestView *guest = atl_arena_new(viewing->arena, Atoll__Ha__V1__GuestView);
    atoll__ha__v1__guest_view__init(guest);
    if (!guest_path(path, viewing->arena, guest) || has_line(file, "template"))
        return;
    const char *sid = atl_arena_format(viewing->arena, "%s:%" PRIu32, guest->type, guest->vmid);
    const char *service = atl_arena_format(viewing->arena, ATL_HA_SERVICE "%s", sid);
    guest->revision = revision(viewing, path);
    guest->has_cpus = guest->has_memory = guest->has_bound = guest->has_locked = true;
    guest->cpus = said(file, "cores", 1) * said(file, "sockets", 1);
    guest->memory = (uint64_t)said(file, "memory", 512) << 20;
    guest->bound = starts_with_any(file, bound);
    guest->locked = has_line(file, "lock");
    guest->resource = find_resource(viewing, sid);
    guest->service =
        (Atoll__Ha__V1__Service *)crm_state(viewing->crm, &atl_msg_ha_v1_Service, service, viewing->arena);
    guest->service_revision = revision(viewing, service);
    view->guest =
        atl_arena_grow(viewing->arena, view->guest, view->n_guest, &viewing->guest_room, sizeof(void *));
    view->guest[view->n_guest++] = guest;
}

static int by_id(const void *a, const void *b)
{
    uint32_t one = (*(Atoll__Ha__V1__GuestView *const *)a)->vmid;
    uint32_t other = (*(Atoll__Ha__V1__GuestView *const *)b)->vmid;
    return one < other ? -1 : one > other;
}

static Atoll__Ha__V1__GuestView *find_guest(const Atoll__Ha__V1__ManagerView *view, uint32_t vmid)
{
    Atoll__Ha__V1__GuestView key = {.vmid = vmid};
    const Atoll__Ha__V1__GuestView *wanted = &key;
    Atoll__Ha__V1__GuestView **at =
        view->n_guest > 0 ? bsearch(&wanted, view->guest, view->n_guest, sizeof(void *), by_id) : NULL;
    return at != NULL ? *at : NULL;
}

static void take_node(struct viewing *viewing, const Atoll__Cluster__V1__ResourcesRow *row)
{
    Atoll__Ha__V1__NodeView *node = NULL;
    for (size_t i = 0; i < viewing->view->n_node && node == NULL; i++)
        if (strcmp(viewing->view->node[i]->name, row->node) == 0)
            node = viewing->view->node[i];
    if (node == NULL)
        return;
    node->has_cpus = row->has_maxcpu;
    node->cpus = row->maxcpu;
    node->has_memory = row->has_maxmem;
    node->memory = (uint64_t)row->maxmem;
    node->has_cpu_used = row->has_cpu && row->has_maxcpu;
    node->cpu_used = row->cpu * row->maxcpu;
    node->has_memory_used = row->has_mem;
    node->memory_used = (uint64_t)row->mem;
    node->has_pressure = row->has_pressure;
    node->pressure = row->pressure;
}

static void take_guest(struct viewing *viewing, const Atoll__Cluster__V1__ResourcesRow *row)
{
    Atoll__Ha__V1__GuestView *guest = find_guest(viewing->view, row->vmid);
    if (guest == NULL || strcmp(row->node, guest->node) != 0)
        return;
    guest->has_running = row->status != NULL;
    guest->running = row->status != NULL && strcmp(row->status, "running") == 0;
    guest->has_cpu_used = row->has_cpu;
    guest->cpu_used = row->cpu * (row->has_maxcpu ? row->maxcpu : guest->cpus);
    guest->has_memory_used = row->has_mem;
    guest->memory_used = (uint64_t)row->mem;
}

static void add_figures(struct viewing *viewing)
{
    const Atoll__Cluster__V1__ListResourcesReply *rows = viewing->crm->load.rows;
    for (size_t i = 0; rows != NULL && i < rows->n_entry; i++) {
        const Atoll__Cluster__V1__ResourcesRow *row = rows->entry[i];
        if (row->node == NULL)
            continue;
        if (row->has_vmid)
            take_guest(viewing, row);
        else if (strcmp(row->type, "node") == 0)
            take_node(viewing, row);
    }
}

/* Records whose guest is gone. */
static void add_orphan(const char *path, const struct atl_file *file, void *user)
{
    struct viewing *viewing = user;
    Atoll__Ha__V1__ManagerView *view = viewing->view;
    const char *sid = path + strlen(ATL_HA_SERVICE);
    const char *id = strchr(sid, ':');
    const Atoll__Ha__V1__GuestView *guest =
        id != NULL ? find_guest(view, (uint32_t)strtoul(id + 1, NULL, 10)) : NULL;
    Atoll__Ha__V1__Service *service =
        (Atoll__Ha__V1__Service *)atl_unpack(&atl_msg_ha_v1_Service, file->bytes, file->size, viewing->arena);
    if (guest != NULL && strncmp(sid, guest->type, 2) == 0)
        return;
    if (service == NULL)
        return;
    view->orphan =
        atl_arena_grow(viewing->arena, view->orphan, view->n_orphan, &viewing->orphan_room, sizeof(void *));
    view->orphan[view->n_orphan++] = service;
    view->orphan_sid = atl_arena_grow(viewing->arena, view->orphan_sid, view->n_orphan_sid,
                                      &viewing->orphan_sid_room, sizeof(void *));
    view->orphan_sid[view->n_orphan_sid++] = atl_arena_strdup(viewing->arena, sid);
    view->orphan_revision = atl_arena_grow(viewing->arena, view->orphan_revision, view->n_orphan_revision,
                                           &viewing->orphan_revision_room, sizeof(void *));
    view->orphan_revision[view->n_orphan_revision++] = revision(viewing, path);
}

static void add_request(const char *path, const struct atl_file *file, void *user)
{
    struct viewing *viewing = user;
    Atoll__Ha__V1__ManagerView *view = viewing->view;
    Atoll__Ha__V1__RequestView *request = atl_arena_new(viewing->arena, Atoll__Ha__V1__RequestView);
    atoll__ha__v1__request_view__init(request);
    request->id = atl_arena_strdup(viewing->arena, path + strlen(ATL_HA_REQUEST));
    request->request =
        (Atoll__Ha__V1__Request *)atl_unpack(&atl_msg_ha_v1_Request, file->bytes, file->size, viewing->arena);
    request->revision = revision(viewing, path);
    if (request->request == NULL)
        return;
    view->request = atl_arena_grow(viewing->arena, view->request, view->n_request, &viewing->request_room,
                                   sizeof(void *));
    view->request[view->n_request++] = request;
}

static void add_guests(struct viewing *viewing)
{
    Atoll__Ha__V1__ManagerView *view = viewing->view;
    atl_mirror_each(viewing->crm->mirror, "nodes/", add_guest, viewing);
    if (view->n_guest > 0)
        qsort(view->guest, view->n_guest, sizeof(void *), by_id);
    add_figures(viewing);
    atl_mirror_each(viewing->crm->mirror, ATL_HA_SERVICE, add_orphan, viewing);
    atl_mirror_each(viewing->crm->mirror, ATL_HA_REQUEST, add_request, viewing);
}

/* --- settings --- */

enum atl_code crm_read(const struct crm *crm, enum crm_file kind, struct atl_arena *arena,
                       struct crm_config *ret_config, struct atl_error *err)
{
    const struct atl_file *file = atl_mirror_get(crm->mirror, crm_file_path(kind));
    return crm_config_read(kind, file != NULL ? file->bytes : NULL, file != NULL ? file->size : 0, arena,
                           ret_config, err);
}

Atoll__Ha__V1__Settings *crm_settings(const struct crm *crm, struct atl_arena *arena)
{
    const struct atl_file *file = atl_mirror_get(crm->mirror, "datacenter.cfg");
    return atl_ha_settings(file != NULL ? file->bytes : NULL, arena);
}

/* --- all of it --- */

static void fill_manager(struct viewing *viewing)
{
    Atoll__Ha__V1__ManagerView *view = viewing->view;
    const struct crm *crm = viewing->crm;
    struct atl_arena *arena = viewing->arena;
    view->manager = (Atoll__Ha__V1__Manager *)crm_state(crm, &atl_msg_ha_v1_Manager, ATL_HA_MANAGER, arena);
    view->manager_revision = revision(viewing, ATL_HA_MANAGER);
    view->manager_beat =
        (Atoll__Ha__V1__Beat *)crm_state(crm, &atl_msg_ha_v1_Beat, ATL_HA_MANAGER_BEAT, arena);
    view->manager_beat_revision = revision(viewing, ATL_HA_MANAGER_BEAT);
    view->has_manager_unchanged_ms = view->manager != NULL;
    view->manager_unchanged_ms =
        lesser(crm_seen_age(crm, ATL_HA_MANAGER), crm_seen_age(crm, ATL_HA_MANAGER_BEAT));
    view->arm = (Atoll__Ha__V1__Arm *)crm_state(crm, &atl_msg_ha_v1_Arm, ATL_HA_ARM, arena);
    view->arm_revision = revision(viewing, ATL_HA_ARM);
    Atoll__Ha__V1__Moves *moves =
        (Atoll__Ha__V1__Moves *)crm_state(crm, &atl_msg_ha_v1_Moves, ATL_HA_MOVES, arena);
    if (moves != NULL) {
        view->recent = moves->move;
        view->n_recent = moves->n_move;
    }
}

/* What only the manager looks at. */
static void fill_guests(struct viewing *viewing)
{
    const struct crm *crm = viewing->crm;
    struct atl_arena *arena = viewing->arena;
    Atoll__Ha__V1__ManagerView *view = viewing->view;
    struct crm_config config = {0};
    struct atl_error err = {0};
    /* Without knowing the resources nothing can be decided about them. */
    if (crm_read(crm, CRM_RESOURCES, arena, &config, &err) != ATL_OK) {
        view->quorate = false;
        return;
    }
    viewing->resources = crm_resources(&config, &viewing->resource_count);
    if (viewing->resource_count > 0)
        qsort(viewing->resources, viewing->resource_count, sizeof(void *), by_sid);
    add_guests(viewing);
    if (crm_read(crm, CRM_RULES, arena, &config, &err) == ATL_OK)
        view->rule = crm_rules(&config, &view->n_rule);
    if (crm_read(crm, CRM_GROUPS, arena, &config, &err) == ATL_OK)
        view->group = crm_groups(&config, &view->n_group);
}

static void fill(struct viewing *viewing)
{
    struct atl_arena *arena = viewing->arena;
    const struct crm *crm = viewing->crm;
    Atoll__Ha__V1__ManagerView *view = atl_arena_new(arena, Atoll__Ha__V1__ManagerView);
    atoll__ha__v1__manager_view__init(view);
    viewing->view = view;
    view->self = atl_arena_strdup(arena, crm->node);
    view->incarnation = crm->incarnation;
    view->has_quorate = view->has_ending = view->has_wall = true;
    view->quorate = crm_quorate(crm);
    view->ending = crm->ending;
    view->wall = atl_clock_wall_seconds();
    view->last_state = crm->state[0] != '\0' ? atl_arena_strdup(arena, crm->state) : NULL;
    view->has_balance_idle_ms = true;
    view->balance_idle_ms = (uint64_t)((atl_clock_boot() - crm->balanced_at) / ATL_MS);
    view->settings = crm_settings(crm, arena);
    fill_manager(viewing);
    add_nodes(viewing);
}

Atoll__Ha__V1__ManagerView *crm_view(struct crm *crm, struct atl_arena *arena)
{
    struct viewing viewing = {.crm = crm, .arena = arena};
    fill(&viewing);
    const Atoll__Ha__V1__Manager *manager = viewing.view->manager;
    if (manager != NULL && manager->incarnation == crm->incarnation)
        fill_guests(&viewing);
    return viewing.view;
}

Atoll__Ha__V1__ManagerView *crm_view_as_manager(struct crm *crm, struct atl_arena *arena)
{
    struct viewing viewing = {.crm = crm, .arena = arena};
    fill(&viewing);
    Atoll__Ha__V1__ManagerView *view = viewing.view;
    fill_guests(&viewing);
    if (view->manager == NULL) {
        view->manager = atl_arena_new(arena, Atoll__Ha__V1__Manager);
        atoll__ha__v1__manager__init(view->manager);
        view->manager_revision = atl_arena_new(arena, Atoll__Bus__V1__Revision);
        atoll__bus__v1__revision__init(view->manager_revision);
    }
    view->manager->node = view->self;
    view->manager->incarnation = view->incarnation;
    return view;
}

struct finding {
    uint32_t vmid;
    struct atl_arena *arena;
    Atoll__Ha__V1__GuestView found;
};

static void match(const char *path, const struct atl_file *file, void *user)
{
    struct finding *finding = user;
    Atoll__Ha__V1__GuestView guest = ATOLL__HA__V1__GUEST_VIEW__INIT;
    (void)file;
    if (guest_path(path, finding->arena, &guest) && guest.vmid == finding->vmid)
        finding->found = guest;
}

const char *crm_guest(const struct crm *crm, uint32_t vmid, struct atl_arena *arena, const char **ret_node)
{
    struct finding finding = {.vmid = vmid, .arena = arena};
    atl_mirror_each(crm->mirror, "nodes/", match, &finding);
    *ret_node = finding.found.node;
    return finding.found.type;
}
