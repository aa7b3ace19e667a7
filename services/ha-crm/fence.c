/* Has the agents of fence devices switch nodes off, as the manager wants it, and ask how they are. */
#include <stdlib.h>
#include <string.h>

#include "atoll/ha/v1/ha.atl.h"
#include "core/fence.h"
#include "ha/place.h"
#include "io/log.h"
#include "io/process.h"
#include "shell.h"

enum { OFF_S = 45, STATUS_S = 12, OUTPUT_MAX = 64 << 10 };
enum { EXIT_ON = 0, EXIT_OFF = 2 }; /* of an agent that was asked how the node is */

struct crm_fencer {
    struct crm *crm;
    char node[64];
    struct crm_fence fence;
    struct crm_asking *asking; /* NULL: no agent runs for it */
};

/* --- asking one agent --- */

struct crm_asking {
    struct atl_process *process;
    char *password; /* so that it is in nothing that is told on */
    crm_asked_fn *fn;
    void *user;
};

const char *crm_fence_password(const struct crm *crm, const char *node, struct atl_arena *arena)
{
    const struct atl_file *file =
        atl_mirror_get(crm->mirror, atl_arena_format(arena, ATL_HA_PRIVATE "%s.pw", node));
    return file != NULL ? atl_arena_strndup(arena, file->bytes, file->size) : NULL;
}

Atoll__Ha__V1__Fencing *crm_fence_usable(const struct crm_config *config, const char *node)
{
    Atoll__Ha__V1__Fencing *device = (Atoll__Ha__V1__Fencing *)crm_config_find(config, node);
    return device != NULL && device->agent != NULL && !device->disable ? device : NULL;
}

Atoll__Ha__V1__Fencing *crm_fence_device(const struct crm *crm, const char *node, struct atl_arena *arena)
{
    struct crm_config config;
    struct atl_error err = {0};
    return crm_read(crm, CRM_FENCE, arena, &config, &err) == ATL_OK ? crm_fence_usable(&config, node) : NULL;
}

static void asking_free(struct crm_asking *asking)
{
    if (asking == NULL)
        return;
    atl_process_free(asking->process);
    if (asking->password != NULL)
        explicit_bzero(asking->password, strlen(asking->password));
    free(asking->password);
    free(asking);
}

static void ended(const struct atl_process_end *end, void *user)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct crm_asking *asking = user;
    const char *said = end->errors_size > 0 ? end->errors : end->output;
    struct crm_asked asked = {.status = end->timed_out ? -1 : end->exit_status,
                              .words = end->timed_out ? "it does not answer in time"
                                                      : crm_fence_words(said, asking->password, &arena)};
    asking->process = NULL;
    asking->fn(&asked, asking->user);
    asking_free(asking);
}

enum atl_code crm_fence_run(struct crm *crm, const Atoll__Ha__V1__Fencing *device, const char *action,
                            crm_asked_fn *fn, void *user, struct crm_asking **ret_asking,
                            struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char *password = crm_fence_password(crm, device->node, &arena);
    const char *input = crm_fence_input(action, device->options, password, &arena);
    const char *const argv[] = {atl_arena_format(&arena, "%s/%s", crm->agents, device->agent), NULL};
    struct crm_asking *asking = atl_new0(struct crm_asking);
    *asking = (struct crm_asking){
        .password = password != NULL ? atl_strdup(password) : NULL, .fn = fn, .user = user};
    const struct atl_process_options options = {.argv = argv,
                                                .input = input,
                                                .input_size = strlen(input),
                                                .capture = OUTPUT_MAX,
                                                .timeout = (strcmp(action, "off") == 0 ? OFF_S : STATUS_S) *
                                                           ATL_SECOND};
    enum atl_code code = atl_process_start(crm->loop, &options, ended, asking, &asking->process, err);
    if (code == ATL_OK)
        *ret_asking = asking;
    else
        asking_free(asking);
    return code;
}

const char *crm_fence_power(const struct crm_asked *asked)
{
    if (asked->status == EXIT_ON)
        return "on";
    return asked->status == EXIT_OFF ? "off" : "unknown";
}

/* --- for the manager --- */

static struct crm_fence_seen seen_of(const struct crm *crm, const char *node)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct crm_fence_seen seen = {0};
    const struct atl_file *lock =
        atl_mirror_get(crm->mirror, atl_arena_format(&arena, ATL_HA_LOCK "%s", node));
    const struct atl_file *beat =
        atl_mirror_get(crm->mirror, atl_arena_format(&arena, ATL_HA_BEAT "%s", node));
    if (lock != NULL) {
        seen.lock_epoch = lock->revision.epoch;
        seen.lock_number = lock->revision.number;
    }
    if (beat != NULL) {
        seen.beat_epoch = beat->revision.epoch;
        seen.beat_number = beat->revision.number;
    }
    return seen;
}

