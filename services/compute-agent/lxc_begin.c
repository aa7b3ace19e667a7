/*
 * Preparing a start in the agent: everything that needs the tree or the storage-agent is asked here, where
 * the bus is open already; the worker then only starts. What goes wrong meanwhile is the task's to tell, as
 * clients expect it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "atoll/storage/v1/volume.atl.h"
#include "io/log.h"
#include "lxc_part.h"

struct lxc_starting {
    struct lxc_part *part;
    struct atl_request *request; /* NULL: a start with the node */
    struct atl_arena own;        /* of a start with the node */
    struct atl_arena *arena;
    struct lxc_starting *next; /* of those without a request */
    Atoll__Lxc__V1__TaskSpec spec;
    Atoll__Lxc__V1__StartSpec start;
    struct cmp_lxc_doc doc;
    struct atl_error error; /* the first thing that went wrong */
    unsigned int waiting;   /* calls in flight */
};

static void forget(struct lxc_starting *starting)
{
    struct lxc_starting **place = &starting->part->starting;
    while (*place != starting)
        place = &(*place)->next;
    *place = starting->next;
    atl_arena_done(&starting->own);
    free(starting);
}

void lxc_begin_close(struct lxc_part *part)
{
    while (part->starting != NULL)
        forget(part->starting);
}

bool lxc_begins(const struct lxc_part *part, uint32_t vmid)
{
    const struct lxc_starting *starting = part->starting;
    while (starting != NULL && starting->spec.vmid != vmid)
        starting = starting->next;
    return starting != NULL;
}

static void hand_over(struct lxc_starting *starting)
{
    struct lxc_part *part = starting->part;
    char id[16];
    (void)snprintf(id, sizeof id, "%" PRIu32, starting->spec.vmid);
    if (starting->error.code != ATL_OK) {
        starting->spec.error = atl_arena_strdup(starting->arena, starting->error.text);
        starting->spec.start = NULL;
    }
    if (starting->request != NULL) {
        cmp_task_reply(part->cmp, starting->request, "vzstart", id,
                       &starting->spec.base); /* frees the arena */
        return;
    }
    struct atl_error error = {0};
    if (cmp_task_own(part->cmp, "vzstart", id, &starting->spec.base, NULL, &error) != ATL_OK)
        atl_log(ATL_ERROR, "task-failed", "cannot start container %s: %s", id, error.text);
    forget(starting);
}

static void answered(struct lxc_starting *starting)
{
    if (--starting->waiting == 0)
        hand_over(starting);
}

/* --- volumes
 * ------------------------------------------------------------------------------------------------------ */

struct finding {
    struct lxc_starting *starting;
    Atoll__Lxc__V1__Mount *mount;
};

static void found(const struct atl_reply *reply, void *user)
{
    struct finding *finding = user;
    struct lxc_starting *starting = finding->starting;
    const Atoll__Storage__V1__VolumeInfo *info = (const Atoll__Storage__V1__VolumeInfo *)reply->output;
    if (starting->error.code != ATL_OK) {
        answered(starting);
        return;
    }
    if (reply->code != ATL_OK) {
        starting->error = reply->error;
    } else if (strcmp(info->format, "raw") != 0 && strcmp(info->format, "subvol") != 0) {
        (void)atl_fail(&starting->error, ATL_E_STATE, NULL,
                       "%s: a volume of format '%s' cannot hold a container", finding->mount->slot,
                       info->format);
    } else {
        finding->mount->source = atl_arena_strdup(starting->arena, info->path);
        finding->mount->image = strcmp(info->format, "raw") == 0;
    }
    answered(starting);
}

static void find_volume(struct lxc_starting *starting, const struct cmp_lxc_mount *mount)
{
    struct atl_arena *arena = starting->arena;
    Atoll__Lxc__V1__Mount *entry = atl_arena_new(arena, Atoll__Lxc__V1__Mount);
    atoll__lxc__v1__mount__init(entry);
    entry->slot = atl_arena_strdup(arena, mount->slot);
    entry->options = mount->options != NULL ? atl_arena_strdup(arena, mount->options) : NULL;
    entry->has_ro = entry->has_image = true;
    entry->ro = mount->ro;
    entry->source = atl_arena_strdup(arena, mount->volume);
    starting->start.mount[starting->start.n_mount++] = entry;
    if (mount->bind)
        return;
    struct finding *finding = atl_arena_new(arena, struct finding);
    *finding = (struct finding){.starting = starting, .mount = entry};
    Atoll__Storage__V1__PathRequest request = ATOLL__STORAGE__V1__PATH_REQUEST__INIT;
    request.volid = entry->source;
    const struct atl_call_options options = {
        .deadline = starting->request != NULL ? atl_request_remaining(starting->request) : 0};
    starting->waiting++;
    (void)atl_bus_call(starting->part->cmp->bus, &atl_rpc_storage_v1_Volumes_Path, &request.base, &options,
                       found, finding);
}

/* --- the configuration
 * -------------------------------------------------------------------------------------------- */

static void choose_cpus(const struct lxc_part *part, const Atoll__Lxc__V1__Config *config,
                        struct atl_arena *arena, struct cmp_lxc_facts *facts)
{
    if (!config->has_cores || config->cores >= part->host.cpus)
        return;
    uint32_t *chosen = atl_arena_array(arena, uint32_t, part->host.cpus);
    uint32_t *load = atl_arena_array(arena, uint32_t, part->host.cpus);
    part->driver->cpu_load(&part->host, facts->vmid, load);
    facts->cpu_count = cmp_lxc_choose_cpus((uint32_t)config->cores, load, part->host.cpus, chosen);
    facts->cpus = chosen;
}

