/* Who may put what into a container's configuration: what the expressions of the contract cannot say. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/lxc_volume.h"
#include "lxc_part.h"

static const char *const allocate_space[] = {"Datastore.AllocateSpace", NULL};

static enum atl_code need(struct lxc_part *part, struct atl_request *request, const char *path,
                          const char *const *privs, struct atl_error *err)
{
    return atl_keeper_need(part->cmp->keeper, atl_request_principal(request), path, privs, err);
}

enum atl_code lxc_may_volume(struct lxc_part *part, struct atl_request *request, uint32_t vmid,
                             const char *field, const char *volume, struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    enum cmp_lxc_volume_kind kind = cmp_lxc_volume_kind(volume);
    if (kind == CMP_LXC_VOLUME_BAD)
        return atl_fail(err, ATL_E_INVALID, field, "'%s' is no volume: give STORAGE:SIZE or a volume id",
                        volume);
    if (kind == CMP_LXC_HOST_PATH) {
        if (!cmp_is_root(request))
            return atl_fail(err, ATL_E_DENIED, field, "mount point type bind is only allowed for root@pam");
        if (!cmp_lxc_path_is_clean(volume))
            return atl_fail(err, ATL_E_INVALID, field, "'%s' is not a plain absolute path", volume);
        return ATL_OK;
    }
    if (kind == CMP_LXC_VOLUME_OLD && !cmp_lxc_volume_owned(volume, vmid) && !cmp_is_root(request))
        return atl_fail(err, ATL_E_DENIED, field, "volume '%s' does not belong to CT %" PRIu32, volume, vmid);
    const char *store = cmp_lxc_volume_store(volume, arena);
    return need(part, request, atl_arena_format(arena, "/storage/%s", store), allocate_space, err);
}

static enum atl_code may_features(struct atl_request *request, const Atoll__Lxc__V1__Features *features,
                                  bool unprivileged, struct atl_error *err)
{
    bool others = features->force_rw_sys || features->fuse || features->keyctl || features->mount != NULL;
    if (features->mknod)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, "features",
                        "mknod: making devices inside an unprivileged container is not built");
    if (cmp_is_root(request) || (!others && unprivileged))
        return ATL_OK;
    if (others)
        return atl_fail(err, ATL_E_DENIED, "features",
                        "changing feature flags (except nesting) is only allowed for root@pam");
    return features->nesting
               ? atl_fail(err, ATL_E_DENIED, "features",
                          "changing feature flags for privileged container is only allowed for root@pam")
               : ATL_OK;
}

/* The bridge need not be there yet: a start looks. */
static enum atl_code may_net(struct lxc_part *part, struct atl_request *request,
                             const Atoll__Lxc__V1__Net *net, struct atl_error *err)
{
    if (net == NULL || net->bridge == NULL)
        return ATL_OK;
    return cmp_need_bridge(part->cmp, request, net->bridge, net->has_tag ? net->tag : 0, err);
}

enum atl_code lxc_bridges_there(const Atoll__Lxc__V1__Config *config, struct atl_error *err)
{
    for (size_t i = 0; i < config->n_net; i++) {
        const Atoll__Lxc__V1__Net *net = config->net[i]->value;
        char path[64];
        char field[16];
        if (net == NULL || net->bridge == NULL || (net->has_link_down && net->link_down))
            continue;
        (void)snprintf(field, sizeof field, "net%" PRIu32, config->net[i]->index);
        (void)snprintf(path, sizeof path, "/sys/class/net/%.15s", net->bridge);
        if (strlen(net->bridge) > 15 || net->bridge[0] == '.' || strchr(net->bridge, '/') != NULL ||
            access(path, F_OK) != 0)
            return atl_fail(err, ATL_E_STATE, field, "%s: bridge '%s' does not exist", field, net->bridge);
    }
    return ATL_OK;
}

enum atl_code lxc_may_set(struct lxc_part *part, struct atl_request *request, uint32_t vmid,
                          const Atoll__Lxc__V1__Config *config, bool unprivileged, struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    enum atl_code code = ATL_OK;
    if (config->features != NULL)
        code = may_features(request, config->features, unprivileged, err);
    if (code == ATL_OK && config->rootfs != NULL && config->rootfs->volume != NULL)
        code = lxc_may_volume(part, request, vmid, "rootfs", config->rootfs->volume, err);
    for (size_t i = 0; code == ATL_OK && i < config->n_mp; i++) {
        const char *field = atl_arena_format(arena, "mp%" PRIu32, config->mp[i]->index);
        const Atoll__Lxc__V1__Mp *mp = config->mp[i]->value;
        if (mp == NULL || mp->volume == NULL)
            return atl_fail(err, ATL_E_INVALID, field, "volume: it must be given");
        code = lxc_may_volume(part, request, vmid, field, mp->volume, err);
    }
    for (size_t i = 0; code == ATL_OK && i < config->n_net; i++)
        code = may_net(part, request, config->net[i]->value, err);
    return code;
}
