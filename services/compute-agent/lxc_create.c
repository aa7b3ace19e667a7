/* Task of containers: make one from a template. */
#include <crypt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "atoll/storage/v1/volume.atl.h"
#include "core/lxc_volume.h"
#include "ha.h"
#include "io/loop.h"
#include "lxc_work.h"

enum { SALT_BYTES = 16, ROOTFS_GIB = 4, VOLUMES_MAX = 257 };

struct making {
    struct lxc_work *work;
    Atoll__Lxc__V1__Config *config;
    const Atoll__Lxc__V1__IdMap *map;
    char *made[VOLUMES_MAX]; /* ids of new volumes, to be freed when the creation fails */
    size_t made_count;
    Atoll__Lxc__V1__Mount root; /* the root volume */
};

static enum atl_code alloc(struct making *making, const char *field, const char *store, uint64_t bytes,
                           const Atoll__Storage__V1__AllocatedVolume **ret_volume, struct atl_error *err)
{
    struct lxc_work *work = making->work;
    static char purpose[] = "rootdir";
    static char raw[] = "raw";
    static char subvol[] = "subvol";
    static char ext4[] = "ext4";
    Atoll__Storage__V1__AllocRequest request = ATOLL__STORAGE__V1__ALLOC_REQUEST__INIT;
    request.storage = atl_arena_strdup(&work->arena, store);
    request.vmid = work->vmid;
    request.purpose = purpose;
    request.format = bytes > 0 ? raw : subvol;
    request.size_bytes = bytes;
    request.has_root_id = true;
    request.root_id = making->map != NULL ? making->map->first : 0;
    if (bytes > 0)
        request.filesystem = ext4;
    const ProtobufCMessage *output = NULL;
    enum atl_code code = atl_task_call(work->task, &atl_rpc_storage_v1_Volumes_Alloc, &request.base, 0,
                                       &work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__AllocatedVolume *volume = (const Atoll__Storage__V1__AllocatedVolume *)output;
    if (making->made_count >= VOLUMES_MAX)
        return atl_fail(err, ATL_E_LIMIT, field, "more than %d volumes", VOLUMES_MAX);
    making->made[making->made_count++] = volume->volid;
    atl_task_log(work->task, "made volume '%s'", volume->volid);
    *ret_volume = volume;
    return ATL_OK;
}

/* Makes the volume a value asks for, and puts its id and size in place of the wish. */
static enum atl_code make_one(struct making *making, const char *field, char **volume, char **size,
                              struct atl_error *err)
{
    struct lxc_work *work = making->work;
    const Atoll__Storage__V1__AllocatedVolume *made = NULL;
    const char *store = NULL;
    uint64_t bytes = 0;
    if (cmp_lxc_volume_kind(*volume) != CMP_LXC_VOLUME_NEW)
        return ATL_OK;
    enum atl_code code = cmp_lxc_volume_new(*volume, field, &work->arena, &store, &bytes, err);
    if (code == ATL_OK)
        code = alloc(making, field, store, bytes, &made, err);
    if (code != ATL_OK)
        return code;
    atl_assert(made != NULL);
    *volume = made->volid;
    *size = bytes > 0 ? cmp_lxc_size_text(made->size_bytes, &work->arena) : NULL;
    if (strcmp(field, "rootfs") == 0) {
        making->root.source = made->path;
        making->root.image = strcmp(made->format, "subvol") != 0;
        making->root.has_format = true;
        making->root.format = !making->root.image; /* a folder is still its maker's */
    }
    return ATL_OK;
}

static enum atl_code make_volumes(struct making *making, struct atl_error *err)
{
    struct atl_arena *arena = &making->work->arena;
    Atoll__Lxc__V1__Config *config = making->config;
    enum atl_code code = make_one(making, "rootfs", &config->rootfs->volume, &config->rootfs->size, err);
    for (size_t i = 0; code == ATL_OK && i < config->n_mp; i++) {
        const char *field = atl_arena_format(arena, "mp%" PRIu32, config->mp[i]->index);
        code = make_one(making, field, &config->mp[i]->value->volume, &config->mp[i]->value->size, err);
    }
    return code;
}

static bool free_volumes(struct making *making)
{
    bool all = true;
    for (size_t i = making->made_count; i > 0; i--) {
        Atoll__Storage__V1__FreeRequest request = ATOLL__STORAGE__V1__FREE_REQUEST__INIT;
        const ProtobufCMessage *output = NULL;
        struct atl_error error = {0};
        request.volid = making->made[i - 1];
        /* Not atl_task_call(): it must also go on after the task was asked to stop. */
        const struct atl_call_options options = {.task = atl_task_upid(making->work->task)};
        if (atl_bus_call_wait(making->work->bus, &atl_rpc_storage_v1_Volumes_Free, &request.base, &options,
                              &making->work->arena, &output, &error) != ATL_OK) {
            atl_task_warn(making->work->task, "volume '%s' could not be removed: %s", request.volid,
                          error.text);
            all = false;
        }
    }
    return all;
}

/* The password as /etc/shadow wants it. SHA-512: every system we know reads it. */
static char *password_hash(const char *password, struct atl_arena *arena, struct atl_error *err)
{
    char random[SALT_BYTES];
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    struct crypt_data *data = atl_arena_new(arena, struct crypt_data);
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random ||
        crypt_gensalt_rn("$6$", 0, random, sizeof random, setting, sizeof setting) == NULL ||
        crypt_r(password, setting, data) == NULL || data->output[0] == '*') {
        (void)atl_fail(err, ATL_E_INTERNAL, "password", "the password cannot be hashed");
        return NULL;
    }
    return atl_arena_strdup(arena, data->output);
}

