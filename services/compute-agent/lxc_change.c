/*
 * The method that changes a container's configuration. New volumes are made first, then the file is changed
 * in one transaction, then the running container is told. What fails half-way takes its volumes back.
 */
#include <stdio.h>
#include <string.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "atoll/storage/v1/volume.atl.h"
#include "core/lxc_volume.h"
#include "io/log.h"
#include "lxc_part.h"
#include "push.h"

enum { VOLUMES_MAX = 257 };

struct changing { /* lives in the request's arena */
    struct lxc_part *part;
    struct atl_request *request;
    const Atoll__Lxc__V1__UpdateConfigRequest *in;
    uint8_t random[CMP_LXC_RANDOM];
    size_t next_mp; /* mount points before it have their volumes */
    char *made[VOLUMES_MAX];
    size_t made_count;
    struct cmp_lxc_change change;
    struct cmp_lxc_doc doc;
    struct atl_error error;
};

static void freed(const struct atl_reply *reply, void *user)
{
    (void)user;
    if (reply->code != ATL_OK)
        atl_log(ATL_WARNING, "volume-left", "a volume of a container is left behind: %s", reply->error.text);
}

static void free_volume(struct lxc_part *part, char *volume)
{
    Atoll__Storage__V1__FreeRequest request = ATOLL__STORAGE__V1__FREE_REQUEST__INIT;
    const struct atl_call_options options = {0};
    request.volid = volume;
    (void)atl_bus_call(part->cmp->bus, &atl_rpc_storage_v1_Volumes_Free, &request.base, &options, freed,
                       NULL);
}

static void give_up(struct changing *changing)
{
    for (size_t i = 0; i < changing->made_count; i++)
        free_volume(changing->part, changing->made[i]);
    atl_request_fail(changing->request, &changing->error, NULL);
}

/* The running container gets its new limits; the file holds them already, so failing here is told, not
 * undone. */
static enum atl_code tell_running(struct changing *changing)
{
    struct lxc_part *part = changing->part;
    uint32_t vmid = changing->in->vmid;
    struct atl_arena *arena = atl_request_arena(changing->request);
    const Atoll__Lxc__V1__Config *config = changing->doc.now->config;
    if (!changing->change.limits || lxc_part_look(part, vmid) == NULL)
        return ATL_OK;
    struct cmp_lxc_facts facts = lxc_part_facts(part, vmid, arena);
    uint32_t *cpus = atl_arena_array(arena, uint32_t, part->host.cpus);
    uint32_t *load = atl_arena_array(arena, uint32_t, part->host.cpus);
    uint32_t wanted = config->has_cores && config->cores < part->host.cpus ? (uint32_t)config->cores : 0;
    part->driver->cpu_load(&part->host, vmid, load);
    facts.cpu_count = cmp_lxc_choose_cpus(wanted, load, part->host.cpus, cpus);
    if (facts.cpu_count == 0) { /* no choice is needed any more: all of them */
        for (uint32_t cpu = 0; cpu < part->host.cpus; cpu++)
            cpus[cpu] = cpu;
        facts.cpu_count = part->host.cpus;
    }
    facts.cpus = cpus;
    return part->driver->limits(&part->host, vmid, config, &facts, &changing->error);
}

static void committed(const struct atl_txn_result *result, void *user)
{
    struct changing *changing = user;
    struct lxc_part *part = changing->part;
    if (result->code != ATL_OK) {
        changing->error = result->error;
        if (result->code == ATL_E_CONFLICT)
            (void)atl_fail(&changing->error, ATL_E_CONFLICT, NULL,
                           "detected modified configuration - file changed by other user? Try again.");
        give_up(changing);
        return;
    }
    for (size_t i = 0; i < changing->change.freed_count; i++)
        if (cmp_lxc_volume_owned(changing->change.freed[i], changing->in->vmid))
            free_volume(part,
                        atl_arena_strdup(atl_request_arena(changing->request), changing->change.freed[i]));
    cmp_push_soon(part->cmp->push);
    if (tell_running(changing) != ATL_OK) {
        atl_request_fail(changing->request, &changing->error, NULL);
        return;
    }
    Atoll__Task__V1__Nothing reply = ATOLL__TASK__V1__NOTHING__INIT;
    atl_request_reply(changing->request, &reply.base);
}

