/* The rounds of ha-crm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "atoll/store/v1/store.atl.h"
#include "core/crm.h"
#include "ha/place.h"
#include "ha/times.h"
#include "io/log.h"
#include "shell.h"

enum { SOON_MS = 5, TXN_DEADLINE_MS = 5000 };

static void round_begin(struct crm *crm);

/* --- sending what was planned --- */

static void send_next(struct crm *crm);

static void sent(const struct atl_reply *reply, void *user)
{
    struct crm *crm = user;
    struct crm_sending *sending = &crm->sending;
    sending->busy = false;
    if (reply->code == ATL_OK) {
        sending->revision = reply->revision;
        send_next(crm);
        return;
    }
    if (reply->code != ATL_E_CONFLICT) /* a conflict is daily work: the next round sees why */
        atl_log(ATL_WARNING, "plan-not-written", "a decision was not written: %s", reply->error.text);
    sending->plan = NULL;
}

static void send_next(struct crm *crm)
{
    struct crm_sending *sending = &crm->sending;
    const struct atl_call_options options = {.deadline = TXN_DEADLINE_MS * ATL_MS};
    if (sending->plan == NULL)
        return;
    if (sending->next == sending->plan->n_txn) {
        crm_move_plain(crm, sending->plan);
        sending->plan = NULL;
        return;
    }
    sending->busy = true;
    (void)atl_bus_call(crm->bus, atl_contract_rpc("atoll.store.v1.Store.Txn"),
                       &sending->plan->txn[sending->next++]->base, &options, sent, crm);
}

static bool behind(const struct crm *crm)
{
    struct atl_revision have = atl_mirror_revision(crm->mirror);
    struct atl_revision wanted = crm->sending.revision;
    return have.epoch < wanted.epoch || (have.epoch == wanted.epoch && have.number < wanted.number);
}

/* --- a round --- */

static uint64_t hash(uint64_t seed, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)(text != NULL ? text : ""); *at != '\0'; at++)
        seed = (seed ^ *at) * 1099511628211U;
    return seed;
}

static void say(struct crm *crm, const Atoll__Ha__V1__ManagerPlan *plan)
{
    uint64_t said = 14695981039346656037U;
    for (size_t i = 0; i < plan->n_decision; i++)
        said = hash(hash(said, plan->decision[i]->what), plan->decision[i]->why);
    if (plan->state != NULL && strcmp(plan->state, crm->state) != 0) {
        (void)atl_copy(crm->state, sizeof crm->state, plan->state);
        atl_log(ATL_NOTICE, "manager-state", "%s", crm->state);
    }
    if (said == crm->said)
        return;
    crm->said = said;
    for (size_t i = 0; i < plan->n_decision; i++)
        atl_log(ATL_NOTICE, "decided", "%s%s%s", plan->decision[i]->what,
                plan->decision[i]->why != NULL ? ": " : "",
                plan->decision[i]->why != NULL ? plan->decision[i]->why : "");
}

static void on_tick(void *user);

static void set_tick(struct crm *crm, uint32_t tick_ms)
{
    if (tick_ms == crm->tick_ms)
        return;
    crm->tick_ms = tick_ms;
    atl_timer_free(crm->tick);
    crm->tick = atl_loop_timer(crm->loop, tick_ms * ATL_MS, tick_ms * ATL_MS, on_tick, crm);
}

static void round_begin(struct crm *crm)
{
    struct crm_sending *sending = &crm->sending;
    if (sending->busy || !atl_mirror_ready(crm->mirror) || behind(crm))
        return;
    atl_arena_reset(&sending->arena);
    Atoll__Ha__V1__ManagerView *view = crm_view(crm, &sending->arena);
    Atoll__Ha__V1__ManagerPlan *plan = crm_round(view, &sending->arena);
    atl_ha_save(&crm->saver, view, NULL, plan->n_decision > 0);
    say(crm, plan);
    if (plan->n_advice > 0)
        crm->balanced_at = atl_clock_boot();
    set_tick(crm, view->settings->tick_ms);
    crm_fence_ask(crm, plan);
    sending->plan = plan;
    sending->next = 0;
    send_next(crm);
}

static void on_tick(void *user)
{
    struct crm *crm = user;
    crm_poll(crm);
    round_begin(crm);
}

static void on_soon(void *user)
{
    struct crm *crm = user;
    crm->soon = NULL;
    round_begin(crm);
}

void crm_wake(struct crm *crm)
{
    if (crm->soon == NULL)
        crm->soon = atl_loop_timer(crm->loop, SOON_MS * ATL_MS, 0, on_soon, crm);
}

/* --- what changed --- */

static void lock_changed(const char *path, const struct atl_file *file, void *user)
{
    crm_seen_note(user, path, file == NULL);
    crm_wake(user);
}