static enum atl_code unpack(struct making *making, struct atl_error *err)
{
    static char slot[] = "rootfs";
    static char unknown[] = "";
    struct lxc_work *work = making->work;
    const Atoll__Lxc__V1__CreateRequest *create = work->spec->create;
    const char *resolv = cmp_lxc_read("/etc/resolv.conf", &work->arena);
    Atoll__Lxc__V1__UnpackSpec spec = ATOLL__LXC__V1__UNPACK_SPEC__INIT;
    Atoll__Lxc__V1__Mount *mounts[] = {&making->root};
    char ostype[CMP_LXC_OSTYPE] = "";
    making->root.slot = slot;
    making->root.has_image = true;
    spec.archive = work->spec->template_path;
    spec.mount = mounts;
    spec.n_mount = ATL_COUNT(mounts);
    Atoll__Lxc__V1__IdMap map = ATOLL__LXC__V1__ID_MAP__INIT;
    if (making->map != NULL) {
        map = *making->map;
        spec.map = &map;
    }
    spec.setup = cmp_lxc_setup_make(making->config, work->vmid, resolv, &work->arena);
    if (making->config->ostype == NULL)
        spec.setup->ostype = unknown;
    spec.setup->has_first = spec.setup->first = true;
    spec.setup->ssh_keys = create->ssh_public_keys;
    if (create->password != NULL) {
        spec.setup->password_hash = password_hash(create->password, &work->arena, err);
        spec.setup->has_password_day = true;
        spec.setup->password_day = (uint32_t)(atl_clock_wall_seconds() / 86400);
        if (spec.setup->password_hash == NULL)
            return ATL_E_INTERNAL;
    }
    atl_task_progress(work->task, 0.2, "unpacking the template");
    atl_task_log(work->task, "extracting archive '%s'", create->ostemplate);
    enum atl_code code = work->driver->unpack(&work->host, work->vmid, &spec, ostype, err);
    if (code == ATL_OK && making->config->ostype == NULL) {
        making->config->ostype = atl_arena_strdup(&work->arena, ostype);
        atl_task_log(work->task, "the template holds a system of type '%s'", ostype);
    }
    return code;
}

static enum atl_code make(struct making *making, struct atl_error *err)
{
    struct lxc_work *work = making->work;
    struct cmp_lxc_facts facts;
    struct cmp_lxc_plan plan;
    atoll__lxc__v1__mount__init(&making->root);
    lxc_work_facts(work, making->config, &facts);
    making->map = cmp_lxc_map_make(making->config, NULL, 0, &facts, &work->arena);
    enum atl_code code = make_volumes(making, err);
    if (code == ATL_OK && making->root.source == NULL)
        code = atl_fail(err, ATL_E_INVALID, "rootfs", "a new container needs a new root volume, as local:8");
    if (code == ATL_OK)
        code = cmp_lxc_compile(making->config, NULL, 0, &facts, &work->arena, &plan, err);
    if (code == ATL_OK && atl_task_stopped(work->task))
        code = atl_fail(err, ATL_E_CANCELLED, NULL, "interrupted by signal");
    if (code == ATL_OK)
        code = unpack(making, err);
    if (code == ATL_OK && atl_task_stopped(work->task))
        code = atl_fail(err, ATL_E_CANCELLED, NULL, "interrupted by signal");
    if (code != ATL_OK)
        return code;
    work->doc.now->config = making->config;
    cmp_lxc_doc_set_lock(&work->doc, NULL);
    return lxc_work_write(work, err);
}

enum atl_code lxc_task_create(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    LXC_WORK_AT_EXIT struct lxc_work work = {.lock_fd = -1};
    enum atl_code code = lxc_work_init(&work, task, spec, size, err);
    if (code == ATL_OK)
        code = lxc_work_read(&work, err);
    if (code != ATL_OK)
        return code;
    const char *lock = cmp_lxc_doc_lock(&work.doc);
    if (lock == NULL || strcmp(lock, "create") != 0)
        return atl_fail(err, ATL_E_CONFLICT, NULL, "CT %" PRIu32 " is not the one that was to be made",
                        work.vmid);
    struct making making = {.work = &work, .config = work.spec->create->config};
    code = make(&making, err);
    work.driver->clean(&work.host, work.vmid);
    if (code != ATL_OK) {
        struct atl_error error = {0};
        /* While the file stays, the agent removes the rest later. */
        if (free_volumes(&making) && lxc_work_delete_file(&work, &error) != ATL_OK)
            atl_task_warn(task, "the file '%s' is left behind: %s", work.path, error.text);
        return code;
    }
    bool start = work.spec->create->has_start && work.spec->create->start;
    if (work.spec->create->has_ha_managed && work.spec->create->ha_managed) /* the manager has it started */
        return cmp_ha_add(task, "lxc", work.vmid, start, err);
    if (!start)
        return ATL_OK;
    /* The container is there; that it does not start is worth a warning, not its removal. */
    struct atl_error error = {0};
    if (lxc_work_start(&work, &error) != ATL_OK)
        atl_task_warn(task, "%s", error.text);
    return ATL_OK;
}