/* Changes a copy of the file as it is now, and checks that a container could be made of the result. */
static enum atl_code change_doc(struct changing *changing)
{
    struct atl_arena *arena = atl_request_arena(changing->request);
    struct lxc_part *part = changing->part;
    struct atl_error *err = &changing->error;
    const Atoll__Lxc__V1__UpdateConfigRequest *in = changing->in;
    struct cmp_lxc_plan plan;
    enum atl_code code = lxc_part_doc(part, in->vmid, arena, &changing->doc, err);
    if (code != ATL_OK)
        return code;
    const struct cmp_lxc_update update = {.set = in->config,
                                          .remove = in->delete_,
                                          .revert = in->revert,
                                          .digest = in->digest,
                                          .running = lxc_part_look(part, in->vmid) != NULL,
                                          .random = changing->random,
                                          .mac_prefix = lxc_part_mac_prefix(part, arena)};
    code = cmp_lxc_doc_update(&changing->doc, &update, &changing->change, err);
    if (code != ATL_OK)
        return code;
    struct cmp_lxc_facts facts = lxc_part_facts(part, in->vmid, arena);
    const struct atl_line *raw = NULL;
    size_t raw_count = cmp_lxc_doc_raw(&changing->doc, &raw);
    return cmp_lxc_compile(cmp_lxc_doc_wanted(&changing->doc), raw, raw_count, &facts, arena, &plan, err);
}

static void commit(struct changing *changing)
{
    ATL_TXN_AT_EXIT struct atl_txn txn;
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    struct lxc_part *part = changing->part;
    const struct atl_file *file = cmp_config_file(part->cmp, "lxc", changing->in->vmid);
    if (file == NULL || change_doc(changing) != ATL_OK) {
        if (file == NULL)
            (void)atl_fail(&changing->error, ATL_E_ABSENT, NULL, "CT %" PRIu32 " was removed meanwhile",
                           changing->in->vmid);
        give_up(changing);
        return;
    }
    cmp_lxc_doc_write(&changing->doc, &text);
    atl_txn_init(&txn);
    atl_txn_compare(&txn, file->path, file->revision);
    atl_txn_put(&txn, file->path, text.data, text.length);
    atl_txn_send(part->cmp->bus, &txn, atl_request_remaining(changing->request), committed, changing);
}

/* --- new volumes, one after the other
 * ------------------------------------------------------------------------------ */

static void next_volume(struct changing *changing);

static void allocated(const struct atl_reply *reply, void *user)
{
    struct changing *changing = user;
    struct atl_arena *arena = atl_request_arena(changing->request);
    Atoll__Lxc__V1__Mp *mp = changing->in->config->mp[changing->next_mp]->value;
    if (reply->code != ATL_OK) {
        changing->error = reply->error;
        give_up(changing);
        return;
    }
    const Atoll__Storage__V1__AllocatedVolume *volume =
        (const Atoll__Storage__V1__AllocatedVolume *)reply->output;
    mp->volume = atl_arena_strdup(arena, volume->volid);
    mp->size = volume->size_bytes > 0 ? cmp_lxc_size_text(volume->size_bytes, arena) : NULL;
    changing->made[changing->made_count++] = mp->volume;
    changing->next_mp++;
    next_volume(changing);
}

