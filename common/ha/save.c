/* The last inputs of a core on disk. */
#include "ha/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "io/log.h"
#include "io/loop.h"
#include "io/task_spool.h"

#define LAST_EVERY (10 * ATL_SECOND)

/* The place after the newest one: a restart goes on in the circle. */
static unsigned int find_next(const char *folder)
{
    unsigned int newest = ATL_HA_SAVED - 1;
    struct timespec when = {0};
    for (unsigned int i = 0; i < ATL_HA_SAVED; i++) {
        ATL_FREE_AT_EXIT char *path = atl_format("%s/view-%02u.pb", folder, i);
        struct stat info;
        if (stat(path, &info) != 0)
            continue;
        if (info.st_mtim.tv_sec > when.tv_sec ||
            (info.st_mtim.tv_sec == when.tv_sec && info.st_mtim.tv_nsec > when.tv_nsec)) {
            when = info.st_mtim;
            newest = i;
        }
    }
    return (newest + 1) % ATL_HA_SAVED;
}

void atl_ha_save(struct atl_ha_saver *saver, const Atoll__Ha__V1__ManagerView *manager,
                 const Atoll__Ha__V1__LrmView *lrm, bool decided)
{
    struct timespec now = {0};
    if (!decided && saver->last != 0 && atl_clock_boot() - saver->last < LAST_EVERY)
        return;
    Atoll__Ha__V1__Saved saved = ATOLL__HA__V1__SAVED__INIT;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    saved.manager = (Atoll__Ha__V1__ManagerView *)(uintptr_t)manager;
    saved.lrm = (Atoll__Ha__V1__LrmView *)(uintptr_t)lrm;
    saved.has_wall_ms = true;
    saved.wall_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    size_t size = protobuf_c_message_get_packed_size(&saved.base);
    ATL_FREE_AT_EXIT uint8_t *bytes = atl_alloc0(size + 1);
    (void)protobuf_c_message_pack(&saved.base, bytes);
    if (!saver->known)
        saver->next = find_next(saver->folder);
    saver->known = true;
    ATL_FREE_AT_EXIT char *name =
        decided ? atl_format("view-%02u.pb", saver->next) : atl_strdup("view-last.pb");
    struct atl_error err = {0};
    bool failed = atl_spool_write(saver->folder, name, bytes, size, 0640, &err) != ATL_OK;
    if (failed && !saver->failed)
        atl_log(ATL_WARNING, "view-not-kept", "what was decided from is not kept: %s", err.text);
    saver->failed = failed;
    if (decided)
        saver->next = (saver->next + 1) % ATL_HA_SAVED;
    else
        saver->last = atl_clock_boot();
}