static void prepare(struct lxc_starting *starting)
{
    struct lxc_part *part = starting->part;
    struct atl_arena *arena = starting->arena;
    const Atoll__Lxc__V1__Config *config = starting->doc.now->config;
    const struct atl_line *raw = NULL;
    size_t raw_count = cmp_lxc_doc_raw(&starting->doc, &raw);
    struct cmp_lxc_facts facts = lxc_part_facts(part, starting->spec.vmid, arena);
    struct cmp_lxc_plan plan;
    starting->waiting = 1; /* ourselves: nothing is handed over before all is asked */
    choose_cpus(part, config, arena, &facts);
    if (lxc_bridges_there(config, &starting->error) == ATL_OK &&
        cmp_lxc_compile(config, raw, raw_count, &facts, arena, &plan, &starting->error) == ATL_OK) {
        ATL_BUF_AT_EXIT struct atl_buf text = {0};
        Atoll__Lxc__V1__StartSpec *start = &starting->start;
        cmp_lxc_plan_text(&plan, &text);
        starting->spec.has_config = starting->spec.has_seccomp = true;
        starting->spec.config.data = atl_arena_copy(arena, text.data, text.length);
        starting->spec.config.len = text.length;
        starting->spec.seccomp.len = strlen(plan.seccomp);
        starting->spec.seccomp.data = atl_arena_copy(arena, plan.seccomp, starting->spec.seccomp.len);
        cmp_lxc_start_fill(&part->host, starting->spec.vmid, arena, start);
        if (!plan.mounts[0].ro)
            start->setup = cmp_lxc_setup_make(config, starting->spec.vmid,
                                              cmp_lxc_read("/etc/resolv.conf", arena), arena);
        start->map = cmp_lxc_map_make(config, raw, raw_count, &facts, arena);
        cmp_lxc_links_down(config, starting->spec.vmid, arena, start);
        start->mount = atl_arena_array(arena, Atoll__Lxc__V1__Mount *, plan.mount_count);
        for (size_t i = 0; i < plan.mount_count; i++)
            if (i == 0 || !plan.mounts[i].bind) /* liblxc binds folders of the host from where they lie */
                find_volume(starting, &plan.mounts[i]);
        starting->spec.start = start;
    }
    answered(starting);
}

static void settled(const struct atl_txn_result *result, void *user)
{
    struct lxc_starting *starting = user;
    if (result->code != ATL_OK) {
        starting->error = result->error;
        starting->waiting = 1;
        answered(starting);
        return;
    }
    prepare(starting);
}

/* Changes that waited for this start take effect, in the file first. */
static void begin(struct lxc_starting *starting, const struct atl_file *file)
{
    if (lxc_part_look(starting->part, starting->spec.vmid) != NULL || !cmp_lxc_doc_settle(&starting->doc)) {
        prepare(starting);
        return;
    }
    ATL_TXN_AT_EXIT struct atl_txn txn;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    cmp_lxc_doc_write(&starting->doc, &text);
    atl_txn_init(&txn);
    atl_txn_compare(&txn, file->path, file->revision);
    atl_txn_put(&txn, file->path, text.data, text.length);
    atl_txn_send(starting->part->cmp->bus, &txn, 0, settled, starting);
}

static void init(struct lxc_starting *starting, uint32_t vmid)
{
    atoll__lxc__v1__task_spec__init(&starting->spec);
    atoll__lxc__v1__start_spec__init(&starting->start);
    starting->spec.vmid = vmid;
    starting->spec.node = atl_arena_strdup(starting->arena, starting->part->cmp->options.node);
    starting->spec.driver = atl_arena_strdup(starting->arena, starting->part->driver->name);
}

void lxc_begin(struct lxc_part *part, struct atl_request *request, const struct cmp_lxc_doc *doc,
               uint32_t vmid)
{
    struct lxc_starting *starting = atl_arena_new(atl_request_arena(request), struct lxc_starting);
    starting->part = part;
    starting->request = request;
    starting->arena = atl_request_arena(request);
    starting->doc = *doc;
    init(starting, vmid);
    if (doc->now->config->has_template_ && doc->now->config->template_) {
        (void)atl_fail(&starting->error, ATL_E_STATE, NULL, "you can't start a CT if it's a template");
        hand_over(starting);
        return;
    }
    const struct atl_file *file = cmp_config_file(part->cmp, "lxc", vmid);
    atl_assert(file != NULL); /* the document was just read from it */
    begin(starting, file);
}

void lxc_begin_own(struct lxc_part *part, uint32_t vmid)
{
    struct atl_error error = {0};
    const struct atl_file *file = cmp_config_file(part->cmp, "lxc", vmid);
    struct lxc_starting *starting = atl_new0(struct lxc_starting);
    starting->part = part;
    starting->arena = &starting->own;
    starting->next = part->starting;
    part->starting = starting;
    if (lxc_part_doc(part, vmid, starting->arena, &starting->doc, &error) != ATL_OK) {
        atl_log(ATL_WARNING, "boot-skipped", "container %" PRIu32 " is not started: %s", vmid, error.text);
        forget(starting);
        return;
    }
    init(starting, vmid);
    begin(starting, file);
}