static void next_volume(struct changing *changing)
{
    static char purpose[] = "rootdir";
    static char raw[] = "raw";
    static char ext4[] = "ext4";
    struct atl_arena *arena = atl_request_arena(changing->request);
    const Atoll__Lxc__V1__Config *set = changing->in->config;
    while (set != NULL && changing->next_mp < set->n_mp &&
           cmp_lxc_volume_kind(set->mp[changing->next_mp]->value->volume) != CMP_LXC_VOLUME_NEW)
        changing->next_mp++;
    if (set == NULL || changing->next_mp >= set->n_mp) {
        commit(changing);
        return;
    }
    char field[16];
    const char *store = NULL;
    uint64_t bytes = 0;
    (void)snprintf(field, sizeof field, "mp%" PRIu32, set->mp[changing->next_mp]->index);
    enum atl_code code = cmp_lxc_volume_new(set->mp[changing->next_mp]->value->volume, field, arena, &store,
                                            &bytes, &changing->error);
    if (code == ATL_OK && bytes == 0)
        code = atl_fail(&changing->error, ATL_E_INVALID, field, "a mount point that is added needs a size");
    if (code != ATL_OK || changing->made_count >= VOLUMES_MAX) {
        give_up(changing);
        return;
    }
    const Atoll__Lxc__V1__Config *now = changing->doc.now->config;
    Atoll__Storage__V1__AllocRequest request = ATOLL__STORAGE__V1__ALLOC_REQUEST__INIT;
    request.storage = atl_arena_strdup(arena, store);
    request.vmid = changing->in->vmid;
    request.purpose = purpose;
    request.format = raw;
    request.filesystem = ext4;
    request.size_bytes = bytes;
    request.has_root_id = true;
    request.root_id = now->has_unprivileged && now->unprivileged ? 100000 : 0;
    const struct atl_call_options options = {.deadline = atl_request_remaining(changing->request)};
    (void)atl_bus_call(changing->part->cmp->bus, &atl_rpc_storage_v1_Volumes_Alloc, &request.base, &options,
                       allocated, changing);
}

/* The root volume stays the one it is; only its options may change. */
static enum atl_code check_rootfs(struct changing *changing)
{
    const Atoll__Lxc__V1__Config *set = changing->in->config;
    const Atoll__Lxc__V1__Config *now = changing->doc.now->config;
    if (set == NULL || set->rootfs == NULL)
        return ATL_OK;
    if (set->rootfs->volume == NULL || now->rootfs == NULL ||
        strcmp(set->rootfs->volume, now->rootfs->volume) != 0)
        return atl_fail(&changing->error, ATL_E_INVALID, "rootfs",
                        "the root volume cannot be replaced; its options can change");
    set->rootfs->size = now->rootfs->size;
    return ATL_OK;
}

void lxc_update_config(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct changing *changing = atl_arena_new(arena, struct changing);
    *changing = (struct changing){
        .part = part, .request = request, .in = (const Atoll__Lxc__V1__UpdateConfigRequest *)input};
    struct atl_error *err = &changing->error;
    enum atl_code code = lxc_part_doc(part, changing->in->vmid, arena, &changing->doc, err);
    const Atoll__Lxc__V1__Config *set = changing->in->config;
    if (code == ATL_OK && changing->in->lock != NULL)
        code = atl_fail(err, ATL_E_UNIMPLEMENTED, "lock", "locks are set by the work that needs them");
    if (code == ATL_OK && !lxc_part_random(changing->random))
        code = atl_fail(err, ATL_E_IO, NULL, "the kernel gave no random bytes");
    if (code == ATL_OK && set != NULL) {
        const Atoll__Lxc__V1__Config *now = changing->doc.now->config;
        code = lxc_may_set(part, request, changing->in->vmid, set, now->has_unprivileged && now->unprivileged,
                           err);
    }
    if (code == ATL_OK)
        code = check_rootfs(changing);
    if (code == ATL_OK)
        code = change_doc(changing); /* everything that can be said before a volume is made */
    if (code == ATL_OK)
        next_volume(changing);
    else
        give_up(changing);
}
