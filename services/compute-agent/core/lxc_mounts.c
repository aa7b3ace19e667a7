/* Root volume and mount points of containers: what is mounted on the host, and what liblxc binds inside. */
#include <string.h>

#include "core/lxc_build.h"
#include "core/lxc_volume.h"

static void add_mount(struct cmp_lxc_build *build, struct cmp_lxc_mount mount)
{
    struct cmp_lxc_plan *plan = &build->plan;
    plan->mounts = atl_arena_grow(build->arena, plan->mounts, plan->mount_count, &build->mount_capacity,
                                  sizeof(*plan->mounts));
    plan->mounts[plan->mount_count++] = mount;
}

/* fstab(5) text: blanks and backslashes as octal escapes. */
static char *escaped(struct atl_arena *arena, const char *path)
{
    struct atl_buf text = {0};
    for (; *path != '\0'; path++) {
        if (*path == ' ' || *path == '\t' || *path == '\\' || *path == '#')
            atl_buf_printf(&text, "\\%03o", (unsigned int)*path);
        else
            atl_buf_char(&text, *path);
    }
    char *copy = atl_arena_strdup(arena, text.data != NULL ? text.data : "");
    atl_buf_done(&text);
    return copy;
}

static enum atl_code check_target(struct cmp_lxc_build *build, const char *field, const char *target)
{
    if (target == NULL)
        return atl_fail(build->err, ATL_E_INVALID, field, "mp: the path inside the container must be given");
    if (!cmp_lxc_path_is_clean(target))
        return atl_fail(build->err, ATL_E_INVALID, field,
                        "mp: '%s' is not an absolute path without '.', '..' and doubled slashes", target);
    if (strcmp(target, "/") == 0)
        return atl_fail(build->err, ATL_E_INVALID, field, "mp: the root itself is the rootfs");
    for (size_t i = 0; i < build->plan.mount_count; i++)
        if (strcmp(build->plan.mounts[i].target, target) == 0)
            return atl_fail(build->err, ATL_E_INVALID, field, "mp: '%s' is taken by %s", target,
                            build->plan.mounts[i].slot);
    return ATL_OK;
}

static enum atl_code add_mp(struct cmp_lxc_build *build, uint32_t index, const Atoll__Lxc__V1__Mp *mp)
{
    const char *slot = atl_arena_format(build->arena, "mp%" PRIu32, index);
    enum atl_code code = check_target(build, slot, mp->mp);
    if (code != ATL_OK)
        return code;
    if (mp->volume == NULL)
        return atl_fail(build->err, ATL_E_INVALID, slot, "volume: it must be given");
    bool bind = cmp_lxc_volume_kind(mp->volume) == CMP_LXC_HOST_PATH;
    if (bind && !cmp_lxc_path_is_clean(mp->volume))
        return atl_fail(build->err, ATL_E_INVALID, slot, "volume: '%s' is not a plain absolute path",
                        mp->volume);
    bool ro = mp->has_ro && mp->ro;
    add_mount(build, (struct cmp_lxc_mount){.slot = slot,
                                            .volume = mp->volume,
                                            .target = mp->mp,
                                            .options = mp->mountoptions,
                                            .bind = bind,
                                            .ro = ro});
    const char *source =
        bind ? mp->volume : atl_arena_format(build->arena, "%s/%s", build->facts->run_dir, slot);
    cmp_lxc_addf(build, "lxc.mount.entry", "%s %s none %s,create=dir%s 0 0", escaped(build->arena, source),
                 escaped(build->arena, mp->mp + 1), bind ? "rbind" : "bind", ro ? ",ro" : "");
    return ATL_OK;
}

enum atl_code cmp_lxc_build_mounts(struct cmp_lxc_build *build)
{
    const Atoll__Lxc__V1__Rootfs *rootfs = build->config->rootfs;
    bool ro = rootfs->has_ro && rootfs->ro;
    add_mount(build, (struct cmp_lxc_mount){.slot = "rootfs",
                                            .volume = rootfs->volume,
                                            .target = "/",
                                            .options = rootfs->mountoptions,
                                            .bind = cmp_lxc_volume_kind(rootfs->volume) == CMP_LXC_HOST_PATH,
                                            .ro = ro});
    cmp_lxc_addf(build, "lxc.rootfs.path", "dir:%s/rootfs", build->facts->run_dir);
    if (ro)
        cmp_lxc_add(build, "lxc.rootfs.options", "ro");
    for (size_t i = 0; i < build->config->n_mp; i++) {
        const Atoll__Lxc__V1__MpSlot *slot = build->config->mp[i];
        if (slot->value == NULL)
            continue;
        enum atl_code code = add_mp(build, slot->index, slot->value);
        if (code != ATL_OK)
            return code;
    }
    return ATL_OK;
}
