/* All that the core is to see. */
#include <stdlib.h>
#include <string.h>

#include "atoll/ha/v1/ha.atl.h"
#include "atoll/ha/v1/state.atl.h"
#include "ha/place.h"
#include "ha/settings.h"
#include "pure/codec.h"
#include "shell.h"

/* MOVE_MS: how long a host that goes down waits for guests to move away. */
enum { QUORUM_STALE_MS = 2000, MOVE_MS = 180000 };

struct viewing {
    struct lrm *lrm;
    struct atl_arena *arena;
    Atoll__Ha__V1__LrmView *view;
    size_t room;
};

static ProtobufCMessage *state(const struct lrm *lrm, const struct atl_message *table, const char *path,
                               struct atl_arena *arena)
{
    const struct atl_file *file = atl_mirror_get(lrm->mirror, path);
    return file != NULL ? atl_unpack(table, file->bytes, file->size, arena) : NULL;
}

static Atoll__Bus__V1__Revision *revision(const struct atl_file *file, struct atl_arena *arena)
{
    Atoll__Bus__V1__Revision *out = atl_arena_new(arena, Atoll__Bus__V1__Revision);
    atoll__bus__v1__revision__init(out);
    out->has_epoch = out->has_number = true;
    out->epoch = file->revision.epoch;
    out->number = file->revision.number;
    return out;
}

static bool is_here(const struct viewing *viewing, const char *sid)
{
    const char *path = atl_arena_format(viewing->arena, "nodes/%s/%s/%s.conf", viewing->lrm->node,
                                        strncmp(sid, "vm:", 3) == 0 ? "qemu-server" : "lxc", sid + 3);
    return atl_mirror_get(viewing->lrm->mirror, path) != NULL;
}

static void add_guest(const struct viewing *viewing, Atoll__Ha__V1__LocalService *local)
{
    const Atoll__Ha__V1__GuestsReply *guests = viewing->lrm->guests;
    uint32_t vmid = (uint32_t)strtoul(local->sid + 3, NULL, 10);
    local->has_known = local->has_running = true;
    local->known = guests != NULL;
    for (size_t i = 0; guests != NULL && i < guests->n_guest; i++) {
        const Atoll__Ha__V1__LocalGuest *guest = guests->guest[i];
        if (guest->vmid != vmid || strncmp(local->sid, guest->type, 2) != 0)
            continue;
        local->known = guest->has_running;
        local->running = guest->running;
    }
}

static void add_job(const struct viewing *viewing, Atoll__Ha__V1__LocalService *local)
{
    const struct lrm_job *job = lrm_job_of(viewing->lrm, local->sid);
    if (job == NULL)
        return;
    if (!job->ended) {
        local->has_busy_command = true;
        local->busy_command = job->command;
        return;
    }
    local->result = atl_arena_new(viewing->arena, Atoll__Ha__V1__JobResult);
    atoll__ha__v1__job_result__init(local->result);
    local->result->sid = local->sid;
    local->result->command = job->command;
    local->result->outcome = atl_arena_strdup(viewing->arena, job->outcome);
    local->result->action = atl_arena_strdup(viewing->arena, job->action);
    local->result->error = job->error[0] != '\0' ? atl_arena_strdup(viewing->arena, job->error) : NULL;
}

