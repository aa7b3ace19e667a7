/* Where a migration of a container can be cut off. */
#include "crash.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[CMP_CRASH_POINTS] = {
    [CMP_CRASH_CT_CHECKED] = "ct-checked",
    [CMP_CRASH_CT_LOCKED] = "ct-locked",
    [CMP_CRASH_CT_STOPPED] = "ct-stopped",
    [CMP_CRASH_CT_OFFERED] = "ct-offered",
    [CMP_CRASH_CT_SENDING] = "ct-sending",
    [CMP_CRASH_CT_SENT] = "ct-sent",
    [CMP_CRASH_CT_HANDED_OVER] = "ct-handed-over",
    [CMP_CRASH_CT_AWAKE] = "ct-awake",
    [CMP_CRASH_CT_FREED] = "ct-freed",
};

const char *cmp_crash_point_to_text(enum cmp_crash_point point)
{
    atl_assert(point < CMP_CRASH_POINTS);
    atl_assert(names[point] != NULL);
    return names[point];
}

void cmp_crash_at(const struct atl_task *task, enum cmp_crash_point point)
{
    char line[64] = "";
    ATL_FREE_AT_EXIT char *path = atl_format("%s/compute-agent/crash-at", atl_task_state_dir(task));
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    if (fgets(line, sizeof line, file) == NULL)
        line[0] = '\0';
    (void)fclose(file); /* it was read only */
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, cmp_crash_point_to_text(point)) != 0)
        return;
    (void)unlink(path);
    (void)kill(getpid(), SIGKILL); /* it does not come back */
}
