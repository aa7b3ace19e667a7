/* Growing the file system of a container's volume. */
#include <stdio.h>
#include <string.h>

#include "drivers/lxc.h"
#include "io/loop.h"
#include "io/process.h"

enum { GROW_LIMIT_S = 3600 };

static enum atl_code run(const char *const *argv, struct atl_error *err)
{
    const struct atl_process_options options = {
        .argv = argv, .capture = 65536, .timeout = GROW_LIMIT_S * ATL_SECOND};
    return atl_process_run(&options, NULL, NULL, err);
}

/* The device that is mounted at that place in the monitor's namespace; NULL: a folder, or nothing. */
static const char *mounted_device(pid_t monitor, const char *place, struct atl_arena *arena)
{
    char path[64];
    char line[4096];
    const char *device = NULL;
    (void)snprintf(path, sizeof path, "/proc/%d/mounts", (int)monitor);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    while (fgets(line, sizeof line, file) != NULL) {
        char *rest = line;
        const char *source = strsep(&rest, " ");
        const char *target = strsep(&rest, " ");
        if (target != NULL && strcmp(target, place) == 0 && strncmp(source, "/dev/", 5) == 0)
            device = atl_arena_strdup(arena, source);
    }
    (void)fclose(file); /* only read from */
    return device;
}

enum atl_code cmp_lxc_grow_wait(const struct cmp_lxc_host *host, uint32_t vmid, const char *slot,
                                const char *path, bool running, struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_ct_run now;
    if (!running || !cmp_lxc_running(host, vmid, &now)) {
        enum atl_code code = run((const char *const[]){"e2fsck", "-f", "-p", path, NULL}, err);
        /* Its code 1 says "mended": the second look decides. */
        if (code == ATL_E_STATE)
            code = run((const char *const[]){"e2fsck", "-f", "-p", path, NULL}, err);
        return code == ATL_OK ? run((const char *const[]){"resize2fs", path, NULL}, err) : code;
    }
    const char *place = atl_arena_format(&arena, "%s/%s", cmp_lxc_folder(host, vmid, &arena), slot);
    const char *device = mounted_device(now.monitor, place, &arena);
    if (device == NULL)
        return atl_fail(err, ATL_E_STATE, "disk", "%s is no image that could grow", slot);
    const char *target = atl_arena_format(&arena, "--target=%d", now.monitor);
    enum atl_code code = ATL_OK;
    if (strncmp(device, "/dev/loop", 9) == 0)
        code = run((const char *const[]){"losetup", "-c", device, NULL}, err);
    if (code != ATL_OK)
        return code;
    return run((const char *const[]){"nsenter", target, "--mount", "resize2fs", device, NULL}, err);
}