static void add_service(const char *path, const struct atl_file *file, void *user)
{
    struct viewing *viewing = user;
    Atoll__Ha__V1__LrmView *view = viewing->view;
    const char *sid = path + strlen(ATL_HA_SERVICE);
    Atoll__Ha__V1__Service *service =
        (Atoll__Ha__V1__Service *)atl_unpack(&atl_msg_ha_v1_Service, file->bytes, file->size, viewing->arena);
    if (service == NULL || strlen(sid) < 4)
        return;
    bool here = is_here(viewing, sid);
    bool mine = strcmp(service->node, viewing->lrm->node) == 0 ||
                (service->target != NULL && strcmp(service->target, viewing->lrm->node) == 0);
    if (!here && !mine && lrm_job_of(viewing->lrm, sid) == NULL)
        return;
    Atoll__Ha__V1__LocalService *local = atl_arena_new(viewing->arena, Atoll__Ha__V1__LocalService);
    atoll__ha__v1__local_service__init(local);
    local->sid = atl_arena_strdup(viewing->arena, sid);
    local->service = service;
    local->revision = revision(file, viewing->arena);
    local->has_here = true;
    local->here = here;
    add_guest(viewing, local);
    add_job(viewing, local);
    view->service =
        atl_arena_grow(viewing->arena, view->service, view->n_service, &viewing->room, sizeof(void *));
    view->service[view->n_service++] = local;
}

static void add_report(const struct viewing *viewing)
{
    const struct lrm *lrm = viewing->lrm;
    Atoll__Ha__V1__LrmView *view = viewing->view;
    const char *path = atl_arena_format(viewing->arena, ATL_HA_LRM "%s", lrm->node);
    const struct atl_file *file = atl_mirror_get(lrm->mirror, path);
    if (file == NULL)
        return;
    view->report = (Atoll__Ha__V1__LrmReport *)state(lrm, &atl_msg_ha_v1_LrmReport, path, viewing->arena);
    view->report_revision = revision(file, viewing->arena);
    view->has_report_age_ms = true;
    view->report_age_ms = lrm_now_ms() - lrm->report_changed_ms;
}

static void add_watchdog(const struct viewing *viewing)
{
    const struct atl_watchdog_state *watchdog = atl_watchdog_now(viewing->lrm->watchdog);
    Atoll__Ha__V1__LrmView *view = viewing->view;
    view->has_armed = view->has_watchdog_down = true;
    view->armed = watchdog->armed;
    view->watchdog_down = !watchdog->connected;
    view->has_last_fed_ms = watchdog->last_fed_ms != 0;
    view->last_fed_ms = watchdog->last_fed_ms;
}

Atoll__Ha__V1__LrmView *lrm_view(struct lrm *lrm, struct atl_arena *arena)
{
    Atoll__Ha__V1__LrmView *view = atl_arena_new(arena, Atoll__Ha__V1__LrmView);
    struct viewing viewing = {.lrm = lrm, .arena = arena, .view = view};
    const struct atl_file *centre = atl_mirror_get(lrm->mirror, "datacenter.cfg");
    atoll__ha__v1__lrm_view__init(view);
    view->node = atl_arena_strdup(arena, lrm->node);
    view->now_ms = lrm_now_ms();
    view->incarnation = lrm->incarnation;
    view->boot = lrm->boot;
    view->order = lrm->order;
    view->has_overdue = true;
    view->overdue = lrm->ordered_ms != 0 && view->now_ms - lrm->ordered_ms >= MOVE_MS;
    view->has_quorate = view->has_wall = view->has_tick_ms = true;
    view->quorate = lrm->quorate && view->now_ms - lrm->quorate_ms < QUORUM_STALE_MS + lrm->wake_ms;
    view->wall = atl_clock_wall_seconds();
    view->settings = atl_ha_settings(centre != NULL ? centre->bytes : NULL, arena);
    view->tick_ms = view->settings->tick_ms;
    view->arm = (Atoll__Ha__V1__Arm *)state(lrm, &atl_msg_ha_v1_Arm, ATL_HA_ARM, arena);
    const Atoll__Ha__V1__NodeRecord *record = (const void *)state(
        lrm, &atl_msg_ha_v1_NodeRecord, atl_arena_format(arena, ATL_HA_NODE "%s", lrm->node), arena);
    view->has_maintenance = true;
    view->maintenance = record != NULL && record->maintenance;
    lrm_lock_view(lrm, view, arena);
    add_watchdog(&viewing);
    add_report(&viewing);
    atl_mirror_each(lrm->mirror, ATL_HA_SERVICE, add_service, &viewing);
    return view;
}