/* Beats come all the time: the tick looks at them. */
static void beat_changed(const char *path, const struct atl_file *file, void *user)
{
    crm_seen_note(user, path, file == NULL);
}

static void thing_changed(const char *path, const struct atl_file *file, void *user)
{
    (void)path;
    (void)file;
    crm_wake(user);
}

static void batch(void *user)
{
    struct crm *crm = user;
    atl_edits_moved(crm->edits);
}

static void watch(struct crm *crm)
{
    static const char *const watched[] = {"ha/",      ATL_HA_SERVICE, ATL_HA_REQUEST,  ATL_HA_NODE,
                                          ATL_HA_ARM, ATL_HA_MOVES,   "datacenter.cfg"};
    static const char *const locks[] = {ATL_HA_LOCK, ATL_HA_LRM, ATL_HA_MANAGER};
    for (size_t i = 0; i < ATL_COUNT(watched); i++)
        atl_mirror_on_change(crm->mirror, watched[i], thing_changed, crm);
    for (size_t i = 0; i < ATL_COUNT(locks); i++)
        atl_mirror_on_change(crm->mirror, locks[i], lock_changed, crm);
    atl_mirror_on_change(crm->mirror, ".state/ha/beat/", beat_changed, crm);
    atl_mirror_on_batch(crm->mirror, batch, crm);
}

/* --- the program --- */

static const char *agents_folder = "/usr/sbin";

static const struct atl_program_option program_options[] = {
    {"fence-agents", "FOLDER", "where the programs fence_* are (default /usr/sbin)", &agents_folder, NULL},
};

static enum atl_code start(struct atl_program *program, void **ret_self, struct atl_error *err)
{
    struct crm *crm = atl_new0(struct crm);
    *ret_self = crm;
    crm->program = program;
    crm->node = program->node;
    crm->loop = program->loop;
    crm->bus = program->bus;
    crm->folder = atl_format("%s/ha-crm", program->state_dir);
    crm->balanced_at = atl_clock_boot();
    crm->saver.folder = crm->folder;
    crm->agents = agents_folder;
    if (getrandom(&crm->incarnation, sizeof crm->incarnation, 0) != (ssize_t)sizeof crm->incarnation)
        return atl_fail(err, ATL_E_IO, NULL, "the kernel gives no random bytes");
    crm->mirror =
        atl_mirror_open(crm->bus, (const char *const[]){ATL_KEEPER_PREFIXES, "ha/", ATL_HA_PRIVATE,
                                                        ATL_HA_STATE, "nodes/", "datacenter.cfg", NULL});
    crm->keeper = atl_keeper_new(crm->bus, crm->mirror);
    crm->edits = atl_edits_new(crm->bus, crm->mirror);
    crm->cluster = atl_cluster_open(&(const struct atl_cluster_options){
        .bus = crm->bus, .mirror = crm->mirror, .directory = program->directory, .dir = crm->folder});
    watch(crm);
    crm_serve(crm);
    crm_poll(crm);
    set_tick(crm, ATL_HA_TICK_MS);
    return ATL_OK;
}

/* A manager that ends in order says so, for the next one to begin at once. */
static void resign(struct crm *crm)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const struct atl_call_options options = {.deadline = ATL_SECOND};
    crm->ending = true;
    if (!atl_mirror_ready(crm->mirror))
        return;
    Atoll__Ha__V1__ManagerPlan *plan = crm_round(crm_view(crm, &arena), &arena);
    for (size_t i = 0; i < plan->n_txn; i++) {
        const ProtobufCMessage *reply = NULL;
        struct atl_error err = {0};
        if (atl_bus_call_wait(crm->bus, atl_contract_rpc("atoll.store.v1.Store.Txn"), &plan->txn[i]->base,
                              &options, &arena, &reply, &err) != ATL_OK)
            return;
    }
}

static void stop(void *self)
{
    struct crm *crm = self;
    if (crm == NULL)
        return;
    atl_timer_free(crm->tick);
    atl_timer_free(crm->soon);
    crm->tick = crm->soon = NULL;
    resign(crm);
    crm_poll_done(crm);
    crm_fence_done(crm);
    atl_edits_free(&crm->edits);
    atl_keeper_free(&crm->keeper);
    atl_cluster_close(&crm->cluster);
    if (crm->mirror != NULL)
        atl_mirror_close(&crm->mirror);
    for (size_t i = 0; i < crm->seen_count; i++)
        free(crm->seen[i].path);
    atl_arena_done(&crm->sending.arena);
    free(crm->folder);
    free(crm);
}

int main(int argc, char **argv)
{
    return atl_program_main(
        &(const struct atl_program_spec){.name = "ha-crm",
                                         .summary = "decides where guests under high availability run",
                                         .options = program_options,
                                         .option_count = ATL_COUNT(program_options),
                                         .start = start,
                                         .stop = stop},
        argc, argv);
}