static struct crm_fencer *find(const struct crm *crm, const char *node)
{
    for (size_t i = 0; i < crm->fencer_count; i++)
        if (strcmp(crm->fencers[i]->node, node) == 0)
            return crm->fencers[i];
    return NULL;
}

static struct crm_fencer *find_or_add(struct crm *crm, const char *node)
{
    struct crm_fencer *fencer = find(crm, node);
    if (fencer != NULL || crm->fencer_count == ATL_COUNT(crm->fencers))
        return fencer;
    fencer = atl_new0(struct crm_fencer);
    fencer->crm = crm;
    (void)atl_copy(fencer->node, sizeof fencer->node, node);
    crm->fencers[crm->fencer_count++] = fencer;
    return fencer;
}

static void go_on(struct crm_fencer *fencer);

static void answered(const struct crm_asked *asked, void *user)
{
    struct crm_fencer *fencer = user;
    struct crm *crm = fencer->crm;
    bool asked_off = fencer->fence.step == CRM_FENCE_OFF;
    uint32_t failures = fencer->fence.failures;
    fencer->asking = NULL;
    struct crm_fence_seen seen = seen_of(crm, fencer->node);
    if (asked_off && asked->status != 0)
        atl_log(ATL_WARNING, "fence-agent-failed", "%s is not switched off: %s", fencer->node, asked->words);
    bool off = asked->status == (asked_off ? 0 : EXIT_OFF);
    if (crm_fence_answer(&fencer->fence, off, &seen, atl_clock_boot())) {
        atl_log(ATL_NOTICE, "fence-agent", "%s is off, its fence agent says", fencer->node);
        crm_wake(crm);
    } else if (fencer->fence.failures > failures) {
        atl_log(ATL_WARNING, "fence-agent-failed", "%s is not proved to be off, it is '%s': %s", fencer->node,
                crm_fence_power(asked), asked->words);
    }
    go_on(fencer);
}

/* Asks what is to be asked now. */
static void go_on(struct crm_fencer *fencer)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct crm *crm = fencer->crm;
    struct atl_error err = {0};
    if (fencer->asking != NULL || crm->ending)
        return;
    enum crm_fence_step step = crm_fence_next(&fencer->fence, atl_clock_boot());
    if (step == CRM_FENCE_REST)
        return;
    const Atoll__Ha__V1__Fencing *device = crm_fence_device(crm, fencer->node, &arena);
    if (device == NULL) { /* taken away meanwhile */
        fencer->fence = (struct crm_fence){0};
        return;
    }
    if (step == CRM_FENCE_OFF)
        atl_log(ATL_NOTICE, "fence-agent", "%s asks for %s to be switched off", device->agent, fencer->node);
    enum atl_code code = crm_fence_run(crm, device, step == CRM_FENCE_OFF ? "off" : "status", answered,
                                       fencer, &fencer->asking, &err);
    if (code == ATL_OK)
        return;
    /* It cannot be run at all: as an answer that proves nothing, each time after a pause. */
    struct crm_fence_seen seen = seen_of(crm, fencer->node);
    if (step == CRM_FENCE_OFF)
        atl_log(ATL_WARNING, "fence-agent-failed", "%s is not switched off: %s", fencer->node, err.text);
    (void)crm_fence_answer(&fencer->fence, false, &seen, atl_clock_boot());
}

void crm_fence_ask(struct crm *crm, const Atoll__Ha__V1__ManagerPlan *plan)
{
    for (size_t i = 0; i < plan->n_power_off; i++) {
        struct crm_fencer *fencer = find_or_add(crm, plan->power_off[i]);
        if (fencer == NULL)
            continue;
        struct crm_fence_seen seen = seen_of(crm, fencer->node);
        crm_fence_want(&fencer->fence, &seen, atl_clock_boot());
    }
    for (size_t i = 0; i < crm->fencer_count; i++)
        go_on(crm->fencers[i]);
}

bool crm_fence_is_off(const struct crm *crm, const char *node, bool member)
{
    struct crm_fencer *fencer = find(crm, node);
    if (fencer == NULL)
        return false;
    struct crm_fence_seen seen = seen_of(crm, node);
    return crm_fence_holds(&fencer->fence, member, &seen);
}

void crm_fence_done(struct crm *crm)
{
    for (size_t i = 0; i < crm->fencer_count; i++) {
        asking_free(crm->fencers[i]->asking);
        free(crm->fencers[i]);
    }
    for (size_t i = 0; i < ATL_COUNT(crm->trials); i++)
        asking_free(crm->trials[i]);
    crm->fencer_count = 0;
}
